//! Indicators: the firings of all correlators, in the table `indicator`. KV gets all active
//! indicators in one value, which isolates read.
//!
//! A new firing extends an indicator. A revocation lasts until the indicator would have expired, or
//! until a given time, even if the correlation fires again. Revoked indicators are published with
//! the expiry 0, so that isolates drop them, too, if they have them from a correlator.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use hedgerow_core::api;
use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::{Request, SqlStorageValue};

use super::error::internal_error;
use super::publish::put_with_timeout;
use super::tables::Tables;
use super::{Caller, HandlerResult, Registry, parse_number};
use crate::admin_api::error::ApiError;
use crate::correlator_do::firing_report::FiringReport;
use crate::isolate::indicators::sign;
use crate::platform::clock::{now_ms, now_seconds};
use crate::platform::kv::ConfigKv;
use crate::platform::log;
use crate::platform::sql::integer;

/// The longest revocation, in seconds.
const MAX_REVOCATION_SECONDS: u64 = 366 * 86_400;

/// Maximum number of indicators. Isolates need some megabytes for this number.
const MAX_STORED_INDICATORS: usize = 100_000;

/// One correlation may have at most `1 / CORRELATION_SHARE_DIVISOR` of the indicators.
const CORRELATION_SHARE_DIVISOR: usize = 4;

/// Seconds between two deletions of expired indicators, if the table is full.
const PRUNE_INTERVAL_WHEN_FULL_SECONDS: u64 = 60;

/// Seconds between two deletions of expired indicators, if the table is not full.
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

/// The first and the longest pause after a failed publication.
const MIN_BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Maximum number of rows in one query.
const PAGE_ROWS: u64 = 500;

/// Maximum number of characters of a reason or an author. Further characters are cut off.
const MAX_REASON_CHARS: usize = 200;

impl Registry {
    /// Handles `POST /firings`: stores indicators and links. Returns the ids of clusters by key.
    pub(super) async fn receive_firings(&self, request: &mut Request) -> HandlerResult {
        #[derive(Deserialize)]
        struct FiringsRequest {
            firings: Vec<Value>,
        }
        let body: FiringsRequest = request.json().await.map_err(|_| invalid_body())?;
        self.prune_expired_indicators(PRUNE_INTERVAL_SECONDS)?;
        let mut clusters = BTreeMap::new();
        // A malformed firing does not keep the others from being stored.
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

    /// Stores an indicator, or extends it if it is stored and has not expired.
    fn record_firing(&self, firing: &FiringReport, key: u64) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let state = tables.indicator_state(firing)?;
        if state == IndicatorState::NotStored && !self.has_room(&firing.correlation)? {
            log::indicators_error("full", "an indicator was not stored: there are too many");
            return Ok(());
        }
        tables.upsert_indicator(firing, state)?;
        if state != IndicatorState::Revoked {
            let (correlation, expires) = (firing.correlation.as_str(), firing.expires);
            let indicator = Indicator { correlation, key, expires, cluster: 0 };
            self.with_indicators(|indicators| indicators.add(indicator))?;
        }
        Ok(())
    }

    /// Returns whether there is room for another indicator of a correlation. Deletes expired
    /// indicators if necessary. A correlation that clients can make fire at will leaves room for
    /// others.
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

    /// Deletes expired indicators and ends revocations, unless that was done in the last
    /// `min_interval` seconds.
    fn prune_expired_indicators(&self, min_interval: u64) -> Result<(), ApiError> {
        if now_seconds() >= self.indicators_pruned_at.get().saturating_add(min_interval) {
            self.indicators_pruned_at.set(now_seconds());
            self.tables()?.restore_revoked()?;
            self.tables()?.delete_expired_indicators()?;
            *self.indicators.borrow_mut() = None;
        }
        Ok(())
    }

    /// Runs `work` with the indicators that have not expired; revoked indicators have the expiry 0.
    /// They are read from the table if necessary.
    fn with_indicators<T>(&self, work: impl FnOnce(&mut Indicators) -> T) -> Result<T, ApiError> {
        if self.indicators.borrow().is_none() {
            let stored = self.tables()?.indicators()?;
            *self.indicators.borrow_mut() = Some(stored);
        }
        let mut indicators = self.indicators.borrow_mut();
        Ok(work(indicators.get_or_insert_default()))
    }

    /// Records a change of the indicators, and sets the alarm to publish them.
    async fn mark_indicators_changed(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let changes = tables.meta_number(META_CHANGED).unwrap_or(0).saturating_add(1);
        tables.set_meta(META_CHANGED, Some(&changes.to_string()))?;
        // After a failure the alarm is set already, to the end of the pause.
        if self.indicators_publish_at.get().is_infinite() {
            self.schedule(&self.indicators_publish_at, Duration::ZERO).await;
        }
        Ok(())
    }

    /// Publishes the indicators, if they have changed since the last publication. After a failure,
    /// sets the alarm to try again.
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
                self.indicators_backoff.borrow_mut().record_success(now_ms(), Duration::ZERO);
            }
            Err(problem) => {
                if tables.meta(META_PROBLEM).as_deref() != Some(problem.as_str()) {
                    log::indicators_error("publish", &problem);
                    let _ = tables.set_meta(META_PROBLEM, Some(&problem));
                }
                let delay = self.indicators_backoff.borrow_mut().record_failure(
                    now_ms(),
                    MIN_BACKOFF,
                    MAX_BACKOFF,
                );
                self.schedule(&self.indicators_publish_at, delay).await;
            }
        }
    }

    /// Signs the indicators with a key derived from ACCOUNT_SECRET, and writes them to KV.
    async fn publish_indicators_once(&self) -> Result<(), String> {
        let to_message = |error: ApiError| error.message;
        let kv = ConfigKv::from_settings(&self.settings).ok_or("the binding RULES is missing")?;
        let secret = self
            .settings
            .account_secret
            .as_deref()
            .ok_or("ACCOUNT_SECRET is missing or too short")?;
        self.rate_limit("indicators").await;
        let indicators = self.with_cluster_ids().map_err(to_message)?;
        let tables = self.tables().map_err(to_message)?;
        // At least the time, so that the number still rises if the object's tables are lost.
        let last = tables.meta_number(META_NUMBER).unwrap_or(0);
        let number = last.saturating_add(1).max(now_ms() as u64);
        tables.set_meta(META_NUMBER, Some(&number.to_string())).map_err(to_message)?;
        let signed = sign(number, &indicators, secret).ok_or("the indicators cannot be signed")?;
        put_with_timeout(kv.put_indicators(&signed)).await
    }

    /// Returns the indicators to publish: active and revoked indicators, with the ids of their
    /// clusters.
    fn with_cluster_ids(&self) -> Result<Indicators, ApiError> {
        let now = now_seconds();
        let is_active = |indicator: &Indicator<'_>| {
            indicator.expires == 0 || now < u64::from(indicator.expires)
        };
        // Isolates need revoked indicators, to drop them.
        let active = self.with_indicators(|indicators| indicators.filtered(is_active))?;
        let mut indicators = self.with_clusters(|clusters| {
            let mut result = Indicators::default();
            for indicator in active.iter() {
                let cluster = clusters.for_key(indicator.key).map_or(0, |cluster| cluster.id);
                result.add(Indicator { cluster, ..indicator });
            }
            result
        })?;
        self.add_aliases(&mut indicators)?;
        Ok(indicators)
    }

    /// Lists indicators, newest first: 50 by default, at most 500. The filters are `correlation`
    /// and `cluster`.
    pub(super) fn list_indicators(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(50).clamp(1, PAGE_ROWS) as usize;
        let mut before = parse_number(query, "before")?;
        let correlation = query.get("correlation");
        let cluster = query.get("cluster").map(|id| self.current_cluster_id(id)).transpose()?;
        let mut indicators = Vec::new();
        loop {
            let page = self.tables()?.indicator_page(before, correlation.map(String::as_str))?;
            before = page.last().map(|row| row.id);
            for mut indicator in page {
                indicator.cluster = parse_hash(&indicator.key)
                    .map(|key| self.cluster_id_for_key(key))
                    .transpose()?
                    .flatten();
                if cluster.is_none() || indicator.cluster == cluster {
                    indicators.push(indicator);
                }
                if indicators.len() >= limit {
                    return Ok((200, json!(api::IndicatorList { indicators })));
                }
            }
            if before.is_none() {
                return Ok((200, json!(api::IndicatorList { indicators })));
            }
        }
    }

    /// Returns all indicators of a key, and the summary of its cluster.
    pub(super) fn explain_indicator(&self, key: &str) -> HandlerResult {
        let mut indicators = self.tables()?.indicators_of_key(key)?;
        if indicators.is_empty() {
            return Err(unknown_indicator(key));
        }
        let hash = parse_hash(key).ok_or_else(|| unknown_indicator(key))?;
        let cluster_id = self.cluster_id_for_key(hash)?;
        for indicator in &mut indicators {
            indicator.cluster.clone_from(&cluster_id);
        }
        let cluster = cluster_id.map(|id| self.cluster_summary(&id)).transpose()?.flatten();
        let key = key.to_owned();
        Ok((200, json!(api::IndicatorDetails { key, indicators, cluster })))
    }

    /// Handles `POST /indicators/<key>/revoke`: revokes all indicators of a key.
    ///
    /// # Errors
    /// `invalid`, `not_found` or `unavailable`.
    pub(super) async fn revoke(
        &self,
        key: &str,
        request: &mut Request,
        caller: &Caller,
    ) -> HandlerResult {
        let body: api::RevokeRequest = request.json().await.map_err(|_| invalid_body())?;
        let reason: String = body.reason.trim().chars().take(MAX_REASON_CHARS).collect();
        let author: String = body.author.chars().take(MAX_REASON_CHARS).collect();
        if reason.is_empty() {
            let remedy = "give a reason for the audit log: {\"reason\": \"…\"}";
            return Err(ApiError::new(422, "invalid", "the reason is missing", remedy));
        }
        let now = now_seconds();
        if body.until.is_some_and(|until| !(now..now + MAX_REVOCATION_SECONDS).contains(&until)) {
            let message = "invalid 'until': expected a time in the next 366 days";
            let remedy = "give seconds since the epoch, or leave it out";
            return Err(ApiError::new(422, "invalid", message, remedy));
        }
        let count = self.tables()?.revoke(key, &reason, body.until)? as u64;
        let result = if count == 0 { "not_found" } else { "ok" };
        let subject = format!("{key}: {reason}");
        self.tables()?.audit(caller.actor(), "indicator.revoke", &subject, &author, result);
        if count == 0 {
            return Err(unknown_indicator(key));
        }
        *self.indicators.borrow_mut() = None;
        self.mark_indicators_changed().await?;
        Ok((200, json!(api::RevokeResult { key: key.to_owned(), count })))
    }

    /// Ends revocations whose time is over, and publishes the indicators if any revocation has
    /// ended.
    pub(super) async fn restore_revoked(&self) -> Result<(), ApiError> {
        if self.tables()?.restore_revoked()? > 0 {
            *self.indicators.borrow_mut() = None;
            self.mark_indicators_changed().await?;
        }
        Ok(())
    }

    /// Returns the member `indicators` of the status.
    pub(super) fn indicators_status(&self) -> Result<api::IndicatorStatus, ApiError> {
        let now = now_seconds();
        let count_active = |indicators: &mut Indicators| {
            indicators.iter().filter(|indicator| now < u64::from(indicator.expires)).count()
        };
        let tables = self.tables()?;
        Ok(api::IndicatorStatus {
            count: self.with_indicators(count_active)? as u64,
            clusters: self.with_clusters(|clusters| clusters.iter().count())? as u64,
            pending: tables.meta_number(META_CHANGED) != tables.meta_number(META_PUBLISHED),
            problem: tables.meta(META_PROBLEM),
        })
    }
}

impl Tables {
    /// Returns whether a firing has an active indicator, and whether it is revoked.
    fn indicator_state(&self, firing: &FiringReport) -> Result<IndicatorState, ApiError> {
        #[derive(Deserialize)]
        struct Row {
            revoked: Option<u64>,
        }
        let query =
            "SELECT revoked FROM indicator WHERE key = ? AND correlation = ? AND expires > ?";
        let row: Option<Row> = self.row(query, bind_key(firing, [now_seconds()]))?;
        Ok(match row {
            None => IndicatorState::NotStored,
            Some(Row { revoked: None }) => IndicatorState::Active,
            Some(Row { revoked: Some(_) }) => IndicatorState::Revoked,
        })
    }

    /// Stores the indicator of a firing, or updates it. If it is revoked, the firing is only
    /// counted.
    fn upsert_indicator(
        &self,
        firing: &FiringReport,
        state: IndicatorState,
    ) -> Result<(), ApiError> {
        let at = u64::from(firing.at);
        let query = match state {
            IndicatorState::Revoked => {
                let query = "UPDATE indicator SET times = times + 1, last = ?3
                    WHERE key = ?1 AND correlation = ?2";
                return self.exec(query, bind_key(firing, [at]));
            }
            IndicatorState::Active => {
                "UPDATE indicator SET times = times + 1, last = MAX(last, ?3),
                    expires = MAX(expires, ?4), accounts = MAX(accounts, ?5),
                    measured = ?6, threshold = ?7
                    WHERE key = ?1 AND correlation = ?2"
            }
            IndicatorState::NotStored => {
                "INSERT OR REPLACE INTO indicator
                    (key, correlation, first, last, expires, times, accounts, measured, threshold)
                    VALUES (?1, ?2, ?3, ?3, ?4, 1, ?5, ?6, ?7)"
            }
        };
        let accounts = firing.accounts.len() as u64;
        let mut values = bind_key(firing, [at, u64::from(firing.expires), accounts]);
        values.extend([firing.measured.into(), firing.threshold.as_str().into()]);
        self.exec(query, values)
    }

    /// Reads the indicators that have not expired; revoked indicators get the expiry 0.
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

    /// Returns at most [`PAGE_ROWS`] indicators with an id below `before`, newest first, without
    /// their clusters.
    fn indicator_page(
        &self,
        before: Option<u64>,
        correlation: Option<&str>,
    ) -> Result<Vec<api::IndicatorInfo>, ApiError> {
        let query = format!(
            "SELECT {INDICATOR_COLUMNS} FROM indicator
                WHERE rowid < ? AND expires > ? AND (? IS NULL OR correlation = ?)
                ORDER BY rowid DESC LIMIT ?"
        );
        let correlation = || SqlStorageValue::from(correlation);
        let before = integer(before.unwrap_or(u64::MAX));
        let now = integer(now_seconds());
        self.rows(&query, vec![before, now, correlation(), correlation(), integer(PAGE_ROWS)])
    }

    /// Returns the indicators of a key that have not expired, without their cluster.
    fn indicators_of_key(&self, key: &str) -> Result<Vec<api::IndicatorInfo>, ApiError> {
        let query = format!(
            "SELECT {INDICATOR_COLUMNS} FROM indicator
                WHERE key = ? AND expires > ? ORDER BY correlation"
        );
        self.rows(&query, vec![key.into(), integer(now_seconds())])
    }

    /// Ends revocations whose time is over, and returns their number.
    fn restore_revoked(&self) -> Result<usize, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "UPDATE indicator SET revoked = NULL, reason = NULL, until = NULL
            WHERE until <= ? RETURNING 1";
        Ok(self.rows::<Row>(query, vec![integer(now_seconds())])?.len())
    }

    /// Revokes the indicators of a key, until they would have expired or until a given time.
    /// Returns their number.
    fn revoke(&self, key: &str, reason: &str, until: Option<u64>) -> Result<usize, ApiError> {
        // The row must outlive the revocation: a new firing would not know that it is revoked.
        let query = "UPDATE indicator SET revoked = ?1, reason = ?2, until = ?4,
            expires = MAX(expires, IFNULL(?4, 0)) WHERE key = ?3 AND expires > ?1";
        let until = until.map_or(SqlStorageValue::Null, integer);
        let values = vec![integer(now_seconds()), reason.into(), key.into(), until];
        self.exec(query, values)?;
        Ok(self.indicators_of_key(key)?.len())
    }
}

/// The state of an indicator in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IndicatorState {
    /// The indicator is not stored, or has expired.
    NotStored,
    Active,
    Revoked,
}

/// The columns of an [`IndicatorRow`].
const INDICATOR_COLUMNS: &str = "rowid AS id, correlation, key, first, last, expires, times, \
    measured, threshold, accounts, revoked, reason, until";

/// Returns the values of a query: key and correlation of a firing, and then `numbers`.
fn bind_key<const COUNT: usize>(
    firing: &FiringReport,
    numbers: [u64; COUNT],
) -> Vec<SqlStorageValue> {
    let mut values = vec![firing.key.as_str().into(), firing.correlation.as_str().into()];
    values.extend(numbers.map(integer));
    values
}

/// Name of the number of changes of the indicators.
const META_CHANGED: &str = "indicators.changed";

/// Name of the number of changes when the indicators were last published.
const META_PUBLISHED: &str = "indicators.published";

/// Name of the version number that was last published.
const META_NUMBER: &str = "indicators.number";

/// Name of the reason why KV does not have the indicators.
const META_PROBLEM: &str = "indicators.problem";

/// Parses a key or account; `None` if it is not 16 hex digits.
pub fn parse_hash(key: &str) -> Option<u64> {
    u64::from_str_radix(key, 16).ok().filter(|_| key.len() == 16)
}

fn unknown_indicator(key: &str) -> ApiError {
    let key: String = key.chars().take(16).collect();
    let message = format!("unknown indicator key '{key}'");
    ApiError::new(404, "not_found", message, "`hedgerow indicators list` lists all indicators")
}

fn invalid_body() -> ApiError {
    let remedy = "docs/openapi.yaml shows the body of every call";
    ApiError::new(400, "invalid", "the body is not the expected JSON object", remedy)
}
