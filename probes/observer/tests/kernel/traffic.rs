//! Connections of our own.

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// A server that answers each byte and closes after its client has. It ends after so many connections, and has then
/// closed every one of them.
pub fn serve(listener: TcpListener, connections: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut bytes = [0; 16];
            while let Ok(1..) = stream.read(&mut bytes) {
                stream.write_all(&bytes[..1]).expect("a client that reads");
            }
        }
    })
}

/// A server that answers so many bytes with so many others, and closes after its client has. It ends after so many
/// connections, and has then closed every one of them.
pub fn serve_bytes(
    listener: TcpListener,
    connections: usize,
    asked: usize,
    answered: usize,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut asked, answered) = (vec![0; asked], vec![b'a'; answered]);
        for _ in 0..connections {
            let (mut stream, _) = listener.accept().expect("a connection");
            while stream.read_exact(&mut asked).is_ok() {
                stream.write_all(&answered).expect("a client that reads");
            }
        }
    })
}

/// A server that takes everything and says nothing, to so many connections at a time; it ends when they have.
pub fn drain(listener: TcpListener, connections: usize) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let reader = |mut stream: TcpStream| {
            std::thread::spawn(move || while let Ok(1..) = stream.read(&mut [0; 65_536]) {})
        };
        let streams = listener.incoming().take(connections);
        let readers: Vec<_> = streams.map(|stream| reader(stream.expect("a connection"))).collect();
        readers.into_iter().for_each(|reader| reader.join().expect("a reader"));
    })
}

/// One request; the client closes first, so that TIME_WAIT is on its side.
pub fn request(mut stream: TcpStream) {
    stream.write_all(b"x").expect("a server that reads");
    let mut byte = [0];
    stream.read_exact(&mut byte).expect("an answer");
}

/// A client that binds its source address first, as those of the incident do.
pub fn bind_and_connect(source: SocketAddr, to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    let family = if source.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    set_socket_reuseaddr(&socket, false)?;
    bind(&socket, &source)?;
    connect(&socket, &to)?;
    Ok(socket)
}

/// A connection over IPv4 from a socket of IPv6.
pub fn connect_mapped(to: SocketAddr) -> rustix::io::Result<TcpStream> {
    let SocketAddr::V4(v4) = to else { panic!("{to} is no IPv4 address") };
    let mapped = SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port());
    let socket = socket(AddressFamily::INET6, SocketType::STREAM, None)?;
    connect(&socket, &mapped)?;
    Ok(TcpStream::from(socket))
}
