//! `weir fingerprint`.

use super::{Failure, print};
use crate::cli::FingerprintArgs;
use crate::config::problem::Escaped;
use weir_cql::statement::{fingerprint, qualify, read};

pub(super) fn run(args: &FingerprintArgs) -> Result<u8, Failure> {
    print(&(line(&args.statement, args.keyspace.as_deref()).map_err(Failure::unknown)? + "\n"))?;
    Ok(0)
}

/// The fingerprint of a statement asked in `keyspace`, and what it is made of.
///
/// # Errors
/// When no rule can be for this statement: what to write instead.
pub fn line(statement: &str, keyspace: Option<&str>) -> Result<String, String> {
    let known = read(statement.as_bytes());
    let qualified = keyspace.and_then(|keyspace| qualify(&known, statement.as_bytes(), keyspace));
    let print = fingerprint(qualified.as_deref().unwrap_or(statement.as_bytes()));
    if !print.complete {
        return Err("the statement is no CQL throughout, or too long to be told from others".to_owned());
    }
    // what a table has without a keyspace depends on USE
    let unqualified = keyspace.is_none()
        && qualify(&known, statement.as_bytes(), "k").is_some_and(|with| *with != *statement.as_bytes());
    if unqualified {
        return Err("name the keyspace of the table, in the statement or with --keyspace".to_owned());
    }
    Ok(format!("{:016x}  {}", print.hash, Escaped(&print.text)))
}
