//! Runs the filter as at the edge: assesses simulated requests, and counts them for correlations.

use hedgerow_core::correlate::Firing;
use hedgerow_core::correlate::cluster::Clusters;
use hedgerow_core::engine::{Evaluation, LocalEngine};
use hedgerow_core::keyed_hash::HashKey;
use hedgerow_core::rules::policy::{Action, Band};
use hedgerow_core::{Client, Envelope, Ruleset};

use super::request_writer::RequestWriter;

/// A ruleset with the state of its correlations.
pub struct SimulationEngine<'r> {
    local_engine: LocalEngine<'r>,
    hash_key: HashKey,
}

/// The assessment of a request.
pub struct Verdict<'e> {
    pub band: Band,
    /// Whether the request would be blocked if the policy were enforced.
    pub is_blocked: bool,
    /// Indices of the signatures that held.
    pub hits: Vec<usize>,
    /// Hash of the account.
    pub account: u64,
    /// Correlations that began to hold with this request.
    pub firings: &'e [Firing],
}

impl<'r> SimulationEngine<'r> {
    /// Returns an engine without history. With `is_correlating`, indicators affect later requests.
    pub fn new(ruleset: &'r Ruleset, is_correlating: bool) -> Self {
        Self {
            local_engine: LocalEngine::new(ruleset, is_correlating),
            hash_key: HashKey::derive(b"simulation"),
        }
    }

    /// Returns the clusters so far.
    pub fn clusters(&self) -> &Clusters {
        self.local_engine.clusters()
    }

    /// Assesses the request in `writer`, and counts it with the response status of the origin.
    /// `now` is in seconds since the epoch. Returns `None` if the request is not an LLM call.
    pub fn evaluate(
        &mut self,
        writer: &RequestWriter,
        account: &str,
        tenant: Option<&str>,
        now: u32,
        status: u16,
    ) -> Option<Verdict<'_>> {
        let profile = writer.profile()?;
        let path = if profile.is_anthropic { "/v1/messages" } else { "/v1/chat/completions" };
        let envelope = Envelope {
            method: "POST",
            path,
            headers: &profile.headers,
            body: writer.body.as_bytes(),
            body_size: Some(writer.body.len() as u64),
            client: Client {
                address: Some(&writer.address),
                as_number: Some(writer.network.as_number()),
                country: Some(writer.network.country()),
                http_version: Some("HTTP/2"),
                tls_version: Some("TLSv1.3"),
                tls_fingerprint: Some(&profile.tls_fingerprint),
                ..Client::default()
            },
            account: Some(account),
            tenant,
            now: u64::from(now),
            hash_key: self.hash_key,
            ..Envelope::default()
        };
        let evaluation = self.local_engine.evaluate(&envelope, status)?;
        let Evaluation { assessment, action, account, .. } = evaluation;
        Some(Verdict {
            band: assessment.band,
            is_blocked: action == Action::Block,
            hits: assessment.hits.iter().map(|hit| hit.signature).collect(),
            account,
            firings: self.local_engine.firings(),
        })
    }
}
