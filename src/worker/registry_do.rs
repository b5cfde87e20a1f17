//! The registry: the Durable Object that stores bundles, releases, indicators and clusters, and
//! writes to KV the values that isolates read.
//!
//! A deployment has one instance, named `registry`. Isolates never call it to decide a request. If
//! it is down, the last published rules decide.
//!
//! # Routes
//!
//! Bodies and answers are JSON; docs/openapi.yaml describes them. The header `x-caller` identifies
//! the caller for the audit log. Errors are [`ApiError`]s.
//!
//! | route | caller |
//! |---|---|
//! | `GET /status` | admin API |
//! | `GET /bundles`, `GET /bundles/<digest>`, `PUT /bundles/<digest>` | admin API |
//! | `GET /releases`, `POST /releases`, `GET /releases/current` | admin API |
//! | `POST /promote`, `POST /rollback`, `POST /stop` | admin API |
//! | `GET /diff?from=&to=`, `GET /audit?limit=&before=` | admin API |
//! | `GET /indicators`, `GET /indicators/<key>` | admin API |
//! | `POST /indicators/<key>/revoke`, `POST /indicators/revoke` | admin API |
//! | `GET /clusters`, `GET /clusters/<id>`, `POST /clusters/<id>/split` | admin API |
//! | `POST /names`: a [`NamesReport`](principals::NamesReport) → `{"stored":n}` | admin API, ledgers |
//! | `POST /labels`: `{"ids":[…]}` → `{"labels":{"<id>":"<label>"}}` | admin API |
//! | `POST /audit?subject=&result=`: adds a call that was rejected | admin API |
//! | `POST /firings`: `{"firings":[…],…}` → `{"clusters":{…},"refused":[…]}` | correlators |
//! | `POST /maintenance`: pulls, compares KV with the tables, publishes | cron, every minute |
//!
//! # Stored shapes
//!
//! All times are in seconds since the epoch. Digests, keys and accounts are hex.
//!
//! - `bundle (digest TEXT, serial, created, bytes, signatures, lists, uploaded INTEGER, signature
//!   TEXT)`, and `bundle_part (digest TEXT, part INTEGER, text TEXT)`: its text in parts of 1 MiB.
//! - `bundle_content (digest, content TEXT)`: the content digest of each bundle.
//! - `stale_bundle (digest TEXT)`: bundles that were deleted from the tables, but not from KV yet.
//! - `release (serial INTEGER, kind TEXT, stored INTEGER, published INTEGER, active, text,
//!   signature, key TEXT)`: signed manifests; `published` is null until KV has the release.
//! - `audit (id, at INTEGER, actor, action, subject, author, client, result TEXT)`.
//! - `indicator (key, correlation TEXT, first, last, expires, times INTEGER, measured REAL,
//!   threshold TEXT, accounts, revoked_at INTEGER, reason TEXT, revoked_until INTEGER, members,
//!   account, tenant, network TEXT)`: `members` are accounts that took part, 16 digits each,
//!   separated by spaces. `account`, `tenant` and `network` are hashes; they identify the request
//!   that caused the first firing.
//! - `link (id INTEGER, correlation, key TEXT, at, last INTEGER, accounts TEXT)`: accounts that a
//!   firing added to a cluster, 16 digits each.
//! - `cluster_key (key, cluster, first TEXT)`: for each key that has a link, the id of its cluster
//!   now, and when the key was added.
//! - `split_off_accounts (account TEXT, until INTEGER)`: accounts that an operator has removed from
//!   a cluster. Until the time `until`, a month later, they do not link keys.
//! - `cluster_alias (id, cluster TEXT)`: the ids of merged clusters, each with the id of the
//!   cluster to which it belongs now.
//! - `principal (id, account, tenant TEXT, at, expires INTEGER)`: the account and the tenant to
//!   which the origin or the operator has mapped the account `id`.
//! - `label (id, text TEXT, at INTEGER)`: labels (names in plain text) of accounts and tenants, if
//!   the policy sets `labels`.
//! - `meta (name TEXT, value TEXT)`: `stop`, the last stop as JSON; `stop.published`, the stop that
//!   was last written to KV; `stop.problem`; `stop.checked`, if a registry without a stop has
//!   looked for one in KV; `publish.attempts`, `publish.problem`; `pull.checked`, `pull.changed`,
//!   `pull.problem`, `pull.source`, `pull.serial`, `pull.etag`; `indicators.changed`,
//!   `indicators.urgent`, `indicators.published`, `indicators.number`, `indicators.problem`;
//!   `indicators.writes`: the day, the number of writes of indicators on that day, and the time of
//!   the last write in milliseconds; `indicators.format`: the format of the indicators in KV;
//!   `clusters.counter`: the number from which the last id of a cluster was made; `names.changed`,
//!   `names.published`, `names.number`, `names.written`, `names.problem`.
//!
//! # Invariants
//!
//! - A bundle is stored only after its signature, digest, format and limits are verified, and its
//!   regexes have compiled. A release is stored only if its signature is valid, its serial is above
//!   all others, and its bundles are stored.
//! - Releases are never deleted. The bundles of the last 50 releases and the last 20 uploaded
//!   bundles are kept.
//! - Bundles are written to KV before the release that contains their digests. One publication runs
//!   at a time, and a key is written at most every 1.1 seconds. Indicators wait while a release is
//!   to be published. They are written at most KV_WRITES_PER_DAY times a day, except after
//!   revocations.
//! - The audit log keeps 20,000 entries, and 1,000 more for failed authentications. The tables have
//!   at most `correlate.max_indicators` indicators that are not revoked (of one correlation, a
//!   quarter of that), 50,000 revoked ones, 20,000 links, 20,000 aliases, 10,000 names of accounts
//!   and 10,000 labels. If the table of indicators is full, a stronger indicator replaces the
//!   weakest. No two clusters ever have the same id.
//!
//! # Crashes
//!
//! A crash does not lose data of calls that were answered. Indicators and clusters in memory are
//! read again from the tables. The alarm is set before a publication starts, so that it finishes
//! the publication after a crash. If the alarm cannot be set, the maintenance publishes. A crash
//! resets the pauses after failures to publish indicators, the quotas of the minute, and the counts
//! of refused firings.

mod cluster_restore;
mod cluster_split;
mod clusters;
mod error;
mod exemptions;
mod indicator_memory;
mod indicator_publication;
mod indicators;
mod indicators_status;
mod name_quota;
mod pull;
mod release_publication;
mod releases;
mod revocation;
mod signed;
mod stops;
mod tables;

pub mod client;
pub mod principals;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{RefUnwindSafe, UnwindSafe};

use hedgerow_core::api;
use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::correlate::indicator::quota::QuotaCounter;
use hedgerow_core::rules::policy::CorrelationSettings;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::ruleset::{Bundle, Diff};
use serde::Deserialize;
use serde_json::{Value, json};
use worker::{DurableObject, Env, Request, Response, ResponseBuilder, State, durable_object};

use self::error::{internal_error, rejected, unknown_bundle};
use self::exemptions::ExemptionCache;
use self::indicator_memory::{FiringStats, StoredIndicators};
use self::name_quota::NameQuota;
use self::signed::ReleaseKind;
use self::tables::Tables;
use crate::admin_api::error::ApiError;
use crate::isolate::active_rules;
use crate::platform::clock::now_seconds;
use crate::platform::lease::{Backoff, Lease};
use crate::platform::panic;
use crate::platform::rpc::{CALLER_HEADER, query_parameters};
use crate::platform::settings::Settings;

/// The Durable Object class of the registry.
#[durable_object]
pub struct Registry {
    state: State,
    settings: Settings,
    /// The tables, or the error that occurred when they were opened.
    tables: Result<Tables, String>,
    /// The lease of the event that writes a release to KV.
    publishing: RefCell<Lease>,
    /// Time of the last write of each key of KV, in milliseconds since the epoch.
    last_writes: RefCell<HashMap<String, f64>>,
    /// Time at which the alarm publishes the release, in milliseconds since the epoch; infinite if
    /// no publication is due.
    release_publish_at: Cell<f64>,
    /// Time at which the alarm publishes the stop, in milliseconds since the epoch; infinite if no
    /// publication is due.
    stop_publish_at: Cell<f64>,
    /// Time at which the alarm publishes the indicators, in milliseconds since the epoch; infinite
    /// if no publication is due.
    indicators_publish_at: Cell<f64>,
    /// Time at which the alarm publishes the names of accounts, in milliseconds since the epoch;
    /// infinite if no publication is due.
    names_publish_at: Cell<f64>,
    /// Counts, for the current minute, the accounts to which the origin gave a name for the first
    /// time.
    new_names: RefCell<NameQuota>,
    /// Time at which expired names were last deleted, in seconds since the epoch.
    names_pruned_at: Cell<u64>,
    /// The pause after failures to publish the stop.
    stop_backoff: RefCell<Backoff>,
    /// The time until which indicators are not published after failures.
    indicators_backoff: RefCell<Backoff>,
    /// The exemptions of the active bundle.
    exemptions: RefCell<ExemptionCache>,
    /// The indicators of the table; `None` until they are needed.
    indicators: RefCell<Option<StoredIndicators>>,
    /// Counts of new indicators in the current minute, by the account, tenant and network that
    /// caused the indicators.
    quotas: RefCell<QuotaCounter>,
    /// The policy's settings in `correlate`, as a correlator last sent them.
    correlation_settings: Cell<CorrelationSettings>,
    /// Counts of firings that were not stored, and of firings that wait at the correlators.
    firing_stats: RefCell<FiringStats>,
    /// The clusters of the table `link`; `None` until they are needed.
    clusters: RefCell<Option<Clusters>>,
    /// Time at which expired indicators were last deleted, in seconds since the epoch.
    indicators_pruned_at: Cell<u64>,
    /// Time at which expired links were last deleted, in seconds since the epoch.
    links_pruned_at: Cell<u64>,
}

// A panic leaves each table consistent, because every statement is atomic. `worker` requires these
// traits in builds that unwind.
impl UnwindSafe for Registry {}
impl RefUnwindSafe for Registry {}

impl DurableObject for Registry {
    fn new(state: State, env: Env) -> Self {
        let tables = Tables::open(&state).map_err(|error| error.to_string());
        Self {
            settings: Settings::from_env(&env),
            state,
            tables,
            publishing: RefCell::default(),
            last_writes: RefCell::default(),
            release_publish_at: Cell::new(f64::INFINITY),
            stop_publish_at: Cell::new(f64::INFINITY),
            indicators_publish_at: Cell::new(f64::INFINITY),
            names_publish_at: Cell::new(f64::INFINITY),
            new_names: RefCell::default(),
            names_pruned_at: Cell::new(0),
            stop_backoff: RefCell::default(),
            indicators_backoff: RefCell::default(),
            exemptions: RefCell::default(),
            indicators: RefCell::default(),
            quotas: RefCell::default(),
            correlation_settings: Cell::default(),
            firing_stats: RefCell::default(),
            clusters: RefCell::default(),
            indicators_pruned_at: Cell::new(0),
            links_pruned_at: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        panic::install_hook();
        let (status, body) = match self.handle(&mut request).await {
            Ok((status, body)) => (status, body),
            Err(error) => (error.status, json!(error.body())),
        };
        let response = ResponseBuilder::new().with_status(status);
        response.with_header("cache-control", "no-store")?.from_json(&body)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        panic::install_hook();
        self.on_alarm().await;
        Response::empty()
    }
}

/// The status code and the JSON body of a response, or the error to answer with.
type HandlerResult = Result<(u16, Value), ApiError>;

/// The caller of a route, for the audit log.
#[derive(Deserialize, Default)]
struct Caller {
    /// The scope of the token, or the part of the Worker that calls.
    actor: String,
    /// Keyed hash of the client's address, if the address is known.
    client: Option<String>,
}

impl Caller {
    /// Returns the actor and the client, in the form that [`Tables::audit`] needs.
    fn for_audit(&self) -> (&str, Option<&str>) {
        (&self.actor, self.client.as_deref())
    }
}

impl Registry {
    /// Answers a request.
    async fn handle(&self, request: &mut Request) -> HandlerResult {
        let query = query_parameters(request);
        let caller = request.headers().get(CALLER_HEADER).ok().flatten().unwrap_or_default();
        let caller: Caller = serde_json::from_str(&caller).unwrap_or_default();
        let method = request.method().to_string();
        let path = request.path();
        let path = path.as_str();
        if let Some(name) = path.strip_prefix("/bundles/") {
            return match method.as_str() {
                "PUT" => {
                    let upload: api::BundleUpload =
                        self.read_upload(request, "bundle.upload", &caller).await?;
                    self.upload_bundle(name, upload.into(), &caller)
                }
                _ => self.bundle(name),
            };
        }
        if let ("POST", Some(kind)) = (method.as_str(), ReleaseKind::from_path(path)) {
            let upload: api::ReleaseUpload =
                self.read_upload(request, kind.name(), &caller).await?;
            return self.accept_release(kind, upload.into(), &caller).await;
        }
        if let Some(key) = path.strip_prefix("/indicators/") {
            return match (method.as_str(), key.strip_suffix("/revoke")) {
                ("POST", None) if key == "revoke" => self.revoke_matching(request, &caller).await,
                ("POST", Some(key)) => self.revoke(key, request, &caller).await,
                _ => self.explain_indicator(key),
            };
        }
        if let Some(id) = path.strip_prefix("/clusters/") {
            return match (method.as_str(), id.strip_suffix("/split")) {
                ("POST", Some(id)) => self.split_cluster(id, request, &caller).await,
                _ => self.cluster(id),
            };
        }
        self.handle_fixed_path((method.as_str(), path), request, &query, &caller).await
    }

    /// Answers a request whose path has no variable part.
    async fn handle_fixed_path(
        &self,
        route: (&str, &str),
        request: &mut Request,
        query: &HashMap<String, String>,
        caller: &Caller,
    ) -> HandlerResult {
        match route {
            ("POST", "/stop") => self.stop(request, caller).await,
            ("POST", "/firings") => self.receive_firings(request).await,
            ("POST", "/names") => self.receive_names(request, caller).await,
            ("POST", "/labels") => self.labels(request).await,
            ("GET", "/indicators") => self.list_indicators(query),
            ("GET", "/clusters") => self.list_clusters(),
            ("POST", "/maintenance") => self.run_maintenance().await,
            ("POST", "/audit") => self.audit_rejection(query, caller),
            ("GET", "/bundles") => self.bundles(),
            ("GET", "/releases") => self.releases(query),
            ("GET", "/releases/current") => self.current_release(),
            ("GET", "/diff") => self.diff(query),
            ("GET", "/audit") => self.list_audit(query),
            ("GET", "/status") => self.status(),
            _ => {
                let remedy = "docs/openapi.yaml lists every path";
                Err(ApiError::new(404, "not_found", "unknown path", remedy))
            }
        }
    }

    /// Returns the tables. If they could not be opened, logs the error and returns `unavailable`
    /// without details.
    fn tables(&self) -> Result<&Tables, ApiError> {
        self.tables.as_ref().map_err(|error| internal_error(error.as_str()))
    }

    /// Lists the stored bundles, the last uploaded first.
    fn bundles(&self) -> HandlerResult {
        Ok((200, json!(api::BundleList { bundles: self.tables()?.bundles()? })))
    }

    /// Returns the text and signature of a bundle; an error if the bundle is not stored.
    fn bundle(&self, digest: &str) -> HandlerResult {
        let stored = self.tables()?.bundle_text(digest)?;
        let (bundle, signature) = stored.ok_or_else(|| unknown_bundle(digest))?;
        let digest = digest.to_owned();
        Ok((200, json!(api::SignedBundle { digest, bundle, signature })))
    }

    /// Lists the newest releases, newest first: 20 by default, at most 100.
    fn releases(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(20).clamp(1, 100);
        let tables = self.tables()?;
        let releases = tables.releases(limit)?.into_iter();
        let releases = releases.map(|release| release.into_api(tables)).collect();
        Ok((200, json!(api::ReleaseList { releases })))
    }

    /// Returns the newest release, even if it is not published yet; `not_found` if there is none.
    fn current_release(&self) -> HandlerResult {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let none = || {
            ApiError::new(
                404,
                "not_found",
                "the registry has no release yet",
                "make one with `hedgerow release`",
            )
        };
        Ok((200, json!(current.ok_or_else(none)?.into_api(tables))))
    }

    /// Compares two bundles. Each of the query parameters `from` and `to` is the digest of a stored
    /// bundle, or `embedded` for the bundle that the Worker contains.
    fn diff(&self, query: &HashMap<String, String>) -> HandlerResult {
        let load_bundle = |side: &str| {
            let digest = query.get(side).map(String::as_str).unwrap_or_default();
            let parsed = match digest {
                EMBEDDED => active_rules::embedded::bundle().and_then(|json| Bundle::parse(&json)),
                digest => match self.tables()?.bundle_text(digest)? {
                    Some((text, _)) => Bundle::parse(text.as_bytes()),
                    None => return Err(unknown_bundle(digest)),
                },
            };
            parsed.map_err(rejected("bundle"))
        };
        let diff = Diff::between(&load_bundle("from")?, &load_bundle("to")?);
        Ok((200, json!(diff)))
    }

    /// Lists entries of the audit log, newest first: 50 by default, at most 500. If the query has
    /// `before`, lists only entries with a smaller id.
    fn list_audit(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(50).clamp(1, 500);
        let before = parse_number(query, "before")?;
        let entries = self.tables()?.audit_entries(limit, before)?;
        Ok((200, json!(api::AuditLog { entries })))
    }

    /// Returns the registry's part of `/status`: release, exemptions, publication, pull, indicators
    /// and names.
    fn status(&self) -> HandlerResult {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let published = tables.published_serial()?;
        let serial = current.as_ref().map(|current| current.serial);
        let pending = serial.filter(|_| serial != published);
        let keys = self.settings.trusted_keys().unwrap_or_default();
        let embedded = active_rules::embedded::ruleset();
        let now = now_seconds();
        let exemptions = self.exemptions.borrow_mut().active(tables, current.as_ref(), now)?;
        let pull = self.settings.config_url().map(|_| api::PullStatus {
            url_set: true,
            checked: tables.meta_number("pull.checked"),
            changed: tables.meta_number("pull.changed"),
            problem: tables.meta("pull.problem"),
        });
        let status = api::DeploymentStatus {
            now,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            embedded: embedded.ok().map(|ruleset| ruleset.digest().to_owned()),
            embedded_content: active_rules::embedded::content(),
            keys: keys.as_base64().map(str::to_owned).collect(),
            exemptions,
            release: current.map(|release| release.into_api(tables)),
            stop: self.stop_status()?,
            mode_ceiling: Some(self.settings.mode_ceiling),
            publication: api::PublicationStatus {
                serial: published,
                pending,
                attempts: tables.meta_number("publish.attempts").unwrap_or(0),
                problem: tables.meta("publish.problem"),
            },
            pull,
            indicators: self.indicators_status()?,
            principals: self.names_status()?,
            ..api::DeploymentStatus::default()
        };
        Ok((200, json!(status)))
    }

    /// Adds an entry to the audit log for a call that the admin API rejected.
    fn audit_rejection(&self, query: &HashMap<String, String>, caller: &Caller) -> HandlerResult {
        let param = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let action = if caller.actor == "nobody" { tables::AUTH_ATTEMPT } else { "rejected" };
        self.tables()?.audit(caller.for_audit(), action, param("subject"), "", param("result"));
        Ok((200, json!({})))
    }

    /// Runs the tasks that are due every minute: pulls releases, writes missing values to KV, ends
    /// revocations that have expired, and publishes indicators and names that are due. Values that
    /// are stored but not in KV are published here even if no alarm is set.
    async fn run_maintenance(&self) -> HandlerResult {
        let pulled = self.pull().await;
        let published = self.publish_unscheduled_release().await;
        let reconciled = self.reconcile_kv().await;
        let stop = self.reconcile_stop().await;
        let restored = self.restore_revoked().await;
        self.publish_indicators().await;
        self.publish_names().await;
        pulled.and(published).and(reconciled).and(stop).and(restored).map(|()| (200, json!({})))
    }
}

/// Parses a parameter of a query. Returns `None` if the query does not contain it.
///
/// # Errors
/// `invalid`, if the parameter is not a whole number.
fn parse_number(query: &HashMap<String, String>, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let number = text.parse().map(Some);
    number.map_err(|_| {
        let message = format!("invalid '{name}': expected a whole number");
        ApiError::new(400, "invalid", message, "correct the parameter, or leave it out")
    })
}
