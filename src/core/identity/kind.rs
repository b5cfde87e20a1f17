//! The kinds of accounts, which depend on the source that identified the account.

/// The kind of an account. Accounts of different kinds differ, even if their texts are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccountKind {
    /// A key, or any other credential whose holder is unknown.
    Key,
    /// A JSON Web Token: issuer, and subject or another claim.
    Jwt,
    /// A signed request: the id of the access key (AWS Signature Version 4, and similar schemes).
    Aws,
    /// HTTP Basic: the user name.
    Basic,
    /// A header that a trusted gateway sets.
    Header,
    /// A cookie.
    Cookie,
    /// A client certificate that the platform has verified.
    Mtls,
    /// A name that the origin reported.
    Origin,
}

impl AccountKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Key,
        Self::Jwt,
        Self::Aws,
        Self::Basic,
        Self::Header,
        Self::Cookie,
        Self::Mtls,
        Self::Origin,
    ];

    /// Returns the name in log lines and decisions.
    pub fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Jwt => "jwt",
            Self::Aws => "aws",
            Self::Basic => "basic",
            Self::Header => "header",
            Self::Cookie => "cookie",
            Self::Mtls => "mtls",
            Self::Origin => "origin",
        }
    }

    /// Returns whether any client can claim an account of this kind, because a subject, a user name
    /// or the id of an access key is not a secret. Only the origin knows whether the claim is true.
    pub fn is_claim(self) -> bool {
        matches!(self, Self::Jwt | Self::Aws | Self::Basic | Self::Origin)
    }
}
