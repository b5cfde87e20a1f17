//! Sigma's detection section, turned into selections and a condition.

use std::collections::BTreeMap;

use rsigma_parser::{
    ConditionExpr, Detection, DetectionItem, Modifier, Quantifier, SelectorPattern,
    SigmaParserError, SigmaRule, SigmaString, SigmaValue, SpecialChar, StringPart,
    detection_name_matches, parse_condition, parse_field_spec,
};
use yaml_serde::{Mapping, Value as Yaml};

use super::landmarks::{self, Required};
use super::rule::{Note, last_line};
use crate::field::{Field, Kind};
use crate::scan::MIN_LITERAL;
use crate::signature::{Anchor, Condition, FieldTest, MAX_LANDMARKS, Op, Order, Test};
use crate::text::{Case, normalize_pattern};

/// A problem and its remedy.
type Problem = (String, String);

/// Takes out of `detection` what Sigma's parser would stop at or pass over, and notes it: so the rest
/// is checked, too. Whether the condition can be read.
pub fn mend(document: &mut Mapping, note: &mut Note<'_>) -> bool {
    let Some(Yaml::Mapping(detection)) = document.get_mut("detection") else {
        let remedy = "name selections and a condition under `detection`";
        note.add(&["detection"], "no detection", remedy);
        let nothing: Mapping = [("condition".into(), READABLE.into())].into_iter().collect();
        document.insert("detection".into(), nothing.into());
        return false;
    };
    if detection.remove("timeframe").is_some() {
        let remedy = "remove it: a rule sees one request";
        note.add(&["detection", "timeframe"], "a timeframe is not supported", remedy);
    }
    for (name, selection) in detection.iter_mut() {
        let name = name.as_str().unwrap_or_default();
        if name != "condition" {
            mend_selection(selection, &["detection", name], note);
        }
    }
    let is_readable = is_readable(detection, note);
    if !is_readable {
        detection.insert("condition".into(), READABLE.into());
    }
    is_readable
}

/// Takes out of a selection the keys that cannot be read, and notes them.
fn mend_selection(selection: &mut Yaml, path: &[&str], note: &mut Note<'_>) {
    match selection {
        Yaml::Mapping(map) if map.is_empty() => {
            note.add(path, "nothing is tested here", "name a field and its values");
        }
        Yaml::Mapping(map) => {
            map.retain(|key, _| is_key(key.as_str().unwrap_or_default(), path, note))
        }
        Yaml::Sequence(parts) => {
            for (number, part) in parts.iter_mut().enumerate() {
                let number = number.to_string();
                mend_selection(part, &[path, &[&number]].concat(), note);
            }
        }
        _ => {}
    }
}

/// Whether the parser can read `field|modifier`; else what is wrong with it is noted.
fn is_key(key: &str, path: &[&str], note: &mut Note<'_>) -> bool {
    let Err(error) = parse_field_spec(key) else { return true };
    let path = [path, &[key]].concat();
    let (problem, remedy) = match &error {
        SigmaParserError::UnknownModifier(word) => {
            (format!("unknown modifier '{word}'"), super::instead(word, MODIFIERS))
        }
        SigmaParserError::NotIsNotAModifier => {
            problem("`not` is no modifier", "negate the selection in the condition")
        }
        _ => (
            last_line(&error.to_string()).to_owned(),
            format!("use one of {}", MODIFIERS.join(", ")),
        ),
    };
    note.add(&path, problem, remedy);
    let name = key.split('|').next().unwrap_or_default();
    if Field::parse(name).is_none() {
        unknown_field(name, &path, note);
    }
    false
}

/// Whether the condition can be read; else why not is noted.
fn is_readable(detection: &Mapping, note: &mut Note<'_>) -> bool {
    let key = ["detection", "condition"];
    let texts: Option<Vec<&str>> = match detection.get("condition") {
        Some(Yaml::Sequence(list)) => list.iter().map(Yaml::as_str).collect(),
        one => one.and_then(Yaml::as_str).map(|text| vec![text]),
    };
    let Some(texts) = texts else {
        let remedy = "join the names of selections, as in `condition: a and not b`";
        note.add(&key, "no condition", remedy);
        return false;
    };
    let errors: Vec<SigmaParserError> =
        texts.into_iter().filter_map(|text| parse_condition(text).err()).collect();
    for error in &errors {
        let remedy =
            "join selections by `and`, `or`, `not`, `1 of x_*`, `all of x_*` and parentheses";
        note.add(&key, unreadable(error), remedy);
    }
    errors.is_empty()
}

/// What a condition's parser says, in words.
fn unreadable(error: &SigmaParserError) -> String {
    let text = error.to_string();
    let words = last_line(&text).trim_start_matches("= ");
    match error.location() {
        Some(at) => format!("the condition cannot be read from its character {}: {words}", at.col),
        None => format!("the condition cannot be read: {words}"),
    }
}

/// The named selections.
pub fn selections(rule: &SigmaRule, note: &mut Note<'_>) -> BTreeMap<String, Test> {
    let mut selections = BTreeMap::new();
    for (name, detection) in &rule.detection.named {
        if let Some(test) = test(detection, &["detection", name], note) {
            selections.insert(name.clone(), test);
        }
    }
    selections
}

/// The condition, with quantifiers spelled out.
pub fn condition(
    rule: &SigmaRule,
    selections: &BTreeMap<String, Test>,
    note: &mut Note<'_>,
) -> Option<Condition> {
    let names: Vec<&String> = rule.detection.named.keys().collect();
    let key = ["detection", "condition"];
    let [expression] = rule.detection.conditions.as_slice() else {
        note.add(&key, "one condition is supported", "join them with `or`");
        return None;
    };
    let mut problems = Vec::new();
    let condition = expand(expression, &names, &mut problems);
    if !problems.is_empty() {
        for (problem, remedy) in problems {
            note.add(&key, problem, remedy);
        }
        return None;
    }
    let used = condition.names();
    for name in &names {
        if !used.contains(&name.as_str()) {
            note.add(
                &["detection", name],
                format!("the selection '{name}' is not used"),
                "use it in the condition or remove it",
            );
        }
    }
    // With nothing at all in a request, only negations and absences hold.
    let mut in_empty = |name: &str| {
        selections
            .get(name)
            .is_some_and(|test| test.holds(&mut |test| test.op == Op::Exists(false)))
    };
    if condition.holds(&mut in_empty) && condition.holds(&mut |_| false) {
        note.add(
            &key,
            "the condition holds for an empty request",
            "require a selection that is not negated",
        );
    }
    Some(condition)
}

/// Spells out quantifiers. What is wrong with the expression is added to `problems`.
fn expand(expression: &ConditionExpr, names: &[&String], problems: &mut Vec<Problem>) -> Condition {
    match expression {
        ConditionExpr::And(parts) => Condition::All(expand_all(parts, names, problems)),
        ConditionExpr::Or(parts) => Condition::Any(expand_all(parts, names, problems)),
        ConditionExpr::Not(part) => Condition::Not(Box::new(expand(part, names, problems))),
        ConditionExpr::Identifier(name) => {
            if !names.contains(&name) {
                problems.push(no_selection(name, names));
            }
            Condition::Is(name.clone())
        }
        ConditionExpr::Selector { quantifier, pattern } => {
            let fitting = fitting(pattern, names);
            if fitting.is_empty() {
                problems.push((
                    format!("no selection fits '{pattern}'"),
                    "correct the pattern".to_owned(),
                ));
            }
            match quantifier {
                Quantifier::All => Condition::All(fitting),
                Quantifier::Any | Quantifier::Count(1) => Condition::Any(fitting),
                Quantifier::Count(_) => {
                    problems.push((
                        format!("'{quantifier} of' is not supported"),
                        "use `1 of` or `all of`".to_owned(),
                    ));
                    Condition::Any(fitting)
                }
            }
        }
    }
}

fn expand_all(
    parts: &[ConditionExpr],
    names: &[&String],
    problems: &mut Vec<Problem>,
) -> Vec<Condition> {
    parts.iter().map(|part| expand(part, names, problems)).collect()
}

fn no_selection(name: &str, names: &[&String]) -> Problem {
    let remedy = super::nearest(name, names.iter().map(|name| name.as_str())).map_or_else(
        || "name it under `detection`".to_owned(),
        |nearest| format!("did you mean '{nearest}'?"),
    );
    (format!("there is no selection '{name}'"), remedy)
}

/// The selections that a pattern stands for.
fn fitting(pattern: &SelectorPattern, names: &[&String]) -> Vec<Condition> {
    let fits = |name: &str| match pattern {
        SelectorPattern::Them => !name.starts_with('_'),
        SelectorPattern::Pattern(pattern) => detection_name_matches(pattern, name),
    };
    let mut fitting: Vec<&String> = names.iter().copied().filter(|name| fits(name)).collect();
    fitting.sort();
    fitting.into_iter().map(|name| Condition::Is(name.clone())).collect()
}

fn test(detection: &Detection, path: &[&str], note: &mut Note<'_>) -> Option<Test> {
    match detection {
        Detection::AllOf(items) => {
            let tests: Vec<Option<Test>> =
                items.iter().map(|detection| item(detection, path, note)).collect();
            Some(one_or(tests.into_iter().collect::<Option<Vec<_>>>()?, Test::All))
        }
        Detection::AnyOf(parts) => {
            let mut tests = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                let number = number.to_string();
                tests.push(test(part, &[path, &[&number]].concat(), note));
            }
            Some(one_or(tests.into_iter().collect::<Option<Vec<_>>>()?, Test::Any))
        }
        Detection::Keywords(_) => {
            note.add(
                path,
                "strings without a field are not supported",
                "name the field, such as `gen_ai.input.messages|contains`",
            );
            None
        }
        _ => {
            note.add(
                path,
                "array matching is not supported",
                "a test holds if it holds for any value of the field",
            );
            None
        }
    }
}

fn item(item: &DetectionItem, path: &[&str], note: &mut Note<'_>) -> Option<Test> {
    let name = item.field.name.clone().unwrap_or_default();
    let words: Vec<String> = item.field.modifiers.iter().map(|modifier| word(*modifier)).collect();
    let key = [&[name.clone()][..], &words].concat().join("|");
    let path = [path, &[&key]].concat();
    let field = Field::parse(&name);
    if field.is_none() {
        unknown_field(&name, &path, note);
    }
    let modifiers = Modifiers::new(&item.field.modifiers)
        .and_then(|modifiers| enough(item.values.len(), &modifiers).map(|()| modifiers))
        .map_err(|(problem, remedy)| note.add(&path, problem, remedy));
    let (Some(field), Ok(modifiers)) = (field, modifiers) else { return None };
    let mut tests = Vec::new();
    for (number, value) in item.values.iter().enumerate() {
        match op(&field, &modifiers, value) {
            Ok(op) => tests.push(Some(Test::Field(FieldTest { field: field.clone(), op }))),
            Err((problem, remedy)) => {
                let number = number.to_string();
                note.add(&[&path[..], &[&number]].concat(), problem, remedy);
                tests.push(None);
            }
        }
    }
    let tests = tests.into_iter().collect::<Option<Vec<_>>>()?;
    Some(one_or(tests, if modifiers.all { Test::All } else { Test::Any }))
}

fn unknown_field(name: &str, path: &[&str], note: &mut Note<'_>) {
    let remedy = format!("did you mean '{}'? docs/fields.md lists all", nearest(name));
    note.add(path, format!("unknown field '{name}'"), remedy);
}

/// Whether there are values enough to compare with.
fn enough(values: usize, modifiers: &Modifiers) -> Result<(), Problem> {
    match values {
        0 => Err(problem("no values", "give at least one, or use `|exists`")),
        1 if modifiers.all => {
            Err(problem("`|all` of one value", "remove `|all`, or give more values"))
        }
        _ => Ok(()),
    }
}

fn one_or(mut tests: Vec<Test>, many: impl Fn(Vec<Test>) -> Test) -> Test {
    match (tests.len(), tests.pop()) {
        (1, Some(test)) => test,
        (_, last) => many(tests.into_iter().chain(last).collect()),
    }
}

/// What a field's modifiers ask for.
#[derive(Default)]
struct Modifiers {
    main: Option<Modifier>,
    all: bool,
    cased: bool,
    flags: String,
}

impl Modifiers {
    fn new(modifiers: &[Modifier]) -> Result<Self, Problem> {
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

fn word(modifier: Modifier) -> String {
    let json = serde_json::to_value(modifier).unwrap_or_default();
    json.as_str().unwrap_or("?").to_owned()
}

fn op(field: &Field, modifiers: &Modifiers, value: &SigmaValue) -> Result<Op, Problem> {
    use SigmaValue as V;
    let kind = field.kind();
    match (modifiers.main, kind, value) {
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
            format!("this test does not fit '{}', which is a {}", field.name(), kind_word(kind)),
            "see docs/fields.md for the field's type".to_owned(),
        )),
    }
}

fn problem(problem: &str, remedy: &str) -> Problem {
    (problem.to_owned(), remedy.to_owned())
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "text",
        Kind::Keyword => "keyword",
        Kind::Address => "address",
        Kind::Number => "number",
        Kind::Flag => "flag",
    }
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
        // Beyond ASCII, the two cases of a letter may differ in length.
        if !pattern.is_ascii() {
            required.forget_distances();
        }
    }
    let mut strings = required.landmarks.iter().flat_map(|landmark| &landmark.strings);
    if let Some(odd) = strings.find(|string| normalize_pattern(string, Case::Fold) != **string) {
        let problem = format!("'{odd}' never occurs in normalised text");
        return Err((problem, "write it in lower case with single spaces, or add `|i`".to_owned()));
    }
    required.thin(MIN_LITERAL, MAX_LANDMARKS);
    if kind == Kind::Text && required.landmarks.is_empty() {
        let problem = format!("the regex has no required literal of {MIN_LITERAL} bytes");
        return Err((
            problem,
            "add a word that every match must contain: a regex runs only where one was seen"
                .to_owned(),
        ));
    }
    let Required { landmarks, longest } = required;
    Ok(Op::Regex { pattern: full, landmarks, longest })
}

/// A pattern in which `.` stands for a byte instead of a character. Signatures bridge gaps by
/// `.{0,60}`; as characters each dot is a small automaton of its own, and building those is most of
/// what a regex costs.
fn dots_as_bytes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() * 2);
    let (mut is_escaped, mut in_class) = (false, false);
    for char in pattern.chars() {
        match char {
            '.' if !is_escaped && !in_class => out.push_str("(?-u:.)"),
            char => out.push(char),
        }
        in_class = if is_escaped { in_class } else { (in_class || char == '[') && char != ']' };
        is_escaped = char == '\\' && !is_escaped;
    }
    out
}

/// The field whose name shares most with `name`.
fn nearest(name: &str) -> &'static str {
    let shared = |row: &&crate::field::Row| {
        let words: Vec<&str> = row.name.split(['.', '_']).collect();
        name.split(['.', '_']).filter(|word| words.contains(word)).count()
    };
    crate::field::TABLE.iter().max_by_key(shared).map_or("", |row| row.name)
}

/// A condition that is always read, in the place of one that is not.
const READABLE: &str = "all of them";

/// Sigma's modifiers, as far as they are supported.
const MODIFIERS: &[&str] = &[
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
