//! The differences between two bundles, shown before a release.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bundle::Bundle;
use super::concept::Concept;

/// The differences between two bundles.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Diff {
    /// Names of signatures and correlations that only the second bundle has.
    pub added: Vec<String>,
    /// Names of signatures and correlations that only the first bundle has.
    pub removed: Vec<String>,
    /// Signatures, correlations and lists whose weights differ.
    pub weights: Vec<WeightChange>,
    /// Signatures and correlations that differ in anything but the weight.
    pub changed: Vec<String>,
    /// Concepts that differ. Empty in a diff from an earlier version of the Worker, which does not
    /// send this field.
    #[serde(default)]
    pub concepts: Vec<ConceptChange>,
    /// Lists that differ.
    pub lists: Vec<ListChange>,
    /// Settings of the policy that differ, and seed sets whose filters differ.
    pub policy: Vec<SettingChange>,
}

/// The weight of a rule in both bundles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightChange {
    /// Name of the signature, correlation or list.
    pub name: String,
    /// Weight in the first bundle, in decibans.
    pub from: f64,
    /// Weight in the second bundle, in decibans.
    pub to: f64,
}

/// A concept that differs, or that only one bundle has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConceptChange {
    /// Name of the concept.
    pub name: String,
    /// Number of terms that only the second bundle has.
    pub added: usize,
    /// Number of terms that only the first bundle has.
    pub removed: usize,
}

/// A list that differs, or that only one bundle has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListChange {
    /// Name of the list.
    pub name: String,
    /// Number of entries that only the second bundle has.
    pub added: usize,
    /// Number of entries that only the first bundle has.
    pub removed: usize,
}

/// The value of a setting in both bundles; `None` if a bundle does not have the setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Path of the setting: `bands.suspect`, `exemption[nightly-audit].until`. For the order of the
    /// routes, it is `route`, and the values are the conditions of the routes.
    pub path: String,
    /// Value in the first bundle.
    pub from: Option<Value>,
    /// Value in the second bundle.
    pub to: Option<Value>,
}

impl Diff {
    /// Compares two bundles.
    pub fn between(from: &Bundle, to: &Bundle) -> Self {
        let mut diff = Self::default();
        diff.compare_rules(&from.signatures, &to.signatures, |signature| {
            (&signature.name, &mut signature.weight)
        });
        diff.compare_rules(&from.correlations, &to.correlations, |correlation| {
            (&correlation.name, &mut correlation.weight)
        });
        diff.compare_concepts(from, to);
        diff.compare_lists(from, to);
        diff.compare_policy(from, to);
        diff.compare_seeds(from, to);
        diff
    }

    /// Returns whether there are no differences.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Compares signatures or correlations. `name_and_weight` returns the name and the weight of a
    /// rule.
    fn compare_rules<R: Clone + PartialEq>(
        &mut self,
        from: &[R],
        to: &[R],
        name_and_weight: fn(&mut R) -> (&str, &mut f64),
    ) {
        let mut old_rules = by_name(from, name_and_weight);
        for (name, (new_weight, mut new_rule)) in by_name(to, name_and_weight) {
            let Some((old_weight, old_rule)) = old_rules.remove(&name) else {
                self.added.push(name);
                continue;
            };
            // The weight is reported separately, so it is made equal before the comparison.
            *name_and_weight(&mut new_rule).1 = old_weight;
            if new_rule != old_rule {
                self.changed.push(name.clone());
            }
            if old_weight != new_weight {
                self.weights.push(WeightChange { name, from: old_weight, to: new_weight });
            }
        }
        self.removed.extend(old_rules.into_keys());
    }

    /// Compares concepts by name, and counts added and removed terms.
    fn compare_concepts(&mut self, from: &Bundle, to: &Bundle) {
        let names = from.concepts.iter().chain(&to.concepts).map(|concept| concept.name.as_str());
        for name in names.collect::<BTreeSet<&str>>() {
            let find = |bundle: &'_ Bundle| {
                bundle.concepts.iter().find(|concept| concept.name == name).cloned()
            };
            let (old, new) = (find(from), find(to));
            if old == new {
                continue;
            }
            let terms = |concept: Option<Concept>| -> BTreeSet<String> {
                concept.into_iter().flat_map(|concept| concept.terms).collect()
            };
            let (old, new) = (terms(old), terms(new));
            self.concepts.push(ConceptChange {
                name: name.to_owned(),
                added: new.difference(&old).count(),
                removed: old.difference(&new).count(),
            });
        }
    }

    /// Compares lists by name: reports changed weights, and counts added and removed entries.
    fn compare_lists(&mut self, from: &Bundle, to: &Bundle) {
        let names = from.lists.iter().chain(&to.lists).map(|list| list.name.as_str());
        let names: BTreeSet<&str> = names.collect();
        for name in names {
            let find_list =
                |bundle: &'_ Bundle| bundle.lists.iter().find(|list| list.name == name).cloned();
            let (old, new) = (find_list(from), find_list(to));
            if old == new {
                continue;
            }
            let entries =
                |list: Option<super::list::List>| list.map_or_else(Vec::new, |list| list.entries);
            if let (Some(old), Some(new)) = (&old, &new)
                && old.weight != new.weight
            {
                let name = name.to_owned();
                self.weights.push(WeightChange { name, from: old.weight, to: new.weight });
            }
            let serialized = |entries: Vec<super::list::ListEntry>| -> BTreeSet<String> {
                entries.iter().filter_map(|entry| serde_json::to_string(entry).ok()).collect()
            };
            let (old, new) = (serialized(entries(old)), serialized(entries(new)));
            self.lists.push(ListChange {
                name: name.to_owned(),
                added: new.difference(&old).count(),
                removed: old.difference(&new).count(),
            });
        }
    }

    /// Compares the policies setting by setting.
    fn compare_policy(&mut self, from: &Bundle, to: &Bundle) {
        let flatten_policy = |bundle: &Bundle| {
            let mut settings = BTreeMap::new();
            let policy = serde_json::to_value(&bundle.policy).unwrap_or_default();
            flatten(String::new(), policy, &mut settings);
            settings
        };
        let mut after = flatten_policy(to);
        for (path, old) in flatten_policy(from) {
            let new = after.remove(&path);
            if new.as_ref() != Some(&old) {
                self.policy.push(SettingChange { path, from: Some(old), to: new });
            }
        }
        let added = after.into_iter();
        self.policy.extend(added.map(|(path, new)| SettingChange {
            path,
            from: None,
            to: Some(new),
        }));
        self.compare_route_order(from, to);
        self.policy.sort_by(|a, b| a.path.cmp(&b.path));
    }

    /// Reports the order of the routes that both policies have, if it differs: the first route that
    /// applies counts. The paths of the settings do not show the order.
    fn compare_route_order(&mut self, from: &Bundle, to: &Bundle) {
        let labels = |bundle: &Bundle| match serde_json::to_value(&bundle.policy.routes) {
            Ok(Value::Array(routes)) => item_labels(&routes),
            _ => Vec::new(),
        };
        let (old, new) = (labels(from), labels(to));
        let common = |labels: &[String], others: &[String]| -> Value {
            let others: BTreeSet<&String> = others.iter().collect();
            labels.iter().filter(|label| others.contains(label)).cloned().collect()
        };
        let (from, to) = (Some(common(&old, &new)), Some(common(&new, &old)));
        if from != to {
            self.policy.push(SettingChange { path: "route".to_owned(), from, to });
        }
    }

    /// Compares the filters of seed sets that both bundles have. Reports a changed filter as the
    /// numbers of its prompts before and after.
    fn compare_seeds(&mut self, from: &Bundle, to: &Bundle) {
        for old in &from.seeds {
            let new = to.seeds.iter().find(|set| set.name == old.name && set.filter != old.filter);
            self.policy.extend(new.map(|new| SettingChange {
                path: format!("seeds[{}].prompts", old.name),
                from: Some(old.filter.prompts.into()),
                to: Some(new.filter.prompts.into()),
            }));
        }
    }
}

/// Returns rules by name, each with its weight.
fn by_name<R: Clone>(
    rules: &[R],
    name_and_weight: fn(&mut R) -> (&str, &mut f64),
) -> BTreeMap<String, (f64, R)> {
    let keyed_by_name = |rule: &R| {
        let mut rule = rule.clone();
        let (name, weight) = name_and_weight(&mut rule);
        let (name, weight) = (name.to_owned(), *weight);
        (name, (weight, rule))
    };
    rules.iter().map(keyed_by_name).collect()
}

/// Adds the settings in `value` to `settings`, by path. In a path, an object in an array is
/// identified by its label, so that a new entry does not change the paths of the other entries.
fn flatten(path: String, value: Value, settings: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(path, value, settings);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (label, item) in item_labels(&items).into_iter().zip(items) {
                flatten(format!("{path}[{label}]"), item, settings);
            }
        }
        Value::Array(items) if items.is_empty() => {}
        value => {
            settings.insert(path, value);
        }
    }
}

/// Returns a label for each object in an array: its name, its id or, for a route, its conditions;
/// otherwise its index. A label that an earlier object has gets a number: `/v1/** #2`.
fn item_labels(items: &[Value]) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let label = |(index, item): (usize, &Value)| {
        let label = item_label(item).unwrap_or_else(|| index.to_string());
        let count = counts.entry(label.clone()).or_default();
        *count += 1;
        if *count == 1 { label } else { format!("{label} #{count}") }
    };
    items.iter().enumerate().map(label).collect()
}

/// Returns the name or the id of an object in an array; for a route, its conditions, separated by
/// spaces. Returns `None` if the object has none of them.
fn item_label(item: &Value) -> Option<String> {
    let text = |key: &str| item.get(key)?.as_str();
    if let Some(label) = text("name").or_else(|| text("id")) {
        return Some(label.to_owned());
    }
    let conditions = ["host", "path", "method", "model", "tenant"].into_iter().filter_map(text);
    let conditions: Vec<&str> = conditions.collect();
    (!conditions.is_empty()).then(|| conditions.join(" "))
}
