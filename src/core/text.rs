//! Normalisation: what `contains` sees.
//!
//! Text is matched after NFKC, case folding, look-alike folding, white space runs to one space and
//! removal of invisible characters, so that `Step\u{200b} BY\n\nstep` is `step by step`. Patterns
//! are normalised the same way when a ruleset is built.
//!
//! ASCII, which most prompts are, takes a path that looks at sixteen bytes at a time; what is composed with
//! nothing is looked up (`letters`).

mod characters;
mod checkpoint;
mod escaped_json;
mod normalize;
mod precomposed;
pub mod simd;
mod source_map;

pub use characters::fold_char;
pub use checkpoint::Checkpoint;
pub use normalize::{Case, Normalizer, SEGMENT_END, TrimmedEdges, normalize, normalize_pattern};
pub use source_map::SourceMap;
