//! The literals without which a regex cannot match, and how long its matches can be.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind};

/// What every match of a regex is known to have.
#[derive(Debug, PartialEq)]
pub struct Required {
    /// Of each list one literal is in every match; the list with the longest literals first.
    pub literals: Vec<Vec<String>>,
    /// Bytes of the longest match, where there is a longest.
    pub longest: Option<usize>,
}

/// Looks at a pattern without its flags: case insensitivity would turn letters into classes, and
/// text is folded anyway.
pub fn required(pattern: &str) -> Result<Required, String> {
    let hir = ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(pattern)
        .map_err(|error| error.to_string())?;
    let mut literals = lists(&hir);
    literals.sort_by_key(|list| std::cmp::Reverse(shortest(list)));
    literals.dedup();
    Ok(Required { literals, longest: hir.properties().maximum_len() })
}

fn lists(hir: &Hir) -> Vec<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => {
            String::from_utf8(literal.0.to_vec()).map(|text| vec![vec![text]]).unwrap_or_default()
        }
        HirKind::Capture(capture) => lists(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => lists(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().flat_map(lists).collect(),
        HirKind::Alternation(parts) => {
            let best = |part| lists(part).into_iter().max_by_key(|list| shortest(list));
            let union: Option<Vec<Vec<String>>> = parts.iter().map(best).collect();
            union.map(|lists| vec![lists.concat()]).unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// The length of a list's shortest literal: a list is as good as that.
pub fn shortest(list: &[String]) -> usize {
    list.iter().map(String::len).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_every_match_contains() {
        let rows: &[(&str, &[&[&str]], Option<usize>)] = &[
            (r"reasoning", &[&["reasoning"]], Some(9)),
            (
                r"(write|give) (the|your) steps?",
                &[&[" step"], &["write", "give"], &["the", "your"], &[" "]],
                Some(16),
            ),
            (r"(reasoning|thinking) \d+", &[&["reasoning", "thinking"], &[" "]], None),
            (r"make (?-u:.{0,6}) pairs", &[&[" pairs"], &["make "]], Some(17)),
            (r"(?:generate|create)+", &[&["generate", "create"]], None),
            (r"\w+", &[], None),
            (r"(abc)?", &[], Some(3)),
        ];
        for (pattern, literals, longest) in rows {
            let found = required(pattern).unwrap();
            assert_eq!(found.literals, *literals, "{pattern}");
            assert_eq!(found.longest, *longest, "{pattern}");
        }
        assert!(required("(").is_err());
    }
}
