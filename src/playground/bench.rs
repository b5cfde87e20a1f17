//! The benchmark's phases in Wasm; `benches/bench.mjs` runs them in Node's V8.

#[cfg(feature = "peers")]
use std::hint::black_box;

#[cfg(feature = "peers")]
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use wasm_bindgen::prelude::*;

/// Reads and compiles a bundle; with `check` every regex of it, too. Returns the number of signatures.
/// Throws where it cannot be read.
#[wasm_bindgen]
pub fn reload(bundle: &[u8], check: bool) -> Result<usize, JsError> {
    Ok(hedgerow::bench::reload(bundle, check)?)
}

/// Authenticates (nearly) and reads indicators; returns their number. Throws where these are none.
#[wasm_bindgen]
pub fn indicators(bytes: &[u8]) -> Result<usize, JsError> {
    Ok(hedgerow::bench::indicators(bytes)?)
}

/// Makes some.
#[wasm_bindgen]
pub fn some_indicators(count: u32) -> Vec<u8> {
    hedgerow::bench::some_indicators(count)
}

/// Phases over one chat body; each runs `times` times and returns a checksum.
#[wasm_bindgen]
pub struct Bench(hedgerow::bench::Bench);

#[wasm_bindgen]
impl Bench {
    /// Loads a bundle. Throws where it cannot be read.
    #[wasm_bindgen(constructor)]
    pub fn new(bundle: &str) -> Result<Bench, JsError> {
        Ok(Self(hedgerow::bench::Bench::new(bundle.as_bytes())?))
    }

    /// Copies a body in.
    pub fn load(&mut self, body: &[u8]) {
        self.0.load(body);
    }

    /// Reads the request.
    pub fn extract(&self, times: u32) -> u32 {
        self.0.extract(times)
    }

    /// Matches it.
    #[wasm_bindgen(js_name = "match")]
    pub fn matching(&self, times: u32) -> u32 {
        self.0.matching(times)
    }

    /// Hashes what correlation keeps of its text.
    pub fn sketch(&self, times: u32) -> u32 {
        self.0.sketch(times)
    }

    /// Scores hits.
    pub fn score(&self, times: u32) -> u32 {
        self.0.score(times)
    }

    /// All of it.
    pub fn whole(&self, times: u32) -> u32 {
        self.0.whole(times)
    }

    /// All of it once, the copy of the body included.
    pub fn whole_from_js(&self, body: &[u8]) -> u32 {
        self.0.decide(body)
    }
}

/// The search for literals alone, over one text: ours, and others'. Each runs `times` times and returns
/// the number of occurrences.
#[cfg(feature = "peers")]
#[wasm_bindgen]
pub struct Search {
    literals: Vec<String>,
    ours: hedgerow::scan::Scanner,
    dfa: AhoCorasick,
    text: Vec<u8>,
}

#[cfg(feature = "peers")]
#[wasm_bindgen]
impl Search {
    /// Compiles literals, one a line. Throws where the automaton cannot be built.
    #[wasm_bindgen(constructor)]
    pub fn new(literals: &str) -> Result<Search, JsError> {
        let all: Vec<String> = literals.lines().map(str::to_owned).collect();
        let ours = hedgerow::scan::Scanner::new(all.clone());
        let mut dfa = AhoCorasick::builder();
        let dfa = dfa.kind(Some(AhoCorasickKind::DFA)).build(literals.lines())?;
        Ok(Self { literals: all, ours, dfa, text: Vec::new() })
    }

    /// Copies a text in.
    pub fn load(&mut self, text: &[u8]) {
        self.text = text.to_vec();
    }

    /// Bytes that our tables take.
    pub fn bytes(&self) -> usize {
        self.ours.memory()
    }

    /// Bytes that the automaton takes.
    pub fn dfa_bytes(&self) -> usize {
        self.dfa.memory_usage()
    }

    /// Builds our tables anew.
    pub fn build(&self, times: u32) -> u32 {
        let build = |_| hedgerow::scan::Scanner::new(self.literals.clone()).memory() as u32;
        (0..times).map(build).fold(0, u32::wrapping_add)
    }

    /// Our scan.
    pub fn ours(&self, times: u32) -> u32 {
        let mut count = 0_u32;
        for _ in 0..times {
            self.ours.scan(black_box(&self.text), &mut |_, _| count = count.wrapping_add(1));
        }
        count
    }

    /// aho-corasick's DFA, telling all occurrences as well.
    pub fn dfa(&self, times: u32) -> u32 {
        let count = |_| self.dfa.find_overlapping_iter(black_box(&self.text)).count() as u32;
        (0..times).map(count).fold(0, u32::wrapping_add)
    }

    /// The floor: every byte read once.
    pub fn floor(&self, times: u32) -> u32 {
        let sum = |_| black_box(&self.text).iter().map(|byte| u32::from(*byte)).sum::<u32>();
        (0..times).map(sum).fold(0, u32::wrapping_add)
    }
}
