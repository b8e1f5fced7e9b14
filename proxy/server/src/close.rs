//! How a client's connection ends, so that its port is free again.
//!
//! Whoever closes first keeps the port in TIME_WAIT for a minute. A client that dials per call closes first, and after
//! 28 thousand calls it has no port left. When a loopback TCP client has closed and nothing is in flight, unread or
//! unsent, weir answers its FIN with RST: both sides forget the connection at once.
//!
//! A FIN alone does not say whether the client is gone or only has nothing more to ask and still reads (`nc -N`, `socat`).
//! Some of those look for an error before they read, and a reset would cost them the answer. So before a reset the kernel
//! is asked how the client's end stands ([`client_end`]): one that can still be read from is closed with FIN. Where
//! something was written behind the client's FIN there is nothing to ask: FIN does no harm, because to bytes that nobody
//! can read the client's kernel replies with RST itself. Where the kernel does not say, that is the whole rule.

pub mod client_end;

use crate::config::OnClientClose;
use crate::listen;
use std::os::fd::{AsFd, AsRawFd};
use weir_telemetry::CloseHow;

/// What is known about a connection that is about to end.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Why it ends.
    pub how: CloseHow,
    /// The client closed its side.
    pub client_closed: bool,
    /// Something was written to it after that.
    pub answered_late: bool,
    /// A TCP client of this machine.
    pub loopback: bool,
    /// Nothing is in flight, unread or unsent, as far as the engine knows.
    pub idle: bool,
    /// What the listener wants.
    pub wanted: OnClientClose,
}

/// Prepares a socket for being dropped; how it then ends. `still_reads` is asked last, whether the client's own end can
/// still be read from.
pub fn prepare(socket: impl AsFd, ending: Ending, still_reads: impl FnOnce() -> bool) -> CloseHow {
    let reset = ending.how == CloseHow::Client
        && ending.client_closed
        && !ending.answered_late
        && ending.loopback
        && ending.idle
        && ending.wanted == OnClientClose::Reset
        && is_sent(&socket)
        && !still_reads();
    if reset && listen::close_with_reset(socket).is_ok() { CloseHow::Reset } else { ending.how }
}

/// Whether the peer's kernel has everything that was written. (`SIOCOUTQ`, the same number as `TIOCOUTQ`.)
#[expect(unsafe_code, reason = "no crate in use wraps this ioctl")]
fn is_sent(socket: &impl AsFd) -> bool {
    let mut unsent: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as it is borrowed, and the kernel writes one int for this request.
    let outcome =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, std::ptr::from_mut(&mut unsent)) };
    outcome == 0 && unsent == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        (client, listener.accept().expect("accepted").0)
    }

    const GONE: Ending = Ending {
        how: CloseHow::Client,
        client_closed: true,
        answered_late: false,
        loopback: true,
        idle: true,
        wanted: OnClientClose::Reset,
    };

    #[test]
    fn answers_arrive_before_the_reset() {
        let (mut client, mut weir) = pair();
        weir.write_all(b"END\r\n").expect("written");
        client.shutdown(std::net::Shutdown::Write).expect("half closed");
        assert_eq!(weir.read(&mut [0; 8]).expect("end"), 0);
        assert_eq!(prepare(&weir, GONE, || false), CloseHow::Reset);
        drop(weir);
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("what was sent is still there");
        assert_eq!(&answer, b"END\r\n");
        assert!(client.read(&mut answer).is_err(), "then the reset shows");
    }

    #[test]
    fn only_an_idle_client_that_closed_is_reset() {
        let (_client, weir) = pair();
        for ending in [
            Ending { client_closed: false, ..GONE },
            Ending { answered_late: true, ..GONE },
            Ending { loopback: false, ..GONE },
            Ending { idle: false, ..GONE },
            Ending { wanted: OnClientClose::Fin, ..GONE },
        ] {
            assert_eq!(prepare(&weir, ending, || false), CloseHow::Client, "{ending:?}");
        }
        assert_eq!(prepare(&weir, Ending { how: CloseHow::Drain, ..GONE }, || false), CloseHow::Drain);
        assert_eq!(prepare(&weir, GONE, || true), CloseHow::Client, "it reads on");
    }

    #[test]
    fn what_is_not_sent_is_not_thrown_away() {
        let (_client, weir) = pair();
        weir.set_nonblocking(true).expect("non-blocking");
        while (&weir).write(&[0; 1 << 16]).is_ok() {}
        assert_eq!(prepare(&weir, GONE, || false), CloseHow::Client);
    }
}
