//! `weir-probes run` as a child process.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use weir_attribution::{Answer, HEAD, Head, Question, REPLY_BODY_MAX, Reply, decode_reply, encode_ask};
use weir_probes::settings::Settings;

const PROGRAM: &str = env!("CARGO_BIN_EXE_weir-probes");
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running `weir-probes run`, ended by its id when this is dropped.
struct Running {
    child: Child,
    address: String,
    ready: String,
}

impl Running {
    fn start(command: Command) -> Running {
        Running::with(command, &[])
    }

    fn with(mut command: Command, more: &[&str]) -> Running {
        let child = command.args(["run", "--listen", "127.0.0.1:0", "--interval", "200ms"]).args(more);
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = spawned(child);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let Some(Ok(ready)) = lines.next() else {
            let mut said = String::new();
            let _ = child.stderr.take().expect("piped").read_to_string(&mut said);
            panic!("it ended without a line: {:?} {said}", child.wait());
        };
        let address =
            ready.split("metrics ").nth(1).and_then(|rest| rest.split(';').next()).expect("an address");
        Running { child, address: address.to_owned(), ready }
    }

    /// Status and body of a page.
    fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: probes\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers in UTF-8");
        let (head, body) = reply.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    fn metrics(&self) -> String {
        let (status, page) = self.get("/metrics");
        assert_eq!(status, 200);
        page
    }

    fn terminate(mut self) -> (ExitStatus, String) {
        let id = rustix::process::Pid::from_raw(self.child.id() as i32).expect("an id");
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        let stderr = self.child.stderr.take().expect("piped");
        (ended(&mut self.child), all_of(stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program that was copied a moment ago is busy while another test's fork still holds the file open.
fn spawned(command: &mut Command) -> Child {
    let since = Instant::now();
    loop {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && since.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            child => return child.expect("it starts"),
        }
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    let since = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status;
        }
        assert!(since.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn all_of(mut stderr: ChildStderr) -> String {
    let mut text = String::new();
    stderr.read_to_string(&mut text).expect("UTF-8");
    text
}

fn skip(what: &str, why: &str) {
    // nobody to tell is no reason to fail
    let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: {why}");
}

/// The page obeys promtool, and nothing unknown is a number: a probe that is not attached counts nothing.
fn is_honest(page: &str) {
    let mut attached = 0;
    for line in page.lines().filter_map(|line| line.strip_prefix("weir_probe_attached{")) {
        let (labels, value) = line.rsplit_once(' ').expect("a value");
        let counts = labels.contains("state=\"attached\"");
        assert_eq!(value, if counts { "1" } else { "0" }, "{line}");
        let probe = labels.split('"').nth(1).expect("a probe");
        // Lists of the kernel's, and weir's word: they count nothing.
        attached += u32::from(counts && !["sock_diag", "namespaces", "weir"].contains(&probe));
        let lost = page.contains(&format!("weir_probe_events_lost_total{{probe=\"{probe}\"}}"));
        assert!(counts || !lost, "{probe} is not attached and has lost nothing either way");
    }
    if attached == 0 {
        for counter in ["weir_socket_errors_total", "weir_bypass_", "weir_socket_transitions_total"] {
            assert!(!page.contains(counter), "{counter} without a probe:\n{page}");
        }
    }
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        return skip("promtool check metrics", "promtool is not installed (Debian: prometheus)");
    };
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("promtool reads");
    let output = promtool.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn it_says_ready_serves_three_pages_and_ends_when_told_to() {
    let running = Running::start(Command::new(PROGRAM));
    assert!(running.ready.starts_with("weir-probes: metrics 127.0.0.1:"), "{}", running.ready);
    assert!(running.ready.ends_with("; ready"), "{}", running.ready);
    assert_eq!(running.get("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(running.get("/healthz"), (200, "ok\n".to_owned()));
    assert_eq!(running.get("/snapshot").0, 404);
    let page = running.metrics();
    is_honest(&page);
    for metric in [
        "weir_probes_host_info{kernel=\"",
        "weir_probes_look_seconds{reader=\"machine\"}",
        "weir_build_info{",
        // Without a program in the kernel: its list of sockets.
        "weir_socket_ports_capacity{namespace=\"host\"} ",
        "weir_listener_queue_max{listener=\"",
        "weir_probe_attached{probe=\"sock_diag\",state=\"attached\"} 1",
        "weir_probe_attached{probe=\"namespaces\",state=\"off\"} 0",
    ] {
        assert!(page.contains(metric), "{metric} is missing in:\n{page}");
    }
    let (status, said) = running.terminate();
    // Where tracefs is mounted nowhere, that is said; nothing else is.
    let other = said.lines().find(|line| !line.starts_with("weir-probes: tracefs was mounted nowhere"));
    assert_eq!((status.code(), other), (Some(0), None));
}

#[test]
fn pictures_keep_coming() {
    let running = Running::start(Command::new(PROGRAM));
    let age = || -> f64 {
        let page = running.metrics();
        let line = page.lines().find_map(|line| line.strip_prefix("weir_probes_picture_age_seconds "));
        line.expect("an age").parse().expect("a number")
    };
    // Without new pictures the age only grows.
    let since = Instant::now();
    let mut last = age();
    loop {
        std::thread::sleep(Duration::from_millis(20));
        let now = age();
        if now < last {
            break;
        }
        last = now;
        assert!(since.elapsed() < PATIENCE, "no second picture came");
    }
}

#[test]
fn every_wrong_flag_is_told_at_once() {
    let flags = ["run", "--watch", "11211", "--netns", "blue", "--interval", "soon", "--allow", "no/path"];
    let output = Command::new(PROGRAM).args(flags).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    for flag in [
        "--listen: missing",
        "--watch: \"11211\"",
        "--netns: \"blue\"",
        "--interval: \"soon\"",
        "--allow: \"no/path\"",
    ] {
        assert_eq!(said.matches(&format!("error: {flag}")).count(), 1, "{flag} in:\n{said}");
    }
    assert!(said.ends_with("5 errors\n"), "{said}");
}

#[test]
fn a_port_that_is_taken_is_one_clear_message() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("bound").to_string();
    let output = Command::new(PROGRAM).args(["run", "--listen", &address]).output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.starts_with(&format!("weir-probes: {address} cannot be opened: ")), "{said}");
}

#[test]
fn rights_that_are_not_needed_are_given_up_by_every_thread() {
    let running = Running::start(Command::new(PROGRAM));
    let kept = weir_probes::source::kept(&Settings::default()).bits();
    let tasks = format!("/proc/{}/task", running.child.id());
    let mut threads = 0;
    for task in std::fs::read_dir(tasks).expect("it runs") {
        let status =
            std::fs::read_to_string(task.expect("a thread").path().join("status")).expect("its status");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
            line.trim().to_owned()
        };
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            let held = u64::from_str_radix(&field(set), 16).expect("a set");
            assert_eq!(held & !kept, 0, "{set} {held:x}, of which {kept:x} is needed");
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        threads += 1;
    }
    assert!(threads >= 2, "{threads} threads: the one that serves and the one that looks");
}

#[test]
fn without_any_right_it_runs_and_invents_nothing() {
    if !rustix::process::geteuid().is_root() {
        return skip("weir-probes as another user", "only root can become another user");
    }
    // The build's folder may be closed to others.
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("weir-probes");
    std::fs::copy(PROGRAM, &program).expect("a copy");
    for path in [folder.path(), &program] as [&Path; 2] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let mut command = Command::new(&program);
    command.current_dir("/").uid(65_534).gid(65_534);
    let running = Running::start(command);
    assert!(running.ready.contains("; keeps no capability; ready"), "{}", running.ready);
    let page = running.metrics();
    is_honest(&page);
    let capabilities: Vec<&str> =
        page.lines().filter(|line| line.starts_with("weir_probes_capability{")).collect();
    assert!(
        !capabilities.is_empty() && capabilities.iter().all(|line| line.ends_with(" 0")),
        "{capabilities:?}"
    );
    assert_eq!(running.terminate().0.code(), Some(0));
}

#[test]
fn a_namespace_that_is_not_there_is_told_and_the_others_are_seen() {
    let page = Running::with(Command::new(PROGRAM), &["--netns", "blue=/run/netns/no-such"]).metrics();
    for line in [
        "weir_probe_attached{probe=\"sock_diag\",state=\"attached\"} 1",
        "weir_probe_attached{probe=\"namespaces\",state=\"refused\"} 0",
        "weir_socket_ports_capacity{namespace=\"host\"} ",
    ] {
        assert!(page.contains(line), "{line} is missing in:\n{page}");
    }
    assert!(!page.contains("namespace=\"blue\""), "nothing is known of it");
}

#[test]
fn a_weir_that_does_not_answer_is_told_and_nothing_is_compared() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
    let page = Running::with(Command::new(PROGRAM), &["--weir-metrics", &nobody.to_string()]).metrics();
    is_honest(&page);
    assert!(page.contains("weir_probe_attached{probe=\"weir\",state=\"refused\"} 0"), "{page}");
    assert!(!page.contains("weir_witness_disagreement{"), "unknown is not agreement:\n{page}");
}

#[test]
fn a_service_that_is_not_there_has_no_process_and_no_other_number() {
    let page = Running::with(Command::new(PROGRAM), &["--service", "appview=4294967295"]).metrics();
    is_honest(&page);
    if page.contains("weir_probe_attached{probe=\"services\",state=\"attached\"} 1") {
        assert!(page.contains("weir_service_processes{service=\"appview\"} 0\n"), "{page}");
    } else {
        skip("a service without processes", "the probe is not attached");
        assert!(!page.contains("weir_service_processes{"), "{page}");
    }
    for metric in
        ["weir_service_requests_total{", "weir_service_cpu_seconds_total{", "weir_request_cpu_seconds_"]
    {
        assert!(!page.contains(metric), "{metric}: unknown is not 0:\n{page}");
    }
}

#[test]
fn whoever_may_ask_is_told_whose_its_clients_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("weir-probes/attribution.sock");
    let place = format!("unix:{}", socket.display());
    let running = Running::with(Command::new(PROGRAM), &["--attribution", &place]);
    // This program plays weir and its client both.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let weir = listener.local_addr().expect("an address");
    let client = TcpStream::connect(weir).expect("connected");
    let question = Question { client: client.local_addr().expect("an address"), weir };
    let mut peer = UnixStream::connect(&socket).expect("it listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    let mut frame = Vec::new();
    encode_ask(&mut frame, &[question]);
    let since = Instant::now();
    let seen = loop {
        peer.write_all(&frame).expect("sent");
        let mut head = [0; HEAD];
        peer.read_exact(&mut head).expect("answered");
        let head = Head::read(&head, REPLY_BODY_MAX).expect("a head");
        let mut body = vec![0; head.length as usize];
        peer.read_exact(&mut body).expect("all of it");
        match decode_reply(head, &body) {
            Ok(Reply::Answers(answers)) => match answers.into_iter().next() {
                Some(Answer::Seen(seen)) => break seen,
                other => assert!(since.elapsed() < PATIENCE, "{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(seen.pid, std::process::id());
    let (status, _) = running.terminate();
    assert_eq!(status.code(), Some(0));
    assert!(!socket.exists(), "the socket goes with whoever made it");
}
