//! A backend whose replies are wrong, cut short or not asked for. A client gets an error, never another key's value;
//! everybody else goes on.

use crate::client::{Client, Got, PATIENCE};
use crate::scripted::{HONEST_LENGTH, Scripted, Talk};
use crate::support::{eventually, shared};
use crate::values::{value_block, value_of};
use crate::weir::{Route, Setup, Weir};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a backend says to `get bad`, by the name of the case.
fn lies() -> Vec<(&'static str, Vec<u8>)> {
    let honest = value_block("bad", &value_of("bad", HONEST_LENGTH));
    let end = b"END\r\n".as_slice();
    let of = |key: &str| [&value_block(key, &value_of(key, HONEST_LENGTH)), end].concat();
    vec![
        ("another key", of("other")),
        ("a shorter key", of("ba")),
        ("a longer key", of("badd")),
        ("another case", of("BAD")),
        ("an empty key", b"VALUE  0 5\r\nhello\r\nEND\r\n".to_vec()),
        ("another key behind the right one", [&honest[..], &of("other")].concat()),
        ("the value twice", [&honest[..], &honest[..], end].concat()),
        ("a value longer than it says", b"VALUE bad 0 5\r\nhelloXX\r\nEND\r\n".to_vec()),
        ("a value shorter than it says", b"VALUE bad 0 9\r\nhello\r\nEND\r\n\r\n\r\n".to_vec()),
        ("a length that is no number", b"VALUE bad 0 five\r\nhello\r\nEND\r\n".to_vec()),
        ("a negative length", b"VALUE bad 0 -5\r\nhello\r\nEND\r\n".to_vec()),
        ("a length of 4 GiB", b"VALUE bad 0 4294967295\r\nhello\r\nEND\r\n".to_vec()),
        ("a length beyond 64 bits", b"VALUE bad 0 18446744073709551621\r\nhello\r\nEND\r\n".to_vec()),
        ("no length", b"VALUE bad 0\r\nhello\r\nEND\r\n".to_vec()),
        ("no flags", b"VALUE bad\r\nEND\r\n".to_vec()),
        ("the answer to a set", b"STORED\r\n".to_vec()),
        ("the answer to an incr", b"42\r\n".to_vec()),
        ("a meta answer", b"VA 5\r\nhello\r\n".to_vec()),
        ("a meta miss", b"EN\r\n".to_vec()),
        ("statistics", b"STAT pid 1\r\nEND\r\n".to_vec()),
        ("a web server", b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec()),
        ("noise", vec![0x80, 0xff, 0x00, b'\r', b'\n', 0xfe, b'\n', b'E', b'N', b'D']),
        ("an empty line", b"\r\nEND\r\n".to_vec()),
        ("a line without end", [b"VALUE bad ".as_slice(), &[b'x'; 100 << 10]].concat()),
        ("zeros without end", vec![0; 100 << 10]),
    ]
}

/// Lies to `get bad` as case `case` says, otherwise honest.
fn lie(talk: &mut Talk, lie: &[u8]) -> io::Result<()> {
    loop {
        let line = talk.line()?;
        let keys: Vec<&str> = line.split(' ').skip(1).collect();
        let Some(bad) = keys.iter().position(|key| *key == "bad") else {
            talk.answer(&line)?;
            continue;
        };
        // Gets of others may have left in the same command: what was asked before is answered.
        let mut reply = Vec::new();
        for key in &keys[..bad] {
            reply.extend_from_slice(&value_block(key, &value_of(key, HONEST_LENGTH)));
        }
        reply.extend_from_slice(lie);
        talk.send(reply)?;
        return talk.swallow();
    }
}

/// A weir before a bad backend (route 0) and a good one (route 1).
fn weir_before(bad: &Scripted, good: &Scripted) -> Weir {
    let lines =
        "reconnect_min = \"5ms\"\nreconnect_max = \"20ms\"\nrequest_timeout = \"1s\"\nstall_timeout = \"1s\"";
    Setup {
        routes: vec![Route::to(bad.address()).pool(lines), Route::to(good.address()).pool(lines)],
        ..Setup::default()
    }
    .start()
}

fn honest() -> Scripted {
    Scripted::start(|_, talk| talk.be_honest())
}

fn right(key: &str) -> Got {
    Got::Value(value_of(key, HONEST_LENGTH))
}

#[test]
fn a_reply_that_does_not_fit_is_an_error_and_a_desync_and_nobody_elses_value() {
    let _shared = shared();
    for (name, bytes) in lies() {
        println!("case: {name}");
        let (bad, good) = (Scripted::start(move |_, talk| lie(talk, &bytes)), honest());
        let weir = weir_before(&bad, &good);
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let neighbours = [(0, "same"), (1, "elsewhere")].map(|(route, who)| {
                let (mut client, over) = (weir.client_of(route), &over);
                scope.spawn(move || {
                    let mut served = 0_u32;
                    for round in 0.. {
                        let key = format!("{who}{round}");
                        match client.get(&key) {
                            got if got == right(&key) => served += 1,
                            got => assert!(route == 0 && got.is_server_error(), "{who}: {got:?}"),
                        }
                        if over.load(Ordering::Acquire) {
                            break;
                        }
                    }
                    served
                })
            });
            let mut client = weir.client();
            // Before the lie everything is well.
            assert_eq!(client.get("fine"), right("fine"));
            let got = client.get("bad");
            let may_be_right = matches!(name, "another key behind the right one" | "the value twice");
            assert!(got.is_server_error() || (may_be_right && got == right("bad")), "{name}: {got:?}");
            eventually(Duration::from_secs(3), "counted", || {
                weir.count("weir_upstream_desync_total", &[]) >= 1
            });
            // The same client goes on, on a new connection.
            eventually(Duration::from_secs(3), "served again", || client.get("after") == right("after"));
            over.store(true, Ordering::Release);
            let [same, elsewhere] = neighbours.map(|neighbour| neighbour.join().expect("a good neighbour"));
            assert!(same > 0 && elsewhere > 0, "{name}: {same} and {elsewhere} answers");
        });
        assert_eq!(weir.count("weir_panics_total", &[]), 0, "{name}");
    }
}

#[test]
fn a_lie_in_the_middle_of_a_multiget_ends_it_with_an_error() {
    let _shared = shared();
    let keys: Vec<String> = (0..300).map(|number| format!("k{number}")).collect();
    for name in ["wrong key", "wrong order", "garbage", "cut in a value", "cut in a head", "cut before END"] {
        println!("case: {name}");
        let bad = Scripted::start(move |_, talk| {
            loop {
                let line = talk.line()?;
                let keys: Vec<&str> = line.split(' ').skip(1).collect();
                let mut reply = Vec::new();
                for (number, key) in keys.iter().enumerate() {
                    let block = value_block(key, &value_of(key, HONEST_LENGTH));
                    match (name, number) {
                        ("wrong key", 10) => reply.extend_from_slice(&value_block("x", b"of somebody else")),
                        ("wrong order", 10) => {
                            reply.extend_from_slice(&value_block(keys[3], &value_of(keys[3], HONEST_LENGTH)));
                        }
                        ("garbage", 10) => reply.extend_from_slice(b"\x01\x02 what\r\n"),
                        ("cut in a value", 10) => {
                            reply.extend_from_slice(&block[..60]);
                            return talk.send(reply);
                        }
                        ("cut in a head", 10) => {
                            reply.extend_from_slice(&block[..6]);
                            return talk.send(reply);
                        }
                        _ => reply.extend_from_slice(&block),
                    }
                }
                if name == "cut before END" {
                    return talk.send(reply);
                }
                reply.extend_from_slice(b"END\r\n");
                talk.send(reply)?;
            }
        });
        let good = honest();
        let weir = weir_before(&bad, &good);
        let mut neighbour = weir.client_of(1);
        let mut client = weir.client();
        for many in [12, 128, 300] {
            client.send(format!("get {}\r\n", keys[..many].join(" ")));
            let answer = client.try_many().expect("an answer");
            for (key, value) in &answer.values {
                assert!(keys[..many].contains(key), "{name}: {key} was not asked");
                assert!(*value == value_of(key, HONEST_LENGTH), "{name}: {key} has another's value");
            }
            let mut order: Vec<_> = answer.values.iter().map(|(key, _)| key.as_str()).collect();
            let in_order = order.clone();
            order.sort_by_key(|key| key[1..].parse::<u32>().expect("a number"));
            order.dedup();
            assert_eq!(order, in_order, "{name}: in the order asked, each once");
            // Every connection of this backend breaks off, so no multiget of more than ten keys can come to a good end
            // unless each attempt brought it further.
            match &answer.error {
                Some(error) => assert!(error.starts_with("SERVER_ERROR "), "{name}: {error:?}"),
                None => assert_eq!(answer.values.len(), many, "{name}: a miss was invented"),
            }
            assert_eq!(neighbour.get("elsewhere"), right("elsewhere"));
        }
        assert!(client.is_quiet(Duration::from_millis(20)), "{name}: in step");
        if !name.starts_with("cut") {
            assert!(weir.count("weir_upstream_desync_total", &[]) >= 1, "{name}");
        }
        assert_eq!(weir.count("weir_panics_total", &[]), 0, "{name}");
    }
}

#[test]
fn a_reply_cut_short_anywhere_gives_the_whole_value_or_an_error() {
    let _shared = shared();
    let whole = [value_block("bad", &value_of("bad", HONEST_LENGTH)), b"END\r\n".to_vec()].concat();
    for cut in (0..whole.len()).step_by(7).chain(whole.len() - 8..whole.len()) {
        let reply = whole[..cut].to_vec();
        let bad = Scripted::start(move |_, talk| {
            loop {
                let line = talk.line()?;
                if line.contains("bad") {
                    return talk.send(&reply);
                }
                talk.answer(&line)?;
            }
        });
        let good = honest();
        let weir = weir_before(&bad, &good);
        let mut client = weir.client();
        let got = client.get("bad");
        assert!(got.is_server_error() || got == right("bad"), "cut at {cut}: {got:?}");
        eventually(Duration::from_secs(3), "served again", || client.get("after") == right("after"));
        assert_eq!(client.get("later"), right("later"), "cut at {cut}");
    }
}

#[test]
fn a_wrong_reply_to_a_write_leaves_its_outcome_unknown() {
    let _shared = shared();
    let lies: [&'static [u8]; 4] =
        [b"VALUE k 0 1\r\nx\r\nEND\r\n", b"END\r\n", b"\x80\x01\x02\r\n", b"VA 1\r\nx\r\n"];
    for reply in lies {
        let bad = Scripted::start(move |_, talk| {
            loop {
                let line = talk.line()?;
                if line.starts_with("set bad ") {
                    talk.send(reply)?;
                } else {
                    talk.answer(&line)?;
                }
            }
        });
        let good = honest();
        let weir = weir_before(&bad, &good);
        let mut client = weir.client();
        let answer = client.try_set("bad", b"v").expect("an answer");
        let shown = String::from_utf8_lossy(reply);
        assert!(answer.starts_with("SERVER_ERROR ") && answer.contains("unknown"), "{shown:?}: {answer:?}");
        assert!(weir.count("weir_upstream_desync_total", &[]) >= 1, "{shown:?}");
        assert_eq!(bad.heard("set bad"), 1, "{shown:?}: not repeated");
        eventually(Duration::from_secs(3), "served again", || client.get("after") == right("after"));
    }
}

#[test]
fn bytes_nobody_asked_for_cut_the_connection_and_are_no_answer() {
    let _shared = shared();
    let bad = Scripted::start(|number, talk| match number {
        // before anything was asked
        0 => {
            talk.send(value_block("nobody", b"of somebody else"))?;
            talk.swallow()
        }
        // behind an answer, at once and later
        1 => {
            let line = talk.line()?;
            talk.answer(&line)?;
            talk.send(b"END\r\n")?;
            talk.swallow()
        }
        2 => {
            let line = talk.line()?;
            talk.answer(&line)?;
            std::thread::sleep(Duration::from_millis(100));
            talk.send(value_block("nobody", b"of somebody else"))?;
            talk.swallow()
        }
        _ => talk.be_honest(),
    });
    let good = honest();
    let weir = weir_before(&bad, &good);
    let mut client = weir.client();
    for cut in 1..=3 {
        eventually(PATIENCE, "the next lie", || weir.count("weir_upstream_desync_total", &[]) >= cut - 1);
        let key = format!("k{cut}");
        eventually(Duration::from_secs(3), "served", || {
            let got = client.get(&key);
            assert!(got.is_server_error() || got == right(&key), "{got:?}");
            got == right(&key)
        });
        eventually(Duration::from_secs(3), "counted", || {
            weir.count("weir_upstream_desync_total", &[]) >= cut
        });
    }
    assert_eq!(client.get("k9"), right("k9"));
    assert_eq!(bad.connections(), 4);
}

#[test]
fn an_error_line_of_the_backend_reaches_the_one_who_asked() {
    let _shared = shared();
    let bad = Scripted::start(|_, talk| {
        loop {
            let line = talk.line()?;
            match line.contains(" bad") {
                true => talk.send(b"SERVER_ERROR out of memory reading request\r\n")?,
                false => talk.answer(&line)?,
            }
        }
    });
    let good = honest();
    let weir = weir_before(&bad, &good);
    // Many clients at once, so that their gets leave as one command: only the one is to blame.
    let mut clients: Vec<Client> = (0..20).map(|_| weir.client()).collect();
    for round in 0..20 {
        for (number, client) in clients.iter_mut().enumerate() {
            let key = if number == 7 { "bad".to_owned() } else { format!("k{number}-{round}") };
            client.send(format!("get {key}\r\n"));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let key = if number == 7 { "bad".to_owned() } else { format!("k{number}-{round}") };
            let got = client.try_got(&key).expect("an answer");
            match number {
                7 => assert_eq!(got, Got::Error("SERVER_ERROR out of memory reading request".to_owned())),
                _ => assert_eq!(got, right(&key)),
            }
        }
    }
    assert_eq!((weir.opens(), bad.connections()), (2, 1), "an error line is an answer");
}
