//! An array in which few values differ from the default.
#![deny(clippy::arithmetic_side_effects)]

/// An array of many values. Only written blocks take memory and time. For example, a request
/// contains some dozens of the thousands of literals.
#[derive(Debug)]
pub(super) struct SparseArray<T> {
    /// For each group of [`BLOCK_LEN`] indices, the number of its block in `values`, counted from
    /// 1; 0 if none of the indices was written.
    block_numbers: Box<[u32]>,
    /// The blocks, one after the other.
    values: Vec<T>,
}

impl<T: Copy + Default> SparseArray<T> {
    /// Creates an array of `len` default values.
    pub fn new(len: usize) -> Self {
        Self { block_numbers: vec![0; len.div_ceil(BLOCK_LEN)].into(), values: Vec::new() }
    }

    /// Resets all values to the default.
    pub fn clear(&mut self) {
        self.block_numbers.fill(0);
        self.values.clear();
    }

    /// Returns the value at an index; the default if its block was not written.
    pub fn get(&self, index: usize) -> T {
        let block_number = self.block_numbers.get(index / BLOCK_LEN).copied().unwrap_or_default();
        let position = position(block_number, index);
        position.and_then(|position| self.values.get(position)).copied().unwrap_or_default()
    }

    /// Returns the value at an index for writing. Adds the block of the index if it is missing.
    /// Returns `None` past the end of the last block.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        let block_number = self.block_numbers.get_mut(index / BLOCK_LEN)?;
        if *block_number == 0 {
            let len = self.values.len().saturating_add(BLOCK_LEN);
            self.values.resize(len, T::default());
            *block_number = (len / BLOCK_LEN) as u32;
        }
        self.values.get_mut(position(*block_number, index)?)
    }
}

/// Returns the position in `values` of the value at `index`; `None` if the block of `index` was not
/// written.
fn position(block_number: u32, index: usize) -> Option<usize> {
    let block = (block_number as usize).checked_sub(1)?;
    Some(block.saturating_mul(BLOCK_LEN).saturating_add(index % BLOCK_LEN))
}

/// Number of values in a block.
const BLOCK_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::prop;

    use super::*;

    proptest::proptest! {
        #[test]
        fn equals_an_array(writes in prop::collection::vec((0..100_usize, 1..9_u16), 0..40)) {
            let mut sparse = SparseArray::new(90);
            for _ in 0..2 {
                let mut array = [0; 90];
                sparse.clear();
                for (index, value) in &writes {
                    let slot = sparse.get_mut(*index);
                    proptest::prop_assert_eq!(slot.is_some(), *index < 96);
                    slot.into_iter().for_each(|slot| *slot = *value);
                    array.get_mut(*index).into_iter().for_each(|slot| *slot = *value);
                }
                proptest::prop_assert!((0..90).all(|index| sparse.get(index) == array[index]));
            }
        }
    }
}
