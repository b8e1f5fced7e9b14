//! The backend is killed, restarted, or closes connections: what clients may see meanwhile, and how it ends.

use crate::client::{Client, Got};
use crate::memcached::Memcached;
use crate::scripted::{HONEST_LENGTH, Scripted};
use crate::support::{alone, eventually, shared};
use crate::values::{set_command, value_of};
use crate::weir::{Route, Setup, Weir};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CALLERS: usize = 8;
const KEYS: usize = 20;
const RECONNECT_MAX: Duration = Duration::from_millis(500);
const GAP: Duration = Duration::from_secs(1);

/// What the callers of the load saw.
#[derive(Default)]
struct Seen {
    stored: AtomicU64,
    values: AtomicU64,
    misses: AtomicU64,
    unknown: AtomicU64,
    errors: AtomicU64,
    /// When the last error line came.
    last_error: Mutex<Option<Instant>>,
}

impl Seen {
    fn error(&self, line: &str) {
        assert!(line.starts_with("SERVER_ERROR weir: "), "an error of weir's, in its words: {line:?}");
        self.errors.fetch_add(1, Ordering::Relaxed);
        if line.contains("outcome unknown") {
            self.unknown.fetch_add(1, Ordering::Relaxed);
        }
        *self.last_error.lock().expect("not poisoned") = Some(Instant::now());
        // A client that asks again at once only takes the processor from those who work.
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Writes numbered values under keys of its own and reads them back, over one connection that must stay.
fn work(mut client: Client, caller: usize, over: &AtomicBool, seen: &Seen) {
    // What each key may hold: a value that was stored, and those whose outcome is unknown since.
    let mut possible: Vec<Vec<Vec<u8>>> = vec![Vec::new(); KEYS];
    for round in 0.. {
        if over.load(Ordering::Acquire) {
            return;
        }
        let slot = round % KEYS;
        let key = format!("caller{caller}-{slot}");
        let value = value_of(&format!("{key}#{round}"), 50 + round % 200);
        match client.try_set(&key, &value).expect("the connection stays open").as_str() {
            "STORED" => {
                seen.stored.fetch_add(1, Ordering::Relaxed);
                possible[slot] = vec![value];
            }
            error => {
                seen.error(error);
                // it may have been carried out, or not
                possible[slot].push(value);
            }
        }
        match client.try_get(&key).expect("the connection stays open") {
            Got::Value(value) => {
                seen.values.fetch_add(1, Ordering::Relaxed);
                assert!(possible[slot].contains(&value), "{key}: a value that was never stored under it");
            }
            Got::Miss => {
                seen.misses.fetch_add(1, Ordering::Relaxed);
            }
            Got::Error(line) => seen.error(&line),
        }
    }
}

#[test]
fn a_backend_that_dies_and_returns_under_load_costs_errors_for_the_gap_only() {
    dies_and_returns(1);
}

#[test]
fn a_backend_that_dies_and_returns_under_load_of_two_workers_too() {
    dies_and_returns(2);
}

fn dies_and_returns(workers: u32) {
    let _alone = alone();
    let Some(mut memcached) = Memcached::start(true, "backend killed under load", &[]) else { return };
    let routes = vec![Route::to(memcached.place()).pool("reconnect_max = \"500ms\"")];
    let weir = Setup { routes, workers: Some(workers), ..Setup::default() }.start();
    let (over, seen) = (AtomicBool::new(false), Seen::default());
    let (mut back_after, mut gaps) = (Vec::new(), Duration::ZERO);
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (client, over, seen) = (weir.client(), &over, &seen);
            scope.spawn(move || work(client, caller, over, seen));
        }
        // Whatever fails here, the callers must end.
        let _end = End(&over);
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(700));
            let killed = Instant::now();
            memcached.kill();
            std::thread::sleep(GAP);
            memcached.restart();
            let (returned, stored) = (Instant::now(), seen.stored.load(Ordering::Relaxed));
            gaps += returned - killed;
            eventually(RECONNECT_MAX + Duration::from_secs(1), "weir is connected again", || {
                seen.stored.load(Ordering::Relaxed) > stored + CALLERS as u64
            });
            back_after.push(returned.elapsed());
            std::thread::sleep(Duration::from_millis(300));
            let last_error = seen.last_error.lock().expect("not poisoned").expect("the gap was noticed");
            assert!(
                last_error < returned + RECONNECT_MAX + Duration::from_secs(1),
                "errors go on although the backend is back"
            );
        }
    });
    let [stored, values, misses, unknown, errors] =
        [&seen.stored, &seen.values, &seen.misses, &seen.unknown, &seen.errors]
            .map(|n| n.load(Ordering::Relaxed));
    let failed = weir.count("weir_backend_connection_opens_total", &[]) - weir.opens();
    println!(
        "{stored} stored, {values} values, {misses} misses, {errors} errors of which {unknown} outcome unknown; back after \
         {back_after:?}; {} connections made, {failed} attempts failed",
        weir.opens()
    );
    assert!(stored > 1_000 && values > 1_000, "there was load: {stored} stored, {values} values");
    // A dying process may close its connection before its listener, and then the first attempt still comes through.
    let (opens, lanes) = (weir.opens(), u64::from(workers));
    assert!(
        (4 * lanes..=7 * lanes).contains(&opens),
        "one connection, and one or two after each death: {opens}"
    );
    // Waits of 50, 100, 200, 400 ms and then 500 ms, of which the second half is random.
    let most = lanes * (3 * 5 + gaps.as_millis() as u64 / 250);
    assert!(failed <= most, "{failed} attempts in three gaps of together {gaps:?}: it must back off");
    let at_backend = memcached.stat("total_connections");
    // One is weir's; the others are this test's own, to see whether it is up and to ask.
    assert!(at_backend <= 30, "{at_backend} connections to the backend");
    weir.wait_until_at_rest(Duration::from_secs(5));
}

/// Ends the load when it is dropped.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn weir_before(backend: &Scripted) -> Weir {
    Route::to(backend.address()).pool("reconnect_max = \"200ms\"").start()
}

#[test]
fn a_write_in_flight_is_answered_outcome_unknown_and_never_repeated() {
    let _shared = shared();
    let backend = Scripted::start(|number, talk| {
        if number == 0 {
            // takes the command and is gone
            assert!(talk.line()?.starts_with("set k "));
            return Ok(());
        }
        talk.be_honest()
    });
    let weir = weir_before(&backend);
    let mut client = weir.client();
    let answer = client.try_set("k", b"once").expect("an answer");
    assert!(answer.starts_with("SERVER_ERROR ") && answer.contains("outcome unknown"), "{answer:?}");
    eventually(Duration::from_secs(2), "connected again", || backend.connections() == 2);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(backend.heard("set"), 1, "sent once, not again");
    // In step, and served again.
    assert_eq!(client.get("k"), Got::Value(value_of("k", HONEST_LENGTH)));
    client.set("k", b"twice");
    assert_eq!(backend.heard("set"), 2);
}

#[test]
fn every_kind_of_write_in_flight_is_told_apart_from_reads() {
    let _shared = shared();
    // Swallows the first batch of commands whole, then closes.
    let backend = Scripted::start(|number, talk| {
        if number == 0 {
            while talk.line()? != "get last" {}
            return Ok(());
        }
        talk.be_honest()
    });
    let weir = weir_before(&backend);
    let mut client = weir.client();
    let writes = ["delete a", "incr a 1", "decr a 1", "touch a 9", "md a", "ma a"];
    for write in writes {
        client.send(format!("{write}\r\n"));
    }
    client.send(set_command("a", b"x"));
    client.send("get last\r\n");
    for write in writes.into_iter().chain(["set"]) {
        let answer = client.line();
        assert!(
            answer.starts_with("SERVER_ERROR ") && answer.contains("outcome unknown"),
            "{write}: {answer:?}"
        );
    }
    let read = client.try_got("last").expect("an answer");
    assert!(read == Got::Value(value_of("last", HONEST_LENGTH)) || read.is_server_error(), "{read:?}");
    eventually(Duration::from_secs(2), "connected again", || backend.connections() == 2);
    for write in writes {
        assert_eq!(backend.heard(write), 1, "{write} was sent once");
    }
}

#[test]
fn a_read_in_flight_is_asked_again_on_the_next_connection() {
    let _shared = shared();
    let backend = Scripted::start(|number, talk| {
        if number == 0 {
            talk.line()?;
            return Ok(());
        }
        talk.be_honest()
    });
    let weir = weir_before(&backend);
    assert_eq!(weir.client().get("k"), Got::Value(value_of("k", HONEST_LENGTH)));
    assert_eq!((backend.connections(), backend.heard("get")), (2, 2));
}

#[test]
fn a_read_is_repeated_once_and_within_a_budget() {
    let _shared = shared();
    // Every connection answers `get warm` and breaks at anything else.
    let backend = Scripted::start(|_, talk| {
        loop {
            let line = talk.line()?;
            if line != "get warm" {
                return Ok(());
            }
            talk.answer(&line)?;
        }
    });
    let weir = weir_before(&backend);
    let mut client = weir.client();
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        eventually(Duration::from_secs(3), "connected", || {
            client.get("warm") == Got::Value(value_of("warm", HONEST_LENGTH))
        });
        let start = Instant::now();
        let got = client.get(&format!("k{round}"));
        slowest = slowest.max(start.elapsed());
        assert!(got.is_server_error(), "{got:?}");
    }
    let cost = backend.heard("get k");
    println!("20 reads that break the connection cost {cost} commands, the slowest took {slowest:?}");
    assert!(cost > 20, "some were repeated");
    assert!(cost <= 40, "each at most twice: {cost}");
    assert!(slowest < Duration::from_millis(2_500), "answered soon: {slowest:?}");
}

#[test]
fn a_backend_that_is_not_there_is_said_so_at_once_and_found_when_it_comes() {
    let _shared = shared();
    let port = crate::support::free_port();
    let weir = Route::to(format!("127.0.0.1:{port}")).pool("reconnect_max = \"200ms\"").start();
    let mut client = weir.client();
    // The first may wait for the first attempt.
    client.get("k");
    let start = Instant::now();
    for command in ["get k", "delete k", "get a b c", "mg k v"].repeat(20) {
        let answer = client.ask(command);
        assert!(answer.starts_with("SERVER_ERROR "), "{command}: {answer:?}");
    }
    // Each of them would wait 100 ms and more for the next attempt.
    assert!(start.elapsed() < Duration::from_secs(2), "80 failed in {:?}", start.elapsed());
    let answer = client.try_set("k", b"v").expect("an answer");
    assert!(
        answer.starts_with("SERVER_ERROR ") && !answer.contains("unknown"),
        "nothing was sent: {answer:?}"
    );

    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("the port is still free");
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().expect("weir comes");
            let mut held = Vec::new();
            let mut piece = [0; 512];
            // answers every get with a miss until weir is gone
            while let Ok(n @ 1..) = stream.read(&mut piece) {
                held.extend_from_slice(&piece[..n]);
                let lines = held.iter().filter(|byte| **byte == b'\n').count();
                held.clear();
                let _ = stream.write_all(&b"END\r\n".repeat(lines));
            }
        });
        let took = eventually(Duration::from_millis(1_200), "served", || client.get("k") == Got::Miss);
        drop(weir);
        took
    });
    println!("served {took:?} after the backend came");
}
