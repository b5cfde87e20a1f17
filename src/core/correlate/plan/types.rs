//! The types of a compiled plan.

use std::collections::BTreeSet;

use crate::correlate::event_time::ALLOWED_LATENESS;
use crate::correlate::observation::Observation;
use crate::correlate::shard::Shard;
use crate::correlate::table_key::{table_key, values_hash_from};
use crate::field::Field;
use crate::rules::correlation::{Coordination, Correlation, Threshold};
use crate::rules::signature::Condition;

/// The correlations of a ruleset, compiled. Correlations that need the same counts share them.
#[derive(Debug, Default)]
pub struct Plan {
    /// Correlations, in the order of the ruleset.
    pub(crate) correlations: Vec<Correlation>,
    /// Names of the signatures that are events, or that events must match, too
    /// ([`Aggregation::only`]).
    pub(crate) signatures: Vec<String>,
    /// Fields by which correlations group, and fields that correlations measure. The account is the
    /// first field.
    pub(crate) fields: Vec<Field>,
    /// Aggregations. Aggregations with correlations among their events are last.
    pub(crate) aggregations: Vec<Aggregation>,
    /// Combinations of fields to group by, each once.
    pub(crate) group_bys: Vec<GroupBy>,
    /// Combinations of fields whose values are the keys of indicators, each once.
    pub(crate) indicator_fields: Vec<Vec<u16>>,
    /// For each correlation, whether it is an event of another correlation.
    pub(crate) is_nested_event: Vec<bool>,
    /// For each correlation, the indexes of the signatures that are its own events, without the
    /// events of correlations among its `rules`.
    pub(crate) own_signatures: Vec<Vec<u16>>,
}

/// A combination of fields to group by, with its aggregations.
#[derive(Debug)]
pub struct GroupBy {
    /// Indexes in [`Plan::fields`], in the order of the group's values.
    pub fields: Vec<u16>,
    /// Indexes of the aggregations whose events are signatures only.
    pub aggregations: Vec<usize>,
    /// Aggregations that create a group only when a second account uses its key; `None` if no
    /// aggregation is deferred.
    pub deferral: Option<DeferralPlan>,
}

/// The aggregations of a [`GroupBy`] that are deferred: they create a group only when a second
/// account uses its key.
#[derive(Debug, Default)]
pub struct DeferralPlan {
    /// Id that is the same in every plan with these aggregations: a hash over the ids of the
    /// deferred aggregations.
    pub id: u64,
    /// Seconds for which a key is remembered after its latest event.
    pub retention: u32,
    /// Indexes of the deferred aggregations.
    pub deferred_aggregations: Vec<usize>,
    /// Indexes of the aggregations that have as an event a correlation of a deferred aggregation
    /// that can hold for one account.
    pub dependent_aggregations: Vec<usize>,
    /// Seconds without events after which an account counts as new again: the longest such time of
    /// the deferred aggregations.
    pub reset_gap: u32,
    /// Index of the field whose mean the deferred aggregations measure; `None` if they measure no
    /// mean.
    pub mean_field: Option<u16>,
}

/// A kind of count that is kept per group, and the conditions of the correlations that use it.
#[derive(Debug)]
pub struct Aggregation {
    /// Id that is the same in every plan with this aggregation: a hash over kind, sources, fields
    /// and, for most kinds, window.
    pub id: u64,
    /// Sources of the aggregation's events, in the order of the correlation's `rules`.
    pub sources: Vec<EventSource>,
    /// Bitmap of the signatures among `sources`, by their index in the plan.
    pub signature_bits: Vec<u64>,
    /// Index in the plan of a signature that each event must match, too; `None` if there is none.
    pub only: Option<usize>,
    /// Fields to group by, as indexes in [`Plan::fields`].
    pub group_fields: Vec<u16>,
    /// Index in [`Plan::fields`] of the field whose values are counted or summed, or must differ in
    /// a sequence; `None` if the aggregation reads no field.
    pub field: Option<u16>,
    /// Kind of state that is kept per group.
    pub kind: StateKind,
    /// Seconds of each time window. Events per value are counted over the first window.
    pub windows: Vec<u32>,
    /// Seconds of the window over which events per value are counted; `None` if no rule checks
    /// coordination.
    pub coordination_window: Option<u32>,
    /// Conditions on the counts, one for each correlation.
    pub rules: Vec<Rule>,
    /// Index of the first bit that the aggregation has in `SoleAccountEvents::hit_bits`; `None` if
    /// the aggregation is not deferred.
    pub deferral_bit: Option<u8>,
}

/// The kind of state that an aggregation keeps per group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateKind {
    /// The distinct values of a field.
    Distinct,
    /// The number of events, and the sum of a field.
    Sum,
    /// The time of the latest event of each source.
    LastSeen,
    /// The latest sequence of events that has one event of each source, in the order of the
    /// sources.
    Ordered,
}

/// The source of an event: a rule whose hit is the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSource {
    /// A signature that matches, as an index in [`Plan::signatures`].
    Signature(usize),
    /// A correlation that holds, as an index in [`Plan::correlations`].
    Correlation(usize),
}

/// The condition of a correlation on the counts of an aggregation.
#[derive(Debug)]
pub struct Rule {
    /// Index of the correlation in [`Plan::correlations`].
    pub correlation: usize,
    /// Index of the rule's time window in [`Aggregation::windows`].
    pub window: usize,
    /// Condition under which the correlation holds for a group.
    pub predicate: Predicate,
    /// Minimum number of events of an account that takes part, if the indicators of the correlation
    /// are for accounts; `None` if the indicators are for the key of the group.
    pub min_own_events: Option<f64>,
    /// Minimum number of values, as a share of the values that another aggregation counts for the
    /// key (`hedgerow.share_of`); `None` for no minimum.
    pub share: Option<RelativeMinimumPlan>,
    /// Minimum number of values that another aggregation counts for the key, as a share of the
    /// events (`hedgerow.variety`); `None` for no minimum.
    pub variety: Option<RelativeMinimumPlan>,
}

/// A minimum percentage that refers to the count of another aggregation for the same key.
#[derive(Clone, Copy, Debug)]
pub struct RelativeMinimumPlan {
    /// Index of the other aggregation.
    pub aggregation: usize,
    /// Index of the window in [`Aggregation::windows`] of the other aggregation.
    pub window: usize,
    /// Minimum percent.
    pub min_percent: f64,
}

/// The condition under which a correlation holds for a group.
#[derive(Debug)]
pub enum Predicate {
    /// The number `aggregate` meets all thresholds, and the values meet the limits of
    /// `coordination`.
    Thresholds { aggregate: Aggregate, thresholds: Vec<Threshold>, coordination: Coordination },
    /// A condition over the names of the rules that had an event, and the names of all rules in the
    /// order of the aggregation's sources.
    Temporal(Condition, Vec<String>),
    /// The sequence is complete.
    TemporalOrdered,
}

/// The number that a [`Predicate`] compares with thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// The number of distinct values.
    ValueCount,
    /// The number of events.
    EventCount,
    /// The sum of a field.
    Sum,
    /// The mean of a field.
    Mean,
}

impl Plan {
    /// Returns the correlations, in the order of the ruleset.
    pub fn correlations(&self) -> &[Correlation] {
        &self.correlations
    }

    /// Returns the names of the signatures that are events of a correlation, or that its events
    /// must match, too.
    pub fn signatures(&self) -> &[String] {
        &self.signatures
    }

    /// Returns the fields by which correlations group, and the fields that correlations measure.
    /// The account is the first field.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns the combinations of fields whose values are the keys of indicators, each once, as
    /// indexes in [`Plan::fields`].
    pub fn indicator_fields(&self) -> impl Iterator<Item = &[u16]> {
        self.indicator_fields.iter().map(Vec::as_slice)
    }

    /// Returns whether there are no correlations, and so nothing to count.
    pub fn is_empty(&self) -> bool {
        self.correlations.is_empty()
    }

    /// Returns the indexes of the shards, among `shard_count`, that must receive an observation:
    /// the shards with a group in which the observation is counted.
    ///
    /// Events that are correlations add no shards: the group of such an event has the same first
    /// field as the group in which it is counted, and so the same shard.
    pub fn owners(&self, observation: &Observation, shard_count: u32) -> Vec<u32> {
        let is_hit = |source: &EventSource| match source {
            EventSource::Signature(index) => {
                observation.signatures.iter().any(|signature| usize::from(*signature) == *index)
            }
            EventSource::Correlation(_) => false,
        };
        let hit_aggregations = self.aggregations.iter().filter(|aggregation| {
            aggregation.counts(observation) && aggregation.sources.iter().any(is_hit)
        });
        let first_fields: BTreeSet<u16> = hit_aggregations
            .filter_map(|aggregation| aggregation.group_fields.first().copied())
            .collect();
        let values = first_fields.into_iter().flat_map(|field| observation.values(field));
        let owners: BTreeSet<u32> =
            values.map(|(_, hash)| Shard::owner(*hash, shard_count)).collect();
        owners.into_iter().collect()
    }

    /// Returns the smallest number of accounts, or other values, at which a correlation of an
    /// aggregation can hold; [`u32::MAX`] if no correlation counts distinct values.
    pub(crate) fn values_needed(&self, aggregation: u16) -> u32 {
        let rules = self.aggregations.get(usize::from(aggregation)).map(|found| &found.rules);
        let counts = rules.into_iter().flatten().filter_map(|rule| match &rule.predicate {
            Predicate::Thresholds { aggregate: Aggregate::ValueCount, thresholds, .. } => {
                thresholds.iter().map(|threshold| threshold.value.max(0.0) as u32).max()
            }
            _ => None,
        });
        counts.min().unwrap_or(u32::MAX)
    }

    /// Returns the seconds for which a group of an aggregation is kept after its latest event.
    pub(crate) fn group_retention(&self, aggregation: u16) -> u32 {
        let aggregation = self.aggregations.get(usize::from(aggregation));
        aggregation.map_or(0, Aggregation::max_window).saturating_add(ALLOWED_LATENESS)
    }
}

impl DeferralPlan {
    /// Returns the key of a group in the singleton table.
    pub fn table_key(&self, values_hash: u64) -> u64 {
        table_key(self.id, values_hash)
    }

    /// Inverts [`DeferralPlan::table_key`]: returns the hash over the values of the group whose
    /// table key is `key`.
    pub fn values_hash_from(&self, key: u64) -> u64 {
        values_hash_from(self.id, key)
    }
}

impl GroupBy {
    /// Returns whether an observation is counted. In groups that several accounts may share, only
    /// proven accounts are counted (see [`Observation::proven`]).
    pub fn counts(&self, observation: &Observation) -> bool {
        observation.proven || groups_by_account(&self.fields)
    }
}

/// Returns whether each group belongs to one account. The account is the first field of every plan.
fn groups_by_account(group_fields: &[u16]) -> bool {
    group_fields.contains(&0)
}

impl Aggregation {
    /// Returns whether an observation is counted. In groups that several accounts may share, only
    /// proven accounts are counted (see [`Observation::proven`]).
    pub fn counts(&self, observation: &Observation) -> bool {
        observation.proven || groups_by_account(&self.group_fields)
    }

    /// Returns whether the aggregation counts accounts that share a key. In such a count, all
    /// accounts of a tenant are one value.
    pub fn counts_tenants(&self) -> bool {
        self.field == Some(0) && !groups_by_account(&self.group_fields)
    }

    /// Returns the key of a group in the group table.
    pub fn table_key(&self, values_hash: u64) -> u64 {
        table_key(self.id, values_hash)
    }

    /// Returns the seconds of the longest window.
    pub fn max_window(&self) -> u32 {
        self.windows.iter().copied().max().unwrap_or_default()
    }

    /// Returns the seconds of the window over which events per value are counted. After this number
    /// of seconds without events, a value counts as new again.
    pub fn count_window(&self) -> u32 {
        self.windows.first().copied().unwrap_or_default()
    }

    /// Returns whether the events of the aggregation include correlations.
    pub fn has_correlation_events(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, EventSource::Correlation(_)))
    }

    /// Returns the number of bits that the hits of the aggregation take in a singleton: one bit for
    /// all events, or one bit for each source if the order of events counts.
    pub fn hit_bit_count(&self) -> u8 {
        match self.kind {
            StateKind::Ordered => u8::try_from(self.sources.len()).unwrap_or(u8::MAX),
            StateKind::Distinct | StateKind::Sum | StateKind::LastSeen => 1,
        }
    }

    /// Returns the bit of a source in a singleton; 0 if the aggregation is not deferred.
    pub fn hit_mask(&self, source: usize) -> u32 {
        let Some(first_bit) = self.deferral_bit else { return 0 };
        let source = if self.hit_bit_count() == 1 { 0 } else { source };
        u32::try_from(source)
            .ok()
            .and_then(|source| 1_u32.checked_shl(u32::from(first_bit).saturating_add(source)))
            .unwrap_or(0)
    }
}

impl StateKind {
    /// Returns the name that is hashed into [`Aggregation::id`]. If a name changes, stored counts
    /// are lost.
    pub fn name(self) -> &'static str {
        match self {
            Self::Distinct => "salted",
            Self::Sum => "sum",
            Self::LastSeen => "last_seen",
            Self::Ordered => "ordered",
        }
    }
}

impl Predicate {
    /// Returns the seconds within which a minimum share of the values must be first seen; `None` if
    /// the rule does not demand a synchronized start.
    pub fn synchronized_within(&self) -> Option<u32> {
        match self {
            Self::Thresholds { coordination, .. } => {
                coordination.synchronized_start.map(|share| share.within)
            }
            _ => None,
        }
    }

    /// Returns whether the rule demands a minimum mean number of events per value.
    pub fn requires_events_per_value(&self) -> bool {
        match self {
            Self::Thresholds { coordination, .. } => coordination.events_per_value.is_some(),
            _ => false,
        }
    }

    /// Returns whether the rule checks the coordination of the values. The check reads all values.
    pub fn checks_coordination(&self) -> bool {
        matches!(self, Self::Thresholds { coordination, .. } if !coordination.is_empty())
    }
}
