//! A concept: terms in many languages for one thing. Signatures name the concept instead of words.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::text::{has_word_spaces, is_word_char};

/// A concept of the lexicon. The bundle holds it once, for all signatures that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concept {
    /// Name, such as `training_data`; unique.
    pub name: String,
    /// Whether its terms are rare in ordinary prompts. The whole text is searched for the terms of
    /// rare concepts. The terms of other concepts are searched for only around terms of rare
    /// concepts.
    pub rare: bool,
    /// Terms of all languages, normalised, as [`Term::parse`] reads them.
    pub terms: Vec<String>,
}

/// A term of a concept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term<'t> {
    /// Normalised text.
    pub text: &'t str,
    /// Whether a word may continue after the text: `fine-tun*` is also found in "fine-tuned".
    pub is_stem: bool,
}

impl<'t> Term<'t> {
    /// Parses a term: a whole word or several, or a stem with a trailing `*`.
    pub fn parse(term: &'t str) -> Self {
        let stem = term.strip_suffix('*');
        Self { text: stem.unwrap_or(term), is_stem: stem.is_some() }
    }
}

/// Returns whether an occurrence of a term is a whole word of `value`, or the beginning of one if
/// the term is a stem.
pub fn is_whole_word(value: &str, occurrence: Range<usize>, is_stem: bool) -> bool {
    let Some(word) = value.get(occurrence.clone()) else { return false };
    let before = value.get(..occurrence.start).and_then(|text| text.chars().next_back());
    let after = value.get(occurrence.end..).and_then(|text| text.chars().next());
    let joins = |inside: Option<char>, outside: Option<char>| {
        inside.zip(outside).is_some_and(|(inside, outside)| {
            [inside, outside].iter().all(|char| is_word_char(*char) && has_word_spaces(*char))
        })
    };
    !joins(word.chars().next(), before) && (is_stem || !joins(word.chars().next_back(), after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_end_where_the_script_says_so() {
        let rows = [
            ("fine-tuning", "fine-tun*", true),
            ("a fine-tuned model", "fine-tun*", true),
            ("refine-tuning", "fine-tun*", false),
            ("train it", "train", true),
            ("trains it", "train", false),
            ("a strain", "train", false),
            ("(train)", "train", true),
            ("train_data, train2", "train", true),
            ("train2", "train", false),
            ("用train数据", "train", true),
            ("生成训练数据集", "训练数据", true),
            ("データを生成する", "生成", true),
            ("학습용 데이터를", "데이터", false),
            ("학습용 데이터를", "데이터*", true),
            ("ข้อมูลฝึกสอนโมเดล", "ฝึกสอน", true),
            ("обучающих", "обуча*", true),
            ("переобучающих", "обуча*", false),
            ("डेटा", "डेट", false),
            ("डेट्स", "डेट", false),
        ];
        for (value, term, expected) in rows {
            let term = Term::parse(term);
            let start = value.find(term.text).unwrap();
            let occurrence = start..start + term.text.len();
            assert_eq!(
                is_whole_word(value, occurrence, term.is_stem),
                expected,
                "{value} {term:?}"
            );
        }
    }
}
