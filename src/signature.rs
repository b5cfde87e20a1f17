//! A signature in the form that a bundle holds and a ruleset is compiled from: metadata, weight,
//! named selections, and the condition over them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::Field;

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
    pub selections: BTreeMap<String, Test>,
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
    Is(String),
}

/// A selection's content.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Test {
    /// Every one holds.
    All(Vec<Test>),
    /// At least one holds.
    Any(Vec<Test>),
    /// One value of the field compares as said. Boxed, so that a bundle of many empty lists is small.
    Field(Box<FieldTest>),
}

/// A comparison that holds when it holds for any value of the field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Flat")]
pub struct FieldTest {
    /// The field.
    pub field: Field,
    /// The comparison.
    #[serde(flatten)]
    pub op: Op,
}

/// A comparison.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// A string stands somewhere, at an edge, or is the whole value.
    String {
        /// Where.
        anchor: Anchor,
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
        landmarks: Vec<Landmark>,
        /// Bytes of the longest match, where there is a longest.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        longest: Option<usize>,
        /// ASCII characters with which every match begins, where they are few.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<String>,
    },
    /// The address is in the network.
    Cidr(ipnet::IpNet),
    /// The field has a value, or has none.
    Exists(bool),
    /// A number compares.
    Number {
        /// How.
        order: Order,
        /// With what.
        value: f64,
    },
}

/// A field's comparison as it is read: one of these. Flattened enums are read into a tree of any
/// JSON first, however large that is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flat {
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
    anchor: Anchor,
    value: String,
    #[serde(default)]
    cased: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatRegex {
    pattern: String,
    landmarks: Vec<Landmark>,
    longest: Option<usize>,
    first: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FlatNumber {
    order: Order,
    value: f64,
}

impl TryFrom<Flat> for FieldTest {
    type Error = &'static str;

    fn try_from(flat: Flat) -> Result<Self, Self::Error> {
        let Flat { field, string, regex, cidr, exists, number } = flat;
        let string =
            string.map(|FlatString { anchor, value, cased }| Op::String { anchor, value, cased });
        let regex = regex.map(|FlatRegex { pattern, landmarks, longest, first }| Op::Regex {
            pattern,
            landmarks,
            longest,
            first,
        });
        let number = number.map(|FlatNumber { order, value }| Op::Number { order, value });
        let all = [string, regex, cidr.map(Op::Cidr), exists.map(Op::Exists), number];
        let mut all = all.into_iter().flatten();
        match (all.next(), all.next()) {
            (Some(op), None) => Ok(Self { field, op }),
            _ => Err("a field has one comparison: string, regex, cidr, exists or number"),
        }
    }
}

/// A list of strings of which every match of a regex contains one, and how far that is from the
/// landmark before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landmark {
    /// Normalised strings.
    pub strings: Vec<String>,
    /// Bytes from the start of the landmark before, or else of the match, to the start of this one:
    /// at least so many.
    pub min: usize,
    /// And at most so many, where there is a most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<usize>,
}

/// Landmarks that a regex has at most.
pub const MAX_LANDMARKS: usize = 4;

/// Where a string has to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Anchor {
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
pub enum Order {
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
    pub fn holds(&self, selection: &mut dyn FnMut(&str) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(selection)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(selection)),
            Self::Not(part) => !part.holds(selection),
            Self::Is(name) => selection(name),
        }
    }

    /// The selections that it names, in order, each once.
    pub fn names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        self.collect(&mut names);
        names
    }

    fn collect<'s>(&'s self, names: &mut Vec<&'s str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                parts.iter().for_each(|part| part.collect(names))
            }
            Self::Not(part) => part.collect(names),
            Self::Is(name) if names.contains(&name.as_str()) => {}
            Self::Is(name) => names.push(name),
        }
    }
}

/// As Sigma writes it.
impl fmt::Display for Condition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut joined = |parts: &[Self], word: &str| {
            for (number, part) in parts.iter().enumerate() {
                if number > 0 {
                    write!(formatter, " {word} ")?;
                }
                match part {
                    Self::All(_) | Self::Any(_) => write!(formatter, "({part})")?,
                    Self::Not(_) | Self::Is(_) => write!(formatter, "{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All(parts) => joined(parts, "and"),
            Self::Any(parts) => joined(parts, "or"),
            Self::Not(part) => write!(formatter, "not ({part})"),
            Self::Is(name) => formatter.write_str(name),
        }
    }
}

impl Test {
    /// Evaluates the test, given which comparisons hold.
    pub fn holds(&self, field: &mut dyn FnMut(&FieldTest) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(field)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(field)),
            Self::Field(test) => field(test),
        }
    }

    /// Visits every comparison.
    pub fn each<'t>(&'t self, visit: &mut dyn FnMut(&'t FieldTest)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each(visit)),
            Self::Field(test) => visit(test),
        }
    }
}

impl Anchor {
    /// Whether `pattern` stands so in `value`.
    pub fn fits(self, value: &str, pattern: &str) -> bool {
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

impl Order {
    /// Whether `left` compares so with `right`.
    pub fn fits(self, left: f64, right: f64) -> bool {
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
