//! Degrading: a request without what makes its answer worth harvesting. All other bytes stay as
//! they came.
#![deny(clippy::arithmetic_side_effects)]

use std::ops::Range;

use crate::json::{Reader, Token};
use crate::request::{Key, batch_lines};
use crate::route::Endpoint;

/// What became of a body that should be degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Degraded {
    /// The body without what makes its answer worth harvesting.
    Done(Vec<u8>),
    /// There is nothing to remove.
    Nothing,
    /// It does not read cleanly; a cut might fall in the wrong place.
    Impossible,
}

impl Degraded {
    /// Its word in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Done(_) => "done",
            Self::Nothing => "nothing",
            Self::Impossible => "impossible",
        }
    }

    /// The body that goes to the origin instead of the one that came, where there is one.
    pub fn bytes(self) -> Option<Vec<u8>> {
        match self {
            Self::Done(bytes) => Some(bytes),
            Self::Nothing | Self::Impossible => None,
        }
    }
}

/// Removes log-probabilities, biases, surplus choices, echoes and reasoning summaries from a body:
/// JSON, or a form of `content_type` where files are uploaded. Entries of a batch are edited each.
///
/// ```
/// # use hedgerow::{degrade::{Degraded, degrade}, route::Endpoint};
/// let body = br#"{"model":"m","n":4,"logprobs":true,"messages":[]}"#;
/// let degraded = br#"{"model":"m","n":1,"messages":[]}"#;
/// assert_eq!(degrade(body, Endpoint::OpenaiChat, None), Degraded::Done(degraded.to_vec()));
/// ```
pub fn degrade(body: &[u8], endpoint: Endpoint, content_type: Option<&str>) -> Degraded {
    let mut edits = Vec::new();
    let is_clean = match endpoint {
        Endpoint::OpenaiFiles => batch_lines(body, content_type).is_some_and(|lines| {
            lines.iter().all(|(line, base)| document(line, *base, Scope::Line, &mut edits))
        }),
        _ => document(body, 0, Scope::Body, &mut edits),
    };
    match is_clean {
        false => Degraded::Impossible,
        true if edits.is_empty() => Degraded::Nothing,
        true => Degraded::Done(apply(body, &edits)),
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
enum Change {
    Keep,
    Remove,
    Replace(&'static str),
    Enter(Scope),
    Include,
}

/// What stands in the place of some bytes of the body.
type Edit = (Range<usize>, &'static str);

/// Edits one JSON text, which begins at byte `base` of the body; false where it is broken.
fn document(text: &[u8], base: usize, scope: Scope, edits: &mut Vec<Edit>) -> bool {
    let mut document = Document { text, edits: Vec::new() };
    let mut reader = Reader::new(text, 0);
    document.value(&mut reader, scope, 0);
    let moved = |at: usize| at.saturating_add(base);
    let in_body = |(range, with): Edit| (moved(range.start)..moved(range.end), with);
    edits.extend(document.edits.into_iter().map(in_body));
    // An origin that stops at the end of the first text would not see edits behind it.
    let is_whole = reader.at_end();
    let broken = reader.broken();
    is_whole && !broken.syntax && !broken.truncated
}

fn apply(body: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    for (range, with) in edits {
        out.extend_from_slice(body.get(at..range.start).unwrap_or_default());
        out.extend_from_slice(with.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    out
}

struct Document<'t> {
    text: &'t [u8],
    edits: Vec<Edit>,
}

impl Document<'_> {
    fn value(&mut self, reader: &mut Reader<'_>, scope: Scope, depth: u8) {
        match reader.token() {
            Token::Object => self.object(reader, scope, depth),
            Token::Array if scope == Scope::Batch && depth < DEPTH => {
                while reader.element() {
                    self.value(reader, Scope::Batch, depth.saturating_add(1));
                }
            }
            Token::Array => reader.leave(),
            _ => {}
        }
    }

    fn object(&mut self, reader: &mut Reader<'_>, scope: Scope, depth: u8) {
        let mut members = Members::new(reader);
        while let Some(key) = reader.key() {
            let start = key.range().start.saturating_sub(1);
            members.begin(start, &mut self.edits);
            let name = Key::of(key);
            let change = if depth < DEPTH { change(name.as_str(), scope) } else { Change::Keep };
            let before = reader.position();
            match change {
                Change::Remove => {
                    reader.skip();
                    members.remove(start..reader.position(), &mut self.edits);
                    continue;
                }
                Change::Keep => reader.skip(),
                Change::Replace(value) => {
                    reader.skip();
                    self.replace(before..reader.position(), value);
                }
                Change::Enter(scope) => self.value(reader, scope, depth.saturating_add(1)),
                Change::Include => self.include(reader),
            }
            members.keep(reader.position());
        }
        members.end(&mut self.edits);
    }

    fn replace(&mut self, range: Range<usize>, value: &'static str) {
        if self.text.get(range.clone()).map(<[u8]>::trim_ascii) != Some(value.as_bytes()) {
            self.edits.push((range, value));
        }
    }

    /// Edits `include`: what it asks for beside the answer.
    fn include(&mut self, reader: &mut Reader<'_>) {
        match reader.token() {
            Token::Array => {}
            Token::Object => return reader.leave(),
            _ => return,
        }
        let mut members = Members::new(reader);
        while reader.element() {
            let start = reader.position();
            members.begin(start, &mut self.edits);
            let goes = match reader.token() {
                Token::String(raw) => {
                    let asked = raw.text();
                    asked == "reasoning.encrypted_content"
                        || asked == "message.output_text.logprobs"
                }
                Token::Object | Token::Array => {
                    reader.leave();
                    false
                }
                _ => false,
            };
            match goes {
                true => members.remove(start..reader.position(), &mut self.edits),
                false => members.keep(reader.position()),
            }
        }
        members.end(&mut self.edits);
    }
}

/// The members of one object or array, of which some go. One that goes takes a comma along: the one
/// before it, or, where all before it are gone, the one behind it.
struct Members {
    behind_kept: usize,
    kept: bool,
    pending: Option<Range<usize>>,
}

impl Members {
    fn new(reader: &Reader<'_>) -> Self {
        Self { behind_kept: reader.position(), kept: false, pending: None }
    }

    fn begin(&mut self, start: usize, edits: &mut Vec<Edit>) {
        edits.extend(self.pending.take().map(|range| (range.start..start, "")));
    }

    fn remove(&mut self, range: Range<usize>, edits: &mut Vec<Edit>) {
        if self.kept {
            edits.push((self.behind_kept..range.end, ""));
            self.behind_kept = range.end;
        } else {
            self.pending = Some(range);
        }
    }

    fn keep(&mut self, end: usize) {
        self.kept = true;
        self.behind_kept = end;
    }

    fn end(self, edits: &mut Vec<Edit>) {
        edits.extend(self.pending.map(|range| (range, "")));
    }
}

/// Nesting that is followed; Gemini's batches need seven levels.
const DEPTH: u8 = 12;

fn change(key: &str, scope: Scope) -> Change {
    match (scope, key) {
        (
            Scope::Body,
            "logprobs" | "toplogprobs" | "promptlogprobs" | "logprobtokenids" | "logitbias"
            | "allowedtokenids" | "echo" | "bestof",
        ) => Change::Remove,
        (Scope::Body, "n") => Change::Replace("1"),
        (Scope::Body, "include") => Change::Include,
        (Scope::Body, "includereasoning") => Change::Replace("false"),
        (Scope::Body, "parameters" | "options") => Change::Enter(Scope::Body),
        (Scope::Body, "reasoning") => Change::Enter(Scope::Reasoning),
        (Scope::Body, "generationconfig") => Change::Enter(Scope::Generation),
        (Scope::Body | Scope::Batch, "requests" | "batch" | "inputconfig") => {
            Change::Enter(Scope::Batch)
        }
        (Scope::Batch, "params" | "request") => Change::Enter(Scope::Body),
        // An entry may also stand in the list as it is.
        (Scope::Batch, key) => change(key, Scope::Body),
        (Scope::Line, "body") => Change::Enter(Scope::Body),
        (Scope::Reasoning, "summary" | "generatesummary") => Change::Remove,
        (Scope::Generation, "responselogprobs" | "logprobs") => Change::Remove,
        (Scope::Generation, "candidatecount") => Change::Replace("1"),
        (Scope::Generation, "thinkingconfig") => Change::Enter(Scope::Thinking),
        (Scope::Thinking, "includethoughts") => Change::Replace("false"),
        _ => Change::Keep,
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
            let degraded = edited(body, Endpoint::OpenaiChat, None);
            assert_eq!(degraded.as_deref(), *expected, "{name}");
            assert_eq!(
                degraded.and_then(|again| edited(&again, Endpoint::OpenaiChat, None)),
                None,
                "{name}, twice"
            );
        }
        let rows: [(&str, &[u8], Option<&str>, Degraded); 5] = [
            ("nothing", br#"{"model":"m"}"#, None, Degraded::Nothing),
            ("broken", br#"{"echo":true,"a":"#, None, Degraded::Impossible),
            ("two texts", br#"{"a":1}{"echo":true}"#, None, Degraded::Impossible),
            ("white space behind", b"{\"a\":1} \n", None, Degraded::Nothing),
            (
                "a content type that lies",
                br#"{"echo":true}"#,
                Some("multipart/form-data; boundary=x"),
                Degraded::Done(b"{}".to_vec()),
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
            edited(&form(&lines.join("\n")), files, upload),
            Some(form(&degraded.join("\n")))
        );
        assert_eq!(degrade(form(&line(1, "{}")).as_bytes(), files, upload), Degraded::Nothing);
        assert_eq!(
            degrade(form(&lines.join("\n").replace("}}", "}")).as_bytes(), files, upload),
            Degraded::Impossible
        );
        assert_eq!(degrade(b"{}", files, upload), Degraded::Impossible, "no form at all");
    }

    fn edited(body: &str, endpoint: Endpoint, content_type: Option<&str>) -> Option<String> {
        let bytes = degrade(body.as_bytes(), endpoint, content_type).bytes();
        bytes.map(|bytes| String::from_utf8(bytes).unwrap())
    }
}
