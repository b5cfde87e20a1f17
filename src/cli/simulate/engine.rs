//! The filter, as it is at the edge: requests are assessed, answered and counted.

use hedgerow::correlate::{Firing, Local};
use hedgerow::hash::HashKey;
use hedgerow::indicator::Indicators;
use hedgerow::policy::{Action, Band, Mode};
use hedgerow::{Client, Envelope, Ruleset};

use super::draft::Writer;

/// A ruleset, and what it has counted.
pub struct Engine<'r> {
    ruleset: &'r Ruleset,
    local: Option<Local>,
    key: HashKey,
    none: Indicators,
}

/// What became of a request.
pub struct Verdict<'e> {
    /// Its band.
    pub band: Band,
    /// Whether it would be blocked, were the policy enforced.
    pub is_blocked: bool,
    /// What held, by its place in the ruleset.
    pub hits: Vec<usize>,
    /// Its account's hash; 0 where nothing is counted.
    pub account: u64,
    /// What correlations hold since.
    pub firings: &'e [Firing],
}

impl<'r> Engine<'r> {
    /// With a ruleset, that correlates or does not.
    pub fn new(ruleset: &'r Ruleset, is_correlating: bool) -> Self {
        let correlate = &ruleset.policy().correlate;
        let memory = correlate.memory.saturating_mul(correlate.shards as usize);
        let local = is_correlating.then(|| Local::new(ruleset.plan().clone(), memory));
        let key = HashKey::derive(b"simulation");
        Self { ruleset, local, key, none: Indicators::default() }
    }

    /// What correlations have learnt.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_ref()
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
            indicators: Some(self.local.as_ref().map_or(&self.none, Local::indicators)),
            ..Envelope::default()
        };
        let assessment = self.ruleset.assess(&envelope)?;
        let treatment = self.ruleset.policy().treatment(path, Some(account));
        let action = match assessment.exempt {
            true => Action::Allow,
            false => treatment.actions.of(assessment.band),
        };
        let done = if treatment.mode == Mode::Enforce { action } else { Action::Allow };
        let hits = assessment.hits.iter().map(|hit| hit.signature).collect();
        let mut observation = assessment.observation;
        if let Some(observation) = &mut observation {
            self.ruleset.conclude(observation, &self.key, status, done);
        }
        let account = observation.as_ref().map_or(0, |observation| observation.account());
        let firings = match (&mut self.local, observation) {
            (Some(local), Some(observation)) => local.observe(&observation, now),
            _ => &[],
        };
        let is_blocked = action == Action::Block;
        Some(Verdict { band: assessment.band, is_blocked, hits, account, firings })
    }
}
