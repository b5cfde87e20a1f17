//! The conversation of a WebSocket: the text of earlier messages. When a message makes the model
//! generate an answer, the model also reads the earlier messages.
//!
//! An HTTP request repeats its whole conversation, but a WebSocket message does not. A client can
//! therefore split a prompt over several messages. To detect such a prompt, a [`Conversation`]
//! keeps a bounded part of the earlier text, in memory only.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use super::earlier_texts::{EarlierFindings, EarlierTexts, KeptText};
use super::realtime::{Generation, MessageEffect};
use super::request::Request;
use super::segment::{Segment, Source};
use crate::field::{FieldId, MESSAGE_SECTIONS, Section};

/// The conversation of a connection.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    earlier: EarlierTexts,
    /// Model that a message has named for the session.
    model: Option<String>,
    /// Number of messages with text since the whole conversation was last scored.
    new_messages: usize,
}

/// The part of a message that a [`Conversation`] keeps.
#[derive(Clone, Debug, Default)]
pub struct KeptMessage {
    texts: Vec<KeptText>,
    model: Option<String>,
    has_text: bool,
}

impl KeptMessage {
    /// Adds the text of a message to the kept text. If the message has too much text, only the
    /// beginning and the end of its text are kept. Texts of earlier messages in `request` are left
    /// out.
    pub fn take(&mut self, request: &Request<'_>, effect: MessageEffect) {
        let max_bytes = if effect.is_session { MAX_INSTRUCTION_BYTES } else { MAX_MESSAGE_BYTES };
        let own = |segment: &&Segment<'_>| {
            segment.section as u8 & MESSAGE_SECTIONS != 0
                && !segment.source.is_joined()
                && !matches!(segment.source, Source::Earlier(_))
        };
        let total: usize =
            request.segments().iter().filter(own).map(|segment| segment.range.len()).sum();
        self.has_text |= total > 0;
        let middle = middle(total, max_bytes);
        let mut position = 0_usize;
        for segment in request.segments().iter().filter(own) {
            let end = position.saturating_add(segment.range.len());
            self.take_segment(request, segment, position, &middle);
            position = end;
        }
        if let Some(first) = self.texts.first_mut() {
            first.begins_message = true;
        }
        // The model that a session names applies to all messages of the session.
        if effect.is_session && self.model.is_none() {
            self.model = request.model().map(str::to_owned);
        }
    }

    /// Keeps the parts of a segment that lie outside `middle`, a range of the message's text. The
    /// segment begins at `position` of that text.
    fn take_segment(
        &mut self,
        request: &Request<'_>,
        segment: &Segment<'_>,
        position: usize,
        middle: &Range<usize>,
    ) {
        let Some(folded) = request.text().get(segment.range.clone()) else { return };
        let end = position.saturating_add(folded.len());
        if end <= middle.start || position >= middle.end {
            let mut text = String::with_capacity(folded.len());
            segment.source.push_cased_text(&mut text, folded.len().saturating_mul(2));
            return self.push(segment.section, text);
        }
        // A text that is cut is kept in its case-folded form, to which `middle` refers.
        let head = folded.floor_char_boundary(middle.start.saturating_sub(position));
        let tail = folded.ceil_char_boundary(middle.end.saturating_sub(position).min(folded.len()));
        for part in [folded.get(..head), folded.get(tail..)] {
            self.push(segment.section, part.unwrap_or_default().to_owned());
        }
    }

    fn push(&mut self, section: Section, text: String) {
        if !text.is_empty() && self.texts.len() < MAX_TEXTS {
            self.texts.push(KeptText::new(section, text));
        }
    }

    /// Returns whether the message itself has text, apart from texts of earlier messages.
    pub fn has_text(&self) -> bool {
        self.has_text
    }
}

impl Conversation {
    /// Prepares for a message. Forgets the kept texts and the model if the message starts a
    /// conversation of its own and all kept texts have been scored.
    pub fn begin_message(&mut self, effect: MessageEffect) {
        let is_independent = effect.generation == Generation::StandaloneRequest;
        if is_independent && self.new_messages == 0 {
            *self = Self::default();
        }
    }

    /// Returns whether a message is scored together with the conversation. The message must be one
    /// that may make the model generate. If the message carries a prompt, at least one earlier
    /// message must be kept. Otherwise, at least two must be kept, and one must be new since the
    /// whole conversation was last scored.
    pub fn is_scored_with(&self, effect: MessageEffect) -> bool {
        let kept = self.earlier.message_count(usize::MAX);
        let (least, has_unscored_text) =
            if effect.carries_prompt { (1, true) } else { (2, self.new_messages > 0) };
        effect.generation != Generation::None && has_unscored_text && kept >= least
    }

    /// Returns the texts of earlier messages.
    pub fn earlier(&self) -> &EarlierTexts {
        &self.earlier
    }

    /// Returns the model that a message has named for the session; `None` if no message has named
    /// one.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Adds a message. `findings` holds the findings of the decision about the message; `None` if
    /// no decision was recorded.
    pub fn add(
        &mut self,
        message: KeptMessage,
        effect: MessageEffect,
        findings: Option<EarlierFindings>,
    ) {
        let was_joined = self.is_scored_with(effect);
        if was_joined || effect.generation >= Generation::Asked {
            (self.new_messages, self.earlier.new_bytes) = (0, 0);
        }
        let KeptMessage { mut texts, model, has_text } = message;
        if let Some(findings) = findings {
            texts.iter_mut().for_each(|text| text.record(findings));
            if was_joined {
                self.earlier.record(findings);
            }
        }
        if let Some(model) = model.filter(|model| model.len() <= MAX_MODEL_BYTES) {
            self.model = Some(model);
        }
        if !has_text {
            return;
        }
        if effect.generation < Generation::Asked && !was_joined {
            let bytes: usize = texts.iter().map(|text| text.text.len()).sum();
            self.new_messages = self.new_messages.saturating_add(1);
            self.earlier.new_bytes = self.earlier.new_bytes.saturating_add(bytes);
        }
        if effect.is_session {
            self.earlier.set_instructions(texts);
        } else {
            self.earlier.append(texts);
        }
    }
}

impl<'a> Request<'a> {
    /// Adds the texts of earlier messages as segments, before the segments of the message itself,
    /// whose size is `message_bytes`. Each earlier message counts as a turn, unless it begins with
    /// text of the system.
    pub(super) fn push_earlier(&mut self, earlier: &'a EarlierTexts, message_bytes: usize) {
        for kept in earlier.texts(message_bytes) {
            self.push_earlier_text(kept.section, &kept.text);
            if kept.begins_message && kept.section != Section::System {
                self.add_count(FieldId::Turns, 1);
            }
        }
    }

    /// Joins the texts of earlier messages with the first text of the message itself, because a
    /// phrase may be split between messages.
    pub(super) fn join_earlier(&mut self) {
        let is_earlier = |segment: &Segment<'_>| matches!(segment.source, Source::Earlier(_));
        let earlier = self.segments.iter().take_while(|segment| is_earlier(segment)).count();
        if earlier == 0 {
            return;
        }
        let own = self.segments.get(earlier).is_some_and(|segment| !segment.source.is_joined());
        self.join_range(0..earlier.saturating_add(usize::from(own)));
    }
}

/// Returns the range to leave out of the middle of a text of `total` bytes, so that at most
/// `max_bytes` remain. If the text fits, the range is empty and at the end of the text.
fn middle(total: usize, max_bytes: usize) -> Range<usize> {
    if total <= max_bytes {
        return total..total;
    }
    let half = max_bytes / 2;
    half..total.saturating_sub(half)
}

/// Maximum bytes of text that are kept per message, so that padding in one message does not push
/// out the others.
const MAX_MESSAGE_BYTES: usize = 24 << 10;

/// Maximum bytes of the session's instructions that are kept.
const MAX_INSTRUCTION_BYTES: usize = 16 << 10;

/// Maximum number of texts that are kept of one message.
const MAX_TEXTS: usize = 256;

/// Maximum bytes of the name of a model.
const MAX_MODEL_BYTES: usize = 256;
