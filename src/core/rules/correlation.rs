//! A correlation in its bundle form: a rule over many requests that share a key.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::field::{Field, FieldId};
use crate::rules::signature::{Comparator, Condition, Status};

/// A rule over the requests that share a key. A key becomes an indicator if the condition holds for
/// it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Correlation {
    /// Name `<family>_<what>`; unique among correlations and signatures.
    pub name: String,
    /// UUID; unique, and stable when the rule is renamed.
    pub id: String,
    /// Title in one line, for people.
    pub title: String,
    /// Family, whose weights are capped together.
    pub family: String,
    /// Maturity, which decides whether its indicators count.
    pub status: Status,
    /// Weight of its indicators in decibans; 0 if it only feeds other correlations.
    pub weight: f64,
    /// Names of signatures or correlations whose hits are its events.
    pub rules: Vec<String>,
    /// Name of a signature that each event must also match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<String>,
    /// Fields that group events. The events of a group have the same value in each of these fields.
    pub group_by: Vec<Field>,
    /// Seconds of the time window.
    pub timespan: u32,
    /// Condition on the events of a group.
    pub measure: Measure,
    /// Further conditions on the counted values.
    #[serde(default, skip_serializing_if = "Coordination::is_empty")]
    pub coordination: Coordination,
    /// Restriction of the requests for which the evidence of a group counts.
    #[serde(default, skip_serializing_if = "Attribution::is_default")]
    pub attribution: Attribution,
    /// Seconds for which an indicator stays active after the condition last held.
    pub ttl: u32,
}

/// A measure over the events of a group, with the condition on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// The number of events.
    EventCount {
        /// Conditions that must all hold.
        thresholds: Vec<Threshold>,
    },
    /// The number of distinct values of a field.
    ValueCount {
        /// Field that is measured.
        field: Field,
        /// Conditions that must all hold.
        thresholds: Vec<Threshold>,
    },
    /// The sum of a field.
    ValueSum {
        /// Field that is measured.
        field: Field,
        /// Conditions that must all hold.
        thresholds: Vec<Threshold>,
    },
    /// The mean of a field.
    ValueAvg {
        /// Field that is measured.
        field: Field,
        /// Conditions that must all hold.
        thresholds: Vec<Threshold>,
    },
    /// The set of rules with at least one event.
    Temporal {
        /// Condition over the names of the rules.
        condition: Condition,
    },
    /// One event of each rule, in the order of the rules.
    TemporalOrdered {
        /// Field whose value must differ from one event of the sequence to the next.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        distinct_by: Option<Field>,
    },
}

/// A comparison of a measured number with a fixed number.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Threshold {
    /// Comparator between the measured number and `value`.
    pub comparator: Comparator,
    /// Number to compare with.
    pub value: f64,
}

/// Signs of coordination among the values that a [`Measure::ValueCount`] counts, with the limit of
/// each sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coordination {
    /// Minimum mean number of events per value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_value: Option<f64>,
    /// Maximum mean number of events per value: 1 if no value repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_events_per_value: Option<f64>,
    /// Minimum evenness of the events over the values, in percent (Simpson's evenness): 100 if all
    /// n values have the same number, near 100 / n if one value has nearly all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evenness: Option<f64>,
    /// Minimum share of values that were first seen within the same `within` seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronized_start: Option<ShareWithin>,
    /// Minimum share of values that take part in a hand-over.
    ///
    /// For a moment t: 200 × min(values last seen in [t − within, t), values first seen in [t, t +
    /// within]) / all values, in percent. The maximum over t counts. The moments t are the times at
    /// which a value was first seen, except those in the last `within` seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handover: Option<ShareWithin>,
}

/// The requests for which the evidence of a group counts. Not all requests that share the key take
/// part in the behaviour that the correlation finds. The evidence counts only for those that do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attribution {
    /// Whether the indicators are about the accounts that take part, instead of about the key.
    ///
    /// An account takes part if it has at least half of `events_per_value` events, and at least
    /// one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub to_accounts: bool,
    /// Minimum evidence of the request's content, in decibans, without indicators; 0 for no
    /// minimum.
    #[serde(skip_serializing_if = "is_zero")]
    pub own_evidence: f64,
    /// Minimum evidence of correlations that group by the account of the request, in decibans; 0
    /// for no minimum.
    #[serde(skip_serializing_if = "is_zero")]
    pub own_behavior: f64,
    /// Fact that the correlation counts, such as `networks`. Of several correlations that count the
    /// same fact, only the one with the highest weight is evidence.
    #[serde(rename = "fact", skip_serializing_if = "Option::is_none")]
    pub fact_group: Option<String>,
    /// Minimum of the measured count, in percent of the count of another correlation for the same
    /// group. For example, the first count is the number of accounts with an event, and the other
    /// count is the number of all accounts that send with the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<RelativeMinimum>,
    /// Minimum number of values that another correlation counts for the same group, in percent of
    /// the events of this correlation: 100 if every event has a different value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variety: Option<RelativeMinimum>,
}

/// A minimum percentage, and the other correlation whose count is compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelativeMinimum {
    /// Name of the other correlation.
    pub correlation: String,
    /// Minimum percent.
    pub min_percent: f64,
}

/// A minimum share of the values, which must have been first seen, or handed over, at about the
/// same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareWithin {
    /// Seconds that count as about the same time.
    pub within: u32,
    /// Minimum percent of the values.
    pub min_percent: f64,
}

impl Correlation {
    /// Returns the field that is measured or, for a sequence, `distinct_by`; `None` if the measure
    /// has no field.
    pub fn field(&self) -> Option<&Field> {
        match &self.measure {
            Measure::ValueCount { field, .. }
            | Measure::ValueSum { field, .. }
            | Measure::ValueAvg { field, .. } => Some(field),
            Measure::TemporalOrdered { distinct_by } => distinct_by.as_ref(),
            Measure::EventCount { .. } | Measure::Temporal { .. } => None,
        }
    }

    /// Removes disabled rules. Returns false if the correlation cannot work without them.
    ///
    /// Without a rule, an aggregate only has fewer events. A sequence or a condition over rules
    /// would get another meaning.
    pub(crate) fn drop_disabled(&mut self, disabled: &BTreeSet<String>) -> bool {
        if self.only.as_ref().is_some_and(|only| disabled.contains(only)) {
            return false;
        }
        let original_len = self.rules.len();
        self.rules.retain(|rule| !disabled.contains(rule));
        let is_unchanged = self.rules.len() == original_len;
        let is_aggregate =
            !matches!(self.measure, Measure::Temporal { .. } | Measure::TemporalOrdered { .. });
        is_unchanged || is_aggregate && !self.rules.is_empty()
    }

    /// Returns whether the correlation only feeds other correlations and makes no indicators.
    pub fn is_intermediate(&self) -> bool {
        self.weight == 0.0
    }

    /// Returns whether the correlation's indicators link accounts to a cluster.
    ///
    /// Indicators of low weight also occur for popular tools, and would link unrelated accounts.
    pub fn links_accounts(&self) -> bool {
        self.weight >= MIN_LINK_WEIGHT
    }

    /// Returns whether each group has the events of one account. Its evidence then concerns this
    /// account only.
    pub fn groups_by_account(&self) -> bool {
        self.group_by.contains(&Field::Known(FieldId::Account))
    }

    /// Describes the condition in words, such as
    /// `≥ 20 different hedgerow.account within 1 h, by hedgerow.template.user`.
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
                format!("{}, each with another {field}", self.rules.join(", then "))
            }
        };
        let groups: Vec<String> = self.group_by.iter().map(Field::name).collect();
        let coordination = self.coordination.describe();
        let only = self.only.as_ref().map(|only| format!(", only {only}")).unwrap_or_default();
        format!(
            "{measure} within {}{coordination}{only}, by {}",
            format_duration(self.timespan),
            groups.join(" and ")
        )
    }
}

/// Returns thresholds as text, such as `≥ 20 and < 50`.
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

/// Returns a duration as text, in the largest unit that divides it: `90 s`, `15 min`, `3 d`.
pub fn format_duration(seconds: u32) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let largest_unit =
        units.iter().find(|(unit, _)| seconds >= *unit && seconds.is_multiple_of(*unit));
    largest_unit
        .map_or_else(|| format!("{seconds} s"), |(unit, name)| format!("{} {name}", seconds / unit))
}

/// Minimum weight, in decibans, of a correlation whose indicators link accounts.
pub const MIN_LINK_WEIGHT: f64 = 6.0;

impl Threshold {
    /// Returns whether a number satisfies all thresholds.
    pub fn all_satisfied(thresholds: &[Self], value: f64) -> bool {
        thresholds.iter().all(|threshold| threshold.comparator.matches(value, threshold.value))
    }
}

impl Attribution {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Describes the settings that differ from the default, separated by semicolons; empty if there
    /// are none.
    pub fn describe(&self) -> String {
        let parts = [
            self.to_accounts.then(|| "counts only against accounts that take part".to_owned()),
            (self.own_evidence > 0.0).then(|| {
                format!(
                    "counts only against requests that have at least {} dB of evidence without \
                     indicators",
                    self.own_evidence
                )
            }),
            (self.own_behavior > 0.0).then(|| {
                format!(
                    "counts only against accounts that have at least {} dB of evidence from \
                     correlations by account",
                    self.own_behavior
                )
            }),
            self.share.as_ref().map(|share| {
                format!("at least {} % of the values of {}", share.min_percent, share.correlation)
            }),
            self.variety.as_ref().map(|variety| {
                format!(
                    "at least {} % as many values of {} as events",
                    variety.min_percent, variety.correlation
                )
            }),
            self.fact_group.as_ref().map(|fact| format!("fact: {fact}")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

impl Coordination {
    /// Returns whether no condition is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the conditions as text, each after a comma: `, 3 events each, 50 % even`.
    fn describe(&self) -> String {
        let describe_share = |share: Option<ShareWithin>, label: &str| {
            share.map(|ShareWithin { within, min_percent }| {
                format!(", {min_percent} % {label} within {}", format_duration(within))
            })
        };
        let parts = [
            self.events_per_value.map(|events| format!(", {events} events each")),
            self.max_events_per_value.map(|events| format!(", at most {events} events each")),
            self.evenness.map(|evenness| format!(", {evenness} % even")),
            describe_share(self.synchronized_start, "first seen"),
            describe_share(self.handover, "handed over"),
        ];
        parts.into_iter().flatten().collect()
    }
}

/// The allowed time windows, in seconds: from ten seconds to thirty days.
pub const TIMESPAN_RANGE_SECONDS: std::ops::RangeInclusive<u32> = 10..=30 * 86_400;

/// Maximum number of fields that group events.
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
            only: None,
            group_by: vec![field("hedgerow.template.user"), field("gen_ai.request.model")],
            timespan: 3_600,
            measure: Measure::ValueCount {
                field: field("hedgerow.account"),
                thresholds: vec![threshold(Comparator::Gte, 20.0), threshold(Comparator::Lt, 50.5)],
            },
            coordination: Coordination::default(),
            attribution: Attribution::default(),
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
