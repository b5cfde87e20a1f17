//! The world of a scenario: everybody in it, and what they send next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::account::{Account, Actor, name};
use super::client::Programs;
use super::draft::Writer;
use super::pace::Weekday;
use super::rng::Rng;
use super::scenario::{Kind, Scenario};
use super::source::{Carrier, Source};

/// Everybody, and the time.
pub struct World {
    pub sources: Vec<Source>,
    pub accounts: Vec<Account>,
    /// Writes what is sent.
    pub writer: Writer,
    actors: Vec<Actor>,
    /// Who sends next, and when, in milliseconds from the start.
    queue: BinaryHeap<Reverse<(u64, u32)>>,
    /// The next account of each source that waits, and how many wait behind it.
    reserves: Vec<(usize, u32)>,
    end: u64,
    turnover: u64,
    /// Whether a new model comes out.
    has_release: bool,
    first: Weekday,
}

/// A request that is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When, in milliseconds from the start.
    pub at: u64,
    /// By whom.
    pub account: usize,
    /// How it is answered.
    pub status: u16,
}

impl World {
    /// The world that a scenario describes; `noise` replaces what its campaigns say, in percent.
    pub fn new(scenario: &Scenario, noise: Option<f64>) -> Self {
        let seed = scenario.seed;
        let benign = scenario.benign.iter().enumerate();
        let benign =
            benign.map(|(number, entry)| Source::benign(entry, scenario.scale, seed, number));
        let campaigns = scenario.campaign.iter().enumerate().map(|(number, entry)| {
            let mut entry = entry.clone();
            entry.noise = noise.unwrap_or(entry.noise);
            Source::campaign(&entry, scenario.scale, seed, CAMPAIGNS + number)
        });
        let sources: Vec<Source> = benign.chain(campaigns).collect();
        let end = u64::from(scenario.days) * DAY_MS;
        let turnover = scenario.turnover.map_or(end / 2, |hour| (hour * HOUR_MS) as u64);
        let has_release = scenario.benign.iter().any(|entry| entry.kind == Kind::ReleaseDay);
        // 1 January 1970 was a Thursday.
        let first = Weekday((scenario.starts() / 86_400 + 3) % 7);
        let mut world = Self {
            sources: Vec::new(),
            accounts: Vec::new(),
            writer: Writer::new(),
            actors: Vec::new(),
            queue: BinaryHeap::new(),
            reserves: Vec::new(),
            end,
            turnover,
            has_release,
            first,
        };
        for (number, source) in sources.iter().enumerate() {
            world.settle(number, source);
        }
        world.sources = sources;
        world
    }

    /// How long it goes on, in milliseconds.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Makes a source's accounts and actors.
    fn settle(&mut self, number: usize, source: &Source) {
        let base = self.accounts.len();
        for account in 0..source.accounts() {
            let name = name(source.seed, account);
            self.accounts.push(Account { name, source: number, ..Account::default() });
        }
        let used = source.actors as usize * source.keys as usize;
        self.reserves.push((base + used, source.reserve));
        let begins = match (&source.campaign, source.kind) {
            (Some(campaign), _) => (campaign.begins * HOUR_MS) as u64,
            (None, Some(Kind::ReleaseDay)) => self.turnover,
            _ => 0,
        };
        for place in 0..source.actors {
            let mut rng = Rng::new(source.seed, u64::from(place) | 1 << 32);
            let group = source.group(place, &mut rng);
            let base = base + place as usize * source.keys as usize;
            let home = source.place.settle(source, group, &mut rng);
            let program = match source.carrier {
                Carrier::Script => Programs::script(&mut rng),
                _ => Programs::app(&mut rng),
            };
            let mut rhythm = source.pace.rhythm(&mut rng);
            if source.kind == Some(Kind::NightlyEval) && place % 2 == 1 {
                rhythm.around_the_clock();
            }
            let (talk, turn) = (rng.next(), 0);
            self.actors.push(Actor {
                source: number,
                account: base,
                base,
                group,
                rhythm,
                rng,
                home,
                program,
                talk,
                turn,
            });
            self.schedule(self.actors.len() - 1, begins);
        }
    }

    /// Writes the next request; `None` at the end.
    pub fn next(&mut self) -> Option<Sent> {
        let Reverse((at, number)) = self.queue.pop().filter(|Reverse((at, _))| *at < self.end)?;
        let number = number as usize;
        let actor = self.actors.get_mut(number)?;
        let source = self.sources.get(actor.source)?;
        let is_after = at >= self.turnover;
        if source.kind == Some(Kind::KeyMigration) {
            actor.account = actor.base + usize::from(is_after);
        }
        let is_new = self.has_release && is_after && moves(source, actor);
        self.writer.write(source, actor, is_new);
        let account = actor.account;
        let banned = self.accounts.get(account).and_then(|account| account.banned);
        let status = match banned {
            Some(when) if when <= at => 403,
            _ => status(source, &mut actor.rng),
        };
        match status {
            403 => {
                if self.replace(number) {
                    self.schedule(number, at);
                }
            }
            200 => self.schedule(number, at),
            _ => self.again(number, at),
        }
        Some(Sent { at, account, status })
    }

    /// Puts a waiting account in the place of a banned one; whether there is one.
    fn replace(&mut self, number: usize) -> bool {
        let Some(actor) = self.actors.get_mut(number) else { return false };
        match self.reserves.get_mut(actor.source) {
            Some((next, left)) if *left > 0 => {
                actor.account = *next;
                *next += 1;
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// Sends a refused request again; a router does so by its next key.
    fn again(&mut self, number: usize, at: u64) {
        let Some(actor) = self.actors.get_mut(number) else { return };
        let keys = self.sources.get(actor.source).map_or(1, |source| source.keys as usize);
        if keys > 2 {
            actor.account = actor.base + (actor.account - actor.base + 1) % keys;
        }
        let at = at + 500 + actor.rng.below(2_500) as u64;
        self.queue.push(Reverse((at, number as u32)));
    }

    fn schedule(&mut self, number: usize, now: u64) {
        let Some(actor) = self.actors.get_mut(number) else { return };
        let next = actor.rhythm.next(now, self.end, self.first, &mut actor.rng);
        let Some((at, is_first)) = next else { return };
        if is_first {
            actor.talk = actor.rng.next();
            actor.turn = 0;
        } else {
            actor.turn += 1;
        }
        if at < self.end {
            self.queue.push(Reverse((at, number as u32)));
        }
    }
}

/// Whether an actor asks for the new model once it is out.
fn moves(source: &Source, actor: &Actor) -> bool {
    source.campaign.is_some()
        || source.kind == Some(Kind::ReleaseDay)
        || actor.base.is_multiple_of(4)
}

/// How the origin answers: some requests are too many, and some fail.
fn status(source: &Source, rng: &mut Rng) -> u16 {
    let failing = if source.kind == Some(Kind::FailoverRouter) { 0.06 } else { 0.004 };
    match rng.share() {
        share if share < failing / 2.0 => 429,
        share if share < failing => 503,
        _ => 200,
    }
}

/// Numbers of campaigns begin here.
const CAMPAIGNS: usize = 1_000;

const HOUR_MS: f64 = 3_600_000.0;
const DAY_MS: u64 = 86_400_000;
