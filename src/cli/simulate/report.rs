//! What a simulation found, as text and as JSON.

use std::collections::BTreeMap;
use std::time::Duration;

use hedgerow::Ruleset;
use serde::Serialize;
use serde_json::{Value, json};

use super::account::Account;
use super::scenario::Scenario;
use super::tally::{Counts, Fired, Tally};
use super::world::World;
use crate::cli::replay::percent;
use crate::cli::{Result, line};

/// What a simulation found.
#[derive(Serialize)]
pub struct Report {
    pub requests: u64,
    pub campaigns: Vec<Campaign>,
    pub benign: Benign,
    pub correlations: Vec<Correlation>,
    pub scale: f64,
    pub days: u32,
    pub seed: u64,
    /// Percent; what each campaign says where it is null.
    pub noise: Option<f64>,
    /// How long it took is no finding: it differs from run to run.
    #[serde(skip)]
    pub took: Duration,
    /// The signatures by which accounts were flagged.
    #[serde(skip)]
    flags: Vec<Flags>,
}

/// What was found of a campaign.
#[derive(Serialize)]
pub struct Campaign {
    pub name: String,
    /// Accounts that sent requests.
    pub accounts: usize,
    pub flagged: usize,
    pub exchanges: u32,
    pub first_flag_at: Option<u32>,
    pub leakage: f64,
    /// Share of accounts flagged by the mark; or, where they came later, by as many requests of their
    /// own as one that was there from the start has sent by then, one at least.
    pub by_mark: f64,
    /// By which of its own requests an account was flagged: half of those that were, and 95 in 100.
    pub own_requests: [u32; 2],
    /// The mark, in percent of the exchanges.
    pub mark: f64,
}

/// What was found of those who do no harm.
#[derive(Default, Serialize)]
pub struct Benign {
    pub requests: u64,
    #[serde(flatten)]
    pub accounts: Accounts,
    pub by_kind: BTreeMap<String, Kind>,
}

/// What was found of a kind of those.
#[derive(Default, Serialize)]
pub struct Kind {
    pub requests: u64,
    /// Requests that reached suspect.
    pub suspect_requests: u64,
    #[serde(flatten)]
    pub accounts: Accounts,
}

/// Accounts, and how many of them were found what.
#[derive(Clone, Copy, Default, Serialize)]
pub struct Accounts {
    pub accounts: usize,
    pub suspect: usize,
    pub blocked: usize,
}

/// How a correlation fared.
#[derive(Serialize)]
pub struct Correlation {
    pub name: String,
    /// Keys that it came to hold for, by whose accounts they had.
    pub fired: Fired,
    /// Requests that it counted for.
    pub hits: BTreeMap<String, u64>,
}

/// What accounts of a source were flagged by.
struct Flags {
    source: String,
    accounts: u64,
    /// Signatures that held for the first suspect request of an account, with how many accounts.
    signatures: Vec<(String, u64)>,
}

impl Report {
    pub fn new(
        scenario: &Scenario,
        noise: Option<f64>,
        ruleset: &Ruleset,
        world: &World,
        tally: &Tally,
        took: Duration,
    ) -> Self {
        let mut benign = Benign::default();
        let mut campaigns = Vec::new();
        for (number, (source, counts)) in world.sources.iter().zip(&tally.sources).enumerate() {
            let used = || {
                let own = world.accounts.iter().filter(move |account| account.source == number);
                own.filter(|account| account.requests > 0)
            };
            match &source.campaign {
                Some(campaign) => {
                    campaigns.push(Campaign::new(&source.name, campaign.mark, counts, used()));
                }
                None => benign.add(&source.name, counts, used()),
            }
        }
        Self {
            requests: tally.requests,
            campaigns,
            benign,
            correlations: correlations(ruleset, world, tally),
            scale: scenario.scale,
            days: scenario.days,
            seed: scenario.seed,
            noise,
            took,
            flags: flags(ruleset, world, tally),
        }
    }

    pub fn json(&self) -> Result<Value> {
        let unable = |error: serde_json::Error| crate::cli::Failure::Unable(error.to_string());
        serde_json::to_value(self).map_err(unable)
    }

    pub fn text(&self, title: &str) -> Result<()> {
        let seconds = self.took.as_secs_f64().max(1e-9);
        line(format_args!(
            "{title}\n{} requests in {} days, seed {}, {:.1} s, {:.0} requests/s",
            self.requests,
            self.days,
            self.seed,
            seconds,
            self.requests as f64 / seconds,
        ))?;
        if self.scale != 1.0 {
            line(format_args!(
                "scaled: {} times the accounts of the scenario, each with its own traffic",
                self.scale
            ))?;
        }
        if !self.campaigns.is_empty() {
            line(format_args!(
                "\n{:<16} {:>8} {:>8} {:>9} {:>10} {:>10} {:>8} {:>14} {:>12}",
                "campaign",
                "accounts",
                "flagged",
                "",
                "exchanges",
                "first flag",
                "leakage",
                "by the mark",
                "own requests"
            ))?;
        }
        for campaign in &self.campaigns {
            campaign.text()?;
        }
        self.benign.text()?;
        self.explain()
    }

    /// Which correlations fired for whom, and what accounts were flagged by.
    fn explain(&self) -> Result<()> {
        if !self.correlations.is_empty() {
            line(format_args!(
                "\n{:<44} {:>8} {:>8} {:>8}  requests that it counted for",
                "correlation: keys it fired for", "campaign", "benign", "both"
            ))?;
        }
        for correlation in &self.correlations {
            let Fired { campaign, benign, both } = correlation.fired;
            let hits: Vec<String> =
                correlation.hits.iter().map(|(source, hits)| format!("{source} {hits}")).collect();
            line(format_args!(
                "{:<44} {campaign:>8} {benign:>8} {both:>8}  {}",
                correlation.name,
                hits.join(", ")
            ))?;
        }
        if !self.flags.is_empty() {
            line(format_args!("\nwhat held when accounts were flagged, and for how many of them"))?;
        }
        for flags in &self.flags {
            let rows: Vec<String> =
                flags.signatures.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let head = format!("{} ({})", flags.source, flags.accounts);
            line(format_args!("{head:<26} {}", rows.join(", ")))?;
        }
        Ok(())
    }
}

impl Campaign {
    fn new<'a>(
        name: &str,
        mark: f64,
        counts: &Counts,
        accounts: impl Iterator<Item = &'a Account>,
    ) -> Self {
        let until = f64::from(counts.exchanges) * mark / 100.0;
        let accounts: Vec<&Account> = accounts.collect();
        let all = accounts.len();
        let allowed = (until / all.max(1) as f64).ceil().max(1.0);
        let flagged: Vec<&&Account> = accounts.iter().filter(|own| own.flagged > 0).collect();
        let first = flagged.iter().map(|account| account.flagged).min();
        let is_prompt = |account: &&&&Account| {
            f64::from(account.flagged) <= until || f64::from(account.after) <= allowed
        };
        let prompt = flagged.iter().filter(is_prompt).count();
        let mut after: Vec<u32> = flagged.iter().map(|account| account.after).collect();
        after.sort_unstable();
        let share = |percent: usize| after.get(after.len().saturating_sub(1) * percent / 100);
        let own_requests = [50, 95].map(|percent| share(percent).copied().unwrap_or_default());
        let flagged = flagged.len();
        Self {
            name: name.to_owned(),
            accounts: all,
            flagged,
            exchanges: counts.exchanges,
            first_flag_at: first,
            leakage: f64::from(counts.leaked) / f64::from(counts.exchanges.max(1)),
            by_mark: prompt as f64 / all.max(1) as f64,
            own_requests,
            mark,
        }
    }

    fn text(&self) -> Result<()> {
        let first = self.first_flag_at.map_or("-".to_owned(), |first| first.to_string());
        line(format_args!(
            "{:<16} {:>8} {:>8} {:>8.1}% {:>10} {first:>10} {:>7.1}% {:>8.1}% by {}% {:>12}",
            self.name,
            self.accounts,
            self.flagged,
            percent(self.flagged, self.accounts),
            self.exchanges,
            100.0 * self.leakage,
            100.0 * self.by_mark,
            self.mark,
            own(self.own_requests),
        ))
    }
}

impl Benign {
    fn add<'a>(
        &mut self,
        name: &str,
        counts: &Counts,
        accounts: impl Iterator<Item = &'a Account>,
    ) {
        let kind = self.by_kind.entry(name.to_owned()).or_default();
        self.requests += counts.requests;
        kind.requests += counts.requests;
        kind.suspect_requests += counts.suspect;
        for account in accounts {
            for sum in [&mut self.accounts, &mut kind.accounts] {
                sum.accounts += 1;
                sum.suspect += usize::from(account.flagged > 0);
                sum.blocked += usize::from(account.is_blocked);
            }
        }
    }

    fn text(&self) -> Result<()> {
        line(format_args!(
            "\n{:<20} {:>10} {:>10} {:>9} {:>8} {:>18}",
            "benign", "accounts", "requests", "≥suspect", "blocked", "suspect requests"
        ))?;
        for (name, kind) in &self.by_kind {
            let Accounts { accounts, suspect, blocked } = kind.accounts;
            line(format_args!(
                "{name:<20} {accounts:>10} {:>10} {suspect:>9} {blocked:>8} {:>18}",
                kind.requests, kind.suspect_requests
            ))?;
        }
        let Accounts { accounts, suspect, blocked } = self.accounts;
        line(format_args!(
            "{:<20} {accounts:>10} {:>10} {suspect:>9} {blocked:>8}   {:.2} in 10,000 accounts",
            "all",
            self.requests,
            100.0 * percent(suspect, accounts)
        ))
    }
}

/// One line a run: what several noise levels come to.
pub fn compare(reports: &[Report]) -> Result<()> {
    line(format_args!(
        "\n{:>6}  {:<16} {:>8} {:>9} {:>10} {:>8} {:>12} {:>12} {:>10} {:>8}",
        "noise",
        "campaign",
        "accounts",
        "flagged",
        "first flag",
        "leakage",
        "by the mark",
        "own requests",
        "≥suspect",
        "blocked"
    ))?;
    for report in reports {
        for campaign in &report.campaigns {
            let noise = report.noise.map_or("-".to_owned(), |noise| format!("{noise}%"));
            let first = campaign.first_flag_at.map_or("-".to_owned(), |first| first.to_string());
            line(format_args!(
                "{noise:>6}  {:<16} {:>8} {:>8.1}% {first:>10} {:>7.1}% {:>11.1}% {:>12} {:>10} {:>8}",
                campaign.name,
                campaign.accounts,
                percent(campaign.flagged, campaign.accounts),
                100.0 * campaign.leakage,
                100.0 * campaign.by_mark,
                own(campaign.own_requests),
                report.benign.accounts.suspect,
                report.benign.accounts.blocked,
            ))?;
        }
    }
    Ok(())
}

/// `1, 95%: 4`.
fn own([half, most]: [u32; 2]) -> String {
    format!("{half}, 95%: {most}")
}

fn correlations(ruleset: &Ruleset, world: &World, tally: &Tally) -> Vec<Correlation> {
    let first = ruleset.first_correlation();
    let rows = ruleset.signatures().iter().enumerate().skip(first);
    let row = |(place, signature): (usize, &hedgerow::signature::Signature)| {
        let fired = tally.fired.get(place).copied().unwrap_or_default();
        let mut hits: BTreeMap<String, u64> = BTreeMap::new();
        for (source, counts) in world.sources.iter().zip(&tally.sources) {
            let count = counts.hits.get(place).copied().unwrap_or_default();
            if count > 0 {
                *hits.entry(source.name.clone()).or_default() += count;
            }
        }
        Correlation { name: signature.name.clone(), fired, hits }
    };
    rows.map(row).collect()
}

fn flags(ruleset: &Ruleset, world: &World, tally: &Tally) -> Vec<Flags> {
    let row = |(place, (source, counts)): (usize, (&super::source::Source, &Counts))| {
        let named = ruleset.signatures().iter().zip(&counts.flags);
        let mut signatures: Vec<(String, u64)> = named
            .filter(|(_, count)| **count > 0)
            .map(|(signature, count)| (signature.name.clone(), *count))
            .collect();
        signatures.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), name.clone()));
        signatures.truncate(MOST_SIGNATURES);
        let accounts = world.accounts.iter().filter(|account| account.flagged > 0);
        let accounts = accounts.filter(|account| account.source == place).count() as u64;
        (accounts > 0).then(|| Flags { source: source.name.clone(), accounts, signatures })
    };
    world.sources.iter().zip(&tally.sources).enumerate().filter_map(row).collect()
}

/// Signatures that are named of a source.
const MOST_SIGNATURES: usize = 8;

/// Several reports, as one object.
pub fn runs(reports: &[Report]) -> Result<Value> {
    let runs: Result<Vec<Value>> = reports.iter().map(Report::json).collect();
    Ok(json!({ "runs": runs? }))
}
