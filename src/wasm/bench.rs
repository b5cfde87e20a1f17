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
    Ok(hedgerow_bench::reload(bundle, check)?)
}

/// Authenticates (nearly) and reads indicators; returns their number. Throws where these are none.
#[wasm_bindgen]
pub fn parse_indicators(bytes: &[u8]) -> Result<usize, JsError> {
    Ok(hedgerow_bench::parse_indicators(bytes)?)
}

/// Makes some.
#[wasm_bindgen]
pub fn synthetic_indicators(count: u32) -> Vec<u8> {
    hedgerow_bench::synthetic_indicators(count)
}

/// Phases over one chat body; each runs `times` times and returns a checksum.
#[wasm_bindgen]
pub struct PhaseBench(hedgerow_bench::PhaseBench);

#[wasm_bindgen]
impl PhaseBench {
    /// Loads a bundle. Throws where it cannot be read.
    #[wasm_bindgen(constructor)]
    pub fn new(bundle: &str) -> Result<PhaseBench, JsError> {
        Ok(Self(hedgerow_bench::PhaseBench::new(bundle.as_bytes())?))
    }

    /// Copies a body in.
    pub fn load(&mut self, body: &[u8]) {
        self.0.load_body(body);
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
    pub fn run_all(&self, times: u32) -> u32 {
        self.0.run_all(times)
    }

    /// All of it once, the copy of the body included.
    pub fn run_all_with_copy(&self, body: &[u8]) -> u32 {
        self.0.decide(body)
    }
}

/// The search for literals alone, over one text: ours, and others'. Each runs `times` times and returns
/// the number of occurrences.
#[cfg(feature = "peers")]
#[wasm_bindgen]
pub struct LiteralSearch {
    literals: Vec<String>,
    scanner: hedgerow_core::matching::literal_scanner::Scanner,
    dfa: AhoCorasick,
    text: Vec<u8>,
}

#[cfg(feature = "peers")]
#[wasm_bindgen]
impl LiteralSearch {
    /// Compiles literals, one a line. Throws where the automaton cannot be built.
    #[wasm_bindgen(constructor)]
    pub fn new(literals: &str) -> Result<LiteralSearch, JsError> {
        let patterns: Vec<String> = literals.lines().map(str::to_owned).collect();
        let scanner = hedgerow_core::matching::literal_scanner::Scanner::new(patterns.clone());
        let mut dfa = AhoCorasick::builder();
        let dfa = dfa.kind(Some(AhoCorasickKind::DFA)).build(literals.lines())?;
        Ok(Self { literals: patterns, scanner, dfa, text: Vec::new() })
    }

    /// Copies a text in.
    pub fn load(&mut self, text: &[u8]) {
        self.text = text.to_vec();
    }

    /// Bytes that our tables take.
    pub fn heap_bytes(&self) -> usize {
        self.scanner.heap_bytes()
    }

    /// Bytes that the automaton takes.
    pub fn dfa_heap_bytes(&self) -> usize {
        self.dfa.memory_usage()
    }

    /// Builds our tables anew.
    pub fn build(&self, times: u32) -> u32 {
        let build = |_| {
            hedgerow_core::matching::literal_scanner::Scanner::new(self.literals.clone())
                .heap_bytes() as u32
        };
        (0..times).map(build).fold(0, u32::wrapping_add)
    }

    /// Our scan.
    pub fn scan(&self, times: u32) -> u32 {
        let mut count = 0_u32;
        for _ in 0..times {
            self.scanner.scan(black_box(&self.text), &mut |_, _| count = count.wrapping_add(1));
        }
        count
    }

    /// aho-corasick's DFA, telling all occurrences as well.
    pub fn scan_dfa(&self, times: u32) -> u32 {
        let count = |_| self.dfa.find_overlapping_iter(black_box(&self.text)).count() as u32;
        (0..times).map(count).fold(0, u32::wrapping_add)
    }

    /// The floor: every byte read once.
    pub fn scan_baseline(&self, times: u32) -> u32 {
        let sum = |_| black_box(&self.text).iter().map(|byte| u32::from(*byte)).sum::<u32>();
        (0..times).map(sum).fold(0, u32::wrapping_add)
    }
}
