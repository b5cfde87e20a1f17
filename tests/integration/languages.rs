//! Languages: in each language, requests for training data are detected, and everyday requests are
//! not.

use std::collections::BTreeMap;

use hedgerow_core::{Decision, Envelope, Ruleset};
use serde::Deserialize;

use crate::from_root;

#[derive(Deserialize)]
struct Fixture {
    language: String,
    harvest: Vec<String>,
    ordinary: Vec<String>,
}

/// Returns the requests of every language.
fn fixtures() -> Vec<Fixture> {
    let files = std::fs::read_dir(from_root("tests/fixtures/languages")).unwrap();
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    let read = |path| toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    paths.iter().map(read).collect()
}

/// Returns the band of a chat with one message, and the signatures that match.
fn band(ruleset: &Ruleset, prompt: &str) -> (&'static str, Vec<String>) {
    let body = serde_json::json!({ "messages": [{ "role": "user", "content": prompt }] });
    let body = body.to_string();
    let path = "/v1/chat/completions";
    let envelope = Envelope { method: "POST", path, body: body.as_bytes(), ..Envelope::default() };
    let assessment = ruleset.assess(&envelope).unwrap();
    let hits = assessment.hits.iter();
    let names = hits.map(|hit| ruleset.signatures()[hit.signature].name.clone()).collect();
    let attributes = envelope.attributes(assessment.model.as_deref());
    let disposition = ruleset.policy().disposition(&attributes);
    (Decision::new(ruleset, &envelope, assessment, disposition).band.name(), names)
}

fn ruleset() -> Ruleset {
    let files = hedgerow_sigma::read(&from_root("rules")).unwrap();
    hedgerow_sigma::check(&files).unwrap().ruleset().unwrap()
}

#[test]
fn orders_of_training_data_are_suspect_in_every_language() {
    let ruleset = ruleset();
    let mut missed = Vec::new();
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    for fixture in fixtures() {
        for (number, prompt) in fixture.harvest.iter().enumerate() {
            let (band, names) = band(&ruleset, prompt);
            if matches!(band, "suspect" | "hostile") {
                *found.entry(number).or_default() += 1;
            } else {
                println!("{} {number}: {band} {names:?}", fixture.language);
                if number == 0 {
                    missed.push(fixture.language.clone());
                }
            }
        }
    }
    println!("suspect, by kind of order: {found:?}");
    assert!(missed.len() <= 2, "the order of pairs with reasoning is missed in {missed:?}");
}

#[test]
fn everyday_requests_are_clear_in_every_language() {
    let ruleset = ruleset();
    let mut noticed = Vec::new();
    for fixture in fixtures() {
        assert!(fixture.ordinary.len() >= 100, "{}", fixture.language);
        for prompt in &fixture.ordinary {
            let (band, names) = band(&ruleset, prompt);
            if band != "clear" {
                noticed.push(format!("{}: {band} {names:?} {prompt}", fixture.language));
            }
        }
    }
    assert!(noticed.is_empty(), "{}", noticed.join("\n"));
}
