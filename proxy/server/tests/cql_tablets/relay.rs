//! A script in front of a real node that makes it a ScyllaDB of two shards to weir: the answer to OPTIONS says so, the
//! source port chooses the shard, and an EXECUTE that comes to a shard without its key is answered with a tablet. All
//! else is the node's own. v4, without compression.
//!
//! No ScyllaDB ran behind these tests: what it is played from is its documentation (docs/dev/protocol-extensions.md).

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use weir_cql::envelope::{EnvelopeLimits, Flags, Header, Opcode, Side, Step, read_header};
use weir_cql::key::{Token, token};
use weir_cql::request::Request;
use weir_cql::response::{Tablet, TabletReplica, tablet};
use weir_cql::{Cursor, Dialect, HEADER_LEN, StreamId, Version, own, write};

/// Shards that the node says it has.
const SHARDS: u16 = 2;
/// What drivers put behind the statements they read metadata with.
const TIMEOUT: &[u8] = b" USING TIMEOUT ";

/// The shard of a key: not the one that its token would have.
pub fn shard_of(key: i32) -> u16 {
    u16::from(key % 3 == 0)
}

/// What came and went.
#[derive(Default)]
pub struct Seen {
    /// Key and shard of each EXECUTE with one key, in order.
    pub executed: Vec<(i32, u16)>,
    /// Answers with a tablet.
    pub told: usize,
    /// Connections that agreed to be told tablets.
    pub agreed: usize,
}

/// The script.
pub struct Relay {
    /// Where the node seems to speak CQL.
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

/// What all of its connections share.
#[derive(Clone)]
struct Script {
    node: SocketAddr,
    host_id: [u8; 16],
    shard_aware_port: u16,
    seen: Arc<Mutex<Seen>>,
}

/// One connection's: its shard, whether it is told tablets, and the tablets that go with answers, by stream.
struct Talk {
    script: Script,
    shard: u16,
    tells: bool,
    owed: Mutex<HashMap<StreamId, Vec<u8>>>,
}

impl Relay {
    /// In front of this node, at ports of the same address.
    pub fn start(node: SocketAddr, host_id: [u8; 16]) -> Relay {
        let listen = |ip: IpAddr| TcpListener::bind((ip, 0)).expect("a port");
        let (plain, aware) = (listen(node.ip()), listen(node.ip()));
        let address = plain.local_addr().expect("an address");
        let shard_aware_port = aware.local_addr().expect("an address").port();
        let seen = Arc::<Mutex<Seen>>::default();
        let script = Script { node, host_id, shard_aware_port, seen: seen.clone() };
        for (listener, by_port) in [(plain, false), (aware, true)] {
            let script = script.clone();
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let from = client.peer_addr().map_or(0, |peer| peer.port());
                    let shard = if by_port { from % SHARDS } else { 0 };
                    let script = script.clone();
                    std::thread::spawn(move || relay(client, script, shard));
                }
            });
        }
        Relay { address, seen }
    }

    /// What came so far; it is counted anew.
    pub fn take(&self) -> Seen {
        std::mem::take(&mut self.seen.lock().expect("not poisoned"))
    }
}

fn relay(mut client: TcpStream, script: Script, shard: u16) {
    let Ok(mut node) = TcpStream::connect(script.node) else { return };
    let mut talk = Talk { script, shard, tells: false, owed: Mutex::default() };
    // up to STARTUP one question at a time, so that what was agreed on is known to both directions
    loop {
        let Ok((header, body)) = message(&mut client, Side::Client) else { return };
        let started = header.opcode == Opcode::Startup;
        talk.agrees(&header, &body);
        let Ok(()) = pass(&mut node, &header, &body) else { return };
        let Ok((header, body)) = message(&mut node, Side::Server) else { return };
        let Ok(()) = client.write_all(&talk.answer(&header, body)) else { return };
        if started {
            break;
        }
    }
    let talk = Arc::new(talk);
    let (back, mut to_client) = (talk.clone(), client.try_clone().expect("a socket"));
    let mut from_node = node.try_clone().expect("a socket");
    std::thread::spawn(move || {
        while let Ok((header, body)) = message(&mut from_node, Side::Server) {
            if to_client.write_all(&back.answer(&header, body)).is_err() {
                break;
            }
        }
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    while let Ok((header, body)) = message(&mut client, Side::Client) {
        talk.asked(&header, &body);
        if pass(&mut node, &header, &body).is_err() {
            break;
        }
    }
    let _ = node.shutdown(std::net::Shutdown::Both);
}

impl Talk {
    /// Notes what STARTUP agrees to.
    fn agrees(&mut self, header: &Header, body: &[u8]) {
        let Ok(Request::Startup(startup)) = Request::locate(header, body, Dialect::of(Version::V4)) else {
            return;
        };
        let by_weir = startup.get(body, "DRIVER_NAME") == Some(b"weir");
        self.tells = by_weir && startup.get(body, tablet::OPTION).is_some();
        self.script.seen.lock().expect("not poisoned").agreed += usize::from(self.tells);
    }

    /// An EXECUTE with one key that is in the other shard owes a tablet.
    fn asked(&self, header: &Header, body: &[u8]) {
        let Ok(Request::Execute(execute)) = Request::locate(header, body, Dialect::of(Version::V4)) else {
            return;
        };
        let value = execute.parameters.values.get(body, 0).and_then(|value| value.of(body));
        let Some(key) = value.and_then(|value| value.try_into().ok()).map(i32::from_be_bytes) else { return };
        if !self.tells {
            return;
        }
        let mut seen = self.script.seen.lock().expect("not poisoned");
        seen.executed.push((key, self.shard));
        if self.shard == shard_of(key) {
            return;
        }
        seen.told += 1;
        let last = token(&key.to_be_bytes());
        let replica = TabletReplica { host_id: self.script.host_id, shard: shard_of(key).into() };
        let told = Tablet { after: Token::new(last.value() - 1), last, replicas: vec![replica] };
        let mut value = Vec::new();
        told.write(&mut value);
        self.owed.lock().expect("not poisoned").insert(header.stream, value);
    }

    /// The bytes of an answer as this node gives it.
    fn answer(&self, header: &Header, body: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        if header.opcode == Opcode::Supported {
            let (shard, port) = (self.shard.to_string(), self.script.shard_aware_port.to_string());
            let options: [(&str, &[&str]); 8] = [
                ("CQL_VERSION", &["3.4.7"]),
                ("COMPRESSION", &[]),
                ("SCYLLA_NR_SHARDS", &["2"]),
                ("SCYLLA_SHARD", &[&shard]),
                ("SCYLLA_SHARDING_IGNORE_MSB", &["12"]),
                ("SCYLLA_SHARDING_ALGORITHM", &["biased-token-round-robin"]),
                ("SCYLLA_SHARD_AWARE_PORT", &[&port]),
                (tablet::OPTION, &[""]),
            ];
            own::supported(&mut out, Version::V4, header.stream, options);
            return out;
        }
        let Some(told) = self.owed.lock().expect("not poisoned").remove(&header.stream) else {
            header.write(&mut out);
            out.extend_from_slice(&body);
            return out;
        };
        assert_eq!(header.flags, Flags::default(), "rows have nothing in front of them");
        let mut payload = Vec::new();
        write::short(&mut payload, 1);
        write::short_bytes(&mut payload, tablet::ENTRY);
        write::bytes(&mut payload, &told);
        let flags = header.flags.with(Flags::CUSTOM_PAYLOAD);
        Header { flags, body_len: header.body_len + payload.len() as u32, ..*header }.write(&mut out);
        out.extend_from_slice(&payload);
        out.extend_from_slice(&body);
        out
    }
}

/// Passes a request on, but for what Cassandra does not know: drivers give ScyllaDB a time for metadata.
fn pass(to: &mut TcpStream, header: &Header, body: &[u8]) -> io::Result<()> {
    let mut plain = body.to_vec();
    if matches!(header.opcode, Opcode::Query | Opcode::Prepare) {
        let mut cursor = Cursor::new(body);
        let text = cursor.long_string().map_err(io::Error::other)?.of(body);
        let timeout = text.windows(TIMEOUT.len()).position(|part| part == TIMEOUT);
        plain.clear();
        write::bytes(&mut plain, &text[..timeout.unwrap_or(text.len())]);
        plain.extend_from_slice(cursor.rest().of(body));
    }
    let mut out = Vec::new();
    Header { body_len: plain.len() as u32, ..*header }.write(&mut out);
    out.extend_from_slice(&plain);
    to.write_all(&out)
}

/// The next message of a side.
fn message(from: &mut TcpStream, side: Side) -> io::Result<(Header, Vec<u8>)> {
    let mut head = [0; HEADER_LEN];
    from.read_exact(&mut head)?;
    let Step::Envelope { header } = read_header(&head, side, EnvelopeLimits::default()) else {
        return Err(io::Error::other("no header"));
    };
    let mut body = vec![0; header.body_len as usize];
    from.read_exact(&mut body)?;
    Ok((header, body))
}
