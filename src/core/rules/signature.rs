//! A signature in the form that a bundle holds and a ruleset is compiled from: metadata, weight,
//! named selections, and the condition over them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::{Field, RESPONSE_FIELDS};

impl Signature {
    /// Returns whether every comparison tests a field of the response: such a signature is evaluated after
    /// the origin has answered.
    pub fn tests_only_response(&self) -> bool {
        let mut only_response_fields = true;
        for selection in self.selections.values() {
            selection.for_each_comparison(&mut |comparison| {
                only_response_fields &= matches!(
                    &comparison.field,
                    Field::Known(field) if RESPONSE_FIELDS.contains(field)
                );
            });
        }
        only_response_fields && !self.selections.is_empty()
    }
}

/// One detection rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// `<family>_<what>`; unique.
    pub name: String,
    /// UUID; unique, and stable over renaming.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// The group whose weights are capped together.
    pub family: String,
    /// Whether it counts.
    pub status: Status,
    /// Weight of evidence in decibans.
    pub weight: f64,
    /// The named tests.
    pub selections: BTreeMap<String, Selection>,
    /// When the signature holds.
    pub condition: Condition,
}

/// Whether a signature counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It counts.
    Stable,
    /// It counts; it is younger.
    Test,
    /// It is recorded, and does not count.
    Experimental,
}

/// A boolean expression over selections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Every one holds.
    All(Vec<Condition>),
    /// At least one holds.
    Any(Vec<Condition>),
    /// It does not hold.
    Not(Box<Condition>),
    /// The selection of this name holds.
    #[serde(rename = "is")]
    Selection(String),
}

/// A selection's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// Every one holds.
    All(Vec<Selection>),
    /// At least one holds.
    Any(Vec<Selection>),
    /// One value of the field compares as said. Boxed, so that a bundle of many empty lists is small.
    Field(Box<FieldComparison>),
}

/// A comparison that holds when it holds for any value of the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FlatComparison")]
pub struct FieldComparison {
    /// The field.
    pub field: Field,
    /// The comparison.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// A string stands somewhere, at an edge, or is the whole value.
    String {
        /// Where.
        string_match: StringMatch,
        /// The pattern; normalised, with its case if `cased`.
        value: String,
        /// Whether case and look-alikes count.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cased: bool,
    },
    /// A regular expression matches somewhere.
    Regex {
        /// The pattern, flags included.
        pattern: String,
        /// What every match passes, from its start to its end.
        required_literals: Vec<RequiredLiterals>,
        /// Bytes of the longest match, where there is a longest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_len: Option<usize>,
        /// ASCII characters with which every match begins, where they are few.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_bytes: Option<String>,
    },
    /// The address is in the network.
    Cidr(ipnet::IpNet),
    /// The field has a value, or has none.
    Exists(bool),
    /// A number compares.
    Number {
        /// How.
        comparator: Comparator,
        /// With what.
        value: f64,
    },
}

/// A field's comparison as it is read: one of these. Flattened enums are read into a tree of any
/// JSON first, however large that is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatComparison {
    field: Field,
    string: Option<FlatString>,
    regex: Option<FlatRegex>,
    cidr: Option<ipnet::IpNet>,
    exists: Option<bool>,
    number: Option<FlatNumber>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatString {
    string_match: StringMatch,
    value: String,
    #[serde(default)]
    cased: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatRegex {
    pattern: String,
    required_literals: Vec<RequiredLiterals>,
    max_len: Option<usize>,
    first_bytes: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatNumber {
    comparator: Comparator,
    value: f64,
}

impl TryFrom<FlatComparison> for FieldComparison {
    type Error = &'static str;

    fn try_from(flat: FlatComparison) -> Result<Self, Self::Error> {
        let FlatComparison { field, string, regex, cidr, exists, number } = flat;
        let string = string.map(|FlatString { string_match: anchor, value, cased }| {
            Comparison::String { string_match: anchor, value, cased }
        });
        let regex = regex.map(|FlatRegex { pattern, required_literals, max_len, first_bytes }| {
            Comparison::Regex { pattern, required_literals, max_len, first_bytes }
        });
        let number =
            number.map(|FlatNumber { comparator, value }| Comparison::Number { comparator, value });
        let candidates =
            [string, regex, cidr.map(Comparison::Cidr), exists.map(Comparison::Exists), number];
        let mut comparisons = candidates.into_iter().flatten();
        match (comparisons.next(), comparisons.next()) {
            (Some(comparison), None) => Ok(Self { field, comparison }),
            _ => Err("a field has one comparison: string, regex, cidr, exists or number"),
        }
    }
}

/// A list of strings of which every match of a regex contains one, and how far that is from the
/// landmark before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredLiterals {
    /// Normalised strings.
    pub alternatives: Vec<String>,
    /// Bytes from the start of the landmark before, or else of the match, to the start of this one:
    /// at least so many.
    pub min_distance: usize,
    /// And at most so many, where there is a most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_distance: Option<usize>,
}

impl RequiredLiterals {
    /// Returns the length of the shortest alternative, in bytes: the shorter, the more frequent.
    pub fn shortest_len(&self) -> usize {
        self.alternatives.iter().map(String::len).min().unwrap_or(0)
    }
}

/// Landmarks that a regex has at most.
pub const MAX_REQUIRED_LITERALS: usize = 4;

/// Where a string has to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StringMatch {
    /// Anywhere.
    Contains,
    /// At the start.
    StartsWith,
    /// At the end.
    EndsWith,
    /// It is the whole value.
    Equals,
}

/// How a number compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparator {
    /// Equal.
    Eq,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
}

impl Condition {
    /// Evaluates the condition, given which selections hold.
    pub fn holds(&self, selection_holds: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(selection_holds)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(selection_holds)),
            Self::Not(part) => !part.holds(selection_holds),
            Self::Selection(name) => selection_holds(name),
        }
    }

    /// The selections that it names, in order, each once.
    pub fn selection_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect_selection_names(&mut names);
        names
    }

    fn collect_selection_names<'s>(&'s self, names: &mut Vec<&'s str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.collect_selection_names(names))
            }
            Self::Not(part) => part.collect_selection_names(names),
            Self::Selection(name) if names.contains(&name.as_str()) => {}
            Self::Selection(name) => names.push(name),
        }
    }
}

/// As Sigma writes it.
impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut write_joined = |parts: &[Self], operator: &str| {
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    write!(formatter, " {operator} ")?;
                }
                match part {
                    Self::All(_) | Self::Any(_) => write!(formatter, "({part})")?,
                    Self::Not(_) | Self::Selection(_) => write!(formatter, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => write_joined(parts, "and"),
            Self::Any(parts) => write_joined(parts, "or"),
            Self::Not(part) => write!(formatter, "not ({part})"),
            Self::Selection(name) => formatter.write_str(name),
        }
    }
}

impl Selection {
    /// Evaluates the test, given which comparisons hold.
    pub fn holds(&self, test_holds: &mut dyn FnMut(&FieldComparison) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(test_holds)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(test_holds)),
            Self::Field(test) => test_holds(test),
        }
    }

    /// Visits every comparison.
    pub fn for_each_comparison<'t>(&'t self, visit: &mut dyn FnMut(&'t FieldComparison)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.for_each_comparison(visit))
            }
            Self::Field(test) => visit(test),
        }
    }
}

impl StringMatch {
    /// Whether `pattern` stands so in `value`.
    pub fn matches(self, value: &str, pattern: &str) -> bool {
        match self {
            Self::Contains => value.contains(pattern),
            Self::StartsWith => value.starts_with(pattern),
            Self::EndsWith => value.ends_with(pattern),
            Self::Equals => value == pattern,
        }
    }

    /// Sigma's word for it; empty for a plain value.
    pub fn modifier(self) -> &'static str {
        match self {
            Self::Contains => "contains",
            Self::StartsWith => "startswith",
            Self::EndsWith => "endswith",
            Self::Equals => "",
        }
    }
}

impl Comparator {
    /// Whether `left` compares so with `right`.
    pub fn matches(self, left: f64, right: f64) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Lt => left < right,
            Self::Lte => left <= right,
        }
    }

    /// Sigma's word for it; empty for a plain value.
    pub fn modifier(self) -> &'static str {
        match self {
            Self::Eq => "",
            Self::Gt => "gt",
            Self::Gte => "gte",
            Self::Lt => "lt",
            Self::Lte => "lte",
        }
    }
}
