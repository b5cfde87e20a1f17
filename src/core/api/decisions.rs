//! `GET /decisions`: the sampled decisions, and the enforced decisions.

use serde::{Deserialize, Serialize};

use crate::evaluate::decision::DecisionHit;
use crate::evaluate::score::Contribution;
use crate::rules::policy::{Action, Band, Mode};
use crate::rules::release::RulesetRole;

/// The response of `GET /decisions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[cfg_attr(test, ts(concrete(D = DecisionRecord)))]
// The Worker passes records on without parsing them: its `D` is raw JSON.
pub struct DecisionList<D = DecisionRecord> {
    /// Decisions that match the query, newest first.
    pub decisions: Vec<D>,
    /// Number of decisions in the ledger, matching or not.
    pub stored: u64,
    /// Maximum number of decisions in the ledger.
    pub capacity: u64,
    /// Number of decisions of the period that the ledger has, whatever the other filters. They are
    /// the enforced ones if the query has `enforced`, otherwise the sampled ones.
    pub kept: u64,
    /// Number of decisions of this kind that isolates counted in the period. If it is larger than
    /// `kept`, some decisions are missing.
    pub counted: u64,
    /// Value of `before` for the next page of enforced decisions; missing on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub next: Option<String>,
}

/// A decision as the ledger stores it. It contains no text of the request, except the name of the
/// model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
pub struct DecisionRecord {
    /// Request id, as the client received it in `x-hedgerow-request-id`.
    pub request_id: String,
    /// Time of the decision, in milliseconds since the epoch.
    pub at: f64,
    /// IATA code of the data centre that processed the request.
    pub colo: String,
    /// Name of the requested model; null if the request names no model, or if the name may not be
    /// stored.
    pub model: Option<String>,
    /// Reason why this ruleset decided. For example, `active`: the release names the ruleset for
    /// all accounts.
    pub role: RulesetRole,
    /// Serial of the release in force; null before the first release.
    pub serial: Option<u64>,
    /// Failure of Hedgerow that prevented the scoring of the request; null if there was none.
    pub error: Option<String>,
    /// Id of the account, a keyed hash: 32 hexadecimal digits; null if the request has no account.
    pub account: Option<String>,
    /// Method by which the account was determined: `key` or `jwt`, for example; missing if the
    /// request has no account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub account_kind: Option<String>,
    /// Id of the tenant, a keyed hash: 32 hexadecimal digits; missing if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub tenant: Option<String>,
    /// Label of the account: its name in clear text; missing unless the policy has `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub account_label: Option<String>,
    /// Label of the tenant: its name in clear text; missing unless the policy has `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub tenant_label: Option<String>,
    /// Id of the cluster of an indicator that hit. If the indicators have several clusters, this is
    /// the cluster that the policy treats most strictly. Missing if the indicators have no cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub cluster: Option<String>,
    /// Former ids of the cluster `cluster`, at most 16; missing if it has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<String>>"))]
    pub cluster_aliases: Vec<String>,
    /// Ids of the other clusters of the indicators that hit, at most 16; missing if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, ts(optional, as = "Option<Vec<String>>"))]
    pub other_clusters: Vec<String>,
    /// Dialect of the body: `openai`, for example.
    pub dialect: String,
    /// Operation of the endpoint: `chat`, for example.
    pub operation: String,
    /// Score from 0 to 100; null if scoring failed.
    pub score: Option<f64>,
    /// Prior of the policy: the decibans before any evidence is added.
    pub prior: f64,
    /// Evidence of all hits in decibans, after the cap of each family of signatures.
    pub evidence: f64,
    /// Contribution of each family of signatures to the evidence.
    pub contributions: Vec<Contribution>,
    /// Band of the score; null if scoring failed.
    pub band: Option<Band>,
    /// Action that the policy gives for the request. Mode Shadow only records the action.
    pub action: Action,
    /// Mode of the policy.
    pub mode: Mode,
    /// Whether the decision had an effect: the request was refused, or its body was edited.
    #[serde(default)]
    pub enforced: bool,
    /// Outcome of the action `degrade`: `edited`, `unchanged` or `not_editable`; missing if the
    /// action was not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub degraded: Option<String>,
    /// Signatures, lists and correlations that hit.
    pub hits: Vec<DecisionHit>,
    /// Names of experimental signatures that matched. They do not change the score.
    pub shadow_hits: Vec<String>,
    /// Name of the exemption that applies; null if none applies.
    pub exemption: Option<String>,
    /// Digest of the bundle that decided.
    pub ruleset: String,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Bytes of the body that were not scored.
    pub unscanned_bytes: u64,
    /// Reasons why parts of the body were not read.
    pub unreadable: Vec<String>,
    /// Reasons why a part of the request was not scored; empty if all of it was scored.
    pub unscored: Vec<String>,
    /// Share of the body's bytes that were scored, 0 to 1; null if it is unknown.
    pub scored_share: Option<f64>,
    /// The reason in `unscored` that determines the action; missing if the score determines the
    /// action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, ts(optional))]
    pub incomplete: Option<String>,
    /// Number of LLM requests in the body.
    pub entries: u64,
}
