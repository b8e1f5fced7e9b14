//! What loading asks of the machine: the kernels that the programs are written for, and the places they read.

use super::btf::KernelTypes;
use super::refusal::Refusal;
use super::tracefs::Tracefs;
use crate::host::Host;
use std::cell::OnceCell;

/// The first kernel that has all that the programs use: bpf_task_pt_regs and bpf_get_current_task_btf for tracepoint
/// programs (5.15), CAP_BPF (5.8), atomic operations that return a value (5.12). There is no last one: every field is
/// looked up in what the running kernel says of itself, and one that is missing or has changed is refused by name.
pub const FIRST_KERNEL: (u32, u32) = (5, 15);

/// The machines whose system call registers are known.
pub const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// What the loading thread knows of the machine.
#[derive(Debug)]
pub struct Machine {
    /// Where tracepoints are described, or why that cannot be told.
    pub tracefs: Result<Tracefs, Refusal>,
    /// Where a thread that entered the kernel by a system call left its second argument, in bytes from the start of the
    /// registers that it left there.
    pub second_argument: u16,
    /// Read when they are first asked for.
    types: OnceCell<Result<KernelTypes, Refusal>>,
}

impl Machine {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// Outside of the kernels and machines that the programs are written for.
    pub fn read(host: &Host) -> Result<Machine, Refusal> {
        in_range(&host.kernel)?;
        let second_argument = second_argument(&host.machine)?;
        Ok(Machine { tracefs: Tracefs::find(), second_argument, types: OnceCell::new() })
    }

    /// The kernel's types.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell them, or in another format.
    pub fn types(&self) -> Result<&KernelTypes, Refusal> {
        self.types.get_or_init(KernelTypes::read).as_ref().map_err(Clone::clone)
    }

    /// Where tracefs is.
    ///
    /// # Errors
    ///
    /// Why it is nowhere.
    pub fn tracefs(&self) -> Result<&Tracefs, Refusal> {
        self.tracefs.as_ref().map_err(Clone::clone)
    }
}

fn in_range(release: &str) -> Result<(), Refusal> {
    let (first, second) = FIRST_KERNEL;
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= FIRST_KERNEL => Ok(()),
        (Some(_), Some(_)) => Err(Refusal::Unsupported(format!(
            "kernel {release} is older than {first}.{second}, the first that these probes are written for"
        ))),
        _ => Err(Refusal::Unsupported(format!("the kernel calls itself `{release}`, which is no version"))),
    }
}

/// `rsi` of `struct pt_regs` and `x1` of `struct user_pt_regs`: part of what user space may rely on (ptrace).
fn second_argument(machine: &str) -> Result<u16, Refusal> {
    match machine {
        "x86_64" => Ok(13 * 8),
        "aarch64" => Ok(8),
        _ => Err(Refusal::Unsupported(format!(
            "the probes are written for {}, not {machine}",
            MACHINES.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_outside_of_the_range_are_refused_by_name() {
        for release in ["5.15.0-91-generic", "5.15", "6.1.0", "6.18.44-fc", "7.0-rc1"] {
            assert_eq!(in_range(release), Ok(()), "{release}");
        }
        for release in ["5.14.21", "4.19.0", "5.4"] {
            let Err(Refusal::Unsupported(reason)) = in_range(release) else { panic!("{release}") };
            assert!(reason.contains(release) && reason.contains("5.15"), "{reason}");
        }
        assert!(in_range("mystery").is_err() && in_range("").is_err());
    }

    #[test]
    fn the_place_of_an_argument_is_the_one_of_the_debuggers() {
        // The same numbers as ptrace(2) has them, from the C library of whoever runs this.
        #[cfg(target_arch = "x86_64")]
        assert_eq!(second_argument("x86_64"), Ok(std::mem::offset_of!(libc::user_regs_struct, rsi) as u16));
        assert_eq!(second_argument("aarch64"), Ok(8));
        assert!(second_argument("riscv64").is_err());
    }
}
