//! From files to a ruleset: Sigma rules and `policy.toml` are read, checked, tested and built.
//!
//! Only hosts that deal in files have this module (feature `sigma`): the CLI, the playground and the
//! Worker's build script. The edge loads the bundle that comes out.

mod detection;
mod docs;
mod exemplar;
mod files;
mod landmarks;
mod place;
mod policy;
mod rule;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

pub use docs::{fields_page, signatures_page};
pub use exemplar::test;
pub use files::read;
pub use rule::{Exemplar, Rule};

use crate::policy::Policy;
use crate::ruleset::{self, Bundle, FORMAT, Ruleset};

/// A file of rules or policy.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path below the rules directory, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

/// Something wrong in a file: what, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// The file's path.
    pub path: String,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// Checked rules and policy.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The rules, by name; retired ones too.
    pub rules: Vec<Rule>,
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of every file.
    pub sources: BTreeMap<String, String>,
}

/// Checks files; every problem at once, by place.
pub fn check(sources: &[Source]) -> Result<Rules, Vec<Finding>> {
    let mut findings = Vec::new();
    let mut rules = Vec::new();
    for source in sources.iter().filter(|source| !files::is_policy(&source.path)) {
        rules.extend(rule::parse(source, &mut findings));
    }
    rules.sort_by(|a: &Rule, b: &Rule| a.signature.name.cmp(&b.signature.name));
    unique(&rules, &mut findings);
    for rule in &rules {
        if let Err(error) = rule.alone() {
            findings.push(rule.finding(&["detection"], error.problem(), error.remedy()));
        }
    }
    let policy = sources.iter().find(|source| files::is_policy(&source.path));
    let policy = policy.map_or_else(
        || Some(Policy::default()),
        |source| policy::parse(source, &rules, &mut findings),
    );
    findings.sort();
    match policy {
        Some(policy) if findings.is_empty() => {
            let digest =
                |source: &Source| (source.path.clone(), ruleset::digest(source.text.as_bytes()));
            Ok(Rules { rules, policy, sources: sources.iter().map(digest).collect() })
        }
        _ => Err(findings),
    }
}

impl Rules {
    /// The bundle: the rules in force and the policy.
    pub fn bundle(&self) -> Bundle {
        let in_force = self.rules.iter().filter(|rule| !rule.is_retired());
        Bundle {
            format: FORMAT,
            policy: self.policy.clone(),
            signatures: in_force.map(|rule| rule.signature.clone()).collect(),
            sources: self.sources.clone(),
        }
    }

    /// The bundle's canonical JSON (RFC 8785).
    pub fn bytes(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(&self.bundle()).unwrap_or_default()
    }

    /// The compiled ruleset.
    pub fn ruleset(&self) -> Result<Ruleset, crate::Error> {
        Ruleset::load(&self.bytes())
    }
}

/// Reads, checks and tests a directory; the bundle's bytes, or every finding as text, one a line.
pub fn build(directory: &Path) -> Result<Vec<u8>, String> {
    let list = |findings: Vec<Finding>| {
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let sources = read(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let rules = check(&sources).map_err(list)?;
    match test(&rules) {
        findings if findings.is_empty() => Ok(rules.bytes()),
        findings => Err(list(findings)),
    }
}

/// Names and ids must be unique.
fn unique(rules: &[Rule], findings: &mut Vec<Finding>) {
    for (what, of) in [("name", 0), ("id", 1)] {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for rule in rules {
            let value = if of == 0 { &rule.signature.name } else { &rule.signature.id };
            if let Some(first) = seen.insert(value, &rule.path) {
                let problem = format!("the {what} '{value}' is taken by {first}");
                findings.push(rule.finding(
                    &[what],
                    problem,
                    format!("give this rule a {what} of its own"),
                ));
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, problem, remedy } = self;
        write!(formatter, "{path}:{line}:{column}: {problem}; {remedy}")
    }
}
