//! `policy.toml`: conditions of routes, ends of overrides, and lints with line and column.
use std::fs;
use std::path::Path;

use hedgerow_core::Envelope;
use hedgerow_core::rules::policy::{Mode, Policy};
use hedgerow_core::ruleset::{Diff, SettingChange};
use hedgerow_sigma::{Finding, Lints, RuleFile, Rules};
use serde_json::{Value, json};

use crate::hedgerow_command;

const RULE: &str = include_str!("../fixtures/pairs.yml");
const ID: &str = "0123456789abcdef0123456789abcdef";

/// 2026-11-24, 00:00 UTC.
const NOW: u64 = 1_795_478_400;

fn file(policy: &str) -> [RuleFile; 1] {
    [RuleFile { path: "policy.toml".to_owned(), text: policy.to_owned() }]
}

fn rules(policy: &str) -> Rules {
    let checked = hedgerow_sigma::check(&file(policy));
    checked.unwrap_or_else(|findings| panic!("{policy}\n{:#?}", lines(&findings)))
}

/// Returns findings as `line:column: problem; remedy`.
fn lines(findings: &[Finding]) -> Vec<String> {
    let format = |finding: &Finding| finding.to_string().replacen("policy.toml:", "", 1);
    findings.iter().map(format).collect()
}

#[test]
fn invalid_conditions_and_ends_are_findings() {
    let route = |rest: &str| format!("[[route]]\n{rest}\n");
    let section = |kind: &str, id: &str, rest: &str| format!("[[{kind}]]\nid = '{id}'\n{rest}\n");
    let rows = [
        (
            route("mode = 'enforce'"),
            "1:1: this route has no condition: expected a host, path, method, model or tenant; add",
        ),
        (
            route("host = 'https://api.example.com'\nmode = 'enforce'"),
            "2:8: the host 'https://api.example.com' never matches: expected a name, such as",
        ),
        (
            route("method = 'PSOT'\nmode = 'enforce'"),
            "2:10: the method 'PSOT' never matches: expected POST, PUT or PATCH, or GET for \
             WebSockets; did you mean 'POST'?",
        ),
        (
            route("method = 'DELETE'\nmode = 'enforce'"),
            "2:10: the method 'DELETE' never matches: expected POST, PUT or PATCH, or GET for \
             WebSockets; remove it, or use one of POST, PUT, PATCH, GET",
        ),
        (route("model = ' '\nmode = 'enforce'"), "2:9: the model never matches: expected a name"),
        (route("tenant = 'acme'\nmode = 'enforce'"), "2:10: the tenant 'acme' is invalid"),
        (
            route("path = '/ask'\nmodel = 'm'\nendpoint = 'generic'"),
            "4:12: 'endpoint' depends on 'model': expected a route whose only condition is 'path'",
        ),
        (route("host = 'a.test'\nendpoint = 'none'"), "3:12: 'endpoint' depends on 'host'"),
        (
            section("account", ID, "until = 'soon'"),
            "3:9: 'until' is invalid: expected a day such as 2027-01-31",
        ),
        (section("tenant", ID, "until = '2027-02-30'"), "3:9: 'until' is invalid: expected a day"),
        (
            section("cluster", "5b0f3a91", "until = true"),
            "3:9: 'until' is invalid: expected a day such as 2027-01-31",
        ),
    ];
    for (policy, expected) in rows {
        let Err(findings) = hedgerow_sigma::check(&file(&policy)) else {
            panic!("no findings in {policy}");
        };
        let found = lines(&findings);
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:#?}, not {expected}");
    }
}

#[test]
fn sections_that_end_and_overrides_without_a_reason_are_lints() {
    let policy = format!(
        "\
[[exemption]]
name = 'old'
account = '{ID}'
reason = 'an audit'
until = 2026-11-23
[[exemption]]
name = 'ending'
account = '{ID}'
reason = 'an audit'
until = 2026-12-07
[[exemption]]
name = 'later'
account = '{ID}'
reason = 'an audit'
until = 2026-12-08
[[account]]
id = '{ID}'
mode = 'shadow'
until = 2026-11-22
[[account]]
id = '{ID}'
mode = 'shadow'
reason = ' '
[[tenant]]
id = '{ID}'
mode = 'shadow'
reason = 'a partner'
until = 1795478401
[[cluster]]
id = '5b0f3a91'
mode = 'enforce'
until = 2026-11-23
"
    )
    // Each account has an id of its own.
    .replacen(&format!("id = '{ID}'"), "id = 'fedcba9876543210fedcba9876543210'", 1);
    rules(&policy);
    let Lints { findings, warnings } = hedgerow_sigma::lint(&file(&policy), NOW);
    let remedy = "remove it, or give a later day";
    assert_eq!(
        lines(&findings),
        [
            format!(
                "5:9: exemption 'old' has ended: it has had no effect since 2026-11-24; {remedy}"
            ),
            format!(
                "19:9: this account has ended: it has had no effect since 2026-11-23; {remedy}"
            ),
            format!(
                "32:9: this cluster has ended: it has had no effect since 2026-11-24; {remedy}"
            ),
        ]
    );
    let reason = "write it in 'reason', for the next person who reads the policy";
    let end = "give a later day if it is still needed then";
    assert_eq!(
        lines(&warnings),
        [
            format!("10:9: exemption 'ending' ends soon: its last day is 2026-12-07; {end}"),
            format!("16:1: this account has no reason; {reason}"),
            format!("20:1: this account has no reason; {reason}"),
            format!("28:9: this tenant ends soon: its last day is 2026-11-24; {end}"),
        ]
    );
    let Lints { findings, .. } = hedgerow_sigma::lint(&file(&policy), NOW - 2 * 86_400);
    assert_eq!(lines(&findings), [""; 0]);
    assert_eq!(hedgerow_sigma::lint(&[], NOW), Lints::default());
}

/// Each row has two routes, and whether the first leaves no effect to the second.
#[test]
fn a_route_after_a_route_that_replaces_it_is_a_lint() {
    let rows = [
        ("path = '/v1/**'\nmode = 'enforce'", "path = '/v1/chat'\nmode = 'shadow'", true),
        ("path = '/v1/**'\nmode = 'enforce'", "path = '/v1/*'\nmodel = 'm'\nmode = 'shadow'", true),
        ("path = '/v1/**'\nmode = 'enforce'", "path = '/v1/*'\nactions = {}", false),
        (
            "path = '/v1/**'\nmode = 'enforce'",
            "path = '/v1/chat'\nmode = 'shadow'\nactions = { suspect = 'tag' }",
            false,
        ),
        (
            "path = '/v1/**'\nmode = 'enforce'\nactions = {}",
            "path = '/v1/chat'\nactions = { suspect = 'tag' }",
            true,
        ),
        ("path = '/v1/chat'\nmode = 'enforce'", "path = '/v1/**'\nmode = 'shadow'", false),
        ("path = '/v1/**'\nmode = 'enforce'", "path = '/v1/chat'", false),
        ("path = '/**'\nmode = 'enforce'", "model = 'gpt-4'\nmode = 'shadow'", true),
        ("path = '/v1/**'\nmode = 'enforce'", "model = 'gpt-4'\nmode = 'shadow'", false),
        ("model = 'gpt-*'\nmode = 'enforce'", "model = 'gpt-4'\nmode = 'shadow'", true),
        ("model = 'gpt-4'\nmode = 'enforce'", "model = 'gpt-*'\nmode = 'shadow'", false),
        ("model = 'gpt-4'\nmode = 'enforce'", "path = '/v1/**'\nmode = 'shadow'", false),
        ("host = '*.a.test'\nmode = 'enforce'", "host = 'b.a.test'\nmode = 'shadow'", true),
        ("host = '*.a.test'\nmode = 'enforce'", "host = 'a.test'\nmode = 'shadow'", false),
        ("method = 'POST'\nmode = 'enforce'", "method = 'post'\nhost = 'a'\nmode = 'shadow'", true),
        ("path = '/ask'\nendpoint = 'generic'", "path = '/ask'\nendpoint = 'none'", true),
    ];
    for (first, second, expected) in rows {
        let policy = format!("[[route]]\n{first}\n[[route]]\n{second}\n");
        rules(&policy);
        let Lints { findings, warnings } = hedgerow_sigma::lint(&file(&policy), NOW);
        let position = format!("{}:1: ", first.lines().count() + 2);
        let expected_line = format!(
            "{position}this route has no effect: the route in line 1 comes first, and sets the \
             same for all its requests; remove it, or move it before that route"
        );
        let expected_lines = if expected { vec![expected_line] } else { Vec::new() };
        assert_eq!((lines(&findings), warnings), (expected_lines, Vec::new()), "{policy}");
    }
}

/// Lints must not prevent a push, so only `hedgerow check` reports them.
#[test]
fn lints_fail_the_check_and_warnings_do_not() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("policy_lints");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    let rules = directory.to_str().unwrap();
    let bundle = directory.join("bundle.json");
    let run = |policy: &str, arguments: &[&str]| {
        fs::write(directory.join("policy.toml"), policy).unwrap();
        let output = hedgerow_command().args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let ended =
        format!("[[account]]\nid = '{ID}'\nmode = 'shadow'\nreason = 'r'\nuntil = 2000-01-01\n");
    let (code, text) = run(&ended, &["check", rules]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("/policy.toml:5:9: this account has ended: it has had no"), "{text}");
    assert_eq!(run(&ended, &["build", rules, "-o", bundle.to_str().unwrap()]).0, Some(0));
    let unexplained = format!("[[account]]\nid = '{ID}'\nmode = 'shadow'\n");
    let (code, text) = run(&unexplained, &["check", rules]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("/policy.toml:1:1: warning: this account has no reason; "), "{text}");
    assert!(text.ends_with("no findings, 1 warnings\n"), "{text}");
    let (code, text) = run(&unexplained, &["--format", "json", "check", rules]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["findings"]), (Some(0), &json!([])));
    assert_eq!(report["warnings"][0]["problem"], "this account has no reason");
    assert_eq!(report["warnings"].as_array().map(Vec::len), Some(1));
}

/// A bundle with only the former settings has the same bytes as before.
#[test]
fn settings_that_are_not_given_are_not_in_the_bundle() {
    let policy = |text: &str| -> Policy { rules(text).policy };
    let old = format!(
        "[[route]]\npath = '/x'\nmode = 'enforce'\n[[account]]\nid = '{ID}'\nmode = 'shadow'\n\
         [[cluster]]\nid = '5b0f3a91'\nmode = 'enforce'\n"
    );
    let encoded = json!(policy(&old));
    assert_eq!(encoded["route"], json!([{ "path": "/x", "mode": "enforce" }]));
    assert_eq!(encoded["account"], json!([{ "id": ID, "mode": "shadow" }]));
    assert_eq!(encoded["cluster"], json!([{ "id": "5b0f3a91", "mode": "enforce" }]));
    let new = format!(
        "[[route]]\nhost = 'a.test'\nmethod = 'POST'\nmodel = 'm*'\ntenant = '{ID}'\n\
         mode = 'enforce'\n\
         [[tenant]]\nid = '{ID}'\nmode = 'shadow'\nreason = 'r'\nuntil = 2026-11-23\n"
    );
    let encoded = json!(policy(&new));
    let route = json!([
        { "host": "a.test", "method": "POST", "model": "m*", "tenant": ID, "mode": "enforce" }
    ]);
    assert_eq!(encoded["route"], route);
    let tenant = json!([{ "id": ID, "mode": "shadow", "reason": "r", "until": NOW }]);
    assert_eq!(encoded["tenant"], tenant);
    assert_eq!(serde_json::from_value::<Policy>(encoded).unwrap(), policy(&new));
}

#[test]
fn a_route_enforces_one_model_on_one_host() {
    let policy = "[[route]]\nhost = '*.example.com'\nmodel = 'gemini-*'\nmode = 'enforce'\n";
    let ruleset = rules(policy).ruleset().unwrap();
    let (chat, gemini) = ("/v1/chat/completions", "/v1beta/models/Gemini-3:generateContent");
    let rows = [
        ("the body names the model", Some("api.example.com:443"), chat, true, Mode::Enforce),
        ("the path names the model", Some("api.example.com"), gemini, false, Mode::Enforce),
        ("nothing names the model", Some("api.example.com"), chat, false, Mode::Shadow),
        ("another host", Some("example.com"), gemini, false, Mode::Shadow),
        ("an unknown host", None, gemini, false, Mode::Shadow),
    ];
    for (name, host, path, has_model, mode) in rows {
        let mut body = json!({
            "messages": [{ "role": "user", "content": "Hello" }],
            "contents": [{ "role": "user", "parts": [{ "text": "Hello" }] }],
        });
        if has_model {
            body["model"] = "gemini-3-pro".into();
        }
        let body = body.to_string();
        let envelope =
            Envelope { method: "POST", host, path, body: body.as_bytes(), ..Envelope::default() };
        let assessment = ruleset.assess(&envelope).unwrap();
        let attributes = envelope.attributes(assessment.model.as_deref());
        assert_eq!(ruleset.policy().disposition(&attributes).mode, mode, "{name}");
    }
}

#[test]
fn a_diff_names_a_route_by_its_conditions() {
    let bundle = |mode: &str| {
        let route = "host = 'a.test'\nmodel = 'm*'";
        rules(&format!("[[route]]\n{route}\nmode = '{mode}'\n[[route]]\npath = '/x'\n")).bundle()
    };
    let diff = Diff::between(&bundle("shadow"), &bundle("enforce"));
    let paths: Vec<&str> = diff.policy.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(paths, ["route[a.test m*].mode"]);
}

#[test]
fn a_diff_shows_the_order_of_routes_and_routes_with_equal_conditions() {
    let shadow = "[[route]]\npath = '/v1/**'\nmode = 'shadow'\n";
    let enforce = shadow.replace("shadow", "enforce");
    let other = "[[route]]\nmodel = 'm'\nmode = 'enforce'\n";
    let order = r#"route: ["/v1/**","m"] → ["m","/v1/**"]"#;
    // name, routes before, routes after, differences
    let rows: [(&str, String, String, &[&str]); 5] = [
        ("the same", format!("{shadow}{other}"), format!("{shadow}{other}"), &[]),
        ("another order", format!("{shadow}{other}"), format!("{other}{shadow}"), &[order]),
        (
            "a route that replaces a route with equal conditions",
            shadow.to_owned(),
            format!("{enforce}{shadow}"),
            &[
                r#"route[/v1/** #2].mode: null → "shadow""#,
                r#"route[/v1/** #2].path: null → "/v1/**""#,
                r#"route[/v1/**].mode: "shadow" → "enforce""#,
            ],
        ),
        (
            "two routes with equal conditions in another order",
            format!("{enforce}{shadow}"),
            format!("{shadow}{enforce}"),
            &[
                r#"route[/v1/** #2].mode: "shadow" → "enforce""#,
                r#"route[/v1/**].mode: "enforce" → "shadow""#,
            ],
        ),
        (
            "a new route before the others changes no order",
            shadow.to_owned(),
            format!("{other}{shadow}"),
            &[r#"route[m].mode: null → "enforce""#, r#"route[m].model: null → "m""#],
        ),
    ];
    for (name, before, after, expected) in rows {
        let diff = Diff::between(&rules(&before).bundle(), &rules(&after).bundle());
        let changes = diff.policy.iter().map(|SettingChange { path, from, to }| {
            let [from, to] = [from, to].map(|value| json!(value));
            format!("{path}: {from} → {to}")
        });
        assert_eq!(changes.collect::<Vec<String>>(), expected, "{name}");
    }
}
