//! Parts of a request that are not known, because a log of requests does not contain them.

use crate::field::FieldId;

/// A set of parts of a request that are not known. At the edge, the set is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnknownParts(u8);

impl UnknownParts {
    /// The headers, except those that the request has.
    pub const HEADERS: Self = Self(1);
    /// The body.
    pub const BODY: Self = Self(2);
    /// The facts about the client, except those that the request has.
    pub const CLIENT: Self = Self(4);
    /// Every part with its name.
    pub const NAMES: [(&str, Self); 3] =
        [("headers", Self::HEADERS), ("body", Self::BODY), ("client", Self::CLIENT)];

    /// Returns the part with a name; `None` for an unknown name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, part)| *part)
    }

    /// Returns the parts that decide the value of a field; empty for a field that every log has,
    /// such as the path.
    pub fn of_field(field: FieldId) -> Self {
        match field {
            FieldId::OperationName
            | FieldId::ProviderName
            | FieldId::Method
            | FieldId::Path
            | FieldId::Account
            | FieldId::Tenant
            | FieldId::Hour
            | FieldId::SignatureName
            | FieldId::Llr
            | FieldId::StatusCode
            | FieldId::Action => Self::default(),
            FieldId::UserAgent
            | FieldId::Encoding
            | FieldId::HeaderCount
            | FieldId::CredentialCount => Self::HEADERS,
            FieldId::ClientAddress
            | FieldId::ProtocolVersion
            | FieldId::TlsVersion
            | FieldId::TlsFingerprint
            | FieldId::AsNumber
            | FieldId::AsOrganization
            | FieldId::Country => Self::CLIENT,
            FieldId::Shape => Self(Self::HEADERS.0 | Self::BODY.0),
            _ => Self::BODY,
        }
    }

    /// Adds parts.
    pub fn insert(&mut self, parts: Self) {
        self.0 |= parts.0;
    }

    /// Returns whether every part is known.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns whether this set and `parts` have a part in common.
    pub fn intersects(self, parts: Self) -> bool {
        self.0 & parts.0 != 0
    }
}
