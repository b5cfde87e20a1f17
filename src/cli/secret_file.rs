//! Secrets in files and in the environment.

use std::path::Path;
use std::{env, fs};

use crate::print_error;

/// The variable that holds a key's passphrase.
pub const PASSPHRASE_VARIABLE: &str = "HEDGEROW_KEY_PASSWORD";

/// A variable of the environment that is not empty.
pub fn env_var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the passphrase of the key in the environment, if it is set.
pub fn env_passphrase() -> Option<String> {
    env_var(PASSPHRASE_VARIABLE)
}

/// Warns if other users can read a file with a secret.
pub fn warn_if_readable_by_others(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            let path = path.display();
            print_error(&format!("warning: others can read {path}; run `chmod 600 {path}`"));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, print_error as fn(&str));
}
