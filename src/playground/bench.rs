//! The benchmark's phases in Wasm; `benches/bench.mjs` runs them in Node's V8.

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
