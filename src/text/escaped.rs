//! Strings of JSON, unescaped and normalised in one go.
//!
//! What models are sent is mostly ASCII, with escaped line ends and quotes, and indented where it is
//! code. Blocks of it are looked at as a whole and copied; what is none of that goes the long way, piece
//! by piece.
#![deny(clippy::arithmetic_side_effects)]

use super::{Case, Normalizer, is_ascii_space, plain_prefix};
use crate::bits::{self, BLOCK, Block, Eight};
use crate::json::{Raw, Sink, unescape};

/// Bytes that are copied at once, of which fewer may count.
const COPIED: usize = 16;

/// Bytes that are put together before they are appended: those of a block fit in, whatever it has.
const BUFFER: usize = 4 * BLOCK;

/// Normalised ASCII on its way to the text.
struct Buffer {
    bytes: [u8; BUFFER],
    len: usize,
    /// Whether it ends with a space, or would begin with one that is dropped.
    after_space: bool,
}

impl Normalizer<'_> {
    /// Appends a string as it stands in the body.
    pub fn escaped(&mut self, raw: Raw<'_>) {
        let mut rest = raw.bytes();
        if self.case == Case::Keep {
            return raw.decode(self);
        }
        while !rest.is_empty() {
            let taken = self.plain_escaped(rest);
            rest = rest.get(taken..).unwrap_or_default();
            let taken = self.odd_escaped(rest);
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Appends printable ASCII, white space, and the usual escapes; how many bytes those are.
    fn plain_escaped(&mut self, text: &[u8]) -> usize {
        if !is_usual(text) {
            return 0;
        }
        self.compose();
        let mut buffer = Buffer { bytes: [0; BUFFER], len: 0, after_space: self.after_space() };
        let mut at = 0_usize;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let (taken, is_over) = self.block(rest, &mut buffer);
            at = at.saturating_add(taken);
            if is_over {
                break;
            }
            if taken == BLOCK {
                let rest = text.get(at..).unwrap_or_default();
                at = at.saturating_add(self.long(rest, &mut buffer));
            }
            if buffer.len.saturating_add(2 * BLOCK) > BUFFER {
                self.flush(&mut buffer);
            }
        }
        self.flush(&mut buffer);
        at
    }

    /// Appends what begins in the next block; how many bytes that are, and whether what follows is none
    /// of this.
    fn block(&mut self, text: &[u8], buffer: &mut Buffer) -> (usize, bool) {
        let block = bits::first(text);
        let lower = lower(&block);
        let odd = odd(&block, buffer.after_space);
        let mut at = 0_usize;
        while at < BLOCK {
            let plain = odd.wrapping_shr(at as u32).trailing_zeros() as usize;
            let plain = plain.min(BLOCK.saturating_sub(at));
            buffer.copy(lower.get(at..).unwrap_or_default(), plain);
            at = at.saturating_add(plain);
            if at >= BLOCK {
                break;
            }
            let rest = text.get(at..).unwrap_or_default();
            let taken = match rest {
                [b'\\', b'n' | b't' | b'r', rest @ ..] => self.space_in(buffer, 2, rest),
                [b'\\', sign @ (b'"' | b'\\' | b'/'), ..] => buffer.sign(*sign),
                [byte, rest @ ..] if is_ascii_space(*byte) => self.space_in(buffer, 1, rest),
                _ => return (at, true),
            };
            at = at.saturating_add(taken);
        }
        (at, false)
    }

    /// Appends printable ASCII of any length; how many bytes those are.
    fn long(&mut self, text: &[u8], buffer: &mut Buffer) -> usize {
        if buffer.after_space && text.starts_with(b" ") {
            return 0;
        }
        let length = plain_prefix::<true>(text);
        let plain = text.get(..length).unwrap_or_default();
        if let Some(last) = plain.last() {
            self.flush(buffer);
            self.plain(std::str::from_utf8(plain).unwrap_or_default());
            buffer.after_space = *last == b' ';
        }
        length
    }

    /// Appends one escape or control character, or a run that is not ASCII; how many bytes that is.
    fn odd_escaped(&mut self, text: &[u8]) -> usize {
        match text.first() {
            None => 0,
            Some(b'\\') => {
                let (char, taken) = unescape(text);
                char.into_iter().for_each(|char| self.char(char));
                taken
            }
            Some(byte @ ..0x80) => {
                self.char(char::from(*byte));
                1
            }
            Some(0x80..) => {
                let length = text.iter().take_while(|byte| !byte.is_ascii()).count();
                for chunk in text.get(..length).unwrap_or_default().utf8_chunks() {
                    self.run(chunk.valid());
                    if !chunk.invalid().is_empty() {
                        self.char(char::REPLACEMENT_CHARACTER);
                    }
                }
                length
            }
        }
    }

    /// Appends white space of so many bytes, and what of it follows; how many bytes those are.
    fn space_in(&mut self, buffer: &mut Buffer, bytes: usize, rest: &[u8]) -> usize {
        if buffer.after_space {
            self.edges.lead |= buffer.len == 0 && self.out.len() == self.start;
        } else {
            buffer.push(b' ');
        }
        buffer.after_space = true;
        let more = rest.iter().take_while(|byte| **byte == b' ').count();
        bytes.saturating_add(more)
    }

    fn flush(&mut self, buffer: &mut Buffer) {
        let bytes = buffer.bytes.get(..buffer.len).unwrap_or_default();
        // It is ASCII, always.
        self.out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
        buffer.len = 0;
    }
}

impl Buffer {
    /// Copies so many bytes.
    fn copy(&mut self, bytes: &[u8], count: usize) {
        let mut from = 0_usize;
        while from < count {
            let end = self.len.saturating_add(from);
            let to = self.bytes.get_mut(end..).and_then(|to| to.first_chunk_mut::<COPIED>());
            let own = bytes.get(from..).and_then(|own| own.first_chunk::<COPIED>());
            if let (Some(to), Some(own)) = (to, own) {
                *to = *own;
            }
            from = from.saturating_add(COPIED);
        }
        self.len = self.len.saturating_add(count);
        if let Some(last) = count.checked_sub(1) {
            self.after_space = bytes.get(last) == Some(&b' ');
        }
    }

    /// Appends a sign that was escaped.
    fn sign(&mut self, sign: u8) -> usize {
        self.push(sign);
        self.after_space = false;
        2
    }

    fn push(&mut self, byte: u8) {
        self.bytes.get_mut(self.len).into_iter().for_each(|own| *own = byte);
        self.len = self.len.saturating_add(1);
    }
}

/// Whether a text begins with what is appended in blocks.
fn is_usual(text: &[u8]) -> bool {
    match text {
        [b'\\', kind, ..] => matches!(kind, b'n' | b't' | b'r' | b'"' | b'\\' | b'/'),
        [b'\\'] => false,
        [byte, ..] => is_ascii_space(*byte) || byte.is_ascii_graphic(),
        [] => false,
    }
}

/// Those bytes of a block that are not printable ASCII, or a backslash, or a space after a space.
fn odd(block: &Block, after_space: bool) -> u64 {
    let odd = bits::bits(block, |it| !(it.from(b' ') & !it.from(0x7f) & !it.equal(b'\\')));
    let spaces = bits::bits(block, |it| it.equal(b' '));
    odd | spaces & (spaces << 1 | u64::from(after_space))
}

/// A block without capitals, and room behind it.
fn lower(block: &Block) -> [u8; BLOCK + COPIED] {
    let mut lower = [0; BLOCK + COPIED];
    for (to, bytes) in lower.as_chunks_mut::<8>().0.iter_mut().zip(block.as_chunks::<8>().0) {
        *to = Eight(u64::from_le_bytes(*bytes)).lower().to_le_bytes();
    }
    lower
}
