//! A correlator's groups as bytes, in parts, so that a part that did not change is not written again.
//!
//! A part is a version byte and then, in postcard: the trackers by identity, the groups, what is
//! put aside, and what was told. Groups of a tracker that is not tracked any more are left out when they are read back.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Correlator;
use super::group_table::{Group, GroupState, PARTITIONS};
use super::plan::{Aggregation, Plan};
use super::singletons::Singleton;
use crate::error::Error;

/// The form that this version writes, and the only one that it reads.
const FORMAT_VERSION: u8 = 3;

#[derive(Serialize, Deserialize)]
struct PartitionSnapshot {
    /// Trackers by identity, with the times that they look back; in the order in which groups name them.
    aggregations: Vec<(u64, Vec<u32>)>,
    groups: Vec<GroupSnapshot>,
    /// What is put aside, by grouping.
    group_bys: Vec<u64>,
    /// Key, time, observation.
    singletons: Vec<(u64, u32, Singleton)>,
    /// Correlations, in the order in which those that were told name them.
    correlations: Vec<String>,
    /// When which was told to hold for a key.
    firings: Vec<(u16, u64, u32)>,
}

#[derive(Serialize, Deserialize)]
struct GroupSnapshot {
    key: u64,
    aggregation: u16,
    newest: u32,
    state: GroupState,
}

impl Correlator {
    /// The parts that have changed since this was last called, by number.
    pub fn drain_dirty(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut partitions = Vec::new();
        while let Some((partition, bytes)) = self.first_dirty_partition() {
            self.mark_written(partition);
            partitions.push((partition, bytes));
        }
        partitions
    }

    /// The first part that has changed since it was written: one at a time, for who has no room for all.
    pub fn first_dirty_partition(&self) -> Option<(usize, Vec<u8>)> {
        let partition = self.table.dirty.iter().position(|dirty| *dirty)?;
        Some((partition, self.encode_partition(partition)))
    }

    /// Notes that a part was written.
    pub fn mark_written(&mut self, partition: usize) {
        if let Some(dirty) = self.table.dirty.get_mut(partition) {
            *dirty = false;
        }
    }

    /// All parts.
    pub fn encode_partitions(&self) -> Vec<Vec<u8>> {
        (0..PARTITIONS).map(|partition| self.encode_partition(partition)).collect()
    }

    /// Takes in a part that was written by a correlator of the same shard, now or before; what is known
    /// already is added to. So this also merges one correlator into another.
    pub fn merge_partition(&mut self, bytes: &[u8], now: u32) -> Result<(), Error> {
        let damaged =
            || Error::new("this is no part of a snapshot", "drop it: counting begins anew");
        let (version, payload) = bytes.split_first().ok_or_else(damaged)?;
        if *version != FORMAT_VERSION {
            let problem = format!("version {version} of snapshots is not known");
            return Err(Error::new(problem, "drop it: counting begins anew"));
        }
        let snapshot: PartitionSnapshot = postcard::from_bytes(payload).map_err(|_| damaged())?;
        let plan = Arc::clone(&self.plan);
        let aggregation_indexes: HashMap<u64, usize> = plan
            .aggregations
            .iter()
            .enumerate()
            .map(|(index, aggregation)| (aggregation.id, index))
            .collect();
        for saved in snapshot.groups {
            let Some((id, windows)) = snapshot.aggregations.get(usize::from(saved.aggregation))
            else {
                continue;
            };
            let Some(index) = aggregation_indexes.get(id) else { continue };
            self.merge_group(&plan, *index, saved, windows, now);
        }
        let group_by_indexes: HashMap<u64, u16> = (0..)
            .zip(&plan.group_bys)
            .filter_map(|(index, group_by)| Some((group_by.deferral.as_ref()?.id, index)))
            .collect();
        for (key, at, singleton) in snapshot.singletons {
            let id = snapshot.group_bys.get(usize::from(singleton.group_by));
            let Some(group_by) = id.and_then(|id| group_by_indexes.get(id)).copied() else {
                continue;
            };
            self.restore_deferred(&plan, key, (Singleton { group_by, ..singleton }, at), now);
        }
        let correlation_index = |name: &String| {
            plan.correlations.iter().position(|correlation| correlation.name == *name)
        };
        let correlation_indexes: Vec<Option<usize>> =
            snapshot.correlations.iter().map(correlation_index).collect();
        for (correlation, key, fired_at) in snapshot.firings {
            let index = correlation_indexes.get(usize::from(correlation)).copied().flatten();
            let Some(index) = index.and_then(|index| u16::try_from(index).ok()) else { continue };
            if self.refire_limiter.has_room((key, index)) {
                let previous =
                    self.refire_limiter.last_fired.get(&(key, index)).copied().unwrap_or_default();
                self.refire_limiter.record((key, index), fired_at.max(previous));
            }
        }
        Ok(())
    }

    fn encode_partition(&self, partition: usize) -> Vec<u8> {
        let groups = self.table.groups_in_partition(partition).map(|group| GroupSnapshot {
            key: group.key,
            aggregation: group.aggregation,
            newest: group.newest,
            state: group.state.clone(),
        });
        let firings = self.refire_limiter.last_fired.iter();
        let firings = firings.filter(|((key, _), _)| (*key >> 60) as usize == partition);
        let (aggregations, correlations) =
            (self.plan.aggregations.iter(), self.plan.correlations.iter());
        // In the same order whenever they are the same.
        let mut firings: Vec<_> =
            firings.map(|((key, correlation), fired_at)| (*correlation, *key, *fired_at)).collect();
        firings.sort_unstable();
        let snapshot = PartitionSnapshot {
            aggregations: aggregations
                .map(|aggregation| (aggregation.id, aggregation.windows.clone()))
                .collect(),
            groups: groups.collect(),
            group_bys: self
                .plan
                .group_bys
                .iter()
                .map(|group_by| group_by.deferral.as_ref().map_or(0, |deferral| deferral.id))
                .collect(),
            singletons: self.singletons.entries_in_partition(partition).collect(),
            correlations: correlations.map(|correlation| correlation.name.clone()).collect(),
            firings,
        };
        postcard::to_extend(&snapshot, vec![FORMAT_VERSION]).unwrap_or_default()
    }

    fn merge_group(
        &mut self,
        plan: &Plan,
        index: usize,
        saved: GroupSnapshot,
        windows: &[u32],
        now: u32,
    ) {
        let Some(aggregation) = plan.aggregations.get(index) else { return };
        let aggregation_index = u16::try_from(index).unwrap_or(u16::MAX);
        let empty_state = GroupState::new(aggregation);
        if std::mem::discriminant(&empty_state) != std::mem::discriminant(&saved.state) {
            return;
        }
        let GroupSnapshot { key, newest, state, .. } = saved;
        let state = match state {
            GroupState::Distinct(values) => {
                GroupState::Distinct(values.with_windows(windows, &aggregation.windows))
            }
            state => state,
        };
        let new_group = Group {
            key,
            aggregation: aggregation_index,
            newest,
            skip_checks: 0,
            state: empty_state,
        };
        let retention = |index: u16| super::group_retention(plan, index);
        self.table.update(
            (key, 0),
            now,
            &retention,
            || new_group,
            |group| {
                group.newest = group.newest.max(newest);
                group.state.merge(&state, aggregation, group.newest);
            },
        );
    }
}

impl GroupState {
    fn merge(&mut self, other: &Self, aggregation: &Aggregation, newest: u32) {
        match (self, other) {
            (Self::Distinct(values), Self::Distinct(other)) => {
                values.merge(other, newest, &aggregation.windows)
            }
            (Self::Sum(window_sum), Self::Sum(other)) => {
                window_sum.merge(other, newest, aggregation.max_window())
            }
            (Self::LastSeen(last_seen), Self::LastSeen(other)) => last_seen.merge(other),
            (Self::Ordered(ordered_match), Self::Ordered(other)) => ordered_match.merge(other),
            _ => {}
        }
    }
}
