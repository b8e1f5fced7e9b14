//! Network namespaces that come and go while `weir-probes run --netns` looks into them.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{PATIENCE, dial, skip, weir_probes};
use weir_probes::namespaces::inside;

/// A namespace with a name, as containers have; both are gone when this is dropped.
struct Named(String, PathBuf);

impl Named {
    /// `None`, said aloud: there are none to be had here.
    fn new(test: &str) -> Option<Named> {
        let name = format!("weir-test-{}", std::process::id());
        let path = Path::new("/run/netns").join(&name);
        let named = Named(name, path);
        named
            .add()
            .map_err(|why| skip(test, &format!("a named network namespace is refused: {why}")))
            .ok()?;
        Some(named)
    }

    fn add(&self) -> Result<(), String> {
        ip(&["netns", "add", &self.0])?;
        ip(&["-n", &self.0, "link", "set", "lo", "up"])
    }

    fn delete(&self) {
        ip(&["netns", "delete", &self.0]).expect("it is there");
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = ip(&["netns", "delete", &self.0]); // it may be gone
    }
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(arguments).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    if done.status.success() { Ok(()) } else { Err(said) }
}

struct Running(Child, String);

impl Running {
    fn start(arguments: &[&str]) -> Running {
        let mut command = weir_probes(&["run", "--listen", "127.0.0.1:0", "--interval", "200ms"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut ready).expect("a line");
        let address = ready.split("metrics ").nth(1).and_then(|rest| rest.split(';').next());
        Running(child, address.expect("an address").to_owned())
    }

    fn page(&self) -> String {
        let mut stream = TcpStream::connect(&self.1).expect("it listens");
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: p\r\nconnection: close\r\n\r\n").expect("it reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("it answers");
        reply
    }

    /// Waits for a page that has these lines, and none with those words.
    #[track_caller]
    fn shows(&self, lines: &[&str], no: &[&str]) {
        let begun = Instant::now();
        loop {
            let page = self.page();
            let has = |wanted: &&&str| page.lines().any(|line| line == **wanted);
            let missing: Vec<_> = lines.iter().filter(|line| !has(line)).collect();
            let extra: Vec<_> = no.iter().filter(|word| page.contains(**word)).collect();
            if missing.is_empty() && extra.is_empty() {
                return;
            }
            let of = page.lines().filter(|line| line.contains("namespace") && !line.starts_with('#'));
            let of: Vec<_> = of.collect();
            assert!(begun.elapsed() < PATIENCE, "{missing:?} missing, {extra:?} there: {of:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const SEEN: &str = "weir_probe_attached{probe=\"namespaces\",state=\"attached\"} 1";
const REFUSED: &str = "weir_probe_attached{probe=\"namespaces\",state=\"refused\"} 0";
const HOST: &str = "weir_probe_attached{probe=\"sock_diag\",state=\"attached\"} 1";
const CAPACITY: &str = "weir_socket_ports_capacity{namespace=\"blue\"} 10";
const FIVE: &str = "weir_socket_states{namespace=\"blue\",destination=\"127.0.0.1:11212\",direction=\"outgoing\",state=\"established\"} 5";
const OF_BLUE: &str = "namespace=\"blue\"";

/// Five connections inside.
fn connections(path: &Path) -> (TcpListener, Vec<TcpStream>) {
    let made = inside(Some(path), |_| {
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "30000 30009").expect("its own setting");
        let listener = TcpListener::bind("127.0.0.1:11212").expect("a port");
        let to = listener.local_addr().expect("an address");
        let clients = (0..5).map(|_| dial(to, None).expect("connected")).collect();
        (listener, clients)
    });
    made.expect("entered")
}

#[test]
fn a_namespace_that_is_deleted_under_it_is_told_and_found_again() {
    const TEST: &str = "a_namespace_that_is_deleted_under_it_is_told_and_found_again";
    if !rustix::process::geteuid().is_root() {
        return skip(TEST, "only root may make network namespaces");
    }
    let Some(blue) = Named::new(TEST) else { return };
    let held = connections(&blue.1);
    let flag = format!("blue={}", blue.1.display());
    let running = Running::start(&["--netns", &flag]);
    running.shows(&[SEEN, HOST, CAPACITY, FIVE], &[]);

    // its name goes, while connections keep it alive
    blue.delete();
    running.shows(&[REFUSED, HOST], &[OF_BLUE]);
    drop(held);

    // another one of the name: with ports of its own, and nobody connected
    blue.add().expect("again");
    running.shows(&[SEEN, HOST], &[FIVE, CAPACITY]);
    let held = connections(&blue.1);
    running.shows(&[SEEN, HOST, CAPACITY, FIVE], &[]);

    // its name stays, and means a file without a namespace
    rustix::mount::unmount(&blue.1, rustix::mount::UnmountFlags::DETACH).expect("it is mounted");
    running.shows(&[REFUSED, HOST], &[OF_BLUE]);
    let why = inside(Some(&blue.1), |_| ()).expect_err("a file").to_string();
    assert!(why.ends_with("is no network namespace"), "{why}");
    drop(held);
    std::fs::remove_file(&blue.1).expect("a file");
    blue.add().expect("a third time");
    running.shows(&[SEEN, HOST, "weir_socket_ports_capacity{namespace=\"blue\"} 28232"], &[]);
}
