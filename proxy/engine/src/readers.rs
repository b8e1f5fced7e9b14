//! Which clients do not read what they asked for, and which of them must go.
//!
//! A client goes when it owes a read and took no byte for `slow_reader_timeout`, when it stands still with more than
//! `reply_buffer_max` unread, or, once the unread bytes of all pass `reply_bytes_max`, when it is among the largest of those
//! that stand still.

use crate::OutBuffer;
use crate::settings::ListenerSettings;
use crate::units::{ClientId, Instant, Span};
use std::cmp::Reverse;

/// Where the bounds on bytes are passed, a client that took no byte for this long may be closed.
const STILL: Span = Span::millis(1_000);

/// Where a reader stood when it was looked at, and since when it has stood there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader {
    at: u64,
    since: Instant,
}

impl Reader {
    pub(crate) fn new(now: Instant) -> Reader {
        Reader { at: u64::MAX, since: now }
    }

    /// How long it has taken no byte of `out`.
    fn still(&mut self, out: &OutBuffer, now: Instant) -> Span {
        if self.at != out.written_offset() {
            *self = Reader { at: out.written_offset(), since: now };
        }
        now.since(self.since)
    }
}

/// One look at all clients.
#[derive(Debug)]
pub(crate) struct Look {
    crowded: bool,
    slow: Vec<ClientId>,
    still: Vec<(usize, ClientId)>,
}

impl Look {
    /// `crowded`: the unread bytes of all are above their bound.
    pub(crate) fn new(crowded: bool) -> Look {
        Look { crowded, slow: Vec::new(), still: Vec::new() }
    }

    /// A client with `out` on its way to it, `unread` bytes in all.
    pub(crate) fn at(
        &mut self,
        id: ClientId,
        reader: &mut Reader,
        out: &OutBuffer,
        unread: usize,
        settings: &ListenerSettings,
        now: Instant,
    ) {
        if out.is_empty() {
            return;
        }
        let still = reader.still(out, now);
        if still >= settings.slow_reader_timeout || (unread > settings.reply_buffer_max && still >= STILL) {
            self.slow.push(id);
        } else if self.crowded && still >= STILL {
            self.still.push((unread, id));
        }
    }

    /// Those to be closed: of the ones that only stand still the largest first, as many as bring `total`, the unread bytes
    /// of all, to half of its `bound`.
    pub(crate) fn into_closed(mut self, mut total: usize, bound: usize) -> Vec<ClientId> {
        self.still.sort_unstable_by_key(|&(unread, _)| Reverse(unread));
        for (unread, id) in self.still {
            if total <= bound / 2 {
                break;
            }
            total = total.saturating_sub(unread);
            self.slow.push(id);
        }
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Address, Backend};
    use crate::units::PoolId;

    fn id(slot: u32) -> ClientId {
        ClientId { slot, generation: 0 }
    }

    fn settings() -> ListenerSettings {
        let address = Address::Unix { path: "/x".into() };
        ListenerSettings::new("l", address, Backend::Pool(PoolId(0)))
    }

    /// Clients with so many bytes unread, looked at twice, `apart`.
    fn closed(unread: &[usize], crowded: bool, apart: Span, bound: usize) -> Vec<ClientId> {
        let mut readers = vec![Reader::new(Instant(0)); unread.len()];
        let mut outs: Vec<OutBuffer> = unread.iter().map(|_| OutBuffer::default()).collect();
        outs.iter_mut().for_each(|out| out.push(b"x"));
        let mut last = Vec::new();
        for now in [Instant(1), Instant(1).after(apart)] {
            let mut look = Look::new(crowded);
            for (slot, (reader, out)) in readers.iter_mut().zip(&outs).enumerate() {
                look.at(id(slot as u32), reader, out, unread[slot], &settings(), now);
            }
            last = look.into_closed(unread.iter().sum(), bound);
        }
        last
    }

    #[test]
    fn the_largest_go_until_the_rest_is_half_of_the_bound() {
        assert_eq!(closed(&[10, 40, 30, 20], true, STILL, 80), [id(1), id(2)]);
        assert_eq!(closed(&[10, 40, 30, 20], false, STILL, 80), []);
        assert_eq!(closed(&[10, 40, 30, 20], true, Span(STILL.0 - 1), 80), [], "a moment is not still");
    }

    #[test]
    fn one_that_stands_still_for_long_or_with_too_much_goes_in_any_case() {
        let settings = settings();
        assert_eq!(closed(&[1, 2], false, settings.slow_reader_timeout, 1 << 30), [id(0), id(1)]);
        assert_eq!(closed(&[1, settings.reply_buffer_max + 1], false, STILL, 1 << 30), [id(1)]);
    }

    #[test]
    fn a_byte_taken_starts_the_wait_anew() {
        let (mut reader, mut out) = (Reader::new(Instant(0)), OutBuffer::default());
        out.push(b"abc");
        assert_eq!(reader.still(&out, Instant(5)), Span(0));
        assert_eq!(reader.still(&out, Instant(9)), Span(4));
        out.wrote(1);
        assert_eq!(reader.still(&out, Instant(20)), Span(0));
    }
}
