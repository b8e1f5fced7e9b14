//! What is behind the listeners: pools and services with their servers, clusters with their nodes.

use crate::admin::model::{ControlRow, LaneRow, PoolRow, ServerRow};
use crate::config::schema::Worded as _;
use crate::topology::posted::{Posted, Standing};
use crate::worker::orders::Look;
use weir_engine::LaneState;
use weir_engine::settings::{Backend, ClusterSettings, PoolSettings, ServerSettings, Settings};
use weir_engine::units::{ClusterId, PoolId, ServiceId};

/// Pools, then clusters, then services.
pub(super) fn rows(settings: &Settings, posted: &Posted, looks: &[Look]) -> Vec<PoolRow> {
    let pools = settings.pools.iter().enumerate().map(|(index, pool)| PoolRow {
        name: pool.name.to_string(),
        kind: "memcached".to_owned(),
        ring: pool.ring.word().to_owned(),
        servers: pool.servers.iter().map(|own| pool_server(PoolId(slot(index)), pool, own, looks)).collect(),
        control: None,
    });
    let clusters = settings.clusters.iter().enumerate().map(|(index, cluster)| {
        let standing = posted.standing(&cluster.name);
        PoolRow {
            name: cluster.name.to_string(),
            kind: "cql".to_owned(),
            ring: String::new(),
            servers: nodes(ClusterId(slot(index)), cluster, standing.as_ref(), looks),
            control: standing.map(control),
        }
    });
    let services = settings.services.iter().enumerate().map(|(index, service)| {
        let backend = Backend::Service(ServiceId(slot(index)));
        let row = |server: &weir_engine::settings::Address| {
            let most = u64::from(service.calls_in_flight) + u64::from(service.chunks_in_flight);
            let bounds = ServerRow { weight: 1, requests_in_flight_max: Some(most), ..ServerRow::default() };
            let mut row = server_row(backend, server.to_string(), bounds, looks);
            row.requests_in_flight = Some(row.lanes.iter().map(|lane| lane.in_flight).sum());
            row
        };
        PoolRow {
            name: service.name.to_string(),
            kind: "rpc".to_owned(),
            ring: String::new(),
            servers: service.servers.iter().map(row).collect(),
            control: None,
        }
    });
    pools.chain(clusters).chain(services).collect()
}

fn slot(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn pool_server(id: PoolId, pool: &PoolSettings, server: &ServerSettings, looks: &[Look]) -> ServerRow {
    let bounds = ServerRow {
        weight: server.weight,
        operations_in_flight_max: pool.operations_in_flight.0,
        bulk_keys_in_flight_max: pool.bulk_keys_in_flight.0,
        bytes_in_flight_max: pool.bytes_in_flight.0,
        ..ServerRow::default()
    };
    server_row(Backend::Pool(id), server.address.to_string(), bounds, looks)
}

fn control(standing: Standing) -> ControlRow {
    ControlRow {
        up: standing.up,
        nodes: standing.placement.map_or(0, |placement| placement.nodes().len() as u64),
        read_at_unix: standing.read_at_unix,
        lacks: standing.lacks.map(str::to_owned),
        last_error: standing.last_error,
    }
}

/// The contacts, unless the cluster told its nodes, and nodes besides that workers know.
fn nodes(
    id: ClusterId,
    cluster: &ClusterSettings,
    standing: Option<&Standing>,
    looks: &[Look],
) -> Vec<ServerRow> {
    let backend = Backend::Cluster(id);
    let told = standing.and_then(|standing| standing.placement.as_deref()).is_some();
    let contacts = cluster.contacts.iter().filter(|_| !told);
    let mut names: Vec<String> = contacts.map(ToString::to_string).collect();
    for state in looks.iter().flat_map(|look| &look.engine.servers).filter(|state| state.backend == backend) {
        if !names.iter().any(|name| **name == *state.name) {
            names.push(state.name.to_string());
        }
    }
    let row = |name: String| {
        let bounds = ServerRow {
            weight: 1,
            bulk_keys_in_flight_max: u64::from(cluster.chunks_in_flight) * u64::from(cluster.chunk_keys),
            requests_in_flight_max: Some(cluster.requests_in_flight.0),
            ..ServerRow::default()
        };
        let mut row = server_row(backend, name, bounds, looks);
        row.requests_in_flight =
            Some(row.lanes.iter().filter(|lane| !lane.bulk).map(|lane| lane.in_flight).sum());
        row
    };
    names.into_iter().map(row).collect()
}

/// What the workers know about one server, beside its bounds.
fn server_row(backend: Backend, address: String, bounds: ServerRow, looks: &[Look]) -> ServerRow {
    let mut row = bounds;
    for look in looks {
        let engines = look.engine.servers.iter();
        for state in engines.filter(|state| state.backend == backend && *state.name == *address) {
            if let Some(place) = &state.place {
                row.data_center = Some(place.data_center.to_string());
                row.rack = Some(place.rack.to_string());
                row.shards = place.shards;
            }
            row.operations_in_flight += state.operations.0;
            row.bulk_keys_in_flight += state.bulk_keys.0;
            row.bytes_in_flight += state.bytes.0;
            row.queue += state.queued.0;
            row.lanes.extend(state.lanes.iter().map(|lane| LaneRow {
                worker: look.worker,
                bulk: lane.bulk,
                state: lane_state(lane.state).to_owned(),
                in_flight: lane.owed as u64,
                unsent_bytes: lane.unsent as u64,
            }));
        }
        let sockets = look.upstreams.iter();
        for socket in sockets.filter(|socket| socket.backend == backend && *socket.name == *address) {
            row.opens += socket.opens;
            row.open_errors += socket.open_errors;
            row.operations_per_second += socket.operations_per_second;
            row.last_error = row.last_error.take().or_else(|| socket.last_error.clone());
        }
    }
    let up = row.lanes.iter().filter(|lane| lane.state == "up").count();
    row.state = match up {
        0 => "down",
        up if up == row.lanes.len() => "up",
        _ => "degraded",
    }
    .to_owned();
    row.address = address;
    row
}

fn lane_state(state: LaneState) -> &'static str {
    match state {
        LaneState::Up => "up",
        LaneState::Connecting => "connecting",
        LaneState::Down => "waiting",
        LaneState::Retired => "retired",
    }
}
