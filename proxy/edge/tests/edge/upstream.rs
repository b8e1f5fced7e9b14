//! The way to the service: killed and started again, leaving, full, unwell.

use crate::support::client::{self, full, post};
use crate::support::gate::Watching;
use crate::support::service::{self, Service, Speaks};
use crate::support::{settings, start_with, until};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::TcpListener;
use tonic::Code;
use weir_edge::{AdmitAll, HealthCheck, HealthQuestion, Outcome, Settings, UpstreamSettings};
use weir_engine::settings::Address;

fn message(text: &str) -> tonic::Request<Bytes> {
    tonic::Request::new(Bytes::from(text.to_owned()))
}

/// A service at the address of one that was killed.
async fn again_at(address: &Address) -> Service {
    let Address::Tcp { host, port } = address else { panic!("it listens at a port") };
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("set");
    let to = format!("{host}:{port}").parse().expect("an address");
    socket.bind(to).expect("the port is free");
    service::at_tcp(socket.listen(64).expect("it listens"), Speaks::Http2)
}

#[tokio::test]
async fn a_service_that_is_killed_and_comes_back_is_found_again() {
    let service = service::start().await;
    let address = service.address.clone();
    let gate = Watching::new(true);
    let edge = start_with(settings(&service), Arc::new(gate.clone()));
    let mut client = client::over_tcp(edge.port).await;
    client.unary("Echo", message("before")).await.expect("an answer");
    // A call under way when it dies: nobody knows what became of it, so it is not UNAVAILABLE.
    let slow = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary("Slow", message("600000")).await }
    });
    let log = service.log.clone();
    until("it is under way", || log.seen().len() == 2).await;
    drop(service);
    let error = slow.await.expect("no panic").expect_err("it was cut");
    assert_eq!(error.code(), Code::Internal, "{error:?}");
    // While it is away a request waits a little, and is told that nothing was done.
    let error = client.unary("Echo", message("away")).await.expect_err("nobody is there");
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(error.message().contains(&address.to_string()), "{error:?}");
    assert!(!edge.edge.troubles().is_empty());
    // One that waits while it comes back is served.
    let waiting = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary("Echo", message("waits")).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let service = again_at(&address).await;
    waiting.await.expect("no panic").expect("an answer");
    assert_eq!(service.log.seen().len(), 1);
    until("both connections are there", || edge.counted().upstream_connections_now == 2).await;
    assert!(edge.edge.troubles().is_empty());
    until("all ends are told", || gate.asked().ends.len() == 4).await;
    assert_eq!(
        gate.outcomes(),
        [Outcome::Answered, Outcome::Broken, Outcome::Unreachable, Outcome::Answered]
    );
}

#[tokio::test]
async fn what_may_be_sent_again_is_and_within_the_budget() {
    // A service that takes each request and closes: nobody knows what it did.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Address = listener.local_addr().expect("its address").into();
    let taken = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncReadExt as _;
            if stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let taken = || taken.load(Ordering::Relaxed);
    for (idempotent, tries) in [(false, 1), (true, 3)] {
        let mut gate = Watching::new(true);
        gate.idempotent = idempotent;
        let mut settings = Settings::new("test", UpstreamSettings::http1(vec![address.clone()]));
        settings.upstream.max_retries = 2;
        settings.upstream.retry_permille = 0;
        settings.upstream.retry_burst = 2;
        let edge = start_with(settings, Arc::new(gate.clone()));
        let before = taken();
        let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
        assert_eq!((answer.status, taken() - before), (502, tries));
        // The budget is spent.
        let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
        assert_eq!((answer.status, taken() - before), (502, tries + 1));
        assert_eq!(edge.counted().retries_denied, u64::from(idempotent));
        until("both ends are told", || gate.asked().ends.len() == 2).await;
        assert_eq!(gate.outcomes(), [Outcome::Broken; 2]);
        assert_eq!(u64::from(gate.asked().ends[0].retries), tries - 1);
    }
}

#[tokio::test]
async fn a_full_service_has_requests_wait_and_then_refused() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.upstream.connections = 1;
    settings.upstream.streams_per_connection = 2;
    settings.upstream.max_waiting = 1;
    settings.upstream.queue_timeout = Duration::from_millis(400);
    let edge = start_with(settings, Arc::new(AdmitAll));
    let client = client::over_tcp(edge.port).await;
    let call = |text: &'static str| {
        let mut client = client.clone();
        tokio::spawn(async move { client.unary("Slow", message(text)).await })
    };
    let (one, two) = (call("100"), call("600000"));
    until("two are under way", || service.log.seen().len() == 2).await;
    // The third takes the first one's place.
    let three = call("600000");
    until("it waits", || edge.counted().upstream_waiting_now == 1).await;
    let error = call("1").await.expect("no panic").expect_err("one may wait");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    one.await.expect("no panic").expect("an answer");
    until("the third is under way", || service.log.seen().len() == 3).await;
    let error = call("1").await.expect("no panic").expect_err("none ends in time");
    assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
    assert_eq!((service.log.seen().len(), service.log.connections()), (3, 1));
    two.abort();
    three.abort();
}

#[tokio::test]
async fn http1_connections_are_kept_and_never_more_than_allowed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let service = service::at_tcp(listener, Speaks::Http1);
    let mut settings = Settings::new("test", UpstreamSettings::http1(vec![service.address.clone()]));
    settings.upstream.connections = 4;
    let edge = start_with(settings, Arc::new(AdmitAll));
    let sender = client::http2(edge.port).await;
    let calls = (0..200).map(|_| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let request = post("http://weir.test/echo", "text/plain", full("x"));
            client::read(sender.send_request(request).await.expect("a reply")).await.status
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.expect("no panic"), 200);
    }
    assert_eq!(service.log.seen().len(), 200);
    assert!(service.log.connections() <= 4, "{}", service.log.connections());
}

#[tokio::test]
async fn an_address_that_fails_its_checks_gets_no_requests() {
    let good = service::start().await;
    let bad = service::start().await;
    let mut settings = settings(&good);
    settings.upstream.addresses.push(bad.address.clone());
    let mut check = HealthCheck::new(HealthQuestion::Get("/health".into()));
    check.interval = Duration::from_millis(20);
    settings.upstream.health = Some(check);
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut client = client::over_tcp(edge.port).await;
    let calls =
        |service: &Service| service.log.seen().iter().filter(|seen| seen.path.ends_with("/Echo")).count();
    bad.log.sick.store(true, Ordering::Relaxed);
    until("one is judged bad", || edge.counted().health_failures >= 2 && edge.edge.troubles().len() == 1)
        .await;
    let before = calls(&bad);
    for _ in 0..20 {
        client.unary("Echo", message("x")).await.expect("an answer");
    }
    assert_eq!((calls(&good), calls(&bad)), (20, before));
    // When none is good the checks are not believed, and requests go on.
    good.log.sick.store(true, Ordering::Relaxed);
    until("both are judged bad", || edge.edge.troubles().len() == 2).await;
    client.unary("Echo", message("x")).await.expect("an answer all the same");
    // One recovers, and gets them again.
    bad.log.sick.store(false, Ordering::Relaxed);
    until("one is judged good", || edge.edge.troubles().len() == 1).await;
    let before = calls(&bad);
    client.unary("Echo", message("x")).await.expect("an answer");
    assert_eq!(calls(&bad), before + 1);
    assert_eq!((good.log.connections(), bad.log.connections()), (2, 2), "checks use what requests use");
}
