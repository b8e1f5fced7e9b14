//! Clients that leave, a service that is killed and comes back, a file that cannot be used, and a weir that is told to end.

use crate::support::{Weir, eventually, free_port};
use crate::support_rpc::keyed::{fields, http1};
use crate::support_rpc::scripted::Scripted;
use crate::support_rpc::{Grpc, POSTS};
use crate::{Scene, file, one};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tonic::Code;

#[test]
fn a_client_that_leaves_a_stream_stops_the_work() {
    let scene = Scene::new("", "");
    scene.client().stream_and_leave("weir.test.Service/Stream", 3);
    eventually("the service is told", || scene.service.told.cancelled() == 1);
    let produced = scene.service.told.produced();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(scene.service.told.produced(), produced, "nothing more is made");
    scene.client().call_and_leave(POSTS, one("do:wait:60000"), || scene.service.told.now() > 0);
    eventually("the service is told", || scene.service.told.cancelled() == 2);
    eventually("they are counted", || scene.outcome("client_gone") == 2.0);
    scene.unharmed(8);
}

/// What became of calls.
type Ends = BTreeMap<&'static str, usize>;

/// Calls until it is told to stop.
fn load(port: u16, stop: &AtomicBool) -> Ends {
    let (mut ends, mut client) = (Ends::new(), Grpc::over_tcp(port));
    while !stop.load(Ordering::Relaxed) {
        let end = match client.call(POSTS, one("do:wait:5"), &[]) {
            Ok(reply) => {
                assert_eq!(fields(&reply, 1).len(), 1);
                "ok"
            }
            Err(status) => match status.code() {
                // The service may have done it.
                Code::Internal => "internal",
                // It has seen nothing.
                Code::Unavailable => "unavailable",
                _ => panic!("{status:?}"),
            },
        };
        *ends.entry(end).or_default() += 1;
    }
    ends
}

/// GETs, which may be repeated, until it is told to stop: all of them succeed.
fn reads(port: u16, stop: &AtomicBool) -> usize {
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let (head, body) = http1(port, "GET /xrpc/app.bsky.feed.getPosts?uris=do:wait:5 HTTP/1.1", b"");
        assert!(head.starts_with("HTTP/1.1 200 "), "read {count}: {head}{}", String::from_utf8_lossy(&body));
        count += 1;
    }
    count
}

#[test]
fn a_service_is_killed_and_comes_back_under_load() {
    let (one_port, other_port) = (free_port(), free_port());
    let other = Scripted::at(other_port);
    let mut killed = Some(Scripted::at(one_port));
    let weir = Weir::with_file(&format!(
        "[service.dataplane]\nservers = [\"127.0.0.1:{one_port}\", \"127.0.0.1:{other_port}\"]\npreset = \"bsky\"\n\
         retry_percent = 100\nconnect_timeout = \"5s\"\n\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n"
    ));
    let stop = AtomicBool::new(false);
    let (calls, reads) = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..4).map(|_| scope.spawn(|| load(weir.port, &stop))).collect();
        let reads: Vec<_> = (0..2).map(|_| scope.spawn(|| reads(weir.port, &stop))).collect();
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(400));
            drop(killed.take());
            std::thread::sleep(Duration::from_millis(400));
            killed = Some(Scripted::at(one_port));
        }
        let back = killed.as_ref().expect("it is back").told.clone();
        eventually("the one that is back has work", || back.calls() > 5);
        stop.store(true, Ordering::Relaxed);
        let mut ends = Ends::new();
        for thread in calls {
            for (end, count) in thread.join().expect("every call has an end that says what happened") {
                *ends.entry(end).or_default() += count;
            }
        }
        (ends, reads.into_iter().map(|thread| thread.join().expect("no read fails")).sum::<usize>())
    });
    println!("calls: {calls:?}, reads: {reads}");
    let failed = |what| calls.get(what).copied().unwrap_or(0);
    assert!(failed("ok") > 50 && reads > 20, "{calls:?}, {reads} reads");
    // Each kill hits no more than what was under way: one of each of the four.
    assert!(failed("internal") <= 12, "{calls:?}");
    assert_eq!(failed("unavailable"), 0, "the other server is there: {calls:?}");
    let lost = weir.series("weir_requests_total", &[("outcome", "backend_lost")]).unwrap_or(0.0);
    assert_eq!(lost, failed("internal") as f64, "each is counted");
    assert!(weir.series("weir_rpc_retries_total", &[("result", "sent")]).is_some_and(|sent| sent > 0.0));
    drop(other);
}

#[test]
fn without_a_service_calls_are_told_at_once_and_served_when_it_is_back() {
    let service = Scripted::start();
    let port = service.port;
    let weir = Weir::with_file(&file(port, "connect_timeout = \"200ms\"\n", ""));
    let mut client = Grpc::over_tcp(weir.port);
    client.call(POSTS, one("at://a"), &[]).expect("answered");
    drop(service);
    for _ in 0..5 {
        let began = Instant::now();
        let error = client.call(POSTS, one("at://a"), &[]).expect_err("nobody is there");
        assert_eq!(error.code(), Code::Unavailable, "{error:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    let lost = [("outcome", "backend_lost")];
    eventually("they are counted", || weir.series("weir_requests_total", &lost) == Some(5.0));
    let down = weir.logs("cause=\"backend_down\"");
    assert!(down.contains(&format!("127.0.0.1:{port}")) && down.contains("refused"), "{down}");
    let _service = Scripted::at(port);
    eventually("it is served", || client.call(POSTS, one("at://a"), &[]).is_ok());
    weir.logs("cause=\"backend_up\"");
}

#[test]
fn a_file_that_cannot_be_used_changes_nothing() {
    let scene = Scene::new("", "");
    let good = scene.weir.series("weir_config_last_reload_successful", &[]);
    assert_eq!(good, Some(1.0));
    scene.weir.rewrite(&file(scene.service.port, "chunk_keys = 0\nno_such_key = 1\n", ""));
    scene.weir.hang_up();
    eventually("it is refused", || scene.weir.series("weir_config_last_reload_successful", &[]) == Some(0.0));
    scene.weir.logs("no_such_key");
    scene.client().call(POSTS, one("at://a"), &[]).expect("answered as before");
    scene.weir.rewrite(&file(
        scene.service.port,
        "",
        "[undeclared]\noperations_per_request = 10\nmode = \"refuse\"\n",
    ));
    scene.weir.hang_up();
    eventually("a good one is taken", || {
        scene.weir.series("weir_config_last_reload_successful", &[]) == Some(1.0)
    });
    let many: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let many = crate::support_rpc::keyed::request(&many);
    eventually("the limit is in force", || scene.client().call(POSTS, many.clone(), &[]).is_err());
    scene.unharmed(16);
}

#[test]
fn a_call_under_way_is_answered_while_weir_ends() {
    let service = Scripted::start();
    let mut weir = Weir::with_file(&file(service.port, "", ""));
    let mut client = Grpc::over_tcp(weir.port);
    let call = std::thread::spawn(move || client.call(POSTS, one("do:wait:1500"), &[]));
    eventually("it is under way", || service.told.now() == 1);
    let began = Instant::now();
    weir.process.signal(libc::SIGTERM);
    eventually("the door closes", || std::net::TcpStream::connect(("127.0.0.1", weir.port)).is_err());
    assert!(
        began.elapsed() < Duration::from_millis(1_300),
        "while the call is under way: {:?}",
        began.elapsed()
    );
    let reply = call.join().expect("no panic").expect("answered");
    assert_eq!(fields(&reply, 1).len(), 1);
    assert!(weir.process.wait().success(), "{}", weir.log());
    assert_eq!(service.told.cancelled(), 0);
}
