//! What the loader tells the programs. What may change while they run is in maps; where the fields of this kernel's
//! tracepoints lie is patched into the object before it is loaded.

/// 64 ports, a bit each: of the map `PORTS`, whose index is the port divided by 64.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ports {
    /// Ports that some watched destination has. A socket with no such port is not looked up any further.
    pub watched: u64,
    /// Ports that are watched at every address.
    pub everywhere: u64,
}

crate::record!(Ports, 16, align 8);

/// Entries of the map `PORTS`.
pub const PORT_WORDS: u32 = 65_536 / 64;

/// Errnos below this have a bit in [`Settings::errnos`]; Linux has none above 133.
pub const ERRNOS: u32 = 192;

/// bind(2), as an index and in records.
pub const BIND: u32 = 0;

/// connect(2), as an index and in records.
pub const CONNECT: u32 = 1;

/// The only entry of the map `SETTINGS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The errnos that are counted, a bit each, of [`BIND`] and of [`CONNECT`].
    pub errnos: [[u64; (ERRNOS / 64) as usize]; 2],
    /// The first port that the kernel gives to clients (`ip_local_port_range`): it tells the direction of connections
    /// whose begin was not seen and whose ends are not watched.
    pub first_ephemeral: u16,
    /// The last such port.
    pub last_ephemeral: u16,
    /// Always 0.
    pub zero: u32,
}

crate::record!(Settings, 56, align 8);

/// The longest tracepoint record that is read, in bytes. Every offset below leaves room for its field.
pub const RECORD: usize = 96;

/// Where the fields of the tracepoint `sock/inet_sock_set_state` lie, in bytes from the start of its record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateFields {
    /// The socket's address in the kernel, 8 bytes.
    pub skaddr: u16,
    /// 4 bytes.
    pub oldstate: u16,
    /// 4 bytes.
    pub newstate: u16,
    /// The local port in host order, 2 bytes.
    pub sport: u16,
    /// The remote port in host order, 2 bytes.
    pub dport: u16,
    /// 2 bytes.
    pub protocol: u16,
    /// The local address, IPv4 as IPv4-mapped, 16 bytes.
    pub saddr_v6: u16,
    /// The remote address, likewise.
    pub daddr_v6: u16,
}

crate::record!(StateFields, 16, align 2);

/// Where a failed call's parts lie.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallFields {
    /// What the call returned, in the record of its exit tracepoint, 8 bytes.
    pub ret: u16,
    /// The call's second argument (the address) in the registers that its thread entered the kernel with, 8 bytes. Its
    /// place is part of each machine's ABI.
    pub second_argument: u16,
}

crate::record!(CallFields, 4, align 2);
