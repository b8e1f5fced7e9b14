//! Split calls come to what unsplit ones come to: through the real edge, against a data plane that knows the preset.

use crate::data_plane::{answer, request};
use crate::samples::Draw;
use crate::support::records::{self, METHODS, Records, script};
use crate::support::window::Splitting;
use crate::support::{Running, client, start_with, until};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tonic::Request;
use weir_edge::{AdmitAll, Gate, Outcome, Settings, UpstreamSettings};
use weir_rpc::schema::prost_reflect::prost::Message as _;

pub const POSTS: &str = "/bsky.Service/GetPostRecords";

pub fn settings(service: &Records) -> Settings {
    Settings::new("test", UpstreamSettings::http2(vec![service.address.clone()]))
}

pub fn edge(service: &Records, gate: &Splitting) -> Running {
    start_with(settings(service), Arc::new(gate.clone()))
}

/// A request for posts.
pub fn posts(keys: impl IntoIterator<Item = String>) -> Bytes {
    let mut message = Vec::new();
    for key in keys {
        message.extend_from_slice(&[0x0A, u8::try_from(key.len()).expect("short")]);
        message.extend_from_slice(key.as_bytes());
    }
    message.into()
}

pub async fn unary(
    edge: &Running,
    path: &str,
    message: Bytes,
) -> Result<tonic::Response<Bytes>, tonic::Status> {
    let mut client = client::over_tcp(edge.port).await;
    client.unary_at(path.parse().expect("a path"), Request::new(message)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_uris_in_200_parts_are_what_they_are_in_one() {
    let service = records::start().await;
    let gate = Splitting::new(100, 8);
    let (split, whole) = (edge(&service, &gate), start_with(settings(&service), Arc::new(AdmitAll)));
    // Every fourth comes twice, and a third is not there.
    let uri = |number: u64| format!("at://did:plc:{}/app.bsky.feed.post/{number}", number % 977);
    let message = posts((0..20_000).map(|number| uri(number % 15_000)));
    let wanted = unary(&whole, POSTS, message.clone()).await.expect("an answer").into_inner();
    assert_eq!(service.log.seen(), 1);
    let mut client = client::over_tcp(split.port).await;
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-asked", "by the test".parse().expect("a value"));
    request.metadata_mut().insert("x-weir-caller", "nobody".parse().expect("a value"));
    request.set_timeout(std::time::Duration::from_secs(100));
    let reply = client.unary_at(POSTS.parse().expect("a path"), request).await.expect("an answer");
    assert!(*reply.get_ref() == wanted, "byte for byte");
    let (method, descriptor) = &METHODS[POSTS];
    assert_eq!(method.name.as_ref(), "bsky.Service/GetPostRecords");
    let records = weir_rpc::schema::prost_reflect::DynamicMessage::decode(descriptor.output(), wanted);
    let records = records.expect("decodes").get_field_by_name("records").expect("is there").into_owned();
    assert_eq!(records.as_list().expect("a list").len(), 20_000);
    // Metadata both ways; of the replies' the first part's.
    let metadata = reply.metadata().clone().into_headers();
    assert_eq!(metadata["x-asked"], "by the test");
    assert_eq!([&metadata["x-keys"], &metadata["x-keys-again"]], ["100", "100"]);
    let seen = service.log.seen.lock().expect("no panic").split_off(1);
    assert_eq!(seen.len(), 200);
    for headers in &seen {
        assert_eq!(
            (&headers["x-asked"], &headers["te"]),
            (&"by the test".parse().expect("a value"), &"trailers".parse().expect("a value"))
        );
        assert_eq!(headers["traceparent"], seen[0]["traceparent"], "one request");
        let left = headers["grpc-timeout"].to_str().expect("text").trim_end_matches('u').parse::<u64>();
        assert!((1_000_000..100_000_000).contains(&left.expect("microseconds")));
        let without = ["x-weir-caller", "grpc-accept-encoding", "grpc-encoding"];
        assert!(without.iter().all(|name| !headers.contains_key(*name)), "{headers:?}");
    }
    assert!((2..=8).contains(&service.log.most.load(Ordering::Relaxed)), "the window");
    until("the gate hears of the end", || gate.told().ends.len() == 1).await;
    let told = gate.told();
    let end = &told.ends[0];
    assert_eq!((end.outcome, end.status, end.grpc_status, end.parts), (Outcome::Answered, 200, Some(0), 200));
    assert_eq!(end.reply_bytes, reply.get_ref().len() as u64 + 5);
    assert_eq!(told.reply_bytes, end.reply_bytes, "the gate sees the reply to the whole");
    assert_eq!((gate.live(), split.edge.held_bytes(), service.log.cancelled()), (0, 0, 0));
    assert_eq!(split.counted().upstream_opens, 2, "connections stay what they are");
}

/// Every method of the preset, keys with duplicates, parts of any size, any window.
#[test]
fn split_is_unsplit_for_every_method() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let service = runtime.block_on(records::start());
    let mut methods: Vec<_> = METHODS.iter().collect();
    methods.sort_by_key(|(path, _)| *path);
    assert_eq!(methods.len(), 41);
    let any = (any::<u64>(), 0_u64..120, 1_u64..60, 1_usize..40, 1_u32..12, any::<bool>());
    for (path, (method, descriptor)) in methods {
        let config = ProptestConfig { cases: 3, failure_persistence: None, ..Default::default() };
        let outcome = TestRunner::new(config).run(&any, |(seed, keys, pool, chunk_keys, window, connect)| {
            let message = request(method, descriptor, &mut Draw::new(seed), keys, pool).encode_to_vec();
            let wanted = answer(method, descriptor, &message);
            let gate = Splitting::new(chunk_keys, window);
            let (reply, parts) = runtime.block_on(async {
                let edge = edge(&service, &gate);
                let reply = if connect {
                    let request = client::post(path, "application/proto", client::full(message));
                    client::http1(edge.port, request).await.body
                } else {
                    unary(&edge, path, message.into()).await.expect("an answer").into_inner()
                };
                until("its end", || gate.told().ends.len() == 1).await;
                let parts = gate.told().ends[0].parts;
                (reply, parts)
            });
            prop_assert_eq!(reply, wanted, "{}", path);
            let chunks = keys.div_ceil(chunk_keys as u64);
            prop_assert_eq!(u64::from(parts), if chunks > 1 { chunks } else { 0 });
            Ok(())
        });
        outcome.expect("split is unsplit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_and_parts_over_4_mb() {
    let service = records::start().await;
    for chunk_keys in [100, 10_000] {
        let gate = Splitting::new(chunk_keys, 4);
        let edge = edge(&service, &gate);
        let message = posts((0..20_000).map(|number| format!("{}{number}", script::BIG)));
        let reply = unary(&edge, POSTS, message).await.expect("an answer").into_inner();
        let one = [&[0x0A, 0xE8, 0x07][..], &[0x5A; 1_000]].concat();
        assert!(reply.len() == 20_060_000 && reply.chunks(1_003).all(|record| record == one));
        until("its end", || gate.told().ends.len() == 1).await;
        assert_eq!(gate.told().ends[0].parts as usize, 20_000 / chunk_keys);
    }
    // Above the cap the call fails, and nothing of it is tried again.
    let gate = Splitting::new(100, 4);
    let mut small = settings(&service);
    small.requests.split_reply_bytes = 1_000_000;
    let edge = start_with(small, Arc::new(gate.clone()) as Arc<dyn Gate>);
    let message = posts((0..2_000).map(|number| format!("{}{number}", script::BIG)));
    let error = unary(&edge, POSTS, message).await.expect_err("too large");
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error:?}");
    assert_eq!(error.message(), "weir: the replies of its parts are larger than 1000000 bytes together");
    assert_eq!(gate.told().failed.len(), 1);
}

#[tokio::test]
async fn connect_over_both_http_versions() {
    let service = records::start().await;
    let gate = Splitting::new(7, 3);
    let edge = edge(&service, &gate);
    let message = posts((0..100).map(|number| format!("at://x/{}", number % 40)));
    let (method, descriptor) = &METHODS[POSTS];
    let wanted = answer(method, descriptor, &message);
    let mut http2 = client::http2(edge.port).await;
    for version in 1..=2 {
        let uri = if version == 1 { POSTS.to_owned() } else { format!("http://weir.test{POSTS}") };
        let mut request = client::post(&uri, "application/proto", client::full(message.clone()));
        request.headers_mut().insert("connect-protocol-version", 1.into());
        request.headers_mut().insert("connect-timeout-ms", 90_000.into());
        request.headers_mut().insert("accept-encoding", "gzip".parse().expect("a value"));
        let reply = match version {
            1 => client::http1(edge.port, request).await,
            _ => client::read(http2.send_request(request).await.expect("a reply")).await,
        };
        assert_eq!(
            (reply.status, &reply.headers["content-type"]),
            (200, &"application/proto".parse().expect("a value"))
        );
        assert_eq!(reply.headers["content-length"], wanted.len().to_string());
        assert_eq!(reply.headers["x-keys"], "7");
        assert!(reply.body == wanted);
    }
    let seen = service.log.seen.lock().expect("no panic");
    assert_eq!(seen.len(), 2 * 15);
    assert!(seen.iter().all(|headers| !headers.contains_key("accept-encoding")));
    assert!(seen.iter().all(|headers| {
        headers["connect-timeout-ms"].to_str().expect("text").parse::<u64>().expect("a number") <= 90_000
    }));
}
