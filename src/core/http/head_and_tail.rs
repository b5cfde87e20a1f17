//! The output of decompression: the whole output, or the beginning and the end of long JSON.
#![deny(clippy::arithmetic_side_effects)]

use crate::extract::issues::ReadIssues;
use crate::extract::json_position::JsonPosition;

/// The limits of decompression.
#[derive(Clone, Copy, Debug)]
pub(super) struct OutputLimits {
    /// Maximum bytes that are kept.
    pub(super) max_bytes: usize,
    /// Maximum bytes that are decompressed in total. If the output is JSON and longer than
    /// `max_bytes`, only its beginning and its end are kept. 0 if another encoding follows, because
    /// decoding it needs the whole output.
    pub(super) max_total_bytes: usize,
}

/// Decompressed bytes, within limits.
///
/// If the output is longer than the limit and is JSON, its middle is left out: the second half of
/// the buffer becomes a ring buffer, which holds the last bytes.
pub(super) struct Output {
    bytes: Vec<u8>,
    /// Maximum bytes that are kept.
    pub(super) max_bytes: usize,
    /// Maximum bytes that are decompressed.
    max_total_bytes: usize,
    /// Bytes that were decompressed.
    pub(super) total: usize,
    /// Whether the input was decoded to its end.
    pub(super) is_complete: bool,
    /// Whether the end of long output is kept.
    pub(super) keeps_end: bool,
    /// The end, if the output is longer than the limit.
    end: Option<End>,
}

/// The end of long output: a ring in the second half of the buffer.
struct End {
    /// Index of the ring's first byte in the buffer.
    start: usize,
    /// Index of the oldest byte, which is overwritten next.
    oldest: usize,
    /// Structure of the JSON before the bytes that were left out.
    before: JsonPosition,
    /// Structure of the JSON before the oldest byte of the ring.
    position: JsonPosition,
    /// Bytes that were decompressed, but are not in the ring yet.
    chunk: Vec<u8>,
}

impl Output {
    pub(super) fn new(limits: OutputLimits) -> Self {
        let OutputLimits { max_bytes, max_total_bytes } = limits;
        Self {
            bytes: Vec::new(),
            max_bytes,
            max_total_bytes,
            total: 0,
            is_complete: true,
            keeps_end: true,
            end: None,
        }
    }

    /// Cuts output at the limit, instead of keeping the end of the output.
    pub(super) fn leave_out_end(&mut self) {
        self.keeps_end = false;
    }

    /// Returns the number of bytes that may be appended before the limit is reached.
    pub(super) fn room(&self) -> usize {
        self.max_bytes.saturating_sub(self.bytes.len())
    }

    /// Reserves memory for `count` bytes, up to the limit. Otherwise the buffer would grow later,
    /// and the old and the new buffer would both take memory.
    pub(super) fn reserve(&mut self, count: usize) {
        if self.end.is_none() {
            self.bytes.reserve_exact(count.min(self.room()));
        }
    }

    /// Lets `read` fill a slice, and appends the bytes that it has written. Returns their number;
    /// `None` if `read` failed, or if the output is full.
    pub(super) fn read_chunk(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Option<usize> {
        let free = self.room().min(CHUNK_BYTES);
        if self.end.is_some() || free == 0 {
            return self.read_into_ring(read);
        }
        let start = self.bytes.len();
        let read_len = read(self.grow(free));
        self.bytes.truncate(start.saturating_add(read_len.unwrap_or(0)));
        self.total = self.total.saturating_add(read_len.unwrap_or(0));
        read_len
    }

    fn read_into_ring(&mut self, read: impl FnOnce(&mut [u8]) -> Option<usize>) -> Option<usize> {
        if self.end.is_none() {
            self.end = Some(self.begin_ring()?);
        }
        if self.total >= self.max_total_bytes {
            return None;
        }
        let end = self.end.as_mut()?;
        let read_len = read(&mut end.chunk)?;
        self.total = self.total.saturating_add(read_len);
        end.push(&mut self.bytes, read_len);
        Some(read_len)
    }

    /// Makes the second half of the buffer a ring, with room for the text that replaces the
    /// middle. Returns `None` if the output is not JSON in UTF-8, or if its end is not kept.
    fn begin_ring(&mut self) -> Option<End> {
        let is_json = matches!(self.bytes.trim_ascii_start(), [b'{' | b'[', ..])
            && !self.bytes.iter().take(4).any(|byte| *byte == 0);
        let start = self.bytes.len() / 2;
        if !self.keeps_end || !is_json || start <= MAX_REPLACEMENT_BYTES {
            return None;
        }
        let mut position = JsonPosition::default();
        position.advance(self.bytes.get(..start)?);
        position.mark();
        let before = position.clone();
        let mut chunk =
            self.bytes.split_off(self.bytes.len().saturating_sub(MAX_REPLACEMENT_BYTES));
        let chunk_len = chunk.len();
        chunk.resize(CHUNK_BYTES, 0);
        let mut end = End { start, oldest: start, before, position, chunk };
        end.push(&mut self.bytes, chunk_len);
        Some(end)
    }

    /// Appends `count` zeros and returns them. The buffer at most doubles, up to the limit, because
    /// a larger buffer would exceed the memory of a request.
    fn grow(&mut self, count: usize) -> &mut [u8] {
        let start = self.bytes.len();
        let end = start.saturating_add(count);
        if self.bytes.capacity() < end {
            let capacity = start.saturating_mul(2).min(self.max_bytes).max(end);
            self.bytes.reserve_exact(capacity.saturating_sub(start));
        }
        self.bytes.resize(end, 0);
        self.bytes.get_mut(start..).unwrap_or_default()
    }

    /// Returns the bytes, and the issues of decompression. If the middle was left out, the text of
    /// [`JsonPosition::replacement_for_gap`] replaces it, so that the result is valid JSON. If
    /// there is no such text, only the beginning is returned.
    pub(super) fn finish(mut self) -> (Vec<u8>, ReadIssues) {
        let Some(end) = self.end.take() else {
            let complete = ReadIssues::empty();
            return (self.bytes, if self.is_complete { complete } else { ReadIssues::INFLATE });
        };
        let Some(replacement) = end.position.replacement_for_gap(&end.before) else {
            self.bytes.truncate(end.start);
            return (self.bytes, ReadIssues::INFLATE);
        };
        let ring = self.bytes.get_mut(end.start..).unwrap_or_default();
        ring.rotate_left(end.oldest.saturating_sub(end.start));
        self.bytes.splice(end.start..end.start, replacement);
        (self.bytes, if self.is_complete { ReadIssues::WINDOW } else { ReadIssues::INFLATE })
    }
}

impl End {
    /// Moves the first `count` bytes of the chunk into the ring.
    fn push(&mut self, buffer: &mut [u8], count: usize) {
        let mut chunk = self.chunk.get(..count).unwrap_or(&self.chunk);
        while !chunk.is_empty() {
            let free = buffer.len().saturating_sub(self.oldest);
            let (piece, rest) = chunk.split_at_checked(free).unwrap_or((chunk, &[]));
            let end = self.oldest.saturating_add(piece.len());
            let Some(place) = buffer.get_mut(self.oldest..end) else { return };
            self.position.advance(place);
            place.copy_from_slice(piece);
            self.oldest = if end == buffer.len() { self.start } else { end };
            chunk = rest;
        }
    }
}

/// Bytes that are decompressed at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// Bytes of the buffer that are reserved for the replacement of the middle, which opens at most 32
/// levels with keys of 64 bytes.
const MAX_REPLACEMENT_BYTES: usize = 4 << 10;
