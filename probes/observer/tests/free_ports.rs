//! `weir-probes free-ports`, the program itself: in private network namespaces with 100 local ports.

mod support;

use serde_json::Value;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;
use support::namespace::{Place, enter};
use support::process::{Finished, run};
use support::{HUNDRED_PORTS, dial, end_first, leave_waiting, serve, skip, weir_probes, which};

fn free_ports(arguments: &[&str]) -> Finished {
    let arguments = [&["free-ports", "--destination"], arguments].concat();
    run(&mut weir_probes(&arguments), None, Duration::from_secs(20))
}

/// How many sockets wait, by the kernel's own table: what the program says is judged by something else.
fn waiting(destination: SocketAddr) -> usize {
    let table = if destination.is_ipv4() { "tcp" } else { "tcp6" };
    let text = std::fs::read_to_string(format!("/proc/self/net/{table}")).expect("the kernel's table");
    let port = format!(":{:04X}", destination.port());
    let fits = |line: &&str| {
        let words: Vec<&str> = line.split_ascii_whitespace().take(4).collect();
        words.len() == 4 && words[2].ends_with(&port) && words[3] == "06"
    };
    text.lines().skip(1).filter(fits).count()
}

fn json(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout)
        .unwrap_or_else(|error| panic!("{error}\n{}{}", done.stdout, done.stderr))
}

#[test]
fn it_ends_those_of_one_destination_and_a_client_connects_again() {
    let test = "it_ends_those_of_one_destination_and_a_client_connects_again";
    if enter(test, HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let (memcached, other) = (serve("127.0.0.1:11211"), serve("127.0.0.1:9042"));
    leave_waiting(memcached, 100);
    leave_waiting(other, 60);
    let held = dial(other, None).expect("connected");
    let refused = dial(memcached, None).expect_err("no port is left");
    assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);

    let dry = free_ports(&["127.0.0.1:11211", "--dry-run"]).expect_success("a dry run");
    assert_eq!(dry.stdout, "100 sockets in TIME_WAIT towards 127.0.0.1:11211\ndry run: none was ended\n");
    assert_eq!(dry.stderr, "", "nothing was done, nothing is on record");
    assert_eq!((waiting(memcached), waiting(other)), (100, 60));

    let some = free_ports(&["127.0.0.1:11211", "--limit", "30"]).expect_success("thirty");
    assert_eq!(some.stdout, "100 sockets in TIME_WAIT towards 127.0.0.1:11211\n30 ended\n70 left\n");
    assert_eq!((waiting(memcached), waiting(other)), (70, 60));

    let done = free_ports(&["127.0.0.1:11211", "--json"]).expect_success("the rest");
    let told = json(&done);
    assert_eq!((told["found"].as_u64(), told["ended"].as_u64()), (Some(70), Some(70)), "{told}");
    assert!(told["error"].is_null());
    assert_eq!((waiting(memcached), waiting(other)), (0, 60), "none towards another destination");
    let uid = rustix::process::getuid().as_raw();
    for cause in ["cause=\"free_ports_begin\"", "cause=\"free_ports\""] {
        let line = done.stderr.lines().find(|line| line.contains(cause)).expect("on record");
        for part in [&format!("uid={uid} login_uid="), "destination=\"127.0.0.1:11211\" netns=\"own\""] {
            assert!(line.contains(part), "{part} is not in {line}");
        }
    }
    assert!(done.stderr.contains("found=70 ended=70 outcome=\"done\""), "{}", done.stderr);

    leave_waiting(memcached, 99);
    end_first(dial(memcached, None).expect("a hundred connections at once"));
    drop(held);
}

#[test]
fn it_ends_ipv6_and_mapped_sockets_by_their_destination() {
    let test = "it_ends_ipv6_and_mapped_sockets_by_their_destination";
    if enter(test, HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let v4 = serve("127.0.0.1:11211");
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), v4.port());
    leave_waiting(v4, 20);
    leave_waiting(mapped, 30);
    let v6 = match std::net::TcpListener::bind("[::1]:0") {
        Ok(_) => Some(serve("[::1]:11211")),
        Err(error) => {
            skip("IPv6", &error.to_string());
            None
        }
    };
    if let Some(v6) = v6 {
        leave_waiting(v6, 40);
    }
    let before = waiting(v6.unwrap_or(mapped));
    assert_eq!(before, if v6.is_some() { 70 } else { 30 }, "the table of IPv6 has mapped ones too");
    // However the destination is written.
    let told = json(&free_ports(&["[::ffff:127.0.0.1]:11211", "--json"]).expect_success("mapped and plain"));
    assert_eq!((told["destination"].as_str(), told["ended"].as_u64()), (Some("127.0.0.1:11211"), Some(50)));
    assert_eq!((waiting(v4), waiting(mapped)), (0, before - 30));
    if v6.is_some() {
        let told = json(&free_ports(&["[::1]:11211", "--json"]).expect_success("IPv6"));
        assert_eq!(told["ended"].as_u64(), Some(40));
        assert_eq!(waiting(mapped), 0);
    }
}

#[test]
fn it_works_in_a_namespace_by_its_path() {
    if enter("it_works_in_a_namespace_by_its_path", HUNDRED_PORTS) != Place::Inside {
        return;
    }
    let server = serve("127.0.0.1:11211");
    leave_waiting(server, 5);
    // The program runs in another namespace, and is told of this one.
    let path = format!("/proc/{}/ns/net", std::process::id());
    let from_outside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--",
            env!("CARGO_BIN_EXE_weir-probes"),
            "free-ports",
            "--json",
            "--destination",
        ]);
        run(command.args(arguments), None, Duration::from_secs(20))
    };
    let elsewhere = json(&from_outside(&["127.0.0.1:11211"]).expect_success("its own namespace"));
    assert_eq!((elsewhere["found"].as_u64(), waiting(server)), (Some(0), 5));
    let here = json(&from_outside(&["127.0.0.1:11211", "--netns", &path]).expect_success("this one"));
    assert_eq!((here["ended"].as_u64(), waiting(server)), (Some(5), 0));
    let gone = from_outside(&["127.0.0.1:11211", "--netns", "/run/netns/no-such"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(gone.stderr.contains("/run/netns/no-such is not there (any more)"), "{}", gone.stderr);
}

#[test]
fn without_the_right_it_says_so_and_ends_none() {
    if enter("without_the_right_it_says_so_and_ends_none", HUNDRED_PORTS) != Place::Inside {
        return;
    }
    if which("setpriv").is_none() {
        skip("free-ports without CAP_NET_ADMIN", "there is no setpriv (Debian: util-linux)");
        return;
    }
    let server = serve("127.0.0.1:11211");
    leave_waiting(server, 5);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]);
    command.args([env!("CARGO_BIN_EXE_weir-probes"), "free-ports", "--destination", "127.0.0.1:11211"]);
    let refused = run(&mut command, None, Duration::from_secs(20));
    assert_eq!(
        (refused.status.code(), waiting(server)),
        (Some(1), 5),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    assert_eq!(refused.stdout, "5 sockets in TIME_WAIT towards 127.0.0.1:11211\n0 ended\n5 left\n");
    let said = "weir-probes: the kernel refuses to end a socket: Operation not permitted (os error 1); CAP_NET_ADMIN";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    assert!(refused.stderr.contains("found=5 ended=0 outcome=\"the kernel refuses"), "on record, too");
}

#[test]
fn a_destination_elsewhere_needs_the_flag_and_a_wrong_one_is_wrong_use() {
    let remote = free_ports(&["192.0.2.1:11211", "--dry-run"]);
    assert_eq!((remote.status.code(), remote.stdout.as_str()), (Some(1), ""));
    assert!(remote.stderr.contains("not a loopback address") && remote.stderr.contains("--allow-remote"));
    let counted = free_ports(&["192.0.2.1:11211", "--dry-run", "--allow-remote"]).expect_success("a dry run");
    assert!(
        counted.stdout.starts_with("0 sockets in TIME_WAIT towards 192.0.2.1:11211\n"),
        "{}",
        counted.stdout
    );
    for wrong in [&["localhost:11211"][..], &["127.0.0.1"], &["127.0.0.1:11211", "--limit", "0"]] {
        assert_eq!(free_ports(wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(free_ports(&["127.0.0.1:0", "--dry-run"]).status.code(), Some(1));
}
