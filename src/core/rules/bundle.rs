//! The form in which a ruleset travels: canonical JSON, known by its SHA-256.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::list::List;
use crate::error::Error;
use crate::rules::correlation::Correlation;
use crate::rules::policy::Policy;
use crate::rules::signature::{Comparison, Signature};

/// Format number of a bundle: written, and the only one that is read.
pub const BUNDLE_FORMAT: u32 = 1;

/// Bytes that a bundle has at most.
pub const MAX_BUNDLE_BYTES: usize = 5 << 20;

/// Signatures and lists that a bundle has at most.
pub const MAX_SIGNATURES: usize = 10_000;

/// Bytes that loading and checking a bundle takes at most, beside the bundle's own, whatever stands
/// in it: an isolate has 128 MB, the Worker itself in it, and the ruleset in force meanwhile. In Wasm,
/// where pointers are half as long, it takes less. `tests/memory.rs` holds the worst of bundles
/// against it; the limits below, and those on regexes and conditions, keep them within.
pub const MAX_COMPILE_BYTES: usize = 64 << 20;

/// Objects and arrays that a bundle has at most. The shipped rules have one in thirteen.
const MAX_JSON_CONTAINERS: usize = 200_000;

/// Members and elements of those, all together.
const MAX_JSON_VALUES: usize = 400_000;

/// Correlations that a bundle has at most, and rules that they name together.
const MAX_CORRELATIONS: usize = crate::correlate::indicator::MAX_CORRELATION_NAMES;
const MAX_CORRELATION_RULES: usize = 20_000;

/// Comparisons that the signatures make at most.
const MAX_COMPARISONS: usize = 50_000;

/// Literals that are looked for at most: patterns of strings, and landmarks of regexes.
const MAX_LITERALS: usize = 60_000;

/// Bytes of all literals together.
const MAX_LITERAL_BYTES: usize = 1 << 20;

/// Regexes at most.
const MAX_REGEXES: usize = 10_000;

/// Bytes of a regex's pattern.
const MAX_PATTERN_BYTES: usize = 4 << 10;

/// Signatures, lists and policy, and the digests of the files that they came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Version of this form.
    pub format: u32,
    /// Which push this was, from 1; 0 where it was built for no push.
    #[serde(default)]
    pub serial: u64,
    /// When it was pushed, in seconds since the epoch; 0 where it was built for no push: the same
    /// files then make the same bundle.
    #[serde(default)]
    pub created: u64,
    /// The policy.
    pub policy: Policy,
    /// The signatures, by name.
    pub signatures: Vec<Signature>,
    /// The correlations, by name.
    #[serde(default)]
    pub correlations: Vec<Correlation>,
    /// Lists of clients and accounts, by name.
    #[serde(default)]
    pub lists: Vec<List>,
    /// SHA-256 of every source file, by its path below the rules directory.
    pub sources: BTreeMap<String, String>,
}

impl Bundle {
    /// A bundle of no push, without lists.
    pub fn new(policy: Policy, signatures: Vec<Signature>) -> Self {
        Self {
            format: BUNDLE_FORMAT,
            serial: 0,
            created: 0,
            policy,
            signatures,
            correlations: Vec::new(),
            lists: Vec::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Reads a bundle.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct BundleHeader {
            format: u32,
        }
        if bytes.len() > MAX_BUNDLE_BYTES {
            let problem = format!(
                "the bundle has {} bytes, more than {MAX_BUNDLE_BYTES} (5 MiB)",
                bytes.len()
            );
            return Err(Error::new(problem, "shorten lists, or retire signatures"));
        }
        check_json_size(bytes)?;
        let rebuild = "build it again with `hedgerow build`";
        let header: BundleHeader = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("this is no bundle: {error}"), rebuild))?;
        match header.format {
            0 => return Err(Error::new("there is no bundle format 0", rebuild)),
            1..=BUNDLE_FORMAT => {}
            newer => {
                let problem = format!(
                    "bundle format {newer} is newer than {BUNDLE_FORMAT}, the newest known here"
                );
                let remedy = "update Hedgerow, or build the bundle with this version";
                return Err(Error::new(problem, remedy));
            }
        }
        let bundle: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("damaged bundle: {error}"), rebuild))?;
        if bundle.serial.max(bundle.created) > MAX_SAFE_INTEGER {
            let problem = "damaged bundle: its serial or its date is above 2⁵³ − 1";
            return Err(Error::new(problem, rebuild));
        }
        bundle.check_limits()?;
        Ok(bundle)
    }

    /// Refuses what would take more than [`MAX_MEMORY`] when it is compiled.
    fn check_limits(&self) -> Result<(), Error> {
        let mut cost = CompileCost::default();
        for signature in &self.signatures {
            signature.selections.values().for_each(|selection| {
                selection.for_each_comparison(&mut |test| cost.add(&test.comparison))
            });
        }
        let signatures = self.signatures.len().saturating_add(self.lists.len());
        let rules = self
            .correlations
            .iter()
            .map(|correlation| correlation.rules.len().saturating_add(1))
            .sum();
        let rows = [
            (self.correlations.len(), "correlations", MAX_CORRELATIONS, "retire some"),
            (rules, "rules of correlations", MAX_CORRELATION_RULES, "name fewer"),
            (signatures, "signatures and lists", MAX_SIGNATURES, "retire some, or merge lists"),
            (cost.comparisons, "comparisons", MAX_COMPARISONS, "retire signatures"),
            (cost.literals, "literals", MAX_LITERALS, "retire signatures"),
            (cost.literal_bytes, "bytes of literals", MAX_LITERAL_BYTES, "shorten them"),
            (cost.regexes, "regexes", MAX_REGEXES, "replace some by literals"),
            (
                cost.max_pattern_bytes,
                "bytes of one regex",
                MAX_PATTERN_BYTES,
                "split it into several",
            ),
        ];
        rows.into_iter()
            .try_for_each(|(count, unit, max, remedy)| check_limit(count, unit, max, remedy))
    }

    /// Whether two bundles decide alike: whatever push they are of, from whatever files.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.signatures == other.signatures
            && self.correlations == other.correlations
            && self.lists == other.lists
    }
}

/// What signatures ask to be compiled.
#[derive(Default)]
struct CompileCost {
    comparisons: usize,
    literals: usize,
    literal_bytes: usize,
    regexes: usize,
    /// Bytes of the longest pattern.
    max_pattern_bytes: usize,
}

impl CompileCost {
    fn add(&mut self, op: &Comparison) {
        self.comparisons = self.comparisons.saturating_add(1);
        match op {
            Comparison::String { value, .. } => self.add_literal(value),
            Comparison::Regex { pattern, required_literals, .. } => {
                self.regexes = self.regexes.saturating_add(1);
                self.max_pattern_bytes = self.max_pattern_bytes.max(pattern.len());
                let strings =
                    required_literals.iter().flat_map(|literal_set| &literal_set.alternatives);
                strings.for_each(|string| self.add_literal(string));
            }
            _ => {}
        }
    }

    fn add_literal(&mut self, literal: &str) {
        self.literals = self.literals.saturating_add(1);
        self.literal_bytes = self.literal_bytes.saturating_add(literal.len());
    }
}

/// Counts what a JSON text holds, before any of it is read: an array of nothing takes ten times its
/// text. What is no JSON is counted somehow, and refused later.
fn check_json_size(bytes: &[u8]) -> Result<(), Error> {
    let (mut containers, mut values, mut remaining) = (0_usize, 0_usize, bytes);
    while let Some((byte, tail)) = remaining.split_first() {
        remaining = tail;
        match byte {
            b'{' | b'[' => containers = containers.saturating_add(1),
            b',' => values = values.saturating_add(1),
            b'"' => remaining = skip_string(tail),
            _ => {}
        }
    }
    let remedy = "retire signatures, or shorten lists";
    check_limit(containers, "objects and arrays", MAX_JSON_CONTAINERS, remedy)?;
    check_limit(containers.saturating_add(values), "values", MAX_JSON_VALUES, remedy)
}

/// What follows a string whose first quote has been read.
fn skip_string(mut text: &[u8]) -> &[u8] {
    while let Some(offset) = memchr::memchr2(b'"', b'\\', text) {
        let is_quote = text.get(offset) == Some(&b'"');
        let next = offset.saturating_add(if is_quote { 1 } else { 2 });
        text = text.get(next..).unwrap_or_default();
        if is_quote {
            return text;
        }
    }
    &[]
}

fn check_limit(count: usize, unit: &str, max: usize, remedy: &str) -> Result<(), Error> {
    match count > max {
        false => Ok(()),
        true => Err(Error::new(format!("the bundle has {count} {unit}, more than {max}"), remedy)),
    }
}

/// The highest number that every reader of JSON, JavaScript too, has exactly.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As much of a digest as people need.
pub fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Whether this is a SHA-256 in hex, as digests are written.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
