//! One connection to a memcached server: dial, authenticate, and how long to wait before the next attempt.
//!
//! Bounds: `connect_timeout` for name resolution, dialling and authentication together; waits between `reconnect_min`
//! and `reconnect_max`, doubling, with jitter so that many sidecars do not return to a server in step.

use crate::worker::sockets::Stream;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use weir_engine::settings::Address;
use weir_engine::units::Span;
use weir_telemetry::OpenResult;

/// Bytes of an auth file: a user name and a password. A longer file is refused.
const AUTH_FILE_MAX: usize = 4 << 10;
/// Bytes of the server's answer to them.
const ANSWER_MAX: usize = 512;

/// An attempt under way. Dropping it gives the attempt up.
pub struct Connecting(Pin<Box<dyn Future<Output = Result<Stream, ConnectError>> + Send>>);

impl std::fmt::Debug for Connecting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connecting")
    }
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    /// The kind, for the metric.
    pub result: OpenResult,
    /// In words, for the operator.
    pub what: String,
}

impl Connecting {
    /// Starts an attempt. Nothing happens before it is polled, inside a runtime.
    #[must_use]
    pub fn start(address: Address, auth_file: Option<Arc<str>>, timeout: Span) -> Connecting {
        Connecting(Box::pin(async move { connect(&address, auth_file.as_deref(), timeout).await }))
    }

    /// Goes on with the attempt.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Stream, ConnectError>> {
        self.0.as_mut().poll(cx)
    }
}

/// Dials and signs in, within `timeout`.
///
/// # Errors
/// Why there is no connection.
pub async fn connect(
    address: &Address,
    auth_file: Option<&str>,
    timeout: Span,
) -> Result<Stream, ConnectError> {
    let attempt = dial(address, auth_file);
    match tokio::time::timeout(Duration::from_micros(timeout.0), attempt).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ConnectError {
            result: OpenResult::Timeout,
            what: format!("no connection within {} ms (connect_timeout)", timeout.0 / 1_000),
        }),
    }
}

async fn dial(address: &Address, auth_file: Option<&str>) -> Result<Stream, ConnectError> {
    let mut stream = match address {
        Address::Tcp { host, port } => {
            let stream = TcpStream::connect((&**host, *port)).await.map_err(|error| failed(&error))?;
            stream.set_nodelay(true).map_err(|error| failed(&error))?;
            Stream::Tcp(stream)
        }
        Address::Unix { path } => {
            Stream::Unix(UnixStream::connect(&**path).await.map_err(|error| failed(&error))?)
        }
        other => {
            let what = format!("{other} is not an address weir can connect to");
            return Err(ConnectError { result: OpenResult::Error, what });
        }
    };
    if let Some(path) = auth_file {
        let credentials = read_credentials(path).await?;
        match &mut stream {
            Stream::Tcp(stream) => authenticate(stream, &credentials).await?,
            Stream::Unix(stream) => authenticate(stream, &credentials).await?,
        }
    }
    Ok(stream)
}

fn failed(error: &io::Error) -> ConnectError {
    let result = match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ENOENT) => OpenResult::Refused,
        Some(libc::ETIMEDOUT) => OpenResult::Timeout,
        Some(libc::EADDRINUSE | libc::EADDRNOTAVAIL) => OpenResult::NoPort,
        Some(libc::EMFILE | libc::ENFILE) => OpenResult::NoDescriptor,
        _ => OpenResult::Error,
    };
    ConnectError { result, what: error.to_string() }
}

fn auth_failed(what: impl Into<String>) -> ConnectError {
    ConnectError { result: OpenResult::Auth, what: what.into() }
}

/// Read anew for every attempt, so that a changed password needs no restart.
async fn read_credentials(path: &str) -> Result<Vec<u8>, ConnectError> {
    let unreadable = |error: io::Error| auth_failed(format!("auth_file {path} cannot be read: {error}"));
    let path_owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        std::fs::File::open(path_owned)?.take(AUTH_FILE_MAX as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let mut bytes =
        read.await.map_err(|_| auth_failed("auth_file: reading was given up"))?.map_err(unreadable)?;
    if bytes.len() > AUTH_FILE_MAX {
        return Err(auth_failed(format!("auth_file {path} is longer than {AUTH_FILE_MAX} bytes")));
    }
    // Only the end of the line goes: a password may end with a blank.
    while bytes.last().is_some_and(|byte| matches!(byte, b'\r' | b'\n')) {
        bytes.pop();
    }
    // The content goes onto the wire as a data block, so its length says where it ends whatever it holds.
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) if at > 0 && !bytes.contains(&b'\n') => Ok(bytes),
        _ => Err(auth_failed(format!(
            "auth_file {path} does not hold one line: user, blank, password (a colon separates them in the server's own file only)"
        ))),
    }
}

/// memcached's ASCII authentication (`-Y`): the first command is a `set` whose data is `user password`.
async fn authenticate<S>(stream: &mut S, credentials: &[u8]) -> Result<(), ConnectError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut request = format!("set auth 0 0 {}\r\n", credentials.len()).into_bytes();
    request.extend_from_slice(credentials);
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await.map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    // One byte at a time: nothing after the line may be taken. It is a short line, once per connection.
    while !answer.ends_with(b"\r\n") && answer.len() < ANSWER_MAX {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) => return Err(auth_failed("the server closed the connection during authentication")),
        }
    }
    match answer.as_slice() {
        b"STORED\r\n" => Ok(()),
        other => {
            let other = String::from_utf8_lossy(other.trim_ascii_end());
            Err(auth_failed(format!("the server refused the credentials: {other}")))
        }
    }
}

/// How long to wait before the next attempt.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// The first attempt is at once. `seed` keeps lanes from waiting in step.
    #[must_use]
    pub fn new(seed: u64) -> Backoff {
        Backoff { failures: 0, random: seed | 1 }
    }

    /// An attempt succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Whether nothing failed since the last success.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.failures == 0
    }

    /// The wait after a failed attempt: `min` doubled per failure up to `max`, of which the second half is random.
    pub fn failed(&mut self, min: Span, max: Span) -> Span {
        let doubled = min.0.max(1_000).saturating_mul(1 << self.failures.min(20));
        let whole = doubled.min(max.0.max(min.0).max(1_000));
        self.failures = self.failures.saturating_add(1);
        // xorshift64: nobody must be unable to guess this
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        Span(whole / 2 + self.random % (whole / 2 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn waits_double_up_to_the_bound_with_jitter() {
        let (min, max) = (Span::millis(50), Span::secs(2));
        let mut backoff = Backoff::new(7);
        let waits: Vec<u64> = (0..12).map(|_| backoff.failed(min, max).0 / 1_000).collect();
        assert!((25..=50).contains(&waits[0]), "{waits:?}");
        assert!((50..=100).contains(&waits[1]), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 2_000), "{waits:?}");
        assert!(waits[6..].iter().all(|wait| *wait >= 1_000), "{waits:?}");
        backoff.succeeded();
        assert!(backoff.failed(min, max) <= min);
        let other: Vec<u64> = {
            let mut backoff = Backoff::new(8);
            (0..12).map(|_| backoff.failed(min, max).0 / 1_000).collect()
        };
        assert_ne!(waits, other, "two lanes do not wait in step");
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn tcp(address: std::net::SocketAddr) -> Address {
        Address::Tcp { host: address.ip().to_string().into(), port: address.port() }
    }

    async fn finish(mut attempt: Connecting) -> Result<Stream, ConnectError> {
        std::future::poll_fn(|cx| attempt.poll(cx)).await
    }

    #[test]
    fn failures_have_a_kind() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let refused = runtime().block_on(finish(Connecting::start(tcp(address), None, Span::secs(1))));
        assert_eq!(refused.expect_err("nobody listens").result, OpenResult::Refused);
        let missing = Address::Unix { path: "/nonexistent/weir.sock".into() };
        let refused = runtime().block_on(finish(Connecting::start(missing, None, Span::secs(1))));
        assert_eq!(refused.expect_err("no such file").result, OpenResult::Refused);
    }

    #[test]
    fn credentials_are_sent_once_and_judged_by_the_answer() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"user secret\n").expect("written");
        let path: Arc<str> = file.path().to_string_lossy().into();
        for (answer, good) in [("STORED\r\n", true), ("CLIENT_ERROR authentication failure\r\n", false)] {
            let outcome = runtime().block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                let address = listener.local_addr().expect("address");
                let server = tokio::spawn(async move {
                    let (mut stream, _) = listener.accept().await.expect("accepted");
                    let mut request = [0; 30];
                    stream.read_exact(&mut request).await.expect("the request");
                    stream.write_all(answer.as_bytes()).await.expect("answered");
                    (String::from_utf8_lossy(&request).into_owned(), stream)
                });
                let outcome =
                    finish(Connecting::start(tcp(address), Some(path.clone()), Span::secs(5))).await;
                assert_eq!(server.await.expect("server").0, "set auth 0 0 11\r\nuser secret\r\n");
                outcome
            });
            match outcome {
                Ok(_) => assert!(good),
                Err(error) => {
                    assert!(!good && error.result == OpenResult::Auth, "{error:?}");
                    assert!(!error.what.contains("secret"));
                }
            }
        }
    }

    #[test]
    fn a_silent_server_times_out() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(b"user secret").expect("written");
        let path: Arc<str> = file.path().to_string_lossy().into();
        let attempt = Connecting::start(tcp(address), Some(path), Span::millis(50));
        let outcome = runtime().block_on(finish(attempt));
        assert_eq!(outcome.expect_err("no answer").result, OpenResult::Timeout);
    }
}
