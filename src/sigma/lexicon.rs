//! Parses and checks `lexicon/<concept>.yml`. Each file lists the terms for one concept in all
//! languages, such as the words for "training data".

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::matching::literal_scanner::MIN_LITERAL_BYTES;
use hedgerow_core::rules::concept::{Concept, Term};
use hedgerow_core::rules::signature::Signature;
use hedgerow_core::text::{Case, normalize_pattern};
use yaml_serde::{Mapping, Value as Yaml};

use crate::document::Diagnostics;
use crate::layers::replacement_problem;
use crate::source_map::SourceMap;
use crate::suggestion::replace_unknown;
use crate::{Finding, RuleFile, document, metadata};

/// The concepts that rules may name.
#[derive(Clone, Debug, Default)]
pub struct Lexicon {
    /// Concepts, by name.
    pub concepts: BTreeMap<String, ConceptEntry>,
}

/// A concept with its terms by language.
#[derive(Clone, Debug)]
pub struct ConceptEntry {
    /// Description, in one sentence.
    pub description: String,
    /// Whether the terms are rare in ordinary prompts.
    pub is_rare: bool,
    /// Terms as written, by language.
    pub terms: BTreeMap<&'static str, Vec<String>>,
}

impl Lexicon {
    /// Returns whether a concept exists and is rare.
    pub fn is_rare(&self, name: &str) -> bool {
        self.concepts.get(name).is_some_and(|entry| entry.is_rare)
    }

    /// Returns the concepts that signatures name, sorted by name, as a bundle contains them.
    pub fn concepts_of<'s>(&self, signatures: impl Iterator<Item = &'s Signature>) -> Vec<Concept> {
        let names: BTreeSet<&str> = signatures.flat_map(Signature::concept_names).collect();
        let entries = names.into_iter().filter_map(|name| Some((name, self.concepts.get(name)?)));
        entries.map(|(name, entry)| entry.compile(name)).collect()
    }
}

impl ConceptEntry {
    /// Returns the concept as a bundle contains it, with normalised terms and without repetitions.
    /// Terms that begin with a stem of the same concept are left out, because the stem finds them.
    fn compile(&self, name: &str) -> Concept {
        let normalized: BTreeSet<String> =
            self.terms.values().flatten().map(|term| normalize_term(term)).collect();
        let stems: Vec<&str> =
            normalized.iter().filter_map(|term| term.strip_suffix('*')).collect();
        let is_covered = |term: &String| {
            let text = Term::parse(term).text;
            let is_own_stem = |stem: &str| term.strip_suffix('*') == Some(stem);
            stems.iter().any(|stem| text.starts_with(stem) && !is_own_stem(stem))
        };
        let terms = normalized.iter().filter(|term| !is_covered(term)).cloned().collect();
        Concept { name: name.to_owned(), rare: self.is_rare, terms }
    }
}

/// Normalises a term in the same way as the text of requests. Keeps the `*` at the end of a stem.
fn normalize_term(term: &str) -> String {
    let Term { text, is_stem } = Term::parse(term.trim());
    let text = normalize_pattern(text, Case::Fold);
    if is_stem { text + "*" } else { text }
}

/// Returns whether a path is the path of a concept.
pub fn is_concept(path: &str) -> bool {
    path.starts_with(LEXICON_DIR)
}

/// Parses and checks a concept, and adds it to `lexicon`. `lexicon` has the concepts of the lower
/// layers.
pub fn parse(file: &RuleFile, lexicon: &mut Lexicon, findings: &mut Vec<Finding>) {
    let source_map = SourceMap::new(&file.text);
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let Some(document) = document::read(&file.text, &mut diagnostics) else { return };
    for key in document.keys() {
        metadata::check_key(key, &[], KEYS, &mut diagnostics);
    }
    let name = document.get("concept").and_then(Yaml::as_str).unwrap_or_default();
    let is_valid_char =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if file.path != format!("{LEXICON_DIR}{name}.yml") || !name.bytes().all(is_valid_char) {
        let problem = format!("the concept '{name}' is not named like its file");
        let remedy = "use a-z, 0-9 and underscores, as in `lexicon/training_data.yml`";
        diagnostics.add(&["concept"], problem, remedy);
    }
    let replaces = document.get("replaces").and_then(Yaml::as_bool).unwrap_or(false);
    if let Some((problem, remedy)) =
        replacement_problem("concept", name, lexicon.concepts.contains_key(name), replaces)
    {
        diagnostics.add(&["concept"], problem, remedy);
    }
    let description = document.get("description").and_then(Yaml::as_str).unwrap_or_default();
    if description.trim().is_empty() {
        diagnostics.add(&["description"], "no description", "say what the terms have in common");
    }
    let is_rare = document.get("rare").and_then(Yaml::as_bool);
    if is_rare.is_none() {
        let problem = "`rare` is invalid: expected true or false";
        let remedy = "write `rare: false` if ordinary prompts of any language have the terms";
        diagnostics.add(&["rare"], problem, remedy);
    }
    let terms = match document.get("terms") {
        Some(Yaml::Mapping(languages)) => check_terms(languages, &mut diagnostics),
        _ => {
            diagnostics.add(&["terms"], "no terms", "list terms by language, as in `en: [write]`");
            BTreeMap::new()
        }
    };
    let description = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let entry = ConceptEntry { description, is_rare: is_rare.unwrap_or(false), terms };
    lexicon.concepts.insert(name.to_owned(), entry);
}

/// Returns the valid terms by language, and adds findings for invalid terms and languages.
fn check_terms(
    languages: &Mapping,
    diagnostics: &mut Diagnostics<'_>,
) -> BTreeMap<&'static str, Vec<String>> {
    let mut terms_by_language = BTreeMap::new();
    for (code, terms) in languages {
        let code = code.as_str().unwrap_or_default();
        let Some(language) = LANGUAGES.iter().find(|language| **language == code) else {
            let remedy = replace_unknown(code, LANGUAGES);
            diagnostics.add(&["terms", code], format!("unknown language '{code}'"), remedy);
            continue;
        };
        let mut valid_terms = Vec::new();
        for (index, term) in terms.as_sequence().into_iter().flatten().enumerate() {
            let term = term.as_str().unwrap_or_default();
            match find_problem(term, &valid_terms) {
                None => valid_terms.push(term.to_owned()),
                Some(problem) => {
                    let problem = format!("the term '{term}' is invalid: {problem}");
                    diagnostics.add(&["terms", code, &index.to_string()], problem, TERM_REMEDY);
                }
            }
        }
        if valid_terms.is_empty() {
            diagnostics.add(&["terms", code], "no terms", "list terms, or remove the language");
        }
        terms_by_language.insert(*language, valid_terms);
    }
    terms_by_language
}

/// Returns the reason why a term is invalid: it cannot be found in texts, or `previous`, the
/// earlier terms of the language, has it already. Returns `None` if the term is valid.
fn find_problem(term: &str, previous: &[String]) -> Option<&'static str> {
    let text = Term::parse(term.trim()).text;
    if text.contains('*') {
        Some("a `*` is only allowed at its end")
    } else if normalize_pattern(text, Case::Fold).len() < MIN_LITERAL_BYTES {
        Some("it is shorter than four bytes")
    } else if previous.iter().any(|other| normalize_term(other) == normalize_term(term)) {
        Some("the language has it already")
    } else {
        None
    }
}

const TERM_REMEDY: &str = "write a whole word or several, or a stem with a `*` at its end";

/// The directory of the lexicon, below the rules directory.
const LEXICON_DIR: &str = "lexicon/";

const KEYS: &[&str] = &["concept", "description", "rare", "replaces", "terms"];

/// The languages of the lexicon, as BCP 47 tags.
pub const LANGUAGES: &[&str] = &[
    "en", "zh-Hans", "zh-Hant", "ja", "ko", "ru", "uk", "es", "pt", "fr", "de", "it", "nl", "pl",
    "tr", "ar", "fa", "hi", "bn", "id", "vi", "th",
];
