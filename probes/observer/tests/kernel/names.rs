//! Whose it is: the process, not the thread, and in whatever process namespace it is.

use crate::namespace::{Place, enter, own_address, skip};
use crate::traffic::{request, serve};
use crate::{load, look, options};
use rustix::io::Errno;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use weir_probes::kernel::pardon::Pardon;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::{Call, Process};

/// Connects as often as it is told, asks a port that nobody listens on once, says so, and waits for its end.
const CLIENT: &str = "import socket, sys
for _ in range(int(sys.argv[3])):
    s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    s.sendall(b'get a b c\\r\\n'); s.recv(1); s.close()
try: socket.create_connection((sys.argv[1], int(sys.argv[4])))
except ConnectionRefusedError: print('done', flush=True)
sys.stdin.read()";

/// Ended by its end of input, and by its id when a test fails.
struct Contained(Child);

impl Contained {
    /// Runs the client as the first process of a process namespace of its own.
    fn start(to: SocketAddr, connections: usize, nobody: u16) -> Contained {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--", "python3", "-c", CLIENT]);
        command.args([
            to.ip().to_string(),
            to.port().to_string(),
            connections.to_string(),
            nobody.to_string(),
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut line = String::new();
        let said = BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line);
        assert!(said.is_ok() && line == "done\n", "{line:?}");
        Contained(child)
    }

    /// Its number here.
    fn pid(&self) -> u32 {
        let unshare = self.0.id();
        let children = std::fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
        children.expect("CONFIG_PROC_CHILDREN").trim().parse().expect("one child")
    }
}

impl Drop for Contained {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// All that was seen towards these: connections, operations and failures, each with its process.
fn seen(kernel: &Kernel, to: SocketAddr, nobody: SocketAddr) -> [Vec<(Process, u64)>; 3] {
    let picture = look(kernel);
    let (to, nobody) = (to.to_string(), nobody.to_string());
    let bypass = picture.bypass.expect("attached").into_iter().filter(|row| row.destination.label() == to);
    let work = picture.bypass_work.expect("attached").into_iter().filter(|row| row.destination.label() == to);
    let errors = picture.errors.expect("attached").into_iter();
    let errors = errors.filter(|row| row.destination.label() == nobody && row.call == Call::Connect);
    [
        bypass.map(|row| (row.process, row.connections)).collect(),
        work.map(|row| (row.process, row.operations)).collect(),
        errors.map(|row| (row.process, row.failures)).collect(),
    ]
}

#[test]
fn a_process_of_another_process_namespace_is_the_one_that_it_is_here() {
    const TEST: &str = "names::a_process_of_another_process_namespace_is_the_one_that_it_is_here";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let tried = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "--", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        skip(TEST, "a process namespace is refused");
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let nobody = SocketAddr::from((own_address(), 11_999));
    let watch = Options { destinations: vec![to, nobody], ..options(&["bypass", "work", "errors"]) };
    let Some(mut kernel) = load(TEST, &watch) else { return };
    let server = serve(listener, 7);
    let contained = Contained::start(to, 7, nobody.port());
    let pid = contained.pid();
    let proc = format!("/proc/{pid}");
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    assert!(status.contains(&format!("NSpid:\t{pid}\t1\n")), "it is the first one over there");
    let comm = std::fs::read_to_string(format!("{proc}/comm")).unwrap();
    let exe = std::fs::read_link(format!("{proc}/exe")).unwrap().to_string_lossy().into_owned();
    let counts = [7, 21, 1];
    for (rows, count) in seen(&kernel, to, nobody).into_iter().zip(counts) {
        let [(process, counted)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((process.pid, *counted), (pid, count), "{rows:?}");
        assert_eq!((process.comm.as_str(), process.uid), (comm.trim_end(), Some(0)));
        assert_eq!(process.executable.as_deref(), Some(exe.as_str()), "the host's /proc tells");
    }
    kernel.tend(&Pardon::default());
    assert_eq!(seen(&kernel, to, nobody)[0][0].0.pid, pid, "it lives");

    // It ends: a reading shows all of it once more with its number, and then its sums stand by its name.
    drop(contained);
    assert!(seen(&kernel, to, nobody).iter().all(|rows| rows[0].0.pid == pid));
    kernel.tend(&Pardon::default());
    for (rows, count) in seen(&kernel, to, nobody).into_iter().zip(counts) {
        let [(process, counted)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!((process.pid, process.ended, *counted), (0, true, count), "{rows:?}");
        assert_eq!((process.comm.as_str(), process.uid), (comm.trim_end(), Some(0)));
    }
    server.join().unwrap();
}

#[test]
fn a_thread_goes_by_the_name_of_its_process() {
    const TEST: &str = "names::a_thread_goes_by_the_name_of_its_process";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let nobody = SocketAddr::from((own_address(), 11_999));
    let watch = Options { destinations: vec![to, nobody], ..options(&["bypass", "work", "errors"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let server = serve(listener, 2);
    let thread = std::thread::Builder::new().name("http-nio-8080-e".to_owned());
    let working = thread.spawn(move || {
        request(TcpStream::connect(to).unwrap());
        let error = TcpStream::connect(nobody).expect_err("nobody listens");
        assert_eq!(error.raw_os_error(), Some(Errno::CONNREFUSED.raw_os_error()));
    });
    working.unwrap().join().unwrap();
    request(TcpStream::connect(to).unwrap());
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    let [bypass, _, errors] = seen(&kernel, to, nobody);
    for (rows, count) in [(bypass, 2), (errors, 1)] {
        let [(process, counted)] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (process.comm.as_str(), process.pid, *counted),
            (own.trim_end(), std::process::id(), count)
        );
    }
    server.join().unwrap();
}

#[test]
fn in_a_process_namespace_of_its_own_weir_probes_says_what_that_costs() {
    const TEST: &str = "names::in_a_process_namespace_of_its_own_weir_probes_says_what_that_costs";
    let notes = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(arguments).arg("--").arg(env!("CARGO_BIN_EXE_weir-probes")).args(["check", "--json"]);
        let done = command.output().ok().filter(|done| done.status.success())?;
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).ok()?;
        let text = report["notes"].to_string();
        Some(text.contains("/proc shows another process namespace"))
    };
    let Some(alone) = notes(&["--pid", "--fork", "--mount-proc"]) else {
        skip(TEST, "a process namespace is refused");
        return;
    };
    assert!(alone, "its own /proc");
    let first =
        std::fs::read_link("/proc/self/ns/pid").is_ok_and(|link| link.as_os_str() == "pid:[4026531836]");
    if first {
        assert_eq!(notes(&["--pid", "--fork"]), Some(false), "a namespace of its own, and the host's /proc");
    }
}
