//! The phases of one request as loops, for the benchmarks: the same ones natively and in Wasm.

use std::hint::black_box;

use sha2::{Digest, Sha256};

use crate::hash::mix;
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

/// What taking over indicators costs: their digest, as authenticating them takes it, and reading them.
/// Returns their number.
pub fn indicators(bytes: &[u8]) -> Result<usize, crate::Error> {
    black_box(Sha256::digest(black_box(bytes)));
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
