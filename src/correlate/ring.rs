//! Events of a group by time: how many, and their sum, over a window that slides in steps.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

/// Steps that a window is made of, of a second at least. A step counts as long as all of it is within
/// the window: an event is counted for 31/32 of the window at least, and never after it.
pub const STEPS: u32 = 32;

/// Counts and sums of the steps in which there were events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ring(Vec<Step>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Step {
    number: u32,
    count: u32,
    sum: f32,
}

impl Ring {
    /// Notes so many events of a value each. `newest` is the time of the group's latest event, these
    /// included.
    pub fn add(&mut self, (value, events): (f64, u16), at: u32, newest: u32, window: u32) {
        let sum = finite(value * f64::from(events));
        let events = u32::from(events);
        let number = at.checked_div(width(window)).unwrap_or(at);
        if !is_within(number, newest, window) {
            return;
        }
        self.0.retain(|step| is_within(step.number, newest, window));
        match self.0.binary_search_by_key(&number, |step| step.number) {
            Ok(place) => {
                if let Some(known) = self.0.get_mut(place) {
                    known.count = known.count.saturating_add(events);
                    known.sum = finite(f64::from(known.sum) + f64::from(sum));
                }
            }
            Err(place) => {
                if self.0.is_empty() {
                    self.0.reserve_exact(1);
                }
                self.0.insert(place, Step { number, count: events, sum });
            }
        }
    }

    /// The number of events in the window, and their sum.
    pub fn total(&self, newest: u32, window: u32) -> (f64, f64) {
        let steps = self.0.iter().filter(|step| is_within(step.number, newest, window));
        steps.fold((0.0, 0.0), |(count, sum), step| {
            (count + f64::from(step.count), sum + f64::from(step.sum))
        })
    }

    /// Adds what another has seen of the same group.
    pub fn join(&mut self, other: &Self, newest: u32, window: u32) {
        for theirs in other.0.iter().filter(|step| is_within(step.number, newest, window)) {
            match self.0.binary_search_by_key(&theirs.number, |step| step.number) {
                Ok(place) => {
                    if let Some(own) = self.0.get_mut(place) {
                        own.count = own.count.saturating_add(theirs.count);
                        own.sum = finite(f64::from(own.sum) + f64::from(theirs.sum));
                    }
                }
                Err(place) => self.0.insert(place, *theirs),
            }
        }
        self.0.retain(|step| is_within(step.number, newest, window));
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.0.capacity().saturating_mul(size_of::<Step>())
    }
}

/// A number as it is kept: some that clients choose are larger.
pub fn finite(number: f64) -> f32 {
    number.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32
}

/// Seconds of a step.
fn width(window: u32) -> u32 {
    window.div_ceil(STEPS).max(1)
}

fn is_within(number: u32, newest: u32, window: u32) -> bool {
    let start = number.saturating_mul(width(window));
    newest.saturating_sub(start) < window
}
