//! Degrading: a request without what makes its answer worth harvesting. All other bytes stay as
//! they came.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use crate::extract::lenient_json::{Reader, Token};
use crate::extract::{MemberName, batch_lines};
use crate::http::route::Endpoint;

/// What became of a body that should be degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degradation {
    /// The body without what makes its answer worth harvesting.
    Edited(Vec<u8>),
    /// There is nothing to remove.
    Unchanged,
    /// It does not read cleanly; a cut might fall in the wrong place.
    NotEditable,
}

impl Degradation {
    /// Its word in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edited(_) => "edited",
            Self::Unchanged => "unchanged",
            Self::NotEditable => "not_editable",
        }
    }

    /// The body that goes to the origin instead of the one that came, where there is one.
    pub fn into_edited_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Edited(bytes) => Some(bytes),
            Self::Unchanged | Self::NotEditable => None,
        }
    }
}

/// Removes log-probabilities, biases, surplus choices, echoes and reasoning summaries from a body:
/// JSON, or a form of `content_type` where files are uploaded. Entries of a batch are edited each.
///
/// ```
/// # use hedgerow_core::{enforce::degrade::{Degradation, degrade}, http::route::Endpoint};
/// let body = br#"{"model":"m","n":4,"logprobs":true,"messages":[]}"#;
/// let degraded = br#"{"model":"m","n":1,"messages":[]}"#;
/// assert_eq!(degrade(body, Endpoint::OpenaiChat, None), Degradation::Edited(degraded.to_vec()));
/// ```
pub fn degrade(body: &[u8], endpoint: Endpoint, content_type: Option<&str>) -> Degradation {
    let mut edits = Vec::new();
    let is_clean = match endpoint {
        Endpoint::OpenaiFiles => batch_lines(body, content_type).is_some_and(|lines| {
            lines.iter().all(|(line, offset)| edit_document(line, *offset, Scope::Line, &mut edits))
        }),
        _ => edit_document(body, 0, Scope::Body, &mut edits),
    };
    match is_clean {
        false => Degradation::NotEditable,
        true if edits.is_empty() => Degradation::Unchanged,
        true => Degradation::Edited(apply_edits(body, &edits)),
    }
}

/// Where a member stands; the same key means different things in different places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Body,
    Batch,
    Line,
    Reasoning,
    Generation,
    Thinking,
}

/// What happens to a member.
enum MemberAction {
    Keep,
    Remove,
    Replace(&'static str),
    Enter(Scope),
    FilterInclude,
}

/// What stands in the place of some bytes of the body.
type Edit = (Range<usize>, &'static str);

/// Edits one JSON text, which begins at byte `base` of the body; false where it is broken.
fn edit_document(text: &[u8], offset: usize, scope: Scope, edits: &mut Vec<Edit>) -> bool {
    let mut editor = DocumentEditor { text, edits: Vec::new() };
    let mut reader = Reader::new(text, 0);
    editor.edit_value(&mut reader, scope, 0);
    let to_body_offset = |position: usize| position.saturating_add(offset);
    let to_body_edit = |(range, replacement): Edit| {
        (to_body_offset(range.start)..to_body_offset(range.end), replacement)
    };
    edits.extend(editor.edits.into_iter().map(to_body_edit));
    // An origin that stops at the end of the first text would not see edits behind it.
    let is_complete = reader.at_end();
    let errors = reader.errors();
    is_complete && !errors.syntax && !errors.truncated
}

fn apply_edits(body: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut copied_to = 0;
    for (range, replacement) in edits {
        out.extend_from_slice(body.get(copied_to..range.start).unwrap_or_default());
        out.extend_from_slice(replacement.as_bytes());
        copied_to = range.end;
    }
    out.extend_from_slice(body.get(copied_to..).unwrap_or_default());
    out
}

struct DocumentEditor<'t> {
    text: &'t [u8],
    edits: Vec<Edit>,
}

impl DocumentEditor<'_> {
    fn edit_value(&mut self, reader: &mut Reader<'_>, scope: Scope, depth: u8) {
        match reader.next_token() {
            Token::Object => self.edit_object(reader, scope, depth),
            Token::Array if scope == Scope::Batch && depth < MAX_DEPTH => {
                while reader.next_element() {
                    self.edit_value(reader, Scope::Batch, depth.saturating_add(1));
                }
            }
            Token::Array => reader.skip_rest(),
            _ => {}
        }
    }

    fn edit_object(&mut self, reader: &mut Reader<'_>, scope: Scope, depth: u8) {
        let mut members = MemberRemover::new(reader);
        while let Some(key) = reader.next_key() {
            let member_start = key.range().start.saturating_sub(1);
            members.begin_member(member_start, &mut self.edits);
            let name = MemberName::new(key);
            let change = if depth < MAX_DEPTH {
                member_action(name.as_str(), scope)
            } else {
                MemberAction::Keep
            };
            let value_start = reader.position();
            match change {
                MemberAction::Remove => {
                    reader.skip();
                    members.remove_member(member_start..reader.position(), &mut self.edits);
                    continue;
                }
                MemberAction::Keep => reader.skip(),
                MemberAction::Replace(value) => {
                    reader.skip();
                    self.replace_value(value_start..reader.position(), value);
                }
                MemberAction::Enter(scope) => {
                    self.edit_value(reader, scope, depth.saturating_add(1))
                }
                MemberAction::FilterInclude => self.edit_include(reader),
            }
            members.keep_member(reader.position());
        }
        members.finish(&mut self.edits);
    }

    fn replace_value(&mut self, range: Range<usize>, value: &'static str) {
        if self.text.get(range.clone()).map(<[u8]>::trim_ascii) != Some(value.as_bytes()) {
            self.edits.push((range, value));
        }
    }

    /// Edits `include`: what it asks for beside the answer.
    fn edit_include(&mut self, reader: &mut Reader<'_>) {
        match reader.next_token() {
            Token::Array => {}
            Token::Object => return reader.skip_rest(),
            _ => return,
        }
        let mut members = MemberRemover::new(reader);
        while reader.next_element() {
            let item_start = reader.position();
            members.begin_member(item_start, &mut self.edits);
            let is_removed = match reader.next_token() {
                Token::String(raw) => {
                    let item = raw.text();
                    item == "reasoning.encrypted_content" || item == "message.output_text.logprobs"
                }
                Token::Object | Token::Array => {
                    reader.skip_rest();
                    false
                }
                _ => false,
            };
            match is_removed {
                true => members.remove_member(item_start..reader.position(), &mut self.edits),
                false => members.keep_member(reader.position()),
            }
        }
        members.finish(&mut self.edits);
    }
}

/// The members of one object or array, of which some go. One that goes takes a comma along: the one
/// before it, or, where all before it are gone, the one behind it.
struct MemberRemover {
    after_last_kept: usize,
    has_kept: bool,
    pending_removal: Option<Range<usize>>,
}

impl MemberRemover {
    fn new(reader: &Reader<'_>) -> Self {
        Self { after_last_kept: reader.position(), has_kept: false, pending_removal: None }
    }

    fn begin_member(&mut self, member_start: usize, edits: &mut Vec<Edit>) {
        edits.extend(self.pending_removal.take().map(|range| (range.start..member_start, "")));
    }

    fn remove_member(&mut self, range: Range<usize>, edits: &mut Vec<Edit>) {
        if self.has_kept {
            edits.push((self.after_last_kept..range.end, ""));
            self.after_last_kept = range.end;
        } else {
            self.pending_removal = Some(range);
        }
    }

    fn keep_member(&mut self, end: usize) {
        self.has_kept = true;
        self.after_last_kept = end;
    }

    fn finish(self, edits: &mut Vec<Edit>) {
        edits.extend(self.pending_removal.map(|range| (range, "")));
    }
}

/// Nesting that is followed; Gemini's batches need seven levels.
const MAX_DEPTH: u8 = 12;

fn member_action(key: &str, scope: Scope) -> MemberAction {
    match (scope, key) {
        (
            Scope::Body,
            "logprobs" | "toplogprobs" | "promptlogprobs" | "logprobtokenids" | "logitbias"
            | "allowedtokenids" | "echo" | "bestof",
        ) => MemberAction::Remove,
        (Scope::Body, "n") => MemberAction::Replace("1"),
        (Scope::Body, "include") => MemberAction::FilterInclude,
        (Scope::Body, "includereasoning") => MemberAction::Replace("false"),
        (Scope::Body, "parameters" | "options") => MemberAction::Enter(Scope::Body),
        (Scope::Body, "reasoning") => MemberAction::Enter(Scope::Reasoning),
        (Scope::Body, "generationconfig") => MemberAction::Enter(Scope::Generation),
        (Scope::Body | Scope::Batch, "requests" | "batch" | "inputconfig") => {
            MemberAction::Enter(Scope::Batch)
        }
        (Scope::Batch, "params" | "request") => MemberAction::Enter(Scope::Body),
        // An entry may also stand in the list as it is.
        (Scope::Batch, key) => member_action(key, Scope::Body),
        (Scope::Line, "body") => MemberAction::Enter(Scope::Body),
        (Scope::Reasoning, "summary" | "generatesummary") => MemberAction::Remove,
        (Scope::Generation, "responselogprobs" | "logprobs") => MemberAction::Remove,
        (Scope::Generation, "candidatecount") => MemberAction::Replace("1"),
        (Scope::Generation, "thinkingconfig") => MemberAction::Enter(Scope::Thinking),
        (Scope::Thinking, "includethoughts") => MemberAction::Replace("false"),
        _ => MemberAction::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_harvestable_parameters() {
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
            (
                "include, in part",
                r#"{"include":["a","reasoning.encrypted_content", "b"]}"#,
                Some(r#"{"include":["a", "b"]}"#),
            ),
            (
                "include, last in part",
                r#"{"include":["a","message.output_text.logprobs"]}"#,
                Some(r#"{"include":["a"]}"#),
            ),
            (
                "settings one level down",
                r#"{"inputs":"x","parameters":{"best_of":4,"details":true}}"#,
                Some(r#"{"inputs":"x","parameters":{"details":true}}"#),
            ),
            (
                "bare entries",
                r#"{"requests":[{"generationConfig":{"candidateCount":2}}]}"#,
                Some(r#"{"requests":[{"generationConfig":{"candidateCount":1}}]}"#),
            ),
            ("nobody's key", r#"{"_logprobs":true}"#, None),
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
            let degraded = degrade_to_string(body, Endpoint::OpenaiChat, None);
            assert_eq!(degraded.as_deref(), *expected, "{name}");
            assert_eq!(
                degraded.and_then(|degraded| degrade_to_string(
                    &degraded,
                    Endpoint::OpenaiChat,
                    None
                )),
                None,
                "{name}, twice"
            );
        }
        let rows: [(&str, &[u8], Option<&str>, Degradation); 5] = [
            ("unchanged", br#"{"model":"m"}"#, None, Degradation::Unchanged),
            ("broken", br#"{"echo":true,"a":"#, None, Degradation::NotEditable),
            ("two texts", br#"{"a":1}{"echo":true}"#, None, Degradation::NotEditable),
            ("white space behind", b"{\"a\":1} \n", None, Degradation::Unchanged),
            (
                "a content type that lies",
                br#"{"echo":true}"#,
                Some("multipart/form-data; boundary=x"),
                Degradation::Edited(b"{}".to_vec()),
            ),
        ];
        for (name, body, content_type, expected) in rows {
            assert_eq!(degrade(body, Endpoint::OpenaiChat, content_type), expected, "{name}");
        }
    }

    /// Each line of a batch file is a request of its own: an upload must be no way around.
    #[test]
    fn edits_the_lines_of_an_upload() {
        let form = |lines: &str| {
            format!(
                "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n\
                 --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.jsonl\"\r\n\r\n\
                 {lines}\r\n--b--\r\n"
            )
        };
        let line = |id: u8, body: &str| {
            format!(r#"{{"custom_id":"{id}","url":"/v1/chat/completions","body":{body}}}"#)
        };
        let upload = Some("multipart/form-data; boundary=b");
        let lines =
            [line(1, r#"{"n":4}"#), String::new(), line(2, r#"{"logprobs":true,"model":"m"}"#)];
        let degraded = [line(1, r#"{"n":1}"#), String::new(), line(2, r#"{"model":"m"}"#)];
        let files = Endpoint::OpenaiFiles;
        assert_eq!(
            degrade_to_string(&form(&lines.join("\n")), files, upload),
            Some(form(&degraded.join("\n")))
        );
        assert_eq!(degrade(form(&line(1, "{}")).as_bytes(), files, upload), Degradation::Unchanged);
        assert_eq!(
            degrade(form(&lines.join("\n").replace("}}", "}")).as_bytes(), files, upload),
            Degradation::NotEditable
        );
        assert_eq!(degrade(b"{}", files, upload), Degradation::NotEditable, "no form at all");
    }

    fn degrade_to_string(
        body: &str,
        endpoint: Endpoint,
        content_type: Option<&str>,
    ) -> Option<String> {
        let bytes = degrade(body.as_bytes(), endpoint, content_type).into_edited_bytes();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }
}
