//! Exports the phases of the benchmark to JavaScript. `benches/phases.mjs` runs them in Node's V8.
//!
//! The loops are in the crate `hedgerow_bench`. The feature `peers` adds `LiteralSearch`, which
//! compares Hedgerow's literal search with an automaton of the crate `aho_corasick`.

#[cfg(feature = "peers")]
use std::hint::black_box;

#[cfg(feature = "peers")]
use aho_corasick::{AhoCorasick, AhoCorasickKind};
#[cfg(feature = "peers")]
use hedgerow_core::matching::literal_scanner::Scanner;
use wasm_bindgen::prelude::*;

/// Parses and compiles a bundle. If `compile_regexes` is true, also compiles every regex. Returns
/// the number of signatures. Throws if the bundle is invalid.
#[wasm_bindgen]
pub fn reload(bundle: &[u8], compile_regexes: bool) -> Result<usize, JsError> {
    Ok(hedgerow_bench::reload(bundle, compile_regexes)?)
}

/// Parses packed indicators, and returns their number. Throws if the bytes are malformed.
#[wasm_bindgen]
pub fn parse_indicators(bytes: &[u8]) -> Result<usize, JsError> {
    Ok(hedgerow_bench::parse_indicators(bytes)?)
}

/// Returns `count` packed indicators, whose keys are spread over all values of `u64`.
#[wasm_bindgen]
pub fn synthetic_indicators(count: u32) -> Vec<u8> {
    hedgerow_bench::synthetic_indicators(count)
}

/// The phases of scoring one chat body. Each method runs its phase `times` times and returns a
/// checksum, so that a compiler cannot remove the work.
#[wasm_bindgen]
pub struct PhaseBench(hedgerow_bench::PhaseBench);

#[wasm_bindgen]
impl PhaseBench {
    /// Compiles a bundle, given as JSON text. Throws if the bundle is invalid.
    #[wasm_bindgen(constructor)]
    pub fn new(bundle: &str) -> Result<PhaseBench, JsError> {
        Ok(Self(hedgerow_bench::PhaseBench::new(bundle.as_bytes())?))
    }

    /// Copies a body into Wasm memory. The phases use this body.
    pub fn load(&mut self, body: &[u8]) {
        self.0.load_body(body);
    }

    /// Reads the request from the body.
    pub fn extract(&self, times: u32) -> u32 {
        self.0.extract(times)
    }

    /// Matches all signatures against the request.
    #[wasm_bindgen(js_name = "match")]
    pub fn matching(&self, times: u32) -> u32 {
        self.0.matching(times)
    }

    /// Computes the values of the text that correlations count: the template keys and the digest.
    #[wasm_bindgen(js_name = "sketch")]
    pub fn hash_text(&self, times: u32) -> u32 {
        self.0.hash_text(times)
    }

    /// Computes the score of two hits.
    pub fn score(&self, times: u32) -> u32 {
        self.0.score(times)
    }

    /// Runs all phases, from the loaded body to a decision.
    pub fn run_all(&self, times: u32) -> u32 {
        self.0.run_all(times)
    }

    /// Runs all phases once, including the copy of `body` into Wasm memory, as in the Worker.
    pub fn run_all_with_copy(&self, body: &[u8]) -> u32 {
        self.0.decide(body)
    }
}

/// Literal searches in one text: Hedgerow's scanner, the DFA of `aho_corasick`, and a sum over the
/// bytes as a lower limit. Each method runs `times` times. A search returns the number of
/// occurrences, modulo 2³².
#[cfg(feature = "peers")]
#[wasm_bindgen]
pub struct LiteralSearch {
    literals: Vec<String>,
    scanner: Scanner,
    dfa: AhoCorasick,
    text: Vec<u8>,
}

#[cfg(feature = "peers")]
#[wasm_bindgen]
impl LiteralSearch {
    /// Compiles literals, one per line. Throws if the automaton cannot be built.
    #[wasm_bindgen(constructor)]
    pub fn new(literals: &str) -> Result<LiteralSearch, JsError> {
        let patterns: Vec<String> = literals.lines().map(str::to_owned).collect();
        let scanner = Scanner::new(patterns.clone());
        let mut builder = AhoCorasick::builder();
        let dfa = builder.kind(Some(AhoCorasickKind::DFA)).build(literals.lines())?;
        Ok(Self { literals: patterns, scanner, dfa, text: Vec::new() })
    }

    /// Copies a text into Wasm memory. The searches use this text.
    pub fn load(&mut self, text: &[u8]) {
        self.text = text.to_vec();
    }

    /// Returns the memory of the scanner's tables, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.scanner.heap_bytes()
    }

    /// Returns the memory of the automaton, in bytes.
    pub fn dfa_heap_bytes(&self) -> usize {
        self.dfa.memory_usage()
    }

    /// Builds the scanner's tables `times` times. Returns the sum of their sizes in bytes, modulo
    /// 2³².
    pub fn build(&self, times: u32) -> u32 {
        let build = |_| Scanner::new(self.literals.clone()).heap_bytes() as u32;
        (0..times).map(build).fold(0, u32::wrapping_add)
    }

    /// Searches with Hedgerow's scanner.
    pub fn scan(&self, times: u32) -> u32 {
        let mut count = 0_u32;
        for _ in 0..times {
            self.scanner.scan(black_box(&self.text), &mut |_, _| count = count.wrapping_add(1));
        }
        count
    }

    /// Searches with the DFA of `aho_corasick`. Overlapping occurrences are counted, too.
    pub fn scan_dfa(&self, times: u32) -> u32 {
        let count = |_| self.dfa.find_overlapping_iter(black_box(&self.text)).count() as u32;
        (0..times).map(count).fold(0, u32::wrapping_add)
    }

    /// Reads every byte once, which is the least work that any search must do. Returns the sum of
    /// the bytes.
    pub fn scan_baseline(&self, times: u32) -> u32 {
        let sum = |_| black_box(&self.text).iter().map(|byte| u32::from(*byte)).sum::<u32>();
        (0..times).map(sum).fold(0, u32::wrapping_add)
    }
}
