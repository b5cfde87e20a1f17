//! Enforcement of a decision: edits to the request, and refusals in the dialect of the caller.

pub mod degrade;
pub mod refusal;
