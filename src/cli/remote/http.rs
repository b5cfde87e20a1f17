//! Accesses the registry of a deployment over its admin API.

use std::time::Duration;

use hedgerow_core::api::{
    BundleInfo, BundleList, BundleUpload, ErrorBody, ErrorDetails, PublishResult, ReleaseInfo,
    ReleaseList, ReleaseUpload, SignedBundle,
};
use hedgerow_core::ruleset::Diff;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Request, Uri};

use super::store::{ReleaseCommand, ReleaseStore, SignedText, serial_conflict};
use crate::error::{Error, Result};

/// The token of the admin API. It is sent to the deployment only, and never printed: the type does
/// not implement `Debug`, and the token is replaced in answers.
pub struct Token(String);

impl Token {
    /// Checks and wraps a token. `source` is the file or environment variable that contains the
    /// token; errors name it.
    pub fn new(text: &str, source: &str) -> Result<Self> {
        let token = text.trim();
        if token.len() < MIN_TOKEN_LEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Io(format!(
                "{source}: the token is invalid: expected at least {MIN_TOKEN_LEN} letters, digits \
                 or punctuation marks, without spaces; `openssl rand -hex 32` makes one"
            )));
        }
        Ok(Self(token.to_owned()))
    }
}

/// A client of the admin API of one deployment.
pub struct AdminClient {
    agent: Agent,
    url: String,
    token: Token,
}

impl AdminClient {
    /// Returns a client for the deployment at `url`. URLs without TLS are accepted for loopback
    /// addresses only.
    pub fn new(url: &str, token: Token) -> Result<Self> {
        let is_loopback = check_url(url)?;
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are not followed, because a redirect could send the token to another
            // server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TOTAL_TIMEOUT))
            .user_agent(concat!("hedgerow/", env!("CARGO_PKG_VERSION")));
        let config = if is_loopback { config.proxy(None) } else { config };
        let url = format!("{}/_hedgerow/v1", url.trim_end_matches('/'));
        Ok(Self { agent: config.build().into(), url, token })
    }

    /// Sends a GET request, and parses the answer. `path` starts after `/_hedgerow/v1`.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call("GET", path, None)
    }

    /// Sends a POST request, and parses the answer.
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: Value) -> Result<T> {
        self.call("POST", path, Some(body))
    }

    fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Result<T> {
        let request_line = format!("{method} {}{path}", self.url);
        let (status, text) = self
            .send(method, path, body)
            .map_err(|error| transport_error(&request_line, &error))?;
        let text = text.replace(&self.token.0, "[token]");
        if !(200..300).contains(&status) {
            return Err(response_error(&request_line, status, &text));
        }
        // The check is needed, because Serde would also parse an array as a struct whose members
        // all have defaults.
        let is_object = text.trim_start().starts_with('{');
        let response = serde_json::from_str(&text).ok().filter(|_| is_object);
        response.ok_or_else(|| {
            Error::Io(format!(
                "{request_line}: the answer is not readable: expected JSON of Hedgerow {}; check \
                 the URL, and that the Worker has this version",
                env!("CARGO_PKG_VERSION")
            ))
        })
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> std::result::Result<(u16, String), ureq::Error> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token.0))
            .header("accept", "application/json");
        let response = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string())?)
            }
            None => self.agent.run(request.body(())?),
        };
        let mut response = response?;
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_RESPONSE_BYTES)
            .lossy_utf8(true)
            .read_to_string()?;
        Ok((response.status().as_u16(), text))
    }
}

impl ReleaseStore for AdminClient {
    fn bundles(&self) -> Result<Vec<BundleInfo>> {
        Ok(self.get::<BundleList>("/bundles")?.bundles)
    }

    fn bundle(&self, digest: &str) -> Result<SignedText> {
        let SignedBundle { bundle, signature, .. } = self.get(&format!("/bundles/{digest}"))?;
        Ok(SignedText { text: bundle, signature })
    }

    fn upload(&self, digest: &str, bundle: &SignedText) -> Result<()> {
        let SignedText { text, signature } = bundle.clone();
        let body = BundleUpload { bundle: text, signature };
        self.call::<BundleInfo>("PUT", &format!("/bundles/{digest}"), Some(json!(body))).map(drop)
    }

    fn releases(&self) -> Result<Vec<SignedText>> {
        self.list_releases(100)
    }

    fn current_release(&self) -> Result<Option<SignedText>> {
        Ok(self.list_releases(1)?.into_iter().next())
    }

    fn publish(&self, kind: ReleaseCommand, _: u64, release: &SignedText) -> Result<PublishResult> {
        let path = match kind {
            ReleaseCommand::Release => "/releases",
            ReleaseCommand::Promote => "/promote",
            ReleaseCommand::Rollback => "/rollback",
        };
        let SignedText { text, signature } = release.clone();
        self.post(path, json!(ReleaseUpload { release: text, signature }))
    }

    fn diff(&self, from: &str, to: &str) -> Result<Diff> {
        self.get(&format!("/diff?from={from}&to={to}"))
    }

    fn is_registry(&self) -> bool {
        true
    }

    fn status(&self) -> Result<Value> {
        self.get("/status")
    }
}

impl AdminClient {
    fn list_releases(&self, limit: usize) -> Result<Vec<SignedText>> {
        let list: ReleaseList = self.get(&format!("/releases?limit={limit}"))?;
        let releases = list.releases.into_iter();
        Ok(releases
            .map(|ReleaseInfo { text, signature, .. }| SignedText { text, signature })
            .collect())
    }
}

/// Checks a URL, and returns whether its host is this machine.
fn check_url(url: &str) -> Result<bool> {
    let url_error = |problem: &str| Error::Io(format!("the URL {problem}"));
    let uri: Uri = url.parse().map_err(|_| {
        url_error("is not readable: expected an address such as https://api.example.com")
    })?;
    let host = uri.host().unwrap_or_default();
    let is_loopback = matches!(host, "127.0.0.1" | "[::1]" | "::1" | "localhost");
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_loopback => {}
        Some("http") => {
            return Err(url_error(
                "would send the token unencrypted: expected https:// (http:// is for 127.0.0.1, \
                 ::1 and localhost)",
            ));
        }
        _ => {
            return Err(url_error(
                "has another scheme: expected https://, as in https://api.example.com",
            ));
        }
    }
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err(url_error("has a user name: expected the address alone; remove it"));
    }
    if uri.query().is_some() {
        return Err(url_error("has a query: expected the address alone; remove it"));
    }
    Ok(is_loopback)
}

/// Returns the error for an answer with a status other than 2xx.
fn response_error(request_line: &str, status: u16, text: &str) -> Error {
    let details = serde_json::from_str::<ErrorBody>(text).ok().map(|problem| problem.error);
    let code = details.as_ref().map_or("", |details| details.code.as_str());
    let description = details.as_ref().map_or_else(String::new, describe);
    match (status, code) {
        (409, "serial") => serial_conflict(details.and_then(|details| details.serial)),
        (409 | 413 | 422, _) if details.is_some() => {
            Error::Rejected(format!("{request_line}: {description}"))
        }
        (404, "unknown_bundle" | "not_found") if request_line.contains("/bundles/") => {
            Error::Rejected(format!("{request_line}: the registry has no such bundle; push it"))
        }
        // A `not_found` error without a remedy means an unknown path, which the last arm handles.
        (404, "not_found")
            if details.as_ref().is_some_and(|details| !details.remedy.is_empty()) =>
        {
            Error::Rejected(format!("{request_line}: {description}"))
        }
        _ => Error::Io(format!("{request_line}: {}", explain_status(status, &description))),
    }
}

/// Returns the problem and the remedy for a status. `description` is the API's description of the
/// error; it may be empty.
fn explain_status(status: u16, description: &str) -> String {
    match status {
        300..=399 => format!(
            "the answer is a redirect ({status}): expected the final address, because the token is \
             not sent elsewhere; give the URL that it leads to"
        ),
        401 => "the token was refused: expected the ADMIN_TOKEN of the deployment (or READ_TOKEN, \
                to read only); correct the token file or HEDGEROW_TOKEN"
            .to_owned(),
        403 => format!("{description}; correct the token file or HEDGEROW_TOKEN"),
        404 => format!(
            "the admin API is off (404): ADMIN_TOKEN is not set in the deployment, or the URL is \
             wrong; run `wrangler secret put ADMIN_TOKEN` (at least {MIN_TOKEN_LEN} characters), \
             or correct the URL"
        ),
        429 => {
            "too many wrong tokens in the last minute (429); correct the token, and try again in \
                a minute"
                .to_owned()
        }
        _ if description.is_empty() => format!(
            "the answer has status {status}; try again, and read the log of the Worker if it \
             persists"
        ),
        _ => format!("{description} ({status})"),
    }
}

/// Returns the message and the remedy of an API error in one line.
fn describe(details: &ErrorDetails) -> String {
    let ErrorDetails { code, message, remedy, .. } = details;
    let message = if message.is_empty() { code } else { message };
    if remedy.is_empty() { message.clone() } else { format!("{message}; {remedy}") }
}

/// Returns the error for a request that got no complete HTTP answer.
fn transport_error(request_line: &str, error: &ureq::Error) -> Error {
    let check_url = "check that the URL is that of a Hedgerow Worker";
    let (problem, remedy) = match error {
        ureq::Error::HostNotFound => ("the host does not exist".to_owned(), "correct the URL"),
        ureq::Error::Timeout(timeout) => (
            format!("no answer in time ({timeout})"),
            "try again, and check that the deployment exists",
        ),
        ureq::Error::BodyExceedsLimit(limit) => {
            (format!("the answer is larger than {} MiB", limit >> 20), check_url)
        }
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => (
            "the connection was refused".to_owned(),
            "correct the URL, or start the Worker (`npm start`)",
        ),
        ureq::Error::Protocol(_) => ("the answer is not HTTP".to_owned(), check_url),
        error => (error.to_string(), "try again; if it persists, check the network"),
    };
    Error::Io(format!("{request_line}: {problem}; {remedy}"))
}

/// Minimum number of characters of a token. The deployment ignores shorter tokens.
const MIN_TOKEN_LEN: usize = 20;

/// Maximum bytes of an answer. The largest answer is a bundle in a JSON string, in which each quote
/// of the bundle is escaped.
const MAX_RESPONSE_BYTES: u64 = 16 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
