//! Hedgerow's own keys under `custom_attributes` of a rule.

use rsigma_parser::EXEMPLARS_KEY;
use yaml_serde::{Mapping, Value as Yaml};

/// The key under which a rule has its custom attributes.
pub const CUSTOM_ATTRIBUTES: &str = "custom_attributes";

/// The path of a rule's exemplars.
pub const EXEMPLARS_PATH: [&str; 2] = [CUSTOM_ATTRIBUTES, EXEMPLARS_KEY];

/// Weight of the rule in decibans. It replaces the default weight of the rule's `level`.
pub const WEIGHT_KEY: &str = "hedgerow.weight";
/// Maximum absolute value of a weight, in decibans. No single match can be stronger evidence.
pub const MAX_WEIGHT: f64 = 40.0;
/// Names of the selections that indicate an innocent request.
pub const INNOCENCE_KEY: &str = "hedgerow.innocence";
/// Disguises (changes that try to hide a request) under which the rule need not match, each with a
/// reason.
pub const EXCEPTIONS_KEY: &str = "hedgerow.disguise_exceptions";
/// Id of the rule of a lower layer that the rule replaces.
pub const REPLACES_KEY: &str = "hedgerow.replaces";
/// Groups of selections of concepts. The terms of a group must occur in one sentence, or within a
/// given number of bytes.
pub const NEAR_KEY: &str = "hedgerow.near";
/// Lifetime of the indicators of a correlation, such as `24h`.
pub const TTL_KEY: &str = "hedgerow.ttl";
/// A field whose value differs between consecutive events of a `temporal_ordered` correlation.
pub const DISTINCT_BY_KEY: &str = "hedgerow.distinct_by";
/// Name of a signature that each counted event must also match.
pub const ONLY_KEY: &str = "hedgerow.only";
/// Minimum mean number of events per counted value.
pub const EVENTS_PER_VALUE_KEY: &str = "hedgerow.events_per_value";
/// Maximum mean number of events per counted value.
pub const MAX_EVENTS_PER_VALUE_KEY: &str = "hedgerow.max_events_per_value";
/// Minimum evenness of the events over the counted values, in percent.
pub const EVENNESS_KEY: &str = "hedgerow.evenness";
/// Minimum percentage of counted values whose first events lie within one period of a given length.
pub const SYNCHRONIZED_START_KEY: &str = "hedgerow.synchronized_start";
/// Minimum percentage of counted values that take part in a hand-over: within a given time before
/// one moment, some values have their last event, and within this time after the moment, others
/// have their first event.
pub const HANDOVER_KEY: &str = "hedgerow.handover";

/// Subject of the correlation's indicators: the `key` itself, or its `accounts`.
pub const INDICATORS_OF_KEY: &str = "hedgerow.indicators_of";
/// Minimum evidence, in decibans, that a request must have itself for an indicator to count.
pub const OWN_EVIDENCE_KEY: &str = "hedgerow.own_evidence";
/// Minimum evidence, in decibans, that the behaviour of a request's account must have for an
/// indicator to count.
pub const OWN_BEHAVIOR_KEY: &str = "hedgerow.own_behavior";
/// Name of the fact that the correlation counts. Of the correlations that count the same fact, only
/// the strongest is evidence.
pub const FACT_KEY: &str = "hedgerow.fact";
/// Minimum number of counted values, in percent of the values that another correlation counts.
pub const SHARE_OF_KEY: &str = "hedgerow.share_of";

/// Minimum number of values that another correlation counts, in percent of this correlation's
/// events.
pub const VARIETY_KEY: &str = "hedgerow.variety";

/// The custom attributes of a correlation.
pub const CORRELATION_ATTRIBUTES: &[&str] = &[
    WEIGHT_KEY,
    REPLACES_KEY,
    EXEMPLARS_KEY,
    TTL_KEY,
    DISTINCT_BY_KEY,
    ONLY_KEY,
    EVENTS_PER_VALUE_KEY,
    MAX_EVENTS_PER_VALUE_KEY,
    EVENNESS_KEY,
    SYNCHRONIZED_START_KEY,
    HANDOVER_KEY,
    INDICATORS_OF_KEY,
    OWN_EVIDENCE_KEY,
    OWN_BEHAVIOR_KEY,
    FACT_KEY,
    SHARE_OF_KEY,
    VARIETY_KEY,
];

/// Returns the value of a custom attribute of a rule; `None` if the rule does not have it.
pub fn attribute<'d>(document: &'d Mapping, key: &str) -> Option<&'d Yaml> {
    document.get(CUSTOM_ATTRIBUTES).and_then(|attributes| attributes.get(key))
}
