//! Requests that passed `weir_request_done`, the point of weir's own that every request passes when it ends.

use aya_ebpf::bindings::BPF_NOEXIST;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::macros::{map, uprobe};
use aya_ebpf::maps::HashMap;
use aya_ebpf::programs::ProbeContext;
use weir_probes_abi::lost as counters;
use weir_probes_abi::requests::{self as abi, RequestKey, Requests, bucket};

use crate::{atomic, lost};

/// By weir, caller and method.
#[map]
static REQUESTS: HashMap<RequestKey, Requests> = HashMap::with_max_entries(abi::REQUESTS, 0);

#[uprobe]
pub fn requests(ctx: ProbeContext) -> u32 {
    if let (Some(caller), Some(method), Some(operations), Some(backend_operations)) =
        (ctx.arg::<u64>(0), ctx.arg::<u32>(1), ctx.arg::<u64>(2), ctx.arg::<u64>(3))
    {
        let process = (bpf_get_current_pid_tgid() >> 32) as u32;
        count(&RequestKey { caller, method, process }, operations, backend_operations);
    }
    0
}

#[inline(always)]
fn count(key: &RequestKey, operations: u64, backend_operations: u64) {
    if REQUESTS.get_ptr(key).is_none() {
        // where another CPU was first its entry stays
        let _ = REQUESTS.insert(key, &Requests::ZERO, u64::from(BPF_NOEXIST));
    }
    let Some(requests) = REQUESTS.get_ptr_mut(key) else {
        lost::count(counters::REQUESTS);
        return;
    };
    // SAFETY: a pointer that the map gave, aligned as its type; only used atomically, as two threads of weir may be at
    // this place on one CPU. The bucket is below the bound by how it is made.
    unsafe {
        atomic::add(&raw mut (*requests).requests, 1);
        atomic::add(&raw mut (*requests).operations, operations);
        atomic::add(&raw mut (*requests).backend_operations, backend_operations);
        atomic::add((&raw mut (*requests).sizes).cast::<u64>().add(bucket(operations) as usize), 1);
    }
}
