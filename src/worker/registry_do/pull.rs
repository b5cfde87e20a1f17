//! Pulls releases from CONFIG_URL, which is a directory of signed files on any host. The releases
//! are stored as if a publisher had uploaded them. The host cannot choose the rules, because it
//! cannot sign them.
//!
//! | file | content |
//! |---|---|
//! | `release.json`, `release.json.minisig` | the release |
//! | `bundles/<digest>.json`, `bundles/<digest>.json.minisig` | each bundle of the release |

use std::time::Duration;

use futures_util::StreamExt;
use hedgerow_core::rules::release;
use hedgerow_core::ruleset;
use hedgerow_core::ruleset::digest;
use worker::{AbortController, Fetch, Headers, Method, Request, RequestInit, RequestRedirect};

use super::Registry;
use super::signed::{ReleaseKind, SignedText};
use crate::admin_api::error::ApiError;
use crate::platform::clock::{now_seconds, with_timeout};
use crate::platform::log;

/// Timeout of one pull. It is less than a minute, because a pull starts every minute.
const PULL_TIMEOUT: Duration = Duration::from_secs(40);

/// Maximum bytes of a signature file.
const MAX_SIGNATURE_BYTES: usize = 4096;

/// The result of a conditional request.
enum Fetched {
    /// The file still has the entity tag of the request.
    Unchanged,
    /// The file, and its entity tag if the host sent one.
    File { text: String, etag: Option<String> },
}

impl Registry {
    /// Pulls a newer release, if CONFIG_URL is set, and publishes it. Problems are recorded for the
    /// status. A problem is written to the log and the audit log unless the previous pull had the
    /// same problem.
    ///
    /// # Errors
    /// If the tables cannot be read or written.
    pub(super) async fn pull(&self) -> Result<(), ApiError> {
        let Some(base) = self.settings.config_url() else { return Ok(()) };
        let result = with_timeout(self.pull_once(&base), PULL_TIMEOUT).await;
        let outcome = result.unwrap_or_else(|| {
            Err(format!("no complete response within {} s", PULL_TIMEOUT.as_secs()))
        });
        let tables = self.tables()?;
        let previous_problem = tables.meta("pull.problem");
        tables.set_meta("pull.checked", Some(&now_seconds().to_string()))?;
        tables.set_meta("pull.problem", outcome.as_ref().err().map(String::as_str))?;
        match &outcome {
            Ok(None) => {}
            Ok(Some(serial)) => {
                tables.set_meta("pull.changed", Some(&now_seconds().to_string()))?;
                tables.audit(AUDIT_ACTOR, "pull", &serial.to_string(), "", "ok");
                // If the publication fails, the alarm tries again.
                let _ = self.publish_release().await;
            }
            Err(problem) if previous_problem.as_deref() != Some(problem) => {
                log::registry_event("pull", Some(problem));
                tables.audit(AUDIT_ACTOR, "pull", "", "", problem);
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Fetches the release, and imports it unless it is already stored. Returns the serial of an
    /// imported release; `None` if nothing has changed.
    async fn pull_once(&self, base: &str) -> Result<Option<u64>, String> {
        let base = base.trim().trim_end_matches('/');
        if !base.starts_with("https://") && !self.settings.is_development {
            return Err("CONFIG_URL does not begin with https://".to_owned());
        }
        let to_message = |error: ApiError| error.message;
        let tables = self.tables().map_err(to_message)?;
        // An entity tag is only valid for the same URL. Store the hash of the URL, because the URL
        // may contain credentials.
        let source = digest(base.as_bytes());
        let is_same_source = tables.meta("pull.source").as_deref() == Some(&source);
        let etag = tables.meta("pull.etag").filter(|_| is_same_source);
        let release = format!("{base}/release.json");
        let fetched = fetch(&release, etag.as_deref(), release::MAX_RELEASE_BYTES).await?;
        let newest = tables.newest_release().map_err(to_message)?;
        let (text, etag) = match fetched {
            Fetched::Unchanged => {
                let pulled = tables.meta_number("pull.serial").unwrap_or(0);
                return match newest.filter(|newest| pulled < newest.serial) {
                    Some(newest) => Err(stale_serial(pulled, newest.serial)),
                    None => Ok(None),
                };
            }
            Fetched::File { text, etag } => (text, etag),
        };
        let serial = newest.as_ref().map_or(0, |newest| newest.serial);
        let imported = match newest {
            Some(newest) if newest.text == text => None,
            _ => Some(self.import(base, text).await?),
        };
        let serial = imported.unwrap_or(serial).to_string();
        tables.set_meta("pull.source", Some(&source)).map_err(to_message)?;
        tables.set_meta("pull.serial", Some(&serial)).map_err(to_message)?;
        tables.set_meta("pull.etag", etag.as_deref()).map_err(to_message)?;
        Ok(imported)
    }

    /// Verifies the release in `text`, fetches its bundles that are not stored yet, and stores the
    /// bundles and the release. Returns the serial of the release.
    async fn import(&self, base: &str, text: String) -> Result<u64, String> {
        let to_message = |error: ApiError| format!("release.json: {}", error.message);
        let signature =
            fetch_file(&format!("{base}/release.json.minisig"), MAX_SIGNATURE_BYTES).await?;
        let verified = self.verify_release(SignedText { text, signature }).map_err(to_message)?;
        let serial = verified.release.serial;
        let newest =
            self.tables().and_then(|tables| tables.newest_release()).map_err(to_message)?;
        if let Some(newest) = newest.filter(|newest| serial <= newest.serial) {
            return Err(stale_serial(serial, newest.serial));
        }
        for digest in verified.release.digests() {
            let stored =
                self.tables().and_then(|tables| tables.bundle(digest)).map_err(to_message)?;
            if stored.is_some() {
                continue;
            }
            let file = format!("{base}/bundles/{digest}.json");
            let text = fetch_file(&file, ruleset::MAX_BUNDLE_BYTES).await?;
            let signature = fetch_file(&format!("{file}.minisig"), MAX_SIGNATURE_BYTES).await?;
            let to_message = |error: ApiError| {
                format!("bundles/{}….json: {}", ruleset::short_digest(digest), error.message)
            };
            self.verify_and_store(digest, &SignedText { text, signature }).map_err(to_message)?;
        }
        self.store_release(ReleaseKind::Pull, verified).map_err(to_message)?;
        Ok(serial)
    }
}

/// Returns the problem of a release whose serial is not above the newest stored serial.
fn stale_serial(serial: u64, newest: u64) -> String {
    if serial == newest {
        format!("release.json: another release {serial} is stored already")
    } else {
        format!("release.json: release {serial} is older than {newest}")
    }
}

/// The actor of pulls in the audit log.
const AUDIT_ACTOR: (&str, Option<&str>) = ("pull", None);

/// Fetches a file of at most `max_bytes`, whatever its entity tag is.
async fn fetch_file(url: &str, max_bytes: usize) -> Result<String, String> {
    match fetch(url, None, max_bytes).await? {
        Fetched::File { text, .. } => Ok(text),
        Fetched::Unchanged => {
            Err(format!("{}: unexpected status 304 to an unconditional request", file_name(url)))
        }
    }
}

/// Fetches a UTF-8 file of at most `max_bytes`, unless it still has the entity tag `etag`. Error
/// messages contain the name of the file instead of the URL, because the URL may contain
/// credentials.
async fn fetch(url: &str, etag: Option<&str>, max_bytes: usize) -> Result<Fetched, String> {
    let name = file_name(url);
    let failed = |_| format!("{name}: cannot be fetched");
    let headers = Headers::new();
    if let Some(etag) = etag {
        headers.set("if-none-match", etag).map_err(failed)?;
    }
    let mut init = RequestInit::new();
    // Do not follow redirects, which could leave https. A redirect is reported with its status; the
    // operator can set CONFIG_URL to the target of the redirect.
    init.with_method(Method::Get).with_headers(headers).with_redirect(RequestRedirect::Manual);
    let request = Request::new_with_init(url, &init).map_err(failed)?;
    // A timeout drops this future. Its `abort` is then dropped, too, which ends the connection.
    let abort = AbortOnDrop(Some(AbortController::default()));
    let signal = abort.signal().ok_or_else(|| failed(worker::Error::Infallible))?;
    let mut response = Fetch::Request(request).send_with_signal(&signal).await.map_err(failed)?;
    match (response.status_code(), etag) {
        (304, Some(_)) => return Ok(Fetched::Unchanged),
        (200, _) => {}
        (status, _) => return Err(format!("{name}: status {status}")),
    }
    let etag = response.headers().get("etag").ok().flatten();
    let mut bytes = Vec::new();
    let mut stream = response.stream().map_err(failed)?;
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| format!("{name}: the response was incomplete"))?;
        if bytes.len().saturating_add(chunk.len()) > max_bytes {
            return Err(format!("{name}: larger than {max_bytes} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{name}: not UTF-8"))?;
    Ok(Fetched::File { text, etag })
}

/// Aborts a request when it is dropped.
struct AbortOnDrop(Option<AbortController>);

impl AbortOnDrop {
    fn signal(&self) -> Option<worker::AbortSignal> {
        self.0.as_ref().map(AbortController::signal)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(controller) = self.0.take() {
            controller.abort();
        }
    }
}

/// Returns the last part of a URL. The rest may contain credentials.
fn file_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}
