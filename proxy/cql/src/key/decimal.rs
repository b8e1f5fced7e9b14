//! Decimals in a form that sorts: sign, magnitude, digits. Nothing is ever scaled up, so a scale of two thousand million
//! costs as little as one of two.

use std::cmp::Ordering;

/// Longest unscaled number that is compared, in bytes (about 150 digits).
pub const DECIMAL_MAX: usize = 64;

/// A decimal's value: equal for `1.0` and `1.00`.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Decimal {
    /// -1, 0 or 1.
    sign: i8,
    /// Digits before the point.
    magnitude: i64,
    /// Decimal digits without zeros at the end.
    digits: Vec<u8>,
}

impl Decimal {
    /// Reads a scale (four bytes) and an unscaled number. `None` when too short or over [`DECIMAL_MAX`].
    pub(super) fn read(bytes: &[u8]) -> Option<Decimal> {
        let (scale, unscaled) = bytes.split_first_chunk::<4>()?;
        if unscaled.is_empty() || unscaled.len() > DECIMAL_MAX {
            return None;
        }
        let scale = i64::from(i32::from_be_bytes(*scale));
        let negative = unscaled[0] >= 0x80;
        let mut digits = decimal_digits(unscaled, negative);
        let magnitude = i64::try_from(digits.len()).ok()? - scale;
        while digits.last() == Some(&0) {
            digits.pop();
        }
        if digits.is_empty() {
            return Some(Decimal { sign: 0, magnitude: 0, digits });
        }
        Some(Decimal { sign: if negative { -1 } else { 1 }, magnitude, digits })
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Decimal) -> Ordering {
        self.sign.cmp(&other.sign).then_with(|| {
            let size = self.magnitude.cmp(&other.magnitude).then_with(|| self.digits.cmp(&other.digits));
            if self.sign < 0 { size.reverse() } else { size }
        })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Decimal) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The decimal digits of a two's complement number's size, without zeros in front.
fn decimal_digits(bytes: &[u8], negative: bool) -> Vec<u8> {
    let mut number: Vec<u8> = bytes.to_vec();
    if negative {
        let mut carry = true;
        for byte in number.iter_mut().rev() {
            let (value, over) = (!*byte).overflowing_add(u8::from(carry));
            (*byte, carry) = (value, over);
        }
    }
    let mut digits = Vec::with_capacity(bytes.len() * 3);
    let mut from = 0;
    while from < number.len() {
        if number[from] == 0 {
            from += 1;
            continue;
        }
        let mut rest = 0_u32;
        for byte in &mut number[from..] {
            let value = (rest << 8) | u32::from(*byte);
            *byte = (value / 100) as u8;
            rest = value % 100;
        }
        digits.push((rest % 10) as u8);
        digits.push((rest / 10) as u8);
    }
    while digits.last() == Some(&0) {
        digits.pop();
    }
    digits.reverse();
    digits
}
