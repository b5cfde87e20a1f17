//! Locates the evidence of matching signatures in the body.
#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use super::hit::{Evidence, Hit};
use super::matcher::Matcher;
use super::segments::segment_at;
use crate::extract::{Request, Source};
use crate::text;

impl Matcher<'_> {
    /// Returns one hit with its evidence for each of `signatures`, which are indices of signatures.
    ///
    /// Offsets of matches in the normalised text are mapped back to the body. For this mapping, the
    /// values that contain matches are read again, each value once.
    pub(super) fn with_evidence(&self, signatures: Vec<usize>, request: &Request<'_>) -> Vec<Hit> {
        let mut witnesses: Vec<(usize, Vec<usize>)> = Vec::with_capacity(signatures.len());
        let mut offsets_by_segment: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for signature in signatures {
            let mut bits = Vec::new();
            if let Some(condition) = self.program.conditions.get(signature) {
                condition.witness_bits(&self.bit_state, &mut bits);
            }
            self.add_offsets(&bits, request, &mut offsets_by_segment);
            witnesses.push((signature, bits));
        }
        let source_map = |(segment_index, offsets): (usize, Vec<usize>)| {
            Some((
                segment_index,
                request.source_map(request.segments().get(segment_index)?, offsets)?,
            ))
        };
        let source_maps: BTreeMap<usize, text::SourceMap> =
            offsets_by_segment.into_iter().filter_map(source_map).collect();
        let to_hit = |(signature, bits): (usize, Vec<usize>)| Hit {
            signature,
            evidence: bits
                .into_iter()
                .filter_map(|bit| self.locate(bit, request, &source_maps))
                .collect(),
            innocence: Vec::new(),
            indicator_key: None,
        };
        witnesses.into_iter().map(to_hit).collect()
    }

    /// Adds the offsets of the first and the last byte of each bit's match to the list of the
    /// segment that contains the match. Offsets are relative to the start of the segment. The key
    /// of a list is the index of the segment. Bits whose match is not in the text add nothing.
    fn add_offsets(
        &self,
        bits: &[usize],
        request: &Request<'_>,
        offsets_by_segment: &mut BTreeMap<usize, Vec<usize>>,
    ) {
        let origins = bits.iter().filter_map(|bit| self.origin(*bit));
        for origin in origins.filter(|origin| origin.is_in_text) {
            if let Some((segment_index, segment)) = segment_at(request, origin.start) {
                let offsets = offsets_by_segment.entry(segment_index).or_default();
                for position in [origin.start, origin.end.saturating_sub(1)] {
                    offsets.push(position.saturating_sub(segment.range.start));
                }
            }
        }
    }

    /// Locates the match of a bit in the body. `source_maps` has the source maps of the segments
    /// that contain matches, by index of the segment. Returns `None` if the bit is not set, or if
    /// the match is in a value without a source map.
    fn locate(
        &self,
        bit: usize,
        request: &Request<'_>,
        source_maps: &BTreeMap<usize, text::SourceMap>,
    ) -> Option<Evidence> {
        let field = self.program.field_by_bit.get(bit)?.clone();
        let origin = self.origin(bit)?;
        if !origin.is_in_text {
            return Some(Evidence { field, start: origin.start, end: origin.end });
        }
        let (segment_index, segment) = segment_at(request, origin.start)?;
        let base = segment.range.start;
        let range_in_value = origin.start.checked_sub(base)?..origin.end.checked_sub(base)?;
        let range = match segment.source {
            Source::Value(_) => source_maps.get(&segment_index)?.source_range(range_in_value),
            Source::Encoded(..) | Source::Joined(_) | Source::Earlier(_) => segment.source.range(),
        };
        Some(Evidence { field, start: range.start, end: range.end })
    }
}
