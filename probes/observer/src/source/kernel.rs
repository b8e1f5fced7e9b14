//! The programs in the kernel: loaded with all rights when it is made, read ever after.

use super::Source;
use crate::kernel::pardon::Pardon;
use crate::kernel::{Kernel, Options, bypass, errors, flows, requests, transitions, work};
use crate::picture::Picture;
use crate::settings::{ProcessName, Settings};

pub(super) const NAME: &str = "kernel";

/// Before 5.19 the kernel asks for `CAP_BPF` each time that a map is read; the program file of another user's process, by
/// which it may be pardoned and is named, takes `CAP_SYS_PTRACE`.
pub(super) const KEEPS: &[&str] = &["CAP_BPF", "CAP_SYS_PTRACE"];

/// Probes that cost little enough to be on for everybody.
const BY_DEFAULT: &[&str] =
    &[transitions::PROBE.name, errors::PROBE.name, flows::PROBE.name, bypass::PROBE.name];

struct Programs {
    kernel: Kernel,
    pardon: Pardon,
}

pub(super) fn make(settings: &Settings) -> Box<dyn Source> {
    Box::new(Programs { kernel: Kernel::load(&options(settings)), pardon: pardon(settings) })
}

/// weir's own processes and those that may go past it.
fn pardon(settings: &Settings) -> Pardon {
    let mut pardon = Pardon::default();
    for process in settings.own.iter().chain(&settings.allow).cloned() {
        match process {
            ProcessName::Pid(pid) => pardon.processes.push(pid),
            ProcessName::Short(name) => pardon.names.push(name),
            ProcessName::Executable(path) => pardon.programs.push(path),
        }
    }
    pardon
}

/// Counting requests
/// costs each write to storage something, so it is asked for; a weir is followed where its program file is known.
fn options(settings: &Settings) -> Options {
    let mut options = Options::default();
    for process in &settings.own {
        if let ProcessName::Executable(path) = process {
            options.weirs.push(path.clone());
        }
    }
    let counted = settings.work.then_some(work::PROBE.name);
    let followed = (!options.weirs.is_empty()).then_some(requests::PROBE.name);
    options.probes = BY_DEFAULT.iter().copied().chain(counted).chain(followed).map(str::to_owned).collect();
    options.watch(&settings.watch);
    options
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Protocol, Watch};

    #[test]
    fn an_address_is_a_destination_and_a_port_is_watched_everywhere() {
        let watch = |address: Option<&str>, port| Watch {
            address: address.map(|text| text.parse().unwrap()),
            port,
            protocol: Protocol::Memcached,
        };
        let settings = Settings {
            watch: vec![watch(Some("10.1.2.3"), 11_211), watch(None, 11_311)],
            ..Settings::default()
        };
        let options = options(&settings);
        assert_eq!(options.destinations, ["10.1.2.3:11211".parse().unwrap()]);
        assert_eq!((options.ports.as_slice(), options.probes.len()), ([11_311].as_slice(), BY_DEFAULT.len()));
    }

    #[test]
    fn work_is_counted_on_request_and_a_weir_followed_where_it_is() {
        assert_eq!(options(&Settings::default()).probes, BY_DEFAULT);
        let own = vec![ProcessName::Executable("/usr/bin/weir".into()), ProcessName::Pid(7)];
        let all = options(&Settings { work: true, own, ..Settings::default() });
        assert_eq!(all.probes[BY_DEFAULT.len()..], ["work", "requests"]);
        assert_eq!(all.weirs, [std::path::PathBuf::from("/usr/bin/weir")]);
    }

    #[test]
    fn weir_and_who_is_allowed_are_pardoned_alike() {
        let settings = Settings {
            allow: vec![ProcessName::Pid(7), ProcessName::Executable("/bin/backup".into())],
            ..Settings::default()
        };
        let pardon = pardon(&settings);
        assert_eq!((pardon.processes, pardon.names), (vec![7], vec!["weir".to_owned()]));
        assert_eq!(pardon.programs, ["/bin/backup".parse::<std::path::PathBuf>().unwrap()]);
    }
}
