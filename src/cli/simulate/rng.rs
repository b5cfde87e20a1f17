//! Chance that repeats itself: the same seed makes the same traffic.

/// A stream of numbers (SplitMix64): eight bytes of state, so that every account has one of its own.
#[derive(Clone, Copy, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A stream of its own for everything that a seed is for, by number.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut rng = Self(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        rng.next();
        Self(rng.next())
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// A number below a bound; 0 where that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let wide = u128::from(self.next()) * bound as u128;
        (wide >> 64) as usize
    }

    /// A number from 0 to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens that has this chance.
    pub fn chance(&mut self, chance: f64) -> bool {
        self.share() < chance
    }

    /// One of a list; the usual value of its kind where it is empty.
    pub fn pick<T: Copy + Default>(&mut self, list: &[T]) -> T {
        list.get(self.below(list.len())).copied().unwrap_or_default()
    }

    /// How long it takes until something happens that takes `mean` on average, and has no memory.
    pub fn wait(&mut self, mean: f64) -> f64 {
        -(1.0 - self.share()).ln() * mean
    }

    /// A factor that is 1 on average, and the wider spread the larger `sigma` is (log-normal).
    pub fn factor(&mut self, sigma: f64) -> f64 {
        let radius = (-2.0 * (1.0 - self.share()).ln()).sqrt();
        let normal = radius * (std::f64::consts::TAU * self.share()).cos();
        (sigma * normal - sigma * sigma / 2.0).exp()
    }

    /// How many, where each is followed by another one with the same chance; at least 1.
    pub fn run(&mut self, mean: f64) -> u32 {
        if mean <= 1.0 {
            return 1;
        }
        let length = (1.0 - self.share()).ln() / (1.0 - 1.0 / mean).ln();
        1 + length.min(1e6) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(mut each: impl FnMut() -> f64) -> f64 {
        (0..100_000).map(|_| each()).sum::<f64>() / 100_000.0
    }

    #[test]
    fn chance_is_what_it_says_and_repeats_itself() {
        let mut rng = Rng::new(1, 1);
        assert!((mean(|| rng.share()) - 0.5).abs() < 0.01);
        assert!((mean(|| rng.wait(3.0)) - 3.0).abs() < 0.05);
        assert!((mean(|| rng.factor(1.0)) - 1.0).abs() < 0.05);
        assert!((mean(|| f64::from(rng.run(4.0))) - 4.0).abs() < 0.05);
        assert!((mean(|| rng.below(9) as f64) - 4.0).abs() < 0.05);
        assert_eq!((rng.run(1.0), rng.below(0), rng.pick::<u8>(&[])), (1, 0, 0));
        let stream = |seed, number| {
            let mut rng = Rng::new(seed, number);
            [rng.next(), rng.next()]
        };
        assert_eq!(stream(1, 2), stream(1, 2));
        assert!(stream(1, 2) != stream(2, 1) && stream(1, 2) != stream(1, 3));
    }
}
