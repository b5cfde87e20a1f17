//! Evaluation: from hits to score, decision and explanation, and to the correlator's observation.

pub mod assess;
pub mod decision;
pub mod explain;
mod explain_near;
pub mod message;
pub mod observation;
pub mod score;
