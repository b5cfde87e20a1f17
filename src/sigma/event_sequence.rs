//! Exemplars of a correlation: sequences of events, and whether it must hold for each.

use rsigma_parser::{EXEMPLARS_KEY, ExemplarPayload, ExemplarRuleKind, Expect};
use yaml_serde::{Mapping, Value as Yaml};

use crate::document::Diagnostics;
use crate::exemplar::{check_event, check_exemplar_count, report_shape_errors};

/// Events that a correlation must, or must not, hold for.
#[derive(Clone, Debug)]
pub struct EventSequence {
    /// What it shows.
    pub name: String,
    /// Whether the correlation must hold at some event.
    pub should_match: bool,
    /// Seconds from the first moment, and field names and values; in the order of time.
    pub events: Vec<(u32, Mapping)>,
}

/// Reads a correlation's exemplars and checks their events.
pub fn read(document: &Mapping, diagnostics: &mut Diagnostics<'_>) -> Vec<EventSequence> {
    let exemplars_yaml =
        document.get("custom_attributes").and_then(|attributes| attributes.get(EXEMPLARS_KEY));
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
    let path = format!("/custom_attributes/{EXEMPLARS_KEY}");
    let parsed = exemplars_yaml
        .map(|yaml| rsigma_parser::parse_exemplars(yaml, ExemplarRuleKind::Correlation, path));
    match parsed.unwrap_or(Ok(Vec::new())) {
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
            let shape = "write {name, expect: match | no-match, events: [{offset: 1m, event: {field: value}}]}";
            report_shape_errors(errors, shape, diagnostics);
            Vec::new()
        }
    }
}

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
