//! Joins the `policy.toml` of all layers to one policy, setting by setting.
//!
//! A setting of an upper layer overrides the same setting of the layers below it. Lists of tables,
//! such as `[[exemption]]`, are joined: the tables of the upper layer come first, and replace those
//! with the same name or id.

use std::collections::BTreeMap;
use std::ops::Range;

use hedgerow_core::rules::policy::Policy;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use crate::files::{find_invalid_utf8, is_policy};
use crate::layers::{Layer, Override};
use crate::policy_toml::{HELP, PolicyNames, check, resolve_signature_ids};
use crate::source_map::line_column;
use crate::toml::{TomlDiagnostics, read_file, text};
use crate::{Finding, RuleFile};

/// The policy files that contain the tables of lists, such as `[[exemption]]`, by list and by name
/// or id. The paths begin with the names of the layers.
pub type PolicyFiles = BTreeMap<(String, String), String>;

/// Joins and checks the policies of all layers. Without any policy, returns the default policy.
/// Also returns the files that contain the tables of the policy. Returns `None`, with findings, if
/// a policy is invalid. Adds the settings of upper layers that override other values of lower
/// layers to `overrides`.
pub fn check_layers(
    layers: &[Layer<'_>],
    names: &PolicyNames,
    overrides: &mut Vec<Override>,
    findings: &mut Vec<Finding>,
) -> Option<(Policy, PolicyFiles)> {
    let mut joined = JoinedText::default();
    let mut documents = Vec::new();
    for layer in layers.iter().rev() {
        let Some(file) = layer.files.iter().find(|file| is_policy(&file.path)) else { continue };
        let document = layer.locate(findings, |findings| match find_invalid_utf8(file) {
            None => read_file(file, HELP, findings),
            Some(finding) => {
                findings.push(finding);
                None
            }
        });
        let base = joined.push(layer.path(&file.path), &file.text);
        documents.push(document.map(|document| shift_table(document, base)));
    }
    let mut documents: Vec<DeTable<'_>> = documents.into_iter().collect::<Option<_>>()?;
    let file = RuleFile { path: joined.first_path(), text: joined.text.clone() };
    let mut joined_findings = Vec::new();
    let mut diagnostics =
        TomlDiagnostics { file: &file, findings: &mut joined_findings, help: HELP };
    // Before the tables are compared: one layer may name a rule, and another one give its id.
    for document in &mut documents {
        resolve_signature_ids(document, names, &mut diagnostics);
    }
    let mut documents = documents.into_iter();
    let Some(mut policy) = documents.next() else { return Some(Default::default()) };
    for lower in documents {
        merge(&mut policy, lower, "", &joined, overrides);
    }
    let files = policy_files(&policy, &joined);
    let policy = check(policy, &file, names, layers, &mut joined_findings);
    findings.extend(joined_findings.into_iter().map(|finding| joined.locate(finding)));
    Some((policy?, files))
}

/// Returns the files that contain the tables of the lists of a policy.
fn policy_files(policy: &DeTable<'_>, joined: &JoinedText) -> PolicyFiles {
    let mut files = PolicyFiles::new();
    for (kind, value) in policy {
        for item in value.get_ref().as_array().into_iter().flatten() {
            if let Some((_, label)) = label(item) {
                let key = (kind.get_ref().to_string(), label.to_owned());
                files.entry(key).or_insert_with(|| joined.path_at(item.span().start));
            }
        }
    }
    files
}

/// The texts of several files, one after the other, so that a byte offset names a position in any
/// of them.
#[derive(Default)]
struct JoinedText {
    text: String,
    /// For each file, its path, the byte offset of its text, and the number of lines before it.
    files: Vec<(String, usize, usize)>,
}

impl JoinedText {
    /// Appends a file, and returns the byte offset of its text.
    fn push(&mut self, path: String, text: &str) -> usize {
        let (base, lines) = (self.text.len(), self.text.matches('\n').count());
        self.files.push((path, base, lines));
        self.text.push_str(text);
        self.text.push('\n');
        base
    }

    fn first_path(&self) -> String {
        self.files.first().map_or_else(String::new, |(path, ..)| path.clone())
    }

    /// Returns a finding with the path and the line of the file that contains its position.
    fn locate(&self, finding: Finding) -> Finding {
        let line = finding.line;
        let file = self.files.iter().rev().find(|(_, _, lines)| *lines < line);
        file.map_or(finding.clone(), |(path, _, lines)| Finding {
            path: path.clone(),
            line: line.saturating_sub(*lines),
            ..finding
        })
    }

    /// Returns the path of the file that contains a byte offset.
    fn path_at(&self, offset: usize) -> String {
        let file = self.files.iter().rev().find(|(_, base, _)| *base <= offset);
        file.map_or_else(String::new, |(path, ..)| path.clone())
    }

    /// Returns the path, line and column of a byte offset.
    fn position(&self, offset: usize) -> (String, usize, usize) {
        let location = line_column(&self.text, offset);
        let Finding { path, line, column, .. } = self.locate(Finding::new("", location, "", ""));
        (path, line, column)
    }

    /// Returns the source text of a value.
    fn slice(&self, span: Range<usize>) -> &str {
        self.text.get(span).unwrap_or_default()
    }
}

/// Adds `base` to the byte offsets of a table and of all values in it.
fn shift_table(table: DeTable<'_>, base: usize) -> DeTable<'_> {
    let shift = |span: Range<usize>| span.start.saturating_add(base)..span.end.saturating_add(base);
    let shifted = table.into_iter().map(|(key, value)| {
        let (key_span, value_span) = (shift(key.span()), shift(value.span()));
        let value = shift_value(value.into_inner(), base);
        (Spanned::new(key_span, key.into_inner()), Spanned::new(value_span, value))
    });
    shifted.collect()
}

/// Adds `base` to the byte offsets of all values in a value.
fn shift_value(value: DeValue<'_>, base: usize) -> DeValue<'_> {
    match value {
        DeValue::Table(table) => DeValue::Table(shift_table(table, base)),
        DeValue::Array(items) => {
            let shifted = items.into_iter().map(|item| {
                let Range { start, end } = item.span();
                let span = start.saturating_add(base)..end.saturating_add(base);
                Spanned::new(span, shift_value(item.into_inner(), base))
            });
            DeValue::Array(shifted.collect::<DeArray<'_>>())
        }
        value => value,
    }
}

/// Adds the settings of a lower policy to a policy that does not have them. `path` is the path of
/// the tables in the policies: empty, or with a dot at its end.
fn merge<'d>(
    upper: &mut DeTable<'d>,
    lower: DeTable<'d>,
    path: &str,
    joined: &JoinedText,
    overrides: &mut Vec<Override>,
) {
    for (key, value) in lower {
        let setting = format!("{path}{}", key.get_ref());
        let Some(kept) = upper.get_mut(&**key.get_ref()) else {
            upper.insert(key, value);
            continue;
        };
        let (kept_span, span) = (kept.span(), value.span());
        match (kept.get_mut(), value.into_inner()) {
            (DeValue::Table(upper), DeValue::Table(lower)) => {
                merge(upper, lower, &format!("{setting}."), joined, overrides);
            }
            (DeValue::Array(upper), DeValue::Array(lower)) if has_tables(upper, &lower) => {
                merge_tables(upper, lower, &setting, joined, overrides);
            }
            _ => {
                let (new, old) = (joined.slice(kept_span.clone()), joined.slice(span.clone()));
                if new != old {
                    let change = format!("{setting} = {new} instead of {old}");
                    overrides.push(override_at(joined, kept_span, span, change));
                }
            }
        }
    }
}

fn has_tables(upper: &DeArray<'_>, lower: &DeArray<'_>) -> bool {
    upper.iter().chain(lower.iter()).any(|item| item.get_ref().is_table())
}

/// Appends the tables of a lower list to a list, except those whose name or id the list has.
fn merge_tables<'d>(
    upper: &mut DeArray<'d>,
    lower: DeArray<'d>,
    setting: &str,
    joined: &JoinedText,
    overrides: &mut Vec<Override>,
) {
    let own: Vec<(String, Range<usize>)> =
        upper.iter().filter_map(|item| Some((identity(item)?, item.span()))).collect();
    for item in lower {
        let known =
            identity(&item).and_then(|identity| own.iter().find(|(other, _)| *other == identity));
        match known {
            None => upper.push(item),
            Some((identity, span)) => {
                let change = format!("[[{setting}]] with the {identity}");
                overrides.push(override_at(joined, span.clone(), item.span(), change));
            }
        }
    }
}

/// Returns the key that identifies a table of a list, with its value; `None` for a route, which has
/// only conditions.
fn label<'d>(item: &'d Spanned<DeValue<'_>>) -> Option<(&'static str, &'d str)> {
    let table = item.get_ref().as_table()?;
    ["name", "id"].into_iter().find_map(|key| text(table, key).map(|(_, value)| (key, value)))
}

/// Returns the label of a table of a list as text.
fn identity(item: &Spanned<DeValue<'_>>) -> Option<String> {
    label(item).map(|(key, value)| format!("{key} '{value}'"))
}

/// Returns the override of a value of a lower policy.
fn override_at(
    joined: &JoinedText,
    upper: Range<usize>,
    lower: Range<usize>,
    change: String,
) -> Override {
    let (path, line, column) = joined.position(upper.start);
    let (lower_path, lower_line, _) = joined.position(lower.start);
    let change = format!("{change} of {lower_path}:{lower_line}");
    Override { path, line, column, change }
}
