//! The ruleset: a validated and compiled bundle. [`crate::evaluate`] evaluates requests with it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::correlate::Plan;
use crate::error::Error;
use crate::extract::Request;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::http::{body, route, websocket};
use crate::matching::{Hit, Program, compile};
use crate::rules::bundle;
pub use crate::rules::bundle::{
    BUNDLE_FORMAT, Bundle, MAX_BUNDLE_BYTES, MAX_COMPILE_BYTES, MAX_SAFE_INTEGER, MAX_SIGNATURES,
    content_digest, digest, is_digest, short_digest,
};
use crate::rules::concept::Concept;
use crate::rules::correlation::{Attribution, Correlation};
pub use crate::rules::diff::{ConceptChange, Diff, ListChange, SettingChange, WeightChange};
pub use crate::rules::list::List;
use crate::rules::list::{self, CompiledLists};
use crate::rules::policy::{Policy, UnknownTreatment};
pub use crate::rules::release::Release;
use crate::rules::signature::{Condition, Signature, Status};
use crate::seeds::CompiledSeeds;

/// Compiled rules with their policy.
#[derive(Debug)]
pub struct Ruleset {
    pub(crate) digest: String,
    /// Bytes of the bundle; 0 if it was not loaded from bytes.
    bundle_bytes: usize,
    pub(crate) policy: Policy,
    /// Signatures, then lists, then correlations.
    pub(crate) signatures: Vec<Signature>,
    concepts: Vec<Concept>,
    pub(crate) program: Program,
    pub(crate) lists: CompiledLists,
    pub(crate) seeds: CompiledSeeds,
    pub(crate) plan: Arc<Plan>,
    /// For each signature, its index in the plan if a correlation counts the signature; `None` if
    /// no correlation does, or if the signature is experimental.
    pub(crate) event_index: Vec<Option<u16>>,
    /// Indices of the signatures that test the response.
    pub(crate) response_signatures: Vec<usize>,
}

impl Ruleset {
    /// Parses and compiles a bundle.
    ///
    /// Returns an error if the bundle is malformed or exceeds a limit. Regexes are compiled on
    /// first use, or by [`Self::compile_regexes`].
    pub fn load(bundle: &[u8]) -> Result<Self, Error> {
        let ruleset = Self::new(Bundle::parse(bundle)?, bundle::digest(bundle))?;
        Ok(Self { bundle_bytes: bundle.len(), ..ruleset })
    }

    /// Compiles a parsed bundle, identified by `digest`. Returns an error if a part of the bundle
    /// is invalid or exceeds a limit.
    pub fn new(bundle: Bundle, digest: String) -> Result<Self, Error> {
        let Bundle { policy, mut signatures, concepts, lists, correlations, seeds, .. } = bundle;
        policy.validate()?;
        signatures.retain(|signature| !policy.is_disabled(&signature.name));
        let lists: Vec<List> =
            lists.into_iter().filter(|list| !policy.is_disabled(&list.name)).collect();
        let program = compile::compile(&signatures, &concepts)?;
        let compiled_lists = CompiledLists::new(&lists)?;
        let seeds = CompiledSeeds::new(&seeds)?;
        let plan = compile_plan(correlations, &signatures, &policy)?;
        let rule_index = |name: &String| plan.signatures().iter().position(|rule| rule == name);
        // Experimental signatures add nothing to scores, so they must not count through
        // correlations, either.
        let to_event_index = |signature: &Signature| {
            let index =
                rule_index(&signature.name).filter(|_| signature.status != Status::Experimental)?;
            u16::try_from(index).ok()
        };
        let event_index = signatures.iter().map(to_event_index).collect();
        let response_signatures =
            signatures.iter().enumerate().filter(|(_, signature)| signature.tests_only_response());
        let response_signatures = response_signatures.map(|(index, _)| index).collect();
        signatures.extend(lists.into_iter().map(list_as_signature));
        signatures.extend(plan.correlations().iter().map(correlation_as_signature));
        for signature_override in &policy.signatures {
            let target =
                signatures.iter_mut().find(|signature| signature.name == signature_override.name);
            if let (Some(signature), Some(weight)) = (target, signature_override.weight) {
                signature.weight = weight;
            }
        }
        Ok(Self {
            digest,
            bundle_bytes: 0,
            policy,
            signatures,
            concepts,
            program,
            lists: compiled_lists,
            seeds,
            plan: Arc::new(plan),
            event_index,
            response_signatures,
        })
    }

    /// Compiles every regex to find errors early. Otherwise, a regex is compiled on first use.
    ///
    /// Returns an error if a regex does not compile, or if all together exceed the memory limit.
    pub fn compile_regexes(&self) -> Result<(), Error> {
        self.compile_regexes_stepwise().collect()
    }

    /// Compiles every regex in steps of about half a millisecond, so that a host can do other work
    /// in between. Stop at the first error.
    pub fn compile_regexes_stepwise(&self) -> impl Iterator<Item = Result<(), Error>> {
        self.program.compile_regexes_stepwise()
    }

    /// Returns the SHA-256 of the bundle, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Returns the bytes of the bundle; 0 if it was not loaded from bytes.
    pub fn bundle_bytes(&self) -> usize {
        self.bundle_bytes
    }

    /// Returns the policy of the bundle.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Returns the enabled signatures, then the lists and the correlations, which have no
    /// selections and a condition that never holds. Indices of hits refer to this order.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Returns the concepts that the signatures name.
    pub fn concepts(&self) -> &[Concept] {
        &self.concepts
    }

    /// Returns the ruleset with other sets of known prompts.
    pub fn with_seeds(self, seeds: CompiledSeeds) -> Self {
        Self { seeds, ..self }
    }

    /// Returns the sets of known prompts.
    pub fn seeds(&self) -> &CompiledSeeds {
        &self.seeds
    }

    /// Returns the plan of the correlations.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Returns the compiled signatures.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// Returns the endpoint that a request calls; `None` if the request is not an LLM call.
    ///
    /// Returns [`Endpoint::Unknown`] for an unknown path if the body may be JSON and the policy
    /// requires that it is read. For the handshake of a WebSocket, returns the format of its
    /// messages. A message of a WebSocket has the envelope of the handshake, with the message as
    /// its body.
    pub fn endpoint(&self, envelope: &Envelope<'_>) -> Option<Endpoint> {
        // WebSocket handshakes are GET. An `Upgrade` header on a POST has no meaning and is
        // ignored.
        if websocket::is_handshake(envelope) {
            return self.policy.websocket_endpoint(envelope.path);
        }
        if !route::has_prompt_method(envelope.method) {
            return None;
        }
        match self.policy.endpoint(envelope.path) {
            Endpoint::None => None,
            Endpoint::Unknown => self.reads_unknown(envelope).then_some(Endpoint::Unknown),
            endpoint => Some(endpoint),
        }
    }

    /// Returns whether a request to an unknown path is read: it may be JSON, and the policy
    /// requires it.
    fn reads_unknown(&self, envelope: &Envelope<'_>) -> bool {
        let mut headers = envelope.headers.iter();
        let content_type = headers.find(|(name, _)| name == "content-type");
        self.policy.unknown.treat == UnknownTreatment::Generic
            && content_type.is_none_or(|(_, value)| body::may_be_json(value))
    }

    /// Returns the index of the first correlation among the signatures. Without correlations, this
    /// is the number of signatures.
    pub fn first_correlation_index(&self) -> usize {
        self.signatures.len().saturating_sub(self.plan.correlations().len())
    }

    /// Returns whether the signature at an index is a list.
    pub(crate) fn is_list(&self, index: usize) -> bool {
        (self.program.conditions.len()..self.first_correlation_index()).contains(&index)
    }

    /// Returns whether the signature at an index is a correlation.
    pub(crate) fn is_correlation(&self, index: usize) -> bool {
        index >= self.first_correlation_index()
    }

    /// Returns the hits of lists of clients and accounts.
    pub(crate) fn client_list_hits(&self, envelope: &Envelope<'_>) -> Vec<Hit> {
        self.hits_from_lists(self.lists.client_hits(envelope)).collect()
    }

    /// Returns the hits of lists of templates.
    pub(crate) fn template_list_hits(
        &self,
        request: &Request<'_>,
        envelope: &Envelope<'_>,
    ) -> impl Iterator<Item = Hit> {
        self.hits_from_lists(self.lists.template_hits(request, envelope))
    }

    /// Converts list hits, which have indices of lists, to hits of signatures.
    fn hits_from_lists(&self, hits: Vec<list::ListHit>) -> impl Iterator<Item = Hit> {
        let first_list_index = self.program.conditions.len();
        hits.into_iter().map(move |(list, evidence)| Hit {
            signature: first_list_index.saturating_add(list),
            evidence: vec![evidence],
            innocence: Vec::new(),
            indicator_key: None,
        })
    }
}

/// Compiles correlations with the weights of the policy.
///
/// Drops correlations that the policy disables, and correlations that need a disabled rule. Returns
/// an error if a correlation is invalid or names an unknown rule.
pub fn compile_plan(
    mut correlations: Vec<Correlation>,
    signatures: &[Signature],
    policy: &Policy,
) -> Result<Plan, Error> {
    for signature_override in &policy.signatures {
        let target =
            correlations.iter_mut().find(|correlation| correlation.name == signature_override.name);
        if let (Some(correlation), Some(weight)) = (target, signature_override.weight) {
            correlation.weight = weight;
        }
    }
    let disabled_overrides =
        policy.signatures.iter().filter(|signature_override| signature_override.off);
    let mut disabled: BTreeSet<String> =
        disabled_overrides.map(|signature_override| signature_override.name.clone()).collect();
    for correlation in &mut correlations {
        let Attribution { share, variety, .. } = &mut correlation.attribution;
        share.take_if(|share| disabled.contains(&share.correlation));
        variety.take_if(|variety| disabled.contains(&variety.correlation));
    }
    // A correlation that is dropped here may be a rule of another correlation, so the loop repeats
    // until nothing changes.
    loop {
        let count_before = disabled.len();
        correlations.retain_mut(|correlation| {
            let remains =
                !disabled.contains(&correlation.name) && correlation.drop_disabled(&disabled);
            if !remains {
                disabled.insert(correlation.name.clone());
            }
            remains
        });
        if disabled.len() == count_before {
            break;
        }
    }
    let names = signatures.iter().map(|signature| signature.name.as_str()).collect();
    Plan::new(correlations, &names)
}

/// Returns the signature of a correlation's indicators, with a condition that never holds.
fn correlation_as_signature(correlation: &Correlation) -> Signature {
    Signature {
        name: correlation.name.clone(),
        id: correlation.id.clone(),
        title: correlation.title.clone(),
        family: correlation.family.clone(),
        status: correlation.status,
        weight: correlation.weight,
        selections: std::collections::BTreeMap::new(),
        condition: Condition::Any(Vec::new()),
        innocence: Vec::new(),
    }
}

/// Family of signatures without weight, which only select requests for correlations.
pub const TRAFFIC_FAMILY: &str = "traffic";

/// Returns the signature of a list, with a condition that never holds.
fn list_as_signature(list: List) -> Signature {
    Signature {
        name: list.name,
        id: String::new(),
        title: list.title,
        family: list::FAMILY.to_owned(),
        status: Status::Stable,
        weight: list.weight,
        selections: std::collections::BTreeMap::new(),
        condition: Condition::Any(Vec::new()),
        innocence: Vec::new(),
    }
}
