//! A connection to a memcached server: dialled, and signed in where there is an `auth_file`.

use super::{ConnectError, Connected, Connecting, auth_failed, credentials, dial, failed, within};
use crate::worker::sockets::Stream;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use weir_engine::settings::Address;
use weir_engine::units::Span;

/// Bytes of the server's answer to the credentials.
const ANSWER_MAX: usize = 512;

/// Starts an attempt.
#[must_use]
pub fn start(address: Address, auth_file: Option<Arc<str>>, timeout: Span) -> Connecting {
    Connecting::within(timeout, async move { connect(&address, auth_file.as_deref()).await })
}

/// Dials and signs in, within `timeout`.
///
/// # Errors
/// Why there is no connection.
pub async fn connect_within(
    address: &Address,
    auth_file: Option<&str>,
    timeout: Span,
) -> Result<Stream, ConnectError> {
    within(timeout, connect(address, auth_file)).await.map(|connected| connected.stream)
}

async fn connect(address: &Address, auth_file: Option<&str>) -> Result<Connected, ConnectError> {
    let mut stream = dial(address, None).await?;
    if let Some(path) = auth_file {
        let credentials = credentials::read(path).await?;
        authenticate(&mut stream, &credentials).await?;
    }
    Ok(Connected { stream, early: Vec::new(), shard: None, scylla: None, tablets: false })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use weir_telemetry::OpenResult;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    }

    fn tcp(address: std::net::SocketAddr) -> Address {
        Address::Tcp { host: address.ip().to_string().into(), port: address.port() }
    }

    async fn finish(mut attempt: Connecting) -> Result<Connected, ConnectError> {
        std::future::poll_fn(|cx| attempt.poll(cx)).await
    }

    #[test]
    fn failures_have_a_kind() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("address");
        drop(listener);
        let refused = runtime().block_on(finish(start(tcp(address), None, Span::secs(1))));
        assert_eq!(refused.expect_err("nobody listens").result, OpenResult::Refused);
        let missing = Address::Unix { path: "/nonexistent/weir.sock".into() };
        let refused = runtime().block_on(finish(start(missing, None, Span::secs(1))));
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
                let outcome = finish(start(tcp(address), Some(path.clone()), Span::secs(5))).await;
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
        let attempt = start(tcp(address), Some(path), Span::millis(50));
        let outcome = runtime().block_on(finish(attempt));
        assert_eq!(outcome.expect_err("no answer").result, OpenResult::Timeout);
    }
}
