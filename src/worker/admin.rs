//! `/_hedgerow/health` and `/_hedgerow/version`: the filter's own endpoints. They never reach the origin,
//! and what is wrong is told with its remedy.
//!
//! Anybody may ask. Health says what an operator must do; mode, ruleset and number of signatures only
//! in development. Version names the release, the ruleset's digest (so that a deployment can be
//! checked against `hedgerow build`; it tells nothing of the rules) and whether panics unwind.

use serde_json::{Value, json};
use web_sys::Response;

use crate::error::{Failure, json_response};
use crate::intake::Arrival;
use crate::rules;
use crate::settings::{Problem, Settings};

/// Whether `path` is the filter's own.
pub fn owns(path: &str) -> bool {
    path.strip_prefix("/_hedgerow").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers a request for one of them.
pub fn answer(arrival: &Arrival, settings: &Settings) -> Response {
    match (arrival.method(), arrival.path()) {
        ("GET" | "HEAD", "/_hedgerow/health") => health(arrival, settings),
        ("GET" | "HEAD", "/_hedgerow/version") => json_response(200, &version()),
        _ => Failure::NotFound.response(None, ""),
    }
}

/// 200, or 503 where requests are not forwarded or not scored: a monitor needs no more than that.
fn health(arrival: &Arrival, settings: &Settings) -> Response {
    let mut problems = settings.problems();
    let ruleset = rules::ruleset();
    if let Err(problem) = &ruleset {
        let what = format!(
            "the embedded ruleset does not load: {problem}; requests are forwarded unscored"
        );
        problems
            .push(Problem::new(what, "run `hedgerow check` and `npm run build`, and deploy again"));
    }
    let ruleset = ruleset.ok();
    let (status, word) = if problems.is_empty() { (200, "ok") } else { (503, "degraded") };
    let warnings = settings.warnings(arrival.header("cf-connecting-ip"));
    let report = match settings.development {
        false => json!({ "status": word, "problems": problems, "warnings": warnings }),
        true => json!({
            "status": word,
            "problems": problems,
            "warnings": warnings,
            "ruleset": ruleset.map(hedgerow::Ruleset::digest),
            "signatures": ruleset.map(|ruleset| ruleset.signatures().len()),
            "mode": ruleset.map(|ruleset| ruleset.policy().mode.name()),
        }),
    };
    json_response(status, &report)
}

fn version() -> Value {
    let ruleset = rules::ruleset().ok();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ruleset": ruleset.map(hedgerow::Ruleset::digest),
        // Without it one panic fails every request that the isolate has in flight.
        "panic_unwind": cfg!(panic = "unwind"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_paths() {
        let rows = [
            ("/_hedgerow", true),
            ("/_hedgerow/", true),
            ("/_hedgerow/health", true),
            ("/_hedgerows", false),
            ("/v1/_hedgerow/health", false),
            ("/", false),
        ];
        for (path, expected) in rows {
            assert_eq!(owns(path), expected, "{path}");
        }
    }
}
