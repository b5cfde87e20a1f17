//! The enforced decisions since the last report: requests that were refused or degraded.
//!
//! Unlike the sample, the buffer keeps every such decision, so that support can look each of them
//! up. A decision that does not fit is only counted. If a report may have been lost, its decisions
//! are sent again with the next report.

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
#[derive(Default)]
pub struct EnforcedBuffer {
    decisions: Vec<Box<RawValue>>,
    /// Bytes of all decisions.
    bytes: usize,
}

impl EnforcedBuffer {
    /// Adds a decision. Returns false if the buffer has no room for it.
    pub fn push(&mut self, decision: Box<RawValue>) -> bool {
        let bytes = self.bytes.saturating_add(decision.get().len());
        if self.decisions.len() >= MAX_DECISIONS || bytes > MAX_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.decisions.push(decision);
        true
    }

    /// Removes and returns all decisions.
    pub fn take(&mut self) -> Vec<Box<RawValue>> {
        std::mem::take(self).decisions
    }

    /// Puts the decisions of a lost report before the decisions that were added since. Returns the
    /// number of decisions that no longer fit, which are the newest ones.
    pub fn restore(&mut self, decisions: Vec<Box<RawValue>>) -> u64 {
        let newer = self.take();
        let all = decisions.into_iter().chain(newer);
        all.map(|decision| u64::from(!self.push(decision))).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(number: usize, bytes: usize) -> Box<RawValue> {
        let padding = "x".repeat(bytes);
        RawValue::from_string(format!("{{\"n\":{number},\"x\":\"{padding}\"}}")).unwrap()
    }

    #[test]
    fn a_burst_is_kept_up_to_the_limits() {
        let mut buffer = EnforcedBuffer::default();
        let kept = (0..2_000).filter(|number| buffer.push(decision(*number, 10))).count();
        assert_eq!(kept, MAX_DECISIONS);
        assert_eq!(buffer.take().len(), MAX_DECISIONS);
        let kept = (0..2_000).filter(|number| buffer.push(decision(*number, 2_000))).count();
        assert_eq!(kept, MAX_BYTES / decision(100, 2_000).get().len());
        buffer.take();
        assert!(buffer.push(decision(0, 10)), "there is room again");
    }

    #[test]
    fn decisions_of_a_lost_report_come_first() {
        let mut buffer = EnforcedBuffer::default();
        let lost = (0..900).map(|number| decision(number, 1)).collect();
        (900..1_100).for_each(|number| assert!(buffer.push(decision(number, 1))));
        assert_eq!(buffer.restore(lost), 100);
        let kept = buffer.take();
        assert_eq!(kept.len(), MAX_DECISIONS);
        assert!(kept[0].get().contains(":0,") && kept[999].get().contains(":999,"));
    }
}
