//! Changes of state of TCP sockets: one hook, whose program does the work of every probe that goes by them.

/// Bits of what the program is to do, patched into the object before it is loaded: the probe `transitions`.
pub const TRANSITIONS: u32 = 1;

/// The probe `bypass`.
pub const BYPASS: u32 = 1 << 1;

/// The probe `witness`.
pub const WITNESS: u32 = 1 << 2;

/// The probe `connects`.
pub const CONNECTS: u32 = 1 << 3;

/// The probe `flows`.
pub const FLOWS: u32 = 1 << 4;

/// Where this kernel keeps what is read of a socket, in bytes from its start: patched into the object.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketFields {
    /// `skc_family`, 2 bytes.
    pub family: u16,
    /// `sk_protocol`, 2 bytes.
    pub protocol: u16,
    /// `skc_dport`, the remote port: 2 bytes in network order.
    pub remote_port: u16,
    /// `skc_daddr`, 4 bytes.
    pub remote_v4: u16,
    /// `skc_v6_daddr`, 16 bytes.
    pub remote_v6: u16,
    /// `inet_sport`, 2 bytes in network order. (`skc_num` is 0 again when a socket closes.)
    pub local_port: u16,
    /// `skc_rcv_saddr`, 4 bytes.
    pub local_v4: u16,
    /// `skc_v6_rcv_saddr`, 16 bytes.
    pub local_v6: u16,
}

crate::record!(SocketFields, 16, align 2);
