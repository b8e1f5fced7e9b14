//! Where the kernel's own types have their members: read from its BTF (Documentation/bpf/btf.rst). The loader's library reads
//! it too, but keeps members to itself; the one crate that shows them is under a licence that does not fit here.

use super::refusal::Refusal;
use std::path::Path;

const PATH: &str = "/sys/kernel/btf/vmlinux";

const MAGIC: u16 = 0xeb9f;
const HEADER: usize = 24;
/// Anonymous structs and unions within each other that are looked into.
const DEPTH: usize = 8;

// Kinds of types that need to be told apart, and those that carry more than their three words.
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// The types of the running kernel.
#[derive(Debug)]
pub struct KernelTypes {
    strings: Vec<u8>,
    /// By id, from 1: where each type begins in `bytes`.
    begins: Vec<usize>,
    bytes: Vec<u8>,
}

impl KernelTypes {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell them, or in another format.
    pub fn read() -> Result<KernelTypes, Refusal> {
        let unsupported = |said: String| Refusal::Unsupported(format!("the kernel's types ({PATH}): {said}"));
        let bytes = std::fs::read(Path::new(PATH)).map_err(|error| unsupported(error.to_string()))?;
        KernelTypes::of(&bytes).ok_or_else(|| unsupported("not in the format that is known".to_owned()))
    }

    fn of(bytes: &[u8]) -> Option<KernelTypes> {
        let word = |at: usize| u32_at(bytes, at).map(|word| word as usize);
        if u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?) != MAGIC {
            return None;
        }
        let begin = word(4)?;
        if begin < HEADER {
            return None;
        }
        let part = |offset: usize, length: usize| {
            let from = begin.checked_add(offset)?;
            bytes.get(from..from.checked_add(length)?)
        };
        let types = part(word(8)?, word(12)?)?;
        let strings = part(word(16)?, word(20)?)?.to_vec();
        let mut begins = Vec::new();
        let mut at = 0;
        while at < types.len() {
            begins.push(at);
            at += length(types, at)?;
        }
        Some(KernelTypes { strings, begins, bytes: types.to_vec() })
    }

    /// Where a member begins in a struct, in bytes; members of anonymous structs and unions in it are its own.
    ///
    /// # Errors
    ///
    /// When this kernel's struct has no such member, or it does not begin at a byte.
    pub fn offset(&self, of: &str, member: &str) -> Result<u16, Refusal> {
        let structs =
            self.begins.iter().filter(|at| self.kind(**at) == Some(STRUCT) && self.name(**at) == Some(of));
        let bits = structs.clone().find_map(|at| self.bits(*at, member, DEPTH));
        bits.filter(|bits| bits % 8 == 0).and_then(|bits| u16::try_from(bits / 8).ok()).ok_or_else(|| {
            Refusal::Unsupported(format!("this kernel's struct {of} has no member {member} that can be read"))
        })
    }

    fn bits(&self, at: usize, wanted: &str, depth: usize) -> Option<u32> {
        let count = (u32_at(&self.bytes, at + 4)? & 0xffff) as usize;
        (0..count).find_map(|index| {
            let member = at + 12 + index * 12;
            let name = self.text(u32_at(&self.bytes, member)?)?;
            // with bit fields in the struct the upper byte is the width
            let bits = u32_at(&self.bytes, member + 8)? & 0x00ff_ffff;
            if name == wanted {
                return Some(bits);
            }
            let inner = *self.begins.get((u32_at(&self.bytes, member + 4)? as usize).checked_sub(1)?)?;
            if name.is_empty() && depth > 0 && matches!(self.kind(inner), Some(STRUCT | UNION)) {
                return Some(bits + self.bits(inner, wanted, depth - 1)?);
            }
            None
        })
    }

    fn kind(&self, at: usize) -> Option<u32> {
        Some(kind(u32_at(&self.bytes, at + 4)?))
    }

    fn name(&self, at: usize) -> Option<&str> {
        self.text(u32_at(&self.bytes, at)?)
    }

    fn text(&self, at: u32) -> Option<&str> {
        let text = self.strings.get(at as usize..)?;
        std::str::from_utf8(text.split(|byte| *byte == 0).next()?).ok()
    }
}

fn kind(info: u32) -> u32 {
    (info >> 24) & 0x1f
}

/// Bytes of the type that begins here.
fn length(types: &[u8], at: usize) -> Option<usize> {
    let info = u32_at(types, at + 4)?;
    let count = (info & 0xffff) as usize;
    Some(
        12 + match kind(info) {
            INT | VAR | DECL_TAG => 4,
            ARRAY => 12,
            STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
            ENUM | FUNC_PROTO => 8 * count,
            _ => 0,
        },
    )
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct s { int a; union { int b; struct { short c; short d; }; }; int e : 3; }` and an array before it.
    fn example() -> Vec<u8> {
        let strings = b"\0int\0s\0a\0b\0c\0d\0e\0";
        let at = |name: &str| {
            let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
            strings.windows(wanted.len()).position(|window| window == wanted).expect("a string") as u32 + 1
        };
        let info = |kind: u32, count: u32| kind << 24 | count;
        let types: Vec<u32> = [
            vec![at("int"), info(INT, 0), 4, 32],
            vec![0, info(ARRAY, 0), 0, 1, 1, 7],
            vec![0, info(STRUCT, 2), 4, at("c"), 1, 0, at("d"), 1, 16],
            vec![0, info(UNION, 2), 4, at("b"), 1, 0, 0, 3, 0],
            vec![at("s"), info(STRUCT, 3), 12, at("a"), 1, 0, 0, 4, 32, at("e"), 1, 3 << 24 | 65],
        ]
        .concat();
        let types: Vec<u8> = types.into_iter().flat_map(u32::to_le_bytes).collect();
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[1, 0]);
        for word in [HEADER, 0, types.len(), types.len(), strings.len()] {
            bytes.extend_from_slice(&(word as u32).to_le_bytes());
        }
        [bytes, types, strings.to_vec()].concat()
    }

    #[test]
    fn members_are_found_also_in_what_has_no_name() {
        let types = KernelTypes::of(&example()).expect("BTF");
        let at = |member| types.offset("s", member);
        assert_eq!((at("a"), at("b"), at("c"), at("d")), (Ok(0), Ok(4), Ok(4), Ok(6)));
        assert!(at("e").is_err(), "it begins within a byte");
        assert!(at("f").is_err() && types.offset("int", "a").is_err() && types.offset("t", "a").is_err());
    }

    #[test]
    fn bytes_that_end_early_or_lie_are_none_and_no_panic() {
        let whole = example();
        for end in 0..whole.len() {
            assert!(KernelTypes::of(&whole[..end]).is_none(), "{end}");
        }
        for place in 0..whole.len() {
            let mut wrong = whole.clone();
            wrong[place] ^= 0xff;
            if let Some(types) = KernelTypes::of(&wrong) {
                let _ = types.offset("s", "d");
            }
        }
    }

    #[test]
    fn the_head_of_this_kernels_sockets_is_where_it_is_everywhere() {
        if !Path::new(PATH).exists() {
            println!("SKIPPED: the kernel's types: there is no {PATH}");
            return;
        }
        let types = KernelTypes::read().expect("BTF");
        let at = |member| types.offset("sock_common", member);
        assert_eq!((at("skc_daddr"), at("skc_dport"), at("skc_family")), (Ok(0), Ok(12), Ok(16)));
        assert!(at("skc_v6_daddr").is_ok_and(|offset| offset > 16));
    }
}
