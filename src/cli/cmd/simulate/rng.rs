//! Repeatable random numbers: one seed always makes the same traffic.
//!
//! The generator is SplitMix64. It is implemented here, because the figures in docs/simulation.md
//! depend on its exact numbers and on the distributions below: an update of a crate could change
//! them.

/// A stream of random numbers. Its state has only eight bytes, so that every account can have its
/// own stream.
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Returns the stream with the number `stream`. The streams of one seed are independent of each
    /// other.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut rng = Self(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        rng.next_u64();
        Self(rng.next_u64())
    }

    /// Returns 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }

    /// Returns a number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let product = u128::from(self.next_u64()) * bound as u128;
        (product >> 64) as usize
    }

    /// Returns a uniformly distributed number from 0 to 1, excluding 1.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns true with the given probability, from 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Returns an element of a list; the default value if the list is empty.
    pub fn pick<T: Copy + Default>(&mut self, list: &[T]) -> T {
        list.get(self.below(list.len())).copied().unwrap_or_default()
    }

    /// Returns an exponentially distributed number with this mean: the time to the next event of a
    /// Poisson process.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -(1.0 - self.uniform()).ln() * mean
    }

    /// Returns a log-normal number with mean 1. `sigma` is the standard deviation of its logarithm.
    pub fn log_normal(&mut self, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
        (sigma * normal - sigma * sigma / 2.0).exp()
    }

    /// Returns a geometrically distributed number with this mean, at least 1: the length of a run
    /// that continues after each element with a fixed probability.
    pub fn geometric(&mut self, mean: f64) -> u32 {
        if mean <= 1.0 {
            return 1;
        }
        let length = (1.0 - self.uniform()).ln() / (1.0 - 1.0 / mean).ln();
        1 + length.min(1e6) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut draw: impl FnMut() -> f64) -> f64 {
        (0..100_000).map(|_| draw()).sum::<f64>() / 100_000.0
    }

    #[test]
    fn distributions_have_their_means_and_streams_repeat() {
        let mut rng = Rng::new(1, 1);
        assert!((mean(|| rng.uniform()) - 0.5).abs() < 0.01);
        assert!((mean(|| rng.exponential(3.0)) - 3.0).abs() < 0.05);
        assert!((mean(|| rng.log_normal(1.0)) - 1.0).abs() < 0.05);
        assert!((mean(|| f64::from(rng.geometric(4.0))) - 4.0).abs() < 0.05);
        assert!((mean(|| rng.below(9) as f64) - 4.0).abs() < 0.05);
        assert_eq!((rng.geometric(1.0), rng.below(0), rng.pick::<u8>(&[])), (1, 0, 0));
        let stream = |seed, number| {
            let mut rng = Rng::new(seed, number);
            [rng.next_u64(), rng.next_u64()]
        };
        assert_eq!(stream(1, 2), stream(1, 2));
        assert!(stream(1, 2) != stream(2, 1) && stream(1, 2) != stream(1, 3));
    }
}
