//! The enforced decisions since the last report: requests that were refused or degraded.
//!
//! Unlike the sample, the buffer keeps every such decision, so that support can look each of them
//! up. A decision that does not fit is only counted. If a report may have been lost, its decisions
//! are sent again with the next report.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

/// Maximum number of decisions in a report.
const MAX_DECISIONS: usize = 1_000;

/// Maximum bytes of the decisions in a report.
const MAX_BYTES: usize = 512 << 10;

/// The effect of a decision on its request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// Whether the request was refused, or its body was edited.
    pub is_enforced: bool,
    /// Outcome of the action `degrade`; `None` if the action was not carried out.
    pub degraded: Option<&'static str>,
}

/// Enforced decisions as JSON, the oldest first.
///
/// A full buffer drops decisions of the account that has the most bytes in it. So a single account
/// that is refused all the time does not prevent the decisions about others from being kept.
#[derive(Default)]
pub struct EnforcedBuffer {
    decisions: Vec<Entry>,
    /// Bytes of all decisions.
    bytes: usize,
    /// Bytes of the decisions by account.
    bytes_by_account: HashMap<String, usize>,
}

struct Entry {
    /// Account id; empty if the request had no account.
    account: String,
    decision: Box<RawValue>,
}

impl EnforcedBuffer {
    /// Adds a decision about a request of `account`, which is empty if the request had none.
    /// Returns the number of decisions that are dropped because the buffer is full.
    pub fn push(&mut self, account: &str, decision: Box<RawValue>) -> u64 {
        let bytes = decision.get().len();
        let mut dropped = 0;
        while self.decisions.len() >= MAX_DECISIONS || self.bytes.saturating_add(bytes) > MAX_BYTES
        {
            dropped += 1;
            if !self.drop_newest_of_largest(account, bytes) {
                return dropped;
            }
        }
        self.bytes += bytes;
        *self.bytes_by_account.entry(account.to_owned()).or_default() += bytes;
        self.decisions.push(Entry { account: account.to_owned(), decision });
        dropped
    }

    /// Drops the newest decision of the account with the most bytes. Returns false, and drops
    /// nothing, if no account has more bytes than `account` would have with `bytes` more.
    fn drop_newest_of_largest(&mut self, account: &str, bytes: usize) -> bool {
        let own = self.bytes_by_account.get(account).copied().unwrap_or(0).saturating_add(bytes);
        let largest = self.bytes_by_account.iter().max_by_key(|(_, bytes)| **bytes);
        let Some((largest, _)) = largest.filter(|(_, bytes)| **bytes > own) else { return false };
        let newest = self.decisions.iter().rposition(|entry| entry.account == *largest);
        let Some(newest) = newest else { return false };
        let Entry { account, decision } = self.decisions.remove(newest);
        let freed = decision.get().len();
        self.bytes = self.bytes.saturating_sub(freed);
        if let Some(bytes) = self.bytes_by_account.get_mut(&account) {
            *bytes = bytes.saturating_sub(freed);
        }
        true
    }

    /// Removes and returns all decisions.
    pub fn take(&mut self) -> Vec<Box<RawValue>> {
        std::mem::take(self).decisions.into_iter().map(|entry| entry.decision).collect()
    }

    /// Puts the decisions of a lost report before the decisions that were added since. Returns the
    /// number of decisions that no longer fit.
    pub fn restore(&mut self, decisions: Vec<Box<RawValue>>) -> u64 {
        let newer = std::mem::take(self).decisions;
        let lost = decisions
            .into_iter()
            .map(|decision| Entry { account: account_of(&decision).unwrap_or_default(), decision });
        lost.chain(newer).map(|entry| self.push(&entry.account, entry.decision)).sum()
    }
}

/// Returns the account id in the JSON of a decision; `None` if the request had none.
fn account_of(decision: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Sender {
        account: Option<String>,
    }
    serde_json::from_str::<Sender>(decision.get()).ok()?.account
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(number: usize, bytes: usize) -> Box<RawValue> {
        decision_of("a", number, bytes)
    }

    fn decision_of(account: &str, number: usize, bytes: usize) -> Box<RawValue> {
        let padding = "x".repeat(bytes);
        let json = format!("{{\"account\":\"{account}\",\"n\":{number},\"x\":\"{padding}\"}}");
        RawValue::from_string(json).unwrap()
    }

    #[test]
    fn a_burst_is_kept_up_to_the_limits() {
        let mut buffer = EnforcedBuffer::default();
        let dropped: u64 = (0..2_000).map(|number| buffer.push("a", decision(number, 10))).sum();
        assert_eq!((dropped, buffer.take().len()), (1_000, MAX_DECISIONS));
        let dropped: u64 = (0..2_000).map(|number| buffer.push("a", decision(number, 2_000))).sum();
        let kept = buffer.take();
        assert_eq!(dropped + kept.len() as u64, 2_000);
        assert_eq!(kept.len(), MAX_BYTES / decision(100, 2_000).get().len());
        assert_eq!(buffer.push("a", decision(0, 10)), 0, "there is room again");
    }

    #[test]
    fn a_flood_of_one_account_leaves_room_for_others() {
        let mut buffer = EnforcedBuffer::default();
        for number in 0..5_000 {
            buffer.push("flood", decision_of("flood", number, 4_000));
        }
        for number in 0..50 {
            let account = format!("customer-{number}");
            buffer.push(&account, decision_of(&account, number, 500));
        }
        let kept = buffer.take();
        let of_customers = kept.iter().filter(|json| json.get().contains("customer")).count();
        assert_eq!(of_customers, 50);
        assert!(kept.iter().any(|json| json.get().contains("\"n\":0,")), "the oldest stay");
    }

    #[test]
    fn decisions_of_a_lost_report_come_first() {
        let mut buffer = EnforcedBuffer::default();
        let lost = (0..900).map(|number| decision(number, 1)).collect();
        (900..1_100).for_each(|number| assert_eq!(buffer.push("a", decision(number, 1)), 0));
        assert_eq!(buffer.restore(lost), 100);
        let kept = buffer.take();
        assert_eq!(kept.len(), MAX_DECISIONS);
        assert!(kept[0].get().contains(":0,") && kept[999].get().contains(":999,"));
    }
}
