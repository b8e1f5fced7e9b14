//! What a call does, as a bounded label: methods that are described have a number of their own, all others share one.
//!
//! A number is given once and never to another method, whatever is reloaded: the ledger and the metrics go by it.

use crate::ledger::Method;
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Methods with a number of their own, and the shared one.
pub const METHODS_MAX: usize = 256;

/// Longest name of a method that may have a number, bytes; of letters, digits and `._/-*:`.
pub const NAME_MAX: usize = 128;

/// The label of methods that are not described.
pub const OTHER: &str = "_other";

/// What a call is spoken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// gRPC, over HTTP/2 or as gRPC-web.
    Grpc,
    /// Connect.
    Connect,
    /// Any other HTTP, XRPC for one.
    Http,
}

impl Protocol {
    /// How many there are.
    pub const COUNT: usize = 3;
    /// Every protocol, in the order of the ledger's methods.
    pub const ALL: [Protocol; Protocol::COUNT] = [Protocol::Grpc, Protocol::Connect, Protocol::Http];

    /// Bounded label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::Connect => "connect",
            Protocol::Http => "http",
        }
    }

    /// Of a method of the ledger.
    #[must_use]
    pub fn of(method: Method) -> Protocol {
        let index = (method.index() / METHODS_MAX).min(Protocol::COUNT - 1);
        Protocol::ALL[index]
    }
}

/// A method by number; 0 is every method that is not described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct MethodNumber(pub u8);

impl MethodNumber {
    /// Its place in tables by method.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Its number in the ledger, where each protocol has [`METHODS_MAX`] numbers.
    #[must_use]
    pub const fn in_ledger(self, protocol: Protocol) -> Method {
        Method(protocol as u16 * METHODS_MAX as u16 + self.0 as u16)
    }

    /// Of a method of the ledger.
    #[must_use]
    pub const fn of(method: Method) -> MethodNumber {
        MethodNumber((method.0 % METHODS_MAX as u16) as u8)
    }
}

/// Numbers of methods.
#[derive(Debug)]
pub(super) struct Methods {
    names: Vec<Arc<str>>,
    by_name: FxHashMap<Arc<str>, MethodNumber>,
    /// Described methods that found no number left, or whose name cannot be a label.
    pub(super) overflowed: u64,
}

impl Default for Methods {
    fn default() -> Methods {
        Methods { names: vec![OTHER.into()], by_name: FxHashMap::default(), overflowed: 0 }
    }
}

impl Methods {
    /// Gives a described method its number.
    pub(super) fn describe(&mut self, name: &Arc<str>) {
        if self.by_name.contains_key(name) {
            return;
        }
        let fits = (1..=NAME_MAX).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._/-*:".contains(&byte));
        match u8::try_from(self.names.len()) {
            Ok(number) if fits => {
                self.names.push(name.clone());
                self.by_name.insert(name.clone(), MethodNumber(number));
            }
            _ => self.overflowed += 1,
        }
    }

    /// The number of a method as it was asked for, without the slash in front.
    pub(super) fn number(&self, name: &str) -> MethodNumber {
        self.by_name.get(name).copied().unwrap_or_default()
    }

    pub(super) fn name(&self, number: MethodNumber) -> &Arc<str> {
        self.names.get(number.index()).unwrap_or(&self.names[0])
    }

    pub(super) fn names(&self) -> &[Arc<str>] {
        &self.names
    }
}

/// A method as weir writes it: without the slash in front of a path.
#[must_use]
pub fn method_of_path(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_run_out() {
        let mut methods = Methods::default();
        let name = |n: usize| -> Arc<str> { format!("a.Service/M{n}").into() };
        for _ in 0..2 {
            for n in 0..METHODS_MAX + 5 {
                methods.describe(&name(n));
            }
        }
        assert_eq!(methods.names().len(), METHODS_MAX);
        assert_eq!(methods.number("a.Service/M0"), MethodNumber(1));
        assert_eq!(methods.number("a.Service/M254"), MethodNumber(255));
        assert_eq!(methods.number("a.Service/M255"), MethodNumber(0), "no number is left");
        assert_eq!(methods.overflowed, 12, "six of them, twice");
        assert_eq!(&**methods.name(methods.number("nobody.Knows/This")), OTHER);
        assert_eq!(method_of_path("/a.Service/M1"), "a.Service/M1");
    }

    #[test]
    fn the_ledger_tells_protocols_apart() {
        for (place, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, place);
            for number in [0, 1, 255].map(MethodNumber) {
                let method = number.in_ledger(protocol);
                assert_eq!((Protocol::of(method), MethodNumber::of(method)), (protocol, number));
                assert!(method.index() < Method::MAX);
            }
        }
    }
}
