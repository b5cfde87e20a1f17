//! The fast ways through text and the plain ones agree: literals found by the scan are those that searching one by one
//! finds; a JSON string normalised by blocks is what it is piece by piece, its bytes where they come from; and text is what
//! its characters come to where none of those outside ASCII is looked up.
#![no_main]

use hedgerow::json::{Raw, Sink};
use hedgerow::scan::{MIN_LITERAL, Scanner};
use hedgerow::text::{Case, Normalizer, Sources};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (literals, text) = input;
    scan(literals, text);
    normalize(text);
    compose(&String::from_utf8_lossy(text));
});

/// Literals are lines; those that are no UTF-8 are left out.
fn scan(literals: &[u8], text: &[u8]) {
    let lines = literals.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let literals: Vec<String> = lines.filter(|line| line.len() >= MIN_LITERAL).take(64).map(str::to_owned).collect();
    // A text that has pieces of them all.
    let mut text = text.to_vec();
    for (place, literal) in literals.iter().enumerate() {
        let cut = text.get(place).map_or(0, |byte| usize::from(*byte)) % (literal.len() + 1);
        text.extend_from_slice(&literal.as_bytes()[..cut]);
        text.extend_from_slice(literal.as_bytes());
    }
    let mut expected = Vec::new();
    for (number, literal) in literals.iter().enumerate() {
        let starts = text.windows(literal.len()).enumerate().filter(|(_, window)| *window == literal.as_bytes());
        expected.extend(starts.map(|(start, _)| (number, start)));
    }
    let mut found = Vec::new();
    Scanner::new(literals).scan(&text, &mut |number, start| found.push((number, start)));
    found.sort_unstable();
    assert_eq!(found, expected);
}

fn normalize(text: &[u8]) {
    let raw = Raw::new(text, 0);
    let (mut fast, mut marks) = (String::new(), Vec::new());
    let mut normalizer = Normalizer::new(&mut fast, Case::Fold);
    normalizer.escaped(raw, &mut marks);
    let fast_edges = normalizer.finish_with_edges();
    let mut plain = String::new();
    let mut normalizer = Normalizer::new(&mut plain, Case::Fold);
    raw.decode(&mut normalizer);
    assert_eq!(fast_edges, normalizer.finish_with_edges());
    assert_eq!(fast, plain);
    let wanted: Vec<usize> = (0..fast.len()).step_by(97).collect();
    let [with, without] = [marks.as_slice(), &[]].map(|marks| Sources::new(raw, &fast, 0, marks, wanted.clone()));
    for at in wanted {
        assert_eq!(with.find(at..at + 1), without.find(at..at + 1));
    }
}

/// Character by character, what is not ASCII is composed together; in one go, most of it is looked up.
fn compose(text: &str) {
    let normalized = |feed: &dyn Fn(&mut Normalizer<'_>)| {
        let mut out = String::new();
        let mut normalizer = Normalizer::new(&mut out, Case::Fold);
        feed(&mut normalizer);
        normalizer.finish();
        out
    };
    let fast = normalized(&|normalizer| normalizer.run(text));
    let plain = normalized(&|normalizer| text.chars().for_each(|char| normalizer.char(char)));
    assert_eq!(fast, plain);
}
