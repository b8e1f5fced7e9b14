//! The probe `services`: what threads of chosen services spend on requests, and what the services come to as a whole, for
//! those whose requests map to no thread.

mod followed;

pub use followed::{Followed, Service};

use super::machine::Machine;
use super::maps::per_cpu;
use super::probe::{Probe, TO_LOAD, btf_tracepoint};
use super::record::Patch;
use super::refusal::Refusal;
use crate::picture::{RequestTimes, ServiceTotals, Sizes};
use aya::Ebpf;
use aya::maps::MapError;
use std::sync::LazyLock;
use weir_probes_abi::lost;
use weir_probes_abi::services::{BUCKETS, SERVICES, Service as Counts, ServiceFields};

/// See the module.
pub const PROBE: Probe = Probe {
    name: "services",
    loses: "processor time and blocked time of requests inside chosen services (--service)",
    feature: "tracepoints sock/sock_recv_length and sock_send_length (6.3), sched/sched_switch; the kernel's types (BTF)",
    to_load: TO_LOAD,
    to_live: &["CAP_BPF", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE"],
    programs: &["services_switched", "services_sent", "services_received"],
    shared: &[],
    maps: &["SERVICES", "SERVICE_PROCESSES", "SERVICE_PORTS", "SERVICE_THREADS", "SERVICE_CONNECTIONS"],
    lost: &[lost::SERVICES],
    prepare,
    attach: |ebpf, _, _| attach(ebpf),
};

fn prepare(machine: &Machine) -> Result<Vec<Patch>, Refusal> {
    let types = machine.types()?;
    let (remote, local) =
        (types.offset("sock_common", "skc_dport")?, types.offset("sock_common", "skc_num")?);
    if local != remote + 2 {
        return Err(Refusal::Unsupported("this kernel keeps a socket's two ports apart".to_owned()));
    }
    let fields = ServiceFields {
        ports: remote,
        family: types.offset("sock_common", "skc_family")?,
        protocol: types.offset("sock", "sk_protocol")?,
        pid: types.offset("task_struct", "pid")?,
    };
    Ok(vec![Patch::of("SERVICE_FIELDS", fields)])
}

/// Switches first: a request that begins now is followed from its begin.
fn attach(ebpf: &mut Ebpf) -> Result<(), Refusal> {
    btf_tracepoint(ebpf, "services_switched", "sched_switch")?;
    btf_tracepoint(ebpf, "services_sent", "sock_send_length")?;
    btf_tracepoint(ebpf, "services_received", "sock_recv_length")
}

/// What was counted, of services that were ever found.
///
/// # Errors
///
/// When the map cannot be read.
pub fn read(
    ebpf: &Ebpf,
    services: &[Service],
    followed: &Followed,
) -> Result<(Vec<RequestTimes>, Vec<ServiceTotals>), MapError> {
    let rows = per_cpu::<Counts>(ebpf, "SERVICES")?;
    let (mut times, mut totals) = (Vec::new(), Vec::new());
    for (slot, service) in (0..SERVICES).zip(services) {
        let known = followed.is_known(slot);
        let counts = rows.get(&slot, 0)?.iter().fold(Counts::ZERO, |mut all, one| {
            all.add(&one.0);
            all
        });
        totals.push(ServiceTotals {
            service: service.name.clone(),
            processes: followed.running(slot),
            requests: known.then_some(counts.requests),
            on_cpu: known.then(|| followed.processor_time(slot)),
        });
        if known {
            times.push(RequestTimes {
                service: service.name.clone(),
                on_cpu: sizes(&counts.by_on_cpu, counts.on_cpu),
                blocked: sizes(&counts.by_off_cpu, counts.off_cpu),
            });
        }
    }
    Ok((times, totals))
}

fn sizes(counts: &[u64; BUCKETS], nanoseconds: u64) -> Sizes {
    Sizes { bounds: bounds(), counts: counts.to_vec(), sum: nanoseconds as f64 / 1e9 }
}

/// The upper bound of each bucket in seconds; the last one has none.
#[must_use]
pub fn bounds() -> &'static [f64] {
    static BOUNDS: LazyLock<Vec<f64>> =
        LazyLock::new(|| (1..BUCKETS as i32).map(|power| 2f64.powi(power) / 1e6).collect());
    &BOUNDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_probes_abi::services::bucket;

    #[test]
    fn a_time_is_below_the_bound_of_its_bucket_and_not_below_the_one_before() {
        assert_eq!(bounds().len(), BUCKETS - 1);
        for nanoseconds in [0, 999, 1_000, 1_999, 2_000, 20_000_000, 30_000_000, 8_000_000_000] {
            let (index, seconds) = (bucket(nanoseconds) as usize, nanoseconds as f64 / 1e9);
            assert!(seconds < bounds()[index], "{nanoseconds}");
            assert!(index == 0 || seconds >= bounds()[index - 1], "{nanoseconds}");
        }
        assert_eq!(bucket(u64::MAX) as usize, BUCKETS - 1);
    }
}
