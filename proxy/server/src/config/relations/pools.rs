//! Checks of `[pool.NAME]`.

use crate::config::file::{Collector, Draft, FileShape, missing};
use crate::config::host::Host;
use crate::config::keys::POOL;
use crate::config::problem::Problem;
use std::path::Path;
use weir_engine::settings::PoolSettings;

pub(super) fn check(problems: &mut Collector<'_>, shape: &FileShape, host: &Host) -> Vec<PoolSettings> {
    for draft in &shape.pools {
        let path = format!("pool.{}", draft.name);
        missing(problems, &path, draft, POOL, "write servers = [\"127.0.0.1:11211\"]");
        bounds(problems, &path, draft);
        loops(problems, &path, draft, shape);
        if let Some(file) = &draft.held.auth_file
            && host.is_missing(Path::new(&**file))
        {
            let what = format!("{file} does not exist");
            problems.add(draft.place("auth_file"), Problem::error(format!("{path}.auth_file"), what));
        }
    }
    shape.pools.iter().map(|draft| draft.held.clone()).collect()
}

/// What must fit into what. The message goes to the key that the file wrote.
fn bounds(problems: &mut Collector<'_>, path: &str, draft: &Draft<PoolSettings>) {
    let held = &draft.held;
    let relations = [
        (
            u64::from(held.chunk_keys) > held.bulk_keys_in_flight.0,
            ["chunk_keys", "bulk_keys_in_flight"],
            format!(
                "a sub-batch of chunk_keys = {} would never fit into bulk_keys_in_flight = {}",
                held.chunk_keys, held.bulk_keys_in_flight.0
            ),
        ),
        (
            held.bulk_keys_in_flight > held.operations_in_flight,
            ["bulk_keys_in_flight", "operations_in_flight"],
            format!(
                "bulk_keys_in_flight = {} is above operations_in_flight = {}",
                held.bulk_keys_in_flight.0, held.operations_in_flight.0
            ),
        ),
        (
            held.batching && u64::from(held.batch_keys) > held.operations_in_flight.0,
            ["batch_keys", "operations_in_flight"],
            format!(
                "a batch of batch_keys = {} would never fit into operations_in_flight = {}",
                held.batch_keys, held.operations_in_flight.0
            ),
        ),
        (
            held.reconnect_min > held.reconnect_max,
            ["reconnect_min", "reconnect_max"],
            "reconnect_min is longer than reconnect_max".to_owned(),
        ),
    ];
    for (wrong, keys, what) in relations {
        if wrong {
            let key = keys.into_iter().find(|key| draft.places.contains_key(key)).unwrap_or(keys[0]);
            problems.add(draft.place(key), Problem::error(format!("{path}.{key}"), what));
        }
    }
}

/// A server that is one of weir's own listeners would be asked by weir for ever.
fn loops(problems: &mut Collector<'_>, path: &str, draft: &Draft<PoolSettings>, shape: &FileShape) {
    for server in &draft.held.servers {
        let own = shape.listeners.iter().find(|listener| {
            listener.held.address.as_ref().is_some_and(|address| super::collide(address, &server.address))
        });
        if let Some(listener) = own {
            let what = format!("{} is weir's own [listener.{}]", server.address, listener.name);
            let problem = Problem::error(format!("{path}.servers"), what)
                .help("give weir a port of its own and name memcached's here");
            problems.add(draft.place("servers"), problem);
        }
    }
}
