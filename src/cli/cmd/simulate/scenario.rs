//! Scenario files, which define sources of traffic, their size and their times.
//!
//! Like `policy.toml`, a file is checked as a whole: all errors are reported at once.

use std::ops::RangeInclusive;

use ::toml::de::DeTable;
use hedgerow_sigma::toml::{
    TomlDiagnostics, check_unique, entries, number, text, unsigned_integer, value,
};
use hedgerow_sigma::{Finding, RuleFile, toml};
use serde::{Deserialize, Serialize};

use crate::dates::start_of_day_utc;

/// The traffic to simulate: benign sources and campaigns. The file is TOML.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Purpose of the scenario, in one line.
    pub title: String,
    /// Seed of all random numbers.
    #[serde(default)]
    pub seed: u64,
    /// First day, in UTC. It determines which days are weekends.
    #[serde(default = "default_start")]
    pub start: String,
    /// Length in days.
    pub days: u32,
    /// Factor by which all numbers of accounts are multiplied.
    #[serde(default = "default_scale")]
    pub scale: f64,
    /// Hour at which keys are migrated and a new model is released; default: half of the scenario's
    /// length.
    pub turnover: Option<f64>,
    /// Whether the simulated deployment has a set of known prompts that contains the public
    /// collection. Some sources take their prompts from this collection.
    #[serde(default)]
    pub known_prompts: bool,
    /// Sources of benign requests, which no rule should flag.
    #[serde(default)]
    pub benign: Vec<BenignSpec>,
    /// Campaigns: sources of harvesting requests.
    #[serde(default)]
    pub campaign: Vec<CampaignSpec>,
}

/// Benign accounts of one kind.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenignSpec {
    pub kind: BenignKind,
    /// Number of accounts.
    pub accounts: u32,
    /// Mean number of requests per account and day; default: the rate of the kind.
    pub daily: Option<f64>,
    /// Number of tools, companies or gateways; default: the number of accounts divided by the group
    /// size of the kind.
    pub groups: Option<u32>,
    /// Hour from the start of the scenario at which the accounts begin.
    #[serde(default)]
    pub begins: f64,
    /// Hours over which the accounts begin, one after the other.
    #[serde(default)]
    pub gradual: f64,
    /// Whether all accounts belong to one tenant, which the origin names.
    #[serde(default)]
    pub one_tenant: bool,
}

/// A kind of benign account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenignKind {
    /// People who chat.
    People,
    /// Users of a popular app or extension, each with their own API key.
    SharedTool,
    /// A service that answers from documents, around the clock.
    RagService,
    /// A service that answers from documents with the unchanged prompt of a framework.
    FrameworkPrompt,
    /// A program that translates, classifies or extracts in batches.
    SdkProgram,
    /// Evaluations of an account owner's assistant, at night or around the clock.
    NightlyEval,
    /// Accounts of one company. At one hour, all of them are replaced by new accounts.
    KeyMigration,
    /// Tests in continuous integration: one key, many machines.
    CiTeamKey,
    /// A small team with a large batch.
    LargeBatch,
    /// People behind a gateway that hides their addresses and clients.
    HiddenClients,
    /// People whose client sends no user agent.
    PrivacyStripping,
    /// A nightly job that asks for the reasons of business decisions, for an audit file.
    AuditTrail,
    /// A router that sends a refused request again with the next key of its customer.
    FailoverRouter,
    /// Comparisons of a new model on the day of its release.
    ReleaseDay,
    /// A fixed set of prompts every night.
    RegressionSuite,
    /// Programmers who send an example request from a vendor's documentation. The example contains
    /// a placeholder for signed reasoning.
    VendorExample,
    /// Pods of one company behind one load balancer, each with its own keys.
    Pods,
    /// An evaluation that asks all prompts of a public collection, one after the other.
    PublicEvaluation,
    /// Users of an app that automatically sends one request per user and hour.
    ScheduledJob,
    /// A customer who spreads a batch job over several of their own keys, without repeating a
    /// prompt.
    ShardedJob,
    /// Users of an app as in `ScheduledJob`, but on phones, whose networks change all the time.
    RoamingApp,
}

/// A campaign: accounts that harvest together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignSpec {
    /// Name in reports.
    pub name: String,
    /// Tasks of its templates. The templates take the tasks in turn.
    pub tasks: Vec<PromptKind>,
    /// Number of accounts in use at the same time.
    pub accounts: u32,
    /// Number of accounts that replace banned accounts.
    #[serde(default)]
    pub reserve: u32,
    /// Mean requests per account and day.
    pub daily: f64,
    /// Hour from the start of the scenario at which the campaign begins.
    #[serde(default = "default_begins")]
    pub begins: f64,
    /// Hours over which its accounts begin, one after the other.
    #[serde(default)]
    pub gradual: f64,
    /// Hour from the start of the scenario at which the campaign ends; default: never.
    pub ends: Option<f64>,
    /// Kind of the benign accounts that share a correlation key with the campaign, so that the
    /// campaign's requests look like requests of these accounts.
    pub target: Option<BenignKind>,
    /// The correlation key that the campaign shares with its target.
    #[serde(default)]
    pub shares: SharedKey,
    /// Status of all answers; default: 200 for 99.6 % of the requests, and 429 or 503 for the
    /// others.
    pub status: Option<u16>,
    /// Mean hours from the flag of an account to the ban of the account; default: accounts are
    /// never banned.
    pub banned_after: Option<f64>,
    /// Number of prompt templates, which its accounts share.
    #[serde(default = "default_templates")]
    pub templates: u32,
    /// Percentage of its requests that are ordinary questions.
    #[serde(default = "default_ordinary")]
    pub ordinary: f64,
    /// Percentage of its requests whose template is paraphrased.
    #[serde(default = "default_noise")]
    pub noise: f64,
    /// Number of networks of its addresses.
    #[serde(default = "default_networks")]
    pub networks: u32,
    /// Whether its templates consist of random words, so that no signature matches their text. Then
    /// only the campaign's behaviour can be detected.
    #[serde(default)]
    pub unknown_wording: bool,
    /// Percentage of its exchanges within which its accounts should be flagged.
    #[serde(default = "default_detect_within")]
    pub detect_within: f64,
}

/// The kind of correlation key that a campaign shares with benign accounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedKey {
    /// The prompt of the benign accounts' most popular template.
    #[default]
    Prompt,
    /// The address of the benign accounts' largest gateway.
    Address,
}

/// A task of a campaign: the kind of output that its prompts ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PromptKind {
    /// Reasoning in tags before the answer.
    Tags,
    /// The reasoning behind a finished answer.
    Traces,
    /// Grades by a rubric.
    Grading,
    /// Cleaned transcripts.
    Cleaning,
    /// Questions and answers by persona and topic.
    Sweeps,
    /// Questions of customers of a relay, in many languages and from many clients.
    Relay,
    /// Expansions of saved reasoning.
    Replays,
    /// Expansions of the placeholder that a vendor's documentation uses in place of reasoning.
    PublicReplays,
    /// Requests like those of the target, and nothing else.
    Imitation,
    /// Answers to the prompts of a public collection. The accounts divide the prompts among
    /// themselves.
    KnownPrompts,
}

impl BenignKind {
    /// Returns the name in scenarios and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::People => "people",
            Self::SharedTool => "shared_tool",
            Self::RagService => "rag_service",
            Self::FrameworkPrompt => "framework_prompt",
            Self::SdkProgram => "sdk_program",
            Self::NightlyEval => "nightly_eval",
            Self::KeyMigration => "key_migration",
            Self::CiTeamKey => "ci_team_key",
            Self::LargeBatch => "large_batch",
            Self::HiddenClients => "hidden_clients",
            Self::PrivacyStripping => "privacy_stripping",
            Self::AuditTrail => "audit_trail",
            Self::FailoverRouter => "failover_router",
            Self::ReleaseDay => "release_day",
            Self::RegressionSuite => "regression_suite",
            Self::VendorExample => "vendor_example",
            Self::Pods => "pods",
            Self::PublicEvaluation => "public_evaluation",
            Self::ScheduledJob => "scheduled_job",
            Self::ShardedJob => "sharded_job",
            Self::RoamingApp => "roaming_app",
        }
    }
}

impl Scenario {
    /// Parses and checks a file. The error lists all findings, sorted by line and column.
    pub fn parse(path: &str, text: &str) -> Result<Self, Vec<Finding>> {
        let source = RuleFile { path: path.to_owned(), text: text.to_owned() };
        let mut findings = Vec::new();
        let scenario = parse_and_check(&mut TomlDiagnostics {
            file: &source,
            findings: &mut findings,
            help: SETTINGS_HELP,
        });
        findings.sort();
        findings.dedup();
        scenario.filter(|_| findings.is_empty()).ok_or(findings)
    }

    /// Returns the start of the scenario in seconds since the epoch.
    pub fn start_time(&self) -> u32 {
        start_of_day_utc(&self.start).map_or(0, |start| u32::try_from(start).unwrap_or(u32::MAX))
    }
}

fn parse_and_check(diagnostics: &mut TomlDiagnostics<'_>) -> Option<Scenario> {
    let document = toml::read(diagnostics)?;
    check_required_keys(&document, diagnostics);
    if let Some((offset, start)) = text(&document, "start")
        && start_of_day_utc(start).is_none()
    {
        let problem = format!("'{start}' is not a day");
        diagnostics.add(offset, problem, "write it as \"2026-06-01\"");
    }
    for (key, range) in SCENARIO_RANGES {
        check_range(&document, key, range, diagnostics);
    }
    for section in ["benign", "campaign"] {
        for (offset, entry) in entries(&document, section) {
            for (key, range) in ENTRY_RANGES {
                check_range(entry, key, range, diagnostics);
            }
            if let Some((offset, list)) = value(entry, "tasks")
                && list.as_array().is_some_and(|list| list.is_empty())
            {
                diagnostics.add(offset, "'tasks' is empty", "name at least one task");
            }
            check_start_hour(&document, entry, offset, diagnostics);
        }
    }
    check_unique(&document, "campaign", "name", diagnostics);
    toml::deserialize_all(document, diagnostics)
}

/// Reports missing keys of the scenario and its entries.
fn check_required_keys(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for key in ["title", "days"].iter().filter(|key| !document.contains_key(**key)) {
        diagnostics.add(0, format!("the scenario has no '{key}'"), SETTINGS_HELP);
    }
    let required_keys: [(&str, &[&str]); 2] =
        [("benign", &["kind", "accounts"]), ("campaign", &["name", "tasks", "accounts", "daily"])];
    for (section, keys) in required_keys {
        for (offset, entry) in entries(document, section) {
            for key in keys.iter().filter(|key| !entry.contains_key(**key)) {
                let problem = format!("this {section} entry has no '{key}'");
                diagnostics.add(offset, problem, SETTINGS_HELP);
            }
        }
    }
}

fn check_range(
    table: &DeTable<'_>,
    key: &str,
    range: &RangeInclusive<f64>,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    if let Some((offset, number)) = number(table, key)
        && !range.contains(&number)
    {
        let remedy = format!("give a number from {} to {}", range.start(), range.end());
        diagnostics.add(offset, format!("'{key}' is {number}: out of range"), remedy);
    }
}

/// Reports an entry that would begin at or after the end of the scenario.
fn check_start_hour(
    document: &DeTable<'_>,
    entry: &DeTable<'_>,
    offset: usize,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    let begins = number(entry, "begins");
    let Some((_, days)) = unsigned_integer(document, "days") else { return };
    let is_campaign = entry.contains_key("tasks");
    let (offset, hour) =
        begins.unwrap_or((offset, if is_campaign { default_begins() } else { 0.0 }));
    if hour >= 24.0 * days as f64 {
        let problem = format!("it begins at hour {hour}: the scenario has only {days} days");
        diagnostics.add(offset, problem, "set 'begins' below 24 times 'days'");
    }
}

/// Allowed ranges of the numbers at the top level of a scenario.
const SCENARIO_RANGES: &[(&str, RangeInclusive<f64>)] =
    &[("days", 1.0..=40.0), ("scale", 0.0001..=100.0), ("turnover", 0.0..=960.0)];

/// Allowed ranges of the numbers in `benign` and `campaign` entries.
const ENTRY_RANGES: &[(&str, RangeInclusive<f64>)] = &[
    ("accounts", 1.0..=1e6),
    ("reserve", 0.0..=1e6),
    ("daily", 0.01..=1e6),
    ("groups", 1.0..=1e5),
    ("begins", 0.0..=960.0),
    ("gradual", 0.0..=960.0),
    ("ends", 0.0..=960.0),
    ("status", 200.0..=599.0),
    ("banned_after", 0.1..=960.0),
    ("templates", 1.0..=1000.0),
    ("ordinary", 0.0..=100.0),
    ("noise", 0.0..=100.0),
    ("networks", 1.0..=1000.0),
    ("detect_within", 0.0..=100.0),
];

const SETTINGS_HELP: &str = "docs/simulation.md shows every setting";

fn default_start() -> String {
    "2026-06-01".to_owned()
}

fn default_scale() -> f64 {
    1.0
}

fn default_detect_within() -> f64 {
    2.0
}

fn default_networks() -> u32 {
    4
}

fn default_templates() -> u32 {
    6
}

fn default_ordinary() -> f64 {
    20.0
}

fn default_noise() -> f64 {
    20.0
}

fn default_begins() -> f64 {
    24.0
}
