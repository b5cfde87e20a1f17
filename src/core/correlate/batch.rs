//! Batches of observations, sent from isolates to a correlator.
//!
//! A batch begins with a version byte. The rest is in the format of the crate `postcard`: the
//! sender, the sequence number, the names of signatures and fields, the observations, and the
//! number of observations that still wait at the sender. Observations refer to signatures and
//! fields by the index of the name, because sender and receiver may have different rulesets. The
//! receiver drops names that its plan does not have.
//!
//! Sequence numbers make delivery idempotent: [`SequenceTracker`] rejects a batch that was received
//! before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::observation::{MAX_VALUES_PER_FIELD, Observation};
use super::plan::Plan;
use crate::error::Error;

/// Maximum number of observations in a batch.
pub const MAX_BATCH_OBSERVATIONS: usize = 512;

/// Format version, the first byte of a batch and of a tracker. Other versions are rejected.
const FORMAT_VERSION: u8 = 1;

/// Maximum number of signature names, and of field names, in a batch.
const MAX_NAMES: usize = 10_000;

/// Maximum number of senders that a tracker remembers.
const MAX_SENDERS: usize = 10_000;

/// Observations on their way to a correlator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Id that the sender has chosen for itself.
    #[serde(with = "postcard::fixint::le")]
    pub sender_id: u64,
    /// Sequence number: higher than the number of any earlier batch from the sender to this
    /// receiver.
    pub sequence: u64,
    signatures: Vec<String>,
    fields: Vec<String>,
    observations: Vec<WireObservation>,
    /// Number of observations for the same receiver that still wait at the sender.
    pub queued: u32,
}

/// An observation, with indexes into the names of its batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct WireObservation {
    /// Time of the request, in seconds since the epoch.
    at: u32,
    signatures: Vec<u16>,
    values: Vec<FieldHash>,
    numbers: Vec<(u16, f64)>,
    proven: bool,
    /// Hash of the tenant; 0 if it is unknown. As a varint, 0 takes a single byte.
    tenant: u64,
    /// Hash of the network of the client's address; 0 if it is unknown.
    network: u64,
}

/// The index of a field, and the hash of a value. The hash is encoded in eight bytes, because most
/// hashes would take more as a varint.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct FieldHash(u16, #[serde(with = "postcard::fixint::le")] u64);

impl Batch {
    /// Creates a batch of observations whose indexes refer to `plan`.
    pub fn new<'o>(
        sender_id: u64,
        sequence: u64,
        plan: &Plan,
        observations: impl IntoIterator<Item = &'o Observation>,
    ) -> Self {
        Self {
            sender_id,
            sequence,
            signatures: plan.signatures().to_vec(),
            fields: plan.fields().iter().map(|field| field.name()).collect(),
            observations: observations.into_iter().map(WireObservation::from_observation).collect(),
            queued: 0,
        }
    }

    /// Sets [`Batch::queued`], the number of observations that still wait at the sender.
    pub fn with_queued(self, queued: usize) -> Self {
        Self { queued: u32::try_from(queued).unwrap_or(u32::MAX), ..self }
    }

    /// Encodes the batch.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT_VERSION]).unwrap_or_default()
    }

    /// Decodes a batch.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a batch of this format version, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = || Error::new("batch of observations is invalid", "send it again");
        let (version, payload) = bytes.split_first().ok_or_else(invalid)?;
        if *version != FORMAT_VERSION {
            let problem = format!(
                "batch of observations has format version {version}: expected {FORMAT_VERSION}"
            );
            return Err(Error::new(problem, "deploy sender and receiver from the same release"));
        }
        let (batch, trailing) =
            postcard::take_from_bytes::<Self>(payload).map_err(|_| invalid())?;
        let is_too_large = batch.observations.len() > MAX_BATCH_OBSERVATIONS
            || batch.signatures.len().max(batch.fields.len()) > MAX_NAMES;
        if !trailing.is_empty()
            || is_too_large
            || !batch.observations.iter().all(|observation| batch.has_valid_indexes(observation))
        {
            return Err(invalid());
        }
        Ok(batch)
    }

    /// Returns the observations with indexes that refer to `plan`. Drops signatures and fields that
    /// `plan` does not have, and numbers that are not finite.
    pub fn observations(&self, plan: &Plan) -> Vec<Observation> {
        let to_u16 = |index: Option<usize>| index.and_then(|index| u16::try_from(index).ok());
        let signature_index =
            |name: &String| to_u16(plan.signatures().iter().position(|other| other == name));
        let field_names: Vec<String> = plan.fields().iter().map(|field| field.name()).collect();
        let field_index =
            |name: &String| to_u16(field_names.iter().position(|other| other == name));
        let signatures: Vec<Option<u16>> = self.signatures.iter().map(signature_index).collect();
        let fields: Vec<Option<u16>> = self.fields.iter().map(field_index).collect();
        self.observations
            .iter()
            .map(|observation| observation.to_observation(&signatures, &fields))
            .collect()
    }

    /// Returns the number of observations.
    pub fn len(&self) -> usize {
        self.observations.len()
    }

    /// Returns whether there are no observations.
    pub fn is_empty(&self) -> bool {
        self.observations.is_empty()
    }

    /// Returns whether every index of an observation refers to a name of the batch, and the
    /// observation has at most [`MAX_VALUES_PER_FIELD`] values per field.
    fn has_valid_indexes(&self, observation: &WireObservation) -> bool {
        let is_field = |index: u16| usize::from(index) < self.fields.len();
        observation.signatures.iter().all(|index| usize::from(*index) < self.signatures.len())
            && observation.values.iter().all(|FieldHash(index, _)| is_field(*index))
            && observation.numbers.iter().all(|(index, _)| is_field(*index))
            && observation.values.len() <= self.fields.len().saturating_mul(MAX_VALUES_PER_FIELD)
    }
}

impl WireObservation {
    fn from_observation(observation: &Observation) -> Self {
        let mut values = Vec::with_capacity(observation.values.len());
        for run in observation.values.chunk_by(|(left, _), (right, _)| left == right) {
            let counted = run.iter().take(MAX_VALUES_PER_FIELD);
            values.extend(counted.map(|(field, hash)| FieldHash(*field, *hash)));
        }
        let Observation { at, signatures, numbers, proven, tenant, network, .. } =
            observation.clone();
        Self { at, signatures, values, numbers, proven, tenant, network }
    }

    /// Returns the observation with other indexes: index `i` of a signature or field becomes entry
    /// `i` of `signature_indexes` or `field_indexes`. Drops the signature, value or number if that
    /// entry is `None`. Also drops numbers that are not finite.
    fn to_observation(
        &self,
        signature_indexes: &[Option<u16>],
        field_indexes: &[Option<u16>],
    ) -> Observation {
        let remap = |indexes: &[Option<u16>], index: u16| {
            indexes.get(usize::from(index)).copied().flatten()
        };
        let signatures =
            self.signatures.iter().filter_map(|signature| remap(signature_indexes, *signature));
        let mut values: Vec<(u16, u64)> = self
            .values
            .iter()
            .filter_map(|FieldHash(field, hash)| Some((remap(field_indexes, *field)?, *hash)))
            .collect();
        values.sort_by_key(|(field, _)| *field);
        let numbers = self.numbers.iter().filter(|(_, number)| number.is_finite());
        let numbers =
            numbers.filter_map(|(field, number)| Some((remap(field_indexes, *field)?, *number)));
        Observation {
            at: self.at,
            signatures: signatures.collect(),
            values,
            numbers: numbers.collect(),
            proven: self.proven,
            tenant: self.tenant,
            network: self.network,
        }
    }
}

/// The last sequence number of each sender, by sender id.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SequenceTracker(BTreeMap<u64, LastSequence>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct LastSequence {
    sequence: u64,
    /// Time at which the batch was received, in seconds since the epoch.
    received_at: u32,
}

impl SequenceTracker {
    /// Returns whether a batch is new: whether its sequence number is higher than the last number
    /// of its sender. Records the number of a new batch. `now` is the current time, in seconds
    /// since the epoch.
    ///
    /// A full tracker forgets the sender whose last batch is the oldest.
    pub fn accept(&mut self, batch: &Batch, now: u32) -> bool {
        let Batch { sender_id, sequence, .. } = *batch;
        let last = self.0.get(&sender_id);
        if last.is_some_and(|last| sequence <= last.sequence) {
            return false;
        }
        if last.is_none() && self.0.len() >= MAX_SENDERS {
            let oldest = self.0.iter().min_by_key(|(_, last)| last.received_at);
            if let Some(oldest) = oldest.map(|(sender_id, _)| *sender_id) {
                self.0.remove(&oldest);
            }
        }
        self.0.insert(sender_id, LastSequence { sequence, received_at: now });
        true
    }

    /// Encodes the tracker: a version byte, followed by the format of the crate `postcard`.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![FORMAT_VERSION]).unwrap_or_default()
    }

    /// Decodes a tracker.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a tracker of this format version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let invalid = || Error::new("sequence numbers are invalid", "delete them");
        match bytes.split_first() {
            Some((&FORMAT_VERSION, payload)) => {
                postcard::from_bytes(payload).map_err(|_| invalid())
            }
            _ => Err(invalid()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;
    use crate::correlate::{Correlator, Shard};
    use crate::field::Field;
    use crate::rules::correlation::{Attribution, Coordination, Correlation, Measure, Threshold};
    use crate::rules::signature::{Comparator, Status};

    fn field(name: &str) -> Field {
        Field::parse(name).unwrap()
    }

    /// Returns a plan that counts the accounts with events of `signature`, grouped by each of
    /// `fields`.
    fn plan(signature: &str, fields: &[&str]) -> Plan {
        let thresholds = vec![Threshold { comparator: Comparator::Gte, value: 3.0 }];
        let correlation = |group_by: &&str| Correlation {
            name: format!("cluster_{group_by}"),
            id: String::new(),
            title: String::new(),
            family: "cluster".into(),
            status: Status::Stable,
            weight: 3.0,
            rules: vec![signature.into()],
            only: None,
            group_by: vec![field(group_by)],
            timespan: 60,
            measure: Measure::ValueCount {
                field: field("hedgerow.account"),
                thresholds: thresholds.clone(),
            },
            coordination: Coordination::default(),
            attribution: Attribution::default(),
            ttl: 60,
        };
        Plan::new(fields.iter().map(correlation).collect(), &BTreeSet::from(["a", "b"])).unwrap()
    }

    fn observation(values: &[(u16, u64)]) -> Observation {
        Observation {
            at: 1_800_000_000,
            signatures: vec![0],
            values: values.to_vec(),
            numbers: vec![(1, 2.5)],
            proven: true,
            tenant: 300,
            network: 400,
        }
    }

    #[test]
    fn decoding_maps_names_to_another_plan_and_drops_unknown_ones() {
        let sender =
            plan("a", &["hedgerow.template.user", "user_agent.original", "client.address"]);
        let receiver = plan("a", &["client.address", "hedgerow.template.user"]);
        let sent = observation(&[(0, 10), (1, 20), (1, 21), (2, 30), (3, 40)]);
        let batch = Batch::decode(&Batch::new(7, 1, &sender, [&sent]).encode()).unwrap();
        assert_eq!((batch.sender_id, batch.sequence, batch.len()), (7, 1, 1));
        let expected = Observation {
            values: vec![(0, 10), (1, 40), (2, 20), (2, 21)],
            numbers: vec![(2, 2.5)],
            ..sent.clone()
        };
        assert_eq!(batch.observations(&receiver), [expected]);
        let unrelated_plan = plan("b", &["client.address"]);
        assert!(
            batch
                .observations(&unrelated_plan)
                .iter()
                .all(|observation| observation.signatures.is_empty())
        );
        assert_eq!(batch.observations(&sender), [sent]);
    }

    #[test]
    fn only_the_owning_shards_count_an_observation() {
        let plan = Arc::new(plan("a", &["hedgerow.template.user", "client.address"]));
        for seed in 0..200_u64 {
            let hash = |number: u64| crate::keyed_hash::fmix64(seed * 100 + number);
            let values = [(0, hash(0)), (1, hash(1)), (1, hash(2)), (2, hash(3))];
            let sent = observation(&values);
            let owners = plan.owners(&sent, 8);
            assert!((1..=3).contains(&owners.len()), "{owners:?}");
            for index in 0..8 {
                let shard = Shard { index, count: 8 };
                let mut correlator = Correlator::new(Arc::clone(&plan), shard, 1 << 20);
                correlator.observe(&sent, sent.at, &mut Vec::new());
                assert_eq!(correlator.group_count() > 0, owners.contains(&index), "{seed} {index}");
            }
            assert!(plan.owners(&Observation { signatures: vec![], ..sent }, 8).is_empty());
        }
    }

    /// Isolates and Durable Objects of different releases exchange batches during a deployment.
    #[test]
    fn wire_format_is_stable() {
        let plan = plan("a", &["client.address"]);
        let batch = Batch::new(1, 300, &plan, [&observation(&[(0, 2), (1, 3)])]);
        let bytes = batch.with_queued(500).encode();
        let mut expected = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 0xac, 2, 1, 1, b'a', 2, 16];
        expected.extend(b"hedgerow.account");
        expected.push(14);
        expected.extend(b"client.address");
        expected.extend([1, 0x80, 0xa4, 0xa7, 0xda, 6, 1, 0]);
        expected.extend([2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([1, 1, 0, 0, 0, 0, 0, 0, 4, 0x40]);
        expected.extend([1, 0xac, 2, 0x90, 3]);
        expected.extend([0xf4, 3]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn malformed_batches_are_rejected() {
        let plan = plan("a", &["client.address"]);
        let good = Batch::new(1, 1, &plan, [&observation(&[(0, 2), (1, 3)])]);
        let bytes = good.encode();
        for end in 0..bytes.len() {
            assert!(Batch::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(Batch::decode(&[bytes.as_slice(), &[0]].concat()).is_err(), "trailing bytes");
        let newer = [&[2], &bytes[1..]].concat();
        assert!(Batch::decode(&newer).unwrap_err().problem().contains("version 2"));
        // A length that exceeds any memory.
        let mut huge = vec![1; 10];
        huge.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert!(Batch::decode(&huge).is_err());
        let oversized = vec![observation(&[]); MAX_BATCH_OBSERVATIONS + 1];
        assert!(Batch::decode(&Batch::new(1, 1, &plan, &oversized).encode()).is_err());
        for out_of_range in
            [observation(&[(2, 1)]), Observation { signatures: vec![1], ..observation(&[]) }]
        {
            assert!(Batch::decode(&Batch::new(1, 1, &plan, [&out_of_range]).encode()).is_err());
        }
        for seed in 0..20_000_u64 {
            let mut corrupted = bytes.clone();
            let noise = crate::keyed_hash::fmix64(seed);
            let position = noise as usize % corrupted.len();
            corrupted[position] = (noise >> 32) as u8;
            if let Ok(batch) = Batch::decode(&corrupted) {
                assert!(batch.observations(&plan).len() <= MAX_BATCH_OBSERVATIONS);
            }
        }
    }

    #[test]
    fn a_repeated_batch_is_accepted_once() {
        let plan = plan("a", &["client.address"]);
        let batch = |sender_id, sequence| Batch::new(sender_id, sequence, &plan, []);
        let mut tracker = SequenceTracker::default();
        let cases = [(1, 1, true), (1, 1, false), (1, 3, true), (1, 2, false), (2, 1, true)];
        for (sender_id, sequence, expected) in cases {
            assert_eq!(
                tracker.accept(&batch(sender_id, sequence), 10),
                expected,
                "{sender_id} {sequence}"
            );
        }
        let mut tracker = SequenceTracker::decode(&tracker.encode()).unwrap();
        assert!(!tracker.accept(&batch(1, 3), 10));
        assert!(SequenceTracker::decode(&[2]).is_err() && SequenceTracker::decode(&[]).is_err());
        for sender_id in 0..MAX_SENDERS as u64 + 5 {
            tracker.accept(&batch(sender_id, 9), 20);
        }
        assert_eq!(tracker.0.len(), MAX_SENDERS);
    }
}
