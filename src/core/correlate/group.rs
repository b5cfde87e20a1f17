//! A group: the events that share the values of some fields, for one aggregation.

use super::context::AggregationContext;
use super::event_time::{is_from_future, is_within};
use super::group_state::GroupState;
use super::hits::AggregationHit;
use super::plan::{Aggregation, Predicate, Rule};

/// After a failed check, the coordination of a group is not checked for some events: for one event
/// per 32 values of the group.
const RECHECK_DIVISOR: usize = 32;

/// Length in seconds of the shortest window in which fewer events than the mean are expected of a
/// new account.
const MIN_PROPORTIONAL_WINDOW: u32 = 86_400;

/// Minimum share of the mean number of events that is expected of a new account, however new it is.
const MIN_AGE_SHARE: f64 = 0.125;

/// A group, with its counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Key in the group table.
    pub key: u64,
    /// Index of the aggregation in the plan.
    pub aggregation: u16,
    /// Time of the latest event, in seconds since the epoch.
    pub newest: u32,
    /// Number of further events for which the coordination is not checked.
    pub skip_checks: u16,
    /// Counts of the group's events, in the form that the aggregation needs.
    pub state: GroupState,
}

impl Group {
    /// Creates a group without events.
    pub fn new(key: u64, aggregation_index: usize, aggregation: &Aggregation, at: u32) -> Self {
        Self {
            key,
            aggregation: u16::try_from(aggregation_index).unwrap_or(u16::MAX),
            newest: at,
            skip_checks: 0,
            state: GroupState::new(aggregation),
        }
    }

    /// Counts the hits that belong to the group. `first_value` is the first value of the group. If
    /// the group has expired, its counts begin again from zero. Returns whether the coordination of
    /// the group is due for a check.
    pub fn record(
        &mut self,
        context: &AggregationContext<'_>,
        hits: &[AggregationHit],
        first_value: u64,
    ) -> bool {
        let (at, now) = (context.event.at, context.event.now);
        let is_expired = !is_within(self.newest, at, context.aggregation.max_window());
        if is_expired || is_from_future(self.newest, now) {
            self.state = GroupState::new(context.aggregation);
            self.newest = at;
            self.skip_checks = 0;
        }
        self.newest = self.newest.max(at);
        let is_check_due = self.skip_checks == 0;
        self.skip_checks = self.skip_checks.saturating_sub(1);
        let hits = hits.iter().filter(|hit| hit.belongs_to(first_value));
        self.state.record(context, self.newest, hits.map(|hit| hit.source));
        is_check_due
    }

    /// Returns the measured number if a rule holds, or else `None`.
    ///
    /// `is_check_due` is the result of [`Group::record`]. If it is false, a rule that demands
    /// coordination is not checked and does not hold, because a check reads all values.
    pub fn measure(
        &mut self,
        context: &AggregationContext<'_>,
        rule: &Rule,
        is_check_due: bool,
    ) -> Option<f64> {
        let value = self.state.measure(context, rule, self.newest)?;
        let is_coordinated = (is_check_due || !rule.predicate.checks_coordination())
            && self.meets_coordination(context, rule);
        is_coordinated.then_some(value)
    }

    /// Returns whether the account of the event has at least [`Rule::min_own_events`] events; true
    /// if the rule has no minimum. This cheap check comes before [`Group::takes_part`].
    pub fn may_take_part(&self, context: &AggregationContext<'_>, rule: &Rule) -> bool {
        rule.min_own_events.is_none_or(|min| self.own_events(context, rule) >= min)
    }

    /// Returns whether the account of the event takes part in a rule that holds: whether this
    /// account has at least half of its expected events. True if the indicators of the rule are not
    /// for accounts.
    pub fn takes_part(&self, context: &AggregationContext<'_>, rule: &Rule) -> bool {
        let expected = self.expected_events(context, rule);
        rule.min_own_events.is_none()
            || expected.is_finite() && 2.0 * self.own_events(context, rule) >= expected
    }

    /// Returns the number of events that are expected of the account of the event: the group's
    /// mean.
    ///
    /// If the rule demands that most accounts begin together, an account that replaces another
    /// account has had less time than the group. So proportionally fewer events are expected of the
    /// new account. This applies only to windows of a day or longer: in a shorter window, a person
    /// who comes back from a break counts as new again. The result is infinity for an account that
    /// sent requests before the others began: such an account did not begin with the others, and
    /// does not take part.
    fn expected_events(&self, context: &AggregationContext<'_>, rule: &Rule) -> f64 {
        let mean = self.mean_events(context, rule);
        let (Some(within), GroupState::Distinct(values)) =
            (rule.predicate.synchronized_within(), &self.state)
        else {
            return mean;
        };
        let window = context.window(rule);
        let begins = values.common_start(rule.window, window, self.newest, within);
        match values.first_seen(context.salted_principal(), rule.window) {
            Some(first_seen) if first_seen < begins => f64::INFINITY,
            Some(first_seen) if window >= MIN_PROPORTIONAL_WINDOW => {
                // The mean covers the time since the others began, but at most one window.
                let span = self.newest.saturating_sub(begins).clamp(1, window);
                let age = f64::from(self.newest.saturating_sub(first_seen));
                mean * (age / f64::from(span)).clamp(MIN_AGE_SHARE, 1.0)
            }
            _ => mean,
        }
    }

    /// Returns the mean number of events per value in the window of a rule; 0 if the group does not
    /// count values.
    pub fn mean_events(&self, context: &AggregationContext<'_>, rule: &Rule) -> f64 {
        let GroupState::Distinct(values) = &self.state else { return 0.0 };
        values.mean_events(rule.window, context.window(rule), self.newest)
    }

    /// Returns the number of events of the account of the event; 0 without an account. Returns
    /// infinity if the rule does not depend on the number of events of each account.
    fn own_events(&self, context: &AggregationContext<'_>, rule: &Rule) -> f64 {
        if context.event.observation.account() == 0 {
            return 0.0;
        }
        match &self.state {
            GroupState::Distinct(values)
                if context.aggregation.counts_tenants()
                    && (rule.predicate.requires_events_per_value()
                        || !context.aggregation.has_correlation_events()) =>
            {
                values.events_of(context.salted_principal(), rule.window)
            }
            // The event is a correlation, which holds only for an account that takes part. So the
            // account needs no further events.
            _ => f64::INFINITY,
        }
    }

    /// Returns the hashes of the accounts to report for a rule that holds.
    pub fn accounts(&self, context: &AggregationContext<'_>, rule: &Rule) -> Vec<u64> {
        self.state.accounts(context, rule, self.newest)
    }

    /// Returns a rank for eviction: about the number of accounts that share the group, halved for
    /// every `retention / 4` seconds since the latest event; 0 if this event is in the future.
    pub fn retention_rank(&self, now: u32, retention: u32) -> u8 {
        if is_from_future(self.newest, now) {
            return 0;
        }
        let age = now.saturating_sub(self.newest);
        let halvings = age.checked_div((retention / 4).max(1)).unwrap_or(age);
        self.state.rank().checked_shr(halvings).unwrap_or(0)
    }

    /// Returns whether the values show the coordination of a rule; true if the rule demands no
    /// coordination or the group counts no values. After a failed check, checks are skipped for one
    /// event per 32 values in the window.
    fn meets_coordination(&mut self, context: &AggregationContext<'_>, rule: &Rule) -> bool {
        let (Predicate::Thresholds { coordination, .. }, GroupState::Distinct(distinct_values)) =
            (&rule.predicate, &self.state)
        else {
            return true;
        };
        let window = context.window(rule);
        let is_coordinated = distinct_values.meets(coordination, rule.window, window, self.newest);
        if !is_coordinated {
            let values = distinct_values.values_in_window(rule.window, window, self.newest);
            let skipped = values.count() / RECHECK_DIVISOR;
            self.skip_checks = u16::try_from(skipped).unwrap_or(u16::MAX);
        }
        is_coordinated
    }
}
