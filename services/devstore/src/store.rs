//! The items: looked up by key, bounded in bytes, the least recently used go first.
//!
//! Time is whole seconds and comes from the caller. Expired items are dropped when they are met or evicted. Memory is
//! counted per item as its bytes plus [`ITEM_COST`]; when the total would pass the limit, the least recently used
//! items go until it fits.

mod change;
mod list;

pub use change::{Arithmetic, Change, Delta, Mode, Removed, Write, Written};

use list::{List, Place};
use std::collections::HashMap;
use std::rc::Rc;

/// Seconds since 1970.
pub type Now = u64;

/// What memcached adds to key and value: header, CAS, the key's NUL and the value's CRLF.
const ITEM_HEADER: usize = 48 + 8 + 1 + 2;
/// More bytes when the client's flags are not 0.
const ITEM_FLAGS: usize = 4;
/// Largest item, as memcached counts it: its default of 1 MiB.
pub const ITEM_MAX: usize = 1 << 20;
/// What an item costs this store beside its key and value, bytes: list place, map entry, allocations.
pub const ITEM_COST: usize = 200;
/// Times to live above this many seconds are dates.
const RELATIVE_MAX: i32 = 60 * 60 * 24 * 30;

/// One stored item.
#[derive(Clone, Debug)]
pub struct Item {
    /// Its key, decoded.
    pub key: Rc<[u8]>,
    /// Its value without CRLF.
    pub value: Vec<u8>,
    /// The client's flags.
    pub flags: u32,
    /// When it expires; 0 is never.
    pub expires: Now,
    /// Changes with every change.
    pub cas: u64,
    /// When it was stored or last fetched.
    pub accessed: Now,
    /// It was fetched since it was stored.
    pub fetched: bool,
    /// It was marked stale; clients are told.
    pub stale: bool,
    /// Some client was told to store it anew.
    pub token_sent: bool,
    /// Its key was sent as base64, and is shown so.
    pub base64: bool,
}

impl Item {
    /// Its size as memcached counts it.
    pub fn size(&self) -> usize {
        item_size(self.key.len(), self.value.len(), self.flags)
    }

    /// Seconds to live; `None` is for ever.
    pub fn lives(&self, now: Now) -> Option<i64> {
        (self.expires != 0).then(|| self.expires as i64 - now as i64)
    }
}

fn item_size(key: usize, value: usize, flags: u32) -> usize {
    ITEM_HEADER + key + value + if flags == 0 { 0 } else { ITEM_FLAGS }
}

/// All items.
pub struct Store {
    items: List<Item>,
    places: HashMap<Rc<[u8]>, Place>,
    /// Bytes of all items, [`ITEM_COST`] included.
    used: usize,
    limit: usize,
    last_cas: u64,
    started: Now,
    /// Everything stored before this time is void from then on.
    flush_at: Option<Now>,
    /// Items that went because memory was full.
    pub evictions: u64,
    /// Items ever linked.
    pub total_items: u64,
}

impl Store {
    /// An empty store of `limit` bytes.
    pub fn new(limit: usize, now: Now) -> Self {
        Self {
            items: List::default(),
            places: HashMap::new(),
            used: 0,
            limit,
            last_cas: 1,
            started: now,
            flush_at: None,
            evictions: 0,
            total_items: 0,
        }
    }

    /// How many items there are, expired ones that nobody met included.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes in use, [`ITEM_COST`] per item included.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Bytes allowed.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Seconds since the store was made.
    pub fn uptime(&self, now: Now) -> u64 {
        now.saturating_sub(self.started)
    }

    /// When a time to live given by a client ends: 0 never, negative at once, up to 30 days from now, else a date.
    /// memcached keeps 32 bits of it.
    pub fn expiry(&self, given: i64, now: Now) -> Now {
        // Cut like memcached, not saturated: the last 32 bits, signed.
        let given = given as i32;
        match given {
            0 => 0,
            ..0 => 1,
            1..=RELATIVE_MAX => now + given as u64,
            _ => (given as u64).max(1),
        }
    }

    /// The item of `key`, unless it has expired or was flushed.
    pub fn find(&mut self, key: &[u8], now: Now) -> Option<&mut Item> {
        let place = self.place(key, now)?;
        self.items.get_mut(place)
    }

    /// The same, as a fetch: it becomes the most recently used.
    pub fn fetch(&mut self, key: &[u8], now: Now) -> Option<&mut Item> {
        let place = self.place(key, now)?;
        self.items.move_front(place);
        let item = self.items.get_mut(place)?;
        item.fetched = true;
        item.accessed = now;
        Some(item)
    }

    /// Gives `key` a new time to live.
    pub fn touch(&mut self, key: &[u8], expires: Now, now: Now) -> Option<&mut Item> {
        let item = self.fetch(key, now)?;
        item.expires = expires;
        Some(item)
    }

    /// Removes everything, now or `delay` seconds (or the date) later.
    pub fn flush_all(&mut self, delay: u32, now: Now) {
        let at = if delay == 0 { now } else { self.expiry(i64::from(delay), now) };
        self.flush_at = (at > now).then_some(at);
        if self.flush_at.is_none() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.items = List::default();
        self.places = HashMap::new();
        self.used = 0;
    }

    fn place(&mut self, key: &[u8], now: Now) -> Option<Place> {
        if self.flush_at.is_some_and(|at| at <= now) {
            self.flush_at = None;
            self.clear();
        }
        let place = *self.places.get(key)?;
        let item = self.items.get(place)?;
        if item.expires != 0 && item.expires <= now {
            self.unlink(place);
            return None;
        }
        Some(place)
    }

    fn next_cas(&mut self) -> u64 {
        self.last_cas += 1;
        self.last_cas
    }

    fn unlink(&mut self, place: Place) {
        if let Some(item) = self.items.remove(place) {
            self.used -= cost(&item);
            self.places.remove(&item.key);
        }
    }

    /// Puts an item in, in the place of the one with its key, and makes room for it.
    fn link(&mut self, item: Item) -> Place {
        if let Some(place) = self.places.get(&item.key).copied() {
            self.unlink(place);
        }
        let cost = cost(&item);
        while self.used + cost > self.limit
            && let Some(last) = self.items.last()
        {
            self.unlink(last);
            self.evictions += 1;
        }
        self.used += cost;
        self.total_items += 1;
        let key = Rc::clone(&item.key);
        let place = self.items.push_front(item);
        self.places.insert(key, place);
        place
    }
}

fn cost(item: &Item) -> usize {
    item.key.len() + item.value.len() + ITEM_COST
}

#[cfg(test)]
mod tests;
