//! The families of rules: those of the shipped rules, and those that `families.toml` of a layer
//! defines.

use hedgerow_core::rules::list;
use hedgerow_core::rules::policy::INNOCENCE_FAMILY;
use hedgerow_core::ruleset::TRAFFIC_FAMILY;

use crate::files::{FAMILIES_FILE, find_invalid_utf8};
use crate::layers::Layer;
use crate::toml::{TomlDiagnostics, read};
use crate::{Finding, RuleFile};

/// A family that a layer defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFamily {
    /// Name, which is the tag of its rules after `hedgerow.`.
    pub name: String,
    /// Description: what the matching requests ask the model for. Without a full stop at its end.
    pub description: String,
}

/// Reads `families.toml` of all layers, and returns the families that they define. Adds a finding
/// for each name that is invalid or already taken, and for each family without a description.
pub fn read_all(layers: &[Layer<'_>], findings: &mut Vec<Finding>) -> Vec<OwnFamily> {
    let mut families = Vec::new();
    for layer in layers {
        let file = layer.files.iter().find(|file| file.path == FAMILIES_FILE);
        if let Some(file) = file {
            layer.locate(findings, |findings| read_file(file, &mut families, findings));
        }
    }
    families
}

/// Adds the families of a file to `families`, which has the families of the lower layers.
fn read_file(file: &RuleFile, families: &mut Vec<OwnFamily>, findings: &mut Vec<Finding>) {
    if let Some(finding) = find_invalid_utf8(file) {
        return findings.push(finding);
    }
    let mut diagnostics = TomlDiagnostics { file, findings, help: HELP };
    let Some(document) = read(&mut diagnostics) else { return };
    for (key, value) in &document {
        let (offset, name): (usize, &str) = (key.span().start, key.get_ref());
        let reserved = [list::FAMILY, INNOCENCE_FAMILY];
        let is_taken = FAMILIES.contains(&name)
            || reserved.contains(&name)
            || families.iter().any(|family| family.name == name);
        if !is_valid_name(name) {
            let problem =
                format!("the family '{name}' is invalid: expected a-z, 0-9 and underscores");
            diagnostics.add(offset, problem, "begin it with a letter; use at most 40 characters");
        } else if is_taken {
            let problem = format!("the family '{name}' is already defined");
            diagnostics.add(offset, problem, "remove it here, or choose another name");
        }
        let description = value.get_ref().as_str().unwrap_or_default().trim();
        if description.is_empty() {
            let problem = format!("the family '{name}' has no description: expected a string");
            diagnostics.add(value.span().start, problem, HELP);
        }
        let description = description.trim_end_matches('.').to_owned();
        families.push(OwnFamily { name: name.to_owned(), description });
    }
}

fn is_valid_name(name: &str) -> bool {
    let is_valid_byte =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    name.len() <= MAX_NAME_LEN
        && name.starts_with(|char: char| char.is_ascii_lowercase())
        && name.bytes().all(is_valid_byte)
}

/// The families of the shipped rules. The policy limits the sum of the weights of each family.
pub const FAMILIES: &[&str] = &[
    "elicitation",
    "synthesis",
    "grading",
    "extraction",
    "provenance",
    "evasion",
    "context",
    "cluster",
    "account_behavior",
    TRAFFIC_FAMILY,
];

/// Maximum length of the name of a family, in bytes.
const MAX_NAME_LEN: usize = 40;

const HELP: &str = "write NAME = \"what the matching requests ask the model for\"";

#[cfg(test)]
mod tests {
    use super::*;

    fn families(layers: &[&str]) -> (Vec<OwnFamily>, Vec<String>) {
        let files: Vec<[RuleFile; 1]> = layers
            .iter()
            .map(|text| [RuleFile { path: FAMILIES_FILE.to_owned(), text: (*text).to_owned() }])
            .collect();
        let layers: Vec<Layer<'_>> =
            files.iter().map(|files| Layer { name: "own", files }).collect();
        let mut findings = Vec::new();
        let families = read_all(&layers, &mut findings);
        (families, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_file_defines_families() {
        let (families, findings) = families(&["support = 'Asks for our prompts.'\n", "b2 = 'B'\n"]);
        assert!(findings.is_empty(), "{findings:?}");
        let rows: Vec<(&str, &str)> = families
            .iter()
            .map(|family| (family.name.as_str(), family.description.as_str()))
            .collect();
        assert_eq!(rows, [("support", "Asks for our prompts"), ("b2", "B")]);
    }

    #[test]
    fn taken_and_invalid_names_are_findings() {
        let rows: [(&[&str], &str); 6] = [
            (&["synthesis = 'S'"], "own/families.toml:1:1: the family 'synthesis' is already"),
            (&["innocence = 'S'"], "own/families.toml:1:1: the family 'innocence' is already"),
            (&["a = 'S'", "\na = 'S'"], "own/families.toml:2:1: the family 'a' is already"),
            (&["A-b = 'S'"], "own/families.toml:1:1: the family 'A-b' is invalid: expected"),
            (&["a = ' '"], "own/families.toml:1:5: the family 'a' has no description"),
            (&["a = 1"], "own/families.toml:1:5: the family 'a' has no description"),
        ];
        for (layers, expected) in rows {
            let (_, findings) = families(layers);
            let starts = findings.first().is_some_and(|finding| finding.starts_with(expected));
            assert!(starts && findings.len() == 1, "{findings:?}, not {expected}");
        }
    }
}
