//! The probe `connects`, and attribution that is fed by it. This program plays weir: it listens, and asks whose the
//! connections are that it accepts.

use crate::namespace::{Place, enter};
use crate::traffic::request;
use crate::{load, options};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use weir_attribution::{Answer, HEAD, Head, Question, REPLY_BODY_MAX, Reply, Seen, decode_reply, encode_ask};
use weir_probes::attribution::{Connects, Finder, Server, Settings};
use weir_probes::kernel::Kernel;
use weir_probes::kernel::connects::Feed;
use weir_probes::processes::Processes;
use weir_probes_abi::connects::{Connected, RING};

/// Connections that the ring buffer has room for: each takes eight bytes more than its record.
const ROOM: u64 = RING as u64 / (size_of::<Connected>() as u64 + 8);

/// A port that is used again, as the kernel does on loopback after a second, is the same connection to who counts them.
const NO_PORT_TWICE: &[(&str, &str)] = &[("net/ipv4/tcp_tw_reuse", "0")];

/// Connects to each of its addresses in turn, sends a byte, and is gone before anybody can look.
const CLIENT: &str = "import socket, sys\nfor n in range(int(sys.argv[2])):\n host = sys.argv[3 + n % (len(sys.argv) - 3)]\n s = socket.create_connection((host, int(sys.argv[1])))\n s.send(b'x'); s.close()";

/// Attribution, and one who asks.
struct Desk {
    connects: Arc<Connects>,
    finder: Finder,
    asking: UnixStream,
    _server: Server,
    _place: tempfile::TempDir,
}

impl Desk {
    fn open(feed: Feed) -> Desk {
        let connects = Connects::new(Arc::new(Mutex::new(Processes::of_this_system())));
        let finder = Finder::start(&connects, Some(feed)).unwrap();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("attribution.sock");
        let server = Server::start(&Settings::at(&path), connects.clone(), finder.handle()).unwrap();
        let asking = UnixStream::connect(&path).unwrap();
        asking.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut desk = Desk { connects, finder, asking, _server: server, _place: place };
        assert!(desk.ask(&[]).is_empty(), "from now on its ports are asked about");
        desk
    }

    fn ask(&mut self, questions: &[Question]) -> Vec<Answer> {
        let mut bytes = Vec::new();
        encode_ask(&mut bytes, questions);
        self.asking.write_all(&bytes).unwrap();
        let mut head = [0; HEAD];
        self.asking.read_exact(&mut head).unwrap();
        let head = Head::read(&head, REPLY_BODY_MAX).unwrap();
        let mut body = vec![0; head.length as usize];
        self.asking.read_exact(&mut body).unwrap();
        match decode_reply(head, &body).unwrap() {
            Reply::Answers(answers) => answers,
            Reply::Refusal(refusal) => panic!("{refusal:?}"),
        }
    }

    /// Whose a connection is, told at once.
    fn whose(&mut self, client: SocketAddr, weir: SocketAddr) -> Seen {
        match self.ask(&[Question { client, weir }]).remove(0) {
            Answer::Seen(seen) => seen,
            other => panic!("{client} to {weir} is {other:?}"),
        }
    }
}

fn lost(kernel: &Kernel) -> Option<u64> {
    kernel.statuses().into_iter().find(|status| status.probe == "connects").and_then(|status| status.lost)
}

#[test]
fn every_short_connection_is_attributed_at_its_first_request() {
    const TEST: &str = "connects::every_short_connection_is_attributed_at_its_first_request";
    const CONNECTIONS: u64 = 2_000;
    if enter(TEST, NO_PORT_TWICE) == Place::Done {
        return;
    }
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(mut kernel) = load(TEST, &options(&["connects"])) else { return };
    let mut desk = Desk::open(kernel.feed().expect("attached"));
    assert!(kernel.feed().is_none(), "there is one");
    let mut client = Command::new("python3");
    client.args(["-c", CLIENT, &port.to_string(), &CONNECTIONS.to_string()]);
    let mut child = client.args(["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.2"]).spawn().unwrap();
    let mut different = std::collections::HashSet::new();
    for _ in 0..CONNECTIONS {
        let (mut stream, client) = listener.accept().unwrap();
        let weir = stream.local_addr().unwrap();
        different.insert((client.port(), client.ip().to_canonical(), weir.ip().to_canonical()));
        // its request, and its end: no descriptor is left that a look could find
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"x");
        let seen = desk.whose(client, weir);
        assert_eq!((seen.pid, seen.uid, seen.name.as_str()), (child.id(), Some(0), "python3"));
        assert!(seen.age < Duration::from_secs(30), "{:?}", seen.age);
    }
    assert!(child.wait().unwrap().success());
    // a port that the kernel gave out twice all the same is one connection to who counts
    let observed = different.len() as u64;
    assert!(observed > CONNECTIONS * 9 / 10, "{observed}");
    assert_eq!((desk.connects.counts().observed, desk.finder.looks()), (observed, 0), "the kernel told");
    assert_eq!(lost(&kernel), Some(0));

    // Nobody asks about this one's port.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let held = TcpStream::connect(other.local_addr().unwrap()).unwrap();
    assert!(desk.ask(&[]).is_empty());
    assert_eq!(desk.connects.counts().observed, observed);
    drop(held);
}

#[test]
fn what_the_kernel_could_not_tell_is_looked_for() {
    const TEST: &str = "connects::what_the_kernel_could_not_tell_is_looked_for";
    const MORE: u64 = 500;
    if enter(TEST, NO_PORT_TWICE) == Place::Done {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let weir = listener.local_addr().unwrap();
    let Some(mut kernel) = load(TEST, &options(&["connects"])) else { return };
    let old = TcpStream::connect(weir).unwrap();
    let mut feed = kernel.feed().expect("attached");
    feed.ask(&[weir.port()].into()).unwrap();
    let server = std::thread::spawn(move || {
        let mut held = Vec::new();
        for _ in 0..ROOM + MORE + 2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) if byte == *b"x" => {
                    stream.write_all(&byte).unwrap();
                    assert_eq!(stream.read(&mut byte).unwrap(), 0, "the client closes first");
                }
                _ => held.push(stream),
            }
        }
        (listener, held)
    });
    // the server waits for its first byte
    (&old).write_all(b"o").unwrap();
    for _ in 0..ROOM + MORE {
        request(TcpStream::connect(weir).unwrap());
    }
    let newest = TcpStream::connect(weir).unwrap();
    (&newest).write_all(b"n").unwrap();
    let (_listener, held) = server.join().unwrap();
    assert_eq!(held.len(), 2);
    assert_eq!(lost(&kernel), Some(MORE + 1), "as many as there was no room for");

    let mut desk = Desk::open(feed);
    for stream in [&newest, &old] {
        let seen = desk.whose(stream.local_addr().unwrap(), weir);
        assert_eq!(seen.pid, std::process::id());
    }
    assert!(desk.finder.looks() > 0);
    assert_eq!(desk.connects.counts().observed, ROOM + 2, "those that the kernel told, and two");

    // there is room again
    let looks = desk.finder.looks();
    let client = Command::new("python3")
        .args(["-c", "import socket, sys\ns = socket.create_connection((sys.argv[1], int(sys.argv[2])))\nprint(s.getsockname()[1], flush=True)\ninput()"])
        .args([weir.ip().to_string(), weir.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut client = client.unwrap();
    let mut told = [0; 6];
    let length = client.stdout.as_mut().unwrap().read(&mut told).unwrap();
    let port: u16 = std::str::from_utf8(&told[..length]).unwrap().trim().parse().unwrap();
    let seen = desk.whose(SocketAddr::new(weir.ip(), port), weir);
    assert_eq!((seen.pid, desk.finder.looks()), (client.id(), looks));
    drop(client.stdin.take());
    client.wait().unwrap();
}

#[test]
fn in_a_process_namespace_of_its_own_it_only_looks() {
    const TEST: &str = "connects::in_a_process_namespace_of_its_own_it_only_looks";
    const ALONE: &str = "WEIR_TEST_PROCESS_NAMESPACE";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    if std::env::var_os(ALONE).is_none() {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--mount-proc", "--"]).arg(std::env::current_exe().unwrap());
        command.args(["--exact", TEST, "--nocapture", "--test-threads=1"]).env(ALONE, "1");
        let done = command.output().unwrap();
        let out = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && out.contains("1 passed"), "{out}");
        return;
    }
    let Some(mut kernel) = load(TEST, &options(&["connects"])) else { return };
    assert!(kernel.feed().is_none(), "its numbers are strangers here");
}
