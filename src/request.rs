//! One LLM-API call, provider-neutral: named values borrowed from the body, and normalised text.
#![deny(clippy::arithmetic_side_effects)]

mod anthropic;
mod body;
mod gemini;
mod generic;
mod hashes;
mod key;
mod openai;
mod part;
mod seam;
mod trouble;
mod upload;
mod value;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use crate::field::{MESSAGES, Name, Place};
use crate::hash::HashKey;
use crate::indicator::Indicators;
use crate::json::{Raw, Reader, Token};
use crate::route::Endpoint;
use crate::text::{self, Case, Edges, Normalizer};

pub use body::{Body, Limits};
pub(crate) use key::Key;
pub use trouble::Trouble;
pub(crate) use upload::batch_lines;
use value::{drop_value, flag_in, number_in};

/// An HTTP request as the host received it: what goes around one or more [`Request`]s.
#[derive(Clone, Debug, Default)]
pub struct Envelope<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path of the URL, without the query.
    pub path: &'a str,
    /// Names in lower case, values as text, in the order in which they came.
    pub headers: &'a [(String, String)],
    /// The body's first bytes, up to the scan window, as they came.
    pub body: &'a [u8],
    /// Bytes of the whole body, as far as known.
    pub body_size: Option<u64>,
    /// Bytes behind the scan window: at least one where its size is not known.
    pub unscanned: u64,
    /// What the edge knows of the client.
    pub client: Client<'a>,
    /// Keyed hash of the credential, where there is one.
    pub account: Option<&'a str>,
    /// Seconds since the epoch.
    pub now: u64,
    /// What values are hashed with, where they are counted.
    pub key: HashKey,
    /// Keys that have become suspicious, where they are known.
    pub indicators: Option<&'a Indicators>,
}

/// What the edge knows of the client.
#[derive(Clone, Copy, Debug, Default)]
pub struct Client<'a> {
    /// The client's address.
    pub address: Option<&'a str>,
    /// Autonomous system.
    pub as_number: Option<u32>,
    /// The system's holder.
    pub as_organization: Option<&'a str>,
    /// ISO country code.
    pub country: Option<&'a str>,
    /// HTTP version.
    pub http_version: Option<&'a str>,
    /// TLS version.
    pub tls_version: Option<&'a str>,
    /// Hash over the TLS client hello.
    pub tls_fingerprint: Option<&'a str>,
}

/// One LLM-API call: one body, or one entry of an uploaded batch.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    text: String,
    /// How far into the body the text had come at some of its bytes.
    marks: Vec<text::Mark>,
    segments: Vec<Segment<'a>>,
    keywords: Vec<(Name, Cow<'a, str>)>,
    numbers: Vec<(Name, f64)>,
    /// Counters, one row a field: kept apart, for a body may hold any number of numbers.
    counts: Vec<(Name, f64)>,
    /// Signed or encrypted reasoning that is sent back.
    reasoning: Vec<Raw<'a>>,
    /// A hash over the logit bias map, where there is one.
    bias: Option<u64>,
    /// Keys that are given as such.
    keys: Vec<(Name, Cow<'a, str>)>,
    /// Whether values of nothing but white space came since the last text.
    after_space: bool,
    /// Bytes that may yet be looked at ahead of their turn.
    ahead: usize,
    trouble: Trouble,
    /// Template keys of the user's and of the system text: lists and correlation ask for the same.
    templates: [OnceCell<(HashKey, Vec<u64>)>; 2],
}

/// One text value: where it belongs, where it is in the normalised text, where it came from.
#[derive(Clone, Debug)]
pub struct Segment<'a> {
    /// Its place in the conversation.
    pub place: Place,
    /// Its bytes in [`Request::text`].
    pub range: Range<usize>,
    /// Where it came from.
    pub source: Source<'a>,
    /// What was dropped at its edges.
    edges: Edges,
}

/// Where a text value came from.
#[derive(Clone, Debug)]
pub enum Source<'a> {
    /// A value of the body.
    Value(Raw<'a>),
    /// The ends of neighbouring parts of a message, which stand within this range of the body.
    Seam(Range<usize>),
}

impl<'a> Source<'a> {
    /// The value, where it is one.
    pub fn value(&self) -> Option<Raw<'a>> {
        match self {
            Self::Value(raw) => Some(*raw),
            Self::Seam(_) => None,
        }
    }

    /// Its range in the body.
    pub fn range(&self) -> Range<usize> {
        match self {
            Self::Value(raw) => raw.range(),
            Self::Seam(range) => range.clone(),
        }
    }
}

/// How much of a request has been read.
struct Mark {
    text: usize,
    marks: usize,
    segments: usize,
    keywords: usize,
    numbers: usize,
    reasoning: usize,
    counts: Vec<(Name, f64)>,
    trouble: Trouble,
}

/// Reads every LLM request in `envelope`, whose body has been made readable as `body`. Tells each,
/// in order; the same buffers are used for all. Returns how many there were, or `None` where the
/// body shows that this is no LLM call after all.
pub fn read<'a>(
    envelope: &Envelope<'a>,
    endpoint: Endpoint,
    body: &'a Body<'_>,
    limits: &Limits,
    each: &mut dyn FnMut(&Request<'a>),
) -> Option<usize> {
    let mut request = Request {
        text: String::with_capacity(body.bytes().len()),
        segments: Vec::with_capacity(16),
        keywords: Vec::with_capacity(32),
        numbers: Vec::with_capacity(32),
        ahead: body.bytes().len().saturating_mul(2),
        ..Request::default()
    };
    let mut entries = 0_usize;
    let mut tell = |request: &mut Request<'a>| {
        if entries < limits.entries {
            request.trouble.add(body.trouble);
            request.envelope(envelope, endpoint, body);
            request.finish();
            each(request);
        }
        entries = entries.saturating_add(1);
        request.clear();
        entries < limits.entries
    };
    match endpoint {
        Endpoint::None => return None,
        Endpoint::OpenaiFiles => upload::read(&mut request, envelope, body, &mut tell)?,
        Endpoint::AnthropicBatches => {
            upload::entries(&mut request, body, Endpoint::AnthropicMessages, &mut tell);
        }
        Endpoint::GeminiBatches => {
            upload::entries(&mut request, body, Endpoint::GeminiGenerate, &mut tell);
        }
        Endpoint::GeminiEmbedBatch => {
            upload::entries(&mut request, body, Endpoint::GeminiEmbed, &mut tell);
        }
        _ => {
            let mut reader = Reader::new(body.bytes(), 0);
            request.object(&mut reader, endpoint, 0);
            request.trouble.note(reader.broken(), envelope.unscanned > 0);
            tell(&mut request);
        }
    }
    Some(entries)
}

impl<'a> Request<'a> {
    /// All normalised text; segments are ended by [`text::END`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text values.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// Where in the body normalised bytes of a segment came from, at least those that are `wanted`,
    /// counted from its start; `None` where it is no value of the body.
    pub fn sources(&self, segment: &Segment<'_>, wanted: Vec<usize>) -> Option<text::Sources> {
        let raw = segment.source.value()?;
        let range = &segment.range;
        let from = self.marks.partition_point(|mark| mark.text <= range.start);
        let to = self.marks.partition_point(|mark| mark.text < range.end);
        let marks = self.marks.get(from..to).unwrap_or_default();
        let value = self.text.get(range.clone()).unwrap_or_default();
        Some(text::Sources::new(raw, value, range.start, marks, wanted))
    }

    /// The short strings, one row a value.
    pub fn keywords(&self) -> &[(Name, Cow<'a, str>)] {
        &self.keywords
    }

    /// The numbers and flags (0 or 1), one row a value.
    pub fn numbers(&self) -> &[(Name, f64)] {
        &self.numbers
    }

    /// What was not read.
    pub fn trouble(&self) -> Trouble {
        self.trouble
    }

    /// The model that is asked for.
    pub fn model(&self) -> Option<&str> {
        let model = self.keywords.iter().find(|(name, _)| *name == Name::RequestModel);
        model.map(|(_, model)| model.as_ref())
    }

    /// The normalised texts of a place.
    fn texts(&self, place: Place) -> impl Iterator<Item = &str> {
        let own = self
            .segments
            .iter()
            .filter(move |segment| segment.place == place && segment.source.value().is_some());
        own.filter_map(|segment| self.text.get(segment.range.clone()))
    }

    /// A request made of named values, as exemplars give them.
    pub fn from_values(values: impl IntoIterator<Item = (Name, Value<'a>)>) -> Self {
        let mut request = Self::default();
        for (name, value) in values {
            match value {
                Value::Text(place, text) => {
                    request.push_text(place, Raw::new(text.as_bytes(), 0), true)
                }
                Value::Keyword(text) => request.keywords.push((name, Cow::Borrowed(text))),
                Value::Key(text) => request.keys.push((name, Cow::Borrowed(text))),
                Value::Number(number) => request.numbers.push((name, number)),
            }
        }
        request
    }

    /// Reads one JSON object as a request of `endpoint`; where that finds no text, as a generic one.
    fn object(&mut self, reader: &mut Reader<'a>, endpoint: Endpoint, depth: u8) {
        let start = reader.position();
        let before = self.mark();
        self.members(reader, endpoint, depth);
        let silent = self.segments.len() == before.segments
            && !self.counts.iter().any(|(name, _)| *name == Name::PromptTokenIds);
        if silent && !matches!(endpoint, Endpoint::Generic | Endpoint::OpenaiBatches) {
            self.return_to(before);
            self.members(&mut reader.at(start), Endpoint::Generic, depth);
        }
    }

    fn mark(&self) -> Mark {
        Mark {
            text: self.text.len(),
            marks: self.marks.len(),
            segments: self.segments.len(),
            keywords: self.keywords.len(),
            numbers: self.numbers.len(),
            reasoning: self.reasoning.len(),
            counts: self.counts.clone(),
            trouble: self.trouble,
        }
    }

    /// Forgets what has been read since.
    fn return_to(&mut self, mark: Mark) {
        self.text.truncate(mark.text);
        self.marks.truncate(mark.marks);
        self.segments.truncate(mark.segments);
        self.keywords.truncate(mark.keywords);
        self.numbers.truncate(mark.numbers);
        self.reasoning.truncate(mark.reasoning);
        self.bias = None;
        self.counts = mark.counts;
        self.trouble = mark.trouble;
    }

    fn members(&mut self, reader: &mut Reader<'a>, endpoint: Endpoint, depth: u8) {
        use crate::route::Dialect::*;
        match reader.token() {
            Token::Object => {
                let mut seen = 0_u16;
                while let Some(key) = reader.key() {
                    let key = Key::of(key);
                    let key = key.as_str();
                    self.note_twice(&mut seen, TEXTS, key);
                    let known = match endpoint.dialect() {
                        Openai => openai::member(self, key, reader, endpoint),
                        Anthropic => anthropic::member(self, key, reader),
                        Gemini => gemini::member(self, key, reader),
                        Generic => generic::member(self, key, reader, endpoint),
                    };
                    if !known {
                        reader.skip();
                    }
                }
            }
            Token::Array if depth == 0 => {
                while reader.element() {
                    self.members(reader, Endpoint::Generic, 1);
                }
            }
            Token::Array => reader.leave(),
            Token::String(raw) if endpoint == Endpoint::Generic => {
                self.push_text(Place::User, raw, false)
            }
            _ => reader.mark_syntax(),
        }
    }

    /// Notes that one of `keys` stands twice in an object, of which those in `seen` have been met.
    fn note_twice(&mut self, seen: &mut u16, keys: &[&str], key: &str) {
        let Some(number) = keys.iter().position(|known| *known == key) else { return };
        let bit = 1_u16.checked_shl(number as u32).unwrap_or_default();
        if *seen & bit != 0 {
            self.trouble.add(Trouble::DUPLICATE);
        }
        *seen |= bit;
    }

    fn clear(&mut self) {
        self.text.clear();
        self.marks.clear();
        self.segments.clear();
        self.keywords.clear();
        self.numbers.clear();
        self.counts.clear();
        self.reasoning.clear();
        self.bias = None;
        self.keys.clear();
        self.templates = Default::default();
        self.after_space = false;
        self.trouble = Trouble::default();
    }

    /// Adds what does not come from the body.
    fn envelope(&mut self, envelope: &Envelope<'a>, endpoint: Endpoint, body: &Body<'_>) {
        let client = &envelope.client;
        self.keywords.push((Name::OperationName, Cow::Borrowed(endpoint.operation())));
        self.keywords.push((Name::ProviderName, Cow::Borrowed(endpoint.dialect().provider())));
        self.keywords.push((Name::Method, Cow::Borrowed(envelope.method)));
        self.keywords.push((Name::Path, Cow::Borrowed(envelope.path)));
        let optional = [
            (Name::Account, envelope.account),
            (Name::ClientAddress, client.address),
            (Name::AsOrganization, client.as_organization),
            (Name::Country, client.country),
            (Name::ProtocolVersion, client.http_version),
            (Name::TlsVersion, client.tls_version),
            (Name::TlsFingerprint, client.tls_fingerprint),
        ];
        for (name, value) in optional {
            self.keywords.extend(value.map(|value| (name, Cow::Borrowed(value))));
        }
        for (header, value) in envelope.headers {
            match header.as_str() {
                "user-agent" => self.keywords.push((Name::UserAgent, Cow::Borrowed(value))),
                "content-encoding" => self.keywords.push((Name::Encoding, Cow::Borrowed(value))),
                "content-type" if !body::is_read(value) => self.trouble.add(Trouble::ENCODING),
                _ => {}
            }
        }
        if !self.has_keyword(Name::RequestModel)
            && let Some(model) = model_in(envelope.path)
        {
            self.keywords.push((Name::RequestModel, Cow::Borrowed(model)));
        }
        let size = envelope.body_size.unwrap_or(body.size() as u64);
        self.number(Name::BodySize, size as f64);
        if envelope.unscanned > 0 {
            self.number(Name::BodyUnscanned, envelope.unscanned as f64);
        }
        self.number(Name::HeaderCount, envelope.headers.len() as f64);
        self.number(Name::Hour, (envelope.now / 3_600 % 24) as f64);
    }

    /// Adds what is known once all is read.
    fn finish(&mut self) {
        self.numbers.append(&mut self.counts);
        let in_messages = |segment: &&Segment<'_>| {
            segment.place as u8 & MESSAGES != 0 && segment.source.value().is_some()
        };
        let size: usize =
            self.segments.iter().filter(in_messages).map(|segment| segment.range.len()).sum();
        self.number(Name::PromptSize, size as f64);
        for word in self.trouble.words() {
            self.keywords.push((Name::BodyUnreadable, Cow::Borrowed(word)));
        }
    }

    fn push_text(&mut self, place: Place, raw: Raw<'a>, literal: bool) {
        let marks = self.marks.len();
        let mut normalizer = Normalizer::new(&mut self.text, Case::Fold);
        match literal {
            true => crate::json::Sink::run(&mut normalizer, &String::from_utf8_lossy(raw.bytes())),
            false => normalizer.escaped(raw, &mut self.marks),
        }
        let (range, mut edges) = normalizer.finish_with_edges();
        if range.is_empty() {
            self.text.truncate(range.start);
            self.marks.truncate(marks);
            self.after_space |= edges.lead;
            return;
        }
        edges.lead |= std::mem::take(&mut self.after_space);
        self.text.push(text::END);
        self.segments.push(Segment { place, range, source: Source::Value(raw), edges });
    }

    /// Moves texts from one place to another, from the segment `start` on.
    fn assign(&mut self, start: usize, from: Place, to: Place) {
        for segment in self.segments.iter_mut().skip(start).filter(|segment| segment.place == from)
        {
            segment.place = to;
        }
    }

    fn number(&mut self, name: Name, value: f64) {
        if value.is_finite() {
            self.numbers.push((name, value));
        }
    }

    /// Adds to a counter.
    fn count(&mut self, name: Name, by: usize) {
        match self.counts.iter_mut().find(|(known, _)| *known == name) {
            Some((_, value)) => *value += by as f64,
            None => self.counts.push((name, by as f64)),
        }
    }

    fn has_keyword(&self, name: Name) -> bool {
        self.keywords.iter().any(|(known, _)| *known == name)
    }

    /// Takes a value that should be a number.
    fn take_number(&mut self, name: Name, reader: &mut Reader<'a>) -> bool {
        if let Some(number) = number_in(reader.token(), reader) {
            self.number(name, number);
        }
        true
    }

    /// Takes a value that should be true or false; numbers count as C has it.
    fn take_flag(&mut self, name: Name, reader: &mut Reader<'a>) -> bool {
        let token = reader.token();
        let flag = flag_in(token).or_else(|| number_in(token, reader).map(|number| number != 0.0));
        if let Some(flag) = flag {
            self.number(name, f64::from(u8::from(flag)));
        }
        true
    }

    /// Takes a string or a list of strings as short values.
    fn take_keyword(&mut self, name: Name, reader: &mut Reader<'a>) -> bool {
        match reader.token() {
            Token::String(raw) => self.keyword(name, raw),
            Token::Array => {
                while reader.element() {
                    match reader.token() {
                        Token::String(raw) => self.keyword(name, raw),
                        token => drop_value(token, reader),
                    }
                }
            }
            token => drop_value(token, reader),
        }
        true
    }

    fn keyword(&mut self, name: Name, raw: Raw<'a>) {
        if raw.bytes().len() <= KEYWORD_BYTES {
            self.keywords.push((name, raw.text()));
        }
    }
}

/// A value of a request made by [`Request::from_values`].
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Prompt text at a place.
    Text(Place, &'a str),
    /// A short string.
    Keyword(&'a str),
    /// What a keyed hash is made of.
    Key(&'a str),
    /// A number, or a flag as 0 or 1.
    Number(f64),
}

/// The model that a path names: `/models/<model>:verb`, `/engines/<model>/`, `/deployments/<model>/`,
/// `/model/<model>/`.
fn model_in(path: &str) -> Option<&str> {
    let mut segments = path.split('/');
    segments.find(|segment| {
        matches!(*segment, "models" | "engines" | "deployments" | "model" | "tunedModels")
    })?;
    let model = segments.next()?;
    Some(model.split_once(':').map_or(model, |(model, _)| model))
}

/// Keys under which a body holds what is said; each counts once.
const TEXTS: &[&str] = &[
    "messages",
    "contents",
    "content",
    "prompt",
    "input",
    "inputs",
    "system",
    "instructions",
    "systeminstruction",
    "tools",
];

/// Longer values of keyword fields are not kept.
const KEYWORD_BYTES: usize = 512;

/// Nesting that is followed in message parts, tool results and schemas.
const DEPTH: u8 = 24;
