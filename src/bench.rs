//! The phases of one request as loops, for the benchmarks: the same ones natively and in Wasm.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::sync::Arc;

use crate::correlate::{Correlator, Observation, Shard};
use crate::field::{Field, Name};
use crate::hash::{HashKey, mix};
use crate::indicator::{Indicator, Indicators};
use crate::matcher::Matcher;
use crate::request::{self, Body, Envelope};
use crate::route::Endpoint;
use crate::score::Score;
use crate::{Decision, Ruleset};

/// Runs phases over one chat body. Each phase returns a checksum, so that no work can be left out.
#[derive(Debug)]
pub struct Bench {
    ruleset: Ruleset,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
}

/// What taking over a release costs: reads and compiles a bundle; with `check` every regex of it, too.
/// Returns the number of signatures.
pub fn reload(bundle: &[u8], check: bool) -> Result<usize, crate::Error> {
    let ruleset = Ruleset::load(bundle)?;
    if check {
        ruleset.check()?;
    }
    Ok(black_box(&ruleset).signatures().len())
}

/// What taking over indicators costs once the platform has authenticated them. Returns their number.
pub fn indicators(bytes: &[u8]) -> Result<usize, crate::Error> {
    Ok(black_box(&Indicators::parse(bytes)?).len())
}

/// Indicators of keys that are spread over all there are, in their compact form.
pub fn some_indicators(count: u32) -> Vec<u8> {
    let mut indicators = Indicators::default();
    for number in 0..count {
        let correlation = if number % 3 == 0 { "cluster_one" } else { "cluster_other" };
        let (key, expires) = (mix(u64::from(number)), u32::MAX);
        indicators.add(Indicator { correlation, key, expires, cluster: number });
    }
    indicators.bytes()
}

/// What a flood of template keys does to a correlator.
#[derive(Debug)]
pub struct Flood {
    /// Requests, each with as many keys of its own as a text has, but for those of shared templates.
    pub requests: u32,
    /// Bytes that the correlator took at most.
    pub bytes: usize,
    /// Templates that many accounts shared, and those of them that were found.
    pub shared: usize,
    /// See above.
    pub found: usize,
    /// How far the count of a template's accounts was off at most, when it was told.
    pub error: f64,
}

/// Templates that are shared, one of their requests among so many others.
const SHARED: u64 = 8;
const ONE_IN: u64 = 50;

/// Sends a correlator of a bundle's rules so many template keys that one account each has once, in the
/// midst of a few that some hundreds share.
pub fn flood(bundle: &[u8], keys: u64, limit: usize) -> Result<Flood, crate::Error> {
    let plan = Arc::clone(Ruleset::load(bundle)?.plan());
    let template = plan.fields().iter().position(|own| *own == Field::Known(Name::TemplateUser));
    let template = template.unwrap_or_default() as u16;
    let traffic = (0_u16..).zip(plan.rules()).filter(|(_, rule)| rule.starts_with("traffic_"));
    let usual = traffic.filter(|(_, rule)| !rule.ends_with("refused") && !rule.ends_with("curbed"));
    let rules: Vec<u16> = usual.map(|(place, _)| place).collect();
    let mut correlator = Correlator::new(Arc::clone(&plan), Shard::WHOLE, limit);
    let (mut firings, mut bytes, mut error) = (Vec::new(), 0, 0.0_f64);
    let mut accounts: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    let each = crate::template::MAX_KEYS as u64;
    let requests = keys / each * ONE_IN / (ONE_IN - 1);
    for number in 0..requests {
        let shared = (number % ONE_IN == 0).then_some(number / ONE_IN % SHARED);
        let account = match shared {
            Some(_) => mix(number) % 600 + 1,
            None => mix(number) | 1 << 63,
        };
        let first = shared.map_or(1 << 40 | number << 8, |own| own << 8);
        let mut values: Vec<(u16, u64)> =
            (0..each).map(|key| (template, mix(first + key + 1))).collect();
        values.push((0, account));
        values.sort_unstable();
        let at = 1_790_000_000 + (number / 40) as u32;
        let observation = Observation { at, rules: rules.clone(), values, numbers: Vec::new() };
        if let Some(shared) = shared {
            accounts.entry(shared).or_default().insert(account);
        }
        firings.clear();
        correlator.observe(&observation, at, &mut firings);
        bytes = bytes.max(correlator.bytes());
        for firing in &firings {
            let (Some(shared), Some(correlation)) =
                (shared, plan.correlations().get(firing.correlation))
            else {
                continue;
            };
            found.insert(shared);
            let is_count = correlation.name == "cluster_template_day";
            if let Some(known) = accounts.get(&shared).filter(|_| is_count) {
                error = error.max((firing.measured / known.len() as f64 - 1.0).abs());
            }
        }
    }
    let requests = requests as u32;
    Ok(Flood { requests, bytes, shared: SHARED as usize, found: found.len(), error })
}

impl Bench {
    /// Loads a bundle.
    pub fn new(bundle: &[u8]) -> Result<Self, crate::Error> {
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
    pub fn load(&mut self, body: &[u8]) {
        self.body.clear();
        self.body.extend_from_slice(body);
    }

    /// Reads the request.
    pub fn extract(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        for _ in 0..times {
            self.read(&mut |text, _, _| sum = sum.wrapping_add(text));
        }
        black_box(sum)
    }

    /// Matches it.
    pub fn matching(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        let headers = self.ruleset.program().headers(&self.headers);
        self.read(&mut |_, request, matcher| {
            for _ in 0..times {
                sum = sum.wrapping_add(black_box(matcher.hits(request, &headers)).len() as u32);
            }
        });
        black_box(sum)
    }

    /// Sketches it: template keys and digest of its text, as correlation wants them.
    pub fn sketch(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        let key = HashKey::default();
        self.read(&mut |_, request, _| {
            for _ in 0..times {
                for name in [Name::TemplateSystem, Name::TemplateUser, Name::PromptDigest] {
                    sum = sum.wrapping_add(black_box(request.hashes(name, &key)).len() as u32);
                }
            }
        });
        black_box(sum)
    }

    /// Scores two hits.
    pub fn score(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        let weights = self.ruleset.signatures().iter().take(2);
        let weights: Vec<(&str, f64)> =
            weights.map(|signature| (signature.family.as_str(), signature.weight)).collect();
        for _ in 0..times {
            let score =
                Score::new(black_box(&weights).iter().copied(), &self.ruleset.policy().score);
            sum = sum.wrapping_add(score.value as u32);
        }
        black_box(sum)
    }

    /// All of it, from bytes to a decision.
    pub fn whole(&self, times: u32) -> u32 {
        let mut sum = 0_u32;
        for _ in 0..times {
            sum = sum.wrapping_add(self.decide(&self.body));
        }
        black_box(sum)
    }

    /// All of it for a body that is not loaded.
    pub fn decide(&self, body: &[u8]) -> u32 {
        let envelope = self.envelope(body);
        let Some(assessment) = self.ruleset.assess(&envelope) else { return 0 };
        let treatment = self.ruleset.policy().treatment(envelope.path, envelope.account);
        let decision = Decision::new(&self.ruleset, &envelope, assessment, treatment);
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

    fn read(&self, each: &mut dyn FnMut(u32, &request::Request<'_>, &mut Matcher<'_>)) {
        let envelope = self.envelope(&self.body);
        let limits = &self.ruleset.policy().scan;
        let body = Body::new(envelope.body, None, limits);
        let mut matcher = self.ruleset.program().matcher();
        request::read(&envelope, Endpoint::OpenaiChat, &body, limits, &mut |request| {
            each(request.text().len() as u32, request, &mut matcher);
        });
    }
}
