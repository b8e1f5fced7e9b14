//! Tables that come with weir.

use super::{Entries, Problem, Table, parse};
use crate::schema::{ProtoFile, Schema};

/// A schema and the table for it, as text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preset {
    /// What a configuration calls it.
    pub name: &'static str,
    /// Its .proto file.
    pub proto: ProtoFile<'static>,
    /// Its entries.
    pub table: &'static str,
    /// Headers of requests that make a difference to the answers of its HTTP side (XRPC).
    pub cache_headers: &'static [&'static str],
}

impl Preset {
    /// Its entries, to be joined with those of a configuration.
    pub fn entries(&self) -> Result<Entries, Vec<Problem>> {
        parse(self.table)
    }

    /// Its table alone.
    pub fn load(&self) -> Result<Table, Vec<Problem>> {
        let schema = Schema::compile(&[self.proto]);
        let schema = schema.map_err(|error| vec![Problem::new(self.name, "", error.to_string())])?;
        Table::check(&schema, &self.entries()?)
    }
}

/// Every preset.
pub const PRESETS: &[Preset] = &[Preset {
    name: "bsky",
    proto: ProtoFile { name: "bsky.proto", text: include_str!("../../presets/bsky.proto") },
    table: include_str!("../../presets/bsky.toml"),
    cache_headers: &["accept-language", "atproto-accept-labelers", "atproto-proxy"],
}];

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}
