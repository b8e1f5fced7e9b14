//! Clients that are told apart by their certificates: the name is the caller, its limits are its own, and who shows none
//! that is believed does not come in.

mod support;
mod support_cql;
mod support_tls;

use rcgen::{CertificateParams, SanType};
use std::io::{self, Read as _, Write as _};
use support::{Memcached, Weir, eventually, file, free_port};
use support_cql::{Cql, counted};
use support_tls::{Authority, Pair, TlsClient, client, connect};
use weir_cql::Version;

const FEED: &str = "spiffe://weir.test/ns/prod/sa/feed";
const LISTENER: &str = "tls_cert = \"{dir}/weir.crt\"\ntls_key = \"{dir}/weir.key\"\n\
                        tls_client_ca = \"{dir}/ca.pem\"\nprincipal = \"certificate\"\n";

/// A weir with this file, and the listener's certificates beside it.
fn weir(text: &str, ca: &Authority) -> Weir {
    let pair = ca.vouch(&["127.0.0.1"]);
    let files =
        [("weir.crt", pair.cert.as_str()), ("weir.key", &pair.key), ("ca.pem", &ca.pem), ("weir.toml", text)];
    Weir::with(&files, &[], None)
}

/// A certificate of the workload; its common name and host say something else.
fn feed(ca: &Authority) -> Pair {
    ca.vouch_for(&["host.weir.test"], spiffe)
}

fn spiffe(params: &mut CertificateParams) {
    params.subject_alt_names.push(SanType::URI(FEED.try_into().expect("ASCII")));
}

fn ask(client: &mut TlsClient, request: &[u8], end: &[u8]) -> io::Result<Vec<u8>> {
    client.write_all(request)?;
    let (mut answer, mut chunk) = (Vec::new(), vec![0; 4 << 10]);
    while !answer.ends_with(end) {
        match client.read(&mut chunk)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => answer.extend_from_slice(&chunk[..length]),
        }
    }
    Ok(answer)
}

fn requests(weir: &Weir, caller: &str) -> f64 {
    weir.series("weir_requests_total", &[("caller", caller), ("outcome", "ok")]).unwrap_or(0.0)
}

fn handshakes(weir: &Weir, result: &str) -> f64 {
    weir.metric("weir_tls_handshakes_total", &[&format!("result=\"{result}\"")])
}

#[test]
fn the_name_in_a_certificate_is_the_caller_and_its_limits_are_its_own() {
    let Some(server) = Memcached::start() else { return };
    let ca = Authority::new("own");
    let limits = format!("[callers.\"{FEED}\"]\noperations_per_request = 2\nmode = \"refuse\"\n");
    let weir = weir(&file(&server, "", &format!("{LISTENER}\n{limits}")), &ca);
    let (by_uri, by_host) = (feed(&ca), ca.vouch(&["api.weir.test"]));
    let nobody = ca.vouch_for(&[], |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "no name; a sentence");
    });
    let mut feed = connect(&client(&ca, Some(&by_uri)), weir.port);
    let mut api = connect(&client(&ca, Some(&by_host)), weir.port);
    let mut other = connect(&client(&ca, Some(&nobody)), weir.port);
    let three = b"get a b c\r\n";
    // the very first request is on the name's account, and held to its limits
    assert!(ask(&mut feed, three, b"\r\n").expect("answered").starts_with(b"SERVER_ERROR"));
    assert_eq!(ask(&mut feed, b"get a b\r\n", b"END\r\n").expect("answered"), b"END\r\n");
    for one in [&mut api, &mut other] {
        assert_eq!(ask(one, three, b"END\r\n").expect("answered"), b"END\r\n");
    }
    eventually("each is booked under its name", || {
        requests(&weir, FEED) == 1.0
            && requests(&weir, "api.weir.test") == 1.0
            && requests(&weir, "_invalid") == 1.0
    });
    // no process name takes their place, and the listener did nothing itself
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(ask(&mut api, three, b"END\r\n").expect("answered"), b"END\r\n");
    eventually("the second one too", || requests(&weir, "api.weir.test") == 2.0);
    for name in ["cache", &support::own_name()] {
        assert_eq!(requests(&weir, name), 0.0, "{name}");
    }
}

#[test]
fn who_shows_no_certificate_that_is_believed_is_refused_and_counted() {
    let Some(server) = Memcached::start() else { return };
    let ca = Authority::new("own");
    let weir = weir(&file(&server, "", LISTENER), &ca);
    let good = feed(&ca);
    let expired = ca.vouch_expired(&["api.weir.test"]);
    let of_another = Authority::new("another").vouch_for(&["api.weir.test"], spiffe);
    let version = b"version\r\n";
    for (nth, pair) in [None, Some(&expired), Some(&of_another)].into_iter().enumerate() {
        let mut stranger = connect(&client(&ca, pair), weir.port);
        assert!(ask(&mut stranger, version, b"\r\n").is_err(), "{nth}");
        eventually("it is counted", || handshakes(&weir, "certificate") == (nth + 1) as f64);
    }
    assert_eq!(requests(&weir, FEED), 0.0);
    let log = weir.logs("the TLS handshake with a client failed");
    assert!(log.contains("result=\"certificate\""), "{log}");
    assert!(ask(&mut connect(&client(&ca, Some(&good)), weir.port), version, b"\r\n").is_ok());
    assert_eq!(handshakes(&weir, "ok"), 1.0);
}

#[test]
fn clients_that_speak_cql_are_told_apart_alike() {
    let ca = Authority::new("own");
    // nobody is behind it: what is counted here is who asked
    let node = format!("127.0.0.1:{}", free_port());
    let weir = weir(&support_cql::file(&node, "discover = false\n", LISTENER), &ca);
    let certificate = feed(&ca);
    let open = |options: &[(&str, &str)]| {
        let stream = connect(&client(&ca, Some(&certificate)), weir.port);
        let port = stream.sock.local_addr().expect("an address").port();
        let mut cql = Cql::over(Box::new(stream), port, Version::V4);
        cql.startup(options);
        cql
    };
    let mut plain = open(&[]);
    plain.query("SELECT key FROM a.b").expect_error();
    // STARTUP, and the request that no node was there for
    counted(&weir, "weir_requests_total", &[("caller", FEED)], 2.0);
    // a name that the client gives itself is one within the certificate's
    let mut named = open(&[("APPLICATION_NAME", "worker")]);
    named.query("SELECT key FROM a.b").expect_error();
    counted(&weir, "weir_requests_total", &[("caller", "worker")], 1.0);
    let callers = weir.control("/callers").to_string();
    assert!(callers.contains(&format!("\"principal\":\"{FEED}\"")), "{callers}");
}

#[test]
fn callers_by_certificate_need_certificates() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "[pool.main]\nservers = [\"127.0.0.1:11211\"]\n\
                [listener.a]\naddress = \"127.0.0.1:11311\"\npool = \"main\"\nprincipal = \"certificate\"\n\
                [callers.feed]\nlistener = \"a\"\n";
    let file = directory.path().join("weir.toml");
    std::fs::write(&file, text).expect("written");
    let mut command = std::process::Command::new(support::WEIR);
    let found = support::process::run(command.arg("check").arg(&file), None, support::PATIENCE);
    assert_eq!(found.status.code(), Some(1));
    for (key, what) in [
        ("listener.a.principal", "clients show no certificate"),
        ("callers.feed.listener", "tells its clients apart by certificate"),
    ] {
        let line = found.stdout.lines().find(|line| line.contains(key));
        assert!(line.is_some_and(|line| line.contains(what)), "{what}: {}", found.stdout);
    }
}
