//! What weir itself says after the storm: who it was, what each caller came to on every leg, and the worst request from end to
//! end. All of it is had with weir's own commands; the demo adds nothing.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::demo::culprit::{self, Culprit};
use crate::servers::Weir;

/// weir's words.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Words {
    pub culprit: Culprit,
    /// By caller, the most work first.
    pub callers: Vec<Caller>,
    /// What the data plane asked of the database in all.
    pub database: Database,
    /// The worst request's id, and `weir request ID`, word for word.
    pub worst_id: String,
    pub worst: String,
}

/// Work on the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Database {
    pub operations: u64,
    /// Some of it bore the id of a request: it is told by caller, too.
    pub by_request: bool,
}

/// What a caller's requests came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caller {
    pub name: String,
    pub requests: u64,
    pub keys: u64,
    pub cache_operations: u64,
    pub cache_misses: u64,
    /// Those that bore the id of one of its requests.
    pub database_operations: u64,
}

/// Asks for them.
pub fn ask(weir: &Weir) -> Result<Words> {
    let culprit = culprit::name(weir)?;
    let all = culprit::ask(weir, &["request", "--json"])?;
    let all: Value = serde_json::from_str(&all).context("`weir request --json` printed no JSON")?;
    let worst_id = worst(&all).context("weir ties no request to storage work")?;
    let worst = culprit::ask(weir, &["request", &worst_id])?;
    Ok(Words { culprit, callers: callers(&all), database: database(&all), worst_id, worst })
}

fn count(row: &Value, key: &str) -> u64 {
    row[key].as_u64().unwrap_or(0)
}

fn callers(all: &Value) -> Vec<Caller> {
    let rows = all["callers"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| row["origin"] == "rpc");
    let mut callers: Vec<Caller> = rows
        .map(|row| Caller {
            name: row["caller"].as_str().unwrap_or("?").to_owned(),
            requests: count(row, "requests"),
            keys: count(row, "rpc_keys"),
            cache_operations: count(row, "cache_operations"),
            cache_misses: count(row, "cache_misses"),
            database_operations: count(row, "database_operations"),
        })
        .collect();
    callers.sort_by_key(|caller| std::cmp::Reverse(caller.cache_operations));
    callers
}

fn database(all: &Value) -> Database {
    let rows = all["services"].as_array().into_iter().flatten();
    let rows = rows.filter(|row| count(row, "database_operations") > 0);
    // weir names one service of a request, that of its first leg: what callers came to tells of the others.
    let tied = callers(all).iter().any(|caller| caller.database_operations > 0);
    rows.fold(Database::default(), |database, row| Database {
        operations: database.operations + count(row, "database_operations"),
        by_request: tied || database.by_request || row["says_ids"] == true,
    })
}

/// The request of an RPC that came to the most work: operations on the cache, and on the database those that it said, or at the
/// least one for each key that the cache did not have.
fn worst(all: &Value) -> Option<String> {
    let work = |row: &Value| {
        let database = count(&row["database"], "operations").max(count(&row["cache"], "misses"));
        count(&row["cache"], "operations") + database
    };
    let rows = all["largest"].as_array()?.iter().filter(|row| !row["rpc"].is_null());
    rows.max_by_key(|row| work(row))?["id"].as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn callers_and_the_worst_request_are_found() {
        let all = json!({
            "callers": [
                {"caller": "appview", "origin": "rpc", "requests": 900, "rpc_keys": 20_000, "cache_operations": 21_000},
                {"caller": "memcached", "origin": "service", "requests": 1, "cache_operations": 1_000_000},
                {"caller": "feed-backfill", "origin": "rpc", "requests": 30, "rpc_keys": 500_000,
                 "cache_operations": 500_000, "cache_misses": 30_000},
            ],
            "services": [{"service": "cql", "database_operations": 40_000}, {"service": "memcached"}],
            "largest": [
                {"id": "aa", "rpc": null, "cache": {"operations": 90_000}, "database": {}},
                {"id": "bb", "rpc": {"caller": "feed-backfill"}, "cache": {"operations": 18_000, "misses": 90}, "database": {}},
                {"id": "cc", "rpc": {"caller": "appview"}, "cache": {"operations": 300}, "database": {"operations": 9}},
                {"id": "dd", "rpc": {"caller": "feed-backfill"}, "cache": {"operations": 18_001, "misses": 3}, "database": {}},
            ],
        });
        let names: Vec<_> = callers(&all).into_iter().map(|caller| (caller.name, caller.keys)).collect();
        assert_eq!(names, [("feed-backfill".to_owned(), 500_000), ("appview".to_owned(), 20_000)]);
        assert_eq!(database(&all), Database { operations: 40_000, by_request: false });
        let said = json!({"services": [{"service": "cql", "database_operations": 7, "says_ids": true}]});
        assert_eq!(database(&said), Database { operations: 7, by_request: true });
        let said = json!({
            "callers": [{"caller": "appview", "origin": "rpc", "database_operations": 6}],
            "services": [{"service": "cql", "database_operations": 7}],
        });
        assert_eq!(database(&said), Database { operations: 7, by_request: true });
        assert_eq!(worst(&all).as_deref(), Some("bb"));
        assert_eq!(worst(&json!({"largest": []})), None);
    }
}
