//! Known prompts: recognises user text that comes from a public collection of prompts.
//!
//! A *seed set* is such a collection in compiled form, which the operator makes with
//! `hedgerow seeds build`. It stores no text, only a filter of hashes. The filter answers whether a
//! prompt is in the set. The answer is wrong for less than one in a thousand requests with other
//! prompts.
#![deny(clippy::arithmetic_side_effects)]

mod build;
mod features;
mod filter;
mod set;

pub use build::{build, prompt_features};
pub use features::{Features, MAX_TEXT_BYTES};
pub use filter::FuseFilter;
pub use set::{CompiledSeeds, MAX_SEED_BYTES, MAX_SEED_SETS, SeedFile, SeedSet, is_seed_name};
