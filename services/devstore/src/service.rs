//! Every command has its answer here. No I/O and no clock.

use crate::statistics::{self, Connections, Counters};
use crate::store::{Change, Now, Store};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use weir_memcached::{Rejection, Request, text};

/// What to do with the connection after the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Go on.
    Continue,
    /// Close it.
    Close,
}

/// A store and its counters.
pub struct Service {
    /// The items.
    pub store: Store,
    /// For `stats`.
    pub counters: Counters,
    /// For `stats`; kept by the server.
    pub connections: Connections,
}

impl Service {
    /// An empty store of `memory` bytes.
    pub fn new(memory: usize, now: Now) -> Self {
        let store = Store::new(memory, now);
        Self { store, counters: Counters::default(), connections: Connections::default() }
    }

    /// Answers a command into `out`. A server that must bound `out` answers retrievals key by key with
    /// [`Service::retrieve`] instead.
    pub fn answer(&mut self, request: &Request<'_>, now: Now, out: &mut Vec<u8>) -> Then {
        match request {
            Request::Retrieve(retrieve) => {
                for key in retrieve.keys.clone() {
                    self.retrieve(retrieve.verb, retrieve.exptime, key, now, out);
                }
                out.extend_from_slice(text::END);
            }
            Request::Store(store) => self.store(store, now, out),
            Request::Mutate(mutate) => self.mutate(mutate, now, out),
            Request::Meta(meta) => self.meta(meta, now, out),
            Request::MetaNoop => out.extend_from_slice(text::META_NOOP),
            Request::FlushAll { delay, noreply } => {
                self.counters.cmd_flush += 1;
                self.store.flush_all(*delay, now);
                if !noreply {
                    out.extend_from_slice(text::OK);
                }
            }
            Request::Stats { args } => {
                statistics::answer(args, &mut self.counters, self.connections, &self.store, now, out);
            }
            Request::Version => {
                out.extend_from_slice(b"VERSION ");
                out.extend_from_slice(statistics::version().as_bytes());
                out.extend_from_slice(b"\r\n");
            }
            Request::Verbosity { noreply } => {
                if !noreply {
                    out.extend_from_slice(text::OK);
                }
            }
            Request::Shutdown => out.extend_from_slice(text::SHUTDOWN_DISABLED),
            Request::Quit => return Then::Close,
        }
        Then::Continue
    }

    /// Answers a refused line. `input` is what was given to the decoder: a value that was too large removes the item
    /// it was meant for.
    pub fn refuse(&mut self, rejection: Rejection, input: &[u8], now: Now, out: &mut Vec<u8>) -> Then {
        if let Some(stale) = rejection.stale_key()
            && let Some(key) = input.get(stale.range())
        {
            self.counters.store_too_large += 1;
            let decoded = if stale.base64() { STANDARD.decode(key).ok() } else { None };
            self.store.remove(decoded.as_deref().unwrap_or(key), None, Change::Delete, now);
        }
        out.extend_from_slice(rejection.reply());
        if rejection.close() { Then::Close } else { Then::Continue }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_memcached::{RequestDecoder, Step};

    const NOW: Now = 1_800_000_000;

    fn ask(service: &mut Service, now: Now, mut bytes: &[u8]) -> String {
        let (mut decoder, mut out) = (RequestDecoder::default(), Vec::new());
        while !bytes.is_empty() {
            let consumed = match decoder.decode(bytes) {
                Step::Request { request, consumed } => {
                    service.answer(&request, now, &mut out);
                    consumed
                }
                Step::Reject { reply, consumed } => {
                    service.refuse(reply, bytes, now, &mut out);
                    consumed
                }
                Step::Swallowed { consumed } => consumed,
                other => panic!("{other:?}"),
            };
            bytes = &bytes[consumed..];
        }
        String::from_utf8_lossy(&out).replace("\r\n", "|")
    }

    /// What `tests/against_memcached.rs` compares at random, in a few lines that need no server.
    #[test]
    fn commands_have_memcacheds_answers() {
        let mut service = Service::new(8 << 20, NOW);
        for (command, reply) in [
            ("set k 5 0 2\r\nhi\r\nget k none k\r\n", "STORED|VALUE k 5 2|hi|VALUE k 5 2|hi|END|"),
            ("gets k\r\ncas k 0 0 1 2\r\nx\r\ncas k 0 0 1 9\r\ny\r\n", "VALUE k 5 2 2|hi|END|STORED|EXISTS|"),
            ("set n 0 0 1\r\n9\r\nincr n 1\r\ndecr n 11\r\nget n\r\n", "STORED|10|0|VALUE n 0 2|0 |END|"),
            (
                "incr k 1\r\nincr none 1\r\ndelete none\r\ntouch none 1\r\n",
                "CLIENT_ERROR cannot increment or decrement non-numeric value|NOT_FOUND|NOT_FOUND|NOT_FOUND|",
            ),
            ("set q 0 0 1 noreply\r\nq\r\ndelete q noreply\r\nget q\r\n", "END|"),
            ("mg k v f k O7\r\nmg none v k O7\r\nmg none q\r\n", "VA 1 f0 kk O7|x|EN knone O7|"),
            ("mg w N30 t\r\nmg w t\r\nms w 1 T0\r\nx\r\nmg w v t\r\n", "HD t30 W|HD t30 Z|HD|VA 1 t-1|x|"),
            ("md w I T30\r\nmg w t\r\nmg w t\r\nmd w q\r\nmd w q\r\n", "HD|HD t30 X W|HD t30 Z X|NF|"),
            (
                "ma c N0 J98 v\r\nma c v\r\nma c D1 T60 t v\r\nmg c t\r\n",
                "VA 2|98|VA 2|99|VA 3 t60|100|HD t60|",
            ),
            ("ms a2V5 2 b k\r\nhi\r\nget key\r\nmd a2V5 b\r\n", "HD ka2V5 b|VALUE key 0 2|hi|END|HD|"),
            (
                "mg k !\r\nma k Dx\r\nms k 1 Mx\r\nx\r\n",
                "CLIENT_ERROR invalid flag|CLIENT_ERROR invalid or duplicate flag|CLIENT_ERROR invalid mode for ms M token|",
            ),
            ("shutdown\r\nverbosity 1\r\nmn\r\nstats reset\r\n", "ERROR: shutdown not enabled|OK|MN|RESET|"),
        ] {
            assert_eq!(ask(&mut service, NOW, command.as_bytes()), reply, "{command:?}");
        }
    }

    #[test]
    fn a_value_too_large_removes_the_old_one() {
        let mut service = Service::new(8 << 20, NOW);
        let large = "v".repeat((1 << 20) + 1);
        for (command, key) in [("set key 0 0", "key"), ("ms a2V5", "a2V5")] {
            ask(&mut service, NOW, b"set key 0 0 1\r\nx\r\n");
            let flags = if key == "key" { "" } else { " b" };
            let command = format!("{command} {}{flags}\r\n{large}\r\nget key\r\n", large.len());
            let reply = ask(&mut service, NOW, command.as_bytes());
            assert_eq!(reply, "SERVER_ERROR object too large for cache|END|");
        }
    }
}
