//! Reading a rules directory: the one place in this library that touches a file system.

use std::fs;
use std::io;
use std::path::Path;

use super::Source;

/// Reads every `*.yml`, `*.yaml` and `policy.toml` below a directory, in the order of their paths.
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
        } else if is_policy(&path) || path.ends_with(".yml") || path.ends_with(".yaml") {
            let text = fs::read_to_string(entry.path())
                .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

/// Whether a path is the policy's.
pub fn is_policy(path: &str) -> bool {
    path == "policy.toml"
}
