//! `hedgerow score FILE|-`

use std::path::PathBuf;

use hedgerow::Decision;

use super::{Format, Outcome, Result, RulesOptions, input, line, now, print};

#[derive(clap::Args)]
pub struct Options {
    /// A raw HTTP request, or a JSON line {method, path, headers, body}; `-` reads standard input.
    file: PathBuf,
    #[command(flatten)]
    rules: RulesOptions,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let ruleset = options.rules.load()?;
    let recorded = input::read_one(&options.file)?;
    let envelope = recorded.envelope(ruleset.policy().scan.window, now());
    let Some(assessment) = ruleset.assess(&envelope) else {
        match format {
            Format::Json => print(&serde_json::json!({ "llm_call": false }))?,
            Format::Text => line(format_args!("not an LLM call: passes untouched and uncounted"))?,
        }
        return Ok(Outcome::Fine);
    };
    let treatment = ruleset.policy().treatment(envelope.path, envelope.account);
    let score = assessment.score.clone();
    let decision = Decision::new(&ruleset, &envelope, assessment, treatment);
    if format == Format::Json {
        print(&serde_json::json!({ "llm_call": true, "decision": decision, "score": score }))?;
        return Ok(Outcome::Fine);
    }
    let would = if decision.is_enforced() { "" } else { " (shadow: recorded, not done)" };
    line(format_args!(
        "{:>6.2}  {}  {}{would}",
        decision.score,
        decision.band.name(),
        decision.action.name()
    ))?;
    line(format_args!("{:>+6.1} dB  prior", score.prior))?;
    for hit in &decision.hits {
        line(format_args!("{:>+6.1} dB  {}", hit.weight, hit.name))?;
        for evidence in &hit.evidence {
            line(format_args!(
                "           {} [{}..{}]",
                evidence.field.name(),
                evidence.start,
                evidence.end
            ))?;
        }
    }
    for contribution in
        score.contributions.iter().filter(|contribution| contribution.sum != contribution.counted)
    {
        let by = contribution.counted - contribution.sum;
        line(format_args!("{by:>+6.1} dB  cap of the family {}", contribution.family))?;
    }
    for name in &decision.shadow_hits {
        line(format_args!("    experimental, not counted: {name}"))?;
    }
    if let Some(exemption) = &decision.exemption {
        line(format_args!("    exemption: {exemption}"))?;
    }
    if decision.unscanned > 0 {
        line(format_args!("    not scanned: {} bytes behind the window", decision.unscanned))?;
    }
    if !decision.unreadable.is_empty() {
        line(format_args!("    not read: {}", decision.unreadable.join(", ")))?;
    }
    Ok(Outcome::Fine)
}
