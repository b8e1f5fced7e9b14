//! Asks the kernel (NETLINK_SOCK_DIAG) for the sockets of local clients: the user id and inode of each.
//!
//! Few lookups are asked for one by one, so that a trickle of new connections never pays for listing thousands of old
//! ones. Many are answered by one dump per address family and listener port, which the kernel filters. Nothing is kept
//! between batches, and only sockets that were asked for are stored.
//!
//! A match needs all four parts of the connection. States without an owner (TIME_WAIT, closed by an exited process) are
//! reported by the kernel as user 0 and inode 0; they count as "no socket", never as root.

use super::{Lookup, Unresolved};
use std::net::{IpAddr, SocketAddr};
use weir_sock_diag::{Error, Family, Filter, Found, SockDiag as Kernel, States};

/// Up to so many lookups are asked for one by one (one hash lookup in the kernel each; a dump walks its whole table).
const ONE_BY_ONE_MAX: usize = 64;
/// With more listener ports than this, one dump of everything is cheaper than one per port.
const FILTERED_PORTS_MAX: usize = 8;

/// Who owns a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketOwner {
    pub(super) uid: u32,
    pub(super) inode: u32,
}

type Answer = Result<SocketOwner, Unresolved>;

/// The kernel, asked for owners.
#[derive(Debug, Default)]
pub(super) struct SockDiag {
    kernel: Kernel,
}

impl SockDiag {
    /// The owner of each client's socket, in the order asked.
    pub(super) fn owners(&mut self, lookups: &[Lookup]) -> Vec<Answer> {
        let mut answers = vec![Err(Unresolved::NoSocket); lookups.len()];
        let one_by_one = lookups.len() <= ONE_BY_ONE_MAX
            && lookups.iter().all(|lookup| !lookup.weir_addr.ip().to_canonical().is_unspecified());
        let outcome = if one_by_one {
            self.ask_each(lookups, &mut answers)
        } else {
            self.dump(&Wanted::new(lookups), &mut answers)
        };
        if outcome.is_err() {
            // What was found before the error is true; the rest is not "no socket" but unknown.
            for answer in answers.iter_mut().filter(|answer| **answer == Err(Unresolved::NoSocket)) {
                *answer = Err(Unresolved::DumpFailed);
            }
        }
        // 64 KiB are not worth keeping for the next batch.
        self.kernel.release_buffer();
        answers
    }

    /// Questions asked since the last call.
    pub(super) fn take_queries(&mut self) -> u64 {
        self.kernel.take_queries()
    }

    fn ask_each(&mut self, lookups: &[Lookup], answers: &mut [Answer]) -> Result<(), Error> {
        for (lookup, answer) in lookups.iter().zip(answers) {
            // An IPv4 question also finds the IPv6 socket of a client that connected to ::ffff:a.b.c.d.
            if let Some(found) = self.kernel.find(lookup.client_local_addr, lookup.weir_addr)? {
                Wanted::new(std::slice::from_ref(lookup)).take(&found, std::slice::from_mut(answer));
            }
        }
        Ok(())
    }

    fn dump(&mut self, wanted: &Wanted, answers: &mut [Answer]) -> Result<(), Error> {
        let mut ports: Vec<u16> = wanted.by_client.iter().map(|(key, ..)| key.1).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > FILTERED_PORTS_MAX {
            ports = vec![0];
        }
        // Clients seen as IPv4 may hold IPv6 sockets (Java does): IPv6 is always asked.
        let any_v4 = wanted.by_client.iter().any(|(key, ..)| key.0.is_ipv4());
        for family in Family::ALL {
            if family == Family::V4 && !any_v4 {
                continue;
            }
            for port in &ports {
                let filter = Filter { family, states: owned_states(), local_port: 0, remote_port: *port };
                self.kernel.dump(&filter, |found| wanted.take(&found, answers))?;
            }
        }
        Ok(())
    }
}

/// The states in which a client's socket may still have a process.
fn owned_states() -> States {
    States::ESTABLISHED
        | States::FIN_WAIT1
        | States::FIN_WAIT2
        | States::CLOSE_WAIT
        | States::LAST_ACK
        | States::CLOSING
}

/// An IPv4 address is the same address when IPv6 maps it; scope and flow label are not part of the match.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Client address, weir's port, client port: what a dump is searched by.
type Key = (IpAddr, u16, u16);

/// The lookups of a batch, sorted for the search.
struct Wanted {
    /// Key, weir's address (unspecified: any), index of the lookup.
    by_client: Vec<(Key, IpAddr, usize)>,
}

impl Wanted {
    fn new(lookups: &[Lookup]) -> Wanted {
        let key = |(index, lookup): (usize, &Lookup)| {
            let (client, weir) = (plain(lookup.client_local_addr), plain(lookup.weir_addr));
            ((client.ip(), weir.port(), client.port()), weir.ip(), index)
        };
        let mut by_client: Vec<_> = lookups.iter().enumerate().map(key).collect();
        by_client.sort_unstable();
        Wanted { by_client }
    }

    /// Notes the owner of `found` for every lookup it answers.
    fn take(&self, found: &Found, answers: &mut [Answer]) {
        if found.inode == 0 || !found.is_in(&owned_states()) {
            return;
        }
        let key = (found.local.ip(), found.remote.port(), found.local.port());
        let weir = found.remote.ip();
        let owner = SocketOwner { uid: found.uid, inode: found.inode };
        let from = self.by_client.partition_point(|(other, ..)| *other < key);
        for (_, asked, index) in self.by_client[from..].iter().take_while(|(other, ..)| *other == key) {
            if *asked != weir && !asked.is_unspecified() {
                continue;
            }
            answers[*index] = match answers[*index] {
                Err(Unresolved::NoSocket) => Ok(owner),
                Ok(other) if other == owner => Ok(owner),
                _ => Err(Unresolved::Ambiguous),
            };
        }
    }
}
