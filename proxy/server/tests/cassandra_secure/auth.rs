//! Clients that sign in with passwords of the cluster, and what that costs the cluster.

use super::support::{Weir, eventually};
use super::support_cql::answer::Answer;
use super::support_cql::{Cql, SOON, counted, file};
use super::{Secure, node};
use scylla::client::session_builder::SessionBuilder;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weir_cql::Version;
use weir_cql::envelope::Opcode;
use weir_cql::response::ErrorCode;

/// Longer than weir, here, and the node (`credentials_validity`) remember a password.
const FORGOTTEN: Duration = Duration::from_millis(1_500);

fn weir(contact: &str, more: &str) -> Weir {
    let cluster = format!("clients = \"password\"\nauth_file = \"{{dir}}/auth\"\ndiscover = false\n{more}\n");
    let text = file(contact, &cluster, "");
    Weir::with(&[("auth", "cassandra cassandra\n"), ("weir.toml", &text)], &[], None)
}

pub fn door(weir: &Weir) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], weir.port))
}

/// Signs in; the connection, and the answer to its credentials.
pub fn sign_in(at: SocketAddr, version: Version, user: &str, password: &str) -> (Cql, Answer) {
    let mut cql = Cql::connect(at, version);
    cql.startup_asks(&[]);
    let answer = cql.credentials(user, password);
    (cql, answer)
}

fn is_taken(at: SocketAddr, user: &str, password: &str) -> bool {
    let (_, answer) = sign_in(at, Version::V4, user, password);
    match answer.header.opcode {
        Opcode::AuthSuccess => true,
        _ => {
            assert_eq!(answer.expect_error().0, ErrorCode::BAD_CREDENTIALS);
            false
        }
    }
}

/// A connection of the node's superuser, past weir.
pub fn superuser(node: &Secure) -> Cql {
    let (cql, answer) =
        sign_in(node.address.parse().expect("an address"), Version::V4, "cassandra", "cassandra");
    assert_eq!(answer.header.opcode, Opcode::AuthSuccess, "{answer:?}");
    cql
}

pub fn role(node: &Secure, name: &str, password: &str) {
    let create = format!("CREATE ROLE IF NOT EXISTS {name} WITH PASSWORD = '{password}' AND LOGIN = true");
    superuser(node).query(&create).expect_result();
}

/// Connections to the node, counted on their way.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

/// A way to the node; its address.
fn counted_way(node: &Secure) -> (String, Arc<Counts>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (counts, to) = (Arc::new(Counts::default()), node.address.clone());
    let shared = counts.clone();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, counts, to) = (client.expect("accepted"), shared.clone(), to.clone());
            let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
            counts.most.fetch_max(now, Ordering::SeqCst);
            counts.all.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut node = TcpStream::connect(to).expect("the node");
                let (mut asks, mut into) =
                    (client.try_clone().expect("a socket"), node.try_clone().expect("a socket"));
                std::thread::spawn(move || {
                    let _ = io::copy(&mut asks, &mut into);
                    let _ = into.shutdown(Shutdown::Both);
                });
                // the answer to STARTUP, then the verdict: the next check may begin once weir has it
                let (mut chunk, mut client) = (vec![0; 64 << 10], client);
                for nth in 0.. {
                    let length = node.read(&mut chunk).unwrap_or(0);
                    if nth == 1 {
                        counts.now.fetch_sub(1, Ordering::SeqCst);
                    }
                    if length == 0 || client.write_all(&chunk[..length]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    (address, counts)
}

#[test]
fn the_cluster_says_who_may_come_in() {
    let Some(node) = node() else { return };
    role(node, "reader", "one");
    let weir = weir(&node.address, "");
    for version in [Version::V3, Version::V4, Version::V5] {
        let mut early = Cql::connect(door(&weir), version);
        early.startup_asks(&[("APPLICATION_NAME", "early")]);
        assert_eq!(early.query("SELECT key FROM system.local").expect_error().0, ErrorCode::PROTOCOL_ERROR);

        let (mut cql, answer) = sign_in(door(&weir), version, "reader", "one");
        assert_eq!(answer.header.opcode, Opcode::AuthSuccess, "{answer:?}");
        assert_eq!(cql.query("SELECT role FROM system_auth.roles WHERE role = 'reader'").rows().len(), 1);

        // the node's own words
        for (user, password) in [("reader", "two"), ("nobody", "one"), ("cassandra", "")] {
            let direct = sign_in(node.address.parse().expect("an address"), version, user, password).1;
            let (mut cql, through) = sign_in(door(&weir), version, user, password);
            assert_eq!(through.expect_error(), direct.expect_error(), "{user}");
            // and the connection that was refused is of no use, until it shows what is right
            assert_eq!(cql.query("SELECT key FROM system.local").expect_error().0, ErrorCode::PROTOCOL_ERROR);
            assert_eq!(cql.credentials("reader", "one").header.opcode, Opcode::AuthSuccess);
            assert_eq!(cql.query("SELECT key FROM system.local").rows().len(), 1);
        }
    }
    // on the user's account, under weir's own user
    counted(&weir, "weir_requests_total", &[("caller", "reader"), ("outcome", "ok")], 3.0);
    let (mut cql, _) = sign_in(door(&weir), Version::V4, "reader", "one");
    let rows = cql.query("SELECT username, driver_name FROM system_views.clients").rows();
    // (other tests of this program have users with connections of their own)
    let own = || rows.iter().filter(|row| row[1].as_deref() == Some(b"weir"));
    assert!(own().any(|row| row[0].as_deref() == Some(b"cassandra")));
    assert!(own().all(|row| row[0].as_deref() != Some(b"reader")));
    // nothing secret is anywhere
    for place in [
        weir.log(),
        weir.metrics(),
        weir.control("/snapshot").to_string(),
        weir.control("/config").to_string(),
    ] {
        assert!(!place.contains("\u{0}one") && !place.contains("password = "), "{place}");
    }
    let sign_ins = |result: &str| weir.metric("weir_cql_sign_ins_total", &[&format!("result=\"{result}\"")]);
    // (what is wrong is remembered for five seconds, which a busy machine needs for less than all of this)
    let refused = sign_ins("refused");
    assert!((3.0..=9.0).contains(&refused), "{refused}");
    assert_eq!(refused + sign_ins("refused_again"), 9.0);
    assert_eq!((sign_ins("checked"), sign_ins("remembered")), (1.0, 12.0));
}

#[tokio::test]
async fn a_driver_signs_in_as_it_does_directly() {
    let Some(node) = node() else { return };
    let weir = tokio::task::spawn_blocking(move || {
        role(node, "driver", "secret");
        weir(&node.address, "")
    });
    let weir = weir.await.expect("weir");
    let at = format!("127.0.0.1:{}", weir.port);
    let session =
        SessionBuilder::new().known_node(&at).user("driver", "secret").build().await.expect("a session");
    let rows = session.query_unpaged("SELECT role FROM system_auth.roles", ()).await.expect("rows");
    assert!(rows.into_rows_result().expect("rows").rows_num() >= 2);
    let wrong = SessionBuilder::new().known_node(&at).user("driver", "wrong").build().await;
    let Err(error) = wrong else { panic!("it came in") };
    assert!(format!("{error:?}").contains("incorrect"), "{error:?}");
}

#[test]
fn changed_passwords_and_dropped_users_are_noticed() {
    let Some(node) = node() else { return };
    role(node, "mover", "one");
    let weir = weir(&node.address, "credentials_kept = \"1s\"");
    let (mut kept, _) = sign_in(door(&weir), Version::V4, "mover", "one");
    assert!(is_taken(door(&weir), "mover", "one"));
    superuser(node).query("ALTER ROLE mover WITH PASSWORD = 'two'").expect_result();
    std::thread::sleep(FORGOTTEN);
    assert!(!is_taken(door(&weir), "mover", "one"), "the old password after credentials_kept");
    assert!(is_taken(door(&weir), "mover", "two"));

    // the new password ends the old one at once, although it is remembered
    superuser(node).query("ALTER ROLE mover WITH PASSWORD = 'three'").expect_result();
    eventually("the node takes the new one", || {
        is_taken(node.address.parse().expect("an address"), "mover", "three")
    });
    assert!(is_taken(door(&weir), "mover", "three"));
    assert!(!is_taken(door(&weir), "mover", "two"));

    superuser(node).query("DROP ROLE mover").expect_result();
    std::thread::sleep(FORGOTTEN);
    assert!(!is_taken(door(&weir), "mover", "three"), "a dropped user after credentials_kept");
    // who is in stays in, as at the node itself
    assert_eq!(kept.query("SELECT key FROM system.local").rows().len(), 1);
}

#[test]
fn a_storm_of_wrong_passwords_costs_the_cluster_two_connections() {
    let Some(node) = node() else { return };
    role(node, "calm", "right");
    let (way, counts) = counted_way(node);
    let weir = weir(&way, "");
    // one wrong password, many times: asked about once
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| assert!(!is_taken(door(&weir), "storm", "same")));
        }
    });
    assert_eq!(counts.all.load(Ordering::SeqCst), 1);
    // many wrong passwords of many users
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for n in 0..120 {
            let door = door(&weir);
            scope.spawn(move || {
                let (_, answer) =
                    sign_in(door, Version::V4, &format!("user{}", n % 40), &format!("wrong{n}"));
                let (code, words) = answer.expect_error();
                assert!(matches!(code, ErrorCode::BAD_CREDENTIALS | ErrorCode::SERVER_ERROR), "{words}");
            });
        }
    });
    println!(
        "120 wrong ones: {:?}, {} connections, {} at once",
        begun.elapsed(),
        counts.all.load(Ordering::SeqCst),
        counts.most.load(Ordering::SeqCst)
    );
    assert_eq!(counts.most.load(Ordering::SeqCst), 2, "at once");
    eventually("none is left", || counts.now.load(Ordering::SeqCst) == 0);
    assert_eq!(weir.metric("weir_cql_credential_checks", &[]), 0.0);
    // and in the middle of one user's storm another comes in
    std::thread::scope(|scope| {
        for n in 0..40 {
            let door = door(&weir);
            scope.spawn(move || drop(sign_in(door, Version::V4, "storm", &format!("other{n}"))));
        }
        let begun = Instant::now();
        assert!(is_taken(door(&weir), "calm", "right"));
        assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    });
}

#[test]
fn a_cluster_that_cannot_be_asked_lets_nobody_in() {
    let gone = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let weir = weir(&gone.to_string(), "connect_timeout = \"500ms\"");
    let (_, answer) = sign_in(door(&weir), Version::V4, "anybody", "anything");
    let (code, words) = answer.expect_error();
    assert_eq!(code, ErrorCode::SERVER_ERROR);
    assert!(words.starts_with("weir: ") && words.contains("could not be asked"), "{words}");
    counted(&weir, "weir_cql_sign_ins_total", &[("result", "unavailable")], 1.0);
}
