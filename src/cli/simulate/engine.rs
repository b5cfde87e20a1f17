//! The filter, as it is at the edge: requests are assessed, answered and counted.

use hedgerow::cluster::Clusters;
use hedgerow::correlate::{Firing, Judged, Local};
use hedgerow::hash::HashKey;
use hedgerow::policy::{Action, Band};
use hedgerow::{Client, Envelope, Ruleset};

use super::draft::Writer;

/// A ruleset, and what it has counted.
pub struct Engine<'r> {
    local: Local<'r>,
    key: HashKey,
}

/// What became of a request.
pub struct Verdict<'e> {
    /// Its band.
    pub band: Band,
    /// Whether it would be blocked, were the policy enforced.
    pub is_blocked: bool,
    /// What held, by its place in the ruleset.
    pub hits: Vec<usize>,
    /// Its account's hash.
    pub account: u64,
    /// What correlations hold since.
    pub firings: &'e [Firing],
}

impl<'r> Engine<'r> {
    /// With a ruleset, that correlates or does not.
    pub fn new(ruleset: &'r Ruleset, is_correlating: bool) -> Self {
        Self { local: Local::new(ruleset, is_correlating), key: HashKey::derive(b"simulation") }
    }

    /// The clusters so far.
    pub fn clusters(&self) -> &Clusters {
        self.local.clusters()
    }

    /// Assesses a request that an origin answers with `status`, and counts it.
    pub fn judge(
        &mut self,
        writer: &Writer,
        account: &str,
        now: u32,
        status: u16,
    ) -> Option<Verdict<'_>> {
        let program = writer.carrier()?;
        let path = if program.is_anthropic { "/v1/messages" } else { "/v1/chat/completions" };
        let envelope = Envelope {
            method: "POST",
            path,
            headers: &program.headers,
            body: writer.body.as_bytes(),
            body_size: Some(writer.body.len() as u64),
            client: Client {
                address: Some(&writer.address),
                as_number: Some(writer.network.system()),
                country: Some(writer.network.country()),
                http_version: Some("HTTP/2"),
                tls_version: Some("TLSv1.3"),
                tls_fingerprint: Some(&program.tls),
                ..Client::default()
            },
            account: Some(account),
            now: u64::from(now),
            key: self.key,
            ..Envelope::default()
        };
        let judged = self.local.judge(&envelope, status)?;
        let Judged { assessment, treatment, account } = judged;
        Some(Verdict {
            band: assessment.band,
            is_blocked: assessment.action(&treatment) == Action::Block,
            hits: assessment.hits.iter().map(|hit| hit.signature).collect(),
            account,
            firings: self.local.firings(),
        })
    }
}
