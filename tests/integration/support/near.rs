//! Comparisons with concepts, by brute force.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use hedgerow_core::rules::concept::Concept;
use hedgerow_core::rules::signature::Within;
use hedgerow_core::text::{has_word_spaces, is_word_char};
use memchr::memmem;

/// Returns whether a text contains an anchor that begins in `passage`, and all other parts close
/// enough to it.
pub fn holds(
    text: &str,
    passage: &Range<usize>,
    concepts: &[Concept],
    within: Within,
    parts: &[Vec<String>],
) -> bool {
    let concept = |name: &String| concepts.iter().find(|concept| concept.name == *name).unwrap();
    let spans = |part: &Vec<String>| -> Vec<Range<usize>> {
        part.iter().flat_map(|name| spans_of(text, concept(name))).collect()
    };
    let anchor = parts.iter().position(|part| part.iter().all(|name| concept(name).rare)).unwrap();
    let mut anchors = spans(&parts[anchor]);
    anchors.retain(|anchor| passage.contains(&anchor.start));
    if anchors.is_empty() {
        return false;
    }
    let spans: Vec<Vec<Range<usize>>> = parts.iter().map(spans).collect();
    anchors.into_iter().any(|middle| {
        let sentence = sentence(text, &middle);
        let may_count = |span: &Range<usize>| {
            span.end <= middle.start && middle.start - span.start <= within.bytes()
                || middle.end <= span.start && span.end - middle.end <= within.bytes()
        };
        let in_sentence = |span: &Range<usize>| {
            within != Within::Sentence || sentence.start <= span.start && span.end <= sentence.end
        };
        spans.iter().enumerate().all(|(index, spans)| {
            index == anchor || spans.iter().any(|span| may_count(span) && in_sentence(span))
        })
    })
}

/// A cache: the last text, and the occurrences of each concept that was searched for in this text,
/// by the name of the concept. It saves most of the time of these tests, because many rules name
/// the same concepts.
type Found = (String, HashMap<String, Vec<Range<usize>>>);

thread_local! {
    static FOUND: RefCell<Found> = RefCell::default();
}

/// Returns the occurrences of all terms of a concept.
fn spans_of(text: &str, concept: &Concept) -> Vec<Range<usize>> {
    FOUND.with_borrow_mut(|(last, found)| {
        if last != text {
            (*last, *found) = (text.to_owned(), HashMap::new());
        }
        let search = || concept.terms.iter().flat_map(|term| find(text, term)).collect();
        found.entry(concept.name.clone()).or_insert_with(search).clone()
    })
}

/// Returns the occurrences of a term as a whole word or as the beginning of a word.
fn find(text: &str, term: &str) -> Vec<Range<usize>> {
    let stem = term.trim_end_matches('*');
    let is_letter = |char: char| is_word_char(char) && has_word_spaces(char);
    let joined = |position: usize| {
        let before = text[..position].chars().next_back();
        let after = text[position..].chars().next();
        before.is_some_and(is_letter) && after.is_some_and(is_letter)
    };
    // Occurrences may overlap: "as many as" occurs twice in "as many as many as".
    let finder = memmem::Finder::new(stem);
    let mut next = 0;
    let starts = std::iter::from_fn(|| {
        let start = next + finder.find(&text.as_bytes()[next..])?;
        next = start + 1;
        Some(start)
    });
    starts
        .map(|start| start..start + stem.len())
        .filter(|span| !joined(span.start) && (term.ends_with('*') || !joined(span.end)))
        .collect()
}

/// Returns the sentence around a range.
fn sentence(text: &str, middle: &Range<usize>) -> Range<usize> {
    let chars: Vec<(usize, char)> = text.char_indices().chain([(text.len(), ' ')]).collect();
    let ends: Vec<Range<usize>> = chars
        .windows(2)
        .filter(|pair| match pair[0].1 {
            '.' => matches!(pair[1].1, ' ' | '"' | ')'),
            char => "!?\u{3002}\u{61f}\u{6d4}\u{964}".contains(char),
        })
        .map(|pair| pair[0].0..pair[1].0)
        .collect();
    let start = ends.iter().filter(|end| end.end <= middle.start).map(|end| end.end).max();
    let end = ends.iter().filter(|end| end.start >= middle.end).map(|end| end.start).min();
    start.unwrap_or(0)..end.unwrap_or(text.len())
}
