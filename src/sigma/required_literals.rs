//! Extracts required literals and bounds of the match length from a regex. The edge runs a regex
//! only on text that contains its required literals.

use hedgerow_core::rules::signature::RequiredLiterals;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// The properties that all matches of a regex have in common.
#[derive(Debug, PartialEq)]
pub struct RegexAnalysis {
    /// Sets of literals. Every match contains at least one literal of each set, in the order of the
    /// sets.
    pub required_literals: Vec<RequiredLiterals>,
    /// Length of the longest match in bytes; `None` if it is unlimited or unknown.
    pub max_len: Option<usize>,
    /// ASCII characters with which a match can begin; `None` if a match can be empty, or if the
    /// first characters are too many or not all ASCII.
    pub first_bytes: Option<String>,
}

/// Analyses a pattern without its flags. The flag `i` would replace each letter by a class of two
/// letters, from which no literals can be extracted. The flag is not needed, because the text is
/// case-folded before the scan. Returns the parser's error for an invalid pattern.
pub fn analyze(pattern: &str) -> Result<RegexAnalysis, String> {
    let hir = ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(pattern)
        .map_err(|error| error.to_string())?;
    Ok(RegexAnalysis {
        required_literals: LiteralPath::from_hir(&hir).required_literals,
        max_len: max_len(&hir),
        first_bytes: first_set(&hir)
            .filter(|(_, may_be_empty)| !may_be_empty)
            .map(|(chars, _)| chars),
    })
}

impl RegexAnalysis {
    /// Keeps the sets with the longest literals, which are probably the rarest: at most
    /// `max_scanned` sets that the scan searches for, and at most `max_context` other sets. Keeps
    /// none if the scan searches for none of them. Adds the distances of a dropped set to the
    /// distances of the next set that is kept.
    pub fn keep_rarest(&mut self, max_scanned: usize, max_context: usize) {
        let is_scanned = RequiredLiterals::is_scanned;
        let scanned = self.longest(max_scanned, is_scanned);
        if scanned.is_empty() {
            return self.required_literals.clear();
        }
        let is_context = |set: &RequiredLiterals| {
            !set.is_scanned() && set.shortest_len() >= MIN_CONTEXT_LITERAL_BYTES
        };
        let context = self.longest(max_context, is_context);
        let mut selected: Vec<RequiredLiterals> = Vec::new();
        let mut gap = LengthRange::ZERO;
        for (index, literal_set) in self.required_literals.drain(..).enumerate() {
            let range = gap.concat(LengthRange {
                min: literal_set.min_distance,
                max: literal_set.max_distance,
            });
            gap = if scanned.contains(&index) || context.contains(&index) {
                selected.push(RequiredLiterals {
                    min_distance: range.min,
                    max_distance: range.max,
                    ..literal_set
                });
                LengthRange::ZERO
            } else {
                range
            };
        }
        self.required_literals = selected;
    }

    /// Returns the indices of the sets with the longest literals among those for which `is_kind`
    /// returns true, at most `max_count`.
    fn longest(&self, max_count: usize, is_kind: impl Fn(&RequiredLiterals) -> bool) -> Vec<usize> {
        let sets = self.required_literals.iter().enumerate();
        let mut indices: Vec<(usize, usize)> = sets
            .filter(|(_, set)| is_kind(set))
            .map(|(index, set)| (set.shortest_len(), index))
            .collect();
        indices.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        indices.into_iter().take(max_count).map(|(_, index)| index).collect()
    }

    /// Removes all bounds that depend on the lengths of letters in bytes.
    pub fn clear_byte_bounds(&mut self) {
        (self.max_len, self.first_bytes) = (None, None);
        for literal_set in &mut self.required_literals {
            (literal_set.min_distance, literal_set.max_distance) = (0, None);
        }
    }
}

/// Minimum length, in bytes, of the literals in a set that the scan does not search for. Shorter
/// literals occur in nearly every text.
const MIN_CONTEXT_LITERAL_BYTES: usize = 3;

/// A range of lengths in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LengthRange {
    min: usize,
    /// Maximum length; `None` if unlimited.
    max: Option<usize>,
}

impl LengthRange {
    const ZERO: Self = Self { min: 0, max: Some(0) };

    fn from_hir(hir: &Hir) -> Self {
        Self { min: hir.properties().minimum_len().unwrap_or(0), max: max_len(hir) }
    }

    /// Returns the range of lengths of this part followed by `next`.
    fn concat(self, next: Self) -> Self {
        let max = self.max.zip(next.max).map(|(a, b)| a.saturating_add(b));
        Self { min: self.min.saturating_add(next.min), max }
    }

    /// Returns the range of lengths of an alternation of two parts.
    fn alternate(self, other: Self) -> Self {
        let max = self.max.zip(other.max).map(|(a, b)| a.max(b));
        Self { min: self.min.min(other.min), max }
    }
}

/// Returns the length of the longest match in bytes; `None` if it is unlimited, or if the regex
/// cannot match.
fn max_len(hir: &Hir) -> Option<usize> {
    hir.properties().maximum_len()
}

/// Returns the ASCII characters with which a match can begin, and whether a match can be empty.
/// Returns `None` if one of these characters is not ASCII, if a character class at the beginning
/// has more than four ranges, or if one of its ranges has more than four characters.
fn first_set(hir: &Hir) -> Option<(String, bool)> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some((String::new(), true)),
        HirKind::Literal(literal) => {
            let byte = literal.0.first().filter(|byte| byte.is_ascii())?;
            Some((char::from(*byte).to_string(), false))
        }
        HirKind::Class(class) => {
            let ranges: Vec<(u32, u32)> = match class {
                Class::Unicode(class) => {
                    class.iter().map(|range| (range.start().into(), range.end().into())).collect()
                }
                Class::Bytes(class) => {
                    class.iter().map(|range| (range.start().into(), range.end().into())).collect()
                }
            };
            let is_short_range =
                |(from, to): &(u32, u32)| *to < 128 && to.saturating_sub(*from) < 4;
            let is_small = ranges.len() <= 4 && ranges.iter().all(is_short_range);
            let chars =
                ranges.iter().flat_map(|(from, to)| (*from..=*to).filter_map(char::from_u32));
            is_small
                .then(|| (chars.collect::<String>(), false))
                .filter(|(chars, _)| chars.is_ascii())
        }
        HirKind::Capture(capture) => first_set(&capture.sub),
        HirKind::Repetition(repetition) => {
            let (chars, may_be_empty) = first_set(&repetition.sub)?;
            Some((chars, may_be_empty || repetition.min == 0))
        }
        HirKind::Concat(parts) => {
            let mut all = String::new();
            for part in parts {
                let (chars, may_be_empty) = first_set(part)?;
                all.push_str(&chars);
                if !may_be_empty {
                    return Some((all, false));
                }
            }
            Some((all, true))
        }
        HirKind::Alternation(parts) => {
            let parts: Option<Vec<(String, bool)>> = parts.iter().map(first_set).collect();
            let parts = parts?;
            let may_be_empty = parts.iter().any(|(_, may_be_empty)| *may_be_empty);
            Some((parts.into_iter().map(|(chars, _)| chars).collect(), may_be_empty))
        }
    }
}

/// The literals that each match of a part of a regex contains, in order.
struct LiteralPath {
    required_literals: Vec<RequiredLiterals>,
    /// Length from the start of the last literal to the end of the part; without a literal, the
    /// length of the whole part.
    tail: LengthRange,
}

impl LiteralPath {
    fn from_hir(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Literal(literal) => {
                Self::from_literal(&literal.0).unwrap_or(Self::without_literals(hir))
            }
            HirKind::Capture(capture) => Self::from_hir(&capture.sub),
            HirKind::Repetition(repetition) if repetition.min > 0 => {
                let first_round = Self::from_hir(&repetition.sub);
                // Only the literals of the first repetition are recorded; the lengths of the other
                // repetitions are added to the tail.
                let mut other_rounds = LengthRange::from_hir(&repetition.sub);
                let repeat_len = |times: u32, length: usize| {
                    length.saturating_mul(
                        usize::try_from(times.saturating_sub(1)).unwrap_or(usize::MAX),
                    )
                };
                other_rounds.min = repeat_len(repetition.min, other_rounds.min);
                other_rounds.max = repetition
                    .max
                    .zip(other_rounds.max)
                    .map(|(max, length)| repeat_len(max, length));
                Self { tail: first_round.tail.concat(other_rounds), ..first_round }
            }
            HirKind::Concat(parts) => {
                let empty = Self { required_literals: Vec::new(), tail: LengthRange::ZERO };
                parts.iter().map(Self::from_hir).fold(empty, Self::concat)
            }
            HirKind::Alternation(parts) => {
                let union = parts
                    .iter()
                    .map(|part| Self::from_hir(part).rarest_only())
                    .reduce(Self::alternate);
                union
                    .filter(|path| !path.required_literals.is_empty())
                    .unwrap_or(Self::without_literals(hir))
            }
            _ => Self::without_literals(hir),
        }
    }

    /// Returns the path of a literal; `None` if the literal is not UTF-8.
    fn from_literal(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8(bytes.to_vec()).ok()?;
        let tail = LengthRange { min: text.len(), max: Some(text.len()) };
        let literal_set =
            RequiredLiterals { alternatives: vec![text], min_distance: 0, max_distance: Some(0) };
        Some(Self { required_literals: vec![literal_set], tail })
    }

    /// Returns a path without required literals, for a part of which only the length is known.
    fn without_literals(hir: &Hir) -> Self {
        Self { required_literals: Vec::new(), tail: LengthRange::from_hir(hir) }
    }

    /// Returns the path of this part followed by `next`.
    fn concat(mut self, next: Self) -> Self {
        let mut required_literals = next.required_literals.into_iter();
        let Some(first) = required_literals.next() else {
            return Self { tail: self.tail.concat(next.tail), ..self };
        };
        let range =
            self.tail.concat(LengthRange { min: first.min_distance, max: first.max_distance });
        self.required_literals.push(RequiredLiterals {
            min_distance: range.min,
            max_distance: range.max,
            ..first
        });
        self.required_literals.extend(required_literals);
        Self { tail: next.tail, ..self }
    }

    /// Keeps only the set with the longest literals, which are probably the rarest. Adds the
    /// distances of the other sets to its distance and to the tail.
    fn rarest_only(self) -> Self {
        let rarest_len = self.required_literals.iter().map(RequiredLiterals::shortest_len).max();
        let index = self
            .required_literals
            .iter()
            .position(|literal_set| Some(literal_set.shortest_len()) == rarest_len);
        let Some(index) = index else { return self };
        let range = |literal_set: &RequiredLiterals| LengthRange {
            min: literal_set.min_distance,
            max: literal_set.max_distance,
        };
        let sum = |literal_sets: &[RequiredLiterals]| {
            literal_sets.iter().map(range).fold(LengthRange::ZERO, LengthRange::concat)
        };
        let (before, after) = self.required_literals.split_at(index.saturating_add(1));
        let (start, tail) = (sum(before), sum(after).concat(self.tail));
        let strings =
            before.last().map(|literal_set| literal_set.alternatives.clone()).unwrap_or_default();
        Self {
            required_literals: vec![RequiredLiterals {
                alternatives: strings,
                min_distance: start.min,
                max_distance: start.max,
            }],
            tail,
        }
    }

    /// Returns the path of an alternation. Each side must have at most one set of literals. The
    /// result has the union of both sets, or no set if one side has none.
    fn alternate(mut self, mut other: Self) -> Self {
        let tail = self.tail.alternate(other.tail);
        let (Some(a), Some(b)) = (self.required_literals.pop(), other.required_literals.pop())
        else {
            return Self { required_literals: Vec::new(), tail };
        };
        let range = LengthRange { min: a.min_distance, max: a.max_distance }
            .alternate(LengthRange { min: b.min_distance, max: b.max_distance });
        let strings = [a.alternatives, b.alternatives].concat();
        Self {
            required_literals: vec![RequiredLiterals {
                alternatives: strings,
                min_distance: range.min,
                max_distance: range.max,
            }],
            tail,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_required_literals() {
        let rows: &[(&str, &[(&[&str], usize, Option<usize>)], Option<usize>)] = &[
            (r"reasoning", &[(&["reasoning"], 0, Some(0))], Some(9)),
            (
                r"(write|give) (the|your) steps?",
                &[
                    (&["write", "give"], 0, Some(0)),
                    (&[" "], 4, Some(5)),
                    (&["the", "your"], 1, Some(1)),
                    (&[" step"], 3, Some(4)),
                ],
                Some(16),
            ),
            (
                r"(reasoning|thinking) \d+",
                &[(&["reasoning", "thinking"], 0, Some(0)), (&[" "], 8, Some(9))],
                None,
            ),
            (
                r"make (?-u:.{0,6}) pairs",
                &[(&["make "], 0, Some(0)), (&[" pairs"], 5, Some(11))],
                Some(17),
            ),
            (r"(?:generate|create)+", &[(&["generate", "create"], 0, Some(0))], None),
            (r"[a-c]{1,3}(?:x|yes,? please)", &[(&["x", " please"], 1, Some(7))], Some(14)),
            (r"(?:ab[0-9]){2,3}end", &[(&["ab"], 0, Some(0)), (&["end"], 6, Some(9))], Some(12)),
            (r"\w+", &[], None),
            (r"(abc)?", &[], Some(3)),
        ];
        for (pattern, required_literals, max_len) in rows {
            let literal_set =
                |(strings, min, max): &(&[&str], usize, Option<usize>)| RequiredLiterals {
                    alternatives: strings.iter().map(ToString::to_string).collect(),
                    min_distance: *min,
                    max_distance: *max,
                };
            let analysis = analyze(pattern).unwrap();
            let expected: Vec<RequiredLiterals> =
                required_literals.iter().map(literal_set).collect();
            assert_eq!(
                (analysis.required_literals, analysis.max_len),
                (expected, *max_len),
                "{pattern}"
            );
        }
        assert!(analyze("(").is_err());
    }

    #[test]
    fn finds_first_bytes() {
        let rows = [
            (r"# ?(the )?prompt", Some("#")),
            (r"(write|give) it", Some("wg")),
            (r"^(a|an) (x|y)", Some("aa")),
            (r"(?:ab)?c", Some("ac")),
            (r"[a-c]x", Some("abc")),
            (r"\bx", Some("x")),
            (r"[a-z]x", None),
            (r"(?-u:.)x", None),
            ("\u{e9}x", None),
            (r"(a|b)*", None),
            (r"x?", None),
        ];
        for (pattern, expected) in rows {
            assert_eq!(analyze(pattern).unwrap().first_bytes.as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn dropped_literals_widen_the_distance() {
        let pattern = r"(write|give) (the|your) (big )?steps? (of|in) (reasoning|thinking)";
        let mut analysis = analyze(pattern).unwrap();
        let sets = |analysis: &RegexAnalysis| -> Vec<_> {
            let set = |set: &RequiredLiterals| {
                (set.alternatives.concat(), set.min_distance, set.max_distance)
            };
            analysis.required_literals.iter().map(set).collect()
        };
        analysis.keep_rarest(4, 2);
        let last = |min, max| ("reasoningthinking".into(), min, Some(max));
        assert_eq!(
            sets(&analysis),
            [("writegive".into(), 0, Some(0)), ("step".into(), 9, Some(15)), last(8, 9)]
        );
        analysis.keep_rarest(1, 0);
        assert_eq!(sets(&analysis), [last(17, 24)]);
        analysis.keep_rarest(0, 4);
        assert_eq!(sets(&analysis), []);
    }
}
