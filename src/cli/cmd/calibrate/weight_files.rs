//! Writes weights into rule files, and leaves all other text of the files unchanged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::estimate::SignatureEstimate;
use crate::config::rule_directories;
use crate::error::{Error, Result, io_error};
use crate::rule_directories::RuleDirectories;
use crate::rules::read_rules;

/// Writes the proposed weights that differ from the written weights into the rule files of a
/// directory. Returns one message for each: the change, or the reason why no weight was written.
/// Returns an error if the rules are invalid, or if a file cannot be read or written.
pub fn write(
    directory: &Path,
    config: Option<&Path>,
    estimates: &[SignatureEstimate],
) -> Result<Vec<String>> {
    let layers = rule_directories(config)?;
    let is_layer = |(_, layer): (&str, PathBuf)| is_same(&layer, directory);
    let directories =
        if layers.iter().any(is_layer) { layers } else { RuleDirectories::one(directory) };
    let rules = read_rules(&directories)?.map_err(|findings| {
        Error::Io(format!(
            "the rules in {} are invalid: {} findings; run `hedgerow check`",
            directories.describe(),
            findings.len()
        ))
    })?;
    let signatures = rules.rules.iter().map(|rule| (&rule.signature.name, &rule.metadata.path));
    let correlations =
        rules.correlations.iter().map(|rule| (&rule.correlation.name, &rule.metadata.path));
    let paths: BTreeMap<_, _> = signatures.chain(correlations).collect();
    let mut lines = Vec::new();
    for estimate in estimates.iter().filter(|estimate| estimate.proposed != estimate.written) {
        let SignatureEstimate { name, written, proposed, .. } = estimate;
        let path = paths.get(name).map(|path| directories.locate(path));
        let Some(path) = path.filter(|path| path.ancestors().any(|part| is_same(part, directory)))
        else {
            lines.push(format!("{name}: not a rule of {}; unchanged", directory.display()));
            continue;
        };
        let text = fs::read_to_string(&path).map_err(|error| io_error(&path, &error))?;
        match replace_weight(&text, *proposed) {
            Some(changed) => {
                fs::write(&path, changed).map_err(|error| io_error(&path, &error))?;
                lines.push(format!("{name}: {written} → {proposed}"));
            }
            None => lines.push(format!(
                "{name}: its file has no line `{KEY} NUMBER`; write {proposed} by hand"
            )),
        }
    }
    Ok(lines)
}

/// Returns whether two paths name the same directory.
fn is_same(path: &Path, directory: &Path) -> bool {
    path == directory
        || fs::canonicalize(path)
            .is_ok_and(|path| fs::canonicalize(directory).is_ok_and(|other| path == other))
}

/// Replaces the number of the weight in the text of a rule file. Returns `None` if the text has no
/// weight, or if the weight is not a number. Indentation, spaces and comments stay unchanged.
fn replace_weight(text: &str, weight: f64) -> Option<String> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if let Some(after_key) = line.trim_start().strip_prefix(KEY) {
            let start = offset + line.len() - after_key.trim_start().len();
            let value = text.get(start..)?;
            let end = value.find(|char: char| !matches!(char, '0'..='9' | '.' | '-' | '+'));
            let end = start + end.unwrap_or(value.len());
            text.get(start..end)?.parse::<f64>().ok()?;
            return Some(format!("{}{weight}{}", text.get(..start)?, text.get(end..)?));
        }
        offset += line.len();
    }
    None
}

/// Key of the weight in a rule file.
const KEY: &str = "hedgerow.weight:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_number_changes() {
        let rows = [
            ("a: 1\n  hedgerow.weight: 20\nb: 2\n", Some("a: 1\n  hedgerow.weight: 14\nb: 2\n")),
            ("hedgerow.weight:  -2.5  # why\n", Some("hedgerow.weight:  14  # why\n")),
            ("hedgerow.weight: 5", Some("hedgerow.weight: 14")),
            ("hedgerow.weight: x\n", None),
            ("level: high\n", None),
            ("", None),
        ];
        for (text, expected) in rows {
            assert_eq!(replace_weight(text, 14.0).as_deref(), expected, "{text}");
        }
    }
}
