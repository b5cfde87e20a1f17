//! Patterns of prompts: fixed words, choices between phrasings, and slots.
//!
//! `Explain (why|how) the [noun] is [adjective].` has one choice and two slots. A template makes
//! the choices once and uses them in all requests; a paraphrase makes new choices for each request.

use super::rng::Rng;
use super::vocabulary::{Vocabulary, WordClass};

/// A parsed pattern: sentences, which a paraphrase may rotate, and a tail.
#[derive(Clone, Debug, Default)]
pub struct Pattern {
    sentences: Vec<Vec<Segment>>,
    /// The text after the sentences, which consists mostly of slots.
    tail: Vec<Segment>,
}

#[derive(Clone, Debug)]
enum Segment {
    Text(&'static str),
    Choice(Vec<&'static str>),
    Slot(Slot),
}

/// A part of a pattern that is filled with new words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Word(WordClass),
    Name,
    Number,
    /// A sentence with a question or a task.
    Question,
    /// Two sentences with statements.
    Passage,
    /// The description of a person.
    Persona,
    /// A line break, escaped for JSON.
    Break,
}

/// The source of the choices for one text.
#[derive(Clone, Copy)]
pub struct ChoiceSource {
    /// Generates the choices. All texts of a template start with the same state, so their choices
    /// are the same.
    pub choices: Rng,
    /// Whether sentences are rotated and adverbs inserted.
    pub is_paraphrased: bool,
}

impl Pattern {
    /// Parses sentences and a tail.
    pub fn new(sentences: &[&'static str], tail: &'static str) -> Self {
        Self {
            sentences: sentences.iter().map(|text| parse_segments(text)).collect(),
            tail: parse_segments(tail),
        }
    }

    /// Writes the sentences. Their slots are filled from `choice_source`, too, so equal states of
    /// `choice_source` produce equal text.
    pub fn write_instruction(
        &self,
        vocabulary: &Vocabulary,
        choice_source: &mut ChoiceSource,
        out: &mut String,
    ) {
        let rotation = if choice_source.is_paraphrased {
            choice_source.choices.below(self.sentences.len())
        } else {
            0
        };
        let (front, back) = self.sentences.split_at_checked(rotation).unwrap_or_default();
        for (index, sentence) in back.iter().chain(front).enumerate() {
            if index > 0 {
                out.push(' ');
            }
            write_segments(sentence, vocabulary, choice_source, None, out);
        }
    }

    /// Writes the tail. `slot_rng` fills its slots.
    pub fn write_payload(
        &self,
        vocabulary: &Vocabulary,
        choice_source: &mut ChoiceSource,
        slot_rng: &mut Rng,
        out: &mut String,
    ) {
        write_segments(&self.tail, vocabulary, choice_source, Some(slot_rng), out);
    }
}

/// Writes segments. If `slot_rng` is `None`, `choice_source` also fills the slots.
fn write_segments(
    segments: &[Segment],
    vocabulary: &Vocabulary,
    choice_source: &mut ChoiceSource,
    mut slot_rng: Option<&mut Rng>,
    out: &mut String,
) {
    for segment in segments {
        match segment {
            Segment::Text(text) if choice_source.is_paraphrased => {
                write_paraphrased(text, vocabulary, &mut choice_source.choices, out)
            }
            Segment::Text(text) => out.push_str(text),
            Segment::Choice(choices) => {
                let choice = choice_source.choices.pick(choices);
                if choice_source.is_paraphrased {
                    write_paraphrased(choice, vocabulary, &mut choice_source.choices, out);
                } else {
                    out.push_str(choice);
                }
            }
            Segment::Slot(slot) => {
                let rng = slot_rng.as_deref_mut().unwrap_or(&mut choice_source.choices);
                write_slot(*slot, vocabulary, rng, out);
            }
        }
    }
}

/// Writes a text with adverbs between its words, so that few runs of eight consecutive words stay
/// unchanged. Template keys are computed from such runs.
fn write_paraphrased(text: &str, vocabulary: &Vocabulary, rng: &mut Rng, out: &mut String) {
    for word in text.split_inclusive(' ') {
        out.push_str(word);
        if word.ends_with(' ') && rng.chance(EXTRA_WORD_PROBABILITY) {
            vocabulary.write_word(WordClass::Adverb, rng, out);
            out.push(' ');
        }
    }
}

/// Probability of an adverb after a word.
const EXTRA_WORD_PROBABILITY: f64 = 0.3;

fn write_slot(slot: Slot, vocabulary: &Vocabulary, rng: &mut Rng, out: &mut String) {
    match slot {
        Slot::Word(class) => vocabulary.write_word(class, rng, out),
        Slot::Name => vocabulary.write_name(rng, out),
        Slot::Number => {
            let number = 2 + rng.below(9_000);
            let _ = std::fmt::Write::write_fmt(out, format_args!("{number}"));
        }
        Slot::Question => write_question(vocabulary, rng, out),
        Slot::Passage => write_passage(vocabulary, rng, out),
        Slot::Persona => write_sentence(PERSONAS, vocabulary, rng, out),
        Slot::Break => out.push_str("\\n"),
    }
}

/// Writes a question or a task.
pub fn write_question(vocabulary: &Vocabulary, rng: &mut Rng, out: &mut String) {
    write_sentence(QUESTIONS, vocabulary, rng, out);
}

/// Writes two statements.
pub fn write_passage(vocabulary: &Vocabulary, rng: &mut Rng, out: &mut String) {
    write_sentence(STATEMENTS, vocabulary, rng, out);
    out.push(' ');
    write_sentence(STATEMENTS, vocabulary, rng, out);
}

/// Writes a sentence of a random shape. In a shape, `_n_`, `_a_`, `_v_`, `_d_` and `_N_` are
/// replaced by a noun, adjective, verb, adverb and name.
fn write_sentence(
    shapes: &[&'static str],
    vocabulary: &Vocabulary,
    rng: &mut Rng,
    out: &mut String,
) {
    for piece in rng.pick(shapes).split('_') {
        match piece {
            "n" => vocabulary.write_word(WordClass::Noun, rng, out),
            "a" => vocabulary.write_word(WordClass::Adjective, rng, out),
            "v" => vocabulary.write_word(WordClass::Verb, rng, out),
            "d" => vocabulary.write_word(WordClass::Adverb, rng, out),
            "N" => vocabulary.write_name(rng, out),
            text => out.push_str(text),
        }
    }
}

/// Shapes of questions. At least four of any eight consecutive words are placeholders, so that two
/// questions rarely share eight consecutive words.
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

/// Shapes of statements.
const STATEMENTS: &[&str] = &[
    "_N_ chose to _v_ _a_ _n_ since _a_ _n_ _d_ _v_ _N_.",
    "The _n_ of _N_ was _a_, so _a_ _n_ from _N_ could _v_ _n_.",
    "In _N_ the _a_ _n_ and _a_ _n_ _v_ what _N_ wants to _v_.",
    "After the _n_, _N_ began to _v_ _a_ _n_ until _N_ stopped _a_ _n_.",
    "A _a_ _n_ will _v_ _N_ only where _a_ _n_ and _N_ _v_ a _n_.",
    "Nobody at _N_ would _v_ _a_ _n_, as _a_ as _N_ made _n_.",
];

/// Shapes of personas.
const PERSONAS: &[&str] = &[
    "a _a_ _n_ seller from _N_ eager to _v_ _a_ _n_ with _N_",
    "the _a_ keeper of _n_ at _N_, known to _v_ _a_ _n_ of _N_",
    "a student of _n_ and _n_ in _N_ who must _v_ _a_ _n_ for _N_",
    "an engineer at _N_ with _a_ _n_ to _v_ and _n_ of _N_",
];

fn parse_segments(text: &'static str) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut remaining = text;
    while let Some(at) = remaining.find(['(', '[']) {
        let (before, from_bracket) = remaining.split_at(at);
        if !before.is_empty() {
            segments.push(Segment::Text(before));
        }
        let close = if from_bracket.starts_with('(') { ')' } else { ']' };
        let Some((inner, after)) = from_bracket.get(1..).and_then(|inner| inner.split_once(close))
        else {
            break;
        };
        segments.push(match close {
            ')' => Segment::Choice(inner.split('|').collect()),
            _ => parse_slot(inner).map_or(Segment::Text(inner), Segment::Slot),
        });
        remaining = after;
    }
    if !remaining.is_empty() {
        segments.push(Segment::Text(remaining));
    }
    segments
}

fn parse_slot(name: &str) -> Option<Slot> {
    Some(match name {
        "noun" => Slot::Word(WordClass::Noun),
        "adjective" => Slot::Word(WordClass::Adjective),
        "verb" => Slot::Word(WordClass::Verb),
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

    use hedgerow_core::keyed_hash::HashKey;
    use hedgerow_core::template;

    use super::*;
    use crate::cmd::simulate::prompt_catalog;

    fn keys(text: &str) -> Vec<u64> {
        template::keys("hedgerow.template.user", [text].into_iter(), &HashKey::default())
    }

    /// Returns the number of texts that share a template key with another text.
    fn count_sharing_keys(texts: &[String]) -> usize {
        let keys: Vec<Vec<u64>> = texts.iter().map(|text| keys(&text.to_lowercase())).collect();
        let mut texts_by_key: HashMap<u64, usize> = HashMap::new();
        keys.iter().flatten().for_each(|key| *texts_by_key.entry(*key).or_default() += 1);
        keys.iter().filter(|keys| keys.iter().any(|key| texts_by_key[key] > 1)).count()
    }

    #[test]
    fn generated_questions_rarely_share_a_template_key() {
        let (vocabulary, mut rng) = (Vocabulary::new(), Rng::new(1, 1));
        let generate = |_| {
            let mut text = String::new();
            write_question(&vocabulary, &mut rng, &mut text);
            text.push(' ');
            write_passage(&vocabulary, &mut rng, &mut text);
            text
        };
        let texts: Vec<String> = (0..20_000).map(generate).collect();
        assert!(texts.iter().all(|text| !keys(text).is_empty()));
        let sharing = count_sharing_keys(&texts);
        assert!(sharing <= 2, "{sharing} of 20,000 share eight words with another");
    }

    #[test]
    fn templates_share_keys_and_paraphrases_do_not() {
        let (vocabulary, mut rng) = (Vocabulary::new(), Rng::new(2, 1));
        for pattern in
            [prompt_catalog::tags(), prompt_catalog::traces(), prompt_catalog::cleaning()].concat()
        {
            let mut generate = |is_paraphrased: bool| {
                let choices =
                    if is_paraphrased { Rng::new(rng.next_u64(), 0) } else { Rng::new(5, 5) };
                let (mut choice_source, mut text) =
                    (ChoiceSource { choices, is_paraphrased }, String::new());
                pattern.write_instruction(&vocabulary, &mut choice_source, &mut text);
                pattern.write_payload(&vocabulary, &mut choice_source, &mut rng, &mut text);
                text
            };
            let templated: Vec<String> = (0..50).map(|_| generate(false)).collect();
            let shared = count_sharing_keys(&templated);
            assert!(shared >= 45, "{shared} of 50: {}", templated[0]);
            let paraphrased: Vec<String> = (0..50).map(|_| generate(true)).collect();
            let sharing = count_sharing_keys(&paraphrased);
            assert!(sharing <= 10, "{sharing} of 50: {}", paraphrased[0]);
        }
    }

    #[test]
    fn texts_need_no_escaping_in_json() {
        let (vocabulary, mut rng) = (Vocabulary::new(), Rng::new(3, 1));
        let patterns = [
            prompt_catalog::tags(),
            prompt_catalog::traces(),
            prompt_catalog::grading(),
            prompt_catalog::cleaning(),
            prompt_catalog::sweeps(),
            prompt_catalog::replays(),
            prompt_catalog::shared_tools(),
            prompt_catalog::retrieval(),
            prompt_catalog::framework_prompts(),
            prompt_catalog::batches(),
            prompt_catalog::evaluations(),
            prompt_catalog::audits(),
            prompt_catalog::test_fixtures(),
            prompt_catalog::benchmarks(),
            prompt_catalog::app_instructions(),
        ];
        for pattern in patterns.concat() {
            let (mut choice_source, mut text) =
                (ChoiceSource { choices: rng, is_paraphrased: false }, String::from("\""));
            pattern.write_instruction(&vocabulary, &mut choice_source, &mut text);
            pattern.write_payload(&vocabulary, &mut choice_source, &mut rng, &mut text);
            text.push('"');
            let parsed: String = serde_json::from_str(&text).unwrap();
            assert!(!parsed.contains(['[', '|', '_']), "a slot is not known: {parsed}");
        }
    }
}
