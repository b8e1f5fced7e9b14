//! Socket activation: listening sockets that a service manager opened before this process started and keeps open while
//! it restarts, so that clients wait in the backlog instead of being refused.
//!
//! The protocol is systemd's: `LISTEN_PID` names this process, `LISTEN_FDS` counts descriptors from 3 on,
//! `LISTEN_FDNAMES` names them (`FileDescriptorName=`), separated by colons.

use rustix::io::FdFlags;
use socket2::SockRef;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use weir_engine::settings::Address;

/// The first descriptor that is passed on.
const FIRST: i32 = 3;
/// Sockets that may be passed on; more are a mistake.
const COUNT_MAX: i32 = 1024;

/// A socket that was open when this process started.
#[derive(Debug)]
pub struct Inherited {
    /// Its name, `unknown` where the service manager gave none.
    pub name: String,
    /// The socket.
    pub fd: OwnedFd,
}

/// The sockets passed on to this process. Each is given away once: later calls return nothing.
///
/// # Errors
/// When the variables are there but make no sense, or a descriptor they promise is not open.
pub fn inherited() -> io::Result<Vec<Inherited>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| std::env::var(name).ok();
    let for_us = variable("LISTEN_PID").is_some_and(|pid| pid.parse() == Ok(std::process::id()));
    let Some(count) = variable("LISTEN_FDS").filter(|_| for_us) else { return Ok(Vec::new()) };
    let count: i32 = count
        .parse()
        .ok()
        .filter(|count| (0..=COUNT_MAX).contains(count))
        .ok_or_else(|| invalid(format!("LISTEN_FDS is `{count}`, not a number up to {COUNT_MAX}")))?;
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    (FIRST..FIRST + count)
        .map(|number| {
            let fd = take(number)?;
            rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
            Ok(Inherited { name: names.next().unwrap_or("unknown").to_owned(), fd })
        })
        .collect()
}

/// Takes the socket for a door out of the list: the one with the door's name, else the one bound to its address.
pub fn take_matching(sockets: &mut Vec<Inherited>, name: &str, address: &Address) -> Option<OwnedFd> {
    let at = sockets
        .iter()
        .position(|socket| socket.name == name)
        .or_else(|| sockets.iter().position(|socket| is_bound_to(socket, address)))?;
    Some(sockets.remove(at).fd)
}

fn is_bound_to(socket: &Inherited, address: &Address) -> bool {
    let Ok(local) = SockRef::from(&socket.fd).local_addr() else { return false };
    match address {
        Address::Tcp { host, port } => {
            let Some(local) = local.as_socket() else { return false };
            // Names are not resolved for this: give such a socket the door's name.
            local.port() == *port && host.parse() == Ok(local.ip())
        }
        Address::Unix { path } => local.as_pathname() == Some(Path::new(path.as_ref())),
        _ => false,
    }
}

/// Takes possession of a descriptor by its number.
#[expect(
    unsafe_code,
    reason = "the protocol passes descriptors by number; only the caller's promise makes them ours"
)]
fn take(number: i32) -> io::Result<OwnedFd> {
    if !Path::new("/proc/self/fd").join(number.to_string()).exists() {
        return Err(invalid(format!("LISTEN_FDS promises descriptor {number}, which is not open")));
    }
    // SAFETY: the descriptor is open (checked above). LISTEN_PID names this process, so whoever started it passed the
    // descriptor on for it to own; and this runs once, so nothing else in the process got it from here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}
