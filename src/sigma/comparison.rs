//! Sigma's modifiers and values, turned into comparisons.

use rsigma_parser::{Modifier, SigmaString, SigmaValue, SpecialChar, StringPart};

use super::landmarks::{self, Required};
use crate::field::{Field, Kind};
use crate::scan::MIN_LITERAL;
use crate::signature::{Anchor, MAX_LANDMARKS, Op, Order};
use crate::text::{Case, normalize_pattern};

/// A problem and its remedy.
pub type Problem = (String, String);

/// Bytes of the shortest landmark of a regex. Literals may have one less, and rules with such pay for it.
const MIN_LANDMARK: usize = MIN_LITERAL + 1;

/// What a field's modifiers ask for.
#[derive(Default)]
pub struct Modifiers {
    main: Option<Modifier>,
    /// Whether every value must compare, not any.
    pub all: bool,
    cased: bool,
    flags: String,
}

impl Modifiers {
    /// Reads a field's modifiers.
    pub fn new(modifiers: &[Modifier]) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for modifier in modifiers {
            match modifier {
                Modifier::All => parsed.all = true,
                Modifier::Cased => parsed.cased = true,
                Modifier::IgnoreCase => parsed.flags.push('i'),
                Modifier::Multiline => parsed.flags.push('m'),
                Modifier::DotAll => parsed.flags.push('s'),
                Modifier::Contains
                | Modifier::StartsWith
                | Modifier::EndsWith
                | Modifier::Re
                | Modifier::Cidr
                | Modifier::Exists
                | Modifier::Gt
                | Modifier::Gte
                | Modifier::Lt
                | Modifier::Lte
                    if parsed.main.is_none() =>
                {
                    parsed.main = Some(*modifier);
                }
                other => {
                    return Err((
                        format!("the modifier '{}' is not supported here", word(*other)),
                        format!("use one of {}", MODIFIERS.join(", ")),
                    ));
                }
            }
        }
        parsed.fit()
    }

    /// Refuses modifiers that mean nothing together.
    fn fit(self) -> Result<Self, Problem> {
        let is_regex = self.main == Some(Modifier::Re);
        if !is_regex && !self.flags.is_empty() {
            return Err(problem("i, m and s are flags of `|re`", "add `|re`, or remove them"));
        }
        if is_regex && self.all {
            let remedy = "make a selection of each, and join them by `and`";
            return Err(problem("`|all` does not go with `|re`", remedy));
        }
        Ok(self)
    }
}

/// A modifier as Sigma writes it.
pub fn word(modifier: Modifier) -> String {
    let json = serde_json::to_value(modifier).unwrap_or_default();
    json.as_str().unwrap_or("?").to_owned()
}

/// One value, compared as the modifiers say.
pub fn op(field: &Field, modifiers: &Modifiers, value: &SigmaValue) -> Result<Op, Problem> {
    use SigmaValue as V;
    let kind = field.kind();
    match (modifiers.main, kind, value) {
        (_, Kind::Key, _) => Err((
            format!("'{}' is a keyed hash, which no signature can name", field.name()),
            "group a correlation by it, or count it".to_owned(),
        )),
        (Some(Modifier::Exists), _, V::Bool(wanted)) => Ok(Op::Exists(*wanted)),
        (Some(Modifier::Exists), ..) => {
            Err(problem("exists wants true or false", "write `|exists: true`"))
        }
        (Some(Modifier::Cidr), Kind::Address, V::String(text)) => cidr(&text.original),
        (Some(Modifier::Re), Kind::Text | Kind::Keyword, V::String(text)) => {
            regex(&text.original, &modifiers.flags, kind)
        }
        (
            Some(Modifier::Contains | Modifier::StartsWith | Modifier::EndsWith) | None,
            Kind::Text | Kind::Keyword | Kind::Address,
            V::String(text),
        ) => string(text, modifiers, kind),
        (None, Kind::Keyword, V::Integer(number)) => {
            string(&SigmaString::from_raw(&number.to_string()), modifiers, kind)
        }
        (None, Kind::Keyword, V::Float(number)) => {
            string(&SigmaString::from_raw(&number.to_string()), modifiers, kind)
        }
        (None, Kind::Flag, V::Bool(flag)) => {
            Ok(Op::Number { order: Order::Eq, value: f64::from(u8::from(*flag)) })
        }
        (main, Kind::Number, V::Integer(_) | V::Float(_)) => number(main, value),
        _ => Err((
            format!("this test does not fit '{}', which is a {}", field.name(), kind.name()),
            "see docs/fields.md for the field's type".to_owned(),
        )),
    }
}

/// A problem and its remedy.
pub fn problem(problem: &str, remedy: &str) -> Problem {
    (problem.to_owned(), remedy.to_owned())
}

fn number(main: Option<Modifier>, value: &SigmaValue) -> Result<Op, Problem> {
    let order = match main {
        None => Order::Eq,
        Some(Modifier::Gt) => Order::Gt,
        Some(Modifier::Gte) => Order::Gte,
        Some(Modifier::Lt) => Order::Lt,
        Some(Modifier::Lte) => Order::Lte,
        Some(_) => {
            return Err(problem(
                "numbers are compared by gt, gte, lt, lte or a plain value",
                "change the modifier",
            ));
        }
    };
    let value = match value {
        SigmaValue::Integer(number) => *number as f64,
        SigmaValue::Float(number) => *number,
        _ => return Err(problem("not a number", "write a number without quotes")),
    };
    Ok(Op::Number { order, value })
}

fn cidr(text: &str) -> Result<Op, Problem> {
    text.parse()
        .map(Op::Cidr)
        .map_err(|_| (format!("'{text}' is no network"), "write it as 192.0.2.0/24".to_owned()))
}

fn string(text: &SigmaString, modifiers: &Modifiers, kind: Kind) -> Result<Op, Problem> {
    let (anchor, value) = anchored(text, modifiers.main)?;
    let case = if modifiers.cased { Case::Keep } else { Case::Fold };
    let value = normalize_pattern(&value, case);
    if value.is_empty() {
        return Err(problem(
            "the value is empty after normalisation",
            "remove it; `|exists` tests presence",
        ));
    }
    let folded = normalize_pattern(&value, Case::Fold);
    if kind == Kind::Text && folded.len() < MIN_LITERAL {
        let problem = format!("'{value}' is shorter than {MIN_LITERAL} bytes");
        return Err((problem, "make it longer: short words are in every prompt".to_owned()));
    }
    Ok(Op::String { anchor, value, cased: modifiers.cased })
}

/// Where the string has to stand; `*` at the edges of a plain value says so too.
fn anchored(text: &SigmaString, main: Option<Modifier>) -> Result<(Anchor, String), Problem> {
    let star = StringPart::Special(SpecialChar::WildcardMulti);
    let (mut parts, mut anchor) = (
        text.parts.as_slice(),
        match main {
            Some(Modifier::Contains) => Anchor::Contains,
            Some(Modifier::StartsWith) => Anchor::StartsWith,
            Some(Modifier::EndsWith) => Anchor::EndsWith,
            _ => Anchor::Equals,
        },
    );
    if main.is_none() {
        let (open_start, open_end) = (parts.first() == Some(&star), parts.last() == Some(&star));
        if open_start {
            parts = parts.get(1..).unwrap_or_default();
        }
        if open_end {
            parts = parts.split_last().map_or(&[][..], |(_, parts)| parts);
        }
        anchor = match (open_start, open_end) {
            (true, true) => Anchor::Contains,
            (true, false) => Anchor::EndsWith,
            (false, true) => Anchor::StartsWith,
            (false, false) => Anchor::Equals,
        };
    }
    let mut value = String::new();
    for part in parts {
        match part {
            StringPart::Plain(plain) => value.push_str(plain),
            StringPart::Special(_) => {
                return Err(problem(
                    "a wildcard within a value is not supported",
                    r"escape it (`\?`, `\*`) if it is meant as it stands, or use `|re`",
                ));
            }
        }
    }
    Ok((anchor, value))
}

fn regex(pattern: &str, flags: &str, kind: Kind) -> Result<Op, Problem> {
    let bytes = dots_as_bytes(pattern);
    let full = if flags.is_empty() { bytes.clone() } else { format!("(?{flags}){bytes}") };
    crate::matcher::regex::compile(&full).map_err(|error| {
        // The parser draws a picture first; its last line says it in words.
        let words = error.to_string();
        let words = words.lines().last().unwrap_or_default().trim_start_matches("error: ");
        (
            format!("the regex does not compile: {words}"),
            "correct it; look-around and back-references do not exist here".to_owned(),
        )
    })?;
    let mut required =
        landmarks::required(&bytes).map_err(|error| (error, "correct the regex".to_owned()))?;
    if flags.contains('i') {
        let strings = required.landmarks.iter_mut().flat_map(|landmark| &mut landmark.strings);
        strings.for_each(|string| *string = string.to_lowercase());
        required.first = required.first.map(|first| first.to_ascii_lowercase());
        // Beyond ASCII, the two cases of a letter may differ in their bytes.
        let has_others = ["\\x", "\\u", "\\U", "\\p", "\\P"].iter().any(|it| pattern.contains(it));
        if has_others || !pattern.is_ascii() {
            required.forget_bytes();
        }
    }
    let mut strings = required.landmarks.iter().flat_map(|landmark| &landmark.strings);
    if let Some(odd) = strings.find(|string| normalize_pattern(string, Case::Fold) != **string) {
        let problem = format!("'{odd}' never occurs in normalised text");
        return Err((problem, "write it in lower case with single spaces, or add `|i`".to_owned()));
    }
    required.thin(MIN_LANDMARK, MAX_LANDMARKS);
    if kind == Kind::Text && required.landmarks.is_empty() {
        let problem = format!("the regex has no required literal of {MIN_LANDMARK} bytes");
        return Err((
            problem,
            "add a word that every match must contain: a regex runs only where one was seen"
                .to_owned(),
        ));
    }
    let Required { landmarks, longest, first } = required;
    Ok(Op::Regex { pattern: full, landmarks, longest, first })
}

/// A pattern in which `.` stands for a byte instead of a character. Signatures bridge gaps by
/// `.{0,60}`; as characters each dot is a small automaton of its own, and building those is most of
/// what a regex costs.
fn dots_as_bytes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() * 2);
    let (mut is_escaped, mut depth, mut class_start) = (false, 0_usize, false);
    for char in pattern.chars() {
        match char {
            '.' if !is_escaped && depth == 0 => out.push_str("(?-u:.)"),
            char => out.push(char),
        }
        // The first bracket in a class (behind `^`) is a letter of it; classes nest.
        match char {
            _ if is_escaped => {}
            '[' => depth = depth.saturating_add(1),
            ']' if !class_start => depth = depth.saturating_sub(1),
            _ => {}
        }
        class_start = !is_escaped && (char == '[' || char == '^' && class_start);
        is_escaped = char == '\\' && !is_escaped;
    }
    out
}

/// Sigma's modifiers, as far as they are supported.
pub const MODIFIERS: &[&str] = &[
    "contains",
    "startswith",
    "endswith",
    "all",
    "cased",
    "re",
    "i",
    "m",
    "s",
    "cidr",
    "exists",
    "gt",
    "gte",
    "lt",
    "lte",
];
