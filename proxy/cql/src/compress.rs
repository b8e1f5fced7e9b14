//! Compressed bodies of v3 and v4, as STARTUP's `COMPRESSION` has agreed. (v5 compresses segments: [`crate::segment`].)
//!
//! A compressed body says how long it will be: that is checked against a cap, and against what the algorithm can
//! possibly reach, before anything is allocated.

use crate::error::Malformed;

/// What STARTUP names.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Compression {
    /// `lz4`: the length as 4 bytes, big-endian, then one LZ4 block.
    Lz4,
    /// `snappy`: one raw Snappy block, which carries its length itself.
    Snappy,
}

/// One byte of LZ4 stands for at most 255.
const LZ4_RATIO_MAX: usize = 255;

/// Three bytes of Snappy copy at most 64: 22 is never reached.
const SNAPPY_RATIO_MAX: usize = 22;

/// Bytes the announced length may exceed the ratio by: tokens at the end of a tiny block.
const RATIO_SLACK: usize = 64;

impl Compression {
    /// By the value of `COMPRESSION`; servers and drivers differ in case.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        if name.eq_ignore_ascii_case(b"lz4") {
            Some(Compression::Lz4)
        } else if name.eq_ignore_ascii_case(b"snappy") {
            Some(Compression::Snappy)
        } else {
            None
        }
    }

    /// The value of `COMPRESSION` in STARTUP and SUPPORTED.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
        }
    }

    /// The length `body` announces for itself, bytes; refused above `cap` or when `body` is too short for it.
    pub fn decompressed_len(self, body: &[u8], cap: usize) -> Result<usize, Malformed> {
        let (length, ratio) = match self {
            Compression::Lz4 => {
                let announced = body.first_chunk::<4>().ok_or(Malformed::Truncated)?;
                let length = i32::from_be_bytes(*announced);
                (usize::try_from(length).map_err(|_| Malformed::NegativeLength)?, LZ4_RATIO_MAX)
            }
            Compression::Snappy => {
                let length = snap::raw::decompress_len(body).map_err(|_| Malformed::Compression)?;
                (length, SNAPPY_RATIO_MAX)
            }
        };
        if length > cap {
            return Err(Malformed::TooLarge);
        }
        if length > body.len().saturating_mul(ratio).saturating_add(RATIO_SLACK) {
            return Err(Malformed::Compression);
        }
        Ok(length)
    }

    /// Appends what `body` decompresses to, at most `cap` bytes; `out` is as before on an error.
    pub fn decompress(self, body: &[u8], cap: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let length = self.decompressed_len(body, cap)?;
        let start = out.len();
        out.resize(start + length, 0);
        let place = &mut out[start..];
        let written = match self {
            // Servers write a body of nothing as the four bytes alone.
            Compression::Lz4 if length == 0 => Ok(0),
            Compression::Lz4 => lz4_block(&body[4..], place),
            Compression::Snappy => {
                snap::raw::Decoder::new().decompress(body, place).map_err(|_| Malformed::Compression)
            }
        };
        match written {
            Ok(written) if written == length => Ok(()),
            _ => {
                out.truncate(start);
                Err(Malformed::Compression)
            }
        }
    }

    /// Appends `body` compressed.
    pub fn compress(self, body: &[u8], out: &mut Vec<u8>) {
        match self {
            Compression::Lz4 => {
                out.extend_from_slice(&(body.len() as u32).to_be_bytes());
                write_lz4_block(body, out);
            }
            Compression::Snappy => {
                let start = out.len();
                out.resize(start + snap::raw::max_compress_len(body.len()), 0);
                let written = snap::raw::Encoder::new().compress(body, &mut out[start..]).unwrap_or(0);
                out.truncate(start + written);
            }
        }
    }
}

/// Decompresses one LZ4 block into exactly `place`; how much of it was written.
pub(crate) fn lz4_block(block: &[u8], place: &mut [u8]) -> Result<usize, Malformed> {
    lz4_flex::block::decompress_into(block, place).map_err(|_| Malformed::Compression)
}

/// Appends `body` as one LZ4 block.
pub(crate) fn write_lz4_block(body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + lz4_flex::block::get_maximum_output_size(body.len()), 0);
    // The place is as large as the library asks for: it cannot be too small.
    let written = lz4_flex::block::compress_into(body, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Compression; 2] = [Compression::Lz4, Compression::Snappy];

    #[test]
    fn round_trips() {
        let noise: Vec<u8> = (0..70_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for body in [b"".as_slice(), b"a", &[7; 100_000], &noise] {
            for compression in BOTH {
                let (mut packed, mut back) = (Vec::new(), b"kept".to_vec());
                compression.compress(body, &mut packed);
                compression.decompress(&packed, body.len(), &mut back).expect("its own output");
                assert_eq!(&back[..4], b"kept");
                assert_eq!(&back[4..], body);
                if !body.is_empty() {
                    let refused = compression.decompress(&packed, body.len() - 1, &mut back);
                    assert_eq!(refused, Err(Malformed::TooLarge));
                }
            }
        }
        let mut back = Vec::new();
        assert_eq!(Compression::Lz4.decompress(&[0, 0, 0, 0], 0, &mut back), Ok(()));
    }

    #[test]
    fn a_length_out_of_reach_is_refused_before_it_is_allocated() {
        let mut out = Vec::new();
        let lz4 = [0x0f, 0xff, 0xff, 0xff, 0x00, 0x00];
        assert_eq!(Compression::Lz4.decompress(&lz4, usize::MAX, &mut out), Err(Malformed::Compression));
        let snappy = [0xff, 0xff, 0xff, 0x7f, 0x00, 0x00];
        assert_eq!(
            Compression::Snappy.decompress(&snappy, usize::MAX, &mut out),
            Err(Malformed::Compression)
        );
        assert_eq!(Compression::Lz4.decompress(&[0xff; 4], 9, &mut out), Err(Malformed::NegativeLength));
        assert_eq!(out.capacity(), 0);
    }

    #[test]
    fn a_wrong_length_is_refused() {
        let mut packed = Vec::new();
        Compression::Lz4.compress(b"some text, some text, some text", &mut packed);
        packed[3] += 1;
        let mut out = vec![1];
        assert_eq!(Compression::Lz4.decompress(&packed, 1000, &mut out), Err(Malformed::Compression));
        assert_eq!(out, [1]);
    }

    #[test]
    fn the_best_ratio_is_not_refused() {
        for compression in BOTH {
            let (mut packed, mut back) = (Vec::new(), Vec::new());
            compression.compress(&vec![0; 8 * 1024 * 1024], &mut packed);
            assert_eq!(
                compression.decompress(&packed, 8 * 1024 * 1024, &mut back),
                Ok(()),
                "{compression:?}"
            );
        }
    }
}
