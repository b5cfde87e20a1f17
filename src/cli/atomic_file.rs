//! Writes files so that a reader finds either the old text or the new one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};

/// Writes a text to a temporary file next to `path`, and then renames the file to `path`. A file
/// that exists there keeps its permissions. A link is replaced by a file.
pub fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary_path = PathBuf::from(name);
    let permissions = fs::metadata(path).ok().map(|metadata| metadata.permissions());
    let write = |mut file: File| {
        // The permissions come first: at no time may more users read the text than before.
        permissions.map_or(Ok(()), |permissions| file.set_permissions(permissions))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let written = File::create(&temporary_path)
        .and_then(write)
        .and_then(|()| fs::rename(&temporary_path, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary_path);
        io_error(path, &error)
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_keeps_its_permissions() {
        let directory =
            std::env::temp_dir().join(format!("hedgerow-atomic-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("policy.toml");
        write_atomically(&path, "new").unwrap();
        for mode in [0o600, 0o640, 0o444] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            write_atomically(&path, "changed").unwrap();
            let actual = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(actual, mode, "{actual:o}");
            assert_eq!(fs::read_to_string(&path).unwrap(), "changed");
        }
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "no temporary file is left");
        fs::remove_dir_all(&directory).unwrap();
    }
}
