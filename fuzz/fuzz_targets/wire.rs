//! Whatever the bytes that isolates, correlators and the registry send each other or find stored: reading
//! them returns, what was read is counted in bounded memory, and written again it is the same.
#![no_main]

use std::sync::{Arc, LazyLock};

use hedgerow::correlate::batch::{Batch, MAX_BATCH};
use hedgerow::correlate::{Correlator, Observation, Plan, Shard};
use hedgerow::indicator::Indicators;
use hedgerow::{Ruleset, sigma};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;
const NOW: u32 = 1_800_000_000;

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let rules = sigma::build(std::path::Path::new("../rules"))
        .or_else(|_| sigma::build(std::path::Path::new("rules")))
        .expect("the shipped rules build");
    Arc::clone(Ruleset::load(&rules).expect("the shipped rules load").plan())
});

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 3 {
        0 => {
            let Ok(batch) = Batch::parse(bytes) else { return };
            let observations = batch.observations(&PLAN);
            assert!(observations.len() <= MAX_BATCH);
            count(Correlator::new(Arc::clone(&PLAN), Shard::WHOLE, LIMIT), &observations);
        }
        1 => {
            let Ok(indicators) = Indicators::parse(bytes) else { return };
            let written = indicators.bytes();
            assert_eq!(written, bytes);
            for known in indicators.iter() {
                assert_eq!(indicators.find(known.correlation, known.key), Some(known));
            }
        }
        _ => {
            let mut correlator = Correlator::new(Arc::clone(&PLAN), Shard::WHOLE, LIMIT);
            if correlator.take(bytes, NOW).is_ok() {
                let own = Observation { at: NOW, rules: vec![0], values: vec![(0, 1), (1, 7)], numbers: vec![] };
                count(correlator, &[own]);
            }
        }
    }
});

fn count(mut correlator: Correlator, observations: &[Observation]) {
    let mut firings = Vec::new();
    for observation in observations {
        correlator.observe(observation, NOW, &mut firings);
        assert!(correlator.bytes() <= LIMIT, "{}", correlator.bytes());
    }
    let mut again = Correlator::new(Arc::clone(&PLAN), Shard::WHOLE, LIMIT);
    for part in correlator.parts() {
        again.take(&part, NOW).expect("what was written is read");
    }
}
