//! Calls in JSON and of gRPC-web in parts: what they come to in one, through the real edge, against a data plane that
//! speaks both; and their other ends.

use crate::data_plane::{answer, request};
use crate::json::{self, Spelling, written};
use crate::samples::Draw;
use crate::split::{POSTS, edge, posts, settings};
use crate::support::records::{self, METHODS, script};
use crate::support::window::Splitting;
use crate::support::{Running, client, start_with, until};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use weir_edge::{Outcome, PartFailed};
use weir_rpc::MergeError;
use weir_rpc::schema::prost_reflect::prost::Message as _;

const WEB: &str = "application/grpc-web+proto";

/// A way to say the same.
#[derive(Clone, Copy, Debug)]
struct Flavour {
    kind: &'static str,
    /// The version of HTTP.
    version: u8,
    /// Connect's header is there.
    connect: bool,
}

const FLAVOURS: [Flavour; 7] = [
    Flavour { kind: WEB, version: 1, connect: false },
    Flavour { kind: "application/grpc-web", version: 2, connect: false },
    Flavour { kind: "application/grpc-web+json", version: 1, connect: false },
    Flavour { kind: "application/grpc+json", version: 2, connect: false },
    Flavour { kind: "application/json", version: 1, connect: true },
    Flavour { kind: "application/json", version: 2, connect: true },
    Flavour { kind: "application/json", version: 1, connect: false },
];

impl Flavour {
    fn in_json(self) -> bool {
        self.kind.ends_with("json")
    }

    fn has_prefixes(self) -> bool {
        self.kind.starts_with("application/grpc")
    }

    /// A request to `path`.
    fn request(self, path: &str, message: Vec<u8>) -> http::Request<client::Body> {
        let body = if self.has_prefixes() { framed(&message) } else { message };
        let uri = if self.version == 1 { path.to_owned() } else { format!("http://weir.test{path}") };
        let mut request = client::post(&uri, self.kind, client::full(body));
        if self.connect {
            request.headers_mut().insert("connect-protocol-version", 1.into());
        }
        request
    }

    async fn call(self, edge: &Running, path: &str, message: Vec<u8>) -> client::Answer {
        let request = self.request(path, message);
        if self.version == 1 {
            return client::http1(edge.port, request).await;
        }
        let mut client = client::http2(edge.port).await;
        client::read(client.send_request(request).await.expect("a reply")).await
    }
}

/// The request for these keys, in any flavour.
fn asking(flavour: Flavour, keys: impl IntoIterator<Item = String>) -> Vec<u8> {
    if flavour.in_json() { posts_json(keys) } else { posts(keys).to_vec() }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// The message in a body, and the trailers of gRPC-web.
fn unframed(body: &Bytes) -> (Option<Bytes>, String) {
    let (mut left, mut message, mut trailers) = (body.clone(), None, String::new());
    while !left.is_empty() {
        let front = left.split_to(5);
        let length = u32::from_be_bytes(front[1..].try_into().expect("four bytes"));
        let payload = left.split_to(length as usize);
        match front[0] {
            0 => message = Some(payload),
            0x80 => trailers = String::from_utf8(payload.to_vec()).expect("text"),
            other => panic!("a message of kind {other}"),
        }
    }
    (message, trailers)
}

fn parsed(text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text).expect("JSON")
}

/// A request for posts in JSON.
fn posts_json(keys: impl IntoIterator<Item = String>) -> Vec<u8> {
    let keys: Vec<String> = keys.into_iter().collect();
    serde_json::json!({ "uris": keys }).to_string().into_bytes()
}

/// Keys that work for ever, but one.
fn hanging(but: usize, with: &str) -> impl Iterator<Item = String> {
    (0..50)
        .map(move |number| if number == but { with.to_owned() } else { format!("{}{number}", script::HANG) })
}

/// Any preset method, keys with duplicates, parts of any size, any window, any flavour.
#[test]
fn split_is_unsplit_in_every_flavour() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let service = runtime.block_on(records::start());
    let mut methods: Vec<_> = METHODS.iter().collect();
    methods.sort_by_key(|(path, _)| *path);
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() });
    let any =
        (any::<u64>(), 0..methods.len(), 0..FLAVOURS.len(), 0_u64..120, 1_u64..60, 1_usize..40, 1_u32..12);
    let outcome = runner.run(&any, |(seed, method, flavour, keys, pool, chunk_keys, window)| {
        let (path, (method, descriptor)) = methods[method];
        let flavour = FLAVOURS[flavour];
        let mut draw = Draw::new(seed);
        let asked = request(method, descriptor, &mut draw, keys, pool);
        let (message, wanted) = if flavour.in_json() {
            let message = written(&asked, Spelling::drawn(&mut draw)).to_string().into_bytes();
            let wanted = json::answer(method, descriptor, &message, Spelling::Camel);
            (message, wanted)
        } else {
            let message = asked.encode_to_vec();
            let wanted = answer(method, descriptor, &message);
            (message, wanted)
        };
        let gate = Splitting::new(chunk_keys, window);
        let (reply, end) = runtime.block_on(async {
            let edge = edge(&service, &gate);
            let reply = flavour.call(&edge, path, message).await;
            until("its end", || gate.told().ends.len() == 1).await;
            let end = gate.told().ends[0].clone();
            (reply, end)
        });
        prop_assert_eq!(reply.status, 200);
        prop_assert_eq!(&reply.headers["content-type"], flavour.kind);
        let (message, trailers) = match flavour.has_prefixes() {
            true => unframed(&reply.body),
            false => (Some(reply.body.clone()), String::new()),
        };
        let message = message.expect("a message");
        if flavour.in_json() {
            prop_assert_eq!(parsed(&message), parsed(&wanted), "{} {:?}", path, flavour);
        } else {
            prop_assert_eq!(&message[..], &wanted[..], "{} {:?}", path, flavour);
        }
        if flavour.kind.starts_with("application/grpc-web") {
            prop_assert!(trailers.contains("grpc-status: 0\r\n"), "{}", trailers);
        }
        let chunks = keys.div_ceil(chunk_keys as u64);
        prop_assert_eq!(u64::from(end.parts), if chunks > 1 { chunks } else { 0 });
        Ok(())
    });
    outcome.expect("split is unsplit");
}

#[tokio::test]
async fn the_whole_of_grpc_web_has_the_first_part_s_head_and_trailers() {
    let service = records::start().await;
    let gate = Splitting::new(7, 3);
    let edge = edge(&service, &gate);
    let message = posts((0..100).map(|number| format!("at://x/{}", number % 40)));
    for flavour in [FLAVOURS[0], FLAVOURS[1]] {
        let reply = flavour.call(&edge, POSTS, message.to_vec()).await;
        assert_eq!(reply.status, 200);
        assert_eq!(reply.headers["x-keys"], "7");
        assert_eq!(reply.headers["content-length"], reply.body.len().to_string());
        assert!(!reply.headers.contains_key("grpc-status") && reply.trailers.is_none());
        assert_eq!(unframed(&reply.body).1, "grpc-status: 0\r\nx-keys-again: 7\r\n");
    }
    until("the gate hears of both", || gate.told().ends.len() == 2).await;
    assert_eq!(service.log.seen(), 2 * 15);
    for end in &gate.told().ends {
        assert_eq!((end.outcome, end.grpc_status, end.parts), (Outcome::Answered, Some(0), 15));
    }
    assert_eq!((gate.live(), edge.edge.held_bytes()), (0, 0));
}

#[tokio::test]
async fn the_error_of_a_part_is_the_error_of_the_call() {
    let service = records::start().await;
    service.log.fails_after.store(4, Ordering::Relaxed);
    // Odd ones are in the body, even ones in the head.
    for (status, flavour) in [(5, FLAVOURS[0]), (5, FLAVOURS[1]), (4, FLAVOURS[0]), (4, FLAVOURS[1])] {
        service.log.seen.lock().expect("no panic").clear();
        let before = service.log.cancelled();
        let gate = Splitting::new(1, 4);
        let edge = edge(&service, &gate);
        let message = posts(hanging(1, &format!("{}{status:02}", script::FAIL)));
        let reply = flavour.call(&edge, POSTS, message.to_vec()).await;
        assert_eq!(reply.status, 200);
        let (message, trailers) = unframed(&reply.body);
        assert_eq!(message, None);
        if status == 5 {
            assert_eq!(trailers, "grpc-status: 5\r\ngrpc-message: no. 5\r\nx-why: the part says\r\n");
        } else {
            assert_eq!(trailers, "");
            assert_eq!(reply.headers["grpc-message"], "no. 4");
        }
        until("the others are taken back", || service.log.cancelled() == before + 3).await;
        until("the gate hears of it", || gate.told().ends.len() == 1).await;
        let told = gate.told();
        assert_eq!(told.failed, [(1, PartFailed::Error { grpc_status: status })]);
        let end = &told.ends[0];
        assert_eq!((end.outcome, end.grpc_status, end.parts), (Outcome::Answered, Some(status), 4));
    }
    for flavour in [FLAVOURS[4], FLAVOURS[6]] {
        service.log.seen.lock().expect("no panic").clear();
        let before = service.log.cancelled();
        let gate = Splitting::new(1, 4);
        let edge = edge(&service, &gate);
        let message = posts_json(hanging(1, &format!("{}05", script::FAIL)));
        let reply = flavour.call(&edge, POSTS, message).await;
        assert_eq!(reply.status, 404);
        assert_eq!(reply.headers["x-why"], "the part says");
        assert_eq!(reply.body, "{\"code\":\"not_found\",\"message\":\"no. 5\"}");
        until("the others are taken back", || service.log.cancelled() == before + 3).await;
    }
}

#[tokio::test]
async fn replies_that_do_not_fit_fail_the_call_and_are_told() {
    let service = records::start().await;
    let json = FLAVOURS[4];
    let gate = Splitting::new(1, 4);
    let running = edge(&service, &gate);
    let reply = json.call(&running, POSTS, posts_json(hanging(1, script::LOSES))).await;
    assert_eq!((reply.status, parsed(&reply.body)["code"].as_str()), (500, Some("internal")));
    until("the gate hears of it", || gate.told().ends.len() == 1).await;
    let lost = MergeError::LengthMismatch { field: "records".into(), keys: 1, elements: 2 };
    assert_eq!(gate.told().merge_errors, [lost]);

    let gate = Splitting::new(1, 4);
    let running = edge(&service, &gate);
    let reply = FLAVOURS[0].call(&running, POSTS, posts(hanging(1, script::COMPRESSED)).to_vec()).await;
    assert_eq!(reply.headers["grpc-status"], "13");
    until("the gate hears of it", || gate.told().ends.len() == 1).await;
    assert_eq!(gate.told().failed, [(1, PartFailed::Unreadable)]);
    until("all parts are taken back", || service.log.now.load(Ordering::Relaxed) == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_all_parts_with_it() {
    let service = records::start().await;
    for flavour in FLAVOURS {
        let (seen, cancelled) = (service.log.seen(), service.log.cancelled());
        let gate = Splitting::new(1, 8);
        let edge = edge(&service, &gate);
        let message = asking(flavour, hanging(0, "at://x"));
        let port = edge.port;
        let call = tokio::spawn(async move {
            let request = flavour.request(POSTS, message);
            match flavour.version {
                1 => drop(client::http1(port, request).await),
                _ => drop(client::http2(port).await.send_request(request).await),
            }
        });
        until(&format!("{flavour:?}: parts are under way"), || service.log.seen() == seen + 9).await;
        call.abort();
        until("all are taken back", || service.log.cancelled() == cancelled + 8).await;
        until("the gate hears of it", || gate.told().ends.len() == 1).await;
        let end = gate.told().ends[0].clone();
        assert_eq!((end.outcome, end.parts), (Outcome::ClientGone, 9), "{flavour:?}");
        assert_eq!((service.log.seen(), gate.live(), edge.edge.held_bytes()), (seen + 9, 0, 0));
    }
}

#[tokio::test]
async fn replies_and_requests_above_their_caps_are_refused_in_the_client_s_words() {
    let service = records::start().await;
    for flavour in FLAVOURS {
        let gate = Splitting::new(10, 4);
        let mut small = settings(&service);
        (small.requests.split_reply_bytes, small.requests.body_bytes) = (2_000, 40_000);
        let edge = start_with(small, Arc::new(gate.clone()));
        let keys = |most: u64| (0..most).map(|number| format!("at://did:plc:{number:05}"));
        let refused = |reply: &client::Answer, words: &str| {
            let said = if flavour.has_prefixes() {
                assert_eq!((reply.status, &reply.headers["grpc-status"]), (200, &8.into()), "{flavour:?}");
                reply.headers["grpc-message"].to_str().expect("text").to_owned()
            } else {
                assert_ne!(reply.status, 200, "{flavour:?}");
                String::from_utf8(reply.body.to_vec()).expect("text")
            };
            assert!(said.contains(words), "{flavour:?}: {said}");
        };
        let reply = flavour.call(&edge, POSTS, asking(flavour, keys(1_000))).await;
        refused(&reply, "the replies of its parts are larger than 2000 bytes together");
        until("the gate hears of it", || gate.told().ends.len() == 1).await;
        assert_eq!(gate.told().ends[0].outcome, Outcome::Refused);
        assert!(gate.told().failed.iter().all(|(_, why)| *why == PartFailed::TooLarge));
        // The next one fits: a limit stops nothing.
        let reply = flavour.call(&edge, POSTS, asking(flavour, keys(11))).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.headers.contains_key("grpc-status"), "{flavour:?}");
        let seen = service.log.seen();
        let reply = flavour.call(&edge, POSTS, asking(flavour, keys(3_000))).await;
        refused(&reply, "larger than 40000 bytes");
        assert_eq!(service.log.seen(), seen, "the service does not hear of it");
    }
}
