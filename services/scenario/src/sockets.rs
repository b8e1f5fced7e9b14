//! Sockets by state, read from `/proc/net/tcp` and `tcp6` of the network namespace the tool runs in: how many ports
//! towards a server are used up, and by what. "Unknown" is an error here, never 0.

use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Sockets of one address.
#[derive(Debug, Serialize)]
pub struct SocketReport {
    /// Always `sockets`.
    pub scenario: &'static str,
    /// The address asked about.
    pub destination: String,
    /// Sockets whose peer is the address (the clients' side), by state.
    pub towards: BTreeMap<&'static str, u64>,
    /// Sockets bound to the address (the server's side), by state.
    pub at: BTreeMap<&'static str, u64>,
    /// Distinct (source address, port) pairs in use towards the address, in whatever state.
    pub ports_used: u64,
    /// First and last ephemeral port.
    pub port_range: [u32; 2],
    /// `net.ipv4.tcp_tw_reuse`; absent when unreadable.
    pub tcp_tw_reuse: Option<u32>,
}

/// Counts the sockets towards and at `destination`.
pub fn report(destination: SocketAddr) -> Result<SocketReport> {
    let (mut towards, mut at) = (BTreeMap::new(), BTreeMap::new());
    let mut ports = std::collections::HashSet::new();
    let tcp = fs::read_to_string("/proc/net/tcp").context("reading /proc/net/tcp")?;
    // A kernel without IPv6 has no such file, and no such sockets.
    let tcp6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
    for line in tcp.lines().chain(tcp6.lines()) {
        let Some((local, remote, state)) = parse(line) else { continue };
        if remote == destination {
            *towards.entry(state).or_default() += 1;
            ports.insert(local);
        } else if local == destination {
            *at.entry(state).or_default() += 1;
        }
    }
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut range = range.split_ascii_whitespace().filter_map(|word| word.parse().ok());
    Ok(SocketReport {
        scenario: "sockets",
        destination: destination.to_string(),
        towards,
        at,
        ports_used: ports.len() as u64,
        port_range: [range.next().unwrap_or(0), range.next().unwrap_or(0)],
        tcp_tw_reuse: fs::read_to_string("/proc/sys/net/ipv4/tcp_tw_reuse")
            .ok()
            .and_then(|t| t.trim().parse().ok()),
    })
}

/// One line: `0: 0100007F:2CCB 0100007F:9C40 06 ...`
fn parse(line: &str) -> Option<(SocketAddr, SocketAddr, &'static str)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(words.next()?)?, address(words.next()?)?);
    Some((local, remote, state(words.next()?)?))
}

/// The kernel prints each 32-bit word of the address in host order.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::with_capacity(16);
    for at in (0..ip.len()).step_by(8) {
        octets.extend_from_slice(&u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?.to_ne_bytes());
    }
    let ip = match <[u8; 4]>::try_from(octets.as_slice()) {
        Ok(four) => IpAddr::V4(Ipv4Addr::from(four)),
        // An IPv4 client of an IPv6 socket is the same destination as the plain IPv4 one.
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(ip, port))
}

fn state(hex: &str) -> Option<&'static str> {
    const STATES: [&str; 12] = [
        "ESTABLISHED",
        "SYN_SENT",
        "SYN_RECV",
        "FIN_WAIT1",
        "FIN_WAIT2",
        "TIME_WAIT",
        "CLOSE",
        "CLOSE_WAIT",
        "LAST_ACK",
        "LISTEN",
        "CLOSING",
        "NEW_SYN_RECV",
    ];
    let number = usize::from_str_radix(hex, 16).ok()?;
    STATES.get(number.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   1: 0120207F:9C40 0100007F:2BCB 06 00000000:00000000 03:000016F3 00000000     0        0 0 3 0";
        let (local, remote, state) = parse(line).expect("a line");
        assert_eq!(
            (local.to_string(), remote.to_string(), state),
            ("127.32.32.1:40000".into(), "127.0.0.1:11211".into(), "TIME_WAIT")
        );
        let mapped = address("0000000000000000FFFF00000100007F:2BCB").expect("an address");
        assert_eq!(mapped.to_string(), "127.0.0.1:11211");
        assert_eq!(
            address("00000000000000000000000001000000:0050").map(|a| a.to_string()),
            Some("[::1]:80".into())
        );
        assert_eq!(parse("  sl  local_address rem_address   st tx_queue"), None);
    }

    #[test]
    fn an_open_connection_is_counted_on_both_sides() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let client = TcpStream::connect(address).expect("connected");
        let report = report(address).expect("a report");
        assert_eq!((report.towards.get("ESTABLISHED"), report.ports_used), (Some(&1), 1));
        assert_eq!(report.at.get("LISTEN"), Some(&1));
        drop(client);
    }
}
