//! `hedgerow calibrate CORPUS… [--prior-sd DB] [--seed N] [--no-correlate] [--write DIR]`:
//! estimates weights from recorded, labelled requests.
//!
//! A tool is a program that sent requests. Every tool counts as one observation, however many
//! requests it sent. docs/calibration.md describes the estimates.

mod estimate;
mod leave_one_out;
mod likelihood;
mod proposal;
mod reliability;
mod report;
mod tools;
mod weight_files;

use std::path::{Path, PathBuf};

use estimate::Settings;
use report::CalibrationReport;

use crate::cmd::evaluate::{ScoringOptions, find_files, score_corpus};
use crate::error::{Outcome, Result};
use crate::rules::RulesetArgs;
use crate::terminal::{Format, print_error, print_json, print_text};

#[derive(clap::Args)]
pub struct CalibrateArgs {
    /// Estimate from these recordings: files, directories (all `*.jsonl` files below them) or
    /// patterns with `*`. Each line is a JSON object as for `replay`, with a `label`, and with
    /// `tool`, `task` and `account` if they are known.
    #[arg(required = true, value_name = "CORPUS")]
    corpus: Vec<String>,
    /// Use this standard deviation, in decibans, of the prior around the written weights. The
    /// higher it is, the more closely the estimates follow the corpus.
    #[arg(long, value_name = "DB", default_value_t = 5.0, value_parser = parse_deviation)]
    prior_sd: f64,
    /// Use this seed for the resampling of tools.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Score each request alone, without correlations. The weights of correlations are not
    /// estimated.
    #[arg(long)]
    no_correlate: bool,
    /// Write the proposed weights into the rule files of this directory. If the directory is a
    /// layer of the settings, the other layers are read, too, but not changed.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &CalibrateArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let files = find_files(&args.corpus)?;
    let ruleset = args.ruleset.load(config)?;
    let options = ScoringOptions { correlate: !args.no_correlate, disguises: false };
    let corpus = score_corpus(&files, &ruleset, options)?;
    for problem in &corpus.unreadable {
        print_error(problem);
    }
    let settings = Settings { prior_sd: args.prior_sd, seed: args.seed };
    let report = CalibrationReport::new(&corpus, ruleset.policy(), settings)?;
    match format {
        Format::Json => print_json(&report)?,
        Format::Text => print_text(&report.to_text())?,
    }
    if let Some(directory) = &args.write {
        for change in weight_files::write(directory, config, &report.signatures)? {
            print_error(&change);
        }
    }
    Ok(Outcome::from_complete(corpus.unreadable.is_empty()))
}

fn parse_deviation(text: &str) -> std::result::Result<f64, String> {
    let deviation = text.parse().ok().filter(|deviation| (0.5..=30.0).contains(deviation));
    deviation.ok_or_else(|| "expected decibans from 0.5 to 30".to_owned())
}
