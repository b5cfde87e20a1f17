//! Suggestions for misspelt names.

/// Returns the remedy for an unknown name: the most similar candidate, or all candidates if none is
/// similar.
pub fn replace_unknown(name: &str, candidates: &[&str]) -> String {
    did_you_mean(name, candidates.iter().copied())
        .unwrap_or_else(|| format!("remove it, or use one of {}", candidates.join(", ")))
}

/// Returns `did you mean 'x'?` with the candidate that is most similar to `name`; `None` if no
/// candidate is similar.
pub fn did_you_mean<'c>(
    name: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<String> {
    nearest(name, candidates).map(|candidate| format!("did you mean '{candidate}'?"))
}

/// Returns the candidate with the smallest edit distance (Levenshtein) to `name`. The distance must
/// be less than the candidate's number of bytes, and at most two, or a third of this number if that
/// is more. Returns `None` if no candidate is close enough.
fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let distances =
        candidates.into_iter().map(|candidate| (strsim::levenshtein(name, candidate), candidate));
    let similar = distances.filter(|(distance, candidate)| {
        *distance < candidate.len() && *distance <= (candidate.len() / 3).max(2)
    });
    similar.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
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
    }

    #[test]
    fn an_unknown_name_gets_a_candidate_or_all() {
        assert_eq!(replace_unknown("levle", &["level", "name"]), "did you mean 'level'?");
        assert_eq!(
            replace_unknown("x", &["level", "name"]),
            "remove it, or use one of level, name"
        );
    }
}
