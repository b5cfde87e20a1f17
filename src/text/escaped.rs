//! Strings of JSON, unescaped and normalised in one go.
//!
//! What models are sent is mostly ASCII, with escaped line ends and quotes, and indented where it is
//! code. Such text is taken by blocks: masks say which bytes stay, and those are moved together without
//! a branch for each. What is none of that goes the long way, piece by piece.
#![deny(clippy::arithmetic_side_effects)]

use super::letters::Fate;
use super::sources::Trail;
use super::{Case, Mark, Normalizer, beyond_ascii, is_ascii_space};
use crate::bits::{self, BLOCK, Lanes, Mask};
use crate::json::{Raw, Sink, unescape};

/// Bytes that are put together before they are appended.
const BUFFER: usize = 8 * BLOCK;

/// Normalised characters on their way to the text.
struct Buffer {
    bytes: [u8; BUFFER],
    len: usize,
    /// Whether it ends with a space, or would begin with one that is dropped.
    after_space: bool,
}

/// What the bytes at the start of a text are, up to the first that is not taken by blocks.
struct Kinds {
    /// White space, with the backslashes of such as is escaped; and what of it is no space.
    spaces: Mask,
    not_plain: Mask,
    /// Backslashes that escape.
    escaping: Mask,
    /// How many bytes are of these or printable ASCII.
    taken: usize,
    /// Whether what follows is none of this.
    is_over: bool,
}

impl Normalizer<'_> {
    /// Appends a string as it stands in the body, marking now and then how far it has come.
    pub fn escaped(&mut self, raw: Raw<'_>, marks: &mut Vec<Mark>) {
        let mut rest = raw.bytes();
        if self.case == Case::Keep {
            return raw.decode(self);
        }
        let mut source = raw.range().start;
        let mut buffer = Buffer { bytes: [0; BUFFER], len: 0, after_space: false };
        while !rest.is_empty() {
            let taken = self.usual(rest, &mut buffer, Trail::new(marks, source));
            rest = rest.get(taken..).unwrap_or_default();
            let odd = self.odd_escaped(rest, Trail::new(marks, source.saturating_add(taken)));
            rest = rest.get(odd..).unwrap_or_default();
            source = source.saturating_add(taken).saturating_add(odd);
        }
    }

    /// Appends printable ASCII, white space, and the usual escapes; how many bytes those are.
    fn usual(&mut self, text: &[u8], buffer: &mut Buffer, mut trail: Trail<'_>) -> usize {
        if !is_usual(text) {
            return 0;
        }
        self.compose();
        buffer.after_space = self.after_space();
        let mut at = 0_usize;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            // No mark stands within a row of white space, or before what is composed with the character
            // before it: those are met as a whole.
            if trail.is_due(at) && !buffer.after_space && is_usual(rest) {
                trail.mark(self.out.len().saturating_add(buffer.len), at);
            }
            let (taken, is_over) = self.block(rest, buffer);
            at = at.saturating_add(taken);
            if is_over {
                let Some((letter, taken)) = lone_letter(text.get(at..).unwrap_or_default()) else {
                    break;
                };
                buffer.push(letter);
                at = at.saturating_add(taken);
            }
            if buffer.len.saturating_add(BLOCK + char::MAX_LEN_UTF8) > BUFFER {
                self.flush(buffer);
            }
        }
        self.flush(buffer);
        at
    }

    /// Appends what begins in the next block; how many bytes that are, and whether what follows is none
    /// of this.
    fn block(&mut self, text: &[u8], buffer: &mut Buffer) -> (usize, bool) {
        let lanes = Lanes::first(text);
        let kinds = Kinds::of(&lanes);
        if buffer.after_space && kinds.spaces & 1 != 0 {
            self.edges.lead |= buffer.len == 0 && self.out.len() == self.start;
        }
        let kept = kinds.kept(buffer.after_space);
        let mut lower = lanes.lower();
        let mut blanks = kept & kinds.not_plain;
        while blanks != 0 {
            if let Some(byte) = lower.get_mut(blanks.trailing_zeros() as usize) {
                *byte = b' ';
            }
            blanks &= blanks.wrapping_sub(1);
        }
        buffer.take(&lower, kept);
        if let Some(last) = kinds.taken.checked_sub(1) {
            buffer.after_space = kinds.spaces >> last & 1 != 0;
        }
        (kinds.taken, kinds.is_over)
    }

    /// Appends one escape or control character, or a run that is not ASCII; how many bytes that is.
    fn odd_escaped(&mut self, text: &[u8], mut trail: Trail<'_>) -> usize {
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
                let length = mostly_beyond_ascii(text);
                let then = text.get(length).copied();
                let run = text.get(..length).unwrap_or_default();
                if let Ok(run) = simdutf8::basic::from_utf8(run) {
                    self.others(run, then, &mut trail);
                    return length;
                }
                for chunk in run.utf8_chunks() {
                    let is_valid = chunk.invalid().is_empty();
                    self.others(chunk.valid(), then.filter(|_| is_valid), &mut Trail::none());
                    if !is_valid {
                        self.char(char::REPLACEMENT_CHARACTER);
                    }
                }
                length
            }
        }
    }

    fn flush(&mut self, buffer: &mut Buffer) {
        let bytes = buffer.bytes.get(..buffer.len).unwrap_or_default();
        // Whole characters, always.
        self.out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
        buffer.len = 0;
    }
}

impl Kinds {
    fn of(lanes: &Lanes) -> Self {
        let plain = lanes.equal(b' ');
        let backslashes = lanes.equal(b'\\');
        let mut odd = !(lanes.between(b' ', 0x7f) | plain);
        if odd | backslashes == 0 {
            return Self { spaces: plain, not_plain: 0, escaping: 0, taken: BLOCK, is_over: false };
        }
        let mut spaces = plain | lanes.between(0x08, 0x0e);
        odd &= !spaces;
        let (mut escaping, mut cut) = (0, 0);
        if backslashes != 0 {
            let signs = backslashes | lanes.equal(b'"') | lanes.equal(b'/');
            let ends = lanes.equal(b'n') | lanes.equal(b't') | lanes.equal(b'r');
            let escaped;
            (escaped, escaping) = bits::escapes(backslashes);
            odd |= (escaped & !signs & !ends) >> 1;
            spaces |= escaped & ends | (escaped & ends) >> 1;
            // An escape that goes on behind the block is left to the next.
            cut = escaping & 1 << (BLOCK - 1);
        }
        let taken = (odd | cut).trailing_zeros();
        let is_over = odd.checked_shr(taken).is_some_and(|odd| odd & 1 != 0);
        Self { spaces, not_plain: spaces & !plain, escaping, taken: taken as usize, is_over }
    }

    /// The bytes that stay, behind white space or not: of each row of that the first one.
    fn kept(&self, after_space: bool) -> Mask {
        let further = self.spaces & (self.spaces << 1 | u64::from(after_space));
        let taken =
            1_u64.checked_shl(self.taken as u32).map_or(Mask::MAX, |end| end.wrapping_sub(1));
        taken & !further & !(self.escaping & !self.spaces)
    }
}

impl Buffer {
    /// Appends a character that is no space.
    fn push(&mut self, char: char) {
        let mut utf8 = [0; char::MAX_LEN_UTF8];
        let utf8 = char.encode_utf8(&mut utf8).as_bytes();
        if let Some(to) = self.bytes.get_mut(self.len..).and_then(|to| to.get_mut(..utf8.len())) {
            to.copy_from_slice(utf8);
            self.len = self.len.saturating_add(utf8.len());
        }
        self.after_space = false;
    }

    /// Appends those bytes of a block that are kept.
    fn take(&mut self, block: &bits::Block, keep: Mask) {
        let to = self.bytes.get_mut(self.len..).and_then(|to| to.first_chunk_mut::<BLOCK>());
        let Some(to) = to else { return };
        // Without a gap there is nothing to move together.
        let kept = if keep & keep.wrapping_add(1) == 0 {
            *to = *block;
            keep.count_ones() as usize
        } else {
            bits::compact(block, keep, to)
        };
        self.len = self.len.saturating_add(kept);
    }
}

/// A letter or sign outside ASCII among ASCII, as a text begins with it: what it becomes, and its bytes.
fn lone_letter(text: &[u8]) -> Option<(char, usize)> {
    let (char, rest) = match text {
        [first @ 0xc2..=0xdf, second @ 0x80..=0xbf, rest @ ..] => {
            (u32::from(first & 0x1f) << 6 | u32::from(second & 0x3f), rest)
        }
        // Quotes and dashes.
        [0xe2, 0x80, third @ 0x80..=0xbf, rest @ ..] => (0x2000 | u32::from(third & 0x3f), rest),
        _ => return None,
    };
    let is_followed = rest.first().is_some_and(|next| next.is_ascii() && *next != b'\\');
    match Fate::of(char::from_u32(char)?) {
        Fate::Settled(char) | Fate::Letter(char) if is_followed => {
            Some((char, text.len().saturating_sub(rest.len())))
        }
        _ => None,
    }
}

/// How many bytes at the start of a text are outside ASCII, or between such and too few for a block.
fn mostly_beyond_ascii(text: &[u8]) -> usize {
    let mut end = beyond_ascii(text);
    loop {
        let rest = text.get(end..).unwrap_or_default();
        let is_plain = |byte: &&u8| matches!(byte, b' '..=b'~') && **byte != b'\\';
        let few = rest.iter().take(FEW).take_while(is_plain).count();
        let others = beyond_ascii(rest.get(few..).unwrap_or_default());
        if others == 0 {
            return end;
        }
        end = end.saturating_add(few).saturating_add(others);
    }
}

/// Bytes of ASCII that are not worth a block.
const FEW: usize = 3;

/// Whether a text begins with what is appended in blocks.
fn is_usual(text: &[u8]) -> bool {
    match text {
        [b'\\', kind, ..] => matches!(kind, b'n' | b't' | b'r' | b'"' | b'\\' | b'/'),
        [b'\\'] => false,
        [byte, ..] => is_ascii_space(*byte) || byte.is_ascii_graphic(),
        [] => false,
    }
}
