//! Patterns that texts are written by: words that stay, choices between phrasings, and slots.
//!
//! `Explain (why|how) the [noun] is [adjective].` has a choice and two slots. A template is one set of
//! choices, kept for all requests; a paraphrase chooses anew.

use super::rng::Rng;
use super::words::{Word, Words};

/// A compiled pattern: sentences, which a paraphrase may put into another order.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    sentences: Vec<Vec<Part>>,
    /// What stands behind them: mostly slots.
    tail: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    Text(&'static str),
    Choice(Vec<&'static str>),
    Slot(Slot),
}

/// What is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Word(Word),
    Name,
    Number,
    /// A question, or a task.
    Question,
    /// Some sentences that tell something.
    Passage,
    /// What a person is.
    Persona,
    /// A line break, as JSON writes it.
    Break,
}

/// How a pattern is written.
#[derive(Clone, Copy)]
pub struct Style {
    /// Makes the choices; the same for all texts of a template.
    pub choices: Rng,
    /// Whether sentences change their order and words come between.
    pub is_loose: bool,
}

impl Pattern {
    /// Reads sentences, and what stands behind them.
    pub fn new(sentences: &[&'static str], tail: &'static str) -> Self {
        Self { sentences: sentences.iter().map(|text| parts(text)).collect(), tail: parts(tail) }
    }

    /// Writes the sentences: the same, slots and all, as long as the choices are the same.
    pub fn instruction(&self, words: &Words, style: &mut Style, out: &mut String) {
        let turn = if style.is_loose { style.choices.below(self.sentences.len()) } else { 0 };
        let (front, back) = self.sentences.split_at_checked(turn).unwrap_or_default();
        for (number, sentence) in back.iter().chain(front).enumerate() {
            if number > 0 {
                out.push(' ');
            }
            write(sentence, words, style, None, out);
        }
    }

    /// Writes what stands behind them; `slots` fills it.
    pub fn matter(&self, words: &Words, style: &mut Style, slots: &mut Rng, out: &mut String) {
        write(&self.tail, words, style, Some(slots), out);
    }
}

fn write(
    parts: &[Part],
    words: &Words,
    style: &mut Style,
    mut slots: Option<&mut Rng>,
    out: &mut String,
) {
    for part in parts {
        match part {
            Part::Text(text) if style.is_loose => loose(text, words, &mut style.choices, out),
            Part::Text(text) => out.push_str(text),
            Part::Choice(choices) => {
                let choice = style.choices.pick(choices);
                match style.is_loose {
                    true => loose(choice, words, &mut style.choices, out),
                    false => out.push_str(choice),
                }
            }
            Part::Slot(slot) => {
                let rng = slots.as_deref_mut().unwrap_or(&mut style.choices);
                fill(*slot, words, rng, out);
            }
        }
    }
}

/// Writes words with others in between, now and then: so that no eight stay together.
fn loose(text: &str, words: &Words, rng: &mut Rng, out: &mut String) {
    for piece in text.split_inclusive(' ') {
        out.push_str(piece);
        if piece.ends_with(' ') && rng.chance(LOOSE) {
            words.word(Word::Adverb, rng, out);
            out.push(' ');
        }
    }
}

/// How often a word comes between.
const LOOSE: f64 = 0.3;

fn fill(slot: Slot, words: &Words, rng: &mut Rng, out: &mut String) {
    match slot {
        Slot::Word(word) => words.word(word, rng, out),
        Slot::Name => words.name(rng, out),
        Slot::Number => {
            let number = 2 + rng.below(9_000);
            let _ = std::fmt::Write::write_fmt(out, format_args!("{number}"));
        }
        Slot::Question => question(words, rng, out),
        Slot::Passage => passage(words, rng, out),
        Slot::Persona => sentence(PERSONAS, words, rng, out),
        Slot::Break => out.push_str("\\n"),
    }
}

/// Writes a question, or a task.
pub fn question(words: &Words, rng: &mut Rng, out: &mut String) {
    sentence(QUESTIONS, words, rng, out);
}

/// Writes some sentences that tell something.
pub fn passage(words: &Words, rng: &mut Rng, out: &mut String) {
    sentence(STATEMENTS, words, rng, out);
    out.push(' ');
    sentence(STATEMENTS, words, rng, out);
}

/// Writes one of some shapes: its letters stand for kinds of words, all else for itself.
fn sentence(shapes: &[&'static str], words: &Words, rng: &mut Rng, out: &mut String) {
    for piece in rng.pick(shapes).split('_') {
        match piece {
            "n" => words.word(Word::Noun, rng, out),
            "a" => words.word(Word::Adjective, rng, out),
            "v" => words.word(Word::Verb, rng, out),
            "d" => words.word(Word::Adverb, rng, out),
            "N" => words.name(rng, out),
            text => out.push_str(text),
        }
    }
}

/// Shapes of what is asked. Among any eight words, four or more are filled in.
const QUESTIONS: &[&str] = &[
    "Why did _N_ _v_ the _a_ _n_ before _N_ could _v_ its _a_ _n_?",
    "How would a _a_ _n_ _v_ _N_ if every _n_ in _N_ must _v_ _a_ _n_ first?",
    "My _a_ _n_ from _N_ should _v_ _a_ _n_, but its _n_ keeps _N_ and _a_ _n_ out.",
    "Compare _N_ with the _a_ _n_ near _N_: which _n_ does _d_ _v_ more _a_ _n_?",
    "Would the _n_ of _N_ _v_ when _a_ _n_ and _N_ _v_ _a_ _n_?",
    "My _a_ _n_ at _N_ will _v_ no _n_; it says that _N_ must _v_ _a_ _n_ _d_.",
    "Given _a_ _n_ and _a_ _n_ in _N_, find how _N_ can _v_ _n_ with no _a_ _n_.",
    "Can the _n_ in _N_ _v_ and _v_ a _a_ _n_ that _N_ did not _v_?",
    "Plan how _N_ might _v_ three _a_ _n_ and a _n_ while _N_ has to _v_ _n_.",
    "Could _N_ really _v_ a _a_ _n_ _d_ because _N_ had a _a_ _n_?",
];

/// Shapes of what is told.
const STATEMENTS: &[&str] = &[
    "_N_ chose to _v_ _a_ _n_ since _a_ _n_ _d_ _v_ _N_.",
    "The _n_ of _N_ was _a_, so _a_ _n_ from _N_ could _v_ _n_.",
    "In _N_ the _a_ _n_ and _a_ _n_ _v_ what _N_ wants to _v_.",
    "After the _n_, _N_ began to _v_ _a_ _n_ until _N_ stopped _a_ _n_.",
    "A _a_ _n_ will _v_ _N_ only where _a_ _n_ and _N_ _v_ a _n_.",
    "Nobody at _N_ would _v_ _a_ _n_, as _a_ as _N_ made _n_.",
];

/// Shapes of whom somebody plays.
const PERSONAS: &[&str] = &[
    "a _a_ _n_ seller from _N_ eager to _v_ _a_ _n_ with _N_",
    "the _a_ keeper of _n_ at _N_, known to _v_ _a_ _n_ of _N_",
    "a student of _n_ and _n_ in _N_ who must _v_ _a_ _n_ for _N_",
    "an engineer at _N_ with _a_ _n_ to _v_ and _n_ of _N_",
];

fn parts(text: &'static str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['(', '[']) {
        let (before, behind) = rest.split_at(at);
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let close = if behind.starts_with('(') { ')' } else { ']' };
        let Some((inner, after)) = behind.get(1..).and_then(|inner| inner.split_once(close)) else {
            break;
        };
        parts.push(match close {
            ')' => Part::Choice(inner.split('|').collect()),
            _ => slot(inner).map_or(Part::Text(inner), Part::Slot),
        });
        rest = after;
    }
    if !rest.is_empty() {
        parts.push(Part::Text(rest));
    }
    parts
}

fn slot(name: &str) -> Option<Slot> {
    Some(match name {
        "noun" => Slot::Word(Word::Noun),
        "adjective" => Slot::Word(Word::Adjective),
        "verb" => Slot::Word(Word::Verb),
        "name" => Slot::Name,
        "number" => Slot::Number,
        "question" => Slot::Question,
        "passage" => Slot::Passage,
        "persona" => Slot::Persona,
        "break" => Slot::Break,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use hedgerow::hash::HashKey;
    use hedgerow::template;

    use super::super::phrases;
    use super::*;

    fn keys(text: &str) -> Vec<u64> {
        template::keys("hedgerow.template.user", [text].into_iter(), &HashKey::default())
    }

    /// How many texts share a key with any other.
    fn sharing(texts: &[String]) -> usize {
        let keys: Vec<Vec<u64>> = texts.iter().map(|text| keys(&text.to_lowercase())).collect();
        let mut of: HashMap<u64, usize> = HashMap::new();
        keys.iter().flatten().for_each(|key| *of.entry(*key).or_default() += 1);
        keys.iter().filter(|keys| keys.iter().any(|key| of[key] > 1)).count()
    }

    #[test]
    fn what_people_ask_is_never_the_same_twice() {
        let (words, mut rng) = (Words::new(), Rng::new(1, 1));
        let ask = |_| {
            let mut text = String::new();
            question(&words, &mut rng, &mut text);
            text.push(' ');
            passage(&words, &mut rng, &mut text);
            text
        };
        let texts: Vec<String> = (0..20_000).map(ask).collect();
        assert!(texts.iter().all(|text| !keys(text).is_empty()));
        let sharing = sharing(&texts);
        assert!(sharing <= 2, "{sharing} of 20,000 share eight words with another");
    }

    #[test]
    fn a_template_stays_and_a_paraphrase_does_not() {
        let (words, mut rng) = (Words::new(), Rng::new(2, 1));
        for pattern in [phrases::tags(), phrases::traces(), phrases::cleaning()].concat() {
            let mut write = |is_loose: bool| {
                let choices = if is_loose { Rng::new(rng.next(), 0) } else { Rng::new(5, 5) };
                let (mut style, mut text) = (Style { choices, is_loose }, String::new());
                pattern.instruction(&words, &mut style, &mut text);
                pattern.matter(&words, &mut style, &mut rng, &mut text);
                text
            };
            let constant: Vec<String> = (0..50).map(|_| write(false)).collect();
            let shared = sharing(&constant);
            assert!(shared >= 45, "{shared} of 50: {}", constant[0]);
            let loose: Vec<String> = (0..50).map(|_| write(true)).collect();
            let sharing = sharing(&loose);
            assert!(sharing <= 10, "{sharing} of 50: {}", loose[0]);
        }
    }

    #[test]
    fn texts_need_no_escape_in_json() {
        let (words, mut rng) = (Words::new(), Rng::new(3, 1));
        let all = [
            phrases::tags(),
            phrases::traces(),
            phrases::grading(),
            phrases::cleaning(),
            phrases::sweeps(),
            phrases::replays(),
            phrases::tools(),
            phrases::retrieval(),
            phrases::framework(),
            phrases::batches(),
            phrases::evaluations(),
            phrases::audits(),
            phrases::tests(),
            phrases::benchmarks(),
            phrases::manners(),
        ];
        for pattern in all.concat() {
            let (mut style, mut text) =
                (Style { choices: rng, is_loose: false }, String::from("\""));
            pattern.instruction(&words, &mut style, &mut text);
            pattern.matter(&words, &mut style, &mut rng, &mut text);
            text.push('"');
            let parsed: String = serde_json::from_str(&text).unwrap();
            assert!(!parsed.contains(['[', '|', '_']), "a slot is not known: {parsed}");
        }
    }
}
