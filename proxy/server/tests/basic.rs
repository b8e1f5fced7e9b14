//! memcached through weir, command by command, against a real memcached.

mod support;

use std::collections::HashSet;
use std::time::Duration;
use support::{Client, Memcached, Weir, eventually};

#[test]
fn classic_commands() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    client.ask("set a 5 0 3\r\nabc\r\n", "STORED\r\n");
    client.ask("get a\r\n", "VALUE a 5 3\r\nabc\r\nEND\r\n");
    client.ask("add a 0 0 1\r\nx\r\n", "NOT_STORED\r\n");
    client.ask("append a 0 0 1\r\nd\r\n", "STORED\r\n");
    client.ask("prepend a 0 0 1\r\n_\r\n", "STORED\r\n");
    client.ask("replace missing 0 0 1\r\nx\r\n", "NOT_STORED\r\n");
    client.ask("get a missing\r\n", "VALUE a 5 5\r\n_abcd\r\nEND\r\n");
    client.send("gets a\r\n");
    let head = client.line();
    let cas = head.rsplit(' ').next().expect("a number").to_owned();
    client.expect("_abcd\r\nEND\r\n");
    client.ask(&format!("cas a 0 0 3 {cas}\r\nnew\r\n"), "STORED\r\n");
    client.ask(&format!("cas a 0 0 3 {cas}\r\nold\r\n"), "EXISTS\r\n");
    client.ask("set n 0 0 2\r\n10\r\n", "STORED\r\n");
    client.ask("incr n 5\r\n", "15\r\n");
    client.ask("decr n 20\r\n", "0\r\n");
    client.ask("touch n 100\r\n", "TOUCHED\r\n");
    client.ask("gat 100 n\r\n", "VALUE n 0 2\r\n0 \r\nEND\r\n");
    client.ask("delete n\r\n", "DELETED\r\n");
    client.ask("delete n\r\n", "NOT_FOUND\r\n");
    client.ask("verbosity 1\r\n", "OK\r\n");
    client.ask("flush_all\r\n", "OK\r\n");
    client.ask("get a\r\n", "END\r\n");
    client.send("version\r\n");
    assert!(client.line().starts_with("VERSION "));
    client.send("stats\r\n");
    let stats = client.lines_until(|line| line == "END");
    assert!(stats.iter().any(|line| line.starts_with("STAT curr_connections ")), "{stats:?}");
    client.send("quit\r\n");
    assert!(client.is_over());
}

#[test]
fn meta_commands_quiet_and_loud() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    client.ask("ms a 3 T0\r\nabc\r\n", "HD\r\n");
    client.ask("mg a v k s\r\n", "VA 3 ka s3\r\nabc\r\n");
    client.ask("mg missing v\r\n", "EN\r\n");
    // quiet: what is told and what is not, memcached decides
    let quiet = "mg missing v q\r\nmg a v q O9\r\nms b 1 q\r\nx\r\nmd missing q\r\nma missing q\r\nmd a q I\r\nmn\r\n";
    let mut direct = server.client();
    client.send(quiet);
    let through = client.lines_until(|line| line == "MN");
    assert!(through.contains(&"VA 3 O9".to_owned()), "{through:?}");
    direct.ask("ms a 3 T0\r\nabc\r\n", "HD\r\n");
    direct.send(quiet);
    assert_eq!(direct.lines_until(|line| line == "MN"), through);
    client.ask("ms a 3 T0\r\nabc\r\n", "HD\r\n");
    client.ask("mg Yg== b v\r\n", "VA 1\r\nx\r\n");
    for connection in [&mut client, &mut direct] {
        connection.send("mg Yg== b k s q\r\nmn\r\n");
    }
    assert_eq!(client.lines_until(|line| line == "MN"), direct.lines_until(|line| line == "MN"));
    client.ask("ms n 1\r\n5\r\nma n v\r\n", "HD\r\nVA 1\r\n6\r\n");
    client.ask("md a\r\nmd a\r\n", "HD\r\nNF\r\n");
}

#[test]
fn noreply_is_silent_and_in_order() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    for round in 0..500 {
        client.send(format!("set k 0 0 {} noreply\r\n{round}\r\nget k\r\n", round.to_string().len()));
        client.expect(&format!("VALUE k 0 {}\r\n{round}\r\nEND\r\n", round.to_string().len()));
    }
    client.ask("delete k noreply\r\nget k\r\n", "END\r\n");
    client.ask("flush_all noreply\r\nverbosity 1 noreply\r\nincr k 1 noreply\r\nmn\r\n", "MN\r\n");
}

#[test]
fn a_multiget_keeps_order_and_duplicates() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    for key in ["a", "b", "c"] {
        client.ask(&format!("set {key} 0 0 1\r\n{key}\r\n"), "STORED\r\n");
    }
    client.ask(
        "get c missing a c b a\r\n",
        "VALUE c 0 1\r\nc\r\nVALUE a 0 1\r\na\r\nVALUE c 0 1\r\nc\r\nVALUE b 0 1\r\nb\r\nVALUE a 0 1\r\na\r\nEND\r\n",
    );
}

fn fill(server: &Memcached, keys: usize, value: impl Fn(usize) -> String) {
    let mut direct = server.client();
    for start in (0..keys).step_by(1_000) {
        let mut lines = String::new();
        for key in start..keys.min(start + 1_000) {
            let value = value(key);
            lines.push_str(&format!("set key:{key} 0 0 {} noreply\r\n{value}\r\n", value.len()));
        }
        lines.push_str("mn\r\n");
        direct.ask(&lines, "MN\r\n");
    }
}

#[test]
fn twenty_thousand_keys_in_one_line() {
    let Some(server) = Memcached::start() else { return };
    fill(&server, 20_000, |key| if key % 3 == 0 { String::new() } else { format!("value of {key}") });
    let weir = Weir::before(&server);
    let mut client = weir.client();
    let keys: Vec<String> = (0..20_000).map(|key| format!("key:{}", (key * 7_919) % 20_001)).collect();
    for _ in 0..3 {
        client.send(format!("get {}\r\n", keys.join(" ")));
        for key in keys.iter().filter(|key| *key != "key:20000") {
            let number: usize = key[4..].parse().expect("a number");
            let value = if number.is_multiple_of(3) { String::new() } else { format!("value of {number}") };
            client.expect(&format!("VALUE {key} 0 {}\r\n{value}\r\n", value.len()));
        }
        client.expect("END\r\n");
    }
    // under the listener's name, and under the process's once that is known
    let asked = weir.metric("weir_request_operations_max", &["method=\"get\""]);
    assert!(asked == 20_000.0 || asked == 40_000.0, "what was asked is shown: {asked}");
    let rows = weir.control("/expensive");
    assert!(
        rows.as_array()
            .expect("rows")
            .iter()
            .any(|row| row["operations"] == 20_000 && row["chunks"].as_u64() > Some(100))
    );
}

#[test]
fn megabytes_of_keys_are_taken_before_anything_is_read() {
    let Some(server) = Memcached::start() else { return };
    fill(&server, 1_000, |_| "x".repeat(2_000));
    let weir = Weir::before(&server);
    let mut client = weir.client();
    let line =
        format!("get {}\r\n", (0..1_000).map(|key| format!("key:{key}")).collect::<Vec<_>>().join(" "));
    // about 2 MB of requests, 340 MB of answers
    let requests = 200;
    let text = line.repeat(requests);
    let sender = std::thread::spawn(move || {
        client.send(text);
        client
    });
    // the client blocks in its write until weir takes it, and weir must not wait for the client to read first
    let mut client = match joined(sender) {
        Some(client) => client,
        None => panic!("weir stopped reading"),
    };
    for _ in 0..requests {
        for key in 0..1_000 {
            let head = format!("VALUE key:{key} 0 2000\r\n");
            let got = client.take(head.len() + 2_002);
            assert!(got.starts_with(head.as_bytes()), "{:?}", String::from_utf8_lossy(&got[..head.len()]));
        }
        client.expect("END\r\n");
    }
}

fn joined<T>(thread: std::thread::JoinHandle<T>) -> Option<T> {
    let until = std::time::Instant::now() + support::PATIENCE;
    while !thread.is_finished() {
        if std::time::Instant::now() > until {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    thread.join().ok()
}

#[test]
fn large_values_both_ways() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    let value = "v".repeat(1_000_000);
    for key in 0..8 {
        client.ask(&format!("set big{key} 0 0 1000000\r\n{value}\r\n"), "STORED\r\n");
    }
    client.send("get big0 big1 big2 big3 big4 big5 big6 big7\r\n");
    for key in 0..8 {
        client.expect(&format!("VALUE big{key} 0 1000000\r\n"));
        assert_eq!(client.take(1_000_002).len(), 1_000_002);
    }
    client.expect("END\r\n");
    client.send(format!("set big 0 0 2000000\r\n{}\r\n", "v".repeat(2_000_000)));
    assert!(client.line().starts_with("SERVER_ERROR object too large"));
    client.ask("get big0 nothing\r\n", &format!("VALUE big0 0 1000000\r\n{value}\r\nEND\r\n"));
}

#[test]
fn errors_keep_the_connection_in_step() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let (mut client, mut direct) = (weir.client(), server.client());
    for request in [
        "nonsense\r\n".to_owned(),
        "get\r\n".to_owned(),
        format!("get {}\r\n", "k".repeat(251)),
        "set a 0 0 x\r\n".to_owned(),
        "set a 0 0 3\r\nabcdef\r\n".to_owned(),
        "incr a x\r\n".to_owned(),
        "mg\r\n".to_owned(),
    ] {
        for connection in [&mut client, &mut direct] {
            connection.send(&request);
            connection.send("mn\r\n");
        }
        let through = client.lines_until(|line| line == "MN");
        let straight = direct.lines_until(|line| line == "MN");
        assert_eq!(through, straight, "{request:?}");
    }
    client.ask("shutdown\r\n", "ERROR: shutdown not enabled\r\n");
    client.ask("get a\r\n", "END\r\n");
    eventually("invalid requests are counted", || weir.metric("weir_invalid_requests_total", &[]) > 0.0);
}

#[test]
fn the_binary_protocol_is_refused_in_its_own_words() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    let mut noop = vec![0x80, 0x0a];
    noop.extend([0; 10]);
    noop.extend([1, 2, 3, 4]);
    noop.extend([0; 8]);
    client.send(noop);
    let reply = client.take(24);
    assert_eq!((reply[0], reply[1], &reply[12..16]), (0x81, 0x0a, &[1, 2, 3, 4][..]), "{reply:?}");
    eventually("the connection ends", || {
        let rest = client.take(1 << 20);
        rest.len() < 1 << 20
    });
    eventually("it is counted", || weir.metric("weir_client_closes_total", &["how=\"protocol\""]) == 1.0);
}

#[test]
fn many_clients_share_few_connections() {
    let Some(server) = Memcached::start() else { return };
    fill(&server, 100, |key| format!("v{key}"));
    let weir = Weir::before(&server);
    let threads: Vec<_> = (0..20)
        .map(|thread| {
            let mut clients: Vec<Client> = (0..10).map(|_| weir.client()).collect();
            std::thread::spawn(move || {
                for round in 0..50 {
                    for (index, client) in clients.iter_mut().enumerate() {
                        client.send(format!("get key:{}\r\n", (thread + index + round) % 100));
                    }
                    for (index, client) in clients.iter_mut().enumerate() {
                        let key = (thread + index + round) % 100;
                        let value = format!("v{key}");
                        client.expect(&format!("VALUE key:{key} 0 {}\r\n{value}\r\nEND\r\n", value.len()));
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client");
    }
    assert_eq!(weir.metric("weir_backend_connection_opens_total", &["result=\"ok\""]), 1.0);
    eventually("every request is booked, names found or not", || {
        weir.metric("weir_requests_total", &["method=\"get\"", "outcome=\"ok\""]) == 10_000.0
    });
    eventually("the clients are gone", || weir.metric("weir_client_connections", &[]) == 0.0);
}

#[test]
fn a_client_that_dials_per_call_gets_its_port_back() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut ports = HashSet::new();
    for _ in 0..100 {
        let mut client = weir.client();
        client.ask("get nothing\r\n", "END\r\n");
        ports.insert(client.local_port());
    }
    // ... also when the last thing it sent wants no answer
    for _ in 0..20 {
        let mut client = weir.client();
        client.send("set a 0 0 1 noreply\r\nx\r\n");
        ports.insert(client.local_port());
    }
    eventually("all were reset", || weir.metric("weir_client_closes_total", &["how=\"reset\""]) == 120.0);
    assert_eq!(weir.metric("weir_client_short_connections_total", &[]), 120.0);
    let waiting = in_time_wait(weir.port);
    assert!(waiting.is_disjoint(&ports), "{waiting:?}");
    weir.client().ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
}

/// Local ports in TIME_WAIT whose peer is this port.
fn in_time_wait(peer: u16) -> HashSet<u16> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("socket table");
    let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            (*fields.get(3)? == "06" && port(fields[2])? == peer).then(|| port(fields[1])).flatten()
        })
        .collect()
}

#[test]
fn a_half_closed_client_is_answered() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    client.send("set a 0 0 1\r\nx\r\nget a\r\n");
    client.half_close();
    client.expect("STORED\r\nVALUE a 0 1\r\nx\r\nEND\r\n");
    assert!(client.is_over());
}

#[test]
fn a_backend_may_go_and_come_back() {
    let Some(mut server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    server.stop();
    weir.logs("backend_down");
    client.send("get a\r\n");
    let line = client.line();
    assert!(line.starts_with("SERVER_ERROR weir: "), "{line}");
    client.send("set a 0 0 1\r\nx\r\n");
    assert!(client.line().starts_with("SERVER_ERROR weir: "));
    server.restart();
    eventually("it is back", || {
        client.send("set a 0 0 1\r\ny\r\n");
        client.line() == "STORED"
    });
    client.ask("get a\r\n", "VALUE a 0 1\r\ny\r\nEND\r\n");
    // refused, or reset by a server that is just ending
    let opens = |result: &[&str]| weir.metric("weir_backend_connection_opens_total", result);
    assert!(opens(&[]) > opens(&["result=\"ok\""]));
    assert_eq!(weir.metric("weir_backend_connections", &["state=\"ready\""]), 1.0);
}

#[test]
fn a_stalled_backend_is_cut_and_waiting_clients_are_told() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::before(&server);
    let mut client = weir.client();
    client.ask("get a\r\n", "END\r\n");
    server.freeze(true);
    client.send("get a\r\n");
    assert!(client.line().starts_with("SERVER_ERROR weir: "));
    weir.logs("backend_lost");
    server.freeze(false);
    eventually("it answers again", || {
        client.send("get a\r\n");
        client.line() == "END"
    });
    assert!(weir.metric("weir_upstream_stalls_total", &[]) >= 1.0);
}

#[test]
fn callers_are_told_apart_by_process_and_user() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&format!(
        "admin = []\n[pool.main]\nservers = [\"{}\"]\n\
         [listener.cache]\naddress = \"127.0.0.1:{{port}}\"\n\
         [listener.sock]\naddress = \"unix:{{directory}}/memcached.sock\"\nprincipal = \"uid\"\n",
        server.address()
    ));
    let own = std::fs::read_to_string("/proc/self/comm").expect("own name").trim().to_owned();
    let label = format!("caller=\"{own}\"");
    let mut local = Client::connect_unix(&weir.directory.path().join("memcached.sock"));
    local.ask("get a\r\n", "END\r\n");
    assert_eq!(weir.metric("weir_requests_total", &[&label]), 1.0, "a Unix peer is known at once");
    let mut client = weir.client();
    client.ask("get a\r\n", "END\r\n");
    eventually("the process behind a TCP client is found", || {
        client.ask("get a\r\n", "END\r\n");
        weir.metric("weir_requests_total", &[&label]) > 1.0
    });
    let rows = weir.control("/callers");
    let row =
        rows.as_array().expect("rows").iter().find(|row| row["listener"] == "sock").expect("the Unix caller");
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(row["principal"], format!("uid:{uid}"));
    assert_eq!(row["caller"], own);
    assert_eq!(row["connections"], 1);
}

#[test]
fn connections_beyond_the_cap_are_told_why() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&format!(
        "[pool.main]\nservers = [\"{}\"]\n[listener.cache]\naddress = \"127.0.0.1:{{port}}\"\nmax_connections = 3\n",
        server.address()
    ));
    let mut held: Vec<Client> = (0..3).map(|_| weir.client()).collect();
    for client in &mut held {
        client.ask("get a\r\n", "END\r\n");
    }
    let mut refused = weir.client();
    assert!(refused.line().starts_with("SERVER_ERROR weir: too many connections"));
    assert!(refused.is_over());
    held.pop();
    eventually("a place is free again", || {
        let mut client = weir.client();
        client.send("mn\r\n");
        client.line() == "MN"
    });
    assert!(weir.metric("weir_client_closes_total", &["how=\"cap\""]) >= 1.0);
    assert!(weir.metric("weir_rejected_total", &["reason=\"connections\""]) >= 1.0);
}

#[test]
fn idle_clients_are_closed() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&format!(
        "[pool.main]\nservers = [\"{}\"]\n[listener.cache]\naddress = \"127.0.0.1:{{port}}\"\nidle_timeout = \"1s\"\n",
        server.address()
    ));
    let mut client = weir.client();
    client.ask("get a\r\n", "END\r\n");
    assert!(client.is_over());
    eventually("it is counted", || weir.metric("weir_client_closes_total", &["how=\"idle\""]) == 1.0);
}

#[test]
fn several_workers_serve_alike() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_flags(&server.address(), &["--workers", "3"]);
    let mut clients: Vec<Client> = (0..12).map(|_| weir.client()).collect();
    clients[0].ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    for client in &mut clients {
        client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
    }
    assert_eq!(weir.metric("weir_backend_connection_opens_total", &["result=\"ok\""]), 3.0);
    eventually("every request is booked, names found or not", || {
        weir.metric("weir_requests_total", &["outcome=\"ok\""]) == 13.0
    });
    assert_eq!(weir.metric("weir_client_connections", &[]), 12.0);
    let rows = weir.control("/callers");
    let requests: u64 =
        rows.as_array().expect("rows").iter().filter_map(|row| row["requests"].as_u64()).sum();
    assert_eq!(requests, 13);
}

#[test]
fn it_says_why_it_cannot_start() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let route = format!("{}=127.0.0.1:11211", taken.local_addr().expect("address"));
    let weir = std::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--memcached", &route])
        .env("XDG_RUNTIME_DIR", tempfile::tempdir().expect("a directory").path())
        .output()
        .expect("weir runs");
    assert!(!weir.status.success());
    assert!(weir.stdout.is_empty());
    let said = String::from_utf8_lossy(&weir.stderr);
    assert!(said.contains("the port is taken"), "{said}");
}

#[test]
fn it_says_where_an_address_that_cannot_be_had_was_written() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("address").to_string();
    let folder = tempfile::tempdir().expect("a directory");
    let (file, port) = (folder.path().join("weir.toml"), support::free_port());
    let text = format!(
        "metrics = [\"{taken}\"]\n[pool.main]\nservers = [\"127.0.0.1:11211\"]\n\
         [listener.cache]\naddress = \"127.0.0.1:{port}\"\n"
    );
    std::fs::write(&file, text).expect("written");
    let said = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_weir"));
        command.arg("run").arg("--config").arg(&file).args(more).env("XDG_RUNTIME_DIR", folder.path());
        let weir = command.output().expect("weir runs");
        assert!(!weir.status.success());
        String::from_utf8_lossy(&weir.stderr).into_owned()
    };
    let of_file = said(&[]);
    let expected = format!("`metrics` of {}: {taken} cannot be opened", file.display());
    assert!(of_file.contains(&expected) && !of_file.contains("--metrics"), "{of_file}");
    let of_flag = said(&["--metrics", &taken]);
    assert!(of_flag.contains(&format!("--metrics: {taken} cannot be opened")), "{of_flag}");
}

#[test]
fn churn_is_told_by_principal() {
    let Some(server) = Memcached::start() else { return };
    // One listener that tells users apart, and one that does not: the steady clients of the second are nobody's churn.
    let steady = format!(
        "[listener.steady]\naddress = \"127.0.0.1:{{port}}\"\n[listener.cache]\naddress = \"unix:{{dir}}/cache.sock\"\n\
         principal = \"uid\"\n[pool.main]\nservers = [\"{}\"]\n",
        server.address()
    );
    let weir = Weir::with_file(&steady);
    let mut client = weir.client();
    for _ in 0..20 {
        client.ask("get a\r\n", "END\r\n");
        Client::connect_unix(&weir.path("cache.sock")).ask("get a\r\n", "END\r\n");
    }
    let uid = format!("uid:{}", rustix::process::geteuid().as_raw());
    let of = |name: &str, principal: &str| weir.series(name, &[("principal", principal)]);
    eventually("the connections of the user are counted", || {
        of("weir_principal_short_connections_total", &uid) == Some(20.0)
    });
    assert_eq!(of("weir_principal_accepts_total", &uid), Some(20.0));
    assert_eq!(of("weir_principal_accepts_total", "steady"), Some(1.0));
    assert_eq!(of("weir_principal_short_connections_total", "steady"), Some(0.0));

    let row = |listener: &str| {
        let rows = weir.control("/callers");
        let found = rows.as_array().expect("rows").iter().find(|row| row["listener"] == listener).cloned();
        found.unwrap_or_else(|| panic!("no row of {listener}: {rows:#}"))
    };
    eventually("the steady client is booked", || {
        weir.metric("weir_requests_total", &["outcome=\"ok\""]) == 40.0
    });
    assert_eq!(row("cache")["principal"], uid);
    assert_eq!(row("cache")["principal_one_request_share"], 1.0);
    assert_eq!(row("steady")["principal_one_request_share"], serde_json::Value::Null);
    let name = row("cache")["caller"].as_str().expect("a name").to_owned();
    let explained = weir.command(&["explain", &name]).expect_success("explain").stdout;
    assert!(explained.contains("100% of those that closed had carried at most one request"), "{explained}");
    // A rate of the last whole second: some second has to pass while somebody dials.
    eventually("the rate shows", || {
        Client::connect_unix(&weir.path("cache.sock")).ask("get a\r\n", "END\r\n");
        row("cache")["principal_accepts_per_second"].as_f64().is_some_and(|rate| rate >= 1.0)
    });
}
