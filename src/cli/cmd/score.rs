//! `hedgerow score FILE|-`

use std::path::PathBuf;

use hedgerow_core::Decision;

use crate::{Format, Outcome, Result, RulesetArgs, input, now, print_json, print_line};

#[derive(clap::Args)]
pub struct ScoreArgs {
    /// A raw HTTP request, or a JSON line {method, path, headers, body}; `-` reads standard input.
    file: PathBuf,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &ScoreArgs, format: Format) -> Result<Outcome> {
    let ruleset = args.ruleset.load()?;
    let recorded = input::read_request(&args.file)?;
    let envelope = recorded.envelope(ruleset.policy().scan.scan_window, now());
    let Some(assessment) = ruleset.assess(&envelope) else {
        match format {
            Format::Json => print_json(&serde_json::json!({ "llm_call": false }))?,
            Format::Text => {
                print_line(format_args!("not an LLM call: passes untouched and uncounted"))?
            }
        }
        return Ok(Outcome::Success);
    };
    let disposition = ruleset.policy().disposition(envelope.path, envelope.account);
    let score = assessment.score.clone();
    let decision = Decision::new(&ruleset, &envelope, assessment, disposition);
    if format == Format::Json {
        print_json(&serde_json::json!({ "llm_call": true, "decision": decision, "score": score }))?;
        return Ok(Outcome::Success);
    }
    let mode_note = if decision.is_enforced() { "" } else { " (shadow: recorded, not done)" };
    print_line(format_args!(
        "{:>6.2}  {}  {}{mode_note}",
        decision.score,
        decision.band.name(),
        decision.action.name()
    ))?;
    print_line(format_args!("{:>+6.1} dB  prior", score.prior))?;
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
    }
    for contribution in
        score.contributions.iter().filter(|contribution| contribution.raw != contribution.capped)
    {
        let cap_reduction = contribution.capped - contribution.raw;
        print_line(format_args!(
            "{cap_reduction:>+6.1} dB  cap of the family {}",
            contribution.family
        ))?;
    }
    for name in &decision.shadow_hits {
        print_line(format_args!("    experimental, not counted: {name}"))?;
    }
    if let Some(exemption) = &decision.exemption {
        print_line(format_args!("    exemption: {exemption}"))?;
    }
    if decision.unscanned_bytes > 0 {
        print_line(format_args!(
            "    not scanned: {} bytes behind the window",
            decision.unscanned_bytes
        ))?;
    }
    if !decision.unreadable.is_empty() {
        print_line(format_args!("    not read: {}", decision.unreadable.join(", ")))?;
    }
    Ok(Outcome::Success)
}
