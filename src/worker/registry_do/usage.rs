//! The usage of the registry's room: how full it is, and who fills it.

use std::collections::{BTreeMap, HashMap};

use hedgerow_core::api;
use serde::Deserialize;

use super::Registry;
use super::clusters::MAX_LINKS;
use super::tables::Tables;
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;

/// Number of accounts, tenants and networks that are listed.
const MAX_LISTED: usize = 5;

/// Seconds of a day.
const DAY_SECONDS: u64 = 86_400;

/// Counts of what was not stored on one UTC day. Only memory has them.
#[derive(Default)]
pub(super) struct Usage {
    /// Number of the day since the epoch.
    day: u64,
    refused_by_quota: u64,
    refused_as_weak: u64,
    replaced: u64,
    /// Number of firings that wait at each correlator, as it last reported.
    queued: BTreeMap<u32, u64>,
}

impl Usage {
    /// Records the state of a correlator: the number of firings that wait, and the number that it
    /// has left out because of a quota. `now` is the time in seconds since the epoch.
    pub fn record_report(&mut self, now: u64, shard: u32, queued: u64, refused: u64) {
        // There are at most 64 correlators, but a release may have had other numbers.
        if self.queued.len() < 256 || self.queued.contains_key(&shard) {
            self.queued.insert(shard, queued);
        }
        self.record_refused_by_quota(now, refused);
    }

    /// Counts firings that were refused because of a quota.
    pub fn record_refused_by_quota(&mut self, now: u64, count: u64) {
        self.begin_day(now);
        self.refused_by_quota = self.refused_by_quota.saturating_add(count);
    }

    /// Counts a firing that was refused because all indicators were stronger, and returns the
    /// number of such firings on this day.
    pub fn record_refused_as_weak(&mut self, now: u64) -> u64 {
        self.begin_day(now);
        self.refused_as_weak = self.refused_as_weak.saturating_add(1);
        self.refused_as_weak
    }

    /// Counts an indicator that replaced a weaker one.
    pub fn record_replaced(&mut self, now: u64) {
        self.begin_day(now);
        self.replaced = self.replaced.saturating_add(1);
    }

    fn begin_day(&mut self, now: u64) {
        let day = now / DAY_SECONDS;
        if day != self.day {
            *self = Self { day, queued: std::mem::take(&mut self.queued), ..Self::default() };
        }
    }
}

impl Registry {
    /// Returns the member `indicators` of the status.
    pub(super) fn indicators_status(&self) -> Result<api::IndicatorStatus, ApiError> {
        let publication = self.publication_state()?;
        let (clusters, links) =
            (self.with_clusters(|clusters| clusters.iter().count())?, self.tables()?.link_count()?);
        let mut usage = self.usage.borrow_mut();
        usage.begin_day(now_seconds());
        let now = now_seconds();
        self.with_indicators(|stored| {
            let table = &stored.active;
            let holders = table.holders();
            let active = table.iter().filter(|(.., entry)| now < u64::from(entry.expires));
            api::IndicatorStatus {
                count: active.count() as u64,
                clusters: clusters as u64,
                pending: publication.is_pending,
                problem: publication.problem,
                max: table.max() as u64,
                max_per_correlation: table.max_per_correlation() as u64,
                by_correlation: table
                    .counts()
                    .map(|(name, count)| (name.to_owned(), count as u64))
                    .collect(),
                revoked: stored.revoked.len() as u64,
                links,
                max_links: MAX_LINKS,
                queued_firings: usage.queued.values().sum(),
                kv_writes: publication.writes_today,
                kv_budget: self.settings.kv_writes_per_day(),
                refused_by_quota: usage.refused_by_quota,
                refused_as_weak: usage.refused_as_weak,
                replaced: usage.replaced,
                top_accounts: largest(&holders.accounts),
                top_tenants: largest(&holders.tenants),
                top_networks: largest(&holders.networks),
            }
        })
    }
}

impl Tables {
    /// Returns about the number of links: deleted links between others are counted, too. A real
    /// count would read all rows for each status.
    fn link_count(&self) -> Result<u64, ApiError> {
        #[derive(Deserialize)]
        struct Row {
            count: Option<u64>,
        }
        let query = "SELECT MAX(id) - MIN(id) + 1 AS count FROM link";
        Ok(self.row::<Row>(query, Vec::new())?.and_then(|row| row.count).unwrap_or_default())
    }
}

/// Returns the hashes with the most indicators, the largest first.
fn largest(counts: &HashMap<u64, u32>) -> Vec<api::IndicatorHolder> {
    let mut sorted: Vec<(u32, u64)> = counts.iter().map(|(hash, count)| (*count, *hash)).collect();
    sorted.sort_unstable_by(|left, right| right.cmp(left));
    let holder = |(count, hash): (u32, u64)| api::IndicatorHolder {
        id: format!("{hash:016x}"),
        count: count.into(),
    };
    sorted.into_iter().take(MAX_LISTED).map(holder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_begin_again_each_day() {
        let mut usage = Usage::default();
        usage.record_report(10, 3, 7, 2);
        usage.record_refused_by_quota(20, 1);
        assert_eq!((usage.refused_by_quota, usage.record_refused_as_weak(30)), (3, 1));
        assert_eq!(usage.record_refused_as_weak(DAY_SECONDS), 1);
        assert_eq!((usage.refused_by_quota, usage.queued.get(&3)), (0, Some(&7)));
    }

    #[test]
    fn the_largest_holders_come_first() {
        let counts = (1..=9).map(|hash| (hash, hash as u32 % 4)).collect();
        let ids: Vec<String> = largest(&counts).into_iter().map(|holder| holder.id).collect();
        let expected = [7, 3, 6, 2, 9].map(|hash| format!("{hash:016x}"));
        assert_eq!(ids, expected);
    }
}
