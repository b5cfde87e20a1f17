//! One Sigma correlation rule, checked and turned into a correlation.

use hedgerow_core::field::{Field, FieldType};
use hedgerow_core::rules::correlation::{
    Coordination, Correlation, MAX_GROUP_BY_FIELDS, Measure, ShareWithin, TIMESPAN_RANGE_SECONDS,
    Threshold,
};
use hedgerow_core::rules::signature::{Comparator, Condition};
use rsigma_parser::{
    ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule as SigmaCorrelation,
    CorrelationType, SigmaCollection, Timespan, WindowMode,
};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{
    CORRELATION_ATTRIBUTES, DISTINCT_BY_KEY, EVENNESS_KEY, EVENTS_PER_VALUE_KEY, HANDOVER_KEY,
    SYNCHRONIZED_START_KEY, TTL_KEY,
};
use crate::document::Diagnostics;
use crate::event_sequence::{self, EventSequence};
use crate::metadata::RuleMetadata;
use crate::source_map::SourceMap;
use crate::{Finding, Rule, RuleFile, document, metadata};

/// A correlation, what its documentation needs, and its exemplars.
#[derive(Clone, Debug)]
pub struct CorrelationRule {
    /// The correlation.
    pub correlation: Correlation,
    /// What it says about itself.
    pub metadata: RuleMetadata,
    /// Sequences of events that it must and must not hold for.
    pub exemplars: Vec<EventSequence>,
}

/// Parses and checks a document that has a correlation. `known` findings are not this file's.
pub fn parse(
    file: &RuleFile,
    source_map: SourceMap,
    document: &Mapping,
    previous_findings: usize,
    findings: &mut Vec<Finding>,
) -> Option<CorrelationRule> {
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let header = metadata::check(document, &mut diagnostics);
    check_keys(document, &mut diagnostics);
    let exemplars = event_sequence::read(document, &mut diagnostics);
    let stripped = (diagnostics.findings.len() > previous_findings).then_some(document);
    let take_correlation = |collection: &mut SigmaCollection| collection.correlations.pop();
    let sigma = document::parse_sigma(
        &file.text,
        stripped,
        "correlation",
        take_correlation,
        &mut diagnostics,
    )?;
    report_unsupported(&sigma, &mut diagnostics);
    let group_by = group_by(&sigma, &mut diagnostics);
    let timespan =
        timespan_seconds(&sigma.timespan, &["correlation", "timespan"], &mut diagnostics);
    let attributes = document.get("custom_attributes");
    let attribute = |key: &str| attributes.and_then(|attributes| attributes.get(key));
    let measure = measure(&sigma, attribute(DISTINCT_BY_KEY), &mut diagnostics);
    let coordination = coordination(&attribute, &mut diagnostics);
    if !coordination.is_empty() && !matches!(measure, Some(Measure::ValueCount { .. }) | None) {
        let problem =
            "only what is counted by value_count can have a load, be even, together or relieved";
        diagnostics.add(&["custom_attributes"], problem, "use value_count, or remove it");
    }
    let ttl = match attribute(TTL_KEY) {
        None => timespan.clamp(MIN_TTL_SECONDS, MAX_TTL_SECONDS),
        Some(value) => parse_timespan(value, &["custom_attributes", TTL_KEY], &mut diagnostics),
    };
    let metadata::RuleHeader { name, id, title, family, status, weight } = header;
    let measure = measure.unwrap_or(Measure::EventCount { thresholds: Vec::new() });
    let has_findings = diagnostics.findings.len() > previous_findings;
    let correlation = Correlation {
        name,
        id,
        title,
        family,
        status,
        weight,
        rules: if has_findings { Vec::new() } else { sigma.rules },
        group_by,
        timespan,
        measure,
        coordination,
        ttl,
    };
    Some(CorrelationRule {
        correlation,
        metadata: RuleMetadata::new(file, source_map, document),
        exemplars,
    })
}

/// Puts the names of signatures in the place of patterns such as `elicitation_*`, and notes rules that
/// there are none of.
pub fn resolve(correlations: &mut [CorrelationRule], rules: &[Rule], findings: &mut Vec<Finding>) {
    let active = rules.iter().filter(|rule| !rule.is_deprecated());
    let signatures: Vec<&str> = active.map(|rule| rule.signature.name.as_str()).collect();
    let correlation_names: Vec<String> =
        correlations.iter().map(|rule| rule.correlation.name.clone()).collect();
    for correlation_rule in correlations {
        let patterns = std::mem::take(&mut correlation_rule.correlation.rules);
        for (index, pattern) in patterns.into_iter().enumerate() {
            let resolved_before = correlation_rule.correlation.rules.len();
            match pattern.strip_suffix('*') {
                Some(prefix) => {
                    let matching = signatures.iter().filter(|name| name.starts_with(prefix));
                    correlation_rule
                        .correlation
                        .rules
                        .extend(matching.map(|name| (*name).to_owned()));
                }
                None if signatures.contains(&pattern.as_str())
                    || correlation_names.contains(&pattern) =>
                {
                    correlation_rule.correlation.rules.push(pattern.clone());
                }
                None => {}
            }
            if correlation_rule.correlation.rules.len() == resolved_before {
                let candidates =
                    signatures.iter().copied().chain(correlation_names.iter().map(String::as_str));
                let remedy = crate::nearest(&pattern, candidates).map_or_else(
                    || "name a signature, signatures by `<family>_*`, or a correlation".to_owned(),
                    |nearest| format!("did you mean '{nearest}'?"),
                );
                let key = ["correlation", "rules", &index.to_string()];
                findings.push(correlation_rule.metadata.finding(
                    &key,
                    format!("there is no rule '{pattern}'"),
                    remedy,
                ));
            }
        }
    }
}

/// Notes keys that are not known.
fn check_keys(document: &Mapping, diagnostics: &mut Diagnostics<'_>) {
    let top_level_keys = [metadata::KEYS, TOP_LEVEL_KEYS].concat();
    let correlation = document.get("correlation").and_then(Yaml::as_mapping);
    let condition =
        correlation.and_then(|mapping| mapping.get("condition")).and_then(Yaml::as_mapping);
    let rows: [(Option<&Mapping>, &[&str], &[&str]); 4] = [
        (Some(document), &[], &top_level_keys),
        (correlation, &["correlation"], CORRELATION_KEYS),
        (condition, &["correlation", "condition"], CONDITION_KEYS),
        (
            document.get(CUSTOM_ATTRIBUTES).and_then(Yaml::as_mapping),
            &[CUSTOM_ATTRIBUTES],
            CORRELATION_ATTRIBUTES,
        ),
    ];
    for (mapping, parent, allowed) in rows {
        for key in mapping.into_iter().flat_map(Mapping::keys) {
            metadata::check_key(key, parent, allowed, diagnostics);
        }
    }
}

/// Notes what Sigma has and we have not.
fn report_unsupported(sigma: &SigmaCorrelation, diagnostics: &mut Diagnostics<'_>) {
    if sigma.window != WindowMode::Sliding {
        let problem = format!("{} windows are not supported", sigma.window.as_str());
        diagnostics.add(&["correlation", "window"], problem, "remove it: windows slide");
    }
    if !sigma.aliases.is_empty() {
        let remedy = "remove it: all rules have the same fields";
        diagnostics.add(&["correlation", "aliases"], "aliases are not supported", remedy);
    }
    if sigma.generate {
        let remedy = "remove it: signatures weigh by themselves wherever they hold";
        diagnostics.add(&["generate"], "`generate` says nothing here", remedy);
    }
    if sigma.rules.is_empty() {
        let remedy = "name signatures, or correlations, under `rules`";
        diagnostics.add(&["correlation", "rules"], "no rules", remedy);
    }
}

fn group_by(sigma: &SigmaCorrelation, diagnostics: &mut Diagnostics<'_>) -> Vec<Field> {
    let count = sigma.group_by.len();
    if !(1..=MAX_GROUP_BY_FIELDS).contains(&count) {
        let problem = format!("it groups by {count} fields");
        let remedy = format!("group by one to {MAX_GROUP_BY_FIELDS} fields");
        diagnostics.add(&["correlation", "group-by"], problem, remedy);
    }
    let fields = sigma.group_by.iter().enumerate().map(|(index, name)| {
        let index = index.to_string();
        parse_field(name, false, &["correlation", "group-by", &index], diagnostics)
    });
    fields.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// A field that requests are told apart by, or that can be summed.
fn parse_field(
    name: &str,
    is_sum: bool,
    key: &[&str],
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Field> {
    let Some(field) = Field::parse(name) else {
        diagnostics.add(key, format!("unknown field '{name}'"), "see docs/fields.md");
        return None;
    };
    let is_usable = match field.field_type() {
        FieldType::Text => false,
        FieldType::Number | FieldType::Flag => true,
        FieldType::Keyword | FieldType::Address | FieldType::Key => !is_sum,
    };
    if !is_usable {
        let problem = format!("'{name}' is a {}", field.field_type().name());
        let remedy = match is_sum {
            true => "sum a number",
            false => "use a digest or template keys of it (docs/fields.md)",
        };
        diagnostics.add(key, problem, remedy);
        return None;
    }
    Some(field)
}

fn measure(
    sigma: &SigmaCorrelation,
    distinct_by: Option<&Yaml>,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Measure> {
    let key = ["correlation", "condition"];
    let kind = sigma.correlation_type;
    let is_temporal = matches!(kind, CorrelationType::Temporal | CorrelationType::TemporalOrdered);
    if distinct_by.is_some() && kind != CorrelationType::TemporalOrdered {
        let remedy = "use temporal_ordered, or remove it";
        diagnostics.add(
            &["custom_attributes", DISTINCT_BY_KEY],
            "only what is in order can be apart",
            remedy,
        );
    }
    if is_temporal {
        return temporal(sigma, distinct_by, diagnostics);
    }
    let CorrelationCondition::Threshold { predicates, field: fields, .. } = &sigma.condition else {
        diagnostics.add(&key, "a number is to be compared", "write {gte: NUMBER}");
        return None;
    };
    let thresholds: Vec<Threshold> =
        predicates.iter().filter_map(|predicate| threshold(predicate, diagnostics)).collect();
    if kind == CorrelationType::EventCount {
        if fields.is_some() {
            diagnostics.add(
                &key,
                "event_count counts no field",
                "remove `field`, or use value_count",
            );
        }
        return Some(Measure::EventCount { thresholds });
    }
    let mut names = fields.iter().flatten();
    let (Some(name), None) = (names.next(), names.next()) else {
        diagnostics.add(&key, "one field is to be named", "write {field: NAME, gte: NUMBER}");
        return None;
    };
    let is_sum = matches!(kind, CorrelationType::ValueSum | CorrelationType::ValueAvg);
    let field = parse_field(name, is_sum, &["correlation", "condition", "field"], diagnostics)?;
    match kind {
        CorrelationType::ValueCount => Some(Measure::ValueCount { field, thresholds }),
        CorrelationType::ValueSum => Some(Measure::ValueSum { field, thresholds }),
        CorrelationType::ValueAvg => Some(Measure::ValueAvg { field, thresholds }),
        other => {
            let problem = format!("the type '{}' is not supported", other.as_str());
            diagnostics.add(
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
    distinct_by: Option<&Yaml>,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Measure> {
    let key = ["correlation", "condition"];
    let is_ordered = sigma.correlation_type == CorrelationType::TemporalOrdered;
    let all_rules = || sigma.rules.iter().map(|rule| Condition::Selection(rule.clone())).collect();
    if let Some(pattern_index) = sigma.rules.iter().position(|rule| rule.contains('*')) {
        let index = pattern_index.to_string();
        let remedy = "name each rule: which of them were seen matters";
        diagnostics.add(&["correlation", "rules", &index], "no pattern can stand here", remedy);
    }
    let condition = match &sigma.condition {
        // What the parser makes of no condition.
        CorrelationCondition::Threshold { predicates, field: None, .. }
            if *predicates == [(ConditionOperator::Gte, 1)] =>
        {
            Condition::All(all_rules())
        }
        CorrelationCondition::Threshold { .. } => {
            let remedy = "leave the condition out, or write rules joined by and, or, not";
            diagnostics.add(&key, "rules in time are not compared with a number", remedy);
            return None;
        }
        CorrelationCondition::Extended(_) if is_ordered => {
            diagnostics.add(&key, "all rules have to follow each other", "leave the condition out");
            return None;
        }
        CorrelationCondition::Extended(expression) => {
            convert_condition(expression, &sigma.rules, diagnostics)?
        }
    };
    if !is_ordered {
        return Some(Measure::Temporal { condition });
    }
    let distinct_by = match distinct_by.map(Yaml::as_str) {
        None => None,
        Some(name) => Some(parse_field(
            name.unwrap_or_default(),
            false,
            &["custom_attributes", DISTINCT_BY_KEY],
            diagnostics,
        )?),
    };
    Some(Measure::TemporalOrdered { distinct_by })
}

/// A condition over rules.
fn convert_condition(
    expression: &ConditionExpr,
    rules: &[String],
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Condition> {
    let mut convert_all = |parts: &[ConditionExpr]| -> Option<Vec<Condition>> {
        parts.iter().map(|part| convert_condition(part, rules, diagnostics)).collect()
    };
    match expression {
        ConditionExpr::And(parts) => Some(Condition::All(convert_all(parts)?)),
        ConditionExpr::Or(parts) => Some(Condition::Any(convert_all(parts)?)),
        ConditionExpr::Not(part) => {
            Some(Condition::Not(Box::new(convert_condition(part, rules, diagnostics)?)))
        }
        ConditionExpr::Identifier(name) if rules.contains(name) => {
            Some(Condition::Selection(name.clone()))
        }
        other => {
            let problem = match other {
                ConditionExpr::Identifier(name) => format!("'{name}' is none of the rules"),
                _ => "this condition is not supported".to_owned(),
            };
            let remedy = "join the names under `rules` by and, or, not";
            diagnostics.add(&["correlation", "condition"], problem, remedy);
            None
        }
    }
}

fn threshold(
    (operator, value): &(ConditionOperator, u64),
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Threshold> {
    let comparator = match operator {
        ConditionOperator::Lt => Comparator::Lt,
        ConditionOperator::Lte => Comparator::Lte,
        ConditionOperator::Gt => Comparator::Gt,
        ConditionOperator::Gte => Comparator::Gte,
        ConditionOperator::Eq => Comparator::Eq,
        ConditionOperator::Neq => {
            let key = ["correlation", "condition", "neq"];
            diagnostics.add(&key, "`neq` is not supported", "use gt, gte, eq, lt or lte");
            return None;
        }
    };
    // Sigma's parser reads negative numbers as very large ones.
    let value = *value as i64 as f64;
    Some(Threshold { comparator, value })
}

/// Seconds of a timespan that is within bounds.
fn timespan_seconds(timespan: &Timespan, key: &[&str], diagnostics: &mut Diagnostics<'_>) -> u32 {
    match u32::try_from(timespan.seconds)
        .ok()
        .filter(|seconds| TIMESPAN_RANGE_SECONDS.contains(seconds))
    {
        Some(seconds) => seconds,
        None => {
            let problem = format!("'{timespan}' is not from 10 seconds to 30 days");
            diagnostics.add(key, problem, "choose a time that is, such as 1h");
            *TIMESPAN_RANGE_SECONDS.start()
        }
    }
}

fn parse_timespan(value: &Yaml, key: &[&str], diagnostics: &mut Diagnostics<'_>) -> u32 {
    match value.as_str().map(Timespan::parse) {
        Some(Ok(timespan)) => timespan_seconds(&timespan, key, diagnostics),
        _ => {
            diagnostics.add(key, "this is no time", "write it as 90s, 30m, 24h or 7d");
            *TIMESPAN_RANGE_SECONDS.start()
        }
    }
}

/// What more is asked of the values that are counted.
fn coordination<'y>(
    attribute: &impl Fn(&str) -> Option<&'y Yaml>,
    diagnostics: &mut Diagnostics<'_>,
) -> Coordination {
    let events_per_value = attribute(EVENTS_PER_VALUE_KEY).and_then(|value| {
        let events_per_value = value.as_f64().filter(|events| *events > 0.0);
        if events_per_value.is_none() {
            let problem = "this is no number above 0";
            diagnostics.add(
                &[CUSTOM_ATTRIBUTES, EVENTS_PER_VALUE_KEY],
                problem,
                "write a number of events",
            );
        }
        events_per_value
    });
    let evenness = attribute(EVENNESS_KEY)
        .and_then(|value| percent(value, &[CUSTOM_ATTRIBUTES, EVENNESS_KEY], diagnostics));
    let synchronized_start = attribute(SYNCHRONIZED_START_KEY)
        .and_then(|value| share_within(value, SYNCHRONIZED_START_KEY, diagnostics));
    let handover =
        attribute(HANDOVER_KEY).and_then(|value| share_within(value, HANDOVER_KEY, diagnostics));
    Coordination { events_per_value, evenness, synchronized_start, handover }
}

fn percent(value: &Yaml, key: &[&str], diagnostics: &mut Diagnostics<'_>) -> Option<f64> {
    let percent = value.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() {
        diagnostics.add(key, "this is no percentage", "write a number from 0 to 100");
    }
    percent
}

fn share_within(
    value: &Yaml,
    name: &str,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<ShareWithin> {
    let (Some(within), Some(min_percent)) = (value.get("within"), value.get("min_percent")) else {
        let problem = "a time and a percentage are missing";
        diagnostics.add(
            &[CUSTOM_ATTRIBUTES, name],
            problem,
            "write {within: 10m, min_percent: 60}",
        );
        return None;
    };
    let within = parse_timespan(within, &[CUSTOM_ATTRIBUTES, name, "within"], diagnostics);
    Some(ShareWithin {
        within,
        min_percent: percent(min_percent, &[CUSTOM_ATTRIBUTES, name, "min_percent"], diagnostics)?,
    })
}

const CUSTOM_ATTRIBUTES: &str = "custom_attributes";

/// An indicator lasts as long as its correlation looks back, within these bounds, where nothing is said.
const MIN_TTL_SECONDS: u32 = 3_600;
const MAX_TTL_SECONDS: u32 = 7 * 86_400;

/// What a correlation has beside what it says about itself.
const TOP_LEVEL_KEYS: &[&str] = &["correlation", "generate"];

const CORRELATION_KEYS: &[&str] = &[
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

const CONDITION_KEYS: &[&str] = &["field", "gt", "gte", "lt", "lte", "eq", "neq"];
