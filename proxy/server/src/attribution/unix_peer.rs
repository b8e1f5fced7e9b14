//! Who is at the other end of a Unix socket. The kernel notes the peer when it connects (SO_PEERCRED), so one call
//! tells; the name costs three more (open, read and close of `/proc/PID/comm`) and is kept for [`NAME_TTL`], so that a
//! storm of connections from one process costs nothing.
//!
//! What the kernel noted is the process that *connected*. If it exited since, there is no name, only the user. A pid that
//! is used again within [`NAME_TTL`] would need the whole pid space to wrap in that time; a name read afresh after it is
//! that of whoever has the pid now, so a socket that was handed on by a process that exited may, after a wrap, be named
//! after a stranger. Limits and queues go by the user id, which cannot be wrong.
//!
//! A peer in another pid namespace (a container) has pid 0 or a pid that is not in weir's `/proc`: user only.

use super::caller_name;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a name is believed.
pub const NAME_TTL: Duration = Duration::from_secs(1);
/// Names kept.
pub const NAMES_MAX: usize = 256;

/// The process at the other end, as the kernel noted it when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerCred {
    /// Process id in weir's pid namespace; `None` when it has none there.
    pub pid: Option<u32>,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

/// A peer and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    /// What the kernel vouches for.
    pub cred: PeerCred,
    /// The process name (`_invalid` where it breaks the rule for names); `None` when there is no such process to see.
    pub process_name: Option<Arc<str>>,
}

impl UnixPeer {
    /// What the caller is called: its process name, else `uid:N`.
    #[must_use]
    pub fn name(&self) -> Arc<str> {
        self.process_name.clone().unwrap_or_else(|| format!("uid:{}", self.cred.uid).into())
    }
}

/// SO_PEERCRED of a connected Unix socket.
///
/// # Errors
/// When `socket` is not a connected Unix socket.
#[expect(
    unsafe_code,
    reason = "std has no stable call, and rustix's type cannot hold the pid 0 of another namespace"
)]
pub fn peer_cred(socket: BorrowedFd<'_>) -> io::Result<PeerCred> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `length` bytes, the size of
    // `cred`, and every bit pattern is a valid `ucred`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    if length as usize != size_of::<libc::ucred>() || cred.uid == u32::MAX {
        // Other kinds of sockets answer -1 for everybody.
        return Err(io::ErrorKind::NotConnected.into());
    }
    Ok(PeerCred { pid: u32::try_from(cred.pid).ok().filter(|pid| *pid > 0), uid: cred.uid, gid: cred.gid })
}

/// Names of Unix peers, kept for a short while. One per worker.
#[derive(Debug, Default)]
pub struct UnixPeers {
    names: HashMap<u32, (Instant, Arc<str>)>,
}

impl UnixPeers {
    /// Who is at the other end of `socket`.
    ///
    /// # Errors
    /// When `socket` is not a connected Unix socket.
    pub fn identify(&mut self, socket: impl AsFd, now: Instant) -> io::Result<UnixPeer> {
        let cred = peer_cred(socket.as_fd())?;
        let process_name = cred.pid.and_then(|pid| self.name_of(pid, now));
        Ok(UnixPeer { cred, process_name })
    }

    fn name_of(&mut self, pid: u32, now: Instant) -> Option<Arc<str>> {
        let fresh = |read: &Instant| now.saturating_duration_since(*read) < NAME_TTL;
        if let Some((_, name)) = self.names.get(&pid).filter(|(read, _)| fresh(read)) {
            return Some(Arc::clone(name));
        }
        let Ok(comm) = std::fs::read(format!("/proc/{pid}/comm")) else {
            self.names.remove(&pid);
            return None;
        };
        if self.names.len() >= NAMES_MAX {
            self.names.retain(|_, (read, _)| fresh(read));
        }
        if self.names.len() >= NAMES_MAX {
            self.names.clear();
        }
        let name = caller_name(&comm);
        self.names.insert(pid, (now, Arc::clone(&name)));
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_peer_is_named_after_its_process() {
        let (here, _there) = UnixStream::pair().expect("a pair of sockets");
        let mut peers = UnixPeers::default();
        let peer = peers.identify(&here, Instant::now()).expect("credentials");
        let comm = std::fs::read("/proc/self/comm").expect("own name");
        assert_eq!(peer.cred.pid, Some(std::process::id()));
        assert_eq!(peer.cred.uid, rustix::process::getuid().as_raw());
        assert_eq!(peer.process_name, Some(caller_name(&comm)));
        assert_eq!(peer.name(), caller_name(&comm));
    }

    #[test]
    fn without_a_process_there_is_only_the_user() {
        let cred = PeerCred { pid: None, uid: 1234, gid: 1 };
        assert_eq!(&*UnixPeer { cred, process_name: None }.name(), "uid:1234");
        let mut peers = UnixPeers::default();
        assert_eq!(peers.name_of(u32::MAX, Instant::now()), None, "no such process");
        assert!(peers.names.is_empty());
    }

    #[test]
    fn other_sockets_are_refused() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(peer_cred(socket.as_fd()).is_err());
    }

    #[test]
    fn names_are_bounded_and_grow_old() {
        let mut peers = UnixPeers::default();
        let then = Instant::now();
        for pid in 0..NAMES_MAX as u32 {
            peers.names.insert(pid + 10_000_000, (then, "filler".into()));
        }
        let own = std::process::id();
        assert!(peers.name_of(own, then).is_some());
        assert!(peers.names.len() <= NAMES_MAX);

        peers.names.insert(own, (then, "believed".into()));
        assert_eq!(peers.name_of(own, then + NAME_TTL / 2).as_deref(), Some("believed"));
        assert_ne!(peers.name_of(own, then + NAME_TTL).as_deref(), Some("believed"));
    }
}
