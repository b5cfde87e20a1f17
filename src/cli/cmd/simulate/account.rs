//! Accounts, and the actors that send requests with them.

use super::arrivals::AccountArrivals;
use super::client_profile::Address;
use super::rng::Rng;
use super::traffic_source::TrafficSource;

/// An account with its results.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Account id in the form of the edge: 32 hex digits.
    pub name: String,
    /// Hash in clusters; 0 before the first request.
    pub hash: u64,
    /// Index of its source.
    pub source: usize,
    /// Number of requests that the account sent.
    pub requests: u32,
    /// Number, from 1, of the exchange of its source that flagged it; 0 if it is not flagged.
    pub flagged_at_exchange: u32,
    /// Number, from 1, of its own request that flagged it; 0 if it is not flagged.
    pub flagged_at_request: u32,
    /// Whether one of its requests would be blocked, if the policy were enforced.
    pub is_blocked: bool,
    /// Time of its ban, in milliseconds from the start.
    pub banned_at: Option<u64>,
}

/// A person or a program that sends requests with one or more accounts.
pub struct Actor {
    /// Index of its source.
    pub source: usize,
    /// Index of the account in use.
    pub account: usize,
    /// Index of its first account. Further accounts follow it.
    pub first_account: usize,
    /// Index of its tool, company or gateway.
    pub group: u32,
    pub arrivals: AccountArrivals,
    pub rng: Rng,
    pub home_address: Address,
    /// Index of its client.
    pub profile_index: usize,
    /// Seed of the current conversation.
    pub conversation_seed: u64,
    /// Turn of the current conversation, from 0.
    pub turn: u32,
}

/// Returns an account id in the form of the edge: 32 hex digits.
pub fn account_name(seed: u64, index: usize) -> String {
    let mut rng = Rng::new(seed ^ 0xacc0, index as u64);
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

impl TrafficSource {
    /// Returns the number of accounts, including the reserve.
    pub fn account_count(&self) -> usize {
        self.actors as usize * self.keys_per_actor as usize + self.reserve as usize
    }
}
