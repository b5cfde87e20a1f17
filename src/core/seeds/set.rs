//! Seed sets in three forms: as files, in the bundle, and compiled.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};

use super::features::Features;
use super::filter::FuseFilter;
use crate::error::Error;

/// Maximum bytes of the filters of all sets: about 50,000 prompts. An isolate holds them in
/// addition to everything else.
pub const MAX_SEED_BYTES: usize = 512 << 10;

/// Maximum number of sets. Every set is searched for every shingle of a text.
pub const MAX_SEED_SETS: usize = 16;

/// Maximum bytes of the name of a set.
const MAX_NAME_BYTES: usize = 40;

/// Format number of a file. No other format is written or read.
const SEED_FORMAT: u32 = 1;

/// The filter of a set, as `hedgerow seeds build` writes it. It is JSON like the bundle that
/// contains it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// Format number.
    format: u32,
    /// Number of different prompts.
    pub prompts: u32,
    /// Salt of the filter's hash.
    salt: u32,
    /// Bytes per segment of the filter.
    segment_length: u32,
    /// Bytes of the filter in base64.
    bytes: String,
}

/// A set in the bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedSet {
    /// Name, which is the value of the field `hedgerow.seed`.
    pub name: String,
    /// The filter of its prompts.
    pub filter: SeedFile,
}

/// The sets of a ruleset.
#[derive(Clone, Debug, Default)]
pub struct CompiledSeeds {
    sets: Vec<(String, FuseFilter)>,
}

impl SeedFile {
    /// Returns the file of a filter of `prompts` different prompts.
    pub fn new(filter: &FuseFilter, prompts: usize) -> Self {
        Self {
            format: SEED_FORMAT,
            prompts: u32::try_from(prompts).unwrap_or(u32::MAX),
            salt: filter.salt(),
            segment_length: filter.segment_length(),
            bytes: BASE64_STANDARD.encode(filter.bytes()),
        }
    }

    /// Parses a file. Returns an error if it is damaged or has another format.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let file: Self = serde_json::from_str(text)
            .map_err(|error| Error::new(format!("this is not a seed set: {error}"), REMEDY))?;
        file.filter()?;
        Ok(file)
    }

    /// Returns the file's text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Returns the approximate number of bytes of the filter, without decoding it.
    pub fn size(&self) -> usize {
        (self.bytes.len() / 4).saturating_mul(3)
    }

    /// Returns the filter. Returns an error if the format is unknown or the parts are inconsistent.
    pub fn filter(&self) -> Result<FuseFilter, Error> {
        if self.format != SEED_FORMAT {
            let problem = format!("seed sets of format {} are unknown", self.format);
            return Err(Error::new(problem, REMEDY));
        }
        let bytes = BASE64_STANDARD.decode(&self.bytes).ok();
        bytes
            .and_then(|bytes| FuseFilter::from_parts(self.salt, self.segment_length, bytes))
            .ok_or_else(|| Error::new("the filter of the seed set is damaged", REMEDY))
    }
}

impl CompiledSeeds {
    /// Compiles the sets of a bundle. Returns an error if a set is damaged or has an invalid name.
    pub fn new(sets: &[SeedSet]) -> Result<Self, Error> {
        let compile = |SeedSet { name, filter }: &SeedSet| {
            if !is_seed_name(name) {
                let problem = format!("'{name}' cannot be the name of a seed set");
                return Err(Error::new(problem, NAME_REMEDY));
            }
            Ok((name.clone(), filter.filter()?))
        };
        Ok(Self { sets: sets.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// Returns whether there are no sets.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Returns the names of the sets to which a text with these features belongs.
    pub fn names_of(&self, features: &Features) -> impl Iterator<Item = &str> {
        let knows = |(_, filter): &&(String, FuseFilter)| is_known(filter, features);
        self.sets.iter().filter(knows).map(|(name, _)| name.as_str())
    }
}

/// Returns whether a text belongs to a set: whether the set has the digest of a whole value, or two
/// different shingles of the text.
fn is_known(filter: &FuseFilter, features: &Features) -> bool {
    let contains = |hash: &&u64| keys_of(**hash).iter().all(|key| filter.contains(*key));
    if features.digests.iter().any(|digest| contains(&digest)) {
        return true;
    }
    let mut known = features.shingles.iter().filter(contains);
    known.next().is_some_and(|first| known.any(|other| other != first))
}

/// Returns the two keys of a digest or shingle. The filter seems to contain one other key in 256,
/// so that it seems to contain both keys of one other hash in 65,536.
pub(super) fn keys_of(hash: u64) -> [u64; 2] {
    [hash, hash.rotate_left(32) ^ 0x5851_f42d_4c95_7f2d]
}

/// Returns whether a text can be the name of a set.
pub fn is_seed_name(name: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_word)
}

const REMEDY: &str = "build it again with `hedgerow seeds build`";
const NAME_REMEDY: &str = "use at most 40 of a-z, 0-9 and underscores";
