//! `npm run bench` runs this beside the native phases: it reads `rules/` and `<text>-<bytes>.json` from
//! `HEDGEROW_BENCH_DIR` and prints a row of JSON a body. Its events hold the text of all messages under the field that
//! the signatures name, so that it has nothing to extract.

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fs};

use rsigma_eval::{Engine, JsonEvent};
use rsigma_parser::parse_sigma_yaml;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::var("HEDGEROW_BENCH_DIR")?);
    let mut engine = Engine::new();
    for file in fs::read_dir(directory.join("rules/synthesis"))? {
        let rule = fs::read_to_string(file?.path())?;
        engine.add_collection(&parse_sigma_yaml(&rule)?)?;
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)?
        .map(|file| Ok(file?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    for path in paths {
        let Some((text, bytes)) = named(&path) else { continue };
        let event =
            json!({ "gen_ai.input.messages": texts(&serde_json::from_slice(&fs::read(&path)?)?) });
        let event = JsonEvent::borrow(&event);
        let hits = engine.evaluate(&event).len();
        let us = median(&|| {
            black_box(engine.evaluate(black_box(&event)));
        });
        println!(
            "{}",
            json!({ "text": text, "bytes": bytes, "rules": engine.rule_count(), "hits": hits, "us": us })
        );
    }
    Ok(())
}

fn named(path: &Path) -> Option<(String, usize)> {
    let (text, bytes) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    Some((text.to_owned(), bytes.parse().ok()?))
}

fn texts(body: &Value) -> Vec<&str> {
    let messages = body["messages"].as_array();
    messages.into_iter().flatten().filter_map(|message| message["content"].as_str()).collect()
}

/// Microseconds a run: the median of nine rounds of at least 20 ms each.
fn median(run: &dyn Fn()) -> f64 {
    let mut times = 1_u32;
    let timed = |times: u32| {
        let start = Instant::now();
        (0..times).for_each(|_| run());
        start.elapsed().as_secs_f64() * 1e6
    };
    while timed(times) < 20_000.0 && times < 1 << 24 {
        times *= 2;
    }
    let mut rounds: Vec<f64> = (0..9).map(|_| timed(times) / f64::from(times)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
