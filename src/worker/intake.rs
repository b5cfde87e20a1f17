//! What came, without its body: method, target, headers, the client, the account.

use hedgerow::account;
use hedgerow::route::Dialect;
use hedgerow::{Client, Envelope};
use js_sys::{Array, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, Url, UrlSearchParams, WorkerGlobalScope};

use crate::{mac, tag};

/// A request as it came.
pub struct Arrival {
    /// The platform's request.
    pub request: Request,
    method: String,
    /// The path as `fetch` sends it: dot segments and backslashes are resolved.
    path: String,
    /// Path and query, as they came.
    target: String,
    /// Names in lower case; without those that only we may set.
    headers: Vec<(String, String)>,
    /// Headers under our own prefix: orders in development, forgeries otherwise.
    own: Vec<(String, String)>,
    source: Source,
}

/// What the edge knows of the client; all of it is missing in local development.
#[derive(Default)]
struct Source {
    address: Option<String>,
    as_number: Option<u32>,
    as_organization: Option<String>,
    country: Option<String>,
    http_version: Option<String>,
    tls_version: Option<String>,
    tls_fingerprint: Option<String>,
    colo: Option<String>,
}

impl Arrival {
    /// Reads a request's head.
    pub fn of(request: Request) -> Self {
        let (own, headers): (Vec<_>, Vec<_>) =
            head(&request).into_iter().partition(|(name, _)| tag::is_ours(name));
        let url = request.url();
        let target = target_of(&url).to_owned();
        let address = find(&headers, "cf-connecting-ip").map(str::to_owned);
        Self {
            method: request.method(),
            path: resolved(&url, &target),
            target,
            source: Source { address, ..Source::of(&request) },
            headers,
            own,
            request,
        }
    }

    /// The method.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The path as the origin will see it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Path and query, as they came.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of a header that is not ours.
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// The value of a header under our own prefix: to be heeded in development only.
    pub fn order(&self, name: &str) -> Option<&str> {
        find(&self.own, name)
    }

    /// The names of the headers that must not reach the origin.
    pub fn forged(&self) -> impl Iterator<Item = &str> {
        self.own.iter().map(|(name, _)| name.as_str())
    }

    /// The body's length, where it is known beforehand.
    pub fn declared(&self) -> Option<u64> {
        match self.header("transfer-encoding") {
            None => self.header("content-length")?.trim().parse().ok(),
            Some(_) => None,
        }
    }

    /// Whom the request is billed to: a keyed hash of the credential, never the credential.
    pub fn account(&self, secret: &str, dialect: Dialect) -> Option<String> {
        let header = |name: &str| self.header(name);
        let credential = account::credential(dialect, header, || self.query_key())?;
        mac::hex(secret, credential.as_bytes(), account::BYTES)
    }

    /// The data centre that the request came to.
    pub fn colo(&self) -> &str {
        self.source.colo.as_deref().unwrap_or("local")
    }

    /// The request for the core, yet without its body.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope {
            method: &self.method,
            path: self.path(),
            headers: &self.headers,
            client: self.source.client(),
            ..Envelope::default()
        }
    }

    fn query_key(&self) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        // Parsed like the origin does: `%6Bey=` is `key=`.
        let parameters = UrlSearchParams::new_with_str(query).ok()?;
        parameters.get("key").filter(|key| !key.is_empty())
    }
}

impl Source {
    fn of(request: &Request) -> Self {
        let Ok(cf) = Reflect::get(request, &JsValue::from_str("cf")) else {
            return Self::default();
        };
        if !cf.is_object() {
            return Self::default();
        }
        let value =
            |name: &str| Reflect::get(&cf, &JsValue::from_str(name)).unwrap_or(JsValue::UNDEFINED);
        let text = |name: &str| value(name).as_string().filter(|text| !text.is_empty());
        Self {
            address: None,
            as_number: value("asn").as_f64().map(|number| number as u32),
            as_organization: text("asOrganization"),
            country: text("country"),
            http_version: text("httpProtocol").map(|text| bare_version(&text, "HTTP/")),
            tls_version: text("tlsVersion").map(|text| bare_version(&text, "TLSv")),
            colo: text("colo"),
            tls_fingerprint: fingerprint(
                text("tlsClientCiphersSha1"),
                text("tlsClientExtensionsSha1"),
                text("tlsClientHelloLength"),
            ),
        }
    }

    fn client(&self) -> Client<'_> {
        Client {
            address: self.address.as_deref(),
            as_number: self.as_number,
            as_organization: self.as_organization.as_deref(),
            country: self.country.as_deref(),
            http_version: self.http_version.as_deref(),
            tls_version: self.tls_version.as_deref(),
            tls_fingerprint: self.tls_fingerprint.as_deref(),
        }
    }
}

/// A name for a request that nobody can guess.
pub fn request_id() -> String {
    let global: WorkerGlobalScope = js_sys::global().unchecked_into();
    // Where the platform had no `crypto`, nothing else would work either.
    global.crypto().map(|crypto| crypto.random_uuid()).unwrap_or_default()
}

/// All headers in one go: three calls into JavaScript instead of three a header. A line end cannot
/// occur in names or values.
fn head(request: &Request) -> Vec<(String, String)> {
    let joined = String::from(Array::from(&request.headers()).flat(1).join("\n"));
    let mut parts = joined.split('\n');
    let pair = || Some((parts.next()?.to_owned(), parts.next()?.to_owned()));
    std::iter::from_fn(pair).collect()
}

fn find<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}

/// Path and query of an absolute URL, not normalised: the origin gets what the client sent.
fn target_of(url: &str) -> &str {
    let authority = url.find("://").map_or(0, |at| at.saturating_add(3));
    let rest = url.get(authority..).unwrap_or_default();
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/")
}

/// A target's path as `fetch` sends it.
fn resolved(url: &str, target: &str) -> String {
    let path = path_of(target);
    match is_plain(url, target, path) {
        true => path.to_owned(),
        false => Url::new(url).map_or_else(|_| path.to_owned(), |url| url.pathname()),
    }
}

/// Whether `fetch` would send a path as it is, as most are: behind a host, and without anything to resolve.
fn is_plain(url: &str, target: &str, path: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_:.".contains(&byte);
    let base = url.strip_suffix(target).and_then(|base| base.split_once("://"));
    let is_host = base.is_some_and(|(_, host)| !host.is_empty() && host.bytes().all(is_plain));
    is_host && path.bytes().all(is_plain) && !path.contains("/.")
}

/// A target's path, as it came.
fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

/// `1.1`, `2`, `1.3`: how OpenTelemetry and ECS write versions.
fn bare_version(text: &str, prefix: &str) -> String {
    text.strip_prefix(prefix).unwrap_or(text).to_owned()
}

/// A fingerprint that every plan gets (JA4 needs Bot Management): ciphers, extensions and length of
/// the TLS client hello.
fn fingerprint(
    ciphers: Option<String>,
    extensions: Option<String>,
    length: Option<String>,
) -> Option<String> {
    Some([ciphers?, extensions?, length?].join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_as_they_came() {
        let rows = [
            ("https://h/v1/a%2Fb?x=%zz", "/v1/a%2Fb?x=%zz"),
            ("http://h:1//a/../b", "//a/../b"),
            ("https://h", "/"),
            ("https://h/?url=http://x/y", "/?url=http://x/y"),
            ("nonsense", "/"),
        ];
        for (url, expected) in rows {
            assert_eq!(target_of(url), expected, "{url}");
        }
    }

    #[test]
    fn what_may_have_to_be_resolved_is_no_plain_path() {
        let rows = [
            ("https://h/v1/chat/completions", true),
            ("https://h:8787/v1beta/models/gemini-1.5-pro:generateContent?key=x", true),
            ("https://h/", true),
            ("https://h//v1/a.b", true),
            ("https://h", false),
            ("https://h/v1/../v1/chat", false),
            ("https://h/v1/./chat", false),
            ("https://h/v1/%2e%2e/chat", false),
            ("https://h/v1\\chat", false),
            ("https://h\\v1\\chat", false),
            ("https://h?x=/v1/messages", false),
            ("https://h#/v1/messages", false),
            ("https:///v1/messages", false),
            ("https://h/v1/\u{e9}", false),
        ];
        for (url, expected) in rows {
            let target = target_of(url);
            assert_eq!(is_plain(url, target, path_of(target)), expected, "{url}");
        }
    }
}
