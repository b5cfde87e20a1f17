//! Layers of rules: what an upper layer adds, overrides and replaces, and `hedgerow rules`.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use hedgerow_core::rules::policy::Mode;
use hedgerow_sigma::{Layer, RuleFile, Rules};
use serde_json::{Value, json};

use crate::{fast_hedgerow_command, hedgerow_command};

const RULE: &str = include_str!("../fixtures/pairs.yml");
const ID: &str = "5d0f2a6e-5a3b-4a3c-9a54-1f0c4b1f7a10";
const OWN_ID: &str = "0c7e2a6e-5a3b-4a3c-9a54-1f0c4b1f7a11";

fn file(path: &str, text: &str) -> RuleFile {
    RuleFile { path: path.to_owned(), text: text.to_owned() }
}

/// Returns a rule of an own family, without references.
fn own_rule() -> String {
    RULE.replace("references: [https://arxiv.org/abs/2212.10560]\n", "")
        .replace(ID, OWN_ID)
        .replace("synthesis_pairs", "own_pairs")
        .replace("[hedgerow.synthesis]", "[hedgerow.own, acme.ticket-12]")
        .replace("question-answer pairs", "pairs of fern")
        .replace("QUESTION-ANSWER  PAIRS", "PAIRS OF  FERN")
}

/// Checks the layers `vendor` and `ours`. The error has one line for each finding.
fn check(vendor: &[RuleFile], ours: &[RuleFile]) -> Result<Rules, Vec<String>> {
    let layers = [Layer { name: "vendor", files: vendor }, Layer { name: "ours", files: ours }];
    hedgerow_sigma::check_layers(&layers)
        .map_err(|findings| findings.iter().map(ToString::to_string).collect())
}

#[test]
fn an_upper_layer_adds_rules_families_and_settings() {
    let vendor = [
        file("pairs.yml", RULE),
        file(
            "policy.toml",
            "mode = 'shadow'\n[score]\nprior = -20.0\n[score.caps]\ncontext = 2.0\n[bands]\n\
             notice = 5.0\nhostile = 95.0\n[[route]]\npath = '/a'\nmode = 'shadow'\n\
             [[exemption]]\nname = 'audit'\nreason = 'old'\npath = '/a'\nuntil = 2027-01-31\n\
             [[exemption]]\nname = 'other'\nreason = 'kept'\npath = '/b'\nuntil = 2027-01-31\n",
        ),
    ];
    let policy = format!(
        "mode = 'enforce'\n[score.caps]\nown = 10.0\n[bands]\nhostile = 90.0\n[[route]]\n\
         path = '/b'\nmode = 'enforce'\n[[signature]]\nid = '{ID}'\nweight = 4.0\n\
         [[exemption]]\nname = 'audit'\nreason = 'new'\npath = '/a'\nuntil = 2027-01-31\n"
    );
    let ours = [
        file("families.toml", "own = 'Asks for what only we know.'\n"),
        file("own/pairs.yml", &own_rule()),
        file("policy.toml", &policy),
    ];
    let rules = check(&vendor, &ours).unwrap();
    let policy = &rules.policy;
    assert_eq!(policy.mode, Mode::Enforce);
    assert_eq!((policy.bands.notice, policy.bands.hostile), (5.0, 90.0));
    assert_eq!(policy.score.family_cap("context"), 2.0);
    assert_eq!(policy.score.family_cap("own"), 10.0);
    let paths: Vec<_> = policy.routes.iter().map(|route| route.path.as_deref()).collect();
    assert_eq!(paths, [Some("/b"), Some("/a")], "the routes of the upper layer come first");
    let reasons: Vec<_> = policy.exemptions.iter().map(|entry| entry.reason.as_str()).collect();
    assert_eq!(reasons, ["new", "kept"]);
    assert_eq!(policy.signatures[0].name, "synthesis_pairs", "an id becomes a name");
    let overrides: Vec<String> = rules
        .overrides
        .iter()
        .map(|entry| format!("{}:{}:{}: {}", entry.path, entry.line, entry.column, entry.change))
        .collect();
    assert_eq!(
        overrides,
        [
            "ours/policy.toml:1:8: mode = 'enforce' instead of 'shadow' of vendor/policy.toml:1",
            "ours/policy.toml:5:11: bands.hostile = 90.0 instead of 95.0 of vendor/policy.toml:8",
            "ours/policy.toml:12:1: [[exemption]] with the name 'audit' of vendor/policy.toml:12",
        ]
    );
    let names: Vec<&str> = rules.rules.iter().map(|rule| rule.signature.name.as_str()).collect();
    assert_eq!(names, ["own_pairs", "synthesis_pairs"]);
    let bundle = rules.bundle();
    assert!(bundle.sources.contains_key("ours/own/pairs.yml"), "{:?}", bundle.sources);
    let page = &hedgerow_sigma::docs::pages(&rules)[4].1;
    assert!(page.contains("\n## own\n\nAsks for what only we know.\n"), "{page}");
    assert_eq!(page.matches("Sources: ").count(), 1, "{page}");
    assert_eq!(hedgerow_sigma::test(&rules), []);
}

/// One layer names a rule, and the other one gives its id.
#[test]
fn an_upper_setting_of_a_rule_replaces_the_lower_one_by_name_and_by_id() {
    let by_id = format!("[[signature]]\nid = '{ID}'\nweight = 4.0\n");
    let by_name = "[[signature]]\nname = 'synthesis_pairs'\noff = true\n";
    let id = by_id.as_str();
    let rows = [(by_name, id, Some(4.0), false), (id, by_name, None, true)];
    for (lower, upper, weight, off) in rows {
        let vendor = [file("pairs.yml", RULE), file("policy.toml", lower)];
        let rules = check(&vendor, &[file("policy.toml", upper)]).unwrap();
        let settings = &rules.policy.signatures;
        assert_eq!(settings.len(), 1, "{settings:?}");
        assert_eq!((settings[0].weight, settings[0].off), (weight, off), "{upper}");
        let changes: Vec<&str> =
            rules.overrides.iter().map(|entry| entry.change.as_str()).collect();
        let expected = "[[signature]] with the name 'synthesis_pairs' of vendor/policy.toml:1";
        assert_eq!(changes, [expected]);
    }
    // Two settings of a rule in one layer are still a finding.
    let twice = check(&[file("pairs.yml", RULE)], &[file("policy.toml", &(by_id + by_name))]);
    let findings = twice.unwrap_err();
    assert!(findings[0].contains("the name 'synthesis_pairs' of this signature"), "{findings:?}");
}

#[test]
fn an_upper_rule_replaces_a_lower_rule_only_explicitly() {
    let vendor = [file("pairs.yml", RULE)];
    let same = check(&vendor, &[file("mine.yml", RULE)]).unwrap_err();
    assert_eq!(
        same,
        [
            format!(
                "ours/mine.yml:2:1: the id '{ID}' is not unique: vendor/pairs.yml has it, too; \
                 give this rule another id, or replace that rule with `hedgerow.replaces: {ID}`"
            ),
            format!(
                "ours/mine.yml:3:1: the name 'synthesis_pairs' is not unique: vendor/pairs.yml has \
                 it, too; give this rule another name, or replace that rule with \
                 `hedgerow.replaces: {ID}`"
            ),
        ]
    );
    let replacing = |id: &str| {
        let attributes = format!("custom_attributes:\n  hedgerow.replaces: {id}\n");
        RULE.replace("custom_attributes:\n", &attributes).replace("critical", "low")
    };
    let rules = check(&vendor, &[file("mine.yml", &replacing(ID))]).unwrap();
    let rule = &rules.rules[0];
    assert_eq!((rules.rules.len(), rule.signature.weight), (1, 3.0));
    assert_eq!(rule.metadata.path, "ours/mine.yml");
    assert_eq!(rules.overrides[0].change, "replaces vendor/pairs.yml");

    let renamed = replacing(OWN_ID).replace(&format!("id: {ID}"), &format!("id: {OWN_ID}"));
    let nothing = check(&[], &[file("mine.yml", &renamed)]).unwrap_err();
    let expected = format!("the rule replaces nothing: no lower layer has the id '{OWN_ID}'; rem");
    assert!(nothing.len() == 1 && nothing[0].contains(&expected), "{nothing:?}");
}

#[test]
fn problems_between_layers_are_findings() {
    let concept = "concept: make\ndescription: Make.\nrare: true\nterms: {en: [compose]}\n";
    let list = "title = 'L'\nkind = 'address'\nweight = 1.0\n";
    let no_references = own_rule().replace("[hedgerow.own, acme.ticket-12]", "[hedgerow.own]");
    let families = file("families.toml", "own = 'Own'\n");
    let rows: [(&[RuleFile], &[RuleFile], &str); 12] = [
        (
            &[families.clone(), file("a.yml", &no_references)],
            &[],
            "vendor/a.yml:1:1: no references; link at least one source",
        ),
        (
            &[families.clone(), file("a.yml", &RULE.replace("synthesis]", "synthesis, a.b]"))],
            &[],
            "vendor/a.yml:9:28: unknown tag 'a.b'; ",
        ),
        (&[], &[file("a.yml", &own_rule())], "ours/a.yml:8:8: unknown tag 'hedgerow.own'; "),
        (
            std::slice::from_ref(&families),
            std::slice::from_ref(&families),
            "ours/families.toml:1:1: the family 'own' is already defined; remove it here",
        ),
        (
            &[file("lexicon/make.yml", concept)],
            &[file("lexicon/make.yml", concept)],
            "ours/lexicon/make.yml:1:1: a lower layer has the concept 'make', too; set `replaces`",
        ),
        (
            &[],
            &[file("lexicon/make.yml", &format!("{concept}replaces: true\n"))],
            "ours/lexicon/make.yml:1:1: the concept 'make' replaces nothing: no lower layer has it",
        ),
        (
            &[file("lists/l.toml", list)],
            &[file("lists/l.toml", list)],
            "ours/lists/l.toml:1:1: a lower layer has the list 'list_l', too; set `replaces`",
        ),
        (
            &[],
            &[file("lists/l.toml", &format!("{list}replaces = true\n"))],
            "ours/lists/l.toml:1:1: the list 'list_l' replaces nothing: no lower layer has it; rem",
        ),
        (
            &[file("seeds/s.fuse", "x")],
            &[file("seeds/s.fuse", "x")],
            "ours/seeds/s.fuse:1:1: vendor/seeds/s.fuse has the same path below its layer; rename",
        ),
        (
            &[file("pairs.yml", RULE)],
            &[file("policy.toml", "[[signature]]\nid = '00000000-0000-4000-8000-000000000000'\n")],
            "ours/policy.toml:2:6: unknown signature '00000000-0000-4000-8000-000000000000'; \
             correct the name or remove the entry; an update of the rules may have removed",
        ),
        (
            &[file("pairs.yml", RULE)],
            &[file("policy.toml", &format!("[[signature]]\nname = 'old'\nid = '{ID}'\n"))],
            "ours/policy.toml:2:8: the rule with the id '5d0f2a6e-5a3b-4a3c-9a54-1f0c4b1f7a10' is \
             not 'old'; write 'synthesis_pairs', or correct the id",
        ),
        (
            &[file("policy.toml", "mode = 'shadow'\n\n[score]\nprior = inf\n")],
            &[file("policy.toml", "[bands]\nnotice = 5.0\n[score.caps]\nown = 1.0\n")],
            "ours/policy.toml:4:1: unknown family 'own'; ",
        ),
    ];
    for (vendor, ours, expected) in rows {
        let found = check(vendor, ours).err().unwrap_or_default();
        assert!(found.first().is_some_and(|line| line.starts_with(expected)), "{found:#?}");
    }
    // The last row has a finding in the lower policy, too, with its own line.
    let (vendor, ours, _) = &rows[11];
    let found = check(vendor, ours).unwrap_err();
    assert_eq!(
        found[1],
        "vendor/policy.toml:4:9: 'prior' is invalid: expected a finite number; \
        use decibans, such as -20.0"
    );
}

#[test]
fn a_replaced_concept_and_list_have_the_values_of_the_upper_layer() {
    let concept = |term: &str, rest: &str| {
        let text = format!(
            "concept: make\ndescription: Make.\nrare: true\nterms: {{en: [{term}]}}\n{rest}"
        );
        file("lexicon/make.yml", &text)
    };
    let list = |weight: &str, rest: &str| {
        let text = format!("title = 'L'\nkind = 'address'\nweight = {weight}\n{rest}");
        file("lists/l.toml", &text)
    };
    let vendor = [concept("compose", ""), list("1.0", "")];
    let ours = [concept("assemble", "replaces: true\n"), list("2.0", "replaces = true\n")];
    let rules = check(&vendor, &ours).unwrap();
    assert_eq!(rules.lexicon.concepts["make"].terms["en"], ["assemble"]);
    assert_eq!((rules.lists.len(), rules.lists[0].weight), (1, 2.0));
}

/// A directory in which `hedgerow` runs.
struct Project(PathBuf);

impl Project {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("layers_{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }

    /// Runs a command, and returns its standard output and its standard error. The exit code must
    /// be `code`.
    fn run(&self, arguments: &[&str], code: i32) -> (String, String) {
        let output: Output =
            hedgerow_command().current_dir(&self.0).args(arguments).output().unwrap();
        let [stdout, stderr] =
            [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        self.run(arguments, 0).0
    }

    fn json(&self, arguments: &[&str], code: i32) -> Value {
        let arguments = [&["--format", "json"], arguments].concat();
        serde_json::from_str(&self.run(&arguments, code).0).unwrap()
    }
}

/// Returns a project whose vendor directory has the rule `synthesis_pairs`, and the directories
/// `next`, with a newer version of the vendor's rules, and `requests.jsonl`.
fn small_project(name: &str) -> Project {
    let project = Project::new(name);
    project.write("shipped/synthesis/pairs.yml", RULE);
    project.write("shipped/policy.toml", "mode = \"shadow\"\n[bands]\nnotice = 5.0\n");
    project.write("shipped/VERSION", "1.0.0\n");
    project.succeed(&["rules", "init", "--from", "shipped"]);
    let newer = RULE
        .replace("synthesis_pairs", "synthesis_reports")
        .replace(ID, "1d0f2a6e-5a3b-4a3c-9a54-1f0c4b1f7a12")
        .replace("question-answer pairs", "status reports")
        .replace("QUESTION-ANSWER  PAIRS", "STATUS  REPORTS");
    project.write("next/synthesis/reports.yml", &newer);
    project.write("next/policy.toml", "mode = \"shadow\"\n[bands]\nnotice = 6.0\n");
    project.write("next/VERSION", "2.0.0\n");
    let request = |text: &str| {
        json!({
            "method": "POST", "path": "/v1/chat/completions", "headers": [],
            "body": { "model": "m", "messages": [{ "role": "user", "content": text }] },
            "label": "benign",
        })
        .to_string()
    };
    let texts =
        ["Ten question-answer pairs to train on", "Ten status reports to train on", "Hello"];
    project.write("requests.jsonl", &texts.map(request).join("\n"));
    project
}

#[test]
fn a_project_begins_with_vendor_and_own_rules_that_pass() {
    let project = small_project("init");
    assert!(project.read("vendor/VERSION").starts_with("1.0.0\nsha256:"));
    let text = project.succeed(&["check"]);
    assert_eq!(text, "2 rules, 0 correlations, no findings\n");
    assert!(project.succeed(&["test"]).starts_with("2 rules, 0 correlations, 8 exemplars, all"));
    project.succeed(&["build", "-o", "bundle.json"]);
    let bundle: Value = serde_json::from_str(&project.read("bundle.json")).unwrap();
    assert!(bundle["sources"]["ours/own/example.yml"].is_string(), "{}", bundle["sources"]);
    let (_, error) = project.run(&["rules", "init"], 1);
    assert!(error.contains("hedgerow.toml: exists already"), "{error}");

    // Every command reads the layers of the settings, also from another directory.
    let config = project.0.join("hedgerow.toml");
    let requests = project.0.join("requests.jsonl");
    let [config, requests] = [&config, &requests].map(|path| path.to_str().unwrap());
    let elsewhere = Project::new("elsewhere");
    let report = elsewhere.json(&["--config", config, "replay", requests], 0);
    assert_eq!(report["signatures"][0]["name"], "synthesis_pairs");
    assert_eq!(elsewhere.json(&["--config", config, "check"], 0)["findings"], json!([]));
    elsewhere.write("docs/keep.md", "");
    elsewhere.succeed(&["--config", config, "docs", "-o", "docs"]);
    assert!(elsewhere.read("docs/signatures.md").contains("### own_example"));
    elsewhere.succeed(&["--config", config, "evaluate", requests]);
    elsewhere.write("request.json", project.read("requests.jsonl").lines().next().unwrap());
    let explained = elsewhere.json(&["--config", config, "explain", "request.json"], 0);
    let names: Vec<_> = explained["requests"][0].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2, "{explained}");
    let text = elsewhere.succeed(&["--config", config, "score", "request.json"]);
    assert!(text.contains("synthesis_pairs"), "{text}");
    let text = elsewhere.succeed(&["diff", config, config]);
    assert!(text.contains("no differences"), "{text}");
}

#[test]
fn findings_name_the_real_path_of_the_layer() {
    let project = small_project("paths");
    let ended = "[[exemption]]\nname = 'old'\nreason = 'r'\npath = '/a'\nuntil = 2020-01-31\n";
    project.write("ours/policy.toml", ended);
    let (text, _) = project.run(&["check"], 1);
    assert!(text.contains("ours/policy.toml:5:9: exemption 'old' has ended"), "{text}");
    project.write("ours/own/example.yml", "title: x\n");
    let (text, _) = project.run(&["check"], 1);
    assert!(text.contains("ours/own/example.yml:1:1: no description"), "{text}");
    let elsewhere = Project::new("paths_elsewhere");
    let config = project.0.join("hedgerow.toml");
    let (text, _) = elsewhere.run(&["--config", config.to_str().unwrap(), "check"], 1);
    let path = project.0.join("ours/own/example.yml");
    assert!(text.contains(&format!("{}:1:1: no description", path.display())), "{text}");
    let (text, _) = project.run(&["check", "vendor", "ours"], 1);
    assert!(text.contains("\nours/own/example.yml:1:1: no"), "{text}");
}

#[test]
fn an_update_shows_what_changes_before_it_is_written() {
    let project = small_project("update");
    let before = project.read("vendor/SHA256SUMS");
    let arguments = ["rules", "update", "--from", "next", "--replay", "requests.jsonl"];
    let dry_run = [&arguments[..], &["--dry-run"]].concat();
    let report = project.json(&dry_run, 0);
    assert_eq!(
        (&report["from"]["version"], &report["to"]["version"]),
        (&json!("1.0.0"), &json!("2.0.0"))
    );
    assert_eq!(report["diff"]["added"], json!(["synthesis_reports"]));
    assert_eq!(report["diff"]["removed"], json!(["synthesis_pairs"]));
    assert_eq!(report["diff"]["policy"][0]["path"], "bands.notice");
    assert_eq!(report["replay"]["requests"], 3);
    assert_eq!(report["replay"]["changed"], 2);
    assert_eq!(
        report["replay"]["hits"],
        json!({
            "synthesis_pairs": { "new": 0, "lost": 1 },
            "synthesis_reports": { "new": 1, "lost": 0 },
        })
    );
    assert_eq!(report["written"], false);
    assert_eq!(project.read("vendor/SHA256SUMS"), before, "a dry run writes nothing");

    let text = project.succeed(&arguments);
    assert!(text.contains("vendor: 1.0.0 (") && text.contains("→ 2.0.0 ("), "{text}");
    assert!(text.contains("+ synthesis_reports\n- synthesis_pairs\n"), "{text}");
    assert!(text.contains("2 of 3 decisions differ"), "{text}");
    assert!(project.read("vendor/VERSION").starts_with("2.0.0\n"));
    assert!(!project.0.join("vendor/synthesis/pairs.yml").exists());
    assert!(project.0.join("ours/own/example.yml").exists());
    let report = project.json(&["rules", "update", "--from", "next"], 0);
    assert_eq!((&report["current"], &report["written"]), (&json!(true), &json!(false)));
    // The way back is the same command.
    project.succeed(&["rules", "update", "--from", "shipped"]);
    assert_eq!(project.read("vendor/SHA256SUMS"), before);
}

#[test]
fn an_update_that_breaks_a_switch_is_not_written() {
    let project = small_project("switch");
    let policy =
        format!("{}\n[[signature]]\nid = '{ID}'\noff = true\n", project.read("ours/policy.toml"));
    project.write("ours/policy.toml", &policy);
    let report = project.json(&["replay", "requests.jsonl"], 0);
    assert_eq!(report["signatures"], json!([]), "the rule is off");
    let (text, _) = project.run(&["rules", "update", "--from", "next"], 1);
    let unknown = format!("unknown signature '{ID}'; correct the name or remove the entry");
    assert!(text.contains(&unknown) && text.contains("ours/policy.toml:"), "{text}");
    assert!(text.contains("nothing was written: the rules would have findings"), "{text}");
    assert!(text.contains("+ synthesis_reports\n- synthesis_pairs\n"), "the vendor's: {text}");
    assert!(project.read("vendor/VERSION").starts_with("1.0.0\n"));
    // Findings and edits are two risks: the switch for edits does not allow findings.
    let (text, _) = project.run(&["rules", "update", "--from", "next", "--discard-edits"], 1);
    assert!(text.contains("nothing was written") && text.contains("--allow-findings"), "{text}");
    let (text, _) = project.run(&["rules", "update", "--from", "next", "--allow-findings"], 1);
    assert!(text.contains("version 2.0.0; next: correct the findings, until"), "{text}");
    assert!(project.read("vendor/VERSION").starts_with("2.0.0\n"));
    let (text, _) = project.run(&["check"], 1);
    assert!(text.contains(&unknown), "{text}");
}

#[test]
fn an_edited_vendor_directory_is_not_replaced() {
    let project = small_project("edited");
    let rule = RULE.replace("level: critical", "level: low");
    project.write("vendor/synthesis/pairs.yml", &rule);
    project.write("vendor/notes.md", "x");
    let (text, _) = project.run(&["rules", "update", "--from", "next"], 1);
    assert!(text.contains("vendor/synthesis/pairs.yml: changed since it was written"), "{text}");
    assert!(text.contains("vendor/notes.md: added since it was written"), "{text}");
    assert!(text.contains("nothing was written: the vendor directory was edited"), "{text}");
    assert_eq!(project.read("vendor/synthesis/pairs.yml"), rule);
    project.run(&["rules", "update", "--from", "next", "--allow-findings"], 1);
    assert_eq!(project.read("vendor/synthesis/pairs.yml"), rule);
    let text = project.succeed(&["rules", "update", "--from", "next", "--discard-edits"]);
    assert!(text.contains("next: `hedgerow test`, then commit"), "{text}");
    assert!(!project.0.join("vendor/notes.md").exists());
}

#[test]
fn a_directory_without_checksums_shows_what_an_update_would_lose() {
    let project = small_project("no_checksums");
    project.write("vendor/.DS_Store", "x");
    let report = project.json(&["rules", "update", "--from", "next", "--dry-run"], 0);
    assert_eq!(report["edits"], json!([]), "file managers make hidden files");
    fs::remove_file(project.0.join("vendor/SHA256SUMS")).unwrap();
    project.write("vendor/notes.md", "x");
    let (text, _) = project.run(&["rules", "update", "--from", "next"], 1);
    for file in ["notes.md", "policy.toml", "synthesis/pairs.yml"] {
        assert!(text.contains(&format!("vendor/{file}: would be lost\n")), "{text}");
    }
    assert!(text.contains("nothing was written: the vendor directory has no SHA256SUMS"), "{text}");
    assert!(project.0.join("vendor/notes.md").exists());
    // Files that the new rules have in the same form are not lost.
    fs::remove_file(project.0.join("vendor/notes.md")).unwrap();
    project.succeed(&["rules", "update", "--from", "shipped"]);
    assert!(project.0.join("vendor/SHA256SUMS").exists());

    project.write("vendor/.git/HEAD", "ref: refs/heads/main\n");
    for option in ["--dry-run", "--discard-edits"] {
        let (_, error) = project.run(&["rules", "update", "--from", "next", option], 1);
        assert!(error.contains("vendor: a Git repository: expected a directory"), "{error}");
    }
    assert!(project.0.join("vendor/.git/HEAD").exists());
}

#[test]
fn a_dry_run_does_not_restore_an_interrupted_update() {
    let project = small_project("interrupted");
    let [vendor, old] = ["vendor", ".vendor.hedgerow-old"].map(|name| project.0.join(name));
    fs::rename(&vendor, &old).unwrap();
    let (_, error) = project.run(&["rules", "update", "--from", "next", "--dry-run"], 1);
    assert!(
        error.contains("its files are in") && error.contains(".vendor.hedgerow-old"),
        "{error}"
    );
    assert!(!vendor.exists() && old.exists());
    project.succeed(&["rules", "update", "--from", "next"]);
    assert!(project.read("vendor/VERSION").starts_with("2.0.0\n") && !old.exists());
}

/// Follows "Divide an existing directory" in docs/upgrade.md.
#[test]
fn a_divided_directory_has_the_content_digest_of_the_original() {
    let project = small_project("divided");
    let content = |project: &Project| {
        let report = project.json(&["diff", "shipped", "hedgerow.toml"], 0);
        (report["from_content"].clone(), report["to_content"].clone())
    };
    let (from, to) = content(&project);
    assert!(from.is_string() && from != to, "the template adds a rule and a cap");
    fs::remove_dir_all(project.0.join("ours/own")).unwrap();
    fs::remove_file(project.0.join("ours/families.toml")).unwrap();
    let policy = project.read("ours/policy.toml");
    project.write("ours/policy.toml", &policy.replace("[score.caps]\nown = 10.0\n", ""));
    let (from, to) = content(&project);
    assert_eq!(from, to);
}

#[test]
fn a_settings_file_in_a_diff_means_the_rules_next_to_it() {
    let project = small_project("default_rules");
    project.write("other/hedgerow.toml", "author = 'ana'\n");
    project.write("other/rules/pairs.yml", RULE);
    project.write("rules/reports.yml", &project.read("next/synthesis/reports.yml"));
    let report = project.json(&["diff", "rules", "other/hedgerow.toml"], 0);
    assert_eq!(report["diff"]["added"], json!(["synthesis_pairs"]), "{report}");
    assert_eq!(report["diff"]["removed"], json!(["synthesis_reports"]), "{report}");
}

#[test]
fn a_new_project_keeps_the_line_ends_of_the_vendor_in_git() {
    assert_eq!(small_project("attributes").read(".gitattributes"), "vendor/** -text\n");
    let rows = [
        ("*.png binary", "*.png binary\nvendor/** -text\n"),
        ("*.png binary\n", "*.png binary\nvendor/** -text\n"),
        ("vendor/** -text\n*.png binary\n", "vendor/** -text\n*.png binary\n"),
    ];
    for (before, after) in rows {
        let project = Project::new("attributes_of_a_repository");
        project.write("shipped/pairs.yml", RULE);
        project.write(".gitattributes", before);
        project.succeed(&["rules", "init", "--from", "shipped"]);
        assert_eq!(project.read(".gitattributes"), after, "{before}");
    }
}

#[test]
fn an_own_rule_replaces_and_weighs_rules_of_the_vendor() {
    let project = small_project("replace");
    let replacing = format!("custom_attributes:\n  hedgerow.replaces: {ID}\n");
    let rule = RULE.replace("custom_attributes:\n", &replacing).replace("critical", "low");
    project.write("ours/pairs.yml", &rule);
    let report = project.json(&["check"], 0);
    assert_eq!(
        report["overrides"],
        json!([{
            "path": "ours/pairs.yml", "line": 18, "column": 3,
            "change": "replaces vendor/synthesis/pairs.yml",
        }])
    );
    let text = project.succeed(&["check"]);
    let expected = "ours/pairs.yml:18:3: override: replaces vendor/synthesis/pairs.yml\n";
    assert!(text.starts_with(expected), "{text}");
    project.write("one.json", project.read("requests.jsonl").lines().next().unwrap());
    let explained = project.json(&["explain", "--signature", "synthesis_pairs", "one.json"], 0);
    assert_eq!(explained["requests"][0][0]["weight"], 3.0);
    // The update removes the replaced rule.
    let (text, _) = project.run(&["rules", "update", "--from", "next", "--dry-run"], 1);
    assert!(text.contains("ours/pairs.yml:18:3: the rule replaces nothing: no lower"), "{text}");
}

#[test]
fn only_layers_have_a_vendor_directory() {
    let project = Project::new("one_directory");
    project.write("rules/pairs.yml", RULE);
    let (_, error) = project.run(&["rules", "update"], 2);
    assert!(error.contains("one directory of rules, rules: expected layers, such as"), "{error}");
    project.write("hedgerow.toml", "rules = []\n");
    let (_, error) = project.run(&["check"], 2);
    assert!(error.contains("`rules` is empty: expected a directory, or layers"), "{error}");
    project.write("hedgerow.toml", "rules = 7\n");
    let (_, error) = project.run(&["check"], 2);
    let expected = "hedgerow.toml:1:9: expected the path of a directory, or a list of paths";
    assert!(error.contains(expected), "{error}");
}

/// The program contains the shipped rules. `npm test` runs this with the optimised binary, which
/// has them embedded.
#[test]
fn a_project_begins_with_the_shipped_rules() {
    let project = Project::new("shipped");
    let run = |arguments: &[&str]| {
        let output =
            fast_hedgerow_command().current_dir(&project.0).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["rules", "init"]);
    let shipped = hedgerow_sigma::read(&crate::from_root("rules")).unwrap();
    let vendor = hedgerow_sigma::read(&project.0.join("vendor")).unwrap();
    let content = |files: &[RuleFile]| -> Vec<(String, String)> {
        files.iter().map(|file| (file.path.clone(), file.text.clone())).collect()
    };
    assert!(content(&shipped) == content(&vendor), "the vendor directory has the shipped rules");
    assert!(project.read("vendor/VERSION").starts_with(env!("CARGO_PKG_VERSION")));
    assert!(run(&["check"]).ends_with("no findings\n"));
    let report: Value =
        serde_json::from_str(&run(&["--format", "json", "rules", "update"])).unwrap();
    assert_eq!(report["current"], true);
}
