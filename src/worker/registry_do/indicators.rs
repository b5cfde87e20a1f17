//! Indicators: what correlators found, in a table; and all of it that counts in one value of KV, which
//! isolates read.
//!
//! One that fires again is extended. One that was revoked stays so until it would have expired, or until a
//! time that was given, even if it fires again: it is published as expired from the beginning, so that isolates which have it from a
//! correlator drop it, too.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker::{Request, SqlStorageValue};

use super::error::internal_error;
use super::publish::put_with_timeout;
use super::tables::Tables;
use super::{Caller, HandlerResult, Registry, parse_number};
use crate::admin_api::ApiError;
use crate::correlator_do::FiringReport;
use crate::isolate::indicators::sign;
use crate::platform::clock::{now_ms, now_seconds};
use crate::platform::kv::ConfigKv;
use crate::platform::log;
use crate::platform::sql::integer;

/// Seconds for which a key may be revoked, at most.
const MAX_REVOCATION_SECONDS: u64 = 366 * 86_400;

/// Indicators that are kept at most: what isolates hold of them is some megabytes.
const MAX_STORED_INDICATORS: usize = 100_000;

/// One correlation has that share of them at most.
const CORRELATION_SHARE_DIVISOR: usize = 4;

/// Seconds between two looks for expired ones; where there is no room, and else.
const PRUNE_INTERVAL_WHEN_FULL_SECONDS: u64 = 60;
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

/// The longest time between two attempts to publish.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Rows that are looked at in one go.
const PAGE_ROWS: u64 = 500;

/// Characters of a reason that are kept.
const MAX_REASON_CHARS: usize = 200;

/// An indicator with its history.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IndicatorRow {
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

impl IndicatorRow {
    /// As the API shows it.
    pub fn to_json(&self, cluster: Option<String>) -> Value {
        let mut value = json!(self);
        if let Some(members) = value.as_object_mut() {
            members.insert("cluster".to_owned(), json!(cluster));
        }
        value
    }
}

impl Registry {
    /// Takes in what correlators found; the clusters by key.
    pub(super) async fn receive_firings(&self, request: &mut Request) -> HandlerResult {
        #[derive(Deserialize)]
        struct FiringsRequest {
            firings: Vec<Value>,
        }
        let body: FiringsRequest = request.json().await.map_err(|_| invalid_body())?;
        self.prune_expired_indicators(PRUNE_INTERVAL_SECONDS)?;
        let mut clusters = BTreeMap::new();
        // One that cannot be read takes no others along.
        let parse = |value: &Value| FiringReport::deserialize(value).ok();
        for firing in &body.firings.iter().filter_map(parse).collect::<Vec<FiringReport>>() {
            let Some(key) = parse_hash(&firing.key) else { continue };
            self.record_firing(firing, key)?;
            if firing.links_accounts {
                self.link(firing, key)?;
            }
            if let Some(id) = self.cluster_id_for_key(key)? {
                clusters.insert(firing.key.clone(), id);
            }
        }
        if !body.firings.is_empty() {
            self.mark_indicators_changed().await?;
        }
        Ok((200, json!({ "clusters": clusters })))
    }

    /// Keeps an indicator, or extends the one there is.
    fn record_firing(&self, firing: &FiringReport, key: u64) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let (is_stored, is_revoked) = tables.indicator_state(firing)?;
        if !is_stored && !self.has_room(&firing.correlation)? {
            log::indicators_error("full", "an indicator was left out: there are too many");
            return Ok(());
        }
        tables.upsert_indicator(firing, is_stored, is_revoked)?;
        if !is_revoked {
            let (correlation, expires) = (firing.correlation.as_str(), firing.expires);
            let indicator = Indicator { correlation, key, expires, cluster: 0 };
            self.with_indicators(|indicators| indicators.add(indicator))?;
        }
        Ok(())
    }

    /// Whether one more of a correlation fits, when those that have expired are gone. One that clients
    /// make hold at will leaves room for the others.
    fn has_room(&self, correlation: &str) -> Result<bool, ApiError> {
        let max_per_correlation = MAX_STORED_INDICATORS / CORRELATION_SHARE_DIVISOR;
        let is_full = |indicators: &mut Indicators| {
            indicators.len() >= MAX_STORED_INDICATORS
                || indicators.len() >= max_per_correlation
                    && indicators.count(correlation) >= max_per_correlation
        };
        if !self.with_indicators(is_full)? {
            return Ok(true);
        }
        self.prune_expired_indicators(PRUNE_INTERVAL_WHEN_FULL_SECONDS)?;
        Ok(!self.with_indicators(is_full)?)
    }

    /// Forgets those that have expired, and revocations, unless that was done of late.
    fn prune_expired_indicators(&self, min_interval: u64) -> Result<(), ApiError> {
        if now_seconds() >= self.indicators_pruned_at.get().saturating_add(min_interval) {
            self.indicators_pruned_at.set(now_seconds());
            self.tables()?.restore_revoked()?;
            self.tables()?.delete_expired_indicators()?;
            *self.indicators.borrow_mut() = None;
        }
        Ok(())
    }

    /// Those that count, and those that were revoked, which expired at 0.
    fn with_indicators<T>(&self, work: impl FnOnce(&mut Indicators) -> T) -> Result<T, ApiError> {
        if self.indicators.borrow().is_none() {
            let stored = self.tables()?.indicators()?;
            *self.indicators.borrow_mut() = Some(stored);
        }
        let mut indicators = self.indicators.borrow_mut();
        Ok(work(indicators.get_or_insert_default()))
    }

    /// Has the indicators published, as soon as they may be.
    async fn mark_indicators_changed(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let changes = tables.meta_number(META_CHANGED).unwrap_or(0).saturating_add(1);
        tables.set_meta(META_CHANGED, Some(&changes.to_string()))?;
        // While KV cannot be written, the next attempt is set already.
        if self.indicators_publish_at.get().is_infinite() {
            self.schedule(&self.indicators_publish_at, Duration::ZERO).await;
        }
        Ok(())
    }

    /// Publishes the indicators, if KV does not have them as they are.
    pub(super) async fn publish_indicators(&self) {
        let Ok(tables) = self.tables() else { return };
        let changes = tables.meta_number(META_CHANGED);
        if changes == tables.meta_number(META_PUBLISHED) {
            return;
        }
        match self.publish_indicators_once().await {
            Ok(()) => {
                let changes = changes.map(|changes| changes.to_string());
                let _ = tables.set_meta(META_PUBLISHED, changes.as_deref());
                if tables.meta(META_PROBLEM).is_some() {
                    let _ = tables.set_meta(META_PROBLEM, None);
                }
                self.indicators_publish_failures.set(0);
            }
            Err(problem) => {
                if tables.meta(META_PROBLEM).as_deref() != Some(problem.as_str()) {
                    log::indicators_error("publish", &problem);
                    let _ = tables.set_meta(META_PROBLEM, Some(&problem));
                }
                let failures = self.indicators_publish_failures.get();
                self.indicators_publish_failures.set(failures.saturating_add(1));
                let delay = Duration::from_secs(2).saturating_mul(2_u32.saturating_pow(failures));
                self.schedule(&self.indicators_publish_at, delay.min(MAX_BACKOFF)).await;
            }
        }
    }

    async fn publish_indicators_once(&self) -> Result<(), String> {
        let to_message = |error: ApiError| error.message;
        let kv = ConfigKv::from_settings(&self.settings).ok_or("the binding RULES is missing")?;
        let secret = self.settings.account_secret.as_deref().ok_or("ACCOUNT_SECRET is missing")?;
        self.rate_limit("indicators").await;
        let indicators = self.with_cluster_ids().map_err(to_message)?;
        let tables = self.tables().map_err(to_message)?;
        // The time, so that it goes on rising should this object's tables be lost.
        let last = tables.meta_number(META_NUMBER).unwrap_or(0);
        let number = last.saturating_add(1).max(now_ms() as u64);
        tables.set_meta(META_NUMBER, Some(&number.to_string())).map_err(to_message)?;
        let signed = sign(number, &indicators, secret).ok_or("they cannot be authenticated")?;
        put_with_timeout(kv.put_indicators(&signed)).await
    }

    /// What is published: what counts yet, with its clusters.
    fn with_cluster_ids(&self) -> Result<Indicators, ApiError> {
        let now = now_seconds();
        let is_active = |indicator: &Indicator<'_>| {
            indicator.expires == 0 || now < u64::from(indicator.expires)
        };
        // Those that were revoked count no more, and are to be told all the same.
        let active = self.with_indicators(|indicators| indicators.filtered(is_active))?;
        self.with_clusters(|clusters| {
            let mut result = Indicators::default();
            for indicator in active.iter() {
                let cluster = clusters.for_key(indicator.key).map_or(0, |cluster| cluster.id);
                result.add(Indicator { cluster, ..indicator });
            }
            result
        })
    }

    /// The indicators, newest first.
    pub(super) fn list_indicators(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(50).clamp(1, PAGE_ROWS) as usize;
        let mut before = parse_number(query, "before")?;
        let (correlation, cluster) = (query.get("correlation"), query.get("cluster"));
        let mut rows = Vec::new();
        loop {
            let page = self.tables()?.indicator_page(before, correlation.map(String::as_str))?;
            before = page.last().map(|row| row.id);
            for row in page {
                let row_cluster = parse_hash(&row.key)
                    .map(|key| self.cluster_id_for_key(key))
                    .transpose()?
                    .flatten();
                if cluster.is_none() || row_cluster.as_ref() == cluster {
                    rows.push(row.to_json(row_cluster));
                }
                if rows.len() >= limit {
                    return Ok((200, json!({ "indicators": rows })));
                }
            }
            if before.is_none() {
                return Ok((200, json!({ "indicators": rows })));
            }
        }
    }

    /// Everything that is known of a key.
    pub(super) fn explain_indicator(&self, key: &str) -> HandlerResult {
        let rows = self.tables()?.indicators_of_key(key)?;
        if rows.is_empty() {
            return Err(unknown_indicator(key));
        }
        let hash = parse_hash(key).ok_or_else(|| unknown_indicator(key))?;
        let cluster_id = self.cluster_id_for_key(hash)?;
        let indicators: Vec<Value> =
            rows.iter().map(|row| row.to_json(cluster_id.clone())).collect();
        let cluster = cluster_id.map(|id| self.cluster_summary(&id)).transpose()?.flatten();
        Ok((200, json!({ "key": key, "indicators": indicators, "cluster": cluster })))
    }

    /// Takes the indicators of a key out of force.
    pub(super) async fn revoke(
        &self,
        key: &str,
        request: &mut Request,
        caller: &Caller,
    ) -> HandlerResult {
        #[derive(Deserialize)]
        struct RevokeRequest {
            reason: String,
            #[serde(default)]
            author: String,
            until: Option<u64>,
        }
        let body: RevokeRequest = request.json().await.map_err(|_| invalid_body())?;
        let reason: String = body.reason.trim().chars().take(MAX_REASON_CHARS).collect();
        let actor = (caller.who.as_str(), caller.from.as_deref());
        let author: String = body.author.chars().take(MAX_REASON_CHARS).collect();
        if reason.is_empty() {
            let remedy = "say why, for whoever reads it next year: {\"reason\": \"…\"}";
            return Err(ApiError::new(422, "invalid", "there is no reason", remedy));
        }
        let now = now_seconds();
        if body.until.is_some_and(|until| !(now..now + MAX_REVOCATION_SECONDS).contains(&until)) {
            let remedy = "give seconds since the epoch within the next year, or leave it out";
            return Err(ApiError::new(422, "invalid", "'until' is over, or too far away", remedy));
        }
        let count = self.tables()?.revoke(key, &reason, body.until)?;
        let result = if count == 0 { "not_found" } else { "ok" };
        self.tables()?.audit(
            actor,
            "indicator.revoke",
            &format!("{key}: {reason}"),
            &author,
            result,
        );
        if count == 0 {
            return Err(unknown_indicator(key));
        }
        *self.indicators.borrow_mut() = None;
        self.mark_indicators_changed().await?;
        Ok((200, json!({ "key": key, "revoked": count })))
    }

    /// Puts indicators back in force whose revocation has ended.
    pub(super) async fn restore_revoked(&self) -> Result<(), ApiError> {
        if self.tables()?.restore_revoked()? > 0 {
            *self.indicators.borrow_mut() = None;
            self.mark_indicators_changed().await?;
        }
        Ok(())
    }

    /// Indicators as the status shows them.
    pub(super) fn indicators_status(&self) -> Result<Value, ApiError> {
        let now = now_seconds();
        let count_active = |indicators: &mut Indicators| {
            indicators.iter().filter(|indicator| now < u64::from(indicator.expires)).count()
        };
        let count = self.with_indicators(count_active)?;
        let tables = self.tables()?;
        Ok(json!({
            "count": count,
            "clusters": self.with_clusters(|clusters| clusters.iter().count())?,
            "pending": tables.meta_number(META_CHANGED) != tables.meta_number(META_PUBLISHED),
            "problem": tables.meta(META_PROBLEM),
        }))
    }
}

impl Tables {
    /// Whether an indicator is there and counts, and whether it was revoked.
    fn indicator_state(&self, firing: &FiringReport) -> Result<(bool, bool), ApiError> {
        #[derive(Deserialize)]
        struct Row {
            revoked: Option<u64>,
        }
        let query =
            "SELECT revoked FROM indicator WHERE key = ? AND correlation = ? AND expires > ?";
        let row: Option<Row> = self.row(query, bind_key(firing, [now_seconds()]))?;
        Ok((row.is_some(), row.is_some_and(|row| row.revoked.is_some())))
    }

    fn upsert_indicator(
        &self,
        firing: &FiringReport,
        is_stored: bool,
        is_revoked: bool,
    ) -> Result<(), ApiError> {
        let at = u64::from(firing.at);
        if is_revoked {
            let query = "UPDATE indicator SET times = times + 1, last = ?3 WHERE key = ?1 AND correlation = ?2";
            return self.exec(query, bind_key(firing, [at]));
        }
        let accounts = firing.accounts.len() as u64;
        let mut values = bind_key(firing, [at, u64::from(firing.expires), accounts]);
        values.extend([firing.measured.into(), firing.threshold.as_str().into()]);
        let query = match is_stored {
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
        let rows = self.sql.exec(query, vec![integer(now_seconds())]).map_err(internal_error)?;
        let mut indicators = Indicators::default();
        for row in rows.raw() {
            let row = row.map_err(internal_error)?;
            let [
                SqlStorageValue::String(correlation),
                SqlStorageValue::String(key),
                SqlStorageValue::Integer(expires),
            ] = row.as_slice()
            else {
                continue;
            };
            let (key, expires) = (parse_hash(key), u32::try_from(*expires).unwrap_or(u32::MAX));
            if let Some(key) = key {
                indicators.add(Indicator { correlation, key, expires, cluster: 0 });
            }
        }
        Ok(indicators)
    }

    fn delete_expired_indicators(&self) -> Result<(), ApiError> {
        self.exec("DELETE FROM indicator WHERE expires <= ?", vec![integer(now_seconds())])
    }

    /// Some indicators, newest first.
    fn indicator_page(
        &self,
        before: Option<u64>,
        correlation: Option<&str>,
    ) -> Result<Vec<IndicatorRow>, ApiError> {
        let query = format!(
            "SELECT {INDICATOR_COLUMNS} FROM indicator WHERE rowid < ? AND expires > ? AND (? IS NULL OR correlation = ?)
                ORDER BY rowid DESC LIMIT ?"
        );
        let correlation = || SqlStorageValue::from(correlation);
        let before = integer(before.unwrap_or(u64::MAX));
        self.rows(
            &query,
            vec![before, integer(now_seconds()), correlation(), correlation(), integer(PAGE_ROWS)],
        )
    }

    /// The indicators of a key.
    pub(super) fn indicators_of_key(&self, key: &str) -> Result<Vec<IndicatorRow>, ApiError> {
        let query = format!(
            "SELECT {INDICATOR_COLUMNS} FROM indicator WHERE key = ? AND expires > ? ORDER BY correlation"
        );
        self.rows(&query, vec![key.into(), integer(now_seconds())])
    }

    /// Puts those back in force whose revocation has ended; how many there are.
    fn restore_revoked(&self) -> Result<usize, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "UPDATE indicator SET revoked = NULL, reason = NULL, until = NULL WHERE until <= ? RETURNING 1";
        Ok(self.rows::<Row>(query, vec![integer(now_seconds())])?.len())
    }

    /// Revokes the indicators of a key, until they would have expired or until a given time; how many
    /// there are.
    fn revoke(&self, key: &str, reason: &str, until: Option<u64>) -> Result<usize, ApiError> {
        // What holds again meanwhile is to find that it is revoked, so that it stays in the table.
        let query = "UPDATE indicator SET revoked = ?1, reason = ?2, until = ?4,
            expires = MAX(expires, IFNULL(?4, 0)) WHERE key = ?3 AND expires > ?1";
        let until = until.map_or(SqlStorageValue::Null, integer);
        let values = vec![integer(now_seconds()), reason.into(), key.into(), until];
        self.exec(query, values)?;
        Ok(self.indicators_of_key(key)?.len())
    }
}

const INDICATOR_COLUMNS: &str = "rowid AS id, correlation, key, first, last, expires, times, measured, threshold, accounts, revoked, reason, until";

/// Key and name of an indicator, and numbers behind them.
fn bind_key<const COUNT: usize>(
    firing: &FiringReport,
    numbers: [u64; COUNT],
) -> Vec<SqlStorageValue> {
    let mut values = vec![firing.key.as_str().into(), firing.correlation.as_str().into()];
    values.extend(numbers.map(integer));
    values
}

/// How often the indicators have changed, and at which change they were published.
const META_CHANGED: &str = "indicators.changed";
const META_PUBLISHED: &str = "indicators.spread";

/// The number under which they were published last, and what keeps them out of KV.
const META_NUMBER: &str = "indicators.number";
const META_PROBLEM: &str = "indicators.problem";

/// A key as it is written.
pub fn parse_hash(key: &str) -> Option<u64> {
    u64::from_str_radix(key, 16).ok().filter(|_| key.len() == 16)
}

fn unknown_indicator(key: &str) -> ApiError {
    let key: String = key.chars().take(16).collect();
    let message = format!("there is no indicator for the key '{key}'");
    ApiError::new(404, "not_found", message, "`hedgerow indicators list` names those there are")
}

fn invalid_body() -> ApiError {
    let remedy = "docs/openapi.yaml shows what to send";
    ApiError::new(400, "invalid", "the body is not what is asked for", remedy)
}
