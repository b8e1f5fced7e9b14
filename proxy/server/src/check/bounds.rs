//! The bounds a configuration sets, a line or two per section.

mod services;

use crate::config::quantity::{show_bytes, show_count, show_span};
use crate::config::schema::Worded as _;
use crate::config::{Config, PrincipalKind};
use crate::overrides::Class;
use std::fmt::Write as _;
use weir_engine::settings::{Address, Backend, CallerLimits, ClusterSettings, FlushPolicy};
use weir_engine::units::{Bytes, ListenerId};

/// The effective bounds, for a reader.
#[must_use]
pub fn bounds(config: &Config) -> String {
    let mut text = String::new();
    let process = &config.process;
    let workers = u64::from(process.workers);
    let shared = config.settings.reply_bytes_max + config.settings.input_bytes_max;
    let _ = writeln!(
        text,
        "process: {} (hash {}); metrics {}; control {}",
        counted(workers, "worker"),
        config.hash,
        list(&process.metrics),
        list(&process.admin)
    );
    let _ = writeln!(
        text,
        "  buffers of all clients: at most {}; overrides kept in {}",
        show_bytes(Bytes(shared.0.saturating_mul(workers))),
        process.state_dir.as_ref().map_or_else(|| "nothing".to_owned(), |path| path.display().to_string())
    );
    for pool in &config.settings.pools {
        let servers = pool.servers.len() as u64;
        let connections = servers * u64::from(pool.connections_per_server) * workers;
        let flush = match &pool.flush_all {
            FlushPolicy::Allow => "allowed".to_owned(),
            FlushPolicy::Refuse => "refused".to_owned(),
            FlushPolicy::Prefix(prefix) => {
                format!("deletes {}* only", crate::config::problem::Escaped(prefix))
            }
        };
        let _ = writeln!(
            text,
            "pool {}: {}, ring {}, {} in all; flush_all {flush}",
            pool.name,
            counted(servers, "server"),
            pool.ring.word(),
            counted(connections, "connection")
        );
        let _ = writeln!(
            text,
            "  per server in flight: {} operations, {} keys of big multigets (chunks of {}), {}; split {}, batching {}, single flight {}",
            show_count(pool.operations_in_flight.0),
            show_count(pool.bulk_keys_in_flight.0),
            show_count(pool.chunk_keys.into()),
            show_bytes(pool.bytes_in_flight),
            on_off(pool.split),
            on_off(pool.batching),
            on_off(pool.single_flight)
        );
        let _ = writeln!(
            text,
            "  time-outs: connect {}, request {}, stall {}, queue {}",
            show_span(pool.connect_timeout),
            show_span(pool.request_timeout),
            show_span(pool.stall_timeout),
            show_span(pool.queue_timeout)
        );
    }
    config.settings.clusters.iter().for_each(|cluster| of_cluster(&mut text, cluster, workers));
    for (service, (edge, table)) in config.settings.services.iter().zip(&config.services) {
        let all = table.0.methods();
        let keyed = all.filter(|method| !method.keys.is_empty()).count() as u64;
        let _ = writeln!(
            text,
            "service {}: {}, {} described ({} with keys); {}",
            service.name,
            counted(service.servers.len() as u64, "server"),
            counted(table.0.methods().len() as u64, "method"),
            show_count(keyed),
            edge.speaks.word()
        );
        let _ = writeln!(
            text,
            "  at most {} calls in flight, {} under way; requests of {}, {} held; split {}",
            show_count(service.calls_in_flight.into()),
            show_count(service.calls_max.into()),
            show_bytes(edge.request_max),
            show_bytes(edge.held_bytes_max),
            on_off(service.split)
        );
        let _ = writeln!(
            text,
            "  time-outs: connect {}, request {} (at most {}), queue {}",
            show_span(edge.connect_timeout),
            show_span(service.request_timeout),
            show_span(service.request_timeout_max),
            show_span(service.queue_timeout)
        );
        services::kept(&mut text, edge);
    }
    for (listener, door) in config.settings.listeners.iter().zip(&config.doors) {
        let behind = config.settings.backend_name(listener.backend);
        let principals = match door.principal {
            PrincipalKind::Listener => {
                format!("one principal ({})", config.principal_of(door.listener, None))
            }
            PrincipalKind::Uid => "a principal per uid".to_owned(),
            PrincipalKind::Certificate => "a principal per certificate's name".to_owned(),
        };
        if let Backend::Service(id) = listener.backend {
            let service = config.settings.services.get(id.0 as usize);
            services::listener(&mut text, (listener, door), service, (&behind, &principals));
            continue;
        }
        let _ = writeln!(
            text,
            "listener {}: {} -> {behind}; {principals}; closes by {}",
            listener.name,
            listener.address,
            door.on_client_close.word()
        );
        let asked = match listener.backend {
            Backend::Pool(_) => format!(
                "lines of {}, values of {}",
                show_bytes(Bytes(listener.line_max as u64)),
                show_bytes(Bytes(listener.value_max as u64))
            ),
            // above
            Backend::Service(_) => String::new(),
            Backend::Cluster(id) => {
                let cluster = config.settings.clusters.get(id.0 as usize);
                format!("requests of {}", cluster.map_or_else(String::new, |own| show_bytes(own.request_max)))
            }
        };
        let _ = writeln!(
            text,
            "  at most {} connections ({} per principal), {asked}, {} unread",
            show_count(listener.max_connections.into()),
            show_count(listener.max_connections_per_principal.min(listener.max_connections).into()),
            show_bytes(Bytes(listener.reply_buffer_max as u64))
        );
    }
    for (name, limits) in &config.settings.callers {
        let who = config.principals.iter().find(|rule| rule.caller == *name).map(|rule| {
            let listener = |id: ListenerId| {
                config.settings.listeners.get(id.0 as usize).map_or("?", |listener| &listener.name).to_owned()
            };
            match (rule.uid, rule.listener) {
                (Some(uid), Some(id)) => format!("uid {uid} on {}", listener(id)),
                (Some(uid), None) => format!("uid {uid}"),
                (None, Some(id)) => format!("clients of {}", listener(id)),
                (None, None) => String::new(),
            }
        });
        let who = who.map_or_else(String::new, |who| format!(" ({who})"));
        let _ = writeln!(text, "caller {name}{who}: {}", limits_line(limits));
    }
    let _ = writeln!(text, "everybody else: {}", limits_line(&config.settings.undeclared));
    text
}

fn of_cluster(text: &mut String, cluster: &ClusterSettings, workers: u64) {
    let contacts = cluster.contacts.len() as u64;
    let connections = contacts * u64::from(cluster.connections_per_node) * workers;
    let _ = writeln!(
        text,
        "cluster {}: {} ({}), {} per protocol version in use, {} at the newest",
        cluster.name,
        counted(contacts, "contact"),
        list(&cluster.contacts),
        counted(connections, "connection"),
        cluster.newest_version.word()
    );
    let _ = writeln!(
        text,
        "  per node in flight: {} ({} on one connection); {} remembered per worker; a scan counts as {}",
        counted(cluster.requests_in_flight.0, "request"),
        show_count(cluster.streams_per_connection.into()),
        counted(cluster.prepared_max.into(), "prepared statement"),
        counted(cluster.scan_operations.0, "operation")
    );
    let _ = writeln!(
        text,
        "  split {}: {} of {}, or of a batch {}, per node in flight, on a connection of their own; {} of answers gathered per worker",
        cluster.split.word(),
        counted(u64::from(cluster.chunks_in_flight).max(workers), "part"),
        counted(cluster.chunk_keys.into(), "key"),
        counted(cluster.chunk_statements.into(), "statement"),
        show_bytes(cluster.gather_bytes_max)
    );
    let _ = writeln!(
        text,
        "  time-outs: connect {}, request {}, stall {}, queue {}; a connection is replaced above {} abandoned requests, or one of {}",
        show_span(cluster.connect_timeout),
        show_span(cluster.request_timeout),
        show_span(cluster.stall_timeout),
        show_span(cluster.queue_timeout),
        show_count(cluster.orphans_max.into()),
        show_span(cluster.orphan_age_max)
    );
}

fn limits_line(limits: &CallerLimits) -> String {
    let shown = crate::overrides::describe(limits);
    let shown = if shown == "nothing" { "no limit".to_owned() } else { format!("at most {shown}") };
    format!("{shown}, {}", Class::from(limits.class).word())
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", show_count(count), if count == 1 { "" } else { "s" })
}

fn list(addresses: &[Address]) -> String {
    if addresses.is_empty() {
        return "not served".to_owned();
    }
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Words, one after the other.
fn list_of(words: &[std::sync::Arc<str>]) -> String {
    let words: Vec<_> = words.iter().map(|word| crate::config::problem::Escaped(word).to_string()).collect();
    words.join(", ")
}
