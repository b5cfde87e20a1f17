//! The shape of a request: its parameters, headers and tool definitions, without its text and its
//! model.
//!
//! Requests of one program share a shape, whatever their text says. A client can vary its shape at
//! will. So equal shapes suggest that one program sent the requests, but different shapes prove
//! nothing.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::request::Request;
use crate::field::{FieldId, Section};
use crate::keyed_hash::{HashKey, fmix64};

impl Request<'_> {
    /// Returns the hash of the shape, which does not depend on the order of members and headers:
    /// not all hosts keep the order of headers.
    ///
    /// An exemplar (a test of a rule) may give the shape a name, which is hashed instead.
    pub fn shape(&self, headers: &[(String, String)], key: &HashKey) -> u64 {
        let field_name = FieldId::Shape.spec().name;
        if let Some((_, named)) = self.hash_inputs.iter().find(|(id, _)| *id == FieldId::Shape) {
            return key.keyed_hash(field_name, named.as_bytes());
        }
        let mut sum = PartSum { salt: key.salt(), sum: 0 };
        for (field, number) in &self.numbers {
            if let Some(class) = number_class(*field, *number) {
                sum.add(*field as u8, &class.to_le_bytes());
            }
        }
        for (field, value) in &self.keywords {
            match field {
                FieldId::UserAgent => sum.add(*field as u8, product(value).as_bytes()),
                FieldId::OperationName
                | FieldId::ProviderName
                | FieldId::OutputType
                | FieldId::ReasoningEffort
                | FieldId::StopSequences => sum.add(*field as u8, value.as_bytes()),
                _ => {}
            }
        }
        // Some hosts combine headers of one name, and others do not.
        let names: BTreeSet<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        for name in names.into_iter().filter(|name| !is_volatile(name)) {
            sum.add(HEADER_PART, name.as_bytes());
        }
        self.add_definitions(&mut sum);
        key.keyed_hash(field_name, &sum.sum.to_le_bytes())
    }

    /// Adds to `sum` whether the request has a system text, and the hashes of its tool definitions
    /// and of its answer schema.
    fn add_definitions(&self, sum: &mut PartSum) {
        if self.texts(Section::System).next().is_some() {
            sum.add(Section::System as u8, &[SECTION_PART]);
        }
        for section in [Section::Definition, Section::Schema] {
            let mut remaining = MAX_DEFINITION_BYTES;
            for text in self.texts(section) {
                let part = text.as_bytes();
                let part = part.get(..remaining).unwrap_or(part);
                sum.add(section as u8, part);
                remaining = remaining.saturating_sub(part.len());
                if remaining == 0 {
                    break;
                }
            }
        }
    }
}

/// A sum of the hashes of parts. The sum does not depend on the order of the parts.
struct PartSum {
    salt: u64,
    sum: u64,
}

impl PartSum {
    fn add(&mut self, kind: u8, part: &[u8]) {
        let hash = xxh3_64_with_seed(part, self.salt ^ fmix64(u64::from(kind).saturating_add(1)));
        self.sum = self.sum.wrapping_add(fmix64(hash));
    }
}

/// Returns the class of a number that belongs to the shape; `None` for other numbers. Numbers are
/// divided into classes because programs vary some of them a little, and because the number of
/// turns grows in a conversation.
fn number_class(field: FieldId, number: f64) -> Option<i32> {
    let class = match field {
        FieldId::MaxTokens | FieldId::ThinkingBudget => number.max(1.0).log2().floor(),
        FieldId::Temperature
        | FieldId::TopP
        | FieldId::FrequencyPenalty
        | FieldId::PresencePenalty => (number * 10.0).round(),
        FieldId::Turns => number.min(2.0),
        FieldId::Seed | FieldId::PromptsCount | FieldId::AttachmentsCount => 1.0,
        FieldId::TopK
        | FieldId::ChoiceCount
        | FieldId::Logprobs
        | FieldId::TopLogprobs
        | FieldId::BestOf
        | FieldId::Echo
        | FieldId::Stream => number,
        _ => return None,
    };
    Some(class as i32)
}

/// Returns the user agent up to its first digit: the name of the product, without a version.
fn product(user_agent: &str) -> &str {
    let end = user_agent.find(|letter: char| letter.is_ascii_digit());
    end.and_then(|end| user_agent.get(..end)).unwrap_or(user_agent)
}

/// Returns whether a header is added by the network, or is not in all requests of a program.
fn is_volatile(name: &str) -> bool {
    VOLATILE_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Beginnings of the names of volatile headers.
const VOLATILE_PREFIXES: [&str; 23] = [
    "b3",
    "baggage",
    "cdn-loop",
    "cf-",
    "connection",
    "content-length",
    "cookie",
    "forwarded",
    "idempotency-key",
    "if-",
    "newrelic",
    "sentry-trace",
    "trace",
    "transfer-encoding",
    "true-client-ip",
    "via",
    "x-amzn-trace-id",
    "x-b3-",
    "x-cloud-trace-context",
    "x-datadog-",
    "x-forwarded-",
    "x-real-ip",
    "x-request-id",
];

/// Kind of a part that is the name of a header. The value is larger than every field id.
const HEADER_PART: u8 = u8::MAX;

/// The byte that is hashed for the system section if that section has text.
const SECTION_PART: u8 = 1;

/// Maximum bytes of the tool definitions, and of the answer schema, that are hashed.
const MAX_DEFINITION_BYTES: usize = 4_096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::extract::FieldValue;

    const HEADERS: [(&str, &str); 3] =
        [("user-agent", "acme/1.2"), ("accept", "*/*"), ("cf-ray", "7")];

    fn headers(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn values() -> Values {
        vec![
            (FieldId::UserAgent, FieldValue::Keyword("acme/1.2 (linux)")),
            (FieldId::OperationName, FieldValue::Keyword("chat")),
            (FieldId::RequestModel, FieldValue::Keyword("m1")),
            (FieldId::MaxTokens, FieldValue::Number(1_024.0)),
            (FieldId::Temperature, FieldValue::Number(0.7)),
            (FieldId::Turns, FieldValue::Number(1.0)),
            (FieldId::PromptUser, FieldValue::Text(Section::User, "a question")),
            (FieldId::ToolDefinitions, FieldValue::Text(Section::Definition, "look up")),
            (FieldId::ToolDefinitions, FieldValue::Text(Section::Definition, "write down")),
        ]
    }

    /// Returns the shape of a request that has the result of [`values`] after `change`.
    fn shape_of(change: impl FnOnce(&mut Values)) -> u64 {
        let mut values = values();
        change(&mut values);
        Request::from_values(values).shape(&headers(&HEADERS), &HashKey::default())
    }

    fn shape_with(value: (FieldId, FieldValue<'static>)) -> u64 {
        shape_of(|values| {
            values.retain(|(field, _)| *field != value.0);
            values.push(value);
        })
    }

    #[test]
    fn text_model_versions_and_small_changes_keep_the_shape() {
        let shape = shape_of(|_| {});
        for (case, other) in [
            ("order", shape_of(|values| values.reverse())),
            ("text", shape_with((FieldId::PromptUser, FieldValue::Text(Section::User, "other")))),
            ("model", shape_with((FieldId::RequestModel, FieldValue::Keyword("m2")))),
            ("version", shape_with((FieldId::UserAgent, FieldValue::Keyword("acme/2.0")))),
            ("max_tokens", shape_with((FieldId::MaxTokens, FieldValue::Number(1_500.0)))),
            ("temperature", shape_with((FieldId::Temperature, FieldValue::Number(0.72)))),
            ("address", shape_with((FieldId::ClientAddress, FieldValue::Keyword("192.0.2.1")))),
        ] {
            assert_eq!(shape, other, "{case}");
        }
        let request = Request::from_values(values());
        for rows in [
            vec![("accept", "text/html"), ("user-agent", "")],
            vec![("x-forwarded-for", "1"), ("user-agent", ""), ("accept", ""), ("cookie", "a=b")],
        ] {
            assert_eq!(shape, request.shape(&headers(&rows), &HashKey::default()), "{rows:?}");
        }
    }

    #[test]
    fn programs_and_parameters_change_the_shape() {
        let mut shapes = vec![
            shape_of(|_| {}),
            shape_of(|values| values.retain(|(field, _)| *field != FieldId::Temperature)),
            shape_with((FieldId::UserAgent, FieldValue::Keyword("other/1.2"))),
            shape_with((FieldId::OperationName, FieldValue::Keyword("text_completion"))),
            shape_with((FieldId::MaxTokens, FieldValue::Number(2_048.0))),
            shape_with((FieldId::Temperature, FieldValue::Number(1.0))),
            shape_with((FieldId::Turns, FieldValue::Number(3.0))),
            shape_with((FieldId::Stream, FieldValue::Number(1.0))),
            shape_with((FieldId::Seed, FieldValue::Number(5.0))),
            shape_with((FieldId::StopSequences, FieldValue::Keyword("end"))),
            shape_with((
                FieldId::ToolDefinitions,
                FieldValue::Text(Section::Definition, "look down"),
            )),
            shape_with((FieldId::ResponseSchema, FieldValue::Text(Section::Schema, "look up"))),
            shape_with((FieldId::SystemInstructions, FieldValue::Text(Section::System, "be"))),
            shape_with((FieldId::Shape, FieldValue::HashInput("named"))),
            Request::from_values(values()).shape(&[], &HashKey::default()),
            Request::from_values(values()).shape(&headers(&HEADERS), &HashKey::derive(b"other")),
        ];
        let count = shapes.len();
        shapes.sort_unstable();
        shapes.dedup();
        assert_eq!(shapes.len(), count);
    }

    type Values = Vec<(FieldId, FieldValue<'static>)>;
    type Case = (Values, Vec<(String, String)>);

    /// Returns the parts of a shape as sorted text.
    fn naive_shape(
        values: &[(FieldId, FieldValue<'static>)],
        headers: &[(String, String)],
    ) -> Vec<String> {
        let mut parts: Vec<String> = Vec::new();
        for (field, value) in values {
            let part = match (field, value) {
                (FieldId::MaxTokens, FieldValue::Number(number)) => {
                    format!("{}", (*number as u64).max(1).ilog2())
                }
                (FieldId::Temperature, FieldValue::Number(number)) => format!("{number:.1}"),
                (FieldId::Turns, FieldValue::Number(number)) if *number > 1.0 => "many".to_owned(),
                (FieldId::Seed, _) => "any".to_owned(),
                (FieldId::TopK | FieldId::Turns, FieldValue::Number(number)) => number.to_string(),
                (FieldId::UserAgent, FieldValue::Keyword(text)) => {
                    text.chars().take_while(|letter| !letter.is_ascii_digit()).collect()
                }
                (FieldId::StopSequences, FieldValue::Keyword(text)) => (*text).to_owned(),
                _ => continue,
            };
            parts.push(format!("{} {part}", field.spec().name));
        }
        let is_kept = |name: &&String| !name.starts_with("cf-") && name.as_str() != "cookie";
        let names: BTreeSet<&String> = headers.iter().map(|(name, _)| name).collect();
        parts.extend(names.into_iter().filter(is_kept).map(|name| format!("header {name}")));
        parts.sort();
        parts
    }

    proptest! {
        #[test]
        fn shapes_are_equal_if_their_parts_are(
            numbers in prop::collection::vec((0..5_usize, 0..4_usize), 0..4),
            agents in prop::collection::vec(0..4_usize, 0..2),
            names in prop::collection::vec(0..4_usize, 0..3),
            other_names in prop::collection::vec(0..4_usize, 0..3),
            change in (0..5_usize, 0..4_usize),
        ) {
            const FIELDS: [FieldId; 5] = [
                FieldId::MaxTokens, FieldId::Temperature, FieldId::Turns, FieldId::Seed,
                FieldId::TopK,
            ];
            let number = |(field, value): (usize, usize)| {
                (FIELDS[field], FieldValue::Number([0.5, 1.0, 2.0, 3.0][value]))
            };
            let agent = |index: usize| {
                let field = [FieldId::UserAgent, FieldId::StopSequences, FieldId::RequestModel];
                (field[index % 3], FieldValue::Keyword(["a/1", "a/2", "b/1", "b"][index]))
            };
            let build = |numbers: &[(usize, usize)]| -> Values {
                let numbers = numbers.iter().copied().map(number);
                numbers.chain(agents.iter().copied().map(agent)).collect()
            };
            let header_rows = |names: &[usize]| {
                let row = |name: &usize| (["accept", "cf-ray", "cookie", "x-app"][*name], "1");
                headers(&names.iter().map(row).collect::<Vec<_>>())
            };
            let mut changed = numbers.clone();
            changed.reverse();
            changed.push(change);
            let first = (build(&numbers), header_rows(&names));
            for second in [
                (build(&changed), header_rows(&names)),
                (build(&numbers), header_rows(&other_names)),
                (build(&changed[..numbers.len()]), header_rows(&names)),
            ] {
                let shape = |(values, headers): &Case| {
                    Request::from_values(values.clone()).shape(headers, &HashKey::default())
                };
                let naive = |(values, headers): &Case| naive_shape(values, headers);
                prop_assert_eq!(shape(&first) == shape(&second), naive(&first) == naive(&second));
            }
        }
    }

    #[test]
    fn strange_numbers_have_a_class() {
        for number in [f64::NAN, f64::INFINITY, -1e300, 0.0] {
            shape_with((FieldId::MaxTokens, FieldValue::Number(number)));
            shape_with((FieldId::Temperature, FieldValue::Number(number)));
        }
    }
}
