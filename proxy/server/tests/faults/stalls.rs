//! A backend that is there and does not answer, or breaks every connection: time-outs, the cut, and what comes late.

use crate::client::Got;
use crate::memcached::Memcached;
use crate::scripted::{HONEST_LENGTH, Scripted};
use crate::support::{eventually, shared};
use crate::values::value_of;
use crate::weir::Route;
use std::time::{Duration, Instant};

/// How much later than its time a time-out may come: they are looked for every 100 ms, on a busy machine.
const LATE: Duration = Duration::from_millis(1_000);

#[test]
fn a_silent_backend_costs_the_request_timeout_and_is_cut() {
    let _shared = shared();
    let backend = Scripted::start(|number, talk| if number == 0 { talk.swallow() } else { talk.be_honest() });
    let weir = Route::to(backend.address())
        .pool("request_timeout = \"300ms\"\nstall_timeout = \"1500ms\"\nreconnect_max = \"200ms\"\nretry_percent = 0")
        .start();
    let mut client = weir.client();
    for command in ["get k", "get a b c", "delete k", "mg k v", "gets k"] {
        let start = Instant::now();
        let answer = client.ask(command);
        let took = start.elapsed();
        assert!(answer.starts_with("SERVER_ERROR "), "{command}: {answer:?}");
        if backend.connections() == 1 {
            let wanted = Duration::from_millis(300);
            assert!(took >= wanted - Duration::from_millis(20), "{command}: too soon, {took:?}");
            assert!(took < wanted + LATE, "{command}: {took:?}");
        }
        if command == "delete k" {
            assert!(answer.contains("did not answer"), "{answer:?}");
        }
        if took > LATE {
            break;
        }
    }
    eventually(Duration::from_secs(4), "the stall is cut and a new connection made", || {
        backend.connections() == 2
    });
    assert_eq!(weir.count("weir_upstream_stalls_total", &[]), 1);
    eventually(Duration::from_secs(2), "served again", || {
        client.get("k") == Got::Value(value_of("k", HONEST_LENGTH))
    });
    weir.wait_until_at_rest(Duration::from_secs(2));
}

#[test]
fn replies_that_come_after_the_timeout_reach_nobody() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(false, "late replies", &[]) else { return };
    let weir = Route::to(memcached.place())
        .pool("request_timeout = \"200ms\"\nstall_timeout = \"60s\"\nqueue_timeout = \"60s\"")
        .start();
    let mut clients: Vec<_> = (0..10).map(|_| weir.client()).collect();
    for number in 0..200 {
        let key = format!("k{number}");
        clients[0].set(&key, &value_of(&key, 300));
    }
    memcached.stop();
    // Everyone asks while nothing answers: gets, a multiget, a write.
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!(
            "get k{number}\r\nget k{} k{}\r\ndelete k{number}\r\n",
            number + 20,
            number + 40
        ));
    }
    for client in &mut clients {
        for _ in 0..3 {
            let line = client.line();
            assert!(line.starts_with("SERVER_ERROR "), "{line:?}");
        }
    }
    memcached.go_on();
    // Over the same connection, behind what is late.
    for round in 0..5 {
        for (number, client) in clients.iter_mut().enumerate() {
            let key = format!("k{}", 100 + number * 5 + round);
            assert_eq!(client.get(&key), Got::Value(value_of(&key, 300)));
        }
    }
    for client in &mut clients {
        assert!(client.is_quiet(Duration::from_millis(20)), "nothing more came");
    }
    assert_eq!(weir.opens(), 1, "the connection was kept");
    assert_eq!(weir.count("weir_upstream_desync_total", &[]), 0);
    weir.wait_until_at_rest(Duration::from_secs(2));
}

#[test]
fn a_stopped_memcached_is_cut_and_served_again_when_it_goes_on() {
    let _shared = shared();
    let Some(memcached) = Memcached::start(true, "stopped memcached", &[]) else { return };
    let weir = Route::to(memcached.place())
        .pool("request_timeout = \"200ms\"\nstall_timeout = \"600ms\"\nreconnect_max = \"200ms\"")
        .start();
    let mut client = weir.client();
    client.set("k", b"value");
    client.set("counter", b"7");
    memcached.stop();
    let stopped = Instant::now();
    let mut answers = 0;
    while stopped.elapsed() < Duration::from_secs(3) {
        let start = Instant::now();
        let got = client.get("k");
        assert!(got.is_server_error(), "nothing can answer: {got:?}");
        // once to time out, once more where a cut connection gave it a second chance
        assert!(start.elapsed() < Duration::from_millis(600) + LATE, "{:?}", start.elapsed());
        answers += 1;
    }
    let stalls = weir.count("weir_upstream_stalls_total", &[]);
    assert!((1..=6).contains(&stalls), "{stalls} cuts in 3 s with a stall_timeout of 0.6 s");
    memcached.go_on();
    let took = eventually(Duration::from_millis(1_200), "served again", || {
        client.get("k") == Got::Value(b"value".to_vec())
    });
    println!("{answers} answers and {stalls} cuts in 3 s, served {took:?} after it went on");
    assert_eq!(weir.count("weir_upstream_desync_total", &[]), 0);
    weir.wait_until_at_rest(Duration::from_secs(2));
}

#[test]
fn a_backend_that_accepts_nobody_is_given_up_after_connect_timeout() {
    let _shared = shared();
    // A queue of one, and it is full: further handshakes are not answered.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    socket.listen(0).expect("it listens");
    let address = socket.local_addr().expect("its address").as_socket().expect("IPv4");
    let mut filling = Vec::new();
    let full =
        (0..8).any(|_| match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
            Ok(stream) => {
                filling.push(stream);
                false
            }
            Err(_) => true,
        });
    assert!(full, "the queue of the listener is full");
    let weir = Route::to(address).pool("connect_timeout = \"300ms\"\nrequest_timeout = \"2s\"").start();
    let mut client = weir.client();
    let start = Instant::now();
    let got = client.get("k");
    assert!(got.is_server_error(), "{got:?}");
    assert!(start.elapsed() < Duration::from_millis(300) + LATE, "{:?}", start.elapsed());
    eventually(Duration::from_secs(1), "the attempt is counted", || {
        weir.count("weir_backend_connection_opens_total", &["result=\"timeout\""]) >= 1
    });
}

#[test]
fn a_backend_that_breaks_every_connection_is_not_stormed() {
    let _shared = shared();
    for (name, greeting) in [("closes at once", b"".as_slice()), ("greets", b"220 mail ready\r\n")] {
        let bad = Scripted::start(move |_, talk| {
            talk.send(greeting)?;
            if greeting.is_empty() { Ok(()) } else { talk.swallow() }
        });
        let weir = Route::to(bad.address()).start();
        let mut client = weir.client();
        let (start, cpu) = (Instant::now(), weir.cpu());
        let mut asked = 0;
        while start.elapsed() < Duration::from_secs(3) {
            let asking = Instant::now();
            let got = client.get("k");
            assert!(got.is_server_error(), "{name}: {got:?}");
            assert!(asking.elapsed() < Duration::from_millis(2_500), "{name}: {:?}", asking.elapsed());
            asked += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        let (connections, cpu) = (bad.connections(), weir.cpu() - cpu);
        println!("{name}: {connections} connections in 3 s, {asked} gets answered, {cpu:?} of CPU");
        // The default waits are 50 ms, doubling up to 2 s.
        assert!(connections <= 30, "{name}: {connections} connections in 3 s");
        assert!(cpu < Duration::from_millis(1_500), "{name}: {cpu:?}");
    }
}
