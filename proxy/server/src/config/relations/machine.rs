//! Checks against the machine: open files, backlog, files that must exist. Warnings, where weir can run all the same.

use crate::caps::files::{OWN_FILES, Share, node_files, nodes_counted, service_files, upstream_files};
use crate::config::file::{Collector, Draft, FileShape};
use crate::config::host::Host;
use crate::config::keys::ListenerDraft;
use crate::config::problem::Problem;
use std::path::Path;
use weir_engine::settings::{Address, ClusterSettings, PoolSettings};

pub(super) fn check(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    pools: &[PoolSettings],
    clusters: &[ClusterSettings],
    host: &Host,
) {
    open_files(problems, shape, pools, clusters, host);
    for draft in &shape.listeners {
        if let Some(most) = host.somaxconn
            && draft.held.backlog > most
        {
            let problem = Problem::warning(
                format!("listener.{}.backlog", draft.name),
                format!("the kernel cuts backlog = {} to net.core.somaxconn = {most}", draft.held.backlog),
            )
            .help(format!("run sysctl -w net.core.somaxconn={}, or lower backlog", draft.held.backlog));
            problems.add(draft.place("backlog"), problem);
        }
    }
    attribution(problems, shape, host);
    let process = &shape.process;
    if let Some(file) = &process.held.process.admin_token_file
        && host.is_missing(file)
    {
        let what = format!("{} does not exist", file.display());
        problems.add(process.place("admin_token_file"), Problem::error("admin_token_file", what));
    }
}

/// The socket of weir-probes: nothing depends on it, so that it is not there yet is only worth a word.
fn attribution(problems: &mut Collector<'_>, shape: &FileShape, host: &Host) {
    let process = &shape.process;
    let problem = match &process.held.process.attribution {
        Some(Address::Unix { path }) if host.is_missing(Path::new(&**path)) => Problem::warning(
            "attribution",
            format!(
                "there is no socket {path} now: until weir-probes opens it weir looks for processes itself"
            ),
        ),
        Some(Address::Unix { .. }) | None => return,
        Some(other) => Problem::error("attribution", format!("{other} is not a Unix socket")).help(
            "write \"unix:/run/weir-probes/attribution.sock\": weir-probes answers on this machine only",
        ),
    };
    problems.add(process.place("attribution"), problem);
}

/// Descriptors that the caps of the file add up to. One warning tells of all of them: what is counted for clusters that
/// will tell their nodes is what they may tell at most.
fn open_files(
    problems: &mut Collector<'_>,
    shape: &FileShape,
    pools: &[PoolSettings],
    clusters: &[ClusterSettings],
    host: &Host,
) {
    let process = &shape.process;
    let workers = process.held.process.workers as usize;
    let lead_to = |name: &str| {
        let leads = |draft: &&Draft<ListenerDraft>| draft.held.service.as_deref() == Some(name);
        shape.listeners.iter().filter(leads).count()
    };
    let services = service_files(shape.services.iter().map(|draft| &draft.held), lead_to);
    let upstream = upstream_files(pools, clusters, workers) + services;
    if let (Some(asked), Some(hard)) = (process.held.process.nofile, host.nofile_hard)
        && asked > hard
    {
        let what = format!("{asked} open files are above the hard limit {hard} of this process");
        problems.add(process.place("nofile"), Problem::warning("nofile", what));
    }
    let have = match (process.held.process.nofile, host.nofile_hard) {
        (Some(asked), Some(hard)) => asked.min(hard),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return,
    };
    let clients: u64 =
        shape.listeners.iter().map(|draft| u64::from(draft.held.settings.max_connections)).sum();
    let all = clients + upstream + OWN_FILES;
    if all > have {
        let told: Vec<String> = clusters
            .iter()
            .filter(|cluster| nodes_counted(cluster) > cluster.contacts.len() as u64)
            .map(|cluster| {
                let (files, nodes) = (node_files(cluster, workers), nodes_counted(cluster));
                format!("{files} for the {nodes} nodes that {} may have (nodes_max)", cluster.name)
            })
            .collect();
        let (of_them, or_nodes) = match told.is_empty() {
            true => (String::new(), ""),
            false => (format!(", {}", told.join(", ")), ", or nodes_max to the nodes there are"),
        };
        let problem = Problem::warning(
            "",
            format!(
                "the caps add up to {all} open files ({clients} clients, {upstream} upstream{of_them}, {OWN_FILES} of \
                 weir's own), and this process may have {have}: {} clients at once, and more are turned away",
                Share::of(have, upstream).clients
            ),
        )
        .help(format!(
            "raise the hard limit (LimitNOFILE=, ulimit -Hn), or lower max_connections{or_nodes}"
        ));
        problems.add(None, problem);
    }
}
