//! Calls for many keys in parts, through a running weir: what the client gets is what the service would have said to the
//! whole, and what the service gets is small parts, few at a time.

mod support;
mod support_rpc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{Weir, eventually};
use support_rpc::keyed::{Keyed, MISSING, fields, http1, request};
use support_rpc::scripted::Scripted;
use support_rpc::{Grpc, POSTS};

/// The request of April.
const MANY: usize = 15_000;

fn weir(service: &Keyed, more: &str) -> Weir {
    in_front_of(service.port, more)
}

fn in_front_of(port: u16, more: &str) -> Weir {
    Weir::with_file(&format!(
        "[service.dataplane]\nservers = [\"127.0.0.1:{port}\"]\npreset = \"bsky\"\n{more}\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n",
    ))
}

/// 15,000 keys: every seventh is asked for again at once, every eleventh is one that the service does not have.
fn many() -> Vec<String> {
    let key = |number: usize| match number {
        number if number % 11 == 0 => format!("{MISSING}{number}"),
        number if number % 7 == 0 => format!("at://did:plc:abc/app.bsky.feed.post/{}", number - 1),
        number => format!("at://did:plc:abc/app.bsky.feed.post/{number}"),
    };
    (0..MANY).map(key).collect()
}

fn nothing_is_left(weir: &Weir) {
    let own = [("service", "dataplane")];
    for name in ["weir_rpc_calls", "weir_rpc_chunk_keys_waiting"] {
        eventually("nothing is left", || weir.series(name, &own) == Some(0.0));
    }
}

#[test]
fn split_and_whole_say_the_same() {
    let service = Keyed::start();
    let keys = many();
    let whole = {
        let weir = weir(&service, "split = false\n");
        Grpc::over_tcp(weir.port).call(POSTS, request(&keys), &[]).expect("answered")
    };
    assert_eq!(service.calls(), [MANY], "it went whole");
    assert_eq!((fields(&whole, 1).len(), fields(&whole, 2).len()), (MANY, MANY));

    let weir = weir(&service, "");
    service.hold(true);
    let mut client = Grpc::over_tcp(weir.port);
    let split = std::thread::scope(|scope| {
        let call = scope.spawn(|| client.call(POSTS, request(&keys), &[]));
        let mut neighbour = Grpc::over_tcp(weir.port);
        // Parts are held at the service: as many as may be are there, and none moves.
        eventually("parts are at the service", || service.parts_held() > 0);
        for number in 0..50 {
            let key = [format!("at://neighbour/{number}")];
            let reply = neighbour.call(POSTS, request(&key), &[]).expect("a small call is served meanwhile");
            assert_eq!(fields(&reply, 1).len(), 1);
        }
        assert!(!call.is_finished(), "all of them before the large one");
        service.hold(false);
        call.join().expect("no panic")
    });
    assert!(split.expect("answered") == whole, "rows, order, duplicates and missing ones");
    let parts: Vec<usize> = service.calls()[1..].iter().copied().filter(|keys| *keys > 1).collect();
    assert_eq!(parts, vec![100; 150], "parts of chunk_keys, each once");
    let most = service.most.load(Ordering::Relaxed);
    let settings = weir_engine::settings::ServiceSettings::new("dataplane", Vec::new());
    assert!(most > 1 && most <= settings.chunks_in_flight as usize, "{most} parts at once");

    let own = [("service", "dataplane")];
    let ok = [("service", "dataplane"), ("outcome", "ok")];
    eventually("it is counted", || weir.series("weir_rpc_splits_total", &ok) == Some(1.0));
    assert_eq!(weir.series("weir_rpc_chunks_total", &own), Some(150.0));
    let expensive = weir.control("/expensive").to_string();
    assert!(expensive.contains("\"chunks\":150"), "{expensive}");
    nothing_is_left(&weir);
}

#[test]
fn one_part_that_fails_fails_the_call() {
    let service = Keyed::start();
    let weir = weir(&service, "chunk_keys = 10\n");
    let mut keys: Vec<String> = (0..200).map(|number| format!("at://a/{number}")).collect();
    keys[95] = "fail".to_owned();
    let status = Grpc::over_tcp(weir.port).call(POSTS, request(&keys), &[]).expect_err("it fails");
    assert_eq!((status.code(), status.message()), (tonic::Code::DataLoss, "this key"), "{status:?}");
    let failed = [("service", "dataplane"), ("outcome", "error")];
    eventually("it is counted", || weir.series("weir_rpc_splits_total", &failed) == Some(1.0));
    keys.remove(95);
    let reply = Grpc::over_tcp(weir.port).call(POSTS, request(&keys), &[]).expect("the next one is split");
    assert_eq!(fields(&reply, 1).len(), 199);
    nothing_is_left(&weir);
}

#[test]
fn a_reply_that_is_not_described_stops_the_splitting_of_its_method() {
    let service = Keyed::start();
    let weir = weir(&service, "chunk_keys = 10\n");
    let mut keys: Vec<String> = (0..50).map(|number| format!("at://a/{number}")).collect();
    keys[7] = "unknown".to_owned();
    let mut client = Grpc::over_tcp(weir.port);
    let status = client.call(POSTS, request(&keys), &[]).expect_err("nobody can put it together");
    assert_eq!(status.code(), tonic::Code::Internal, "{status:?}");
    let stopped = [("method", POSTS)];
    eventually("it is counted", || weir.series("weir_rpc_split_stopped_total", &stopped) == Some(1.0));
    assert!(weir.logs("split_stopped").contains("a field 9"), "{}", weir.log());
    let before = service.calls().len();
    let reply = client.call(POSTS, request(&keys), &[]).expect("the next one goes whole");
    assert_eq!((fields(&reply, 1).len(), fields(&reply, 9).len()), (50, 1));
    assert_eq!(service.calls()[before..], [50]);
    let whole = [("cause", "stopped")];
    eventually("so is that", || weir.series("weir_rpc_unsplit_total", &whole) == Some(1.0));
    nothing_is_left(&weir);
}

#[test]
fn a_client_that_leaves_and_a_deadline_take_every_part_back() {
    let service = Keyed::start();
    let weir = weir(&service, "chunk_keys = 10\nretry_percent = 0\n");
    let keys: Vec<String> = (0..500).map(|number| format!("at://a/{number}")).collect();
    service.hold(true);
    let began = Instant::now();
    let late = [("grpc-timeout", "300m")];
    let status = Grpc::over_tcp(weir.port).call(POSTS, request(&keys), &late).expect_err("too late");
    assert!(began.elapsed() >= Duration::from_millis(250), "{status:?}");
    assert!(matches!(status.code(), tonic::Code::DeadlineExceeded | tonic::Code::Cancelled), "{status:?}");
    let timeout = [("service", "dataplane"), ("outcome", "timeout")];
    let gone = [("service", "dataplane"), ("outcome", "client_gone")];
    eventually("it is counted", || {
        let of = |labels| weir.series("weir_rpc_splits_total", labels).unwrap_or(0.0);
        of(&timeout) + of(&gone) == 1.0
    });
    eventually("parts were taken back", || service.parts_held() == 0);
    let before = weir.series("weir_rpc_splits_total", &gone).unwrap_or(0.0);
    Grpc::over_tcp(weir.port).call_and_leave(POSTS, request(&keys), || service.parts_held() > 0);
    eventually("it is counted", || {
        weir.series("weir_rpc_splits_total", &gone).unwrap_or(0.0) == before + 1.0
    });
    eventually("parts were taken back", || service.parts_held() == 0);
    let sent = service.calls().len();
    assert!(sent <= 40, "{sent} of 100 parts were ever sent");
    service.hold(false);
    let reply = Grpc::over_tcp(weir.port).call(POSTS, request(&keys), &[]).expect("room is given back");
    assert_eq!(fields(&reply, 1).len(), 500);
    nothing_is_left(&weir);
}

#[test]
fn connect_is_split_and_what_cannot_be_goes_whole() {
    let service = Keyed::start();
    let weir = weir(&service, "chunk_keys = 10\n");
    let keys: Vec<String> = (0..95).map(|number| format!("at://a/{number}")).collect();
    let message = request(&keys);
    let connect = |kind: &str, more: &str, body: &[u8]| {
        http1(
            weir.port,
            &format!("POST /{POSTS} HTTP/1.1\r\ncontent-type: {kind}\r\nconnect-protocol-version: 1{more}"),
            body,
        )
    };
    let (head, body) = connect("application/proto", "", &message);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(fields(&Bytes::from(body), 1).len(), 95);
    assert_eq!(service.calls().len(), 10, "{:?}", service.calls());
    let (head, _) = connect("application/proto", "\r\ncontent-encoding: gzip", &message);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(service.calls().len(), 11, "compressed: whole");
    nothing_is_left(&weir);
}

#[test]
fn json_and_grpc_web_are_split_too() {
    let service = Scripted::start();
    let weir = in_front_of(service.port, "chunk_keys = 10\n");
    let keys: Vec<String> = (0..95).map(|number| format!("at://a/{}", number % 40)).collect();
    let cid = |key: &String| format!("cid of {key}");
    let post = |kind: &str, more: &str, body: &[u8]| {
        let before = service.told.calls();
        let head = format!("POST /{POSTS} HTTP/1.1\r\ncontent-type: {kind}{more}");
        let (head, body) = http1(weir.port, &head, body);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let seen: Vec<usize> = service.told.seen()[before..].iter().map(|seen| seen.keys).collect();
        (body, seen)
    };
    let mut parts = vec![10; 9];
    parts.push(5);

    // Parts may come to the service in any order.
    let sorted = |mut seen: Vec<usize>| {
        seen.sort_by_key(|keys| std::cmp::Reverse(*keys));
        seen
    };
    let json = serde_json::json!({ "uris": keys, "viewerDid": "did:plc:viewer" }).to_string();
    for more in ["\r\nconnect-protocol-version: 1", ""] {
        let (body, seen) = post("application/json", more, json.as_bytes());
        assert_eq!(sorted(seen), parts);
        let reply: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let records: Vec<_> = keys.iter().map(|key| serde_json::json!({ "cid": cid(key) })).collect();
        assert_eq!(reply, serde_json::json!({ "records": records }), "{more:?}");
    }

    let message = request(&keys);
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    let framed = [&[0], &length[..], &message].concat();
    let (body, seen) = post("application/grpc-web+proto", "", &framed);
    assert_eq!(sorted(seen), parts);
    let length = u32::from_be_bytes(body[1..5].try_into().expect("four bytes")) as usize;
    let (message, trailers) = body[5..].split_at(length);
    let records = fields(&Bytes::copy_from_slice(message), 1);
    assert_eq!(records.len(), 95);
    for (record, key) in records.iter().zip(&keys) {
        assert_eq!(fields(record, 2), [cid(key)]);
    }
    assert_eq!((trailers[0], &trailers[5..]), (0x80, &b"grpc-status: 0\r\n"[..]));

    let own = [("service", "dataplane")];
    eventually("they are counted", || weir.series("weir_rpc_chunks_total", &own) == Some(30.0));
    nothing_is_left(&weir);
}

#[test]
fn grpc_web_as_text_is_carried_as_it_is_and_goes_whole() {
    let service = Scripted::start();
    let weir = in_front_of(service.port, "chunk_keys = 10\n");
    let keys: Vec<String> = (0..95).map(|number| format!("at://a/{number}")).collect();
    let message = request(&keys);
    let length = u32::try_from(message.len()).expect("small").to_be_bytes();
    let text = STANDARD.encode([&[0], &length[..], &message].concat());
    for kind in ["application/grpc-web-text", "application/grpc-web-text+proto"] {
        let before = service.told.calls();
        let ask = |port| {
            let head = format!("POST /{POSTS} HTTP/1.1\r\ncontent-type: {kind}");
            http1(port, &head, text.as_bytes())
        };
        let (head, body) = ask(weir.port);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(head.to_lowercase().contains(&format!("content-type: {kind}\r\n")), "{head}");
        assert!(body == ask(service.port).1, "as the service says it");
        let seen: Vec<usize> = service.told.seen()[before..].iter().map(|seen| seen.keys).collect();
        assert_eq!(seen, [95, 95], "whole, and directly");
    }
    assert_eq!(weir.series("weir_rpc_chunks_total", &[("service", "dataplane")]).unwrap_or(0.0), 0.0);
    nothing_is_left(&weir);
}

#[test]
fn a_member_that_is_not_described_stops_the_splitting_of_its_method() {
    let service = Scripted::start();
    let weir = in_front_of(service.port, "chunk_keys = 10\n");
    let mut keys: Vec<String> = (0..50).map(|number| format!("at://a/{number}")).collect();
    keys[20] = "do:new".to_owned();
    let post = |keys: &[String]| {
        let body = serde_json::json!({ "uris": keys }).to_string();
        let head = "content-type: application/json\r\nconnect-protocol-version: 1";
        let head = format!("POST /{POSTS} HTTP/1.1\r\n{head}");
        http1(weir.port, &head, body.as_bytes())
    };
    let (head, body) = post(&keys);
    let body = String::from_utf8_lossy(&body).into_owned();
    assert!(head.starts_with("HTTP/1.1 5") && body.contains("notYetKnown"), "{head}{body}");
    let stopped = [("method", POSTS)];
    eventually("it is counted", || weir.series("weir_rpc_split_stopped_total", &stopped) == Some(1.0));
    assert!(weir.logs("split_stopped").contains("notYetKnown"), "{}", weir.log());
    let before = service.told.calls();
    keys.swap(0, 20);
    let (head, body) = post(&keys);
    assert!(head.starts_with("HTTP/1.1 200 "), "the next one goes whole: {head}");
    let reply: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        (reply["records"].as_array().map(Vec::len), reply["notYetKnown"].as_u64()),
        (Some(50), Some(1))
    );
    let seen: Vec<usize> = service.told.seen()[before..].iter().map(|seen| seen.keys).collect();
    assert_eq!(seen, [50]);
    let whole = [("cause", "stopped")];
    eventually("so is that", || weir.series("weir_rpc_unsplit_total", &whole) == Some(1.0));
    nothing_is_left(&weir);
}
