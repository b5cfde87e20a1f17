//! Whatever the bytes that isolates, correlators and the registry send each other or find stored: reading
//! them returns, what was read is counted in bounded memory, and written again it is the same.
#![no_main]

use std::sync::{Arc, LazyLock};

use hedgerow_core::correlate::batch::{Batch, MAX_BATCH_OBSERVATIONS};
use hedgerow_core::correlate::Correlator;
use hedgerow_core::correlate::Observation;
use hedgerow_core::correlate::Plan;
use hedgerow_core::correlate::Shard;
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::Ruleset;
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 20;
const NOW: u32 = 1_800_000_000;

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let rules = hedgerow_sigma::build(std::path::Path::new("../rules"))
        .or_else(|_| hedgerow_sigma::build(std::path::Path::new("rules")))
        .expect("the shipped rules build");
    Arc::clone(Ruleset::load(&rules).expect("the shipped rules load").plan())
});

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 3 {
        0 => {
            let Ok(batch) = Batch::decode(bytes) else { return };
            let observations = batch.observations(&PLAN);
            assert!(observations.len() <= MAX_BATCH_OBSERVATIONS);
            count(Correlator::new(Arc::clone(&PLAN), Shard::ALL, LIMIT), &observations);
        }
        1 => {
            let Ok(indicators) = Indicators::decode(bytes) else { return };
            let written = indicators.encode();
            assert_eq!(written, bytes);
            for indicator in indicators.iter() {
                assert_eq!(indicators.find(indicator.correlation, indicator.key), Some(indicator));
            }
        }
        _ => {
            let mut correlator = Correlator::new(Arc::clone(&PLAN), Shard::ALL, LIMIT);
            if correlator.merge_partition(bytes, NOW).is_ok() {
                let observation = Observation { at: NOW, signatures: vec![0], values: vec![(0, 1), (1, 7)], numbers: vec![] };
                count(correlator, &[observation]);
            }
        }
    }
});

fn count(mut correlator: Correlator, observations: &[Observation]) {
    let mut firings = Vec::new();
    for observation in observations {
        correlator.observe(observation, NOW, &mut firings);
        assert!(correlator.heap_bytes() <= LIMIT, "{}", correlator.heap_bytes());
    }
    let mut again = Correlator::new(Arc::clone(&PLAN), Shard::ALL, LIMIT);
    for part in correlator.encode_partitions() {
        again.merge_partition(&part, NOW).expect("what was written is read");
    }
}
