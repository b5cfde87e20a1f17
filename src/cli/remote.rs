//! Stores of bundles and releases: the registry of a deployment, or a directory that Workers pull from.

mod directory;
mod http;
mod store;

pub use directory::DirectoryStore;
pub use http::{AdminClient, Token};
pub use store::{BundleInfo, PublishResult, ReleaseKind, ReleaseStore, SignedText};
