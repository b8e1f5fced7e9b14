//! What the kernel tells about processes and sockets: resident memory in KiB, connections by state. CPU time is read by
//! the load generator, which knows when its measured window opens and closes.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// Resident memory in KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Memory {
    /// Now.
    pub resident: u64,
    /// The highest since the process began.
    pub peak: u64,
}

/// Resident memory of a process.
pub fn memory(pid: u32) -> Result<Memory> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    Ok(Memory { resident: field(&text, "VmRSS:"), peak: field(&text, "VmHWM:") })
}

fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// TCP sockets of this network namespace that have to do with a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sockets {
    /// Established connections towards the port (each is two sockets on loopback; the clients' are counted).
    pub established: usize,
    /// Sockets in TIME_WAIT towards or from the port: local ports that nobody can use.
    pub time_wait: usize,
}

/// Counts the sockets of each port. One reading of the kernel's table takes milliseconds: a few times per second at most.
pub fn sockets<const N: usize>(ports: [u16; N]) -> [Sockets; N] {
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    ports.map(|port| count_sockets(&table, port))
}

/// Connections of one process to a port of this machine.
pub fn connections_to(pid: u32, port: u16) -> usize {
    let inodes: std::collections::HashSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let table = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let suffix = format!(":{port:04X}");
    let mine = |line: &&str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        fields.len() > 9 && fields[2].ends_with(&suffix) && fields[3] == "01" && inodes.contains(fields[9])
    };
    table.lines().filter(mine).count()
}

/// While sockets come and go by the thousand, the kernel's table shows some of them more than once: each is counted once.
fn count_sockets(table: &str, port: u16) -> Sockets {
    let mut sockets = Sockets::default();
    let mut seen = std::collections::HashSet::new();
    for line in table.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(peer), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let is_port = |address: &str| {
            address.rsplit_once(':').is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port))
        };
        let counted = match state {
            "01" if is_port(peer) => &mut sockets.established,
            "06" if is_port(peer) || is_port(local) => &mut sockets.time_wait,
            _ => continue,
        };
        if seen.insert((local, peer, state)) {
            *counted += 1;
        }
    }
    sockets
}

/// Part of all cores that was busy, 0 to 1, over a time in which this program does nothing.
pub fn busy_for(time: Duration) -> f64 {
    let before = busy_and_all();
    std::thread::sleep(time);
    let after = busy_and_all();
    let all = after.1.saturating_sub(before.1).max(1);
    after.0.saturating_sub(before.0) as f64 / all as f64
}

fn busy_and_all() -> (u64, u64) {
    parse_stat(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// Ticks of all cores: `cpu user nice system idle iowait ...`; busy is what is neither idle nor waiting.
fn parse_stat(stat: &str) -> (u64, u64) {
    let ticks = cpu_ticks(stat);
    let all: u64 = ticks.iter().sum();
    (all - ticks.iter().skip(3).take(2).sum::<u64>(), all)
}

fn cpu_ticks(stat: &str) -> Vec<u64> {
    let line = stat.lines().next().unwrap_or_default();
    line.split_ascii_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect()
}

/// How much of the machine's CPU time others take while this program and its children work.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    busy: u64,
    all: u64,
    own: u64,
}

impl Others {
    /// Begins to watch. `servers` are children that live on; children that ended are known anyway.
    pub fn watch(servers: &[u32]) -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        // Interrupts are left out: the kernel does not say whose they are.
        let (ticks, all) = (cpu_ticks(&stat), parse_stat(&stat).1);
        let busy = [0, 1, 2, 7].iter().filter_map(|field| ticks.get(*field)).sum();
        let own = own_ticks("self") + servers.iter().map(|pid| own_ticks(&pid.to_string())).sum::<u64>();
        Self { busy, all, own }
    }

    /// Part of all cores, 0 to 1, that was neither idle nor ours since then. A machine that was taken away (steal) counts.
    pub fn share_since(self, earlier: Self) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy);
        let all = self.all.saturating_sub(earlier.all).max(1);
        busy.saturating_sub(self.own.saturating_sub(earlier.own)) as f64 / all as f64
    }
}

/// Ticks of a process and of its children that have ended and were waited for; 0 when it is gone.
fn own_ticks(pid: &str) -> u64 {
    parse_own_ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())
}

/// `pid (name) state ...`: fields 14 to 17 are user and system time, its own and its children's.
fn parse_own_ticks(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// What machine this is, without its name: for the head of a table of measurements.
pub fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&meminfo, "MemTotal:") / (1024 * 1024);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    // Only the version: what follows names a build.
    let kernel = kernel.split('-').next().unwrap_or("unknown").trim();
    format!(
        "{cores} cores ({}), {memory} GiB, Linux {kernel}",
        model.trim_start_matches([' ', '\t', ':']).trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_a_process_are_counted_by_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let _client = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(connections_to(std::process::id(), port), 1);
        assert_eq!(sockets([port])[0].established, 1);
    }

    #[test]
    fn idle_and_waiting_cores_are_not_busy() {
        assert_eq!(parse_stat("cpu  10 5 20 60 5 0 0 0 9 9\ncpu0 1 1 1 1\n"), (35, 100));
        assert_eq!(parse_stat(""), (0, 0));
    }

    #[test]
    fn what_others_took_is_told_from_what_we_took() {
        assert_eq!(parse_own_ticks("7 (a (b) c) S 1 7 7 0 -1 4 9 9 9 9 100 20 3 4 20 0 1"), 127);
        assert_eq!(parse_own_ticks(""), 0);
        let before = Others { busy: 100, all: 1_000, own: 50 };
        assert_eq!(Others { busy: 160, all: 1_200, own: 90 }.share_since(before), 0.1);
        assert_eq!(Others { busy: 110, all: 1_200, own: 90 }.share_since(before), 0.0);
    }

    #[test]
    fn own_memory_is_not_zero() {
        let memory = memory(std::process::id()).unwrap();
        assert!(memory.resident > 0 && memory.peak >= memory.resident);
    }

    #[test]
    fn sockets_are_counted_by_port_and_state() {
        let table = "  sl  local_address rem_address   st\n\
             0: 0100007F:2BCB 00000000:0000 0A 0\n\
             1: 0100007F:C350 0100007F:2BCB 01 0\n\
             2: 0100007F:2BCB 0100007F:C350 01 0\n\
             3: 0100007F:C351 0100007F:2BCB 06 0\n\
             4: 0100007F:C352 0100007F:0050 06 0\n\
             5: 0100007F:C350 0100007F:2BCB 01 0\n\
             6: 0100007F:C351 0100007F:2BCB 06 0\n";
        assert_eq!(count_sockets(table, 0x2BCB), Sockets { established: 1, time_wait: 1 });
    }
}
