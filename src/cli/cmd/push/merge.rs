//! Carries the difference between two bundles over to a third bundle.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::Bundle;
use hedgerow_core::rules::concept::Concept;
use hedgerow_core::rules::signature::Signature;
use serde_json::{Map, Value};

/// Returns `target` with the changes from `base` to `new`. The serial and the time are 0. The error
/// lists the places that `target` has changed in another way, such as
/// `policy.exemption[audit].until`.
///
/// A rule, a concept or a seed set is carried over as a whole. In the policy and in lists, each
/// setting and each entry is carried over separately, except that the routes are one setting,
/// because their order counts, and that an exemption or the settings of an account, a tenant or a
/// cluster are carried over as a whole, because one condition or setting limits the others.
pub fn carry_over(base: &Bundle, new: &Bundle, target: &Bundle) -> Result<Bundle, Vec<String>> {
    let mut conflicts = Vec::new();
    let [from, to, onto] = [base, new, target].map(to_value);
    let merged = merge("", from.as_ref(), to.as_ref(), onto.as_ref(), &mut conflicts);
    if !conflicts.is_empty() {
        return Err(conflicts);
    }
    let merged: Option<Bundle> = merged.and_then(|merged| serde_json::from_value(merged).ok());
    let merged = merged.ok_or_else(|| vec!["the format of the bundle".to_owned()])?;
    let concepts = used_concepts(&merged, [&merged, target, new]);
    Ok(Bundle { concepts, sources: merge_sources(base, new, target), ..merged })
}

/// Returns the concepts that the signatures of a bundle name, sorted by name, each from the first
/// bundle that has it. A bundle has only concepts that its signatures name. So a concept that the
/// change removes can still be in use in the target, and one that did not change can be missing.
fn used_concepts(merged: &Bundle, bundles: [&Bundle; 3]) -> Vec<Concept> {
    let names: BTreeSet<&str> =
        merged.signatures.iter().flat_map(Signature::concept_names).collect();
    let find = |name: &str| {
        let mut concepts = bundles.iter().flat_map(|bundle| &bundle.concepts);
        concepts.find(|concept| concept.name == name).cloned()
    };
    names.into_iter().filter_map(find).collect()
}

/// Returns the part of a bundle that decides.
fn to_value(bundle: &Bundle) -> Option<Value> {
    let bundle = Bundle { serial: 0, created: 0, sources: BTreeMap::new(), ..bundle.clone() };
    serde_json::to_value(bundle).ok()
}

/// Returns the digests of the source files of a merged bundle. A file that both sides have changed
/// is left out: no directory contains its merged text.
fn merge_sources(base: &Bundle, new: &Bundle, target: &Bundle) -> BTreeMap<String, String> {
    let mut sources = target.sources.clone();
    for path in base.sources.keys().chain(new.sources.keys()) {
        let [from, to, onto] = [base, new, target].map(|bundle| bundle.sources.get(path));
        if from == to || onto == to {
            continue;
        }
        match to.filter(|_| onto == from) {
            Some(digest) => drop(sources.insert(path.clone(), digest.clone())),
            None => drop(sources.remove(path)),
        }
    }
    sources
}

/// Returns `target` with the changes from `base` to `new`, at a path in the bundle. `None` is a
/// missing value. Adds the paths that cannot be merged to `conflicts`.
fn merge(
    path: &str,
    base: Option<&Value>,
    new: Option<&Value>,
    target: Option<&Value>,
    conflicts: &mut Vec<String>,
) -> Option<Value> {
    if base == new || target == new {
        return target.cloned();
    }
    if base == target {
        return new.cloned();
    }
    if let (Some(Value::Object(base)), Some(Value::Object(new)), Some(Value::Object(target))) =
        (base, new, target)
        && !is_whole(path)
    {
        return Some(Value::Object(merge_objects(path, base, new, target, conflicts)));
    }
    if let (Some(base), Some(new), Some(target)) = (labelled(base), labelled(new), labelled(target))
    {
        return Some(Value::Array(merge_arrays(path, &base, &new, &target, conflicts)));
    }
    conflicts.push(path.to_owned());
    target.cloned()
}

/// Returns whether a path is a value that is carried over as a whole.
fn is_whole(path: &str) -> bool {
    let wholes = [
        "signatures[",
        "correlations[",
        "concepts[",
        "seeds[",
        "policy.exemption[",
        "policy.account[",
        "policy.tenant[",
        "policy.cluster[",
    ];
    wholes.iter().any(|whole| path.starts_with(whole))
}

fn merge_objects(
    path: &str,
    base: &Map<String, Value>,
    new: &Map<String, Value>,
    target: &Map<String, Value>,
    conflicts: &mut Vec<String>,
) -> Map<String, Value> {
    let keys: BTreeSet<&String> = base.keys().chain(new.keys()).chain(target.keys()).collect();
    let merge_member = |key: &String| {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let merged = merge(&path, base.get(key), new.get(key), target.get(key), conflicts);
        Some((key.clone(), merged?))
    };
    keys.into_iter().filter_map(merge_member).collect()
}

/// The items of an array, each with its label.
type Items<'v> = Vec<(&'v str, &'v Value)>;

/// Returns the items of an array of objects that have different names, ids or values; empty for a
/// missing array, and `None` for any other value.
fn labelled(value: Option<&Value>) -> Option<Items<'_>> {
    let Some(value) = value else { return Some(Vec::new()) };
    let items: Option<Items<'_>> =
        value.as_array()?.iter().map(|item| Some((label_of(item)?, item))).collect();
    let distinct = |items: &Items<'_>| {
        items.iter().map(|(label, _)| *label).collect::<BTreeSet<&str>>().len() == items.len()
    };
    items.filter(distinct)
}

fn label_of(item: &Value) -> Option<&str> {
    LABELS.iter().find_map(|key| item.get(*key)).and_then(Value::as_str)
}

/// The members that identify an object in an array.
const LABELS: [&str; 3] = ["name", "id", "value"];

/// Merges arrays item by item. The items of `target` keep their order, and new items follow. The
/// outermost arrays of a bundle are sorted by name.
fn merge_arrays<'v>(
    path: &str,
    base: &Items<'v>,
    new: &Items<'v>,
    target: &Items<'v>,
    conflicts: &mut Vec<String>,
) -> Vec<Value> {
    let by_label = |items: &Items<'v>| items.iter().copied().collect::<BTreeMap<&str, &Value>>();
    let [base, new_items, target_items] = [base, new, target].map(by_label);
    let added = new.iter().filter(|(label, _)| !target_items.contains_key(label));
    let mut labels: Vec<&str> = target.iter().chain(added).map(|(label, _)| *label).collect();
    if !path.contains(['.', '[']) {
        labels.sort_unstable();
    }
    let merge_item = |label: &str| {
        let [base, new, target] =
            [&base, &new_items, &target_items].map(|items| items.get(label).copied());
        merge(&format!("{path}[{label}]"), base, new, target, conflicts)
    };
    labels.into_iter().filter_map(merge_item).collect()
}

#[cfg(test)]
mod tests {
    use hedgerow_core::rules::policy::Policy;
    use serde_json::json;

    use super::*;

    fn exemption(name: &str, until: u64) -> Value {
        json!({ "name": name, "reason": "r", "until": until, "path": "/**" })
    }

    fn bundle(policy: &Value) -> Bundle {
        let policy: Policy = serde_json::from_value(policy.clone()).unwrap();
        Bundle::new(policy, Vec::new())
    }

    #[test]
    fn changes_are_carried_over_and_conflicts_are_named() {
        let [a, b, b2, c] =
            [("a", 1), ("b", 2), ("b", 3), ("c", 4)].map(|(name, until)| exemption(name, until));
        let route = |path: &str| json!({ "path": path, "mode": "shadow" });
        let exemptions = |list: &[&Value]| json!({ "exemption": list });
        let routes = |list: &[&str]| {
            let list: Vec<Value> = list.iter().map(|path| route(path)).collect();
            json!({ "route": list })
        };
        // name, base, new, target, expected policy or conflict
        let rows: [(&str, Value, Value, Value, Result<Value, &str>); 9] = [
            ("added", json!({}), exemptions(&[&b]), exemptions(&[&a]), Ok(exemptions(&[&a, &b]))),
            ("removed", exemptions(&[&b]), json!({}), exemptions(&[&a, &b]), Ok(exemptions(&[&a]))),
            (
                "changed",
                exemptions(&[&b]),
                exemptions(&[&b2]),
                exemptions(&[&c, &b]),
                Ok(exemptions(&[&c, &b2])),
            ),
            ("already", json!({}), exemptions(&[&b]), exemptions(&[&b]), Ok(exemptions(&[&b]))),
            (
                "both added",
                json!({}),
                exemptions(&[&b]),
                exemptions(&[&b2]),
                Err("policy.exemption[b]"),
            ),
            (
                "removed and changed",
                exemptions(&[&b]),
                json!({}),
                exemptions(&[&b2]),
                Err("policy.exemption[b]"),
            ),
            (
                "two settings",
                json!({ "bands": { "suspect": 50.0 } }),
                json!({ "bands": { "suspect": 60.0 } }),
                json!({ "bands": { "suspect": 50.0, "hostile": 99.0 }, "mode": "enforce" }),
                Ok(json!({ "bands": { "suspect": 60.0, "hostile": 99.0 }, "mode": "enforce" })),
            ),
            ("routes", routes(&[]), routes(&["/a"]), routes(&["/b"]), Err("policy.route")),
            ("new routes", routes(&[]), routes(&["/a"]), json!({}), Ok(routes(&["/a"]))),
        ];
        for (name, base, new, target, expected) in rows {
            let merged = carry_over(&bundle(&base), &bundle(&new), &bundle(&target));
            match expected {
                Ok(policy) => assert_eq!(merged.unwrap().policy, bundle(&policy).policy, "{name}"),
                Err(path) => assert_eq!(merged.unwrap_err(), [path], "{name}"),
            }
        }
    }

    /// Returns a bundle with a signature for each name, which names the given concepts.
    fn bundle_with_concepts(signatures: &[(&str, &[&str])]) -> Bundle {
        let signature = |(name, concepts): &(&str, &[&str])| {
            let near = json!({ "within": "sentence", "parts": [concepts] });
            let test = json!({ "field": "hedgerow.prompt.user", "near": near });
            json!({
                "name": name, "id": name, "title": "t", "family": "synthesis",
                "status": "stable", "weight": 1.0,
                "selections": { "a": { "field": test } }, "condition": { "is": "a" },
            })
        };
        let signatures: Vec<Value> = signatures.iter().map(signature).collect();
        let signatures: Vec<Signature> = serde_json::from_value(signatures.into()).unwrap();
        let names: BTreeSet<&str> = signatures.iter().flat_map(Signature::concept_names).collect();
        let concept = |name: &&str| Concept {
            name: (*name).to_owned(),
            rare: true,
            terms: vec![format!("the {name}")],
        };
        let concepts = names.iter().map(concept).collect();
        Bundle { concepts, ..Bundle::new(Policy::default(), signatures) }
    }

    #[test]
    fn a_merged_bundle_has_the_concepts_that_its_signatures_name() {
        // name, and base, new, target and expected
        type Signatures<'s> = &'s [(&'s str, &'s [&'s str])];
        let rows: [(&str, [Signatures<'_>; 4]); 3] = [
            (
                "the change removes the last user, and the target has another",
                [
                    &[("one", &["item"]), ("two", &["make"])],
                    &[("two", &["make"])],
                    &[("one", &["item"]), ("three", &["item"]), ("two", &["make"])],
                    &[("three", &["item"]), ("two", &["make"])],
                ],
            ),
            (
                "the change adds a user, and the target has none",
                [
                    &[("one", &["item"])],
                    &[("four", &["item"]), ("one", &["item"])],
                    &[],
                    &[("four", &["item"])],
                ],
            ),
            (
                "the change removes the last user in the target",
                [
                    &[("one", &["item"]), ("two", &["item"])],
                    &[("two", &["item"])],
                    &[("one", &["item"])],
                    &[],
                ],
            ),
        ];
        for (name, bundles) in rows {
            let [base, new, target, expected] = bundles.map(bundle_with_concepts);
            let merged = carry_over(&base, &new, &target).unwrap();
            assert_eq!(merged.signatures, expected.signatures, "{name}");
            assert_eq!(merged.concepts, expected.concepts, "{name}");
        }
    }

    #[test]
    fn exemptions_and_overrides_are_carried_over_as_a_whole() {
        let account = "a".repeat(32);
        let exemption = json!({ "name": "x", "reason": "r", "until": 1, "path": "/a" });
        let principal = json!({ "id": account, "mode": "shadow" });
        let cluster = json!({ "id": "5b0f3a91", "mode": "enforce", "reason": "r" });
        // kind, value, a member that the change sets, a member that the target sets
        let rows = [
            ("exemption", &exemption, ("account", json!(account)), ("path", json!("/b"))),
            ("account", &principal, ("mode", json!("enforce")), ("until", json!(5))),
            ("tenant", &principal, ("mode", json!("enforce")), ("reason", json!("t"))),
            ("cluster", &cluster, ("until", json!(5)), ("reason", json!("t"))),
        ];
        for (kind, value, changed, other) in rows {
            let with = |(key, member): (&str, Value)| {
                let mut entry = value.clone();
                entry[key] = member;
                bundle(&json!({ kind: [entry] }))
            };
            let base = bundle(&json!({ kind: [value] }));
            let (new, target) = (with(changed), with(other));
            let label = if kind == "exemption" { "x" } else { value["id"].as_str().unwrap() };
            let conflicts = carry_over(&base, &new, &target).unwrap_err();
            assert_eq!(conflicts, [format!("policy.{kind}[{label}]")]);
            assert_eq!(carry_over(&base, &new, &base).unwrap().policy, new.policy);
        }
        // Two changes, each of which leaves a condition, do not make an exemption without any.
        let both = json!({ "name": "x", "reason": "r", "until": 1, "path": "/a", "account": "a" });
        let without = |key: &str| {
            let mut entry = both.clone();
            entry.as_object_mut().unwrap().remove(key);
            bundle(&json!({ "exemption": [entry] }))
        };
        let base = bundle(&json!({ "exemption": [both] }));
        let conflicts = carry_over(&base, &without("account"), &without("path")).unwrap_err();
        assert_eq!(conflicts, ["policy.exemption[x]"]);
    }

    #[test]
    fn a_file_that_both_sides_changed_is_no_source() {
        let with_sources = |rows: &[(&str, &str)]| {
            let sources = rows.iter().map(|(path, digest)| (path.to_string(), digest.to_string()));
            Bundle { sources: sources.collect(), ..bundle(&json!({})) }
        };
        let base = with_sources(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]);
        let new = with_sources(&[("a", "2"), ("b", "2"), ("c", "1"), ("e", "1")]);
        let target = with_sources(&[("a", "1"), ("b", "3"), ("c", "3"), ("d", "1")]);
        let merged = carry_over(&base, &new, &target).unwrap();
        assert_eq!(merged.sources, with_sources(&[("a", "2"), ("c", "3"), ("e", "1")]).sources);
    }
}
