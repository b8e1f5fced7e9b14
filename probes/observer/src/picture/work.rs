//! Whose storage work it is: processes that go past weir, and requests that map to a thread.

use super::{Destination, Process, Sizes};
use serde::Serialize;

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
}

/// What threads of a chosen service spent on requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RequestTimes {
    /// The service, as the operator named it.
    pub service: String,
    /// Seconds on a processor, by request.
    pub on_cpu: Sizes,
    /// Seconds off the processor meanwhile.
    pub blocked: Sizes,
}

/// How far weir's word is from the kernel's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disagreement {
    /// What is compared, as a word of the code.
    pub what: &'static str,
    /// The difference as a share of the larger: 0 when they agree.
    pub share: f64,
}
