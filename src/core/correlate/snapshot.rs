//! Saves and restores a correlator partition by partition, so that only changed partitions are
//! saved again.
//!
//! A saved partition begins with a version byte. The rest is in the format of the crate `postcard`:
//!
//! - the ids and windows of the aggregations, and the groups
//! - the ids of the group-bys (combinations of fields), and the singletons
//! - the names of the correlations, and the firings
//!
//! If the plan has changed since then, entries of an aggregation, group-by or correlation that the
//! new plan does not have are dropped.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::correlator::Correlator;
use super::group::Group;
use super::group_state::GroupState;
use super::group_table::PARTITIONS;
use super::plan::Plan;
use super::singletons::{SoleAccountEvents, TimedSingleton};
use crate::error::Error;

/// Format version, the first byte of a partition. Other versions are rejected.
const FORMAT_VERSION: u8 = 1;

/// A saved partition. The order of the struct's fields is part of the format, here and in the
/// structs below.
#[derive(Serialize, Deserialize)]
struct PartitionSnapshot {
    /// Aggregations, in the order of the indexes in `groups`.
    aggregations: Vec<AggregationSnapshot>,
    groups: Vec<GroupSnapshot>,
    /// Ids of the deferrals, in the order of the indexes in `singletons`; 0 for a group-by without
    /// deferral.
    group_bys: Vec<u64>,
    singletons: Vec<SingletonSnapshot>,
    /// Names of the correlations, in the order of the indexes in `firings`.
    correlations: Vec<String>,
    firings: Vec<FiringSnapshot>,
}

#[derive(Serialize, Deserialize)]
struct AggregationSnapshot {
    id: u64,
    /// Seconds of each time window.
    windows: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
struct GroupSnapshot {
    key: u64,
    aggregation: u16,
    newest: u32,
    state: GroupState,
}

#[derive(Serialize, Deserialize)]
struct SingletonSnapshot {
    key: u64,
    at: u32,
    singleton: SoleAccountEvents,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct FiringSnapshot {
    correlation: u16,
    key: u64,
    fired_at: u32,
}

impl Correlator {
    /// Returns the index and the encoding of the first partition that has changed since it was
    /// saved; `None` if no partition has changed. A call returns only one partition, because a host
    /// may not have the memory for all. The host saves the partition, and then calls
    /// [`Correlator::mark_saved`].
    pub fn first_dirty_partition(&self) -> Option<(usize, Vec<u8>)> {
        let partition = self.table.first_dirty()?;
        Some((partition, self.encode_partition(partition)))
    }

    /// Marks a partition as saved.
    pub fn mark_saved(&mut self, partition: usize) {
        self.table.mark_saved(partition);
    }

    /// Returns all partitions that have changed since they were saved, with their indexes, and
    /// marks them as saved. For tests.
    pub fn drain_dirty(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut partitions = Vec::new();
        while let Some((partition, bytes)) = self.first_dirty_partition() {
            self.mark_saved(partition);
            partitions.push((partition, bytes));
        }
        partitions
    }

    /// Returns all partitions. For tests: hosts save with [`Correlator::first_dirty_partition`].
    pub fn encode_partitions(&self) -> Vec<Vec<u8>> {
        (0..PARTITIONS).map(|partition| self.encode_partition(partition)).collect()
    }

    /// Restores a partition that a correlator of the same shard has saved, perhaps with an earlier
    /// plan. Saved counts are added to existing counts, so this also merges two correlators. `now`
    /// is the current time, in seconds since the epoch.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a partition of this format version.
    pub fn merge_partition(&mut self, bytes: &[u8], now: u32) -> Result<(), Error> {
        let snapshot = PartitionSnapshot::decode(bytes)?;
        let plan = Arc::clone(&self.plan);
        self.restore_groups(&plan, snapshot.aggregations, snapshot.groups, now);
        self.restore_singletons(&plan, &snapshot.group_bys, snapshot.singletons, now);
        self.restore_firings(&plan, &snapshot.correlations, snapshot.firings);
        Ok(())
    }

    fn encode_partition(&self, partition: usize) -> Vec<u8> {
        let aggregations = self.plan.aggregations.iter().map(|aggregation| AggregationSnapshot {
            id: aggregation.id,
            windows: aggregation.windows.clone(),
        });
        let groups = self.table.groups_in_partition(partition).map(|group| GroupSnapshot {
            key: group.key,
            aggregation: group.aggregation,
            newest: group.newest,
            state: group.state.clone(),
        });
        let group_bys = self.plan.group_bys.iter();
        let group_bys =
            group_bys.map(|group_by| group_by.deferral.as_ref().map_or(0, |deferral| deferral.id));
        let singletons = self.singletons.entries_in_partition(partition).map(|(key, timed)| {
            SingletonSnapshot { key, at: timed.at, singleton: timed.singleton }
        });
        let correlations = self.plan.correlations.iter();
        let snapshot = PartitionSnapshot {
            aggregations: aggregations.collect(),
            groups: groups.collect(),
            group_bys: group_bys.collect(),
            singletons: singletons.collect(),
            correlations: correlations.map(|correlation| correlation.name.clone()).collect(),
            firings: self.firings_in_partition(partition),
        };
        postcard::to_extend(&snapshot, vec![FORMAT_VERSION]).unwrap_or_default()
    }

    /// Returns the firings of a partition. They are sorted, so that equal firings encode to equal
    /// bytes.
    fn firings_in_partition(&self, partition: usize) -> Vec<FiringSnapshot> {
        let mut firings: Vec<FiringSnapshot> = self
            .refire_limiter
            .iter()
            .filter(|(id, _)| (id.key >> 60) as usize == partition)
            .map(|(id, fired_at)| FiringSnapshot {
                correlation: id.correlation,
                key: id.key,
                fired_at,
            })
            .collect();
        firings.sort_unstable();
        firings
    }

    fn restore_groups(
        &mut self,
        plan: &Plan,
        aggregations: Vec<AggregationSnapshot>,
        groups: Vec<GroupSnapshot>,
        now: u32,
    ) {
        let aggregation_indexes: HashMap<u64, usize> = plan
            .aggregations
            .iter()
            .enumerate()
            .map(|(index, aggregation)| (aggregation.id, index))
            .collect();
        for saved in groups {
            if let Some(AggregationSnapshot { id, windows }) =
                aggregations.get(usize::from(saved.aggregation))
                && let Some(index) = aggregation_indexes.get(id)
            {
                self.merge_group(plan, *index, saved, windows, now);
            }
        }
    }

    fn restore_singletons(
        &mut self,
        plan: &Plan,
        group_by_ids: &[u64],
        singletons: Vec<SingletonSnapshot>,
        now: u32,
    ) {
        let group_by_indexes: HashMap<u64, u16> = (0..)
            .zip(&plan.group_bys)
            .filter_map(|(index, group_by)| Some((group_by.deferral.as_ref()?.id, index)))
            .collect();
        for SingletonSnapshot { key, at, singleton } in singletons {
            let id = group_by_ids.get(usize::from(singleton.group_by));
            if let Some(group_by) = id.and_then(|id| group_by_indexes.get(id)).copied() {
                let singleton = SoleAccountEvents { group_by, ..singleton };
                self.restore_deferred(plan, key, TimedSingleton { singleton, at }, now);
            }
        }
    }

    fn restore_firings(
        &mut self,
        plan: &Plan,
        correlation_names: &[String],
        firings: Vec<FiringSnapshot>,
    ) {
        let correlation_index = |name: &String| {
            plan.correlations.iter().position(|correlation| correlation.name == *name)
        };
        let correlation_indexes: Vec<Option<usize>> =
            correlation_names.iter().map(correlation_index).collect();
        for FiringSnapshot { correlation, key, fired_at } in firings {
            if let Some(Some(index)) = correlation_indexes.get(usize::from(correlation)) {
                self.refire_limiter.restore(*index, key, fired_at);
            }
        }
    }

    /// Adds the counts of a saved group. `windows` are the windows, in seconds, that its
    /// aggregation had when the group was saved.
    fn merge_group(
        &mut self,
        plan: &Plan,
        index: usize,
        saved: GroupSnapshot,
        windows: &[u32],
        now: u32,
    ) {
        let Some(aggregation) = plan.aggregations.get(index) else { return };
        let GroupSnapshot { key, newest, state, .. } = saved;
        let new_group = Group::new(key, index, aggregation, newest);
        if std::mem::discriminant(&new_group.state) != std::mem::discriminant(&state) {
            return;
        }
        let state = match state {
            GroupState::Distinct(values) => {
                GroupState::Distinct(values.with_windows(windows, &aggregation.windows))
            }
            state => state,
        };
        self.table.update(
            key,
            0,
            now,
            plan,
            || new_group,
            |group| {
                group.newest = group.newest.max(newest);
                group.state.merge(&state, aggregation, group.newest);
            },
        );
    }
}

impl PartitionSnapshot {
    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let remedy = "delete it: counting starts again from zero";
        let invalid = || Error::new("correlator snapshot is invalid", remedy);
        let (version, payload) = bytes.split_first().ok_or_else(invalid)?;
        if *version != FORMAT_VERSION {
            let problem = format!(
                "correlator snapshot has format version {version}: expected {FORMAT_VERSION}"
            );
            return Err(Error::new(problem, remedy));
        }
        postcard::from_bytes(payload).map_err(|_| invalid())
    }
}
