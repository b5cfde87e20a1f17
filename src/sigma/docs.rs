//! Pages made from the code and the rules, so that they cannot fall behind.

use std::fmt::Write;

use hedgerow_core::field::FIELDS;
use hedgerow_core::rules::correlation::format_duration;

use crate::{CorrelationRule, Rule, RuleMetadata, Rules};

/// `docs/fields.md`.
pub fn fields_page() -> String {
    let mut page = format!(
        "# Fields\n\n{GENERATED_NOTICE}\n\nWhat a signature can test. Names are OpenTelemetry's where those exist, ECS where they do not, and `hedgerow.*` for\n\
        ours. A test holds if it holds for any value of the field; every test on an absent field is false, except `|exists: false`.\n\n\
        - **text**: matched after normalisation (NFKC, lower case, white space runs to one space, invisible characters removed,\n  look-alike letters folded). \
        `contains`, `startswith`, `endswith`, `all`, `cased`, `re`, `exists`. Literals have at least 4 bytes; those of 4 cost most.\n\
        - **keyword**: a short string, normalised likewise. The same modifiers.\n- **address**: `cidr`, plain value, `exists`.\n\
        - **number**: plain value, `gt`, `gte`, `lt`, `lte`, `exists`.\n- **flag**: `true` or `false`, `exists`.\n\n| field | type | meaning |\n|---|---|---|\n"
    );
    for row in FIELDS {
        let _ = writeln!(page, "| `{}` | {} | {} |", row.name, row.field_type.name(), row.doc);
    }
    page.push_str("| `http.request.header.<name>` | keyword | Any request header, its name in lower case. |\n");
    page
}

/// `docs/signatures.md`.
pub fn signatures_page(rules: &Rules) -> String {
    let mut page = format!(
        "# Signatures\n\n{GENERATED_NOTICE}\n\n{} signatures. Weights are decibans; `rules/README.md` says how to choose one.\n",
        rules.rules.len()
    );
    for family in crate::metadata::FAMILIES {
        let members: Vec<&Rule> =
            rules.rules.iter().filter(|rule| rule.signature.family == *family).collect();
        if members.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {family}\n");
        for rule in members {
            write_signature(&mut page, rule);
        }
    }
    page
}

fn write_signature(page: &mut String, rule: &Rule) {
    let status = format!("{:?}", rule.signature.status).to_lowercase();
    let deprecated = if rule.is_deprecated() { ", retired" } else { "" };
    let _ = write!(
        page,
        "\n### {}\n\n{}. {}\n\n`{}` · {} dB · level {} · {status}{deprecated} · `{}`\n\n",
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

/// `docs/correlations.md`.
pub fn correlations_page(rules: &Rules) -> String {
    let mut page = format!(
        "# Correlations\n\n{GENERATED_NOTICE}\n\n{CORRELATIONS_INTRODUCTION}\n\n{} correlations are shipped. Weights are decibans; those of 0 only feed others.\n",
        rules.correlations.len()
    );
    for rule in &rules.correlations {
        write_correlation(&mut page, rule);
    }
    page
}

fn write_correlation(page: &mut String, rule: &CorrelationRule) {
    let correlation = &rule.correlation;
    let status = format!("{:?}", correlation.status).to_lowercase();
    let deprecated = if rule.metadata.deprecated { ", retired" } else { "" };
    let _ = write!(
        page,
        "\n## {}\n\n{}. {}\n\n`{}` · {} dB for {} · {status}{deprecated} · `{}`\n\n",
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

fn collapse_whitespace(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whom a rule may hit by mistake, and where it comes from.
fn write_references(page: &mut String, metadata: &RuleMetadata) {
    let false_positives: Vec<&str> =
        metadata.false_positives.iter().map(|text| text.trim_end_matches('.')).collect();
    let _ = writeln!(page, "May also match: {}.", false_positives.join("; "));
    let links: Vec<String> = metadata.references.iter().map(|link| format!("<{link}>")).collect();
    let _ = writeln!(page, "Sources: {}.", links.join(", "));
}

const CORRELATIONS_INTRODUCTION: &str = include_str!("correlations.md");

const GENERATED_NOTICE: &str = "<!-- Made by `hedgerow docs`; do not edit. -->";
