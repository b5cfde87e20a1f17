//! Assessment of a request: hits, indicators, exemptions, score, band and observation.

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

    /// Assesses a request to the endpoint that [`Ruleset::endpoint`] has returned; `None` if the
    /// body shows that the request is not an LLM call.
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
        let mut results = EntryResults { issues: body.issues, ..EntryResults::default() };
        if envelope.unscanned_bytes > 0 && !body.is_unmodified() {
            // The bytes that were not scanned are in an encoding that cannot be decoded from the
            // middle.
            results.issues.insert(ReadIssues::INFLATE);
        }
        let mut matcher = self.program.matcher();
        let headers = self.program.header_bits(envelope.headers);
        let list_hits = self.client_list_hits(envelope);
        let entries = extract::for_each_request(
            envelope,
            endpoint,
            &body,
            &self.policy.scan,
            &mut |request| {
                request.add_known_prompt_sets(&self.seeds);
                on_request(request);
                let mut hits = matcher.hits(request, &headers);
                self.remove_hits_of_unknown_fields(envelope, &mut hits);
                hits.extend_from_slice(&list_hits);
                hits.extend(self.template_list_hits(request, envelope));
                self.assess_entry(envelope, endpoint, request, hits, &mut results);
            },
        )?;
        let EntryResults { highest, highest_observation, mut issues, has_prompt, clusters, .. } =
            results;
        let mut assessment =
            highest.unwrap_or_else(|| self.score(envelope, endpoint, list_hits, body.issues));
        if endpoint == Endpoint::Unknown && !has_prompt {
            return None;
        }
        assessment.entries = entries;
        // The clusters of the entry with the highest score stay first.
        add_clusters(&mut assessment.clusters, &clusters);
        assessment.observation = highest_observation.map(|(_, observation)| observation);
        if entries >= self.policy.scan.max_entries {
            issues.insert(ReadIssues::ENTRIES);
        }
        assessment.issues = issues;
        assessment.completeness = Completeness::new(envelope, endpoint, issues);
        Some(assessment)
    }

    /// Removes the hits of signatures that test a field whose value is unknown.
    fn remove_hits_of_unknown_fields(&self, envelope: &Envelope<'_>, hits: &mut Vec<Hit>) {
        if envelope.unknown.is_empty() {
            return;
        }
        hits.retain(|hit| {
            let signature = self.signatures.get(hit.signature);
            signature.is_none_or(|signature| !envelope.lacks_field_of(signature))
        });
    }

    /// Assesses one LLM request of a body, and adds the result to `results`. `hits` are all hits of
    /// the request, except hits of indicators.
    fn assess_entry(
        &self,
        envelope: &Envelope<'_>,
        endpoint: Endpoint,
        request: &Request<'_>,
        hits: Vec<Hit>,
        results: &mut EntryResults,
    ) {
        let mut issues = request.issues();
        if request.work().is_exhausted() {
            issues.insert(ReadIssues::COSTLY);
        }
        results.issues.insert(issues);
        results.has_prompt |= request.has_prompt();
        let mut assessment = self.score(envelope, endpoint, hits, issues);
        let is_counted =
            results.count < MAX_OBSERVED_ENTRIES || results.is_highest(&assessment.score);
        let observation = self.correlate(envelope, request, &mut assessment, is_counted);
        results.add(assessment, observation, request.model());
    }

    /// Returns the observation of a request in an exemplar (a test case in a rule file). Such a
    /// request has no HTTP envelope. `now` is in seconds since the epoch.
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

    /// Returns the observation of a request, and adds the indicators that the request matches to
    /// its assessment. Returns `None` and adds no indicators if the request is not counted: if
    /// `is_counted` is false, correlation is off, or a reason below applies.
    ///
    /// Correlations count neither fully exempt requests nor requests to unknown paths. At unknown
    /// paths, ordinary web forms would also have template keys, and would link ordinary accounts to
    /// clusters.
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

    /// Scores hits without those that an exemption suppresses, and removes the suppressed hits.
    fn score(
        &self,
        envelope: &Envelope<'_>,
        endpoint: Endpoint,
        mut hits: Vec<Hit>,
        issues: ReadIssues,
    ) -> Assessment {
        let exemptions: Vec<&Exemption> = self.policy.exemptions(envelope).collect();
        let score = self.score_of_hits(&hits, &exemptions);
        let exemption_name = self
            .first_applying_exemption(&hits, &exemptions)
            .map(|exemption| exemption.name.clone());
        hits.retain(|hit| {
            let signature = self.signatures.get(hit.signature);
            signature.is_none_or(|signature| !is_suppressed(signature, &exemptions))
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

    /// Returns the score of hits. Hits of experimental signatures, and hits that an exemption
    /// suppresses, do not count.
    fn score_of_hits(&self, hits: &[Hit], exemptions: &[&Exemption]) -> Score {
        let counts = |signature: &Signature| {
            signature.status != Status::Experimental && !is_suppressed(signature, exemptions)
        };
        let weights = hits.iter().filter_map(|hit| {
            let signature = self.signatures.get(hit.signature).filter(|found| counts(found))?;
            Some(HitWeight {
                family: &signature.family,
                weight: signature.weight,
                is_innocent: !hit.innocence.is_empty(),
            })
        });
        Score::new(weights, &self.policy.score)
    }

    /// Returns the first exemption that is for all signatures or suppresses one of the hits; `None`
    /// if there is none.
    fn first_applying_exemption<'e>(
        &self,
        hits: &[Hit],
        exemptions: &[&'e Exemption],
    ) -> Option<&'e Exemption> {
        let mut candidates = exemptions.iter().copied();
        candidates.find(|exemption| {
            let mut signatures = hits.iter().filter_map(|hit| self.signatures.get(hit.signature));
            exemption.signatures.is_empty()
                || signatures.any(|signature| suppresses(exemption, signature))
        })
    }
}

/// Returns whether an exemption suppresses the hits of a signature.
fn suppresses(exemption: &Exemption, signature: &Signature) -> bool {
    exemption.signatures.contains(&signature.name)
}

/// Returns whether one of `exemptions` suppresses the hits of a signature.
fn is_suppressed(signature: &Signature, exemptions: &[&Exemption]) -> bool {
    exemptions.iter().any(|exemption| suppresses(exemption, signature))
}

/// The results of the LLM requests of a body, which is one request or a batch of requests.
#[derive(Default)]
struct EntryResults {
    /// Assessment with the highest score.
    highest: Option<Assessment>,
    /// Highest score of the counted requests, and the observation of the request with this score.
    highest_observation: Option<(f64, Observation)>,
    /// Number of requests.
    count: usize,
    /// Reasons why parts of the body were not read.
    issues: ReadIssues,
    /// Whether any request has a prompt.
    has_prompt: bool,
    /// Clusters of all requests.
    clusters: Vec<RequestCluster>,
}

impl EntryResults {
    /// Returns whether a score is higher than the scores of all requests so far.
    fn is_highest(&self, score: &Score) -> bool {
        self.highest.as_ref().is_none_or(|highest| score.probability > highest.score.probability)
    }

    /// Adds the results of a request. `model` is the requested model; `None` if the request names
    /// no model.
    fn add(
        &mut self,
        mut assessment: Assessment,
        observation: Option<Observation>,
        model: Option<&str>,
    ) {
        self.count = self.count.saturating_add(1);
        add_clusters(&mut self.clusters, &assessment.clusters);
        let score = assessment.score.probability;
        if let Some(observation) = observation
            && self.highest_observation.as_ref().is_none_or(|(highest, _)| score > *highest)
        {
            self.highest_observation = Some((score, observation));
        }
        // Indicators may have changed the score since it was compared for the observation.
        if self.is_highest(&assessment.score) {
            assessment.model = model.map(str::to_owned);
            self.highest = Some(assessment);
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

/// Maximum number of clusters of a request. The entries of a batch may match indicators of many
/// clusters.
const MAX_CLUSTERS: usize = 256;

/// Maximum number of batch entries that are observed, in addition to each entry that scores higher
/// than all entries before it. Computing the template keys of ten thousand entries would cost as
/// much as matching them.
const MAX_OBSERVED_ENTRIES: usize = 64;
