//! Several servers behind one listener: whose choice it is, and what becomes of one that fails.

use crate::support::choice::Choosing;
use crate::support::client::{self, full, post};
use crate::support::service::{self, Service, Speaks};
use crate::support::{settings, start_with, until};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tonic::Code;
use weir_edge::{AdmitAll, HealthCheck, HealthQuestion, OpenFailure, Outcome, Settings, UpstreamSettings};
use weir_engine::rpc::eject::EjectRules;
use weir_engine::settings::Address;
use weir_engine::units::Span;

fn message(text: &str) -> tonic::Request<Bytes> {
    tonic::Request::new(Bytes::from(text.to_owned()))
}

async fn two() -> (Service, Service, Settings) {
    let (one, two) = (service::start().await, service::start().await);
    let mut settings = settings(&one);
    settings.upstream.addresses.push(two.address.clone());
    (one, two, settings)
}

fn eject(failures: u32, time: Span) -> EjectRules {
    EjectRules { failures, time, time_max: Span::secs(60) }
}

/// A server that takes each request and closes: nobody knows what it did.
async fn broken() -> (Address, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Address = listener.local_addr().expect("its address").into();
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            use tokio::io::AsyncReadExt as _;
            if stream.read(&mut [0; 4_096]).await.is_ok_and(|read| read > 0) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    (address, taken)
}

#[tokio::test]
async fn the_gate_s_choice_is_followed_and_a_server_that_is_gone_is_not_asked() {
    let (one, two, settings) = two().await;
    let gate = Choosing::new(&two.address, &one.address);
    let edge = start_with(settings, Arc::new(gate.clone()));
    until("both are told to be up", || {
        [&one, &two].iter().all(|service| gate.stands(&service.address) == Some(true))
    })
    .await;
    let mut client = client::over_tcp(edge.port).await;
    for _ in 0..20 {
        client.unary("Echo", message("x")).await.expect("an answer");
    }
    assert_eq!((one.log.seen().len(), two.log.seen().len()), (0, 20), "all where the gate wants them");
    assert!(gate.heard().went.is_empty());
    let gone = two.address.clone();
    drop(two);
    until("it is told to be down", || gate.stands(&gone) == Some(false)).await;
    for _ in 0..5 {
        client.unary("Echo", message("x")).await.expect("the other one answers");
    }
    assert_eq!(one.log.seen().len(), 5);
    assert_eq!(gate.heard().went, vec![one.address.clone(); 5], "the gate hears where they went");
    let of = |address: &Address| {
        edge.edge.servers().into_iter().find(|own| own.address == *address).expect("listed")
    };
    assert!(of(&one.address).up && !of(&gone).up);
    assert_eq!((of(&one.address).connections, of(&gone).connections), (2, 0));
    until("it is dialled", || of(&gone).open_failures[OpenFailure::Refused as usize] > 0).await;
    assert!(of(&gone).trouble.is_some_and(|why| why.contains("refused")), "{:?}", of(&gone));
}

#[tokio::test]
async fn what_failed_at_one_server_goes_to_another() {
    let (bad, taken) = broken().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let good = service::at_tcp(listener, Speaks::Http1);
    // With the gate's choice, and without.
    for gate in [Choosing::new(&bad, &good.address), Choosing::none()] {
        let before = taken.load(Ordering::Relaxed);
        let mut settings =
            Settings::new("test", UpstreamSettings::http1(vec![bad.clone(), good.address.clone()]));
        settings.upstream.eject = eject(0, Span::secs(1));
        let edge = start_with(settings, Arc::new(gate.clone()));
        for _ in 0..10 {
            let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
            assert_eq!(answer.status, 200, "the other one answers");
        }
        let failed = taken.load(Ordering::Relaxed) - before;
        assert_eq!(edge.counted().retries, failed, "each was sent once more");
        assert!(
            failed == if gate.first.is_some() { 10 } else { 5 },
            "{failed}: in turn where nobody chooses"
        );
        until("all ends are told", || gate.watching.asked().ends.len() == 10).await;
        assert_eq!(gate.watching.outcomes(), [Outcome::Answered; 10]);
    }
}

#[tokio::test]
async fn a_server_that_fails_call_after_call_is_left_out_for_a_while() {
    let (bad, taken) = broken().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let good = service::at_tcp(listener, Speaks::Http1);
    let mut settings =
        Settings::new("test", UpstreamSettings::http1(vec![bad.clone(), good.address.clone()]));
    settings.upstream.eject = eject(3, Span::millis(400));
    let gate = Choosing::none();
    let edge = start_with(settings, Arc::new(gate.clone()));
    let call = async || client::http1(edge.port, post("/echo", "text/plain", full("x"))).await.status;
    while taken.load(Ordering::Relaxed) < 3 {
        assert_eq!(call().await, 200);
    }
    let out = Instant::now();
    until("it is told to be down", || gate.stands(&bad) == Some(false)).await;
    for _ in 0..20 {
        assert_eq!(call().await, 200);
    }
    let servers = edge.edge.servers();
    let own = servers.iter().find(|own| own.address == bad).expect("listed");
    assert!(own.left_out && own.failures == 3 && own.ejections == 1, "{own:?}");
    assert!(own.trouble.as_deref().is_some_and(|why| why.contains("left out")), "{own:?}");
    if out.elapsed() < Duration::from_millis(400) {
        assert_eq!(taken.load(Ordering::Relaxed), 3, "none while it is out");
    }
    // Afterwards one call decides, and it is out for twice as long.
    until("its time is over", || gate.stands(&bad) == Some(true)).await;
    assert!(out.elapsed() >= Duration::from_millis(390), "{:?}", out.elapsed());
    let (again, before) = (Instant::now(), taken.load(Ordering::Relaxed));
    while taken.load(Ordering::Relaxed) == before {
        assert_eq!(call().await, 200);
    }
    until("it is out again", || gate.stands(&bad) == Some(false)).await;
    until("and back", || gate.stands(&bad) == Some(true)).await;
    assert!(again.elapsed() >= Duration::from_millis(790), "{:?}", again.elapsed());
    let servers = edge.edge.servers();
    let failures =
        |address: &Address| servers.iter().find(|own| own.address == *address).map(|own| own.failures);
    assert_eq!((failures(&bad), failures(&good.address)), (Some(4), Some(0)));
}

#[tokio::test]
async fn the_only_server_is_never_left_out() {
    let (bad, taken) = broken().await;
    let mut settings = Settings::new("test", UpstreamSettings::http1(vec![bad]));
    settings.upstream.eject = eject(1, Span::secs(60));
    settings.upstream.max_retries = 0;
    let edge = start_with(settings, Arc::new(AdmitAll));
    for _ in 0..5 {
        assert_eq!(client::http1(edge.port, post("/echo", "text/plain", full("x"))).await.status, 502);
    }
    assert_eq!(taken.load(Ordering::Relaxed), 5);
    assert_eq!((edge.edge.servers()[0].failures, edge.edge.servers()[0].ejections), (5, 0));
}

#[tokio::test]
async fn an_unused_address_is_found_out_by_dialling_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let good = service::at_tcp(listener, Speaks::Http1);
    let dead = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address: Address = dead.local_addr().expect("its address").into();
    let at = dead.local_addr().expect("its address");
    drop(dead);
    let mut settings =
        Settings::new("test", UpstreamSettings::http1(vec![good.address.clone(), address.clone()]));
    let mut check = HealthCheck::new(HealthQuestion::Connect);
    check.interval = Duration::from_millis(20);
    settings.upstream.health = Some(check);
    let gate = Choosing::none();
    let edge = start_with(settings, Arc::new(gate.clone()));
    until("it is judged bad", || gate.stands(&address) == Some(false)).await;
    for _ in 0..10 {
        let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
        assert_eq!(answer.status, 200);
    }
    assert_eq!((edge.counted().retries, good.log.seen().len()), (0, 10), "nobody has tried the dead one");
    // Somebody listens there again.
    let _again = service::at_tcp(TcpListener::bind(at).await.expect("the port is free"), Speaks::Http1);
    until("it is judged good", || gate.stands(&address) == Some(true)).await;
    let servers = edge.edge.servers();
    assert!(servers.iter().all(|own| own.up) && servers[1].health_failures >= 2, "{servers:?}");
}

#[tokio::test]
async fn while_no_server_can_be_reached_calls_are_told_so_politely() {
    let (one, two, mut settings) = two().await;
    settings.upstream.connect_timeout = Duration::from_millis(300);
    let gate = Choosing::new(&one.address, &two.address);
    let edge = start_with(settings, Arc::new(gate.clone()));
    let mut client = client::over_tcp(edge.port).await;
    client.unary("Echo", message("x")).await.expect("an answer");
    let addresses = [one.address.clone(), two.address.clone()];
    drop((one, two));
    until("both are down", || addresses.iter().all(|address| gate.stands(address) == Some(false))).await;
    let began = tokio::time::Instant::now();
    let error = client.unary("Echo", message("x")).await.expect_err("nobody is there");
    assert_eq!(error.code(), Code::Unavailable, "{error:?}");
    assert!(
        began.elapsed() < Duration::from_millis(590),
        "once connect_timeout, not twice: {:?}",
        began.elapsed()
    );
    assert_eq!(edge.counted().retries, 0);
    assert!(addresses.iter().all(|address| error.message().contains(&address.to_string())), "{error:?}");
    let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
    assert_eq!(answer.status, 503);
    until("all ends are told", || gate.watching.asked().ends.len() == 3).await;
    assert_eq!(gate.watching.outcomes()[1..], [Outcome::Unreachable; 2]);
}
