//! Numbers of a command line: plain decimal digits.
//!
//! memcached 1.6.18 also takes `+1`, white space and values that overflow; newer servers do not. A number that one
//! server reads and another refuses would leave a data block to be read as commands, so only the common form passes.

/// Digits only, at most 64 bits.
pub(crate) fn unsigned(token: &[u8]) -> Option<u64> {
    // 20 digits hold every u64; memcached's newer reader stops at 22.
    if token.is_empty() || token.len() > 20 {
        return None;
    }
    let mut value = 0_u64;
    for byte in token {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    Some(value)
}

/// Digits with an optional minus sign, at most 64 bits: times. memcached cuts them to 32 bits itself.
pub(crate) fn signed(token: &[u8]) -> Option<i64> {
    match token.strip_prefix(b"-") {
        Some(digits) => 0_i64.checked_sub_unsigned(unsigned(digits)?),
        None => i64::try_from(unsigned(token)?).ok(),
    }
}

/// The length of a data block without its CRLF: at most 10 digits and 2^31 - 3, as memcached.
pub(crate) fn data_length(token: &[u8]) -> Option<u32> {
    const MAX: u64 = i32::MAX as u64 - 2;
    if token.len() > 10 {
        return None;
    }
    unsigned(token).filter(|length| *length <= MAX).map(|length| length as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_takes_digits_up_to_64_bits() {
        assert_eq!(unsigned(b"0"), Some(0));
        assert_eq!(unsigned(b"18446744073709551615"), Some(u64::MAX));
        for bad in
            [&b""[..], b"18446744073709551616", b"-1", b"+1", b"1x", b" 1", b"0x1", b"000000000000000000001"]
        {
            assert_eq!(unsigned(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn signed_takes_a_minus() {
        assert_eq!(signed(b"-1"), Some(-1));
        assert_eq!(signed(b"-9223372036854775808"), Some(i64::MIN));
        assert_eq!(signed(b"9223372036854775807"), Some(i64::MAX));
        for bad in [&b"-"[..], b"--1", b"9223372036854775808", b"-9223372036854775809", b"+1", b""] {
            assert_eq!(signed(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn data_length_leaves_room_for_crlf() {
        assert_eq!(data_length(b"2147483645"), Some(2_147_483_645));
        assert_eq!(data_length(b"0000000007"), Some(7));
        for bad in [&b"2147483646"[..], b"-1", b"00000000007", b"4294967297"] {
            assert_eq!(data_length(bad), None, "{bad:?}");
        }
    }
}
