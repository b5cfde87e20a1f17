//! What every match of a regex passes on its way, and how long its matches can be.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

use crate::signature::Landmark;

/// What every match of a regex is known to have.
#[derive(Debug, PartialEq)]
pub struct Required {
    /// In the order in which they are passed.
    pub landmarks: Vec<Landmark>,
    /// Bytes of the longest match, where there is a longest.
    pub longest: Option<usize>,
    /// ASCII characters with which every match begins, where they are few.
    pub first: Option<String>,
}

/// Looks at a pattern without its flags: case insensitivity would turn letters into classes, and
/// text is folded anyway.
pub fn required(pattern: &str) -> Result<Required, String> {
    let hir = ParserBuilder::new()
        .utf8(false)
        .build()
        .parse(pattern)
        .map_err(|error| error.to_string())?;
    Ok(Required {
        landmarks: Way::of(&hir).landmarks,
        longest: longest(&hir),
        first: first(&hir).filter(|(_, may_be_empty)| !may_be_empty).map(|(first, _)| first),
    })
}

impl Required {
    /// Keeps the `most` landmarks with the longest strings, and none with a string shorter than
    /// `shortest` bytes.
    pub fn thin(&mut self, shortest: usize, most: usize) {
        let mut lengths: Vec<usize> = self.landmarks.iter().map(Landmark::shortest).collect();
        lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        let least = lengths.get(most.saturating_sub(1)).copied().unwrap_or(0).max(shortest);
        let mut kept: Vec<Landmark> = Vec::new();
        let mut passed = Span::NONE;
        for landmark in self.landmarks.drain(..) {
            let span = passed.then(Span { min: landmark.min, max: landmark.max });
            if landmark.shortest() >= least && kept.len() < most {
                kept.push(Landmark { min: span.min, max: span.max, ..landmark });
                passed = Span::NONE;
            } else {
                passed = span;
            }
        }
        self.landmarks = kept;
    }

    /// Forgets all that depends on the bytes of letters.
    pub fn forget_bytes(&mut self) {
        (self.longest, self.first) = (None, None);
        for landmark in &mut self.landmarks {
            (landmark.min, landmark.max) = (0, None);
        }
    }
}

impl Landmark {
    /// The length of the shortest string: a landmark is as rare as that.
    fn shortest(&self) -> usize {
        self.strings.iter().map(String::len).min().unwrap_or(0)
    }
}

/// A number of bytes: at least, and at most if there is a most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    min: usize,
    max: Option<usize>,
}

impl Span {
    const NONE: Self = Self { min: 0, max: Some(0) };

    fn of(hir: &Hir) -> Self {
        Self { min: hir.properties().minimum_len().unwrap_or(0), max: longest(hir) }
    }

    /// This one, and then another.
    fn then(self, next: Self) -> Self {
        let max = self.max.zip(next.max).map(|(a, b)| a.saturating_add(b));
        Self { min: self.min.saturating_add(next.min), max }
    }

    /// This one or another.
    fn or(self, other: Self) -> Self {
        let max = self.max.zip(other.max).map(|(a, b)| a.max(b));
        Self { min: self.min.min(other.min), max }
    }
}

/// The longest match; none also where there is no match at all.
fn longest(hir: &Hir) -> Option<usize> {
    hir.properties().maximum_len()
}

/// The ASCII characters with which a match may begin, and whether it may be empty; `None` where they
/// are many, or others.
fn first(hir: &Hir) -> Option<(String, bool)> {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => Some((String::new(), true)),
        HirKind::Literal(literal) => {
            let byte = literal.0.first().filter(|byte| byte.is_ascii())?;
            Some((char::from(*byte).to_string(), false))
        }
        HirKind::Class(class) => {
            let ranges: Vec<(u32, u32)> = match class {
                Class::Unicode(class) => {
                    class.iter().map(|it| (it.start().into(), it.end().into())).collect()
                }
                Class::Bytes(class) => {
                    class.iter().map(|it| (it.start().into(), it.end().into())).collect()
                }
            };
            let is_few = |(from, to): &(u32, u32)| *to < 128 && to.saturating_sub(*from) < 4;
            let few = ranges.len() <= 4 && ranges.iter().all(is_few);
            let chars =
                ranges.iter().flat_map(|(from, to)| (*from..=*to).filter_map(char::from_u32));
            few.then(|| (chars.collect::<String>(), false)).filter(|(chars, _)| chars.is_ascii())
        }
        HirKind::Capture(capture) => first(&capture.sub),
        HirKind::Repetition(repetition) => {
            let (chars, may_be_empty) = first(&repetition.sub)?;
            Some((chars, may_be_empty || repetition.min == 0))
        }
        HirKind::Concat(parts) => {
            let mut all = String::new();
            for part in parts {
                let (chars, may_be_empty) = first(part)?;
                all.push_str(&chars);
                if !may_be_empty {
                    return Some((all, false));
                }
            }
            Some((all, true))
        }
        HirKind::Alternation(parts) => {
            let parts: Option<Vec<(String, bool)>> = parts.iter().map(first).collect();
            let parts = parts?;
            let may_be_empty = parts.iter().any(|(_, may_be_empty)| *may_be_empty);
            Some((parts.into_iter().map(|(chars, _)| chars).collect(), may_be_empty))
        }
    }
}

/// What is passed from the start of a part of a regex to its end.
struct Way {
    landmarks: Vec<Landmark>,
    /// From the start of the last landmark, or else of the part, to its end.
    rest: Span,
}

impl Way {
    fn of(hir: &Hir) -> Self {
        match hir.kind() {
            HirKind::Literal(literal) => Self::literal(&literal.0).unwrap_or(Self::unknown(hir)),
            HirKind::Capture(capture) => Self::of(&capture.sub),
            HirKind::Repetition(repetition) if repetition.min > 0 => {
                let once = Self::of(&repetition.sub);
                // The landmarks of the first round; the other rounds are part of the rest.
                let mut others = Span::of(&repetition.sub);
                let rounds = |times: u32, length: usize| {
                    length.saturating_mul(
                        usize::try_from(times.saturating_sub(1)).unwrap_or(usize::MAX),
                    )
                };
                others.min = rounds(repetition.min, others.min);
                others.max =
                    repetition.max.zip(others.max).map(|(max, length)| rounds(max, length));
                Self { rest: once.rest.then(others), ..once }
            }
            HirKind::Concat(parts) => {
                let start = Self { landmarks: Vec::new(), rest: Span::NONE };
                parts.iter().map(Self::of).fold(start, Self::then)
            }
            HirKind::Alternation(parts) => {
                let union = parts.iter().map(|part| Self::of(part).best()).reduce(Self::or);
                union.filter(|way| !way.landmarks.is_empty()).unwrap_or(Self::unknown(hir))
            }
            _ => Self::unknown(hir),
        }
    }

    fn literal(bytes: &[u8]) -> Option<Self> {
        let text = String::from_utf8(bytes.to_vec()).ok()?;
        let rest = Span { min: text.len(), max: Some(text.len()) };
        let landmark = Landmark { strings: vec![text], min: 0, max: Some(0) };
        Some(Self { landmarks: vec![landmark], rest })
    }

    fn unknown(hir: &Hir) -> Self {
        Self { landmarks: Vec::new(), rest: Span::of(hir) }
    }

    /// This way, and then another.
    fn then(mut self, next: Self) -> Self {
        let mut landmarks = next.landmarks.into_iter();
        let Some(first) = landmarks.next() else {
            return Self { rest: self.rest.then(next.rest), ..self };
        };
        let span = self.rest.then(Span { min: first.min, max: first.max });
        self.landmarks.push(Landmark { min: span.min, max: span.max, ..first });
        self.landmarks.extend(landmarks);
        Self { rest: next.rest, ..self }
    }

    /// The same with the rarest of its landmarks only.
    fn best(self) -> Self {
        let rarest = self.landmarks.iter().map(Landmark::shortest).max();
        let number = self.landmarks.iter().position(|it| Some(it.shortest()) == rarest);
        let Some(number) = number else { return self };
        let span = |landmark: &Landmark| Span { min: landmark.min, max: landmark.max };
        let sum = |landmarks: &[Landmark]| landmarks.iter().map(span).fold(Span::NONE, Span::then);
        let (before, behind) = self.landmarks.split_at(number.saturating_add(1));
        let (start, rest) = (sum(before), sum(behind).then(self.rest));
        let strings = before.last().map(|landmark| landmark.strings.clone()).unwrap_or_default();
        Self { landmarks: vec![Landmark { strings, min: start.min, max: start.max }], rest }
    }

    /// This way or another, each with one landmark; none where one of them has none.
    fn or(mut self, mut other: Self) -> Self {
        let rest = self.rest.or(other.rest);
        let (Some(a), Some(b)) = (self.landmarks.pop(), other.landmarks.pop()) else {
            return Self { landmarks: Vec::new(), rest };
        };
        let span = Span { min: a.min, max: a.max }.or(Span { min: b.min, max: b.max });
        let strings = [a.strings, b.strings].concat();
        Self { landmarks: vec![Landmark { strings, min: span.min, max: span.max }], rest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_every_match_passes() {
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
        for (pattern, landmarks, longest) in rows {
            let landmark = |(strings, min, max): &(&[&str], usize, Option<usize>)| Landmark {
                strings: strings.iter().map(ToString::to_string).collect(),
                min: *min,
                max: *max,
            };
            let found = required(pattern).unwrap();
            let expected: Vec<Landmark> = landmarks.iter().map(landmark).collect();
            assert_eq!((found.landmarks, found.longest), (expected, *longest), "{pattern}");
        }
        assert!(required("(").is_err());
    }

    #[test]
    fn finds_what_every_match_begins_with() {
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
            assert_eq!(required(pattern).unwrap().first.as_deref(), expected, "{pattern}");
        }
    }

    #[test]
    fn what_is_dropped_leaves_its_distance() {
        let mut required = required(r"(write|give) (the|your) steps?").unwrap();
        required.thin(4, 4);
        let spans: Vec<_> =
            required.landmarks.iter().map(|it| (it.strings.len(), it.min, it.max)).collect();
        assert_eq!(spans, [(2, 0, Some(0)), (1, 8, Some(10))]);
        required.thin(4, 1);
        assert_eq!(
            required.landmarks,
            [Landmark { strings: vec![" step".into()], min: 8, max: Some(10) }]
        );
    }
}
