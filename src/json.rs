//! A tolerant JSON reader: pulls tokens out of any bytes without allocating and without failing.
//!
//! `serde_json` stops at the first thing it dislikes: a lone surrogate, `NaN`, an invalid UTF-8 byte,
//! the cut at the end of the scan window. Many origins read on (Python's `json` takes all but the
//! last), so stopping would be a way to hide a prompt. This reader notes the trouble and goes on.
//! Every step consumes input or ends, so it takes time linear in the body; nesting costs no stack
//! because only known shapes are entered and everything else is skipped by counting brackets.
#![deny(clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::ops::Range;

use crate::bits::{self, BLOCK, Lanes};

/// A position in JSON text, and what was found wrong with the text so far.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    base: usize,
    broken: Broken,
}

/// What was wrong with the text that a [`Reader`] went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// Something that is not JSON was passed over.
    pub syntax: bool,
    /// The text ended inside a value.
    pub truncated: bool,
}

/// The start of a value. After `Object` the caller drains [`Reader::key`], after `Array`
/// [`Reader::element`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// `{`
    Object,
    /// `[`
    Array,
    /// A string, still escaped.
    String(Raw<'a>),
    /// A number; NaN where the digits make no number.
    Number(f64),
    /// `true` or `false`
    Bool(bool),
    /// `null`, and whatever else was passed over in the place of a value.
    Null,
}

/// The bytes between two quotes, escapes and all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Raw<'a> {
    bytes: &'a [u8],
    start: usize,
}

/// What a [`Raw`] string decodes into, piece by piece.
pub trait Sink {
    /// A run without escapes.
    fn run(&mut self, run: &str);
    /// One character that was escaped, or U+FFFD in the place of bytes that are not UTF-8.
    fn char(&mut self, char: char);
}

impl<'a> Reader<'a> {
    /// Reads `text`, which begins at byte `base` of the body; positions are reported in the body.
    pub fn new(text: &'a [u8], base: usize) -> Self {
        let bom = if text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        Self { text, at: bom, base, broken: Broken::default() }
    }

    /// What was wrong with the text so far.
    pub fn broken(&self) -> Broken {
        self.broken
    }

    /// What was wrong since this was last asked.
    pub fn take_broken(&mut self) -> Broken {
        std::mem::take(&mut self.broken)
    }

    /// Marks the reader's position, for a value that can only be understood later.
    pub fn position(&self) -> usize {
        self.at
    }

    /// A second reader that stands at `position` of the same text. It keeps no score of trouble:
    /// the first reader has been, or will be, there too.
    pub fn at(&self, position: usize) -> Reader<'a> {
        Reader { at: position.min(self.text.len()), broken: Broken::default(), ..*self }
    }

    /// Takes the next value's first token.
    pub fn token(&mut self) -> Token<'a> {
        self.space();
        match self.peek() {
            None => {
                self.broken.truncated = true;
                Token::Null
            }
            Some(b'{') => {
                self.step(1);
                Token::Object
            }
            Some(b'[') => {
                self.step(1);
                Token::Array
            }
            Some(b'"') => Token::String(self.string()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => self.word(),
        }
    }

    /// The next key of the object that was entered; `None` when it has ended. The value must be
    /// taken (or skipped) before the next call.
    pub fn key(&mut self) -> Option<Raw<'a>> {
        match self.next_member(b'}')? {
            b'"' => {
                let key = self.string();
                self.colon();
                Some(key)
            }
            _ => {
                self.broken.syntax = true;
                let key = self.bare();
                self.colon();
                Some(key)
            }
        }
    }

    /// Whether the array that was entered has another element. The element must be taken (or
    /// skipped) before the next call.
    pub fn element(&mut self) -> bool {
        self.next_member(b']').is_some()
    }

    /// Passes over one value.
    pub fn skip(&mut self) {
        match self.token() {
            Token::Object | Token::Array => self.leave(),
            _ => {}
        }
    }

    /// Passes over the rest of the object or array that was entered, whatever is nested in it.
    pub fn leave(&mut self) {
        let mut depth = 1_usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    self.string();
                    continue;
                }
                b'{' | b'[' => depth = depth.saturating_add(1),
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.step(1);
            if depth == 0 {
                return;
            }
        }
        self.broken.truncated = true;
    }

    /// Whether nothing but white space is left.
    pub fn at_end(&mut self) -> bool {
        self.space();
        self.peek().is_none()
    }

    /// Notes that the text held something that could not be read as what it had to be.
    pub fn mark_syntax(&mut self) {
        self.broken.syntax = true;
    }

    /// Passes over one byte that is no value, nor the start of one.
    pub fn pass_one(&mut self) {
        self.broken.syntax = true;
        self.step(1);
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn step(&mut self, by: usize) {
        self.at = self.at.saturating_add(by).min(self.text.len());
    }

    fn rest(&self) -> &'a [u8] {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.step(1);
        }
    }

    /// Moves to the next member of a container that `close` ends; its first byte, or `None` once
    /// the container has ended.
    fn next_member(&mut self, close: u8) -> Option<u8> {
        loop {
            self.space();
            match self.peek() {
                None => {
                    self.broken.truncated = true;
                    return None;
                }
                Some(b',') => self.step(1),
                Some(byte @ (b'}' | b']')) => {
                    self.broken.syntax |= byte != close;
                    self.step(1);
                    return None;
                }
                Some(b':') => {
                    self.broken.syntax = true;
                    self.step(1);
                }
                other => return other,
            }
        }
    }

    fn colon(&mut self) {
        self.space();
        match self.peek() {
            Some(b':') => self.step(1),
            None => self.broken.truncated = true,
            Some(_) => self.broken.syntax = true,
        }
    }

    /// Takes a string; the reader stands on its opening quote.
    fn string(&mut self) -> Raw<'a> {
        self.step(1);
        let (text, start) = (self.rest(), self.at);
        let Some(end) = end_of_string(text) else {
            self.at = self.text.len();
            self.broken.truncated = true;
            return self.raw(text, start);
        };
        self.step(end.saturating_add(1));
        self.raw(text.get(..end).unwrap_or_default(), start)
    }

    fn raw(&self, bytes: &'a [u8], start: usize) -> Raw<'a> {
        Raw { bytes, start: self.base.saturating_add(start) }
    }

    fn number(&mut self) -> Token<'a> {
        let digits = self.bare_bytes();
        let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<f64>().ok());
        self.broken.syntax |= number.is_none();
        Token::Number(number.unwrap_or(f64::NAN))
    }

    fn word(&mut self) -> Token<'a> {
        match self.bare_bytes() {
            b"true" => Token::Bool(true),
            b"false" => Token::Bool(false),
            b"null" => Token::Null,
            // Not JSON, but Python writes and reads them.
            b"NaN" | b"Infinity" => Token::Number(f64::NAN),
            _ => {
                self.broken.syntax = true;
                Token::Null
            }
        }
    }

    fn bare(&mut self) -> Raw<'a> {
        let start = self.at;
        let bytes = self.bare_bytes();
        self.raw(bytes, start)
    }

    /// Takes everything up to the next structural byte; empty where the reader stands on one.
    fn bare_bytes(&mut self) -> &'a [u8] {
        let rest = self.rest();
        let ends =
            |byte: &u8| matches!(byte, b',' | b':' | b'"') || is_bracket(*byte) || is_space(*byte);
        let bytes =
            rest.get(..rest.iter().position(ends).unwrap_or(rest.len())).unwrap_or_default();
        // An opening bracket may stand where a key should be: pass over it, or no progress is made.
        let progress = if bytes.is_empty() && matches!(self.peek(), Some(b'{' | b'[')) {
            1
        } else {
            bytes.len()
        };
        self.step(progress);
        bytes
    }
}

impl<'a> Raw<'a> {
    /// A string that came from elsewhere than JSON (a header, a path) and has no escapes to undo
    /// unless it holds a backslash.
    pub fn new(bytes: &'a [u8], start: usize) -> Self {
        Self { bytes, start }
    }

    /// Where the string stands in the body.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start.saturating_add(self.bytes.len())
    }

    /// What of the string stands in a range of the body.
    pub fn part(&self, range: Range<usize>) -> Raw<'a> {
        let start = range.start.clamp(self.start, self.range().end);
        let own = start.saturating_sub(self.start)..range.end.max(start).saturating_sub(self.start);
        let bytes = self.bytes.get(own.start..own.end.min(self.bytes.len())).unwrap_or_default();
        Raw { bytes, start }
    }

    /// The escaped bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The decoded string; borrowed where it has no escapes and is UTF-8.
    pub fn text(&self) -> Cow<'a, str> {
        if memchr::memchr(b'\\', self.bytes).is_none() {
            return String::from_utf8_lossy(self.bytes);
        }
        let mut text = String::with_capacity(self.bytes.len());
        self.decode(&mut text);
        Cow::Owned(text)
    }

    /// Decodes the string into `sink`. Lone surrogates and bytes that are not UTF-8 arrive as
    /// U+FFFD, unknown escapes as the character after the backslash.
    pub fn decode(&self, sink: &mut impl Sink) {
        self.pieces(|piece, _| match piece {
            Piece::Run(run) => sink.run(run),
            Piece::Char(char) => sink.char(char),
        });
    }

    /// Decodes the string, telling each piece with its range in the body.
    pub fn pieces(&self, mut each: impl FnMut(Piece<'a>, Range<usize>)) {
        let mut at = self.start;
        let escape = |escaped: &[u8], at: usize, each: &mut dyn FnMut(Piece<'a>, Range<usize>)| {
            let (char, taken) = unescape(escaped);
            let end = at.saturating_add(taken);
            if let Some(char) = char {
                each(Piece::Char(char), at..end);
            }
            taken
        };
        // Nearly all strings are UTF-8: seen once for the whole, it need not be seen for each run.
        if let Ok(mut text) = std::str::from_utf8(self.bytes) {
            while !text.is_empty() {
                let run = memchr::memchr(b'\\', text.as_bytes()).unwrap_or(text.len());
                let (plain, escaped) = text.split_at_checked(run).unwrap_or((text, ""));
                if !plain.is_empty() {
                    let end = at.saturating_add(run);
                    each(Piece::Run(plain), at..end);
                    at = end;
                }
                let taken = escape(escaped.as_bytes(), at, &mut each);
                at = at.saturating_add(taken);
                text = escaped.get(taken..).unwrap_or_default();
            }
            return;
        }
        let mut rest = self.bytes;
        while !rest.is_empty() {
            let run = memchr::memchr(b'\\', rest).unwrap_or(rest.len());
            let (plain, escaped) = rest.split_at_checked(run).unwrap_or((rest, &[]));
            at = runs(plain, at, &mut each);
            let taken = escape(escaped, at, &mut each);
            at = at.saturating_add(taken);
            rest = escaped.get(taken..).unwrap_or_default();
        }
    }
}

/// A part of a decoded string.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// UTF-8 text that stands in the body as it is.
    Run(&'a str),
    /// A character that stood there escaped, or U+FFFD for bytes that are no UTF-8.
    Char(char),
}

impl Sink for String {
    fn run(&mut self, run: &str) {
        self.push_str(run);
    }

    fn char(&mut self, char: char) {
        self.push(char);
    }
}

/// Tells the valid runs and the invalid places of `bytes`; the position behind them.
fn runs<'a>(
    bytes: &'a [u8],
    start: usize,
    each: &mut impl FnMut(Piece<'a>, Range<usize>),
) -> usize {
    let mut at = start;
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            let end = at.saturating_add(chunk.valid().len());
            each(Piece::Run(chunk.valid()), at..end);
            at = end;
        }
        if !chunk.invalid().is_empty() {
            let end = at.saturating_add(chunk.invalid().len());
            each(Piece::Char(char::REPLACEMENT_CHARACTER), at..end);
            at = end;
        }
    }
    at
}

/// Where the first quote stands in a text that is not escaped.
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0_usize;
    while at < text.len() {
        let lanes = Lanes::first(text.get(at..).unwrap_or_default());
        if !lanes.has(b'"', b'\\') {
            at = at.saturating_add(BLOCK);
            continue;
        }
        let (quotes, backslashes) = (lanes.equal(b'"'), lanes.equal(b'\\'));
        let (escaped, escaping) = bits::escapes(backslashes);
        let ends = quotes & !escaped;
        if ends != 0 {
            return Some(at.saturating_add(ends.trailing_zeros() as usize));
        }
        // An escape that goes on behind the block is looked at with the next.
        let is_cut = escaping >> (BLOCK - 1) & 1;
        at = at.saturating_add(BLOCK).saturating_sub(is_cut as usize);
    }
    None
}

/// The character that `escaped` (which begins with a backslash, or is empty) stands for, and how
/// many bytes it took.
pub fn unescape(escaped: &[u8]) -> (Option<char>, usize) {
    let Some(kind) = escaped.get(1) else { return (None, escaped.len()) };
    let char = match kind {
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

fn unescape_unicode(escaped: &[u8]) -> (Option<char>, usize) {
    let Some(high) = hex4(escaped, 2) else { return (Some(char::REPLACEMENT_CHARACTER), 2) };
    if let Some(char) = char::from_u32(high) {
        return (Some(char), 6);
    }
    let low = match escaped.get(6..8) {
        Some(b"\\u") => hex4(escaped, 8),
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

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at.saturating_add(4))?;
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

    /// Every string value of `text` at any depth, in order, and what was broken.
    fn strings(text: &[u8]) -> (Vec<String>, Broken) {
        fn walk<'a>(reader: &mut Reader<'a>, found: &mut Vec<String>) {
            match reader.token() {
                Token::Object => {
                    while reader.key().is_some() {
                        walk(reader, found);
                    }
                }
                Token::Array => {
                    while reader.element() {
                        walk(reader, found);
                    }
                }
                Token::String(raw) => found.push(raw.text().into_owned()),
                _ => {}
            }
        }
        let mut reader = Reader::new(text, 0);
        let mut found = Vec::new();
        walk(&mut reader, &mut found);
        (found, reader.broken())
    }

    #[test]
    fn reads_what_is_json_and_what_nearly_is() {
        let syntax = Broken { syntax: true, truncated: false };
        let truncated = Broken { syntax: false, truncated: true };
        let rows: &[(&str, &[u8], &[&str], Broken)] = &[
            (
                "plain",
                br#"{"a":"x","b":["y",1,true,null,"z"]}"#,
                &["x", "y", "z"],
                Broken::default(),
            ),
            (
                "escapes",
                br#"["a\n\"\\\/\u00e9\ud83d\ude00"]"#,
                &["a\n\"\\/\u{e9}\u{1f600}"],
                Broken::default(),
            ),
            ("lone surrogate", br#"["a\ud83dz"]"#, &["a\u{fffd}z"], Broken::default()),
            ("invalid UTF-8", b"[\"a\xffz\"]", &["a\u{fffd}z"], Broken::default()),
            ("byte order mark", b"\xef\xbb\xbf[\"a\"]", &["a"], Broken::default()),
            (
                "NaN before the prompt",
                br#"{"t":NaN,"u":-Infinity,"p":"x"}"#,
                &["x"],
                Broken::default(),
            ),
            ("trailing commas", br#"{"p":["x",],}"#, &["x"], Broken::default()),
            ("unquoted key", br#"{p:"x"}"#, &["x"], syntax),
            ("missing comma", br#"{"a":"x" "b":"y"}"#, &["x", "y"], Broken::default()),
            ("wrong bracket", br#"{"a":["x"}}"#, &["x"], syntax),
            ("cut in a string", br#"{"a":"x","b":"hal"#, &["x", "hal"], truncated),
            ("cut in an escape", br#"["ab\u00"#, &["ab\u{fffd}00"], truncated),
            ("cut after a key", br#"{"a""#, &[], truncated),
            ("brackets for keys", br#"{[[[{{{"#, &[], Broken { syntax: true, truncated: true }),
            ("empty", b"", &[], truncated),
        ];
        for (name, text, expected, broken) in rows {
            assert_eq!(
                strings(text),
                (expected.iter().map(ToString::to_string).collect(), *broken),
                "{name}"
            );
        }
    }

    #[test]
    fn skipping_needs_no_stack() {
        let deep = "[".repeat(2_000_000);
        let mut reader = Reader::new(deep.as_bytes(), 0);
        reader.skip();
        assert!(reader.at_end() && reader.broken().truncated);
    }

    #[test]
    fn a_second_reader_sees_the_same_text() {
        let mut reader = Reader::new(br#"{"content":"late","role":"user"}"#, 10);
        assert_eq!(reader.token(), Token::Object);
        reader.key();
        let content = reader.position();
        reader.skip();
        assert_eq!(reader.key().map(|key| key.text()).as_deref(), Some("role"));
        let Token::String(late) = reader.at(content).token() else { panic!("a string") };
        assert_eq!((late.text().as_ref(), late.range()), ("late", 22..26));
    }
}
