//! The report of a simulation, as text and as JSON. docs/simulation.md defines the measures.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use hedgerow_core::Ruleset;
use serde::Serialize;
use serde_json::{Value, json};

use super::account::Account;
use super::metrics::{FiringCounts, Metrics, SourceCounts};
use super::scenario::Scenario;
use super::simulation::Simulation;
use crate::error::{Error, Result};
use crate::format::percent;
use crate::terminal::print_line;

/// The results of one run of a scenario.
#[derive(Serialize)]
pub struct Report {
    pub requests: u64,
    pub campaigns: Vec<CampaignReport>,
    pub benign: BenignReport,
    pub correlations: Vec<CorrelationReport>,
    pub scale: f64,
    pub days: u32,
    pub seed: u64,
    /// Percentage of paraphrased campaign requests; null if each campaign used its own setting.
    pub noise: Option<f64>,
    /// Run time. It is not part of the JSON, which is identical for every run.
    #[serde(skip)]
    pub elapsed: Duration,
    /// Signatures that flagged accounts, by source.
    #[serde(skip)]
    flag_causes: Vec<FlagCauses>,
}

/// The results of a campaign.
#[derive(Serialize)]
pub struct CampaignReport {
    pub name: String,
    /// Number of accounts that sent requests.
    pub accounts: usize,
    pub flagged: usize,
    pub exchanges: u32,
    /// Position, from 1, of the exchange that flagged the first account; null if no account was
    /// flagged.
    pub first_flag_at: Option<u32>,
    /// Share, from 0 to 1, of the exchanges that came before their account, or any account of its
    /// cluster, was flagged.
    pub leakage: f64,
    /// Share, from 0 to 1, of accounts that were flagged in time. An account is in time if it was
    /// flagged within the first `detect_within` percent of the campaign's exchanges, or by one of
    /// its own first n requests. Here n is that number of exchanges divided by the number of
    /// accounts, rounded up.
    pub flagged_in_time: f64,
    /// Numbers of an account's own requests after which 50 % and 95 % of the flagged accounts were
    /// flagged; 0 if no account was flagged.
    pub requests_to_flag: [u32; 2],
    /// Percentage of the exchanges within which accounts should be flagged.
    pub detect_within: f64,
}

/// The results of all benign sources.
#[derive(Default, Serialize)]
pub struct BenignReport {
    pub requests: u64,
    #[serde(flatten)]
    pub accounts: AccountCounts,
    pub by_kind: BTreeMap<String, KindReport>,
}

/// The results of a benign kind.
#[derive(Default, Serialize)]
pub struct KindReport {
    pub requests: u64,
    /// Requests that were notice or worse.
    pub notice_requests: u64,
    /// Requests that were suspect or worse.
    pub suspect_requests: u64,
    #[serde(flatten)]
    pub accounts: AccountCounts,
}

/// Number of accounts, of suspect accounts, and of accounts that would be blocked.
#[derive(Clone, Copy, Default, Serialize)]
pub struct AccountCounts {
    pub accounts: usize,
    pub suspect: usize,
    pub blocked: usize,
}

/// The results of a correlation.
#[derive(Serialize)]
pub struct CorrelationReport {
    pub name: String,
    /// Number of keys for which the correlation fired, by the owners of their accounts.
    pub fired: FiringCounts,
    /// Number of requests that the correlation hit, by source.
    pub hits: BTreeMap<String, u64>,
}

/// The signatures that matched the flagging requests of a source's accounts.
struct FlagCauses {
    source: String,
    /// Number of flagged accounts.
    accounts: u64,
    /// Signatures that matched the first suspect request of an account, each with its number of
    /// accounts.
    signatures: Vec<(String, u64)>,
}

impl Report {
    pub fn new(
        scenario: &Scenario,
        noise: Option<f64>,
        ruleset: &Ruleset,
        simulation: &Simulation,
        metrics: &Metrics,
        elapsed: Duration,
    ) -> Self {
        let mut benign = BenignReport::default();
        let mut campaigns = Vec::new();
        for (index, (source, counts)) in simulation.sources.iter().zip(&metrics.sources).enumerate()
        {
            let active_accounts = || {
                let accounts =
                    simulation.accounts.iter().filter(move |account| account.source == index);
                accounts.filter(|account| account.requests > 0)
            };
            match &source.campaign {
                Some(campaign) => {
                    campaigns.push(CampaignReport::new(
                        &source.name,
                        campaign.detect_within,
                        counts,
                        active_accounts(),
                    ));
                }
                None => benign.record(&source.name, counts, active_accounts()),
            }
        }
        Self {
            requests: metrics.requests,
            campaigns,
            benign,
            correlations: correlations(ruleset, simulation, metrics),
            scale: scenario.scale,
            days: scenario.days,
            seed: scenario.seed,
            noise,
            elapsed,
            flag_causes: flag_causes(ruleset, simulation, metrics),
        }
    }

    pub fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| Error::Io(error.to_string()))
    }

    pub fn print_text(&self, title: &str) -> Result<()> {
        let seconds = self.elapsed.as_secs_f64().max(1e-9);
        print_line(format_args!(
            "{title}\n{} requests in {} days, seed {}, {:.1} s, {:.0} requests/s",
            self.requests,
            self.days,
            self.seed,
            seconds,
            self.requests as f64 / seconds,
        ))?;
        if self.scale != 1.0 {
            print_line(format_args!(
                "scaled: {} times the accounts of the scenario, each with its own traffic",
                self.scale
            ))?;
        }
        if !self.campaigns.is_empty() {
            print_line(format_args!(
                "\n{:<16} {:>8} {:>8} {:>9} {:>10} {:>10} {:>8} {:>14} {:>12}",
                "campaign",
                "accounts",
                "flagged",
                "",
                "exchanges",
                "first flag",
                "leakage",
                "in time",
                "to flag"
            ))?;
        }
        for campaign in &self.campaigns {
            campaign.print_text()?;
        }
        self.benign.print_text()?;
        self.print_causes()
    }

    /// Prints the number of keys for which each correlation fired, and the signatures that flagged
    /// accounts.
    fn print_causes(&self) -> Result<()> {
        if !self.correlations.is_empty() {
            print_line(format_args!(
                "\n{:<44} {:>8} {:>8} {:>8}  requests that it hit",
                "correlation: keys it fired for", "campaign", "benign", "both"
            ))?;
        }
        for correlation in &self.correlations {
            let FiringCounts { campaign, benign, both } = correlation.fired;
            let hits: Vec<String> =
                correlation.hits.iter().map(|(source, hits)| format!("{source} {hits}")).collect();
            print_line(format_args!(
                "{:<44} {campaign:>8} {benign:>8} {both:>8}  {}",
                correlation.name,
                hits.join(", ")
            ))?;
        }
        if !self.flag_causes.is_empty() {
            print_line(format_args!("\nsignatures that flagged accounts, and their number"))?;
        }
        for flags in &self.flag_causes {
            let rows: Vec<String> =
                flags.signatures.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let head = format!("{} ({})", flags.source, flags.accounts);
            print_line(format_args!("{head:<26} {}", rows.join(", ")))?;
        }
        Ok(())
    }
}

impl CampaignReport {
    fn new<'a>(
        name: &str,
        detect_within: f64,
        counts: &SourceCounts,
        accounts: impl Iterator<Item = &'a Account>,
    ) -> Self {
        let exchange_limit = f64::from(counts.exchanges) * detect_within / 100.0;
        let accounts: Vec<&Account> = accounts.collect();
        let account_count = accounts.len();
        let request_limit = (exchange_limit / account_count.max(1) as f64).ceil().max(1.0);
        let flagged: Vec<&&Account> =
            accounts.iter().filter(|account| account.flagged_at_exchange > 0).collect();
        let first_flag = flagged.iter().map(|account| account.flagged_at_exchange).min();
        let is_in_time = |account: &&&&Account| {
            f64::from(account.flagged_at_exchange) <= exchange_limit
                || f64::from(account.flagged_at_request) <= request_limit
        };
        let in_time = flagged.iter().filter(is_in_time).count();
        let mut request_counts: Vec<u32> =
            flagged.iter().map(|account| account.flagged_at_request).collect();
        request_counts.sort_unstable();
        let percentile = |percent: usize| {
            request_counts.get(request_counts.len().saturating_sub(1) * percent / 100)
        };
        let requests_to_flag =
            [50, 95].map(|percent| percentile(percent).copied().unwrap_or_default());
        let flagged = flagged.len();
        Self {
            name: name.to_owned(),
            accounts: account_count,
            flagged,
            exchanges: counts.exchanges,
            first_flag_at: first_flag,
            leakage: f64::from(counts.leaked) / f64::from(counts.exchanges.max(1)),
            flagged_in_time: in_time as f64 / account_count.max(1) as f64,
            requests_to_flag,
            detect_within,
        }
    }

    fn print_text(&self) -> Result<()> {
        let first = self.first_flag_at.map_or("-".to_owned(), |first| first.to_string());
        print_line(format_args!(
            "{:<16} {:>8} {:>8} {:>8.1}% {:>10} {first:>10} {:>7.1}% {:>8.1}% by {}% {:>12}",
            self.name,
            self.accounts,
            self.flagged,
            percent(self.flagged as u64, self.accounts as u64),
            self.exchanges,
            100.0 * self.leakage,
            100.0 * self.flagged_in_time,
            self.detect_within,
            format_requests_to_flag(self.requests_to_flag),
        ))
    }
}

impl BenignReport {
    fn record<'a>(
        &mut self,
        name: &str,
        counts: &SourceCounts,
        accounts: impl Iterator<Item = &'a Account>,
    ) {
        let kind = self.by_kind.entry(name.to_owned()).or_default();
        self.requests += counts.requests;
        kind.requests += counts.requests;
        kind.notice_requests += counts.notice;
        kind.suspect_requests += counts.suspect;
        for account in accounts {
            for totals in [&mut self.accounts, &mut kind.accounts] {
                totals.accounts += 1;
                totals.suspect += usize::from(account.flagged_at_exchange > 0);
                totals.blocked += usize::from(account.is_blocked);
            }
        }
    }

    fn print_text(&self) -> Result<()> {
        print_line(format_args!(
            "\n{:<20} {:>10} {:>10} {:>9} {:>8} {:>18}",
            "benign", "accounts", "requests", "≥suspect", "blocked", "suspect requests"
        ))?;
        for (name, kind) in &self.by_kind {
            let AccountCounts { accounts, suspect, blocked } = kind.accounts;
            print_line(format_args!(
                "{name:<20} {accounts:>10} {:>10} {suspect:>9} {blocked:>8} {:>18}",
                kind.requests, kind.suspect_requests
            ))?;
        }
        let AccountCounts { accounts, suspect, blocked } = self.accounts;
        print_line(format_args!(
            "{:<20} {accounts:>10} {:>10} {suspect:>9} {blocked:>8}   {:.2} in 10,000 accounts",
            "all",
            self.requests,
            100.0 * percent(suspect as u64, accounts as u64)
        ))
    }
}

/// Prints a table of several runs, one line per run and campaign.
pub fn print_comparison(reports: &[Report]) -> Result<()> {
    print_line(format_args!(
        "\n{:>6}  {:<16} {:>8} {:>9} {:>10} {:>8} {:>12} {:>12} {:>10} {:>8}",
        "noise",
        "campaign",
        "accounts",
        "flagged",
        "first flag",
        "leakage",
        "in time",
        "to flag",
        "≥suspect",
        "blocked"
    ))?;
    for report in reports {
        for campaign in &report.campaigns {
            let noise = report.noise.map_or("-".to_owned(), |noise| format!("{noise}%"));
            let first = campaign.first_flag_at.map_or("-".to_owned(), |first| first.to_string());
            print_line(format_args!(
                "{noise:>6}  {:<16} {:>8} {:>8.1}% {first:>10} {:>7.1}% {:>11.1}% {:>12} {:>10} \
                 {:>8}",
                campaign.name,
                campaign.accounts,
                percent(campaign.flagged as u64, campaign.accounts as u64),
                100.0 * campaign.leakage,
                100.0 * campaign.flagged_in_time,
                format_requests_to_flag(campaign.requests_to_flag),
                report.benign.accounts.suspect,
                report.benign.accounts.blocked,
            ))?;
        }
    }
    Ok(())
}

/// Formats the numbers of requests after which 50 % and 95 % of the flagged accounts were flagged:
/// `1, 95%: 4`.
fn format_requests_to_flag([median, p95]: [u32; 2]) -> String {
    format!("{median}, 95%: {p95}")
}

fn correlations(
    ruleset: &Ruleset,
    simulation: &Simulation,
    metrics: &Metrics,
) -> Vec<CorrelationReport> {
    let mut reports = Vec::new();
    let first = ruleset.first_correlation_index();
    for (index, signature) in ruleset.signatures().iter().enumerate().skip(first) {
        let mut hits: BTreeMap<String, u64> = BTreeMap::new();
        for (source, counts) in simulation.sources.iter().zip(&metrics.sources) {
            let count = counts.hits.get(index).copied().unwrap_or_default();
            if count > 0 {
                *hits.entry(source.name.clone()).or_default() += count;
            }
        }
        let fired = metrics.firings.get(index).copied().unwrap_or_default();
        reports.push(CorrelationReport { name: signature.name.clone(), fired, hits });
    }
    reports
}

fn flag_causes(ruleset: &Ruleset, simulation: &Simulation, metrics: &Metrics) -> Vec<FlagCauses> {
    let mut causes = Vec::new();
    for (index, (source, counts)) in simulation.sources.iter().zip(&metrics.sources).enumerate() {
        let accounts = simulation.accounts.iter().filter(|account| account.source == index);
        let accounts = accounts.filter(|account| account.flagged_at_exchange > 0).count() as u64;
        if accounts == 0 {
            continue;
        }
        let mut signatures: Vec<(String, u64)> = ruleset
            .signatures()
            .iter()
            .zip(&counts.flagged_accounts)
            .filter(|(_, count)| **count > 0)
            .map(|(signature, count)| (signature.name.clone(), *count))
            .collect();
        signatures.sort_by_key(|(name, count)| (Reverse(*count), name.clone()));
        signatures.truncate(MAX_SIGNATURES_SHOWN);
        causes.push(FlagCauses { source: source.name.clone(), accounts, signatures });
    }
    causes
}

/// Maximum number of signatures that are shown per source.
const MAX_SIGNATURES_SHOWN: usize = 8;

/// Returns several reports as one object.
pub fn runs_to_json(reports: &[Report]) -> Result<Value> {
    let runs: Result<Vec<Value>> = reports.iter().map(Report::to_json).collect();
    Ok(json!({ "runs": runs? }))
}
