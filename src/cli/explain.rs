//! `hedgerow explain FILE|-`

use std::path::PathBuf;

use hedgerow::explain::{Explainer, Explanation};
use hedgerow::request::{self, Body};

use super::{Failure, Format, Outcome, Result, RulesOptions, input, line, now, print};

#[derive(clap::Args)]
pub struct Options {
    /// A raw HTTP request, or a JSON line {method, path, headers, body}; `-` reads standard input.
    file: PathBuf,
    /// Only this signature.
    #[arg(long)]
    signature: Option<String>,
    /// Leave out signatures of which no selection holds.
    #[arg(long)]
    near: bool,
    #[command(flatten)]
    rules: RulesOptions,
}

pub fn run(options: &Options, format: Format) -> Result<Outcome> {
    let ruleset = options.rules.load()?;
    let recorded = input::read_one(&options.file)?;
    let limits = &ruleset.policy().scan;
    let envelope = recorded.envelope(limits.window, now());
    let Some(endpoint) = ruleset.endpoint(&envelope) else { return pass(format) };
    let is_chosen = |name: &String| options.signature.as_ref().is_none_or(|own| own == name);
    if !ruleset.signatures().iter().any(|signature| is_chosen(&signature.name)) {
        return Err(Failure::Unable(
            "there is no such signature; `hedgerow check` and docs/signatures.md know all"
                .to_owned(),
        ));
    }
    let encoding = recorded.headers.iter().find(|(name, _)| name == "content-encoding");
    let body = Body::new(envelope.body, encoding.map(|(_, value)| value.as_str()), limits);
    let explainer = Explainer::default();
    let mut entries: Vec<Vec<Explanation>> = Vec::new();
    let read = request::read(&envelope, endpoint, &body, limits, &mut |request| {
        let mut explained = explainer.explain_all(&ruleset, request, &envelope);
        explained.retain(|explanation| {
            let holds = || explanation.selections.iter().any(|selection| selection.holds);
            is_chosen(&explanation.name) && (!options.near || holds())
        });
        entries.push(explained);
    });
    if read.is_none() {
        return pass(format);
    }
    if format == Format::Json {
        print(&serde_json::json!({ "llm_call": true, "requests": entries }))?;
        return Ok(Outcome::Fine);
    }
    for (number, explanations) in entries.iter().enumerate() {
        if entries.len() > 1 {
            line(format_args!("request {} of {}", number + 1, entries.len()))?;
        }
        for explanation in explanations {
            show(explanation)?;
        }
    }
    Ok(Outcome::Fine)
}

fn pass(format: Format) -> Result<Outcome> {
    match format {
        Format::Json => print(&serde_json::json!({ "llm_call": false, "requests": [] }))?,
        Format::Text => line(format_args!("not an LLM call: passes untouched and uncounted"))?,
    }
    Ok(Outcome::Fine)
}

fn show(explanation: &Explanation) -> Result<()> {
    line(format_args!(
        "{} {} ({:+} dB)",
        mark(explanation.holds),
        explanation.name,
        explanation.weight
    ))?;
    for selection in &explanation.selections {
        line(format_args!("  {} {}", mark(selection.holds), selection.name))?;
        for test in &selection.tests {
            let place =
                test.evidence.as_ref().map(|found| format!("  [{}..{}]", found.start, found.end));
            line(format_args!(
                "    {} {}{}",
                mark(test.holds),
                test.test,
                place.unwrap_or_default()
            ))?;
        }
    }
    Ok(())
}

fn mark(holds: bool) -> &'static str {
    if holds { "true " } else { "false" }
}
