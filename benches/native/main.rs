//! Measures the phases of a request in a native build, for `npm run bench`. Reads `bundle.json`,
//! `shipped.json`, `<text>-<bytes>.json` and the expensive bodies that `worst.json` lists from
//! `HEDGEROW_BENCH_DIR`, and prints one JSON object per line.
//!
//! `bench-native search <bundle> <seconds>` searches for expensive bodies instead.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, prints, and may panic"
)]

mod search;
#[path = "../timing/mod.rs"]
mod timing;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hedgerow_bench::PhaseBench;
use serde_json::{Value, json};
use timing::median;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, bundle, seconds] = arguments.as_slice()
        && command == "search"
    {
        let bundle = fs::read(bundle).expect("the bundle is readable");
        return search::search(&bundle, seconds.parse().expect("the seconds are a number"));
    }
    let directory = std::env::var("HEDGEROW_BENCH_DIR")
        .expect("HEDGEROW_BENCH_DIR is not set: run `npm run bench`");
    let directory = PathBuf::from(directory);
    let bundle = fs::read(directory.join("bundle.json")).expect("bundle.json is readable");
    let ruleset = hedgerow_core::Ruleset::load(&bundle).expect("bundle.json is valid");
    let literals = ruleset.program().literal_count();
    let mut bench = PhaseBench::new(&bundle).expect("bundle.json is valid");
    let mut rows: Vec<Value> = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("HEDGEROW_BENCH_DIR is a directory")
        .map(|entry| entry.expect("the directory is readable").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some((text, bytes)) = name.rsplit_once('-') else { continue };
        let Ok(bytes) = bytes.parse::<usize>() else { continue };
        bench.load_body(&fs::read(&path).expect("the body is readable"));
        let phases: [(&str, &dyn Fn(u32) -> u32); 5] = [
            ("extract", &|times| bench.extract(times)),
            ("match", &|times| bench.matching(times)),
            ("sketch", &|times| bench.hash_text(times)),
            ("score", &|times| bench.score(times)),
            ("total", &|times| bench.run_all(times)),
        ];
        for (phase, run) in phases {
            let hits = (phase == "match").then(|| run(1));
            rows.push(json!({
                "phase": phase,
                "bytes": bytes,
                "text": text,
                "literals": literals,
                "us": median(run),
                "hits": hits,
            }));
        }
    }
    for row in rows {
        println!("{row}");
    }
    let shipped = fs::read(directory.join("shipped.json")).expect("shipped.json is readable");
    for row in measure_worst(&directory, &shipped) {
        println!("{row}");
    }
    println!("{}", measure_flood(&shipped));
}

/// Measures scoring of the expensive bodies by the shipped rules. The files contain only the bytes
/// within the scan window.
fn measure_worst(directory: &Path, bundle: &[u8]) -> Vec<Value> {
    let bench = PhaseBench::new(bundle).expect("shipped.json is valid");
    let list = fs::read(directory.join("worst.json")).expect("worst.json is readable");
    let list: Vec<(String, String)> = serde_json::from_slice(&list).expect("worst.json is a list");
    let rows = list.into_iter().map(|(text, file)| {
        let body = fs::read(directory.join(file)).expect("the body is readable");
        let run =
            |times: u32| (0..times).fold(0, |sum: u32, _| sum.wrapping_add(bench.decide(&body)));
        json!({ "phase": "worst", "text": text, "us": median(&run) })
    });
    rows.collect()
}

/// Floods a correlator, which has the default memory of a shard, with ten million template keys.
/// Returns its peak memory, time and accuracy as a JSON row.
fn measure_flood(bundle: &[u8]) -> Value {
    let policy =
        hedgerow_core::Ruleset::load(bundle).expect("shipped.json is valid").policy().correlate;
    let (keys, start) = (10_000_000, Instant::now());
    let flood =
        hedgerow_bench::run_key_flood(bundle, keys, policy.memory).expect("shipped.json is valid");
    let us = start.elapsed().as_secs_f64() * 1e6 / f64::from(flood.requests);
    json!({
        "phase": "flood",
        "keys": keys,
        "limit": policy.memory,
        "bytes": flood.max_bytes,
        "requests": flood.requests,
        "shared": flood.shared_templates,
        "found": flood.detected_templates,
        "error": flood.max_count_error,
        "us": us,
    })
}
