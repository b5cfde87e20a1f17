//! Rules as data: the parts of a bundle, the release that names bundles, and the keys that sign
//! both.

pub mod bundle;
pub mod concept;
pub mod correlation;
pub mod diff;
mod disposition;
pub mod list;
pub mod policy;
pub mod release;
pub mod signature;
pub mod trusted_keys;
