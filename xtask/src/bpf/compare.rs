//! What is in an object for BPF: its programs, instruction by instruction, and its maps. Two objects that agree in these
//! do the same in the kernel, whatever else differs in their bytes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use object::elf::SHF_EXECINSTR;
use object::read::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use object::{SectionFlags, SymbolKind};
use serde::{Deserialize, Serialize};

/// Bytes of one instruction; a load of 64 bits counts as two, as the kernel counts it.
const INSTRUCTION: usize = 8;

/// The section of map definitions, and the numbers of one: type, key, value, entries, flags, ...
const MAPS: &str = "maps";

/// What is in an object, in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Instructions of each program, by section and name.
    pub programs: BTreeMap<String, usize>,
    /// Type, bytes of a key, bytes of a value and entries of each map.
    pub maps: BTreeMap<String, Vec<u32>>,
}

/// Counts.
pub fn summary(bytes: &[u8]) -> Result<Summary> {
    let parts = Parts::of(bytes)?;
    Ok(Summary {
        programs: parts.programs.iter().map(|(name, code)| (name.clone(), code.instructions.len())).collect(),
        maps: parts.maps.into_iter().map(|(name, numbers)| (name, numbers[..4].to_vec())).collect(),
    })
}

/// In what two objects differ; nothing when every program has the same instructions and every map the same definition.
pub fn differences(one: &[u8], two: &[u8]) -> Result<Vec<String>> {
    let (one, two) = (Parts::of(one)?, Parts::of(two)?);
    let mut found = Vec::new();
    compare("program", &one.programs, &two.programs, &mut found, |one, two| {
        if one.instructions.len() != two.instructions.len() {
            return format!("{} instructions, now {}", one.instructions.len(), two.instructions.len());
        }
        let at = one.instructions.iter().zip(&two.instructions).position(|(one, two)| one != two);
        at.map_or_else(|| "refers to other symbols".to_owned(), |at| format!("instruction {at} differs"))
    });
    compare("map", &one.maps, &two.maps, &mut found, |one, two| format!("{one:?}, now {two:?}"));
    if one.license != two.license {
        found.push("the licence differs".to_owned());
    }
    Ok(found)
}

fn compare<T: PartialEq>(
    what: &str,
    one: &BTreeMap<String, T>,
    two: &BTreeMap<String, T>,
    found: &mut Vec<String>,
    how: impl Fn(&T, &T) -> String,
) {
    for (name, value) in one {
        match two.get(name) {
            None => found.push(format!("{what} {name}: only in the committed object")),
            Some(other) if other != value => found.push(format!("{what} {name}: {}", how(value, other))),
            Some(_) => {}
        }
    }
    let new = two.keys().filter(|name| !one.contains_key(*name));
    found.extend(new.map(|name| format!("{what} {name}: not in the committed object")));
}

/// One function.
#[derive(Debug, PartialEq, Eq)]
struct Code {
    instructions: Vec<[u8; INSTRUCTION]>,
    /// Names of the symbols that it refers to, by instruction.
    refers: BTreeMap<u64, String>,
}

#[derive(Debug)]
struct Parts {
    programs: BTreeMap<String, Code>,
    maps: BTreeMap<String, Vec<u32>>,
    license: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Result<Parts> {
        let file = object::File::parse(bytes).context("this is no object file")?;
        let mut parts = Parts { programs: BTreeMap::new(), maps: BTreeMap::new(), license: Vec::new() };
        if let Some(section) = file.section_by_name("license") {
            parts.license = section.data()?.to_vec();
        }
        for symbol in file.symbols() {
            let Some(index) = symbol.section_index() else { continue };
            let section = file.section_by_index(index)?;
            let (name, in_section) = (symbol.name()?, section.name()?);
            if symbol.kind() == SymbolKind::Section || name.is_empty() {
                continue;
            }
            let data = section.data()?;
            let (start, size) = (symbol.address(), symbol.size());
            let Some(data) = data.get(start as usize..(start + size) as usize) else {
                bail!("symbol {name} lies outside of its section");
            };
            let SectionFlags::Elf { sh_flags } = section.flags() else { bail!("this is no ELF object") };
            if sh_flags & u64::from(SHF_EXECINSTR) != 0 {
                let mut refers = BTreeMap::new();
                for (offset, relocation) in section.relocations() {
                    if (start..start + size).contains(&offset)
                        && let RelocationTarget::Symbol(target) = relocation.target()
                    {
                        refers.insert(offset - start, file.symbol_by_index(target)?.name()?.to_owned());
                    }
                }
                let instructions = data.as_chunks::<INSTRUCTION>().0.to_vec();
                parts.programs.insert(format!("{in_section}/{name}"), Code { instructions, refers });
            } else if in_section == MAPS {
                let numbers = data.as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes));
                parts.maps.insert(name.to_owned(), numbers.collect());
            }
        }
        if parts.programs.is_empty() || parts.maps.is_empty() || parts.license.is_empty() {
            bail!("the object lacks programs, maps or a licence");
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    fn committed() -> Vec<u8> {
        let path = Workspace::find().unwrap().root().join(crate::bpf::FOLDER).join(crate::bpf::OBJECT);
        std::fs::read(path).unwrap()
    }

    #[test]
    fn an_object_is_like_itself_and_what_it_holds_is_counted() {
        let bytes = committed();
        assert_eq!(differences(&bytes, &bytes).unwrap(), Vec::<String>::new());
        let summary = summary(&bytes).unwrap();
        let program = "tp_btf/inet_sock_set_state/states";
        assert!(summary.programs.get(program).is_some_and(|count| *count > 50), "{summary:?}");
        assert_eq!(summary.maps["DESTINATIONS"][1..], [20, 4, 64]);
    }

    #[test]
    fn one_changed_instruction_is_named() {
        let bytes = committed();
        let name = "tracepoint/syscalls/sys_exit_connect";
        let file = object::File::parse(&*bytes).unwrap();
        let (offset, _) = file.section_by_name(name).unwrap().file_range().unwrap();
        let mut other = bytes.clone();
        other[offset as usize + 8 * 3] ^= 1;
        let found = differences(&bytes, &other).unwrap();
        assert_eq!(found, [format!("program {name}/connect_failed: instruction 3 differs")]);
    }

    #[test]
    fn what_is_no_object_is_an_error() {
        assert!(summary(b"").is_err());
        assert!(summary(&committed()[..100]).is_err());
    }
}
