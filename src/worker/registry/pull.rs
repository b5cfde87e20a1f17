//! Pulling: the signed files are fetched from CONFIG_URL, any place that serves files, and imported as
//! if they had been pushed. Who can write there cannot choose the rules: the signatures say whose.
//!
//! | file | is |
//! |---|---|
//! | `release.json`, `release.json.minisig` | the release |
//! | `bundles/<digest>.json`, `bundles/<digest>.json.minisig` | every bundle that it names |

use std::time::Duration;

use futures_util::StreamExt;
use hedgerow::ruleset::{self, digest, release};
use worker::{AbortController, Fetch, Headers, Method, Request, RequestInit, RequestRedirect};

use super::{Kind, Registry, Signed};
use crate::api::ApiError;
use crate::clock::{in_time, seconds};
use crate::log;

/// For how long all of one round may take: cron triggers come every minute.
const PATIENCE: Duration = Duration::from_secs(40);

/// Bytes that a signature file has at most.
const MAX_SIGNATURE: usize = 4096;

/// A file, or that it has not changed.
enum Fetched {
    Unchanged,
    File { text: String, etag: Option<String> },
}

impl Registry {
    /// Looks for a newer release, where there is something to fetch from.
    pub async fn pull(&self) -> Result<(), ApiError> {
        let Some(base) = self.settings.config_url() else { return Ok(()) };
        let round = in_time(self.round(&base), PATIENCE).await;
        let outcome =
            round.unwrap_or_else(|| Err(format!("no answer within {} s", PATIENCE.as_secs())));
        let tables = self.tables()?;
        let known = tables.meta("pull.problem");
        tables.set_meta("pull.checked", Some(&seconds().to_string()))?;
        tables.set_meta("pull.problem", outcome.as_ref().err().map(String::as_str))?;
        match &outcome {
            Ok(None) => {}
            Ok(Some(serial)) => {
                tables.set_meta("pull.changed", Some(&seconds().to_string()))?;
                tables.note(PULL, "pull", &serial.to_string(), "", "ok");
                // What cannot be published now is tried again by alarm.
                let _ = self.publish().await;
            }
            Err(problem) if known.as_deref() != Some(problem) => {
                log::registry("pull", Some(problem));
                tables.note(PULL, "pull", "", "", problem);
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// The serial of the release that was imported; `None` where there is nothing new.
    async fn round(&self, base: &str) -> Result<Option<u64>, String> {
        let base = base.trim().trim_end_matches('/');
        if !base.starts_with("https://") && !self.settings.development {
            return Err("CONFIG_URL does not begin with https://".to_owned());
        }
        let told = |error: ApiError| error.message;
        let tables = self.tables().map_err(told)?;
        // An address that was changed has entity tags of its own. It may hold credentials.
        let place = digest(base.as_bytes());
        let same_place = tables.meta("pull.place").as_deref() == Some(&place);
        let etag = tables.meta("pull.etag").filter(|_| same_place);
        let release = format!("{base}/release.json");
        let fetched = fetch(&release, etag.as_deref(), release::MAX_BYTES).await?;
        let newest = tables.newest_release().map_err(told)?;
        let (text, etag) = match fetched {
            Fetched::Unchanged => {
                let pulled = tables.meta_number("pull.serial").unwrap_or(0);
                return match newest.filter(|newest| pulled < newest.serial) {
                    Some(newest) => Err(behind(pulled, newest.serial)),
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
        tables.set_meta("pull.place", Some(&place)).map_err(told)?;
        tables.set_meta("pull.serial", Some(&serial)).map_err(told)?;
        tables.set_meta("pull.etag", etag.as_deref()).map_err(told)?;
        Ok(imported)
    }

    async fn import(&self, base: &str, text: String) -> Result<u64, String> {
        let told = |error: ApiError| format!("release.json: {}", error.message);
        let signature = whole(&format!("{base}/release.json.minisig"), MAX_SIGNATURE).await?;
        let verified = self.verify(Signed { text, signature }).map_err(told)?;
        let serial = verified.release.serial;
        let newest = self.tables().and_then(|tables| tables.newest_release()).map_err(told)?;
        if let Some(newest) = newest.filter(|newest| serial <= newest.serial) {
            return Err(behind(serial, newest.serial));
        }
        for digest in verified.release.digests() {
            let known = self.tables().and_then(|tables| tables.bundle(digest)).map_err(told)?;
            if known.is_some() {
                continue;
            }
            let file = format!("{base}/bundles/{digest}.json");
            let text = whole(&file, ruleset::MAX_BYTES).await?;
            let signature = whole(&format!("{file}.minisig"), MAX_SIGNATURE).await?;
            let told = |error: ApiError| {
                format!("bundles/{}….json: {}", ruleset::short(digest), error.message)
            };
            self.take_in(digest, &Signed { text, signature }).map_err(told)?;
        }
        self.store(Kind::Pull, verified).map_err(told)?;
        Ok(serial)
    }
}

fn behind(serial: u64, newest: u64) -> String {
    match serial == newest {
        true => format!("release.json: another release {serial} is there already"),
        false => format!("release.json: release {serial} is older than {newest}"),
    }
}

/// Who pulls, in the audit log.
const PULL: (&str, Option<&str>) = ("pull", None);

/// A file, whatever was known of it.
async fn whole(url: &str, most: usize) -> Result<String, String> {
    match fetch(url, None, most).await? {
        Fetched::File { text, .. } => Ok(text),
        Fetched::Unchanged => Err(format!("{}: 304, and nobody had asked", name(url))),
    }
}

async fn fetch(url: &str, etag: Option<&str>, most: usize) -> Result<Fetched, String> {
    let name = name(url);
    let failed = |_| format!("{name}: it cannot be fetched");
    let headers = Headers::new();
    if let Some(etag) = etag {
        headers.set("if-none-match", etag).map_err(failed)?;
    }
    let mut init = RequestInit::new();
    // A redirect could lead away from https, and is told instead: its address can be given.
    init.with_method(Method::Get).with_headers(headers).with_redirect(RequestRedirect::Manual);
    let request = Request::new_with_init(url, &init).map_err(failed)?;
    // Dropped with this future, and the connection with it.
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
        let chunk = chunk.map_err(|_| format!("{name}: the answer broke off"))?;
        if bytes.len().saturating_add(chunk.len()) > most {
            return Err(format!("{name}: it has more than {most} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8(bytes).map_err(|_| format!("{name}: it is not UTF-8"))?;
    Ok(Fetched::File { text, etag })
}

/// Ends a fetch that nobody waits for any more.
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

/// The last part of a URL: the rest may hold credentials.
fn name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or_default()
}
