//! Refusals with the words of the policy, in the client's dialect and language.

use serde_json::{Value, json};

use crate::enforce::appeal::reference_of;
use crate::enforce::refusal::Refusal;
use crate::http::route::Dialect;
use crate::rules::policy::{Policy, Words, choose_words, fill};

/// A refusal with everything that the client gets to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WordedRefusal {
    /// Reason of the refusal.
    pub refusal: Refusal,
    /// Value of `retry-after`, in seconds.
    pub retry_after: u32,
    /// Language of the text; `None` if the text is built in.
    pub language: Option<String>,
    /// Appeal reference for a header; `None` unless the policy sends the header.
    pub appeal: Option<String>,
    dialect: Dialect,
    request_id: String,
    message: String,
    code: Option<String>,
    link: Option<String>,
}

impl WordedRefusal {
    /// Chooses the words for a refusal. `accept_language` is the header with the languages that the
    /// client reads.
    pub fn new(
        refusal: Refusal,
        policy: &Policy,
        dialect: Dialect,
        accept_language: Option<&str>,
        request_id: &str,
    ) -> Self {
        let settings = &policy.enforce;
        let kind = (refusal, dialect);
        let words =
            choose_words(&policy.refusals, &settings.refusal_language, kind, accept_language);
        let Words { text, code, link, language } = words;
        let appeal = reference_of(request_id).unwrap_or_default();
        let fill = |text: &str, link| fill(text, link, request_id, &appeal);
        let message = fill(text.unwrap_or(&built_in_text(refusal)), link);
        Self {
            refusal,
            retry_after: settings.retry_after,
            language: text.map(|_| language.to_owned()),
            message,
            code: code.map(str::to_owned),
            link: link.map(|link| fill(link, None)),
            appeal: settings.appeal_header.then_some(appeal),
            dialect,
            request_id: request_id.to_owned(),
        }
    }

    /// Returns the JSON body of the response. Without words of the policy, the body contains
    /// nothing that would help a client to tune its requests.
    pub fn body(&self) -> Value {
        self.body_in(self.dialect)
    }

    /// Returns the error event that precedes the close frame of a WebSocket; `None` if the dialect
    /// has no such event. Gemini Live reports errors by close frames alone.
    pub fn event(&self) -> Option<Value> {
        let mut body = match self.dialect {
            Dialect::Gemini => return None,
            Dialect::Openai | Dialect::Anthropic | Dialect::Generic => {
                self.body_in(Dialect::Openai)
            }
        };
        let members = body.as_object_mut()?;
        members.insert("type".to_owned(), json!("error"));
        members.insert("event_id".to_owned(), json!(format!("event_{}", self.request_id)));
        members.insert("status".to_owned(), json!(self.refusal.status()));
        Some(body)
    }

    /// Returns the reason of the close frame: the message, or the built-in text if the message has
    /// more than 123 bytes (RFC 6455, section 5.5).
    pub fn close_reason(&self) -> String {
        if self.message.len() <= MAX_CLOSE_REASON {
            return self.message.clone();
        }
        fill(&built_in_text(self.refusal), None, &self.request_id, "")
    }

    fn body_in(&self, dialect: Dialect) -> Value {
        let mut body = self.refusal.kind().body(dialect, &self.message, &self.request_id);
        let error = body.get_mut("error").and_then(Value::as_object_mut);
        match (dialect, error, &self.code) {
            (Dialect::Gemini, Some(error), _) => {
                let details = error.entry("details").or_insert_with(|| json!([]));
                if let Some(details) = details.as_array_mut() {
                    self.add_google_details(details);
                }
            }
            (Dialect::Openai | Dialect::Generic, Some(error), Some(code)) => {
                error.insert("code".to_owned(), json!(code));
            }
            // Anthropic's errors have a type and a message, but no code.
            _ => {}
        }
        body
    }

    /// Adds delay, code and link, as far as they are known, to the details of Google's errors. The
    /// code needs the link, whose host is its domain. Gemini's clients read the delay here, not in
    /// `Retry-After`.
    fn add_google_details(&self, details: &mut Vec<Value>) {
        if self.refusal == Refusal::Throttle {
            let delay = format!("{}s", self.retry_after);
            details.insert(0, json!({ "@type": RETRY_INFO, "retryDelay": delay }));
        }
        // Google demands a domain for each reason.
        let host = self.link.as_deref().and_then(|link| link.split(['/', '?', '#']).nth(2));
        if let (Some(code), Some(domain)) = (&self.code, host) {
            let reason = code.to_ascii_uppercase();
            details.push(json!({ "@type": ERROR_INFO, "reason": reason, "domain": domain }));
        }
        if let Some(link) = &self.link {
            let link = json!({ "description": "Help", "url": link });
            details.push(json!({ "@type": HELP, "links": [link] }));
        }
    }
}

/// Returns the built-in text of a refusal, with a placeholder.
fn built_in_text(refusal: Refusal) -> String {
    format!("{} Request id: {{request_id}}", refusal.message())
}

/// Maximum bytes of the reason of a close frame.
const MAX_CLOSE_REASON: usize = 123;

// Types of error details, from `google/rpc/error_details.proto`.
const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";
const ERROR_INFO: &str = "type.googleapis.com/google.rpc.ErrorInfo";
const HELP: &str = "type.googleapis.com/google.rpc.Help";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::policy::RefusalPolicy;

    const ID: &str = "01991b2c-3d4e-7c9e-9d38-3f2f6a9c8b7a";
    const REFERENCE: &str = "06CHP-B1X9V-4YEKG-FSFDA-E8PYPZ";
    const ALL: [Refusal; 6] = [
        Refusal::Throttle,
        Refusal::Block,
        Refusal::Unavailable,
        Refusal::Late,
        Refusal::TooLarge,
        Refusal::Unsupported,
    ];

    fn refusal(policy: &Policy, refusal: Refusal, dialect: Dialect) -> WordedRefusal {
        WordedRefusal::new(refusal, policy, dialect, Some("de"), ID)
    }

    /// Returns a policy with a German text, a code and a link.
    fn worded_policy() -> Policy {
        let entry: RefusalPolicy = serde_json::from_value(json!({
            "on": ["block"],
            "language": "de",
            "text": "Gesperrt. Widerspruch: {appeal}",
            "code": "usage_policy",
            "link": "https://help.example.com/?ref={appeal}",
        }))
        .unwrap();
        let mut policy = Policy { refusals: vec![entry], ..Policy::default() };
        policy.enforce.appeal_header = true;
        policy
    }

    #[test]
    fn without_words_the_built_in_text_names_the_request() {
        let policy = Policy::default();
        for kind in ALL {
            let worded = refusal(&policy, kind, Dialect::Gemini);
            assert_eq!((&worded.language, &worded.appeal), (&None, &None));
            let body = worded.body();
            assert_eq!(body["error"]["code"], kind.status());
            let message = body["error"]["message"].as_str().unwrap();
            assert_eq!(message, format!("{} Request id: {ID}", kind.message()));
            let delay = &body["error"]["details"][0]["retryDelay"];
            assert_eq!(delay.as_str(), (kind.status() == 429).then_some("30s"));
        }
    }

    #[test]
    fn each_dialect_has_the_words_in_its_own_members() {
        let policy = worded_policy();
        let link = format!("https://help.example.com/?ref={REFERENCE}");
        let text = format!("Gesperrt. Widerspruch: {REFERENCE} {link}");
        let body = |dialect| refusal(&policy, Refusal::Block, dialect).body();
        let openai = json!({ "error": {
            "message": text, "type": "permission_denied", "param": null, "code": "usage_policy",
            "request_id": ID,
        } });
        assert_eq!(body(Dialect::Openai), openai);
        let mut generic = openai;
        generic["message"] = json!(text);
        assert_eq!(body(Dialect::Generic), generic);
        let error = json!({ "type": "permission_error", "message": text });
        let anthropic = json!({ "type": "error", "error": error, "request_id": ID });
        assert_eq!(body(Dialect::Anthropic), anthropic);
        let google = body(Dialect::Gemini);
        assert_eq!(
            (&google["error"]["code"], &google["error"]["message"]),
            (&json!(403), &json!(text))
        );
        assert_eq!(google["error"]["status"], "PERMISSION_DENIED");
        let details = json!([
            { "@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": ID },
            { "@type": ERROR_INFO, "reason": "USAGE_POLICY", "domain": "help.example.com" },
            { "@type": HELP, "links": [{ "description": "Help", "url": link }] },
        ]);
        assert_eq!(google["error"]["details"], details);
    }

    #[test]
    fn the_domain_of_googles_reason_is_the_host_of_the_link() {
        let rows = [
            (Some("https://help.example.com"), Some("help.example.com")),
            (Some("https://help.example.com/appeal/{appeal}"), Some("help.example.com")),
            (Some("https://help.example.com?ref={appeal}"), Some("help.example.com")),
            (Some("https://help.example.com#{request_id}"), Some("help.example.com")),
            (Some("https://help.example.com:8443/?next=https://a/"), Some("help.example.com:8443")),
            (None, None),
        ];
        for (link, expected) in rows {
            let mut policy = worded_policy();
            policy.refusals[0].link = link.map(str::to_owned);
            let body = refusal(&policy, Refusal::Block, Dialect::Gemini).body();
            let details = body["error"]["details"].as_array().unwrap();
            let info = details.iter().find(|detail| detail["@type"] == ERROR_INFO);
            let domain = info.map(|info| info["domain"].as_str().unwrap());
            assert_eq!(domain, expected, "{link:?}");
        }
    }

    #[test]
    fn language_and_appeal_are_for_headers() {
        let policy = worded_policy();
        let worded = refusal(&policy, Refusal::Block, Dialect::Openai);
        assert_eq!(worded.language.as_deref(), Some("de"));
        assert_eq!(worded.appeal.as_deref(), Some(REFERENCE));
        let english = WordedRefusal::new(Refusal::Block, &policy, Dialect::Openai, None, ID);
        assert_eq!(english.language, None);
        assert!(english.body()["error"]["message"].as_str().unwrap().contains("not allowed"));
        // The entry is not for this refusal.
        let other = refusal(&policy, Refusal::Throttle, Dialect::Openai);
        assert_eq!((other.language, other.code), (None, None));
    }

    #[test]
    fn refusals_of_messages_fit_into_close_frames() {
        let policies = [Policy::default(), worded_policy()];
        for (policy, kind) in policies.iter().flat_map(|policy| ALL.map(|kind| (policy, kind))) {
            let worded = refusal(policy, kind, Dialect::Openai);
            let reason = worded.close_reason();
            assert!(reason.len() <= MAX_CLOSE_REASON, "{reason}");
            assert!(reason.contains(ID) || reason.contains(REFERENCE), "{reason}");
            let event = worded.event().unwrap();
            assert_eq!(
                (&event["type"], &event["status"], &event["event_id"]),
                (&json!("error"), &json!(kind.status()), &json!(format!("event_{ID}")))
            );
            assert_eq!(event["error"], worded.body()["error"]);
            assert_eq!(refusal(policy, kind, Dialect::Gemini).event(), None);
        }
        let mut policy = worded_policy();
        policy.refusals[0].text = Some("Gesperrt. ".repeat(13));
        let worded = refusal(&policy, Refusal::Block, Dialect::Openai);
        assert!(worded.close_reason().ends_with(&format!("Request id: {ID}")));
    }
}
