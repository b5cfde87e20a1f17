//! Decides which aggregations are deferred: a deferred aggregation creates a group only when a
//! second account uses the key of the group.
//!
//! An aggregation can be deferred if no correlation over it can fire for a single account.

use super::types::{
    Aggregate, Aggregation, DeferralPlan, EventSource, GroupBy, Predicate, Rule, StateKind,
};
use crate::field::{Field, FieldId};
use crate::keyed_hash::HashKey;
use crate::rules::correlation::{Correlation, Measure, Threshold};
use crate::rules::signature::Condition;

/// Minimum number of deferred aggregations. With fewer, the singleton would take as much memory as
/// the groups that it replaces.
const MIN_DEFERRED_AGGREGATIONS: usize = 2;

/// Returns the deferral of a combination of fields, and sets the bits of the deferred aggregations.
/// `None` if too few aggregations can be deferred.
pub fn plan_deferral(
    group_by: &GroupBy,
    aggregations: &mut [Aggregation],
    correlations: &[Correlation],
) -> Option<DeferralPlan> {
    let mut deferral = DeferralPlan::default();
    let mut next_bit = 0_u8;
    let mut identity = String::new();
    for index in group_by.aggregations.iter().copied() {
        let Some(fed) = dependent_aggregations(index, aggregations, correlations) else { continue };
        let Some(aggregation) = aggregations.get_mut(index) else { continue };
        let mean_field = aggregation.field.filter(|_| aggregation.kind == StateKind::Sum);
        // A singleton stores the mean of one field only.
        if deferral.mean_field.is_some()
            && mean_field.is_some()
            && deferral.mean_field != mean_field
        {
            continue;
        }
        let end_bit = next_bit.saturating_add(aggregation.hit_bit_count());
        if u32::from(end_bit) > u32::BITS {
            continue;
        }
        aggregation.deferral_bit = Some(next_bit);
        next_bit = end_bit;
        deferral.mean_field = deferral.mean_field.or(mean_field);
        deferral.reset_gap = deferral.reset_gap.max(aggregation.count_window());
        deferral.retention = deferral.retention.max(aggregation.max_window());
        identity.push_str(&format!("{:x} ", aggregation.id));
        deferral.deferred_aggregations.push(index);
        deferral.dependent_aggregations.extend(fed);
    }
    if deferral.deferred_aggregations.len() < MIN_DEFERRED_AGGREGATIONS {
        for index in &deferral.deferred_aggregations {
            if let Some(aggregation) = aggregations.get_mut(*index) {
                aggregation.deferral_bit = None;
            }
        }
        return None;
    }
    deferral.dependent_aggregations.sort_unstable();
    deferral.dependent_aggregations.dedup();
    deferral.id = HashKey::default().keyed_hash("deferral", identity.as_bytes());
    Some(deferral)
}

/// Returns the indexes of the aggregations that have as an event a correlation of the aggregation
/// `index` that can hold for one account. Returns `None` if the aggregation `index` cannot be
/// deferred.
///
/// A correlation of a deferred aggregation must need two accounts to hold, with one exception: it
/// may need only one account if it only feeds other correlations, and each of these needs two
/// accounts.
fn dependent_aggregations(
    index: usize,
    aggregations: &[Aggregation],
    correlations: &[Correlation],
) -> Option<Vec<usize>> {
    let aggregation = aggregations.get(index)?;
    if !has_deferrable_state(aggregation) || aggregation.has_correlation_events() {
        return None;
    }
    let mut all_fed = Vec::new();
    for rule in &aggregation.rules {
        let correlation = correlations.get(rule.correlation)?;
        if needs_two_accounts(correlation, correlations) {
            continue;
        }
        if !correlation.is_intermediate() {
            return None;
        }
        let source = EventSource::Correlation(rule.correlation);
        for (consumer_index, consumer) in aggregations.iter().enumerate() {
            if !consumer.sources.contains(&source) {
                continue;
            }
            if !can_consume_deferred(consumer, aggregation, correlations) {
                return None;
            }
            all_fed.push(consumer_index);
        }
    }
    Some(all_fed)
}

/// Returns whether the data of a singleton is enough to create the state of a group later. A
/// singleton has the account and the mean of one number.
fn has_deferrable_state(aggregation: &Aggregation) -> bool {
    let is_mean = |rule: &Rule| {
        matches!(rule.predicate, Predicate::Thresholds { aggregate: Aggregate::Mean, .. })
    };
    match aggregation.kind {
        StateKind::Distinct => aggregation.field == Some(0),
        StateKind::Sum => aggregation.rules.iter().all(is_mean),
        StateKind::Ordered => aggregation.field.is_none_or(|field| field == 0),
        StateKind::LastSeen => false,
    }
}

/// Returns whether `consumer` can have correlations of the deferred `aggregation` as events. It
/// must have the same groups, have only correlations as events, keep the time of the latest event
/// of each source, and need two accounts.
fn can_consume_deferred(
    consumer: &Aggregation,
    aggregation: &Aggregation,
    correlations: &[Correlation],
) -> bool {
    let needs_two = |rule: &Rule| {
        let correlation = correlations.get(rule.correlation);
        correlation.is_some_and(|correlation| needs_two_accounts(correlation, correlations))
    };
    let is_correlation = |source: &EventSource| matches!(source, EventSource::Correlation(_));
    // A singleton does not store which of its events matched the signature in `only`.
    consumer.only.is_none()
        && consumer.kind == StateKind::LastSeen
        && consumer.group_fields == aggregation.group_fields
        && consumer.sources.iter().all(is_correlation)
        && consumer.rules.iter().all(needs_two)
}

/// Returns whether a correlation can hold only with events of two or more accounts.
fn needs_two_accounts(correlation: &Correlation, correlations: &[Correlation]) -> bool {
    let is_account = |field: &Field| *field == Field::Known(FieldId::Account);
    match &correlation.measure {
        Measure::ValueCount { field, thresholds } => {
            is_account(field)
                && !Threshold::all_satisfied(thresholds, 1.0)
                && !Threshold::all_satisfied(thresholds, 0.0)
        }
        Measure::EventCount { .. } | Measure::ValueSum { .. } | Measure::ValueAvg { .. } => false,
        Measure::Temporal { condition } => !may_hold(condition, &|name| {
            let inner = correlations.iter().find(|candidate| candidate.name == name);
            inner.is_none_or(|inner| !needs_two_accounts(inner, correlations))
        }),
        Measure::TemporalOrdered { distinct_by } => {
            correlation.rules.len() > 1 && distinct_by.as_ref().is_some_and(is_account)
        }
    }
}

/// Returns whether a condition may hold. `name_may_hold` returns whether a name in the condition
/// may hold.
fn may_hold(condition: &Condition, name_may_hold: &dyn Fn(&str) -> bool) -> bool {
    match condition {
        Condition::All(inner) => inner.iter().all(|inner| may_hold(inner, name_may_hold)),
        Condition::Any(inner) => inner.iter().any(|inner| may_hold(inner, name_may_hold)),
        Condition::Not(_) => true,
        Condition::Selection(name) => name_may_hold(name),
    }
}
