//! The registry: one Durable Object that holds every bundle and release there was, and who did what.
//! Isolates never ask it; it writes to KV what they read.
//!
//! Nothing is stored before it is verified: signature, digest, format, limits, and that it compiles.

mod clusters;
mod error;
mod indicators;
mod publish;
mod pull;
mod tables;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{RefUnwindSafe, UnwindSafe};

use error::internal_error;
use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::rules::release::EMBEDDED;
use hedgerow_core::rules::trusted_keys::TrustedKeys;
use hedgerow_core::ruleset::{
    Bundle, Diff, MAX_BUNDLE_BYTES, Release, Ruleset, digest, is_digest, short_digest,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tables::{AuditEntry, StoredBundle, StoredRelease, Tables};
use worker::{DurableObject, Env, Request, Response, ResponseBuilder, State, durable_object};

use crate::admin_api;
use crate::admin_api::{ApiError, health};
use crate::isolate::active_rules;
use crate::platform::clock::now_seconds;
use crate::platform::log;
use crate::platform::panic;
use crate::platform::panic::catch_panic;
use crate::platform::settings::Settings;

/// The object.
#[durable_object]
pub struct Registry {
    state: State,
    settings: Settings,
    tables: Result<Tables, String>,
    /// Until when somebody is writing to KV, should they never come back; milliseconds since the epoch.
    publishing_until: Cell<f64>,
    /// When each key of KV was written last, in milliseconds since the epoch.
    last_writes: RefCell<HashMap<String, f64>>,
    /// When a release, and when indicators are to be published by alarm; milliseconds since the epoch.
    release_publish_at: Cell<f64>,
    indicators_publish_at: Cell<f64>,
    indicators_publish_failures: Cell<u32>,
    /// Indicators and clusters, as the tables have them; read when they are first needed.
    indicators: RefCell<Option<Indicators>>,
    clusters: RefCell<Option<Clusters>>,
    /// When old indicators and links were last looked for, in seconds since the epoch.
    indicators_pruned_at: Cell<u64>,
    links_pruned_at: Cell<u64>,
}

// A panic within leaves tables as they were, for each statement is whole by itself, and counters at worst
// too low. `worker` asks for this where panics unwind.
impl UnwindSafe for Registry {}
impl RefUnwindSafe for Registry {}

impl DurableObject for Registry {
    fn new(state: State, env: Env) -> Self {
        let tables = Tables::open(&state).map_err(|error| error.to_string());
        Self {
            settings: Settings::from_env(&env),
            state,
            tables,
            publishing_until: Cell::new(0.0),
            last_writes: RefCell::default(),
            release_publish_at: Cell::new(f64::INFINITY),
            indicators_publish_at: Cell::new(f64::INFINITY),
            indicators_publish_failures: Cell::new(0),
            indicators: RefCell::default(),
            clusters: RefCell::default(),
            indicators_pruned_at: Cell::new(0),
            links_pruned_at: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        panic::install_hook();
        let (status, body) = match self.handle(&mut request).await {
            Ok((status, body)) => (status, body),
            Err(error) => (error.status, error.body()),
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

/// Status and body.
type HandlerResult = Result<(u16, Value), ApiError>;

/// Who asks.
#[derive(Deserialize, Default)]
struct Caller {
    who: String,
    from: Option<String>,
}

/// Signed text, as it is sent.
#[derive(Deserialize)]
struct SignedText {
    #[serde(alias = "bundle", alias = "release")]
    text: String,
    signature: String,
}

/// How a release came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReleaseKind {
    Release,
    Promote,
    Rollback,
    Pull,
}

impl ReleaseKind {
    fn name(self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Pull => "pull",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Release => "/releases",
            Self::Promote => "/promote",
            Self::Rollback => "/rollback",
            Self::Pull => "",
        }
    }
}

/// A release that was verified, and how it was sent.
struct VerifiedRelease {
    release: Release,
    text: String,
    signature: String,
    key: String,
}

impl Registry {
    async fn handle(&self, request: &mut Request) -> HandlerResult {
        let url = request.url().map_err(internal_error)?;
        let query: HashMap<String, String> = url
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let caller =
            request.headers().get(admin_api::CALLER_HEADER).ok().flatten().unwrap_or_default();
        let caller: Caller = serde_json::from_str(&caller).unwrap_or_default();
        let method = request.method().to_string();
        let path = url.path();
        if let Some(name) = path.strip_prefix("/bundles/") {
            return match method.as_str() {
                "PUT" => {
                    let signed = self.read_signed(request, "bundle.upload", &caller).await?;
                    self.upload_bundle(name, signed, &caller)
                }
                _ => self.bundle(name),
            };
        }
        let kinds = [ReleaseKind::Release, ReleaseKind::Promote, ReleaseKind::Rollback];
        let release_kind = kinds.into_iter().find(|kind| path == kind.path());
        if let ("POST", Some(kind)) = (method.as_str(), release_kind) {
            let signed = self.read_signed(request, kind.name(), &caller).await?;
            return self.accept_release(kind, signed, &caller).await;
        }
        if let Some(key) = path.strip_prefix("/indicators/") {
            return match (method.as_str(), key.strip_suffix("/revoke")) {
                ("POST", Some(key)) => self.revoke(key, request, &caller).await,
                _ => self.explain_indicator(key),
            };
        }
        if let Some(id) = path.strip_prefix("/clusters/") {
            return self.cluster(id);
        }
        match (method.as_str(), path) {
            ("POST", "/firings") => self.receive_firings(request).await,
            ("GET", "/indicators") => self.list_indicators(&query),
            ("GET", "/clusters") => self.list_clusters(),
            ("POST", "/tend") => self.run_maintenance().await,
            ("POST", "/note") => self.audit_rejection(&query, &caller),
            ("GET", "/bundles") => Ok((200, json!({ "bundles": self.tables()?.bundles()? }))),
            ("GET", "/releases") => self.releases(&query),
            ("GET", "/releases/current") => self.current_release(),
            ("GET", "/diff") => self.diff(&query),
            ("GET", "/audit") => self.list_audit(&query),
            ("GET", "/status") => self.status(),
            _ => {
                let remedy = "docs/openapi.yaml lists every path";
                Err(ApiError::new(404, "not_found", "there is no such path", remedy))
            }
        }
    }

    /// The signed text in a request; what is none is noted, for somebody with a token sent it.
    async fn read_signed(
        &self,
        request: &mut Request,
        action: &str,
        caller: &Caller,
    ) -> Result<SignedText, ApiError> {
        let signed = parse_signed(request).await;
        if let Err(error) = &signed {
            let actor = (caller.who.as_str(), caller.from.as_deref());
            self.tables()?.audit(actor, action, "", "", error.code);
        }
        signed
    }

    fn tables(&self) -> Result<&Tables, ApiError> {
        self.tables.as_ref().map_err(|error| internal_error(error.as_str()))
    }

    fn trusted_keys(&self) -> Result<TrustedKeys, ApiError> {
        let keys = self.settings.trusted_keys();
        let unavailable = |message, remedy| ApiError::new(503, "unavailable", message, remedy);
        let keys = keys.map_err(|problem| unavailable(problem.message, problem.remedy))?;
        if keys.is_empty() {
            let remedy =
                "set it in wrangler.toml to what `hedgerow keygen` printed, and deploy again";
            let message = "PUBLIC_KEYS is missing: no release is believed";
            return Err(unavailable(message.to_owned(), remedy.to_owned()));
        }
        Ok(keys)
    }

    /// Takes in a bundle.
    fn upload_bundle(&self, digest: &str, signed: SignedText, caller: &Caller) -> HandlerResult {
        let stored = self.verify_and_store(digest, &signed);
        let result = stored.as_ref().err().map_or("ok", |error| error.code);
        let actor = (caller.who.as_str(), caller.from.as_deref());
        self.tables()?.audit(actor, "bundle.upload", short_digest(digest), "", result);
        let (status, stored) = stored?;
        Ok((status, json!(stored)))
    }

    /// Verifies a bundle and stores it; 200 where it is there already.
    fn verify_and_store(
        &self,
        expected_digest: &str,
        signed: &SignedText,
    ) -> Result<(u16, StoredBundle), ApiError> {
        let bytes = signed.text.as_bytes();
        if !is_digest(expected_digest) || digest(bytes) != expected_digest {
            let remedy = "send it to /bundles/{SHA-256 of its bytes, in hexadecimal digits}";
            return Err(ApiError::new(422, "digest", "the bundle has another digest", remedy));
        }
        self.trusted_keys()?.verify(bytes, &signed.signature).map_err(rejected("signature"))?;
        if let Some(stored) = self.tables()?.bundle(expected_digest)? {
            return Ok((200, stored));
        }
        let compiled = catch_panic(|| {
            let bundle = Bundle::parse(bytes)?;
            let stored = StoredBundle::new(expected_digest, bytes.len(), &bundle, now_seconds());
            Ruleset::new(bundle, expected_digest.to_owned())?.compile_regexes()?;
            Ok(stored)
        });
        let panicked =
            || Err(hedgerow_core::Error::new("compiling it panicked", "report this bundle"));
        let stored = compiled.unwrap_or_else(panicked).map_err(rejected("bundle"))?;
        self.tables()?.insert_bundle(&stored, &signed.text, &signed.signature)?;
        Ok((201, stored))
    }

    /// Takes in a release, and publishes it.
    async fn accept_release(
        &self,
        kind: ReleaseKind,
        signed: SignedText,
        caller: &Caller,
    ) -> HandlerResult {
        // From here to the release being stored nothing waits: of two publishers one is first.
        let verified = self.verify_release(signed);
        let author =
            verified.as_ref().map_or("", |verified| verified.release.author.as_str()).to_owned();
        let serial = verified.as_ref().map_or(0, |verified| verified.release.serial);
        let stored = verified.and_then(|verified| self.store_release(kind, verified));
        let result = stored.as_ref().err().map_or("ok", |error| error.code);
        let actor = (caller.who.as_str(), caller.from.as_deref());
        self.tables()?.audit(actor, kind.name(), &serial.to_string(), &author, result);
        stored?;
        let problem = self.publish_release().await.err();
        let is_published = self.tables()?.is_published(serial)?;
        let problem = match (is_published, problem) {
            (true, _) => None,
            (false, Some(problem)) => Some(problem),
            (false, None) => Some("a later release came before it was published".to_owned()),
        };
        let status = if is_published { 201 } else { 202 };
        Ok((status, json!({ "serial": serial, "published": is_published, "problem": problem })))
    }

    fn verify_release(&self, signed: SignedText) -> Result<VerifiedRelease, ApiError> {
        let SignedText { text, signature } = signed;
        let keys = self.trusted_keys()?;
        let key =
            keys.verify(text.as_bytes(), &signature).map_err(rejected("signature"))?.to_owned();
        let release = Release::parse(text.as_bytes()).map_err(rejected("release"))?;
        if release.is_expired(now_seconds()) {
            let remedy = "give it a later end";
            return Err(ApiError::new(422, "release", "the release has expired", remedy));
        }
        Ok(VerifiedRelease { release, text, signature, key })
    }

    /// Stores a release, if it is the next one and all that it names is there.
    fn store_release(&self, kind: ReleaseKind, verified: VerifiedRelease) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let serial = current.as_ref().map_or(0, |current| current.serial);
        let VerifiedRelease { release, text, signature, key } = verified;
        if release.serial <= serial {
            let message =
                format!("release {serial} is there already, and this is {}", release.serial);
            let remedy = "look at what it changed, and release again on top of it";
            let error = ApiError::new(409, "serial", message, remedy);
            return Err(ApiError { serial: Some(serial), ..error });
        }
        self.verify_bundles(&release)?;
        let before = current.as_ref().and_then(StoredRelease::manifest);
        let transition = match kind {
            ReleaseKind::Release | ReleaseKind::Pull => Ok(()),
            ReleaseKind::Promote => check_promotion(before.as_ref(), &release),
            ReleaseKind::Rollback => self.check_rollback(before.as_ref(), &release),
        };
        transition.map_err(|message| {
            let error = ApiError::new(409, "precondition", message, "see `hedgerow status`");
            ApiError { serial: Some(serial), ..error }
        })?;
        let serial = release.serial;
        tables.insert_release(&StoredRelease::new(serial, kind.name(), text, signature, key))
    }

    /// Every bundle that a release names is stored, and signed by somebody who is still believed: a key
    /// may have been replaced since.
    fn verify_bundles(&self, release: &Release) -> Result<(), ApiError> {
        let keys = self.trusted_keys()?;
        let mut bytes = 0_usize;
        for digest in release.digests() {
            let Some((text, signature)) = self.tables()?.bundle_text(digest)? else {
                let message = format!("the bundle {} is not stored here", short_digest(digest));
                return Err(ApiError::new(422, "unknown_bundle", message, "upload it first"));
            };
            keys.verify(text.as_bytes(), &signature).map_err(|error| {
                let message = format!("bundle {}: {}", short_digest(digest), error.problem());
                let remedy = "push the rules again, signed with a key that is accepted now";
                ApiError::new(422, "signature", message, remedy)
            })?;
            bytes = bytes.saturating_add(text.len());
        }
        match bytes > MAX_BUNDLE_BYTES {
            // An isolate holds all of them, and for a moment those of the release before, too.
            true => {
                let message = "the bundles of this release have more than 5 MiB together";
                let remedy = "release them one after the other, or make them smaller";
                Err(ApiError::new(422, "release", message, remedy))
            }
            false => Ok(()),
        }
    }

    fn check_rollback(
        &self,
        before: Option<&Release>,
        after: &Release,
    ) -> Result<(), &'static str> {
        if after.canary.is_some() || after.shadow.is_some() {
            return Err("a rollback has neither canary nor shadow");
        }
        // Ending a canary or a shadow is going back, too.
        let is_staged = |before: &Release| before.canary.is_some() || before.shadow.is_some();
        if before.is_some_and(|before| before.active == after.active && !is_staged(before)) {
            return Err("that bundle is in force already, for all");
        }
        let was_active = self.tables().and_then(|tables| tables.was_active(&after.active));
        match after.active == EMBEDDED || was_active.unwrap_or(false) {
            true => Ok(()),
            false => Err("that bundle was never in force"),
        }
    }

    fn bundle(&self, digest: &str) -> HandlerResult {
        let stored = self.tables()?.bundle_text(digest)?;
        let (text, signature) = stored.ok_or_else(|| unknown_bundle(digest))?;
        Ok((200, json!({ "digest": digest, "bundle": text, "signature": signature })))
    }

    fn releases(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(20).clamp(1, 100);
        let releases = self.tables()?.releases(limit)?;
        let releases: Vec<Value> = releases.iter().map(StoredRelease::to_json).collect();
        Ok((200, json!({ "releases": releases })))
    }

    fn current_release(&self) -> HandlerResult {
        let current = self.tables()?.newest_release()?;
        let none = || ApiError::new(404, "not_found", "there is no release yet", "make one");
        Ok((200, current.ok_or_else(none)?.to_json()))
    }

    fn diff(&self, query: &HashMap<String, String>) -> HandlerResult {
        let load_bundle = |side: &str| {
            let digest = query.get(side).map(String::as_str).unwrap_or_default();
            let parsed = match digest {
                EMBEDDED => Bundle::parse(active_rules::embedded::bundle()),
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

    fn list_audit(&self, query: &HashMap<String, String>) -> HandlerResult {
        let limit = parse_number(query, "limit")?.unwrap_or(50).clamp(1, 500);
        let before = parse_number(query, "before")?;
        let entries: Vec<AuditEntry> = self.tables()?.audit_entries(limit, before)?;
        Ok((200, json!({ "entries": entries })))
    }

    fn status(&self) -> HandlerResult {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let published = tables.published_serial()?;
        let serial = current.as_ref().map(|current| current.serial);
        let pending = serial.filter(|_| serial != published);
        let keys = self.settings.trusted_keys().unwrap_or_default();
        let pull = self.settings.config_url().map(|_| {
            json!({
                "url_set": true,
                "checked": tables.meta_number("pull.checked"),
                "changed": tables.meta_number("pull.changed"),
                "problem": tables.meta("pull.problem"),
            })
        });
        let status = json!({
            "now": now_seconds(),
            "version": env!("CARGO_PKG_VERSION"),
            "embedded": active_rules::embedded::ruleset().ok().map(|ruleset| ruleset.digest().to_owned()),
            "keys": keys.as_base64().collect::<Vec<_>>(),
            "release": current.as_ref().map(StoredRelease::to_json),
            "publication": {
                "serial": published,
                "pending": pending,
                "attempts": tables.meta_number("publish.attempts").unwrap_or(0),
                "problem": tables.meta("publish.problem"),
            },
            "pull": pull,
            "indicators": self.indicators_status()?,
        });
        Ok((200, status))
    }

    /// Notes what was refused before it came here.
    fn audit_rejection(&self, query: &HashMap<String, String>, caller: &Caller) -> HandlerResult {
        let param = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let actor = (caller.who.as_str(), caller.from.as_deref());
        let action = if caller.who == "nobody" { tables::AUTH_ATTEMPT } else { "refused" };
        self.tables()?.audit(actor, action, param("subject"), "", param("result"));
        Ok((200, json!({})))
    }

    /// What is to be done each minute: pull, and see to it that KV has what it should.
    async fn run_maintenance(&self) -> HandlerResult {
        let pulled = self.pull().await;
        let reconciled = self.reconcile_kv().await;
        let restored = self.restore_revoked().await;
        self.publish_indicators().await;
        pulled.and(reconciled).and(restored).map(|()| (200, json!({})))
    }
}

/// A promotion makes active what was canary, or else shadow; nothing else changes.
fn check_promotion(before: Option<&Release>, after: &Release) -> Result<(), &'static str> {
    if after.canary.is_some() || after.shadow.is_some() {
        return Err("a promotion leaves neither canary nor shadow");
    }
    let canary = before.and_then(|before| before.canary.as_ref()).map(|canary| &canary.digest);
    let shadow = before.and_then(|before| before.shadow.as_ref()).map(|shadow| &shadow.digest);
    match canary.or(shadow) {
        None => Err("the current release has neither canary nor shadow"),
        Some(digest) if *digest == after.active => Ok(()),
        Some(_) => Err("the current release has another canary"),
    }
}

/// Tells the registry that a minute has passed, where there is something for it to do.
pub async fn request_maintenance(settings: &Settings) {
    if settings.config_url().is_none() && !settings.has_trusted_keys() {
        return;
    }
    let call = async {
        let stub = admin_api::registry_stub(settings).map_err(|error| error.message)?;
        let caller = json!({ "who": "registry" });
        let request = health::rpc_request("https://registry", "POST", "/tend", &caller, None);
        let request = request.map_err(|_| "no request can be made")?;
        let response = stub.fetch_with_request(request.into()).await;
        response.map(drop).map_err(|_| "the registry does not answer".to_owned())
    };
    if let Err(problem) = call.await {
        log::registry_event("tend", Some(&problem));
    }
}

/// The signed text in a request.
async fn parse_signed(request: &mut Request) -> Result<SignedText, ApiError> {
    let text = request.text().await.map_err(internal_error)?;
    serde_json::from_str(&text).map_err(|error| {
        // Where, not what: the message could quote the body.
        let position = format!("line {}, column {}", error.line(), error.column());
        let remedy = "send {\"bundle\" or \"release\": \"…\", \"signature\": \"…\"} as JSON";
        ApiError::new(
            400,
            "invalid",
            format!("the body is not what is asked for ({position})"),
            remedy,
        )
    })
}

fn parse_number(query: &HashMap<String, String>, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let number = text.parse().map(Some);
    number.map_err(|_| {
        let message = format!("'{name}' is no whole number");
        ApiError::new(400, "invalid", message, "give digits only, or leave it out")
    })
}

fn unknown_bundle(digest: &str) -> ApiError {
    let message = format!("there is no bundle '{}'", short_digest(digest));
    ApiError::new(
        404,
        "not_found",
        message,
        "`hedgerow status` and GET /bundles name those there are",
    )
}

/// The answer to what the core refuses.
fn rejected(code: &'static str) -> impl Fn(hedgerow_core::Error) -> ApiError {
    move |error| ApiError::new(422, code, error.problem().to_owned(), error.remedy().to_owned())
}
