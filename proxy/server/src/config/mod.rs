//! From `weir.toml` (or flags) to a checked configuration.
//!
//! ```text
//! text --file.rs--> drafts (every value typed and within its bounds) --relations.rs--> checked::Config
//! ```
//! The key tables (`keys/`) say name, kind, bounds, default and meaning of every key once; they drive the reading, the
//! reference (docs/configuration.md), the effective configuration that `/config` shows and what `weir check --against`
//! compares. Every problem of a file is told at once, with its place and what to write instead.

pub mod address;
pub mod checked;
pub mod effective;
mod file;
mod flags;
pub mod host;
mod keys;
pub mod problem;
pub mod quantity;
pub mod reference;
mod relations;
mod rules;
pub mod schema;
mod values;

pub use checked::{
    Config, ConfigHash, Door, DoorTls, Group, OnClientClose, PrincipalKind, PrincipalRule, ProcessConfig,
    ServiceTable,
};
pub use host::Host;
pub use keys::{Checked, ServiceDraft, Speaks};
pub use problem::{Problem, Problems, Severity};
pub use values::is_name;

use crate::cli::RunArgs;
use std::io::Read as _;
use std::path::Path;

impl Config {
    /// Reads and checks a file against this machine.
    ///
    /// # Errors
    /// Every problem of the file.
    pub fn from_file(path: &Path) -> Result<Config, Problems> {
        let text = read_text(path)?;
        Config::from_text(&problem::file_name(path), &text, &Host::read())
    }

    /// Checks the text of a file; `name` is how places are told.
    ///
    /// # Errors
    /// Every problem of the text.
    pub fn from_text(name: &str, text: &str, host: &Host) -> Result<Config, Problems> {
        let mut collector = file::Collector::of_file(name, text);
        let (shape, whole) = file::read_file(&mut collector, text, host);
        if !whole {
            return Err(Problems(collector.finish()));
        }
        relations::check(collector, shape, host)
    }

    /// What `weir run` was told: the file with the flags on top, or the flags alone.
    ///
    /// # Errors
    /// Every problem of the file or of the flags.
    pub fn from_flags(args: &RunArgs) -> Result<Config, Problems> {
        flags::read(args, &Host::read())
    }
}

/// Reads a file of at most [`keys::FILE_MAX`] bytes.
fn read_text(path: &Path) -> Result<String, Problems> {
    let name = problem::file_name(path);
    let fail = |what: String| Problems(vec![Problem::error("", format!("{name}: {what}"))]);
    let file = std::fs::File::open(path).map_err(|error| fail(format!("cannot be opened: {error}")))?;
    let mut bytes = Vec::new();
    file.take(keys::FILE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > keys::FILE_MAX {
        return Err(fail(format!("is larger than {} bytes", keys::FILE_MAX)));
    }
    String::from_utf8(bytes).map_err(|error| {
        fail(format!("is not UTF-8 text (byte {} is not)", error.utf8_error().valid_up_to()))
    })
}
