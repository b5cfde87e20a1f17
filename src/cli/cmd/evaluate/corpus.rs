//! The files of a corpus.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Finds the files that arguments name, sorted and without duplicates. An argument is a file, a
/// directory (all `*.jsonl` files below it) or a pattern with `*`. An argument that does not match
/// any file is an error.
pub fn find_files(arguments: &[String]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for argument in arguments {
        let path = Path::new(argument);
        if path.is_file() {
            files.push(path.to_owned());
            continue;
        }
        let is_directory = path.is_dir();
        let pattern = match is_directory {
            true => format!("{}/**/*.jsonl", glob::Pattern::escape(argument.trim_end_matches('/'))),
            false => argument.clone(),
        };
        let found = glob::glob(&pattern).map_err(|error| {
            Error::Io(format!("the pattern `{argument}` is invalid: {error}; correct it"))
        })?;
        let before = files.len();
        files.extend(found.flatten().filter(|path| path.is_file()));
        if files.len() == before {
            return Err(Error::Io(format!(
                "{argument} contains no recordings: expected a file, a directory with `*.jsonl` \
                 files or a pattern; correct the path"
            )));
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
