//! The literals that every match of a regex contains, one of them at least.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind};

/// The best set of required literals, as they stand in the pattern; empty where there is none.
pub fn required(pattern: &str) -> Result<Vec<String>, String> {
    // Case insensitivity would turn letters into classes; the text is folded anyway.
    let hir = ParserBuilder::new()
        .utf8(true)
        .build()
        .parse(pattern)
        .map_err(|error| error.to_string())?;
    Ok(of(&hir).unwrap_or_default())
}

fn of(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Literal(literal) => Some(vec![String::from_utf8(literal.0.to_vec()).ok()?]),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(of).max_by_key(|set| shortest(set)),
        HirKind::Alternation(parts) => {
            let sets: Option<Vec<Vec<String>>> = parts.iter().map(of).collect();
            Some(sets?.concat())
        }
        _ => None,
    }
}

/// The length of a set's shortest literal: a set is as good as that.
pub fn shortest(set: &[String]) -> usize {
    set.iter().map(String::len).min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_every_match_contains() {
        let rows: &[(&str, &[&str])] = &[
            (r"reasoning", &["reasoning"]),
            (r"write (the|your) reasoning steps?", &[" reasoning step"]),
            (r"(reasoning|thinking) \d+", &["reasoning", "thinking"]),
            (r"\d+ (instruction|query)? pairs", &[" pairs"]),
            (r"(?:generate|create)+", &["generate", "create"]),
            (r"\w+", &[]),
            (r"(abc)?", &[]),
        ];
        for (pattern, expected) in rows {
            assert_eq!(required(pattern).unwrap(), *expected, "{pattern}");
        }
        assert!(required("(").is_err());
    }
}
