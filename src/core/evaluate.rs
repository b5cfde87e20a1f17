//! From hits to a decision: score, decision, explanation, and the observation for correlation.

pub mod assess;
pub mod decision;
pub mod explain;
pub mod observation;
pub mod score;
