//! The first request of a process that nobody has seen bears that process's name, not its listener's: real processes over
//! TCP, weir, the real memcached. Each client process runs one test of this file again, under a name of its own.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::process::Process;
use support::wire::{Wire, keys};
use support::{Memcached, Weir, free_port, wait_for};

/// How long something that is "at once" may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// What the process is called.
const CULPRIT: &str = "feed-backfill";
/// What the listener is called.
const LISTENER: &str = "cache";
/// Keys of its first request.
const KEYS: usize = 15_000;
/// Set for the child: weir's port, and what it does after its first answer.
const ROLE: &str = "WEIR_TEST_ROLE";

fn weir_in_front_of(memcached: &Memcached) -> (Weir, u16) {
    let port = free_port();
    let config = format!(
        "[pool.main]\nservers = [\"{}\"]\n[listener.{LISTENER}]\naddress = \"127.0.0.1:{port}\"\n",
        memcached.address()
    );
    (Weir::with_config(&config, &[]), port)
}

/// The child's life: connect, and ask for everything at once before anything else.
fn play(role: &str) {
    let (port, then) = role.split_once(' ').expect("a port and a deed");
    let keys = keys("post", KEYS);
    let mut wire = Wire::tcp(port.parse().expect("a port"));
    assert_eq!(wire.get(&keys).end, "END");
    if then == "stay" {
        std::thread::sleep(Duration::from_secs(600)); // the parent ends it
    }
}

fn child(folder: &Path, test: &str, port: u16, then: &str) -> Process {
    let program = folder.join(CULPRIT);
    // The kernel calls a process after the file that was executed.
    std::os::unix::fs::symlink(std::env::current_exe().expect("this program"), &program).expect("linked");
    let mut command = Command::new(program);
    command.args(["--exact", test, "--nocapture"]);
    command.env(ROLE, format!("{port} {then}")).stdout(Stdio::null());
    Process::start(CULPRIT, &mut command)
}

fn largest(weir: &Weir, caller: &str) -> Option<f64> {
    weir.series("weir_request_operations_max", &[("caller", caller), ("method", "get")])
}

/// Everything that names a caller names the process, and nothing says that the listener asked for so much.
fn assert_named(weir: &Weir) {
    let asked = wait_for("the process is named", SOON, || largest(weir, CULPRIT).filter(|n| *n > 0.0));
    assert_eq!(asked, KEYS as f64);
    let ended = [("caller", CULPRIT), ("method", "get"), ("outcome", "ok")];
    wait_for("its request has ended", SOON, || {
        weir.series("weir_requests_total", &ended).filter(|requests| *requests == 1.0)
    });
    let backend = weir.series("weir_backend_operations_total", &[("caller", CULPRIT)]);
    assert_eq!(backend, Some(KEYS as f64), "what it cost behind weir");
    assert!(largest(weir, LISTENER).is_none_or(|asked| asked < 2_000.0), "{}", weir.metrics());

    let callers = weir.control("/callers");
    let of = |name: &str| callers.as_array().expect("rows").iter().find(|row| row["caller"] == name);
    let row = of(CULPRIT).unwrap_or_else(|| panic!("no row of {CULPRIT}: {callers:#}"));
    assert_eq!((&row["largest_ever"]["operations"], &row["requests"]), (&KEYS.into(), &1.into()), "{row:#}");
    assert_eq!(row["principal"], LISTENER, "a name, and no principal");
    let listener = of(LISTENER).map_or(0, |row| row["operations"].as_u64().expect("a number"));
    assert_eq!(listener, 0, "{callers:#}");
    let expensive = weir.control("/expensive");
    assert_eq!(expensive[0]["caller"], CULPRIT, "{expensive:#}");

    let explained = weir.command(&["explain", CULPRIT]).expect_success("explain").stdout;
    assert!(explained.contains("feed-backfill asks for 15,000 keys in one get"), "{explained}");
    assert!(
        explained.contains(&format!("weir limits set {CULPRIT} --operations-per-request")),
        "{explained}"
    );
    let of_listener = weir.command(&["explain", LISTENER]).expect_success("explain").stdout;
    assert!(of_listener.contains("feed-backfill: 15,000 operations in one get"), "{of_listener}");
    assert!(of_listener.contains("weir explain feed-backfill"), "{of_listener}");
    assert!(!of_listener.contains("limits set"), "nobody else is capped: {of_listener}");
    let top = weir.command(&["top", "--once"]).expect_success("top").stdout;
    assert!(top.contains(CULPRIT), "{top}");
    let log = weir.log();
    let line = log.lines().find(|line| line.contains("caller_over_ceiling"));
    let line = line.unwrap_or_else(|| panic!("no line about it: {log}"));
    assert!(line.contains(&format!("caller=\"{CULPRIT}\"")) && line.contains("operations=15000"), "{line}");

    assert_eq!(weir.series("weir_namings_total", &[("result", "named")]), Some(1.0));
    assert_eq!(weir.series("weir_held_accounts", &[]), Some(0.0));
}

#[test]
fn the_first_request_of_a_new_process_bears_its_name() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    let Some(memcached) = Memcached::start() else { return };
    memcached.wire().fill(&keys("post", 2_000), &[b'v'; 100]);
    let (weir, port) = weir_in_front_of(&memcached);
    let test = "the_first_request_of_a_new_process_bears_its_name";
    let _child = child(weir.directory.path(), test, port, "stay");
    assert_named(&weir);
}

#[test]
fn a_request_whose_name_cannot_be_found_is_the_listeners_and_says_so() {
    let Some(memcached) = Memcached::start() else { return };
    let (weir, port) = weir_in_front_of(&memcached);
    let mut wire = Wire::tcp(port);
    wire.send(b"get a b c\r\n");
    assert_eq!(wire.line(), "END");
    drop(wire); // gone before anybody could look
    let asked = wait_for("it is booked", SOON, || largest(&weir, LISTENER).filter(|n| *n > 0.0));
    assert_eq!(asked, 3.0);
    assert_eq!(weir.series("weir_namings_total", &[("result", "unnamed")]), Some(1.0));
    let explained = weir.command(&["explain", LISTENER]).expect_success("explain").stdout;
    assert!(explained.contains("stands for every client"), "{explained}");
    assert!(!explained.contains("weir limits set"), "{explained}");
}
