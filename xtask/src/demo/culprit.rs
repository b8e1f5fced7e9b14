//! What on-call would have wanted: who it is, in weir's own words, and the command that caps it, run as weir gives it.
//! Everything here comes from the running weir (`weir top --once --json`, `weir explain`); the demo adds nothing.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::stage::CULPRIT;
use crate::process;
use crate::servers::Weir;
use crate::workspace::{Profile, Workspace};

const LIMIT: Duration = Duration::from_secs(10);

/// One caller as weir sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    pub caller: String,
    /// Who, which method, how many keys, since when, what weir did: weir's own sentence.
    pub summary: String,
    /// Its part of all operations and of all requests of the last minute.
    pub work_share: f64,
    pub request_share: f64,
    /// Its largest request of late: operations, and the pieces weir cut it into.
    pub operations: u64,
    pub pieces: u64,
    /// The command that caps it.
    pub command: String,
    /// `weir explain CALLER`, word for word.
    pub explained: String,
}

/// Asks weir who went above its ceiling.
pub fn name(weir: &Weir) -> Result<Culprit> {
    let top = ask(weir, &["top", "--once", "--json"])?;
    let top: Value = serde_json::from_str(&top).context("`weir top --once --json` printed no JSON")?;
    let caller = foremost(&top).context("weir lists no caller with a request above its ceiling")?;
    let explained = ask(weir, &["explain", &caller, "--json"])?;
    let explained: Value =
        serde_json::from_str(&explained).context("`weir explain --json` printed no JSON")?;
    let mut culprit = read(&explained).context("`weir explain` names no command that caps the caller")?;
    culprit.explained = ask(weir, &["explain", &caller])?;
    if !caller.contains(CULPRIT) {
        println!("  note: weir calls it {caller}, not {CULPRIT}: its process was not told apart");
    }
    Ok(culprit)
}

pub fn ask(weir: &Weir, words: &[&str]) -> Result<String> {
    let done = process::run("weir", &mut weir.command(words), LIMIT)?;
    if !done.status.success() {
        bail!("`weir {}` failed: {}", words.join(" "), done.stderr.trim());
    }
    Ok(done.stdout)
}

/// The caller that was above its ceiling most often, and of several such the one with the largest request. Not the
/// largest request alone: it may have come before the process was told apart, and then it stands with the listener.
fn foremost(top: &Value) -> Option<String> {
    let above = |row: &Value| row["limited"]["observed"].as_u64().unwrap_or(0);
    let largest = |row: &Value| row["largest_ever"]["operations"].as_u64().unwrap_or(0);
    let row = top["callers"].as_array()?.iter().max_by_key(|row| (above(row), largest(row)))?;
    above(row).checked_sub(1)?;
    row["caller"].as_str().map(str::to_owned)
}

/// What an explanation says; its first command that refuses requests by their size.
fn read(explained: &Value) -> Option<Culprit> {
    let commands = explained["commands"].as_array()?.iter().filter_map(|advice| advice["command"].as_str());
    let caps = |command: &&str| command.contains("--operations-per-request") && command.contains("refuse");
    let (row, request) = (&explained["rows"][0], &explained["expensive"][0]);
    Some(Culprit {
        caller: explained["caller"].as_str()?.to_owned(),
        summary: explained["summary"].as_str()?.to_owned(),
        work_share: row["work_share"].as_f64()?,
        request_share: row["request_share"].as_f64()?,
        operations: request["operations"].as_u64().unwrap_or(0),
        pieces: request["chunks"].as_u64().unwrap_or(0),
        command: commands.into_iter().find(caps)?.to_owned(),
        explained: String::new(),
    })
}

/// Runs the command as an operator pastes it: in a shell, with weir on the path and the control socket in the
/// environment.
pub fn cap(workspace: &Workspace, weir: &Weir, culprit: &Culprit) -> Result<()> {
    let path = std::env::var("PATH").unwrap_or_default();
    let binaries = workspace.binaries(Profile::Release);
    let mut shell = Command::new("sh");
    shell.args(["-c", &culprit.command]);
    shell.env("PATH", format!("{}:{path}", binaries.display()));
    shell.env("WEIR_ADMIN", format!("unix:{}", weir.admin.display()));
    let done = process::run("sh", &mut shell, LIMIT)?;
    if !done.status.success() {
        bail!("`{}` failed: {}", culprit.command, done.stderr.trim());
    }
    for line in done.stdout.lines() {
        println!("  | {line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_above_its_ceiling_most_often_is_named() {
        let row = |caller: &str, above: u64, largest: u64| {
            serde_json::json!({"caller": caller, "limited": {"observed": above},
                "largest_ever": {"operations": largest, "method": "get"}})
        };
        // The first request, the largest of all, came before the process was known.
        let rows = [row("timeline", 0, 263), row("memcached", 2, 19_912), row("feed-backfill", 9, 19_365)];
        assert_eq!(foremost(&serde_json::json!({ "callers": rows })).as_deref(), Some("feed-backfill"));
        assert_eq!(foremost(&serde_json::json!({ "callers": [row("timeline", 0, 263)] })), None);
    }

    #[test]
    fn an_explanation_gives_the_sentence_and_the_command() {
        let explained = serde_json::json!({
            "caller": "a", "summary": "a asks for 19,912 keys in one get",
            "rows": [{"work_share": 0.9, "request_share": 0.01}],
            "expensive": [{"operations": 19_912, "chunks": 156}],
            "commands": [
                {"does": "pace", "command": "weir limits set a --operations-per-second 100 --mode pace --for 1h"},
                {"does": "cap", "command": "weir limits set a --operations-per-request 2000 --mode refuse --for 1h"}]});
        let culprit = read(&explained).unwrap();
        assert_eq!(culprit.command, "weir limits set a --operations-per-request 2000 --mode refuse --for 1h");
        assert_eq!((culprit.pieces, culprit.summary.as_str()), (156, "a asks for 19,912 keys in one get"));
        assert_eq!(
            read(&serde_json::json!({"caller": "a", "summary": "s", "rows": [], "commands": []})),
            None
        );
    }
}
