//! Reading a rules directory: the one place in this library that touches a file system.

use std::path::Path;
use std::{fs, io};

use crate::list_toml::is_list;
use crate::source_map::line_column;
use crate::{Finding, RuleFile};

/// Reads every `*.yml`, `*.yaml` and `lists/*.toml` below a directory, and its `policy.toml`, in the
/// order of their paths.
/// Bytes that are not UTF-8 become U+FFFD: the check finds those, and tells everything else beside them.
pub fn read(directory: &Path) -> io::Result<Vec<RuleFile>> {
    let mut files = Vec::new();
    walk(directory, "", &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no rule files here"));
    }
    Ok(files)
}

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

fn is_rule_file(path: &str) -> bool {
    is_policy(path) || is_list(path) || path.ends_with(".yml") || path.ends_with(".yaml")
}

/// The first place at which a file is not UTF-8, or was not when it was last saved.
pub fn find_invalid_utf8(file: &RuleFile) -> Option<Finding> {
    let offset = file.text.find(char::REPLACEMENT_CHARACTER)?;
    let (line, column) = line_column(&file.text, offset);
    Some(Finding {
        path: file.path.clone(),
        line,
        column,
        problem: "this is not UTF-8 (or U+FFFD, which stands for what is not)".to_owned(),
        remedy: "save the file as UTF-8".to_owned(),
    })
}

/// Whether a path is the policy's.
pub fn is_policy(path: &str) -> bool {
    path == "policy.toml"
}
