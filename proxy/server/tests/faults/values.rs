//! Values that can be checked without being remembered: every byte follows from key and length.

/// The value of a key at a length. Binary on purpose: line ends and keywords inside values must not matter.
pub fn value_of(key: &str, length: usize) -> Vec<u8> {
    let mut state = key.bytes().fold(0x9e37_79b9_7f4a_7c15_u64 ^ length as u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3).rotate_left(23)
    });
    let mut value = Vec::with_capacity(length + 8);
    // Starts with what a careless reader would take for the end of the value.
    value.extend_from_slice(b"\r\nEND\r\nVALUE ");
    while value.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
    }
    value.truncate(length);
    value
}

/// The flags stored with it.
pub fn flags_of(key: &str) -> u32 {
    key.bytes().fold(7, |flags: u32, byte| flags.wrapping_mul(31) ^ u32::from(byte))
}

/// One value as memcached sends it.
pub fn value_block(key: &str, value: &[u8]) -> Vec<u8> {
    let mut block = format!("VALUE {key} {} {}\r\n", flags_of(key), value.len()).into_bytes();
    block.extend_from_slice(value);
    block.extend_from_slice(b"\r\n");
    block
}

/// The command that stores it.
pub fn set_command(key: &str, value: &[u8]) -> Vec<u8> {
    let mut command = format!("set {key} {} 0 {}\r\n", flags_of(key), value.len()).into_bytes();
    command.extend_from_slice(value);
    command.extend_from_slice(b"\r\n");
    command
}
