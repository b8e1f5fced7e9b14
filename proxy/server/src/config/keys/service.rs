//! Keys of `[service.NAME]`.

use super::CacheDraft;
use crate::config::schema::{Absent, Key, Kind, Tighter, Worded};
use crate::config_key as key;
use crate::tls::ClientSide;
use std::sync::Arc;
use weir_engine::settings::{ServiceSettings, UpstreamTls};
use weir_engine::units::{Bytes, Span};
use weir_rpc::query::QueryPlan;
use weir_rpc::scan::COUNTS_MAX;

const SPEAKS: &[(&str, &str)] = &[
    ("http2", "HTTP/2, without TLS by prior knowledge: what gRPC needs"),
    ("http1", "HTTP/1.1 with connections kept"),
];
const CHECKS: &[(&str, &str)] = &[
    ("none", "nothing: a connected server is a good one"),
    ("connect", "whether it takes another connection, with a TLS handshake where there is `tls`"),
    ("grpc", "`grpc.health.v1.Health/Check` of `health_service`; SERVING is good"),
    ("http", "`GET` of `health_path`; 200 to 299 is good"),
];
const VERIFIES: &[(&str, &str)] = &[
    ("name", "it bears the host of the server as it is written in `servers`, or `tls_server_name`"),
    ("ca", "nothing: for a CA that vouches for servers of this service only"),
];
const MS: Span = Span::millis(1);
const SECOND: Span = Span::secs(1);
const MINUTE: Span = Span::secs(60);
const HOUR: Span = Span::secs(3_600);

/// What the servers of a service speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/2.
    Http2,
    /// HTTP/1.1.
    Http1,
}

impl Worded for Speaks {
    const WORDS: &'static [(&'static str, Speaks)] = &[("http2", Speaks::Http2), ("http1", Speaks::Http1)];
}

/// What a server is asked besides being connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// Nothing.
    None,
    /// A connection.
    Connect,
    /// gRPC's health service.
    Grpc,
    /// A path.
    Http,
}

impl Worded for Checked {
    const WORDS: &'static [(&'static str, Checked)] = &[
        ("none", Checked::None),
        ("connect", Checked::Connect),
        ("grpc", Checked::Grpc),
        ("http", Checked::Http),
    ];
}

/// A service while its file is read, and what the edge is told of it afterwards.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceDraft {
    /// What the engine is told.
    pub settings: ServiceSettings,
    /// A table that comes with weir.
    pub preset: Option<Arc<str>>,
    /// Files of descriptors, as text.
    pub protos: Vec<Arc<str>>,
    /// File of the method table.
    pub methods: Option<Arc<str>>,
    /// Query parameters whose elements are keys.
    pub query_keys: Vec<Arc<str>>,
    /// What its servers speak.
    pub speaks: Speaks,
    /// Connections to each server; by default it depends on what they speak.
    pub connections: Option<u32>,
    /// Requests at once on one HTTP/2 connection.
    pub streams_per_connection: u32,
    /// Time for one dial.
    pub connect_timeout: Span,
    /// What a server is asked.
    pub health: Checked,
    /// The path of that question.
    pub health_path: Arc<str>,
    /// The service that gRPC's question names; without it, the whole server.
    pub health_service: Option<Arc<str>>,
    /// The pause between two of them.
    pub health_interval: Span,
    /// Time for an answer.
    pub health_timeout: Span,
    /// Bad answers in a row after which a server gets no calls.
    pub health_fall: u32,
    /// Good ones after which it gets them again.
    pub health_rise: u32,
    /// Failed calls in a row after which a server is left out; 0: never.
    pub eject_failures: u32,
    /// For how long at first.
    pub eject_time: Span,
    /// TLS with the servers.
    pub tls: UpstreamTls,
    /// What its files hold; nothing without TLS, or where files are not looked at.
    pub tls_side: Option<ClientSide>,
    /// Bytes of one request's body that is held until it was judged.
    pub request_max: Bytes,
    /// Bytes of all of them, on one listener.
    pub held_bytes_max: Bytes,
    /// Bytes of one request's body that passes as it comes.
    pub upload_max: Bytes,
    /// Bytes of the names and values of one head's headers.
    pub header_bytes_max: Bytes,
    /// Headers of one head.
    pub headers_max: u32,
    /// Requests at once on one HTTP/2 connection of a client.
    pub client_streams_max: u32,
    /// Time for a held body to arrive whole.
    pub body_timeout: Span,
    /// Time for one write to a client.
    pub write_timeout: Span,
    /// How long the service may be silent in the middle of an HTTP reply.
    pub read_timeout: Span,
    /// The cache of its answers.
    pub cache: CacheDraft,
    /// The parts of a request may have this many times its bytes together ...
    pub split_factor: u32,
    /// ... and so many more.
    pub split_floor: Bytes,
    /// Bytes of the replies of all parts of one call.
    pub split_reply_max: Bytes,
}

impl ServiceDraft {
    /// A service with every default.
    #[must_use]
    pub fn new(name: &str) -> ServiceDraft {
        ServiceDraft {
            settings: ServiceSettings::new(name, Vec::new()),
            preset: None,
            protos: Vec::new(),
            methods: None,
            query_keys: Vec::new(),
            speaks: Speaks::Http2,
            connections: None,
            streams_per_connection: 256,
            connect_timeout: SECOND,
            health: Checked::None,
            health_path: "/health".into(),
            health_service: None,
            health_interval: Span::secs(2),
            health_timeout: SECOND,
            health_fall: 2,
            health_rise: 2,
            eject_failures: 5,
            eject_time: Span::secs(10),
            tls: UpstreamTls::default(),
            tls_side: None,
            request_max: Bytes(32 << 20),
            held_bytes_max: Bytes(256 << 20),
            upload_max: Bytes(1 << 30),
            header_bytes_max: Bytes(64 << 10),
            headers_max: 128,
            client_streams_max: 250,
            body_timeout: Span::secs(30),
            write_timeout: Span::secs(30),
            read_timeout: Span::secs(60),
            cache: CacheDraft::default(),
            split_factor: 2,
            split_floor: Bytes(1 << 20),
            split_reply_max: Bytes(64 << 20),
        }
    }

    /// Counts the keys in a query.
    #[must_use]
    pub fn query_plan(&self) -> QueryPlan {
        let names: Vec<&str> = self.query_keys.iter().map(|name| &**name).collect();
        // there are never more names than it takes: the key has the same bound
        QueryPlan::new(&names).unwrap_or_default()
    }
}

macro_rules! keys {
    ($($name:literal, $($field:ident).+, $kind:expr, $default:expr, $tighter:ident, $doc:expr;)+) => {
        /// Keys of a service.
        pub static SERVICE: &[Key<ServiceDraft>] = &[
            $(key!(ServiceDraft, $name, $($field).+, $kind, $default, Tighter::$tighter, $doc),)+
        ];
    };
}

keys! {
    "servers", settings.servers, Kind::Addresses(super::CONTACTS_MAX), Absent::Required, Neither,
        "The servers that answer alike: `\"10.0.0.1:3000\"`, `\"unix:/path\"`, or a list.";
    "preset", preset, Kind::Name, Absent::Words("none"), Neither,
        "A table of methods that comes with weir: `\"bsky\"` (the bsky service's 41 batch methods).";
    "protos", protos, Kind::Paths(super::CONTACTS_MAX), Absent::Default, Neither,
        "Files of .proto text that describe the service; one may import another by its file name. No `protoc` is needed. Read \
         at the start and at every reload.";
    "methods", methods, Kind::Path, Absent::Words("none: methods are known by name only"), Neither,
        "TOML file with an entry for each method whose keys are counted (docs/rpc.md has the form): it goes with `protos`, \
         or adds to `preset`. Read at the start and at every reload.";
    "query_keys", query_keys, Kind::Names(COUNTS_MAX), Absent::Default, Neither,
        "Query parameters of other HTTP whose elements are keys: `[\"uris\"]` counts `uris=a&uris=b`, `uris[]=a` and `uris[0]=a` \
         (XRPC).";
    "upstream", speaks, Kind::Word(SPEAKS), Absent::Default, Neither,
        "What the servers speak. Clients may speak either, gRPC HTTP/2 only.";
    "tls", tls.on, Kind::Flag, Absent::Default, Neither,
        "Encrypt the connections to the servers. Needs `tls_ca`. A certificate that a CA does not vouch for is refused, always. \
         With `http2` a server must agree to it by ALPN.";
    "tls_ca", tls.ca, Kind::Path, Absent::Words("none"), Neither,
        "PEM file with the CAs of which servers must show a certificate. Like every TLS file it is read at the start and at \
         every reload.";
    "tls_verify", tls.verify, Kind::Word(VERIFIES), Absent::Default, Neither,
        "What a server's certificate must say besides.";
    "tls_server_name", tls.server_name, Kind::Name, Absent::Words("the host of the server"), Neither,
        "The name that every server's certificate bears.";
    "tls_client_cert", tls.client_cert, Kind::Path, Absent::Words("none"), Neither,
        "PEM file with the certificate that weir shows to servers that ask for one, and those between it and the CA.";
    "tls_client_key", tls.client_key, Kind::Path, Absent::Words("none"), Neither,
        "PEM file with the key of `tls_client_cert`.";
    "connections", connections, Kind::Count(1, 10_000), Absent::Words("2, with `http1` 64"), Neither,
        "Connections to each server, for each listener: so many are kept with `http2`, and never more are open with `http1`.";
    "streams_per_connection", streams_per_connection, Kind::Count(1, 100_000), Absent::Default, Neither,
        "Requests at once on one HTTP/2 connection. A server that allows fewer has the rest wait in weir.";
    "connect_timeout", connect_timeout, Kind::Duration(MS, MINUTE), Absent::Default, Neither,
        "Time for one dial, and how long a call waits while no server is connected.";
    "health", health, Kind::Word(CHECKS), Absent::Default, Neither,
        "What each server is asked again and again; after `health_fall` bad answers in a row it gets no calls.";
    "health_path", health_path, Kind::Path, Absent::Default, Neither,
        "The path that `health = \"http\"` asks for.";
    "health_interval", health_interval, Kind::Duration(Span::millis(100), HOUR), Absent::Default, Neither,
        "The pause between two questions.";
    "health_service", health_service, Kind::Name, Absent::Words("none: the whole server"), Neither,
        "The service that `health = \"grpc\"` asks about.";
    "health_timeout", health_timeout, Kind::Duration(Span::millis(10), MINUTE), Absent::Default, Neither,
        "An answer that takes longer is a bad one.";
    "health_fall", health_fall, Kind::Count(1, 100), Absent::Default, Neither,
        "Bad answers in a row after which a server gets no calls. While no server is a good one, all of them get calls.";
    "health_rise", health_rise, Kind::Count(1, 100), Absent::Default, Neither,
        "Good answers in a row after which it gets them again.";
    "eject_failures", eject_failures, Kind::Count(0, 10_000), Absent::Default, Neither,
        "After so many failed calls in a row a server is left out for a while; 0: never. Failed is a call whose connection was cut or \
         could not be made, or that was answered with UNAVAILABLE, 502, 503 or 504. At most half of the servers are left out at once.";
    "eject_time", eject_time, Kind::Duration(MS, HOUR), Absent::Default, Neither,
        "How long a server is left out at first: twice as long each time that the first call afterwards fails too, at most 30 times as \
         long.";
    "request_max", request_max, Kind::Size(1 << 10, 1 << 30), Absent::Default, Less,
        "Bytes of one request's body, which is held until it was counted and admitted; larger ones are refused.";
    "held_bytes_max", held_bytes_max, Kind::Size(1 << 10, 1 << 40), Absent::Default, Less,
        "Bytes of all bodies that are held, for each listener; above it calls are refused.";
    "upload_max", upload_max, Kind::Size(1 << 10, 1 << 40), Absent::Default, Less,
        "Bytes of one request's body that passes as it comes: other HTTP than described methods. Streams of gRPC and Connect have no end.";
    "header_bytes_max", header_bytes_max, Kind::Size(1 << 10, 1 << 19), Absent::Default, Less,
        "Bytes of the names and values of all headers of one request or one reply; more are refused.";
    "headers_max", headers_max, Kind::Count(1, 256), Absent::Default, Less,
        "Headers of one request; more are refused.";
    "client_streams_max", client_streams_max, Kind::Count(1, 100_000), Absent::Default, Less,
        "Requests at once on one HTTP/2 connection of a client, which is told of it when it connects.";
    "body_timeout", body_timeout, Kind::Duration(MS, HOUR), Absent::Default, Less,
        "Time for a body that is held to arrive whole; what takes longer is refused.";
    "write_timeout", write_timeout, Kind::Duration(MS, HOUR), Absent::Default, Less,
        "How long one write may wait for a client that does not read; then its request is given up.";
    "read_timeout", read_timeout, Kind::Duration(MS, HOUR), Absent::Default, Less,
        "How long a server may be silent in the middle of a reply over plain HTTP. (An RPC has its deadline.)";
    "split", settings.split, Kind::Flag, Absent::Default, Neither,
        "Calls for more than `chunk_keys` keys are passed on in parts where the table of methods says that they may be: gRPC, \
         gRPC-web and Connect calls of one uncompressed message, in protobuf or JSON. Others go whole, counted in `weir_rpc_unsplit_total`.";
    "chunk_keys", settings.chunk_keys, Kind::Count(1, 10_000), Absent::Default, Neither,
        "Keys of one part.";
    "chunk_window", settings.chunk_window, Kind::Count(1, 1_024), Absent::Default, Neither,
        "Parts of one call in flight at once.";
    "chunks_in_flight", settings.chunks_in_flight, Kind::Count(1, 1_024), Absent::Default, Neither,
        "Parts in flight per server, over all callers.";
    "chunks_beside_calls", settings.chunks_beside_calls, Kind::Count(1, 1_024), Absent::Default, Less,
        "Instead of `chunk_window`, for a call of more parts than that, while servers have calls that go whole, and until they were \
         given none for 20 ms: those keep their latency at the price of the longest. Above `chunk_window` it has no effect.";
    "split_factor", split_factor, Kind::Count(1, 1_000), Absent::Default, Less,
        "What stands beside the keys of a request goes with each part: a request is split only where its parts have at most \
         so many times its bytes together, and `split_floor` more.";
    "split_floor", split_floor, Kind::Size(0, 1 << 30), Absent::Default, Less,
        "See `split_factor`: small requests with long fields beside their keys are split too.";
    "split_reply_max", split_reply_max, Kind::Size(1 << 10, 1 << 40), Absent::Default, Less,
        "Bytes of the answers of all parts of one call; a call with more is refused (RESOURCE_EXHAUSTED).";
    "gather_bytes_max", settings.gather_bytes_max, Kind::Size(1 << 10, 1 << 40), Absent::Default, Less,
        "Answers of parts that are held until the whole answer has left.";
    "calls_in_flight", settings.calls_in_flight, Kind::Count(1, 1_000_000), Absent::Default, Less,
        "Calls that the servers work on at once, over all of them; the rest waits in weir, in turn by principal.";
    "calls_max", settings.calls_max, Kind::Count(1, 10_000_000), Absent::Default, Less,
        "Calls under way, those that wait or whose body has not come yet included; one more is refused.";
    "queue_timeout", settings.queue_timeout, Kind::Duration(MS, HOUR), Absent::Default, Less,
        "A call that waited this long in weir is refused.";
    "request_timeout", settings.request_timeout, Kind::Duration(MS, HOUR), Absent::Default, Less,
        "How long a call may take whose client sets no deadline.";
    "request_timeout_max", settings.request_timeout_max, Kind::Duration(MS, HOUR), Absent::Default, Less,
        "How long a call may take whatever its client says. At least `request_timeout`.";
    "retry_percent", settings.retry_percent, Kind::Count(0, 100), Absent::Default, Neither,
        "Calls that may be sent once more because a server failed them, in percent of those sent. Without a word of the \
         method table only `GET` and the like, and calls that no server has seen, are sent again.";
    "cache_paths", cache.paths, Kind::Paths(super::CONTACTS_MAX), Absent::Default, Neither,
        "Paths whose `public` answers are kept for other clients (docs/rpc.md), each with all below it; nothing is kept without. Of \
         requests to them only some headers are passed on.";
    "cache_headers", cache.headers, Kind::Names(16), Absent::Words("`[]`; with `preset = \"bsky\"` \
         `[\"accept-language\", \"atproto-accept-labelers\", \"atproto-proxy\"]`"), Neither,
        "Headers that make a difference to an answer, besides `accept` and `accept-encoding`.";
    "cache_bytes_max", cache.bytes_max, Kind::Size(1 << 20, 1 << 40), Absent::Default, Neither,
        "Bytes of all answers that are kept.";
    "cache_entry_max", cache.entry_max, Kind::Size(1 << 10, 1 << 30), Absent::Default, Neither,
        "Bytes of one answer; a larger one passes and is not kept. At most an eighth of `cache_bytes_max`.";
    "cache_entries_max", cache.entries_max, Kind::Count(1, 10_000_000), Absent::Default, Neither,
        "Answers that are kept.";
    "cache_fill_bytes_max", cache.fill_bytes_max, Kind::Size(1 << 10, 1 << 40), Absent::Default, Neither,
        "Bytes of answers on their way into the cache, or displaced and still being read; above it answers pass and are not kept.";
    "cache_ttl_max", cache.ttl_max, Kind::Duration(SECOND, Span::secs(86_400)), Absent::Default, Neither,
        "The longest that an answer is given without asking, whatever the service says.";
    "cache_stale_max", cache.stale_max, Kind::Duration(Span(0), Span::secs(86_400)), Absent::Default, Neither,
        "The longest that it is given after that (`stale-while-revalidate`, `stale-if-error`).";
    "cache_waiters_max", cache.waiters_max, Kind::Count(0, 1_000_000), Absent::Default, Neither,
        "Requests that wait for the answer to another one; one more is passed on.";
    "cache_lock_timeout", cache.lock_timeout, Kind::Duration(Span::millis(10), MINUTE), Absent::Default, Neither,
        "How long one waits; then it is passed on.";
    "cache_refreshes_max", cache.refreshes_max, Kind::Count(0, 10_000), Absent::Default, Neither,
        "Answers asked for again at once while clients get the old ones.";
}
