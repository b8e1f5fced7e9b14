//! The probe `work`: however a process came by its socket, and whatever call it sends with.

use crate::namespace::{Place, enter, own_address};
use crate::traffic::drain;
use crate::{load, look, options};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::io::{BufRead as _, BufReader, IoSlice, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use weir_probes::kernel::pardon::Pardon;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::BypassWork;

fn get(keys: usize) -> Vec<u8> {
    let mut request = b"get".to_vec();
    (0..keys).for_each(|key| request.extend_from_slice(format!(" post:{key}").as_bytes()));
    request.extend_from_slice(b"\r\n");
    request
}

fn all(kernel: &Kernel, to: SocketAddr) -> Vec<BypassWork> {
    let all = look(kernel).bypass_work.expect("the probe is attached");
    all.into_iter().filter(|one| one.destination.label() == to.to_string()).collect()
}

/// Of this process.
fn mine(kernel: &Kernel, to: SocketAddr) -> BypassWork {
    let own = all(kernel, to).into_iter().find(|one| one.process.pid == std::process::id());
    own.expect("this process sent something")
}

fn watch(to: SocketAddr) -> Options {
    Options { destinations: vec![to], ..options(&["work"]) }
}

#[test]
fn requests_are_counted_whatever_call_sends_them() {
    const TEST: &str = "work::requests_are_counted_whatever_call_sends_them";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let server = drain(listener, 2);
    // older than the probe
    let mut stream = TcpStream::connect(to).unwrap();
    let Some(kernel) = load(TEST, &watch(to)) else { return };
    let mut sent = 0;
    let mut bytes = 0;
    for keys in [1, 2_000, 15_000] {
        let request = get(keys);
        for call in 0..4 {
            let before = if sent > 0 { mine(&kernel, to).operations } else { 0 };
            match call {
                0 => stream.write_all(&request).unwrap(), // sendto
                1 => assert_eq!(rustix::io::write(&stream, &request).unwrap(), request.len()),
                2 => {
                    assert_eq!(rustix::io::writev(&stream, &[IoSlice::new(&request)]).unwrap(), request.len())
                }
                _ => {
                    let flags = SendFlags::empty();
                    let pieces = [IoSlice::new(&request)];
                    let done =
                        rustix::net::sendmsg(&stream, &pieces, &mut SendAncillaryBuffer::default(), flags);
                    assert_eq!(done.unwrap(), request.len());
                }
            }
            (sent, bytes) = (sent + 1, bytes + request.len() as u64);
            let counted = mine(&kernel, to).operations - before;
            println!("measured: call {call}, get of {keys} keys counted as {counted}");
            assert!(
                counted.abs_diff(keys as u64) * 100 <= keys as u64,
                "call {call}: {keys} keys are {counted}"
            );
        }
    }
    let seen = mine(&kernel, to);
    assert_eq!((seen.requests, seen.writes, seen.bytes, seen.unseen), (sent, sent, bytes, 0));
    assert_eq!(seen.sizes.counts.iter().sum::<u64>(), sent);
    assert!(seen.largest_last_minute.abs_diff(15_000) <= 150, "{}", seen.largest_last_minute);
    assert_eq!(seen.process.uid, Some(0));

    // what is no read counts as one operation, what is no request as none
    let before = mine(&kernel, to);
    for (request, requests, operations) in [
        (&b"set k 0 0 23\r\nget a b c d\nget e f g h\r\n"[..], 1, 1),
        (b"delete k\r\n", 1, 1),
        (b"mg a v\r\nmg b v\r\nmg c v\r\n", 1, 3),
        (b"gat 60 a b c\r\n", 1, 3),
        (b" and the rest of a value with spaces", 0, 0),
        (b"stats\r\n", 0, 0),
        (b"\x04\0\0\x01\x0a\0\0\0\x05\0\x01x\0\0", 1, 1), // EXECUTE
        (b"\x04\0\0\x01\x0d\0\0\0\x08\0\0\x2a\0\0\0\0\0", 1, 42), // BATCH
        (b"\x04\0\0\x01\x07\0\0\0\x05\0\0\0\0x\x04\0\0\x02\x07\0\0\0\x05\0\0\0\0x", 1, 2), // two QUERY
        (b"\x05\0\0\x01\x05\0\0\0\0", 0, 0),              // OPTIONS
    ] {
        let before = mine(&kernel, to);
        stream.write_all(request).unwrap();
        let after = mine(&kernel, to);
        let counted = (after.requests - before.requests, after.operations - before.operations);
        assert_eq!(counted, (requests, operations), "{:?}", String::from_utf8_lossy(request));
    }
    assert_eq!(mine(&kernel, to).writes - before.writes, 10);

    // a call that the probe does not read is said to be unseen
    let before = mine(&kernel, to);
    let file = tempfile::tempfile().unwrap();
    (&file).write_all(&get(3)).unwrap();
    let mut offset = 0;
    assert_eq!(rustix::fs::sendfile(&stream, &file, Some(&mut offset), 4096).unwrap(), get(3).len());
    let after = mine(&kernel, to);
    assert_eq!((after.unseen > before.unseen, after.requests), (true, before.requests));

    // a connection that is made now is seen as the old one was
    let before = mine(&kernel, to).requests;
    let mut fresh = TcpStream::connect(to).unwrap();
    fresh.write_all(&get(5)).unwrap();
    assert_eq!(mine(&kernel, to).requests, before + 1);
    drop((stream, fresh, kernel));
    server.join().unwrap();
}

/// Makes files until one has this number: the lowest free one is given out first. Nobody else in this process may open or
/// close any meanwhile.
fn with_number<F: AsRawFd>(number: i32, make: impl Fn() -> F) -> F {
    let mut lower = Vec::new();
    loop {
        let file = make();
        if file.as_raw_fd() == number {
            return file;
        }
        assert!(file.as_raw_fd() < number && lower.len() < 64, "{number} is in use");
        lower.push(file);
    }
}

#[test]
fn a_descriptor_that_is_used_again_duplicated_or_inherited_is_no_other_socket() {
    const TEST: &str = "work::a_descriptor_that_is_used_again_duplicated_or_inherited_is_no_other_socket";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    // Nobody accepts: a server's descriptors would take the numbers that are free for a moment. The kernel keeps what is
    // sent, which is little.
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let Some(mut kernel) = load(TEST, &watch(to)) else { return };
    let mut stream = TcpStream::connect(to).unwrap();
    stream.write_all(&get(10)).unwrap();
    assert_eq!(mine(&kernel, to).operations, 10);

    // duplicated
    let mut second = stream.try_clone().unwrap();
    second.write_all(&get(20)).unwrap();
    assert_eq!((mine(&kernel, to).requests, mine(&kernel, to).operations), (2, 30));

    // its number used again for a file, the duplicate still open
    let number = stream.as_raw_fd();
    drop(stream);
    let mut file = with_number(number, || tempfile::tempfile().unwrap());
    file.write_all(&get(1_000)).unwrap();
    assert_eq!((mine(&kernel, to).requests, mine(&kernel, to).operations), (2, 30), "a file is no socket");

    // inherited by a process that never connected, and which then ends
    let request = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(request.path(), get(40)).unwrap();
    let inherited: OwnedFd = second.try_clone().unwrap().into();
    let status = Command::new("cat").arg(request.path()).stdout(Stdio::from(inherited)).status().unwrap();
    assert!(status.success());
    let of_cat = |kernel: &Kernel| {
        let all = all(kernel, to).into_iter().filter(|one| one.process.comm == "cat");
        all.map(|one| (one.process.pid == 0, one.requests, one.operations)).collect::<Vec<_>>()
    };
    assert_eq!(of_cat(&kernel), [(false, 1, 40)]);
    kernel.tend(&Pardon::default());
    assert_eq!(of_cat(&kernel), [(true, 1, 40)], "what it did stays when it is gone");
    kernel.tend(&Pardon::default());
    assert_eq!(of_cat(&kernel), [(true, 1, 40)], "and counts once");

    // another socket at the number that a watched one had
    let elsewhere = TcpListener::bind((own_address(), 0)).unwrap();
    let nobody_watches = elsewhere.local_addr().unwrap();
    let third = TcpStream::connect(to).unwrap();
    let number = third.as_raw_fd();
    drop(third);
    let mut other = with_number(number, || TcpStream::connect(nobody_watches).unwrap());
    other.write_all(&get(50)).unwrap();
    assert_eq!((mine(&kernel, to).requests, mine(&kernel, to).operations), (2, 30));

    // pardoned
    kernel.tend(&Pardon { processes: vec![std::process::id()], ..Pardon::default() });
    second.write_all(&get(7)).unwrap();
    assert_eq!(mine(&kernel, to).requests, 2);
    let lost =
        kernel.statuses().into_iter().find(|status| status.probe == "work").and_then(|status| status.lost);
    assert_eq!(lost, Some(0));
    drop((second, other, kernel));
}

#[test]
fn a_write_that_is_cut_counts_once() {
    const TEST: &str = "work::a_write_that_is_cut_counts_once";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let Some(kernel) = load(TEST, &watch(to)) else { return };
    let mut stream = TcpStream::connect(to).unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&stream, 16 << 10).unwrap();
    stream.set_nonblocking(true).unwrap();
    let request = get(60_000);
    let server = drain(listener, 1);
    let (mut at, mut cut) = (0, 0);
    while at < request.len() {
        match stream.write(&request[at..]) {
            Ok(sent) => (at, cut) = (at + sent, cut + 1),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    let seen = mine(&kernel, to);
    println!("measured: a get of 60000 keys in {cut} writes counted as {}", seen.operations);
    assert!(cut > 1, "the buffer is smaller than the request");
    assert_eq!((seen.writes, seen.requests, seen.bytes), (cut, 1, request.len() as u64));
    assert!(seen.operations.abs_diff(60_000) <= 600, "{}", seen.operations);
    drop((stream, kernel));
    server.join().unwrap();
}

/// Sends on a connection that it makes first: itself when it is told to, then in a process that it forks, and ends.
const FORKS: &str = "import os, socket, sys\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])))\nprint('connected', flush=True)\ninput()\ns.sendall(b'get a b c\\r\\n')\npid = os.fork()\nif pid == 0:\n open('/proc/self/comm', 'w').write('forked')\n s.sendall(b'get d e f g h\\r\\n')\n os._exit(0)\nos.waitpid(pid, 0)\nprint('done', flush=True)\ninput()";

/// A process that runs [`FORKS`], connected.
struct Forking(Child, BufReader<ChildStdout>);

impl Forking {
    fn start(host: &str, port: u16) -> Forking {
        let mut command = Command::new("python3");
        command.args(["-c", FORKS, host, &port.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut forking = Forking(child, out);
        forking.says("connected");
        forking
    }

    fn says(&mut self, what: &str) {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), what);
    }

    fn go_on(&mut self) {
        self.0.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }
}

#[test]
fn connections_older_than_the_probe_are_told_by_who_sends_on_them_now() {
    const TEST: &str = "work::connections_older_than_the_probe_are_told_by_who_sends_on_them_now";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let v4 = TcpListener::bind((own_address(), 0)).unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let (to_v4, to_v6) = (v4.local_addr().unwrap(), v6.local_addr().unwrap());
    let mapped = format!("::ffff:{}", to_v4.ip());
    // one that another process will send on
    let orphan = TcpStream::connect(to_v4).unwrap();
    let mut of = vec![
        (to_v4, Forking::start(&to_v4.ip().to_string(), to_v4.port())),
        (to_v4, Forking::start(&mapped, to_v4.port())),
        (to_v6, Forking::start("::1", to_v6.port())),
    ];
    let both = Options { destinations: vec![to_v4, to_v6], ..options(&["work"]) };
    let Some(kernel) = load(TEST, &both) else { return };
    for (to, forking) in &mut of {
        forking.go_on();
        forking.says("done");
        let pid = forking.0.id();
        let seen = all(&kernel, *to);
        let own: Vec<_> = seen.iter().filter(|one| one.process.pid == pid).collect();
        assert_eq!(own.iter().map(|one| (one.requests, one.operations)).collect::<Vec<_>>(), [(1, 3)]);
    }
    for (to, forks) in [(to_v4, 2), (to_v6, 1)] {
        let forked: Vec<_> = all(&kernel, to)
            .into_iter()
            .filter(|one| one.process.comm == "forked")
            .map(|one| (one.requests, one.operations))
            .collect();
        assert_eq!(forked, vec![(1, 5); forks], "{to}: each of its own process");
    }
    let mut command = Command::new("sh");
    command.args(["-c", "printf 'get x y\\r\\n'"]).stdout(Stdio::from(OwnedFd::from(orphan)));
    let mut heir = command.spawn().unwrap();
    let id = heir.id();
    assert!(heir.wait().unwrap().success());
    let seen: Vec<_> = all(&kernel, to_v4).into_iter().filter(|one| one.process.pid == id).collect();
    assert_eq!(seen.iter().map(|one| (one.requests, one.operations)).collect::<Vec<_>>(), [(1, 2)]);
    for (_, forking) in &mut of {
        forking.go_on();
        assert!(forking.0.wait().unwrap().success());
    }
    drop((v4, v6));
}
