//! The programs in the kernel: loaded with all rights when it is made, read ever after.

use super::Source;
use crate::kernel::connects::{self, Feed};
use crate::kernel::pardon::Pardon;
use crate::kernel::services::Service;
use crate::kernel::{
    Kernel, Options, bypass, errors, flows, requests, services, transitions, witness as opened, work,
};
use crate::picture::Picture;
use crate::settings::{ProcessName, Settings};
use crate::witness::{self, Witness};

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
    witness: Option<Witness>,
}

pub(super) fn make(settings: &Settings, feed: &mut Option<Feed>) -> Box<dyn Source> {
    let mut kernel = Kernel::load(&options(settings));
    *feed = kernel.feed();
    Box::new(Programs {
        kernel,
        pardon: named(settings.own.iter().chain(&settings.allow)),
        witness: Witness::of(&settings.weir_metrics, &settings.watch),
    })
}

/// Processes as the kernel's side looks for them.
fn named<'a>(processes: impl IntoIterator<Item = &'a ProcessName>) -> Pardon {
    let mut pardon = Pardon::default();
    for process in processes.into_iter().cloned() {
        match process {
            ProcessName::Pid(pid) => pardon.processes.push(pid),
            ProcessName::Short(name) => pardon.names.push(name),
            ProcessName::Executable(path) => pardon.programs.push(path),
        }
    }
    pardon
}

/// Each service once, with all that were named as its processes.
fn chosen(settings: &Settings) -> Vec<Service> {
    let mut services: Vec<Service> = Vec::new();
    for one in &settings.services {
        if services.iter().all(|service| service.name != one.name) {
            let of_it = settings.services.iter().filter(|other| other.name == one.name);
            let processes = named(of_it.map(|one| &one.process));
            services.push(Service { name: one.name.clone(), processes });
        }
    }
    services
}

/// Counting requests costs each write to storage something, and timing services each switch between threads, so both are
/// asked for; a weir is followed where its program file is known, and connections are told one by one where somebody may ask
/// whose they are.
fn options(settings: &Settings) -> Options {
    let mut options = Options::default();
    for process in &settings.own {
        if let ProcessName::Executable(path) = process {
            options.weirs.push(path.clone());
        }
    }
    let counted = settings.work.then_some(work::PROBE.name);
    let followed = (!options.weirs.is_empty()).then_some(requests::PROBE.name);
    options.services = chosen(settings);
    options.own = named(&settings.own);
    let timed = (!options.services.is_empty()).then_some(services::PROBE.name);
    let compared = (!settings.weir_metrics.is_empty()).then_some(opened::PROBE.name);
    let told = settings.attribution.as_ref().map(|_| connects::PROBE.name);
    let asked_for = [counted, followed, timed, compared, told].into_iter().flatten();
    options.probes = BY_DEFAULT.iter().copied().chain(asked_for).map(str::to_owned).collect();
    options.watch(&settings.watch);
    options
}

impl Source for Programs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn look(&mut self, picture: &mut Picture) {
        self.kernel.tend(&self.pardon);
        let Programs { kernel, witness, .. } = self;
        let asked = witness
            .as_mut()
            .map(|witness| witness.look(|| kernel.opened().map(|opened| witness::total(&opened))));
        let (disagreement, status) = asked.unwrap_or_else(|| (None, witness::off()));
        picture.probes.push(status);
        picture.disagreements = disagreement.map(|one| vec![one]);
        self.kernel.read(picture);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Attribution, NamedService, Protocol, Watch};

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
        let weir_metrics = vec!["127.0.0.1:9464".to_owned()];
        let compared = options(&Settings { weir_metrics, ..Settings::default() });
        assert_eq!(compared.probes[BY_DEFAULT.len()..], ["witness"]);
        assert_eq!(compared.own.names, ["weir"]);
        assert_eq!(all.weirs, [std::path::PathBuf::from("/usr/bin/weir")]);
        let attribution = Attribution { path: "/run/a.sock".into(), group: None, users: Vec::new() };
        let asked = options(&Settings { attribution: Some(attribution), ..Settings::default() });
        assert_eq!(asked.probes[BY_DEFAULT.len()..], ["connects"]);
    }

    #[test]
    fn a_service_is_all_that_bears_its_name() {
        let of = |name: &str, process| NamedService { name: name.to_owned(), process };
        let services = vec![
            of("b", ProcessName::Pid(7)),
            of("a", ProcessName::Short("node".to_owned())),
            of("b", ProcessName::Pid(8)),
        ];
        let options = options(&Settings { services, ..Settings::default() });
        let found: Vec<_> = options.services.iter().map(|one| (one.name.as_str(), one)).collect();
        let [("b", b), ("a", a)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!((b.processes.processes.as_slice(), a.processes.names.len()), ([7, 8].as_slice(), 1));
        assert_eq!(options.probes[BY_DEFAULT.len()..], ["services"]);
    }

    #[test]
    fn weir_and_who_is_allowed_are_pardoned_alike() {
        let settings = Settings {
            allow: vec![ProcessName::Pid(7), ProcessName::Executable("/bin/backup".into())],
            ..Settings::default()
        };
        let pardon = named(settings.own.iter().chain(&settings.allow));
        assert_eq!((pardon.processes, pardon.names), (vec![7], vec!["weir".to_owned()]));
        assert_eq!(pardon.programs, ["/bin/backup".parse::<std::path::PathBuf>().unwrap()]);
    }
}
