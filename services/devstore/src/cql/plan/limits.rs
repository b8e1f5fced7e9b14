//! `LIMIT`, `TTL` and `TIMESTAMP`: numbers that are bound or written.

use weir_cql::{CqlType, Native};

use super::value::{Env, Value, value};
use crate::cql::parse::ast::Term;
use crate::cql::refusal::Refusal;
use crate::cql::schema::options::TTL_MAX;

/// `LIMIT` and `PER PARTITION LIMIT`; `None` where there is none.
///
/// # Errors
/// Invalid unless it is above zero.
pub fn limit(term: Option<&Term>, env: &Env<'_>) -> Result<Option<u32>, Refusal> {
    let Some(term) = term else { return Ok(None) };
    let bytes = match value(term, &CqlType::Native(Native::Int), "[limit]", env)? {
        Value::Bytes(bytes) => bytes,
        Value::Null => return Err(Refusal::invalid("Invalid null value of limit")),
        Value::Unset => return Ok(None),
    };
    let number = bytes.try_into().map(i32::from_be_bytes).unwrap_or(0);
    u32::try_from(number)
        .ok()
        .filter(|limit| *limit > 0)
        .map(Some)
        .ok_or_else(|| Refusal::invalid("LIMIT must be strictly positive"))
}

/// `USING TIMESTAMP`, microseconds; `None` where there is none.
///
/// # Errors
/// Invalid for null.
pub fn timestamp(term: Option<&Term>, env: &Env<'_>) -> Result<Option<i64>, Refusal> {
    let Some(term) = term else { return Ok(None) };
    match value(term, &CqlType::Native(Native::Bigint), "[timestamp]", env)? {
        Value::Bytes(bytes) => {
            let micros = bytes.try_into().map(i64::from_be_bytes);
            let micros = micros.map_err(|_| Refusal::invalid("Invalid timestamp value"))?;
            if micros == i64::MIN {
                return Err(Refusal::invalid(
                    "Out of bound timestamp, must be in [-9223372036854775807, 9223372036854775807]",
                ));
            }
            Ok(Some(micros))
        }
        Value::Null => Err(Refusal::invalid("Invalid null value of timestamp")),
        Value::Unset => Ok(None),
    }
}

/// `USING TTL`, seconds, or the table's own; 0: none.
///
/// # Errors
/// Invalid below zero and above 20 years.
pub fn ttl(term: Option<&Term>, own: u32, env: &Env<'_>) -> Result<u32, Refusal> {
    let Some(term) = term else { return Ok(own) };
    match value(term, &CqlType::Native(Native::Int), "[ttl]", env)? {
        Value::Bytes(bytes) if !bytes.is_empty() => {
            let seconds = bytes.try_into().map(i32::from_be_bytes).unwrap_or(-1);
            if seconds < 0 {
                return Err(Refusal::invalid(format!(
                    "A TTL must be greater or equal to 0, but was {seconds}"
                )));
            }
            if i64::from(seconds) > TTL_MAX {
                return Err(Refusal::invalid(format!(
                    "ttl is too large. requested ({seconds}) maximum ({TTL_MAX})"
                )));
            }
            Ok(seconds.unsigned_abs())
        }
        _ => Ok(own),
    }
}
