//! A service of several servers through a running weir: the engine chooses, health checks and failing calls leave servers
//! out, TLS is spoken where it is asked for, and operators see each server.

mod support;
mod support_rpc;
mod support_tls;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use support::{Weir, eventually};
use support_rpc::{Grpc, POSTS, Service, elements};

fn file(servers: &[String], more: &str) -> String {
    format!(
        "[service.dataplane]\nservers = {servers:?}\npreset = \"bsky\"\n{more}\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n"
    )
}

fn at(service: &Service) -> String {
    format!("127.0.0.1:{}", service.port)
}

/// A GET on a connection of its own: the whole answer.
fn get(port: u16, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("weir");
    let request = format!("GET {path} HTTP/1.1\r\nhost: weir.test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// An HTTP/1.1 service that answers each request with 200: its port.
fn answering() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut to = stream.try_clone().expect("another handle");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    // The empty line ends a request without a body. A client that left needs no answer.
                    if line.is_empty()
                        && to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err()
                    {
                        return;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn calls_go_where_the_engine_says_and_round_a_server_that_is_gone() {
    let (one, two) = (Service::start(1, None), Service::start(1, None));
    let servers = [at(&one), at(&two)];
    let weir = Weir::with_file(&file(&servers, ""));
    let up = |address: &String| weir.series("weir_rpc_server_up", &[("backend", address)]);
    eventually("both are up", || servers.iter().all(|address| up(address) == Some(1.0)));
    let mut client = Grpc::over_tcp(weir.port);
    for _ in 0..40 {
        client.call(POSTS, elements(3), &[]).expect("answered");
    }
    let seen = [one.seen().len(), two.seen().len()];
    assert_eq!(seen, [20, 20], "in turn: neither has more to do");
    let counted = |address: &str| {
        weir.series("weir_backend_operations_total", &[("caller", "edge"), ("backend", address)])
    };
    for address in &servers {
        eventually("the books say what was sent", || counted(address) == Some(60.0));
        let own = [("backend", address.as_str()), ("state", "ready")];
        eventually("its connections are there", || {
            weir.series("weir_backend_connections", &own) == Some(2.0)
        });
    }

    drop(two);
    eventually("it is down", || up(&servers[1]) == Some(0.0));
    for _ in 0..10 {
        client.call(POSTS, elements(3), &[]).expect("the other one answers");
    }
    assert_eq!(one.seen().len(), 30);
    assert_eq!(counted(&servers[1]), Some(60.0), "nothing is booked at the one that is gone");
    let refused = [("backend", servers[1].as_str()), ("result", "refused")];
    eventually("dials are counted", || {
        weir.series("weir_backend_connection_opens_total", &refused).is_some_and(|count| count > 0.0)
    });
    let top = weir.command(&["top", "--once"]).expect_success("weir top");
    let row = top.stdout.lines().find(|line| line.contains(&servers[1])).map(str::to_owned);
    assert!(row.as_deref().is_some_and(|row| row.contains("down")), "{row:?} in\n{}", top.stdout);
    let rows = weir.control("/pools").to_string();
    assert!(rows.contains("refused"), "why is told: {rows}");

    // Nobody is left: told at once that nothing was done, and counted.
    drop(one);
    eventually("both are down", || servers.iter().all(|address| up(address) == Some(0.0)));
    let status = client.call(POSTS, elements(3), &[]).expect_err("nobody is there");
    assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
    let lost = [("caller", "edge"), ("protocol", "grpc"), ("outcome", "backend_lost")];
    eventually("it is counted", || weir.series("weir_requests_total", &lost) == Some(1.0));
    assert_eq!(weir.series("weir_rpc_calls", &[("service", "dataplane")]), Some(0.0), "nothing is left");
}

#[test]
fn a_server_that_fails_its_checks_or_its_calls_gets_none() {
    let service = Service::start(1, None);
    // It has no health service: the check is answered, and not with SERVING.
    let checked = "health = \"grpc\"\nhealth_service = \"bsky.Service\"\nhealth_interval = \"100ms\"\nhealth_fall = 3\n";
    let weir = Weir::with_file(&file(&[at(&service)], checked));
    let own = at(&service);
    let failed = [("backend", own.as_str()), ("cause", "health_check")];
    eventually("its checks fail", || {
        weir.series("weir_rpc_server_failures_total", &failed).is_some_and(|count| count >= 3.0)
            && weir.series("weir_rpc_server_up", &[("backend", &own)]) == Some(0.0)
    });
    let asked = service.seen().len();
    Grpc::over_tcp(weir.port).call(POSTS, elements(3), &[]).expect("the only one is asked all the same");
    assert!(asked >= 3);
    drop(weir);

    // Takes connections, and closes them when a request comes.
    let broken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let bad = broken.local_addr().expect("its address").to_string();
    std::thread::spawn(move || {
        for stream in broken.incoming() {
            // Whatever comes: it is closed.
            let _ = stream.map(|mut stream| stream.read(&mut [0; 1024]));
        }
    });
    let http1 = "upstream = \"http1\"\neject_failures = 3\neject_time = \"1h\"\n";
    let plain = answering();
    let servers = [bad.clone(), format!("127.0.0.1:{plain}")];
    let weir = Weir::with_file(&file(&servers, http1));
    let out = [("backend", bad.as_str())];
    let (mut answered, mut asked) = (0, 0);
    eventually("it is left out", || {
        asked += 1;
        answered += u32::from(get(weir.port, "/x").starts_with("HTTP/1.1 200 "));
        weir.series("weir_rpc_server_ejections_total", &out) == Some(1.0)
    });
    assert_eq!(answered, asked, "GETs are sent again, to the other one");
    let failures = || weir.series("weir_rpc_server_failures_total", &[("backend", &bad), ("cause", "call")]);
    assert_eq!(failures(), Some(3.0));
    for _ in 0..10 {
        assert!(get(weir.port, "/x").starts_with("HTTP/1.1 200 "));
    }
    let retried = [("service", "dataplane"), ("result", "sent")];
    eventually("it is counted", || weir.series("weir_rpc_retries_total", &retried) == Some(3.0));
    assert_eq!(failures(), Some(3.0), "it is asked no more");
}

#[test]
fn servers_are_spoken_to_with_tls() {
    let ca = support_tls::Authority::new("weir's test");
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), &ca.pem).expect("written");
    ca.vouch(&["weir"]).write(folder.path(), "weir");
    let mut config = (*support_tls::server(&ca.vouch(&["127.0.0.1"]), Some(&ca))).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let service = Service::start_tls(1, config.into());
    let name = |file: &str| folder.path().join(file).display().to_string();
    let shown =
        format!("tls_client_cert = \"{}\"\ntls_client_key = \"{}\"\n", name("weir.crt"), name("weir.key"));
    let tls = format!("tls = true\ntls_ca = \"{}\"\n", name("ca.pem"));
    let weir = Weir::with_file(&file(&[at(&service)], &format!("{tls}{shown}")));
    Grpc::over_tcp(weir.port).call(POSTS, elements(3), &[]).expect("answered");
    assert_eq!(service.seen().len(), 1);
    drop(weir);
    // Without a certificate of its own weir is not let in, and says so.
    let weir = Weir::with_file(&file(&[at(&service)], &tls));
    let status = Grpc::over_tcp(weir.port).call(POSTS, elements(3), &[]).expect_err("not let in");
    // With TLS 1.3 the server says so after the handshake, perhaps when the call is on its way already.
    assert!([tonic::Code::Unavailable, tonic::Code::Internal].contains(&status.code()), "{status:?}");
    assert_eq!(service.seen().len(), 1);
}
