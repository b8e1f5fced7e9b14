//! Questions to a node, in a few raw bytes of CQL: whether it answers, and how many other nodes it knows. Bounds: each
//! question ends within a few [`LIMIT`]s and reads at most [`LONGEST_ANSWER`] bytes.

use std::io::{Error, Read, Result, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::time::Duration;

/// One step of a question.
const LIMIT: Duration = Duration::from_secs(2);

/// SUPPORTED is about 110 bytes, a count less.
const LONGEST_ANSWER: u32 = 4096;

const STARTUP: u8 = 1;
const OPTIONS: u8 = 5;
const SUPPORTED: u8 = 6;
const READY: u8 = 2;
const QUERY: u8 = 7;
const RESULT: u8 = 8;

/// The string map of STARTUP with its one required option.
const CQL_VERSION: &[u8] = b"\0\x01\0\x0bCQL_VERSION\0\x053.0.0";

/// How many other nodes this one knows; the count is all that the RESULT ends with.
const COUNT_PEERS: &[u8] = b"SELECT COUNT(*) FROM system.peers";

/// Ready means that CQL is spoken, not that a port is open.
pub fn answers(node: SocketAddrV4) -> bool {
    let ask = || ask(&mut connect(node)?, OPTIONS, &[]);
    ask().is_ok_and(|(opcode, _)| opcode == SUPPORTED)
}

/// The number of nodes that this one knows besides itself.
pub fn peers(node: SocketAddrV4) -> Result<u64> {
    let mut stream = connect(node)?;
    expect(READY, ask(&mut stream, STARTUP, CQL_VERSION)?)?;
    let length = u32::try_from(COUNT_PEERS.len()).map_err(Error::other)?.to_be_bytes();
    // Consistency ONE, no flags.
    let body = ask(&mut stream, QUERY, &[&length[..], COUNT_PEERS, &[0, 1, 0]].concat())?;
    let body = expect(RESULT, body)?;
    let count = body.last_chunk::<8>().ok_or_else(|| Error::other("a RESULT without a count"))?;
    Ok(u64::from_be_bytes(*count))
}

fn expect(wanted: u8, (opcode, body): (u8, Vec<u8>)) -> Result<Vec<u8>> {
    if opcode == wanted {
        return Ok(body);
    }
    Err(Error::other(format!("opcode {opcode} instead of {wanted}: {}", String::from_utf8_lossy(&body))))
}

fn connect(node: SocketAddrV4) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(node), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// One envelope of protocol version 4 and its answer: opcode and body.
fn ask(stream: &mut TcpStream, opcode: u8, body: &[u8]) -> Result<(u8, Vec<u8>)> {
    let length = u32::try_from(body.len()).map_err(Error::other)?.to_be_bytes();
    stream.write_all(&[&[4, 0, 0, 0, opcode], &length[..], body].concat())?;
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    if length > LONGEST_ANSWER {
        return Err(Error::other(format!("an answer of {length} bytes")));
    }
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body)?;
    Ok((head[4], body))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    /// Answers each question on one connection with the next of these, as opcode and body.
    fn server(answers: &'static [(u8, &'static [u8])]) -> SocketAddrV4 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("an IPv6 address") };
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for (opcode, body) in answers {
                let mut head = [0; 9];
                stream.read_exact(&mut head).unwrap();
                stream.read_exact(&mut vec![0; usize::from(head[8])]).unwrap();
                let length = u8::try_from(body.len()).unwrap();
                stream.write_all(&[&[0x84, 0, 0, 0, *opcode, 0, 0, 0, length], *body].concat()).unwrap();
            }
        });
        address
    }

    #[test]
    fn who_does_not_speak_cql_is_not_ready() {
        assert!(answers(server(&[(SUPPORTED, b"\0\0")])));
        assert!(!answers(server(&[(0, b"\0\0\0\x0a\0\x02no")])), "an ERROR");
        assert!(!answers(server(&[])), "a closed connection");
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let SocketAddr::V4(nobody) = nobody else { panic!("an IPv6 address") };
        assert!(!answers(nobody), "nobody");
    }

    #[test]
    fn peers_are_the_end_of_the_result() {
        let two = server(&[(READY, b""), (RESULT, b"\0\0\0\x02...\0\0\0\x08\0\0\0\0\0\0\0\x02")]);
        assert_eq!(peers(two).unwrap(), 2);
        let error = peers(server(&[(READY, b""), (0, b"\0\0\x22\0\0\x02no")])).unwrap_err();
        assert!(error.to_string().contains("opcode 0"), "{error}");
        assert!(peers(server(&[(READY, b""), (RESULT, b"short")])).is_err());
    }
}
