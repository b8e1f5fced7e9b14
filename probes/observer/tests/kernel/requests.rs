//! The probe `requests`, on a real weir in front of nothing: what it refuses ends, too.

use crate::namespace::{Place, enter, skip};
use crate::weir::{self, Weir, ask};
use crate::{load, look, options};
use std::time::{Duration, Instant};
use weir_probes::kernel::Options;

#[test]
fn every_request_through_weir_passes_its_point() {
    const TEST: &str = "requests::every_request_through_weir_passes_its_point";
    if enter(TEST, &[]) == Place::Done {
        return;
    }
    let Some(program) = weir::program() else {
        skip(TEST, "weir is not built (cargo build -p weir)");
        return;
    };
    let watch = Options { weirs: vec![program.clone()], ..options(&["requests"]) };
    let Some(kernel) = load(TEST, &watch) else { return };
    let weir = Weir::start(&program, weir::server());
    ask(weir.door, "get one\r\n", 200);
    ask(weir.door, "get one two three\r\n", 100);
    let deadline = Instant::now() + Duration::from_secs(5);
    let seen = loop {
        let all = look(&kernel).requests.expect("the probe is attached");
        let seen: Vec<_> = all.into_iter().filter(|one| one.weir == weir.pid()).collect();
        if seen.iter().map(|one| one.requests).sum::<u64>() >= 300 || Instant::now() > deadline {
            break seen;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(seen.iter().all(|one| one.method == 0), "get is number 0: {seen:?}");
    assert_eq!(seen.iter().map(|one| one.requests).sum::<u64>(), 300);
    assert_eq!(seen.iter().map(|one| one.operations).sum::<u64>(), 500);
    assert_eq!(seen.iter().map(|one| one.backend_operations).sum::<u64>(), 500);
    assert_eq!(seen.iter().map(|one| one.sizes.counts[0]).sum::<u64>(), 200, "of one operation");
    assert_eq!(seen.iter().map(|one| one.sizes.counts[1]).sum::<u64>(), 100, "of two or three");
}
