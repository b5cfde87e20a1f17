//! A text value of a request, with its source in the body.

use std::borrow::Cow;
use std::ops::Range;

use super::coding::Coding;
use super::raw_string::{RawString, Sink};
use crate::field::Section;
use crate::text::{Case, Normalizer, TrimmedEdges};

/// A text value of the request, after normalisation.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Section of the conversation.
    pub section: Section,
    /// Byte range in [`Request::text`].
    pub range: Range<usize>,
    /// Source in the body.
    pub source: Source<'a>,
    /// Whether the last turn of the user points to the text, which makes it an instruction.
    pub(super) is_pointed_at: bool,
    /// White space that normalisation removed at the edges.
    pub(super) edges: TrimmedEdges,
}

impl Segment<'_> {
    /// Returns the sections to which the text belongs, as a set of bits: its own section, and the
    /// section of attachments if the last turn of the user points to the text.
    pub fn sections(&self) -> u16 {
        let pointed_at = if self.is_pointed_at { Section::Attachment as u16 } else { 0 };
        self.section as u16 | pointed_at
    }
}

/// The source of a text value in the body.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A string of the body.
    Value(RawString<'a>),
    /// A text of the body in another coding: the encoded bytes, and their coding, such as base64.
    Encoded(RawString<'a>, Coding),
    /// The ends of adjacent parts of a message, or the end of one string that the scan window cut.
    /// The text comes from this byte range of the body.
    Joined(Range<usize>),
    /// A text of an earlier message of a WebSocket, which is not in the body.
    Earlier(&'a str),
}

impl<'a> Source<'a> {
    /// Returns the string of the body; `None` for every other source.
    pub fn value(&self) -> Option<RawString<'a>> {
        match self {
            Self::Value(raw) => Some(*raw),
            Self::Encoded(..) | Self::Joined(_) | Self::Earlier(_) => None,
        }
    }

    /// Returns whether the source is [`Source::Joined`]: the text repeats parts of a message, or is
    /// the end of a string that the scan window cut.
    pub fn is_joined(&self) -> bool {
        matches!(self, Self::Joined(_))
    }

    /// Returns the decoded text, with its line ends; `None` for [`Source::Joined`].
    pub(super) fn decoded(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Value(raw) => Some(raw.text()),
            Self::Encoded(raw, coding) => Some(Cow::Owned(coding.decode(*raw).into_owned())),
            Self::Earlier(text) => Some(Cow::Borrowed(text)),
            Self::Joined(_) => None,
        }
    }

    /// Appends the text to `out`, normalised but with its case, up to `limit` bytes. Appends
    /// nothing for [`Source::Joined`].
    pub fn push_cased_text(&self, out: &mut String, limit: usize) {
        let mut normalizer = Normalizer::new(out, Case::Keep).with_limit(limit);
        match self {
            Self::Value(raw) => raw.decode(&mut normalizer),
            Self::Encoded(raw, coding) => normalizer.push_run(&coding.decode(*raw)),
            Self::Earlier(text) => normalizer.push_run(text),
            Self::Joined(_) => {}
        }
        normalizer.finish();
    }

    /// Returns the byte range of the source in the body; an empty one for text of earlier messages.
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Value(raw) | Self::Encoded(raw, _) => raw.range(),
            Self::Joined(range) => range.clone(),
            Self::Earlier(_) => 0..0,
        }
    }

    /// Returns the size of the source in bytes.
    pub fn size(&self) -> usize {
        match self {
            Self::Earlier(text) => text.len(),
            source => source.range().len(),
        }
    }
}
