//! A request's body that is held until it was judged: the parts as they came, never copied into one (but for crumbs). With what the service
//! is sent (the same parts) a message costs its own size once.
//!
//! Bounds: `body_bytes` of one, `held_bytes` of all together ([`HeldBytes`]).

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A part of fewer bytes is copied behind the one before it ...
const CRUMB: usize = 512;
/// ... until that one has so many.
const LOAF: usize = 16 << 10;

/// A body that is there as a whole.
#[derive(Clone, Debug, Default)]
pub struct Body {
    parts: Vec<Bytes>,
    len: u64,
}

impl Body {
    /// A body of one part.
    #[must_use]
    pub fn of(part: Bytes) -> Body {
        let mut body = Body::default();
        body.push(part);
        body
    }

    /// Its parts, in order; none is empty. Where one ends says nothing: it is where the network cut.
    #[must_use]
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// There is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a part at the end. Crumbs are put together, because each part costs memory besides its bytes.
    pub fn push(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        self.len += part.len() as u64;
        if part.len() >= CRUMB || self.parts.last().is_none_or(|last| last.len() >= LOAF) {
            self.parts.push(part);
            return;
        }
        if let Some(last) = self.parts.pop() {
            let mut loaf = last.try_into_mut().unwrap_or_else(|last| {
                let mut loaf = BytesMut::with_capacity(LOAF);
                loaf.extend_from_slice(&last);
                loaf
            });
            loaf.extend_from_slice(&part);
            self.parts.push(loaf.freeze());
        }
    }

    /// For sending: shares the bytes.
    pub(crate) fn queue(&self) -> VecDeque<Bytes> {
        self.parts.iter().cloned().collect()
    }
}

/// Bytes of all bodies that are held, against one bound.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    now: AtomicU64,
    most: u64,
}

impl HeldBytes {
    pub(crate) fn new(most: u64) -> Arc<HeldBytes> {
        Arc::new(HeldBytes { now: AtomicU64::new(0), most })
    }

    /// Nothing yet, for one request.
    pub(crate) fn share(self: &Arc<HeldBytes>) -> HeldShare {
        HeldShare { all: self.clone(), bytes: 0 }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }
}

/// What one request holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct HeldShare {
    all: Arc<HeldBytes>,
    bytes: u64,
}

impl HeldShare {
    /// Takes more; `false` (and nothing taken) when all together would hold too much.
    pub(crate) fn take(&mut self, bytes: u64) -> bool {
        let before = self.all.now.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.all.most {
            self.all.now.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for HeldShare {
    fn drop(&mut self) {
        self.all.now.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_shared_and_empty_ones_are_none() {
        let part = Bytes::from(vec![b'a'; CRUMB]);
        let mut body = Body::of(part.clone());
        body.push(Bytes::new());
        body.push(part.clone());
        assert_eq!((body.len(), body.parts().len()), (2 * CRUMB as u64, 2));
        assert_eq!(body.queue()[0].as_ptr(), part.as_ptr(), "not copied");
    }

    #[test]
    fn crumbs_become_loaves() {
        let mut body = Body::default();
        let (crumb, large) = (Bytes::from_static(b"abc"), Bytes::from(vec![b'l'; LOAF]));
        for _ in 0..20_000 {
            body.push(crumb.clone());
        }
        body.push(large);
        body.push(crumb);
        assert_eq!(body.len(), 60_003 + LOAF as u64);
        // What is large is shared as it came.
        assert_eq!(body.parts().len(), 60_000_usize.div_ceil(LOAF) + 2);
        let all = body.parts().concat();
        assert!(all.starts_with(b"abcabc") && all.ends_with(b"llabc"));
        assert_eq!(all.iter().filter(|byte| **byte == b'c').count(), 20_001);
    }

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let held = HeldBytes::new(10);
        let (mut one, mut other) = (held.share(), held.share());
        assert!(one.take(6) && other.take(4));
        assert!(!other.take(1));
        assert_eq!(held.now(), 10);
        drop(one);
        assert!(other.take(6));
        drop(other);
        assert_eq!(held.now(), 0);
    }
}
