//! Where the control plane of one cluster tells what it found: workers, metrics, log, control socket.

use super::failure::Failure;
use crate::clock::{Clock, seconds, unix_now};
use crate::tls::ClientSide;
use crate::worker::orders::{Board, WorkerHandle};
use std::sync::Arc;
use weir_engine::cql::Placement;
use weir_telemetry::{ControlMetrics, Event, PlacementFailure, Severity, Telemetry};

/// The ends of one cluster. When it is dropped, the cluster has no control plane any more; what workers have stays.
#[derive(Debug)]
pub(super) struct Post {
    pub(super) name: Arc<str>,
    pub(super) board: Arc<Board>,
    pub(super) workers: Arc<[WorkerHandle]>,
    pub(super) metrics: ControlMetrics,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) clock: Clock,
}

impl Post {
    /// The placement in force.
    pub(super) fn known(&self) -> Option<Arc<dyn Placement>> {
        self.board.posted().standing(&self.name).and_then(|standing| standing.placement)
    }

    /// What the cluster's TLS files held when they were read last; nothing where it has no TLS.
    pub(super) fn tls(&self) -> Option<ClientSide> {
        let config = self.board.read().config;
        let clusters = config.settings.clusters.iter().zip(&config.clusters_tls);
        clusters.filter(|(cluster, _)| cluster.name == self.name).find_map(|(_, side)| side.clone())
    }

    /// Grows with every connection that workers lose.
    pub(super) fn doubts(&self) -> u64 {
        self.board.posted().doubts()
    }

    /// A new placement for the workers. One without nodes says nothing.
    pub(super) fn place(&self, placement: Arc<dyn Placement>) {
        if placement.nodes().is_empty() {
            return;
        }
        self.metrics.nodes(placement.nodes().len() as u64);
        self.board.posted().place(&self.name, placement);
        self.workers.iter().for_each(WorkerHandle::nudge);
    }

    /// The cluster answered; `lacks`: what of the answer could not be read.
    pub(super) fn read(&self, lacks: Option<&'static str>) {
        let now = unix_now();
        self.metrics.up(true);
        self.metrics.read(now);
        let mut came = false;
        self.board.posted().change(&self.name, |standing| {
            came = !standing.up || standing.lacks != lacks;
            (standing.up, standing.read_at_unix, standing.lacks) = (true, Some(now), lacks);
        });
        if came {
            let message = "the cluster tells where its data lies";
            let event = Event::new(Severity::Info, "control_up", message).text("cluster", &self.name);
            let event = match lacks {
                Some(lacks) => event.text("without", lacks),
                None => event,
            };
            self.telemetry.events().emit(&event, seconds(self.clock.now()));
        }
    }

    /// It did not answer. Told in the log when it did before, and the first time.
    pub(super) fn failed(&self, failure: &Failure) {
        self.metrics.up(false);
        self.metrics.failed(failure.cause);
        let mut went = false;
        self.board.posted().change(&self.name, |standing| {
            went = standing.up || standing.last_error.is_none();
            standing.up = false;
            standing.last_error = Some(failure.what.clone());
        });
        if went {
            let message =
                "the cluster does not tell where its data lies; requests go on as it was known last";
            let event = Event::new(Severity::Warn, "control_down", message)
                .text("cluster", &self.name)
                .text("cause", failure.cause.name())
                .text("error", &failure.what);
            self.telemetry.events().emit(&event, seconds(self.clock.now()));
        }
    }

    /// The task ended, which it never does by itself.
    pub(super) fn broke(&self) {
        let what = "the control plane panicked and starts anew".to_owned();
        self.failed(&Failure { cause: PlacementFailure::Defect, what, lower: false });
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.board.posted().end(&self.name);
    }
}
