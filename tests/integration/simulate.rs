//! The command `hedgerow simulate`: its results are repeatable and consistent, and invalid
//! scenarios cause clear errors.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

use hedgerow_sigma::RuleFile;
use serde_json::Value;

use crate::{from_root, hedgerow_command};

/// A small scenario with some people, one popular tool, and a campaign that begins on the second
/// day.
const SCENARIO: &str = r#"
title = "A small world"
seed = 7
days = 2

[[benign]]
kind = "people"
accounts = 60

[[benign]]
kind = "shared_tool"
accounts = 60
groups = 1

[[campaign]]
name = "small"
tasks = ["tags"]
accounts = 30
reserve = 10
daily = 40
banned_after = 12
ordinary = 10
templates = 6
"#;

/// A rule that matches every request for generated text.
const GENERATION: &str = r#"
title: Asks the model for text
id: 3a1f4c52-60f2-4f53-8b53-0a3a54a9c001
name: traffic_writing
status: stable
description: Selects requests. It weighs nothing.
references: [https://arxiv.org/abs/2212.10560]
author: Hedgerow
date: 2026-11-25
tags: [hedgerow.traffic]
logsource: {category: llm_api, product: hedgerow}
detection:
  text: {gen_ai.operation.name: chat}
  condition: text
falsepositives: [It selects ordinary traffic on purpose]
level: informational
custom_attributes:
  rsigma.exemplars:
    - {name: a chat, expect: match, event: {gen_ai.operation.name: chat}}
    - {name: another, expect: match, event: {gen_ai.operation.name: chat, hedgerow.turns: 3}}
    - {name: 'near: embeddings', expect: no-match, event: {gen_ai.operation.name: embeddings}}
    - {name: 'near: counting', expect: no-match, event: {gen_ai.operation.name: count_tokens}}
"#;

/// A correlation that holds only for the campaign: many accounts use one template about equally
/// often.
const CLUSTER: &str = r#"
title: One template from many accounts
id: 3a1f4c52-60f2-4f53-8b53-0a3a54a9c002
name: cluster_even_accounts
status: stable
description: Many accounts share a template, each about as often as the others.
references: [https://arxiv.org/abs/2212.10560]
author: Hedgerow
date: 2026-11-25
tags: [hedgerow.cluster]
correlation:
  type: value_count
  rules: [traffic_writing]
  group-by: [hedgerow.template.user]
  timespan: 24h
  condition: {field: hedgerow.account, gte: 12}
falsepositives: [Popular tools]
level: critical
custom_attributes:
  hedgerow.weight: 21
  hedgerow.evenness: 70
  rsigma.exemplars:
    - name: twelve accounts
      expect: match
      events: &twelve
        - {offset: 0s, event: {hedgerow.account: a, hedgerow.template.user: t, gen_ai.operation.name: chat}}
EVENTS
    - name: thirteen accounts
      expect: match
      events:
        - {offset: 0s, event: {hedgerow.account: a, hedgerow.template.user: t, gen_ai.operation.name: chat}}
EVENTS
        - {offset: 0s, event: {hedgerow.account: n, hedgerow.template.user: t, gen_ai.operation.name: chat}}
    - name: 'near: one account'
      expect: no-match
      events:
        - {offset: 0s, event: {hedgerow.account: a, hedgerow.template.user: t, gen_ai.operation.name: chat}}
    - name: 'near: two accounts'
      expect: no-match
      events:
        - {offset: 0s, event: {hedgerow.account: a, hedgerow.template.user: t, gen_ai.operation.name: chat}}
        - {offset: 0s, event: {hedgerow.account: b, hedgerow.template.user: t, gen_ai.operation.name: chat}}
"#;

/// Returns a bundle of these two rules, independent of the shipped rules.
fn bundle() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        let event = |account: char| {
            format!(
                "        - {{offset: 0s, event: {{hedgerow.account: {account}, \
                 hedgerow.template.user: t, gen_ai.operation.name: chat}}}}"
            )
        };
        let events: Vec<String> = ('b'..='l').map(event).collect();
        let cluster = CLUSTER.replace("&twelve", "").replace("EVENTS", &events.join("\n"));
        let source = |path: &str, text: &str| RuleFile { path: path.into(), text: text.into() };
        let sources =
            [source("traffic/writing.yml", GENERATION), source("cluster/even.yml", &cluster)];
        let rules = hedgerow_sigma::check(&sources).unwrap_or_else(|findings| {
            panic!("{}", findings.iter().map(|finding| format!("{finding}\n")).collect::<String>())
        });
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulate-bundle.json");
        fs::write(&path, rules.encode_bundle()).unwrap();
        path
    })
}

/// Writes a scenario to a file.
fn write_scenario(name: &str, scenario: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("simulate-{name}.toml"));
    fs::write(&path, scenario).unwrap();
    path
}

fn simulate(scenario: &Path, more: &[&str]) -> Output {
    let mut command = hedgerow_command();
    command.arg("simulate").arg(scenario).arg("--ruleset").arg(bundle()).args(more);
    command.output().unwrap()
}

fn json(scenario: &Path, more: &[&str]) -> Value {
    let output = simulate(scenario, &[&["--format", "json"], more].concat());
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{problem}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn one_seed_makes_one_traffic() {
    let path = write_scenario("same", SCENARIO);
    let first = json(&path, &[]);
    assert_eq!(first, json(&path, &[]));
    assert_ne!(first, json(&path, &["--seed", "8"]));
}

#[test]
fn counts_add_up_and_correlations_flag_a_campaign() {
    let path = write_scenario("figures", SCENARIO);
    let report = json(&path, &[]);
    let campaign = &report["campaigns"][0];
    let number = |value: &Value| value.as_u64().unwrap();
    assert_eq!(campaign["name"], "small");
    // 30 accounts send 40 requests each on the second day, until they and the reserve accounts are
    // banned.
    assert!((600..1_300).contains(&number(&campaign["exchanges"])), "{campaign}");
    assert!(number(&campaign["accounts"]) > 30, "reserve accounts are used: {campaign}");
    assert!(number(&campaign["flagged"]) * 10 >= number(&campaign["accounts"]) * 9, "{campaign}");
    let first = number(&campaign["first_flag_at"]);
    assert!((12..200).contains(&first), "the correlation needs twelve accounts: {campaign}");
    // All exchanges before the first flag leak, and only a few after it.
    let leaked = campaign["leakage"].as_f64().unwrap() * number(&campaign["exchanges"]) as f64;
    assert!(leaked >= (first - 1) as f64 && leaked < first as f64 * 3.0, "{campaign}");
    let benign = &report["benign"];
    let kinds: BTreeMap<String, Value> = serde_json::from_value(benign["by_kind"].clone()).unwrap();
    assert_eq!(kinds.keys().collect::<Vec<_>>(), ["people", "shared_tool"]);
    for field in ["accounts", "suspect", "blocked", "requests"] {
        let sum: u64 = kinds.values().map(|kind| number(&kind[field])).sum();
        assert_eq!(sum, number(&benign[field]), "{field}");
    }
    assert!(number(&kinds["people"]["accounts"]) > 40);
    assert_eq!(number(&kinds["people"]["suspect"]), 0);
    let campaign_requests = number(&report["requests"]) - number(&benign["requests"]);
    assert!(campaign_requests >= number(&campaign["exchanges"]));
    let fired = &report["correlations"][0];
    assert_eq!(fired["name"], "cluster_even_accounts");
    assert!(number(&fired["fired"]["campaign"]) > 0 && number(&fired["hits"]["small"]) > 100);

    let alone = json(&path, &["--no-correlate"]);
    assert_eq!(alone["campaigns"][0]["flagged"], 0);
    assert_eq!(alone["campaigns"][0]["first_flag_at"], Value::Null);
    assert_eq!(alone["campaigns"][0]["leakage"], 1.0);
}

#[test]
fn noise_hides_the_template_and_scale_changes_the_number_of_accounts() {
    let path = write_scenario("noise", SCENARIO);
    let runs = json(&path, &["--noise", "0,100"]);
    let [plain, noisy] = runs["runs"].as_array().unwrap().as_slice() else { panic!("{runs}") };
    assert_eq!(plain["noise"], 0.0);
    assert!(plain["campaigns"][0]["flagged"].as_u64().unwrap() >= 30);
    assert_eq!(noisy["campaigns"][0]["flagged"], 0, "paraphrases share no template key: {noisy}");
    assert_eq!(plain["benign"]["requests"], noisy["benign"]["requests"]);
    let small = json(&path, &["--scale", "0.5"]);
    assert_eq!(small["scale"], 0.5);
    assert!((15..25).contains(&small["campaigns"][0]["accounts"].as_u64().unwrap()));
}

/// If no signature matches the wording of a campaign, individual requests do not reveal the
/// campaign. But its requests share a template, and correlations count the accounts that use it.
#[test]
fn unknown_wording_leaves_only_the_template() {
    let path = write_scenario("unknown-wording", &SCENARIO.replace("\"tags\"", "\"cleaning\""));
    let shipped = |more: &[&str]| {
        let mut command = hedgerow_command();
        command.current_dir(from_root("")).arg("simulate").arg(&path).args(more);
        let output = command.args(["--no-correlate", "--format", "json"]).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        report["campaigns"][0]["flagged"].as_u64().unwrap()
    };
    assert!(shipped(&[]) >= 30);
    assert_eq!(shipped(&["--unknown-wording"]), 0);
    let report = json(&path, &["--unknown-wording", "--noise", "0"]);
    assert!(report["campaigns"][0]["flagged"].as_u64().unwrap() >= 30, "{report}");
}

#[test]
fn text_output_shows_sources_correlations_and_scale() {
    let path = write_scenario("text", SCENARIO);
    let output = simulate(&path, &["--scale", "0.5", "--noise", "0,20"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for expected in
        ["scaled: 0.5 times", "small", "shared_tool", "cluster_even_accounts", "\n noise"]
    {
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn all_errors_of_a_scenario_are_reported_at_once() {
    let wrong = r#"
title = "Wrong"
days = 99
start = "2026-02-30"

[[benign]]
kind = "peple"
accounts = 5

[[benign]]
kind = "people"

[[campaign]]
name = "x"
tasks = []
accounts = 0
daily = 3
begins = 40000
nois = 3

[[campaign]]
name = "x"
tasks = ["tags"]
accounts = 3
daily = "many"
"#;
    let output = simulate(&write_scenario("wrong", wrong), &[]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = [
        "simulate-wrong.toml:3:8: 'days' is 99: out of range; give a number from 1 to 40",
        ":4:9: '2026-02-30' is not a day; write it as \"2026-06-01\"",
        ":7:8: unknown variant `peple`",
        "did you mean 'people'?",
        ":10:1: this benign entry has no 'accounts'",
        ":15:9: 'tasks' is empty; name at least one task",
        ":16:12: 'accounts' is 0: out of range; give a number from 1 to 1000000",
        ":18:10: 'begins' is 40000: out of range",
        ":19:1: unknown field `nois`",
        "did you mean 'noise'?",
        ":22:8: the name 'x' of this campaign is not unique",
        ":25:9: invalid type: string \"many\"",
    ];
    for expected in expected {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let json = simulate(&write_scenario("wrong-json", wrong), &["--format", "json"]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(json["findings"].as_array().unwrap().len() >= expected.len() - 2);
}

/// Simulates each shipped scenario with a two-thousandth of its accounts.
#[test]
fn every_shipped_scenario_plays() {
    let directory = from_root("scenarios");
    let mut kinds: BTreeMap<String, u64> = BTreeMap::new();
    let (mut campaigns, mut files) = (Vec::new(), 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        files += 1;
        let report = json(&path, &["--scale", "0.0005"]);
        assert!(report["requests"].as_u64().unwrap() > 0, "{}", path.display());
        for (kind, counts) in report["benign"]["by_kind"].as_object().unwrap() {
            *kinds.entry(kind.clone()).or_default() += counts["requests"].as_u64().unwrap();
        }
        let rows = report["campaigns"].as_array().unwrap().iter();
        campaigns.extend(rows.map(|campaign| campaign["name"].as_str().unwrap().to_owned()));
    }
    campaigns.sort();
    campaigns.dedup();
    let names: Vec<&str> = campaigns.iter().map(String::as_str).collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f", "g", "insider", "made up", "poison"]);
    assert_eq!((files, kinds.len()), (36, 21), "{kinds:?}");
    assert!(kinds.values().all(|requests| *requests > 0), "{kinds:?}");
}
