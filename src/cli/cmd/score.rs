//! `hedgerow score FILE|-`: scores one request.

use std::io::Read;
use std::path::{Path, PathBuf};

use hedgerow_core::Decision;
use hedgerow_core::evaluate::score::{Contribution, Score};
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::INNOCENCE_FAMILY;
use hedgerow_sigma::recorded::RecordedRequest;
use serde_json::json;

use crate::account_ids::AccountIds;
use crate::dates::now;
use crate::error::{Error, Outcome, Result, io_error};
use crate::rules::RulesetArgs;
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct ScoreArgs {
    /// Read a raw HTTP request, or a JSON line {method, path, headers, body}; `-` reads standard
    /// input.
    file: PathBuf,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &ScoreArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let ruleset = args.ruleset.load(config)?;
    let recorded = read_request(&args.file)?;
    let policy = ruleset.policy();
    let envelope = recorded.envelope(policy.scan.max_body, now());
    let endpoint = ruleset.endpoint(&envelope);
    let dialect = endpoint.unwrap_or(Endpoint::None).dialect();
    let principal = AccountIds::new().principal(&recorded, dialect, policy);
    let envelope = principal.envelope(envelope);
    let assessment = endpoint.and_then(|endpoint| ruleset.assess_as(endpoint, &envelope));
    let Some(assessment) = assessment else {
        match format {
            Format::Json => print_json(&json!({ "llm_call": false }))?,
            Format::Text => print_line(format_args!("{NOT_AN_LLM_CALL}"))?,
        }
        return Ok(Outcome::Success);
    };
    let attributes = envelope.attributes(assessment.model.as_deref());
    let disposition = ruleset.policy().disposition(&attributes);
    let score = assessment.score.clone();
    let decision = Decision::new(&ruleset, &envelope, assessment, disposition);
    match format {
        Format::Json => {
            print_json(&json!({ "llm_call": true, "decision": decision, "score": score }))?;
        }
        Format::Text => print_decision(&decision, &score)?,
    }
    Ok(Outcome::Success)
}

/// Text that is printed for a request that is not an LLM call.
pub const NOT_AN_LLM_CALL: &str = "not an LLM call: forwarded unchanged, not scored, not counted";

/// Reads one request from a file, or from standard input if the path is `-`.
pub fn read_request(path: &Path) -> Result<RecordedRequest> {
    let mut bytes = Vec::new();
    let result = match path.to_str() {
        Some("-") => std::io::stdin().read_to_end(&mut bytes).map(|_| ()),
        _ => std::fs::read(path).map(|contents| bytes = contents),
    };
    result.map_err(|error| io_error(path, &error))?;
    let recorded = RecordedRequest::parse(&bytes);
    recorded.map_err(|problem| Error::Io(format!("{}: {problem}", path.display())))
}

fn print_decision(decision: &Decision, score: &Score) -> Result<()> {
    let mode_note = if decision.is_enforced() { "" } else { " (shadow mode: recorded only)" };
    print_line(format_args!(
        "{:>6.2}  {}  {}{mode_note}",
        decision.score,
        decision.band.name(),
        decision.action.name()
    ))?;
    print_line(format_args!("{:>+6.1} dB  prior", score.prior))?;
    print_hits(decision)?;
    print_corrections(score)?;
    print_notes(decision)
}

/// Prints the hits with their weights and their evidence.
fn print_hits(decision: &Decision) -> Result<()> {
    for hit in &decision.hits {
        print_line(format_args!("{:>+6.1} dB  {}", hit.weight, hit.name))?;
        for evidence in &hit.evidence {
            print_line(format_args!(
                "           {} [{}..{}]",
                evidence.field.name(),
                evidence.start,
                evidence.end
            ))?;
        }
        for name in &hit.innocence {
            print_line(format_args!("           {name} speaks for innocence"))?;
        }
    }
    Ok(())
}

/// Prints the decibans by which innocence and the caps of families change the sum of the weights.
fn print_corrections(score: &Score) -> Result<()> {
    let contributions = score.contributions.iter();
    let is_innocence = |part: &&Contribution| part.family == INNOCENCE_FAMILY;
    if let Some(innocence) = contributions.clone().find(is_innocence) {
        print_line(format_args!("{:>+6.1} dB  innocence", innocence.raw))?;
    }
    for contribution in contributions.filter(|contribution| contribution.raw != contribution.capped)
    {
        let cap_reduction = contribution.capped - contribution.raw;
        print_line(format_args!(
            "{cap_reduction:>+6.1} dB  cap of the family {}",
            contribution.family
        ))?;
    }
    Ok(())
}

/// Prints the hits that did not count, the exemption, and the parts of the request that were not
/// read or not scored.
fn print_notes(decision: &Decision) -> Result<()> {
    for name in &decision.shadow_hits {
        print_line(format_args!("    experimental, not counted: {name}"))?;
    }
    if let Some(exemption) = &decision.exemption {
        print_line(format_args!("    exemption: {exemption}"))?;
    }
    if decision.unscanned_bytes > 0 {
        print_line(format_args!(
            "    not read: {} bytes after the limit `scan.max_body`",
            decision.unscanned_bytes
        ))?;
    }
    if !decision.unscored.is_empty() {
        let share = decision
            .scored_share
            .map_or("an unknown share".to_owned(), |share| format!("{:.1} %", share * 100.0));
        let reasons = decision.unscored.join(", ");
        print_line(format_args!("    scored: {share} of the body; the rest: {reasons}"))?;
    }
    if let Some(reason) = decision.incomplete {
        print_line(format_args!("    the action is that of `[incomplete] {reason}`"))?;
    }
    if !decision.unreadable.is_empty() {
        print_line(format_args!("    not readable: {}", decision.unreadable.join(", ")))?;
    }
    Ok(())
}
