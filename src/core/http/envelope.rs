//! The envelope: an HTTP request as the host received it, with facts about its client.

use crate::correlate::indicator::Indicators;
use crate::extract::earlier_texts::EarlierTexts;
use crate::field::{Field, FieldId};
use crate::http::unknown_parts::UnknownParts;
use crate::identity::kind::AccountKind;
use crate::keyed_hash::HashKey;
use crate::rules::signature::Signature;

/// An HTTP request as the host received it: the envelope of one or more LLM requests.
#[derive(Clone, Debug, Default)]
pub struct Envelope<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Host that the client called, with or without a port; `None` if it is not known.
    pub host: Option<&'a str>,
    /// Path of the URL, without the query.
    pub path: &'a str,
    /// Header names in lower case with their values, in received order.
    pub headers: &'a [(String, String)],
    /// First bytes of the body, at most the policy's `scan.max_body`, as received.
    pub body: &'a [u8],
    /// Bytes of the whole body, if known.
    pub body_size: Option<u64>,
    /// Bytes after `body` that were not read. At least 1 if more bytes follow, even if their number
    /// is not known.
    pub unscanned_bytes: u64,
    /// Reason why the host stopped reading before the limits of the policy; `None` if it did not.
    pub read_stop: Option<ReadStop>,
    /// Facts about the client.
    pub client: Client<'a>,
    /// Account id: a keyed hash; `None` for a request that does not identify its sender.
    pub account: Option<&'a str>,
    /// Kind of the source that identified the account; `None` if it is not known, or without an
    /// account.
    pub account_kind: Option<AccountKind>,
    /// Tenant id: a keyed hash; `None` if the tenant is not known.
    pub tenant: Option<&'a str>,
    /// Number of different credentials in the request.
    pub credential_count: u32,
    /// Current time, in seconds since the epoch.
    pub now: u64,
    /// Key for the hashes of counted values.
    pub hash_key: HashKey,
    /// Current indicators (keys for which a correlation fired); `None` if the host has no
    /// correlation.
    pub indicators: Option<&'a Indicators>,
    /// Requested model, if neither body nor path names it: the model of a WebSocket's handshake.
    pub model: Option<&'a str>,
    /// Texts of earlier messages of the WebSocket that are scored with the body.
    pub earlier: Option<&'a EarlierTexts>,
    /// Parts that are not known, because the request comes from a log without them. Signatures that
    /// test a field of such a part do not hold.
    pub unknown: UnknownParts,
}

impl<'a> Envelope<'a> {
    /// Returns the value of the header `Content-Type`; `None` for a request without it.
    pub fn content_type(&self) -> Option<&'a str> {
        let header = self.headers.iter().find(|(name, _)| name == "content-type");
        header.map(|(_, value)| value.as_str())
    }

    /// Returns whether the value of a field is unknown: the field belongs to an unknown part, and
    /// the request has no value of the field.
    pub fn is_unknown(&self, field: &Field) -> bool {
        if self.unknown.is_empty() {
            return false;
        }
        match field {
            Field::Header(name) => {
                self.unknown.intersects(UnknownParts::HEADERS) && !self.has_header(name)
            }
            Field::Known(id) => {
                self.unknown.intersects(UnknownParts::of_field(*id)) && !self.has_value(*id)
            }
        }
    }

    /// Returns whether a signature tests a field whose value is unknown.
    pub fn lacks_field_of(&self, signature: &Signature) -> bool {
        let mut lacks_field = false;
        for selection in signature.selections.values() {
            selection.for_each_comparison(&mut |test| lacks_field |= self.is_unknown(&test.field));
        }
        lacks_field
    }

    fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(header, _)| header == name)
    }

    /// Returns whether the request has a value of a field that comes from one header or is a fact
    /// about the client.
    fn has_value(&self, field: FieldId) -> bool {
        let client = &self.client;
        match field {
            FieldId::UserAgent => self.has_header("user-agent"),
            FieldId::Encoding => self.has_header("content-encoding"),
            FieldId::ClientAddress => client.address.is_some(),
            FieldId::ProtocolVersion => client.http_version.is_some(),
            FieldId::TlsVersion => client.tls_version.is_some(),
            FieldId::TlsFingerprint => client.tls_fingerprint.is_some(),
            FieldId::AsNumber => client.as_number.is_some(),
            FieldId::AsOrganization => client.as_organization.is_some(),
            FieldId::Country => client.country.is_some(),
            _ => false,
        }
    }
}

/// Reason why less of a body was read than the policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStop {
    /// The client stopped sending, or sent too slowly.
    Late,
    /// The host held too many bytes of other bodies.
    Crowded,
}

/// The facts about a client that the host knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<'a> {
    /// IP address, IPv4 or IPv6, as text.
    pub address: Option<&'a str>,
    /// Number of the autonomous system.
    pub as_number: Option<u32>,
    /// Organisation that holds the autonomous system.
    pub as_organization: Option<&'a str>,
    /// Country of the address: ISO 3166-1 alpha-2, in upper case.
    pub country: Option<&'a str>,
    /// HTTP version without the protocol's name: `1.1`, `2`.
    pub http_version: Option<&'a str>,
    /// TLS version without the protocol's name: `1.3`.
    pub tls_version: Option<&'a str>,
    /// Hash of the TLS client hello.
    pub tls_fingerprint: Option<&'a str>,
}
