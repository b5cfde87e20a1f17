//! Revocations of indicators: of all indicators of a key, or of all indicators that a filter
//! selects.

use hedgerow_core::api;
use hedgerow_core::field::FieldId;
use serde::Deserialize;
use serde_json::json;
use worker::{Request, SqlStorageValue};

use super::indicators::{invalid_body, parse_hash, unknown_indicator};
use super::tables::Tables;
use super::{Caller, HandlerResult, Registry};
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;
use crate::platform::hmac_sha256;
use crate::platform::sql::integer;

/// The longest revocation, in seconds.
const MAX_REVOCATION_SECONDS: u64 = 366 * 86_400;

/// Maximum number of characters of a reason or an author. Further characters are cut off.
const MAX_REASON_CHARS: usize = 200;

/// Maximum number of rows that one SQL statement revokes.
const ROWS_PER_STATEMENT: usize = 500;

/// Number of hex digits of a hash. The status shows accounts as hashes; ids of accounts are longer.
const HASH_DIGITS: usize = 16;

/// The checked parameters of a revocation.
struct Revocation {
    reason: String,
    author: String,
    /// End of the revocation, in seconds since the epoch; `None` if it ends with the indicator.
    until: Option<u64>,
}

/// A row that meets the conditions of a filter. The condition on the cluster is not checked yet.
#[derive(Deserialize)]
struct Candidate {
    id: u64,
    key: String,
}

impl Registry {
    /// Handles `POST /indicators/<key>/revoke`: revokes all indicators of a key.
    ///
    /// # Errors
    /// `invalid`, if the body, the reason or `until` is invalid; `not_found`, if the key has no
    /// indicators; `unavailable`, if the tables cannot be read or written.
    pub(super) async fn revoke(
        &self,
        key: &str,
        request: &mut Request,
        caller: &Caller,
    ) -> HandlerResult {
        let body: api::RevokeRequest = request.json().await.map_err(|_| invalid_body())?;
        let Revocation { reason, author, until } = check(&body.reason, &body.author, body.until)?;
        let count = self.tables()?.revoke(key, &reason, until)? as u64;
        let result = if count == 0 { "not_found" } else { "ok" };
        let subject = format!("{key}: {reason}");
        self.tables()?.audit(caller.for_audit(), "indicator.revoke", &subject, &author, result);
        if count == 0 {
            return Err(unknown_indicator(key));
        }
        self.publish_revocations().await?;
        Ok((200, json!(api::RevokeResult { key: key.to_owned(), count })))
    }

    /// Handles `POST /indicators/revoke`: revokes the indicators that a filter selects. With
    /// `dry_run`, only counts these indicators.
    ///
    /// # Errors
    /// `invalid`, if the body, the reason or `until` is invalid, or the filter is empty;
    /// `unavailable`, if the tables cannot be read or written, or ACCOUNT_SECRET is needed and
    /// missing.
    pub(super) async fn revoke_matching(
        &self,
        request: &mut Request,
        caller: &Caller,
    ) -> HandlerResult {
        // Parse with serde: the platform's parser ignores unknown members, so that a filter with a
        // misspelt condition would revoke too many indicators.
        let text = request.text().await.map_err(|_| invalid_body())?;
        let body: api::RevokeMatchingRequest =
            serde_json::from_str(&text).map_err(|_| invalid_body())?;
        let Revocation { reason, author, until } = check(&body.reason, &body.author, body.until)?;
        let filter = &body.filter;
        let Some(description) = describe(filter) else {
            let remedy = "give at least one of correlation, cluster, account, from and to";
            return Err(ApiError::new(422, "invalid", "the filter is empty", remedy));
        };
        let ids = self.matching_ids(filter)?;
        let count = ids.len() as u64;
        if !body.dry_run && count > 0 {
            for ids in ids.chunks(ROWS_PER_STATEMENT) {
                self.tables()?.revoke_rows(ids, &reason, until)?;
            }
            self.publish_revocations().await?;
        }
        if !body.dry_run {
            let subject = format!("{count} of {description}: {reason}");
            self.tables()?.audit(caller.for_audit(), "indicator.revoke", &subject, &author, "ok");
        }
        Ok((200, json!(api::RevokeMatchingResult { count, dry_run: body.dry_run })))
    }

    /// Returns the ids of the rows that a filter selects and that are not revoked.
    fn matching_ids(&self, filter: &api::RevokeFilter) -> Result<Vec<u64>, ApiError> {
        let account = filter.account.as_deref().map(|account| self.account_hash(account));
        let candidates = self.tables()?.revocable(filter, account.transpose()?)?;
        let Some(cluster) = &filter.cluster else {
            return Ok(candidates.into_iter().map(|candidate| candidate.id).collect());
        };
        let cluster = self.current_cluster_id(cluster)?;
        let mut ids = Vec::new();
        for Candidate { id, key } in candidates {
            let Some(key) = parse_hash(&key) else { continue };
            if self.cluster_id_for_key(key)?.as_ref() == Some(&cluster) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Returns the hash by which correlations count an account, as 16 hex digits. `account` is
    /// either the id of the account, which decisions show, or the hash, which the status shows.
    ///
    /// # Errors
    /// `unavailable`, if `account` is an id and ACCOUNT_SECRET is missing or too short.
    pub(super) fn account_hash(&self, account: &str) -> Result<String, ApiError> {
        if account.len() == HASH_DIGITS && parse_hash(account).is_some() {
            return Ok(account.to_lowercase());
        }
        let secret = self.settings.account_secret.as_deref().ok_or_else(|| {
            let remedy = "set it: `npx wrangler secret put ACCOUNT_SECRET`";
            ApiError::new(503, "unavailable", "ACCOUNT_SECRET is missing or too short", remedy)
        })?;
        let name = FieldId::Account.spec().name;
        let hash = hmac_sha256::hash_key(secret).keyed_hash(name, account.as_bytes());
        Ok(format!("{hash:016x}"))
    }

    /// Ends revocations whose time is over, and publishes the indicators if any revocation has
    /// ended.
    pub(super) async fn restore_revoked(&self) -> Result<(), ApiError> {
        if self.tables()?.restore_revoked()? > 0 {
            self.reload_indicators();
            self.mark_indicators_changed().await?;
        }
        Ok(())
    }

    /// Publishes the indicators after a revocation, even if the budget of writes is used up.
    async fn publish_revocations(&self) -> Result<(), ApiError> {
        self.reload_indicators();
        self.mark_indicators_urgent().await
    }
}

impl Tables {
    /// Revokes the indicators of a key until the time `until`, or, if it is `None`, until they
    /// would have expired. Returns the number of these indicators.
    fn revoke(&self, key: &str, reason: &str, until: Option<u64>) -> Result<usize, ApiError> {
        // The row must exist until the revocation ends. Without the row, a new firing would make a
        // new indicator.
        let query = "UPDATE indicator SET revoked_at = ?1, reason = ?2, revoked_until = ?4,
            expires = MAX(expires, IFNULL(?4, 0)) WHERE key = ?3 AND expires > ?1";
        let until = until.map_or(SqlStorageValue::Null, integer);
        let values = vec![integer(now_seconds()), reason.into(), key.into(), until];
        self.exec(query, values)?;
        Ok(self.indicators_of_key(key)?.len())
    }

    /// Revokes the rows with these ids until the time `until`, or, if it is `None`, until they
    /// would have expired.
    fn revoke_rows(&self, ids: &[u64], reason: &str, until: Option<u64>) -> Result<(), ApiError> {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let query = format!(
            "UPDATE indicator SET revoked_at = ?1, reason = ?2, revoked_until = ?3,
                expires = MAX(expires, IFNULL(?3, 0)) WHERE rowid IN ({})",
            ids.join(", ")
        );
        let until = until.map_or(SqlStorageValue::Null, integer);
        self.exec(&query, vec![integer(now_seconds()), reason.into(), until])
    }

    /// Returns the indicators that meet all conditions of a filter except the condition on the
    /// cluster, and that are neither expired nor revoked. `account` is the filter's account as a
    /// hash in hex.
    fn revocable(
        &self,
        filter: &api::RevokeFilter,
        account: Option<String>,
    ) -> Result<Vec<Candidate>, ApiError> {
        let query = "SELECT rowid AS id, key FROM indicator
            WHERE expires > ?1 AND revoked_at IS NULL
                AND (?2 IS NULL OR correlation = ?2)
                AND first >= ?3 AND first < ?4
                AND (?5 IS NULL OR account = ?5 OR instr(members, ?5) > 0)";
        let values = vec![
            integer(now_seconds()),
            filter.correlation.clone().into(),
            integer(filter.from.unwrap_or(0)),
            integer(filter.to.unwrap_or(u64::MAX)),
            account.into(),
        ];
        self.rows(query, values)
    }
}

/// Checks the reason and the end of a revocation, and shortens the reason and the author to
/// [`MAX_REASON_CHARS`].
///
/// # Errors
/// `invalid`, if the reason is empty, or `until` is not in the next 366 days.
fn check(reason: &str, author: &str, until: Option<u64>) -> Result<Revocation, ApiError> {
    let reason: String = reason.trim().chars().take(MAX_REASON_CHARS).collect();
    let author: String = author.chars().take(MAX_REASON_CHARS).collect();
    if reason.is_empty() {
        let remedy = "give a reason for the audit log: {\"reason\": \"…\"}";
        return Err(ApiError::new(422, "invalid", "the reason is missing", remedy));
    }
    let now = now_seconds();
    if until.is_some_and(|until| !(now..now + MAX_REVOCATION_SECONDS).contains(&until)) {
        let message = "invalid 'until': expected a time in the next 366 days";
        let remedy = "give seconds since the epoch, or leave it out";
        return Err(ApiError::new(422, "invalid", message, remedy));
    }
    Ok(Revocation { reason, author, until })
}

/// Describes a filter for the audit log; `None` if it is empty and would select everything.
fn describe(filter: &api::RevokeFilter) -> Option<String> {
    let text = |name: &str, value: &Option<String>| {
        let value = value.as_ref()?;
        Some(format!("{name} {}", value.chars().take(MAX_REASON_CHARS).collect::<String>()))
    };
    let parts = [
        text("correlation", &filter.correlation),
        text("cluster", &filter.cluster),
        text("account", &filter.account),
        filter.from.map(|from| format!("from {from}")),
        filter.to.map(|to| format!("to {to}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_described_and_must_not_be_empty() {
        assert_eq!(describe(&api::RevokeFilter::default()), None);
        let filter = api::RevokeFilter {
            correlation: Some("cluster_pairs".to_owned()),
            from: Some(5),
            ..api::RevokeFilter::default()
        };
        assert_eq!(describe(&filter).as_deref(), Some("correlation cluster_pairs, from 5"));
    }
}
