//! `hedgerow status [--watch] [--minutes N]`: shows the release and decisions of a deployment.

use std::io::{IsTerminal, stdout};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use hedgerow_core::Release;
use hedgerow_core::api::{
    BandChange, DeploymentStatus, ErrorCount, ExemptionInfo, IndicatorCause, IndicatorStatus,
    PathCount, PrincipalsStatus, PublicationStatus, PullStatus, ShadowTraffic, SignatureDifference,
    SignatureHits, StopStatus, TrafficSummary,
};
use hedgerow_core::rules::policy::Mode;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::short_digest;
use serde_json::Value;

use crate::cmd::stop::describe_stop;
use crate::config::{Config, TargetArgs};
use crate::dates::{format_age, format_last_day, format_utc};
use crate::error::{Error, Outcome, Result};
use crate::format::{describe_release, percent};
use crate::remote::AdminClient;
use crate::rollout::{newest_serial, rollout_percent};
use crate::terminal::{Format, print_alarm, print_error, print_json, print_line};

#[derive(clap::Args)]
pub struct StatusArgs {
    /// Refresh every two seconds, until Ctrl-C.
    #[arg(long)]
    watch: bool,
    /// Show the traffic of the last N whole minutes instead of the last 60 seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=43_200))]
    minutes: Option<u32>,
    #[command(flatten)]
    target: TargetArgs,
}

pub fn run(args: &StatusArgs, config: Option<&Path>, format: Format) -> Result<Outcome> {
    let client = Config::load(config, &args.target)?.admin_client("`hedgerow status`")?;
    let path = match args.minutes {
        Some(minutes) => format!("/status?minutes={minutes}"),
        None => "/status".to_owned(),
    };
    fetch_and_print(&client, &path, args.watch, format)?;
    if !args.watch {
        return Ok(Outcome::Success);
    }
    loop {
        sleep(REFRESH_INTERVAL);
        match fetch_and_print(&client, &path, true, format) {
            // A temporary outage of the deployment must not end `--watch`.
            Err(Error::Io(problem)) => print_error(&problem),
            result => result?,
        }
    }
}

fn fetch_and_print(
    client: &AdminClient,
    path: &str,
    is_watching: bool,
    format: Format,
) -> Result<()> {
    let value: Value = client.get(path)?;
    if format == Format::Json {
        return print_json(&value);
    }
    let status: DeploymentStatus = serde_json::from_value(value).map_err(|error| {
        Error::Io(format!("GET /status: the answer is not readable: {error}; update Hedgerow"))
    })?;
    if is_watching && stdout().is_terminal() {
        clear_terminal()?;
    } else if is_watching {
        return print_one_line(&status);
    }
    print_text(&status)
}

/// Clears the terminal, and moves the cursor to its top.
fn clear_terminal() -> Result<()> {
    let cleared = std::io::Write::write_all(&mut stdout().lock(), b"\x1b[H\x1b[2J");
    cleared.map_err(|_| Error::BrokenPipe)
}

/// Prints the status as one line, for `--watch` if the output is not a terminal but a log.
fn print_one_line(status: &DeploymentStatus) -> Result<()> {
    let serial = newest_serial(status);
    let errors: u64 = status.traffic.errors.iter().map(|error| error.count).sum();
    print_line(format_args!(
        "{}  {}release {serial}: {:.0} % of {} requests, {errors} errors{}",
        format_utc(status.now),
        if is_stopped(status) { "STOPPED, " } else { "" },
        rollout_percent(status, serial),
        status.traffic.requests,
        status
            .publication
            .problem
            .as_ref()
            .map_or(String::new(), |problem| format!(", not published: {problem}"))
    ))
}

/// Returns whether a stop or MODE_CEILING prevents enforcement, of all requests or of some.
fn is_stopped(status: &DeploymentStatus) -> bool {
    status.stop.is_some() || status.mode_ceiling == Some(Mode::Shadow)
}

fn print_text(status: &DeploymentStatus) -> Result<()> {
    print_stop(status)?;
    print_release(status)?;
    print_publication(status)?;
    print_pull(status)?;
    print_indicators(status)?;
    print_names(&status.principals)?;
    print_line(format_args!(
        "deployment  version {}, embedded rules {}, {} public keys",
        status.version,
        short_digest(status.embedded.as_deref().unwrap_or("BROKEN")),
        status.keys.len()
    ))?;
    print_traffic(status)
}

/// Prints in red that enforcement is stopped, if it is.
fn print_stop(status: &DeploymentStatus) -> Result<()> {
    if let Some(StopStatus { stop, published, problem }) = &status.stop {
        let author = if stop.author.is_empty() { "an unnamed author" } else { &stop.author };
        print_alarm(&format!(
            "STOPPED     {} since {} ({}), by {author}: {}",
            describe_stop(stop),
            format_utc(stop.at),
            format_age(stop.at, status.now),
            stop.reason
        ))?;
        print_line(format_args!("            `hedgerow resume` enforces again"))?;
        if !published {
            let problem = problem.as_deref().unwrap_or("it is being written");
            print_alarm(&format!("            NOT IN KV YET: {problem}"))?;
        }
    }
    if status.mode_ceiling == Some(Mode::Shadow) {
        print_alarm("STOPPED     no request is enforced, by the variable MODE_CEILING")?;
    }
    Ok(())
}

fn print_release(status: &DeploymentStatus) -> Result<()> {
    let Some(stored) = &status.release else {
        return print_line(format_args!("release     none yet: the embedded rules decide"));
    };
    let Some(release) = &stored.release else {
        return print_line(format_args!(
            "release     {}, in a format that this version does not know",
            stored.serial
        ));
    };
    let kind = if stored.kind.is_empty() { "release" } else { &stored.kind };
    print_line(format_args!(
        "release     {} ({kind}): {}",
        stored.serial,
        describe_release(release)
    ))?;
    print_contents(status, release)?;
    let author = if release.author.is_empty() { "an unnamed author" } else { &release.author };
    print_line(format_args!(
        "            {} ago ({}), by {author}",
        format_age(release.created, status.now),
        format_utc(release.created)
    ))?;
    if release.is_expired(status.now) {
        print_line(format_args!("            EXPIRED: the embedded rules decide; release again"))?;
    }
    if release.note.is_empty() {
        return Ok(());
    }
    print_detail(&release.note)
}

/// Prints the content digest of each bundle of the release, as far as the deployment knows it.
fn print_contents(status: &DeploymentStatus, release: &Release) -> Result<()> {
    let canary = release.canary.as_ref().map(|canary| &canary.digest);
    let shadow = release.shadow.as_ref().map(|shadow| &shadow.digest);
    let rows = [("active", Some(&release.active)), ("canary", canary), ("shadow", shadow)];
    let contents = status.release.as_ref().map(|stored| &stored.contents);
    for (role, digest) in rows {
        let Some(digest) = digest else { continue };
        let content = match digest.as_str() {
            EMBEDDED => Some(&status.embedded_content).filter(|content| !content.is_empty()),
            digest => contents.and_then(|contents| contents.get(digest)),
        };
        content.map_or(Ok(()), |content| print_detail(&format!("content of {role} {content}")))?;
    }
    Ok(())
}

fn print_publication(status: &DeploymentStatus) -> Result<()> {
    let PublicationStatus { serial, pending, attempts, problem } = &status.publication;
    let published_at = status.release.as_ref().and_then(|release| release.published);
    match (pending, serial) {
        (Some(pending), _) => print_line(format_args!(
            "published   NO: release {pending} is pending after {attempts} attempts"
        ))?,
        (None, Some(serial)) => {
            let age = published_at.map(|time| format!(", {} ago", format_age(time, status.now)));
            print_line(format_args!("published   {serial}{}", age.unwrap_or_default()))?;
        }
        (None, None) => print_line(format_args!("published   nothing"))?,
    }
    problem.as_deref().map_or(Ok(()), print_detail)
}

fn print_pull(status: &DeploymentStatus) -> Result<()> {
    let Some(PullStatus { checked, changed, problem, .. }) = &status.pull else { return Ok(()) };
    let format_event_age = |time: &Option<u64>| {
        time.map_or("never".to_owned(), |time| format!("{} ago", format_age(time, status.now)))
    };
    print_line(format_args!(
        "pull        last {}, last change {}",
        format_event_age(checked),
        format_event_age(changed)
    ))?;
    problem.as_deref().map_or(Ok(()), print_detail)
}

fn print_indicators(status: &DeploymentStatus) -> Result<()> {
    let IndicatorStatus { count, clusters, pending, problem, .. } = &status.indicators;
    let pending_note = if *pending { ", waiting for KV" } else { "" };
    print_line(format_args!("indicators  {count}, {clusters} clusters{pending_note}"))?;
    problem.as_deref().map_or(Ok(()), print_detail)?;
    print_usage(&status.indicators)
}

/// Prints how many accounts have names from the origin or the operator. Prints nothing for an older
/// Worker, which does not report the number.
fn print_names(status: &PrincipalsStatus) -> Result<()> {
    let PrincipalsStatus { count, max, labels, pending, problem } = status;
    if *max == 0 {
        return Ok(());
    }
    let labels = if *labels > 0 { format!(", {labels} labels") } else { String::new() };
    let pending_note = if *pending { ", waiting for KV" } else { "" };
    print_line(format_args!("names       {count} of {max} accounts{labels}{pending_note}"))?;
    problem.as_deref().map_or(Ok(()), print_detail)
}

/// Prints how much of each limit of the registry is used, and which correlations, accounts, tenants
/// and networks use most. Prints nothing for an older Worker, which does not report the limits.
fn print_usage(status: &IndicatorStatus) -> Result<()> {
    if status.max == 0 {
        return Ok(());
    }
    print_detail(&format!(
        "room: {} of {} indicators, {} of {} links, {} of {} KV writes today, {} firings and {} \
         observations queued",
        status.count,
        status.max,
        status.links,
        status.max_links,
        status.kv_writes,
        status.kv_budget,
        status.queued_firings,
        status.queued_observations
    ))?;
    let mut counts: Vec<(&String, &u64)> = status.by_correlation.iter().collect();
    counts.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), *name));
    for (name, count) in counts.into_iter().take(MAX_CORRELATIONS_SHOWN) {
        print_detail(&format!("{count:>8}  of {} {name}", status.max_per_correlation))?;
    }
    let (quota, weak, replaced) =
        (status.refused_by_quota, status.refused_as_weak, status.replaced);
    if quota + weak + replaced > 0 {
        print_detail(&format!(
            "today: {quota} firings beyond a quota, {weak} weaker than all others, {replaced} \
             indicators replaced by stronger ones"
        ))?;
    }
    let causes = [
        ("accounts", &status.top_accounts),
        ("tenants", &status.top_tenants),
        ("networks", &status.top_networks),
    ];
    for (name, causes) in causes.into_iter().filter(|(_, causes)| !causes.is_empty()) {
        let causes = causes.iter().map(|IndicatorCause { id, count }| format!("{id} {count}"));
        print_detail(&format!("most by {name}: {}", causes.collect::<Vec<_>>().join(", ")))?;
    }
    Ok(())
}

fn print_traffic(status: &DeploymentStatus) -> Result<()> {
    let traffic = &status.traffic;
    let period = match traffic.seconds {
        seconds if seconds > 60 => format!("{} minutes", seconds / 60),
        _ => "minute".to_owned(),
    };
    if !status.ledger.reachable {
        print_line(format_args!("traffic     unknown: the ledger does not answer"))?;
    }
    print_line(format_args!("traffic     {} requests in the last {period}", traffic.requests))?;
    print_breakdowns(traffic)?;
    print_unscored(traffic)?;
    if !traffic.signatures.is_empty() {
        print_line(format_args!("\n{:<48} {:>8}", "signature", "hits"))?;
    }
    for SignatureHits { name, hits } in traffic.signatures.iter().take(MAX_SIGNATURES_SHOWN) {
        print_line(format_args!("{name:<48} {hits:>8}"))?;
    }
    print_exemptions(status)?;
    if let Some(shadow) = &traffic.shadow {
        print_shadow(shadow)?;
    }
    if !traffic.errors.is_empty() {
        print_line(format_args!("\nerrors"))?;
    }
    for ErrorCount { message, count } in &traffic.errors {
        print_line(format_args!("{count:>8}  {message}"))?;
    }
    Ok(())
}

/// Prints the shares of the requests by release, rules, role, band, action and mode.
fn print_breakdowns(traffic: &TrafficSummary) -> Result<()> {
    let serials = traffic.by_serial.iter().map(|(serial, count)| match serial.as_str() {
        "0" => ("embedded".to_owned(), *count),
        serial => (serial.to_owned(), *count),
    });
    print_shares(traffic, "by release", serials)?;
    let rulesets = traffic.by_ruleset.iter();
    print_shares(
        traffic,
        "by rules",
        rulesets.map(|(digest, count)| (short_digest(digest).to_owned(), *count)),
    )?;
    let rows = [
        ("by role", &traffic.by_role),
        ("by band", &traffic.by_band),
        ("by action", &traffic.by_action),
        ("by mode", &traffic.by_mode),
    ];
    for (name, counts) in rows {
        print_shares(traffic, name, counts.iter().map(|(key, count)| (key.clone(), *count)))?;
    }
    Ok(())
}

/// Prints the share of requests that were not scored completely, by reason, and the paths of
/// requests that were forwarded unread.
fn print_unscored(traffic: &TrafficSummary) -> Result<()> {
    if traffic.incomplete > 0 {
        print_line(format_args!(
            "{:>14}  {:.1} % of the requests",
            "not whole",
            percent(traffic.incomplete, traffic.requests)
        ))?;
        let reasons = traffic.by_unscored.iter();
        print_shares(traffic, "by reason", reasons.map(|(key, count)| (key.clone(), *count)))?;
    }
    if traffic.enforced_not_kept > 0 {
        let count = traffic.enforced_not_kept;
        print_line(format_args!(
            "\nnot kept: the decisions about {count} refused or degraded requests; too many came \
             at once, or `max_bytes` under `[decisions]` in the policy is too small"
        ))?;
    }
    if traffic.forwarded_unread.is_empty() {
        return Ok(());
    }
    let total: u64 = traffic.forwarded_unread.iter().map(|path| path.count).sum();
    print_line(format_args!("\nforwarded unread: {total} requests with a body"))?;
    for PathCount { method, path, count } in traffic.forwarded_unread.iter().take(MAX_PATHS_SHOWN) {
        print_line(format_args!("{count:>8}  {method} {path}"))?;
    }
    Ok(())
}

/// Prints counts in one line, as percentages of all requests in the traffic, the largest first.
/// Prints nothing if all counts are 0.
fn print_shares(
    traffic: &TrafficSummary,
    name: &str,
    counts: impl Iterator<Item = (String, u64)>,
) -> Result<()> {
    let mut counts: Vec<(String, u64)> = counts.filter(|(_, count)| *count > 0).collect();
    if counts.is_empty() {
        return Ok(());
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shares = counts
        .iter()
        .map(|(key, count)| format!("{key} {:.1} %", percent(*count, traffic.requests)));
    print_line(format_args!("{name:>14}  {}", shares.collect::<Vec<_>>().join(", ")))
}

/// Prints the exemptions of the active policy with their use. Prints nothing if the policy has no
/// exemptions and none applied to a request.
fn print_exemptions(status: &DeploymentStatus) -> Result<()> {
    let lines = exemption_lines(status);
    if !lines.is_empty() {
        print_line(format_args!("\n{:<48} {:>8}  last day", "exemption", "requests"))?;
    }
    lines.iter().try_for_each(|line| print_line(format_args!("{line}")))
}

/// Returns a line for each exemption: of the active policy, and of other policies that decided
/// requests of the period. The exemption with the most requests comes first.
fn exemption_lines(status: &DeploymentStatus) -> Vec<String> {
    let counts = &status.traffic.by_exemption;
    // Without the ledger, the counts are missing, but the exemptions may have been used.
    let is_known = status.ledger.reachable;
    let mut rows: Vec<(u64, &str, String)> = Vec::new();
    for ExemptionInfo { name, until, .. } in &status.exemptions {
        let count = counts.get(name).copied().unwrap_or_default();
        let expired = (status.now >= *until).then_some("EXPIRED");
        let unused = (is_known && count == 0).then_some("never matched in this period");
        let remarks: Vec<&str> = expired.into_iter().chain(unused).collect();
        let text = format!("{}  {}", format_last_day(*until), remarks.join(", "));
        rows.push((count, name.as_str(), text));
    }
    let is_listed = |name: &str| status.exemptions.iter().any(|info| info.name == name);
    for (name, count) in counts.iter().filter(|(name, _)| !is_listed(name.as_str())) {
        rows.push((*count, name.as_str(), "not in the active policy".to_owned()));
    }
    rows.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
    let format_row = |(count, name, text): (u64, &str, String)| {
        let count = if is_known { count.to_string() } else { "?".to_owned() };
        format!("{name:<48} {count:>8}  {text}").trim_end().to_owned()
    };
    rows.into_iter().map(format_row).collect()
}

fn print_shadow(shadow: &ShadowTraffic) -> Result<()> {
    print_line(format_args!(
        "\nshadow {}: {} requests scored by both",
        short_digest(&shadow.ruleset),
        shadow.requests
    ))?;
    for BandChange { from, to, count } in
        shadow.bands.iter().filter(|change| change.from != change.to)
    {
        print_line(format_args!("{count:>8}  {} → {}", from.name(), to.name()))?;
    }
    if !shadow.signatures.is_empty() {
        print_line(format_args!(
            "{:<48} {:>12} {:>12}",
            "signature", "only active", "only shadow"
        ))?;
    }
    for SignatureDifference { name, only_active, only_shadow } in &shadow.signatures {
        print_line(format_args!("{name:<48} {only_active:>12} {only_shadow:>12}"))?;
    }
    Ok(())
}

/// Prints an indented line, which continues the line before it.
fn print_detail(text: &str) -> Result<()> {
    print_line(format_args!("            {text}"))
}

/// Maximum number of correlations whose indicator counts are printed.
const MAX_CORRELATIONS_SHOWN: usize = 5;

/// Maximum number of paths of requests forwarded unread that are printed.
const MAX_PATHS_SHOWN: usize = 10;

/// Maximum number of signatures that are printed.
const MAX_SIGNATURES_SHOWN: usize = 10;

/// Time between two refreshes.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn exemptions_are_listed_with_their_last_day_and_use() {
        let exemption =
            |name: &str, until: u64| json!({ "name": name, "until": until, "reason": "r" });
        let mut status = json!({
            "now": 1_800_000_000,
            "exemptions": [
                exemption("unused", 1_801_440_000), exemption("used", 1_801_440_000),
                exemption("over", 1_800_000_000), exemption("ended", 1_799_971_200),
            ],
            "traffic": { "by_exemption": { "used": 12, "former": 3, "ended": 1 } },
        });
        let lines = |status: &Value| {
            let lines = exemption_lines(&serde_json::from_value(status.clone()).unwrap());
            let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
            lines.iter().map(words).collect::<Vec<_>>()
        };
        let expected = [
            "used 12 2027-01-31",
            "former 3 not in the active policy",
            "ended 1 2027-01-14 EXPIRED",
            "unused 0 2027-01-31 never matched in this period",
            "over 0 2027-01-15 EXPIRED, never matched in this period",
        ];
        assert_eq!(lines(&status), expected);
        status["ledger"] = json!({ "reachable": false });
        status["traffic"] = json!({});
        let expected = [
            "unused ? 2027-01-31",
            "used ? 2027-01-31",
            "over ? 2027-01-15 EXPIRED",
            "ended ? 2027-01-14 EXPIRED",
        ];
        assert_eq!(lines(&status), expected);
        let empty = DeploymentStatus::default();
        assert!(exemption_lines(&empty).is_empty());
    }
}
