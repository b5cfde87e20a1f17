//! Hits: the events of an aggregation in one observation.

use super::context::EventContext;
use super::observation::Observation;
use super::plan::{Aggregation, EventSource, StateKind};

/// An event of an aggregation in an observation.
#[derive(Debug)]
pub struct AggregationHit {
    /// Index of the aggregation in the plan.
    pub aggregation: usize,
    /// Index of the source in [`Aggregation::sources`].
    pub source: usize,
    /// First value of the groups that have the event; `None` if all groups of the observation have
    /// it.
    pub first_value: Option<u64>,
}

/// A correlation that holds at the current observation.
#[derive(Clone, Copy, Debug)]
pub struct HeldCorrelation {
    /// Index of the correlation in the plan.
    pub correlation: usize,
    /// First value of the group for which the correlation holds.
    pub first_value: u64,
}

impl AggregationHit {
    /// Returns whether a group with this first value has the event.
    pub fn belongs_to(&self, first_value: u64) -> bool {
        self.first_value.is_none_or(|value| value == first_value)
    }
}

/// Appends the events of an aggregation to `hits`: signatures that matched, and correlations in
/// `satisfied`. Appends nothing if the observation does not match [`Aggregation::only`], or has no
/// value that the aggregation counts.
pub fn find_hits(
    aggregation_index: usize,
    aggregation: &Aggregation,
    event: &EventContext<'_>,
    satisfied: &[HeldCorrelation],
    hits: &mut Vec<AggregationHit>,
) {
    let hit = |source, first_value| AggregationHit {
        aggregation: aggregation_index,
        source,
        first_value,
    };
    if aggregation.only.is_some_and(|signature| !event.has_signature(signature)) {
        return;
    }
    let mut words = aggregation.signature_bits.iter().zip(event.signature_bits);
    let is_signature_hit = words.any(|(mask, bits)| mask & bits != 0);
    if !is_signature_hit && satisfied.is_empty() || !has_input(event.observation, aggregation) {
        return;
    }
    // These kinds do not distinguish sources, so one hit is enough.
    if is_signature_hit && matches!(aggregation.kind, StateKind::Distinct | StateKind::Sum) {
        hits.push(hit(0, None));
        return;
    }
    for (event_index, source) in aggregation.sources.iter().enumerate() {
        match source {
            EventSource::Signature(index) => {
                if event.has_signature(*index) {
                    hits.push(hit(event_index, None));
                }
            }
            EventSource::Correlation(index) => {
                let matching = satisfied.iter().filter(|held| held.correlation == *index);
                hits.extend(matching.map(|held| hit(event_index, Some(held.first_value))));
            }
        }
    }
}

/// Returns whether an observation has a value or number for an aggregation to count or sum.
fn has_input(observation: &Observation, aggregation: &Aggregation) -> bool {
    match (aggregation.kind, aggregation.field) {
        (StateKind::Distinct, Some(field)) => !observation.values(field).is_empty(),
        (StateKind::Sum, Some(field)) => observation.number(field).is_some(),
        _ => true,
    }
}
