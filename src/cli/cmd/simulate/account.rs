//! Accounts, and those who use them.

use super::arrivals::AccountArrivals;
use super::client_profile::Address;
use super::rng::Rng;
use super::traffic_source::TrafficSource;

/// An account, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Its keyed hash, as the edge would name it.
    pub name: String,
    /// Its hash in clusters; 0 as long as it is not known.
    pub hash: u64,
    /// Its source.
    pub source: usize,
    /// Requests that it sent.
    pub requests: u32,
    /// The number of the exchange by which it was flagged; 0 for never. The benign have exchanges of
    /// their own.
    pub flagged_at_exchange: u32,
    /// Which of its own requests that was, from 1.
    pub flagged_at_request: u32,
    /// Whether a request of it would be blocked.
    pub is_blocked: bool,
    /// When it is banned, in milliseconds from the start.
    pub banned_at: Option<u64>,
}

/// Somebody, or something, that sends requests.
pub struct Actor {
    pub source: usize,
    /// The account at present.
    pub account: usize,
    /// Its first account; others that it has follow.
    pub first_account: usize,
    /// Which tool, company or gateway it belongs to.
    pub group: u32,
    pub arrivals: AccountArrivals,
    pub rng: Rng,
    pub home_address: Address,
    pub profile_index: usize,
    /// What the present conversation is made from.
    pub conversation_seed: u64,
    /// Its turn, from 0.
    pub turn: u32,
}

/// A name as the edge makes them: 32 hex digits.
pub fn account_name(seed: u64, index: usize) -> String {
    let mut rng = Rng::new(seed ^ 0xacc0, index as u64);
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

impl TrafficSource {
    /// How many accounts it has, those that wait included.
    pub fn account_count(&self) -> usize {
        self.actors as usize * self.keys_per_actor as usize + self.reserve as usize
    }
}
