//! Rules as data: the parts of a bundle, the release that names bundles, and the public keys that
//! verify the signatures of both.

pub mod bundle;
pub mod concept;
pub mod correlation;
pub mod diff;
mod disposition;
pub mod list;
pub mod policy;
pub mod release;
pub mod signature;
pub mod stop;
pub mod trusted_keys;
