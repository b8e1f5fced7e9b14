//! The three hashes of the dialects, cut to the 32 bits that the rings use.
//!
//! Two of them read a key as C `char`, which is signed on x86: a byte from 128 on is sign-extended to 32 bits before it
//! is mixed in. Half or more of the keys with such bytes would land elsewhere without it. (Where `char` is unsigned,
//! as on ARM Linux, those programs' own maps should differ for these keys; weir follows x86 everywhere.)

use md5::{Digest, Md5};

/// MD5 of `bytes` as four words, each read as little-endian.
pub(super) fn md5_words(bytes: &[u8]) -> [u32; 4] {
    let digest = u128::from_le_bytes(Md5::digest(bytes).into());
    [digest as u32, (digest >> 32) as u32, (digest >> 64) as u32, (digest >> 96) as u32]
}

/// Bob Jenkins's one-at-a-time hash over signed bytes.
pub(super) fn one_at_a_time(bytes: &[u8]) -> u32 {
    let mut hash = 0_u32;
    for byte in bytes {
        hash = hash.wrapping_add(sign_extended(*byte));
        hash = hash.wrapping_add(hash << 10);
        hash ^= hash >> 6;
    }
    hash = hash.wrapping_add(hash << 3);
    hash ^= hash >> 11;
    hash.wrapping_add(hash << 15)
}

/// The low 32 bits of FNV-1a (64 bit) over signed bytes. Multiplication modulo 2^32 needs only the low halves of the
/// basis and of the prime, so this is the true hash's low half for bytes below 128.
pub(super) fn fnv1a_64_low(bytes: &[u8]) -> u32 {
    const BASIS: u32 = 0x8422_2325;
    const PRIME: u32 = 0x0000_01b3;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ sign_extended(*byte)).wrapping_mul(PRIME))
}

/// `byte` as a C program on x86 sees it when it assigns a `char` to a `uint32_t`.
fn sign_extended(byte: u8) -> u32 {
    i32::from(byte as i8) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_values() {
        assert_eq!(md5_words(b""), [0xd98c_1dd4, 0x04b2_008f, 0x9809_80e9, 0x7e42_f8ec], "RFC 1321");
        assert_eq!(one_at_a_time(b"a"), 0xca2e_9442, "Jenkins's own example values");
        assert_eq!(one_at_a_time(b"The quick brown fox jumps over the lazy dog"), 0x519e_91f5);
        assert_eq!(fnv1a_64_low(b""), 0x8422_2325);
        assert_eq!(fnv1a_64_low(b"a"), 0x8601_ec8c, "low half of af63dc4c8601ec8c");
        assert_eq!(fnv1a_64_low(b"foobar"), 0xf739_67e8, "low half of 85944171f73967e8");
    }

    #[test]
    fn bytes_from_128_on_are_negative() {
        assert_eq!(sign_extended(0x7f), 0x7f);
        assert_eq!(sign_extended(0x80), 0xffff_ff80);
        assert_eq!(sign_extended(0xff), 0xffff_ffff);
    }
}
