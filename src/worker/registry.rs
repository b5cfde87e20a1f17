//! The registry: one Durable Object that holds every bundle and release there was, and who did what.
//! Isolates never ask it; it writes to KV what they read.
//!
//! Nothing is stored before it is verified: signature, digest, format, limits, and that it compiles.

mod clusters;
mod indicators;
mod publish;
mod pull;
mod tables;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{RefUnwindSafe, UnwindSafe};

use hedgerow::cluster::Clusters;
use hedgerow::indicator::Indicators;
use hedgerow::ruleset::release::EMBEDDED;
use hedgerow::ruleset::{Bundle, Diff, MAX_BYTES, Release, Ruleset, digest, is_digest, short};
use hedgerow::trust::Keys;
use serde::Deserialize;
use serde_json::{Value, json};
use worker::{DurableObject, Env, Request, Response, ResponseBuilder, State, durable_object};

use crate::api::{self, ApiError};
use crate::clock::seconds;
use crate::error::caught;
use crate::settings::Settings;
use crate::{admin, log, rules};
use tables::{AuditEntry, StoredBundle, StoredRelease, Tables};

/// The object.
#[durable_object]
pub struct Registry {
    state: State,
    settings: Settings,
    tables: Result<Tables, String>,
    /// Until when somebody is writing to KV, should they never come back; milliseconds since the epoch.
    publishing: Cell<f64>,
    /// When each key of KV was written last, in milliseconds since the epoch.
    written: RefCell<HashMap<String, f64>>,
    /// When a release, and when indicators are to be published by alarm; milliseconds since the epoch.
    publish_at: Cell<f64>,
    spread_at: Cell<f64>,
    spread_failures: Cell<u32>,
    /// Indicators and clusters, as the tables have them; read when they are first needed.
    known: RefCell<Option<Indicators>>,
    clusters: RefCell<Option<Clusters>>,
    /// When old indicators and links were last looked for, in seconds since the epoch.
    tidied: Cell<u64>,
    links_tidied: Cell<u64>,
}

// A panic within leaves tables as they were, for each statement is whole by itself, and counters at worst
// too low. `worker` asks for this where panics unwind.
impl UnwindSafe for Registry {}
impl RefUnwindSafe for Registry {}

impl DurableObject for Registry {
    fn new(state: State, env: Env) -> Self {
        let tables = Tables::open(&state).map_err(|error| error.to_string());
        Self {
            settings: Settings::of(&env),
            state,
            tables,
            publishing: Cell::new(0.0),
            written: RefCell::default(),
            publish_at: Cell::new(f64::INFINITY),
            spread_at: Cell::new(f64::INFINITY),
            spread_failures: Cell::new(0),
            known: RefCell::default(),
            clusters: RefCell::default(),
            tidied: Cell::new(0),
            links_tidied: Cell::new(0),
        }
    }

    async fn fetch(&self, mut request: Request) -> worker::Result<Response> {
        log::quiet_panics();
        let (status, body) = match self.answer(&mut request).await {
            Ok((status, body)) => (status, body),
            Err(error) => (error.status, error.body()),
        };
        let response = ResponseBuilder::new().with_status(status);
        response.with_header("cache-control", "no-store")?.from_json(&body)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        log::quiet_panics();
        self.ring().await;
        Response::empty()
    }
}

/// Status and body.
type Answer = Result<(u16, Value), ApiError>;

/// Who asks.
#[derive(Deserialize, Default)]
struct Caller {
    who: String,
    from: Option<String>,
}

/// Signed text, as it is sent.
#[derive(Deserialize)]
struct Signed {
    #[serde(alias = "bundle", alias = "release")]
    text: String,
    signature: String,
}

/// How a release came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Release,
    Promote,
    Rollback,
    Pull,
}

impl Kind {
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
struct Verified {
    release: Release,
    text: String,
    signature: String,
    key: String,
}

impl Registry {
    async fn answer(&self, request: &mut Request) -> Answer {
        let url = request.url().map_err(broken)?;
        let query: HashMap<String, String> = url
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect();
        let caller = request.headers().get(api::CALLER).ok().flatten().unwrap_or_default();
        let caller: Caller = serde_json::from_str(&caller).unwrap_or_default();
        let method = request.method().to_string();
        let path = url.path();
        if let Some(name) = path.strip_prefix("/bundles/") {
            return match method.as_str() {
                "PUT" => {
                    let sent = self.signed(request, "bundle.upload", &caller).await?;
                    self.upload(name, sent, &caller)
                }
                _ => self.bundle(name),
            };
        }
        let kinds = [Kind::Release, Kind::Promote, Kind::Rollback];
        let published = kinds.into_iter().find(|kind| path == kind.path());
        if let ("POST", Some(kind)) = (method.as_str(), published) {
            let sent = self.signed(request, kind.name(), &caller).await?;
            return self.release(kind, sent, &caller).await;
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
            ("POST", "/firings") => self.fired(request).await,
            ("GET", "/indicators") => self.list_indicators(&query),
            ("GET", "/clusters") => self.list_clusters(),
            ("POST", "/tend") => self.tend().await,
            ("POST", "/note") => self.note(&query, &caller),
            ("GET", "/bundles") => Ok((200, json!({ "bundles": self.tables()?.bundles()? }))),
            ("GET", "/releases") => self.releases(&query),
            ("GET", "/releases/current") => self.current(),
            ("GET", "/diff") => self.diff(&query),
            ("GET", "/audit") => self.audit(&query),
            ("GET", "/status") => self.status(),
            _ => {
                let remedy = "docs/openapi.yaml lists every path";
                Err(ApiError::new(404, "not_found", "there is no such path", remedy))
            }
        }
    }

    /// The signed text in a request; what is none is noted, for somebody with a token sent it.
    async fn signed(
        &self,
        request: &mut Request,
        what: &str,
        caller: &Caller,
    ) -> Result<Signed, ApiError> {
        let sent = signed(request).await;
        if let Err(error) = &sent {
            let who = (caller.who.as_str(), caller.from.as_deref());
            self.tables()?.note(who, what, "", "", error.code);
        }
        sent
    }

    fn tables(&self) -> Result<&Tables, ApiError> {
        self.tables.as_ref().map_err(|error| broken(error.as_str()))
    }

    fn keys(&self) -> Result<Keys, ApiError> {
        let keys = self.settings.keys();
        let unavailable = |message, remedy| ApiError::new(503, "unavailable", message, remedy);
        let keys = keys.map_err(|problem| unavailable(problem.what, problem.remedy))?;
        if keys.is_empty() {
            let remedy =
                "set it in wrangler.toml to what `hedgerow keygen` printed, and deploy again";
            let message = "PUBLIC_KEYS is missing: no release is believed";
            return Err(unavailable(message.to_owned(), remedy.to_owned()));
        }
        Ok(keys)
    }

    /// Takes in a bundle.
    fn upload(&self, name: &str, sent: Signed, caller: &Caller) -> Answer {
        let stored = self.take_in(name, &sent);
        let result = stored.as_ref().err().map_or("ok", |error| error.code);
        let who = (caller.who.as_str(), caller.from.as_deref());
        self.tables()?.note(who, "bundle.upload", short(name), "", result);
        let (status, stored) = stored?;
        Ok((status, json!(stored)))
    }

    /// Verifies a bundle and stores it; 200 where it is there already.
    fn take_in(&self, name: &str, sent: &Signed) -> Result<(u16, StoredBundle), ApiError> {
        let bytes = sent.text.as_bytes();
        if !is_digest(name) || digest(bytes) != name {
            let remedy = "send it to /bundles/{SHA-256 of its bytes, in hexadecimal digits}";
            return Err(ApiError::new(422, "digest", "the bundle has another digest", remedy));
        }
        self.keys()?.verify(bytes, &sent.signature).map_err(refused("signature"))?;
        if let Some(stored) = self.tables()?.bundle(name)? {
            return Ok((200, stored));
        }
        let compiled = caught(|| {
            let bundle = Bundle::parse(bytes)?;
            let facts = StoredBundle::new(name, bytes.len(), &bundle, seconds());
            Ruleset::new(bundle, name.to_owned())?.check()?;
            Ok(facts)
        });
        let panicked = || Err(hedgerow::Error::new("compiling it panicked", "report this bundle"));
        let facts = compiled.unwrap_or_else(panicked).map_err(refused("bundle"))?;
        self.tables()?.insert_bundle(&facts, &sent.text, &sent.signature)?;
        Ok((201, facts))
    }

    /// Takes in a release, and publishes it.
    async fn release(&self, kind: Kind, sent: Signed, caller: &Caller) -> Answer {
        // From here to the release being stored nothing waits: of two publishers one is first.
        let verified = self.verify(sent);
        let author =
            verified.as_ref().map_or("", |verified| verified.release.author.as_str()).to_owned();
        let serial = verified.as_ref().map_or(0, |verified| verified.release.serial);
        let stored = verified.and_then(|verified| self.store(kind, verified));
        let result = stored.as_ref().err().map_or("ok", |error| error.code);
        let who = (caller.who.as_str(), caller.from.as_deref());
        self.tables()?.note(who, kind.name(), &serial.to_string(), &author, result);
        stored?;
        let problem = self.publish().await.err();
        let is_published = self.tables()?.is_published(serial)?;
        let problem = match (is_published, problem) {
            (true, _) => None,
            (false, Some(problem)) => Some(problem),
            (false, None) => Some("a later release came before it was published".to_owned()),
        };
        let status = if is_published { 201 } else { 202 };
        Ok((status, json!({ "serial": serial, "published": is_published, "problem": problem })))
    }

    fn verify(&self, sent: Signed) -> Result<Verified, ApiError> {
        let Signed { text, signature } = sent;
        let keys = self.keys()?;
        let key =
            keys.verify(text.as_bytes(), &signature).map_err(refused("signature"))?.to_owned();
        let release = Release::parse(text.as_bytes()).map_err(refused("release"))?;
        if release.is_expired(seconds()) {
            let remedy = "give it a later end";
            return Err(ApiError::new(422, "release", "the release has expired", remedy));
        }
        Ok(Verified { release, text, signature, key })
    }

    /// Stores a release, if it is the next one and all that it names is there.
    fn store(&self, kind: Kind, verified: Verified) -> Result<(), ApiError> {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let serial = current.as_ref().map_or(0, |current| current.serial);
        let Verified { release, text, signature, key } = verified;
        if release.serial <= serial {
            let message =
                format!("release {serial} is there already, and this is {}", release.serial);
            let remedy = "look at what it changed, and release again on top of it";
            let error = ApiError::new(409, "serial", message, remedy);
            return Err(ApiError { serial: Some(serial), ..error });
        }
        self.vouch(&release)?;
        let before = current.as_ref().and_then(StoredRelease::manifest);
        let fits = match kind {
            Kind::Release | Kind::Pull => Ok(()),
            Kind::Promote => promotes(before.as_ref(), &release),
            Kind::Rollback => self.rolls_back(before.as_ref(), &release),
        };
        fits.map_err(|message| {
            let error = ApiError::new(409, "precondition", message, "see `hedgerow status`");
            ApiError { serial: Some(serial), ..error }
        })?;
        let serial = release.serial;
        tables.insert_release(&StoredRelease::new(serial, kind.name(), text, signature, key))
    }

    /// Every bundle that a release names is stored, and signed by somebody who is still believed: a key
    /// may have been replaced since.
    fn vouch(&self, release: &Release) -> Result<(), ApiError> {
        let keys = self.keys()?;
        let mut bytes = 0_usize;
        for digest in release.digests() {
            let Some((text, signature)) = self.tables()?.bundle_text(digest)? else {
                let message = format!("the bundle {} is not stored here", short(digest));
                return Err(ApiError::new(422, "unknown_bundle", message, "upload it first"));
            };
            keys.verify(text.as_bytes(), &signature).map_err(|error| {
                let message = format!("bundle {}: {}", short(digest), error.problem());
                let remedy = "push the rules again, signed with a key that is accepted now";
                ApiError::new(422, "signature", message, remedy)
            })?;
            bytes = bytes.saturating_add(text.len());
        }
        match bytes > MAX_BYTES {
            // An isolate holds all of them, and for a moment those of the release before, too.
            true => {
                let message = "the bundles of this release have more than 5 MiB together";
                let remedy = "release them one after the other, or make them smaller";
                Err(ApiError::new(422, "release", message, remedy))
            }
            false => Ok(()),
        }
    }

    fn rolls_back(&self, before: Option<&Release>, after: &Release) -> Result<(), &'static str> {
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

    fn bundle(&self, name: &str) -> Answer {
        let found = self.tables()?.bundle_text(name)?;
        let (text, signature) = found.ok_or_else(|| unknown_bundle(name))?;
        Ok((200, json!({ "digest": name, "bundle": text, "signature": signature })))
    }

    fn releases(&self, query: &HashMap<String, String>) -> Answer {
        let limit = number(query, "limit")?.unwrap_or(20).clamp(1, 100);
        let releases = self.tables()?.releases(limit)?;
        let releases: Vec<Value> = releases.iter().map(StoredRelease::json).collect();
        Ok((200, json!({ "releases": releases })))
    }

    fn current(&self) -> Answer {
        let current = self.tables()?.newest_release()?;
        let none = || ApiError::new(404, "not_found", "there is no release yet", "make one");
        Ok((200, current.ok_or_else(none)?.json()))
    }

    fn diff(&self, query: &HashMap<String, String>) -> Answer {
        let of = |side: &str| {
            let name = query.get(side).map(String::as_str).unwrap_or_default();
            let parsed = match name {
                EMBEDDED => Bundle::parse(rules::embedded_bundle()),
                name => match self.tables()?.bundle_text(name)? {
                    Some((text, _)) => Bundle::parse(text.as_bytes()),
                    None => return Err(unknown_bundle(name)),
                },
            };
            parsed.map_err(refused("bundle"))
        };
        let diff = Diff::between(&of("from")?, &of("to")?);
        Ok((200, json!(diff)))
    }

    fn audit(&self, query: &HashMap<String, String>) -> Answer {
        let limit = number(query, "limit")?.unwrap_or(50).clamp(1, 500);
        let before = number(query, "before")?;
        let entries: Vec<AuditEntry> = self.tables()?.audit(limit, before)?;
        Ok((200, json!({ "entries": entries })))
    }

    fn status(&self) -> Answer {
        let tables = self.tables()?;
        let current = tables.newest_release()?;
        let published = tables.published()?;
        let serial = current.as_ref().map(|current| current.serial);
        let pending = serial.filter(|_| serial != published);
        let keys = self.settings.keys().unwrap_or_default();
        let pull = self.settings.config_url().map(|_| {
            json!({
                "url_set": true,
                "checked": tables.meta_number("pull.checked"),
                "changed": tables.meta_number("pull.changed"),
                "problem": tables.meta("pull.problem"),
            })
        });
        let status = json!({
            "now": seconds(),
            "version": env!("CARGO_PKG_VERSION"),
            "embedded": rules::embedded().ok().map(|ruleset| ruleset.digest().to_owned()),
            "keys": keys.names().collect::<Vec<_>>(),
            "release": current.as_ref().map(StoredRelease::json),
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
    fn note(&self, query: &HashMap<String, String>, caller: &Caller) -> Answer {
        let part = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
        let who = (caller.who.as_str(), caller.from.as_deref());
        let what = if caller.who == "nobody" { tables::ATTEMPT } else { "refused" };
        self.tables()?.note(who, what, part("subject"), "", part("result"));
        Ok((200, json!({})))
    }

    /// What is to be done each minute: pull, and see to it that KV has what it should.
    async fn tend(&self) -> Answer {
        let pulled = self.pull().await;
        let mended = self.mend().await;
        let restored = self.restore_revoked().await;
        self.spread().await;
        pulled.and(mended).and(restored).map(|()| (200, json!({})))
    }
}

/// A promotion makes active what was canary, or else shadow; nothing else changes.
fn promotes(before: Option<&Release>, after: &Release) -> Result<(), &'static str> {
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
pub async fn ask_to_tend(settings: &Settings) {
    if settings.config_url().is_none() && !settings.has_keys() {
        return;
    }
    let asked = async {
        let stub = api::registry(settings).map_err(|error| error.message)?;
        let caller = json!({ "who": "registry" });
        let request = admin::internal("https://registry", "POST", "/tend", &caller, None);
        let request = request.map_err(|_| "no request can be made")?;
        let answer = stub.fetch_with_request(request.into()).await;
        answer.map(drop).map_err(|_| "the registry does not answer".to_owned())
    };
    if let Err(problem) = asked.await {
        log::registry("tend", Some(&problem));
    }
}

/// The signed text in a request.
async fn signed(request: &mut Request) -> Result<Signed, ApiError> {
    let text = request.text().await.map_err(broken)?;
    serde_json::from_str(&text).map_err(|error| {
        // Where, not what: the message could quote the body.
        let place = format!("line {}, column {}", error.line(), error.column());
        let remedy = "send {\"bundle\" or \"release\": \"…\", \"signature\": \"…\"} as JSON";
        ApiError::new(
            400,
            "invalid",
            format!("the body is not what is asked for ({place})"),
            remedy,
        )
    })
}

fn number(query: &HashMap<String, String>, name: &str) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let number = text.parse().map(Some);
    number.map_err(|_| {
        let message = format!("'{name}' is no whole number");
        ApiError::new(400, "invalid", message, "give digits only, or leave it out")
    })
}

fn unknown_bundle(name: &str) -> ApiError {
    let message = format!("there is no bundle '{}'", short(name));
    ApiError::new(
        404,
        "not_found",
        message,
        "`hedgerow status` and GET /bundles name those there are",
    )
}

/// The answer to what the core refuses.
fn refused(code: &'static str) -> impl Fn(hedgerow::Error) -> ApiError {
    move |error| ApiError::new(422, code, error.problem().to_owned(), error.remedy().to_owned())
}

/// What went wrong within: nothing that a caller could mend.
fn broken(error: impl ToString) -> ApiError {
    log::registry("failed", Some(&error.to_string()));
    ApiError::new(503, "unavailable", "the registry cannot read or write its tables", "try again")
}
