//! Sockets of one network namespace, counted by destination, direction, source and state. Whoever lists sockets adds them
//! one by one; what is kept is bounded whatever they are.

use super::seats::Seats;
use crate::picture::{Destination, Direction, PortUse, SocketCount, Source, State};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

/// Most pairs of source and destination that are counted by themselves during one look (about 10 MB); what comes on top
/// counts as `_other`.
pub const PAIRS_SEEN: usize = 65_536;

/// The endpoints that somebody listens on.
#[derive(Debug, Default)]
pub struct Listening {
    at: HashSet<SocketAddr>,
}

impl Listening {
    /// Adds an endpoint; an unspecified address is every address of its family, `[::]` those of IPv4 as well.
    pub fn add(&mut self, endpoint: SocketAddr) {
        self.at.insert(endpoint);
    }

    /// Whether a connection that ends here was accepted here.
    #[must_use]
    pub fn accepts(&self, local: SocketAddr) -> bool {
        let any = |address: IpAddr| self.at.contains(&SocketAddr::new(address, local.port()));
        self.at.contains(&local)
            || any(IpAddr::from([0_u16; 8]))
            || (local.is_ipv4() && any(IpAddr::from([0_u8; 4])))
    }
}

/// `None`: counted as `_other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pair {
    direction: Direction,
    destination: Option<SocketAddr>,
    /// Of an outgoing connection.
    source: Option<IpAddr>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    states: [u32; State::ALL.len()],
    /// Outgoing connections with a port of the namespace's range, and those of them in TIME_WAIT.
    ports: u32,
    waiting: u32,
}

/// The count of one namespace.
#[derive(Debug, Default)]
pub struct Tally {
    pairs: HashMap<Pair, Counts>,
}

impl Tally {
    /// Adds a connection. Addresses are plain: IPv4 is IPv4 also where IPv6 maps it. `in_range`: its local port is one that
    /// connections get by themselves.
    pub fn add(
        &mut self,
        direction: Direction,
        local: SocketAddr,
        remote: SocketAddr,
        state: State,
        in_range: bool,
    ) {
        let pair = match direction {
            // Scope and flow label are not part of a name.
            Direction::Outgoing => Pair {
                direction,
                destination: Some(SocketAddr::new(remote.ip(), remote.port())),
                source: Some(local.ip()),
            },
            Direction::Incoming => {
                Pair { direction, destination: Some(SocketAddr::new(local.ip(), local.port())), source: None }
            }
        };
        let room = self.pairs.len() < PAIRS_SEEN || self.pairs.contains_key(&pair);
        let pair = if room { pair } else { Pair { direction, destination: None, source: None } };
        let counts = self.pairs.entry(pair).or_default();
        counts.states[state as usize] += 1;
        if direction == Direction::Outgoing && in_range {
            counts.ports += 1;
            counts.waiting += u32::from(state == State::TimeWait);
        }
    }

    /// How many sockets each destination, and how many ports each source has, added to those of other namespaces.
    pub fn weigh(&self, destinations: &mut HashMap<SocketAddr, u64>, sources: &mut HashMap<IpAddr, u64>) {
        for (pair, counts) in &self.pairs {
            let sockets = counts.states.iter().map(|count| u64::from(*count)).sum::<u64>();
            if let Some(destination) = pair.destination {
                *destinations.entry(destination).or_default() += sockets;
            }
            if let Some(source) = pair.source {
                *sources.entry(source).or_default() += sockets;
            }
        }
    }

    /// What the picture shows: those that have no seat count together, and those that have one whatever is seen show their
    /// zeros. `capacity` is the namespace's; no forecast yet.
    #[must_use]
    pub fn shown(
        &self,
        namespace: &str,
        destinations: &Seats<SocketAddr>,
        sources: &Seats<IpAddr>,
        capacity: Option<u64>,
    ) -> (Vec<SocketCount>, Vec<PortUse>) {
        let mut sockets: BTreeMap<(Destination, Direction, State), u64> = BTreeMap::new();
        let mut ports: BTreeMap<(Source, Destination), (u64, u64)> = BTreeMap::new();
        for watched in destinations.fixed().map(|one| Destination::One(one.to_string())) {
            for state in [State::Established, State::TimeWait] {
                sockets.insert((watched.clone(), Direction::Outgoing, state), 0);
            }
        }
        for (pair, counts) in &self.pairs {
            let destination = match pair.destination {
                Some(one) if destinations.holds(&one) => Destination::One(one.to_string()),
                _ => Destination::Other,
            };
            for (state, count) in State::ALL.into_iter().zip(counts.states).filter(|(_, count)| *count > 0) {
                *sockets.entry((destination.clone(), pair.direction, state)).or_default() += u64::from(count);
            }
            if counts.ports > 0 {
                let source = match pair.source {
                    Some(one) if sources.holds(&one) => Source::One(one),
                    Some(IpAddr::V4(one)) if one.is_loopback() => Source::Loopback,
                    _ => Source::Other,
                };
                let most = ports.entry((source, destination)).or_default();
                *most = (*most).max((counts.ports.into(), counts.waiting.into()));
            }
        }
        let namespace = namespace.to_owned();
        let sockets = sockets.into_iter().map(|((destination, direction, state), sockets)| SocketCount {
            namespace: namespace.clone(),
            destination,
            direction,
            state,
            sockets,
        });
        let ports = ports.into_iter().map(|((source, destination), (used, time_wait))| PortUse {
            namespace: namespace.clone(),
            source,
            destination,
            used,
            time_wait,
            capacity,
            exhausted_in: None,
        });
        (sockets.collect(), ports.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(text: &str) -> SocketAddr {
        text.parse().expect("an endpoint")
    }

    /// Counts outgoing connections `(local, remote, state)` and shows them with so many seats.
    fn shown(
        connections: &[(String, &str, State)],
        seats: (usize, usize),
    ) -> (Vec<SocketCount>, Vec<PortUse>) {
        let mut tally = Tally::default();
        for (local, remote, state) in connections {
            let local = at(local);
            tally.add(Direction::Outgoing, local, at(remote), *state, local.port() >= 40_000);
        }
        let (mut destinations, mut sources) = (HashMap::new(), HashMap::new());
        tally.weigh(&mut destinations, &mut sources);
        let (mut first, mut second) = (Seats::new(seats.0, Vec::new()), Seats::new(seats.1, Vec::new()));
        first.assign(&destinations, Duration::ZERO);
        second.assign(&sources, Duration::ZERO);
        tally.shown("host", &first, &second, Some(100))
    }

    #[test]
    fn a_listener_accepts_at_its_address_or_at_every_one() {
        let mut listening = Listening::default();
        for endpoint in ["127.0.0.1:1", "0.0.0.0:2", "[::]:3", "[::1]:4"] {
            listening.add(at(endpoint));
        }
        for accepted in ["127.0.0.1:1", "10.0.0.1:2", "10.0.0.1:3", "[2001:db8::1]:3", "[::1]:4"] {
            assert!(listening.accepts(at(accepted)), "{accepted}");
        }
        for connected in ["127.0.0.2:1", "[::1]:2", "[::2]:4", "127.0.0.1:4"] {
            assert!(!listening.accepts(at(connected)), "{connected}");
        }
    }

    #[test]
    fn states_and_ports_are_counted_by_pair() {
        let mut connections: Vec<_> = (40_000..40_030)
            .map(|port| (format!("127.0.0.1:{port}"), "127.0.0.1:11211", State::TimeWait))
            .collect();
        connections.push(("127.0.0.1:40050".to_owned(), "127.0.0.1:11211", State::Established));
        connections.push(("127.0.0.1:40050".to_owned(), "127.0.0.1:9042", State::Established));
        connections.push(("127.0.0.1:39999".to_owned(), "127.0.0.1:11211", State::Established));
        let (sockets, ports) = shown(&connections, (64, 16));
        let states: Vec<_> =
            sockets.iter().map(|row| (row.destination.label(), row.state.name(), row.sockets)).collect();
        let memcached = "127.0.0.1:11211";
        assert_eq!(
            states,
            [
                (memcached, "established", 2),
                (memcached, "time_wait", 30),
                ("127.0.0.1:9042", "established", 1)
            ]
        );
        let used: Vec<_> =
            ports.iter().map(|row| (row.destination.label(), row.used, row.time_wait)).collect();
        assert_eq!(used, [(memcached, 31, 30), ("127.0.0.1:9042", 1, 0)], "port 39999 is not of the range");
        assert!(ports.iter().all(|row| row.capacity == Some(100) && row.source.label() == "127.0.0.1"));
    }

    #[test]
    fn a_watched_destination_without_sockets_has_its_zeros() {
        let watched = Seats::new(1, vec![at("127.0.0.1:11211")]);
        let (sockets, ports) =
            Tally::default().shown("host", &watched, &Seats::new(1, Vec::new()), Some(100));
        let rows: Vec<_> =
            sockets.iter().map(|row| (row.destination.label(), row.state.name(), row.sockets)).collect();
        assert_eq!(rows, [("127.0.0.1:11211", "established", 0), ("127.0.0.1:11211", "time_wait", 0)]);
        assert!(ports.is_empty(), "a source that nobody connects from is none");
    }

    #[test]
    fn sources_beyond_the_bound_fold_and_show_the_fullest_pair() {
        let mut connections = Vec::new();
        for host in 1..=200_u32 {
            for port in 0..=(host / 100) {
                let local = format!("127.0.{host}.1:{}", 40_000 + port);
                connections.push((local, "127.0.0.1:11211", State::Established));
            }
        }
        connections.push(("10.0.0.9:40001".to_owned(), "10.0.0.1:11211", State::TimeWait));
        let (sockets, ports) = shown(&connections, (1, 0));
        let rows: Vec<_> =
            ports.iter().map(|row| (row.source.label(), row.destination.label(), row.used)).collect();
        assert_eq!(
            rows,
            [("127.0.0.0/8".to_owned(), "127.0.0.1:11211", 3), ("_other".to_owned(), "_other", 1)]
        );
        let all: u64 = sockets.iter().map(|row| row.sockets).sum();
        assert_eq!(all, connections.len() as u64, "sockets add up");
    }

    #[test]
    fn many_pairs_take_bounded_memory_and_none_is_lost() {
        let mut tally = Tally::default();
        let local = at("10.0.0.1:40000");
        for index in 0..200_000_u32 {
            let remote = SocketAddr::new(IpAddr::from(index.to_be_bytes()), 443);
            tally.add(Direction::Outgoing, local, remote, State::Established, true);
        }
        assert!(tally.pairs.len() <= PAIRS_SEEN + 1, "{}", tally.pairs.len());
        let (sockets, _) = tally.shown("host", &Seats::new(0, Vec::new()), &Seats::new(0, Vec::new()), None);
        assert_eq!(sockets.len(), 1);
        assert_eq!((sockets[0].destination.label(), sockets[0].sockets), ("_other", 200_000));
    }
}
