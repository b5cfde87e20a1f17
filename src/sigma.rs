//! From files to a ruleset: Sigma rules and `policy.toml` are read, checked, tested and built.
//!
//! Only hosts that deal in files have this module (feature `sigma`): the CLI, the playground and the
//! Worker's build script. The edge loads the bundle that comes out.

mod about;
mod comparison;
mod correlation;
mod detection;
mod docs;
mod document;
mod exemplar;
mod files;
mod landmarks;
mod list;
mod place;
mod policy;
mod rule;
mod timed;
pub mod toml;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

pub use about::About;
pub use correlation::CorrelationRule;
pub use docs::{correlations_page, fields_page, signatures_page};
pub use exemplar::{Verdict, test, verdicts};
pub use files::read;
pub use rule::{Exemplar, Rule};
pub use timed::Timed;

use document::Note;
use place::Places;

use crate::policy::Policy;
use crate::ruleset::{self, Bundle, List, Ruleset};

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
pub fn check(sources: &[Source]) -> Result<Rules, Vec<Finding>> {
    let mut findings = Vec::new();
    let (mut rules, mut names): (Vec<Rule>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut correlations, mut lists) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| list::is_list(&source.path)) {
        names.push(list::name_of(&source.path));
        if is_text(source, &mut findings) {
            lists.extend(list::parse(source, &mut findings));
        }
    }
    lists.sort_by(|a, b| a.name.cmp(&b.name));
    let is_rule = |path: &str| !files::is_policy(path) && !list::is_list(path);
    for source in sources.iter().filter(|source| is_rule(&source.path)) {
        match is_text(source, &mut findings).then(|| parse(source, &mut findings)).flatten() {
            Some(Parsed::Signature(rule)) => {
                names.push(rule.signature.name.clone());
                rules.push(*rule);
            }
            Some(Parsed::Correlation(rule)) => {
                names.push(rule.correlation.name.clone());
                correlations.push(*rule);
            }
            // The policy may name it all the same.
            None => names.extend(document::said_name(&source.text)),
        }
    }
    rules.sort_by(|a, b| a.signature.name.cmp(&b.signature.name));
    correlations.sort_by(|a, b| a.correlation.name.cmp(&b.correlation.name));
    unique(&rules, &correlations, &mut findings);
    correlation::resolve(&mut correlations, &rules, &mut findings);
    let policy = match sources.iter().find(|source| files::is_policy(&source.path)) {
        None => Some(Policy::default()),
        Some(source) if is_text(source, &mut findings) => {
            policy::parse(source, &names, &mut findings)
        }
        Some(_) => None,
    };
    findings.sort();
    findings.dedup();
    match policy {
        Some(policy) if findings.is_empty() => {
            let digest =
                |source: &Source| (source.path.clone(), ruleset::digest(source.text.as_bytes()));
            let sources = sources.iter().map(digest).collect();
            let rules = Rules { rules, correlations, lists, policy, sources };
            compiles(&rules).map_or(Ok(rules), |finding| Err(vec![finding]))
        }
        _ => Err(findings),
    }
}

impl Rules {
    /// The bundle, of no push: the rules in force, the lists and the policy.
    pub fn bundle(&self) -> Bundle {
        let in_force = self.rules.iter().filter(|rule| !rule.is_retired());
        let signatures = in_force.map(|rule| rule.signature.clone()).collect();
        let correlations = self.correlations.iter().filter(|rule| !rule.about.retired);
        Bundle {
            correlations: correlations.map(|rule| rule.correlation.clone()).collect(),
            lists: self.lists.clone(),
            sources: self.sources.clone(),
            ..Bundle::new(self.policy.clone(), signatures)
        }
    }

    /// The bundle's canonical JSON (RFC 8785).
    pub fn bytes(&self) -> Vec<u8> {
        self.bundle().bytes()
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

/// Whether a file is UTF-8; what is in it cannot be relied on where it is not.
fn is_text(source: &Source, findings: &mut Vec<Finding>) -> bool {
    let damage = files::damage(source);
    let is_text = damage.is_none();
    findings.extend(damage);
    is_text
}

/// A rule file, by what is in it.
enum Parsed {
    Signature(Box<Rule>),
    Correlation(Box<CorrelationRule>),
}

fn parse(source: &Source, findings: &mut Vec<Finding>) -> Option<Parsed> {
    let known = findings.len();
    let places = Places::new(&source.text);
    let mut note = Note { path: &source.path, places: &places, findings };
    let document = document::read(&source.text, &mut note)?;
    if document.contains_key("correlation") {
        let rule = correlation::parse(source, places, &document, known, findings)?;
        return Some(Parsed::Correlation(Box::new(rule)));
    }
    let rule = rule::parse(source, places, &document, known, findings)?;
    Some(Parsed::Signature(Box::new(rule)))
}

/// What is wrong with correlations among each other.
fn compiles(rules: &Rules) -> Option<Finding> {
    let bundle = rules.bundle();
    let error = ruleset::plan(bundle.correlations, &bundle.signatures, &rules.policy).err()?;
    let is_of = |rule: &&CorrelationRule| {
        error.problem().starts_with(&format!("correlation '{}':", rule.correlation.name))
    };
    let named = rules.correlations.iter().find(is_of)?;
    Some(named.about.finding(&["correlation"], error.problem(), error.remedy()))
}

/// Names and ids must be unique.
fn unique(rules: &[Rule], correlations: &[CorrelationRule], findings: &mut Vec<Finding>) {
    let signatures =
        rules.iter().map(|rule| (&rule.signature.name, &rule.signature.id, &rule.about));
    let correlations =
        correlations.iter().map(|rule| (&rule.correlation.name, &rule.correlation.id, &rule.about));
    let all: Vec<_> = signatures.chain(correlations).collect();
    for (what, of) in [("name", 0), ("id", 1)] {
        let mut seen: HashMap<&str, &str> = HashMap::new();
        for (name, id, about) in &all {
            let value = if of == 0 { name } else { id };
            // Where there is none, that has been said.
            if value.is_empty() {
                continue;
            }
            if let Some(first) = seen.insert(value, &about.path) {
                let problem = format!("the {what} '{value}' is taken by {first}");
                findings.push(about.finding(
                    &[what],
                    problem,
                    format!("give this rule a {what} of its own"),
                ));
            }
        }
    }
}

/// What to write instead of a name that is not known.
fn instead(name: &str, known: &[&str]) -> String {
    nearest(name, known.iter().copied()).map_or_else(
        || format!("remove it, or use one of {}", known.join(", ")),
        |nearest| format!("did you mean '{nearest}'?"),
    )
}

/// The known name that `name` looks like, if no more than two letters, or a third of them, differ.
fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let distances = known.into_iter().map(|known| (distance(name, known), known));
    let near = distances.filter(|(distance, known)| {
        *distance < known.len() && *distance <= (known.len() / 3).max(2)
    });
    near.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// How many letters are to be added, removed or changed to make one word of another (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut above: Vec<usize> = (0..=to.chars().count()).collect();
    for (number, left) in from.chars().enumerate() {
        let mut last = number.saturating_add(1);
        let mut row = vec![last];
        for (right, pair) in to.chars().zip(above.windows(2)) {
            let [diagonal, up] = pair else { continue };
            let changed = diagonal.saturating_add(usize::from(left != right));
            last = last.min(*up).saturating_add(1).min(changed);
            row.push(last);
        }
        above = row;
    }
    above.last().copied().unwrap_or_default()
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
    fn the_nearest_name_is_one_that_was_meant() {
        let known = ["contains", "startswith", "hedgerow.weight", "level"];
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
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
