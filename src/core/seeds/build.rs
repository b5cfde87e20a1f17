//! Builds the filter of a seed set from the features of its prompts. This happens offline, never in
//! the Worker.

use std::collections::{HashMap, HashSet};

use super::features::{Features, MAX_TEXT_BYTES};
use super::filter::FuseFilter;
use super::set::keys_of;
use crate::extract::for_each_request;
use crate::http::body::Body;
use crate::http::envelope::Envelope;
use crate::http::route::Endpoint;
use crate::rules::policy::Limits;

/// Maximum number of shingles of a prompt that a set stores: one from each third. A shingle is a
/// hash of eight consecutive words.
const SHINGLES_PER_PROMPT: usize = 3;

/// Maximum number of prompts of a set that may contain a stored shingle. A phrase that many prompts
/// share, such as an instruction, does not identify any of them.
const MAX_SHARING_PROMPTS: u32 = 4;

/// Returns the features of a prompt as the edge reads it in a request; `None` if the prompt is too
/// short to be recognised.
pub fn prompt_features(prompt: &str) -> Option<Features> {
    let body = serde_json::json!({ "messages": [{ "role": "user", "content": prompt }] });
    let body = body.to_string();
    let envelope = Envelope { body: body.as_bytes(), ..Envelope::default() };
    let limits = Limits::default();
    let mut features = Features::default();
    let body = Body::new(envelope.body, None, &limits);
    for_each_request(&envelope, Endpoint::OpenaiChat, &body, &limits, &mut |request| {
        features = request.seed_features(MAX_TEXT_BYTES);
    })?;
    let is_known = !features.digests.is_empty() || features.shingles.len() > 1;
    is_known.then_some(features)
}

/// Builds the filter of a set, and returns it with the number of different prompts. Returns `None`
/// if no prompt has features to store, if the features are too many for a filter, or if every
/// attempt to build the filter fails.
pub fn build(prompts: &[Features]) -> Option<(FuseFilter, usize)> {
    let mut known = HashSet::new();
    let prompts: Vec<&Features> =
        prompts.iter().filter(|features| known.insert(*features)).collect();
    let mut prompts_with: HashMap<u64, u32> = HashMap::new();
    for features in &prompts {
        let shingles: HashSet<u64> = features.shingles.iter().copied().collect();
        for shingle in shingles {
            let count = prompts_with.entry(shingle).or_default();
            *count = count.saturating_add(1);
        }
    }
    let mut keys: Vec<u64> = Vec::new();
    for features in &prompts {
        keys.extend(features.digests.iter().flat_map(|digest| keys_of(*digest)));
        let selected = select_shingles(&features.shingles, &prompts_with);
        keys.extend(selected.into_iter().flat_map(keys_of));
    }
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        return None;
    }
    Some((FuseFilter::build(&keys)?, prompts.len()))
}

/// Returns the rarest shingle of each third of a prompt, if at most [`MAX_SHARING_PROMPTS`] prompts
/// contain it. Returns none of them if fewer than two are found, because a single shingle is not
/// evidence.
fn select_shingles(shingles: &[u64], prompts_with: &HashMap<u64, u32>) -> Vec<u64> {
    let count = |shingle: &u64| prompts_with.get(shingle).copied().unwrap_or_default();
    let third = shingles.len().div_ceil(SHINGLES_PER_PROMPT).max(1);
    let rarest = |part: &[u64]| {
        let rare = part.iter().filter(|shingle| count(shingle) <= MAX_SHARING_PROMPTS);
        rare.min_by_key(|shingle| (count(shingle), **shingle)).copied()
    };
    let mut selected: Vec<u64> = shingles.chunks(third).filter_map(rarest).collect();
    selected.sort_unstable();
    selected.dedup();
    if selected.len() < 2 { Vec::new() } else { selected }
}
