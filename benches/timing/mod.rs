//! Timing loop of the native benchmarks.

use std::time::Instant;

/// Returns the microseconds per run: the median of nine rounds of at least 20 ms each. The argument
/// of `run` is the number of runs.
pub fn median(run: &dyn Fn(u32) -> u32) -> f64 {
    let mut times = 1_u32;
    let timed = |times: u32| {
        let start = Instant::now();
        std::hint::black_box(run(times));
        start.elapsed().as_secs_f64() * 1e6
    };
    while timed(times) < 20_000.0 && times < 1 << 24 {
        times *= 2;
    }
    let mut rounds: Vec<f64> = (0..9).map(|_| timed(times) / f64::from(times)).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
