//! Indicators: what correlators found, in a table; and all of it that counts in one value of KV, which
//! isolates read.
//!
//! One that fires again is extended. One that was revoked stays so until it would have expired, or until a
//! time that was given, even if it fires again: it is published as expired from the beginning, so that isolates which have it from a
//! correlator drop it, too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hedgerow::indicator::{Indicator, Indicators};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker::{Request, SqlStorageValue};

use super::publish::put;
use super::tables::Tables;
use super::{Answer, Caller, Registry, broken, number};
use crate::api::ApiError;
use crate::clock::{millis, seconds};
use crate::correlator::Fired;
use crate::indicators::seal;
use crate::log;
use crate::sql::integer;
use crate::store::Store;

/// Seconds for which a key may be revoked, at most.
const MAX_REVOKED: u64 = 366 * 86_400;

/// Indicators that are kept at most: what isolates hold of them is some megabytes.
const MAX_KNOWN: usize = 100_000;

/// One correlation has that share of them at most.
const SHARE: usize = 4;

/// Seconds between two looks for expired ones; where there is no room, and else.
const SOON: u64 = 60;
const TIDY: u64 = 3_600;

/// The longest time between two attempts to publish.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Rows that are looked at in one go.
const PAGE: u64 = 500;

/// Characters of a reason that are kept.
const MAX_REASON: usize = 200;

/// An indicator with its history.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Known {
    id: u64,
    correlation: String,
    pub key: String,
    first: u64,
    last: u64,
    expires: u64,
    times: u64,
    measured: f64,
    threshold: String,
    accounts: u64,
    revoked: Option<u64>,
    reason: Option<String>,
    until: Option<u64>,
}

impl Known {
    /// As the API shows it.
    pub fn json(&self, cluster: Option<String>) -> Value {
        let mut value = json!(self);
        if let Some(members) = value.as_object_mut() {
            members.insert("cluster".to_owned(), json!(cluster));
        }
        value
    }
}

impl Registry {
    /// Takes in what correlators found; the clusters by key.
    pub(super) async fn fired(&self, request: &mut Request) -> Answer {
        #[derive(Deserialize)]
        struct Told {
            firings: Vec<Value>,
        }
        let told: Told = request.json().await.map_err(|_| unreadable())?;
        self.forget_expired(TIDY)?;
        let mut clusters = BTreeMap::new();
        // One that cannot be read takes no others along.
        let fired = |told: &Value| Fired::deserialize(told).ok();
        for fired in &told.firings.iter().filter_map(fired).collect::<Vec<Fired>>() {
            let Some(key) = hash_of(&fired.key) else { continue };
            self.note_fired(fired, key)?;
            if fired.links {
                self.link(fired, key)?;
            }
            if let Some(id) = self.cluster_of(key)? {
                clusters.insert(fired.key.clone(), id);
            }
        }
        if !told.firings.is_empty() {
            self.indicators_changed().await?;
        }
        Ok((200, json!({ "clusters": clusters })))
    }

    /// Keeps an indicator, or extends the one there is.
    fn note_fired(&self, fired: &Fired, key: u64) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let (is_known, is_revoked) = tables.indicator_state(fired)?;
        if !is_known && !self.has_room(&fired.correlation)? {
            log::indicators("full", "an indicator was left out: there are too many");
            return Ok(());
        }
        tables.note_indicator(fired, is_known, is_revoked)?;
        if !is_revoked {
            let (correlation, expires) = (fired.correlation.as_str(), fired.expires);
            let indicator = Indicator { correlation, key, expires, cluster: 0 };
            self.with_known(|known| known.add(indicator))?;
        }
        Ok(())
    }

    /// Whether one more of a correlation fits, when those that have expired are gone. One that clients
    /// make hold at will leaves room for the others.
    fn has_room(&self, correlation: &str) -> Result<bool, ApiError> {
        let own = MAX_KNOWN / SHARE;
        let is_full = |known: &mut Indicators| {
            known.len() >= MAX_KNOWN || known.len() >= own && known.count(correlation) >= own
        };
        if !self.with_known(is_full)? {
            return Ok(true);
        }
        self.forget_expired(SOON)?;
        Ok(!self.with_known(is_full)?)
    }

    /// Forgets those that have expired, and revocations, unless that was done of late.
    fn forget_expired(&self, pause: u64) -> Result<(), ApiError> {
        if seconds() >= self.tidied.get().saturating_add(pause) {
            self.tidied.set(seconds());
            self.tables()?.restore_revoked()?;
            self.tables()?.forget_indicators()?;
            *self.known.borrow_mut() = None;
        }
        Ok(())
    }

    /// Those that count, and those that were revoked, which expired at 0.
    fn with_known<T>(&self, work: impl FnOnce(&mut Indicators) -> T) -> Result<T, ApiError> {
        if self.known.borrow().is_none() {
            let read = self.tables()?.indicators()?;
            *self.known.borrow_mut() = Some(read);
        }
        let mut known = self.known.borrow_mut();
        Ok(work(known.get_or_insert_default()))
    }

    /// Has the indicators published, as soon as they may be.
    async fn indicators_changed(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let changes = tables.meta_number(CHANGED).unwrap_or(0).saturating_add(1);
        tables.set_meta(CHANGED, Some(&changes.to_string()))?;
        // While KV cannot be written, the next attempt is set already.
        if self.spread_at.get().is_infinite() {
            self.wake(&self.spread_at, Duration::ZERO).await;
        }
        Ok(())
    }

    /// Publishes the indicators, if KV does not have them as they are.
    pub(super) async fn spread(&self) {
        let Ok(tables) = self.tables() else { return };
        let changes = tables.meta_number(CHANGED);
        if changes == tables.meta_number(SPREAD) {
            return;
        }
        match self.spread_once().await {
            Ok(()) => {
                let changes = changes.map(|changes| changes.to_string());
                let _ = tables.set_meta(SPREAD, changes.as_deref());
                if tables.meta(PROBLEM).is_some() {
                    let _ = tables.set_meta(PROBLEM, None);
                }
                self.spread_failures.set(0);
            }
            Err(problem) => {
                if tables.meta(PROBLEM).as_deref() != Some(problem.as_str()) {
                    log::indicators("publish", &problem);
                    let _ = tables.set_meta(PROBLEM, Some(&problem));
                }
                let failures = self.spread_failures.get();
                self.spread_failures.set(failures.saturating_add(1));
                let pause = Duration::from_secs(2).saturating_mul(2_u32.saturating_pow(failures));
                self.wake(&self.spread_at, pause.min(MAX_BACKOFF)).await;
            }
        }
    }

    async fn spread_once(&self) -> Result<(), String> {
        let told = |error: ApiError| error.message;
        let store = Store::of(&self.settings).ok_or("the binding RULES is missing")?;
        let secret = self.settings.account_secret.as_deref().ok_or("ACCOUNT_SECRET is missing")?;
        self.pace("indicators").await;
        let indicators = self.linked().map_err(told)?;
        let tables = self.tables().map_err(told)?;
        // The time, so that it goes on rising should this object's tables be lost.
        let last = tables.meta_number(NUMBER).unwrap_or(0);
        let number = last.saturating_add(1).max(millis() as u64);
        tables.set_meta(NUMBER, Some(&number.to_string())).map_err(told)?;
        let sealed = seal(number, &indicators, secret).ok_or("they cannot be authenticated")?;
        put(store.put_indicators(&sealed)).await
    }

    /// What is published: what counts yet, with its clusters.
    fn linked(&self) -> Result<Indicators, ApiError> {
        let now = seconds();
        let counts = |it: &Indicator<'_>| it.expires == 0 || now < u64::from(it.expires);
        // Those that were revoked count no more, and are to be told all the same.
        let known = self.with_known(|known| known.only_where(counts))?;
        self.with_clusters(|clusters| {
            let mut linked = Indicators::default();
            for indicator in known.iter() {
                let cluster = clusters.of_key(indicator.key).map_or(0, |cluster| cluster.id);
                linked.add(Indicator { cluster, ..indicator });
            }
            linked
        })
    }

    /// The indicators, newest first.
    pub(super) fn list_indicators(&self, query: &HashMap<String, String>) -> Answer {
        let limit = number(query, "limit")?.unwrap_or(50).clamp(1, PAGE) as usize;
        let mut before = number(query, "before")?;
        let (correlation, cluster) = (query.get("correlation"), query.get("cluster"));
        let mut found = Vec::new();
        loop {
            let page = self.tables()?.known(before, correlation.map(String::as_str))?;
            before = page.last().map(|known| known.id);
            for known in page {
                let own =
                    hash_of(&known.key).map(|key| self.cluster_of(key)).transpose()?.flatten();
                if cluster.is_none() || own.as_ref() == cluster {
                    found.push(known.json(own));
                }
                if found.len() >= limit {
                    return Ok((200, json!({ "indicators": found })));
                }
            }
            if before.is_none() {
                return Ok((200, json!({ "indicators": found })));
            }
        }
    }

    /// Everything that is known of a key.
    pub(super) fn explain_indicator(&self, key: &str) -> Answer {
        let known = self.tables()?.known_of(key)?;
        if known.is_empty() {
            return Err(unknown(key));
        }
        let hash = hash_of(key).ok_or_else(|| unknown(key))?;
        let own = self.cluster_of(hash)?;
        let known: Vec<Value> = known.iter().map(|known| known.json(own.clone())).collect();
        let cluster = own.map(|id| self.summary(&id)).transpose()?.flatten();
        Ok((200, json!({ "key": key, "indicators": known, "cluster": cluster })))
    }

    /// Takes the indicators of a key out of force.
    pub(super) async fn revoke(&self, key: &str, request: &mut Request, caller: &Caller) -> Answer {
        #[derive(Deserialize)]
        struct Asked {
            reason: String,
            #[serde(default)]
            author: String,
            until: Option<u64>,
        }
        let asked: Asked = request.json().await.map_err(|_| unreadable())?;
        let reason: String = asked.reason.trim().chars().take(MAX_REASON).collect();
        let who = (caller.who.as_str(), caller.from.as_deref());
        let author: String = asked.author.chars().take(MAX_REASON).collect();
        if reason.is_empty() {
            let remedy = "say why, for whoever reads it next year: {\"reason\": \"…\"}";
            return Err(ApiError::new(422, "invalid", "there is no reason", remedy));
        }
        let now = seconds();
        if asked.until.is_some_and(|until| !(now..now + MAX_REVOKED).contains(&until)) {
            let remedy = "give seconds since the epoch within the next year, or leave it out";
            return Err(ApiError::new(422, "invalid", "'until' is over, or too far away", remedy));
        }
        let count = self.tables()?.revoke(key, &reason, asked.until)?;
        let result = if count == 0 { "not_found" } else { "ok" };
        self.tables()?.note(who, "indicator.revoke", &format!("{key}: {reason}"), &author, result);
        if count == 0 {
            return Err(unknown(key));
        }
        *self.known.borrow_mut() = None;
        self.indicators_changed().await?;
        Ok((200, json!({ "key": key, "revoked": count })))
    }

    /// Puts indicators back in force whose revocation has ended.
    pub(super) async fn restore_revoked(&self) -> Result<(), ApiError> {
        if self.tables()?.restore_revoked()? > 0 {
            *self.known.borrow_mut() = None;
            self.indicators_changed().await?;
        }
        Ok(())
    }

    /// Indicators as the status shows them.
    pub(super) fn indicators_status(&self) -> Result<Value, ApiError> {
        let now = seconds();
        let counts =
            |known: &mut Indicators| known.iter().filter(|it| now < u64::from(it.expires)).count();
        let count = self.with_known(counts)?;
        let tables = self.tables()?;
        Ok(json!({
            "count": count,
            "clusters": self.with_clusters(|clusters| clusters.iter().count())?,
            "pending": tables.meta_number(CHANGED) != tables.meta_number(SPREAD),
            "problem": tables.meta(PROBLEM),
        }))
    }
}

impl Tables {
    /// Whether an indicator is there and counts, and whether it was revoked.
    fn indicator_state(&self, fired: &Fired) -> Result<(bool, bool), ApiError> {
        #[derive(Deserialize)]
        struct Row {
            revoked: Option<u64>,
        }
        let query =
            "SELECT revoked FROM indicator WHERE key = ? AND correlation = ? AND expires > ?";
        let row: Option<Row> = self.row(query, named(fired, [seconds()]))?;
        Ok((row.is_some(), row.is_some_and(|row| row.revoked.is_some())))
    }

    fn note_indicator(
        &self,
        fired: &Fired,
        is_known: bool,
        is_revoked: bool,
    ) -> Result<(), ApiError> {
        let at = u64::from(fired.at);
        if is_revoked {
            let query = "UPDATE indicator SET times = times + 1, last = ?3 WHERE key = ?1 AND correlation = ?2";
            return self.exec(query, named(fired, [at]));
        }
        let accounts = fired.accounts.len() as u64;
        let mut values = named(fired, [at, u64::from(fired.expires), accounts]);
        values.extend([fired.measured.into(), fired.threshold.as_str().into()]);
        let query = match is_known {
            true => {
                "UPDATE indicator SET times = times + 1, last = MAX(last, ?3), expires = MAX(expires, ?4),
                    accounts = MAX(accounts, ?5), measured = ?6, threshold = ?7
                    WHERE key = ?1 AND correlation = ?2"
            }
            false => {
                "INSERT OR REPLACE INTO indicator
                    (key, correlation, first, last, expires, times, accounts, measured, threshold)
                    VALUES (?1, ?2, ?3, ?3, ?4, 1, ?5, ?6, ?7)"
            }
        };
        self.exec(query, values)
    }

    /// Those that count, and those that were revoked, as expired at 0.
    fn indicators(&self) -> Result<Indicators, ApiError> {
        let query = "SELECT correlation, key, CASE WHEN revoked IS NULL THEN expires ELSE 0 END
            FROM indicator WHERE expires > ?";
        let rows = self.sql.exec(query, vec![integer(seconds())]).map_err(broken)?;
        let mut indicators = Indicators::default();
        for row in rows.raw() {
            let row = row.map_err(broken)?;
            let [
                SqlStorageValue::String(correlation),
                SqlStorageValue::String(key),
                SqlStorageValue::Integer(expires),
            ] = row.as_slice()
            else {
                continue;
            };
            let (key, expires) = (hash_of(key), u32::try_from(*expires).unwrap_or(u32::MAX));
            if let Some(key) = key {
                indicators.add(Indicator { correlation, key, expires, cluster: 0 });
            }
        }
        Ok(indicators)
    }

    fn forget_indicators(&self) -> Result<(), ApiError> {
        self.exec("DELETE FROM indicator WHERE expires <= ?", vec![integer(seconds())])
    }

    /// Some indicators, newest first.
    fn known(
        &self,
        before: Option<u64>,
        correlation: Option<&str>,
    ) -> Result<Vec<Known>, ApiError> {
        let query = format!(
            "SELECT {KNOWN} FROM indicator WHERE rowid < ? AND expires > ? AND (? IS NULL OR correlation = ?)
                ORDER BY rowid DESC LIMIT ?"
        );
        let correlation = || SqlStorageValue::from(correlation);
        let before = integer(before.unwrap_or(u64::MAX));
        self.rows(
            &query,
            vec![before, integer(seconds()), correlation(), correlation(), integer(PAGE)],
        )
    }

    /// The indicators of a key.
    pub(super) fn known_of(&self, key: &str) -> Result<Vec<Known>, ApiError> {
        let query = format!(
            "SELECT {KNOWN} FROM indicator WHERE key = ? AND expires > ? ORDER BY correlation"
        );
        self.rows(&query, vec![key.into(), integer(seconds())])
    }

    /// Puts those back in force whose revocation has ended; how many there are.
    fn restore_revoked(&self) -> Result<usize, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "UPDATE indicator SET revoked = NULL, reason = NULL, until = NULL WHERE until <= ? RETURNING 1";
        Ok(self.rows::<Row>(query, vec![integer(seconds())])?.len())
    }

    /// Revokes the indicators of a key, until they would have expired or until a given time; how many
    /// there are.
    fn revoke(&self, key: &str, reason: &str, until: Option<u64>) -> Result<usize, ApiError> {
        // What holds again meanwhile is to find that it is revoked, so that it stays in the table.
        let query = "UPDATE indicator SET revoked = ?1, reason = ?2, until = ?4,
            expires = MAX(expires, IFNULL(?4, 0)) WHERE key = ?3 AND expires > ?1";
        let until = until.map_or(SqlStorageValue::Null, integer);
        let values = vec![integer(seconds()), reason.into(), key.into(), until];
        self.exec(query, values)?;
        Ok(self.known_of(key)?.len())
    }
}

const KNOWN: &str = "rowid AS id, correlation, key, first, last, expires, times, measured, threshold, accounts, revoked, reason, until";

/// Key and name of an indicator, and numbers behind them.
fn named<const COUNT: usize>(fired: &Fired, numbers: [u64; COUNT]) -> Vec<SqlStorageValue> {
    let mut values = vec![fired.key.as_str().into(), fired.correlation.as_str().into()];
    values.extend(numbers.map(integer));
    values
}

/// How often the indicators have changed, and at which change they were published.
const CHANGED: &str = "indicators.changed";
const SPREAD: &str = "indicators.spread";

/// The number under which they were published last, and what keeps them out of KV.
const NUMBER: &str = "indicators.number";
const PROBLEM: &str = "indicators.problem";

/// A key as it is written.
pub fn hash_of(key: &str) -> Option<u64> {
    u64::from_str_radix(key, 16).ok().filter(|_| key.len() == 16)
}

fn unknown(key: &str) -> ApiError {
    let key: String = key.chars().take(16).collect();
    let message = format!("there is no indicator for the key '{key}'");
    ApiError::new(404, "not_found", message, "`hedgerow indicators list` names those there are")
}

fn unreadable() -> ApiError {
    let remedy = "docs/openapi.yaml shows what to send";
    ApiError::new(400, "invalid", "the body is not what is asked for", remedy)
}
