//! Whether two answers are the same, and the only differences that weir is allowed.
//!
//! Through weir everything is what the node says: opcode, rows in their order, columns and their flags, page states,
//! warnings, codes, words and details of errors. The exceptions, by design (`docs/cql.md`):
//!
//! 1. The pages of a request that was split end elsewhere and have states of weir's own: [`pages`] holds them against
//!    what is promised of them. Rows, order, columns and warnings of all pages together are those of the node.
//! 2. The id of a trace is a new one each time.
//! 3. A kept answer is as old as `cache_ttl` says: what `TTL()` tells goes on. Such statements are asked of no weir that
//!    keeps answers ([`crate::run`]).
//! 4. What was prepared is known to the worker it was prepared through: another one says UNPREPARED, and its client
//!    prepares again as drivers do ([`crate::doors`]). UNPREPARED is weir's own answer: with the id,
//!    but in other words, and not traced.
//! 5. A node warns once per connection of prepared statements whose names have no keyspace. The connections are weir's.

use crate::doors::{Exchange, next_page};
use crate::request::Request;
use crate::support_cql::answer::Answer;
use weir_cql::request::Change;
use weir_cql::response::{MetadataEdit, Prefix, ResultBody};
use weir_cql::{Cursor, Dialect, Opcode};

/// How the page states of weir begin.
const OWN_STATE: &[u8] = b"\xffwin";
/// How the warning begins that a node gives once per connection.
const ONCE: &str = "`USE <keyspace>` with prepared statements";

/// One answer without what may differ.
#[derive(Clone, Debug, PartialEq)]
struct Page {
    opcode: Opcode,
    traced: bool,
    payload: bool,
    warnings: Vec<String>,
    /// Rows, each as it came; none of other answers.
    rows: Vec<Vec<u8>>,
    /// Where pages go on.
    state: Option<Vec<u8>>,
    /// Of rows the metadata without the state; of others the message.
    rest: Vec<u8>,
}

fn page(answer: &Answer) -> Page {
    let (header, body) = (&answer.header, &answer.body);
    let prefix = Prefix::locate(header.version, header.flags, body).expect("a prefix");
    let text = |warning: &[u8]| String::from_utf8_lossy(warning).into_owned();
    let mut page = Page {
        opcode: header.opcode,
        traced: prefix.tracing_id.is_some() && answer.unprepared().is_none(),
        payload: prefix.payload.is_some(),
        warnings: prefix.warnings(body).map(text).filter(|warning| !warning.starts_with(ONCE)).collect(),
        rows: Vec::new(),
        state: next_page(answer),
        rest: match answer.unprepared() {
            Some(id) => [b"UNPREPARED", &id[..]].concat(),
            None => prefix.message.of(body).to_vec(),
        },
    };
    let mut cursor = Cursor::within(body, prefix.message);
    if header.opcode == Opcode::Result
        && let Ok(ResultBody::Rows(rows)) = ResultBody::locate(&mut cursor, Dialect::of(header.version))
    {
        page.rows = rows.iter(body).map(|row| row.span.of(body).to_vec()).collect();
        assert_eq!(page.rows.len(), rows.count as usize, "rows are as many as were announced");
        page.rest.clear();
        let edit = MetadataEdit { paging_state: Change::Remove, ..MetadataEdit::default() };
        rows.metadata.rewrite(body, &edit, &mut page.rest);
    }
    page
}

/// What two exchanges are compared by.
#[derive(Clone, Copy)]
pub struct Allowed<'a> {
    /// Requests may have been split.
    pub split: bool,
    /// The keyspaces they are about: of equal length.
    pub keyspaces: (&'a str, &'a str),
}

/// Compares what was answered through a weir, or in the other keyspace, with what the node answers.
///
/// # Errors
/// What differs.
pub fn same(
    request: &Request,
    direct: &Exchange,
    other: &Exchange,
    allowed: Allowed<'_>,
) -> Result<(), String> {
    let (from, to) = allowed.keyspaces;
    let renamed = |answer: &Answer| Answer { body: replaced(&answer.body, from, to), ..answer.clone() };
    if from == to {
        let prepared = |exchange: &Exchange| exchange.prepared.iter().map(page).collect::<Vec<_>>();
        one_by_one("PREPARED", &prepared(direct), &prepared(other))?;
    }
    let theirs: Vec<Page> = direct.pages.iter().map(page).collect();
    let ours: Vec<Page> = other.pages.iter().map(|answer| page(&renamed(answer))).collect();
    let own_state = |page: &Page| page.state.as_ref().is_some_and(|state| state.starts_with(OWN_STATE));
    let fewer = ours.len() < theirs.len() && request.page_size.is_some();
    if allowed.split && (ours.iter().any(own_state) || fewer) {
        return pages(request, &theirs, &ours);
    }
    one_by_one("page", &theirs, &ours)
}

fn one_by_one(what: &str, theirs: &[Page], ours: &[Page]) -> Result<(), String> {
    for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
        if theirs != ours {
            return Err(format!("{what} {at}: {}", difference(theirs, ours)));
        }
    }
    if theirs.len() != ours.len() {
        return Err(format!("{} of {what} instead of {}", ours.len(), theirs.len()));
    }
    Ok(())
}

/// The pages of a request that was split: together they are those of the node; none is much longer than asked for, none
/// is cut short without need, and they are no more.
fn pages(request: &Request, theirs: &[Page], ours: &[Page]) -> Result<(), String> {
    let together = |pages: &[Page]| {
        let mut whole = pages[0].clone();
        whole.state = None;
        for page in &pages[1..] {
            whole.rows.extend_from_slice(&page.rows);
            whole.warnings.extend_from_slice(&page.warnings);
            // an error, which must be the last
            whole.opcode = page.opcode;
            if page.opcode == Opcode::Error {
                whole.rest = page.rest.clone();
            }
        }
        whole.warnings.sort();
        whole.warnings.dedup();
        whole
    };
    let (whole, wanted) = (together(ours), together(theirs));
    if whole != wanted {
        return Err(format!("the pages together: {}", difference(&wanted, &whole)));
    }
    let size = request.page_size.filter(|size| *size > 0).ok_or("pages nobody asked for")? as usize;
    for (at, page) in ours.iter().enumerate() {
        let last = at + 1 == ours.len();
        // what is left of one part, and a part is asked for a page
        if page.rows.len() >= size * 2 || (!last && page.rows.len() < size) {
            return Err(format!("page {at} of {} has {} rows of {size}", ours.len(), page.rows.len()));
        }
        if page.opcode == Opcode::Result && page.rest != ours[0].rest {
            return Err(format!("page {at} has other columns"));
        }
    }
    if ours.len() > theirs.len() {
        return Err(format!("{} pages instead of {}", ours.len(), theirs.len()));
    }
    Ok(())
}

/// The first thing that differs, in words.
fn difference(theirs: &Page, ours: &Page) -> String {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
    if theirs.opcode != ours.opcode {
        let of = |page: &Page| format!("{:?} {}", page.opcode, words(&page.rest));
        format!("{} instead of {}", of(ours), of(theirs))
    } else if theirs.rest != ours.rest {
        format!("{:?} of {} instead of {}", ours.opcode, words(&ours.rest), words(&theirs.rest))
    } else if theirs.rows != ours.rows {
        let at = theirs.rows.iter().zip(&ours.rows).take_while(|(theirs, ours)| theirs == ours).count();
        let row = |page: &Page| page.rows.get(at).map(|row| words(row));
        let (had, wanted) = (ours.rows.len(), theirs.rows.len());
        format!("{had} rows instead of {wanted}; row {at}: {:?} instead of {:?}", row(ours), row(theirs))
    } else if theirs.warnings != ours.warnings {
        format!("warnings {:?} instead of {:?}", ours.warnings, theirs.warnings)
    } else if theirs.state != ours.state {
        let of = |page: &Page| page.state.as_deref().map(words);
        format!("page state {:?} instead of {:?}", of(ours), of(theirs))
    } else {
        format!(
            "traced, payload: {:?} instead of {:?}",
            (ours.traced, ours.payload),
            (theirs.traced, theirs.payload)
        )
    }
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "lengths in front of names stay true");
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> = bytes
        .windows(to.len())
        .enumerate()
        .filter(|(_, at)| *at == to.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in places {
        bytes[at..at + from.len()].copy_from_slice(from.as_bytes());
    }
    bytes
}
