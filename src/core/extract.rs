//! Extraction: reads a body into named fields and normalised text, in one pass that never fails.
#![deny(clippy::arithmetic_side_effects)]

mod anthropic;
mod attachment;
mod batch;
mod coding;
mod content;
pub mod conversation;
pub mod earlier_texts;
mod form;
mod gemini;
mod generic;
pub mod issues;
mod joined_parts;
pub mod json_position;
mod keyed_values;
pub mod lenient_json;
mod lenient_value;
mod member_name;
mod multipart;
mod object;
mod openai;
mod pointing;
pub mod raw_string;
pub mod realtime;
mod request;
mod requests;
mod shape;
mod window;

pub use attachment::FileFormat;
pub(crate) use batch::batch_lines;
pub use coding::Coding;
pub use issues::ReadIssues;
pub(crate) use member_name::MemberName;
pub use request::{FieldValue, Request, Segment, Source};
pub use requests::for_each_request;
