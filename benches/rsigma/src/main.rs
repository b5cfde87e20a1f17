//! Measures rsigma in a native build, for `npm run bench`. Reads `rules/500/` and
//! `<text>-<bytes>.json` from `HEDGEROW_BENCH_DIR`, and prints one JSON object per body. An event
//! contains the text of all messages in the field that the signatures name, so the time of rsigma
//! does not include extraction.

#[path = "../../timing/mod.rs"]
mod timing;

use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::{env, fs};

use rsigma_eval::{Engine, JsonEvent};
use rsigma_parser::parse_sigma_yaml;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = PathBuf::from(env::var("HEDGEROW_BENCH_DIR")?);
    let mut engine = Engine::new();
    for file in fs::read_dir(directory.join("rules/500/synthesis"))? {
        let rule = fs::read_to_string(file?.path())?;
        engine.add_collection(&parse_sigma_yaml(&rule)?)?;
    }
    let mut paths: Vec<PathBuf> = fs::read_dir(&directory)?
        .map(|file| Ok(file?.path()))
        .collect::<Result<_, std::io::Error>>()?;
    paths.sort();
    for path in paths {
        let Some((text, bytes)) = parse_name(&path) else { continue };
        let body: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let event = json!({ "gen_ai.input.messages": message_texts(&body) });
        let event = JsonEvent::borrow(&event);
        let hits = engine.evaluate(&event).len();
        let us = timing::median(&|times| {
            (0..times)
                .map(|_| black_box(engine.evaluate(black_box(&event))).len() as u32)
                .fold(0, u32::wrapping_add)
        });
        let rules = engine.rule_count();
        println!(
            "{}",
            json!({ "text": text, "bytes": bytes, "rules": rules, "hits": hits, "us": us })
        );
    }
    Ok(())
}

fn parse_name(path: &Path) -> Option<(String, usize)> {
    let (text, bytes) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    Some((text.to_owned(), bytes.parse().ok()?))
}

fn message_texts(body: &Value) -> Vec<&str> {
    let messages = body["messages"].as_array();
    messages.into_iter().flatten().filter_map(|message| message["content"].as_str()).collect()
}
