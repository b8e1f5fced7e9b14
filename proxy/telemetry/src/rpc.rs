//! What is counted per service that answers calls, and per method of them.

use crate::counters::GaugeShare;
use crate::delta::Observed;
use crate::families::Families;
use crate::histogram::AtomicHistogram;
use crate::labels::Label;
use crate::vocabulary::{Outcome, RetryResult};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

/// The handles of one service.
#[derive(Debug)]
pub struct ServiceMetrics {
    calls: Gauge,
    in_flight: Gauge,
    waiting: Gauge,
    splits: [Counter; Outcome::COUNT],
    chunks: Counter,
    chunks_in_flight: Gauge,
    keys_waiting: Gauge,
    gathered: Gauge,
    orphans: Gauge,
    retries: [Counter; RetryResult::COUNT],
}

impl ServiceMetrics {
    /// Every series starts at zero.
    pub(crate) fn new(name: &Label, families: &Families) -> ServiceMetrics {
        let with = |label: &'static str| [name.clone(), label.into()];
        ServiceMetrics {
            calls: families.rpc_calls.series([name.clone()]),
            in_flight: families.rpc_calls_in_flight.series([name.clone()]),
            waiting: families.rpc_calls_waiting.series([name.clone()]),
            splits: std::array::from_fn(|outcome| families.rpc_splits.series(with(Outcome::NAMES[outcome]))),
            chunks: families.rpc_chunks.series([name.clone()]),
            chunks_in_flight: families.rpc_chunks_in_flight.series([name.clone()]),
            keys_waiting: families.rpc_chunk_keys_waiting.series([name.clone()]),
            gathered: families.rpc_gathered_bytes.series([name.clone()]),
            orphans: families.rpc_orphans.series([name.clone()]),
            retries: std::array::from_fn(|result| {
                families.rpc_retries.series(with(RetryResult::NAMES[result]))
            }),
        }
    }

    /// The share of an engine in the calls under way.
    #[must_use]
    pub fn calls(&self) -> GaugeShare {
        GaugeShare::new(self.calls.clone())
    }

    /// In the calls passed on whole that servers work on.
    #[must_use]
    pub fn calls_in_flight(&self) -> GaugeShare {
        GaugeShare::new(self.in_flight.clone())
    }

    /// In the calls that wait to be passed on whole.
    #[must_use]
    pub fn calls_waiting(&self) -> GaugeShare {
        GaugeShare::new(self.waiting.clone())
    }

    /// In the parts that servers work on.
    #[must_use]
    pub fn chunks_in_flight(&self) -> GaugeShare {
        GaugeShare::new(self.chunks_in_flight.clone())
    }

    /// In the keys of split calls that wait.
    #[must_use]
    pub fn chunk_keys_waiting(&self) -> GaugeShare {
        GaugeShare::new(self.keys_waiting.clone())
    }

    /// In the bytes of parts' answers that are held.
    #[must_use]
    pub fn gathered_bytes(&self) -> GaugeShare {
        GaugeShare::new(self.gathered.clone())
    }

    /// In the calls and parts servers work on for nobody.
    #[must_use]
    pub fn orphans(&self) -> GaugeShare {
        GaugeShare::new(self.orphans.clone())
    }

    /// Split calls that ended.
    pub fn splits(&self, outcome: Outcome, calls: u64) {
        self.splits[outcome.index()].inc_by(calls);
    }

    /// Parts sent.
    pub fn chunks(&self, parts: u64) {
        self.chunks.inc_by(parts);
    }

    /// Calls and parts that a server failed and that might be sent again.
    pub fn retries(&self, result: RetryResult, parts: u64) {
        self.retries[result.index()].inc_by(parts);
    }
}

/// The handles of one method of a service.
#[derive(Debug)]
pub struct RpcMethodMetrics {
    reply_keys: AtomicHistogram,
    denied: Counter,
    split_stopped: Counter,
}

impl RpcMethodMetrics {
    pub(crate) fn new(name: &Label, families: &Families) -> RpcMethodMetrics {
        RpcMethodMetrics {
            reply_keys: families.rpc_reply_keys.series([name.clone()]),
            denied: families.denied.series([name.clone()]),
            split_stopped: families.rpc_split_stopped.series([name.clone()]),
        }
    }

    /// Answers by their keys; the buckets are [`crate::histogram::OPERATION_BOUNDS`].
    pub fn reply_keys(&self, observed: Observed<impl IntoIterator<Item = (usize, u64)>>) {
        self.reply_keys.fold(observed);
    }

    /// Calls refused because the method is switched off.
    pub fn denied(&self, calls: u64) {
        self.denied.inc_by(calls);
    }

    /// Times it was not split any more because of a field that is not described.
    pub fn split_stopped(&self, times: u64) {
        self.split_stopped.inc_by(times);
    }
}
