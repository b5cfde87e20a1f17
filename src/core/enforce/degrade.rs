//! Degradation: removes the parameters of a request that make its response useful for training
//! another model.
//!
//! All other bytes of the request stay unchanged.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use crate::extract::lenient_json::{Reader, Token};
use crate::extract::{MemberName, batch_lines};
use crate::http::route::Endpoint;

/// The result of degrading a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degradation {
    /// The body with its edits.
    Edited(Vec<u8>),
    /// The body has nothing to remove.
    Unchanged,
    /// The body is malformed, so an edit might change the wrong bytes.
    NotEditable,
}

impl Degradation {
    /// Returns the name in logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Edited(_) => "edited",
            Self::Unchanged => "unchanged",
            Self::NotEditable => "not_editable",
        }
    }

    /// Returns the edited body, which is forwarded instead of the received body; `None` if the body
    /// was not edited.
    pub fn into_edited_bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Edited(bytes) => Some(bytes),
            Self::Unchanged | Self::NotEditable => None,
        }
    }
}

/// Removes log-probabilities, biases, additional choices, echoes and reasoning summaries from a
/// body.
///
/// The body is JSON. At the endpoint for file uploads, the body is a form of type `content_type`.
/// Each entry of a batch is edited.
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
    if !is_clean {
        Degradation::NotEditable
    } else if edits.is_empty() {
        Degradation::Unchanged
    } else {
        Degradation::Edited(apply_edits(body, &edits))
    }
}

/// The kind of object that contains a member. It determines the meaning of the member's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Body,
    Batch,
    Line,
    Reasoning,
    Generation,
    Thinking,
}

/// The edit of a JSON member.
enum MemberAction {
    Keep,
    Remove,
    Replace(&'static str),
    Enter(Scope),
    FilterInclude,
}

/// A byte range of a text, and the text that replaces it.
type Edit = (Range<usize>, &'static str);

/// Appends the edits of one JSON text to `edits`. The text begins at byte `offset` of the body.
/// `scope` is the kind of its outermost object. Returns false if the text is malformed.
fn edit_document(text: &[u8], offset: usize, scope: Scope, edits: &mut Vec<Edit>) -> bool {
    let mut editor = DocumentEditor { text, edits: Vec::new() };
    let mut reader = Reader::new(text, 0);
    editor.edit_value(&mut reader, scope, 0);
    let to_body_offset = |position: usize| position.saturating_add(offset);
    let to_body_edit = |(range, replacement): Edit| {
        (to_body_offset(range.start)..to_body_offset(range.end), replacement)
    };
    edits.extend(editor.edits.into_iter().map(to_body_edit));
    // A body with a second JSON text counts as malformed, too, because an origin may read only the
    // first text.
    let is_complete = reader.at_end();
    let errors = reader.errors();
    is_complete && !errors.syntax && !errors.truncated
}

/// Returns the body after `edits`. The edits must be in ascending order and must not overlap.
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

/// An editor of one JSON text, which collects edits with offsets in that text.
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

    /// Replaces the value in `range` by `value`, unless it is equal to `value` already.
    fn replace_value(&mut self, range: Range<usize>, value: &'static str) {
        if self.text.get(range.clone()).map(<[u8]>::trim_ascii) != Some(value.as_bytes()) {
            self.edits.push((range, value));
        }
    }

    /// Edits the value of `include`, a list of additional outputs: removes encrypted reasoning and
    /// log-probabilities.
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
            if is_removed {
                members.remove_member(item_start..reader.position(), &mut self.edits);
            } else {
                members.keep_member(reader.position());
            }
        }
        members.finish(&mut self.edits);
    }
}

/// A remover of members of one object or array. With each member, it removes one comma: the comma
/// before the member, or the comma after it if no earlier member is kept.
struct MemberRemover {
    /// Byte position after the last kept member, or after the opening bracket.
    after_last_kept: usize,
    /// Whether a member has been kept.
    has_kept: bool,
    /// Byte range of the last removed member, if no earlier member is kept. The comma after this
    /// member must be removed, too.
    pending_removal: Option<Range<usize>>,
}

impl MemberRemover {
    fn new(reader: &Reader<'_>) -> Self {
        Self { after_last_kept: reader.position(), has_kept: false, pending_removal: None }
    }

    /// Ends a pending removal at the start of the next member, so that it includes the comma
    /// between the members.
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

/// Maximum nesting depth of edits; Gemini's batches need seven levels.
const MAX_DEPTH: u8 = 12;

/// Returns the edit of a member, given its normalised key and the kind of object that contains it.
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
        // A batch may also contain entries without the wrapper `params` or `request`.
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
            ("nothing to remove", r#"{"model":"m","messages":[{"logprobs":1}]}"#, None),
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
                concat!(
                    r#"{"generationConfig":{"candidateCount":4,"responseLogprobs":true,"#,
                    r#""thinkingConfig":{"includeThoughts":true}}}"#,
                ),
                Some(concat!(
                    r#"{"generationConfig":{"candidateCount":1,"#,
                    r#""thinkingConfig":{"includeThoughts":false}}}"#,
                )),
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
            ("unknown key", r#"{"_logprobs":true}"#, None),
            ("include, odd", r#"{"include":[{}],"echo":true}"#, Some(r#"{"include":[{}]}"#)),
            ("not a number", r#"{"temperature":NaN,"echo":true}"#, Some(r#"{"temperature":NaN}"#)),
            (
                "gemini batch",
                concat!(
                    r#"{"batch":{"input_config":{"requests":{"requests":["#,
                    r#"{"request":{"generationConfig":{"candidateCount":4}}}]}}}}"#,
                ),
                Some(concat!(
                    r#"{"batch":{"input_config":{"requests":{"requests":["#,
                    r#"{"request":{"generationConfig":{"candidateCount":1}}}]}}}}"#,
                )),
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
            ("trailing white space", b"{\"a\":1} \n", None, Degradation::Unchanged),
            (
                "a wrong content type",
                br#"{"echo":true}"#,
                Some("multipart/form-data; boundary=x"),
                Degradation::Edited(b"{}".to_vec()),
            ),
        ];
        for (name, body, content_type, expected) in rows {
            assert_eq!(degrade(body, Endpoint::OpenaiChat, content_type), expected, "{name}");
        }
    }

    /// Each line of a batch file is a request of its own: an upload must not bypass degradation.
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
        assert_eq!(degrade(b"{}", files, upload), Degradation::NotEditable, "not a form");
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
