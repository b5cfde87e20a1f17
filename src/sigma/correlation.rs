//! One Sigma correlation rule, checked and turned into a correlation.

use rsigma_parser::{
    ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule as SigmaCorrelation,
    CorrelationType, EXEMPLARS_KEY, SigmaCollection, Timespan, WindowMode,
};
use yaml_serde::{Mapping, Value as Yaml};

use super::about::{self, About, WEIGHT};
use super::document::{self, Note};
use super::place::Places;
use super::timed::{self, Timed};
use super::{Finding, Rule, Source};
use crate::correlation::{Bound, Correlation, Crowd, MAX_GROUP_BY, Measure, Share, TIMESPANS};
use crate::field::{Field, Kind};
use crate::signature::{Condition, Order};

/// A correlation, what its documentation needs, and its exemplars.
#[derive(Clone, Debug)]
pub struct CorrelationRule {
    /// The correlation.
    pub correlation: Correlation,
    /// What it says about itself.
    pub about: About,
    /// Sequences of events that it must and must not hold for.
    pub exemplars: Vec<Timed>,
}

/// Parses and checks a document that has a correlation. `known` findings are not this file's.
pub fn parse(
    source: &Source,
    places: Places,
    document: &Mapping,
    known: usize,
    findings: &mut Vec<Finding>,
) -> Option<CorrelationRule> {
    let mut note = Note { path: &source.path, places: &places, findings };
    let head = about::check(document, &mut note);
    keys(document, &mut note);
    let exemplars = timed::read(document, &mut note);
    let mended = (note.findings.len() > known).then_some(document);
    let pick = |collection: &mut SigmaCollection| collection.correlations.pop();
    let sigma = document::sigma(&source.text, mended, "correlation", pick, &mut note)?;
    refuse(&sigma, &mut note);
    let group_by = group_by(&sigma, &mut note);
    let timespan = timespan(&sigma.timespan, &["correlation", "timespan"], &mut note);
    let own = document.get("custom_attributes");
    let own = |key: &str| own.and_then(|own| own.get(key));
    let measure = measure(&sigma, own(APART), &mut note);
    let crowd = crowd(&own, &mut note);
    if !crowd.is_empty() && !matches!(measure, Some(Measure::ValueCount { .. }) | None) {
        let problem =
            "only what is counted by value_count can have a load, be even, together or relieved";
        note.add(&["custom_attributes"], problem, "use value_count, or remove it");
    }
    let lasts = match own(LASTS) {
        None => timespan.clamp(SHORTEST, LONGEST),
        Some(said) => span(said, &["custom_attributes", LASTS], &mut note),
    };
    let about::Head { name, id, title, family, status, weight } = head;
    let measure = measure.unwrap_or(Measure::EventCount { bounds: Vec::new() });
    let has_flaws = note.findings.len() > known;
    let correlation = Correlation {
        name,
        id,
        title,
        family,
        status,
        weight,
        rules: if has_flaws { Vec::new() } else { sigma.rules },
        group_by,
        timespan,
        measure,
        crowd,
        lasts,
    };
    Some(CorrelationRule { correlation, about: About::new(source, places, document), exemplars })
}

/// Puts the names of signatures in the place of patterns such as `elicitation_*`, and notes rules that
/// there are none of.
pub fn resolve(correlations: &mut [CorrelationRule], rules: &[Rule], findings: &mut Vec<Finding>) {
    let in_force = rules.iter().filter(|rule| !rule.is_retired());
    let signatures: Vec<&str> = in_force.map(|rule| rule.signature.name.as_str()).collect();
    let names: Vec<String> = correlations.iter().map(|own| own.correlation.name.clone()).collect();
    for own in correlations {
        let said = std::mem::take(&mut own.correlation.rules);
        for (number, rule) in said.into_iter().enumerate() {
            let known = own.correlation.rules.len();
            match rule.strip_suffix('*') {
                Some(prefix) => {
                    let fitting = signatures.iter().filter(|name| name.starts_with(prefix));
                    own.correlation.rules.extend(fitting.map(|name| (*name).to_owned()));
                }
                None if signatures.contains(&rule.as_str()) || names.contains(&rule) => {
                    own.correlation.rules.push(rule.clone());
                }
                None => {}
            }
            if own.correlation.rules.len() == known {
                let all = signatures.iter().copied().chain(names.iter().map(String::as_str));
                let remedy = super::nearest(&rule, all).map_or_else(
                    || "name a signature, signatures by `<family>_*`, or a correlation".to_owned(),
                    |nearest| format!("did you mean '{nearest}'?"),
                );
                let key = ["correlation", "rules", &number.to_string()];
                findings.push(own.about.finding(
                    &key,
                    format!("there is no rule '{rule}'"),
                    remedy,
                ));
            }
        }
    }
}

/// Notes keys that are not known.
fn keys(document: &Mapping, note: &mut Note<'_>) {
    let top = [about::KEYS, KEYS].concat();
    let correlation = document.get("correlation").and_then(Yaml::as_mapping);
    let condition = correlation.and_then(|own| own.get("condition")).and_then(Yaml::as_mapping);
    let rows: [(Option<&Mapping>, &[&str], &[&str]); 4] = [
        (Some(document), &[], &top),
        (correlation, &["correlation"], CORRELATION),
        (condition, &["correlation", "condition"], CONDITION),
        (document.get(OWN).and_then(Yaml::as_mapping), &[OWN], ATTRIBUTES),
    ];
    for (map, above, known) in rows {
        for key in map.into_iter().flat_map(Mapping::keys) {
            about::is_known(key, above, known, note);
        }
    }
}

/// Notes what Sigma has and we have not.
fn refuse(sigma: &SigmaCorrelation, note: &mut Note<'_>) {
    if sigma.window != WindowMode::Sliding {
        let problem = format!("{} windows are not supported", sigma.window.as_str());
        note.add(&["correlation", "window"], problem, "remove it: windows slide");
    }
    if !sigma.aliases.is_empty() {
        let remedy = "remove it: all rules have the same fields";
        note.add(&["correlation", "aliases"], "aliases are not supported", remedy);
    }
    if sigma.generate {
        let remedy = "remove it: signatures weigh by themselves wherever they hold";
        note.add(&["generate"], "`generate` says nothing here", remedy);
    }
    if sigma.rules.is_empty() {
        let remedy = "name signatures, or correlations, under `rules`";
        note.add(&["correlation", "rules"], "no rules", remedy);
    }
}

fn group_by(sigma: &SigmaCorrelation, note: &mut Note<'_>) -> Vec<Field> {
    let count = sigma.group_by.len();
    if !(1..=MAX_GROUP_BY).contains(&count) {
        let problem = format!("it groups by {count} fields");
        let remedy = format!("group by one to {MAX_GROUP_BY} fields");
        note.add(&["correlation", "group-by"], problem, remedy);
    }
    let fields = sigma.group_by.iter().enumerate().map(|(number, name)| {
        let number = number.to_string();
        field(name, false, &["correlation", "group-by", &number], note)
    });
    fields.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// A field that requests are told apart by, or that can be summed.
fn field(name: &str, is_sum: bool, key: &[&str], note: &mut Note<'_>) -> Option<Field> {
    let Some(field) = Field::parse(name) else {
        note.add(key, format!("unknown field '{name}'"), "see docs/fields.md");
        return None;
    };
    let fits = match field.kind() {
        Kind::Text => false,
        Kind::Number | Kind::Flag => true,
        Kind::Keyword | Kind::Address | Kind::Key => !is_sum,
    };
    if !fits {
        let problem = format!("'{name}' is a {}", field.kind().name());
        let remedy = match is_sum {
            true => "sum a number",
            false => "use a digest or template keys of it (docs/fields.md)",
        };
        note.add(key, problem, remedy);
        return None;
    }
    Some(field)
}

fn measure(sigma: &SigmaCorrelation, apart: Option<&Yaml>, note: &mut Note<'_>) -> Option<Measure> {
    let key = ["correlation", "condition"];
    let kind = sigma.correlation_type;
    let is_temporal = matches!(kind, CorrelationType::Temporal | CorrelationType::TemporalOrdered);
    if apart.is_some() && kind != CorrelationType::TemporalOrdered {
        let remedy = "use temporal_ordered, or remove it";
        note.add(&["custom_attributes", APART], "only what is in order can be apart", remedy);
    }
    if is_temporal {
        return temporal(sigma, apart, note);
    }
    let CorrelationCondition::Threshold { predicates, field: fields, .. } = &sigma.condition else {
        note.add(&key, "a number is to be compared", "write {gte: NUMBER}");
        return None;
    };
    let bounds: Vec<Bound> = predicates.iter().filter_map(|own| bound(own, note)).collect();
    if kind == CorrelationType::EventCount {
        if fields.is_some() {
            note.add(&key, "event_count counts no field", "remove `field`, or use value_count");
        }
        return Some(Measure::EventCount { bounds });
    }
    let mut names = fields.iter().flatten();
    let (Some(name), None) = (names.next(), names.next()) else {
        note.add(&key, "one field is to be named", "write {field: NAME, gte: NUMBER}");
        return None;
    };
    let is_sum = matches!(kind, CorrelationType::ValueSum | CorrelationType::ValueAvg);
    let field = field(name, is_sum, &["correlation", "condition", "field"], note)?;
    match kind {
        CorrelationType::ValueCount => Some(Measure::ValueCount { field, bounds }),
        CorrelationType::ValueSum => Some(Measure::ValueSum { field, bounds }),
        CorrelationType::ValueAvg => Some(Measure::ValueAvg { field, bounds }),
        other => {
            let problem = format!("the type '{}' is not supported", other.as_str());
            note.add(
                &["correlation", "type"],
                problem,
                "use one of the types in docs/correlations.md",
            );
            None
        }
    }
}

fn temporal(
    sigma: &SigmaCorrelation,
    apart: Option<&Yaml>,
    note: &mut Note<'_>,
) -> Option<Measure> {
    let key = ["correlation", "condition"];
    let is_ordered = sigma.correlation_type == CorrelationType::TemporalOrdered;
    let all = || sigma.rules.iter().map(|rule| Condition::Is(rule.clone())).collect();
    if let Some(glob) = sigma.rules.iter().position(|rule| rule.contains('*')) {
        let number = glob.to_string();
        let remedy = "name each rule: which of them were seen matters";
        note.add(&["correlation", "rules", &number], "no pattern can stand here", remedy);
    }
    let condition = match &sigma.condition {
        // What the parser makes of no condition.
        CorrelationCondition::Threshold { predicates, field: None, .. }
            if *predicates == [(ConditionOperator::Gte, 1)] =>
        {
            Condition::All(all())
        }
        CorrelationCondition::Threshold { .. } => {
            let remedy = "leave the condition out, or write rules joined by and, or, not";
            note.add(&key, "rules in time are not compared with a number", remedy);
            return None;
        }
        CorrelationCondition::Extended(_) if is_ordered => {
            note.add(&key, "all rules have to follow each other", "leave the condition out");
            return None;
        }
        CorrelationCondition::Extended(expression) => expressed(expression, &sigma.rules, note)?,
    };
    if !is_ordered {
        return Some(Measure::Temporal { condition });
    }
    let apart = match apart.map(Yaml::as_str) {
        None => None,
        Some(name) => {
            Some(field(name.unwrap_or_default(), false, &["custom_attributes", APART], note)?)
        }
    };
    Some(Measure::TemporalOrdered { apart })
}

/// A condition over rules.
fn expressed(
    expression: &ConditionExpr,
    rules: &[String],
    note: &mut Note<'_>,
) -> Option<Condition> {
    let mut all = |parts: &[ConditionExpr]| -> Option<Vec<Condition>> {
        parts.iter().map(|part| expressed(part, rules, note)).collect()
    };
    match expression {
        ConditionExpr::And(parts) => Some(Condition::All(all(parts)?)),
        ConditionExpr::Or(parts) => Some(Condition::Any(all(parts)?)),
        ConditionExpr::Not(part) => Some(Condition::Not(Box::new(expressed(part, rules, note)?))),
        ConditionExpr::Identifier(name) if rules.contains(name) => {
            Some(Condition::Is(name.clone()))
        }
        other => {
            let problem = match other {
                ConditionExpr::Identifier(name) => format!("'{name}' is none of the rules"),
                _ => "this condition is not supported".to_owned(),
            };
            let remedy = "join the names under `rules` by and, or, not";
            note.add(&["correlation", "condition"], problem, remedy);
            None
        }
    }
}

fn bound((operator, value): &(ConditionOperator, u64), note: &mut Note<'_>) -> Option<Bound> {
    let order = match operator {
        ConditionOperator::Lt => Order::Lt,
        ConditionOperator::Lte => Order::Lte,
        ConditionOperator::Gt => Order::Gt,
        ConditionOperator::Gte => Order::Gte,
        ConditionOperator::Eq => Order::Eq,
        ConditionOperator::Neq => {
            let key = ["correlation", "condition", "neq"];
            note.add(&key, "`neq` is not supported", "use gt, gte, eq, lt or lte");
            return None;
        }
    };
    // Sigma's parser reads negative numbers as very large ones.
    let value = *value as i64 as f64;
    Some(Bound { order, value })
}

/// Seconds of a timespan that is within bounds.
fn timespan(said: &Timespan, key: &[&str], note: &mut Note<'_>) -> u32 {
    match u32::try_from(said.seconds).ok().filter(|seconds| TIMESPANS.contains(seconds)) {
        Some(seconds) => seconds,
        None => {
            let problem = format!("'{said}' is not from 10 seconds to 30 days");
            note.add(key, problem, "choose a time that is, such as 1h");
            *TIMESPANS.start()
        }
    }
}

fn span(said: &Yaml, key: &[&str], note: &mut Note<'_>) -> u32 {
    match said.as_str().map(Timespan::parse) {
        Some(Ok(said)) => timespan(&said, key, note),
        _ => {
            note.add(key, "this is no time", "write it as 90s, 30m, 24h or 7d");
            *TIMESPANS.start()
        }
    }
}

/// What more is asked of the values that are counted.
fn crowd<'y>(own: &impl Fn(&str) -> Option<&'y Yaml>, note: &mut Note<'_>) -> Crowd {
    let load = own(LOAD).and_then(|said| {
        let load = said.as_f64().filter(|load| *load > 0.0);
        if load.is_none() {
            let problem = "this is no number above 0";
            note.add(&[OWN, LOAD], problem, "write a number of events");
        }
        load
    });
    let evenness = own(EVENNESS).and_then(|said| percent(said, &[OWN, EVENNESS], note));
    let together = own(TOGETHER).and_then(|said| share(said, TOGETHER, note));
    let relieved = own(RELIEVED).and_then(|said| share(said, RELIEVED, note));
    Crowd { load, evenness, together, relieved }
}

fn percent(said: &Yaml, key: &[&str], note: &mut Note<'_>) -> Option<f64> {
    let percent = said.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() {
        note.add(key, "this is no percentage", "write a number from 0 to 100");
    }
    percent
}

fn share(said: &Yaml, name: &str, note: &mut Note<'_>) -> Option<Share> {
    let (Some(within), Some(least)) = (said.get("within"), said.get("least")) else {
        let problem = "a time and a percentage are missing";
        note.add(&[OWN, name], problem, "write {within: 10m, least: 60}");
        return None;
    };
    let within = span(within, &[OWN, name, "within"], note);
    Some(Share { within, least: percent(least, &[OWN, name, "least"], note)? })
}

const OWN: &str = "custom_attributes";

/// An indicator lasts as long as its correlation looks back, within these bounds, where nothing is said.
const SHORTEST: u32 = 3_600;
const LONGEST: u32 = 7 * 86_400;

const LASTS: &str = "hedgerow.lasts";
const APART: &str = "hedgerow.apart";
const LOAD: &str = "hedgerow.load";
const EVENNESS: &str = "hedgerow.evenness";
const TOGETHER: &str = "hedgerow.together";
const RELIEVED: &str = "hedgerow.relieved";

/// What may stand under `custom_attributes`.
pub const ATTRIBUTES: &[&str] =
    &[WEIGHT, EXEMPLARS_KEY, LASTS, APART, LOAD, EVENNESS, TOGETHER, RELIEVED];

/// What a correlation has beside what it says about itself.
const KEYS: &[&str] = &["correlation", "generate"];

const CORRELATION: &[&str] = &[
    "type",
    "rules",
    "group-by",
    "timespan",
    "timeframe",
    "condition",
    "aliases",
    "window",
    "gap",
    "generate",
];

const CONDITION: &[&str] = &["field", "gt", "gte", "lt", "lte", "eq", "neq"];
