//! Indicators: the firings of all correlators, in the table `indicator`.
//!
//! A new firing extends an existing indicator. An operator can revoke an indicator until it would
//! have expired, or until a given time; it then stays revoked even if the correlation fires again.
//! Revoked indicators are published with the expiry 0, so that isolates also drop indicators that
//! they got from a correlator.
//!
//! Two limits apply to a new indicator. Quotas limit how many indicators one account, tenant or
//! network causes in a minute. If the table is full, a new indicator replaces a weaker one or is
//! refused. `indicator_publication.rs` writes all indicators to KV.

use std::collections::HashMap;

use hedgerow_core::api;
use hedgerow_core::correlate::Cause;
use hedgerow_core::correlate::indicator::strength::Strength;
use hedgerow_core::correlate::indicator::table::{
    IndicatorName, IndicatorTable, InsertOutcome, TableEntry,
};
use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use hedgerow_core::field::FieldId;
use hedgerow_core::rules::policy::{CorrelationSettings, MAX_STORED_INDICATORS};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::{Request, SqlStorageValue};

use super::error::internal_error;
use super::indicator_memory::{Queued, StoredIndicators};
use super::principals::LabelRow;
use super::tables::Tables;
use super::{HandlerResult, Registry, parse_number};
use crate::admin_api::error::ApiError;
use crate::correlator_do::firing_report::{FiringReport, FiringsAnswer};
use crate::platform::clock::now_seconds;
use crate::platform::hmac_sha256;
use crate::platform::log;
use crate::platform::sql::integer;

/// Maximum number of revoked indicators, which do not count towards `max_indicators`. If there are
/// more, those that would expire first are deleted, so that their revocations end.
pub(super) const MAX_REVOKED_INDICATORS: usize = 50_000;

/// Minimum seconds between two deletions of expired indicators, if the table is full.
const PRUNE_INTERVAL_WHEN_FULL_SECONDS: u64 = 60;

/// Minimum seconds between two deletions of expired indicators, if the table is not full.
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

/// Maximum number of rows in one query.
const PAGE_ROWS: u64 = 500;

/// Maximum number of accounts that are stored for an indicator.
const MAX_MEMBERS: usize = 64;

/// The body of `POST /firings`.
#[derive(Deserialize)]
struct FiringsRequest {
    firings: Vec<Value>,
    /// The policy's settings in `correlate`, by which the correlator counts.
    settings: Option<CorrelationSettings>,
    /// Number of firings that the correlator refused because of a quota.
    #[serde(default)]
    refused: u64,
    /// Index of the correlator.
    #[serde(default)]
    shard: u32,
    /// Number of firings that wait at the correlator, including those in `firings`.
    #[serde(default)]
    queued: u64,
    /// Largest number of observations that waited at an isolate since the last report.
    #[serde(default)]
    queued_observations: u64,
}

impl Registry {
    /// Handles `POST /firings`: stores indicators and links. Answers with the ids of clusters by
    /// key, and the firings that were refused.
    pub(super) async fn receive_firings(&self, request: &mut Request) -> HandlerResult {
        let body: FiringsRequest = request.json().await.map_err(|_| invalid_body())?;
        let firings = body.firings.len() as u64;
        self.firing_stats.borrow_mut().record_report(
            now_seconds(),
            body.shard,
            Queued {
                firings: body.queued.saturating_sub(firings),
                observations: body.queued_observations,
            },
            body.refused,
        );
        if let Some(settings) = body.settings {
            self.apply_settings(settings)?;
        }
        self.prune_expired_indicators(PRUNE_INTERVAL_SECONDS)?;
        let mut answer = FiringsAnswer::default();
        let mut has_changed = false;
        // A malformed firing must not prevent the others from being stored.
        let parse = |value: &Value| FiringReport::deserialize(value).ok();
        for firing in &body.firings.iter().filter_map(parse).collect::<Vec<FiringReport>>() {
            let Some(key) = parse_hash(&firing.key) else { continue };
            if !self.record_firing(firing, key)? {
                answer.refused.insert(firing.name());
                continue;
            }
            has_changed = true;
            if firing.links_accounts {
                self.link(firing, key)?;
            }
            if let Some(id) = self.cluster_id_for_key(key)? {
                answer.clusters.insert(firing.key.clone(), id);
            }
        }
        if has_changed {
            self.mark_indicators_changed().await?;
        }
        Ok((200, json!(answer)))
    }

    /// Applies settings of the policy. If they allow fewer indicators than are stored, the weakest
    /// indicators are deleted when the table is read next.
    fn apply_settings(&self, settings: CorrelationSettings) -> Result<(), ApiError> {
        if self.correlation_settings.replace(settings).max_indicators != settings.max_indicators {
            // `with_indicators` applies the new number when it reads the table again.
            *self.indicators.borrow_mut() = None;
        }
        Ok(())
    }

    /// Stores an indicator, or extends it if it is stored and has not expired. Only counts the
    /// firing if the indicator is revoked. Returns false if the firing was refused, because a quota
    /// is exhausted or all stored indicators are stronger.
    fn record_firing(&self, firing: &FiringReport, key: u64) -> Result<bool, ApiError> {
        let tables = self.tables()?;
        let row = tables.stored_firing(firing)?;
        if row.as_ref().is_some_and(|row| row.revoked_at.is_some()) {
            tables.count_revoked_firing(firing)?;
            return Ok(true);
        }
        if row.is_none() && !self.is_within_quotas(firing) {
            self.firing_stats.borrow_mut().record_refused_by_quota(now_seconds(), 1);
            return Ok(false);
        }
        let entry = firing_entry(firing, row.as_ref());
        match self.admit(&firing.correlation, key, entry, row.is_none())? {
            InsertOutcome::Admitted => {}
            InsertOutcome::Replaced(weaker) => {
                tables.delete_indicator(&weaker)?;
                self.firing_stats.borrow_mut().record_replaced(now_seconds());
            }
            InsertOutcome::Refused => {
                if self.firing_stats.borrow_mut().record_refused_as_weak(now_seconds()) == 1 {
                    let error = "an indicator was not stored: all others are stronger";
                    log::indicators_error("full", error);
                }
                return Ok(false);
            }
        }
        tables.store_firing(firing, row.as_ref())?;
        Ok(true)
    }

    /// Counts a new indicator towards the quotas of the account, tenant and network that caused it.
    /// Returns false if one of these quotas is exhausted.
    fn is_within_quotas(&self, firing: &FiringReport) -> bool {
        let settings = self.correlation_settings.get();
        let mut quotas = self.quotas.borrow_mut();
        quotas.admit(&firing.cause(), &firing.strength(), &settings, now_seconds()).is_ok()
    }

    /// Adds an indicator to the table in memory, or updates it if `is_new` is false. If the table
    /// has no room for a new indicator, deletes expired indicators first.
    fn admit(
        &self,
        correlation: &str,
        key: u64,
        entry: TableEntry,
        is_new: bool,
    ) -> Result<InsertOutcome, ApiError> {
        let is_full = self.with_indicators(|stored| {
            let table = &stored.active;
            table.len() >= table.max() || table.count(correlation) >= table.max_per_correlation()
        })?;
        if is_new && is_full {
            self.prune_expired_indicators(PRUNE_INTERVAL_WHEN_FULL_SECONDS)?;
        }
        self.with_indicators(|stored| {
            if is_new {
                // The table may still contain an expired indicator with this key.
                stored.active.remove(correlation, key);
            }
            stored.active.insert(correlation, key, entry)
        })
    }

    /// Deletes expired indicators and ends revocations whose time is over, unless that was done in
    /// the last `min_interval` seconds.
    fn prune_expired_indicators(&self, min_interval: u64) -> Result<(), ApiError> {
        if now_seconds() >= self.indicators_pruned_at.get().saturating_add(min_interval) {
            self.indicators_pruned_at.set(now_seconds());
            if self.tables()?.restore_revoked()? > 0 {
                *self.indicators.borrow_mut() = None;
            }
            self.tables()?.delete_expired_indicators()?;
            if let Some(stored) = self.indicators.borrow_mut().as_mut() {
                stored.active.remove_expired(now_seconds());
            }
        }
        Ok(())
    }

    /// Runs `work` with the indicators that have not expired. If they are not in memory, reads them
    /// from the table, and deletes the weakest indicators if there are more than the maximum.
    pub(super) fn with_indicators<T>(
        &self,
        work: impl FnOnce(&mut StoredIndicators) -> T,
    ) -> Result<T, ApiError> {
        if self.indicators.borrow().is_none() {
            let mut stored = self.tables()?.indicators()?;
            let max = self.correlation_settings.get().max_indicators.min(MAX_STORED_INDICATORS);
            for evicted in stored.active.set_max(max) {
                self.tables()?.delete_indicator(&evicted)?;
            }
            *self.indicators.borrow_mut() = Some(stored);
        }
        let mut indicators = self.indicators.borrow_mut();
        Ok(work(indicators.get_or_insert_default()))
    }

    /// Drops the indicators in memory, so that they are read again from the table.
    pub(super) fn reload_indicators(&self) {
        *self.indicators.borrow_mut() = None;
    }

    /// Lists indicators, newest first: 50 by default, at most 500. The query can filter by
    /// `correlation` and `cluster`, and by `before`: only indicators with a smaller id are listed.
    pub(super) fn list_indicators(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(50).clamp(1, PAGE_ROWS) as usize;
        let before = parse_number(query, "before")?;
        let correlation = query.get("correlation").map(String::as_str);
        let cluster = query.get("cluster").map(|id| self.current_cluster_id(id)).transpose()?;
        let indicators = self.find_indicators(limit, before, correlation, cluster.as_ref())?;
        let is_complete = before.is_none() && indicators.len() < limit;
        let total = match is_complete {
            true => indicators.len() as u64,
            false => self.count_indicators(correlation, cluster.as_deref())?,
        };
        Ok((200, json!(api::IndicatorList { indicators, total })))
    }

    /// Returns the newest indicators of a correlation and a cluster with ids below `before`, at
    /// most `limit`. `None` sets no condition.
    fn find_indicators(
        &self,
        limit: usize,
        mut before: Option<u64>,
        correlation: Option<&str>,
        cluster: Option<&String>,
    ) -> Result<Vec<api::IndicatorInfo>, ApiError> {
        let labels = self.labels_by_hash()?;
        let mut indicators = Vec::new();
        loop {
            let page = self.tables()?.indicator_page(before, correlation)?;
            before = page.last().map(|row| row.id);
            for mut indicator in page {
                indicator.cluster = parse_hash(&indicator.key)
                    .map(|key| self.cluster_id_for_key(key))
                    .transpose()?
                    .flatten();
                if cluster.is_none() || indicator.cluster.as_ref() == cluster {
                    labels.add_to(&mut indicator);
                    indicators.push(indicator);
                }
                if indicators.len() >= limit {
                    return Ok(indicators);
                }
            }
            if before.is_none() {
                return Ok(indicators);
            }
        }
    }

    /// Returns all indicators of a key, and the summary of its cluster; `not_found` if the key has
    /// no indicators.
    pub(super) fn explain_indicator(&self, key: &str) -> HandlerResult {
        let mut indicators = self.tables()?.indicators_of_key(key)?;
        if indicators.is_empty() {
            return Err(unknown_indicator(key));
        }
        let hash = parse_hash(key).ok_or_else(|| unknown_indicator(key))?;
        let cluster_id = self.cluster_id_for_key(hash)?;
        let labels = self.labels_by_hash()?;
        for indicator in &mut indicators {
            indicator.cluster.clone_from(&cluster_id);
            labels.add_to(indicator);
        }
        let cluster = cluster_id.map(|id| self.cluster_summary(&id)).transpose()?.flatten();
        let key = key.to_owned();
        Ok((200, json!(api::IndicatorDetails { key, indicators, cluster })))
    }
}

/// Labels of accounts and tenants. The keys are the hashes that correlations count, as 16 hex
/// digits.
#[derive(Default)]
struct LabelsByHash {
    accounts: HashMap<String, String>,
    tenants: HashMap<String, String>,
}

impl LabelsByHash {
    fn add_to(&self, indicator: &mut api::IndicatorInfo) {
        let find = |labels: &HashMap<String, String>, hash: &Option<String>| {
            labels.get(hash.as_deref()?).cloned()
        };
        indicator.account_label = find(&self.accounts, &indicator.account);
        indicator.tenant_label = find(&self.tenants, &indicator.tenant);
    }
}

impl Registry {
    /// Returns the labels by hash, because an indicator contains hashes of ids instead of ids.
    /// Without ACCOUNT_SECRET, returns no labels, because the hashes cannot be computed.
    fn labels_by_hash(&self) -> Result<LabelsByHash, ApiError> {
        let mut labels = LabelsByHash::default();
        let Some(secret) = self.settings.account_secret.as_deref() else { return Ok(labels) };
        let key = hmac_sha256::hash_key(secret);
        for LabelRow { id, text } in self.tables()?.all_labels()? {
            let account = key.keyed_hash(FieldId::Account.spec().name, id.as_bytes());
            labels.accounts.insert(format!("{account:016x}"), text.clone());
            labels.tenants.insert(format!("{:016x}", key.hash_tenant(&id)), text);
        }
        Ok(labels)
    }
}

impl Tables {
    /// Returns the indicator of a firing, if it is stored and has not expired.
    fn stored_firing(&self, firing: &FiringReport) -> Result<Option<StoredFiring>, ApiError> {
        let query = "SELECT revoked_at, expires, times, last, accounts, members, account, tenant,
            network FROM indicator WHERE key = ? AND correlation = ? AND expires > ?";
        self.row(query, bind_key(firing, [now_seconds()]))
    }

    /// Counts a firing of a revoked indicator.
    fn count_revoked_firing(&self, firing: &FiringReport) -> Result<(), ApiError> {
        let query = "UPDATE indicator SET times = times + 1, last = ?3
            WHERE key = ?1 AND correlation = ?2";
        self.exec(query, bind_key(firing, [u64::from(firing.at)]))
    }

    /// Stores the indicator of a firing. If the indicator is stored already, updates it; `row` is
    /// then its stored row.
    fn store_firing(
        &self,
        firing: &FiringReport,
        row: Option<&StoredFiring>,
    ) -> Result<(), ApiError> {
        let query = match row {
            Some(_) => {
                "UPDATE indicator SET times = times + 1, last = MAX(last, ?3),
                    expires = MAX(expires, ?4), accounts = MAX(accounts, ?5),
                    measured = ?6, threshold = ?7, members = ?8
                    WHERE key = ?1 AND correlation = ?2"
            }
            None => {
                "INSERT OR REPLACE INTO indicator
                    (key, correlation, first, last, expires, times, accounts, measured, threshold,
                        members, account, tenant, network)
                    VALUES (?1, ?2, ?3, ?3, ?4, 1, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
            }
        };
        let accounts = firing.accounts.len() as u64;
        let (at, expires) = (u64::from(firing.at), u64::from(firing.expires));
        let mut values = bind_key(firing, [at, expires, accounts]);
        values.extend([firing.measured.into(), firing.threshold.as_str().into()]);
        values.push(merge_members(row, firing).into());
        if row.is_none() {
            let FiringReport { account, tenant, network, .. } = firing;
            values.extend([account, tenant, network].map(|hash| hash.clone().into()));
        }
        self.exec(query, values)
    }

    /// Deletes an indicator.
    fn delete_indicator(&self, name: &IndicatorName) -> Result<(), ApiError> {
        let values = vec![format!("{:016x}", name.key).into(), name.correlation.as_str().into()];
        self.exec("DELETE FROM indicator WHERE key = ? AND correlation = ?", values)
    }

    /// Reads the indicators that have not expired, into a table without a maximum. Deletes revoked
    /// indicators beyond [`MAX_REVOKED_INDICATORS`].
    fn indicators(&self) -> Result<StoredIndicators, ApiError> {
        self.end_surplus_revocations()?;
        let query = "SELECT correlation, key, expires, times, last, accounts,
                revoked_at IS NOT NULL, account, tenant, network
            FROM indicator WHERE expires > ?";
        let rows = self.sql.exec(query, vec![integer(now_seconds())]).map_err(internal_error)?;
        let mut stored = StoredIndicators {
            active: IndicatorTable::new(usize::MAX),
            revoked: Indicators::default(),
        };
        for row in rows.raw() {
            let row = row.map_err(internal_error)?;
            let Some((correlation, key, entry)) = parse_indicator(&row) else { continue };
            match entry {
                Some(entry) => {
                    stored.active.insert(correlation, key, entry);
                }
                None => stored.revoked.add(Indicator { correlation, key, expires: 0, cluster: 0 }),
            }
        }
        Ok(stored)
    }

    /// Deletes the revoked indicators that would expire first, if there are more than
    /// [`MAX_REVOKED_INDICATORS`].
    fn end_surplus_revocations(&self) -> Result<(), ApiError> {
        let query = "DELETE FROM indicator WHERE rowid IN (SELECT rowid FROM indicator
            WHERE revoked_at IS NOT NULL ORDER BY expires DESC LIMIT -1 OFFSET ?)";
        self.exec(query, vec![integer(MAX_REVOKED_INDICATORS as u64)])
    }

    fn delete_expired_indicators(&self) -> Result<(), ApiError> {
        self.exec("DELETE FROM indicator WHERE expires <= ?", vec![integer(now_seconds())])
    }

    /// Returns at most [`PAGE_ROWS`] indicators that have not expired, newest first, without their
    /// clusters. If `before` is set, returns only indicators with a smaller id. If `correlation` is
    /// set, returns only indicators of this correlation.
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
    pub(super) fn indicators_of_key(&self, key: &str) -> Result<Vec<api::IndicatorInfo>, ApiError> {
        let query = format!(
            "SELECT {INDICATOR_COLUMNS} FROM indicator
                WHERE key = ? AND expires > ? ORDER BY correlation"
        );
        self.rows(&query, vec![key.into(), integer(now_seconds())])
    }

    /// Ends revocations whose time is over, and returns their number.
    pub(super) fn restore_revoked(&self) -> Result<usize, ApiError> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "UPDATE indicator SET revoked_at = NULL, reason = NULL, revoked_until = NULL
            WHERE revoked_until <= ? RETURNING 1";
        Ok(self.rows::<Row>(query, vec![integer(now_seconds())])?.len())
    }
}

/// The columns of an indicator that a further firing changes or needs.
#[derive(Deserialize)]
struct StoredFiring {
    /// Time of the revocation, in seconds since the epoch.
    revoked_at: Option<u64>,
    expires: u32,
    times: u32,
    last: u32,
    accounts: u32,
    /// Accounts that took part, 16 hex digits each, separated by spaces.
    members: Option<String>,
    account: Option<String>,
    tenant: Option<String>,
    network: Option<String>,
}

/// Returns the entry of a firing's indicator for the table in memory. `row` is the stored
/// indicator; `None` if the firing is the first one.
fn firing_entry(firing: &FiringReport, row: Option<&StoredFiring>) -> TableEntry {
    // A time in the future would keep the indicator's rank high for too long.
    let last = firing.at.min(u32::try_from(now_seconds()).unwrap_or(u32::MAX));
    let Strength { accounts, times, .. } = firing.strength();
    match row {
        None => TableEntry {
            strength: Strength { accounts, times, last },
            expires: firing.expires,
            cause: firing.cause(),
        },
        Some(row) => TableEntry {
            strength: Strength {
                accounts: row.accounts.max(accounts),
                times: row.times.saturating_add(1),
                last: row.last.max(last),
            },
            expires: row.expires.max(firing.expires),
            cause: Cause {
                account: optional_hash(row.account.as_deref()),
                tenant: optional_hash(row.tenant.as_deref()),
                network: optional_hash(row.network.as_deref()),
            },
        },
    }
}

/// Returns the accounts that took part in any firing of the indicator, separated by spaces: at most
/// [`MAX_MEMBERS`], the earliest first.
fn merge_members(row: Option<&StoredFiring>, firing: &FiringReport) -> String {
    let known = row.and_then(|row| row.members.as_deref()).unwrap_or_default();
    let mut members: Vec<&str> = known.split_whitespace().collect();
    for account in firing.accounts.iter().chain(&firing.account) {
        if members.len() < MAX_MEMBERS && !members.contains(&account.as_str()) {
            members.push(account);
        }
    }
    members.join(" ")
}

/// Parses a row of the query of [`Tables::indicators`]. Returns the correlation, the key and the
/// entry. The entry is `None` if the indicator is revoked. The result is `None` if the row is
/// malformed.
fn parse_indicator(row: &[SqlStorageValue]) -> Option<(&str, u64, Option<TableEntry>)> {
    let [SqlStorageValue::String(correlation), SqlStorageValue::String(key), rest @ ..] = row
    else {
        return None;
    };
    let [expires, times, last, accounts, is_revoked, account, tenant, network] = rest else {
        return None;
    };
    let number = |value: &SqlStorageValue| match value {
        SqlStorageValue::Integer(number) => u32::try_from(*number).unwrap_or(u32::MAX),
        _ => 0,
    };
    let hash = |value: &SqlStorageValue| match value {
        SqlStorageValue::String(text) => optional_hash(Some(text)),
        _ => 0,
    };
    let entry = (number(is_revoked) == 0).then(|| TableEntry {
        strength: Strength { accounts: number(accounts), times: number(times), last: number(last) },
        expires: number(expires),
        cause: Cause { account: hash(account), tenant: hash(tenant), network: hash(network) },
    });
    Some((correlation, parse_hash(key)?, entry))
}

/// Parses a hash in hex. Returns 0 if it is missing or malformed.
fn optional_hash(hex: Option<&str>) -> u64 {
    hex.and_then(parse_hash).unwrap_or_default()
}

/// The columns of an [`api::IndicatorInfo`].
const INDICATOR_COLUMNS: &str = "rowid AS id, correlation, key, first, last, expires, times, \
    measured, threshold, accounts, revoked_at, reason, revoked_until, account, tenant, network";

/// Returns the values to bind to a query: key and correlation of a firing, and then `numbers`.
fn bind_key<const COUNT: usize>(
    firing: &FiringReport,
    numbers: [u64; COUNT],
) -> Vec<SqlStorageValue> {
    let mut values = vec![firing.key.as_str().into(), firing.correlation.as_str().into()];
    values.extend(numbers.map(integer));
    values
}

/// Parses a key or account; `None` if it is not 16 hex digits.
pub fn parse_hash(key: &str) -> Option<u64> {
    u64::from_str_radix(key, 16).ok().filter(|_| key.len() == 16)
}

pub(super) fn unknown_indicator(key: &str) -> ApiError {
    let key: String = key.chars().take(16).collect();
    let message = format!("unknown indicator key '{key}'");
    ApiError::new(404, "not_found", message, "`hedgerow indicators list` lists all indicators")
}

pub(super) fn invalid_body() -> ApiError {
    let remedy = "docs/openapi.yaml shows the body of every call";
    ApiError::new(400, "invalid", "the body is not the expected JSON object", remedy)
}
