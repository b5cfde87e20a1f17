//! The words of refusals, and the checks of everything that the policy says to clients.

use serde::{Deserialize, Serialize};

use crate::enforce::refusal::Refusal;
use crate::error::Error;
use crate::http::language::{is_language_tag, lookup};
use crate::http::route::Dialect;

/// The words of some refusals. An entry without conditions applies to every refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RefusalPolicy {
    /// Refusals to which the entry applies; all if the list is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on: Vec<Refusal>,
    /// Dialect to which the entry applies; all if it is `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Dialect>,
    /// Language of the entry. If it is `None`, the text is in the default language, and code and
    /// link apply to all languages that have none of their own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Text of the error, with placeholders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Code of the error, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// URL of a page for the client, with placeholders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// The words that were chosen for one refusal. A value that the policy does not set is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words<'p> {
    /// Text, with placeholders.
    pub text: Option<&'p str>,
    /// Code.
    pub code: Option<&'p str>,
    /// Link, with placeholders.
    pub link: Option<&'p str>,
    /// Language of the text.
    pub language: &'p str,
}

/// Returns the words for a refusal. For each value, the first entry that applies and has the value
/// counts; an entry in the client's language counts before one without a language.
///
/// `accept_language` is the header with the languages that the client reads.
pub fn choose_words<'p>(
    entries: &'p [RefusalPolicy],
    default_language: &'p str,
    (refusal, dialect): (Refusal, Dialect),
    accept_language: Option<&str>,
) -> Words<'p> {
    let applies = |entry: &&RefusalPolicy| {
        (entry.on.is_empty() || entry.on.contains(&refusal))
            && entry.dialect.is_none_or(|expected| expected == dialect)
    };
    let entries: Vec<&RefusalPolicy> = entries.iter().filter(applies).collect();
    let mut languages = vec![default_language];
    let with_text = entries.iter().filter(|entry| entry.text.is_some());
    languages.extend(with_text.filter_map(|entry| entry.language.as_deref()));
    let language = accept_language.and_then(|header| lookup(header, &languages));
    let language = language.unwrap_or(default_language);
    let find = |value: fn(&RefusalPolicy) -> &Option<String>| {
        let is_chosen = |entry: &RefusalPolicy| {
            entry.language.as_deref().map(|tag| tag.eq_ignore_ascii_case(language))
        };
        let of = |wanted: Option<bool>| {
            let mut of_language = entries.iter().filter(|entry| is_chosen(entry) == wanted);
            of_language.find_map(|entry| value(entry).as_deref())
        };
        of(Some(true)).or_else(|| of(None))
    };
    Words {
        text: find(|entry| &entry.text),
        code: find(|entry| &entry.code),
        link: find(|entry| &entry.link),
        language,
    }
}

/// A kind of value that the policy says to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientValue {
    /// A text with placeholders, for people.
    Text,
    /// A text with placeholders, in a header: ASCII only.
    HeaderText,
    /// A URL with placeholders.
    Link,
    /// A code, for programs.
    Code,
    /// A language tag.
    Language,
    /// The name of a header with a notice.
    HeaderName,
}

impl ClientValue {
    /// Checks a value. Returns the form that is expected.
    ///
    /// # Errors
    /// If the value is too long, has characters that are not allowed or an unknown placeholder, or
    /// has a different form.
    pub fn check(self, value: &str) -> Result<(), &'static str> {
        let is_graphic = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`|".contains(&byte);
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let has_length = (1..=self.max_bytes()).contains(&value.len());
        let (is_valid, expected) = match self {
            Self::Text => (
                !value.trim().is_empty() && !value.contains(is_control),
                "at most 1000 bytes without line ends and control characters",
            ),
            Self::HeaderText => (
                !value.trim().is_empty() && value.bytes().all(|byte| matches!(byte, 32..=126)),
                "at most 500 ASCII characters without line ends",
            ),
            Self::Link => (
                has_https_host(value)
                    && value.bytes().all(is_graphic)
                    && !value.contains(LINK_PLACEHOLDER),
                "a URL that begins with https:// and a host name, of at most 300 bytes; encode \
                 other characters than ASCII",
            ),
            Self::Code => (
                value.starts_with(|first: char| first.is_ascii_lowercase())
                    && value.bytes().all(|byte| is_name(byte) || byte == b'_'),
                "at most 63 lower-case letters, digits and `_`, of which the first is a letter",
            ),
            Self::Language => (is_language_tag(value), "a language tag, such as de or pt-BR"),
            Self::HeaderName => (
                value.contains("notice") && value.bytes().all(|byte| is_name(byte) || byte == b'-'),
                "at most 63 lower-case letters, digits and `-`, with the word `notice`, which no \
                 other header has",
            ),
        };
        if !is_valid || !has_length {
            return Err(expected);
        }
        let has_placeholders = matches!(self, Self::Text | Self::HeaderText | Self::Link);
        match unknown_placeholder(value) {
            Some(_) if has_placeholders => Err(
                "no braces except the placeholders {request_id}, {appeal} and, in a text, {link}",
            ),
            _ => Ok(()),
        }
    }

    /// Returns the maximum bytes of a value.
    fn max_bytes(self) -> usize {
        match self {
            Self::Text => 1_000,
            Self::HeaderText => 500,
            Self::Link => 300,
            Self::Code | Self::HeaderName | Self::Language => 63,
        }
    }

    /// Checks a value of a bundle, unless it is `None`.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub(super) fn validate(self, key: &str, value: Option<&str>) -> Result<(), Error> {
        match value.map(|value| self.check(value)) {
            Some(Err(expected)) => Err(Error::new(
                format!("the policy's '{key}' is invalid"),
                format!("use {expected}"),
            )),
            _ => Ok(()),
        }
    }
}

impl RefusalPolicy {
    /// Returns the values of an entry: the key, the kind and the value of each.
    fn values(&self) -> [(&'static str, ClientValue, Option<&str>); 4] {
        [
            ("language", ClientValue::Language, self.language.as_deref()),
            ("text", ClientValue::Text, self.text.as_deref()),
            ("code", ClientValue::Code, self.code.as_deref()),
            ("link", ClientValue::Link, self.link.as_deref()),
        ]
    }

    /// Checks all values.
    pub(super) fn validate(&self) -> Result<(), Error> {
        self.values().into_iter().try_for_each(|(key, kind, value)| kind.validate(key, value))
    }
}

/// Returns a text with the values of its placeholders. The link comes last: it may contain the
/// other placeholders. If the text does not name the link, appends it.
pub fn fill(text: &str, link: Option<&str>, request_id: &str, appeal: &str) -> String {
    let mut filled = match link {
        Some(link) if !text.contains(LINK_PLACEHOLDER) => format!("{text} {link}"),
        link => text.replace(LINK_PLACEHOLDER, link.unwrap_or_default()),
    };
    for (placeholder, value) in [(REQUEST_ID, request_id), (APPEAL, appeal)] {
        filled = filled.replace(placeholder, value);
    }
    filled
}

/// Returns the text between the first two braces that are not a placeholder; `None` if each brace
/// belongs to a placeholder.
pub fn unknown_placeholder(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(start) = rest.find(['{', '}']) {
        let (_, from_brace) = rest.split_at(start);
        let known = [REQUEST_ID, APPEAL, LINK_PLACEHOLDER];
        match known.iter().find_map(|placeholder| from_brace.strip_prefix(placeholder)) {
            Some(after) => rest = after,
            None => return from_brace.split_inclusive('}').next(),
        }
    }
    None
}

/// Returns whether a URL begins with `https://` and the name of a host, perhaps with a port, and
/// without placeholders.
fn has_https_host(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    name.contains('.') && name.split('.').all(is_label) && port.parse::<u16>().is_ok()
}

/// Returns whether a character is a control character, ends a line, or changes the direction of
/// text.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Placeholder of the request id.
const REQUEST_ID: &str = "{request_id}";

/// Placeholder of the appeal reference.
const APPEAL: &str = "{appeal}";

/// Placeholder of the link, in texts.
pub const LINK_PLACEHOLDER: &str = "{link}";

/// Maximum number of entries with words of refusals.
pub const MAX_REFUSALS: usize = 256;

/// The default language, which is the language of the built-in texts.
pub(super) const ENGLISH: &str = "en";

#[cfg(test)]
mod tests {
    use super::super::Policy;
    use super::*;

    /// Returns an entry with the settings `on`, `dialect`, `language`, `text`, `code` and `link`.
    fn entry(json: serde_json::Value) -> RefusalPolicy {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_first_entry_with_a_value_counts_and_the_language_comes_first() {
        use serde_json::json;
        let link = "https://a.example/";
        let entries = [
            entry(json!({ "on": ["throttle"], "dialect": "gemini", "text": "gemini" })),
            entry(json!({ "on": ["throttle", "late"], "text": "slow", "code": "slow_down" })),
            entry(json!({ "on": ["throttle"], "language": "de", "text": "langsam" })),
            entry(
                json!({ "on": ["block"], "language": "pt-BR", "text": "n\u{e3}o", "code": "pt" }),
            ),
            entry(json!({ "code": "any", "link": link })),
            entry(json!({ "text": "never" , "on": ["throttle"] })),
        ];
        let words = |text: Option<&'static str>, code, language| (text, Some(code), language);
        let rows = [
            (Refusal::Throttle, Dialect::Openai, None, words(Some("slow"), "slow_down", "en")),
            (Refusal::Throttle, Dialect::Gemini, None, words(Some("gemini"), "slow_down", "en")),
            (
                Refusal::Throttle,
                Dialect::Gemini,
                Some("de-AT"),
                words(Some("langsam"), "slow_down", "de"),
            ),
            (
                Refusal::Throttle,
                Dialect::Openai,
                Some("en, de;q=0.9"),
                words(Some("slow"), "slow_down", "en"),
            ),
            (
                Refusal::Throttle,
                Dialect::Openai,
                Some("pt-BR"),
                words(Some("slow"), "slow_down", "en"),
            ),
            (Refusal::Late, Dialect::Openai, Some("de"), words(Some("slow"), "slow_down", "en")),
            (
                Refusal::Block,
                Dialect::Generic,
                Some("pt-br"),
                words(Some("n\u{e3}o"), "pt", "pt-BR"),
            ),
            (Refusal::Block, Dialect::Generic, Some("pt"), words(None, "any", "en")),
            (Refusal::TooLarge, Dialect::Anthropic, None, words(None, "any", "en")),
        ];
        for (refusal, dialect, header, expected) in rows {
            let words = choose_words(&entries, ENGLISH, (refusal, dialect), header);
            let found = (words.text, words.code, words.language);
            assert_eq!(found, expected, "{refusal:?} {dialect:?} {header:?}");
            assert_eq!(words.link, Some(link));
        }
        let of_german = choose_words(&entries, "de", (Refusal::Throttle, Dialect::Openai), None);
        assert_eq!((of_german.text, of_german.language), (Some("langsam"), "de"));
    }

    #[test]
    fn values_have_their_form() {
        use ClientValue::*;
        let long = |count: usize| "a".repeat(count);
        let valid = [
            (Text, "Zu viele Anfragen. {appeal} {request_id} {link}".to_owned()),
            (Text, "\u{65e5}\u{672c}".to_owned()),
            (Text, long(1_000)),
            (HeaderText, "Limited: {appeal} {link}".to_owned()),
            (Link, "https://help.example.com:8443/a?ref={appeal}&id={request_id}#x".to_owned()),
            (Link, "https://help.example.com".to_owned()),
            (Code, "usage_policy_2".to_owned()),
            (Language, "pt-BR".to_owned()),
            (HeaderName, "x-usage-notice".to_owned()),
        ];
        for (kind, value) in valid {
            assert_eq!(kind.check(&value), Ok(()), "{kind:?} {value}");
        }
        let invalid = [
            (Text, String::new()),
            (Text, "  ".to_owned()),
            (Text, long(1_001)),
            (Text, "a\nb".to_owned()),
            (Text, "a\u{7f}".to_owned()),
            (Text, "a\u{85}".to_owned()),
            (Text, "a\u{202e}b".to_owned()),
            (Text, "{name}".to_owned()),
            (Text, "{".to_owned()),
            (Text, "{appeal}}".to_owned()),
            (Text, "{ appeal }".to_owned()),
            (HeaderText, "\u{fc}ber".to_owned()),
            (HeaderText, "a\tb".to_owned()),
            (HeaderText, long(501)),
            (Link, "http://help.example.com".to_owned()),
            (Link, "https://".to_owned()),
            (Link, "https://{appeal}.example.com".to_owned()),
            (Link, "https://user@help.example.com/".to_owned()),
            (Link, "https://localhost/".to_owned()),
            (Link, "https://help..com/".to_owned()),
            (Link, "https://help.example.com:x/".to_owned()),
            (Link, "https://help.example.com/a b".to_owned()),
            (Link, "https://help.example.com/{link}".to_owned()),
            (Link, "https://help.example.com/{ref}".to_owned()),
            (Link, format!("https://help.example.com/{}", long(300))),
            (Code, "Usage".to_owned()),
            (Code, "2fast".to_owned()),
            (Code, "a-b".to_owned()),
            (Code, long(64)),
            (Language, "deutsch!".to_owned()),
            (HeaderName, "content-type".to_owned()),
            (HeaderName, "x notice".to_owned()),
            (HeaderName, "X-Notice".to_owned()),
        ];
        for (kind, value) in invalid {
            assert!(kind.check(&value).is_err(), "{kind:?} {value}");
        }
    }

    #[test]
    fn a_bundle_with_invalid_words_is_rejected() {
        use serde_json::{Value, json};
        let many = |count| -> Value { vec![json!({ "code": "a" }); count].into() };
        let rows = [
            (json!({}), true),
            (json!({ "refusal": many(256), "notice": { "header": "x-notice" } }), true),
            (json!({ "refusal": many(257) }), false),
            (json!({ "refusal": [{ "text": "a\nb" }] }), false),
            (json!({ "refusal": [{ "link": "http://a.example" }] }), false),
            (json!({ "notice": { "header": "set-cookie" } }), false),
            (json!({ "notice": { "header": "x-notice", "text": "a\r\nb" } }), false),
            (json!({ "enforce": { "refusal_language": "" } }), false),
        ];
        for (policy, expected) in rows {
            let policy: Policy = serde_json::from_value(policy).unwrap();
            assert_eq!(policy.validate().is_ok(), expected, "{policy:?}");
        }
        let default = json!(Policy::default()).to_string();
        for key in ["\"refusal\"", "notice\":{", "refusal_language", "appeal_header"] {
            assert!(!default.contains(key), "{key}: a bundle would get another digest");
        }
    }

    #[test]
    fn placeholders_are_filled_once() {
        let link = "https://a.example/?r={appeal}";
        let rows = [
            ("No.", None, "No."),
            ("No. {request_id}", None, "No. R"),
            ("No.", Some(link), "No. https://a.example/?r=A"),
            ("{link} or {appeal}", Some(link), "https://a.example/?r=A or A"),
            ("See {link}.", None, "See ."),
        ];
        for (text, link, expected) in rows {
            assert_eq!(fill(text, link, "R", "A"), expected);
        }
    }
}
