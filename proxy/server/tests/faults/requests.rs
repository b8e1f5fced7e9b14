//! Requests that are large, that come in odd pieces, or many at once before anything is read.

use crate::client::{Client, Got};
use crate::memcached::Memcached;
use crate::support::{alone, shared};
use crate::values::{set_command, value_of};
use crate::weir::Route;
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
