//! `hedgerow simulate SCENARIO.toml [--ruleset BUNDLE] [--noise 0,20,40,60] [--no-correlate]`
//!
//! A seeded generator of traffic, piped through the same engine as the edge: bodies are written, read,
//! assessed, counted and correlated, request by request, in the order of their time.

mod account;
mod client;
mod draft;
mod engine;
mod pace;
mod pattern;
mod phrases;
mod report;
mod rng;
mod scenario;
mod source;
mod tally;
mod words;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hedgerow::Ruleset;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Format, Outcome, Result, RulesOptions, print, unable};
use engine::Engine;
use report::Report;
use scenario::Scenario;
use tally::Tally;
use world::World;

#[derive(clap::Args)]
pub struct Options {
    /// Who sends what, how much and when: `scenarios/` has some.
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Share of campaign requests whose template is paraphrased, in percent, instead of what the scenario
    /// says; several make a table.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', value_parser = percentage)]
    noise: Vec<f64>,
    /// What chance begins with, instead of what the scenario says.
    #[arg(long)]
    seed: Option<u64>,
    /// What numbers of accounts are multiplied by, instead of what the scenario says.
    #[arg(long, value_parser = factor)]
    scale: Option<f64>,
    /// Score each request for itself, without correlations.
    #[arg(long)]
    no_correlate: bool,
    #[command(flatten)]
    rules: RulesOptions,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let path = &options.scenario;
    let text = std::fs::read_to_string(path).map_err(|error| unable(path, &error))?;
    let mut scenario = match Scenario::parse(&path.display().to_string(), &text) {
        Ok(scenario) => scenario,
        Err(findings) => return report_findings(&findings, format),
    };
    scenario.seed = options.seed.unwrap_or(scenario.seed);
    scenario.scale = options.scale.unwrap_or(scenario.scale);
    let ruleset = options.rules.load()?;
    let levels: Vec<Option<f64>> = match options.noise.as_slice() {
        [] => vec![None],
        levels => levels.iter().copied().map(Some).collect(),
    };
    let mut reports = Vec::new();
    for noise in levels {
        let report = play(&scenario, noise, &ruleset, !options.no_correlate);
        if format == Format::Text {
            report.text(&scenario.title)?;
        }
        reports.push(report);
    }
    match (format, reports.as_slice()) {
        (Format::Json, [report]) => print(&report.json()?)?,
        (Format::Json, reports) => print(&report::runs(reports)?)?,
        (Format::Text, [_]) => {}
        (Format::Text, reports) => report::compare(reports)?,
    }
    Ok(Outcome::Fine)
}

/// Plays a scenario from its start to its end.
fn play(
    scenario: &Scenario,
    noise: Option<f64>,
    ruleset: &Ruleset,
    is_correlating: bool,
) -> Report {
    let mut world = World::new(scenario, noise);
    let mut engine = Engine::new(ruleset, is_correlating);
    let mut tally = Tally::new(ruleset, world.sources.len());
    let (bar, starts) = (progress(world.end()), scenario.starts());
    let stopwatch = stopwatch();
    while let Some(sent) = world.next() {
        let now = starts.saturating_add((sent.at / 1_000) as u32);
        let account = world.accounts.get(sent.account).map_or("", |account| account.name.as_str());
        let Some(verdict) = engine.judge(&world.writer, account, now, sent.status) else {
            continue;
        };
        tally.add(&mut world, sent, &verdict);
        if let Some(account) = world.accounts.get(sent.account) {
            tally.leaks(account, engine.clusters(), sent.status);
        }
        if tally.requests.is_multiple_of(BETWEEN) {
            bar.set_position(sent.at / 60_000);
        }
    }
    bar.finish_and_clear();
    Report::new(scenario, noise, ruleset, &world, &tally, stopwatch())
}

/// Prints what is wrong with a scenario.
fn report_findings(findings: &[hedgerow::sigma::Finding], format: Format) -> Result<Outcome> {
    match format {
        Format::Json => print(&serde_json::json!({ "findings": findings }))?,
        Format::Text => {
            for finding in findings {
                super::line(format_args!("{finding}"))?;
            }
            super::line(format_args!("{} findings", findings.len()))?;
        }
    }
    Ok(Outcome::Findings)
}

/// Tells how long it has been since.
#[allow(clippy::disallowed_methods, reason = "the command line is a host: it has a clock")]
fn stopwatch() -> impl Fn() -> Duration {
    let start = Instant::now();
    move || start.elapsed()
}

/// A bar over the minutes of a scenario.
fn progress(end: u64) -> ProgressBar {
    let bar = ProgressBar::new(end / 60_000);
    let style =
        ProgressStyle::with_template("{bar:40} {percent}% of the time {elapsed} {eta} left");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

fn percentage(text: &str) -> std::result::Result<f64, String> {
    number(text, 0.0, 100.0)
}

fn factor(text: &str) -> std::result::Result<f64, String> {
    number(text, 0.0001, 100.0)
}

fn number(text: &str, least: f64, most: f64) -> std::result::Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| format!("give a number from {least} to {most}"))
}

/// Requests between two looks at the bar.
const BETWEEN: u64 = 10_000;
