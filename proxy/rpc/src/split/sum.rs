//! Adding up a number of several replies.

use crate::error::Malformed;
use crate::scan::Step;
use crate::wire::{Elements, Tag, read_varint, write_varint};

/// A type of number that can be added up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[allow(missing_docs, reason = "protobuf's own names")]
pub enum Number {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Float,
    Double,
}

/// A sum so far.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Sum {
    /// Of integers: at most as many as there are parts, so 128 bits are enough.
    Integer(i128),
    Real(f64),
}

impl Number {
    /// A sum of nothing.
    pub(super) const fn zero(self) -> Sum {
        match self {
            Number::Float | Number::Double => Sum::Real(0.0),
            _ => Sum::Integer(0),
        }
    }

    /// Adds a value, as its bytes on the wire.
    pub(super) fn add(self, sum: &mut Sum, value: &[u8]) -> Result<(), Malformed> {
        let read = self.read(value)?;
        *sum = match (*sum, read) {
            (Sum::Integer(sum), Sum::Integer(value)) => Sum::Integer(sum.saturating_add(value)),
            (Sum::Real(sum), Sum::Real(value)) => Sum::Real(sum + value),
            (sum, _) => sum,
        };
        Ok(())
    }

    fn read(self, value: &[u8]) -> Result<Sum, Malformed> {
        let four = || value.try_into().map_err(|_| Malformed::Truncated);
        let eight = || value.try_into().map_err(|_| Malformed::Truncated);
        let varint = || read_varint(value, &mut 0);
        Ok(match self {
            // The upper half of a 32-bit number is cut off, as every runtime does.
            Number::Int32 => Sum::Integer(i128::from(varint()? as i32)),
            Number::Int64 => Sum::Integer(i128::from(varint()? as i64)),
            Number::Uint32 => Sum::Integer(i128::from(varint()? as u32)),
            Number::Uint64 => Sum::Integer(i128::from(varint()?)),
            Number::Sint32 => Sum::Integer(i128::from(unzigzag(u64::from(varint()? as u32)))),
            Number::Sint64 => Sum::Integer(i128::from(unzigzag(varint()?))),
            Number::Fixed32 => Sum::Integer(i128::from(u32::from_le_bytes(four()?))),
            Number::Sfixed32 => Sum::Integer(i128::from(i32::from_le_bytes(four()?))),
            Number::Fixed64 => Sum::Integer(i128::from(u64::from_le_bytes(eight()?))),
            Number::Sfixed64 => Sum::Integer(i128::from(i64::from_le_bytes(eight()?))),
            Number::Float => Sum::Real(f64::from(f32::from_le_bytes(four()?))),
            Number::Double => Sum::Real(f64::from_le_bytes(eight()?)),
        })
    }

    const fn elements(self) -> Elements {
        match self {
            Number::Fixed32 | Number::Sfixed32 | Number::Float => Elements::Fixed32,
            Number::Fixed64 | Number::Sfixed64 | Number::Double => Elements::Fixed64,
            _ => Elements::Varint,
        }
    }

    /// Appends the field with the sum. `None` if the sum is no number of this type, and `out` as before.
    pub(super) fn write(self, step: Step, sum: Sum, out: &mut Vec<u8>) -> Option<()> {
        let wire = self.elements().wire();
        let tag = Tag { number: step.number, wire };
        let bits: u64 = match (self, sum) {
            (Number::Int32, Sum::Integer(sum)) => i64::from(i32::try_from(sum).ok()?) as u64,
            (Number::Int64, Sum::Integer(sum)) => i64::try_from(sum).ok()? as u64,
            (Number::Uint32, Sum::Integer(sum)) => u64::from(u32::try_from(sum).ok()?),
            (Number::Uint64, Sum::Integer(sum)) => u64::try_from(sum).ok()?,
            (Number::Sint32, Sum::Integer(sum)) => zigzag(i64::from(i32::try_from(sum).ok()?)),
            (Number::Sint64, Sum::Integer(sum)) => zigzag(i64::try_from(sum).ok()?),
            (Number::Fixed32, Sum::Integer(sum)) => u64::from(u32::try_from(sum).ok()?),
            (Number::Sfixed32, Sum::Integer(sum)) => u64::from(i32::try_from(sum).ok()?.cast_unsigned()),
            (Number::Fixed64, Sum::Integer(sum)) => u64::try_from(sum).ok()?,
            (Number::Sfixed64, Sum::Integer(sum)) => i64::try_from(sum).ok()?.cast_unsigned(),
            (Number::Float, Sum::Real(sum)) => u64::from((sum as f32).to_bits()),
            (Number::Double, Sum::Real(sum)) => sum.to_bits(),
            _ => return None,
        };
        tag.write(out);
        match self.elements() {
            Elements::Fixed32 => out.extend_from_slice(&(bits as u32).to_le_bytes()),
            Elements::Fixed64 => out.extend_from_slice(&bits.to_le_bytes()),
            Elements::Varint | Elements::Delimited => write_varint(bits, out),
        }
        Some(())
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        write_varint(value, &mut out);
        out
    }

    fn sum(number: Number, values: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut sum = number.zero();
        for value in values {
            number.add(&mut sum, value).ok()?;
        }
        let mut out = Vec::new();
        number.write(Step { number: 1, elements: number.elements() }, sum, &mut out)?;
        // Without the tag, which is one byte.
        Some(out.split_off(1))
    }

    #[test]
    fn every_type_adds_up_in_its_own_bytes() {
        let minus = |n: i64| varint(n.cast_unsigned());
        assert_eq!(sum(Number::Int32, &[minus(-5), varint(3)]), Some(minus(-2)));
        assert_eq!(sum(Number::Int64, &[varint(1 << 40), varint(1)]), Some(varint((1 << 40) + 1)));
        assert_eq!(sum(Number::Uint32, &[varint(7), varint(8)]), Some(varint(15)));
        assert_eq!(sum(Number::Uint64, &[varint(u64::MAX - 1), varint(1)]), Some(varint(u64::MAX)));
        assert_eq!(sum(Number::Sint32, &[varint(1), varint(1)]), Some(varint(3)), "-1 + -1 = -2");
        assert_eq!(sum(Number::Sint64, &[varint(2), varint(5)]), Some(varint(3)), "1 + -3 = -2");
        let le = |n: i32| n.to_le_bytes().to_vec();
        assert_eq!(sum(Number::Sfixed32, &[le(-7), le(2)]), Some(le(-5)));
        assert_eq!(sum(Number::Fixed32, &[le(7), le(2)]), Some(le(9)));
        let long = |n: i64| n.to_le_bytes().to_vec();
        assert_eq!(sum(Number::Sfixed64, &[long(-7), long(2)]), Some(long(-5)));
        assert_eq!(sum(Number::Fixed64, &[long(7), long(2)]), Some(long(9)));
        let real = |x: f32| x.to_le_bytes().to_vec();
        assert_eq!(sum(Number::Float, &[real(1.5), real(-0.25)]), Some(real(1.25)));
        let double = |x: f64| x.to_le_bytes().to_vec();
        assert_eq!(sum(Number::Double, &[double(1.5), double(2.0)]), Some(double(3.5)));
        assert_eq!(sum(Number::Double, &[]), Some(double(0.0)));
    }

    #[test]
    fn a_sum_that_is_too_large_is_none() {
        for (number, value) in [
            (Number::Int32, varint(i32::MAX as u64)),
            (Number::Int64, varint(i64::MAX as u64)),
            (Number::Uint32, varint(u64::from(u32::MAX))),
            (Number::Uint64, varint(u64::MAX)),
            (Number::Sint32, varint(u64::from(u32::MAX) - 1)),
            (Number::Sint64, varint(u64::MAX - 1)),
            (Number::Fixed32, u32::MAX.to_le_bytes().to_vec()),
            (Number::Fixed64, u64::MAX.to_le_bytes().to_vec()),
            (Number::Sfixed32, i32::MAX.to_le_bytes().to_vec()),
            (Number::Sfixed64, i64::MAX.to_le_bytes().to_vec()),
        ] {
            assert!(sum(number, std::slice::from_ref(&value)).is_some(), "{number:?}");
            assert_eq!(sum(number, &[value.clone(), value]), None, "{number:?}");
        }
        assert_eq!(sum(Number::Fixed32, &[vec![1]]), None);
        assert_eq!(sum(Number::Int32, &[vec![0x80]]), None);
    }
}
