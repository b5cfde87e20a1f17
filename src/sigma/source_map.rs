//! Positions of keys and values in a YAML file, which Sigma's parser does not report.

use std::collections::HashSet;

use saphyr_parser::{Event, Parser};

/// The positions of all keys and list elements in the first document of a file. A node is
/// identified by its path, which consists of keys and list indices.
#[derive(Clone, Debug, Default)]
pub struct SourceMap {
    /// Path, line and column, in the order of the file.
    nodes: Vec<(Vec<String>, usize, usize)>,
    duplicate_keys: Vec<(String, usize, usize)>,
    second_document: Option<(usize, usize)>,
}

impl SourceMap {
    /// Records the positions in a file, up to its first syntax error.
    pub fn new(text: &str) -> Self {
        let mut source_map = Self::default();
        let mut stack: Vec<Frame> = Vec::new();
        let mut has_begun = false;
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            // The parser counts columns from 0.
            let (line, column) = (span.start.line(), span.start.col().saturating_add(1));
            match event {
                Event::DocumentStart(_) if has_begun => {
                    source_map.second_document = Some((line, column));
                    break;
                }
                Event::DocumentStart(_) => has_begun = true,
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    source_map.record_element(&mut stack, line, column);
                    let is_map = matches!(event, Event::MappingStart(..));
                    stack.push(Frame { is_map, keys: HashSet::new(), key: None, next_index: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    stack.pop();
                    finish_value(&mut stack);
                }
                Event::Scalar(scalar, ..) => match stack.last_mut() {
                    Some(frame) if frame.is_map && frame.key.is_none() => {
                        let key = scalar.into_owned();
                        if !frame.keys.insert(key.clone()) {
                            source_map.duplicate_keys.push((key.clone(), line, column));
                        }
                        frame.key = Some(key);
                        source_map.record_node(&stack, line, column);
                    }
                    _ => {
                        source_map.record_element(&mut stack, line, column);
                        finish_value(&mut stack);
                    }
                },
                Event::Alias(_) => finish_value(&mut stack),
                _ => {}
            }
        }
        source_map
    }

    /// Returns the keys that are repeated in a map, each with the line and column of its
    /// repetition.
    pub fn duplicate_keys(&self) -> &[(String, usize, usize)] {
        &self.duplicate_keys
    }

    /// Returns the line and column of the second document; `None` if the file has only one
    /// document.
    pub fn second_document(&self) -> Option<(usize, usize)> {
        self.second_document
    }

    /// Returns the line and column of the node at `path`, or of its nearest parent that exists. For
    /// a repeated key, returns the position of its last occurrence.
    pub fn find(&self, path: &[&str]) -> (usize, usize) {
        let matches = |node: &[String], path: &[&str]| {
            node.iter().map(String::as_str).eq(path.iter().copied())
        };
        (0..=path.len())
            .rev()
            .filter_map(|length| path.get(..length))
            .find_map(|path| self.nodes.iter().rev().find(|(node, ..)| matches(node, path)))
            .map_or((1, 1), |(_, line, column)| (*line, *column))
    }

    /// Records the position of a value if it is the root or an element of a list. The values of a
    /// map are not recorded, because they have the positions of their keys.
    fn record_element(&mut self, stack: &mut [Frame], line: usize, column: usize) {
        if stack.last().is_none_or(|frame| !frame.is_map) {
            self.record_node(stack, line, column);
        }
    }

    /// Records a node at the path of the current key or index in each frame.
    fn record_node(&mut self, stack: &[Frame], line: usize, column: usize) {
        let path = stack
            .iter()
            .map(|frame| frame.key.clone().unwrap_or_else(|| frame.next_index.to_string()));
        self.nodes.push((path.collect(), line, column));
    }
}

/// A map or list that the parser has entered and not left yet.
struct Frame {
    is_map: bool,
    /// Keys of the map that have been parsed so far.
    keys: HashSet<String>,
    /// Key whose value is parsed next; `None` in a list, and in a map before the next key.
    key: Option<String>,
    next_index: usize,
}

/// Moves the innermost frame to its next key or list element. Called after each value.
fn finish_value(stack: &mut [Frame]) {
    if let Some(frame) = stack.last_mut() {
        frame.key = None;
        frame.next_index = frame.next_index.saturating_add(1);
    }
}

/// Returns the line and column, both from 1, of the character at a byte offset.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
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
        let text = "title: x\ndetection:\n  answer:\n    a|contains: [one, 'two']\n  list:\n\
                    \x20   - b: 1\n    - c: 2\n";
        let source_map = SourceMap::new(text);
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
            assert_eq!(source_map.find(path), expected, "{path:?}");
        }
    }

    #[test]
    fn finds_repeated_keys_and_a_second_document() {
        let source_map = SourceMap::new("a: 1\nb: {c: 1, c: 2}\na: [{d: 1}, {d: 2}]\n---\na: 1\n");
        assert_eq!(source_map.duplicate_keys(), [("c".to_owned(), 2, 11), ("a".to_owned(), 3, 1)]);
        assert_eq!(source_map.second_document(), Some((4, 1)));
        assert_eq!(source_map.find(&["a"]), (3, 1));
    }

    #[test]
    fn counts_lines_and_columns_from_1() {
        let rows = [(0, (1, 1)), (2, (1, 3)), (3, (2, 1)), (5, (2, 2)), (99, (2, 3))];
        for (offset, expected) in rows {
            assert_eq!(line_column("ab\nÜc", offset), expected, "{offset}");
        }
    }
}
