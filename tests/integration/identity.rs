//! Accounts of credentials: the ids that `hedgerow account` prints, and the accounts in a replay.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::LazyLock;

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{hedgerow_command, shipped_rules};

const SECRET: &str = "a secret of the tests with 32 bytes or more";

/// Computes an id as documented: the first 16 bytes of HMAC-SHA256 over a prefix and a text.
fn id(domain: &str, text: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("hedgerow.{domain}.v1\0{text}").as_bytes());
    hex::encode(&mac.finalize().into_bytes()[..16])
}

fn token(claims: &Value) -> String {
    let [header, payload] = [json!({ "alg": "RS256" }), claims.clone()]
        .map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    format!("{header}.{payload}.c2ln")
}

/// The bundle of the shipped rules. It loads ten times as fast as their sources.
static BUNDLE: LazyLock<PathBuf> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("identity-bundle.json");
    fs::write(&path, shipped_rules::rules().encode_bundle()).unwrap();
    path
});

/// Runs `hedgerow account` with `input` on standard input.
fn account(arguments: &[&str], input: &str) -> Output {
    let mut child = hedgerow_command()
        .args(["--format", "json", "account", "--ruleset"])
        .arg(&*BUNDLE)
        .args(arguments)
        .env("ACCOUNT_SECRET", SECRET)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn account_prints_the_id_of_a_credential_and_its_kind() {
    let claims = json!({ "iss": "idp", "sub": "s", "iat": 1 });
    let bearer = format!("Authorization: bearer  {}\n", token(&claims));
    let basic = format!("Authorization: Basic {}", BASE64_STANDARD.encode("ana:secret"));
    let signed = "AWS4-HMAC-SHA256 Credential=AKIA1/20260101/eu/bedrock/aws4_request, Signature=0";
    let key = json!({ "account": id("account", "sk-1"), "kind": "key" });
    let rows: [(&str, &[&str], &str, Value); 9] = [
        ("a key", &[], "sk-1\n", key.clone()),
        ("another spelling", &[], "Api-Key   sk-1", key.clone()),
        ("another header", &["--path", "/v1/messages"], "X-Api-Key: sk-1", key.clone()),
        ("a request", &[], "POST /v1/messages?key=sk-1 HTTP/1.1\n\n", key),
        (
            "a token",
            &[],
            &bearer,
            json!({ "account": id("account.jwt", "idp\0sub\0s"), "kind": "jwt" }),
        ),
        ("a user", &[], &basic, json!({ "account": id("account.basic", "ana"), "kind": "basic" })),
        (
            "a signature",
            &[],
            signed,
            json!({ "account": id("account.aws", "AKIA1"), "kind": "aws" }),
        ),
        (
            "a name of the origin",
            &["--origin"],
            "acme\n",
            json!({ "account": id("account.origin", "acme"), "kind": "origin" }),
        ),
        ("a tenant", &["--tenant"], "acme", json!({ "tenant": id("tenant", "acme") })),
    ];
    for (name, arguments, input, expected) in rows {
        let output = account(arguments, input);
        let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(printed, expected, "{name}");
    }
    for (input, problem) in [("", "names no account"), ("Bearer ", "names no account")] {
        let output = account(&[], input);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && message.contains(problem), "{message}");
    }
}

/// Writes a recording with a request for each row of headers.
fn write_recording(name: &str, rows: impl Iterator<Item = Value>) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let lines: Vec<String> = rows
        .enumerate()
        .map(|(number, headers)| {
            let content = format!("Is order {number} on its way? It was {} chairs.", number % 7);
            let messages = json!([{ "role": "user", "content": content }]);
            json!({
                "t": number * 3, "path": "/v1/chat/completions", "headers": headers,
                "body": { "model": "m", "messages": messages }, "label": "benign", "status": 200,
            })
            .to_string()
        })
        .collect();
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn accounts_of(recording: &Path) -> (u64, u64) {
    let output = hedgerow_command()
        .args(["--format", "json", "replay", recording.to_str().unwrap()])
        .output()
        .unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let label = &summary["labels"]["benign"];
    (label["accounts"].as_u64().unwrap(), label["notice"].as_u64().unwrap())
}

#[test]
fn a_replay_finds_one_account_behind_changing_credentials() {
    let rotating = (0..60).map(|number| {
        let claims = json!({ "iss": "idp", "sub": "shop", "iat": number / 5, "jti": number });
        json!({ "authorization": format!("Bearer {}", token(&claims)) })
    });
    let signed = (0..60).map(|number| {
        let credential = "Credential=AKIA1/20260101/eu/bedrock/aws4_request";
        json!({ "authorization": format!("AWS4-HMAC-SHA256 {credential}, Signature={number}") })
    });
    let spelled = (0..60).map(|number| {
        let scheme = ["Bearer", "bearer ", "TOKEN", "api-key"][number % 4];
        json!({ "authorization": format!("{scheme} sk-1") })
    });
    let pods = (0..60).map(|number| json!({ "x-api-key": format!("sk-{}", number % 6) }));
    assert_eq!(accounts_of(&write_recording("rotating.jsonl", rotating)), (1, 0));
    assert_eq!(accounts_of(&write_recording("signed.jsonl", signed)), (1, 0));
    assert_eq!(accounts_of(&write_recording("spelled.jsonl", spelled)), (1, 0));
    assert_eq!(accounts_of(&write_recording("pods.jsonl", pods)).0, 6);
}
