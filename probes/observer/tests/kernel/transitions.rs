//! The probe `transitions`.

use crate::namespace::{Place, enter, own_address};
use crate::traffic::{connect_mapped, request, serve};
use crate::{load, look, options};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::{Destination, Direction, State};

pub type Steps = BTreeMap<(State, State), u64>;

pub fn steps(kernel: &Kernel, destination: &Destination, direction: Direction) -> Steps {
    let counts = look(kernel).transitions.expect("the probe is attached");
    let mine = counts.into_iter().filter(|one| one.destination == *destination && one.direction == direction);
    mine.map(|one| ((one.from, one.to), one.count)).collect()
}

/// The last acknowledgements travel after both processes have closed.
pub fn settle(kernel: &Kernel, destination: &Destination, closed: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let ended = |direction, from| {
        steps(kernel, destination, direction).get(&(from, State::Close)).copied().unwrap_or_default()
    };
    while ended(Direction::Outgoing, State::FinWait2) < closed
        || ended(Direction::Incoming, State::LastAck) < closed
    {
        if Instant::now() > deadline {
            return; // the assertions say what is missing
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn outgoing(count: u64) -> Steps {
    Steps::from([
        ((State::Close, State::SynSent), count),
        ((State::SynSent, State::Established), count),
        ((State::Established, State::FinWait1), count),
        ((State::FinWait1, State::FinWait2), count),
        ((State::FinWait2, State::Close), count),
    ])
}

pub fn incoming(count: u64) -> Steps {
    Steps::from([
        ((State::Listen, State::SynRecv), count),
        ((State::SynRecv, State::Established), count),
        ((State::Established, State::CloseWait), count),
        ((State::CloseWait, State::LastAck), count),
        ((State::LastAck, State::Close), count),
    ])
}

#[test]
fn every_connection_is_one_of_each_transition() {
    const TEST: &str = "transitions::every_connection_is_one_of_each_transition";
    const CONNECTIONS: u64 = 301;
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let watch = Options { destinations: vec![address], ..options(&["transitions"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let server = serve(listener, CONNECTIONS as usize);
    for _ in 0..CONNECTIONS {
        request(TcpStream::connect(address).unwrap());
    }
    server.join().unwrap();
    let destination = Destination::One(address.to_string());
    settle(&kernel, &destination, CONNECTIONS);
    assert_eq!(steps(&kernel, &destination, Direction::Outgoing), outgoing(CONNECTIONS));
    let mut seen = steps(&kernel, &destination, Direction::Incoming);
    // The listener itself, when it went.
    seen.remove(&(State::Listen, State::Close));
    assert_eq!(seen, incoming(CONNECTIONS));

    let picture = look(&kernel);
    for direction in [Direction::Outgoing, Direction::Incoming] {
        let opens: Vec<u64> = picture
            .opens
            .iter()
            .flatten()
            .filter(|one| one.destination == destination && one.direction == direction)
            .map(|one| one.opens)
            .collect();
        assert_eq!(opens, [CONNECTIONS], "{direction:?}");
        let lives = picture.life_times.iter().flatten();
        let mut lives = lives.filter(|one| one.destination == destination && one.direction == direction);
        let lives = lives.next().expect("life-times");
        assert_eq!(lives.buckets.iter().sum::<u64>(), CONNECTIONS, "{direction:?}: every one closed");
        assert_eq!(lives.unknown, 0, "{direction:?}");
        assert!(lives.microseconds > 0, "{direction:?}");
    }
    assert_eq!(picture.probes[0].lost, Some(0));
}

#[test]
fn ipv6_is_told_apart_and_a_mapped_address_is_the_ipv4_one() {
    const TEST: &str = "transitions::ipv6_is_told_apart_and_a_mapped_address_is_the_ipv4_one";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let v4 = TcpListener::bind((own_address(), 0)).unwrap();
    let to_v4 = v4.local_addr().unwrap();
    // `[::1]` is every namespace's: the port is one that nobody else is given at the same time.
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let to_v6 = v6.local_addr().unwrap();
    let watch = Options { destinations: vec![to_v4, to_v6], ..options(&["transitions"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let servers = [serve(v4, 12), serve(v6, 7)];
    (0..5).for_each(|_| request(TcpStream::connect(to_v4).unwrap()));
    (0..7).for_each(|_| request(connect_mapped(to_v4).unwrap()));
    (0..7).for_each(|_| request(TcpStream::connect(to_v6).unwrap()));
    servers.into_iter().for_each(|server| server.join().unwrap());
    for (address, count) in [(to_v4, 12), (to_v6, 7)] {
        let destination = Destination::One(address.to_string());
        settle(&kernel, &destination, count);
        assert_eq!(steps(&kernel, &destination, Direction::Outgoing), outgoing(count), "{address}");
        let mut seen = steps(&kernel, &destination, Direction::Incoming);
        seen.remove(&(State::Listen, State::Close));
        assert_eq!(seen, incoming(count), "{address}");
    }
}

/// More state changes than these may not be lost beside the other tests. The kernel does not call a program on a CPU where it runs
/// already, and the program sees the whole machine; each such time is counted (`recursion_misses`).
const PASSED_OVER: u64 = 50;

#[test]
fn churn_to_many_destinations_keeps_the_maps_bounded_and_counts_all() {
    const TEST: &str = "transitions::churn_to_many_destinations_keeps_the_maps_bounded_and_counts_all";
    const DESTINATIONS: u8 = 100;
    const EACH: usize = 500;
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let Some(kernel) = load(TEST, &Options { ports: vec![port], ..options(&["transitions", "errors"]) })
    else {
        return;
    };
    let begun = Instant::now();
    let server = serve(listener, usize::from(DESTINATIONS) * EACH);
    for _ in 0..EACH {
        for last in 0..DESTINATIONS {
            let [a, b, c, _] = own_address().octets();
            request(TcpStream::connect(SocketAddr::from(([a, b, c, last], port))).unwrap());
        }
    }
    server.join().unwrap();
    println!("measured: {} connections in {:?}", usize::from(DESTINATIONS) * EACH, begun.elapsed());
    let picture = look(&kernel);
    let opens = picture.opens.expect("the probe is attached");
    let of = |one: &Destination| match one {
        Destination::One(text) => text.ends_with(&format!(":{port}")),
        Destination::Other => false,
    };
    let exact: Vec<u64> = opens
        .iter()
        .filter(|one| of(&one.destination) && one.direction == Direction::Outgoing)
        .map(|one| one.opens)
        .collect();
    let status = picture.probes.iter().find(|status| status.probe == "transitions").expect("listed");
    let lost = status.lost.expect("it is attached");
    println!("measured: {lost} state changes lost");
    assert!(lost < PASSED_OVER, "{lost}");
    let each = EACH as u64;
    assert_eq!(exact.len(), 64, "as many as there are slots");
    assert!(exact.iter().all(|opens| (each - lost..=each).contains(opens)), "each of them whole: {exact:?}");
    let other = opens.iter().filter(|one| one.destination == Destination::Other);
    let other: u64 = other.filter(|one| one.direction == Direction::Outgoing).map(|one| one.opens).sum();
    assert!(other >= 36 * each - lost, "the others are not lost: {other}");
    for status in picture.probes.iter().filter(|status| status.probe != "transitions") {
        let wanted = (status.probe == "errors").then_some(0);
        assert_eq!(status.lost, wanted, "{}", status.probe);
    }
}

/// On a thread in a network namespace of its own, which is gone when the thread and all connections are.
fn elsewhere(work: impl FnOnce() + Send + 'static) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        // SAFETY: the network namespace alone is left; no table of descriptors is unshared.
        #[expect(unsafe_code, reason = "unsafe for another flag's sake")]
        unsafe {
            rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET).expect("root");
        }
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "loopback does not come up");
        work();
    })
}

#[test]
fn namespaces_that_come_and_go_are_counted_to_their_end() {
    const TEST: &str = "transitions::namespaces_that_come_and_go_are_counted_to_their_end";
    const NAMESPACES: u64 = 10;
    const EACH: u64 = 30;
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let address = SocketAddr::from((own_address(), 11_211));
    let watch = Options { destinations: vec![address], ..options(&["transitions", "bypass"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let others: Vec<_> = (0..NAMESPACES)
        .map(|_| {
            elsewhere(move || {
                // the same address in each of them
                let server = serve(TcpListener::bind(address).unwrap(), EACH as usize);
                (0..EACH).for_each(|_| request(TcpStream::connect(address).unwrap()));
                server.join().unwrap();
            })
        })
        .collect();
    others.into_iter().for_each(|other| other.join().unwrap());
    let destination = Destination::One(address.to_string());
    settle(&kernel, &destination, NAMESPACES * EACH);
    let all = NAMESPACES * EACH;
    // what is in TIME_WAIT when its namespace goes has closed before
    assert_eq!(steps(&kernel, &destination, Direction::Outgoing), outgoing(all));
    let mut seen = steps(&kernel, &destination, Direction::Incoming);
    seen.remove(&(State::Close, State::Listen));
    seen.remove(&(State::Listen, State::Close));
    assert_eq!(seen, incoming(all));
    let bypass = look(&kernel).bypass.expect("attached");
    let of: Vec<_> = bypass.iter().filter(|one| one.destination == destination).collect();
    assert_eq!(of.iter().map(|one| one.connections).sum::<u64>(), all);
    assert!(of.iter().all(|one| one.process.pid == std::process::id()));
}
