//! Large bodies, which were read only in part: they are streamed to the origin, but their end is
//! held back until it is scored.

use hedgerow_core::completeness::UnscoredReasons;
use hedgerow_core::http::body::is_identity;
use hedgerow_core::{Decision, Envelope};
use web_sys::Response;

use super::{Enforcement, LlmCall, Observed};
use crate::isolate::indicators;
use crate::isolate::principals::OriginNames;
use crate::platform::panic::catch_panic;
use crate::request::body_memory::MemoryLease;
use crate::request::request_body::RequestBody;
use crate::request::response::RequestError;
use crate::request::tag;
use crate::request::upload_gate::{BodyEnd, Gate, GateHandle};

impl LlmCall<'_> {
    /// Enforces the decision about the beginning of a body whose end cannot be scored, because too
    /// many ends are held back.
    pub(super) async fn enforce_without_end(
        &self,
        beginning: &Decision,
        observed: Observed,
        body: RequestBody,
    ) -> Result<Response, RequestError> {
        let mut decision = beginning.clone();
        decision.add_unscored(UnscoredReasons::CROWDED, self.ruleset.policy());
        let enforcement = self.enforcement(&decision, &body);
        self.enforce_now(&decision, observed, body, enforcement).await
    }

    /// Returns whether the end of a body is to be read and scored: only its beginning was read, it
    /// may be JSON, and it is not compressed.
    pub(super) fn must_score_end(&self, body: &RequestBody) -> bool {
        let encoding = self.upstream.request.header("content-encoding");
        body.is_large_json() && is_identity(encoding)
    }

    /// Sends a large body to the origin while it arrives, and holds its end back until the end is
    /// scored. The beginning and the end are scored separately; the higher score decides. The
    /// decision is logged when the end has arrived. Such a body is not degraded: the request is
    /// refused, or forwarded unchanged. `memory` is the lease for the end.
    pub(super) async fn enforce_large(
        &self,
        beginning: &Decision,
        mut observed: Observed,
        body: RequestBody,
        memory: MemoryLease,
    ) -> Result<Response, RequestError> {
        let headers = self.tagged_headers(Some(beginning))?;
        let shadow_decision = self.score_by_shadow(&body, beginning, None);
        let size = body.scanned().len() as u64;
        let (gate, handle) = Gate::new(body.read_bytes(), memory);
        let upstream_body =
            body.into_upstream_body(Some(gate)).map_err(|_| RequestError::InvalidRequest)?;
        let in_flight = self.upstream.start(&headers, upstream_body)?;
        drop(headers);
        let GateHandle { end, may_forward } = handle;
        let mut decision = beginning.clone();
        if let Ok(end) = end.await {
            decision = self.decision_with_end(decision, &mut observed, size, &end);
        }
        let enforcement = self.enforcement_unedited(&decision);
        let model = observed.model.as_deref();
        self.record(&decision, model, shadow_decision.as_ref(), &enforcement, None);
        let Enforcement { action, refusal, .. } = enforcement;
        let (response, names) = match refusal {
            Some(refusal) => {
                drop(may_forward);
                (self.refuse(refusal), OriginNames::default())
            }
            None => {
                let _ = may_forward.send(true);
                self.split_answer(self.upstream.finish(in_flight).await?)
            }
        };
        self.queue_observation(observed.observation, response.status(), action, &names);
        if self.settings.is_development {
            tag::set_debug_headers(&response.headers(), &decision);
        }
        Ok(response)
    }

    /// Scores the end of a large body, of which `beginning_bytes` were scored already. Returns the
    /// decision with the higher score. If `end` contains the whole body, returns the decision about
    /// the whole body, and sets `observed` to the data of this decision.
    fn decision_with_end(
        &self,
        beginning: Decision,
        observed: &mut Observed,
        beginning_bytes: u64,
        end: &BodyEnd,
    ) -> Decision {
        let indicators = indicators::current();
        let end_bytes = (end.json.len() - end.opening_bytes) as u64;
        let end_start = end.body_bytes.saturating_sub(end_bytes);
        let left_out_bytes = end_start.saturating_sub(beginning_bytes);
        let after_bytes = u64::from(end.read_stop.is_some());
        // If the upload stopped, fewer bytes than declared have arrived.
        let body_bytes = beginning.body_bytes.max(end.body_bytes);
        let envelope = Envelope {
            body: &end.json,
            body_size: Some(body_bytes),
            unscanned_bytes: left_out_bytes.saturating_add(after_bytes),
            read_stop: end.read_stop,
            ..self.envelope_without_body(&indicators)
        };
        let scored = catch_panic(|| self.decide(&envelope)).flatten();
        let mut decision = match scored {
            Some((decision, all_observed)) if end_start == 0 && after_bytes == 0 => {
                *observed = all_observed;
                decision
            }
            Some((mut decision, _)) if decision.score > beginning.score => {
                decision.move_evidence(end_start, end.opening_bytes as u64);
                decision
            }
            _ => beginning,
        };
        decision.body_bytes = body_bytes;
        decision.unscanned_bytes = match end.read_stop {
            Some(_) => left_out_bytes + body_bytes.saturating_sub(end.body_bytes).max(1),
            None => left_out_bytes,
        };
        let scan_window = self.ruleset.policy().scan.scan_window as u64;
        if left_out_bytes == 0 && beginning_bytes.max(end_bytes) <= scan_window {
            // The whole body was scored: no byte was left out between the beginning and the end,
            // and both fit into the scan window.
            decision.unscored.retain(|reason| *reason != "window");
        }
        let reason = end.read_stop.map_or(UnscoredReasons::empty(), UnscoredReasons::from);
        decision.add_unscored(reason, self.ruleset.policy());
        let scored_bytes = decision.body_bytes.saturating_sub(decision.unscanned_bytes) as f64;
        decision.scored_share = Some(scored_bytes / decision.body_bytes.max(1) as f64);
        decision
    }
}
