//! A sample of single decisions, which the ledger stores for the console.
//!
//! A record is a decision with its evidence and contributions. Most requests are in the band
//! `clear`, and rarely of interest. So a report has at most 16 clear decisions and 48 others: the
//! first ones since the last report. The model's name is the only text of a request in a record.

use hedgerow_core::Decision;
use hedgerow_core::api::DecisionRecord;
use serde_json::value::{RawValue, to_raw_value};

use crate::isolate::attribution::Attribution;
use crate::isolate::enforced_buffer::Effect;
use crate::isolate::model_name::storable_model_name;
use crate::platform::clock::now_ms;
use crate::platform::log::{DecisionLine, longest_evidence};

/// Maximum number of clear decisions in a report.
const MAX_CLEAR_DECISIONS: usize = 16;

/// Maximum number of all other decisions in a report.
const MAX_OTHER_DECISIONS: usize = 48;

/// Bytes of the records in a report. Once this size is reached, no record is added.
const MAX_SAMPLE_BYTES: usize = 256 << 10;

/// Bytes above which a record is shortened.
const MAX_RECORD_BYTES: usize = 8 << 10;

/// Maximum number of hits, and of shadow hits, in a shortened record.
const MAX_RECORD_HITS: usize = 32;

/// Encodes the record of a decision, as JSON. `model` is the name of the requested model. A record
/// above 8 KiB is shortened. Returns `None` if the record cannot be serialised, which should never
/// happen.
pub fn encode_decision(
    request_id: &str,
    attribution: &Attribution<'_>,
    decision: &Decision,
    model: Option<&str>,
    effect: Effect,
) -> Option<Box<RawValue>> {
    let model = storable_model_name(model);
    let encode = |decision| encode_whole(request_id, attribution, decision, model, effect);
    let whole = encode(decision.clone()).filter(|text| text.get().len() <= MAX_RECORD_BYTES);
    whole.or_else(|| encode(shortened(decision)))
}

/// Encodes the record of a decision as JSON, without shortening it.
fn encode_whole(
    request_id: &str,
    attribution: &Attribution<'_>,
    decision: Decision,
    model: Option<&str>,
    effect: Effect,
) -> Option<Box<RawValue>> {
    let record = DecisionRecord {
        request_id: request_id.to_owned(),
        at: now_ms(),
        colo: attribution.colo.to_owned(),
        model: model.map(str::to_owned),
        role: attribution.role,
        serial: attribution.serial,
        error: None,
        account: decision.account,
        account_kind: decision.account_kind.map(str::to_owned),
        tenant: decision.tenant,
        account_label: None,
        tenant_label: None,
        cluster: decision.cluster,
        cluster_aliases: decision.cluster_aliases,
        other_clusters: decision.other_clusters,
        dialect: decision.dialect.to_owned(),
        operation: decision.operation.to_owned(),
        score: Some(decision.score),
        prior: decision.prior,
        evidence: decision.evidence,
        contributions: decision.contributions,
        band: Some(decision.band),
        action: decision.action,
        mode: decision.mode,
        enforced: effect.is_enforced,
        degraded: effect.degraded.map(str::to_owned),
        hits: decision.hits,
        shadow_hits: decision.shadow_hits,
        exemption: decision.exemption,
        ruleset: decision.ruleset,
        body_bytes: decision.body_bytes,
        unscanned_bytes: decision.unscanned_bytes,
        unreadable: decision.unreadable.into_iter().map(str::to_owned).collect(),
        unscored: decision.unscored.into_iter().map(str::to_owned).collect(),
        scored_share: decision.scored_share,
        incomplete: decision.incomplete.map(str::to_owned),
        entries: decision.entries as u64,
    };
    to_raw_value(&record).ok()
}

/// Encodes the record of a request that could not be scored, as JSON. `line` is the request's log
/// line, and `error` the reason. `is_refused` is whether the request was refused. Returns `None` if
/// the record cannot be serialised, which should never happen.
pub fn encode_unscored(
    attribution: &Attribution<'_>,
    line: &DecisionLine<'_>,
    error: &str,
    is_refused: bool,
) -> Option<Box<RawValue>> {
    let record = DecisionRecord {
        request_id: line.request_id.to_owned(),
        at: now_ms(),
        colo: attribution.colo.to_owned(),
        model: None,
        role: attribution.role,
        serial: attribution.serial,
        error: Some(error.to_owned()),
        account: line.account.map(str::to_owned),
        account_kind: line.account.map(|_| line.account_kind.to_owned()),
        tenant: line.tenant.map(str::to_owned),
        account_label: None,
        tenant_label: None,
        cluster: None,
        cluster_aliases: Vec::new(),
        other_clusters: Vec::new(),
        dialect: line.dialect.to_owned(),
        operation: line.operation.to_owned(),
        score: None,
        prior: 0.0,
        evidence: 0.0,
        contributions: Vec::new(),
        band: None,
        action: line.action,
        mode: line.mode,
        enforced: is_refused,
        degraded: None,
        hits: Vec::new(),
        shadow_hits: Vec::new(),
        exemption: None,
        ruleset: line.ruleset.to_owned(),
        body_bytes: line.body_bytes,
        unscanned_bytes: line.unscanned_bytes,
        unreadable: Vec::new(),
        unscored: Vec::new(),
        scored_share: None,
        incomplete: None,
        entries: 0,
    };
    to_raw_value(&record).ok()
}

/// The records since the last report.
#[derive(Default)]
pub struct DecisionSample {
    /// Records of decisions in the band `clear`.
    clear: Vec<Box<RawValue>>,
    /// All other records, including unscored requests.
    others: Vec<Box<RawValue>>,
    /// Bytes of all records.
    bytes: usize,
}

impl DecisionSample {
    /// Returns whether the sample has no room for another record: a clear decision if `is_clear` is
    /// true, otherwise a record that is not a clear decision.
    pub fn is_full(&self, is_clear: bool) -> bool {
        let has_max_records = if is_clear {
            self.clear.len() >= MAX_CLEAR_DECISIONS
        } else {
            self.others.len() >= MAX_OTHER_DECISIONS
        };
        has_max_records || self.bytes >= MAX_SAMPLE_BYTES
    }

    /// Adds a record. `is_clear` is whether its band is `clear`.
    pub fn push(&mut self, is_clear: bool, record: Box<RawValue>) {
        self.bytes = self.bytes.saturating_add(record.get().len());
        if is_clear { self.clear.push(record) } else { self.others.push(record) }
    }

    /// Removes and returns all records, clear decisions first.
    pub fn take(&mut self) -> Vec<Box<RawValue>> {
        let Self { mut clear, mut others, .. } = std::mem::take(self);
        clear.append(&mut others);
        clear
    }
}

/// Returns a copy of the decision with at most [`MAX_RECORD_HITS`] hits and at most that many
/// shadow hits. Keeps the hits with the largest absolute weights. Each hit keeps only its longest
/// evidence.
fn shortened(decision: &Decision) -> Decision {
    let mut decision = decision.clone();
    decision.hits.sort_by(|a, b| b.weight.abs().total_cmp(&a.weight.abs()));
    decision.hits.truncate(MAX_RECORD_HITS);
    decision.shadow_hits.truncate(MAX_RECORD_HITS);
    for hit in &mut decision.hits {
        hit.evidence = longest_evidence(hit).cloned().into_iter().collect();
    }
    decision
}

#[cfg(test)]
mod tests {
    use hedgerow_core::evaluate::decision::DecisionHit;
    use hedgerow_core::field::{Field, FieldId};
    use hedgerow_core::matching::Evidence;
    use hedgerow_core::rules::policy::{Action, Band, Mode};

    use super::*;

    #[test]
    fn a_long_record_keeps_its_heaviest_hits_and_longest_evidence() {
        let evidence = |end| Evidence { field: Field::Known(FieldId::PromptUser), start: 0, end };
        let hit = |number: usize| DecisionHit {
            name: format!("hit_{number}"),
            family: "hit".to_owned(),
            weight: number as f64,
            evidence: vec![evidence(1), evidence(9), evidence(3)],
            innocence: Vec::new(),
            key: None,
        };
        let decision = Decision {
            account: None,
            account_kind: None,
            tenant: None,
            cluster: None,
            cluster_aliases: Vec::new(),
            other_clusters: Vec::new(),
            dialect: "openai",
            operation: "chat",
            score: 50.0,
            prior: -20.0,
            evidence: 20.0,
            contributions: Vec::new(),
            band: Band::Suspect,
            action: Action::Degrade,
            mode: Mode::Shadow,
            hits: (0..100).map(hit).collect(),
            shadow_hits: Vec::new(),
            exemption: None,
            is_exempt: false,
            ruleset: "abc".to_owned(),
            body_bytes: 0,
            unscanned_bytes: 0,
            unreadable: Vec::new(),
            unscored: Vec::new(),
            scored_share: Some(1.0),
            incomplete: None,
            entries: 1,
            earlier_messages: 0,
        };
        let short = shortened(&decision);
        assert_eq!(short.hits.len(), MAX_RECORD_HITS);
        assert_eq!(short.hits[0].name, "hit_99");
        assert!(short.hits.iter().all(|hit| hit.evidence == [evidence(9)]));
    }
}
