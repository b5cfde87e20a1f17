//! `--wait`: waits until the edge uses a release for its decisions, and shows the progress.

use std::io::IsTerminal;
use std::thread::sleep;
use std::time::Duration;

use hedgerow_core::api::{DeploymentStatus, TrafficSummary};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::dates::now;
use crate::error::{Error, Result};
use crate::format::percent;
use crate::remote::ReleaseStore;
use crate::terminal::{Format, print_error, print_line, sanitize_for_terminal};

/// The result of waiting for the rollout of a release.
#[derive(Debug, Serialize)]
pub struct RolloutResult {
    /// Whether the release reached the target share.
    pub done: bool,
    /// Percentage of the last minute's requests that were decided by the release.
    pub percent: f64,
    /// The reason why waiting ended before the release arrived; `None` if it arrived.
    pub reason: Option<String>,
}

/// The state of a rollout at one poll.
struct RolloutState {
    percent: f64,
    /// The reason why the release has not arrived; `None` if it has arrived.
    reason: Option<String>,
    /// Whether a newer release was published.
    is_superseded: bool,
}

impl RolloutState {
    /// Reads the status of the deployment. A failed request is returned as a reason to continue
    /// polling, and not as an error, because the release is already published and the command must
    /// still print that.
    fn poll(store: &dyn ReleaseStore, serial: u64) -> Result<Self> {
        match deployment_status(store) {
            Ok(status) => {
                let percent = rollout_percent(&status, serial);
                let is_superseded = newest_serial(&status) > serial;
                Ok(Self {
                    percent,
                    reason: pending_reason(&status, serial, percent),
                    is_superseded,
                })
            }
            Err(Error::Io(problem)) => {
                Ok(Self { percent: 0.0, reason: Some(problem), is_superseded: false })
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns the percentage of requests that were decided by a release.
pub fn rollout_percent(status: &DeploymentStatus, serial: u64) -> f64 {
    let TrafficSummary { requests, by_serial, .. } = &status.traffic;
    percent(by_serial.get(&serial.to_string()).copied().unwrap_or(0), *requests)
}

/// Returns the serial of the newest release; 0 before the first release.
pub fn newest_serial(status: &DeploymentStatus) -> u64 {
    status.release.as_ref().map_or(0, |release| release.serial)
}

/// Reads the status of a deployment.
pub fn deployment_status(store: &dyn ReleaseStore) -> Result<DeploymentStatus> {
    let status = store.status()?;
    serde_json::from_value(status).map_err(|error| {
        Error::Io(format!("GET /status: the answer is not readable: {error}; update Hedgerow"))
    })
}

/// Waits until 95 % of the last minute's requests were decided by the release, but at most
/// `timeout_seconds`. Stops early if a newer release was published.
pub fn wait_for_rollout(
    store: &dyn ReleaseStore,
    serial: u64,
    timeout_seconds: u64,
    format: Format,
) -> Result<RolloutResult> {
    let mut progress = RolloutProgress::new(serial, format);
    let deadline = now().saturating_add(timeout_seconds);
    loop {
        let RolloutState { percent, reason, is_superseded } = RolloutState::poll(store, serial)?;
        progress.update(percent, reason.as_deref())?;
        let Some(reason_text) = &reason else {
            progress.finish();
            return Ok(RolloutResult { done: true, percent, reason });
        };
        let remaining = deadline.saturating_sub(now());
        if is_superseded {
            progress.finish();
            print_error(&format!("release {serial} is not current any more: {reason_text}"));
            return Ok(RolloutResult { done: false, percent, reason });
        }
        if remaining == 0 {
            progress.finish();
            print_error(&format!(
                "release {serial} has not arrived within {timeout_seconds} s: {reason_text}; the \
                 edge still adopts it: see `hedgerow status --watch`"
            ));
            return Ok(RolloutResult { done: false, percent, reason });
        }
        sleep(POLL_INTERVAL.min(Duration::from_secs(remaining)));
    }
}

/// Returns the most likely reason why a release has not arrived; `None` if it has arrived.
fn pending_reason(status: &DeploymentStatus, serial: u64, rollout_percent: f64) -> Option<String> {
    let traffic = &status.traffic;
    if newest_serial(status) > serial {
        return Some(format!("release {} was published after it", newest_serial(status)));
    }
    if traffic.requests > 0 && rollout_percent >= TARGET_PERCENT {
        return None;
    }
    if let Some(problem) = &status.publication.problem {
        return Some(format!("the registry cannot publish: {problem}"));
    }
    if !status.ledger.reachable {
        return Some("the ledger does not answer, so the traffic is unknown".to_owned());
    }
    if traffic.requests == 0 {
        return Some("no traffic in the last minute".to_owned());
    }
    if let Some(error) = traffic.errors.iter().max_by_key(|error| error.count) {
        return Some(format!("the edge reports: {} ({} times)", error.message, error.count));
    }
    let others = traffic.by_serial.iter().filter(|(other, _)| **other != serial.to_string());
    let reason = match others.max_by_key(|(_, count)| **count) {
        Some((other, count)) => {
            let share = percent(*count, traffic.requests);
            match other.as_str() {
                "0" => format!("still {share:.0} % on the embedded rules"),
                other => format!("still {share:.0} % on serial {other}"),
            }
        }
        None => format!("{rollout_percent:.0} % of the traffic has it"),
    };
    Some(reason)
}

/// Prints the progress: a bar on a terminal, otherwise one line per change.
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
            bar.set_message(sanitize_for_terminal(reason));
            return Ok(());
        }
        let text = format!("release {}: {percent:.0} %, {reason}", self.serial);
        if text == self.last_line {
            return Ok(());
        }
        // With JSON, standard output must contain one object only.
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

/// Percentage of requests at which a release counts as arrived. It is below 100, because some
/// isolates adopt a release late.
const TARGET_PERCENT: f64 = 95.0;

/// Time between two requests for the status.
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
                r#"{"traffic":{"requests":9,"by_serial":{"6":9},
                    "errors":[{"message":"signature","count":3}]}}"#,
                Some("the edge reports: signature (3 times)"),
            ),
            (
                r#"{"ledger":{"reachable":false}}"#,
                Some("the ledger does not answer, so the traffic is unknown"),
            ),
            (
                r#"{"release":{"serial":8,"release":{}},
                    "traffic":{"requests":1,"by_serial":{"7":1}}}"#,
                Some("release 8 was published after it"),
            ),
        ];
        for (status, expected) in rows {
            let status: DeploymentStatus = serde_json::from_str(status).unwrap();
            assert_eq!(
                pending_reason(&status, 7, rollout_percent(&status, 7)).as_deref(),
                expected
            );
        }
    }
}
