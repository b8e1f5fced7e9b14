//! The programs really loaded and really fired, as root, in private network namespaces: exact counts. Without the rights
//! every test says why it was skipped.

mod bypass;
mod connects;
mod exhaustion;
mod flows;
mod names;
mod namespace;
mod requests;
mod rights;
mod services;
mod states;
mod traffic;
mod transitions;
mod weir;
mod witness;
mod work;

use weir_probes::kernel::{Kernel, Options};
use weir_probes::picture::{Picture, ProbeState};

/// Loads these probes; `None`, said aloud, where the kernel refuses them for want of a right.
fn load(test: &str, options: &Options) -> Option<Kernel> {
    let kernel = Kernel::load(options);
    for status in kernel.statuses() {
        match &status.state {
            ProbeState::Refused { errno: Some(libc::EPERM | libc::EACCES), reason } => {
                namespace::skip(test, &format!("{} is refused: {reason}", status.probe));
                return None;
            }
            ProbeState::Attached | ProbeState::Off => {}
            other => panic!("{}: {other:?}", status.probe),
        }
    }
    kernel.notes.iter().for_each(|note| eprintln!("{note}"));
    Some(kernel)
}

fn options(probes: &[&str]) -> Options {
    Options { probes: probes.iter().map(|name| (*name).to_owned()).collect(), ..Options::default() }
}

fn look(kernel: &Kernel) -> Picture {
    let mut picture = Picture::default();
    kernel.read(&mut picture);
    picture
}
