//! Disguises: changes to a request. They try to hide the instruction of the request without
//! changing its meaning. `hedgerow test` checks that rules still match under disguises, and
//! `hedgerow evaluate` measures how often they do.

use hedgerow_core::extract::{self, Request};
use hedgerow_core::field::{FieldId, Section};
use hedgerow_core::http::body::Body;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::rules::policy::Limits;
use serde_json::{Value, json};

use crate::exemplar::ExemplarEvent;

/// A change to the text of the last message.
pub struct TextDisguise {
    /// Name, unique among the disguises.
    pub name: &'static str,
    /// Returns the changed text.
    pub apply: fn(&str) -> String,
}

/// The disguises that change a text.
pub const TEXT_DISGUISES: [TextDisguise; 11] = [
    TextDisguise { name: "footer", apply: with_footer },
    TextDisguise { name: "header", apply: |text| format!("{HARMLESS_WORDS}\n\n{text}") },
    TextDisguise {
        name: "fence",
        apply: |text| format!("Carry out the order in this block.\n```\n{text}\n```"),
    },
    TextDisguise {
        name: "quotes",
        apply: |text| {
            format!(
                "Carry out what is written between the quotation marks.\n\"\"\"\n{text}\n\"\"\""
            )
        },
    },
    TextDisguise { name: "long document before", apply: |text| document() + text },
    TextDisguise { name: "long document behind", apply: |text| text.to_owned() + &document() },
    TextDisguise { name: "zero-width characters", apply: add_zero_width },
    TextDisguise { name: "look-alike letters", apply: look_alike },
    TextDisguise { name: "capitals", apply: str::to_uppercase },
    TextDisguise { name: "wide spacing", apply: |text| text.replace(' ', "  \t") },
    TextDisguise { name: "JSON wrapping", apply: wrap_in_json },
];

/// A change to the event of an exemplar (a test event of a rule).
pub struct Disguise {
    /// Name, unique among the disguises.
    pub name: &'static str,
    apply: Change,
}

/// The change that a disguise makes to an event.
#[derive(Clone, Copy)]
enum Change {
    Text(fn(&str) -> String),
    Messages(fn(&str) -> Vec<Value>),
    Other(fn(&mut ExemplarEvent)),
}

impl Disguise {
    /// Returns all disguises of events.
    pub fn all() -> impl Iterator<Item = Self> {
        let text = |disguise: TextDisguise| Self {
            name: disguise.name,
            apply: Change::Text(disguise.apply),
        };
        let others = [
            ("full-width spaces", Change::Text(|text| text.replace(' ', "\u{3000}"))),
            ("split over parts", Change::Messages(split_over_parts)),
            ("split over messages", Change::Messages(split_over_messages)),
            ("a tool", Change::Other(add_tool)),
            ("stream", Change::Other(|event| event.set_number(FieldId::Stream, 1.0))),
            ("turns before", Change::Other(add_turns)),
        ];
        let others = others.into_iter().map(|(name, apply)| Self { name, apply });
        TEXT_DISGUISES.into_iter().map(text).chain(others)
    }

    /// Applies the disguise to a copy of the event. Returns `None` if the event has no text that
    /// the disguise could change.
    pub fn apply(&self, event: &ExemplarEvent) -> Option<ExemplarEvent> {
        let mut changed = event.clone();
        match self.apply {
            Change::Other(change) => change(&mut changed),
            Change::Text(change) => {
                let text = changed.prompt_mut()?;
                let old_len = text.len();
                *text = change(text);
                let growth = text.len().saturating_sub(old_len);
                changed.add_to_number(FieldId::PromptSize, growth as f64);
            }
            Change::Messages(split) => {
                let text = changed.take_prompt()?;
                for (section, text) in texts_of_messages(&split(&text)) {
                    changed.push_text(section, text);
                }
            }
        }
        Some(changed)
    }
}

/// Returns the texts that the core extracts from the messages of a chat request, each with its
/// section.
fn texts_of_messages(messages: &[Value]) -> Vec<(Section, String)> {
    let body = json!({ "messages": messages }).to_string();
    let limits = Limits::default();
    let body = Body::new(body.as_bytes(), None, &limits);
    let envelope = Envelope { body: body.bytes(), ..Envelope::default() };
    let mut texts = Vec::new();
    let mut read = |request: &mut Request<'_>| {
        texts.extend(request.segments().iter().map(|segment| {
            let text = request.text().get(segment.range.clone()).unwrap_or_default();
            (segment.section, text.to_owned())
        }));
    };
    extract::for_each_request(&envelope, Endpoint::OpenaiChat, &body, &limits, &mut read);
    texts
}

/// Returns the text with a footer of harmless words.
pub fn with_footer(text: &str) -> String {
    format!("{text}\n\n{HARMLESS_WORDS}")
}

/// Adds a tool that is unrelated to the request.
fn add_tool(event: &mut ExemplarEvent) {
    event.add_to_number(FieldId::ToolsCount, 1.0);
    event.push_text(Section::Definition, "departures: departures of a bus line".to_owned());
}

/// Adds four questions and answers of an invented, ordinary conversation.
fn add_turns(event: &mut ExemplarEvent) {
    event.add_to_number(FieldId::Turns, 2.0 * CONVERSATION.len() as f64);
    for (question, answer) in CONVERSATION {
        event.push_text(Section::User, question.to_owned());
        event.push_text(Section::Assistant, answer.to_owned());
    }
}

fn split_over_parts(text: &str) -> Vec<Value> {
    let parts = chunks(text).into_iter().map(|part| json!({ "type": "text", "text": part }));
    vec![json!({ "role": "user", "content": parts.collect::<Vec<_>>() })]
}

/// Splits a text into messages at the ends of its sentences.
fn split_over_messages(text: &str) -> Vec<Value> {
    let sentences = text.split_inclusive(['.', '!', '?', '。', '\n']);
    sentences.map(|text| json!({ "role": "user", "content": text })).collect()
}

/// Splits a text into chunks of [`PART_CHARS`] characters. The last chunk may be shorter.
pub fn chunks(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(PART_CHARS).map(String::from_iter).collect()
}

fn wrap_in_json(text: &str) -> String {
    format!("Carry out the member `task` of this object.\n{}", json!({ "id": 7, "task": text }))
}

/// Returns an unrelated text of about 9,000 bytes, which is longer than most prompts.
fn document() -> String {
    format!("\n\n{}\n\n", DOCUMENT_SENTENCES.repeat(60))
}

/// Puts a zero-width space after every third letter.
fn add_zero_width(text: &str) -> String {
    let mut letters = 0_usize;
    let mut changed = String::with_capacity(text.len().saturating_mul(2));
    for char in text.chars() {
        changed.push(char);
        letters = letters.saturating_add(usize::from(char.is_alphabetic()));
        if char.is_alphabetic() && letters.is_multiple_of(3) {
            changed.push('\u{200b}');
        }
    }
    changed
}

/// Replaces Latin letters by Cyrillic letters that look alike.
fn look_alike(text: &str) -> String {
    let replace = |char| match char {
        'a' => 'а',
        'c' => 'с',
        'e' => 'е',
        'o' => 'о',
        'p' => 'р',
        'x' => 'х',
        other => other,
    };
    text.chars().map(replace).collect()
}

/// Number of characters in each part of a split message, except the last part.
pub const PART_CHARS: usize = 47;

/// Words about classrooms, programs, customers and documents, which are typical of ordinary
/// requests.
const HARMLESS_WORDS: &str = "Background, not part of the task: import os; fn main(); ```patch; \
    stack trace; unit tests; the customer's order; a lesson for my class; our handbook; chat log.";

const DOCUMENT_SENTENCES: &str = "The allotment club met on Tuesday and agreed who waters which \
    bed. The shed gets a new roof before the autumn, and the pump is oiled twice a year. ";

/// Questions and answers of an ordinary conversation.
pub const CONVERSATION: [(&str, &str); 4] = [
    ("Is the pool open today?", "Yes, from eight in the morning until seven."),
    ("And on Sunday?", "On Sundays it opens at ten."),
    ("Does the bus stop there?", "Line 4 stops at the gate every twenty minutes."),
    ("Thanks, that helps.", "You are welcome. Enjoy the water."),
];

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str =
        "Write seven riddles about clouds. Each is short enough for a card, please.";

    fn event(section: Section) -> ExemplarEvent {
        let mut event = ExemplarEvent::default();
        event.push_text(section, PLAIN.to_owned());
        event
    }

    #[test]
    fn every_disguise_keeps_the_order_and_changes_the_event() {
        let plain = event(Section::User);
        let words = PLAIN.to_lowercase();
        for disguise in Disguise::all() {
            let disguised = disguise.apply(&plain).unwrap();
            let (request, plain) = (disguised.request(), plain.request());
            let is_changed = request.segments().len() != plain.segments().len()
                || request.numbers() != plain.numbers();
            assert!(is_changed, "{}", disguise.name);
            let text = request.text();
            let is_split = disguise.name == "split over messages";
            let sentences = words.split_inclusive(". ").map(str::trim);
            let has_all = sentences.into_iter().all(|sentence| text.contains(sentence));
            assert!(text.contains(&words) || is_split && has_all, "{}: {text}", disguise.name);
        }
    }

    #[test]
    fn disguises_of_messages_need_a_message_of_the_user() {
        let systems =
            Disguise::all().filter(|disguise| disguise.apply(&event(Section::System)).is_none());
        let names: Vec<&str> = systems.map(|disguise| disguise.name).collect();
        assert_eq!(names, ["split over parts", "split over messages"]);
        let empty = ExemplarEvent::default();
        let others = Disguise::all().filter(|disguise| disguise.apply(&empty).is_some());
        assert_eq!(
            others.map(|disguise| disguise.name).collect::<Vec<_>>(),
            ["a tool", "stream", "turns before"]
        );
    }

    #[test]
    fn the_size_of_a_prompt_grows_with_its_text() {
        let footer = Disguise::all().find(|disguise| disguise.name == "footer").unwrap();
        let disguised = footer.apply(&event(Section::User)).unwrap();
        let numbers = disguised.request().numbers().to_vec();
        assert_eq!(numbers, [(FieldId::PromptSize, (HARMLESS_WORDS.len() + 2) as f64)]);
    }
}
