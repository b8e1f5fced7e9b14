//! The messages of the call: `uris = 1` of the request, `records = 1` and `meta = 2` of the reply.

use super::PREFIX;
use anyhow::{Context, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes of a record: with its metadata and a request's share a reply of 70,000 keys is 8 MB, as in April 2026.
pub const RECORD: usize = 106;

/// Field 1 with a length.
const ONE: u8 = 0x0a;
/// Field 2 with a length.
const TWO: u8 = 0x12;
/// Field 2 with a number: `has_media` of the metadata.
const MEDIA: u8 = 0x10;

/// Appends a request for these keys.
pub fn write_request<'a>(keys: impl Iterator<Item = &'a [u8]>, out: &mut BytesMut) {
    for key in keys {
        write_field(ONE, key, out);
    }
}

/// Calls `each` with the keys of a request, in their order.
///
/// # Errors
/// When the message is not protobuf.
pub fn keys_of<'a>(message: &'a [u8], mut each: impl FnMut(&'a [u8])) -> Result<()> {
    let mut left = message;
    while !left.is_empty() {
        let (tag, value) = field(&mut left)?;
        if tag == ONE {
            each(value);
        }
    }
    Ok(())
}

/// What a service answers to a request, and for how many keys.
///
/// # Errors
/// When the request is not protobuf.
pub fn reply_to(request: &[u8]) -> Result<(Bytes, u64)> {
    let mut count = 0;
    keys_of(request, |_| count += 1)?;
    let mut out = BytesMut::with_capacity(count * (RECORD + 8));
    let mut record = Vec::with_capacity(RECORD);
    keys_of(request, |key| {
        write_record(key, &mut record);
        out.put_slice(&[ONE, RECORD as u8 + 2]);
        write_field(ONE, &record, &mut out);
    })?;
    keys_of(request, |key| out.put_slice(&[TWO, 2, MEDIA, media(key)]))?;
    Ok((out.freeze(), count as u64))
}

/// What was found in a reply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Keys with the right record and metadata.
    pub right: u64,
    /// Elements that are not what their key asks for.
    pub wrong: u64,
    /// Keys without a record.
    pub missing: u64,
}

/// Checks a reply against the keys that were asked for.
///
/// # Errors
/// When it is not protobuf.
pub fn check<'a>(reply: &[u8], mut keys: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Found> {
    let mut of_meta = keys.clone();
    let (mut found, mut metas_right) = (Found::default(), 0);
    let mut expected = Vec::with_capacity(RECORD);
    let mut left = reply;
    while !left.is_empty() {
        let (tag, value) = field(&mut left)?;
        match tag {
            ONE => match keys.next() {
                Some(key) => {
                    write_record(key, &mut expected);
                    let good = value.strip_prefix(&[ONE, RECORD as u8]) == Some(&expected[..]);
                    found.right += u64::from(good);
                    found.wrong += u64::from(!good);
                }
                None => found.wrong += 1,
            },
            TWO => match of_meta.next() {
                Some(key) if value == [MEDIA, media(key)] => metas_right += 1,
                _ => found.wrong += 1,
            },
            _ => found.wrong += 1,
        }
    }
    found.missing = keys.count() as u64;
    // A record without its metadata is half an answer.
    found.missing += found.right.saturating_sub(metas_right);
    Ok(found)
}

/// Checks a reply of a data plane against the names of the contents that were asked for: each record beside its own name, and
/// metadata for each.
///
/// # Errors
/// When it is not protobuf.
pub fn check_names<'a>(reply: &[u8], mut names: impl Iterator<Item = &'a [u8]>) -> Result<Found> {
    let (mut found, mut metas) = (Found::default(), 0);
    let mut left = reply;
    while !left.is_empty() {
        let (tag, mut value) = field(&mut left)?;
        match (tag, names_left(tag, &mut names)) {
            (ONE, Some(name)) => {
                // The record's bytes are the first field of the message, the content's name the second.
                let (_, record) = field(&mut value)?;
                if record == b"null" {
                    found.missing += 1;
                } else if field(&mut value)? == (TWO, name) {
                    found.right += 1;
                } else {
                    found.wrong += 1;
                }
            }
            (TWO, _) => metas += 1,
            _ => found.wrong += 1,
        }
    }
    found.missing += names.count() as u64;
    let records = found.right + found.wrong + found.missing;
    found.missing += records.saturating_sub(metas);
    Ok(found)
}

/// The next name, where the field is a record.
fn names_left<'a>(tag: u8, names: &mut impl Iterator<Item = &'a [u8]>) -> Option<&'a [u8]> {
    if tag == ONE { names.next() } else { None }
}

/// The key, and bytes that follow from it.
fn write_record(key: &[u8], out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&key[..key.len().min(RECORD)]);
    let hash = hash(key).to_le_bytes();
    while out.len() < RECORD {
        let most = (RECORD - out.len()).min(hash.len());
        out.extend_from_slice(&hash[..most]);
    }
}

fn media(key: &[u8]) -> u8 {
    (hash(key) >> 40) as u8 & 1
}

/// FNV-1a.
fn hash(key: &[u8]) -> u64 {
    key.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The length-prefix of a plain gRPC message.
pub fn prefix(length: usize) -> [u8; PREFIX] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [0, a, b, c, d]
}

/// The message of a body of gRPC.
///
/// # Errors
/// When it is not exactly one plain message.
pub fn unframed(body: Bytes) -> Result<Bytes> {
    ensure!(body.len() >= PREFIX && body[..PREFIX] == prefix(body.len() - PREFIX), "not one plain message");
    Ok(body.slice(PREFIX..))
}

fn write_field(tag: u8, value: &[u8], out: &mut BytesMut) {
    out.put_u8(tag);
    let mut length = value.len();
    while length >= 0x80 {
        out.put_u8(length as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_slice(value);
}

/// Takes one field with a length and a tag of one byte: the messages here have no others.
fn field<'a>(left: &mut &'a [u8]) -> Result<(u8, &'a [u8])> {
    let (tag, mut rest) = left.split_first().context("no field")?;
    ensure!(tag & 7 == 2, "a field that is not expected: {tag:#x}");
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let (byte, more) = rest.split_first().context("cut off")?;
        rest = more;
        ensure!(shift < 28, "a length that is none");
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    ensure!(length <= rest.len(), "cut off");
    let (value, rest) = rest.split_at(length);
    *left = rest;
    Ok((*tag, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| format!("at://did:plc:abc/app.bsky.feed.post/{number}").into_bytes())
            .collect()
    }

    fn of(keys: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> + Clone {
        keys.iter().map(Vec::as_slice)
    }

    #[test]
    fn a_reply_fits_its_request_and_no_other() {
        let keys = keys(300);
        let mut request = BytesMut::new();
        write_request(of(&keys), &mut request);
        let (reply, count) = reply_to(&request).unwrap();
        assert_eq!(count, 300);
        assert_eq!(check(&reply, of(&keys)).unwrap(), Found { right: 300, wrong: 0, missing: 0 });
        let one_less = check(&reply, of(&keys[1..])).unwrap();
        assert!(one_less.wrong > 290, "the order counts: {one_less:?}");
        let (part, _) = reply_to(&[]).unwrap();
        assert_eq!(check(&part, of(&keys)).unwrap(), Found { right: 0, wrong: 0, missing: 300 });
        // Records without metadata are half an answer.
        let records = &reply[..reply.len() - 4 * 300];
        assert_eq!(check(records, of(&keys)).unwrap(), Found { right: 300, wrong: 0, missing: 300 });
    }

    #[test]
    fn a_reply_of_seventy_thousand_keys_is_eight_megabytes() {
        let keys: Vec<Vec<u8>> = (0..70_000).map(|number| format!("{number:070}").into_bytes()).collect();
        let mut request = BytesMut::new();
        write_request(of(&keys), &mut request);
        let (reply, _) = reply_to(&request).unwrap();
        assert!((7_900_000..8_100_000).contains(&reply.len()), "{}", reply.len());
    }

    #[test]
    fn a_data_plane_s_reply_is_checked_by_names() {
        let names: Vec<Vec<u8>> = (0..5).map(|number| format!("name{number}").into_bytes()).collect();
        let reply = |absent: usize| {
            let mut out = BytesMut::new();
            for (place, name) in names.iter().enumerate() {
                let mut record = BytesMut::new();
                write_field(ONE, if place == absent { &b"null"[..] } else { &b"{}"[..] }, &mut record);
                if place != absent {
                    write_field(TWO, name, &mut record);
                    record.extend_from_slice(&[0x20, 1]);
                }
                write_field(ONE, &record, &mut out);
            }
            names.iter().for_each(|_| write_field(TWO, b"", &mut out));
            out
        };
        let whole = reply(9);
        assert_eq!(check_names(&whole, of(&names)).unwrap(), Found { right: 5, wrong: 0, missing: 0 });
        assert_eq!(check_names(&reply(2), of(&names)).unwrap(), Found { right: 4, wrong: 0, missing: 1 });
        let mut swapped = names.clone();
        swapped.swap(0, 1);
        assert_eq!(check_names(&whole, of(&swapped)).unwrap(), Found { right: 3, wrong: 2, missing: 0 });
        let without_metas = &whole[..whole.len() - 10];
        assert_eq!(check_names(without_metas, of(&names)).unwrap().missing, 5);
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let mut request = BytesMut::new();
        write_request(of(&keys(3)), &mut request);
        assert!(reply_to(&request[..request.len() - 1]).is_err());
        let body = Bytes::from([&prefix(request.len())[..], &request].concat());
        assert_eq!(unframed(body.clone()).unwrap(), request);
        assert!(unframed(body.slice(..body.len() - 1)).is_err());
    }
}
