//! What must hold between the keys of a configuration, and against the machine: the step from the file shape to the
//! checked one.

mod backends;
mod caches;
mod callers;
mod clusters;
mod machine;
mod pools;
mod rules;
mod second;
mod services;
mod tls;
mod tokens;

use super::address::{is_local, is_loopback_host};
use super::checked::{Config, ConfigHash, Door, OnClientClose, PrincipalKind};
use super::file::{Collector, Draft, FileShape, missing};
use super::host::Host;
use super::keys::{LISTENER, ListenerDraft};
use super::problem::{Problem, Problems, Severity};
use std::collections::BTreeSet;
use std::sync::Arc;
use weir_engine::settings::{Address, Backend, ListenerSettings, PoolSettings, Settings};
use weir_engine::units::ListenerId;

/// Checks the whole, and turns it into the checked shape.
///
/// # Errors
/// Every problem, those found before included.
pub(super) fn check(
    mut collector: Collector<'_>,
    mut shape: FileShape,
    host: &Host,
) -> Result<Config, Problems> {
    // Pools, clusters and listeners are addressed by index while weir runs: their order must not hang on the order of the file,
    // which may change at a reload.
    shape.pools.sort_by(|a, b| a.name.cmp(&b.name));
    shape.clusters.sort_by(|a, b| a.name.cmp(&b.name));
    shape.services.sort_by(|a, b| a.name.cmp(&b.name));
    shape.listeners.sort_by(|a, b| a.name.cmp(&b.name));
    let problems = &mut collector;
    let pools = pools::check(problems, &shape, host);
    let mut clusters = clusters::check(problems, &shape, host);
    rules::check(problems, &shape, &mut clusters);
    let services = services::check(problems, &shape, host);
    let clusters_tls = tls::clusters(problems, &shape, host);
    let (listeners, doors) = listeners(problems, &shape, &pools, host);
    backends::unused(problems, &shape, &listeners);
    addresses(problems, &shape);
    callers::limits(problems, "undeclared", &shape.undeclared.held, &|key| shape.undeclared.place(key));
    let principals = callers::check(problems, &shape, &doors);
    let issuers = tokens::check(problems, &shape, &listeners);
    callers::request_ids(problems, &shape, &listeners, &doors, &principals);
    machine::check(problems, &shape, &pools, &clusters, host);

    if problems.errors() > 0 {
        return Err(Problems(collector.finish()));
    }
    let settings = Settings {
        pools,
        clusters,
        services: services.iter().map(|(service, _)| service.settings.clone()).collect(),
        listeners,
        callers: shape.callers.iter().map(|draft| (draft.name.clone(), draft.held.limits.clone())).collect(),
        undeclared: shape.undeclared.held,
        reply_bytes_max: shape.process.held.reply_bytes_max,
        input_bytes_max: shape.process.held.input_bytes_max,
        operator_callers: BTreeSet::new(),
    };
    let process = shape.process.held.process;
    let warnings = collector.finish();
    debug_assert!(
        warnings.iter().all(|problem| problem.severity == Severity::Warning),
        "errors were counted"
    );
    let mut config = Config {
        process,
        settings,
        doors,
        clusters_tls,
        services,
        principals,
        issuers,
        warnings,
        hash: ConfigHash(0),
    };
    config.hash = super::effective::hash(&config);
    Ok(config)
}

fn to_u32(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

fn listeners(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    pools: &[PoolSettings],
    host: &Host,
) -> (Vec<ListenerSettings>, Vec<Door>) {
    if shape.listeners.is_empty() {
        let example = if shape.pools.is_empty() && !shape.clusters.is_empty() {
            "write [listener.cql] with address = \"127.0.0.1:9142\" and cluster = \"...\""
        } else {
            "write [listener.cache] with address = \"127.0.0.1:11311\" and pool = \"...\""
        };
        problems.add(None, Problem::error("", "there is no listener: nothing would be served").help(example));
    }
    let (mut listeners, mut doors) = (Vec::new(), Vec::new());
    for (index, draft) in shape.listeners.iter().enumerate() {
        let path = format!("listener.{}", draft.name);
        let id = ListenerId(to_u32(index));
        reserved(problems, draft.at, &path, &draft.name);
        let backend = backends::of_listener(problems, shape, &path, draft);
        let example = match backend {
            Some(Backend::Cluster(_)) => "write address = \"127.0.0.1:9142\"",
            Some(Backend::Service(_)) => "write address = \"127.0.0.1:3100\" or \"unix:/run/weir/rpc.sock\"",
            _ => "write address = \"127.0.0.1:11311\" or \"unix:/run/weir/cache.sock\"",
        };
        missing(problems, &path, draft, LISTENER, example);
        if let Some(Backend::Cluster(_)) = backend {
            clusters::listener(problems, &path, draft);
        } else if let Some(Backend::Service(_)) = backend {
            services::listener(problems, &path, draft);
        } else {
            let pool = backend.and_then(Backend::pool);
            values(problems, &path, draft, pool.and_then(|pool| pools.get(pool.0 as usize)));
            shared_input(problems, &path, draft, shape);
        }
        buffers(problems, &path, draft, shape);
        let door = door(problems, &path, id, draft, host);
        doors.push(door);
        let is_cql = matches!(backend, Some(Backend::Cluster(_)) | None);
        let mut settings = draft.held.settings.clone();
        if matches!(backend, Some(Backend::Service(_))) && !draft.places.contains_key("idle_timeout") {
            settings.idle_timeout = services::IDLE_TIMEOUT;
        }
        listeners.push(ListenerSettings {
            second_weir: second::check(problems, &path, draft, shape, is_cql),
            address: draft.held.address.clone().unwrap_or_else(|| draft.held.settings.address.clone()),
            backend: backend.unwrap_or(draft.held.settings.backend),
            ..settings
        });
    }
    (listeners, doors)
}

/// Names that weir gives itself cannot be given by a file.
fn reserved(problems: &mut Collector<'_>, at: Option<usize>, path: &str, name: &str) {
    let is_uid = name.strip_prefix("uid:").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()));
    if is_uid || matches!(name, "_other" | "_invalid") {
        let what = "weir gives this name itself: it cannot be a listener's";
        problems.add(at, Problem::error(path, what));
    }
}

/// What a memcached client's values meet.
fn values(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ListenerDraft>,
    pool: Option<&PoolSettings>,
) {
    let held = &draft.held.settings;
    if held.reply_buffer > held.reply_buffer_max {
        let key = if draft.places.contains_key("reply_buffer") { "reply_buffer" } else { "reply_buffer_max" };
        let what = "reply_buffer is larger than reply_buffer_max";
        problems.add(draft.place(key), Problem::error(format!("{path}.{key}"), what));
    }
    if held.value_max > held.reply_buffer_max {
        let what = "a value of value_max does not fit into reply_buffer_max: its reader would be closed";
        problems.add(draft.place("value_max"), Problem::warning(format!("{path}.value_max"), what));
    }
    if let Some(pool) = pool
        && held.value_max as u64 > pool.bytes_in_flight.0
    {
        let what =
            format!("one value may be larger than bytes_in_flight of [pool.{}]: it goes alone", pool.name);
        problems.add(draft.place("value_max"), Problem::warning(format!("{path}.value_max"), what));
    }
}

/// What one memcached client may send must fit into what all clients of a worker may.
fn shared_input(problems: &mut Collector<'_>, path: &str, draft: &Draft<ListenerDraft>, shape: &FileShape) {
    let (held, shared) = (&draft.held.settings, &shape.process.held);
    for (key, bytes) in [("line_max", held.line_max), ("value_max", held.value_max)] {
        if bytes as u64 > shared.input_bytes_max.0 {
            let problem = Problem::error(
                format!("{path}.{key}"),
                "is above input_bytes_max: it could never be read whole",
            )
            .help("raise input_bytes_max at the top of the file");
            problems.add(draft.place(key), problem);
        }
    }
}

/// Bounds that a wider one makes void.
fn buffers(problems: &mut Collector<'_>, path: &str, draft: &Draft<ListenerDraft>, shape: &FileShape) {
    let (held, shared) = (&draft.held.settings, &shape.process.held);
    let chosen = draft.places.contains_key("max_connections_per_principal");
    if chosen && held.max_connections_per_principal > held.max_connections {
        let key = "max_connections_per_principal";
        let what = "is above max_connections and has no effect";
        problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
    }
    if held.reply_buffer_max as u64 > shared.reply_bytes_max.0 {
        let key = "reply_buffer_max";
        let what = "is above reply_bytes_max, which all clients of a worker share, and has no effect";
        problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
    }
}

fn door(
    problems: &mut Collector<'_>,
    path: &str,
    listener: ListenerId,
    draft: &Draft<ListenerDraft>,
    host: &Host,
) -> Door {
    let held = &draft.held;
    let is_unix = matches!(held.address, Some(Address::Unix { .. }));
    let is_tcp = matches!(held.address, Some(Address::Tcp { .. }));
    if let Some(address) = held.address.as_ref().filter(|address| !is_local(address) && !held.allow_remote) {
        let problem = Problem::error(
            format!("{path}.address"),
            format!("{address} can be reached from other machines"),
        )
        .help("listen on 127.0.0.1 or a Unix socket, or set allow_remote = true");
        problems.add(draft.place("address"), problem);
    }
    if is_tcp && held.principal == PrincipalKind::Uid {
        let problem = Problem::error(format!("{path}.principal"), "the uid of a TCP client is not known")
            .help("listen on a Unix socket, or leave principal = \"listener\"");
        problems.add(draft.place("principal"), problem);
    }
    for key in ["mode", "group"] {
        if is_tcp && draft.places.contains_key(key) {
            let what = "has no effect on TCP";
            problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
        }
    }
    if is_unix && held.mode.0 & 0o007 != 0 && draft.places.contains_key("mode") {
        let what = format!("mode 0o{:03o} lets every user of this machine in", held.mode.0);
        problems.add(draft.place("mode"), Problem::warning(format!("{path}.mode"), what));
    }
    let group = match held.group.as_deref().map(|name| (name, host.group(name))) {
        Some((_, Ok(group))) => Some(group),
        Some((name, Err(()))) => {
            let what = format!("this machine has no group \"{name}\"");
            problems.add(draft.place("group"), Problem::error(format!("{path}.group"), what));
            None
        }
        None => None,
    };
    let loopback_tcp = matches!(&held.address, Some(Address::Tcp { host, .. }) if is_loopback_host(host));
    let by_address = if loopback_tcp { OnClientClose::Reset } else { OnClientClose::Fin };
    Door {
        listener,
        mode: held.mode.0,
        group,
        backlog: held.backlog,
        on_client_close: held.on_client_close.unwrap_or(by_address),
        principal: held.principal,
        allow_remote: held.allow_remote,
        tls: tls::listener(problems, path, draft, host),
        tokens: held.tokens.clone(),
    }
}

/// One address can be listened at once only, and control must stay on this machine.
fn addresses(problems: &mut Collector<'_>, shape: &FileShape) {
    let mut taken: Vec<(Address, String)> = Vec::new();
    let mut take =
        |problems: &mut Collector<'_>, at: Option<usize>, path: String, address: &Address| match taken
            .iter()
            .find(|(other, _)| collide(other, address))
        {
            Some((_, first)) => {
                let what = format!("{address} is already listened at by `{first}`");
                problems.add(at, Problem::error(path, what));
            }
            None => taken.push((address.clone(), path)),
        };
    for draft in &shape.listeners {
        if let Some(address) = &draft.held.address {
            take(problems, draft.place("address"), format!("listener.{}.address", draft.name), address);
        }
    }
    let process = &shape.process;
    for address in &process.held.process.metrics {
        take(problems, process.place("metrics"), "metrics".to_owned(), address);
    }
    for address in &process.held.process.admin {
        take(problems, process.place("admin"), "admin".to_owned(), address);
        if matches!(address, Address::Tcp { .. }) {
            admin_over_tcp(problems, shape, address);
        }
    }
}

fn admin_over_tcp(problems: &mut Collector<'_>, shape: &FileShape, address: &Address) {
    let at = shape.process.place("admin");
    if !is_local(address) {
        let problem = Problem::error("admin", format!("{address} can be reached from other machines"))
            .help("listen on a Unix socket or 127.0.0.1; from elsewhere, come over ssh");
        problems.add(at, problem);
    }
    if shape.process.held.process.admin_token_file.is_none() {
        let problem = Problem::error("admin", format!("control over TCP ({address}) needs a token"))
            .help("set admin_token_file, or listen on a Unix socket");
        problems.add(at, problem);
    }
}

fn collide(one: &Address, other: &Address) -> bool {
    match (one, other) {
        (Address::Tcp { host: a, port: p }, Address::Tcp { host: b, port: q }) => {
            p == q && (plain(a) == plain(b) || is_wildcard(a) || is_wildcard(b))
        }
        (one, other) => one == other,
    }
}

fn plain(host: &Arc<str>) -> String {
    if host.eq_ignore_ascii_case("localhost") { "127.0.0.1".to_owned() } else { host.to_ascii_lowercase() }
}

fn is_wildcard(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}
