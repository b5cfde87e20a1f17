//! Checks everything that `policy.toml` says to clients: the words of refusals, and the notice of
//! degraded requests.

use hedgerow_core::identity::mapping::label_of;
use hedgerow_core::rules::list::ListKind;
use hedgerow_core::rules::policy::{
    ClientValue, LINK_PLACEHOLDER, MAX_REFUSALS, unknown_placeholder,
};
use toml::de::{DeTable, DeValue};

use crate::source_map::line_column;
use crate::suggestion::replace_unknown;
use crate::toml::{TomlDiagnostics, entries, table, text, text_entries, value};

/// Checks the sections `[[refusal]]` and `[notice]`, and the default language under `[enforce]`.
pub fn check(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some(settings) = table(document, "enforce") {
        check_value(settings, "refusal_language", ClientValue::Language, diagnostics);
    }
    check_refusals(document, diagnostics);
    if let Some(notice) = table(document, "notice") {
        check_notice(document, notice, diagnostics);
    }
}

fn check_refusals(document: &DeTable<'_>, diagnostics: &mut TomlDiagnostics<'_>) {
    let has_link = entries(document, "refusal").any(|(_, entry)| entry.contains_key("link"));
    let mut seen: Vec<(Conditions, usize)> = Vec::new();
    for (number, (offset, entry)) in entries(document, "refusal").enumerate() {
        for (key, kind) in REFUSAL_VALUES {
            check_value(entry, key, kind, diagnostics);
        }
        if !["text", "code", "link"].iter().any(|key| entry.contains_key(*key)) {
            let problem = "this refusal has no effect: expected a text, a code or a link";
            diagnostics.add(offset, problem, "add one of the three");
        }
        check_link_exists(entry, has_link, diagnostics);
        if number == MAX_REFUSALS {
            let problem = format!("there are more than {MAX_REFUSALS} refusals");
            diagnostics.add(offset, problem, "remove some");
        }
        let conditions = conditions(entry);
        match seen.iter().find(|(earlier, _)| *earlier == conditions) {
            Some((_, earlier)) => {
                let (line, _) = line_column(&diagnostics.file.text, *earlier);
                let problem =
                    format!("this refusal has the same conditions as the one in line {line}");
                diagnostics.add(offset, problem, "merge the two");
            }
            None => seen.push((conditions, offset)),
        }
    }
}

/// The values of the conditions `on`, `dialect` and `language`.
type Conditions = (Vec<String>, Option<String>, Option<String>);

/// Returns the conditions of a refusal in a form that can be compared.
fn conditions(entry: &DeTable<'_>) -> Conditions {
    let mut on: Vec<String> = text_entries(entry, "on").map(|(_, name)| name.to_owned()).collect();
    on.sort();
    let lower = |key| text(entry, key).map(|(_, value)| value.to_ascii_lowercase());
    (on, lower("dialect"), lower("language"))
}

fn check_notice(
    document: &DeTable<'_>,
    notice: &DeTable<'_>,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    for (key, kind) in NOTICE_VALUES {
        check_value(notice, key, kind, diagnostics);
    }
    check_link_exists(notice, notice.contains_key("link"), diagnostics);
    let has_words = notice.contains_key("text") || notice.contains_key("link");
    let first = notice.iter().map(|(key, _)| key.span().start).min().unwrap_or_default();
    match value(notice, "header") {
        None if !notice.is_empty() => {
            let problem = "[notice] has no effect: expected 'header', the name of the header";
            diagnostics.add(first, problem, "add it, for example header = \"x-usage-notice\"");
        }
        Some((offset, _)) if !has_words => {
            let problem = "'header' has no value: expected a text or a link";
            diagnostics.add(offset, problem, "add 'text' or 'link' to [notice]");
        }
        _ => {}
    }
    let identity = table(document, "identity").and_then(|table| value(table, "labels"));
    let has_labels = matches!(identity, Some((_, DeValue::Boolean(true))));
    for (offset, name) in ["only", "except"].iter().flat_map(|key| text_entries(notice, key)) {
        check_name(name, has_labels, offset, diagnostics);
    }
}

/// Checks that a name is the id of an account or a tenant, or a label. `has_labels` is whether the
/// policy stores labels.
fn check_name(name: &str, has_labels: bool, offset: usize, diagnostics: &mut TomlDiagnostics<'_>) {
    if ListKind::Account.accepts(name) {
        return;
    }
    if label_of(name).as_deref() != Some(name) {
        let problem = format!(
            "'{}' is invalid: expected the id of an account or a tenant, or a label as the \
             console shows it",
            name.escape_debug()
        );
        diagnostics.add(offset, problem, "copy the id or the label from a decision");
    } else if !has_labels {
        let problem = format!(
            "'{name}' never matches: expected an id of 32 digits, 0-9 and a-f, because labels are \
             off"
        );
        diagnostics.add(
            offset,
            problem,
            "copy the id from a decision, or set labels in [identity]",
        );
    }
}

/// Checks one value of a section, if the section has it.
fn check_value(
    section: &DeTable<'_>,
    key: &str,
    kind: ClientValue,
    diagnostics: &mut TomlDiagnostics<'_>,
) {
    let Some((offset, value)) = text(section, key) else { return };
    let Err(expected) = kind.check(value) else { return };
    let placeholder = unknown_placeholder(value).and_then(|text| text.strip_prefix('{'));
    let remedy = match placeholder.and_then(|text| text.strip_suffix('}')) {
        Some(name) => replace_unknown(name, &PLACEHOLDERS),
        None => "docs/refusals.md describes the value".to_owned(),
    };
    diagnostics.add(offset, format!("'{key}' is invalid: expected {expected}"), remedy);
}

/// Checks that a text with the placeholder of the link has a link.
fn check_link_exists(section: &DeTable<'_>, has_link: bool, diagnostics: &mut TomlDiagnostics<'_>) {
    if let Some((offset, text)) = text(section, "text")
        && text.contains(LINK_PLACEHOLDER)
        && !has_link
    {
        let problem = format!("'text' has {LINK_PLACEHOLDER}, but no link is set");
        diagnostics.add(offset, problem, "add 'link', or remove the placeholder");
    }
}

/// Keys of `[[refusal]]`, and the kind of each value.
const REFUSAL_VALUES: [(&str, ClientValue); 4] = [
    ("language", ClientValue::Language),
    ("text", ClientValue::Text),
    ("code", ClientValue::Code),
    ("link", ClientValue::Link),
];

/// Keys of `[notice]`, and the kind of each value.
const NOTICE_VALUES: [(&str, ClientValue); 3] = [
    ("header", ClientValue::HeaderName),
    ("text", ClientValue::HeaderText),
    ("link", ClientValue::Link),
];

/// Names of the placeholders.
const PLACEHOLDERS: [&str; 3] = ["request_id", "appeal", "link"];
