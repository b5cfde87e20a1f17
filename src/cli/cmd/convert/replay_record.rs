//! The form of recorded requests that `hedgerow replay` reads (docs/replay.md).

use std::sync::LazyLock;

use hedgerow_core::identity::principal::{Principal, SenderEvidence};
use hedgerow_core::rules::policy::Policy;
use serde::Serialize;
use serde_json::Value;

use super::secrets::{hash, is_credential_header, is_secret, remove_credentials};

/// The result of converting a line of a log.
pub enum Converted {
    /// A request.
    Request(Box<ReplayRecord>),
    /// The line is not a request to a model, for this reason.
    Skipped(String),
    /// The problems of the line, one a line of text.
    Problems(String),
}

/// A recorded request.
#[derive(Default, Serialize)]
pub struct ReplayRecord {
    /// Time in seconds since the epoch.
    #[serde(rename = "t", skip_serializing_if = "Option::is_none")]
    pub time: Option<f64>,
    pub method: String,
    /// Path; before [`ReplayRecord::finish`], also a URL or a path with a query.
    pub path: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<&'static str>,
}

impl ReplayRecord {
    /// Adds a header, with its name in lower case.
    pub fn add_header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }

    /// Sets the body to a text. Text that is a JSON object becomes this object.
    pub fn set_body_text(&mut self, text: &str) {
        let object = serde_json::from_str(text).ok().filter(Value::is_object);
        self.body = Some(object.unwrap_or_else(|| Value::from(text)));
    }

    /// Marks the body as unknown, unless the record has a body or the method needs none.
    pub fn mark_missing_body(&mut self) {
        let needs_body = !matches!(self.method.as_str(), "GET" | "HEAD" | "OPTIONS" | "DELETE");
        if self.body.is_none() && needs_body {
            self.unknown.push("body");
        }
    }

    /// Completes the record: splits off host and query, names the account, and removes credentials.
    pub fn finish(mut self) -> Converted {
        let (host, target) = split_url(&self.path);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let (host, path, query) = (host.map(str::to_owned), path.to_owned(), query.to_owned());
        if let Some(host) = host
            && !self.headers.iter().any(|(name, _)| name == "host" || name == ":authority")
        {
            self.add_header("host", &host);
        }
        self.account = match self.account.take() {
            Some(account) if is_secret(&account) => Some(hash(&account)),
            Some(account) => Some(account),
            None => account_of(&self.headers, &path, &query),
        };
        self.tenant = self.tenant.take().map(|tenant| match is_secret(&tenant) {
            true => hash(&tenant),
            false => tenant,
        });
        self.path = path;
        for (name, value) in &mut self.headers {
            if is_credential_header(name) {
                *value = "removed".to_owned();
            }
        }
        if let Some(body) = &mut self.body {
            remove_credentials(body);
        }
        Converted::Request(Box::new(self))
    }
}

/// Returns the hash of the account that the credentials of a request name; `None` if the request
/// has no credential. The account is found as the Worker does without settings.
fn account_of(headers: &[(String, String)], path: &str, query: &str) -> Option<String> {
    static POLICY: LazyLock<Policy> = LazyLock::new(Policy::default);
    let dialect = POLICY.endpoint(path).dialect();
    let evidence =
        SenderEvidence { headers, path, query, dialect, certificate: None, is_trusted: true };
    let account = Principal::find(&evidence, &POLICY.identity).account?;
    Some(hash(&account.text))
}

/// Splits a URL into its host and its path with the query. A path has no host.
fn split_url(target: &str) -> (Option<&str>, &str) {
    let absolute = target.split_once("://").filter(|_| !target.starts_with('/'));
    let Some((_, rest)) = absolute else { return (None, target) };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // The user information before the host is a credential.
    let host = host.rsplit('@').next();
    (host, if path.is_empty() { "/" } else { path })
}
