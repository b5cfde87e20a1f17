//! The correlator against a naive one that keeps every event, and what it does when it is flooded.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hedgerow_core::correlate::indicator::MAX_INDICATORS;
use hedgerow_core::correlate::{BUCKETS, Correlator, Firing, Observation, Plan, Shard};
use hedgerow_core::field::Field;
use hedgerow_core::rules::correlation::{
    Coordination, Correlation, Measure, ShareWithin, Threshold,
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
        group_by: vec![field("hedgerow.template.user")],
        timespan,
        measure,
        coordination: Coordination::default(),
        // So that each time it holds is told.
        ttl: 0,
    }
}

fn accounts(bounds: Vec<Threshold>) -> Measure {
    Measure::ValueCount { field: field("hedgerow.account"), thresholds: bounds }
}

fn llr(bounds: Vec<Threshold>, of: fn(Field, Vec<Threshold>) -> Measure) -> Measure {
    of(field("hedgerow.llr"), bounds)
}

fn sum(field: Field, bounds: Vec<Threshold>) -> Measure {
    Measure::ValueSum { field, thresholds: bounds }
}

fn mean(field: Field, bounds: Vec<Threshold>) -> Measure {
    Measure::ValueAvg { field, thresholds: bounds }
}

fn is(name: &str) -> Condition {
    Condition::Selection(name.into())
}

/// One of each kind; those of the second level last.
fn all() -> Vec<Correlation> {
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

fn crowd(within: u32) -> Coordination {
    let together = Some(ShareWithin { within, min_percent: 80.0 });
    Coordination { synchronized_start: together, ..Coordination::default() }
}

/// Those, and such as hold by a single request but are told to nobody.
fn all_and_feeders() -> Vec<Correlation> {
    let feeder = |own: Correlation| Correlation { weight: 0.0, ..own };
    let hours = Measure::ValueCount { field: field("hedgerow.hour"), thresholds: gte(3.0) };
    let evidence = Condition::All(vec![is("accounts_short"), is("mean_fed")]);
    let mut correlations = all();
    correlations.extend([
        feeder(correlation("mean_fed", &["a"], 200, llr(gte(6.0), mean))),
        feeder(correlation("hours", &["a", "c"], 600, hours)),
        correlation(
            "evidence",
            &["accounts_short", "mean_fed"],
            90,
            Measure::Temporal { condition: evidence },
        ),
        correlation("fed_accounts", &["chain"], 500, accounts(gte(2.0))),
        feeder(correlation(
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
            coordination: crowd(60),
            ..correlation("together", &["c"], 300, accounts(gte(2.0)))
        },
    ]);
    correlations
}

fn plan(correlations: Vec<Correlation>) -> Arc<Plan> {
    Arc::new(Plan::new(correlations, &BTreeSet::from(["a", "b", "c"])).unwrap())
}

/// An event as tests have it: when, of which rules, by which account, with which template keys.
#[derive(Clone, Debug)]
struct Event {
    at: u32,
    rules: Vec<&'static str>,
    account: u64,
    templates: Vec<u64>,
    llr: f64,
}

fn observation(plan: &Plan, event: &Event) -> Observation {
    let mut values = vec![];
    for (place, field) in plan.fields().iter().enumerate() {
        match field.name().as_str() {
            "hedgerow.account" => values.push((place as u16, event.account)),
            "hedgerow.hour" => values.push((place as u16, u64::from(event.at / 90 % 24 + 1))),
            "hedgerow.template.user" => {
                values.extend(event.templates.iter().map(|template| (place as u16, *template)));
            }
            _ => {}
        }
    }
    let numbered = plan.fields().iter().position(|field| field.name() == "hedgerow.llr");
    let rules = plan.signatures().iter().enumerate();
    let rules = rules.filter(|(_, rule)| event.rules.contains(&rule.as_str()));
    Observation {
        at: event.at,
        signatures: rules.map(|(place, _)| place as u16).collect(),
        values,
        numbers: numbered.map(|place| (place as u16, event.llr)).into_iter().collect(),
    }
}

/// Keeps every event, and looks at all of them each time.
#[derive(Default)]
struct Naive {
    groups: BTreeMap<u64, Vec<Event>>,
    /// When a correlation of the first level held, by group.
    held: BTreeMap<u64, Vec<(String, u32)>>,
    /// Whether events come in their order: then those of the same second have one, too.
    in_order: bool,
}

/// How late a window's oldest events may stop to count.
#[derive(Clone, Copy, PartialEq)]
enum Edge {
    Last,
    First,
}

impl Naive {
    fn add(&mut self, event: &Event) {
        for template in &event.templates {
            self.groups.entry(*template).or_default().push(event.clone());
        }
    }

    /// Whether a correlation holds for a group now that an event has come.
    fn holds(&self, correlation: &Correlation, template: u64, event: &Event, edge: Edge) -> bool {
        if !correlation.rules.iter().any(|rule| event.rules.contains(&rule.as_str())) {
            return false;
        }
        let is_of = |event: &Event| {
            correlation.rules.iter().any(|rule| event.rules.contains(&rule.as_str()))
        };
        let events: Vec<&Event> =
            self.groups[&template].iter().filter(|event| is_of(event)).collect();
        let newest = events.iter().map(|event| event.at).max().unwrap();
        let cut = |steps: u32| match edge {
            Edge::Last => correlation.timespan,
            Edge::First => correlation.timespan - correlation.timespan.div_ceil(steps),
        };
        let within =
            |span: u32| events.iter().filter(move |event| newest - event.at < span).copied();
        match &correlation.measure {
            Measure::ValueCount { thresholds: bounds, .. } => {
                let accounts: BTreeSet<u64> =
                    within(correlation.timespan).map(|event| event.account).collect();
                Threshold::all_satisfied(bounds, accounts.len() as f64)
            }
            Measure::EventCount { thresholds: bounds } => {
                Threshold::all_satisfied(bounds, within(cut(BUCKETS)).count() as f64)
            }
            Measure::ValueSum { thresholds: bounds, .. } => {
                Threshold::all_satisfied(bounds, within(cut(BUCKETS)).map(|event| event.llr).sum())
            }
            Measure::ValueAvg { .. } => unreachable!("an average has no bound by its edges"),
            Measure::Temporal { condition } => condition.holds(&mut |name| {
                within(correlation.timespan).any(|event| event.rules.contains(&name))
            }),
            Measure::TemporalOrdered { distinct_by: apart } => {
                let events: Vec<&Event> = within(correlation.timespan).collect();
                follows(&events, &correlation.rules, None, apart.is_some(), self.in_order)
            }
        }
    }
}

/// Whether events of all rules follow each other.
fn follows(
    events: &[&Event],
    rules: &[String],
    after: Option<&Event>,
    apart: bool,
    in_order: bool,
) -> bool {
    let Some((rule, rest)) = rules.split_first() else { return true };
    events.iter().enumerate().any(|(place, event)| {
        let behind = if in_order { &events[place..] } else { events };
        let is_another = after.is_none_or(|after| !std::ptr::eq(after, *event));
        is_another
            && event.rules.contains(&rule.as_str())
            && after.is_none_or(|after| {
                after.at <= event.at && !(apart && after.account == event.account)
            })
            && follows(behind, rest, Some(event), apart, in_order)
    })
}

fn events(late: u32) -> impl Strategy<Value = Vec<Event>> {
    let rules = prop::sample::subsequence(vec!["a", "b", "c"], 0..=3);
    let templates = prop::collection::btree_set(1_u64..6, 0..3);
    let event = (0_u32..40, 0..=late, rules, 0_u64..9, templates, -3_i32..12);
    prop::collection::vec(event, 1..150).prop_map(|rows| {
        let mut now = 1_000_000;
        let event = |(step, late, rules, account, templates, llr): (
            u32,
            u32,
            _,
            u64,
            BTreeSet<u64>,
            i32,
        )| {
            now += step;
            let templates = templates.into_iter().collect();
            Event { at: now - late, rules, account: account + 100, templates, llr: f64::from(llr) }
        };
        rows.into_iter().map(event).collect()
    })
}

/// What an observation makes hold, by name and group.
fn told(plan: &Plan, firings: &[Firing]) -> BTreeSet<(String, u64)> {
    let name = |firing: &Firing| plan.correlations()[firing.correlation].name.clone();
    firings.iter().map(|firing| (name(firing), firing.key)).collect()
}

/// A correlator after a restart.
fn again(mut new: Correlator, old: &Correlator, now: u32) -> Correlator {
    old.encode_partitions().iter().for_each(|part| new.merge_partition(part, now).unwrap());
    new
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Counts of values and sets of rules are exact; counts and sums of events lie between those of
    /// the window and of the window less a step; no sequence is invented.
    #[test]
    fn what_is_counted_is_what_happened(events in events(50)) {
        let plan = plan(all());
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let mut naive = Naive::default();
        let mut now = 0;
        for event in &events {
            now = now.max(event.at);
            naive.add(event);
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, event), now, &mut firings);
            let told = told(&plan, &firings);
            for correlation in plan.correlations() {
                for template in &event.templates {
                    let holds = |edge| naive.holds(correlation, *template, event, edge);
                    let held = told.contains(&(correlation.name.clone(), *template));
                    let name = correlation.name.as_str();
                    match name {
                        "sum" | "mean" | "pair" => {}
                        "chain" | "apart" => prop_assert!(!held || holds(Edge::Last), "{}", name),
                        "events" => {
                            prop_assert!(!held || holds(Edge::Last), "{}", name);
                            prop_assert!(held || !holds(Edge::First), "{}", name);
                        }
                        _ => prop_assert_eq!(held, holds(Edge::Last), "{}", name),
                    }
                }
            }
        }
        prop_assert_eq!(correlator.evicted(), 0);
    }

    /// In their order, sequences are all found; and a correlation over correlations holds when both
    /// have held within its time.
    #[test]
    fn in_order_nothing_is_missed(events in events(0)) {
        let plan = plan(all());
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let mut naive = Naive { in_order: true, ..Naive::default() };
        for event in &events {
            naive.add(event);
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, event), event.at, &mut firings);
            let told = told(&plan, &firings);
            for template in &event.templates {
                for name in ["chain", "apart"] {
                    let correlation = plan.correlations().iter().find(|own| own.name == name).unwrap();
                    let expected = naive.holds(correlation, *template, event, Edge::Last);
                    prop_assert_eq!(told.contains(&(name.to_owned(), *template)), expected, "{}", name);
                }
                let held = naive.held.entry(*template).or_default();
                for name in ["accounts_short", "events"] {
                    if told.contains(&(name.to_owned(), *template)) {
                        held.push((name.to_owned(), event.at));
                    }
                }
                let has = |name: &str| held.iter().any(|(own, at)| own == name && event.at - at < 120);
                let is_event = held.iter().any(|(_, at)| *at == event.at)
                    && ["accounts_short", "events"].iter().any(|name| told.contains(&((*name).to_owned(), *template)));
                let expected = is_event && has("accounts_short") && has("events");
                prop_assert_eq!(told.contains(&("pair".to_owned(), *template)), expected);
            }
        }
    }

    /// That a key's first account waits for a second one changes nothing about who has it and since when,
    /// nor does a restart.
    #[test]
    fn what_waits_counts_the_same(
        events in events(50),
        restarts in prop::collection::vec(prop::bool::weighted(0.1), 150),
    ) {
        let plan = plan(all_and_feeders());
        let new = || Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
        let (mut waiting, mut hasty) = (new(), new().without_deferral());
        let mut now = 0;
        for (event, restarts) in events.iter().zip(restarts) {
            now = now.max(event.at);
            if restarts {
                waiting = again(new(), &waiting, now);
                hasty = again(new().without_deferral(), &hasty, now);
            }
            let (mut own, mut expected) = (Vec::new(), Vec::new());
            waiting.observe(&observation(&plan, event), now, &mut own);
            hasty.observe(&observation(&plan, event), now, &mut expected);
            let sorted = |firings: Vec<Firing>| {
                // Of what an account did alone there is a mean, without its times.
                let name = |own: &Firing| plan.correlations()[own.correlation].name.as_str();
                let own = firings.iter().filter(|own| name(own) != "evidence");
                let mut rows: Vec<String> = own.map(|own| format!("{own:?}")).collect();
                rows.sort();
                rows
            };
            prop_assert_eq!(sorted(own), sorted(expected));
        }
    }

    /// Two correlators that saw a part each, joined, are one that saw all; and so is one that was
    /// written down and read back.
    #[test]
    fn parts_make_a_whole(events in events(20), split in prop::collection::vec(any::<bool>(), 150)) {
        let plan = plan(all());
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
        let mut joined = new();
        for part in left.encode_partitions().iter().chain(&right.encode_partitions()) {
            joined.merge_partition(part, now).unwrap();
        }
        let mut restored = new();
        for part in whole.encode_partitions() {
            restored.merge_partition(&part, now).unwrap();
        }
        let result = |correlator: &mut Correlator| {
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, last), now, &mut firings);
            told(&plan, &firings)
        };
        let expected = result(&mut whole);
        prop_assert_eq!(&result(&mut restored), &expected);
        // What has to be seen by one of them to be seen at all.
        let is_whole = |(name, _): &(String, u64)| !["chain", "apart", "pair"].contains(&name.as_str());
        let without = |set: BTreeSet<_>| set.into_iter().filter(is_whole).collect::<BTreeSet<_>>();
        prop_assert_eq!(without(result(&mut joined)), without(expected));
    }

    /// Whatever clocks say, nothing panics, memory is bounded, and an hour of right clocks later
    /// everything counts again.
    #[test]
    fn clocks_may_jump(jumps in prop::collection::vec(any::<(u32, u32, u64)>(), 1..200)) {
        let plan = plan(all());
        let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 1 << 20);
        let mut firings = Vec::new();
        let event = |at, account| Event { at, rules: vec!["a", "b"], account, templates: vec![7], llr: 1.0 };
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
        prop_assert!(told(&plan, &firings).contains(&("accounts_short".to_owned(), 7)));
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let plan = plan(all());
        let mut correlator = Correlator::new(plan, Shard::ALL, LIMIT);
        let mut part = vec![1];
        part.extend(bytes);
        let _ = correlator.merge_partition(&part, 1_000_000);
    }
}

/// Twenty thousand accounts and more are counted from a sample, to 9 % (standard error).
#[test]
fn many_values_are_estimated_as_well_as_stated() {
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
            // Up to what a sample holds there is no error at all.
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

/// A flood of keys that one account each uses once does not push out a template that several share,
/// nor keep one out that comes later; and memory stays bounded.
#[test]
fn unique_keys_push_out_none_that_are_shared() {
    let limit = 4 << 20;
    let plan = plan(vec![correlation("accounts", &["a"], 86_400, accounts(gte(20.0)))]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, limit);
    let mut firings = Vec::new();
    for number in 0_u64..400_000 {
        let now = 1_000_000 + (number / 100) as u32;
        let (account, template) = match number % 1_000 {
            // One template from the beginning, and one from the middle on.
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
    let told: BTreeSet<u64> = firings.iter().map(|firing| firing.key).collect();
    assert_eq!(told, BTreeSet::from([7, 8]));
}

/// The shelf forgets keys while many others come. It once held up the next account of a key whose groups
/// were there, for ever if that took longer each time than the shelf remembers.
#[test]
fn what_is_shared_is_counted_however_rarely_it_comes() {
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
    let mut told_by = BTreeMap::new();
    for account in 1_u64..=6 {
        let mut firings = Vec::new();
        let now = 1_000_000 + account as u32 * 1_000;
        correlator.observe(&observation(&plan, &event(now, account, 7)), now, &mut firings);
        firings.iter().for_each(|firing| *told_by.entry(firing.key).or_default() = account);
        // The first three come together.
        let others = if account < 3 { 0 } else { 60_000 };
        for number in 0..others {
            let other = account * 1_000_000 + number;
            let event = event(now + number as u32 / 100, other, other);
            correlator.observe(&observation(&plan, &event), event.at, &mut Vec::new());
        }
    }
    assert_eq!(told_by, BTreeMap::from([(7, 6)]));
}

/// Who comes again after a pause is new to a rule that looks back for less; even if it had waited alone,
/// beside a rule that looks back for longer.
#[test]
fn an_account_is_new_to_each_rule_after_its_own_time() {
    let rule = |name, timespan| Correlation {
        coordination: crowd(60),
        ..correlation(name, &["a"], timespan, accounts(gte(3.0)))
    };
    let plan = plan(vec![rule("hour", 3_600), rule("day", 86_400)]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
    let mut firings = Vec::new();
    for (at, account) in [(1_000_000, 1), (1_007_200, 1), (1_007_201, 2), (1_007_202, 3)] {
        let event = Event { at, rules: vec!["a"], account, templates: vec![7], llr: 0.0 };
        correlator.observe(&observation(&plan, &event), at, &mut firings);
    }
    assert_eq!(told(&plan, &firings), BTreeSet::from([("hour".to_owned(), 7)]));
}

/// What seems to come from the future, because a clock was wrong, once kept its place until then.
#[test]
fn what_a_wrong_clock_saw_makes_room() {
    let limit = 2 << 20;
    let plan = plan(vec![
        correlation("some", &["a"], 86_400, accounts(gte(3.0))),
        correlation("more", &["a", "b"], 86_400, accounts(gte(3.0))),
    ]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, limit);
    let mut firings = Vec::new();
    let mut see = |account, template, now| {
        let event =
            Event { at: now, rules: vec!["a"], account, templates: vec![template], llr: 0.0 };
        correlator.observe(&observation(&plan, &event), now, &mut firings);
    };
    let now = 1_000_000;
    (0..60_000_u64).for_each(|number| see(1 + number % 2, 1_000 + number / 2, now + 86_400));
    // Among others, of which there are fewer than places.
    for round in 0..3 {
        (0..1_000_u64).for_each(|key| see(10 + round, 1_000_000 + key, now + round as u32));
    }
    let told: BTreeSet<u64> = firings.iter().map(|firing| firing.key).collect();
    assert!(told.len() > 950, "{}", told.len());
}

/// Numbers that clients choose may be larger than what is kept of them.
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

/// A correlation that clients can make hold for as many keys as they like leaves room to be told for
/// the others.
#[test]
fn one_correlation_does_not_take_all_room() {
    let plan = plan(vec![
        Correlation {
            ttl: 86_400,
            ..correlation("cheap", &["a"], 86_400, Measure::EventCount { thresholds: gte(1.0) })
        },
        correlation("dear", &["b"], 86_400, accounts(gte(2.0))),
    ]);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, 64 << 20);
    let mut told = BTreeMap::new();
    let mut see = |rule, account, template| {
        let at = 1_000_000;
        let event = Event { at, rules: vec![rule], account, templates: vec![template], llr: 0.0 };
        let mut firings = Vec::new();
        correlator.observe(&observation(&plan, &event), at, &mut firings);
        for firing in &firings {
            *told.entry(plan.correlations()[firing.correlation].name.clone()).or_insert(0) += 1;
        }
    };
    (0..MAX_INDICATORS as u64 / 3).for_each(|key| see("a", 1, 1_000 + key));
    (1..3).for_each(|account| see("b", account, 7));
    let expected = [("cheap".to_owned(), MAX_INDICATORS / 4), ("dear".to_owned(), 1)];
    assert_eq!(told, BTreeMap::from(expected));
}

/// What was written down must still be read after an update: these bytes are somebody's counts.
#[test]
fn snapshots_stay_what_they_are() {
    let plan = plan(all());
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, LIMIT);
    let mut firings = Vec::new();
    for number in 0_u64..200 {
        let rules = vec![["a", "b", "c"][number as usize % 3]];
        let (at, account) = (1_000_000 + number as u32, 100 + number % 90);
        // Some of them once.
        let template = if number % 20 == 7 { 1_000 + number } else { 1 + number % 2 };
        let event = Event { at, rules, account, templates: vec![template], llr: 2.5 };
        correlator.observe(&observation(&plan, &event), at, &mut firings);
    }
    let bytes = correlator.encode_partitions().concat();
    assert_eq!(hedgerow_core::ruleset::digest(&bytes), SNAPSHOT_DIGEST);
    assert!(!correlator.drain_dirty().is_empty());
    assert!(correlator.drain_dirty().is_empty(), "nothing has changed since");
}

const SNAPSHOT_DIGEST: &str = "db7115bb7d9560344ba7ea2d7b9249901877d565d69205f81e4378527b567145";

/// After a restart an account's requests once counted twice: a rule that asks for three each held after
/// the second one.
#[test]
fn what_was_written_down_counts_once() {
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
        let mut told = |account| {
            let event =
                Event { at: 1_000_001, rules: vec!["a"], account, templates: vec![3], llr: 0.0 };
            let mut firings = Vec::new();
            correlator.observe(&observation(&plan, &event), 1_000_001, &mut firings);
            !firings.is_empty()
        };
        let again = (1..=accounts).chain(1..=accounts).chain(1..=accounts);
        let requests: Vec<bool> = again.map(&mut told).collect();
        // Of many accounts, not every event has all of them looked at.
        let (first, slack) = (2 * accounts as usize - 1, accounts as usize / 32);
        let told = requests.iter().position(|told| *told).unwrap();
        assert!((first..=first + slack).contains(&told), "{accounts}: {told}");
    }
}

/// A window that comes with an update begins with what a longer one has, and those that were there keep
/// their own.
#[test]
fn other_windows_find_their_samples() {
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
        .map(|own| (after.correlations()[own.correlation].name.as_str(), own.value))
        .collect();
    assert_eq!(measured, BTreeMap::from([("w3600", 50.0), ("w86400", 200.0)]));
}
