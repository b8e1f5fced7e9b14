//! The kernel's own account: the programs of [`crate::kernel`], loaded once with all rights and read at every look. What
//! the kernel refuses is told as the state of that probe; `sock_diag` shows what can be seen without.

use super::Source;
use crate::kernel::pardon::Pardon;
use crate::kernel::probe::PROBES;
use crate::kernel::{Kernel, Options, requests, work};
use crate::picture::Picture;
use crate::settings::{ProcessName, Settings};
use std::net::SocketAddr;
use std::path::PathBuf;

pub(super) const NAME: &str = "kernel";

/// Reading maps may take `CAP_BPF`; finding the processes that may talk to storage by their program file takes
/// `CAP_SYS_PTRACE`.
pub(super) const KEEPS: &[&str] = &["CAP_BPF", "CAP_SYS_PTRACE"];

struct Programs {
    kernel: Kernel,
    pardon: Pardon,
}

pub(super) fn make(settings: &Settings) -> Box<dyn Source> {
    let kernel = Kernel::load(&options(settings));
    for note in &kernel.notes {
        eprintln!("weir-probes: {note}");
    }
    Box::new(Programs { kernel, pardon: pardon(settings) })
}

impl Source for Programs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn look(&mut self, picture: &mut Picture) {
        self.kernel.tend(&self.pardon);
        self.kernel.read(picture);
    }
}

/// Counting requests costs each write to storage something, so it is asked for; a weir is followed where its program file
/// is known.
fn options(settings: &Settings) -> Options {
    let weirs: Vec<PathBuf> = programs(&settings.own);
    let wanted = |name: &str| match name {
        name if name == work::PROBE.name => settings.work,
        name if name == requests::PROBE.name => !weirs.is_empty(),
        _ => true,
    };
    let names = PROBES.iter().map(|probe| probe.name).filter(|name| wanted(name));
    Options {
        probes: names.map(str::to_owned).collect(),
        destinations: settings
            .watch
            .iter()
            .filter_map(|watch| watch.address.map(|address| SocketAddr::new(address, watch.port)))
            .collect(),
        ports: settings
            .watch
            .iter()
            .filter(|watch| watch.address.is_none())
            .map(|watch| watch.port)
            .collect(),
        weirs,
    }
}

/// weir itself, and who is allowed to go past it.
fn pardon(settings: &Settings) -> Pardon {
    let both = || settings.own.iter().chain(&settings.allow);
    let all: Vec<ProcessName> = both().cloned().collect();
    Pardon {
        processes: both()
            .filter_map(|one| if let ProcessName::Pid(id) = one { Some(*id) } else { None })
            .collect(),
        names: both()
            .filter_map(|one| if let ProcessName::Short(name) = one { Some(name.clone()) } else { None })
            .collect(),
        programs: programs(&all),
    }
}

fn programs(processes: &[ProcessName]) -> Vec<PathBuf> {
    let path =
        |one: &ProcessName| if let ProcessName::Executable(path) = one { Some(path.clone()) } else { None };
    processes.iter().filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_on_request_and_a_weir_followed_where_it_is() {
        let quiet = options(&Settings::default());
        assert_eq!(quiet.probes, ["transitions", "errors", "flows", "bypass"]);
        assert_eq!(quiet.ports, [11_211, 9_042, 19_042]);
        let own = vec![ProcessName::Executable("/usr/bin/weir".into()), ProcessName::Pid(7)];
        let all = Settings { work: true, own, ..Settings::default() };
        assert_eq!(options(&all).probes, ["transitions", "errors", "flows", "bypass", "work", "requests"]);
        assert_eq!(options(&all).weirs, [PathBuf::from("/usr/bin/weir")]);
    }

    #[test]
    fn weir_and_who_is_allowed_are_let_be() {
        let settings = Settings {
            allow: vec![ProcessName::Pid(7), ProcessName::Executable("/usr/bin/exporter".into())],
            ..Settings::default()
        };
        let let_be = pardon(&settings);
        assert_eq!(
            (let_be.processes.as_slice(), let_be.names.as_slice()),
            (&[7][..], &["weir".to_owned()][..])
        );
        assert_eq!(let_be.programs, [PathBuf::from("/usr/bin/exporter")]);
    }
}
