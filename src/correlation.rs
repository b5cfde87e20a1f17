//! A correlation in the form that a bundle holds: a rule over many requests, which share a key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::field::Field;
use crate::signature::{Condition, Order, Status};

/// One correlation rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// `<family>_<what>`; unique, among signatures too.
    pub name: String,
    /// UUID; unique, and stable over renaming.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// The group whose weights are capped together.
    pub family: String,
    /// Whether it counts.
    pub status: Status,
    /// Weight in decibans of an indicator that it makes.
    pub weight: f64,
    /// Signatures, or other correlations, whose hits are its events.
    pub rules: Vec<String>,
    /// Fields whose values make a group: events that share one value of each.
    pub group_by: Vec<Field>,
    /// Seconds that it looks back.
    pub timespan: u32,
    /// What has to be so.
    pub measure: Measure,
    /// What more has to be so of the values that are counted.
    #[serde(default, skip_serializing_if = "Crowd::is_empty")]
    pub crowd: Crowd,
    /// Seconds that an indicator lasts after the condition held.
    pub lasts: u32,
}

/// What is measured over the events of a group, and when it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// Their number.
    EventCount {
        /// When it holds.
        bounds: Vec<Bound>,
    },
    /// How many different values of a field they have.
    ValueCount {
        /// The field.
        field: Field,
        /// When it holds.
        bounds: Vec<Bound>,
    },
    /// The sum of a field.
    ValueSum {
        /// The field.
        field: Field,
        /// When it holds.
        bounds: Vec<Bound>,
    },
    /// The mean of a field.
    ValueAvg {
        /// The field.
        field: Field,
        /// When it holds.
        bounds: Vec<Bound>,
    },
    /// Which rules they are hits of.
    Temporal {
        /// Over the rules.
        condition: Condition,
    },
    /// All rules, in their order.
    TemporalOrdered {
        /// A field that differs from one event to the next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        apart: Option<Field>,
    },
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bound {
    /// How.
    pub order: Order,
    /// With what.
    pub value: f64,
}

/// What coordination shows in, of the values that a [`Measure::ValueCount`] counts: at least so much of
/// each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crowd {
    /// Events of a value, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// How evenly events are spread over the values, in percent: 100 where all have the same number,
    /// 100 / n where one has them all (Simpson's evenness).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evenness: Option<f64>,
    /// The largest share of values, in percent, that were first seen within the same `within` seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub together: Option<Share>,
    /// The largest share of values last seen within `within` seconds before a moment, doubled, as far
    /// as as many were first seen within as long behind it, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relieved: Option<Share>,
}

/// A share of values for which something happened at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Seconds that count as the same time.
    pub within: u32,
    /// Percent, at least.
    pub least: f64,
}

impl Correlation {
    /// The field whose values are counted, summed or told apart.
    pub fn field(&self) -> Option<&Field> {
        match &self.measure {
            Measure::ValueCount { field, .. }
            | Measure::ValueSum { field, .. }
            | Measure::ValueAvg { field, .. } => Some(field),
            Measure::TemporalOrdered { apart } => apart.as_ref(),
            Measure::EventCount { .. } | Measure::Temporal { .. } => None,
        }
    }

    /// Does without rules that are off; whether it can. Fewer rules make fewer events, but a sequence,
    /// or a condition over rules, would be another one.
    pub(crate) fn do_without(&mut self, off: &BTreeSet<String>) -> bool {
        let known = self.rules.len();
        self.rules.retain(|rule| !off.contains(rule));
        let is_whole = self.rules.len() == known;
        let is_counted =
            !matches!(self.measure, Measure::Temporal { .. } | Measure::TemporalOrdered { .. });
        is_whole || is_counted && !self.rules.is_empty()
    }

    /// Whether it only feeds other correlations, and makes no indicators.
    pub fn is_feeder(&self) -> bool {
        self.weight == 0.0
    }

    /// Whether its indicators link accounts to a cluster: those that weigh little hold for popular
    /// tools as well, and everybody would be linked to everybody.
    pub fn links(&self) -> bool {
        self.weight >= LINKS
    }

    /// What has to be so, in words: `≥ 20 different hedgerow.account within 1 h, by hedgerow.template.user`.
    pub fn words(&self) -> String {
        let field = self.field().map(Field::name).unwrap_or_default();
        let what = match &self.measure {
            Measure::EventCount { bounds } => format!("{} events", told(bounds)),
            Measure::ValueCount { bounds, .. } => format!("{} different {field}", told(bounds)),
            Measure::ValueSum { bounds, .. } => format!("sum of {field} {}", told(bounds)),
            Measure::ValueAvg { bounds, .. } => format!("mean of {field} {}", told(bounds)),
            Measure::Temporal { condition } => condition.to_string(),
            Measure::TemporalOrdered { apart: None } => self.rules.join(", then "),
            Measure::TemporalOrdered { .. } => {
                format!("{}, of another {field}", self.rules.join(", then "))
            }
        };
        let groups: Vec<String> = self.group_by.iter().map(Field::name).collect();
        let crowd = self.crowd.words();
        format!("{what} within {}{crowd}, by {}", span(self.timespan), groups.join(" and "))
    }
}

/// Bounds in words.
fn told(bounds: &[Bound]) -> String {
    let one = |bound: &Bound| {
        let order = match bound.order {
            Order::Eq => "=",
            Order::Gt => ">",
            Order::Gte => "≥",
            Order::Lt => "<",
            Order::Lte => "≤",
        };
        format!("{order} {}", bound.value)
    };
    bounds.iter().map(one).collect::<Vec<_>>().join(" and ")
}

/// Seconds in the largest unit that fits.
pub(crate) fn span(seconds: u32) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let whole = units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    whole
        .map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// Decibans from which on an indicator links.
pub const LINKS: f64 = 6.0;

impl Bound {
    /// Whether a number satisfies all of some bounds.
    pub fn all(bounds: &[Self], number: f64) -> bool {
        bounds.iter().all(|bound| bound.order.fits(number, bound.value))
    }
}

impl Crowd {
    /// Whether nothing more is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is asked, in words, each behind a comma.
    fn words(&self) -> String {
        let share = |share: Option<Share>, what: &str| {
            share.map(|Share { within, least }| {
                format!(", {least} % {what} within {}", span(within))
            })
        };
        let parts = [
            self.load.map(|load| format!(", {load} events each")),
            self.evenness.map(|evenness| format!(", {evenness} % even")),
            share(self.together, "first seen"),
            share(self.relieved, "relieved"),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// The shortest and longest time that a correlation looks back, in seconds: ten seconds, thirty days.
pub const TIMESPANS: std::ops::RangeInclusive<u32> = 10..=30 * 86_400;

/// Fields that make a group, at most.
pub const MAX_GROUP_BY: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_to_be_so_in_words() {
        let bound = |order, value| Bound { order, value };
        let field = |name| Field::parse(name).unwrap();
        let mut correlation = Correlation {
            name: "cluster_one".into(),
            id: String::new(),
            title: String::new(),
            family: "cluster".into(),
            status: Status::Stable,
            weight: 6.0,
            rules: vec!["a".into(), "b".into()],
            group_by: vec![field("hedgerow.template.user"), field("gen_ai.request.model")],
            timespan: 3_600,
            measure: Measure::ValueCount {
                field: field("hedgerow.account"),
                bounds: vec![bound(Order::Gte, 20.0), bound(Order::Lt, 50.5)],
            },
            crowd: Crowd::default(),
            lasts: 0,
        };
        let groups = "by hedgerow.template.user and gen_ai.request.model";
        assert_eq!(
            correlation.words(),
            format!("≥ 20 and < 50.5 different hedgerow.account within 1 h, {groups}")
        );
        correlation.measure = Measure::TemporalOrdered { apart: None };
        correlation.timespan = 90;
        assert_eq!(correlation.words(), format!("a, then b within 90 s, {groups}"));
    }
}
