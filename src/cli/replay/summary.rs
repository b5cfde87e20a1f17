//! What a replay found, by label, file and signature. Counts are cumulative: a hostile request
//! counts as suspect and as notice too.

use std::collections::{BTreeMap, BTreeSet};

use hedgerow::Decision;
use hedgerow::cluster::Clusters;
use hedgerow::policy::Band;
use hedgerow::recorded::Recorded;
use serde::Serialize;

use super::campaign::Campaign;
use crate::cli::{Result, line};

#[derive(Default)]
pub struct Summary {
    requests: usize,
    /// Requests that are no LLM calls.
    passed: usize,
    unreadable: Vec<String>,
    labels: BTreeMap<String, Label>,
    files: Vec<FileRow>,
    signatures: BTreeMap<String, BTreeMap<String, usize>>,
}

#[derive(Default)]
struct Label {
    counts: Counts,
    accounts: BTreeSet<String>,
    accounts_suspect: BTreeSet<String>,
}

/// Requests, and how many of them reach which band.
#[derive(Default, Clone, Copy, Serialize)]
pub struct Counts {
    pub requests: usize,
    pub notice: usize,
    pub suspect: usize,
    pub hostile: usize,
}

#[derive(Default)]
struct FileRow {
    path: String,
    label: Option<String>,
    counts: Counts,
    first_suspect: Option<usize>,
    accounts: BTreeMap<String, Counts>,
    hits: BTreeMap<String, usize>,
    campaign: Campaign,
}

impl Counts {
    fn add(&mut self, band: Band) {
        self.requests += 1;
        self.notice += usize::from(band >= Band::Notice);
        self.suspect += usize::from(band >= Band::Suspect);
        self.hostile += usize::from(band >= Band::Hostile);
    }
}

impl Summary {
    /// Of files with these names.
    pub fn new(names: &[String]) -> Self {
        let files = names.iter().map(|path| FileRow { path: path.clone(), ..FileRow::default() });
        Self { files: files.collect(), ..Self::default() }
    }

    /// Notes a line that is no request.
    pub fn unread(&mut self, file: usize, line: usize, problem: &str) {
        let path = self.files.get(file).map_or("", |file| file.path.as_str());
        self.unreadable.push(format!("{path}:{line}:1: {problem}"));
    }

    /// The lines that are no requests, with what is wrong with them.
    pub fn unreadable(&self) -> &[String] {
        &self.unreadable
    }

    /// The requests of a label.
    pub fn counts(&self, label: &str) -> Counts {
        self.labels.get(label).map_or_else(Counts::default, |label| label.counts)
    }

    /// The signatures that hit requests of a label, those with most hits first.
    pub fn top(&self, label: &str, most: usize) -> Vec<(&str, usize)> {
        let hits = |hits: &BTreeMap<String, usize>| hits.get(label).copied();
        let rows = self.signatures.iter();
        let mut rows: Vec<(&str, usize)> =
            rows.filter_map(|(name, row)| Some((name.as_str(), hits(row)?))).collect();
        rows.sort_by_key(|(name, hits)| (std::cmp::Reverse(*hits), *name));
        rows.truncate(most);
        rows
    }

    /// Counts a request of a file, with its decision and its account's hash; without those it is no LLM
    /// call.
    pub fn add(
        &mut self,
        file: usize,
        recorded: &Recorded,
        judged: Option<&(Decision, u64)>,
        clusters: &Clusters,
    ) {
        let Some((decision, hash)) = judged else {
            self.passed += 1;
            return;
        };
        self.requests += 1;
        let Some(file) = self.files.get_mut(file) else { return };
        file.campaign.add(*hash, decision.band >= Band::Suspect, clusters);
        if file.label.is_none() {
            file.label.clone_from(&recorded.label);
        }
        let label = recorded.label.as_deref().unwrap_or(UNLABELLED);
        let account = recorded.account.as_deref().unwrap_or("none");
        let labelled = self.labels.entry(label.to_owned()).or_default();
        file.counts.add(decision.band);
        file.accounts.entry(account.to_owned()).or_default().add(decision.band);
        labelled.counts.add(decision.band);
        labelled.accounts.insert(account.to_owned());
        if decision.band >= Band::Suspect {
            labelled.accounts_suspect.insert(account.to_owned());
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

    pub fn json(&self) -> serde_json::Value {
        let labels: BTreeMap<&String, serde_json::Value> = self
            .labels
            .iter()
            .map(|(name, label)| (name, label_json(label, self.files_of(name))))
            .collect();
        let files: Vec<serde_json::Value> = self.files.iter().map(file_json).collect();
        let signatures: Vec<serde_json::Value> = self
            .by_hits()
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
            "requests": self.requests, "passed": self.passed, "unreadable": self.unreadable.len(),
            "labels": labels, "files": files, "signatures": signatures,
        })
    }

    pub fn text(&self) -> Result<()> {
        line(format_args!(
            "{} requests, {} no LLM calls, {} unreadable lines",
            self.requests,
            self.passed,
            self.unreadable.len()
        ))?;
        for problem in &self.unreadable {
            line(format_args!(
                "{problem}; a line holds one JSON object {{method, path, headers, body}}"
            ))?;
        }
        line(format_args!(
            "\n{:<12} {:>8} {:>8} {:>8} {:>8} {:>13} {:>13}",
            "label", "requests", "≥notice", "≥suspect", "hostile", "files", "accounts"
        ))?;
        for (name, label) in &self.labels {
            let (counts, (files, suspect)) = (label.counts, self.files_of(name));
            line(format_args!(
                "{name:<12} {:>8} {:>7.1}% {:>7.1}% {:>7.1}% {:>13} {:>13}",
                counts.requests,
                percent(counts.notice, counts.requests),
                percent(counts.suspect, counts.requests),
                percent(counts.hostile, counts.requests),
                format!("{suspect}/{files}"),
                format!("{}/{}", label.accounts_suspect.len(), label.accounts.len()),
            ))?;
        }
        line(format_args!(
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
            let (counts, figures) = (file.counts, file.campaign.figures());
            let first = file.first_suspect.map_or("-".to_owned(), |first| first.to_string());
            let name = file.path.rsplit('/').next().unwrap_or_default();
            let top: Vec<String> =
                file.top(2).into_iter().map(|(name, hits)| format!("{name} {hits}")).collect();
            line(format_args!(
                "{:<10} {:>8} {:>8} {:>8} {:>8} {first:>6} {:>9} {:>6.1}%  {name:<40} {}",
                file.label.as_deref().unwrap_or("-"),
                counts.requests,
                counts.notice,
                counts.suspect,
                counts.hostile,
                format!("{}/{}", figures.flagged, figures.accounts),
                100.0 * figures.leakage,
                top.join(", "),
            ))?;
        }
        self.accounts()?;
        line(format_args!("\n{:<48} hits", "signature"))?;
        for (name, hits) in self.by_hits() {
            let hits: Vec<String> =
                hits.iter().map(|(label, hits)| format!("{label} {hits}")).collect();
            line(format_args!("{name:<48} {}", hits.join(", ")))?;
        }
        Ok(())
    }

    /// The accounts with most suspect requests.
    fn accounts(&self) -> Result<()> {
        let mut rows: Vec<(&str, &str, Counts)> = Vec::new();
        for file in &self.files {
            rows.extend(
                file.accounts
                    .iter()
                    .map(|(account, counts)| (account.as_str(), file.path.as_str(), *counts)),
            );
        }
        rows.retain(|(.., counts)| counts.suspect > 0);
        rows.sort_by_key(|(account, _, counts)| (std::cmp::Reverse(counts.suspect), *account));
        line(format_args!(
            "\n{:<34} {:>8} {:>8}  file (the 20 accounts with most)",
            "account", "requests", "≥suspect"
        ))?;
        for (account, path, counts) in rows.iter().take(20) {
            line(format_args!(
                "{account:<34} {:>8} {:>8}  {}",
                counts.requests,
                counts.suspect,
                path.rsplit('/').next().unwrap_or_default()
            ))?;
        }
        Ok(())
    }

    /// How many files have a label, by their first request, and how many of those were found suspect.
    fn files_of(&self, label: &str) -> (usize, usize) {
        let files = || {
            self.files.iter().filter(|file| {
                file.counts.requests > 0 && file.label.as_deref().unwrap_or(UNLABELLED) == label
            })
        };
        (files().count(), files().filter(|file| file.first_suspect.is_some()).count())
    }

    fn by_hits(&self) -> Vec<(&String, &BTreeMap<String, usize>)> {
        let mut rows: Vec<_> = self.signatures.iter().collect();
        rows.sort_by_key(|(name, hits)| (std::cmp::Reverse(hits.values().sum::<usize>()), *name));
        rows
    }
}

impl FileRow {
    fn top(&self, most: usize) -> Vec<(&String, usize)> {
        let mut rows: Vec<_> = self.hits.iter().map(|(name, hits)| (name, *hits)).collect();
        rows.sort_by_key(|(name, hits)| (std::cmp::Reverse(*hits), *name));
        rows.truncate(most);
        rows
    }
}

fn label_json(label: &Label, (files, files_suspect): (usize, usize)) -> serde_json::Value {
    let counts = label.counts;
    serde_json::json!({
        "requests": counts.requests, "notice": counts.notice, "suspect": counts.suspect, "hostile": counts.hostile,
        "accounts": label.accounts.len(), "accounts_suspect": label.accounts_suspect.len(),
        "files": files, "files_suspect": files_suspect,
    })
}

fn file_json(file: &FileRow) -> serde_json::Value {
    let counts = file.counts;
    serde_json::json!({
        "path": file.path, "label": file.label, "requests": counts.requests, "notice": counts.notice,
        "suspect": counts.suspect, "hostile": counts.hostile, "first_suspect": file.first_suspect, "top": file.top(5),
        "campaign": file.campaign.figures(),
    })
}

/// The labels that recorded traffic has; reports name them all.
const LABELS: [&str; 3] = ["harvest", "benign", "gray"];

/// The label of requests that have none.
pub const UNLABELLED: &str = "unlabelled";

/// A part in percent.
pub fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 }
}
