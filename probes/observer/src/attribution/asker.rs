//! What the asking process may learn: who is at the other end of connections to sockets *it* listens on.
//!
//! Its listening sockets are those of its network namespace (`/proc/PID/net/tcp`, which begins with them) that are in its
//! file table; where the table may not be read, those of its user. Of several sockets that could have taken a connection
//! the one with the most exact address did, so that one has to be the asker's: whoever listens on all addresses learns
//! nothing about the clients of a neighbour that listens on one.

use crate::processes::read::Directory;
use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Shortest time between two looks at what it listens on.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Listening sockets of one namespace that are looked at.
const LISTENERS_MAX: usize = 4_096;
/// Links of its file table that are looked at. A server opens its listening sockets first, so they are at the begin.
const LINKS_MAX: usize = 16_384;
/// `TCP_LISTEN` as these tables write it.
const LISTEN: &str = "0A";

/// A process that asks.
#[derive(Debug)]
pub(super) struct Asker {
    directory: Directory,
    uid: u32,
    /// Its network namespace.
    pub(super) network: u64,
    /// Sockets on ports that it listens on, its own and others'.
    listeners: Vec<Listener>,
    looked_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listener {
    address: SocketAddr,
    is_own: bool,
}

impl Asker {
    /// `None`: it cannot be seen, or not which network it is in.
    pub(super) fn new(directory: Directory, uid: u32) -> Option<Asker> {
        let network = directory.network()?;
        Some(Asker { directory, uid, network, listeners: Vec::new(), looked_at: None })
    }

    /// Whether a connection to this address is the asker's to know about.
    pub(super) fn listens_on(&mut self, address: SocketAddr, now: Instant) -> bool {
        if accepts(&self.listeners, address) {
            return true;
        }
        self.look(now) && accepts(&self.listeners, address)
    }

    /// Looks again, unless it did so a moment ago.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        if self.looked_at.is_some_and(|at| now.saturating_duration_since(at) < LOOK_INTERVAL) {
            return false;
        }
        self.looked_at = Some(now);
        let mut found = Vec::new();
        for table in [c"net/tcp", c"net/tcp6"] {
            self.directory.lines(table, |line| {
                let Some(row) = listening(line) else { return false };
                found.push(row);
                found.len() < LISTENERS_MAX
            });
        }
        let inodes: HashSet<u64> = found.iter().map(|row| row.inode).collect();
        let mut budget = LINKS_MAX;
        let held = self.directory.sockets(&inodes, &mut budget);
        let is_own = |row: &Row| match &held {
            Some(held) => held.contains(&row.inode),
            None => row.uid == self.uid,
        };
        let ports: HashSet<u16> =
            found.iter().filter(|row| is_own(row)).map(|row| row.address.port()).collect();
        self.listeners = found
            .iter()
            .filter(|row| ports.contains(&row.address.port()))
            .map(|row| Listener { address: row.address, is_own: is_own(row) })
            .collect();
        true
    }

    /// The ports it listens on.
    pub(super) fn ports(&self) -> Vec<u16> {
        let mut ports: Vec<u16> =
            self.listeners.iter().filter(|one| one.is_own).map(|one| one.address.port()).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

/// Whether the most exact of these that could take a connection to `address` is the asker's own.
fn accepts(listeners: &[Listener], address: SocketAddr) -> bool {
    let exactness = |one: &Listener| match (one.address.ip(), address.ip()) {
        (own, asked) if own == asked => Some(2),
        (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(_)) => Some(1),
        // For IPv4, too, unless it was told otherwise, which cannot be seen here.
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(_)) => Some(1),
        (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(_)) => Some(0),
        _ => None,
    };
    let fits = listeners.iter().filter(|one| one.address.port() == address.port());
    // Several sockets with one address (SO_REUSEPORT) share connections: one of them has to be the asker's.
    fits.filter_map(|one| exactness(one).map(|exact| (exact, one.is_own)))
        .max()
        .is_some_and(|(_, is_own)| is_own)
}

/// A row of `/proc/net/tcp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

/// `  0: 0100007F:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 ...`: nothing for a
/// socket that does not listen.
fn listening(line: &str) -> Option<Row> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // Words as the machine stores them, of an address in network order.
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut all = [0; 16];
            for (at, place) in all.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            IpAddr::from(all).to_canonical()
        }
        _ => return None,
    };
    Some(Row { address: SocketAddr::new(address, port), uid, inode })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::path::Path;

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_of_both_families_are_read() {
        let row = "   0: 0100007F:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 98765 1 0000000000000000 100 0 0 10 0";
        let address = "127.0.0.1:11211".parse().expect("an address");
        assert_eq!(listening(row), Some(Row { address, uid: 1_000, inode: 98_765 }));
        let row = "   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7 1 0 100 0 0 10 0";
        let address = "[::1]:8080".parse().expect("an address");
        assert_eq!(listening(row), Some(Row { address, uid: 0, inode: 7 }));
        assert_eq!(listening(&row.replace(" 0A ", " 06 ")), None, "TIME_WAIT");
        for line in [
            "",
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            "0: x:y 0 0A 0 0 0 0 0 1",
        ] {
            assert_eq!(listening(line), None);
        }
    }

    #[test]
    fn the_most_exact_socket_has_to_be_the_askers() {
        let one = |address: &str, is_own| Listener { address: address.parse().expect("an address"), is_own };
        let asked = |address: &str| address.parse::<SocketAddr>().expect("an address");
        let all = [one("0.0.0.0:80", true)];
        assert!(accepts(&all, asked("127.0.0.1:80")) && accepts(&all, asked("10.1.2.3:80")));
        assert!(!accepts(&all, asked("127.0.0.1:81")) && !accepts(&all, asked("[::1]:80")));
        let beside = [one("0.0.0.0:80", true), one("127.0.0.1:80", false)];
        assert!(!accepts(&beside, asked("127.0.0.1:80")), "a neighbour's");
        assert!(accepts(&beside, asked("127.0.0.2:80")));
        let dual = [one("[::]:80", true), one("0.0.0.0:80", false)];
        assert!(!accepts(&dual, asked("127.0.0.1:80")) && accepts(&dual, asked("[::1]:80")));
        let shared = [one("127.0.0.1:80", false), one("127.0.0.1:80", true)];
        assert!(accepts(&shared, asked("127.0.0.1:80")), "SO_REUSEPORT");
        assert!(!accepts(&[], asked("127.0.0.1:80")));
    }

    #[test]
    fn what_this_process_listens_on_is_found_and_found_again_later() {
        let first = TcpListener::bind("127.0.0.1:0").expect("a port");
        let v6 = TcpListener::bind("[::1]:0").ok();
        let directory = Directory::open(Path::new("/proc"), std::process::id()).expect("it runs");
        let mut asker = Asker::new(directory, rustix::process::geteuid().as_raw()).expect("seen");
        let now = Instant::now();
        let address = |listener: &TcpListener| listener.local_addr().expect("an address");
        assert!(asker.listens_on(address(&first), now));
        assert!(asker.ports().contains(&address(&first).port()));
        if let Some(v6) = &v6 {
            assert!(asker.listens_on(address(v6), now));
        }
        let second = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(!asker.listens_on(address(&second), now), "it looked a moment ago");
        assert!(asker.listens_on(address(&second), now + LOOK_INTERVAL));
        assert!(asker.listens_on(address(&first), now + LOOK_INTERVAL));
    }

    #[test]
    fn what_others_listen_on_is_nobodys_business() {
        let mut command = std::process::Command::new("/bin/sleep");
        let mut child = command.arg("60").spawn().expect("a child");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let directory = Directory::open(Path::new("/proc"), child.id()).expect("it runs");
        let mut asker = Asker::new(directory, rustix::process::geteuid().as_raw()).expect("seen");
        let found = asker.listens_on(listener.local_addr().expect("an address"), Instant::now());
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(!found, "the same user, another process");
    }
}
