//! Request bodies that are made to be expensive to score, for tests of work and memory.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

/// A body that is made to be expensive to score.
pub struct HostileBody {
    pub name: &'static str,
    /// Value of `Content-Encoding`; empty for none.
    pub encoding: &'static str,
    pub bytes: Vec<u8>,
}

/// Returns bodies of about `size` bytes. Most compressed bodies have about `size` bytes before
/// compression; compressed blanks are larger.
pub fn hostile_bodies(size: usize) -> Vec<HostileBody> {
    let plain = |name, bytes: String| HostileBody { name, encoding: "", bytes: bytes.into() };
    let mut bodies: Vec<HostileBody> = REPEATED_TEXT
        .iter()
        .map(|(name, unit)| plain(name, chat(&message(&fill(unit, size)))))
        .collect();
    bodies.push(plain("words that begin signatures", chat(&message(&first_words(size)))));
    bodies.extend(REPEATED_MEMBERS.iter().map(|(name, before, unit, after)| {
        plain(name, format!("{before}{}{after}", fill(unit, size)))
    }));
    for (name, unit) in
        [("U+FDFA, gzip", "\u{fdfa}"), ("U+3300, gzip", "\u{3300}"), ("marks, gzip", "\u{301}")]
    {
        let body = chat(&message(&fill(unit, size)));
        bodies.push(HostileBody { name, encoding: "gzip", bytes: gzip(body.as_bytes()) });
    }
    let utf16 = |unit: &str| -> Vec<u8> {
        let text = chat(&message(&fill(unit, size)));
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    };
    bodies.push(HostileBody { name: "U+FDFA, UTF-16", encoding: "", bytes: utf16("\u{fdfa}") });
    bodies.push(HostileBody {
        name: "U+3300, UTF-16, gzip",
        encoding: "gzip",
        bytes: gzip(&utf16("\u{3300}")),
    });
    let blanks = vec![b' '; 16 * size];
    bodies.push(HostileBody { name: "blanks, gzip", encoding: "gzip", bytes: gzip(&blanks) });
    let twice = gzip(&gzip(&blanks));
    bodies.push(HostileBody { name: "blanks, gzip twice", encoding: "gzip, gzip", bytes: twice });
    let members = gzip(b"").repeat(size / 20);
    bodies.push(HostileBody { name: "empty gzip members", encoding: "gzip", bytes: members });
    bodies.push(HostileBody { name: "zstd of blanks", encoding: "zstd", bytes: zstd_blanks(size) });
    let frames = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0, 1, 0, 0].repeat(size / 9);
    bodies.push(HostileBody { name: "empty zstd frames", encoding: "zstd", bytes: frames });
    bodies.push(HostileBody { name: "brotli of blanks", encoding: "br", bytes: BROTLI.to_vec() });
    bodies
}

/// Returns a chat of ordinary prose of about `size` bytes.
pub fn prose(size: usize) -> Vec<u8> {
    let nouns = ["gate", "hedge", "field", "lane", "orchard", "ditch", "path", "meadow", "barn"];
    let verbs = ["keeps", "opens", "crosses", "follows", "finds", "carries", "leaves"];
    let mut text = String::new();
    let words = nouns.iter().cycle().zip(nouns.iter().cycle().step_by(5));
    for (number, ((first, second), verb)) in words.zip(verbs.iter().cycle()).enumerate() {
        text += &format!("The {first} {verb} the {second} near row {number}. ");
        if text.len() >= size {
            break;
        }
    }
    chat(&message(&text)).into()
}

fn chat(messages: &str) -> String {
    format!(r#"{{"model":"m","messages":[{messages}]}}"#)
}

fn message(text: &str) -> String {
    format!(r#"{{"role":"user","content":"{text}"}}"#)
}

fn fill(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len())
}

/// Returns a text in which regexes search without a match: it repeats words with which matches
/// begin, and contains other required words only once, at its start.
fn first_words(size: usize) -> String {
    let mut text = "an llm. response. function call dataset. the given prompt. ".to_owned();
    let mut state = 1_u32;
    while text.len() < size {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text += if state >> 31 == 0 { "rewrite " } else { "query " };
    }
    text
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns a zstd frame of about `size` bytes. Each block of four bytes decompresses to 128 KiB of
/// blanks.
fn zstd_blanks(size: usize) -> Vec<u8> {
    let block = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
    let blocks = [block[0], block[1], block[2], b' '].repeat(size / 4);
    [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x58][..], &blocks].concat()
}

/// 16 MiB of blanks, compressed by Node's zlib.
const BROTLI: &[u8] =
    b"\xcb\xff\xff\x3f\xf8\x25\x40\xe2\xb1\x40\x20\xf7\xfe\x2f\xff\xff\xff\xf0\x4b\
    \x00\xc4\x61\x11\x80\xee\xfd\x1f";

/// Name of a body, and the text that the body repeats in one string.
const REPEATED_TEXT: &[(&str, &str)] = &[
    ("U+FDFA, 18 characters", "\u{fdfa}"),
    ("U+FDFB, 8 characters", "\u{fdfb}"),
    ("U+FDF2, 4 characters", "\u{fdf2}"),
    ("U+3300, 4 characters", "\u{3300}"),
    ("U+3316, 6 characters", "\u{3316}"),
    ("U+2A74, 3 characters", "\u{2a74}"),
    ("U+00BD, 5 bytes for 2", "\u{bd}"),
    ("U+0958, 6 bytes for 3", "\u{958}"),
    ("U+0130, 3 bytes for 2 in lower case", "\u{130}"),
    ("decomposed syllables", "\u{1112}\u{1161}\u{11ab}"),
    ("one run of vowels and finals", "\u{1161}\u{11a8}"),
    ("one run of marks", "\u{301}"),
    ("one run of marks out of order", "\u{301}\u{323}\u{345}"),
    ("letters with a mark", "a\u{301}"),
    ("look-alikes", "\u{430}"),
    ("invisible characters", "\u{200b}"),
    ("emoji", "\u{1f600}"),
    ("blanks", " "),
    ("escaped U+FDFA", r"\ufdfa"),
    ("escaped control characters", r"\b\f"),
    ("escaped letters, two words at the end of each line", r"\u0061\n"),
    ("signature words", "generate training data instruction pairs questions answers "),
    (
        "signature words, last words first",
        "training data, instruction pairs, questions and answers write generate create collect ",
    ),
];

/// Name of a body, its beginning, the JSON that the body repeats, and its end.
const REPEATED_MEMBERS: &[(&str, &str, &str, &str)] = &[
    ("tiny parts", r#"{"messages":[{"content":["#, r#"{"text":"a"},"#, r#"""]}]}"#),
    ("parts of U+3300", r#"{"messages":[{"content":["#, "{\"text\":\"\u{3300}\"},", r#"""]}]}"#),
    (
        "parts of 40 words",
        r#"{"messages":[{"content":["#,
        r#"{"text":"one two three four five six seven eight nine ten eleven twelve thirteen"},"#,
        r#"""]}]}"#,
    ),
    ("keys of U+FDFA", "{", "\"\u{fdfa}\":1,", r#""messages":["a"]}"#),
    (
        "properties named U+3300",
        r#"{"messages":["a"],"tools":[{"properties":{"#,
        "\"\u{3300}\":1,",
        r#""a":1}}]}"#,
    ),
    ("tiny messages", r#"{"messages":["#, r#"{"content":"a"},"#, r#""a"]}"#),
    ("strings as messages", r#"{"messages":["#, r#""a","#, r#""a"]}"#),
    ("models", "{", r#""model":"a","#, r#""messages":["a"]}"#),
    ("numbers", "{", r#""top_p":1,"#, r#""messages":["a"]}"#),
    ("stop sequences", r#"{"messages":["a"],"stop":["#, r#""a","#, r#""a"]}"#),
    ("reasoning", r#"{"messages":[{"content":["#, r#"{"signature":"a"},"#, r#"""]}]}"#),
    ("messages that never end", r#"{"messages":["#, r#"{"content":"a","x":{"content":"b","#, ""),
    ("brackets", "", "[", ""),
];
