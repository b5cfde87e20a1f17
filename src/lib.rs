//! Scores LLM-API requests for signs of *harvesting*: the unauthorised distillation of a model by
//! scripted querying.
//!
//! ```
//! use hedgerow::{Decision, Envelope, Ruleset};
//!
//! # fn main() -> Result<(), hedgerow::Error> {
//! let bundle = br#"{
//!     "format": 1, "policy": {}, "sources": {},
//!     "signatures": [{
//!         "name": "synthesis_pairs", "id": "1", "title": "Asks for training pairs", "family": "synthesis",
//!         "status": "stable", "weight": 22,
//!         "selections": { "pairs": { "field": { "field": "hedgerow.prompt.user",
//!             "string": { "anchor": "contains", "value": "question-answer pairs to train" } } } },
//!         "condition": { "is": "pairs" }
//!     }]
//! }"#;
//! let ruleset = Ruleset::load(bundle)?;
//! let envelope = Envelope {
//!     method: "POST",
//!     path: "/v1/chat/completions",
//!     body: br#"{"messages":[{"role":"user","content":"Write 50 Question-Answer pairs\nto train on."}]}"#,
//!     ..Envelope::default()
//! };
//! let assessment = ruleset.assess(&envelope).expect("an LLM call");
//! let treatment = ruleset.policy().treatment(envelope.path, envelope.account);
//! let decision = Decision::new(&ruleset, &envelope, assessment, treatment);
//! assert_eq!((decision.band.name(), decision.mode.name()), ("suspect", "shadow"));
//! # Ok(())
//! # }
//! ```
//!
//! # In scope
//! Reading requests of every dialect ([`request`]), matching signatures ([`Ruleset`]), scoring
//! ([`score`]), deciding ([`policy`], [`decision`]), editing ([`degrade`]), explaining ([`explain`]).
//!
//! # Out of scope
//! Clock, network, storage and randomness: the hosts have those, and hand in what is needed.

pub mod account;
pub mod bench;
mod bits;
pub mod cluster;
pub mod correlate;
pub mod correlation;
pub mod decision;
pub mod degrade;
pub mod error;
pub mod explain;
pub mod field;
pub mod hash;
pub mod indicator;
pub mod json;
pub mod matcher;
pub mod policy;
#[cfg(feature = "sigma")]
pub mod recorded;
pub mod refusal;
pub mod request;
pub mod route;
pub mod ruleset;
pub mod scan;
pub mod score;
#[cfg(feature = "sigma")]
pub mod sigma;
pub mod signature;
pub mod template;
pub mod text;
pub mod trust;

pub use decision::{Assessment, Decision};
pub use error::Error;
pub use request::{Client, Envelope};
pub use ruleset::{Bundle, Release, Ruleset};
