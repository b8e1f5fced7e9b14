//! HTTP/1.1 clients, curl among them: plain HTTP, Connect and gRPC-web pass; gRPC over it is refused with a status that
//! says why.

use crate::support::client::{self, full, post};
use crate::support::gate::Watching;
use crate::support::service::{self, Service, Speaks};
use crate::support::{settings, start, start_at, start_with, until};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use weir_edge::{AdmitAll, Outcome, Settings, UpstreamSettings};

async fn http1_service() -> Service {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    service::at_tcp(listener, Speaks::Http1)
}

/// curl's output and its exit code.
async fn curl(arguments: &[&str]) -> (String, i32) {
    let mut command = tokio::process::Command::new("curl");
    let done = command.args(["--silent", "--show-error", "--max-time", "20"]).args(arguments).output();
    let done = done.await.expect("curl is installed");
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (text, done.status.code().unwrap_or(-1))
}

#[tokio::test]
async fn curl_is_served_over_tcp_and_unix_by_either_kind_of_service() {
    for speaks in [Speaks::Http2, Speaks::Http1] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let service = service::at_tcp(listener, speaks);
        let addresses = vec![service.address.clone()];
        let upstream = match speaks {
            Speaks::Http1 => UpstreamSettings::http1(addresses),
            Speaks::Http2 => UpstreamSettings::http2(addresses),
        };
        let edge = start_with(Settings::new("test", upstream), Arc::new(AdmitAll));
        let port = edge.port;
        let url = format!("http://127.0.0.1:{port}/echo");
        let (text, code) = curl(&["-d", "hello", "-w", " %{http_code} %{http_version}", &url]).await;
        assert_eq!((text.as_str(), code), ("hello 200 1.1", 0));
        let (text, _) =
            curl(&["--http2-prior-knowledge", "-d", "hello", "-w", " %{http_version}", &url]).await;
        assert_eq!(text, "hello 2");
        let socket = edge.socket.to_str().expect("text");
        let (text, _) = curl(&["--unix-socket", socket, "-w", "%{http_code}", "http://weir.test/404"]).await;
        assert_eq!(text, "404");
        let (text, _) = curl(&["-I", "-w", "%{http_code}", &url]).await;
        assert!(text.ends_with("200") && text.contains("x-service: yes"), "{text}");
        // Above a megabyte curl waits for "100 Continue".
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), vec![b'x'; 3_000_000]).expect("written");
        let data = format!("@{}", file.path().display());
        let (text, code) = curl(&["--data-binary", &data, "-w", "%{http_code}", &url]).await;
        assert_eq!((text.len(), &text[text.len() - 3..], code), (3_000_003, "200", 0));
        let seen = service.log.seen();
        assert_eq!(seen.len(), 5);
        assert!(seen.iter().all(|seen| !seen.headers.contains_key("expect")));
        assert!(seen.iter().all(|seen| !seen.headers.contains_key("connection")));
        assert!(service.log.connections() <= 2);
    }
}

#[tokio::test]
async fn grpc_over_http1_is_refused_with_a_status_that_says_why() {
    let service = service::start().await;
    let edge = start(&service);
    let body = full(vec![0, 0, 0, 0, 0]);
    let answer =
        client::http1(edge.port, post("/weir.test.Service/Echo", "application/grpc+proto", body)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["grpc-status"], "12");
    assert_eq!(answer.headers["content-type"], "application/grpc+proto");
    let message = answer.headers["grpc-message"].to_str().expect("text");
    assert!(message.contains("HTTP/2") && message.contains("HTTP/1.1"), "{message}");
    assert!(service.log.seen().is_empty());
}

#[tokio::test]
async fn connect_and_grpc_web_pass_over_http1_and_are_refused_in_their_own_words() {
    let service = service::start().await;
    let edge = start_with(settings(&service), Arc::new(Watching::new(true)));
    for kind in
        ["application/proto", "application/json", "application/connect+proto", "application/grpc-web+proto"]
    {
        let mut request = post("/weir.test.Service/Echo", kind, full("abc"));
        request.headers_mut().insert("connect-protocol-version", "1".parse().expect("a value"));
        let answer = client::http1(edge.port, request).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &b"abc"[..]), "{kind}");
        assert_eq!(answer.headers["content-type"], kind);
    }
    let seen = service.log.seen();
    assert!(seen[0].headers.contains_key("connect-timeout-ms"), "set where absent");
    assert!(seen[3].headers.contains_key("grpc-timeout"));

    let denied = |kind| post("/weir.test.Service/Denied", kind, full("abc"));
    let answer = client::http1(edge.port, denied("application/proto")).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (429, &"30".parse().expect("30")));
    assert!(answer.body.starts_with(b"{\"code\":\"resource_exhausted\""), "{:?}", answer.body);
    let answer = client::http1(edge.port, denied("application/connect+json")).await;
    assert_eq!((answer.status, answer.body[0]), (200, 2), "the last envelope");
    let answer = client::http1(edge.port, denied("application/grpc-web+proto")).await;
    assert_eq!((answer.status, &answer.headers["grpc-status"]), (200, &"8".parse().expect("8")));
    let answer = client::http1(edge.port, denied("text/plain")).await;
    assert_eq!((answer.status, &answer.headers["retry-after"]), (429, &"30".parse().expect("30")));
    assert_eq!(service.log.seen().len(), 4);
}

#[tokio::test]
async fn one_connection_carries_many_requests_also_ahead_of_their_turn() {
    let service = http1_service().await;
    let mut settings = Settings::new("test", UpstreamSettings::http1(vec![service.address.clone()]));
    settings.clients.requests_per_connection = 5;
    let edge = start_with(settings, Arc::new(AdmitAll));
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
    stream.write_all(&request.repeat(5)).await.expect("sent");
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.expect("it is closed after the fifth");
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 5, "{answers}");
    assert_eq!(answers.matches("onnection: close").count(), 1);
    assert_eq!(service.log.seen().len(), 5);
    assert_eq!(service.log.connections(), 1, "one after the other on the same");
}

#[tokio::test]
async fn a_short_request_of_http_1_0_is_served_and_one_without_sense_is_not() {
    let service = service::start().await;
    let edge = start(&service);
    for (request, status) in [
        (&b"GET / HTTP/1.0\r\nHost: x\r\n\r\n"[..], "200"),
        (b"G / HTTP/1.1\r\nHost:x\r\n\r\n", "200"),
        (b"GET / HTTP/1.1\r\n\r\n", "400"),
        (b"nonsense\r\n\r\n", "400"),
        (b"PRI * HTTP/1.1\r\nHost:x\r\n\r\n", "200"),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", "400"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "405"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: host\r\n\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
        stream.write_all(request).await.expect("sent");
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await;
        read.expect("in time").unwrap_or_else(|error| panic!("{}: {error}", request.escape_ascii()));
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(&answer[9..], status, "{}", request.escape_ascii());
    }
}

#[tokio::test]
async fn slow_and_large_bodies_are_refused_and_nothing_is_kept() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.requests.body_bytes = 10_000;
    settings.requests.held_bytes = 15_000;
    settings.requests.body_timeout = Duration::from_millis(300);
    let gate = Watching::new(true);
    let edge = start_with(settings, Arc::new(gate.clone()));
    // Announced: refused before a byte of it.
    let answer = client::http1(edge.port, post("/echo", "text/plain", full(vec![b'x'; 10_001]))).await;
    assert_eq!(
        (answer.status, &answer.headers["x-weir-reason"]),
        (413, &"body_too_large".parse().expect(""))
    );
    // Not announced: as soon as it is too large.
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    stream
        .write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await
        .expect("sent");
    stream.write_all(&[&b"2711\r\n"[..], &[b'x'; 10_001], b"\r\n"].concat()).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    // Too slow.
    let mut slow = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    slow.write_all(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9000\r\n\r\n").await.expect("sent");
    slow.write_all(&[b'x'; 8_000]).await.expect("sent");
    until("it is held", || edge.edge.held_bytes() == 8_000).await;
    // All together hold too much.
    let answer = client::http1(edge.port, post("/echo", "text/plain", full(vec![b'x'; 9_999]))).await;
    assert_eq!((answer.status, &answer.headers["x-weir-reason"]), (503, &"overloaded".parse().expect("")));
    slow.read_exact(&mut [0; 12]).await.expect("an answer");
    until("nothing is held", || edge.edge.held_bytes() == 0).await;
    assert!(service.log.seen().is_empty());
    until("all ends are told", || gate.asked().ends.len() == 4).await;
    assert_eq!(gate.outcomes(), [Outcome::Refused; 4]);
}

#[tokio::test]
async fn a_body_that_passes_as_it_comes_has_its_bound_too() {
    let service = service::start().await;
    let mut settings = settings(&service);
    settings.requests.upload_bytes = 10_000;
    let edge = start_with(settings, Arc::new(AdmitAll));
    let answer = client::http1(edge.port, post("/echo", "text/plain", full(vec![b'x'; 10_000]))).await;
    assert_eq!((answer.status, answer.body.len()), (200, 10_000));
    // Announced: the service does not hear of it.
    let answer = client::http1(edge.port, post("/echo", "text/plain", full(vec![b'x'; 10_001]))).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.headers["x-weir-reason"], "body_too_large");
    assert_eq!(service.log.seen().len(), 1);
    // Not announced: as soon as it is too large; the service sees that it is cut.
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let head = b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head).await.expect("sent");
    stream.write_all(&[&b"2711\r\n"[..], &[b'x'; 10_001], b"\r\n"].concat()).await.expect("sent");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(service.log.seen().iter().skip(1).all(|seen| seen.body.is_none()), "no whole body");
    // A stream of gRPC is none of it.
    let grpc = post("/weir.test.Service/Echo", "application/grpc-web+proto", full(vec![b'x'; 10_001]));
    assert_eq!(client::http1(edge.port, grpc).await.status, 200);
}

#[tokio::test]
async fn tls_offers_both_by_alpn() {
    let service = service::start().await;
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key"),
            )
            .expect("a configuration");
    let edge = start_at(settings(&service), Arc::new(AdmitAll), |door| door.with_tls(&config));
    let url = format!("https://localhost:{}/echo", edge.port);
    let to = format!("localhost:{}:127.0.0.1", edge.port);
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let (text, code) =
            curl(&["-k", "--resolve", &to, flag, "-d", "hello", "-w", " %{http_version}", &url]).await;
        assert_eq!((text, code), (format!("hello {version}"), 0));
    }
    // Without TLS nothing is served.
    let (_, code) = curl(&["-d", "x", &format!("http://127.0.0.1:{}/echo", edge.port)]).await;
    assert_ne!(code, 0);
    assert_eq!(edge.counted().clients_not_opened, 1);
    assert_eq!(service.log.seen().len(), 2);
}

#[tokio::test]
async fn websockets_become_bytes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let mut head = vec![0; 4_096];
        let read = stream.read(&mut head).await.expect("a head");
        let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
        assert!(head.contains("upgrade: websocket") && !head.contains("x-weir-caller"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(answer).await.expect("sent");
        let mut bytes = [0; 5];
        while stream.read_exact(&mut bytes).await.is_ok() {
            stream.write_all(&bytes).await.expect("sent");
        }
    });
    let gate = Watching::new(true);
    let edge = start_with(
        Settings::new("test", UpstreamSettings::http1(vec![address.into()])),
        Arc::new(gate.clone()),
    );
    let mut stream = TcpStream::connect(("127.0.0.1", edge.port)).await.expect("a connection");
    let request = "GET /xrpc/com.atproto.sync.subscribeRepos HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nX-Weir-Caller: me\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    for _ in 0..3 {
        stream.write_all(b"12345").await.expect("sent");
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).await.expect("an echo");
        assert_eq!(&bytes, b"12345");
    }
    drop(stream);
    until("its end is told", || gate.asked().ends.len() == 1).await;
    assert_eq!(gate.outcomes(), [Outcome::Upgraded]);
    assert_eq!(gate.asked().ends[0].status, 101);
}
