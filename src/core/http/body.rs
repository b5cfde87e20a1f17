//! The body: content encodings and character sets, from received bytes to JSON, within limits.

use std::borrow::Cow;

use super::compression::decompress;
use super::head_and_tail::OutputLimits;
use crate::extract::issues::ReadIssues;
use crate::rules::policy::Limits;
use crate::work::{WorkBudget, max_inflated_in_all};

/// A decoded body.
#[derive(Clone, Debug)]
pub struct Body<'a> {
    bytes: Cow<'a, [u8]>,
    received_size: usize,
    work: WorkBudget,
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
        let max_bytes = max_inflated(received.len(), limits);
        let codings = content_codings(encoding);
        // A body that is compressed although no header says so is decompressed, too.
        let unlabelled = if codings.is_empty() { Some(String::new()) } else { None };
        let mut codings = codings.into_iter().chain(unlabelled).peekable();
        while let Some(coding) = codings.next() {
            // If another coding follows, all of the output is needed.
            let max_total_bytes =
                if codings.peek().is_none() { max_inflated_in_all(received.len()) } else { 0 };
            let output_limits = OutputLimits { max_bytes, max_total_bytes };
            match decompress(&bytes, &coding, output_limits, &mut issues) {
                // Some servers ignore the header, so a body that does not decompress is read as
                // received.
                Some(decompressed) if decompressed.is_empty() => break,
                Some(decompressed) => bytes = Cow::Owned(decompressed),
                None => break,
            }
        }
        let max_text = match bytes {
            Cow::Borrowed(_) => usize::MAX,
            Cow::Owned(_) => max_bytes,
        };
        if let Some(text) = decode_utf16_32(&bytes, max_text, &mut issues) {
            bytes = Cow::Owned(text.into_bytes());
        }
        Self::from_decoded(bytes, received.len(), issues)
    }

    /// Creates a body from bytes that were decoded from `received_size` bytes. `issues` are the
    /// reasons why parts were not decoded.
    fn from_decoded(bytes: Cow<'a, [u8]>, received_size: usize, mut issues: ReadIssues) -> Self {
        if bytes.is_empty() {
            issues.insert(ReadIssues::EMPTY_BODY);
        }
        let work = WorkBudget::for_body(bytes.len());
        if matches!(bytes, Cow::Owned(_)) {
            work.spend_reading(bytes.len());
        }
        Self { bytes, received_size, work, issues }
    }

    /// Returns the decoded bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns whether the decoded bytes are the received bytes.
    pub fn is_unmodified(&self) -> bool {
        matches!(self.bytes, Cow::Borrowed(_))
    }

    /// Returns the work budget of the body, from which the work of decoding has been subtracted.
    pub fn work(&self) -> &WorkBudget {
        &self.work
    }

    /// Returns the number of received bytes.
    pub fn received_size(&self) -> usize {
        self.received_size
    }
}

/// Returns the maximum bytes to which a body of `received` bytes may be decompressed.
///
/// The limit grows with the received bytes, because otherwise a few kilobytes could take megabytes
/// of memory. Compression makes JSON of prompts three to twenty times smaller; with repeated
/// examples, up to fifty times. The allowance is large enough for a prompt of 200,000 tokens,
/// whatever its compressed size. A compressed body of 768 KiB or more may become 2 MiB, the size of
/// the scan window.
pub fn max_inflated(received: usize, limits: &Limits) -> usize {
    received.saturating_add(INFLATE_ALLOWANCE).min(limits.max_decompressed)
}

/// Bytes to which any body may be decompressed, in addition to its received bytes. The body and its
/// text, which takes as much memory again, stay below 4 MiB together.
const INFLATE_ALLOWANCE: usize = 5 << 18;

/// Returns whether the character sets that a content type names are supported; true if it names
/// none.
///
/// Some servers decode any named character set. In UTF-7, for example, a client can write ASCII
/// letters as other ASCII characters, and so hide a prompt.
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

/// Returns whether a `Content-Encoding` header names no encoding except `identity`.
pub fn is_identity(encoding: Option<&str>) -> bool {
    content_codings(encoding).is_empty()
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

/// Returns the encodings to decode, at most two. The encoding that was applied last comes first.
fn content_codings(encoding: Option<&str>) -> Vec<String> {
    let names =
        encoding.unwrap_or_default().split(',').map(|name| name.trim().to_ascii_lowercase());
    let mut codings: Vec<String> =
        names.filter(|name| !name.is_empty() && name != "identity").collect();
    codings.reverse();
    codings.truncate(2);
    codings
}

/// Decodes JSON in UTF-16 or UTF-32, which Python accepts. The encoding is recognised by the byte
/// order mark, or by the NULs around the first character, which is ASCII. Returns `None` for any
/// other encoding. A text that reaches `max_bytes` is cut, and `issues` records the cut.
pub(crate) fn decode_utf16_32(
    bytes: &[u8],
    max_bytes: usize,
    issues: &mut ReadIssues,
) -> Option<String> {
    let text = match bytes {
        [0xff, 0xfe, 0, 0, rest @ ..] => decode_utf32(rest, u32::from_le_bytes, max_bytes),
        [0, 0, 0xfe, 0xff, rest @ ..] => decode_utf32(rest, u32::from_be_bytes, max_bytes),
        [0xff, 0xfe, rest @ ..] => decode_utf16(rest, u16::from_le_bytes, max_bytes),
        [0xfe, 0xff, rest @ ..] => decode_utf16(rest, u16::from_be_bytes, max_bytes),
        [1..=255, 0, 0, 0, ..] => decode_utf32(bytes, u32::from_le_bytes, max_bytes),
        [0, 0, 0, 1..=255, ..] => decode_utf32(bytes, u32::from_be_bytes, max_bytes),
        [1..=255, 0, _, _, ..] => decode_utf16(bytes, u16::from_le_bytes, max_bytes),
        [0, 1..=255, _, _, ..] => decode_utf16(bytes, u16::from_be_bytes, max_bytes),
        _ => return None,
    };
    if text.len() >= max_bytes {
        issues.insert(ReadIssues::INFLATE);
    }
    Some(text)
}

fn decode_utf16(bytes: &[u8], decode_unit: fn([u8; 2]) -> u16, max_bytes: usize) -> String {
    let (units, _) = bytes.as_chunks();
    let chars = char::decode_utf16(units.iter().map(|bytes| decode_unit(*bytes)));
    collect_capped(chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)), max_bytes)
}

fn decode_utf32(bytes: &[u8], decode_unit: fn([u8; 4]) -> u32, max_bytes: usize) -> String {
    let (units, _) = bytes.as_chunks();
    let chars = units.iter().map(|bytes| char::from_u32(decode_unit(*bytes)));
    collect_capped(chars.map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)), max_bytes)
}

/// Collects characters up to `max_bytes`, or up to three bytes more. The buffer gets its final size
/// at once, because a buffer that grows takes up to three times the memory.
fn collect_capped(chars: impl Iterator<Item = char> + Clone, max_bytes: usize) -> String {
    let length = chars.clone().map(char::len_utf8).sum::<usize>();
    let mut text = String::with_capacity(length.min(max_bytes.saturating_add(char::MAX_LEN_UTF8)));
    for char in chars {
        if text.len() >= max_bytes {
            break;
        }
        text.push(char);
    }
    text
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
        let rows: [(&str, &[u8], &str, ReadIssues, usize); 6] = [
            ("bomb", &bomb, "gzip", ReadIssues::INFLATE, 1_000),
            ("not gzip", b"{hello}", "gzip", ReadIssues::INFLATE, 7),
            ("not deflate", b"{hello}", "deflate", ReadIssues::INFLATE, 7),
            ("unknown", b"hello", "x-lz4", ReadIssues::ENCODING, 5),
            ("truncated", &truncated[..truncated.len() - 8], "gzip", ReadIssues::INFLATE, 28),
            ("truncated gzip header", &truncated[..5], "gzip", ReadIssues::INFLATE, 5),
        ];
        for (name, received, encoding, issues, size) in rows {
            let body = Body::new(received, Some(encoding), &limits);
            assert_eq!((body.issues, body.bytes().len()), (issues, size), "{name}");
        }
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    }

    /// Returns a frame of zstd without a checksum, of `count` blocks of 128 KiB that repeat one
    /// byte. `window` is the window descriptor.
    fn zstd_of_repeated_blanks(window: u8, count: usize) -> Vec<u8> {
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window];
        for index in 0..count {
            let header = (128 << 10) << 3 | 1 << 1 | u32::from(index + 1 == count);
            frame.extend_from_slice(&header.to_le_bytes()[..3]);
            frame.push(b' ');
        }
        frame
    }

    #[test]
    fn zstd_is_decoded_within_limits() {
        let json = br#"{"prompt":"x"}"#;
        let skippable = [&[0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let concatenated = [&skippable[..], &zstd(&json[..5]), &skippable, &zstd(&json[5..])];
        let two_blocks = zstd_of_repeated_blanks(0x58, 2);
        let long: String = (0..40_000).map(|number: u32| format!("{number} ")).collect();
        let compressed = zstd(long.as_bytes());
        let (none, inflate, encoding) =
            (ReadIssues::default(), ReadIssues::INFLATE, ReadIssues::ENCODING);
        let allowance = INFLATE_ALLOWANCE;
        let bomb = zstd_of_repeated_blanks(0x58, 100);
        let rows: [(&str, Vec<u8>, ReadIssues, usize); 11] = [
            ("one frame", zstd(json), none, json.len()),
            ("frames, some of them skippable", concatenated.concat(), none, json.len()),
            ("several blocks", two_blocks.clone(), none, 256 << 10),
            ("text", compressed.clone(), none, long.len()),
            (
                "cut in the last block",
                two_blocks[..two_blocks.len() - 1].into(),
                inflate,
                128 << 10,
            ),
            ("cut in the header", two_blocks[..5].into(), inflate, 5),
            ("bomb", bomb.clone(), inflate, bomb.len() + allowance),
            ("large window", zstd_of_repeated_blanks(0x70, 1), encoding, 10),
            ("no zstd", b"[1]".to_vec(), inflate, 3),
            ("garbage after a frame", [&zstd(json)[..], b"garbage"].concat(), inflate, 14),
            (
                "skippable frame without end",
                [&zstd(json)[..], &skippable[..9]].concat(),
                none,
                json.len(),
            ),
        ];
        for (name, received, issues, size) in rows {
            let body = Body::new(&received, Some("zstd"), &Limits::default());
            assert_eq!((body.issues, body.bytes().len()), (issues, size), "{name}");
        }
        let many_frames: Vec<u8> =
            std::iter::repeat_n([0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0], 10_000)
                .flatten()
                .collect();
        let body = Body::new(&many_frames, Some("zstd"), &Limits::default());
        assert!(body.issues.contains(inflate), "frames are counted");
        let cut = Body::new(&compressed[..compressed.len() / 2], Some("zstd"), &Limits::default());
        assert_eq!(cut.issues, inflate);
        assert!(long.as_bytes().starts_with(cut.bytes()) || cut.is_unmodified());
    }

    #[test]
    fn brotli_is_decoded_within_limits() {
        // Compressed by Node's zlib: a JSON text, 16 MiB of spaces, a stream with a large window.
        let json = b"\x8b\x06\x80{\"prompt\":\"x\"}\x03";
        let bomb = b"\xcb\xff\xff\x3f\xf8\x25\x40\xe2\xb1\x40\x20\xf7\xfe\x2f\xff\xff\xff\xf0\x4b\
            \x00\xc4\x61\x11\x80\xee\xfd\x1f";
        let large_window = b"\x1f\x63\x00\xf8\x25\x40\x02\xb1\x40\xa0\x03";
        let (none, inflate, encoding) =
            (ReadIssues::default(), ReadIssues::INFLATE, ReadIssues::ENCODING);
        let rows: [(&str, &[u8], ReadIssues, usize); 7] = [
            ("json", json, none, 14),
            ("bomb", bomb, inflate, bomb.len() + INFLATE_ALLOWANCE),
            ("large window", large_window, encoding, large_window.len()),
            ("plain object", b"{\"prompt\":\"x\"}", inflate, 14),
            ("plain array", b"[{\"prompt\":\"x\"}]", inflate, 16),
            ("truncated", &json[..10], inflate, 10),
            ("garbage", b"hello, this is plain text", inflate, 25),
        ];
        for (name, received, issues, size) in rows {
            let body = Body::new(received, Some("br"), &Limits::default());
            assert_eq!((body.issues, body.bytes().len()), (issues, size), "{name}");
        }
    }

    /// JSON of 4 MB between two short messages, compressed by Node's zlib.
    const LONG_JSON_IN_BROTLI: &[u8] = b"\
        \xa3\xff\xff\x03\xc2\x71\xe0\xc6\xa2\xbd\x48\x93\xf8\xed\x31\x42\x92\xce\x16\x29\
        \x3b\xdb\xdb\x2c\x3a\x68\x7d\x5a\x04\x64\x8b\xac\x53\x0e\x58\x0b\xf2\xb6\x2c\xb8\
        \xc9\x45\x4f\xe2\xaf\x81\xc3\x63\xec\x0c\x41\x32\xe5\x62\xe6\x81\x7d\xd0\xdd\xce\
        \x52\x15\x55\x25\xc8\xed\x67\xf8\x68\xcc\xef\xea\xfe\xa0\xbe\x02\xfa\xff\x3f\xf8\
        \x25\x00\xe2\xb0\x00\x40\xf7\xfe\x40\xff\xff\x07\xbf\x04\x40\x1c\x16\x00\xe8\xde\
        \x1f\xe8\xff\xff\xe0\x97\x00\x88\xc3\x02\x00\xdd\xfb\x03\xfd\xff\x1f\xfc\x12\x00\
        \x71\x58\x00\xa0\x7b\x7f\xa0\xff\xff\x83\x5f\x02\x20\x0e\x0b\x00\x74\xef\x0f\xf4\
        \xff\x7f\xf0\x4b\x00\xc4\x61\x01\x80\xee\xfd\x81\xfe\xff\x0f\x7e\x09\x80\x38\x2c\
        \x00\xd0\xbd\x3f\x08\x62\x0b\xf0\x8e\x03\x3b\x86\xfc\x01\xc3\xb2\x69\x6e\x4e\x6a\
        \x91\x32\xb2\xbd\xcd\xa2\xd3\xd5\xa7\x41\xd0\xdc\xe8\xc0\x06\x9c\x80\x07\x09\x04\
        \x34\x81\x9d\x3f\x12\xe0\x57\x0e\x00\x65\x8e\x2b\x13\x44\x85\x89\x70\xe5\x6c\x6c\
        \xd4\x06\x0d\
        ";

    #[test]
    fn the_end_of_long_json_is_kept() {
        let message = |text: &str| format!(r#"{{"role":"user","content":"{text}"}}"#);
        let long = |count: usize| {
            let messages =
                [message("the beginning"), message(&"hedge ".repeat(count)), message("the end")];
            format!(r#"{{"model":"m","messages":[{}]}}"#, messages.join(",")).into_bytes()
        };
        let json = long(700_000);
        let deflated = |bytes: &[u8]| {
            let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        };
        let two_frames = [zstd(&json[..2_000_000]), zstd(&json[2_000_000..])].concat();
        let rows: [(&str, &str, Vec<u8>); 7] = [
            ("gzip", "gzip", gzip(&json)),
            ("members", "gzip", [gzip(&json[..9]), gzip(&json[9..])].concat()),
            ("deflate", "deflate", deflated(&json)),
            ("zstd", "zstd", zstd(&json)),
            ("frames", "zstd", two_frames),
            ("brotli", "br", LONG_JSON_IN_BROTLI.to_vec()),
            ("twice", "gzip, gzip", gzip(&gzip(&json))),
        ];
        for (name, coding, received) in rows {
            let body = Body::new(&received, Some(coding), &Limits::default());
            assert_eq!(body.issues, ReadIssues::WINDOW, "{name}");
            let max_bytes = max_inflated(received.len(), &Limits::default());
            assert!(body.bytes().len() <= max_bytes, "{name}: {}", body.bytes().len());
            let value: serde_json::Value = serde_json::from_slice(body.bytes()).unwrap();
            let contents = ["/messages/0/content", "/messages/2/content"]
                .map(|pointer| value.pointer(pointer).and_then(serde_json::Value::as_str));
            assert_eq!(contents, [Some("the beginning"), Some("the end")], "{name}");
        }
        // The rest of a body is not read once decompression has reached the work limit for this
        // body size.
        let bomb = gzip(&long(2_000_000));
        let body = Body::new(&bomb, Some("gzip"), &Limits::default());
        assert!(body.issues.contains(ReadIssues::INFLATE));
        let broken = &gzip(&json)[..2_000];
        assert!(
            Body::new(broken, Some("gzip"), &Limits::default())
                .issues
                .contains(ReadIssues::INFLATE)
        );
        let wide: Vec<u8> =
            String::from_utf8(json).unwrap().encode_utf16().flat_map(u16::to_le_bytes).collect();
        let wide = gzip(&wide);
        let body = Body::new(&wide, Some("gzip"), &Limits::default());
        assert!(body.issues.contains(ReadIssues::INFLATE), "UTF-16 is not followed");
    }

    #[test]
    fn the_magic_number_overrides_the_label() {
        let json = br#"{"prompt":"x"}"#;
        let gzip = gzip(json);
        for label in [None, Some("deflate"), Some("br"), Some("zstd"), Some("x-lz4")] {
            let body = Body::new(&gzip, label, &Limits::default());
            assert_eq!((body.bytes(), body.issues), (&json[..], ReadIssues::ENCODING), "{label:?}");
        }
        let blanks = zstd_of_repeated_blanks(0x58, 1);
        let body = Body::new(&blanks, Some("gzip"), &Limits::default());
        assert_eq!((body.bytes().len(), body.issues), (128 << 10, ReadIssues::ENCODING));
    }

    #[test]
    fn inflating_is_bounded_in_proportion() {
        let limits = Limits::default();
        let bomb = gzip(&vec![b' '; 64 << 20]);
        let utf16: Vec<u8> =
            "\u{fdfa}".repeat(1 << 20).encode_utf16().flat_map(u16::to_le_bytes).collect();
        let utf16 = gzip(&[&[0xff, 0xfe][..], &utf16].concat());
        let empty_members = gzip(b"").repeat(20_000);
        for (name, received) in
            [("bomb", bomb), ("utf-16", utf16), ("empty members", empty_members)]
        {
            let body = Body::new(&received, Some("gzip"), &limits);
            let limit = received.len() + INFLATE_ALLOWANCE + char::MAX_LEN_UTF8;
            assert!(body.bytes().len() <= limit, "{name}: {}", body.bytes().len());
            assert_eq!(body.issues, ReadIssues::INFLATE, "{name}");
        }
        let all_at_once = Limits { max_decompressed: 100, ..limits };
        assert_eq!(max_inflated(1 << 20, &all_at_once), 100);
    }
}
