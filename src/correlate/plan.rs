//! From correlations to what is tracked for them: correlations that look at the same thing share it.

use std::collections::{BTreeSet, HashMap};

use super::aside::Asides;
use super::{Observation, Shard};
use crate::correlation::{Bound, Correlation, Crowd, MAX_GROUP_BY, Measure, TIMESPANS};
use crate::error::Error;
use crate::field::{Field, Name};
use crate::hash::{HashKey, mix, unmix};
use crate::indicator::MAX_NAME;
use crate::signature::Condition;

/// Correlations, compiled.
#[derive(Debug, Default)]
pub struct Plan {
    /// The correlations, in the ruleset's order.
    pub(super) correlations: Vec<Correlation>,
    rules: Vec<String>,
    fields: Vec<Field>,
    /// What is tracked; that which is fed by correlations stands behind the rest.
    pub(super) trackers: Vec<Tracker>,
    /// What makes groups, each combination of fields once.
    pub(super) groupings: Vec<Grouping>,
    /// Whether a correlation is an event of another.
    pub(super) feeds: Vec<bool>,
}

/// Fields whose values make groups.
#[derive(Debug)]
pub(super) struct Grouping {
    pub fields: Vec<u16>,
    /// The trackers that count nothing but signatures by them.
    pub trackers: Vec<usize>,
    /// What waits for a second account.
    pub aside: Option<Asides>,
}

/// Something that is tracked for every group.
#[derive(Debug)]
pub(super) struct Tracker {
    /// Stays the same as long as it tracks the same.
    pub id: u64,
    /// Its events, by rule.
    pub events: Vec<Event>,
    /// The signatures among them, a bit each.
    pub signatures: Vec<u64>,
    pub group_by: Vec<u16>,
    /// The field that is counted, summed or told apart.
    pub field: Option<u16>,
    pub kind: Kind,
    /// The times that are looked back; where events are counted by value, that is over the first.
    pub windows: Vec<u32>,
    /// That one, where there is one.
    crowd: Option<u32>,
    /// What is asked of it.
    pub watches: Vec<Watch>,
    /// The first of its bits in what is put aside, if it waits.
    pub bit: Option<u8>,
}

/// How a tracker's state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Members,
    Ring,
    Seen,
    Chain,
}

/// What makes an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A hit of a signature: its place in [`Plan::rules`].
    Signature(usize),
    /// A correlation that holds.
    Correlation(usize),
}

/// A correlation's question to a tracker.
#[derive(Debug)]
pub(super) struct Watch {
    pub correlation: usize,
    /// The number of its window.
    pub window: usize,
    pub asks: Asks,
}

/// When a correlation holds.
#[derive(Debug)]
pub(super) enum Asks {
    /// By a number.
    Number { of: Of, bounds: Vec<Bound>, crowd: Crowd },
    /// By the rules that were seen.
    Rules(Condition, Vec<String>),
    /// By a whole sequence.
    Whole,
}

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Values,
    Events,
    Sum,
    Mean,
}

impl Plan {
    /// Compiles correlations. Rules are names of signatures, or of correlations without such rules.
    pub fn new(correlations: Vec<Correlation>, signatures: &BTreeSet<&str>) -> Result<Self, Error> {
        let mut plan = Self { correlations: Vec::new(), ..Self::default() };
        // Their accounts are what links groups.
        plan.field(&Field::Known(Name::Account));
        let places: HashMap<&str, usize> = correlations
            .iter()
            .enumerate()
            .map(|(place, own)| (own.name.as_str(), place))
            .collect();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for (number, correlation) in correlations.iter().enumerate() {
            sound(correlation)?;
            let mut events = Vec::new();
            for rule in &correlation.rules {
                events.push(match places.get(rule.as_str()) {
                    Some(place) => {
                        follows(correlation, correlations.get(*place), &places)?;
                        Event::Correlation(*place)
                    }
                    None if signatures.contains(rule.as_str()) => Event::Signature(plan.rule(rule)),
                    None => {
                        return Err(wrong(
                            correlation,
                            &format!("there is no rule '{rule}'"),
                            "name a signature or a correlation",
                        ));
                    }
                });
            }
            let is_first = events.iter().all(|event| matches!(event, Event::Signature(_)));
            let trackers = if is_first { &mut first } else { &mut second };
            plan.track(number, correlation, events, trackers);
        }
        first.append(&mut second);
        first.iter_mut().for_each(Tracker::settle);
        let is_event = |place: usize| {
            let mut events = first.iter().flat_map(|tracker| &tracker.events);
            events.any(|event| *event == Event::Correlation(place))
        };
        plan.feeds = (0..correlations.len()).map(is_event).collect();
        plan.trackers = first;
        plan.correlations = correlations;
        plan.group();
        Ok(plan)
    }

    /// The correlations, in the ruleset's order.
    pub fn correlations(&self) -> &[Correlation] {
        &self.correlations
    }

    /// The signatures that are events of some correlation.
    pub fn rules(&self) -> &[String] {
        &self.rules
    }

    /// The fields that are looked at; the account is the first.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The fields that make groups, each combination once.
    pub fn groupings(&self) -> impl Iterator<Item = &[u16]> {
        self.groupings.iter().map(|grouping| grouping.fields.as_slice())
    }

    /// The numbers of the shards, among `of`, that have a group which an observation counts for.
    pub fn owners(&self, observation: &Observation, of: u32) -> Vec<u32> {
        let is_event = |event: &Event| match event {
            Event::Signature(place) => {
                observation.rules.iter().any(|held| usize::from(*held) == *place)
            }
            // Counted where the group of the correlation is.
            Event::Correlation(_) => false,
        };
        let counts = self.trackers.iter().filter(|tracker| tracker.events.iter().any(is_event));
        let firsts = counts.filter_map(|tracker| tracker.group_by.first()).collect::<BTreeSet<_>>();
        let values = firsts.into_iter().flat_map(|field| observation.values(*field));
        let owners: BTreeSet<u32> = values.map(|(_, hash)| Shard::owner(*hash, of)).collect();
        owners.into_iter().collect()
    }

    /// Whether there is nothing to be counted.
    pub fn is_empty(&self) -> bool {
        self.correlations.is_empty()
    }

    /// The place of a field.
    fn field(&mut self, field: &Field) -> u16 {
        let known = self.fields.iter().position(|known| known == field);
        let place = known.unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len().saturating_sub(1)
        });
        u16::try_from(place).unwrap_or(u16::MAX)
    }

    fn rule(&mut self, rule: &str) -> usize {
        self.rules.iter().position(|known| known == rule).unwrap_or_else(|| {
            self.rules.push(rule.to_owned());
            self.rules.len().saturating_sub(1)
        })
    }

    /// Gathers the trackers that make the same groups.
    fn group(&mut self) {
        for (number, tracker) in self.trackers.iter().enumerate() {
            let fields = &tracker.group_by;
            let place = self.groupings.iter().position(|own| own.fields == *fields);
            let place = place.unwrap_or_else(|| {
                let (fields, trackers) = (fields.clone(), Vec::new());
                self.groupings.push(Grouping { fields, trackers, aside: None });
                self.groupings.len().saturating_sub(1)
            });
            if let Some(grouping) = self.groupings.get_mut(place)
                && !tracker.is_fed()
            {
                grouping.trackers.push(number);
            }
        }
        for grouping in &mut self.groupings {
            grouping.aside = Asides::of(grouping, &mut self.trackers, &self.correlations);
        }
    }

    fn track(
        &mut self,
        number: usize,
        correlation: &Correlation,
        events: Vec<Event>,
        trackers: &mut Vec<Tracker>,
    ) {
        let group_by: Vec<u16> =
            correlation.group_by.iter().map(|field| self.field(field)).collect();
        let field = correlation.field().map(|field| self.field(field));
        let (kind, asks) = question(correlation);
        let id = identity(correlation, kind);
        let crowd = (!correlation.crowd.is_empty()).then_some(correlation.timespan);
        let fits = |own: Option<u32>| own.is_none() || crowd.is_none() || own == crowd;
        let known = trackers.iter_mut().find(|own| own.id == id && fits(own.crowd));
        let tracker = match known {
            Some(tracker) => tracker,
            None => {
                let (windows, watches, bit) = (Vec::new(), Vec::new(), None);
                let signatures = Vec::new();
                trackers.push(Tracker {
                    id,
                    events,
                    signatures,
                    group_by,
                    field,
                    kind,
                    windows,
                    crowd,
                    watches,
                    bit,
                });
                let Some(tracker) = trackers.last_mut() else { return };
                tracker
            }
        };
        let window = tracker.windows.iter().position(|window| *window == correlation.timespan);
        let window = window.unwrap_or_else(|| {
            tracker.windows.push(correlation.timespan);
            tracker.windows.len().saturating_sub(1)
        });
        tracker.watches.push(Watch { correlation: number, window, asks });
        tracker.crowd = tracker.crowd.or(crowd);
    }
}

impl Asks {
    /// Whether it takes a look at all values of a group.
    pub fn is_crowd(&self) -> bool {
        matches!(self, Self::Number { crowd, .. } if !crowd.is_empty())
    }
}

impl Tracker {
    /// How long a group is kept after its latest event.
    pub fn longest(&self) -> u32 {
        self.windows.iter().copied().max().unwrap_or_default()
    }

    /// After how long without events a value is new.
    pub fn counted(&self) -> u32 {
        self.windows.first().copied().unwrap_or_default()
    }

    /// Once it is known what is asked of it: gathers its signatures; has the window over which events
    /// are counted come first, and tells it by that.
    fn settle(&mut self) {
        for event in &self.events {
            let Event::Signature(place) = event else { continue };
            let word = place / 64;
            self.signatures.resize(self.signatures.len().max(word.saturating_add(1)), 0);
            self.signatures.get_mut(word).into_iter().for_each(|own| *own |= 1 << (place % 64));
        }
        let Some(crowd) = self.crowd else { return };
        self.id = mix(self.id ^ u64::from(crowd));
        let place = self.windows.iter().position(|window| *window == crowd).unwrap_or_default();
        self.windows.swap(0, place);
        for watch in &mut self.watches {
            if watch.window == place {
                watch.window = 0;
            } else if watch.window == 0 {
                watch.window = place;
            }
        }
    }

    /// Whether correlations are among its events.
    pub fn is_fed(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Correlation(_)))
    }
}

fn question(correlation: &Correlation) -> (Kind, Asks) {
    let number = |kind, of, bounds: &Vec<Bound>| {
        (kind, Asks::Number { of, bounds: bounds.clone(), crowd: correlation.crowd })
    };
    match &correlation.measure {
        Measure::EventCount { bounds } => number(Kind::Ring, Of::Events, bounds),
        Measure::ValueCount { bounds, .. } => number(Kind::Members, Of::Values, bounds),
        Measure::ValueSum { bounds, .. } => number(Kind::Ring, Of::Sum, bounds),
        Measure::ValueAvg { bounds, .. } => number(Kind::Ring, Of::Mean, bounds),
        Measure::Temporal { condition } => {
            (Kind::Seen, Asks::Rules(condition.clone(), correlation.rules.clone()))
        }
        Measure::TemporalOrdered { .. } => (Kind::Chain, Asks::Whole),
    }
}

/// A hash over what a tracker tracks. Over which time events are counted by value is not in it.
fn identity(correlation: &Correlation, kind: Kind) -> u64 {
    let fields: Vec<String> = correlation.group_by.iter().map(Field::name).collect();
    let field = correlation.field().map(Field::name);
    let mut rules: Vec<&str> = correlation.rules.iter().map(String::as_str).collect();
    let timespan = match kind {
        // Values are told apart by time.
        Kind::Members => None,
        _ => Some(correlation.timespan),
    };
    if matches!(kind, Kind::Members | Kind::Ring) {
        rules.sort_unstable();
    }
    let text = format!("{kind:?} {rules:?} {fields:?} {field:?} {timespan:?}");
    HashKey::default().value("tracker", text.as_bytes())
}

/// What can be asked at all.
fn sound(correlation: &Correlation) -> Result<(), Error> {
    if !TIMESPANS.contains(&correlation.timespan) {
        return Err(wrong(
            correlation,
            "its timespan is not from 10 seconds to 30 days",
            "choose one that is",
        ));
    }
    if !TIMESPANS.contains(&correlation.lasts) && correlation.lasts != 0 {
        let problem = "its indicators do not last from 10 seconds to 30 days";
        return Err(wrong(correlation, problem, "choose a time that is"));
    }
    if correlation.name.len() > MAX_NAME {
        let problem = format!("its name is longer than {MAX_NAME} bytes");
        return Err(wrong(correlation, &problem, "shorten it"));
    }
    if correlation.rules.is_empty() {
        return Err(wrong(correlation, "it has no rules", "name signatures under `rules`"));
    }
    if !(1..=MAX_GROUP_BY).contains(&correlation.group_by.len()) {
        let problem = format!("it groups by {} fields", correlation.group_by.len());
        return Err(wrong(
            correlation,
            &problem,
            &format!("group by one to {MAX_GROUP_BY} fields"),
        ));
    }
    Ok(())
}

/// What a correlation over correlations needs: both groups must be kept in the same place, and the
/// inner one must look at signatures only.
fn follows(
    outer: &Correlation,
    inner: Option<&Correlation>,
    places: &HashMap<&str, usize>,
) -> Result<(), Error> {
    let Some(inner) = inner else { return Ok(()) };
    if outer.group_by.first() != inner.group_by.first() {
        let problem = format!("its first field to group by is not that of '{}'", inner.name);
        return Err(wrong(outer, &problem, "group both by the same field first"));
    }
    if inner.rules.iter().any(|rule| places.contains_key(rule.as_str())) {
        let problem = format!("'{}' is itself a correlation over correlations", inner.name);
        return Err(wrong(outer, &problem, "two levels are the most"));
    }
    Ok(())
}

fn wrong(correlation: &Correlation, problem: &str, remedy: &str) -> Error {
    Error::new(format!("correlation '{}': {problem}", correlation.name), remedy)
}

/// The key of a tracker's group.
pub(super) fn group_key(tracker: &Tracker, values: u64) -> u64 {
    key_of(tracker.id, values)
}

/// A key, by what it is for and the values, hashed together.
pub(super) fn key_of(id: u64, values: u64) -> u64 {
    mix(id ^ values).max(1)
}

/// The values of a key.
pub(super) fn values_of(id: u64, key: u64) -> u64 {
    unmix(key) ^ id
}
