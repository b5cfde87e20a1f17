//! Reading a rules directory: the one place in this library that touches a file system.

use std::fs;
use std::io;
use std::path::Path;

use super::list::is_list;
use super::place::line_column;
use super::{Finding, Source};

/// Reads every `*.yml`, `*.yaml` and `lists/*.toml` below a directory, and its `policy.toml`, in the
/// order of their paths.
/// Bytes that are not UTF-8 become U+FFFD: the check finds those, and tells everything else beside them.
pub fn read(directory: &Path) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    walk(directory, "", &mut sources)?;
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    if sources.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no rule files here"));
    }
    Ok(sources)
}

fn walk(directory: &Path, below: &str, sources: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, sources)?;
        } else if is_read(&path) {
            let bytes = fs::read(entry.path())
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            sources.push(Source { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
    Ok(())
}

fn is_read(path: &str) -> bool {
    is_policy(path) || is_list(path) || path.ends_with(".yml") || path.ends_with(".yaml")
}

/// The first place at which a file is not UTF-8, or was not when it was last saved.
pub fn damage(source: &Source) -> Option<Finding> {
    let at = source.text.find(char::REPLACEMENT_CHARACTER)?;
    let (line, column) = line_column(&source.text, at);
    Some(Finding {
        path: source.path.clone(),
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
