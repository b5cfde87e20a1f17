//! The naive reference: an extractor over `serde_json::Value`, and a matcher that searches plainly.
//! It is slow and simple, and was written independently of the core.

/// The generated corpus.
pub mod corpus;
/// Comparisons with concepts, by brute force.
mod near;

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use hedgerow_core::extract::raw_string::RawString;
use hedgerow_core::extract::{Coding, FileFormat, Request, Segment};
use hedgerow_core::field::{
    Field, FieldId, FieldType, MESSAGE_SECTIONS, PassageRole, Section, sections,
};
use hedgerow_core::http::route::{Dialect, Endpoint};
use hedgerow_core::rules::concept::Concept;
use hedgerow_core::rules::signature::{Comparison, FieldComparison, Signature, StringMatch};
use memchr::memmem;
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

/// Returns the parts of a request that decide a field, by the name of the field. If one of them is
/// unknown, the value of the field is unknown.
pub fn parts_of(field: &str) -> &'static [&'static str] {
    let begins_with = |prefixes: &[&str]| prefixes.iter().any(|prefix| field.starts_with(prefix));
    let is_known = begins_with(&[
        "gen_ai.operation.name",
        "gen_ai.provider.name",
        "http.request.method",
        "http.response.",
        "url.path",
        "hedgerow.account",
        "hedgerow.tenant",
        "hedgerow.hour",
        "hedgerow.signature",
        "hedgerow.llr",
        "hedgerow.action",
    ]);
    if is_known {
        &[]
    } else if begins_with(&["client.", "tls.", "network.", "hedgerow.tls."]) {
        &["client"]
    } else if begins_with(&[
        "http.request.header.",
        "user_agent.",
        "hedgerow.header.",
        "hedgerow.credential.",
        "hedgerow.encoding",
    ]) {
        &["headers"]
    } else if field == "hedgerow.shape" {
        &["headers", "body"]
    } else {
        &["body"]
    }
}

/// How much of a known prompt a text contains.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known {
    /// A whole prompt.
    Whole,
    /// Some sequences of eight words.
    InPart,
    No,
}

/// Returns how much of one of `prompts` the messages of a user contain. Compares words.
pub fn known_prompt(prompts: &[String], messages: &[&str]) -> Known {
    let stretches = |texts: &[&str]| -> HashSet<Vec<String>> {
        let words: Vec<String> = texts.iter().flat_map(|text| words(text)).collect();
        words.windows(8).map(<[String]>::to_vec).collect()
    };
    let text = stretches(messages);
    let shared = |prompt: &String| {
        let prompt = stretches(&[prompt]);
        (prompt.iter().filter(|stretch| text.contains(*stretch)).count(), prompt.len())
    };
    let shared: Vec<(usize, usize)> = prompts.iter().map(shared).collect();
    if shared.iter().any(|(count, all)| count == all) {
        Known::Whole
    } else if shared.iter().any(|(count, _)| *count > 0) {
        Known::InPart
    } else {
        Known::No
    }
}

/// Returns the words of a text in lower case, with `#` for each number.
fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric());
    let plain = |word: &str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { "#".to_owned() } else { word.to_lowercase() }
    };
    words.filter(|word| !word.is_empty()).map(plain).collect()
}

/// The content of a request as plain lists. Each text has the number of its section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlainRequest {
    pub texts: Vec<(u8, String)>,
    /// Joined parts of messages.
    pub joined: Vec<(u8, String)>,
    /// Passages of texts with their roles, by section and text. A text without passages is an
    /// instruction, if its section can contain instructions.
    passages: HashMap<(u8, String), Vec<(Range<usize>, u16)>>,
    /// Whether each of `texts` has white space at its start and end. Used only during extraction,
    /// empty afterwards.
    edges: Vec<Edges>,
    /// Whether only white space has followed the last text. Used only during extraction, false
    /// afterwards.
    after_space: bool,
    pub keywords: Vec<(FieldId, String)>,
    pub numbers: Vec<(FieldId, f64)>,
}

/// Whether a text starts and ends with white space.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Edges {
    start: bool,
    end: bool,
}

impl PlainRequest {
    /// Converts a request of the core. Takes only keywords and numbers of fields for which `filter`
    /// returns true.
    pub fn from_request(request: &Request<'_>, filter: impl Fn(FieldId) -> bool) -> Self {
        let text = |range: &std::ops::Range<usize>| request.text()[range.clone()].to_owned();
        let values = |is_value: bool| {
            let is_wanted = move |segment: &&Segment<'_>| segment.source.is_joined() != is_value;
            let segments = request.segments().iter().filter(is_wanted);
            segments.map(|segment| (segment.section as u8, text(&segment.range))).collect()
        };
        let mut plain = Self {
            texts: values(true),
            joined: values(false),
            passages: HashMap::new(),
            edges: Vec::new(),
            after_space: false,
            keywords: request
                .keywords()
                .iter()
                .map(|(name, value)| (*name, value.to_string()))
                .collect(),
            numbers: request.numbers().to_vec(),
        };
        plain.keywords.retain(|(name, _)| filter(*name));
        plain.numbers.retain(|(name, _)| filter(*name));
        plain.sorted()
    }

    fn sorted(mut self) -> Self {
        self.texts.sort();
        self.joined.sort();
        self.edges.clear();
        self.after_space = false;
        self.keywords.sort();
        self.numbers.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        self
    }

    /// Converts the event of an exemplar. Also returns its headers.
    pub fn from_event(event: &yaml_serde::Mapping) -> (Self, Vec<(String, String)>) {
        let (mut plain, mut headers) = (Self::default(), Vec::new());
        for (name, value) in event {
            let name = name.as_str().unwrap();
            let field = Field::parse(name).unwrap();
            let values = value.as_sequence().cloned().unwrap_or(vec![value.clone()]);
            for value in values {
                let text = value.as_str().map(str::to_owned).or_else(|| {
                    value
                        .as_bool()
                        .map(|flag| flag.to_string())
                        .or_else(|| value.as_f64().map(|number| number.to_string()))
                });
                match (&field, field.field_type()) {
                    (Field::Header(header), _) => {
                        headers.push((header.clone(), normalize(&text.unwrap())))
                    }
                    (Field::Known(name), FieldType::Text) => {
                        let mask = sections(*name);
                        // If the field combines sections, the text counts as the user's text.
                        let is_user = mask & Section::User as u16 != 0;
                        let section = match name {
                            FieldId::PromptMaterial => Section::Tool as u8,
                            FieldId::PromptInstruction | FieldId::PromptExamples => {
                                Section::User as u8
                            }
                            _ if is_user => Section::User as u8,
                            _ => mask as u8,
                        };
                        plain.texts.push((section, normalize(&text.unwrap())));
                    }
                    (Field::Known(name), FieldType::Keyword | FieldType::Address) => {
                        plain.keywords.push((*name, normalize(&text.unwrap())))
                    }
                    // Ignores fields of keys, because signatures cannot test them.
                    (Field::Known(_), FieldType::Key) => {}
                    (Field::Known(name), FieldType::Number | FieldType::Flag) => {
                        let number = value
                            .as_f64()
                            .or(value.as_bool().map(|flag| f64::from(u8::from(flag))));
                        plain.push(*name, number.unwrap());
                    }
                }
            }
        }
        (plain, headers)
    }

    /// Extracts the content of a body that is sent to an endpoint.
    pub fn read(body: &Value, endpoint: Endpoint) -> Self {
        let body = &with_normalized_keys(body);
        let mut plain = Self::default();
        plain.body(body, endpoint, true);
        let is_empty = plain.texts.is_empty()
            && !plain.numbers.iter().any(|(name, _)| *name == FieldId::PromptTokenIds);
        if is_empty && endpoint.body_dialect() != Dialect::Generic {
            plain = Self::default();
            plain.body(body, Endpoint::Generic, true);
        }
        plain.sorted()
    }

    fn body(&mut self, body: &Value, endpoint: Endpoint, is_top: bool) {
        match body {
            Value::Object(members) if endpoint.body_dialect() == Dialect::Generic => {
                self.generic_object(members, Section::User, false, 0)
            }
            Value::Object(members) => {
                for (key, value) in members {
                    let _ = match endpoint.body_dialect() {
                        Dialect::Openai => self.openai(key, value, endpoint),
                        Dialect::Anthropic => self.anthropic(key, value),
                        _ => self.gemini(key, value),
                    };
                }
            }
            Value::Array(elements) if is_top => {
                elements.iter().for_each(|element| self.body(element, Endpoint::Generic, false))
            }
            Value::String(text) if endpoint.body_dialect() == Dialect::Generic => {
                self.text(Section::User, text)
            }
            _ => {}
        }
    }

    fn openai(&mut self, key: &str, value: &Value, endpoint: Endpoint) -> bool {
        match key {
            "model" => self.strings_as(FieldId::RequestModel, value),
            "messages" => self.messages(value),
            "prompt" => self.prompt(value, false),
            "input" | "items" => self.prompt(value, endpoint == Endpoint::OpenaiResponses),
            "suffix" => self.parts(value, Section::User, 0),
            "instructions" => self.parts(value, Section::System, 0),
            "maxtokens" | "maxcompletiontokens" | "maxoutputtokens" => {
                self.number(FieldId::MaxTokens, value)
            }
            "temperature" => self.number(FieldId::Temperature, value),
            "topp" => self.number(FieldId::TopP, value),
            "topk" => self.number(FieldId::TopK, value),
            "n" => self.number(FieldId::ChoiceCount, value),
            "seed" => self.number(FieldId::Seed, value),
            "bestof" => self.number(FieldId::BestOf, value),
            "frequencypenalty" => self.number(FieldId::FrequencyPenalty, value),
            "presencepenalty" => self.number(FieldId::PresencePenalty, value),
            "stop" => self.strings_as(FieldId::StopSequences, value),
            "stream" => self.flag(FieldId::Stream, value),
            "echo" => self.flag(FieldId::Echo, value),
            "logprobs" | "promptlogprobs" => match (parse_number(value), value) {
                (Some(number), _) => {
                    self.push(FieldId::Logprobs, 1.0);
                    self.push(FieldId::TopLogprobs, number);
                }
                (None, value) => self.flag(FieldId::Logprobs, value),
            },
            "toplogprobs" => self.number(FieldId::TopLogprobs, value),
            "logitbias" => {
                if let Value::Object(map) = value {
                    self.push(FieldId::LogitBiasSize, map.len() as f64);
                    let largest = map
                        .values()
                        .filter_map(parse_number)
                        .fold(0.0, |max: f64, bias| max.max(bias.abs()));
                    self.push(FieldId::LogitBiasMax, largest);
                }
            }
            "include" => {
                let asks_for_logprobs = |value: &&Value| **value == "message.output_text.logprobs";
                for _ in value.as_array().into_iter().flatten().filter(asks_for_logprobs) {
                    self.push(FieldId::Logprobs, 1.0);
                }
            }
            "tools" | "functions" => self.tools(value, 0),
            "responseformat" | "text" => self.format(value, 0),
            "reasoning" => {
                if let Value::Object(members) = value {
                    members
                        .get("effort")
                        .into_iter()
                        .for_each(|value| self.strings_as(FieldId::ReasoningEffort, value));
                    members
                        .get("maxtokens")
                        .into_iter()
                        .for_each(|value| self.number(FieldId::ThinkingBudget, value));
                }
            }
            "reasoningeffort" => self.strings_as(FieldId::ReasoningEffort, value),
            _ => return false,
        }
        true
    }

    fn anthropic(&mut self, key: &str, value: &Value) -> bool {
        match key {
            "model" => self.strings_as(FieldId::RequestModel, value),
            "system" => self.message_parts(value, Section::System),
            "messages" => self.messages(value),
            "prompt" => self.message_parts(value, Section::User),
            "maxtokens" | "maxtokenstosample" => self.number(FieldId::MaxTokens, value),
            "temperature" => self.number(FieldId::Temperature, value),
            "topp" => self.number(FieldId::TopP, value),
            "topk" => self.number(FieldId::TopK, value),
            "stopsequences" => self.strings_as(FieldId::StopSequences, value),
            "stream" => self.flag(FieldId::Stream, value),
            "tools" => self.tools(value, 0),
            "thinking" => {
                if let Some(budget) = value.get("budgettokens") {
                    self.number(FieldId::ThinkingBudget, budget);
                }
            }
            "outputformat" | "outputconfig" => self.output(value, 0),
            _ => return false,
        }
        true
    }

    fn output(&mut self, value: &Value, depth: usize) {
        let Value::Object(members) = value else { return };
        if depth == 0 {
            members.get("format").into_iter().for_each(|value| self.output(value, 1));
        }
        members
            .get("effort")
            .into_iter()
            .for_each(|value| self.strings_as(FieldId::ReasoningEffort, value));
        if let Some(schema) = members.get("schema") {
            self.keywords.push((FieldId::OutputType, "json".into()));
            self.schema(schema, Section::Schema, 0);
        }
    }

    fn gemini(&mut self, key: &str, value: &Value) -> bool {
        match key {
            "model" => self.strings_as(FieldId::RequestModel, value),
            "contents" => self.messages(value),
            "content" => self.message_parts(value, Section::User),
            "systeminstruction" => self.message_parts(value, Section::System),
            "tools" => self.tools(value, 0),
            "generationconfig" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    self.setting(key, value);
                }
            }
            "generatecontentrequest" | "request" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !matches!(key.as_str(), "generatecontentrequest" | "request") {
                        self.gemini(key, value);
                    }
                }
            }
            _ => return false,
        }
        true
    }

    fn setting(&mut self, key: &str, value: &Value) {
        match key {
            "temperature" => self.number(FieldId::Temperature, value),
            "topp" => self.number(FieldId::TopP, value),
            "topk" => self.number(FieldId::TopK, value),
            "maxoutputtokens" => self.number(FieldId::MaxTokens, value),
            "candidatecount" => self.number(FieldId::ChoiceCount, value),
            "seed" => self.number(FieldId::Seed, value),
            "frequencypenalty" => self.number(FieldId::FrequencyPenalty, value),
            "presencepenalty" => self.number(FieldId::PresencePenalty, value),
            "stopsequences" => self.strings_as(FieldId::StopSequences, value),
            "responselogprobs" => self.flag(FieldId::Logprobs, value),
            "logprobs" => self.number(FieldId::TopLogprobs, value),
            "responsemimetype" => {
                if let Value::String(mime) = value {
                    let kind = if mime == "application/json" { "json" } else { "text" };
                    self.keywords.push((FieldId::OutputType, kind.into()));
                }
            }
            "responseschema" | "responsejsonschema" => {
                self.schema(value, Section::Schema, 0);
            }
            "thinkingconfig" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    match key.as_str() {
                        "thinkingbudget" => self.number(FieldId::ThinkingBudget, value),
                        "thinkinglevel" => self.strings_as(FieldId::ReasoningEffort, value),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// Reads an object of an unknown API. `has_variables` is true if the values of unknown keys are
    /// text.
    fn generic_object(
        &mut self,
        members: &Map<String, Value>,
        section: Section,
        has_variables: bool,
        depth: usize,
    ) {
        let (start, joined_start) = (self.texts.len(), self.joined.len());
        for (key, value) in members {
            match key.as_str() {
                "role" | "author" => {}
                "content" | "parts" => {
                    let start = self.texts.len();
                    self.parts(value, section, 0);
                    self.join_parts(start);
                }
                key => self.generic(key, value, section, has_variables, depth),
            }
        }
        let role = |key: &str| members.get(key).and_then(Value::as_str).map(generic_role);
        let role = match (role("role"), role("author")) {
            (Some(role), Some(author)) if role != author => Section::User,
            (Some(role), _) | (None, Some(role)) => role,
            (None, None) => return,
        };
        for (other, _) in self.texts[start..].iter_mut().chain(&mut self.joined[joined_start..]) {
            if *other == section as u8 {
                *other = role as u8;
            }
        }
        if role != Section::System {
            self.count(FieldId::Turns, 1);
        }
    }

    fn generic(
        &mut self,
        key: &str,
        value: &Value,
        section: Section,
        has_variables: bool,
        depth: usize,
    ) {
        let deeper = depth + 1;
        match key {
            "messages" | "contents" => self.messages(value),
            "prompt" | "input" | "items" => self.generic_prompt(value, section, deeper),
            "inputs" | "variables" | "item" => self.generic_value(value, section, true, deeper),
            "inputtext" | "text" | "query" | "question" | "message" | "userinput" | "texts"
            | "textinput" | "context" | "instances" => {
                self.generic_value(value, section, false, deeper)
            }
            "systemprompt" | "preamble" | "system" | "systeminstruction" | "instructions"
            | "template" => self.generic_value(value, Section::System, false, deeper),
            "documents" => self.generic_value(value, Section::Attachment, false, deeper),
            "output" => self.parts(value, Section::Tool, 0),
            "toolcalls" | "functioncall" => self.calls(value, 0),
            "chathistory" | "history" | "conversation" => self.history(value, section, deeper),
            "tokenids" => {
                for id in value.as_array().into_iter().flatten().filter(|id| id.is_number()) {
                    let _ = id;
                    self.count(FieldId::PromptTokenIds, 1);
                }
            }
            "images" | "image" | "audio" | "imageurl" => self.count(FieldId::AttachmentsCount, 1),
            "inlinedata" | "filedata" | "document" => self.file(value, 0),
            "parameters" | "options" | "inferenceconfig" | "textgenerationconfig" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    match key.as_str() {
                        "maxnewtokens" | "numpredict" | "maxtokens" | "maxtokencount" => {
                            self.number(FieldId::MaxTokens, value)
                        }
                        "topp" => self.number(FieldId::TopP, value),
                        "stopsequences" => self.strings_as(FieldId::StopSequences, value),
                        "messages" | "prompt" | "input" => {}
                        key => {
                            self.openai(key, value, Endpoint::Generic);
                        }
                    }
                }
            }
            "data" => self.unknown(value, section, value.is_array(), depth),
            "metadata" | "labels" | "properties" => {}
            "request" | "generatecontentrequest" => {
                self.unknown(value, section, has_variables, depth)
            }
            _ => {
                let is_known = self.openai(key, value, Endpoint::Generic)
                    || self.anthropic(key, value)
                    || self.gemini(key, value);
                if !is_known {
                    self.unknown(value, section, has_variables, depth);
                }
            }
        }
    }

    fn generic_value(&mut self, value: &Value, section: Section, variables: bool, depth: usize) {
        match value {
            Value::String(text) => self.text(section, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => elements
                .iter()
                .for_each(|element| self.generic_value(element, section, false, depth + 1)),
            Value::Object(members) => self.generic_object(members, section, variables, depth),
            _ => {}
        }
    }

    fn unknown(&mut self, value: &Value, section: Section, has_variables: bool, depth: usize) {
        match value {
            Value::String(text) if has_variables => self.text(section, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => elements
                .iter()
                .for_each(|element| self.unknown(element, section, has_variables, depth + 1)),
            Value::Object(members) => self.generic_object(members, section, false, depth + 1),
            _ => {}
        }
    }

    fn generic_prompt(&mut self, value: &Value, section: Section, depth: usize) {
        match value {
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                for element in elements {
                    match element {
                        Value::Object(members) => {
                            self.generic_object(members, section, false, depth + 1)
                        }
                        Value::String(text) => {
                            self.text(section, text);
                            self.count(FieldId::PromptsCount, 1);
                        }
                        Value::Number(_) => self.count(FieldId::PromptTokenIds, 1),
                        Value::Array(inner) => {
                            self.count(FieldId::PromptsCount, 1);
                            for value in inner {
                                match value {
                                    Value::Number(_) => self.count(FieldId::PromptTokenIds, 1),
                                    Value::String(text) => self.text(section, text),
                                    _ => {}
                                }
                            }
                        }
                        _ => {}
                    }
                }
            }
            value => self.generic_value(value, section, true, depth),
        }
    }

    fn history(&mut self, value: &Value, section: Section, depth: usize) {
        match value {
            Value::String(text) => {
                self.text(section, text);
                self.count(FieldId::Turns, 1);
            }
            Value::Array(elements) if depth <= 24 => {
                elements.iter().for_each(|element| self.history(element, section, depth + 1))
            }
            value => self.generic_value(value, section, false, depth),
        }
    }

    fn messages(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| match item {
                Value::Array(inner) => inner.iter().for_each(|item| self.message(item)),
                item => self.message(item),
            }),
            Value::Object(_) | Value::String(_) => self.message(value),
            _ => {}
        }
    }

    fn message(&mut self, value: &Value) {
        match value {
            Value::String(text) => {
                self.text(Section::User, text);
                self.count(FieldId::Turns, 1);
            }
            Value::Object(members) => self.message_object(members),
            _ => {}
        }
    }

    fn message_object(&mut self, members: &Map<String, Value>) {
        let role = members.get("role").and_then(Value::as_str).map(message_role);
        let start = self.texts.len();
        self.after_space = false;
        let default_section =
            if members.contains_key("output") { Section::Tool } else { Section::User };
        for (key, value) in members {
            match key.as_str() {
                "content" | "parts" => self.parts(value, role.unwrap_or(default_section), 0),
                "reasoningcontent" | "reasoning" | "summary" => {
                    self.parts(value, Section::Assistant, 0)
                }
                "input" => self.all_strings(value, Section::Assistant, 0),
                "output" => self.parts(value, Section::Tool, 0),
                "encryptedcontent" => self.token(value),
                "toolcalls" | "functioncall" | "arguments" => self.calls(value, 0),
                "images" | "result" => self.count(FieldId::AttachmentsCount, 1),
                _ => {}
            }
        }
        self.join_parts(start);
        if role != Some(Section::System) {
            self.count(FieldId::Turns, 1);
        }
    }

    fn message_parts(&mut self, value: &Value, section: Section) {
        let start = self.texts.len();
        self.parts(value, section, 0);
        self.join_parts(start);
    }

    /// Joins consecutive texts of one section in two ways: unchanged, and with spaces in between.
    fn join_parts(&mut self, start: usize) {
        let mut from = start;
        while from < self.texts.len() {
            let section = self.texts[from].0;
            let mut to = from;
            while to < self.texts.len() && self.texts[to].0 == section {
                to += 1;
            }
            let is_joined = section
                & (Section::Tool as u8 | Section::Definition as u8 | Section::Schema as u8)
                == 0;
            if is_joined && to - from > 1 {
                let gaps = |spaced: bool| -> Vec<bool> {
                    (from + 1..to)
                        .map(|at| spaced || self.edges[at - 1].end || self.edges[at].start)
                        .collect()
                };
                let mut joined = self.join_range(from, to, &gaps(false));
                if gaps(false).contains(&false) {
                    joined.extend(self.join_range(from, to, &gaps(true)));
                }
                self.joined.extend(joined.into_iter().map(|text| (section, text)));
            }
            from = to;
        }
    }

    /// Joins a range of texts. Puts a space between two texts if their element of `gaps` is true.
    /// Cuts long texts.
    fn join_range(&self, from: usize, to: usize, gaps: &[bool]) -> Vec<String> {
        let mut results = Vec::new();
        let (mut current, mut count) = (String::new(), 1);
        for at in from..to {
            let text = &self.texts[at].1;
            if at > from {
                count += 1;
                current.push_str(if gaps[at - from - 1] { " " } else { "" });
            }
            if text.len() <= 512 {
                current.push_str(text);
                continue;
            }
            let mut head = 256;
            while !text.is_char_boundary(head) {
                head -= 1;
            }
            let mut tail = text.len() - 256;
            while !text.is_char_boundary(tail) {
                tail += 1;
            }
            current.push_str(&text[..head]);
            if count > 1 {
                results.push(current + "\u{1}");
            }
            (current, count) = (format!("\u{1}{}", &text[tail..]), 1);
        }
        if count > 1 {
            results.push(current);
        }
        results
    }

    fn parts(&mut self, value: &Value, section: Section, depth: usize) {
        match value {
            Value::String(text) => self.text(section, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.parts(element, section, depth + 1))
            }
            Value::Object(members) => self.part(members, section, depth),
            _ => {}
        }
    }

    fn part(&mut self, members: &Map<String, Value>, section: Section, depth: usize) {
        let content_section = match members.get("type").and_then(Value::as_str) {
            Some("document" | "search_result" | "file" | "input_file") => Section::Attachment,
            Some("tool-result" | "function_call_output") => Section::Tool,
            Some(kind) if kind.ends_with("tool_result") => Section::Tool,
            _ => section,
        };
        let part_start = self.texts.len();
        let is_redacted = members.get("type").and_then(Value::as_str) == Some("redacted_thinking");
        for (key, value) in members {
            match key.as_str() {
                "text" | "refusal" | "inputtext" | "parts" | "title" | "context"
                | "guardcontent" => self.parts(value, section, depth + 1),
                "thinking" | "reasoningcontent" | "tooluse" => {
                    self.parts(value, Section::Assistant, depth + 1)
                }
                "content" => {
                    let start = self.texts.len();
                    self.parts(value, section, depth + 1);
                    self.move_texts(start, section, content_section);
                }
                "output" | "toolresult" => self.parts(value, Section::Tool, depth + 1),
                "functionresponse" => self.all_strings(value, Section::Tool, depth + 1),
                "json" => self.all_strings(value, section, depth + 1),
                "signature" | "thoughtsignature" => self.token(value),
                "data" if is_redacted => self.token(value),
                "input" => self.all_strings(value, Section::Assistant, depth + 1),
                "functioncall" => self.calls(value, depth + 1),
                // Skips `source` if it is the address of a search result.
                "source" if value.as_str().is_some_and(|text| !text.starts_with("data:")) => {}
                "source" | "file" | "inlinedata" | "document" => self.file(value, depth + 1),
                "imageurl" | "videourl" | "documenturl" | "inputaudio" | "audio" | "fileid"
                | "image" | "images" | "video" | "result" => {
                    self.count(FieldId::AttachmentsCount, 1)
                }
                _ => {}
            }
        }
        if content_section == section
            && let Some(role) = members.get("role").and_then(Value::as_str).map(message_role)
            && matches!(role, Section::User | Section::System)
        {
            self.move_texts(part_start, section, role);
        }
        if let Some(data) = members.get("filedata").and_then(Value::as_str) {
            let has_text = self.file_content(data, file_format(members));
            self.count_unless(has_text);
        }
    }

    /// Moves the texts of section `from` that were added after the first `start` texts.
    fn move_texts(&mut self, start: usize, from: Section, to: Section) {
        let added = self.texts[start..].iter_mut();
        added.filter(|(other, _)| *other == from as u8).for_each(|(other, _)| *other = to as u8);
    }

    /// Reads an object that contains a file, or a `data:` URL.
    fn file(&mut self, value: &Value, depth: usize) {
        let mut content = Vec::new();
        let mut formats = Vec::new();
        let mut has_text = self.file_members(value, depth, &mut content, &mut formats);
        for text in content {
            has_text |= self.file_content(text, combined_format(&formats));
        }
        self.count_unless(has_text);
    }

    /// Collects content and formats of a file. Returns whether the file has its text in parts.
    fn file_members<'v>(
        &mut self,
        value: &'v Value,
        depth: usize,
        content: &mut Vec<&'v str>,
        formats: &mut Vec<FileFormat>,
    ) -> bool {
        let mut has_text = false;
        match value {
            Value::String(text) if text.starts_with("data:") => content.push(text),
            Value::Object(members) if depth <= 24 => {
                formats.extend(formats_of(members));
                for (key, value) in members {
                    match key.as_str() {
                        "content" | "text" => {
                            let start = self.texts.len();
                            self.parts(value, Section::Attachment, depth + 1);
                            has_text |= self.texts.len() > start;
                        }
                        "source" | "file" | "document" => {
                            has_text |= self.file_members(value, depth + 1, content, formats)
                        }
                        "type" if value == "text" => formats.push(FileFormat::Plain),
                        "data" | "bytes" | "filedata" => content.extend(value.as_str()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
        has_text
    }

    /// Reads the content of a file. Returns whether it is text.
    fn file_content(&mut self, text: &str, format: FileFormat) -> bool {
        if format == FileFormat::Plain {
            self.text(Section::Attachment, text);
            return true;
        }
        let url = text.strip_prefix("data:").and_then(|url| url.split_once(','));
        let (content, format, is_base64) = match url {
            None => (text, format, true),
            Some((head, content)) => {
                let kind = head.split(';').next().unwrap_or_default();
                let kind = if kind.is_empty() { "text/plain" } else { kind };
                let format = match FileFormat::from_name(kind) {
                    FileFormat::Unknown => format,
                    format => format,
                };
                (content, format, head.ends_with("base64"))
            }
        };
        let decode = |coding: Coding| coding.decode(RawString::new(content.as_bytes(), 0));
        let symbol = |char: char| char.is_ascii_alphanumeric() || "+/-_=\n\r\t".contains(char);
        let text = match format {
            FileFormat::Media => return false,
            _ if !is_base64 => decode(Coding::Form).into_owned(),
            _ if !content.chars().all(symbol) => content.to_owned(),
            FileFormat::Text => decode(Coding::Base64).into_owned(),
            _ => {
                let text = decode(Coding::Base64).into_owned();
                let is_binary =
                    |char: char| char.is_ascii_control() && !matches!(char, '\t'..='\r');
                if text.is_empty() || text.contains('\u{fffd}') || text.contains(is_binary) {
                    return false;
                }
                text
            }
        };
        self.text(Section::Attachment, &text);
        true
    }

    fn count_unless(&mut self, has_text: bool) {
        if !has_text {
            self.count(FieldId::AttachmentsCount, 1);
        }
    }

    fn calls(&mut self, value: &Value, depth: usize) {
        match value {
            Value::String(text) => self.text(Section::Assistant, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(calls) => calls.iter().for_each(|call| self.calls(call, depth + 1)),
            Value::Object(members) => {
                for (key, value) in members {
                    match key.as_str() {
                        "function" | "arguments" => self.calls(value, depth + 1),
                        "args" => self.all_strings(value, Section::Assistant, depth + 1),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn token(&mut self, value: &Value) {
        if value.as_str().is_some_and(|token| !token.is_empty()) {
            self.count(FieldId::ReasoningTokenCount, 1);
        }
    }

    fn all_strings(&mut self, value: &Value, section: Section, depth: usize) {
        match value {
            Value::String(text) => self.text(section, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.all_strings(element, section, depth + 1))
            }
            Value::Object(members) => {
                members.values().for_each(|value| self.all_strings(value, section, depth + 1))
            }
            _ => {}
        }
    }

    fn prompt(&mut self, value: &Value, is_turn: bool) {
        match value {
            Value::String(text) => {
                self.text(Section::User, text);
                if is_turn {
                    self.count(FieldId::Turns, 1);
                }
            }
            Value::Object(members) => {
                if let Some(variables) = members.get("variables") {
                    self.all_strings(variables, Section::User, 0);
                }
            }
            Value::Array(elements) => {
                for element in elements {
                    match element {
                        Value::String(text) => {
                            self.text(Section::User, text);
                            self.count(FieldId::PromptsCount, 1);
                        }
                        Value::Number(_) => self.count(FieldId::PromptTokenIds, 1),
                        Value::Array(inner) => {
                            self.count(FieldId::PromptsCount, 1);
                            for value in inner {
                                match value {
                                    Value::Number(_) => self.count(FieldId::PromptTokenIds, 1),
                                    Value::String(text) => self.text(Section::User, text),
                                    _ => {}
                                }
                            }
                        }
                        Value::Object(members) => self.message_object(members),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn tools(&mut self, value: &Value, depth: usize) {
        for tool in value.as_array().into_iter().flatten() {
            let Value::Object(members) = tool else { continue };
            let mut is_nested = false;
            for (key, value) in members {
                if depth == 0 && matches!(key.as_str(), "functiondeclarations") {
                    is_nested = true;
                    self.tools(value, 1);
                } else {
                    self.schema_member(key, value, Section::Definition, 0);
                }
            }
            if !is_nested {
                self.count(FieldId::ToolsCount, 1);
            }
        }
    }

    fn schema(&mut self, value: &Value, section: Section, depth: usize) {
        match value {
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.schema(element, section, depth + 1))
            }
            Value::Object(members) => {
                members
                    .iter()
                    .for_each(|(key, value)| self.schema_member(key, value, section, depth));
            }
            _ => {}
        }
    }

    fn schema_member(&mut self, key: &str, value: &Value, section: Section, depth: usize) {
        match (key, value) {
            ("name" | "title" | "description" | "serverdescription", Value::String(text)) => {
                self.text(section, text)
            }
            ("name" | "title" | "description" | "serverdescription", _) => {}
            ("properties", Value::Object(properties)) if depth <= 24 => {
                for (name, value) in properties {
                    self.text(section, name);
                    self.schema(value, section, depth + 1);
                }
            }
            ("properties", _) => {}
            _ => self.schema(value, section, depth + 1),
        }
    }

    fn format(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    match key.as_str() {
                        "format" if depth == 0 => self.format(value, 1),
                        "type" => {
                            if let Value::String(kind) = value {
                                let kind = if kind.starts_with("json") { "json" } else { "text" };
                                self.keywords.push((FieldId::OutputType, kind.into()));
                            }
                        }
                        "jsonschema" | "schema" => self.schema(value, Section::Schema, 0),
                        "name" | "description" => self.parts(value, Section::Schema, 0),
                        _ => {}
                    }
                }
            }
            Value::String(text) => self.text(Section::User, text),
            _ => {}
        }
    }

    fn text(&mut self, section: Section, text: &str) {
        let Edges { start, end } = edges(text);
        let text = normalize(text);
        if text.is_empty() {
            self.after_space |= start;
            return;
        }
        self.texts.push((section as u8, text));
        self.edges.push(Edges { start: start || self.after_space, end });
        self.after_space = false;
    }

    fn push(&mut self, name: FieldId, number: f64) {
        self.numbers.push((name, number));
    }

    fn number(&mut self, name: FieldId, value: &Value) {
        parse_number(value).into_iter().for_each(|number| self.push(name, number));
    }

    fn flag(&mut self, name: FieldId, value: &Value) {
        match value {
            Value::Bool(flag) => self.push(name, f64::from(u8::from(*flag))),
            Value::String(text) if parse_flag(text).is_some() => {
                self.push(name, f64::from(u8::from(parse_flag(text) == Some(true))))
            }
            value => {
                let flag = parse_number(value).map(|number| f64::from(u8::from(number != 0.0)));
                flag.into_iter().for_each(|flag| self.push(name, flag));
            }
        }
    }

    fn strings_as(&mut self, name: FieldId, value: &Value) {
        match value {
            Value::String(text) => self.keywords.push((name, text.clone())),
            Value::Array(elements) => {
                let texts = elements.iter().filter_map(Value::as_str);
                self.keywords.extend(texts.map(|text| (name, text.to_owned())));
            }
            _ => {}
        }
    }

    fn count(&mut self, name: FieldId, by: usize) {
        match self.numbers.iter_mut().find(|(field, _)| *field == name) {
            Some((_, count)) => *count += by as f64,
            None => self.numbers.push((name, by as f64)),
        }
    }

    /// Normalises the keywords for matching.
    pub fn normalized(mut self) -> Self {
        self.keywords.iter_mut().for_each(|(_, value)| *value = normalize(value));
        self
    }

    /// Copies the passages from the core's result, because other tests check passages.
    pub fn with_passages(mut self, request: &Request<'_>) -> Self {
        for segment in request.segments() {
            let base = segment.range.start;
            let within = request.passages().within(&segment.range);
            let passages = within.map(|(range, role)| (range.start - base..range.end - base, role));
            let text = request.text()[segment.range.clone()].to_owned();
            self.passages.insert((segment.sections() as u8, text), passages.collect());
        }
        self
    }

    /// Returns the ranges of a text that belong to a field.
    fn ranges_in_field(&self, section: u8, text: &str, mask: u16) -> Vec<Range<usize>> {
        if u16::from(section) & mask != 0 {
            return std::iter::once(0..text.len().max(1)).collect();
        }
        let default = || {
            let asks = Section::User as u8 | Section::System as u8 | Section::Attachment as u8;
            let role = if section & asks != 0 {
                PassageRole::Instruction as u16
            } else if section & Section::Tool as u8 != 0 {
                PassageRole::Material as u16
            } else {
                0
            };
            vec![(0..text.len(), role)]
        };
        let passages = self.passages.get(&(section, text.to_owned())).cloned();
        let passages = passages.unwrap_or_else(default).into_iter();
        passages.filter(|(_, role)| role & mask != 0).map(|(range, _)| range).collect()
    }

    /// Returns whether a signature holds, by searching every value for every pattern.
    pub fn matches(
        &self,
        signature: &Signature,
        concepts: &[Concept],
        headers: &[(String, String)],
    ) -> bool {
        signature.condition.holds(&mut |name| self.selects(signature, name, concepts, headers))
    }

    /// Returns whether a selection of a signature holds.
    pub fn selects(
        &self,
        signature: &Signature,
        selection: &str,
        concepts: &[Concept],
        headers: &[(String, String)],
    ) -> bool {
        signature.selections[selection]
            .holds(&mut |comparison| self.holds(comparison, concepts, headers))
    }

    fn holds(
        &self,
        comparison: &FieldComparison,
        concepts: &[Concept],
        headers: &[(String, String)],
    ) -> bool {
        let FieldComparison { field, comparison } = comparison;
        let whole = |text: &str| 0..text.len().max(1);
        // Each string, with the range in which a match may begin.
        let strings: Vec<(&str, Range<usize>)> = match field {
            Field::Header(wanted) => {
                let values = headers.iter().filter(|(name, _)| name == wanted);
                values.map(|(_, value)| (value.as_str(), whole(value))).collect()
            }
            Field::Known(id) if field.field_type() == FieldType::Text => {
                let texts = self.texts.iter().chain(&self.joined);
                let ranges = texts.flat_map(|(section, text)| {
                    let ranges = self.ranges_in_field(*section, text, sections(*id)).into_iter();
                    ranges.map(move |range| (text.as_str(), range))
                });
                ranges.collect()
            }
            Field::Known(wanted) => {
                let values = self.keywords.iter().filter(|(id, _)| id == wanted);
                values.map(|(_, value)| (value.as_str(), whole(value))).collect()
            }
        };
        let numbers: Vec<f64> = match field {
            Field::Known(wanted) => {
                let numbers = self.numbers.iter().filter(|(id, _)| id == wanted);
                numbers.map(|(_, number)| *number).collect()
            }
            Field::Header(_) => Vec::new(),
        };
        match comparison {
            Comparison::Exists(wanted) => (strings.len() + numbers.len() > 0) == *wanted,
            Comparison::String { string_match, value, cased } => {
                assert!(!cased, "no shipped rule uses `cased`: the tests of the core cover it");
                strings.iter().any(|(text, range)| {
                    let start = match string_match {
                        StringMatch::Contains => {
                            let rest = text.get(range.start..).unwrap_or_default().as_bytes();
                            memmem::find(rest, value.as_bytes()).map(|start| range.start + start)
                        }
                        StringMatch::EndsWith => text.len().checked_sub(value.len()),
                        StringMatch::StartsWith | StringMatch::Equals => Some(0),
                    };
                    start.is_some_and(|start| range.contains(&start))
                        && string_match.matches(text, value)
                })
            }
            Comparison::Regex { pattern, .. } => REGEXES.with_borrow_mut(|regexes| {
                let regex = regexes
                    .entry(pattern.clone())
                    .or_insert_with(|| regex::bytes::Regex::new(pattern).unwrap());
                strings.iter().any(|(text, range)| {
                    let found = regex.find_at(text.as_bytes(), range.start);
                    found.is_some_and(|found| range.contains(&found.start()))
                })
            }),
            Comparison::Near { within, parts } => strings
                .iter()
                .any(|(text, range)| near::holds(text, range, concepts, *within, parts)),
            Comparison::Cidr(network) => strings.iter().any(|(text, _)| {
                text.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address))
            }),
            Comparison::Number { comparator, value } => {
                numbers.iter().any(|number| comparator.matches(*number, *value))
            }
        }
    }

    /// Adds the fields that do not depend on the body.
    pub fn with_call(
        mut self,
        endpoint: Endpoint,
        path: &str,
        headers: &[(String, String)],
        body_size: usize,
    ) -> Self {
        let size: usize = self
            .texts
            .iter()
            .filter(|(section, _)| section & MESSAGE_SECTIONS != 0)
            .map(|(_, text)| text.len())
            .sum();
        self.numbers.push((FieldId::PromptSize, size as f64));
        self.numbers.push((FieldId::BodySize, body_size as f64));
        self.numbers.push((FieldId::HeaderCount, headers.len() as f64));
        self.keywords.push((FieldId::OperationName, endpoint.operation().into()));
        self.keywords.push((FieldId::ProviderName, endpoint.dialect().provider().into()));
        self.keywords.push((FieldId::Method, "POST".into()));
        self.keywords.push((FieldId::Path, path.into()));
        for (name, value) in headers {
            match name.as_str() {
                "user-agent" => self.keywords.push((FieldId::UserAgent, value.clone())),
                "content-encoding" => self.keywords.push((FieldId::Encoding, value.clone())),
                _ => {}
            }
        }
        self
    }
}

/// Returns the section of a message by its role.
fn message_role(role: &str) -> Section {
    match role {
        "system" | "developer" => Section::System,
        "assistant" | "model" => Section::Assistant,
        "tool" | "function" => Section::Tool,
        _ => Section::User,
    }
}

/// Returns the section of a role, which is spelled as in any of the APIs.
fn generic_role(role: &str) -> Section {
    match role.to_lowercase().as_str() {
        "system" | "developer" => Section::System,
        "assistant" | "model" | "chatbot" | "bot" | "ai" => Section::Assistant,
        "tool" | "function" => Section::Tool,
        _ => Section::User,
    }
}

/// Returns the formats that the name and types of a file indicate. Uses the core's table of
/// formats.
fn formats_of(members: &Map<String, Value>) -> Vec<FileFormat> {
    let names = ["mediatype", "mimetype", "format", "filename", "name"];
    let names = names.iter().filter_map(|key| members.get(*key)?.as_str());
    names.map(FileFormat::from_name).collect()
}

fn file_format(members: &Map<String, Value>) -> FileFormat {
    combined_format(&formats_of(members))
}

fn combined_format(formats: &[FileFormat]) -> FileFormat {
    let has = |format: FileFormat| formats.contains(&format);
    match (has(FileFormat::Text), has(FileFormat::Media)) {
        _ if has(FileFormat::Plain) => FileFormat::Plain,
        (true, false) => FileFormat::Text,
        (false, true) => FileFormat::Media,
        _ => FileFormat::Unknown,
    }
}

/// Returns whether the visible part of a text starts and ends with white space.
fn edges(text: &str) -> Edges {
    let visible = |char: &char| char.is_whitespace() || !normalize(&format!("x{char}y")).eq("xy");
    let visible: Vec<char> = text.nfkc().flat_map(char::to_lowercase).filter(visible).collect();
    let is_space = |char: Option<&char>| char.is_some_and(|char| char.is_whitespace());
    Edges { start: is_space(visible.first()), end: is_space(visible.last()) }
}

/// Returns the number of a JSON number, or of a string of at most 256 bytes that contains one.
fn parse_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.len() <= 256 => {
            let digits = text.trim().replace('_', "");
            digits.parse::<f64>().ok().filter(|number| number.is_finite())
        }
        _ => None,
    }
}

/// Parses a boolean word: `true`, `t`, `yes`, `y`, `on`, and their opposites.
fn parse_flag(text: &str) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    if ["true", "t", "yes", "y", "on"].contains(&word.as_str()) {
        return Some(true);
    }
    ["false", "f", "no", "n", "off"].contains(&word.as_str()).then_some(false)
}

/// Returns a body with keys in lower case and without underscores. Does not change names in
/// schemas, because they are text.
fn with_normalized_keys(value: &Value) -> Value {
    // Ignores keys that no origin reads.
    let is_ignored = |key: &str| key.starts_with('_') || key.ends_with('_') || key.contains("__");
    let normalized = |key: &String| {
        if is_ignored(key) { key.clone() } else { key.replace('_', "").to_lowercase() }
    };
    match value {
        Value::Array(elements) => elements.iter().map(with_normalized_keys).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match value {
                Value::Object(properties) if key == "properties" => {
                    let properties = properties.iter();
                    let properties =
                        properties.map(|(name, value)| (name.clone(), with_normalized_keys(value)));
                    (key.clone(), properties.collect())
                }
                value => (normalized(key), with_normalized_keys(value)),
            })
            .collect(),
        other => other.clone(),
    }
}

thread_local! {
    /// Compiled regexes by pattern.
    static REGEXES: RefCell<HashMap<String, regex::bytes::Regex>> = RefCell::default();
}

/// Normalises a text, one character at a time.
pub fn normalize(text: &str) -> String {
    let mut out = String::new();
    for char in compose(text).chars().flat_map(char::to_lowercase) {
        if char.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            // Uses only the tables of the core: which characters are invisible, and which look like
            // a letter.
            out.push_str(
                &hedgerow_core::text::fold_char(char).map(String::from).unwrap_or_default(),
            );
        }
    }
    out.trim_end_matches(' ').to_owned()
}

/// Applies NFKC, except to a character that would become more than four characters.
fn compose(text: &str) -> String {
    let expands = |char: char| char.nfkc().count() > 4;
    let mut out = String::new();
    for piece in text.split_inclusive(expands) {
        let kept = piece.chars().next_back().filter(|char| expands(*char));
        let kept_len = kept.map_or(0, char::len_utf8);
        out.extend(piece[..piece.len() - kept_len].nfkc());
        out.extend(kept);
    }
    out
}
