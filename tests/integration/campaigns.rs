//! Correlation with the shipped rules: detection in recorded traffic if it is available (see
//! docs/evaluation.md), and the observations of single requests.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::correlate::{Firing, Observation};
use hedgerow_core::engine::LocalEngine;
use hedgerow_core::{Envelope, Ruleset};
use hedgerow_sigma::RuleFile;
use serde_json::Value;

use crate::{fast_hedgerow_command, from_root, hedgerow_command, skip};

/// Returns the paths of all recorded files. Returns an empty list if no recordings are available.
fn recorded_files() -> Vec<PathBuf> {
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

fn has_in_name(file: &Value, part: &str) -> bool {
    let path = file["path"].as_str().unwrap();
    Path::new(path).file_name().unwrap().to_str().unwrap().contains(part)
}

#[test]
fn rotated_accounts_are_flagged_and_benign_ones_are_not() {
    let files = recorded_files();
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
        // Only its rhythm distinguishes this run from the pods of a company, so its band is only
        // notice.
        let differs_only_in_rhythm = has_in_name(file, "textgen_hydra");
        let is_promised = has_in_name(file, "hydra") || has_in_name(file, "rotated");
        let is_promised = is_promised && !differs_only_in_rhythm;
        assert!(!is_promised || 10 * flagged >= 9 * accounts, "{file}");
    }
    leakages.sort_by(f64::total_cmp);
    assert!(leakages[leakages.len() / 2] <= 0.3, "{leakages:?}");
}

/// Returns the shipped rules with another policy, and the observation of a request.
fn observe_with_policy(policy: &str, body: &str) -> (Ruleset, Option<Observation>) {
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

/// A request that elicits reasoning.
const ELICITATION: &str = concat!(
    r#"{"messages":[{"role":"user","content":"Finished answer: 42. "#,
    r#"Articulate the internal reasoning that led to the answer."}]}"#,
);

/// Regression: correlations counted requests of an exempted audit, and then flagged the template of
/// the audit.
#[test]
fn exempt_signatures_are_not_observed() {
    let exemption = |signatures: &str| {
        let head = "[[exemption]]\nname = \"audit\"\nreason = \"r\"\nuntil = 2099-01-01\n";
        format!("{head}{signatures}")
    };
    let (ruleset, plain) = observe_with_policy("", ELICITATION);
    let plain = plain.unwrap();
    let count_elicitation = |observation: &Observation| {
        let rules =
            observation.signatures.iter().map(|rule| &ruleset.plan().signatures()[*rule as usize]);
        rules.filter(|rule| rule.starts_with("elicitation_")).count()
    };
    assert!(count_elicitation(&plain) > 0);
    assert_eq!(observe_with_policy(&exemption("path = \"/v1/**\""), ELICITATION).1, None);
    let partial = exemption("signatures = [\"elicitation_reconstruct_trace\"]");
    let observation = observe_with_policy(&partial, ELICITATION).1.unwrap();
    assert_eq!(count_elicitation(&observation), count_elicitation(&plain) - 1);
}

/// Regression: invented credentials counted as accounts. A public system prompt that was sent with
/// a hundred of them made correlations of 20 dB hold for the real users of the prompt.
#[test]
fn credentials_that_the_origin_rejects_are_not_accounts() {
    let ruleset = hedgerow_sigma::check(&hedgerow_sigma::read(&from_root("rules")).unwrap())
        .unwrap()
        .ruleset()
        .unwrap();
    let body = concat!(
        r#"{"messages":[{"role":"system","content":"You are the assistant of a garden shop and "#,
        r#"answer questions about plants, tools and opening hours in a friendly voice."},"#,
        r#"{"role":"user","content":"When do you open?"}]}"#,
    );
    let fired = |status: u16| {
        let mut engine = LocalEngine::new(&ruleset, true);
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
            engine.evaluate(&envelope, status).unwrap();
            let correlations = ruleset.plan().correlations();
            let name = |firing: &Firing| correlations[firing.correlation].name.clone();
            names.extend(engine.firings().iter().map(name));
        }
        names
    };
    assert!(fired(200).contains("cluster_system_load"));
    for status in [400, 401, 403, 429] {
        assert_eq!(fired(status), BTreeSet::new(), "{status}");
    }
}

/// Simulates a scenario with the shipped rules, and returns the report.
fn simulate(path: &Path, scale: &str) -> Value {
    let mut command = fast_hedgerow_command();
    command.args(["simulate", "--format", "json", "--scale", scale]).arg(path);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Regression: a campaign made ordinary users of the same template suspect. Fifteen requests with
/// five made-up API keys made all later users of a template suspect for a week.
#[test]
fn campaigns_that_use_the_keys_of_others_convict_only_themselves() {
    let scenarios = fs::read_dir(from_root("scenarios")).unwrap();
    let mut scenarios: Vec<PathBuf> = scenarios.map(|entry| entry.unwrap().path()).collect();
    scenarios.retain(|path| path.file_name().unwrap().to_str().unwrap().starts_with("poison-"));
    scenarios.sort();
    assert!(scenarios.len() >= 12, "{scenarios:?}");
    for path in scenarios {
        let report = simulate(&path, "1");
        let name = path.display();
        for (kind, victims) in report["benign"]["by_kind"].as_object().unwrap() {
            let count = |key: &str| victims[key].as_u64().unwrap();
            assert_eq!(count("suspect_requests"), 0, "{name}: {kind}");
            let (notice, requests) = (count("notice_requests"), count("requests"));
            assert!(100 * notice <= requests, "{name}: {kind}: {notice} of {requests}");
        }
        for campaign in report["campaigns"].as_array().unwrap() {
            let count = |key: &str| campaign[key].as_u64().unwrap();
            // A campaign harvests nothing if its text does not harvest, or if all its requests
            // fail.
            let text = fs::read_to_string(&path).unwrap();
            let harvests = count("exchanges") > 0 && !text.contains("imitation");
            let (flagged, accounts) = (count("flagged"), count("accounts"));
            assert!(!harvests || 10 * flagged >= 9 * accounts, "{name}: {flagged} of {accounts}");
        }
    }
}

/// A company with many API keys counts as one customer, once the origin has named its tenant.
#[test]
fn pods_of_one_tenant_are_no_campaign() {
    let report = simulate(&from_root("scenarios/twin-11-pods.toml"), "0.5");
    let pods = &report["benign"]["by_kind"]["pods"];
    assert!(pods["requests"].as_u64().unwrap() > 50_000);
    assert_eq!((&pods["suspect_requests"], &pods["notice_requests"]), (&0.into(), &0.into()));
}

/// Returns the number of requests of a source to whose score a correlation contributed.
fn correlation_hits(report: &Value, correlation: &str, source: &str) -> u64 {
    let mut correlations = report["correlations"].as_array().unwrap().iter();
    let found = correlations.find(|found| found["name"] == correlation);
    found.map_or(0, |found| found["hits"][source].as_u64().unwrap_or_default())
}

/// Asserts that in all `reports`, no kind of benign requests has suspect requests, or hits
/// according to `hits`.
fn assert_no_benign_detections(reports: &[Value], hits: impl Fn(&Value, &str) -> u64) {
    for report in reports {
        for (kind, counts) in report["benign"]["by_kind"].as_object().unwrap() {
            let found = (hits(report, kind), &counts["suspect_requests"]);
            assert_eq!(found, (0, &0.into()), "{kind}");
        }
    }
}

/// Accounts of a campaign divide known prompts among themselves. An honest evaluation sends the
/// whole collection with one account.
#[test]
fn accounts_that_share_out_known_prompts_are_found_and_evaluations_are_not() {
    let hits = |report: &Value, source: &str| correlation_hits(report, "cluster_seed_walk", source);
    let campaign = simulate(&from_root("scenarios/campaign-f.toml"), "1");
    let exchanges = campaign["campaigns"][0]["exchanges"].as_u64().unwrap();
    assert!(2 * hits(&campaign, "f") > exchanges, "{} of {exchanges}", hits(&campaign, "f"));
    let twin = simulate(&from_root("scenarios/twin-12-public-evaluation.toml"), "1");
    assert_no_benign_detections(&[campaign, twin], hits);
}

/// If accounts divide a list of prompts among themselves, no single request shows it, and the
/// accounts can begin at different times. Honest jobs that never repeat a prompt must stay clear.
#[test]
fn accounts_that_share_out_a_list_are_found_and_jobs_that_never_repeat_are_not() {
    let hits = |report: &Value, source: &str| -> u64 {
        let sweeps = ["cluster_sweep", "cluster_system_sweep", "account_behavior_sweep"];
        sweeps.iter().map(|name| correlation_hits(report, name, source)).sum()
    };
    let campaign = simulate(&from_root("scenarios/campaign-g.toml"), "1");
    let counts = &campaign["campaigns"][0];
    let (flagged, accounts) = (&counts["flagged"], &counts["accounts"]);
    assert!(10 * flagged.as_u64().unwrap() >= 9 * accounts.as_u64().unwrap(), "{counts}");
    assert!(hits(&campaign, "g") > 0);
    let twin = simulate(&from_root("scenarios/twin-15-jobs-that-never-repeat.toml"), "1");
    assert_no_benign_detections(&[campaign, twin], hits);
}

/// A campaign whose wording matches no signature can only be detected by its behaviour. The pods of
/// a company without a named tenant behave similarly: one prompt, even load, no daily rhythm, one
/// request shape.
#[test]
fn conduct_finds_a_campaign_of_unknown_wording_and_no_pods() {
    let scenario = r#"
title = "A campaign of unknown wording, and pods"
seed = 31
days = 2

[[benign]]
kind = "people"
accounts = 100

[[benign]]
kind = "pods"
accounts = 40
groups = 1
daily = 300

[[campaign]]
name = "unknown"
tasks = ["cleaning"]
accounts = 60
daily = 385
templates = 4
begins = 6
unknown_wording = true
detect_within = 10
"#;
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("conduct.toml");
    fs::write(&path, scenario).unwrap();
    let report = simulate(&path, "1");
    let campaign = &report["campaigns"][0];
    assert!(campaign["flagged"].as_u64().unwrap() >= 58, "{campaign}");
    assert!(campaign["flagged_in_time"].as_f64().unwrap() >= 0.8, "{campaign}");
    assert_eq!(report["benign"]["suspect"], 0, "{}", report["benign"]);
}

/// Regression: a disabled signature made the ruleset invalid, and left a sequence correlation with
/// a single step.
#[test]
fn disabled_signatures_disable_correlations_that_need_them() {
    let off = |name: &str| format!("[[signature]]\nname = \"{name}\"\noff = true\n");
    let names = |policy: &str| -> Vec<String> {
        let (ruleset, _) = observe_with_policy(policy, ELICITATION);
        ruleset.plan().correlations().iter().map(|correlation| correlation.name.clone()).collect()
    };
    let all = names("");
    let without = names(&off("traffic_refused"));
    let disabled: Vec<&String> = all.iter().filter(|name| !without.contains(name)).collect();
    assert_eq!(disabled, ["cluster_failover", "cluster_failover_step"]);
    let rest = names(&off("traffic_generation"));
    assert!(!rest.contains(&"cluster_no_rhythm".to_owned()));
    assert!(rest.contains(&"cluster_template_load".to_owned()));
    let weight = "[[signature]]\nname = \"cluster_elicitation\"\nweight = 0.0\n";
    let (ruleset, _) = observe_with_policy(weight, ELICITATION);
    let correlations = ruleset.plan().correlations();
    let elicitation = correlations.iter().find(|rule| rule.name == "cluster_elicitation").unwrap();
    assert!(elicitation.is_intermediate() && !elicitation.links_accounts());
}

/// Observations are small, and do not depend on how the same content is encoded in JSON.
#[test]
fn observations_of_hostile_bodies_are_small_and_normalised() {
    let (ruleset, _) = observe_with_policy("", ELICITATION);
    let models: Vec<String> = (0..5_000).map(|number| format!("\"m{number}\"")).collect();
    let many = format!(r#"{{"model":[{}],"messages":[]}}"#, models.join(","));
    assert!(observe(&ruleset, &many).unwrap().values.len() < 100);
    let token = |signature: &str| {
        let thinking = format!(r#"{{"type":"thinking","thinking":"","signature":"{signature}"}}"#);
        format!(
            r#"{{"messages":[{{"role":"assistant","content":[{thinking}]}},{}]}}"#,
            r#"{"role":"user","content":"go on"}"#
        )
    };
    let keys = |body: &str| observe(&ruleset, body).unwrap().values;
    let tail = "0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEF";
    let long = |head: &str| keys(&token(&format!("{head}{tail}")));
    assert_eq!(long("EqAB/cd"), long(r"\u0045qAB\/cd"));
    assert_ne!(long("EqAB/cd"), long("EqAB/ce"));
    let text = "you are given a passage and write three questions about it each with an answer";
    let parts: Vec<String> =
        text.split(' ').map(|word| format!(r#"{{"type":"text","text":"{word} "}}"#)).collect();
    let template = |content: &str| {
        let body = format!(r#"{{"messages":[{{"role":"user","content":{content}}}]}}"#);
        let mut fields = ruleset.plan().fields().iter();
        let field = fields.position(|field| field.name() == "hedgerow.template.user");
        observe(&ruleset, &body).unwrap().values(field.unwrap() as u16).to_vec()
    };
    let whole = template(&format!("{text:?}"));
    assert!(!whole.is_empty());
    assert_eq!(template(&format!("[{}]", parts.join(","))), whole);
}

/// Regression: the worst entry of a batch was not observed if sixty-four harmless entries preceded
/// it.
#[test]
fn the_worst_entry_of_a_batch_is_observed_at_any_position() {
    let (ruleset, _) = observe_with_policy("", ELICITATION);
    let entry = |content: &str| {
        let messages = format!(r#"[{{"role":"user","content":"{content}"}}]"#);
        format!(r#"{{"custom_id":"a","params":{{"messages":{messages}}}}}"#)
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
