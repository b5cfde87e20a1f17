//! What the registry keeps, in SQLite.

use hedgerow_core::ruleset::{Bundle, Release};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use worker::{SqlStorage, SqlStorageValue, State};

use super::error::internal_error;
use crate::admin_api::ApiError;
use crate::platform::clock::now_seconds;
use crate::platform::log;
use crate::platform::sql::integer;

/// The tables.
pub struct Tables {
    pub(super) sql: SqlStorage,
}

/// What is known of a bundle, beside its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredBundle {
    digest: String,
    serial: u64,
    created: u64,
    bytes: u64,
    signatures: u64,
    lists: u64,
    uploaded: u64,
}

/// A release as it was sent.
#[derive(Clone, Debug, Deserialize)]
pub struct StoredRelease {
    pub serial: u64,
    kind: String,
    /// When KV had it, in seconds since the epoch.
    pub published: Option<u64>,
    pub text: String,
    pub signature: String,
    key: String,
}

/// Who did what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditEntry {
    id: u64,
    at: u64,
    who: String,
    what: String,
    subject: String,
    author: String,
    from: Option<String>,
    result: String,
}

/// Bytes of a bundle's text in one row: SQLite's rows have at most two megabytes here.
const PART_BYTES: usize = 1 << 20;

/// Entries of the audit log that are kept; and of failed attempts, which anybody can make.
const MAX_AUDIT_ENTRIES: u64 = 20_000;
const MAX_AUTH_ATTEMPTS: u64 = 1_000;

/// What a failed attempt is called there.
pub const AUTH_ATTEMPT: &str = "auth";

/// Bundles that are kept beside those of the last [`RELEASES`] releases.
const MAX_SPARE_BUNDLES: u64 = 20;

/// Releases whose bundles are kept.
const RELEASES_WITH_BUNDLES: u64 = 50;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS bundle (digest TEXT PRIMARY KEY, serial INTEGER NOT NULL, created INTEGER NOT NULL,
    bytes INTEGER NOT NULL, signatures INTEGER NOT NULL, lists INTEGER NOT NULL, uploaded INTEGER NOT NULL, signature TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS bundle_part (digest TEXT NOT NULL, part INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (digest, part));
CREATE TABLE IF NOT EXISTS forgotten (digest TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS release (serial INTEGER PRIMARY KEY, kind TEXT NOT NULL, stored INTEGER NOT NULL, published INTEGER,
    active TEXT NOT NULL, text TEXT NOT NULL, signature TEXT NOT NULL, key TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
    subject TEXT NOT NULL, author TEXT NOT NULL, sender TEXT, result TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS audit_what ON audit (what, id);
CREATE TABLE IF NOT EXISTS indicator (key TEXT NOT NULL, correlation TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    expires INTEGER NOT NULL, times INTEGER NOT NULL, measured REAL NOT NULL, threshold TEXT NOT NULL, accounts INTEGER NOT NULL,
    revoked INTEGER, reason TEXT, until INTEGER, PRIMARY KEY (key, correlation));
CREATE TABLE IF NOT EXISTS link (id INTEGER PRIMARY KEY AUTOINCREMENT, correlation TEXT NOT NULL, key TEXT NOT NULL,
    at INTEGER NOT NULL, last INTEGER NOT NULL, accounts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS link_key ON link (key, correlation);
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
";

impl StoredBundle {
    /// What is known of a bundle.
    pub fn new(digest: &str, bytes: usize, bundle: &Bundle, uploaded: u64) -> Self {
        Self {
            digest: digest.to_owned(),
            serial: bundle.serial,
            created: bundle.created,
            bytes: bytes as u64,
            signatures: bundle.signatures.len() as u64,
            lists: bundle.lists.len() as u64,
            uploaded,
        }
    }
}

impl StoredRelease {
    /// A release that KV does not have yet.
    pub fn new(serial: u64, kind: &str, text: String, signature: String, key: String) -> Self {
        Self { serial, kind: kind.to_owned(), published: None, text, signature, key }
    }

    /// The manifest. It was verified before it was stored.
    pub fn manifest(&self) -> Option<Release> {
        Release::parse(self.text.as_bytes()).ok()
    }

    /// As the API shows it.
    pub fn to_json(&self) -> Value {
        let Self { serial, kind, published, text, signature, key } = self;
        json!({
            "serial": serial, "kind": kind, "published": published, "release": self.manifest(),
            "text": text, "signature": signature, "key": key,
        })
    }
}

type Result<T> = std::result::Result<T, ApiError>;

impl Tables {
    /// Opens them; makes those that are missing.
    pub fn open(state: &State) -> worker::Result<Self> {
        let sql = state.storage().sql();
        sql.exec(SCHEMA, None).or_else(|_| {
            // An earlier version made the table of indicators for something else, and never used it.
            sql.exec("DROP TABLE indicator", None)?;
            sql.exec(SCHEMA, None)
        })?;
        if sql.exec("SELECT until FROM indicator LIMIT 0", None).is_err() {
            sql.exec("ALTER TABLE indicator ADD COLUMN until INTEGER", None)?;
        }
        Ok(Self { sql })
    }

    pub(super) fn exec(&self, query: &str, values: Vec<SqlStorageValue>) -> Result<()> {
        self.sql.exec(query, values).map(drop).map_err(internal_error)
    }

    pub(super) fn rows<T: for<'de> Deserialize<'de>>(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> Result<Vec<T>> {
        self.sql.exec(query, values).and_then(|cursor| cursor.to_array()).map_err(internal_error)
    }

    pub(super) fn row<T: for<'de> Deserialize<'de>>(
        &self,
        query: &str,
        values: Vec<SqlStorageValue>,
    ) -> Result<Option<T>> {
        Ok(self.rows(query, values)?.into_iter().next())
    }

    /// The bundles, those uploaded last first.
    pub fn bundles(&self) -> Result<Vec<StoredBundle>> {
        let query = format!(
            "SELECT {BUNDLE_COLUMNS} FROM bundle ORDER BY uploaded DESC, serial DESC, rowid DESC"
        );
        self.rows(&query, Vec::new())
    }

    /// What is known of a bundle.
    pub fn bundle(&self, digest: &str) -> Result<Option<StoredBundle>> {
        self.row(
            &format!("SELECT {BUNDLE_COLUMNS} FROM bundle WHERE digest = ?"),
            vec![digest.into()],
        )
    }

    /// A bundle's text and signature.
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

    /// Stores a bundle, and forgets those that nobody needs.
    pub fn insert_bundle(&self, bundle: &StoredBundle, text: &str, signature: &str) -> Result<()> {
        // Should it come back, it is to stay in KV.
        self.exec("DELETE FROM forgotten WHERE digest = ?", vec![bundle.digest.as_str().into()])?;
        for (number, part) in split_into_parts(text).into_iter().enumerate() {
            let query = "INSERT OR REPLACE INTO bundle_part (digest, part, text) VALUES (?, ?, ?)";
            let values = vec![bundle.digest.as_str().into(), integer(number as u64), part.into()];
            self.exec(query, values)?;
        }
        let StoredBundle { digest, serial, created, bytes, signatures, lists, uploaded } = bundle;
        let mut values = vec![SqlStorageValue::from(digest.as_str())];
        values.extend(
            [serial, created, bytes, signatures, lists, uploaded].map(|number| integer(*number)),
        );
        values.push(signature.into());
        let query = format!(
            "INSERT INTO bundle ({BUNDLE_COLUMNS}, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        );
        self.exec(&query, values)?;
        self.prune_bundles()
    }

    /// Forgets bundles that are neither among the last uploaded nor in a recent release.
    fn prune_bundles(&self) -> Result<()> {
        let stale = "SELECT digest FROM bundle WHERE digest NOT IN
                (SELECT digest FROM bundle ORDER BY uploaded DESC, rowid DESC LIMIT ?)
            AND NOT EXISTS (SELECT 1 FROM (SELECT text FROM release ORDER BY serial DESC LIMIT ?) AS recent
                WHERE instr(recent.text, bundle.digest) > 0)";
        let values = || vec![integer(MAX_SPARE_BUNDLES), integer(RELEASES_WITH_BUNDLES)];
        self.exec(&format!("INSERT OR IGNORE INTO forgotten (digest) {stale}"), values())?;
        let is_stale = "digest IN (SELECT digest FROM forgotten)";
        self.exec(&format!("DELETE FROM bundle_part WHERE {is_stale}"), Vec::new())?;
        self.exec(&format!("DELETE FROM bundle WHERE {is_stale}"), Vec::new())
    }

    /// The digests of bundles that were forgotten since this was asked last.
    pub fn take_stale_bundles(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Row {
            digest: String,
        }
        let rows: Vec<Row> = self.rows("SELECT digest FROM forgotten", Vec::new())?;
        self.exec("DELETE FROM forgotten", Vec::new())?;
        Ok(rows.into_iter().map(|row| row.digest).collect())
    }

    /// The release with the highest serial.
    pub fn newest_release(&self) -> Result<Option<StoredRelease>> {
        Ok(self.releases(1)?.into_iter().next())
    }

    /// The newest releases, newest first.
    pub fn releases(&self, limit: u64) -> Result<Vec<StoredRelease>> {
        let query = "SELECT serial, kind, published, text, signature, key FROM release ORDER BY serial DESC LIMIT ?";
        self.rows(query, vec![integer(limit)])
    }

    /// Whether a bundle was active in some release.
    pub fn was_active(&self, digest: &str) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "SELECT serial FROM release WHERE active = ? LIMIT 1";
        Ok(self.row::<Row>(query, vec![digest.into()])?.is_some())
    }

    /// Has the newest release published once more: KV has something else.
    pub fn unpublish(&self, serial: u64) -> Result<()> {
        self.exec("UPDATE release SET published = NULL WHERE serial = ?", vec![integer(serial)])
    }

    /// Stores a release.
    pub fn insert_release(&self, release: &StoredRelease) -> Result<()> {
        let active = release.manifest().map(|manifest| manifest.active).unwrap_or_default();
        let StoredRelease { serial, kind, text, signature, key, .. } = release;
        let mut values =
            vec![integer(*serial), kind.as_str().into(), integer(now_seconds()), active.into()];
        values.extend([text, signature, key].map(|text| text.as_str().into()));
        let query = "INSERT INTO release (serial, kind, stored, active, text, signature, key) VALUES (?, ?, ?, ?, ?, ?, ?)";
        self.exec(query, values)
    }

    /// The serial of the release that KV has.
    pub fn published_serial(&self) -> Result<Option<u64>> {
        #[derive(Deserialize)]
        struct Row {
            serial: Option<u64>,
        }
        let query = "SELECT MAX(serial) AS serial FROM release WHERE published IS NOT NULL";
        Ok(self.row::<Row>(query, Vec::new())?.and_then(|row| row.serial))
    }

    /// Whether KV had a release.
    pub fn is_published(&self, serial: u64) -> Result<bool> {
        #[derive(Deserialize)]
        struct Row {}
        let query = "SELECT serial FROM release WHERE serial = ? AND published IS NOT NULL";
        Ok(self.row::<Row>(query, vec![integer(serial)])?.is_some())
    }

    /// Notes that KV has a release.
    pub fn set_published(&self, serial: u64) -> Result<()> {
        let values = vec![integer(now_seconds()), integer(serial)];
        self.exec("UPDATE release SET published = ? WHERE serial = ?", values)
    }

    /// Notes who did what; `who` is a scope and where it came from, as a hash. That it cannot be noted is
    /// logged, and stops nothing.
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
        let query = "INSERT INTO audit (at, who, what, subject, author, sender, result) VALUES (?, ?, ?, ?, ?, ?, ?)";
        // Attempts of strangers do not push out what was done.
        let (filter, max_entries) = match action == AUTH_ATTEMPT {
            true => ("what = 'auth'", MAX_AUTH_ATTEMPTS),
            false => ("what <> 'auth'", MAX_AUDIT_ENTRIES),
        };
        let prune_query = format!(
            "DELETE FROM audit WHERE {filter} AND id <= (SELECT id FROM audit WHERE {filter} ORDER BY id DESC LIMIT 1 OFFSET ?)"
        );
        let outcome = self
            .exec(query, values)
            .and_then(|()| self.exec(&prune_query, vec![integer(max_entries)]));
        if outcome.is_err() {
            log::registry_event("audit", Some("an entry could not be written"));
        }
    }

    /// Entries of the audit log, newest first.
    pub fn audit_entries(&self, limit: u64, before: Option<u64>) -> Result<Vec<AuditEntry>> {
        let query =
            "SELECT id, at, who, what, subject, author, sender AS \"from\", result FROM audit
            WHERE id < ? ORDER BY id DESC LIMIT ?";
        self.rows(query, vec![integer(before.unwrap_or(u64::MAX)), integer(limit)])
    }

    /// A setting of the registry's own.
    pub fn meta(&self, name: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Row {
            value: String,
        }
        let row = self.row::<Row>("SELECT value FROM meta WHERE name = ?", vec![name.into()]);
        row.ok().flatten().map(|row| row.value)
    }

    /// One that is a number.
    pub fn meta_number(&self, name: &str) -> Option<u64> {
        self.meta(name)?.parse().ok()
    }

    /// Sets it, or takes it away.
    pub fn set_meta(&self, name: &str, value: Option<&str>) -> Result<()> {
        match value {
            Some(value) => self.exec(
                "INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)",
                vec![name.into(), value.into()],
            ),
            None => self.exec("DELETE FROM meta WHERE name = ?", vec![name.into()]),
        }
    }
}

/// What is known of a bundle, in order.
const BUNDLE_COLUMNS: &str = "digest, serial, created, bytes, signatures, lists, uploaded";

/// A text in parts that fit a row, none of which ends within a character.
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
