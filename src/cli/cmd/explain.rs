//! `hedgerow explain FILE|-`: shows why signatures hold or do not hold for one request.

use std::path::{Path, PathBuf};

use hedgerow_core::evaluate::explain::{
    ExplainedPassage, Explainer, Explanation, explain_passages,
};
use hedgerow_core::extract;
use hedgerow_core::field::Field;
use hedgerow_core::http::body::Body;
use serde_json::json;

use super::score::{NOT_AN_LLM_CALL, read_request};
use crate::account_ids::AccountIds;
use crate::dates::now;
use crate::error::{Error, Outcome, Result};
use crate::rules::RulesetArgs;
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct ExplainArgs {
    /// Read a raw HTTP request, or a JSON line {method, path, headers, body}; `-` reads standard
    /// input.
    file: PathBuf,
    /// Explain only this signature.
    #[arg(long)]
    signature: Option<String>,
    /// Omit signatures of which no selection holds.
    #[arg(long)]
    near: bool,
    #[command(flatten)]
    ruleset: RulesetArgs,
}

pub fn run(args: &ExplainArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let ruleset = args.ruleset.load(config)?;
    let recorded = read_request(&args.file)?;
    let limits = &ruleset.policy().scan;
    let envelope = recorded.envelope(limits.max_body, now());
    let Some(endpoint) = ruleset.endpoint(&envelope) else { return print_not_llm_call(format) };
    let dialect = endpoint.dialect();
    let principal = AccountIds::new().principal(&recorded, dialect, ruleset.policy());
    let envelope = principal.envelope(envelope);
    let is_selected = |name: &String| args.signature.as_ref().is_none_or(|wanted| wanted == name);
    if !ruleset.signatures().iter().any(|signature| is_selected(&signature.name)) {
        return Err(Error::Io(
            "the signature does not exist: expected a name from docs/signatures.md; correct \
             --signature"
                .to_owned(),
        ));
    }
    let content_encoding = recorded.headers.iter().find(|(name, _)| name == "content-encoding");
    let body = Body::new(envelope.body, content_encoding.map(|(_, value)| value.as_str()), limits);
    let explainer = Explainer::new(ruleset.concepts());
    let mut entries: Vec<Vec<Explanation>> = Vec::new();
    let mut passages: Vec<Vec<ExplainedPassage>> = Vec::new();
    let parsed = extract::for_each_request(&envelope, endpoint, &body, limits, &mut |request| {
        request.add_known_prompt_sets(ruleset.seeds());
        let mut explained = explainer.explain_all(&ruleset, request, &envelope);
        explained.retain(|explanation| {
            let any_selection_holds =
                || explanation.selections.iter().any(|selection| selection.holds);
            is_selected(&explanation.name) && (!args.near || any_selection_holds())
        });
        entries.push(explained);
        passages.push(explain_passages(request, usize::MAX));
    });
    if parsed.is_none() {
        return print_not_llm_call(format);
    }
    if format == Format::Json {
        print_json(&json!({ "llm_call": true, "requests": entries, "passages": passages }))?;
        return Ok(Outcome::Success);
    }
    print_requests(&entries, &passages)?;
    Ok(Outcome::Success)
}

/// Prints the passages and the explanations of all requests of a body.
fn print_requests(entries: &[Vec<Explanation>], passages: &[Vec<ExplainedPassage>]) -> Result<()> {
    for (number, (explanations, passages)) in entries.iter().zip(passages).enumerate() {
        if entries.len() > 1 {
            print_line(format_args!("request {} of {}", number + 1, entries.len()))?;
        }
        for passage in passages {
            let ExplainedPassage { field, section, start, end } = passage;
            let [field, section] = [field, section].map(Field::name);
            print_line(format_args!("{field} in {section} [{start}..{end}]"))?;
        }
        for explanation in explanations {
            print_explanation(explanation)?;
        }
    }
    Ok(())
}

fn print_not_llm_call(format: Format) -> Result<Outcome> {
    match format {
        Format::Json => print_json(&json!({ "llm_call": false, "requests": [] }))?,
        Format::Text => print_line(format_args!("{NOT_AN_LLM_CALL}"))?,
    }
    Ok(Outcome::Success)
}

fn print_explanation(explanation: &Explanation) -> Result<()> {
    print_line(format_args!(
        "{} {} ({:+} dB)",
        truth_label(explanation.holds),
        explanation.name,
        explanation.weight
    ))?;
    for selection in &explanation.selections {
        let is_innocence = explanation.innocence.contains(&selection.name);
        let note = if is_innocence { "  speaks for innocence" } else { "" };
        print_line(format_args!("  {} {}{note}", truth_label(selection.holds), selection.name))?;
        for test in &selection.comparisons {
            let range = test
                .evidence
                .as_ref()
                .map(|evidence| format!("  [{}..{}]", evidence.start, evidence.end));
            print_line(format_args!(
                "    {} {}{}",
                truth_label(test.holds),
                test.comparison,
                range.unwrap_or_default()
            ))?;
        }
    }
    Ok(())
}

/// Returns `true` or `false`, padded to five characters so that columns align.
fn truth_label(holds: bool) -> &'static str {
    if holds { "true " } else { "false" }
}
