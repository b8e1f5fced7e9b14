//! A process as a label value.
//!
//! The label is the process's short name (`comm` of its main thread), **because weir names callers so too**: a query can
//! join what the kernel saw with what weir counted. A thread's name is never taken while the process can be read, so a
//! pool of `tokio-runtime-w` threads is its program. Interpreters stay `java` or `python3`: their program file says the
//! same, and the `unit` label tells one from another. Only where the short name breaks the rule for names
//! ([`is_valid_name`]: anybody may give a process any name) the program file's name takes its place, and where that
//! breaks it as well the label is `_invalid`.
//!
//! 64 names become label values, the rest is `_other` (`weir_telemetry::probes`); a name keeps its place as long as the
//! process that shows it runs, so that no series changes its meaning.

use crate::picture::Process;
use weir_telemetry::labels::{INVALID, is_valid_name};

/// The name a process goes by in a label.
#[must_use]
pub fn name_of(process: &Process) -> &str {
    if is_valid_name(&process.comm) {
        return &process.comm;
    }
    let file = process.executable.as_deref().map(|path| {
        // What the kernel appends once the file is gone.
        let path = path.strip_suffix(" (deleted)").unwrap_or(path);
        path.rsplit('/').next().unwrap_or(path)
    });
    file.filter(|file| is_valid_name(file)).unwrap_or(INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(comm: &str, executable: Option<&str>) -> Process {
        Process { comm: comm.to_owned(), executable: executable.map(str::to_owned), ..Process::default() }
    }

    #[test]
    fn the_short_name_goes_first_and_the_file_steps_in_for_one_that_breaks_the_rule() {
        for (comm, executable, name) in [
            ("feed-backfill", Some("/usr/bin/python3.13"), "feed-backfill"),
            ("java", Some("/usr/lib/jvm/bin/java"), "java"),
            ("Web Content", Some("/usr/lib/firefox/firefox-bin"), "firefox-bin"),
            ("nginx: worker p", Some("/usr/sbin/nginx (deleted)"), "nginx"),
            ("$(reboot)", Some("/tmp/<script>"), "_invalid"),
            ("\u{1b}[2J", None, "_invalid"),
            ("", None, "_invalid"),
            ("_other", Some("/opt/x/_invalid"), "_invalid"),
        ] {
            assert_eq!(name_of(&process(comm, executable)), name, "{comm:?}");
        }
    }
}
