//! What is read of a socket that a tracepoint hands over with its type (`tp_btf`): plain loads, which the kernel makes safe
//! when it loads the program. The places are patched by the loader and constant to the kernel.

use aya_ebpf::helpers::generated::bpf_skc_to_tcp_sock;
use weir_probes_abi::Endpoint;
use weir_probes_abi::states::SocketFields;

/// Patched by the loader.
#[unsafe(no_mangle)]
static SOCKET_FIELDS: SocketFields = SocketFields {
    family: 0,
    protocol: 0,
    remote_port: 0,
    remote_v4: 0,
    remote_v6: 0,
    local_port: 0,
    local_v4: 0,
    local_v6: 0,
};

/// IPPROTO_TCP; MPTCP and others have sockets with states too.
pub const TCP: u16 = 6;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// A socket, as an argument of the tracepoint whose type the kernel knows.
#[derive(Clone, Copy)]
pub struct Socket(pub *const u8);

/// The place of a field. Each is read by itself and volatile: the loader writes it after the compiler has seen zeros.
macro_rules! place {
    ($field:ident) => {
        // SAFETY: a static of this object.
        unsafe { core::ptr::read_volatile(&raw const SOCKET_FIELDS.$field) }
    };
}

impl Socket {
    #[inline(always)]
    pub fn is_tcp(self) -> bool {
        load::<u16>(self.0, place!(protocol)) == TCP
    }

    /// Whether it is of IPv4 or IPv6.
    #[inline(always)]
    pub fn is_inet(self) -> bool {
        matches!(load(self.0, place!(family)), AF_INET | AF_INET6)
    }

    /// A number that no other socket has at the same time: its address, from a place of this object's. (An address itself
    /// is nothing that the kernel lets a program calculate with.)
    #[inline(always)]
    pub fn number(self) -> u64 {
        (self.0 as u64).wrapping_sub(&raw const SOCKET_FIELDS as u64)
    }

    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        u16::from_be(load(self.0, place!(remote_port)))
    }

    /// `port`: what [`Socket::remote_port`] said.
    #[inline(always)]
    pub fn remote(self, port: u16) -> Endpoint {
        if self.is_v6() {
            return Endpoint::v6(long(self.0, place!(remote_v6)), port);
        }
        Endpoint::v4(load::<u32>(self.0, place!(remote_v4)).to_ne_bytes(), port)
    }

    /// 0 where it has none yet.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        self.tcp().map_or(0, |tcp| u16::from_be(load(tcp, place!(local_port))))
    }

    /// The same socket, as what TCP knows of it.
    #[inline(always)]
    pub fn tcp(self) -> Option<*const u8> {
        // SAFETY: the helper takes any socket.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut().cast()) };
        (!tcp.is_null()).then_some(tcp.cast_const().cast())
    }

    /// `port`: what [`Socket::local_port`] said.
    #[inline(always)]
    pub fn local(self, port: u16) -> Endpoint {
        if self.is_v6() {
            return Endpoint::v6(long(self.0, place!(local_v6)), port);
        }
        Endpoint::v4(load::<u32>(self.0, place!(local_v4)).to_ne_bytes(), port)
    }

    #[inline(always)]
    fn is_v6(self) -> bool {
        load::<u16>(self.0, place!(family)) == AF_INET6
    }
}

#[inline(always)]
fn long(socket: *const u8, offset: u16) -> [u8; 16] {
    let word = |index: u16| load::<u32>(socket, offset + 4 * index).to_ne_bytes();
    let ([a, b, c, d], [e, f, g, h]) = (word(0), word(1));
    let ([i, j, k, l], [m, n, o, p]) = (word(2), word(3));
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// A value so many bytes behind the begin of something whose type the kernel knows.
#[inline(always)]
pub fn load<T: Copy>(socket: *const u8, offset: u16) -> T {
    // SAFETY: the kernel proves that the place is one of the type's, and aligned, or does not load the program. Volatile,
    // because it changes without us, and because each field is read in its own size.
    unsafe { socket.add(offset as usize).cast::<T>().read_volatile() }
}
