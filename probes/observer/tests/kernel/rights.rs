//! What goes on working when rights are given up, and what is said when they were never there.

use crate::namespace::{Place, enter, own_address, skip};
use crate::traffic::{request, serve};
use crate::{look, options};
use rustix::thread::CapabilitySet;
use std::net::{TcpListener, TcpStream};
use weir_probes::host::Host;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::{Picture, ProbeState};
use weir_probes::settings::{Protocol, Settings, Watch};
use weir_probes::{looker, rights, source};

#[test]
fn sources_see_on_with_the_few_rights_that_they_keep() {
    const TEST: &str = "rights::sources_see_on_with_the_few_rights_that_they_keep";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    if !Host::read().may("CAP_BPF") {
        skip(TEST, "CAP_BPF is not held");
        return;
    }
    let listener = TcpListener::bind((own_address(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let watch = Watch { address: Some(address.ip()), port: address.port(), protocol: Protocol::Memcached };
    let settings = Settings { watch: vec![watch], ..Settings::default() };
    // In a thread of its own: rights are each thread's.
    let seen: Picture = std::thread::spawn(move || {
        let mut sources = source::all(&settings);
        rights::keep(source::kept(&settings)).expect("giving up rights");
        let server = serve(listener, 5);
        (0..5).for_each(|_| request(TcpStream::connect(address).unwrap()));
        server.join().unwrap();
        looker::look(&mut sources)
    })
    .join()
    .unwrap();
    let opens: u64 = seen
        .opens
        .iter()
        .flatten()
        .filter(|one| one.destination.label() == address.to_string())
        .map(|one| one.opens)
        .sum();
    assert_eq!(opens, 10, "five of each direction: {:?}", seen.probes);
}

#[test]
fn without_rights_every_probe_says_so_and_nothing_is_zero() {
    let wanted = ["transitions", "errors"];
    let options: Options = options(&wanted);
    let (kernel, picture) = std::thread::spawn(move || {
        // Whoever runs this test may hold none to begin with.
        rights::keep(CapabilitySet::empty()).expect("giving up rights");
        let kernel = Kernel::load(&options);
        let picture = look(&kernel);
        (kernel, picture)
    })
    .join()
    .unwrap();
    for status in kernel.statuses().iter().filter(|status| wanted.contains(&status.probe)) {
        let ProbeState::Refused { errno: Some(libc::EPERM | libc::EACCES), reason } = &status.state else {
            panic!("{status:?}");
        };
        assert!(!reason.is_empty());
        assert_eq!(status.lost, None);
    }
    assert_eq!((picture.transitions, picture.opens, picture.errors), (None, None, None));
}
