//! The body: content encodings and character sets, from received bytes to JSON, within limits.

use std::borrow::Cow;
use std::io::Read;

use crate::extract::issues::ReadIssues;
use crate::rules::policy::Limits;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// A decoded body.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    bytes: Cow<'a, [u8]>,
    received_size: usize,
    /// Reasons why parts of the body were not decoded.
    pub issues: ReadIssues,
}

impl<'a> Body<'a> {
    /// Decodes a body: content encodings, then UTF-16 and UTF-32. It never fails; a body that
    /// cannot be decoded is read as received.
    ///
    /// `encoding` is the value of the `Content-Encoding` header.
    pub fn new(received: &'a [u8], encoding: Option<&str>, limits: &Limits) -> Self {
        let mut issues = ReadIssues::default();
        let mut bytes = Cow::Borrowed(received);
        for coding in content_codings(encoding) {
            match decompress(&bytes, &coding, limits.max_decompressed, &mut issues) {
                // Some servers ignore the header, so a body that does not decompress is read as
                // received.
                Some(decompressed) if decompressed.is_empty() => break,
                Some(decompressed) => bytes = Cow::Owned(decompressed),
                None => break,
            }
        }
        if let Some(text) = decode_utf16_32(&bytes) {
            bytes = Cow::Owned(text.into_bytes());
        }
        if bytes.is_empty() {
            issues.insert(ReadIssues::EMPTY_BODY);
        }
        Self { bytes, received_size: received.len(), issues }
    }

    /// Returns the decoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether the decoded bytes are the received bytes.
    pub fn is_unmodified(&self) -> bool {
        matches!(self.bytes, Cow::Borrowed(_))
    }

    /// Returns the number of received bytes.
    pub fn received_size(&self) -> usize {
        self.received_size
    }
}

/// Returns whether the character sets that a content type names are supported.
///
/// Some servers decode any named character set; UTF-7, for example, hides ASCII in other ASCII.
pub fn is_supported_charset(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1).map(str::trim);
    let mut charsets = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    charsets.all(|charset| {
        let charset = charset.to_ascii_lowercase().replace(['-', '_'], "");
        ["utf8", "utf16", "utf32", "usascii", "ascii", "iso88591", "latin1", "windows1252"]
            .iter()
            .any(|supported| {
                charset
                    .strip_prefix(supported)
                    .is_some_and(|suffix| matches!(suffix, "" | "le" | "be" | "mb4"))
            })
    })
}

/// Returns whether a body of this content type may be JSON. Lax servers parse JSON that is declared
/// as text or as a form.
pub fn may_be_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let media_type = media_type.to_ascii_lowercase();
    media_type.is_empty()
        || media_type.contains("json")
        || media_type.starts_with("text/")
        || media_type == "application/x-www-form-urlencoded"
}

/// Returns the encodings to decode, the last applied first, at most two.
fn content_codings(encoding: Option<&str>) -> Vec<String> {
    let names =
        encoding.unwrap_or_default().split(',').map(|name| name.trim().to_ascii_lowercase());
    let mut codings: Vec<String> =
        names.filter(|name| !name.is_empty() && name != "identity").collect();
    codings.reverse();
    codings.truncate(2);
    codings
}

/// Decodes one encoding; `None` if the encoding is unknown or clearly not applied. Output before an
/// error is kept.
fn decompress(
    bytes: &[u8],
    coding: &str,
    max_bytes: usize,
    issues: &mut ReadIssues,
) -> Option<Vec<u8>> {
    match coding {
        "gzip" | "x-gzip" => Some(read_capped(MultiGzDecoder::new(bytes), max_bytes, issues)),
        // RFC 9110 defines `deflate` as zlib's format, but some clients send the bare stream.
        "deflate" if is_zlib(bytes) => {
            Some(read_capped(ZlibDecoder::new(bytes), max_bytes, issues))
        }
        "deflate" if matches!(bytes.trim_ascii_start(), [b'{' | b'[', ..]) => {
            issues.insert(ReadIssues::INFLATE);
            None
        }
        "deflate" => Some(read_capped(DeflateDecoder::new(bytes), max_bytes, issues)),
        _ => {
            issues.insert(ReadIssues::ENCODING);
            None
        }
    }
}

/// Reads at most `max_bytes`. Adds an issue if decoding fails or the output reaches the limit.
fn read_capped(decoder: impl Read, max_bytes: usize, issues: &mut ReadIssues) -> Vec<u8> {
    let mut out = Vec::new();
    let is_complete = decoder.take(max_bytes as u64).read_to_end(&mut out).is_ok();
    if !is_complete || out.len() >= max_bytes {
        issues.insert(ReadIssues::INFLATE);
    }
    out
}

/// Returns whether bytes begin with a zlib header (RFC 1950): method 8 and a valid checksum.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [method, flags, ..]
        if method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)) % 31 == 0)
}

/// Decodes JSON in UTF-16 or UTF-32, which Python accepts. The encoding is recognised by the byte
/// order mark, or by the NULs around the first character, which is ASCII; `None` for any other
/// encoding.
fn decode_utf16_32(bytes: &[u8]) -> Option<String> {
    let text = match bytes {
        [0xff, 0xfe, 0, 0, rest @ ..] => decode_utf32(rest, u32::from_le_bytes),
        [0, 0, 0xfe, 0xff, rest @ ..] => decode_utf32(rest, u32::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes),
        [1..=255, 0, 0, 0, ..] => decode_utf32(bytes, u32::from_le_bytes),
        [0, 0, 0, 1..=255, ..] => decode_utf32(bytes, u32::from_be_bytes),
        [1..=255, 0, _, _, ..] => decode_utf16(bytes, u16::from_le_bytes),
        [0, 1..=255, _, _, ..] => decode_utf16(bytes, u16::from_be_bytes),
        _ => return None,
    };
    Some(text)
}

fn decode_utf16(bytes: &[u8], decode_unit: fn([u8; 2]) -> u16) -> String {
    let (units, _) = bytes.as_chunks();
    let chars = char::decode_utf16(units.iter().map(|bytes| decode_unit(*bytes)));
    chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

fn decode_utf32(bytes: &[u8], decode_unit: fn([u8; 4]) -> u32) -> String {
    let (units, _) = bytes.as_chunks();
    let chars = units.iter().map(|bytes| char::from_u32(decode_unit(*bytes)));
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
    fn encodings_are_decoded() {
        let json = br#"{"prompt":"x"}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(json).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
        raw.write_all(json).unwrap();
        let text = r#"{"prompt":"x"}"#;
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf32 = |encode: fn(u32) -> [u8; 4]| -> Vec<u8> {
            text.chars().flat_map(|char| encode(char.into())).collect()
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
            ("utf-32, little-endian", utf32(u32::to_le_bytes), None),
            ("utf-32, big-endian", utf32(u32::to_be_bytes), None),
            (
                "utf-32 with mark, little-endian",
                [&[0xff, 0xfe, 0, 0][..], &utf32(u32::to_le_bytes)].concat(),
                None,
            ),
            (
                "utf-32 with mark, big-endian",
                [&[0, 0, 0xfe, 0xff][..], &utf32(u32::to_be_bytes)].concat(),
                None,
            ),
        ];
        for (name, received, encoding) in rows {
            let body = Body::new(&received, encoding, &Limits::default());
            assert_eq!(
                (body.bytes(), body.received_size(), body.issues),
                (&json[..], received.len(), ReadIssues::default()),
                "{name}"
            );
        }
    }

    #[test]
    fn unsupported_charsets_are_recognized() {
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
            assert_eq!(is_supported_charset(content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn failed_decompression_is_reported() {
        let limits = Limits { max_decompressed: 1_000, ..Limits::default() };
        let bomb = gzip(&vec![b' '; 1_000_000]);
        let truncated = gzip(br#"{"prompt":"this is cut off"}"#);
        let rows: [(&str, &[u8], &str, ReadIssues, usize); 5] = [
            ("bomb", &bomb, "gzip", ReadIssues::INFLATE, 1_000),
            ("not gzip", b"{hello}", "gzip", ReadIssues::INFLATE, 7),
            ("not deflate", b"{hello}", "deflate", ReadIssues::INFLATE, 7),
            ("unknown", b"hello", "br", ReadIssues::ENCODING, 5),
            ("truncated", &truncated[..truncated.len() - 8], "gzip", ReadIssues::INFLATE, 28),
        ];
        for (name, received, encoding, issues, size) in rows {
            let body = Body::new(received, Some(encoding), &limits);
            assert_eq!((body.issues, body.bytes().len()), (issues, size), "{name}");
        }
    }
}
