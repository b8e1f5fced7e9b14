//! Real sockets, real processes.

use super::*;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io::Read;
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

const PATIENCE: Duration = Duration::from_secs(30);

/// One test at a time: a child process holds copies of all sockets of this process from its fork to its exec, so another
/// test's child would, for a moment, be a second true holder.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn started() -> (Attribution, Receiver<Vec<Resolved>>) {
    let (sender, receiver) = sync_channel(64);
    let deliver = Box::new(move |answers| sender.send(answers).expect("the test listens"));
    (Attribution::spawn(deliver, None).expect("a thread"), receiver)
}

fn lookup(accepted: &TcpStream, token: u64) -> Lookup {
    Lookup {
        client_local_addr: accepted.peer_addr().expect("a peer"),
        weir_addr: accepted.local_addr().expect("an address"),
        token,
    }
}

/// One batch through steps 3 and 4, without the thread.
fn resolve_now(batch: &[Lookup]) -> Vec<Resolved> {
    let mut table = processes::ProcessTable::of_this_system();
    resolve(batch, &mut sock_diag::SockDiag::default(), &mut table, &Counters::default(), &mut None)
}

fn own_name() -> Arc<str> {
    caller_name(&std::fs::read("/proc/self/comm").expect("own name"))
}

fn assert_is_this_process(answer: &Resolved) {
    assert_eq!(answer.uid, Some(rustix::process::getuid().as_raw()), "{answer:?}");
    let process = answer.process.as_ref().expect("a process");
    assert_eq!(process.pid, std::process::id());
    assert_eq!(process.name, own_name());
    let exe = std::env::current_exe().expect("a path").to_string_lossy().into_owned();
    assert_eq!(process.exe.as_deref(), Some(&exe[..exe.len().min(256)]));
}

/// A process of its own that connects `count` times and holds the connections until its input ends.
struct Holder(Child);

impl Holder {
    fn start(target: SocketAddr, count: usize, name: &str) -> Holder {
        let mut command = Command::new(std::env::current_exe().expect("a path"));
        command.args(["--exact", "attribution::tests::holder_process", "--ignored", "--nocapture"]);
        command.env("WEIR_TEST_HOLDER", format!("{target} {count} {name}"));
        Holder(command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("a child process"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("the child ends");
    }
}

#[test]
#[ignore = "not a test: the body of the child processes that other tests start"]
fn holder_process() {
    let Ok(order) = std::env::var("WEIR_TEST_HOLDER") else { return };
    let mut words = order.splitn(3, ' ');
    let target: SocketAddr = words.next().expect("an address").parse().expect("an address");
    let count: usize = words.next().expect("a count").parse().expect("a count");
    std::fs::write("/proc/self/comm", words.next().expect("a name")).expect("a process may name itself");
    raise_nofile();
    let held: Vec<_> = (0..count).map(|_| TcpStream::connect(target).expect("connected")).collect();
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the parent closes the pipe");
    drop(held);
}

fn raise_nofile() {
    let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current = limit.maximum;
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).expect("up to the hard limit");
}

#[test]
fn ipv4_ipv6_and_mapped_clients_are_found_one_by_one() {
    let _alone = alone();
    let v4 = TcpListener::bind("127.0.0.1:0").expect("a port");
    let v4_address = v4.local_addr().expect("an address");
    let _plain = TcpStream::connect(v4_address).expect("connected");
    let first = v4.accept().expect("accepted").0;

    let mut batch = vec![lookup(&first, 1)];
    // What a dual-stack client (a Java one, say) does: an IPv6 socket to an IPv4 address.
    let _mapped = Socket::new(Domain::IPV6, Type::STREAM, None).ok().map(|mapped| {
        mapped.set_only_v6(false).expect("dual stack");
        let target = SocketAddr::new(Ipv6Addr::from_bits(0xffff_7f00_0001).into(), v4_address.port());
        mapped.connect(&SockAddr::from(target)).expect("connected");
        let accepted = v4.accept().expect("accepted").0;
        batch.push(lookup(&accepted, 2));
        (mapped, accepted)
    });
    let v6 = TcpListener::bind("[::1]:0");
    let _held = v6.as_ref().ok().map(|listener| {
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let accepted = listener.accept().expect("accepted").0;
        batch.push(lookup(&accepted, 3));
        (client, accepted)
    });

    let answers = resolve_now(&batch);
    assert_eq!(answers.len(), batch.len());
    for (asked, answer) in batch.iter().zip(&answers) {
        assert_eq!(asked.token, answer.token);
        assert_is_this_process(answer);
    }

    // The same through dumps: an unspecified address of weir cannot be asked for exactly.
    for lookup in &mut batch {
        let any: std::net::IpAddr =
            if lookup.weir_addr.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        lookup.weir_addr.set_ip(any);
    }
    for answer in resolve_now(&batch) {
        assert_is_this_process(&answer);
    }
}

#[test]
fn a_child_process_is_named_and_told_apart() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (attribution, answers) = started();

    let child = Holder::start(address, 1, "feed-generator");
    let of_child = listener.accept().expect("accepted").0;
    let _own = TcpStream::connect(address).expect("connected");
    let of_own = listener.accept().expect("accepted").0;

    assert_eq!(attribution.desk().ask(&mut vec![lookup(&of_child, 7), lookup(&of_own, 8)]), 0);
    let answers = answers.recv_timeout(PATIENCE).expect("an answer");
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0].token, 7);
    let process = answers[0].process.as_ref().expect("a process");
    assert_eq!((process.pid, &*process.name), (child.0.id(), "feed-generator"));
    assert_eq!(answers[0].name().as_deref(), Some("feed-generator"));
    assert_eq!(answers[1].token, 8);
    assert_is_this_process(&answers[1]);

    let counted = attribution.desk().counters();
    assert_eq!((counted.lookups, counted.resolved, counted.walks), (2, 2, 1));
    assert_eq!(counted.queries, 2, "few are asked for one by one");
}

#[test]
fn a_hostile_process_name_is_not_passed_on() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _child = Holder::start(listener.local_addr().expect("an address"), 1, "\u{1b}[2J$(x)");
    let accepted = listener.accept().expect("accepted").0;
    let answers = resolve_now(&[lookup(&accepted, 1)]);
    assert_eq!(answers[0].name().as_deref(), Some("_invalid"));
}

#[test]
fn ten_thousand_connections_of_one_process() {
    let _alone = alone();
    raise_nofile();
    let room = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let count = 10_000.min(usize::try_from(room).unwrap_or(usize::MAX).saturating_sub(1_000));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // The child must not run into an overfull backlog: each lost handshake costs it a second.
    rustix::net::listen(&listener, 4_096).expect("a longer backlog");
    let child = Holder::start(listener.local_addr().expect("an address"), count, "importer");
    let accepted: Vec<TcpStream> = (0..count).map(|_| listener.accept().expect("accepted").0).collect();

    let (attribution, answers) = started();
    let mut batch: Vec<Lookup> =
        accepted.iter().zip(0..).map(|(stream, token)| lookup(stream, token)).collect();
    let asked = Instant::now();
    attribution.desk().ask(&mut batch);
    let answers = answers.recv_timeout(PATIENCE).expect("answers");
    let took = asked.elapsed();

    assert_eq!(answers.len(), count);
    for (answer, token) in answers.iter().zip(0..) {
        assert_eq!(answer.token, token);
        let process = answer.process.as_ref().expect("a process");
        assert_eq!((process.pid, &*process.name), (child.0.id(), "importer"));
    }
    let counted = attribution.desk().counters();
    println!("{count} connections in {took:?}: {counted:?}");
    assert!(counted.queries <= 2, "one dump per address family: {}", counted.queries);
    assert_eq!(counted.walks, 1);
    assert!(took < Duration::from_secs(5), "took {took:?}");

    // No TIME_WAIT for the tests beside this one: each end resets.
    for stream in accepted {
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

#[test]
fn a_client_that_is_gone_has_no_name_and_is_not_root() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let accepted = listener.accept().expect("accepted").0;
    let question = lookup(&accepted, 1);
    drop(client);
    for batch in [vec![question], vec![question; 100]] {
        for answer in resolve_now(&batch) {
            assert_eq!(
                (answer.uid, &answer.process),
                (None, &Err(Unresolved::NoSocket)),
                "orphaned by a close"
            );
            assert_eq!(answer.name(), None);
        }
    }
    // The client's side is now in TIME_WAIT, which the kernel reports as a socket of user 0.
    drop(accepted);
    for batch in [vec![question], vec![question; 100]] {
        assert!(resolve_now(&batch).iter().all(|answer| answer.uid.is_none()));
    }
}

#[test]
fn without_a_readable_process_there_is_only_the_user() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let accepted = listener.accept().expect("accepted").0;
    let batch = [lookup(&accepted, 1)];
    let with = |root: &std::path::Path, links_max| {
        let mut table = processes::ProcessTable::at(root, links_max);
        let mut diag = sock_diag::SockDiag::default();
        resolve(&batch, &mut diag, &mut table, &Counters::default(), &mut None).remove(0)
    };
    let uid = rustix::process::getuid().as_raw();

    let nobody = with(std::path::Path::new("/dev"), 1_000);
    assert_eq!((nobody.uid, &nobody.process), (Some(uid), &Err(Unresolved::NoHolder)));
    assert_eq!(nobody.name(), Some(format!("uid:{uid}").into()));

    let cut = with(std::path::Path::new("/proc"), 0);
    assert_eq!((cut.uid, cut.process), (Some(uid), Err(Unresolved::Budget)));
}

#[test]
fn an_address_that_fits_two_sockets_is_ambiguous() {
    let _alone = alone();
    let first = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = first.local_addr().expect("an address").port();
    let Ok(second) = TcpListener::bind(("127.0.0.2", port)) else { return };
    // One client port, two connections: to 127.0.0.1 and to 127.0.0.2.
    let connect = |local: Option<SocketAddr>, to: &TcpListener| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("reuse");
        let local = local.unwrap_or_else(|| "127.0.0.1:0".parse().expect("an address"));
        socket.bind(&local.into()).expect("bound");
        socket.connect(&to.local_addr().expect("an address").into()).expect("connected");
        TcpStream::from(socket)
    };
    let one = connect(None, &first);
    let two = connect(Some(one.local_addr().expect("an address")), &second);
    let accepted = first.accept().expect("accepted").0;
    let exact = lookup(&accepted, 1);
    let mut any = exact;
    any.weir_addr.set_ip([0, 0, 0, 0].into());
    assert_eq!(resolve_now(&[any])[0].process, Err(Unresolved::Ambiguous));
    assert_is_this_process(&resolve_now(&[exact])[0]);
    assert_is_this_process(&resolve_now(&vec![exact; 100])[0]);
    drop(two);
}

#[test]
fn walks_are_at_most_two_per_second() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let _client = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    let accepted = listener.accept().expect("accepted").0;
    let (attribution, answers) = started();
    let from = Instant::now();
    let mut asked = 0;
    while from.elapsed() < Duration::from_millis(1_800) {
        attribution.desk().ask(&mut vec![lookup(&accepted, asked)]);
        asked += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut answered = 0;
    while answered < asked {
        answered += answers.recv_timeout(PATIENCE).expect("answers").len() as u64;
    }
    let counted = attribution.desk().counters();
    let allowed = from.elapsed().as_millis() / WALK_INTERVAL.as_millis() + 1;
    assert!(u128::from(counted.walks) <= allowed, "{} walks, {allowed} allowed", counted.walks);
    assert!(counted.walks >= 2);
    assert_eq!((counted.lookups, counted.resolved), (asked, asked));
}

#[test]
fn a_full_inbox_drops_and_counts() {
    let desk = Desk::default(); // nobody empties it
    let question = Lookup {
        client_local_addr: "127.0.0.1:1".parse().expect("an address"),
        weir_addr: "127.0.0.1:2".parse().expect("an address"),
        token: 0,
    };
    assert_eq!(desk.ask(&mut vec![question; INBOX_MAX - 1]), 0);
    let mut more = vec![question; 3];
    assert_eq!(desk.ask(&mut more), 2);
    assert!(more.is_empty());
    assert_eq!(desk.ask(&mut vec![question]), 1);
    let counted = desk.counters();
    assert_eq!((counted.lookups, counted.dropped), (INBOX_MAX as u64 + 3, 3));
    assert_eq!(desk.shared.inbox().waiting.len(), INBOX_MAX);
}

#[test]
fn dropping_ends_the_thread_at_once() {
    let (attribution, _answers) = started();
    std::thread::sleep(Duration::from_millis(20));
    let from = Instant::now();
    drop(attribution);
    assert!(from.elapsed() < Duration::from_secs(5));
}

#[test]
fn reasons_are_distinct_labels() {
    let labels: std::collections::BTreeSet<_> =
        Unresolved::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(labels.len(), Unresolved::COUNT);
    assert!(Unresolved::ALL.iter().enumerate().all(|(index, reason)| reason.index() == index));
}

#[test]
fn an_urgent_lookup_waits_for_no_company_but_for_the_batch_and_the_walk_before() {
    let desk = Desk::default();
    let weir_addr = SocketAddr::from(([127, 0, 0, 1], 1));
    let ask = |urgent: bool, last: Option<Instant>, not_before: Option<Instant>| {
        desk.ask(&mut vec![Lookup { client_local_addr: weir_addr, weir_addr, token: 1 }]);
        if urgent {
            desk.hurry();
        }
        let asked = Instant::now();
        assert_eq!(desk.shared.next_batch(last, not_before).map(|batch| batch.len()), Some(1));
        asked.elapsed()
    };
    let now = Instant::now();
    assert!(ask(true, None, None) < BATCH_WINDOW, "at once");
    assert!(ask(false, None, None) >= BATCH_WINDOW, "the hurry was for one batch");
    let now_again = Instant::now();
    ask(true, Some(now_again), None);
    assert!(now_again.elapsed() >= BATCH_WINDOW, "batches keep their distance");
    let walk = Instant::now() + BATCH_WINDOW;
    ask(true, Some(now), Some(walk));
    assert!(Instant::now() >= walk, "and so do walks");
    desk.hurry();
    assert!(!desk.shared.inbox().hurry, "nothing waits");
}
