//! Compiles correlations: correlations that need the same counts share an aggregation.

use std::collections::{BTreeSet, HashMap};

use super::deferral::plan_deferral;
use super::types::{
    Aggregate, Aggregation, EventSource, GroupBy, Plan, Predicate, RelativeMinimumPlan, Rule,
    StateKind,
};
use super::validate::{invalid_relative_minimum, unknown_rule, validate, validate_nesting};
use crate::error::Error;
use crate::field::{Field, FieldId};
use crate::keyed_hash::{HashKey, fmix64};
use crate::rules::correlation::{Correlation, Measure, RelativeMinimum, Threshold};

impl Plan {
    /// Compiles correlations. Each of their rules must be the name of a signature in `signatures`,
    /// or of another correlation that has only signatures as rules.
    ///
    /// # Errors
    ///
    /// Returns an error if a correlation names an unknown rule, exceeds a limit, or is nested too
    /// deep.
    pub fn new(correlations: Vec<Correlation>, signatures: &BTreeSet<&str>) -> Result<Self, Error> {
        let mut plan = Self::default();
        // The account is the first field, as `Observation::account` expects.
        plan.intern_field(&Field::Known(FieldId::Account));
        let correlation_indexes: HashMap<&str, usize> = correlations
            .iter()
            .enumerate()
            .map(|(index, correlation)| (correlation.name.as_str(), index))
            .collect();
        let mut direct = Vec::new();
        let mut nested = Vec::new();
        for (index, correlation) in correlations.iter().enumerate() {
            validate(correlation)?;
            let mut events = Vec::new();
            for name in &correlation.rules {
                events.push(match correlation_indexes.get(name.as_str()) {
                    Some(inner) => {
                        let inner_correlation = correlations.get(*inner);
                        validate_nesting(correlation, inner_correlation, &correlation_indexes)?;
                        EventSource::Correlation(*inner)
                    }
                    None if signatures.contains(name.as_str()) => {
                        EventSource::Signature(plan.intern_signature(name))
                    }
                    None => return Err(unknown_rule(correlation, name)),
                });
            }
            let only = match &correlation.only {
                Some(name) if !signatures.contains(name.as_str()) => {
                    return Err(unknown_rule(correlation, name));
                }
                only => only.as_ref().map(|name| plan.intern_signature(name)),
            };
            plan.own_signatures.push(own_signatures(&events));
            let is_direct = events.iter().all(|event| matches!(event, EventSource::Signature(_)));
            let aggregations = if is_direct { &mut direct } else { &mut nested };
            plan.add_rule(index, correlation, (events, only), aggregations);
        }
        plan.aggregations = direct;
        plan.aggregations.append(&mut nested);
        plan.aggregations.iter_mut().for_each(Aggregation::finalize);
        plan.resolve_relative_minimums(&correlations)?;
        plan.is_nested_event = (0..correlations.len()).map(|index| plan.is_event(index)).collect();
        plan.correlations = correlations;
        plan.build_group_bys();
        plan.indicator_fields = plan.find_indicator_fields();
        Ok(plan)
    }

    /// Returns the combinations of fields whose values are the keys of indicators. If the
    /// indicators of a correlation are for accounts, their key is the account, whatever the
    /// correlation groups by.
    fn find_indicator_fields(&self) -> Vec<Vec<u16>> {
        let mut found = Vec::new();
        for aggregation in &self.aggregations {
            for rule in &aggregation.rules {
                let correlation = self.correlations.get(rule.correlation);
                let fields = match rule.min_own_events {
                    Some(_) => vec![0],
                    None => aggregation.group_fields.clone(),
                };
                if correlation.is_some_and(|found| !found.is_intermediate())
                    && !found.contains(&fields)
                {
                    found.push(fields);
                }
            }
        }
        found
    }

    /// Returns whether a correlation is an event of any aggregation.
    fn is_event(&self, correlation: usize) -> bool {
        let mut events = self.aggregations.iter().flat_map(|aggregation| &aggregation.sources);
        events.any(|source| *source == EventSource::Correlation(correlation))
    }

    /// Returns the index of a field. Adds the field if it is new.
    fn intern_field(&mut self, field: &Field) -> u16 {
        let existing = self.fields.iter().position(|interned| interned == field);
        let index = existing.unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len().saturating_sub(1)
        });
        u16::try_from(index).unwrap_or(u16::MAX)
    }

    /// Returns the index of a signature. Adds the signature if it is new.
    fn intern_signature(&mut self, signature: &str) -> usize {
        self.signatures.iter().position(|interned| interned == signature).unwrap_or_else(|| {
            self.signatures.push(signature.to_owned());
            self.signatures.len().saturating_sub(1)
        })
    }

    /// Adds the rule of a correlation to the aggregation that has the counts for the rule. Adds
    /// this aggregation to `aggregations` if it is new. `events` are the sources of the
    /// correlation's events, and `only` is the index of the signature that each event must match,
    /// too.
    fn add_rule(
        &mut self,
        correlation_index: usize,
        correlation: &Correlation,
        (events, only): (Vec<EventSource>, Option<usize>),
        aggregations: &mut Vec<Aggregation>,
    ) {
        let group_fields: Vec<u16> =
            correlation.group_by.iter().map(|field| self.intern_field(field)).collect();
        let field = correlation.field().map(|field| self.intern_field(field));
        let (kind, predicate) = compile_measure(correlation);
        let id = aggregation_id(correlation, kind);
        let coordination_window =
            (!correlation.coordination.is_empty()).then_some(correlation.timespan);
        let is_compatible = |other: Option<u32>| {
            other.is_none() || coordination_window.is_none() || other == coordination_window
        };
        let existing = aggregations.iter().position(|aggregation| {
            aggregation.id == id && is_compatible(aggregation.coordination_window)
        });
        let index = existing.unwrap_or_else(|| {
            aggregations.push(Aggregation {
                id,
                sources: events,
                signature_bits: Vec::new(),
                only,
                group_fields,
                field,
                kind,
                windows: Vec::new(),
                coordination_window,
                rules: Vec::new(),
                deferral_bit: None,
            });
            aggregations.len().saturating_sub(1)
        });
        let Some(aggregation) = aggregations.get_mut(index) else { return };
        let window = aggregation.intern_window(correlation.timespan);
        aggregation.rules.push(Rule {
            correlation: correlation_index,
            window,
            predicate,
            min_own_events: min_own_events(correlation),
            share: None,
            variety: None,
        });
        aggregation.coordination_window = aggregation.coordination_window.or(coordination_window);
    }

    /// Sets [`Rule::share`] and [`Rule::variety`] of all rules, once all aggregations have their
    /// final order.
    fn resolve_relative_minimums(&mut self, correlations: &[Correlation]) -> Result<(), Error> {
        let mut resolved = Vec::new();
        for (index, aggregation) in self.aggregations.iter().enumerate() {
            for (rule_index, rule) in aggregation.rules.iter().enumerate() {
                let Some(correlation) = correlations.get(rule.correlation) else { continue };
                let resolve = |minimum: &Option<RelativeMinimum>, same_field| {
                    let Some(minimum) = minimum else { return Ok(None) };
                    self.plan_relative_minimum(aggregation, minimum, same_field, correlations)
                        .map(Some)
                        .ok_or_else(|| invalid_relative_minimum(correlation, &minimum.correlation))
                };
                let share = resolve(&correlation.attribution.share, true)?;
                let variety = resolve(&correlation.attribution.variety, false)?;
                resolved.push((index, rule_index, share, variety));
            }
        }
        for (index, rule_index, share, variety) in resolved {
            let aggregation = self.aggregations.get_mut(index);
            if let Some(rule) = aggregation.and_then(|found| found.rules.get_mut(rule_index)) {
                (rule.share, rule.variety) = (share, variety);
            }
        }
        Ok(())
    }

    /// Returns the plan of a relative minimum, with the aggregation of the correlation that
    /// `minimum` names. Returns `None` if this aggregation does not exist or cannot be compared
    /// with `aggregation`. Both must count distinct values for the same groups: of the same field
    /// if `same_field` is true, or else of different fields.
    fn plan_relative_minimum(
        &self,
        aggregation: &Aggregation,
        minimum: &RelativeMinimum,
        same_field: bool,
        correlations: &[Correlation],
    ) -> Option<RelativeMinimumPlan> {
        let is_base = |rule: &&Rule| {
            let correlation = correlations.get(rule.correlation);
            correlation.is_some_and(|correlation| correlation.name == minimum.correlation)
        };
        let is_comparable = |base: &Aggregation| {
            base.kind == StateKind::Distinct
                && aggregation.kind == StateKind::Distinct
                && (base.field == aggregation.field) == same_field
                && base.group_fields == aggregation.group_fields
        };
        self.aggregations.iter().enumerate().find_map(|(index, base)| {
            let rule = base.rules.iter().find(is_base).filter(|_| is_comparable(base))?;
            let (window, min_percent) = (rule.window, minimum.min_percent);
            Some(RelativeMinimumPlan { aggregation: index, window, min_percent })
        })
    }

    /// Collects the combinations of fields to group by, and decides which aggregations are
    /// deferred.
    fn build_group_bys(&mut self) {
        for (index, aggregation) in self.aggregations.iter().enumerate() {
            let fields = &aggregation.group_fields;
            let existing = self.group_bys.iter().position(|group_by| group_by.fields == *fields);
            let group_by_index = existing.unwrap_or_else(|| {
                let (fields, aggregations) = (fields.clone(), Vec::new());
                self.group_bys.push(GroupBy { fields, aggregations, deferral: None });
                self.group_bys.len().saturating_sub(1)
            });
            if let Some(group_by) = self.group_bys.get_mut(group_by_index)
                && !aggregation.has_correlation_events()
            {
                group_by.aggregations.push(index);
            }
        }
        for group_by in &mut self.group_bys {
            group_by.deferral = plan_deferral(group_by, &mut self.aggregations, &self.correlations);
        }
    }
}

impl Aggregation {
    /// Returns the index of a window. Adds the window if it is new.
    fn intern_window(&mut self, timespan: u32) -> usize {
        self.windows.iter().position(|window| *window == timespan).unwrap_or_else(|| {
            self.windows.push(timespan);
            self.windows.len().saturating_sub(1)
        })
    }

    /// Completes an aggregation after its last rule was added. Sets the bitmap of its signatures.
    /// Moves the coordination window, over which events per value are counted, to the front of the
    /// windows, and includes it in the id.
    fn finalize(&mut self) {
        for source in &self.sources {
            let EventSource::Signature(index) = source else { continue };
            let word_index = index / 64;
            let word_count = self.signature_bits.len().max(word_index.saturating_add(1));
            self.signature_bits.resize(word_count, 0);
            if let Some(word) = self.signature_bits.get_mut(word_index) {
                *word |= 1 << (index % 64);
            }
        }
        let Some(coordination_window) = self.coordination_window else { return };
        self.id = fmix64(self.id ^ u64::from(coordination_window));
        let position = self
            .windows
            .iter()
            .position(|window| *window == coordination_window)
            .unwrap_or_default();
        self.windows.swap(0, position);
        for rule in &mut self.rules {
            if rule.window == position {
                rule.window = 0;
            } else if rule.window == 0 {
                rule.window = position;
            }
        }
    }
}

/// Returns the signatures among the sources of a correlation.
fn own_signatures(events: &[EventSource]) -> Vec<u16> {
    let signature = |source: &EventSource| match source {
        EventSource::Signature(index) => u16::try_from(*index).ok(),
        EventSource::Correlation(_) => None,
    };
    events.iter().filter_map(signature).collect()
}

/// Returns the minimum number of events that an account needs to take part in a firing; `None` if
/// the indicators of the correlation are not for accounts.
fn min_own_events(correlation: &Correlation) -> Option<f64> {
    correlation.attribution.to_accounts.then(|| {
        correlation.coordination.events_per_value.map_or(1.0, |events| (events / 2.0).max(1.0))
    })
}

/// Returns the state that a correlation needs per group, and its condition on that state.
fn compile_measure(correlation: &Correlation) -> (StateKind, Predicate) {
    let thresholds_predicate = |aggregate, thresholds: &Vec<Threshold>| Predicate::Thresholds {
        aggregate,
        thresholds: thresholds.clone(),
        coordination: correlation.coordination,
    };
    match &correlation.measure {
        Measure::EventCount { thresholds } => {
            (StateKind::Sum, thresholds_predicate(Aggregate::EventCount, thresholds))
        }
        Measure::ValueCount { thresholds, .. } => {
            (StateKind::Distinct, thresholds_predicate(Aggregate::ValueCount, thresholds))
        }
        Measure::ValueSum { thresholds, .. } => {
            (StateKind::Sum, thresholds_predicate(Aggregate::Sum, thresholds))
        }
        Measure::ValueAvg { thresholds, .. } => {
            (StateKind::Sum, thresholds_predicate(Aggregate::Mean, thresholds))
        }
        Measure::Temporal { condition } => {
            (StateKind::LastSeen, Predicate::Temporal(condition.clone(), correlation.rules.clone()))
        }
        Measure::TemporalOrdered { .. } => (StateKind::Ordered, Predicate::TemporalOrdered),
    }
}

/// Returns a hash of the kind, the rules, the fields and, for most kinds, the window of an
/// aggregation. The coordination window is not included: [`Aggregation::finalize`] adds it.
fn aggregation_id(correlation: &Correlation, kind: StateKind) -> u64 {
    let kind_name = kind.name();
    let fields: Vec<String> = correlation.group_by.iter().map(Field::name).collect();
    let field = correlation.field().map(Field::name);
    let mut rule_names: Vec<&str> = correlation.rules.iter().map(String::as_str).collect();
    let timespan = match kind {
        // One state serves all windows, because it has the time at which each value was last seen.
        StateKind::Distinct => None,
        StateKind::Sum | StateKind::LastSeen | StateKind::Ordered => Some(correlation.timespan),
    };
    if matches!(kind, StateKind::Distinct | StateKind::Sum) {
        rule_names.sort_unstable();
    }
    let only = correlation.only.as_ref().map(|only| format!(" {only:?}")).unwrap_or_default();
    let text = format!("{kind_name} {rule_names:?} {fields:?} {field:?} {timespan:?}{only}");
    HashKey::default().keyed_hash("aggregation", text.as_bytes())
}
