//! The admin server over real sockets, in front of a fake weir: who is let in, what each door serves, bounds.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use weir::admin::client::{Client, ClientError};
use weir::admin::model::{CallerRow, ConfigReport, LimitsReport, RequestReport, Snapshot};
use weir::admin::{AdminListener, Answer, Audit, Change, ControlError, Exposition, Outcome, Plane, serve};
use weir::config::address::parse_address;
use weir::overrides::Who;
use weir_engine::correlate::CorrelationId;

#[derive(Default)]
struct Fake {
    changes: Mutex<Vec<(Change, Who)>>,
    audits: Mutex<Vec<Audit>>,
    not_ready: Option<String>,
}

impl Plane for Fake {
    fn snapshot(&self) -> Answer<'_, Snapshot> {
        let row =
            CallerRow { caller: "importer\u{1b}<script>".to_owned(), operations: 7, ..CallerRow::default() };
        Box::pin(async move { Snapshot { callers: vec![row], ..Snapshot::default() } })
    }
    fn request(&self, id: CorrelationId) -> Answer<'_, Option<RequestReport>> {
        let known = id == CorrelationId([7; 16]);
        let report = RequestReport { id: id.to_string(), ..RequestReport::default() };
        Box::pin(async move { known.then_some(report) })
    }
    fn metrics(&self, accept: Option<&str>) -> Answer<'_, Exposition> {
        let body = format!("# accept {}\n", accept.unwrap_or("nothing")).into_bytes();
        Box::pin(async move { Exposition { content_type: "text/plain; version=0.0.4", body } })
    }
    fn ready(&self) -> Result<(), String> {
        self.not_ready.clone().map_or(Ok(()), Err)
    }
    fn config(&self) -> ConfigReport {
        ConfigReport { source: "fake".to_owned(), ..ConfigReport::default() }
    }
    fn limits(&self) -> LimitsReport {
        LimitsReport::default()
    }
    fn change(&self, change: Change, who: Who) -> Answer<'_, Result<Outcome, ControlError>> {
        let refused = matches!(&change, Change::ClearLimits(clear) if clear.caller == "nobody");
        self.changes.lock().expect("not poisoned").push((change, who));
        Box::pin(async move {
            if refused {
                return Err(ControlError::NotFound("nothing to clear".to_owned()));
            }
            Ok(Outcome { summary: "made".to_owned(), ..Outcome::default() })
        })
    }
    fn audit(&self, entry: &Audit) {
        self.audits.lock().expect("not poisoned").push(entry.clone());
    }
}

/// A running admin server on a Unix socket.
struct Server {
    fake: Arc<Fake>,
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    async fn start(metrics: bool, fake: Fake) -> Server {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("run/admin.sock");
        let address = parse_address(&format!("unix:{}", path.display())).expect("an address");
        let listener = if metrics {
            AdminListener::metrics(&address).await
        } else {
            AdminListener::control(&address, None).await
        };
        let fake = Arc::new(fake);
        let task = tokio::spawn(serve(listener.expect("opened"), fake.clone()));
        Server { fake, path, task, _directory: directory }
    }

    /// Sends bytes, and answers everything that comes back until the server closes or is silent.
    async fn raw(&self, request: &str) -> String {
        let stream = UnixStream::connect(&self.path).await.expect("connected");
        talk(stream, request).await
    }

    async fn get(&self, path: &str) -> String {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")).await
    }

    async fn post(&self, method: &str, path: &str, body: &str) -> String {
        self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }
}

async fn talk<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    mut stream: S,
    request: &str,
) -> String {
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("nothing")
}

const SET: &str =
    r#"{"caller":"importer","limits":{"operations_per_request":500,"mode":"refuse"},"for_seconds":60}"#;

#[tokio::test]
async fn the_control_door_serves_every_page() {
    let server = Server::start(false, Fake::default()).await;
    for path in [
        "/",
        "/metrics",
        "/healthz",
        "/readyz",
        "/snapshot",
        "/callers",
        "/expensive",
        "/pools",
        "/config",
        "/limits",
        "/amplification",
        "/request?id=BwcHBwcHBwcHBwcHBwcHBw",
        "/request?x=1&id=07070707070707070707070707070707",
    ] {
        let answer = server.get(path).await;
        assert_eq!(status(&answer), "200", "{path}: {answer}");
    }
    let answer = server.get("/callers").await;
    assert!(answer.contains("\\u001b") && !answer.contains('\x1b'), "escaped where it leaves: {answer}");
    assert!(answer.contains("application/json") && answer.contains("nosniff"), "{answer}");
    assert_eq!(status(&server.get("/nothing").await), "404");
    assert_eq!(status(&server.get("/request?id=00000000000000000000000000000001").await), "404");
    for wrong in ["/request", "/request?id=", "/request?id=%00", "/request?di=07"] {
        assert_eq!(status(&server.get(wrong).await), "400", "{wrong}");
    }
}

#[tokio::test]
async fn the_metrics_door_serves_three_pages_and_no_more() {
    let server =
        Server::start(true, Fake { not_ready: Some("no server is up".into()), ..Fake::default() }).await;
    assert!(server.get("/metrics").await.contains("# accept nothing"));
    assert_eq!(status(&server.get("/healthz").await), "200");
    let answer = server.get("/readyz").await;
    assert_eq!(status(&answer), "503");
    assert!(answer.contains("no server is up"));
    for path in [
        "/",
        "/callers",
        "/config",
        "/limits",
        "/snapshot",
        "/pools",
        "/expensive",
        "/request",
        "/amplification",
    ] {
        assert_eq!(status(&server.get(path).await), "404", "{path}");
    }
    for path in ["/reload", "/limits", "/switch"] {
        assert_eq!(status(&server.post("POST", path, "{}").await), "404", "{path}");
    }
    assert!(server.fake.changes.lock().expect("not poisoned").is_empty());
    let any_host = "GET /metrics HTTP/1.1\r\nhost: weir-7.prod.example\r\nconnection: close\r\n\r\n";
    assert_eq!(status(&server.raw(any_host).await), "200", "scrapers use the machine's name");
}

#[tokio::test]
async fn changes_are_made_and_audited() {
    let server = Server::start(false, Fake::default()).await;
    assert_eq!(status(&server.post("POST", "/limits", SET).await), "200");
    assert_eq!(status(&server.post("DELETE", "/limits", r#"{"caller":"importer"}"#).await), "200");
    let off = r#"{"feature":"single-flight","on":false,"listener":"cache","for_seconds":60}"#;
    assert_eq!(status(&server.post("POST", "/switch", off).await), "200");
    assert_eq!(status(&server.post("POST", "/reload", "").await), "200");
    assert_eq!(status(&server.post("DELETE", "/limits", r#"{"caller":"nobody"}"#).await), "404");
    let changes = server.fake.changes.lock().expect("not poisoned");
    let own = rustix::process::geteuid().as_raw();
    assert_eq!(changes.len(), 5);
    assert!(changes.iter().all(|(_, who)| who.uid == Some(own)), "the kernel says who: {changes:?}");
    let audits = server.fake.audits.lock().expect("not poisoned");
    let results: Vec<&str> = audits.iter().map(|entry| entry.result.as_str()).collect();
    assert_eq!(results, ["done", "done", "done", "done", "not_found"]);
    assert!(audits[0].action.starts_with("limits set {\"caller\":\"importer\""), "{}", audits[0].action);
}

#[tokio::test]
async fn changes_that_cannot_be_read_are_refused() {
    let server = Server::start(false, Fake::default()).await;
    for (body, expected) in [
        ("", "400"),
        ("{", "400"),
        ("[]", "400"),
        (r#"{"caller":"a","limits":{},"for_seconds":60,"surprise":1}"#, "400"),
        (r#"{"caller":"a","limits":{"operations_per_request":0},"for_seconds":60}"#, "400"),
        (r#"{"caller":"a","limits":{"operations_per_request":-1},"for_seconds":60}"#, "400"),
        (r#"{"caller":"a","limits":{"mode":"explode"},"for_seconds":60}"#, "400"),
    ] {
        assert_eq!(status(&server.post("POST", "/limits", body).await), expected, "{body}");
    }
    let form = "POST /reload HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(status(&server.raw(form).await), "200", "a reload has no body");
    let plain = format!(
        "POST /limits HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{SET}",
        SET.len()
    );
    assert_eq!(status(&server.raw(&plain).await), "415", "a page in a browser can send text/plain");
    assert_eq!(server.fake.changes.lock().expect("not poisoned").len(), 1);
}

#[tokio::test]
async fn each_page_takes_its_methods_only() {
    let server = Server::start(false, Fake::default()).await;
    for (method, path) in [
        ("GET", "/reload"),
        ("GET", "/switch"),
        ("POST", "/callers"),
        ("POST", "/metrics"),
        ("PUT", "/limits"),
        ("DELETE", "/reload"),
        ("OPTIONS", "/limits"),
    ] {
        let answer = server.post(method, path, "{}").await;
        assert_eq!(status(&answer), "405", "{method} {path}");
        assert!(answer.contains("allow: "), "{answer}");
    }
    assert!(server.fake.changes.lock().expect("not poisoned").is_empty());
}

#[tokio::test]
async fn other_hosts_are_not_served() {
    let server = Server::start(false, Fake::default()).await;
    for host in ["evil.example", "127.0.0.1.evil.example", ""] {
        let answer =
            server.raw(&format!("GET /callers HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), "403", "{host}");
    }
    let answer = server.raw("GET /callers HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(status(&answer), "403", "no Host at all");
    let audits = server.fake.audits.lock().expect("not poisoned");
    assert!(audits.iter().all(|entry| entry.result == "unauthorised"));
    assert_eq!(audits.len(), 4);
}

#[tokio::test]
async fn sizes_are_bounded() {
    let server = Server::start(false, Fake::default()).await;
    let long_line = format!("GET /{} HTTP/1.1\r\nhost: localhost\r\n\r\n", "a".repeat(64 << 10));
    assert!(matches!(status(&server.raw(&long_line).await), "414" | "431"));
    let many: String = (0..200).map(|index| format!("x-{index}: 1\r\n")).collect();
    let answer = server.raw(&format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n")).await;
    assert_eq!(status(&answer), "431");
    let answer = server.post("POST", "/limits", &" ".repeat(20 << 10)).await;
    assert_eq!(status(&answer), "413");
    let garbage = server.raw("\u{0}\u{1}\u{2} nonsense\r\n\r\n").await;
    assert_eq!(status(&garbage), "400");
}

#[tokio::test]
async fn more_connections_than_allowed_wait_and_are_served_later() {
    let server = Server::start(false, Fake::default()).await;
    let mut idle = Vec::new();
    for _ in 0..serve_max() {
        idle.push(UnixStream::connect(&server.path).await.expect("connected"));
    }
    let waiting = UnixStream::connect(&server.path).await.expect("in the queue of the kernel");
    let request = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let waiting = tokio::spawn(talk(waiting, request));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "every place is taken");
    drop(idle);
    assert_eq!(status(&waiting.await.expect("it ran")), "200");
}

fn serve_max() -> usize {
    weir::admin::serve::CONNECTIONS_MAX
}

#[tokio::test]
async fn the_socket_is_the_owners_alone() {
    let server = Server::start(false, Fake::default()).await;
    let mode =
        |path: &std::path::Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(&server.path), 0o600);
    assert_eq!(mode(server.path.parent().expect("it has one")), 0o700);
    let address = parse_address(&format!("unix:{}", server.path.display())).expect("an address");
    let error = AdminListener::control(&address, None).await.expect_err("somebody listens there");
    assert!(error.to_string().contains("another process listens"), "{error}");
    assert_eq!(status(&server.get("/healthz").await), "200", "the first one lives on");
    server.task.abort();
    let _ = server.task.await;
    assert!(!server.path.exists(), "the file goes with the listener");
}

#[tokio::test]
async fn a_dead_socket_is_taken_over_and_a_file_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let address = parse_address(&format!("unix:{}", path.display())).expect("an address");
    drop(AdminListener::control(&address, None).await.expect("nobody listens there"));
    std::fs::write(&path, "precious").expect("written");
    assert!(AdminListener::control(&address, None).await.is_err());
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "precious");
}

#[tokio::test]
async fn tcp_needs_the_token_and_a_local_host() {
    let directory = tempfile::tempdir().expect("a directory");
    let token = directory.path().join("token");
    std::fs::write(&token, "correct-horse-battery\n").expect("written");
    let anywhere = weir_engine::settings::Address::Tcp { host: "127.0.0.1".into(), port: 0 };
    assert!(AdminListener::control(&anywhere, None).await.is_err(), "no token file");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).expect("set");
    let error = AdminListener::control(&anywhere, Some(&token)).await.expect_err("others can read it");
    assert!(error.to_string().contains("chmod 600"), "{error}");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("set");
    let listener = AdminListener::control(&anywhere, Some(&token)).await.expect("opened");
    let port = listener.port().expect("it has one");
    let fake = Arc::new(Fake::default());
    let task = tokio::spawn(serve(listener, fake.clone()));

    for (host, authorization, expected) in [
        ("127.0.0.1", "", "401"),
        ("127.0.0.1", "authorization: Bearer wrong-horse-battery\r\n", "401"),
        ("evil.example", "authorization: Bearer correct-horse-battery\r\n", "403"),
        ("localhost:1", "authorization: Bearer correct-horse-battery\r\n", "200"),
        ("[::1]", "authorization: Bearer correct-horse-battery\r\n", "200"),
    ] {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let request =
            format!("GET /callers HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{authorization}\r\n");
        assert_eq!(status(&talk(stream, &request).await), expected, "{host} {authorization}");
    }
    let address = parse_address(&format!("127.0.0.1:{port}")).expect("an address");
    let client = Client::new(Some(&address), Some(&token)).expect("the token is good");
    let _: Outcome = client.send(hyper::Method::POST, "/reload", &()).await.expect("let in");
    assert_eq!(fake.changes.lock().expect("not poisoned")[0].1.name, "token");
    let stranger = Client::new(Some(&address), None).expect("no token");
    let error = stranger.get::<Snapshot>("/snapshot").await.expect_err("not let in");
    assert!(matches!(error, ClientError::Refused { status: 401, .. }), "{error}");
    task.abort();
}

#[tokio::test]
async fn the_client_says_what_is_the_matter() {
    let server = Server::start(false, Fake::default()).await;
    let address = parse_address(&format!("unix:{}", server.path.display())).expect("an address");
    let client = Client::new(Some(&address), None).expect("no token needed");
    let snapshot: Snapshot = client.get("/snapshot").await.expect("an answer");
    assert_eq!(snapshot.callers[0].operations, 7);
    let clear = serde_json::json!({ "caller": "nobody" });
    let error = client.send::<Outcome>(hyper::Method::DELETE, "/limits", &clear).await.expect_err("refused");
    assert_eq!(error.to_string(), "nothing to clear");
    let error = client.get::<Vec<u8>>("/snapshot").await.expect_err("another shape");
    assert!(matches!(error, ClientError::Strange { .. }), "{error}");
    server.task.abort();
    let _ = server.task.await;
    let error = client.get::<Snapshot>("/snapshot").await.expect_err("gone");
    assert!(error.to_string().contains("name its socket with --admin"), "{error}");
}
