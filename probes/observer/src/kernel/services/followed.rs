//! Which processes the chosen services are now, which ports they listen on, and what they cost as a whole.

use crate::kernel::maps::hash_mut;
use crate::kernel::pardon::Pardon;
use crate::kernel::record::Raw;
use crate::processes::read::{Directory, Stat};
use aya::Ebpf;
use aya::maps::MapError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use weir_probes_abi::services::{PORTS, PROCESSES, SERVICES, ServicePort};

/// Links of a process's table of descriptors that are read to find the ports it listens on: 0.1 s at worst.
const LINKS_MAX: usize = 20_000;
/// Looks between two of those searches, once a process was found to listen.
const PORTS_EVERY: u32 = 12;

/// A service that was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its label.
    pub name: String,
    /// Its processes.
    pub processes: Pardon,
}

/// The chosen services as they run now, and what the programs were told of them.
#[derive(Debug, Default)]
pub struct Followed {
    processes: BTreeMap<u32, Member>,
    told: BTreeMap<u32, u32>,
    ports: BTreeSet<(u32, u16)>,
    /// Processor time of processes that have ended, in ticks, by slot.
    past: BTreeMap<u32, u64>,
    /// Slots that ever had a process that listens.
    known: BTreeSet<u32>,
    looks: u32,
}

/// A process of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    slot: u32,
    /// When it started, to tell it from another one with its number.
    start: u64,
    /// Its processor time when it was found, and now, in ticks.
    ticks: (u64, u64),
    ports: BTreeSet<u16>,
}

impl Followed {
    /// Looks for the services' processes, and tells the programs what has changed.
    ///
    /// # Errors
    ///
    /// When a map cannot be changed: tried again at the next look.
    pub fn tell(&mut self, ebpf: &mut Ebpf, services: &[Service], proc: &Path) -> Result<(), MapError> {
        self.look(services, proc);
        let members = self.processes.iter().filter(|(_, member)| !member.ports.is_empty());
        let wanted: BTreeMap<u32, u32> = members.clone().map(|(pid, member)| (*pid, member.slot)).collect();
        let ports = members.flat_map(|(pid, member)| member.ports.iter().map(|port| (*pid, *port)));
        let ports: BTreeSet<(u32, u16)> = ports.take(PORTS as usize).collect();
        let key = |(process, port): (u32, u16)| Raw(ServicePort { process, port, zero: 0 });
        let mut map = hash_mut::<ServicePort, u32>(ebpf, "SERVICE_PORTS")?;
        for gone in self.ports.difference(&ports) {
            map.remove(&key(*gone))?;
        }
        for new in ports.difference(&self.ports) {
            map.insert(key(*new), Raw(1), 0)?;
        }
        self.ports = ports;
        let mut map = hash_mut::<u32, u32>(ebpf, "SERVICE_PROCESSES")?;
        for gone in self.told.keys().filter(|pid| !wanted.contains_key(pid)) {
            map.remove(&Raw(*gone))?;
        }
        for (pid, slot) in wanted.iter().filter(|(pid, slot)| self.told.get(pid) != Some(slot)) {
            map.insert(Raw(*pid), Raw(*slot), 0)?;
        }
        self.told = wanted;
        Ok(())
    }

    fn look(&mut self, services: &[Service], proc: &Path) {
        let due = self.looks.is_multiple_of(PORTS_EVERY);
        self.looks = self.looks.wrapping_add(1);
        let mut found = BTreeMap::new();
        for (slot, service) in (0..SERVICES).zip(services) {
            for pid in service.processes.processes(proc) {
                // Of two services that name it the first one has it.
                if found.len() < PROCESSES as usize && !found.contains_key(&pid) {
                    let Some(directory) = Directory::open(proc, pid) else { continue };
                    let Some(stat) = directory.stat().filter(|stat| !stat.is_zombie) else { continue };
                    let old = self.processes.remove(&pid);
                    found.insert(pid, self.member(slot, &directory, &stat, old, due));
                }
            }
        }
        let ended = std::mem::replace(&mut self.processes, found);
        ended.into_values().for_each(|member| self.bury(&member));
        let listening = self.processes.values().filter(|member| !member.ports.is_empty());
        self.known.extend(listening.map(|member| member.slot));
    }

    fn member(
        &mut self,
        slot: u32,
        directory: &Directory,
        stat: &Stat,
        old: Option<Member>,
        due: bool,
    ) -> Member {
        let old = match old {
            Some(old) if old.slot == slot && old.start == stat.start => Some(old),
            Some(other) => {
                self.bury(&other);
                None
            }
            None => None,
        };
        let begun = old.as_ref().map_or(stat.ticks, |old| old.ticks.0);
        let ports = match old {
            Some(old) if !due && !old.ports.is_empty() => old.ports,
            _ => listening(directory),
        };
        Member { slot, start: stat.start, ticks: (begun, stat.ticks), ports }
    }

    /// Keeps what a process came to that is there no more; what it did since the last look is not known.
    fn bury(&mut self, member: &Member) {
        let (begun, last) = member.ticks;
        *self.past.entry(member.slot).or_default() += last.saturating_sub(begun);
    }

    /// Whether the service ever had a process that listens.
    pub(super) fn is_known(&self, slot: u32) -> bool {
        self.known.contains(&slot)
    }

    /// Processor time of a service's processes since each of them was found.
    pub(super) fn processor_time(&self, slot: u32) -> Duration {
        let now = self.processes.values().filter(|member| member.slot == slot);
        let now: u64 = now.map(|member| member.ticks.1.saturating_sub(member.ticks.0)).sum();
        let ticks = now + self.past.get(&slot).copied().unwrap_or_default();
        Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second().max(1) as f64)
    }

    /// Processes that are followed: running, and known to listen.
    pub(super) fn running(&self, slot: u32) -> u64 {
        self.told.values().filter(|other| **other == slot).count() as u64
    }
}

/// Ports that a process listens on; none where its descriptors may not be read.
fn listening(directory: &Directory) -> BTreeSet<u16> {
    let mut ports = BTreeMap::new();
    for table in [c"net/tcp", c"net/tcp6"] {
        directory.lines(table, |line| match listener(line) {
            Some((inode, port)) => {
                ports.insert(inode, port);
                true
            }
            None => false, // the kernel tells those that listen first
        });
    }
    let mut budget = LINKS_MAX;
    let held = directory.sockets(&ports.keys().copied().collect(), &mut budget);
    held.unwrap_or_default().iter().filter_map(|inode| ports.get(inode).copied()).collect()
}

/// Inode and port of a line of `net/tcp` that is about a socket that listens.
fn listener(line: &str) -> Option<(u64, u16)> {
    let mut fields = line.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    (fields.nth(1)? == "0A").then_some(())?;
    Some((fields.nth(5)?.parse().ok()?, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_listening_sockets_tell_port_and_inode_and_others_nothing() {
        let line = "   0: 0100007F:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1 0 100 0 0 10 0";
        assert_eq!(listener(line), Some((4_242, 11_211)));
        assert_eq!(listener(&line.replace(" 0A ", " 06 ")), None);
        for cut in [0, 5, 20, 40, 60, 80] {
            assert_eq!(listener(&line[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn the_ports_of_this_process_are_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let own = Directory::open(Path::new("/proc"), std::process::id()).expect("a directory");
        assert!(listening(&own).contains(&port), "{port} in {:?}", listening(&own));
        drop(listener);
        assert!(!listening(&own).contains(&port));
    }

    #[test]
    fn what_an_ended_process_came_to_stays_and_counts_once() {
        let mut followed = Followed::default();
        let of = |pid| Service {
            name: "a".to_owned(),
            processes: Pardon { processes: vec![pid], ..Pardon::default() },
        };
        let own = std::process::id();
        followed.look(&[of(own)], Path::new("/proc"));
        let member = followed.processes.get_mut(&own).expect("found");
        let (begun, _) = member.ticks;
        member.ticks.1 = begun + 100;
        let before = followed.processor_time(0);
        assert!(before >= Duration::from_millis(100), "{before:?}");
        let nobody = [of(u32::MAX)];
        followed.look(&nobody, Path::new("/proc"));
        assert_eq!((followed.processor_time(0), followed.processes.len()), (before, 0));
        followed.look(&nobody, Path::new("/proc"));
        assert_eq!(followed.processor_time(0), before);
    }
}
