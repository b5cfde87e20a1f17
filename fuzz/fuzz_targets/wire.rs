//! Fuzzes the wire formats between isolates, correlators and the registry, and stored snapshots.
//!
//! Decoding never panics. Observations are counted in bounded memory. Decoded indicators encode to
//! the same bytes again.
#![no_main]

use std::sync::{Arc, LazyLock};

use hedgerow_core::Ruleset;
use hedgerow_core::correlate::batch::{Batch, MAX_BATCH_OBSERVATIONS};
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::correlate::{Correlator, Observation, Plan, Shard};
use libfuzzer_sys::fuzz_target;

/// Memory limit of a correlator, in bytes.
const MEMORY_LIMIT: usize = 1 << 20;
/// Time at which all observations are counted, in seconds since the epoch.
const NOW: u32 = 1_800_000_000;

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let rules = hedgerow_sigma::build(std::path::Path::new("../rules"))
        .or_else(|_| hedgerow_sigma::build(std::path::Path::new("rules")))
        .expect("the shipped rules are valid");
    let ruleset = Ruleset::load(&rules).expect("the bundle of the shipped rules is valid");
    Arc::clone(ruleset.plan())
});

// Loads the rules before the first input, because the time limit of an input would include loading.
fuzz_target!(init: { LazyLock::force(&PLAN); }, |input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 3 {
        0 => {
            let Ok(batch) = Batch::decode(bytes) else { return };
            let observations = batch.observations(&PLAN);
            assert!(observations.len() <= MAX_BATCH_OBSERVATIONS);
            let correlator = Correlator::new(Arc::clone(&PLAN), Shard::ALL, MEMORY_LIMIT);
            check_counting(correlator, &observations);
        }
        1 => {
            let Ok(indicators) = Indicators::decode(bytes) else { return };
            assert_eq!(indicators.encode(), bytes);
            for indicator in indicators.iter() {
                assert_eq!(indicators.find(indicator.correlation, indicator.key), Some(indicator));
            }
        }
        _ => {
            let mut correlator = Correlator::new(Arc::clone(&PLAN), Shard::ALL, MEMORY_LIMIT);
            if correlator.merge_partition(bytes, NOW).is_ok() {
                let values = vec![(0, 1), (1, 7)];
                let observation = Observation {
                    at: NOW,
                    signatures: vec![0],
                    values,
                    proven: true,
                    ..Observation::default()
                };
                check_counting(correlator, &[observation]);
            }
        }
    }
});

/// Counts observations, and checks that memory stays bounded and that another correlator can merge
/// the encoded partitions.
fn check_counting(mut correlator: Correlator, observations: &[Observation]) {
    let mut firings = Vec::new();
    for observation in observations {
        correlator.observe(observation, NOW, &mut firings);
        assert!(correlator.heap_bytes() <= MEMORY_LIMIT, "{}", correlator.heap_bytes());
    }
    let mut copy = Correlator::new(Arc::clone(&PLAN), Shard::ALL, MEMORY_LIMIT);
    for partition in correlator.encode_partitions() {
        copy.merge_partition(&partition, NOW).expect("an encoded partition can be merged");
    }
}
