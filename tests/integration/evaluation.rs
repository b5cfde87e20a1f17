//! `hedgerow evaluate` and `hedgerow calibrate`, on the corpus that is generated from
//! tests/fixtures/corpus.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use serde_json::{Value, json};

use crate::hedgerow_command;
use crate::support::corpus::{self, Kind};

/// The generated corpus: its kinds, and the directory of its files, which are written once for all
/// tests.
struct Fixture {
    kinds: Vec<Kind>,
    directory: PathBuf,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("corpus");
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap();
    let kinds = corpus::kinds();
    for label in ["harvest", "benign"] {
        let labelled = kinds.iter().filter(|kind| kind.label == label);
        let lines: Vec<String> =
            labelled.flat_map(corpus::requests).map(|request| request.to_string()).collect();
        fs::write(directory.join(format!("{label}.jsonl")), lines.join("\n") + "\n").unwrap();
    }
    Fixture { kinds, directory }
});

fn run(arguments: &[&str]) -> Value {
    let mut command = hedgerow_command();
    command.args(["--format", "json"]).args(arguments).arg(&FIXTURE.directory);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The report of `evaluate`. It is computed once, because `evaluate` takes some seconds.
static REPORT: LazyLock<Value> = LazyLock::new(|| run(&["evaluate"]));

#[test]
fn the_corpus_has_many_kinds_and_languages_and_is_always_the_same() {
    let kinds = &FIXTURE.kinds;
    let requests: Vec<Value> = kinds.iter().flat_map(corpus::requests).collect();
    assert!(requests.len() >= 1_500, "{} requests", requests.len());
    let count = |holds: &dyn Fn(&Kind) -> bool| kinds.iter().filter(|kind| holds(kind)).count();
    assert!(count(&|kind| kind.label == "harvest") >= 30);
    assert!(count(&|kind| kind.label == "benign") >= 30);
    let look_alikes = count(&|kind| kind.look_alike && kind.label == "benign");
    assert!(look_alikes >= 15, "{look_alikes}");
    let languages: BTreeSet<&str> = kinds.iter().map(|kind| kind.language.as_str()).collect();
    assert!(languages.len() >= 12, "{languages:?}");
    let names: BTreeSet<String> =
        kinds.iter().map(|kind| format!("{}__{}", kind.tool, kind.task)).collect();
    assert_eq!(names.len(), kinds.len(), "each kind has a name of its own");
    assert_eq!(requests, kinds.iter().flat_map(corpus::requests).collect::<Vec<Value>>());
    let text: String = requests.iter().map(|request| request["body"].as_str().unwrap()).collect();
    for slot in ["{topic", "{question", "{passage", "{name", "{item", "{answer", "{code", "{n}"] {
        assert!(!text.contains(slot), "{slot} is not filled");
    }
    assert!(text.len() < 1_500_000, "{} bytes", text.len());
}

/// Checks the detection rates against the current values. Raise the lower bound of a row when rules
/// improve, and never lower it.
#[test]
fn figures_on_the_generated_corpus_do_not_get_worse() {
    // Section, label, figure, minimum and maximum in percent.
    let rows: [(&str, &str, &str, f64, f64); 9] = [
        ("alone", "harvest", "suspect", 66.0, 100.0),
        ("alone", "harvest", "notice", 87.0, 100.0),
        ("alone", "harvest", "runs_suspect", 75.0, 100.0),
        ("alone", "benign", "suspect", 0.0, 0.0),
        ("alone", "benign", "notice", 0.0, 0.0),
        ("correlated", "harvest", "suspect", 73.0, 100.0),
        ("correlated", "harvest", "notice", 90.0, 100.0),
        ("correlated", "benign", "suspect", 0.0, 0.0),
        ("correlated", "benign", "notice", 0.0, 0.0),
    ];
    let mut broken = Vec::new();
    for (section, label, figure, at_least, at_most) in rows {
        let share = 100.0 * label_figure(section, label)[figure]["share"].as_f64().unwrap();
        println!("{section} {label} {figure}: {share:.2} %");
        if share < at_least || share > at_most {
            broken.push(format!("{section} {label} {figure}: {share:.2} %"));
        }
    }
    assert!(broken.is_empty(), "{broken:?}");
}

fn label_figure(section: &str, label: &str) -> &'static Value {
    let labels = REPORT[section]["labels"].as_array().unwrap();
    labels.iter().find(|group| group["label"] == label).unwrap()
}

/// The totals of all tables of the report agree.
#[test]
fn the_tables_of_a_report_agree() {
    let requests: u64 = REPORT["requests"].as_u64().unwrap();
    for section in ["alone", "correlated"] {
        let sum = |table: &str, figure: &str| -> u64 {
            let rows = REPORT[section][table].as_array().unwrap().iter();
            rows.map(|row| match &row[figure] {
                Value::Object(rate) => rate["count"].as_u64().unwrap(),
                count => count.as_u64().unwrap(),
            })
            .sum()
        };
        for table in ["labels", "languages", "dialects", "runs"] {
            assert_eq!(sum(table, "requests"), requests, "{section} {table}");
            for band in ["notice", "suspect", "hostile"] {
                assert_eq!(sum(table, band), sum("labels", band), "{section} {table} {band}");
            }
        }
        let runs = REPORT[section]["runs"].as_array().unwrap();
        assert_eq!(runs.len(), FIXTURE.kinds.len(), "one run for each kind");
        for curve in REPORT[section]["curves"].as_array().unwrap() {
            let rates = |name: &str| -> Vec<f64> {
                let points = curve["points"].as_array().unwrap().iter();
                points.map(|point| point[name].as_f64().unwrap()).collect()
            };
            for name in ["true_positive_rate", "false_positive_rate"] {
                assert!(rates(name).is_sorted_by(|a, b| a >= b), "{curve}");
            }
            let auc = curve["auc"].as_f64().unwrap();
            assert!((0.5..=1.0).contains(&auc), "harvests score higher: {auc}");
        }
        let suspect = label_figure(section, "harvest")["suspect"]["share"].as_f64().unwrap();
        let points = &REPORT[section]["curves"][0]["points"];
        let at_suspect = points.as_array().unwrap().iter().find(|row| row["threshold"] == 50.0);
        assert!(
            (at_suspect.unwrap()["true_positive_rate"].as_f64().unwrap() - suspect).abs() < 1e-9
        );
    }
    let languages = REPORT["alone"]["languages"].as_array().unwrap();
    for language in ["English", "Mandarin", "Japanese", "Korean", "Russian", "German"] {
        assert!(languages.iter().any(|group| group["name"] == language), "{language}");
    }
    assert_eq!(REPORT["disguises"], Value::Null);
}

/// Every row about a disguise covers the same requests. The first row covers the requests without a
/// disguise.
#[test]
fn disguises_are_measured_on_the_same_requests() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluation-disguises");
    fs::create_dir_all(&directory).unwrap();
    let lines: Vec<String> =
        FIXTURE.kinds[..4].iter().flat_map(corpus::requests).map(|line| line.to_string()).collect();
    fs::write(directory.join("few.jsonl"), lines.join("\n")).unwrap();
    let mut command = hedgerow_command();
    command.args(["--format", "json", "evaluate", "--disguises", "--no-correlate"]);
    let output = command.arg(&directory).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = report["disguises"].as_array().unwrap();
    assert!(rows.len() >= 15, "{}", rows.len());
    assert!(rows.iter().all(|row| row["requests"] == lines.len()), "{rows:?}");
    let plain = &report["alone"]["labels"][0];
    assert_eq!(rows[0]["name"], "none");
    for band in ["notice", "suspect"] {
        assert_eq!(rows[0][band], plain[band]["count"], "{band}");
    }
    assert!(rows[0]["suspect"].as_u64().unwrap() > 0, "{rows:?}");
}

#[test]
fn the_verdicts_of_evaluate_are_those_of_replay() {
    for (section, options) in [("alone", &["--no-correlate"][..]), ("correlated", &[])] {
        let mut command = hedgerow_command();
        command.args(["--format", "json", "replay"]).args(options);
        // Passes the files sorted by name, because requests with equal times are replayed in the
        // order of the files.
        command.args(
            ["benign", "harvest"].map(|label| FIXTURE.directory.join(format!("{label}.jsonl"))),
        );
        let output = command.output().unwrap();
        let replayed: Value = serde_json::from_slice(&output.stdout).unwrap();
        for label in ["harvest", "benign"] {
            let evaluated = label_figure(section, label);
            for band in ["notice", "suspect", "hostile"] {
                let expected = &replayed["labels"][label][band];
                assert_eq!(&evaluated[band]["count"], expected, "{section} {label} {band}");
            }
        }
    }
}

#[test]
fn a_page_keeps_the_text_around_its_markers() {
    let page = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluation-page.md");
    let _ = fs::remove_file(&page);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("evaluation-small");
    fs::create_dir_all(&directory).unwrap();
    let few: Vec<String> =
        corpus::requests(&FIXTURE.kinds[0]).iter().map(Value::to_string).collect();
    fs::write(directory.join("few.jsonl"), few.join("\n")).unwrap();
    let write = || {
        let mut command = hedgerow_command();
        command.args(["evaluate", "-o"]).arg(&page).arg(directory.join("*.jsonl"));
        command.output().unwrap()
    };
    assert!(write().status.success());
    let first = fs::read_to_string(&page).unwrap();
    assert!(
        first.contains("## Detection of single requests") && first.contains("## Runs"),
        "{first}"
    );
    fs::write(&page, first.replace("# Evaluation\n", "# Evaluation\n\nBy hand.\n")).unwrap();
    assert!(write().status.success());
    let second = fs::read_to_string(&page).unwrap();
    assert_eq!(second, first.replace("# Evaluation\n", "# Evaluation\n\nBy hand.\n"));
    fs::write(&page, "Only by hand.\n").unwrap();
    let refused = write();
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(fs::read_to_string(&page).unwrap(), "Only by hand.\n");
}

#[test]
fn a_path_without_recordings_is_an_error() {
    for path in ["tests/nowhere", "tests/nowhere/*.jsonl", "tests/scripts"] {
        let output = hedgerow_command().args(["evaluate", path]).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("contains no recordings"), "{message}");
    }
}

#[test]
fn calibration_is_repeatable_and_complete() {
    let report = run(&["calibrate"]);
    assert_eq!(report, run(&["calibrate"]), "one seed makes one report");
    let rows = |name: &str| report[name].as_array().unwrap();
    assert!(rows("signatures").len() >= 20, "{}", rows("signatures").len());
    for row in rows("signatures") {
        let number = |value: &Value| value.as_f64().unwrap();
        let estimate = &row["estimate"];
        let (low, high) = (number(&estimate["low"]), number(&estimate["high"]));
        let mean = number(&estimate["mean"]);
        assert!(low <= mean && mean <= high, "{row}");
        let (written, proposed) = (number(&row["written"]), number(&row["proposed"]));
        assert_eq!(written < 0.0, proposed < 0.0, "{row}");
        assert!(!(14.5..22.0).contains(&proposed) || proposed == written, "{row}");
    }
    let rates: Vec<&str> =
        rows("rates").iter().map(|row| row["weights"].as_str().unwrap()).collect();
    assert_eq!(rates, ["written", "fitted", "left out"]);
    let shares = |name: &str| -> f64 {
        rows("reliability").iter().map(|bin| bin[name].as_f64().unwrap()).sum()
    };
    assert!((shares("harvest_share") - 1.0).abs() < 1e-6);
    assert!((shares("other_share") - 1.0).abs() < 1e-6);
}

/// Calibration sets the weight of a signature to 0 if the signature hits ordinary traffic as often
/// as harvests, independently of its written weight. A signature that hits only harvests keeps its
/// weight.
#[test]
fn calibration_lowers_the_weight_of_ordinary_wording_and_writes_it() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("calibration");
    let _ = fs::remove_dir_all(&directory);
    let rules = directory.join("rules");
    fs::create_dir_all(rules.join("synthesis")).unwrap();
    let attributes = "custom_attributes:\n";
    let rule = include_str!("../fixtures/pairs.yml")
        .replace(attributes, &format!("{attributes}  hedgerow.weight: 22\n"));
    let path = rules.join("synthesis/pairs.yml");
    fs::write(&path, &rule).unwrap();
    let line = |label: &str, tool: usize, hits: bool| {
        let text = if hits { MATCHING } else { "When does the market open?" };
        let body = json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
        let tool = format!("{label}-{tool}");
        json!({ "path": "/v1/chat/completions", "body": body, "label": label, "tool": tool })
            .to_string()
    };
    let corpus = |benign_hits: bool| -> String {
        let tools = (0..12)
            .flat_map(|tool| [line("harvest", tool, true), line("benign", tool, benign_hits)]);
        tools.collect::<Vec<String>>().join("\n")
    };
    let bundle = directory.join("bundle.json");
    let mut build = hedgerow_command();
    let built = build.arg("build").arg(&rules).arg("-o").arg(&bundle).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stdout));
    let calibrate = |benign_hits: bool| -> Value {
        let recording = directory.join("recording.jsonl");
        fs::write(&recording, corpus(benign_hits)).unwrap();
        let mut command = hedgerow_command();
        command.args(["--format", "json", "calibrate", "--write"]).arg(&rules);
        command.arg("--ruleset").arg(&bundle).arg(&recording);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["signatures"][0].clone()
    };
    let distinct = calibrate(false);
    assert_eq!(distinct["proposed"], distinct["written"], "{distinct}");
    assert_eq!(fs::read_to_string(&path).unwrap(), rule, "an equal weight is not written");
    let ordinary = calibrate(true);
    let proposed = ordinary["proposed"].as_f64().unwrap();
    assert!(proposed < ordinary["written"].as_f64().unwrap() / 2.0, "{ordinary}");
    let written = fs::read_to_string(&path).unwrap();
    assert!(written.contains(&format!("hedgerow.weight: {proposed}")), "{written}");
    let other_lines = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("hedgerow.weight"));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(other_lines(&written), other_lines(&rule));
}

/// Text that the rule of tests/fixtures/pairs.yml matches.
const MATCHING: &str = "Write ten question-answer pairs to train on.";
