//! Connections to ports that somebody asks about, told one by one as they are made.

use crate::Endpoint;

/// Entries of the map `BEGUN`: connects under way at a time; the least recently used one makes room.
pub const BEGUN: u32 = 8_192;

/// Bytes of the ring buffer `CONNECTED`: room for 5,900 connections. What finds no room is counted in `UNTOLD`.
pub const RING: u32 = 512 << 10;

/// Who connects: the value of the map `BEGUN`, by the socket's address in the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Begun {
    /// When, in nanoseconds since boot.
    pub when: u64,
    /// The process (the kernel's `tgid`, in its first pid namespace).
    pub process: u32,
    /// Its user.
    pub uid: u32,
    /// The inode of the socket's network namespace.
    pub network: u32,
    /// Always 0.
    pub zero: u32,
    /// The thread's name, ended by NUL.
    pub comm: [u8; 16],
}

crate::record!(Begun, 40, align 8);

/// A connection that was made: what the ring buffer carries.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connected {
    /// Who connected.
    pub begun: Begun,
    /// That end.
    pub client: Endpoint,
    /// The other end.
    pub server: Endpoint,
}

crate::record!(Connected, 80, align 8);

/// Where the namespace of a socket is found, in bytes: patched into the object before it is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkFields {
    /// `skc_net` in a socket: a pointer to its namespace.
    pub namespace: u16,
    /// The inode in that, 4 bytes.
    pub inode: u16,
}

crate::record!(NetworkFields, 4, align 2);

impl Connected {
    /// The record of these bytes; `None` where there are more or fewer.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Connected> {
        if bytes.len() != size_of::<Connected>() {
            return None;
        }
        // SAFETY: as many bytes as the record has, which every bit pattern is a value of; they need not be aligned.
        #[expect(unsafe_code, reason = "a record that came as bytes")]
        Some(unsafe { bytes.as_ptr().cast::<Connected>().read_unaligned() })
    }
}
