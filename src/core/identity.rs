//! The sender of a request: the credential of a request, its account and its tenant.
//!
//! A *credential* is what a request presents. An *account* is who presents it, and stays the same
//! when the credential is replaced. A *tenant* is the customer that owns accounts. Claims of tokens
//! are read, not verified: the origin does that.

pub mod access;
pub mod credential;
pub mod credential_place;
pub mod kind;
pub mod mapping;
pub mod principal;
pub mod query;
pub mod source;

mod claims;
