//! A running scenario: its accounts and actors, and the queue of their next requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::account::{Account, Actor, account_id};
use super::arrivals::{Arrival, Weekday};
use super::client_profile::ClientProfiles;
use super::kind_profile::{ClientKind, POD_TOKENS};
use super::request_writer::RequestWriter;
use super::rng::Rng;
use super::scenario::{BenignKind, Scenario};
use super::traffic_source::TrafficSource;

/// A running scenario.
pub struct Simulation {
    pub sources: Vec<TrafficSource>,
    pub accounts: Vec<Account>,
    /// The request that was sent last.
    pub writer: RequestWriter,
    actors: Vec<Actor>,
    /// Time of the next request of each actor, in milliseconds from the start, and index of the
    /// actor.
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    /// Reserve of each source, in the order of `sources`.
    reserves: Vec<Reserve>,
    end_ms: u64,
    turnover_ms: u64,
    /// Whether a new model is released at the turnover.
    has_model_release: bool,
    first_weekday: Weekday,
}

/// The accounts of a source that replace banned accounts.
struct Reserve {
    /// Index of the next account.
    next_account: usize,
    remaining: u32,
}

/// A request of the simulation, with the origin's answer.
#[derive(Clone, Copy, Debug)]
pub struct SentRequest {
    /// Milliseconds from the start.
    pub at_ms: u64,
    /// Index of the account.
    pub account: usize,
    /// Status of the response.
    pub status: u16,
}

impl Simulation {
    /// Returns the simulation of a scenario at its start. `noise` overrides the percentage of
    /// paraphrased requests of all campaigns.
    pub fn new(scenario: &Scenario, noise: Option<f64>) -> Self {
        let seed = scenario.seed;
        let benign = scenario.benign.iter().enumerate();
        let benign = benign
            .map(|(number, entry)| TrafficSource::from_benign(entry, scenario.scale, seed, number));
        let benign: Vec<TrafficSource> = benign.collect();
        let campaigns = scenario.campaign.iter().enumerate().map(|(number, entry)| {
            let mut entry = entry.clone();
            entry.noise = noise.unwrap_or(entry.noise);
            TrafficSource::from_campaign(
                &entry,
                scenario.scale,
                seed,
                FIRST_CAMPAIGN_STREAM + number,
            )
            .with_target(&benign)
        });
        let campaigns: Vec<TrafficSource> = campaigns.collect();
        let sources: Vec<TrafficSource> = benign.into_iter().chain(campaigns).collect();
        let end_ms = u64::from(scenario.days) * DAY_MS;
        let turnover_ms = scenario.turnover.map_or(end_ms / 2, |hour| (hour * HOUR_MS) as u64);
        let has_model_release =
            scenario.benign.iter().any(|entry| entry.kind == BenignKind::ReleaseDay);
        // The epoch, 1 January 1970, was a Thursday, which is weekday 3.
        let first_weekday = Weekday((scenario.start_time() / 86_400 + 3) % 7);
        let mut simulation = Self {
            sources: Vec::new(),
            accounts: Vec::new(),
            writer: RequestWriter::new(),
            actors: Vec::new(),
            queue: BinaryHeap::new(),
            reserves: Vec::new(),
            end_ms,
            turnover_ms,
            has_model_release,
            first_weekday,
        };
        for (number, source) in sources.iter().enumerate() {
            simulation.add_source(number, source);
        }
        simulation.sources = sources;
        simulation
    }

    /// Returns the length of the scenario in milliseconds.
    pub fn end_ms(&self) -> u64 {
        self.end_ms
    }

    /// Adds the accounts and actors of a source, and schedules their first requests.
    fn add_source(&mut self, source_index: usize, source: &TrafficSource) {
        let source_first_account = self.accounts.len();
        for account in 0..source.account_count() {
            let id = account_id(source.seed, account);
            self.accounts.push(Account { id, source: source_index, ..Account::default() });
        }
        let initial_accounts = source.actors as usize * source.keys_per_actor as usize;
        self.reserves.push(Reserve {
            next_account: source_first_account + initial_accounts,
            remaining: source.reserve,
        });
        let start_ms = match (&source.campaign, source.kind) {
            (Some(campaign), _) => (campaign.begins * HOUR_MS) as u64,
            (None, Some(BenignKind::ReleaseDay)) => self.turnover_ms,
            _ => (source.begins * HOUR_MS) as u64,
        };
        for actor_index in 0..source.actors {
            let mut rng = Rng::new(source.seed, u64::from(actor_index) | 1 << 32);
            let group = source.pick_group(actor_index, &mut rng);
            let first_account =
                source_first_account + actor_index as usize * source.keys_per_actor as usize;
            let home_address = source.home_address(group, &mut rng);
            let profile_index = match source.client_kind {
                ClientKind::Script => ClientProfiles::pick_script(&mut rng),
                _ => ClientProfiles::pick_app(&mut rng),
            };
            let mut arrivals = source.arrivals.for_account(&mut rng);
            if source.kind == Some(BenignKind::NightlyEval) && actor_index % 2 == 1 {
                arrivals.spread_over_the_clock();
            }
            let conversation_seed = rng.next_u64();
            self.actors.push(Actor {
                source: source_index,
                account: first_account,
                first_account,
                group,
                arrivals,
                rng,
                home_address,
                profile_index,
                conversation_seed,
                turn: 0,
            });
            let turn = f64::from(actor_index) / f64::from(source.actors);
            let delay_ms = (turn * source.gradual * HOUR_MS) as u64;
            self.schedule(self.actors.len() - 1, start_ms + delay_ms);
        }
    }

    /// Writes the next request, and schedules the following request of its actor. Returns `None` at
    /// the end of the scenario.
    pub fn next_request(&mut self) -> Option<SentRequest> {
        let Reverse((at_ms, actor_index)) =
            self.queue.pop().filter(|Reverse((at, _))| *at < self.end_ms)?;
        let actor_index = actor_index as usize;
        let actor = self.actors.get_mut(actor_index)?;
        let source = self.sources.get(actor.source)?;
        let is_after_turnover = at_ms >= self.turnover_ms;
        if source.kind == Some(BenignKind::KeyMigration) {
            actor.account = actor.first_account + usize::from(is_after_turnover);
        }
        if source.kind == Some(BenignKind::Pods) {
            let tokens = (at_ms / POD_TOKEN_MS) as usize % POD_TOKENS as usize;
            actor.account = actor.first_account + tokens;
        }
        let uses_new_model =
            self.has_model_release && is_after_turnover && adopts_new_model(source, actor);
        self.writer.write(source, actor, uses_new_model);
        let account = actor.account;
        let banned = self.accounts.get(account).and_then(|account| account.banned_at);
        let forced_status = source.campaign.as_ref().and_then(|campaign| campaign.status);
        let status = match banned {
            Some(banned_at) if banned_at <= at_ms => 403,
            _ if forced_status.is_some() => forced_status.unwrap_or(200),
            _ => response_status(source, &mut actor.rng),
        };
        match status {
            _ if forced_status.is_some() => self.schedule(actor_index, at_ms),
            403 => {
                if self.replace_banned(actor_index) {
                    self.schedule(actor_index, at_ms);
                }
            }
            200 => self.schedule(actor_index, at_ms),
            _ => self.retry(actor_index, at_ms),
        }
        Some(SentRequest { at_ms, account, status })
    }

    /// Replaces an actor's banned account by an account of the reserve. Returns false if the
    /// reserve is empty.
    fn replace_banned(&mut self, actor_index: usize) -> bool {
        let Some(actor) = self.actors.get_mut(actor_index) else { return false };
        match self.reserves.get_mut(actor.source) {
            Some(reserve) if reserve.remaining > 0 => {
                actor.account = reserve.next_account;
                reserve.next_account += 1;
                reserve.remaining -= 1;
                true
            }
            _ => false,
        }
    }

    /// Schedules a failed request again, after 0.5 to 3 seconds. An actor with more than two keys,
    /// such as a router, uses its next key.
    fn retry(&mut self, actor_index: usize, at: u64) {
        let Some(actor) = self.actors.get_mut(actor_index) else { return };
        let keys =
            self.sources.get(actor.source).map_or(1, |source| source.keys_per_actor as usize);
        if keys > 2 {
            actor.account = actor.first_account + (actor.account - actor.first_account + 1) % keys;
        }
        let at = at + 500 + actor.rng.below(2_500) as u64;
        self.queue.push(Reverse((at, actor_index as u32)));
    }

    /// Schedules the next request of an actor.
    fn schedule(&mut self, actor_index: usize, now: u64) {
        let Some(actor) = self.actors.get_mut(actor_index) else { return };
        let campaign = self.sources.get(actor.source).and_then(|source| source.campaign.as_ref());
        let ends = campaign.and_then(|campaign| campaign.ends).map(|hour| (hour * HOUR_MS) as u64);
        if ends.is_some_and(|ends| now >= ends) {
            return;
        }
        let next_arrival =
            actor.arrivals.next_arrival(now, self.end_ms, self.first_weekday, &mut actor.rng);
        let Some(Arrival { at_ms, starts_burst }) = next_arrival else { return };
        if starts_burst {
            actor.conversation_seed = actor.rng.next_u64();
            actor.turn = 0;
        } else {
            actor.turn += 1;
        }
        if at_ms < self.end_ms {
            self.queue.push(Reverse((at_ms, actor_index as u32)));
        }
    }
}

/// Returns whether an actor uses the new model after its release.
fn adopts_new_model(source: &TrafficSource, actor: &Actor) -> bool {
    source.campaign.is_some()
        || source.kind == Some(BenignKind::ReleaseDay)
        || actor.first_account.is_multiple_of(4)
}

/// Draws the status of a response: some requests are throttled (429), and some fail (503).
fn response_status(source: &TrafficSource, rng: &mut Rng) -> u16 {
    let failure_rate = if source.kind == Some(BenignKind::FailoverRouter) { 0.06 } else { 0.004 };
    match rng.uniform() {
        share if share < failure_rate / 2.0 => 429,
        share if share < failure_rate => 503,
        _ => 200,
    }
}

/// Index of the stream of random numbers that the first campaign uses. The first benign entry uses
/// stream 0.
const FIRST_CAMPAIGN_STREAM: usize = 1_000;

/// Milliseconds for which a pod uses one token.
const POD_TOKEN_MS: u64 = 6 * 3_600_000;

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: u64 = 86_400_000;
