//! EVENT, and the schema change that RESULT and EVENT share.

use std::net::SocketAddr;

use crate::error::Malformed;
use crate::read::Cursor;
use crate::write;

/// What a server tells without being asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event<'a> {
    /// TOPOLOGY_CHANGE
    Topology {
        /// `NEW_NODE`, `REMOVED_NODE`, `MOVED_NODE`
        change: &'a [u8],
        /// The node.
        node: SocketAddr,
    },
    /// STATUS_CHANGE
    Status {
        /// `UP`, `DOWN`
        change: &'a [u8],
        /// The node.
        node: SocketAddr,
    },
    /// SCHEMA_CHANGE
    Schema(SchemaChange<'a>),
    /// An event that is not in the specification (Scylla has CLIENT_ROUTES_CHANGE).
    Other {
        /// Its type.
        kind: &'a [u8],
        /// What is behind the type.
        rest: &'a [u8],
    },
}

impl<'a> Event<'a> {
    /// The event type that REGISTER asks for.
    pub const fn kind(&self) -> &'a [u8] {
        match self {
            Event::Topology { .. } => b"TOPOLOGY_CHANGE",
            Event::Status { .. } => b"STATUS_CHANGE",
            Event::Schema(_) => b"SCHEMA_CHANGE",
            Event::Other { kind, .. } => kind,
        }
    }

    /// Reads an EVENT; `cursor` is over `body`.
    pub fn read(body: &'a [u8], cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        Ok(match cursor.string()?.of(body) {
            b"TOPOLOGY_CHANGE" => Event::Topology { change: cursor.string()?.of(body), node: cursor.inet()? },
            b"STATUS_CHANGE" => Event::Status { change: cursor.string()?.of(body), node: cursor.inet()? },
            b"SCHEMA_CHANGE" => Event::Schema(SchemaChange::read(body, cursor)?),
            kind => Event::Other { kind, rest: cursor.rest().of(body) },
        })
    }

    /// Writes the body of an EVENT.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::short_bytes(out, self.kind());
        match self {
            Event::Topology { change, node } | Event::Status { change, node } => {
                write::short_bytes(out, change);
                write::inet(out, *node);
            }
            Event::Schema(change) => change.write(out),
            Event::Other { rest, .. } => out.extend_from_slice(rest),
        }
    }
}

/// What changed in the schema.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SchemaChange<'a> {
    /// `CREATED`, `UPDATED`, `DROPPED`
    pub change: &'a [u8],
    /// What of it.
    pub target: Target<'a>,
    /// In which keyspace.
    pub keyspace: &'a [u8],
}

/// What a schema change is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// The keyspace itself.
    Keyspace,
    /// This table.
    Table(&'a [u8]),
    /// This user-defined type.
    Type(&'a [u8]),
    /// This function (v4 and later).
    Function {
        /// Its name.
        name: &'a [u8],
        /// The types of its arguments: a \[string list\] with its count.
        arguments: &'a [u8],
    },
    /// This aggregate (v4 and later).
    Aggregate {
        /// Its name.
        name: &'a [u8],
        /// The types of its arguments: a \[string list\] with its count.
        arguments: &'a [u8],
    },
}

impl<'a> SchemaChange<'a> {
    /// Reads the three or more fields; `cursor` is over `body`.
    pub fn read(body: &'a [u8], cursor: &mut Cursor<'_>) -> Result<Self, Malformed> {
        let change = cursor.string()?.of(body);
        let target = cursor.string()?.of(body);
        let keyspace = cursor.string()?.of(body);
        let mut name = || cursor.string().map(|name| name.of(body));
        let target = match target {
            b"KEYSPACE" => Target::Keyspace,
            b"TABLE" => Target::Table(name()?),
            b"TYPE" => Target::Type(name()?),
            b"FUNCTION" => Target::Function { name: name()?, arguments: cursor.string_list()?.of(body) },
            b"AGGREGATE" => Target::Aggregate { name: name()?, arguments: cursor.string_list()?.of(body) },
            _ => return Err(Malformed::UnknownKind),
        };
        Ok(Self { change, target, keyspace })
    }

    /// Writes the fields.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::short_bytes(out, self.change);
        let (target, name, arguments): (&str, Option<&[u8]>, &[u8]) = match self.target {
            Target::Keyspace => ("KEYSPACE", None, b""),
            Target::Table(name) => ("TABLE", Some(name), b""),
            Target::Type(name) => ("TYPE", Some(name), b""),
            Target::Function { name, arguments } => ("FUNCTION", Some(name), arguments),
            Target::Aggregate { name, arguments } => ("AGGREGATE", Some(name), arguments),
        };
        write::string(out, target);
        write::short_bytes(out, self.keyspace);
        if let Some(name) = name {
            write::short_bytes(out, name);
        }
        out.extend_from_slice(arguments);
    }
}
