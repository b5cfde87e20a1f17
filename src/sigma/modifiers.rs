//! Sigma's modifiers and values, turned into comparisons.

use hedgerow_core::field::{Field, FieldType};
use hedgerow_core::matching::literal_scanner::MIN_LITERAL_BYTES;
use hedgerow_core::rules::signature::{Comparator, Comparison, MAX_REQUIRED_LITERALS, StringMatch};
use hedgerow_core::text::{Case, normalize_pattern};
use rsigma_parser::{Modifier, SigmaString, SigmaValue, SpecialChar, StringPart};

use crate::required_literals;
use crate::required_literals::RegexAnalysis;

/// A problem and its remedy.
pub type Problem = (String, String);

/// Bytes of the shortest landmark of a regex. Literals may have one less, and rules with such pay for it.
const MIN_REQUIRED_LITERAL_BYTES: usize = MIN_LITERAL_BYTES + 1;

/// What a field's modifiers ask for.
#[derive(Default)]
pub struct Modifiers {
    operator: Option<Modifier>,
    /// Whether every value must compare, not any.
    pub all: bool,
    cased: bool,
    regex_flags: String,
}

impl Modifiers {
    /// Reads a field's modifiers.
    pub fn new(modifiers: &[Modifier]) -> Result<Self, Problem> {
        let mut parsed = Self::default();
        for modifier in modifiers {
            match modifier {
                Modifier::All => parsed.all = true,
                Modifier::Cased => parsed.cased = true,
                Modifier::IgnoreCase => parsed.regex_flags.push('i'),
                Modifier::Multiline => parsed.regex_flags.push('m'),
                Modifier::DotAll => parsed.regex_flags.push('s'),
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
                    if parsed.operator.is_none() =>
                {
                    parsed.operator = Some(*modifier);
                }
                other => {
                    return Err((
                        format!("the modifier '{}' is not supported here", modifier_name(*other)),
                        format!("use one of {}", SUPPORTED_MODIFIERS.join(", ")),
                    ));
                }
            }
        }
        parsed.validate()
    }

    /// Refuses modifiers that mean nothing together.
    fn validate(self) -> Result<Self, Problem> {
        let is_regex = self.operator == Some(Modifier::Re);
        if !is_regex && !self.regex_flags.is_empty() {
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
pub fn modifier_name(modifier: Modifier) -> String {
    let json = serde_json::to_value(modifier).unwrap_or_default();
    json.as_str().unwrap_or("?").to_owned()
}

/// One value, compared as the modifiers say.
pub fn build_comparison(
    field: &Field,
    modifiers: &Modifiers,
    value: &SigmaValue,
) -> Result<Comparison, Problem> {
    use SigmaValue as V;
    let kind = field.field_type();
    match (modifiers.operator, kind, value) {
        (_, FieldType::Key, _) => Err((
            format!("'{}' is a keyed hash, which no signature can name", field.name()),
            "group a correlation by it, or count it".to_owned(),
        )),
        (Some(Modifier::Exists), _, V::Bool(expected)) => Ok(Comparison::Exists(*expected)),
        (Some(Modifier::Exists), ..) => {
            Err(problem("exists wants true or false", "write `|exists: true`"))
        }
        (Some(Modifier::Cidr), FieldType::Address, V::String(text)) => cidr(&text.original),
        (Some(Modifier::Re), FieldType::Text | FieldType::Keyword, V::String(text)) => {
            regex(&text.original, &modifiers.regex_flags, kind)
        }
        (
            Some(Modifier::Contains | Modifier::StartsWith | Modifier::EndsWith) | None,
            FieldType::Text | FieldType::Keyword | FieldType::Address,
            V::String(text),
        ) => string(text, modifiers, kind),
        (None, FieldType::Keyword, V::Integer(number)) => {
            string(&SigmaString::from_raw(&number.to_string()), modifiers, kind)
        }
        (None, FieldType::Keyword, V::Float(number)) => {
            string(&SigmaString::from_raw(&number.to_string()), modifiers, kind)
        }
        (None, FieldType::Flag, V::Bool(flag)) => {
            Ok(Comparison::Number { comparator: Comparator::Eq, value: f64::from(u8::from(*flag)) })
        }
        (operator, FieldType::Number, V::Integer(_) | V::Float(_)) => number(operator, value),
        _ => Err((
            format!("this test does not fit '{}', which is a {}", field.name(), kind.name()),
            "see docs/fields.md for the field's type".to_owned(),
        )),
    }
}

/// A problem and its remedy.
pub fn problem(message: &str, remedy: &str) -> Problem {
    (message.to_owned(), remedy.to_owned())
}

fn number(operator: Option<Modifier>, value: &SigmaValue) -> Result<Comparison, Problem> {
    let comparator = match operator {
        None => Comparator::Eq,
        Some(Modifier::Gt) => Comparator::Gt,
        Some(Modifier::Gte) => Comparator::Gte,
        Some(Modifier::Lt) => Comparator::Lt,
        Some(Modifier::Lte) => Comparator::Lte,
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
    Ok(Comparison::Number { comparator, value })
}

fn cidr(text: &str) -> Result<Comparison, Problem> {
    text.parse()
        .map(Comparison::Cidr)
        .map_err(|_| (format!("'{text}' is no network"), "write it as 192.0.2.0/24".to_owned()))
}

fn string(
    text: &SigmaString,
    modifiers: &Modifiers,
    kind: FieldType,
) -> Result<Comparison, Problem> {
    let (anchor, value) = resolve_string_match(text, modifiers.operator)?;
    let case = if modifiers.cased { Case::Keep } else { Case::Fold };
    let value = normalize_pattern(&value, case);
    if value.is_empty() {
        return Err(problem(
            "the value is empty after normalisation",
            "remove it; `|exists` tests presence",
        ));
    }
    let folded = normalize_pattern(&value, Case::Fold);
    if kind == FieldType::Text && folded.len() < MIN_LITERAL_BYTES {
        let problem = format!("'{value}' is shorter than {MIN_LITERAL_BYTES} bytes");
        return Err((problem, "make it longer: short words are in every prompt".to_owned()));
    }
    Ok(Comparison::String { string_match: anchor, value, cased: modifiers.cased })
}

/// Where the string has to stand; `*` at the edges of a plain value says so too.
fn resolve_string_match(
    text: &SigmaString,
    operator: Option<Modifier>,
) -> Result<(StringMatch, String), Problem> {
    let wildcard = StringPart::Special(SpecialChar::WildcardMulti);
    let (mut parts, mut anchor) = (
        text.parts.as_slice(),
        match operator {
            Some(Modifier::Contains) => StringMatch::Contains,
            Some(Modifier::StartsWith) => StringMatch::StartsWith,
            Some(Modifier::EndsWith) => StringMatch::EndsWith,
            _ => StringMatch::Equals,
        },
    );
    if operator.is_none() {
        let (has_leading_wildcard, has_trailing_wildcard) =
            (parts.first() == Some(&wildcard), parts.last() == Some(&wildcard));
        if has_leading_wildcard {
            parts = parts.get(1..).unwrap_or_default();
        }
        if has_trailing_wildcard {
            parts = parts.split_last().map_or(&[][..], |(_, parts)| parts);
        }
        anchor = match (has_leading_wildcard, has_trailing_wildcard) {
            (true, true) => StringMatch::Contains,
            (true, false) => StringMatch::EndsWith,
            (false, true) => StringMatch::StartsWith,
            (false, false) => StringMatch::Equals,
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

fn regex(pattern: &str, flags: &str, kind: FieldType) -> Result<Comparison, Problem> {
    let byte_pattern = dots_as_bytes(pattern);
    let flagged_pattern =
        if flags.is_empty() { byte_pattern.clone() } else { format!("(?{flags}){byte_pattern}") };
    hedgerow_core::matching::regex_gate::compile(&flagged_pattern).map_err(|error| {
        // The parser draws a picture first; its last line says it in words.
        let text = error.to_string();
        let message = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        (
            format!("the regex does not compile: {message}"),
            "correct it; look-around and back-references do not exist here".to_owned(),
        )
    })?;
    let mut analysis = required_literals::analyze(&byte_pattern)
        .map_err(|error| (error, "correct the regex".to_owned()))?;
    if flags.contains('i') {
        let strings = analysis
            .required_literals
            .iter_mut()
            .flat_map(|literal_set| &mut literal_set.alternatives);
        strings.for_each(|string| *string = string.to_lowercase());
        analysis.first_bytes =
            analysis.first_bytes.map(|first_bytes| first_bytes.to_ascii_lowercase());
        // Beyond ASCII, the two cases of a letter may differ in their bytes.
        let has_escaped_chars =
            ["\\x", "\\u", "\\U", "\\p", "\\P"].iter().any(|escape| pattern.contains(escape));
        if has_escaped_chars || !pattern.is_ascii() {
            analysis.clear_byte_bounds();
        }
    }
    let mut strings =
        analysis.required_literals.iter().flat_map(|literal_set| &literal_set.alternatives);
    if let Some(impossible) =
        strings.find(|string| normalize_pattern(string, Case::Fold) != **string)
    {
        let problem = format!("'{impossible}' never occurs in normalised text");
        return Err((problem, "write it in lower case with single spaces, or add `|i`".to_owned()));
    }
    analysis.keep_rarest(MIN_REQUIRED_LITERAL_BYTES, MAX_REQUIRED_LITERALS);
    if kind == FieldType::Text && analysis.required_literals.is_empty() {
        let problem =
            format!("the regex has no required literal of {MIN_REQUIRED_LITERAL_BYTES} bytes");
        return Err((
            problem,
            "add a word that every match must contain: a regex runs only where one was seen"
                .to_owned(),
        ));
    }
    let RegexAnalysis { required_literals, max_len, first_bytes } = analysis;
    Ok(Comparison::Regex { pattern: flagged_pattern, required_literals, max_len, first_bytes })
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
pub const SUPPORTED_MODIFIERS: &[&str] = &[
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
