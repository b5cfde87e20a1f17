//! Totals since the ledger began to count: the table `total`. They never decrease, as monitoring
//! systems require of counters.
//!
//! A total is the sum of the table, which has the hours that are added up, and of the stored
//! minutes after these hours. So the totals need only one write per key and hour. The current
//! minute is in memory, where a crash or a deployment loses it: it is not part of the totals until
//! it is stored, because a total that decreases looks like a restart at zero.

use super::{HOUR, Ledger, MINUTE};
use crate::ledger_do::counters::{
    ANY_REASON, CounterKey, Counters, ENFORCED, ENFORCED_DROPPED, ENFORCED_EVICTED, SCORING_FAILED,
};
use crate::ledger_do::rollup::parse_key;
use crate::platform::sql::integer;

/// Returns the key under which a counter is added to the totals; `None` if it has no total. The
/// keys of totals do not contain releases, clusters, paths or messages, because their number grows
/// without limit.
///
/// | key | total of |
/// |---|---|
/// | `request`, band, action, mode | decided requests |
/// | `signature`, name | hits |
/// | `unscored`, reason | requests of which a part was not scored, by reason |
/// | `incomplete` | the same, each request once |
/// | `forwarded_unread` | requests that were forwarded unread |
/// | `error` | faults in Hedgerow |
/// | `scoring_failed` | requests that could not be scored |
/// | `enforced` | requests that were refused or degraded |
/// | `enforced_not_kept` | of these, those whose decision is not kept |
fn total_key(key: &[String]) -> Option<CounterKey> {
    let (kind, parts) = key.split_first()?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let total: &[&str] = match (kind.as_str(), parts.as_slice()) {
        ("request", [_, _, _, band, action, mode]) => &["request", band, action, mode],
        ("signature", [_, name]) => &["signature", name],
        ("unscored", [reason]) if *reason == ANY_REASON => &["incomplete"],
        ("unscored", [reason]) => &["unscored", reason],
        ("forwarded_unread", _) => &["forwarded_unread"],
        ("error", _) => &["error"],
        (SCORING_FAILED, []) => &[SCORING_FAILED],
        (ENFORCED, []) => &[ENFORCED],
        (ENFORCED_DROPPED | ENFORCED_EVICTED, []) => &["enforced_not_kept"],
        _ => return None,
    };
    Some(total.iter().map(|part| (*part).to_owned()).collect())
}

/// Adds a counter to `totals`, if it has a total.
fn add(totals: &mut Counters, key: &[String], count: u64) {
    if let Some(key) = total_key(key) {
        totals.add_unbounded(key, count);
    }
}

impl Ledger {
    /// Returns all totals.
    pub(super) fn totals(&self) -> worker::Result<Counters> {
        let mut totals = self.new_totals(u64::MAX)?;
        for row in self.counter_rows("SELECT key, count FROM total", Vec::new())? {
            totals.add_unbounded(parse_key(&row.key), row.count);
        }
        Ok(totals)
    }

    /// Adds the minutes before `end`, in seconds since the epoch, to the table. Call this before
    /// their hours are marked as added up, and only then.
    pub(super) fn add_to_totals(&self, end: u64) -> worker::Result<()> {
        for (key, count) in self.new_totals(end)?.iter() {
            let key = serde_json::to_string(key).unwrap_or_default();
            let query = "INSERT INTO total (key, count) VALUES (?, ?)
                ON CONFLICT DO UPDATE SET count = count + excluded.count";
            self.sql().exec(query, vec![key.into(), integer(count)])?;
        }
        Ok(())
    }

    /// Sums the stored minutes that are before `end` and not added up yet.
    fn new_totals(&self, end: u64) -> worker::Result<Counters> {
        let query = "SELECT key, SUM(count) AS count FROM rollup
            WHERE seconds = ? AND start < ?
                AND start >= (SELECT IFNULL(MAX(hour) + ?, 0) FROM rolled_up)
            GROUP BY key";
        let mut totals = Counters::default();
        for row in self.counter_rows(query, [MINUTE, end, HOUR].map(integer).to_vec())? {
            add(&mut totals, &parse_key(&row.key), row.count);
        }
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_drop_the_parts_of_keys_whose_number_grows() {
        let rows: [(&[&str], Option<&[&str]>); 11] = [
            (
                &["request", "4", "0c8d", "active", "suspect", "degrade", "enforce"],
                Some(&["request", "suspect", "degrade", "enforce"]),
            ),
            (&["signature", "0c8d", "synthesis_pairs"], Some(&["signature", "synthesis_pairs"])),
            (&["unscored", "late"], Some(&["unscored", "late"])),
            (&["unscored", "any"], Some(&["incomplete"])),
            (&["forwarded_unread", "POST", "/v1/*"], Some(&["forwarded_unread"])),
            (&["error", "kv: the release is invalid"], Some(&["error"])),
            (&["enforced_dropped"], Some(&["enforced_not_kept"])),
            (&["enforced_evicted"], Some(&["enforced_not_kept"])),
            (&["cluster", "17", "suspect"], None),
            (&["colo", "FRA"], None),
            (&[], None),
        ];
        for (key, expected) in rows {
            let owned = |parts: &[&str]| -> CounterKey {
                parts.iter().map(|part| (*part).to_owned()).collect()
            };
            assert_eq!(total_key(&owned(key)), expected.map(owned), "{key:?}");
        }
    }
}
