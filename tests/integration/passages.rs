//! Passages of requests, as `hedgerow explain` and the playground show them. Each passage has a
//! role, such as the user's instruction or quoted material.
use hedgerow_core::Envelope;
use hedgerow_core::evaluate::explain::{ExplainedPassage, explain_passages};
use hedgerow_core::extract;
use hedgerow_core::http::body::Body;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use serde_json::{Value, json};

const PAGE: &str = "The count of a hedge is taken in spring. Two people walk along it, and write \
    down each species on a sheet, with the place, the hour and the weather of the day.";

/// Returns the first `limit` passages of each request of a body.
fn passages_of(body: &[u8], limit: usize) -> Vec<ExplainedPassage> {
    let envelope = Envelope { method: "POST", path: "/x", body, ..Envelope::default() };
    let limits = Limits::default();
    let body = Body::new(body, None, &limits);
    let mut passages = Vec::new();
    extract::for_each_request(&envelope, Endpoint::OpenaiChat, &body, &limits, &mut |request| {
        passages.extend(explain_passages(request, limit));
    });
    passages
}

/// Returns each passage of messages as `role of section: text`. The text is taken from the byte
/// range of the passage in the body.
fn passages(messages: &Value) -> Vec<String> {
    let body = json!({ "messages": messages }).to_string();
    let describe = |passage: ExplainedPassage| {
        let fields = [passage.field, passage.section].map(|field| field.name());
        let [role, section] = fields.map(|name| name.replace("hedgerow.prompt.", ""));
        let text = body[passage.start..passage.end].replace(PAGE, "PAGE");
        format!("{role} of {section}: {text}")
    };
    passages_of(body.as_bytes(), usize::MAX).into_iter().map(describe).collect()
}

#[test]
fn passages_are_located_in_the_body() {
    let document = format!("Wie viele gehen mit?\n\n<document>\n{PAGE}\n</document>");
    let records = "Sort the requests.\n\nRequest: water the hedge\nClass: garden\n\n\
        Request: pay the bill\nClass: money\n\nRequest: mow the lawn\nClass:";
    let text = |text: &str| json!({ "type": "text", "text": text });
    let file =
        json!({ "type": "file", "file": { "file_data": "data:text/plain;base64,QmVlY2g=" } });
    let rows = [
        (
            "roles",
            json!([
                { "role": "system", "content": "Answer in Gaelic." },
                { "role": "user", "content": "Which hedge?" },
                { "role": "assistant", "content": "Which one do you mean?" },
                { "role": "tool", "content": "beech" },
            ]),
            vec![
                "instruction of gen_ai.system_instructions: Answer in Gaelic.",
                "instruction of user: Which hedge?",
                "material of tool: beech",
            ],
        ),
        (
            "a document, after escapes",
            json!([{ "role": "user", "content": document }]),
            vec![
                r"instruction of user: Wie viele gehen mit?\n\n<document>\n",
                "material of user: PAGE",
                r"instruction of user: \n</document>",
            ],
        ),
        (
            "records",
            json!([{ "role": "user", "content": records }]),
            vec![
                r"instruction of user: Sort the requests.\n\nRequest: ",
                r"examples of user: water the hedge\nClass: garden",
                r"instruction of user: \n\nRequest: ",
                r"examples of user: pay the bill\nClass: money",
                r"instruction of user: \n\nRequest: mow the lawn\nClass:",
            ],
        ),
        (
            "parts of a message, once each",
            json!([{ "role": "user", "content": [text("Write a"), text("poem.")] }]),
            vec!["instruction of user: Write a", "instruction of user: poem."],
        ),
        (
            "an encoded file, as a whole",
            json!([{ "role": "user", "content": [text("Which plant?"), file] }]),
            vec!["instruction of user: Which plant?", "material of attachment: QmVlY2g="],
        ),
    ];
    for (name, messages, expected) in rows {
        assert_eq!(passages(&messages), expected, "{name}");
    }
}

/// The playground requests passages while the user types. The limit keeps this fast for bodies with
/// very many passages.
#[test]
fn a_limit_keeps_the_first_passages() {
    let message = json!({ "role": "user", "content": format!("Why?\n```\n{PAGE}\n```\nHow?") });
    let body = json!({ "messages": vec![message; 5] }).to_string();
    let all = passages_of(body.as_bytes(), usize::MAX);
    assert_eq!(all.len(), 15);
    for limit in [0, 1, 4, 15] {
        assert_eq!(passages_of(body.as_bytes(), limit), all[..limit], "{limit}");
    }
}
