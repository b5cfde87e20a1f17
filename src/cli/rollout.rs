//! `--wait`: until a release has arrived where the traffic is.

use std::io::IsTerminal;
use std::thread::sleep;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cmd::status::DeploymentStatus;
use crate::remote::ReleaseStore;
use crate::{Error, Format, Result, now, print_error, print_line};

/// What waiting came to.
#[derive(Debug, Serialize)]
pub struct RolloutResult {
    pub done: bool,
    /// Percent of the last minute's traffic that has the release.
    pub percent: f64,
    /// Why it was given up.
    pub reason: Option<String>,
}

/// Asks the deployment for its status.
fn deployment_status(store: &dyn ReleaseStore) -> Result<DeploymentStatus> {
    let status = store.status()?;
    serde_json::from_value(status).map_err(|error| {
        Error::Io(format!("GET /status: the answer cannot be read: {error}; update Hedgerow"))
    })
}

/// Waits until 95 % of the last minute's traffic has the release, so many seconds at most.
pub fn wait_for_rollout(
    store: &dyn ReleaseStore,
    serial: u64,
    timeout_seconds: u64,
    format: Format,
) -> Result<RolloutResult> {
    let mut progress = RolloutProgress::new(serial, format);
    let deadline = now().saturating_add(timeout_seconds);
    loop {
        // The release is published: trouble in asking is no reason to say nothing of that.
        let (percent, reason, is_superseded) = match deployment_status(store) {
            Ok(status) => {
                let percent = status.rollout_percent(serial);
                let is_superseded = status.newest_serial() > serial;
                (percent, pending_reason(&status, serial, percent), is_superseded)
            }
            Err(Error::Io(problem)) => (0.0, Some(problem), false),
            Err(error) => return Err(error),
        };
        progress.update(percent, reason.as_deref())?;
        if reason.is_none() {
            progress.finish();
            return Ok(RolloutResult { done: true, percent, reason });
        }
        let reason_text = reason.as_deref().unwrap_or_default();
        if is_superseded {
            progress.finish();
            print_error(&format!("release {serial} is not in force any more: {reason_text}"));
            return Ok(RolloutResult { done: false, percent, reason });
        }
        let remaining = deadline.saturating_sub(now());
        if remaining == 0 {
            progress.finish();
            print_error(&format!(
                "release {serial} has not arrived within {timeout_seconds} s: {reason_text}; it is in force as soon \
                 as the edge has it: see `hedgerow status --watch`"
            ));
            return Ok(RolloutResult { done: false, percent, reason });
        }
        sleep(POLL_INTERVAL.min(Duration::from_secs(remaining)));
    }
}

/// Why a release has not arrived, as far as can be seen; `None` where it has.
fn pending_reason(status: &DeploymentStatus, serial: u64, percent: f64) -> Option<String> {
    let traffic = &status.traffic;
    if status.newest_serial() > serial {
        return Some(format!("release {} was published after it", status.newest_serial()));
    }
    if traffic.requests > 0 && percent >= TARGET_PERCENT {
        return None;
    }
    if let Some(problem) = &status.publication.problem {
        return Some(format!("the registry cannot publish: {problem}"));
    }
    if !status.ledger.reachable {
        return Some("the ledger does not answer, so nothing is known of the traffic".to_owned());
    }
    if traffic.requests == 0 {
        return Some("no traffic in the last minute".to_owned());
    }
    if let Some(error) = traffic.errors.iter().max_by_key(|error| error.count) {
        return Some(format!("the edge reports: {} ({} times)", error.message, error.count));
    }
    let others = traffic.by_serial.iter().filter(|(other, _)| **other != serial.to_string());
    others
        .max_by_key(|(_, count)| **count)
        .map(|(other, count)| {
            let share = 100.0 * *count as f64 / traffic.requests as f64;
            match other.as_str() {
                "0" => format!("still {share:.0} % on the embedded rules"),
                other => format!("still {share:.0} % on serial {other}"),
            }
        })
        .or_else(|| Some(format!("{percent:.0} % of the traffic has it")))
}

/// A bar on a terminal; else a line for every change.
struct RolloutProgress {
    bar: Option<ProgressBar>,
    last_line: String,
    serial: u64,
    format: Format,
}

impl RolloutProgress {
    fn new(serial: u64, format: Format) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(100);
            let style = ProgressStyle::with_template("{prefix} {bar:40} {pos:>3} %  {msg}");
            let bar = style.map(|style| bar.clone().with_style(style)).unwrap_or(bar);
            bar.with_prefix(format!("release {serial}"))
        });
        Self { bar, last_line: String::new(), serial, format }
    }

    fn update(&mut self, percent: f64, reason: Option<&str>) -> Result<()> {
        let reason = reason.unwrap_or("arrived");
        if let Some(bar) = &self.bar {
            bar.set_position(percent as u64);
            bar.set_message(crate::sanitize_for_terminal(reason));
            return Ok(());
        }
        let text = format!("release {}: {percent:.0} %, {reason}", self.serial);
        if text == self.last_line {
            return Ok(());
        }
        match self.format {
            Format::Text => print_line(format_args!("{text}"))?,
            Format::Json => print_error(&text),
        }
        self.last_line = text;
        Ok(())
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Percent of the traffic that make an arrival: some isolate is always late.
const TARGET_PERCENT: f64 = 95.0;

/// How often is asked.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_why_a_release_has_not_arrived() {
        let rows = [
            (r#"{"traffic":{"requests":100,"by_serial":{"7":96,"6":4}}}"#, None),
            (r#"{"traffic":{"requests":0}}"#, Some("no traffic in the last minute")),
            (
                r#"{"traffic":{"requests":100,"by_serial":{"7":10,"6":50,"5":40}}}"#,
                Some("still 50 % on serial 6"),
            ),
            (
                r#"{"traffic":{"requests":4,"by_serial":{"0":4}}}"#,
                Some("still 100 % on the embedded rules"),
            ),
            (
                r#"{"publication":{"problem":"KV refused"},"traffic":{"requests":0}}"#,
                Some("the registry cannot publish: KV refused"),
            ),
            (
                r#"{"traffic":{"requests":9,"by_serial":{"6":9},"errors":[{"what":"signature","count":3}]}}"#,
                Some("the edge reports: signature (3 times)"),
            ),
            (
                r#"{"ledger":{"reachable":false}}"#,
                Some("the ledger does not answer, so nothing is known of the traffic"),
            ),
            (
                r#"{"release":{"serial":8,"release":{}},"traffic":{"requests":1,"by_serial":{"7":1}}}"#,
                Some("release 8 was published after it"),
            ),
        ];
        for (status, expected) in rows {
            let status: DeploymentStatus = serde_json::from_str(status).unwrap();
            assert_eq!(pending_reason(&status, 7, status.rollout_percent(7)).as_deref(), expected);
        }
    }
}
