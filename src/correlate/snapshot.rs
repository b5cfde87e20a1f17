//! A correlator's groups as bytes, in parts, so that a part that did not change is not written again.
//!
//! A part is a version byte and then, in postcard: the trackers by identity, the groups, what is
//! put aside, and what was told. Groups of a tracker that is not tracked any more are left out when they are read back.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Correlator;
use super::plan::{Plan, Tracker};
use super::shelf::Aside;
use super::table::{Group, PARTS, State};
use crate::error::Error;

/// The form that this version writes, and the only one that it reads.
const VERSION: u8 = 3;

#[derive(Serialize, Deserialize)]
struct Part {
    /// Trackers by identity, with the times that they look back; in the order in which groups name them.
    trackers: Vec<(u64, Vec<u32>)>,
    groups: Vec<Kept>,
    /// What is put aside, by grouping.
    groupings: Vec<u64>,
    /// Key, time, observation.
    asides: Vec<(u64, u32, Aside)>,
    /// Correlations, in the order in which those that were told name them.
    correlations: Vec<String>,
    /// When which was told to hold for a key.
    told: Vec<(u16, u64, u32)>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: u64,
    tracker: u16,
    newest: u32,
    state: State,
}

impl Correlator {
    /// The parts that have changed since this was last called, by number.
    pub fn changed(&mut self) -> Vec<(usize, Vec<u8>)> {
        let mut parts = Vec::new();
        while let Some((number, part)) = self.first_changed() {
            self.written(number);
            parts.push((number, part));
        }
        parts
    }

    /// The first part that has changed since it was written: one at a time, for who has no room for all.
    pub fn first_changed(&self) -> Option<(usize, Vec<u8>)> {
        let number = self.table.dirty.iter().position(|dirty| *dirty)?;
        Some((number, self.part(number)))
    }

    /// Notes that a part was written.
    pub fn written(&mut self, number: usize) {
        if let Some(dirty) = self.table.dirty.get_mut(number) {
            *dirty = false;
        }
    }

    /// All parts.
    pub fn parts(&self) -> Vec<Vec<u8>> {
        (0..PARTS).map(|number| self.part(number)).collect()
    }

    /// Takes in a part that was written by a correlator of the same shard, now or before; what is known
    /// already is added to. So this also merges one correlator into another.
    pub fn take(&mut self, bytes: &[u8], now: u32) -> Result<(), Error> {
        let damaged =
            || Error::new("this is no part of a snapshot", "drop it: counting begins anew");
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            let problem = format!("version {version} of snapshots is not known");
            return Err(Error::new(problem, "drop it: counting begins anew"));
        }
        let part: Part = postcard::from_bytes(rest).map_err(|_| damaged())?;
        let plan = Arc::clone(&self.plan);
        let places: HashMap<u64, usize> =
            plan.trackers.iter().enumerate().map(|(place, tracker)| (tracker.id, place)).collect();
        for kept in part.groups {
            let Some((id, windows)) = part.trackers.get(usize::from(kept.tracker)) else {
                continue;
            };
            let Some(place) = places.get(id) else { continue };
            self.keep(&plan, *place, kept, windows, now);
        }
        let ids: HashMap<u64, u16> = (0..)
            .zip(&plan.groupings)
            .filter_map(|(place, own)| Some((own.aside.as_ref()?.id, place)))
            .collect();
        for (key, at, aside) in part.asides {
            let id = part.groupings.get(usize::from(aside.grouping));
            let Some(grouping) = id.and_then(|id| ids.get(id)).copied() else { continue };
            self.keep_aside(&plan, key, (Aside { grouping, ..aside }, at), now);
        }
        let place = |name: &String| plan.correlations.iter().position(|own| own.name == *name);
        let places: Vec<Option<usize>> = part.correlations.iter().map(place).collect();
        for (correlation, key, told) in part.told {
            let place = places.get(usize::from(correlation)).copied().flatten();
            let Some(place) = place.and_then(|place| u16::try_from(place).ok()) else { continue };
            if self.told.has_room((key, place)) {
                let known = self.told.times.get(&(key, place)).copied().unwrap_or_default();
                self.told.note((key, place), told.max(known));
            }
        }
        Ok(())
    }

    fn part(&self, number: usize) -> Vec<u8> {
        let groups = self.table.part(number).map(|group| Kept {
            key: group.key,
            tracker: group.tracker,
            newest: group.newest,
            state: group.state.clone(),
        });
        let of_part = self.told.times.iter();
        let of_part = of_part.filter(|((key, _), _)| (*key >> 60) as usize == number);
        let (trackers, correlations) = (self.plan.trackers.iter(), self.plan.correlations.iter());
        // In the same order whenever they are the same.
        let mut of_part: Vec<_> = of_part.map(|((key, own), told)| (*own, *key, *told)).collect();
        of_part.sort_unstable();
        let part = Part {
            trackers: trackers.map(|tracker| (tracker.id, tracker.windows.clone())).collect(),
            groups: groups.collect(),
            groupings: self
                .plan
                .groupings
                .iter()
                .map(|own| own.aside.as_ref().map_or(0, |own| own.id))
                .collect(),
            asides: self.shelf.part(number).collect(),
            correlations: correlations.map(|own| own.name.clone()).collect(),
            told: of_part,
        };
        postcard::to_extend(&part, vec![VERSION]).unwrap_or_default()
    }

    fn keep(&mut self, plan: &Plan, place: usize, kept: Kept, windows: &[u32], now: u32) {
        let Some(tracker) = plan.trackers.get(place) else { return };
        let number = u16::try_from(place).unwrap_or(u16::MAX);
        let fits = State::of(tracker);
        if std::mem::discriminant(&fits) != std::mem::discriminant(&kept.state) {
            return;
        }
        let Kept { key, newest, state, .. } = kept;
        let state = match state {
            State::Members(members) => State::Members(members.arranged(windows, &tracker.windows)),
            state => state,
        };
        let group = Group { key, tracker: number, newest, rest: 0, state: fits };
        let window = |tracker: u16| super::kept(plan, tracker);
        self.table.with(
            (key, 0),
            now,
            &window,
            || group,
            |group| {
                group.newest = group.newest.max(newest);
                group.state.join(&state, tracker, group.newest);
            },
        );
    }
}

impl State {
    fn join(&mut self, other: &Self, tracker: &Tracker, newest: u32) {
        match (self, other) {
            (Self::Members(own), Self::Members(other)) => own.join(other, newest, &tracker.windows),
            (Self::Ring(own), Self::Ring(other)) => own.join(other, newest, tracker.longest()),
            (Self::Seen(own), Self::Seen(other)) => own.join(other),
            (Self::Chain(own), Self::Chain(other)) => own.join(other),
            _ => {}
        }
    }
}
