//! Reads the JSON object of one request, member by member, in the dialect of its endpoint.

use super::generic::{self, Place};
use super::lenient_json::{Reader, Token};
use super::member_name::MemberName;
use super::request::{Request, TEXT_KEYS};
use super::{anthropic, gemini, openai, realtime};
use crate::field::{FieldId, Section};
use crate::http::route::{Dialect, Endpoint};

impl<'a> Request<'a> {
    /// Reads one JSON object as a request of `endpoint`, and again as a generic request if the
    /// first reading finds no text.
    ///
    /// A `depth` of 0 allows an array of requests.
    pub(super) fn read_object(&mut self, reader: &mut Reader<'a>, endpoint: Endpoint, depth: u8) {
        let start = reader.position();
        let savepoint = self.savepoint();
        self.read_members(reader, endpoint, depth);
        let found_no_text = self.segments.len() == savepoint.segments_len
            && !self.counts.iter().any(|(field, _)| *field == FieldId::PromptTokenIds);
        if found_no_text
            && endpoint.body_dialect() != Dialect::Generic
            && endpoint != Endpoint::OpenaiBatches
        {
            let length = reader.position().saturating_sub(start);
            if !self.work.spend_reading(length) {
                return;
            }
            self.rollback(savepoint);
            self.read_members(&mut reader.fork_at(start), Endpoint::Generic, depth);
        }
    }

    /// Reads the JSON texts that follow the first one, such as JSON lines, as parts of the request.
    pub(super) fn read_further_texts(&mut self, reader: &mut Reader<'a>) {
        while !reader.at_end() {
            let start = reader.position();
            self.read_members(reader, Endpoint::Generic, 0);
            // Stray punctuation starts no token and is skipped here.
            if reader.position() == start {
                reader.skip_byte();
            }
        }
    }

    /// Reads an object in the dialect of `endpoint`. If `depth` is 0, also reads an array, whose
    /// objects are read as generic requests.
    fn read_members(&mut self, reader: &mut Reader<'a>, endpoint: Endpoint, depth: u8) {
        match reader.next_token() {
            Token::Object if endpoint.body_dialect() == Dialect::Generic => {
                let mut seen_keys = 0_u16;
                generic::read_object(self, reader, Place::BODY, &mut |request, key| {
                    request.record_duplicate_key(&mut seen_keys, TEXT_KEYS, key);
                });
            }
            Token::Object => {
                let mut seen_keys = 0_u16;
                while let Some(key) = reader.next_key() {
                    let key = MemberName::new(key);
                    let key = key.as_str();
                    self.record_duplicate_key(&mut seen_keys, TEXT_KEYS, key);
                    let handled = match endpoint.body_dialect() {
                        _ if realtime::is_event(endpoint) => {
                            realtime::read_member(self, key, reader, endpoint)
                        }
                        Dialect::Openai => openai::read_member(self, key, reader, endpoint),
                        Dialect::Anthropic => anthropic::read_member(self, key, reader),
                        Dialect::Gemini => gemini::read_member(self, key, reader),
                        Dialect::Generic => false,
                    };
                    if !handled {
                        reader.skip();
                    }
                }
            }
            Token::Array if depth == 0 => {
                while reader.next_element() {
                    self.read_members(reader, Endpoint::Generic, 1);
                }
            }
            Token::Array => reader.skip_rest(),
            Token::String(raw) if endpoint.body_dialect() == Dialect::Generic => {
                self.push_text(Section::User, raw, false)
            }
            _ => reader.record_syntax_error(),
        }
    }
}
