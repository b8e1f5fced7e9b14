//! What is behind a listener: the pool, the cluster or the service it names, or the only one there is.

use super::to_u32;
use crate::config::file::{Collector, Draft, FileShape, suggestion};
use crate::config::keys::ListenerDraft;
use crate::config::problem::Problem;
use std::sync::Arc;
use weir_engine::settings::{Backend, ListenerSettings};
use weir_engine::units::{ClusterId, PoolId, ServiceId};

/// The backend of a listener, where the file says so well.
pub(super) fn of_listener(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    path: &str,
    draft: &Draft<ListenerDraft>,
) -> Option<Backend> {
    if let Some(name) = &draft.held.service {
        if let Some(key) = ["pool", "cluster"].into_iter().find(|key| draft.places.contains_key(key)) {
            let what =
                format!("a listener has a pool, a cluster or a service, and this one names a {key} as well");
            let problem = Problem::error(format!("{path}.service"), what)
                .help("write two listeners, each with an address of its own");
            problems.add(draft.place("service"), problem);
            return None;
        }
        let names = shape.services.iter().map(|service| &service.name);
        let others = shape.clusters.iter().map(|cluster| &cluster.name);
        return named(problems, draft, path, ("service", name), names, ("cluster", others))
            .map(|at| Backend::Service(ServiceId(at)));
    }
    match (&draft.held.pool, &draft.held.cluster) {
        (Some(_), Some(_)) => {
            let what = "a listener has a pool or a cluster, and this one names both";
            let problem = Problem::error(format!("{path}.cluster"), what)
                .help("write two listeners, each with an address of its own");
            problems.add(draft.place("cluster"), problem);
            None
        }
        (Some(name), None) => {
            let names = shape.pools.iter().map(|pool| &pool.name);
            let others = shape.clusters.iter().map(|cluster| &cluster.name);
            named(problems, draft, path, ("pool", name), names, ("cluster", others))
                .map(|at| Backend::Pool(PoolId(at)))
        }
        (None, Some(name)) => {
            let names = shape.clusters.iter().map(|cluster| &cluster.name);
            let others = shape.pools.iter().map(|pool| &pool.name);
            named(problems, draft, path, ("cluster", name), names, ("pool", others))
                .map(|at| Backend::Cluster(ClusterId(at)))
        }
        (None, None) => unnamed(problems, shape, path, draft),
    }
}

/// Where a named one is among `names`. `others` are of the kind that `key` does not mean.
fn named<'n>(
    problems: &mut Collector<'_>,
    draft: &Draft<ListenerDraft>,
    path: &str,
    (key, name): (&str, &Arc<str>),
    mut names: impl Iterator<Item = &'n Arc<str>> + Clone,
    (other, mut others): (&str, impl Iterator<Item = &'n Arc<str>>),
) -> Option<u32> {
    if let Some(at) = names.clone().position(|own| own == name) {
        return Some(to_u32(at));
    }
    let mut problem = Problem::error(format!("{path}.{key}"), format!("there is no [{key}.{name}]"));
    if others.any(|own| own == name) {
        problem = problem.help(format!("[{other}.{name}] is a {other}: write {other} = \"{name}\""));
    } else if let Some(near) = suggestion(name, names.by_ref().map(|own| &**own)) {
        problem = problem.help(format!("did you mean \"{near}\"?"));
    }
    problems.add(draft.place(key), problem);
    None
}

/// The only one of the file, where there is just one.
fn unnamed(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    path: &str,
    draft: &Draft<ListenerDraft>,
) -> Option<Backend> {
    if ["pool", "cluster", "service"].iter().any(|key| draft.places.contains_key(key)) {
        return None; // it is there and was no name: that was told
    }
    let problem = match (shape.pools.len(), shape.clusters.len()) {
        (0, 0) if shape.services.len() == 1 => return Some(Backend::Service(ServiceId(0))),
        (0, 0) if shape.services.len() > 1 => {
            Problem::error(path, "the key `service` is missing: the file has several services")
        }
        (1, 0) | (0, 1) if !shape.services.is_empty() => {
            Problem::error(path, "the key `pool`, `cluster` or `service` is missing: the file has several")
        }
        (1, 0) => return Some(Backend::Pool(PoolId(0))),
        (0, 1) => return Some(Backend::Cluster(ClusterId(0))),
        (0, 0) => Problem::error(path, "there is no pool for it")
            .help("write [pool.main] with servers = [\"127.0.0.1:11211\"], or [cluster.main] with contacts"),
        (_, 0) => Problem::error(path, "the key `pool` is missing: the file has several pools"),
        (0, _) => Problem::error(path, "the key `cluster` is missing: the file has several clusters"),
        _ => Problem::error(path, "the key `pool` or `cluster` is missing: the file has both"),
    };
    problems.add(draft.at, problem);
    None
}

/// Pools and clusters that no listener leads to.
pub(super) fn unused(problems: &mut Collector<'_>, shape: &FileShape, listeners: &[ListenerSettings]) {
    if listeners.is_empty() {
        return; // that was told, and is the greater trouble
    }
    let is_unused = |backend: Backend| listeners.iter().all(|listener| listener.backend != backend);
    let pools = shape.pools.iter().enumerate().map(|(at, pool)| {
        (Backend::Pool(PoolId(to_u32(at))), pool.at, format!("pool.{}", pool.name), "pool")
    });
    let clusters = shape.clusters.iter().enumerate().map(|(at, cluster)| {
        let id = ClusterId(to_u32(at));
        (Backend::Cluster(id), cluster.at, format!("cluster.{}", cluster.name), "cluster")
    });
    let services = shape.services.iter().enumerate().map(|(at, service)| {
        let id = ServiceId(to_u32(at));
        (Backend::Service(id), service.at, format!("service.{}", service.name), "service")
    });
    for (_, at, path, kind) in
        pools.chain(clusters).chain(services).filter(|(backend, ..)| is_unused(*backend))
    {
        problems.add(at, Problem::warning(path, format!("no listener uses this {kind}")));
    }
}
