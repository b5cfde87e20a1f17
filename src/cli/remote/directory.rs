//! A store of bundles and releases in a directory. Workers can pull from this directory over HTTP
//! (`CONFIG_URL`).

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hedgerow_core::api::{BundleInfo, PublishResult};
use hedgerow_core::ruleset::{Diff, is_digest};
use hedgerow_core::{Bundle, Release, ruleset};

use super::store::{ReleaseCommand, ReleaseStore, SignedText, serial_conflict};
use crate::atomic_file::write_atomically;
use crate::error::{Error, Result, io_error};

/// A directory that contains `release.json`, `bundles/<digest>.json`, and the history
/// `releases/<serial>.json`. Next to each file is its signature, with `.minisig` appended to the
/// name. Only the command line reads the history.
pub struct DirectoryStore {
    path: PathBuf,
}

impl DirectoryStore {
    /// Returns the store in a directory. The first write creates the directory.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn bundle_path(&self, digest: &str) -> PathBuf {
        self.path.join("bundles").join(format!("{digest}.json"))
    }

    fn current_path(&self) -> PathBuf {
        self.path.join("release.json")
    }

    fn history_path(&self, serial: u64) -> PathBuf {
        self.path.join("releases").join(format!("{serial}.json"))
    }

    /// Returns the serial of the current release; 0 before the first release.
    fn current_serial(&self) -> Result<u64> {
        let path = self.current_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(io_error(&path, &error)),
        };
        let release = Release::parse(&text);
        release.map(|release| release.serial).map_err(|error| {
            Error::Io(format!(
                "{}: {error}; restore it from the last file in {}",
                path.display(),
                self.path.join("releases").display()
            ))
        })
    }

    /// Locks the directory against other `hedgerow` commands until the returned file is dropped.
    fn lock(&self) -> Result<File> {
        let path = self.path.join(".lock");
        fs::create_dir_all(&self.path).map_err(|error| io_error(&self.path, &error))?;
        let file = File::create(&path).map_err(|error| io_error(&path, &error))?;
        file.lock().map_err(|error| io_error(&path, &error))?;
        Ok(file)
    }
}

impl ReleaseStore for DirectoryStore {
    fn bundles(&self) -> Result<Vec<BundleInfo>> {
        let mut entries = Vec::new();
        for (digest, path) in json_files(&self.path.join("bundles"))? {
            if !is_digest(&digest) {
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| io_error(&path, &error))?;
            // A bundle that this version of the program cannot read is also listed.
            let bundle = Bundle::parse(&bytes).ok();
            let uploaded = modified_seconds(&path);
            entries.push(match bundle {
                Some(bundle) => BundleInfo::new(digest, &bytes, &bundle, uploaded),
                None => {
                    let bytes = bytes.len() as u64;
                    BundleInfo { digest, bytes, uploaded, ..BundleInfo::default() }
                }
            });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.serial, entry.uploaded)));
        Ok(entries)
    }

    fn bundle(&self, digest: &str) -> Result<SignedText> {
        read_signed(&self.bundle_path(digest))
    }

    fn upload(&self, digest: &str, bundle: &SignedText) -> Result<()> {
        let _lock = self.lock()?;
        write_signed(&self.bundle_path(digest), bundle)
    }

    fn releases(&self) -> Result<Vec<SignedText>> {
        let serial = self.current_serial()?;
        if serial == 0 {
            return Ok(Vec::new());
        }
        let history = json_files(&self.path.join("releases"))?.into_iter();
        let mut history: Vec<(u64, PathBuf)> =
            history.filter_map(|(name, path)| Some((name.parse().ok()?, path))).collect();
        // A release with a higher serial never became current, because the command that wrote it
        // was interrupted.
        history.retain(|(number, _)| *number < serial);
        history.sort_by_key(|(serial, _)| std::cmp::Reverse(*serial));
        let mut releases = vec![read_signed(&self.current_path())?];
        for (_, path) in history {
            releases.push(read_signed(&path)?);
        }
        Ok(releases)
    }

    fn publish(
        &self,
        _: ReleaseCommand,
        serial: u64,
        release: &SignedText,
    ) -> Result<PublishResult> {
        let _lock = self.lock()?;
        let current = self.current_serial()?;
        if serial <= current {
            return Err(serial_conflict(Some(current)));
        }
        write_signed(&self.history_path(serial), release)?;
        write_signed(&self.current_path(), release)?;
        Ok(PublishResult { serial, published: true, ..PublishResult::default() })
    }

    fn diff(&self, _: &str, _: &str) -> Result<Diff> {
        Err(Error::Io(
            "the embedded rules are in the Worker: a directory does not have them; compare with \
             the rules directory that the Worker was built from"
                .to_owned(),
        ))
    }
}

/// Returns the JSON files of a directory, each with its name without `.json`. The list is empty if
/// the directory does not exist.
fn json_files(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error(directory, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| io_error(directory, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
        if let Some(name) = name {
            files.push((name.to_owned(), path));
        }
    }
    Ok(files)
}

fn modified_seconds(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since_epoch = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since_epoch.map_or(0, |duration| duration.as_secs())
}

/// Reads a file and its signature. A file that is larger than any bundle is an error.
fn read_signed(path: &Path) -> Result<SignedText> {
    let read_text = |path: &Path| fs::read_to_string(path).map_err(|error| io_error(path, &error));
    let size = fs::metadata(path).map_err(|error| io_error(path, &error))?.len();
    if size > ruleset::MAX_BUNDLE_BYTES as u64 {
        return Err(Error::Io(format!(
            "{}: the file has {size} bytes: expected at most {}; restore it, or push and release \
             again",
            path.display(),
            ruleset::MAX_BUNDLE_BYTES
        )));
    }
    Ok(SignedText { text: read_text(path)?, signature: read_text(&signature_path(path))? })
}

/// Writes the signature and then the file, each atomically, so that a reader never finds a file
/// without its signature.
fn write_signed(path: &Path, signed: &SignedText) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| io_error(directory, &error))?;
    }
    write_atomically(&signature_path(path), &signed.signature)?;
    write_atomically(path, &signed.text)
}

fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed_release(serial: u64) -> SignedText {
        let text = serde_json::json!({
            "release": 1, "serial": serial, "created": 0, "active": "embedded", "note": "",
            "author": "",
        });
        SignedText { text: text.to_string(), signature: "signature".to_owned() }
    }

    #[test]
    fn serials_only_increase() {
        let path = std::env::temp_dir().join(format!("hedgerow-{}", std::process::id()));
        let store = DirectoryStore::new(&path);
        store.publish(ReleaseCommand::Release, 4, &signed_release(4)).unwrap();
        for serial in [4, 3] {
            let result = store.publish(ReleaseCommand::Release, serial, &signed_release(serial));
            let Err(Error::Rejected(message)) = result else { panic!("{result:?}") };
            assert!(message.contains("the current serial is 4"), "{message}");
        }
        // An interrupted command leaves a release in the history that never became current.
        write_signed(&store.history_path(5), &signed_release(5)).unwrap();
        store.publish(ReleaseCommand::Release, 5, &signed_release(5)).unwrap();
        let releases = store.releases().unwrap();
        assert_eq!(releases.len(), 2);
        assert!(releases.first().unwrap().text.contains("\"serial\":5"));
        fs::remove_dir_all(&path).unwrap();
    }
}
