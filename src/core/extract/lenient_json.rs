//! A lenient JSON pull reader: takes tokens from any bytes, without allocations and without
//! failure.
//!
//! `serde_json` stops at the first error: a lone surrogate, `NaN`, an invalid UTF-8 byte, the cut
//! at the end of the scan window. Many origins continue (Python's `json` accepts all but the last),
//! so an error would be a way to hide a prompt. This reader records the error and continues. Every
//! step consumes input or ends, so reading takes time linear in the body. Nesting needs no stack:
//! only known structures are entered, everything else is skipped by counting brackets.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::ops::Range;

use crate::text::simd;
use crate::text::simd::{BLOCK_BYTES, Escapes, SimdBlock};

/// A position in JSON text, with the errors found so far.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    position: usize,
    /// Byte offset of `text` in the body.
    base_offset: usize,
    errors: JsonErrors,
}

/// The errors in the text that a [`Reader`] has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonErrors {
    /// Bytes that are not JSON were skipped.
    pub syntax: bool,
    /// The text ended inside a value.
    pub truncated: bool,
}

/// The start of a value. After `Object` the caller calls [`Reader::next_key`] until `None`, after
/// `Array` [`Reader::next_element`] until false.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// `{`
    Object,
    /// `[`
    Array,
    /// A string, still escaped.
    String(RawString<'a>),
    /// A number; NaN if it is malformed.
    Number(f64),
    /// `true` or `false`
    Bool(bool),
    /// `null`, or bytes that are not a value and were skipped.
    Null,
}

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

impl<'a> Reader<'a> {
    /// Creates a reader of `text`, which begins at byte `base_offset` of the body. Ranges of
    /// strings are relative to the body.
    pub fn new(text: &'a [u8], base_offset: usize) -> Self {
        let bom = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { text, position: bom, base_offset, errors: JsonErrors::default() }
    }

    /// Returns the errors found so far.
    pub fn errors(&self) -> JsonErrors {
        self.errors
    }

    /// Returns the errors found since the last call, and clears them.
    pub fn take_errors(&mut self) -> JsonErrors {
        std::mem::take(&mut self.errors)
    }

    /// Returns the byte position in the text, for [`Self::fork_at`].
    pub fn position(&self) -> usize {
        self.position
    }

    /// Returns a second reader at `position` of the text, to read a value after the members that
    /// decide its meaning.
    ///
    /// It starts without errors: the first reader reports the errors of the whole text.
    pub fn fork_at(&self, position: usize) -> Reader<'a> {
        Reader { position: position.min(self.text.len()), errors: JsonErrors::default(), ..*self }
    }

    /// Reads the first token of the next value.
    pub fn next_token(&mut self) -> Token<'a> {
        self.skip_whitespace();
        match self.peek() {
            None => {
                self.errors.truncated = true;
                Token::Null
            }
            Some(b'{') => {
                self.advance(1);
                Token::Object
            }
            Some(b'[') => {
                self.advance(1);
                Token::Array
            }
            Some(b'"') => Token::String(self.read_string()),
            Some(b'-' | b'0'..=b'9') => self.read_number(),
            Some(_) => self.read_literal(),
        }
    }

    /// Reads the next key of the object that was entered; `None` at its end. The value must be read
    /// or skipped before the next call.
    pub fn next_key(&mut self) -> Option<RawString<'a>> {
        match self.next_member(b'}')? {
            b'"' => {
                let key = self.read_string();
                self.skip_colon();
                Some(key)
            }
            _ => {
                self.errors.syntax = true;
                let key = self.unquoted();
                self.skip_colon();
                Some(key)
            }
        }
    }

    /// Moves to the next element of the array that was entered. Returns false at its end. The
    /// element must be read or skipped before the next call.
    pub fn next_element(&mut self) -> bool {
        self.next_member(b']').is_some()
    }

    /// Skips one value.
    pub fn skip(&mut self) {
        match self.next_token() {
            Token::Object | Token::Array => self.skip_rest(),
            _ => {}
        }
    }

    /// Skips the rest of the object or array that was entered, with everything nested in it.
    pub fn skip_rest(&mut self) {
        let mut depth = 1_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.read_string();
                    continue;
                }
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.advance(1);
            if depth == 0 {
                return;
            }
        }
        self.errors.truncated = true;
    }

    /// Skips white space and returns whether the text has ended.
    pub fn at_end(&mut self) -> bool {
        self.skip_whitespace();
        self.peek().is_none()
    }

    /// Records a syntax error that the caller found.
    pub fn record_syntax_error(&mut self) {
        self.errors.syntax = true;
    }

    /// Skips one byte that does not start a value, and records a syntax error.
    pub fn skip_byte(&mut self) {
        self.errors.syntax = true;
        self.advance(1);
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.position).copied()
    }

    fn advance(&mut self, count: usize) {
        self.position = self.position.saturating_add(count).min(self.text.len());
    }

    fn remaining(&self) -> &'a [u8] {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_whitespace(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.advance(1);
        }
    }

    /// Moves to the next member of a container that ends with `close`. Returns the first byte of
    /// the member, or `None` at the end of the container.
    fn next_member(&mut self, close: u8) -> Option<u8> {
        loop {
            self.skip_whitespace();
            match self.peek() {
                None => {
                    self.errors.truncated = true;
                    return None;
                }
                Some(b',') => self.advance(1),
                Some(byte @ (b'}' | b']')) => {
                    self.errors.syntax |= byte != close;
                    self.advance(1);
                    return None;
                }
                Some(b':') => {
                    self.errors.syntax = true;
                    self.advance(1);
                }
                other => return other,
            }
        }
    }

    /// Skips the colon after a key; a missing colon is an error.
    fn skip_colon(&mut self) {
        self.skip_whitespace();
        match self.peek() {
            Some(b':') => self.advance(1),
            None => self.errors.truncated = true,
            Some(_) => self.errors.syntax = true,
        }
    }

    /// Reads a string from its opening quote on.
    fn read_string(&mut self) -> RawString<'a> {
        self.advance(1);
        let text = self.remaining();
        let start = self.position;
        let Some(end) = find_closing_quote(text) else {
            self.position = self.text.len();
            self.errors.truncated = true;
            return self.raw_string(text, start);
        };
        self.advance(end.saturating_add(1));
        self.raw_string(text.get(..end).unwrap_or_default(), start)
    }

    /// Returns a string from its position in the text, relative to the body.
    fn raw_string(&self, bytes: &'a [u8], start: usize) -> RawString<'a> {
        RawString { bytes, start: self.base_offset.saturating_add(start) }
    }

    fn read_number(&mut self) -> Token<'a> {
        let digits = self.unquoted_bytes();
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<f64>().ok());
        self.errors.syntax |= number.is_none();
        Token::Number(number.unwrap_or(f64::NAN))
    }

    fn read_literal(&mut self) -> Token<'a> {
        match self.unquoted_bytes() {
            b"true" => Token::Bool(true),
            b"false" => Token::Bool(false),
            b"null" => Token::Null,
            // Not JSON, but Python writes and reads these.
            b"NaN" | b"Infinity" => Token::Number(f64::NAN),
            _ => {
                self.errors.syntax = true;
                Token::Null
            }
        }
    }

    fn unquoted(&mut self) -> RawString<'a> {
        let start = self.position;
        let bytes = self.unquoted_bytes();
        self.raw_string(bytes, start)
    }

    /// Reads the bytes up to the next structural byte. Returns no bytes at a structural byte.
    fn unquoted_bytes(&mut self) -> &'a [u8] {
        let remaining = self.remaining();
        let is_delimiter =
            |byte: &u8| matches!(byte, b',' | b':' | b'"') || is_bracket(*byte) || is_space(*byte);
        let bytes = remaining
            .get(..remaining.iter().position(is_delimiter).unwrap_or(remaining.len()))
            .unwrap_or_default();
        // An opening bracket in the position of a key is skipped, or the reader makes no progress.
        let consumed = if bytes.is_empty() && matches!(self.peek(), Some(b'{' | b'[')) {
            1
        } else {
            bytes.len()
        };
        self.advance(consumed);
        bytes
    }
}

impl<'a> RawString<'a> {
    /// Creates a string from bytes that are not read from JSON, such as a header. A backslash in
    /// them still starts an escape.
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

    /// Decodes the string into `sink`. Lone surrogates and bytes that are not UTF-8 become U+FFFD,
    /// unknown escapes the character after the backslash.
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

/// A part of a decoded string.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// UTF-8 text without escapes.
    Run(&'a str),
    /// A character that was escaped, or U+FFFD for bytes that are not UTF-8.
    Char(char),
}

impl Sink for String {
    fn push_run(&mut self, run: &str) {
        self.push_str(run);
    }

    fn push_char(&mut self, char: char) {
        self.push(char);
    }
}

/// Calls `emit` with the valid and invalid UTF-8 runs of `bytes`, which begin at byte `start` of
/// the body. Returns the position after them.
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

/// Returns the byte position of the first quote that is not escaped; `None` if there is no such
/// quote.
fn find_closing_quote(text: &[u8]) -> Option<usize> {
    let mut position = 0_usize;
    while position < text.len() {
        let block = SimdBlock::from_prefix(text.get(position..).unwrap_or_default());
        if !block.contains_either(b'"', b'\\') {
            position = position.saturating_add(BLOCK_BYTES);
            continue;
        }
        let quotes = block.equal(b'"');
        let backslashes = block.equal(b'\\');
        let Escapes { escaped, escaping } = simd::find_escapes(backslashes);
        let closing_quotes = quotes & !escaped;
        if closing_quotes != 0 {
            return Some(position.saturating_add(closing_quotes.trailing_zeros() as usize));
        }
        // A backslash that ends the block and escapes the next byte is read again with the next
        // block.
        let is_cut = escaping >> (BLOCK_BYTES - 1) & 1;
        position = position.saturating_add(BLOCK_BYTES).saturating_sub(is_cut as usize);
    }
    None
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

fn is_bracket(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'[' | b']')
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns every string value of `text` at any depth, in order, and the errors.
    fn strings(text: &[u8]) -> (Vec<String>, JsonErrors) {
        fn walk<'a>(reader: &mut Reader<'a>, values: &mut Vec<String>) {
            match reader.next_token() {
                Token::Object => {
                    while reader.next_key().is_some() {
                        walk(reader, values);
                    }
                }
                Token::Array => {
                    while reader.next_element() {
                        walk(reader, values);
                    }
                }
                Token::String(raw) => values.push(raw.text().into_owned()),
                _ => {}
            }
        }
        let mut reader = Reader::new(text, 0);
        let mut values = Vec::new();
        walk(&mut reader, &mut values);
        (values, reader.errors())
    }

    #[test]
    fn reads_valid_and_malformed_json() {
        let syntax = JsonErrors { syntax: true, truncated: false };
        let truncated = JsonErrors { syntax: false, truncated: true };
        let rows: &[(&str, &[u8], &[&str], JsonErrors)] = &[
            (
                "plain",
                br#"{"a":"x","b":["y",1,true,null,"z"]}"#,
                &["x", "y", "z"],
                JsonErrors::default(),
            ),
            (
                "escapes",
                br#"["a\n\"\\\/\u00e9\ud83d\ude00"]"#,
                &["a\n\"\\/\u{e9}\u{1f600}"],
                JsonErrors::default(),
            ),
            ("lone surrogate", br#"["a\ud83dz"]"#, &["a\u{fffd}z"], JsonErrors::default()),
            ("invalid UTF-8", b"[\"a\xffz\"]", &["a\u{fffd}z"], JsonErrors::default()),
            ("byte order mark", b"\xef\xbb\xbf[\"a\"]", &["a"], JsonErrors::default()),
            (
                "NaN before the prompt",
                br#"{"t":NaN,"u":-Infinity,"p":"x"}"#,
                &["x"],
                JsonErrors::default(),
            ),
            ("trailing commas", br#"{"p":["x",],}"#, &["x"], JsonErrors::default()),
            ("unquoted key", br#"{p:"x"}"#, &["x"], syntax),
            ("missing comma", br#"{"a":"x" "b":"y"}"#, &["x", "y"], JsonErrors::default()),
            ("wrong bracket", br#"{"a":["x"}}"#, &["x"], syntax),
            ("cut in a string", br#"{"a":"x","b":"hal"#, &["x", "hal"], truncated),
            ("cut in an escape", br#"["ab\u00"#, &["ab\u{fffd}00"], truncated),
            ("cut after a key", br#"{"a""#, &[], truncated),
            ("brackets for keys", br#"{[[[{{{"#, &[], JsonErrors { syntax: true, truncated: true }),
            ("empty", b"", &[], truncated),
        ];
        for (name, text, expected, errors) in rows {
            assert_eq!(
                strings(text),
                (expected.iter().map(ToString::to_string).collect(), *errors),
                "{name}"
            );
        }
    }

    #[test]
    fn skipping_deep_nesting_does_not_overflow_the_stack() {
        let deep = "[".repeat(2_000_000);
        let mut reader = Reader::new(deep.as_bytes(), 0);
        reader.skip();
        assert!(reader.at_end() && reader.errors().truncated);
    }

    #[test]
    fn a_forked_reader_reads_the_same_text() {
        let mut reader = Reader::new(br#"{"content":"late","role":"user"}"#, 10);
        assert_eq!(reader.next_token(), Token::Object);
        reader.next_key();
        let content = reader.position();
        reader.skip();
        assert_eq!(reader.next_key().map(|key| key.text()).as_deref(), Some("role"));
        let Token::String(late) = reader.fork_at(content).next_token() else { panic!("a string") };
        assert_eq!((late.text().as_ref(), late.range()), ("late", 22..26));
    }
}
