//! State of one isolate, shared by all of its requests.

pub mod active_rules;
pub mod attribution;
pub mod decision_sample;
pub mod indicators;
pub mod kv_poll;
pub mod model_name;
pub mod observation_queue;
pub mod telemetry;
