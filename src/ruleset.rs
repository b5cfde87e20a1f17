//! A ruleset: validated and compiled. The only thing that can match.

mod bundle;
mod compile;
mod diff;
pub mod list;
mod observe;
pub mod release;

pub use bundle::{
    Bundle, FORMAT, MAX_BYTES, MAX_MEMORY, MAX_NUMBER, MAX_SIGNATURES, digest, is_digest, short,
};
pub use diff::{Diff, ListChange, Setting, WeightChange};
pub use list::List;
pub use release::Release;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::correlate::{Observation, Plan};
use crate::correlation::Correlation;
use crate::decision::Assessment;
use crate::error::Error;
use crate::matcher::{Hit, Program};
use crate::policy::{Exemption, Policy};
use crate::request::{self, Body, Envelope, Request, Trouble};
use crate::route::Endpoint;
use crate::score::Score;
use crate::signature::{Condition, Signature, Status};
use list::Lists;

/// Compiled signatures and the policy over them.
#[derive(Debug)]
pub struct Ruleset {
    digest: String,
    /// Bytes of the bundle.
    bytes: usize,
    policy: Policy,
    /// Signatures, behind them the lists, and then the correlations.
    signatures: Vec<Signature>,
    program: Program,
    lists: Lists,
    plan: Arc<Plan>,
    /// The place in the plan of each signature that is an event there.
    events: Vec<Option<u16>>,
    /// The signatures that are tested once a request has been answered.
    outcomes: Vec<usize>,
}

impl Ruleset {
    /// Compiles a bundle's bytes.
    pub fn load(bundle: &[u8]) -> Result<Self, Error> {
        let ruleset = Self::new(Bundle::parse(bundle)?, bundle::digest(bundle))?;
        Ok(Self { bytes: bundle.len(), ..ruleset })
    }

    /// Compiles a bundle that goes by `digest`.
    pub fn new(bundle: Bundle, digest: String) -> Result<Self, Error> {
        let Bundle { policy, mut signatures, lists, correlations, .. } = bundle;
        policy.check()?;
        signatures.retain(|signature| !policy.is_off(&signature.name));
        let lists: Vec<List> =
            lists.into_iter().filter(|list| !policy.is_off(&list.name)).collect();
        let program = compile::compile(&signatures)?;
        let compiled = Lists::new(&lists)?;
        let plan = plan(correlations, &signatures, &policy)?;
        let place = |name: &String| plan.rules().iter().position(|rule| rule == name);
        // What is experimental weighs nothing, through correlations either.
        let event = |own: &Signature| {
            let place = place(&own.name).filter(|_| own.status != Status::Experimental)?;
            u16::try_from(place).ok()
        };
        let events = signatures.iter().map(event).collect();
        let outcomes = signatures.iter().enumerate().filter(|(_, own)| observe::is_outcome(own));
        let outcomes = outcomes.map(|(place, _)| place).collect();
        signatures.extend(lists.into_iter().map(listed));
        signatures.extend(plan.correlations().iter().map(correlated));
        for own in &policy.signatures {
            let named = signatures.iter_mut().find(|signature| signature.name == own.name);
            if let (Some(signature), Some(weight)) = (named, own.weight) {
                signature.weight = weight;
            }
        }
        let (bytes, lists, plan) = (0, compiled, Arc::new(plan));
        Ok(Self { digest, bytes, policy, signatures, program, lists, plan, events, outcomes })
    }

    /// Compiles what is otherwise compiled on first need, so that nothing is found out later: every
    /// regex, within bounds for all of them together.
    pub fn check(&self) -> Result<(), Error> {
        self.checks().collect()
    }

    /// The same in steps of about half a millisecond, for a host that has something else to do. What is
    /// wrong ends it.
    pub fn checks(&self) -> impl Iterator<Item = Result<(), Error>> {
        self.program.checks()
    }

    /// SHA-256 of the bundle, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Bytes of the bundle that it was loaded from; 0 where it was made of none.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The signatures in force; behind them the lists and the correlations, which have neither selections
    /// nor a condition.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// What is to be counted over requests.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
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
        let mut observed: Option<(f64, Observation)> = None;
        let mut number = 0_usize;
        let mut matcher = self.program.matcher();
        let headers = self.program.headers(envelope.headers);
        let listed = self.listed(envelope);
        let entries =
            request::read(envelope, endpoint, &body, &self.policy.scan, &mut |request| {
                let mut hits = matcher.hits(request, &headers);
                hits.extend_from_slice(&listed);
                hits.extend(self.listed_template(request, envelope));
                let mut trouble = request.trouble();
                if matcher.is_spent() {
                    trouble.add(Trouble::COSTLY);
                }
                let mut assessment = self.score(envelope, endpoint, hits, trouble);
                let known = gravest.as_ref().map(|known| known.score.value);
                let is_graver = known.is_none_or(|known| assessment.score.value > known);
                let is_counted = number < OBSERVED || is_graver;
                let observation = self.correlate(envelope, request, &mut assessment, is_counted);
                number = number.saturating_add(1);
                let score = assessment.score.value;
                if let Some(observation) = observation
                    && observed.as_ref().is_none_or(|(known, _)| score > *known)
                {
                    observed = Some((score, observation));
                }
                if gravest.as_ref().is_none_or(|known| assessment.score.value > known.score.value) {
                    assessment.model = request.model().map(str::to_owned);
                    gravest = Some(assessment);
                }
            })?;
        let mut assessment =
            gravest.unwrap_or_else(|| self.score(envelope, endpoint, listed, body.trouble));
        assessment.entries = entries;
        assessment.observation = observed.map(|(_, observation)| observation);
        if entries >= self.policy.scan.entries {
            assessment.trouble.add(Trouble::ENTRIES);
        }
        Some(assessment)
    }

    /// What correlation keeps of a request that is no HTTP request: an exemplar's.
    #[cfg(feature = "sigma")]
    pub(crate) fn observe(
        &self,
        matcher: &mut crate::matcher::Matcher<'_>,
        request: &Request<'_>,
        headers: &[(String, String)],
        now: u32,
    ) -> Observation {
        let indicators = Some(&crate::indicator::Indicators::default());
        let envelope = Envelope { headers, now: u64::from(now), indicators, ..Envelope::default() };
        let hits = matcher.hits(request, &self.program.headers(headers));
        let mut assessment = self.score(&envelope, Endpoint::Generic, hits, Trouble::default());
        self.correlate(&envelope, request, &mut assessment, true).unwrap_or_default()
    }

    /// What correlation keeps of a request, if it is counted, and the indicators that it meets: those
    /// are added to its assessment. Who is exempt from everything counts for nothing either.
    fn correlate(
        &self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        assessment: &mut Assessment,
        is_counted: bool,
    ) -> Option<Observation> {
        let is_counted = is_counted
            && envelope.indicators.is_some()
            && !self.plan.is_empty()
            && !assessment.exempt;
        let observe =
            || self.observation(envelope, request, &assessment.hits, assessment.score.evidence);
        let observation = is_counted.then(observe);
        // What only selects requests for correlations is no evidence.
        assessment.hits.retain(|hit| {
            self.signatures.get(hit.signature).is_none_or(|own| own.family != TRAFFIC)
        });
        let observation = observation?;
        let indicated = self.indicated(envelope, &observation);
        if !indicated.is_empty() {
            let Assessment { endpoint, trouble, .. } = *assessment;
            let mut hits = std::mem::take(&mut assessment.hits);
            hits.extend(indicated);
            let exemption = assessment.exemption.take();
            *assessment = self.score(envelope, endpoint, hits, trouble);
            // What it set aside before is gone from the hits.
            assessment.exemption = exemption.or(assessment.exemption.take());
        }
        Some(observation)
    }

    /// The endpoint that an HTTP request calls; `None` where it is no LLM call.
    pub fn endpoint(&self, envelope: &Envelope<'_>) -> Option<Endpoint> {
        // WebSocket handshakes are GET. An `Upgrade` header on a POST means nothing, and is no way past.
        if envelope.method != "POST" {
            return None;
        }
        Some(self.policy.endpoint(envelope.path)).filter(|endpoint| *endpoint != Endpoint::None)
    }

    /// The place of the first correlation among the signatures.
    pub fn first_correlation(&self) -> usize {
        self.signatures.len().saturating_sub(self.plan.correlations().len())
    }

    /// Whether the signature at this place is a list.
    pub(crate) fn is_list(&self, signature: usize) -> bool {
        (self.program.conditions.len()..self.first_correlation()).contains(&signature)
    }

    /// Whether it is a correlation.
    pub(crate) fn is_correlation(&self, signature: usize) -> bool {
        signature >= self.first_correlation()
    }

    /// The lists that the client or the account is on.
    pub(crate) fn listed(&self, envelope: &Envelope<'_>) -> Vec<Hit> {
        self.list_hits(self.lists.hits(envelope)).collect()
    }

    /// The lists that a template of the request is on.
    pub(crate) fn listed_template(
        &self,
        request: &Request<'_>,
        envelope: &Envelope<'_>,
    ) -> impl Iterator<Item = Hit> {
        self.list_hits(self.lists.template_hits(request, envelope))
    }

    fn list_hits(&self, hits: Vec<list::ListHit>) -> impl Iterator<Item = Hit> {
        let first = self.program.conditions.len();
        hits.into_iter().map(move |(list, evidence)| Hit {
            signature: first.saturating_add(list),
            evidence: vec![evidence],
            key: None,
        })
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
            observation: None,
            model: None,
        }
    }
}

/// Compiles correlations by the policy's weights, without those that it has switched off, or that
/// cannot do without a rule that is off.
pub(crate) fn plan(
    mut correlations: Vec<Correlation>,
    signatures: &[Signature],
    policy: &Policy,
) -> Result<Plan, Error> {
    for own in &policy.signatures {
        let named = correlations.iter_mut().find(|correlation| correlation.name == own.name);
        if let (Some(correlation), Some(weight)) = (named, own.weight) {
            correlation.weight = weight;
        }
    }
    let off = policy.signatures.iter().filter(|own| own.off);
    let mut off: BTreeSet<String> = off.map(|own| own.name.clone()).collect();
    // Each that goes may take others along.
    loop {
        let known = off.len();
        correlations.retain_mut(|correlation| {
            let stays = !off.contains(&correlation.name) && correlation.do_without(&off);
            if !stays {
                off.insert(correlation.name.clone());
            }
            stays
        });
        if off.len() == known {
            break;
        }
    }
    let names = signatures.iter().map(|signature| signature.name.as_str()).collect();
    Plan::new(correlations, &names)
}

/// A correlation as the signature that its indicators are.
fn correlated(correlation: &Correlation) -> Signature {
    Signature {
        name: correlation.name.clone(),
        id: correlation.id.clone(),
        title: correlation.title.clone(),
        family: correlation.family.clone(),
        status: correlation.status,
        weight: correlation.weight,
        selections: std::collections::BTreeMap::new(),
        condition: Condition::Any(Vec::new()),
    }
}

/// Requests of an upload that correlation looks at, beside each that is graver than those before:
/// sketching all of ten thousand would cost as much as matching them does.
const OBSERVED: usize = 64;

/// The family of signatures that weigh nothing, and only select requests for correlations.
pub const TRAFFIC: &str = "traffic";

/// A list as the signature that it is: one without a condition that could hold by itself.
fn listed(list: List) -> Signature {
    Signature {
        name: list.name,
        id: String::new(),
        title: list.title,
        family: list::FAMILY.to_owned(),
        status: Status::Stable,
        weight: list.weight,
        selections: std::collections::BTreeMap::new(),
        condition: Condition::Any(Vec::new()),
    }
}
