//! Whose storage work it is: processes that go past weir, and requests that map to a thread.

use super::{Destination, Process, Sizes};
use serde::Serialize;
use std::time::Duration;

/// Connections of a process that goes past weir.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BypassCount {
    /// Towards where.
    pub destination: Destination,
    /// Whose.
    pub process: Process,
    /// How many.
    pub connections: u64,
}

/// Requests of a process that goes past weir: an estimate from the first bytes of its writes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BypassWork {
    /// Towards where.
    pub destination: Destination,
    /// Whose.
    pub process: Process,
    /// Requests.
    pub requests: u64,
    /// Operations in them.
    pub operations: u64,
    /// Operations by request.
    pub sizes: Sizes,
    /// The largest request of the last minute, in operations.
    pub largest_last_minute: u64,
    /// Calls that sent something, requests or not.
    pub writes: u64,
    /// Bytes that they sent.
    pub bytes: u64,
    /// Those whose bytes could not be looked at: nobody knows what they asked.
    pub unseen: u64,
}

/// What threads of a chosen service spent on requests, of those requests that map to a thread.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestTimes {
    /// The service, as the operator named it.
    pub service: String,
    /// Seconds on a processor, by request.
    pub on_cpu: Sizes,
    /// Seconds off the processor meanwhile, waiting for one included.
    pub blocked: Sizes,
}

/// A chosen service as a whole, whether its requests map to threads or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceTotals {
    /// The service, as the operator named it.
    pub service: String,
    /// Its processes that are followed now: running, the ports they listen on known.
    pub processes: u64,
    /// Requests that they received. `None` before there was such a process.
    pub requests: Option<u64>,
    /// Processor time of all their threads, whatever they did, since each of them was found. `None` likewise.
    pub on_cpu: Option<Duration>,
}

/// How far weir's word is from the kernel's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    /// What is compared, as a word of the code.
    pub what: &'static str,
    /// The difference as a share of the larger: 0 when they agree.
    pub share: f64,
}

/// Requests that passed weir's own point, `weir_request_done`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestCount {
    /// The weir's process id.
    pub weir: u32,
    /// The caller, as weir numbers it (docs/operating.md).
    pub caller: u64,
    /// The method, as weir numbers it.
    pub method: u32,
    /// Requests.
    pub requests: u64,
    /// Operations they asked for.
    pub operations: u64,
    /// Operations that went to the backends.
    pub backend_operations: u64,
    /// Requests by operations.
    pub sizes: Sizes,
}
