//! One message as a client got it.

use weir_cql::envelope::{Header, Opcode};
use weir_cql::response::{ErrorBody, ErrorCode, ErrorDetail, ResultBody};
use weir_cql::{Dialect, Response};

/// Cells of rows, as bytes.
pub type Cells = Vec<Vec<Option<Vec<u8>>>>;

/// Header and plain body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its header.
    pub header: Header,
    /// Its body, without compression.
    pub body: Vec<u8>,
}

impl Answer {
    /// Its parts.
    #[track_caller]
    pub fn read(&self) -> Response<'_> {
        let located = Response::locate(&self.header, &self.body, Dialect::of(self.header.version));
        located.expect("a readable answer").1
    }

    /// Code and words of an error; `None` for anything else.
    pub fn error(&self) -> Option<(ErrorCode, String)> {
        match self.read() {
            Response::Error(error) => Some((error.code, String::from_utf8_lossy(error.message).into_owned())),
            _ => None,
        }
    }

    /// Code and words of the error it must be.
    #[track_caller]
    pub fn expect_error(&self) -> (ErrorCode, String) {
        self.error().unwrap_or_else(|| panic!("no error: {:?}", self.read()))
    }

    /// The id it says the server does not know.
    pub fn unprepared(&self) -> Option<Vec<u8>> {
        match self.read() {
            Response::Error(ErrorBody { detail: ErrorDetail::Unprepared(id), .. }) => Some(id.to_vec()),
            _ => None,
        }
    }

    /// Fails with what it says unless it is a result.
    #[track_caller]
    pub fn expect_result(self) -> Answer {
        assert_eq!(self.header.opcode, Opcode::Result, "{:?}", self.error());
        self
    }

    /// The cells of the rows it must be.
    #[track_caller]
    pub fn rows(&self) -> Cells {
        let Response::Result(ResultBody::Rows(rows)) = self.read() else {
            panic!("no rows, but {:?}: {:?}", self.header.opcode, self.error())
        };
        let found: Cells = rows
            .iter(&self.body)
            .map(|row| row.values(&self.body).map(|value| value.of(&self.body).map(<[u8]>::to_vec)).collect())
            .collect();
        assert_eq!(found.len(), rows.count as usize);
        found
    }

    /// The names of its columns.
    #[track_caller]
    pub fn columns(&self) -> Vec<String> {
        let Response::Result(ResultBody::Rows(rows)) = self.read() else {
            panic!("no rows, but {:?}: {:?}", self.header.opcode, self.error())
        };
        let columns = rows.metadata.columns.iter(&self.body);
        columns.map(|column| String::from_utf8_lossy(column.name.of(&self.body)).into_owned()).collect()
    }

    /// The cell of this column in the one row it must have.
    #[track_caller]
    pub fn cell(&self, column: &str) -> Option<Vec<u8>> {
        let rows = self.rows();
        assert_eq!(rows.len(), 1, "one row");
        let index = self.columns().iter().position(|name| name == column);
        rows[0][index.unwrap_or_else(|| panic!("no column {column}"))].clone()
    }

    /// Id, and in v5 the id of the columns, of the statement it must have prepared.
    #[track_caller]
    pub fn prepared(&self) -> Statement {
        let Response::Result(ResultBody::Prepared(prepared)) = self.read() else {
            panic!("not prepared: {:?}", self.read())
        };
        let columns = prepared.result_metadata_id.map(|id| id.of(&self.body).to_vec());
        let names = prepared.result.columns.iter(&self.body);
        Statement {
            id: prepared.id.of(&self.body).to_vec(),
            result_id: columns.unwrap_or_default(),
            columns: names
                .map(|name| String::from_utf8_lossy(name.name.of(&self.body)).into_owned())
                .collect(),
        }
    }
}

/// A prepared statement as a client keeps it.
#[derive(Clone, Debug)]
pub struct Statement {
    /// What EXECUTE names.
    pub id: Vec<u8>,
    /// v5: what names the columns of its rows.
    pub result_id: Vec<u8>,
    /// Names of those columns.
    pub columns: Vec<String>,
}
