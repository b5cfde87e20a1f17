//! Checkpoints of normalisation: pairs of offsets in the body and in the normalised text.

/// A point from which normalisation can resume: the body before `source_offset` produces exactly
/// the text before `text_offset`, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Byte offset in the buffer of normalised text.
    pub text_offset: usize,
    /// Byte offset in the body.
    pub source_offset: usize,
}

/// A writer of checkpoints while a string of the body is normalised.
pub(super) struct CheckpointWriter<'m> {
    /// List of checkpoints; `None` if none are recorded.
    checkpoints: Option<&'m mut Vec<Checkpoint>>,
    /// Byte offset in the body from which the next checkpoint is due.
    next_due: usize,
    /// Byte offset in the body of the text that is appended next.
    pub source_offset: usize,
}

impl<'m> CheckpointWriter<'m> {
    /// Creates a writer for text that begins at byte `source_offset` of the body.
    pub fn new(checkpoints: &'m mut Vec<Checkpoint>, source_offset: usize) -> Self {
        let last = checkpoints
            .last()
            .map_or(0, |last| last.source_offset.saturating_add(CHECKPOINT_INTERVAL));
        let next_due = last.max(source_offset.saturating_add(1));
        Self { checkpoints: Some(checkpoints), next_due, source_offset }
    }

    /// Creates a writer that records nothing, for text that is not in a body.
    pub fn disabled() -> Self {
        Self { checkpoints: None, next_due: usize::MAX, source_offset: 0 }
    }

    /// Returns whether a checkpoint `ahead` bytes further on is far enough from the last
    /// checkpoint. No checkpoint is due at the start of the text.
    pub fn is_due(&self, ahead: usize) -> bool {
        self.source_offset.saturating_add(ahead) >= self.next_due
    }

    /// Records a checkpoint: the body `ahead` bytes further on continues the text at `text_offset`.
    pub fn record(&mut self, text_offset: usize, ahead: usize) {
        if let Some(checkpoints) = &mut self.checkpoints {
            let source_offset = self.source_offset.saturating_add(ahead);
            checkpoints.push(Checkpoint { text_offset, source_offset });
            self.next_due = source_offset.saturating_add(CHECKPOINT_INTERVAL);
        }
    }
}

/// Minimum bytes of the body between two checkpoints.
pub(super) const CHECKPOINT_INTERVAL: usize = 512;
