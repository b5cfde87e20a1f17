//! The usage of the registry's room: how full it is, and who fills it.

use std::collections::HashMap;

use hedgerow_core::api;
use serde::Deserialize;

use super::Registry;
use super::clusters::MAX_LINKS;
use super::tables::Tables;
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;

/// Number of accounts, tenants and networks that are listed.
const MAX_LISTED: usize = 5;

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
                queued_firings: usage.queued.values().map(|queued| queued.firings).sum(),
                queued_observations: usage
                    .queued
                    .values()
                    .map(|queued| queued.observations)
                    .max()
                    .unwrap_or_default(),
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
    /// Returns the approximate number of links: deleted links between the first and the last are
    /// counted, too. An exact count would read all rows for each status.
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
    fn the_largest_holders_come_first() {
        let counts = (1..=9).map(|hash| (hash, hash as u32 % 4)).collect();
        let ids: Vec<String> = largest(&counts).into_iter().map(|holder| holder.id).collect();
        let expected = [7, 3, 6, 2, 9].map(|hash| format!("{hash:016x}"));
        assert_eq!(ids, expected);
    }
}
