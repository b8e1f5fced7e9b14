//! The table of probes. Each one loads by itself: what refuses one leaves the others as they are.

use super::machine::Machine;
use super::record::Patch;
use super::refusal::Refusal;
use super::{Options, bypass, connects, errors, flows, requests, services, transitions, witness, work};
use aya::programs::{BtfTracePoint, Program, TracePoint};
use aya::{Btf, Ebpf};

/// Every probe, in the order that they are loaded and shown.
pub const PROBES: &[Probe] = &[
    transitions::PROBE,
    errors::PROBE,
    flows::PROBE,
    bypass::PROBE,
    work::PROBE,
    requests::PROBE,
    services::PROBE,
    witness::PROBE,
    connects::PROBE,
];

/// One probe: what it is, what it needs, and how it is loaded.
#[derive(Debug)]
pub struct Probe {
    /// Its name, as a label value and on the command line.
    pub name: &'static str,
    /// What is not seen without it.
    pub loses: &'static str,
    /// What it asks of the kernel.
    pub feature: &'static str,
    /// Capabilities that loading it takes.
    pub to_load: &'static [&'static str],
    /// Capabilities that reading it takes from then on.
    pub to_live: &'static [&'static str],
    /// Its programs in the object.
    pub programs: &'static [&'static str],
    /// Programs that do its work and that of other probes: whichever of them is loaded.
    pub shared: &'static [&'static str],
    /// Maps that only it uses: made as small as may be while it is not loaded.
    pub maps: &'static [&'static str],
    /// Its counters of `weir_probes_abi::lost`. Those that only lose a name are not among them.
    pub lost: &'static [u32],
    /// What is patched into the object for it.
    pub prepare: fn(&Machine) -> Result<Vec<Patch>, Refusal>,
    /// Loads and attaches its programs.
    pub attach: fn(&mut Ebpf, &Options, &Machine) -> Result<(), Refusal>,
}

/// Capabilities that every program and map takes to load.
pub const TO_LOAD: &[&str] = &["CAP_BPF", "CAP_PERFMON"];

/// Capabilities that reading maps takes: kernels before 5.19 ask for it at every operation.
pub const TO_LIVE: &[&str] = &["CAP_BPF"];

/// Loads one program and attaches it to a tracepoint.
///
/// # Errors
///
/// When the object has no such program (it is another build's), or the kernel says no.
pub fn tracepoint(ebpf: &mut Ebpf, program: &str, category: &str, name: &str) -> Result<(), Refusal> {
    let found = ebpf.program_mut(program).ok_or_else(|| missing(program))?;
    let tracepoint: &mut TracePoint =
        found.try_into().map_err(|error| Refusal::of_program(program, &error))?;
    tracepoint.load().map_err(|error| Refusal::of_program(program, &error))?;
    tracepoint.attach(category, name).map_err(|error| Refusal::of_program(program, &error))?;
    Ok(())
}

/// Loads one program and attaches it to a tracepoint by the kernel's types.
///
/// # Errors
///
/// As [`tracepoint`], and where the kernel does not tell its types.
pub fn btf_tracepoint(ebpf: &mut Ebpf, program: &str, name: &str) -> Result<(), Refusal> {
    let types = Btf::from_sys_fs()
        .map_err(|error| Refusal::Unsupported(format!("the kernel's types cannot be read: {error}")))?;
    let found = ebpf.program_mut(program).ok_or_else(|| missing(program))?;
    let hooked: &mut BtfTracePoint =
        found.try_into().map_err(|error| Refusal::of_program(program, &error))?;
    hooked.load(name, &types).map_err(|error| Refusal::of_program(program, &error))?;
    hooked.attach().map_err(|error| Refusal::of_program(program, &error))?;
    Ok(())
}

/// The object embedded here is not the one that this reader was written for.
#[must_use]
pub fn missing(what: &str) -> Refusal {
    Refusal::Unsupported(format!("the embedded object has no `{what}`: it was built from other sources"))
}

/// Whether this program is in the kernel.
#[must_use]
pub fn is_loaded(ebpf: &Ebpf, program: &str) -> bool {
    ebpf.program(program).is_some_and(|program| program.fd().is_ok())
}

/// Takes programs out of the kernel again, after one of them was refused.
pub fn unload(ebpf: &mut Ebpf, programs: &[&str]) {
    for program in programs {
        // What was never loaded says so.
        let _ = match ebpf.program_mut(program) {
            Some(Program::TracePoint(program)) => program.unload(),
            Some(Program::Iter(program)) => program.unload(),
            Some(Program::SockOps(program)) => program.unload(),
            Some(Program::UProbe(program)) => program.unload(),
            Some(Program::BtfTracePoint(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::states;
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_programs_and_counters_belong_to_one_probe_each() {
        let unique = |all: Vec<String>| {
            let set: BTreeSet<&String> = all.iter().collect();
            assert_eq!(set.len(), all.len(), "{all:?}");
        };
        unique(PROBES.iter().map(|probe| probe.name.to_owned()).collect());
        let programs = PROBES.iter().flat_map(|probe| probe.programs).chain(states::PROGRAMS);
        unique(programs.map(|name| (*name).to_owned()).collect());
        unique(PROBES.iter().flat_map(|probe| probe.maps).map(|name| (*name).to_owned()).collect());
        unique(PROBES.iter().flat_map(|probe| probe.lost).map(u32::to_string).collect());
    }
}
