//! Parses and checks Sigma correlation rules, and builds the correlations for the bundle.

use hedgerow_core::field::{Field, FieldType};
use hedgerow_core::rules::correlation::{
    Attribution, Coordination, Correlation, MAX_GROUP_BY_FIELDS, Measure, RelativeMinimum,
    ShareWithin, TIMESPAN_RANGE_SECONDS, Threshold,
};
use hedgerow_core::rules::signature::{Comparator, Condition};
use rsigma_parser::{
    ConditionExpr, ConditionOperator, CorrelationCondition, CorrelationRule as SigmaCorrelation,
    CorrelationType, SigmaCollection, Timespan, WindowMode,
};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::{
    CORRELATION_ATTRIBUTES, CUSTOM_ATTRIBUTES, DISTINCT_BY_KEY, EVENNESS_KEY, EVENTS_PER_VALUE_KEY,
    FACT_KEY, HANDOVER_KEY, INDICATORS_OF_KEY, MAX_EVENTS_PER_VALUE_KEY, ONLY_KEY,
    OWN_BEHAVIOR_KEY, OWN_EVIDENCE_KEY, SHARE_OF_KEY, SYNCHRONIZED_START_KEY, TTL_KEY, VARIETY_KEY,
    attribute,
};
use crate::document::Diagnostics;
use crate::event_sequence::{self, EventSequence};
use crate::metadata::{LayerRights, RuleMetadata};
use crate::source_map::SourceMap;
use crate::suggestion::did_you_mean;
use crate::{Finding, Rule, RuleFile, document, metadata};

/// A correlation rule: its correlation, its metadata and its exemplars.
#[derive(Clone, Debug)]
pub struct CorrelationRule {
    /// Correlation as the bundle contains it.
    pub correlation: Correlation,
    /// Metadata for findings and documentation.
    pub metadata: RuleMetadata,
    /// Sequences of events for which the correlation must hold, and for which it must not hold.
    pub exemplars: Vec<EventSequence>,
}

/// Parses and checks a correlation rule. `findings` already contains `previous_findings` findings
/// of other files.
///
/// Returns `None` if Sigma's parser rejects the document. Otherwise, invalid values become
/// findings, and the correlation contains defaults instead of the invalid values.
pub fn parse(
    file: &RuleFile,
    source_map: SourceMap,
    document: &Mapping,
    rights: LayerRights<'_>,
    previous_findings: usize,
    findings: &mut Vec<Finding>,
) -> Option<CorrelationRule> {
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let header = metadata::check(document, rights, &mut diagnostics);
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
    let mut correlation = build_correlation(header, sigma, document, &mut diagnostics);
    if diagnostics.findings.len() > previous_findings {
        correlation.rules.clear();
    }
    Some(CorrelationRule {
        correlation,
        metadata: RuleMetadata::new(file, source_map, document),
        exemplars,
    })
}

/// Builds the correlation of a rule from its header and Sigma's model of it. Adds a finding for
/// each invalid value.
fn build_correlation(
    header: metadata::RuleHeader,
    sigma: SigmaCorrelation,
    document: &Mapping,
    diagnostics: &mut Diagnostics<'_>,
) -> Correlation {
    report_unsupported(&sigma, diagnostics);
    let group_by = group_by(&sigma, diagnostics);
    let timespan = timespan_seconds(&sigma.timespan, &["correlation", "timespan"], diagnostics);
    let measure = measure(&sigma, attribute(document, DISTINCT_BY_KEY), diagnostics);
    let coordination = parse_coordination(document, diagnostics);
    if !coordination.is_empty() && !matches!(measure, Some(Measure::ValueCount { .. }) | None) {
        let problem = format!(
            "`{EVENTS_PER_VALUE_KEY}`, `{MAX_EVENTS_PER_VALUE_KEY}`, `{EVENNESS_KEY}`, \
             `{SYNCHRONIZED_START_KEY}` and `{HANDOVER_KEY}` need `type: value_count`"
        );
        diagnostics.add(&[CUSTOM_ATTRIBUTES], problem, "use value_count, or remove the attribute");
    }
    let attribution = parse_attribution(document, diagnostics);
    let only = parse_only(document, diagnostics);
    let ttl = match attribute(document, TTL_KEY) {
        None => timespan.clamp(MIN_DEFAULT_TTL_SECONDS, MAX_DEFAULT_TTL_SECONDS),
        Some(value) => parse_timespan(value, &[CUSTOM_ATTRIBUTES, TTL_KEY], diagnostics),
    };
    let metadata::RuleHeader { name, id, title, family, status, weight, .. } = header;
    Correlation {
        name,
        id,
        title,
        family,
        status,
        weight,
        rules: sigma.rules,
        only,
        group_by,
        timespan,
        measure: measure.unwrap_or(Measure::EventCount { thresholds: Vec::new() }),
        coordination,
        attribution,
        ttl,
    }
}

/// Replaces patterns such as `elicitation_*` by the names of the matching signatures, and adds a
/// finding for each name or pattern that does not match any rule. Patterns and names do not match
/// deprecated signatures. Also adds a finding if the signature under [`ONLY_KEY`] does not exist.
pub fn resolve(correlations: &mut [CorrelationRule], rules: &[Rule], findings: &mut Vec<Finding>) {
    let active = rules.iter().filter(|rule| !rule.is_deprecated());
    let signatures: Vec<&str> = active.map(|rule| rule.signature.name.as_str()).collect();
    let correlation_names: Vec<String> =
        correlations.iter().map(|rule| rule.correlation.name.clone()).collect();
    let names = || signatures.iter().copied().chain(correlation_names.iter().map(String::as_str));
    for correlation_rule in correlations {
        let only = correlation_rule.correlation.only.as_deref();
        if let Some(only) = only.filter(|only| !signatures.contains(only)) {
            let problem = format!("unknown signature '{only}'");
            let remedy = did_you_mean(only, signatures.iter().copied())
                .unwrap_or_else(|| "name a signature".to_owned());
            let key = [CUSTOM_ATTRIBUTES, ONLY_KEY];
            findings.push(correlation_rule.metadata.finding(&key, problem, remedy));
        }
        let patterns = std::mem::take(&mut correlation_rule.correlation.rules);
        for (index, pattern) in patterns.iter().enumerate() {
            let matching: Vec<&str> = match pattern.strip_suffix('*') {
                Some(prefix) => {
                    signatures.iter().copied().filter(|name| name.starts_with(prefix)).collect()
                }
                None => names().find(|name| name == pattern).into_iter().collect(),
            };
            if matching.is_empty() {
                let key = ["correlation", "rules", &index.to_string()];
                let problem = format!("unknown rule '{pattern}'");
                let remedy = did_you_mean(pattern, names()).unwrap_or_else(|| {
                    "name a signature, signatures by `<family>_*`, or a correlation".to_owned()
                });
                findings.push(correlation_rule.metadata.finding(&key, problem, remedy));
            }
            correlation_rule.correlation.rules.extend(matching.into_iter().map(str::to_owned));
        }
    }
}

/// Adds a finding for each unknown key.
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

/// Adds a finding for each feature of Sigma that is not supported.
fn report_unsupported(sigma: &SigmaCorrelation, diagnostics: &mut Diagnostics<'_>) {
    if sigma.window != WindowMode::Sliding {
        let problem = format!("{} windows are not supported", sigma.window.as_str());
        diagnostics.add(&["correlation", "window"], problem, "remove it: all windows slide");
    }
    if !sigma.aliases.is_empty() {
        let remedy = "remove it: all rules have the same fields";
        diagnostics.add(&["correlation", "aliases"], "aliases are not supported", remedy);
    }
    if sigma.generate {
        let remedy = "remove it: signatures that hold always count by themselves, too";
        diagnostics.add(&["generate"], "`generate` has no effect", remedy);
    }
    if sigma.rules.is_empty() {
        let remedy = "name signatures, or correlations, under `rules`";
        diagnostics.add(&["correlation", "rules"], "no rules", remedy);
    }
}

/// Parses the fields to group by. Adds a finding if their number is wrong. A field that is unknown
/// or has an unsuitable type becomes a finding, and is left out.
fn group_by(sigma: &SigmaCorrelation, diagnostics: &mut Diagnostics<'_>) -> Vec<Field> {
    let count = sigma.group_by.len();
    if !(1..=MAX_GROUP_BY_FIELDS).contains(&count) {
        let problem = format!(
            "the correlation groups by {count} fields: expected one to {MAX_GROUP_BY_FIELDS}"
        );
        let remedy = "name under `group-by` the fields that the requests have in common";
        diagnostics.add(&["correlation", "group-by"], problem, remedy);
    }
    let fields = sigma.group_by.iter().enumerate().map(|(index, name)| {
        let index = index.to_string();
        parse_field(name, false, &["correlation", "group-by", &index], diagnostics)
    });
    fields.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// Parses the name of a field. If `is_sum` is true, the field must have a type that a correlation
/// can sum. Otherwise it must have a type that a correlation can group by or count. Returns `None`,
/// with a finding, for other fields.
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
        let (expected, remedy) = if is_sum {
            ("number or flag", "sum a number")
        } else {
            ("another type", "use a digest or template keys of the text (docs/fields.md)")
        };
        let found = field.field_type().name();
        let problem = format!("'{name}' is of type {found}: expected {expected}");
        diagnostics.add(key, problem, remedy);
        return None;
    }
    Some(field)
}

/// Parses the measure (Sigma's correlation type) and its condition. Returns `None`, with a finding,
/// if they are invalid.
fn measure(
    sigma: &SigmaCorrelation,
    distinct_by: Option<&Yaml>,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<Measure> {
    let key = ["correlation", "condition"];
    let kind = sigma.correlation_type;
    let is_temporal = matches!(kind, CorrelationType::Temporal | CorrelationType::TemporalOrdered);
    if distinct_by.is_some() && kind != CorrelationType::TemporalOrdered {
        let problem = format!("`{DISTINCT_BY_KEY}` needs `type: temporal_ordered`");
        let remedy = "use temporal_ordered, or remove the attribute";
        diagnostics.add(&[CUSTOM_ATTRIBUTES, DISTINCT_BY_KEY], problem, remedy);
    }
    if is_temporal {
        return temporal(sigma, distinct_by, diagnostics);
    }
    let CorrelationCondition::Threshold { predicates, field: fields, .. } = &sigma.condition else {
        let problem = "the condition is invalid: expected a comparison with a number";
        diagnostics.add(&key, problem, "write {gte: NUMBER}");
        return None;
    };
    let thresholds: Vec<Threshold> =
        predicates.iter().filter_map(|predicate| threshold(predicate, diagnostics)).collect();
    if kind == CorrelationType::EventCount {
        if fields.is_some() {
            let problem = "`field` has no effect with event_count";
            diagnostics.add(&key, problem, "remove `field`, or use value_count");
        }
        return Some(Measure::EventCount { thresholds });
    }
    let mut names = fields.iter().flatten();
    let (Some(name), None) = (names.next(), names.next()) else {
        let problem = "the condition is invalid: expected one field";
        diagnostics.add(&key, problem, "write {field: NAME, gte: NUMBER}");
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
            let remedy = "use one of the types in docs/correlations.md";
            diagnostics.add(&["correlation", "type"], problem, remedy);
            None
        }
    }
}

/// Parses the measure of a temporal correlation. If it has no condition, all rules must have an
/// event. Returns `None`, with a finding, if the condition is invalid.
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
        let problem = "a pattern is not supported in a temporal correlation";
        diagnostics.add(&["correlation", "rules", &index], problem, "name each rule");
    }
    let condition = match &sigma.condition {
        // Sigma's parser represents a missing condition as `gte: 1` without a field.
        CorrelationCondition::Threshold { predicates, field: None, .. }
            if *predicates == [(ConditionOperator::Gte, 1)] =>
        {
            Condition::All(all_rules())
        }
        CorrelationCondition::Threshold { .. } => {
            let problem = "the condition is invalid: expected names of rules, and not a number";
            let remedy = "remove the condition, or join names of rules by and, or, not";
            diagnostics.add(&key, problem, remedy);
            return None;
        }
        CorrelationCondition::Extended(_) if is_ordered => {
            let problem = "the condition is not supported: temporal_ordered requires all rules";
            diagnostics.add(&key, problem, "remove the condition");
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
            &[CUSTOM_ATTRIBUTES, DISTINCT_BY_KEY],
            diagnostics,
        )?),
    };
    Some(Measure::TemporalOrdered { distinct_by })
}

/// Converts a condition that consists of names of rules. Returns `None`, with a finding, if it is
/// invalid.
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
                ConditionExpr::Identifier(name) => format!("'{name}' is not one of the rules"),
                _ => "this condition is not supported".to_owned(),
            };
            let remedy = "join the names under `rules` by and, or, not";
            diagnostics.add(&["correlation", "condition"], problem, remedy);
            None
        }
    }
}

/// Converts a comparison with a number. Returns `None`, with a finding, for `neq`.
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
    // Sigma's parser returns a negative number as its two's complement; the first cast restores the
    // sign.
    let value = *value as i64 as f64;
    Some(Threshold { comparator, value })
}

/// Returns a timespan in seconds. If it is out of range, returns the minimum, and adds a finding.
fn timespan_seconds(timespan: &Timespan, key: &[&str], diagnostics: &mut Diagnostics<'_>) -> u32 {
    let seconds = u32::try_from(timespan.seconds).ok();
    seconds.filter(|seconds| TIMESPAN_RANGE_SECONDS.contains(seconds)).unwrap_or_else(|| {
        let problem = format!("'{timespan}' is out of range: expected 10 seconds to 30 days");
        diagnostics.add(key, problem, "choose for example 1h");
        *TIMESPAN_RANGE_SECONDS.start()
    })
}

/// Parses a timespan such as `90s`, and returns it in seconds. If it is invalid, returns the
/// minimum, and adds a finding.
fn parse_timespan(value: &Yaml, key: &[&str], diagnostics: &mut Diagnostics<'_>) -> u32 {
    match value.as_str().map(Timespan::parse) {
        Some(Ok(timespan)) => timespan_seconds(&timespan, key, diagnostics),
        _ => {
            let problem = "the timespan is invalid: expected a number and a unit";
            diagnostics.add(key, problem, "write it as 90s, 30m, 24h or 7d");
            *TIMESPAN_RANGE_SECONDS.start()
        }
    }
}

/// Parses the custom attributes with further conditions on the counted values, such as evenness. An
/// invalid attribute becomes a finding, and is left out.
fn parse_coordination(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Coordination {
    let mut event_number = |name: &str| {
        let value = attribute(document, name)?;
        let events = value.as_f64().filter(|events| *events > 0.0);
        if events.is_none() {
            let problem = format!("`{name}` is invalid: expected a number above 0");
            diagnostics.add(&[CUSTOM_ATTRIBUTES, name], problem, "write a number of events");
        }
        events
    };
    let events_per_value = event_number(EVENTS_PER_VALUE_KEY);
    let max_events_per_value = event_number(MAX_EVENTS_PER_VALUE_KEY);
    let evenness = attribute(document, EVENNESS_KEY)
        .and_then(|value| percent(value, &[CUSTOM_ATTRIBUTES, EVENNESS_KEY], diagnostics));
    let mut share = |key: &str| {
        attribute(document, key).and_then(|value| share_within(value, key, diagnostics))
    };
    let synchronized_start = share(SYNCHRONIZED_START_KEY);
    let handover = share(HANDOVER_KEY);
    Coordination { events_per_value, max_events_per_value, evenness, synchronized_start, handover }
}

/// Parses the name of the signature that each counted event must also match. Returns `None` if the
/// attribute is missing or, with a finding, if it is invalid.
fn parse_only(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Option<String> {
    let value = attribute(document, ONLY_KEY)?;
    let name = value.as_str().map(str::to_owned);
    if name.is_none() {
        let problem = format!("`{ONLY_KEY}` is invalid: expected the name of a signature");
        let remedy = "write a name such as traffic_single_turn";
        diagnostics.add(&[CUSTOM_ATTRIBUTES, ONLY_KEY], problem, remedy);
    }
    name
}

/// Parses the custom attributes that determine the requests to which the evidence of the
/// correlation is added. An invalid attribute becomes a finding, and is replaced by its default.
fn parse_attribution(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Attribution {
    let mut invalid = |name: &str, problem: &str, remedy: &str| {
        let problem = format!("`{name}` is invalid: expected {problem}");
        diagnostics.add(&[CUSTOM_ATTRIBUTES, name], problem, remedy);
    };
    let to_accounts = match attribute(document, INDICATORS_OF_KEY).map(Yaml::as_str) {
        None | Some(Some("key")) => false,
        Some(Some("accounts")) => true,
        Some(_) => {
            let remedy = "write accounts, or remove the attribute";
            invalid(INDICATORS_OF_KEY, "key or accounts", remedy);
            false
        }
    };
    let mut decibans = |key: &str| {
        attribute(document, key).map_or(0.0, |value| {
            value.as_f64().filter(|decibans| *decibans >= 0.0).unwrap_or_else(|| {
                invalid(key, "a number of decibans", "write a number such as 4");
                0.0
            })
        })
    };
    let (own_evidence, own_behavior) = (decibans(OWN_EVIDENCE_KEY), decibans(OWN_BEHAVIOR_KEY));
    let fact_group = attribute(document, FACT_KEY).and_then(|value| {
        let fact = value.as_str().filter(|fact| !fact.is_empty()).map(str::to_owned);
        if fact.is_none() {
            invalid(FACT_KEY, "a name", "write a word such as load");
        }
        fact
    });
    let mut relative_minimum = |key: &str, remedy: &str| {
        let value = attribute(document, key)?;
        let correlation = value.get("correlation").and_then(Yaml::as_str);
        let percent = value.get("min_percent").and_then(Yaml::as_f64);
        let minimum = correlation.zip(percent).filter(|(_, min)| (0.0..=100.0).contains(min));
        if minimum.is_none() {
            invalid(key, "a correlation and a percentage", remedy);
        }
        let (correlation, min_percent) = minimum?;
        Some(RelativeMinimum { correlation: correlation.to_owned(), min_percent })
    };
    let share = relative_minimum(
        SHARE_OF_KEY,
        "write {correlation: cluster_template_day, min_percent: 20}",
    );
    let variety =
        relative_minimum(VARIETY_KEY, "write {correlation: cluster_seed_prompts, min_percent: 40}");
    Attribution { to_accounts, own_evidence, own_behavior, fact_group, share, variety }
}

/// Parses a percentage. Returns `None`, with a finding, if it is invalid.
fn percent(value: &Yaml, key: &[&str], diagnostics: &mut Diagnostics<'_>) -> Option<f64> {
    let percent = value.as_f64().filter(|percent| (0.0..=100.0).contains(percent));
    if percent.is_none() {
        let problem = "the percentage is invalid: expected a number from 0 to 100";
        diagnostics.add(key, problem, "write a number without a sign, such as 60");
    }
    percent
}

/// Parses the value of the attribute `name`, in the form `{within: 10m, min_percent: 60}`. Returns
/// `None`, with a finding, if it is invalid.
fn share_within(
    value: &Yaml,
    name: &str,
    diagnostics: &mut Diagnostics<'_>,
) -> Option<ShareWithin> {
    let key = [CUSTOM_ATTRIBUTES, name];
    let (Some(within), Some(min_percent)) = (value.get("within"), value.get("min_percent")) else {
        let problem = format!("`{name}` is invalid: expected a time and a percentage");
        diagnostics.add(&key, problem, "write {within: 10m, min_percent: 60}");
        return None;
    };
    let within = parse_timespan(within, &[&key[..], &["within"]].concat(), diagnostics);
    let min_percent = percent(min_percent, &[&key[..], &["min_percent"]].concat(), diagnostics)?;
    Some(ShareWithin { within, min_percent })
}

/// Minimum default lifetime of an indicator in seconds. The default is the timespan of the
/// correlation, limited to this minimum and to the maximum.
const MIN_DEFAULT_TTL_SECONDS: u32 = 3_600;
/// Maximum default lifetime of an indicator in seconds.
const MAX_DEFAULT_TTL_SECONDS: u32 = 7 * 86_400;

/// The keys of a correlation rule in addition to the metadata.
const TOP_LEVEL_KEYS: &[&str] = &["correlation", "generate"];

/// Sigma's keys under `correlation`. The list includes keys that are not supported, because another
/// check reports them.
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

/// Sigma's keys under `condition`.
const CONDITION_KEYS: &[&str] = &["field", "gt", "gte", "lt", "lte", "eq", "neq"];
