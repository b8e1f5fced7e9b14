//! What a reload changes of a listener in front of a service while it runs: times, certificates, how long a client may
//! have; and that it says what it cannot change.

mod support;
mod support_rpc;
mod support_tls;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::{Weir, eventually};
use support_rpc::{Grpc, POSTS, Service, elements};
use support_tls::{Authority, client, connect};

fn file(service: u16, more: &str, listener: &str) -> String {
    format!(
        "[service.dataplane]\nservers = [\"127.0.0.1:{service}\"]\npreset = \"bsky\"\n{more}\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n{listener}"
    )
}

fn reload(weir: &Weir, text: &str) {
    let lines = |weir: &Weir| weir.log().matches("cause=\"reload").count();
    let before = lines(weir);
    weir.rewrite(text);
    weir.hang_up();
    eventually("it was read", || lines(weir) > before);
}

/// Opens a connection, asks once where it is one of HTTP/1.1, and says how long it was left open.
fn left_open(port: u16, http2: bool) -> Duration {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the door is open");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("a time-out");
    let first: &[u8] = match http2 {
        true => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
        false => b"GET /x HTTP/1.1\r\nhost: weir.test\r\n\r\n",
    };
    stream.write_all(first).expect("sent");
    let began = Instant::now();
    let mut chunk = [0; 4 << 10];
    while stream.read(&mut chunk).expect("no error before the end") > 0 {}
    began.elapsed()
}

#[test]
fn times_change_for_clients_that_come() {
    let service = Service::start(1, None);
    let weir = Weir::with_file(&file(service.port, "", "idle_timeout = \"1h\"\n"));
    let mut from_before = TcpStream::connect(("127.0.0.1", weir.port)).expect("the door is open");
    from_before.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    assert!(from_before.read(&mut [0; 4 << 10]).expect("an answer") > 0);
    reload(&weir, &file(service.port, "", "idle_timeout = \"1s\"\n"));
    weir.logs("listener.edge.idle_timeout: \"1h\" -> \"1s\"");
    for http2 in [false, true] {
        let open = left_open(weir.port, http2);
        assert!(open >= Duration::from_millis(900) && open < Duration::from_secs(20), "{http2}: {open:?}");
    }
    eventually("both are counted", || {
        weir.series("weir_client_closes_total", &[("listener", "edge"), ("how", "idle")]) == Some(2.0)
    });
    // one that was there has the time that it came with
    from_before.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
    assert!(from_before.read(&mut [0; 4 << 10]).expect("an answer") > 0);
}

#[test]
fn what_a_client_may_ask_for_changes() {
    let service = Service::start(1, None);
    let weir =
        Weir::with_file(&file(service.port, "request_timeout = \"2s\"\nrequest_timeout_max = \"4s\"\n", ""));
    let mut client = Grpc::over_tcp(weir.port);
    // What the service is told is left of it, in whole seconds.
    let mut told = |asked: &[(&'static str, &str)]| {
        client.call(POSTS, elements(3), asked).expect("answered");
        let seen = service.seen().pop().expect("a call");
        let text = seen.headers["grpc-timeout"].to_str().expect("text").to_owned();
        let (number, unit) = text.split_at(text.len() - 1);
        let number: u64 = number.parse().expect("a number");
        let micros = match unit {
            "u" => number,
            "m" => number * 1_000,
            _ => number * 1_000_000,
        };
        micros.div_ceil(1_000_000)
    };
    let long = [("grpc-timeout", "2000S")];
    assert_eq!((told(&[]), told(&long), told(&[("grpc-timeout", "1S")])), (2, 4, 1));
    reload(&weir, &file(service.port, "request_timeout = \"3s\"\nrequest_timeout_max = \"30m\"\n", ""));
    // more than the edge itself would ever allow, and less than the client asks for
    assert_eq!((told(&[]), told(&long), told(&[("grpc-timeout", "1S")])), (3, 1_800, 1));
}

#[test]
fn certificates_change_and_http2_is_agreed_on() {
    let service = Service::start(1, None);
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (first, second) = (old.vouch(&["127.0.0.1"]), new.vouch(&["127.0.0.1"]));
    let text = file(service.port, "", "tls_cert = \"{dir}/weir.crt\"\ntls_key = \"{dir}/weir.key\"\n");
    let files = [("weir.crt", first.cert.as_str()), ("weir.key", &first.key), ("weir.toml", &text)];
    let weir = Weir::with(&files, &[], None);
    let trusting = |ca: &Authority, offers: &[&str]| {
        let mut config = (*client(ca, None)).clone();
        config.alpn_protocols = offers.iter().map(|name| name.as_bytes().to_vec()).collect();
        std::sync::Arc::new(config)
    };
    // What was agreed on, where the handshake was good.
    let agreed = |ca: &Authority, offers: &[&str]| {
        let mut stream = connect(&trusting(ca, offers), weir.port);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return None;
            }
        }
        Some(stream.conn.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()))
    };
    let named = |name: &str| Some(Some(name.to_owned()));
    assert_eq!(agreed(&old, &["http/1.1", "h2"]), named("h2"));
    assert_eq!(agreed(&old, &["http/1.1"]), named("http/1.1"));
    assert_eq!(agreed(&old, &[]), Some(None));
    assert_eq!(agreed(&new, &["h2"]), None, "a stranger's certificate");
    let mut kept = connect(&trusting(&old, &["http/1.1"]), weir.port);
    let ask = |stream: &mut support_tls::TlsClient| {
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\n\r\n").expect("sent");
        assert!(stream.read(&mut [0; 4 << 10]).expect("an answer") > 0);
    };
    ask(&mut kept);

    std::fs::write(weir.path("weir.crt"), &second.cert).expect("written");
    std::fs::write(weir.path("weir.key"), &second.key).expect("written");
    reload(&weir, &text);
    eventually("the new certificate is shown", || agreed(&new, &["h2"]) == named("h2"));
    assert_eq!(agreed(&old, &["h2"]), None);
    ask(&mut kept);
}

#[test]
fn what_needs_a_restart_is_named_and_nothing_is_changed() {
    let service = Service::start(1, None);
    let weir = Weir::with_file(&file(service.port, "", ""));
    reload(
        &weir,
        &file(service.port, "connections = 7\nrequest_max = \"1MiB\"\n", "idle_timeout = \"9s\"\n"),
    );
    weir.logs("a restart is needed for service.dataplane.connections, service.dataplane.request_max");
    let toml = weir.control("/config")["toml"].as_str().expect("text").to_owned();
    assert!(!toml.contains("idle_timeout = \"9s\""), "{toml}");
    assert_eq!(weir.metric("weir_config_last_reload_successful", &[]), 0.0);
    Grpc::over_tcp(weir.port).call(POSTS, elements(3), &[]).expect("it goes on as before");
}
