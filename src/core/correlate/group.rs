//! A group: the events that share the values of some fields, for one aggregation.

use super::context::AggregationContext;
use super::event_time::{is_from_future, is_within};
use super::group_state::GroupState;
use super::hits::AggregationHit;
use super::plan::{Aggregation, Predicate, Rule};

/// The coordination of a group is checked again after 1/32 as many events as it has values.
const RECHECK_DIVISOR: usize = 32;

/// Seconds of the shortest window in which new accounts need fewer events.
const MIN_PROPORTIONAL_WINDOW: u32 = 86_400;

/// A new account needs at least this share of the events of an account that was there for the whole
/// time.
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
    /// Counts of its events, in the form that the aggregation needs.
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

    /// Counts the hits that belong to the group. Returns whether its coordination is due for a
    /// check.
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
        self.state.record(context, self.newest, hits.map(|hit| hit.event));
        is_check_due
    }

    /// Returns the measured number if a rule holds.
    ///
    /// `is_check_due` says whether the coordination is checked at all, as [`Group::record`]
    /// returned it: a check reads all values.
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

    /// Returns whether the account of the event may take part, if a rule is about accounts: whether
    /// it has enough events for [`Group::takes_part`].
    pub fn may_take_part(&self, context: &AggregationContext<'_>, rule: &Rule) -> bool {
        rule.min_own_events.is_none_or(|min| self.own_events(context, rule) >= min)
    }

    /// Returns whether the account of the event takes part in a rule that holds, if the rule is
    /// about accounts: whether it has at least half of the events that are expected of it.
    pub fn takes_part(&self, context: &AggregationContext<'_>, rule: &Rule) -> bool {
        let expected = self.expected_events(context, rule);
        rule.min_own_events.is_none()
            || expected.is_finite() && 2.0 * self.own_events(context, rule) >= expected
    }

    /// Returns the number of events that are expected of the account of the event: the group's
    /// mean.
    ///
    /// If most accounts must begin together, an account that replaces another one has had less
    /// time than the group, and needs less, in proportion. This holds only for windows of a day or
    /// longer: to a shorter one, a person who comes back from a break is new again. An account that
    /// was there before the others began has not begun with them: infinity.
    fn expected_events(&self, context: &AggregationContext<'_>, rule: &Rule) -> f64 {
        let mean = self.mean_events(context, rule);
        let (Some(within), GroupState::Distinct(values)) =
            (rule.predicate.common_start(), &self.state)
        else {
            return mean;
        };
        let window = context.window(rule);
        let begins = values.common_start(rule.window, window, self.newest, within);
        match values.first_seen(context.salted_principal(), rule.window) {
            Some(first_seen) if first_seen < begins => f64::INFINITY,
            Some(first_seen) if window >= MIN_PROPORTIONAL_WINDOW => {
                // The mean covers the time since the others began, or the window.
                let span = self.newest.saturating_sub(begins).clamp(1, window);
                let age = f64::from(self.newest.saturating_sub(first_seen));
                mean * (age / f64::from(span)).clamp(MIN_AGE_SHARE, 1.0)
            }
            _ => mean,
        }
    }

    /// Returns the mean number of events of the values of a rule; 0 if it does not count values.
    pub fn mean_events(&self, context: &AggregationContext<'_>, rule: &Rule) -> f64 {
        let GroupState::Distinct(values) = &self.state else { return 0.0 };
        values.mean_events(rule.window, context.window(rule), self.newest)
    }

    /// Returns the number of events of the account of the event; 0 without an account.
    fn own_events(&self, context: &AggregationContext<'_>, rule: &Rule) -> f64 {
        if context.event.observation.account() == 0 {
            return 0.0;
        }
        match &self.state {
            GroupState::Distinct(values)
                if context.aggregation.counts_tenants()
                    && (rule.predicate.demands_load()
                        || !context.aggregation.has_correlation_events()) =>
            {
                values.events_of(context.salted_principal(), rule.window)
            }
            // The event is a correlation that holds for an account that takes part.
            _ => f64::INFINITY,
        }
    }

    /// Returns the hashes of the accounts to report for a rule that holds.
    pub fn accounts(&self, context: &AggregationContext<'_>, rule: &Rule) -> Vec<u64> {
        self.state.accounts(context, rule, self.newest)
    }

    /// Returns a rank for eviction: about the number of accounts that share the group, halved for
    /// each quarter of `retention` seconds since the latest event.
    pub fn retention_rank(&self, now: u32, retention: u32) -> u8 {
        if is_from_future(self.newest, now) {
            return 0;
        }
        let age = now.saturating_sub(self.newest);
        let halvings = age.checked_div((retention / 4).max(1)).unwrap_or(age);
        self.state.rank().checked_shr(halvings).unwrap_or(0)
    }

    /// Returns whether the values show the coordination of a rule. If not, the next checks are
    /// skipped until 1/32 as many events have been counted as there are values.
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
