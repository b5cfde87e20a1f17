//! One LLM call, independent of the vendor: named values borrowed from the body, normalised text.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::ops::Range;

use super::coding::Coding;
use super::issues::ReadIssues;
use super::lenient_json::{Reader, Token};
use super::lenient_value::{parse_flag, parse_number, skip_rest_of_value};
use super::passage::Passages;
use super::raw_string::{RawString, Sink};
use super::segment::{Segment, Source};
use crate::completeness::Completeness;
use crate::field::{FieldId, MESSAGE_SECTIONS, Section};
use crate::http::body::{self, Body};
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::keyed_hash::HashKey;
use crate::text::{self, Case, Normalizer, TrimmedEdges};
use crate::work::WorkBudget;

/// An LLM API call: one body, or one entry of a batch.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    pub(super) text: String,
    /// Pairs of offsets in text and body, for [`Self::source_map`].
    pub(super) checkpoints: Vec<text::Checkpoint>,
    pub(super) segments: Vec<Segment<'a>>,
    pub(super) keywords: Vec<(FieldId, Cow<'a, str>)>,
    pub(super) numbers: Vec<(FieldId, f64)>,
    /// Counters, one per field. They are not in `numbers`, because each increment searches the
    /// counters, and `numbers` may have up to [`MAX_VALUES`] entries.
    pub(super) counts: Vec<(FieldId, f64)>,
    /// Signed or encrypted reasoning that the client sends back.
    pub(super) reasoning_tokens: Vec<RawString<'a>>,
    /// Hash of the `logit_bias` map.
    pub(super) logit_bias_digest: Option<u64>,
    /// Values before hashing, for fields that hold keyed hashes; only in exemplars (the tests of
    /// rules).
    pub(super) hash_inputs: Vec<(FieldId, Cow<'a, str>)>,
    /// Whether a value of only white space was read since the last segment.
    pub(super) after_space: bool,
    /// Whether the request continues a conversation that the origin has stored.
    pub(super) continues_stored: bool,
    pub(super) work: WorkBudget,
    /// Bytes of user text, of all entries so far, that were compared with sets of known prompts.
    pub(super) seed_bytes: usize,
    pub(super) issues: ReadIssues,
    /// Passages, computed on first use, because few requests need them.
    pub(super) passages: OnceCell<Passages>,
    /// Cached template keys of the user text and of the system text, each with the hash key that
    /// was used. They are cached because lists and correlations both need them.
    pub(super) template_hashes: [OnceCell<(HashKey, Vec<u64>)>; 2],
}

/// A saved state of a request, for [`Request::rollback`]: the lengths of its lists, and copies of
/// its small members.
pub(super) struct Savepoint {
    pub(super) text_len: usize,
    pub(super) checkpoints_len: usize,
    pub(super) segments_len: usize,
    pub(super) keywords_len: usize,
    pub(super) numbers_len: usize,
    pub(super) reasoning_tokens_len: usize,
    pub(super) counts: Vec<(FieldId, f64)>,
    pub(super) issues: ReadIssues,
}

impl<'a> Request<'a> {
    /// Returns the normalised text of all segments, each ended by [`text::SEGMENT_END`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the text values of the request.
    pub fn segments(&self) -> &[Segment<'a>] {
        &self.segments
    }

    /// Returns a map from byte offsets in the normalised text of a segment to ranges in the body.
    ///
    /// The map covers at least `offsets`, which count from the start of the segment. Returns `None`
    /// unless the source of the segment is [`Source::Value`].
    pub fn source_map(
        &self,
        segment: &Segment<'_>,
        offsets: Vec<usize>,
    ) -> Option<text::SourceMap> {
        let raw = segment.source.value()?;
        let range = &segment.range;
        let from =
            self.checkpoints.partition_point(|checkpoint| checkpoint.text_offset <= range.start);
        let to = self.checkpoints.partition_point(|checkpoint| checkpoint.text_offset < range.end);
        let checkpoints = self.checkpoints.get(from..to).unwrap_or_default();
        let value = self.text.get(range.clone()).unwrap_or_default();
        Some(text::SourceMap::new(raw, value, range.start, checkpoints, offsets))
    }

    /// Returns the keyword values, in reading order; a field may have several.
    pub fn keywords(&self) -> &[(FieldId, Cow<'a, str>)] {
        &self.keywords
    }

    /// Returns the numbers and flags (0 or 1); a field may have several.
    pub fn numbers(&self) -> &[(FieldId, f64)] {
        &self.numbers
    }

    /// Returns the reasons why parts of the body were not read.
    pub fn issues(&self) -> ReadIssues {
        self.issues
    }

    /// Returns whether the request holds text of a conversation, or a prompt of token ids.
    pub fn has_prompt(&self) -> bool {
        let is_message = |segment: &Segment<'_>| segment.section as u8 & MESSAGE_SECTIONS != 0;
        self.segments.iter().any(is_message)
            || self.numbers.iter().any(|(field, _)| *field == FieldId::PromptTokenIds)
    }

    /// Returns the work budget of the body, which all entries of a batch share.
    pub fn work(&self) -> &WorkBudget {
        &self.work
    }

    /// Returns the requested model, from the body or the path; `None` if neither names a model.
    pub fn model(&self) -> Option<&str> {
        let model = self.keywords.iter().find(|(field, _)| *field == FieldId::RequestModel);
        model.map(|(_, model)| model.as_ref())
    }

    /// Returns the normalised texts of a section, without joined parts.
    pub(super) fn texts(&self, section: Section) -> impl Iterator<Item = &str> {
        let segments = self
            .segments
            .iter()
            .filter(move |segment| segment.section == section && !segment.source.is_joined());
        segments.filter_map(|segment| self.text.get(segment.range.clone()))
    }

    /// Creates a request from named values, for exemplars.
    pub fn from_values(values: impl IntoIterator<Item = (FieldId, FieldValue<'a>)>) -> Self {
        let mut request = Self::default();
        for (field, value) in values {
            match value {
                FieldValue::Text(section, text) => {
                    request.push_text(section, RawString::new(text.as_bytes(), 0), true)
                }
                FieldValue::Keyword(text) => request.keywords.push((field, Cow::Borrowed(text))),
                FieldValue::HashInput(text) => {
                    request.hash_inputs.push((field, Cow::Borrowed(text)))
                }
                FieldValue::Number(number) => request.numbers.push((field, number)),
            }
        }
        request.work = WorkBudget::for_body(request.text.len());
        request.work.begin_search(request.text.len());
        request
    }

    /// Returns the state to which [`Self::rollback`] can return.
    pub(super) fn savepoint(&self) -> Savepoint {
        Savepoint {
            text_len: self.text.len(),
            checkpoints_len: self.checkpoints.len(),
            segments_len: self.segments.len(),
            keywords_len: self.keywords.len(),
            numbers_len: self.numbers.len(),
            reasoning_tokens_len: self.reasoning_tokens.len(),
            counts: self.counts.clone(),
            issues: self.issues,
        }
    }

    /// Discards the values that were read since `savepoint`. The work of reading them stays
    /// counted.
    pub(super) fn rollback(&mut self, savepoint: Savepoint) {
        self.text.truncate(savepoint.text_len);
        self.checkpoints.truncate(savepoint.checkpoints_len);
        self.segments.truncate(savepoint.segments_len);
        self.keywords.truncate(savepoint.keywords_len);
        self.numbers.truncate(savepoint.numbers_len);
        self.reasoning_tokens.truncate(savepoint.reasoning_tokens_len);
        self.logit_bias_digest = None;
        self.counts = savepoint.counts;
        self.issues = savepoint.issues;
    }

    /// Records an issue if `key` is one of `keys` and occurs in the object for the second time.
    ///
    /// Bit n of `seen_keys` is set if key n of `keys` has been read in the object.
    pub(super) fn record_duplicate_key(&mut self, seen_keys: &mut u16, keys: &[&str], key: &str) {
        let Some(index) = keys.iter().position(|candidate| *candidate == key) else { return };
        let bit = 1_u16.checked_shl(index as u32).unwrap_or_default();
        if *seen_keys & bit != 0 {
            self.issues.insert(ReadIssues::DUPLICATE);
        }
        *seen_keys |= bit;
    }

    /// Empties the request for the next entry of a batch, keeping the buffers and the budget.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.checkpoints.clear();
        self.segments.clear();
        self.keywords.clear();
        self.numbers.clear();
        self.counts.clear();
        self.reasoning_tokens.clear();
        self.logit_bias_digest = None;
        self.hash_inputs.clear();
        self.template_hashes = Default::default();
        self.passages = OnceCell::new();
        self.after_space = false;
        self.continues_stored = false;
        self.issues = ReadIssues::default();
        self.work.begin_entry();
    }

    /// Adds the fields that do not come from the body: method, path, client, headers, sizes, time.
    pub(super) fn add_envelope(
        &mut self,
        envelope: &Envelope<'a>,
        endpoint: Endpoint,
        body: &Body<'_>,
    ) {
        let client = &envelope.client;
        self.keywords.push((FieldId::OperationName, Cow::Borrowed(endpoint.operation())));
        self.keywords.push((FieldId::ProviderName, Cow::Borrowed(endpoint.dialect().provider())));
        self.keywords.push((FieldId::Method, Cow::Borrowed(envelope.method)));
        self.keywords.push((FieldId::Path, Cow::Borrowed(envelope.path)));
        let optional = [
            (FieldId::Account, envelope.account),
            (FieldId::Tenant, envelope.tenant),
            (FieldId::ClientAddress, client.address),
            (FieldId::AsOrganization, client.as_organization),
            (FieldId::Country, client.country),
            (FieldId::ProtocolVersion, client.http_version),
            (FieldId::TlsVersion, client.tls_version),
            (FieldId::TlsFingerprint, client.tls_fingerprint),
        ];
        for (field, value) in optional {
            self.keywords.extend(value.map(|value| (field, Cow::Borrowed(value))));
        }
        for (header, value) in envelope.headers {
            match header.as_str() {
                "user-agent" => self.keywords.push((FieldId::UserAgent, Cow::Borrowed(value))),
                "content-encoding" => self.keywords.push((FieldId::Encoding, Cow::Borrowed(value))),
                "content-type" if !body::is_supported_charset(value) => {
                    self.issues.insert(ReadIssues::ENCODING)
                }
                _ => {}
            }
        }
        if !self.has_keyword(FieldId::RequestModel)
            && let Some(model) = model_from_path(envelope.path).or(envelope.model)
        {
            self.keywords.push((FieldId::RequestModel, Cow::Borrowed(model)));
        }
        let size = envelope.body_size.unwrap_or(body.received_size() as u64);
        self.push_number(FieldId::BodySize, size as f64);
        if envelope.unscanned_bytes > 0 {
            self.push_number(FieldId::BodyUnscanned, envelope.unscanned_bytes as f64);
        }
        if envelope.credential_count > 1 {
            self.push_number(FieldId::CredentialCount, f64::from(envelope.credential_count));
        }
        self.push_number(FieldId::HeaderCount, envelope.headers.len() as f64);
        self.push_number(FieldId::Hour, (envelope.now / 3_600 % 24) as f64);
    }

    /// Adds the fields that need the whole body: counters, prompt size, issues, completeness. If
    /// the text exceeds `window` bytes, only its beginning and its end are kept.
    pub(super) fn finish(&mut self, envelope: &Envelope<'_>, endpoint: Endpoint, window: usize) {
        self.numbers.append(&mut self.counts);
        let is_in_messages = |segment: &&Segment<'_>| {
            segment.section as u8 & MESSAGE_SECTIONS != 0 && !segment.source.is_joined()
        };
        let size: usize =
            self.segments.iter().filter(is_in_messages).map(|segment| segment.range.len()).sum();
        self.push_number(FieldId::PromptSize, size as f64);
        self.keep_window(window);
        if self.work.is_exhausted() {
            self.issues.insert(ReadIssues::COSTLY);
        }
        self.work.begin_search(self.text.len());
        if !self.issues.is_empty() {
            let issues = self.issues.names();
            let values = issues.map(|issue| (FieldId::BodyUnreadable, Cow::Borrowed(issue)));
            self.keywords.extend(values);
        }
        let completeness = Completeness::new(envelope, endpoint, self.issues);
        if !completeness.reasons.is_empty() {
            let reasons = completeness.reasons.names();
            let values = reasons.map(|reason| (FieldId::BodyUnscored, Cow::Borrowed(reason)));
            self.keywords.extend(values);
        }
        if let Some(share) = completeness.scored_share.filter(|share| *share < 1.0) {
            self.push_number(FieldId::BodyScoredShare, share);
        }
    }

    /// Normalises a string and adds it as a segment, unless the result is empty.
    ///
    /// `is_literal` is true for a string without escapes to decode. Text beyond the budget is
    /// dropped.
    pub(super) fn push_text(&mut self, section: Section, raw: RawString<'a>, is_literal: bool) {
        if self.segments.len() >= MAX_SEGMENTS || !self.work.spend_reading(raw.bytes().len()) {
            return self.work.exhaust();
        }
        let checkpoints_len = self.checkpoints.len();
        let mut normalizer =
            Normalizer::new(&mut self.text, Case::Fold).with_limit(self.work.max_text());
        if is_literal {
            normalizer.push_run(&String::from_utf8_lossy(raw.bytes()));
        } else {
            normalizer.push_escaped(raw, &mut self.checkpoints);
        }
        let is_full = normalizer.is_full();
        let normalized = normalizer.finish_with_edges();
        if is_full {
            self.work.exhaust();
        }
        self.push_segment(section, Source::Value(raw), normalized, checkpoints_len);
    }

    /// Decodes and normalises a text, and adds it as a segment, unless the result is empty.
    ///
    /// Text beyond the budget is dropped. Decoding counts as work in addition to normalisation.
    pub(super) fn push_decoded(&mut self, section: Section, raw: RawString<'a>, coding: Coding) {
        let work = raw.bytes().len().saturating_mul(2);
        if self.segments.len() >= MAX_SEGMENTS || !self.work.spend_reading(work) {
            return self.work.exhaust();
        }
        let checkpoints_len = self.checkpoints.len();
        let mut normalizer =
            Normalizer::new(&mut self.text, Case::Fold).with_limit(self.work.max_text());
        normalizer.push_run(&coding.decode(raw));
        let is_full = normalizer.is_full();
        let normalized = normalizer.finish_with_edges();
        if is_full {
            self.work.exhaust();
        }
        self.push_segment(section, Source::Encoded(raw, coding), normalized, checkpoints_len);
    }

    /// Normalises a text of an earlier message and adds it as a segment, unless the result is
    /// empty. Text beyond the budget is dropped.
    pub(super) fn push_earlier_text(&mut self, section: Section, text: &'a str) {
        if self.segments.len() >= MAX_SEGMENTS || !self.work.spend_reading(text.len()) {
            return self.work.exhaust();
        }
        let checkpoints_len = self.checkpoints.len();
        let mut normalizer =
            Normalizer::new(&mut self.text, Case::Fold).with_limit(self.work.max_text());
        normalizer.push_run(text);
        let normalized = normalizer.finish_with_edges();
        self.push_segment(section, Source::Earlier(text), normalized, checkpoints_len);
    }

    /// Adds a text as a segment, unless the text is empty. The tuple holds the range of the
    /// normalised text, which is at the end of the buffer, and the white space removed at its
    /// edges. `checkpoints_len` is the number of checkpoints before the text was read.
    fn push_segment(
        &mut self,
        section: Section,
        source: Source<'a>,
        (range, mut edges): (Range<usize>, TrimmedEdges),
        checkpoints_len: usize,
    ) {
        if range.is_empty() {
            self.text.truncate(range.start);
            self.checkpoints.truncate(checkpoints_len);
            self.after_space |= edges.leading;
            return;
        }
        edges.leading |= std::mem::take(&mut self.after_space);
        self.text.push(text::SEGMENT_END);
        self.segments.push(Segment { section, range, source, is_pointed_at: false, edges });
    }

    /// Moves the texts of section `from` to section `to`, in a range of segment indices.
    pub(super) fn move_to_section(&mut self, range: Range<usize>, from: Section, to: Section) {
        let segments = self.segments.get_mut(range).unwrap_or_default();
        for segment in segments.iter_mut().filter(|segment| segment.section == from) {
            segment.section = to;
        }
    }

    /// Skips a container that is nested too deep, and records the issue.
    pub(super) fn skip_too_deep(&mut self, reader: &mut Reader<'a>) {
        self.issues.insert(ReadIssues::DEPTH);
        reader.skip_rest();
    }

    /// Adds a number unless it is NaN or infinite.
    pub(super) fn push_number(&mut self, field: FieldId, value: f64) {
        if self.numbers.len() >= MAX_VALUES {
            self.work.exhaust();
        } else if value.is_finite() {
            self.numbers.push((field, value));
        }
    }

    /// Adds `amount` to the counter of a field.
    pub(super) fn add_count(&mut self, field: FieldId, amount: usize) {
        match self.counts.iter_mut().find(|(id, _)| *id == field) {
            Some((_, value)) => *value += amount as f64,
            None => self.counts.push((field, amount as f64)),
        }
    }

    pub(super) fn has_keyword(&self, field: FieldId) -> bool {
        self.keywords.iter().any(|(id, _)| *id == field)
    }

    /// Reads a value that should be a number. Always returns true, because the member was read.
    pub(super) fn read_number(&mut self, field: FieldId, reader: &mut Reader<'a>) -> bool {
        if let Some(number) = parse_number(reader.next_token(), reader) {
            self.push_number(field, number);
        }
        true
    }

    /// Reads a value that should be a flag; a number is true unless it is 0. Always returns true,
    /// because the member was read.
    pub(super) fn read_flag(&mut self, field: FieldId, reader: &mut Reader<'a>) -> bool {
        let token = reader.next_token();
        let flag =
            parse_flag(token).or_else(|| parse_number(token, reader).map(|number| number != 0.0));
        if let Some(flag) = flag {
            self.push_number(field, f64::from(u8::from(flag)));
        }
        true
    }

    /// Reads a string or a list of strings as keywords. Always returns true, because the member was
    /// read.
    pub(super) fn read_keyword(&mut self, field: FieldId, reader: &mut Reader<'a>) -> bool {
        match reader.next_token() {
            Token::String(raw) => self.push_keyword(field, raw),
            Token::Array => {
                while reader.next_element() {
                    match reader.next_token() {
                        Token::String(raw) => self.push_keyword(field, raw),
                        token => skip_rest_of_value(token, reader),
                    }
                }
            }
            token => skip_rest_of_value(token, reader),
        }
        true
    }

    /// Adds a keyword of at most [`MAX_KEYWORD_BYTES`]; longer values are dropped.
    pub(super) fn push_keyword(&mut self, field: FieldId, raw: RawString<'a>) {
        if self.keywords.len() >= MAX_VALUES {
            self.work.exhaust();
        } else if raw.bytes().len() <= MAX_KEYWORD_BYTES {
            self.keywords.push((field, raw.text()));
        }
    }
}

/// A value for [`Request::from_values`].
#[derive(Clone, Copy, Debug)]
pub enum FieldValue<'a> {
    /// Prompt text of a section.
    Text(Section, &'a str),
    /// A short string.
    Keyword(&'a str),
    /// A value before hashing, for a field that holds keyed hashes.
    HashInput(&'a str),
    /// A number, or a flag as 0 or 1.
    Number(f64),
}

/// Returns the model in a path, or `None` if the path has none of these forms:
/// `/models/<model>:verb`, `/tunedModels/<model>:verb`, `/engines/<model>/`,
/// `/deployments/<model>/` or `/model/<model>/`.
fn model_from_path(path: &str) -> Option<&str> {
    let mut segments = path.split('/');
    segments.find(|segment| {
        matches!(*segment, "models" | "engines" | "deployments" | "model" | "tunedModels")
    })?;
    let model = segments.next()?;
    Some(model.split_once(':').map_or(model, |(model, _)| model))
}

/// Maximum bytes of a keyword before unescaping.
const MAX_KEYWORD_BYTES: usize = 512;

/// Maximum number of keywords, of numbers, and of reasoning tokens that are read. Recorded requests
/// have a few dozen.
pub(super) const MAX_VALUES: usize = 4_096;

/// Maximum number of text values, including joined parts. An embedding request may have 2,048.
pub(super) const MAX_SEGMENTS: usize = 16_384;

/// Maximum nesting depth in message parts, tool results and schemas.
pub(super) const MAX_DEPTH: u8 = 24;

/// Keys of members that hold text. A duplicate of such a key is an issue
/// ([`ReadIssues::DUPLICATE`]), because the origin decides which value counts.
///
/// [`ReadIssues::DUPLICATE`]: super::issues::ReadIssues::DUPLICATE
pub(super) const TEXT_KEYS: &[&str] = &[
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
