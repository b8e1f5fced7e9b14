//! Tells the service manager how weir is doing: systemd's protocol, one datagram per message.
//!
//! `WATCHDOG=1` is sent only while every worker's loop turns, so that a stalled one gets weir restarted.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    #[must_use]
    pub fn from_environment() -> Notify {
        let text = |name: &str| std::env::var(name).ok();
        let for_us = text("WATCHDOG_PID").is_none_or(|pid| pid.parse() == Ok(std::process::id()));
        let watchdog = text("WATCHDOG_USEC").and_then(|micros| micros.parse().ok()).filter(|_| for_us);
        Notify {
            socket: std::env::var_os("NOTIFY_SOCKET").and_then(|name| open(&name)),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// The longest time without a sign of life that the service manager allows.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog.filter(|_| self.socket.is_some())
    }

    /// Sends one message. Nobody to tell, or a full queue, is no reason not to serve.
    pub fn send(&self, message: &str) {
        if let Some((socket, to)) = &self.socket {
            let _ = socket.send_to_addr(message.as_bytes(), to);
        }
    }
}

fn open(name: &OsString) -> Option<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name).ok()?,
        _ => SocketAddr::from_pathname(name).ok()?,
    };
    let socket = UnixDatagram::unbound().ok()?;
    socket.set_nonblocking(true).ok()?;
    Some((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_and_a_missing_manager_is_no_error() {
        let name = format!("weir-notify-test-{}", std::process::id());
        let manager =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).expect("name")).expect("bound");
        let notify = Notify { socket: open(&format!("@{name}").into()), watchdog: None };
        notify.send("READY=1");
        let mut message = [0; 16];
        let length = manager.recv(&mut message).expect("a message");
        assert_eq!(&message[..length], b"READY=1");
        drop(manager);
        notify.send("STOPPING=1");
        Notify::default().send("READY=1");
    }
}
