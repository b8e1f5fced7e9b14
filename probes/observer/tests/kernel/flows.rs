//! The probe `flows`.

use crate::namespace::{Place, enter, own_address};
use crate::traffic::{connect_mapped, serve_bytes};
use crate::{load, look, options};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::Picture;

/// The last acknowledgement travels after both processes have closed.
fn settled(kernel: &Kernel, destination: &str, connections: u64) -> Picture {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let picture = look(kernel);
        let times = picture.round_trips.iter().flatten().find(|one| one.destination.label() == destination);
        let closed = times.map_or(0, |times| times.rtt.counts.iter().sum::<u64>());
        if closed >= connections || Instant::now() > deadline {
            return picture;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn bytes_and_round_trips_of_every_closed_connection_are_counted() {
    const TEST: &str = "flows::bytes_and_round_trips_of_every_closed_connection_are_counted";
    const CONNECTIONS: u64 = 301;
    const ASKED: u64 = 700;
    const ANSWERED: u64 = 1_900;
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let v4 = TcpListener::bind((own_address(), 0)).unwrap();
    let to_v4 = v4.local_addr().unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let to_v6 = v6.local_addr().unwrap();
    let unwatched = TcpListener::bind((own_address(), 0)).unwrap();
    let to_unwatched = unwatched.local_addr().unwrap();
    let watch = Options { destinations: vec![to_v4, to_v6], ..options(&["flows"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let servers = [
        serve_bytes(v4, CONNECTIONS as usize + 1, ASKED as usize, ANSWERED as usize),
        serve_bytes(v6, 10, ASKED as usize, ANSWERED as usize),
        serve_bytes(unwatched, 1, ASKED as usize, ANSWERED as usize),
    ];
    let ask = |mut stream: TcpStream| {
        stream.write_all(&[b'q'; ASKED as usize]).unwrap();
        stream.read_exact(&mut [0; ANSWERED as usize]).unwrap();
    };
    (0..CONNECTIONS).for_each(|_| ask(TcpStream::connect(to_v4).unwrap()));
    ask(connect_mapped(to_v4).unwrap());
    (0..10).for_each(|_| ask(TcpStream::connect(to_v6).unwrap()));
    ask(TcpStream::connect(to_unwatched).unwrap());
    servers.into_iter().for_each(|server| server.join().unwrap());
    for (address, connections) in [(to_v4, CONNECTIONS + 1), (to_v6, 10)] {
        let picture = settled(&kernel, &address.to_string(), connections);
        let of = |label: &str| label == address.to_string();
        let bytes = picture.bytes.iter().flatten().find(|one| of(one.destination.label())).expect("bytes");
        assert_eq!(bytes.sent, connections * ASKED, "{address}");
        // the end of a stream counts as a byte where the kernel does not tell whether it came
        let more = bytes.received.wrapping_sub(connections * ANSWERED);
        assert!(more <= connections, "{address}: {}", bytes.received);
        let times =
            picture.round_trips.iter().flatten().find(|one| of(one.destination.label())).expect("times");
        assert_eq!(times.rtt.counts.iter().sum::<u64>(), connections, "{address}");
        assert!(
            times.rtt.sum > 0.0 && times.rtt.sum < connections as f64,
            "loopback takes less than a second"
        );
        let again = picture.retransmits.iter().flatten().find(|one| of(one.destination.label()));
        assert_eq!(again.map(|one| one.segments), Some(0), "loopback loses nothing");
        assert_eq!(picture.bytes.map(|all| all.len()), Some(2), "what is not watched is not here");
    }
}
