//! Connections found by looking: sock_diag tells which sockets are connected to the ports that somebody asks about, and
//! `/proc` which process holds each of them. For hosts where no kernel program tells of connects, and beside one for
//! connections that are older than it, or that it could not tell of.
//!
//! Against weir's own look it has three things: it sees processes of every user (with CAP_SYS_PTRACE), it looks now and then
//! and not only when asked, and what it saw it keeps. A process that connects and exits between two looks is not seen; that
//! takes the kernel program.
//!
//! A look costs one dump for each family and port, which the kernel filters, and a walk over file tables for sockets that are
//! new. After one that took time `t` the next waits at least nine times `t`. While nobody is connected to the attribution
//! socket there is none. Only the network namespace of this process is looked into.

use super::connects::{Connects, lock};
use crate::processes::holders::Holders;
use crate::processes::read::Directory;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use weir_attribution::Question;
use weir_sock_diag::{Family, Filter, SockDiag, States};

/// Shortest time to a look that a question asks for.
pub const ASKED_INTERVAL: Duration = Duration::from_millis(10);
/// A look that took time `t` is followed by so many times `t` of rest, whoever asks.
const REST_PER_LOOK: u32 = 9;
/// Sockets of one look; the rest is left out.
const SOCKETS_MAX: usize = super::connects::CONNECTS_MAX;
/// With more ports than this, one dump of everything is cheaper than one for each.
const FILTERED_PORTS_MAX: usize = 8;

/// Whoever looks.
#[derive(Debug)]
pub(super) struct Looker {
    connects: Arc<Connects>,
    network: u64,
    diag: SockDiag,
    holders: Holders,
    /// The holder of each socket of the last look; `None`: nobody could be found.
    known: HashMap<(u64, Question), Option<Arc<crate::picture::Process>>>,
    last: Option<Instant>,
    rest_until: Option<Instant>,
}

impl Looker {
    /// Looks for `connects` into this process's network namespace, when it is told to.
    pub(super) fn new(connects: &Arc<Connects>) -> std::io::Result<Looker> {
        let own = Directory::named(Path::new("/proc"), "self").and_then(|own| own.network());
        let network = own.ok_or_else(|| std::io::Error::other("/proc/self/ns/net cannot be read"))?;
        Ok(Looker {
            connects: connects.clone(),
            network,
            diag: SockDiag::default(),
            holders: Holders::default(),
            known: HashMap::new(),
            last: None,
            rest_until: None,
        })
    }

    /// Looks, unless that was done within `interval`, or costs too much to be done again already. Says whether it did.
    pub(super) fn look_unless(&mut self, now: Instant, interval: Duration) -> bool {
        let fresh = self.last.is_some_and(|last| now.saturating_duration_since(last) < interval);
        if fresh || self.rest_until.is_some_and(|until| now < until) {
            return false;
        }
        self.look(now);
        self.last = Some(now);
        self.rest_until = Some(now + now.elapsed() * (1 + REST_PER_LOOK));
        true
    }

    fn look(&mut self, now: Instant) {
        let ports = self.connects.watched(self.network);
        let mut found: Vec<(u64, Question)> = Vec::new();
        let asked: &[u16] = if ports.len() > FILTERED_PORTS_MAX { &[0] } else { &ports };
        for (family, port) in
            Family::ALL.iter().flat_map(|family| asked.iter().map(move |port| (*family, *port)))
        {
            let filter = Filter { family, states: owned_states(), local_port: 0, remote_port: port };
            // What one dump could not tell the next look will; other dumps are true all the same.
            let _ = self.diag.dump(&filter, |socket| {
                if socket.inode != 0 && ports.contains(&socket.remote.port()) && found.len() < SOCKETS_MAX {
                    let ends = Question { client: socket.local, weir: socket.remote };
                    found.push((u64::from(socket.inode), ends.plain()));
                }
            });
        }
        self.diag.release_buffer();

        let old = std::mem::take(&mut self.known);
        let is_new = |socket: &&(u64, Question)| !old.contains_key(*socket);
        let new: Vec<u64> = found.iter().filter(is_new).map(|(inode, _)| *inode).collect();
        let held = if new.is_empty() { HashMap::new() } else { self.holders.find(Path::new("/proc"), new) };
        for socket in found {
            let process = match old.get(&socket) {
                Some(process) => process.clone(),
                None => held.get(&socket.0).and_then(|pid| {
                    lock(self.connects.processes()).latest(*pid, now).map(|known| known.process)
                }),
            };
            if let Some(process) = &process {
                self.connects.seen(self.network, socket.1, process.clone(), now);
            }
            self.known.insert(socket, process);
        }
    }
}

/// The states in which a socket may still have a process.
fn owned_states() -> States {
    States::ESTABLISHED
        | States::FIN_WAIT1
        | States::FIN_WAIT2
        | States::CLOSE_WAIT
        | States::LAST_ACK
        | States::CLOSING
}
