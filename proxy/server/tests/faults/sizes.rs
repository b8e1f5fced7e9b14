//! Values whose sizes lie around the borders inside weir: 16 KiB (buffers kept or given back, the unit of work), 64 KiB
//! (one read), 256 KiB (`reply_buffer`) and 1 MiB (the largest).

use crate::client::{Client, Got};
use crate::memcached::Memcached;
use crate::support::shared;
use crate::values::{set_command, value_of};
use crate::weir::Route;

/// Sizes at and around every multiple of 16 KiB up to 256 KiB, and where head and value together fill one read.
fn sizes() -> Vec<usize> {
    let mut sizes = vec![0, 1, 2, 11, 13, 1_400, 4_096];
    for multiple in 1..=16 {
        let border = multiple * (16 << 10);
        sizes.extend([border - 2, border - 1, border, border + 1, border + 2]);
    }
    for read in [16 << 10, 64 << 10, 128 << 10] {
        // `VALUE s65504 4294967295 65504\r\n` and the line end behind the value are 30 to 40 bytes
        sizes.extend((30..48).map(|head| read - head));
    }
    sizes.extend([(1 << 20) - 1_000, 1_000_000, (1 << 20) - 1, 1 << 20]);
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[test]
fn values_of_every_awkward_size_arrive_as_they_were_sent() {
    let _shared = shared();
    // memcached's own limit counts its head too; with 2 MiB weir's is the one that is met.
    let Some(memcached) = Memcached::start(false, "awkward sizes", &["-I", "2m", "-m", "512"]) else {
        return;
    };
    let weir = Route::to(memcached.place()).start();
    let (mut writer, mut reader) = (weir.client(), weir.client());
    let sizes = sizes();
    for &size in &sizes {
        let key = format!("s{size}");
        let value = value_of(&key, size);
        writer.set(&key, &value);
        let got = reader.get(&key);
        assert!(got == Got::Value(value), "size {size}: {}", describe(&got));
    }
    // Many at once, in one multiget and pipelined: borders fall anywhere in a read.
    for part in sizes.chunks(8) {
        let keys: Vec<String> = part.iter().map(|size| format!("s{size}")).collect();
        reader.send(format!("get {}\r\n", keys.join(" ")));
        let many = reader.try_many().expect("an answer");
        assert_eq!(many.error, None);
        assert_eq!(many.values.len(), keys.len());
        for ((key, value), &size) in many.values.iter().zip(part) {
            assert!(*key == format!("s{size}") && *value == value_of(key, size), "size {size} in a multiget");
        }
        reader.send(keys.iter().map(|key| format!("get {key}\r\n")).collect::<String>());
        for (key, &size) in keys.iter().zip(part) {
            let got = reader.try_got(key).expect("an answer");
            assert!(got == Got::Value(value_of(key, size)), "size {size} pipelined: {}", describe(&got));
        }
    }
    println!("{} sizes up to 1 MiB", sizes.len());
}

#[test]
fn requests_cut_around_the_read_size_are_put_together() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "requests around the read size", &[]) else { return };
    let weir = Route::to(memcached.place()).start();
    let mut client = weir.client();
    // A small get behind a set that ends at or near a multiple of the read size, in one write.
    for border in [16 << 10, 64 << 10, 128 << 10] {
        for off in 0..24 {
            let key = format!("b{border}-{off}");
            let head = set_command(&key, b"").len() + 4;
            let value = value_of(&key, border + 8 - off - head);
            let request = [set_command(&key, &value), format!("get {key}\r\n").into_bytes()].concat();
            client.send(request);
            assert_eq!(client.line(), "STORED", "{key}");
            let got = client.try_got(&key).expect("an answer");
            assert!(got == Got::Value(value), "{key}: {}", describe(&got));
        }
    }
}

#[test]
fn one_byte_above_the_largest_value_is_refused_in_memcacheds_words_and_swallowed() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "values too large", &["-I", "2m"]) else { return };
    let weir = Route::to(memcached.place()).start();
    let mut client = weir.client();
    for (size, larger) in [(1 << 20, false), ((1 << 20) + 1, true), (5 << 20, true), (64 << 20, true)] {
        let key = format!("s{size}");
        client.set(&key, b"an old value");
        let value = value_of(&key, size);
        let answer = client.try_set(&key, &value).expect("an answer");
        let wanted = if larger { "SERVER_ERROR object too large for cache" } else { "STORED" };
        assert_eq!(answer, wanted, "size {size}");
        // In step: what follows the refused data is understood. memcached forgets the old value.
        let wanted = if larger { Got::Miss } else { Got::Value(value) };
        let got = client.get(&key);
        assert!(got == wanted, "size {size}: {}", describe(&got));
    }
    let cap = memcached.client();
    same_words(cap, weir.client());
}

/// A value above the backend's limit but not weir's: the backend's own words pass.
fn same_words(mut direct: Client, mut through: Client) {
    let value = value_of("huge", 3 << 20);
    let said = direct.try_set("huge", &value).expect("an answer");
    assert_eq!(through.try_set("huge", &value).expect("an answer"), said);
}

fn describe(got: &Got) -> String {
    match got {
        Got::Value(value) => format!("a value of {} bytes", value.len()),
        other => format!("{other:?}"),
    }
}
