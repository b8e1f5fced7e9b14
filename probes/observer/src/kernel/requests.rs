//! The probe `requests`: a uprobe on `weir_request_done`, which every request through weir passes when it ends.

use super::maps::hash;
use super::probe::{Probe, TO_LIVE, missing};
use super::record::Raw;
use super::refusal::Refusal;
use super::{Options, maps};
use crate::picture::{RequestCount, Sizes};
use crate::processes::names::Names;
use aya::Ebpf;
use aya::maps::MapError;
use aya::programs::UProbe;
use aya::programs::uprobe::UProbeScope;
use std::path::Path;
use std::sync::LazyLock;
use weir_probes_abi::lost;
use weir_probes_abi::requests::{BUCKETS, RequestKey, Requests};

const PROGRAM: &str = "requests";
/// The function in weir; its arguments are an interface of weir's (docs/operating.md).
pub const SYMBOL: &str = "weir_request_done";

/// See the module.
pub const PROBE: Probe = Probe {
    name: "requests",
    loses: "the requests of weir, as the kernel sees them: no second opinion on weir's own numbers",
    feature: "uprobes (CONFIG_UPROBE_EVENTS)",
    to_load: &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"],
    to_live: TO_LIVE,
    programs: &[PROGRAM],
    shared: &[],
    maps: &["REQUESTS"],
    lost: &[lost::REQUESTS],
    prepare: |_| Ok(Vec::new()),
    attach: |ebpf, options, _| attach(ebpf, options),
};

fn attach(ebpf: &mut Ebpf, options: &Options) -> Result<(), Refusal> {
    if options.weirs.is_empty() {
        return Err(Refusal::Unsupported("no weir is named (--own)".to_owned()));
    }
    let program: &mut UProbe = ebpf
        .program_mut(PROGRAM)
        .ok_or_else(|| missing(PROGRAM))?
        .try_into()
        .map_err(|error| Refusal::of_program(PROGRAM, &error))?;
    program.load().map_err(|error| Refusal::of_program(PROGRAM, &error))?;
    for weir in &options.weirs {
        follow(program, weir)?;
    }
    Ok(())
}

fn follow(program: &mut UProbe, weir: &Path) -> Result<(), Refusal> {
    program
        .attach(SYMBOL, weir, UProbeScope::AllProcesses)
        .map(drop)
        .map_err(|error| Refusal::of_program(PROGRAM, &error))
}

/// Requests since the probe was attached, by weir, caller and method.
///
/// # Errors
///
/// When the map cannot be read.
pub fn read(ebpf: &Ebpf) -> Result<Vec<RequestCount>, MapError> {
    let mut counts = Vec::new();
    for entry in hash::<RequestKey, Requests>(ebpf, "REQUESTS")?.iter() {
        let (Raw(key), Raw(requests)) = entry?;
        counts.push((key, requests));
    }
    counts.sort_by_key(|(key, _)| *key); // the map's order is that of its hash
    let shown = |(key, requests): (RequestKey, Requests)| RequestCount {
        weir: key.process,
        caller: key.caller,
        method: key.method,
        requests: requests.requests,
        operations: requests.operations,
        backend_operations: requests.backend_operations,
        sizes: sizes(&requests.sizes, requests.operations),
    };
    Ok(counts.into_iter().map(shown).collect())
}

/// Takes the entries of weirs that have ended out of the map.
///
/// # Errors
///
/// When the map cannot be read or changed.
pub fn sweep(ebpf: &mut Ebpf, names: &Names) -> Result<(), MapError> {
    let mut requests = maps::hash_mut::<RequestKey, Requests>(ebpf, "REQUESTS")?;
    let gone: Vec<RequestKey> = requests
        .keys()
        .filter_map(Result::ok)
        .map(|key| key.0)
        .filter(|key| !names.lives(key.process))
        .collect();
    gone.into_iter().try_for_each(|key| requests.remove(&Raw(key)))
}

/// Requests by operations, with their sum.
#[must_use]
pub fn sizes(counts: &[u64; BUCKETS], operations: u64) -> Sizes {
    Sizes { bounds: bounds(), counts: counts.to_vec(), sum: operations as f64 }
}

/// The largest number of operations of each bucket; the last one has none.
#[must_use]
pub fn bounds() -> &'static [f64] {
    static BOUNDS: LazyLock<Vec<f64>> =
        LazyLock::new(|| (1..BUCKETS as i32).map(|power| 2f64.powi(power) - 1.0).collect());
    &BOUNDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_probes_abi::requests::bucket;

    #[test]
    fn a_request_is_at_most_the_bound_of_its_bucket_and_above_the_one_before() {
        assert_eq!(bounds().len(), BUCKETS - 1);
        for operations in [0, 1, 2, 3, 4, 2_000, 15_000, 131_071] {
            let (index, value) = (bucket(operations) as usize, operations as f64);
            assert!(value <= bounds()[index] && (index == 0 || value > bounds()[index - 1]), "{operations}");
        }
        assert_eq!(bucket(131_072) as usize, BUCKETS - 1);
    }
}
