//! The check of a push against recorded traffic: which requests the rules judge otherwise than the
//! active rules, and whether the noise budget allows it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use hedgerow_core::rules::policy::{Band, NoiseBudget};
use hedgerow_core::{Decision, Ruleset};
use hedgerow_sigma::recorded::RecordedRequest;
use serde::Serialize;

use crate::cmd::evaluate::clopper_pearson;
use crate::cmd::replay::{
    BandCounts, ReplayEngine, ReplayEvent, UNLABELLED, locate_problems, read_recordings,
};
use crate::error::{Error, Result};
use crate::format::percent;
use crate::terminal::print_line;

/// The counts of recorded requests, with the rules of the push and with the active rules.
#[derive(Serialize)]
pub struct NoiseReport {
    /// Benign requests with the rules of the push.
    benign: BandCounts,
    budget: NoiseBudget,
    /// Upper ends of the 95 % intervals of the benign shares, in percent.
    upper: Upper,
    /// The difference from the active rules; `None` if they are not known.
    change: Option<ChangeReport>,
}

#[derive(Serialize)]
struct Upper {
    notice: f64,
    suspect: f64,
}

/// The difference of the rules of the push from the active ones.
#[derive(Serialize)]
struct ChangeReport {
    /// Benign requests with the active rules.
    benign_before: BandCounts,
    /// Benign requests that reach a band only with the rules of the push.
    new_false_positives: BandCounts,
    /// Harvest requests with the active rules, and with the rules of the push.
    harvest_before: BandCounts,
    harvest: BandCounts,
    /// Harvest requests that reach a band only with the active rules.
    lost_detections: BandCounts,
}

/// Scores recorded requests with the rules of a push, and with the active rules if they are known.
/// Returns `None` without files.
///
/// Returns `Rejected` if the noise budget does not allow the new false positives or the lost
/// detections, if no request is benign, or if a line is not readable. If the active rules are not
/// known, all false positives count as new.
pub fn check(
    files: &[PathBuf],
    ruleset: &Ruleset,
    active: Option<&Ruleset>,
) -> Result<Option<NoiseReport>> {
    if files.is_empty() {
        return Ok(None);
    }
    let tally = replay(files, ruleset, active)?;
    let benign = tally.label(BENIGN_LABEL);
    if benign.after.requests == 0 {
        return Err(Error::Rejected(format!(
            "the noise is unknown: expected requests labelled \"{BENIGN_LABEL}\" in the recorded \
             files; give files with such requests, or omit --replay"
        )));
    }
    let harvest = tally.label(HARVEST_LABEL);
    let budget = ruleset.policy().noise;
    let problems: Vec<String> = match active {
        Some(_) => new_false_positives(benign, budget, &tally)
            .into_iter()
            .chain(lost_detections(harvest, budget, &tally))
            .collect(),
        None => noise_excess(benign.after, budget, &tally).into_iter().collect(),
    };
    if !problems.is_empty() {
        return Err(Error::Rejected(problems.join("\n")));
    }
    let upper = |count: u64| 100.0 * clopper_pearson(count, benign.after.requests).1;
    let upper = Upper { notice: upper(benign.after.notice), suspect: upper(benign.after.suspect) };
    let change = active.map(|_| ChangeReport {
        benign_before: benign.before,
        new_false_positives: benign.gained,
        harvest_before: harvest.before,
        harvest: harvest.after,
        lost_detections: harvest.lost,
    });
    Ok(Some(NoiseReport { benign: benign.after, budget, upper, change }))
}

/// The counts of requests with one label.
#[derive(Clone, Copy, Default)]
struct LabelTally {
    /// With the active rules.
    before: BandCounts,
    /// With the rules of the push.
    after: BandCounts,
    /// Requests that reach a band only with the rules of the push.
    gained: BandCounts,
    /// Requests that reach a band only with the active rules.
    lost: BandCounts,
}

/// The counts of all recorded requests.
#[derive(Default)]
struct Tally {
    labels: BTreeMap<String, LabelTally>,
    /// Hits by signature in benign requests, and, if the active rules are known, only in requests
    /// that are worse than with them.
    noisy: BTreeMap<String, u64>,
    /// Hits by signature of the active rules in harvest requests that are milder now.
    lost: BTreeMap<String, u64>,
    unreadable: Vec<String>,
}

/// Scores recorded requests. Returns `Rejected` if a line is not readable.
fn replay(files: &[PathBuf], ruleset: &Ruleset, active: Option<&Ruleset>) -> Result<Tally> {
    let mut engine = ReplayEngine::new(ruleset, true);
    let mut active = active.map(|active| ReplayEngine::new(active, true));
    let mut tally = Tally::default();
    read_recordings(files, &mut |event| {
        match event {
            ReplayEvent::Unreadable { file_index, line, problem } => {
                let file = files.get(file_index).map(|path| path.display().to_string());
                tally.unreadable.push(locate_problems(&file.unwrap_or_default(), line, problem));
            }
            ReplayEvent::Request { recorded, .. } => {
                let after = engine.evaluate(recorded).map(|evaluated| evaluated.decision);
                let before = active
                    .as_mut()
                    .map(|active| active.evaluate(recorded).map(|evaluated| evaluated.decision));
                tally.record(recorded, before, after.as_ref());
            }
        }
        Ok(())
    })?;
    match tally.unreadable.first() {
        None => Ok(tally),
        Some(first) => Err(Error::Rejected(format!(
            "{first}; correct or remove {} such lines, or omit the file from --replay",
            tally.unreadable.len()
        ))),
    }
}

impl Tally {
    fn label(&self, label: &str) -> LabelTally {
        self.labels.get(label).copied().unwrap_or_default()
    }

    /// Counts a request. `before` is the decision of the active rules; the outer `None` means that
    /// they are not known. A decision is `None` if the request is not an LLM call.
    fn record(
        &mut self,
        recorded: &RecordedRequest,
        before: Option<Option<Decision>>,
        after: Option<&Decision>,
    ) {
        if after.is_none() && before.as_ref().is_none_or(Option::is_none) {
            return;
        }
        let label = recorded.label.as_deref().unwrap_or(UNLABELLED);
        let band = |decision: Option<&Decision>| decision.map_or(Band::Clear, |made| made.band);
        let new = band(after);
        let old = before.as_ref().map(|before| band(before.as_ref()));
        let counts = self.labels.entry(label.to_owned()).or_default();
        counts.after.record(new);
        if let Some(old) = old {
            counts.before.record(old);
            counts.gained.add_reached(new, old);
            counts.lost.add_reached(old, new);
        }
        let (hits, decision) = match (label, old) {
            (BENIGN_LABEL, old) if old.is_none_or(|old| new > old) => (&mut self.noisy, after),
            (HARVEST_LABEL, Some(old)) if new < old => {
                (&mut self.lost, before.as_ref().and_then(Option::as_ref))
            }
            _ => return,
        };
        for hit in decision.into_iter().flat_map(|decision| &decision.hits) {
            *hits.entry(hit.name.clone()).or_default() += 1;
        }
    }
}

/// Returns the error message if more benign requests are new in a band than the budget allows;
/// `None` if they are not.
fn new_false_positives(benign: LabelTally, budget: NoiseBudget, tally: &Tally) -> Option<String> {
    let LabelTally { before, after, gained, .. } = benign;
    let (band, count, max_percent) = exceeded(gained, after.requests, budget)?;
    let [before, after] = [before, after].map(|counts| in_band(counts, band));
    Some(format!(
        "the rules make benign requests {band} that the active rules do not: {count} of {} ({:.2} \
         %, {before} before and {after} now): expected at most {max_percent} % (`noise.{band}` in \
         policy.toml); narrow or reweigh these signatures, or raise the budget:{}",
        benign.after.requests,
        percent(count, benign.after.requests),
        format_top(&tally.noisy),
    ))
}

/// Returns the error message if more detections are lost than the budget allows; `None` if they are
/// not.
fn lost_detections(harvest: LabelTally, budget: NoiseBudget, tally: &Tally) -> Option<String> {
    let LabelTally { before, after, lost, .. } = harvest;
    let (band, count, max_percent) = exceeded(lost, after.requests, budget)?;
    let [before, after] = [before, after].map(|counts| in_band(counts, band));
    Some(format!(
        "the rules lose detections: {count} of {} harvest requests ({:.2} %) are no longer {band} \
         ({before} before and {after} now): expected at most {max_percent} % (`noise.{band}` in \
         policy.toml); restore the evidence of these signatures, or raise the budget:{}",
        harvest.after.requests,
        percent(count, harvest.after.requests),
        format_top(&tally.lost),
    ))
}

/// Returns the error message if the benign requests exceed the noise budget, or `None` if they do
/// not.
fn noise_excess(counts: BandCounts, budget: NoiseBudget, tally: &Tally) -> Option<String> {
    let (band, count, max_percent) = exceeded(counts, counts.requests, budget)?;
    Some(format!(
        "the rules are too noisy: {count} of {} benign requests ({:.2} %) are {band} or worse: \
         expected at most {max_percent} % (`noise.{band}` in policy.toml); narrow or reweigh these \
         signatures, or raise the budget:{}",
        counts.requests,
        percent(count, counts.requests),
        format_top(&tally.noisy),
    ))
}

/// Returns the first band whose count exceeds its budget in percent of `total`: its name, the count
/// and the budget.
fn exceeded(
    counts: BandCounts,
    total: u64,
    budget: NoiseBudget,
) -> Option<(&'static str, u64, f64)> {
    let rows = [("suspect", budget.suspect), ("notice", budget.notice)];
    let mut rows = rows.into_iter().map(|(band, max)| (band, in_band(counts, band), max));
    rows.find(|(_, count, max_percent)| percent(*count, total) > *max_percent)
}

/// Returns the number of requests in a band or a worse one.
fn in_band(counts: BandCounts, band: &str) -> u64 {
    if band == "suspect" { counts.suspect } else { counts.notice }
}

/// Formats the signatures with the most hits, one in each line.
fn format_top(hits: &BTreeMap<String, u64>) -> String {
    let mut rows: Vec<(&String, &u64)> = hits.iter().collect();
    rows.sort_by_key(|(name, hits)| (Reverse(**hits), *name));
    rows.into_iter().take(10).map(|(name, hits)| format!("\n  {name:<48} {hits}")).collect()
}

impl NoiseReport {
    /// Prints the report as text.
    pub fn print_text(&self) -> Result<()> {
        let Self { benign, upper, change, .. } = self;
        print_line(format_args!(
            "benign requests: {}, of which {} notice or worse, {} suspect or worse; upper ends of \
             the 95 % intervals: {:.2} % and {:.2} %",
            benign.requests, benign.notice, benign.suspect, upper.notice, upper.suspect,
        ))?;
        let Some(change) = change else {
            return print_line(format_args!(
                "the active rules are not known here, because they are embedded in the Worker or \
                 not readable: all false positives count as new"
            ));
        };
        let ChangeReport { benign_before, new_false_positives, harvest, harvest_before, .. } =
            change;
        print_line(format_args!(
            "with the active rules: {} notice or worse, {} suspect or worse; new false positives: \
             {} notice, {} suspect",
            benign_before.notice,
            benign_before.suspect,
            new_false_positives.notice,
            new_false_positives.suspect,
        ))?;
        if harvest.requests == 0 {
            return Ok(());
        }
        print_line(format_args!(
            "harvest requests: {}, of which {} notice or worse (before: {}), {} suspect or worse \
             (before: {}); lost detections: {} notice, {} suspect",
            harvest.requests,
            harvest.notice,
            harvest_before.notice,
            harvest.suspect,
            harvest_before.suspect,
            change.lost_detections.notice,
            change.lost_detections.suspect,
        ))
    }
}

/// Label of harmless requests in recorded traffic.
const BENIGN_LABEL: &str = "benign";

/// Label of requests that collect training data.
const HARVEST_LABEL: &str = "harvest";
