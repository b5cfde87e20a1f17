//! What was told, so that it is not told again too soon.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::Plan;
use crate::indicator::{AsIs, MAX_INDICATORS};

/// When a correlation was last told to hold for a key.
#[derive(Debug, Default)]
pub struct Told {
    pub times: HashMap<(u64, u16), u32, BuildHasherDefault<AsIs>>,
    /// How many of each correlation.
    counts: Vec<usize>,
    /// When old ones were last forgotten for want of room.
    tidied: u32,
    /// Whether correlations are told that only feed others.
    pub feeders: bool,
}

/// Firings that are remembered, so that they are not told again too soon: as many as there can be
/// indicators.
const MAX_TOLD: usize = MAX_INDICATORS;

/// One correlation has that share of them at most.
const SHARE: usize = 4;

/// Seconds between two looks for firings that can be forgotten.
const TIDY: u32 = 60;

/// A firing is told again after so much of the time that it lasts.
const AGAIN: u32 = 4;

impl Told {
    /// Whether a correlation has not been told lately to hold for a key.
    pub fn is_due(&self, plan: &Plan, correlation: usize, key: u64, at: u32) -> bool {
        let Some(own) = plan.correlations.get(correlation) else { return false };
        let told = self.times.get(&(key, u16::try_from(correlation).unwrap_or(u16::MAX)));
        (self.feeders || !own.is_feeder())
            && told.is_none_or(|told| at.abs_diff(*told) >= own.lasts / AGAIN)
    }

    /// The same, and notes that it is told; there is no telling what cannot be remembered.
    pub fn is_news(&mut self, plan: &Plan, correlation: usize, key: u64, at: u32) -> bool {
        if !self.is_due(plan, correlation, key, at) {
            return false;
        }
        let place = (key, u16::try_from(correlation).unwrap_or(u16::MAX));
        // Looking through all of them takes long: not for every firing.
        if !self.has_room(place) && at.abs_diff(self.tidied) >= TIDY {
            self.tidied = at;
            self.times.retain(|(_, own), told| {
                let own = plan.correlations.get(usize::from(*own));
                own.is_some_and(|own| at.saturating_sub(*told) < own.lasts / AGAIN)
            });
            self.counts.clear();
            let all: Vec<u16> = self.times.keys().map(|(_, own)| *own).collect();
            all.into_iter().for_each(|own| self.tally(own));
        }
        let has_room = self.has_room(place);
        if has_room {
            self.note(place, at);
        }
        has_room
    }

    /// Whether one more can be remembered. A correlation that clients make hold at will leaves room for
    /// the others.
    pub fn has_room(&self, place: (u64, u16)) -> bool {
        let own = self.counts.get(usize::from(place.1)).copied().unwrap_or_default();
        self.times.len() < MAX_TOLD && own < MAX_TOLD / SHARE || self.times.contains_key(&place)
    }

    pub fn note(&mut self, place: (u64, u16), at: u32) {
        if self.times.insert(place, at).is_none() {
            self.tally(place.1);
        }
    }

    pub fn forget(&mut self, place: (u64, u16)) {
        if self.times.remove(&place).is_some()
            && let Some(count) = self.counts.get_mut(usize::from(place.1))
        {
            *count = count.saturating_sub(1);
        }
    }

    fn tally(&mut self, correlation: u16) {
        let place = usize::from(correlation);
        if self.counts.len() <= place {
            self.counts.resize(place.saturating_add(1), 0);
        }
        self.counts.get_mut(place).into_iter().for_each(|own| *own = own.saturating_add(1));
    }
}
