//! What correlation is to see of the isolate's requests, until it is sent. Requests only queue; one of
//! them, a second after the first, sends all in batches to the objects that count. What the objects
//! answer are indicators, which this isolate goes by at once.
//!
//! A batch of which it is not known whether it arrived is sent again as it was, and counts once. What
//! waits is bounded: what comes beyond is dropped and counted. No request ever waits for this.

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
use crate::platform::settings::Settings;
use crate::request::client_request;
use crate::request::response::box_future;

#[derive(Default)]
struct ObservationQueue {
    /// What waits, by the object that it is for.
    shard_queues: BTreeMap<u32, ShardQueue>,
    /// Until when somebody is about to send, and until when somebody sends; milliseconds since the epoch.
    leader_until: f64,
    sending_until: f64,
    /// What this isolate calls itself.
    isolate_id: Option<u64>,
    /// The number of the last batch.
    last_sequence: u64,
}

/// What is for one object.
#[derive(Default)]
struct ShardQueue {
    queue: VecDeque<(Arc<Plan>, Rc<Observation>)>,
    /// The batch that is to arrive before any other.
    undelivered: Option<Rc<[u8]>>,
    /// When the next attempt may be made, after failures.
    retry_at: f64,
    failures: u32,
}

/// What became of a batch.
enum Delivery {
    /// It was counted; what holds by it.
    Accepted(Vec<u8>),
    /// The object does not understand it, and never will.
    Rejected,
    /// Nobody knows.
    Failed,
}

thread_local! {
    static QUEUE: RefCell<ObservationQueue> = RefCell::default();
}

/// Queues what correlation is to see of a request.
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
            match shard_queue.queue.len() < MAX_QUEUED_OBSERVATIONS {
                true => shard_queue.queue.push_back((Arc::clone(plan), Rc::clone(&observation))),
                false => dropped = true,
            }
        }
        dropped
    });
    if dropped {
        telemetry::count_error("correlate: an observation was dropped, for too many wait");
    }
}

/// Sees to it that what waits is sent: after this request is answered, unless another one does already.
pub fn schedule_send(settings: &Rc<Settings>, context: &Context) {
    let now = now_ms();
    let delay = QUEUE.with_borrow_mut(|queue| {
        let is_ready = queue.shard_queues.values().any(|shard| shard.is_ready(now));
        let has_full_batch = queue.shard_queues.values().any(|shard| shard.has_full_batch(now));
        if !is_ready || now < queue.sending_until || (now < queue.leader_until && !has_full_batch) {
            return None;
        }
        queue.leader_until = now + LEADER_LEASE_MS;
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

/// Sends what waits after a pause, and what has come meanwhile after another: there may be no further
/// request that could.
async fn run_leader(correlators: &ObjectNamespace, mut delay: Duration) {
    for _ in 0..MAX_ROUNDS {
        Delay::from(delay).await;
        box_future(send_batches(correlators)).await;
        let now = now_ms();
        let is_ready = QUEUE.with_borrow_mut(|queue| {
            queue.leader_until = now + LEADER_LEASE_MS;
            queue.shard_queues.values().any(|shard| shard.is_ready(now))
        });
        if !is_ready {
            break;
        }
        delay = BATCH_DELAY;
    }
    QUEUE.with_borrow_mut(|queue| queue.leader_until = 0.0);
}

/// Sends what waits, unless somebody does; goes on as long as there are whole batches.
async fn send_batches(correlators: &ObjectNamespace) {
    let now = now_ms();
    let may_send = QUEUE.with_borrow_mut(|queue| {
        let may_send = now >= queue.sending_until;
        if may_send {
            queue.sending_until = now + LEADER_LEASE_MS;
        }
        may_send
    });
    if !may_send {
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
            queue.sending_until = now + LEADER_LEASE_MS;
            queue.shard_queues.values().any(|shard| shard.has_full_batch(now))
        });
        if !has_full_batch {
            break;
        }
    }
    QUEUE.with_borrow_mut(|queue| queue.sending_until = 0.0);
}

fn apply_delivery(shard: u32, delivery: Delivery) {
    let outcome = QUEUE.with_borrow_mut(|queue| {
        let shard_queue = queue.shard_queues.entry(shard).or_default();
        match delivery {
            Delivery::Accepted(answer) => {
                *shard_queue = ShardQueue {
                    queue: std::mem::take(&mut shard_queue.queue),
                    ..ShardQueue::default()
                };
                Ok(Some(answer))
            }
            Delivery::Rejected => {
                shard_queue.undelivered = None;
                Err("correlate: an object refused a batch")
            }
            Delivery::Failed => {
                let factor = f64::from(2_u32.saturating_pow(shard_queue.failures.min(6)));
                shard_queue.failures = shard_queue.failures.saturating_add(1);
                shard_queue.retry_at = now_ms() + 1_000.0 * factor;
                Ok(None)
            }
        }
    });
    match outcome {
        Ok(Some(answer)) => indicators::apply_answer(&answer),
        Ok(None) => {}
        Err(problem) => telemetry::count_error(problem),
    }
}

impl ObservationQueue {
    /// The next batch of every lane that may send.
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
        now >= self.retry_at && (self.undelivered.is_some() || !self.queue.is_empty())
    }

    fn has_full_batch(&self, now: f64) -> bool {
        now >= self.retry_at && self.queue.len() >= MAX_BATCH_OBSERVATIONS
    }

    /// The batch that is to be sent: the one that may not have arrived, or the observations of one plan
    /// that wait longest.
    fn next_batch(&mut self, batch_id: (u64, u64)) -> Option<Rc<[u8]>> {
        if self.undelivered.is_none() {
            let (plan, _) = self.queue.front()?;
            let plan = Arc::clone(plan);
            let candidates = self.queue.iter().take(MAX_BATCH_OBSERVATIONS);
            let count =
                candidates.take_while(|(queued_plan, _)| Arc::ptr_eq(queued_plan, &plan)).count();
            let batch: Vec<_> = self.queue.drain(..count).collect();
            let observations = batch.iter().map(|(_, observation)| observation.as_ref());
            self.undelivered = Some(Batch::new(batch_id, &plan, observations).encode().into());
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

/// The name of one of the objects that count.
fn object_name(shard: u32) -> String {
    format!("correlator-{shard}")
}

/// A number for a name that nobody else has.
fn isolate_id(name: &str) -> u64 {
    let hash = Sha256::digest(name);
    hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// How long observations wait for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);

/// How often one invocation sends, at most: the platform ends it half a minute after its answer.
const MAX_ROUNDS: usize = 10;

/// Observations that wait for one object at most: some megabytes.
const MAX_QUEUED_OBSERVATIONS: usize = 4_096;

/// Milliseconds for which nobody else sends, should who is about to never do it.
const LEADER_LEASE_MS: f64 = 30_000.0;

/// For how long an object may take.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

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
            // One of which nobody knows is sent again under its own number.
            assert_eq!(shard_queue.next_batch((7, 99)), Some(Rc::clone(&batch)));
            let batch = Batch::decode(&batch).unwrap();
            sizes.push((batch.sequence, batch.len()));
            shard_queue.undelivered = None;
        }
        assert_eq!(sizes, [(1, MAX_BATCH_OBSERVATIONS), (2, 3), (3, 2)]);
        assert_eq!(shard_queue.next_batch((7, 4)), None);
    }
}
