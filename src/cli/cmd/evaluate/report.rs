//! The figures of an evaluation.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use hedgerow_core::Ruleset;
use hedgerow_core::rules::policy::Band;
use hedgerow_core::ruleset::short_digest;
use serde::Serialize;

use super::ablation::{self, RuleContribution};
use super::disguise::DisguiseCounts;
use super::scored::{BENIGN, Corpus, HARVEST, Run, ScoredRequest};
use super::statistics::{Curve, Rate};

/// The report of an evaluation.
#[derive(Serialize)]
pub struct EvaluationReport {
    /// Abbreviated digest of the ruleset.
    pub ruleset: String,
    pub requests: u64,
    pub not_llm_calls: u64,
    /// Number of LLM calls that were not judged, because their body is unknown.
    pub not_judged: u64,
    pub unreadable: usize,
    /// Figures without correlations.
    pub alone: Section,
    /// Figures with correlations over the whole corpus.
    pub correlated: Option<Section>,
    pub disguises: Option<Vec<DisguiseCounts>>,
    /// Contribution of each family, and of each signature, with correlations if they were scored.
    pub families: Vec<RuleContribution>,
    pub signatures: Vec<RuleContribution>,
}

/// The figures of all requests, with or without correlations.
#[derive(Serialize)]
pub struct Section {
    pub labels: Vec<Group>,
    pub languages: Vec<Group>,
    pub dialects: Vec<Group>,
    pub runs: Vec<RunRow>,
    pub curves: Vec<Curve>,
}

/// The figures of the requests with one label and one value of a property, such as a language.
#[derive(Serialize)]
pub struct Group {
    pub label: String,
    /// Language or dialect; empty for all requests of a label.
    pub name: String,
    pub requests: u64,
    pub notice: Rate,
    pub suspect: Rate,
    pub hostile: Rate,
    /// Rate of runs, and of accounts, with a suspect request. An account counts once in each run.
    pub runs_suspect: Rate,
    pub accounts_suspect: Rate,
}

/// The figures of a run.
#[derive(Serialize)]
pub struct RunRow {
    pub label: String,
    pub tool: String,
    pub name: String,
    pub requests: u64,
    pub notice: u64,
    pub suspect: u64,
    pub hostile: u64,
    /// Position of the first suspect request in the run, from 1; `None` if no request is suspect.
    pub first_suspect: Option<usize>,
    pub accounts: usize,
    pub accounts_suspect: usize,
    /// Names of the signatures of positive weight that match the most requests at notice or above,
    /// at most [`TOP`].
    pub top: Vec<String>,
}

impl EvaluationReport {
    /// Returns the report of a scored corpus.
    pub fn new(corpus: &Corpus, ruleset: &Ruleset) -> Self {
        let requests = corpus.runs.iter().map(|run| run.requests.len() as u64).sum();
        Self {
            ruleset: short_digest(ruleset.digest()).to_owned(),
            requests,
            not_llm_calls: corpus.not_llm_calls,
            not_judged: corpus.not_judged,
            unreadable: corpus.unreadable.len(),
            alone: Section::new(corpus, false),
            correlated: corpus.is_correlated.then(|| Section::new(corpus, true)),
            disguises: corpus.disguises.clone(),
            families: ablation::by_family(corpus, ruleset.policy()),
            signatures: ablation::by_signature(corpus, ruleset.policy()),
        }
    }

    /// Returns the section with correlations if it exists, or else the section without them.
    pub fn last_section(&self) -> &Section {
        self.correlated.as_ref().unwrap_or(&self.alone)
    }
}

impl Section {
    fn new(corpus: &Corpus, correlated: bool) -> Self {
        let groups = |name: &dyn Fn(&ScoredRequest) -> &'static str| {
            let mut groups: BTreeMap<(&str, &str), GroupCounts<'_>> = BTreeMap::new();
            for (index, run) in corpus.runs.iter().enumerate() {
                for request in &run.requests {
                    let counts = groups.entry((run.label.as_str(), name(request))).or_default();
                    counts.record(index, request, request.verdict(correlated).band);
                }
            }
            groups.iter().map(|((label, name), counts)| counts.group(label, name)).collect()
        };
        Self {
            labels: groups(&|_| ""),
            languages: groups(&|request| request.language),
            dialects: groups(&|request| request.dialect),
            runs: corpus.runs.iter().map(|run| RunRow::new(corpus, run, correlated)).collect(),
            curves: curves(corpus, correlated),
        }
    }
}

/// The counts from which a group is made. Runs are indices; accounts are pairs of a run and a name.
#[derive(Default)]
struct GroupCounts<'c> {
    requests: u64,
    notice: u64,
    suspect: u64,
    hostile: u64,
    runs: BTreeSet<usize>,
    runs_suspect: BTreeSet<usize>,
    accounts: BTreeSet<(usize, &'c str)>,
    accounts_suspect: BTreeSet<(usize, &'c str)>,
}

impl<'c> GroupCounts<'c> {
    fn record(&mut self, run: usize, request: &'c ScoredRequest, band: Band) {
        let account = (run, request.account.as_str());
        self.requests += 1;
        self.notice += u64::from(band >= Band::Notice);
        self.suspect += u64::from(band >= Band::Suspect);
        self.hostile += u64::from(band >= Band::Hostile);
        self.runs.insert(run);
        self.accounts.insert(account);
        if band >= Band::Suspect {
            self.runs_suspect.insert(run);
            self.accounts_suspect.insert(account);
        }
    }

    fn group(&self, label: &str, name: &str) -> Group {
        let rate = |part: usize, whole: usize| Rate::new(part as u64, whole as u64);
        Group {
            label: label.to_owned(),
            name: name.to_owned(),
            requests: self.requests,
            notice: Rate::new(self.notice, self.requests),
            suspect: Rate::new(self.suspect, self.requests),
            hostile: Rate::new(self.hostile, self.requests),
            runs_suspect: rate(self.runs_suspect.len(), self.runs.len()),
            accounts_suspect: rate(self.accounts_suspect.len(), self.accounts.len()),
        }
    }
}

impl RunRow {
    fn new(corpus: &Corpus, run: &Run, correlated: bool) -> Self {
        let mut counts = GroupCounts::default();
        let mut hits: BTreeMap<usize, u64> = BTreeMap::new();
        let mut first_suspect = None;
        for (index, request) in run.requests.iter().enumerate() {
            let verdict = request.verdict(correlated);
            counts.record(0, request, verdict.band);
            if verdict.band >= Band::Suspect {
                first_suspect = first_suspect.or(Some(index + 1));
            }
            for hit in verdict.hits.iter().filter(|_| verdict.band >= Band::Notice) {
                *hits.entry(*hit).or_default() += 1;
            }
        }
        let mut top: Vec<(usize, u64)> = hits.into_iter().collect();
        top.retain(|(hit, _)| corpus.signatures.get(*hit).is_some_and(|row| row.weight > 0.0));
        top.sort_by_key(|(_, hits)| Reverse(*hits));
        let top = top.iter().take(TOP).filter_map(|(hit, _)| corpus.signatures.get(*hit));
        Self {
            label: run.label.clone(),
            tool: run.tool.clone(),
            name: run.name.clone(),
            requests: counts.requests,
            notice: counts.notice,
            suspect: counts.suspect,
            hostile: counts.hostile,
            first_suspect,
            accounts: counts.accounts.len(),
            accounts_suspect: counts.accounts_suspect.len(),
            top: top.map(|row| row.name.clone()).collect(),
        }
    }
}

/// Maximum number of signatures that are named for a run.
const TOP: usize = 3;

/// Returns the curves of requests, accounts and runs. The score of an account or run is the highest
/// score of its requests.
fn curves(corpus: &Corpus, correlated: bool) -> Vec<Curve> {
    let scores = |label: &str, unit: &dyn Fn(usize, &ScoredRequest, usize) -> (usize, String)| {
        let mut highest: BTreeMap<(usize, String), f64> = BTreeMap::new();
        for (index, run) in corpus.runs.iter().enumerate().filter(|(_, run)| run.label == label) {
            for (position, request) in run.requests.iter().enumerate() {
                let score = highest.entry(unit(index, request, position)).or_default();
                *score = score.max(request.verdict(correlated).score);
            }
        }
        highest.into_values().collect::<Vec<f64>>()
    };
    let curve = |level, unit: &dyn Fn(usize, &ScoredRequest, usize) -> (usize, String)| {
        Curve::new(level, scores(HARVEST, unit), scores(BENIGN, unit))
    };
    vec![
        curve("request", &|run, _, position| (run, position.to_string())),
        curve("account", &|run, request, _| (run, request.account.clone())),
        curve("run", &|run, _, _| (run, String::new())),
    ]
}
