//! A signature in its bundle form: metadata, weight, named selections, and a condition over them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::{Field, RESPONSE_FIELDS};

/// A detection rule over one request, with its weight as evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Name `<family>_<what>`; unique.
    pub name: String,
    /// UUID; unique, and stable when the rule is renamed.
    pub id: String,
    /// Title in one line, for people.
    pub title: String,
    /// Family, whose weights are capped together.
    pub family: String,
    /// Maturity, which decides whether the signature counts.
    pub status: Status,
    /// Weight of evidence in decibans.
    pub weight: f64,
    /// Selections, by name.
    pub selections: BTreeMap<String, Selection>,
    /// Condition over the names of the selections.
    pub condition: Condition,
    /// Names of the selections that indicate an innocent request. They are evaluated if the
    /// condition holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub innocence: Vec<String>,
}

impl Signature {
    /// Returns the names of the concepts in its comparisons.
    pub fn concept_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for selection in self.selections.values() {
            selection.for_each_comparison(&mut |test| {
                if let Comparison::Near { parts, .. } = &test.comparison {
                    names.extend(parts.iter().flatten().map(String::as_str));
                }
            });
        }
        names
    }

    /// Returns whether there are comparisons and every comparison tests a field of the response.
    /// Such a signature is evaluated after the origin has answered.
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

/// The maturity of a rule, which decides whether it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Adds its weight to scores.
    Stable,
    /// Adds its weight to scores, but has been in use for less time.
    Test,
    /// Is recorded if it matches, but adds nothing to scores.
    Experimental,
}

/// A boolean expression over selections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// All parts hold.
    All(Vec<Condition>),
    /// At least one part holds.
    Any(Vec<Condition>),
    /// The part does not hold.
    Not(Box<Condition>),
    /// The selection with this name holds.
    #[serde(rename = "is")]
    Selection(String),
}

/// The comparisons of a selection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Selection {
    /// All parts hold.
    All(Vec<Selection>),
    /// At least one part holds.
    Any(Vec<Selection>),
    /// A comparison holds. The comparison is boxed to keep the enum small, because a bundle may
    /// have many empty lists of parts.
    Field(Box<FieldComparison>),
}

/// A comparison with a field. It holds if at least one value of the field satisfies it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "FlatComparison")]
pub struct FieldComparison {
    /// Field that is compared.
    pub field: Field,
    /// Comparison with each value.
    #[serde(flatten)]
    pub comparison: Comparison,
}

/// A comparison with one value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparison {
    /// The value contains a string, at any position or at an edge, or equals it.
    String {
        /// Position of the string in the value.
        string_match: StringMatch,
        /// Normalised string; in its original case if `cased`.
        value: String,
        /// Whether case and look-alikes are distinguished.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cased: bool,
    },
    /// A regular expression matches a part of the value.
    Regex {
        /// Pattern, including flags.
        pattern: String,
        /// Literals that every match contains, in order.
        required_literals: Vec<RequiredLiterals>,
        /// Maximum bytes of a match; `None` if the length is not bounded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_len: Option<usize>,
        /// ASCII characters, one of which is the first of every match; `None` if unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first_bytes: Option<String>,
    },
    /// The value contains a term of the anchor part, and a term of each other part `within` a
    /// distance from it.
    Near {
        /// Distance from the anchor, the first part whose concepts are all rare.
        within: Within,
        /// For each part, the names of concepts; a term of any of them suffices.
        parts: Vec<Vec<String>>,
    },
    /// The value is an address in the network.
    Cidr(ipnet::IpNet),
    /// The field has a value (`true`), or no value (`false`).
    Exists(bool),
    /// The value is a number, and its comparison with `value` holds.
    Number {
        /// Comparator between the value and `value`.
        comparator: Comparator,
        /// Number to compare with.
        value: f64,
    },
}

/// The form from which a [`FieldComparison`] is deserialised: exactly one comparison.
///
/// serde would first buffer a flattened enum as a generic JSON tree of any size. This struct avoids
/// the buffer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatComparison {
    field: Field,
    string: Option<FlatString>,
    regex: Option<FlatRegex>,
    near: Option<FlatNear>,
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
struct FlatNear {
    within: Within,
    parts: Vec<Vec<String>>,
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
        let FlatComparison { field, string, regex, near, cidr, exists, number } = flat;
        let string = string.map(|FlatString { string_match, value, cased }| Comparison::String {
            string_match,
            value,
            cased,
        });
        let regex = regex.map(|FlatRegex { pattern, required_literals, max_len, first_bytes }| {
            Comparison::Regex { pattern, required_literals, max_len, first_bytes }
        });
        let near = near.map(|FlatNear { within, parts }| Comparison::Near { within, parts });
        let number =
            number.map(|FlatNumber { comparator, value }| Comparison::Number { comparator, value });
        let cidr = cidr.map(Comparison::Cidr);
        let candidates = [string, regex, near, cidr, exists.map(Comparison::Exists), number];
        let mut comparisons = candidates.into_iter().flatten();
        match (comparisons.next(), comparisons.next()) {
            (Some(comparison), None) => Ok(Self { field, comparison }),
            _ => Err(
                "a field needs exactly one comparison: string, regex, near, cidr, exists or number",
            ),
        }
    }
}

/// A set of strings. Every match of the regex contains one of them, at a limited distance from a
/// string of the previous set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequiredLiterals {
    /// The strings of the set, normalised.
    pub alternatives: Vec<String>,
    /// Minimum bytes from the start of the previous literal to the start of this one. For the first
    /// set, the distance counts from the start of the match.
    pub min_distance: usize,
    /// Maximum of this distance in bytes; `None` if it is not bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_distance: Option<usize>,
}

impl RequiredLiterals {
    /// Returns the length of the shortest alternative, in bytes. Shorter literals are more
    /// frequent.
    pub fn shortest_len(&self) -> usize {
        self.alternatives.iter().map(String::len).min().unwrap_or(0)
    }

    /// Returns whether the scan finds each alternative. Other sets are looked up only around a
    /// literal that the scan has found.
    pub fn is_scanned(&self) -> bool {
        self.shortest_len() >= MIN_REQUIRED_LITERAL_BYTES
    }
}

/// Maximum number of required literal sets of a regex whose literals the scan finds.
pub const MAX_REQUIRED_LITERALS: usize = 4;

/// Maximum number of required literal sets of a regex whose literals the scan does not find.
pub const MAX_CONTEXT_LITERALS: usize = 4;

/// Minimum bytes of a required literal that the scan finds. Shorter words are in every prompt.
pub const MIN_REQUIRED_LITERAL_BYTES: usize = 5;

/// The maximum distance from the anchor of [`Comparison::Near`] at which other terms count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Within {
    /// The sentence of the anchor, and at most [`MAX_SENTENCE_REACH`] bytes on each side of the
    /// anchor.
    Sentence,
    /// This number of bytes on each side of the anchor.
    Bytes(u16),
}

impl Within {
    /// Returns the maximum bytes on each side of the anchor.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sentence => MAX_SENTENCE_REACH,
            Self::Bytes(bytes) => bytes.into(),
        }
    }
}

/// Maximum bytes of a sentence that count on each side of an anchor.
pub const MAX_SENTENCE_REACH: usize = 480;

/// Maximum bytes of [`Within::Bytes`].
pub const MAX_NEAR_BYTES: u16 = 1_000;

/// The position of a string in a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StringMatch {
    /// At any position.
    Contains,
    /// At the start.
    StartsWith,
    /// At the end.
    EndsWith,
    /// The string is the whole value.
    Equals,
}

/// A comparator of numbers.
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
    /// Evaluates the condition. `selection_holds` returns whether the selection with a name holds.
    pub fn holds(&self, selection_holds: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(selection_holds)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(selection_holds)),
            Self::Not(part) => !part.holds(selection_holds),
            Self::Selection(name) => selection_holds(name),
        }
    }

    /// Returns the names of its selections, in order of appearance, each once.
    pub fn selection_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect_selection_names(&mut names);
        names
    }

    /// Returns the names of the selections that are negated an odd number of times, in order of
    /// appearance, each once.
    pub fn negated_selection_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect_negated_names(false, &mut names);
        names
    }

    fn collect_negated_names<'s>(&'s self, is_negated: bool, names: &mut Vec<&'s str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.collect_negated_names(is_negated, names))
            }
            Self::Not(part) => part.collect_negated_names(!is_negated, names),
            Self::Selection(name) if is_negated && !names.contains(&name.as_str()) => {
                names.push(name)
            }
            Self::Selection(_) => {}
        }
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

/// Writes the condition in Sigma's syntax.
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
    /// Evaluates the selection. `test_holds` returns whether a comparison holds.
    pub fn holds(&self, test_holds: &mut dyn FnMut(&FieldComparison) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(test_holds)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(test_holds)),
            Self::Field(test) => test_holds(test),
        }
    }

    /// Calls `visit` with every comparison.
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
    /// Returns whether `value` has `pattern` at this position.
    pub fn matches(self, value: &str, pattern: &str) -> bool {
        match self {
            Self::Contains => value.contains(pattern),
            Self::StartsWith => value.starts_with(pattern),
            Self::EndsWith => value.ends_with(pattern),
            Self::Equals => value == pattern,
        }
    }

    /// Returns Sigma's modifier; empty for equality, which has none.
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
    /// Returns whether the comparison of `left` with `right` holds.
    pub fn matches(self, left: f64, right: f64) -> bool {
        match self {
            Self::Eq => left == right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Lt => left < right,
            Self::Lte => left <= right,
        }
    }

    /// Returns Sigma's modifier; empty for equality, which has none.
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
