//! What a running weir turns down is in `weir_rejected_total` under its reason, and refused lines are booked under the
//! command they name. The real memcached stands behind it.

mod support;

use std::time::Duration;
use support::wire::Wire;
use support::{Memcached, Weir, wait_for};

/// How long something that is "at once" may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);

fn start(memcached: &Memcached, pool: &str, listener: &str) -> Weir {
    let text = format!(
        "[pool.cache]\nservers = [\"{}\"]\n{pool}\n\
         [listener.door]\naddress = \"unix:{{dir}}/door.sock\"\n{listener}\n[callers.door]\nlistener = \"door\"\n",
        memcached.address()
    );
    Weir::with_config(&text, &[])
}

fn rejected(weir: &Weir, reason: &str) -> f64 {
    let labels = [("caller", "door"), ("reason", reason), ("mode", "refuse")];
    weir.series("weir_rejected_total", &labels).unwrap_or(0.0)
}

fn requests(weir: &Weir, method: &str, outcome: &str) -> f64 {
    let labels = [("caller", "door"), ("method", method), ("outcome", outcome)];
    weir.series("weir_requests_total", &labels).unwrap_or(0.0)
}

#[test]
fn refused_lines_have_their_reason_and_their_command() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = start(&memcached, "", "value_max = \"1KiB\"");
    let mut wire = Wire::unix(&weir.path("door.sock"));
    assert!(wire.ask("shutdown").starts_with("ERROR"));
    assert!(wire.ask("lru_crawler disable").starts_with("CLIENT_ERROR"));
    assert!(wire.ask("no_such_command").starts_with("ERROR"));
    assert!(wire.ask(&format!("get {}", "k".repeat(251))).starts_with("CLIENT_ERROR"));
    assert!(wire.ask(&format!("touch k {} 0", " ".repeat(3_000))).contains("line"));
    wire.send(format!("set k 0 0 2000\r\n{}\r\n", "v".repeat(2_000)));
    assert!(wire.line().contains("too large"));
    assert_eq!(wire.ask("mn"), "MN");
    wait_for("the last one is counted", SOON, || (requests(&weir, "mn", "ok") >= 1.0).then_some(()));
    for (reason, count) in [("command_policy", 2.0), ("line_too_long", 1.0), ("value_too_large", 1.0)] {
        assert_eq!(rejected(&weir, reason), count, "{reason}");
    }
    for (method, outcome, count) in [
        ("shutdown", "refused", 1.0),
        ("unknown", "invalid", 2.0),
        ("get", "invalid", 1.0),
        ("touch", "invalid", 1.0),
        ("set", "invalid", 1.0),
        ("mn", "invalid", 0.0),
        ("mn", "ok", 1.0),
    ] {
        assert_eq!(requests(&weir, method, outcome), count, "{method} {outcome}");
    }
}

#[test]
fn who_waits_for_a_silent_server_is_shown_by_operations_and_counted_when_turned_down() {
    let Some(memcached) = Memcached::start() else { return };
    let weir = start(
        &memcached,
        "operations_in_flight = 4\nbulk_keys_in_flight = 4\nchunk_keys = 4\nbatch_keys = 4\nqueue_timeout = \"3s\"\n\
         request_timeout = \"30s\"\nstall_timeout = \"40s\"",
        "",
    );
    let mut warm = Wire::unix(&weir.path("door.sock"));
    // until its replies are known to be small, a caller is given less
    (0..60).for_each(|_| assert_eq!(warm.ask("get k"), "END"));
    memcached.freeze(true);
    let (mut first, mut second) = (Wire::unix(&weir.path("door.sock")), Wire::unix(&weir.path("door.sock")));
    first.send("get a b c d\r\n");
    let in_flight = || weir.series("weir_backend_inflight_operations", &[]).filter(|n| *n >= 4.0);
    wait_for("the server is full", SOON, in_flight);
    second.send(format!("get{}\r\n", (0..500).map(|key| format!(" k{key}")).collect::<String>()));
    let depth = || weir.series("weir_queue_depth", &[]).filter(|depth| *depth > 0.0);
    assert_eq!(wait_for("somebody waits", SOON, depth), 500.0);
    let pools = weir.control("/pools");
    assert!(pools.to_string().contains("\"queue\":500"), "{pools}");
    let callers = weir.control("/callers");
    assert!(callers.to_string().contains("\"operations_queued\":500"), "{callers}");
    assert!(second.line().contains("waited too long in the queue"));
    memcached.freeze(false);
    assert_eq!(first.line(), "END");
    assert_eq!(
        wait_for("counted", SOON, || Some(rejected(&weir, "queue_timeout")).filter(|n| *n > 0.0)),
        1.0
    );
    wait_for("nobody waits", SOON, || weir.series("weir_queue_depth", &[]).filter(|depth| *depth == 0.0));
}

#[test]
fn a_reader_that_stops_is_buffer_bound() {
    let Some(memcached) = Memcached::start() else { return };
    memcached.wire().set("large", &vec![b'v'; 500_000]);
    let weir = start(&memcached, "", "slow_reader_timeout = \"500ms\"");
    let mut deaf = Wire::unix(&weir.path("door.sock"));
    deaf.send("get large\r\n".repeat(20));
    let count = || Some(rejected(&weir, "buffer_bound")).filter(|count| *count > 0.0);
    assert!(wait_for("the slow reader is counted", SOON, count) >= 1.0);
    let closed = weir.series("weir_client_closes_total", &[("how", "slow_reader")]);
    assert_eq!(closed, Some(1.0));
}
