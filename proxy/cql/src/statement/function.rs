//! Functions by name: which of them change what a whole `SELECT` returns, and which change from call to call.

/// What the functions of a selection mean for cutting the statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Functions {
    /// A function over rows: `count`, `sum`, `min`, `max`, `avg`.
    pub aggregate: bool,
    /// A function that is not built in: it may be an aggregate, and it may change from call to call.
    pub unknown: bool,
    /// `now()`, `uuid()`, current date and time.
    pub volatile: bool,
}

impl Functions {
    /// Whether each row's result depends on that row alone, so that rows may be fetched in any grouping.
    pub fn row_wise(self) -> bool {
        !self.aggregate && !self.unknown
    }

    /// Whether the same input always gives the same result.
    pub fn deterministic(self) -> bool {
        !self.volatile && !self.unknown
    }

    /// Takes in a call of the function; `name` as written without quotes, `system` when it is named with another keyspace
    /// than `system` or quoted.
    pub(crate) fn add(&mut self, name: &[u8], foreign: bool) {
        let mut lower = [0; NAME_MAX];
        let Some(lower) = lower.get_mut(..name.len()) else {
            self.unknown = true;
            return;
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        if foreign {
            self.unknown = true;
        } else if AGGREGATES.contains(&lower) {
            self.aggregate = true;
        } else if VOLATILE.contains(&lower) {
            self.volatile = true;
        } else if !(STEADY.contains(&lower) || is_blob_conversion(lower)) {
            self.unknown = true;
        }
    }
}

/// Longest name of a built-in function.
const NAME_MAX: usize = 32;

const AGGREGATES: [&[u8]; 5] = [b"count", b"sum", b"min", b"max", b"avg"];

const VOLATILE: [&[u8]; 10] = [
    b"now",
    b"uuid",
    b"currenttimestamp",
    b"current_timestamp",
    b"currentdate",
    b"current_date",
    b"currenttime",
    b"current_time",
    b"currenttimeuuid",
    b"current_timeuuid",
];

const STEADY: [&[u8]; 40] = [
    b"token",
    b"ttl",
    b"writetime",
    b"maxwritetime",
    b"cast",
    b"tojson",
    b"to_json",
    b"fromjson",
    b"from_json",
    b"mintimeuuid",
    b"min_timeuuid",
    b"maxtimeuuid",
    b"max_timeuuid",
    b"dateof",
    b"unixtimestampof",
    b"todate",
    b"to_date",
    b"totimestamp",
    b"to_timestamp",
    b"tounixtimestamp",
    b"to_unix_timestamp",
    b"floor",
    b"abs",
    b"exp",
    b"log",
    b"log10",
    b"round",
    b"similarity_cosine",
    b"similarity_euclidean",
    b"similarity_dot_product",
    b"map_keys",
    b"map_values",
    b"collection_count",
    b"collection_min",
    b"collection_max",
    b"collection_sum",
    b"collection_avg",
    b"mask_null",
    b"mask_inner",
    b"mask_outer",
];

/// `blobasint`, `intasblob`, `blob_as_int`, `int_as_blob` and so on.
fn is_blob_conversion(name: &[u8]) -> bool {
    const TYPES: [&[u8]; 20] = [
        b"ascii",
        b"bigint",
        b"boolean",
        b"counter",
        b"date",
        b"decimal",
        b"double",
        b"duration",
        b"float",
        b"inet",
        b"int",
        b"smallint",
        b"text",
        b"time",
        b"timestamp",
        b"timeuuid",
        b"tinyint",
        b"uuid",
        b"varchar",
        b"varint",
    ];
    let middle = name
        .strip_prefix(b"blob_as_")
        .or_else(|| name.strip_prefix(b"blobas"))
        .or_else(|| name.strip_suffix(b"_as_blob"))
        .or_else(|| name.strip_suffix(b"asblob"));
    middle.is_some_and(|middle| TYPES.contains(&middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Functions {
        let mut functions = Functions::default();
        functions.add(name.as_bytes(), false);
        functions
    }

    #[test]
    fn classes() {
        assert!(!of("COUNT").row_wise() && of("count").deterministic());
        assert!(
            of("toJson").row_wise() && of("bigintAsBlob").deterministic() && of("blob_as_text").row_wise()
        );
        assert!(of("now").row_wise() && !of("NOW").deterministic());
        assert!(!of("my_udf").row_wise() && !of("asblob").deterministic());
        assert!(of(&"x".repeat(1000)).unknown);
        let mut foreign = Functions::default();
        foreign.add(b"abs", true);
        assert!(foreign.unknown);
    }
}
