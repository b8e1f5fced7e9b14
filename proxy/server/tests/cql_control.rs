//! The control plane of a cluster that is not as it should be: weir starts and serves without it, says why, and tries
//! again. The nodes here are sockets that say one thing; the ring of `cassandra_ring` is the real one.

mod support;
mod support_cql;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;
use support::{Weir, free_port, wait_for};
use support_cql::{Cql, SOON, file};
use weir_cql::envelope::Opcode;
use weir_cql::{StreamId, Version, own, write};

/// So that a silent node is given up soon.
const SOON_GIVEN_UP: &str = "connect_timeout = \"300ms\"\nrequest_timeout = \"500ms\"\n";

fn failed(weir: &Weir, cause: &str, times: f64) {
    let labels = [("cluster", "main"), ("cause", cause)];
    wait_for(&format!("{times} failures: {cause}"), SOON, || {
        let failures = weir.series("weir_cql_placement_failures_total", &labels);
        failures.filter(|failures| *failures >= times)
    });
    assert_eq!(weir.series("weir_cql_control_up", &[("cluster", "main")]), Some(0.0));
    assert_eq!(weir.series("weir_cql_placement_timestamp_seconds", &[("cluster", "main")]), Some(0.0));
}

/// weir still takes clients in, and answers what it can answer itself.
fn serves(weir: &Weir) {
    let mut cql = Cql::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, weir.port)), Version::V4);
    assert_eq!(cql.options().header.opcode, Opcode::Supported);
    cql.startup(&[]);
}

/// A node that answers every message with these, in turn, and then nothing.
fn scripted(answers: Vec<(Opcode, Vec<u8>)>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answers) = (stream.expect("a client"), answers.clone());
            std::thread::spawn(move || {
                let mut answers = answers.into_iter();
                let mut head = [0; 9];
                while stream.read_exact(&mut head).is_ok() {
                    let mut body = vec![0; u32::from_be_bytes([head[5], head[6], head[7], head[8]]) as usize];
                    stream.read_exact(&mut body).expect("a whole message");
                    let Some((opcode, body)) = answers.next() else { continue };
                    let stream_id = StreamId(i16::from_be_bytes([head[2], head[3]]));
                    let mut out = Vec::new();
                    own::envelope(&mut out, Version::V4, stream_id, opcode, |out| {
                        out.extend_from_slice(&body)
                    })
                    .expect("small");
                    if stream.write_all(&out).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn supported() -> (Opcode, Vec<u8>) {
    let mut body = Vec::new();
    write::string_multimap(&mut body, [("CQL_VERSION", &["3.4.7"][..])]);
    (Opcode::Supported, body)
}

#[test]
fn weir_starts_and_serves_while_nobody_is_there() {
    let node = format!("127.0.0.1:{}", free_port());
    let weir = Weir::with_config(&file(&node, SOON_GIVEN_UP, ""), &[]);
    serves(&weir);
    failed(&weir, "connect", 3.0);
    let log = weir.logs("control_down");
    assert_eq!(log.matches("control_down").count(), 1, "told once, not at each attempt: {log}");
    assert!(log.contains("cause=\"control_down\"") && log.contains("refused"), "{log}");

    let pools = weir.control("/pools");
    let control = &pools[0]["control"];
    assert_eq!((&control["up"], &control["nodes"]), (&false.into(), &0.into()), "{control}");
    assert_eq!(pools[0]["servers"][0]["address"], node.as_str(), "the contact is what is known");
    let top = weir.command(&["top", "--once"]);
    assert!(top.stdout.contains("main is not followed (only the contacts are known)"), "{}", top.stdout);
}

#[test]
fn a_silent_node_is_a_timeout_and_one_that_asks_for_a_password_is_named() {
    let silent = Weir::with_config(&file(&scripted(Vec::new()), SOON_GIVEN_UP, ""), &[]);
    let mut class = Vec::new();
    write::string(&mut class, "org.apache.cassandra.auth.PasswordAuthenticator");
    let asks = scripted(vec![supported(), (Opcode::Authenticate, class.clone())]);
    let without = Weir::with_config(&file(&asks, SOON_GIVEN_UP, ""), &[]);
    let mut refusal = Vec::new();
    write::int(&mut refusal, 0x0100);
    write::string(&mut refusal, "Provided username weir and/or password are incorrect");
    let refuses = scripted(vec![supported(), (Opcode::Authenticate, class), (Opcode::Error, refusal)]);
    let cluster = format!("{SOON_GIVEN_UP}auth_file = \"{{dir}}/secret\"\n");
    let text = file(&refuses, &cluster, "");
    let with = Weir::with(&[("weir.toml", &text), ("secret", "weir wrong")], &[], None);
    failed(&silent, "timeout", 1.0);
    failed(&without, "auth", 1.0);
    failed(&with, "auth", 1.0);
    assert!(without.logs("control_down").contains("auth_file is not set"), "{}", without.log());
    for weir in [&silent, &without, &with] {
        serves(weir);
        assert!(!weir.log().contains("wrong\""), "the password is nowhere: {}", weir.log());
    }
}

#[test]
fn a_node_that_answers_nonsense_takes_nothing_down() {
    let nonsense =
        scripted(vec![supported(), (Opcode::Ready, Vec::new()), (Opcode::Supported, vec![0xff; 64])]);
    let weir = Weir::with_config(&file(&nonsense, SOON_GIVEN_UP, ""), &[]);
    wait_for("a failure", Duration::from_secs(20), || {
        (weir.metric("weir_cql_placement_failures_total", &["cluster=\"main\""]) >= 1.0).then_some(())
    });
    serves(&weir);
    assert_eq!(weir.metric("weir_panics_total", &[]), 0.0);
}

#[test]
fn discovery_can_be_switched_off_and_on_while_weir_runs() {
    let node = format!("127.0.0.1:{}", free_port());
    let weir = Weir::with_config(&file(&node, SOON_GIVEN_UP, ""), &[]);
    failed(&weir, "connect", 1.0);
    let control_up = || weir.series("weir_cql_control_up", &[("cluster", "main")]);
    weir.rewrite(&file(&node, &format!("{SOON_GIVEN_UP}discover = false\n"), ""));
    weir.hang_up();
    wait_for("no control plane", SOON, || control_up().is_none().then_some(()));
    assert_eq!(weir.control("/pools")[0]["control"], serde_json::Value::Null);
    weir.rewrite(&file(&node, SOON_GIVEN_UP, ""));
    weir.hang_up();
    wait_for("a control plane again", SOON, control_up);
}
