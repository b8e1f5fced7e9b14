//! What is asked for, and one socket of an answer.

use crate::States;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{InetResponse, SocketId};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Which table of the kernel's. An IPv6 socket to an IPv4-mapped address is in the table of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `AF_INET`.
    V4,
    /// `AF_INET6`.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) const fn number(self) -> u8 {
        match self {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        }
    }

    pub(crate) const fn unspecified(self) -> IpAddr {
        match self {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    pub(crate) const fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

/// Which sockets of one family; the kernel compares, so that others cost little.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Of which table.
    pub family: Family,
    /// In any of these states.
    pub states: States,
    /// With this local port; 0 is any.
    pub local_port: u16,
    /// With this port at the other end; 0 is any.
    pub remote_port: u16,
}

/// One socket, as the kernel told of it. Addresses are plain: IPv4 is IPv4 also when an IPv6 socket maps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// This end.
    pub local: SocketAddr,
    /// The other end; unspecified for a socket that listens.
    pub remote: SocketAddr,
    /// The kernel's number of its state (`include/net/tcp_states.h`).
    pub state: u8,
    /// Its user; 0 also for a socket without an owner.
    pub uid: u32,
    /// Its inode; 0 for a socket without an owner.
    pub inode: u32,
    /// Bytes not read yet, or for a socket that listens connections not accepted yet.
    pub receive_queue: u32,
    /// Bytes not acknowledged yet, or for a socket that listens the most connections that may wait.
    pub send_queue: u32,
    /// Of a socket that listens: connections it did not take since it was made, because its queue was full or memory was short.
    /// `None` where it was not asked for (only a filter for [`States::LISTEN`] alone does) or the kernel does not tell.
    pub drops: Option<u32>,
    /// With the kernel's cookie: means this very socket, not a later one with the same addresses.
    pub(crate) id: SocketId,
}

impl Found {
    pub(crate) fn of(answer: InetResponse) -> Found {
        let drops = answer.nlas.iter().find_map(|nla| match nla {
            Nla::MemInfo(memory) => Some(memory.drops),
            _ => None,
        });
        let header = answer.header;
        let id = header.socket_id;
        Found {
            local: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            remote: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            state: header.state,
            uid: header.uid,
            inode: header.inode,
            receive_queue: header.recv_queue,
            send_queue: header.send_queue,
            drops,
            id,
        }
    }

    /// Whether the socket is in one of these states.
    #[must_use]
    pub fn is_in(&self, states: &States) -> bool {
        let state = 1_u32.checked_shl(u32::from(self.state)).unwrap_or(0);
        state & states.bits() != 0
    }
}
