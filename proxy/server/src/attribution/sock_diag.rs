//! Asks the kernel (NETLINK_SOCK_DIAG) for the sockets of local clients: the user id and inode of each.
//!
//! Few lookups are asked for one by one, so that a trickle of new connections never pays for listing thousands of old
//! ones. Many are answered by one dump per address family and listener port, which the kernel filters. Nothing is kept
//! between batches, and only sockets that were asked for are stored.
//!
//! A match needs all four parts of the connection. States without an owner (TIME_WAIT, closed by an exited process) are
//! reported by the kernel as user 0 and inode 0; they count as "no socket", never as root.

use super::{Lookup, Unresolved};
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// Up to so many lookups are asked for one by one (one hash lookup in the kernel each; a dump walks its whole table).
const ONE_BY_ONE_MAX: usize = 64;
/// With more listener ports than this, one dump of everything is cheaper than one per port.
const FILTERED_PORTS_MAX: usize = 8;
/// The kernel's largest dump message is 32 KiB.
const RECEIVE_BUFFER: usize = 64 << 10;
/// The kernel answers while it is asked; a wait means that something is badly wrong.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// `INET_DIAG_NOCOOKIE`: the socket is meant by its addresses.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Who owns a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SocketOwner {
    pub(super) uid: u32,
    pub(super) inode: u32,
}

type Answer = Result<SocketOwner, Unresolved>;

/// The netlink socket, opened at first use and again after any error.
#[derive(Debug, Default)]
pub(super) struct SockDiag {
    socket: Option<Socket>,
    buffer: Vec<u8>,
    sequence: u32,
    queries: u64,
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
            self.socket = None;
            for answer in answers.iter_mut().filter(|answer| **answer == Err(Unresolved::NoSocket)) {
                *answer = Err(Unresolved::DumpFailed);
            }
        }
        // 64 KiB are not worth keeping for the next batch.
        self.buffer = Vec::new();
        answers
    }

    /// Questions asked since the last call.
    pub(super) fn take_queries(&mut self) -> u64 {
        std::mem::take(&mut self.queries)
    }

    fn ask_each(&mut self, lookups: &[Lookup], answers: &mut [Answer]) -> io::Result<()> {
        for (lookup, answer) in lookups.iter().zip(answers) {
            let wanted = Wanted::new(std::slice::from_ref(lookup));
            let (client, weir) = (plain(lookup.client_local_addr), plain(lookup.weir_addr));
            if client.ip().is_ipv4() != weir.ip().is_ipv4() {
                continue;
            }
            let id = SocketId {
                source_port: client.port(),
                destination_port: weir.port(),
                source_address: client.ip(),
                destination_address: weir.ip(),
                interface_id: 0,
                cookie: NO_COOKIE,
            };
            // An IPv4 question also finds the IPv6 socket of a client that connected to ::ffff:a.b.c.d.
            self.query(NLM_F_REQUEST, id, |found| wanted.take(found, std::slice::from_mut(answer)))?;
        }
        Ok(())
    }

    fn dump(&mut self, wanted: &Wanted, answers: &mut [Answer]) -> io::Result<()> {
        let mut ports: Vec<u16> = wanted.by_client.iter().map(|(key, ..)| key.1).collect();
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > FILTERED_PORTS_MAX {
            ports = vec![0];
        }
        // Clients seen as IPv4 may hold IPv6 sockets (Java does): IPv6 is always asked.
        let any_v4 = wanted.by_client.iter().any(|(key, ..)| key.0.is_ipv4());
        for unspecified in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            if unspecified.is_ipv4() && !any_v4 {
                continue;
            }
            for port in &ports {
                let id = SocketId {
                    source_port: 0,
                    destination_port: *port,
                    source_address: unspecified,
                    destination_address: unspecified,
                    interface_id: 0,
                    cookie: NO_COOKIE,
                };
                self.query(NLM_F_REQUEST | NLM_F_DUMP, id, |found| wanted.take(found, answers))?;
            }
        }
        Ok(())
    }

    /// Sends one question and gives every socket of the answer to `each`.
    fn query(&mut self, flags: u16, id: SocketId, mut each: impl FnMut(&InetResponse)) -> io::Result<()> {
        self.queries += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.resize(RECEIVE_BUFFER, 0);
        if self.socket.is_none() {
            let socket = Socket::new(NETLINK_SOCK_DIAG)?;
            socket.connect(&NetlinkAddr::new(0, 0))?;
            socket2::SockRef::from(&socket).set_read_timeout(Some(ANSWER_TIMEOUT))?;
            self.socket = Some(socket);
        }
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::NotConnected.into()) };

        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let request = InetRequest {
            family: if id.source_address.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: owned_states(),
            socket_id: id,
        };
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        socket.send(&bytes, 0)?;

        loop {
            let size = socket.recv(&mut &mut self.buffer[..], 0)?;
            let mut rest = self.buffer.get(..size).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                let length =
                    (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len().max(16));
                rest = rest.get(length..).unwrap_or_default();
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                        each(&found);
                        if flags & NLM_F_DUMP == 0 {
                            return Ok(());
                        }
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        let error = error.to_io();
                        // "No such socket" is an answer, unless the question was a dump: there it means that the
                        // kernel has no tcp_diag.
                        let absent = error.kind() == io::ErrorKind::NotFound && flags & NLM_F_DUMP == 0;
                        return if absent { Ok(()) } else { Err(error) };
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The states in which a client's socket may still have a process.
fn owned_states() -> StateFlags {
    StateFlags::ESTABLISHED
        | StateFlags::FIN_WAIT1
        | StateFlags::FIN_WAIT2
        | StateFlags::CLOSE_WAIT
        | StateFlags::LAST_ACK
        | StateFlags::CLOSING
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
    fn take(&self, found: &InetResponse, answers: &mut [Answer]) {
        let header = &found.header;
        let state = 1_u32.checked_shl(u32::from(header.state)).unwrap_or(0);
        if header.inode == 0 || state & owned_states().bits() == 0 {
            return;
        }
        let id = &header.socket_id;
        let key = (id.source_address.to_canonical(), id.destination_port, id.source_port);
        let weir = id.destination_address.to_canonical();
        let owner = SocketOwner { uid: header.uid, inode: header.inode };
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
