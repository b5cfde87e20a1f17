//! The condition of a signature: a boolean expression over bits. A bit whose test has not run is
//! unknown, so the expression is evaluated in three-valued logic.

/// The value of a condition whose bits are only partly known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ternary {
    Holds,
    Fails,
    /// The value depends on this pending bit.
    DependsOn(usize),
}

/// A condition over bits.
#[derive(Clone, Debug)]
pub(crate) enum BitExpr {
    All(Box<[BitExpr]>),
    Any(Box<[BitExpr]>),
    /// Any of many bits, in ascending order.
    AnyBit(Box<[WordMask]>),
    Not(Box<BitExpr>),
    /// A [`BitExpr::Not`] of a part that compares text of one role. The negation counts as true as
    /// long as the text is not divided into passages.
    NotInRole(Box<BitExpr>),
    Bit(usize),
}

/// A subset of the 64 bits of one word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WordMask {
    word_index: u32,
    mask: u64,
}

/// The bits that are set, and the bits that are pending.
#[derive(Clone, Debug)]
pub(super) struct BitState {
    set: Box<[u64]>,
    pending: Box<[u64]>,
    /// Whether text counts in every role that it may have. More bits may then be set than after
    /// the division of the text into passages.
    pub is_superset: bool,
}

impl BitState {
    /// Creates a state of `bits` bits, none set or pending.
    pub fn new(bits: usize) -> Self {
        let zeroed = || vec![0; bits.div_ceil(64)].into();
        Self { set: zeroed(), pending: zeroed(), is_superset: false }
    }

    /// Clears all bits, set and pending.
    pub fn clear(&mut self) {
        self.set.fill(0);
        self.pending.fill(0);
    }

    pub fn is_set(&self, bit: usize) -> bool {
        bit_is_set(&self.set, bit)
    }

    /// Sets a bit. Returns false if the bit was set already or does not exist.
    pub fn set(&mut self, bit: usize) -> bool {
        let is_new = bit < self.set.len().saturating_mul(64) && !self.is_set(bit);
        write_bit(&mut self.set, bit, true);
        is_new
    }

    /// Unsets a bit.
    pub fn unset(&mut self, bit: usize) {
        write_bit(&mut self.set, bit, false);
    }

    /// Marks whether a bit is pending: unset so far, but a test that has not run may set it.
    pub fn set_pending(&mut self, bit: usize, is_pending: bool) {
        write_bit(&mut self.pending, bit, is_pending);
    }
}

fn bit_is_set(words: &[u64], bit: usize) -> bool {
    words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

fn write_bit(words: &mut [u64], bit: usize, value: bool) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word = *word & !(1 << (bit % 64)) | u64::from(value) << (bit % 64);
    }
}

impl WordMask {
    /// Returns the bits of this mask that are set in `words`.
    fn masked(self, words: &[u64]) -> u64 {
        words.get(self.word_index as usize).copied().unwrap_or_default() & self.mask
    }

    /// Returns the index, among the bits of all words, of the lowest set bit of `bits`. `bits` are
    /// bits of the word to which this mask belongs.
    fn lowest_index(self, bits: u64) -> usize {
        (self.word_index as usize).saturating_mul(64).saturating_add(bits.trailing_zeros() as usize)
    }
}

impl BitExpr {
    /// Creates an expression that holds if any of `parts` does.
    pub(crate) fn any_of(parts: Box<[BitExpr]>) -> Self {
        let as_bit = |part: &BitExpr| match part {
            Self::Bit(bit) => Some(*bit),
            _ => None,
        };
        // The first part that holds is the evidence. Masks return the lowest set bit, which is the
        // first part only if the bits ascend.
        match parts.iter().map(as_bit).collect::<Option<Vec<usize>>>() {
            Some(bits) if bits.is_sorted_by(|a, b| a < b) => {
                let word_masks = bits.chunk_by(|a, b| a / 64 == b / 64).map(|bits| WordMask {
                    word_index: bits.first().map_or(0, |bit| bit / 64) as u32,
                    mask: bits.iter().fold(0, |mask, bit| mask | 1 << (bit % 64)),
                });
                Self::AnyBit(word_masks.collect())
            }
            _ => Self::Any(parts),
        }
    }

    /// Returns the bits of a [`BitExpr::AnyBit`].
    pub(crate) fn bit_indices(word_masks: &[WordMask]) -> impl Iterator<Item = usize> {
        word_masks.iter().flat_map(|word_mask| {
            let set_bits = (0..64).filter(|bit| word_mask.mask >> bit & 1 != 0);
            set_bits.map(|bit| word_mask.lowest_index(1 << bit))
        })
    }

    /// Evaluates the expression by the bits known so far. Returns [`Ternary::DependsOn`] only if
    /// these bits do not decide the value.
    pub(super) fn evaluate(&self, state: &BitState) -> Ternary {
        let short_circuit = |parts: &[BitExpr], absorbing: Ternary, identity: Ternary| {
            let mut result = identity;
            for part in parts {
                match part.evaluate(state) {
                    outcome if outcome == absorbing => return absorbing,
                    Ternary::DependsOn(bit) if result == identity => {
                        result = Ternary::DependsOn(bit)
                    }
                    _ => {}
                }
            }
            result
        };
        match self {
            Self::All(parts) => short_circuit(parts, Ternary::Fails, Ternary::Holds),
            Self::Any(parts) => short_circuit(parts, Ternary::Holds, Ternary::Fails),
            Self::AnyBit(word_masks) => {
                if word_masks.iter().any(|bits| bits.masked(&state.set) != 0) {
                    return Ternary::Holds;
                }
                let mut pending = word_masks.iter().map(|bits| (bits, bits.masked(&state.pending)));
                let first_pending = pending.find(|(_, pending)| *pending != 0);
                first_pending.map_or(Ternary::Fails, |(bits, pending)| {
                    Ternary::DependsOn(bits.lowest_index(pending))
                })
            }
            Self::NotInRole(_) if state.is_superset => Ternary::Holds,
            Self::Not(part) | Self::NotInRole(part) => match part.evaluate(state) {
                Ternary::Holds => Ternary::Fails,
                Ternary::Fails => Ternary::Holds,
                pending => pending,
            },
            Self::Bit(bit) if state.is_set(*bit) => Ternary::Holds,
            Self::Bit(bit) if bit_is_set(&state.pending, *bit) => Ternary::DependsOn(*bit),
            Self::Bit(_) => Ternary::Fails,
        }
    }

    fn holds(&self, state: &BitState) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(state)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(state)),
            Self::AnyBit(word_masks) => word_masks.iter().any(|bits| bits.masked(&state.set) != 0),
            Self::NotInRole(_) if state.is_superset => true,
            Self::Not(part) | Self::NotInRole(part) => !part.holds(state),
            Self::Bit(bit) => state.is_set(*bit),
        }
    }

    /// Adds to `bits` the set bits because of which the expression holds, each once. If several
    /// alternatives hold, adds the bits of the first. A negation adds none. Call it only if the
    /// expression holds.
    pub(super) fn witness_bits(&self, state: &BitState, bits: &mut Vec<usize>) {
        let mut add = |bit: usize| {
            if !bits.contains(&bit) {
                bits.push(bit);
            }
        };
        match self {
            Self::All(parts) => parts.iter().for_each(|part| part.witness_bits(state, bits)),
            Self::Any(parts) => {
                if let Some(part) = parts.iter().find(|part| part.holds(state)) {
                    part.witness_bits(state, bits);
                }
            }
            Self::AnyBit(word_masks) => {
                let mut set = word_masks.iter().map(|bits| (bits, bits.masked(&state.set)));
                if let Some((bits, set)) = set.find(|(_, set)| *set != 0) {
                    add(bits.lowest_index(set));
                }
            }
            Self::Not(_) | Self::NotInRole(_) => {}
            Self::Bit(bit) => add(*bit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_bit_behaves_like_any_of_its_bits() {
        let bits = [3, 5, 63, 64, 200];
        let parts: Box<[BitExpr]> = bits.map(BitExpr::Bit).into();
        let (any_bit, any) = (BitExpr::any_of(parts.clone()), BitExpr::Any(parts));
        assert!(matches!(&any_bit, BitExpr::AnyBit(words) if BitExpr::bit_indices(words).eq(bits)));
        for set in [None, Some(4), Some(5), Some(200)] {
            for pending in [None, Some(3), Some(4), Some(64)] {
                let mut state = BitState::new(201);
                set.into_iter().for_each(|bit| assert!(state.set(bit) && !state.set(bit)));
                pending.into_iter().for_each(|bit| state.set_pending(bit, true));
                assert_eq!(any_bit.evaluate(&state), any.evaluate(&state), "{set:?} {pending:?}");
                let witness = |node: &BitExpr| {
                    let mut bits = Vec::new();
                    node.witness_bits(&state, &mut bits);
                    bits
                };
                assert_eq!(witness(&any_bit), witness(&any), "{set:?} {pending:?}");
                pending.into_iter().for_each(|bit| state.set_pending(bit, false));
                assert_eq!(any_bit.evaluate(&state), any.evaluate(&state), "{set:?}");
            }
        }
        // Out of order, the witness is the first bit that is set, not the lowest.
        assert!(matches!(BitExpr::any_of([5, 3].map(BitExpr::Bit).into()), BitExpr::Any(_)));
    }
}
