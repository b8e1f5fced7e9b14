//! gRPC over HTTP/2 on both sides, as tonic's client and server speak it.

use crate::support::gate::Watching;
use crate::support::{SOON, client, service, settings, start, start_with, until};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::Code;
use weir_edge::Outcome;

fn message(text: &str) -> tonic::Request<Bytes> {
    tonic::Request::new(Bytes::from(text.to_owned()))
}

#[tokio::test]
async fn unary_calls_pass_over_tcp_and_unix_on_fixed_connections() {
    let folder = tempfile::tempdir().expect("a folder");
    for unix in [false, true] {
        let service = match unix {
            true => service::at_unix(&folder.path().join("service.sock")),
            false => service::start().await,
        };
        let edge = start(&service);
        let mut clients = Vec::new();
        for _ in 0..5 {
            clients.push(client::over_tcp(edge.port).await);
            clients.push(client::over_unix(&edge.socket).await);
        }
        for client in &mut clients {
            for number in 0..20 {
                let text = format!("hello {number}");
                let reply = client.unary("Echo", message(&text)).await.expect("an answer");
                assert_eq!(reply.get_ref(), text.as_bytes());
            }
        }
        let seen = service.log.seen();
        assert_eq!(seen.len(), 200);
        assert!(seen.iter().all(|seen| seen.path == "/weir.test.Service/Echo" && seen.body.is_some()));
        assert_eq!(service.log.connections(), 2, "whatever the clients do");
        let counted = edge.counted();
        assert_eq!((counted.client_connections, counted.requests, counted.requests_now), (10, 200, 0));
        assert_eq!((counted.upstream_requests, counted.retries), (200, 0));
        drop(clients);
        assert_eq!(edge.end().await.cut, 0);
    }
}

#[tokio::test]
async fn metadata_and_errors_pass_as_they_are() {
    let service = service::start().await;
    let edge = start(&service);
    let mut client = client::over_tcp(edge.port).await;
    let mut request = message("x");
    request.metadata_mut().insert("x-kept", "1".parse().expect("a value"));
    request.metadata_mut().insert_bin("x-kept-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
    let error = client.unary("Fail", request).await.expect_err("the service says so");
    assert_eq!((error.code(), error.message()), (Code::NotFound, "no such thing: \u{e9}"));
    let seen = service.log.last();
    assert_eq!(seen.headers["x-kept"], "1");
    assert_eq!(seen.headers["x-kept-bin"], "AP8");
    assert_eq!(seen.headers["te"], "trailers");
    let error = client.unary("NoSuchMethod", message("")).await.expect_err("the service says so");
    assert_eq!(error.code(), Code::Unimplemented);
}

#[tokio::test]
async fn twenty_megabytes_pass_both_ways() {
    let service = service::start().await;
    for holds in [false, true] {
        let gate = Watching::new(holds);
        let edge = start_with(settings(&service), Arc::new(gate.clone()));
        let mut client = client::over_tcp(edge.port).await;
        let big: Bytes = (0..20_000_000_u32).map(|number| (number >> 8) as u8).collect::<Vec<_>>().into();
        let reply = client.unary("Echo", tonic::Request::new(big.clone())).await.expect("an answer");
        assert!(*reply.get_ref() == big, "the same bytes");
        let reply = client.unary("Big", message("20000000")).await.expect("an answer");
        assert_eq!(reply.get_ref().len(), 20_000_000);
        until("the gate hears of both ends", || gate.asked().ends.len() == 2).await;
        let asked = gate.asked();
        assert_eq!(asked.ends[0].request_bytes, 20_000_005, "with five bytes of framing");
        assert_eq!(asked.ends[0].reply_bytes, 20_000_005);
        assert_eq!(asked.ends[0].grpc_status, Some(0));
        assert_eq!(asked.bodies.len(), if holds { 2 } else { 0 });
        assert_eq!(edge.edge.held_bytes(), 0, "given back");
    }
}

#[tokio::test]
async fn streams_pass_with_their_late_errors() {
    let service = service::start().await;
    let edge = start(&service);
    let mut client = client::over_tcp(edge.port).await;
    let stream = client.stream("Stream", "20").await.expect("a stream");
    let numbers: Vec<_> = stream.map(|part| part.expect("a message")).collect().await;
    assert_eq!(numbers, (0..20).map(|number| Bytes::from(number.to_string())).collect::<Vec<_>>());
    let mut stream = client.stream("StreamFails", "3").await.expect("a stream");
    for _ in 0..3 {
        stream.message().await.expect("no error yet").expect("a message");
    }
    let error = stream.message().await.expect_err("in the trailers");
    assert_eq!((error.code(), error.message()), (Code::DataLoss, "after all of them"));
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    let service = service::start().await;
    let edge = start(&service);
    let mut client = client::over_tcp(edge.port).await;
    let (to, from) = tokio::sync::mpsc::channel(1);
    let mut back = client.bidi(tokio_stream::wrappers::ReceiverStream::new(from)).await.expect("a stream");
    for number in 0..100 {
        let text = Bytes::from(number.to_string());
        to.send(text.clone()).await.expect("it is read");
        assert_eq!(back.message().await.expect("no error").expect("a message"), text);
    }
    drop(to);
    assert!(back.message().await.expect("no error").is_none());
}

#[tokio::test]
async fn a_client_that_leaves_stops_the_service_s_work() {
    let service = service::start().await;
    for holds in [false, true] {
        let gate = Watching::new(holds);
        let edge = start_with(settings(&service), Arc::new(gate.clone()));
        let mut client = client::over_tcp(edge.port).await;
        let before = service.log.cancelled();
        // In the middle of a stream.
        let mut stream = client.stream("Stream", "1000000").await.expect("a stream");
        stream.message().await.expect("no error").expect("a message");
        drop(stream);
        until("the stream's work stops", || service.log.cancelled() == before + 1).await;
        let produced = service.log.produced.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(service.log.produced.load(Ordering::Relaxed), produced);
        // While the reply's head is awaited.
        let seen = service.log.seen().len();
        let waiting = tokio::spawn({
            let mut client = client.clone();
            async move { client.unary("Slow", message("600000")).await }
        });
        until("it reaches the service", || service.log.seen().len() == seen + 1).await;
        until("and is read", || service.log.last().body.is_some()).await;
        waiting.abort();
        until("the call's work stops", || service.log.cancelled() == before + 2).await;
        until("the gate hears of both", || gate.asked().ends.len() == 2).await;
        assert_eq!(gate.outcomes(), [Outcome::ClientGone, Outcome::ClientGone]);
        // The connections live on.
        let reply = client.unary("Echo", message("still there")).await.expect("an answer");
        assert_eq!(reply.get_ref(), "still there");
        assert_eq!(edge.counted().upstream_opens, 2);
    }
}

#[tokio::test]
async fn deadlines_are_the_client_s_or_the_listener_s_and_end_the_work() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.requests.default_timeout = Duration::from_millis(300);
    let gate = Watching::new(false);
    let edge = start_with(settings, Arc::new(gate.clone()));
    let mut client = client::over_tcp(edge.port).await;
    // The client's, which is shorter: it is told to the service with a little less.
    let mut request = message("1");
    request.set_timeout(Duration::from_secs(100));
    client.unary("Slow", request).await.expect("an answer in time");
    let told = service.log.last().headers["grpc-timeout"].to_str().expect("text").to_owned();
    let left: u64 = told.trim_end_matches('u').parse().expect("microseconds");
    assert!((95_000_000..100_000_000).contains(&left), "{told}");
    // The listener's, where the client says nothing.
    let started = tokio::time::Instant::now();
    let error = client.unary("Slow", message("600000")).await.expect_err("too late");
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert!(error.message().starts_with("weir: "), "{error:?}");
    assert!((300..3_000).contains(&started.elapsed().as_millis()));
    assert!(service.log.last().headers.contains_key("grpc-timeout"), "set where absent");
    until("the work stops", || service.log.cancelled() == 1).await;
    // In the middle of a reply the trailers say it.
    let mut stream = client.stream("Stream", "1000000").await.expect("a stream");
    let error = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended as if it were whole"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::DeadlineExceeded);
    until("the work stops", || service.log.cancelled() == 2).await;
    assert_eq!(gate.outcomes(), [Outcome::Answered, Outcome::Deadline, Outcome::Deadline]);
    assert_eq!(edge.counted().upstream_opens, 2, "no connection was lost to it");
}

#[tokio::test]
async fn a_caller_s_name_is_removed_unless_it_is_trusted_and_a_trace_is_kept_or_made() {
    let service = service::start().await;
    for trusts in [false, true] {
        let mut gate = Watching::new(true);
        gate.trusts = trusts;
        let edge = start_with(settings(&service), Arc::new(gate.clone()));
        let mut client = client::over_tcp(edge.port).await;
        let mut request = message("x");
        request.metadata_mut().insert("x-weir-caller", "someone-else".parse().expect("a value"));
        client.unary("Echo", request).await.expect("an answer");
        let headers = service.log.last().headers;
        assert_eq!(headers.contains_key("x-weir-caller"), trusts);
        assert_eq!(gate.asked().callers[0].as_deref(), Some("someone-else"), "the gate sees it");
        // Made.
        let made = headers["traceparent"].to_str().expect("text").to_owned();
        assert_eq!(made.split('-').nth(1), Some(gate.asked().traces[0].as_str()));
        // Kept.
        let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let mut request = message("x");
        request.metadata_mut().insert("traceparent", own.parse().expect("a value"));
        client.unary("Echo", request).await.expect("an answer");
        assert_eq!(service.log.last().headers["traceparent"], own);
        assert_eq!(gate.asked().traces[1], "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}

#[tokio::test]
async fn what_the_gate_refuses_never_reaches_the_service() {
    let service = service::start().await;
    let mut gate = Watching::new(true);
    gate.most = 1_000;
    let edge = start_with(settings(&service), Arc::new(gate.clone()));
    let mut client = client::over_tcp(edge.port).await;
    client.unary("Echo", message("small")).await.expect("an answer");
    let big = tonic::Request::new(Bytes::from(vec![0; 500_000]));
    let error = client.unary("Echo", big).await.expect_err("refused");
    assert_eq!((error.code(), error.message()), (Code::ResourceExhausted, "weir: 500005 bytes are too many"));
    let error = client.unary("Denied", message("x")).await.expect_err("switched off");
    assert_eq!(
        (error.code(), error.message()),
        (Code::ResourceExhausted, "weir: this method is switched off")
    );
    assert!(!error.details().is_empty(), "RetryInfo");
    until("all ends are told", || gate.asked().ends.len() == 2).await;
    assert_eq!(gate.outcomes(), [Outcome::Answered, Outcome::Refused]);
    assert_eq!(gate.asked().ends[1].grpc_status, Some(8));
    assert_eq!(service.log.seen().len(), 1, "one request, and no head of the others");
    assert_eq!(edge.counted().refused, 2);
}

#[tokio::test]
async fn the_service_sees_nothing_of_a_held_request_before_its_last_byte() {
    let service = service::start().await;
    let gate = Watching::new(true);
    let edge = start_with(settings(&service), Arc::new(gate.clone()));
    let mut sender = client::http2(edge.port).await;
    let (to, from) = tokio::sync::mpsc::channel(1);
    let parts = tokio_stream::wrappers::ReceiverStream::new(from);
    let body = http_body_util::StreamBody::new(parts.map(|part: Bytes| Ok(hyper::body::Frame::data(part))));
    let body = http_body_util::BodyExt::boxed(body);
    let uri = "http://weir.test/weir.test.Service/Echo";
    let reply = tokio::spawn(sender.send_request(client::post(uri, "application/grpc", body)));
    // A message of 4 bytes, byte by byte.
    for byte in [0, 0, 0, 0, 4, b'a', b'b', b'c'] {
        to.send(Bytes::from(vec![byte])).await.expect("it is read");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("it is held", || edge.edge.held_bytes() == 8).await;
    assert!(service.log.seen().is_empty(), "not even the head");
    to.send(Bytes::from_static(b"d")).await.expect("it is read");
    drop(to);
    let reply = tokio::time::timeout(SOON, reply).await.expect("in time").expect("no panic");
    let answer = client::read(reply.expect("a reply")).await;
    assert_eq!(&answer.body[5..], b"abcd");
    assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    assert_eq!(service.log.last().body, Some(4));
    assert_eq!(gate.asked().bodies, [9]);
}
