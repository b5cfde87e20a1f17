//! From files to a ruleset: Sigma rules and `policy.toml` are read, checked, tested and built.
//!
//! Only hosts that deal in files have this module (feature `sigma`): the CLI, the playground and the
//! Worker's build script. The edge loads the bundle that comes out.

mod attributes;
mod canonical;
mod correlation;
mod detection;
mod docs;
mod document;
mod event_sequence;
mod exemplar;
mod files;
mod list_toml;
mod metadata;
mod modifiers;
mod policy_toml;
pub mod recorded;
mod required_literals;
mod rule;
mod source_map;
mod test_correlations;
mod test_signatures;
pub mod toml;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

pub use canonical::Canonical;
pub use correlation::CorrelationRule;
pub use docs::{correlations_page, fields_page, signatures_page};
use document::Diagnostics;
pub use event_sequence::EventSequence;
pub use files::read;
use hedgerow_core::rules::policy::Policy;
use hedgerow_core::ruleset;
use hedgerow_core::ruleset::{Bundle, List, Ruleset};
pub use metadata::RuleMetadata;
pub use rule::{Exemplar, Rule};
use source_map::SourceMap;
pub use test_signatures::{ExemplarResult, exemplar_results, test};

/// A file of rules or policy.
#[derive(Clone, Debug)]
pub struct RuleFile {
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
    /// The correlations, by name; retired ones too.
    pub correlations: Vec<CorrelationRule>,
    /// The lists, by name.
    pub lists: Vec<List>,
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of every file.
    pub sources: BTreeMap<String, String>,
}

/// Checks files; every problem at once, by place.
pub fn check(files: &[RuleFile]) -> Result<Rules, Vec<Finding>> {
    let mut findings = Vec::new();
    let (mut rules, mut names): (Vec<Rule>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut correlations, mut lists) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|file| list_toml::is_list(&file.path)) {
        names.push(list_toml::list_name(&file.path));
        if check_utf8(file, &mut findings) {
            lists.extend(list_toml::parse(file, &mut findings));
        }
    }
    lists.sort_by(|a, b| a.name.cmp(&b.name));
    let is_rule = |path: &str| !files::is_policy(path) && !list_toml::is_list(path);
    for file in files.iter().filter(|file| is_rule(&file.path)) {
        match check_utf8(file, &mut findings).then(|| parse(file, &mut findings)).flatten() {
            Some(ParsedRule::Signature(rule)) => {
                names.push(rule.signature.name.clone());
                rules.push(*rule);
            }
            Some(ParsedRule::Correlation(rule)) => {
                names.push(rule.correlation.name.clone());
                correlations.push(*rule);
            }
            // The policy may name it all the same.
            None => names.extend(document::declared_name(&file.text)),
        }
    }
    rules.sort_by(|a, b| a.signature.name.cmp(&b.signature.name));
    correlations.sort_by(|a, b| a.correlation.name.cmp(&b.correlation.name));
    check_uniqueness(&rules, &correlations, &mut findings);
    correlation::resolve(&mut correlations, &rules, &mut findings);
    let policy = match files.iter().find(|file| files::is_policy(&file.path)) {
        None => Some(Policy::default()),
        Some(file) if check_utf8(file, &mut findings) => {
            policy_toml::parse(file, &names, &mut findings)
        }
        Some(_) => None,
    };
    findings.sort();
    findings.dedup();
    match policy {
        Some(policy) if findings.is_empty() => {
            let digest =
                |file: &RuleFile| (file.path.clone(), ruleset::digest(file.text.as_bytes()));
            let source_digests = files.iter().map(digest).collect();
            let rules = Rules { rules, correlations, lists, policy, sources: source_digests };
            find_plan_error(&rules).map_or(Ok(rules), |finding| Err(vec![finding]))
        }
        _ => Err(findings),
    }
}

impl Rules {
    /// The bundle, of no push: the rules in force, the lists and the policy.
    pub fn bundle(&self) -> Bundle {
        let active = self.rules.iter().filter(|rule| !rule.is_deprecated());
        let signatures = active.map(|rule| rule.signature.clone()).collect();
        let correlations = self.correlations.iter().filter(|rule| !rule.metadata.deprecated);
        Bundle {
            correlations: correlations.map(|rule| rule.correlation.clone()).collect(),
            lists: self.lists.clone(),
            sources: self.sources.clone(),
            ..Bundle::new(self.policy.clone(), signatures)
        }
    }

    /// The bundle's canonical JSON (RFC 8785).
    pub fn encode_bundle(&self) -> Vec<u8> {
        self.bundle().encode()
    }

    /// The compiled ruleset.
    pub fn ruleset(&self) -> Result<Ruleset, hedgerow_core::Error> {
        Ruleset::load(&self.encode_bundle())
    }
}

/// Reads, checks and tests a directory; the bundle's bytes, or every finding as text, one a line.
pub fn build(directory: &Path) -> Result<Vec<u8>, String> {
    let format_findings = |findings: Vec<Finding>| {
        findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    let files = read(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let rules = check(&files).map_err(format_findings)?;
    match test(&rules) {
        findings if findings.is_empty() => Ok(rules.encode_bundle()),
        findings => Err(format_findings(findings)),
    }
}

/// Whether a file is UTF-8; what is in it cannot be relied on where it is not.
fn check_utf8(file: &RuleFile, findings: &mut Vec<Finding>) -> bool {
    let invalid_utf8 = files::find_invalid_utf8(file);
    let is_utf8 = invalid_utf8.is_none();
    findings.extend(invalid_utf8);
    is_utf8
}

/// A rule file, by what is in it.
enum ParsedRule {
    Signature(Box<Rule>),
    Correlation(Box<CorrelationRule>),
}

fn parse(file: &RuleFile, findings: &mut Vec<Finding>) -> Option<ParsedRule> {
    let previous_findings = findings.len();
    let source_map = SourceMap::new(&file.text);
    let mut diagnostics = Diagnostics { path: &file.path, source_map: &source_map, findings };
    let document = document::read(&file.text, &mut diagnostics)?;
    if document.contains_key("correlation") {
        let rule = correlation::parse(file, source_map, &document, previous_findings, findings)?;
        return Some(ParsedRule::Correlation(Box::new(rule)));
    }
    let rule = rule::parse(file, source_map, &document, previous_findings, findings)?;
    Some(ParsedRule::Signature(Box::new(rule)))
}

/// What is wrong with correlations among each other.
fn find_plan_error(rules: &Rules) -> Option<Finding> {
    let bundle = rules.bundle();
    let error =
        ruleset::compile_plan(bundle.correlations, &bundle.signatures, &rules.policy).err()?;
    let is_named_in_error = |rule: &&CorrelationRule| {
        error.problem().starts_with(&format!("correlation '{}':", rule.correlation.name))
    };
    let rule = rules.correlations.iter().find(is_named_in_error)?;
    Some(rule.metadata.finding(&["correlation"], error.problem(), error.remedy()))
}

/// Names and ids must be unique.
fn check_uniqueness(rules: &[Rule], correlations: &[CorrelationRule], findings: &mut Vec<Finding>) {
    let signatures =
        rules.iter().map(|rule| (&rule.signature.name, &rule.signature.id, &rule.metadata));
    let correlations = correlations
        .iter()
        .map(|rule| (&rule.correlation.name, &rule.correlation.id, &rule.metadata));
    let identities: Vec<_> = signatures.chain(correlations).collect();
    for (key, index) in [("name", 0), ("id", 1)] {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (name, id, metadata) in &identities {
            let value = if index == 0 { name } else { id };
            // Where there is none, that has been said.
            if value.is_empty() {
                continue;
            }
            if let Some(first_path) = seen.insert(value, &metadata.path) {
                let problem = format!("the {key} '{value}' is taken by {first_path}");
                findings.push(metadata.finding(
                    &[key],
                    problem,
                    format!("give this rule a {key} of its own"),
                ));
            }
        }
    }
}

/// What to write instead of a name that is not known.
fn suggestion(name: &str, candidates: &[&str]) -> String {
    nearest(name, candidates.iter().copied()).map_or_else(
        || format!("remove it, or use one of {}", candidates.join(", ")),
        |nearest| format!("did you mean '{nearest}'?"),
    )
}

/// The known name that `name` looks like, if no more than two letters, or a third of them, differ.
fn nearest<'k>(name: &str, candidates: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distances =
        candidates.into_iter().map(|candidate| (edit_distance(name, candidate), candidate));
    let similar = distances.filter(|(distance, candidate)| {
        *distance < candidate.len() && *distance <= (candidate.len() / 3).max(2)
    });
    similar.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// How many letters are to be added, removed or changed to make one word of another (Levenshtein).
fn edit_distance(from: &str, to: &str) -> usize {
    let mut previous_row: Vec<usize> = (0..=to.chars().count()).collect();
    for (index, left) in from.chars().enumerate() {
        let mut last = index.saturating_add(1);
        let mut row = vec![last];
        for (right, pair) in to.chars().zip(previous_row.windows(2)) {
            let [diagonal, up] = pair else { continue };
            let substitution = diagonal.saturating_add(usize::from(left != right));
            last = last.min(*up).saturating_add(1).min(substitution);
            row.push(last);
        }
        previous_row = row;
    }
    previous_row.last().copied().unwrap_or_default()
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, problem, remedy } = self;
        write!(formatter, "{path}:{line}:{column}: {problem}; {remedy}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_likely_typos() {
        let candidates = ["contains", "startswith", "hedgerow.weight", "level"];
        let rows = [
            ("contain", Some("contains")),
            ("startwith", Some("startswith")),
            ("hedgerow.wieght", Some("hedgerow.weight")),
            ("levle", Some("level")),
            ("lv", None),
            ("Level", Some("level")),
            ("", None),
            ("something else", None),
        ];
        for (name, expected) in rows {
            assert_eq!(nearest(name, candidates), expected, "{name}");
        }
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }
}
