//! Checkpoints of normalisation: up to which byte of the body a byte of the text has come.

/// How far normalisation had come at some place, for those who come back to it: up to here the bytes of
/// the body make the text up to there, whatever follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Bytes of the buffer of normalised text.
    pub text_offset: usize,
    /// Bytes of the body.
    pub source_offset: usize,
}

/// What is marked while text of the body is appended as it stands.
pub(super) struct CheckpointWriter<'m> {
    /// Where marks are kept, if they are.
    checkpoints: Option<&'m mut Vec<Checkpoint>>,
    /// Where in the body the text began.
    source_start: usize,
    /// Where in the body that is which is appended next.
    pub source_offset: usize,
}

impl<'m> CheckpointWriter<'m> {
    /// Of text that begins at some byte of the body.
    pub fn new(checkpoints: &'m mut Vec<Checkpoint>, source_offset: usize) -> Self {
        Self { checkpoints: Some(checkpoints), source_start: source_offset, source_offset }
    }

    /// Of text that stands in no body.
    pub fn disabled() -> Self {
        Self { checkpoints: None, source_start: 0, source_offset: 0 }
    }

    /// Whether the next mark may stand so many bytes further on; behind the start of the text, that is.
    pub fn is_due(&self, ahead: usize) -> bool {
        let Some(checkpoints) = &self.checkpoints else { return false };
        let last = checkpoints
            .last()
            .map_or(0, |last| last.source_offset.saturating_add(CHECKPOINT_INTERVAL));
        self.source_offset.saturating_add(ahead) >= last.max(self.source_start.saturating_add(1))
    }

    /// Marks that so many bytes further on the text goes on from its byte `text`.
    pub fn record(&mut self, text_offset: usize, ahead: usize) {
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.push(Checkpoint {
                text_offset,
                source_offset: self.source_offset.saturating_add(ahead),
            });
        }
    }
}

/// Bytes of the body between two marks, at least.
pub(super) const CHECKPOINT_INTERVAL: usize = 512;
