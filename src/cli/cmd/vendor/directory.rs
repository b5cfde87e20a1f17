//! The vendor directory: the files of the shipped rules, `VERSION`, and `SHA256SUMS`, which shows
//! whether a file was edited.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use hedgerow_core::ruleset;
use hedgerow_sigma::RuleFile;

use crate::error::{Error, Result, io_error};
use crate::shipped_rules;

/// A version of the shipped rules.
pub struct VendorRules {
    pub version: String,
    pub files: Vec<RuleFile>,
}

impl VendorRules {
    /// Reads the rules in a directory, or else the rules that are shipped with this program.
    pub fn load(directory: Option<&Path>) -> Result<Self> {
        let Some(directory) = directory else {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            return Ok(Self { version, files: shipped_rules::files()? });
        };
        let files = hedgerow_sigma::read(directory).map_err(|error| {
            Error::Io(format!(
                "{}: {error}: expected a directory of shipped rules; correct the path",
                directory.display()
            ))
        })?;
        let version = fs::read_to_string(directory.join(VERSION_FILE)).unwrap_or_default();
        let version = version.lines().next().unwrap_or(UNKNOWN_VERSION).trim().to_owned();
        Ok(Self { version, files })
    }

    /// Returns the SHA-256 of all files and their paths, in hexadecimal digits.
    pub fn digest(&self) -> String {
        ruleset::digest(self.checksums().as_bytes())
    }

    /// Returns the content of `SHA256SUMS`.
    fn checksums(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let _ = writeln!(text, "{}  {}", ruleset::digest(file.text.as_bytes()), file.path);
        }
        text
    }

    /// Replaces a directory by these rules. A reader sees either all old files or all new files;
    /// for a moment between the two, the directory does not exist.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let (new, old) = (sibling(directory, "new"), sibling(directory, "old"));
        remove(&new)?;
        remove(&old)?;
        self.write_files(&new)?;
        if directory.exists() {
            rename(directory, &old)?;
        }
        if let Err(error) = rename(&new, directory) {
            let _ = restore(directory);
            return Err(error);
        }
        remove(&old)
    }

    fn write_files(&self, directory: &Path) -> Result<()> {
        let version = format!("{}\nsha256:{}\n", self.version, self.digest());
        let checksums = self.checksums();
        let own = [(VERSION_FILE, version.as_str()), (CHECKSUM_FILE, checksums.as_str())];
        let files = self.files.iter().map(|file| (file.path.as_str(), file.text.as_str()));
        for (path, text) in own.into_iter().chain(files) {
            write_file(&directory.join(path), text)?;
        }
        Ok(())
    }
}

/// Writes a file, and creates the directories above it.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(parent).map_err(|error| io_error(parent, &error))?;
    fs::write(path, text).map_err(|error| io_error(path, &error))
}

/// Restores the vendor directory if an update was interrupted after the old directory was renamed.
pub fn restore(directory: &Path) -> Result<()> {
    let old = sibling(directory, "old");
    if !directory.exists() && old.exists() { rename(&old, directory) } else { Ok(()) }
}

/// Returns one message for each file of a vendor directory that differs from the file that was
/// written there, that is missing, or that was added.
pub fn find_edits(directory: &Path) -> Result<Vec<String>> {
    let path = directory.join(CHECKSUM_FILE);
    let checksums = fs::read_to_string(&path).map_err(|error| {
        Error::Io(format!(
            "{}: {error}: expected a directory that `hedgerow rules` has written; give --force to \
             replace it, or restore the file",
            path.display()
        ))
    })?;
    let mut found = BTreeMap::new();
    collect_digests(directory, "", &mut found)?;
    let mut edits = Vec::new();
    for (digest, path) in checksums.lines().filter_map(|line| line.split_once("  ")) {
        match found.remove(path) {
            None => edits.push(format!("{path}: missing")),
            Some(actual) if actual != digest => edits.push(format!("{path}: changed")),
            Some(_) => {}
        }
    }
    edits.extend(found.into_keys().map(|path| format!("{path}: added")));
    Ok(edits)
}

/// Adds the SHA-256 of each file below a directory to `digests`, by path, except for the files that
/// `write` adds itself.
fn collect_digests(
    directory: &Path,
    prefix: &str,
    digests: &mut BTreeMap<String, String>,
) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(|error| io_error(directory, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error(directory, &error))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            collect_digests(&path, &format!("{name}/"), digests)?;
        } else if ![VERSION_FILE, CHECKSUM_FILE].contains(&name.as_str()) {
            let bytes = fs::read(&path).map_err(|error| io_error(&path, &error))?;
            digests.insert(name, ruleset::digest(&bytes));
        }
    }
    Ok(())
}

/// Returns the path of a hidden directory next to a directory, for the time of an update.
fn sibling(directory: &Path, role: &str) -> PathBuf {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    directory.with_file_name(format!(".{name}.hedgerow-{role}"))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| {
        let (from, to) = (from.display(), to.display());
        Error::Io(format!("{from}: cannot be renamed to {to}: {error}; check the permissions"))
    })
}

/// Removes a directory if it exists.
fn remove(directory: &Path) -> Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    fs::remove_dir_all(directory).map_err(|error| io_error(directory, &error))
}

/// The file with the version and the digest of the rules.
const VERSION_FILE: &str = "VERSION";

/// The file with the digest of each file, in the format of `sha256sum --check`.
pub const CHECKSUM_FILE: &str = "SHA256SUMS";

/// Version of a directory without the file `VERSION`, such as `rules` in a checkout.
const UNKNOWN_VERSION: &str = "unversioned";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> RuleFile {
        RuleFile { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn edits_are_found_and_replaced() {
        let name = format!("hedgerow-vendor-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let directory = root.join("vendor");
        let files = vec![file("a/one.yml", "1"), file("a/two.yml", "2"), file("three.yml", "3")];
        let rules = VendorRules { version: "1.0".to_owned(), files };
        rules.write(&directory).unwrap();
        assert_eq!(find_edits(&directory).unwrap(), Vec::<String>::new());
        let read = VendorRules::load(Some(&directory)).unwrap();
        assert_eq!((read.version.as_str(), read.digest()), ("1.0", rules.digest()));

        fs::write(directory.join("a/one.yml"), "x").unwrap();
        fs::remove_file(directory.join("a/two.yml")).unwrap();
        fs::write(directory.join("a/notes.md"), "x").unwrap();
        let edits = find_edits(&directory).unwrap();
        assert_eq!(edits, ["a/one.yml: changed", "a/two.yml: missing", "a/notes.md: added"]);

        let newer = VendorRules { version: "2.0".to_owned(), files: vec![file("three.yml", "3")] };
        newer.write(&directory).unwrap();
        assert_eq!(find_edits(&directory).unwrap(), Vec::<String>::new());
        assert!(!directory.join("a").exists(), "files that the new version lacks are removed");
        let left: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap()).collect();
        assert_eq!(left.len(), 1, "{left:?}");

        fs::rename(&directory, sibling(&directory, "old")).unwrap();
        restore(&directory).unwrap();
        assert_eq!(VendorRules::load(Some(&directory)).unwrap().version, "2.0");
        fs::remove_dir_all(&root).unwrap();
    }
}
