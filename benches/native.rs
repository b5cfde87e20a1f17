//! The phases of one request, natively. `npm run bench` runs this beside Wasm and the JavaScript
//! peer: `cargo bench --bench native -- --json` reads `bundle.json` and `<text>-<bytes>.json` from
//! `HEDGEROW_BENCH_DIR` and prints a row of JSON a line.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark has a clock and prints"
)]

mod timing;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use hedgerow::bench::Bench;
use serde_json::{Value, json};
use timing::median;

fn main() {
    let Ok(directory) = std::env::var("HEDGEROW_BENCH_DIR") else {
        return;
    };
    let directory = PathBuf::from(directory);
    let bundle = fs::read(directory.join("bundle.json")).expect("the benchmark's bundle");
    let literals = hedgerow::Ruleset::load(&bundle).expect("a bundle").program().literals();
    let mut bench = Bench::new(&bundle).expect("a bundle");
    let mut rows: Vec<Value> = Vec::new();
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some((text, bytes)) = name.rsplit_once('-') else { continue };
        let Ok(bytes) = bytes.parse::<usize>() else { continue };
        bench.load(&fs::read(&path).expect("a body"));
        let phases: [(&str, &dyn Fn(u32) -> u32); 5] = [
            ("extract", &|times| bench.extract(times)),
            ("match", &|times| bench.matching(times)),
            ("sketch", &|times| bench.sketch(times)),
            ("score", &|times| bench.score(times)),
            ("whole", &|times| bench.whole(times)),
        ];
        for (phase, run) in phases {
            let hits = (phase == "match").then(|| run(1));
            rows.push(json!({ "phase": phase, "bytes": bytes, "text": text, "literals": literals, "us": median(run), "hits": hits }));
        }
    }
    for row in rows {
        println!("{row}");
    }
    println!("{}", flood(&fs::read(directory.join("shipped.json")).expect("the shipped bundle")));
}

/// Ten million template keys, in the memory that a shard has by default.
fn flood(bundle: &[u8]) -> Value {
    let policy = hedgerow::Ruleset::load(bundle).expect("a bundle").policy().correlate;
    let (keys, start) = (10_000_000, Instant::now());
    let flood = hedgerow::bench::flood(bundle, keys, policy.memory).expect("a bundle");
    let us = start.elapsed().as_secs_f64() * 1e6 / f64::from(flood.requests);
    json!({
        "phase": "flood", "keys": keys, "limit": policy.memory, "bytes": flood.bytes, "requests": flood.requests,
        "shared": flood.shared, "found": flood.found, "error": flood.error, "us": us,
    })
}
