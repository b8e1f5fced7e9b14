//! ASCII authentication against the real memcached, started with `-Y`: weir signs in with the pool's `auth_file`, and
//! what goes wrong is said to the client, logged and counted.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};
use support::{Memcached, Weir, eventually, file};

/// A memcached that wants credentials, and the directory its file lies in.
fn guarded() -> Option<(Memcached, tempfile::TempDir)> {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("authfile");
    std::fs::write(&file, "weir:sesame\nother:word\n").expect("written");
    // memcached reads it as another user where the test is root's
    readable(directory.path(), 0o755);
    readable(&file, 0o644);
    let server = Memcached::start_with(&["-Y", &file.to_string_lossy()])?;
    Some((server, directory))
}

fn readable(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("its own");
}

/// A weir that signs in with this content of its file, if any.
fn weir(server: &Memcached, more: &str, credentials: Option<&str>) -> Weir {
    let line = credentials.map_or("", |_| "auth_file = \"{directory}/credentials\"\n");
    let text = file(server, &format!("{line}{more}"), "");
    Weir::with(&[("credentials", credentials.unwrap_or_default()), ("weir.toml", &text)], &[], None)
}

const OPENS: &str = "weir_backend_connection_opens_total";

/// A number of the server's own `stats`, asked after signing in.
fn stat(server: &Memcached, name: &str) -> u64 {
    server.stat(name, Some("set auth 0 0 10\r\nother word"))
}

#[test]
fn the_right_credentials_open_the_server() {
    let Some((server, _directory)) = guarded() else { return };
    let weir = weir(&server, "connections_per_server = 3\nchunk_keys = 2\n", Some("weir sesame\n"));
    let mut client = weir.client();
    client.ask("set a 5 0 1\r\nx\r\nset b 0 0 2\r\nyy\r\n", "STORED\r\nSTORED\r\n");
    client.ask("get a\r\n", "VALUE a 5 1\r\nx\r\nEND\r\n");
    client.ask("get a no b c d e\r\n", "VALUE a 5 1\r\nx\r\nVALUE b 0 2\r\nyy\r\nEND\r\n");
    client.ask("mg a v\r\ndelete b\r\n", "VA 1\r\nx\r\nDELETED\r\n");
    eventually("every connection signs in", || weir.metric(OPENS, &["result=\"ok\""]) == 3.0);
    assert_eq!(weir.metric(OPENS, &["result=\"auth\""]), 0.0);
    assert_eq!(stat(&server, "auth_errors"), 0);
    assert_eq!(stat(&server, "auth_cmds"), 5, "three of weir's connections, and two of this test's");
}

#[test]
fn after_a_restart_of_the_server_weir_signs_in_again() {
    let Some((mut server, _directory)) = guarded() else { return };
    let weir = weir(&server, "", Some("weir sesame"));
    let mut client = weir.client();
    client.ask("set a 0 0 1\r\nx\r\n", "STORED\r\n");
    server.restart();
    eventually("it answers again", || {
        client.send("get a\r\n");
        client.line() == "END"
    });
    client.ask("set a 0 0 1\r\ny\r\nget a\r\n", "STORED\r\nVALUE a 0 1\r\ny\r\nEND\r\n");
}

/// Attempts that this wait between attempts allows at the most within a time: each waits at least half of it.
fn most_attempts(within: Duration, reconnect_max: Duration, doubling: f64) -> f64 {
    doubling + (within.as_secs_f64() / (reconnect_max.as_secs_f64() / 2.0)).ceil()
}

#[test]
fn wrong_credentials_are_told_counted_and_tried_again_with_a_back_off() {
    let Some((server, _directory)) = guarded() else { return };
    let (reconnect, max) =
        ("reconnect_min = \"100ms\"\nreconnect_max = \"800ms\"\n", Duration::from_millis(800));
    let started = Instant::now();
    let weir = weir(&server, reconnect, Some("weir closed"));
    let (mut client, mut other) = (weir.client(), weir.client());
    let refused = format!(
        "SERVER_ERROR weir: cannot sign in to {} (pool key auth_file); nothing was sent\r\n",
        server.address()
    );
    client.ask("get a\r\n", &refused);
    client.ask("get a b c\r\nset a 0 0 1\r\nx\r\nmg a v\r\n", &refused.repeat(3));
    let line = weir.logs("cause=\"backend_down\"");
    assert!(line.contains("result=\"auth\"") && line.contains("authentication failure"), "{line}");
    assert!(!line.contains("closed"), "what the file holds is never logged: {line}");
    // Requests that fail cause no attempts of their own.
    while started.elapsed() < Duration::from_secs(3) {
        client.ask("get a\r\n", &refused);
        other.ask("set b 0 0 1\r\nx\r\n", &refused);
    }
    let attempts = weir.metric(OPENS, &["result=\"auth\""]);
    // three waits (100, 200, 400 ms) come before the longest
    let most = most_attempts(started.elapsed(), max, 4.0);
    assert!((2.0..=most).contains(&attempts), "{attempts} attempts, at most {most}");
    assert_eq!(weir.metric(OPENS, &["result=\"ok\""]), 0.0);
    let refusals = weir.metric("weir_requests_total", &["outcome=\"backend_lost\""]);
    assert!(refusals >= 6.0, "{refusals}");
    assert!(stat(&server, "auth_errors") >= attempts as u64);

    // The file is read for every attempt: a password that was put right needs no restart.
    std::fs::write(weir.path("credentials"), "weir sesame\n").expect("written");
    eventually("it signs in", || {
        client.send("set a 0 0 1\r\nx\r\n");
        client.line() == "STORED"
    });
    client.ask("get a\r\n", "VALUE a 0 1\r\nx\r\nEND\r\n");
}

#[test]
fn a_file_in_another_form_is_named_in_the_log() {
    let Some((server, _directory)) = guarded() else { return };
    let long = format!("weir {}", "x".repeat(4_096));
    for (content, said) in [
        ("weir:sesame\n", "does not hold one line: user, blank, password"),
        ("weir a\nother b\n", "does not hold one line: user, blank, password"),
        ("", "does not hold one line: user, blank, password"),
        (long.as_str(), "is longer than 4096 bytes"),
    ] {
        let weir = weir(&server, "", Some(content));
        let line = weir.logs("cause=\"backend_down\"");
        assert!(line.contains(said) && line.contains("result=\"auth\""), "{content:?}: {line}");
        let mut client = weir.client();
        client.send("get a\r\n");
        let answer = client.line();
        assert!(answer.starts_with("SERVER_ERROR weir: cannot sign in to "), "{answer}");
    }
    assert_eq!(stat(&server, "auth_errors"), 0, "such a file is never sent");
}

#[test]
fn a_client_that_signs_in_itself_stores_an_ordinary_item() {
    let Some((server, _directory)) = guarded() else { return };
    let weir = weir(&server, "", Some("weir sesame"));
    let mut client = weir.client();
    client.ask("set auth x 0 10\r\nother word\r\n", "CLIENT_ERROR bad command line format\r\n");
    // libmemcached-style clients send any key; right or wrong, it is data to weir and to a server that knows weir
    client.ask("set auth 0 0 10\r\nother word\r\n", "STORED\r\n");
    client.ask("set auth 0 0 11\r\nother wrong\r\n", "STORED\r\n");
    client.ask("get auth\r\n", "VALUE auth 0 11\r\nother wrong\r\nEND\r\n");
    client.ask("delete auth\r\n", "DELETED\r\n");
    assert_eq!(stat(&server, "auth_errors"), 0);
    assert_eq!(stat(&server, "auth_cmds"), 3, "weir's one connection, and two of this test's");
}

#[test]
fn without_a_file_the_servers_refusal_is_passed_on() {
    let Some((server, _directory)) = guarded() else { return };
    let weir = weir(&server, "", None);
    let mut client = weir.client();
    client.ask("get a\r\n", "CLIENT_ERROR unauthenticated\r\n");
    client.ask("get a b\r\nmn\r\n", "CLIENT_ERROR unauthenticated\r\nMN\r\n");
    // which takes until the caller is named
    let refused = ["method=\"get\"", "outcome=\"error\""];
    eventually("both are counted", || weir.metric("weir_requests_total", &refused) == 2.0);
    assert_eq!(weir.metric(OPENS, &["result=\"ok\""]), 1.0, "the connection stays");
    // One connection serves all: whoever signs in does it for everybody. This is why the file belongs to weir.
    client.ask("set auth 0 0 10\r\nother word\r\n", "STORED\r\n");
    weir.client().ask("get a\r\n", "END\r\n");
}
