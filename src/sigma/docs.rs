//! Pages made from the code and the rules, so that they cannot fall behind.

use std::fmt::Write;

use super::{Rule, Rules};
use crate::field::TABLE;

/// `docs/fields.md`.
pub fn fields_page() -> String {
    let mut page = format!(
        "# Fields\n\n{GENERATED}\n\nWhat a signature can test. Names are OpenTelemetry's where those exist, ECS where they do not, and `hedgerow.*` for\n\
        ours. A test holds if it holds for any value of the field; every test on an absent field is false, except `|exists: false`.\n\n\
        - **text**: matched after normalisation (NFKC, lower case, white space runs to one space, invisible characters removed,\n  look-alike letters folded). \
        `contains`, `startswith`, `endswith`, `all`, `cased`, `re`, `exists`. Literals have at least 5 bytes.\n\
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
        rule.about.description.split_whitespace().collect::<Vec<_>>().join(" "),
        rule.condition,
        rule.signature.weight,
        rule.about.level,
        rule.about.path,
    );
    let _ = writeln!(
        page,
        "May also match: {}.",
        rule.about
            .false_positives
            .iter()
            .map(|text| text.trim_end_matches('.'))
            .collect::<Vec<_>>()
            .join("; ")
    );
    let links: Vec<String> = rule.about.references.iter().map(|link| format!("<{link}>")).collect();
    let _ = writeln!(page, "Sources: {}.", links.join(", "));
}

const GENERATED: &str = "<!-- Made by `hedgerow docs`; do not edit. -->";
