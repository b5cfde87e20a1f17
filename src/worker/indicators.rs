//! The isolate's indicators: those that were published, and over them those that correlators answered
//! this isolate with and KV need not have yet.
//!
//! They are read from KV like rules: after an answer, at most every REFRESH_SECONDS. Whoever writes to
//! KV could otherwise have anybody blocked, so a value is authenticated under a key that is derived from
//! ACCOUNT_SECRET. What does not verify is refused and told once; the last good ones stay.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_channel::oneshot;
use hedgerow::indicator::{Indicator, Indicators, MAX_INDICATORS};
use worker::Context;

use crate::clock::{in_time, millis, seconds};
use crate::settings::Settings;
use crate::store::{Store, Stored};
use crate::{log, mac, outbox, rules};

#[derive(Default)]
struct State {
    known: Rc<Indicators>,
    /// What correlators answered this isolate with, of late.
    own: Vec<Own>,
    /// What was taken from KV last, and its number.
    published: Option<Stored>,
    number: u64,
    /// Whether a request has been served.
    begun: bool,
    /// When KV may be read again, and until when somebody is reading; milliseconds since the epoch.
    due: f64,
    busy: f64,
    failures: u32,
    /// What is wrong with what was read last, so that it is told once.
    problem: Option<String>,
    /// When expired ones were last looked for, in milliseconds since the epoch.
    tidied: f64,
}

/// An indicator of a correlator's answer.
struct Own {
    correlation: String,
    key: u64,
    expires: u32,
    cluster: u32,
    /// When it was told, in milliseconds since the epoch.
    told: f64,
}

thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The indicators in force. To be given back before anything is waited for: whoever adds one copies
/// them all as long as they are held.
pub fn in_force() -> Rc<Indicators> {
    STATE.with_borrow(|state| Rc::clone(&state.known))
}

/// Takes in what a correlator answered.
pub fn learn(answer: &[u8]) {
    let Ok(found) = Indicators::parse(answer) else {
        outbox::error("correlate: a correlator's answer cannot be read");
        return;
    };
    let told = millis();
    STATE.with_borrow_mut(|state| {
        state
            .own
            .retain(|own| told - own.told < OWN && found.find(&own.correlation, own.key).is_none());
        state.tidy(told);
        for Indicator { correlation, key, expires, cluster } in found.iter() {
            let correlation = correlation.to_owned();
            let own = Own { correlation, key, expires, cluster, told };
            own.lay_over(Rc::make_mut(&mut state.known));
            state.own.push(own);
        }
    });
}

/// Looks for newer ones if it is time to, after this request is answered. The first request of an
/// isolate waits for it, for a moment.
pub async fn refresh(settings: &Rc<Settings>, context: &Context) {
    let now = millis();
    let is_first = STATE.with_borrow_mut(|state| {
        let can_read = settings.rules().is_some() && settings.account_secret.is_some();
        if now < state.due || now < state.busy || !can_read {
            return None;
        }
        let is_first = !std::mem::replace(&mut state.begun, true);
        if !is_first && !rules::correlate() {
            state.due = now + settings.refresh().as_millis() as f64;
            return None;
        }
        state.busy = now + LEASE;
        Some(is_first)
    });
    let Some(is_first) = is_first else { return };
    let (done, waiting) = oneshot::channel();
    let settings = Rc::clone(settings);
    context.wait_until(async move {
        let outcome = read(&settings).await;
        settle(outcome, settings.refresh().as_millis() as f64);
        let _: Result<(), ()> = done.send(());
    });
    if is_first {
        in_time(waiting, rules::FIRST).await;
    }
}

/// Reads what was published; `None` where there is nothing, or nothing new.
async fn read(settings: &Settings) -> Result<Option<(Stored, u64, Indicators)>, String> {
    let store = Store::of(settings).ok_or("the binding RULES is missing")?;
    let secret = settings.account_secret.as_deref().ok_or("ACCOUNT_SECRET is missing")?;
    let read = in_time(store.indicators(), PATIENCE).await;
    let Some(stored) = read.ok_or("KV does not answer")?? else { return Ok(None) };
    if STATE.with_borrow(|state| state.published.as_ref() == Some(&stored)) {
        return Ok(None);
    }
    let (number, indicators) = open(&stored, secret).await?;
    let seen = STATE.with_borrow(|state| state.number);
    match number < seen {
        true => Err("what is published is older than what was seen".to_owned()),
        false => Ok(Some((stored, number, indicators))),
    }
}

/// The form that is published: a number that only grows, and the indicators. The signature is a MAC.
pub fn seal(number: u64, indicators: &Indicators, secret: &str) -> Option<Stored> {
    let bytes = [number.to_le_bytes().as_slice(), &indicators.bytes()].concat();
    let signature = mac::hex(&mac::derived(secret, PURPOSE)?, &bytes, 32)?;
    Some(Stored { bytes, signature })
}

async fn open(stored: &Stored, secret: &str) -> Result<(u64, Indicators), String> {
    let key = mac::derived(secret, PURPOSE).unwrap_or_default();
    match mac::verifies_much(&key, &stored.bytes, &stored.signature).await {
        Ok(true) => unpack(&stored.bytes),
        Ok(false) => Err("they were not published by this deployment's registry".to_owned()),
        Err(_) => Err("the platform's HMAC fails".to_owned()),
    }
}

fn unpack(bytes: &[u8]) -> Result<(u64, Indicators), String> {
    let (number, indicators) = bytes.split_first_chunk::<8>().ok_or("these are no indicators")?;
    let indicators = Indicators::parse(indicators).map_err(|error| error.problem().to_owned())?;
    Ok((u64::from_le_bytes(*number), indicators))
}

/// What the key of the MAC is for.
const PURPOSE: &str = "indicators.v1";

fn settle(outcome: Result<Option<(Stored, u64, Indicators)>, String>, pause: f64) {
    let now = millis();
    let problem = STATE.with_borrow_mut(|state| {
        state.busy = 0.0;
        state.due = now + pause;
        match outcome {
            Err(problem) => {
                state.due = now + rules::backoff(pause, state.failures, MAX_PAUSE);
                state.failures = state.failures.saturating_add(1);
                let is_news = state.problem.as_ref() != Some(&problem);
                state.problem = Some(problem.clone());
                is_news.then_some(problem)
            }
            Ok(found) => {
                (state.failures, state.problem) = (0, None);
                if let Some((stored, number, indicators)) = found {
                    state.adopt(stored, number, indicators, now);
                }
                None
            }
        }
    });
    if let Some(problem) = problem {
        log::indicators("refused", &problem);
        outbox::error(&format!("indicators: {problem}"));
    }
}

impl State {
    /// Forgets what has expired, where there is much and nothing newer comes from KV.
    fn tidy(&mut self, now: f64) {
        if self.known.len() < MAX_INDICATORS / 2 || now < self.tidied + TIDY {
            return;
        }
        self.tidied = now;
        let counts = |it: &Indicator<'_>| it.expires == 0 || u64::from(it.expires) > seconds();
        self.known = Rc::new(self.known.only_where(counts));
    }

    fn adopt(&mut self, stored: Stored, number: u64, mut indicators: Indicators, now: f64) {
        self.own.retain(|own| now - own.told < OWN && u64::from(own.expires) > seconds());
        self.own.iter().for_each(|own| own.lay_over(&mut indicators));
        self.known = Rc::new(indicators);
        (self.published, self.number) = (Some(stored), number);
    }
}

impl Own {
    /// Adds it, unless it was revoked: such a one is published as expired from the beginning.
    fn lay_over(&self, indicators: &mut Indicators) {
        let Self { correlation, key, expires, cluster, .. } = self;
        let known = indicators.find(correlation, *key);
        if known.is_none_or(|known| known.expires > 0) {
            let (key, expires, cluster) = (*key, *expires, *cluster);
            indicators.add(Indicator { correlation, key, expires, cluster });
        }
    }
}

/// Milliseconds after which KV has what the registry was told; then only KV counts.
const OWN: f64 = 180_000.0;

/// Milliseconds between two looks for expired ones.
const TIDY: f64 = 60_000.0;

/// Milliseconds for which nobody else reads, should a reader never come back.
const LEASE: f64 = 30_000.0;

/// For how long KV may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause after failures, in milliseconds.
const MAX_PAUSE: f64 = 60_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn indicators(expires: u32) -> Indicators {
        let mut indicators = Indicators::default();
        indicators.add(Indicator { correlation: "cluster_one", key: 7, expires, cluster: 3 });
        indicators
    }

    #[test]
    fn what_is_sealed_is_unpacked_and_its_mac_depends_on_all_of_it() {
        let sealed = seal(5, &indicators(100), "secret").unwrap();
        let (number, opened) = unpack(&sealed.bytes).unwrap();
        assert_eq!((number, opened.len()), (5, 1));
        let others = [(5, 100, "another"), (6, 100, "secret"), (5, 101, "secret")];
        for (number, expires, secret) in others {
            let other = seal(number, &indicators(expires), secret).unwrap();
            assert_ne!(other.signature, sealed.signature);
        }
        assert!(unpack(&sealed.bytes[..7]).is_err());
    }

    #[test]
    fn a_revoked_one_is_not_laid_over() {
        let own =
            Own { correlation: "cluster_one".into(), key: 7, expires: 900, cluster: 0, told: 0.0 };
        let rows = [(0, 0), (100, 900)];
        for (published, expected) in rows {
            let mut known = indicators(published);
            own.lay_over(&mut known);
            assert_eq!(known.find("cluster_one", 7).map(|it| it.expires), Some(expected));
        }
    }
}
