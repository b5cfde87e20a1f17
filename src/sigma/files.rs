//! Reads the files of a rules directory. This module is the only one in the crate that accesses the
//! file system.

use std::path::Path;
use std::{fs, io};

use crate::list_toml::is_list;
use crate::seed_sets::is_seed_file;
use crate::source_map::line_column;
use crate::{Finding, RuleFile};

/// Reads all `*.yml`, `*.yaml`, `lists/*.toml` and `seeds/*.fuse` below a directory, and its
/// `policy.toml` and `families.toml`, sorted by path. Bytes that are not UTF-8 become U+FFFD, which
/// [`check`](crate::check) reports.
///
/// Returns an error if a file is unreadable, or if there are no rule files.
pub fn read(directory: &Path) -> io::Result<Vec<RuleFile>> {
    let mut files = Vec::new();
    walk(directory, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if files.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no rule files in the directory: expected *.yml or policy.toml",
        ));
    }
    Ok(files)
}

/// Adds the rule files below `directory` to `files`. `prefix` is the path of `directory` below the
/// rules directory; it is empty for the rules directory itself.
fn walk(directory: &Path, prefix: &str, files: &mut Vec<RuleFile>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, files)?;
        } else if is_rule_file(&path) {
            let bytes = fs::read(entry.path())
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            files.push(RuleFile { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
    Ok(())
}

/// Returns whether a path, below the rules directory, is the path of a rule file.
pub fn is_rule_file(path: &str) -> bool {
    let is_rule = path.ends_with(".yml") || path.ends_with(".yaml");
    is_rule || is_policy(path) || path == FAMILIES_FILE || is_list(path) || is_seed_file(path)
}

/// Returns a finding at the first U+FFFD in a file; `None` if there is none. U+FFFD replaces bytes
/// that are not UTF-8, either when this program reads the file or when an editor saved it.
pub fn find_invalid_utf8(file: &RuleFile) -> Option<Finding> {
    let offset = file.text.find(char::REPLACEMENT_CHARACTER)?;
    Some(Finding::new(
        &file.path,
        line_column(&file.text, offset),
        "the file is not UTF-8, or contains U+FFFD",
        "save the file as UTF-8",
    ))
}

/// The path of the file that defines families, below the directory of its layer.
pub const FAMILIES_FILE: &str = "families.toml";

/// Returns whether a path is the path of the policy.
pub fn is_policy(path: &str) -> bool {
    path == "policy.toml"
}
