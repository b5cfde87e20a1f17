//! Scenarios: who sends what, how much of it and when. A file is checked whole, like `policy.toml`.

use ::toml::de::DeTable;
use hedgerow_core::rules::policy;
use hedgerow_sigma::toml::{
    TomlDiagnostics, check_unique, entries, number, text, unsigned_integer, value,
};
use hedgerow_sigma::{Finding, RuleFile, toml};
use serde::{Deserialize, Serialize};

/// Traffic to be made.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a line.
    pub title: String,
    /// What chance begins with.
    #[serde(default)]
    pub seed: u64,
    /// The first day, in UTC: it decides which days are weekends.
    #[serde(default = "default_start")]
    pub start: String,
    /// How many days.
    pub days: u32,
    /// What the numbers of accounts are multiplied by.
    #[serde(default = "default_scale")]
    pub scale: f64,
    /// The hour at which keys are migrated and a new model comes out; half-time, if it is not said.
    pub turnover: Option<f64>,
    /// Who does no harm.
    #[serde(default)]
    pub benign: Vec<BenignSpec>,
    /// Who harvests.
    #[serde(default)]
    pub campaign: Vec<CampaignSpec>,
}

/// Accounts of one kind that do no harm.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenignSpec {
    /// The kind.
    pub kind: BenignKind,
    /// How many.
    pub accounts: u32,
    /// Requests of each a day, on average; what is usual for the kind if it is not said.
    pub daily: Option<f64>,
    /// Tools, companies or gateways that they are spread over.
    pub groups: Option<u32>,
}

/// A kind of accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BenignKind {
    /// Who chats.
    People,
    /// Who uses an app or an extension that many use, with a key of their own.
    SharedTool,
    /// A service that answers from documents, around the clock.
    RagService,
    /// The same with the prompt that a framework brings along, which many keep as it is.
    FrameworkPrompt,
    /// A program that translates, classifies or extracts, batch by batch.
    SdkProgram,
    /// Evaluations of an own assistant, at night or around the clock.
    NightlyEval,
    /// A company's accounts, which are replaced all at once.
    KeyMigration,
    /// Tests under one key from many machines.
    CiTeamKey,
    /// A small team with a large batch.
    LargeBatch,
    /// People behind a gateway that hides them.
    HiddenClients,
    /// Clients that strip what they can.
    PrivacyStripping,
    /// Reasons of decisions, put on file at night.
    AuditTrail,
    /// A router that goes to the next key of its customer when one is refused.
    FailoverRouter,
    /// Who compares a new model on the day of its release.
    ReleaseDay,
    /// The same prompts every night.
    RegressionSuite,
}

/// Accounts that harvest together.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignSpec {
    /// Its name in reports.
    pub name: String,
    /// What it asks for.
    pub tasks: Vec<Task>,
    /// Accounts that are used at the same time.
    pub accounts: u32,
    /// Accounts that take over as others are banned.
    #[serde(default)]
    pub reserve: u32,
    /// Requests of each account a day, on average.
    pub daily: f64,
    /// The hour, from the start on, at which it begins.
    #[serde(default = "default_begins")]
    pub begins: f64,
    /// Hours after which an account is banned that was found out; never, if it is not said.
    pub banned_after: Option<f64>,
    /// Templates that it uses.
    #[serde(default = "default_templates")]
    pub templates: u32,
    /// Share of ordinary traffic among its requests, in percent.
    #[serde(default = "default_ordinary")]
    pub ordinary: f64,
    /// Share of requests whose template is paraphrased, in percent.
    #[serde(default = "default_noise")]
    pub noise: f64,
    /// Networks that it comes from.
    #[serde(default = "default_networks")]
    pub networks: u32,
    /// How many of its exchanges may pass until it has to be found, in percent.
    #[serde(default = "default_detect_within")]
    pub detect_within: f64,
}

/// What a campaign asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Reasoning in tags in front of the answer.
    Tags,
    /// The reasoning behind a finished answer.
    Traces,
    /// Grades by a rubric.
    Grading,
    /// Cleaned transcripts.
    Cleaning,
    /// Questions and answers by persona and topic.
    Sweeps,
    /// What customers of a relay ask, in many languages and by many programs.
    Relay,
    /// Saved reasoning, to be expanded.
    Replays,
}

impl BenignKind {
    /// The name in scenarios and reports.
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
        }
    }
}

impl Scenario {
    /// Parses and checks a file; every problem at once, by place.
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

    /// When it starts, in seconds since the epoch.
    pub fn start_time(&self) -> u32 {
        // What counts days counts them to their end.
        let end_of_day = policy::end_of_day_utc(&self.start).unwrap_or(DAY_SECONDS);
        u32::try_from(end_of_day.saturating_sub(DAY_SECONDS)).unwrap_or(u32::MAX)
    }
}

fn parse_and_check(diagnostics: &mut TomlDiagnostics<'_>) -> Option<Scenario> {
    let document = toml::read(diagnostics)?;
    check_required_keys(&document, diagnostics);
    if let Some((offset, start)) = text(&document, "start")
        && (start.len() != 10 || policy::end_of_day_utc(start).is_none())
    {
        diagnostics.add(offset, format!("'{start}' is no day"), "write it as \"2026-06-01\"");
    }
    for (key, min, max) in SCENARIO_RANGES {
        check_range(&document, key, (*min, *max), diagnostics);
    }
    for section in ["benign", "campaign"] {
        for (offset, entry) in entries(&document, section) {
            for (key, min, max) in ENTRY_RANGES {
                check_range(entry, key, (*min, *max), diagnostics);
            }
            if let Some((offset, list)) = value(entry, "tasks")
                && list.as_array().is_some_and(|list| list.is_empty())
            {
                diagnostics.add(offset, "'tasks' is empty", "name what it asks for");
            }
            check_start_hour(&document, entry, offset, diagnostics);
        }
    }
    check_unique(&document, "campaign", "name", diagnostics);
    toml::deserialize_all(document, diagnostics)
}

/// Every entry has what makes it one.
fn check_required_keys(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    for key in ["title", "days"].iter().filter(|key| !document.contains_key(**key)) {
        diagnostics.add(0, format!("the scenario has no '{key}'"), SETTINGS_HELP);
    }
    let required_keys: [(&str, &[&str]); 2] =
        [("benign", &["kind", "accounts"]), ("campaign", &["name", "tasks", "accounts", "daily"])];
    for (section, keys) in required_keys {
        for (offset, entry) in entries(document, section) {
            for key in keys.iter().filter(|key| !entry.contains_key(**key)) {
                diagnostics.add(offset, format!("this {section} has no '{key}'"), SETTINGS_HELP);
            }
        }
    }
}

fn check_range(
    table: &DeTable<'_>,
    key: &str,
    (min, max): (f64, f64),
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    if let Some((offset, number)) = number(table, key)
        && !(min..=max).contains(&number)
    {
        let remedy = format!("give a number from {min} to {max}");
        diagnostics.add(offset, format!("'{key}' is {number}: out of range"), remedy);
    }
}

/// A campaign begins before the scenario ends.
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
        let problem = format!("it begins at hour {hour}, and the scenario has {days} days");
        diagnostics.add(offset, problem, "let 'begins' be less than 24 times 'days'");
    }
}

/// What numbers of a scenario may be.
const SCENARIO_RANGES: &[(&str, f64, f64)] =
    &[("days", 1.0, 40.0), ("scale", 0.0001, 100.0), ("turnover", 0.0, 960.0)];

/// And numbers of its entries.
const ENTRY_RANGES: &[(&str, f64, f64)] = &[
    ("accounts", 1.0, 1e6),
    ("reserve", 0.0, 1e6),
    ("daily", 0.01, 1e6),
    ("groups", 1.0, 1e5),
    ("begins", 0.0, 960.0),
    ("banned_after", 0.1, 960.0),
    ("templates", 1.0, 1000.0),
    ("ordinary", 0.0, 100.0),
    ("noise", 0.0, 100.0),
    ("networks", 1.0, 1000.0),
    ("detect_within", 0.0, 100.0),
];

const SETTINGS_HELP: &str = "docs/simulation.md shows every setting";

/// Seconds.
const DAY_SECONDS: u64 = 86_400;

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
