//! A scripted HTTP origin: each request is answered as the test says.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use weir_engine::settings::Address;

/// What reached it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub target: String,
    pub headers: HeaderMap,
}

/// What it answers.
#[derive(Clone, Debug)]
pub struct Script {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Bytes,
    /// Before the head.
    pub wait: Duration,
    /// After so many bytes of the body the connection breaks.
    pub break_after: Option<usize>,
}

impl Script {
    /// 200 with this `cache-control`.
    pub fn cached(control: &str, body: impl Into<Bytes>) -> Script {
        Script {
            status: 200,
            headers: vec![("cache-control", control.to_owned())],
            body: body.into(),
            wait: Duration::ZERO,
            break_after: None,
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Script {
        self.headers.push((name, value.into()));
        self
    }

    pub fn after(mut self, wait: Duration) -> Script {
        self.wait = wait;
        self
    }

    pub fn status(mut self, status: u16) -> Script {
        self.status = status;
        self
    }
}

/// An origin that runs. Dropping it kills it.
pub struct Origin {
    pub address: Address,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// The most requests that it worked on at once.
    busiest: Arc<AtomicU64>,
    accepting: AbortHandle,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Origin {
    /// `script` gets the request and its number, from 0.
    pub async fn start(script: impl Fn(&Seen, usize) -> Script + Send + Sync + 'static) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").into();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let busiest = Arc::new(AtomicU64::new(0));
        let script = Arc::new(script);
        let (log, most) = (seen.clone(), busiest.clone());
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let busy = Arc::new(AtomicU64::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script, most, busy) = (log.clone(), script.clone(), most.clone(), busy.clone());
                connections.spawn(async move {
                    let answer = service_fn(move |request| {
                        let (log, script, most, busy) =
                            (log.clone(), script.clone(), most.clone(), busy.clone());
                        async move {
                            let (number, seen) = note(&request, &log);
                            let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
                            let _work = Work(busy);
                            most.fetch_max(now, Ordering::SeqCst);
                            answer(script(&seen, number), request.method() == Method::HEAD).await
                        }
                    });
                    // A client that leaves is no error of the test.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answer)
                        .await;
                });
            }
        });
        Origin { address, seen, busiest, accepting: accepting.abort_handle() }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("no panic").clone()
    }

    pub fn count(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    pub fn busiest(&self) -> u64 {
        self.busiest.load(Ordering::SeqCst)
    }
}

struct Work(Arc<AtomicU64>);

impl Drop for Work {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn note(request: &Request<Incoming>, log: &Mutex<Vec<Seen>>) -> (usize, Seen) {
    let seen = Seen {
        method: request.method().clone(),
        target: request.uri().to_string(),
        headers: request.headers().clone(),
    };
    let mut log = log.lock().expect("no panic");
    log.push(seen.clone());
    (log.len() - 1, seen)
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

async fn answer(script: Script, is_head: bool) -> Result<Response<Body>, std::io::Error> {
    tokio::time::sleep(script.wait).await;
    let mut response = Response::builder().status(script.status);
    for (name, value) in &script.headers {
        response = response.header(*name, value);
    }
    let body = match script.break_after {
        _ if is_head => super::client::full(""),
        None => super::client::full(script.body),
        Some(at) => {
            let frames =
                [Ok(Frame::data(script.body.slice(..at))), Err(std::io::Error::other("the origin dies"))];
            StreamBody::new(tokio_stream::iter(frames)).boxed()
        }
    };
    Ok(response.body(body).expect("a response"))
}
