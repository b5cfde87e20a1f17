//! Messages of a WebSocket. Each message is scored and logged like a request.

use hedgerow_core::Envelope;
use hedgerow_core::enforce::degrade::Degradation;
use hedgerow_core::enforce::refusal::Refusal;
use hedgerow_core::enforce::worded_refusal::WordedRefusal;
use hedgerow_core::evaluate::message::MessageAssessment;
use hedgerow_core::extract::conversation::Conversation;
use hedgerow_core::extract::realtime::MessageEffect;

use super::{Enforcement, LlmCall, ScoreOutcome};
use crate::isolate::principals::OriginNames;
use crate::request::request_body::RequestBody;
use crate::request::upstream::SWITCHING_PROTOCOLS;

/// The way in which a message of a WebSocket is handled.
pub enum MessageOutcome {
    /// The message is forwarded unchanged.
    Forward,
    /// The message is replaced by these bytes, which are forwarded.
    ForwardEdited(Vec<u8>),
    /// The message is not forwarded, and the WebSocket is closed.
    Refuse(Box<WordedRefusal>),
}

impl LlmCall<'_> {
    /// Scores a message of a WebSocket, either alone or together with earlier messages. Logs and
    /// counts the decision, and returns how the message is handled. Adds the message to the
    /// conversation.
    ///
    /// A message has no headers, so the origin gets no tags for it.
    pub fn filter_message(
        &self,
        body: &RequestBody,
        effect: MessageEffect,
        conversation: &mut Conversation,
    ) -> MessageOutcome {
        conversation.begin_message(effect);
        let mut message = MessageAssessment::default();
        let outcome = self.score_by(body, |envelope| {
            message = self.ruleset.assess_message(self.endpoint, envelope, effect, conversation);
            let earlier = Some(conversation.earlier()).filter(|_| message.is_joined);
            let envelope = Envelope { earlier, ..envelope.clone() };
            Some(self.decision(&envelope, message.assessment.take()?))
        });
        let (decision, observed) = match outcome {
            ScoreOutcome::NotLlmCall => {
                conversation.add(message.kept, effect, message.findings);
                return MessageOutcome::Forward;
            }
            ScoreOutcome::Decided(decision, observed) => (decision, observed),
            ScoreOutcome::Failed(error) => return self.message_unscored(error, body),
        };
        let mut observed = observed;
        if let Some(observation) = &mut observed.observation {
            // The origin accepted the handshake, and therefore the credential in the handshake.
            observation.proven = true;
        }
        let enforcement = self.enforcement(&decision, body);
        let earlier = Some(conversation.earlier()).filter(|_| message.is_joined);
        let shadow_decision = self.score_by_shadow(body, &decision, earlier);
        conversation.add(message.kept, effect, message.findings);
        let model = observed.model.as_deref();
        self.record(&decision, model, shadow_decision.as_ref(), &enforcement, Some(WEBSOCKET));
        let Enforcement { action, degradation, refusal } = enforcement;
        let status = refusal.map_or(SWITCHING_PROTOCOLS, Refusal::status);
        let names = OriginNames::default();
        self.queue_observation(observed.observation, status, action, &names);
        match (refusal, degradation.and_then(Degradation::into_edited_bytes)) {
            (Some(refusal), _) => MessageOutcome::Refuse(self.worded(refusal)),
            (None, Some(bytes)) => MessageOutcome::ForwardEdited(bytes),
            (None, None) => MessageOutcome::Forward,
        }
    }

    /// Logs and counts that a message could not be scored. The message is refused if the policy
    /// enforces and sets `fail_closed`; otherwise it is forwarded.
    fn message_unscored(&self, error: &str, body: &RequestBody) -> MessageOutcome {
        if self.record_failure(error, body, Some(WEBSOCKET)) {
            MessageOutcome::Refuse(self.worded(Refusal::Unavailable))
        } else {
            MessageOutcome::Forward
        }
    }
}

/// Value of the log's member `transport` for messages of WebSockets.
const WEBSOCKET: &str = "websocket";
