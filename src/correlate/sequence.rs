//! When a group last had hits of which rules, and in which order.
#![deny(clippy::arithmetic_side_effects)]

use serde::{Deserialize, Serialize};

/// When each rule was last hit; 0 where it was not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen(Box<[u32]>);

impl Seen {
    /// Nothing seen of so many rules.
    pub fn new(rules: usize) -> Self {
        Self(vec![0; rules].into())
    }

    /// Notes a hit.
    pub fn add(&mut self, rule: usize, at: u32) {
        if let Some(last) = self.0.get_mut(rule) {
            *last = at.max(*last);
        }
    }

    /// Whether a rule was hit within the window.
    pub fn has(&self, rule: usize, newest: u32, window: u32) -> bool {
        let last = self.0.get(rule).copied().unwrap_or_default();
        last > 0 && newest.saturating_sub(last) < window
    }

    /// Adds what another has seen of the same group.
    pub fn join(&mut self, other: &Self) {
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            *own = (*own).max(*theirs);
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.0.len().saturating_mul(size_of::<u32>())
    }
}

/// Of the hits of rules in their order, the sequence up to each rule that began last; and the one that
/// began last among those that end with another value, where values have to differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chain(Box<[[Link; 2]]>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Link {
    /// When the sequence began; 0 where there is none.
    began: u32,
    /// When its last rule was hit.
    at: u32,
    /// With which value.
    value: u64,
}

impl Chain {
    /// Nothing seen of so many rules.
    pub fn new(rules: usize) -> Self {
        Self(vec![Default::default(); rules].into())
    }

    /// Notes a hit. A late one joins a sequence only at its end: so a sequence may be missed, and none
    /// is invented. Where `value` is given, a hit joins only hits of another one.
    pub fn add(&mut self, rule: usize, at: u32, value: Option<u64>) {
        let began = match rule.checked_sub(1) {
            None => Some(at),
            Some(before) => {
                let before = self.0.get(before).into_iter().flatten();
                let fits = |link: &&Link| {
                    link.began > 0 && link.at <= at && value.is_none_or(|value| value != link.value)
                };
                before.filter(fits).map(|link| link.began).max()
            }
        };
        if let (Some(began), Some(links)) = (began, self.0.get_mut(rule)) {
            keep(links, Link { began, at, value: value.unwrap_or_default() });
        }
    }

    /// Whether all rules were hit in their order, within the window.
    pub fn is_whole(&self, newest: u32, window: u32) -> bool {
        self.0
            .last()
            .is_some_and(|[link, _]| link.began > 0 && newest.saturating_sub(link.began) < window)
    }

    /// Takes of each rule the sequences that began last, of both.
    pub fn join(&mut self, other: &Self) {
        for (own, theirs) in self.0.iter_mut().zip(&other.0) {
            theirs.iter().for_each(|link| keep(own, *link));
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }
}

/// Keeps the sequence that began last, and the one of another value that began last.
fn keep([best, other]: &mut [Link; 2], new: Link) {
    // Of two that began together, the one that can be joined by more hits ended first.
    let is_better =
        |new: &Link, old: &Link| new.began > old.began || new.began == old.began && new.at < old.at;
    if new.value == best.value {
        if is_better(&new, best) {
            *best = new;
        }
    } else if is_better(&new, best) {
        *other = std::mem::replace(best, new);
    } else if is_better(&new, other) {
        *other = new;
    }
}
