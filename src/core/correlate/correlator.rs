//! The correlator: counts observations, and reports the correlations that hold.

use std::sync::Arc;

use super::context::{AggregationContext, EventContext};
use super::event_time::plausible_time;
use super::firing::Firing;
use super::group::Group;
use super::group_key::{GroupKey, GroupKeys, group_keys};
use super::group_table::GroupTable;
use super::hits::{AggregationHit, HeldCorrelation, find_hits};
use super::observation::Observation;
use super::plan::{Plan, RelativeMinimumPlan, Rule, StateKind};
use super::refire_limiter::{FiringDecision, RefireLimiter};
use super::shard::Shard;
use super::singletons::SingletonTable;

/// Number of observations after which one set of the group table is searched for expired groups.
const OBSERVATIONS_PER_SWEEP: u32 = 4;

/// Counts observations by group and time window, for one shard of the groups.
#[derive(Debug)]
pub struct Correlator {
    pub(super) plan: Arc<Plan>,
    shard: Shard,
    /// Maximum bytes of `table` and `singletons` together.
    pub(super) max_bytes: usize,
    pub(super) table: GroupTable,
    pub(super) singletons: SingletonTable,
    pub(super) refire_limiter: RefireLimiter,
    /// Whether groups are deferred: created only when a second account uses their key. This
    /// concerns only groups for which the plan allows it.
    pub(super) deferral_enabled: bool,
    observation_count: u32,
    /// Groups of the current observation, for one combination of fields.
    pub(super) group_keys: GroupKeys,
    /// For each of `group_keys`, whether the observation is deferred. Missing entries mean false.
    pub(super) deferred: Vec<bool>,
    /// Buffer for the hits of an observation.
    hits: Vec<AggregationHit>,
    /// Buffer for the bitmap of the signatures that matched.
    signature_bits: Vec<u64>,
}

/// The correlations that hold after an observation is counted.
pub(super) struct Findings<'f> {
    /// Correlations that hold; they may be events of other correlations.
    pub satisfied: Vec<HeldCorrelation>,
    /// Firings to report.
    pub firings: &'f mut Vec<Firing>,
}

impl Correlator {
    /// Creates a correlator for a shard. Its tables take at most `max_bytes` bytes.
    pub fn new(plan: Arc<Plan>, shard: Shard, max_bytes: usize) -> Self {
        let deferral_enabled = plan.group_bys.iter().any(|group_by| group_by.deferral.is_some());
        let singletons = SingletonTable::new(if deferral_enabled { max_bytes / 2 } else { 0 });
        Self {
            plan,
            shard,
            max_bytes,
            table: GroupTable::new(max_bytes.saturating_sub(singletons.max_bytes())),
            singletons,
            refire_limiter: RefireLimiter::default(),
            deferral_enabled,
            observation_count: 0,
            group_keys: GroupKeys::default(),
            deferred: Vec::new(),
            hits: Vec::new(),
            signature_bits: Vec::new(),
        }
    }

    /// Counts an observation, and appends the resulting firings to `firings`. `now` is the current
    /// time, in seconds since the epoch.
    ///
    /// Groups of other shards are ignored.
    pub fn observe(&mut self, observation: &Observation, now: u32, firings: &mut Vec<Firing>) {
        let plan = Arc::clone(&self.plan);
        let mut signature_bits = std::mem::take(&mut self.signature_bits);
        set_signature_bits(&plan, observation, &mut signature_bits);
        let principals = observation.principals();
        let event = EventContext {
            plan: &plan,
            observation,
            signature_bits: &signature_bits,
            earlier_events: None,
            principals: &principals,
            at: plausible_time(observation.at, now),
            now,
        };
        let mut findings = Findings { satisfied: Vec::new(), firings };
        let mut hits = std::mem::take(&mut self.hits);
        self.count_signatures(&event, &mut hits, &mut findings);
        self.count_correlations(&event, &mut hits, &mut findings);
        self.hits = hits;
        self.signature_bits = signature_bits;
        self.observation_count = self.observation_count.wrapping_add(1);
        if self.observation_count.is_multiple_of(OBSERVATIONS_PER_SWEEP) {
            self.table.sweep(now, &plan);
        }
    }

    /// Disables deferral: every group is created for its first account. Tests compare the results
    /// with and without deferral.
    pub fn without_deferral(mut self) -> Self {
        self.deferral_enabled = false;
        self
    }

    /// Enables the firings of correlations that only feed other correlations, and disables
    /// deferral. The exemplars (test cases in rule files) of these correlations need the firings.
    pub fn fire_intermediates(&mut self) {
        self.refire_limiter.fires_intermediates = true;
        self.deferral_enabled = false;
    }

    /// Forgets that a correlation fired for a key, so that the correlation fires again at the next
    /// event. `name` is the name of the correlation.
    pub fn forget_firing(&mut self, name: &str, key: u64) {
        let position =
            self.plan.correlations.iter().position(|correlation| correlation.name == name);
        if let Some(correlation) = position {
            self.refire_limiter.forget(correlation, key);
            self.table.mark_dirty(key);
        }
    }

    /// Records that the host refused a firing of `accounts` accounts. The correlation `name` may
    /// fire for the key again from `until` on, in seconds since the epoch. If `accounts` is 2 or
    /// more, it may also fire as soon as more accounts take part.
    pub fn refuse_firing(&mut self, name: &str, key: u64, accounts: usize, until: u32) {
        let position =
            self.plan.correlations.iter().position(|correlation| correlation.name == name);
        if let Some(correlation) = position {
            self.refire_limiter.refuse(correlation, key, accounts, until);
            self.table.mark_dirty(key);
        }
    }

    /// Returns the bytes that the tables of groups and singletons take on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.table.heap_bytes().saturating_add(self.singletons.heap_bytes())
    }

    /// Returns the number of groups and deferred keys.
    #[cfg(test)]
    pub fn group_count(&self) -> usize {
        self.table.len().saturating_add(self.singletons.len())
    }

    /// Returns the number of groups that were evicted or not admitted for lack of memory. Public
    /// for the integration tests.
    pub fn evicted(&self) -> u64 {
        self.table.evicted()
    }

    /// Counts the observation in the aggregations whose events are signatures only, for each
    /// combination of fields to group by.
    fn count_signatures(
        &mut self,
        event: &EventContext<'_>,
        hits: &mut Vec<AggregationHit>,
        findings: &mut Findings<'_>,
    ) {
        for (group_by_index, group_by) in event.plan.group_bys.iter().enumerate() {
            hits.clear();
            if !group_by.counts(event.observation) {
                continue;
            }
            for index in group_by.aggregations.iter().copied() {
                let Some(aggregation) = event.plan.aggregations.get(index) else { continue };
                find_hits(index, aggregation, event, &[], hits);
            }
            if !hits.is_empty() {
                self.load_groups(&group_by.fields, event.observation);
                self.defer(event, group_by_index, hits);
                self.update_groups(event, hits, findings);
            }
        }
        self.deferred.clear();
    }

    /// Counts the observation in the aggregations that have correlations as events. `findings` has
    /// the correlations that hold so far.
    fn count_correlations(
        &mut self,
        event: &EventContext<'_>,
        hits: &mut Vec<AggregationHit>,
        findings: &mut Findings<'_>,
    ) {
        for (index, aggregation) in event.plan.aggregations.iter().enumerate() {
            if !aggregation.has_correlation_events() || !aggregation.counts(event.observation) {
                continue;
            }
            hits.clear();
            find_hits(index, aggregation, event, &findings.satisfied, hits);
            if !hits.is_empty() {
                self.load_groups(&aggregation.group_fields, event.observation);
                self.update_groups(event, hits, findings);
            }
        }
    }

    /// Sets `group_keys` to the groups of an observation by `fields`, without the groups of other
    /// shards.
    fn load_groups(&mut self, fields: &[u16], observation: &Observation) {
        group_keys(fields, observation, &mut self.group_keys);
        let shard = self.shard;
        if shard.count > 1 {
            self.group_keys.retain(|first_value| shard.owns(first_value));
        }
        self.group_keys.hash_values();
    }

    /// Counts hits for each of `group_keys`. For a key that is deferred, skips the hits of deferred
    /// aggregations. `hits` must be sorted by aggregation.
    fn update_groups(
        &mut self,
        event: &EventContext<'_>,
        hits: &[AggregationHit],
        findings: &mut Findings<'_>,
    ) {
        let group_keys = std::mem::take(&mut self.group_keys);
        let deferred = std::mem::take(&mut self.deferred);
        for hits in hits.chunk_by(|left, right| left.aggregation == right.aggregation) {
            let index = hits.first().map_or(usize::MAX, |hit| hit.aggregation);
            let Some(aggregation) = event.plan.aggregations.get(index) else { continue };
            let deferral_flags = deferred.iter().copied().chain(std::iter::repeat(false));
            let keys = || {
                let should_update = |(_, is_deferred): &(GroupKey<'_>, bool)| {
                    !is_deferred || aggregation.deferral_bit.is_none()
                };
                group_keys
                    .keys()
                    .zip(deferral_flags.clone())
                    .filter(should_update)
                    .map(|(key, _)| key)
            };
            self.table.prefetch(keys().map(|key| aggregation.table_key(key.values_hash)));
            let context = event.for_aggregation(aggregation);
            for key in keys() {
                if hits.iter().any(|hit| hit.belongs_to(key.first_value())) {
                    self.update_group(&context, key, hits, findings);
                }
            }
        }
        self.group_keys = group_keys;
        self.deferred = deferred;
    }

    /// Counts hits of one aggregation for one group, and adds the correlations that hold to
    /// `findings`.
    pub(super) fn update_group(
        &mut self,
        context: &AggregationContext<'_>,
        key: GroupKey<'_>,
        hits: &[AggregationHit],
        findings: &mut Findings<'_>,
    ) {
        let context = &context.for_group(key.values_hash);
        let AggregationContext { event, aggregation, .. } = *context;
        let table_key = aggregation.table_key(key.values_hash);
        // A sequence begins with an event of its first source: other events do not create a group.
        let can_create =
            aggregation.kind != StateKind::Ordered || hits.iter().any(|hit| hit.source == 0);
        if !can_create && !self.table.contains(table_key) {
            return;
        }
        let index = hits.first().map_or(usize::MAX, |hit| hit.aggregation);
        let other_counts = self.other_counts(context, key, |rule| rule.share);
        let varieties = self.other_counts(context, key, |rule| rule.variety);
        let refire_limiter = &mut self.refire_limiter;
        let old_firing_count = findings.firings.len();
        self.table.update(
            table_key,
            event.observation.account(),
            event.now,
            event.plan,
            || Group::new(table_key, index, aggregation, event.at),
            |group| {
                let is_check_due = group.record(context, hits, key.first_value());
                for (rule_index, rule) in aggregation.rules.iter().enumerate() {
                    let other_count = other_counts.get(rule_index).copied().flatten();
                    let variety = varieties.get(rule_index).copied().flatten();
                    if needs_measuring(refire_limiter, event, rule, key)
                        && group.may_take_part(context, rule)
                        && let Some(value) = group.measure(context, rule, is_check_due)
                        && group.takes_part(context, rule)
                        && meets_share(rule, value, other_count)
                        && meets_variety(rule, variety, value * group.mean_events(context, rule))
                    {
                        add_finding(refire_limiter, context, group, key, rule, value, findings);
                    }
                }
            },
        );
        // Firings are saved with the partition of their own key, which may differ from the group's.
        for firing in findings.firings.iter().skip(old_firing_count) {
            self.table.mark_dirty(firing.key);
        }
    }
}

impl Correlator {
    /// Returns, for each rule of an aggregation, the number of values that the other aggregation of
    /// its relative minimum counts for the key. The number is `None` if the rule has no such
    /// minimum, or if the other aggregation has no group for the key. `minimum_of` returns the
    /// relative minimum of a rule. The result is empty if no rule has one.
    fn other_counts(
        &self,
        context: &AggregationContext<'_>,
        key: GroupKey<'_>,
        minimum_of: fn(&Rule) -> Option<RelativeMinimumPlan>,
    ) -> Vec<Option<f64>> {
        let AggregationContext { event, aggregation, .. } = *context;
        if aggregation.rules.iter().all(|rule| minimum_of(rule).is_none()) {
            return Vec::new();
        }
        let count = |rule: &Rule| {
            let RelativeMinimumPlan { aggregation, window, .. } = minimum_of(rule)?;
            let base = event.plan.aggregations.get(aggregation)?;
            let group = self.table.group(base.table_key(key.values_hash))?;
            let seconds = base.windows.get(window).copied()?;
            group.state.distinct_count(window, seconds, event.at)
        };
        aggregation.rules.iter().map(count).collect()
    }
}

/// Returns whether `value`, the number of counted values, is a large enough share of `other_count`,
/// the number of values that the other aggregation counts for the key. True if the rule has no
/// share, or if `other_count` is `None`, because the other aggregation has no group for the key.
fn meets_share(rule: &Rule, value: f64, other_count: Option<f64>) -> bool {
    rule.share
        .zip(other_count)
        .is_none_or(|(share, base)| value * 100.0 >= share.min_percent * base)
}

/// Returns whether a key has enough values in the other aggregation for `events`, the number of its
/// events. `variety` is the number of these values; `None` counts as 0. True if the rule demands no
/// variety.
fn meets_variety(rule: &Rule, variety: Option<f64>, events: f64) -> bool {
    let meets = |minimum: RelativeMinimumPlan| {
        variety.unwrap_or_default() * 100.0 >= minimum.min_percent * events
    };
    rule.variety.is_none_or(meets)
}

/// Returns whether a rule must be measured: if its correlation is an event of other correlations,
/// or if a firing is due. Other rules are skipped, because measuring is expensive.
fn needs_measuring(
    refire_limiter: &RefireLimiter,
    event: EventContext<'_>,
    rule: &Rule,
    key: GroupKey<'_>,
) -> bool {
    let is_nested_event =
        event.plan.is_nested_event.get(rule.correlation).is_some_and(|feeds| *feeds);
    is_nested_event
        || refire_limiter.is_due(
            event.plan,
            rule.correlation,
            indicator_key(event, rule, key),
            event.at,
        )
}

/// Returns the key of the indicator that a rule makes: the account if the indicators of the rule
/// are for accounts, or else the key of the group.
fn indicator_key(event: EventContext<'_>, rule: &Rule, key: GroupKey<'_>) -> u64 {
    if rule.min_own_events.is_some() { event.observation.account() } else { key.values_hash }
}

/// Adds the correlation of a rule that holds for a group. Also adds a firing, if a firing is due
/// and the values of the key are known. `value` is the measured number.
fn add_finding(
    refire_limiter: &mut RefireLimiter,
    context: &AggregationContext<'_>,
    group: &Group,
    key: GroupKey<'_>,
    rule: &Rule,
    value: f64,
    findings: &mut Findings<'_>,
) {
    let EventContext { plan, at, .. } = context.event;
    let correlation = rule.correlation;
    findings.satisfied.push(HeldCorrelation { correlation, first_value: key.first_value() });
    let indicator_key = indicator_key(context.event, rule, key);
    if key.values.is_empty() || !refire_limiter.is_due(plan, correlation, indicator_key, at) {
        return;
    }
    let accounts = group.accounts(context, rule);
    let known = accounts.iter().filter(|account| **account != 0).count();
    let decision = refire_limiter.fire(plan, correlation, indicator_key, at, known);
    if decision != FiringDecision::Suppressed {
        let firing = context.firing(rule, key.values, value, accounts);
        findings
            .firings
            .push(Firing { is_repeated: decision == FiringDecision::Repeated, ..firing });
    }
}

/// Sets the bitmap of the signatures of an observation.
fn set_signature_bits(plan: &Plan, observation: &Observation, signature_bits: &mut Vec<u64>) {
    signature_bits.clear();
    signature_bits.resize(plan.signatures.len().div_ceil(64), 0);
    for signature in &observation.signatures {
        if let Some(word) = signature_bits.get_mut(usize::from(*signature / 64)) {
            *word |= 1 << (signature % 64);
        }
    }
}
