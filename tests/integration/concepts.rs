//! Comparisons with concepts: tests with tables and random texts. Results must equal those of
//! `explain` and of the naive reference.

use hedgerow_core::evaluate::explain::Explainer;
use hedgerow_core::extract::{FieldValue, Request};
use hedgerow_core::field::{FieldId, Section};
use hedgerow_core::{Envelope, Ruleset};
use hedgerow_sigma::RuleFile;
use proptest::prelude::*;

use crate::support::PlainRequest;

fn concept(name: &str, rest: &str) -> RuleFile {
    let text = format!("concept: {name}\ndescription: For a test.\n{rest}\n");
    RuleFile { path: format!("lexicon/{name}.yml"), text }
}

fn lexicon() -> Vec<RuleFile> {
    vec![
        concept(
            "make",
            "rare: false\nterms: {en: [write, generat*], ru: [созда*], zh-Hans: [生成]}",
        ),
        concept(
            "item",
            "rare: false\nterms: {en: ['question*', pair, pairs, turn by turn], zh-Hans: [问题]}",
        ),
        concept("purpose", "rare: true\nterms: {en: [fine-tun*], ru: [дообуч*], zh-Hans: [微调]}"),
        concept("format", "rare: true\nterms: {en: [jsonl, pairs as json]}"),
    ]
}

/// Returns a rule with the given detection section, and with `near` as the value of its attribute
/// `near`.
fn rule(detection: &str, near: &str) -> RuleFile {
    let near = if near.is_empty() { String::new() } else { format!("  hedgerow.near: {near}\n") };
    let exemplars =
        ["match", "match", "no-match", "no-match"].iter().enumerate().map(|(number, expect)| {
            format!(
                "    - {{name: '{number}', expect: {expect}, event: {{hedgerow.prompt.user: x}}}}\n"
            )
        });
    let text = format!(
        "title: A rule of a test\nid: 5d0f2a6e-5a3b-4a3c-9a54-000000000001\n\
         name: synthesis_one\nstatus: stable\ndescription: For one test.\n\
         references: ['https://arxiv.org/abs/2212.10560']\nauthor: Hedgerow\ndate: 2026-11-29\n\
         tags: [hedgerow.synthesis]\nlogsource: {{category: llm_api, product: hedgerow}}\n\
         detection:\n{detection}\nfalsepositives: [Nobody]\nlevel: critical\n\
         custom_attributes:\n{near}  rsigma.exemplars:\n{}",
        exemplars.collect::<String>()
    );
    RuleFile { path: "one.yml".to_owned(), text }
}

const ORDER: &str = "  make: {'hedgerow.prompt.user|expand': '%make%'}\n  \
                     item: {'hedgerow.prompt.user|expand': ['%item%', '%format%']}\n  \
                     purpose: {'hedgerow.prompt.user|expand': '%purpose%'}\n  \
                     condition: make and item and purpose";

fn findings(files: &[RuleFile]) -> String {
    let findings = hedgerow_sigma::check(files).err().unwrap_or_default();
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

fn ruleset(rule: RuleFile) -> Ruleset {
    let files = [lexicon(), vec![rule]].concat();
    let rules = hedgerow_sigma::check(&files).unwrap_or_else(|_| panic!("{}", findings(&files)));
    rules.ruleset().unwrap()
}

/// Returns whether the signature matches. Asserts that the matcher, `explain` and the naive
/// reference agree, and that matcher and `explain` report equal evidence.
fn matches(ruleset: &Ruleset, texts: &[&str]) -> bool {
    let values =
        texts.iter().map(|text| (FieldId::PromptUser, FieldValue::Text(Section::User, text)));
    let request = Request::from_values(values);
    let signature = &ruleset.signatures()[0];
    let explained = Explainer::new(ruleset.concepts()).explain(signature, &request, &[]);
    let headers = ruleset.program().header_bits(&[]);
    let hit = ruleset.program().matcher().hits(&request, &headers).pop();
    let naive = PlainRequest::from_request(&request, |_| true).normalized();
    let naive = naive.matches(signature, ruleset.concepts(), &[]);
    assert_eq!((hit.is_some(), explained.holds), (naive, naive), "{texts:?}");
    if let Some(hit) = hit
        && hit.evidence.len() == 1
    {
        let comparisons = explained.selections.iter().flat_map(|selection| &selection.comparisons);
        let evidence = comparisons.filter_map(|comparison| comparison.evidence.clone()).next();
        assert_eq!(hit.evidence.first(), evidence.as_ref(), "{texts:?}");
    }
    naive
}

#[test]
fn concepts_count_in_a_sentence_or_within_a_distance() {
    let sentence = ruleset(rule(ORDER, "{within: sentence, of: [make, item, purpose]}"));
    let distance = ruleset(rule(ORDER, "{within: 40, of: [make, item, purpose]}"));
    let alone = "  purpose: {'hedgerow.prompt.user|expand': ['%purpose%', '%format%']}\n  \
                 condition: purpose";
    let alone = ruleset(rule(alone, ""));
    let far = format!("Write pairs {} to fine-tune", "and so on ".repeat(60));
    let rows: &[(&[&str], [bool; 3])] = &[
        (&["Generate questions to fine-tune it"], [true, true, true]),
        (&["FINE-TUNING:  generate\nquestions"], [true, true, true]),
        (&["Generate questions. They are to fine-tune it"], [false, true, true]),
        (&["请生成问题,用于微调模型"], [true, true, true]),
        (&["请生成问题。用于微调模型"], [false, true, true]),
        (&["Создай pairs для дообучения"], [true, true, true]),
        (&["Generate v1.5 questions to fine-tune it"], [true, true, true]),
        (&["rewrite questions to fine-tune it"], [false, false, true]),
        (&["write about impairs to fine-tune it"], [false, false, true]),
        (&["write questions to refine-tune it"], [false, false, false]),
        // The first of two overlapping occurrences is not a whole word, but the second is.
        (&["write return by turn by turn to fine-tune it"], [true, true, true]),
        (&["write questions"], [false, false, false]),
        (&["write questions", "fine-tune it"], [false, false, true]),
        (&["write some pairs as JSON", "no", "write pairs: fine-tuned"], [true, true, true]),
        (
            &["write 5 long and 6 short and 7 other pairs as jsonl for fine-tuning"],
            [true, false, true],
        ),
        (&[&far], [false, false, true]),
        (&["write fine-tuning jsonl"], [true, true, true]),
    ];
    for (texts, expected) in rows {
        let results = [&sentence, &distance, &alone].map(|ruleset| matches(ruleset, texts));
        assert_eq!(results, *expected, "{texts:?}");
    }
}

/// A term that overlaps the anchor does not count as a different part.
#[test]
fn one_phrase_is_not_two_concepts() {
    let detection = "  item: {'hedgerow.prompt.user|expand': '%item%'}\n  \
                     format: {'hedgerow.prompt.user|expand': '%format%'}\n  \
                     condition: format and item";
    let ruleset = ruleset(rule(detection, "{within: sentence, of: [item, format]}"));
    assert!(!matches(&ruleset, &["pairs as json"]));
    assert!(matches(&ruleset, &["pairs as json, and pairs"]));
}

#[test]
fn text_of_anchors_is_read_once() {
    let ruleset = ruleset(rule(ORDER, "{within: sentence, of: [make, item, purpose]}"));
    let prompt = "fine-tuning of questions, fine-tuned. ".repeat(20_000);
    let body = serde_json::json!({ "messages": [{ "role": "user", "content": prompt }] });
    let body = body.to_string();
    let path = "/v1/chat/completions";
    let envelope = Envelope { method: "POST", path, body: body.as_bytes(), ..Envelope::default() };
    let assessment = ruleset.assess(&envelope).unwrap();
    assert!(assessment.hits.is_empty());
}

#[test]
fn check_reports_what_cannot_be_found() {
    let of = "{within: sentence, of: [make, item, purpose]}";
    let replaced = |from: &str, to: &str| ORDER.replace(from, to);
    let rows: Vec<(String, &str, &str)> = vec![
        (replaced("%purpose%", "%purpse%"), of, "did you mean 'purpose'?"),
        (replaced("%purpose%", "purpose"), of, "'purpose' is not a placeholder"),
        (replaced("'%purpose%'", "'%make%'"), "", "the concept 'make' is not rare"),
        (replaced("'%purpose%'", "'%make%'"), of, "no selection out of make, item, purpose has"),
        (replaced(" and purpose", " or purpose"), of, "does not join make, item, purpose by `and`"),
        (ORDER.into(), "{within: far, of: [make, item, purpose]}", "`within` is invalid"),
        (ORDER.into(), "{within: 9000, of: [make, item, purpose]}", "`within` is invalid"),
        (ORDER.into(), "{within: 40, of: [make, itm, purpose]}", "did you mean 'item'?"),
        (ORDER.into(), "{within: 40, of: [purpose]}", "fewer than two"),
        (
            replaced(
                "make: {'hedgerow.prompt.user|expand': '%make%'}",
                "make: {hedgerow.turns: 1}",
            ),
            of,
            "'make' is not a list of concepts",
        ),
        (
            replaced("make: {'hedgerow.prompt.user", "make: {'hedgerow.prompt.assistant"),
            of,
            "compares another field",
        ),
    ];
    for (detection, near, expected) in rows {
        let found = findings(&[lexicon(), vec![rule(&detection, near)]].concat());
        assert!(found.contains(expected), "expected {expected}, found:\n{found}");
    }
    let concepts = [
        ("rare: true\nterms: {en: [abc]}", "shorter than four bytes"),
        ("rare: true\nterms: {zh-Hans: [调]}", "shorter than four bytes"),
        ("rare: true\nterms: {en: ['*tune']}", "only allowed at its end"),
        ("rare: true\nterms: {en: [tuning, Tuning]}", "the language has it already"),
        ("rare: true\nterms: {zh-Hand: [微调]}", "did you mean 'zh-Hans'?"),
        ("rare: maybe\nterms: {en: [tuning]}", "`rare` is invalid"),
        ("rare: true\nterm: {en: [tuning]}", "did you mean 'terms'?"),
    ];
    for (rest, expected) in concepts {
        let found = findings(&[concept("one", rest)]);
        assert!(found.contains(expected), "expected {expected}, found:\n{found}");
    }
}

/// Generates texts of terms and other words.
fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(
        &[
            "write ",
            "generate",
            "questions ",
            "pair",
            "pairs as json",
            "jsonl ",
            "fine-tune",
            "fine-tuned ",
            "生成",
            "问题",
            "微调",
            "。",
            ". ",
            ".",
            "? ",
            " ",
            " ",
            "x",
            "созда",
            "дообуч",
            "other words ",
            "и ",
        ][..],
    );
    prop::collection::vec(word, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The search around anchors gives the same results as a search of the whole value for all
    /// terms.
    #[test]
    fn the_search_around_anchors_equals_a_full_search(
        texts in prop::collection::vec(words(), 1..4),
        within in prop::sample::select(&["sentence", "9", "30", "120"][..]),
        order in prop::sample::select(&["make, item, purpose", "purpose, item, make"][..]),
    ) {
        let ruleset = ruleset(rule(ORDER, &format!("{{within: {within}, of: [{order}]}}")));
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        matches(&ruleset, &texts);
    }
}
