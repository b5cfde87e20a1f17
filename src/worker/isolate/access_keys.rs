//! The public keys of a Cloudflare Access team. They are fetched when the first assertion (a signed
//! token of Access) needs them.
//!
//! Only one request fetches at a time, in the background; other requests that need the keys wait
//! for that fetch. Any client can send an assertion with an unknown key id. So keys are fetched at
//! most once a minute. After a failure, the pause grows from one second to a minute. Keys older
//! than an hour are fetched again. Up to an age of a day, requests use them without waiting for the
//! fetch.
//!
//! The keys are also stored in the cache of the data centre, so that a new isolate needs no fetch.
//! Other Workers of the zone can write to that cache. So the entry carries a MAC, whose key is
//! derived from ACCOUNT_SECRET.

use std::cell::RefCell;
use std::time::Duration;

use hedgerow_core::api::ConfigProblem;
use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::identity::access::{Assertion, keys_url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use worker::{
    Cache, Context, Delay, Fetch, Method, Request, RequestInit, RequestRedirect, Response,
    ResponseBuilder,
};

use crate::isolate::telemetry;
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::hmac_sha256;
use crate::platform::lease::{Backoff, Lease};
use crate::platform::rs256::{JsonWebKey, PublicKey};

/// Timeout of one fetch.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);

/// Timeout of a read or write of the cache. The cache is read before a fetch.
const CACHE_TIMEOUT: Duration = Duration::from_millis(500);

/// Time after which another request may fetch, if the fetching request has ended without a result.
/// It is longer than the timeouts of a cache read and a fetch together.
const FETCH_LEASE: Duration = Duration::from_millis(3_600);

/// Maximum milliseconds for which a request waits for keys: enough for one fetch.
const MAX_WAIT_MS: f64 = 3_600.0;

/// Pause between two checks whether another request's fetch has ended. The platform does not let a
/// request await the I/O of another request.
const POLL: Duration = Duration::from_millis(10);

/// Minimum time between a successful fetch and the next one.
const FETCH_INTERVAL: Duration = Duration::from_secs(60);

/// The first and the longest pause after a failed fetch.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Seconds after which keys are fetched again: Access rotates them every six weeks.
const MAX_AGE_SECONDS: u64 = 3_600;

/// Seconds after which old keys are no longer used, even if no newer keys can be fetched.
const MAX_STALE_SECONDS: u64 = 86_400;

/// Maximum number of keys. Access publishes two.
const MAX_KEYS: usize = 8;

/// Maximum bytes of the set of keys.
const MAX_SET_BYTES: usize = 64 << 10;

/// Name of the cache.
const CACHE_NAME: &str = "hedgerow-access";

/// The error that is counted for each request whose assertion cannot be verified, because keys are
/// missing.
const UNVERIFIED: &str =
    "identity: a request was not believed, because the keys of Cloudflare Access are missing";

/// The keys of a team.
struct TeamKeys<K> {
    team: String,
    /// Keys by id.
    keys: Vec<(String, K)>,
    /// Time of the last successful fetch, in seconds since the epoch.
    fetched: u64,
    /// The lease of the request that fetches.
    fetching: Lease,
    /// The time from which on another fetch is allowed.
    backoff: Backoff,
    /// Number of requests, since the last successful fetch, whose assertion could not be verified
    /// because keys were missing.
    unverified: u64,
}

/// The result of a lookup of the key that an assertion needs.
#[derive(Clone, Debug, PartialEq)]
enum Lookup<K> {
    Fresh(K),
    /// The key may be used, and the keys should be fetched again.
    Stale(K),
    /// Keys are known, but none has this id.
    Unknown,
    /// No keys are known, or all are older than a day.
    NoKeys,
}

/// The next step of a request that needs a key.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Fetches the keys: this request holds the lease.
    Fetch,
    /// Waits, because another request fetches the keys.
    Wait,
    /// Continues without new keys: the key is fresh, or the pause after the last fetch, successful
    /// or not, is not over.
    StopWaiting,
}

/// The entry of the cache.
#[derive(Serialize, Deserialize)]
struct CachedSet {
    /// The set of keys, as Access publishes it.
    set: String,
    /// Time of the fetch, in seconds since the epoch.
    fetched: u64,
    /// HMAC over the URL of the keys and the other members, in hex.
    mac: String,
}

thread_local! {
    static KEYS: RefCell<TeamKeys<PublicKey>> = RefCell::new(TeamKeys::new(""));
}

/// Returns whether `assertion` is a valid assertion of `team` for the application `audience`. Also
/// returns false if the keys are missing. `secret` is ACCOUNT_SECRET; without it, the cache of the
/// data centre is not used.
pub async fn is_valid(
    assertion: &str,
    team: &str,
    audience: &str,
    secret: Option<&str>,
    context: &Context,
) -> bool {
    let Some(parsed) = Assertion::parse(assertion, team, audience, now_seconds()) else {
        return false;
    };
    let start_fetch = || {
        let (team, id) = (team.to_owned(), parsed.key_id.clone());
        let secret = secret.map(str::to_owned);
        // Fetch in the background: if the client of this request disconnects, other requests still
        // wait for the keys.
        context.wait_until(async move { refresh(&team, &id, secret.as_deref()).await });
    };
    match find_or_wait(team, &parsed.key_id, start_fetch).await {
        Lookup::Fresh(key) | Lookup::Stale(key) => {
            key.verifies(&parsed.signature, parsed.signed).await
        }
        Lookup::Unknown => false,
        Lookup::NoKeys => {
            telemetry::count_error(UNVERIFIED);
            KEYS.with_borrow_mut(|known| {
                known.unverified = known.unverified.saturating_add(1);
            });
            false
        }
    }
}

/// Returns a warning for `/_hedgerow/health` if assertions cannot be verified because keys are
/// missing.
pub fn warning() -> Option<ConfigProblem> {
    KEYS.with_borrow(|known| {
        let count = Some(known.unverified).filter(|count| *count > 0)?;
        Some(ConfigProblem::new(
            format!(
                "identity: the keys of Cloudflare Access cannot be fetched; {count} requests were \
                 not believed"
            ),
            "check the team's name in `trusted` of [identity] in policy.toml",
        ))
    })
}

/// Finds the key `id` of `team`. If the key is missing or older than an hour, starts a fetch with
/// `start_fetch`, unless one is running or none is allowed yet. Waits for the fetch only if the key
/// is missing, at most [`MAX_WAIT_MS`].
async fn find_or_wait(team: &str, id: &str, start_fetch: impl Fn()) -> Lookup<PublicKey> {
    let give_up_at = now_ms() + MAX_WAIT_MS;
    loop {
        let (lookup, step) = KEYS.with_borrow_mut(|known| {
            known.select_team(team);
            let lookup = known.find(id, now_seconds());
            let is_fresh = matches!(lookup, Lookup::Fresh(_));
            (lookup, if is_fresh { Step::StopWaiting } else { known.next_step(now_ms()) })
        });
        if step == Step::Fetch {
            start_fetch();
        }
        let is_usable = matches!(lookup, Lookup::Fresh(_) | Lookup::Stale(_));
        if is_usable || step == Step::StopWaiting || now_ms() >= give_up_at {
            return lookup;
        }
        Delay::from(POLL).await;
    }
}

impl<K: Clone> TeamKeys<K> {
    fn new(team: &str) -> Self {
        Self {
            team: team.to_owned(),
            keys: Vec::new(),
            fetched: 0,
            fetching: Lease::default(),
            backoff: Backoff::default(),
            unverified: 0,
        }
    }

    /// Forgets all keys if they belong to a team other than `team`: the policy has changed.
    fn select_team(&mut self, team: &str) {
        if self.team != team {
            *self = Self::new(team);
        }
    }

    /// Finds the key with an id. `now` is in seconds since the epoch.
    fn find(&self, id: &str, now: u64) -> Lookup<K> {
        let age = now.saturating_sub(self.fetched);
        if self.keys.is_empty() || age > MAX_STALE_SECONDS {
            return Lookup::NoKeys;
        }
        match self.keys.iter().find(|(key_id, _)| key_id == id) {
            Some((_, key)) if age <= MAX_AGE_SECONDS => Lookup::Fresh(key.clone()),
            Some((_, key)) => Lookup::Stale(key.clone()),
            None => Lookup::Unknown,
        }
    }

    /// Returns the next step of a request without a fresh key. For [`Step::Fetch`], takes the
    /// lease. `now` is in milliseconds since the epoch.
    fn next_step(&mut self, now: f64) -> Step {
        if self.fetching.is_held(now) {
            Step::Wait
        } else if self.backoff.is_due(now) && self.fetching.try_acquire(now, FETCH_LEASE) {
            Step::Fetch
        } else {
            Step::StopWaiting
        }
    }

    /// Ends a fetch: `keys` is `None` if it failed. `fetched` is in seconds, `now` in milliseconds
    /// since the epoch.
    fn finish(&mut self, keys: Option<Vec<(String, K)>>, fetched: u64, now: f64) {
        self.fetching.release();
        match keys {
            Some(keys) => {
                self.keys = keys;
                self.fetched = fetched;
                self.unverified = 0;
                self.backoff.record_success(now, FETCH_INTERVAL);
            }
            None => {
                self.backoff.record_failure(now, MIN_BACKOFF, MAX_BACKOFF);
            }
        }
    }
}

/// Fetches the keys of a team: from the cache if it has the key `id` and its keys are at most an
/// hour old, otherwise from Access. If Access does not answer, uses the keys in the cache.
async fn refresh(team: &str, id: &str, secret: Option<&str>) {
    let url = keys_url(team);
    let (mut keys, mut fetched) = (None, 0);
    let cached = with_timeout(read_cache(&url, secret), CACHE_TIMEOUT).await.flatten();
    if let Some(cached) = cached {
        keys = import(&cached.set).await;
        fetched = cached.fetched;
    }
    let has_key = keys.iter().flatten().any(|(key_id, _)| key_id == id);
    let age = now_seconds().saturating_sub(fetched);
    if !has_key || age > MAX_AGE_SECONDS {
        let set = with_timeout(fetch_set(&url), FETCH_TIMEOUT).await.flatten();
        let imported = match &set {
            Some(set) => import(set).await,
            None => None,
        };
        match (set, imported) {
            (Some(set), Some(imported)) => {
                (keys, fetched) = (Some(imported), now_seconds());
                with_timeout(write_cache(&url, set, fetched, secret), CACHE_TIMEOUT).await;
            }
            _ => {
                telemetry::count_error("identity: the keys of Cloudflare Access cannot be fetched")
            }
        }
    }
    KEYS.with_borrow_mut(|known| {
        if known.team == team {
            // Keys from the cache may be older than the known keys, and must not replace them.
            let is_newer = fetched >= known.fetched;
            known.finish(keys.filter(|_| is_newer), fetched, now_ms());
        }
    });
}

/// Fetches the set of keys at a URL, as text. Returns `None` if the fetch fails, the status is not
/// 200, or the text exceeds [`MAX_SET_BYTES`].
async fn fetch_set(url: &str) -> Option<String> {
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_redirect(RequestRedirect::Manual);
    let request = Request::new_with_init(url, &init).ok()?;
    let mut response = Fetch::Request(request).send().await.ok()?;
    if response.status_code() != 200 {
        return None;
    }
    response.text().await.ok().filter(|text| text.len() <= MAX_SET_BYTES)
}

/// Imports the first [`MAX_KEYS`] keys of a set, and leaves out keys that cannot be imported.
/// Returns `None` if the set is malformed or no key is left.
async fn import(set: &str) -> Option<Vec<(String, PublicKey)>> {
    #[derive(Deserialize)]
    struct KeySet {
        keys: Vec<Value>,
    }
    let set: KeySet = serde_json::from_str(set).ok()?;
    let mut keys = Vec::new();
    for key in set.keys.into_iter().take(MAX_KEYS) {
        if let Ok(key) = JsonWebKey::deserialize(key)
            && let Some(key) = PublicKey::import(key).await
        {
            keys.push((key.id.clone(), key));
        }
    }
    (!keys.is_empty()).then_some(keys)
}

/// Reads the set of keys from the cache. Returns `None` without `secret`, or if the set is missing,
/// older than a day or not authentic.
async fn read_cache(url: &str, secret: Option<&str>) -> Option<CachedSet> {
    let secret = secret?;
    let cache = Cache::open(CACHE_NAME.to_owned()).await;
    let text = cache.get(url, false).await.ok()??.text().await.ok()?;
    let cached: CachedSet = serde_json::from_str(&text).ok()?;
    let is_usable = now_seconds().saturating_sub(cached.fetched) <= MAX_STALE_SECONDS
        && cached.mac == mac(url, &cached.set, cached.fetched, secret)?;
    is_usable.then_some(cached)
}

/// Writes the set of keys to the cache. Without `secret`, writes nothing. Callers ignore errors,
/// because the platform does not offer the cache on every domain.
async fn write_cache(url: &str, set: String, fetched: u64, secret: Option<&str>) -> Option<()> {
    let mac = mac(url, &set, fetched, secret?)?;
    let text = serde_json::to_string(&CachedSet { set, fetched, mac }).ok()?;
    let response: Response = ResponseBuilder::new()
        .with_header("cache-control", &format!("max-age={MAX_STALE_SECONDS}"))
        .ok()?
        .ok(text)
        .ok()?;
    let cache = Cache::open(CACHE_NAME.to_owned()).await;
    cache.put(url, response).await.ok()
}

/// Returns the MAC of an entry of the cache, in hex.
fn mac(url: &str, set: &str, fetched: u64, secret: &str) -> Option<String> {
    let key = hmac_sha256::derive_key(secret, HashPurpose::AccessKeys)?;
    let message = format!("{url}\0{fetched}\0{set}");
    hmac_sha256::hmac_hex_of_single_purpose_key(&key, message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn team(fetched: u64) -> TeamKeys<u8> {
        let keys = vec![("k1".to_owned(), 1)];
        TeamKeys { keys, fetched, ..TeamKeys::new("acme") }
    }

    #[test]
    fn keys_are_fresh_for_an_hour_and_usable_for_a_day() {
        let fetched = 1_800_000_000;
        let rows = [
            ("k1", 0, Lookup::Fresh(1)),
            ("k1", MAX_AGE_SECONDS, Lookup::Fresh(1)),
            ("k1", MAX_AGE_SECONDS + 1, Lookup::Stale(1)),
            ("k1", MAX_STALE_SECONDS, Lookup::Stale(1)),
            ("k1", MAX_STALE_SECONDS + 1, Lookup::NoKeys),
            ("k2", 0, Lookup::Unknown),
        ];
        for (id, age, expected) in rows {
            assert_eq!(team(fetched).find(id, fetched + age), expected, "{id} {age}");
        }
        assert_eq!(TeamKeys::<u8>::new("acme").find("k1", 0), Lookup::NoKeys);
        let mut other = team(fetched);
        other.select_team("other");
        assert_eq!(other.find("k1", fetched), Lookup::NoKeys);
    }

    #[test]
    fn one_request_fetches_and_others_wait_and_failures_are_tried_again_after_a_second() {
        let mut known = TeamKeys::<u8>::new("acme");
        assert_eq!(known.next_step(0.0), Step::Fetch);
        assert_eq!(known.next_step(1.0), Step::Wait);
        known.finish(None, 0, 1_000.0);
        assert_eq!(known.next_step(1_001.0), Step::StopWaiting, "the fetch has failed");
        assert_eq!(known.next_step(2_000.0), Step::Fetch);
        // The client of that request has left.
        assert_eq!(known.next_step(5_599.0), Step::Wait);
        assert_eq!(known.next_step(5_600.0), Step::Fetch);
        known.finish(Some(vec![("k1".to_owned(), 1)]), 6, 6_000.0);
        assert_eq!(known.find("k1", 6), Lookup::Fresh(1));
        assert_eq!(
            known.next_step(65_999.0),
            Step::StopWaiting,
            "an unknown key costs one fetch a minute"
        );
        assert_eq!(known.next_step(66_000.0), Step::Fetch);
    }

    #[test]
    fn the_mac_of_the_cache_covers_every_input() {
        let macs = [
            mac("u", "s", 1, "secret"),
            mac("v", "s", 1, "secret"),
            mac("u", "t", 1, "secret"),
            mac("u", "s", 2, "secret"),
            mac("u", "s", 1, "other"),
        ];
        for (index, left) in macs.iter().enumerate() {
            assert!(left.is_some() && macs.iter().skip(index + 1).all(|right| right != left));
        }
    }
}
