//! Stops: orders of operators on call that lower the mode to Shadow. The registry stores the last
//! stop, and publishes it to KV.
//!
//! A stop ends with a signed release that names it in `resumes`. The registry then publishes the
//! stop again, with the serial of the release in `ended_by`, so that later releases need not name
//! the stop.

use std::time::Duration;

use hedgerow_core::api;
use hedgerow_core::rules::release::Release;
use hedgerow_core::rules::stop::Stop;
use serde_json::json;
use worker::Request;

use super::error::rejected;
use super::indicators::invalid_body;
use super::release_publication::put_with_timeout;
use super::signed::ReleaseKind;
use super::{Caller, HandlerResult, Registry};
use crate::admin_api::error::ApiError;
use crate::isolate::stop::{sign, verify};
use crate::platform::clock::{now_ms, now_seconds, with_timeout};
use crate::platform::kv::ConfigKv;
use crate::platform::log;

/// Name in `meta` of the last stop, as JSON.
const META_STOP: &str = "stop";

/// Name in `meta` of the stop that was last written to KV, as JSON.
const META_PUBLISHED: &str = "stop.published";

/// Name in `meta` of the reason why KV does not have the last stop.
const META_PROBLEM: &str = "stop.problem";

/// Maximum number of characters of a reason or an author. Further characters are cut off.
const MAX_TEXT_CHARS: usize = 200;

/// Number of attempts to write a stop while the operator waits for the response.
const ATTEMPTS: usize = 3;

/// Name in `meta` of a mark that an empty registry has looked for a stop in KV.
const META_CHECKED: &str = "stop.checked";

/// Pause after the first failed publication.
const MIN_BACKOFF: Duration = Duration::from_secs(2);

/// Longest pause after a failed publication.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Timeout of a read of KV.
const KV_TIMEOUT: Duration = Duration::from_secs(4);

impl Registry {
    /// Handles `POST /stop`: stores and publishes a stop. While another stop is in force, the new
    /// one also covers the paths of the other. Returns status 201, or 202 if KV does not have the
    /// stop yet. Returns the stop in force, with status 200 or 202, if it already covers all paths.
    ///
    /// # Errors
    /// `invalid`, if the body, the reason or a path is invalid; `unavailable`, if the tables cannot
    /// be read or written, or if isolates could not read the stop.
    pub(super) async fn stop(&self, request: &mut Request, caller: &Caller) -> HandlerResult {
        let text = request.text().await.map_err(|_| invalid_body())?;
        // Nothing is awaited between reading and storing the stop in force.
        let body = serde_json::from_str(&text).map_err(|_| invalid_body());
        let stored = body.and_then(|body: api::StopRequest| self.store_stop(body, caller));
        if let Err(error) = &stored {
            self.tables()?.audit(caller.for_audit(), "stop", "", "", error.code);
        }
        let (stop, success) = stored?;
        let problem = self.publish_stop().await.err();
        let status = if problem.is_none() { success } else { 202 };
        Ok((status, json!(api::StopStatus { stop, published: problem.is_none(), problem })))
    }

    /// Stores a stop, and returns the stop that is in force then. The status is 201, or 200 if the
    /// stop in force covers all paths already. Such a stop is not stored, so that a stolen token
    /// cannot use up the writes to KV and the audit log.
    fn store_stop(&self, body: api::StopRequest, caller: &Caller) -> Result<(Stop, u16), ApiError> {
        let stop = self.check_stop(body)?;
        let current = self.stop_in_force()?;
        if let Some(current) = current.as_ref().filter(|current| current.includes(&stop)) {
            return Ok((current.clone(), 200));
        }
        let stop = match &current {
            Some(current) => stop.merged_with(current),
            None => stop,
        };
        let tables = self.tables()?;
        tables.set_meta(META_STOP, Some(&to_text(&stop)))?;
        let subject = format!("{}: {}", describe_paths(&stop), stop.reason);
        tables.audit(caller.for_audit(), "stop", &subject, &stop.author, "ok");
        log::registry_event("stop", None);
        Ok((stop, 201))
    }

    /// Checks a request for a stop, and returns the stop.
    fn check_stop(&self, body: api::StopRequest) -> Result<Stop, ApiError> {
        let shorten = |text: &str| text.trim().chars().take(MAX_TEXT_CHARS).collect::<String>();
        let reason = shorten(&body.reason);
        if reason.is_empty() {
            let remedy = "give a reason for the audit log: {\"reason\": \"…\"}";
            return Err(ApiError::new(422, "invalid", "the reason is missing", remedy));
        }
        Stop::check_paths(&body.paths).map_err(rejected("invalid"))?;
        if !self.settings.has_trusted_keys() || self.settings.account_secret.is_none() {
            let message = "without PUBLIC_KEYS and ACCOUNT_SECRET, isolates read no stop";
            let remedy = "deploy with the variable MODE_CEILING: `npx wrangler deploy --var \
                          MODE_CEILING:shadow`";
            return Err(ApiError::new(503, "unavailable", message, remedy));
        }
        let last = self.last_stop()?;
        let at = now_seconds().max(last.at.saturating_add(1));
        let author = shorten(&body.author);
        Ok(Stop { at, paths: body.paths, reason, author, ended_by: None })
    }

    /// Returns the last stop, which may have ended; a stop of the time 0 if there was none.
    fn last_stop(&self) -> Result<Stop, ApiError> {
        let text = self.tables()?.meta(META_STOP);
        Ok(text.and_then(|text| Stop::decode(text.as_bytes()).ok()).unwrap_or_default())
    }

    /// Returns the stop that is in force; `None` if enforcement is not stopped.
    pub(super) fn stop_in_force(&self) -> Result<Option<Stop>, ApiError> {
        Ok(Some(self.last_stop()?).filter(|stop| stop.is_in_force(None)))
    }

    /// Checks that the stop that a release names in `resumes` is in force. A release from
    /// CONFIG_URL may name any stop: several deployments pull it, and not all had the stop.
    ///
    /// # Errors
    /// `precondition`, if it is not; `unavailable`, if the tables cannot be read.
    pub(super) fn check_resumption(
        &self,
        kind: ReleaseKind,
        release: &Release,
    ) -> Result<(), ApiError> {
        let Some(resumes) = release.resumes.filter(|_| kind != ReleaseKind::Pull) else {
            return Ok(());
        };
        if self.stop_in_force()?.is_some_and(|stop| stop.at == resumes) {
            return Ok(());
        }
        let message = format!("`resumes` names the stop of {resumes}, which is not in force");
        let remedy = "see `hedgerow status`, and run `hedgerow resume` again";
        Err(ApiError::new(409, "precondition", message, remedy))
    }

    /// Records that a release has ended the stop, if it names the stop in force. The alarm
    /// publishes the end.
    pub(super) fn end_stop(&self, release: &Release) -> Result<(), ApiError> {
        let Some(stop) = self.stop_in_force()?.filter(|stop| release.resumes == Some(stop.at))
        else {
            return Ok(());
        };
        let ended = Stop { ended_by: Some(release.serial), ..stop };
        let tables = self.tables()?;
        tables.set_meta(META_STOP, Some(&to_text(&ended)))?;
        let serial = release.serial.to_string();
        tables.audit(("registry", None), "resume", &serial, &release.author, "ok");
        // The caller publishes the release now. That sets the alarm to the earliest of these times.
        self.stop_publish_at.set(0.0);
        Ok(())
    }

    /// Writes the last stop to KV, if KV does not have it. If that fails, sets the alarm to try
    /// again, and returns the problem.
    pub(super) async fn publish_stop(&self) -> Result<(), String> {
        let mut problem = None;
        for _ in 0..ATTEMPTS {
            let (stored, published) = self.stored_and_published().map_err(|error| error.message)?;
            if stored == published {
                problem = None;
                break;
            }
            problem = self.write_stop(stored.as_deref().unwrap_or_default()).await.err();
        }
        let tables = self.tables().map_err(|error| error.message)?;
        if tables.meta(META_PROBLEM) != problem {
            if let Some(problem) = &problem {
                log::registry_event("stop", Some(problem));
            }
            let _ = tables.set_meta(META_PROBLEM, problem.as_deref());
        }
        let now = now_ms();
        let Some(problem) = problem else {
            self.stop_backoff.borrow_mut().record_success(now, Duration::ZERO);
            return Ok(());
        };
        let delay = self.stop_backoff.borrow_mut().record_failure(now, MIN_BACKOFF, MAX_BACKOFF);
        self.schedule(&self.stop_publish_at, delay).await;
        Err(problem)
    }

    /// Returns the last stop and the stop that was last written to KV, as JSON.
    fn stored_and_published(&self) -> Result<(Option<String>, Option<String>), ApiError> {
        let tables = self.tables()?;
        Ok((tables.meta(META_STOP), tables.meta(META_PUBLISHED)))
    }

    /// Writes a stop to KV, and records that.
    async fn write_stop(&self, text: &str) -> Result<(), String> {
        let kv = ConfigKv::from_settings(&self.settings).ok_or("the binding RULES is missing")?;
        let stop = Stop::decode(text.as_bytes()).map_err(|error| error.problem().to_owned())?;
        let secret = self.settings.account_secret.as_deref();
        let secret = secret.ok_or("ACCOUNT_SECRET is missing or too short")?;
        let signed = sign(&stop, secret).ok_or("the stop cannot be signed")?;
        self.rate_limit("stop").await;
        put_with_timeout(kv.put_stop(&signed)).await?;
        let tables = self.tables().map_err(|error| error.message)?;
        tables.set_meta(META_PUBLISHED, Some(text)).map_err(|error| error.message)
    }

    /// Publishes the stop again if KV has another one: a write that had timed out may have
    /// overwritten it, or another program may have written to KV. A registry without a stop adopts
    /// the one in KV, once: its tables may have been lost while a stop was in force.
    pub(super) async fn reconcile_stop(&self) -> Result<(), ApiError> {
        let stop = self.last_stop()?;
        let must_adopt = stop.at == 0 && self.tables()?.meta(META_CHECKED).is_none();
        let kv = ConfigKv::from_settings(&self.settings).filter(|_| must_adopt || stop.at > 0);
        let secret = self.settings.account_secret.as_deref();
        let (Some(secret), Some(kv)) = (secret, kv) else { return Ok(()) };
        let Some(Ok(read)) = with_timeout(kv.read_stop(), KV_TIMEOUT).await else {
            return Ok(());
        };
        if must_adopt {
            let found = match &read {
                Some(signed) => verify(signed, secret).await.ok(),
                None => None,
            };
            return self.adopt(found);
        }
        if read != sign(&stop, secret) {
            self.tables()?.set_meta(META_PUBLISHED, None)?;
            let _ = self.publish_stop().await;
        }
        Ok(())
    }

    /// Stores the stop that an empty registry has found in KV, if any, unless an operator has given
    /// one meanwhile.
    fn adopt(&self, found: Option<Stop>) -> Result<(), ApiError> {
        let tables = self.tables()?;
        tables.set_meta(META_CHECKED, Some("1"))?;
        let Some(stop) = found.filter(|_| tables.meta(META_STOP).is_none()) else { return Ok(()) };
        let subject = format!("{}: {}", describe_paths(&stop), stop.reason);
        tables.audit(("registry", None), "stop", &subject, &stop.author, "found in KV");
        tables.set_meta(META_STOP, Some(&to_text(&stop)))
    }

    /// Returns the member `stop` of the status.
    pub(super) fn stop_status(&self) -> Result<Option<api::StopStatus>, ApiError> {
        let Some(stop) = self.stop_in_force()? else { return Ok(None) };
        let (stored, published) = self.stored_and_published()?;
        let problem = self.tables()?.meta(META_PROBLEM);
        Ok(Some(api::StopStatus { stop, published: stored == published, problem }))
    }
}

/// Returns the JSON of a stop.
fn to_text(stop: &Stop) -> String {
    String::from_utf8_lossy(&stop.encode()).into_owned()
}

/// Returns the paths of a stop, for the audit log.
fn describe_paths(stop: &Stop) -> String {
    if stop.paths.is_empty() { "all requests".to_owned() } else { stop.paths.join(" ") }
}
