//! The status of the indicators: how full the table is, and which accounts, tenants and networks
//! have caused the most indicators.

use std::collections::HashMap;

use hedgerow_core::api;
use serde::Deserialize;

use super::Registry;
use super::clusters::MAX_LINKS;
use super::tables::Tables;
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;

/// Maximum number of accounts that the status lists. The same maximum applies to tenants and to
/// networks.
const MAX_LISTED: usize = 5;

impl Registry {
    /// Returns the member `indicators` of the status.
    pub(super) fn indicators_status(&self) -> Result<api::IndicatorStatus, ApiError> {
        let publication = self.publication_state()?;
        let (clusters, links) =
            (self.with_clusters(|clusters| clusters.iter().count())?, self.tables()?.link_count()?);
        let mut firing_stats = self.firing_stats.borrow_mut();
        firing_stats.begin_day(now_seconds());
        let now = now_seconds();
        self.with_indicators(|stored| {
            let table = &stored.active;
            let counts_by_cause = table.counts_by_cause();
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
                queued_firings: firing_stats.queued.values().map(|queued| queued.firings).sum(),
                queued_observations: firing_stats
                    .queued
                    .values()
                    .map(|queued| queued.observations)
                    .max()
                    .unwrap_or_default(),
                kv_writes: publication.writes_today,
                kv_budget: self.settings.kv_writes_per_day(),
                refused_by_quota: firing_stats.refused_by_quota,
                refused_as_weak: firing_stats.refused_as_weak,
                replaced: firing_stats.replaced,
                top_accounts: largest(&counts_by_cause.accounts),
                top_tenants: largest(&counts_by_cause.tenants),
                top_networks: largest(&counts_by_cause.networks),
            }
        })
    }

    /// Returns the number of indicators that have not expired. `correlation` and `cluster`, the id
    /// of a cluster, count only some of them. The number is computed from the indicators in memory,
    /// because a count in SQL would read all rows.
    pub(super) fn count_indicators(
        &self,
        correlation: Option<&str>,
        cluster: Option<&str>,
    ) -> Result<u64, ApiError> {
        let cluster = cluster.map(|id| u32::from_str_radix(id, 16).ok());
        self.with_indicators(|stored| {
            self.with_clusters(|clusters| {
                let is_in_cluster = |key: u64, id: Option<u32>| {
                    id.is_some() && clusters.for_key(key).map(|found| found.id) == id
                };
                stored.count(now_seconds(), |name, key| {
                    correlation.is_none_or(|expected| expected == name)
                        && cluster.is_none_or(|id| is_in_cluster(key, id))
                })
            })
        })?
    }
}

impl Tables {
    /// Returns the approximate number of links. The number includes deleted links between the first
    /// and the last link. An exact count would have to read all rows for each status.
    fn link_count(&self) -> Result<u64, ApiError> {
        #[derive(Deserialize)]
        struct Row {
            count: Option<u64>,
        }
        let query = "SELECT MAX(id) - MIN(id) + 1 AS count FROM link";
        Ok(self.row::<Row>(query, Vec::new())?.and_then(|row| row.count).unwrap_or_default())
    }
}

/// Returns at most [`MAX_LISTED`] hashes with their counts, the highest count first.
fn largest(counts: &HashMap<u64, u32>) -> Vec<api::IndicatorCause> {
    let mut sorted: Vec<(u32, u64)> = counts.iter().map(|(hash, count)| (*count, *hash)).collect();
    sorted.sort_unstable_by(|left, right| right.cmp(left));
    let cause = |(count, hash): (u32, u64)| api::IndicatorCause {
        id: format!("{hash:016x}"),
        count: count.into(),
    };
    sorted.into_iter().take(MAX_LISTED).map(cause).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_causes_of_most_indicators_come_first() {
        let counts = (1..=9).map(|hash| (hash, hash as u32 % 4)).collect();
        let ids: Vec<String> = largest(&counts).into_iter().map(|cause| cause.id).collect();
        let expected = [7, 3, 6, 2, 9].map(|hash| format!("{hash:016x}"));
        assert_eq!(ids, expected);
    }
}
