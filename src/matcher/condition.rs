//! A signature's condition: a small boolean program over bits.

/// What is known of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Holds,
    Fails,
    /// It depends on a bit that is not known yet.
    DependsOn(usize),
}

/// A condition over bits.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    All(Box<[Node]>),
    Any(Box<[Node]>),
    /// Any of many bits, in their order.
    AnyBit(Box<[Bits]>),
    Not(Box<Node>),
    Bit(usize),
}

/// Some of the sixty-four bits of a word.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bits {
    word: u32,
    mask: u64,
}

/// What is known of bits: those that are set, and those that may yet be.
#[derive(Clone, Debug)]
pub(super) struct Known {
    set: Box<[u64]>,
    open: Box<[u64]>,
}

impl Known {
    pub fn new(bits: usize) -> Self {
        let words = || vec![0; bits.div_ceil(64)].into();
        Self { set: words(), open: words() }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.set.fill(0);
        self.open.fill(0);
    }

    pub fn is_set(&self, bit: usize) -> bool {
        has(&self.set, bit)
    }

    /// Sets a bit; false where it was set.
    pub fn set(&mut self, bit: usize) -> bool {
        let is_new = bit < self.set.len().saturating_mul(64) && !self.is_set(bit);
        put(&mut self.set, bit, true);
        is_new
    }

    /// Whether a bit may yet be set, by more work than was done so far.
    pub fn open(&mut self, bit: usize, is_open: bool) {
        put(&mut self.open, bit, is_open);
    }
}

fn has(words: &[u64], bit: usize) -> bool {
    words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 != 0)
}

fn put(words: &mut [u64], bit: usize, to: bool) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word = *word & !(1 << (bit % 64)) | u64::from(to) << (bit % 64);
    }
}

impl Bits {
    fn of(self, words: &[u64]) -> u64 {
        words.get(self.word as usize).copied().unwrap_or_default() & self.mask
    }

    /// The place of the lowest of some of them.
    fn lowest(self, bits: u64) -> usize {
        (self.word as usize).saturating_mul(64).saturating_add(bits.trailing_zeros() as usize)
    }
}

impl Node {
    /// Any of some parts.
    pub(crate) fn any(parts: Box<[Node]>) -> Self {
        let bit = |part: &Node| match part {
            Self::Bit(bit) => Some(*bit),
            _ => None,
        };
        // Which of several bits proves it depends on their order.
        match parts.iter().map(bit).collect::<Option<Vec<usize>>>() {
            Some(bits) if bits.is_sorted_by(|a, b| a < b) => {
                let words = bits.chunk_by(|a, b| a / 64 == b / 64).map(|bits| Bits {
                    word: bits.first().map_or(0, |bit| bit / 64) as u32,
                    mask: bits.iter().fold(0, |mask, bit| mask | 1 << (bit % 64)),
                });
                Self::AnyBit(words.collect())
            }
            _ => Self::Any(parts),
        }
    }

    /// The bits of an [`Node::AnyBit`].
    pub(crate) fn bits(words: &[Bits]) -> impl Iterator<Item = usize> {
        words.iter().flat_map(|bits| {
            let own = (0..64).filter(|bit| bits.mask >> bit & 1 != 0);
            own.map(|bit| bits.lowest(1 << bit))
        })
    }

    /// Evaluates with what is known so far: nothing is asked for that cannot change the outcome.
    pub(super) fn verdict(&self, known: &Known) -> Verdict {
        let settled = |parts: &[Node], settles: Verdict, otherwise: Verdict| {
            let mut open = otherwise;
            for part in parts {
                match part.verdict(known) {
                    verdict if verdict == settles => return settles,
                    Verdict::DependsOn(bit) if open == otherwise => open = Verdict::DependsOn(bit),
                    _ => {}
                }
            }
            open
        };
        match self {
            Self::All(parts) => settled(parts, Verdict::Fails, Verdict::Holds),
            Self::Any(parts) => settled(parts, Verdict::Holds, Verdict::Fails),
            Self::AnyBit(words) => {
                if words.iter().any(|bits| bits.of(&known.set) != 0) {
                    return Verdict::Holds;
                }
                let mut open = words.iter().map(|bits| (bits, bits.of(&known.open)));
                let open = open.find(|(_, open)| *open != 0);
                open.map_or(Verdict::Fails, |(bits, open)| Verdict::DependsOn(bits.lowest(open)))
            }
            Self::Not(part) => match part.verdict(known) {
                Verdict::Holds => Verdict::Fails,
                Verdict::Fails => Verdict::Holds,
                open => open,
            },
            Self::Bit(bit) if known.is_set(*bit) => Verdict::Holds,
            Self::Bit(bit) if has(&known.open, *bit) => Verdict::DependsOn(*bit),
            Self::Bit(_) => Verdict::Fails,
        }
    }

    fn holds(&self, known: &Known) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(known)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(known)),
            Self::AnyBit(words) => words.iter().any(|bits| bits.of(&known.set) != 0),
            Self::Not(part) => !part.holds(known),
            Self::Bit(bit) => known.is_set(*bit),
        }
    }

    /// The bits that make a node hold, which it does.
    pub(super) fn proof(&self, known: &Known, bits: &mut Vec<usize>) {
        let mut add = |bit: usize| {
            if !bits.contains(&bit) {
                bits.push(bit);
            }
        };
        match self {
            Self::All(parts) => parts.iter().for_each(|part| part.proof(known, bits)),
            Self::Any(parts) => {
                if let Some(part) = parts.iter().find(|part| part.holds(known)) {
                    part.proof(known, bits);
                }
            }
            Self::AnyBit(words) => {
                let mut set = words.iter().map(|bits| (bits, bits.of(&known.set)));
                if let Some((bits, set)) = set.find(|(_, set)| *set != 0) {
                    add(bits.lowest(set));
                }
            }
            Self::Not(_) => {}
            Self::Bit(bit) => add(*bit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_bits_are_one_or_the_other() {
        let own = [3, 5, 63, 64, 200];
        let parts: Box<[Node]> = own.map(Node::Bit).into();
        let (masks, parts) = (Node::any(parts.clone()), Node::Any(parts));
        assert!(matches!(&masks, Node::AnyBit(words) if Node::bits(words).eq(own)));
        for set in [None, Some(4), Some(5), Some(200)] {
            for open in [None, Some(3), Some(4), Some(64)] {
                let mut known = Known::new(201);
                set.into_iter().for_each(|bit| assert!(known.set(bit) && !known.set(bit)));
                open.into_iter().for_each(|bit| known.open(bit, true));
                assert_eq!(masks.verdict(&known), parts.verdict(&known), "{set:?} {open:?}");
                let proof = |node: &Node| {
                    let mut bits = Vec::new();
                    node.proof(&known, &mut bits);
                    bits
                };
                assert_eq!(proof(&masks), proof(&parts), "{set:?} {open:?}");
                open.into_iter().for_each(|bit| known.open(bit, false));
                assert_eq!(masks.verdict(&known), parts.verdict(&known), "{set:?}");
            }
        }
        // Out of order, the first that is set proves it, not the lowest.
        assert!(matches!(Node::any([5, 3].map(Node::Bit).into()), Node::Any(_)));
    }
}
