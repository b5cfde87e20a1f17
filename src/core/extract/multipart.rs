//! Multipart bodies: forms, uploads of files, and batches of HTTP requests.

use memchr::memmem;

/// A parsed multipart body: all its parts, and the purposes and files if it is an upload.
#[derive(Default)]
pub(super) struct Form<'a> {
    pub(super) parts: Vec<Part<'a>>,
    pub(super) purposes: Vec<&'a [u8]>,
    /// Content of each file, and the byte offset of this content in the body.
    pub(super) files: Vec<(&'a [u8], usize)>,
    /// Whether the form has a part that servers may read differently.
    pub(super) is_ambiguous: bool,
}

/// A part of a multipart body.
pub(super) struct Part<'a> {
    /// Name in lower case; `None` outside forms.
    pub(super) name: Option<String>,
    /// Whether the part is a file: it has a file name or a media type.
    pub(super) is_file: bool,
    pub(super) content: &'a [u8],
    /// Byte offset of the content in the body.
    pub(super) offset: usize,
}

/// Parses a multipart body, whose last part may be cut off. Returns `None` if the content type is
/// not `multipart/*` with a boundary.
pub(super) fn parse_form<'a>(body: &'a [u8], content_type: Option<&str>) -> Option<Form<'a>> {
    let mut form = Form::default();
    let delimiter = format!("--{}", parse_boundary(content_type?)?);
    let finder = memmem::Finder::new(delimiter.as_bytes());
    // A delimiter counts only at the beginning of a line.
    let begins_line = |position: &usize| {
        *position == 0 || body.get(..*position).is_some_and(|preceding| preceding.ends_with(b"\n"))
    };
    let delimiters = finder.find_iter(body).filter(begins_line);
    let mut starts = delimiters.map(|position| position.saturating_add(delimiter.len())).peekable();
    while let Some(start) = starts.next() {
        let end = starts.peek().map_or(body.len(), |next| next.saturating_sub(delimiter.len()));
        form.add_part(body.get(start..end).unwrap_or_default(), start);
    }
    Some(form)
}

impl<'a> Form<'a> {
    /// Returns whether the form certainly is not a batch file. Such a form is unambiguous. It has
    /// either purposes other than `batch`, or no purpose and no file that contains a key of a
    /// request.
    pub(super) fn is_not_batch(&self) -> bool {
        if self.is_ambiguous || self.purposes.contains(&&b"batch"[..]) {
            return false;
        }
        let may_have_body =
            |file: &[u8]| REQUEST_KEYS.iter().any(|key| memmem::find(file, key).is_some());
        !self.purposes.is_empty() || !self.files.iter().any(|(file, _)| may_have_body(file))
    }

    /// Adds the part between two delimiters, which begins at byte `start` of the body.
    fn add_part(&mut self, part: &'a [u8], start: usize) {
        let crlf = memmem::find(part, b"\r\n\r\n");
        let lf = memmem::find(part, b"\n\n");
        let (head_end, content_start) = match (crlf, lf) {
            (Some(crlf), lf) if lf.is_none_or(|lf| crlf < lf) => (crlf, crlf.saturating_add(4)),
            (_, Some(lf)) => (lf, lf.saturating_add(2)),
            // The last delimiter is followed by two hyphens.
            _ => return self.is_ambiguous |= !part.starts_with(b"--"),
        };
        let head = String::from_utf8_lossy(part.get(..head_end).unwrap_or_default());
        let content = part.get(content_start..).unwrap_or_default();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        let content_offset = start.saturating_add(content_start);
        let head = head.to_ascii_lowercase();
        let (name, is_unambiguous) = parse_part_name(&head);
        self.parts.push(Part {
            name: name.clone(),
            is_file: head.contains("filename") || head.contains("content-type:"),
            content,
            offset: content_offset,
        });
        self.is_ambiguous |= !is_unambiguous || crlf != Some(head_end);
        match name.as_deref() {
            Some("purpose") => self.purposes.push(content.trim_ascii()),
            // The uploads API sends a part of a file as `data`.
            Some("file" | "data") => self.files.push((content, content_offset)),
            Some(_) if is_unambiguous => {}
            _ => self.files.push((content, content_offset)),
        }
    }
}

/// Returns the name of a part from its headers, and whether all servers agree on the name. The name
/// is `None` if the headers have none. Servers may disagree if header lines are folded, if the name
/// or the content is encoded, or if there are several names.
fn parse_part_name(head: &str) -> (Option<String>, bool) {
    let lines: Vec<&str> = head.lines().filter(|line| !line.is_empty()).collect();
    let is_folded = lines.iter().any(|line| line.starts_with([' ', '\t']));
    let is_encoded = lines.iter().any(|line| {
        let coding = line.strip_prefix("content-transfer-encoding:").map(str::trim);
        coding.is_some_and(|coding| !matches!(coding, "7bit" | "8bit" | "binary"))
    });
    let disposition = lines.iter().find_map(|line| line.strip_prefix("content-disposition:"));
    let parameters = parse_parameters(disposition.unwrap_or_default());
    let mut names = parameters.iter().filter(|(name, _)| name == "name");
    let name = names.next().map(|(_, value)| value.clone());
    let is_extended = parameters.iter().any(|(name, _)| name.starts_with("name*"));
    let is_unambiguous =
        name.is_some() && names.next().is_none() && !is_folded && !is_encoded && !is_extended;
    (name, is_unambiguous)
}

/// Returns the boundary of a `multipart/*` content type; `None` for another type, or if the
/// boundary is missing or longer than 200 bytes.
fn parse_boundary(content_type: &str) -> Option<String> {
    let (media_type, parameter_text) = content_type.split_once(';')?;
    if !media_type.trim().to_ascii_lowercase().starts_with("multipart/") {
        return None;
    }
    let mut parameters = parse_parameters(parameter_text).into_iter();
    let (_, boundary) = parameters.find(|(name, _)| name == "boundary")?;
    (!boundary.is_empty() && boundary.len() <= 200).then_some(boundary)
}

/// Returns the parameters of a header value: names in lower case, values without quotes.
fn parse_parameters(value: &str) -> Vec<(String, String)> {
    let mut in_quotes = false;
    let mut is_escaped = false;
    let parts = value.split(|char| {
        let is_separator = char == ';' && !in_quotes;
        in_quotes ^= char == '"' && !is_escaped;
        is_escaped = char == '\\' && in_quotes && !is_escaped;
        is_separator
    });
    let parameters = parts.filter_map(|part| part.split_once('='));
    let unquoted = |value: &str| value.trim().trim_matches('"').to_owned();
    parameters.map(|(name, value)| (name.trim().to_ascii_lowercase(), unquoted(value))).collect()
}

/// Keys of the lines of batch files, and an escape that may stand for a letter of such a key.
const REQUEST_KEYS: [&[u8]; 7] = [
    br#""body""#,
    br#""request""#,
    br#""params""#,
    br#""modelInput""#,
    br#""messages""#,
    br#""contents""#,
    br"\u00",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Servers parse forms differently. A form that one of them reads as a batch must be scored.
    #[test]
    fn only_unambiguous_non_batch_forms_are_skipped() {
        let line = "{}";
        let part = |disposition: &str, content: &str| {
            format!("--b\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
        };
        let purpose = |purpose: &str| part("name=\"purpose\"", purpose);
        let file = part("name=\"file\"; filename=\"a;b.jsonl\"", line);
        let plain = "multipart/form-data; boundary=b";
        let rows = [
            ("another purpose", plain, purpose("assistants") + &file, true, 1),
            ("a batch", plain, purpose("batch") + &file, false, 1),
            ("both", plain, purpose("batch") + &purpose("user_data") + &file, false, 1),
            ("no purpose, and no line with a body", plain, file.clone(), true, 1),
            ("no purpose", plain, part("name=\"file\"", r#"{"body":{}}"#), false, 1),
            (
                "a name in extended form",
                plain,
                part("name*=utf-8''purpose", "batch") + &purpose("user_data") + &file,
                false,
                2,
            ),
            (
                "two names",
                plain,
                part("name=\"x\"; name=\"purpose\"", "batch") + &purpose("user_data") + &file,
                false,
                2,
            ),
            (
                "folded headers",
                plain,
                "--b\r\nContent-Disposition:\r\n form-data; name=\"purpose\"\r\n\r\nbatch\r\n"
                    .to_owned()
                    + &purpose("user_data")
                    + &file,
                false,
                2,
            ),
            (
                "bare line ends",
                plain,
                "--b\nContent-Disposition: form-data; name=\"purpose\"\n\nbatch\n".to_owned()
                    + &purpose("user_data")
                    + &file,
                false,
                1,
            ),
            (
                "a boundary in quotes of another parameter",
                "multipart/form-data; x=\"; boundary=fake\"; boundary=b",
                purpose("batch") + &file,
                false,
                1,
            ),
        ];
        for (name, content_type, body, is_not_batch, files) in rows {
            let body = body + "--b--\r\n";
            let form = parse_form(body.as_bytes(), Some(content_type)).unwrap();
            assert_eq!((form.is_not_batch(), form.files.len()), (is_not_batch, files), "{name}");
        }
    }
}
