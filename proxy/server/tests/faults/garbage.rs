//! What is no request: lines over the cap, the binary protocol, noise.

use crate::client::{Client, Got, Stream};
use crate::memcached::Memcached;
use crate::support::{alone, shared};
use crate::values::value_of;
use crate::weir::{Route, Weir};
use std::io::Write as _;
use std::time::{Duration, Instant};

/// What memcached itself says, so that weir can be held to it.
fn both(memcached: &Memcached, weir: &Weir) -> [Client; 2] {
    [memcached.client(), weir.client()]
}

#[test]
fn a_line_over_the_cap_is_refused_swallowed_and_forgotten() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "lines over the cap", &[]) else { return };
    let weir = Route::to(memcached.place()).listener("line_max = \"64KiB\"").start();
    let mut neighbour = weir.client();
    neighbour.set("k", b"v");
    let idle = weir.resident();
    for length in [(64 << 10) + 1, 1 << 20, 20 << 20] {
        for start in ["get ", "set k 0 0 ", "nonsense", "mg k "] {
            let mut client = weir.client();
            let sent = client
                .try_send(format!("{start}{}", "x ".repeat(length / 2)))
                .and_then(|()| client.try_send("\r\n"));
            if start.starts_with("set") {
                // How much data would follow is not known, so nothing can follow: it is answered and closed.
                let answer = String::from_utf8_lossy(&client.rest()).into_owned();
                let told = answer == "CLIENT_ERROR line too long\r\n";
                assert!(told || (sent.is_err() && answer.is_empty()), "{start:?} of {length}: {answer:?}");
                continue;
            }
            sent.expect("sent");
            assert_eq!(client.line(), "CLIENT_ERROR line too long", "{start:?} of {length}");
            // In step behind it.
            let got =
                client.try_get("k").unwrap_or_else(|error| panic!("behind {start:?} of {length}: {error}"));
            assert_eq!(got, Got::Value(b"v".to_vec()), "{start:?} of {length}");
        }
        assert_eq!(neighbour.get("k"), Got::Value(b"v".to_vec()));
    }
    // Nothing of 20 MiB is kept.
    let now = weir.resident();
    assert!(now < idle + (8 << 20), "{} KiB before, {} KiB after", idle >> 10, now >> 10);
    assert!(weir.count("weir_invalid_requests_total", &[]) >= 12);
    // A line that never ends holds no more than the cap either.
    let mut endless = weir.client();
    for _ in 0..200 {
        endless.send(vec![b'x'; 128 << 10]);
    }
    let now = weir.resident();
    assert!(now < idle + (8 << 20), "{} KiB before, {} KiB with an endless line", idle >> 10, now >> 10);
}

#[test]
fn the_binary_protocol_is_refused_in_its_own_form() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "binary protocol", &[]) else { return };
    let weir = Route::to(memcached.place()).over_tcp().start();
    // A get of `Hello`, as the protocol's document has it; then a no-op, byte by byte.
    let mut get = vec![0x80, 0x00, 0, 5, 0, 0, 0, 0, 0, 0, 0, 5];
    get.extend_from_slice(b"\xde\xad\xbe\xef\0\0\0\0\0\0\0\0Hello");
    let mut noop = vec![0x80, 0x0a];
    noop.extend_from_slice(&[0; 22]);
    for (request, slowly) in [(get, false), (noop, true)] {
        let mut client = weir.client();
        match slowly {
            false => client.send(&request),
            true => request.iter().for_each(|byte| {
                client.send([*byte]);
                std::thread::sleep(Duration::from_millis(1));
            }),
        }
        let answer = client.rest();
        assert!(answer.len() >= 24, "{answer:?}");
        assert_eq!(answer[..2], [0x81, request[1]], "a binary answer to the command");
        assert_eq!(answer[6..8], [0x00, 0x83], "not supported");
        assert_eq!(answer[12..16], request[12..16], "with the opaque value");
        let body = u32::from_be_bytes(answer[8..12].try_into().expect("four bytes")) as usize;
        assert_eq!(answer.len(), 24 + body);
    }
    assert_eq!(weir.count("weir_invalid_requests_total", &["binary"]), 2);
    // The same byte in the middle of a text connection is only a bad command.
    let mut client = weir.client();
    client.set("k", b"v");
    assert_eq!(client.get("k"), Got::Value(b"v".to_vec()));
}

#[test]
fn floods_of_garbage_are_answered_or_closed_and_disturb_nobody() {
    let _alone = alone();
    let Some(memcached) = Memcached::start(false, "floods of garbage", &[]) else { return };
    let mut weir = Route::to(memcached.place()).over_tcp().start();
    let mut neighbour = weir.client();
    neighbour.set("k", b"v");
    let idle = weir.resident();
    let noise = value_of("noise", 4 << 20);
    let floods: [(&str, Vec<u8>); 6] = [
        ("noise", noise.clone()),
        ("lines of noise", noise.iter().map(|byte| if byte % 16 == 0 { b'\n' } else { *byte }).collect()),
        ("empty lines", b"\r\n".repeat(1 << 20)),
        ("zeros", vec![0; 4 << 20]),
        ("unknown commands", b"gibberish with words\r\n".repeat(100_000)),
        ("stores that are refused", b"set k 0 0 -1\r\nset k\r\nset k 0 0 5 6 7 8\r\n".repeat(50_000)),
    ];
    let start = Instant::now();
    for (name, flood) in floods {
        let mut reader = weir.client();
        let writer = match &reader.stream {
            Stream::Tcp(stream) => stream.try_clone().expect("a copy"),
            Stream::Unix(_) => unreachable!("over TCP"),
        };
        let answered = std::thread::scope(|scope| {
            scope.spawn(move || {
                // weir may close in the middle
                let _ = (&writer).write_all(&flood);
                let _ = writer.shutdown(std::net::Shutdown::Write);
            });
            let mut slowest = Duration::ZERO;
            for _ in 0..20 {
                let asking = Instant::now();
                assert_eq!(neighbour.get("k"), Got::Value(b"v".to_vec()), "beside {name}");
                slowest = slowest.max(asking.elapsed());
            }
            assert!(slowest < Duration::from_secs(5), "beside {name} a get took {slowest:?}");
            reader.rest()
        });
        let text = String::from_utf8_lossy(&answered[..answered.len().min(1 << 20)]).into_owned();
        let whole = text.rfind("\r\n").map_or("", |end| &text[..end]);
        for line in whole.split("\r\n") {
            let fine = ["ERROR", "CLIENT_ERROR", "SERVER_ERROR"].iter().any(|word| line.starts_with(word));
            assert!(fine || answered[0] == 0x81, "{name}: {line:?} is no answer to garbage");
        }
        assert!(weir.is_alive());
    }
    println!("six floods in {:?}", start.elapsed());
    weir.wait_until_at_rest(Duration::from_secs(5));
    assert_eq!(weir.count("weir_panics_total", &[]), 0);
    let now = weir.resident();
    assert!(now < idle + (16 << 20), "{} KiB before, {} KiB after", idle >> 10, now >> 10);
    // Somebody who floods and never reads is held back, not held in memory.
    let mut deaf = weir.client();
    deaf.stream.patience(Duration::from_secs(1)).expect("an option");
    let line = b"gibberish\r\n".repeat(10_000);
    let sent = (0..2_000).take_while(|_| deaf.try_send(&line).is_ok()).count();
    let now = weir.resident();
    println!(
        "a deaf flooder could send {} KiB; {} KiB more resident",
        (sent * line.len()) >> 10,
        (now - idle.min(now)) >> 10
    );
    // a quarter more than `line_max`, its replies, and what the allocator keeps
    assert!(now < idle + (16 << 20), "{} KiB before, {} KiB with a deaf flooder", idle >> 10, now >> 10);
    assert_eq!(neighbour.get("k"), Got::Value(b"v".to_vec()));
}

#[test]
fn what_memcached_refuses_weir_refuses_in_the_same_words() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "refusals", &[]) else { return };
    let weir = Route::to(memcached.place()).start();
    let [mut direct, mut through] = both(&memcached, &weir);
    let long = "k".repeat(251);
    let cases = [
        "get".to_owned(),
        format!("get {long}"),
        "set k 0 0 x".to_owned(),
        "set k 0 0 1\r\nxy".to_owned(),
        "incr k x".to_owned(),
        "incr".to_owned(),
        "touch k".to_owned(),
        "unknown".to_owned(),
        " ".to_owned(),
    ];
    for case in cases {
        let answers = [&mut direct, &mut through].map(|client| {
            client.send(format!("{case}\r\nmn\r\n"));
            let mut lines = Vec::new();
            loop {
                let line = client.line();
                if line == "MN" {
                    return lines;
                }
                lines.push(line);
            }
        });
        assert_eq!(answers[0], answers[1], "{case:?}: memcached, then weir");
    }
}
