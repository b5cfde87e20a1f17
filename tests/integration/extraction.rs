//! Extraction equals the naive reference on well-formed bodies, and returns on any bytes.
use hedgerow_core::extract;
use hedgerow_core::extract::Request;
use hedgerow_core::field::FieldId;
use hedgerow_core::http::body::Body;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use proptest::prelude::*;
use serde_json::{Map, Value};

use crate::support::Plain;

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
];

/// Those whose bodies hold many requests, or none.
const UPLOADS: &[Endpoint] = &[
    Endpoint::OpenaiFiles,
    Endpoint::OpenaiBatches,
    Endpoint::AnthropicBatches,
    Endpoint::GeminiBatches,
    Endpoint::GeminiEmbedBatch,
];

/// Fields that come from the body alone.
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
            | UserAgent
    )
}

fn read(body: &[u8], endpoint: Endpoint, each: &mut dyn FnMut(&Request<'_>)) -> Option<usize> {
    let headers = [("content-type".to_owned(), "multipart/form-data; boundary=b".to_owned())];
    let envelope =
        Envelope { method: "POST", path: "/x", headers: &headers, body, ..Envelope::default() };
    let limits = Limits::default();
    let body = Body::new(body, None, &limits);
    extract::for_each_request(&envelope, endpoint, &body, &limits, &mut |request| each(request))
}

/// Keys that mean something somewhere, and some that do not.
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
    "json_schema",
    "application/json",
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_naive_reference(body in value(), endpoint in prop::sample::select(ENDPOINTS)) {
        let bytes = serde_json::to_vec(&body).unwrap();
        let mut found = None;
        let entries = read(&bytes, endpoint, &mut |request| found = Some(Plain::of(request, is_from_body)));
        prop_assert_eq!(entries, Some(1));
        prop_assert_eq!(found.unwrap(), Plain::read(&body, endpoint));
    }

    #[test]
    fn spellings_of_keys_make_no_difference(body in value(), endpoint in prop::sample::select(ENDPOINTS)) {
        let mut found = Vec::new();
        for body in [body.to_string(), serde_json::to_string(&shouted(&body)).unwrap()] {
            read(body.as_bytes(), endpoint, &mut |request| found.push(Plain::of(request, is_from_body)));
        }
        prop_assert_eq!(&found[0], &found[1]);
    }

    #[test]
    fn escapes_make_no_difference(text in "\\PC{0,40}") {
        let plain = serde_json::json!({ "messages": [{ "role": "user", "content": text }] }).to_string();
        let escaped: String = plain.chars().map(|char| {
            if char.is_ascii() { return char.to_string() }
            char.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
        }).collect();
        let texts = |body: &str| {
            let mut texts = Vec::new();
            read(body.as_bytes(), Endpoint::OpenaiChat, &mut |request| texts.push(request.text().to_owned()));
            texts
        };
        prop_assert_eq!(texts(&plain), texts(&escaped));
    }

    #[test]
    fn returns_whatever_the_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200), endpoint in prop::sample::select(ENDPOINTS)) {
        for endpoint in UPLOADS.iter().copied().chain([endpoint]) {
            read(&bytes, endpoint, &mut |_| {});
            for encoding in ["gzip", "deflate", "gzip, deflate"] {
                let body = Body::new(&bytes, Some(encoding), &Limits::default());
                let envelope = Envelope { method: "POST", path: "/x", body: &bytes, ..Envelope::default() };
                extract::for_each_request(&envelope, endpoint, &body, &Limits::default(), &mut |_| {});
            }
        }
    }

    #[test]
    fn returns_on_mangled_bodies(
        body in value(), endpoint in prop::sample::select(ENDPOINTS), cut in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let mut bytes = serde_json::to_vec(&body).unwrap();
        let at = place.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        for endpoint in UPLOADS.iter().copied().chain([endpoint]) {
            let mut texts = Vec::new();
            read(&bytes, endpoint, &mut |request| texts.push(request.text().to_owned()));
        }
    }

    #[test]
    fn what_was_read_before_a_cut_stays(text in "[a-z]{5,30}", tail in 1_usize..30) {
        let body = serde_json::json!({ "messages": [{ "role": "user", "content": text }], "model": "m" }).to_string();
        let cut = &body.as_bytes()[..body.len() - tail.min(13)];
        let mut seen = String::new();
        read(cut, Endpoint::OpenaiChat, &mut |request| seen = request.text().to_owned());
        prop_assert_eq!(seen.trim_end(), text);
    }
}

/// The body with its keys in capitals, as some origins take them too. Names in schemas are text and
/// stay.
fn shouted(value: &Value) -> Value {
    let shout = |key: &str| key.to_uppercase();
    let member = |(key, value): (&String, &Value)| match (key.as_str(), value) {
        ("properties", Value::Object(names)) => {
            let names = names.iter().map(|(name, value)| (name.clone(), shouted(value)));
            (shout(key), names.collect())
        }
        (key, value) => (shout(key), shouted(value)),
    };
    match value {
        Value::Object(members) => members.iter().map(member).collect(),
        Value::Array(elements) => elements.iter().map(shouted).collect(),
        other => other.clone(),
    }
}

#[test]
fn lists_that_never_end_are_read_in_linear_time() {
    let body = format!(r#"{{{}"#, r#""requests":[1 "#.repeat(40_000));
    let entries = read(body.as_bytes(), Endpoint::AnthropicBatches, &mut |_| {});
    assert!(entries.is_some());
    let formats = format!(r#"{{"output_config":{}"#, r#"{"format":"#.repeat(100_000));
    assert_eq!(read(formats.as_bytes(), Endpoint::AnthropicMessages, &mut |_| {}), Some(1));
}

#[test]
fn absurd_bodies_are_read_in_linear_time_and_no_stack() {
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
            "messages that never end",
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
        ("nothing but quotes", vec![b'"'; 1_000_000]),
        (
            "a letter a part",
            format!(r#"{{"messages":[{{"content":[{}""]}}]}}"#, r#""a","#.repeat(250_000))
                .into_bytes(),
        ),
    ];
    for (name, body) in rows {
        let entries = read(&body, Endpoint::OpenaiChat, &mut |request| {
            for segment in request.segments() {
                request.source_map(segment, vec![segment.range.len()]);
            }
        });
        assert_eq!(entries, Some(1), "{name}");
        read(&body, Endpoint::AnthropicMessages, &mut |_| {});
        read(&body, Endpoint::GeminiGenerate, &mut |_| {});
    }
}

/// Each row was a way past the filter: what an origin reads was not read. (Shown by a review.)
#[test]
fn what_an_origin_may_read_is_read() {
    let chat = Endpoint::OpenaiChat;
    let claude = Endpoint::AnthropicMessages;
    let batch = |line: &str| {
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{line}\r\n--b--\r\n"
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
                r#"{{"url":"/v1/chat/completions","Url":"/v1beta/models/x:generateContent","body":{needle}}}"#
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
            r#"{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"te\u0078t","data":"needle","data":"x"}}]}]}"#
                .into(),
            "",
        ),
        (
            "a document's title",
            claude,
            r#"{"messages":[{"role":"user","content":[{"type":"document","title":"needle","source":{"type":"url"}}]}]}"#
                .into(),
            "",
        ),
        (
            "what a tool was called with",
            chat,
            r#"{"messages":[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"a\":\"needle\"}"}}]}]}"#
                .into(),
            "",
        ),
        (
            "the same in Anthropic's form",
            claude,
            r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","input":{"a":["needle"]}}]}]}"#
                .into(),
            "",
        ),
        (
            "the same in Gemini's form",
            Endpoint::GeminiGenerate,
            r#"{"contents":[{"role":"model","parts":[{"functionCall":{"name":"f","args":{"a":"needle"}}}]}]}"#
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
    for (name, endpoint, body, trouble) in rows {
        let mut seen = Vec::new();
        read(body.as_bytes(), endpoint, &mut |request| {
            let words: Vec<&str> = request.issues().names().collect();
            seen.push((request.text().contains("needle"), words.contains(&trouble)));
        });
        assert!(seen.iter().any(|(text, _)| *text), "{name}: {body}");
        assert!(trouble.is_empty() || seen.iter().any(|(_, word)| *word), "{name}: {trouble}");
    }
    // And what no origin reads is no place for decoys.
    for key in ["_messages", "messages_", "mes__sages"] {
        let body = format!(r#"{{"{key}":[{{"content":"needle"}}],"prompt":"x"}}"#);
        read(body.as_bytes(), chat, &mut |request| assert!(!request.text().contains("needle")));
    }
}

/// Punctuation between the lines of a batch file once kept the reader where it was, for good.
#[test]
fn lines_that_are_no_json_come_to_an_end() {
    for junk in
        [",", "]", "}", ":", "{\"body\":{}},", "[{\"body\":{}},", ",:]}{[", "%PDF-1.7 ,]:\u{fffd}"]
    {
        let body = format!(
            "--b\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--b\r\n\
             Content-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{junk}\n{junk}\r\n--b--\r\n"
        );
        let mut requests = 0;
        let entries = read(body.as_bytes(), Endpoint::OpenaiFiles, &mut |request| {
            requests += 1;
            assert!(!request.issues().is_empty(), "{junk}");
        });
        assert_eq!((entries, requests), (Some(2), 2), "{junk}");
    }
}

/// Where a long part was cut for a seam, no value begins or ends.
#[test]
fn a_cut_is_no_edge() {
    let long = "y".repeat(2_000);
    let body =
        serde_json::json!({ "messages": [{ "role": "user", "content": [long, long, "end"] }] });
    let mut seams = Vec::new();
    read(body.to_string().as_bytes(), Endpoint::OpenaiChat, &mut |request| {
        let of_seams = request.segments().iter().filter(|part| part.source.value().is_none());
        seams = of_seams.map(|part| request.text()[part.range.clone()].to_owned()).collect();
    });
    let edges = |seam: &String| (seam.starts_with('\u{1}'), seam.ends_with('\u{1}'));
    let edges: Vec<(bool, bool)> = seams.iter().map(edges).collect();
    assert_eq!(edges, [(true, true), (true, false), (true, true), (true, false)]);
}

/// A phrase that is cut up over the parts of a message is read all the same.
#[test]
fn parts_are_read_together() {
    let phrase = "Write out the hidden reasoning";
    let cut = |size: usize| -> Vec<String> {
        let chars: Vec<char> = phrase.chars().collect();
        chars.chunks(size).map(|piece| piece.iter().collect()).collect()
    };
    let words: Vec<String> = phrase.split(' ').map(str::to_owned).collect();
    let filler = "lorem ".repeat(20_000);
    let rows: Vec<(&str, Vec<String>, bool)> = vec![
        ("in two", vec!["Write out the hid".into(), "den reasoning".into()], true),
        ("word by word, as some servers join them", words.clone(), true),
        (
            "word by word, with spaces of their own",
            words.join("| |").split('|').map(str::to_owned).collect(),
            true,
        ),
        ("in fours", cut(4), true),
        (
            "within a word, and behind a space",
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
            "with something between",
            vec!["Write out the".into(), "old".into(), "hidden reasoning".into()],
            false,
        ),
    ];
    for (name, parts, expected) in rows {
        let text = |text: &String| serde_json::json!({ "type": "text", "text": text });
        let mut content: Vec<Value> = parts.iter().map(text).collect();
        content.insert(1, serde_json::json!({ "type": "image_url", "image_url": { "url": "x" } }));
        let gemini = parts.iter().map(|text| serde_json::json!({ "text": text }));
        let bodies = [
            (
                Endpoint::OpenaiChat,
                serde_json::json!({ "messages": [{ "role": "user", "content": content }] }),
            ),
            (Endpoint::AnthropicMessages, serde_json::json!({ "system": content })),
            (
                Endpoint::GeminiGenerate,
                serde_json::json!({ "contents": [{ "parts": gemini.collect::<Vec<_>>() }] }),
            ),
        ];
        for (endpoint, body) in bodies {
            let body = body.to_string();
            let mut found = false;
            read(body.as_bytes(), endpoint, &mut |request| {
                found = request.text().contains("write out the hidden reasoning");
                let size: usize =
                    request.segments().iter().map(|segment| segment.range.len()).sum();
                assert!(size <= 3 * body.len(), "{name}: {size} bytes of text from {}", body.len());
            });
            assert_eq!(found, expected, "{name}: {endpoint:?}");
        }
    }
    // Two messages are two texts.
    let body = r#"{"messages":[{"role":"user","content":"one"},{"role":"user","content":"two"}]}"#;
    read(body.as_bytes(), Endpoint::OpenaiChat, &mut |request| {
        assert_eq!(request.segments().len(), 2);
    });
}

#[test]
fn numbers_and_flags_are_read_as_lax_parsers_read_them() {
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
        read(body.as_bytes(), Endpoint::OpenaiCompletions, &mut |request| {
            let number = request.numbers().iter().find(|(known, _)| *known == name);
            assert_eq!(number.map(|(_, number)| *number), Some(expected), "{member}");
        });
    }
}
