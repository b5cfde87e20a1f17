use std::fs;
use std::path::PathBuf;
use std::process::Output;

use hedgerow_core::field::FieldId;
use hedgerow_core::http::body::Body;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use hedgerow_core::seeds::{CompiledSeeds, SeedFile, SeedSet, build, prompt_features};
use hedgerow_core::{Envelope, Ruleset, extract};
use serde_json::{Value, json};

use crate::support::{Known, known_prompt};
use crate::{from_root, hedgerow_command};

/// Returns the questions of tests/fixtures/seeds/problems.jsonl.
fn problems() -> Vec<String> {
    let text = fs::read_to_string(from_root("tests/fixtures/seeds/problems.jsonl")).unwrap();
    let question = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["question"].as_str().unwrap().to_owned()
    };
    text.lines().map(question).collect()
}

fn compile(prompts: &[String]) -> CompiledSeeds {
    let features: Vec<_> = prompts.iter().filter_map(|prompt| prompt_features(prompt)).collect();
    let (filter, count) = build(&features).unwrap();
    let filter = SeedFile::parse(&SeedFile::new(&filter, count).to_text()).unwrap();
    CompiledSeeds::new(&[SeedSet { name: "problems".to_owned(), filter }]).unwrap()
}

/// Returns the values of `hedgerow.seed` of each request of a body.
fn seeds_of(body: &str, endpoint: Endpoint, seeds: &CompiledSeeds) -> Vec<bool> {
    let (limits, envelope) =
        (Limits::default(), Envelope { body: body.as_bytes(), ..Envelope::default() });
    let body = Body::new(envelope.body, None, &limits);
    let mut found = Vec::new();
    extract::for_each_request(&envelope, endpoint, &body, &limits, &mut |request| {
        request.add_known_prompt_sets(seeds);
        let mut keywords = request.keywords().iter();
        found.push(keywords.any(|(field, name)| *field == FieldId::SeedSet && name == "problems"));
    });
    found
}

/// Returns whether a chat with these user messages has the field `hedgerow.seed`.
fn has_seed(messages: &[&str], seeds: &CompiledSeeds) -> bool {
    let messages: Vec<Value> =
        messages.iter().map(|text| json!({ "role": "user", "content": text })).collect();
    let body = json!({ "messages": messages }).to_string();
    seeds_of(&body, Endpoint::OpenaiChat, seeds) == [true]
}

#[test]
fn a_known_prompt_is_found_in_every_wrapper() {
    let problems = problems();
    let (known, other) = problems.split_at(200);
    let seeds = compile(known);
    type Wrap = fn(&str) -> Vec<String>;
    let wrappers: [(&str, Wrap); 6] = [
        ("alone", |text| vec![text.to_owned()]),
        ("upper case, spaced", |text| {
            vec![format!("  {}\n", text.to_uppercase().replace(' ', "  "))]
        }),
        ("an instruction before and after", |text| {
            vec![format!("Solve this one with care: {text}\nPut the result on a line of its own.")]
        }),
        ("in a conversation", |text| vec!["Hello!".into(), text.to_owned(), "Go on.".into()]),
        ("in two parts", |text| {
            let (start, end) = text.split_at(text.find(". ").unwrap() + 1);
            vec![start.to_owned(), end.to_owned()]
        }),
        ("after a long text", |text| {
            vec![format!("{} {text}", "Of hedges and gates. ".repeat(4_000))]
        }),
    ];
    for (name, wrap) in wrappers {
        for (prompts, expected) in [(known, true), (other, false)] {
            for prompt in prompts {
                let messages = wrap(prompt);
                let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
                let found = has_seed(&messages, &seeds);
                match known_prompt(known, &messages) {
                    Known::Whole => assert!(found && expected, "{name}: {prompt}"),
                    Known::No => assert!(!found && !expected, "{name}: {prompt}"),
                    // Only some stretches of eight words are stored, so either result is possible.
                    Known::InPart => assert!(!expected, "{name}: {prompt}"),
                }
            }
        }
    }
}

/// Checks the false-positive rate that docs/seeds.md promises, with texts of the maximum length
/// that is compared.
#[test]
fn less_than_one_other_text_in_a_thousand_is_taken_for_a_known_one() {
    let seeds = compile(&problems());
    let mut state = 1_u64;
    let mut word = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:x}", state >> 40)
    };
    let texts = 2_000;
    let found = (0..texts).filter(|_| {
        let text: Vec<String> = (0..2_100).map(|_| word()).collect();
        has_seed(&[&text.join(" ")], &seeds)
    });
    // About one false positive is expected.
    let found = found.count();
    assert!(found <= 5, "{found} of {texts}");
}

#[test]
fn nothing_else_is_compared() {
    let problems = problems();
    let seeds = compile(&problems);
    let known = &problems[0];
    let rows = [
        (
            "a system message",
            json!({ "messages": [{ "role": "system", "content": known }] }),
            false,
        ),
        ("an answer", json!({ "messages": [{ "role": "assistant", "content": known }] }), false),
        ("a completion", json!({ "prompt": known }), true),
        ("nothing", json!({}), false),
    ];
    for (name, body, expected) in rows {
        let endpoint = if body.get("prompt").is_some() {
            Endpoint::OpenaiCompletions
        } else {
            Endpoint::OpenaiChat
        };
        assert_eq!(seeds_of(&body.to_string(), endpoint, &seeds), [expected], "{name}");
    }
    assert!(!has_seed(&[known], &CompiledSeeds::default()));
}

/// An upload of thousands of requests costs no more than a few long requests.
#[test]
fn the_text_per_body_is_limited() {
    let problems = problems();
    let seeds = compile(&problems);
    let long = format!("{} {}", "hedge ".repeat(3_000), problems[0]);
    let entry = json!({
        "custom_id": "a",
        "params": { "messages": [{ "role": "user", "content": long }] },
    });
    let body = json!({ "requests": vec![entry; 40] }).to_string();
    let found = seeds_of(&body, Endpoint::AnthropicBatches, &seeds);
    assert_eq!(found.len(), 40);
    let count = found.iter().filter(|found| **found).count();
    assert!((10..=20).contains(&count), "{count}");
}

/// Returns an empty directory for a test.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("seeds").join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(path.join("rules/seeds")).unwrap();
    path
}

fn run(args: &[&str]) -> Output {
    hedgerow_command().args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_set_goes_from_the_command_line_into_decisions() {
    let directory = directory("commands");
    let set = directory.join("rules/seeds/problems.fuse");
    let (set, rules) = (set.to_str().unwrap(), directory.join("rules"));
    let problems = "tests/fixtures/seeds/problems.jsonl";
    let built = run(&["seeds", "build", problems, "--field", "question", "-o", set]);
    assert!(stdout(&built).contains("400 prompts"), "{built:?}");
    let text = fs::read_to_string(set).unwrap();
    let again = directory.join("again");
    run(&["seeds", "build", problems, "--field", "question", "-o", again.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(directory.join("again.fuse")).unwrap(), text);
    let tested = run(&["seeds", "test", problems, "--field", "question", "--set", set]);
    assert!(stdout(&tested).contains("400 of 400 prompts are known (100.0 %)"), "{tested:?}");
    let wrong = run(&["seeds", "build", problems, "-o", set]);
    assert_eq!(wrong.status.code(), Some(2));
    let message = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(message.contains("problems.jsonl:1:") && message.contains("--field"), "{message}");

    let policy = "[[seeds]]\nname = \"problems\"\nfile = \"seeds/problems.fuse\"\n";
    fs::write(rules.join("policy.toml"), policy).unwrap();
    fs::write(
        rules.join("known.yml"),
        fs::read_to_string(from_root("rules/traffic/known_prompt.yml")).unwrap(),
    )
    .unwrap();
    let bundle = directory.join("bundle.json");
    let output = run(&["build", rules.to_str().unwrap(), "-o", bundle.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let bytes = fs::read(&bundle).unwrap();
    let ruleset = Ruleset::load(&bytes).unwrap();
    assert!(!ruleset.seeds().is_empty());
    let request = directory.join("request.http");
    let first = crate::seeds::problems().remove(0);
    let body = json!({ "messages": [{ "role": "user", "content": format!("Solve: {first}") }] });
    let body = body.to_string();
    let http = format!(
        "POST /v1/chat/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    fs::write(&request, http).unwrap();
    let explained = run(&[
        "explain",
        request.to_str().unwrap(),
        "--ruleset",
        bundle.to_str().unwrap(),
        "--format",
        "json",
    ]);
    let explained: Value = serde_json::from_slice(&explained.stdout).unwrap();
    assert_eq!(explained["requests"][0][0]["holds"], true, "{explained}");
}

#[test]
fn sets_that_do_not_fit_are_findings() {
    let directory = directory("findings");
    let rules = directory.join("rules");
    let large = json!({
        "format": 1, "prompts": 1, "salt": 0, "segment_length": 262_144,
        "bytes": "A".repeat(4 << 18),
    });
    let rows = [
        ("name = \"A b\"\nfile = \"seeds/ok.fuse\"", "the name 'A b' is invalid"),
        ("name = \"a\"\nfile = \"seeds/okk.fuse\"", "there is no seed set 'seeds/okk.fuse'"),
        ("name = \"a\"\nfile = \"policy.toml\"", "there is no seed set 'policy.toml'"),
        ("name = \"a\"\nfile = \"seeds/bad.fuse\"", "'seeds/bad.fuse': this is not a seed set"),
        ("name = \"a\"\nfile = \"seeds/torn.fuse\"", "the filter of the seed set is damaged"),
        ("name = \"a\"\nfile = \"seeds/large.fuse\"", "expected 524288"),
        ("name = \"a\"", "this seed set has no 'file'"),
    ];
    let prompts = problems();
    let features: Vec<_> = prompts.iter().filter_map(|prompt| prompt_features(prompt)).collect();
    let (filter, count) = build(&features).unwrap();
    let text = SeedFile::new(&filter, count).to_text();
    fs::write(rules.join("seeds/ok.fuse"), &text).unwrap();
    fs::write(rules.join("seeds/bad.fuse"), "GIF89a").unwrap();
    let torn = text.replace("\"segment_length\":", "\"segment_length\":1");
    fs::write(rules.join("seeds/torn.fuse"), torn).unwrap();
    fs::write(rules.join("seeds/large.fuse"), large.to_string()).unwrap();
    for (entry, expected) in rows {
        fs::write(rules.join("policy.toml"), format!("[[seeds]]\n{entry}\n")).unwrap();
        let output = run(&["check", rules.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{entry}");
        assert!(stdout(&output).contains(expected), "{entry}: {}", stdout(&output));
    }
    let set = |name: &str| json!({ "name": name, "filter": large });
    let bundle = json!({
        "format": 1, "policy": {}, "sources": {}, "signatures": [], "seeds": [set("a"), set("b")],
    });
    let error = Ruleset::load(bundle.to_string().as_bytes()).unwrap_err();
    assert!(error.problem().contains("bytes of seed sets"), "{error}");
}
