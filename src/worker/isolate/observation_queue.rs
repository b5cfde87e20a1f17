//! Observations of the isolate's requests, and their delivery to the correlators. An observation is
//! the part of a request that correlations count.
//!
//! A request only adds its observation to a queue. One request becomes the *leader*: a second after
//! its response, it sends all queued observations in batches. A correlator answers with the
//! indicators that a batch caused, which are in force in this isolate at once.
//!
//! A batch that may have been lost is sent again unchanged and with the same number, so that it
//! counts once. The queue is bounded: if it is full, observations are dropped, and the loss is
//! counted as an error. A client's response never waits for delivery.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hedgerow_core::Ruleset;
use hedgerow_core::correlate::batch::{Batch, MAX_BATCH_OBSERVATIONS};
use hedgerow_core::correlate::{Observation, Plan};
use js_sys::Uint8Array;
use sha2::{Digest, Sha256};
use worker::{Context, Delay, Method, ObjectNamespace, Request, RequestInit};

use crate::isolate::{indicators, telemetry};
use crate::platform::clock::{now_ms, with_timeout};
use crate::platform::lease::{Backoff, Lease};
use crate::platform::panic::box_future;
use crate::platform::settings::Settings;
use crate::request::client_request;

/// Time for which the first observation waits for others, so that a batch has more than one.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of times that one leader sends. It is limited because the platform ends an
/// invocation 30 seconds after its response.
const MAX_ROUNDS: usize = 10;

/// Maximum number of observations that wait for one correlator. They take some megabytes. Further
/// observations are dropped.
const MAX_QUEUED_OBSERVATIONS: usize = 4_096;

/// Time after which another request may become the leader, or send, if the platform ended the
/// leader before it finished.
const LEASE: Duration = Duration::from_secs(30);

/// Timeout of one batch.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest pause after a failed batch.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(64);

#[derive(Default)]
struct ObservationQueue {
    /// Queues by index of the correlator.
    shard_queues: BTreeMap<u32, ShardQueue>,
    /// The lease of the leader.
    leader: Lease,
    /// The lease of the request that is sending batches.
    sending: Lease,
    /// Random id by which correlators recognise the batches of this isolate.
    isolate_id: Option<u64>,
    /// Number of the last batch.
    last_sequence: u64,
}

/// The observations for one correlator.
#[derive(Default)]
struct ShardQueue {
    /// Observations that are not in a batch yet, oldest first.
    queue: VecDeque<QueuedObservation>,
    /// An encoded batch that may not have arrived. It is sent before any other batch.
    undelivered: Option<Rc<[u8]>>,
    /// The time until which nothing is sent after failed batches.
    backoff: Backoff,
}

/// An observation, and the plan whose fields and signatures it refers to by index.
struct QueuedObservation {
    plan: Arc<Plan>,
    /// Shared by the queues of all correlators that count a part of it.
    observation: Rc<Observation>,
}

/// The id of a batch. A correlator counts each id only once.
#[derive(Clone, Copy)]
struct BatchId {
    sender: u64,
    sequence: u64,
}

/// The result of sending a batch.
enum Delivery {
    /// The batch was counted; the answer is packed indicators.
    Accepted(Vec<u8>),
    /// The correlator rejected the batch, and would reject it again.
    Rejected,
    /// The batch may have been lost.
    Failed,
}

thread_local! {
    static QUEUE: RefCell<ObservationQueue> = RefCell::default();
}

/// Adds the observation of a request to the queue of every correlator that counts a part of it. If
/// a queue is full, does not add it there, and counts an error.
pub fn enqueue(ruleset: &Ruleset, observation: Observation, settings: &Settings) {
    let plan = ruleset.plan();
    let owners = plan.owners(&observation, ruleset.policy().correlate.shards);
    if owners.is_empty() || settings.correlators().is_none() {
        return;
    }
    let observation = Rc::new(observation);
    let dropped = QUEUE.with_borrow_mut(|queue| {
        let mut dropped = false;
        for shard in owners {
            let shard_queue = queue.shard_queues.entry(shard).or_default();
            if shard_queue.queue.len() < MAX_QUEUED_OBSERVATIONS {
                let (plan, observation) = (Arc::clone(plan), Rc::clone(&observation));
                shard_queue.queue.push_back(QueuedObservation { plan, observation });
            } else {
                dropped = true;
            }
        }
        dropped
    });
    if dropped {
        telemetry::count_error("correlate: an observation was dropped: the queue is full");
    }
}

/// Makes the request the leader if anything can be sent, no request is sending, and no other
/// request is the leader. The leader sends a second later, in the background. If a batch is full,
/// the request becomes the leader even if another request is, and sends at once.
pub fn schedule_send(settings: &Rc<Settings>, context: &Context) {
    let now = now_ms();
    let delay = QUEUE.with_borrow_mut(|queue| {
        let has_full_batch = queue.has_full_batch(now);
        let may_lead = has_full_batch || !queue.leader.is_held(now);
        if !queue.is_ready(now) || queue.sending.is_held(now) || !may_lead {
            return None;
        }
        queue.leader.renew(now, LEASE);
        Some(if has_full_batch { Duration::ZERO } else { BATCH_DELAY })
    });
    let Some(delay) = delay else { return };
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        if let Some(correlators) = settings.correlators() {
            box_future(run_leader(&correlators, delay)).await;
        }
    });
}

/// Sends the queued observations after `delay`. Repeats this after another second while anything
/// can be sent, up to [`MAX_ROUNDS`] times, because perhaps no later request arrives that would
/// send them.
async fn run_leader(correlators: &ObjectNamespace, mut delay: Duration) {
    for _ in 0..MAX_ROUNDS {
        Delay::from(delay).await;
        box_future(send_batches(correlators)).await;
        let now = now_ms();
        let is_ready = QUEUE.with_borrow_mut(|queue| {
            queue.leader.renew(now, LEASE);
            queue.is_ready(now)
        });
        if !is_ready {
            break;
        }
        delay = BATCH_DELAY;
    }
    QUEUE.with_borrow_mut(|queue| queue.leader.release());
}

/// Sends one batch to every correlator, and repeats this while any queue has a full batch. Does
/// nothing if another request is sending.
async fn send_batches(correlators: &ObjectNamespace) {
    if !QUEUE.with_borrow_mut(|queue| queue.sending.try_acquire(now_ms(), LEASE)) {
        return;
    }
    loop {
        let batches = QUEUE.with_borrow_mut(|queue| queue.next_batches(now_ms()));
        let posts = batches.into_iter().map(async |(shard, bytes)| {
            let delivery = with_timeout(post_batch(correlators, shard, &bytes), POST_TIMEOUT).await;
            (shard, delivery.unwrap_or(Delivery::Failed))
        });
        for (shard, delivery) in join_all(posts).await {
            apply_delivery(shard, delivery);
        }
        let now = now_ms();
        let has_full_batch = QUEUE.with_borrow_mut(|queue| {
            queue.sending.renew(now, LEASE);
            queue.has_full_batch(now)
        });
        if !has_full_batch {
            break;
        }
    }
    QUEUE.with_borrow_mut(|queue| queue.sending.release());
}

/// Ends the delivery of a batch. If the batch was accepted, puts its indicators in force. If it was
/// rejected, drops it and counts an error. If the delivery failed, keeps the batch for another
/// attempt.
fn apply_delivery(shard: u32, delivery: Delivery) {
    let now = now_ms();
    QUEUE.with_borrow_mut(|queue| {
        let shard_queue = queue.shard_queues.entry(shard).or_default();
        match &delivery {
            Delivery::Accepted(_) => {
                shard_queue.undelivered = None;
                shard_queue.backoff.record_success(now, Duration::ZERO);
            }
            Delivery::Rejected => shard_queue.undelivered = None,
            Delivery::Failed => {
                shard_queue.backoff.record_failure(now, MIN_BACKOFF, MAX_BACKOFF);
            }
        }
    });
    match delivery {
        Delivery::Accepted(answer) => indicators::apply_answer(&answer),
        Delivery::Rejected => telemetry::count_error("correlate: an object rejected a batch"),
        Delivery::Failed => {}
    }
}

impl ObservationQueue {
    /// Returns whether anything can be sent at `now`, in milliseconds since the epoch.
    fn is_ready(&self, now: f64) -> bool {
        self.shard_queues.values().any(|shard| shard.is_ready(now))
    }

    fn has_full_batch(&self, now: f64) -> bool {
        self.shard_queues.values().any(|shard| shard.has_full_batch(now))
    }

    /// Returns the next batch for every correlator that is ready: the correlator's index and the
    /// encoded batch.
    fn next_batches(&mut self, now: f64) -> Vec<(u32, Rc<[u8]>)> {
        let sender =
            *self.isolate_id.get_or_insert_with(|| isolate_id(&client_request::new_request_id()));
        let sequence = &mut self.last_sequence;
        let ready = self.shard_queues.iter_mut().filter(|(_, shard)| shard.is_ready(now));
        ready
            .filter_map(|(shard, shard_queue)| {
                *sequence = sequence.saturating_add(1);
                let batch_id = BatchId { sender, sequence: *sequence };
                Some((*shard, shard_queue.next_batch(batch_id)?))
            })
            .collect()
    }
}

impl ShardQueue {
    /// Returns whether a batch can be sent at `now`. During the pause after a failed batch, none
    /// can.
    fn is_ready(&self, now: f64) -> bool {
        self.backoff.is_due(now) && (self.undelivered.is_some() || !self.queue.is_empty())
    }

    fn has_full_batch(&self, now: f64) -> bool {
        self.backoff.is_due(now) && self.queue.len() >= MAX_BATCH_OBSERVATIONS
    }

    /// Returns the batch to send. An undelivered batch comes first, under its old id. Otherwise, a
    /// new batch gets `id` and the oldest observations that share a plan. Returns `None` if there
    /// are no observations.
    fn next_batch(&mut self, id: BatchId) -> Option<Rc<[u8]>> {
        if self.undelivered.is_none() {
            let plan = Arc::clone(&self.queue.front()?.plan);
            let candidates = self.queue.iter().take(MAX_BATCH_OBSERVATIONS);
            let count = candidates.take_while(|queued| Arc::ptr_eq(&queued.plan, &plan)).count();
            let drained: Vec<_> = self.queue.drain(..count).collect();
            let observations = drained.iter().map(|queued| queued.observation.as_ref());
            let batch = Batch::new(id.sender, id.sequence, &plan, observations);
            let batch = batch.with_queued(self.queue.len());
            self.undelivered = Some(batch.encode().into());
        }
        self.undelivered.clone()
    }
}

/// Sends a batch to a correlator. Status 200 means accepted, and 4xx rejected. Any other outcome is
/// a failure: the correlator may or may not have counted the batch.
async fn post_batch(correlators: &ObjectNamespace, shard: u32, bytes: &[u8]) -> Delivery {
    let delivery = async {
        let stub = correlators.get_by_name(&object_name(shard)).ok()?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(Uint8Array::from(bytes).into()));
        let request = Request::new_with_init(&format!("https://correlator/{shard}"), &init).ok()?;
        let mut response = stub.fetch_with_request(request).await.ok()?;
        match response.status_code() {
            200 => response.bytes().await.ok().map(Delivery::Accepted),
            400..=499 => Some(Delivery::Rejected),
            _ => None,
        }
    };
    delivery.await.unwrap_or(Delivery::Failed)
}

/// Returns the name of a correlator's Durable Object.
fn object_name(shard: u32) -> String {
    format!("correlator-{shard}")
}

/// Returns the isolate's id: the first 8 bytes of SHA-256(`name`), a random name.
fn isolate_id(name: &str) -> u64 {
    Sha256::digest(name).first_chunk().map_or(0, |prefix| u64::from_be_bytes(*prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_one_plan_and_is_resent_until_delivered() {
        let (first_plan, second_plan) = (Arc::new(Plan::default()), Arc::new(Plan::default()));
        let mut shard_queue = ShardQueue::default();
        for (plan, count) in [(&first_plan, MAX_BATCH_OBSERVATIONS + 3), (&second_plan, 2)] {
            shard_queue.queue.extend(
                (0..count).map(|_| QueuedObservation {
                    plan: Arc::clone(plan),
                    observation: Rc::default(),
                }),
            );
        }
        let batch_id = |sequence| BatchId { sender: 7, sequence };
        let mut sizes = Vec::new();
        for sequence in 1..=3 {
            let batch = shard_queue.next_batch(batch_id(sequence)).unwrap();
            assert_eq!(
                shard_queue.next_batch(batch_id(99)),
                Some(Rc::clone(&batch)),
                "an undelivered batch keeps its number"
            );
            let batch = Batch::decode(&batch).unwrap();
            sizes.push((batch.sequence, batch.len()));
            shard_queue.undelivered = None;
        }
        assert_eq!(sizes, [(1, MAX_BATCH_OBSERVATIONS), (2, 3), (3, 2)]);
        assert_eq!(shard_queue.next_batch(batch_id(4)), None);
    }
}
