//! Checks of `second_weir`: the other weir that drivers are shown.

use super::{collide, is_wildcard};
use crate::config::file::{Collector, Draft, FileShape};
use crate::config::keys::ListenerDraft;
use crate::config::problem::Problem;
use std::net::{IpAddr, SocketAddr};
use weir_engine::settings::Address;

/// The other weir's address, where the file says it well.
pub(super) fn check(
    problems: &mut Collector<'_>,
    path: &str,
    draft: &Draft<ListenerDraft>,
    shape: &FileShape,
    is_cql: bool,
) -> Option<SocketAddr> {
    let second = draft.held.second_weir.as_ref()?;
    let (path, place) = (format!("{path}.second_weir"), draft.place("second_weir"));
    if !is_cql {
        problems.add(place, Problem::warning(path, "has no effect on a memcached listener"));
        return None;
    }
    let at = match second {
        Address::Tcp { host, port } => host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, *port)),
        _ => None,
    };
    let Some(at) = at.filter(|at| !at.ip().is_unspecified()) else {
        let what =
            format!("{second}: drivers are told it as a node's address, which is one IP address and a port");
        problems.add(place, Problem::error(path, what).help("write second_weir = \"10.0.0.2:9142\""));
        return None;
    };
    // one at every address of the machine: whether this is one of them is not known here
    let listens = |listener: &&Draft<ListenerDraft>| {
        let is_wide = |address: &Address| matches!(address, Address::Tcp { host, .. } if is_wildcard(host));
        let address = listener.held.address.as_ref();
        address.is_some_and(|address| !is_wide(address) && collide(address, second))
    };
    if let Some(own) = shape.listeners.iter().find(listens) {
        let what = format!("{second} is weir's own [listener.{}], which goes when this one does", own.name);
        problems.add(place, Problem::error(path, what).help("name the address of another weir process"));
        return None;
    }
    let Some(Address::Tcp { host, port }) = &draft.held.address else { return Some(at) };
    if *port != at.port() {
        let what = format!(
            "{second} has another port than this listener ({port}): drivers that ask system.peers, which tells no \
             ports (Node's, and others of servers without peers_v2), dial it there at their own"
        );
        let problem = Problem::warning(path.clone(), what).help("listen at the same port in both");
        problems.add(place, problem);
    }
    if is_wildcard(host) {
        let what = "this listener has no one address: clients must dial it at the one that the other weir names, or they \
                    take it for a third node";
        problems.add(place, Problem::warning(path, what));
    }
    Some(at)
}
