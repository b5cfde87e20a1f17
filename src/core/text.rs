//! Text normalisation: the form of text that signatures match.
//!
//! Normalisation applies NFKC, folds case and look-alikes, reduces runs of white space to one space
//! and removes invisible characters, so that `Step\u{200b} BY\n\nstep` is `step by step`. Patterns
//! are normalised in the same way when a ruleset is built.
//!
//! Most prompts are ASCII, which takes a path that handles 64 bytes at a time (`escaped_json`).
//! Characters that compose with no other character are looked up in a table (`precomposed`).

mod characters;
mod checkpoint;
mod compose;
mod escaped_json;
mod normalize;
mod precomposed;
pub mod simd;
mod source_map;

pub(crate) use characters::is_unspaced_script;
pub use characters::{fold_char, has_word_spaces, is_word_char};
pub use checkpoint::Checkpoint;
pub use normalize::{Case, Normalizer, SEGMENT_END, TrimmedEdges, normalize, normalize_pattern};
pub use source_map::SourceMap;
