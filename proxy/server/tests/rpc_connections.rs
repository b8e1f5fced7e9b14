//! Connections to listeners of services: counted, capped per listener and per principal under what is in force, over one
//! thread and several, and let go in time when weir ends.

mod support;
mod support_rpc;
mod support_tls;

use std::io::{Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use support::{Weir, eventually};
use support_rpc::{Grpc, POSTS, Service, elements};
use support_tls::{Authority, client, connect};

fn file(service: u16, top: &str, listener: &str) -> String {
    format!(
        "{top}[service.dataplane]\nservers = [\"127.0.0.1:{service}\"]\npreset = \"bsky\"\n\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n{listener}"
    )
}

/// One request on a connection that stays; whether there was an answer.
fn ask(stream: &mut (impl std::io::Read + Write)) -> bool {
    let mut answer = Vec::new();
    let mut chunk = [0; 4 << 10];
    if stream.write_all(b"GET /x HTTP/1.1\r\nhost: weir.test\r\n\r\n").is_err() {
        return false;
    }
    loop {
        match stream.read(&mut chunk) {
            end @ (Ok(0) | Err(_)) => {
                println!("{end:?} after {}", String::from_utf8_lossy(&answer));
                return false;
            }
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
        }
        let text = String::from_utf8_lossy(&answer);
        let whole = text.contains("\r\n\r\n");
        if whole && (text.to_lowercase().contains("content-length: 0\r\n") || text.ends_with("0\r\n\r\n")) {
            assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
            return true;
        }
    }
}

fn dial(weir: &Weir) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", weir.port)).expect("the door is open");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("a time-out");
    stream
}

fn counted(weir: &Weir, name: &str, more: &[(&str, &str)]) -> f64 {
    let labels = [&[("listener", "edge")], more].concat();
    weir.series(&format!("weir_client_{name}"), &labels).unwrap_or(0.0)
}

#[test]
fn connections_are_counted_from_their_beginning_to_their_end() {
    let service = Service::start(1, None);
    let weir = Weir::with_file(&file(service.port, "", "idle_timeout = \"3s\"\n"));
    let (mut one, mut two, mut idle) = (dial(&weir), dial(&weir), dial(&weir));
    assert!(ask(&mut one) && ask(&mut one) && ask(&mut two) && ask(&mut idle));
    assert_eq!((counted(&weir, "accepts_total", &[]), counted(&weir, "connections", &[])), (3.0, 3.0));
    let row = weir.control("/snapshot").to_string();
    assert!(row.contains("\"connections\":3"), "{row}");
    drop((one, two));
    eventually("two have closed", || counted(&weir, "closes_total", &[("how", "client")]) == 2.0);
    assert_eq!(counted(&weir, "short_connections_total", &[]), 1.0, "one had asked twice");
    eventually("the third was idle", || counted(&weir, "closes_total", &[("how", "idle")]) == 1.0);
    let mut asks_to_close = dial(&weir);
    asks_to_close.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("sent");
    asks_to_close.read_to_end(&mut Vec::new()).expect("an answer, and the end");
    eventually("weir closed it", || counted(&weir, "closes_total", &[("how", "fin")]) == 1.0);
    // over HTTP/2
    Grpc::over_tcp(weir.port).call(POSTS, elements(1), &[]).expect("answered");
    eventually("and so is one of gRPC", || counted(&weir, "closes_total", &[("how", "client")]) == 3.0);
    assert_eq!(counted(&weir, "connections", &[]), 0.0);
    let by = weir.series("weir_principal_accepts_total", &[("principal", "edge")]);
    assert_eq!(by, Some(5.0));
}

#[test]
fn a_cap_holds_and_a_reload_moves_it() {
    let service = Service::start(1, None);
    let weir = Weir::with_file(&file(service.port, "", "max_connections = 2\n"));
    let (mut one, mut two) = (dial(&weir), dial(&weir));
    assert!(ask(&mut one) && ask(&mut two));
    assert!(!ask(&mut dial(&weir)), "one too many");
    assert_eq!(counted(&weir, "closes_total", &[("how", "cap")]), 1.0);
    let refused = [("caller", "edge"), ("reason", "connections"), ("mode", "refuse")];
    assert_eq!(weir.series("weir_rejected_total", &refused), Some(1.0));
    weir.logs("max_connections is 2");
    weir.rewrite(&file(service.port, "", "max_connections = 3\n"));
    weir.hang_up();
    weir.logs("cause=\"reload\"");
    let mut three = dial(&weir);
    eventually("there is room", || {
        ask(&mut three) || {
            three = dial(&weir);
            false
        }
    });
    assert!(ask(&mut one) && ask(&mut two), "those from before stay");
    assert!(!ask(&mut dial(&weir)));
    drop(two);
    eventually("a place is given back", || ask(&mut dial(&weir)));
}

#[test]
fn each_principal_has_a_cap_of_its_own() {
    let service = Service::start(1, None);
    let ca = Authority::new("own");
    let pair = ca.vouch(&["127.0.0.1"]);
    let listener = "tls_cert = \"{dir}/weir.crt\"\ntls_key = \"{dir}/weir.key\"\ntls_client_ca = \"{dir}/ca.pem\"\n\
                    principal = \"certificate\"\nmax_connections_per_principal = 1\n";
    let text = file(service.port, "", listener);
    let files = [
        ("weir.crt", pair.cert.as_str()),
        ("weir.key", &pair.key),
        ("ca.pem", &ca.pem),
        ("weir.toml", &text),
    ];
    let weir = Weir::with(&files, &[], None);
    let (feed, api) = (ca.vouch(&["feed.weir.test"]), ca.vouch(&["api.weir.test"]));
    let mut first = connect(&client(&ca, Some(&feed)), weir.port);
    let mut other = connect(&client(&ca, Some(&api)), weir.port);
    assert!(ask(&mut first) && ask(&mut other));
    let mut second = connect(&client(&ca, Some(&feed)), weir.port);
    assert!(!ask(&mut second), "feed has one already");
    let refused = [("caller", "feed.weir.test"), ("reason", "connections")];
    assert_eq!(weir.series("weir_rejected_total", &refused), Some(1.0));
    let handshakes = |result: &str| weir.series("weir_tls_handshakes_total", &[("result", result)]);
    assert_eq!(handshakes("ok"), Some(3.0));
    let mut stranger = connect(&client(&ca, None), weir.port);
    assert!(!ask(&mut stranger));
    eventually("its handshake is counted", || handshakes("certificate") == Some(1.0));
    assert_eq!(weir.series("weir_tls_handshakes_under_way", &[]), Some(0.0));
    assert_eq!(counted(&weir, "closes_total", &[("how", "tls")]), 1.0);
    drop(first);
    eventually("a place is given back", || ask(&mut connect(&client(&ca, Some(&feed)), weir.port)));
}

#[test]
fn over_several_threads_bounds_are_what_they_are_over_one() {
    const CAP: usize = 24;
    let service = Service::start(1, None);
    let top = "workers = 4\n";
    let listener =
        format!("max_connections = {CAP}\n[undeclared]\noperations_per_second = 1_000\nmode = \"refuse\"\n");
    let weir = Weir::with_file(&file(service.port, top, &listener));
    // until there is a second's worth of it
    std::thread::sleep(Duration::from_millis(1_100));
    let began = Instant::now();
    let threads: Vec<_> = (0..CAP)
        .map(|_| {
            let port = weir.port;
            std::thread::spawn(move || {
                let mut client = Grpc::over_tcp(port);
                let called = (0..10).map(|_| client.call(POSTS, elements(10), &[]).is_ok()).filter(|ok| *ok);
                (called.count(), client)
            })
        })
        .collect();
    let done: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    // the last one may drive the bucket into debt
    let most = 1_000.0 + 1_000.0 * began.elapsed().as_secs_f64() + 10.0;
    let passed = 10 * done.iter().map(|(passed, _)| passed).sum::<usize>();
    assert!(passed as f64 <= most && passed >= 1_000, "{passed} of at most {most}");
    assert_eq!(service.seen().len() * 10, passed);
    assert_eq!(counted(&weir, "connections", &[]), CAP as f64);
    for _ in 0..CAP {
        assert!(!ask(&mut dial(&weir)), "one too many");
    }
    assert_eq!(counted(&weir, "closes_total", &[("how", "cap")]), CAP as f64);
    let tasks = std::fs::read_dir(format!("/proc/{}/task", weir.process.pid())).expect("its threads");
    let name =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let serve = tasks.flatten().map(name).filter(|name| name.trim() == "rpc-calls").count();
    assert_eq!(serve, 4);
    drop(done);
    eventually("all have closed", || counted(&weir, "connections", &[]) == 0.0);
}

#[test]
fn a_reload_changes_how_long_weir_waits_at_its_end() {
    // reads, and never answers
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port();
    let (tell, told) = std::sync::mpsc::sync_channel(64);
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in silent.incoming() {
            let mut stream = stream.expect("accepted");
            let read = stream.read(&mut [0; 4 << 10]).expect("a request");
            kept.push(stream);
            let _ = tell.send(read);
        }
    });
    let text = |timeout: &str| {
        file(port, &format!("drain_timeout = \"{timeout}\"\n"), "")
            .replace("preset = \"bsky\"", "upstream = \"http1\"")
    };
    let mut weir = Weir::with_file(&text("1h"));
    weir.rewrite(&text("500ms"));
    weir.hang_up();
    weir.logs("cause=\"reload\"");
    let mut busy = dial(&weir);
    busy.write_all(b"GET /x HTTP/1.1\r\nhost: weir.test\r\n\r\n").expect("sent");
    assert!(told.recv_timeout(support::PATIENCE).expect("the service has it") > 0);
    let began = Instant::now();
    assert!(weir.terminate().success());
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    weir.logs("1 connections were cut");
}
