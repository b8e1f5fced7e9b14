//! weir asks weir-probes whose its clients are: a real weir, the real memcached, real client processes, and the attribution
//! server of weir-probes as a library in this program. Where a kernel program would tell of connects, this program does, in
//! the same order: before the connection is there.

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::wire::Wire;
use support::{Memcached, Weir, eventually, free_port, wait_for};
use weir_probes::attribution::connects::Connect;
use weir_probes::attribution::finder::Finder;
use weir_probes::attribution::{Connects, Server, Settings};
use weir_probes::processes::{Processes, SinceBoot, Told};

/// How long something that is "at once" may take on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// What the client process is called.
const CLIENT: &str = "one-shot-job";
/// What the listener is called.
const LISTENER: &str = "cache";
/// Set for the child: weir's port, and the port it connects from.
const ROLE: &str = "WEIR_TEST_ROLE";

/// The key, with time for an answer however busy the machine is.
fn asks(socket: &Path) -> String {
    format!("attribution = \"unix:{}\"\nattribution_timeout = \"30s\"", socket.display())
}

fn weir(memcached: &Memcached, key: &str) -> Weir {
    let config = format!(
        "{key}\n[pool.main]\nservers = [\"{}\"]\n[listener.{LISTENER}]\naddress = \"127.0.0.1:{{port}}\"\n",
        memcached.address()
    );
    Weir::with_config(&config, &[])
}

fn connects() -> Arc<Connects> {
    Connects::new(Arc::new(Mutex::new(Processes::of_this_system())))
}

/// A client process that waits for its orders.
struct Client(Child);

impl Client {
    fn start(folder: &Path, port: u16, from: u16) -> Client {
        let program = folder.join(CLIENT);
        if !program.exists() {
            // The kernel calls a process after the file that was executed.
            std::os::unix::fs::symlink(std::env::current_exe().expect("this program"), &program)
                .expect("linked");
        }
        let mut command = Command::new(program);
        command.args(["--exact", "client_process", "--ignored", "--nocapture"]);
        command.env(ROLE, format!("{port} {from}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = Client(command.spawn().expect("a child"));
        client.hear("ready");
        client
    }

    fn say(&mut self, word: &str) {
        let input = self.0.stdin.as_mut().expect("piped");
        input.write_all(format!("{word}\n").as_bytes()).expect("it listens");
    }

    fn hear(&mut self, word: &str) {
        let lines = BufReader::with_capacity(1, self.0.stdout.as_mut().expect("piped")).lines();
        let found = lines.map_while(Result::ok).any(|line| line.ends_with(word));
        assert!(found, "the client ended before it said {word}");
    }

    fn wait(&mut self) {
        assert!(self.0.wait().expect("it ends").success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "not a test: the body of the client processes that other tests start"]
fn client_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let (port, from) = role.split_once(' ').expect("two ports");
    let order = |said: &str| {
        println!("\n{said}");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).expect("an order");
    };
    order("ready");
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from(([127, 0, 0, 1], from.parse().expect("a port")));
    let to = SocketAddr::from(([127, 0, 0, 1], port.parse().expect("a port")));
    socket.bind(&from.into()).expect("a free port");
    socket.connect(&to.into()).expect("connected");
    let mut wire = Wire::of(socket.into());
    wire.send(b"get a b c\r\n");
    assert_eq!(wire.line(), "END");
    order("answered");
}

fn asked(weir: &Weir, caller: &str) -> Option<f64> {
    weir.series("weir_request_operations_max", &[("caller", caller), ("method", "get")]).filter(|n| *n > 0.0)
}

fn questions(weir: &Weir, result: &str) -> f64 {
    weir.series("weir_attribution_questions_total", &[("result", result)]).unwrap_or(0.0)
}

/// A client connects from a port that is known before, does its one request, and is gone.
fn one_shot(weir: &Weir, connects: Option<&Connects>) {
    let from = free_port();
    let mut client = Client::start(weir.directory.path(), weir.port, from);
    if let Some(connects) = connects {
        connects.observed(&Connect {
            network: None,
            client: SocketAddr::from(([127, 0, 0, 1], from)),
            server: SocketAddr::from(([127, 0, 0, 1], weir.port)),
            pid: client.0.id(),
            when: SinceBoot::now(),
            told: Told { comm: "a-thread".to_owned(), uid: None },
        });
    }
    client.say("connect");
    client.hear("answered");
    client.say("end");
    client.wait();
}

#[test]
fn a_client_that_is_gone_already_is_named_by_weir_probes() {
    let Some(memcached) = Memcached::start() else { return };
    let connects = connects();
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("attribution.sock");
    let server = Server::start(&Settings::at(&socket), connects.clone(), Box::new(())).expect("it listens");
    let key = asks(&socket);
    let with = weir(&memcached, &key);
    eventually("weir has introduced itself", || server.counts().open == 1);

    // However busy the machine is: a client that weir itself could still have found proves nothing, so there are some.
    const CLIENTS: u32 = 5;
    for _ in 0..CLIENTS {
        one_shot(&with, Some(&connects));
    }
    assert_eq!(wait_for("the process is named", SOON, || asked(&with, CLIENT)), 3.0);
    let ended = [("caller", CLIENT), ("outcome", "ok")];
    wait_for("all are booked", SOON, || {
        with.series("weir_requests_total", &ended).filter(|requests| *requests == f64::from(CLIENTS))
    });
    assert_eq!(questions(&with, "named"), f64::from(CLIENTS), "{}", with.metrics());
    assert_eq!(with.series("weir_namings_total", &[("result", "named")]), Some(f64::from(CLIENTS)));
    assert_eq!(asked(&with, LISTENER), None, "nothing stands with the listener");
    assert_eq!(server.counts().seen, u64::from(CLIENTS));

    // Without the key there are some that weir comes too late for.
    let without = weir(&memcached, "");
    let unnamed = || without.series("weir_namings_total", &[("result", "unnamed")]).unwrap_or(0.0);
    for tried in 0.. {
        one_shot(&without, None);
        if unnamed() > 0.0 {
            break;
        }
        assert!(tried < 100, "weir found every one of them: {}", without.metrics());
    }
    assert!(!without.metrics().contains("weir_attribution_questions_total{"), "nobody was asked");
}

#[test]
fn what_weir_probes_does_not_know_weir_finds_itself() {
    let Some(memcached) = Memcached::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("attribution.sock");
    let key = asks(&socket);

    // Nobody there: one word in the log, and weir serves and names.
    let alone = weir(&memcached, &key);
    let line = alone.logs("attribution_failed");
    assert!(line.contains("unreachable") && line.contains("attribution.sock"), "{line}");
    let mut client = Client::start(alone.directory.path(), alone.port, free_port());
    client.say("connect");
    client.hear("answered");
    wait_for("weir found it", SOON, || asked(&alone, CLIENT));
    assert_eq!(questions(&alone, "named"), 0.0);
    assert_eq!(questions(&alone, "unreachable") + questions(&alone, "resting"), 1.0);
    drop(client);

    // There, but it has seen nothing.
    let server = Server::start(&Settings::at(&socket), connects(), Box::new(())).expect("it listens");
    let beside = weir(&memcached, &key);
    eventually("weir has introduced itself", || server.counts().open >= 1);
    let mut client = Client::start(beside.directory.path(), beside.port, free_port());
    client.say("connect");
    client.hear("answered");
    wait_for("weir found it", SOON, || asked(&beside, CLIENT));
    assert_eq!((questions(&beside, "unknown"), questions(&beside, "named")), (1.0, 0.0));
    drop((client, server));

    // There, and it does not let weir ask.
    let own = rustix::process::geteuid().as_raw();
    let settings = Settings { users: vec![own + 1], ..Settings::at(&socket) };
    let server = Server::start(&settings, connects(), Box::new(())).expect("it listens");
    let refused = weir(&memcached, &key);
    let line = refused.logs("attribution_failed");
    assert!(line.contains("refused") && line.contains(&format!("user {own} may not ask here")), "{line}");
    let mut client = Client::start(refused.directory.path(), refused.port, free_port());
    client.say("connect");
    client.hear("answered");
    wait_for("weir found it", SOON, || asked(&refused, CLIENT));
    drop((client, server));
}

#[test]
fn one_that_listens_and_never_answers_costs_a_tenth_of_a_second() {
    let Some(memcached) = Memcached::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("attribution.sock");
    let _deaf = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let weir = weir(&memcached, &format!("attribution = \"unix:{}\"", socket.display()));
    let line = weir.logs("attribution_failed");
    assert!(line.contains("late") && line.contains("no answer within attribution_timeout"), "{line}");
    let mut client = Client::start(weir.directory.path(), weir.port, free_port());
    client.say("connect");
    client.hear("answered");
    wait_for("weir found it", SOON, || asked(&weir, CLIENT));
    assert_eq!(questions(&weir, "late") + questions(&weir, "resting"), 1.0);
}

#[test]
fn without_a_kernel_program_looking_is_enough_for_clients_that_stay() {
    let Some(memcached) = Memcached::start() else { return };
    let connects = connects();
    let finder = Finder::start(&connects, None).expect("a thread");
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("attribution.sock");
    let server =
        Server::start(&Settings::at(&socket), connects.clone(), finder.handle()).expect("it listens");
    let weir = weir(&memcached, &asks(&socket));
    eventually("weir has introduced itself", || server.counts().open == 1);
    let mut client = Client::start(weir.directory.path(), weir.port, free_port());
    client.say("connect");
    client.hear("answered");
    wait_for("the process is named", SOON, || asked(&weir, CLIENT));
    assert_eq!(questions(&weir, "named"), 1.0, "{}", weir.metrics());
}
