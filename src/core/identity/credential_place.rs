//! Places in which clients send credentials, and the order in which each API looks for them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::http::route::Dialect;

/// A place in a request in which clients send a credential, written `header:x-api-key` or
/// `query:key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum CredentialPlace {
    /// A header, by its name in lower case.
    Header(Cow<'static, str>),
    /// A query parameter.
    Query(Cow<'static, str>),
    /// The WebSocket protocol [`API_KEY_PROTOCOL`], in which browsers send the key because they
    /// cannot set other headers.
    Protocol,
}

/// The places in which known APIs and gateways look for credentials, in order of precedence, each
/// with the services that use it. The places of the API that a request calls take precedence over
/// these places.
pub const PLACES: &[(CredentialPlace, &str)] = &[
    (AUTHORIZATION, "OpenAI and most APIs; AWS and Google with signatures or OAuth"),
    (API_KEY, "Azure OpenAI"),
    (CredentialPlace::Protocol, "OpenAI Realtime in browsers: `openai-insecure-api-key.<key>`"),
    (X_API_KEY, "Anthropic; Amazon API Gateway"),
    (X_GOOG_API_KEY, "Gemini, Vertex AI in express mode"),
    (header("ocp-apim-subscription-key"), "Azure API Management, Azure AI services"),
    (header("x-litellm-api-key"), "LiteLLM"),
    (header("x-portkey-api-key"), "Portkey"),
    (header("cf-aig-authorization"), "Cloudflare AI Gateway"),
    (header("helicone-auth"), "Helicone"),
    (header("x-bf-vk"), "Bifrost"),
    (header("xi-api-key"), "ElevenLabs"),
    (header("x-key"), "Black Forest Labs"),
    (header("x-dashscope-api-key"), "DashScope"),
    (header("x-rapidapi-key"), "RapidAPI"),
    (header("apikey"), "Kong, Supabase"),
    (header("x-functions-key"), "Azure Functions"),
    (header("x-auth-token"), "gateways"),
    (header("x-access-token"), "gateways"),
    (QUERY_KEY, "Gemini"),
    (query("api-key"), "Azure OpenAI Realtime in browsers"),
    (ACCESS_TOKEN, "Gemini Live; OAuth 2.0 (RFC 6750)"),
    (query("subscription-key"), "Azure API Management"),
    (query("apikey"), "Kong"),
    (query("api_key"), "gateways"),
    (PRESIGNED, "AWS: presigned URLs"),
    (query("X-Goog-Credential"), "Google Cloud: signed URLs"),
];

impl CredentialPlace {
    /// Returns whether the place is in the header `name`, which is in lower case.
    pub(super) fn is_header(&self, name: &str) -> bool {
        match self {
            Self::Header(other) => other == name,
            Self::Protocol => name == PROTOCOL_HEADER,
            Self::Query(_) => false,
        }
    }
}

impl TryFrom<String> for CredentialPlace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let place = match text.split_once(':') {
            Some(("header", name)) if is_header_name(name) => {
                Some(Self::Header(Cow::Owned(name.to_owned())))
            }
            Some(("query", name)) if !name.is_empty() => {
                Some(Self::Query(Cow::Owned(name.to_owned())))
            }
            _ => None,
        };
        place.ok_or_else(|| {
            format!(
                "'{text}' is not a place of credentials: expected \"header:NAME\" in lower case, \
                 or \"query:NAME\""
            )
        })
    }
}

impl From<CredentialPlace> for String {
    fn from(place: CredentialPlace) -> Self {
        match place {
            CredentialPlace::Header(name) => format!("header:{name}"),
            CredentialPlace::Query(name) => format!("query:{name}"),
            CredentialPlace::Protocol => format!("header:{PROTOCOL_HEADER}"),
        }
    }
}

/// Returns whether `name` is a valid name of an HTTP header, in lower case.
pub fn is_header_name(name: &str) -> bool {
    is_token(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// An API that has its own order of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CredentialApi {
    Openai,
    Azure,
    Anthropic,
    Gemini,
    /// Google Cloud and AWS: signatures and OAuth.
    Cloud,
}

impl CredentialApi {
    /// Returns the API that a request calls.
    pub(super) fn of(dialect: Dialect, path: &str) -> Self {
        let has = |segment| path.contains(segment);
        if has("/openai/deployments/") || path.starts_with("/openai/") {
            return Self::Azure;
        }
        if has("/projects/") || has("/model/") {
            return Self::Cloud;
        }
        match dialect {
            Dialect::Anthropic => Self::Anthropic,
            Dialect::Gemini => Self::Gemini,
            Dialect::Openai | Dialect::Generic => Self::Openai,
        }
    }

    /// Returns the places in which the API looks for credentials, in the order of the API.
    pub(super) fn places(self) -> &'static [CredentialPlace] {
        match self {
            Self::Openai => OPENAI,
            Self::Azure => AZURE,
            Self::Anthropic => ANTHROPIC,
            Self::Gemini => GEMINI,
            Self::Cloud => CLOUD,
        }
    }
}

const fn header(name: &'static str) -> CredentialPlace {
    CredentialPlace::Header(Cow::Borrowed(name))
}

const fn query(name: &'static str) -> CredentialPlace {
    CredentialPlace::Query(Cow::Borrowed(name))
}

const AUTHORIZATION: CredentialPlace = header("authorization");
const API_KEY: CredentialPlace = header("api-key");
const X_API_KEY: CredentialPlace = header("x-api-key");
const X_GOOG_API_KEY: CredentialPlace = header("x-goog-api-key");
const QUERY_KEY: CredentialPlace = query("key");
const ACCESS_TOKEN: CredentialPlace = query("access_token");
const PRESIGNED: CredentialPlace = query("X-Amz-Credential");

/// Places of OpenAI, in the order in which the API looks for credentials.
const OPENAI: &[CredentialPlace] = &[AUTHORIZATION, API_KEY, CredentialPlace::Protocol];
/// Places of Azure OpenAI, in the order in which the API looks for credentials.
const AZURE: &[CredentialPlace] = &[API_KEY, AUTHORIZATION];
/// Places of Anthropic, in the order in which the API looks for credentials.
const ANTHROPIC: &[CredentialPlace] = &[X_API_KEY, AUTHORIZATION];
/// Places of Gemini, in the order in which the API looks for credentials.
const GEMINI: &[CredentialPlace] = &[X_GOOG_API_KEY, QUERY_KEY, AUTHORIZATION, ACCESS_TOKEN];
/// Places of Google Cloud and of AWS, in the order in which they look for credentials.
const CLOUD: &[CredentialPlace] = &[AUTHORIZATION, PRESIGNED, X_GOOG_API_KEY, QUERY_KEY];

/// Places that are alternatives to each other, because each is the place in which some API reads
/// its key. A client may send a junk key in one of these places, and its real key in another. At
/// all other places, gateways read their own keys, which are sent in addition to the key of the
/// API.
pub(super) const INTERCHANGEABLE: &[CredentialPlace] =
    &[AUTHORIZATION, API_KEY, X_API_KEY, X_GOOG_API_KEY, QUERY_KEY, ACCESS_TOKEN];

/// Prefix of the WebSocket protocol that carries an API key.
pub(super) const API_KEY_PROTOCOL: &str = "openai-insecure-api-key.";

/// The header with the WebSocket protocols that a client offers.
pub(super) const PROTOCOL_HEADER: &str = "sec-websocket-protocol";

/// Returns whether a word is a token of HTTP (RFC 9110).
pub(super) fn is_token(word: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !word.is_empty() && word.bytes().all(is_token_byte)
}
