//! Owns every series of `weir-probes`: takes readings in, and renders what the last one came to.

use super::catalogue::{self, PROBES};
use super::names::Names;
use super::reading::Reading;
use super::series::Series;
use crate::catalogue::BUILD_INFO;
use crate::exposition::{self, Exposition};
use crate::process::ProcessCollector;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// No picture yet.
const NO_AGE: u64 = u64::MAX;

/// Everything that `weir-probes` exposes.
#[derive(Debug)]
pub struct ProbesTelemetry {
    registry: Registry,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    // Microseconds, set before each encoding.
    age: AtomicU64,
}

#[derive(Debug)]
struct State {
    names: Names,
    series: BTreeMap<&'static str, Series>,
}

impl ProbesTelemetry {
    /// A telemetry in which everything is unknown but the build and the process.
    #[must_use]
    pub fn new(version: &'static str, revision: &'static str) -> ProbesTelemetry {
        let build = Series::one([version.into(), revision.into()], 1.0);
        let state = State { names: Names::new(), series: BTreeMap::from([(BUILD_INFO.name, build)]) };
        let shared = Arc::new(Shared { state: Mutex::new(state), age: AtomicU64::new(NO_AGE) });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(shared.clone()));
        registry.register_collector(Box::new(ProcessCollector));
        ProbesTelemetry { registry, shared }
    }

    /// Gives a name of the configuration its slot among the values of a label, whoever comes later: a watched
    /// destination, a network namespace. The caller bounds how many there are.
    pub fn reserve(&self, label: &'static str, name: &str) {
        self.shared.lock().names.reserve(label, name);
    }

    /// Takes a reading in. What it does not tell of is unknown from now on and has no series.
    pub fn update(&self, mut reading: Reading<'_>) {
        let mut state = self.shared.lock();
        let State { names, series } = &mut *state;
        for info in catalogue::OWN {
            let before = series.remove(info.name);
            if let Some(part) = reading.parts.remove(info.name) {
                series.insert(info.name, Series::next(before, info, part, names));
            }
        }
    }

    /// The page for a scraper that accepts `accept`; `age` is how long ago the last reading was made, where there is one.
    #[must_use]
    pub fn render(&self, accept: Option<&str>, age: Option<Duration>) -> Exposition {
        let micros = age.map_or(NO_AGE, |age| u64::try_from(age.as_micros()).unwrap_or(NO_AGE - 1));
        self.shared.age.store(micros, Ordering::Relaxed);
        exposition::plain(accept, &self.registry)
    }
}

impl Shared {
    // A panic while the lock was held leaves metrics without series at worst, until the next reading.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Shared {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        let state = self.lock();
        let age = self.age.load(Ordering::Relaxed);
        for info in PROBES {
            if info.name == catalogue::PICTURE_AGE.name {
                if age != NO_AGE {
                    Series::one([], age as f64 / 1e6).encode(info, &mut encoder)?;
                }
            } else if info.name == catalogue::LABEL_OVERFLOW.name {
                Series::counters(state.names.overflow()).encode(info, &mut encoder)?;
            } else if let Some(series) = state.series.get(info.name) {
                series.encode(info, &mut encoder)?;
            }
        }
        Ok(())
    }
}
