//! Stores of bundles and releases: the registry of a deployment, or a directory from which Workers
//! pull.

mod directory;
mod http;
mod store;

pub use directory::DirectoryStore;
pub use http::{AdminClient, Token};
pub use store::{ReleaseCommand, ReleaseStore, SignedText, changed_bundle};
