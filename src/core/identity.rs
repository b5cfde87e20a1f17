//! The sender of a request: the credential of a request, its account and its tenant.
//!
//! A *credential* is the proof of identity that a request presents, such as a key or a token. An
//! *account* is the party that presents the credential, and stays the same when the credential is
//! replaced. A *tenant* is the customer that owns accounts. Claims of tokens are read but not
//! verified, because the origin verifies them.

pub mod access;
pub mod credential;
pub mod credential_place;
pub mod kind;
pub mod mapping;
pub mod principal;
pub mod query;
pub mod source;

mod claims;
