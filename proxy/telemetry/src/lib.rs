//! Every metric, event line and exposition of weir, declared once.
//!
//! The listing, in the order a number travels:
//!
//! - [`vocabulary`]: label values that are a closed list (outcomes, reasons, size classes, ...)
//! - [`labels`]: label values that come from outside: the name rule, the caps, `_other` and `_invalid`
//! - [`catalogue`]: every metric of `weir`: name, type, labels, caps, help; [`page`]: `docs/metrics.md`
//! - [`probes`]: the same of the second binary, `weir-probes`, which hands over what it saw in whole readings
//! - [`delta`]: plain numbers a worker collected during one turn of its loop, without atomics
//! - [`histogram`], [`rolling_max`], [`counters`]: the shared, atomic side
//! - [`caller`], [`backend`], [`cluster`], [`rpc`], [`listener`]: handles, resolved once per caller, backend, cluster or connection
//! - [`amplification`]: what requests came to across legs
//! - [`telemetry`]: owns all of it
//! - [`process`]: what the kernel says about this process, read at scrape time
//! - [`exposition`]: OpenMetrics and classic text
//! - [`escape`], [`events`]: log lines that cannot spiral and cannot be used against the terminal that shows them
//!
//! The crate reads no clock: whoever calls passes [`Seconds`]. It starts no thread and no task. The fold path
//! ([`caller::MethodMetrics::fold`]) takes no lock and hashes nothing.

pub mod amplification;
pub mod backend;
pub mod caller;
pub mod catalogue;
pub mod cluster;
pub mod control;
pub mod counters;
pub mod delta;
pub mod escape;
pub mod events;
pub mod exposition;
mod families;
pub mod histogram;
pub mod http_cache;
pub mod labels;
pub mod listener;
pub mod method_names;
pub mod page;
pub mod principal;
pub mod probes;
pub mod process;
pub mod rolling_max;
pub mod rpc;
pub mod rpc_server;
pub mod statement;
pub mod telemetry;
pub mod vocabulary;

pub use amplification::AmplificationDelta;
pub use backend::{BackendConnection, BackendMetrics, PoolMetrics};
pub use caller::{CallerMetrics, MethodIdx, MethodMetrics, ShownLimits};
pub use catalogue::{CATALOGUE, MetricInfo};
pub use cluster::ClusterMetrics;
pub use control::ControlMetrics;
pub use counters::GaugeShare;
pub use delta::{Example, MethodDelta, Observed};
pub use events::{Event, EventFormat, EventLog, Severity};
pub use exposition::Exposition;
pub use http_cache::{HttpCacheMetrics, HttpCacheRefresh, HttpCacheResult, HttpCacheUnfit};
pub use listener::{ClientConnection, ListenerMetrics, TlsHandshake};
pub use method_names::{GrowingNames, MethodNames};
pub use principal::PrincipalMetrics;
pub use probes::{PROBES, ProbesTelemetry, Reading};
pub use rpc::{RpcMethodMetrics, ServiceMetrics};
pub use rpc_server::RpcServerMetrics;
pub use telemetry::{ProtocolLabels, Telemetry, TelemetryConfig, WorkerMetrics};
pub use vocabulary::{
    AmplificationOrigin, AskResult, CacheResult, CheckState, CloseHow, ConnectionState, CorrelationLost,
    CqlBound, Direction, FailoverCause, FlushResult, HandshakeResult, LimitKind, LimitMode, LookupResult,
    NamingResult, NodeState, OpenResult, Outcome, PlacementFailure, PrepareResult, ReadApart, RejectReason,
    RetryResult, RouteResult, ServerFailure, SignInResult, SizeClass, TabletForgotten, TabletTold,
    TokenResult,
};

/// Whole seconds since [`TelemetryConfig::started_unix_seconds`], from a clock that never goes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u64);
