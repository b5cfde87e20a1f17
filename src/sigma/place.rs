//! Where a key or value stands in a file; the Sigma parser does not say.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser};

/// Lines and columns of every node of a file's first document, by the keys and numbers that lead to it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    nodes: Vec<(Vec<String>, usize, usize)>,
    repeated: Vec<(String, usize, usize)>,
    second: Option<(usize, usize)>,
}

impl Places {
    /// Reads a file. A broken file has places up to where it breaks.
    pub fn new(text: &str) -> Self {
        let mut places = Self::default();
        let mut stack: Vec<Open> = Vec::new();
        let mut has_begun = false;
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            // The parser counts columns from 0.
            let (line, column) = (span.start.line(), span.start.col().saturating_add(1));
            match event {
                Event::DocumentStart(_) if has_begun => {
                    places.second = Some((line, column));
                    break;
                }
                Event::DocumentStart(_) => has_begun = true,
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    places.value(&mut stack, line, column);
                    let is_map = matches!(event, Event::MappingStart(..));
                    stack.push(Open { is_map, keys: HashSet::new(), key: None, next: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    stack.pop();
                    settle(&mut stack);
                }
                Event::Scalar(scalar, ..) => match stack.last_mut() {
                    Some(open) if open.is_map && open.key.is_none() => {
                        let key = scalar.into_owned();
                        if !open.keys.insert(key.clone()) {
                            places.repeated.push((key.clone(), line, column));
                        }
                        open.key = Some(key);
                        places.push(&stack, line, column);
                    }
                    _ => {
                        places.value(&mut stack, line, column);
                        settle(&mut stack);
                    }
                },
                Event::Alias(_) => settle(&mut stack),
                _ => {}
            }
        }
        places
    }

    /// Keys that their map has already, each with its line and column.
    pub fn repeated(&self) -> &[(String, usize, usize)] {
        &self.repeated
    }

    /// Line and column at which a second document begins.
    pub fn second(&self) -> Option<(usize, usize)> {
        self.second
    }

    /// Line and column of the node at `path`, or of the nearest one above it. Of a repeated key the
    /// last one counts.
    pub fn find(&self, path: &[&str]) -> (usize, usize) {
        let is = |node: &[String], path: &[&str]| {
            node.iter().map(String::as_str).eq(path.iter().copied())
        };
        (0..=path.len())
            .rev()
            .filter_map(|length| path.get(..length))
            .find_map(|path| self.nodes.iter().rev().find(|(node, ..)| is(node, path)))
            .map_or((1, 1), |(_, line, column)| (*line, *column))
    }

    /// Notes a value that is an element of a list; a map's values stand with their keys.
    fn value(&mut self, stack: &mut [Open], line: usize, column: usize) {
        if stack.last().is_none_or(|open| !open.is_map) {
            self.push(stack, line, column);
        }
    }

    fn push(&mut self, stack: &[Open], line: usize, column: usize) {
        let path =
            stack.iter().map(|open| open.key.clone().unwrap_or_else(|| open.next.to_string()));
        self.nodes.push((path.collect(), line, column));
    }
}

/// A map or list that has begun.
struct Open {
    is_map: bool,
    /// A map's keys so far.
    keys: HashSet<String>,
    key: Option<String>,
    next: usize,
}

/// A value has ended: the next one is another key's, or the list's next.
fn settle(stack: &mut [Open]) {
    if let Some(open) = stack.last_mut() {
        open.key = None;
        open.next = open.next.saturating_add(1);
    }
}

/// Line and column, both from 1, of the character at byte `at`.
pub fn line_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column =
        before.rsplit('\n').next().map_or(0, |last| last.chars().count()).saturating_add(1);
    (line, column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_keys_and_elements() {
        let text = "title: x\ndetection:\n  answer:\n    a|contains: [one, 'two']\n  list:\n    - b: 1\n    - c: 2\n";
        let places = Places::new(text);
        let rows: [(&[&str], (usize, usize)); 7] = [
            (&["title"], (1, 1)),
            (&["detection", "answer"], (3, 3)),
            (&["detection", "answer", "a|contains"], (4, 5)),
            (&["detection", "answer", "a|contains", "1"], (4, 23)),
            (&["detection", "list", "1", "c"], (7, 7)),
            (&["detection", "nowhere", "at all"], (2, 1)),
            (&["nothing"], (1, 1)),
        ];
        for (path, expected) in rows {
            assert_eq!(places.find(path), expected, "{path:?}");
        }
    }

    #[test]
    fn finds_repeated_keys_and_a_second_document() {
        let places = Places::new("a: 1\nb: {c: 1, c: 2}\na: [{d: 1}, {d: 2}]\n---\na: 1\n");
        assert_eq!(places.repeated(), [("c".to_owned(), 2, 11), ("a".to_owned(), 3, 1)]);
        assert_eq!(places.second(), Some((4, 1)));
        assert_eq!(places.find(&["a"]), (3, 1));
    }

    #[test]
    fn counts_lines_and_columns_from_1() {
        let rows = [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (99, (2, 3))];
        for (at, expected) in rows {
            assert_eq!(line_column("ab\nÜc", at), expected, "{at}");
        }
    }
}
