//! What is counted per caller. A [`CallerMetrics`] is resolved once per connection; a [`MethodMetrics`] is looked up by
//! index. Series appear when they are first needed: a caller that only reads has no series for writes.

use crate::Seconds;
use crate::backend::BackendMetrics;
use crate::delta::MethodDelta;
use crate::families::Families;
use crate::histogram::{AtomicHistogram, BucketExemplar};
use crate::labels::Label;
use crate::method_names::MethodNames;
use crate::rolling_max::RollingMaxGauge;
use crate::telemetry::ProtocolLabels;
use crate::vocabulary::{Direction, FlushResult, LimitKind, LimitMode, Outcome, RejectReason, SizeClass};
use prometheus_client::metrics::counter::Counter;
use std::sync::{Arc, OnceLock};

/// A method of a protocol: its position in the lists given at construction, counted over all protocols. For the first
/// protocol it is the position in that protocol's own list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodIdx(pub u16);

/// The limits of a caller as `weir_limit` and `weir_limit_mode` show them: what the alerts compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShownLimits {
    by_kind: [Option<u64>; LimitKind::COUNT],
    mode: LimitMode,
}

impl ShownLimits {
    /// No limit, in this mode.
    #[must_use]
    pub fn new(mode: LimitMode) -> ShownLimits {
        ShownLimits { by_kind: [None; LimitKind::COUNT], mode }
    }

    /// With this limit; `None` is no limit of the kind.
    #[must_use]
    pub fn with(mut self, kind: LimitKind, limit: Option<u64>) -> ShownLimits {
        self.by_kind[kind.index()] = limit;
        self
    }
}

/// The handles of one caller. Shared by all workers.
#[derive(Debug)]
pub struct CallerMetrics {
    name: Label,
    families: Arc<Families>,
    protocols: &'static [ProtocolLabels],
    // Boxed: there may be hundreds of them, and a caller uses few.
    methods: Box<[OnceLock<Box<MethodMetrics>>]>,
    // By protocol: the methods of a protocol share their size classes.
    operations_by_class: Box<[OnceLock<[Counter; SizeClass::COUNT]>]>,
    backend_operations: Box<[OnceLock<Counter>]>,
    rejected: [[OnceLock<Counter>; LimitMode::COUNT]; RejectReason::COUNT],
    flushes: [OnceLock<Counter>; FlushResult::COUNT],
    bytes: [Counter; Direction::COUNT],
    durations: AtomicHistogram,
    operations: AtomicHistogram,
    queue_waits: AtomicHistogram,
}

impl CallerMetrics {
    pub(crate) fn new(
        name: Label,
        families: Arc<Families>,
        protocols: &'static [ProtocolLabels],
        backends: usize,
    ) -> CallerMetrics {
        let methods: usize = protocols.iter().map(|protocol| protocol.methods.len()).sum();
        let bytes =
            [Direction::In, Direction::Out].map(|d| families.bytes.series([name.clone(), d.name().into()]));
        CallerMetrics {
            methods: empty(methods),
            operations_by_class: empty(protocols.len()),
            backend_operations: empty(backends),
            rejected: std::array::from_fn(|_| std::array::from_fn(|_| OnceLock::new())),
            flushes: std::array::from_fn(|_| OnceLock::new()),
            bytes,
            durations: families.request_duration.series([name.clone()]),
            operations: families.request_operations.series([name.clone()]),
            queue_waits: families.queue_wait.series([name.clone()]),
            name,
            families,
            protocols,
        }
    }

    /// The label value: the caller's name, `_other` or `_invalid`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    pub(crate) fn label(&self) -> Label {
        self.name.clone()
    }

    pub(crate) fn families(&self) -> &Families {
        &self.families
    }

    /// The handles of one method. An index beyond the lists given at construction is the last method.
    pub fn method(&self, index: MethodIdx) -> &MethodMetrics {
        let index = usize::from(index.0).min(self.methods.len() - 1);
        self.methods[index].get_or_init(|| Box::new(self.make_method(index)))
    }

    /// Operations sent to a backend for this caller: one atomic add.
    pub fn backend_operations(&self, backend: &BackendMetrics, operations: u64) {
        let index = backend.index().min(self.backend_operations.len() - 1);
        let make = || self.families.backend_operations.series([self.name.clone(), backend.label()]);
        self.backend_operations[index].get_or_init(make).inc_by(operations);
    }

    /// Requests above a limit, and what was done to them: one atomic add.
    pub fn rejected(&self, reason: RejectReason, mode: LimitMode, requests: u64) {
        self.rejected_series(reason, mode).inc_by(requests);
    }

    fn rejected_series(&self, reason: RejectReason, mode: LimitMode) -> &Counter {
        self.rejected[reason.index()][mode.index()].get_or_init(|| {
            self.families.rejected.series([self.name.clone(), reason.name().into(), mode.name().into()])
        })
    }

    /// `flush_all` commands and what became of them.
    pub fn flushes(&self, result: FlushResult, commands: u64) {
        let make = || self.families.flushes.series([self.name.clone(), result.name().into()]);
        self.flushes[result.index()].get_or_init(make).inc_by(commands);
    }

    /// Bytes that belong to no finished request (a swallowed line, a value of a refused store).
    pub fn bytes(&self, direction: Direction, bytes: u64) {
        self.bytes[direction.index()].inc_by(bytes);
    }

    /// Shows the limits in force. Not for the fold path. A limit also starts the series of its rejections at zero, so
    /// that the first rejection is seen by `increase()`.
    pub(crate) fn show_limits(&self, limits: &ShownLimits) {
        for (kind, limit) in LimitKind::ALL.iter().zip(limits.by_kind) {
            let labels = [self.name.clone(), kind.name().into()];
            let Some(limit) = limit else {
                self.families.limit.remove(labels);
                continue;
            };
            self.families.limit.series(labels).set(i64::try_from(limit).unwrap_or(i64::MAX));
            self.rejected_series(kind.reason(), limits.mode);
        }
        for mode in LimitMode::ALL {
            let labels = [self.name.clone(), mode.name().into()];
            if *mode == limits.mode {
                self.families.limit_mode.series(labels).set(1);
            } else {
                self.families.limit_mode.remove(labels);
            }
        }
    }

    /// Exemplars of the operations histogram, with the bound of their bucket.
    pub(crate) fn exemplars(&self) -> impl Iterator<Item = (f64, BucketExemplar)> + '_ {
        self.operations.exemplars()
    }

    /// Makes the series a configured caller starts with, all zero: `rate()` and `increase()` see nothing of a series
    /// that is born with its first burst already in it. Not those of described methods: they would be hundreds for each
    /// caller, of which it uses few.
    pub(crate) fn start_at_zero(&self) {
        let mut first = 0;
        for protocol in self.protocols {
            let count = protocol.methods.len();
            if let MethodNames::Fixed(_) = protocol.methods {
                for index in first..first + count {
                    let method = self.method(MethodIdx(u16::try_from(index).unwrap_or(u16::MAX)));
                    method.outcome(Outcome::Ok);
                    method.outcome(Outcome::Refused);
                }
            }
            first += count;
        }
    }

    fn make_method(&self, index: usize) -> MethodMetrics {
        let mut first = 0;
        let mut at = 0;
        while index - first >= self.protocols[at].methods.len() {
            first += self.protocols[at].methods.len();
            at += 1;
        }
        let protocol = &self.protocols[at];
        let method = protocol.methods.get(index - first);
        let by_class = self.operations_by_class[at].get_or_init(|| {
            std::array::from_fn(|class| {
                let class = SizeClass::ALL[class].name();
                self.families.operations.series([self.name.clone(), protocol.name.into(), class.into()])
            })
        });
        MethodMetrics {
            index: index as u64,
            requests: [self.name.clone(), protocol.name.into(), method.into()],
            families: self.families.clone(),
            outcomes: std::array::from_fn(|_| OnceLock::new()),
            operations_by_class: by_class.clone(),
            operations_max: self.families.request_operations_max.series([self.name.clone(), method.into()]),
            bytes: self.bytes.clone(),
            durations: self.durations.clone(),
            operations: self.operations.clone(),
            queue_waits: self.queue_waits.clone(),
        }
    }
}

fn empty<T>(n: usize) -> Box<[OnceLock<T>]> {
    (0..n).map(|_| OnceLock::new()).collect()
}

/// The handles of one caller and method.
#[derive(Debug)]
pub struct MethodMetrics {
    index: u64,
    requests: [Label; 3],
    families: Arc<Families>,
    outcomes: [OnceLock<Counter>; Outcome::COUNT],
    operations_by_class: [Counter; SizeClass::COUNT],
    operations_max: RollingMaxGauge,
    bytes: [Counter; Direction::COUNT],
    durations: AtomicHistogram,
    operations: AtomicHistogram,
    queue_waits: AtomicHistogram,
}

impl MethodMetrics {
    /// Adds one turn's numbers to the shared handles. No lock and no hashing, except the first time an outcome occurs;
    /// one relaxed atomic add per number that is not zero.
    pub fn fold<O, D, Q>(&self, delta: MethodDelta<'_, O, D, Q>, now: Seconds)
    where
        O: IntoIterator<Item = (usize, u64)>,
        D: IntoIterator<Item = (usize, u64)>,
        Q: IntoIterator<Item = (usize, u64)>,
    {
        if delta.largest_asked != 0 {
            self.operations_max.record(delta.largest_asked, now);
        }
        if let Some(example) = delta.example {
            self.operations.set_exemplar(BucketExemplar {
                value: example.operations,
                method: self.index,
                request_id: example.request_id,
                at: now.0,
            });
        }
        for (outcome, requests) in Outcome::ALL.iter().zip(delta.requests) {
            if *requests != 0 {
                self.outcome(*outcome).inc_by(*requests);
            }
        }
        for (counter, operations) in self.operations_by_class.iter().zip(delta.size_class_operations) {
            if *operations != 0 {
                counter.inc_by(*operations);
            }
        }
        self.operations.fold(delta.request_operations);
        self.durations.fold(delta.durations);
        self.queue_waits.fold(delta.queue_waits);
        for (direction, bytes) in [(Direction::In, delta.bytes_in), (Direction::Out, delta.bytes_out)] {
            if bytes != 0 {
                self.bytes[direction.index()].inc_by(bytes);
            }
        }
    }

    /// The largest number of operations asked within the last minute.
    #[must_use]
    pub fn operations_max(&self, now: Seconds) -> u64 {
        self.operations_max.get(now)
    }

    fn outcome(&self, outcome: Outcome) -> &Counter {
        self.outcomes[outcome.index()].get_or_init(|| {
            let [caller, protocol, method] = self.requests.clone();
            self.families.requests.series([caller, protocol, method, outcome.name().into()])
        })
    }
}
