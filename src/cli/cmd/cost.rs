//! `hedgerow cost`: estimates what a deployment costs on Cloudflare's Workers Paid plan, by item,
//! and which setting changes the bill the most.
//!
//! The estimate is an upper bound where the quantity depends on the traffic's distribution in time:
//! isolates and objects count as busy all day. docs/cost.md explains each quantity.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Outcome, Result};
use crate::terminal::{Format, print_json, print_line};

#[derive(clap::Args, Clone, Debug)]
pub struct CostArgs {
    /// Number of requests per day.
    #[arg(long, value_name = "N")]
    requests_per_day: f64,
    /// Average size of a request's body in KiB.
    #[arg(long, value_name = "K", default_value_t = 8.0)]
    body_kib: f64,
    /// Number of isolates that are busy at the same time; default: one for each 50 requests per
    /// second, and at least 10.
    #[arg(long, value_name = "N")]
    isolates: Option<f64>,
    /// Share of the decisions that are clear, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.98)]
    clear_share: f64,
    /// `clear` under `[log]` in the policy: share of the clear decisions that are logged, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    log_clear: f64,
    /// REFRESH_SECONDS of the deployment.
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    refresh_seconds: f64,
    /// REPORT_SECONDS of the deployment.
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    report_seconds: f64,
    /// LEDGER_SHARDS of the deployment.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    ledger_shards: f64,
    /// `shards` under `[correlate]` in the policy.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    correlator_shards: f64,
    /// `snapshot_interval` under `[correlate]` in the policy, in seconds.
    #[arg(long, value_name = "N", default_value_t = 15.0)]
    snapshot_interval: f64,
    /// KV_WRITES_PER_DAY of the deployment, all of which count as used.
    #[arg(long, value_name = "N", default_value_t = 800.0)]
    kv_writes_per_day: f64,
}

const DAY_SECONDS: f64 = 86_400.0;
const DAY_MINUTES: f64 = 1_440.0;
const DAY_HOURS: f64 = 24.0;
const MONTH_DAYS: f64 = 30.0;

/// Milliseconds of processor time of a request, and of each KiB of its body: the line through the
/// times of a request of 4 KiB and one of 64 KiB over 16 connections (docs/benchmarks.json: 876 and
/// 1,485 µs). These times include work of workerd that Cloudflare may not bill.
const CPU_MS: f64 = 0.8354;
const CPU_MS_PER_KIB: f64 = 0.01015;

/// Requests per second of one isolate if the number of isolates is not given, and the minimum
/// number of isolates: traffic comes from several data centres.
const REQUESTS_PER_ISOLATE: f64 = 50.0;
const MIN_ISOLATES: f64 = 10.0;

/// Reads of KV per REFRESH_SECONDS and isolate: one each for the release and the stop, half for the
/// indicators, a sixth for names (docs/operations.md, Quotas).
const KV_READS_PER_REFRESH: f64 = 2.0 + 0.5 + 1.0 / 6.0;

/// Reads of KV by the registry in a day: release and stop each minute, two bundles each ten
/// minutes.
const KV_READS_OF_REGISTRY: f64 = 2.0 * DAY_MINUTES + 2.0 * 144.0;

/// Writes of names of accounts per day: one in ten minutes.
const KV_WRITES_OF_NAMES: f64 = 144.0;

/// GB that an object in memory is billed for, whatever it uses.
const OBJECT_GB: f64 = 0.128;

/// Seconds between two alarms of an object with traffic.
const ALARM_SECONDS: f64 = 7.0;

/// Share of the day for which the registry is in memory: the cron trigger wakes it each minute, and
/// it stays for ten seconds.
const REGISTRY_SHARE: f64 = 1.0 / 6.0;

/// Counters of one shard of the ledger that change in a minute: bands, data centres, and the
/// signatures with hits.
const LEDGER_KEYS: f64 = 150.0;

/// Rows that a snapshot of a correlator writes: itself, and the 16 parts of the counts.
const SNAPSHOT_ROWS: f64 = 17.0;

/// The prices of all items.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Prices {
    /// Dollars per month.
    base: f64,
    worker_requests: Price,
    cpu_ms: Price,
    object_requests: Price,
    object_duration: Price,
    rows_written: Price,
    rows_read: Price,
    kv_reads: Price,
    kv_writes: Price,
    log_events: Price,
}

/// The price of an item in dollars, and the quantity per month that the base price includes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    name: String,
    unit: f64,
    price: f64,
    included: f64,
    source: String,
    /// Day on which the price was read; `None` if it is from memory.
    checked: Option<String>,
}

/// The estimate.
#[derive(Debug, Serialize)]
struct Estimate {
    /// Dollars per month, with the base price.
    per_month: f64,
    /// Dollars per day: a thirtieth.
    per_day: f64,
    isolates: f64,
    items: Vec<Item>,
    /// Settings whose change saves something, the largest saving first.
    savings: Vec<Saving>,
}

/// The quantity and the cost of an item.
#[derive(Debug, Serialize)]
struct Item {
    name: String,
    per_day: f64,
    /// Dollars per month beyond the included quantity.
    per_month: f64,
    source: String,
    checked: Option<String>,
}

/// The effect of a changed setting.
#[derive(Debug, Serialize)]
struct Saving {
    setting: &'static str,
    /// Dollars per month.
    per_month: f64,
    /// The disadvantage of the change.
    but: &'static str,
}

/// A change of one setting; `None` if the setting already has this value or a cheaper one.
type SettingChange = fn(&CostArgs) -> Option<CostArgs>;

/// The settings that change the bill, with their disadvantages.
const CHANGES: [(&str, SettingChange, &str); 5] = [
    (
        "clear = 0.0 under [log] in the policy",
        |args| (args.log_clear > 0.0).then(|| CostArgs { log_clear: 0.0, ..args.clone() }),
        "the log has no clear decisions",
    ),
    (
        "REFRESH_SECONDS = 60",
        |args| {
            (args.refresh_seconds < 60.0)
                .then(|| CostArgs { refresh_seconds: 60.0, ..args.clone() })
        },
        "releases and stops take up to a minute longer",
    ),
    (
        "REPORT_SECONDS = 20",
        |args| {
            (args.report_seconds < 20.0).then(|| CostArgs { report_seconds: 20.0, ..args.clone() })
        },
        "counts and decisions appear up to 20 seconds later",
    ),
    (
        "snapshot_interval = 120 under [correlate] in the policy",
        |args| {
            (args.snapshot_interval < 120.0)
                .then(|| CostArgs { snapshot_interval: 120.0, ..args.clone() })
        },
        "a crash of a correlator loses up to two minutes of counts",
    ),
    (
        "LEDGER_SHARDS = 1",
        |args| (args.ledger_shards > 1.0).then(|| CostArgs { ledger_shards: 1.0, ..args.clone() }),
        "one object gets all reports",
    ),
];

/// Runs `hedgerow cost`.
pub fn run(args: &CostArgs, format: Format) -> Result<Outcome> {
    check(args)?;
    let estimate = estimate(args, &prices()?);
    if format == Format::Json {
        print_json(&estimate)?;
    } else {
        print(args, &estimate)?;
    }
    Ok(Outcome::Success)
}

fn prices() -> Result<Prices> {
    toml::from_str(include_str!("../prices.toml"))
        .map_err(|error| Error::Io(format!("prices.toml: {error}")))
}

/// Checks that all numbers are plausible.
///
/// # Errors
/// Names each number that is not.
fn check(args: &CostArgs) -> Result<()> {
    let rows = [
        ("--requests-per-day", args.requests_per_day, 1.0, 1e12),
        ("--body-kib", args.body_kib, 0.0, 102_400.0),
        ("--isolates", args.isolates.unwrap_or(1.0), 1.0, 1e6),
        ("--clear-share", args.clear_share, 0.0, 1.0),
        ("--log-clear", args.log_clear, 0.0, 1.0),
        ("--refresh-seconds", args.refresh_seconds, 1.0, 3_600.0),
        ("--report-seconds", args.report_seconds, 1.0, 20.0),
        ("--ledger-shards", args.ledger_shards, 1.0, 16.0),
        ("--correlator-shards", args.correlator_shards, 1.0, 64.0),
        ("--snapshot-interval", args.snapshot_interval, 1.0, 3_600.0),
        ("--kv-writes-per-day", args.kv_writes_per_day, 0.0, 1e9),
    ];
    let problems: Vec<String> = rows
        .iter()
        .filter(|(_, value, min, max)| !(min..=max).contains(&value))
        .map(|(name, value, min, max)| format!("{name} is {value}: expected {min} to {max}"))
        .collect();
    if problems.is_empty() { Ok(()) } else { Err(Error::Io(problems.join("\n"))) }
}

/// Estimates the bill, and the effect of each setting on it.
fn estimate(args: &CostArgs, prices: &Prices) -> Estimate {
    let items = items(args, prices);
    let per_month = prices.base + total(&items);
    let saving = |(setting, change, but): &(&'static str, SettingChange, &'static str)| {
        let changed = change(args)?;
        let saved = per_month - prices.base - total(&self::items(&changed, prices));
        (saved > 0.005).then_some(Saving { setting, per_month: saved, but })
    };
    let mut savings: Vec<Saving> = CHANGES.iter().filter_map(saving).collect();
    savings.sort_by(|a, b| b.per_month.total_cmp(&a.per_month));
    Estimate {
        per_month,
        per_day: per_month / MONTH_DAYS,
        isolates: isolates(args),
        items,
        savings,
    }
}

fn total(items: &[Item]) -> f64 {
    items.iter().map(|item| item.per_month).sum()
}

/// Returns the number of isolates that are busy at the same time.
fn isolates(args: &CostArgs) -> f64 {
    let needed = (args.requests_per_day / DAY_SECONDS / REQUESTS_PER_ISOLATE).ceil();
    args.isolates.unwrap_or(needed.max(MIN_ISOLATES))
}

/// Computes quantity and cost of each item.
fn items(args: &CostArgs, prices: &Prices) -> Vec<Item> {
    let CostArgs { requests_per_day: requests, ledger_shards, correlator_shards, .. } = *args;
    let isolates = isolates(args);
    let objects = ledger_shards + correlator_shards + REGISTRY_SHARE;
    // An isolate reports, and sends observations, only if it had a request.
    let reports = (isolates * DAY_SECONDS / args.report_seconds).min(requests);
    let observations = (isolates * DAY_SECONDS).min(requests) * correlator_shards;
    let alarms = DAY_SECONDS / ALARM_SECONDS * (ledger_shards + correlator_shards);
    // A row of a minute is written and deleted. Each hour, a key has a row of the hour, which is
    // written and deleted, and a total.
    let minute_rows = LEDGER_KEYS * DAY_MINUTES * ledger_shards;
    let hour_rows = LEDGER_KEYS * DAY_HOURS * ledger_shards;
    let snapshots = DAY_SECONDS / args.snapshot_interval * SNAPSHOT_ROWS * correlator_shards;
    let refreshes = isolates * DAY_SECONDS / args.refresh_seconds;
    let logged = 1.0 - args.clear_share + args.clear_share * args.log_clear;
    let quantities = [
        (&prices.worker_requests, requests + DAY_MINUTES),
        (&prices.cpu_ms, requests * (CPU_MS + CPU_MS_PER_KIB * args.body_kib)),
        (&prices.object_requests, reports + observations + alarms + DAY_MINUTES),
        (&prices.object_duration, objects * DAY_SECONDS * OBJECT_GB),
        (&prices.rows_written, 2.0 * minute_rows + 3.0 * hour_rows + alarms + snapshots),
        (&prices.rows_read, 2.0 * minute_rows),
        (&prices.kv_reads, refreshes * KV_READS_PER_REFRESH + KV_READS_OF_REGISTRY),
        (&prices.kv_writes, args.kv_writes_per_day + KV_WRITES_OF_NAMES),
        (&prices.log_events, requests * logged),
    ];
    quantities.map(|(price, per_day)| price.item(per_day)).into()
}

impl Price {
    fn item(&self, per_day: f64) -> Item {
        let billed = (per_day * MONTH_DAYS - self.included).max(0.0);
        Item {
            name: self.name.clone(),
            per_day,
            per_month: billed / self.unit * self.price,
            source: self.source.clone(),
            checked: self.checked.clone(),
        }
    }
}

fn print(args: &CostArgs, estimate: &Estimate) -> Result<()> {
    print_line(format_args!(
        "{} requests per day of {} KiB, {} busy isolates: {:.2} $ per month, {:.2} $ per day",
        args.requests_per_day,
        args.body_kib,
        estimate.isolates,
        estimate.per_month,
        estimate.per_day
    ))?;
    print_line(format_args!("{:<30}  {:>15}  {:>12}  price", "item", "per day", "$ per month"))?;
    for Item { name, per_day, per_month, checked, .. } in &estimate.items {
        let checked = checked.as_deref().unwrap_or("from memory");
        print_line(format_args!("{name:<30}  {per_day:>15.0}  {per_month:>12.2}  {checked}"))?;
    }
    let base = estimate.per_month - total(&estimate.items);
    print_line(format_args!("{:<30}  {:>15}  {base:>12.2}", "base price", ""))?;
    if estimate.savings.is_empty() {
        return print_line(format_args!("no setting makes it cheaper"));
    }
    print_line(format_args!("cheaper by"))?;
    for Saving { setting, per_month, but } in &estimate.savings {
        print_line(format_args!("  {per_month:>10.2} $ per month  {setting}, but {but}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: CostArgs,
    }

    fn args(options: &[&str]) -> CostArgs {
        Cli::parse_from(["cost"].iter().chain(options)).args
    }

    fn per_month(options: &[&str]) -> f64 {
        estimate(&args(options), &prices().unwrap()).per_month
    }

    #[test]
    fn quantities_are_those_of_the_assumptions() {
        let args = args(&["--requests-per-day", "8640000", "--body-kib", "64", "--isolates", "20"]);
        let items = items(&args, &prices().unwrap());
        let quantity = |name: &str| items.iter().find(|item| item.name == name).unwrap().per_day;
        let rows = [
            ("Worker requests", 8_641_440.0),
            // 1.485 ms each.
            ("Worker CPU, ms", 12_830_400.0),
            // 20 isolates report each 5 s, and send observations each second; two objects have
            // alarms each 7 s, and the registry wakes each minute.
            ("Durable Object requests", 345_600.0 + 1_728_000.0 + 24_685.714 + 1_440.0),
            ("Durable Object duration, GB-s", 23_961.6),
            ("KV writes", 944.0),
            // 2 % are not clear, and 1 % of the clear ones is logged.
            ("log events", 8_640_000.0 * 0.0298),
        ];
        for (name, expected) in rows {
            let found = quantity(name);
            assert!((found - expected).abs() < expected * 1e-6, "{name}: {found}, not {expected}");
        }
    }

    #[test]
    fn little_traffic_costs_the_base_price_and_the_duration_of_the_objects() {
        let cost = per_month(&["--requests-per-day", "1000"]);
        // (2 + 1/6) objects × 11,059 GB-s × 30 − 400,000, at 12.50 $ per million.
        assert!((cost - (5.0 + 3.985)).abs() < 0.01, "{cost}");
    }

    #[test]
    fn more_traffic_is_never_cheaper() {
        let mut last = 0.0;
        for requests in ["1000", "100000", "10000000", "1000000000", "100000000000"] {
            let cost = per_month(&["--requests-per-day", requests]);
            assert!(cost >= last, "{requests}: {cost}");
            assert!(cost <= per_month(&["--requests-per-day", requests, "--body-kib", "256"]));
            last = cost;
        }
    }

    #[test]
    fn each_saving_is_real_and_the_largest_comes_first() {
        let options =
            ["--requests-per-day", "100000000", "--log-clear", "1", "--ledger-shards", "4"];
        let args = args(&options);
        let prices = prices().unwrap();
        let savings = estimate(&args, &prices).savings;
        assert_eq!(savings.len(), CHANGES.len());
        assert!(savings.is_sorted_by(|a, b| a.per_month >= b.per_month));
        assert!(savings.first().unwrap().setting.contains("[log]"), "{savings:?}");
        for (setting, change, _) in CHANGES {
            let again = change(&args).and_then(|changed| change(&changed));
            assert!(again.is_none(), "{setting} has no further effect");
        }
    }

    #[test]
    fn all_implausible_numbers_are_reported_at_once() {
        let args = args(&["--requests-per-day", "0", "--clear-share", "2", "--body-kib=-1"]);
        let Err(Error::Io(problems)) = check(&args) else { panic!() };
        assert_eq!(problems.lines().count(), 3, "{problems}");
        assert!(problems.contains("--clear-share is 2: expected 0 to 1"), "{problems}");
    }
}
