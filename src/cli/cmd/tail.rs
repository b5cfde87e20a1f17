//! `hedgerow tail`: follows the decisions of a deployment.

use std::collections::HashMap;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use super::decisions::{DecisionFilters, fetch, parse_decision, print_heading, print_row};
use crate::config::{Config, TargetArgs};
use crate::error::{Error, Outcome, Result};
use crate::remote::AdminClient;
use crate::terminal::{Format, print_error, print_json};

#[derive(clap::Args)]
pub struct TailArgs {
    #[command(flatten)]
    filters: DecisionFilters,
    /// First print the last N decisions.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(0..=500)
    )]
    lines: u32,
    /// End after N decisions. Default: follow until the command is interrupted.
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// Ask the deployment for new decisions each N seconds.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=60)
    )]
    interval: u64,
    #[command(flatten)]
    target: TargetArgs,
}

/// Time, in milliseconds, by which a decision can arrive later than one that was made after it:
/// isolates report at most every 20 seconds, and repeat a report that failed.
const MAX_DELAY_MS: f64 = 120_000.0;

/// Maximum number of decisions of one poll. The ledger samples fewer in the time between two polls.
const MAX_DECISIONS: usize = 2_000;

/// Number of failed polls in a row after which the command gives up.
const MAX_FAILURES: u32 = 30;

/// Runs `hedgerow tail`.
pub fn run(args: &TailArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow tail`")?;
    let mut seen = Seen::default();
    let mut printed = 0;
    let first = poll(&client, args, &mut seen)?;
    if format == Format::Text {
        print_heading()?;
    }
    let older = first.len().saturating_sub(args.lines as usize);
    let mut decisions: Vec<Value> = first.into_iter().skip(older).collect();
    loop {
        for decision in decisions {
            if args.count.is_some_and(|count| printed >= count) {
                return Ok(Outcome::Success);
            }
            print(decision, format)?;
            printed += 1;
        }
        if args.count.is_some_and(|count| printed >= count) {
            return Ok(Outcome::Success);
        }
        decisions = wait_for_more(&client, args, &mut seen)?;
    }
}

/// Waits, and returns the new decisions. Repeats a failed poll, and reports only the first of
/// several failures in a row.
///
/// # Errors
/// If [`MAX_FAILURES`] polls in a row fail, or if the deployment rejects the filters.
fn wait_for_more(client: &AdminClient, args: &TailArgs, seen: &mut Seen) -> Result<Vec<Value>> {
    let mut failures = 0;
    loop {
        sleep(Duration::from_secs(args.interval));
        match poll(client, args, seen) {
            Err(Error::Io(problem)) if failures < MAX_FAILURES => {
                if failures == 0 {
                    print_error(&format!("{problem} (asking again each {} s)", args.interval));
                }
                failures += 1;
            }
            result => return result,
        }
    }
}

/// Returns the decisions that are not seen yet, the oldest first.
fn poll(client: &AdminClient, args: &TailArgs, seen: &mut Seen) -> Result<Vec<Value>> {
    let list = fetch(client, &args.filters, seen.since(), MAX_DECISIONS)?;
    Ok(seen.take_new(list.decisions))
}

fn print(decision: Value, format: Format) -> Result<()> {
    match format {
        Format::Json => print_json(&decision),
        Format::Text => print_row(&parse_decision(decision)?),
    }
}

/// The decisions that were returned by earlier polls and may be returned again.
#[derive(Default)]
struct Seen {
    /// Time of each decision in milliseconds since the epoch, by request id.
    times: HashMap<String, f64>,
    /// Time of the newest decision; `None` before the first one.
    newest: Option<f64>,
}

impl Seen {
    /// Returns the time from which decisions may be missing, in milliseconds since the epoch.
    fn since(&self) -> Option<u64> {
        self.newest.map(|newest| (newest - MAX_DELAY_MS).max(0.0) as u64)
    }

    /// Removes the decisions that were seen already, and returns the others, the oldest first.
    fn take_new(&mut self, decisions: Vec<Value>) -> Vec<Value> {
        let mut new: Vec<(f64, Value)> = Vec::new();
        for decision in decisions {
            let id = decision.get("request_id").and_then(Value::as_str).unwrap_or_default();
            let at = decision.get("at").and_then(Value::as_f64).unwrap_or_default();
            self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
            if self.times.insert(id.to_owned(), at).is_none() {
                new.push((at, decision));
            }
        }
        let since = self.since().unwrap_or_default() as f64;
        self.times.retain(|_, at| *at >= since);
        new.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        new.into_iter().map(|(_, decision)| decision).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn decisions(rows: &[(&str, u64)]) -> Vec<Value> {
        rows.iter().map(|(id, at)| json!({ "request_id": id, "at": at })).collect()
    }

    fn ids(decisions: &[Value]) -> Vec<&str> {
        decisions.iter().filter_map(|decision| decision.get("request_id")?.as_str()).collect()
    }

    #[test]
    fn each_decision_is_returned_once_and_the_oldest_first() {
        let mut seen = Seen::default();
        assert_eq!(seen.since(), None);
        let polls: [(&[(&str, u64)], &[&str]); 4] = [
            (&[("b", 500_000), ("a", 400_000)], &["a", "b"]),
            (&[("b", 500_000)], &[]),
            // The report of another isolate arrives late.
            (&[("d", 600_000), ("b", 500_000), ("c", 490_000)], &["c", "d"]),
            (&[("d", 600_000), ("c", 490_000)], &[]),
        ];
        for (answer, expected) in polls {
            assert_eq!(ids(&seen.take_new(decisions(answer))), expected);
        }
        assert_eq!(seen.since(), Some(480_000));
    }

    #[test]
    fn decisions_that_cannot_be_returned_again_are_forgotten() {
        let mut seen = Seen::default();
        seen.take_new(decisions(&[("a", 1_000)]));
        seen.take_new(decisions(&[("b", 1_000_000)]));
        assert_eq!(seen.times.keys().collect::<Vec<_>>(), ["b"]);
    }
}
