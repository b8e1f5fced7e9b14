//! Bodies: truncated, of the wrong kind, slow, in crumbs, with too many keys, and those that nobody reads.

use crate::raw::{self, DATA, END_HEADERS, END_STREAM, HEADERS, frame, head, preface};
use crate::support::{eventually, wait_for};
use crate::support_rpc::POSTS;
use crate::support_rpc::keyed::{fields, http1, request};
use crate::{Scene, one};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tonic::Code;

/// A call of gRPC whose body is these bytes: whether it is answered.
fn is_answered(port: u16, body: &[u8]) -> bool {
    let mut bytes = preface(&[]);
    bytes.extend(frame(HEADERS, END_HEADERS, 1, &head()));
    bytes.extend(frame(DATA, END_STREAM, 1, body));
    let (answer, ended) = raw::send(&raw::connect(port), &bytes);
    !ended && raw::kinds(&answer).contains(&HEADERS)
}

#[test]
fn what_cannot_be_read_never_reaches_the_service() {
    let scene = Scene::new("", "");
    let malformed: [(&str, &'static [u8]); 3] =
        [("truncated", &[0x0a, 5, b'a']), ("group", &[0x0b, 0x0c]), ("field_number", &[0x02, 1, b'a'])];
    for (cause, message) in malformed {
        let error = scene.client().call(POSTS, message.into(), &[]).expect_err("it cannot be read");
        assert_eq!(error.code(), Code::InvalidArgument, "{cause}: {error:?}");
        eventually(&format!("{cause} is counted"), || scene.invalid(cause) == 1.0);
    }
    let framed: [(&str, &[u8]); 3] = [
        ("frame_truncated", &[0, 0, 0, 0, 9, 0x0a, 1, b'a']),
        ("frame_flag", &[7, 0, 0, 0, 3, 0x0a, 1, b'a']),
        ("message_too_large", &[0, 0xff, 0xff, 0xff, 0xff, 0]),
    ];
    for (cause, body) in framed {
        assert!(is_answered(scene.weir.port, body), "{cause}");
        eventually(&format!("{cause} is counted"), || scene.invalid(cause) == 1.0);
    }
    let connect =
        format!("POST /{POSTS} HTTP/1.1\r\nconnect-protocol-version: 1\r\ncontent-type: application/");
    for (cause, kind, body) in [
        ("json_truncated", "json", &b"{\"uris\":[\"at:"[..]),
        ("json_syntax", "json", b"{\"uris\":}"),
        ("varint", "proto", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        let (head, body) = http1(scene.weir.port, &format!("{connect}{kind}"), body);
        let body = String::from_utf8_lossy(&body).into_owned();
        assert!(head.starts_with("HTTP/1.1 400 ") && body.contains("invalid_argument"), "{head}{body}");
        eventually(&format!("{cause} is counted"), || scene.invalid(cause) == 1.0);
    }
    let own = |seen: &crate::support_rpc::scripted::Seen| seen.keys != 1 || seen.path != format!("/{POSTS}");
    assert!(!scene.service.told.seen().iter().any(own), "only the neighbour's calls reached it");
    assert_eq!(scene.outcome("invalid"), 8.0);
    assert_eq!(scene.outcome("refused"), 1.0, "the one that is too large");
    scene.unharmed(8);
}

#[test]
fn other_content_types_pass_as_one_operation_for_the_service_to_judge() {
    let scene = Scene::new("", "[undeclared]\noperations_per_request = 10\nmode = \"refuse\"\n");
    let keys: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for kind in ["text/plain", "application/x-protobuf-of-mine", "application/grpc-web-text"] {
        let head = format!("POST /{POSTS} HTTP/1.1\r\ncontent-type: {kind}");
        let (head, _) = http1(scene.weir.port, &head, &request(&keys));
        assert!(head.starts_with("HTTP/1.1 200 "), "{kind}: {head}");
    }
    scene.unharmed(8);
}

/// An HTTP/1.1 request whose body stops in its middle.
fn stalled(port: u16) -> TcpStream {
    let mut stream = raw::connect(port);
    let head = format!(
        "POST /{POSTS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: 100000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    stream.write_all(&[0x0a; 1]).expect("sent");
    stream
}

#[test]
fn slow_clients_are_cut_and_counted() {
    let scene = Scene::new("request_timeout = \"1s\"\n", "");
    let began = Instant::now();
    let mut bodies: Vec<TcpStream> = (0..50).map(|_| stalled(scene.weir.port)).collect();
    let heads: Vec<TcpStream> = (0..50)
        .map(|_| {
            let mut stream = raw::connect(scene.weir.port);
            stream.write_all(b"GET / HTTP/1.1\r\nhost:").expect("sent");
            stream
        })
        .collect();
    for stream in &mut bodies {
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert_eq!(&status, b"HTTP/1.1 504");
    }
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    eventually("they are counted", || scene.outcome("timeout") == 50.0);
    drop(bodies);
    // Heads have ten seconds, however they trickle.
    for mut stream in heads {
        let _ = stream.write_all(b"x");
        while !matches!(stream.read(&mut [0; 64]), Ok(0) | Err(_)) {}
    }
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    eventually("they are counted", || scene.closed("slow") == 50.0);
    scene.unharmed(16);
}

#[test]
fn a_slow_service_is_left_at_the_deadline() {
    let scene = Scene::new("request_timeout = \"700ms\"\n", "");
    let mut client = scene.client();
    for (key, headers) in [
        ("do:wait:60000", &[][..]),
        ("do:wait:60001", &[("grpc-timeout", "300m")]),
        // 10 s of crumbs.
        ("do:drip:1000000", &[]),
        ("do:drip:1000001", &[("grpc-timeout", "300m")]),
    ] {
        let began = Instant::now();
        let before = scene.service.told.cancelled();
        let error = client.call(POSTS, one(key), headers).expect_err("too late");
        assert!(matches!(error.code(), Code::DeadlineExceeded | Code::Cancelled), "{key}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(3), "{key}: {:?}", began.elapsed());
        eventually("its work stops", || scene.service.told.cancelled() == before + 1);
    }
    // tonic's own clock may be first.
    eventually("they are counted", || scene.outcome("timeout") + scene.outcome("client_gone") == 4.0);
    assert!(scene.outcome("timeout") >= 2.0);
    scene.unharmed(8);
}

#[test]
fn seventy_thousand_keys() {
    let keys: Vec<String> = (0..70_000).map(|number| format!("at://did:plc:abc/post/{number}")).collect();
    let over = Scene::new("", "[undeclared]\noperations_per_request = 50_000\nmode = \"refuse\"\n");
    let refused = over.client().call(POSTS, request(&keys), &[]).expect_err("refused");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(over.service.told.seen().iter().all(|seen| seen.keys == 1), "the service sees nothing of it");
    let labels = [("reason", "operations_per_request"), ("mode", "refuse")];
    eventually("it is counted", || over.weir.series("weir_rejected_total", &labels) == Some(1.0));
    over.unharmed(16);

    let under = Scene::new("", "");
    let reply = under.client().call(POSTS, request(&keys), &[]).expect("answered");
    assert_eq!(fields(&reply, 1).len(), 70_000);
    assert!(under.service.told.seen().iter().all(|seen| seen.keys <= 100), "in parts");
    let size = (request(&keys).len() + reply.len()) as u64 >> 20;
    under.unharmed(8 + 4 * size);
}

#[test]
fn crumbs_cost_no_more_than_bread() {
    let scene = Scene::new("request_timeout = \"20s\"\n", "");
    const BYTES: usize = 1 << 20;
    // One message of a key of a megabyte, byte by byte, without its end: held until then.
    let mut crumbs = preface(&[]);
    crumbs.extend(frame(HEADERS, END_HEADERS, 1, &head()));
    let length = u32::try_from(BYTES).expect("small");
    let start = [&[0][..], &length.to_be_bytes(), &[0x0a, 0xfb, 0xff, 0x3f]].concat();
    crumbs.extend(frame(DATA, 0, 1, &start));
    let crumb = frame(DATA, 0, 1, b"k");
    crumbs.extend(crumb.repeat(BYTES - 100));
    let mut held: Vec<TcpStream> = (0..4).map(|_| raw::connect(scene.weir.port)).collect();
    for stream in &mut held {
        // Windows are announced meanwhile, and nobody reads that: it is little.
        // It may be cut off for that.
        let _ = stream.write_all(&crumbs);
    }
    // HTTP/1.1 has chunks.
    let mut chunked = raw::connect(scene.weir.port);
    let head = format!(
        "POST /{POSTS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    chunked.write_all(head.as_bytes()).expect("sent");
    chunked.write_all(b"4\r\n\x0a\xfb\xff\x3f\r\n").expect("sent");
    let _ = chunked.write_all(&b"1\r\nk\r\n".repeat(BYTES - 100));
    std::thread::sleep(Duration::from_millis(500));
    drop((held, chunked));
    // HTTP/2's own guard against small frames may end a connection before its call began.
    let ways = || ["client", "io", "protocol"].map(|how| scene.closed(how));
    eventually("each is counted", || ways().iter().sum::<f64>() == 5.0);
    scene.unharmed(32);
}

#[test]
fn replies_that_nobody_reads_stop_nobody() {
    let scene = Scene::new("", "");
    // A hundred replies of 2 MB on a connection whose windows stay closed, and twenty over HTTP/1.1.
    let mut bytes = preface(&[(4, 0)]);
    let mut call = vec![0];
    let message = one("do:size:2000000");
    call.extend(u32::try_from(message.len()).expect("small").to_be_bytes());
    call.extend(&message);
    for stream in (1..201).step_by(2) {
        bytes.extend(frame(HEADERS, END_HEADERS, stream, &head()));
        bytes.extend(frame(DATA, END_STREAM, stream, &call));
    }
    let mut deaf = raw::connect(scene.weir.port);
    deaf.write_all(&bytes).expect("sent");
    let connect: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = raw::connect(scene.weir.port);
            let head = format!(
                "POST /{POSTS} HTTP/1.1\r\nhost: x\r\ncontent-type: application/proto\r\ncontent-length: {}\r\n\r\n",
                message.len()
            );
            stream.write_all(&[head.as_bytes(), &message].concat()).expect("sent");
            stream
        })
        .collect();
    let large = || scene.service.told.seen().iter().filter(|seen| seen.first == "do:size:2000000").count();
    eventually("they are under way", || large() == 120);
    let before = scene.service.told.calls();
    // Long before any of them is cut for not reading (write_timeout, 30 s), on a busy machine too.
    let goes_on = || (scene.service.told.calls() > before + 20).then_some(());
    wait_for("the neighbour goes on", Duration::from_secs(10), goes_on);
    drop((deaf, connect));
    scene.unharmed(160);
}
