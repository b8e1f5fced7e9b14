//! An address and a port, the same for both families.

/// One end of a connection. IPv4 is kept as the IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), so that a socket of either
/// family towards the same place has the same key.
#[repr(C, align(4))] // to be copied and compared by words
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address, in network order.
    pub address: [u8; 16],
    /// The port, in host order.
    pub port: u16,
    /// Always 0: no padding is left to chance.
    pub zero: [u8; 2],
}

crate::record!(Endpoint, 20, align 4);

impl Endpoint {
    /// An IPv4 address (in network order) and a port (in host order).
    #[must_use]
    #[inline(always)]
    pub const fn v4(address: [u8; 4], port: u16) -> Endpoint {
        let [a, b, c, d] = address;
        Endpoint { address: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d], port, zero: [0; 2] }
    }

    /// An IPv6 address (in network order) and a port (in host order).
    #[must_use]
    #[inline(always)]
    pub const fn v6(address: [u8; 16], port: u16) -> Endpoint {
        Endpoint { address, port, zero: [0; 2] }
    }

    /// No address and no port: what stands for places that are not told apart.
    pub const NOWHERE: Endpoint = Endpoint { address: [0; 16], port: 0, zero: [0; 2] };

    /// Whether the address is the one that stands for every address, of either family.
    #[must_use]
    #[inline(always)]
    pub const fn is_unspecified(&self) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = self.address;
        let mapped = k == 0xff && l == 0xff;
        (a | b | c | d | e | f | g | h | i | j | m | n | o | p) == 0 && (mapped || (k | l) == 0)
    }

    /// Whether the address is IPv4.
    #[must_use]
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = self.address;
        (a | b | c | d | e | f | g | h | i | j) == 0 && k == 0xff && l == 0xff
    }
}
