//! The public keys of a team of Cloudflare Access, fetched when an assertion needs them.
//!
//! Any client can send an assertion with an unknown key. Keys are therefore fetched at most once a
//! minute, by one request at a time; meanwhile such assertions prove nothing.

use std::cell::RefCell;
use std::time::Duration;

use hedgerow_core::identity::access::{Assertion, keys_url};
use serde::Deserialize;
use serde_json::Value;
use worker::{Fetch, Method, Request, RequestInit, RequestRedirect};

use crate::isolate::telemetry;
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::lease::Lease;
use crate::platform::rs256::{JsonWebKey, PublicKey};

/// Timeout of one fetch: requests wait for it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Time until another fetch, after a fetch of any result.
const FETCH_INTERVAL: Duration = Duration::from_secs(60);

/// Seconds after which keys are fetched again: Access rotates them every six weeks.
const MAX_AGE_SECONDS: u64 = 3_600;

/// Seconds after which keys that cannot be fetched again are not used any more.
const MAX_STALE_SECONDS: u64 = 86_400;

/// Maximum number of keys. Access publishes two.
const MAX_KEYS: usize = 8;

/// Maximum bytes of the set of keys.
const MAX_SET_BYTES: usize = 64 << 10;

/// The keys of a team.
#[derive(Default)]
struct TeamKeys {
    team: String,
    keys: Vec<PublicKey>,
    /// Time of the last successful fetch, in seconds since the epoch.
    fetched: u64,
    /// Held from the beginning of a fetch until another is allowed.
    fetching: Lease,
}

thread_local! {
    static KEYS: RefCell<TeamKeys> = RefCell::default();
}

/// Returns whether `assertion` is a valid assertion for an application of a team. False if it
/// cannot be verified, whatever the reason.
pub async fn is_valid(assertion: &str, team: &str, audience: &str) -> bool {
    let Some(parsed) = Assertion::parse(assertion, team, audience, now_seconds()) else {
        return false;
    };
    let (mut key, is_fresh) = find(team, &parsed.key_id);
    if key.is_none() || !is_fresh {
        refresh(team).await;
        key = find(team, &parsed.key_id).0;
    }
    match key {
        Some(key) => key.verifies(&parsed.signature, parsed.signed).await,
        None => false,
    }
}

/// Returns the key with an id, and whether the keys of the team are fresh.
fn find(team: &str, id: &str) -> (Option<PublicKey>, bool) {
    KEYS.with_borrow(|known| {
        let age = now_seconds().saturating_sub(known.fetched);
        if known.team != team || age > MAX_STALE_SECONDS {
            return (None, false);
        }
        let key = known.keys.iter().find(|key| key.id == id).cloned();
        (key, age <= MAX_AGE_SECONDS)
    })
}

/// Fetches the keys of a team, unless that was tried within the last minute.
async fn refresh(team: &str) {
    let may_fetch = KEYS.with_borrow_mut(|known| {
        if known.team != team {
            *known = TeamKeys { team: team.to_owned(), ..TeamKeys::default() };
        }
        known.fetching.try_acquire(now_ms(), FETCH_INTERVAL)
    });
    if !may_fetch {
        return;
    }
    let keys = with_timeout(fetch_keys(team), FETCH_TIMEOUT).await.flatten();
    let Some(keys) = keys.filter(|keys| !keys.is_empty()) else {
        telemetry::count_error("identity: the keys of Cloudflare Access cannot be fetched");
        return;
    };
    KEYS.with_borrow_mut(|known| {
        if known.team == team {
            known.keys = keys;
            known.fetched = now_seconds();
        }
    });
}

/// Fetches and imports the keys of a team. Keys that cannot be imported are left out.
async fn fetch_keys(team: &str) -> Option<Vec<PublicKey>> {
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<Value>,
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_redirect(RequestRedirect::Manual);
    let request = Request::new_with_init(&keys_url(team), &init).ok()?;
    let mut response = Fetch::Request(request).send().await.ok()?;
    if response.status_code() != 200 {
        return None;
    }
    let text = response.text().await.ok().filter(|text| text.len() <= MAX_SET_BYTES)?;
    let set: KeySet = serde_json::from_str(&text).ok()?;
    let mut keys = Vec::new();
    for key in set.keys.into_iter().take(MAX_KEYS) {
        if let Ok(key) = JsonWebKey::deserialize(key) {
            keys.extend(PublicKey::import(key).await);
        }
    }
    Some(keys)
}
