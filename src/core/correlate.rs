//! Correlation: finds patterns that only many requests together show.
//!
//! An [`Observation`] is the part of a request that is counted: the signatures that matched, and
//! keyed hashes of values such as account, network and template. A [`Plan`] is the compiled
//! correlations of a ruleset. A [`Correlator`] counts observations by group and time window, and
//! reports a [`Firing`] for each group for which a correlation holds. Firings become
//! [indicators](indicator), and link accounts to [clusters](cluster).
//!
//! The module has no clock, storage or network: the same code runs in Durable Objects and over
//! recorded files.
//!
//! - `plan` compiles correlations into aggregations; an aggregation is a kind of count that is kept
//!   for each group
//! - `correlator` counts observations; `hits` and `context` describe one observation to the
//!   correlator
//! - `group_key`, `group` and `group_state` define a group: its key, its times, its counts
//! - `distinct_sample`, `window_sum` and `sequence` are the kinds of counts
//! - `group_table` stores groups in bounded memory; `sketch` decides which groups enter a full
//!   table
//! - `singletons` stores keys that only one account has used; `deferral` creates the groups of such
//!   a key when a second account uses it
//! - `refire_limiter` limits how often a firing is repeated
//! - `snapshot` saves and restores a correlator; [`batch`] encodes observations that are sent to it
#![deny(clippy::arithmetic_side_effects)]

pub mod batch;
pub mod cluster;
pub mod cluster_aliases;
mod context;
mod correlator;
mod deferral;
mod distinct_sample;
mod earlier_events;
mod event_time;
mod firing;
mod group;
mod group_key;
mod group_state;
mod group_table;
mod hits;
mod identity_hasher;
pub mod indicator;
mod observation;
mod plan;
mod refire_limiter;
mod sequence;
mod shard;
mod singletons;
mod sketch;
mod snapshot;
mod table_key;
mod window_sum;

pub use correlator::Correlator;
pub use firing::{Cause, Firing};
pub(crate) use group_key::{GroupKeys, group_keys};
pub use group_table::PARTITIONS;
pub use observation::{MAX_VALUES_PER_FIELD, Observation};
pub use plan::Plan;
pub use shard::Shard;
pub use window_sum::BUCKETS;
