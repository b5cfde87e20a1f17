//! Where a key or value stands in a YAML file; the Sigma parser does not say.

use saphyr_parser::{Event, Parser};

/// Lines and columns of every node of a document, by the keys and numbers that lead to it.
#[derive(Clone, Debug, Default)]
pub struct Places {
    nodes: Vec<(Vec<String>, usize, usize)>,
}

impl Places {
    /// Reads a file. A broken file has places up to where it breaks.
    pub fn new(text: &str) -> Self {
        let mut places = Self::default();
        let mut stack: Vec<Open> = Vec::new();
        for event in Parser::new_from_str(text) {
            let Ok((event, span)) = event else { break };
            // The parser counts columns from 0.
            let (line, column) = (span.start.line(), span.start.col().saturating_add(1));
            match event {
                Event::MappingStart(..) | Event::SequenceStart(..) => {
                    places.value(&mut stack, line, column);
                    let is_map = matches!(event, Event::MappingStart(..));
                    stack.push(Open { is_map, key: None, next: 0 });
                }
                Event::MappingEnd | Event::SequenceEnd => {
                    stack.pop();
                    settle(&mut stack);
                }
                Event::Scalar(scalar, ..) => match stack.last_mut() {
                    Some(open) if open.is_map && open.key.is_none() => {
                        open.key = Some(scalar.into_owned());
                        places.push(&stack, line, column);
                    }
                    _ => {
                        places.value(&mut stack, line, column);
                        settle(&mut stack);
                    }
                },
                Event::Alias(_) => settle(&mut stack),
                Event::DocumentEnd => stack.clear(),
                _ => {}
            }
        }
        places
    }

    /// Line and column of the node at `path`, or of the nearest one above it.
    pub fn find(&self, path: &[&str]) -> (usize, usize) {
        let is = |node: &[String], path: &[&str]| {
            node.iter().map(String::as_str).eq(path.iter().copied())
        };
        (0..=path.len())
            .rev()
            .filter_map(|length| path.get(..length))
            .find_map(|path| self.nodes.iter().find(|(node, ..)| is(node, path)))
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
}
