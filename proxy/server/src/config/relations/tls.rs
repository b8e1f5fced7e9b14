//! TLS of listeners, clusters and services: which keys belong together, and what their files hold.

use crate::config::checked::{DoorTls, PrincipalKind};
use crate::config::file::{Collector, Draft, FileShape};
use crate::config::host::Host;
use crate::config::keys::{ListenerDraft, ServiceDraft};
use crate::config::problem::Problem;
use crate::tls::{ClientFiles, ClientSide, FileProblem, ServerFiles, client_side, server_side};
use weir_engine::settings::{Address, ClusterSettings, TlsVerify, UpstreamTls};

/// A listener's side, read from its files.
pub(super) fn listener(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ListenerDraft>,
    host: &Host,
) -> DoorTls {
    let tls = draft.held.tls.clone();
    let is_unix = matches!(draft.held.address, Some(Address::Unix { .. }));
    if is_unix && tls.cert.is_some() {
        let problem = Problem::error(format!("{path}.tls_cert"), "nobody listens in on a Unix socket")
            .help("leave it out, or listen on TCP");
        problems.add(draft.place("tls_cert"), problem);
    }
    if draft.held.principal == PrincipalKind::Certificate && tls.client_ca.is_none() {
        let problem = Problem::error(format!("{path}.principal"), "clients show no certificate")
            .help("name the CAs of their certificates: tls_client_ca (with tls_cert and tls_key)");
        problems.add(draft.place("principal"), problem);
    }
    match (&tls.cert, &tls.key) {
        (Some(_), None) => absent(problems, path, draft, "tls_cert", "tls_key"),
        (None, Some(_)) => absent(problems, path, draft, "tls_key", "tls_cert"),
        (None, None) if tls.client_ca.is_some() => {
            absent(problems, path, draft, "tls_client_ca", "tls_cert");
        }
        (Some(cert), Some(key)) if host.reads_files() => {
            let files = ServerFiles { cert, key, client_ca: tls.client_ca.as_deref() };
            let (side, found) = server_side(files);
            told(problems, path, draft, found);
            return DoorTls { side, ..tls };
        }
        _ => {}
    }
    if tls.cert.is_none() && draft.places.contains_key("tls_handshake_timeout") {
        without_effect(problems, path, draft, "tls_handshake_timeout", "without tls_cert");
    }
    tls
}

/// Each cluster's side, read from its files, in the order of the drafts.
pub(super) fn clusters(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    host: &Host,
) -> Vec<Option<ClientSide>> {
    shape.clusters.iter().map(|draft| cluster(problems, draft, host)).collect()
}

fn cluster(problems: &mut Collector<'_>, draft: &Draft<ClusterSettings>, host: &Host) -> Option<ClientSide> {
    let path = format!("cluster.{}", draft.name);
    client(problems, &path, draft, &draft.held.tls, ("contacts", &draft.held.contacts), host)
}

/// A service's side, read from its files.
pub(super) fn service(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ServiceDraft>,
    host: &Host,
) -> Option<ClientSide> {
    client(problems, path, draft, &draft.held.tls, ("servers", &draft.held.settings.servers), host)
}

/// What weir shows and asks at these addresses, which the key names.
fn client<T>(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<T>,
    tls: &UpstreamTls,
    (key, addresses): (&str, &[Address]),
    host: &Host,
) -> Option<ClientSide> {
    if !tls.on {
        let keys = ["tls_ca", "tls_verify", "tls_server_name", "tls_client_cert", "tls_client_key"];
        for key in keys.into_iter().filter(|key| draft.places.contains_key(key)) {
            without_effect(problems, path, draft, key, "without tls = true");
        }
        return None;
    }
    if let Some(other) = addresses.iter().find(|at| !matches!(at, Address::Tcp { .. })) {
        let what = format!("{other} cannot be reached with TLS");
        problems.add(draft.place(key), Problem::error(format!("{path}.{key}"), what));
    }
    let own = match (&tls.client_cert, &tls.client_key) {
        (Some(cert), Some(key)) => Some((&**cert, &**key)),
        (Some(_), None) => {
            absent(problems, path, draft, "tls_client_cert", "tls_client_key");
            None
        }
        (None, Some(_)) => {
            absent(problems, path, draft, "tls_client_key", "tls_client_cert");
            None
        }
        (None, None) => None,
    };
    if tls.verify == TlsVerify::Ca && tls.server_name.is_some() {
        without_effect(problems, path, draft, "tls_server_name", "with tls_verify = \"ca\"");
    }
    let Some(ca) = &tls.ca else {
        absent(problems, path, draft, "tls", "tls_ca");
        return None;
    };
    if !host.reads_files() {
        return None;
    }
    let verify_name = tls.verify == TlsVerify::Name;
    let (side, found) =
        client_side(ClientFiles { ca, verify_name, server_name: tls.server_name.as_deref(), own });
    told(problems, path, draft, found);
    side
}

fn told<T>(problems: &mut Collector<'_>, path: &str, draft: &Draft<T>, found: Vec<FileProblem>) {
    for FileProblem { key, what, is_error } in found {
        let path = format!("{path}.{key}");
        let problem = if is_error { Problem::error(path, what) } else { Problem::warning(path, what) };
        problems.add(draft.place(key), problem);
    }
}

fn absent<T>(problems: &mut Collector<'_>, path: &str, draft: &Draft<T>, key: &str, other: &str) {
    let problem = Problem::error(format!("{path}.{key}"), format!("needs {other} beside it"));
    problems.add(draft.place(key), problem);
}

fn without_effect<T>(problems: &mut Collector<'_>, path: &str, draft: &Draft<T>, key: &str, why: &str) {
    let problem = Problem::warning(format!("{path}.{key}"), format!("has no effect {why}"));
    problems.add(draft.place(key), problem);
}
