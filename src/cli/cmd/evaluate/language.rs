//! The language of a recorded prompt.

use serde_json::Value;
use whatlang::{Detector, Lang, Script};

/// Returns the English name of the main language of the prompt in a JSON body. Returns `none` for a
/// body that is not JSON or has no text, and `uncertain` if the text is too short or too mixed.
pub fn of_body(body: &[u8]) -> &'static str {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return "none" };
    let mut text = String::new();
    collect_text(&value, 0, &mut text);
    of_text(&text)
}

/// Returns the English name of the language of a text. Returns `none` for a blank text, and
/// `uncertain` if the detector is not sure.
fn of_text(text: &str) -> &'static str {
    if text.trim().is_empty() {
        return "none";
    }
    let detector = Detector::with_allowlist(LANGUAGES.to_vec());
    match detector.detect(text) {
        // The detector is not sure about short texts. In a script other than Latin, its best guess
        // is used anyway, because few languages share such a script.
        Some(info) if info.is_reliable() || info.script() != Script::Latin => {
            info.lang().eng_name()
        }
        _ => "uncertain",
    }
}

/// Appends the strings of a JSON value that look like text, until `text` has [`MAX_BYTES`] or more.
/// Skips the members in [`IGNORED_MEMBERS`].
fn collect_text(value: &Value, depth: usize, text: &mut String) {
    if depth > MAX_DEPTH || text.len() >= MAX_BYTES {
        return;
    }
    match value {
        Value::String(string) if is_text(string) => {
            text.extend(string.chars().take(MAX_STRING_CHARS));
            text.push('\n');
        }
        Value::Array(values) => {
            values.iter().for_each(|value| collect_text(value, depth + 1, text));
        }
        Value::Object(members) => members
            .iter()
            .filter(|(name, _)| !IGNORED_MEMBERS.contains(&name.as_str()))
            .for_each(|(_, value)| collect_text(value, depth + 1, text)),
        _ => {}
    }
}

/// Returns whether a string is text and not a name, an id or encoded data.
fn is_text(string: &str) -> bool {
    string.contains(char::is_whitespace) || !string.is_ascii()
}

/// Members that are skipped: programmers describe tools and answer formats in English, whatever the
/// language of the prompt is.
const IGNORED_MEMBERS: [&str; 5] =
    ["tools", "functions", "response_format", "generationConfig", "metadata"];

const MAX_DEPTH: usize = 32;

/// Number of bytes of text after which no more strings are collected for the detector.
const MAX_BYTES: usize = 8_192;

/// Maximum characters that are read of one string, so that a long document leaves room for the
/// other strings within [`MAX_BYTES`].
const MAX_STRING_CHARS: usize = 1_500;

/// The languages that the detector may return. Other languages are left out, because the detector
/// would report them for short texts in one of these languages.
const LANGUAGES: [Lang; 27] = [
    Lang::Eng,
    Lang::Cmn,
    Lang::Jpn,
    Lang::Kor,
    Lang::Rus,
    Lang::Ukr,
    Lang::Spa,
    Lang::Por,
    Lang::Fra,
    Lang::Deu,
    Lang::Ita,
    Lang::Nld,
    Lang::Pol,
    Lang::Tur,
    Lang::Ara,
    Lang::Pes,
    Lang::Hin,
    Lang::Ben,
    Lang::Ind,
    Lang::Vie,
    Lang::Tha,
    Lang::Ces,
    Lang::Swe,
    Lang::Ell,
    Lang::Heb,
    Lang::Ron,
    Lang::Hun,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_found_in_bodies() {
        let rows = [
            (
                "Please tell me when the museum opens on public holidays, and whether there is a \
                 guided tour that my children would enjoy. We would come by train.",
                "English",
            ),
            (
                "Bitte sagen Sie mir, wann das Museum an Feiertagen geöffnet ist, und ob es eine \
                 Führung gibt, die auch meinen Kindern gefallen würde. Wir kommen mit der Bahn.",
                "German",
            ),
            ("Hm, ok.", "uncertain"),
            ("请告诉我博物馆在节假日几点开门。", "Mandarin"),
            ("祝日に博物館は何時に開きますか。教えてください。", "Japanese"),
            ("Подскажите, пожалуйста, когда открыт музей в праздничные дни.", "Russian"),
            ("من فضلك أخبرني متى يفتح المتحف في أيام العطل.", "Arabic"),
            ("", "none"),
        ];
        for (text, expected) in rows {
            let body = serde_json::json!({
                "model": "a-model", "messages": [{ "role": "user", "content": text }],
                "tools": [{ "description": "Weather in a city for the day that is given." }],
            });
            assert_eq!(of_body(body.to_string().as_bytes()), expected, "{text}");
        }
        assert_eq!(of_body(b"--boundary"), "none");
    }
}
