//! What `weir-probes top` shows, as plain data: by destination, and by process. Made from a picture of one's own, or from
//! the `/metrics` of a `weir-probes run` ([`super::page`]). `None` is unknown everywhere.

use crate::errno;
use crate::picture::{Picture, ProbeState, Process};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct View {
    /// The kernel that is watched.
    pub kernel: Option<String>,
    /// How old the numbers are, in seconds.
    pub age_seconds: f64,
    /// Every probe.
    pub probes: Vec<ProbeRow>,
    /// By network namespace and destination.
    pub destinations: Vec<DestinationRow>,
    /// Who goes past weir, and with how much work; `None` where no probe tells.
    pub processes: Option<Vec<ProcessRow>>,
    /// Which of the parts of a destination are known.
    pub known: Known,
    /// Network namespaces whose sockets were listed, with the ports there are in each: what has no socket in one of them
    /// has 0.
    pub looked_into: BTreeMap<String, Option<u64>>,
}

/// What some source could tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Sockets by state.
    pub states: bool,
    /// Local ports.
    pub ports: bool,
    /// Failed calls.
    pub errors: bool,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeRow {
    /// Its name.
    pub probe: String,
    /// `attached`, `off`, `unsupported`, `refused`.
    pub state: String,
    /// Why it is not attached, as far as it is told.
    pub why: Option<String>,
    /// Events it lost.
    pub lost: Option<u64>,
}

/// A destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DestinationRow {
    /// Network namespace.
    pub namespace: String,
    /// `address:port`, or `_other`.
    pub destination: String,
    /// Outgoing sockets by state; a state without sockets is left out.
    pub states: BTreeMap<String, u64>,
    /// Of its source addresses the one with the fewest ports left.
    pub ports: Option<PortsRow>,
    /// Failed calls since the probe began, the most frequent first.
    pub errors: Vec<ErrorRow>,
}

/// Local ports of one source address towards one destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortsRow {
    /// The source address; none while no port is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Ports in use.
    pub used: u64,
    /// Ports there are.
    pub capacity: Option<u64>,
    /// Until none is left; `None` while the use does not grow.
    pub seconds_left: Option<f64>,
}

/// Failed calls.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ErrorRow {
    /// How often.
    pub failures: u64,
    /// `bind` or `connect`.
    pub call: String,
    /// By name.
    pub errno: String,
    /// Whose.
    pub process: String,
}

/// A process that goes past weir.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProcessRow {
    /// Its short name. From outside: escaped where it is shown.
    pub process: String,
    /// Its user.
    pub uid: Option<String>,
    /// Its unit, container or pod.
    pub unit: Option<String>,
    /// Towards where.
    pub destination: String,
    /// Connections since the probe began.
    pub connections: Option<u64>,
    /// Requests since the probe began, an estimate.
    pub requests: Option<u64>,
    /// Operations in them, an estimate.
    pub operations: Option<u64>,
    /// Operations of the largest request of the last minute, an estimate.
    pub largest_last_minute: Option<u64>,
    /// Operations per second between two looks.
    pub operations_per_second: Option<f64>,
}

impl View {
    /// What a picture shows.
    #[must_use]
    pub fn of(picture: &Picture) -> View {
        let mut view = View {
            kernel: picture.host.as_ref().map(|host| host.kernel.clone()),
            probes: picture.probes.iter().map(probe).collect(),
            known: Known {
                states: picture.sockets.is_some(),
                ports: picture.ports.is_some(),
                errors: picture.errors.is_some(),
            },
            ..View::default()
        };
        if picture.ports.is_some() {
            let whole = picture.namespaces.iter().filter(|one| one.problem.is_none());
            view.looked_into = whole.map(|one| (one.namespace.clone(), one.ports)).collect();
        }
        for row in picture.sockets.iter().flatten() {
            if row.direction == crate::picture::Direction::Outgoing {
                view.destination(&row.namespace, row.destination.label())
                    .holds(row.state.name(), row.sockets);
            }
        }
        for row in picture.ports.iter().flatten() {
            let ports = PortsRow {
                source: Some(row.source.label()),
                used: row.used,
                capacity: row.capacity,
                seconds_left: row.exhausted_in.map(|left| left.as_secs_f64()),
            };
            view.destination(&row.namespace, row.destination.label()).fuller(ports);
        }
        for row in picture.errors.iter().flatten() {
            let error = ErrorRow {
                failures: row.failures,
                call: row.call.name().to_owned(),
                errno: errno::name(row.errno).to_owned(),
                process: row.process.comm.clone(),
            };
            view.failed(row.destination.label(), &error);
        }
        for row in picture.bypass.iter().flatten() {
            let process = view.process(row.destination.label(), &row.process.comm);
            *process.connections.get_or_insert(0) += row.connections;
            process.is(&row.process);
        }
        for row in picture.bypass_work.iter().flatten() {
            let process = view.process(row.destination.label(), &row.process.comm);
            *process.requests.get_or_insert(0) += row.requests;
            *process.operations.get_or_insert(0) += row.operations;
            let largest = process.largest_last_minute.get_or_insert(0);
            *largest = row.largest_last_minute.max(*largest);
            process.is(&row.process);
        }
        view.without_ports();
        if view.processes.is_none() && (picture.bypass.is_some() || picture.bypass_work.is_some()) {
            view.processes = Some(Vec::new());
        }
        view.sort();
        view
    }

    /// Works out rates from what was seen `seconds` before.
    pub fn since(&mut self, before: &View, seconds: f64) {
        if seconds <= 0.0 {
            return;
        }
        for row in self.processes.iter_mut().flatten() {
            let same =
                |old: &&ProcessRow| (&old.process, &old.destination) == (&row.process, &row.destination);
            let then = before.processes.iter().flatten().find(same).and_then(|old| old.operations);
            // A process that was not there before has done all of it since.
            let more = row.operations.and_then(|now| now.checked_sub(then.unwrap_or(0)));
            row.operations_per_second = more.map(|more| more as f64 / seconds);
        }
        self.sort();
    }

    /// The row of a destination, made when it is new.
    pub(super) fn destination(&mut self, namespace: &str, destination: &str) -> &mut DestinationRow {
        let same = |row: &DestinationRow| row.namespace == namespace && row.destination == destination;
        let at = self.destinations.iter().position(same).unwrap_or_else(|| {
            self.destinations.push(DestinationRow {
                namespace: namespace.to_owned(),
                destination: destination.to_owned(),
                ..DestinationRow::default()
            });
            self.destinations.len() - 1
        });
        &mut self.destinations[at]
    }

    /// The row of a process, made when it is new.
    pub(super) fn process(&mut self, destination: &str, process: &str) -> &mut ProcessRow {
        let rows = self.processes.get_or_insert_default();
        let same = |row: &ProcessRow| row.process == process && row.destination == destination;
        let at = rows.iter().position(same).unwrap_or_else(|| {
            rows.push(ProcessRow {
                process: process.to_owned(),
                destination: destination.to_owned(),
                ..ProcessRow::default()
            });
            rows.len() - 1
        });
        &mut rows[at]
    }

    /// Adds a failure to its destination in every namespace: calls are not told apart by namespace.
    pub(super) fn failed(&mut self, destination: &str, error: &ErrorRow) {
        if !self.destinations.iter().any(|row| row.destination == destination) {
            self.destination(crate::settings::OWN_NAMESPACE, destination);
        }
        for row in self.destinations.iter_mut().filter(|row| row.destination == destination) {
            row.add(error);
        }
    }

    /// Destinations that use no port where the ports in use are known: none is used, which is not unknown.
    pub(super) fn without_ports(&mut self) {
        for row in self.destinations.iter_mut().filter(|row| row.ports.is_none() && !row.is_bound()) {
            if let Some(capacity) = self.looked_into.get(&row.namespace) {
                row.ports = Some(PortsRow { source: None, used: 0, capacity: *capacity, seconds_left: None });
            }
        }
    }

    /// What is nearest to its end comes first; then who has most sockets, most work.
    pub(super) fn sort(&mut self) {
        for row in &mut self.destinations {
            row.errors.sort_by(|a, b| b.cmp(a));
        }
        self.destinations.sort_by(|a, b| {
            let key = |row: &DestinationRow| row.ports.as_ref().map_or(0.0, PortsRow::share);
            let sockets = |row: &DestinationRow| row.states.values().sum::<u64>();
            key(b)
                .total_cmp(&key(a))
                .then_with(|| sockets(b).cmp(&sockets(a)))
                .then_with(|| (&a.namespace, &a.destination).cmp(&(&b.namespace, &b.destination)))
        });
        if let Some(rows) = &mut self.processes {
            rows.sort_by(|a, b| {
                let rate = |row: &ProcessRow| row.operations_per_second.unwrap_or(0.0);
                let most = |row: &ProcessRow| (row.operations, row.connections);
                rate(b)
                    .total_cmp(&rate(a))
                    .then_with(|| most(b).cmp(&most(a)))
                    .then_with(|| (&a.process, &a.destination).cmp(&(&b.process, &b.destination)))
            });
        }
    }
}

impl DestinationRow {
    /// Whether this is where somebody failed to bind to a free port, and nobody's destination.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.destination.ends_with(":0")
    }

    /// Adds sockets in a state; none is no state, and a destination all the same.
    pub(super) fn holds(&mut self, state: &str, sockets: u64) {
        if sockets > 0 {
            *self.states.entry(state.to_owned()).or_insert(0) += sockets;
        }
    }

    fn add(&mut self, error: &ErrorRow) {
        let same = |row: &&mut ErrorRow| {
            (&row.call, &row.errno, &row.process) == (&error.call, &error.errno, &error.process)
        };
        match self.errors.iter_mut().find(same) {
            Some(row) => row.failures += error.failures,
            None => self.errors.push(error.clone()),
        }
    }

    /// Keeps the source address that is nearest to its end.
    pub(super) fn fuller(&mut self, ports: PortsRow) {
        if self.ports.as_ref().is_none_or(|kept| kept.share() < ports.share()) {
            self.ports = Some(ports);
        }
    }
}

impl PortsRow {
    /// Which part is used; where the capacity is not known, of all numbers there are.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.used as f64 / self.capacity.filter(|ports| *ports > 0).unwrap_or(65_536) as f64
    }
}

impl ProcessRow {
    fn is(&mut self, process: &Process) {
        self.uid = self.uid.take().or_else(|| process.uid.map(|uid| uid.to_string()));
        self.unit = self.unit.take().or_else(|| process.unit.clone());
    }
}

fn probe(status: &crate::picture::ProbeStatus) -> ProbeRow {
    let why = match &status.state {
        ProbeState::Attached | ProbeState::Off => None,
        ProbeState::Unsupported { reason } | ProbeState::Refused { reason, .. } => Some(reason.clone()),
    };
    let state = status.state.name().to_owned();
    ProbeRow { probe: status.probe.to_owned(), state, why, lost: status.lost }
}
