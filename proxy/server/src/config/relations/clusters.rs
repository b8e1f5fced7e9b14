//! Checks of `[cluster.NAME]`, and of the listeners that lead to one.

use crate::config::file::{Collector, Draft, FileShape, missing};
use crate::config::host::Host;
use crate::config::keys::{CLUSTER, ListenerDraft};
use crate::config::problem::Problem;
use crate::config::quantity::show_span;
use std::io::Read as _;
use std::path::Path;
use weir_engine::cql::split::PageKey;
use weir_engine::settings::{Address, ClientSignIn, ClusterSettings, SplitChoice};

/// Bytes of a paging key file.
const PAGING_KEY_MAX: u64 = 4 << 10;

/// Keys of a listener that only memcached's clients meet, and what bounds CQL's.
const MEMCACHED_ONLY: [(&str, &str); 3] = [
    ("line_max", "request_max of the cluster bounds what a client may send"),
    ("value_max", "request_max of the cluster bounds what a client may send"),
    ("reply_buffer", "reply_buffer_max bounds what a client may leave unread"),
];

pub(super) fn check(problems: &mut Collector<'_>, shape: &FileShape, host: &Host) -> Vec<ClusterSettings> {
    for draft in &shape.clusters {
        let path = format!("cluster.{}", draft.name);
        missing(problems, &path, draft, CLUSTER, "write contacts = [\"127.0.0.1:9042\"]");
        contacts(problems, &path, draft, shape);
        bounds(problems, &path, draft);
        shared_bounds(problems, &path, draft, shape);
        told_by_the_cluster(problems, &path, draft);
        sign_in(problems, &path, draft);
        if let Some(file) = &draft.held.auth_file
            && host.is_missing(Path::new(&**file))
        {
            let what = format!("{file} does not exist");
            problems.add(draft.place("auth_file"), Problem::error(format!("{path}.auth_file"), what));
        }
    }
    shape.clusters.iter().map(|draft| with_page_key(problems, draft, host)).collect()
}

/// The settings of a cluster with the key that its `paging_key_file` holds.
fn with_page_key(
    problems: &mut Collector<'_>,
    draft: &Draft<ClusterSettings>,
    host: &Host,
) -> ClusterSettings {
    let mut settings = draft.held.clone();
    if let Some(file) = settings.paging_key_file.as_deref().filter(|_| host.reads_files()) {
        match page_key(Path::new(file)) {
            Ok(key) => settings.page_key = Some(key),
            Err(what) => {
                let path = format!("cluster.{}.paging_key_file", draft.name);
                let problem = Problem::error(path, format!("{file} {what}"))
                    .help("make one with: openssl rand -hex 32, and give it to every weir that shares it");
                problems.add(draft.place("paging_key_file"), problem);
            }
        }
    }
    settings
}

/// Reads the key; what is wrong with the file, which never says what it holds.
fn page_key(file: &Path) -> Result<PageKey, String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {error}");
    if !std::fs::metadata(file).map_err(unreadable)?.is_file() {
        return Err("is not a file".to_owned()); // a pipe would never end
    }
    let mut content = Vec::new();
    let open = std::fs::File::open(file).map_err(unreadable)?;
    open.take(PAGING_KEY_MAX + 1).read_to_end(&mut content).map_err(unreadable)?;
    if content.len() as u64 > PAGING_KEY_MAX {
        return Err(format!("is longer than {PAGING_KEY_MAX} bytes"));
    }
    let least = PageKey::SHARED_MIN;
    PageKey::of_shared(&content)
        .ok_or_else(|| format!("holds less than {least} bytes, or than {} hexadecimal digits", 2 * least))
}

/// Whose rights clients have that sign in themselves.
fn sign_in(problems: &mut Collector<'_>, path: &str, draft: &Draft<ClusterSettings>) {
    let held = &draft.held;
    if held.clients != ClientSignIn::Own {
        for key in ["principals_max", "principal_idle"] {
            if draft.places.contains_key(key) {
                let what = "has no effect without clients = \"own\"";
                problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
            }
        }
    }
    if held.clients == ClientSignIn::Trusted {
        for key in ["credentials_kept", "credential_checks"] {
            if draft.places.contains_key(key) {
                let what = "has no effect with clients = \"trusted\"";
                problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
            }
        }
        return;
    }
    let path = format!("{path}.clients");
    let own = held.clients == ClientSignIn::Own;
    // weir itself asks the cluster for nothing but its nodes then
    if held.auth_file.is_none() && (!own || held.discover) {
        let problem = Problem::error(path, "a cluster that checks passwords asks weir for one too")
            .help("set auth_file to a file with one line: user, blank, password");
        return problems.add(draft.place("clients"), problem);
    }
    if own {
        return;
    }
    let what = "clients are checked with their own passwords, but may do whatever weir's own user (auth_file) may: the \
                cluster's permissions of their users are not applied";
    let problem = Problem::warning(path, what)
        .help("write clients = \"own\", or give weir's user no more than its clients may have");
    problems.add(draft.place("clients"), problem);
}

/// At least one, none twice, and none that is weir's own: weir would ask itself for ever.
fn contacts(problems: &mut Collector<'_>, path: &str, draft: &Draft<ClusterSettings>, shape: &FileShape) {
    let (path, at) = (format!("{path}.contacts"), draft.place("contacts"));
    let contacts = &draft.held.contacts;
    if contacts.is_empty() && draft.places.contains_key("contacts") {
        problems.add(at, Problem::error(path.clone(), "a cluster needs a contact"));
    }
    for (index, contact) in contacts.iter().enumerate() {
        if contacts[..index].contains(contact) {
            let what = format!("the contact {contact} is there twice");
            problems.add(at, Problem::error(path.clone(), what));
        }
        let own = shape.listeners.iter().find(|listener| {
            listener.held.address.as_ref().is_some_and(|address| super::collide(address, contact))
        });
        if let Some(listener) = own {
            let what = format!("{contact} is weir's own [listener.{}]", listener.name);
            let problem = Problem::error(path.clone(), what)
                .help("give weir a port of its own (9142, say) and name the nodes' here");
            problems.add(at, problem);
        }
    }
}

/// What needs to know more than the contacts.
fn told_by_the_cluster(problems: &mut Collector<'_>, path: &str, draft: &Draft<ClusterSettings>) {
    let needs = ["nodes_max", "local_dc", "local_rack", "remote_failover", "shard_ports"];
    for key in needs.into_iter().filter(|key| !draft.held.discover && draft.places.contains_key(key)) {
        let what = "has no effect with discover = false: weir does not ask the cluster where its nodes are";
        problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
    }
}

/// What must fit into what. The message goes to the key that the file wrote.
fn bounds(problems: &mut Collector<'_>, path: &str, draft: &Draft<ClusterSettings>) {
    let held = &draft.held;
    let mut tell = |keys: [&str; 2], make: &dyn Fn(String) -> Problem| {
        let key = keys.into_iter().find(|key| draft.places.contains_key(key)).unwrap_or(keys[0]);
        problems.add(draft.place(key), make(format!("{path}.{key}")));
    };
    if held.request_timeout >= held.stall_timeout {
        tell(["request_timeout", "stall_timeout"], &|path| {
            let what = format!(
                "request_timeout = {} is not below stall_timeout = {}: one slow request would cut the connection that \
                 others share",
                show_span(held.request_timeout),
                show_span(held.stall_timeout)
            );
            Problem::error(path, what)
        });
    }
    if held.reconnect_min > held.reconnect_max {
        tell(["reconnect_min", "reconnect_max"], &|path| {
            Problem::error(path, "reconnect_min is longer than reconnect_max")
        });
    }
    if held.orphans_max >= u32::from(held.streams_per_connection) {
        tell(["orphans_max", "streams_per_connection"], &|path| {
            let what = format!(
                "orphans_max = {} is not below streams_per_connection = {}: requests nobody waits for could fill a \
                 connection before it is replaced",
                held.orphans_max, held.streams_per_connection
            );
            Problem::warning(path, what)
        });
    }
}

/// What one client may send must fit into what all clients of a worker may, and what a node is given into what the
/// connections to it carry.
fn shared_bounds(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ClusterSettings>,
    shape: &FileShape,
) {
    let (held, shared) = (&draft.held, &shape.process.held);
    if held.request_max > shared.input_bytes_max {
        let what = "is above input_bytes_max: it could never be read whole";
        let problem = Problem::error(format!("{path}.request_max"), what)
            .help("raise input_bytes_max at the top of the file");
        problems.add(draft.place("request_max"), problem);
    }
    let streams = u64::from(held.streams_per_connection)
        * u64::from(held.connections_per_node)
        * u64::from(shared.process.workers);
    let chosen = ["requests_in_flight", "streams_per_connection", "connections_per_node"];
    if held.requests_in_flight.0 > streams {
        let key = chosen.into_iter().find(|key| draft.places.contains_key(key)).unwrap_or(chosen[0]);
        let what = format!(
            "requests_in_flight = {} is above the {streams} that all connections to a node carry, and has no effect",
            held.requests_in_flight.0
        );
        problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what));
    }
    if held.split != SplitChoice::Off && held.chunks_in_flight < shared.process.workers {
        let what = format!(
            "chunks_in_flight = {} is below workers = {}: each worker may have one part in flight at a node",
            held.chunks_in_flight, shared.process.workers
        );
        let problem = Problem::warning(format!("{path}.chunks_in_flight"), what);
        problems.add(draft.place("chunks_in_flight"), problem);
    }
}

/// What only listeners for CQL are told.
pub(super) fn listener(problems: &mut Collector<'_>, path: &str, draft: &Draft<ListenerDraft>) {
    if let Some(address @ Address::Unix { .. }) = &draft.held.address {
        let what =
            format!("{address}: drivers are told the address they dialled as the node's, and need TCP");
        let problem =
            Problem::error(format!("{path}.address"), what).help("write address = \"127.0.0.1:9142\"");
        problems.add(draft.place("address"), problem);
    }
    for (key, help) in MEMCACHED_ONLY {
        if draft.places.contains_key(key) {
            let what = "has no effect on a CQL listener";
            problems.add(draft.place(key), Problem::warning(format!("{path}.{key}"), what).help(help));
        }
    }
}
