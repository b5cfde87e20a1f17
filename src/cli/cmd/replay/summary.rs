//! What a replay found, by label, file and signature. Counts are cumulative: a hostile request
//! counts as suspect and as notice too.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::Decision;
use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::rules::policy::Band;
use hedgerow_sigma::recorded::RecordedRequest;
use serde::Serialize;

use super::campaign::CampaignTracker;
use crate::{Result, print_line};

#[derive(Default)]
pub struct Summary {
    requests: usize,
    /// Requests that are no LLM calls.
    not_llm_calls: usize,
    unreadable: Vec<String>,
    labels: BTreeMap<String, LabelSummary>,
    files: Vec<FileSummary>,
    signatures: BTreeMap<String, BTreeMap<String, usize>>,
}

#[derive(Default)]
struct LabelSummary {
    counts: BandCounts,
    accounts: BTreeSet<String>,
    accounts_suspect: BTreeSet<String>,
}

/// Requests, and how many of them reach which band.
#[derive(Default, Clone, Copy, Serialize)]
pub struct BandCounts {
    pub requests: usize,
    pub notice: usize,
    pub suspect: usize,
    pub hostile: usize,
}

#[derive(Default)]
struct FileSummary {
    path: String,
    label: Option<String>,
    counts: BandCounts,
    first_suspect: Option<usize>,
    accounts: BTreeMap<String, BandCounts>,
    hits: BTreeMap<String, usize>,
    campaign: CampaignTracker,
}

impl BandCounts {
    fn record(&mut self, band: Band) {
        self.requests += 1;
        self.notice += usize::from(band >= Band::Notice);
        self.suspect += usize::from(band >= Band::Suspect);
        self.hostile += usize::from(band >= Band::Hostile);
    }
}

impl Summary {
    /// Of files with these names.
    pub fn new(names: &[String]) -> Self {
        let files =
            names.iter().map(|path| FileSummary { path: path.clone(), ..FileSummary::default() });
        Self { files: files.collect(), ..Self::default() }
    }

    /// Notes a line that is no request.
    pub fn record_unreadable(&mut self, file_index: usize, line: usize, problem: &str) {
        let path = self.files.get(file_index).map_or("", |file| file.path.as_str());
        self.unreadable.push(format!("{path}:{line}:1: {problem}"));
    }

    /// The lines that are no requests, with what is wrong with them.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The requests of a label.
    pub fn counts(&self, label: &str) -> BandCounts {
        self.labels.get(label).map_or_else(BandCounts::default, |label| label.counts)
    }

    /// The signatures that hit requests of a label, those with most hits first.
    pub fn top_signatures(&self, label: &str, limit: usize) -> Vec<(&str, usize)> {
        let label_hits = |hits: &BTreeMap<String, usize>| hits.get(label).copied();
        let rows = self.signatures.iter();
        let mut rows: Vec<(&str, usize)> =
            rows.filter_map(|(name, row)| Some((name.as_str(), label_hits(row)?))).collect();
        rows.sort_by_key(|(name, hits)| (std::cmp::Reverse(*hits), *name));
        rows.truncate(limit);
        rows
    }

    /// Counts a request of a file, with its decision and its account's hash; without those it is no LLM
    /// call.
    pub fn record(
        &mut self,
        file_index: usize,
        recorded: &RecordedRequest,
        evaluated: Option<&(Decision, u64)>,
        clusters: &Clusters,
    ) {
        let Some((decision, account_hash)) = evaluated else {
            self.not_llm_calls += 1;
            return;
        };
        self.requests += 1;
        let Some(file) = self.files.get_mut(file_index) else { return };
        file.campaign.record(*account_hash, decision.band >= Band::Suspect, clusters);
        if file.label.is_none() {
            file.label.clone_from(&recorded.label);
        }
        let label = recorded.label.as_deref().unwrap_or(UNLABELLED);
        let account = recorded.account.as_deref().unwrap_or("none");
        let label_summary = self.labels.entry(label.to_owned()).or_default();
        file.counts.record(decision.band);
        file.accounts.entry(account.to_owned()).or_default().record(decision.band);
        label_summary.counts.record(decision.band);
        label_summary.accounts.insert(account.to_owned());
        if decision.band >= Band::Suspect {
            label_summary.accounts_suspect.insert(account.to_owned());
            file.first_suspect = file.first_suspect.or(Some(file.counts.requests));
        }
        for hit in &decision.hits {
            *file.hits.entry(hit.name.clone()).or_default() += 1;
            *self
                .signatures
                .entry(hit.name.clone())
                .or_default()
                .entry(label.to_owned())
                .or_default() += 1;
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        let labels: BTreeMap<&String, serde_json::Value> = self
            .labels
            .iter()
            .map(|(name, label)| (name, label_json(label, self.file_counts(name))))
            .collect();
        let files: Vec<serde_json::Value> = self.files.iter().map(file_json).collect();
        let signatures: Vec<serde_json::Value> = self
            .signatures_by_hits()
            .into_iter()
            .map(|(name, hits)| {
                let mut hits = hits.clone();
                for label in LABELS {
                    hits.entry(label.to_owned()).or_default();
                }
                serde_json::json!({ "name": name, "hits": hits })
            })
            .collect();
        serde_json::json!({
            "requests": self.requests, "passed": self.not_llm_calls, "unreadable": self.unreadable.len(),
            "labels": labels, "files": files, "signatures": signatures,
        })
    }

    pub fn print_text(&self) -> Result<()> {
        print_line(format_args!(
            "{} requests, {} no LLM calls, {} unreadable lines",
            self.requests,
            self.not_llm_calls,
            self.unreadable.len()
        ))?;
        for problem in &self.unreadable {
            print_line(format_args!(
                "{problem}; a line holds one JSON object {{method, path, headers, body}}"
            ))?;
        }
        print_line(format_args!(
            "\n{:<12} {:>8} {:>8} {:>8} {:>8} {:>13} {:>13}",
            "label", "requests", "≥notice", "≥suspect", "hostile", "files", "accounts"
        ))?;
        for (name, label) in &self.labels {
            let (counts, (files, suspect)) = (label.counts, self.file_counts(name));
            print_line(format_args!(
                "{name:<12} {:>8} {:>7.1}% {:>7.1}% {:>7.1}% {:>13} {:>13}",
                counts.requests,
                percent(counts.notice, counts.requests),
                percent(counts.suspect, counts.requests),
                percent(counts.hostile, counts.requests),
                format!("{suspect}/{files}"),
                format!("{}/{}", label.accounts_suspect.len(), label.accounts.len()),
            ))?;
        }
        print_line(format_args!(
            "\n{:<10} {:>8} {:>8} {:>8} {:>8} {:>6} {:>9} {:>7}  {:<40} top signatures",
            "label",
            "requests",
            "≥notice",
            "≥suspect",
            "hostile",
            "first",
            "accounts",
            "leaked",
            "file"
        ))?;
        for file in &self.files {
            let (counts, stats) = (file.counts, file.campaign.stats());
            let first = file.first_suspect.map_or("-".to_owned(), |first| first.to_string());
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let top: Vec<String> = file
                .top_signatures(2)
                .into_iter()
                .map(|(name, hits)| format!("{name} {hits}"))
                .collect();
            print_line(format_args!(
                "{:<10} {:>8} {:>8} {:>8} {:>8} {first:>6} {:>9} {:>6.1}%  {name:<40} {}",
                file.label.as_deref().unwrap_or("-"),
                counts.requests,
                counts.notice,
                counts.suspect,
                counts.hostile,
                format!("{}/{}", stats.flagged, stats.accounts),
                100.0 * stats.leakage,
                top.join(", "),
            ))?;
        }
        self.print_accounts()?;
        print_line(format_args!("\n{:<48} hits", "signature"))?;
        for (name, hits) in self.signatures_by_hits() {
            let hits: Vec<String> =
                hits.iter().map(|(label, hits)| format!("{label} {hits}")).collect();
            print_line(format_args!("{name:<48} {}", hits.join(", ")))?;
        }
        Ok(())
    }

    /// The accounts with most suspect requests.
    fn print_accounts(&self) -> Result<()> {
        let mut rows: Vec<(&str, &str, BandCounts)> = Vec::new();
        for file in &self.files {
            rows.extend(
                file.accounts
                    .iter()
                    .map(|(account, counts)| (account.as_str(), file.path.as_str(), *counts)),
            );
        }
        rows.retain(|(.., counts)| counts.suspect > 0);
        rows.sort_by_key(|(account, _, counts)| (std::cmp::Reverse(counts.suspect), *account));
        print_line(format_args!(
            "\n{:<34} {:>8} {:>8}  file (the 20 accounts with most)",
            "account", "requests", "≥suspect"
        ))?;
        for (account, path, counts) in rows.iter().take(20) {
            print_line(format_args!(
                "{account:<34} {:>8} {:>8}  {}",
                counts.requests,
                counts.suspect,
                path.rsplit('/').next().unwrap_or_default()
            ))?;
        }
        Ok(())
    }

    /// How many files have a label, by their first request, and how many of those were found suspect.
    fn file_counts(&self, label: &str) -> (usize, usize) {
        let files = || {
            self.files.iter().filter(|file| {
                file.counts.requests > 0 && file.label.as_deref().unwrap_or(UNLABELLED) == label
            })
        };
        (files().count(), files().filter(|file| file.first_suspect.is_some()).count())
    }

    fn signatures_by_hits(&self) -> Vec<(&String, &BTreeMap<String, usize>)> {
        let mut rows: Vec<_> = self.signatures.iter().collect();
        rows.sort_by_key(|(name, hits)| (std::cmp::Reverse(hits.values().sum::<usize>()), *name));
        rows
    }
}

impl FileSummary {
    fn top_signatures(&self, limit: usize) -> Vec<(&String, usize)> {
        let mut rows: Vec<_> = self.hits.iter().map(|(name, hits)| (name, *hits)).collect();
        rows.sort_by_key(|(name, hits)| (std::cmp::Reverse(*hits), *name));
        rows.truncate(limit);
        rows
    }
}

fn label_json(label: &LabelSummary, (files, files_suspect): (usize, usize)) -> serde_json::Value {
    let counts = label.counts;
    serde_json::json!({
        "requests": counts.requests, "notice": counts.notice, "suspect": counts.suspect, "hostile": counts.hostile,
        "accounts": label.accounts.len(), "accounts_suspect": label.accounts_suspect.len(),
        "files": files, "files_suspect": files_suspect,
    })
}

fn file_json(file: &FileSummary) -> serde_json::Value {
    let counts = file.counts;
    serde_json::json!({
        "path": file.path, "label": file.label, "requests": counts.requests, "notice": counts.notice,
        "suspect": counts.suspect, "hostile": counts.hostile, "first_suspect": file.first_suspect, "top": file.top_signatures(5),
        "campaign": file.campaign.stats(),
    })
}

/// The labels that recorded traffic has; reports name them all.
const LABELS: [&str; 3] = ["harvest", "benign", "gray"];

/// The label of requests that have none.
pub const UNLABELLED: &str = "unlabelled";

/// A part in percent.
pub fn percent(part: usize, total: usize) -> f64 {
    if total == 0 { 0.0 } else { 100.0 * part as f64 / total as f64 }
}
