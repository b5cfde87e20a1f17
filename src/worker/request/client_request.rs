//! The head of a client's request: method, target, headers and client.

use hedgerow_core::http::route::Dialect;
use hedgerow_core::http::websocket;
use hedgerow_core::identity::principal::{ClientCertificate, SenderEvidence};
use hedgerow_core::identity::query::parameters;
use hedgerow_core::{Client, Envelope};
use js_sys::{Array, Reflect};
use wasm_bindgen::{JsCast, JsValue};
use web_sys::{Request, Url, WorkerGlobalScope};

use crate::platform::clock::now_ms;
use crate::platform::settings::host_of;
use crate::request::tag;

/// A client's request, parsed without its body.
#[derive(Clone)]
pub struct ClientRequest {
    /// The platform's request, unchanged.
    pub raw: Request,
    method: String,
    /// Host in the URL, with its port; empty if the URL has none.
    host: String,
    /// Path as `fetch` sends it, with dot segments and backslashes resolved.
    path: String,
    /// Path and query, as the client sent them.
    target: String,
    /// Headers except reserved headers; names are in lower case.
    headers: Vec<(String, String)>,
    /// Headers with the prefix `x-hedgerow`. In development, they override settings; otherwise,
    /// they are forged.
    reserved_headers: Vec<(String, String)>,
    edge: EdgeMetadata,
    /// Model in the query of a WebSocket's handshake.
    model: Option<String>,
}

/// Metadata of the client, from `request.cf` and the header `cf-connecting-ip`. Local development
/// has none of it.
#[derive(Clone, Default)]
struct EdgeMetadata {
    /// IP address, as text.
    address: Option<String>,
    as_number: Option<u32>,
    as_organization: Option<String>,
    /// ISO 3166-1 alpha-2, in upper case.
    country: Option<String>,
    /// Version without the protocol's name: `1.1`, `2`.
    http_version: Option<String>,
    /// Version without the protocol's name: `1.3`.
    tls_version: Option<String>,
    tls_fingerprint: Option<String>,
    /// The client certificate, if Cloudflare has verified one.
    certificate: Option<Certificate>,
    /// IATA code of the data centre.
    colo: Option<String>,
}

/// A client certificate.
#[derive(Clone)]
struct Certificate {
    /// SHA-256 of the certificate, in hex.
    fingerprint: String,
    /// Distinguished name of the issuer; empty if the platform does not provide it.
    issuer: String,
    /// Distinguished name of the subject; empty if the platform does not provide it.
    subject: String,
}

impl ClientRequest {
    /// Parses the head of a request.
    pub fn new(request: Request) -> Self {
        let (reserved_headers, headers): (Vec<_>, Vec<_>) =
            read_headers(&request).into_iter().partition(|(name, _)| tag::is_reserved(name));
        let url = request.url();
        let target = target_of(&url).to_owned();
        let address = find_header(&headers, "cf-connecting-ip").map(str::to_owned);
        Self {
            method: request.method(),
            host: host_of(&url).to_owned(),
            path: resolved_path(&url, &target),
            target,
            edge: EdgeMetadata { address, ..EdgeMetadata::from_request(&request) },
            headers,
            reserved_headers,
            model: None,
            raw: request,
        }
    }

    /// Returns the head that is used for each message of the WebSocket that this request opens. The
    /// head lacks the headers that describe a body. The model in the query is used for messages
    /// that do not name a model.
    pub fn head_of_messages(&self) -> Self {
        let mut head = self.clone();
        head.model = self.query_model();
        head.headers
            .retain(|(name, _)| !matches!(name.as_str(), "content-encoding" | "content-type"));
        head
    }

    /// Returns the model in the query, which handshakes of WebSockets have; `None` if the query
    /// names none, or if the name is too long.
    pub fn query_model(&self) -> Option<String> {
        // The parameter is `model` for OpenAI, and `deployment` for Azure.
        let model = self.query_parameter(&["model", "deployment"]);
        model.filter(|model| model.len() <= MAX_MODEL_BYTES)
    }

    /// Returns whether the request opens a WebSocket.
    pub fn is_websocket_handshake(&self) -> bool {
        websocket::is_handshake(&self.envelope())
    }

    /// Returns the HTTP method, as the client sent it.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the path as the origin will get it.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns path and query, as the client sent them.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Returns the value of a header that is not reserved. `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// Returns the value of a reserved header. Only a Worker in development may use it.
    pub fn override_header(&self, name: &str) -> Option<&str> {
        find_header(&self.reserved_headers, name)
    }

    /// Returns the names of the client's reserved headers, which must not reach the origin.
    pub fn reserved_header_names(&self) -> impl Iterator<Item = &str> {
        self.reserved_headers.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the length of the body in bytes; `None` if the client did not declare it, or sent
    /// the header `transfer-encoding`.
    pub fn content_length(&self) -> Option<u64> {
        if self.header("transfer-encoding").is_some() {
            return None;
        }
        self.header("content-length")?.trim().parse().ok()
    }

    /// Returns the parts of the request that can identify its sender.
    pub fn sender_evidence(&self, dialect: Dialect, is_trusted: bool) -> SenderEvidence<'_> {
        SenderEvidence {
            headers: &self.headers,
            path: self.path(),
            query: self.target.split_once('?').map_or("", |(_, query)| query),
            dialect,
            certificate: self.certificate(),
            is_trusted,
        }
    }

    /// Returns the client certificate, if Cloudflare has verified one.
    pub fn certificate(&self) -> Option<ClientCertificate<'_>> {
        let Certificate { fingerprint, issuer, subject } = self.edge.certificate.as_ref()?;
        Some(ClientCertificate { fingerprint, issuer, subject })
    }

    /// Returns the IATA code of the data centre that received the request; `local` in development.
    pub fn colo(&self) -> &str {
        self.edge.colo.as_deref().unwrap_or("local")
    }

    /// Returns the core's view of the request, without its body.
    pub fn envelope(&self) -> Envelope<'_> {
        Envelope {
            method: &self.method,
            host: Some(self.host.as_str()).filter(|host| !host.is_empty()),
            path: self.path(),
            headers: &self.headers,
            client: self.edge.client(),
            model: self.model.as_deref(),
            ..Envelope::default()
        }
    }

    /// Returns the value of the first query parameter in `names` that has a value; `None` if all of
    /// them are missing or empty.
    fn query_parameter(&self, names: &[&str]) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        names.iter().find_map(|name| {
            let mut values = parameters(query).filter(|(other, _)| other == name);
            values.find(|(_, value)| !value.is_empty()).map(|(_, value)| value.into_owned())
        })
    }
}

impl EdgeMetadata {
    /// Reads `request.cf`, which does not contain the client's address.
    fn from_request(request: &Request) -> Self {
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
            certificate: certificate(&value("tlsClientAuth")),
            as_number: value("asn").as_f64().map(|number| number as u32),
            as_organization: text("asOrganization"),
            country: text("country"),
            http_version: text("httpProtocol").map(|text| strip_prefix(&text, "HTTP/")),
            tls_version: text("tlsVersion").map(|text| strip_prefix(&text, "TLSv")),
            colo: text("colo"),
            tls_fingerprint: tls_fingerprint(
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

/// Returns the certificate in `request.cf.tlsClientAuth`, if it is verified and not revoked.
fn certificate(auth: &JsValue) -> Option<Certificate> {
    if !auth.is_object() {
        return None;
    }
    let text = |name: &str| Reflect::get(auth, &JsValue::from_str(name)).ok()?.as_string();
    let is_verified = text("certPresented")? == "1" && text("certVerified")? == "SUCCESS";
    let is_revoked = text("certRevoked").is_some_and(|revoked| revoked == "1");
    (is_verified && !is_revoked).then_some(())?;
    Some(Certificate {
        fingerprint: text("certFingerprintSHA256").filter(|text| !text.is_empty())?,
        issuer: text("certIssuerDN").unwrap_or_default(),
        subject: text("certSubjectDN").unwrap_or_default(),
    })
}

/// Returns a new UUID of version 7. It begins with the time, so that the ledger finds the decision
/// by its id.
pub fn new_request_id() -> String {
    let global: WorkerGlobalScope = js_sys::global().unchecked_into();
    // The platform always has `crypto`.
    let random = global.crypto().map(|crypto| crypto.random_uuid()).unwrap_or_default();
    uuid_v7(&random, now_ms() as u64).unwrap_or(random)
}

/// Returns the UUID of version 7 with the time `now`, in milliseconds since the epoch, and the 74
/// random bits of `random`, a UUID of version 4. Returns `None` if `random` is not a UUID.
fn uuid_v7(random: &str, now: u64) -> Option<String> {
    let time = format!("{:012x}", now & 0xffff_ffff_ffff);
    // A UUID of version 4 has its version at position 14, and random bits after it.
    Some(format!("{}-{}-7{}", time.get(..8)?, time.get(8..)?, random.get(15..)?))
}

/// Returns all headers. The headers are first joined with line feeds, which neither names nor
/// values can contain: this takes three calls into JavaScript in total instead of three per header.
fn read_headers(request: &Request) -> Vec<(String, String)> {
    let joined = String::from(Array::from(&request.headers()).flat(1).join("\n"));
    let mut parts = joined.split('\n');
    let next_pair = || Some((parts.next()?.to_owned(), parts.next()?.to_owned()));
    std::iter::from_fn(next_pair).collect()
}

/// Returns the value of a header. `name` is in lower case. The platform has already joined repeated
/// headers.
fn find_header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(candidate, _)| candidate == name).map(|(_, value)| value.as_str())
}

/// Returns path and query of an absolute URL, without normalising them, because the origin must get
/// them unchanged. Returns `/` if the URL has no path.
fn target_of(url: &str) -> &str {
    let authority_start = url.find("://").map_or(0, |position| position.saturating_add(3));
    let after_scheme = url.get(authority_start..).unwrap_or_default();
    after_scheme.find('/').and_then(|position| after_scheme.get(position..)).unwrap_or("/")
}

/// Returns a target's path as `fetch` sends it.
fn resolved_path(url: &str, target: &str) -> String {
    let path = path_of(target);
    if is_normalized_path(url, target, path) {
        return path.to_owned();
    }
    Url::new(url).map_or_else(|_| path.to_owned(), |url| url.pathname())
}

/// Returns whether `fetch` certainly sends a path unchanged: the path follows a host, and contains
/// neither a dot segment nor a character that may need escaping. This is true for most paths, so
/// that they need no URL parser.
fn is_normalized_path(url: &str, target: &str, path: &str) -> bool {
    let is_plain_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_:.".contains(&byte);
    let scheme_and_host = url.strip_suffix(target).and_then(|base| base.split_once("://"));
    let has_host = scheme_and_host
        .is_some_and(|(_, host)| !host.is_empty() && host.bytes().all(is_plain_byte));
    has_host && path.bytes().all(is_plain_byte) && !path.contains("/.")
}

/// Returns a target's path, as the client sent it.
fn path_of(target: &str) -> &str {
    target.split(['?', '#']).next().unwrap_or_default()
}

/// Returns a protocol version without its name, as OpenTelemetry and ECS write it: `1.1`, `2`.
fn strip_prefix(text: &str, prefix: &str) -> String {
    text.strip_prefix(prefix).unwrap_or(text).to_owned()
}

/// Returns a fingerprint of the TLS client hello: ciphers, extensions and length. All plans of
/// Cloudflare provide these values, whereas JA4 needs Bot Management. Returns `None` if a value is
/// missing.
fn tls_fingerprint(
    ciphers: Option<String>,
    extensions: Option<String>,
    length: Option<String>,
) -> Option<String> {
    Some([ciphers?, extensions?, length?].join("-"))
}

/// Maximum bytes of the name of a model. The core ignores longer names in bodies, too.
const MAX_MODEL_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_begin_with_the_time() {
        let id = uuid_v7("0d1c8a52-6e0b-4c9e-9d38-3f2f6a9c8b7a", 0x0199_1b2c_3d4e);
        assert_eq!(id.as_deref(), Some("01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a"));
        assert_eq!(uuid_v7("", 1), None);
    }

    #[test]
    fn targets_are_not_normalized() {
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
    fn the_host_ends_before_path_query_and_fragment() {
        let rows = [
            ("https://api.example.com/v1/messages", "api.example.com"),
            ("http://127.0.0.1:8787/v1?x=https://other/", "127.0.0.1:8787"),
            ("http://[::1]:8787", "[::1]:8787"),
            ("https://h?x=/v1", "h"),
            ("https://h#/v1", "h"),
            ("https://h\\v1", "h"),
            ("nonsense", ""),
        ];
        for (url, expected) in rows {
            assert_eq!(host_of(url), expected, "{url}");
        }
    }

    #[test]
    fn paths_that_need_normalization_are_detected() {
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
            assert_eq!(is_normalized_path(url, target, path_of(target)), expected, "{url}");
        }
    }
}
