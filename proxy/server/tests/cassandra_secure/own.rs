//! Clients whose requests go upstream under their own users: what each may do through weir is what it may do directly.

use super::auth::{door, role, sign_in, superuser};
use super::support::{Weir, eventually};
use super::support_cql::answer::{Answer, Statement};
use super::support_cql::{Cql, With, file, int, keyspace, list, sockets_to};
use super::{Secure, node};
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_cql::Version;
use weir_cql::envelope::Opcode;
use weir_cql::response::ErrorCode;

const VERSIONS: [Version; 3] = [Version::V3, Version::V4, Version::V5];
/// Keys of a read that is sent in parts.
const KEYS: i32 = 450;

fn weir(contact: &str, cluster: &str, more: &str) -> Weir {
    let cluster = format!("clients = \"own\"\ndiscover = false\nsplit = \"on\"\n{cluster}\n");
    Weir::with(&[("weir.toml", &file(contact, &cluster, more))], &[], None)
}

fn direct(node: &Secure) -> SocketAddr {
    node.address.parse().expect("an address")
}

fn open(at: SocketAddr, version: Version, user: &str) -> Cql {
    let (cql, answer) = sign_in(at, version, user, "secret");
    assert_eq!(answer.header.opcode, Opcode::AuthSuccess, "{answer:?}");
    cql
}

/// A keyspace with two tables, and two roles: the first may read one table, the second may read the other and write both.
struct Ground {
    keyspace: String,
    roles: [String; 2],
}

fn ground(node: &Secure, test: &str) -> Ground {
    let keyspace = keyspace(test);
    let roles = ["reader", "writer"].map(|name| format!("{test}_{name}"));
    let mut root = superuser(node);
    let mut run = |text: &str| drop(root.query(text).expect_result());
    run(&super::support_cql::create_keyspace(&keyspace));
    for table in ["a", "b"] {
        run(&format!("CREATE TABLE {keyspace}.{table} (k int PRIMARY KEY, v text)"));
    }
    for role in &roles {
        run(&format!("CREATE ROLE {role} WITH PASSWORD = 'secret' AND LOGIN = true"));
    }
    run(&format!("GRANT SELECT ON {keyspace}.a TO {}", roles[0]));
    run(&format!("GRANT SELECT ON {keyspace}.b TO {}", roles[1]));
    run(&format!("GRANT MODIFY ON KEYSPACE {keyspace} TO {}", roles[1]));
    let insert = root.prepare(&format!("INSERT INTO {keyspace}.a (k, v) VALUES (?, 'of a')")).prepared();
    for key in 0..KEYS {
        root.execute(&insert, &With::values(&[int(key)])).expect_result();
    }
    root.query(&format!("INSERT INTO {keyspace}.b (k, v) VALUES (1, 'of b')")).expect_result();
    Ground { keyspace, roles }
}

/// What can be compared of an answer: the words of an error, or the rows, or that it is a result.
fn told(answer: &Answer) -> String {
    match answer.read() {
        weir_cql::Response::Error(error) => {
            format!("{}: {}", error.code.label(), String::from_utf8_lossy(error.message))
        }
        weir_cql::Response::Result(weir_cql::response::ResultBody::Rows(_)) => format!("{:?}", answer.rows()),
        other => format!("{:?}", std::mem::discriminant(&other)),
    }
}

fn is_unauthorized(answer: &Answer) -> bool {
    answer.error().is_some_and(|(code, _)| code == ErrorCode::UNAUTHORIZED)
}

/// Users of the connections that the node has from weir.
fn users_at(node: &Secure) -> Vec<String> {
    let rows = superuser(node).query("SELECT username, driver_name FROM system_views.clients").rows();
    let of_weir = rows.iter().filter(|row| row[1].as_deref() == Some(b"weir"));
    let text = |cell: &Option<Vec<u8>>| String::from_utf8(cell.clone().unwrap_or_default()).expect("text");
    of_weir.map(|row| text(&row[0])).collect()
}

#[test]
fn each_role_may_do_what_it_may_directly() {
    let Some(node) = node() else { return };
    let Ground { keyspace, roles } = ground(node, "rights");
    let weir = weir(&node.address, "", "");
    let texts = [
        format!("SELECT v FROM {keyspace}.a WHERE k = 1"),
        format!("SELECT v FROM {keyspace}.b WHERE k = 1"),
        format!("SELECT count(*) FROM {keyspace}.b"),
        format!("INSERT INTO {keyspace}.a (k, v) VALUES (1, 'of a')"),
        format!("BEGIN UNLOGGED BATCH INSERT INTO {keyspace}.b (k, v) VALUES (1, 'of b'); APPLY BATCH"),
        format!("DELETE FROM {keyspace}.b WHERE k = 99"),
        format!("TRUNCATE {keyspace}.b_not_there"),
        format!("CREATE TABLE {keyspace}.c (k int PRIMARY KEY)"),
        format!("DROP TABLE {keyspace}.a"),
        "LIST ROLES".to_owned(),
        "SELECT role FROM system_auth.roles".to_owned(),
        "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = 'system'".to_owned(),
        "CREATE ROLE somebody".to_owned(),
    ];
    let prepared = [
        (format!("SELECT v FROM {keyspace}.a WHERE k = ?"), With::values(&[int(7)])),
        (format!("SELECT v FROM {keyspace}.b WHERE k = ?"), With::values(&[int(1)])),
        (format!("INSERT INTO {keyspace}.a (k, v) VALUES (?, 'of a')"), With::values(&[int(3)])),
        (format!("SELECT k, v FROM {keyspace}.a WHERE k IN ?"), With::values(&[list(0..KEYS)])),
    ];
    let mut refused = [0; 2];
    for version in VERSIONS {
        let at = [direct(node), door(&weir)];
        // each role, directly and through weir
        let mut both = [0, 1].map(|role: usize| at.map(|at| open(at, version, &roles[role])));
        for (role, [direct, through]) in both.iter_mut().enumerate() {
            for text in &texts {
                let (own, weirs) = (direct.query(text), through.query(text));
                assert_eq!(told(&weirs), told(&own), "{} {version:?}: {text}", roles[role]);
                refused[role] += usize::from(is_unauthorized(&own));
            }
        }
        // a statement that the one has prepared, and the other carries out; and its own
        for (text, with) in &prepared {
            for first in [0, 1] {
                let statements: [Statement; 2] = [0, 1].map(|way| both[first][way].prepare(text).prepared());
                for (role, ways) in both.iter_mut().enumerate() {
                    let [own, weirs] = [0, 1].map(|way| ways[way].execute(&statements[way], with));
                    assert_eq!(told(&weirs), told(&own), "{} {version:?}: {text}", roles[role]);
                    refused[role] += usize::from(is_unauthorized(&own));
                }
            }
        }
        let parts = weir.metric("weir_cql_splits_total", &["outcome=\"ok\""]);
        eventually("parts of the one were read", || {
            weir.metric("weir_cql_splits_total", &["outcome=\"ok\""]) >= parts.max(1.0)
        });
        // a page of the one is no key for the other
        let [reader, writer] = &mut both;
        let many = With { page_size: Some(10), ..prepared[3].1.clone() };
        let statement = reader[1].prepare(&prepared[3].0).prepared();
        assert!(reader[1].execute(&statement, &many).rows().len() >= 10);
        assert!(is_unauthorized(&writer[1].execute(&statement, &many)));
        // USE is the connection's own
        for ways in [reader, writer] {
            let [own, weirs] = [0, 1].map(|way| {
                ways[way].query(&format!("USE {keyspace}")).expect_result();
                told(&ways[way].query("SELECT v FROM b WHERE k = 1"))
            });
            assert_eq!(weirs, own);
        }
        let users = users_at(node);
        assert!(roles.iter().all(|role| users.contains(role)), "{users:?}");
    }
    println!("refused directly, and in the same words through weir: {refused:?}");
    assert!(refused[0] > 20 && refused[1] > 20, "{refused:?}");
    assert_eq!(weir.metric("weir_cql_principals", &[]), 2.0);
    for place in [weir.log(), weir.metrics(), weir.control("/snapshot").to_string()] {
        assert!(!place.contains("secret"), "{place}");
    }
}

#[test]
fn an_answer_that_is_shared_or_kept_is_one_principals() {
    let Some(node) = node() else { return };
    let Ground { keyspace, roles } = ground(node, "shared");
    let rule = format!(
        "[cluster.main.rule.a]\ntable = \"{keyspace}.a\"\njoin_in_flight = true\ncache_ttl = \"1m\"\n\
         [cluster.main.rule.b]\ntable = \"{keyspace}.b\"\njoin_in_flight = true\ncache_ttl = \"1m\"\n"
    );
    let weir = weir(&node.address, "requests_in_flight = 1", &rule);
    let texts = ["a", "b"].map(|table| format!("SELECT v FROM {keyspace}.{table} WHERE k = 1"));
    for round in 0..3 {
        for version in VERSIONS {
            let mut clients: Vec<(usize, Cql)> =
                (0..6).map(|n| (n % 2, open(door(&weir), version, &roles[n % 2]))).collect();
            let mut body = texts.each_ref().map(|text| {
                let mut body = Vec::new();
                weir_cql::request::Query::write(
                    text,
                    weir_cql::Consistency::ONE,
                    weir_cql::Dialect::of(version),
                    &mut body,
                );
                body
            });
            // all at once, so that most of them wait for each other
            for (_, client) in &mut clients {
                for stream in 0..20 {
                    let body = &mut body[usize::from(stream % 2 == 1)];
                    client.send(stream, Opcode::Query, body).expect("sent");
                }
            }
            for (role, client) in &mut clients {
                for _ in 0..20 {
                    let answer = client.answer();
                    let table = usize::from(answer.header.stream.0 % 2 == 1);
                    if *role == table {
                        let value = ["of a", "of b"][table].as_bytes().to_vec();
                        assert_eq!(answer.rows(), [vec![Some(value)]], "{version:?}, round {round}");
                    } else {
                        assert!(is_unauthorized(&answer), "{version:?}, round {round}: {}", told(&answer));
                    }
                }
            }
        }
    }
    eventually("reads were joined and answered from the cache", || {
        weir.metric("weir_cql_joined_requests_total", &[]) > 0.0
            && weir.metric("weir_cql_cache_reads_total", &["result=\"hit\""]) > 0.0
    });
}

#[test]
fn so_many_users_have_connections_and_no_more() {
    let Some(node) = node() else { return };
    let users = ["cap_one", "cap_two", "cap_three"];
    users.iter().for_each(|user| role(node, user, "secret"));
    let weir =
        weir(&node.address, "principals_max = 2\nprincipal_idle = \"1s\"\nnewest_version = \"v4\"", "");
    let mut first: Vec<Cql> = (0..40).map(|n| open(door(&weir), Version::V4, users[n % 2])).collect();
    for client in &mut first {
        assert_eq!(client.query("SELECT key FROM system.local").rows().len(), 1);
    }
    let memory = weir.metric("process_resident_memory_bytes", &[]);
    for _ in 0..300 {
        let (_, answer) = sign_in(door(&weir), Version::V4, users[2], "secret");
        let (code, words) = answer.expect_error();
        assert_eq!(code, ErrorCode::INVALID);
        assert!(words.contains("principals_max (2)"), "{words}");
    }
    // one each: nothing was split, and checks are closed again
    let pid = weir.process.pid();
    eventually("two connections", || sockets_to(pid, &node.address) == 2);
    eventually("one connection each", || {
        let mut at = users_at(node);
        at.retain(|user| users.contains(&user.as_str()));
        at.sort();
        at == users[..2]
    });
    let grown = weir.metric("process_resident_memory_bytes", &[]) - memory;
    println!("300 users turned away: {} KiB more", grown / 1024.0);
    assert!(grown < 16e6, "{grown} bytes");
    assert_eq!(weir.metric("weir_cql_principals", &[]), 2.0);
    assert_eq!(weir.metric("weir_cql_principals_refused_total", &[]), 300.0);
    // a second without clients makes room
    first.retain(|_| false);
    eventually("nobody has a connection", || sockets_to(pid, &node.address) == 0);
    let mut third = open(door(&weir), Version::V4, users[2]);
    assert_eq!(third.query("SELECT key FROM system.local").rows().len(), 1);
    eventually("one principal", || weir.metric("weir_cql_principals", &[]) == 1.0);
}

/// A way to the node whose connections can be cut.
struct Way(Arc<Mutex<Vec<TcpStream>>>);

impl Way {
    fn to(node: &Secure) -> (String, Way) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (open, to) = (Arc::new(Mutex::new(Vec::new())), node.address.clone());
        let shared = open.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.expect("accepted");
                let node = TcpStream::connect(&to).expect("the node");
                let copy = |from: &TcpStream, into: &TcpStream| {
                    let (mut from, mut into) =
                        (from.try_clone().expect("a socket"), into.try_clone().expect("a socket"));
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut into);
                        let _ = into.shutdown(Shutdown::Both);
                    });
                };
                copy(&client, &node);
                copy(&node, &client);
                shared.lock().expect("the list").push(client);
            }
        });
        (address, Way(open))
    }

    fn cut(&self) {
        for connection in self.0.lock().expect("the list").drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn a_password_that_changes_sends_its_clients_away() {
    let Some(node) = node() else { return };
    role(node, "changing", "secret");
    role(node, "staying", "secret");
    let (way, connections) = Way::to(node);
    let weir = weir(&way, "", "");
    const READ: &str = "SELECT key FROM system.local";
    let mut old = open(door(&weir), Version::V4, "changing");
    let mut stays = open(door(&weir), Version::V4, "staying");
    assert_eq!(old.query(READ).rows().len(), 1);
    assert_eq!(stays.query(READ).rows().len(), 1);
    superuser(node).query("ALTER ROLE changing WITH PASSWORD = 'other'").expect_result();
    std::thread::sleep(Duration::from_millis(500)); // the node remembers passwords for 100 ms
    // what is signed in stays so, as at the node; until weir has to dial
    assert_eq!(old.query(READ).rows().len(), 1);
    connections.cut();
    let (code, words) = old.answer().expect_error();
    assert_eq!(code, ErrorCode::BAD_CREDENTIALS);
    assert!(words.contains("changing") && !words.contains("secret"), "{words}");
    assert!(old.try_answer().is_err(), "it is closed");
    eventually("the others go on", || {
        let answer = stays.query(READ);
        answer.error().is_none()
    });
    // what was remembered of the old password is forgotten although its minute is not over
    let (_, answer) = sign_in(door(&weir), Version::V4, "changing", "secret");
    assert_eq!(answer.expect_error().0, ErrorCode::BAD_CREDENTIALS);
    let (mut new, answer) = sign_in(door(&weir), Version::V4, "changing", "other");
    assert_eq!(answer.header.opcode, Opcode::AuthSuccess);
    assert_eq!(new.query(READ).rows().len(), 1);
    // and a new password is used for the connections there are
    superuser(node).query("ALTER ROLE changing WITH PASSWORD = 'third'").expect_result();
    std::thread::sleep(Duration::from_millis(500));
    let (mut newest, answer) = sign_in(door(&weir), Version::V4, "changing", "third");
    assert_eq!(answer.header.opcode, Opcode::AuthSuccess);
    connections.cut();
    eventually("dialled with the new one", || newest.query(READ).error().is_none());
    assert!(new.query(READ).error().is_none(), "whoever signed in before goes on too");
    assert!(!weir.log().contains("secret") && !weir.log().contains("third"), "{}", weir.log());
}

/// The control connection is weir's own user's, and nothing else is.
#[test]
fn a_cluster_that_is_followed_is_asked_by_weirs_own_user() {
    let Some(node) = node() else { return };
    role(node, "followed", "secret");
    let cluster = "clients = \"own\"\nauth_file = \"{dir}/auth\"\n";
    let text = file(&node.address, cluster, "");
    let weir = Weir::with(&[("auth", "cassandra cassandra\n"), ("weir.toml", &text)], &[], None);
    let mut client = open(door(&weir), Version::V5, "followed");
    assert_eq!(client.query("SELECT key FROM system.local").rows().len(), 1);
    assert!(is_unauthorized(&client.query("SELECT role FROM system_auth.roles")));
    let at = users_at(node);
    assert!(at.contains(&"followed".to_owned()), "{at:?}");
    let placed = || weir.metric("weir_cql_nodes", &["state=\"up\""]);
    eventually("its node is known and up", || placed() == 1.0);
}
