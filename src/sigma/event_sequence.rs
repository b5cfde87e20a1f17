//! Exemplars of a correlation: sequences of timed events for which the correlation must hold, or
//! must not hold.

use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, Expect};
use yaml_serde::{Mapping, Value as Yaml};

use crate::attributes::attribute;
use crate::document::Diagnostics;
use crate::exemplar::{check_event, check_exemplar_count, parse_shape, report_shape_errors};

/// A sequence of events for which a correlation must hold, or must not hold.
#[derive(Clone, Debug)]
pub struct EventSequence {
    /// Name, unique within the rule.
    pub name: String,
    /// Whether the correlation must hold for at least one event. If false, it must not hold for any
    /// event.
    pub should_match: bool,
    /// Events in the order of time. Each one has its time in seconds since the start, and its
    /// values by field name.
    pub events: Vec<(u32, Mapping)>,
}

/// Parses the exemplars of a correlation, and checks their events. If any exemplar has the wrong
/// structure, adds findings, and returns no exemplars.
pub fn read(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Vec<EventSequence> {
    let exemplars_yaml = attribute(document, EXEMPLARS_KEY);
    for (index, exemplar) in
        exemplars_yaml.and_then(Yaml::as_sequence).into_iter().flatten().enumerate()
    {
        let events = exemplar.get("events").and_then(Yaml::as_sequence);
        for (event_index, event) in events.into_iter().flatten().enumerate() {
            if let Some(event) = event.get("event").and_then(Yaml::as_mapping) {
                let (index, event_index) = (index.to_string(), event_index.to_string());
                check_event(event, &[&index, "events", &event_index, "event"], diagnostics);
            }
        }
    }
    let kind = ExemplarRuleKind::Correlation;
    match exemplars_yaml.map_or(Ok(Vec::new()), |yaml| parse_shape(yaml, kind)) {
        Ok(parsed) => {
            let exemplars: Vec<EventSequence> =
                parsed.into_iter().filter_map(event_sequence).collect();
            check_exemplar_count(
                exemplars.iter().map(|exemplar| exemplar.should_match),
                diagnostics,
            );
            exemplars
        }
        Err(errors) => {
            report_shape_errors(errors, SHAPE_REMEDY, diagnostics);
            Vec::new()
        }
    }
}

/// Converts a parsed exemplar; `None` if it is not a sequence.
fn event_sequence(parsed: rsigma_parser::Exemplar) -> Option<EventSequence> {
    let ExemplarPayload::Sequence(sequence) = parsed.payload else { return None };
    let events = sequence.into_iter().filter_map(|event| match event.event {
        Yaml::Mapping(values) => {
            Some((u32::try_from(event.offset.seconds).unwrap_or(u32::MAX), values))
        }
        _ => None,
    });
    let mut events: Vec<(u32, Mapping)> = events.collect();
    events.sort_by_key(|(offset, _)| *offset);
    Some(EventSequence { name: parsed.name, should_match: parsed.expect == Expect::Match, events })
}

const SHAPE_REMEDY: &str =
    "write {name, expect: match | no-match, events: [{offset: 1m, event: {field: value}}]}";
