//! Names of accounts, which the origin or the operator sets. The table `principal` stores the
//! names. The table `label` stores their labels if the policy sets `labels`. A *statement* says to
//! which account and tenant an id belongs. All statements and labels are written to KV as one
//! value, which isolates read.
//!
//! The number of KV writes is limited, and a name is not urgent, because the isolate that learned
//! the name already uses it. So names are written at most every ten minutes, and wait while a
//! release is to be published.

use std::collections::BTreeMap;
use std::time::Duration;

use hedgerow_core::api;
use hedgerow_core::hash_purpose::HashPurpose;
use hedgerow_core::identity::mapping::{MAX_MAPPINGS, Mapping, Mappings, NamedAccount, label_of};
use serde::{Deserialize, Serialize};
use serde_json::json;
use worker::Request;

use super::release_publication::{is_scheduled, put_with_timeout};
use super::tables::Tables;
use super::{Caller, HandlerResult, Registry};
use crate::admin_api::error::ApiError;
use crate::platform::clock::{now_ms, now_seconds};
use crate::platform::hmac_sha256;
use crate::platform::kv::{ConfigKv, SignedValue};
use crate::platform::log;
use crate::platform::sql::integer;

/// Statements about accounts, from one source.
#[derive(Default, Serialize, Deserialize)]
pub struct NamesReport {
    /// The statements.
    pub names: Vec<NamedAccount>,
    /// Whether the policy has `labels`. If it does not, stored labels are deleted.
    pub labels: bool,
    /// Whether the operator made the statements through the API. Otherwise they are from answers of
    /// the origin, and quotas limit them.
    pub by_operator: bool,
}

/// Minimum seconds between two writes of the names to KV.
const PUBLISH_INTERVAL_SECONDS: u64 = 600;

/// Pause before the next attempt after a failed write, or while a release is to be published.
const RETRY_PAUSE: Duration = Duration::from_secs(60);

/// Milliseconds for which no names are written before the next attempt to write a release.
const RELEASE_MARGIN_MS: f64 = 5_000.0;

/// Maximum number of accounts that answers of the origin may assign to one tenant: a quarter of the
/// table `principal`.
const MAX_PER_TENANT: u64 = MAX_MAPPINGS as u64 / 4;

/// Maximum number of accounts to which answers of the origin may give the same name. Without this
/// limit, a customer with many credentials would replace the names of others.
const MAX_PER_NAME: u64 = 1_000;

/// Maximum number of statements in one report.
const MAX_STATEMENTS: usize = 2_000;

/// Minimum seconds between two deletions of expired statements.
const PRUNE_INTERVAL_SECONDS: u64 = 3_600;

/// Name in `meta` of the number of changes of the names and labels.
const META_CHANGED: &str = "names.changed";

/// Name in `meta` of the number of changes when the names were last published.
const META_PUBLISHED: &str = "names.published";

/// Name in `meta` of the number of the last publication.
const META_NUMBER: &str = "names.number";

/// Name in `meta` of the time of the last write to KV, in seconds since the epoch.
const META_WRITTEN: &str = "names.written";

/// Name in `meta` of the reason why the last publication failed.
const META_PROBLEM: &str = "names.problem";

/// A row of the table `principal`.
#[derive(Clone, PartialEq, Deserialize)]
struct PrincipalRow {
    id: String,
    account: Option<String>,
    tenant: Option<String>,
    /// Time of the last statement that changed the row, in seconds since the epoch.
    at: u64,
    /// Time at which the statement expires, in seconds since the epoch.
    expires: u64,
}

/// A row of the table `label`.
#[derive(Deserialize)]
pub(super) struct LabelRow {
    /// Id of an account or a tenant.
    pub id: String,
    pub text: String,
}

impl Registry {
    /// Handles `POST /names`: stores statements, and schedules their publication. Answers with the
    /// number of statements that were stored.
    pub(super) async fn receive_names(
        &self,
        request: &mut Request,
        caller: &Caller,
    ) -> HandlerResult {
        let report: NamesReport = request.json().await.map_err(|_| {
            ApiError::new(400, "invalid", "the names are malformed", "send a report of names")
        })?;
        self.prune_names()?;
        let (mut changes, mut stored) = (0_u64, 0_u64);
        if !report.labels {
            changes += self.tables()?.delete_labels()?;
        }
        for statement in report.names.iter().take(MAX_STATEMENTS) {
            if let Some(is_change) = self.store_name(statement, &report)? {
                stored += 1;
                changes += u64::from(is_change);
            }
        }
        if report.by_operator {
            let subject = format!("{} names", report.names.len());
            self.tables()?.audit(caller.for_audit(), "principals", &subject, "", "ok");
        }
        if changes > 0 {
            self.tables()?.limit_names()?;
            self.mark_names_changed().await?;
        }
        Ok((200, json!({ "stored": stored })))
    }

    /// Stores a statement with its labels. Returns whether the tables have changed; `None` if the
    /// quota of the minute is used up.
    fn store_name(
        &self,
        statement: &NamedAccount,
        report: &NamesReport,
    ) -> Result<Option<bool>, ApiError> {
        let tables = self.tables()?;
        let known = tables.principal(&statement.id)?;
        let is_new = known.is_none();
        if is_new && !report.by_operator {
            let owner = statement.tenant.as_ref().or(statement.account.as_ref());
            let owner = owner.map(String::as_str).unwrap_or_default();
            if !self.new_names.borrow_mut().take(owner, now_seconds() / 60) {
                return Ok(None);
            }
        }
        let mut is_change = false;
        if report.labels {
            let labels = [
                (&statement.account, &statement.account_label),
                (&statement.tenant, &statement.tenant_label),
            ];
            for (id, label) in labels {
                if let (Some(id), Some(label)) = (id, label.as_deref().and_then(label_of)) {
                    is_change |= tables.set_label(id, &label)?;
                }
            }
        }
        if let Some(row) = updated_row(known, statement, report.by_operator, now_seconds()) {
            tables.set_principal(&row)?;
            if !report.by_operator {
                tables.limit_name(&row)?;
            }
            is_change = true;
        }
        Ok(Some(is_change))
    }

    /// Handles `POST /labels`: returns the labels of accounts and tenants.
    pub(super) async fn labels(&self, request: &mut Request) -> HandlerResult {
        let query: api::LabelQuery = request.json().await.map_err(|_| {
            ApiError::new(400, "invalid", "the ids are malformed", "send {\"ids\": […]}")
        })?;
        let mut labels = BTreeMap::new();
        for id in query.ids.into_iter().take(MAX_STATEMENTS) {
            if let Some(label) = self.tables()?.label(&id)? {
                labels.insert(id, label);
            }
        }
        Ok((200, json!(api::Labels { labels })))
    }

    /// Records a change of the names, and sets the alarm, which publishes the names.
    async fn mark_names_changed(&self) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let changes = tables.meta_number(META_CHANGED).unwrap_or(0).saturating_add(1);
        tables.set_meta(META_CHANGED, Some(&changes.to_string()))?;
        if !is_scheduled(&self.names_publish_at) {
            self.schedule(&self.names_publish_at, Duration::ZERO).await;
        }
        Ok(())
    }

    /// Publishes the names if they have changed since the last publication, no release is to be
    /// published, and the last write was at least ten minutes ago. Otherwise, and after a failure,
    /// sets the alarm to try again.
    pub(super) async fn publish_names(&self) {
        let Ok(tables) = self.tables() else { return };
        let changes = tables.meta_number(META_CHANGED);
        if changes == tables.meta_number(META_PUBLISHED) {
            return;
        }
        if let Some(pause) = self.names_pause(tables) {
            self.schedule(&self.names_publish_at, pause).await;
            return;
        }
        let problem = self.publish_names_once(tables).await.err();
        if tables.meta(META_PROBLEM) != problem {
            if let Some(problem) = &problem {
                log::registry_event("names", Some(problem));
            }
            let _ = tables.set_meta(META_PROBLEM, problem.as_deref());
        }
        if problem.is_some() {
            self.schedule(&self.names_publish_at, RETRY_PAUSE).await;
        } else {
            let changes = changes.map(|changes| changes.to_string());
            let _ = tables.set_meta(META_PUBLISHED, changes.as_deref());
        }
    }

    /// Returns the time for which the publication must wait; `None` if it may begin.
    fn names_pause(&self, tables: &Tables) -> Option<Duration> {
        let now = now_ms();
        let is_release_due = self.publishing.borrow().is_held(now)
            || self.release_publish_at.get() <= now + RELEASE_MARGIN_MS;
        if is_release_due {
            return Some(RETRY_PAUSE);
        }
        // If the clock went back, publish at once: publications must not stop.
        let elapsed = now_seconds().checked_sub(tables.meta_number(META_WRITTEN)?)?;
        let pause = PUBLISH_INTERVAL_SECONDS.saturating_sub(elapsed);
        (pause > 0).then(|| Duration::from_secs(pause))
    }

    /// Signs the names with a key derived from ACCOUNT_SECRET, and writes them to KV. Returns the
    /// problem if that fails. A failed write also starts the pause, because it counts towards the
    /// platform's limit.
    async fn publish_names_once(&self, tables: &Tables) -> Result<(), String> {
        let to_message = |error: ApiError| error.message;
        let kv = ConfigKv::from_settings(&self.settings).ok_or("the binding RULES is missing")?;
        let secret = self.settings.account_secret.as_deref();
        let secret = secret.ok_or("ACCOUNT_SECRET is missing or too short")?;
        // The number is at least the time in milliseconds, so that it still rises if the object's
        // tables are lost.
        let last = tables.meta_number(META_NUMBER).unwrap_or(0);
        let number = last.saturating_add(1).max(now_ms() as u64);
        let mappings = tables.mappings(now_seconds()).map_err(to_message)?;
        tables.set_meta(META_NUMBER, Some(&number.to_string())).map_err(to_message)?;
        let written = now_seconds().to_string();
        tables.set_meta(META_WRITTEN, Some(&written)).map_err(to_message)?;
        let signed = sign(number, mappings, secret).ok_or("the names cannot be signed")?;
        put_with_timeout(kv.put_names(&signed)).await
    }

    /// Returns the member `principals` of the status.
    pub(super) fn names_status(&self) -> Result<api::PrincipalsStatus, ApiError> {
        let tables = self.tables()?;
        Ok(api::PrincipalsStatus {
            count: tables.count_rows("principal")?,
            max: MAX_MAPPINGS as u64,
            labels: tables.count_rows("label")?,
            pending: tables.meta_number(META_CHANGED) != tables.meta_number(META_PUBLISHED),
            problem: tables.meta(META_PROBLEM),
        })
    }

    /// Deletes expired statements, at most once an hour.
    fn prune_names(&self) -> Result<(), ApiError> {
        let now = now_seconds();
        if now >= self.names_pruned_at.get().saturating_add(PRUNE_INTERVAL_SECONDS) {
            self.names_pruned_at.set(now);
            self.tables()?.prune_names(now)?;
        }
        Ok(())
    }
}

/// Returns the row `known`, updated by a statement. Members that the statement lacks keep their
/// values. If `known` is missing or has expired, the row contains only the statement.
///
/// Returns `None` if only the expiry changes, by at most half of the remaining time, so that
/// repeated statements cause no writes. A statement of the origin that does not contradict `known`
/// does not shorten the expiry.
fn updated_row(
    known: Option<PrincipalRow>,
    statement: &NamedAccount,
    by_operator: bool,
    now: u64,
) -> Option<PrincipalRow> {
    let known = known.filter(|known| now < known.expires);
    let Some(known) = known else {
        let NamedAccount { id, account, tenant, expires, .. } = statement.clone();
        return Some(PrincipalRow { id, account, tenant, at: now, expires });
    };
    let account = statement.account.clone().or_else(|| known.account.clone());
    let tenant = statement.tenant.clone().or_else(|| known.tenant.clone());
    let contradicts =
        |known: &Option<String>, new: &Option<String>| known.is_some() && known != new;
    let is_contradiction =
        contradicts(&known.account, &account) || contradicts(&known.tenant, &tenant);
    // A statement of the origin that only adds a member must not shorten the operator's statement.
    let expires = if by_operator || is_contradiction {
        statement.expires
    } else {
        statement.expires.max(known.expires)
    };
    let is_same = known.account == account && known.tenant == tenant;
    let is_near = known.expires.abs_diff(expires).saturating_mul(2) <= known.expires - now;
    let row = PrincipalRow { id: statement.id.clone(), account, tenant, at: now, expires };
    (!is_same || !is_near).then_some(row)
}

/// Encodes names for KV. `number` is the number of the publication. The signature is an HMAC-SHA256
/// in hex. Returns `None` if the signature cannot be computed.
fn sign(number: u64, mappings: Mappings, secret: &str) -> Option<SignedValue> {
    let bytes = mappings.encode(number);
    let key = hmac_sha256::derive_key(secret, HashPurpose::NamesKey)?;
    let signature = hmac_sha256::hmac_hex_of_single_purpose_key(&key, &bytes)?;
    Some(SignedValue { bytes, signature })
}

impl Tables {
    fn principal(&self, id: &str) -> Result<Option<PrincipalRow>, ApiError> {
        let query = "SELECT id, account, tenant, at, expires FROM principal WHERE id = ?";
        self.row(query, vec![id.into()])
    }

    fn set_principal(&self, row: &PrincipalRow) -> Result<(), ApiError> {
        let query = "INSERT OR REPLACE INTO principal (id, account, tenant, at, expires)
            VALUES (?, ?, ?, ?, ?)";
        let PrincipalRow { id, account, tenant, at, expires } = row.clone();
        let values = vec![id.into(), account.into(), tenant.into(), integer(at), integer(expires)];
        self.exec(query, values)
    }

    /// Deletes rows if more than [`MAX_PER_NAME`] rows have the name of `row`, or more than
    /// [`MAX_PER_TENANT`] rows have its tenant. The rows that expire first are deleted: the
    /// operator's statements usually last longer, and stay.
    fn limit_name(&self, row: &PrincipalRow) -> Result<(), ApiError> {
        let limits =
            [("account", &row.account, MAX_PER_NAME), ("tenant", &row.tenant, MAX_PER_TENANT)];
        for (column, name, max) in limits {
            let Some(name) = name else { continue };
            let query = format!(
                "DELETE FROM principal WHERE id IN (SELECT id FROM principal WHERE {column} = ?1
                    ORDER BY expires DESC, at DESC, rowid DESC LIMIT -1 OFFSET ?2)"
            );
            self.exec(&query, vec![name.as_str().into(), integer(max)])?;
        }
        Ok(())
    }

    /// Deletes rows of `principal` and of `label` if a table has more than [`MAX_MAPPINGS`] rows.
    /// The names that expire first are deleted, so that the origin's names do not replace the
    /// operator's names. Of the labels, the oldest are deleted.
    fn limit_names(&self) -> Result<(), ApiError> {
        for (table, order) in [("principal", "expires DESC, at DESC"), ("label", "at DESC")] {
            let query = format!(
                "DELETE FROM {table} WHERE id IN
                    (SELECT id FROM {table} ORDER BY {order}, rowid DESC LIMIT -1 OFFSET ?)"
            );
            self.exec(&query, vec![integer(MAX_MAPPINGS as u64)])?;
        }
        Ok(())
    }

    /// Deletes expired statements, and labels to which no statement refers.
    fn prune_names(&self, now: u64) -> Result<(), ApiError> {
        self.exec("DELETE FROM principal WHERE expires <= ?", vec![integer(now)])?;
        let query = "DELETE FROM label WHERE id NOT IN
            (SELECT account FROM principal WHERE account IS NOT NULL
            UNION SELECT tenant FROM principal WHERE tenant IS NOT NULL
            UNION SELECT id FROM principal)";
        self.exec(query, Vec::new())
    }

    /// Returns the names and labels to publish, without names that have expired at `now`, which is
    /// in seconds since the epoch.
    fn mappings(&self, now: u64) -> Result<Mappings, ApiError> {
        let mut mappings = Mappings::default();
        let query = "SELECT id, account, tenant, at, expires FROM principal WHERE expires > ?
            ORDER BY at DESC";
        for row in self.rows::<PrincipalRow>(query, vec![integer(now)])? {
            let PrincipalRow { id, account, tenant, expires, .. } = row;
            mappings.insert(id, Mapping { account, tenant, expires });
        }
        for LabelRow { id, text } in self.all_labels()? {
            mappings.insert_label(id, text);
        }
        Ok(mappings)
    }

    /// Returns all labels with their ids.
    pub(super) fn all_labels(&self) -> Result<Vec<LabelRow>, ApiError> {
        self.rows("SELECT id, text FROM label ORDER BY at DESC", Vec::new())
    }

    fn label(&self, id: &str) -> Result<Option<String>, ApiError> {
        #[derive(Deserialize)]
        struct Row {
            text: String,
        }
        let row = self.row::<Row>("SELECT text FROM label WHERE id = ?", vec![id.into()])?;
        Ok(row.map(|row| row.text))
    }

    /// Stores a label. Returns whether the id had no label before, or another one.
    fn set_label(&self, id: &str, text: &str) -> Result<bool, ApiError> {
        if self.label(id)?.as_deref() == Some(text) {
            return Ok(false);
        }
        let query = "INSERT OR REPLACE INTO label (id, text, at) VALUES (?, ?, ?)";
        self.exec(query, vec![id.into(), text.into(), integer(now_seconds())])?;
        Ok(true)
    }

    /// Deletes all labels. Returns their number.
    fn delete_labels(&self) -> Result<u64, ApiError> {
        let count = self.count_rows("label")?;
        if count > 0 {
            self.exec("DELETE FROM label", Vec::new())?;
        }
        Ok(count)
    }

    fn count_rows(&self, table: &str) -> Result<u64, ApiError> {
        #[derive(Deserialize)]
        struct Row {
            count: u64,
        }
        let row = self.row::<Row>(&format!("SELECT COUNT(*) AS count FROM {table}"), Vec::new())?;
        Ok(row.map_or(0, |row| row.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(account: Option<&str>, tenant: Option<&str>, expires: u64) -> PrincipalRow {
        let [account, tenant] = [account, tenant].map(|name| name.map(str::to_owned));
        PrincipalRow { id: "id".to_owned(), account, tenant, at: 50, expires }
    }

    #[test]
    fn statements_complete_each_other_and_repetitions_change_nothing() {
        let statement = |account: Option<&str>, tenant: Option<&str>, expires| NamedAccount {
            id: "id".to_owned(),
            account: account.map(str::to_owned),
            tenant: tenant.map(str::to_owned),
            expires,
            ..NamedAccount::default()
        };
        let now = 100;
        let both = || Some(row(Some("a"), Some("t"), 1_100));
        let rows = [
            ("new", None, statement(Some("a"), None, 1_100), Some((Some("a"), None))),
            (
                "completed",
                Some(row(Some("a"), None, 1_100)),
                statement(None, Some("t"), 1_100),
                Some((Some("a"), Some("t"))),
            ),
            ("repeated", both(), statement(Some("a"), Some("t"), 1_100), None),
            ("in part", both(), statement(Some("a"), None, 1_200), None),
            ("renewed", both(), statement(Some("a"), None, 9_000), Some((Some("a"), Some("t")))),
            ("not shortened", both(), statement(Some("a"), None, 200), None),
            ("moved", both(), statement(None, Some("u"), 1_100), Some((Some("a"), Some("u")))),
            (
                "ended",
                Some(row(Some("a"), Some("t"), 100)),
                statement(None, Some("u"), 1_100),
                Some((None, Some("u"))),
            ),
        ];
        for (name, known, statement, expected) in rows {
            let updated = updated_row(known, &statement, false, now);
            let names = updated.as_ref().map(|row| (row.account.as_deref(), row.tenant.as_deref()));
            assert_eq!(names, expected, "{name}");
        }
        let known = Some(row(None, Some("t"), 9_000));
        let completed = updated_row(known, &statement(Some("a"), None, 1_100), false, now);
        assert_eq!(completed.map(|row| row.expires), Some(9_000), "an answer does not shorten it");
        let shortened = updated_row(both(), &statement(Some("a"), None, 200), true, now);
        assert_eq!(shortened.map(|row| row.expires), Some(200), "the operator shortens it");
    }

    #[test]
    fn the_signature_covers_every_input() {
        let signed = sign(5, Mappings::default(), "secret").unwrap();
        let mut other = Mappings::default();
        other.insert_label("id".to_owned(), "acme".to_owned());
        let others = [
            sign(6, Mappings::default(), "secret"),
            sign(5, other, "secret"),
            sign(5, Mappings::default(), "another"),
        ];
        for other in others.into_iter().flatten() {
            assert_ne!(other.signature, signed.signature);
        }
    }
}
