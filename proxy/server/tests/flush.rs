//! `flush_all` by policy: refused, allowed, or only the keys with a prefix.

mod support;

use std::path::Path;
use support::{Memcached, Weir, eventually, file};

fn policy(server: &Memcached, policy: &str) -> String {
    file(server, &format!("flush_all = {policy}"), "")
}

#[test]
fn only_keys_with_the_prefix_are_flushed_and_the_answer_keeps_its_place() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&policy(&server, "{ prefix = \"test:\" }"));
    let mut client = weir.client();
    for number in 0..1_500 {
        client.ask(&format!("set test:{number} 0 0 1\r\nx\r\n"), "STORED\r\n");
    }
    client.ask("set prod:1 0 0 1\r\ny\r\n", "STORED\r\n");
    client.ask("set te 0 0 1\r\nz\r\n", "STORED\r\n");
    // base64 of "test:\u{1}", a key only meta commands can name
    client.ask("ms dGVzdDoB 1 b\r\nx\r\n", "HD\r\n");

    client
        .ask("flush_all\r\nget prod:1 te\r\n", "OK\r\nVALUE prod:1 0 1\r\ny\r\nVALUE te 0 1\r\nz\r\nEND\r\n");
    client.ask("get test:0 test:1 test:1499\r\n", "END\r\n");
    client.ask("mg dGVzdDoB b v\r\n", "EN\r\n");
    client.ask("flush_all noreply\r\nmn\r\n", "MN\r\n");
    let delayed = {
        client.send("flush_all 30\r\n");
        client.line()
    };
    assert!(
        delayed.starts_with("SERVER_ERROR weir: flush_all"),
        "a delay cannot be kept for a prefix: {delayed}"
    );
    counted(&weir, 2.0, 0.0);
    let line = weir.logs("cause=\"flush_prefix\"");
    assert!(number(&line, "keys_seen") >= 1_503 && number(&line, "deleted") == 1_501, "{line}");
}

#[test]
fn a_refused_flush_says_so_and_changes_nothing() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&policy(&server, "\"refuse\""));
    let mut client = weir.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    client.send("flush_all\r\n");
    let line = client.line();
    assert!(line.starts_with("SERVER_ERROR weir: flush_all is refused"), "{line}");
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
}

/// What a flush answers that left keys behind.
const FAILED: &str = "SERVER_ERROR weir: not every key could be flushed; the log says why\r\n";
/// How many keys the tests that are about many keys store, half of them with the prefix.
const MANY: u64 = 50_000;

/// Stores so many keys past weir, half of them with the prefix, each long enough to be felt if it were kept.
fn fill(server: &Memcached, keys: u64, opening: &str) {
    let mut client = server.client();
    if !opening.is_empty() {
        client.ask(opening, "STORED\r\n");
    }
    let tail = "x".repeat(200);
    for start in (0..keys).step_by(1_000) {
        let mut sets = String::new();
        for number in start..(start + 1_000).min(keys) {
            let prefix = if number % 2 == 0 { "test" } else { "prod" };
            sets.push_str(&format!("set {prefix}:{number}:{tail} 0 0 1 noreply\r\nx\r\n"));
        }
        client.ask(&format!("{sets}mn\r\n"), "MN\r\n");
    }
}

/// The most memory that weir ever held, in bytes.
fn peak(weir: &Weir) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", weir.process.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// Waits until so many flushes are counted, which takes until their caller is named: those that were done, and those that failed.
#[track_caller]
fn counted(weir: &Weir, done: f64, failed: f64) {
    let count = |result| weir.metric("weir_flushes_total", &[&format!("result=\"{result}\"")]);
    eventually("the flushes are counted", || count("prefix") + count("failed") == done + failed);
    assert_eq!((count("prefix"), count("failed")), (done, failed));
}

/// A number of a log line.
fn number(line: &str, name: &str) -> u64 {
    let value = line.split(' ').find_map(|field| field.strip_prefix(&format!("{name}=")));
    value.unwrap_or_else(|| panic!("no {name}: {line}")).parse().expect("a number")
}

/// 25,000 keys of 210 bytes are 5 MB and more; those that wait at most are 0.9 MB.
#[test]
fn many_keys_are_flushed_in_little_memory() {
    let Some(server) = Memcached::start_with(&["-m", "256"]) else { return };
    let weir = Weir::with_file(&policy(&server, "{ prefix = \"test:\" }"));
    let mut client = weir.client();
    // whatever the first flush needs for itself
    fill(&server, 2_000, "");
    client.ask("flush_all\r\n", "OK\r\n");
    assert_eq!(server.stat("curr_items", None), 1_000);
    fill(&server, MANY, "");
    let before = peak(&weir);
    client.ask("flush_all\r\n", "OK\r\n");
    let grown = peak(&weir) - before;
    assert!(grown < 3 << 20, "weir grew by {} KiB", grown >> 10);
    assert_eq!(server.stat("curr_items", None), MANY / 2, "the other half stays");
    client.ask("flush_all\r\n", "OK\r\n");
    counted(&weir, 3.0, 0.0);
}

#[test]
fn a_flush_signs_in_as_the_lanes_do() {
    let directory = tempfile::tempdir().expect("a directory");
    let accounts = directory.path().join("accounts");
    std::fs::write(&accounts, "weir:sesame\nother:word\n").expect("written");
    // memcached reads it as another user where the test is root's
    readable(directory.path(), 0o755);
    readable(&accounts, 0o644);
    let Some(server) = Memcached::start_with(&["-Y", &accounts.to_string_lossy()]) else { return };
    let opening = "set auth 0 0 10\r\nother word\r\n";
    fill(&server, MANY, opening);
    let text = policy(&server, "{ prefix = \"test:\" }\nauth_file = \"{directory}/credentials\"");
    let weir = Weir::with(&[("credentials", "weir sesame\n"), ("weir.toml", &text)], &[], None);
    let mut client = weir.client();
    let items = || server.stat("curr_items", Some(opening.trim_end()));
    client.ask("flush_all\r\n", "OK\r\n");
    assert_eq!(items(), MANY / 2);
    counted(&weir, 1.0, 0.0);

    // The lanes are signed in already; the flush is not, and says what is wrong.
    std::fs::write(weir.path("credentials"), "weir closed\n").expect("written");
    client.ask("flush_all\r\n", FAILED);
    counted(&weir, 1.0, 1.0);
    let line = weir.logs("cause=\"flush_prefix_failed\"");
    assert!(line.contains("the server refused the credentials") && !line.contains("closed"), "{line}");
    assert_eq!(items(), MANY / 2);
}

fn readable(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its own");
}

/// The binary protocol stores keys that no line can name: with a blank, and too long for base64.
#[test]
fn a_key_that_cannot_be_deleted_fails_the_flush_and_keeps_no_other_from_it() {
    let Some(server) = Memcached::start() else { return };
    let key = format!("test: {}", "x".repeat(214));
    let mut set = vec![0x80, 0x01, 0, key.len() as u8, 8, 0, 0, 0];
    set.extend_from_slice(&(8 + key.len() as u32 + 1).to_be_bytes());
    set.extend_from_slice(&[0; 20]);
    set.extend_from_slice(key.as_bytes());
    set.push(b'v');
    let mut binary = server.client();
    binary.send(&set);
    assert_eq!(&binary.take(24)[..8], &[0x81, 0x01, 0, 0, 0, 0, 0, 0], "stored");
    fill(&server, 2_000, "");
    // longest key of a line
    let longest = format!("test:{}", "y".repeat(245));
    server.client().ask(&format!("set {longest} 0 0 1\r\nx\r\n"), "STORED\r\n");

    let weir = Weir::with_file(&policy(&server, "{ prefix = \"test:\" }"));
    let mut client = weir.client();
    client.ask(&format!("flush_all\r\nget {longest}\r\n"), &format!("{FAILED}END\r\n"));
    assert_eq!(server.stat("curr_items", None), 1_001, "the other half, and the one that cannot be named");
    counted(&weir, 0.0, 1.0);
    let line = weir.logs("cause=\"flush_prefix_failed\"");
    assert!(line.contains("CLIENT_ERROR") && line.contains(&server.address()), "{line}");
    let numbers = ["deleted", "gone", "failed"].map(|name| number(&line, name));
    assert_eq!(numbers, [1_001, 0, 1], "{line}");
    assert!(number(&line, "keys_seen") >= 2_002, "{line}");
    assert!(number(&line, "seconds") < 60 && line.contains("prefix=\"test:\""), "{line}");
    let outcome = ["method=\"flush_all\"", "outcome=\"error\""];
    assert_eq!(weir.metric("weir_requests_total", &outcome), 1.0);
    let line = weir.logs("cause=\"flush_all\"");
    assert_eq!((number(&line, "sent"), number(&line, "failed")), (0, 1), "{line}");
}

#[test]
fn a_server_killed_in_the_middle_fails_the_flush() {
    let Some(mut server) = Memcached::start_with(&["-m", "256"]) else { return };
    let weir = Weir::with_file(&policy(&server, "{ prefix = \"test:\" }"));
    let mut client = weir.client();
    fill(&server, MANY, "");
    client.send("flush_all\r\n");
    // The kernel of this machine decides who runs: stopped first, the server is surely in the middle.
    eventually("the flush is under way", || server.stat("delete_hits", None) > 0);
    server.freeze(true);
    server.stop();
    client.expect(FAILED);
    counted(&weir, 0.0, 1.0);
    let line = weir.logs("cause=\"flush_prefix_failed\"");
    let deleted = number(&line, "deleted");
    assert!(deleted > 0 && deleted < MANY / 2, "{line}");
    assert!(line.contains(&server.address()), "{line}");

    server.restart();
    eventually("the server is back", || {
        client.send("set test:1 0 0 1\r\nx\r\n");
        client.line() == "STORED"
    });
    client.ask("flush_all\r\nget test:1\r\n", "OK\r\nEND\r\n");
    counted(&weir, 1.0, 1.0);
}

/// A client that has left is no reason to stop, nor to forget whom the flush is counted for.
#[test]
fn a_flush_whose_client_left_is_carried_out_and_counted() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&policy(&server, "{ prefix = \"test:\" }"));
    fill(&server, 20_000, "");
    let mut client = weir.client();
    client.send("flush_all\r\n");
    eventually("the flush is under way", || server.stat("delete_hits", None) > 0);
    drop(client);
    eventually("half of the keys are gone", || server.stat("curr_items", None) == 10_000);
    counted(&weir, 1.0, 0.0);
}

/// It goes over connections of its own, and is in its place all the same.
#[test]
fn a_flush_takes_effect_between_the_commands_around_it() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&policy(
        &server,
        "{ prefix = \"test:\" }\nconnections_per_server = 2\nchunk_keys = 2",
    ));
    let mut client = weir.client();
    let value = "v".repeat(300_000);
    for _ in 0..20 {
        let before = format!("set test:a 0 0 300000 noreply\r\n{value}\r\nset test:b 0 0 1\r\nx\r\n");
        client.ask(
            &format!(
                "{before}flush_all\r\nset test:c 0 0 1\r\ny\r\nget test:a test:b test:c\r\ndelete test:c\r\n"
            ),
            "STORED\r\nOK\r\nSTORED\r\nVALUE test:c 0 1\r\ny\r\nEND\r\nDELETED\r\n",
        );
    }
    counted(&weir, 20.0, 0.0);
}

/// memcached makes one listing at a time: it answers `BUSY` to whoever else asks, or has the thread wait that serves them.
#[test]
fn flushes_at_the_same_time_wait_for_each_other() {
    let Some(server) = Memcached::start() else { return };
    let weir = Weir::with_file(&policy(&server, "{ prefix = \"test:\" }"));
    fill(&server, 20_000, "");
    let mut clients: Vec<_> = (0..4).map(|_| weir.client()).collect();
    for client in &mut clients {
        client.send("flush_all\r\n");
    }
    for client in &mut clients {
        client.expect("OK\r\n");
    }
    assert_eq!(server.stat("curr_items", None), 10_000);
    counted(&weir, 4.0, 0.0);
}
