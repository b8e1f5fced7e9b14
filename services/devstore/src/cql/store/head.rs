//! What was deleted of a partition: for writes that come later with an older timestamp.

use super::key::Damaged;
use super::row::{Deletion, later};

/// Ranges remembered per partition; the oldest go first.
const RANGES_MAX: usize = 256;

/// The record of a partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    all: Option<Deletion>,
    ranges: Vec<(Vec<u8>, Vec<u8>, Deletion)>,
}

impl Head {
    /// The whole partition is deleted.
    pub fn delete_all(&mut self, deletion: Deletion) {
        self.all = later(Some(deletion), self.all);
        self.ranges.retain(|(_, _, old)| old.timestamp > deletion.timestamp);
    }

    /// The rows with keys from `start` to before `end` are deleted.
    pub fn delete_range(&mut self, start: &[u8], end: &[u8], deletion: Deletion) {
        if self.ranges.len() >= RANGES_MAX {
            self.ranges.remove(0);
        }
        self.ranges.push((start.to_vec(), end.to_vec(), deletion));
    }

    /// What deletes the row with this key.
    pub fn covering(&self, key: &[u8]) -> Option<Deletion> {
        let over = self.ranges.iter().filter(|(start, end, _)| &start[..] <= key && key < &end[..]);
        over.fold(self.all, |found, (_, _, deletion)| later(Some(*deletion), found))
    }

    /// Forgets deletions from before `before` (seconds); whether nothing is left.
    pub fn purge(&mut self, before: u32) -> bool {
        self.all = self.all.filter(|deletion| deletion.at >= before);
        self.ranges.retain(|(_, _, deletion)| deletion.at >= before);
        *self == Self::default()
    }

    /// As a record.
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |start: &[u8], end: &[u8], deletion: Deletion| {
            for bytes in [start, end] {
                out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
                out.extend_from_slice(bytes);
            }
            out.extend_from_slice(&deletion.timestamp.to_be_bytes());
            out.extend_from_slice(&deletion.at.to_be_bytes());
        };
        // the whole is a range without ends
        if let Some(deletion) = self.all {
            put(&[], &[], deletion);
        }
        self.ranges.iter().for_each(|(start, end, deletion)| put(start, end, *deletion));
        out
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`Damaged`] for bytes that [`Head::write`] does not write.
    pub fn read(mut bytes: &[u8]) -> Result<Self, Damaged> {
        let mut head = Self::default();
        while !bytes.is_empty() {
            let start = take(&mut bytes)?.to_vec();
            let end = take(&mut bytes)?.to_vec();
            let (timestamp, rest) = bytes.split_first_chunk::<8>().ok_or(Damaged)?;
            let (at, rest) = rest.split_first_chunk::<4>().ok_or(Damaged)?;
            bytes = rest;
            let deletion =
                Deletion { timestamp: i64::from_be_bytes(*timestamp), at: u32::from_be_bytes(*at) };
            match end.is_empty() {
                true => head.all = Some(deletion),
                false => head.ranges.push((start, end, deletion)),
            }
        }
        Ok(head)
    }
}

fn take<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Damaged> {
    let (length, rest) = bytes.split_first_chunk::<4>().ok_or(Damaged)?;
    let (found, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Damaged)?;
    *bytes = rest;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_covers_what_it_deletes() {
        let mut head = Head::default();
        head.delete_range(b"b", b"d", Deletion { timestamp: 5, at: 50 });
        head.delete_range(b"c", b"e", Deletion { timestamp: 7, at: 70 });
        assert_eq!(Head::read(&head.write()), Ok(head.clone()));
        let at = |head: &Head, key: &[u8]| head.covering(key).map(|deletion| deletion.timestamp);
        assert_eq!(
            [at(&head, b"a"), at(&head, b"b"), at(&head, b"c"), at(&head, b"e")],
            [None, Some(5), Some(7), None]
        );
        head.delete_all(Deletion { timestamp: 6, at: 60 });
        assert_eq!(head.ranges.len(), 1, "an older range is part of the whole");
        assert_eq!([at(&head, b"a"), at(&head, b"d")], [Some(6), Some(7)]);
        assert_eq!(Head::read(&head.write()), Ok(head.clone()));
        assert!(!head.purge(65));
        assert_eq!([at(&head, b"a"), at(&head, b"d")], [None, Some(7)]);
        assert!(head.purge(71));
        for length in 0..head.write().len() {
            let _ = Head::read(&head.write()[..length]);
        }
    }
}
