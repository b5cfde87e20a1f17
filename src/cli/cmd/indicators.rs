//! `hedgerow indicators list|explain|revoke|revoke-matching`: manages indicators, which are keys
//! for which a correlation holds.

use std::path::Path;

use hedgerow_core::api::{
    IndicatorDetails, IndicatorInfo, IndicatorList, RevokeFilter, RevokeMatchingRequest,
    RevokeMatchingResult, RevokeRequest, RevokeResult,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::config::{Config, TargetArgs};
use crate::dates::{format_age, format_utc, now, parse_since, parse_until};
use crate::error::{Error, Outcome, Result};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args)]
pub struct IndicatorsArgs {
    #[command(subcommand)]
    command: IndicatorsCommand,
}

#[derive(clap::Subcommand)]
enum IndicatorsCommand {
    /// List the keys for which a correlation holds, newest first.
    List(ListIndicatorsArgs),
    /// Show why a key is an indicator: correlations, times, measured value, threshold and expiry.
    Explain(ExplainIndicatorArgs),
    /// Disable a key until it would have expired, or until a given time, even if a correlation
    /// holds for it again.
    Revoke(RevokeIndicatorArgs),
    /// Disable, or only count, all indicators that match the given correlation, cluster, account
    /// and time.
    RevokeMatching(RevokeMatchingArgs),
}

#[derive(clap::Args)]
struct ListIndicatorsArgs {
    /// List only indicators of this correlation.
    #[arg(long, value_name = "NAME")]
    correlation: Option<String>,
    /// List only indicators of this cluster.
    #[arg(long, value_name = "ID", value_parser = parse_cluster_id)]
    cluster: Option<String>,
    /// List at most N indicators, the newest first.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 50,
        value_parser = clap::value_parser!(u32).range(1..=500)
    )]
    limit: u32,
    /// List indicators that are older than the indicator with this id; for the next page, give the
    /// last id of the previous page.
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct ExplainIndicatorArgs {
    /// Explain this key: 16 digits, as in the list and in decisions.
    #[arg(value_parser = parse_key)]
    key: String,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
struct RevokeIndicatorArgs {
    /// Revoke this key: 16 digits, as in the list and in decisions.
    #[arg(value_parser = parse_key)]
    key: String,
    /// Record this reason in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// End the revocation after a period such as 12h, 7d or 2w, or at the end of a day in UTC such
    /// as 2027-01-31; default: when the indicator would have expired.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("filter").required(true).multiple(true))]
struct RevokeMatchingArgs {
    /// Revoke only indicators of this correlation.
    #[arg(long, value_name = "NAME", group = "filter")]
    correlation: Option<String>,
    /// Revoke only indicators of this cluster.
    #[arg(long, value_name = "ID", value_parser = parse_cluster_id, group = "filter")]
    cluster: Option<String>,
    /// Revoke only indicators in which the account with this id or hash took part. Decisions and
    /// `hedgerow account` show ids, and `hedgerow status` shows hashes.
    #[arg(long, value_name = "ID", group = "filter")]
    account: Option<String>,
    /// Revoke only indicators that first fired within a period such as the last 12h, 7d or 2w, or
    /// since the start of a day in UTC such as 2027-01-31.
    #[arg(long, value_name = "TIME", group = "filter")]
    since: Option<String>,
    /// Revoke only indicators that first fired before a time, in the form of --since.
    #[arg(long, value_name = "TIME", group = "filter")]
    before: Option<String>,
    /// Record this reason in the audit log.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// End the revocation after a period such as 12h, 7d or 2w, or at the end of a day in UTC such
    /// as 2027-01-31; default: when the indicators would have expired.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only count the indicators; do not revoke them.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: TargetArgs,
}

pub fn run(args: &IndicatorsArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    match &args.command {
        IndicatorsCommand::List(args) => list(args, config, format),
        IndicatorsCommand::Explain(args) => explain(args, config, format),
        IndicatorsCommand::Revoke(args) => revoke(args, config, format),
        IndicatorsCommand::RevokeMatching(args) => revoke_matching(args, config, format),
    }
}

fn list(args: &ListIndicatorsArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow indicators`")?;
    let mut path = format!("/indicators?limit={}", args.limit);
    let filters = [("correlation", &args.correlation), ("cluster", &args.cluster)];
    for (name, value) in filters {
        if let Some(value) = value {
            path.push_str(&format!("&{name}={}", require_url_safe(name, value)?));
        }
    }
    if let Some(before) = args.before {
        path.push_str(&format!("&before={before}"));
    }
    let response: Value = client.get(&path)?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    let list: IndicatorList = parse_response(response)?;
    print_line(format_args!(
        "{:<16}  {:<36}  {:<16}  {:>9}  {:>8}  {:<8}  id",
        "key", "correlation", "last (UTC)", "ends in", "accounts", "cluster"
    ))?;
    for indicator in &list.indicators {
        print_row(indicator)?;
    }
    if let Some(rest) = describe_rest(&list, args.limit) {
        print_line(format_args!("{rest}"))?;
    }
    Ok(Outcome::Success)
}

/// Prints an indicator as a row of the list.
fn print_row(indicator: &IndicatorInfo) -> Result<()> {
    let expires_in = if indicator.revoked_at.is_some() {
        "revoked".to_owned()
    } else {
        format_age(now(), indicator.expires)
    };
    print_line(format_args!(
        "{:<16}  {:<36}  {:<16}  {expires_in:>9}  {:>8}  {:<8}  {}{}",
        indicator.key,
        indicator.correlation,
        format_utc(indicator.last),
        indicator.accounts,
        indicator.cluster.as_deref().unwrap_or("-"),
        indicator.id,
        describe_cause(indicator)
    ))
}

/// Describes how many of the selected indicators a page of at most `limit` shows, and how to list
/// the others. Returns `None` if the page shows all.
fn describe_rest(list: &IndicatorList, limit: u32) -> Option<String> {
    let shown = list.indicators.len() as u64;
    if shown >= list.total {
        return None;
    }
    // A page that is not full is the last one.
    let next = list.indicators.last().filter(|_| shown >= u64::from(limit));
    let next = next.map(|last| {
        format!("; `--before {}` lists older ones, and `--limit` up to 500 at once", last.id)
    });
    Some(format!("{shown} of {} shown{}", list.total, next.unwrap_or_default()))
}

/// Describes the sender of the request that made the correlation hold first: labels of account and
/// tenant, if they are known.
fn describe_cause(indicator: &IndicatorInfo) -> String {
    let label = |kind: &str, label: &Option<String>| {
        label.as_ref().map(|label| format!("  {kind}{label:?}"))
    };
    let parts = [label("", &indicator.account_label), label("tenant ", &indicator.tenant_label)];
    parts.into_iter().flatten().collect()
}

fn explain(args: &ExplainIndicatorArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow indicators`")?;
    let response: Value = client.get(&format!("/indicators/{}", args.key))?;
    if format == Format::Json {
        print_json(&response)?;
        return Ok(Outcome::Success);
    }
    print_line(format_args!("key {}", args.key))?;
    let details: IndicatorDetails = parse_response(response)?;
    for indicator in &details.indicators {
        let IndicatorInfo { correlation, threshold, measured, times, accounts, .. } = indicator;
        print_line(format_args!("\n{correlation}: {threshold}"))?;
        print_line(format_args!("  measured  {measured}, of {accounts} known accounts"))?;
        print_line(format_args!(
            "  held      {times} times, {} to {}",
            format_utc(indicator.first),
            format_utc(indicator.last)
        ))?;
        print_line(format_args!("  counts    until {}", format_utc(indicator.expires)))?;
        if let Some(revoked) = indicator.revoked_at {
            let reason = indicator.reason.as_deref().unwrap_or_default();
            print_line(format_args!("  revoked   {}: {reason}", format_utc(revoked)))?;
        }
        if indicator.account_label.is_some() || indicator.tenant_label.is_some() {
            print_line(format_args!("  first by{}", describe_cause(indicator)))?;
        }
        if let Some(cluster) = &indicator.cluster {
            print_line(format_args!("  cluster   {cluster} (`hedgerow clusters show {cluster}`)"))?;
        }
    }
    Ok(Outcome::Success)
}

fn revoke(args: &RevokeIndicatorArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let client = config.admin_client("`hedgerow indicators`")?;
    let until = args.until.as_deref().map(|text| parse_until(text, now())).transpose()?;
    let request = RevokeRequest { reason: args.reason.clone(), author: config.author(), until };
    let path = format!("/indicators/{}/revoke", args.key);
    let result: RevokeResult = client.post(&path, json!(request))?;
    match format {
        Format::Json => print_json(&result)?,
        Format::Text => {
            let count = result.count;
            print_line(format_args!("revoked {count} indicators of the key {}", args.key))?;
        }
    }
    Ok(Outcome::Success)
}

fn revoke_matching(
    args: &RevokeMatchingArgs,
    config: Option<&Path>,
    format: Format,
) -> Result<Outcome> {
    let config = Config::load(config, &args.target)?;
    let client = config.admin_client("`hedgerow indicators`")?;
    let since = |option: &str, text: &Option<String>| {
        text.as_deref().map(|text| parse_since(option, text, now())).transpose()
    };
    let request = RevokeMatchingRequest {
        filter: RevokeFilter {
            correlation: args.correlation.clone(),
            cluster: args.cluster.clone(),
            account: args.account.clone(),
            from: since("since", &args.since)?,
            to: since("before", &args.before)?,
        },
        reason: args.reason.clone(),
        author: config.author(),
        until: args.until.as_deref().map(|text| parse_until(text, now())).transpose()?,
        dry_run: args.dry_run,
    };
    let result: RevokeMatchingResult = client.post("/indicators/revoke", json!(request))?;
    match format {
        Format::Json => print_json(&result)?,
        Format::Text => {
            let RevokeMatchingResult { count, dry_run } = result;
            let verb = if dry_run { "would revoke" } else { "revoked" };
            print_line(format_args!("{verb} {count} indicators"))?;
        }
    }
    Ok(Outcome::Success)
}

fn parse_response<T: DeserializeOwned>(response: Value) -> Result<T> {
    serde_json::from_value(response).map_err(|error| {
        Error::Io(format!("GET /indicators: the answer is not readable: {error}; update Hedgerow"))
    })
}

/// Returns the value of an option if it needs no escaping in a URL, or else an error that names the
/// option.
fn require_url_safe<'v>(option: &str, value: &'v str) -> Result<&'v str> {
    let is_url_safe = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if value.is_empty() || !value.bytes().all(is_url_safe) {
        return Err(Error::Io(format!(
            "--{option} '{value}' is invalid: expected letters, digits, `_` and `-`; `hedgerow \
             indicators list` shows the names"
        )));
    }
    Ok(value)
}

/// Parses a key: 16 hexadecimal digits. Returns it in lower case.
fn parse_key(text: &str) -> std::result::Result<String, String> {
    parse_hex(text, 8)
}

/// Parses the id of a cluster: 8 hexadecimal digits. Returns it in lower case.
pub fn parse_cluster_id(text: &str) -> std::result::Result<String, String> {
    parse_hex(text, 4)
}

fn parse_hex(text: &str, byte_count: usize) -> std::result::Result<String, String> {
    let bytes = hex::decode(text).ok().filter(|bytes| bytes.len() == byte_count);
    let bytes = bytes.ok_or_else(|| format!("expected {} digits, 0-9 and a-f", 2 * byte_count))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list ended after 50 of 70 indicators, and did not say so.
    #[test]
    fn a_list_says_how_many_indicators_it_does_not_show() {
        let page = |ids: std::ops::Range<u64>, total| IndicatorList {
            indicators: ids.rev().map(|id| IndicatorInfo { id, ..Default::default() }).collect(),
            total,
        };
        let first = "50 of 70 shown; `--before 21` lists older ones, and `--limit` up to 500 at \
            once";
        // name, ids, total, expected
        let rows = [
            ("the first page", 21..71, 70, Some(first)),
            ("the last page", 1..21, 70, Some("20 of 70 shown")),
            ("all", 1..51, 50, None),
            ("none", 1..1, 0, None),
            ("a Worker that does not send the total", 1..51, 0, None),
        ];
        for (name, ids, total, expected) in rows {
            assert_eq!(describe_rest(&page(ids, total), 50).as_deref(), expected, "{name}");
        }
    }
}
