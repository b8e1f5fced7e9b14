//! What weir says it opened against what the kernel saw, with a real weir that was there before the probe, and with another
//! process that is taken for it.

use crate::namespace::{Place, enter, skip};
use crate::weir::{self, Weir, ask};
use crate::{load, options};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use weir_probes::kernel::pardon::Pardon;
use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::ProbeState;
use weir_probes::settings::{Protocol, Watch};
use weir_probes::witness::{Witness, total};

/// As every look does: first who is weir now, then both witnesses.
fn share(kernel: &mut Kernel, witness: &mut Witness) -> Option<f64> {
    kernel.tend(&Pardon::default());
    let kernel = &*kernel;
    let (disagreement, status) = witness.look(|| kernel.opened().map(|opened| total(&opened)));
    assert_eq!(status.state, ProbeState::Attached);
    disagreement.map(|one| {
        assert_eq!(one.what, "opens");
        one.share
    })
}

/// Makes weir open so many connections, one after the other: its server closes them.
fn reopen(weir: &Weir, kernel: &Kernel, times: u64) {
    for _ in 0..times {
        let before = opened(kernel);
        ask(weir.door, "get bye\r\n", 1);
        let deadline = Instant::now() + Duration::from_secs(10);
        while opened(kernel) == before {
            assert!(Instant::now() < deadline, "weir does not connect again");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn opened(kernel: &Kernel) -> u64 {
    total(&kernel.opened().expect("the probe is attached"))
}

fn until(what: &str, mut share: impl FnMut() -> Option<f64>, wanted: impl Fn(f64) -> bool) -> f64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = share().expect("there is a baseline");
        if wanted(found) {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: {found}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn weir_and_the_kernel_agree_until_somebody_else_is_taken_for_weir() {
    const TEST: &str = "witness::weir_and_the_kernel_agree_until_somebody_else_is_taken_for_weir";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let Some(program) = weir::program() else {
        skip(TEST, "weir is not built (cargo build -p weir)");
        return;
    };
    let server: SocketAddr = weir::server();
    // older than the probe: what it opened until now nobody saw
    let weir = Weir::start(&program, server);
    ask(weir.door, "get one\r\n", 1);
    let own = Pardon { programs: vec![program.clone()], ..Pardon::default() };
    let options = Options { destinations: vec![server], own, ..options(&["witness"]) };
    let Some(mut kernel) = load(TEST, &options) else { return };
    let watch = Watch { address: Some(server.ip()), port: server.port(), protocol: Protocol::Memcached };
    let mut witness = Witness::of(&[weir.metrics.to_string()], &[watch]).expect("somebody to ask");
    assert_eq!(share(&mut kernel, &mut witness), None, "the baseline");
    assert_eq!(share(&mut kernel, &mut witness), Some(0.0), "nothing happened since");
    assert_eq!(opened(&kernel), 0);

    reopen(&weir, &kernel, 5);
    until("weir's word follows", || share(&mut kernel, &mut witness), |share| share == 0.0);
    let honest = opened(&kernel);
    assert_eq!(honest, 5);
    // and it is a comparison: what weir says has grown as much
    reopen(&weir, &kernel, 2);
    until("again", || share(&mut kernel, &mut witness), |share| share == 0.0);
    assert_eq!(opened(&kernel), 7);

    // This process connects as well; it is not taken for weir.
    drop(std::net::TcpStream::connect(server).unwrap());
    assert_eq!((share(&mut kernel, &mut witness), opened(&kernel)), (Some(0.0), 7));

    // Another process of the same program, whose word nobody asks for.
    let other = Weir::start(&program, server);
    kernel.tend(&Pardon::default());
    ask(other.door, "get one\r\n", 1);
    reopen(&other, &kernel, 3);
    let more = opened(&kernel) - 7;
    assert!(more >= 3, "{more}");
    let apart = until("somebody else's", || share(&mut kernel, &mut witness), |share| share > 0.0);
    assert!((apart - more as f64 / (7 + more) as f64).abs() < 1e-9, "{apart} with {more} of {}", 7 + more);
    println!("measured: {more} connections of somebody else beside 7 are a disagreement of {apart:.3}");

    // weir gone: nobody's word, and so no number
    drop(weir);
    kernel.tend(&Pardon::default());
    let (disagreement, status) = witness.look(|| Some(0));
    assert_eq!(disagreement, None);
    assert!(matches!(status.state, ProbeState::Refused { .. }), "{status:?}");
}
