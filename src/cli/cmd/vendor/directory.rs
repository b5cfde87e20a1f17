//! The vendor directory: the files of the shipped rules, `VERSION`, and `SHA256SUMS`, which shows
//! whether a file was edited.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use hedgerow_core::ruleset;
use hedgerow_sigma::{RuleFile, is_rule_file};

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
    /// for a moment between the two, the directory does not exist. The old files are removed only
    /// after the new ones are on the disk, so that a crash at any time leaves one of the two.
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
        sync_directory(parent_of(directory))?;
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
        sync_directories(directory)
    }
}

/// Writes a file and waits until it is on the disk. Creates the directories above it.
pub fn write_file(path: &Path, text: &str) -> Result<()> {
    let parent = parent_of(path);
    fs::create_dir_all(parent).map_err(|error| io_error(parent, &error))?;
    let written = File::create(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|error| io_error(path, &error))
}

/// Waits until the entries of a directory and of all directories below it are on the disk.
fn sync_directories(directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory).map_err(|error| io_error(directory, &error))? {
        let path = entry.map_err(|error| io_error(directory, &error))?.path();
        if path.is_dir() {
            sync_directories(&path)?;
        }
    }
    sync_directory(directory)
}

/// Waits until the entries of a directory are on the disk. Systems that cannot open a directory as
/// a file, such as Windows, do not need this.
fn sync_directory(directory: &Path) -> Result<()> {
    let Ok(file) = File::open(directory) else { return Ok(()) };
    file.sync_all().map_err(|error| io_error(directory, &error))
}

/// Returns the vendor directory without links, so that an update replaces the directory itself.
/// This is also possible if the directory is missing because an update was interrupted.
pub fn resolve_links(directory: &Path) -> Result<PathBuf> {
    if let Ok(path) = fs::canonicalize(directory) {
        return Ok(path);
    }
    let mut path = directory.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        // Without the components, a trailing `/` would hide that the target is a link, too.
        path = parent_of(&path).join(target.components().collect::<PathBuf>());
    }
    let (parent, name) = (parent_of(&path), path.file_name().unwrap_or_default());
    let parent = fs::canonicalize(parent).map_err(|error| io_error(parent, &error))?;
    Ok(parent.join(name))
}

/// Returns the directory to which an interrupted update has renamed the vendor directory; `None` if
/// the vendor directory exists, or if no update was interrupted.
pub fn interrupted_update(directory: &Path) -> Option<PathBuf> {
    let old = sibling(directory, "old");
    (!directory.exists() && old.exists()).then_some(old)
}

/// Restores the vendor directory if an update was interrupted after the old directory was renamed.
pub fn restore(directory: &Path) -> Result<()> {
    interrupted_update(directory).map_or(Ok(()), |old| rename(&old, directory))
}

/// The edits of a vendor directory that an update would lose, as messages.
pub enum Edits {
    /// Files that differ from the file that was written there, that are missing, or that were
    /// added.
    Known(Vec<String>),
    /// The directory has no `SHA256SUMS`: all files that the new rules do not have in the same
    /// form.
    Unknown(Vec<String>),
}

impl Edits {
    /// Compares the files of a vendor directory with its `SHA256SUMS`, or else with `new`.
    pub fn find(directory: &Path, new: &VendorRules) -> Result<Self> {
        let path = directory.join(CHECKSUM_FILE);
        let mut found = BTreeMap::new();
        collect_digests(directory, "", &mut found)?;
        match fs::read_to_string(&path) {
            Ok(checksums) => Ok(Self::Known(compare_checksums(&checksums, found))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                for file in &new.files {
                    let digest = ruleset::digest(file.text.as_bytes());
                    if found.get(&file.path) == Some(&digest) {
                        found.remove(&file.path);
                    }
                }
                let lost = found.into_keys().map(|path| format!("{path}: would be lost"));
                Ok(Self::Unknown(lost.collect()))
            }
            Err(error) => Err(io_error(&path, &error)),
        }
    }

    /// Returns one message for each file.
    pub fn messages(&self) -> &[String] {
        let (Self::Known(messages) | Self::Unknown(messages)) = self;
        messages
    }
}

/// Returns one message for each file whose digest in `found` is not the one of `SHA256SUMS`.
fn compare_checksums(checksums: &str, mut found: BTreeMap<String, String>) -> Vec<String> {
    let mut edits = Vec::new();
    for (digest, path) in checksums.lines().filter_map(|line| line.split_once("  ")) {
        match found.remove(path) {
            None => edits.push(format!("{path}: missing since it was written")),
            Some(actual) if actual != digest => {
                edits.push(format!("{path}: changed since it was written"));
            }
            Some(_) => {}
        }
    }
    edits.extend(found.into_keys().map(|path| format!("{path}: added since it was written")));
    edits
}

/// Adds the SHA-256 of each file below a directory to `digests`, by path, except for the files that
/// `write` adds itself, and for hidden files other than rules, which file managers and editors
/// make.
fn collect_digests(
    directory: &Path,
    prefix: &str,
    digests: &mut BTreeMap<String, String>,
) -> Result<()> {
    let entries = fs::read_dir(directory).map_err(|error| io_error(directory, &error))?;
    for entry in entries {
        let entry = entry.map_err(|error| io_error(directory, &error))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let is_hidden = name.starts_with('.');
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            collect_digests(&path, &format!("{name}/"), digests)?;
            continue;
        }
        let is_ignored = is_hidden && !is_rule_file(&name);
        if !is_ignored && ![VERSION_FILE, CHECKSUM_FILE].contains(&name.as_str()) {
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

/// Returns the directory that contains a path.
fn parent_of(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
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

/// Maximum number of links that lead to a vendor directory, as in Linux.
const MAX_LINKS: usize = 40;

/// Version of a directory without the file `VERSION`, such as `rules` in a checkout.
const UNKNOWN_VERSION: &str = "unversioned";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> RuleFile {
        RuleFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn rules(version: &str, files: &[(&str, &str)]) -> VendorRules {
        let files = files.iter().map(|(path, text)| file(path, text)).collect();
        VendorRules { version: version.to_owned(), files }
    }

    /// Returns an empty directory for a test.
    fn root(name: &str) -> PathBuf {
        let name = format!("hedgerow-vendor-{name}-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        fs::canonicalize(root).unwrap()
    }

    fn edits(directory: &Path, new: &VendorRules) -> Vec<String> {
        Edits::find(directory, new).unwrap().messages().to_vec()
    }

    #[test]
    fn edits_are_found_and_replaced() {
        let root = root("edits");
        let directory = root.join("vendor");
        let old = rules("1.0", &[("a/one.yml", "1"), ("a/two.yml", "2"), ("three.yml", "3")]);
        let newer = rules("2.0", &[("three.yml", "3")]);
        old.write(&directory).unwrap();
        assert_eq!(edits(&directory, &newer), Vec::<String>::new());
        let read = VendorRules::load(Some(&directory)).unwrap();
        assert_eq!((read.version.as_str(), read.digest()), ("1.0", old.digest()));

        fs::write(directory.join("a/one.yml"), "x").unwrap();
        fs::remove_file(directory.join("a/two.yml")).unwrap();
        fs::write(directory.join("a/notes.md"), "x").unwrap();
        fs::write(directory.join("a/.DS_Store"), "x").unwrap();
        fs::write(directory.join("a/.one.yml.swp"), "x").unwrap();
        fs::write(directory.join("a/.hidden.yml"), "x").unwrap();
        let expected = [
            "a/one.yml: changed since it was written",
            "a/two.yml: missing since it was written",
            "a/.hidden.yml: added since it was written",
            "a/notes.md: added since it was written",
        ];
        assert_eq!(edits(&directory, &newer), expected);
        fs::remove_file(directory.join(CHECKSUM_FILE)).unwrap();
        let expected = [
            "a/.hidden.yml: would be lost",
            "a/notes.md: would be lost",
            "a/one.yml: would be lost",
        ];
        assert_eq!(edits(&directory, &newer), expected, "three.yml is the same in the new rules");

        newer.write(&directory).unwrap();
        assert_eq!(edits(&directory, &newer), Vec::<String>::new());
        assert!(!directory.join("a").exists(), "files that the new version lacks are removed");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 1, "nothing is left next to it");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn an_interrupted_update_is_restored() {
        let root = root("restored");
        let directory = root.join("vendor");
        rules("2.0", &[("three.yml", "3")]).write(&directory).unwrap();
        assert_eq!(interrupted_update(&directory), None);
        let old = sibling(&directory, "old");
        fs::rename(&directory, &old).unwrap();
        assert_eq!(interrupted_update(&directory), Some(old));
        restore(&directory).unwrap();
        assert_eq!(VendorRules::load(Some(&directory)).unwrap().version, "2.0");
        fs::remove_dir_all(&root).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn links_are_resolved_even_if_the_directory_is_missing() {
        let root = root("links");
        fs::create_dir_all(root.join("shared")).unwrap();
        let link = |target: &str, name: &str| {
            std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        };
        link("shared/rules/", "second");
        link("second/", "vendor");
        link("circle", "circle");
        let expected = root.join("shared/rules");
        assert_eq!(resolve_links(&root.join("vendor")).unwrap(), expected);
        fs::create_dir_all(&expected).unwrap();
        assert_eq!(resolve_links(&root.join("vendor")).unwrap(), expected);
        assert_eq!(resolve_links(&root.join("plain")).unwrap(), root.join("plain"));
        assert_eq!(resolve_links(&root.join("circle")).unwrap(), root.join("circle"));
        assert!(resolve_links(&root.join("missing/vendor")).is_err());
        fs::remove_dir_all(&root).unwrap();
    }
}
