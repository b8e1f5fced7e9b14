//! Very many clients at once: no descriptor left, 10,000 that are idle, 15,000 that come together.

use crate::client::{Client, Got, PATIENCE, Place, Stream};
use crate::memcached::Memcached;
use crate::support::{alone, eventually, open_files};
use crate::values::value_of;
use crate::weir::{Route, Setup, Weir, sum};
use std::io::{ErrorKind, Write as _};
use std::time::{Duration, Instant};

/// Sockets of this process besides the clients'.
const SPARE: u64 = 200;
/// What 15,000 connections at once may leave behind 10 s after they left: the slot tables of engine and worker keep their
/// size (about 0.4 KiB a slot) until weir ends; the rest is given back.
const KEPT_MAX: u64 = 16 << 20;

/// Of 64 open files, those that clients may take: the rest is weir's own, however few it uses.
const CLIENTS: usize = 16;

fn cpu_share(weir: &Weir, during: Duration) -> f64 {
    let before = weir.cpu();
    std::thread::sleep(during);
    (weir.cpu() - before).as_secs_f64() / during.as_secs_f64()
}

/// What became of a client that came while there may have been no descriptor for it.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Served,
    Told,
    Closed,
    Unanswered,
}

fn fate(client: &mut Client) -> Fate {
    client.stream.patience(Duration::from_secs(10)).expect("an option");
    // Who was turned away already cannot send, and may still read why.
    let _ = client.try_send("get k\r\n");
    match client.try_got("k") {
        Ok(Got::Value(value)) if value == value_of("k", 50) => Fate::Served,
        Ok(Got::Error(line)) if line.starts_with("SERVER_ERROR ") => Fate::Told,
        Ok(other) => panic!("neither served nor refused: {other:?}"),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Fate::Unanswered,
            _ => Fate::Closed,
        },
    }
}

/// While clients hold every descriptor that is theirs: the metrics and the control socket answer, and say what happened.
fn numbers_are_shown(weir: &Weir, turned_away: usize) {
    // On a busy machine the worker is still closing those whom it has told.
    eventually(PATIENCE, "all who were turned away are counted", || {
        sum(&weir.page(), "weir_client_closes_total", &["how=\"cap\""]) >= turned_away as f64
    });
    let page = weir.page();
    assert_eq!(sum(&page, "weir_client_connections", &[]), CLIENTS as f64);
    assert_eq!(sum(&page, "weir_bound", &["name=\"nofile_clients\""]), CLIENTS as f64);
    assert_eq!(sum(&page, "weir_bound", &["name=\"nofile_reserved\""]), (64 - CLIENTS) as f64);
    let open = sum(&page, "process_open_fds", &[]);
    assert!((CLIENTS as f64..64.0).contains(&open), "{open} open files of 64");
    assert!(weir.control("/config").contains("max_connections"));
    assert!(weir.control("/callers").contains("l0"));
}

#[test]
fn without_descriptors_the_excess_is_turned_away_and_the_others_are_served() {
    let _alone = alone();
    let Some(memcached) = Memcached::start(false, "no descriptors left", &[]) else { return };
    for (tcp, workers) in [(true, 1), (false, 1), (true, 2)] {
        let route = Route::to(memcached.place());
        let route = if tcp { route.over_tcp() } else { route };
        let (open_files, workers) = (Some(64), Some(workers));
        let mut weir = Setup { routes: vec![route], open_files, workers, ..Setup::default() }.start();
        let mut early: Vec<Client> = (0..5).map(|_| weir.client()).collect();
        early[0].set("k", &value_of("k", 50));
        for client in &mut early {
            assert_eq!(fate(client), Fate::Served);
        }
        let start = Instant::now();
        let mut crowd: Vec<Client> = (0..200).map(|_| weir.client()).collect();
        let fates: Vec<Fate> = crowd.iter_mut().map(fate).collect();
        let took = start.elapsed();
        let count = |wanted: Fate| fates.iter().filter(|fate| **fate == wanted).count();
        let (served, told, closed) = (count(Fate::Served), count(Fate::Told), count(Fate::Closed));
        println!("tcp {tcp}: of 200 {served} served, {told} told, {closed} closed within {took:?}");
        assert_eq!(served + told + closed, 200, "nobody is left hanging: {fates:?}");
        assert_eq!(served + early.len(), CLIENTS, "with 64 descriptors");
        assert!(told >= 1, "who is turned away is told why");
        numbers_are_shown(&weir, 200 + 5 - CLIENTS);
        // Who is in stays in and is served; who was turned away holds no descriptor of weir's.
        for client in &mut early {
            assert_eq!(fate(client), Fate::Served);
        }
        let share = cpu_share(&weir, Duration::from_secs(2));
        assert!(share < 0.2, "weir spins when it has no descriptor: {share:.2} of a processor");
        // And while clients keep coming.
        let before = weir.cpu();
        let pushing = Instant::now();
        let mut attempts = 0;
        while pushing.elapsed() < Duration::from_secs(2) {
            if let Ok(mut client) = Client::try_connect(weir.place(0)) {
                fate(&mut client);
                attempts += 1;
            }
        }
        let used = weir.cpu() - before;
        numbers_are_shown(&weir, 200 + 5 - CLIENTS);
        println!("tcp {tcp}: idle share {share:.3}, {attempts} more attempts in 2 s cost {used:?}");
        assert!(used < Duration::from_millis(1_000), "{used:?} of CPU in 2 s");
        assert!(weir.is_alive());
        // Once they leave there is room again.
        crowd.clear();
        let took = eventually(Duration::from_secs(5), "new clients are served", || {
            Client::try_connect(weir.place(0)).is_ok_and(|mut client| fate(&mut client) == Fate::Served)
        });
        println!("tcp {tcp}: room again after {took:?}");
        let mut late: Vec<Client> = (0..5).map(|_| weir.client()).collect();
        for client in &mut late {
            assert_eq!(fate(client), Fate::Served);
        }
        assert!(weir.log().contains("descriptor"), "the log says what ran out: {}", weir.log());
        let counted = weir.count("weir_client_closes_total", &["how=\"cap\""]);
        assert!(counted >= told as u64, "{told} were told, {counted} counted");
    }
}

#[test]
fn a_backend_is_reached_again_although_descriptors_ran_out() {
    let _alone = alone();
    let Some(mut memcached) = Memcached::start(false, "no descriptors and no backend", &[]) else { return };
    let route = Route::to(memcached.place()).pool("reconnect_max = \"200ms\"").over_tcp();
    let weir = Setup { routes: vec![route], open_files: Some(64), ..Setup::default() }.start();
    let mut early = weir.client();
    early.set("k", &value_of("k", 50));
    let mut crowd: Vec<Client> = (0..150).map(|_| weir.client()).collect();
    for client in &mut crowd {
        assert_ne!(fate(client), Fate::Unanswered);
    }
    memcached.kill();
    assert!(early.get("k").is_server_error());
    // More who wait for any descriptor that gets free: that of the lost connection is not for them.
    let mut more: Vec<Client> = (0..50).map(|_| weir.client()).collect();
    memcached.restart();
    eventually(Duration::from_secs(3), "connected again", || early.get("k") == Got::Miss);
    for client in &mut more {
        assert_ne!(fate(client), Fate::Served, "{CLIENTS} clients at most");
    }
    drop(crowd);
}

/// Connects so many clients; those that the queue of the listener does not hold at once are tried again.
fn connect(place: &Place, count: usize) -> Vec<Stream> {
    let mut streams = Vec::with_capacity(count);
    let start = Instant::now();
    while streams.len() < count {
        match Stream::connect(place) {
            Ok(stream) => streams.push(stream),
            Err(error) => {
                assert!(start.elapsed() < PATIENCE, "{} of {count} connected: {error}", streams.len());
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
    streams
}

#[test]
fn ten_thousand_idle_clients_cost_little_and_all_answer_afterwards() {
    const COUNT: usize = 10_000;
    let _alone = alone();
    if open_files(COUNT as u64 + SPARE, "10,000 idle clients").is_none() {
        return;
    }
    let Some(memcached) = Memcached::start(false, "10,000 idle clients", &[]) else { return };
    for tcp in [false, true] {
        let route = Route::to(memcached.place());
        let weir = if tcp { route.over_tcp() } else { route }.start();
        let mut first = weir.client();
        first.set("k", &value_of("k", 50));
        weir.page();
        let before = weir.resident();
        let start = Instant::now();
        let streams = connect(weir.place(0), COUNT);
        eventually(PATIENCE, "all were accepted", || {
            weir.count("weir_client_connections", &[]) == COUNT as u64 + 1
        });
        let connected = start.elapsed();
        let idle = weir.resident();
        // Looking up who they are takes a moment of its own.
        std::thread::sleep(Duration::from_secs(2));
        let share = cpu_share(&weir, Duration::from_secs(2));
        let mut clients: Vec<Client> = streams.into_iter().map(Client::new).collect();
        let start = Instant::now();
        for client in &mut clients {
            client.send("get k\r\n");
        }
        for client in &mut clients {
            assert_eq!(client.try_got("k").expect("an answer"), Got::Value(value_of("k", 50)));
        }
        let answered = start.elapsed();
        weir.wait_until_at_rest(Duration::from_secs(5));
        let used = weir.resident();
        let each = |resident: u64| resident.saturating_sub(before) / COUNT as u64;
        let (idle, used) = (each(idle), each(used));
        println!(
            "tcp {tcp}: {idle} bytes resident per idle client, {used} per client that was answered; connected in \
             {connected:?}, all answered in {answered:?}, {share:.3} of a processor while idle"
        );
        assert!(idle < 4 << 10, "{idle} bytes resident per idle client");
        assert!(used < 6 << 10, "{used} bytes resident per client that was answered once");
        assert!(share < 0.1, "{share:.2} of a processor for idle clients");
        drop(clients);
        eventually(PATIENCE, "all are gone", || weir.count("weir_client_connections", &[]) == 1);
        assert_eq!(first.get("k"), Got::Value(value_of("k", 50)));
    }
}

/// Sockets in TIME_WAIT towards this port.
fn time_wait(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    let there = format!(":{port:04X}");
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 3 && row[2].ends_with(&there) && row[3] == "06").count()
}

fn fifteen_thousand_at_once(tcp: bool, workers: u32) {
    const COUNT: usize = 15_000;
    let _alone = alone();
    let what = if tcp { "15,000 connections over TCP" } else { "15,000 connections over a Unix socket" };
    if open_files(COUNT as u64 + SPARE, what).is_none() {
        return;
    }
    let Some(memcached) = Memcached::start(false, what, &[]) else { return };
    let route = Route::to(memcached.place());
    let routes = vec![if tcp { route.over_tcp() } else { route }];
    let weir = Setup { routes, workers: Some(workers), ..Setup::default() }.start();
    let mut filler = weir.client();
    for number in 0..500 {
        let key = format!("k{number}");
        filler.set(&key, &value_of(&key, 100));
    }
    let idle = weir.resident();
    let start = Instant::now();
    // Every client asks as soon as it is connected and none waits for another, so all are open together.
    let mut streams = Vec::with_capacity(COUNT);
    let mut failed = 0;
    for number in 0..COUNT {
        let stream = match tcp {
            // without trying again: a refused connection is a failed call
            true => Stream::connect(weir.place(0)),
            false => Ok(connect(weir.place(0), 1).remove(0)),
        };
        match stream {
            Ok(stream) => {
                let sent = (&stream).write_all(format!("get k{}\r\n", number % 500).as_bytes());
                failed += usize::from(sent.is_err());
                streams.push((number, stream));
            }
            Err(_) => failed += 1,
        }
    }
    let connected = start.elapsed();
    let mut clients = Vec::with_capacity(COUNT);
    for (number, stream) in streams {
        let key = format!("k{}", number % 500);
        let mut client = Client::new(stream);
        match client.try_got(&key) {
            Ok(got) if got == Got::Value(value_of(&key, 100)) => {}
            Ok(Got::Value(_)) => panic!("{key}: a wrong value"),
            _ => failed += 1,
        }
        clients.push(client);
    }
    let answered = start.elapsed();
    let peak = weir.resident();
    let open = weir.count("weir_client_connections", &[]);
    drop(clients);
    eventually(PATIENCE, "all are gone", || weir.count("weir_client_connections", &[]) == 1);
    let gone = Instant::now();
    let mut after = weir.resident();
    while after > idle + KEPT_MAX && gone.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(200));
        after = weir.resident();
    }
    println!(
        "{what}: {failed} failed; connected in {connected:?}, answered in {answered:?}; weir held {} KiB idle, {} KiB with \
         all of them, {} KiB after; {} connections to the backend",
        idle >> 10,
        peak >> 10,
        after >> 10,
        weir.opens()
    );
    assert_eq!(failed, 0, "{what}");
    assert_eq!(open, COUNT as u64 + 1, "they were open at once");
    assert!(after <= idle + KEPT_MAX, "{} KiB idle, {} KiB 10 s after", idle >> 10, after >> 10);
    let opens = weir.opens();
    assert_eq!(
        opens,
        u64::from(workers),
        "a connection of each worker to the backend, whatever the clients do"
    );
    if let Place::Tcp(address) = weir.place(0) {
        let port = address.port();
        eventually(Duration::from_secs(5), "no port is left in TIME_WAIT", || time_wait(port) == 0);
    }
}

#[test]
fn fifteen_thousand_connections_at_once_over_a_unix_socket() {
    fifteen_thousand_at_once(false, 1);
}

#[test]
fn fifteen_thousand_connections_at_once_over_tcp() {
    fifteen_thousand_at_once(true, 1);
}

#[test]
fn fifteen_thousand_connections_at_once_over_tcp_to_two_workers() {
    fifteen_thousand_at_once(true, 2);
}
