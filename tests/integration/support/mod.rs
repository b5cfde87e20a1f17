//! A naive reference: an extractor over `serde_json::Value` and a matcher by plain search. Slow,
//! simple, and written without looking at how the core does it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;

use hedgerow_core::extract::{Request, Segment};
use hedgerow_core::field::{Field, FieldId, FieldType, MESSAGE_SECTIONS, Section, sections};
use hedgerow_core::http::route::{Dialect, Endpoint};
use hedgerow_core::rules::signature::{Comparison, FieldComparison, Signature};
use serde_json::{Map, Value};
use unicode_normalization::UnicodeNormalization;

/// What a request holds: the same things as [`Request`], as plain lists.
#[derive(Debug, Default, PartialEq)]
pub struct Plain {
    pub texts: Vec<(u8, String)>,
    /// What the parts of a message say together.
    pub seams: Vec<(u8, String)>,
    /// Whether each of `texts` began and ended with white space; while reading.
    edges: Vec<(bool, bool)>,
    /// Whether nothing but white space came since the last text; while reading.
    after_space: bool,
    pub keywords: Vec<(FieldId, String)>,
    pub numbers: Vec<(FieldId, f64)>,
}

impl Plain {
    /// The core's request as plain lists; `only` says which keywords and numbers matter.
    pub fn of(request: &Request<'_>, only: impl Fn(FieldId) -> bool) -> Self {
        let text = |range: &std::ops::Range<usize>| request.text()[range.clone()].to_owned();
        let values = |is_value: bool| {
            let fits = move |segment: &&Segment<'_>| segment.source.value().is_some() == is_value;
            let segments = request.segments().iter().filter(fits);
            segments.map(|segment| (segment.section as u8, text(&segment.range))).collect()
        };
        let mut plain = Self {
            texts: values(true),
            seams: values(false),
            edges: Vec::new(),
            after_space: false,
            keywords: request
                .keywords()
                .iter()
                .map(|(name, value)| (*name, value.to_string()))
                .collect(),
            numbers: request.numbers().to_vec(),
        };
        plain.keywords.retain(|(name, _)| only(*name));
        plain.numbers.retain(|(name, _)| only(*name));
        plain.sorted()
    }

    pub fn sorted(mut self) -> Self {
        self.texts.sort();
        self.seams.sort();
        self.edges.clear();
        self.after_space = false;
        self.keywords.sort();
        self.numbers.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        self
    }

    /// An exemplar's event, and the headers in it.
    pub fn of_event(event: &yaml_serde::Mapping) -> (Self, Vec<(String, String)>) {
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
                        // A union's text is the user's.
                        let section = if mask & Section::User as u8 != 0 {
                            Section::User as u8
                        } else {
                            mask
                        };
                        plain.texts.push((section, normalize(&text.unwrap())));
                    }
                    (Field::Known(name), FieldType::Keyword | FieldType::Address) => {
                        plain.keywords.push((*name, normalize(&text.unwrap())))
                    }
                    // No signature tests one.
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

    /// Reads a body.
    pub fn read(body: &Value, endpoint: Endpoint) -> Self {
        let body = &respelled(body);
        let mut plain = Self::default();
        plain.body(body, endpoint, true);
        let is_silent = plain.texts.is_empty()
            && !plain.numbers.iter().any(|(name, _)| *name == FieldId::PromptTokenIds);
        if is_silent && endpoint != Endpoint::Generic {
            plain = Self::default();
            plain.body(body, Endpoint::Generic, true);
        }
        plain.sorted()
    }

    fn body(&mut self, body: &Value, endpoint: Endpoint, is_top: bool) {
        match body {
            Value::Object(members) => {
                for (key, value) in members {
                    let _ = match endpoint.dialect() {
                        Dialect::Openai => self.openai(key, value, endpoint),
                        Dialect::Anthropic => self.anthropic(key, value),
                        Dialect::Gemini => self.gemini(key, value),
                        Dialect::Generic => self.generic(key, value, endpoint),
                    };
                }
            }
            Value::Array(elements) if is_top => {
                elements.iter().for_each(|element| self.body(element, Endpoint::Generic, false))
            }
            Value::String(text) if endpoint == Endpoint::Generic => self.text(Section::User, text),
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
            "logprobs" | "promptlogprobs" => match (number_of(value), value) {
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
                        .filter_map(number_of)
                        .fold(0.0, |most: f64, bias| most.max(bias.abs()));
                    self.push(FieldId::LogitBiasMax, largest);
                }
            }
            "include" => {
                let is_asked = |value: &&Value| **value == "message.output_text.logprobs";
                for _ in value.as_array().into_iter().flatten().filter(is_asked) {
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

    fn generic(&mut self, key: &str, value: &Value, endpoint: Endpoint) -> bool {
        match key {
            "inputs" | "inputtext" | "text" | "query" | "question" | "message" | "userinput"
            | "texts" | "documents" => {
                self.parts(value, Section::User, 0);
            }
            "systemprompt" | "preamble" => self.parts(value, Section::System, 0),
            "chathistory" | "history" | "conversation" => self.messages(value),
            "images" | "image" | "audio" => self.count(FieldId::AttachmentsCount, 1),
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
            _ => {
                return self.openai(key, value, endpoint)
                    || self.anthropic(key, value)
                    || self.gemini(key, value);
            }
        }
        true
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
        let role = members.get("role").and_then(Value::as_str).map(|role| match role {
            "system" | "developer" => Section::System,
            "assistant" | "model" => Section::Assistant,
            "tool" | "function" => Section::Tool,
            _ => Section::User,
        });
        let start = self.texts.len();
        self.after_space = false;
        let silent = if members.contains_key("output") { Section::Tool } else { Section::User };
        for (key, value) in members {
            match key.as_str() {
                "content" | "parts" => self.parts(value, role.unwrap_or(silent), 0),
                "reasoningcontent" | "reasoning" => self.parts(value, Section::Assistant, 0),
                "output" => self.parts(value, Section::Tool, 0),
                "encryptedcontent" => self.token(value),
                "toolcalls" | "functioncall" | "arguments" => self.calls(value, 0),
                "images" | "result" => self.count(FieldId::AttachmentsCount, 1),
                _ => {}
            }
        }
        self.sew(start);
        if role != Some(Section::System) {
            self.count(FieldId::Turns, 1);
        }
    }

    fn message_parts(&mut self, value: &Value, place: Section) {
        let start = self.texts.len();
        self.parts(value, place, 0);
        self.sew(start);
    }

    /// Joins what stands next to each other: as it is, and with spaces.
    fn sew(&mut self, start: usize) {
        let mut from = start;
        while from < self.texts.len() {
            let place = self.texts[from].0;
            let mut to = from;
            while to < self.texts.len() && self.texts[to].0 == place {
                to += 1;
            }
            let is_said = place
                & (Section::User as u8 | Section::System as u8 | Section::Assistant as u8)
                != 0;
            if is_said && to - from > 1 {
                let gaps = |spaced: bool| -> Vec<bool> {
                    (from + 1..to)
                        .map(|at| spaced || self.edges[at - 1].1 || self.edges[at].0)
                        .collect()
                };
                let mut seams = self.seams_of(from, to, &gaps(false));
                if gaps(false).contains(&false) {
                    seams.extend(self.seams_of(from, to, &gaps(true)));
                }
                self.seams.extend(seams.into_iter().map(|text| (place, text)));
            }
            from = to;
        }
    }

    fn seams_of(&self, from: usize, to: usize, gaps: &[bool]) -> Vec<String> {
        let mut seams = Vec::new();
        let (mut seam, mut joined) = (String::new(), 1);
        for at in from..to {
            let text = &self.texts[at].1;
            if at > from {
                joined += 1;
                seam.push_str(if gaps[at - from - 1] { " " } else { "" });
            }
            if text.len() <= 512 {
                seam.push_str(text);
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
            seam.push_str(&text[..head]);
            if joined > 1 {
                seams.push(seam + "\u{1}");
            }
            (seam, joined) = (format!("\u{1}{}", &text[tail..]), 1);
        }
        if joined > 1 {
            seams.push(seam);
        }
        seams
    }

    fn parts(&mut self, value: &Value, place: Section, depth: usize) {
        match value {
            Value::String(text) => self.text(place, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.parts(element, place, depth + 1))
            }
            Value::Object(members) => {
                for (key, value) in members {
                    match key.as_str() {
                        "text" | "refusal" | "inputtext" | "parts" => {
                            self.parts(value, place, depth + 1)
                        }
                        "thinking" => self.parts(value, Section::Assistant, depth + 1),
                        "content" | "output" => self.parts(value, Section::Tool, depth + 1),
                        "functionresponse" => self.all_strings(value, Section::Tool, depth + 1),
                        "signature" | "data" | "thoughtsignature" => self.token(value),
                        "title" | "context" => self.parts(value, place, depth + 1),
                        "input" => self.all_strings(value, Section::Assistant, depth + 1),
                        "functioncall" => self.calls(value, depth + 1),
                        "source" => {
                            if let Some(content) = value.get("content") {
                                self.parts(content, place, depth + 1);
                            }
                            match value.get("data").and_then(Value::as_str) {
                                Some(text) if value["type"] == "text" => self.text(place, text),
                                _ => self.count(FieldId::AttachmentsCount, 1),
                            }
                        }
                        "imageurl" | "videourl" | "documenturl" | "inputaudio" | "audio"
                        | "file" | "fileid" | "filedata" | "inlinedata" | "image" | "images"
                        | "video" | "document" | "result" => {
                            self.count(FieldId::AttachmentsCount, 1)
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
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

    fn all_strings(&mut self, value: &Value, place: Section, depth: usize) {
        match value {
            Value::String(text) => self.text(place, text),
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.all_strings(element, place, depth + 1))
            }
            Value::Object(members) => {
                members.values().for_each(|value| self.all_strings(value, place, depth + 1))
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

    fn schema(&mut self, value: &Value, place: Section, depth: usize) {
        match value {
            Value::Array(_) | Value::Object(_) if depth > 24 => {}
            Value::Array(elements) => {
                elements.iter().for_each(|element| self.schema(element, place, depth + 1))
            }
            Value::Object(members) => {
                members
                    .iter()
                    .for_each(|(key, value)| self.schema_member(key, value, place, depth));
            }
            _ => {}
        }
    }

    fn schema_member(&mut self, key: &str, value: &Value, place: Section, depth: usize) {
        match (key, value) {
            ("name" | "title" | "description", Value::String(text)) => self.text(place, text),
            ("name" | "title" | "description", _) => {}
            ("properties", Value::Object(properties)) if depth <= 24 => {
                for (name, value) in properties {
                    self.text(place, name);
                    self.schema(value, place, depth + 1);
                }
            }
            ("properties", _) => {}
            _ => self.schema(value, place, depth + 1),
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

    fn text(&mut self, place: Section, text: &str) {
        let (lead, trail) = edges(text);
        let text = normalize(text);
        if text.is_empty() {
            self.after_space |= lead;
            return;
        }
        self.texts.push((place as u8, text));
        self.edges.push((lead || self.after_space, trail));
        self.after_space = false;
    }

    fn push(&mut self, name: FieldId, number: f64) {
        self.numbers.push((name, number));
    }

    fn number(&mut self, name: FieldId, value: &Value) {
        number_of(value).into_iter().for_each(|number| self.push(name, number));
    }

    fn flag(&mut self, name: FieldId, value: &Value) {
        match value {
            Value::Bool(flag) => self.push(name, f64::from(u8::from(*flag))),
            Value::String(text) if flag_of(text).is_some() => {
                self.push(name, f64::from(u8::from(flag_of(text) == Some(true))))
            }
            value => {
                let flag = number_of(value).map(|number| f64::from(u8::from(number != 0.0)));
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
        match self.numbers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += by as f64,
            None => self.numbers.push((name, by as f64)),
        }
    }

    /// Normalises the short values too, for matching.
    pub fn folded(mut self) -> Self {
        self.keywords.iter_mut().for_each(|(_, value)| *value = normalize(value));
        self
    }

    /// Whether a signature holds, by searching every value for every pattern.
    pub fn matches(&self, signature: &Signature, headers: &[(String, String)]) -> bool {
        signature.condition.holds(&mut |name| {
            signature.selections[name].holds(&mut |test| self.test(test, headers))
        })
    }

    fn test(&self, test: &FieldComparison, headers: &[(String, String)]) -> bool {
        let strings: Vec<Cow<'_, str>> = match &test.field {
            Field::Header(name) => {
                values(headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value))
            }
            Field::Known(name) if test.field.field_type() == FieldType::Text => {
                let texts = self.texts.iter().chain(&self.seams);
                let texts = texts.filter(|(place, _)| place & sections(*name) != 0);
                texts.map(|(_, text)| Cow::Borrowed(text.as_str())).collect()
            }
            Field::Known(name) => values(
                self.keywords.iter().filter(|(known, _)| known == name).map(|(_, value)| value),
            ),
        };
        let numbers: Vec<f64> = match &test.field {
            Field::Known(name) => self
                .numbers
                .iter()
                .filter(|(known, _)| known == name)
                .map(|(_, number)| *number)
                .collect(),
            Field::Header(_) => Vec::new(),
        };
        match &test.comparison {
            Comparison::Exists(wanted) => (strings.len() + numbers.len() > 0) == *wanted,
            Comparison::String { string_match: anchor, value, cased } => {
                assert!(!cased, "no shipped rule uses `cased`; the core's own tests cover it");
                strings.iter().any(|text| anchor.matches(text, value))
            }
            Comparison::Regex { pattern, .. } => REGEXES.with_borrow_mut(|regexes| {
                let regex = regexes
                    .entry(pattern.clone())
                    .or_insert_with(|| regex::bytes::Regex::new(pattern).unwrap());
                strings.iter().any(|text| regex.is_match(text.as_bytes()))
            }),
            Comparison::Cidr(network) => strings.iter().any(|text| {
                text.parse().is_ok_and(|address: std::net::IpAddr| network.contains(&address))
            }),
            Comparison::Number { comparator: order, value } => {
                numbers.iter().any(|number| order.matches(*number, *value))
            }
        }
    }

    /// Adds what does not come from the body, as the core does.
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
            .filter(|(place, _)| place & MESSAGE_SECTIONS != 0)
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

/// Whether a text begins and ends with white space, of what is visible.
fn edges(text: &str) -> (bool, bool) {
    let visible = |char: &char| char.is_whitespace() || !normalize(&format!("x{char}y")).eq("xy");
    let visible: Vec<char> = text.nfkc().flat_map(char::to_lowercase).filter(visible).collect();
    let is_space = |char: Option<&char>| char.is_some_and(|char| char.is_whitespace());
    (is_space(visible.first()), is_space(visible.last()))
}

/// A number, or one in quotes.
fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if text.len() <= 256 => {
            let digits = text.trim().replace('_', "");
            digits.parse::<f64>().ok().filter(|number| number.is_finite())
        }
        _ => None,
    }
}

/// A flag in words.
fn flag_of(text: &str) -> Option<bool> {
    let word = text.trim().to_ascii_lowercase();
    if ["true", "t", "yes", "y", "on"].contains(&word.as_str()) {
        return Some(true);
    }
    ["false", "f", "no", "n", "off"].contains(&word.as_str()).then_some(false)
}

/// A body whose keys are in lower case and without underscores, but for the names in schemas: they
/// are text.
fn respelled(value: &Value) -> Value {
    let is_nobodys = |key: &str| key.starts_with('_') || key.ends_with('_') || key.contains("__");
    let spelled = |key: &String| match is_nobodys(key) {
        true => key.clone(),
        false => key.replace('_', "").to_lowercase(),
    };
    match value {
        Value::Array(elements) => elements.iter().map(respelled).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| match value {
                Value::Object(properties) if key == "properties" => {
                    let named = |(name, value): (&String, &Value)| (name.clone(), respelled(value));
                    (key.clone(), properties.iter().map(named).collect())
                }
                value => (spelled(key), respelled(value)),
            })
            .collect(),
        other => other.clone(),
    }
}

/// Short values as they are kept.
fn values<'v>(values: impl Iterator<Item = &'v String>) -> Vec<Cow<'v, str>> {
    values.map(|value| Cow::Borrowed(value.as_str())).collect()
}

thread_local! {
    static REGEXES: RefCell<HashMap<String, regex::bytes::Regex>> = RefCell::default();
}

/// Normalisation, one character at a time over the whole string.
pub fn normalize(text: &str) -> String {
    let mut out = String::new();
    for char in text.nfkc().flat_map(char::to_lowercase) {
        if char.is_whitespace() {
            if !out.is_empty() && !out.ends_with(' ') {
                out.push(' ');
            }
        } else {
            // One character at a time, the core's own tables are asked: whether it is visible and
            // which letter it looks like.
            out.push_str(
                &hedgerow_core::text::fold_char(char).map(String::from).unwrap_or_default(),
            );
        }
    }
    out.trim_end_matches(' ').to_owned()
}
