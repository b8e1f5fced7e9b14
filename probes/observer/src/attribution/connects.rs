//! The connections seen lately: both ends, the network namespace, the process.
//!
//! A connection is found by its four addresses, and addresses are used again, so what is told must be what was *last* seen
//! there. Three things see to that: a later connection with the same ends takes the place of an earlier one; what was not
//! seen for [`KEPT`] is forgotten; and whoever is told is told the age as well, and knows since when its own end is open.

use crate::picture::Process;
use crate::processes::{Known, Processes, SinceBoot, Told};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use weir_attribution::Question;

/// Connections kept. Beyond, the oldest go early: at 15,000 new ones a second after two seconds, and weir asks within one.
pub const CONNECTS_MAX: usize = 32_768;
/// How long a connection is kept after it was last seen.
pub const KEPT: Duration = Duration::from_secs(10);

/// A connection that was made, as the kernel's side tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The inode of the network namespace; `None` where the kernel's side does not tell: then it is the process's.
    pub network: Option<u64>,
    /// The end of the process that connected.
    pub client: SocketAddr,
    /// The other end.
    pub server: SocketAddr,
    /// The process that connected.
    pub pid: u32,
    /// When.
    pub when: SinceBoot,
    /// What the kernel's side knows of the process, for one that is gone before anybody can look.
    pub told: Told,
}

/// A connection of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whose it is.
    pub process: Arc<Process>,
    /// When that was last seen.
    pub at: Instant,
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections taken in, those seen again not counted.
    pub observed: u64,
    /// Connections forgotten before [`KEPT`] was over, for want of room.
    pub evicted: u64,
    /// Connections that could not be kept: nobody could tell their network namespace.
    pub homeless: u64,
}

/// The connections. Shared by those who see and those who are asked.
#[derive(Debug)]
pub struct Connects {
    processes: Arc<Mutex<Processes>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    seen: HashMap<Key, Seen>,
    /// Every key of `seen` once, with the time it had when it was put here; that of one seen again since is too early.
    order: VecDeque<(Instant, Key)>,
    /// Ports that somebody asks about, with how many do.
    ports: BTreeMap<(u64, u16), usize>,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    network: u64,
    ends: Question,
}

impl Connects {
    /// None yet.
    #[must_use]
    pub fn new(processes: Arc<Mutex<Processes>>) -> Arc<Connects> {
        Arc::new(Connects { processes, state: Mutex::default() })
    }

    /// A connection was made.
    pub fn observed(&self, connect: &Connect) {
        let (now, since_boot) = (Instant::now(), SinceBoot::now());
        let ago = Duration::from_nanos(since_boot.0.saturating_sub(connect.when.0));
        let Known { process, network, .. } =
            lock(&self.processes).at_or_told(connect.pid, connect.when, &connect.told, now);
        match connect.network.or(network) {
            Some(network) => {
                let ends = Question { client: connect.client, weir: connect.server };
                self.seen(network, ends, process, now.checked_sub(ago).unwrap_or(now));
            }
            None => lock(&self.state).counts.homeless += 1,
        }
    }

    /// A connection was seen at that moment, as that process's.
    pub fn seen(&self, network: u64, ends: Question, process: Arc<Process>, at: Instant) {
        lock(&self.state).take(Key { network, ends: ends.plain() }, Seen { process, at });
    }

    /// Whose it is, if it was seen less than [`KEPT`] ago.
    #[must_use]
    pub fn find(&self, network: u64, ends: Question, now: Instant) -> Option<Seen> {
        let key = Key { network, ends: ends.plain() };
        lock(&self.state).seen.get(&key).filter(|seen| !is_over(seen.at, now)).cloned()
    }

    /// The processes that names come from.
    #[must_use]
    pub fn processes(&self) -> &Arc<Mutex<Processes>> {
        &self.processes
    }

    /// Somebody asks about connections to these ports of a namespace, as long as the guard lives.
    pub(super) fn watch(self: &Arc<Self>, network: u64, ports: Vec<u16>) -> Watch {
        let mut state = lock(&self.state);
        for port in &ports {
            *state.ports.entry((network, *port)).or_default() += 1;
        }
        drop(state);
        Watch { connects: self.clone(), network, ports }
    }

    /// The ports of a namespace that somebody asks about.
    #[must_use]
    pub fn watched(&self, network: u64) -> Vec<u16> {
        let state = lock(&self.state);
        state.ports.range((network, 0)..=(network, u16::MAX)).map(|((_, port), _)| *port).collect()
    }

    /// The ports that somebody asks about, of every namespace.
    #[must_use]
    pub fn ports(&self) -> BTreeSet<u16> {
        lock(&self.state).ports.keys().map(|(_, port)| *port).collect()
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.state).seen.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        lock(&self.state).counts
    }
}

impl State {
    fn take(&mut self, key: Key, seen: Seen) {
        self.forget(seen.at);
        match self.seen.entry(key) {
            Entry::Occupied(mut old) => {
                // Events of several processors may come out of order; the later one is true.
                if old.get().at <= seen.at {
                    self.counts.observed += u64::from(old.get().process != seen.process);
                    old.insert(seen);
                }
            }
            Entry::Vacant(place) => {
                self.counts.observed += 1;
                self.order.push_back((seen.at, key));
                place.insert(seen);
            }
        }
    }

    /// Makes room: those not seen for long go, and where there is no room otherwise the oldest.
    fn forget(&mut self, now: Instant) {
        while let Some((queued, key)) = self.order.front().copied() {
            let full = self.seen.len() >= CONNECTS_MAX;
            if !full && !is_over(queued, now) {
                break;
            }
            self.order.pop_front();
            match self.seen.get(&key).map(|seen| seen.at) {
                // It was seen again: its turn is later. At most once for each time it was seen.
                Some(at) if at > queued => self.order.push_back((at, key)),
                Some(at) => {
                    self.seen.remove(&key);
                    self.counts.evicted += u64::from(!is_over(at, now));
                }
                None => {}
            }
        }
    }
}

fn is_over(at: Instant, now: Instant) -> bool {
    now.saturating_duration_since(at) >= KEPT
}

/// Ports that somebody asks about.
#[derive(Debug)]
pub(super) struct Watch {
    connects: Arc<Connects>,
    network: u64,
    ports: Vec<u16>,
}

impl Watch {
    /// Which ports.
    pub(super) fn ports(&self) -> &[u16] {
        &self.ports
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut state = lock(&self.connects.state);
        for port in &self.ports {
            if let Some(askers) = state.ports.get_mut(&(self.network, *port)) {
                *askers -= 1;
                if *askers == 0 {
                    state.ports.remove(&(self.network, *port));
                }
            }
        }
    }
}

/// What these locks guard is whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connects() -> Arc<Connects> {
        Connects::new(Arc::new(Mutex::new(Processes::of_this_system())))
    }

    fn ends(port: u16, server: &str) -> Question {
        Question {
            client: SocketAddr::from(([127, 0, 0, 1], port)),
            weir: server.parse().expect("an address"),
        }
    }

    fn process(comm: &str) -> Arc<Process> {
        Arc::new(Process { comm: comm.to_owned(), ..Process::default() })
    }

    fn name(connects: &Connects, network: u64, ends: Question, now: Instant) -> Option<String> {
        connects.find(network, ends, now).map(|seen| seen.process.comm.clone())
    }

    #[test]
    fn a_connection_is_found_in_its_own_namespace_and_under_either_family() {
        let (connects, now) = (connects(), Instant::now());
        connects.seen(1, ends(40_000, "127.0.0.1:11311"), process("importer"), now);
        let mapped = Question {
            client: "[::ffff:127.0.0.1]:40000".parse().expect("an address"),
            weir: "[::ffff:127.0.0.1]:11311".parse().expect("an address"),
        };
        assert_eq!(name(&connects, 1, mapped, now).as_deref(), Some("importer"));
        assert_eq!(name(&connects, 2, mapped, now), None, "another namespace has the same addresses");
        assert_eq!(name(&connects, 1, ends(40_001, "127.0.0.1:11311"), now), None);
        assert_eq!(name(&connects, 1, ends(40_000, "127.0.0.2:11311"), now), None);
    }

    #[test]
    fn the_last_one_counts_and_the_old_are_forgotten() {
        let (connects, now) = (connects(), Instant::now());
        let later = now + Duration::from_secs(3);
        let tuple = ends(40_000, "127.0.0.1:11311");
        connects.seen(1, tuple, process("second"), later);
        connects.seen(1, tuple, process("first"), now);
        assert_eq!(name(&connects, 1, tuple, later).as_deref(), Some("second"), "told late");
        assert_eq!(name(&connects, 1, tuple, later + KEPT), None);
        connects.seen(1, ends(1, "127.0.0.1:1"), process("other"), later + KEPT);
        assert_eq!(connects.len(), 1, "and takes no room");

        // seen again and again: it stays
        let connects = self::connects();
        for second in 0..60 {
            let at = now + Duration::from_secs(second);
            connects.seen(1, tuple, process("lasting"), at);
            connects.seen(1, ends(second as u16, "127.0.0.1:1"), process("brief"), at);
            assert_eq!(name(&connects, 1, tuple, at).as_deref(), Some("lasting"));
        }
        assert!(connects.len() <= 12, "{}", connects.len());
        assert_eq!(connects.counts(), Counts { observed: 61, ..Counts::default() });
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let (connects, now) = (connects(), Instant::now());
        let one = process("flood");
        let extra = 10_000;
        for index in 0..CONNECTS_MAX + extra {
            let server = SocketAddr::from(([10, 0, (index >> 16) as u8, 1], 11_211));
            let client = SocketAddr::from(([127, 0, 0, 1], index as u16));
            connects.seen(1, Question { client, weir: server }, one.clone(), now);
        }
        assert_eq!(connects.len(), CONNECTS_MAX);
        assert_eq!(connects.counts().evicted, extra as u64);
        let state = lock(&connects.state);
        assert_eq!(state.order.len(), CONNECTS_MAX, "nothing is queued twice");
    }

    #[test]
    fn a_connection_of_a_process_that_is_gone_keeps_what_the_kernel_told() {
        let connects = connects();
        let mut child = std::process::Command::new("/bin/true").spawn().expect("a child");
        let (pid, when) = (child.id(), SinceBoot::now());
        child.wait().expect("it ends");
        let tuple = ends(40_000, "127.0.0.1:11311");
        let told = Told { comm: "one-shot".to_owned(), uid: Some(12) };
        let mut connect =
            Connect { network: None, client: tuple.client, server: tuple.weir, pid, when, told };
        connects.observed(&connect);
        assert_eq!((connects.len(), connects.counts().homeless), (0, 1), "no namespace: no guess");
        connect.network = Some(9);
        connects.observed(&connect);
        let seen = connects.find(9, tuple, Instant::now()).expect("seen");
        assert_eq!(
            (seen.process.comm.as_str(), seen.process.uid, seen.process.pid),
            ("one-shot", Some(12), pid)
        );

        // A process that is there is read, and its namespace with it.
        let own = Connect { network: None, pid: std::process::id(), when: SinceBoot::now(), ..connect };
        connects.observed(&own);
        let network = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
        let network = network.to_string_lossy().trim_matches(|c: char| !c.is_ascii_digit()).parse();
        let seen = connects.find(network.expect("a number"), tuple, Instant::now()).expect("seen");
        assert!(seen.process.executable.is_some());
    }

    #[test]
    fn ports_are_watched_while_somebody_asks() {
        let connects = connects();
        let first = connects.watch(1, vec![11_311, 9_142]);
        let second = connects.watch(1, vec![11_311]);
        let _elsewhere = connects.watch(2, vec![80]);
        assert_eq!(connects.watched(1), [9_142, 11_311]);
        assert_eq!(connects.ports(), BTreeSet::from([80, 9_142, 11_311]));
        drop(first);
        assert_eq!(connects.watched(1), [11_311]);
        drop(second);
        assert!(connects.watched(1).is_empty());
    }
}
