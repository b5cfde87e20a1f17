//! Writes files so that a reader finds either the old text or the new one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};

/// Writes a text to a temporary file next to `path`, and then renames the file to `path`.
pub fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary_path = PathBuf::from(name);
    let written = File::create(&temporary_path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary_path, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary_path);
        io_error(path, &error)
    })
}
