//! Pages made from the code and the rules, so that they cannot fall behind.

use std::fmt::Write;

use super::{About, CorrelationRule, Rule, Rules};
use crate::correlation::span;
use crate::field::TABLE;

/// `docs/fields.md`.
pub fn fields_page() -> String {
    let mut page = format!(
        "# Fields\n\n{GENERATED}\n\nWhat a signature can test. Names are OpenTelemetry's where those exist, ECS where they do not, and `hedgerow.*` for\n\
        ours. A test holds if it holds for any value of the field; every test on an absent field is false, except `|exists: false`.\n\n\
        - **text**: matched after normalisation (NFKC, lower case, white space runs to one space, invisible characters removed,\n  look-alike letters folded). \
        `contains`, `startswith`, `endswith`, `all`, `cased`, `re`, `exists`. Literals have at least 4 bytes; those of 4 cost most.\n\
        - **keyword**: a short string, normalised likewise. The same modifiers.\n- **address**: `cidr`, plain value, `exists`.\n\
        - **number**: plain value, `gt`, `gte`, `lt`, `lte`, `exists`.\n- **flag**: `true` or `false`, `exists`.\n\n| field | type | meaning |\n|---|---|---|\n"
    );
    for row in TABLE {
        let _ = writeln!(page, "| `{}` | {} | {} |", row.name, row.kind.name(), row.doc);
    }
    page.push_str("| `http.request.header.<name>` | keyword | Any request header, its name in lower case. |\n");
    page
}

/// `docs/signatures.md`.
pub fn signatures_page(rules: &Rules) -> String {
    let mut page = format!(
        "# Signatures\n\n{GENERATED}\n\n{} signatures. Weights are decibans; `rules/README.md` says how to choose one.\n",
        rules.rules.len()
    );
    for family in super::about::FAMILIES {
        let members: Vec<&Rule> =
            rules.rules.iter().filter(|rule| rule.signature.family == *family).collect();
        if members.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {family}\n");
        for rule in members {
            signature(&mut page, rule);
        }
    }
    page
}

fn signature(page: &mut String, rule: &Rule) {
    let status = format!("{:?}", rule.signature.status).to_lowercase();
    let retired = if rule.is_retired() { ", retired" } else { "" };
    let _ = write!(
        page,
        "\n### {}\n\n{}. {}\n\n`{}` · {} dB · level {} · {status}{retired} · `{}`\n\n",
        rule.signature.name,
        rule.signature.title,
        own_words(&rule.about.description),
        rule.condition,
        rule.signature.weight,
        rule.about.level,
        rule.about.path,
    );
    notes(page, &rule.about);
}

/// `docs/correlations.md`.
pub fn correlations_page(rules: &Rules) -> String {
    let mut page = format!(
        "# Correlations\n\n{GENERATED}\n\n{INTRODUCTION}\n\n{} correlations are shipped. Weights are decibans; those of 0 only feed others.\n",
        rules.correlations.len()
    );
    for rule in &rules.correlations {
        correlation(&mut page, rule);
    }
    page
}

fn correlation(page: &mut String, rule: &CorrelationRule) {
    let own = &rule.correlation;
    let status = format!("{:?}", own.status).to_lowercase();
    let retired = if rule.about.retired { ", retired" } else { "" };
    let _ = write!(
        page,
        "\n## {}\n\n{}. {}\n\n`{}` · {} dB for {} · {status}{retired} · `{}`\n\n",
        own.name,
        own.title,
        own_words(&rule.about.description),
        own.words(),
        own.weight,
        span(own.lasts),
        rule.about.path,
    );
    notes(page, &rule.about);
}

fn own_words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whom a rule may hit by mistake, and where it comes from.
fn notes(page: &mut String, about: &About) {
    let innocent: Vec<&str> =
        about.false_positives.iter().map(|text| text.trim_end_matches('.')).collect();
    let _ = writeln!(page, "May also match: {}.", innocent.join("; "));
    let links: Vec<String> = about.references.iter().map(|link| format!("<{link}>")).collect();
    let _ = writeln!(page, "Sources: {}.", links.join(", "));
}

const INTRODUCTION: &str = include_str!("correlations.md");

const GENERATED: &str = "<!-- Made by `hedgerow docs`; do not edit. -->";
