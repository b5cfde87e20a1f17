//! Follows the structure of JSON that is received in chunks, so that reading can resume in its
//! middle.
//!
//! If a body is too large for memory, only the beginning and the end are read. The end alone is not
//! valid JSON, because it begins inside objects, lists and possibly a string. A [`JsonPosition`]
//! knows these open levels, and writes JSON text that opens them again.
#![deny(clippy::arithmetic_side_effects)]

/// A position in JSON text: the open objects, lists and string.
#[derive(Clone, Debug, Default)]
pub struct JsonPosition {
    /// Open objects and lists, the outermost first.
    levels: Vec<Level>,
    /// Number of open levels beyond those in `levels`, which holds at most [`MAX_LEVELS`].
    deeper: usize,
    /// Whether the position is inside a string.
    in_string: bool,
    /// Whether the byte before the position escapes the next byte of a string.
    is_escaped: bool,
    /// Bytes of the current or last string, which may be a key. Incomplete if
    /// `is_last_string_long`.
    last_string: Vec<u8>,
    /// Whether the last string is longer than [`MAX_KEY_BYTES`], and therefore not a known key.
    is_last_string_long: bool,
    /// Number of outermost levels that have stayed open since the last mark.
    kept_levels: usize,
    /// Whether a string has ended since the last mark.
    has_left_string: bool,
}

/// An open object or list.
#[derive(Clone, Debug)]
struct Level {
    is_object: bool,
    /// The key of the member that is being read, with its escapes. Empty in a list, and if the key
    /// is longer than [`MAX_KEY_BYTES`].
    key: Vec<u8>,
    /// Whether the position is in the value of a member.
    in_value: bool,
}

impl Level {
    /// Writes the text that opens the level, up to the value that is being read.
    fn open(&self, text: &mut Vec<u8>) {
        text.push(if self.is_object { b'{' } else { b'[' });
        self.write_key(text);
    }

    fn write_key(&self, text: &mut Vec<u8>) {
        if self.is_object && self.in_value {
            text.push(b'"');
            text.extend_from_slice(&self.key);
            text.extend_from_slice(b"\":");
        }
    }

    fn expects_key(&self) -> bool {
        self.is_object && !self.in_value
    }
}

impl JsonPosition {
    /// Moves the position over `bytes`.
    pub fn advance(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let consumed =
                if self.in_string { self.read_string(bytes) } else { self.read_structure(bytes) };
            bytes = bytes.get(consumed..).unwrap_or_default();
        }
    }

    /// Returns the text that opens the objects, lists and string that are open at the position.
    /// This text followed by the rest of the JSON is valid JSON, unless more than `MAX_LEVELS`
    /// levels are open.
    pub fn opening(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.levels.iter().for_each(|level| level.open(&mut text));
        text.extend(std::iter::repeat_n(b'[', self.deeper.min(MAX_LEVELS)));
        self.open_string(&mut text);
        text
    }

    /// Marks this position as the start of bytes to leave out.
    /// [`replacement_for_gap`](Self::replacement_for_gap) compares a later position with the mark.
    pub fn mark(&mut self) {
        (self.kept_levels, self.has_left_string) = (self.levels.len(), false);
    }

    /// Returns the text that replaces the bytes left out between `before` (a copy of this position
    /// at its last mark) and this position. The text closes the levels that are open at `before`,
    /// and opens the levels that are open here. Returns `None` if more than `MAX_LEVELS` levels are
    /// open at either position.
    pub fn replacement_for_gap(&self, before: &Self) -> Option<Vec<u8>> {
        if before.deeper > 0 || self.deeper > 0 {
            return None;
        }
        let mut text = Vec::new();
        if before.in_string && before.is_escaped {
            text.push(b'\\');
        }
        if before.in_string && self.in_string && !self.has_left_string {
            text.extend_from_slice(b"\\n");
            text.extend(self.is_escaped.then_some(b'\\'));
            return Some(text);
        }
        if before.in_string {
            let is_key = before.levels.last().is_some_and(Level::expects_key);
            text.extend_from_slice(if is_key { b"\":null" } else { b"\"" });
        }
        let closed = before.levels.get(self.kept_levels..).unwrap_or_default();
        text.extend(closed.iter().rev().map(|level| if level.is_object { b'}' } else { b']' }));
        let (kept, opened) = self.levels.split_at_checked(self.kept_levels)?;
        text.push(if kept.is_empty() { b'\n' } else { b',' });
        if let Some(level) = kept.last() {
            level.write_key(&mut text);
        }
        opened.iter().for_each(|level| level.open(&mut text));
        self.open_string(&mut text);
        Some(text)
    }

    fn open_string(&self, text: &mut Vec<u8>) {
        if self.in_string {
            text.push(b'"');
            text.extend(self.is_escaped.then_some(b'\\'));
        }
    }

    /// Reads a part of a string: one escaped byte, or all bytes up to and including the next quote
    /// or backslash. Returns the number of bytes consumed, at least 1.
    fn read_string(&mut self, bytes: &[u8]) -> usize {
        if std::mem::take(&mut self.is_escaped) {
            self.keep(bytes.get(..1).unwrap_or_default());
            return 1;
        }
        let run = memchr::memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        self.keep(bytes.get(..run).unwrap_or_default());
        match bytes.get(run) {
            None => run,
            Some(b'\\') => {
                self.keep(b"\\");
                self.is_escaped = true;
                run.saturating_add(1)
            }
            Some(_) => {
                self.in_string = false;
                self.has_left_string = true;
                run.saturating_add(1)
            }
        }
    }

    /// Appends bytes to `last_string`. If they do not fit, marks the string as long instead.
    fn keep(&mut self, bytes: &[u8]) {
        if self.last_string.len().saturating_add(bytes.len()) <= MAX_KEY_BYTES {
            self.last_string.extend_from_slice(bytes);
        } else {
            self.is_last_string_long = true;
        }
    }

    /// Reads up to and including the next bracket, quote, colon or comma. Returns the number of
    /// bytes consumed, at least 1.
    fn read_structure(&mut self, bytes: &[u8]) -> usize {
        let is_structural =
            |byte: &u8| matches!(byte, b'"' | b'{' | b'[' | b'}' | b']' | b':' | b',');
        let Some(run) = bytes.iter().position(is_structural) else { return bytes.len() };
        match bytes.get(run) {
            Some(b'"') => {
                self.in_string = true;
                self.last_string.clear();
                self.is_last_string_long = false;
            }
            Some(b'{') => self.open(true),
            Some(b'[') => self.open(false),
            Some(b'}' | b']') => match self.deeper.checked_sub(1) {
                Some(deeper) => self.deeper = deeper,
                None => {
                    self.levels.pop();
                    self.kept_levels = self.kept_levels.min(self.levels.len());
                }
            },
            Some(b':') if self.deeper == 0 => {
                let key = if self.is_last_string_long { &[][..] } else { &self.last_string };
                if let Some(level) = self.levels.last_mut() {
                    level.key.clear();
                    level.key.extend_from_slice(key);
                    level.in_value = true;
                }
            }
            Some(b',') if self.deeper == 0 => {
                if let Some(level) = self.levels.last_mut() {
                    level.in_value = false;
                }
            }
            _ => {}
        }
        run.saturating_add(1)
    }

    fn open(&mut self, is_object: bool) {
        if self.levels.len() < MAX_LEVELS && self.deeper == 0 {
            self.levels.push(Level { is_object, key: Vec::new(), in_value: false });
        } else {
            self.deeper = self.deeper.saturating_add(1);
        }
    }
}

/// Maximum number of open levels that are known exactly. Messages are five levels deep.
const MAX_LEVELS: usize = 32;

/// Maximum bytes of a key that is kept. All keys that hold text are shorter.
const MAX_KEY_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::lenient_json::Reader;

    fn opening_after(text: &str) -> String {
        let mut position = JsonPosition::default();
        position.advance(text.as_bytes());
        String::from_utf8(position.opening()).unwrap()
    }

    #[test]
    fn the_opening_names_what_is_open() {
        let rows = [
            ("", ""),
            (r#"{"a":1"#, r#"{"a":"#),
            (r#"{"a":1,"#, "{"),
            (r#"{"a":1,"b"#, r#"{""#),
            (r#"{"messages":[{"role":"user","content":"one"#, r#"{"messages":[{"content":""#),
            (
                r#"{"messages":[{"role":"user","content":[{"text":"a\"#,
                r#"{"messages":[{"content":[{"text":"\"#,
            ),
            (r#"{"a":{"b":"]}"},"c":["#, r#"{"c":["#),
            (r#"}}]{"a":"#, r#"{"a":"#),
            (r#"{"a\"b":["#, r#"{"a\"b":["#),
        ];
        for (text, opening) in rows {
            assert_eq!(opening_after(text), opening, "{text}");
        }
        let long = format!(r#"{{"{}":["#, "k".repeat(MAX_KEY_BYTES + 1));
        assert_eq!(opening_after(&long), r#"{"":["#);
    }

    #[test]
    fn a_seam_closes_what_was_open_and_opens_what_is() {
        // (text before, text left out, replacement)
        let rows = [
            (r#"{"prompt":"one "#, "two ", r"\n"),
            (r#"{"prompt":"one \"#, r"n two \", r"\\n\"),
            (r#"{"prompt":"one"#, r#" ","model":"#, r#"","model":"#),
            (r#"{"mod"#, r#"el":"m","prompt":"x"#, r#"":null,"prompt":""#),
            (
                r#"{"messages":[{"content":"a"#,
                r#"b"},{"role":"user","content":"c"#,
                r#""},{"content":""#,
            ),
            (r#"{"messages":[{"content":"a"#, r#""}],"input":"c"#, r#""}],"input":""#),
            (r#"{"a":[1"#, ",2", ","),
            ("{\"a\":1}\n{\"b\":", "2}\n{\"c\":", "}\n{\"c\":"),
        ];
        for (before, left_out, replacement) in rows {
            let mut position = JsonPosition::default();
            position.advance(before.as_bytes());
            position.mark();
            let marked = position.clone();
            position.advance(left_out.as_bytes());
            let text =
                position.replacement_for_gap(&marked).map(|text| String::from_utf8(text).unwrap());
            assert_eq!(text.as_deref(), Some(replacement), "{before} {left_out}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = opening_after(&"[".repeat(1_000_000));
        assert!(deep.len() <= 2 * MAX_LEVELS);
        assert_eq!(opening_after(&format!("{}{}", "[".repeat(1_000), "]".repeat(999))), "[");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            failure_persistence: None,
            ..Default::default()
        })]

        /// For every position in JSON, the opening followed by the remaining text is valid JSON,
        /// however the text is split into chunks.
        #[test]
        fn the_rest_is_json_again(
            key in "[a-z\"\\\\]{0,8}",
            text in ".{0,20}",
            cut in 0.0..1.0_f64,
        ) {
            let body = serde_json::json!({
                key.clone(): [{ "role": "user", key: [text, { "x": [1, "\u{e9}\n"] }] }, true],
                "last": [[]],
            });
            let body = body.to_string().into_bytes();
            let at = (body.len() as f64 * cut) as usize;
            let (before, after) = body.split_at(at);
            let mut position = JsonPosition::default();
            for byte in before {
                position.advance(std::slice::from_ref(byte));
            }
            let mut at_once = JsonPosition::default();
            at_once.advance(before);
            proptest::prop_assert_eq!(position.opening(), at_once.opening());
            let mut rest = position.opening();
            rest.extend_from_slice(after);
            let mut reader = Reader::new(&rest, 0);
            reader.skip();
            let rest_text = String::from_utf8_lossy(&rest);
            proptest::prop_assert!(!reader.errors().truncated, "{}", rest_text);
        }

        /// JSON in which a replacement replaces a part is valid JSON.
        #[test]
        fn json_without_a_part_is_json_again(
            key in "[a-z\"\\\\]{0,8}",
            text in ".{0,20}",
            cuts in (0.0..1.0_f64, 0.0..1.0_f64),
        ) {
            let body = serde_json::json!({
                key.clone(): [{ "role": "user", key: [text, { "x": [1, "\u{e9}\n"] }] }, true],
                "last": [[]],
            });
            let body = body.to_string().into_bytes();
            let at = |cut: f64| (body.len() as f64 * cut) as usize;
            let (start, end) = (at(cuts.0.min(cuts.1)), at(cuts.0.max(cuts.1)));
            let mut position = JsonPosition::default();
            position.advance(&body[..start]);
            position.mark();
            let before = position.clone();
            position.advance(&body[start..end]);
            let replacement = position.replacement_for_gap(&before).unwrap();
            let joined = [&body[..start], &replacement, &body[end..]].concat();
            let mut reader = Reader::new(&joined, 0);
            reader.skip();
            let joined_text = String::from_utf8_lossy(&joined);
            proptest::prop_assert!(!reader.errors().truncated, "{}", joined_text);
            proptest::prop_assert_eq!(reader.position(), joined.len(), "{}", joined_text);
        }
    }
}
