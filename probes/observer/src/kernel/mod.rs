//! The kernel's side, loaded and read. The object is embedded; each probe loads by itself, and what the kernel says to it
//! is in its [`ProbeStatus`]: nothing here is fatal.
//!
//! - [`probe`]: the table of probes; a module for each: [`transitions`], [`errors`], [`flows`], [`bypass`], [`work`],
//!   [`requests`], [`services`], [`witness`], [`connects`]
//! - [`states`]: the hook that several of them share
//! - [`pardon`]: who may talk to storage; [`past`]: what processes did that have ended
//! - [`machine`]: the kernels it works on; [`tracefs`]: where tracepoints are described
//! - [`maps`]: what the programs are told, and how they are read; [`lost`]: what they could not keep
//! - [`costs`]: what the programs cost, where the kernel counts that
//! - [`refusal`]: why a probe is not there; [`record`], [`object`]: bytes

pub mod btf;
pub mod bypass;
pub mod connects;
pub mod costs;
pub mod errors;
pub mod flows;
pub mod lost;
pub mod machine;
pub mod maps;
pub mod object;
pub mod pardon;
pub mod past;
pub mod probe;
pub mod record;
pub mod refusal;
pub mod requests;
pub mod services;
pub mod states;
pub mod tracefs;
pub mod transitions;
pub mod witness;
pub mod work;

use crate::host::Host;
use crate::picture::{Destination, Picture, ProbeState, ProbeStatus, Process};
use crate::processes::names::{Names, Numbers};
use crate::rights;
use crate::settings::Watch;
use aya::maps::MapError;
use aya::{Ebpf, EbpfLoader};
use machine::Machine;
use pardon::Pardon;
use probe::{PROBES, Probe};
use record::Patch;
use refusal::Refusal;
use rustix::thread::CapabilitySet;
use services::{Followed, Service};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use weir_probes_abi::{Endpoint, fold};

/// What is said where `/proc` is not the first process namespace's.
const OTHER_NUMBERS: &str = "/proc shows another process namespace than the one that the kernel counts in: processes go by \
    the name of the thread, without program file and unit; --own and --allow mean names of threads, so that weir itself \
    counts as going past it. Run weir-probes in the host's process namespace (hostPID, --pid=host), or give it the host's \
    /proc";

/// What to load and what to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Names of the probes to load; the others are off.
    pub probes: Vec<String>,
    /// Destinations that are told apart from the start; the first [`fold::DESTINATIONS`] of them.
    pub destinations: Vec<SocketAddr>,
    /// Ports that are watched at every address: what is first seen takes a free slot.
    pub ports: Vec<u16>,
    /// Program files of weir, for the probe `requests`.
    pub weirs: Vec<PathBuf>,
    /// Services whose threads are timed, for the probe `services`; the first 16 of them.
    pub services: Vec<Service>,
    /// weir's own processes, for the probe `witness`.
    pub own: Pardon,
}

impl Options {
    /// Every probe, nothing watched.
    #[must_use]
    pub fn all() -> Options {
        Options { probes: PROBES.iter().map(|probe| probe.name.to_owned()).collect(), ..Options::default() }
    }

    /// Adds what an operator watches: an address is told apart from the start, a port alone when somebody uses it.
    pub fn watch(&mut self, watches: &[Watch]) {
        for watch in watches {
            match watch.address {
                Some(address) => self.destinations.push(SocketAddr::new(address, watch.port)),
                None => self.ports.push(watch.port),
            }
        }
    }

    /// The destinations, each once.
    fn watched(&self) -> Vec<Endpoint> {
        let mut watched: Vec<Endpoint> = Vec::new();
        for endpoint in self.destinations.iter().map(|address| maps::endpoint(*address)) {
            if !watched.contains(&endpoint) && watched.len() < fold::DESTINATIONS as usize {
                watched.push(endpoint);
            }
        }
        watched
    }

    fn wants(&self, probe: &Probe) -> bool {
        self.probes.iter().any(|name| name == probe.name)
    }
}

/// The probes that were loaded, for as long as this value lives.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Option<Ebpf>,
    /// In the order of [`PROBES`].
    states: Vec<ProbeState>,
    /// Processes that the programs were told to let be.
    pardoned: BTreeSet<u32>,
    bypassed: bypass::Ended,
    worked: work::Ended,
    services: Vec<Service>,
    followed: Followed,
    own: Pardon,
    /// Processes that the programs know as weir's own.
    owned: BTreeSet<u32>,
    failed: errors::Ended,
    /// Reading gives names; a `Kernel` is one thread's.
    names: RefCell<Names>,
    /// Processes that had ended when their entries were read last: those go at the next [`Kernel::tend`], so that every
    /// count is read at least once with its process.
    gone: RefCell<BTreeSet<u32>>,
    /// Processes that had entries when these were read last.
    seen: RefCell<BTreeSet<u32>>,
    /// Who may talk to storage, where the programs cannot be told who that is.
    unpardoned: Option<Pardon>,
    /// What was done to the machine on the way, for the operator to read.
    pub notes: Vec<String>,
}

impl Kernel {
    /// Loads what can be loaded.
    #[must_use]
    pub fn load(options: &Options) -> Kernel {
        // In a thread of its own: it may need a mount namespace of its own, and ends with it.
        std::thread::scope(|scope| {
            let loader = std::thread::Builder::new().name("weir-probes-load".to_owned());
            let load = || {
                let mut kernel = Kernel::load_here(options);
                kernel.services.clone_from(&options.services);
                kernel.own.clone_from(&options.own);
                // Taking down its mount namespace keeps it in the list of threads for a while after it was joined.
                let _ = rights::keep(CapabilitySet::empty()); // it ends anyway
                kernel
            };
            match loader.spawn_scoped(scope, load).map(|thread| thread.join()) {
                Ok(Ok(kernel)) => kernel,
                Ok(Err(_)) => Kernel::without(options, &none("the loading thread panicked")),
                Err(error) => Kernel::without(options, &Refusal::of_io("starting a thread", &error)),
            }
        })
    }

    /// The probes and whether they are there.
    #[must_use]
    pub fn statuses(&self) -> Vec<ProbeStatus> {
        let lost = |probe: &Probe| self.ebpf.as_ref().and_then(|ebpf| lost::of(ebpf, probe));
        PROBES
            .iter()
            .zip(&self.states)
            .map(|(probe, state)| ProbeStatus {
                probe: probe.name,
                state: state.clone(),
                lost: if *state == ProbeState::Attached { lost(probe) } else { None },
            })
            .collect()
    }

    /// The ring buffer of the probe `connects`, once; `None` where that is not attached.
    ///
    /// None either where `/proc` shows another process namespace's numbers: what the kernel tells would mean strangers.
    pub fn feed(&mut self) -> Option<connects::Feed> {
        let attached = self.is_attached(&connects::PROBE);
        let is_readable = attached && self.names.get_mut().numbers() == Numbers::Kernels;
        self.ebpf.as_mut().filter(|_| is_readable).and_then(connects::Feed::of)
    }

    /// Fills in what the probes have seen. What cannot be read stays unknown.
    pub fn read(&self, picture: &mut Picture) {
        picture.probes.extend(self.statuses());
        let Some(ebpf) = &self.ebpf else { return };
        self.look_for_the_living(ebpf);
        self.read_traffic(ebpf, picture);
        if self.is_attached(&transitions::PROBE)
            && let Ok(slots) = maps::Slots::read(ebpf)
            && let Ok(seen) = transitions::read(ebpf, &slots)
        {
            picture.transitions = Some(seen.transitions);
            picture.opens = Some(seen.opens);
            picture.life_times = Some(seen.life_times);
        }
        if self.is_attached(&errors::PROBE)
            && let Ok(mut seen) = errors::read(ebpf, &self.failed)
        {
            let mut names = self.names.borrow_mut();
            seen.iter_mut().for_each(|row| names.name(&mut row.process));
            picture.errors = Some(seen);
        }
        if self.is_attached(&services::PROBE)
            && self.knows_processes()
            && let Ok((times, totals)) = services::read(ebpf, &self.services, &self.followed)
        {
            picture.request_times = Some(times);
            picture.services = Some(totals);
        }
        if costs::are_counted() {
            picture.programs = costs::read(ebpf);
        }
    }

    /// Looks after the maps: takes the entries of processes that have ended out, so that there is room for others, and tells
    /// the programs who may talk to storage now. To be called as often as the maps are read; what fails is tried again then.
    pub fn tend(&mut self, pardon: &Pardon) {
        let probes = [&bypass::PROBE, &work::PROBE, &requests::PROBE, &errors::PROBE];
        let [bypass, work, requests, errors] = probes.map(|probe| self.is_attached(probe));
        let [services, witness] = [&services::PROBE, &witness::PROBE].map(|probe| self.is_attached(probe));
        let (names, gone) = (self.names.get_mut(), std::mem::take(self.gone.get_mut()));
        let Some(ebpf) = &mut self.ebpf else { return };
        let proc = Path::new("/proc");
        // Numbers of another namespace would mean strangers.
        let are_the_kernels = names.numbers() == Numbers::Kernels;
        if bypass || work {
            self.unpardoned = (!are_the_kernels).then(|| pardon.clone());
            let meant = if are_the_kernels { pardon.processes(proc) } else { BTreeSet::new() };
            let before = self.seen.get_mut();
            // Whoever is found on the list before anybody read what it did, did nothing that counts: weir after a restart.
            let new: BTreeSet<u32> = meant
                .iter()
                .filter(|pid| !self.pardoned.contains(pid) && !before.contains(pid))
                .copied()
                .collect();
            let told = pardon::tell(ebpf, pardon::PARDONED_MAP, &mut self.pardoned, meant);
            if bypass && told.is_ok() {
                let _ = bypass::sweep(ebpf, &mut bypass::Ended::default(), &new, names);
            }
            if work && told.is_ok() {
                let _ = work::sweep(ebpf, &mut work::Ended::default(), &new, names);
            }
        }
        if witness && are_the_kernels {
            let own = self.own.processes(proc).into_iter().take(weir_probes_abi::witness::OWN as usize);
            let _ = pardon::tell(ebpf, witness::OWN, &mut self.owned, own.collect());
        }
        if services && are_the_kernels {
            let _ = self.followed.tell(ebpf, &self.services, proc);
        }
        if bypass {
            let _ = bypass::sweep(ebpf, &mut self.bypassed, &gone, names);
        }
        if work {
            let _ = work::sweep(ebpf, &mut self.worked, &gone, names);
        }
        if errors {
            let _ = errors::sweep(ebpf, &mut self.failed, &gone, names);
        }
        if requests {
            let _ = requests::sweep(ebpf, names);
        }
    }

    /// Connections that weir's own processes opened to watched destinations; `None` while nothing tells.
    #[must_use]
    pub fn opened(&self) -> Option<Vec<(Destination, u64)>> {
        let ebpf =
            self.ebpf.as_ref().filter(|_| self.is_attached(&witness::PROBE) && self.knows_processes())?;
        witness::read(ebpf).ok()
    }

    /// Notes which of the processes that have entries have ended, before the entries are read: these say all then.
    fn look_for_the_living(&self, ebpf: &Ebpf) {
        type Processes = fn(&Ebpf) -> Result<BTreeSet<u32>, MapError>;
        let probes: [(&Probe, Processes); 3] = [
            (&bypass::PROBE, bypass::processes),
            (&work::PROBE, work::processes),
            (&errors::PROBE, errors::processes),
        ];
        let mut all = BTreeSet::new();
        for (_, processes) in probes.iter().filter(|(probe, _)| self.is_attached(probe)) {
            // What cannot be read now is read next time.
            let Ok(mut some) = processes(ebpf) else { return };
            all.append(&mut some);
        }
        let mut names = self.names.borrow_mut();
        names.keep(&all);
        self.seen.borrow_mut().clone_from(&all);
        all.retain(|process| !names.lives(*process));
        *self.gone.borrow_mut() = all;
    }

    /// What the probes of storage traffic have seen.
    fn read_traffic(&self, ebpf: &Ebpf, picture: &mut Picture) {
        let Ok(slots) = maps::Slots::read(ebpf) else { return };
        if self.is_attached(&flows::PROBE)
            && let Ok(seen) = flows::read(ebpf, &slots)
        {
            picture.bytes = Some(seen.bytes);
            picture.round_trips = Some(seen.round_trips);
            picture.retransmits = Some(seen.retransmits);
        }
        if self.is_attached(&bypass::PROBE) {
            picture.bypass = bypass::read(ebpf, &slots, &self.bypassed).ok();
        }
        if self.is_attached(&work::PROBE) {
            picture.bypass_work = work::read(ebpf, &slots, &self.worked).ok();
        }
        if let Some(pardon) = &self.unpardoned {
            let accused = |process: &Process| !pardon.means_name(&process.comm);
            picture.bypass.iter_mut().for_each(|rows| rows.retain(|row| accused(&row.process)));
            picture.bypass_work.iter_mut().for_each(|rows| rows.retain(|row| accused(&row.process)));
        }
        let mut names = self.names.borrow_mut();
        picture.bypass.iter_mut().flatten().for_each(|row| names.name(&mut row.process));
        picture.bypass_work.iter_mut().flatten().for_each(|row| names.name(&mut row.process));
        if self.is_attached(&requests::PROBE) {
            picture.requests = requests::read(ebpf).ok();
        }
    }

    /// Whether processes can be told to the programs by the numbers that `/proc` shows.
    fn knows_processes(&self) -> bool {
        self.names.borrow().numbers() == Numbers::Kernels
    }

    fn is_attached(&self, probe: &Probe) -> bool {
        PROBES
            .iter()
            .zip(&self.states)
            .any(|(one, state)| one.name == probe.name && *state == ProbeState::Attached)
    }

    fn load_here(options: &Options) -> Kernel {
        let machine = match Machine::read(&Host::read()) {
            Ok(machine) => machine,
            Err(refusal) => return Kernel::without(options, &refusal),
        };
        let prepared: Vec<Option<Result<Vec<Patch>, Refusal>>> =
            PROBES.iter().map(|probe| options.wants(probe).then(|| (probe.prepare)(&machine))).collect();
        let mut notes = Vec::new();
        if machine.tracefs.as_ref().is_ok_and(|tracefs| tracefs.private) {
            notes.push("tracefs was mounted nowhere: mounted for the loading thread alone".to_owned());
        }
        if Numbers::shown(Path::new("/proc")) == Numbers::Others {
            notes.push(OTHER_NUMBERS.to_owned());
        }
        let ready = |index: usize| matches!(prepared.get(index), Some(Some(Ok(_))));
        if !(0..PROBES.len()).any(ready) {
            // Nothing to load: no map is made either.
            let states = prepared.into_iter().map(|one| state(one.map(|one| one.map(|_| ())))).collect();
            return Kernel { states, notes, ..Kernel::nothing() };
        }
        let has_errors = PROBES.iter().position(|probe| probe.name == errors::PROBE.name).is_some_and(ready);
        let opened = open(&prepared, ready, &machine);
        let mut ebpf = match opened.and_then(|mut ebpf| told(&mut ebpf, options, has_errors).map(|()| ebpf)) {
            Ok(ebpf) => ebpf,
            Err(refusal) => return Kernel { notes, ..Kernel::without(options, &refusal) },
        };
        let attached = PROBES.iter().zip(prepared).map(|(probe, prepared)| {
            let attached =
                prepared.map(|prepared| prepared.and_then(|_| (probe.attach)(&mut ebpf, options, &machine)));
            if let Some(Err(_)) = attached {
                probe::unload(&mut ebpf, probe.programs);
            }
            state(attached)
        });
        let states = attached.collect();
        Kernel { ebpf: Some(ebpf), states, notes, ..Kernel::nothing() }
    }

    fn nothing() -> Kernel {
        Kernel {
            ebpf: None,
            states: Vec::new(),
            pardoned: BTreeSet::new(),
            bypassed: bypass::Ended::default(),
            worked: work::Ended::default(),
            services: Vec::new(),
            followed: Followed::default(),
            own: Pardon::default(),
            owned: BTreeSet::new(),
            failed: errors::Ended::default(),
            names: RefCell::new(Names::of_this_system()),
            gone: RefCell::default(),
            seen: RefCell::default(),
            unpardoned: None,
            notes: Vec::new(),
        }
    }

    /// No probe: each that was wanted for the same reason.
    fn without(options: &Options, refusal: &Refusal) -> Kernel {
        let wanted = |probe| options.wants(probe).then(|| Err(refusal.clone()));
        Kernel { states: PROBES.iter().map(|probe| state(wanted(probe))).collect(), ..Kernel::nothing() }
    }
}

/// `None`: not asked for.
fn state(attached: Option<Result<(), Refusal>>) -> ProbeState {
    match attached {
        None => ProbeState::Off,
        Some(Ok(())) => ProbeState::Attached,
        Some(Err(refusal)) => refusal.into(),
    }
}

fn none(reason: &str) -> Refusal {
    Refusal::Refused { errno: None, reason: reason.to_owned() }
}

/// Patches the object and makes its maps. Nothing runs yet.
fn open(
    prepared: &[Option<Result<Vec<Patch>, Refusal>>],
    ready: impl Fn(usize) -> bool,
    machine: &Machine,
) -> Result<Ebpf, Refusal> {
    let mut loader = EbpfLoader::new();
    for (index, probe) in PROBES.iter().enumerate() {
        if !ready(index) {
            for map in probe.maps {
                loader.map_max_entries(map, 1);
            }
        }
    }
    let at_work = PROBES.iter().enumerate().filter(|(index, _)| ready(*index)).map(|(_, probe)| probe.name);
    let by_types = |name: &&str| *name != flows::PROBE.name || flows::is_by_types(machine);
    let states = states::of_probes(at_work.filter(by_types));
    for patch in prepared.iter().flatten().flatten().flatten().chain([&states]) {
        loader.override_global(patch.symbol, patch.bytes.as_slice(), true);
    }
    loader.load(object::bytes()).map_err(|error| Refusal::of_object(&error))
}

/// Writes what the programs are told, before any of them runs.
fn told(ebpf: &mut Ebpf, options: &Options, has_errors: bool) -> Result<(), Refusal> {
    let filled = maps::fill(ebpf, options);
    // Of a probe that is not loaded the map is as small as may be.
    let filled = filled.and_then(|()| if has_errors { errors::make_room(ebpf) } else { Ok(()) });
    filled.map_err(|error| Refusal::of_object(&aya::EbpfError::MapError(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watched_destinations_are_bounded_and_each_counts_once() {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let options = Options {
            destinations: (0..200).map(|index| address(1000 + index / 2)).collect(),
            ..Options::default()
        };
        let watched = options.watched();
        assert_eq!(watched.len(), fold::DESTINATIONS as usize);
        assert_eq!(watched[1], maps::endpoint(address(1001)));
    }

    #[test]
    fn what_was_not_asked_for_is_off_and_loads_nothing() {
        let kernel = Kernel::load(&Options::default());
        assert!(kernel.ebpf.is_none());
        let statuses = kernel.statuses();
        assert_eq!(statuses.len(), PROBES.len());
        assert!(statuses.iter().all(|status| status.state == ProbeState::Off && status.lost.is_none()));
        let mut picture = Picture::default();
        kernel.read(&mut picture);
        assert_eq!((picture.errors, picture.transitions), (None, None), "unknown is never 0");
    }
}
