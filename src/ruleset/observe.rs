//! From a request to what correlation keeps of it, and to the indicators that its keys meet.
#![deny(clippy::arithmetic_side_effects)]

use super::Ruleset;
use crate::correlate::{Groups, MAX_VALUES, Observation, combine};
use crate::explain::Explainer;
use crate::field::{Field, Kind, Name, OUTCOMES};
use crate::hash::{HashKey, join};
use crate::matcher::{Evidence, Hit};
use crate::policy::Action;
use crate::request::{Envelope, Request, Value};
use crate::signature::{Signature, Status, Test};

impl Ruleset {
    /// What correlation keeps of a request for which `hits` held, of `llr` decibans together.
    pub(super) fn observation(
        &self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        hits: &[Hit],
        llr: f64,
    ) -> Observation {
        let rules = hits.iter().filter_map(|hit| self.events.get(hit.signature).copied().flatten());
        let mut observation = Observation {
            at: u32::try_from(envelope.now).unwrap_or(u32::MAX),
            rules: rules.collect(),
            values: Vec::with_capacity(USUAL),
            ..Observation::default()
        };
        let mut values = Vec::with_capacity(USUAL);
        for (place, field) in (0_u16..).zip(self.plan.fields()) {
            match field {
                Field::Known(name)
                    if field.kind() == Kind::Number || field.kind() == Kind::Flag =>
                {
                    let own = request.numbers().iter().filter(|(own, _)| own == name);
                    let own = own.map(|(_, number)| *number);
                    let is_llr = *name == Name::Llr;
                    let mut numbers: Vec<f64> = own.chain(is_llr.then_some(llr)).collect();
                    observation.numbers.extend(numbers.first().map(|number| (place, *number)));
                    numbers.sort_by(f64::total_cmp);
                    numbers.dedup();
                    numbers.truncate(MAX_VALUES);
                    let hash = |number: f64| {
                        envelope.key.value(name.row().name, &number.to_bits().to_le_bytes())
                    };
                    observation
                        .values
                        .extend(numbers.into_iter().map(|number| (place, hash(number))));
                }
                field => {
                    values.clear();
                    self.values(envelope, request, hits, field, &mut values);
                    values.sort_unstable();
                    values.dedup();
                    // A body may name any number of models.
                    values.truncate(MAX_VALUES);
                    observation.values.extend(values.iter().map(|value| (place, *value)));
                }
            }
        }
        observation
    }

    /// Adds how a request ended: how it was answered, and what was done about it. One whose credential the
    /// origin does not know counts for nothing else: anybody can make up credentials, and with them
    /// accounts that seem to share what others send.
    pub fn conclude(
        &self,
        observation: &mut Observation,
        key: &HashKey,
        status: u16,
        action: Action,
    ) {
        let values = [
            (Name::StatusCode, Value::Number(f64::from(status))),
            (Name::Action, Value::Keyword(action.name())),
        ];
        let request = Request::from_values(values);
        let explainer = Explainer::default();
        if status == UNKNOWN_CREDENTIAL {
            observation.rules.clear();
        }
        for place in &self.outcomes {
            let Some(signature) = self.signatures.get(*place) else { continue };
            if explainer.holds(signature, &request, &[]) {
                observation.rules.extend(self.events.get(*place).copied().flatten());
            }
        }
        for (place, field) in (0_u16..).zip(self.plan.fields()) {
            let (Field::Known(name @ (Name::StatusCode | Name::Action)), field) =
                (field, field.name())
            else {
                continue;
            };
            let value = match name {
                Name::StatusCode => key.value(&field, &f64::from(status).to_bits().to_le_bytes()),
                _ => key.value(&field, action.name().as_bytes()),
            };
            if *name == Name::StatusCode {
                observation.numbers.push((place, f64::from(status)));
            }
            let at = observation.values.partition_point(|(own, _)| *own <= place);
            observation.values.insert(at, (place, value));
        }
    }

    /// The indicators that a request's keys meet, as hits.
    pub(super) fn indicated(&self, envelope: &Envelope<'_>, observation: &Observation) -> Vec<Hit> {
        let Some(indicators) = envelope.indicators.filter(|known| !known.is_empty()) else {
            return Vec::new();
        };
        let mut met: Vec<Met<'_>> = Vec::new();
        let mut groups = Groups::default();
        for fields in self.plan.groupings() {
            let template = fields.iter().position(|field| self.is_template(*field));
            combine(fields, observation, &mut groups);
            for group in groups.iter() {
                let key = join(group);
                let template = template.and_then(|place| group.get(place)).copied();
                for indicator in indicators.of(key, envelope.now) {
                    let Some(signature) = self.correlated(indicator.correlation) else { continue };
                    match met.iter_mut().find(|own| own.signature == signature) {
                        Some(own) if own.templates.contains(&template) => {}
                        Some(own) => own.templates.push(template),
                        None => met.push(Met { signature, key, fields, templates: vec![template] }),
                    }
                }
            }
        }
        met.retain(|own| own.templates.len() >= self.needed(observation, own.fields));
        let hit = |own: Met<'_>| {
            let field = own.fields.first().and_then(|field| self.field(*field));
            let evidence = field.map(|field| Evidence { field: field.clone(), start: 0, end: 0 });
            let evidence = evidence.into_iter().collect();
            Hit { signature: own.signature, evidence, key: Some(own.key) }
        };
        met.into_iter().map(hit).collect()
    }

    /// How many template keys of a request have to be suspicious. Who uses a template shares several of
    /// its keys; who quotes what others quote, or asks a question that is in a public list, shares one.
    fn needed(&self, observation: &Observation, fields: &[u16]) -> usize {
        let template = fields.iter().find(|field| self.is_template(**field));
        if template.is_some_and(|field| observation.values(*field).len() > 2) { 2 } else { 1 }
    }

    fn is_template(&self, field: u16) -> bool {
        matches!(self.field(field), Some(Field::Known(Name::TemplateUser | Name::TemplateSystem)))
    }

    fn field(&self, place: u16) -> Option<&Field> {
        self.plan.fields().get(usize::from(place))
    }

    /// The place of a correlation among the signatures.
    fn correlated(&self, name: &str) -> Option<usize> {
        let place = self.plan.correlations().iter().position(|own| own.name == name)?;
        self.first_correlation().checked_add(place)
    }

    /// Adds the hashed values of a field that is no number.
    fn values(
        &self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        hits: &[Hit],
        field: &Field,
        values: &mut Vec<u64>,
    ) {
        let key = &envelope.key;
        match field {
            Field::Known(name @ Name::ClientAddress) => {
                let own = request.keywords().iter().filter(|(own, _)| own == name);
                values.extend(own.filter_map(|(_, address)| key.network(address)));
            }
            Field::Known(name @ Name::SignatureName) => {
                let held = hits.iter().filter_map(|hit| self.signatures.get(hit.signature));
                let counts = held.filter(|signature| signature.status != Status::Experimental);
                let weighs = counts.filter(|signature| signature.weight > 0.0);
                let hash = |own: &Signature| key.value(name.row().name, own.name.as_bytes());
                values.extend(weighs.map(hash));
                values.extend(request.hashes(*name, key));
            }
            Field::Known(name) if field.kind() == Kind::Key => {
                values.extend(request.hashes(*name, key));
            }
            Field::Known(name) => {
                let own = request.keywords().iter().filter(|(own, _)| own == name);
                values.extend(own.map(|(_, value)| key.value(name.row().name, value.as_bytes())));
            }
            Field::Header(name) => {
                let own = envelope.headers.iter().filter(|(own, _)| own == name);
                values.extend(own.map(|(_, value)| key.value(&field.name(), value.as_bytes())));
            }
        }
    }
}

/// How an origin answers a credential that it does not know.
const UNKNOWN_CREDENTIAL: u16 = 401;

/// Values that an observation usually has.
const USUAL: usize = 64;

/// A correlation that a request's keys are indicators of.
struct Met<'p> {
    signature: usize,
    /// The first of the keys.
    key: u64,
    /// What makes its groups.
    fields: &'p [u16],
    /// The template keys in those groups, each once; a single `None` where there are none in it.
    templates: Vec<Option<u64>>,
}

/// Whether a signature tests nothing but how a request ended.
pub(super) fn is_outcome(signature: &Signature) -> bool {
    let mut all = true;
    let is_outcome = |field: &Field| matches!(field, Field::Known(name) if OUTCOMES.contains(name));
    let tests: Vec<&Test> = signature.selections.values().collect();
    tests.iter().for_each(|test| test.each(&mut |test| all &= is_outcome(&test.field)));
    all && !tests.is_empty()
}
