//! Converts Sigma's modifiers and values to comparisons.

use hedgerow_core::field::{Field, FieldType};
use hedgerow_core::matching::literal_scanner::MIN_LITERAL_BYTES;
use hedgerow_core::rules::signature::{
    Comparator, Comparison, MAX_CONTEXT_LITERALS, MAX_REQUIRED_LITERALS,
    MIN_REQUIRED_LITERAL_BYTES, StringMatch, Within,
};
use hedgerow_core::text::{Case, normalize_pattern};
use rsigma_parser::{Modifier, SigmaString, SigmaValue, SpecialChar, StringPart};

use crate::lexicon::Lexicon;
use crate::required_literals;
use crate::required_literals::RegexAnalysis;
use crate::suggestion::did_you_mean;

/// A problem without its position, which the caller adds.
pub struct Problem {
    /// The problem, in the form `<thing> <is wrong>: expected <x>`.
    pub message: String,
    /// The remedy, as an imperative clause.
    pub remedy: String,
}

impl Problem {
    /// Creates a problem with its remedy.
    pub fn new(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: remedy.into() }
    }
}

/// The parsed modifiers of a field.
#[derive(Default)]
pub struct Modifiers {
    operator: Option<Modifier>,
    /// Whether the comparison must hold for all values, instead of for any value.
    pub all: bool,
    cased: bool,
    /// Flags of a regex: any of `i`, `m` and `s`.
    regex_flags: String,
}

impl Modifiers {
    /// Parses the modifiers of a field. Returns an error if a modifier is not supported, or if the
    /// modifiers cannot be combined.
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
                | Modifier::Expand
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
                    let name = modifier_name(*other);
                    return Err(Problem::new(
                        format!("the modifier '{name}' is not supported here"),
                        format!("use one of {}", SUPPORTED_MODIFIERS.join(", ")),
                    ));
                }
            }
        }
        parsed.validate()
    }

    /// Returns an error for flags of a regex without `|re`, and for `|all` with `|re`.
    fn validate(self) -> Result<Self, Problem> {
        let is_regex = self.operator == Some(Modifier::Re);
        if !is_regex && !self.regex_flags.is_empty() {
            let message = "the modifiers are invalid: i, m and s are flags of `|re`";
            return Err(Problem::new(message, "add `|re`, or remove them"));
        }
        if is_regex && self.all {
            let remedy = "make a selection of each regex, and join them by `and`";
            return Err(Problem::new("`|all` is not supported with `|re`", remedy));
        }
        Ok(self)
    }
}

/// Returns the name of a modifier in Sigma's syntax.
pub fn modifier_name(modifier: Modifier) -> String {
    let json = serde_json::to_value(modifier).unwrap_or_default();
    json.as_str().unwrap_or("?").to_owned()
}

/// Converts one value to a comparison. Returns an error if the value does not fit the modifiers or
/// the type of the field.
pub fn build_comparison(
    field: &Field,
    modifiers: &Modifiers,
    value: &SigmaValue,
    lexicon: &Lexicon,
) -> Result<Comparison, Problem> {
    use SigmaValue as V;
    let kind = field.field_type();
    match (modifiers.operator, kind, value) {
        (_, FieldType::Key, _) => Err(Problem::new(
            format!("'{}' is a keyed hash: a signature cannot compare it", field.name()),
            "use the field in a correlation",
        )),
        (Some(Modifier::Exists), _, V::Bool(expected)) => Ok(Comparison::Exists(*expected)),
        (Some(Modifier::Exists), ..) => {
            let message = "the value of `|exists` is invalid: expected true or false";
            Err(Problem::new(message, "write `|exists: true`"))
        }
        (Some(Modifier::Cidr), FieldType::Address, V::String(text)) => cidr(&text.original),
        (Some(Modifier::Re), FieldType::Text | FieldType::Keyword, V::String(text)) => {
            regex(&text.original, &modifiers.regex_flags, kind)
        }
        (Some(Modifier::Expand), FieldType::Text, V::String(text)) => {
            concept(&text.original, lexicon)
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
        _ => {
            let (name, expected) = (field.name(), kind.name());
            Err(Problem::new(
                format!("the comparison does not fit '{name}': expected one for type {expected}"),
                "see docs/fields.md for the comparisons of each type",
            ))
        }
    }
}

/// Converts a comparison with a number.
fn number(operator: Option<Modifier>, value: &SigmaValue) -> Result<Comparison, Problem> {
    let comparator = match operator {
        None => Comparator::Eq,
        Some(Modifier::Gt) => Comparator::Gt,
        Some(Modifier::Gte) => Comparator::Gte,
        Some(Modifier::Lt) => Comparator::Lt,
        Some(Modifier::Lte) => Comparator::Lte,
        Some(_) => {
            let message = "the modifier does not fit a number: expected gt, gte, lt, lte or none";
            return Err(Problem::new(message, "change the modifier"));
        }
    };
    let value = match value {
        SigmaValue::Integer(number) => *number as f64,
        SigmaValue::Float(number) => *number,
        _ => {
            let message = "the value is invalid: expected a number";
            return Err(Problem::new(message, "write a number without quotes"));
        }
    };
    Ok(Comparison::Number { comparator, value })
}

/// Converts a placeholder, such as `%training_data%`, to a comparison with the terms of a concept.
fn concept(placeholder: &str, lexicon: &Lexicon) -> Result<Comparison, Problem> {
    let name = placeholder.strip_prefix('%').and_then(|text| text.strip_suffix('%'));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        let message = format!("'{placeholder}' is not a placeholder");
        return Err(Problem::new(message, "write the name of a concept, as in `%training_data%`"));
    };
    if !lexicon.concepts.contains_key(name) {
        let names: Vec<&str> = lexicon.concepts.keys().map(String::as_str).collect();
        return Err(Problem::new(
            format!("unknown concept '{name}'"),
            did_you_mean(name, names).unwrap_or_else(|| format!("add `lexicon/{name}.yml`")),
        ));
    }
    // `within` has no effect, because the comparison has only one part.
    Ok(Comparison::Near { within: Within::Sentence, parts: vec![vec![name.to_owned()]] })
}

/// Parses a network, such as `192.0.2.0/24`.
fn cidr(text: &str) -> Result<Comparison, Problem> {
    text.parse().map(Comparison::Cidr).map_err(|_| {
        let message = format!("'{text}' is invalid: expected a network in CIDR notation");
        Problem::new(message, "write it as 192.0.2.0/24")
    })
}

/// Converts a string, and normalises it in the same way as the text of requests. Returns an error
/// if the normalised string is empty, or too short for the scan that finds literals in text.
fn string(
    text: &SigmaString,
    modifiers: &Modifiers,
    kind: FieldType,
) -> Result<Comparison, Problem> {
    let (string_match, value) = resolve_string_match(text, modifiers.operator)?;
    let case = if modifiers.cased { Case::Keep } else { Case::Fold };
    let value = normalize_pattern(&value, case);
    if value.is_empty() {
        let message = "the value is empty after normalisation";
        return Err(Problem::new(message, "remove it; `|exists` tests presence"));
    }
    let folded = normalize_pattern(&value, Case::Fold);
    if kind == FieldType::Text && folded.len() < MIN_LITERAL_BYTES {
        let message = format!("'{value}' is too short: expected {MIN_LITERAL_BYTES} bytes or more");
        return Err(Problem::new(message, "make it longer: short words occur in every prompt"));
    }
    Ok(Comparison::String { string_match, value, cased: modifiers.cased })
}

/// Returns where the string must occur in a value, and the string itself. The position follows from
/// the modifier or, without a modifier, from a `*` at the start or the end of the string, which is
/// removed. Returns an error for other wildcards.
fn resolve_string_match(
    text: &SigmaString,
    operator: Option<Modifier>,
) -> Result<(StringMatch, String), Problem> {
    let wildcard = StringPart::Special(SpecialChar::WildcardMulti);
    let mut parts = text.parts.as_slice();
    let string_match = match operator {
        Some(Modifier::Contains) => StringMatch::Contains,
        Some(Modifier::StartsWith) => StringMatch::StartsWith,
        Some(Modifier::EndsWith) => StringMatch::EndsWith,
        Some(_) => StringMatch::Equals,
        None => {
            let has_leading_wildcard = parts.first() == Some(&wildcard);
            let has_trailing_wildcard = parts.last() == Some(&wildcard);
            if has_leading_wildcard {
                parts = parts.get(1..).unwrap_or_default();
            }
            if has_trailing_wildcard {
                parts = parts.split_last().map_or(&[][..], |(_, parts)| parts);
            }
            match (has_leading_wildcard, has_trailing_wildcard) {
                (true, true) => StringMatch::Contains,
                (true, false) => StringMatch::EndsWith,
                (false, true) => StringMatch::StartsWith,
                (false, false) => StringMatch::Equals,
            }
        }
    };
    let mut value = String::new();
    for part in parts {
        match part {
            StringPart::Plain(plain) => value.push_str(plain),
            StringPart::Special(_) => {
                let message = "a wildcard within a value is not supported";
                let remedy = r"escape it (`\?`, `\*`) to match the character, or use `|re`";
                return Err(Problem::new(message, remedy));
            }
        }
    }
    Ok((string_match, value))
}

/// Converts a regex, and extracts its required literals: literals that every match contains.
/// Returns an error if the regex does not compile, if a literal never occurs in normalised text, or
/// if a regex on text has no required literal that is long enough for the scan.
fn regex(pattern: &str, flags: &str, kind: FieldType) -> Result<Comparison, Problem> {
    let byte_pattern = dots_as_bytes(pattern);
    let flagged_pattern =
        if flags.is_empty() { byte_pattern.clone() } else { format!("(?{flags}){byte_pattern}") };
    hedgerow_core::matching::regex_gate::compile(&flagged_pattern).map_err(|error| {
        // Only the last line is used, because the lines before it only quote the pattern.
        let text = error.to_string();
        let message = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        Problem::new(
            format!("the regex does not compile: {message}"),
            "correct it; look-around and back-references are not supported",
        )
    })?;
    let mut analysis = required_literals::analyze(&byte_pattern)
        .map_err(|error| Problem::new(error, "correct the regex"))?;
    if flags.contains('i') {
        fold_case(pattern, &mut analysis);
    }
    let mut strings =
        analysis.required_literals.iter().flat_map(|literal_set| &literal_set.alternatives);
    if let Some(impossible) =
        strings.find(|string| normalize_pattern(string, Case::Fold) != **string)
    {
        let message = format!("'{impossible}' never occurs in normalised text");
        let remedy = "write it in lower case with single spaces, or add `|i`";
        return Err(Problem::new(message, remedy));
    }
    analysis.keep_rarest(MAX_REQUIRED_LITERALS, MAX_CONTEXT_LITERALS);
    if kind == FieldType::Text && analysis.required_literals.is_empty() {
        let message =
            format!("the regex has no required literal of {MIN_REQUIRED_LITERAL_BYTES} bytes");
        let remedy =
            "add a word that every match contains: the regex runs only on text with such a word";
        return Err(Problem::new(message, remedy));
    }
    let RegexAnalysis { required_literals, max_len, first_bytes } = analysis;
    Ok(Comparison::Regex { pattern: flagged_pattern, required_literals, max_len, first_bytes })
}

/// Adapts the analysis of a pattern to the flag `i`. Changes literals to lower case. If the pattern
/// may contain letters beyond ASCII, also removes bounds in bytes, because the upper and lower case
/// of such a letter can differ in length.
fn fold_case(pattern: &str, analysis: &mut RegexAnalysis) {
    for literal_set in &mut analysis.required_literals {
        for string in &mut literal_set.alternatives {
            *string = string.to_lowercase();
        }
    }
    if let Some(first_bytes) = &mut analysis.first_bytes {
        first_bytes.make_ascii_lowercase();
    }
    let has_escaped_chars =
        ["\\x", "\\u", "\\U", "\\p", "\\P"].iter().any(|escape| pattern.contains(escape));
    if has_escaped_chars || !pattern.is_ascii() {
        analysis.clear_byte_bounds();
    }
}

/// Returns the pattern with each `.` replaced, so that it matches a byte instead of a character.
/// Signatures allow gaps by `.{0,60}`. A dot that matches a character becomes a small automaton for
/// UTF-8, and building these automatons would be most of the cost of compiling a regex.
fn dots_as_bytes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() * 2);
    let (mut is_escaped, mut depth, mut class_start) = (false, 0_usize, false);
    for char in pattern.chars() {
        match char {
            '.' if !is_escaped && depth == 0 => out.push_str("(?-u:.)"),
            char => out.push(char),
        }
        // A `]` at the start of a class (also after `^`) is a member of the class and does not end
        // it. Classes can be nested.
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

/// The names of the supported modifiers.
pub const SUPPORTED_MODIFIERS: &[&str] = &[
    "contains",
    "startswith",
    "endswith",
    "all",
    "cased",
    "re",
    "expand",
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
