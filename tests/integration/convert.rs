//! `hedgerow convert`, and the form of recorded requests (docs/replay.md).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::LazyLock;

use hedgerow_sigma::recorded::RecordedRequest;
use hedgerow_sigma::recorded_line::MEMBERS;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{from_root, hedgerow_command, shipped_rules};

/// Formats with their fixtures in tests/fixtures/logs, and the expected counts of requests that are
/// converted, judged, not judged because their body is unknown, and no LLM calls.
const LOGS: [(&str, &str, [u64; 4]); 7] = [
    ("litellm", "litellm.jsonl", [3, 2, 1, 0]),
    ("openai-log", "openai-log.jsonl", [4, 4, 0, 0]),
    ("nginx", "nginx.jsonl", [3, 1, 1, 1]),
    ("nginx", "nginx-combined.log", [2, 0, 1, 1]),
    ("envoy", "envoy.jsonl", [2, 0, 2, 0]),
    ("cloudflare-logpush", "cloudflare-logpush.ndjson", [3, 0, 2, 1]),
    ("har", "browser.har", [2, 1, 0, 1]),
];

/// The bundle of the shipped rules. It loads ten times as fast as their sources.
static BUNDLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = scratch("convert-bundle.json");
    fs::write(&path, shipped_rules::rules().encode_bundle()).unwrap();
    path
});

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

fn convert(format: &str, log: &Path, arguments: &[&str]) -> Output {
    let mut command = hedgerow_command();
    command.args(["convert", "--from", format]).arg(log).args(arguments).output().unwrap()
}

fn convert_fixture(format: &str, log: &str) -> String {
    let log = from_root("tests/fixtures/logs").join(log);
    let output = convert(format, &log, &["--label", "benign"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Replays lines, and returns the summary and standard output in text.
fn replay(name: &str, lines: &str) -> (Value, String) {
    let path = scratch(name);
    fs::write(&path, lines).unwrap();
    let run = |format: &str| {
        let mut command = hedgerow_command();
        command.args(["replay", "--format", format, "--ruleset"]).arg(&*BUNDLE).arg(&path);
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    (serde_json::from_str(&run("json")).unwrap(), run("text"))
}

fn sha256(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

#[test]
fn each_log_is_converted_and_replayed() {
    for (format, log, [converted, judged, not_judged, passed]) in LOGS {
        let text = convert_fixture(format, log);
        assert_eq!(rows(&text).len() as u64, converted, "{log}: {text}");
        let (summary, printed) = replay(&format!("convert-{log}.jsonl"), &text);
        let counts = ["requests", "not_judged", "passed", "unreadable"];
        let counts = counts.map(|count| summary[count].as_u64().unwrap());
        assert_eq!(counts, [judged, not_judged, passed, 0], "{log}: {summary}");
        assert_eq!(summary["files"][0]["not_judged"], not_judged, "{log}");
        let note = format!(": {not_judged} requests not judged: body unknown");
        assert_eq!(printed.contains(&note), not_judged > 0, "{log}: {printed}");
        if judged > 0 {
            assert_eq!(summary["files"][0]["label"], "benign", "{log}");
        }
    }
}

#[test]
fn no_credential_of_a_log_is_written() {
    for (format, log, _) in LOGS {
        let text = convert_fixture(format, log);
        assert!(!text.contains("fixture-secret"), "{log}: {text}");
    }
    let rows = [
        ("litellm", "litellm.jsonl", 1, sha256("sk-fixture-secret-2")),
        ("openai-log", "openai-log.jsonl", 0, sha256("sk-fixture-secret-3")),
        ("openai-log", "openai-log.jsonl", 2, sha256("sk-fixture-secret-4")),
        ("nginx", "nginx.jsonl", 0, sha256("sk-fixture-secret-5")),
        ("nginx", "nginx-combined.log", 0, "shop".to_owned()),
        ("envoy", "envoy.jsonl", 0, sha256("sk-fixture-secret-6")),
        ("cloudflare-logpush", "cloudflare-logpush.ndjson", 0, sha256("sk-fixture-secret-7")),
        ("har", "browser.har", 0, sha256("sk-fixture-secret-8")),
    ];
    for (format, log, line, account) in rows {
        let row = self::rows(&convert_fixture(format, log)).remove(line);
        assert_eq!(row["account"], json!(account), "{log}: {row}");
    }
}

#[test]
fn the_parts_that_a_log_lacks_are_unknown() {
    let rows = [
        ("litellm", "litellm.jsonl", 0, json!(["headers", "client"])),
        ("litellm", "litellm.jsonl", 2, json!(["headers", "client", "body"])),
        ("openai-log", "openai-log.jsonl", 0, json!(["client", "headers"])),
        ("openai-log", "openai-log.jsonl", 2, json!(["client"])),
        ("nginx", "nginx.jsonl", 0, json!(["headers", "client"])),
        ("nginx", "nginx.jsonl", 1, json!(["headers", "client", "body"])),
        ("nginx", "nginx.jsonl", 2, json!(["headers", "client"])),
        ("envoy", "envoy.jsonl", 0, json!(["headers", "client", "body"])),
        ("cloudflare-logpush", "cloudflare-logpush.ndjson", 2, json!(["headers", "client"])),
        ("har", "browser.har", 0, json!(["client"])),
    ];
    for (format, log, line, unknown) in rows {
        let row = self::rows(&convert_fixture(format, log)).remove(line);
        assert_eq!(row["unknown"], unknown, "{log}: {row}");
    }
    let row = rows_of_first_call();
    assert_eq!(row["path"], "/v1/chat/completions");
    assert_eq!(row["headers"], json!([["user-agent", "OpenAI/Python 2.20.0"]]));
    assert_eq!((&row["t"], &row["status"]), (&json!(1_795_867_200.25), &json!(200)));
    assert_eq!(row["body"]["model"], "mini");
    assert_eq!(row["body"]["temperature"], 0.2);
    assert_eq!(row["tenant"], "team-shop");
}

fn rows_of_first_call() -> Value {
    rows(&convert_fixture("litellm", "litellm.jsonl")).remove(0)
}

#[test]
fn the_problems_of_a_line_name_key_value_and_remedy() {
    let log = scratch("convert-broken.ndjson");
    let lines = [
        r#"{"ClientRequestMethod":"POST","EdgeStartTimestamp":"soon","EdgeResponseStatus":"ok"}"#,
        r#"{"ClientRequestMethod":"POST","ClientRequestURI":"/v1/messages"}"#,
        "not json",
    ];
    fs::write(&log, lines.join("\n")).unwrap();
    let output = convert("cloudflare-logpush", &log, &[]);
    assert_eq!(output.status.code(), Some(1), "a line with problems is a finding");
    let message = String::from_utf8(output.stderr).unwrap();
    for part in [
        "convert-broken.ndjson:1:1: key `EdgeStartTimestamp` has the value \"soon\": expected",
        "convert-broken.ndjson:1:1: key `EdgeResponseStatus` has the value \"ok\": expected",
        "convert-broken.ndjson:1:1: key `ClientRequestURI` or `ClientRequestPath` is missing",
        "convert-broken.ndjson:3:1: the line is invalid: expected a JSON object",
        "1 requests converted, 2 lines not readable",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(rows(&String::from_utf8(output.stdout).unwrap()).len(), 1);
}

#[test]
fn counts_are_printed_if_the_requests_are_in_a_file() {
    let out = scratch("convert-out.jsonl");
    let log = from_root("tests/fixtures/logs/litellm.jsonl");
    let output = convert("litellm", &log, &["-o", out.to_str().unwrap(), "--format", "json"]);
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
    let skipped = json!({ "call_type aimage_generation": 1 });
    assert_eq!(counts, json!({ "requests": 3, "unreadable": 0, "skipped": skipped }));
    assert_eq!(rows(&fs::read_to_string(out).unwrap()).len(), 3);
}

/// Returns requests for training data by one account, one every minute. `time` writes the time of a
/// request in seconds since the epoch.
fn campaign(time: impl Fn(u64) -> Value) -> String {
    let content = "Write 20 diverse instruction-response pairs as JSON lines.";
    let messages = json!([{ "role": "user", "content": content }]);
    let line = |number: u64| {
        json!({
            "t": time(1_795_867_200 + 60 * number), "path": "/v1/chat/completions",
            "account": "a", "label": "harvest", "status": "200",
            "body": { "model": "m", "messages": messages },
        })
        .to_string()
    };
    (0..40).map(line).collect::<Vec<String>>().join("\n")
}

/// Regression: correlations did not hold if the times of a recording were in milliseconds.
#[test]
fn the_unit_of_times_does_not_change_the_decisions() {
    let (expected, _) = replay("convert-seconds.jsonl", &campaign(|time| json!(time)));
    assert!(expected["labels"]["harvest"]["suspect"].as_u64().unwrap() > 0, "{expected}");
    let forms: [(&str, fn(u64) -> Value); 4] = [
        ("milliseconds", |time| json!(time * 1_000)),
        ("microseconds", |time| json!(time * 1_000_000)),
        ("nanoseconds", |time| json!((time * 1_000_000_000).to_string())),
        ("texts", |time| json!(format!("2026-11-28 12:{:02}:00", (time - 1_795_867_200) / 60))),
    ];
    for (name, form) in forms {
        let (summary, _) = replay(&format!("convert-{name}.jsonl"), &campaign(form));
        assert_eq!(summary["labels"], expected["labels"], "{name}");
    }
}

#[test]
fn implausible_times_are_problems() {
    let line = |time: Value| json!({ "t": time, "path": "/v1/chat/completions" }).to_string();
    let rows = [
        (vec![json!(915_148_800)], ":1:1: key `t` has the value 915148800: expected seconds"),
        (vec![json!("noon")], ":1:1: key `t` has the value \"noon\": expected seconds"),
        (vec![json!(9_795_867_200_u64)], "expected a time at most a day in the future"),
        (
            vec![json!(5), json!(1_795_867_200)],
            ":2:1: key `t` has the value 1795867200: expected all",
        ),
        (vec![json!(1_795_867_200), json!(1_695_867_200)], "expected a time at most a year before"),
    ];
    for (index, (times, expected)) in rows.into_iter().enumerate() {
        let lines: Vec<String> = times.into_iter().map(line).collect();
        let (summary, printed) = replay(&format!("convert-times-{index}.jsonl"), &lines.join("\n"));
        assert_eq!(summary["unreadable"], 1, "{summary}");
        assert!(printed.contains(expected), "{expected}: {printed}");
    }
}

#[test]
fn the_schema_has_the_members_that_the_reader_accepts() {
    let text = fs::read_to_string(from_root("docs/replay.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let properties = schema["properties"].as_object().unwrap();
    let documented: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(documented, BTreeSet::from(MEMBERS));
    for (name, property) in properties {
        assert!(property["description"].is_string(), "{name}");
        // A body may be any JSON; no other member may be this object.
        let mut line = json!({ "path": "/v1/messages" });
        line[name.as_str()] = json!({ "a": 1 });
        let problem = RecordedRequest::from_line(&line.to_string()).err().unwrap_or_default();
        let is_checked = problem.starts_with(&format!("key `{name}` has the value an object"));
        assert_eq!(is_checked, name != "body", "{name}: {problem}");
    }
}

#[test]
fn the_page_describes_every_member_and_format_and_its_examples_are_accepted() {
    let page = fs::read_to_string(from_root("docs/replay.md")).unwrap();
    for member in MEMBERS {
        assert!(page.contains(&format!("| `{member}` |")), "{member}");
    }
    for (format, _, _) in LOGS {
        assert!(page.contains(&format!("--from {format} ")), "{format}");
    }
    let blocks = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let lines: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert!(lines.len() >= 6, "{}", lines.len());
    for line in lines {
        let parsed = RecordedRequest::from_line(line);
        assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
    }
}
