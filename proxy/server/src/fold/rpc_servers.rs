//! The servers of services as the edges' connections see them: over all listeners of a service, in the metrics and for the
//! control socket.

use std::collections::HashMap;
use std::sync::Arc;
use weir_edge::{OpenFailure, Server};
use weir_engine::settings::{Address, Backend};
use weir_engine::units::ServiceId;
use weir_telemetry::{
    Event, GaugeShare, OpenResult, RpcServerMetrics, Seconds, ServerFailure, Severity, Telemetry,
};

/// What an attempt to connect that failed is called in the metrics.
const FAILED: [(OpenFailure, OpenResult); OpenFailure::ALL.len()] = [
    (OpenFailure::Refused, OpenResult::Refused),
    (OpenFailure::Timeout, OpenResult::Timeout),
    (OpenFailure::NoPort, OpenResult::NoPort),
    (OpenFailure::NoDescriptor, OpenResult::NoDescriptor),
    (OpenFailure::Tls, OpenResult::Tls),
    (OpenFailure::Other, OpenResult::Error),
];

/// One server of one service, over all edges in front of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSum {
    /// The service.
    pub service: ServiceId,
    /// Where the server is.
    pub address: Address,
    /// Calls go there from at least one listener.
    pub up: bool,
    /// Connections to it.
    pub connections: u64,
    /// Connections made.
    pub opens: u64,
    /// Connections that could not be made, in the order of [`OpenFailure::ALL`].
    pub open_failures: [u64; OpenFailure::ALL.len()],
    /// Calls that failed there.
    pub failures: u64,
    /// Health checks that failed.
    pub health_failures: u64,
    /// Times it was left out.
    pub ejections: u64,
    /// Why it is not up, where it is not.
    pub trouble: Option<String>,
}

impl ServerSum {
    fn add(&mut self, server: Server) {
        self.up |= server.up;
        self.connections += server.connections;
        self.opens += server.opens;
        self.open_failures.iter_mut().zip(server.open_failures).for_each(|(sum, more)| *sum += more);
        self.failures += server.failures;
        self.health_failures += server.health_failures;
        self.ejections += server.ejections;
        // a server without trouble at one listener is a good one
        self.trouble = if self.up { None } else { server.trouble };
    }
}

/// The servers of every service, from the edges of its listeners.
#[must_use]
pub fn sums(edges: impl Iterator<Item = (ServiceId, Vec<Server>)>) -> Vec<ServerSum> {
    let mut all: Vec<ServerSum> = Vec::new();
    for (service, server) in
        edges.flat_map(|(service, servers)| servers.into_iter().map(move |own| (service, own)))
    {
        match all.iter_mut().find(|sum| sum.service == service && sum.address == server.address) {
            Some(sum) => sum.add(server),
            None => {
                let mut sum = ServerSum {
                    service,
                    address: server.address.clone(),
                    up: false,
                    connections: 0,
                    opens: 0,
                    open_failures: Default::default(),
                    failures: 0,
                    health_failures: 0,
                    ejections: 0,
                    trouble: None,
                };
                sum.add(server);
                all.push(sum);
            }
        }
    }
    all
}

#[derive(Debug)]
struct Own {
    metrics: RpcServerMetrics,
    up: GaugeShare,
    connections: GaugeShare,
    told: ServerSum,
}

/// What is in the metrics already.
#[derive(Debug, Default)]
pub struct ServerBooks(HashMap<(ServiceId, Address), Own>);

impl ServerBooks {
    /// Moves what was counted since the last time.
    /// Servers that went or came back since then are in the log.
    pub fn fold(&mut self, sums: &[ServerSum], telemetry: &Telemetry, now: Seconds) {
        for sum in sums {
            let own = self.0.entry((sum.service, sum.address.clone())).or_insert_with(|| {
                let metrics = telemetry.rpc_server(&sum.address.to_string());
                let (up, connections) = (metrics.up(), metrics.connections());
                let none = ServerSum {
                    // one that cannot be reached at the start is one that went
                    up: true,
                    opens: 0,
                    open_failures: Default::default(),
                    failures: 0,
                    health_failures: 0,
                    ejections: 0,
                    ..sum.clone()
                };
                Own { metrics, up, connections, told: none }
            });
            let (metrics, told) = (&own.metrics, &own.told);
            if sum.up != told.up {
                tell_change(sum, telemetry, now);
            }
            own.up.set(u64::from(sum.up));
            own.connections.set(sum.connections);
            metrics.opened(OpenResult::Ok, sum.opens - told.opens);
            for ((_, result), (now, before)) in
                FAILED.iter().zip(sum.open_failures.iter().zip(told.open_failures))
            {
                metrics.opened(*result, now - before);
            }
            metrics.failures(ServerFailure::Call, sum.failures - told.failures);
            metrics.failures(ServerFailure::HealthCheck, sum.health_failures - told.health_failures);
            metrics.ejections(sum.ejections - told.ejections);
            own.told = sum.clone();
        }
    }
}

/// Logs that a server's standing is another one than before.
fn tell_change(sum: &ServerSum, telemetry: &Telemetry, now: Seconds) {
    let backend = sum.address.to_string();
    let event = match sum.up {
        true => Event::new(Severity::Info, "backend_up", "calls go there again").text("backend", &backend),
        false => Event::new(Severity::Error, "backend_down", "no calls go there")
            .text("backend", &backend)
            .text("error", sum.trouble.as_deref().unwrap_or("there is no connection")),
    };
    telemetry.events().emit(&event, now);
}

/// The same for the control socket. `rate`: operations per second of a server, by its name.
#[must_use]
pub fn upstreams(
    sums: &[ServerSum],
    rate: impl Fn(Backend, &str) -> f64,
) -> Vec<crate::worker::orders::Upstream> {
    let upstream = |sum: &ServerSum| {
        let (backend, name): (_, Arc<str>) = (Backend::Service(sum.service), sum.address.to_string().into());
        crate::worker::orders::Upstream {
            backend,
            operations_per_second: rate(backend, &name),
            name,
            opens: sum.opens,
            open_errors: sum.open_failures.iter().sum(),
            last_error: sum.trouble.clone(),
        }
    };
    sums.iter().map(upstream).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_a_dial_fails_has_its_place() {
        assert_eq!(FAILED.map(|(failure, _)| failure), OpenFailure::ALL);
    }
}
