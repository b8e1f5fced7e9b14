//! Clients that mean no good, and many of them.

use crate::support::client::{self, full, post};
use crate::support::gate::Watching;
use crate::support::{service, settings, start, start_with, until};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_edge::AdmitAll;

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// HEADERS without compression: POST, http, /weir.test.Service/Slow, :authority x, content-type application/grpc.
fn head() -> Vec<u8> {
    let mut block = vec![0x83, 0x86];
    for (name, value) in
        [(":path", "/weir.test.Service/Slow"), (":authority", "x"), ("content-type", "application/grpc")]
    {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    block
}

#[tokio::test]
async fn rapid_resets_end_the_connection_and_leave_no_work() {
    let service = service::start().await;
    let edge = start(&service);
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in (1..20_001).step_by(2) {
        bytes.extend(frame(1, 4, stream, &head()));
        bytes.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // It may be closed before all of it is sent.
    let _ = stream.write_all(&bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    read.expect("the connection ends").ok();
    until("no request is left", || edge.counted().requests_now == 0).await;
    assert!(edge.counted().requests < 1_000, "{}", edge.counted().requests);
    let mut client = client::over_tcp(edge.port).await;
    client.unary("Echo", tonic::Request::new(Bytes::from_static(b"x"))).await.expect("others are served");
    assert!(service.log.connections() <= 2);
}

#[tokio::test]
async fn streams_above_the_limit_are_refused_one_by_one() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.clients.max_streams = 10;
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for stream in (1..61).step_by(2) {
        bytes.extend(frame(1, 4, stream, &head()));
    }
    stream.write_all(&bytes).await.expect("sent");
    until("ten are under way", || edge.counted().requests_now == 10).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(edge.counted().requests, 10);
    drop(stream);
    until("all are over", || edge.counted().requests_now == 0).await;
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.requests.header_bytes = 4_096;
    settings.requests.headers = 20;
    let edge = start_with(settings, Arc::new(AdmitAll));
    let with = |name: &str, value: String| {
        let mut request = post("http://weir.test/echo", "text/plain", full("x"));
        let name: http::HeaderName = name.parse().expect("a name");
        request.headers_mut().insert(name, value.parse().expect("a value"));
        request
    };
    for http2 in [false, true] {
        let send = async |request| match http2 {
            true => {
                let mut sender = client::http2(edge.port).await;
                client::read(sender.send_request(request).await.expect("a reply")).await
            }
            false => client::http1(edge.port, request).await,
        };
        assert_eq!(send(with("x-fits", "x".repeat(3_000))).await.status, 200);
        let answer = send(with("x-large", "x".repeat(5_000))).await;
        assert_eq!(answer.status, 431, "http2: {http2}");
        let mut many = with("x-0", "x".into());
        for number in 1..30 {
            let name: http::HeaderName = format!("x-{number}").parse().expect("a name");
            many.headers_mut().insert(name, "x".parse().expect("a value"));
        }
        assert_eq!(send(many).await.status, 431, "http2: {http2}");
    }
    // Above HTTP/2's own bound it does not even become a request.
    let mut sender = client::http2(edge.port).await;
    let reply = sender.send_request(with("x-huge", "x".repeat(200_000))).await;
    assert!(reply.is_err() || reply.is_ok_and(|reply| reply.status() == 431));
    assert_eq!(service.log.seen().len(), 2);
}

#[tokio::test]
async fn a_thousand_idle_connections_cost_the_service_none() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.clients.max_connections = 1_000;
    settings.clients.idle_timeout = Duration::from_secs(1);
    settings.clients.opening_timeout = Duration::from_secs(1);
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut idle = Vec::new();
    for number in 0..1_000 {
        let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
        match number % 3 {
            // Says nothing at all.
            0 => {}
            // Asked once, over HTTP/1.1.
            1 => {
                stream.write_all(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
                stream.read_exact(&mut [0; 12]).await.expect("an answer");
            }
            // Speaks HTTP/2, and then no more.
            _ => {
                let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
                bytes.extend(frame(4, 0, 0, &[]));
                stream.write_all(&bytes).await.expect("sent");
            }
        }
        idle.push(stream);
    }
    // One more than allowed is closed at once.
    let counted = edge.counted();
    if counted.client_connections_now == 1_000 {
        let mut one_more = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
        assert_eq!(one_more.read(&mut [0; 1]).await.unwrap_or(0), 0);
        assert_eq!(edge.counted().clients_over_cap, 1);
    }
    until("all are closed", || edge.counted().client_connections_now == 0).await;
    assert!(service.log.connections() <= 2);
    let mut client = client::over_tcp(edge.port).await;
    client.unary("Echo", tonic::Request::new(Bytes::from_static(b"x"))).await.expect("there is room again");
}

#[tokio::test]
async fn a_head_that_trickles_is_cut() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.clients.opening_timeout = Duration::from_millis(300);
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let started = tokio::time::Instant::now();
    let trickle = async {
        stream.write_all(b"GET /echo HTTP/1.1\r\n").await?;
        loop {
            stream.write_all(b"x: y\r\n").await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        #[expect(unreachable_code, reason = "names the error's type")]
        Ok::<(), std::io::Error>(())
    };
    tokio::time::timeout(Duration::from_secs(10), trickle).await.expect("it is cut").expect_err("it is cut");
    assert!(started.elapsed() < Duration::from_secs(5));
    assert!(service.log.seen().is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_nobody_and_is_cut() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.requests.write_timeout = Duration::from_millis(500);
    let gate = Watching::new(false);
    let edge = start_with(settings, Arc::new(gate.clone()));
    let mut client = client::over_tcp(edge.port).await;
    // Its stream's window is never opened again.
    let stream = client.stream("Stream", "1000000").await.expect("a stream");
    let mut other = client::over_tcp(edge.port).await;
    let mut reader = other.stream("Stream", "50").await.expect("a stream");
    while reader.message().await.expect("no error").is_some() {}
    drop(stream);
    // 40 MB that nobody reads, over HTTP/1.1.
    let mut deaf = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let request = format!("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 30_000_000);
    let (mut read, mut write) = deaf.split();
    write.write_all(request.as_bytes()).await.expect("sent");
    let body = vec![b'x'; 30_000_000];
    write.write_all(&body).await.expect("sent: the service reads");
    until("the deaf one is cut", || gate.asked().ends.iter().any(|end| end.request_bytes == 30_000_000))
        .await;
    let mut all = Vec::new();
    let _ = read.read_to_end(&mut all).await;
    assert!(all.len() < 30_000_000, "cut, not ended: {}", all.len());
}
