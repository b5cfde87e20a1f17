//! Texts of the earlier messages of a WebSocket, within limits.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use crate::field::Section;
use crate::rules::policy::band::Band;

/// The texts of earlier messages of a connection.
#[derive(Clone, Debug, Default)]
pub struct EarlierTexts {
    /// Instructions of the session, from the last message that has set them.
    instructions: Vec<KeptText>,
    /// Texts of messages, the oldest first.
    texts: VecDeque<KeptText>,
    /// Total memory that `texts` take, in bytes.
    cost: usize,
    /// Bytes of text that have not yet been scored together with the rest.
    pub(super) new_bytes: usize,
}

/// A text of an earlier message, normalised. Its case is kept unless the text was cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptText {
    pub(super) section: Section,
    pub(super) text: String,
    /// Whether this is the first text of its message.
    pub(super) begins_message: bool,
    /// Findings of decisions about the text, scored alone or together with other texts.
    findings: EarlierFindings,
}

/// The findings of the decisions that were recorded about a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EarlierFindings {
    /// The highest severity band.
    pub band: Band,
    /// Whether the request had template keys that correlation counts (see [`crate::template`]).
    pub has_template: bool,
}

impl EarlierFindings {
    fn merge(self, other: Self) -> Self {
        Self {
            band: self.band.max(other.band),
            has_template: self.has_template || other.has_template,
        }
    }
}

impl EarlierTexts {
    /// Returns the texts to score together with a message of `message_bytes`: the instructions of
    /// the session and the last texts, the oldest first.
    ///
    /// The memory of the last texts is limited to [`EARLIER_ALLOWANCE`], plus [`EARLIER_PER_BYTE`]
    /// for each byte that was sent since the texts were last scored. So a small message does not
    /// cost as much as a large one.
    pub(super) fn texts(&self, message_bytes: usize) -> impl Iterator<Item = &KeptText> {
        let sent = self.new_bytes.saturating_add(message_bytes);
        let max_cost = sent.saturating_mul(EARLIER_PER_BYTE).saturating_add(EARLIER_ALLOWANCE);
        let mut cost = 0_usize;
        let fits = |text: &&KeptText| {
            cost = cost.saturating_add(text.cost());
            cost <= max_cost
        };
        let count = self.texts.iter().rev().take_while(fits).count();
        let skipped = self.texts.len().saturating_sub(count);
        self.instructions.iter().chain(self.texts.iter().skip(skipped))
    }

    /// Returns the total bytes of the texts that [`Self::texts`] returns.
    pub fn text_bytes(&self, message_bytes: usize) -> usize {
        self.texts(message_bytes).map(|text| text.text.len()).sum()
    }

    /// Returns the number of earlier messages that a message of `message_bytes` is scored with.
    pub fn message_count(&self, message_bytes: usize) -> usize {
        self.texts(message_bytes).filter(|text| text.begins_message).count()
    }

    /// Returns all findings that were recorded for any of the texts.
    pub(crate) fn findings(&self) -> EarlierFindings {
        let texts = self.instructions.iter().chain(&self.texts);
        texts.map(|text| text.findings).fold(EarlierFindings::default(), EarlierFindings::merge)
    }

    /// Adds findings of a decision about all the texts together.
    pub(super) fn record(&mut self, findings: EarlierFindings) {
        for text in self.instructions.iter_mut().chain(&mut self.texts) {
            text.record(findings);
        }
    }

    /// Sets the instructions of the session.
    pub(super) fn set_instructions(&mut self, texts: Vec<KeptText>) {
        self.instructions = texts;
    }

    /// Appends texts, and drops the oldest ones beyond [`MAX_KEPT_BYTES`].
    pub(super) fn append(&mut self, texts: Vec<KeptText>) {
        for text in texts {
            self.cost = self.cost.saturating_add(text.cost());
            self.texts.push_back(text);
        }
        while self.cost > MAX_KEPT_BYTES {
            let Some(oldest) = self.texts.pop_front() else { return };
            self.cost = self.cost.saturating_sub(oldest.cost());
        }
    }
}

impl KeptText {
    /// Creates a text without recorded findings.
    pub(super) fn new(section: Section, text: String) -> Self {
        Self { section, text, begins_message: false, findings: EarlierFindings::default() }
    }

    /// Adds findings that were recorded for the text.
    pub(super) fn record(&mut self, findings: EarlierFindings) {
        self.findings = self.findings.merge(findings);
    }

    /// Returns the bytes of memory that the text takes.
    fn cost(&self) -> usize {
        self.text.len().saturating_add(size_of::<Self>())
    }
}

/// Maximum bytes of memory that the kept texts of all messages may take.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// Bytes of earlier text that may be scored together with any message, however small the message
/// is.
const EARLIER_ALLOWANCE: usize = 16 << 10;

/// Further bytes of earlier text that may be scored together with a message, per byte that was sent
/// since the earlier text was last scored.
const EARLIER_PER_BYTE: usize = 8;
