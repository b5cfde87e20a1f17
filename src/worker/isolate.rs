//! State of one isolate, shared by all of its requests.
//!
//! An isolate is single-threaded, so the state is thread-local. No request keeps a borrow of the
//! state across an `await`. The platform may end an isolate at any time, and the state is lost
//! then.
//!
//! | file | content |
//! |---|---|
//! | `active_rules.rs` | the rules in force, from KV or embedded |
//! | `stop.rs` | the stop in force, from KV |
//! | `indicators.rs` | the indicators in force, from KV and from correlators |
//! | `kv_poll.rs` | the schedule by which rules, indicators and names are read from KV |
//! | `telemetry.rs` | counters and their report to the ledger |
//! | `decision_sample.rs` | the sample of decisions in a report |
//! | `enforced_buffer.rs` | the enforced decisions in a report |
//! | `attribution.rs` | the rules and the data centre of a decision |
//! | `model_name.rs` | model names that may be stored |
//! | `access_keys.rs` | the keys of Cloudflare Access |
//! | `account_stats.rs` | signs that the identity settings do not fit the traffic |
//! | `principals.rs` | credentials that the origin has accepted, and names of accounts |
//! | `published_names.rs` | reads names of accounts from KV |
//! | `observation_queue.rs` | observations and their delivery to correlators |

pub mod access_keys;
pub mod account_stats;
pub mod active_rules;
pub mod attribution;
pub mod decision_sample;
pub mod enforced_buffer;
pub mod indicators;
pub mod kv_poll;
pub mod model_name;
pub mod observation_queue;
pub mod principals;
pub mod published_names;
pub mod stop;
pub mod telemetry;
