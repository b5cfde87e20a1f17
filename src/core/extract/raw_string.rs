//! A string of JSON as it was sent: decodes escapes and invalid UTF-8 without failure.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::ops::Range;

/// The bytes between two quotes, with their escapes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawString<'a> {
    bytes: &'a [u8],
    /// Byte offset in the body.
    start: usize,
}

/// A receiver of the pieces of a decoded [`RawString`].
pub trait Sink {
    /// Appends a run without escapes.
    fn push_run(&mut self, run: &str);
    /// Appends a character that was escaped, or U+FFFD for bytes that are not UTF-8.
    fn push_char(&mut self, char: char);
}

/// A part of a decoded string.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// UTF-8 text without escapes.
    Run(&'a str),
    /// A character that was escaped, or U+FFFD for bytes that are not UTF-8.
    Char(char),
}

impl<'a> RawString<'a> {
    /// Creates a string from `bytes`, which begin at byte `start` of the body. A backslash starts
    /// an escape, even if the bytes do not come from JSON.
    pub fn new(bytes: &'a [u8], start: usize) -> Self {
        Self { bytes, start }
    }

    /// Returns the byte range of the string in the body.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.bytes.len())
    }

    /// Returns the part of the string within a byte range of the body.
    pub fn slice(&self, range: Range<usize>) -> RawString<'a> {
        let start = range.start.clamp(self.start, self.range().end);
        let relative =
            start.saturating_sub(self.start)..range.end.max(start).saturating_sub(self.start);
        let bytes =
            self.bytes.get(relative.start..relative.end.min(self.bytes.len())).unwrap_or_default();
        RawString { bytes, start }
    }

    /// Returns the bytes with their escapes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Returns the decoded string; borrowed if it has no escapes and is UTF-8.
    pub fn text(&self) -> Cow<'a, str> {
        if memchr::memchr(b'\\', self.bytes).is_none() {
            return String::from_utf8_lossy(self.bytes);
        }
        let mut text = String::with_capacity(self.bytes.len());
        self.decode(&mut text);
        Cow::Owned(text)
    }

    /// Decodes the string into `sink`. Lone surrogates and bytes that are not UTF-8 become U+FFFD.
    /// An unknown escape becomes the character after the backslash.
    pub fn decode(&self, sink: &mut impl Sink) {
        self.decode_with_ranges(|piece, _| match piece {
            Piece::Run(run) => sink.push_run(run),
            Piece::Char(char) => sink.push_char(char),
        });
    }

    /// Decodes the string and calls `emit` with each piece and its byte range in the body.
    pub fn decode_with_ranges(&self, mut emit: impl FnMut(Piece<'a>, Range<usize>)) {
        let mut position = self.start;
        let decode_escape =
            |escaped: &[u8], position: usize, emit: &mut dyn FnMut(Piece<'a>, Range<usize>)| {
                let (char, consumed) = unescape(escaped);
                let end = position.saturating_add(consumed);
                if let Some(char) = char {
                    emit(Piece::Char(char), position..end);
                }
                consumed
            };
        // Nearly all strings are UTF-8: one check of the whole string saves a check of each run.
        if let Ok(mut text) = std::str::from_utf8(self.bytes) {
            while !text.is_empty() {
                let plain_len = memchr::memchr(b'\\', text.as_bytes()).unwrap_or(text.len());
                let (plain, escaped) = text.split_at_checked(plain_len).unwrap_or((text, ""));
                if !plain.is_empty() {
                    let end = position.saturating_add(plain_len);
                    emit(Piece::Run(plain), position..end);
                    position = end;
                }
                let consumed = decode_escape(escaped.as_bytes(), position, &mut emit);
                position = position.saturating_add(consumed);
                text = escaped.get(consumed..).unwrap_or_default();
            }
            return;
        }
        let mut remaining = self.bytes;
        while !remaining.is_empty() {
            let plain_len = memchr::memchr(b'\\', remaining).unwrap_or(remaining.len());
            let (plain, escaped) =
                remaining.split_at_checked(plain_len).unwrap_or((remaining, &[]));
            position = emit_utf8_chunks(plain, position, &mut emit);
            let consumed = decode_escape(escaped, position, &mut emit);
            position = position.saturating_add(consumed);
            remaining = escaped.get(consumed..).unwrap_or_default();
        }
    }
}

impl Sink for String {
    fn push_run(&mut self, run: &str) {
        self.push_str(run);
    }

    fn push_char(&mut self, char: char) {
        self.push(char);
    }
}

/// Calls `emit` with each run of valid UTF-8 in `bytes`, and with U+FFFD for each invalid sequence.
/// `bytes` begin at byte `start` of the body. Returns the position after them.
fn emit_utf8_chunks<'a>(
    bytes: &'a [u8],
    start: usize,
    emit: &mut impl FnMut(Piece<'a>, Range<usize>),
) -> usize {
    let mut position = start;
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            let end = position.saturating_add(chunk.valid().len());
            emit(Piece::Run(chunk.valid()), position..end);
            position = end;
        }
        if !chunk.invalid().is_empty() {
            let end = position.saturating_add(chunk.invalid().len());
            emit(Piece::Char(char::REPLACEMENT_CHARACTER), position..end);
            position = end;
        }
    }
    position
}

/// Decodes one escape. Returns its character and the number of bytes consumed.
///
/// `escaped` begins with a backslash or is empty. The character is `None` if the text ends after
/// the backslash, or if a byte outside ASCII follows it (only the backslash is dropped).
pub fn unescape(escaped: &[u8]) -> (Option<char>, usize) {
    let Some(selector) = escaped.get(1) else { return (None, escaped.len()) };
    let char = match selector {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'u' => return unescape_unicode(escaped),
        0x80.. => return (None, 1),
        other => char::from(*other),
    };
    (Some(char), 2)
}

/// Decodes `\uXXXX`, or a surrogate pair of two; a lone surrogate becomes U+FFFD.
fn unescape_unicode(escaped: &[u8]) -> (Option<char>, usize) {
    let Some(high) = parse_hex4(escaped, 2) else { return (Some(char::REPLACEMENT_CHARACTER), 2) };
    if let Some(char) = char::from_u32(high) {
        return (Some(char), 6);
    }
    let low = match escaped.get(6..8) {
        Some(b"\\u") => parse_hex4(escaped, 8),
        _ => None,
    };
    match low {
        Some(low @ 0xdc00..=0xdfff) if high < 0xdc00 => {
            let bits = (high & 0x3ff).wrapping_shl(10) | (low & 0x3ff);
            (char::from_u32(bits.wrapping_add(0x1_0000)), 12)
        }
        _ => (Some(char::REPLACEMENT_CHARACTER), 6),
    }
}

fn parse_hex4(bytes: &[u8], start: usize) -> Option<u32> {
    let digits = bytes.get(start..start.saturating_add(4))?;
    digits.iter().try_fold(0_u32, |value, digit| {
        Some(value.wrapping_shl(4) | char::from(*digit).to_digit(16)?)
    })
}
