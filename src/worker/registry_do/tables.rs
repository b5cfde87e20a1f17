//! The registry's tables in SQLite. This file reads and writes bundles, releases, the audit log and
//! `meta`. `indicators.rs`, `clusters.rs` and `principals.rs` read and write indicators, clusters
//! and names. The head comment of `registry_do.rs` describes all tables.

use hedgerow_core::api::{AuditEntry, BundleInfo, ReleaseInfo};
use hedgerow_core::ruleset::{Release, content_digest};
use serde::Deserialize;
use worker::{SqlStorage, SqlStorageValue, State};

use super::error::internal_error;
use crate::admin_api::error::ApiError;
use crate::platform::clock::now_seconds;
use crate::platform::log;
use crate::platform::sql::integer;

/// The tables of the registry, in the SQL storage of its Durable Object.
pub struct Tables {
    pub(super) sql: SqlStorage,
}

/// A release as its publisher signed it.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredRelease {
    /// Serial, higher than the serial of any earlier release.
    pub serial: u64,
    /// Name of a [`ReleaseKind`](super::signed::ReleaseKind).
    kind: String,
    /// Time at which the release was written to KV, in seconds since the epoch; `None` if KV does
    /// not have the release.
    pub published: Option<u64>,
    /// The text of the manifest, as it was signed.
    pub text: String,
    /// The minisign signature of `text`.
    pub signature: String,
    /// The public key that verified the signature, in base64.
    key: String,
}

/// Maximum bytes of a bundle's text in one row. A row of a Durable Object's SQLite has at most two
/// megabytes.
const PART_BYTES: usize = 1 << 20;

/// Maximum number of entries of the audit log, without failed authentications.
const MAX_AUDIT_ENTRIES: u64 = 20_000;

/// Maximum number of entries of failed authentications. They have a separate limit because anybody
/// can cause them.
const MAX_AUTH_ATTEMPTS: u64 = 1_000;

/// The action of a failed authentication in the audit log.
pub const AUTH_ATTEMPT: &str = "auth";

/// Number of the last uploaded bundles that are kept in addition to the bundles of the last
/// [`RELEASES_WITH_BUNDLES`] releases.
const MAX_SPARE_BUNDLES: u64 = 20;

/// Number of releases whose bundles are kept.
const RELEASES_WITH_BUNDLES: u64 = 50;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS bundle (
    digest TEXT PRIMARY KEY, serial INTEGER NOT NULL, created INTEGER NOT NULL,
    bytes INTEGER NOT NULL, signatures INTEGER NOT NULL, lists INTEGER NOT NULL,
    uploaded INTEGER NOT NULL, signature TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bundle_part (
    digest TEXT NOT NULL, part INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (digest, part));
CREATE TABLE IF NOT EXISTS bundle_content (digest TEXT PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stale_bundle (digest TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS release (
    serial INTEGER PRIMARY KEY, kind TEXT NOT NULL, stored INTEGER NOT NULL, published INTEGER,
    active TEXT NOT NULL, text TEXT NOT NULL, signature TEXT NOT NULL, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, actor TEXT NOT NULL,
    action TEXT NOT NULL, subject TEXT NOT NULL, author TEXT NOT NULL, client TEXT,
    result TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS audit_action ON audit (action, id);
CREATE TABLE IF NOT EXISTS indicator (
    key TEXT NOT NULL, correlation TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    expires INTEGER NOT NULL, times INTEGER NOT NULL, measured REAL NOT NULL,
    threshold TEXT NOT NULL, accounts INTEGER NOT NULL, revoked_at INTEGER, reason TEXT,
    revoked_until INTEGER, members TEXT, account TEXT, tenant TEXT, network TEXT,
    PRIMARY KEY (key, correlation));
CREATE TABLE IF NOT EXISTS link (
    id INTEGER PRIMARY KEY AUTOINCREMENT, correlation TEXT NOT NULL, key TEXT NOT NULL,
    at INTEGER NOT NULL, last INTEGER NOT NULL, accounts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS link_key ON link (key, correlation);
CREATE TABLE IF NOT EXISTS cluster_key (
    key TEXT PRIMARY KEY, cluster TEXT NOT NULL, first TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS cluster_key_cluster ON cluster_key (cluster);
CREATE TABLE IF NOT EXISTS cluster_alias (id TEXT PRIMARY KEY, cluster TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS cluster_alias_cluster ON cluster_alias (cluster);
CREATE TABLE IF NOT EXISTS split_off_accounts (account TEXT PRIMARY KEY, until INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS principal (
    id TEXT PRIMARY KEY, account TEXT, tenant TEXT, at INTEGER NOT NULL, expires INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS principal_at ON principal (at);
CREATE INDEX IF NOT EXISTS principal_name ON principal (account, tenant, at);
CREATE INDEX IF NOT EXISTS principal_tenant ON principal (tenant, expires);
CREATE TABLE IF NOT EXISTS label (id TEXT PRIMARY KEY, text TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS label_at ON label (at);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
";

impl StoredRelease {
    /// Makes a release that KV does not have yet.
    pub fn new(serial: u64, kind: &str, text: String, signature: String, key: String) -> Self {
        Self { serial, kind: kind.to_owned(), published: None, text, signature, key }
    }

    /// Returns the parsed manifest. `None` means that the stored text is damaged, because the text
    /// was verified before it was stored.
    pub fn manifest(&self) -> Option<Release> {
        Release::parse(self.text.as_bytes()).ok()
    }

    /// Returns the release in the form of the API, with the content digests of its bundles.
    pub fn into_api(self, tables: &Tables) -> ReleaseInfo {
        let release = self.manifest();
        let stored = |digest| tables.bundle(digest).ok().flatten();
        let bundles = release.iter().flat_map(Release::digests).filter_map(stored);
        let contents = bundles.map(|bundle| (bundle.digest, bundle.content)).collect();
        let Self { serial, kind, published, text, signature, key } = self;
        ReleaseInfo { serial, kind, published, release, contents, text, signature, key }
    }
}

type Result<T> = std::result::Result<T, ApiError>;

impl Tables {
    /// Opens the tables, and creates missing tables and content digests.
    pub fn open(state: &State) -> worker::Result<Self> {
        let sql = state.storage().sql();
        sql.exec(SCHEMA, None)?;
        let tables = Self { sql };
        // An error is logged. The digests are then missing, but everything else works.
        let _ = tables.add_contents();
        Ok(tables)
    }

    /// Stores the content digests of bundles that a version without content digests has stored.
    fn add_contents(&self) -> Result<()> {
        for BundleInfo { digest, content, .. } in self.bundles()? {
            if content.is_empty()
                && let Some((text, _)) = self.bundle_text(&digest)?
            {
                self.set_content(&digest, &content_digest(text.as_bytes()))?;
            }
        }
        Ok(())
    }

    fn set_content(&self, digest: &str, content: &str) -> Result<()> {
        let query = "INSERT OR REPLACE INTO bundle_content (digest, content) VALUES (?, ?)";
        self.exec(query, vec![digest.into(), content.into()])
    }

    /// Executes a statement. Logs an error, and returns `unavailable`.
    pub(super) fn exec(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<()> {
        self.sql.exec(query, values).map(drop).map_err(internal_error)
    }

    /// Returns all rows of a query. Logs an error, and returns `unavailable`.
    pub(super) fn rows<T: for<'de> Deserialize<'de>>(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> Result<Vec<T>> {
        self.sql.exec(query, values).and_then(|cursor| cursor.to_array()).map_err(internal_error)
    }

    /// Returns the first row of a query; `None` if the query has no rows.
    pub(super) fn row<T: for<'de> Deserialize<'de>>(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> Result<Option<T>> {
        Ok(self.rows(query, values)?.into_iter().next())
    }

    /// Returns all bundles, the last uploaded first.
    pub fn bundles(&self) -> Result<Vec<BundleInfo>> {
        let query = format!(
            "SELECT {BUNDLE_COLUMNS} FROM bundle ORDER BY uploaded DESC, serial DESC, rowid DESC"
        );
        self.rows(&query, Vec::new())
    }

    /// Returns a bundle without its text; `None` if the bundle is not stored.
    pub fn bundle(&self, digest: &str) -> Result<Option<BundleInfo>> {
        self.row(
            &format!("SELECT {BUNDLE_COLUMNS} FROM bundle WHERE digest = ?"),
            vec![digest.into()],
        )
    }

    /// Returns the text and signature of a bundle; `None` if the bundle is not stored.
    pub fn bundle_text(&self, digest: &str) -> Result<Option<(String, String)>> {
        #[derive(Deserialize)]
        struct Row {
            signature: String,
        }
        #[derive(Deserialize)]
        struct BundlePart {
            text: String,
        }
        let query = "SELECT signature FROM bundle WHERE digest = ?";
        let Some(Row { signature }) = self.row(query, vec![digest.into()])? else {
            return Ok(None);
        };
        let query = "SELECT text FROM bundle_part WHERE digest = ? ORDER BY part";
        let parts: Vec<BundlePart> = self.rows(query, vec![digest.into()])?;
        Ok(Some((parts.into_iter().map(|part| part.text).collect(), signature)))
    }

    /// Stores a bundle, and deletes surplus bundles.
    pub fn insert_bundle(&self, bundle: &BundleInfo, text: &str, signature: &str) -> Result<()> {
        // If the bundle was deleted before, it must not be deleted from KV any more.
        self.exec(
            "DELETE FROM stale_bundle WHERE digest = ?",
            vec![bundle.digest.as_str().into()],
        )?;
        for (number, part) in split_into_parts(text).into_iter().enumerate() {
            let query = "INSERT OR REPLACE INTO bundle_part (digest, part, text) VALUES (?, ?, ?)";
            let values = vec![bundle.digest.as_str().into(), integer(number as u64), part.into()];
            self.exec(query, values)?;
        }
        let BundleInfo { digest, content, serial, created, bytes, signatures, lists, uploaded } =
            bundle;
        self.set_content(digest, content)?;
        let mut values = vec![SqlStorageValue::from(digest.as_str())];
        values.extend(
            [serial, created, bytes, signatures, lists, uploaded].map(|number| integer(*number)),
        );
        values.push(signature.into());
        let query = "INSERT INTO bundle (digest, serial, created, bytes, signatures, lists,
            uploaded, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        self.exec(query, values)?;
        self.prune_bundles()
    }

    /// Deletes bundles that are neither among the last uploads nor in a recent release.
    fn prune_bundles(&self) -> Result<()> {
        let stale = "SELECT digest FROM bundle WHERE digest NOT IN
                (SELECT digest FROM bundle ORDER BY uploaded DESC, rowid DESC LIMIT ?)
            AND NOT EXISTS (SELECT 1
                FROM (SELECT text FROM release ORDER BY serial DESC LIMIT ?) AS recent
                WHERE instr(recent.text, bundle.digest) > 0)";
        let values = || vec![integer(MAX_SPARE_BUNDLES), integer(RELEASES_WITH_BUNDLES)];
        self.exec(&format!("INSERT OR IGNORE INTO stale_bundle (digest) {stale}"), values())?;
        let is_stale = "digest IN (SELECT digest FROM stale_bundle)";
        for table in ["bundle_part", "bundle_content", "bundle"] {
            self.exec(&format!("DELETE FROM {table} WHERE {is_stale}"), Vec::new())?;
        }
        Ok(())
    }

    /// Removes and returns the digests of bundles that were deleted from the tables, but not from
    /// KV.
    pub fn take_stale_bundles(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Row {
            digest: String,
        }
        let rows: Vec<Row> = self.rows("SELECT digest FROM stale_bundle", Vec::new())?;
        self.exec("DELETE FROM stale_bundle", Vec::new())?;
        Ok(rows.into_iter().map(|row| row.digest).collect())
    }

    /// Returns the release with the highest serial; `None` if no release is stored.
    pub fn newest_release(&self) -> Result<Option<StoredRelease>> {
        Ok(self.releases(1)?.into_iter().next())
    }

    /// Returns at most `limit` releases, the highest serial first.
    pub fn releases(&self, limit: u64) -> Result<Vec<StoredRelease>> {
        let query = "SELECT serial, kind, published, text, signature, key FROM release
            ORDER BY serial DESC LIMIT ?";
        self.rows(query, vec![integer(limit)])
    }

    /// Returns whether a bundle was active in any release.
    pub fn was_active(&self, digest: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "SELECT serial FROM release WHERE active = ? LIMIT 1";
        Ok(self.row::<Row>(query, vec![digest.into()])?.is_some())
    }

    /// Records that KV no longer has a release.
    pub fn unpublish(&self, serial: u64) -> Result<()> {
        self.exec("UPDATE release SET published = NULL WHERE serial = ?", vec![integer(serial)])
    }

    /// Stores a release, which KV does not have yet.
    pub fn insert_release(&self, release: &StoredRelease) -> Result<()> {
        let active = release.manifest().map(|manifest| manifest.active).unwrap_or_default();
        let StoredRelease { serial, kind, text, signature, key, .. } = release;
        let mut values =
            vec![integer(*serial), kind.as_str().into(), integer(now_seconds()), active.into()];
        values.extend([text, signature, key].map(|text| text.as_str().into()));
        let query = "INSERT INTO release (serial, kind, stored, active, text, signature, key)
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        self.exec(query, values)
    }

    /// Returns the highest serial of the releases that KV has had; `None` if no release was
    /// written.
    pub fn published_serial(&self) -> Result<Option<u64>> {
        #[derive(Deserialize)]
        struct Row {
            serial: Option<u64>,
        }
        let query = "SELECT MAX(serial) AS serial FROM release WHERE published IS NOT NULL";
        Ok(self.row::<Row>(query, Vec::new())?.and_then(|row| row.serial))
    }

    /// Returns whether a release was written to KV.
    pub fn is_published(&self, serial: u64) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "SELECT serial FROM release WHERE serial = ? AND published IS NOT NULL";
        Ok(self.row::<Row>(query, vec![integer(serial)])?.is_some())
    }

    /// Records that KV has a release.
    pub fn set_published(&self, serial: u64) -> Result<()> {
        let values = vec![integer(now_seconds()), integer(serial)];
        self.exec("UPDATE release SET published = ? WHERE serial = ?", values)
    }

    /// Adds an entry to the audit log. `actor` is the scope of a token or a part of the Worker.
    /// `client` is a keyed hash of the client's address. An error is logged, but not returned.
    pub fn audit(
        &self,
        (actor, client): (&str, Option<&str>),
        action: &str,
        subject: &str,
        author: &str,
        result: &str,
    ) {
        let mut values = vec![integer(now_seconds())];
        values.extend([actor, action, subject, author].map(SqlStorageValue::from));
        values.push(client.map(str::to_owned).into());
        values.push(result.into());
        let query = "INSERT INTO audit (at, actor, action, subject, author, client, result)
            VALUES (?, ?, ?, ?, ?, ?, ?)";
        // Anybody can cause failed authentications. They must not displace other entries.
        let (filter, max_entries) = if action == AUTH_ATTEMPT {
            ("action = 'auth'", MAX_AUTH_ATTEMPTS)
        } else {
            ("action <> 'auth'", MAX_AUDIT_ENTRIES)
        };
        let prune_query = format!(
            "DELETE FROM audit WHERE {filter} AND id <= (
                SELECT id FROM audit WHERE {filter} ORDER BY id DESC LIMIT 1 OFFSET ?)"
        );
        let outcome = self
            .exec(query, values)
            .and_then(|()| self.exec(&prune_query, vec![integer(max_entries)]));
        if outcome.is_err() {
            log::registry_event("audit", Some("an entry could not be written"));
        }
    }

    /// Returns at most `limit` entries of the audit log, newest first. If `before` is set, the
    /// entries have ids below `before`.
    pub fn audit_entries(&self, limit: u64, before: Option<u64>) -> Result<Vec<AuditEntry>> {
        let query = "SELECT id, at, actor, action, subject, author, client, result FROM audit
            WHERE id < ? ORDER BY id DESC LIMIT ?";
        self.rows(query, vec![integer(before.unwrap_or(u64::MAX)), integer(limit)])
    }

    /// Returns a value of the table `meta`; `None` if it is missing or cannot be read.
    pub fn meta(&self, name: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Row {
            value: String,
        }
        let row = self.row::<Row>("SELECT value FROM meta WHERE name = ?", vec![name.into()]);
        row.ok().flatten().map(|row| row.value)
    }

    /// Returns a number in the table `meta`; `None` if the value is missing or not an integer.
    pub fn meta_number(&self, name: &str) -> Option<u64> {
        self.meta(name)?.parse().ok()
    }

    /// Sets a value of the table `meta`, or deletes it if `value` is `None`.
    pub fn set_meta(&self, name: &str, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => {
                let query = "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)";
                self.exec(query, vec![name.into(), value.into()])
            }
            None => self.exec("DELETE FROM meta WHERE name = ?", vec![name.into()]),
        }
    }
}

/// The columns of a [`BundleInfo`].
const BUNDLE_COLUMNS: &str = "digest, serial, created, bytes, signatures, lists, uploaded,
    ifnull((SELECT content FROM bundle_content WHERE digest = bundle.digest), '') AS content";

/// Splits a text into parts of at most [`PART_BYTES`], at character boundaries.
fn split_into_parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut remaining = text;
    while !remaining.is_empty() {
        let mut end = remaining.len().min(PART_BYTES);
        while !remaining.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let (part, tail) = remaining.split_at(end);
        parts.push(part);
        remaining = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_concatenate_to_the_text() {
        let text = "añ€😀".repeat(300_000);
        let parts = split_into_parts(&text);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|part| part.len() <= PART_BYTES));
        assert_eq!(parts.concat(), text);
        assert!(super::split_into_parts("").is_empty());
    }
}
