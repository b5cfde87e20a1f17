//! Enforcement of a decision: edits of the request, and error responses in the caller's dialect.

pub mod appeal;
pub mod degrade;
pub mod refusal;
pub mod worded_refusal;
