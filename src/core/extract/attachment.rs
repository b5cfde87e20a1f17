//! Attachments: files in a request. Text in a file is added to the text of the request; media is
//! only counted.
//!
//! A file is plain text, base64, or a `data:` URL, in objects of various shapes: Anthropic's
//! `source`, Gemini's `inlineData`, OpenAI's `file` and `file_data`, Bedrock's `document`. Media is
//! recognised by its type or by its first bytes, and is not decoded.

use super::coding::{Coding, decode_base64, is_base64};
use super::issues::ReadIssues;
use super::lenient_value::skip_rest_of_value;
use super::member_name::MemberName;
use super::raw_string::RawString;
use super::request::{MAX_DEPTH, Request};
use crate::extract::lenient_json::{Reader, Token};
use crate::field::{FieldId, Section};

/// A file that is being read; the members of its JSON object may be in any order.
#[derive(Debug, Default)]
pub(super) struct Attachment<'a> {
    /// Whether the type says that the content is plain text.
    is_plain: bool,
    /// Whether a name or a type says that the content is text.
    is_text: bool,
    /// Whether a name or a type says that the content is media.
    is_media: bool,
    /// Strings that hold the content.
    data: Vec<RawString<'a>>,
    has_text: bool,
}

/// The format of a file, as its names and media types declare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileFormat {
    /// The names and types declare no format or contradict each other, so the content decides.
    Unknown,
    /// Text in a string, without base64.
    Plain,
    /// Text, as base64 or in a string.
    Text,
    /// An image, audio, video, an archive, or a document in a binary format.
    Media,
}

/// A function that reads the text parts of a file into a section, at a nesting depth.
pub(super) type ReadContent<'a> = fn(&mut Request<'a>, &mut Reader<'a>, Section, u8);

/// Reads the value of a member that holds a file, and counts the file unless it is text.
pub(super) fn read_member<'a>(
    request: &mut Request<'a>,
    reader: &mut Reader<'a>,
    read_content: ReadContent<'a>,
    depth: u8,
) {
    let mut attachment = Attachment::default();
    attachment.read(request, reader, read_content, depth);
    attachment.finish(request);
}

/// Counts an attachment whose content is not read: an image, audio or another file.
pub(super) fn count(request: &mut Request<'_>) {
    request.add_count(FieldId::AttachmentsCount, 1);
    request.issues.insert(ReadIssues::ATTACHMENT);
}

impl<'a> Attachment<'a> {
    /// Reads a file: an object, or a string with a `data:` URL. Any other string is a reference to
    /// a file, and is skipped.
    fn read(
        &mut self,
        request: &mut Request<'a>,
        reader: &mut Reader<'a>,
        read_content: ReadContent<'a>,
        depth: u8,
    ) {
        match reader.next_token() {
            Token::String(raw) if is_data_url(raw.bytes()) => self.data.push(raw),
            Token::Object if depth > MAX_DEPTH => request.skip_too_deep(reader),
            Token::Object => {
                while let Some(key) = reader.next_key() {
                    let key = MemberName::new(key);
                    self.read_object_member(request, key.as_str(), reader, read_content, depth);
                }
            }
            token => skip_rest_of_value(token, reader),
        }
    }

    fn read_object_member(
        &mut self,
        request: &mut Request<'a>,
        key: &str,
        reader: &mut Reader<'a>,
        read_content: ReadContent<'a>,
        depth: u8,
    ) {
        let deeper = depth.saturating_add(1);
        match key {
            "content" | "text" => {
                let start = request.segments.len();
                read_content(request, reader, Section::Attachment, deeper);
                self.has_text |= request.segments.len() > start;
            }
            "source" | "file" | "document" => self.read(request, reader, read_content, deeper),
            "type" => match reader.next_token() {
                Token::String(raw) if raw.text() == "text" => self.is_plain = true,
                token => skip_rest_of_value(token, reader),
            },
            "data" | "bytes" | "filedata" => self.read_data(reader),
            _ => {
                if !self.read_hint(key, reader) {
                    reader.skip();
                }
            }
        }
    }

    /// Reads a string that holds the content of the file.
    pub(super) fn read_data(&mut self, reader: &mut Reader<'a>) {
        match reader.next_token() {
            Token::String(raw) => self.data.push(raw),
            token => skip_rest_of_value(token, reader),
        }
    }

    /// Reads the value of a member that indicates the format, such as a media type or a file name.
    /// Returns false, with the value unread, for any other `key`.
    pub(super) fn read_hint(&mut self, key: &str, reader: &mut Reader<'a>) -> bool {
        if !matches!(key, "mediatype" | "mimetype" | "format" | "filename" | "name") {
            return false;
        }
        match reader.next_token() {
            Token::String(raw) => match FileFormat::from_name(&raw.text()) {
                FileFormat::Text => self.is_text = true,
                FileFormat::Media => self.is_media = true,
                FileFormat::Plain | FileFormat::Unknown => {}
            },
            token => skip_rest_of_value(token, reader),
        }
        true
    }

    /// Adds the text of the file to the request. A file without text is only counted.
    pub(super) fn finish(mut self, request: &mut Request<'a>) {
        let format = match (self.is_plain, self.is_text, self.is_media) {
            (true, ..) => FileFormat::Plain,
            (_, true, false) => FileFormat::Text,
            (_, false, true) => FileFormat::Media,
            _ => FileFormat::Unknown,
        };
        for raw in std::mem::take(&mut self.data) {
            self.has_text |= push_content(request, raw, format);
        }
        if !self.has_text {
            count(request);
        }
    }

    /// Returns whether a string that holds the content of the file was read.
    pub(super) fn has_data(&self) -> bool {
        !self.data.is_empty()
    }
}

impl FileFormat {
    /// Returns the format that a media type, a file name or a file extension indicates; `Unknown`
    /// if it indicates none.
    pub fn from_name(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase();
        let name = name.split(';').next().unwrap_or_default();
        if let Some((kind, subtype)) = name.split_once('/') {
            let is_text = TEXT_SUBTYPES.iter().any(|text| subtype.contains(text));
            return match kind {
                "text" => Self::Text,
                "image" | "audio" | "video" | "font" => Self::Media,
                _ if subtype.contains("openxml") || MEDIA_NAMES.contains(&subtype) => Self::Media,
                _ if is_text => Self::Text,
                _ => Self::Unknown,
            };
        }
        let extension = name.rsplit('.').next().unwrap_or_default();
        if TEXT_NAMES.contains(&extension) {
            Self::Text
        } else if MEDIA_NAMES.contains(&extension) {
            Self::Media
        } else {
            Self::Unknown
        }
    }
}

/// Adds the text of a file to the request. Returns false, in constant time, if the file is media.
fn push_content<'a>(request: &mut Request<'a>, raw: RawString<'a>, format: FileFormat) -> bool {
    if format == FileFormat::Plain {
        request.push_text(Section::Attachment, raw, false);
        return true;
    }
    let Some(url) = DataUrl::parse(raw) else { return push_base64(request, raw, format) };
    let format = match FileFormat::from_name(&url.media_type) {
        FileFormat::Unknown => format,
        format => format,
    };
    if url.is_base64 {
        return push_base64(request, url.content, format);
    }
    if format != FileFormat::Media {
        request.push_decoded(Section::Attachment, url.content, Coding::Form);
    }
    format != FileFormat::Media
}

/// Adds a text in base64, or a plain text if the string cannot be base64. Returns false if the file
/// is media.
fn push_base64<'a>(request: &mut Request<'a>, raw: RawString<'a>, format: FileFormat) -> bool {
    let prefix = raw.slice(raw.range().start..raw.range().start.saturating_add(SNIFFED_BYTES));
    if format == FileFormat::Media {
        return false;
    }
    if !is_base64(prefix.bytes()) {
        request.push_text(Section::Attachment, raw, false);
        return true;
    }
    if format != FileFormat::Text && !is_text(&decode_base64(prefix)) {
        return false;
    }
    request.push_decoded(Section::Attachment, raw, Coding::Base64);
    true
}

/// Adds a file of an upload to the request, if it is text. Returns false, in constant time, for any
/// other file.
pub(super) fn push_file<'a>(request: &mut Request<'a>, raw: RawString<'a>) -> bool {
    let prefix = raw.bytes().get(..raw.bytes().len().min(SNIFFED_BYTES)).unwrap_or_default();
    let is_text = is_text(prefix);
    if is_text {
        request.push_decoded(Section::Attachment, raw, Coding::Plain);
    }
    is_text
}

/// Returns whether a file that begins with `bytes` is text.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let has_control = bytes.iter().any(|byte| matches!(byte, 0..=8 | 14..=31 | 127));
    let is_utf8 = match std::str::from_utf8(bytes) {
        Ok(_) => true,
        // The last character may be cut.
        Err(error) => error.error_len().is_none(),
    };
    let is_media = BINARY_PREFIXES.iter().any(|prefix| bytes.starts_with(prefix));
    !bytes.is_empty() && !has_control && is_utf8 && !is_media
}

/// A `data:` URL.
struct DataUrl<'a> {
    media_type: String,
    is_base64: bool,
    content: RawString<'a>,
}

impl<'a> DataUrl<'a> {
    /// Parses a `data:` URL. Returns `None` for any other string, and if no comma is among the
    /// first [`MAX_HEAD_BYTES`].
    fn parse(raw: RawString<'a>) -> Option<Self> {
        if !is_data_url(raw.bytes()) {
            return None;
        }
        let bytes = raw.bytes();
        let head = bytes.get(..bytes.len().min(MAX_HEAD_BYTES)).unwrap_or_default();
        let comma = memchr::memchr(b',', head)?;
        let start = raw.range().start;
        let head = raw.slice(start.saturating_add(5)..start.saturating_add(comma)).text();
        let head = head.to_ascii_lowercase();
        let is_base64 = head.trim_end().ends_with("base64");
        let media_type = head.split(';').next().unwrap_or_default().trim();
        // RFC 2397: a URL without media type holds text.
        let media_type = if media_type.is_empty() { "text/plain" } else { media_type }.to_owned();
        let content = raw.slice(start.saturating_add(comma).saturating_add(1)..raw.range().end);
        Some(Self { media_type, is_base64, content })
    }
}

pub(super) fn is_data_url(bytes: &[u8]) -> bool {
    bytes.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"))
}

/// Number of bytes at the start of a file that are checked to decide whether the file is text.
const SNIFFED_BYTES: usize = 128;

/// Maximum bytes of a `data:` URL before its content.
const MAX_HEAD_BYTES: usize = 256;

/// Substrings that mark a media subtype, usually one of `application/*`, as text.
const TEXT_SUBTYPES: &[&str] =
    &["json", "xml", "yaml", "csv", "markdown", "javascript", "html", "x-sh", "x-tex", "sql"];

/// Extensions of text files.
const TEXT_NAMES: &[&str] = &[
    "txt", "text", "md", "markdown", "csv", "tsv", "json", "jsonl", "ndjson", "xml", "html", "htm",
    "yaml", "yml", "log", "tex", "rst", "py", "js", "ts", "c", "cpp", "java", "go", "rs", "sh",
    "sql",
];

/// File extensions and subtypes of `application/*` that mark media.
const MEDIA_NAMES: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "webp", "bmp", "heic", "pdf", "doc", "docx", "xls", "xlsx", "ppt",
    "pptx", "msword", "mp3", "mp4", "wav", "ogg", "flac", "webm", "mov", "zip", "gzip", "gz",
    "tar",
];

/// The first bytes of binary formats that begin with printable characters, so that they look like
/// text.
const BINARY_PREFIXES: &[&[u8]] = &[b"%PDF-", b"GIF8", b"RIFF", b"OggS", b"fLaC", b"{\\rtf"];
