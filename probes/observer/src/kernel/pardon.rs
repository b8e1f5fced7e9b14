//! Who may talk to storage: weir itself and who is on the allow-list. The operator says it by process id, name or program file;
//! the kernel's side knows process ids, which are therefore looked up again and again.

use super::maps;
use super::record::Raw;
use aya::Ebpf;
use aya::maps::MapError;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use weir_probes_abi::bypass::PARDONED;

/// Longest short name of a process, bytes: a longer one is compared as far as the kernel keeps it.
const COMM: usize = 15;

/// What the operator said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pardon {
    /// By process id.
    pub processes: Vec<u32>,
    /// By short name (`comm`).
    pub names: Vec<String>,
    /// By program file.
    pub programs: Vec<PathBuf>,
}

impl Pardon {
    /// The processes that are meant now, at most [`PARDONED`].
    #[must_use]
    pub fn processes(&self, proc: &Path) -> BTreeSet<u32> {
        let mut meant: BTreeSet<u32> = self.processes.iter().copied().collect();
        if !self.names.is_empty() || !self.programs.is_empty() {
            let entries = fs::read_dir(proc).into_iter().flatten().flatten();
            let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            meant.extend(numbers.filter(|process| self.means(&proc.join(process.to_string()))));
        }
        meant.into_iter().take(PARDONED as usize).collect()
    }

    /// Whether a process of this name is meant: for what was counted before it was known.
    #[must_use]
    pub fn means_name(&self, comm: &str) -> bool {
        self.names.iter().any(|name| shortened(name) == comm)
    }

    fn means(&self, process: &Path) -> bool {
        if !self.names.is_empty()
            && let Ok(comm) = fs::read_to_string(process.join("comm"))
            && self.means_name(comm.trim_end_matches('\n'))
        {
            return true;
        }
        !self.programs.is_empty()
            && fs::read_link(process.join("exe")).is_ok_and(|exe| self.programs.contains(&exe))
    }
}

/// The map of processes that are pardoned.
pub const PARDONED_MAP: &str = "PARDONED";

/// Tells the kernel's side, in the map of that name, what has changed since `told`.
///
/// # Errors
///
/// When the map cannot be changed.
pub fn tell(
    ebpf: &mut Ebpf,
    map: &str,
    told: &mut BTreeSet<u32>,
    meant: BTreeSet<u32>,
) -> Result<(), MapError> {
    if *told == meant {
        return Ok(());
    }
    let mut map = maps::hash_mut::<u32, u32>(ebpf, map)?;
    for gone in told.difference(&meant) {
        map.remove(&Raw(*gone))?;
    }
    for new in meant.difference(told) {
        map.insert(Raw(*new), Raw(1), 0)?;
    }
    *told = meant;
    Ok(())
}

fn shortened(name: &str) -> &str {
    let mut end = name.len().min(COMM);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_found_by_name_program_and_number() {
        let own = std::process::id();
        let proc = Path::new("/proc");
        let by_number = Pardon { processes: vec![7, 7], ..Pardon::default() };
        assert_eq!(by_number.processes(proc), BTreeSet::from([7]));
        let exe = fs::read_link("/proc/self/exe").expect("its own program");
        let by_program = Pardon { programs: vec![exe], ..Pardon::default() };
        assert!(by_program.processes(proc).contains(&own));
        let comm = fs::read_to_string("/proc/self/comm").expect("its own name");
        let by_name = Pardon { names: vec![format!("{}and more", comm.trim_end())], ..Pardon::default() };
        assert_eq!(by_name.processes(proc).contains(&own), comm.trim_end().len() == COMM, "{comm}");
        let by_name = Pardon { names: vec![comm.trim_end().to_owned()], ..Pardon::default() };
        assert!(by_name.processes(proc).contains(&own));
        assert!(Pardon::default().processes(proc).is_empty());
    }

    #[test]
    fn a_long_name_is_compared_as_far_as_the_kernel_keeps_it() {
        let pardon = Pardon {
            names: vec!["memcached_exporter".to_owned(), "ü234567890123456".to_owned()],
            ..Pardon::default()
        };
        assert!(pardon.means_name("memcached_expor") && pardon.means_name("ü2345678901234"));
        assert!(!pardon.means_name("memcached"));
    }
}
