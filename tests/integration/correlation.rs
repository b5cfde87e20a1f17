//! Compares the correlator with a naive correlator that keeps every event, and tests the correlator
//! under floods of keys.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hedgerow_core::correlate::indicator::MAX_INDICATORS;
use hedgerow_core::correlate::{BUCKETS, Correlator, Firing, Observation, Plan, Shard};
use hedgerow_core::field::Field;
use hedgerow_core::rules::correlation::{
    Attribution, Coordination, Correlation, Measure, RelativeMinimum, ShareWithin, Threshold,
};
use hedgerow_core::rules::signature::{Comparator, Condition, Status};
use proptest::prelude::*;

const LIMIT: usize = 64 << 20;

fn field(name: &str) -> Field {
    Field::parse(name).unwrap()
}

fn gte(value: f64) -> Vec<Threshold> {
    vec![Threshold { comparator: Comparator::Gte, value }]
}

fn correlation(name: &str, rules: &[&str], timespan: u32, measure: Measure) -> Correlation {
    Correlation {
        name: name.into(),
        id: String::new(),
        title: String::new(),
        family: "cluster".into(),
        status: Status::Stable,
        weight: 3.0,
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        only: None,
        group_by: vec![field("hedgerow.template.user")],
        timespan,
        measure,
        coordination: Coordination::default(),
        attribution: Attribution::default(),
        // With a `ttl` of 0, the correlation fires at each event for which it holds.
        ttl: 0,
    }
}

fn accounts(thresholds: Vec<Threshold>) -> Measure {
    Measure::ValueCount { field: field("hedgerow.account"), thresholds }
}

fn llr(thresholds: Vec<Threshold>, measure: fn(Field, Vec<Threshold>) -> Measure) -> Measure {
    measure(field("hedgerow.llr"), thresholds)
}

fn sum(field: Field, thresholds: Vec<Threshold>) -> Measure {
    Measure::ValueSum { field, thresholds }
}

fn mean(field: Field, thresholds: Vec<Threshold>) -> Measure {
    Measure::ValueAvg { field, thresholds }
}

fn is(name: &str) -> Condition {
    Condition::Selection(name.into())
}

/// Returns one correlation of each kind. The last correlation combines other correlations.
fn correlations() -> Vec<Correlation> {
    let both = Condition::All(vec![is("a"), Condition::Any(vec![is("b"), is("c")])]);
    let pair = Condition::All(vec![is("accounts_short"), is("events")]);
    vec![
        correlation("accounts_short", &["a"], 60, accounts(gte(3.0))),
        correlation("accounts_long", &["a"], 600, accounts(gte(6.0))),
        correlation(
            "few_accounts",
            &["b"],
            300,
            accounts(vec![Threshold { comparator: Comparator::Lte, value: 2.0 }]),
        ),
        correlation("events", &["a", "b"], 320, Measure::EventCount { thresholds: gte(5.0) }),
        correlation("sum", &["a"], 320, llr(gte(20.0), sum)),
        correlation("mean", &["c"], 320, llr(gte(5.0), mean)),
        correlation("seen", &["a", "b", "c"], 100, Measure::Temporal { condition: both }),
        correlation("chain", &["a", "b", "c"], 200, Measure::TemporalOrdered { distinct_by: None }),
        correlation(
            "apart",
            &["a", "b"],
            200,
            Measure::TemporalOrdered { distinct_by: Some(field("hedgerow.account")) },
        ),
        correlation(
            "pair",
            &["accounts_short", "events"],
            120,
            Measure::Temporal { condition: pair },
        ),
    ]
}

/// Requires that 80 % of the accounts start within `within` seconds.
fn synchronized_start(within: u32) -> Coordination {
    let share = ShareWithin { within, min_percent: 80.0 };
    Coordination { synchronized_start: Some(share), ..Coordination::default() }
}

/// Returns `correlations()` and additional intermediate correlations, which can hold after a single
/// request.
fn correlations_with_intermediate() -> Vec<Correlation> {
    let intermediate = |correlation: Correlation| Correlation { weight: 0.0, ..correlation };
    let hours = Measure::ValueCount { field: field("hedgerow.hour"), thresholds: gte(3.0) };
    let evidence = Condition::All(vec![is("accounts_short"), is("mean_fed")]);
    let mut correlations = correlations();
    correlations.extend([
        intermediate(correlation("mean_fed", &["a"], 200, llr(gte(6.0), mean))),
        intermediate(correlation("hours", &["a", "c"], 600, hours)),
        correlation(
            "evidence",
            &["accounts_short", "mean_fed"],
            90,
            Measure::Temporal { condition: evidence },
        ),
        correlation("fed_accounts", &["chain"], 500, accounts(gte(2.0))),
        intermediate(correlation(
            "other_hours",
            &["a", "b"],
            200,
            Measure::TemporalOrdered { distinct_by: Some(field("hedgerow.hour")) },
        )),
        correlation(
            "other_hours_shared",
            &["accounts_short", "other_hours"],
            90,
            Measure::Temporal {
                condition: Condition::All(vec![is("accounts_short"), is("other_hours")]),
            },
        ),
        Correlation {
            coordination: synchronized_start(60),
            ..correlation("together", &["c"], 300, accounts(gte(2.0)))
        },
    ]);
    correlations
}

fn plan(correlations: Vec<Correlation>) -> Arc<Plan> {
    Arc::new(Plan::new(correlations, &BTreeSet::from(["a", "b", "c"])).unwrap())
}

/// An event of a test.
#[derive(Clone, Debug)]
struct Event {
    at: u32,
    /// Names of the rules that match the event.
    rules: Vec<&'static str>,
    account: u64,
    /// Template keys.
    templates: Vec<u64>,
    llr: f64,
}

fn observation(plan: &Plan, event: &Event) -> Observation {
    let mut values = vec![];
    for (index, field) in plan.fields().iter().enumerate() {
        let index = index as u16;
        match field.name().as_str() {
            "hedgerow.account" => values.push((index, event.account)),
            "hedgerow.hour" => values.push((index, u64::from(event.at / 90 % 24 + 1))),
            "hedgerow.template.user" => {
                values.extend(event.templates.iter().map(|template| (index, *template)));
            }
            _ => {}
        }
    }
    let llr_index = plan.fields().iter().position(|field| field.name() == "hedgerow.llr");
    let rules = plan.signatures().iter().enumerate();
    let rules = rules.filter(|(_, rule)| event.rules.contains(&rule.as_str()));
    Observation {
        at: event.at,
        signatures: rules.map(|(index, _)| index as u16).collect(),
        values,
        numbers: llr_index.map(|index| (index as u16, event.llr)).into_iter().collect(),
        proven: true,
        tenant: 0,
        network: 0,
    }
}

/// A naive correlator, which keeps every event and evaluates all events each time.
#[derive(Default)]
struct Naive {
    /// Events by template key.
    groups: BTreeMap<u64, Vec<Event>>,
    /// Names and times of correlations that held, by template key.
    held: BTreeMap<u64, Vec<(String, u32)>>,
    /// Whether events arrive in order. If they do, events with equal times are also ordered.
    in_order: bool,
}

/// Bounds of the length of a window that is counted in buckets: the oldest events stop counting at
/// an age between these bounds.
#[derive(Clone, Copy, PartialEq)]
enum WindowBound {
    /// The whole timespan.
    Latest,
    /// The timespan minus one bucket.
    Earliest,
}

impl Naive {
    fn add(&mut self, event: &Event) {
        for template in &event.templates {
            self.groups.entry(*template).or_default().push(event.clone());
        }
    }

    /// Returns whether a correlation holds for a template key after an event.
    fn holds(
        &self,
        correlation: &Correlation,
        template: u64,
        event: &Event,
        bound: WindowBound,
    ) -> bool {
        let is_counted = |event: &Event| {
            correlation.rules.iter().any(|rule| event.rules.contains(&rule.as_str()))
        };
        if !is_counted(event) {
            return false;
        }
        let events: Vec<&Event> =
            self.groups[&template].iter().filter(|event| is_counted(event)).collect();
        let newest = events.iter().map(|event| event.at).max().unwrap();
        let span = |buckets: u32| match bound {
            WindowBound::Latest => correlation.timespan,
            WindowBound::Earliest => correlation.timespan - correlation.timespan.div_ceil(buckets),
        };
        let within =
            |span: u32| events.iter().filter(move |event| newest - event.at < span).copied();
        match &correlation.measure {
            Measure::ValueCount { thresholds, .. } => {
                let accounts: BTreeSet<u64> =
                    within(correlation.timespan).map(|event| event.account).collect();
                Threshold::all_satisfied(thresholds, accounts.len() as f64)
            }
            Measure::EventCount { thresholds } => {
                Threshold::all_satisfied(thresholds, within(span(BUCKETS)).count() as f64)
            }
            Measure::ValueSum { thresholds, .. } => {
                let sum = within(span(BUCKETS)).map(|event| event.llr).sum();
                Threshold::all_satisfied(thresholds, sum)
            }
            Measure::ValueAvg { .. } => unreachable!("the edges give no bounds for an average"),
            Measure::Temporal { condition } => condition.holds(&mut |name| {
                within(correlation.timespan).any(|event| event.rules.contains(&name))
            }),
            Measure::TemporalOrdered { distinct_by } => {
                let events: Vec<&Event> = within(correlation.timespan).collect();
                follows(&events, &correlation.rules, None, distinct_by.is_some(), self.in_order)
            }
        }
    }
}

/// Returns whether `after` is followed by a sequence of events that match `rules` in their order.
/// If `is_distinct`, successive events must have different accounts.
fn follows(
    events: &[&Event],
    rules: &[String],
    after: Option<&Event>,
    is_distinct: bool,
    in_order: bool,
) -> bool {
    let Some((rule, rest)) = rules.split_first() else { return true };
    events.iter().enumerate().any(|(index, event)| {
        let later = if in_order { &events[index..] } else { events };
        let is_another = after.is_none_or(|after| !std::ptr::eq(after, *event));
        is_another
            && event.rules.contains(&rule.as_str())
            && after.is_none_or(|after| {
                after.at <= event.at && !(is_distinct && after.account == event.account)
            })
            && follows(later, rest, Some(event), is_distinct, in_order)
    })
}

/// Generates events that arrive up to `max_delay` seconds late.
fn events(max_delay: u32) -> impl Strategy<Value = Vec<Event>> {
    let rules = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let templates = prop::collection::btree_set(1_u64..6, 0..3);
    let event = (0_u32..40, 0..=max_delay, rules, 0_u64..9, templates, -3_i32..12);
    prop::collection::vec(event, 1..150).prop_map(|rows| {
        let mut now = 1_000_000;
        let mut events = Vec::new();
        for (step, delay, rules, account, templates, llr) in rows {
            now += step;
            events.push(Event {
                at: now - delay,
                rules,
                account: account + 100,
                templates: templates.into_iter().collect(),
                llr: f64::from(llr),
            });
        }
        events
    })
}

/// Returns the names and keys of firings.
fn fired(plan: &Plan, firings: &[Firing]) -> BTreeSet<(String, u64)> {
    let name = |firing: &Firing| plan.correlations()[firing.correlation].name.clone();
    firings.iter().map(|firing| (name(firing), firing.key)).collect()
}

/// Restores the state of a correlator into a new one.
fn restored(mut new: Correlator, old: &Correlator, now: u32) -> Correlator {
    old.encode_partitions().iter().for_each(|part| new.merge_partition(part, now).unwrap());
    new
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Counts of values and conditions over rules are exact. Counts of events are between the
    /// counts of the whole window and of the window minus one bucket. Each sequence that is found
    /// exists.
    #[test]
    fn firings_equal_the_naive_reference(events in events(50)) {
        let plan = plan(correlations());
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let mut naive = Naive::default();
        let mut now = 0;
        for event in &events {
            now = now.max(event.at);
            naive.add(event);
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, event), now, &mut firings);
            let fired = fired(&plan, &firings);
            for correlation in plan.correlations() {
                for template in &event.templates {
                    let holds = |bound| naive.holds(correlation, *template, event, bound);
                    let held = fired.contains(&(correlation.name.clone(), *template));
                    let name = correlation.name.as_str();
                    match name {
                        "sum" | "mean" | "pair" => {}
                        "chain" | "apart" => {
                            prop_assert!(!held || holds(WindowBound::Latest), "{}", name);
                        }
                        "events" => {
                            prop_assert!(!held || holds(WindowBound::Latest), "{}", name);
                            prop_assert!(held || !holds(WindowBound::Earliest), "{}", name);
                        }
                        _ => prop_assert_eq!(held, holds(WindowBound::Latest), "{}", name),
                    }
                }
            }
        }
        prop_assert_eq!(correlator.evicted(), 0);
    }

    /// If events arrive in order, all sequences are found. A correlation over two correlations
    /// holds if both of these have held within its timespan.
    #[test]
    fn no_sequence_of_ordered_events_is_missed(events in events(0)) {
        let plan = plan(correlations());
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let mut naive = Naive { in_order: true, ..Naive::default() };
        for event in &events {
            naive.add(event);
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, event), event.at, &mut firings);
            let fired = fired(&plan, &firings);
            for template in &event.templates {
                let has_fired = |name: &str| fired.contains(&(name.to_owned(), *template));
                for name in ["chain", "apart"] {
                    let mut correlations = plan.correlations().iter();
                    let correlation = correlations.find(|rule| rule.name == name).unwrap();
                    let expected = naive.holds(correlation, *template, event, WindowBound::Latest);
                    prop_assert_eq!(has_fired(name), expected, "{}", name);
                }
                let held = naive.held.entry(*template).or_default();
                for name in ["accounts_short", "events"] {
                    if has_fired(name) {
                        held.push((name.to_owned(), event.at));
                    }
                }
                let has_held = |name: &str| {
                    held.iter().any(|(held_name, at)| held_name == name && event.at - at < 120)
                };
                let is_event = held.iter().any(|(_, at)| *at == event.at)
                    && (has_fired("accounts_short") || has_fired("events"));
                let expected = is_event && has_held("accounts_short") && has_held("events");
                prop_assert_eq!(has_fired("pair"), expected);
            }
        }
    }

    /// The correlator creates a group only when a second account uses its key (deferral). Firings
    /// must equal those of a correlator that creates all groups at once, also after restarts.
    #[test]
    fn deferral_does_not_change_firings(
        events in events(50),
        restarts in prop::collection::vec(prop::bool::weighted(0.1), 150),
    ) {
        let plan = plan(correlations_with_intermediate());
        let new = || Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let (mut deferring, mut immediate) = (new(), new().without_deferral());
        let mut now = 0;
        for (event, restarts) in events.iter().zip(restarts) {
            now = now.max(event.at);
            if restarts {
                deferring = restored(new(), &deferring, now);
                immediate = restored(new().without_deferral(), &immediate, now);
            }
            let (mut firings, mut expected) = (Vec::new(), Vec::new());
            deferring.observe(&observation(&plan, event), now, &mut firings);
            immediate.observe(&observation(&plan, event), now, &mut expected);
            let sorted = |firings: Vec<Firing>| {
                // Ignores `evidence`: for a deferred group, the correlator stores only a mean,
                // without the times of events.
                let name = |firing: &Firing| plan.correlations()[firing.correlation].name.as_str();
                let comparable = firings.iter().filter(|firing| name(firing) != "evidence");
                let mut rows: Vec<String> =
                    comparable.map(|firing| format!("{firing:?}")).collect();
                rows.sort();
                rows
            };
            prop_assert_eq!(sorted(firings), sorted(expected));
        }
    }

    /// If two correlators each get a part of the events and are merged, the result equals a
    /// correlator with all events. An encoded and restored correlator also equals it.
    #[test]
    fn merged_and_restored_correlators_equal_the_original(
        events in events(20),
        split in prop::collection::vec(any::<bool>(), 150),
    ) {
        let plan = plan(correlations());
        let new = || Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let (mut whole, mut left, mut right) = (new(), new(), new());
        let mut now = 0;
        let (last, before) = events.split_last().unwrap();
        for (event, is_left) in before.iter().zip(&split) {
            now = now.max(event.at);
            let observation = observation(&plan, event);
            let mut firings = Vec::new();
            whole.observe(&observation, now, &mut firings);
            let half = if *is_left { &mut left } else { &mut right };
            half.observe(&observation, now, &mut firings);
        }
        now = now.max(last.at);
        let mut merged = new();
        for part in left.encode_partitions().iter().chain(&right.encode_partitions()) {
            merged.merge_partition(part, now).unwrap();
        }
        let mut restored = new();
        for part in whole.encode_partitions() {
            restored.merge_partition(&part, now).unwrap();
        }
        let result = |correlator: &mut Correlator| {
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, last), now, &mut firings);
            fired(&plan, &firings)
        };
        let expected = result(&mut whole);
        prop_assert_eq!(&result(&mut restored), &expected);
        // Ignores sequences: only a correlator that has all events of a sequence finds it.
        let is_mergeable =
            |(name, _): &(String, u64)| !["chain", "apart", "pair"].contains(&name.as_str());
        let mergeable =
            |fired: BTreeSet<_>| fired.into_iter().filter(is_mergeable).collect::<BTreeSet<_>>();
        prop_assert_eq!(mergeable(result(&mut merged)), mergeable(expected));
    }

    /// If clocks jump, the correlator does not panic and its memory stays bounded. After an hour
    /// with correct clocks, events count again.
    #[test]
    fn clocks_can_jump(jumps in prop::collection::vec(any::<(u32, u32, u64)>(), 1..200)) {
        let plan = plan(correlations());
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 1 << 20);
        let mut firings = Vec::new();
        let event = |at, account| Event {
            at,
            rules: vec!["a", "b"],
            account,
            templates: vec![7],
            llr: 1.0,
        };
        for (at, now, account) in jumps {
            correlator.observe(&observation(&plan, &event(at, account)), now, &mut firings);
            prop_assert!(correlator.heap_bytes() <= 1 << 20);
        }
        let now = 1_000_000_000;
        firings.clear();
        for (number, account) in (1_u32..).zip(100..110) {
            let now = now + 3_600 + number;
            correlator.observe(&observation(&plan, &event(now, account)), now, &mut firings);
        }
        prop_assert!(fired(&plan, &firings).contains(&("accounts_short".to_owned(), 7)));
    }

    #[test]
    fn merging_arbitrary_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let plan = plan(correlations());
        let mut correlator = Correlator::new(plan, Shard::ALL, LIMIT);
        let mut part = vec![1];
        part.extend(bytes);
        let _ = correlator.merge_partition(&part, 1_000_000);
    }
}

/// Large numbers of accounts are estimated from a sample, with a standard error of 9 %.
#[test]
fn many_values_are_estimated_within_the_stated_error() {
    let plan = plan(vec![correlation("accounts", &["a"], 86_400, accounts(gte(1.0)))]);
    let (mut squares, mut trials) = (0.0, 0.0);
    for (trial, count) in (0_u64..).zip([65, 100, 200, 300, 500, 900, 2_000, 7_000, 20_000, 50_000])
    {
        for repeat in 0..5 {
            let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
            let mut firings = Vec::new();
            for number in 0..count {
                let account = (trial * 10 + repeat) * 1_000_000 + number;
                let event = Event {
                    at: 1_000_000,
                    rules: vec!["a"],
                    account,
                    templates: vec![3],
                    llr: 0.0,
                };
                firings.clear();
                correlator.observe(&observation(&plan, &event), 1_000_000, &mut firings);
            }
            let error = firings[0].value / count as f64 - 1.0;
            assert!(error.abs() < 0.35, "{count}: {error}");
            // Up to 256 accounts are counted exactly.
            assert!(count > 256 || error == 0.0, "{count}: {error}");
            if count > 256 {
                squares += error * error;
                trials += 1.0;
            }
        }
    }
    let deviation = f64::sqrt(squares / trials);
    assert!(deviation < 0.09, "{deviation}");
}

/// A flood of keys, each used once by one account, does not evict templates that several accounts
/// share, before or during the flood. Memory stays bounded.
#[test]
fn a_flood_of_unique_keys_evicts_no_shared_key() {
    let limit = 4 << 20;
    let plan = plan(vec![correlation("accounts", &["a"], 86_400, accounts(gte(20.0)))]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, limit);
    let mut firings = Vec::new();
    for number in 0_u64..400_000 {
        let now = 1_000_000 + (number / 100) as u32;
        let (account, template) = match number % 1_000 {
            // Template 7 is used from the start, and template 8 from the middle of the flood.
            0 => (number / 1_000 % 25, 7),
            500 if number > 200_000 => (number / 1_000 % 25, 8),
            _ => (number, 1_000 + number),
        };
        let event = Event {
            at: now,
            rules: vec!["a"],
            account: account + 1,
            templates: vec![template],
            llr: 0.0,
        };
        correlator.observe(&observation(&plan, &event), now, &mut firings);
        assert!(correlator.heap_bytes() <= limit, "{}", correlator.heap_bytes());
    }
    assert!(correlator.evicted() > 100_000, "it was a flood");
    let keys: BTreeSet<u64> = firings.iter().map(|firing| firing.key).collect();
    assert_eq!(keys, BTreeSet::from([7, 8]));
}

/// The table of keys with a single account forgets a key if many others arrive. Regression: after
/// that, it deferred the next account of the key, although the key already had groups. If accounts
/// arrived rarely, they were never counted.
#[test]
fn rare_accounts_of_a_shared_key_are_counted() {
    let plan = plan(vec![
        correlation("some", &["a"], 86_400, accounts(gte(6.0))),
        correlation("more", &["a", "b"], 86_400, accounts(gte(6.0))),
    ]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 4 << 20);
    let event = |at, account, template| Event {
        at,
        rules: vec!["a"],
        account,
        templates: vec![template],
        llr: 0.0,
    };
    let mut fired_at = BTreeMap::new();
    for account in 1_u64..=6 {
        let mut firings = Vec::new();
        let now = 1_000_000 + account as u32 * 1_000;
        correlator.observe(&observation(&plan, &event(now, account, 7)), now, &mut firings);
        firings.iter().for_each(|firing| *fired_at.entry(firing.key).or_default() = account);
        // The first three accounts arrive without other keys in between.
        let others = if account < 3 { 0 } else { 60_000 };
        for number in 0..others {
            let other = account * 1_000_000 + number;
            let event = event(now + number as u32 / 100, other, other);
            correlator.observe(&observation(&plan, &event), event.at, &mut Vec::new());
        }
    }
    assert_eq!(fired_at, BTreeMap::from([(7, 6)]));
}

/// An account that returns after a pause is new to a rule with a shorter timespan, even if its
/// group was deferred for a rule with a longer timespan.
#[test]
fn an_account_is_new_to_a_rule_after_its_timespan() {
    let rule = |name, timespan| Correlation {
        coordination: synchronized_start(60),
        ..correlation(name, &["a"], timespan, accounts(gte(3.0)))
    };
    let plan = plan(vec![rule("hour", 3_600), rule("day", 86_400)]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
    let mut firings = Vec::new();
    for (at, account) in [(1_000_000, 1), (1_007_200, 1), (1_007_201, 2), (1_007_202, 3)] {
        let event = Event { at, rules: vec!["a"], account, templates: vec![7], llr: 0.0 };
        correlator.observe(&observation(&plan, &event), at, &mut firings);
    }
    assert_eq!(fired(&plan, &firings), BTreeSet::from([("hour".to_owned(), 7)]));
}

/// Regression: if a wrong clock reported events in the future, their groups were kept until that
/// time.
#[test]
fn groups_from_a_wrong_clock_are_evicted() {
    let limit = 2 << 20;
    let plan = plan(vec![
        correlation("some", &["a"], 86_400, accounts(gte(3.0))),
        correlation("more", &["a", "b"], 86_400, accounts(gte(3.0))),
    ]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, limit);
    let mut firings = Vec::new();
    let mut observe = |account, template, now| {
        let event =
            Event { at: now, rules: vec!["a"], account, templates: vec![template], llr: 0.0 };
        correlator.observe(&observation(&plan, &event), now, &mut firings);
    };
    let now = 1_000_000;
    (0..60_000_u64).for_each(|number| observe(1 + number % 2, 1_000 + number / 2, now + 86_400));
    // Uses fewer keys than the table has slots.
    for round in 0..3 {
        (0..1_000_u64).for_each(|key| observe(10 + round, 1_000_000 + key, now + round as u32));
    }
    let keys: BTreeSet<u64> = firings.iter().map(|firing| firing.key).collect();
    assert!(keys.len() > 950, "{}", keys.len());
}

/// Clients can cause values that are larger than the numbers that a group stores.
#[test]
fn sums_stay_finite() {
    let rule = correlation("sum", &["a"], 3_600, llr(gte(1.0), sum));
    let plan = plan(vec![rule]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
    let mut firings = Vec::new();
    for (at, llr) in [(1_000_000, 1e39), (1_002_000, f64::MAX)] {
        let event = Event { at, rules: vec!["a"], account: 1, templates: vec![7], llr };
        correlator.observe(&observation(&plan, &event), at, &mut firings);
    }
    assert!(!firings.is_empty() && firings.iter().all(|firing| firing.value.is_finite()));
}

/// Clients can make some correlations hold for any number of keys. Neither these nor other
/// correlations may stop firing.
#[test]
fn one_correlation_does_not_exhaust_the_limit_of_firings() {
    let plan = plan(vec![
        Correlation {
            ttl: 86_400,
            ..correlation("cheap", &["a"], 86_400, Measure::EventCount { thresholds: gte(1.0) })
        },
        correlation("expensive", &["b"], 86_400, accounts(gte(2.0))),
    ]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 64 << 20);
    let mut counts = BTreeMap::new();
    let mut observe = |rule, account, template| {
        let at = 1_000_000;
        let event = Event { at, rules: vec![rule], account, templates: vec![template], llr: 0.0 };
        let mut firings = Vec::new();
        correlator.observe(&observation(&plan, &event), at, &mut firings);
        for firing in &firings {
            *counts.entry(plan.correlations()[firing.correlation].name.clone()).or_insert(0) += 1;
        }
    };
    // Spreads the bits of the number over the whole word, because tables of keys expect hashes.
    let template = |number: u64| (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..MAX_INDICATORS as u64 / 3).for_each(|number| observe("a", 1, template(number)));
    (1..3).for_each(|account| observe("b", account, 7));
    let expected = [("cheap".to_owned(), MAX_INDICATORS / 3), ("expensive".to_owned(), 1)];
    assert_eq!(counts, BTreeMap::from(expected));
}

/// Snapshots must stay readable after an update of Hedgerow.
#[test]
fn the_encoding_of_snapshots_is_stable() {
    let plan = plan(correlations());
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
    let mut firings = Vec::new();
    for number in 0_u64..200 {
        let rules = vec![["a", "b", "c"][number as usize % 3]];
        let (at, account) = (1_000_000 + number as u32, 100 + number % 90);
        // Some templates occur only once.
        let template = if number % 20 == 7 { 1_000 + number } else { 1 + number % 2 };
        let event = Event { at, rules, account, templates: vec![template], llr: 2.5 };
        correlator.observe(&observation(&plan, &event), at, &mut firings);
    }
    let bytes = correlator.encode_partitions().concat();
    assert_eq!(hedgerow_core::ruleset::digest(&bytes), SNAPSHOT_DIGEST);
    assert!(!correlator.drain_dirty().is_empty());
    assert!(correlator.drain_dirty().is_empty(), "nothing has changed since");
}

const SNAPSHOT_DIGEST: &str = "c4fc7596ccbc23a917ab2020def192f9099c7bbced2142c44ee682d40a3084e2";

/// Regression: after a restart, requests of an account counted twice. A rule that requires three
/// requests of each account held after two.
#[test]
fn restored_events_count_once() {
    let mut rule = correlation("load", &["a"], 3_600, accounts(gte(2.0)));
    rule.coordination.events_per_value = Some(3.0);
    let plan = plan(vec![rule]);
    for accounts in [2, 70, 200] {
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        for account in 1..=accounts {
            let event =
                Event { at: 1_000_000, rules: vec!["a"], account, templates: vec![3], llr: 0.0 };
            correlator.observe(&observation(&plan, &event), 1_000_000, &mut Vec::new());
        }
        for _ in 0..4 {
            let mut next = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
            correlator
                .encode_partitions()
                .iter()
                .for_each(|part| next.merge_partition(part, 1_000_000).unwrap());
            assert_eq!(next.encode_partitions(), correlator.encode_partitions());
            correlator = next;
        }
        let mut fires = |account| {
            let event =
                Event { at: 1_000_001, rules: vec!["a"], account, templates: vec![3], llr: 0.0 };
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, &event), 1_000_001, &mut firings);
            !firings.is_empty()
        };
        let mut requests = (1..=accounts).chain(1..=accounts).chain(1..=accounts);
        let fired_at = requests.position(&mut fires).unwrap();
        // If a group has many accounts, the correlator does not evaluate all of them at every
        // event.
        let (first, slack) = (2 * accounts as usize - 1, accounts as usize / 32);
        assert!((first..=first + slack).contains(&fired_at), "{accounts}: {fired_at}");
    }
}

/// If a rule update adds a window, the new window starts with the account sample of a longer
/// window. Existing windows keep their samples.
#[test]
fn new_windows_start_with_existing_samples() {
    let rule =
        |timespan: u32| correlation(&format!("w{timespan}"), &["a"], timespan, accounts(gte(1.0)));
    let before = plan(vec![rule(86_400)]);
    let after = plan(vec![rule(3_600), rule(86_400)]);
    let mut old = Correlator::new(Arc::clone(&before), Shard::ALL, LIMIT);
    let event = |at, account| Event { at, rules: vec!["a"], account, templates: vec![3], llr: 0.0 };
    for account in 1..=200 {
        let at = if account <= 150 { 1_000_000 } else { 1_080_000 };
        old.observe(&observation(&before, &event(at, account)), at, &mut Vec::new());
    }
    let mut new = Correlator::new(Arc::clone(&after), Shard::ALL, LIMIT);
    old.encode_partitions().iter().for_each(|part| new.merge_partition(part, 1_080_000).unwrap());
    let mut firings = Vec::new();
    new.observe(&observation(&after, &event(1_080_000, 200)), 1_080_000, &mut firings);
    let measured: BTreeMap<&str, f64> = firings
        .iter()
        .map(|firing| (after.correlations()[firing.correlation].name.as_str(), firing.value))
        .collect();
    assert_eq!(measured, BTreeMap::from([("w3600", 50.0), ("w86400", 200.0)]));
}

/// Sends four events from each of `accounts` in turn, after `change` has changed each observation.
/// Returns the accounts for which correlations fire, by name of the correlation.
fn accounts_by_correlation(
    correlations: Vec<Correlation>,
    accounts: &[u64],
    change: impl Fn(&mut Observation),
) -> BTreeMap<String, BTreeSet<u64>> {
    let plan = plan(correlations);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 1 << 20);
    let mut accounts_by_correlation: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    for (index, account) in accounts.repeat(4).into_iter().enumerate() {
        let event = Event {
            at: 1_000 + index as u32,
            rules: vec!["a"],
            account,
            templates: vec![77],
            llr: 0.0,
        };
        let mut observation = observation(&plan, &event);
        change(&mut observation);
        let mut firings = Vec::new();
        correlator.observe(&observation, observation.at, &mut firings);
        for firing in firings {
            let name = plan.correlations()[firing.correlation].name.clone();
            accounts_by_correlation.entry(name).or_default().insert(firing.key);
        }
    }
    accounts_by_correlation
}

/// Regression: made-up credentials, or the API keys of one customer, counted as a campaign.
#[test]
fn unproven_accounts_and_accounts_of_one_tenant_are_no_group() {
    let rules = || vec![correlation("shared", &["a"], 60, accounts(gte(3.0)))];
    let four: Vec<u64> = (1..=4).collect();
    let fires = |change: &dyn Fn(&mut Observation)| {
        !accounts_by_correlation(rules(), &four, change).is_empty()
    };
    assert!(fires(&|_| {}));
    assert!(!fires(&|observation| observation.proven = false));
    assert!(!fires(&|observation| observation.tenant = 9));
    assert!(fires(&|observation| observation.tenant = 10 + observation.account()));
}

/// Regression: the load of a campaign was counted against ordinary users of the same template.
#[test]
fn load_is_evidence_against_accounts_that_carry_it() {
    let rule = || Correlation {
        coordination: Coordination { events_per_value: Some(3.0), ..Coordination::default() },
        attribution: Attribution { to_accounts: true, ..Attribution::default() },
        ..correlation("load", &["a"], 60, accounts(gte(3.0)))
    };
    // Account 9 sends a sixth of the requests of each other account.
    let accounts: Vec<u64> = [1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 9].to_vec();
    let found = accounts_by_correlation(vec![rule()], &accounts, |_| {});
    assert_eq!(found["load"], BTreeSet::from([1, 2, 3]));
}

/// Regression: in a group that was two hours old, an account that came later needed only an eighth
/// of the load of the others, because its age was compared with the window of a day.
#[test]
fn an_account_that_comes_later_needs_the_load_of_its_time() {
    let rule = Correlation {
        coordination: Coordination {
            events_per_value: Some(2.0),
            synchronized_start: Some(ShareWithin { within: 600, min_percent: 60.0 }),
            ..Coordination::default()
        },
        attribution: Attribution { to_accounts: true, ..Attribution::default() },
        ..correlation("load", &["a"], 86_400, accounts(gte(3.0)))
    };
    let plan = plan(vec![rule]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 1 << 20);
    let mut found = BTreeSet::new();
    for minute in 0..120_u32 {
        // Account, minutes between two of its requests, and first minute. The last two accounts
        // start after an hour.
        let rows = [(1, 1, 0), (2, 1, 0), (3, 1, 0), (4, 1, 0), (8, 1, 60), (9, 10, 60)];
        let active =
            rows.into_iter().filter(|(_, every, since)| minute >= *since && minute % every == 0);
        for (account, ..) in active {
            let at = 1_000_000 + minute * 60;
            let event = Event { at, rules: vec!["a"], account, templates: vec![7], llr: 0.0 };
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, &event), at, &mut firings);
            found.extend(firings.iter().map(|firing| firing.key));
        }
    }
    assert_eq!(found, BTreeSet::from([1, 2, 3, 4, 8]));
}

/// Regression: in groups of more than 256 accounts, the same few accounts were sampled for every
/// key, so the other accounts never got an indicator.
#[test]
fn every_key_of_a_large_group_samples_other_accounts() {
    let rule = Correlation {
        coordination: Coordination { events_per_value: Some(2.0), ..Coordination::default() },
        attribution: Attribution { to_accounts: true, ..Attribution::default() },
        ..correlation("load", &["a"], 86_400, accounts(gte(30.0)))
    };
    let two_thousand: Vec<u64> =
        (1..=2_000_u64).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    let count = |keys: u64| {
        let found = accounts_by_correlation(vec![rule.clone()], &two_thousand, |observation| {
            let account = observation.values.iter().find(|(field, _)| *field == 0).copied();
            let templates = (1..=keys).map(|key| (1, key << 20));
            observation.values = account.into_iter().chain(templates).collect();
        });
        found["load"].len()
    };
    assert!((100..700).contains(&count(1)), "one key: {}", count(1));
    assert!(count(40) >= 1_900, "40 keys: {}", count(40));
}

#[test]
fn repeated_values_and_events_without_a_signature_can_be_left_out() {
    let limited = Correlation {
        coordination: Coordination { max_events_per_value: Some(1.5), ..Coordination::default() },
        only: Some("b".into()),
        ..correlation("limited", &["a"], 60, accounts(gte(4.0)))
    };
    let signatures = plan(vec![limited.clone()]);
    let b = signatures.signatures().iter().position(|name| name == "b").unwrap() as u16;
    let rows: [(&str, &[u64], u64, bool); 4] = [
        ("each account once", &[1, 2, 3, 4], 0, true),
        ("one account twice", &[1, 1, 2, 3, 4], 0, true),
        ("three accounts twice", &[1, 1, 2, 2, 3, 3, 4], 0, false),
        ("one event without the signature", &[1, 2, 3, 4], 4, false),
    ];
    for (name, accounts, without, holds) in rows {
        let found = accounts_by_correlation(vec![limited.clone()], accounts, |observation| {
            if observation.account() != without {
                observation.signatures.push(b);
            }
        });
        assert_eq!(!found.is_empty(), holds, "{name}");
    }
    let unknown = Correlation { only: Some("d".into()), ..limited };
    let error = Plan::new(vec![unknown], &BTreeSet::from(["a", "b", "c"])).unwrap_err();
    assert!(error.problem().contains("unknown rule 'd'"), "{error:?}");
}

#[test]
fn a_share_of_the_accounts_of_a_key_can_be_required() {
    let with_share = |min_percent: f64| Correlation {
        attribution: Attribution {
            share: Some(RelativeMinimum { correlation: "all".into(), min_percent }),
            ..Attribution::default()
        },
        ..correlation("few", &["b"], 60, accounts(gte(2.0)))
    };
    let all = || correlation("all", &["a", "b"], 60, accounts(gte(2.0)));
    let ten: Vec<u64> = (1..=10).collect();
    for (min_percent, holds) in [(25.0, true), (60.0, false)] {
        let correlations = vec![with_share(min_percent), all()];
        let signatures = plan(correlations.clone());
        let b = signatures.signatures().iter().position(|name| name == "b").unwrap() as u16;
        let found = accounts_by_correlation(correlations, &ten, |observation| {
            if observation.account() >= 8 {
                observation.signatures.push(b);
            }
        });
        assert_eq!(found.contains_key("few"), holds, "{min_percent}");
    }
    let base_is_missing = vec![with_share(25.0)];
    let error = Plan::new(base_is_missing, &BTreeSet::from(["a", "b", "c"])).unwrap_err();
    assert!(error.problem().contains("'all' cannot be compared"), "{error:?}");
}
