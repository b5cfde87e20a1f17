//! The decision: the action on a request with its reasons, and the record that is logged.

use serde::{Deserialize, Serialize};

use crate::completeness::{Completeness, UnscoredReasons};
use crate::correlate::Observation;
use crate::evaluate::score::{Contribution, Score};
use crate::extract::ReadIssues;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::identity::kind::AccountKind;
use crate::matching::{Evidence, Hit};
use crate::rules::policy::{
    Action, Band, Disposition, Mode, Policy, RequestCluster, format_cluster_id,
};
use crate::rules::signature::Status;
use crate::ruleset::Ruleset;

/// The result of scoring a request, which does not depend on the mode of the policy.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Endpoint that was called.
    pub endpoint: Endpoint,
    /// Score and its contributions.
    pub score: Score,
    /// Band of the score.
    pub band: Band,
    /// Hits of signatures, lists and indicators, including experimental signatures. Hits that an
    /// exemption suppresses are left out.
    pub hits: Vec<Hit>,
    /// Reasons why parts of the body were not read, in any LLM request of the body.
    pub issues: ReadIssues,
    /// Share of the body that was scored, and the reasons why the rest was not.
    pub completeness: Completeness,
    /// Number of LLM requests in the body.
    pub entries: usize,
    /// Name of the first exemption that applies; `None` if none applies.
    pub exemption_name: Option<String>,
    /// Whether an exemption allows the request whatever its score.
    pub is_exempt: bool,
    /// Observation for the correlator; `None` if the request is not counted.
    pub observation: Option<Observation>,
    /// Clusters of the indicators that count for the request. The cluster with the strongest
    /// evidence is first.
    pub clusters: Vec<RequestCluster>,
    /// Requested model; `None` if the request names no model.
    pub model: Option<String>,
}

impl Assessment {
    /// Returns the action of the policy. If a part of the request that was not scored determines
    /// the action, also returns the reason why this part was not scored. Returns `None` instead of
    /// a reason if the score determines the action. Mode Shadow only records the action.
    ///
    /// A fully exempt request is always allowed. The strictest action on a request to an unknown
    /// path is Tag, because the request may not be an LLM call.
    pub fn action(
        &self,
        policy: &Policy,
        disposition: &Disposition,
    ) -> (Action, Option<&'static str>) {
        if self.is_exempt {
            return (Action::Allow, None);
        }
        let action = disposition.actions.action(self.band);
        if self.endpoint == Endpoint::Unknown {
            return (action.min(Action::Tag), None);
        }
        match policy.incomplete.action(self.completeness.reasons) {
            Some((stricter, reason)) if stricter > action => (stricter, Some(reason)),
            _ => (action, None),
        }
    }
}

/// The action on a request, with the evidence. The decision is the record that is logged.
#[derive(Clone, Debug, Serialize)]
pub struct Decision {
    /// Id of the account (a keyed hash); `None` if the request has no account.
    pub account: Option<String>,
    /// Method by which the account was determined: `key` or `jwt`, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_kind: Option<&'static str>,
    /// Id of the tenant (a keyed hash); `None` if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Id of the cluster of an indicator that hit. If the indicators have several clusters, this is
    /// the cluster that the policy treats most strictly; if the treatment is the same, the cluster
    /// with the strongest evidence. `None` if the indicators have no cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Former ids of the cluster `cluster`, at most 16. Ids that the policy names come first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cluster_aliases: Vec<String>,
    /// Ids of the other clusters of the indicators that hit, at most 16.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_clusters: Vec<String>,
    /// Dialect of the body.
    pub dialect: &'static str,
    /// Operation of the endpoint.
    pub operation: &'static str,
    /// Probability of harvesting in percent.
    pub score: f64,
    /// Prior of the policy: the decibans before any evidence is added.
    pub prior: f64,
    /// Evidence of all hits in decibans, after the cap of each family of signatures.
    pub evidence: f64,
    /// Contribution of each family of signatures to the evidence.
    pub contributions: Vec<Contribution>,
    /// Band of the score.
    pub band: Band,
    /// Action that the policy gives for the request. Mode Shadow only records the action.
    pub action: Action,
    /// Mode: whether the action is carried out.
    pub mode: Mode,
    /// Hits of signatures, lists and correlations that contribute to the score, with weight and
    /// evidence.
    pub hits: Vec<DecisionHit>,
    /// Names of experimental signatures that matched. They do not change the score.
    pub shadow_hits: Vec<String>,
    /// Name of the exemption that applies; `None` if none applies.
    pub exemption: Option<String>,
    /// Whether an exemption allows the request whatever its score.
    #[serde(skip)]
    pub is_exempt: bool,
    /// Digest of the ruleset.
    pub ruleset: String,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes that were not scanned.
    pub unscanned_bytes: u64,
    /// Reasons why parts of the body were not read.
    pub unreadable: Vec<&'static str>,
    /// Reasons why a part of the request was not scored; empty if all of it was scored.
    pub unscored: Vec<&'static str>,
    /// Share of the body's bytes that were scored, 0 to 1; `None` if it is unknown.
    pub scored_share: Option<f64>,
    /// The reason in `unscored` that determines the action; `None` if the score determines the
    /// action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<&'static str>,
    /// Number of LLM requests in the body.
    pub entries: usize,
    /// Number of earlier messages of the WebSocket that were scored together with this message.
    /// Evidence in the text of earlier messages has the range 0..0.
    #[serde(skip_serializing_if = "is_zero")]
    pub earlier_messages: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// A hit of a signature, list or correlation, as it is logged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct DecisionHit {
    /// Name of the signature, list or correlation.
    pub name: String,
    /// Family, whose weights are capped together.
    pub family: String,
    /// Weight in decibans.
    pub weight: f64,
    /// Fields and byte ranges; never text.
    pub evidence: Vec<Evidence>,
    /// Innocence selections of the signature that hold: they are signs of a harmless request and
    /// reduce its score. Missing if none holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<String>>"))]
    pub innocence: Vec<String>,
    /// Key of the indicator, 16 hexadecimal digits; missing unless the hit comes from an indicator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub key: Option<String>,
}

impl Decision {
    /// Creates the decision for an assessment under the given mode and actions.
    pub fn new(
        ruleset: &Ruleset,
        envelope: &Envelope<'_>,
        assessment: Assessment,
        disposition: Disposition,
    ) -> Self {
        let clusters = ClusterIds::new(ruleset.policy(), envelope, &assessment);
        let completeness = assessment.completeness;
        let (action, incomplete) = assessment.action(ruleset.policy(), &disposition);
        let (hits, shadow_hits) = decision_hits(ruleset, assessment.hits);
        Self {
            account: envelope.account.map(str::to_owned),
            account_kind: envelope.account_kind.map(AccountKind::name),
            tenant: envelope.tenant.map(str::to_owned),
            cluster: clusters.deciding,
            cluster_aliases: clusters.aliases,
            other_clusters: clusters.others,
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
            is_exempt: assessment.is_exempt,
            ruleset: ruleset.digest().to_owned(),
            body_bytes: envelope.body_size.unwrap_or(envelope.body.len() as u64),
            unscanned_bytes: envelope.unscanned_bytes,
            unreadable: assessment.issues.names().collect(),
            unscored: completeness.reasons.names().collect(),
            scored_share: completeness.scored_share,
            incomplete,
            entries: assessment.entries,
            earlier_messages: envelope
                .earlier
                .map_or(0, |earlier| earlier.message_count(envelope.body.len())),
        }
    }

    /// Returns whether the action is carried out.
    pub fn is_enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// Adds reasons why a part of the request was not scored. They are found during enforcement,
    /// after the decision. If the policy has a stricter action for one of these reasons, this
    /// action replaces the action for the score. The action of an exempt request, and of a request
    /// to an unknown path, does not change.
    pub fn add_unscored(&mut self, reasons: UnscoredReasons, policy: &Policy) {
        let is_new = |name: &&str| !self.unscored.contains(name);
        let names: Vec<&'static str> = reasons.names().filter(is_new).collect();
        self.unscored.extend(names);
        let is_unknown = self.unscored.contains(&"unknown_path");
        if let Some((action, reason)) = policy.incomplete.action(reasons)
            && action > self.action
            && !self.is_exempt
            && !is_unknown
        {
            self.action = action;
            self.incomplete = Some(reason);
        }
    }

    /// Changes the byte ranges of all evidence from offsets in the scored text to offsets in the
    /// body. The scored text consists of `opening` bytes that are not in the body, followed by the
    /// body from byte `start` on.
    pub fn move_evidence(&mut self, start: u64, opening: u64) {
        let moved = |offset: usize| {
            let offset = (offset as u64).saturating_sub(opening).saturating_add(start);
            usize::try_from(offset).unwrap_or(usize::MAX)
        };
        for evidence in self.hits.iter_mut().flat_map(|hit| &mut hit.evidence) {
            evidence.start = moved(evidence.start);
            evidence.end = moved(evidence.end);
        }
    }

    /// Returns the names of at most 32 hits for a header, separated by commas. The hit with the
    /// highest weight is first.
    pub fn hit_names(&self) -> String {
        let mut hits: Vec<&DecisionHit> = self.hits.iter().collect();
        hits.sort_by(|a, b| b.weight.total_cmp(&a.weight));
        let names: Vec<&str> =
            hits.into_iter().take(MAX_HEADER_HITS).map(|hit| hit.name.as_str()).collect();
        names.join(",")
    }
}

/// The ids of a decision's clusters.
struct ClusterIds {
    /// Id of the cluster that determines the treatment of the request; `None` if no cluster does.
    deciding: Option<String>,
    /// Former ids of the cluster `deciding`.
    aliases: Vec<String>,
    /// Ids of the other clusters.
    others: Vec<String>,
}

impl ClusterIds {
    fn new(policy: &Policy, envelope: &Envelope<'_>, assessment: &Assessment) -> Self {
        let deciding = policy.deciding_cluster(
            &assessment.clusters,
            &envelope.attributes(assessment.model.as_deref()),
            assessment.band,
        );
        let is_other =
            |cluster: &&RequestCluster| Some(cluster.id) != deciding.map(|first| first.id);
        let others = assessment.clusters.iter().filter(is_other).take(MAX_LISTED_CLUSTERS);
        let aliases = deciding.map(|cluster| cluster.aliases.as_slice()).unwrap_or_default();
        let aliases = aliases.iter().take(MAX_LISTED_CLUSTERS);
        Self {
            deciding: deciding.map(|cluster| format_cluster_id(cluster.id)),
            aliases: aliases.map(|alias| format_cluster_id(*alias)).collect(),
            others: others.map(|cluster| format_cluster_id(cluster.id)).collect(),
        }
    }
}

/// Returns the hits as they are logged, and the names of the experimental signatures that matched.
fn decision_hits(ruleset: &Ruleset, hits: Vec<Hit>) -> (Vec<DecisionHit>, Vec<String>) {
    let mut counted = Vec::new();
    let mut experimental = Vec::new();
    for hit in hits {
        let Some(signature) = ruleset.signatures().get(hit.signature) else { continue };
        if signature.status == Status::Experimental {
            experimental.push(signature.name.clone());
        } else {
            let innocence = hit.innocence.iter();
            let innocence =
                innocence.filter_map(|position| signature.innocence.get(*position)).cloned();
            counted.push(DecisionHit {
                innocence: innocence.collect(),
                name: signature.name.clone(),
                family: signature.family.clone(),
                weight: signature.weight,
                evidence: hit.evidence,
                key: hit.indicator_key.map(|key| format!("{key:016x}")),
            });
        }
    }
    (counted, experimental)
}

/// Maximum number of other clusters, and of aliases, in a decision.
const MAX_LISTED_CLUSTERS: usize = 16;

/// Maximum number of names in a header: 32 names of about 40 bytes stay far below the usual limits
/// of header sizes.
const MAX_HEADER_HITS: usize = 32;
