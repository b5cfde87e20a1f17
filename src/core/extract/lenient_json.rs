//! A lenient JSON pull reader: takes tokens from any bytes, without allocations and without
//! failure.
//!
//! `serde_json` stops at the first error: a lone surrogate, `NaN`, an invalid UTF-8 byte, or the
//! cut at the end of the scan window. Many origins continue: Python's `json`, for example, accepts
//! lone surrogates and `NaN`. So a client could hide a prompt behind an error. This reader records
//! the error and continues. Every step consumes input or ends, so reading takes time linear in the
//! body. Nesting needs no stack, because only known structures are entered, and everything else is
//! skipped by counting brackets.
#![deny(clippy::arithmetic_side_effects)]

use super::raw_string::RawString;
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

/// The first token of a value. After `Object`, the caller calls [`Reader::next_key`] until the
/// result is `None`. After `Array`, the caller calls [`Reader::next_element`] until the result is
/// false.
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

/// The containers that are open while a value is skipped. The kinds of at most the innermost 64 are
/// known.
struct OpenContainers {
    depth: usize,
    /// Bit 0 is the innermost container; a set bit is an array.
    are_arrays: u64,
    /// Number of low bits of `are_arrays` that are known.
    known: u32,
}

impl OpenContainers {
    /// Creates the state after the byte `opening` has opened a container. The kind of the container
    /// is unknown if that byte is not a bracket.
    fn new(opening: Option<u8>) -> Self {
        let is_known = matches!(opening, Some(b'{' | b'['));
        let is_array = opening == Some(b'[');
        Self { depth: 1, are_arrays: is_array.into(), known: is_known.into() }
    }

    fn push(&mut self, is_array: bool) {
        self.depth = self.depth.saturating_add(1);
        self.are_arrays = self.are_arrays << 1 | u64::from(is_array);
        self.known = self.known.saturating_add(1).min(u64::BITS);
    }

    /// Closes the innermost container. Returns whether the container can be of this kind.
    fn pop(&mut self, is_array: bool) -> bool {
        let is_valid = self.innermost_may_be(is_array);
        self.depth = self.depth.saturating_sub(1);
        self.are_arrays >>= 1;
        self.known = self.known.saturating_sub(1);
        is_valid
    }

    /// Returns whether the innermost container is of the given kind, or its kind is unknown.
    fn innermost_may_be(&self, is_array: bool) -> bool {
        self.known == 0 || (self.are_arrays & 1 == 1) == is_array
    }
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
    /// The second reader starts without errors, because the first reader reports the errors of the
    /// whole text.
    pub fn fork_at(&self, position: usize) -> Reader<'a> {
        Reader { position: position.min(self.text.len()), errors: JsonErrors::default(), ..*self }
    }

    /// Reads the first token of the next value. At the end of the text, returns `Null` and records
    /// that the text is truncated.
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
        // If the container was read in part, the last byte is not its opening bracket, and its kind
        // is unknown.
        let last_byte = self.position.checked_sub(1).and_then(|last| self.text.get(last));
        let mut open = OpenContainers::new(last_byte.copied());
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.read_string();
                    continue;
                }
                b'{' | b'[' => open.push(byte == b'['),
                b'}' | b']' => self.errors.syntax |= !open.pop(byte == b']'),
                b':' => self.errors.syntax |= !open.innermost_may_be(false),
                // A backslash outside a string means that a quote is missing, so that strings and
                // the structure between them are interchanged.
                b'\\' => self.errors.syntax = true,
                _ => {}
            }
            self.advance(1);
            if open.depth == 0 {
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

    /// Returns `bytes`, which begin at byte `start` of the text, as a string of the body.
    fn raw_string(&self, bytes: &'a [u8], start: usize) -> RawString<'a> {
        RawString::new(bytes, self.base_offset.saturating_add(start))
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

    /// Reads the bytes up to the next structural byte, quote or white space. Returns no bytes if
    /// the reader is at such a byte.
    fn unquoted_bytes(&mut self) -> &'a [u8] {
        let remaining = self.remaining();
        let is_delimiter =
            |byte: &u8| matches!(byte, b',' | b':' | b'"') || is_bracket(*byte) || is_space(*byte);
        let bytes = remaining
            .get(..remaining.iter().position(is_delimiter).unwrap_or(remaining.len()))
            .unwrap_or_default();
        // Skips an opening bracket in the position of a key, because the reader would make no
        // progress otherwise.
        let consumed = if bytes.is_empty() && matches!(self.peek(), Some(b'{' | b'[')) {
            1
        } else {
            bytes.len()
        };
        self.advance(consumed);
        bytes
    }
}

/// Returns the byte position of the first quote that is not escaped; `None` if there is none.
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
