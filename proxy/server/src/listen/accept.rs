//! Takes connections until none waits. One readiness event is one loop over the backlog, so a storm of connections costs
//! one wake-up and not one per connection.
//!
//! **When no descriptor is left** (EMFILE, ENFILE) the connections stay in the backlog, the listener stays readable and a
//! naive loop spins. Instead one descriptor is kept in [`Reserve`]: it is given up, up to [`SHED_MAX`] waiting clients
//! are accepted with it one after the other, told why and closed, and accepting rests for [`PAUSE`]. Clients learn at
//! once that they are not served, instead of hanging in a queue. [`turn_all_away`] does the same where descriptors are
//! left, but none for clients.

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with, acceptfrom_with};
use socket2::SockRef;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::ListenSocket;

/// How long accepting rests after descriptors or memory ran out.
pub const PAUSE: Duration = Duration::from_millis(100);
/// Clients turned away per pause.
pub const SHED_MAX: usize = 64;

/// Who connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(SocketAddr),
    /// A client on a Unix socket; who it is, `attribution::unix_peer` tells.
    Unix,
}

/// What one call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Connections handed over.
    pub accepted: usize,
    /// Connections turned away because no descriptor was left.
    pub shed: usize,
    /// Connections that were gone before they could be accepted.
    pub aborted: usize,
    /// When to call again.
    pub next: Next,
}

/// When to accept again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// None waits: at the next readiness.
    Readiness,
    /// More may wait: soon, after the others had their turn.
    Soon,
    /// Something ran out: after this time, and not before, although the listener is readable.
    Pause(Duration, Shortage),
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// Descriptors of the process (RLIMIT_NOFILE) or of the system.
    Descriptors,
    /// Kernel memory.
    Memory,
}

/// A descriptor kept for the day there is no other. One per worker.
#[derive(Debug)]
pub struct Reserve(Option<OwnedFd>);

impl Reserve {
    /// Takes a descriptor.
    ///
    /// # Errors
    /// When there is none left already.
    pub fn new() -> io::Result<Reserve> {
        Ok(Reserve(Some(File::open("/dev/null")?.into())))
    }

    /// Takes one again if it was given up; while there is none, nobody can be turned away and clients wait.
    fn refill(&mut self) {
        if self.0.is_none() {
            self.0 = File::open("/dev/null").ok().map(OwnedFd::from);
        }
    }
}

/// Hands over waiting connections (non-blocking, close-on-exec, TCP with NODELAY), at most `max` of them. A client that
/// is turned away for want of a descriptor reads `farewell` first.
///
/// # Errors
/// When the listener itself is broken; whatever concerns one connection only is counted instead.
pub fn accept_all(
    listener: &ListenSocket,
    max: usize,
    reserve: &mut Reserve,
    farewell: &[u8],
    mut each: impl FnMut(OwnedFd, Peer),
) -> io::Result<Accepted> {
    let mut outcome = Accepted { accepted: 0, shed: 0, aborted: 0, next: Next::Soon };
    reserve.refill();
    while outcome.accepted + outcome.aborted < max {
        match accept(listener) {
            Ok((stream, peer)) => {
                outcome.accepted += 1;
                each(stream, peer);
            }
            Err(Errno::AGAIN) => {
                outcome.next = Next::Readiness;
                break;
            }
            Err(Errno::MFILE | Errno::NFILE) => {
                outcome.shed = shed(listener, reserve, farewell).0;
                outcome.next = Next::Pause(PAUSE, Shortage::Descriptors);
                break;
            }
            Err(Errno::NOMEM | Errno::NOBUFS) => {
                outcome.next = Next::Pause(PAUSE, Shortage::Memory);
                break;
            }
            Err(error) if concerns_one_connection(error) => outcome.aborted += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(outcome)
}

/// Takes waiting connections only to say `farewell`: at most [`SHED_MAX`] of them, and then accepting rests. With nobody
/// waiting the answer is [`Next::Readiness`].
pub fn turn_all_away(listener: &ListenSocket, reserve: &mut Reserve, farewell: &[u8]) -> Accepted {
    reserve.refill();
    let (shed, none_waits) = shed(listener, reserve, farewell);
    let next = match shed == 0 && none_waits {
        true => Next::Readiness,
        false => Next::Pause(PAUSE, Shortage::Descriptors),
    };
    Accepted { accepted: 0, shed, aborted: 0, next }
}

fn accept(listener: &ListenSocket) -> Result<(OwnedFd, Peer), Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    match listener {
        ListenSocket::Unix(socket) => Ok((accept_with(socket, flags)?, Peer::Unix)),
        ListenSocket::Tcp(socket) => {
            let (stream, peer) = acceptfrom_with(socket, flags)?;
            // A connection without an address was reset between the handshake and now.
            let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
            // Set here and not once on the listener: connections that waited at an inherited socket would miss it. One
            // that is dead already may refuse it.
            let _ = rustix::net::sockopt::set_tcp_nodelay(&stream, true);
            Ok((stream, Peer::Tcp(peer)))
        }
    }
}

/// Errors of accept(2) that say nothing about the listener: the connection died in the queue, a firewall refused it, or
/// its network error is passed on.
fn concerns_one_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::PERM
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::NONET
            | Errno::HOSTUNREACH
            | Errno::NETUNREACH
            | Errno::TIMEDOUT
    )
}

/// Turns waiting clients away with the reserve's descriptor. Another thread may snatch it: then nobody is turned away
/// this time. Says how many it was, and whether nobody waits any more.
fn shed(listener: &ListenSocket, reserve: &mut Reserve, farewell: &[u8]) -> (usize, bool) {
    if reserve.0.take().is_none() {
        return (0, false);
    }
    let (mut count, mut none_waits) = (0, false);
    while count < SHED_MAX {
        match accept(listener) {
            Ok((stream, _)) => {
                count += 1;
                turn_away(&stream, farewell);
            }
            Err(error) => {
                none_waits = error == Errno::AGAIN;
                break;
            }
        }
    }
    reserve.refill();
    (count, none_waits)
}

/// Best effort: a client that does not take these few bytes is closed without them.
fn turn_away(stream: impl AsFd, farewell: &[u8]) {
    if farewell.is_empty() {
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    } else {
        let _ = rustix::net::send(stream, farewell, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}
