//! The behaviour of the command line: exit codes, findings with line and column, and the structure
//! of JSON output.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::hedgerow_command;

fn hedgerow(arguments: &[&str]) -> Output {
    hedgerow_command().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn parse_json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns a new empty directory for one test.
fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

const RULE: &str = include_str!("../fixtures/pairs.yml");

#[test]
fn valid_rules_check_test_and_build() {
    let directory = scratch("clean");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    let rules = directory.to_str().unwrap();
    for command in ["check", "test"] {
        let output = hedgerow(&[command, rules]);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", text(&output));
    }
    let bundle = directory.join("bundle.json");
    let build = || hedgerow(&["--format", "json", "build", rules, "-o", bundle.to_str().unwrap()]);
    let (first, second) = (parse_json(&build()), parse_json(&build()));
    assert_eq!(first, second, "equal rules make equal bundles");
    assert_eq!(first["digest"], hedgerow_core::ruleset::digest(&fs::read(&bundle).unwrap()));
}

#[test]
fn findings_are_reported_at_once_with_line_column_and_remedy() {
    let rows = [
        (
            "unknown field",
            "hedgerow.prompt.user|contains: 'to train'",
            "hedgerow.prompts|contains: 'to train'",
            "13:13",
            "unknown field",
        ),
        (
            "unknown modifier",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|base64: 'to train'}",
            "13:13",
            "modifier 'base64'",
        ),
        (
            "base64",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|base64: 'x'}",
            "13:13",
            "modifier 'base64'",
        ),
        ("short literal", "'to train'", "'cot'", "13:13", "is too short"),
        ("wildcard", "'to train'", "'to*train'", "13:13", "wildcard"),
        (
            "wrong type",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.turns|contains: 'to train'}",
            "13:13",
            "does not fit",
        ),
        (
            "bad regex",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|re: '(to train'}",
            "13:13",
            "does not compile",
        ),
        (
            "free regex",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|re: 'to .*'}",
            "13:13",
            "no required literal",
        ),
        (
            "negation alone",
            "condition: pairs and purpose",
            "condition: not pairs and not purpose",
            "14:3",
            "empty request",
        ),
        (
            "unknown selection",
            "condition: pairs and purpose",
            "condition: pairs and purpose and more",
            "14:3",
            "unknown selection 'more'",
        ),
        (
            "unused selection",
            "condition: pairs and purpose",
            "condition: pairs",
            "13:3",
            "not used",
        ),
        (
            "no reference",
            "references: [https://arxiv.org/abs/2212.10560]\n",
            "",
            "1:1",
            "no references",
        ),
        ("no false positives", "falsepositives: [Teachers]\n", "", "1:1", "no falsepositives"),
        (
            "unknown tag",
            "[hedgerow.synthesis]",
            "[hedgerow.synthesis, other.thing]",
            "9:28",
            "unknown tag",
        ),
        ("no UUID", "5d0f2a6e-5a3b-4a3c-9a54-1f0c4b1f7a10", "five", "2:1", "UUID"),
        ("another log source", "category: llm_api", "category: webserver", "10:1", "log source"),
        (
            "too few exemplars",
            "    - {name: both again, expect: match, event: {hedgerow.prompt.user: \
             'QUESTION-ANSWER  PAIRS to train a model'}}\n",
            "",
            "18:3",
            "fewer than two matching",
        ),
        (
            "only negations",
            "condition: pairs and purpose",
            "condition: not pairs and not purpose",
            "14:3",
            "holds for an empty request",
        ),
        (
            "a negated absence",
            concat!(
                "  pairs: {hedgerow.prompt.user|contains: 'question-answer pairs'}\n",
                "  purpose: {hedgerow.prompt.user|contains: 'to train'}\n",
                "  condition: pairs and purpose"
            ),
            "  silent: {gen_ai.operation.name|exists: false}\n  condition: not silent",
            "11:1",
            "none of its comparisons",
        ),
        (
            "negated words of a client",
            "condition: pairs and purpose",
            "condition: pairs and not purpose",
            "14:3",
            "'not purpose' tests 'hedgerow.prompt.user', which a client writes",
        ),
        (
            "innocence of an unknown selection",
            "custom_attributes:",
            "custom_attributes:\n  hedgerow.innocence: [purpos]",
            "18:24",
            "unknown selection 'purpos'; did you mean 'purpose'?",
        ),
        (
            "innocence of a selection in the condition",
            "custom_attributes:",
            "custom_attributes:\n  hedgerow.innocence: [purpose]",
            "13:3",
            "in the condition and in `hedgerow.innocence`",
        ),
        (
            "innocence without a list",
            "custom_attributes:",
            "custom_attributes:\n  hedgerow.innocence: purpose",
            "18:3",
            "expected a list of selections",
        ),
        (
            "exception for an unknown disguise",
            "custom_attributes:",
            "custom_attributes:\n  hedgerow.disguise_exceptions: {foter: the text is completed}",
            "18:34",
            "unknown disguise 'foter'; did you mean 'footer'?",
        ),
        (
            "exception without a reason",
            "custom_attributes:",
            "custom_attributes:\n  hedgerow.disguise_exceptions: {footer: ''}",
            "18:34",
            "has no reason",
        ),
        ("not YAML", "detection:", "detection: [", "", "not YAML"),
        (
            "misspelt key",
            "falsepositives: [Teachers]",
            "falsepositive: [Teachers]",
            "15:1",
            "unknown key 'falsepositive'; did you mean 'falsepositives'?",
        ),
        (
            "unknown key",
            "level: critical",
            "level: critical\nsigma-version: 3",
            "17:1",
            "unknown key 'sigma-version'; remove it",
        ),
        (
            "misspelt attribute",
            "custom_attributes:",
            "custom_attributes:\n  hedgerow.wieght: 9",
            "18:3",
            "unknown key 'hedgerow.wieght'; did you mean 'hedgerow.weight'?",
        ),
        (
            "attribute at the top",
            "custom_attributes:",
            "hedgerow.weight: 9\ncustom_attributes:",
            "17:1",
            "put it under `custom_attributes`",
        ),
        (
            "key of the log source",
            "product: hedgerow}",
            "product: hedgerow, servcie: x}",
            "10:51",
            "did you mean 'service'?",
        ),
        (
            "timeframe",
            "  condition: pairs and purpose",
            "  timeframe: 5m\n  condition: pairs and purpose",
            "14:3",
            "a timeframe is not supported",
        ),
        (
            "misspelt family",
            "[hedgerow.synthesis]",
            "[hedgerow.synthesys]",
            "9:8",
            "did you mean 'hedgerow.synthesis'?",
        ),
        (
            "invalid technique",
            "[hedgerow.synthesis]",
            "[hedgerow.synthesis, atlas.aml.t24]",
            "9:28",
            "unknown tag 'atlas.aml.t24'",
        ),
        (
            "unknown tactic",
            "[hedgerow.synthesis]",
            "[hedgerow.synthesis, attack.t1119, attack.colection]",
            "9:42",
            "did you mean 'attack.collection'?",
        ),
        (
            "broken condition",
            "condition: pairs and purpose",
            "condition: pairs and (purpose",
            "14:3",
            "the condition is invalid at its character",
        ),
        ("no condition", "  condition: pairs and purpose\n", "", "11:1", "no condition"),
        (
            "misspelt selection",
            "condition: pairs and purpose",
            "condition: pair and purpose",
            "14:3",
            "unknown selection 'pair'; did you mean 'pairs'?",
        ),
        (
            "misspelt modifier",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|contain: 'to train'}",
            "13:13",
            "unknown modifier 'contain'; did you mean 'contains'?",
        ),
        (
            "regex flag without a regex",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|contains|i: 'to train'}",
            "13:13",
            "flags of `|re`",
        ),
        (
            "`|all` of one value",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|contains|all: 'to train'}",
            "13:13",
            "`|all` has one value",
        ),
        (
            "no values",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|contains: []}",
            "13:13",
            "no values",
        ),
        (
            "empty selection",
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{}",
            "13:3",
            "the selection is empty",
        ),
        (
            "repeated key",
            "level: critical",
            "level: critical\nlevel: low",
            "17:1",
            "the key 'level' is repeated",
        ),
        (
            "repeated selection",
            "  condition:",
            "  purpose: {hedgerow.turns|gt: 1}\n  condition:",
            "14:3",
            "the key 'purpose' is repeated",
        ),
        (
            "second rule",
            "{hedgerow.prompt.user: 'Words to train on'}}\n",
            "{hedgerow.prompt.user: 'Words to train on'}}\n---\ntitle: Another\n",
            "23:1",
            "expected one rule per file",
        ),
        ("no title", "title: Asks for training pairs\n", "", "1:1", "no title"),
        (
            "unknown level",
            "level: critical",
            "level: severe",
            "16:1",
            "the level is missing or unknown",
        ),
        (
            "unknown status",
            "status: stable",
            "status: steady",
            "4:1",
            "the status is missing or unknown",
        ),
        ("invalid date", "date: 2026-11-23", "date: tomorrow", "8:1", "invalid date"),
        ("empty note", "[Teachers]", "[Teachers, '']", "15:28", "this entry is empty"),
        (
            "exemplar of an unknown field",
            "{hedgerow.prompt.user: 'Words to train on'}",
            "{hedgerow.prompt.usr: 'Words to train on'}",
            "22:58",
            "unknown field 'hedgerow.prompt.usr'",
        ),
        (
            "exemplar of the wrong type",
            "{hedgerow.prompt.user: 'Words to train on'}",
            "{hedgerow.prompt.user: 'Words to train on', hedgerow.turns: many}",
            "22:101",
            "the event's value of 'hedgerow.turns' has the wrong type",
        ),
        (
            "exemplar with an invalid expectation",
            "{name: 'near: no pairs', expect: no-match,",
            "{name: 'near: no pairs', expect: maybe,",
            "22:32",
            "invalid expect 'maybe'",
        ),
        (
            "two exemplars with one name",
            "name: both again",
            "name: both",
            "20:8",
            "duplicate exemplar name 'both'; give it another name",
        ),
    ];
    for (name, from, to, position, problem) in rows {
        let directory = scratch("findings");
        assert!(RULE.contains(from), "{name}");
        fs::write(directory.join("pairs.yml"), RULE.replace(from, to)).unwrap();
        let output = hedgerow(&["check", directory.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        let found = text(&output);
        let line = found
            .lines()
            .find(|line| line.contains(problem))
            .unwrap_or_else(|| panic!("{name}: {found}"));
        assert!(
            line.contains(&format!("pairs.yml:{position}")) && line.contains("; "),
            "{name}: {line}"
        );
    }
    let directory = scratch("many");
    fs::write(
        directory.join("a.yml"),
        RULE.replace("'to train'", "'cot'").replace("level: critical\n", ""),
    )
    .unwrap();
    fs::write(directory.join("b.yml"), RULE.replace("synthesis_pairs", "pairs")).unwrap();
    let found = parse_json(&hedgerow(&["--format", "json", "check", directory.to_str().unwrap()]));
    let findings = found["findings"].as_array().unwrap();
    assert!(findings.len() >= 3, "all at once: {found}");
    for finding in findings {
        assert!(
            finding["line"].as_u64() > Some(0)
                && finding["column"].as_u64() > Some(0)
                && finding["remedy"] != "",
            "{finding}"
        );
    }
}

/// Runs `hedgerow check` and returns the findings as lines, without the directory and the count.
fn check_findings(directory: &Path) -> Vec<String> {
    let output = hedgerow(&["check", directory.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let directory = format!("{}/", directory.display());
    let lines = text(&output);
    lines.lines().filter_map(|line| line.strip_prefix(&directory)).map(str::to_owned).collect()
}

#[test]
fn one_mistake_is_one_finding_in_one_line() {
    let rows = [
        ("condition: pairs and purpose", "condition: pairs and (purpose"),
        ("condition: pairs and purpose", "condition: pairs and purpose | count() > 5"),
        ("condition: pairs and purpose", "condition: pairs and purpose and more and more"),
        ("level: critical", "level: critical\nlevel: critical"),
        ("level: critical", "level: severe"),
        ("status: stable", "status: steady"),
        ("date: 2026-11-23", "date: ''"),
        ("[hedgerow.synthesis]", "[hedgerow.synthesys]"),
        ("5d0f2a6e-5a3b-4a3c-9a54-1f0c4b1f7a10", "five"),
        ("title: Asks for training pairs\n", ""),
        ("name: both again", "name: both"),
        (
            "expect: no-match, event: {hedgerow.prompt.user: 'Words",
            "event: {hedgerow.prompt.user: 'Words",
        ),
        ("logsource: {category: llm_api, product: hedgerow}\n", ""),
        ("logsource: {category: llm_api, product: hedgerow}", "logsource: hedgerow"),
        (
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|contain: 'to train'}",
        ),
        (
            "{hedgerow.prompt.user|contains: 'to train'}",
            "{hedgerow.prompt.user|contains|re: 'to train'}",
        ),
        ("{hedgerow.prompt.user|contains: 'to train'}", "{hedgerow.prompt.user: '*'}"),
        ("{hedgerow.prompt.user|contains: 'to train'}", "{hedgerow.prompt.user: [to train, null]}"),
    ];
    for (from, to) in rows {
        let directory = scratch("once");
        assert!(RULE.contains(from), "{from}");
        fs::write(directory.join("pairs.yml"), RULE.replace(from, to)).unwrap();
        let found = check_findings(&directory);
        assert_eq!(found.len(), 1, "{to}: {found:#?}");
    }
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    let directory = scratch("kinds");
    let rule = RULE
        .replace("level: critical", "level: critical\nlevel: critical\nlicence: MIT")
        .replace("|contains: 'to train'", "|contain: 'to train'")
        .replace("'question-answer pairs'}\n", "'cot'}\n")
        .replace("pairs and purpose", "pairs and (purpose")
        .replace("[hedgerow.synthesis]", "[hedgerow.synthesis, other.thing]")
        .replace(
            "{hedgerow.prompt.user: 'Words to train on'}",
            "{hedgerow.prompts: x, hedgerow.turns: many}",
        );
    fs::write(directory.join("pairs.yml"), rule).unwrap();
    let found = check_findings(&directory);
    let positions: Vec<&str> = found.iter().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = ["9:28", "12:11", "13:13", "14:3", "17:1", "18:1", "24:58", "24:79"];
    assert_eq!(positions, expected.map(|position| format!("pairs.yml:{position}")), "{found:#?}");
}

#[test]
fn files_that_are_not_utf_8_are_findings() {
    let directory = scratch("latin");
    let latin = |text: &str| -> Vec<u8> {
        text.bytes().map(|byte| if byte == b'@' { 0xe9 } else { byte }).collect()
    };
    fs::write(directory.join("a.yml"), latin(&RULE.replace("a model on.", "@ model on."))).unwrap();
    fs::write(directory.join("b.yml"), RULE.replace("level: critical\n", "")).unwrap();
    fs::write(directory.join("policy.toml"), latin("# caf@\nmode = 'dark'\n")).unwrap();
    let found = check_findings(&directory);
    let starts = [
        "a.yml:5:38: the file is not UTF-8",
        "b.yml:1:1: the level is missing",
        "policy.toml:1:6: the file is not UTF-8",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (line, start) in found.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn unneeded_selections_and_wrong_exemplars_are_findings() {
    let directory = scratch("mutants");
    let path = directory.join("pairs.yml");
    let run = |text: String| {
        fs::write(&path, text).unwrap();
        hedgerow(&["test", directory.to_str().unwrap()])
    };
    let unneeded = run(RULE.replace("'Ten question-answer pairs'", "'Ten pairs'"));
    assert_eq!(unneeded.status.code(), Some(1));
    assert!(
        text(&unneeded).contains("pairs.yml:13:3: no exemplar needs the selection 'purpose'"),
        "{}",
        text(&unneeded)
    );
    let wrong = run(RULE.replace("'Words to train on'", "'question-answer pairs to train on'"));
    assert!(text(&wrong).contains("exemplar 'near: no pairs' matches alone"), "{}", text(&wrong));
}

#[test]
fn invalid_policies_are_findings() {
    let rows = [
        ("unknown key", "mood = 'dark'", "unknown field"),
        ("bands out of order", "[bands]\nnotice = 60", "not in order"),
        (
            "unknown signature",
            "[[signature]]\nname = 'synthesis_nothing'\noff = true",
            "unknown signature 'synthesis_nothing'",
        ),
        (
            "no reason",
            "[[exemption]]\nname = 'x'\nreason = ' '\nuntil = 2027-01-01\npath = '/v1/**'",
            "no reason",
        ),
        (
            "exemption of everything",
            "[[exemption]]\nname = 'x'\nreason = 'why not'\nuntil = 2027-01-01",
            "exempts everything",
        ),
        (
            "no date",
            "[[exemption]]\nname = 'x'\nreason = 'why not'\nuntil = 'soon'\npath = '/v1/**'",
            "expected a day such as",
        ),
        ("dead path", "[[route]]\npath = 'v1/chat'\nmode = 'enforce'", "never matches"),
        ("not TOML", "mode = 'enforce", "not TOML"),
        ("no window", "[scan]\nwindow = 0", "nothing would be scanned"),
        ("no decompressed bytes", "[scan]\nmax_decompressed = 0", "no compressed body"),
        ("infinite cap", "[score.caps]\ncontext = inf", "the cap 'context'"),
        ("no account", "[identity]\naccount = []", "no request would have an account"),
        ("no proof", "[identity]\ntrusted = 'header:X-Gateway'", "is not a proof: expected"),
        ("no condition", "[[route]]\nmode = 'enforce'", "this route has no condition"),
    ];
    for (name, policy, problem) in rows {
        let directory = scratch("policy");
        fs::write(directory.join("pairs.yml"), RULE).unwrap();
        fs::write(directory.join("policy.toml"), policy).unwrap();
        let output = hedgerow(&["check", directory.to_str().unwrap()]);
        let found = text(&output);
        assert!(
            output.status.code() == Some(1)
                && found.contains(problem)
                && found.contains("policy.toml:"),
            "{name}: {found}"
        );
    }
}

#[test]
fn all_mistakes_of_a_policy_are_reported_at_once() {
    let policy = "\
mood = 'dark'
mode = 'enforced'
[score]
prior = inf
family_cap = -1
[score.caps]
synthesys = 3.0
[bands]
notice = 'low'
hostile = 150
[enforce]
retry_after = 0
[scan]
window = -1
max_entries = 0
[[account]]
id = 'team a'
[[account]]
id = '0123456789abcdef0123456789abcdef'
mode = 'enforce'
mode = 'shadow'
[[account]]
id = '0123456789abcdef0123456789abcdef'
[[signature]]
name = 'synthesis_pair'
weight = nan
[[exemption]]
name = 'x'
[[exemption]]
name = 'x'
reason = ' '
until = 2027-01-01
path = 'v1'
signatures = ['other', 5]
[[cluster]]
id = 'team'
[[cluster]]
mode = 'shadow'
[identity]
account = ['header:x-user', 'query:key']
tenant = ['jwt:']
trusted = 'none'
client_address = 'header:x-forwarded-for'
proven = ['ok']
";
    let expected = [
        (1, 1, "unknown field `mood`"),
        (2, 8, "did you mean 'enforce'?"),
        (4, 9, "'prior' is invalid: expected a finite number"),
        (5, 14, "the cap 'family_cap' is invalid"),
        (7, 1, "did you mean 'synthesis'?"),
        (9, 10, "expected f64"),
        (10, 11, "'hostile' is invalid: expected a score"),
        (12, 15, "'retry_after' is 0"),
        (14, 10, "expected usize"),
        (15, 15, "'max_entries' is 0"),
        (17, 6, "the account 'team a' is invalid"),
        (21, 1, "the key is repeated"),
        (23, 6, "of this account is not unique"),
        (25, 8, "unknown signature 'synthesis_pair'; did you mean 'synthesis_pairs'?"),
        (26, 10, "the weight is invalid: expected a number"),
        (27, 1, "exemption 'x' exempts everything"),
        (27, 1, "this exemption has no 'reason'"),
        (27, 1, "this exemption has no 'until'"),
        (30, 8, "of this exemption is not unique"),
        (31, 10, "exemption 'x' has no reason"),
        (33, 8, "the path 'v1' never matches"),
        (34, 15, "unknown signature 'other'"),
        (34, 24, "expected a string"),
        (36, 6, "the cluster 'team' is invalid"),
        (37, 1, "this cluster has no 'id'"),
        (38, 8, "'mode' of this cluster is \"shadow\": expected \"enforce\""),
        (40, 12, "'header:x-user' is never believed: nothing proves who set it"),
        (40, 29, "'query:key' is not a source of accounts: expected \"credential\""),
        (41, 11, "'jwt:' is not a source of accounts"),
        (43, 18, "'header:x-forwarded-for' is never believed"),
        (44, 11, "'ok' is not a status: expected a number"),
    ];
    let directory = scratch("policies");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    fs::write(directory.join("policy.toml"), policy).unwrap();
    let found = check_findings(&directory);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (number, column, problem)) in found.iter().zip(expected) {
        assert!(
            line.starts_with(&format!("policy.toml:{number}:{column}: ")) && line.contains(problem),
            "{line}, not {number}:{column} {problem}"
        );
    }
}

/// Clients can influence which cluster they belong to, so the policy can treat only accounts and
/// tenants more mildly.
#[test]
fn naming_a_cluster_can_only_tighten() {
    let id = "0123456789abcdef0123456789abcdef";
    let cluster = |actions: &str| format!("[[cluster]]\nid = '5b0f3a91'\nactions = {actions}\n");
    let exemption = |key: &str, id: &str| {
        format!("[[exemption]]\nname = 'x'\nreason = 'r'\nuntil = 2030-01-01\n{key} = '{id}'\n")
    };
    let general = "actions = { suspect = 'throttle' }\n";
    let rows = [
        (cluster("{ suspect = 'throttle', hostile = 'block' }"), None),
        ("[[cluster]]\nid = '5b0f3a91'\nmode = 'enforce'\n".to_owned(), None),
        (cluster("{ suspect = 'tag' }"), Some((3, 23, "'suspect' of this cluster is \"tag\""))),
        (cluster("{ hostile = 'allow' }"), Some((3, 23, "expected at least \"block\""))),
        (
            format!("{general}{}", cluster("{ suspect = 'degrade' }")),
            Some((4, 23, "expected at least \"throttle\", the general action")),
        ),
        (exemption("cluster", "5b0f3a91"), Some((5, 1, "exemption 'x' names a cluster"))),
        (exemption("tenant", "acme"), Some((5, 10, "the tenant 'acme' is invalid"))),
        (exemption("account", id), None),
        (exemption("tenant", id), None),
        (format!("[[account]]\nid = '{id}'\nmode = 'shadow'\n"), None),
        (
            format!("[[tenant]]\nid = '{id}'\nmode = 'shadow'\nactions = {{ suspect = 'tag' }}\n"),
            None,
        ),
    ];
    let directory = scratch("tighten");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    for (policy, expected) in rows {
        fs::write(directory.join("policy.toml"), &policy).unwrap();
        let Some((number, column, problem)) = expected else {
            let output = hedgerow(&["check", directory.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(0), "{policy}: {}", text(&output));
            continue;
        };
        let found = check_findings(&directory);
        let position = format!("policy.toml:{number}:{column}: ");
        let is_expected = |line: &String| line.starts_with(&position) && line.contains(problem);
        assert!(found.iter().any(is_expected), "{policy}: {found:?}, not {problem}");
        let is_remedied = |line: &String| line.contains("[[account]], [[tenant]] or [[exemption]]");
        assert!(found.iter().any(is_remedied) || problem.contains("invalid"), "{found:?}");
    }
}

#[test]
fn the_storage_of_decisions_has_limits() {
    let rows = [
        ("keep_days = 90\nmax_bytes = 4294967296", None),
        ("keep_days = 1\nmax_bytes = 1048576", None),
        ("keep_days = 0", Some("2:13: 'keep_days' is 0: no enforced decision would be found")),
        ("keep_days = 91", Some("2:13: 'keep_days' is 91")),
        ("max_bytes = 1000", Some("2:13: 'max_bytes' is 1000")),
        ("max_bytes = 4294967297", Some("2:13: 'max_bytes' is 4294967297")),
    ];
    let directory = scratch("decisions");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    for (settings, expected) in rows {
        fs::write(directory.join("policy.toml"), format!("[decisions]\n{settings}\n")).unwrap();
        let Some(problem) = expected else {
            let output = hedgerow(&["check", directory.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(0), "{settings}: {}", text(&output));
            continue;
        };
        let found = check_findings(&directory);
        let problem = format!("policy.toml:{problem}");
        assert!(found.iter().any(|line| line.contains(&problem)), "{found:?}, not {problem}");
    }
}

#[test]
fn all_problems_in_the_words_for_clients_are_found() {
    let valid = r#"
        [enforce]
        refusal_language = "en"
        [[refusal]]
        on = ["throttle", "block", "unavailable", "late", "too_large", "unsupported"]
        text = "No. {request_id} {appeal} {link}"
        code = "no_more"
        [[refusal]]
        dialect = "gemini"
        language = "pt-BR"
        text = "Não."
        link = "https://help.example.com/?ref={appeal}"
        [notice]
        header = "x-usage-notice"
        text = "Limited."
        hostile = true
        only = ["0123456789abcdef0123456789abcdef"]
    "#;
    let directory = scratch("words");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    fs::write(directory.join("policy.toml"), valid).unwrap();
    let output = hedgerow(&["check", directory.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    let invalid = r#"[[refusal]]
on = ["throtle"]
dialect = "google"
language = "en_GB"
text = "No. {appeel}"
code = "No More"
link = "http://help.example.com"
[[refusal]]
on = ["block"]
[[refusal]]
on = ["late", "throttle"]
text = "a\u0007b"
[[refusal]]
on = ["throttle", "late"]
text = "{"
[notice]
header = "content-type"
text = "über {link}"
only = ["Acme"]
except = ["\u202e"]
tenants = []
[enforce]
refusal_language = ""
"#;
    fs::write(directory.join("policy.toml"), invalid).unwrap();
    let found = check_findings(&directory);
    let expected = [
        "2:7: unknown variant `throtle`",
        "3:11: unknown variant `google`",
        "4:12: 'language' is invalid: expected a language tag",
        "5:8: 'text' is invalid: expected no braces except",
        "6:8: 'code' is invalid",
        "7:8: 'link' is invalid: expected a URL that begins with https://",
        "8:1: this refusal has no effect",
        "12:8: 'text' is invalid: expected at most 1000 bytes",
        "13:1: this refusal has the same conditions as the one in line 10",
        "15:8: 'text' is invalid: expected no braces",
        "17:10: 'header' is invalid",
        "18:8: 'text' is invalid: expected at most 500 ASCII characters",
        "18:8: 'text' has {link}, but no link is set",
        "19:9: 'Acme' never matches",
        "20:11: '\\u{202e}' is invalid",
        "21:1: unknown field `tenants`",
        "23:20: 'refusal_language' is invalid",
    ];
    for problem in expected {
        let problem = format!("policy.toml:{problem}");
        assert!(found.iter().any(|line| line.contains(&problem)), "{found:#?}, not {problem}");
    }
    let suggestions = ["did you mean 'throttle'?", "did you mean 'appeal'?"];
    for suggestion in suggestions {
        assert!(found.iter().any(|line| line.contains(suggestion)), "{found:#?}, not {suggestion}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn a_notice_needs_a_header_and_words() {
    let rows = [
        ("[notice]\ntext = \"Limited.\"", Some("2:1: [notice] has no effect")),
        ("[notice]\nheader = \"x-notice\"", Some("2:10: 'header' has no value")),
        ("[notice]\nheader = \"x-notice\"\nlink = \"https://a.example\"", None),
        ("[notice]", None),
        (
            "[identity]\nlabels = true\n[notice]\nheader = \"x-notice\"\ntext = \"a\"\n\
             only = [\"Acme\"]",
            None,
        ),
    ];
    let directory = scratch("notice");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    for (policy, expected) in rows {
        fs::write(directory.join("policy.toml"), policy).unwrap();
        let output = hedgerow(&["check", directory.to_str().unwrap()]);
        let found = text(&output);
        match expected {
            None => assert_eq!(output.status.code(), Some(0), "{policy}: {found}"),
            Some(problem) => assert!(found.contains(problem), "{found}, not {problem}"),
        }
    }
}

#[test]
fn settings_of_the_origin_and_of_hidden_paths_are_checked() {
    let rows = [
        ("[origin]\nforwarded = \"set\"\n[admin]\nhidden = true", None),
        ("[origin]\nforwarded = \"strip\"", Some("2:13: ")),
        ("[origin]\nforward = \"set\"", Some("2:1: ")),
        ("[admin]\nhidden = \"yes\"", Some("2:10: ")),
        ("[admin]\nhide = true", Some("2:1: ")),
    ];
    let directory = scratch("origin");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    for (settings, expected) in rows {
        fs::write(directory.join("policy.toml"), format!("{settings}\n")).unwrap();
        let Some(position) = expected else {
            let output = hedgerow(&["check", directory.to_str().unwrap()]);
            assert_eq!(output.status.code(), Some(0), "{settings}: {}", text(&output));
            continue;
        };
        let found = check_findings(&directory);
        let position = format!("policy.toml:{position}");
        assert!(found.iter().any(|line| line.starts_with(&position)), "{settings}: {found:?}");
    }
}

#[test]
fn usage_and_missing_files_exit_with_2() {
    for arguments in [
        &["nonsense"][..],
        &["check", "/nowhere"],
        &["score", "/nowhere"],
        &["replay", "/nowhere"],
        &["replay"],
    ] {
        assert_eq!(hedgerow(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

/// Writes a recording with two accounts and two labels. One of its lines is not a request, and
/// another line is not an LLM call.
fn write_recording(directory: &Path) -> PathBuf {
    let ask = |content: &str, label: &str, account: &str| {
        let messages = json!([{ "role": "user", "content": content }]);
        let body = json!({ "model": "m", "messages": messages }).to_string();
        json!({ "method": "POST", "path": "/v1/chat/completions?x=1",
            "headers": [["User-Agent", "x/1"]], "body": body, "label": label, "account": account })
        .to_string()
    };
    let lines = [
        ask("Good morning!", "benign", "a"),
        ask("Ten question-answer pairs, please.", "harvest", "b"),
        ask("Ten question-answer pairs to train on.", "harvest", "b"),
        r#"{"method":"GET","path":"/v1/models","headers":{}}"#.to_owned(),
        "not json".to_owned(),
    ];
    let path = directory.join("recording.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    path
}

#[test]
fn replay_prints_a_summary_and_writes_decisions() {
    let directory = scratch("replay");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    let (bundle, out) = (directory.join("bundle.json"), directory.join("out.jsonl"));
    let recording = write_recording(&directory);
    hedgerow(&["build", directory.to_str().unwrap(), "-o", bundle.to_str().unwrap()]);
    let arguments = [
        "replay",
        recording.to_str().unwrap(),
        "--ruleset",
        bundle.to_str().unwrap(),
        "--decisions",
        out.to_str().unwrap(),
    ];
    let output = hedgerow(&[&["--format", "json"][..], &arguments].concat());
    assert_eq!(output.status.code(), Some(1), "an unreadable line is a finding");
    let summary = parse_json(&output);
    assert_eq!(
        (&summary["requests"], &summary["unreadable"], &summary["passed"]),
        (&3.into(), &1.into(), &1.into())
    );
    let expected = json!({
        "benign": { "requests": 1, "notice": 0, "suspect": 0, "hostile": 0, "accounts": 1,
            "accounts_suspect": 0, "files": 1, "files_suspect": 0 },
        "harvest": { "requests": 2, "notice": 1, "suspect": 1, "hostile": 0, "accounts": 1,
            "accounts_suspect": 1, "files": 1, "files_suspect": 1 },
    });
    assert_eq!(summary["labels"], expected);
    let file = &summary["files"][0];
    assert_eq!(
        (&file["requests"], &file["first_suspect"], &file["label"]),
        (&3.into(), &3.into(), &Value::Null),
        "the file has two labels"
    );
    let labels = &file["labels"];
    assert_eq!(
        (&labels["benign"]["requests"], &labels["benign"]["suspect"]),
        (&1.into(), &0.into())
    );
    assert_eq!(
        (&labels["harvest"]["requests"], &labels["harvest"]["first_suspect"]),
        (&2.into(), &3.into())
    );
    assert_eq!(file["top"], json!([["synthesis_pairs", 1]]));
    assert_eq!(
        summary["signatures"],
        json!([{ "name": "synthesis_pairs", "hits": { "harvest": 1, "benign": 0, "gray": 0 } }])
    );
    let rows: Vec<Value> = fs::read_to_string(&out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[2]["line"], &rows[2]["band"], &rows[2]["action"]),
        (&3.into(), &"suspect".into(), &"degrade".into())
    );
    assert_eq!(rows[2]["hits"], json!([{ "name": "synthesis_pairs", "weight": 22.0 }]));
    assert!(
        text(&hedgerow(&arguments)).contains("recording.jsonl:5:1"),
        "the text names the line that could not be read"
    );
}

#[test]
fn score_and_explain_show_the_evidence() {
    let directory = scratch("score");
    fs::write(directory.join("pairs.yml"), RULE).unwrap();
    let bundle = directory.join("bundle.json");
    hedgerow(&["build", directory.to_str().unwrap(), "-o", bundle.to_str().unwrap()]);
    let request = directory.join("request.http");
    let body =
        r#"{"messages":[{"role":"user","content":"Ten Question-Answer\npairs to train on"}]}"#;
    fs::write(
        &request,
        format!("POST /v1/chat/completions HTTP/1.1\nContent-Type: application/json\n\n{body}"),
    )
    .unwrap();
    let with = |command: &[&str]| {
        let files = [request.to_str().unwrap(), "--ruleset", bundle.to_str().unwrap()];
        parse_json(&hedgerow(&[&["--format", "json"], command, &files].concat()))
    };
    let scored = with(&["score"]);
    assert_eq!(
        (&scored["decision"]["band"], &scored["score"]["evidence"]),
        (&"suspect".into(), &22.0.into())
    );
    let evidence = &scored["decision"]["hits"][0]["evidence"];
    let part = |evidence: &Value| {
        &body[evidence["start"].as_u64().unwrap() as usize
            ..evidence["end"].as_u64().unwrap() as usize]
    };
    let parts: Vec<&str> = evidence.as_array().unwrap().iter().map(part).collect();
    assert_eq!(parts, [r"Question-Answer\npairs", "to train"]);
    let explained = &with(&["explain"])["requests"][0][0];
    assert_eq!(
        (&explained["name"], &explained["holds"]),
        (&"synthesis_pairs".into(), &true.into())
    );
    assert_eq!(explained["selections"][0]["tests"][0]["evidence"]["field"], "hedgerow.prompt.user");
    let missed = fs::read_to_string(&request).unwrap().replace("to train on", "please");
    fs::write(&request, missed).unwrap();
    let explained = &with(&["explain"])["requests"][0][0];
    let holds: Vec<&Value> = explained["selections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|selection| &selection["holds"])
        .collect();
    assert_eq!((&explained["holds"], holds), (&false.into(), vec![&true.into(), &false.into()]));
    fs::write(&request, "POST /v1/chat/completions HTTP/1.1\n\n{}").unwrap();
    let count = |command: &[&str]| with(command)["requests"][0].as_array().unwrap().len();
    assert_eq!((count(&["explain"]), count(&["explain", "--near"])), (1, 0));
}

#[test]
fn the_page_about_the_bill_shows_the_output_of_the_command() {
    let page = include_str!("../../docs/cost.md");
    let (_, block) = page.split_once("```text\n$ hedgerow ").unwrap();
    let (command, expected) = block.split_once("```").unwrap().0.split_once('\n').unwrap();
    let arguments: Vec<&str> = command.split(' ').collect();
    assert_eq!(text(&hedgerow(&arguments)), expected);
}
