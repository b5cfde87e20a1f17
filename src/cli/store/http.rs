//! A deployment's registry, over its admin API.

use std::time::Duration;

use hedgerow::ruleset::Diff;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use ureq::Agent;
use ureq::http::{Request, Uri};

use super::{Entry, Kind, Published, Signed, Store, conflict};
use crate::cli::{Failure, Result};

/// The token. It is shown to the deployment, and to nobody else: it has no `Debug`, and what a
/// server says is printed without it.
pub struct Token(String);

impl Token {
    /// A token from a file or the environment.
    pub fn new(text: &str, from: &str) -> Result<Self> {
        let token = text.trim();
        if token.len() < LEAST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::Unable(format!(
                "{from}: this is no token: at least {LEAST} letters, digits or signs, without \
                 spaces; `openssl rand -hex 32` makes one"
            )));
        }
        Ok(Self(token.to_owned()))
    }
}

/// A deployment.
pub struct Http {
    agent: Agent,
    url: String,
    token: Token,
}

/// What went wrong, as the API says it.
#[derive(Deserialize)]
struct Problem {
    error: Details,
}

#[derive(Deserialize)]
struct Details {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    remedy: String,
    serial: Option<u64>,
}

impl Http {
    /// A deployment at an address. Only a loopback address may be without TLS.
    pub fn new(url: &str, token: Token) -> Result<Self> {
        let refused = |problem: &str| {
            Failure::Unable(format!("the url {problem}, such as https://api.example.com"))
        };
        let uri: Uri = url.parse().map_err(|_| refused("is none; give an address"))?;
        let host = uri.host().unwrap_or_default();
        let is_loopback = matches!(host, "127.0.0.1" | "[::1]" | "::1" | "localhost");
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if is_loopback => {}
            Some("http") => {
                return Err(refused(
                    "would send the token unencrypted; give https:// (http:// is for 127.0.0.1, \
                     ::1 and localhost)",
                ));
            }
            _ => return Err(refused("has no https://; give the whole address")),
        }
        if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return Err(refused("has a user name in it; give it without"));
        }
        if uri.query().is_some() {
            return Err(refused("has a query; give it without"));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could take the token elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(WHOLE))
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
        let what = format!("{method} {}{path}", self.url);
        let (status, text) =
            self.send(method, path, body).map_err(|error| failed(&what, &error))?;
        let text = text.replace(&self.token.0, "[token]");
        if !(200..300).contains(&status) {
            return Err(refusal(&what, status, &text));
        }
        // Where all members may be missing, an array would do for an object.
        let is_object = text.trim_start().starts_with('{');
        let answer = serde_json::from_str(&text).ok().filter(|_| is_object);
        answer.ok_or_else(|| {
            Failure::Unable(format!(
                "{what}: the answer is not what this version expects; is this a Worker of Hedgerow, \
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
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string())?)
            }
            None => self.agent.run(request.body(())?),
        };
        let mut answer = answer?;
        let text = answer.body_mut().with_config().limit(MOST).lossy_utf8(true).read_to_string()?;
        Ok((answer.status().as_u16(), text))
    }
}

impl Store for Http {
    fn bundles(&self) -> Result<Vec<Entry>> {
        #[derive(Deserialize)]
        struct Answer {
            bundles: Vec<Entry>,
        }
        Ok(self.get::<Answer>("/bundles")?.bundles)
    }

    fn bundle(&self, digest: &str) -> Result<Signed> {
        self.get(&format!("/bundles/{digest}"))
    }

    fn upload(&self, digest: &str, bundle: &Signed) -> Result<()> {
        let body = json!({ "bundle": bundle.text, "signature": bundle.signature });
        self.call::<Value>("PUT", &format!("/bundles/{digest}"), Some(body)).map(drop)
    }

    fn releases(&self) -> Result<Vec<Signed>> {
        self.list(100)
    }

    fn current(&self) -> Result<Option<Signed>> {
        Ok(self.list(1)?.into_iter().next())
    }

    fn publish(&self, kind: Kind, _: u64, release: &Signed) -> Result<Published> {
        let path = match kind {
            Kind::Release => "/releases",
            Kind::Promote => "/promote",
            Kind::Rollback => "/rollback",
        };
        let body = json!({ "release": release.text, "signature": release.signature });
        self.call("POST", path, Some(body))
    }

    fn diff(&self, from: &str, to: &str) -> Result<Diff> {
        self.get(&format!("/diff?from={from}&to={to}"))
    }

    fn http(&self) -> Option<&Http> {
        Some(self)
    }
}

impl Http {
    fn list(&self, limit: usize) -> Result<Vec<Signed>> {
        #[derive(Deserialize)]
        struct Answer {
            releases: Vec<Signed>,
        }
        Ok(self.get::<Answer>(&format!("/releases?limit={limit}"))?.releases)
    }
}

/// An answer that is none of success: what was tried, what happened, what to do.
fn refusal(what: &str, status: u16, text: &str) -> Failure {
    let details = serde_json::from_str::<Problem>(text).ok().map(|problem| problem.error);
    let code = details.as_ref().map_or("", |details| details.code.as_str());
    let said = details.as_ref().map_or_else(String::new, said);
    match (status, code) {
        (409, "serial") => conflict(details.and_then(|details| details.serial)),
        (409 | 413 | 422, _) if details.is_some() => Failure::Refused(format!("{what}: {said}")),
        (404, "unknown_bundle" | "not_found") if what.contains("/bundles/") => {
            Failure::Refused(format!("{what}: the registry has no such bundle; push it"))
        }
        // An unknown path has no remedy to offer.
        (404, "not_found") if details.as_ref().is_some_and(|own| !own.remedy.is_empty()) => {
            Failure::Refused(format!("{what}: {said}"))
        }
        (300..=399, _) => Failure::Unable(format!(
            "{what}: the answer is a redirect ({status}), and the token is sent nowhere else; give \
             the address that it leads to"
        )),
        (401, _) => Failure::Unable(format!(
            "{what}: the token was refused; give the deployment's ADMIN_TOKEN (READ_TOKEN, where \
             nothing is to be published) in the token file or HEDGEROW_TOKEN"
        )),
        (403, _) => Failure::Unable(format!(
            "{what}: the token may only read; give the deployment's ADMIN_TOKEN"
        )),
        (404, _) => Failure::Unable(format!(
            "{what}: there is no admin API (404); ADMIN_TOKEN is not set in the deployment (`wrangler \
             secret put ADMIN_TOKEN`, at least {LEAST} characters), or the url is another's"
        )),
        (429, _) => Failure::Unable(format!(
            "{what}: too many wrong tokens of late (429); correct the token, and try in a minute"
        )),
        _ if said.is_empty() => Failure::Unable(format!(
            "{what}: the answer is {status}; try again, and look at the Worker's log if that stays so"
        )),
        _ => Failure::Unable(format!("{what}: {said} ({status})")),
    }
}

fn said(details: &Details) -> String {
    let Details { code, message, remedy, .. } = details;
    let message = if message.is_empty() { code } else { message };
    match remedy.is_empty() {
        true => message.clone(),
        false => format!("{message}; {remedy}"),
    }
}

/// No answer at all.
fn failed(what: &str, error: &ureq::Error) -> Failure {
    let (problem, remedy) = match error {
        ureq::Error::HostNotFound => ("there is no such host".to_owned(), "correct the url"),
        ureq::Error::Timeout(timeout) => {
            (format!("no answer in time ({timeout})"), "try again; is the deployment there?")
        }
        ureq::Error::BodyExceedsLimit(most) => (
            format!("the answer is larger than {} MiB", most >> 20),
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
    Failure::Unable(format!("{what}: {problem}; {remedy}"))
}

/// Characters of a token, at least: the deployment takes none that are shorter.
const LEAST: usize = 20;

/// Bytes of an answer, at most: a bundle within JSON, each of its quotes escaped.
const MOST: u64 = 16 << 20;

const CONNECT: Duration = Duration::from_secs(10);
const WHOLE: Duration = Duration::from_secs(60);
