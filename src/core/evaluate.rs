//! Evaluation: computes score, decision and explanation of a request from its hits, and the
//! observation that the correlator counts.

pub mod assess;
pub mod decision;
pub mod explain;
mod explain_near;
pub mod message;
pub mod observation;
pub mod score;
