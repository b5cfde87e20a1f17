//! Known prompts: whether the user text of a request comes from a public collection of prompts.
//!
//! A *seed set* is such a collection, as the operator has made it with `hedgerow seeds build`. It
//! stores no text, only a filter of hashes: it answers whether a prompt is in the set, and is wrong
//! for less than one other request in a thousand.
#![deny(clippy::arithmetic_side_effects)]

mod build;
mod features;
mod filter;
mod set;

pub use build::{build, prompt_features};
pub use features::{Features, MAX_TEXT_BYTES};
pub use filter::FuseFilter;
pub use set::{CompiledSeeds, MAX_SEED_BYTES, MAX_SEED_SETS, SeedFile, SeedSet, is_seed_name};
