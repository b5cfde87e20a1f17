//! From the bytes on the wire to readable JSON: content encodings and character codings, under caps.

use std::borrow::Cow;
use std::io::Read;

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use serde::{Deserialize, Serialize};

use super::Trouble;

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a body that are scored; the rest streams on unread.
    pub window: usize,
    /// Bytes that a compressed body may grow to for scoring.
    pub inflated: usize,
    /// Entries of an upload that are scored.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // 2 MiB hold a context of about half a million tokens; Wasm memory holds a few of them.
        Self { window: 2 << 20, inflated: 4 << 20, entries: 10_000 }
    }
}

/// A body made readable.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    bytes: Cow<'a, [u8]>,
    size: usize,
    /// What got lost on the way.
    pub trouble: Trouble,
}

impl<'a> Body<'a> {
    /// Undoes the content encoding (the value of the header, if any), UTF-16 and UTF-32.
    pub fn new(sent: &'a [u8], encoding: Option<&str>, limits: &Limits) -> Self {
        let mut trouble = Trouble::default();
        let mut bytes = Cow::Borrowed(sent);
        for layer in layers(encoding) {
            match inflate(&bytes, &layer, limits.inflated, &mut trouble) {
                // Some servers ignore the header: what cannot be inflated is read as it is.
                Some(inflated) if inflated.is_empty() => break,
                Some(inflated) => bytes = Cow::Owned(inflated),
                None => break,
            }
        }
        if let Some(text) = wide(&bytes) {
            bytes = Cow::Owned(text.into_bytes());
        }
        if bytes.is_empty() {
            trouble.add(Trouble::EMPTY);
        }
        Self { bytes, size: sent.len(), trouble }
    }

    /// The readable bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the readable bytes are those that came.
    pub fn is_as_sent(&self) -> bool {
        matches!(self.bytes, Cow::Borrowed(_))
    }

    /// How many bytes came.
    pub fn size(&self) -> usize {
        self.size
    }
}

/// Whether the coding of characters that a content type names is one that is read. Some servers
/// decode whatever is named (UTF-7 hides ASCII in ASCII).
pub fn is_read(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1).map(str::trim);
    let mut charsets = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    charsets.all(|charset| {
        let charset = charset.to_ascii_lowercase().replace(['-', '_'], "");
        ["utf8", "utf16", "utf32", "usascii", "ascii", "iso88591", "latin1", "windows1252"]
            .iter()
            .any(|known| {
                charset
                    .strip_prefix(known)
                    .is_some_and(|end| matches!(end, "" | "le" | "be" | "mb4"))
            })
    })
}

/// The encodings to undo, last applied first. More than two make no sense and are not undone.
fn layers(encoding: Option<&str>) -> Vec<String> {
    let names =
        encoding.unwrap_or_default().split(',').map(|name| name.trim().to_ascii_lowercase());
    let mut layers: Vec<String> =
        names.filter(|name| !name.is_empty() && name != "identity").collect();
    layers.reverse();
    layers.truncate(2);
    layers
}

/// Undoes one encoding; `None` where that cannot be done. What comes out before an error counts.
fn inflate(bytes: &[u8], layer: &str, cap: usize, trouble: &mut Trouble) -> Option<Vec<u8>> {
    match layer {
        "gzip" | "x-gzip" => Some(drain(MultiGzDecoder::new(bytes), cap, trouble)),
        // By the RFC this is zlib's format; some send the bare stream.
        "deflate" if is_zlib(bytes) => Some(drain(ZlibDecoder::new(bytes), cap, trouble)),
        "deflate" if matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..]) => {
            trouble.add(Trouble::INFLATE);
            None
        }
        "deflate" => Some(drain(DeflateDecoder::new(bytes), cap, trouble)),
        _ => {
            trouble.add(Trouble::ENCODING);
            None
        }
    }
}

fn drain(decoder: impl Read, cap: usize, trouble: &mut Trouble) -> Vec<u8> {
    let mut out = Vec::new();
    let whole = decoder.take(cap as u64).read_to_end(&mut out).is_ok();
    if !whole || out.len() >= cap {
        trouble.add(Trouble::INFLATE);
    }
    out
}

fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..]
        if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

/// JSON in UTF-16 or UTF-32, by its byte order mark or the NULs around its first character, which is
/// ASCII: Python reads both.
fn wide(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        [0xff, 0xfe, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes),
        [0, 0, 0xfe, 0xff, rest @ ..] => utf32(rest, u32::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [1..=255, 0, 0, 0, ..] => utf32(bytes, u32::from_le_bytes),
        [0, 0, 0, 1..=255, ..] => utf32(bytes, u32::from_be_bytes),
        [1..=255, 0, _, _, ..] => utf16(bytes, u16::from_le_bytes),
        [0, 1..=255, _, _, ..] => utf16(bytes, u16::from_be_bytes),
        _ => return None,
    };
    Some(text)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (units, _) = bytes.as_chunks();
    let chars = char::decode_utf16(units.iter().map(|bytes| unit(*bytes)));
    chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

fn utf32(bytes: &[u8], unit: fn([u8; 4]) -> u32) -> String {
    let (units, _) = bytes.as_chunks();
    let chars = units.iter().map(|bytes| char::from_u32(unit(*bytes)));
    chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn encodings_are_undone() {
        let json = br#"{"prompt":"x"}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(json).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(json).unwrap();
        let text = r#"{"prompt":"x"}"#;
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf32 = |bytes: fn(u32) -> [u8; 4]| -> Vec<u8> {
            text.chars().flat_map(|char| bytes(char.into())).collect()
        };
        let rows: [(&str, Vec<u8>, Option<&str>); 12] = [
            ("plain", json.to_vec(), None),
            ("identity", json.to_vec(), Some("identity")),
            ("gzip", gzip(json), Some("gzip")),
            ("twice", gzip(&gzip(json)), Some("gzip, X-GZIP")),
            ("zlib", zlib.finish().unwrap(), Some("deflate")),
            ("bare deflate", raw.finish().unwrap(), Some("deflate")),
            ("utf-16", utf16.clone(), None),
            ("utf-16 with mark", [&[0xff, 0xfe][..], &utf16].concat(), None),
            ("utf-32, little end first", utf32(u32::to_le_bytes), None),
            ("utf-32, big end first", utf32(u32::to_be_bytes), None),
            (
                "utf-32 with mark, little end first",
                [&[0xff, 0xfe, 0, 0][..], &utf32(u32::to_le_bytes)].concat(),
                None,
            ),
            (
                "utf-32 with mark, big end first",
                [&[0, 0, 0xfe, 0xff][..], &utf32(u32::to_be_bytes)].concat(),
                None,
            ),
        ];
        for (name, sent, encoding) in rows {
            let body = Body::new(&sent, encoding, &Limits::default());
            assert_eq!(
                (body.bytes(), body.size(), body.trouble),
                (&json[..], sent.len(), Trouble::default()),
                "{name}"
            );
        }
    }

    #[test]
    fn charsets_that_are_read() {
        let rows = [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("application/json;charset=\"UTF-8\"", true),
            ("application/json; charset=utf-16le", true),
            ("text/plain; charset=ISO-8859-1", true),
            ("multipart/form-data; boundary=x", true),
            ("application/json; charset=utf-7", false),
            ("application/json; charset=x; charset=utf-8", false),
        ];
        for (content_type, expected) in rows {
            assert_eq!(is_read(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn what_cannot_be_undone_is_said() {
        let limits = Limits { inflated: 1_000, ..Limits::default() };
        let bomb = gzip(&vec![b' '; 1_000_000]);
        let cut = gzip(br#"{"prompt":"this is cut off"}"#);
        let rows: [(&str, &[u8], &str, Trouble, usize); 5] = [
            ("bomb", &bomb, "gzip", Trouble::INFLATE, 1_000),
            ("not gzip", b"{hello}", "gzip", Trouble::INFLATE, 7),
            ("not deflate", b"{hello}", "deflate", Trouble::INFLATE, 7),
            ("unknown", b"hello", "br", Trouble::ENCODING, 5),
            ("cut", &cut[..cut.len() - 8], "gzip", Trouble::INFLATE, 28),
        ];
        for (name, sent, encoding, trouble, size) in rows {
            let body = Body::new(sent, Some(encoding), &limits);
            assert_eq!((body.trouble, body.bytes().len()), (trouble, size), "{name}");
        }
    }
}
