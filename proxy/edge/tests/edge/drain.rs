//! Draining: nothing new is taken, what is under way ends, and what does not end is cut.

use crate::support::client::{self};
use crate::support::{service, settings, start, start_with, until};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;
use weir_edge::AdmitAll;

fn message(text: &str) -> tonic::Request<Bytes> {
    tonic::Request::new(Bytes::from(text.to_owned()))
}

#[tokio::test]
async fn what_is_under_way_ends_and_idle_clients_do_not_delay_it() {
    let service = service::start().await;
    let edge = start(&service);
    let port = edge.port;
    let client = client::over_tcp(port).await;
    let mut idle = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    idle.write_all(b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
    idle.read_exact(&mut [0; 12]).await.expect("an answer");
    let silent = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    let slow = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary("Slow", message("500")).await }
    });
    until("it is under way", || service.log.last().path.ends_with("Slow")).await;
    let started = tokio::time::Instant::now();
    let drained = edge.end().await;
    assert_eq!(drained.cut, 0);
    assert!((300..5_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    slow.await.expect("no panic").expect("it ended");
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the door is closed");
    drop((idle, silent));
}

#[tokio::test]
async fn what_does_not_end_is_cut() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.requests.drain_timeout = Duration::from_millis(300);
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut client = client::over_tcp(edge.port).await;
    let slow = tokio::spawn(async move { client.unary("Slow", message("600000")).await });
    until("it is under way", || !service.log.seen().is_empty()).await;
    let drained = edge.end().await;
    assert_eq!(drained.cut, 1);
    let error = slow.await.expect("no panic").expect_err("it was cut");
    assert!(
        matches!(error.code(), Code::Unknown | Code::Unavailable | Code::Cancelled | Code::Internal),
        "{error:?}"
    );
    until("its work stops", || service.log.cancelled() == 1).await;
}

#[tokio::test]
async fn an_http2_connection_is_left_after_its_requests() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.clients.requests_per_connection = 3;
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut client = client::over_tcp(edge.port).await;
    for _ in 0..12 {
        client.unary("Echo", message("x")).await.expect("an answer");
        // The GOAWAY reaches it between two.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let opened = edge.counted().client_connections;
    assert!((3..=5).contains(&opened), "{opened}");
    assert_eq!(service.log.connections(), 2);
}
