//! Fuzzes text processing: the fast implementations return the same results as simple ones.
//!
//! - The scanner finds the same literals as a separate search for each literal.
//! - Normalising a JSON string in blocks gives the same text and the same source map as normalising
//!   it in pieces. The length of the text is bounded.
//! - Normalising a text in one run gives the same result as normalising it character by character.
//! - A request id in a text stays the same if it is converted to its appeal reference and back.
//! - The language of a client is one of the offered languages.
#![no_main]

use hedgerow_core::enforce::appeal::{Pasted, find_request_id, reference_of};
use hedgerow_core::extract::raw_string::{RawString, Sink};
use hedgerow_core::http::language::lookup;
use hedgerow_core::matching::literal_scanner::{MIN_LITERAL_BYTES, Scanner};
use hedgerow_core::text::{Case, Normalizer, SourceMap};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (literals, text) = input;
    scan(literals, text);
    normalize(text);
    let text = String::from_utf8_lossy(text);
    compose(&text);
    convert_request_id(&text);
    const OFFERED: [&str; 3] = ["en", "de", "pt-BR"];
    assert!(lookup(&text, &OFFERED).is_none_or(|tag| OFFERED.contains(&tag)));
});

/// Converts the request id in a text to its appeal reference and back. Skips ids without a
/// reference.
fn convert_request_id(text: &str) {
    let Pasted::RequestId(id) = find_request_id(text) else { return };
    let Some(reference) = reference_of(&id) else { return };
    assert_eq!(find_request_id(&reference), Pasted::RequestId(id));
}

/// Compares the scanner with a search for each literal. `literals` has one literal per line. Skips
/// lines that are not UTF-8 or too short.
fn scan(literals: &[u8], text: &[u8]) {
    let lines = literals.split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
    let lines = lines.filter(|line| line.len() >= MIN_LITERAL_BYTES);
    let literals: Vec<String> = lines.take(64).map(str::to_owned).collect();
    // Appends a prefix of each literal and the whole literal, so that the text has near misses and
    // matches.
    let mut text = text.to_vec();
    for (index, literal) in literals.iter().enumerate() {
        let cut = text.get(index).map_or(0, |byte| usize::from(*byte)) % (literal.len() + 1);
        text.extend_from_slice(&literal.as_bytes()[..cut]);
        text.extend_from_slice(literal.as_bytes());
    }
    let mut expected = Vec::new();
    for (index, literal) in literals.iter().enumerate() {
        let windows = text.windows(literal.len()).enumerate();
        let matching = windows.filter(|(_, window)| *window == literal.as_bytes());
        expected.extend(matching.map(|(start, _)| (index, start)));
    }
    let mut matches = Vec::new();
    Scanner::new(literals).scan(&text, &mut |index, start| matches.push((index, start)));
    matches.sort_unstable();
    assert_eq!(matches, expected);
}

/// Compares normalisation in blocks with normalisation in pieces, and source maps with and without
/// checkpoints.
fn normalize(text: &[u8]) {
    let raw = RawString::new(text, 0);
    let (mut fast, mut checkpoints) = (String::new(), Vec::new());
    let mut normalizer = Normalizer::new(&mut fast, Case::Fold);
    normalizer.push_escaped(raw, &mut checkpoints);
    let fast_edges = normalizer.finish_with_edges();
    let mut plain = String::new();
    let mut normalizer = Normalizer::new(&mut plain, Case::Fold);
    raw.decode(&mut normalizer);
    assert_eq!(fast_edges, normalizer.finish_with_edges());
    assert_eq!(fast, plain);
    // An invalid byte becomes three bytes. A character expands to at most four times its bytes.
    assert!(fast.len() <= 4 * text.len() + 4, "{} bytes become {}", text.len(), fast.len());
    let limit = fast.len() / 2;
    let mut limited = String::new();
    let mut normalizer = Normalizer::new(&mut limited, Case::Fold).with_limit(limit);
    normalizer.push_escaped(raw, &mut Vec::new());
    normalizer.finish();
    assert!(limited.len() <= limit + 4_096, "{} bytes of {limit}", limited.len());
    let offsets: Vec<usize> = (0..fast.len()).step_by(97).collect();
    let source_maps = [checkpoints.as_slice(), &[]];
    let [with_checkpoints, without] =
        source_maps.map(|checkpoints| SourceMap::new(raw, &fast, 0, checkpoints, offsets.clone()));
    for offset in offsets {
        let range = offset..offset + 1;
        assert_eq!(with_checkpoints.source_range(range.clone()), without.source_range(range));
    }
}

/// Compares normalisation of a whole run with normalisation character by character. Normalisation
/// of a run looks most characters up in tables. Normalisation by character composes each character.
fn compose(text: &str) {
    let normalized = |feed: &dyn Fn(&mut Normalizer<'_>)| {
        let mut out = String::new();
        let mut normalizer = Normalizer::new(&mut out, Case::Fold);
        feed(&mut normalizer);
        normalizer.finish();
        out
    };
    let fast = normalized(&|normalizer| normalizer.push_run(text));
    let plain = normalized(&|normalizer| text.chars().for_each(|char| normalizer.push_char(char)));
    assert_eq!(fast, plain);
}
