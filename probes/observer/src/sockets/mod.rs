//! Socket states and local ports without BPF: the kernel lists its sockets over sock_diag(7), in each network namespace
//! that was asked for. It needs no right in one's own namespace, and `CAP_SYS_ADMIN` to enter another.
//!
//! A connection is outgoing unless somebody listens on its local endpoint now. One in TIME_WAIT that was accepted by a
//! process which does not listen any more therefore counts as outgoing, for at most a minute.
//!
//! What this cannot tell, because nothing is seen between two looks: transitions, opens, life-times, failed calls, and
//! whose a socket in TIME_WAIT was.

mod seats;
mod tally;

pub use seats::Seats;
pub use tally::{Listening, PAIRS_SEEN, Tally};

use crate::namespaces::{Identity, inside};
use crate::picture::{
    Destination, Direction, ListenerDrops, ListenerQueue, NamespaceStatus, Picture, PortUse, Source, State,
};
use crate::ports::{History, PortRange};
use crate::settings::{NamedNamespace, OWN_NAMESPACE, Watch};
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use weir_sock_diag::{Error, Family, Filter, SockDiag, States};
use weir_telemetry::probes::catalogue::{self, DESTINATIONS, LISTENERS};

/// Source addresses that are told apart beside `127.0.0.0/8`, which takes those of its own that come on top.
const SOURCES: usize = catalogue::SOURCES - 1;
/// A watched destination weighs more than any that is not.
const WATCHED: u64 = 1 << 40;
/// Listening endpoints that are kept to tell directions by.
const LISTENING_MAX: usize = 65_536;

/// Looks into namespaces again and again, and remembers what a forecast needs.
#[derive(Debug)]
pub struct Sockets {
    /// Names, and where they are; one's own is nowhere.
    namespaces: Vec<(String, Option<PathBuf>)>,
    /// Watched at any address; the others have seats.
    watched_ports: Vec<u16>,
    identities: HashMap<String, Identity>,
    destinations: Seats<SocketAddr>,
    sources: Seats<IpAddr>,
    histories: BTreeMap<(String, Source, Destination), History>,
}

/// What was found in one namespace.
struct Look {
    identity: Identity,
    range: Option<PortRange>,
    tally: Tally,
    /// Endpoint, longest queue, its bound.
    listeners: BTreeMap<SocketAddr, (u64, u64)>,
    /// Connections that were not taken there; of endpoints of which the kernel tells it.
    drops: BTreeMap<SocketAddr, u64>,
    problem: Option<Error>,
}

impl Sockets {
    /// Will look into one's own namespace and these others. What is watched at one address always has a name of its own;
    /// what is watched at any address has one before all that is not watched.
    #[must_use]
    pub fn new(namespaces: &[NamedNamespace], watched: &[Watch]) -> Sockets {
        let own = (OWN_NAMESPACE.to_owned(), None);
        let others = namespaces.iter().map(|one| (one.name.clone(), Some(one.path.clone())));
        let at =
            |watch: &Watch| watch.address.map(|address| SocketAddr::new(address.to_canonical(), watch.port));
        Sockets {
            namespaces: std::iter::once(own).chain(others).collect(),
            watched_ports: watched
                .iter()
                .filter(|watch| watch.address.is_none())
                .map(|watch| watch.port)
                .collect(),
            identities: HashMap::new(),
            destinations: Seats::new(DESTINATIONS, watched.iter().filter_map(at).collect()),
            sources: Seats::new(SOURCES, Vec::new()),
            histories: BTreeMap::new(),
        }
    }

    /// Looks, and puts namespaces and, where they are not known yet, sockets, ports and listeners into the picture. `now`
    /// is the time since any fixed moment. It waits for the kernel: one walk over all sockets of each namespace.
    ///
    /// A namespace that cannot be looked into has a status that says why. Where no namespace can, sockets, ports and
    /// listeners stay unknown.
    pub fn look(&mut self, now: Duration, picture: &mut Picture) {
        let looks: Vec<_> = self.namespaces.iter().map(|(_, path)| inside(path.as_deref(), look)).collect();
        let (mut destinations, mut sources) = (HashMap::new(), HashMap::new());
        for look in looks.iter().flatten() {
            look.tally.weigh(&mut destinations, &mut sources);
        }
        for (destination, weight) in &mut destinations {
            if self.watched_ports.contains(&destination.port()) {
                *weight += WATCHED;
            }
        }
        self.destinations.assign(&destinations, now);
        self.sources.assign(&sources, now);

        let (mut sockets, mut ports, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
        let mut drops: Option<BTreeMap<SocketAddr, u64>> = None;
        picture.namespaces = Vec::with_capacity(self.namespaces.len());
        for ((name, _), look) in self.namespaces.iter().zip(&looks) {
            let status = |ports, problem| NamespaceStatus { namespace: name.clone(), ports, problem };
            let look = match look {
                Ok(look) => look,
                Err(problem) => {
                    picture.namespaces.push(status(None, Some(problem.to_string())));
                    continue;
                }
            };
            if self
                .identities
                .insert(name.clone(), look.identity)
                .is_some_and(|before| before != look.identity)
            {
                // The same name, another namespace: what was known is of the one before.
                self.histories.retain(|(of, ..), _| of != name);
            }
            let capacity = look.range.as_ref().map(PortRange::capacity);
            let problem = match (&look.problem, capacity) {
                (Some(problem), _) => Some(problem.to_string()),
                (None, None) => Some("ip_local_port_range cannot be read".to_owned()),
                (None, Some(_)) => None,
            };
            let failed = look.problem.is_some();
            picture.namespaces.push(status(capacity, problem));
            if failed {
                continue; // half a count is not a count
            }
            let (of_states, of_ports) = look.tally.shown(name, &self.destinations, &self.sources, capacity);
            sockets.extend(of_states);
            ports.extend(of_ports);
            listeners.extend(longest(name, &look.listeners));
            for (endpoint, more) in &look.drops {
                *drops.get_or_insert_default().entry(*endpoint).or_default() += more;
            }
        }
        self.forecast(now, &mut ports);
        if looks.iter().flatten().any(|look| look.problem.is_none()) {
            picture.sockets.get_or_insert(sockets);
            picture.ports.get_or_insert(ports);
            picture.listeners.get_or_insert(listeners);
            if let Some(drops) = drops {
                picture.listener_drops.get_or_insert(most(&drops));
            }
        }
    }

    /// Notes what is in use, and says when it will be all. Pairs that are not there any more are forgotten.
    fn forecast(&mut self, now: Duration, ports: &mut [PortUse]) {
        let mut before = std::mem::take(&mut self.histories);
        for row in ports {
            let key = (row.namespace.clone(), row.source.clone(), row.destination.clone());
            let mut history = before.remove(&key).unwrap_or_default();
            history.note(now, row.used);
            row.exhausted_in = row.capacity.and_then(|capacity| history.exhausted_in(capacity));
            self.histories.insert(key, history);
        }
    }
}

/// On a thread inside the namespace: everything that is read of it.
fn look(identity: Identity) -> Look {
    let mut look = Look {
        identity,
        range: PortRange::read(),
        tally: Tally::default(),
        listeners: BTreeMap::new(),
        drops: BTreeMap::new(),
        problem: None,
    };
    look.problem = count(&mut look).err();
    look
}

fn count(look: &mut Look) -> Result<(), Error> {
    let mut kernel = SockDiag::default();
    let mut listening = Listening::default();
    let (listeners, drops) = (&mut look.listeners, &mut look.drops);
    for family in Family::ALL {
        let filter = Filter { family, states: States::LISTEN, local_port: 0, remote_port: 0 };
        kernel.dump(&filter, |found| {
            if listeners.len() < LISTENING_MAX {
                listening.add(found.local);
                let queue = (u64::from(found.receive_queue), u64::from(found.send_queue));
                let longest = listeners.entry(found.local).or_default();
                *longest = queue.max(*longest);
                if let Some(more) = found.drops {
                    // sockets that share an endpoint have a queue each
                    *drops.entry(found.local).or_default() += u64::from(more);
                }
            }
        })?;
    }
    let states = States::all() - States::LISTEN - States::CLOSE;
    for family in Family::ALL {
        let filter = Filter { family, states: states.clone(), local_port: 0, remote_port: 0 };
        kernel.dump(&filter, |found| {
            let Some(state) = State::of(found.state) else { return };
            let accepted = state == State::SynRecv || listening.accepts(found.local);
            let direction = if accepted { Direction::Incoming } else { Direction::Outgoing };
            let in_range = look.range.as_ref().is_none_or(|range| range.holds(found.local.port()));
            look.tally.add(direction, found.local, found.remote, state, in_range);
        })?;
    }
    Ok(())
}

/// The listeners with the most drops, then those with the smallest address; those without any have their zero.
fn most(drops: &BTreeMap<SocketAddr, u64>) -> Vec<ListenerDrops> {
    let mut rows: Vec<_> = drops.iter().collect();
    rows.sort_by_key(|(_, dropped)| std::cmp::Reverse(**dropped));
    let row = |(endpoint, dropped): (&SocketAddr, &u64)| ListenerDrops {
        listener: endpoint.to_string(),
        reason: "listen_drop", // the kernel's TcpExtListenDrops, of this listener
        dropped: *dropped,
    };
    rows.into_iter().take(LISTENERS).map(row).collect()
}

/// The listeners with the longest queues, then those with the smallest address.
fn longest(namespace: &str, listeners: &BTreeMap<SocketAddr, (u64, u64)>) -> Vec<ListenerQueue> {
    let mut rows: Vec<_> = listeners.iter().collect();
    rows.sort_by_key(|(_, (waiting, _))| std::cmp::Reverse(*waiting));
    let row = |(endpoint, (waiting, max)): (&SocketAddr, &(u64, u64))| ListenerQueue {
        namespace: namespace.to_owned(),
        listener: endpoint.to_string(),
        waiting: *waiting,
        max: *max,
    };
    rows.into_iter().take(LISTENERS).map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Protocol;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn one_s_own_namespace_is_seen_in_both_directions() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let held: Vec<_> = (0..7).map(|_| TcpStream::connect(address).expect("connected")).collect();
        let gone = NamedNamespace { name: "gone".to_owned(), path: "/proc/4194304/ns/net".into() };
        let watch = Watch { address: Some(address.ip()), port: address.port(), protocol: Protocol::Cql };
        let mut sockets = Sockets::new(&[gone], &[watch]);
        let mut picture = Picture::default();
        sockets.look(Duration::ZERO, &mut picture);

        let rows = picture.sockets.as_deref().expect("known");
        for direction in [Direction::Outgoing, Direction::Incoming] {
            let of: Vec<_> = rows
                .iter()
                .filter(|row| row.destination.label() == address.to_string() && row.direction == direction)
                .filter(|row| row.sockets > 0)
                .map(|row| (row.namespace.as_str(), row.state, row.sockets))
                .collect();
            assert_eq!(of, [("host", State::Established, 7)], "{direction:?}");
        }
        let queue = picture.listeners.iter().flatten().find(|row| row.listener == address.to_string());
        let queue = queue.expect("the longest queues are shown, and nobody accepts here");
        assert!((queue.namespace.as_str(), queue.waiting) == ("host", 7) && queue.max >= 7, "{queue:?}");
        drop(held);

        let problems: Vec<_> = picture
            .namespaces
            .iter()
            .map(|status| (status.namespace.as_str(), status.problem.as_deref()))
            .collect();
        let said = "/proc/4194304/ns/net is not there (any more)";
        assert_eq!(problems, [("host", None), ("gone", Some(said))], "reported and not fatal");
        assert!(picture.namespaces[0].ports.is_some() && picture.namespaces[1].ports.is_none());
    }

    #[test]
    fn a_forecast_needs_a_history_and_forgets_who_is_gone() {
        let mut sockets = Sockets::new(&[], &[]);
        let row = |used| PortUse {
            namespace: "host".to_owned(),
            source: Source::Loopback,
            destination: Destination::Other,
            used,
            time_wait: 0,
            capacity: Some(28_232),
            exhausted_in: None,
        };
        let mut told = None;
        for look in 0..6_u32 {
            let mut ports = [row(u64::from(look) * 1_000)];
            sockets.forecast(Duration::from_secs(5) * look, &mut ports);
            told = ports[0].exhausted_in;
        }
        assert_eq!(told.map(|left| left.as_secs()), Some((28_232 - 5_000) / 200));
        sockets.forecast(Duration::from_secs(60), &mut []);
        assert!(sockets.histories.is_empty());
    }

    #[test]
    fn connections_that_a_full_queue_turns_away_are_counted_where_they_knocked() {
        let listener =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None);
        let listener = listener.expect("a socket");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        rustix::net::bind(&listener, &any).expect("a port");
        rustix::net::listen(&listener, 1).expect("listening");
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().expect("an address");
        let dropped = |sockets: &mut Sockets| {
            let mut picture = Picture::default();
            sockets.look(Duration::ZERO, &mut picture);
            let rows = picture.listener_drops.expect("the kernel tells");
            rows.into_iter().find(|row| row.listener == address.to_string()).map_or(0, |row| row.dropped)
        };
        let mut sockets = Sockets::new(&[], &[]);
        assert_eq!(dropped(&mut sockets), 0);
        // a queue for one holds two; nobody accepts
        let held: Vec<_> = (0..2).map(|_| TcpStream::connect(address).expect("in the queue")).collect();
        assert_eq!(dropped(&mut sockets), 0);
        let turned_away = TcpStream::connect_timeout(&address, Duration::from_millis(200));
        assert_eq!(turned_away.map_err(|error| error.kind()).err(), Some(std::io::ErrorKind::TimedOut));
        assert!(dropped(&mut sockets) >= 1);
        drop(held);
    }
}
