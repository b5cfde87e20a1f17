//! Measures the phases of a request natively, for `npm run bench`. Reads `bundle.json`,
//! `shipped.json` and `<text>-<bytes>.json` from `HEDGEROW_BENCH_DIR`, and prints one JSON object
//! per line.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark reads the clock, prints, and may panic"
)]

#[path = "../timing/mod.rs"]
mod timing;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use hedgerow_bench::PhaseBench;
use serde_json::{Value, json};
use timing::median;

fn main() {
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
            ("sketch", &|times| bench.sketch(times)),
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
    println!("{}", measure_flood(&shipped));
}

/// Floods a correlator with ten million template keys, in the default memory of a shard.
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
