//! The keys of Hedgerow under `custom_attributes` of a rule.

use rsigma_parser::EXEMPLARS_KEY;

/// Where the weight stands.
pub const WEIGHT_KEY: &str = "hedgerow.weight";
pub const TTL_KEY: &str = "hedgerow.ttl";
pub const DISTINCT_BY_KEY: &str = "hedgerow.distinct_by";
pub const EVENTS_PER_VALUE_KEY: &str = "hedgerow.events_per_value";
pub const EVENNESS_KEY: &str = "hedgerow.evenness";
pub const SYNCHRONIZED_START_KEY: &str = "hedgerow.synchronized_start";
pub const HANDOVER_KEY: &str = "hedgerow.handover";

/// The keys that a correlation may have under `custom_attributes`.
pub const CORRELATION_ATTRIBUTES: &[&str] = &[
    WEIGHT_KEY,
    EXEMPLARS_KEY,
    TTL_KEY,
    DISTINCT_BY_KEY,
    EVENTS_PER_VALUE_KEY,
    EVENNESS_KEY,
    SYNCHRONIZED_START_KEY,
    HANDOVER_KEY,
];
