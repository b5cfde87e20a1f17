//! Assessment of a message of a WebSocket, either alone or together with earlier messages.

use crate::evaluate::decision::Assessment;
use crate::extract::conversation::{Conversation, KeptMessage};
use crate::extract::earlier_texts::EarlierFindings;
use crate::extract::realtime::{Generation, MessageEffect};
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::ruleset::Ruleset;

/// The assessment of a message.
#[derive(Debug, Default)]
pub struct MessageAssessment {
    /// The assessment to record; `None` if the message is forwarded without an assessment.
    pub assessment: Option<Assessment>,
    /// Whether the assessment covers the message together with earlier messages.
    pub is_joined: bool,
    /// Findings of the assessment; `None` if `assessment` is `None`.
    pub findings: Option<EarlierFindings>,
    /// The text to keep for the assessment of later messages.
    pub kept: KeptMessage,
}

impl Ruleset {
    /// Assesses a message that must be scored together with the conversation so far, or that may
    /// carry a prompt.
    ///
    /// A message that makes the model generate is scored together with the text of earlier
    /// messages, because the model reads them together. At most one assessment is recorded per
    /// message:
    ///
    /// - If the message asks for an answer and has text, the joint assessment is recorded, as for
    ///   an HTTP request, which repeats its conversation.
    /// - For any other message, the joint assessment is recorded only if it has a higher band than
    ///   every earlier assessment, or if it has template keys and no earlier assessment had any.
    ///   Otherwise, the same text would count twice.
    /// - If the joint assessment is not recorded and the message may carry a prompt, the assessment
    ///   of the message alone is recorded.
    pub fn assess_message(
        &self,
        endpoint: Endpoint,
        envelope: &Envelope<'_>,
        effect: MessageEffect,
        conversation: &Conversation,
    ) -> MessageAssessment {
        let model = conversation.model().or(envelope.model);
        let envelope = Envelope { model, earlier: None, ..envelope.clone() };
        let mut kept = KeptMessage::default();
        if conversation.is_scored_with(effect) {
            let joint_envelope =
                Envelope { earlier: Some(conversation.earlier()), ..envelope.clone() };
            let joint = self.assess_each(endpoint, &joint_envelope, &mut |request| {
                kept.take(request, effect);
            });
            let is_answered = effect.generation >= Generation::Asked && kept.has_text();
            if let Some(joint) = joint
                && (is_answered || self.exceeds_recorded(&joint, conversation))
            {
                let findings = Some(self.findings(&joint));
                let assessment = Some(joint);
                return MessageAssessment { assessment, is_joined: true, findings, kept };
            }
        }
        if !effect.carries_prompt {
            return MessageAssessment { kept, ..MessageAssessment::default() };
        }
        let mut kept = KeptMessage::default();
        let assessment =
            self.assess_each(endpoint, &envelope, &mut |request| kept.take(request, effect));
        let findings = assessment.as_ref().map(|assessment| self.findings(assessment));
        MessageAssessment { assessment, is_joined: false, findings, kept }
    }

    /// Returns whether a joint assessment has a higher band than every recorded assessment of the
    /// conversation, or has template keys although no recorded assessment had any.
    fn exceeds_recorded(&self, joint: &Assessment, conversation: &Conversation) -> bool {
        let (shown, findings) = (self.findings(joint), conversation.earlier().findings());
        shown.band > findings.band || (shown.has_template && !findings.has_template)
    }

    /// Returns the findings of an assessment, in the form in which the conversation records them.
    fn findings(&self, assessment: &Assessment) -> EarlierFindings {
        let has_template = assessment.observation.as_ref().is_some_and(|observation| {
            let has_values = |index: u16| !observation.values(index).is_empty();
            let fields = (0_u16..).zip(self.plan.fields());
            fields
                .map(|(index, _)| index)
                .any(|index| self.is_template_field(index) && has_values(index))
        });
        EarlierFindings { band: assessment.band, has_template }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::realtime::message_effect;
    use crate::rules::policy::Band;

    const OPENAI: Endpoint = Endpoint::OpenaiRealtime;
    const GEMINI: Endpoint = Endpoint::GeminiLive;

    /// Returns a ruleset with one signature. It matches if the caller's instructions contain both
    /// `red lantern` and `blue kettle`.
    fn ruleset() -> Ruleset {
        let contains = |text: &str| {
            format!(
                r#"{{"field":{{"field":"hedgerow.prompt.instruction",
                    "string":{{"string_match":"contains","value":"{text}"}}}}}}"#
            )
        };
        let bundle = format!(
            r#"{{"format":1,"policy":{{}},"sources":{{}},"signatures":[{{
                "name":"synthesis_pairs","id":"1","title":"t","family":"synthesis",
                "status":"stable","weight":22,
                "selections":{{"a":{},"b":{}}},"condition":{{"all":[{{"is":"a"}},{{"is":"b"}}]}}
            }}]}}"#,
            contains("red lantern"),
            contains("blue kettle"),
        );
        Ruleset::load(bundle.as_bytes()).unwrap()
    }

    /// Sends messages over one connection. Returns, for each message, the recorded band and the
    /// number of earlier messages with which it was scored; `None` if nothing was recorded.
    fn send(
        ruleset: &Ruleset,
        conversation: &mut Conversation,
        endpoint: Endpoint,
        messages: &[&str],
    ) -> Vec<Option<(Band, usize)>> {
        let to_band = |message: &&str| {
            let effect = message_effect(message.as_bytes(), endpoint);
            let envelope = Envelope {
                method: "GET",
                path: "/v1/realtime",
                body: message.as_bytes(),
                ..Envelope::default()
            };
            conversation.begin_message(effect);
            let assessed = ruleset.assess_message(endpoint, &envelope, effect, conversation);
            let earlier = conversation.earlier().message_count(message.len());
            let earlier = if assessed.is_joined { earlier } else { 0 };
            conversation.add(assessed.kept, effect, assessed.findings);
            assessed.assessment.map(|assessment| (assessment.band, earlier))
        };
        messages.iter().map(to_band).collect()
    }

    const CLEAR: Option<(Band, usize)> = Some((Band::Clear, 0));

    fn item(text: &str) -> String {
        format!(
            r#"{{"type":"conversation.item.create","item":{{"type":"message","role":"user",
                "content":[{{"type":"input_text","text":"{text}"}}]}}}}"#
        )
    }

    #[test]
    fn prompts_that_are_split_over_messages_are_found() {
        let suspect = |earlier: usize| Some((Band::Suspect, earlier));
        let clear = |earlier: usize| Some((Band::Clear, earlier));
        let (red, blue) = (item("A red lantern."), item("A blue kettle."));
        let create = r#"{"type":"response.create"}"#;
        let (half, rest) = (item("A red lan"), item("tern. A blue kettle."));
        let rows: &[(&str, Endpoint, &[&str], &[Option<(Band, usize)>])] = &[
            ("items", OPENAI, &[&red, &blue, create], &[CLEAR, CLEAR, suspect(2)]),
            ("a phrase is split", OPENAI, &[&half, &rest, create], &[CLEAR, CLEAR, suspect(2)]),
            (
                "counted once",
                OPENAI,
                &[&red, &blue, create, create],
                &[CLEAR, CLEAR, suspect(2), None],
            ),
            ("one item was scored already", OPENAI, &[&red, create], &[CLEAR, None]),
            (
                "voice",
                OPENAI,
                &[&red, &blue, r#"{"type":"input_audio_buffer.append","audio":"x"}"#],
                &[CLEAR, CLEAR, suspect(2)],
            ),
            (
                "over generations",
                OPENAI,
                &[&red, create, &blue, create],
                &[CLEAR, None, CLEAR, suspect(2)],
            ),
            (
                "instructions of the session",
                OPENAI,
                &[
                    r#"{"type":"session.update","session":{"instructions":"A red lantern."}}"#,
                    r#"{"type":"session.update","session":{"voice":"alto"}}"#,
                    &blue,
                    create,
                ],
                &[CLEAR, CLEAR, CLEAR, suspect(2)],
            ),
            (
                "instructions that were replaced",
                OPENAI,
                &[
                    r#"{"type":"session.update","session":{"instructions":"A red lantern."}}"#,
                    r#"{"type":"session.update","session":{"instructions":"A green hedge."}}"#,
                    &blue,
                    create,
                ],
                &[CLEAR, CLEAR, CLEAR, None],
            ),
            (
                "the last part is in the request",
                OPENAI,
                &[
                    &red,
                    r#"{"type":"response.create","response":{"instructions":"A blue kettle."}}"#,
                ],
                &[CLEAR, suspect(1)],
            ),
            (
                "responses, continued",
                OPENAI,
                &[
                    r#"{"type":"response.create","input":"A red lantern."}"#,
                    r#"{"type":"response.create","input":"A blue kettle.",
                        "previous_response_id":"r"}"#,
                ],
                &[CLEAR, suspect(1)],
            ),
            (
                "responses, independent",
                OPENAI,
                &[
                    r#"{"type":"response.create","input":"A red lantern."}"#,
                    r#"{"type":"response.create","input":"A blue kettle."}"#,
                    r#"{"type":"response.create","input":"Go on.","previous_response_id":"r"}"#,
                ],
                &[CLEAR, CLEAR, clear(1)],
            ),
            (
                "an input hides no items",
                OPENAI,
                &[&red, r#"{"type":"response.create","input":"A blue kettle."}"#],
                &[CLEAR, suspect(1)],
            ),
            (
                "turns",
                GEMINI,
                &[
                    r#"{"clientContent":{"turns":[{"role":"user",
                        "parts":[{"text":"A red lantern."}]}],"turnComplete":false}}"#,
                    r#"{"clientContent":{"turns":[{"role":"user",
                        "parts":[{"text":"A blue kettle."}]}],"turnComplete":true}}"#,
                ],
                &[CLEAR, suspect(1)],
            ),
            (
                "texts of realtime input",
                GEMINI,
                &[
                    r#"{"realtimeInput":{"text":"A red lantern."}}"#,
                    r#"{"realtimeInput":{"text":"A blue kettle."}}"#,
                    r#"{"realtimeInput":{"text":"And a hedge."}}"#,
                ],
                &[CLEAR, suspect(1), CLEAR],
            ),
            (
                "set-up",
                GEMINI,
                &[
                    r#"{"setup":{"systemInstruction":{"parts":[{"text":"A red lantern."}]}}}"#,
                    r#"{"realtimeInput":{"text":"A blue kettle."}}"#,
                ],
                &[CLEAR, suspect(1)],
            ),
        ];
        let ruleset = ruleset();
        for (name, endpoint, messages, expected) in rows {
            let bands = send(&ruleset, &mut Conversation::default(), *endpoint, messages);
            assert_eq!(&bands, expected, "{name}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let ruleset = ruleset();
        let long = item(&"hedge ".repeat(100_000));
        let (red, blue) = (item("A red lantern."), item("A blue kettle."));
        let create = r#"{"type":"response.create"}"#;
        let mut conversation = Conversation::default();
        // One long message does not displace the message before it; several long messages do.
        let messages = [&red, &long, &blue, create];
        let bands = send(&ruleset, &mut conversation, OPENAI, &messages);
        assert_eq!(bands.last(), Some(&Some((Band::Suspect, 3))));
        let mut conversation = Conversation::default();
        let messages = [&red, &long, &long, &long, &blue, create];
        let bands = send(&ruleset, &mut conversation, OPENAI, &messages);
        assert_eq!(bands.last(), Some(&None));
        for message in std::iter::repeat_n(item("x").as_str(), 10_000) {
            send(&ruleset, &mut conversation, OPENAI, &[message]);
        }
        assert!(conversation.earlier().text_bytes(usize::MAX) <= 64 << 10);
        assert!(conversation.earlier().message_count(usize::MAX) <= 2_048);
    }

    #[test]
    fn a_small_message_is_scored_with_little_text() {
        let ruleset = ruleset();
        let mut conversation = Conversation::default();
        let turn = item(&"hedge ".repeat(3_000));
        send(&ruleset, &mut conversation, OPENAI, &[&turn, &turn, &turn]);
        let create = r#"{"type":"response.create"}"#;
        assert!(
            conversation.earlier().text_bytes(create.len()) > 40_000,
            "it was not scored together yet"
        );
        send(&ruleset, &mut conversation, OPENAI, &[create, &item("Go on.")]);
        assert!(conversation.earlier().text_bytes(create.len()) < 20_000);
    }

    #[test]
    fn the_session_names_the_model() {
        let ruleset = ruleset();
        let mut conversation = Conversation::default();
        send(&ruleset, &mut conversation, GEMINI, &[r#"{"setup":{"model":"models/m"}}"#]);
        let message = br#"{"realtimeInput":{"text":"A hedge."}}"#;
        let rows = [(conversation, "models/m"), (Conversation::default(), "of-the-handshake")];
        for (conversation, expected) in rows {
            let envelope =
                Envelope { body: message, model: Some("of-the-handshake"), ..Envelope::default() };
            let effect = message_effect(message, GEMINI);
            let assessed = ruleset.assess_message(GEMINI, &envelope, effect, &conversation);
            assert_eq!(assessed.assessment.unwrap().model.as_deref(), Some(expected));
        }
    }
}
