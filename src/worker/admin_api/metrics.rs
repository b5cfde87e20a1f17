//! `/metrics`: the counters of the ledger and the state of the registry as OpenMetrics text, for
//! Prometheus. docs/metrics.md describes the families.

use std::fmt::Write;

use serde_json::Value;
use web_sys::Response;

use crate::ledger_do::client::fetch_counters;
use crate::ledger_do::counters::Counters;
use crate::platform::settings::Settings;
use crate::registry_do::client;
use crate::request::response::text_response;

/// The media type of the answer (OpenMetrics 1.0).
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Maximum number of series of a family. The number of signatures is the only one that the rules
/// determine; further ones, in the order of names, are left out.
const MAX_SERIES: usize = 1_000;

/// Answers with all metrics. If the registry or the ledger does not answer, their families are
/// missing, and `hedgerow_registry_up` or `hedgerow_ledger_up` is 0.
pub async fn handle(settings: &Settings, caller: &Value) -> Response {
    let (status, totals, recent) = futures_util::join!(
        client::query(settings, "/status", caller),
        fetch_counters(settings, "/totals"),
        fetch_counters(settings, "/")
    );
    let status = status.ok().and_then(Result::ok);
    text_response(200, CONTENT_TYPE, &render(status.as_ref(), totals.as_ref(), recent.as_ref()))
}

/// A family of counters from the totals of the ledger.
struct CounterFamily {
    /// Kind of the key in the totals (`ledger_do/totals.rs`).
    kind: &'static str,
    /// Name without the suffix `_total`.
    name: &'static str,
    /// Names of the key's other parts.
    labels: &'static [&'static str],
    help: &'static str,
}

const COUNTERS: [CounterFamily; 9] = [
    counter("request", "hedgerow_requests", &["band", "action", "mode"], "Decided requests."),
    counter(
        "signature",
        "hedgerow_signature_hits",
        &["signature"],
        "Requests that a signature, list or correlation hit.",
    ),
    counter(
        "incomplete",
        "hedgerow_incomplete_requests",
        &[],
        "Decided requests of which a part was not scored.",
    ),
    counter(
        "unscored",
        "hedgerow_unscored_requests",
        &["reason"],
        "Decided requests by reason why a part was not scored.",
    ),
    counter(
        "forwarded_unread",
        "hedgerow_forwarded_unread_requests",
        &[],
        "Requests that were forwarded unread.",
    ),
    counter(
        "scoring_failed",
        "hedgerow_scoring_failures",
        &[],
        "Requests that could not be scored.",
    ),
    counter("error", "hedgerow_faults", &[], "Faults in Hedgerow."),
    counter(
        "enforced",
        "hedgerow_enforced_requests",
        &[],
        "Requests that were refused or degraded.",
    ),
    counter(
        "enforced_not_kept",
        "hedgerow_enforced_decisions_not_kept",
        &[],
        "Enforced requests whose decision is not kept.",
    ),
];

const fn counter(
    kind: &'static str,
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> CounterFamily {
    CounterFamily { kind, name, labels, help }
}

/// Gauges from the registry's status: name, JSON pointer, and help. A value is a number, true or
/// false, or null. A text or an object counts as 1; null means that the series is missing, except
/// for the names in [`ZERO_IF_NULL`].
const GAUGES: [(&str, &str, &str); 16] = [
    ("hedgerow_release_serial", "/release/serial", "Serial of the newest release."),
    (
        "hedgerow_release_published_serial",
        "/publication/serial",
        "Serial of the release that isolates read.",
    ),
    (
        "hedgerow_release_publication_attempts",
        "/publication/attempts",
        "Failed attempts to publish the newest release.",
    ),
    (
        "hedgerow_release_expires_timestamp_seconds",
        "/release/release/expires",
        "End of the newest release, if it has one.",
    ),
    ("hedgerow_stopped", "/stop", "Whether enforcement is stopped."),
    (
        "hedgerow_pull_checked_timestamp_seconds",
        "/pull/checked",
        "Time of the last pull from CONFIG_URL.",
    ),
    ("hedgerow_pull_failing", "/pull/problem", "Whether the last pull from CONFIG_URL failed."),
    ("hedgerow_indicators_max", "/indicators/max", "Maximum number of indicators."),
    ("hedgerow_clusters", "/indicators/clusters", "Clusters of accounts."),
    (
        "hedgerow_indicators_failing",
        "/indicators/problem",
        "Whether indicators are not written to KV.",
    ),
    (
        "hedgerow_indicators_refused_by_quota",
        "/indicators/refused_by_quota",
        "Firings that a quota refused on this UTC day.",
    ),
    (
        "hedgerow_indicators_refused_as_weak",
        "/indicators/refused_as_weak",
        "Firings that stronger indicators refused on this UTC day.",
    ),
    (
        "hedgerow_queued_firings",
        "/indicators/queued_firings",
        "Firings that wait at the correlators.",
    ),
    (
        "hedgerow_queued_observations",
        "/indicators/queued_observations",
        "Most observations that waited at an isolate.",
    ),
    ("hedgerow_kv_writes", "/indicators/kv_writes", "Writes of indicators to KV on this UTC day."),
    (
        "hedgerow_kv_writes_max",
        "/indicators/kv_budget",
        "Maximum number of writes of indicators to KV per UTC day.",
    ),
];

/// Gauges that are 0 if the value is null.
const ZERO_IF_NULL: [&str; 3] =
    ["hedgerow_stopped", "hedgerow_pull_failing", "hedgerow_indicators_failing"];

/// Returns the text. `status` is the registry's status, `totals` the totals of the ledger, and
/// `recent` its counters of the last 60 seconds.
fn render(status: Option<&Value>, totals: Option<&Counters>, recent: Option<&Counters>) -> String {
    let mut text = Exposition::default();
    for (name, is_up, help) in [
        ("hedgerow_registry_up", status.is_some(), "Whether the registry answers."),
        ("hedgerow_ledger_up", totals.is_some(), "Whether the ledger answers."),
    ] {
        text.gauge(name, help, u64::from(is_up));
    }
    if let Some(totals) = totals {
        COUNTERS.iter().for_each(|family| text.counters(family, totals));
    }
    if let Some(recent) = recent {
        text.recent(recent);
    }
    if let Some(status) = status {
        text.status(status);
    }
    text.0.push_str("# EOF\n");
    text.0
}

/// Text in the OpenMetrics format. Writing to a `String` cannot fail, so results are ignored.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// Adds the heading of a family.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        for unit in ["seconds", "bytes"] {
            if name.ends_with(unit) {
                let _ = writeln!(self.0, "# UNIT {name} {unit}");
            }
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    /// Adds a series. `labels` are pairs of name and value.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            self.0.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.0, "{label}=\"{}\"", escape(text));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// Adds a family with one gauge.
    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// Adds a family of counters. A counter without labels is 0 if it has not been counted yet.
    fn counters(&mut self, family: &CounterFamily, totals: &Counters) {
        self.family(family.name, "counter", family.help);
        let name = format!("{}_total", family.name);
        let mut is_empty = true;
        let counts =
            totals.iter().filter(|(key, _)| key.first().is_some_and(|kind| kind == family.kind));
        for (key, count) in counts.take(MAX_SERIES) {
            let values = key.iter().skip(1).map(String::as_str);
            let labels: Vec<(&str, &str)> = family.labels.iter().copied().zip(values).collect();
            self.sample(&name, &labels, count);
            is_empty = false;
        }
        if is_empty && family.labels.is_empty() {
            self.sample(&name, &[], 0);
        }
    }

    /// Adds the gauges of the last 60 seconds: requests by release, and the memory of isolates.
    fn recent(&mut self, recent: &Counters) {
        let mut by_serial = Counters::default();
        let mut memory_mib: Option<u64> = None;
        for (key, count) in recent.iter() {
            match key {
                [kind, serial, ..] if kind == "request" => {
                    by_serial.add_unbounded(vec![serial.clone()], count);
                }
                [kind, mib] if kind == "memory" => memory_mib = memory_mib.max(mib.parse().ok()),
                _ => {}
            }
        }
        let name = "hedgerow_recent_requests";
        self.family(name, "gauge", "Decided requests of the last 60 seconds, by serial.");
        for (key, count) in by_serial.iter().take(MAX_SERIES) {
            let serial = key.first().map_or("", String::as_str);
            self.sample(name, &[("serial", serial)], count);
        }
        if let Some(mib) = memory_mib {
            let help = "Largest Wasm memory of an isolate in the last 60 seconds.";
            self.gauge("hedgerow_isolate_memory_bytes", help, mib << 20);
        }
    }

    /// Adds the state of the registry.
    fn status(&mut self, status: &Value) {
        let version = status.pointer("/version").and_then(Value::as_str).unwrap_or_default();
        self.family("hedgerow_build", "info", "Version of the Worker.");
        self.sample("hedgerow_build_info", &[("version", version)], 1);
        for (name, pointer, help) in GAUGES {
            let value = status.pointer(pointer).and_then(number);
            if let Some(value) = value.or(ZERO_IF_NULL.contains(&name).then_some(0)) {
                self.gauge(name, help, value);
            }
        }
        let Some(counts) = status.pointer("/indicators/by_correlation").and_then(Value::as_object)
        else {
            return;
        };
        let name = "hedgerow_indicators";
        self.family(name, "gauge", "Indicators in force.");
        for (correlation, count) in counts.iter().take(MAX_SERIES) {
            let count = count.as_u64().unwrap_or_default();
            self.sample(name, &[("correlation", correlation)], count);
        }
    }
}

/// Returns the value of a gauge; `None` for null.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Null => None,
        Value::Bool(value) => Some(u64::from(*value)),
        Value::Number(number) => Some(number.as_f64().unwrap_or_default() as u64),
        Value::String(_) | Value::Array(_) | Value::Object(_) => Some(1),
    }
}

/// Escapes the value of a label.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    fn counters(rows: &[(&[&str], u64)]) -> Counters {
        let mut counters = Counters::default();
        for (key, count) in rows {
            let key = key.iter().map(|part| (*part).to_owned()).collect();
            counters.add_unbounded(key, *count);
        }
        counters
    }

    #[test]
    fn families_have_the_text_of_the_format() {
        let totals = counters(&[
            (&["request", "clear", "allow", "shadow"], 40),
            (&["request", "suspect", "degrade", "enforce"], 2),
            (&["signature", "a\\b\"c\nd"], 2),
            (&["error"], 3),
        ]);
        let recent = counters(&[
            (&["request", "7", "0c", "active", "clear", "allow", "shadow"], 4),
            (&["request", "7", "0c", "active", "suspect", "tag", "shadow"], 1),
            (&["request", "6", "0b", "active", "clear", "allow", "shadow"], 2),
            (&["memory", "32"], 1),
            (&["memory", "112"], 1),
        ]);
        let status = json!({
            "version": "0.1.0",
            "release": {"serial": 7, "release": {"expires": 1_795_600_000}},
            "stop": {"stop": {}},
            "pull": null,
            "indicators": {"by_correlation": {"cluster_template_hour": 5}, "problem": null},
        });
        let text = render(Some(&status), Some(&totals), Some(&recent));
        for expected in [
            "# TYPE hedgerow_registry_up gauge\n# HELP hedgerow_registry_up Whether the registry \
             answers.\nhedgerow_registry_up 1\n",
            "# TYPE hedgerow_requests counter\n# HELP hedgerow_requests Decided requests.\n\
             hedgerow_requests_total{band=\"clear\",action=\"allow\",mode=\"shadow\"} 40\n\
             hedgerow_requests_total{band=\"suspect\",action=\"degrade\",mode=\"enforce\"} 2\n",
            "hedgerow_signature_hits_total{signature=\"a\\\\b\\\"c\\nd\"} 2\n",
            "hedgerow_faults_total 3\n",
            "hedgerow_scoring_failures_total 0\n",
            "hedgerow_recent_requests{serial=\"6\"} 2\nhedgerow_recent_requests{serial=\"7\"} 5\n",
            "# UNIT hedgerow_isolate_memory_bytes bytes\n",
            "hedgerow_isolate_memory_bytes 117440512\n",
            "hedgerow_build_info{version=\"0.1.0\"} 1\n",
            "hedgerow_release_serial 7\n",
            "hedgerow_release_expires_timestamp_seconds 1795600000\n",
            "hedgerow_stopped 1\n",
            "hedgerow_pull_failing 0\n",
            "hedgerow_indicators{correlation=\"cluster_template_hour\"} 5\n",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert!(!text.contains("hedgerow_pull_checked"), "null has no series");
    }

    /// Returns the names of the families in a text, each once. Checks that each line is a heading
    /// or a sample of the family before it.
    fn family_names(text: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut family = String::new();
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(heading) = line.strip_prefix("# TYPE ") {
                family = heading.split(' ').next().unwrap().to_owned();
                assert!(names.insert(family.clone()), "{family} has two headings");
            } else if !line.starts_with("# ") {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = name.strip_prefix(&family).unwrap();
                assert!(["", "_total", "_info"].contains(&suffix), "{line}");
                assert!(line.rsplit(' ').next().unwrap().parse::<u64>().is_ok(), "{line}");
            }
        }
        names
    }

    #[test]
    fn a_part_that_does_not_answer_leaves_the_others() {
        let totals = counters(&[(&["enforced"], 1)]);
        let nothing = render(None, None, None);
        assert!(nothing.contains("hedgerow_registry_up 0\n"));
        assert!(nothing.contains("hedgerow_ledger_up 0\n"));
        assert_eq!(family_names(&nothing).len(), 2);
        assert_eq!(family_names(&render(None, Some(&totals), None)).len(), 2 + COUNTERS.len());
    }

    #[test]
    fn the_number_of_series_is_limited() {
        let mut totals = Counters::default();
        for index in 0..MAX_SERIES + 50 {
            totals.add_unbounded(vec!["signature".to_owned(), format!("s{index:06}")], 1);
        }
        let text = render(None, Some(&totals), None);
        assert_eq!(text.matches("hedgerow_signature_hits_total{").count(), MAX_SERIES);
        assert!(text.contains("s000000") && !text.contains("s001049"), "the order is stable");
    }

    #[test]
    fn the_documentation_names_every_family() {
        let page = include_str!("../../../docs/metrics.md");
        let status = json!({"indicators": {"by_correlation": {"a": 1}}});
        let recent = counters(&[(&["memory", "16"], 1)]);
        let mut names = family_names(&render(Some(&status), Some(&recent), Some(&recent)));
        names.extend(GAUGES.iter().map(|(name, ..)| (*name).to_owned()));
        for name in names {
            assert!(page.contains(&format!("`{name}`")), "docs/metrics.md lacks {name}");
        }
    }
}
