//! A bsky.Service whose first key says what it does, in gRPC, gRPC-web (binary and text) and Connect (protobuf and JSON),
//! over HTTP/1.1 and HTTP/2 on one port, on a thread of its own. It knows what it was sent, and what was taken back from it.
//!
//! | first key | what it does |
//! |---|---|
//! | `do:error` | NOT_FOUND with a detail, nothing before it (gRPC: trailers-only) |
//! | `do:late` | the answer, and then DATA_LOSS |
//! | `do:wait:MS` | answers after so long |
//! | `do:size:BYTES` | one record of that size |
//! | `do:drip:BYTES` | the same, 1 KiB at a time, 10 ms apart |
//! | `do:new` | a record for each key, and a field that no description has |
//! | anything else | a record for each key |
//!
//! A method `Stream` sends messages until nobody listens. Headers of a request that begin with `x-echo` come back, also
//! as trailers of gRPC.

use super::keyed::fields;
use super::runtime;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Interval;
use weir_rpc::wire::write_len;

/// Between two messages of a stream, and two parts of what drips.
const PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a part of what drips.
const DROP: usize = 1_024;

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub path: String,
    pub headers: HeaderMap,
    /// Keys of its message.
    pub keys: usize,
    /// The first of them.
    pub first: String,
}

/// What the service knows.
#[derive(Debug, Default)]
pub struct Told {
    pub connections: AtomicUsize,
    /// Requests whose answer nobody waits for any more, before its end.
    pub cancelled: AtomicUsize,
    /// Messages of streams.
    pub produced: AtomicUsize,
    /// Requests that are not answered.
    pub now: AtomicUsize,
    seen: Mutex<Vec<Seen>>,
}

impl Told {
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn calls(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    pub fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub fn produced(&self) -> usize {
        self.produced.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }
}

/// The service. Dropping it kills it: its connections are cut.
pub struct Scripted {
    pub port: u16,
    pub told: Arc<Told>,
    end: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in it was told by its own words.
            let _ = thread.join();
        }
    }
}

impl Scripted {
    pub fn start() -> Scripted {
        Scripted::at(crate::support::free_port())
    }

    /// At this port, which another one may have had.
    pub fn at(port: u16) -> Scripted {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).expect("a port");
        let told: Arc<Told> = Arc::default();
        let (end, mut ended) = watch::channel(false);
        let kept = told.clone();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async move {
                listener.set_nonblocking(true).expect("non-blocking");
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                loop {
                    // Cancel-safe: a connection that was not taken waits.
                    let accepted = tokio::select! {
                        accepted = listener.accept() => accepted,
                        _ = ended.wait_for(|end| *end) => return,
                    };
                    // One that left again, or no descriptor: the next one.
                    let Ok((stream, _)) = accepted else { continue };
                    tokio::spawn(connection(stream, kept.clone()));
                }
            });
        });
        Scripted { port, told, end, thread: Some(thread) }
    }
}

async fn connection(stream: tokio::net::TcpStream, told: Arc<Told>) {
    told.connections.fetch_add(1, Ordering::Relaxed);
    let _ = stream.set_nodelay(true);
    let mut front = [0; 3];
    let http2 = matches!(stream.peek(&mut front).await, Ok(3)) && &front == b"PRI";
    let service = hyper::service::service_fn(move |request| answer(request, told.clone()));
    let io = TokioIo::new(stream);
    // A client that leaves is no error of the test.
    if http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_header_list_size(64 << 10).initial_stream_window_size(1 << 20);
        let _ = builder.serve_connection(io, service).await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    }
}

/// A request that is not answered; taken back, unless it ends.
struct Here {
    told: Arc<Told>,
    ended: bool,
}

impl Here {
    fn new(told: &Arc<Told>) -> Here {
        told.now.fetch_add(1, Ordering::Relaxed);
        Here { told: told.clone(), ended: false }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.told.now.fetch_sub(1, Ordering::Relaxed);
        if !self.ended {
            self.told.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

type Frames = Box<dyn Iterator<Item = Frame<Bytes>> + Send>;

/// A reply: its frames, with a pause before each or none.
struct Reply {
    frames: std::iter::Peekable<Frames>,
    pause: Option<Interval>,
    here: Here,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.pause {
            ready!(pause.poll_tick(context));
        }
        let frame = self.frames.next();
        // The last one is not asked for again where it is known to be the last.
        if self.frames.peek().is_none() {
            self.here.ended = true;
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.here.ended
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Grpc,
    GrpcWeb,
    Connect,
    Json,
}

async fn answer(request: Request<Incoming>, told: Arc<Told>) -> Result<Response<Reply>, hyper::Error> {
    let (head, body) = request.into_parts();
    let here = Here::new(&told);
    let kind = head.headers.get("content-type").cloned();
    let kind = kind.unwrap_or(HeaderValue::from_static("application/json"));
    let text = kind.to_str().expect("text").to_owned();
    let speaks = match text.as_str() {
        text if text.starts_with("application/grpc-web") => Speaks::GrpcWeb,
        text if text.starts_with("application/grpc") => Speaks::Grpc,
        text if text.contains("proto") => Speaks::Connect,
        _ => Speaks::Json,
    };
    let mut message = body.collect().await?.to_bytes();
    let in_text = text.starts_with("application/grpc-web-text");
    if in_text {
        // What is no text has no keys.
        message = STANDARD.decode(&message).unwrap_or_default().into();
    }
    if matches!(speaks, Speaks::Grpc | Speaks::GrpcWeb) && message.len() >= 5 {
        message = message.slice(5..);
    }
    let keys = keys_of(&message, speaks, head.uri.query().unwrap_or_default());
    let path = head.uri.path().to_owned();
    let echo: HeaderMap = echoed(&head.headers);
    let first = keys.first().cloned().unwrap_or_default();
    let seen = Seen { path: path.clone(), headers: head.headers, keys: keys.len(), first };
    told.seen.lock().expect("no panic").push(seen);
    let script: Vec<&str> = keys.first().map_or("", String::as_str).split(':').collect();
    if let ["do", "wait", time] = script[..] {
        tokio::time::sleep(Duration::from_millis(time.parse().expect("a number"))).await;
    }
    let mut pause = None;
    let error = match script[..] {
        ["do", "error"] => Some((5, "not_found", "no such thing: \u{e9}")),
        ["do", "late"] => Some((15, "data_loss", "after all of it")),
        _ => None,
    };
    if path.ends_with("/Stream") {
        pause = Some(tokio::time::interval(PAUSE));
        let frames = (0..).map(move |number: u64| {
            told.produced.fetch_add(1, Ordering::Relaxed);
            Frame::data(framed(0, format!("\x0a\x14{number:020}").as_bytes()))
        });
        let reply = Reply { frames: (Box::new(frames) as Frames).peekable(), pause, here };
        return Ok(respond(StatusCode::OK, kind, &echo, reply));
    }
    let message = match script[..] {
        ["do", "new"] if speaks == Speaks::Json => {
            let reply = reply_to(&keys, speaks);
            [&reply[..reply.len() - 1], b",\"notYetKnown\":1}"].concat().into()
        }
        ["do", "new"] => [&reply_to(&keys, speaks)[..], b"\x4a\x01x"].concat().into(),
        ["do", "size" | "drip", size] => {
            let mut record = Vec::new();
            write_len(1, &vec![b'r'; size.parse().expect("a number")], &mut record);
            let mut message = Vec::new();
            write_len(1, &record, &mut message);
            Bytes::from(message)
        }
        _ => reply_to(&keys, speaks),
    };
    let mut data = match speaks {
        Speaks::Grpc | Speaks::GrpcWeb => framed(0, &message),
        Speaks::Connect | Speaks::Json => message,
    };
    let mut frames = Vec::new();
    if script.get(1) == Some(&"drip") {
        pause = Some(tokio::time::interval(PAUSE));
        while data.len() > DROP {
            frames.push(Frame::data(data.split_to(DROP)));
        }
    }
    let mut status = StatusCode::OK;
    let mut headers = echo.clone();
    let mut kind = kind;
    match (speaks, error) {
        (Speaks::Grpc, Some((5, ..))) => headers.extend(trailers(error, &echo)),
        (Speaks::Grpc, _) => frames.extend([Frame::data(data), Frame::trailers(trailers(error, &echo))]),
        (Speaks::GrpcWeb, _) => {
            if !matches!(error, Some((5, ..))) {
                frames.push(Frame::data(data));
            }
            let mut lines = String::new();
            for (name, value) in &trailers(error, &echo) {
                lines += &format!("{name}: {}\r\n", value.to_str().expect("text"));
            }
            frames.push(Frame::data(framed(0x80, lines.as_bytes())));
            if in_text {
                // Each piece is text of its own, with what fills it up, as the protocol allows.
                let text = |frame: Frame<Bytes>| STANDARD.encode(frame.into_data().unwrap_or_default());
                frames = frames.into_iter().map(|frame| Frame::data(text(frame).into())).collect();
            }
        }
        (_, Some((_, name, words))) => {
            status =
                if name == "not_found" { StatusCode::NOT_FOUND } else { StatusCode::INTERNAL_SERVER_ERROR };
            kind = HeaderValue::from_static("application/json");
            let detail = serde_json::json!({ "type": "bsky.Record", "value": base64(&detail()) });
            let body = serde_json::json!({ "code": name, "message": words, "details": [detail] });
            frames.push(Frame::data(body.to_string().into()));
        }
        (_, None) => frames.push(Frame::data(data)),
    }
    let ended = frames.is_empty();
    let mut reply = Reply { frames: (Box::new(frames.into_iter()) as Frames).peekable(), pause, here };
    reply.here.ended |= ended;
    Ok(respond(status, kind, &headers, reply))
}

fn respond(status: StatusCode, kind: HeaderValue, headers: &HeaderMap, reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = status;
    response.headers_mut().extend(headers.clone());
    response.headers_mut().insert("content-type", kind);
    response
}

fn keys_of(message: &Bytes, speaks: Speaks, query: &str) -> Vec<String> {
    if speaks != Speaks::Json {
        let text = |key: Bytes| String::from_utf8(key.to_vec()).expect("text");
        return fields(message, 1).into_iter().map(text).collect();
    }
    let of_query = query.split('&').filter_map(|pair| pair.strip_prefix("uris=")).map(str::to_owned);
    let body: serde_json::Value = serde_json::from_slice(message).unwrap_or_default();
    let of_body = body["uris"].as_array().cloned().unwrap_or_default();
    of_query.chain(of_body.iter().filter_map(|key| key.as_str().map(str::to_owned))).collect()
}

/// Records and metadata in the order of the keys.
fn reply_to(keys: &[String], speaks: Speaks) -> Bytes {
    if speaks == Speaks::Json {
        let records: Vec<_> =
            keys.iter().map(|key| serde_json::json!({ "cid": format!("cid of {key}") })).collect();
        return serde_json::json!({ "records": records }).to_string().into();
    }
    let (mut records, mut meta) = (Vec::new(), Vec::new());
    for key in keys {
        let mut record = Vec::new();
        write_len(2, format!("cid of {key}").as_bytes(), &mut record);
        write_len(1, &record, &mut records);
        let even: &[u8] = if key.len() % 2 == 0 { &[0x18, 1] } else { &[] };
        write_len(2, even, &mut meta);
    }
    records.extend(meta);
    records.into()
}

fn framed(flags: u8, message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(5 + message.len());
    out.put_u8(flags);
    out.put_u32(u32::try_from(message.len()).expect("small"));
    out.put_slice(message);
    out.freeze()
}

fn echoed(headers: &HeaderMap) -> HeaderMap {
    let own = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-echo"));
    own.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn trailers(error: Option<(u32, &str, &str)>, echo: &HeaderMap) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    for (name, value) in echo {
        let name = name.as_str().replace("x-echo", "x-end");
        trailers.insert(HeaderName::try_from(name).expect("a name"), value.clone());
    }
    trailers.insert("grpc-status", error.map_or(0, |(status, ..)| status).into());
    if let Some((status, _, words)) = error {
        trailers.insert("grpc-message", words.replace('\u{e9}', "%C3%A9").parse().expect("a value"));
        let mut any = Vec::new();
        write_len(1, b"type.googleapis.com/bsky.Record", &mut any);
        write_len(2, &detail(), &mut any);
        let mut details = vec![0x08, u8::try_from(status).expect("small")];
        write_len(2, words.as_bytes(), &mut details);
        write_len(3, &any, &mut details);
        trailers.insert("grpc-status-details-bin", base64(&details).parse().expect("a value"));
    }
    trailers
}

/// A message beside an error: a bsky.Record with a cid.
fn detail() -> Vec<u8> {
    let mut record = Vec::new();
    write_len(2, b"of an error", &mut record);
    record
}

fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}
