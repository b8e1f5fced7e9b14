//! The kernel's list of sockets, where no program of ours tells more. Needs no right in one's own network namespace.

use super::Source;
use crate::kernel::connects::Feed;
use crate::picture::{NamespaceStatus, Picture, ProbeState, ProbeStatus};
use crate::settings::Settings;
use crate::sockets::Sockets;
use std::time::Instant;

pub(super) const NAME: &str = "sock_diag";
/// The same in other namespaces, as a probe: a container that is gone is told.
const NAMESPACES: &str = "namespaces";

struct SockDiag {
    sockets: Sockets,
    begun: Instant,
}

pub(super) fn make(settings: &Settings, _: &mut Option<Feed>) -> Box<dyn Source> {
    let sockets = Sockets::new(&settings.namespaces, &settings.watch);
    Box::new(SockDiag { sockets, begun: Instant::now() })
}

impl Source for SockDiag {
    fn name(&self) -> &'static str {
        NAME
    }

    fn look(&mut self, picture: &mut Picture) {
        self.sockets.look(self.begun.elapsed(), picture);
        let statuses = statuses(&picture.namespaces);
        picture.probes.extend(statuses);
    }
}

/// One's own namespace is the first.
fn statuses(namespaces: &[NamespaceStatus]) -> [ProbeStatus; 2] {
    let (own, others) = namespaces.split_at(namespaces.len().min(1));
    [(NAME, own), (NAMESPACES, others)].map(|(probe, of)| ProbeStatus { probe, state: state(of), lost: None })
}

fn state(namespaces: &[NamespaceStatus]) -> ProbeState {
    let problems: Vec<String> = namespaces
        .iter()
        .filter_map(|one| Some(format!("{}: {}", one.namespace, one.problem.as_deref()?)))
        .collect();
    if namespaces.is_empty() {
        ProbeState::Off
    } else if problems.is_empty() {
        ProbeState::Attached
    } else {
        ProbeState::Refused { errno: None, reason: problems.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_namespace_that_was_not_seen_is_named() {
        let status = |name: &str, problem: Option<&str>| NamespaceStatus {
            namespace: name.to_owned(),
            ports: None,
            problem: problem.map(str::to_owned),
        };
        let host = status("host", None);
        let of = |all: &[NamespaceStatus]| statuses(all).map(|status| status.state);
        assert_eq!(of(std::slice::from_ref(&host)), [ProbeState::Attached, ProbeState::Off]);
        assert_eq!(of(&[host.clone(), status("a", None)]), [ProbeState::Attached, ProbeState::Attached]);
        let some = [host, status("a", Some("gone")), status("b", None), status("c", Some("no"))];
        let reason = "a: gone; c: no".to_owned();
        assert_eq!(of(&some), [ProbeState::Attached, ProbeState::Refused { errno: None, reason }]);
    }
}
