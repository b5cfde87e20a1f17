//! The plan: correlations, compiled into the counts that they need.

mod compile;
mod deferral;
mod types;
mod validate;

pub use types::{
    Aggregate, Aggregation, DeferralPlan, EventSource, Plan, Predicate, RelativeMinimumPlan, Rule,
    StateKind,
};
