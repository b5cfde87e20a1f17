//! Observations of the isolate's requests, and their delivery to the correlators.
//!
//! Requests only enqueue. One of them becomes the leader: a second after its response it sends all
//! observations in batches. A correlator answers with the indicators of what it found, which are in
//! force in this isolate at once.
//!
//! A batch that may have been lost is sent again unchanged, under its own number, so that it counts
//! once. The queue is bounded: further observations are dropped and counted. No request ever waits
//! for delivery.

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

/// How long the first observation waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of rounds in one invocation: the platform ends it 30 seconds after its response.
const MAX_ROUNDS: usize = 10;

/// Maximum number of observations that wait for one correlator: some megabytes.
const MAX_QUEUED_OBSERVATIONS: usize = 4_096;

/// After this long another request may lead, and send.
const LEASE: Duration = Duration::from_secs(30);

/// Timeout of one batch.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// The first and the longest pause after a failed batch.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(64);

#[derive(Default)]
struct ObservationQueue {
    /// By index of the correlator.
    shard_queues: BTreeMap<u32, ShardQueue>,
    /// Held by the request that will send.
    leader: Lease,
    /// Held while batches are under way.
    sending: Lease,
    /// Random id under which correlators count this isolate's batches.
    isolate_id: Option<u64>,
    /// Number of the last batch.
    last_sequence: u64,
}

/// The observations for one correlator.
#[derive(Default)]
struct ShardQueue {
    queue: VecDeque<(Arc<Plan>, Rc<Observation>)>,
    /// An encoded batch that may not have arrived. It is sent before any other.
    undelivered: Option<Rc<[u8]>>,
    backoff: Backoff,
}

/// The result of sending a batch.
enum Delivery {
    /// It was counted; the answer is packed indicators.
    Accepted(Vec<u8>),
    /// The correlator cannot decode it: sending it again is useless.
    Rejected,
    /// It may have been lost.
    Failed,
}

thread_local! {
    static QUEUE: RefCell<ObservationQueue> = RefCell::default();
}

/// Enqueues the observation of a request for every correlator that owns a part of it.
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
                shard_queue.queue.push_back((Arc::clone(plan), Rc::clone(&observation)));
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

/// Makes the request the leader, if there is anything to send and no other leader: it will send
/// after its response. A full batch is sent at once, even if there is another leader.
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

/// Sends the queue after `delay`, and again as long as more observations arrive: there may be no
/// later request to send them.
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

/// Sends one batch to every correlator, and goes on while there are full batches. Does nothing if
/// another leader is sending.
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
    fn is_ready(&self, now: f64) -> bool {
        self.shard_queues.values().any(|shard| shard.is_ready(now))
    }

    fn has_full_batch(&self, now: f64) -> bool {
        self.shard_queues.values().any(|shard| shard.has_full_batch(now))
    }

    /// Encodes the next batch for every correlator that is ready, with the correlator's index.
    fn next_batches(&mut self, now: f64) -> Vec<(u32, Rc<[u8]>)> {
        let isolate_id =
            *self.isolate_id.get_or_insert_with(|| isolate_id(&client_request::new_request_id()));
        let sequence = &mut self.last_sequence;
        let ready = self.shard_queues.iter_mut().filter(|(_, shard)| shard.is_ready(now));
        ready
            .filter_map(|(shard, shard_queue)| {
                *sequence = sequence.saturating_add(1);
                Some((*shard, shard_queue.next_batch((isolate_id, *sequence))?))
            })
            .collect()
    }
}

impl ShardQueue {
    fn is_ready(&self, now: f64) -> bool {
        self.backoff.is_due(now) && (self.undelivered.is_some() || !self.queue.is_empty())
    }

    fn has_full_batch(&self, now: f64) -> bool {
        self.backoff.is_due(now) && self.queue.len() >= MAX_BATCH_OBSERVATIONS
    }

    /// Returns the batch to send: the undelivered one, or the oldest observations that share a
    /// plan.
    fn next_batch(&mut self, batch_id: (u64, u64)) -> Option<Rc<[u8]>> {
        if self.undelivered.is_none() {
            let (plan, _) = self.queue.front()?;
            let plan = Arc::clone(plan);
            let candidates = self.queue.iter().take(MAX_BATCH_OBSERVATIONS);
            let count =
                candidates.take_while(|(queued_plan, _)| Arc::ptr_eq(queued_plan, &plan)).count();
            let batch: Vec<_> = self.queue.drain(..count).collect();
            let observations = batch.iter().map(|(_, observation)| observation.as_ref());
            let (sender_id, sequence) = batch_id;
            let batch = Batch::new(sender_id, sequence, &plan, observations);
            self.undelivered = Some(batch.encode().into());
        }
        self.undelivered.clone()
    }
}

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
            shard_queue.queue.extend((0..count).map(|_| (Arc::clone(plan), Rc::default())));
        }
        let mut sizes = Vec::new();
        for sequence in 1..=3 {
            let batch = shard_queue.next_batch((7, sequence)).unwrap();
            assert_eq!(
                shard_queue.next_batch((7, 99)),
                Some(Rc::clone(&batch)),
                "an undelivered batch keeps its number"
            );
            let batch = Batch::decode(&batch).unwrap();
            sizes.push((batch.sequence, batch.len()));
            shard_queue.undelivered = None;
        }
        assert_eq!(sizes, [(1, MAX_BATCH_OBSERVATIONS), (2, 3), (3, 2)]);
        assert_eq!(shard_queue.next_batch((7, 4)), None);
    }
}
