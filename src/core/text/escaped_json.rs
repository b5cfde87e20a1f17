//! JSON strings, unescaped and normalised in one pass.
//!
//! Prompts are mostly ASCII with escaped line ends and quotes, and indentation if they contain
//! code. The fast path processes such text in blocks: masks select the bytes to keep, which are
//! moved together without a branch per byte. Everything else takes the slow path, piece by piece.
#![deny(clippy::arithmetic_side_effects)]

use super::characters::{
    is_ascii_space, is_invisible, is_space, joins_previous, non_ascii_prefix_len,
};
use super::checkpoint::{Checkpoint, CheckpointWriter};
use super::normalize::{Case, Normalizer};
use super::precomposed::FoldOutcome;
use crate::extract::raw_string::{RawString, Sink, unescape};
use crate::text::simd;
use crate::text::simd::{BLOCK_BYTES, Escapes, Mask, SimdBlock};

/// Bytes that are collected before they are appended to the text.
const BUFFER_BYTES: usize = 8 * BLOCK_BYTES;

/// A buffer of normalised characters.
struct Buffer {
    bytes: [u8; BUFFER_BYTES],
    len: usize,
    /// Whether the next space is dropped, because it follows a space or the start of the value.
    is_after_space: bool,
}

/// The classes of the bytes of a block, up to the first byte that needs the slow path.
struct ByteClasses {
    /// White space, including both bytes of escaped white space.
    whitespace: Mask,
    /// White space other than spaces. Those of its bytes that are kept become spaces.
    non_space_whitespace: Mask,
    /// Backslashes that escape the next byte.
    escaping: Mask,
    /// Number of leading bytes that the fast path handles.
    consumed: usize,
    /// Whether the next byte needs the slow path.
    is_run_end: bool,
}

impl Normalizer<'_> {
    /// Appends a string of the body, decoding its escapes, and records checkpoints.
    ///
    /// With [`Case::Keep`], no checkpoints are recorded, because evidence is located in folded
    /// text.
    pub fn push_escaped(&mut self, raw: RawString<'_>, checkpoints: &mut Vec<Checkpoint>) {
        let mut remaining = raw.bytes();
        if self.case == Case::Keep {
            return raw.decode(self);
        }
        let mut source = raw.range().start;
        let mut buffer = Buffer { bytes: [0; BUFFER_BYTES], len: 0, is_after_space: false };
        while !remaining.is_empty() && !self.is_full() {
            let room = self.limit.saturating_sub(self.out.len()).min(remaining.len());
            let fast_len = self.fast_path(
                remaining.get(..room).unwrap_or_default(),
                &mut buffer,
                CheckpointWriter::new(checkpoints, source),
            );
            remaining = remaining.get(fast_len..).unwrap_or_default();
            let slow_len = self.slow_path(
                remaining,
                CheckpointWriter::new(checkpoints, source.saturating_add(fast_len)),
            );
            remaining = remaining.get(slow_len..).unwrap_or_default();
            source = source.saturating_add(fast_len).saturating_add(slow_len);
        }
    }

    /// Appends printable ASCII, white space and common escapes from the start of `text`. Returns
    /// the number of bytes consumed.
    fn fast_path(
        &mut self,
        text: &[u8],
        buffer: &mut Buffer,
        mut checkpoints: CheckpointWriter<'_>,
    ) -> usize {
        if !is_fast_path(text) {
            return 0;
        }
        self.compose();
        buffer.is_after_space = self.is_after_space();
        let mut position = 0_usize;
        loop {
            let remaining = text.get(position..).unwrap_or_default();
            // No checkpoint splits a run of white space, or a character from a mark that composes
            // with it: each must be normalised as a whole.
            if checkpoints.is_due(position) && !buffer.is_after_space && is_fast_path(remaining) {
                checkpoints.record(self.out.len().saturating_add(buffer.len), position);
            }
            let (consumed, is_run_end) = self.push_block(remaining, buffer);
            position = position.saturating_add(consumed);
            if is_run_end {
                let Some((letter, letter_len)) =
                    lone_letter(text.get(position..).unwrap_or_default())
                else {
                    break;
                };
                buffer.push(letter);
                position = position.saturating_add(letter_len);
            }
            if buffer.len.saturating_add(BLOCK_BYTES + char::MAX_LEN_UTF8) > BUFFER_BYTES {
                self.flush(buffer);
            }
        }
        self.flush(buffer);
        position
    }

    /// Appends the leading bytes of the next block. Returns the number of bytes consumed, and
    /// whether the next byte needs the slow path.
    fn push_block(&mut self, text: &[u8], buffer: &mut Buffer) -> (usize, bool) {
        let simd_block = SimdBlock::from_prefix(text);
        let classes = ByteClasses::classify(&simd_block);
        if buffer.is_after_space && classes.whitespace & 1 != 0 {
            self.trimmed.leading |= buffer.len == 0 && self.out.len() == self.value_start;
        }
        let keep = classes.kept_mask(buffer.is_after_space);
        let mut lower = simd_block.to_ascii_lowercase();
        let mut rewritten = keep & classes.non_space_whitespace;
        while rewritten != 0 {
            if let Some(byte) = lower.get_mut(rewritten.trailing_zeros() as usize) {
                *byte = b' ';
            }
            rewritten &= rewritten.wrapping_sub(1);
        }
        buffer.push_kept(&lower, keep);
        if let Some(last) = classes.consumed.checked_sub(1) {
            buffer.is_after_space = classes.whitespace >> last & 1 != 0;
        }
        (classes.consumed, classes.is_run_end)
    }

    /// Appends a run of escapes, a control character, or a run outside ASCII. Returns the number of
    /// bytes consumed.
    fn slow_path(&mut self, text: &[u8], mut checkpoints: CheckpointWriter<'_>) -> usize {
        match text.first() {
            None => 0,
            Some(b'\\') => self.push_escapes(text, checkpoints),
            Some(byte @ ..0x80) => {
                self.push_char(char::from(*byte));
                1
            }
            Some(0x80..) => {
                let length = mostly_non_ascii_prefix_len(text);
                let next_byte = text.get(length).copied();
                let run = text.get(..length).unwrap_or_default();
                if let Ok(run) = simdutf8::basic::from_utf8(run) {
                    self.push_non_ascii_run(run, next_byte, &mut checkpoints);
                    return length;
                }
                for chunk in run.utf8_chunks() {
                    if self.is_full() {
                        break;
                    }
                    let is_valid = chunk.invalid().is_empty();
                    self.push_non_ascii_run(
                        chunk.valid(),
                        next_byte.filter(|_| is_valid),
                        &mut CheckpointWriter::disabled(),
                    );
                    if !is_valid {
                        self.push_char(char::REPLACEMENT_CHARACTER);
                    }
                }
                length
            }
        }
    }

    /// Appends the escapes at the start of a text, up to one that the fast path handles. Returns
    /// the number of bytes consumed.
    fn push_escapes(&mut self, text: &[u8], mut checkpoints: CheckpointWriter<'_>) -> usize {
        let mut position = 0_usize;
        loop {
            let (char, consumed) = unescape(text.get(position..).unwrap_or_default());
            if let Some(char) = char {
                // Text that consists of escapes needs checkpoints, too.
                if checkpoints.is_due(position)
                    && !is_space(char)
                    && !is_invisible(char)
                    && !joins_previous(char)
                {
                    self.checkpoint_if_due(&mut checkpoints, position);
                }
                self.push_char(char);
            }
            position = position.saturating_add(consumed);
            let remaining = text.get(position..).unwrap_or_default();
            if !remaining.starts_with(b"\\") || is_fast_path(remaining) || self.is_full() {
                return position;
            }
        }
    }

    /// Appends the buffer to the text.
    fn flush(&mut self, buffer: &mut Buffer) {
        let bytes = buffer.bytes.get(..buffer.len).unwrap_or_default();
        // The buffer always holds whole characters.
        self.out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
        buffer.len = 0;
    }
}

impl ByteClasses {
    /// Classifies the bytes of a block that begins outside an escape.
    fn classify(block: &SimdBlock) -> Self {
        let spaces = block.equal(b' ');
        let backslashes = block.equal(b'\\');
        let mut stops = !(block.between(b' ', 0x7f) | spaces);
        if stops | backslashes == 0 {
            return Self {
                whitespace: spaces,
                non_space_whitespace: 0,
                escaping: 0,
                consumed: BLOCK_BYTES,
                is_run_end: false,
            };
        }
        let mut whitespace = spaces | block.between(0x08, 0x0e);
        stops &= !whitespace;
        let mut escaping = 0;
        let mut split_escape = 0;
        if backslashes != 0 {
            let literal_escapes = backslashes | block.equal(b'"') | block.equal(b'/');
            let whitespace_escapes = block.equal(b'n') | block.equal(b't') | block.equal(b'r');
            let Escapes { escaped, escaping: escaping_backslashes } =
                simd::find_escapes(backslashes);
            escaping = escaping_backslashes;
            stops |= (escaped & !literal_escapes & !whitespace_escapes) >> 1;
            whitespace |= escaped & whitespace_escapes | (escaped & whitespace_escapes) >> 1;
            // An escape across the end of the block is left to the next block.
            split_escape = escaping & 1 << (BLOCK_BYTES - 1);
        }
        let consumed = (stops | split_escape).trailing_zeros();
        let is_run_end = stops.checked_shr(consumed).is_some_and(|bits| bits & 1 != 0);
        Self {
            whitespace,
            non_space_whitespace: whitespace & !spaces,
            escaping,
            consumed: consumed as usize,
            is_run_end,
        }
    }

    /// Returns the mask of the bytes to keep. Of a run of white space, only the first byte is kept,
    /// or no byte if the run continues white space before the block. Of an escape, all but the
    /// backslash is kept.
    fn kept_mask(&self, is_after_space: bool) -> Mask {
        let repeated = self.whitespace & (self.whitespace << 1 | u64::from(is_after_space));
        let consumed_mask =
            1_u64.checked_shl(self.consumed as u32).map_or(Mask::MAX, |end| end.wrapping_sub(1));
        consumed_mask & !repeated & !(self.escaping & !self.whitespace)
    }
}

impl Buffer {
    /// Appends a character that is not a space.
    fn push(&mut self, char: char) {
        let mut utf8 = [0; char::MAX_LEN_UTF8];
        let utf8 = char.encode_utf8(&mut utf8).as_bytes();
        if let Some(dst) =
            self.bytes.get_mut(self.len..).and_then(|free| free.get_mut(..utf8.len()))
        {
            dst.copy_from_slice(utf8);
            self.len = self.len.saturating_add(utf8.len());
        }
        self.is_after_space = false;
    }

    /// Appends the bytes of a block that `keep` selects.
    fn push_kept(&mut self, block: &simd::Block, keep: Mask) {
        let dst =
            self.bytes.get_mut(self.len..).and_then(|free| free.first_chunk_mut::<BLOCK_BYTES>());
        let Some(dst) = dst else { return };
        // The kept bytes are a prefix of the block, so they need not be moved.
        let added = if keep & keep.wrapping_add(1) == 0 {
            *dst = *block;
            keep.count_ones() as usize
        } else {
            simd::compress(block, keep, dst)
        };
        self.len = self.len.saturating_add(added);
    }
}

/// Returns the folded form of a letter or sign outside ASCII at the start of a text, and its length
/// in bytes in the text. Returns `None` unless the folded form is one character, and ASCII other
/// than an escape follows.
fn lone_letter(text: &[u8]) -> Option<(char, usize)> {
    let (char, remaining) = match text {
        [first @ 0xc2..=0xdf, second @ 0x80..=0xbf, remaining @ ..] => {
            (u32::from(first & 0x1f) << 6 | u32::from(second & 0x3f), remaining)
        }
        // Quotation marks and dashes.
        [0xe2, 0x80, third @ 0x80..=0xbf, remaining @ ..] => {
            (0x2000 | u32::from(third & 0x3f), remaining)
        }
        _ => return None,
    };
    let is_before_ascii = remaining.first().is_some_and(|next| next.is_ascii() && *next != b'\\');
    match FoldOutcome::from_char(char::from_u32(char)?) {
        FoldOutcome::Final(char) | FoldOutcome::UnlessJoined(char) if is_before_ascii => {
            Some((char, text.len().saturating_sub(remaining.len())))
        }
        _ => None,
    }
}

/// Returns how many leading bytes are outside ASCII, or in a short ASCII gap between such bytes.
fn mostly_non_ascii_prefix_len(text: &[u8]) -> usize {
    let mut end = non_ascii_prefix_len(text);
    loop {
        let remaining = text.get(end..).unwrap_or_default();
        let is_plain = |byte: &&u8| matches!(byte, b' '..=b'~') && **byte != b'\\';
        let ascii_len = remaining.iter().take(MAX_ASCII_GAP_BYTES).take_while(is_plain).count();
        let non_ascii_len = non_ascii_prefix_len(remaining.get(ascii_len..).unwrap_or_default());
        if non_ascii_len == 0 {
            return end;
        }
        end = end.saturating_add(ascii_len).saturating_add(non_ascii_len);
    }
}

/// Maximum bytes of an ASCII gap that the slow path handles, because two switches of the path would
/// cost more.
const MAX_ASCII_GAP_BYTES: usize = 3;

/// Returns whether a text begins with bytes that the fast path handles.
fn is_fast_path(text: &[u8]) -> bool {
    match text {
        [b'\\', kind, ..] => matches!(kind, b'n' | b't' | b'r' | b'"' | b'\\' | b'/'),
        [b'\\'] => false,
        [byte, ..] => is_ascii_space(*byte) || byte.is_ascii_graphic(),
        [] => false,
    }
}
