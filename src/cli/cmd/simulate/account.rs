//! Accounts, and the actors that send requests with them.

use super::arrivals::AccountArrivals;
use super::client_profile::Address;
use super::rng::Rng;
use super::traffic_source::TrafficSource;

/// An account, and the results that metrics record about it.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Account id in the form of the edge: 32 hex digits.
    pub id: String,
    /// Hash of the account in clusters; 0 before its first request.
    pub hash: u64,
    /// Index of its traffic source.
    pub source: usize,
    /// Number of requests that the account sent.
    pub requests: u32,
    /// Number of answered requests of the source (status 200), up to and including the request that
    /// flagged the account, but at least 1; 0 if the account is not flagged.
    pub flagged_at_exchange: u32,
    /// Number of the account's own requests, up to and including the request that flagged the
    /// account; 0 if the account is not flagged.
    pub flagged_at_request: u32,
    /// Whether one of its requests would be blocked if the policy were enforced.
    pub is_blocked: bool,
    /// Time of its ban, in milliseconds from the start of the scenario.
    pub banned_at: Option<u64>,
}

/// A person or a program that sends requests with one or more accounts.
pub struct Actor {
    /// Index of its traffic source.
    pub source: usize,
    /// Index of the account that the actor uses now.
    pub account: usize,
    /// Index of its first account. The actor's other accounts have the next indices.
    pub first_account: usize,
    /// Index of the tool, company or gateway that the actor shares with other actors.
    pub group: u32,
    pub arrivals: AccountArrivals,
    pub rng: Rng,
    pub home_address: Address,
    /// Index of its client in [`ClientProfiles`](super::client_profile::ClientProfiles).
    pub profile_index: usize,
    /// Seed of the current conversation.
    pub conversation_seed: u64,
    /// Number of the turn in the current conversation, from 0.
    pub turn: u32,
}

/// Returns an account id in the form of the edge: 32 hex digits.
pub fn account_id(seed: u64, index: usize) -> String {
    let mut rng = Rng::new(seed ^ 0xacc0, index as u64);
    format!("{:016x}{:016x}", rng.next_u64(), rng.next_u64())
}

impl TrafficSource {
    /// Returns the number of accounts of the source, including the reserve.
    pub fn account_count(&self) -> usize {
        self.actors as usize * self.keys_per_actor as usize + self.reserve as usize
    }
}
