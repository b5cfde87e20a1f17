//! Finds the signatures that match a request.
//!
//! Each distinct comparison of all signatures has one bit. One scan of the text finds all literals;
//! tables hold the comparisons of short values and numbers. Both set bits. The condition of a
//! signature is a boolean expression over bits. It is evaluated only if one of its bits is set.
//! Regexes and concepts run last, because they are expensive. They run only around their required
//! literals or anchors, and only if the bits known so far do not decide a condition.

pub mod compile;
mod condition;
mod evidence;
mod grams;
mod hit;
mod keyword;
pub mod literal_scanner;
mod matcher;
pub(crate) mod near;
mod near_compile;
mod occurrences;
mod passage_roles;
mod program;
pub mod regex_gate;
mod required_literals;
mod segments;
mod sparse_array;

pub use hit::{Evidence, Hit};
pub use matcher::Matcher;
pub use program::{HeaderBits, Program};
