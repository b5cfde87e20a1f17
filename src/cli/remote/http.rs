//! A deployment's registry, over its admin API.

use std::time::Duration;

use hedgerow_core::ruleset::Diff;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Request, Uri};

use super::store::{
    BundleInfo, PublishResult, ReleaseKind, ReleaseStore, SignedText, serial_conflict,
};
use crate::{Error, Result};

/// The token. It is shown to the deployment, and to nobody else: it has no `Debug`, and what a
/// server says is printed without it.
pub struct Token(String);

impl Token {
    /// A token from a file or the environment.
    pub fn new(text: &str, source: &str) -> Result<Self> {
        let token = text.trim();
        if token.len() < MIN_TOKEN_LEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::Io(format!(
                "{source}: this is no token: at least {MIN_TOKEN_LEN} letters, digits or signs, without \
                 spaces; `openssl rand -hex 32` makes one"
            )));
        }
        Ok(Self(token.to_owned()))
    }
}

/// A deployment.
pub struct AdminClient {
    agent: Agent,
    url: String,
    token: Token,
}

/// What went wrong, as the API says it.
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorDetails,
}

#[derive(Deserialize)]
struct ErrorDetails {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    remedy: String,
    serial: Option<u64>,
}

impl AdminClient {
    /// A deployment at an address. Only a loopback address may be without TLS.
    pub fn new(url: &str, token: Token) -> Result<Self> {
        let url_error = |problem: &str| {
            Error::Io(format!("the url {problem}, such as https://api.example.com"))
        };
        let uri: Uri = url.parse().map_err(|_| url_error("is none; give an address"))?;
        let host = uri.host().unwrap_or_default();
        let is_loopback = matches!(host, "127.0.0.1" | "[::1]" | "::1" | "localhost");
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback => {}
            Some("http") => {
                return Err(url_error(
                    "would send the token unencrypted; give https:// (http:// is for 127.0.0.1, \
                     ::1 and localhost)",
                ));
            }
            _ => return Err(url_error("has no https://; give the whole address")),
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(url_error("has a user name in it; give it without"));
        }
        if uri.query().is_some() {
            return Err(url_error("has a query; give it without"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could take the token elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(TOTAL_TIMEOUT))
            .user_agent(concat!("hedgerow/", env!("CARGO_PKG_VERSION")));
        let config = if is_loopback { config.proxy(None) } else { config };
        let url = format!("{}/_hedgerow/v1", url.trim_end_matches('/'));
        Ok(Self { agent: config.build().into(), url, token })
    }

    /// Asks for something.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call("GET", path, None)
    }

    /// Sends something.
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
        // Where all members may be missing, an array would do for an object.
        let is_object = text.trim_start().starts_with('{');
        let response = serde_json::from_str(&text).ok().filter(|_| is_object);
        response.ok_or_else(|| {
            Error::Io(format!(
                "{request_line}: the answer is not what this version expects; is this a Worker of Hedgerow, \
                 of the version {}?",
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
        #[derive(Deserialize)]
        struct BundlesResponse {
            bundles: Vec<BundleInfo>,
        }
        Ok(self.get::<BundlesResponse>("/bundles")?.bundles)
    }

    fn bundle(&self, digest: &str) -> Result<SignedText> {
        self.get(&format!("/bundles/{digest}"))
    }

    fn upload(&self, digest: &str, bundle: &SignedText) -> Result<()> {
        let body = json!({ "bundle": bundle.text, "signature": bundle.signature });
        self.call::<Value>("PUT", &format!("/bundles/{digest}"), Some(body)).map(drop)
    }

    fn releases(&self) -> Result<Vec<SignedText>> {
        self.list_releases(100)
    }

    fn current_release(&self) -> Result<Option<SignedText>> {
        Ok(self.list_releases(1)?.into_iter().next())
    }

    fn publish(&self, kind: ReleaseKind, _: u64, release: &SignedText) -> Result<PublishResult> {
        let path = match kind {
            ReleaseKind::Release => "/releases",
            ReleaseKind::Promote => "/promote",
            ReleaseKind::Rollback => "/rollback",
        };
        let body = json!({ "release": release.text, "signature": release.signature });
        self.call("POST", path, Some(body))
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
        #[derive(Deserialize)]
        struct ReleasesResponse {
            releases: Vec<SignedText>,
        }
        Ok(self.get::<ReleasesResponse>(&format!("/releases?limit={limit}"))?.releases)
    }
}

/// An answer that is none of success: what was tried, what happened, what to do.
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
        // An unknown path has no remedy to offer.
        (404, "not_found")
            if details.as_ref().is_some_and(|details| !details.remedy.is_empty()) =>
        {
            Error::Rejected(format!("{request_line}: {description}"))
        }
        (300..=399, _) => Error::Io(format!(
            "{request_line}: the answer is a redirect ({status}), and the token is sent nowhere else; give \
             the address that it leads to"
        )),
        (401, _) => Error::Io(format!(
            "{request_line}: the token was refused; give the deployment's ADMIN_TOKEN (READ_TOKEN, where \
             nothing is to be published) in the token file or HEDGEROW_TOKEN"
        )),
        (403, _) => Error::Io(format!(
            "{request_line}: the token may only read; give the deployment's ADMIN_TOKEN"
        )),
        (404, _) => Error::Io(format!(
            "{request_line}: there is no admin API (404); ADMIN_TOKEN is not set in the deployment (`wrangler \
             secret put ADMIN_TOKEN`, at least {MIN_TOKEN_LEN} characters), or the url is another's"
        )),
        (429, _) => Error::Io(format!(
            "{request_line}: too many wrong tokens of late (429); correct the token, and try in a minute"
        )),
        _ if description.is_empty() => Error::Io(format!(
            "{request_line}: the answer is {status}; try again, and look at the Worker's log if that stays so"
        )),
        _ => Error::Io(format!("{request_line}: {description} ({status})")),
    }
}

fn describe(details: &ErrorDetails) -> String {
    let ErrorDetails { code, message, remedy, .. } = details;
    let message = if message.is_empty() { code } else { message };
    match remedy.is_empty() {
        true => message.clone(),
        false => format!("{message}; {remedy}"),
    }
}

/// No answer at all.
fn transport_error(request_line: &str, error: &ureq::Error) -> Error {
    let (problem, remedy) = match error {
        ureq::Error::HostNotFound => ("there is no such host".to_owned(), "correct the url"),
        ureq::Error::Timeout(timeout) => {
            (format!("no answer in time ({timeout})"), "try again; is the deployment there?")
        }
        ureq::Error::BodyExceedsLimit(limit) => (
            format!("the answer is larger than {} MiB", limit >> 20),
            "is this a Worker of Hedgerow?",
        ),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            ("nobody listens there".to_owned(), "correct the url, or start it (`npm start`)")
        }
        ureq::Error::Protocol(_) => {
            ("the answer is no HTTP".to_owned(), "is this a Worker of Hedgerow?")
        }
        error => (error.to_string(), "try again; if it stays so, look at the network between"),
    };
    Error::Io(format!("{request_line}: {problem}; {remedy}"))
}

/// Characters of a token, at least: the deployment takes none that are shorter.
const MIN_TOKEN_LEN: usize = 20;

/// Bytes of an answer, at most: a bundle within JSON, each of its quotes escaped.
const MAX_RESPONSE_BYTES: u64 = 16 << 20;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
