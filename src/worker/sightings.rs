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
use hedgerow::Ruleset;
use hedgerow::correlate::batch::{Batch, MAX_BATCH};
use hedgerow::correlate::{Observation, Plan};
use js_sys::Uint8Array;
use sha2::{Digest, Sha256};
use worker::{Context, Delay, Method, ObjectNamespace, Request, RequestInit};

use crate::clock::{in_time, millis};
use crate::error::boxed;
use crate::settings::Settings;
use crate::{indicators, intake, outbox};

#[derive(Default)]
struct Outbox {
    /// What waits, by the object that it is for.
    lanes: BTreeMap<u32, Lane>,
    /// Until when somebody is about to send, and until when somebody sends; milliseconds since the epoch.
    led: f64,
    busy: f64,
    /// What this isolate calls itself.
    source: Option<u64>,
    /// The number of the last batch.
    sequence: u64,
}

/// What is for one object.
#[derive(Default)]
struct Lane {
    queue: VecDeque<(Arc<Plan>, Rc<Observation>)>,
    /// The batch that is to arrive before any other.
    unsent: Option<Rc<[u8]>>,
    /// When the next attempt may be made, after failures.
    due: f64,
    failures: u32,
}

/// What became of a batch.
enum Sent {
    /// It was counted; what holds by it.
    Counted(Vec<u8>),
    /// The object does not understand it, and never will.
    Refused,
    /// Nobody knows.
    Failed,
}

thread_local! {
    static OUTBOX: RefCell<Outbox> = RefCell::default();
}

/// Queues what correlation is to see of a request.
pub fn note(ruleset: &Ruleset, observation: Observation, settings: &Settings) {
    let plan = ruleset.plan();
    let owners = plan.owners(&observation, ruleset.policy().correlate.shards);
    if owners.is_empty() || settings.correlators().is_none() {
        return;
    }
    let observation = Rc::new(observation);
    let dropped = OUTBOX.with_borrow_mut(|outbox| {
        let mut dropped = false;
        for owner in owners {
            let lane = outbox.lanes.entry(owner).or_default();
            match lane.queue.len() < MAX_QUEUE {
                true => lane.queue.push_back((Arc::clone(plan), Rc::clone(&observation))),
                false => dropped = true,
            }
        }
        dropped
    });
    if dropped {
        outbox::error("correlate: an observation was dropped, for too many wait");
    }
}

/// Sees to it that what waits is sent: after this request is answered, unless another one does already.
pub fn report(settings: &Rc<Settings>, context: &Context) {
    let now = millis();
    let pause = OUTBOX.with_borrow_mut(|outbox| {
        let is_ready = outbox.lanes.values().any(|lane| lane.is_ready(now));
        let is_full = outbox.lanes.values().any(|lane| lane.is_full(now));
        if !is_ready || now < outbox.busy || (now < outbox.led && !is_full) {
            return None;
        }
        outbox.led = now + LEASE;
        Some(if is_full { Duration::ZERO } else { PAUSE })
    });
    let Some(pause) = pause else { return };
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        if let Some(correlators) = settings.correlators() {
            boxed(lead(&correlators, pause)).await;
        }
    });
}

/// Sends what waits after a pause, and what has come meanwhile after another: there may be no further
/// request that could.
async fn lead(correlators: &ObjectNamespace, mut pause: Duration) {
    for _ in 0..ROUNDS {
        Delay::from(pause).await;
        boxed(send(correlators)).await;
        let now = millis();
        let is_ready = OUTBOX.with_borrow_mut(|outbox| {
            outbox.led = now + LEASE;
            outbox.lanes.values().any(|lane| lane.is_ready(now))
        });
        if !is_ready {
            break;
        }
        pause = PAUSE;
    }
    OUTBOX.with_borrow_mut(|outbox| outbox.led = 0.0);
}

/// Sends what waits, unless somebody does; goes on as long as there are whole batches.
async fn send(correlators: &ObjectNamespace) {
    let now = millis();
    let is_free = OUTBOX.with_borrow_mut(|outbox| {
        let is_free = now >= outbox.busy;
        if is_free {
            outbox.busy = now + LEASE;
        }
        is_free
    });
    if !is_free {
        return;
    }
    loop {
        let batches = OUTBOX.with_borrow_mut(|outbox| outbox.batches(millis()));
        let posts = batches.into_iter().map(async |(shard, bytes)| {
            let sent = in_time(post(correlators, shard, &bytes), PATIENCE).await;
            (shard, sent.unwrap_or(Sent::Failed))
        });
        for (shard, sent) in join_all(posts).await {
            settle(shard, sent);
        }
        let now = millis();
        let goes_on = OUTBOX.with_borrow_mut(|outbox| {
            outbox.busy = now + LEASE;
            outbox.lanes.values().any(|lane| lane.is_full(now))
        });
        if !goes_on {
            break;
        }
    }
    OUTBOX.with_borrow_mut(|outbox| outbox.busy = 0.0);
}

fn settle(shard: u32, sent: Sent) {
    let found = OUTBOX.with_borrow_mut(|outbox| {
        let lane = outbox.lanes.entry(shard).or_default();
        match sent {
            Sent::Counted(found) => {
                *lane = Lane { queue: std::mem::take(&mut lane.queue), ..Lane::default() };
                Ok(Some(found))
            }
            Sent::Refused => {
                lane.unsent = None;
                Err("correlate: an object refused a batch")
            }
            Sent::Failed => {
                let factor = f64::from(2_u32.saturating_pow(lane.failures.min(6)));
                lane.failures = lane.failures.saturating_add(1);
                lane.due = millis() + 1_000.0 * factor;
                Ok(None)
            }
        }
    });
    match found {
        Ok(Some(found)) => indicators::learn(&found),
        Ok(None) => {}
        Err(problem) => outbox::error(problem),
    }
}

impl Outbox {
    /// The next batch of every lane that may send.
    fn batches(&mut self, now: f64) -> Vec<(u32, Rc<[u8]>)> {
        let source = *self.source.get_or_insert_with(|| number(&intake::request_id()));
        let sequence = &mut self.sequence;
        let ready = self.lanes.iter_mut().filter(|(_, lane)| lane.is_ready(now));
        ready
            .filter_map(|(shard, lane)| {
                *sequence = sequence.saturating_add(1);
                Some((*shard, lane.batch((source, *sequence))?))
            })
            .collect()
    }
}

impl Lane {
    fn is_ready(&self, now: f64) -> bool {
        now >= self.due && (self.unsent.is_some() || !self.queue.is_empty())
    }

    fn is_full(&self, now: f64) -> bool {
        now >= self.due && self.queue.len() >= MAX_BATCH
    }

    /// The batch that is to be sent: the one that may not have arrived, or the observations of one plan
    /// that wait longest.
    fn batch(&mut self, number: (u64, u64)) -> Option<Rc<[u8]>> {
        if self.unsent.is_none() {
            let (plan, _) = self.queue.front()?;
            let plan = Arc::clone(plan);
            let same = self.queue.iter().take(MAX_BATCH);
            let count = same.take_while(|(own, _)| Arc::ptr_eq(own, &plan)).count();
            let batch: Vec<_> = self.queue.drain(..count).collect();
            let observations = batch.iter().map(|(_, observation)| observation.as_ref());
            self.unsent = Some(Batch::new(number, &plan, observations).bytes().into());
        }
        self.unsent.clone()
    }
}

async fn post(correlators: &ObjectNamespace, shard: u32, bytes: &[u8]) -> Sent {
    let answer = async {
        let stub = correlators.get_by_name(&name(shard)).ok()?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post).with_body(Some(Uint8Array::from(bytes).into()));
        let request = Request::new_with_init(&format!("https://correlator/{shard}"), &init).ok()?;
        let mut response = stub.fetch_with_request(request).await.ok()?;
        match response.status_code() {
            200 => response.bytes().await.ok().map(Sent::Counted),
            400..=499 => Some(Sent::Refused),
            _ => None,
        }
    };
    answer.await.unwrap_or(Sent::Failed)
}

/// The name of one of the objects that count.
fn name(shard: u32) -> String {
    format!("correlator-{shard}")
}

/// A number for a name that nobody else has.
fn number(name: &str) -> u64 {
    let hash = Sha256::digest(name);
    hash.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// How long observations wait for others.
const PAUSE: Duration = Duration::from_secs(1);

/// How often one invocation sends, at most: the platform ends it half a minute after its answer.
const ROUNDS: usize = 10;

/// Observations that wait for one object at most: some megabytes.
const MAX_QUEUE: usize = 4_096;

/// Milliseconds for which nobody else sends, should who is about to never do it.
const LEASE: f64 = 30_000.0;

/// For how long an object may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_of_one_plan_and_stays_until_it_has_arrived() {
        let (one, other) = (Arc::new(Plan::default()), Arc::new(Plan::default()));
        let mut lane = Lane::default();
        for (plan, count) in [(&one, MAX_BATCH + 3), (&other, 2)] {
            lane.queue.extend((0..count).map(|_| (Arc::clone(plan), Rc::default())));
        }
        let mut sizes = Vec::new();
        for sequence in 1..=3 {
            let batch = lane.batch((7, sequence)).unwrap();
            // One of which nobody knows is sent again under its own number.
            assert_eq!(lane.batch((7, 99)), Some(Rc::clone(&batch)));
            let batch = Batch::parse(&batch).unwrap();
            sizes.push((batch.sequence, batch.len()));
            lane.unsent = None;
        }
        assert_eq!(sizes, [(1, MAX_BATCH), (2, 3), (3, 2)]);
        assert_eq!(lane.batch((7, 4)), None);
    }
}
