//! Layers of rules: an upper layer adds to the layers below it, and replaces parts of them only
//! where a file says so.

use std::collections::BTreeMap;

use crate::{Finding, RuleFile};

/// A directory of rule files.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'f> {
    /// Directory, with which the paths in findings begin; empty if there is only one layer.
    pub name: &'f str,
    /// Files of the directory, sorted by path.
    pub files: &'f [RuleFile],
}

/// A part of a lower layer that an upper layer replaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Override {
    /// Path of the upper file.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Change, such as `mode = "enforce" instead of "shadow" of vendor/policy.toml:7`.
    pub change: String,
}

impl Layer<'_> {
    /// Returns the path of a file for findings and for the bundle: with the name of the layer.
    pub fn path(&self, path: &str) -> String {
        if self.name.is_empty() { path.to_owned() } else { format!("{}/{path}", self.name) }
    }

    /// Calls `read`, which adds findings with paths below the directory of the layer, and adds the
    /// name of the layer to these paths.
    pub fn locate<T>(
        &self,
        findings: &mut Vec<Finding>,
        read: impl FnOnce(&mut Vec<Finding>) -> T,
    ) -> T {
        let previous_findings = findings.len();
        let value = read(findings);
        for finding in findings.iter_mut().skip(previous_findings) {
            finding.path = self.path(&finding.path);
        }
        value
    }
}

/// Returns the problem and the remedy if the name of a concept or a list exists in a lower layer
/// (`is_known`) although the file does not say that it replaces it, or the other way round.
pub fn replacement_problem(
    noun: &str,
    name: &str,
    is_known: bool,
    replaces: bool,
) -> Option<(String, String)> {
    match (is_known, replaces) {
        (true, false) => Some((
            format!("a lower layer has the {noun} '{name}', too"),
            format!("set `replaces` to true to replace that {noun}, or choose another name"),
        )),
        (false, true) => Some((
            format!("the {noun} '{name}' replaces nothing: no lower layer has it"),
            format!("remove `replaces`; an update may have renamed or removed that {noun}"),
        )),
        _ => None,
    }
}

/// Adds a finding for each seed set that a lower layer has, too: the policy names seed sets by
/// path, and a path must mean one file.
pub fn check_seed_paths(
    layers: &[Layer<'_>],
    is_seed_file: fn(&str) -> bool,
    findings: &mut Vec<Finding>,
) {
    let mut seen: BTreeMap<&str, String> = BTreeMap::new();
    for layer in layers {
        for file in layer.files.iter().filter(|file| is_seed_file(&file.path)) {
            let path = layer.path(&file.path);
            if let Some(lower) = seen.insert(&file.path, path.clone()) {
                let problem = format!("{lower} has the same path below its layer");
                let remedy = "rename the file, and name it in `[[seeds]]` of the policy";
                findings.push(Finding::new(&path, (1, 1), problem, remedy));
            }
        }
    }
}
