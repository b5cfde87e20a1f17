//! The observation of a request for the correlator, and the indicators that match keys of a
//! request.
#![deny(clippy::arithmetic_side_effects)]

use crate::correlate::cluster_aliases::ClusterAliases;
use crate::correlate::indicator::Indicators;
use crate::correlate::{GroupKeys, MAX_VALUES_PER_FIELD, Observation, group_keys};
use crate::evaluate::explain::Explainer;
use crate::extract::{FieldValue, Request};
use crate::field::{Field, FieldId, FieldType};
use crate::http::envelope::Envelope;
use crate::keyed_hash::{HashKey, combine_hashes};
use crate::matching::{Evidence, Hit};
use crate::rules::correlation::Correlation;
use crate::rules::policy::{Action, RequestCluster};
use crate::rules::signature::{Signature, Status};
use crate::ruleset::Ruleset;

impl Ruleset {
    /// Returns the observation of a request and its hits. `llr` (log-likelihood ratio) is the
    /// evidence of the hits in decibans.
    ///
    /// A hit for which an innocence selection holds (a sign of a harmless request) is not an event
    /// of correlations. Its weight is cancelled in its own request, so it must not count against
    /// other accounts that send the same template either.
    pub(crate) fn observation(
        &self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        hits: &[Hit],
        llr: f64,
    ) -> Observation {
        let rules = without_innocence(hits)
            .filter_map(|hit| self.event_index.get(hit.signature).copied().flatten());
        let mut observation = Observation {
            at: u32::try_from(envelope.now).unwrap_or(u32::MAX),
            signatures: rules.collect(),
            values: Vec::with_capacity(TYPICAL_VALUES),
            tenant: envelope.tenant.map_or(0, |tenant| envelope.hash_key.hash_tenant(tenant)),
            network: envelope
                .client
                .address
                .and_then(|address| envelope.hash_key.hash_network(address))
                .unwrap_or_default(),
            ..Observation::default()
        };
        let mut values = Vec::with_capacity(TYPICAL_VALUES);
        for (field_index, field) in (0_u16..).zip(self.plan.fields()) {
            match field {
                // Requests whose shape is unknown do not have a shape in common.
                field if envelope.is_unknown(field) => {}
                Field::Known(field_id)
                    if field.field_type() == FieldType::Number
                        || field.field_type() == FieldType::Flag =>
                {
                    let llr = (*field_id == FieldId::Llr).then_some(llr);
                    let key = &envelope.hash_key;
                    add_numbers(&mut observation, (field_index, *field_id), request, llr, key);
                }
                field => {
                    values.clear();
                    self.append_hashed_values(envelope, request, hits, field, &mut values);
                    values.sort_unstable();
                    values.dedup();
                    // A body may have any number of values, such as model names, so the number is
                    // limited.
                    values.truncate(MAX_VALUES_PER_FIELD);
                    observation.values.extend(values.iter().map(|value| (field_index, *value)));
                }
            }
        }
        observation
    }

    /// Adds the outcome of a request to its observation: the status of the response, the action,
    /// and whether the outcome proves the account.
    ///
    /// The account is proven if the origin answered with a status in the policy's
    /// `identity.proven`. A request that Hedgerow refused proves nothing, because it did not reach
    /// the origin. If an earlier request has proven the account, the host sets
    /// [`Observation::proven`] itself.
    ///
    /// If the origin rejects the credential (status 401), the observation loses all signatures
    /// except those that test the outcome. Reason: anybody can invent credentials, and the invented
    /// accounts would seem to share a template with other accounts.
    pub fn record_outcome(
        &self,
        observation: &mut Observation,
        key: &HashKey,
        status: u16,
        action: Action,
    ) {
        let values = [
            (FieldId::StatusCode, FieldValue::Number(f64::from(status))),
            (FieldId::Action, FieldValue::Keyword(action.name())),
        ];
        let request = Request::from_values(values);
        let explainer = Explainer::default();
        let is_forwarded = !matches!(action, Action::Throttle | Action::Block);
        observation.proven |= is_forwarded && self.policy.identity.accepts_credential(status);
        if status == STATUS_UNAUTHORIZED {
            observation.signatures.clear();
        }
        for index in &self.response_signatures {
            let Some(signature) = self.signatures.get(*index) else { continue };
            if explainer.holds(signature, &request, &[]) {
                observation.signatures.extend(self.event_index.get(*index).copied().flatten());
            }
        }
        for (field_index, field) in (0_u16..).zip(self.plan.fields()) {
            let (Field::Known(field_id @ (FieldId::StatusCode | FieldId::Action)), field_name) =
                (field, field.name())
            else {
                continue;
            };
            let value = match field_id {
                FieldId::StatusCode => {
                    key.keyed_hash(&field_name, &f64::from(status).to_bits().to_le_bytes())
                }
                _ => key.keyed_hash(&field_name, action.name().as_bytes()),
            };
            if *field_id == FieldId::StatusCode {
                observation.numbers.push((field_index, f64::from(status)));
            }
            let position =
                observation.values.partition_point(|(value_field, _)| *value_field <= field_index);
            observation.values.insert(position, (field_index, value));
        }
    }

    /// Returns the hits of the indicators that match keys of a request, and the clusters of these
    /// indicators. Both are empty if no indicator matches. `evidence` is the evidence of the
    /// request's content, in decibans.
    ///
    /// An indicator is a hit only if the request takes part in the conduct that its correlation
    /// describes. If several correlations have the same `hedgerow.fact`, only the correlation with
    /// the highest weight is a hit; the clusters of the others are returned, too.
    pub(crate) fn indicator_hits(
        &self,
        envelope: &Envelope<'_>,
        observation: &Observation,
        evidence: f64,
    ) -> (Vec<Hit>, Vec<RequestCluster>) {
        let Some(indicators) = envelope.indicators.filter(|indicators| !indicators.is_empty())
        else {
            return (Vec::new(), Vec::new());
        };
        let mut matched = self.matched_indicators(indicators, envelope.now, observation);
        matched.retain(|entry| {
            entry.template_keys.len() >= self.min_template_matches(observation, entry.fields)
        });
        self.sort_by_weight(&mut matched);
        let behavior = self.own_behavior(&matched, evidence);
        matched.retain(|entry| self.has_own_evidence(entry, evidence, behavior));
        let clusters = self.clusters_of(&matched, indicators.aliases());
        self.keep_strongest_of_each_fact(&mut matched);
        (matched.into_iter().map(|entry| self.indicator_hit(&entry)).collect(), clusters)
    }

    /// Returns the correlations that have active indicators for keys of a request. A correlation is
    /// left out if the request does not take part in the conduct that it describes. `now` is in
    /// seconds since the epoch.
    fn matched_indicators<'r>(
        &'r self,
        indicators: &Indicators,
        now: u64,
        observation: &Observation,
    ) -> Vec<MatchedIndicator<'r>> {
        let mut matched: Vec<MatchedIndicator<'r>> = Vec::new();
        let mut groups = GroupKeys::default();
        for fields in self.plan.indicator_fields() {
            let template_position = fields.iter().position(|field| self.is_template_field(*field));
            group_keys(fields, observation, &mut groups);
            for group in groups.iter() {
                let key = combine_hashes(group);
                let template_key =
                    template_position.and_then(|position| group.get(position)).copied();
                for indicator in indicators.active(key, now) {
                    let Some(signature) =
                        self.counting_correlation(indicator.correlation, observation)
                    else {
                        continue;
                    };
                    let position = matched.iter().position(|entry| entry.signature == signature);
                    let position = position.unwrap_or_else(|| {
                        matched.push(MatchedIndicator::new(signature, key, fields));
                        matched.len().saturating_sub(1)
                    });
                    if let Some(entry) = matched.get_mut(position) {
                        entry.add(template_key, indicator.cluster);
                    }
                }
            }
        }
        matched
    }

    /// Returns the hit of a correlation that has indicators. The evidence of the hit is the first
    /// field by which the correlation groups events, without a byte range.
    fn indicator_hit(&self, entry: &MatchedIndicator<'_>) -> Hit {
        let field = entry.fields.first().and_then(|field| self.field(*field));
        let evidence = field.map(|field| Evidence { field: field.clone(), start: 0, end: 0 });
        Hit {
            signature: entry.signature,
            evidence: evidence.into_iter().collect(),
            innocence: Vec::new(),
            indicator_key: Some(entry.key),
        }
    }

    /// Returns the clusters of correlations, without duplicates, in the order of `matched`.
    ///
    /// In the list of a cluster's aliases, the aliases that the policy names come first, and
    /// [`MAX_SHOWN_ALIASES`] does not limit them. So a rule of the policy for an alias applies,
    /// however many aliases the cluster has.
    fn clusters_of(
        &self,
        matched: &[MatchedIndicator<'_>],
        aliases: &ClusterAliases,
    ) -> Vec<RequestCluster> {
        let mut clusters: Vec<RequestCluster> = Vec::new();
        for entry in matched {
            let mut ids: Vec<u32> =
                entry.clusters.iter().map(|id| aliases.current_id(*id)).collect();
            ids.sort_unstable();
            for id in ids {
                if clusters.iter().any(|cluster| cluster.id == id) {
                    continue;
                }
                let named = self
                    .policy
                    .cluster_ids()
                    .filter(|named| *named != id && aliases.current_id(*named) == id);
                let mut names: Vec<u32> = named.collect();
                for alias in aliases.aliases_of(id).take(MAX_SHOWN_ALIASES) {
                    if names.len() < MAX_SHOWN_ALIASES && !names.contains(&alias) {
                        names.push(alias);
                    }
                }
                clusters.push(RequestCluster { id, aliases: names });
            }
        }
        clusters
    }

    /// Sorts indicators by the weight of their correlation, the strongest first.
    fn sort_by_weight(&self, matched: &mut [MatchedIndicator<'_>]) {
        let weight = |entry: &MatchedIndicator<'_>| {
            self.signatures.get(entry.signature).map_or(0.0, |signature| signature.weight)
        };
        matched.sort_by(|left, right| {
            weight(right).total_cmp(&weight(left)).then(left.signature.cmp(&right.signature))
        });
    }

    /// Removes each correlation that counts the same fact as a stronger correlation. `matched` must
    /// be sorted, the strongest first.
    fn keep_strongest_of_each_fact(&self, matched: &mut Vec<MatchedIndicator<'_>>) {
        let mut facts = Vec::new();
        matched.retain(|entry| {
            let correlation = self.correlation_of(entry);
            let Some(fact) = correlation.and_then(|found| found.attribution.fact_group.as_deref())
            else {
                return true;
            };
            let is_first = !facts.contains(&fact);
            facts.push(fact);
            is_first
        });
    }

    /// Returns the evidence of the account's own behaviour in decibans: the sum of the weights of
    /// the matched correlations that group by account. A correlation counts only if it is not
    /// experimental, and if `content`, the evidence of the request's content, reaches the
    /// correlation's `own_evidence`. Each fact counts once, with its strongest correlation, so
    /// `matched` must be sorted, the strongest first.
    fn own_behavior(&self, matched: &[MatchedIndicator<'_>], content: f64) -> f64 {
        let mut facts = Vec::new();
        let mut evidence = 0.0;
        for correlation in matched.iter().filter_map(|entry| self.correlation_of(entry)) {
            let fact = correlation.attribution.fact_group.as_deref();
            if !correlation.groups_by_account()
                || correlation.status == Status::Experimental
                || content < correlation.attribution.own_evidence
                || fact.is_some_and(|fact| facts.contains(&fact))
            {
                continue;
            }
            facts.extend(fact);
            evidence += correlation.weight;
        }
        evidence
    }

    /// Returns whether the content of a request and the behaviour of its account have the evidence
    /// that a correlation demands (`hedgerow.own_evidence`, `hedgerow.own_behavior`).
    fn has_own_evidence(&self, entry: &MatchedIndicator<'_>, content: f64, behavior: f64) -> bool {
        self.correlation_of(entry).is_some_and(|correlation| {
            let attribution = &correlation.attribution;
            content >= attribution.own_evidence && behavior >= attribution.own_behavior
        })
    }

    /// Returns the correlation of a matched indicator; `None` if the plan has no such correlation.
    fn correlation_of(&self, entry: &MatchedIndicator<'_>) -> Option<&Correlation> {
        let index = entry.signature.checked_sub(self.first_correlation_index())?;
        self.plan.correlations().get(index)
    }

    /// Returns how many template keys of a request must match indicators of a correlation that
    /// groups by `fields`: two if the request has more than two template keys, otherwise one.
    ///
    /// Requests that are made from one template share several keys. Requests that only quote the
    /// same text, or ask the same question from a public list, share one key.
    fn min_template_matches(&self, observation: &Observation, fields: &[u16]) -> usize {
        let template_field = fields.iter().find(|field| self.is_template_field(**field));
        if template_field.is_some_and(|field| observation.values(*field).len() > 2) { 2 } else { 1 }
    }

    /// Returns whether a field of the plan, by index, holds template keys.
    pub(crate) fn is_template_field(&self, field: u16) -> bool {
        matches!(
            self.field(field),
            Some(Field::Known(FieldId::TemplateUser | FieldId::TemplateSystem))
        )
    }

    fn field(&self, index: u16) -> Option<&Field> {
        self.plan.fields().get(usize::from(index))
    }

    /// Returns the index of a correlation among the signatures of the ruleset; `None` if there is
    /// no such correlation, or if the request does not take part in the conduct that the
    /// correlation describes.
    fn counting_correlation(&self, name: &str, observation: &Observation) -> Option<usize> {
        let correlations = self.plan.correlations();
        let index = correlations.iter().position(|correlation| correlation.name == name)?;
        let correlation = correlations.get(index)?;
        let takes_part = correlation.attribution.to_accounts
            || correlation.groups_by_account()
            || self.is_event_of(index, observation);
        takes_part.then(|| self.first_correlation_index().checked_add(index)).flatten()
    }

    /// Returns whether a request is an event of the correlation with this index in the plan: it
    /// matches one of the correlation's rules, and also the rule `only` if the correlation has one.
    /// Rules that test an outcome count as matched, because the outcome is not known yet. If all
    /// rules are correlations, the request need not match one of them.
    fn is_event_of(&self, index: usize, observation: &Observation) -> bool {
        let only = self.plan.correlations().get(index).and_then(|found| found.only.as_ref());
        if only.is_some_and(|only| !self.has_signature(observation, only)) {
            return false;
        }
        let Some(signatures) = self.plan.own_signatures.get(index) else { return false };
        let tests_outcome = |signature: &u16| {
            let mut responses = self.response_signatures.iter();
            responses.any(|index| self.event_index.get(*index) == Some(&Some(*signature)))
        };
        signatures.is_empty()
            || signatures.iter().any(|signature| observation.signatures.contains(signature))
            || signatures.iter().any(tests_outcome)
    }

    /// Returns whether an observation contains the signature with this name.
    fn has_signature(&self, observation: &Observation, name: &str) -> bool {
        let mut signatures = observation.signatures.iter();
        signatures.any(|index| {
            self.plan.signatures().get(usize::from(*index)).is_some_and(|found| found == name)
        })
    }

    /// Adds the keyed hashes of the names of the signatures that add to the score. Hits with an
    /// innocence selection and experimental signatures do not count.
    fn append_signature_hashes(&self, hits: &[Hit], key: &HashKey, values: &mut Vec<u64>) {
        let signatures =
            without_innocence(hits).filter_map(|hit| self.signatures.get(hit.signature));
        let counted = signatures.filter(|signature| signature.status != Status::Experimental);
        let weighted = counted.filter(|signature| signature.weight > 0.0);
        let name = FieldId::SignatureName.spec().name;
        let hash = |signature: &Signature| key.keyed_hash(name, signature.name.as_bytes());
        values.extend(weighted.map(hash));
    }

    /// Adds the keyed hashes of the values of a field that is neither a number nor a flag.
    fn append_hashed_values(
        &self,
        envelope: &Envelope<'_>,
        request: &Request<'_>,
        hits: &[Hit],
        field: &Field,
        values: &mut Vec<u64>,
    ) {
        let key = &envelope.hash_key;
        match field {
            Field::Known(field_id @ FieldId::ClientAddress) => {
                let addresses = request.keywords().iter().filter(|(id, _)| id == field_id);
                values.extend(addresses.filter_map(|(_, address)| key.hash_network(address)));
            }
            Field::Known(field_id @ FieldId::SignatureName) => {
                self.append_signature_hashes(hits, key, values);
                values.extend(request.keyed_hashes(*field_id, key));
            }
            Field::Known(field_id @ FieldId::ReasoningToken) => {
                let name = field_id.spec().name;
                let ignored = self.policy.reasoning_tokens.ignored.iter();
                let ignored: Vec<u64> =
                    ignored.map(|token| key.keyed_hash(name, token.as_bytes())).collect();
                let tokens = request.keyed_hashes(*field_id, key);
                values.extend(tokens.into_iter().filter(|token| !ignored.contains(token)));
            }
            Field::Known(FieldId::Shape) => values.push(request.shape(envelope.headers, key)),
            Field::Known(field_id) if field.field_type() == FieldType::Key => {
                values.extend(request.keyed_hashes(*field_id, key));
            }
            Field::Known(field_id) => {
                let keywords = request.keywords().iter().filter(|(id, _)| id == field_id);
                values.extend(
                    keywords
                        .map(|(_, value)| key.keyed_hash(field_id.spec().name, value.as_bytes())),
                );
            }
            Field::Header(name) => {
                let headers = envelope.headers.iter().filter(|(header, _)| header == name);
                values.extend(
                    headers.map(|(_, value)| key.keyed_hash(&field.name(), value.as_bytes())),
                );
            }
        }
    }
}

/// Adds the values of a number or a flag of a request to its observation: the first value as a
/// number, and the keyed hashes of at most [`MAX_VALUES_PER_FIELD`] different values. `llr` is an
/// additional value, after the values of the request. The tuple holds the index of the field in the
/// plan, and the field's id.
fn add_numbers(
    observation: &mut Observation,
    (field_index, field_id): (u16, FieldId),
    request: &Request<'_>,
    llr: Option<f64>,
    key: &HashKey,
) {
    let entries = request.numbers().iter().filter(|(id, _)| *id == field_id);
    let request_numbers = entries.map(|(_, number)| *number);
    let mut numbers: Vec<f64> = request_numbers.chain(llr).collect();
    observation.numbers.extend(numbers.first().map(|number| (field_index, *number)));
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    numbers.truncate(MAX_VALUES_PER_FIELD);
    let hash = |number: f64| key.keyed_hash(field_id.spec().name, &number.to_bits().to_le_bytes());
    observation.values.extend(numbers.into_iter().map(|number| (field_index, hash(number))));
}

/// Status with which an origin rejects an unknown credential.
const STATUS_UNAUTHORIZED: u16 = 401;

/// Number of values for which an observation reserves memory.
const TYPICAL_VALUES: usize = 64;

/// Maximum number of aliases that are listed for a cluster. Aliases that the policy names are
/// listed even beyond this number.
const MAX_SHOWN_ALIASES: usize = 16;

/// A correlation that has indicators for at least one key of a request.
struct MatchedIndicator<'p> {
    /// Index of the correlation among the signatures.
    signature: usize,
    /// First key that matched.
    key: u64,
    /// Fields by which the correlation groups events, as indices in the plan.
    fields: &'p [u16],
    /// Clusters of the indicators that matched, each once.
    clusters: Vec<u32>,
    /// Template keys of the groups that matched, each once; a single `None` if the correlation does
    /// not group by template.
    template_keys: Vec<Option<u64>>,
}

impl<'p> MatchedIndicator<'p> {
    fn new(signature: usize, key: u64, fields: &'p [u16]) -> Self {
        Self { signature, key, fields, clusters: Vec::new(), template_keys: Vec::new() }
    }

    /// Adds the template key and the cluster of an indicator. `cluster` is 0 if the indicator has
    /// no cluster.
    fn add(&mut self, template_key: Option<u64>, cluster: u32) {
        if !self.template_keys.contains(&template_key) {
            self.template_keys.push(template_key);
        }
        if cluster != 0 && !self.clusters.contains(&cluster) {
            self.clusters.push(cluster);
        }
    }
}

/// Returns the hits for which no innocence selection holds.
fn without_innocence(hits: &[Hit]) -> impl Iterator<Item = &Hit> {
    hits.iter().filter(|hit| hit.innocence.is_empty())
}
