//! Degrading: a request without what makes its answer worth harvesting. All other bytes stay as
//! they came.

use std::ops::Range;

use crate::json::{Reader, Token};

/// Removes log-probabilities, biases, surplus choices, echoes and reasoning summaries from a JSON
/// body; `None` where there is nothing to remove. Entries of a message batch are edited each.
///
/// ```
/// # use hedgerow::degrade::degrade;
/// let body = br#"{"model":"m","n":4,"logprobs":true,"messages":[]}"#;
/// assert_eq!(degrade(body).unwrap(), br#"{"model":"m","n":1,"messages":[]}"#);
/// ```
pub fn degrade(body: &[u8]) -> Option<Vec<u8>> {
    let mut edits = Edits { body, list: Vec::new() };
    let mut reader = Reader::new(body, 0);
    edits.object(&mut reader, Scope::Body, 0);
    // A body that does not read cleanly is not edited: the cut might fall in the wrong place.
    let broken = reader.broken();
    if broken.syntax || broken.truncated || edits.list.is_empty() {
        return None;
    }
    Some(edits.apply())
}

/// Where a member stands; the same key means different things in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Body,
    Batch,
    Reasoning,
    Generation,
    Thinking,
}

/// What happens to a member.
enum Edit {
    Keep,
    Remove,
    Replace(&'static str),
    Enter(Scope),
    Include,
}

struct Edits<'b> {
    body: &'b [u8],
    list: Vec<(Range<usize>, &'static str)>,
}

impl Edits<'_> {
    fn object(&mut self, reader: &mut Reader<'_>, scope: Scope, depth: u8) {
        match reader.token() {
            Token::Object => {}
            Token::Array if scope == Scope::Batch && depth < DEPTH => {
                while reader.element() {
                    self.object(reader, Scope::Batch, depth.saturating_add(1));
                }
                return;
            }
            Token::Array => return reader.leave(),
            _ => return,
        }
        // A removed member takes one comma with it: the one before it, or, where all before it are
        // gone, the one behind it.
        let mut behind_kept = reader.position();
        let mut kept = false;
        let mut pending: Option<Range<usize>> = None;
        while let Some(key) = reader.key() {
            let start = key.range().start.saturating_sub(1);
            if let Some(range) = pending.take() {
                self.list.push((range.start..start, ""));
            }
            let edit = if depth < DEPTH { edit(&key.text(), scope) } else { Edit::Keep };
            let before = reader.position();
            match edit {
                Edit::Remove => {
                    reader.skip();
                    let end = reader.position();
                    if kept {
                        self.list.push((behind_kept..end, ""));
                        behind_kept = end;
                    } else {
                        pending = Some(start..end);
                    }
                    continue;
                }
                Edit::Keep => reader.skip(),
                Edit::Replace(value) => {
                    reader.skip();
                    let range = before..reader.position();
                    if self.body.get(range.clone()).map(<[u8]>::trim_ascii)
                        != Some(value.as_bytes())
                    {
                        self.list.push((range, value));
                    }
                }
                Edit::Enter(scope) => self.object(reader, scope, depth.saturating_add(1)),
                Edit::Include => self.include(reader),
            }
            kept = true;
            behind_kept = reader.position();
        }
        self.list.extend(pending.map(|range| (range, "")));
    }

    /// Edits `include`: what it asks for beside the answer.
    fn include(&mut self, reader: &mut Reader<'_>) {
        let start = reader.position();
        let mut keeps = true;
        match reader.token() {
            Token::Array => {
                while reader.element() {
                    match reader.token() {
                        Token::String(raw) => {
                            let asked = raw.bytes();
                            keeps &= asked != b"reasoning.encrypted_content";
                            keeps &= asked != b"message.output_text.logprobs";
                        }
                        Token::Object | Token::Array => reader.leave(),
                        _ => {}
                    }
                }
            }
            Token::Object => reader.leave(),
            _ => {}
        }
        if !keeps {
            self.list.push((start..reader.position(), "[]"));
        }
    }

    fn apply(&self) -> Vec<u8> {
        let body = self.body;
        let mut out = Vec::with_capacity(body.len());
        let mut at = 0;
        for (range, with) in &self.list {
            out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
            out.extend_from_slice(with.as_bytes());
            at = range.end;
        }
        out.extend_from_slice(body.get(at..).unwrap_or_default());
        out
    }
}

/// Nesting that is followed; Gemini's batches need seven levels.
const DEPTH: u8 = 12;

fn edit(key: &str, scope: Scope) -> Edit {
    match (scope, key) {
        (Scope::Body, "logprobs" | "top_logprobs" | "logit_bias" | "echo" | "best_of") => {
            Edit::Remove
        }
        (Scope::Body, "n") => Edit::Replace("1"),
        (Scope::Body, "include") => Edit::Include,
        (Scope::Body, "reasoning") => Edit::Enter(Scope::Reasoning),
        (Scope::Body, "generationConfig" | "generation_config") => Edit::Enter(Scope::Generation),
        (Scope::Body | Scope::Batch, "requests" | "batch" | "input_config" | "inputConfig") => {
            Edit::Enter(Scope::Batch)
        }
        (Scope::Batch, "params" | "request") => Edit::Enter(Scope::Body),
        (Scope::Reasoning, "summary" | "generate_summary") => Edit::Remove,
        (Scope::Generation, "responseLogprobs" | "response_logprobs" | "logprobs") => Edit::Remove,
        (Scope::Generation, "candidateCount" | "candidate_count") => Edit::Replace("1"),
        (Scope::Generation, "thinkingConfig" | "thinking_config") => Edit::Enter(Scope::Thinking),
        (Scope::Thinking, "includeThoughts" | "include_thoughts") => Edit::Replace("false"),
        _ => Edit::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_what_is_worth_harvesting() {
        let rows: &[(&str, &str, Option<&str>)] = &[
            ("nothing to do", r#"{"model":"m","messages":[{"logprobs":1}]}"#, None),
            ("first", r#"{"logprobs":true,"model":"m"}"#, Some(r#"{"model":"m"}"#)),
            ("last", r#"{"model":"m","echo":true}"#, Some(r#"{"model":"m"}"#)),
            ("only", r#"{ "logit_bias" : {"1":2} }"#, Some("{  }")),
            ("first two", r#"{"echo":true, "best_of":2, "model":"m"}"#, Some(r#"{"model":"m"}"#)),
            (
                "between",
                r#"{"a":1, "logprobs":5, "top_logprobs":5, "b":2}"#,
                Some(r#"{"a":1, "b":2}"#),
            ),
            ("spread", r#"{"echo":1,"a":1,"echo":1,"b":2,"echo":1}"#, Some(r#"{"a":1,"b":2}"#)),
            ("choices", r#"{"n": 8,"a":1}"#, Some(r#"{"n":1,"a":1}"#)),
            (
                "reasoning",
                r#"{"reasoning":{"effort":"high","summary":"auto"}}"#,
                Some(r#"{"reasoning":{"effort":"high"}}"#),
            ),
            (
                "include",
                r#"{"include":["reasoning.encrypted_content"],"a":1}"#,
                Some(r#"{"include":[],"a":1}"#),
            ),
            ("include, harmless", r#"{"include":["file_search_call.results"]}"#, None),
            (
                "gemini",
                r#"{"generationConfig":{"candidateCount":4,"responseLogprobs":true,"thinkingConfig":{"includeThoughts":true}}}"#,
                Some(
                    r#"{"generationConfig":{"candidateCount":1,"thinkingConfig":{"includeThoughts":false}}}"#,
                ),
            ),
            (
                "message batch",
                r#"{"requests":[{"custom_id":"a","params":{"echo":true,"n":2}}]}"#,
                Some(r#"{"requests":[{"custom_id":"a","params":{"n":1}}]}"#),
            ),
            ("include, odd", r#"{"include":[{}],"echo":true}"#, Some(r#"{"include":[{}]}"#)),
            ("not a number", r#"{"temperature":NaN,"echo":true}"#, Some(r#"{"temperature":NaN}"#)),
            (
                "gemini batch",
                r#"{"batch":{"input_config":{"requests":{"requests":[{"request":{"generationConfig":{"candidateCount":4}}}]}}}}"#,
                Some(
                    r#"{"batch":{"input_config":{"requests":{"requests":[{"request":{"generationConfig":{"candidateCount":1}}}]}}}}"#,
                ),
            ),
            ("escaped key", r#"{"log\u0070robs":true,"a":1}"#, Some(r#"{"a":1}"#)),
            ("broken", r#"{"logprobs":true,"a":"#, None),
        ];
        for (name, body, expected) in rows {
            let degraded = degrade(body.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(degraded.as_deref(), *expected, "{name}");
            assert_eq!(degraded.and_then(|again| degrade(again.as_bytes())), None, "{name}, twice");
        }
    }
}
