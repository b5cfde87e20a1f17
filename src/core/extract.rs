//! Extraction: reads a body into named fields and normalised text, and never fails.
#![deny(clippy::arithmetic_side_effects)]

mod anthropic;
mod attachment;
mod batch;
mod blocks;
mod coding;
mod content;
pub mod conversation;
mod cues;
mod divide;
pub mod earlier_texts;
mod examples;
mod form;
mod gemini;
mod generic;
pub mod issues;
mod joined_parts;
pub mod json_position;
mod keyed_values;
mod known_prompts;
pub mod lenient_json;
mod lenient_value;
mod lines;
mod member_name;
mod multipart;
mod object;
mod openai;
mod passage;
mod pointing_turn;
pub mod raw_string;
pub mod realtime;
mod request;
mod requests;
mod segment;
mod shape;
mod window;
mod word_prefixes;

pub use attachment::FileFormat;
pub(crate) use batch::batch_lines;
pub use coding::Coding;
pub use issues::ReadIssues;
pub(crate) use member_name::MemberName;
pub use passage::Passages;
pub use request::{FieldValue, Request};
pub use requests::for_each_request;
pub use segment::{Segment, Source};
