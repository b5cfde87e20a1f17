//! A correlation in the form that a bundle holds: a rule over many requests, which share a key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::field::Field;
use crate::rules::signature::{Comparator, Condition, Status};

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
    #[serde(default, skip_serializing_if = "Coordination::is_empty")]
    pub coordination: Coordination,
    /// Seconds that an indicator lasts after the condition held.
    pub ttl: u32,
}

/// What is measured over the events of a group, and when it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// Their number.
    EventCount {
        /// When it holds.
        thresholds: Vec<Threshold>,
    },
    /// How many different values of a field they have.
    ValueCount {
        /// The field.
        field: Field,
        /// When it holds.
        thresholds: Vec<Threshold>,
    },
    /// The sum of a field.
    ValueSum {
        /// The field.
        field: Field,
        /// When it holds.
        thresholds: Vec<Threshold>,
    },
    /// The mean of a field.
    ValueAvg {
        /// The field.
        field: Field,
        /// When it holds.
        thresholds: Vec<Threshold>,
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
        distinct_by: Option<Field>,
    },
}

/// A comparison with a number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// How.
    pub comparator: Comparator,
    /// With what.
    pub value: f64,
}

/// What coordination shows in, of the values that a [`Measure::ValueCount`] counts: at least so much of
/// each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordination {
    /// Events of a value, on average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_value: Option<f64>,
    /// How evenly events are spread over the values, in percent: 100 where all have the same number,
    /// 100 / n where one has them all (Simpson's evenness).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evenness: Option<f64>,
    /// The largest share of values, in percent, that were first seen within the same `within` seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronized_start: Option<ShareWithin>,
    /// The largest share of values last seen within `within` seconds before a moment, doubled, as far
    /// as as many were first seen within as long behind it, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<ShareWithin>,
}

/// A share of values for which something happened at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareWithin {
    /// Seconds that count as the same time.
    pub within: u32,
    /// Percent, at least.
    pub min_percent: f64,
}

impl Correlation {
    /// The field whose values are counted, summed or told apart.
    pub fn field(&self) -> Option<&Field> {
        match &self.measure {
            Measure::ValueCount { field, .. }
            | Measure::ValueSum { field, .. }
            | Measure::ValueAvg { field, .. } => Some(field),
            Measure::TemporalOrdered { distinct_by } => distinct_by.as_ref(),
            Measure::EventCount { .. } | Measure::Temporal { .. } => None,
        }
    }

    /// Does without rules that are off; whether it can. Fewer rules make fewer events, but a sequence,
    /// or a condition over rules, would be another one.
    pub(crate) fn drop_disabled(&mut self, disabled: &BTreeSet<String>) -> bool {
        let original_len = self.rules.len();
        self.rules.retain(|rule| !disabled.contains(rule));
        let is_unchanged = self.rules.len() == original_len;
        let is_aggregate =
            !matches!(self.measure, Measure::Temporal { .. } | Measure::TemporalOrdered { .. });
        is_unchanged || is_aggregate && !self.rules.is_empty()
    }

    /// Whether it only feeds other correlations, and makes no indicators.
    pub fn is_intermediate(&self) -> bool {
        self.weight == 0.0
    }

    /// Whether its indicators link accounts to a cluster: those that weigh little hold for popular
    /// tools as well, and everybody would be linked to everybody.
    pub fn links_accounts(&self) -> bool {
        self.weight >= MIN_LINK_WEIGHT
    }

    /// What has to be so, in words: `≥ 20 different hedgerow.account within 1 h, by hedgerow.template.user`.
    pub fn describe(&self) -> String {
        let field = self.field().map(Field::name).unwrap_or_default();
        let measure = match &self.measure {
            Measure::EventCount { thresholds } => {
                format!("{} events", format_thresholds(thresholds))
            }
            Measure::ValueCount { thresholds, .. } => {
                format!("{} different {field}", format_thresholds(thresholds))
            }
            Measure::ValueSum { thresholds, .. } => {
                format!("sum of {field} {}", format_thresholds(thresholds))
            }
            Measure::ValueAvg { thresholds, .. } => {
                format!("mean of {field} {}", format_thresholds(thresholds))
            }
            Measure::Temporal { condition } => condition.to_string(),
            Measure::TemporalOrdered { distinct_by: None } => self.rules.join(", then "),
            Measure::TemporalOrdered { .. } => {
                format!("{}, of another {field}", self.rules.join(", then "))
            }
        };
        let groups: Vec<String> = self.group_by.iter().map(Field::name).collect();
        let coordination = self.coordination.describe();
        format!(
            "{measure} within {}{coordination}, by {}",
            format_duration(self.timespan),
            groups.join(" and ")
        )
    }
}

/// Bounds in words.
fn format_thresholds(thresholds: &[Threshold]) -> String {
    let format_one = |threshold: &Threshold| {
        let symbol = match threshold.comparator {
            Comparator::Eq => "=",
            Comparator::Gt => ">",
            Comparator::Gte => "≥",
            Comparator::Lt => "<",
            Comparator::Lte => "≤",
        };
        format!("{symbol} {}", threshold.value)
    };
    thresholds.iter().map(format_one).collect::<Vec<_>>().join(" and ")
}

/// Seconds in the largest unit that fits.
pub fn format_duration(seconds: u32) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let largest_unit =
        units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    largest_unit
        .map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// Decibans from which on an indicator links.
pub const MIN_LINK_WEIGHT: f64 = 6.0;

impl Threshold {
    /// Whether a number satisfies all of some bounds.
    pub fn all_satisfied(thresholds: &[Self], value: f64) -> bool {
        thresholds.iter().all(|threshold| threshold.comparator.matches(value, threshold.value))
    }
}

impl Coordination {
    /// Whether nothing more is asked.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is asked, in words, each behind a comma.
    fn describe(&self) -> String {
        let describe_share = |share: Option<ShareWithin>, label: &str| {
            share.map(|ShareWithin { within, min_percent }| {
                format!(", {min_percent} % {label} within {}", format_duration(within))
            })
        };
        let parts = [
            self.events_per_value.map(|events| format!(", {events} events each")),
            self.evenness.map(|evenness| format!(", {evenness} % even")),
            describe_share(self.synchronized_start, "first seen"),
            describe_share(self.handover, "relieved"),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// The shortest and longest time that a correlation looks back, in seconds: ten seconds, thirty days.
pub const TIMESPAN_RANGE_SECONDS: std::ops::RangeInclusive<u32> = 10..=30 * 86_400;

/// Fields that make a group, at most.
pub const MAX_GROUP_BY_FIELDS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_the_condition() {
        let threshold = |comparator, value| Threshold { comparator, value };
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
                thresholds: vec![threshold(Comparator::Gte, 20.0), threshold(Comparator::Lt, 50.5)],
            },
            coordination: Coordination::default(),
            ttl: 0,
        };
        let groups = "by hedgerow.template.user and gen_ai.request.model";
        assert_eq!(
            correlation.describe(),
            format!("≥ 20 and < 50.5 different hedgerow.account within 1 h, {groups}")
        );
        correlation.measure = Measure::TemporalOrdered { distinct_by: None };
        correlation.timespan = 90;
        assert_eq!(correlation.describe(), format!("a, then b within 90 s, {groups}"));
    }
}
