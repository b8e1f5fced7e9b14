//! A doubly linked list in a vector: places stay valid while their entry lives, and moving to the front is O(1).

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

/// "No entry" as a link.
const NONE: usize = usize::MAX;

struct Entry<T> {
    /// `None`: a free place.
    value: Option<T>,
    before: usize,
    after: usize,
}

/// Entries from most to least recently used.
pub struct List<T> {
    entries: Vec<Entry<T>>,
    free: Vec<usize>,
    first: usize,
    last: usize,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), free: Vec::new(), first: NONE, last: NONE }
    }
}

impl<T> List<T> {
    /// The entry at a place.
    pub fn get(&self, place: Place) -> Option<&T> {
        self.entries.get(place.0)?.value.as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, place: Place) -> Option<&mut T> {
        self.entries.get_mut(place.0)?.value.as_mut()
    }

    /// The least recently used entry.
    pub fn last(&self) -> Option<Place> {
        (self.last != NONE).then_some(Place(self.last))
    }

    /// Adds an entry at the front.
    pub fn push_front(&mut self, value: T) -> Place {
        let entry = Entry { value: Some(value), before: NONE, after: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        };
        self.attach(at);
        Place(at)
    }

    /// Takes an entry out; its place may be used again.
    pub fn remove(&mut self, place: Place) -> Option<T> {
        let value = self.entries.get_mut(place.0)?.value.take()?;
        self.detach(place.0);
        self.free.push(place.0);
        Some(value)
    }

    /// Makes an entry the most recently used.
    pub fn move_front(&mut self, place: Place) {
        if self.get(place).is_some() && self.first != place.0 {
            self.detach(place.0);
            self.attach(place.0);
        }
    }

    fn attach(&mut self, at: usize) {
        self.entries[at].before = NONE;
        self.entries[at].after = self.first;
        match self.first {
            NONE => self.last = at,
            first => self.entries[first].before = at,
        }
        self.first = at;
    }

    fn detach(&mut self, at: usize) {
        let (before, after) = (self.entries[at].before, self.entries[at].after);
        match before {
            NONE => self.first = after,
            before => self.entries[before].after = after,
        }
        match after {
            NONE => self.last = before,
            after => self.entries[after].before = before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn it_behaves_like_a_deque_under_random_moves() {
        let (mut list, mut model) = (List::default(), VecDeque::new());
        let mut state = 7_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pick = |model: &VecDeque<(Place, u64)>| (state >> 33) as usize % model.len().max(1);
            match state >> 61 {
                0..=2 => model.push_front((list.push_front(step), step)),
                3..=5 if !model.is_empty() => {
                    let one = model.remove(pick(&model)).expect("in range");
                    list.move_front(one.0);
                    model.push_front(one);
                }
                _ if !model.is_empty() => {
                    let (place, value) = model.remove(pick(&model)).expect("in range");
                    assert_eq!(list.remove(place), Some(value));
                    assert_eq!(list.remove(place), None);
                }
                _ => {}
            }
            assert_eq!(list.last(), model.back().map(|(place, _)| *place));
        }
        for (place, value) in &model {
            assert_eq!(list.get(*place), Some(value));
        }
        while let Some(place) = list.last() {
            assert_eq!(list.remove(place), model.pop_back().map(|(_, value)| value));
        }
        assert!(model.is_empty());
    }
}
