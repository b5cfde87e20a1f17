//! Observations on their way to a correlator: the form of a batch, and what keeps one that comes twice
//! from counting twice.
//!
//! A batch is a version byte and then, in postcard: who sends, which of its batches this is, the names
//! of rules and fields, and the observations, which name both by their place. Sender and receiver may
//! go by different rulesets: what the receiver does not know is left out.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{MAX_VALUES, Observation};
use crate::error::Error;

/// Observations that a batch has at most.
pub const MAX_BATCH: usize = 512;

/// The form that this version writes, and the only one that it reads.
const VERSION: u8 = 1;

/// Names of rules, and of fields, that a batch has at most.
const MAX_NAMES: usize = 10_000;

/// Senders that are remembered.
const MAX_SENDERS: usize = 10_000;

/// Observations on their way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Who sends: a number that it gives itself.
    #[serde(with = "postcard::fixint::le")]
    pub source: u64,
    /// Which of its batches to this receiver it is: each has a higher number than the one before.
    pub sequence: u64,
    rules: Vec<String>,
    fields: Vec<String>,
    observations: Vec<Packed>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Packed {
    at: u32,
    rules: Vec<u16>,
    values: Vec<Hash>,
    numbers: Vec<(u16, f64)>,
}

/// A field and a hash, which varying lengths would make longer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Hash(u16, #[serde(with = "postcard::fixint::le")] u64);

impl Batch {
    /// A batch of observations that were made by one plan.
    pub fn new<'o>(
        (source, sequence): (u64, u64),
        plan: &Plan,
        observations: impl IntoIterator<Item = &'o Observation>,
    ) -> Self {
        Self {
            source,
            sequence,
            rules: plan.rules().to_vec(),
            fields: plan.fields().iter().map(|field| field.name()).collect(),
            observations: observations.into_iter().map(Packed::of).collect(),
        }
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads what was sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::new("this is no batch of observations", "send it again");
        let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
        if *version != VERSION {
            let problem = format!("version {version} of batches is not known");
            return Err(Error::new(problem, "deploy sender and receiver together"));
        }
        let (batch, rest) = postcard::take_from_bytes::<Self>(rest).map_err(|_| damaged())?;
        let is_large = batch.observations.len() > MAX_BATCH
            || batch.rules.len().max(batch.fields.len()) > MAX_NAMES;
        if !rest.is_empty() || is_large || !batch.observations.iter().all(|own| batch.names(own)) {
            return Err(damaged());
        }
        Ok(batch)
    }

    /// The observations, by the places of another plan.
    pub fn observations(&self, plan: &Plan) -> Vec<Observation> {
        let place = |at: Option<usize>| at.and_then(|at| u16::try_from(at).ok());
        let rules =
            self.rules.iter().map(|name| place(plan.rules().iter().position(|own| own == name)));
        let fields: Vec<String> = plan.fields().iter().map(|field| field.name()).collect();
        let fields =
            self.fields.iter().map(|name| place(fields.iter().position(|own| own == name)));
        let (rules, fields): (Vec<_>, Vec<_>) = (rules.collect(), fields.collect());
        self.observations.iter().map(|own| own.unpack(&rules, &fields)).collect()
    }

    /// The number of observations.
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// Whether everything that an observation names by its place is there.
    fn names(&self, packed: &Packed) -> bool {
        let is_field = |place: u16| usize::from(place) < self.fields.len();
        packed.rules.iter().all(|place| usize::from(*place) < self.rules.len())
            && packed.values.iter().all(|Hash(place, _)| is_field(*place))
            && packed.numbers.iter().all(|(place, _)| is_field(*place))
            && packed.values.len() <= self.fields.len().saturating_mul(MAX_VALUES)
    }
}

impl Packed {
    fn of(observation: &Observation) -> Self {
        let mut values = Vec::with_capacity(observation.values.len());
        for run in observation.values.chunk_by(|(left, _), (right, _)| left == right) {
            values.extend(run.iter().take(MAX_VALUES).map(|(place, hash)| Hash(*place, *hash)));
        }
        let Observation { at, rules, numbers, .. } = observation.clone();
        Self { at, rules, values, numbers }
    }

    fn unpack(&self, rules: &[Option<u16>], fields: &[Option<u16>]) -> Observation {
        let place =
            |places: &[Option<u16>], at: u16| places.get(usize::from(at)).copied().flatten();
        let mut values: Vec<(u16, u64)> = self
            .values
            .iter()
            .filter_map(|Hash(at, hash)| Some((place(fields, *at)?, *hash)))
            .collect();
        values.sort_by_key(|(place, _)| *place);
        let finite = self.numbers.iter().filter(|(_, number)| number.is_finite());
        Observation {
            at: self.at,
            rules: self.rules.iter().filter_map(|at| place(rules, *at)).collect(),
            values,
            numbers: finite
                .filter_map(|(at, number)| Some((place(fields, *at)?, *number)))
                .collect(),
        }
    }
}

/// What has come, by sender.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Receipts(BTreeMap<u64, Receipt>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    sequence: u64,
    at: u32,
}

impl Receipts {
    /// Notes a batch; whether it has not come before.
    pub fn note(&mut self, batch: &Batch, now: u32) -> bool {
        let Batch { source, sequence, .. } = *batch;
        let known = self.0.get(&source);
        if known.is_some_and(|known| sequence <= known.sequence) {
            return false;
        }
        if known.is_none() && self.0.len() >= MAX_SENDERS {
            let oldest = self.0.iter().min_by_key(|(_, receipt)| receipt.at);
            if let Some(oldest) = oldest.map(|(source, _)| *source) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(source, Receipt { sequence, at: now });
        true
    }

    /// As they are stored.
    pub fn bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads what was stored.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let damaged = || Error::new("these are no receipts", "drop them");
        match bytes.split_first() {
            Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| damaged()),
            _ => Err(damaged()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::correlate::{Correlator, Shard};
    use crate::correlation::{Bound, Correlation, Crowd, Measure};
    use crate::field::Field;
    use crate::signature::{Order, Status};

    fn field(name: &str) -> Field {
        Field::parse(name).unwrap()
    }

    /// A plan that counts accounts by each of some fields.
    fn plan(rule: &str, fields: &[&str]) -> Plan {
        let bounds = vec![Bound { order: Order::Gte, value: 3.0 }];
        let correlation = |by: &&str| Correlation {
            name: format!("cluster_{by}"),
            id: String::new(),
            title: String::new(),
            family: "cluster".into(),
            status: Status::Stable,
            weight: 3.0,
            rules: vec![rule.into()],
            group_by: vec![field(by)],
            timespan: 60,
            measure: Measure::ValueCount {
                field: field("hedgerow.account"),
                bounds: bounds.clone(),
            },
            crowd: Crowd::default(),
            lasts: 60,
        };
        Plan::new(fields.iter().map(correlation).collect(), &BTreeSet::from(["a", "b"])).unwrap()
    }

    fn observation(values: &[(u16, u64)]) -> Observation {
        let numbers = vec![(1, 2.5)];
        Observation { at: 1_800_000_000, rules: vec![0], values: values.to_vec(), numbers }
    }

    #[test]
    fn a_batch_survives_another_order_of_fields_and_loses_what_is_not_known() {
        let sender =
            plan("a", &["hedgerow.template.user", "user_agent.original", "client.address"]);
        let receiver = plan("a", &["client.address", "hedgerow.template.user"]);
        let sent = observation(&[(0, 10), (1, 20), (1, 21), (2, 30), (3, 40)]);
        let batch = Batch::parse(&Batch::new((7, 1), &sender, [&sent]).bytes()).unwrap();
        assert_eq!((batch.source, batch.sequence, batch.len()), (7, 1, 1));
        let expected = Observation {
            values: vec![(0, 10), (1, 40), (2, 20), (2, 21)],
            numbers: vec![(2, 2.5)],
            ..sent.clone()
        };
        assert_eq!(batch.observations(&receiver), [expected]);
        let stranger = plan("b", &["client.address"]);
        assert!(batch.observations(&stranger).iter().all(|own| own.rules.is_empty()));
        assert_eq!(batch.observations(&sender), [sent]);
    }

    #[test]
    fn an_observation_is_counted_by_the_shards_that_own_it_and_by_no_other() {
        let plan = Arc::new(plan("a", &["hedgerow.template.user", "client.address"]));
        for seed in 0..200_u64 {
            let hash = |number: u64| crate::hash::mix(seed * 100 + number);
            let values = [(0, hash(0)), (1, hash(1)), (1, hash(2)), (2, hash(3))];
            let sent = observation(&values);
            let owners = plan.owners(&sent, 8);
            assert!((1..=3).contains(&owners.len()), "{owners:?}");
            for number in 0..8 {
                let shard = Shard { number, of: 8 };
                let mut counter = Correlator::new(Arc::clone(&plan), shard, 1 << 20);
                counter.observe(&sent, sent.at, &mut Vec::new());
                assert_eq!(counter.groups() > 0, owners.contains(&number), "{seed} {number}");
            }
            assert!(plan.owners(&Observation { rules: vec![], ..sent }, 8).is_empty());
        }
    }

    /// Isolates and objects of different versions talk to each other while a deployment spreads.
    #[test]
    fn the_form_stays_what_it_is() {
        let plan = plan("a", &["client.address"]);
        let bytes = Batch::new((1, 300), &plan, [&observation(&[(0, 2), (1, 3)])]).bytes();
        let mut expected = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0xac, 2, 1, 1, b'a', 2, 16];
        expected.extend(b"hedgerow.account");
        expected.push(14);
        expected.extend(b"client.address");
        expected.extend([1, 0x80, 0xa4, 0xa7, 0xda, 6, 1, 0]);
        expected.extend([2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 1, 0, 0, 0, 0, 0, 0, 4, 0x40]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn what_is_no_batch_is_refused() {
        let plan = plan("a", &["client.address"]);
        let good = Batch::new((1, 1), &plan, [&observation(&[(0, 2), (1, 3)])]);
        let bytes = good.bytes();
        for end in 0..bytes.len() {
            assert!(Batch::parse(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Batch::parse(&[bytes.as_slice(), &[0]].concat()).is_err(), "more than a batch");
        let newer = [&[2], &bytes[1..]].concat();
        assert!(Batch::parse(&newer).unwrap_err().problem().contains("version 2"));
        // A length that nobody could hold.
        let mut huge = vec![1; 10];
        huge.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(Batch::parse(&huge).is_err());
        let many = vec![observation(&[]); MAX_BATCH + 1];
        assert!(Batch::parse(&Batch::new((1, 1), &plan, &many).bytes()).is_err());
        for nameless in [observation(&[(2, 1)]), Observation { rules: vec![1], ..observation(&[]) }]
        {
            assert!(Batch::parse(&Batch::new((1, 1), &plan, [&nameless]).bytes()).is_err());
        }
        for seed in 0..20_000_u64 {
            let mut other = bytes.clone();
            let noise = crate::hash::mix(seed);
            let place = noise as usize % other.len();
            other[place] = (noise >> 32) as u8;
            if let Ok(batch) = Batch::parse(&other) {
                assert!(batch.observations(&plan).len() <= MAX_BATCH);
            }
        }
    }

    #[test]
    fn a_batch_that_comes_twice_counts_once() {
        let plan = plan("a", &["client.address"]);
        let batch = |source, sequence| Batch::new((source, sequence), &plan, []);
        let mut receipts = Receipts::default();
        let rows = [(1, 1, true), (1, 1, false), (1, 3, true), (1, 2, false), (2, 1, true)];
        for (source, sequence, expected) in rows {
            assert_eq!(
                receipts.note(&batch(source, sequence), 10),
                expected,
                "{source} {sequence}"
            );
        }
        let mut receipts = Receipts::parse(&receipts.bytes()).unwrap();
        assert!(!receipts.note(&batch(1, 3), 10));
        assert!(Receipts::parse(&[2]).is_err() && Receipts::parse(&[]).is_err());
        for source in 0..MAX_SENDERS as u64 + 5 {
            receipts.note(&batch(source, 9), 20);
        }
        assert_eq!(receipts.0.len(), MAX_SENDERS);
    }
}
