//! `flush_all` by policy: refused, allowed, or only the keys with a prefix.

mod support;

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
    eventually("each flush is counted with its caller", || {
        weir.metric("weir_flushes_total", &["result=\"prefix\""]) == 2.0
    });
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
