//! The purposes of keyed hashes under the secrets of a deployment.
//!
//! One secret has several purposes. A client that obtains a hash for one purpose must not be able
//! to use it for another. The input of each hash therefore begins with the name of its purpose.
//! Every name ends with the only zero byte in it, so that no name is a prefix of another.

use crate::identity::kind::AccountKind;

/// A purpose of a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashPurpose {
    /// Account ids of one kind. HMAC under ACCOUNT_SECRET.
    Account(AccountKind),
    /// Tenant ids. HMAC under ACCOUNT_SECRET.
    Tenant,
    /// Hashes of client addresses in the audit log. HMAC under ACCOUNT_SECRET.
    Address,
    /// The derived key that authenticates indicators in KV. HMAC under ACCOUNT_SECRET.
    IndicatorsKey,
    /// The derived key that authenticates names of accounts in KV. HMAC under ACCOUNT_SECRET.
    NamesKey,
    /// The derived key that authenticates the stop in KV. HMAC under ACCOUNT_SECRET.
    StopKey,
    /// The derived key that authenticates cached keys of Cloudflare Access. HMAC under
    /// ACCOUNT_SECRET.
    AccessKeys,
    /// The key of the hashes that correlation counts. SHA-256 of prefix and ACCOUNT_SECRET.
    HashKey,
    /// Tickets for the WebSocket of the console. HMAC under READ_TOKEN or ADMIN_TOKEN.
    LiveTicket,
}

impl HashPurpose {
    /// Returns the bytes that precede the message. Changing them changes every hash of the purpose.
    pub fn prefix(self) -> &'static [u8] {
        match self {
            Self::Account(AccountKind::Key) => b"hedgerow.account.v1\0",
            Self::Account(AccountKind::Jwt) => b"hedgerow.account.jwt.v1\0",
            Self::Account(AccountKind::Aws) => b"hedgerow.account.aws.v1\0",
            Self::Account(AccountKind::Basic) => b"hedgerow.account.basic.v1\0",
            Self::Account(AccountKind::Header) => b"hedgerow.account.header.v1\0",
            Self::Account(AccountKind::Cookie) => b"hedgerow.account.cookie.v1\0",
            Self::Account(AccountKind::Mtls) => b"hedgerow.account.mtls.v1\0",
            Self::Account(AccountKind::Origin) => b"hedgerow.account.origin.v1\0",
            Self::Tenant => b"hedgerow.tenant.v1\0",
            Self::Address => b"hedgerow.address.v1\0",
            Self::IndicatorsKey => b"hedgerow.indicators-key.v1\0",
            Self::NamesKey => b"hedgerow.names-key.v1\0",
            Self::StopKey => b"hedgerow.stop-key.v1\0",
            Self::AccessKeys => b"hedgerow.access-keys.v1\0",
            Self::HashKey => b"hedgerow.keys.v1\0",
            Self::LiveTicket => b"hedgerow.live-ticket.v1\0",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_is_the_beginning_of_another() {
        use HashPurpose::*;
        let others =
            [Tenant, Address, IndicatorsKey, NamesKey, StopKey, AccessKeys, HashKey, LiveTicket];
        let purposes: Vec<_> = AccountKind::ALL.map(Account).into_iter().chain(others).collect();
        for purpose in &purposes {
            let prefix = purpose.prefix();
            assert_eq!(prefix.iter().position(|byte| *byte == 0), Some(prefix.len() - 1));
            let starting = purposes.iter().filter(|other| other.prefix().starts_with(prefix));
            assert_eq!(starting.count(), 1, "{purpose:?}");
        }
    }
}
