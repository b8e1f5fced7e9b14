//! `weir run` without a file: listeners and servers from flags, everything else by default; and flags on top of a file.

use super::checked::Config;
use super::file::{Collector, Draft, FileShape, read_file};
use super::host::Host;
use super::keys::ListenerDraft;
use super::problem::{Problems, file_name};
use super::relations;
use crate::cli::RunArgs;
use weir_engine::settings::{FlushPolicy, PoolSettings, ServerSettings};

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
        let name = match index {
            0 => "memcached".to_owned(),
            index => format!("memcached-{}", index + 1),
        };
        let servers = route
            .servers
            .iter()
            .map(|address| ServerSettings { address: address.clone(), weight: 1, name: None })
            .collect();
        let mut pool = PoolSettings::new(&name, servers);
        // One principal can only flush what is its own; with several, one would empty another's cache.
        pool.flush_all = if one_principal { FlushPolicy::Allow } else { FlushPolicy::Refuse };
        shape.pools.push(Draft::unwritten(&name, pool));
        let mut listener = ListenerDraft::new(&name);
        listener.address = Some(route.listen.clone());
        listener.pool = Some(name.as_str().into());
        listener.allow_remote = args.allow_remote;
        shape.listeners.push(Draft::unwritten(&name, listener));
    }
    relations::check(Collector::of_flags(), shape, host)
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
