//! The conversation with the kernel: a question, and messages until its answer ends.

use crate::States;
use crate::error::{Error, Question};
use crate::found::{Family, Filter, Found};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::constants::IPPROTO_TCP;
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId};
use netlink_packet_sock_diag::{SockDiagDestroy, SockDiagMessage};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The kernel's largest dump message is 32 KiB.
const RECEIVE_BUFFER: usize = 64 << 10;
/// `INET_DIAG_NOCOOKIE`: the socket is meant by its addresses.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// From one message to the next. The kernel answers while it is asked; a wait means that something is badly wrong.
    pub message: Duration,
    /// To the end of the answer.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { message: Duration::from_secs(1), answer: Duration::from_secs(30) }
    }
}

/// How the end of a socket went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destroyed {
    /// It is no more.
    Ended,
    /// It was gone before. A socket that has its addresses by now is another one, and was left alone.
    Gone,
}

/// The netlink socket, opened at first use in the calling thread's network namespace, and again after any error.
#[derive(Debug, Default)]
pub struct SockDiag {
    socket: Option<Socket>,
    patience: Patience,
    buffer: Vec<u8>,
    sequence: u32,
    queries: u64,
}

impl SockDiag {
    /// With other bounds on its waits than [`Patience::default`].
    #[must_use]
    pub fn with_patience(patience: Patience) -> SockDiag {
        SockDiag { patience, ..SockDiag::default() }
    }

    /// Every socket that fits goes to `each`, in the kernel's order. What changes meanwhile may be missing or there twice.
    ///
    /// # Errors
    /// What failed; `each` may have had some sockets by then, and they are true.
    pub fn dump(&mut self, filter: &Filter, each: impl FnMut(Found)) -> Result<(), Error> {
        let any = filter.family.unspecified();
        let id = SocketId {
            source_port: filter.local_port,
            destination_port: filter.remote_port,
            source_address: any,
            destination_address: any,
            interface_id: 0,
            cookie: NO_COOKIE,
        };
        let request = request(filter.family, filter.states.clone(), id);
        self.ask(Question::Dump, NLM_F_DUMP, SockDiagMessage::InetRequest(request).into(), each)
    }

    /// The socket between these two addresses, if there is one. An IPv4 address also finds the IPv6 socket that maps it.
    ///
    /// # Errors
    /// What failed.
    pub fn find(&mut self, local: SocketAddr, remote: SocketAddr) -> Result<Option<Found>, Error> {
        let (local, remote) = (plain(local), plain(remote));
        if local.is_ipv4() != remote.is_ipv4() {
            return Ok(None);
        }
        let id = SocketId {
            source_port: local.port(),
            destination_port: remote.port(),
            source_address: local.ip(),
            destination_address: remote.ip(),
            interface_id: 0,
            cookie: NO_COOKIE,
        };
        let request = request(Family::of(local.ip()), States::all(), id);
        let mut answer = None;
        let asked = SockDiagMessage::InetRequest(request);
        let outcome = self.ask(Question::Find, 0, asked.into(), |found| answer = Some(found));
        match outcome {
            Err(Error::Refused(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // Where no connection fits, the kernel answers with the socket that listens at `local`.
            outcome => {
                outcome.map(|()| answer.filter(|found| found.local == local && found.remote == remote))
            }
        }
    }

    /// Ends a socket of an answer, as `ss --kill` does: TIME_WAIT is over at once, and the owner of any other socket reads
    /// ECONNABORTED. Never another socket than this one, whatever has its addresses by now.
    ///
    /// # Errors
    /// What failed: `EPERM` without `CAP_NET_ADMIN` in the user namespace that owns the network namespace, `EOPNOTSUPP` by
    /// a kernel built without `CONFIG_INET_DIAG_DESTROY`.
    pub fn destroy(&mut self, found: &Found) -> Result<Destroyed, Error> {
        let family = Family::of(found.id.source_address);
        let request = request(family, States::all(), found.id.clone());
        let message = SockDiagDestroy::new(SockDiagMessage::InetRequest(request));
        match self.ask(Question::Destroy, NLM_F_ACK, message.into(), |_| {}) {
            Ok(()) => Ok(Destroyed::Ended),
            // Also where another socket has the addresses: its cookie is not the one that was told.
            Err(Error::Refused(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(Destroyed::Gone),
            Err(error) => Err(error),
        }
    }

    /// Questions asked since the last call.
    pub fn take_queries(&mut self) -> u64 {
        std::mem::take(&mut self.queries)
    }

    /// Gives the receive buffer back; the next question makes a new one.
    pub fn release_buffer(&mut self) {
        self.buffer = Vec::new();
    }

    /// Sends one question and gives every socket of the answer to `each`.
    fn ask<M: NetlinkSerializable>(
        &mut self,
        question: Question,
        flags: u16,
        message: NetlinkPayload<M>,
        each: impl FnMut(Found),
    ) -> Result<(), Error> {
        self.queries += 1;
        let outcome = self.converse(question, flags, message, each);
        // The kernel's no ends an answer as its last message does; after anything else more of it may come.
        if !matches!(outcome, Ok(()) | Err(Error::Refused(..))) {
            self.socket = None;
        }
        outcome
    }

    fn converse<M: NetlinkSerializable>(
        &mut self,
        question: Question,
        flags: u16,
        message: NetlinkPayload<M>,
        mut each: impl FnMut(Found),
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open(self.patience.message).map_err(Error::Open)?),
        };
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, message);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        socket.send(&bytes, 0).map_err(|error| Error::Send(question, error))?;

        self.buffer.resize(RECEIVE_BUFFER, 0);
        loop {
            if begun.elapsed() > self.patience.answer {
                return Err(Error::TimedOut(question, self.patience.answer));
            }
            let size = match socket.recv(&mut &mut self.buffer[..], 0) {
                Ok(size) => size,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::TimedOut(question, self.patience.message));
                }
                Err(error) => return Err(Error::Receive(question, error)),
            };
            let datagram = self.buffer.get(..size).unwrap_or_default();
            if read(question, flags, self.sequence, datagram, &mut each)? {
                return Ok(());
            }
        }
    }
}

/// Reads the messages of one datagram. True when the answer is complete.
pub(crate) fn read(
    question: Question,
    flags: u16,
    sequence: u32,
    mut rest: &[u8],
    each: &mut impl FnMut(Found),
) -> Result<bool, Error> {
    while !rest.is_empty() {
        let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
            .map_err(|error| Error::Malformed(question, error.to_string()))?;
        let length = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len().max(16));
        rest = rest.get(length..).unwrap_or_default();
        if message.header.sequence_number != sequence {
            continue; // of an answer that was given up
        }
        match message.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer)) => {
                each(Found::of(*answer));
                if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                    return Ok(true);
                }
            }
            // A dump that failed on the way (a kernel without tcp_diag, say) ends with the error's number.
            NetlinkPayload::Done(done) if done.code < 0 => {
                return Err(Error::Refused(
                    question,
                    io::Error::from_raw_os_error(done.code.saturating_neg()),
                ));
            }
            NetlinkPayload::Done(_) => return Ok(true),
            // Number 0 is the acknowledgement that was asked for.
            NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
            NetlinkPayload::Error(error) => return Err(Error::Refused(question, error.to_io())),
            _ => {}
        }
    }
    Ok(false)
}

fn open(patience: Duration) -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&NetlinkAddr::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(patience))?;
    Ok(socket)
}

fn request(family: Family, states: States, socket_id: SocketId) -> InetRequest {
    InetRequest {
        family: family.number(),
        protocol: IPPROTO_TCP,
        // 36 bytes more for each socket: only where they say something
        extensions: if states == States::LISTEN {
            ExtensionFlags::SKMEMINFO
        } else {
            ExtensionFlags::empty()
        },
        states,
        socket_id,
    }
}

/// An IPv4 address is the same address when IPv6 maps it; scope and flow label are not part of a match.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
