//! Reload and shutdown while clients are at work.

use crate::client::{Client, Got};
use crate::memcached::Memcached;
use crate::support::{alone, eventually, shared};
use crate::values::{set_command, value_of};
use crate::weir::{Route, Setup, Weir};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn reloads(weir: &Weir) -> f64 {
    weir.metric("weir_config_last_reload_successful", &[])
}

fn hash(weir: &Weir) -> String {
    let page = weir.page();
    page.lines().find(|line| line.starts_with("weir_config_info")).expect("a configuration").to_owned()
}

#[test]
fn a_bad_file_is_refused_whole_and_the_old_one_stays() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "reload", &[]) else { return };
    let weir = Route::to(memcached.place()).start();
    let mut client = weir.client();
    let keys: Vec<String> = (0..50).map(|number| format!("k{number}")).collect();
    for key in &keys {
        client.set(key, &value_of(key, 20));
    }
    let multiget = format!("get {}\r\n", keys.join(" "));
    let (old, good) = (hash(&weir), weir.config.clone());
    let limit = "[undeclared]\noperations_per_request = 10\nmode = \"refuse\"\n";
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A connection that lives through all of it.
        let mut steady = weir.client();
        let end = &over;
        let steady = scope.spawn(move || {
            let mut served = 0;
            while !end.load(Ordering::Acquire) {
                assert_eq!(steady.get("k1"), Got::Value(value_of("k1", 20)), "over every reload");
                served += 1;
            }
            served
        });
        let bad = [
            ("a syntax error", format!("{good}{limit}[listener")),
            ("an unknown key", format!("{good}{limit}operations_per_minute = 5\n")),
            ("a value out of range", format!("{good}{limit}pace_max_wait = \"2h\"\n")),
            ("what needs a restart", format!("{good}{limit}").replace("workers = 1", "workers = 2")),
            ("a listener less", format!("{limit}{}", good.split("[listener").next().unwrap_or_default())),
            ("an empty file", String::new()),
        ];
        for (number, (name, text)) in bad.iter().enumerate() {
            // First something good, so that a refusal can be seen.
            std::fs::write(&weir.file, &good).expect("written");
            weir.reload();
            eventually(Duration::from_secs(5), "the good file is taken", || reloads(&weir) == 1.0);
            std::fs::write(&weir.file, text).expect("written");
            weir.reload();
            eventually(Duration::from_secs(5), name, || reloads(&weir) == 0.0);
            assert_eq!(hash(&weir), old, "{name}");
            client.send(&multiget);
            let many = client.try_many().expect("an answer");
            assert_eq!(
                (many.error, many.values.len()),
                (None, 50),
                "{name}: not half of it holds ({number})"
            );
        }
        std::fs::write(&weir.file, &good).expect("written");
        weir.reload();
        eventually(Duration::from_secs(5), "the good file is taken", || reloads(&weir) == 1.0);
        std::fs::remove_file(&weir.file).expect("it is there");
        weir.reload();
        eventually(Duration::from_secs(5), "a missing file", || reloads(&weir) == 0.0);
        assert_eq!(hash(&weir), old, "a missing file");
        // And a good change holds, on connections that are open.
        std::fs::write(&weir.file, format!("{good}{limit}")).expect("written");
        weir.reload();
        eventually(Duration::from_secs(5), "the change is taken", || reloads(&weir) == 1.0);
        assert_ne!(hash(&weir), old);
        client.send(&multiget);
        let refused = client.line();
        assert!(refused.starts_with("SERVER_ERROR ") && refused.contains("10"), "{refused:?}");
        over.store(true, Ordering::Release);
        let served = steady.join().expect("never let down");
        println!("{served} gets over 15 reloads on one connection");
        assert!(served >= 15, "a get or more over every reload");
    });
    assert_eq!(weir.opens(), 1, "no reload cost a connection");
}

/// What callers saw over a shutdown.
#[derive(Default)]
struct Seen {
    whole: AtomicU64,
    /// The connection was closed between two calls: the call was not begun.
    closed_between: AtomicU64,
}

/// Asks until weir closes the connection. An answer that began must end.
fn ask_until_closed(mut client: Client, caller: usize, seen: &Seen) {
    for round in 0.. {
        let key = format!("k{}", (caller * 7 + round) % 100);
        let before = client.received();
        let outcome = match round % 4 {
            0 => client.try_set(&key, &value_of(&key, 100)).map(|line| {
                assert_eq!(line, "STORED", "a write while weir drains");
            }),
            _ => client.try_get(&key).map(|got| {
                assert_eq!(got, Got::Value(value_of(&key, 100)), "a read while weir drains");
            }),
        };
        match outcome {
            Ok(()) => seen.whole.fetch_add(1, Ordering::Relaxed),
            Err(error) => {
                let closed = matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                );
                assert!(closed, "{error}");
                assert!(before == client.received(), "an answer was cut off: {:?}", client.held());
                seen.closed_between.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
    }
}

#[test]
fn sigterm_lets_everything_under_way_end_and_exits_0() {
    let _alone = alone();
    let Some(memcached) = Memcached::start(false, "drain", &[]) else { return };
    for (tcp, workers) in [(true, 1), (false, 1), (true, 2)] {
        let route = Route::to(memcached.place());
        let routes = vec![if tcp { route.over_tcp() } else { route }];
        let mut weir = Setup { routes, workers: Some(workers), ..Setup::default() }.start();
        let mut filler = weir.client();
        let keys: Vec<String> = (0..20_000).map(|number| format!("k{number}")).collect();
        for part in keys.chunks(500) {
            filler
                .send(part.iter().flat_map(|key| set_command(key, &value_of(key, 100))).collect::<Vec<u8>>());
            part.iter().for_each(|_| assert_eq!(filler.line(), "STORED"));
        }
        let mut idle = weir.client();
        assert_eq!(idle.ask("mn"), "MN");
        let line = format!("get {}\r\n", keys.join(" "));
        let (seen, place) = (Seen::default(), weir.place(0).clone());
        let took = std::thread::scope(|scope| {
            for caller in 0..6 {
                let (client, seen) = (weir.client(), &seen);
                scope.spawn(move || ask_until_closed(client, caller, seen));
            }
            // Four large answers under way, of which nobody reads a byte before the signal; and one long pipeline.
            let mut large: Vec<Client> = (0..4).map(|_| weir.client()).collect();
            large.iter_mut().for_each(|client| client.send(&line));
            let mut pipeline = weir.client();
            pipeline.send((0..3_000).map(|number| format!("get k{number}\r\n")).collect::<String>());
            // Who is not accepted yet at the signal finds the door closed; then the requests are read in a moment.
            eventually(Duration::from_secs(5), "everybody is in", || {
                weir.metric("weir_client_connections", &[]) == 13.0
            });
            std::thread::sleep(Duration::from_millis(300));
            weir.terminate();
            let start = Instant::now();
            // No new clients, soon.
            eventually(Duration::from_secs(2), "the door is closed", || {
                Client::try_connect(&place).map_or(true, |mut client| {
                    client.try_send("mn\r\n").is_err() || client.try_line().is_err()
                })
            });
            // Slowly, so that the shutdown has to wait for it.
            std::thread::sleep(Duration::from_secs(1));
            for client in &mut large {
                let many = client.try_many().expect("the whole answer");
                assert_eq!((many.error, many.values.len()), (None, 20_000));
                assert!(many.values.iter().all(|(key, value)| *value == value_of(key, 100)));
                assert_eq!(client.rest(), b"", "and then the end");
            }
            for number in 0..3_000 {
                let key = format!("k{number}");
                let got = pipeline.try_got(&key).expect("every answer that was asked for");
                assert_eq!(got, Got::Value(value_of(&key, 100)));
            }
            assert_eq!(pipeline.rest(), b"");
            assert_eq!(idle.rest(), b"", "who is idle is let go");
            start.elapsed()
        });
        let status = weir.wait_for_exit(Duration::from_secs(5));
        assert!(status.success(), "{status:?}");
        let [whole, between] = [&seen.whole, &seen.closed_between].map(|count| count.load(Ordering::Relaxed));
        println!(
            "tcp {tcp}: {whole} calls, 0 cut off, {between} connections closed between calls, drained in {took:?}"
        );
        assert!(whole > 500 && between == 6, "{whole} calls, {between} closed");
    }
}

/// Waits until weir holds replies that a client does not read.
fn until_owed(weir: &Weir) {
    eventually(Duration::from_secs(5), "a client is owed something", || {
        weir.metric("weir_client_reply_bytes", &[]) > 0.0
    });
}

#[test]
fn a_second_sigterm_ends_it_at_once() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "second SIGTERM", &["-I", "2m"]) else { return };
    let mut weir = Route::to(memcached.place()).over_tcp().start();
    let mut client = weir.client();
    client.set("large", &value_of("large", 1_000_000));
    // A client that is owed much and does not read would hold the shutdown up for drain_timeout, 30 s.
    client.send("get large\r\n".repeat(50));
    until_owed(&weir);
    weir.terminate();
    std::thread::sleep(Duration::from_millis(600));
    assert!(weir.is_alive(), "it waits for the one who is owed something");
    weir.terminate();
    let start = Instant::now();
    let status = weir.wait_for_exit(Duration::from_secs(3));
    println!("ended {:?} after the second signal: {status:?}", start.elapsed());
    assert!(!status.success(), "whoever was cut off is not drained: {status:?}");
}

#[test]
fn drain_timeout_bounds_the_shutdown() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "drain_timeout", &["-I", "2m"]) else { return };
    let setup = Setup {
        routes: vec![Route::to(memcached.place()).over_tcp()],
        top: "drain_timeout = \"1s\"".to_owned(),
        ..Setup::default()
    };
    let mut weir = setup.start();
    let mut client = weir.client();
    client.set("large", &value_of("large", 1_000_000));
    client.send("get large\r\n".repeat(50));
    until_owed(&weir);
    weir.terminate();
    let start = Instant::now();
    // The default would be 30 s.
    let status = weir.wait_for_exit(Duration::from_secs(10));
    let took = start.elapsed();
    assert!(status.success(), "{status:?}");
    assert!(took > Duration::from_millis(900), "{took:?}");
}

#[test]
fn a_write_under_way_at_sigterm_is_carried_out_and_answered() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "writes at SIGTERM", &[]) else { return };
    let mut weir = Route::to(memcached.place()).start();
    let mut client = weir.client();
    assert_eq!(client.ask("mn"), "MN");
    memcached.stop();
    // noreply too: nobody waits for it, and it must not be lost.
    client.send("set quiet 0 0 4 noreply\r\nkept\r\nset loud 0 0 4\r\nkept\r\n");
    eventually(Duration::from_secs(5), "both are under way", || {
        weir.metric("weir_backend_inflight_operations", &[]) == 2.0
    });
    weir.terminate();
    std::thread::sleep(Duration::from_millis(600));
    assert!(weir.is_alive(), "it waits for the answers");
    memcached.go_on();
    assert_eq!(client.line(), "STORED");
    assert!(weir.wait_for_exit(Duration::from_secs(5)).success());
    let mut direct = memcached.client();
    for key in ["quiet", "loud"] {
        direct.send(format!("get {key}\r\n"));
        assert!(direct.line().starts_with(&format!("VALUE {key} 0 4")));
        assert_eq!(direct.bytes(6).expect("the value"), b"kept\r\n");
        assert_eq!(direct.line(), "END");
    }
}
