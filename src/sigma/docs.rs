//! Generates documentation pages from the tables of fields, routes and credentials, and from the
//! rules.

use std::fmt::Write;

use hedgerow_core::field::FIELDS;
use hedgerow_core::http::routes::BUILTIN_APIS;
use hedgerow_core::http::websocket::WEBSOCKET_ROUTES;
use hedgerow_core::identity::credential_place::{CredentialPlace, PLACES};
use hedgerow_core::rules::correlation::format_duration;

use crate::lexicon::LANGUAGES;
use crate::{CorrelationRule, Rule, RuleMetadata, Rules};

/// Returns the generated pages of the documentation: the name of a file in `docs/`, and its text.
pub fn pages(rules: &Rules) -> [(&'static str, String); 6] {
    [
        ("fields.md", fields_page()),
        ("routes.md", routes_page()),
        ("accounts.md", accounts_page()),
        ("lexicon.md", lexicon_page(rules)),
        ("signatures.md", signatures_page(rules)),
        ("correlations.md", correlations_page(rules)),
    ]
}

/// Returns the page `docs/fields.md`.
fn fields_page() -> String {
    let mut page = format!(
        "# Fields\n\n{GENERATED_NOTICE}\n\n{FIELDS_INTRODUCTION}\n\
         | field | type | meaning |\n|---|---|---|\n"
    );
    for row in FIELDS {
        let _ = writeln!(page, "| `{}` | {} | {} |", row.name, row.field_type.name(), row.doc);
    }
    page.push_str("| `http.request.header.<name>` | keyword | ");
    page.push_str("Any request header, its name in lower case. |\n");
    page
}

/// Returns the page `docs/routes.md`, with a table for each API.
fn routes_page() -> String {
    let mut page = format!("# Routes\n\n{GENERATED_NOTICE}\n\n{ROUTES_INTRODUCTION}");
    for api in BUILTIN_APIS {
        let _ = write!(page, "\n## {}\n\n| path | endpoint |\n|---|---|\n", api.name);
        for (path, endpoint) in api.routes {
            let endpoint = serde_json::to_value(endpoint).unwrap_or_default();
            let endpoint = endpoint.as_str().unwrap_or_default();
            let _ = writeln!(page, "| `{path}` | `{endpoint}` |");
        }
    }
    page.push_str(WEBSOCKETS_INTRODUCTION);
    for (path, endpoint) in WEBSOCKET_ROUTES {
        let endpoint = serde_json::to_value(endpoint).unwrap_or_default();
        let _ = writeln!(page, "| `{path}` | `{}` |", endpoint.as_str().unwrap_or_default());
    }
    page
}

/// Returns the page `docs/accounts.md`, with the table of places in which credentials are found.
fn accounts_page() -> String {
    let mut page = format!(
        "# Accounts and tenants\n\n{GENERATED_NOTICE}\n\n{ACCOUNTS_INTRODUCTION}\n\
         | place | used by |\n|---|---|\n"
    );
    for (place, users) in PLACES {
        let place = match place {
            CredentialPlace::Header(name) => format!("header `{name}`"),
            CredentialPlace::Query(name) => format!("query parameter `{name}`"),
            CredentialPlace::Protocol => "header `sec-websocket-protocol`".to_owned(),
        };
        let _ = writeln!(page, "| {place} | {users} |");
    }
    page
}

/// Returns the page `docs/signatures.md`, with a section for each family.
fn signatures_page(rules: &Rules) -> String {
    let mut page = format!(
        "# Signatures\n\n{GENERATED_NOTICE}\n\n{} signatures. Weights are in decibans; \
         `rules/README.md` explains how to choose a weight.\n",
        rules.rules.len()
    );
    let shipped = crate::families::FAMILIES.iter().map(|family| (*family, ""));
    let own = rules.families.iter();
    let own = own.map(|family| (family.name.as_str(), family.description.as_str()));
    for (family, description) in shipped.chain(own) {
        let members: Vec<&Rule> =
            rules.rules.iter().filter(|rule| rule.signature.family == family).collect();
        if members.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {family}\n");
        if !description.is_empty() {
            let _ = write!(page, "\n{description}.\n");
        }
        for rule in members {
            write_signature(&mut page, rule);
        }
    }
    page
}

/// Appends the section of a signature to the page.
fn write_signature(page: &mut String, rule: &Rule) {
    let status = format!("{:?}", rule.signature.status).to_lowercase();
    let deprecated = if rule.is_deprecated() { ", deprecated" } else { "" };
    let innocence = match rule.signature.innocence.as_slice() {
        [] => String::new(),
        names => format!(" · innocence: `{}`", names.join("`, `")),
    };
    let _ = write!(
        page,
        "\n### {}\n\n{}. {}\n\n`{}`{innocence} · {} dB · level {} · {status}{deprecated} · \
         `{}`\n\n",
        rule.signature.name,
        rule.signature.title,
        collapse_whitespace(&rule.metadata.description),
        rule.condition,
        rule.signature.weight,
        rule.metadata.level,
        rule.metadata.path,
    );
    write_references(page, &rule.metadata);
}

/// Returns the page `docs/correlations.md`.
fn correlations_page(rules: &Rules) -> String {
    let mut page = format!(
        "# Correlations\n\n{GENERATED_NOTICE}\n\n{CORRELATIONS_INTRODUCTION}\n{} correlations are \
         shipped. Weights are in decibans. Correlations with weight 0 only feed other \
         correlations.\n",
        rules.correlations.len()
    );
    for rule in &rules.correlations {
        write_correlation(&mut page, rule);
    }
    page
}

/// Appends the section of a correlation to the page.
fn write_correlation(page: &mut String, rule: &CorrelationRule) {
    let correlation = &rule.correlation;
    let status = format!("{:?}", correlation.status).to_lowercase();
    let deprecated = if rule.metadata.deprecated { ", deprecated" } else { "" };
    let attribution = match correlation.attribution.describe() {
        text if text.is_empty() => String::new(),
        text => format!(" · {text}"),
    };
    let _ = write!(
        page,
        "\n## {}\n\n{}. {}\n\n`{}` · {} dB for {}{attribution} · {status}{deprecated} · \
         `{}`\n\n",
        correlation.name,
        correlation.title,
        collapse_whitespace(&rule.metadata.description),
        correlation.describe(),
        correlation.weight,
        format_duration(correlation.ttl),
        rule.metadata.path,
    );
    write_references(page, &rule.metadata);
}

/// Returns the page `docs/lexicon.md`: the number of terms of each concept, by language.
fn lexicon_page(rules: &Rules) -> String {
    let concepts = &rules.lexicon.concepts;
    let mut page = format!("# Lexicon\n\n{GENERATED_NOTICE}\n\n{LEXICON_INTRODUCTION}\n");
    page.push_str("| concept | rare | meaning | missing |\n|---|---|---|---|\n");
    for (name, entry) in concepts {
        let rare = if entry.is_rare { "yes" } else { "" };
        let missing = LANGUAGES.iter().filter(|code| !entry.terms.contains_key(**code));
        let missing: Vec<&str> = missing.copied().collect();
        let _ = writeln!(
            page,
            "| `{name}` | {rare} | {} | {} |",
            entry.description,
            missing.join(", ")
        );
    }
    page.push_str("\n## Terms by language\n\n| concept |");
    LANGUAGES.iter().for_each(|code| page.extend([" ", code, " |"]));
    let _ = writeln!(page, "\n|---|{}", "--:|".repeat(LANGUAGES.len()));
    for (name, entry) in concepts {
        let _ = write!(page, "| `{name}` |");
        for code in LANGUAGES {
            let _ = write!(page, " {} |", entry.terms.get(code).map_or(0, Vec::len));
        }
        page.push('\n');
    }
    page
}

fn collapse_whitespace(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Appends the benign uses that may match, and the links to the sources.
fn write_references(page: &mut String, metadata: &RuleMetadata) {
    let false_positives: Vec<&str> =
        metadata.false_positives.iter().map(|text| text.trim_end_matches('.')).collect();
    let _ = writeln!(page, "May also match: {}.", false_positives.join("; "));
    if metadata.references.is_empty() {
        return;
    }
    let links: Vec<String> = metadata.references.iter().map(|link| format!("<{link}>")).collect();
    let _ = writeln!(page, "Sources: {}.", links.join(", "));
}

const ROUTES_INTRODUCTION: &str = include_str!("routes.md");

const ACCOUNTS_INTRODUCTION: &str = include_str!("accounts.md");
const WEBSOCKETS_INTRODUCTION: &str = "\n## WebSockets\n\n\
    Hedgerow reads the messages of WebSockets on these paths \
    ([websockets.md](websockets.md)). A handshake is a GET\nwith `Upgrade: websocket`. A \
    `[[route]]` with an endpoint of this table adds a path; with the endpoint `none`, it\n\
    excludes a path.\n\n| path | endpoint |\n|---|---|\n";

const FIELDS_INTRODUCTION: &str = include_str!("fields.md");

const LEXICON_INTRODUCTION: &str = include_str!("lexicon.md");

const CORRELATIONS_INTRODUCTION: &str = include_str!("correlations.md");

const GENERATED_NOTICE: &str = "<!-- Generated by `hedgerow docs`; do not edit. -->";
