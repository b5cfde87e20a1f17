//! The summary of a replay: counts by label, file, account and signature. Counts of bands are
//! cumulative: a hostile request also counts as suspect and as notice.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::rules::policy::Band;
use hedgerow_sigma::recorded::RecordedRequest;
use serde::Serialize;
use serde_json::{Value, json};

use super::campaign::CampaignTracker;
use super::engine::ReplayDecision;
use super::reader::locate_problems;
use crate::error::Result;
use crate::format::percent;
use crate::terminal::print_line;

/// The counts of a replay.
#[derive(Default)]
pub struct Summary {
    requests: u64,
    /// Number of requests that are not LLM calls.
    not_llm_calls: u64,
    /// Unreadable lines: `path:line:1: problem`, one line of text for each problem.
    unreadable: Vec<String>,
    labels: BTreeMap<String, LabelSummary>,
    /// Counts by file, in the order of the arguments.
    files: Vec<FileSummary>,
    signatures: BTreeMap<String, HitsByLabel>,
}

/// Number of requests that a signature hit, by label.
type HitsByLabel = BTreeMap<String, u64>;

#[derive(Default)]
struct LabelSummary {
    counts: BandCounts,
    accounts: BTreeSet<String>,
    accounts_suspect: BTreeSet<String>,
}

/// Number of all requests, and number of requests that reach each band.
#[derive(Default, Clone, Copy, Serialize)]
pub struct BandCounts {
    pub requests: u64,
    pub notice: u64,
    pub suspect: u64,
    pub hostile: u64,
}

#[derive(Default)]
struct FileSummary {
    path: String,
    /// Number of LLM calls that were judged.
    requests: u64,
    /// Number of LLM calls that were not judged, because their body is unknown.
    not_judged: u64,
    labels: BTreeMap<String, FileLabel>,
    accounts: BTreeMap<String, BandCounts>,
    campaign: CampaignTracker,
}

/// The requests of a file with one label.
#[derive(Default)]
struct FileLabel {
    counts: BandCounts,
    /// Position of the first suspect request among the judged LLM calls of the file, from 1.
    first_suspect: Option<u64>,
    /// Hits by signature.
    hits: BTreeMap<String, u64>,
}

/// Number of files with a label, and number of these files with a suspect request.
struct FileCounts {
    files: usize,
    suspect: usize,
}

impl BandCounts {
    /// Counts a request in a band.
    pub fn record(&mut self, band: Band) {
        self.requests += 1;
        self.notice += u64::from(band >= Band::Notice);
        self.suspect += u64::from(band >= Band::Suspect);
        self.hostile += u64::from(band >= Band::Hostile);
    }

    /// Counts a request in each band that `band` reaches and `other` does not.
    pub fn add_reached(&mut self, band: Band, other: Band) {
        let reaches = |limit: Band| u64::from(band >= limit && other < limit);
        self.requests += u64::from(band > other);
        self.notice += reaches(Band::Notice);
        self.suspect += reaches(Band::Suspect);
        self.hostile += reaches(Band::Hostile);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.notice += other.notice;
        self.suspect += other.suspect;
        self.hostile += other.hostile;
    }
}

impl Summary {
    /// Returns an empty summary of files with these names.
    pub fn new(names: &[String]) -> Self {
        let files =
            names.iter().map(|path| FileSummary { path: path.clone(), ..FileSummary::default() });
        Self { files: files.collect(), ..Self::default() }
    }

    /// Records a line that is not a request.
    pub fn record_unreadable(&mut self, file_index: usize, line: usize, problem: &str) {
        let path = self.files.get(file_index).map_or("", |file| file.path.as_str());
        self.unreadable.push(locate_problems(path, line, problem));
    }

    /// Counts an LLM call of a file that was not judged, because its body is unknown.
    pub fn record_not_judged(&mut self, file_index: usize) {
        if let Some(file) = self.files.get_mut(file_index) {
            file.not_judged += 1;
        }
    }

    /// Returns the lines that are not requests: `path:line:1: problem`.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// Counts a request of a file. `evaluated` is `None` for a request that is not an LLM call.
    pub fn record(
        &mut self,
        file_index: usize,
        recorded: &RecordedRequest,
        evaluated: Option<&ReplayDecision>,
        clusters: &Clusters,
    ) {
        let Some(ReplayDecision { decision, account_hash }) = evaluated else {
            self.not_llm_calls += 1;
            return;
        };
        self.requests += 1;
        let Some(file) = self.files.get_mut(file_index) else { return };
        file.campaign.record(*account_hash, decision.band >= Band::Suspect, clusters);
        file.requests += 1;
        let label = recorded.label.as_deref().unwrap_or(UNLABELLED);
        let account = decision.account.as_deref().unwrap_or("none");
        let label_summary = self.labels.entry(label.to_owned()).or_default();
        let file_label = file.labels.entry(label.to_owned()).or_default();
        file_label.counts.record(decision.band);
        file.accounts.entry(account.to_owned()).or_default().record(decision.band);
        label_summary.counts.record(decision.band);
        label_summary.accounts.insert(account.to_owned());
        if decision.band >= Band::Suspect {
            label_summary.accounts_suspect.insert(account.to_owned());
            file_label.first_suspect = file_label.first_suspect.or(Some(file.requests));
        }
        for hit in &decision.hits {
            *file_label.hits.entry(hit.name.clone()).or_default() += 1;
            let hits = self.signatures.entry(hit.name.clone()).or_default();
            *hits.entry(label.to_owned()).or_default() += 1;
        }
    }

    /// Counts the files that contain judged LLM calls with a label.
    fn file_counts(&self, label: &str) -> FileCounts {
        let labels = self.files.iter().filter_map(|file| file.labels.get(label));
        let suspect = labels.clone().filter(|label| label.first_suspect.is_some()).count();
        FileCounts { files: labels.count(), suspect }
    }

    fn not_judged(&self) -> u64 {
        self.files.iter().map(|file| file.not_judged).sum()
    }

    fn signatures_by_hits(&self) -> Vec<(&String, &HitsByLabel)> {
        let mut rows: Vec<_> = self.signatures.iter().collect();
        rows.sort_by_key(|(name, hits)| (Reverse(hits.values().sum::<u64>()), *name));
        rows
    }
}

impl FileSummary {
    /// Returns the label of all judged requests; `None` if they have several labels or none.
    fn only_label(&self) -> Option<&str> {
        let mut labels = self.labels.keys().map(String::as_str);
        let label = labels.next().filter(|label| *label != UNLABELLED)?;
        labels.next().is_none().then_some(label)
    }

    /// Returns the sums over all labels.
    fn total(&self) -> FileLabel {
        let mut total = FileLabel::default();
        for label in self.labels.values() {
            total.counts.add(&label.counts);
            let first_suspects = total.first_suspect.into_iter().chain(label.first_suspect);
            total.first_suspect = first_suspects.min();
            for (name, hits) in &label.hits {
                *total.hits.entry(name.clone()).or_default() += hits;
            }
        }
        total
    }
}

impl FileLabel {
    /// Returns the signatures with the most hits, at most `limit`.
    fn top_signatures(&self, limit: usize) -> Vec<(&String, u64)> {
        let mut rows: Vec<_> = self.hits.iter().map(|(name, hits)| (name, *hits)).collect();
        rows.sort_by_key(|(name, hits)| (Reverse(*hits), *name));
        rows.truncate(limit);
        rows
    }
}

/// JSON output.
impl Summary {
    /// Returns the summary as one object.
    pub fn to_json(&self) -> Value {
        let labels: BTreeMap<&String, Value> = self
            .labels
            .iter()
            .map(|(name, label)| (name, label.to_json(&self.file_counts(name))))
            .collect();
        let files: Vec<Value> = self.files.iter().map(FileSummary::to_json).collect();
        let signatures: Vec<Value> = self
            .signatures_by_hits()
            .into_iter()
            .map(|(name, hits)| {
                let mut hits = hits.clone();
                for label in LABELS {
                    hits.entry(label.to_owned()).or_default();
                }
                json!({ "name": name, "hits": hits })
            })
            .collect();
        json!({
            "requests": self.requests, "passed": self.not_llm_calls,
            "unreadable": self.unreadable.len(), "not_judged": self.not_judged(),
            "labels": labels, "files": files, "signatures": signatures,
        })
    }
}

impl LabelSummary {
    fn to_json(&self, file_counts: &FileCounts) -> Value {
        let counts = self.counts;
        json!({
            "requests": counts.requests, "notice": counts.notice, "suspect": counts.suspect,
            "hostile": counts.hostile, "accounts": self.accounts.len(),
            "accounts_suspect": self.accounts_suspect.len(), "files": file_counts.files,
            "files_suspect": file_counts.suspect,
        })
    }
}

impl FileSummary {
    fn to_json(&self) -> Value {
        let labels = self.labels.iter().map(|(name, label)| (name, label.to_json()));
        let labels: BTreeMap<&String, Value> = labels.collect();
        let mut file = self.total().to_json();
        if let Some(members) = file.as_object_mut() {
            members.insert("path".to_owned(), json!(self.path));
            members.insert("label".to_owned(), json!(self.only_label()));
            members.insert("labels".to_owned(), json!(labels));
            members.insert("not_judged".to_owned(), json!(self.not_judged));
            members.insert("campaign".to_owned(), json!(self.campaign.stats()));
        }
        file
    }
}

impl FileLabel {
    fn to_json(&self) -> Value {
        let counts = self.counts;
        json!({
            "requests": counts.requests, "notice": counts.notice, "suspect": counts.suspect,
            "hostile": counts.hostile, "first_suspect": self.first_suspect,
            "top": self.top_signatures(5),
        })
    }
}

/// Text output.
impl Summary {
    /// Prints the summary as tables.
    pub fn print_text(&self) -> Result<()> {
        self.print_totals()?;
        self.print_labels()?;
        self.print_files()?;
        self.print_accounts()?;
        self.print_signatures()
    }

    fn print_totals(&self) -> Result<()> {
        print_line(format_args!(
            "{} requests, {} no LLM calls, {} unreadable lines",
            self.requests,
            self.not_llm_calls,
            self.unreadable.len()
        ))?;
        for problem in &self.unreadable {
            print_line(format_args!("{problem}"))?;
        }
        for file in self.files.iter().filter(|file| file.not_judged > 0) {
            let (path, count) = (&file.path, file.not_judged);
            print_line(format_args!("{path}: {count} requests not judged: body unknown"))?;
        }
        Ok(())
    }

    fn print_labels(&self) -> Result<()> {
        print_line(format_args!(
            "\n{:<12} {:>8} {:>8} {:>8} {:>8} {:>13} {:>13}",
            "label", "requests", "≥notice", "≥suspect", "hostile", "files", "accounts"
        ))?;
        for (name, label) in &self.labels {
            let (counts, file_counts) = (label.counts, self.file_counts(name));
            print_line(format_args!(
                "{name:<12} {:>8} {:>7.1}% {:>7.1}% {:>7.1}% {:>13} {:>13}",
                counts.requests,
                percent(counts.notice, counts.requests),
                percent(counts.suspect, counts.requests),
                percent(counts.hostile, counts.requests),
                format!("{}/{}", file_counts.suspect, file_counts.files),
                format!("{}/{}", label.accounts_suspect.len(), label.accounts.len()),
            ))?;
        }
        Ok(())
    }

    fn print_files(&self) -> Result<()> {
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
            let none = FileLabel::default();
            let rows: Vec<(&str, &FileLabel)> = match file.labels.is_empty() {
                true => vec![(UNLABELLED, &none)],
                false => file.labels.iter().map(|(name, label)| (name.as_str(), label)).collect(),
            };
            for (name, label) in rows {
                print_file_row(file, name, label)?;
            }
        }
        Ok(())
    }

    /// Prints the accounts with the most suspect requests.
    fn print_accounts(&self) -> Result<()> {
        let mut rows: Vec<(&str, &str, BandCounts)> = Vec::new();
        for file in &self.files {
            let accounts = file.accounts.iter();
            let accounts = accounts.filter(|(_, counts)| counts.suspect > 0);
            rows.extend(
                accounts.map(|(name, counts)| (name.as_str(), file.path.as_str(), *counts)),
            );
        }
        rows.sort_by_key(|(account, _, counts)| (Reverse(counts.suspect), *account));
        print_line(format_args!(
            "\n{:<34} {:>8} {:>8}  file (the {MAX_ACCOUNTS} accounts with most)",
            "account", "requests", "≥suspect"
        ))?;
        for (account, path, counts) in rows.iter().take(MAX_ACCOUNTS) {
            print_line(format_args!(
                "{account:<34} {:>8} {:>8}  {}",
                counts.requests,
                counts.suspect,
                file_name(path)
            ))?;
        }
        Ok(())
    }

    fn print_signatures(&self) -> Result<()> {
        print_line(format_args!("\n{:<48} hits", "signature"))?;
        for (name, hits) in self.signatures_by_hits() {
            let hits: Vec<String> =
                hits.iter().map(|(label, hits)| format!("{label} {hits}")).collect();
            print_line(format_args!("{name:<48} {}", hits.join(", ")))?;
        }
        Ok(())
    }
}

/// Prints the counts of the requests of a file with one label. The columns about accounts are about
/// the whole file.
fn print_file_row(file: &FileSummary, name: &str, label: &FileLabel) -> Result<()> {
    let (counts, stats) = (label.counts, file.campaign.stats());
    let first = label.first_suspect.map_or("-".to_owned(), |first| first.to_string());
    let top = label.top_signatures(2).into_iter();
    let top: Vec<String> = top.map(|(name, hits)| format!("{name} {hits}")).collect();
    print_line(format_args!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {first:>6} {:>9} {:>6.1}%  {:<40} {}",
        if name == UNLABELLED { "-" } else { name },
        counts.requests,
        counts.notice,
        counts.suspect,
        counts.hostile,
        format!("{}/{}", stats.flagged, stats.accounts),
        100.0 * stats.leakage,
        file_name(&file.path),
        top.join(", "),
    ))
}

/// Returns the last part of a path.
fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Labels of recorded traffic. For every signature, the JSON output contains a count for each of
/// these labels.
const LABELS: [&str; 3] = ["harvest", "benign", "gray"];

/// Name under which requests without a label are counted.
pub const UNLABELLED: &str = "unlabelled";

/// Maximum number of accounts in the text output.
const MAX_ACCOUNTS: usize = 20;
