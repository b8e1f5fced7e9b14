//! `weir run` without a file: listeners, servers and contacts from flags, everything else by default; and flags on top of a file.

use super::checked::Config;
use super::file::{Collector, Draft, FileShape, read_file};
use super::host::Host;
use super::keys::{ListenerDraft, ServiceDraft};
use super::problem::{Problems, file_name};
use super::relations;
use crate::cli::{Route, RunArgs};
use weir_engine::settings::{ClusterSettings, FlushPolicy, PoolSettings, ServerSettings};

pub(super) fn read(args: &RunArgs, host: &Host) -> Result<Config, Problems> {
    if let Some(path) = &args.config {
        let text = super::read_text(path)?;
        let mut collector = Collector::of_file(&file_name(path), &text);
        let (mut shape, whole) = read_file(&mut collector, &text, host);
        if !whole {
            return Err(Problems(collector.finish()));
        }
        process(args, &mut shape);
        return relations::check(collector, shape, host);
    }
    let mut shape = FileShape::empty(host);
    process(args, &mut shape);
    let one_principal = args.memcached.len() == 1;
    for (index, route) in args.memcached.iter().enumerate() {
        let name = numbered("memcached", index);
        let servers = route
            .servers
            .iter()
            .map(|address| ServerSettings { address: address.clone(), weight: 1, name: None })
            .collect();
        let mut pool = PoolSettings::new(&name, servers);
        // One principal can only flush what is its own; with several, one would empty another's cache.
        pool.flush_all = if one_principal { FlushPolicy::Allow } else { FlushPolicy::Refuse };
        shape.pools.push(Draft::unwritten(&name, pool));
        let mut listener = listener(args, route, &name);
        listener.pool = Some(name.as_str().into());
        shape.listeners.push(Draft::unwritten(&name, listener));
    }
    for (index, route) in args.cql.iter().enumerate() {
        let name = numbered("cql", index);
        let cluster = ClusterSettings::new(&name, route.servers.clone());
        shape.clusters.push(Draft::unwritten(&name, cluster));
        let mut listener = listener(args, route, &name);
        listener.cluster = Some(name.as_str().into());
        shape.listeners.push(Draft::unwritten(&name, listener));
    }
    for (index, route) in args.rpc.iter().enumerate() {
        let name = numbered("rpc", index);
        let mut service = ServiceDraft::new(&name);
        service.settings.servers.clone_from(&route.servers);
        service.preset = args.rpc_preset.as_deref().map(Into::into);
        shape.services.push(Draft::unwritten(&name, service));
        let mut listener = listener(args, route, &name);
        listener.service = Some(name.as_str().into());
        shape.listeners.push(Draft::unwritten(&name, listener));
    }
    relations::check(Collector::of_flags(), shape, host)
}

/// The name of a flag's listener and of what is behind it: the second one has a number.
fn numbered(flag: &str, index: usize) -> String {
    match index {
        0 => flag.to_owned(),
        index => format!("{flag}-{}", index + 1),
    }
}

fn listener(args: &RunArgs, route: &Route, name: &str) -> ListenerDraft {
    let mut listener = ListenerDraft::new(name);
    listener.address = Some(route.listen.clone());
    listener.allow_remote = args.allow_remote;
    listener
}

/// Flags take the place of the keys of the same name.
fn process(args: &RunArgs, shape: &mut FileShape) {
    let held = &mut shape.process.held.process;
    if let Some(workers) = args.workers {
        held.workers = workers;
    }
    if !args.metrics.is_empty() {
        held.metrics.clone_from(&args.metrics);
    }
    if !args.admin.is_empty() {
        held.admin.clone_from(&args.admin);
        held.admin_is_default = false;
    }
    if args.admin_token_file.is_some() {
        held.admin_token_file.clone_from(&args.admin_token_file);
    }
    if args.state_dir.is_some() {
        held.state_dir.clone_from(&args.state_dir);
    }
}
