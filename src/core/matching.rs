//! Matching: one scan for all literals, tables for the rest, then small boolean programs over bits.
//!
//! Every distinct comparison of all signatures is a bit. The scan and the tables set bits; a
//! signature is evaluated only if one of its bits is set. Regexes and concepts run last: only near
//! their required literals or anchors, and only if the condition depends on the result once all
//! other bits are known.

pub mod compile;
mod condition;
mod evidence;
mod hit;
mod keyword;
pub mod literal_scanner;
mod matcher;
pub(crate) mod near;
mod near_compile;
mod occurrences;
mod program;
pub mod regex_gate;
mod required_literals;
mod segments;
mod sparse;
mod voices;

pub use hit::{Evidence, Hit};
pub use matcher::Matcher;
pub use program::{HeaderBits, Program};
