//! The table: its statements, its rows, and whether the rows of an answer are those.

use super::Common;
use super::connection::DIALECT;
use crate::keys::{KeyIndex, KeySet, KeyStyle};
use crate::random::mix;
use crate::values::{ValueSize, Values};
use std::collections::HashMap;
use weir_cql::response::{ResultBody, Rows};
use weir_cql::{Consistency, Header, Response, write};

/// Bytes of a record.
const RECORD: u32 = 400;

/// Bytes of a cid: those of a CIDv1 in base32.
const CID: usize = 59;

/// Where the table is.
pub const KEYSPACE: &str = "bench";

pub const CREATE_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS bench.posts (uri text PRIMARY KEY, record blob, cid text)";
pub const INSERT: &str = "INSERT INTO bench.posts (uri, record, cid) VALUES (?, ?, ?)";
pub const SELECT_ONE: &str = "SELECT uri, record, cid FROM bench.posts WHERE uri = ?";
pub const SELECT_IN: &str = "SELECT uri, record, cid FROM bench.posts WHERE uri IN ?";

const VALUES: u8 = 0x01;
const SKIP_METADATA: u8 = 0x02;
const PAGE_SIZE: u8 = 0x04;
const PAGING_STATE: u8 = 0x08;

/// Every row, by index and by key.
pub struct Table {
    keys: KeySet,
    values: Values,
    by_key: HashMap<Box<[u8]>, u32>,
    seed: u64,
}

/// What one answer turned out to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Rows that were asked for and are right.
    pub right: u32,
    /// Rows with other contents, rows not asked for, rows given twice.
    pub wrong: u32,
    /// Where the next page begins.
    pub more: Option<Vec<u8>>,
}

impl Table {
    /// The rows that follow from the options.
    pub fn new(common: &Common) -> Self {
        let keys = KeySet::new(KeyStyle::Post, common.keys, common.seed);
        let by_key = (0..keys.stored()).map(|n| (keys.bytes(KeyIndex(n)).into(), n)).collect();
        Self { keys, values: Values::new(ValueSize::Fixed(RECORD), common.seed), by_key, seed: common.seed }
    }

    /// How many rows there are.
    pub fn rows(&self) -> u32 {
        self.keys.stored()
    }

    fn cid(&self, index: u32) -> [u8; CID] {
        const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mut cid = [b'b'; CID];
        for (n, place) in cid.iter_mut().enumerate().skip(1) {
            let bits = mix(self.seed ^ u64::from(index) ^ ((n as u64 / 12) << 40));
            *place = BASE32[(bits >> (n % 12 * 5)) as usize % 32];
        }
        cid
    }

    /// The body of an EXECUTE of [`INSERT`].
    pub fn write_insert(&self, id: &[u8], index: u32, out: &mut Vec<u8>) {
        head(id, VALUES, 3, out);
        write::bytes(out, self.keys.bytes(KeyIndex(index)));
        let mut record = Vec::with_capacity(RECORD as usize);
        self.values.write(KeyIndex(index), &mut record);
        write::bytes(out, &record);
        write::bytes(out, &self.cid(index));
    }

    /// The body of an EXECUTE of [`SELECT_ONE`].
    pub fn write_select(&self, id: &[u8], index: u32, out: &mut Vec<u8>) {
        head(id, VALUES | SKIP_METADATA, 1, out);
        write::bytes(out, self.keys.bytes(KeyIndex(index)));
    }

    /// The body of an EXECUTE of [`SELECT_IN`]: a page (0: all at once) of the rows of these keys.
    pub fn write_in(&self, id: &[u8], keys: &[u32], page: u32, state: Option<&[u8]>, out: &mut Vec<u8>) {
        let paging = if page > 0 { PAGE_SIZE } else { 0 } | if state.is_some() { PAGING_STATE } else { 0 };
        head(id, VALUES | SKIP_METADATA | paging, 1, out);
        let at = out.len();
        write::int(out, 0);
        write::bits(out, keys.len() as u32);
        keys.iter().for_each(|key| write::bytes(out, self.keys.bytes(KeyIndex(*key))));
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
        if page > 0 {
            write::bits(out, page);
        }
        if let Some(state) = state {
            write::bytes(out, state);
        }
    }

    /// Checks the rows of an answer. `asked` says once for each index that was asked whether it was, and forgets it: a row
    /// given twice is wrong. `None` when it is no rows.
    pub fn check(&self, header: &Header, body: &[u8], mut asked: impl FnMut(u32) -> bool) -> Option<Answer> {
        let Ok((_, Response::Result(ResultBody::Rows(rows)))) = Response::locate(header, body, DIALECT)
        else {
            return None;
        };
        let mut answer = Answer::default();
        let mut seen = 0;
        for row in rows.iter(body) {
            seen += 1;
            if self.is_right(row.values(body).map(|value| value.of(body)), &mut asked) {
                answer.right += 1;
            } else {
                answer.wrong += 1;
            }
        }
        answer.wrong += rows.count - seen;
        answer.more = more(&rows, body);
        Some(answer)
    }

    fn is_right<'a>(
        &self,
        mut columns: impl Iterator<Item = Option<&'a [u8]>>,
        asked: &mut impl FnMut(u32) -> bool,
    ) -> bool {
        let three = (columns.next().flatten(), columns.next().flatten(), columns.next().flatten());
        let (Some(key), Some(record), Some(cid)) = three else { return false };
        let Some(&index) = self.by_key.get(key) else { return false };
        let whole = record.len() == RECORD as usize && self.values.matches(KeyIndex(index), 0, record);
        asked(index) && whole && cid == self.cid(index) && columns.next().is_none()
    }
}

fn head(id: &[u8], flags: u8, values: u16, out: &mut Vec<u8>) {
    write::short_bytes(out, id);
    write::consistency(out, Consistency::LOCAL_ONE);
    write::byte(out, flags);
    write::short(out, values);
}

fn more(rows: &Rows, body: &[u8]) -> Option<Vec<u8>> {
    rows.metadata.paging_state.and_then(|state| state.of(body)).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::super::connection::VERSION;
    use super::*;
    use weir_cql::own::{OwnColumns, OwnRows};
    use weir_cql::{CqlType, HEADER_LEN, Native, Side, Step, StreamId, read_header};

    fn table() -> Table {
        let common = Common {
            server: "127.0.0.1:1".parse().expect("an address"),
            keys: 100,
            seed: 1,
            timeout: 1.0,
            watch: Vec::new(),
        };
        Table::new(&common)
    }

    /// Changes a record and a cid.
    type Spoil = fn(&mut Vec<u8>, &mut Vec<u8>);

    /// The answer of a server that holds what `row` gives; checked against a request for these keys.
    fn check(asked: &[u32], rows: &[(u32, Spoil)]) -> Answer {
        let table = table();
        let text = |name| (name, CqlType::Native(Native::Text));
        let columns = [text("uri"), ("record", CqlType::Native(Native::Blob)), text("cid")];
        let columns = OwnColumns { keyspace: KEYSPACE, table: "posts", columns: &columns };
        let mut out = Vec::new();
        let mut own = OwnRows::open(&mut out, VERSION, StreamId(1), &columns);
        for (index, spoil) in rows {
            let (mut record, mut cid) = (Vec::new(), table.cid(*index).to_vec());
            table.values.write(KeyIndex(*index), &mut record);
            spoil(&mut record, &mut cid);
            own.cell(&mut out, Some(table.keys.bytes(KeyIndex(*index))));
            own.cell(&mut out, Some(&record));
            own.cell(&mut out, Some(&cid));
        }
        own.close(&mut out).expect("a short answer");
        let Step::Envelope { header } = read_header(&out, Side::Server, Default::default()) else {
            panic!("no envelope");
        };
        let mut left: std::collections::HashSet<u32> = asked.iter().copied().collect();
        let answer = table.check(&header, &out[HEADER_LEN..], |index| left.remove(&index));
        answer.expect("rows")
    }

    #[test]
    fn only_the_right_row_of_an_asked_key_is_right_and_only_once() {
        let of = |right, wrong| Answer { right, wrong, more: None };
        assert_eq!(check(&[3, 4], &[(4, |_, _| ()), (3, |_, _| ())]), of(2, 0));
        assert_eq!(check(&[3], &[(4, |_, _| ())]), of(0, 1), "not asked for");
        assert_eq!(check(&[3], &[(3, |_, _| ()), (3, |_, _| ())]), of(1, 1), "twice");
        assert_eq!(check(&[3], &[(3, |record, _| record[399] ^= 1)]), of(0, 1));
        assert_eq!(check(&[3], &[(3, |record, _| record.truncate(399))]), of(0, 1));
        assert_eq!(check(&[3], &[(3, |_, cid| cid[58] ^= 1)]), of(0, 1));
        assert_eq!(check(&[3], &[(100, |_, _| ())]), of(0, 1), "a key of no row");
    }

    #[test]
    fn cids_differ() {
        let table = table();
        let all: std::collections::HashSet<_> = (0..100).map(|index| table.cid(index)).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|cid| cid.starts_with(b"b") && cid.is_ascii()));
    }
}
