//! Calls through a running weir, between tonic's client and a scripted bsky.Service: counted and named before the service
//! sees a byte, refused in gRPC's own words, switched off, and tied to the storage work that comes of them.

mod support;
mod support_rpc;

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};
use support::{Memcached, Weir, eventually};
use support_rpc::{Grpc, POSTS, Service, elements};

/// The request of April.
const MANY: usize = 15_000;

fn file(service: &Service, more: &str) -> String {
    format!(
        "[service.dataplane]\nservers = [\"127.0.0.1:{}\"]\npreset = \"bsky\"\nsplit = false\n\
         [listener.edge]\naddress = \"127.0.0.1:{{port}}\"\nservice = \"dataplane\"\n{more}",
        service.port
    )
}

#[test]
fn a_call_for_many_keys_is_counted_and_named() {
    let service = Service::start(200, None);
    let weir = Weir::with_file(&file(&service, "trusted_names = [\"feedgen\"]\n"));
    let mut client = Grpc::over_tcp(weir.port);
    let caller = [("x-weir-caller", "feedgen")];
    let reply = client.call(POSTS, elements(MANY), &caller).expect("answered");
    assert_eq!(reply, elements(200), "the service's answer, unchanged");
    let seen = service.seen();
    assert_eq!((seen.len(), seen[0].bytes), (1, elements(MANY).len()));
    assert_eq!(seen[0].headers["x-weir-caller"], "feedgen", "a trusted name goes on");
    let both = [("x-atlantis-caller", "feedgen"), ("x-weir-caller", "feedgen")];
    client.call("no.Such/Method", elements(1), &both).expect("answered");
    client.call("no.Such/Method", elements(1), &[both[0], ("x-weir-caller", "importer")]).expect("answered");
    let seen = service.seen();
    assert_eq!(seen[1].headers["x-atlantis-caller"], "feedgen", "in whichever header it comes");
    assert!(!seen[2].headers.contains_key("x-atlantis-caller"), "a name beside the one that counts does not");
    assert!(
        seen[0].headers["grpc-timeout"].to_str().expect("text").ends_with(['u', 'm']),
        "set where absent"
    );

    let labels = [("caller", "feedgen"), ("method", POSTS)];
    eventually("it is in the metrics", || {
        weir.series("weir_request_operations_max", &labels) == Some(MANY as f64)
    });
    let ok = [("caller", "feedgen"), ("protocol", "grpc"), ("method", POSTS), ("outcome", "ok")];
    assert_eq!(weir.series("weir_requests_total", &ok), Some(1.0));
    assert_eq!(
        weir.series("weir_rpc_reply_keys_sum", &[("method", POSTS)]),
        Some(200.0),
        "rows of the reply"
    );
    assert_eq!(weir.series("weir_rpc_calls", &[("service", "dataplane")]), Some(0.0), "nothing is left");

    let expensive = weir.control("/expensive");
    let text = expensive.to_string();
    assert!(text.contains("\"operations\":15000") && text.contains("feedgen"), "{text}");
    for words in [&["explain", "feedgen"][..], &["top", "--once"]] {
        let told = weir.command(words).expect_success("weir");
        assert!(told.stdout.contains("feedgen") && told.stdout.contains("15,000"), "{}", told.stdout);
        let bound = words[0] != "top" || told.stdout.contains(" 0/1,028 ");
        assert!(bound, "calls_in_flight and chunks_in_flight: {}", told.stdout);
    }
}

#[test]
fn a_name_that_nobody_trusts_is_a_label_and_no_more() {
    let service = Service::start(1, None);
    let weir = Weir::with_file(&file(&service, ""));
    let mut client = Grpc::over_tcp(weir.port);
    client.call(POSTS, elements(3), &[("x-atlantis-caller", "importer")]).expect("answered");
    client.call(POSTS, elements(4), &[("x-weir-caller", "importer")]).expect("answered");
    client.call("no.Such/Method", elements(4), &[]).expect("answered");
    assert_eq!(service.seen().len(), 3);
    for name in ["x-weir-caller", "x-atlantis-caller"] {
        assert!(service.seen().iter().all(|seen| !seen.headers.contains_key(name)), "{name} is removed");
    }
    let own = [("caller", "importer"), ("protocol", "grpc")];
    eventually("both calls are counted", || weir.series("weir_operations_total", &own) == Some(7.0));
    let other = [("caller", "edge"), ("method", "_other"), ("outcome", "ok")];
    eventually("the other one too", || weir.series("weir_requests_total", &other) == Some(1.0));
    let row = weir.control("/callers").to_string();
    assert!(row.contains("\"principal\":\"edge\"") && row.contains("\"caller\":\"importer\""), "{row}");
}

#[test]
fn above_a_ceiling_the_service_sees_nothing() {
    let service = Service::start(1, None);
    let limits = "[undeclared]\noperations_per_request = 2_000\nmode = \"refuse\"\n";
    let weir = Weir::with_file(&file(&service, limits));
    let mut client = Grpc::over_tcp(weir.port);
    let status = client.call(POSTS, elements(MANY), &[("x-weir-caller", "feedgen")]).expect_err("refused");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
    let message = status.message();
    assert!(message.contains("feedgen") && message.contains("ceiling 2000"), "{message}");
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(details.contains("type.googleapis.com/google.rpc.RetryInfo"), "{details}");
    assert!(service.seen().is_empty(), "{:?}", service.seen());
    let refused = [("caller", "feedgen"), ("reason", "operations_per_request"), ("mode", "refuse")];
    eventually("it is counted", || weir.series("weir_rejected_total", &refused) == Some(1.0));
    client.call(POSTS, elements(2_000), &[]).expect("what fits is answered");
    assert_eq!(service.seen().len(), 1);
    assert_eq!(weir.series("weir_rpc_calls", &[("service", "dataplane")]), Some(0.0), "nothing is left");
}

#[test]
fn a_method_is_switched_off_and_on_again() {
    let service = Service::start(1, None);
    let text = format!("state_dir = \"{{directory}}\"\n{}", file(&service, ""));
    let mut weir = Weir::with_file(&text);
    weir.command(&["deny", POSTS, "--for", "30m", "--why", "incident 4711"]).expect_success("weir deny");
    let refused = |weir: &Weir| {
        let status = Grpc::over_tcp(weir.port).call(POSTS, elements(1), &[]).err()?;
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
        assert!(status.message().contains("incident 4711"), "{status:?}");
        Some(())
    };
    eventually("it is refused", || refused(&weir).is_some());
    let before = service.seen().len();
    weir.restart();
    refused(&weir).expect("a restart keeps it");
    assert_eq!(service.seen().len(), before);
    let other = Grpc::over_tcp(weir.port).call("bsky.Service/GetLikeRecords", elements(1), &[]);
    other.expect("others are served");
    let listed = weir.command(&["limits", "list"]).expect_success("weir limits list");
    assert!(listed.stdout.contains(POSTS), "{}", listed.stdout);
    weir.command(&["allow", POSTS]).expect_success("weir allow");
    eventually("it is served", || refused(&weir).is_none());
    assert_eq!(weir.command(&["allow", POSTS]).status.code(), Some(1), "it is not off");
}

#[test]
fn over_a_unix_socket_callers_are_told_apart_by_uid() {
    let service = Service::start(1, None);
    let text =
        file(&service, "principal = \"uid\"\n").replace("127.0.0.1:{port}", "unix:{directory}/edge.sock");
    let mut weir = Weir::with_file(&text);
    let mut client = Grpc::over_unix(&weir.path("edge.sock"));
    client.call(POSTS, elements(5), &[]).expect("answered");
    let own = format!("uid:{}", rustix::process::getuid().as_raw());
    let labels = [("caller", own.as_str()), ("protocol", "grpc")];
    eventually("it is counted", || weir.series("weir_operations_total", &labels) == Some(5.0));
    drop(client);
    assert!(weir.terminate().success(), "it drains");
    assert!(!weir.path("edge.sock").exists(), "its socket is gone");
}

#[test]
fn storage_work_is_tied_to_the_call_it_is_for() {
    let Some(memcached) = Memcached::start() else { return };
    let cache = support::free_port();
    let service = Service::start(1, Some(cache));
    let storage = format!(
        "[pool.main]\nservers = [\"{}\"]\n[listener.cache]\naddress = \"127.0.0.1:{cache}\"\npool = \"main\"\n\
         trusted_request_ids = [\"cache\"]\n",
        memcached.address()
    );
    let weir = Weir::with_file(&file(&service, &storage));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let headers = [("x-weir-caller", "feedgen"), ("traceparent", parent.as_str())];
    Grpc::over_tcp(weir.port).call(POSTS, elements(40), &headers).expect("answered");
    assert_eq!(service.seen()[0].headers["traceparent"], parent.as_str(), "a client's own id is kept");
    let report = weir.control(&format!("/request?id={trace}"));
    assert_eq!(report["cache"]["operations"], 3, "{report}");
    assert_eq!(report["cache"]["misses"], 3, "{report}");
    let told = weir.command(&["request", trace]).expect_success("weir request");
    for part in ["feedgen", POSTS, "40", "3 operations"] {
        assert!(told.stdout.contains(part), "no {part:?} in:\n{}", told.stdout);
    }
    let labels = [("caller", "feedgen"), ("origin", "rpc")];
    let counted = |name: &str| weir.series(&format!("weir_amplification_{name}_total"), &labels);
    assert_eq!(counted("cache_operations"), Some(3.0));
    // without an id of its own a call gets one
    Grpc::over_tcp(weir.port).call(POSTS, elements(1), &[]).expect("answered");
    let made = service.seen()[1].headers["traceparent"].to_str().expect("text").to_owned();
    assert!(made.starts_with("00-") && !made.contains(trace), "{made}");
    assert_eq!(weir.control(&format!("/request?id={made}"))["cache"]["operations"], 3);
}

/// One HTTP/1.1 request on a connection of its own: the whole answer.
fn http1(port: u16, head: &str, body: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("weir");
    let request = format!(
        "{head}\r\nhost: weir.test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn uris(count: usize, joined: &str, form: impl Fn(usize) -> String) -> String {
    (0..count).map(form).collect::<Vec<_>>().join(joined)
}

#[test]
fn connect_and_other_http_are_counted_and_refused_in_their_own_words() {
    let service = Service::start(1, None);
    let limits = "[undeclared]\noperations_per_request = 10\nmode = \"refuse\"\n";
    let text = file(&service, limits).replace("preset", "query_keys = [\"uris\"]\npreset");
    let weir = Weir::with_file(&text);
    let json = |count| format!("{{\"uris\":[{}]}}", uris(count, ",", |n| format!("\"at://{n}\"")));
    let connect =
        format!("POST /{POSTS} HTTP/1.1\r\ncontent-type: application/json\r\nconnect-protocol-version: 1");
    let refused = http1(weir.port, &connect, &json(11));
    assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
    for part in ["\"code\":\"resource_exhausted\"", "google.rpc.RetryInfo", "asked 11 or more, ceiling 10"] {
        assert!(refused.contains(part), "no {part:?} in {refused}");
    }
    let query = |count| {
        format!(
            "GET /xrpc/app.bsky.feed.getPosts?{} HTTP/1.1",
            uris(count, "&", |n| format!("uris=at://{n}"))
        )
    };
    let refused = http1(weir.port, &query(11), "");
    assert!(
        refused.starts_with("HTTP/1.1 429 ") && refused.to_lowercase().contains("\r\nretry-after: "),
        "{refused}"
    );
    let truncated = http1(weir.port, &connect, "{\"uris\":[\"at://");
    assert!(truncated.starts_with("HTTP/1.1 400 ") && truncated.contains("invalid_argument"), "{truncated}");
    assert!(service.seen().is_empty(), "{:?}", service.seen());
    for (head, body) in [(&connect, json(10)), (&query(10), String::new())] {
        let answer = http1(weir.port, head, &body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(service.seen().len(), 2);
    for (protocol, outcomes) in
        [("connect", ["refused", "invalid", "ok"].as_slice()), ("http", &["refused", "ok"])]
    {
        for outcome in outcomes {
            let labels = [("caller", "edge"), ("protocol", protocol), ("outcome", outcome)];
            eventually("it is counted", || weir.series("weir_requests_total", &labels) == Some(1.0));
        }
    }
}

#[test]
fn a_connect_call_that_is_a_get_is_counted_by_the_message_in_its_query() {
    use base64::Engine as _;
    let service = Service::start(1, None);
    let limits = "[undeclared]\noperations_per_request = 10\nmode = \"refuse\"\n";
    let weir = Weir::with_file(&file(&service, limits));
    let get = |query: String| http1(weir.port, &format!("GET /{POSTS}?connect=v1&{query} HTTP/1.1"), "");
    let json = |count| {
        let uris = uris(count, ",", |n| format!("%22at://{n}%22"));
        format!("encoding=json&message=%7B%22uris%22:%5B{uris}%5D%7D")
    };
    let proto = |count| {
        let message = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(elements(count));
        format!("encoding=proto&base64=1&message={message}")
    };
    for query in [json(11), proto(11)] {
        let refused = get(query);
        assert!(refused.starts_with("HTTP/1.1 429 "), "{refused}");
        for part in ["\"code\":\"resource_exhausted\"", "asked 11, ceiling 10"] {
            assert!(refused.contains(part), "no {part:?} in {refused}");
        }
    }
    for wrong in
        ["encoding=json&message=%7B%22uris", "encoding=proto&base64=1&message=*", "message=a&message=b"]
    {
        let refused = get(wrong.to_owned());
        assert!(refused.starts_with("HTTP/1.1 400 ") && refused.contains("invalid_argument"), "{refused}");
    }
    assert!(service.seen().is_empty(), "{:?}", service.seen());
    for query in [json(10), proto(10)] {
        let answer = get(query);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(service.seen().len(), 2);
    for (outcome, count) in [("refused", 2.0), ("invalid", 3.0), ("ok", 2.0)] {
        let labels = [("protocol", "connect"), ("method", POSTS), ("outcome", outcome)];
        eventually("it is counted", || weir.series("weir_requests_total", &labels) == Some(count));
    }
    assert_eq!(weir.series("weir_rpc_calls", &[("service", "dataplane")]), Some(0.0), "nothing is left");
}

#[test]
fn a_paced_call_waits_for_its_turn() {
    let service = Service::start(1, None);
    let limits = "[undeclared]\noperations_per_second = 1_000\nburst = 1\nmode = \"pace\"\n";
    let weir = Weir::with_file(&file(&service, limits));
    let mut client = Grpc::over_tcp(weir.port);
    client.call(POSTS, elements(200), &[]).expect("nothing is owed yet");
    let began = Instant::now();
    client.call(POSTS, elements(1), &[]).expect("answered");
    assert!(began.elapsed() >= Duration::from_millis(20), "{:?}", began.elapsed());
    assert_eq!(service.seen().len(), 2);
    let paced = [("caller", "edge"), ("mode", "pace")];
    eventually("it is counted", || weir.series("weir_rejected_total", &paced) == Some(1.0));
}
