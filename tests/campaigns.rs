//! Correlation over recorded traffic: the promises of docs/evaluation.md, where the traffic is at hand.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on should stop"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Recorded files, by label; none where there are none.
fn recorded() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for label in fs::read_dir("../shared/corpus/dev").into_iter().flatten() {
        let label = label.unwrap().path();
        files.extend(fs::read_dir(label).unwrap().map(|file| file.unwrap().path()));
    }
    files.sort();
    files
}

fn replay(files: &[PathBuf]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hedgerow"));
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
        println!("skipped: no recorded traffic at ../shared/corpus/dev");
        return;
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
