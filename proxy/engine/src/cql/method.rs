//! What a request does, as a bounded label: the first word of its statement.

use crate::ledger::Method as LedgerMethod;
use weir_cql::statement::Kind;

/// The method of a CQL request in metrics, limits and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// `SELECT`, prepared or not.
    Select,
    /// `INSERT`.
    Insert,
    /// `UPDATE`.
    Update,
    /// `DELETE`.
    Delete,
    /// A BATCH message or `BEGIN BATCH`.
    Batch,
    /// PREPARE.
    Prepare,
    /// `USE`.
    Use,
    /// `CREATE`, `ALTER`, `DROP`, `TRUNCATE`, roles and permissions.
    Schema,
    /// Reads of `system` and `system_schema` tables: what drivers ask at start.
    System,
    /// A statement weir does not know.
    Other,
    /// OPTIONS, STARTUP, REGISTER, AUTH_RESPONSE: never sent to a node.
    Control,
    /// Nothing that could be read.
    Invalid,
}

impl Method {
    /// How many methods there are.
    pub const COUNT: usize = 12;

    /// Every method, in the order of [`Method::index`].
    pub const ALL: [Method; Method::COUNT] = [
        Method::Select,
        Method::Insert,
        Method::Update,
        Method::Delete,
        Method::Batch,
        Method::Prepare,
        Method::Use,
        Method::Schema,
        Method::System,
        Method::Other,
        Method::Control,
        Method::Invalid,
    ];

    /// Position in [`Method::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Bounded label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Method::Select => "select",
            Method::Insert => "insert",
            Method::Update => "update",
            Method::Delete => "delete",
            Method::Batch => "batch",
            Method::Prepare => "prepare",
            Method::Use => "use",
            Method::Schema => "schema",
            Method::System => "system",
            Method::Other => "other",
            Method::Control => "control",
            Method::Invalid => "invalid",
        }
    }

    pub(super) fn of(kind: Kind) -> Method {
        match kind {
            Kind::Select => Method::Select,
            Kind::Insert => Method::Insert,
            Kind::Update => Method::Update,
            Kind::Delete => Method::Delete,
            Kind::Batch => Method::Batch,
            Kind::Use => Method::Use,
            Kind::Truncate | Kind::Schema | Kind::Access => Method::Schema,
            Kind::Describe | Kind::Prune | Kind::Unknown => Method::Other,
        }
    }
}

impl From<Method> for LedgerMethod {
    fn from(method: Method) -> LedgerMethod {
        LedgerMethod(method as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_listed_in_the_order_of_their_index() {
        for (index, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(method.index(), index);
        }
    }
}
