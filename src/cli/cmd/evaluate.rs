//! `hedgerow evaluate CORPUS… [-o PAGE] [--disguises] [--no-correlate] [--ruleset BUNDLE]`:
//! measures detection on recorded, labelled requests.
//!
//! Requests labelled `harvest` should be detected; requests labelled `benign` should not. Requests
//! with other labels are reported, but count neither in the true nor in the false positive rate.

mod ablation;
mod corpus;
mod disguise;
mod language;
mod markdown;
mod page;
mod report;
mod scored;
mod scoring;
mod statistics;

use std::path::{Path, PathBuf};

pub use corpus::find_files;
use report::EvaluationReport;
#[cfg(test)]
pub use scored::ScoredVerdict;
pub use scored::{BENIGN, Corpus, HARVEST, ScoredRequest, SignatureTable};
pub use scoring::{ScoringOptions, score_corpus};
pub use statistics::clopper_pearson;

use crate::error::{Outcome, Result};
use crate::rules::RulesetArgs;
use crate::terminal::{Format, print_error, print_json, print_text};

#[derive(clap::Args)]
pub struct EvaluateArgs {
    /// Measure on these recordings: files, directories (all `*.jsonl` files below them) or patterns
    /// with `*`. Each line is a JSON object as for `replay`, with a `label`, and with `tool`,
    /// `task` and `account` if they are known.
    #[arg(required = true, value_name = "CORPUS")]
    corpus: Vec<String>,
    /// Write the page to this file. If the file exists, only the part between its markers is
    /// replaced.
    #[arg(short, long, value_name = "PAGE")]
    output: Option<PathBuf>,
    /// Also measure detection under disguises, on at most 25 chat requests of each harvest run.
    #[arg(long)]
    disguises: bool,
    /// Score each request alone, without correlations.
    #[arg(long)]
    no_correlate: bool,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &EvaluateArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let files = find_files(&args.corpus)?;
    let ruleset = args.ruleset.load(config)?;
    let options = ScoringOptions { correlate: !args.no_correlate, disguises: args.disguises };
    let corpus = score_corpus(&files, &ruleset, options)?;
    for problem in &corpus.unreadable {
        print_error(problem);
    }
    let report = EvaluationReport::new(&corpus, &ruleset);
    if let Some(path) = &args.output {
        page::write(path, &markdown::format(&report))?;
    }
    match format {
        Format::Json => print_json(&report)?,
        Format::Text if args.output.is_none() => {
            print_text(&page::new(&markdown::format(&report)))?
        }
        Format::Text => {}
    }
    Ok(Outcome::from_complete(corpus.unreadable.is_empty()))
}
