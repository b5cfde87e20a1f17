//! Texts of the earlier messages of a WebSocket, within limits.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::VecDeque;

use crate::field::Section;
use crate::rules::policy::band::Band;

/// The texts of earlier messages of a connection.
#[derive(Clone, Debug, Default)]
pub struct EarlierTexts {
    /// Instructions of the session: the last ones that a message has set.
    instructions: Vec<KeptText>,
    /// Texts of messages, the oldest first.
    texts: VecDeque<KeptText>,
    /// Costs of `texts`, in bytes.
    cost: usize,
    /// Bytes of text that was not scored together with the rest yet.
    pub(super) new_bytes: usize,
}

/// A text of an earlier message, normalised with its case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptText {
    pub(super) section: Section,
    pub(super) text: String,
    /// Whether it is the first text of its message.
    pub(super) begins_message: bool,
    /// Findings that were recorded for it, alone or together with others.
    recorded: Recorded,
}

/// The findings of the decisions that were recorded about a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The highest band.
    pub band: Band,
    /// Whether an observation had template keys.
    pub has_template: bool,
}

impl Recorded {
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
    /// The bytes of the texts are in proportion to what was sent since they were last scored, so
    /// that a small message does not cost as much as a large one.
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

    /// Returns the bytes of the texts that [`Self::texts`] returns.
    pub fn text_bytes(&self, message_bytes: usize) -> usize {
        self.texts(message_bytes).map(|text| text.text.len()).sum()
    }

    /// Returns the number of earlier messages that a message of `message_bytes` is scored with.
    pub fn message_count(&self, message_bytes: usize) -> usize {
        self.texts(message_bytes).filter(|text| text.begins_message).count()
    }

    /// Returns the findings that were recorded for any of the text.
    pub(crate) fn recorded(&self) -> Recorded {
        let texts = self.instructions.iter().chain(&self.texts);
        texts.map(|text| text.recorded).fold(Recorded::default(), Recorded::merge)
    }

    /// Adds findings that were recorded for all of the text.
    pub(super) fn record(&mut self, recorded: Recorded) {
        for text in self.instructions.iter_mut().chain(&mut self.texts) {
            text.record(recorded);
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
    /// Creates a text of which nothing was recorded.
    pub(super) fn new(section: Section, text: String) -> Self {
        Self { section, text, begins_message: false, recorded: Recorded::default() }
    }

    /// Adds findings that were recorded.
    pub(super) fn record(&mut self, recorded: Recorded) {
        self.recorded = self.recorded.merge(recorded);
    }

    /// Returns the bytes that the text takes.
    fn cost(&self) -> usize {
        self.text.len().saturating_add(size_of::<Self>())
    }
}

/// Bytes of text that are kept of all messages, with what it takes to keep them.
const MAX_KEPT_BYTES: usize = 64 << 10;

/// Bytes of earlier text that any message is scored with.
const EARLIER_ALLOWANCE: usize = 16 << 10;

/// Bytes of earlier text that a message is scored with per byte that was sent since that text was
/// last scored.
const EARLIER_PER_BYTE: usize = 8;
