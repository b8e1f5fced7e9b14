//! Requests that are large, come in odd pieces, or are none at all.

use crate::client::{Client, Got, Stream};
use crate::support::{Memcached, Route, Weir, alone, shared};
use crate::values::{set_command, value_of};
use std::io::Write as _;
use std::time::{Duration, Instant};

fn store(client: &mut Client, keys: &[String], length: usize) {
    for part in keys.chunks(200) {
        client
            .send(part.iter().flat_map(|key| set_command(key, &value_of(key, length))).collect::<Vec<u8>>());
        for key in part {
            assert_eq!(client.line(), "STORED", "{key}");
        }
    }
}

/// Reads a multiget's answer: every key in order, with its value.
fn all_in_order(client: &mut Client, keys: &[String], length: usize) {
    let many = client.try_many().expect("an answer");
    assert_eq!(many.error, None);
    assert_eq!(many.values.len(), keys.len());
    for ((held, value), key) in many.values.iter().zip(keys) {
        assert!(
            held == key && *value == value_of(key, length),
            "{key}: got {held} with {} bytes",
            value.len()
        );
    }
}

#[test]
fn two_megabytes_of_keys_sent_before_the_first_read_do_not_deadlock() {
    let _alone = alone();
    let Some(memcached) = Memcached::start(false, "2 MB of keys", &[]) else { return };
    // Keys of the longest size, 8,400 of them; and 20,000 of ordinary ones.
    let long: Vec<String> = (0..8_400).map(|number| format!("{number:06}{}", "k".repeat(244))).collect();
    let many: Vec<String> = (0..20_000).map(|number| format!("post:{number}")).collect();
    for tcp in [true, false] {
        let route = Route::to(memcached.place());
        let weir = if tcp { route.over_tcp() } else { route }.start();
        for (keys, length) in [(&long, 300), (&many, 100)] {
            store(&mut weir.client(), keys, length);
            let line = format!("get {}\r\n", keys.join(" "));
            let mut client = weir.client();
            let start = Instant::now();
            // Blocks until all of it was taken; whoever waits for the answer to be read before it reads on hangs here.
            client.send(&line);
            let sent = start.elapsed();
            all_in_order(&mut client, keys, length);
            println!(
                "tcp {tcp}: {} bytes of keys sent in {sent:?}, answered in {:?}",
                line.len(),
                start.elapsed()
            );
            // In step.
            assert_eq!(client.get(&keys[5]), Got::Value(value_of(&keys[5], length)));
        }
    }
}

#[test]
fn a_multiget_and_the_next_ones_are_written_before_anything_is_read() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "several multigets", &[]) else { return };
    let weir = Route::to(memcached.place()).start();
    let keys: Vec<String> = (0..5_000).map(|number| format!("post:{number}")).collect();
    store(&mut weir.client(), &keys, 200);
    // With misses in between, in an order of their own, and twice.
    let mut asked: Vec<String> = keys.iter().rev().cloned().collect();
    asked.extend(keys.iter().take(100).cloned());
    let mut with_misses = asked.clone();
    for at in (0..with_misses.len()).rev().step_by(7) {
        with_misses.insert(at, format!("absent:{at}"));
    }
    let line = format!("get {}\r\n", with_misses.join(" "));
    let mut client = weir.client();
    client.send(line.repeat(5));
    for _ in 0..5 {
        all_in_order(&mut client, &asked, 200);
    }
    assert!(client.is_quiet(Duration::from_millis(20)));
}

#[test]
fn ten_thousand_pipelined_gets_are_written_before_anything_is_read() {
    let _alone = alone();
    let Some(memcached) = Memcached::start(false, "10,000 pipelined gets", &[]) else { return };
    let weir = Route::to(memcached.place()).start();
    let keys: Vec<String> = (0..500).map(|number| format!("k{number}")).collect();
    for length in [100, 4_000] {
        store(&mut weir.client(), &keys, length);
        let mut client = weir.client();
        let idle = weir.resident();
        let gets: String = (0..10_000).map(|number| format!("get {}\r\n", keys[number * 7 % 500])).collect();
        client.send(gets);
        std::thread::sleep(Duration::from_millis(500));
        let held = weir.resident().saturating_sub(idle);
        for number in 0..10_000 {
            let key = &keys[number * 7 % 500];
            let got = client.try_got(key).expect("an answer");
            assert!(got == Got::Value(value_of(key, length)), "{key}");
        }
        println!("10,000 gets of {length} bytes unread: {} KiB more resident", held >> 10);
        // 40 MB of answers are owed with the larger values; `reply_buffer` is 256 KiB.
        assert!(held < 8 << 20, "{} KiB held for one client that does not read", held >> 10);
        assert!(client.is_quiet(Duration::from_millis(20)));
    }
}

#[test]
fn one_byte_at_a_time_is_understood() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "one byte at a time", &[]) else { return };
    let weir = Route::to(memcached.place()).over_tcp().start();
    let mut client = weir.client();
    let value = b"a value\r\nwith lines\r\nEND\r\n";
    let mut request = set_command("k", value);
    request.extend_from_slice(b"get k\r\nget absent\r\nnonsense\r\ngets k absent k\r\nmg k v k\r\nmn\r\n");
    for byte in request {
        client.send([byte]);
        std::thread::sleep(Duration::from_micros(200));
    }
    assert_eq!(client.line(), "STORED");
    assert_eq!(client.try_got("k").expect("an answer"), Got::Value(value.to_vec()));
    assert_eq!(client.try_got("absent").expect("an answer"), Got::Miss);
    assert_eq!(client.line(), "ERROR");
    for _ in 0..2 {
        assert!(client.line().starts_with("VALUE k "), "gets");
        assert!(client.bytes(value.len() + 2).expect("the value").starts_with(value));
    }
    assert_eq!(client.line(), "END");
    assert_eq!(client.line(), format!("VA {} kk", value.len()));
    client.bytes(value.len() + 2).expect("the value");
    assert_eq!(client.line(), "MN");
}

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
            assert!(slowest < Duration::from_secs(2), "beside {name} a get took {slowest:?}");
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
    assert!(now < idle + (40 << 20), "{} KiB before, {} KiB with a deaf flooder", idle >> 10, now >> 10);
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
