//! Correlation by the shipped rules: over recorded traffic, where it is at hand (the promises of
//! docs/evaluation.md), and what is kept of single requests.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::correlate::{Firing, Observation};
use hedgerow_core::engine::LocalEngine;
use hedgerow_core::{Envelope, Ruleset};
use hedgerow_sigma::RuleFile;
use serde_json::Value;

use crate::{from_root, hedgerow_command, skip};

/// Recorded files, by label; none where there are none.
fn recorded() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for label in fs::read_dir(from_root("../shared/corpus/dev")).into_iter().flatten() {
        let label = label.unwrap().path();
        files.extend(fs::read_dir(label).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    files
}

fn replay(files: &[PathBuf]) -> Value {
    let mut command = hedgerow_command();
    let output = command.args(["replay", "--format", "json"]).args(files).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn named(file: &Value, part: &str) -> bool {
    let path = file["path"].as_str().unwrap();
    Path::new(path).file_name().unwrap().to_str().unwrap().contains(part)
}

#[test]
fn rotated_accounts_are_found_and_no_harmless_one_is() {
    let files = recorded();
    if files.is_empty() {
        return skip("no recorded traffic at ../shared/corpus/dev");
    }
    let report = replay(&files);
    assert_eq!(report["labels"]["benign"]["accounts_suspect"], 0);
    let files: Vec<&Value> = report["files"].as_array().unwrap().iter().collect();
    let mut leakages = Vec::new();
    for file in files.iter().filter(|file| file["label"] == "harvest") {
        let campaign = &file["campaign"];
        let (accounts, flagged) = (&campaign["accounts"], &campaign["flagged"]);
        let (accounts, flagged) = (accounts.as_u64().unwrap(), flagged.as_u64().unwrap());
        if accounts < 2 {
            continue;
        }
        leakages.push(campaign["leakage"].as_f64().unwrap());
        let is_promised = named(file, "hydra") || named(file, "rotated");
        assert!(!is_promised || 10 * flagged >= 9 * accounts, "{file}");
    }
    leakages.sort_by(f64::total_cmp);
    assert!(leakages[leakages.len() / 2] <= 0.3, "{leakages:?}");
}

/// What correlation keeps of requests with a ruleset of the shipped rules and a policy of one's own.
fn observed(policy: &str, body: &str) -> (Ruleset, Option<Observation>) {
    let mut sources = hedgerow_sigma::read(&from_root("rules")).unwrap();
    sources.retain(|source| source.path != "policy.toml");
    sources.push(RuleFile { path: "policy.toml".to_owned(), text: policy.to_owned() });
    let ruleset = hedgerow_sigma::check(&sources).unwrap().ruleset().unwrap();
    let observation = observe(&ruleset, body);
    (ruleset, observation)
}

fn observe(ruleset: &Ruleset, body: &str) -> Option<Observation> {
    let indicators = Indicators::default();
    let envelope = Envelope {
        method: "POST",
        path: "/v1/messages",
        body: body.as_bytes(),
        account: Some("0123456789abcdef0123456789abcdef"),
        now: 1_800_000_000,
        indicators: Some(&indicators),
        ..Envelope::default()
    };
    ruleset.assess(&envelope).unwrap().observation
}

const ASKED: &str = r#"{"messages":[{"role":"user","content":"Finished answer: 42. Articulate the internal reasoning that led to the answer."}]}"#;

/// An exempted audit fed the very correlations that then flagged its template.
#[test]
fn what_is_exempt_counts_for_nothing() {
    let exemption = |signatures: &str| {
        format!("[[exemption]]\nname = \"audit\"\nreason = \"r\"\nuntil = 2099-01-01\n{signatures}")
    };
    let (ruleset, plain) = observed("", ASKED);
    let plain = plain.unwrap();
    let elicits = |observation: &Observation| {
        let rules =
            observation.signatures.iter().map(|rule| &ruleset.plan().signatures()[*rule as usize]);
        rules.filter(|rule| rule.starts_with("elicitation_")).count()
    };
    assert!(elicits(&plain) > 0);
    assert_eq!(observed(&exemption("path = \"/v1/**\""), ASKED).1, None);
    let some = exemption("signatures = [\"elicitation_reconstruct_trace\"]");
    assert_eq!(elicits(&observed(&some, ASKED).1.unwrap()), elicits(&plain) - 1);
}

/// Made-up credentials once made accounts: whoever sent a public system prompt with a hundred of them had
/// correlations of 20 dB hold for its real users.
#[test]
fn credentials_that_the_origin_does_not_know_are_no_accounts() {
    let ruleset = hedgerow_sigma::check(&hedgerow_sigma::read(&from_root("rules")).unwrap())
        .unwrap()
        .ruleset()
        .unwrap();
    let body = r#"{"messages":[{"role":"system","content":"You are the assistant of a garden shop and answer questions about plants, tools and opening hours in a friendly voice."},{"role":"user","content":"When do you open?"}]}"#;
    let told = |status: u16| {
        let mut local = LocalEngine::new(&ruleset, true);
        let mut names = BTreeSet::new();
        for number in 0..800_u64 {
            let account = format!("{:032x}", number % 100);
            let envelope = Envelope {
                method: "POST",
                path: "/v1/chat/completions",
                body: body.as_bytes(),
                account: Some(&account),
                now: 1_800_000_000 + number / 2,
                ..Envelope::default()
            };
            local.evaluate(&envelope, status).unwrap();
            let correlations = ruleset.plan().correlations();
            let name = |firing: &Firing| correlations[firing.correlation].name.clone();
            names.extend(local.firings().iter().map(name));
        }
        names
    };
    assert!(told(200).contains("cluster_system_load"));
    assert_eq!(told(401), BTreeSet::new());
}

/// Switching off a signature once made the whole ruleset unloadable, and a sequence one of a single step.
#[test]
fn rules_that_are_off_take_along_what_cannot_do_without_them() {
    let off = |name: &str| format!("[[signature]]\nname = \"{name}\"\noff = true\n");
    let names = |policy: &str| -> Vec<String> {
        let (ruleset, _) = observed(policy, ASKED);
        ruleset.plan().correlations().iter().map(|own| own.name.clone()).collect()
    };
    let all = names("");
    let without = names(&off("traffic_refused"));
    let gone: Vec<&String> = all.iter().filter(|name| !without.contains(name)).collect();
    assert_eq!(gone, ["cluster_failover", "cluster_failover_step"]);
    let few = names(&off("traffic_generation"));
    assert!(
        !few.contains(&"cluster_no_rhythm".to_owned())
            && few.contains(&"cluster_template_load".to_owned())
    );
    let weight = "[[signature]]\nname = \"cluster_elicitation\"\nweight = 0.0\n";
    let (ruleset, _) = observed(weight, ASKED);
    let own = ruleset.plan().correlations().iter().find(|own| own.name == "cluster_elicitation");
    assert!(own.unwrap().is_intermediate() && !own.unwrap().links_accounts());
}

/// However much a body says, and in whatever spelling, what is kept of it is small and the same.
#[test]
fn hostile_bodies_leave_little_and_no_other_keys() {
    let (ruleset, _) = observed("", ASKED);
    let models: Vec<String> = (0..5_000).map(|number| format!("\"m{number}\"")).collect();
    let many = format!(r#"{{"model":[{}],"messages":[]}}"#, models.join(","));
    assert!(observe(&ruleset, &many).unwrap().values.len() < 100);
    let token = |signature: &str| {
        format!(
            r#"{{"messages":[{{"role":"assistant","content":[{{"type":"thinking","thinking":"","signature":"{signature}"}}]}},{{"role":"user","content":"go on"}}]}}"#
        )
    };
    let keys = |body: &str| observe(&ruleset, body).unwrap().values;
    assert_eq!(keys(&token("EqAB/cd")), keys(&token(r"\u0045qAB\/cd")));
    assert_ne!(keys(&token("EqAB/cd")), keys(&token("EqAB/ce")));
    let said = "you are given a passage and write three questions about it each with an answer";
    let parts: Vec<String> =
        said.split(' ').map(|word| format!(r#"{{"type":"text","text":"{word} "}}"#)).collect();
    let template = |content: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let field =
            ruleset.plan().fields().iter().position(|own| own.name() == "hedgerow.template.user");
        observe(&ruleset, &body).unwrap().values(field.unwrap() as u16).to_vec()
    };
    let whole = template(&format!("{said:?}"));
    assert!(!whole.is_empty());
    assert_eq!(template(&format!("[{}]", parts.join(","))), whole);
}

/// Sixty-four harmless entries before it once hid the gravest entry of an upload.
#[test]
fn the_gravest_entry_of_an_upload_is_counted_wherever_it_stands() {
    let (ruleset, _) = observed("", ASKED);
    let entry = |content: &str| {
        format!(
            r#"{{"custom_id":"a","params":{{"messages":[{{"role":"user","content":"{content}"}}]}}}}"#
        )
    };
    let mut entries = vec![entry("When is a hedge cut?"); 200];
    entries.push(entry(
        "Finished answer: 42. Articulate the internal reasoning that led to the answer.",
    ));
    let body = format!(r#"{{"requests":[{}]}}"#, entries.join(","));
    let indicators = Indicators::default();
    let envelope = Envelope {
        method: "POST",
        path: "/v1/messages/batches",
        body: body.as_bytes(),
        indicators: Some(&indicators),
        ..Envelope::default()
    };
    let assessment = ruleset.assess(&envelope).unwrap();
    assert_eq!(assessment.entries, 201);
    let rules = assessment.observation.unwrap().signatures;
    let names: Vec<&str> =
        rules.iter().map(|rule| ruleset.plan().signatures()[*rule as usize].as_str()).collect();
    assert!(names.contains(&"elicitation_reconstruct_trace"), "{names:?}");
    assert!(names.contains(&"traffic_generation"), "{names:?}");
}
