//! The rules that are shipped with this version of the program.

use std::path::Path;

use hedgerow_sigma::{RuleFile, is_rule_file};

use crate::error::{Error, Result};

// Defines `EMBEDDED`, the path and the text of each file, and `CHECKOUT`, the directory from which
// they come. `build.rs` writes it, and embeds no files in development builds.
include!(concat!(env!("OUT_DIR"), "/shipped_rules.rs"));

/// Returns the files of the shipped rules, sorted by path: the embedded ones, or in a development
/// build those of the checkout.
pub fn files() -> Result<Vec<RuleFile>> {
    if EMBEDDED.is_empty() {
        return hedgerow_sigma::read(Path::new(CHECKOUT)).map_err(|error| {
            Error::Io(format!(
                "{CHECKOUT}: {error}: this program was built without the shipped rules; give \
                 --from with a directory of rules"
            ))
        });
    }
    let embedded = EMBEDDED.iter().filter(|(path, _)| is_rule_file(path));
    let mut files: Vec<RuleFile> = embedded
        .map(|(path, text)| RuleFile { path: (*path).to_owned(), text: (*text).to_owned() })
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
