//! Assessment of a request: hits, indicators, exemptions, score, band, and the observation of it.

use crate::completeness::Completeness;
use crate::correlate::Observation;
use crate::correlate::indicator::Indicators;
use crate::evaluate::decision::Assessment;
use crate::evaluate::score::{HitWeight, Score};
use crate::extract::{self, ReadIssues, Request};
use crate::http::body::Body;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::matching::{Hit, Matcher};
use crate::rules::policy::{Exemption, RequestCluster};
use crate::rules::signature::{Signature, Status};
use crate::ruleset::{Ruleset, TRAFFIC_FAMILY};

impl Ruleset {
    /// Assesses an HTTP request; `None` if it is not an LLM call.
    ///
    /// The assessment of a batch is the assessment of its entry with the highest score.
    pub fn assess(&self, envelope: &Envelope<'_>) -> Option<Assessment> {
        self.assess_as(self.endpoint(envelope)?, envelope)
    }

    /// Assesses a request whose endpoint is known, by [`Ruleset::endpoint`]; `None` if its body
    /// shows that it is not an LLM call.
    pub fn assess_as(&self, endpoint: Endpoint, envelope: &Envelope<'_>) -> Option<Assessment> {
        self.assess_each(endpoint, envelope, &mut |_| {})
    }

    /// Assesses a request like [`Ruleset::assess_as`], and calls `on_request` with each LLM request
    /// of the body.
    pub(crate) fn assess_each(
        &self,
        endpoint: Endpoint,
        envelope: &Envelope<'_>,
        on_request: &mut dyn FnMut(&Request<'_>),
    ) -> Option<Assessment> {
        let encoding = envelope.headers.iter().find(|(name, _)| name == "content-encoding");
        let body =
            Body::new(envelope.body, encoding.map(|(_, value)| value.as_str()), &self.policy.scan);
        let mut highest: Option<Assessment> = None;
        let mut highest_observation: Option<(f64, Observation)> = None;
        let mut entry_index = 0_usize;
        let mut all_issues = body.issues;
        if envelope.unscanned_bytes > 0 && !body.is_unmodified() {
            // The rest is in an encoding that cannot be read from its middle.
            all_issues.insert(ReadIssues::INFLATE);
        }
        let mut has_prompt = false;
        let mut clusters: Vec<RequestCluster> = Vec::new();
        let mut matcher = self.program.matcher();
        let headers = self.program.header_bits(envelope.headers);
        let list_hits = self.client_list_hits(envelope);
        let entries = extract::for_each_request(
            envelope,
            endpoint,
            &body,
            &self.policy.scan,
            &mut |request| {
                request.add_seeds(&self.seeds);
                on_request(request);
                let mut hits = matcher.hits(request, &headers);
                hits.extend_from_slice(&list_hits);
                hits.extend(self.template_list_hits(request, envelope));
                let mut issues = request.issues();
                if request.work().is_exhausted() {
                    issues.insert(ReadIssues::COSTLY);
                }
                all_issues.insert(issues);
                has_prompt |= request.has_prompt();
                let mut assessment = self.score(envelope, endpoint, hits, issues);
                let exceeds_highest = |score: &Score, highest: &Option<Assessment>| {
                    highest
                        .as_ref()
                        .is_none_or(|highest| score.probability > highest.score.probability)
                };
                let is_highest = exceeds_highest(&assessment.score, &highest);
                let is_counted = entry_index < MAX_OBSERVED_ENTRIES || is_highest;
                let observation = self.correlate(envelope, request, &mut assessment, is_counted);
                entry_index = entry_index.saturating_add(1);
                add_clusters(&mut clusters, &assessment.clusters);
                let score = assessment.score.probability;
                if let Some(observation) = observation
                    && highest_observation
                        .as_ref()
                        .is_none_or(|(highest_score, _)| score > *highest_score)
                {
                    highest_observation = Some((score, observation));
                }
                // Indicators may have changed the score.
                if exceeds_highest(&assessment.score, &highest) {
                    assessment.model = request.model().map(str::to_owned);
                    highest = Some(assessment);
                }
            },
        )?;
        let mut assessment =
            highest.unwrap_or_else(|| self.score(envelope, endpoint, list_hits, body.issues));
        if endpoint == Endpoint::Unknown && !has_prompt {
            return None;
        }
        assessment.entries = entries;
        // The clusters of the entry that decides come first.
        add_clusters(&mut assessment.clusters, &clusters);
        assessment.observation = highest_observation.map(|(_, observation)| observation);
        if entries >= self.policy.scan.max_entries {
            all_issues.insert(ReadIssues::ENTRIES);
        }
        assessment.issues = all_issues;
        assessment.completeness = Completeness::new(envelope, endpoint, all_issues);
        Some(assessment)
    }

    /// Returns the observation of an exemplar's request, which is not an HTTP request. `now` is in
    /// seconds since the epoch.
    pub fn observe(
        &self,
        matcher: &mut Matcher<'_>,
        request: &Request<'_>,
        headers: &[(String, String)],
        now: u32,
    ) -> Observation {
        let indicators = Some(&Indicators::default());
        let envelope = Envelope { headers, now: u64::from(now), indicators, ..Envelope::default() };
        let hits = matcher.hits(request, &self.program.header_bits(headers));
        let mut assessment = self.score(&envelope, Endpoint::Generic, hits, ReadIssues::default());
        self.correlate(&envelope, request, &mut assessment, true).unwrap_or_default()
    }

    /// Returns the observation of a request if it is counted, and adds the indicators that the
    /// request matches to its assessment.
    ///
    /// Correlations count neither fully exempt requests nor requests to unknown paths: forms that
    /// are not LLM calls have templates, too, and would make clusters of ordinary accounts.
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
            && !assessment.is_exempt
            && assessment.endpoint != Endpoint::Unknown;
        let build_observation =
            || self.observation(envelope, request, &assessment.hits, assessment.score.evidence);
        let observation = is_counted.then(build_observation);
        // Traffic signatures only select requests for correlations; they are not evidence.
        assessment.hits.retain(|hit| {
            self.signatures
                .get(hit.signature)
                .is_none_or(|signature| signature.family != TRAFFIC_FAMILY)
        });
        let observation = observation?;
        let (indicator_hits, clusters) =
            self.indicator_hits(envelope, &observation, assessment.score.content_evidence());
        if !indicator_hits.is_empty() {
            let Assessment { endpoint, issues, .. } = *assessment;
            let mut hits = std::mem::take(&mut assessment.hits);
            hits.extend(indicator_hits);
            let exemption_name = assessment.exemption_name.take();
            *assessment = self.score(envelope, endpoint, hits, issues);
            // The first scoring removed exempt hits, so the second may not find the exemption.
            assessment.exemption_name = exemption_name.or(assessment.exemption_name.take());
            assessment.clusters = clusters;
        }
        Some(observation)
    }

    /// Scores hits under the exemptions that apply, and removes the hits that they suppress.
    fn score(
        &self,
        envelope: &Envelope<'_>,
        endpoint: Endpoint,
        mut hits: Vec<Hit>,
        issues: ReadIssues,
    ) -> Assessment {
        let exemptions: Vec<&Exemption> = self.policy.exemptions(envelope).collect();
        let suppresses = |exemption: &Exemption, signature: &Signature| {
            exemption.signatures.contains(&signature.name)
        };
        let hit_signatures = || hits.iter().filter_map(|hit| self.signatures.get(hit.signature));
        let counts = |signature: &Signature| {
            signature.status != Status::Experimental
                && !exemptions.iter().any(|exemption| suppresses(exemption, signature))
        };
        let counted = hits.iter().filter_map(|hit| {
            Some((self.signatures.get(hit.signature).filter(|found| counts(found))?, hit))
        });
        let weights = counted.map(|(signature, hit)| HitWeight {
            family: &signature.family,
            weight: signature.weight,
            is_innocent: !hit.innocence.is_empty(),
        });
        let score = Score::new(weights, &self.policy.score);
        let applies = |exemption: &&&Exemption| {
            exemption.signatures.is_empty()
                || hit_signatures().any(|signature| suppresses(exemption, signature))
        };
        let exemption_name =
            exemptions.iter().find(applies).map(|exemption| exemption.name.clone());
        hits.retain(|hit| {
            let signature = self.signatures.get(hit.signature);
            signature.is_none_or(|signature| {
                !exemptions.iter().any(|exemption| suppresses(exemption, signature))
            })
        });
        Assessment {
            endpoint,
            band: self.policy.bands.band(score.probability),
            score,
            issues,
            completeness: Completeness::default(),
            entries: 1,
            exemption_name,
            is_exempt: exemptions.iter().any(|exemption| exemption.signatures.is_empty()),
            hits,
            observation: None,
            clusters: Vec::new(),
            model: None,
        }
    }
}

/// Adds clusters that are not listed yet, up to [`MAX_CLUSTERS`].
fn add_clusters(clusters: &mut Vec<RequestCluster>, added: &[RequestCluster]) {
    for cluster in added {
        if clusters.len() < MAX_CLUSTERS && clusters.iter().all(|known| known.id != cluster.id) {
            clusters.push(cluster.clone());
        }
    }
}

/// Maximum number of clusters of a request: a batch may have the keys of many.
const MAX_CLUSTERS: usize = 256;

/// Maximum number of batch entries that are observed, in addition to each entry that scores higher
/// than all before it. Sketching all of ten thousand would cost as much as matching them.
const MAX_OBSERVED_ENTRIES: usize = 64;
