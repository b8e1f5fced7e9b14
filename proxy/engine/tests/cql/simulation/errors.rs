//! Which errors a client of the simulation may be told.

use super::{Answer, Expect, World};
use crate::node::REFUSED_OWN;
use weir_cql::response::ErrorCode;

/// Whoever answers this has carried out nothing.
const CARRIES_OUT_NOTHING: [ErrorCode; 5] = [
    ErrorCode::BAD_CREDENTIALS,
    ErrorCode::UNPREPARED,
    ErrorCode::UNAVAILABLE,
    ErrorCode::OVERLOADED,
    ErrorCode::IS_BOOTSTRAPPING,
];

impl World {
    pub(super) fn judge_error(&mut self, expect: &Expect, answer: &Answer, index: usize) {
        let (code, text) = answer.error();
        *self.totals.errors.entry(code.label()).or_default() += 1;
        let writes =
            matches!(expect, Expect::Count(_) | Expect::Set(_) | Expect::SetAll(_) | Expect::HotWrite(_));
        let legal = match code {
            ErrorCode::SERVER_ERROR => text.starts_with("weir: "),
            ErrorCode::READ_TIMEOUT => !writes,
            ErrorCode::UNAVAILABLE | ErrorCode::OVERLOADED | ErrorCode::IS_BOOTSTRAPPING => {
                !matches!(expect, Expect::Prepared(_) | Expect::Supported)
            }
            ErrorCode::WRITE_TIMEOUT => writes || matches!(expect, Expect::Prepared(_)),
            ErrorCode::BAD_CREDENTIALS => text.contains("sign in again"),
            ErrorCode::UNPREPARED => {
                let reads =
                    matches!(expect, Expect::Row(_) | Expect::HotRow(_) | Expect::Many(_) | Expect::Page(..));
                writes || reads
            }
            ErrorCode::INVALID => match expect {
                Expect::Use(keyspace) => *keyspace == "nowhere",
                Expect::RowUnderUse(_, uses) => self.apps[index].chosen(*uses).is_none(),
                // a part whose statement was forgotten, and is not prepared again
                Expect::Many(_) | Expect::Page(..) => {
                    text.contains("gather_bytes_max") || text == REFUSED_OWN
                }
                _ => false,
            },
            _ => false,
        };
        assert!(legal, "{expect:?} was answered {}", answer.describe());
        if let Expect::Count(row) = expect
            && (text.contains("nothing was sent") || CARRIES_OUT_NOTHING.contains(&code))
        {
            self.never.insert(row.clone());
        }
        if let Expect::SetAll(rows) = expect
            && text.contains("nothing was sent")
        {
            self.never.extend(rows.iter().cloned());
        }
    }
}
