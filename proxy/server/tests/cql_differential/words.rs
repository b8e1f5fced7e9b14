//! A request in words, for those who have to find out what is wrong.

use crate::kinds::Bound;
use crate::request::{Request, WIRES};
use crate::text::KEYSPACE;
use std::fmt;

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request { way, wire, by_name, page_size, serial, timestamp, keyspace, skip_metadata, .. } = self;
        let (version, options) = WIRES[*wire];
        write!(f, "{way:?} in {} {options:?} at {}", version.name(), self.consistency.name())?;
        write!(
            f,
            ", by name {by_name}, page size {page_size:?}, serial {serial:?}, timestamp {timestamp:?}"
        )?;
        write!(f, ", keyspace {keyspace}, no columns {skip_metadata}, traced {}", self.traced)?;
        write!(f, ", mistake {:?}", self.fault)?;
        for text in &self.texts {
            write!(f, "\n  {}", text.text.replace(KEYSPACE, ""))?;
            for (_, value) in &text.values {
                match value {
                    Bound::Value(bytes) if bytes.len() > 1_000 => write!(f, " [{} bytes]", bytes.len())?,
                    Bound::Value(bytes) => {
                        f.write_str(" 0x")?;
                        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                    }
                    other => write!(f, " {other:?}")?,
                }
            }
        }
        Ok(())
    }
}
