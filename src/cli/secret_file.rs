//! Secrets in files and in the environment.

use std::env;
use std::path::Path;

/// Name of the environment variable with the passphrase of a key.
pub const PASSPHRASE_VARIABLE: &str = "HEDGEROW_KEY_PASSWORD";

/// Returns an environment variable; `None` if it is missing, empty or not UTF-8.
pub fn env_var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the passphrase of the key, if the environment contains one.
pub fn env_passphrase() -> Option<String> {
    env_var(PASSPHRASE_VARIABLE)
}

/// Warns on standard error if other users can read a file with a secret.
#[cfg(unix)]
pub fn warn_if_readable_by_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let mode = path.metadata().map_or(0, |metadata| metadata.permissions().mode());
    if mode & 0o077 != 0 {
        let path = path.display();
        crate::terminal::print_error(&format!(
            "warning: others can read {path}; run `chmod 600 {path}`"
        ));
    }
}

/// Does nothing, because file modes exist on Unix only.
#[cfg(not(unix))]
pub fn warn_if_readable_by_others(_: &Path) {}
