//! State of one isolate, shared by its requests.

pub mod active_rules;
pub mod decision_sample;
pub mod indicators;
pub mod observation_queue;
pub mod telemetry;
