//! One turn of the loop: wait, then serve each socket with something to do.

use super::{Change, Client, Connection, Phase, REDIAL, Ready, SCRATCH, Slot, token};
use crate::clock::Nanos;
use crate::epoll::{Event, Interest};
use crate::net::{Failure, dialled};
use crate::wire::{Broken, Context};
use anyhow::Result;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Reads of one socket before the others get their turn.
const READS: usize = 8;

impl Client<'_> {
    /// Waits for something to do, at most until `until`.
    pub fn wait(&mut self, until: Nanos) -> Result<()> {
        self.events.clear();
        self.next_event = 0;
        let mut until = until;
        while let Some((due, slot)) = self.lost.front().copied() {
            if due > self.clock.now() {
                until = until.min(due);
                break;
            }
            self.lost.pop_front();
            if let Err(failure) = self.start(slot) {
                self.faults.note(&failure.to_string(), 1);
                self.lost.push_back((self.clock.now() + REDIAL, slot));
            } else if self.is_open(slot) {
                let generation = self.connections[slot].generation;
                self.events.push(Event {
                    token: token(slot, generation),
                    readable: false,
                    writable: true,
                    ended: false,
                });
            }
        }
        if !self.again.is_empty() || !self.events.is_empty() {
            until = 0;
        }
        for (slot, generation) in self.again.drain(..) {
            self.events.push(Event {
                token: token(slot, generation),
                readable: true,
                writable: false,
                ended: false,
            });
        }
        self.poller.wait(until, &mut self.events)
    }

    /// Serves the next connection with something to do; `None` when the turn is over.
    pub fn next_ready(&mut self) -> Option<Ready> {
        while let Some(event) = self.events.get(self.next_event).copied() {
            self.next_event += 1;
            let slot = (event.token & 0xffff_ffff) as Slot;
            let generation = (event.token >> 32) as u32;
            let current = |c: &Connection| c.generation == generation && c.phase != Phase::Closed;
            if self.connections.get(slot).is_some_and(current)
                && let Some(change) = self.serve(slot, event)
            {
                return Some(Ready { slot, change });
            }
        }
        None
    }

    fn serve(&mut self, slot: Slot, event: Event) -> Option<Change> {
        let connection = &mut self.connections[slot];
        if connection.phase == Phase::Connecting {
            if !event.writable {
                return None;
            }
            let result = connection.socket.as_ref().map_or(Ok(()), dialled);
            if let Err(failure) = result {
                self.lose(slot, &failure.to_string());
                return Some(Change::Closed);
            }
            connection.phase = Phase::Open;
            self.counts.connected += 1;
            self.flush(slot);
            return Some(Change::Connected);
        }
        if event.writable {
            // Such an event comes from `wait` alone, for a Unix socket that was dialled again: it is up at once.
            let reconnected =
                !event.readable && connection.interest == Interest::Read && connection.out.is_empty();
            if reconnected {
                return Some(Change::Connected);
            }
            self.flush(slot);
        }
        if !event.readable {
            return None;
        }
        if self.connections[slot].paused {
            self.connections[slot].waiting = true;
            return None;
        }
        Some(self.read(slot, event.ended))
    }

    /// Reads to a short read (or to the end when the peer has closed), or READS times.
    fn read(&mut self, slot: Slot, ended: bool) -> Change {
        let connection = &mut self.connections[slot];
        let Some(socket) = &connection.socket else { return Change::Closed };
        let mut to = Context { world: self.world, finished: &mut self.finished, faults: &mut self.faults };
        for _ in 0..READS {
            match recv(socket, &mut self.scratch[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.lose(slot, "closed by the server");
                    return Change::Closed;
                }
                Ok((count, _)) => {
                    self.counts.bytes_read += count as u64;
                    let input = &self.scratch[..count];
                    if let Err(Broken(text)) =
                        connection.reader.feed(input, &mut connection.expected, &mut to)
                    {
                        self.counts.broken += 1;
                        self.lose(slot, text);
                        return Change::Closed;
                    }
                    if count < SCRATCH && !ended {
                        return Change::Progress;
                    }
                }
                Err(Errno::AGAIN) => return Change::Progress,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    self.lose(slot, &Failure { call: "read", errno }.to_string());
                    return Change::Closed;
                }
            }
        }
        self.again.push_back((slot, connection.generation));
        Change::Progress
    }
}
