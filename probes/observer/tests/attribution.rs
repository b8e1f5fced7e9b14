//! The attribution socket as a peer sees it: real sockets, real processes. This program plays weir: it asks, and the
//! listeners it asks about are its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};
use weir_attribution::{
    ASK_BODY_MAX, Answer, HEAD, Head, QUESTIONS_MAX, Question, REPLY_BODY_MAX, Refusal, RefusalCode, Reply,
    decode_reply, encode_ask,
};
use weir_probes::attribution::connects::Connect;
use weir_probes::attribution::server::{CONNECTIONS_MAX, Counts, FRAME_TIMEOUT};
use weir_probes::attribution::{Connects, Finder, Server, Settings};
use weir_probes::processes::{Processes, SinceBoot, Told};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    path: PathBuf,
    connects: Arc<Connects>,
    server: Server,
    listener: TcpListener,
    directory: tempfile::TempDir,
}

impl Rig {
    fn start() -> Rig {
        Rig::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Rig {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("weir-probes/attribution.sock");
        let connects = Connects::new(Arc::new(Mutex::new(Processes::of_this_system())));
        let mut settings = Settings::at(&path);
        change(&mut settings);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Server::start(&settings, connects.clone(), Box::new(())).expect("it listens");
        Rig { path, connects, server, listener, directory }
    }

    fn peer(&self) -> UnixStream {
        peer(&self.path)
    }

    /// A client's end and this program's, as the kernel would tell of them.
    fn ends(&self, port: u16) -> Question {
        let weir = self.listener.local_addr().expect("an address");
        Question { client: SocketAddr::from(([127, 0, 0, 1], port)), weir }
    }

    fn observe(&self, ends: Question, pid: u32, comm: &str) {
        self.connects.observed(&Connect {
            network: Some(own_network()),
            client: ends.client,
            server: ends.weir,
            pid,
            when: SinceBoot::now(),
            told: Told { comm: comm.to_owned(), uid: Some(4_711) },
        });
    }

    fn wait_for(&self, what: &str, holds: impl Fn(Counts) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self.server.counts()) {
            assert!(Instant::now() < deadline, "not in time: {what}: {:?}", self.server.counts());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn peer(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

fn own_network() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    link.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number")
}

fn reply(stream: &mut UnixStream) -> std::io::Result<Reply> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head)?;
    let head = Head::read(&head, REPLY_BODY_MAX).expect("a frame");
    let mut body = vec![0; head.length as usize];
    stream.read_exact(&mut body)?;
    Ok(decode_reply(head, &body).expect("a reply"))
}

fn ask(stream: &mut UnixStream, questions: &[Question]) -> Vec<Answer> {
    let mut frame = Vec::new();
    encode_ask(&mut frame, questions);
    stream.write_all(&frame).expect("sent");
    match reply(stream).expect("answered") {
        Reply::Answers(answers) => answers,
        Reply::Refusal(refusal) => panic!("refused: {refusal:?}"),
    }
}

fn refusal(stream: &mut UnixStream) -> Refusal {
    match reply(stream).expect("told why") {
        Reply::Refusal(refusal) => {
            // What was not read of a question makes the end a reset.
            let end = stream.read(&mut [0]);
            let reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(matches!(&end, Ok(0)) || end.as_ref().is_err_and(reset), "and closed: {end:?}");
            refusal
        }
        Reply::Answers(answers) => panic!("answered: {answers:?}"),
    }
}

#[test]
fn weir_is_told_about_its_own_clients_and_nobody_elses() {
    let rig = Rig::start();
    let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().expect("a child");
    let mine = rig.ends(40_001);
    rig.observe(mine, child.id(), "not used: the process is there");
    let elsewhere = Question { weir: "127.0.0.1:1".parse().expect("an address"), ..mine };
    rig.observe(elsewhere, child.id(), "sleep");

    let mut stream = rig.peer();
    let answers = ask(&mut stream, &[mine, rig.ends(40_002), elsewhere]);
    let Answer::Seen(seen) = &answers[0] else { panic!("{answers:?}") };
    assert_eq!((seen.pid, seen.name.as_str()), (child.id(), "sleep"));
    assert_eq!(seen.uid, Some(rustix::process::geteuid().as_raw()));
    assert!(seen.age < PATIENCE, "{seen:?}");
    assert_eq!(answers[1..], [Answer::Unknown, Answer::NotYours]);

    // The process exits: the next one to ask is told all the same.
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    let Answer::Seen(after) = &ask(&mut rig.peer(), &[mine])[0] else { panic!("forgotten") };
    assert_eq!((after.pid, after.name.as_str()), (seen.pid, "sleep"));
    let counts = rig.server.counts();
    assert_eq!((counts.questions, counts.seen, counts.not_yours, counts.refused), (4, 2, 1, 0));
    assert!(ask(&mut stream, &[]).is_empty(), "a greeting");
}

#[test]
fn another_user_is_refused_in_words() {
    let own = rustix::process::geteuid().as_raw();
    let rig = Rig::with(|settings| settings.users = vec![own + 1]);
    let refused = refusal(&mut rig.peer());
    assert_eq!(refused, Refusal { code: RefusalCode::User, reason: format!("user {own} may not ask here") });
    rig.wait_for("it is counted", |counts| counts.refused == 1 && counts.open == 0);
}

#[test]
fn users_are_told_apart_by_what_the_kernel_says_and_the_group_lets_them_in() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(
            std::io::stdout(),
            "skipped: attribution by another user: only root can be somebody else"
        );
        return;
    }
    const WEIR: u32 = 61_001;
    const STRANGER: u32 = 61_002;
    const GROUP: u32 = 61_003;
    let rig = {
        let directory = tempfile::tempdir().expect("a directory");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("changed");
        let path = directory.path().join("weir-probes/attribution.sock");
        let connects = Connects::new(Arc::new(Mutex::new(Processes::of_this_system())));
        let settings = Settings { path: path.clone(), group: Some(GROUP), users: vec![WEIR] };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let server = Server::start(&settings, connects.clone(), Box::new(())).expect("it listens");
        Rig { path, connects, server, listener, directory }
    };
    let ends = rig.ends(40_003);
    rig.observe(ends, std::process::id(), "x");
    // Users are a thread's own, and the kernel notes those of the thread that connects.
    let connect_as = |user: u32, group: u32| {
        let path = rig.path.clone();
        let connected = std::thread::spawn(move || {
            let (gid, uid) = (rustix::fs::Gid::from_raw(group), rustix::fs::Uid::from_raw(user));
            rustix::thread::set_thread_groups(&[]).expect("root may");
            rustix::thread::set_thread_res_gid(gid, gid, gid).expect("root may");
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
            UnixStream::connect(path)
        });
        connected.join().expect("no panic")
    };
    let mut weir = connect_as(WEIR, GROUP).expect("the group may connect");
    assert!(matches!(ask(&mut weir, &[ends])[0], Answer::Seen(_)), "the process that asks listens there");
    let mut stranger = connect_as(STRANGER, GROUP).expect("the group may connect");
    assert_eq!(refusal(&mut stranger).reason, format!("user {STRANGER} may not ask here"));
    let mut root = rig.peer();
    assert_eq!(refusal(&mut root).code, RefusalCode::User, "root is not among those named");
    let outside = connect_as(WEIR, WEIR).expect_err("not of the group");
    assert_eq!(outside.kind(), std::io::ErrorKind::PermissionDenied);
    assert!(rig.directory.path().exists());
}

#[test]
fn what_is_no_question_of_this_version_is_refused_in_words() {
    let rig = Rig::start();
    let mut frame = Vec::new();
    encode_ask(&mut frame, &[rig.ends(1)]);

    let told = |bytes: &[u8]| {
        let mut stream = rig.peer();
        stream.write_all(bytes).expect("sent");
        refusal(&mut stream)
    };
    let mut other = frame.clone();
    other[6] = 7;
    let refused = told(&other);
    assert_eq!(refused.code, RefusalCode::Version);
    assert!(refused.reason.contains("version 1") && refused.reason.contains("version 7"), "{refused:?}");
    let mut long = frame.clone();
    long[..4].copy_from_slice(&(ASK_BODY_MAX as u32 + 1).to_be_bytes());
    assert_eq!(told(&long).reason, format!("a frame of {} bytes is too long", ASK_BODY_MAX + 1));
    let mut longest = frame.clone();
    longest[..4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(told(&longest).reason.contains("too long"));
    assert_eq!(told(b"GET / HTTP/1.1\r\n\r\n").code, RefusalCode::Garbled);
    let mut answers = frame.clone();
    answers[7] = 2;
    assert_eq!(told(&answers).reason, "only questions are taken here");
    let mut more = frame;
    more[9] = 2; // two questions in a body of one
    assert_eq!(told(&more).reason, "a frame ends too early");
    assert_eq!(ask(&mut rig.peer(), &[rig.ends(1)]), [Answer::Unknown], "others are served");
    rig.wait_for("all of them ended", |counts| counts.refused == 6 && counts.open == 0);
}

#[test]
fn a_slow_peer_is_ended_and_holds_up_nobody() {
    let rig = Rig::start();
    let mut frame = Vec::new();
    encode_ask(&mut frame, &[rig.ends(1)]);
    let mut slow = rig.peer();
    slow.write_all(&frame[..frame.len() - 1]).expect("sent");
    let begun = Instant::now();
    assert_eq!(ask(&mut rig.peer(), &[rig.ends(1)]), [Answer::Unknown]);
    assert_eq!(refusal(&mut slow).code, RefusalCode::Slow);
    assert!(begun.elapsed() >= FRAME_TIMEOUT / 2, "it had its time");

    // One that asks and never reads its answers.
    let mut deaf = rig.peer();
    deaf.set_write_timeout(Some(PATIENCE)).expect("set");
    let mut large = Vec::new();
    encode_ask(&mut large, &vec![rig.ends(1); QUESTIONS_MAX]);
    let ended = (0..100_000).find_map(|_| deaf.write_all(&large).err()).expect("it is ended");
    assert!(
        matches!(ended.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset),
        "{ended}"
    );
    rig.wait_for("both are gone", |counts| counts.open == 0);
    assert_eq!(ask(&mut rig.peer(), &[rig.ends(1)]), [Answer::Unknown]);
}

#[test]
fn a_thousand_at_once_are_bounded() {
    let rig = Rig::start();
    let start = Arc::new(Barrier::new(50));
    let tally = Arc::new(Mutex::new((0, 0, 0)));
    let most_open = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..50)
            .map(|_| {
                let (start, tally, path, ends) = (&start, &tally, &rig.path, rig.ends(1));
                scope.spawn(move || {
                    start.wait();
                    let streams: Vec<_> = (0..20).map(|_| UnixStream::connect(path)).collect();
                    for stream in streams {
                        let Ok(mut stream) = stream else {
                            tally.lock().expect("sound").2 += 1; // the backlog is full
                            continue;
                        };
                        stream.set_read_timeout(Some(PATIENCE)).expect("set");
                        let mut frame = Vec::new();
                        encode_ask(&mut frame, &[ends]);
                        // A refused one may have been closed already.
                        let _ = stream.write_all(&frame);
                        match reply(&mut stream) {
                            Ok(Reply::Answers(answers)) => {
                                assert_eq!(answers, [Answer::Unknown]);
                                tally.lock().expect("sound").0 += 1;
                            }
                            Ok(Reply::Refusal(refusal)) => {
                                assert_eq!(refusal.code, RefusalCode::Busy);
                                assert!(refusal.reason.contains("try again"), "{refusal:?}");
                                tally.lock().expect("sound").1 += 1;
                            }
                            Err(error) => panic!("neither answered nor told why: {error}"),
                        }
                    }
                })
            })
            .collect();
        let mut most = 0;
        while threads.iter().any(|thread| !thread.is_finished()) {
            most = most.max(rig.server.counts().open);
            std::thread::sleep(Duration::from_millis(1));
        }
        most
    });
    let (answered, refused, not_connected) = *tally.lock().expect("sound");
    println!(
        "{answered} answered, {refused} refused, {not_connected} not connected, {most_open} open at most"
    );
    assert_eq!(answered + refused + not_connected, 1_000);
    assert!(answered > 0 && most_open <= CONNECTIONS_MAX as u64, "{most_open}");
    rig.wait_for("all of them ended", |counts| counts.open == 0);

    // And a thousand requests on as many connections as there may be, all answered.
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS_MAX {
            scope.spawn(|| {
                let mut stream = rig.peer();
                for _ in 0..125 {
                    assert_eq!(ask(&mut stream, &[rig.ends(1)]), [Answer::Unknown]);
                }
            });
        }
    });
}

#[test]
fn the_end_is_at_once_whoever_is_connected() {
    let rig = Rig::start();
    let mut idle = rig.peer();
    assert!(ask(&mut idle, &[]).is_empty());
    let mut half = rig.peer();
    half.write_all(&[0, 0]).expect("sent");
    let begun = Instant::now();
    let Rig { server, path, directory, .. } = rig;
    drop(server);
    assert!(begun.elapsed() < FRAME_TIMEOUT, "{:?}", begun.elapsed());
    assert!(!path.exists() && directory.path().exists());
    assert_eq!(idle.read(&mut [0]).expect("closed"), 0);
}

/// One that is started by its parent: it connects, says so, and ends when its input does.
#[test]
#[ignore = "not a test: the body of a child process that another test starts"]
fn client_process() {
    let Ok(target) = std::env::var("WEIR_TEST_TARGET") else { return };
    let target: SocketAddr = target.parse().expect("an address");
    let stream = TcpStream::connect(target).expect("connected");
    println!("\nconnected {}", stream.local_addr().expect("an address"));
    std::io::stdout().flush().expect("told");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_look_finds_connections_and_what_it_saw_outlives_the_process() {
    let connects = Connects::new(Arc::new(Mutex::new(Processes::of_this_system())));
    let finder = Finder::start(&connects, None).expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.sock");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let weir = listener.local_addr().expect("an address");
    let _server = Server::start(&Settings::at(&path), connects.clone(), finder.handle()).expect("it listens");
    let mut stream = peer(&path);
    assert!(ask(&mut stream, &[]).is_empty(), "from now on its ports are watched");

    let mut command = std::process::Command::new(std::env::current_exe().expect("a path"));
    command.args(["--exact", "client_process", "--ignored", "--nocapture"]);
    command.env("WEIR_TEST_TARGET", weir.to_string());
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = command.spawn().expect("a child");
    let (accepted, client) = listener.accept().expect("accepted");
    let ends = Question { client, weir };

    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        match &ask(&mut stream, &[ends])[0] {
            Answer::Seen(seen) => break seen.clone(),
            other => assert!(Instant::now() < deadline, "not in time: {other:?}"),
        }
    };
    assert_eq!(seen.pid, child.id());
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let Answer::Seen(after) = &ask(&mut stream, &[ends])[0] else { panic!("forgotten at its exit") };
    assert_eq!((after.pid, &after.name), (seen.pid, &seen.name));
    drop(accepted);
}
