//! `hedgerow decision ID` and `hedgerow decisions`: show one decision, or list decisions.

use std::path::Path;

use hedgerow_core::api::{DecisionList, DecisionRecord};
use hedgerow_core::enforce::appeal::{Pasted, find_request_id, reference_of};
use hedgerow_core::ruleset::short_digest;
use serde_json::Value;

use super::indicators::parse_cluster_id;
use crate::config::{Config, TargetArgs};
use crate::dates::{format_utc, now};
use crate::error::{Error, Outcome, Result};
use crate::remote::AdminClient;
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct DecisionArgs {
    /// Show the decision about the request with this id, or with this appeal reference. You can
    /// paste a whole header line or message, such as `x-hedgerow-request-id: ID`.
    #[arg(value_name = "ID", required = true)]
    id: Vec<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// The filters of a list of decisions.
#[derive(clap::Args)]
pub struct DecisionFilters {
    /// List only decisions of the account with this id, or whose id begins with these digits.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// List only decisions with this band; `unscored` if scoring failed.
    #[arg(long, value_parser = ["clear", "notice", "suspect", "hostile", "unscored"])]
    band: Option<String>,
    /// List only decisions in which this signature, list or correlation hit; `*` matches any part
    /// of a name.
    #[arg(long, value_name = "NAME")]
    signature: Option<String>,
    /// List only decisions about requests for this model; `*` matches any part of a name.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// List only decisions in this cluster.
    #[arg(long, value_name = "ID", value_parser = parse_cluster_id)]
    cluster: Option<String>,
    /// List only decisions with this action.
    #[arg(long, value_parser = ["allow", "tag", "degrade", "throttle", "block"])]
    action: Option<String>,
    /// List the enforced decisions, of which all are kept, instead of the sample: requests that
    /// were refused or degraded.
    #[arg(long)]
    enforced: bool,
}

#[derive(clap::Args)]
pub struct DecisionsArgs {
    #[command(flatten)]
    filters: DecisionFilters,
    /// List only decisions of the last N minutes; default: all that are kept.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=129_600))]
    minutes: Option<u32>,
    /// List at most N decisions, the newest first.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    #[command(flatten)]
    target: TargetArgs,
}

/// Maximum number of pages that are read for a list. A page can be empty, because the deployment
/// searches only a part of the decisions for each page.
const MAX_PAGES: usize = 64;

/// Maximum number of decisions of a page.
const MAX_PAGE: usize = 500;

/// Runs `hedgerow decision`.
pub fn show(args: &DecisionArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let id = read_request_id(&args.id.join(" "))?;
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow decision`")?;
    let list: DecisionList<Value> = client.get(&format!("/decisions?limit=1&id={id}"))?;
    let Some(decision) = list.decisions.into_iter().next() else {
        return Err(Error::Rejected(format!(
            "the decision about '{id}' is not kept: expected a request that was refused or \
             degraded, or that is in the sample; search the log of the Worker for the id (a clear \
             decision is logged only if [log] of the policy selects it)"
        )));
    };
    if format == Format::Json {
        print_json(&decision)?;
    } else {
        print_decision(&parse_decision(decision)?)?;
    }
    Ok(Outcome::Success)
}

/// Runs `hedgerow decisions`.
pub fn list(args: &DecisionsArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow decisions`")?;
    let since = args.minutes.map(|minutes| now().saturating_sub(u64::from(minutes) * 60) * 1_000);
    let list = fetch(&client, &args.filters, since, args.limit as usize)?;
    if format == Format::Json {
        print_json(&list)?;
        return Ok(Outcome::Success);
    }
    let DecisionList { decisions, kept, counted, next, .. } = list;
    print_heading()?;
    let shown = decisions.len();
    for decision in decisions {
        print_row(&parse_decision(decision)?)?;
    }
    let kind = if args.filters.enforced { "enforced decisions" } else { "sampled decisions" };
    print_line(format_args!("{shown} shown; {kind}: {kept} kept of {counted} counted"))?;
    if next.is_some() {
        print_line(format_args!("there may be older ones: raise --limit, or add a filter"))?;
    }
    Ok(Outcome::Success)
}

/// Reads pages until the list has `limit` decisions, or until no page is left. `since` is in
/// milliseconds since the epoch: only decisions at or after this time.
pub fn fetch(
    client: &AdminClient,
    filters: &DecisionFilters,
    since: Option<u64>,
    limit: usize,
) -> Result<DecisionList<Value>> {
    let query = query(filters, since);
    let read_page = |missing: usize, position: &str| {
        client.get(&format!("/decisions?limit={}{query}{position}", missing.min(MAX_PAGE)))
    };
    let mut list: DecisionList<Value> = read_page(limit, "")?;
    for _ in 1..MAX_PAGES {
        let missing = limit.saturating_sub(list.decisions.len());
        let Some(before) = list.next.as_deref().filter(|_| missing > 0) else { break };
        let page: DecisionList<Value> = read_page(missing, &format!("&before={}", encode(before)))?;
        list.decisions.extend(page.decisions);
        list.next = page.next;
    }
    Ok(list)
}

/// Returns the filters as parameters of a query, each after `&`. `since` is in milliseconds since
/// the epoch.
fn query(filters: &DecisionFilters, since: Option<u64>) -> String {
    let since = since.map(|since| since.to_string());
    let enforced = filters.enforced.then(|| "true".to_owned());
    let parameters = [
        ("account", &filters.account),
        ("band", &filters.band),
        ("signature", &filters.signature),
        ("model", &filters.model),
        ("cluster", &filters.cluster),
        ("action", &filters.action),
        ("since", &since),
        ("enforced", &enforced),
    ];
    let present = parameters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
    present.map(|(name, value)| format!("&{name}={}", encode(value))).collect()
}

/// Encodes a value for a query: each byte that is not a letter, a digit or one of `-._~` as `%XX`.
fn encode(value: &str) -> String {
    let mut encoded = String::new();
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Returns the request id in a pasted text, or the id that a pasted appeal reference means.
fn read_request_id(text: &str) -> Result<String> {
    let problem = match find_request_id(text) {
        Pasted::RequestId(id) => return Ok(id),
        Pasted::Mistyped => format!(
            "the appeal reference in '{text}' is mistyped: expected 26 letters and digits whose \
             check is right; compare it with the message that the customer received"
        ),
        Pasted::Nothing => format!(
            "'{text}' has no request id and no appeal reference: expected 32 hexadecimal digits in \
             five groups, such as 01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a, or 26 letters and digits, \
             such as 06CHP-B1X9V-4YEKG-FSFDA-E8PYPZ; copy the header `x-hedgerow-request-id`, or \
             the reference in the message"
        ),
    };
    Err(Error::Io(problem))
}

/// Parses a decision of a list.
pub fn parse_decision(decision: Value) -> Result<DecisionRecord> {
    serde_json::from_value(decision)
        .map_err(|error| Error::Io(format!("the answer is not readable: {error}; update Hedgerow")))
}

/// Describes the effect of a decision on the request in one word.
fn effect(decision: &DecisionRecord) -> &'static str {
    match (decision.enforced, decision.degraded.as_deref()) {
        (true, Some("edited")) => "edited",
        (true, _) => "refused",
        (false, _) => "-",
    }
}

/// Prints the heading of the rows.
pub fn print_heading() -> Result<()> {
    print_line(format_args!(
        "{:<36}  {:<16}  {:<8}  {:>5}  {:<8}  {:<8}  {:<8}  hits",
        "request id", "at (UTC)", "band", "score", "action", "effect", "account"
    ))
}

/// Prints a decision as a row.
pub fn print_row(decision: &DecisionRecord) -> Result<()> {
    let DecisionRecord { request_id, at, band, score, action, account, hits, error, .. } = decision;
    let account = account.as_deref().and_then(|account| account.get(..8)).unwrap_or("-");
    let hits: Vec<&str> = hits.iter().map(|hit| hit.name.as_str()).collect();
    print_line(format_args!(
        "{request_id:<36}  {:<16}  {:<8}  {:>5}  {:<8}  {:<8}  {account:<8}  {}",
        format_utc((at / 1_000.0) as u64),
        band.map_or("unscored", |band| band.name()),
        score.map_or("-".to_owned(), |score| format!("{score:.1}")),
        action.name(),
        effect(decision),
        error.clone().unwrap_or_else(|| hits.join(" "))
    ))
}

fn print_decision(decision: &DecisionRecord) -> Result<()> {
    print_line(format_args!("decision about {}", decision.request_id))?;
    for (name, value) in facts(decision) {
        print_line(format_args!("  {name:<10} {value}"))?;
    }
    if !decision.hits.is_empty() {
        print_line(format_args!("  hits"))?;
    }
    for hit in &decision.hits {
        let fields = hit.evidence.iter().map(|evidence| {
            format!("  {} {}..{}", evidence.field.name(), evidence.start, evidence.end)
        });
        let fields: String = fields.collect();
        print_line(format_args!("    {:>6.1} dB  {}{fields}", hit.weight, hit.name))?;
    }
    Ok(())
}

/// Returns the facts of a decision that are known, each with its name.
fn facts(decision: &DecisionRecord) -> Vec<(&'static str, String)> {
    let DecisionRecord { action, mode, dialect, operation, colo, ruleset, role, .. } = decision;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let named = |id: &Option<String>, label: &Option<String>| match (id, label) {
        (Some(id), Some(label)) => format!("{id}  {label:?}"),
        (id, _) => text(id),
    };
    let band = decision.band.map_or("unscored", |band| band.name());
    let score = decision.score.map_or(String::new(), |score| format!("{score:.2}, band {band}"));
    let release = decision.serial.map_or(String::new(), |serial| format!(", release {serial}"));
    let degraded = text(&decision.degraded);
    let rows = [
        ("at (UTC)", format_utc((decision.at / 1_000.0) as u64)),
        ("appeal", reference_of(&decision.request_id).unwrap_or_default()),
        ("action", format!("{} in mode {}", action.name(), mode.name())),
        ("effect", effect(decision).to_owned()),
        ("degraded", degraded),
        ("error", text(&decision.error)),
        ("score", score),
        ("account", named(&decision.account, &decision.account_label)),
        ("tenant", named(&decision.tenant, &decision.tenant_label)),
        ("cluster", text(&decision.cluster)),
        ("model", text(&decision.model)),
        ("request", format!("{dialect}, {operation}, {} bytes, in {colo}", decision.body_bytes)),
        ("exemption", text(&decision.exemption)),
        ("incomplete", text(&decision.incomplete)),
        ("ruleset", format!("{} as {}{release}", short_digest(ruleset), role.name())),
    ];
    rows.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_reference_is_not_called_missing() {
        let id = "01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a";
        let rows = [
            (id, Ok(id)),
            ("x-hedgerow-appeal: 06CHP-B1X9V-4YEKG-FSFDA-E8PYPZ", Ok(id)),
            ("06chp b1x9v 4yekg fsfda e8pypz", Ok(id)),
            ("O6CHP-BIX9V-4YEKG-FSFDA-E8PYPZ", Ok(id)),
            ("06CHP-B1X9V-4YEKG-FSFDA-E8PYZP", Err("is mistyped")),
            ("06CHP-B1X9V-4YEKG-FSFDA-E8PYP", Err("is mistyped")),
            ("06CHP", Err("has no request id and no appeal reference")),
        ];
        for (text, expected) in rows {
            match (read_request_id(text), expected) {
                (Ok(found), Ok(id)) => assert_eq!(found, id, "{text}"),
                (Err(Error::Io(problem)), Err(part)) => {
                    assert!(problem.contains(part), "{problem}")
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn values_are_encoded_for_a_query() {
        let rows = [
            ("synthesis_pairs", "synthesis_pairs"),
            ("a/b c&d=é", "a%2Fb%20c%26d%3D%C3%A9"),
            ("1795600020123_id", "1795600020123_id"),
        ];
        for (value, expected) in rows {
            assert_eq!(encode(value), expected);
        }
    }
}
