//! The platform: storage, time, keyed hashes, settings, leases, panics and the log.
//!
//! | file | content |
//! |---|---|
//! | `settings.rs` | variables, secrets and bindings |
//! | `kv.rs` | the KV namespace of releases, bundles, indicators and names of accounts |
//! | `rpc.rs` | requests to Durable Objects |
//! | `sql.rs` | values for the databases of Durable Objects |
//! | `clock.rs` | time and timeouts |
//! | `lease.rs` | leases and exponential backoff |
//! | `write_budget.rs` | the budget of KV writes |
//! | `hmac_sha256.rs` | account hashes, MACs and derived keys |
//! | `rs256.rs` | RSA signatures of JSON Web Tokens |
//! | `web_crypto.rs` | verification of signatures by WebCrypto |
//! | `memory.rs` | the size of the isolate's memory |
//! | `panic.rs` | panics around hostile input |
//! | `log.rs` | every line of the log |

pub mod clock;
pub mod hmac_sha256;
pub mod kv;
pub mod lease;
pub mod log;
pub mod memory;
pub mod panic;
pub mod rpc;
pub mod rs256;
pub mod settings;
pub mod sql;
pub mod web_crypto;
pub mod write_budget;
