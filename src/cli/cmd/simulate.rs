//! `hedgerow simulate SCENARIO.toml [--ruleset BUNDLE] [--noise 0,20,40,60] [--unknown-wording]
//! [--detect-within PERCENT] [--no-correlate]`: plays a scenario through the engine of the edge.
//!
//! A seeded generator writes one request after the other, in the order of time. Each request is
//! read, assessed, counted and correlated as at the edge.

mod account;
mod arrivals;
mod client_profile;
mod engine;
mod kind_profile;
mod metrics;
mod prompt_catalog;
mod prompt_template;
mod report;
mod request_writer;
mod rng;
mod scenario;
mod simulation;
mod traffic_source;
mod vocabulary;

use std::path::{Path, PathBuf};
use std::time::Instant;

use engine::SimulationEngine;
use hedgerow_core::Ruleset;
use hedgerow_core::seeds::{CompiledSeeds, SeedFile, SeedSet, build, prompt_features};
use hedgerow_sigma::Finding;
use indicatif::{ProgressBar, ProgressStyle};
use metrics::Metrics;
use report::Report;
pub use rng::Rng;
use scenario::Scenario;
use simulation::Simulation;

use crate::error::{Error, Outcome, Result, io_error};
use crate::rules::RulesetArgs;
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct SimulateArgs {
    /// Play this scenario; `scenarios/` contains examples.
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Paraphrase this percentage of campaign requests, instead of the scenario's percentage;
    /// several values are compared in a table.
    #[arg(long, value_name = "PERCENT,…", value_delimiter = ',', value_parser = parse_percent)]
    noise: Vec<f64>,
    /// Replace the instructions of all campaigns by instructions of random words, which no
    /// signature matches.
    #[arg(long)]
    unknown_wording: bool,
    /// Count accounts as flagged in time if they are flagged within this percentage of their
    /// campaign's exchanges, instead of the scenario's percentage.
    #[arg(long, value_name = "PERCENT", value_parser = parse_percent)]
    detect_within: Option<f64>,
    /// Use this seed of random numbers instead of the scenario's seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Multiply the numbers of accounts by this factor instead of the scenario's factor.
    #[arg(long, value_parser = parse_scale)]
    scale: Option<f64>,
    /// Score each request alone, without correlations.
    #[arg(long)]
    no_correlate: bool,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &SimulateArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let path = &args.scenario;
    let text = std::fs::read_to_string(path).map_err(|error| io_error(path, &error))?;
    let mut scenario = match Scenario::parse(&path.display().to_string(), &text) {
        Ok(scenario) => scenario,
        Err(findings) => return print_scenario_findings(&findings, format),
    };
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    scenario.scale = args.scale.unwrap_or(scenario.scale);
    for campaign in &mut scenario.campaign {
        campaign.unknown_wording |= args.unknown_wording;
        campaign.detect_within = args.detect_within.unwrap_or(campaign.detect_within);
    }
    let mut ruleset = args.ruleset.load(config)?;
    if scenario.known_prompts {
        ruleset = ruleset.with_seeds(known_prompt_set()?);
    }
    let noise_levels: Vec<Option<f64>> = match args.noise.as_slice() {
        [] => vec![None],
        noise_levels => noise_levels.iter().copied().map(Some).collect(),
    };
    let mut reports = Vec::new();
    for noise in noise_levels {
        let report = run_scenario(&scenario, noise, &ruleset, !args.no_correlate);
        if format == Format::Text {
            report.print_text(&scenario.title)?;
        }
        reports.push(report);
    }
    match (format, reports.as_slice()) {
        (Format::Json, [report]) => print_json(&report.to_json()?)?,
        (Format::Json, reports) => print_json(&report::runs_to_json(reports)?)?,
        (Format::Text, [_]) => {}
        (Format::Text, reports) => report::print_comparison(reports)?,
    }
    Ok(Outcome::Success)
}

/// Returns a set of known prompts that contains the simulated public collection.
fn known_prompt_set() -> Result<CompiledSeeds> {
    let prompts = prompt_catalog::known_prompts();
    let features: Vec<_> = prompts.iter().filter_map(|text| prompt_features(text)).collect();
    let (filter, count) = build(&features)
        .ok_or_else(|| Error::Io("the set of public prompts is empty".to_owned()))?;
    let filter = SeedFile::new(&filter, count);
    CompiledSeeds::new(&[SeedSet { name: "known_prompts".to_owned(), filter }])
        .map_err(|error| Error::Io(error.to_string()))
}

/// Plays a scenario from its start to its end.
fn run_scenario(
    scenario: &Scenario,
    noise: Option<f64>,
    ruleset: &Ruleset,
    is_correlating: bool,
) -> Report {
    let mut simulation = Simulation::new(scenario, noise);
    let mut engine = SimulationEngine::new(ruleset, is_correlating);
    let mut metrics = Metrics::new(ruleset, simulation.sources.len());
    let (bar, start_time) = (progress_bar(simulation.end_ms()), scenario.start_time());
    let start = Instant::now();
    while let Some(request) = simulation.next_request() {
        let now = start_time.saturating_add((request.at_ms / 1_000) as u32);
        let account =
            simulation.accounts.get(request.account).map_or("", |account| account.id.as_str());
        let source = simulation.accounts.get(request.account).map_or(0, |account| account.source);
        let tenant = simulation.sources.get(source).and_then(|source| source.tenant.as_deref());
        let Some(verdict) =
            engine.evaluate(&simulation.writer, account, tenant, now, request.status)
        else {
            continue;
        };
        metrics.record(&mut simulation, request, &verdict);
        if let Some(account) = simulation.accounts.get(request.account) {
            metrics.record_leak(account, engine.clusters(), request.status);
        }
        if metrics.requests.is_multiple_of(REQUESTS_PER_PROGRESS_UPDATE) {
            bar.set_position(request.at_ms / 60_000);
        }
    }
    bar.finish_and_clear();
    Report::new(scenario, noise, ruleset, &simulation, &metrics, start.elapsed())
}

/// Prints the errors in a scenario file.
fn print_scenario_findings(findings: &[Finding], format: Format) -> Result<Outcome> {
    match format {
        Format::Json => print_json(&serde_json::json!({ "findings": findings }))?,
        Format::Text => {
            for finding in findings {
                print_line(format_args!("{finding}"))?;
            }
            print_line(format_args!("{} findings", findings.len()))?;
        }
    }
    Ok(Outcome::Findings)
}

/// Returns a progress bar over the minutes of a scenario.
fn progress_bar(end_ms: u64) -> ProgressBar {
    let bar = ProgressBar::new(end_ms / 60_000);
    let style =
        ProgressStyle::with_template("{bar:40} {percent}% of the time {elapsed} {eta} left");
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}

fn parse_percent(text: &str) -> std::result::Result<f64, String> {
    parse_number_in_range(text, 0.0, 100.0)
}

fn parse_scale(text: &str) -> std::result::Result<f64, String> {
    parse_number_in_range(text, 0.0001, 100.0)
}

fn parse_number_in_range(text: &str, min: f64, max: f64) -> std::result::Result<f64, String> {
    let number = text.trim().parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("expected a number from {min} to {max}"))
}

/// Number of requests between two updates of the progress bar.
const REQUESTS_PER_PROGRESS_UPDATE: u64 = 10_000;
