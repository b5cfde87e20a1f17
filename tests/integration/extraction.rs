//! Compares extraction with the naive reference on valid bodies, and tests it on damaged bodies and
//! arbitrary bytes.
use hedgerow_core::extract;
use hedgerow_core::extract::Request;
use hedgerow_core::field::FieldId;
use hedgerow_core::http::body::Body;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::PlainRequest;

const ENDPOINTS: &[Endpoint] = &[
    Endpoint::OpenaiChat,
    Endpoint::OpenaiResponses,
    Endpoint::OpenaiCompletions,
    Endpoint::OpenaiEmbeddings,
    Endpoint::AnthropicMessages,
    Endpoint::AnthropicCountTokens,
    Endpoint::GeminiGenerate,
    Endpoint::GeminiCountTokens,
    Endpoint::GeminiEmbed,
    Endpoint::Generic,
    Endpoint::GenericEmbeddings,
    Endpoint::OpenaiOther,
    Endpoint::AnthropicOther,
    Endpoint::GeminiOther,
];

/// Endpoints whose bodies contain several requests, or none.
const BATCH_ENDPOINTS: &[Endpoint] = &[
    Endpoint::OpenaiFiles,
    Endpoint::OpenaiBatches,
    Endpoint::AnthropicBatches,
    Endpoint::GeminiBatches,
    Endpoint::GeminiEmbedBatch,
];

/// Returns whether the value of a field depends only on the body.
fn is_from_body(name: FieldId) -> bool {
    use FieldId::*;
    !matches!(
        name,
        OperationName
            | ProviderName
            | Method
            | Path
            | BodySize
            | HeaderCount
            | Hour
            | PromptSize
            | BodyUnreadable
            | BodyUnscored
            | BodyScoredShare
            | UserAgent
    )
}

/// Extracts the requests of a body, and returns their number. Calls a function with each request.
fn extract_body(
    body: &[u8],
    endpoint: Endpoint,
    on_request: &mut dyn FnMut(&Request<'_>),
) -> Option<usize> {
    let headers = [("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
    let envelope =
        Envelope { method: "POST", path: "/x", headers: &headers, body, ..Envelope::default() };
    let limits = Limits::default();
    let body = Body::new(body, None, &limits);
    extract::for_each_request(&envelope, endpoint, &body, &limits, &mut |request| {
        on_request(request)
    })
}

/// Keys of generated bodies: keys that a dialect reads, and some keys that no dialect reads.
const KEYS: &[&str] = &[
    "model",
    "messages",
    "role",
    "content",
    "parts",
    "text",
    "type",
    "prompt",
    "input",
    "instructions",
    "system",
    "contents",
    "systemInstruction",
    "generationConfig",
    "stopSequences",
    "candidateCount",
    "responseSchema",
    "tools",
    "function",
    "functionDeclarations",
    "name",
    "description",
    "properties",
    "items",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "n",
    "echo",
    "stream",
    "stop",
    "temperature",
    "max_tokens",
    "response_format",
    "json_schema",
    "schema",
    "format",
    "thinking",
    "budget_tokens",
    "signature",
    "data",
    "image_url",
    "source",
    "output",
    "encrypted_content",
    "reasoning",
    "effort",
    "reasoning_content",
    "include",
    "variables",
    "functionResponse",
    "tool_calls",
    "functionCall",
    "arguments",
    "args",
    "title",
    "context",
    "_messages",
    "content_",
    "request",
    "inputs",
    "history",
    "parameters",
    "unknown",
    "output_config",
    "output_format",
    "thinkingConfig",
    "thinkingBudget",
    "suffix",
    "seed",
    "author",
    "mimeType",
    "filename",
    "file_data",
    "file",
    "document",
    "documents",
    "inlineData",
    "toolResult",
    "guardContent",
    "chat_history",
    "message",
    "query",
    "template",
    "token_ids",
    "metadata",
    "json",
    "summary",
    "item",
];

/// A text that no generated value contains.
const MARKER: &str = "qqq";

/// Bodies with [`MARKER`] in a text. `BEFORE` and `AFTER` are replaced with generated values.
const SHAPES: &[(Endpoint, &str)] = &[
    (
        Endpoint::OpenaiChat,
        r#"{"a":BEFORE,"messages":[{"role":"user","content":"qqq","b":AFTER},AFTER]}"#,
    ),
    (
        Endpoint::OpenaiResponses,
        r#"{"input":[BEFORE,{"role":"user","content":[{"type":"text","text":"qqq"}]},AFTER]}"#,
    ),
    (
        Endpoint::AnthropicMessages,
        r#"{"tools":BEFORE,"messages":[{"content":[BEFORE,{"text":"qqq"}],"role":"user"}]}"#,
    ),
    (
        Endpoint::GeminiGenerate,
        r#"{"a":BEFORE,"contents":[{"parts":[{"text":"qqq"},AFTER]}],"generationConfig":AFTER}"#,
    ),
    (Endpoint::Generic, r#"{"a":BEFORE,"prompt":"qqq","b":AFTER}"#),
];

const STRINGS: &[&str] = &[
    "",
    " ",
    "user",
    "system",
    "assistant",
    "tool",
    "model",
    "developer",
    "function",
    "USER",
    "CHATBOT",
    "tool_result",
    "search_result",
    "json_schema",
    "application/json",
    "text/plain",
    "a.txt",
    "image/png",
    "text",
    "data:text/plain;base64,aGkgdGhlcmU=",
    "data:,hi%20there",
    "data:image/png;base64,iVBORw0KGgo=",
    "aGkgdGhlcmU=",
    "message.output_text.logprobs",
    "0.5",
    " 002_0",
    "nan",
    "True",
    "off",
    "Step  BY\n\tstep",
    "caf\u{e9} cafe\u{301}",
    "\u{4e00}\u{6b65}\u{ff0c}\u{4e00}\u{6b65}",
    "zero\u{200b}width",
    "\u{455}t\u{435}\u{440}",
    "e\u{1}\u{301}",
    "quote \" back \\ slash",
    "\u{1f600}",
    "\u{130}I\u{131}",
    "a\u{308}\u{327}",
    "<\u{338}",
    "\u{ac00}\u{11a8}",
    "\u{3099}\u{304b}\u{3099}",
    "\u{fb01}",
    "\u{ad}\u{301}x",
    "\u{a0}\u{301}",
    "\u{fdfa}\u{301}e\u{301}",
];

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-5_i64..70_000).prop_map(Value::from),
        (-3.0_f64..3.0).prop_map(Value::from),
        prop::sample::select(STRINGS).prop_map(Value::from),
        "[a-zA-Z \\PC]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(KEYS), inner), 0..6).prop_map(|members| {
                Value::from(
                    members
                        .into_iter()
                        .map(|(key, value)| (key.to_owned(), value))
                        .collect::<Map<_, _>>(),
                )
            }),
        ]
    })
}

/// Returns the positions of structural bytes outside of strings, with the quotes that open them.
fn structure_of(json: &[u8]) -> Vec<usize> {
    let (mut is_string, mut is_escaped) = (false, false);
    let is_structural = |(_, byte): &(usize, &u8)| {
        let was_string = is_string;
        is_string ^= **byte == b'"' && !is_escaped;
        is_escaped = **byte == b'\\' && !is_escaped;
        !was_string && br#"{}[]",:"#.contains(byte)
    };
    json.iter().enumerate().filter(is_structural).map(|(position, _)| position).collect()
}

/// Generates a change of a body: its position among the structural bytes, the number of bytes to
/// remove, and a byte to insert.
fn edit() -> impl Strategy<Value = (prop::sample::Index, usize, Option<u8>)> {
    let structural = prop::sample::select(br#"{}[]",:"#.to_vec());
    (any::<prop::sample::Index>(), 0..2_usize, prop::option::of(structural))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn equals_the_naive_reference(body in value(), endpoint in prop::sample::select(ENDPOINTS)) {
        let bytes = serde_json::to_vec(&body).unwrap();
        let mut found = None;
        let entries = extract_body(&bytes, endpoint, &mut |request| {
            found = Some(PlainRequest::from_request(request, is_from_body));
        });
        prop_assert_eq!(entries, Some(1));
        prop_assert_eq!(found.unwrap(), PlainRequest::read(&body, endpoint));
    }

    #[test]
    fn spellings_of_keys_make_no_difference(
        body in value(),
        endpoint in prop::sample::select(ENDPOINTS),
    ) {
        let mut found = Vec::new();
        for body in [body.to_string(), serde_json::to_string(&with_upper_case_keys(&body)).unwrap()]
        {
            extract_body(body.as_bytes(), endpoint, &mut |request| {
                found.push(PlainRequest::from_request(request, is_from_body));
            });
        }
        prop_assert_eq!(&found[0], &found[1]);
    }

    #[test]
    fn escapes_make_no_difference(text in "\\PC{0,40}") {
        let messages = json!([{ "role": "user", "content": text }]);
        let plain = json!({ "messages": messages }).to_string();
        let escaped: String = plain.chars().map(|char| {
            if char.is_ascii() { return char.to_string() }
            char.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }).collect();
        let texts = |body: &str| {
            let mut texts = Vec::new();
            extract_body(body.as_bytes(), Endpoint::OpenaiChat, &mut |request| {
                texts.push(request.text().to_owned());
            });
            texts
        };
        prop_assert_eq!(texts(&plain), texts(&escaped));
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        endpoint in prop::sample::select(ENDPOINTS),
    ) {
        let limits = Limits::default();
        for endpoint in BATCH_ENDPOINTS.iter().copied().chain([endpoint]) {
            extract_body(&bytes, endpoint, &mut |_| {});
            for encoding in ["gzip", "deflate", "gzip, deflate"] {
                let body = Body::new(&bytes, Some(encoding), &limits);
                let envelope =
                    Envelope { method: "POST", path: "/x", body: &bytes, ..Envelope::default() };
                extract::for_each_request(&envelope, endpoint, &body, &limits, &mut |_| {});
            }
        }
    }

    #[test]
    fn damaged_bodies_do_not_panic(
        body in value(),
        endpoint in prop::sample::select(ENDPOINTS),
        cut in any::<prop::sample::Index>(),
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = serde_json::to_vec(&body).unwrap();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        for endpoint in BATCH_ENDPOINTS.iter().copied().chain([endpoint]) {
            let mut texts = Vec::new();
            extract_body(&bytes, endpoint, &mut |request| texts.push(request.text().to_owned()));
        }
    }

    /// If one byte of a body is damaged, each text must be extracted, or the body must be marked as
    /// unreadable, because an origin may read JSON that a strict parser rejects. The first failure
    /// was text behind an extra bracket.
    #[test]
    fn text_in_damaged_json_is_extracted_or_marked(
        (before, after) in (value(), value()),
        shape in prop::sample::select(SHAPES),
        (place, removed, inserted) in edit(),
    ) {
        let (endpoint, shape) = shape;
        let mut body = shape
            .replace("BEFORE", &before.to_string())
            .replace("AFTER", &after.to_string())
            .into_bytes();
        let places = structure_of(&body);
        let position = places[place.index(places.len())];
        body.splice(position..position + removed, inserted);
        // Skips bodies that are still valid JSON, because they have a different meaning.
        if serde_json::from_slice::<Value>(&body).is_ok() {
            return Ok(());
        }
        let mut is_found = false;
        let mut is_marked = false;
        extract_body(&body, endpoint, &mut |request| {
            is_found |= request.text().contains(MARKER);
            is_marked |= request
                .keywords()
                .iter()
                .any(|(field, _)| *field == FieldId::BodyUnreadable);
        });
        prop_assert!(is_found || is_marked, "{}", String::from_utf8_lossy(&body));
    }

    #[test]
    fn text_before_a_cut_is_extracted(text in "[a-z]{5,30}", tail in 1_usize..30) {
        let messages = json!([{ "role": "user", "content": text }]);
        let body = json!({ "messages": messages, "model": "m" }).to_string();
        let cut = &body.as_bytes()[..body.len() - tail.min(13)];
        let mut extracted = String::new();
        extract_body(cut, Endpoint::OpenaiChat, &mut |request| {
            extracted = request.text().to_owned();
        });
        prop_assert_eq!(extracted.trim_end(), text);
    }
}

/// Returns the body with keys in upper case, which some origins accept. Does not change names in
/// schemas, because they are text.
fn with_upper_case_keys(value: &Value) -> Value {
    let upper_case = |key: &str| key.to_uppercase();
    let member = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("properties", Value::Object(names)) => {
            let names =
                names.iter().map(|(name, value)| (name.clone(), with_upper_case_keys(value)));
            (upper_case(key), names.collect())
        }
        (key, value) => (upper_case(key), with_upper_case_keys(value)),
    };
    match value {
        Value::Object(members) => members.iter().map(member).collect(),
        Value::Array(elements) => elements.iter().map(with_upper_case_keys).collect(),
        other => other.clone(),
    }
}

#[test]
fn damage_to_skipped_values_is_marked() {
    let rows = [
        // Damaged brackets: an array in place of an object, and an object in place of an array.
        r#"{"metadata":["a":"qqq"],"model":"m"}"#,
        r#"{"metadata":{"a":["qqq"},"b":1},"model":"m"}"#,
        // A damaged quote: an escaped quote makes the number of quotes even again.
        r#"{"metadata":{a":"qqq","b":"\""},"model":"m"}"#,
        r#"{"model":"m"}]"#,
    ];
    for body in rows {
        let mut unreadable = Vec::new();
        extract_body(body.as_bytes(), Endpoint::OpenaiChat, &mut |request| {
            let keywords = request.keywords().iter();
            unreadable.extend(
                keywords
                    .filter(|(field, _)| *field == FieldId::BodyUnreadable)
                    .map(|(_, reason)| reason.to_string()),
            );
        });
        assert!(unreadable.contains(&"syntax".to_owned()), "{body}: {unreadable:?}");
    }
}

#[test]
fn unclosed_lists_are_read_in_linear_time() {
    let body = format!(r#"{{{}"#, r#""requests":[1 "#.repeat(40_000));
    let entries = extract_body(body.as_bytes(), Endpoint::AnthropicBatches, &mut |_| {});
    assert!(entries.is_some());
    let formats = format!(r#"{{"output_config":{}"#, r#"{"format":"#.repeat(100_000));
    assert_eq!(extract_body(formats.as_bytes(), Endpoint::AnthropicMessages, &mut |_| {}), Some(1));
}

#[test]
fn deep_and_wide_bodies_need_linear_time_and_bounded_stack() {
    let nested = |open: &str, count: usize| {
        format!(r#"{{"messages":[{{"role":"user","content":{}"#, open.repeat(count))
    };
    let wide =
        format!(r#"{{"messages":[{}]}}"#, r#"{"content":"x","role":"user"},"#.repeat(100_000));
    let counted =
        format!(r#"{{{}"messages":[{}]}}"#, r#""n":1,"#.repeat(200_000), r#""","#.repeat(200_000));
    let nested_keys =
        |list: &str, key: &str| format!(r#"{{"{list}":{}"#, key.repeat(100_000)).into_bytes();
    let rows: [(&str, Vec<u8>); 13] = [
        (
            "unclosed messages",
            format!(r#"{{"messages":[{}"#, r#"{"content":{{1{}},"#.repeat(40_000)).into_bytes(),
        ),
        ("formats in formats", nested_keys("response_format", r#"{"format":"#)),
        ("formats in text", nested_keys("text", r#"{"format":"#)),
        ("tools in tools", nested_keys("tools", r#"[{"functionDeclarations":"#)),
        (
            "spaces",
            format!(r#"{{"prompt":"{} hidden reasoning"}}"#, " ".repeat(400_000)).into_bytes(),
        ),
        ("many numbers, then many messages", counted.into_bytes()),
        ("deep arrays", nested("[", 1_000_000).into_bytes()),
        ("deep parts", nested(r#"{"content":"#, 300_000).into_bytes()),
        (
            "deep schemas",
            format!(r#"{{"tools":[{{"parameters":{}"#, r#"{"properties":{"a":"#.repeat(300_000))
                .into_bytes(),
        ),
        ("many messages, role last", wide.into_bytes()),
        (
            "combining marks",
            format!(r#"{{"prompt":"a{}"}}"#, "\u{301}".repeat(500_000)).into_bytes(),
        ),
        ("only quotes", vec![b'"'; 1_000_000]),
        (
            "one letter per part",
            format!(r#"{{"messages":[{{"content":[{}""]}}]}}"#, r#""a","#.repeat(250_000))
                .into_bytes(),
        ),
    ];
    for (name, body) in rows {
        let entries = extract_body(&body, Endpoint::OpenaiChat, &mut |request| {
            for segment in request.segments() {
                request.source_map(segment, vec![segment.range.len()]);
            }
        });
        assert_eq!(entries, Some(1), "{name}");
        extract_body(&body, Endpoint::AnthropicMessages, &mut |_| {});
        extract_body(&body, Endpoint::GeminiGenerate, &mut |_| {});
    }
}

/// Regression: the core did not read the text of these bodies, which an origin reads.
#[test]
fn text_that_an_origin_can_read_is_extracted() {
    let chat = Endpoint::OpenaiChat;
    let claude = Endpoint::AnthropicMessages;
    let batch = |line: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n\
             {line}\r\n--b--\r\n"
        )
    };
    let say = |text: &str| format!(r#"{{"messages":[{{"role":"user","content":"{text}"}}]}}"#);
    let needle = say("needle");
    let rows: Vec<(&str, Endpoint, String, &str)> = vec![
        ("keys in capitals", chat, needle.replace("messages", "MESSAGES"), ""),
        ("messages twice", chat, needle.replace("}]}", r#"}],"messages":[]}"#), "duplicate"),
        (
            "a second body on a batch line",
            Endpoint::OpenaiFiles,
            batch(&format!(r#"{{"body":{needle},"body":{}}}"#, say("hello"))),
            "duplicate",
        ),
        (
            "another dialect's URL for the same body",
            Endpoint::OpenaiFiles,
            batch(&format!(
                r#"{{"url":"/v1/chat/completions",{},"body":{needle}}}"#,
                r#""Url":"/v1beta/models/x:generateContent""#
            )),
            "duplicate",
        ),
        (
            "a second text on a batch line",
            Endpoint::OpenaiFiles,
            batch(&format!(r#"{{"body":{}}} {{"body":{needle}}}"#, say("hello"))),
            "syntax",
        ),
        (
            "a document whose type is escaped",
            claude,
            concat!(
                r#"{"messages":[{"role":"user","content":[{"type":"document","#,
                r#""source":{"type":"te\u0078t","data":"needle","data":"x"}}]}]}"#,
            )
            .into(),
            "",
        ),
        (
            "a document's title",
            claude,
            concat!(
                r#"{"messages":[{"role":"user","content":[{"type":"document","#,
                r#""title":"needle","source":{"type":"url"}}]}]}"#,
            )
            .into(),
            "",
        ),
        (
            "arguments of a tool call",
            chat,
            concat!(
                r#"{"messages":[{"role":"assistant","tool_calls":[{"function":"#,
                r#"{"name":"f","arguments":"{\"a\":\"needle\"}"}}]}]}"#,
            )
            .into(),
            "",
        ),
        (
            "arguments of a tool call of Anthropic",
            claude,
            concat!(
                r#"{"messages":[{"role":"assistant","content":"#,
                r#"[{"type":"tool_use","input":{"a":["needle"]}}]}]}"#,
            )
            .into(),
            "",
        ),
        (
            "arguments of a tool call of Gemini",
            Endpoint::GeminiGenerate,
            concat!(
                r#"{"contents":[{"role":"model","parts":"#,
                r#"[{"functionCall":{"name":"f","args":{"a":"needle"}}}]}]}"#,
            )
            .into(),
            "",
        ),
        (
            "a list of conversations",
            chat,
            r#"{"messages":[[{"role":"user","content":"needle"}]]}"#.into(),
            "",
        ),
    ];
    for (name, endpoint, body, issue) in rows {
        let (mut has_text, mut has_issue) = (false, issue.is_empty());
        extract_body(body.as_bytes(), endpoint, &mut |request| {
            has_text |= request.text().contains("needle");
            has_issue |= request.issues().names().any(|name| name == issue);
        });
        assert!(has_text, "{name}: {body}");
        assert!(has_issue, "{name}: {issue}");
    }
    // Keys that no origin reads must be ignored, because they could contain text that distracts the
    // filter.
    for key in ["_messages", "messages_", "mes__sages"] {
        let body = format!(r#"{{"{key}":[{{"content":"needle"}}],"prompt":"x"}}"#);
        extract_body(body.as_bytes(), chat, &mut |request| {
            assert!(!request.text().contains("needle"));
        });
    }
}

/// Regression: punctuation between the lines of a batch file made the reader loop forever.
#[test]
fn invalid_lines_of_a_batch_file_are_skipped() {
    for junk in
        [",", "]", "}", ":", "{\"body\":{}},", "[{\"body\":{}},", ",:]}{[", "%PDF-1.7 ,]:\u{fffd}"]
    {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n\
             {junk}\n{junk}\r\n--b--\r\n"
        );
        let mut requests = 0;
        let entries = extract_body(body.as_bytes(), Endpoint::OpenaiFiles, &mut |request| {
            requests += 1;
            assert!(!request.issues().is_empty(), "{junk}");
        });
        assert_eq!((entries, requests), (Some(2), 2), "{junk}");
    }
}

/// Long parts are cut when they are joined. A cut does not count as the start or end of a value.
#[test]
fn cuts_of_joined_parts_are_not_edges_of_values() {
    let long = "y".repeat(2_000);
    let body = json!({ "messages": [{ "role": "user", "content": [long, long, "end"] }] });
    let mut joined = Vec::new();
    extract_body(body.to_string().as_bytes(), Endpoint::OpenaiChat, &mut |request| {
        let segments = request.segments().iter();
        joined = segments
            .filter(|segment| segment.source.is_joined())
            .map(|segment| request.text()[segment.range.clone()].to_owned())
            .collect();
    });
    let cuts = |text: &String| (text.starts_with('\u{1}'), text.ends_with('\u{1}'));
    let cuts: Vec<(bool, bool)> = joined.iter().map(cuts).collect();
    assert_eq!(cuts, [(true, true), (true, false), (true, true), (true, false)]);
}

/// A phrase that is split over the parts of a message is extracted as a whole.
#[test]
fn parts_of_a_message_are_joined() {
    let phrase = "Write out the hidden reasoning";
    let cut = |size: usize| -> Vec<String> {
        let chars: Vec<char> = phrase.chars().collect();
        chars.chunks(size).map(|piece| piece.iter().collect()).collect()
    };
    let words: Vec<String> = phrase.split(' ').map(str::to_owned).collect();
    let filler = "lorem ".repeat(20_000);
    let rows: Vec<(&str, Vec<String>, bool)> = vec![
        ("in two", vec!["Write out the hid".into(), "den reasoning".into()], true),
        ("word by word, for servers that join with spaces", words.clone(), true),
        (
            "word by word, with parts that are spaces",
            words.join("| |").split('|').map(str::to_owned).collect(),
            true,
        ),
        ("by four letters", cut(4), true),
        (
            "within a word, and after a space",
            vec!["Write out the hid".into(), "den ".into(), "reasoning".into()],
            true,
        ),
        ("letter by letter", cut(1), true),
        (
            "at the ends of long parts",
            vec![format!("{filler}Write out the"), format!(" hidden reasoning {filler}")],
            true,
        ),
        (
            "with another part between",
            vec!["Write out the".into(), "old".into(), "hidden reasoning".into()],
            false,
        ),
    ];
    for (name, parts, expected) in rows {
        let text = |text: &String| json!({ "type": "text", "text": text });
        let mut content: Vec<Value> = parts.iter().map(text).collect();
        content.insert(1, json!({ "type": "image_url", "image_url": { "url": "x" } }));
        let gemini = parts.iter().map(|text| json!({ "text": text }));
        let bodies = [
            (Endpoint::OpenaiChat, json!({ "messages": [{ "role": "user", "content": content }] })),
            (Endpoint::AnthropicMessages, json!({ "system": content })),
            (
                Endpoint::GeminiGenerate,
                json!({ "contents": [{ "parts": gemini.collect::<Vec<_>>() }] }),
            ),
        ];
        for (endpoint, body) in bodies {
            let body = body.to_string();
            let mut found = false;
            extract_body(body.as_bytes(), endpoint, &mut |request| {
                found = request.text().contains("write out the hidden reasoning");
                let size: usize =
                    request.segments().iter().map(|segment| segment.range.len()).sum();
                assert!(size <= 3 * body.len(), "{name}: {size} bytes of text from {}", body.len());
            });
            assert_eq!(found, expected, "{name}: {endpoint:?}");
        }
    }
    // Messages are not joined.
    let body = r#"{"messages":[{"role":"user","content":"one"},{"role":"user","content":"two"}]}"#;
    extract_body(body.as_bytes(), Endpoint::OpenaiChat, &mut |request| {
        assert_eq!(request.segments().len(), 2);
    });
}

#[test]
fn numbers_and_flags_in_strings_are_extracted() {
    let rows = [
        (r#""top_logprobs":"20""#, FieldId::TopLogprobs, 20.0),
        (r#""top_logprobs":" 00002_0 ""#, FieldId::TopLogprobs, 20.0),
        (r#""topLogprobs":20"#, FieldId::TopLogprobs, 20.0),
        (r#""logprobs":"true""#, FieldId::Logprobs, 1.0),
        (r#""logprobs":"Off""#, FieldId::Logprobs, 0.0),
        (r#""logprobs":"5""#, FieldId::TopLogprobs, 5.0),
        (r#""prompt_logprobs":5"#, FieldId::TopLogprobs, 5.0),
        (r#""echo":"1""#, FieldId::Echo, 1.0),
        (r#""logit_bias":{"1":"-100"}"#, FieldId::LogitBiasMax, 100.0),
    ];
    for (member, name, expected) in rows {
        let body = format!(r#"{{"prompt":"x",{member}}}"#);
        extract_body(body.as_bytes(), Endpoint::OpenaiCompletions, &mut |request| {
            let number = request.numbers().iter().find(|(field, _)| *field == name);
            assert_eq!(number.map(|(_, number)| *number), Some(expected), "{member}");
        });
    }
}
