//! The hook that several probes share, on a kernel that does not tell its types.

use crate::namespace::{Place, enter, own_address, skip};
use crate::traffic::{request, serve};
use crate::transitions::{incoming, outgoing, settle, steps};
use crate::{look, options};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::net::{TcpListener, TcpStream};
use weir_probes::host::Host;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::{Destination, Direction, ProbeState, State};

/// For the calling thread, and those it makes, there are no types.
fn hide_types() {
    // SAFETY: the mount namespace alone is left; no table of descriptors is unshared.
    #[expect(unsafe_code, reason = "unsafe for another flag's sake")]
    unsafe {
        unshare_unsafe(UnshareFlags::NEWNS).expect("root");
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("root");
    mount("none", "/sys/kernel/btf", "tmpfs", MountFlags::empty(), None).expect("a place to hide");
}

#[test]
fn without_the_kernels_types_the_tracepoints_record_and_sockops_tell_the_same() {
    const TEST: &str = "states::without_the_kernels_types_the_tracepoints_record_and_sockops_tell_the_same";
    const CONNECTIONS: u64 = 31;
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    if ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_SYS_ADMIN"].iter().any(|name| !Host::read().may(name))
    {
        skip(TEST, "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_SYS_ADMIN are not held together");
        return;
    }
    let seen = std::thread::spawn(|| {
        hide_types();
        let v4 = TcpListener::bind((own_address(), 0)).unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let addresses = [v4.local_addr().unwrap(), v6.local_addr().unwrap()];
        let probes = ["transitions", "bypass", "flows", "work", "connects"];
        let kernel = Kernel::load(&Options { destinations: addresses.to_vec(), ..options(&probes) });
        for status in kernel.statuses() {
            match status.probe {
                "transitions" | "bypass" | "flows" => {
                    assert_eq!(status.state, ProbeState::Attached, "{}", status.probe)
                }
                "work" | "connects" => {
                    assert!(matches!(status.state, ProbeState::Unsupported { .. }), "{status:?}");
                }
                _ => assert_eq!(status.state, ProbeState::Off, "{}", status.probe),
            }
        }
        let servers = [v4, v6].map(|listener| serve(listener, CONNECTIONS as usize));
        for address in addresses {
            (0..CONNECTIONS).for_each(|_| request(TcpStream::connect(address).unwrap()));
        }
        servers.into_iter().for_each(|server| server.join().unwrap());
        for address in addresses {
            let destination = Destination::One(address.to_string());
            settle(&kernel, &destination, CONNECTIONS);
            assert_eq!(steps(&kernel, &destination, Direction::Outgoing), outgoing(CONNECTIONS), "{address}");
            let mut seen = steps(&kernel, &destination, Direction::Incoming);
            seen.remove(&(State::Listen, State::Close));
            assert_eq!(seen, incoming(CONNECTIONS), "{address}");
        }
        (look(&kernel), addresses)
    });
    let (picture, addresses) = seen.join().unwrap();
    for address in addresses {
        let of = |one: &Destination| one.label() == address.to_string();
        let bypass = picture.bypass.iter().flatten().filter(|one| of(&one.destination));
        assert_eq!(bypass.map(|one| one.connections).sum::<u64>(), CONNECTIONS, "{address}");
        let bytes = picture.bytes.iter().flatten().find(|one| of(&one.destination));
        assert_eq!(bytes.map(|one| one.sent), Some(CONNECTIONS), "{address}: a byte of each");
        let lives = picture.life_times.iter().flatten().filter(|one| of(&one.destination));
        let lives: Vec<(u64, u64)> =
            lives.map(|one| (one.buckets.iter().sum::<u64>(), one.unknown)).collect();
        assert_eq!(lives, [(CONNECTIONS, 0); 2], "{address}: of each direction, all known");
    }
}
