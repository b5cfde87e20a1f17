//! Fuzzes the wire formats between isolates, correlators and the registry, and stored snapshots.
//!
//! Decoding any bytes returns, observations are counted in bounded memory, and decoded indicators
//! encode to the bytes they came from.
#![no_main]

use std::sync::{Arc, LazyLock};

use hedgerow_core::Ruleset;
use hedgerow_core::correlate::batch::{Batch, MAX_BATCH_OBSERVATIONS};
use hedgerow_core::correlate::indicator::Indicators;
use hedgerow_core::correlate::{Correlator, Observation, Plan, Shard};
use libfuzzer_sys::fuzz_target;

/// Memory limit of a correlator, in bytes.
const MEMORY_LIMIT: usize = 1 << 20;
/// Time of all observations, in seconds since the epoch.
const NOW: u32 = 1_800_000_000;

static PLAN: LazyLock<Arc<Plan>> = LazyLock::new(|| {
    let rules = hedgerow_sigma::build(std::path::Path::new("../rules"))
        .or_else(|_| hedgerow_sigma::build(std::path::Path::new("rules")))
        .expect("the shipped rules are valid");
    let ruleset = Ruleset::load(&rules).expect("the bundle of the shipped rules is valid");
    Arc::clone(ruleset.plan())
});

// The rules load before the first input, whose time is limited.
fuzz_target!(init: { LazyLock::force(&PLAN); }, |input: (u8, &[u8])| {
    let (kind, bytes) = input;
    match kind % 3 {
        0 => {
            let Ok(batch) = Batch::decode(bytes) else { return };
            let observations = batch.observations(&PLAN);
            assert!(observations.len() <= MAX_BATCH_OBSERVATIONS);
            count(Correlator::new(Arc::clone(&PLAN), Shard::ALL, MEMORY_LIMIT), &observations);
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
                count(correlator, &[observation]);
            }
        }
    }
});

/// Counts observations in bounded memory. The partitions of the correlator can be merged into
/// another one.
fn count(mut correlator: Correlator, observations: &[Observation]) {
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
