//! The form in which a ruleset travels: canonical JSON, known by its SHA-256.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::list::List;
use crate::correlation::Correlation;
use crate::error::Error;
use crate::policy::Policy;
use crate::signature::{Op, Signature};

/// The format that this version writes, and the newest that it reads.
///
/// | format | adds |
/// |---|---|
/// | 1 | policy, signatures, sources |
/// | 2 | serial, created, lists; the policy's `noise` |
/// | 3 | correlations; the policy's `correlate` and `cluster` |
pub const FORMAT: u32 = 3;

/// Bytes that a bundle has at most.
pub const MAX_BYTES: usize = 5 << 20;

/// Signatures and lists that a bundle has at most.
pub const MAX_SIGNATURES: usize = 10_000;

/// Bytes that loading and checking a bundle takes at most, beside the bundle's own, whatever stands
/// in it: an isolate has 128 MB, the Worker itself in it, and the ruleset in force meanwhile. In Wasm,
/// where pointers are half as long, it takes less. `tests/memory.rs` holds the worst of bundles
/// against it; the limits below, and those on regexes and conditions, keep them within.
pub const MAX_MEMORY: usize = 64 << 20;

/// Objects and arrays that a bundle has at most. The shipped rules have one in thirteen.
const MAX_CONTAINERS: usize = 200_000;

/// Members and elements of those, all together.
const MAX_VALUES: usize = 400_000;

/// Correlations that a bundle has at most, and rules that they name together.
const MAX_CORRELATIONS: usize = crate::indicator::MAX_NAMES;
const MAX_RULES: usize = 20_000;

/// Comparisons that the signatures make at most.
const MAX_COMPARISONS: usize = 50_000;

/// Literals that are looked for at most: patterns of strings, and landmarks of regexes.
const MAX_LITERALS: usize = 60_000;

/// Bytes of all literals together.
const MAX_LITERAL_BYTES: usize = 1 << 20;

/// Regexes at most.
const MAX_REGEXES: usize = 10_000;

/// Bytes of a regex's pattern.
const MAX_PATTERN: usize = 4 << 10;

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
            format: FORMAT,
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
        struct Head {
            format: u32,
        }
        if bytes.len() > MAX_BYTES {
            let problem =
                format!("the bundle has {} bytes, more than {MAX_BYTES} (5 MiB)", bytes.len());
            return Err(Error::new(problem, "shorten lists, or retire signatures"));
        }
        measure(bytes)?;
        let rebuild = "build it again with `hedgerow build`";
        let head: Head = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("this is no bundle: {error}"), rebuild))?;
        match head.format {
            0 => return Err(Error::new("there is no bundle format 0", rebuild)),
            1..=FORMAT => {}
            newer => {
                let problem =
                    format!("bundle format {newer} is newer than {FORMAT}, the newest known here");
                let remedy = "update Hedgerow, or build the bundle with this version";
                return Err(Error::new(problem, remedy));
            }
        }
        let bundle: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("damaged bundle: {error}"), rebuild))?;
        if bundle.serial.max(bundle.created) > MAX_NUMBER {
            let problem = "damaged bundle: its serial or its date is above 2⁵³ − 1";
            return Err(Error::new(problem, rebuild));
        }
        bundle.weigh()?;
        Ok(bundle)
    }

    /// Refuses what would take more than [`MAX_MEMORY`] when it is compiled.
    fn weigh(&self) -> Result<(), Error> {
        let mut load = Load::default();
        for signature in &self.signatures {
            signature
                .selections
                .values()
                .for_each(|test| test.each(&mut |test| load.add(&test.op)));
        }
        let signatures = self.signatures.len().saturating_add(self.lists.len());
        let rules = self.correlations.iter().map(|own| own.rules.len().saturating_add(1)).sum();
        let rows = [
            (self.correlations.len(), "correlations", MAX_CORRELATIONS, "retire some"),
            (rules, "rules of correlations", MAX_RULES, "name fewer"),
            (signatures, "signatures and lists", MAX_SIGNATURES, "retire some, or merge lists"),
            (load.comparisons, "comparisons", MAX_COMPARISONS, "retire signatures"),
            (load.literals, "literals", MAX_LITERALS, "retire signatures"),
            (load.literal_bytes, "bytes of literals", MAX_LITERAL_BYTES, "shorten them"),
            (load.regexes, "regexes", MAX_REGEXES, "replace some by literals"),
            (load.pattern, "bytes of one regex", MAX_PATTERN, "split it into several"),
        ];
        rows.into_iter()
            .try_for_each(|(count, what, most, remedy)| within(count, what, most, remedy))
    }

    /// Whether two bundles decide alike: whatever push they are of, from whatever files.
    pub fn decides_like(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.signatures == other.signatures
            && self.correlations == other.correlations
            && self.lists == other.lists
    }

    /// The canonical JSON (RFC 8785): what is addressed, and signed.
    #[cfg(feature = "sigma")]
    pub fn bytes(&self) -> Vec<u8> {
        serde_json_canonicalizer::to_vec(self).unwrap_or_default()
    }
}

/// What signatures ask to be compiled.
#[derive(Default)]
struct Load {
    comparisons: usize,
    literals: usize,
    literal_bytes: usize,
    regexes: usize,
    /// Bytes of the longest pattern.
    pattern: usize,
}

impl Load {
    fn add(&mut self, op: &Op) {
        self.comparisons = self.comparisons.saturating_add(1);
        match op {
            Op::String { value, .. } => self.literal(value),
            Op::Regex { pattern, landmarks, .. } => {
                self.regexes = self.regexes.saturating_add(1);
                self.pattern = self.pattern.max(pattern.len());
                let strings = landmarks.iter().flat_map(|landmark| &landmark.strings);
                strings.for_each(|string| self.literal(string));
            }
            _ => {}
        }
    }

    fn literal(&mut self, literal: &str) {
        self.literals = self.literals.saturating_add(1);
        self.literal_bytes = self.literal_bytes.saturating_add(literal.len());
    }
}

/// Counts what a JSON text holds, before any of it is read: an array of nothing takes ten times its
/// text. What is no JSON is counted somehow, and refused later.
fn measure(bytes: &[u8]) -> Result<(), Error> {
    let (mut containers, mut values, mut rest) = (0_usize, 0_usize, bytes);
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'{' | b'[' => containers = containers.saturating_add(1),
            b',' => values = values.saturating_add(1),
            b'"' => rest = behind_string(behind),
            _ => {}
        }
    }
    let remedy = "retire signatures, or shorten lists";
    within(containers, "objects and arrays", MAX_CONTAINERS, remedy)?;
    within(containers.saturating_add(values), "values", MAX_VALUES, remedy)
}

/// What follows a string whose first quote has been read.
fn behind_string(mut text: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', text) {
        let is_quote = text.get(at) == Some(&b'"');
        let next = at.saturating_add(if is_quote { 1 } else { 2 });
        text = text.get(next..).unwrap_or_default();
        if is_quote {
            return text;
        }
    }
    &[]
}

fn within(count: usize, what: &str, most: usize, remedy: &str) -> Result<(), Error> {
    match count > most {
        false => Ok(()),
        true => Err(Error::new(format!("the bundle has {count} {what}, more than {most}"), remedy)),
    }
}

/// The highest number that every reader of JSON, JavaScript too, has exactly.
pub const MAX_NUMBER: u64 = (1 << 53) - 1;

/// SHA-256 in hex.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As much of a digest as people need.
pub fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Whether this is a SHA-256 in hex, as digests are written.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
