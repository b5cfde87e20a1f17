//! The core of Hedgerow: scores LLM API requests for signs of *harvesting*, the unauthorised
//! distillation of a model by scripted querying.
//!
//! ```
//! use hedgerow_core::{Decision, Envelope, Ruleset};
//!
//! # fn main() -> Result<(), hedgerow_core::Error> {
//! let bundle = br#"{
//!     "format": 1, "policy": {}, "sources": {},
//!     "signatures": [{
//!         "name": "synthesis_pairs", "id": "1", "title": "Asks for training pairs",
//!         "family": "synthesis", "status": "stable", "weight": 22,
//!         "selections": { "pairs": { "field": {
//!             "field": "hedgerow.prompt.user",
//!             "string": { "string_match": "contains", "value": "question-answer pairs to train" }
//!         } } },
//!         "condition": { "is": "pairs" }
//!     }]
//! }"#;
//! let ruleset = Ruleset::load(bundle)?;
//! let envelope = Envelope {
//!     method: "POST",
//!     path: "/v1/chat/completions",
//!     body: br#"{"messages":[
//!         {"role":"user","content":"Write 50 Question-Answer pairs\nto train on."}
//!     ]}"#,
//!     ..Envelope::default()
//! };
//! let assessment = ruleset.assess(&envelope).expect("an LLM call");
//! let attributes = envelope.attributes(assessment.model.as_deref());
//! let disposition = ruleset.policy().disposition(&attributes);
//! let decision = Decision::new(&ruleset, &envelope, assessment, disposition);
//! assert_eq!((decision.band.name(), decision.mode.name()), ("suspect", "shadow"));
//! # Ok(())
//! # }
//! ```
//!
//! # In scope
//! - [`http`] reads envelope, route and body of a request
//! - [`identity`] identifies the sender of a request
//! - [`extract`] extracts fields and text from requests in the wire format of any provider
//! - [`text`] normalises text
//! - [`seeds`] recognises prompts of public collections
//! - [`work`] bounds the work per body
//! - [`rules`] holds the parts of a bundle, from which a [`Ruleset`] is compiled
//! - [`matching`] finds the signatures that match a request
//! - [`evaluate`] computes score and decision
//! - [`enforce`] edits and refuses requests
//! - [`correlate`] counts events over many requests
//! - [`api`] defines the types of the admin API's JSON
//!
//! # Out of scope
//! Clock, network, storage and randomness: the host programs (Worker and CLI) pass in the values
//! that the core needs.

pub mod api;
pub mod completeness;
pub mod correlate;
pub mod enforce;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod extract;
pub mod field;
pub mod hash_purpose;
pub mod http;
pub mod identity;
pub mod keyed_hash;
pub mod matching;
pub mod rules;
pub mod ruleset;
pub mod seeds;
pub mod template;
pub mod text;
pub mod work;

pub use error::Error;
pub use evaluate::decision::{Assessment, Decision};
pub use http::envelope::{Client, Envelope};
pub use rules::bundle::Bundle;
pub use rules::release::Release;
pub use ruleset::Ruleset;
