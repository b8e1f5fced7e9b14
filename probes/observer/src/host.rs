//! What the machine and this process's rights offer, read once at start. What cannot be read is `None` with no guess in
//! its place: whoever shows it says "unknown".

use rustix::thread::CapabilitySet;
use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Capabilities that some probe or command asks for, with their names (capabilities(7)).
pub const CAPABILITIES: &[(&str, CapabilitySet)] = &[
    ("CAP_BPF", CapabilitySet::BPF),
    ("CAP_PERFMON", CapabilitySet::PERFMON),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
    ("CAP_SYS_PTRACE", CapabilitySet::SYS_PTRACE),
    ("CAP_SYS_RESOURCE", CapabilitySet::SYS_RESOURCE),
    ("CAP_DAC_READ_SEARCH", CapabilitySet::DAC_READ_SEARCH),
];

/// Where the kernel describes its own types.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The kernel's restriction of what even root may do (kernel_lockdown(7)).
const LOCKDOWN: &str = "/sys/kernel/security/lockdown";

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Host {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub machine: String,
    /// Whether the kernel describes its types (BTF).
    pub btf: bool,
    /// Where tracefs is mounted: the formats of tracepoints are read there.
    pub tracefs: Option<PathBuf>,
    /// Where bpffs is mounted.
    pub bpffs: Option<PathBuf>,
    /// Where the cgroup v2 tree is mounted.
    pub cgroup2: Option<PathBuf>,
    /// `none`, `integrity` or `confidentiality`; `None` where securityfs is not mounted.
    pub lockdown: Option<String>,
    /// Those of [`CAPABILITIES`] that are effective.
    pub capabilities: Vec<&'static str>,
}

impl Host {
    /// Reads it.
    #[must_use]
    pub fn read() -> Host {
        let uname = rustix::system::uname();
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        Host {
            kernel: uname.release().to_string_lossy().into_owned(),
            machine: uname.machine().to_string_lossy().into_owned(),
            btf: Path::new(BTF).exists(),
            tracefs: mount_of(&mounts, "tracefs"),
            bpffs: mount_of(&mounts, "bpf"),
            cgroup2: mount_of(&mounts, "cgroup2"),
            lockdown: std::fs::read_to_string(LOCKDOWN).ok().and_then(|text| chosen(&text)),
            capabilities: effective(),
        }
    }

    /// The capability of this name.
    #[must_use]
    pub fn capability(name: &str) -> Option<CapabilitySet> {
        CAPABILITIES.iter().find(|(known, _)| *known == name).map(|(_, one)| *one)
    }

    /// Whether a capability of [`CAPABILITIES`] is effective. `CAP_SYS_ADMIN` stands for `CAP_BPF` and `CAP_PERFMON`, as
    /// it does in the kernel.
    #[must_use]
    pub fn may(&self, capability: &str) -> bool {
        let has = |name: &str| self.capabilities.contains(&name);
        has(capability) || (matches!(capability, "CAP_BPF" | "CAP_PERFMON") && has("CAP_SYS_ADMIN"))
    }
}

fn effective() -> Vec<&'static str> {
    let Ok(sets) = rustix::thread::capabilities(None) else { return Vec::new() };
    CAPABILITIES.iter().filter(|(_, one)| sets.effective.contains(*one)).map(|(name, _)| *name).collect()
}

/// The first mount point of a file system type. `\040` and the like (proc(5)) stand for bytes that a field cannot hold.
fn mount_of(mounts: &str, kind: &str) -> Option<PathBuf> {
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(kind))?;
    Some(PathBuf::from(unescaped(line.split(' ').nth(1)?)))
}

fn unescaped(field: &str) -> String {
    let mut text = field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    text = text.replace("\\134", "\\");
    text
}

/// Of `none [integrity] confidentiality` the word in brackets.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = |path: &Option<PathBuf>| {
            path.as_ref().map_or_else(|| "not mounted".to_owned(), |path| path.display().to_string())
        };
        writeln!(f, "kernel        {} {}", self.kernel, self.machine)?;
        writeln!(
            f,
            "BTF           {}",
            if self.btf { BTF } else { "none: iter/tcp and raw tracepoints do not load" }
        )?;
        writeln!(f, "tracefs       {}", place(&self.tracefs))?;
        writeln!(f, "bpffs         {}", place(&self.bpffs))?;
        writeln!(f, "cgroup v2     {}", place(&self.cgroup2))?;
        writeln!(f, "lockdown      {}", self.lockdown.as_deref().unwrap_or("unknown"))?;
        for (name, _) in CAPABILITIES {
            writeln!(f, "{name:<20} {}", if self.capabilities.contains(name) { "yes" } else { "no" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
        cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
        cgroup2 /sys/fs/cgroup/uni\\040fied cgroup2 rw 0 0\n\
        tracefs /sys/kernel/tracing tracefs rw 0 0\n";

    #[test]
    fn a_mount_is_found_by_its_type_and_not_by_its_name() {
        assert_eq!(mount_of(MOUNTS, "cgroup2"), Some(PathBuf::from("/sys/fs/cgroup/uni fied")));
        assert_eq!(mount_of(MOUNTS, "tracefs"), Some(PathBuf::from("/sys/kernel/tracing")));
        assert_eq!(mount_of(MOUNTS, "bpf"), None);
    }

    #[test]
    fn the_lockdown_in_force_is_the_word_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn what_is_missing_is_said_and_never_left_out() {
        let host = Host {
            kernel: "6.1.0".to_owned(),
            machine: "x86_64".to_owned(),
            btf: false,
            tracefs: None,
            bpffs: None,
            cgroup2: None,
            lockdown: None,
            capabilities: vec!["CAP_SYS_ADMIN"],
        };
        assert!(host.may("CAP_BPF") && host.may("CAP_PERFMON"), "CAP_SYS_ADMIN stands for both");
        assert!(!host.may("CAP_NET_ADMIN"));
        let text = host.to_string();
        for line in ["tracefs       not mounted", "lockdown      unknown", "CAP_NET_ADMIN        no"] {
            assert!(text.contains(line), "{line} is missing in:\n{text}");
        }
    }
}
