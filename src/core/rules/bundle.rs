//! The bundle: a ruleset as canonical JSON, identified by its SHA-256, with the limits of its size.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::list::List;
use crate::error::Error;
use crate::rules::concept::Concept;
use crate::rules::correlation::Correlation;
use crate::rules::policy::Policy;
use crate::rules::signature::{Comparison, Signature};
use crate::seeds::{MAX_SEED_BYTES, MAX_SEED_SETS, SeedSet};

/// Format number of a bundle. No other format is written or read.
pub const BUNDLE_FORMAT: u32 = 1;

/// Maximum bytes of a bundle.
pub const MAX_BUNDLE_BYTES: usize = 5 << 20;

/// Maximum number of signatures and lists together.
pub const MAX_SIGNATURES: usize = 10_000;

/// Maximum bytes of memory that loading and checking a bundle takes, in addition to the bundle
/// itself.
///
/// An isolate has 128 MB, which must also hold the Worker and the ruleset in force. Wasm takes less
/// than a 64-bit host, because its pointers are half as long. The limits below, and those on
/// regexes and conditions, keep every bundle within this maximum; `tests/memory_limits.rs` measures
/// the worst bundles.
pub const MAX_COMPILE_BYTES: usize = 64 << 20;

/// Maximum number of JSON objects and arrays. The shipped rules have a thirteenth of this number.
const MAX_JSON_CONTAINERS: usize = 200_000;

/// Maximum number of JSON values: objects, arrays, their members and elements.
const MAX_JSON_VALUES: usize = 400_000;

/// Maximum number of correlations.
const MAX_CORRELATIONS: usize = crate::correlate::indicator::MAX_CORRELATION_NAMES;

/// Maximum number of correlations and of the rules that they name, together.
const MAX_CORRELATION_RULES: usize = 20_000;

/// Maximum number of comparisons in all signatures.
const MAX_COMPARISONS: usize = 50_000;

/// Maximum number of literals: string patterns, required literals of regexes, and terms of
/// concepts, which count twice.
const MAX_LITERALS: usize = 60_000;

/// Maximum bytes of all literals together.
const MAX_LITERAL_BYTES: usize = 1 << 20;

/// Maximum number of concepts.
const MAX_CONCEPTS: usize = 1_000;

/// Maximum number of concept names in all comparisons, plus one for each part that lists them.
const MAX_CONCEPT_NAMES: usize = 20_000;

/// Maximum number of regexes.
const MAX_REGEXES: usize = 10_000;

/// Maximum bytes of the pattern of one regex.
const MAX_PATTERN_BYTES: usize = 4 << 10;

/// A bundle: policy, signatures, correlations, lists and seed sets, with digests of their source
/// files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bundle {
    /// Format number: [`BUNDLE_FORMAT`].
    pub format: u32,
    /// Number of the push, from 1; 0 if the bundle was not built for a push.
    #[serde(default)]
    pub serial: u64,
    /// Time of the push, in seconds since the epoch; 0 if the bundle was not built for a push, so
    /// that the same files make the same bundle.
    #[serde(default)]
    pub created: u64,
    /// Policy of the operator.
    pub policy: Policy,
    /// Signatures, sorted by name.
    pub signatures: Vec<Signature>,
    /// Concepts that the signatures name, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub concepts: Vec<Concept>,
    /// Correlations, sorted by name.
    #[serde(default)]
    pub correlations: Vec<Correlation>,
    /// Lists, sorted by name.
    #[serde(default)]
    pub lists: Vec<List>,
    /// Sets of known prompts, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<SeedSet>,
    /// SHA-256 in hex of every source file, by its path below the rules directory.
    pub sources: BTreeMap<String, String>,
}

impl Bundle {
    /// Creates a bundle that was not built for a push. The bundle has only a policy and signatures.
    pub fn new(policy: Policy, signatures: Vec<Signature>) -> Self {
        Self {
            format: BUNDLE_FORMAT,
            serial: 0,
            created: 0,
            policy,
            signatures,
            concepts: Vec::new(),
            correlations: Vec::new(),
            lists: Vec::new(),
            seeds: Vec::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Parses a bundle and checks its limits.
    ///
    /// Returns an error if it is too large, has another format, or is malformed. Signatures are
    /// checked later, when a ruleset is compiled from them.
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
            .map_err(|error| Error::new(format!("this is not a bundle: {error}"), rebuild))?;
        match header.format {
            0 => return Err(Error::new("bundle format 0 does not exist", rebuild)),
            1..=BUNDLE_FORMAT => {}
            newer => {
                let problem = format!(
                    "bundle format {newer} is newer than {BUNDLE_FORMAT}, the newest supported"
                );
                let remedy = "update Hedgerow, or build the bundle with this version";
                return Err(Error::new(problem, remedy));
            }
        }
        let bundle: Self = serde_json::from_slice(bytes)
            .map_err(|error| Error::new(format!("damaged bundle: {error}"), rebuild))?;
        if bundle.serial.max(bundle.created) > MAX_SAFE_INTEGER {
            let problem = "damaged bundle: `serial` or `created` is above 2⁵³ − 1";
            return Err(Error::new(problem, rebuild));
        }
        bundle.check_limits()?;
        Ok(bundle)
    }

    /// Returns an error if the bundle could take more than [`MAX_COMPILE_BYTES`] to compile.
    fn check_limits(&self) -> Result<(), Error> {
        let mut cost = CompileCost::default();
        for signature in &self.signatures {
            signature.selections.values().for_each(|selection| {
                selection.for_each_comparison(&mut |test| cost.add(&test.comparison))
            });
        }
        let terms = self.concepts.iter().flat_map(|concept| &concept.terms);
        terms.for_each(|term| cost.add_term(term));
        let signatures = self.signatures.len().saturating_add(self.lists.len());
        let rules = self
            .correlations
            .iter()
            .map(|correlation| correlation.rules.len().saturating_add(1))
            .sum();
        let seed_bytes = self.seeds.iter().map(|set| set.filter.size()).sum();
        let rows = [
            (self.correlations.len(), "correlations", MAX_CORRELATIONS, "retire some"),
            (rules, "rules of correlations", MAX_CORRELATION_RULES, "name fewer"),
            (self.seeds.len(), "seed sets", MAX_SEED_SETS, "remove some"),
            (seed_bytes, "bytes of seed sets", MAX_SEED_BYTES, "build them from fewer prompts"),
            (signatures, "signatures and lists", MAX_SIGNATURES, "retire some, or merge lists"),
            (cost.comparisons, "comparisons", MAX_COMPARISONS, "retire signatures"),
            (cost.literals, "literals", MAX_LITERALS, "retire signatures"),
            (cost.literal_bytes, "bytes of literals", MAX_LITERAL_BYTES, "shorten them"),
            (self.concepts.len(), "concepts", MAX_CONCEPTS, "merge some"),
            (cost.concept_names, "names of concepts", MAX_CONCEPT_NAMES, "retire signatures"),
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

    /// Returns whether two bundles have the same rules and policy. Serial, time and source files
    /// may differ.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.signatures == other.signatures
            && self.concepts == other.concepts
            && self.correlations == other.correlations
            && self.lists == other.lists
            && self.seeds == other.seeds
    }
}

/// The numbers that determine the cost of compiling signatures and concepts.
#[derive(Default)]
struct CompileCost {
    comparisons: usize,
    literals: usize,
    literal_bytes: usize,
    regexes: usize,
    /// Number of concept names in comparisons, plus one for each part that lists them.
    concept_names: usize,
    /// Bytes of the longest pattern.
    max_pattern_bytes: usize,
}

impl CompileCost {
    fn add(&mut self, comparison: &Comparison) {
        self.comparisons = self.comparisons.saturating_add(1);
        match comparison {
            Comparison::String { value, .. } => self.add_literal(value),
            Comparison::Regex { pattern, required_literals, .. } => {
                self.regexes = self.regexes.saturating_add(1);
                self.max_pattern_bytes = self.max_pattern_bytes.max(pattern.len());
                let strings =
                    required_literals.iter().flat_map(|literal_set| &literal_set.alternatives);
                strings.for_each(|string| self.add_literal(string));
            }
            Comparison::Near { parts, .. } => {
                let names = parts.iter().map(|part| part.len().saturating_add(1));
                self.concept_names = names.fold(self.concept_names, usize::saturating_add);
            }
            _ => {}
        }
    }

    /// Adds a term of a concept. The term counts twice, because it may be a literal of the scan of
    /// the text and of the scan around anchors.
    fn add_term(&mut self, term: &str) {
        self.add_literal(term);
        self.add_literal(term);
    }

    fn add_literal(&mut self, literal: &str) {
        self.literals = self.literals.saturating_add(1);
        self.literal_bytes = self.literal_bytes.saturating_add(literal.len());
    }
}

/// Checks the number of values in a JSON text before it is parsed, because values can take more
/// memory than their text: an array of empty objects takes ten times as many bytes. The count may
/// be wrong for malformed JSON, which the parser rejects later.
fn check_json_size(bytes: &[u8]) -> Result<(), Error> {
    let mut containers = 0_usize;
    let mut separators = 0_usize;
    let mut remaining = bytes;
    while let Some((byte, tail)) = remaining.split_first() {
        remaining = tail;
        match byte {
            b'{' | b'[' => containers = containers.saturating_add(1),
            b',' => separators = separators.saturating_add(1),
            b'"' => remaining = skip_string(tail),
            _ => {}
        }
    }
    let remedy = "retire signatures, or shorten lists";
    check_limit(containers, "objects and arrays", MAX_JSON_CONTAINERS, remedy)?;
    check_limit(containers.saturating_add(separators), "values", MAX_JSON_VALUES, remedy)
}

/// Returns the text after a string whose first quote has been read; empty if the string has no end.
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

/// Returns an error if a count exceeds its maximum.
fn check_limit(count: usize, unit: &str, max: usize, remedy: &str) -> Result<(), Error> {
    if count <= max {
        return Ok(());
    }
    Err(Error::new(format!("the bundle has {count} {unit}, more than {max}"), remedy))
}

/// The largest integer that every JSON reader represents exactly, JavaScript included.
pub const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Returns the SHA-256 of bytes in lower-case hex.
pub fn digest(bytes: &[u8]) -> String {
    finish(Sha256::new_with_prefix(bytes))
}

/// Returns the content digest of a bundle's text: the digest of the text without the members
/// `serial`, `created` and `sources`, which decide nothing.
///
/// So two builds of the same rules have the same content digest, and a bundle that decides
/// differently has another one. The text must be canonical JSON, as every build writes it;
/// otherwise the digest is that of other bytes.
pub fn content_digest(text: &[u8]) -> String {
    let mut hash = Sha256::new_with_prefix(b"{");
    let mut separator: &[u8] = b"";
    let (mut depth, mut start) = (0_usize, 1_usize);
    let mut remaining = text;
    while let Some((byte, tail)) = remaining.split_first() {
        let offset = text.len().saturating_sub(remaining.len());
        remaining = tail;
        match byte {
            b'{' | b'[' => depth = depth.saturating_add(1),
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => remaining = skip_string(tail),
            _ => {}
        }
        // The end of a member of the outermost object.
        if (*byte == b',' && depth == 1) || (*byte == b'}' && depth == 0) {
            let member = text.get(start..offset).unwrap_or_default();
            if !UNDECIDING_MEMBERS.iter().any(|name| member.starts_with(name)) {
                hash.update(separator);
                hash.update(member);
                separator = b",";
            }
            start = offset.saturating_add(1);
        }
    }
    hash.update(b"}");
    finish(hash)
}

/// The names of the members that decide nothing, as canonical JSON.
const UNDECIDING_MEMBERS: [&[u8]; 3] = [b"\"created\":", b"\"serial\":", b"\"sources\":"];

/// Returns a finished hash in lower-case hex.
fn finish(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the first 12 digits of a digest, for display.
pub fn short_digest(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}

/// Returns whether a text is a SHA-256 in lower-case hex.
pub fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_digest_covers_all_members_that_decide() {
        let policy = r#""policy":{"serial":1,"text":"},{\""}"#;
        let (created, serial) = (r#""created":7,"#, r#""serial":9,"#);
        let sources = r#","sources":{"a":"b"}"#;
        let signatures = r#""signatures":[]"#;
        let bundle = format!(r#"{{{created}"format":1,{policy},{serial}{signatures}{sources}}}"#);
        let content = format!(r#"{{"format":1,{policy},{signatures}}}"#);
        assert_eq!(content_digest(bundle.as_bytes()), digest(content.as_bytes()));
        // change, whether the content digest stays
        let rows = [
            ("\"created\":7", "\"created\":8", true),
            ("\"serial\":9", "\"serial\":10", true),
            ("{\"a\":\"b\"}", "{\"a\":\"c\",\"d\":\"}\"}", true),
            ("\"serial\":1,", "\"serial\":2,", false),
            ("\"signatures\":[]", "\"signatures\":[1]", false),
            ("\"format\":1", "\"format\":2", false),
            ("},{", "}{", false),
        ];
        for (from, to, is_same) in rows {
            let changed = bundle.replacen(from, to, 1);
            assert_ne!(changed, bundle, "{from}");
            let changed = content_digest(changed.as_bytes());
            assert_eq!(changed == content_digest(bundle.as_bytes()), is_same, "{from} → {to}");
        }
    }

    #[test]
    fn the_content_digest_of_any_bytes_exists() {
        for text in ["", "{", "}", "}}}}{", "\"", "{\"a\":[[[", "[,]", "{\"serial\":"] {
            assert!(is_digest(&content_digest(text.as_bytes())), "{text}");
        }
        assert_eq!(content_digest(b"{}"), content_digest(b"{\"serial\":1}"));
    }
}
