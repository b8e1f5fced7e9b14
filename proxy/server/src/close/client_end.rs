//! How the client's own end of a loopback TCP connection stands. Both ends are sockets of this kernel, and
//! NETLINK_SOCK_DIAG tells about either: one question about one socket, which the kernel answers while it is asked.

use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// `struct nlmsghdr` and `struct inet_diag_req_v2`.
const QUESTION: usize = 16 + 56;
/// `struct nlmsghdr` and `struct inet_diag_msg`; attributes follow.
const ANSWER: usize = 16 + 72;
/// More than the kernel says about one socket when nothing is asked for in particular.
const ANSWER_MAX: usize = 1_024;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
/// `TCP_FIN_WAIT1` and `TCP_FIN_WAIT2`: its FIN is out, ours is not.
const CLOSED_FIRST: [u8; 2] = [4, 5];
/// Attribute: one byte of shutdown bits.
const INET_DIAG_SHUTDOWN: u16 = 8;
const RCV_SHUTDOWN: u8 = 1;
/// Attributes' types without their two flag bits.
const NLA_TYPE_MASK: u16 = 0x3fff;

/// Asks the kernel about clients' sockets. One per worker: a netlink socket, opened at first use and again after an error.
#[derive(Debug, Default)]
pub struct ClientEnds {
    socket: Option<Socket>,
    sequence: u32,
    /// The kernel gives no such socket (seccomp, a kernel without tcp_diag): it is not asked again.
    refused: bool,
}

impl ClientEnds {
    /// Whether the client, which has closed its sending side, still has its receiving side open. Nothing when the
    /// kernel does not say.
    pub fn still_reads(&mut self, client: SocketAddr, weir: SocketAddr) -> Option<bool> {
        if self.refused {
            return None;
        }
        self.ask(client, weir).inspect_err(|_| self.socket = None).ok()
    }

    fn ask(&mut self, client: SocketAddr, weir: SocketAddr) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = question(self.sequence, client, weir).ok_or(io::ErrorKind::InvalidInput)?;
        let socket = match &self.socket {
            Some(socket) => socket,
            None => {
                let opened = Socket::new(NETLINK_SOCK_DIAG)
                    .and_then(|socket| socket.connect(&NetlinkAddr::new(0, 0)).map(|()| socket));
                self.refused = opened.is_err();
                self.socket.insert(opened?)
            }
        };
        socket.send(&question, libc::MSG_DONTWAIT)?;
        let mut answer = [0; ANSWER_MAX];
        loop {
            // An answer to an earlier question may be left if that one failed half-way.
            let length = socket.recv(&mut &mut answer[..], libc::MSG_DONTWAIT)?;
            let answer = answer.get(..length).unwrap_or_default();
            if u32_at(answer, 8) == Some(self.sequence) {
                return reads(answer);
            }
        }
    }
}

/// The message that asks for the socket whose own address is the client's.
fn question(sequence: u32, client: SocketAddr, weir: SocketAddr) -> Option<[u8; QUESTION]> {
    // An IPv4 question also finds the IPv6 socket of a client that connected to ::ffff:a.b.c.d.
    let (source, destination) = (client.ip().to_canonical(), weir.ip().to_canonical());
    let family = match (source, destination) {
        (IpAddr::V4(_), IpAddr::V4(_)) => libc::AF_INET,
        (IpAddr::V6(_), IpAddr::V6(_)) => libc::AF_INET6,
        _ => return None,
    };
    let mut bytes = [0; QUESTION];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(0, &(QUESTION as u32).to_ne_bytes());
    put(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    put(6, &NLM_F_REQUEST.to_ne_bytes());
    put(8, &sequence.to_ne_bytes());
    put(16, &[family as u8, libc::IPPROTO_TCP as u8]);
    put(20, &u32::MAX.to_ne_bytes()); // any state
    put(24, &client.port().to_be_bytes());
    put(26, &weir.port().to_be_bytes());
    for (at, address) in [(28, source), (44, destination)] {
        match address {
            IpAddr::V4(address) => put(at, &address.octets()),
            IpAddr::V6(address) => put(at, &address.octets()),
        }
    }
    put(64, &[0xff; 8]); // no cookie: the socket is meant by its addresses
    Some(bytes)
}

/// What an answer says. A socket that nobody holds is found without shutdown bits, or not at all.
fn reads(answer: &[u8]) -> io::Result<bool> {
    let kind = u16_at(answer, 4).ok_or(io::ErrorKind::InvalidData)?;
    if kind == NLMSG_ERROR {
        let code = u32_at(answer, 16).ok_or(io::ErrorKind::InvalidData)?.cast_signed();
        return if code == -libc::ENOENT { Ok(false) } else { Err(io::Error::from_raw_os_error(-code)) };
    }
    if kind != SOCK_DIAG_BY_FAMILY || answer.len() < ANSWER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    if !CLOSED_FIRST.contains(&answer[17]) {
        return Ok(false);
    }
    let mut rest = &answer[ANSWER..];
    while let (Some(length), Some(kind)) = (u16_at(rest, 0), u16_at(rest, 2)) {
        let length = usize::from(length);
        if kind & NLA_TYPE_MASK == INET_DIAG_SHUTDOWN {
            return Ok(length > 4 && rest.get(4).is_some_and(|bits| bits & RCV_SHUTDOWN == 0));
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Shutdown, TcpListener, TcpStream};

    /// A client and weir's end of its connection.
    fn pair(at: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(at).expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
        (client, listener.accept().expect("accepted").0)
    }

    fn ask(ends: &mut ClientEnds, weir: &TcpStream) -> Option<bool> {
        let client = weir.peer_addr().expect("the client's address");
        ends.still_reads(client, weir.local_addr().expect("weir's address"))
    }

    #[test]
    fn a_client_that_only_stopped_sending_reads() {
        let mut ends = ClientEnds::default();
        for at in ["127.0.0.1:0", "127.3.2.1:0", "[::1]:0"] {
            let (client, weir) = pair(at);
            assert_eq!(ask(&mut ends, &weir), Some(false), "{at}: it has closed nothing");
            client.shutdown(Shutdown::Write).expect("half closed");
            assert_eq!(ask(&mut ends, &weir), Some(true), "{at}");
            client.shutdown(Shutdown::Read).expect("closed");
            assert_eq!(ask(&mut ends, &weir), Some(false), "{at}");
            drop(client);
            assert_eq!(ask(&mut ends, &weir), Some(false), "{at}: nobody has it");
        }
    }

    #[test]
    fn a_client_that_closed_does_not_read() {
        let mut ends = ClientEnds::default();
        let (client, weir) = pair("127.0.0.1:0");
        drop(client);
        assert_eq!(ask(&mut ends, &weir), Some(false));
        let (client, weir) = pair("127.0.0.1:0");
        client.shutdown(Shutdown::Both).expect("closed");
        assert_eq!(ask(&mut ends, &weir), Some(false));
    }

    #[test]
    fn an_ipv6_socket_of_an_ipv4_client_is_found() {
        use socket2::{Domain, Socket, Type};
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("address").port();
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{port}").parse().expect("an address");
        socket.connect(&mapped.into()).expect("connected");
        let weir = listener.accept().expect("accepted").0;
        socket.shutdown(Shutdown::Write).expect("half closed");
        assert_eq!(ask(&mut ClientEnds::default(), &weir), Some(true));
    }

    #[test]
    fn answers_of_any_length_are_taken() {
        let mut found = [0; ANSWER];
        found[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        found[17] = CLOSED_FIRST[1];
        let with = |length: u16, kind: u16| {
            [&found[..], &length.to_ne_bytes(), &kind.to_ne_bytes(), &[2, 0, 0, 0]].concat()
        };
        for answer in [with(5, 8), with(0, 9), with(3, 9), with(u16::MAX, 9), with(4, 8)] {
            for length in 0..=answer.len() {
                let _ = reads(&answer[..length]); // no panic
            }
        }
        assert!(reads(&with(5, 8)).is_ok_and(|reads| reads));
        assert!(reads(&with(5, 9)).is_ok_and(|reads| !reads), "another attribute");
        assert!(reads(&with(5, 8)[..50]).is_err(), "cut off");
    }
}
