//! TLS between the edge and its service: who is believed, what is shown, and which HTTP is agreed on.

use crate::support::client::{self, full, post};
use crate::support::service::{self, Speaks};
use crate::support::tls::{Authority, Pair};
use crate::support::{settings, start_with, until};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;
use weir_edge::{
    AdmitAll, HealthCheck, HealthQuestion, OpenFailure, Settings, UpstreamSettings, UpstreamTls,
};

fn message(text: &str) -> tonic::Request<Bytes> {
    tonic::Request::new(Bytes::from(text.to_owned()))
}

const H2: &[&[u8]] = &[b"h2"];

fn own(ca: &Authority, pair: Option<&Pair>, name: Option<&str>) -> UpstreamTls {
    let name = name.map(|name| rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name"));
    UpstreamTls::new(ca.client(pair), name)
}

fn before(service: &service::Service, tls: UpstreamTls) -> Settings {
    let mut settings = settings(service);
    settings.upstream.connect_timeout = Duration::from_millis(500);
    settings.upstream.tls = Some(tls);
    settings
}

#[tokio::test]
async fn calls_pass_over_http2_that_was_agreed_on() {
    let ca = Authority::new();
    let service = service::at_tls(ca.server(&ca.vouch("127.0.0.1"), None, H2), Speaks::Http2).await;
    let mut settings = before(&service, own(&ca, None, None));
    let mut check = HealthCheck::new(HealthQuestion::Connect);
    check.interval = Duration::from_millis(20);
    settings.upstream.health = Some(check);
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut client = client::over_tcp(edge.port).await;
    for size in [1, 100_000] {
        let text = "x".repeat(size);
        let reply = client.unary("Echo", message(&text)).await.expect("an answer");
        assert_eq!(reply.get_ref(), text.as_bytes());
    }
    assert_eq!(client.unary("Fail", message("x")).await.expect_err("it says so").code(), Code::NotFound);
    let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"x"[..]));
    let servers = edge.edge.servers();
    assert!(servers[0].up && servers[0].connections == 2 && servers[0].health_failures == 0, "{servers:?}");
}

#[tokio::test]
async fn a_certificate_is_believed_for_its_ca_and_its_name_only() {
    let (ca, other) = (Authority::new(), Authority::new());
    let named = ca.vouch("dataplane.internal");
    for (tls, good) in [
        (own(&ca, None, None), false),
        (own(&ca, None, Some("dataplane.internal")), true),
        (own(&ca, None, Some("appview.internal")), false),
        (own(&other, None, Some("dataplane.internal")), false),
    ] {
        let service = service::at_tls(ca.server(&named, None, H2), Speaks::Http2).await;
        let edge = start_with(before(&service, tls), Arc::new(AdmitAll));
        let mut client = client::over_tcp(edge.port).await;
        match client.unary("Echo", message("x")).await {
            Ok(_) => assert!(good),
            Err(error) => {
                assert!(!good && error.code() == Code::Unavailable, "{error:?}");
                assert!(error.message().contains("certificate"), "{error:?}");
                let failures = edge.edge.servers()[0].open_failures;
                assert!(failures[OpenFailure::Tls as usize] > 0, "{failures:?}");
                assert!(service.log.seen().is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_service_that_asks_for_a_certificate_is_shown_one() {
    let ca = Authority::new();
    let service = service::at_tls(ca.server(&ca.vouch("127.0.0.1"), Some(&ca), H2), Speaks::Http2).await;
    let mine = ca.vouch("weir.internal");
    for (pair, good) in [(Some(&mine), true), (None, false)] {
        let edge = start_with(before(&service, own(&ca, pair, None)), Arc::new(AdmitAll));
        let called = client::over_tcp(edge.port).await.unary("Echo", message("x")).await;
        assert_eq!(called.is_ok(), good, "{called:?}");
    }
}

#[tokio::test]
async fn a_service_that_does_not_agree_to_http2_is_no_upstream_of_it() {
    let ca = Authority::new();
    let service = service::at_tls(ca.server(&ca.vouch("127.0.0.1"), None, &[]), Speaks::Http1).await;
    let edge = start_with(before(&service, own(&ca, None, None)), Arc::new(AdmitAll));
    let error = client::over_tcp(edge.port).await.unary("Echo", message("x")).await.expect_err("no HTTP/2");
    assert!(error.code() == Code::Unavailable && error.message().contains("h2 by ALPN"), "{error:?}");
    // The same one with HTTP/1.1, which needs no word.
    let mut settings = Settings::new("test", UpstreamSettings::http1(vec![service.address.clone()]));
    settings.upstream.tls = Some(own(&ca, None, None));
    let edge = start_with(settings, Arc::new(AdmitAll));
    for _ in 0..3 {
        let answer = client::http1(edge.port, post("/echo", "text/plain", full("x"))).await;
        assert_eq!(answer.status, 200);
    }
    until("one connection is kept", || edge.edge.servers()[0].connections == 1).await;
    // What pingora forwards by itself would go in the clear.
    let upgrade = http::Request::get("/echo")
        .header("host", "weir.test")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .body(full(""))
        .expect("a request");
    assert_eq!(client::http1(edge.port, upgrade).await.status, 501);
    assert_eq!(service.log.seen().len(), 3);
}
