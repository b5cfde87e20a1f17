//! A ruleset: validated and compiled. The only thing that can match.

mod bundle;
mod compile;

pub use bundle::{Bundle, FORMAT, digest};

use crate::decision::Assessment;
use crate::error::Error;
use crate::matcher::{Hit, Program};
use crate::policy::{Exemption, Policy};
use crate::request::{self, Body, Envelope, Trouble};
use crate::route::Endpoint;
use crate::score::Score;
use crate::signature::{Signature, Status};

/// Compiled signatures and the policy over them.
#[derive(Debug)]
pub struct Ruleset {
    digest: String,
    policy: Policy,
    signatures: Vec<Signature>,
    program: Program,
}

impl Ruleset {
    /// Compiles a bundle's bytes.
    pub fn load(bundle: &[u8]) -> Result<Self, Error> {
        Self::new(Bundle::parse(bundle)?, bundle::digest(bundle))
    }

    /// Compiles a bundle that goes by `digest`.
    pub fn new(bundle: Bundle, digest: String) -> Result<Self, Error> {
        let Bundle { policy, mut signatures, .. } = bundle;
        for own in &policy.signatures {
            signatures.retain(|signature| !(own.off && signature.name == own.name));
            let named = signatures.iter_mut().find(|signature| signature.name == own.name);
            if let (Some(signature), Some(weight)) = (named, own.weight) {
                signature.weight = weight;
            }
        }
        let program = compile::compile(&signatures)?;
        Ok(Self { digest, policy, signatures, program })
    }

    /// SHA-256 of the bundle, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The signatures in force.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// The compiled tests.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Scores what an HTTP request asks of the model; `None` where it is no LLM call. Of an upload's
    /// requests the gravest speaks for all.
    pub fn assess(&self, envelope: &Envelope<'_>) -> Option<Assessment> {
        let endpoint = self.endpoint(envelope)?;
        let encoding = envelope.headers.iter().find(|(name, _)| name == "content-encoding");
        let body =
            Body::new(envelope.body, encoding.map(|(_, value)| value.as_str()), &self.policy.scan);
        let mut gravest: Option<Assessment> = None;
        let mut matcher = self.program.matcher();
        let headers = self.program.headers(envelope.headers);
        let entries =
            request::read(envelope, endpoint, &body, &self.policy.scan, &mut |request| {
                let hits = matcher.hits(request, &headers);
                let mut trouble = request.trouble();
                if matcher.is_spent() {
                    trouble.add(Trouble::COSTLY);
                }
                let assessment = self.score(envelope, endpoint, hits, trouble);
                if gravest.as_ref().is_none_or(|known| assessment.score.value > known.score.value) {
                    gravest = Some(assessment);
                }
            })?;
        let mut assessment =
            gravest.unwrap_or_else(|| self.score(envelope, endpoint, Vec::new(), body.trouble));
        assessment.entries = entries;
        if entries >= self.policy.scan.entries {
            assessment.trouble.add(Trouble::ENTRIES);
        }
        Some(assessment)
    }

    /// The endpoint that an HTTP request calls; `None` where it is no LLM call.
    pub fn endpoint(&self, envelope: &Envelope<'_>) -> Option<Endpoint> {
        // WebSocket handshakes are GET. An `Upgrade` header on a POST means nothing, and is no way past.
        if envelope.method != "POST" {
            return None;
        }
        Some(self.policy.endpoint(envelope.path)).filter(|endpoint| *endpoint != Endpoint::None)
    }

    fn score(
        &self,
        envelope: &Envelope<'_>,
        endpoint: Endpoint,
        mut hits: Vec<Hit>,
        trouble: Trouble,
    ) -> Assessment {
        let exemptions: Vec<&Exemption> =
            self.policy.exemptions(envelope.path, envelope.account, envelope.now).collect();
        let sets_aside = |exemption: &Exemption, signature: &Signature| {
            exemption.signatures.contains(&signature.name)
        };
        let hit_signatures = || hits.iter().filter_map(|hit| self.signatures.get(hit.signature));
        let counted = hit_signatures().filter(|signature| {
            signature.status != Status::Experimental
                && !exemptions.iter().any(|exemption| sets_aside(exemption, signature))
        });
        let weights = counted.map(|signature| (signature.family.as_str(), signature.weight));
        let score = Score::new(weights, &self.policy.score);
        let applies = |exemption: &&&Exemption| {
            exemption.signatures.is_empty()
                || hit_signatures().any(|signature| sets_aside(exemption, signature))
        };
        let exemption = exemptions.iter().find(applies).map(|exemption| exemption.name.clone());
        hits.retain(|hit| {
            let signature = self.signatures.get(hit.signature);
            signature.is_none_or(|signature| {
                !exemptions.iter().any(|exemption| sets_aside(exemption, signature))
            })
        });
        Assessment {
            endpoint,
            band: self.policy.bands.of(score.value),
            score,
            trouble,
            entries: 1,
            exemption,
            exempt: exemptions.iter().any(|exemption| exemption.signatures.is_empty()),
            hits,
        }
    }
}
