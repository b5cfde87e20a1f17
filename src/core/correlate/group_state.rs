//! The counts of a group. Each aggregation has one kind of counts.
//!
//! A *source* is a signature or correlation whose hits are the events of an aggregation.

use serde::{Deserialize, Serialize};

use super::context::AggregationContext;
use super::distinct_sample::{DistinctValues, events_in_window};
use super::plan::{Aggregate, Aggregation, Predicate, Rule, StateKind};
use super::sequence::{LastSeen, OrderedMatch};
use super::window_sum::WindowSum;
use crate::rules::correlation::Threshold;

/// The counts of a group. The order of the variants is part of the snapshot format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum GroupState {
    /// Distinct values of a field.
    Distinct(DistinctValues),
    /// Number of events and sum of a field, by time.
    Sum(WindowSum),
    /// Time of the latest event of each source.
    LastSeen(LastSeen),
    /// Latest sequence of events that has one event of each source, in the order of the sources.
    Ordered(OrderedMatch),
}

impl GroupState {
    /// Creates the state of a group without events.
    pub fn new(aggregation: &Aggregation) -> Self {
        match aggregation.kind {
            StateKind::Distinct => Self::Distinct(DistinctValues::Exact(Vec::new())),
            StateKind::Sum => Self::Sum(WindowSum::default()),
            StateKind::LastSeen => Self::LastSeen(LastSeen::new(aggregation.sources.len())),
            StateKind::Ordered => Self::Ordered(OrderedMatch::new(aggregation.sources.len())),
        }
    }

    /// Counts an observation. `newest` is the time of the group's latest event, this one included;
    /// `hits` are the indexes of the sources that had an event.
    pub fn record(
        &mut self,
        context: &AggregationContext<'_>,
        newest: u32,
        hits: impl DoubleEndedIterator<Item = usize>,
    ) {
        let AggregationContext { event, aggregation, values, salt } = *context;
        match self {
            Self::Distinct(distinct_values) => {
                for (_, hash) in values {
                    let salted = hash ^ salt;
                    distinct_values.record(salted, event.at, newest, &aggregation.windows);
                    if let Some(earlier_events) = event.earlier_events {
                        distinct_values.backfill(salted, earlier_events, &aggregation.windows);
                    }
                }
            }
            Self::Sum(window_sum) => record_sum(window_sum, context, newest),
            Self::LastSeen(last_seen) => hits.for_each(|source| last_seen.record(source, event.at)),
            Self::Ordered(ordered_match) => {
                let value = values.first().map(|(_, hash)| *hash);
                // The order is from the last source to the first. Otherwise, one request could be
                // several events of a sequence.
                hits.rev().for_each(|source| ordered_match.record(source, event.at, value));
            }
        }
    }

    /// Returns the number that a rule measures; `None` if the condition of the rule does not hold.
    /// The coordination of values is not checked here.
    pub fn measure(
        &self,
        context: &AggregationContext<'_>,
        rule: &Rule,
        newest: u32,
    ) -> Option<f64> {
        let window = *context.aggregation.windows.get(rule.window)?;
        let (value, is_satisfied) = match (self, &rule.predicate) {
            (Self::Distinct(distinct_values), Predicate::Thresholds { thresholds, .. }) => {
                let count = distinct_values.count(rule.window, window, newest);
                (count, Threshold::all_satisfied(thresholds, count))
            }
            (Self::Sum(window_sum), Predicate::Thresholds { aggregate, thresholds, .. }) => {
                let total = window_sum.total(newest, window);
                let value = match aggregate {
                    Aggregate::Sum => total.sum,
                    Aggregate::Mean => total.sum / total.count.max(1.0),
                    Aggregate::EventCount | Aggregate::ValueCount => total.count,
                };
                (value, total.count > 0.0 && Threshold::all_satisfied(thresholds, value))
            }
            (Self::LastSeen(last_seen), Predicate::Temporal(condition, rule_names)) => {
                let was_hit = |name: &str| {
                    let source = rule_names.iter().position(|rule_name| rule_name == name);
                    source.is_some_and(|source| last_seen.was_hit(source, newest, window))
                };
                if !condition.holds(&mut |name| was_hit(name)) {
                    return None;
                }
                (rule_names.iter().filter(|rule_name| was_hit(rule_name)).count() as f64, true)
            }
            (Self::Ordered(ordered_match), Predicate::TemporalOrdered) => (
                context.aggregation.sources.len() as f64,
                ordered_match.is_complete(newest, window),
            ),
            _ => return None,
        };
        is_satisfied.then_some(value)
    }

    /// Returns the number of distinct values in a window; `None` if the group counts no values.
    /// `window` is the index of the window, and `seconds` its length.
    pub fn distinct_count(&self, window: usize, seconds: u32, newest: u32) -> Option<f64> {
        let Self::Distinct(values) = self else { return None };
        Some(values.count(window, seconds, newest))
    }

    /// Returns the hashes of the accounts to report for a rule. If the group counts accounts, these
    /// are the accounts in the window with at least [`Rule::min_own_events`] events; `keep_links`
    /// reduces them if the rule has this minimum. Otherwise, it is the account of the event, if the
    /// event has one.
    pub fn accounts(&self, context: &AggregationContext<'_>, rule: &Rule, newest: u32) -> Vec<u64> {
        match self {
            Self::Distinct(distinct_values) if context.aggregation.field == Some(0) => {
                let values =
                    distinct_values.values_in_window(rule.window, context.window(rule), newest);
                let min_events = rule.min_own_events.unwrap_or(0.0);
                let taking_part = values.filter(|value| value.events() >= min_events);
                let (tenant, account) =
                    (context.event.principal(), context.event.observation.account());
                let to_account = |hash: u64| if hash == tenant { account } else { hash };
                let mut accounts: Vec<u64> =
                    taking_part.map(|value| to_account(value.hash ^ context.salt)).collect();
                if rule.min_own_events.is_some() {
                    keep_links(&mut accounts, account);
                }
                accounts
            }
            _ => Some(context.event.observation.account())
                .filter(|account| *account != 0)
                .into_iter()
                .collect(),
        }
    }

    /// Adds the counts of another state of the same group.
    pub fn merge(&mut self, other: &Self, aggregation: &Aggregation, newest: u32) {
        match (self, other) {
            (Self::Distinct(distinct_values), Self::Distinct(other)) => {
                distinct_values.merge(other, newest, &aggregation.windows);
            }
            (Self::Sum(window_sum), Self::Sum(other)) => {
                window_sum.merge(other, newest, aggregation.max_window());
            }
            (Self::LastSeen(last_seen), Self::LastSeen(other)) => last_seen.merge(other),
            (Self::Ordered(ordered_match), Self::Ordered(other)) => ordered_match.merge(other),
            _ => {}
        }
    }

    /// Returns a rank for eviction: about the number of accounts that share the group, at most 64;
    /// 2 if the group does not count distinct values.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Distinct(DistinctValues::One(_)) => 1,
            Self::Distinct(DistinctValues::Exact(values)) => values.len().min(32) as u8,
            Self::Distinct(DistinctValues::Sampled(_)) => 64,
            Self::Sum(_) | Self::LastSeen(_) | Self::Ordered(_) => 2,
        }
    }

    /// Returns the bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Distinct(distinct_values) => distinct_values.heap_bytes(),
            Self::Sum(window_sum) => window_sum.heap_bytes(),
            Self::LastSeen(last_seen) => last_seen.heap_bytes(),
            Self::Ordered(ordered_match) => ordered_match.heap_bytes(),
        }
    }
}

/// Reduces `accounts` to the accounts to which a firing links `own_account`: the [`MAX_LINKS`]
/// accounts with the lowest hashes, and `own_account` itself. So all accounts of a group are linked
/// to the same accounts.
fn keep_links(accounts: &mut Vec<u64>, own_account: u64) {
    accounts.sort_unstable();
    accounts.truncate(MAX_LINKS);
    if !accounts.contains(&own_account) {
        accounts.push(own_account);
    }
}

/// Maximum number of other accounts that a firing for a single account reports. A few are enough,
/// because each account of the group has a firing of its own.
const MAX_LINKS: usize = 8;

/// Adds the number of an observation, or 1 if the aggregation counts events. Adds nothing if the
/// observation does not have the number. A deferred observation counts as often as its account had
/// events within the window.
fn record_sum(window_sum: &mut WindowSum, context: &AggregationContext<'_>, newest: u32) {
    let AggregationContext { event, aggregation, .. } = *context;
    let window = aggregation.max_window();
    let number = match aggregation.field {
        None => Some(1.0),
        Some(field) => event.observation.number(field),
    };
    let Some(number) = number else { return };
    let event_count = event.earlier_events.map_or(1, |history| {
        let span = event.at.saturating_sub(history.first_seen);
        events_in_window(history.event_count, span, window)
    });
    window_sum.add(number, event_count, event.at, newest, window);
}
