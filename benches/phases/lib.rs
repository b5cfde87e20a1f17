//! Loops over each phase of a request. The native benchmark and the Wasm benchmark call them.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;

use hedgerow_core::correlate::indicator::{Indicator, Indicators};
use hedgerow_core::correlate::{Correlator, Observation, Plan, Shard};
use hedgerow_core::evaluate::score::{HitWeight, Score};
use hedgerow_core::field::{Field, FieldId};
use hedgerow_core::http::body::Body;
use hedgerow_core::http::envelope::Envelope;
use hedgerow_core::http::route::Endpoint;
use hedgerow_core::keyed_hash::{HashKey, fmix64};
use hedgerow_core::matching::Matcher;
use hedgerow_core::{Decision, Ruleset, extract};

/// The phases of scoring one chat body. Each method runs its phase `times` times and returns a
/// checksum, so that the compiler cannot remove the work.
#[derive(Debug)]
pub struct PhaseBench {
    ruleset: Ruleset,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

/// Parses and compiles a bundle, as an isolate does to load a release. With `compile_regexes`, also
/// compiles every regex. Returns the number of signatures.
///
/// # Errors
/// If the bundle is invalid.
pub fn reload(bundle: &[u8], compile_regexes: bool) -> Result<usize, hedgerow_core::Error> {
    let ruleset = Ruleset::load(bundle)?;
    if compile_regexes {
        ruleset.compile_regexes()?;
    }
    Ok(black_box(&ruleset).signatures().len())
}

/// Parses indicators, as an isolate does after the platform has verified their HMAC. Returns their
/// number.
///
/// # Errors
/// If `bytes` are not packed indicators.
pub fn parse_indicators(bytes: &[u8]) -> Result<usize, hedgerow_core::Error> {
    Ok(black_box(&Indicators::decode(bytes)?).len())
}

/// Returns `count` encoded indicators whose keys are spread evenly over all `u64` values.
pub fn synthetic_indicators(count: u32) -> Vec<u8> {
    let mut indicators = Indicators::default();
    for index in 0..count {
        let correlation = if index % 3 == 0 { "cluster_one" } else { "cluster_other" };
        let (key, expires) = (fmix64(u64::from(index)), u32::MAX);
        indicators.add(Indicator { correlation, key, expires, cluster: index });
    }
    indicators.encode()
}

/// The result of a flood of template keys.
#[derive(Debug)]
pub struct KeyFloodReport {
    /// Number of requests. One in `SHARED_REQUEST_INTERVAL` repeats the keys of a shared template.
    /// Each other request has new keys.
    pub requests: u32,
    /// Peak memory of the correlator, in bytes.
    pub max_bytes: usize,
    /// Templates that many accounts share.
    pub shared_templates: usize,
    /// Shared templates for which a correlation fired.
    pub detected_templates: usize,
    /// Largest relative error of a template's account count when its correlation fired.
    pub max_count_error: f64,
}

/// Number of templates that many accounts share.
const SHARED_TEMPLATES: u64 = 8;
/// One in this many requests is a request of a shared template.
const SHARED_REQUEST_INTERVAL: u64 = 50;
/// Accounts that send shared templates.
const SHARED_ACCOUNTS: u64 = 600;
/// Number of template keys of a request.
const KEYS_PER_REQUEST: u64 = hedgerow_core::template::MAX_KEYS as u64;
/// Requests per second of the simulated clock.
const REQUESTS_PER_SECOND: u64 = 40;

/// Floods a correlator, which uses a bundle's rules, with `key_count` template keys. Each of these
/// keys occurs once, from one account. Among them are a few keys that hundreds of accounts share.
/// `memory_limit` is in bytes.
///
/// # Errors
/// If the bundle is invalid.
pub fn run_key_flood(
    bundle: &[u8],
    key_count: u64,
    memory_limit: usize,
) -> Result<KeyFloodReport, hedgerow_core::Error> {
    let plan = Arc::clone(Ruleset::load(bundle)?.plan());
    let indexes = FloodIndexes::new(&plan);
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::ALL, memory_limit);
    let (mut firings, mut max_bytes, mut max_count_error) = (Vec::new(), 0, 0.0_f64);
    let mut accounts_by_template: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut detected = BTreeSet::new();
    let requests =
        key_count / KEYS_PER_REQUEST * SHARED_REQUEST_INTERVAL / (SHARED_REQUEST_INTERVAL - 1);
    for index in 0..requests {
        let request = FloodRequest::new(index);
        if let Some(template) = request.shared_template {
            accounts_by_template.entry(template).or_default().insert(request.account);
        }
        let observation = request.observation(&indexes);
        firings.clear();
        correlator.observe(&observation, observation.at, &mut firings);
        max_bytes = max_bytes.max(correlator.heap_bytes());
        for firing in &firings {
            let (Some(template), Some(correlation)) =
                (request.shared_template, plan.correlations().get(firing.correlation))
            else {
                continue;
            };
            detected.insert(template);
            let counts_accounts = correlation.name == "cluster_template_day";
            let accounts = accounts_by_template.get(&template).filter(|_| counts_accounts);
            if let Some(accounts) = accounts {
                let error = (firing.value / accounts.len() as f64 - 1.0).abs();
                max_count_error = max_count_error.max(error);
            }
        }
    }
    Ok(KeyFloodReport {
        requests: requests as u32,
        max_bytes,
        shared_templates: SHARED_TEMPLATES as usize,
        detected_templates: detected.len(),
        max_count_error,
    })
}

/// Indexes in a correlation plan that the observations of a flood contain.
struct FloodIndexes {
    template_field: u16,
    /// The `traffic_*` signatures of ordinary requests.
    signatures: Vec<u16>,
}

impl FloodIndexes {
    fn new(plan: &Plan) -> Self {
        let is_template = |field: &Field| *field == Field::Known(FieldId::TemplateUser);
        let template_field = plan.fields().iter().position(is_template).unwrap_or_default() as u16;
        let signatures = (0_u16..).zip(plan.signatures());
        let traffic = signatures.filter(|(_, name)| name.starts_with("traffic_"));
        let ordinary =
            traffic.filter(|(_, name)| !name.ends_with("refused") && !name.ends_with("enforced"));
        Self { template_field, signatures: ordinary.map(|(index, _)| index).collect() }
    }
}

/// A request of a flood.
struct FloodRequest {
    index: u64,
    /// Number of the shared template whose keys the request repeats, if any.
    shared_template: Option<u64>,
    /// Keyed hash of the account.
    account: u64,
}

impl FloodRequest {
    fn new(index: u64) -> Self {
        let shared_template = index
            .is_multiple_of(SHARED_REQUEST_INTERVAL)
            .then_some(index / SHARED_REQUEST_INTERVAL % SHARED_TEMPLATES);
        let account = match shared_template {
            Some(_) => fmix64(index) % SHARED_ACCOUNTS + 1,
            None => fmix64(index) | 1 << 63,
        };
        Self { index, shared_template, account }
    }

    fn observation(&self, indexes: &FloodIndexes) -> Observation {
        let own_key = 1 << 40 | self.index << 8;
        let first_key = self.shared_template.map_or(own_key, |template| template << 8);
        let keys = (0..KEYS_PER_REQUEST).map(|key| fmix64(first_key + key + 1));
        let mut values: Vec<(u16, u64)> = keys.map(|key| (indexes.template_field, key)).collect();
        values.push((0, self.account));
        values.sort_unstable();
        let at = 1_790_000_000 + (self.index / REQUESTS_PER_SECOND) as u32;
        Observation {
            at,
            signatures: indexes.signatures.clone(),
            values,
            proven: true,
            ..Observation::default()
        }
    }
}

impl PhaseBench {
    /// Compiles a bundle.
    ///
    /// # Errors
    /// If the bundle is invalid.
    pub fn new(bundle: &[u8]) -> Result<Self, hedgerow_core::Error> {
        let headers = [
            ("host", "api.example.com"),
            ("authorization", "Bearer sk-example"),
            ("content-type", "application/json"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
            ("user-agent", "OpenAI/Python 2.8.0"),
            ("x-stainless-lang", "python"),
            ("x-stainless-package-version", "2.8.0"),
            ("x-stainless-os", "Linux"),
            ("x-stainless-runtime", "CPython"),
        ];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Ok(Self { ruleset: Ruleset::load(bundle)?, body: Vec::new(), headers })
    }

    /// Sets the body that the phases work on.
    pub fn load_body(&mut self, body: &[u8]) {
        self.body.clear();
        self.body.extend_from_slice(body);
    }

    /// Reads the request from the body.
    pub fn extract(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        for _ in 0..times {
            self.with_request(&mut |text, _, _| sum = sum.wrapping_add(text));
        }
        black_box(sum)
    }

    /// Matches the signatures.
    pub fn matching(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        let headers = self.ruleset.program().header_bits(&self.headers);
        self.with_request(&mut |_, request, matcher| {
            for _ in 0..times {
                request.work().renew();
                sum = sum.wrapping_add(black_box(matcher.hits(request, &headers)).len() as u32);
            }
        });
        black_box(sum)
    }

    /// Sketches the text: computes the template keys and the digest that correlations need.
    pub fn hash_text(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        let key = HashKey::default();
        self.with_request(&mut |_, request, _| {
            for _ in 0..times {
                for name in [FieldId::TemplateSystem, FieldId::TemplateUser, FieldId::PromptDigest]
                {
                    sum =
                        sum.wrapping_add(black_box(request.keyed_hashes(name, &key)).len() as u32);
                }
            }
        });
        black_box(sum)
    }

    /// Scores two hits.
    pub fn score(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        let weights = self.ruleset.signatures().iter().take(2);
        let hits: Vec<HitWeight<'_>> = weights
            .map(|signature| HitWeight {
                family: &signature.family,
                weight: signature.weight,
                is_innocent: false,
            })
            .collect();
        for _ in 0..times {
            let score = Score::new(black_box(&hits).iter().copied(), &self.ruleset.policy().score);
            sum = sum.wrapping_add(score.probability as u32);
        }
        black_box(sum)
    }

    /// Runs all phases, from bytes to a decision.
    pub fn run_all(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        for _ in 0..times {
            sum = sum.wrapping_add(self.decide(&self.body));
        }
        black_box(sum)
    }

    /// Runs all phases once, for `body` instead of the loaded body.
    pub fn decide(&self, body: &[u8]) -> u32 {
        let envelope = self.envelope(body);
        let Some(assessment) = self.ruleset.assess(&envelope) else { return 0 };
        let attributes = envelope.attributes(assessment.model.as_deref());
        let disposition = self.ruleset.policy().disposition(&attributes);
        let decision = Decision::new(&self.ruleset, &envelope, assessment, disposition);
        black_box(decision.score as u32).wrapping_add(decision.hits.len() as u32)
    }

    fn envelope<'a>(&'a self, body: &'a [u8]) -> Envelope<'a> {
        let path = "/v1/chat/completions";
        Envelope {
            method: "POST",
            path,
            headers: &self.headers,
            body,
            now: 1_790_000_000,
            ..Envelope::default()
        }
    }

    fn with_request(&self, visit: &mut dyn FnMut(u32, &extract::Request<'_>, &mut Matcher<'_>)) {
        let envelope = self.envelope(&self.body);
        let limits = &self.ruleset.policy().scan;
        let body = Body::new(envelope.body, None, limits);
        let mut matcher = self.ruleset.program().matcher();
        extract::for_each_request(&envelope, Endpoint::OpenaiChat, &body, limits, &mut |request| {
            visit(request.text().len() as u32, request, &mut matcher);
        });
    }
}
