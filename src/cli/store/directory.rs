//! A directory in the layout that Workers pull from.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use hedgerow::ruleset::{self, Diff, is_digest};
use hedgerow::{Bundle, Release};

use super::{Entry, Http, Kind, Published, Signed, Store, conflict};
use crate::cli::{Failure, Result, unable};

/// `release.json`, `bundles/<digest>.json`, each with its `.minisig`; and `releases/<serial>.json`,
/// the history, which only the command line reads.
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The registry in a directory, which need not be there yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    fn bundle_path(&self, digest: &str) -> PathBuf {
        self.path.join("bundles").join(format!("{digest}.json"))
    }

    fn current_path(&self) -> PathBuf {
        self.path.join("release.json")
    }

    fn past_path(&self, serial: u64) -> PathBuf {
        self.path.join("releases").join(format!("{serial}.json"))
    }

    /// The serial that is in force; 0 where there is none.
    fn serial(&self) -> Result<u64> {
        let path = self.current_path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(unable(&path, &error)),
        };
        let release = Release::parse(&text);
        release.map(|release| release.serial).map_err(|error| {
            Failure::Unable(format!(
                "{}: {error}; put the last of {} in its place",
                path.display(),
                self.path.join("releases").display()
            ))
        })
    }
}

impl Store for Directory {
    fn bundles(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for (digest, path) in named(&self.path.join("bundles"))? {
            if !is_digest(&digest) {
                continue;
            }
            let bytes = fs::read(&path).map_err(|error| unable(&path, &error))?;
            // What this version cannot read is there all the same.
            let bundle = Bundle::parse(&bytes).ok();
            let (serial, created) =
                bundle.as_ref().map_or((0, 0), |bundle| (bundle.serial, bundle.created));
            entries.push(Entry {
                digest,
                serial,
                created,
                bytes: bytes.len() as u64,
                signatures: bundle.as_ref().map_or(0, |bundle| bundle.signatures.len()),
                lists: bundle.as_ref().map_or(0, |bundle| bundle.lists.len()),
                uploaded: modified(&path),
            });
        }
        entries.sort_by_key(|entry| std::cmp::Reverse((entry.serial, entry.uploaded)));
        Ok(entries)
    }

    fn bundle(&self, digest: &str) -> Result<Signed> {
        read(&self.bundle_path(digest))
    }

    fn upload(&self, digest: &str, bundle: &Signed) -> Result<()> {
        let _lock = self.lock()?;
        write(&self.bundle_path(digest), bundle)
    }

    fn releases(&self) -> Result<Vec<Signed>> {
        let serial = self.serial()?;
        if serial == 0 {
            return Ok(Vec::new());
        }
        let past = named(&self.path.join("releases"))?.into_iter();
        let mut past: Vec<(u64, PathBuf)> =
            past.filter_map(|(name, path)| Some((name.parse().ok()?, path))).collect();
        // A higher one never came into force: its writer was interrupted.
        past.retain(|(past, _)| *past < serial);
        past.sort_by_key(|(serial, _)| std::cmp::Reverse(*serial));
        let mut releases = vec![read(&self.current_path())?];
        for (_, path) in past {
            releases.push(read(&path)?);
        }
        Ok(releases)
    }

    fn publish(&self, _: Kind, serial: u64, release: &Signed) -> Result<Published> {
        let _lock = self.lock()?;
        let current = self.serial()?;
        if serial <= current {
            return Err(conflict(Some(current)));
        }
        write(&self.past_path(serial), release)?;
        write(&self.current_path(), release)?;
        Ok(Published { serial, published: true, problem: None })
    }

    fn diff(&self, _: &str, _: &str) -> Result<Diff> {
        Err(Failure::Unable(
            "the embedded rules are in the Worker, and a directory does not know them; compare \
             with the rules directory that the Worker was built from"
                .to_owned(),
        ))
    }

    fn http(&self) -> Option<&Http> {
        None
    }
}

impl Directory {
    /// Keeps other commands out until it is dropped.
    fn lock(&self) -> Result<File> {
        let path = self.path.join(".lock");
        fs::create_dir_all(&self.path).map_err(|error| unable(&self.path, &error))?;
        let file = File::create(&path).map_err(|error| unable(&path, &error))?;
        file.lock().map_err(|error| unable(&path, &error))?;
        Ok(file)
    }
}

/// The JSON files of a directory by their names; none where there is no directory.
fn named(directory: &Path) -> Result<Vec<(String, PathBuf)>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unable(directory, &error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| unable(directory, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"));
        if let Some(name) = name {
            files.push((name.to_owned(), path));
        }
    }
    Ok(files)
}

fn modified(path: &Path) -> u64 {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs())
}

/// Reads a file and its signature.
fn read(path: &Path) -> Result<Signed> {
    let text = |path: &Path| fs::read_to_string(path).map_err(|error| unable(path, &error));
    let size = fs::metadata(path).map_err(|error| unable(path, &error))?.len();
    if size > ruleset::MAX_BYTES as u64 {
        return Err(Failure::Unable(format!("{}: larger than any bundle", path.display())));
    }
    Ok(Signed { text: text(path)?, signature: text(&signature_path(path))? })
}

/// Writes a file and, before it, its signature: each is there whole, or not at all.
fn write(path: &Path, signed: &Signed) -> Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| unable(directory, &error))?;
    }
    replace(&signature_path(path), &signed.signature)?;
    replace(path, &signed.text)
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&temporary);
        unable(path, &error)
    })
}

fn signature_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(serial: u64) -> Signed {
        let text = format!(
            r#"{{"release":1,"serial":{serial},"created":0,"active":"embedded","note":"","author":""}}"#
        );
        Signed { text, signature: "signature".to_owned() }
    }

    #[test]
    fn a_serial_is_published_once_and_never_a_lower_one() {
        let path = std::env::temp_dir().join(format!("hedgerow-{}", std::process::id()));
        let store = Directory::new(&path);
        store.publish(Kind::Release, 4, &signed(4)).unwrap();
        for serial in [4, 3] {
            let refused = store.publish(Kind::Release, serial, &signed(serial));
            let Err(Failure::Refused(said)) = refused else { panic!("{refused:?}") };
            assert!(said.contains("the current serial is 4"), "{said}");
        }
        // A writer that was interrupted leaves a release that never came into force.
        write(&store.past_path(5), &signed(5)).unwrap();
        store.publish(Kind::Release, 5, &signed(5)).unwrap();
        let releases = store.releases().unwrap();
        assert_eq!(releases.len(), 2);
        assert!(releases.first().unwrap().text.contains("\"serial\":5"));
        fs::remove_dir_all(&path).unwrap();
    }
}
