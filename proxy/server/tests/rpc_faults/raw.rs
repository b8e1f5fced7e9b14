//! Bytes of HTTP/1.1 and frames of HTTP/2, as no client would send them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Kinds of frames.
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Flags.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// A frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface, and these settings.
pub fn preface(settings: &[(u16, u32)]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut payload = Vec::new();
    for (id, value) in settings {
        payload.extend(id.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    bytes.extend(frame(SETTINGS, 0, 0, &payload));
    bytes
}

/// One header without compression; values may be long.
pub fn header(name: &str, value: &[u8]) -> Vec<u8> {
    let mut block = vec![0];
    length(name.len(), &mut block);
    block.extend(name.as_bytes());
    length(value.len(), &mut block);
    block.extend(value);
    block
}

fn length(length: usize, into: &mut Vec<u8>) {
    if length < 127 {
        into.push(u8::try_from(length).expect("small"));
        return;
    }
    into.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        into.push(u8::try_from(rest % 128).expect("small") | 128);
        rest /= 128;
    }
    into.push(u8::try_from(rest).expect("small"));
}

/// The head of a call of GetPostRecords.
pub fn head() -> Vec<u8> {
    // POST, http.
    let mut block = vec![0x83, 0x86];
    block.extend(header(":path", b"/bsky.Service/GetPostRecords"));
    block.extend(header(":authority", b"weir.test"));
    block.extend(header("content-type", b"application/grpc"));
    block.extend(header("te", b"trailers"));
    block
}

/// A connection that waits a while for what follows.
pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("weir");
    let patience = Some(Duration::from_secs(15));
    stream.set_read_timeout(patience).expect("an option");
    stream.set_write_timeout(patience).expect("an option");
    stream
}

/// Sends it while somebody reads all that comes back; what came, and whether the connection has ended.
pub fn send(stream: &TcpStream, bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut reading = stream.try_clone().expect("a handle");
    reading.set_read_timeout(Some(Duration::from_secs(2))).expect("an option");
    let reader = std::thread::spawn(move || read_all(&mut reading));
    // It may be closed before all of it is sent.
    let _ = (&*stream).write_all(bytes);
    reader.join().expect("no panic")
}

/// What comes until the end, or until nothing comes for a while; whether it was the end.
pub fn read_all(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let (mut all, mut part) = (Vec::new(), [0; 16 << 10]);
    loop {
        match stream.read(&mut part) {
            Ok(0) => return (all, true),
            Ok(read) => all.extend(&part[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return (all, false);
            }
            Err(_) => return (all, true),
        }
    }
}

/// Kinds of the frames in it, in order.
pub fn kinds(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        kinds.push(bytes[3]);
        bytes = bytes.get(9 + length..).unwrap_or_default();
    }
    kinds
}
