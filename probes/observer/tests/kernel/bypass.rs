//! The probe `bypass`.

use crate::namespace::{Place, enter, own_address};
use crate::traffic::{connect_mapped, request, serve};
use crate::{load, look, options};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use weir_probes::kernel::pardon::Pardon;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::BypassCount;

/// Connects as often as it is told and ends.
const CLIENT: &str = "import socket, sys\nfor _ in range(int(sys.argv[3])):\n s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n s.send(b'x'); s.recv(1); s.close()";

fn client(to: SocketAddr, connections: usize) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", CLIENT, &to.ip().to_string(), &to.port().to_string(), &connections.to_string()]);
    command
}

fn seen(kernel: &Kernel, to: SocketAddr) -> Vec<BypassCount> {
    let all = look(kernel).bypass.expect("the probe is attached");
    all.into_iter().filter(|one| one.destination.label() == to.to_string()).collect()
}

#[test]
fn who_connects_is_named_and_who_may_is_not() {
    const TEST: &str = "bypass::who_connects_is_named_and_who_may_is_not";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let unwatched = TcpListener::bind((own_address(), 0)).unwrap();
    let to_unwatched = unwatched.local_addr().unwrap();
    let watch = Options { destinations: vec![to], ..options(&["bypass"]) };
    let Some(mut kernel) = load(TEST, &watch) else { return };
    let server = serve(listener, 30 + 1 + 25 + 12 + 3);
    let other = serve(unwatched, 1);
    (0..30).for_each(|_| request(TcpStream::connect(to).unwrap()));
    request(connect_mapped(to).unwrap());
    request(TcpStream::connect(to_unwatched).unwrap());
    let mine = seen(&kernel, to);
    assert_eq!(mine.len(), 1, "{mine:?}");
    assert_eq!((mine[0].connections, mine[0].process.pid), (31, std::process::id()));
    assert_eq!(mine[0].process.uid, Some(0));
    let own = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(mine[0].process.comm, own.trim_end());

    // two processes that end: one line by their name, whenever their entries are taken out
    assert!(client(to, 25).status().unwrap().success());
    assert_eq!(seen(&kernel, to).iter().map(|one| one.connections).sum::<u64>(), 31 + 25);
    kernel.tend(&Pardon::default());
    assert!(client(to, 12).status().unwrap().success());
    assert_eq!(seen(&kernel, to).iter().map(|one| one.connections).sum::<u64>(), 31 + 25 + 12);
    kernel.tend(&Pardon::default());
    let gone: Vec<_> = seen(&kernel, to).into_iter().filter(|one| one.process.pid == 0).collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!((gone[0].connections, gone[0].process.comm.as_str()), (37, "python3"));

    // this process is on the list from now on
    let pardon = Pardon { processes: vec![std::process::id()], ..Pardon::default() };
    kernel.tend(&pardon);
    (0..2).for_each(|_| request(TcpStream::connect(to).unwrap()));
    assert_eq!(seen(&kernel, to).iter().map(|one| one.connections).sum::<u64>(), 31 + 37, "pardoned");
    kernel.tend(&Pardon::default());
    request(TcpStream::connect(to).unwrap());
    assert_eq!(
        seen(&kernel, to).iter().map(|one| one.connections).sum::<u64>(),
        31 + 37 + 1,
        "and not any more"
    );
    drop(kernel);
    server.join().unwrap();
    other.join().unwrap();
}

#[test]
fn whoever_is_found_on_the_list_before_it_was_seen_did_nothing_that_counts() {
    const TEST: &str = "bypass::whoever_is_found_on_the_list_before_it_was_seen_did_nothing_that_counts";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let watch = Options { destinations: vec![to], ..options(&["bypass"]) };
    let Some(mut kernel) = load(TEST, &watch) else { return };
    let server = serve(listener, 3);
    // weir has just been started again, and connects before anybody looks
    (0..2).for_each(|_| request(TcpStream::connect(to).unwrap()));
    let own = std::env::current_exe().unwrap();
    let pardon = Pardon { programs: vec![own], ..Pardon::default() };
    kernel.tend(&pardon);
    request(TcpStream::connect(to).unwrap());
    assert_eq!(seen(&kernel, to), []);
    server.join().unwrap();
}

/// Connects once itself and twice in a process that it forks.
const FORKS: &str = "import os, socket, sys\nto = (sys.argv[1], int(sys.argv[2]))\nsocket.create_connection(to).close()\npid = os.fork()\nif pid == 0:\n open('/proc/self/comm', 'w').write('forked')\n socket.create_connection(to).close()\n socket.create_connection(to).close()\n os._exit(0)\nos.waitpid(pid, 0)";

#[test]
fn ipv6_is_another_destination_and_a_fork_another_process() {
    const TEST: &str = "bypass::ipv6_is_another_destination_and_a_fork_another_process";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let v4 = TcpListener::bind((own_address(), 0)).unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let (to_v4, to_v6) = (v4.local_addr().unwrap(), v6.local_addr().unwrap());
    let watch = Options { destinations: vec![to_v4, to_v6], ..options(&["bypass"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let mapped = format!("::ffff:{}", to_v4.ip());
    for (host, to) in [(to_v4.ip().to_string(), to_v4), (mapped, to_v4), ("::1".to_owned(), to_v6)] {
        let mut command = Command::new("python3");
        assert!(command.args(["-c", FORKS, &host, &to.port().to_string()]).status().unwrap().success());
    }
    for (to, times) in [(to_v4, 2), (to_v6, 1)] {
        let mut of: Vec<_> =
            seen(&kernel, to).into_iter().map(|one| (one.process.comm, one.connections)).collect();
        of.sort();
        let mut wanted = vec![("forked".to_owned(), 2); times];
        wanted.extend(vec![("python3".to_owned(), 1); times]);
        assert_eq!(of, wanted, "{to}");
    }
    drop((v4, v6));
}
