//! The decision: what is done with a request, why, and by which rules. The record that is logged.

use serde::Serialize;

use crate::correlate::Observation;
use crate::evaluate::score::{Contribution, Score};
use crate::extract::ReadIssues;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::matching::{Evidence, Hit};
use crate::rules::policy::{Action, Band, Disposition, Mode};
use crate::rules::signature::Status;
use crate::ruleset::Ruleset;

/// What scoring found.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// What was called.
    pub endpoint: Endpoint,
    /// The score.
    pub score: Score,
    /// Its band.
    pub band: Band,
    /// The signatures that held, experimental ones too.
    pub hits: Vec<Hit>,
    /// What was not read.
    pub issues: ReadIssues,
    /// Requests in the body.
    pub entries: usize,
    /// The exemption that applies.
    pub exemption_name: Option<String>,
    /// Whether it allows the request whatever its score.
    pub is_exempt: bool,
    /// What is to be counted, where anything is.
    pub observation: Option<Observation>,
    /// The model that was asked for.
    pub model: Option<String>,
}

impl Assessment {
    /// What is done, or would be.
    pub fn action(&self, disposition: &Disposition) -> Action {
        if self.is_exempt { Action::Allow } else { disposition.actions.action(self.band) }
    }

    /// The cluster of an indicator that was hit, as it is shown.
    pub fn cluster_id(&self, envelope: &Envelope<'_>) -> Option<String> {
        let indicators = envelope.indicators?;
        let keys = self.hits.iter().filter_map(|hit| hit.indicator_key);
        let cluster_ids = keys
            .flat_map(|key| indicators.active(key, envelope.now))
            .map(|indicator| indicator.cluster);
        cluster_ids
            .into_iter()
            .find(|cluster| *cluster != 0)
            .map(|cluster| format!("{cluster:08x}"))
    }
}

/// What is done with a request, and the proof.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// The account, as a keyed hash.
    pub account: Option<String>,
    /// The cluster of an indicator that was hit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The wire format.
    pub dialect: &'static str,
    /// The operation.
    pub operation: &'static str,
    /// From 0 to 100.
    pub score: f64,
    /// Decibans before any evidence.
    pub prior: f64,
    /// Decibans of evidence, after caps.
    pub evidence: f64,
    /// What each family contributed.
    pub contributions: Vec<Contribution>,
    /// The score's band.
    pub band: Band,
    /// What is done, or would be.
    pub action: Action,
    /// Whether it is done.
    pub mode: Mode,
    /// Signatures that count, with weight and proof.
    pub hits: Vec<DecisionHit>,
    /// Experimental signatures that held.
    pub shadow_hits: Vec<String>,
    /// The exemption that applies.
    pub exemption: Option<String>,
    /// Digest of the ruleset.
    pub ruleset: String,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes that were not scanned.
    pub unscanned_bytes: u64,
    /// Why parts were not read.
    pub unreadable: Vec<&'static str>,
    /// Requests in the body.
    pub entries: usize,
}

/// A signature that held, as it is logged.
#[derive(Clone, Debug, Serialize)]
pub struct DecisionHit {
    /// The signature.
    pub name: String,
    /// Its family: weights of one are capped together.
    pub family: String,
    /// Its weight in decibans.
    pub weight: f64,
    /// Fields and byte ranges; never text.
    pub evidence: Vec<Evidence>,
    /// The key that a correlation held for, where it is an indicator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl Decision {
    /// Decides by the ruleset's policy.
    pub fn new(
        ruleset: &Ruleset,
        envelope: &Envelope<'_>,
        assessment: Assessment,
        disposition: Disposition,
    ) -> Self {
        let cluster = assessment.cluster_id(envelope);
        let action = assessment.action(&disposition);
        let mut hits = Vec::new();
        let mut shadow_hits = Vec::new();
        for hit in assessment.hits {
            let Some(signature) = ruleset.signatures().get(hit.signature) else { continue };
            if signature.status == Status::Experimental {
                shadow_hits.push(signature.name.clone());
            } else {
                let (name, family) = (signature.name.clone(), signature.family.clone());
                let key = hit.indicator_key.map(|key| format!("{key:016x}"));
                let (weight, evidence) = (signature.weight, hit.evidence);
                hits.push(DecisionHit { name, family, weight, evidence, key });
            }
        }
        Self {
            account: envelope.account.map(str::to_owned),
            cluster,
            dialect: assessment.endpoint.dialect().name(),
            operation: assessment.endpoint.operation(),
            score: assessment.score.probability,
            prior: assessment.score.prior,
            evidence: assessment.score.evidence,
            contributions: assessment.score.contributions,
            band: assessment.band,
            action,
            mode: disposition.mode,
            hits,
            shadow_hits,
            exemption: assessment.exemption_name,
            ruleset: ruleset.digest().to_owned(),
            body_bytes: envelope.body_size.unwrap_or(envelope.body.len() as u64),
            unscanned_bytes: envelope.unscanned_bytes,
            unreadable: assessment.issues.names().collect(),
            entries: assessment.entries,
        }
    }

    /// Whether the action is carried out.
    pub fn is_enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// The names of the hits, heaviest first, for a header.
    pub fn hit_names(&self) -> String {
        let mut hits: Vec<&DecisionHit> = self.hits.iter().collect();
        hits.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let names: Vec<&str> =
            hits.into_iter().take(MAX_HEADER_HITS).map(|hit| hit.name.as_str()).collect();
        names.join(",")
    }
}

/// Names that a header holds at most: 32 names of some 40 bytes stay far below header limits.
const MAX_HEADER_HITS: usize = 32;
