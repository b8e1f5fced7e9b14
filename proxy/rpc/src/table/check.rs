//! Entries held against descriptors.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};

use super::file::{Entries, KEYS, MergeEntry, MethodEntry};
use super::{Method, Problem, json};
use crate::json::JsonPlan;
use crate::scan::{COUNTS_MAX, ScanPlan, Step};
use crate::schema::prost_reflect;
use crate::schema::{NoPath, Path, Schema, elements, find_path, method_name};
use crate::split::{Number, REPLY_FIELDS_MAX, ReplyField, Rule, SplitPlan};
use crate::wire::Elements;

pub(super) fn check(
    schema: &Schema,
    entries: &Entries,
) -> Result<BTreeMap<Box<str>, Arc<Method>>, Vec<Problem>> {
    let described: BTreeMap<String, MethodDescriptor> =
        schema.methods().into_iter().map(|method| (method_name(&method), method)).collect();
    let mut problems = Vec::new();
    for name in entries.keys().filter(|name| !described.contains_key(plain(name))) {
        let problem = Problem::new(name, "", "is not in the schema");
        problems.push(problem.like(plain(name), described.keys().map(String::as_str)));
    }
    let none = MethodEntry::default();
    let mut methods = BTreeMap::new();
    for (name, method) in &described {
        let entry = entries.get(name).or_else(|| entries.get(&format!("/{name}"))).unwrap_or(&none);
        let mut checker = Checker { name, problems: &mut problems };
        let method = checker.method(method, entry);
        methods.insert(method.name.clone(), Arc::new(method));
    }
    if problems.is_empty() { Ok(methods) } else { Err(problems) }
}

/// A method may be written as the path that clients ask for.
fn plain(name: &str) -> &str {
    name.strip_prefix('/').unwrap_or(name)
}

/// What a path is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Keys,
    Rows,
}

impl Role {
    const fn key(self) -> &'static str {
        match self {
            Role::Keys => "keys",
            Role::Rows => "rows",
        }
    }
}

struct Checker<'a> {
    name: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, key: impl Into<String>, what: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::new(self.name, key, what));
        // Just pushed.
        let last = self.problems.len() - 1;
        &mut self.problems[last]
    }

    fn method(&mut self, method: &MethodDescriptor, entry: &MethodEntry) -> Method {
        for key in entry.unknown.keys() {
            let problem = Problem::new(self.name, key, "no such key");
            self.problems.push(problem.like(key, KEYS));
        }
        let (request, reply) = (method.input(), method.output());
        let (keys, request_plan, request_json) = self.counts(Role::Keys, &request, &entry.keys);
        let rows = entry.rows.clone().unwrap_or_else(|| {
            let repeated = reply.fields().filter(|field| field.is_list() || field.is_map());
            repeated
                .filter(|field| elements(field).is_some())
                .take(COUNTS_MAX)
                .map(|field| field.name().to_owned())
                .collect()
        });
        let (rows, reply_plan, reply_json) = self.counts(Role::Rows, &reply, &rows);
        let streaming = method.is_client_streaming() || method.is_server_streaming();
        let split = match &entry.split {
            Some(key) => self.split(&request, &reply, key, entry, streaming),
            None => {
                let merging = !entry.positional.is_empty() || !entry.merge.is_empty();
                if merging {
                    self.problem("split", "is missing: `positional` and `merge` have no meaning without it");
                }
                None
            }
        };
        Method {
            name: self.name.into(),
            keys,
            request: request_plan,
            request_json,
            rows,
            reply: reply_plan,
            reply_json,
            split: split.map(Arc::new),
            streaming,
        }
    }

    /// The plans that count `paths` in `message`.
    fn counts(
        &mut self,
        role: Role,
        message: &MessageDescriptor,
        paths: &[String],
    ) -> (Vec<Box<str>>, Arc<ScanPlan>, Arc<JsonPlan>) {
        let mut found: Vec<Path> = Vec::new();
        let mut names: Vec<Box<str>> = Vec::new();
        for path in paths {
            if names.iter().any(|name| **name == **path) {
                self.problem(role.key(), format!("`{path}` is listed twice"));
                continue;
            }
            let Some(fields) = self.path(role.key(), message, path) else { continue };
            if fields.is_repeated() {
                names.push(path.as_str().into());
                found.push(fields);
            } else {
                self.problem(role.key(), format!("`{path}` is not repeated: every message has at most one"));
            }
        }
        let steps: Vec<Vec<Step>> = found.iter().map(|path| path.steps.clone()).collect();
        let plan = ScanPlan::new(&steps);
        let spellings = |path: &Path| -> Vec<Vec<String>> {
            let both = |field: &FieldDescriptor| vec![field.name().to_owned(), field.json_name().to_owned()];
            path.fields.iter().map(both).collect()
        };
        let spellings: Vec<Vec<Vec<String>>> = found.iter().map(spellings).collect();
        let borrowed: Vec<Vec<Vec<&str>>> = spellings
            .iter()
            .map(|path| path.iter().map(|names| names.iter().map(String::as_str).collect()).collect())
            .collect();
        let json = JsonPlan::new(&borrowed);
        for error in [plan.as_ref().err(), json.as_ref().err()].into_iter().flatten().take(1) {
            self.problem(role.key(), error.to_string());
        }
        (names, Arc::new(plan.unwrap_or_default()), Arc::new(json.unwrap_or_default()))
    }

    /// Finds a path, or says what is wrong with it.
    fn path(&mut self, key: &str, message: &MessageDescriptor, path: &str) -> Option<Path> {
        match find_path(message, path) {
            Ok(path) => return Some(path),
            Err(NoPath::NoField { message, name }) => {
                let what = format!("{} has no field `{name}`", message.full_name());
                let known: Vec<FieldDescriptor> = message.fields().collect();
                let problem = Problem::new(self.name, key, what);
                self.problems.push(problem.like(&name, known.iter().map(|field| field.name())));
            }
            Err(NoPath::NoMessage { field }) => {
                self.problem(key, format!("`{path}`: `{field}` is not a message"));
            }
            Err(NoPath::Group { field }) => {
                self.problem(key, format!("`{path}`: `{field}` is a group, which is not supported"));
            }
        }
        None
    }

    fn split(
        &mut self,
        request: &MessageDescriptor,
        reply: &MessageDescriptor,
        key: &str,
        entry: &MethodEntry,
        streaming: bool,
    ) -> Option<SplitPlan> {
        if streaming {
            self.problem("split", "the method streams; only calls of one request and one reply can be split");
        }
        let key_step = self.key(request, key, entry);
        for (name, listed) in entry.positional.iter().map(|name| (name, "positional")).chain(
            // The name of a merge rule is part of its key.
            entry.merge.keys().map(|name| (name, "merge")),
        ) {
            if reply.get_field_by_name(name).is_none() {
                let what = format!("{} has no field `{name}`", reply.full_name());
                let known: Vec<FieldDescriptor> = reply.fields().collect();
                let problem = Problem::new(self.name, listed, what);
                self.problems.push(problem.like(name, known.iter().map(|field| field.name())));
            }
        }
        if reply.fields().len() > REPLY_FIELDS_MAX {
            self.problem("split", format!("{} has more than {REPLY_FIELDS_MAX} fields", reply.full_name()));
        }
        let fields: Vec<Option<ReplyField>> =
            reply.fields().map(|field| self.reply_field(&field, entry)).collect();
        let mut fields: Vec<ReplyField> = fields.into_iter().collect::<Option<_>>()?;
        fields.sort_by_key(|field| field.step.number);
        let key = key_step?;
        let json = json::split(request, reply, key, &fields).map(Arc::new);
        Some(SplitPlan { key, reply: fields, json })
    }

    /// The field that requests are cut at.
    fn key(&mut self, request: &MessageDescriptor, key: &str, entry: &MethodEntry) -> Option<Step> {
        let path = self.path("split", request, key)?;
        let [field] = path.fields.as_slice() else {
            self.problem(
                "split",
                format!("`{key}` lies inside a message: only the request itself can be cut"),
            );
            return None;
        };
        if !field.is_list() {
            self.problem("split", format!("`{key}` is not a repeated field"));
            return None;
        }
        if !entry.keys.iter().any(|counted| counted == key) {
            self.problem("split", format!("`{key}` is not among `keys`: what is cut must be counted"));
        }
        path.steps.first().copied()
    }

    fn reply_field(&mut self, field: &FieldDescriptor, entry: &MethodEntry) -> Option<ReplyField> {
        let name = field.name();
        let positional = entry.positional.iter().any(|listed| listed == name);
        let repeated = field.is_list() || field.is_map();
        let Some(elements) = elements(field) else {
            self.problem("split", format!("reply field `{name}` is a group, which is not supported"));
            return None;
        };
        if field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic()) {
            self.problem(
                "split",
                format!("reply field `{name}` is in a oneof, which cannot be put together"),
            );
            return None;
        }
        let key = format!("merge.{name}");
        let rule = match (positional, entry.merge.get(name)) {
            (true, Some(_)) => {
                self.problem(key, "the field is positional and needs no rule");
                return None;
            }
            (true, None) if field.is_list() => Rule::Positional,
            (true, None) => {
                self.problem("positional", format!("`{name}` is not a repeated field"));
                return None;
            }
            (false, Some(rule)) => self.rule(field, rule, repeated)?,
            (false, None) => {
                let choices = if repeated {
                    "`positional`, \"concat\" or { distinct = ... }"
                } else {
                    "\"first\", \"equal\" or \"sum\""
                };
                self.problem(key, format!("the reply field has no rule: {choices}"));
                return None;
            }
        };
        let step = Step { number: field.number(), elements };
        Some(ReplyField { step, name: name.into(), repeated, rule })
    }

    fn rule(&mut self, field: &FieldDescriptor, rule: &MergeEntry, repeated: bool) -> Option<Rule> {
        let key = format!("merge.{}", field.name());
        let wrong = match (rule, repeated) {
            (MergeEntry::Concat, true) => return Some(Rule::Concat),
            (MergeEntry::First, false) => return Some(Rule::First),
            (MergeEntry::Equal, false) => return Some(Rule::Equal),
            (MergeEntry::Sum, false) => match number(&field.kind()) {
                Some(number) => return Some(Rule::Sum(number)),
                None => "\"sum\" needs a number",
            },
            (MergeEntry::Distinct(path), true) => return self.distinct(field, &key, path),
            (MergeEntry::Concat | MergeEntry::Distinct(_), false) => "the field is not repeated",
            (MergeEntry::First | MergeEntry::Equal | MergeEntry::Sum, true) => "the field is repeated",
        };
        self.problem(key, wrong);
        None
    }

    fn distinct(&mut self, field: &FieldDescriptor, key: &str, path: &str) -> Option<Rule> {
        if elements(field) != Some(Elements::Delimited) {
            self.problem(key, "numbers cannot be told apart by a key; use \"concat\"");
            return None;
        }
        if path.is_empty() {
            return Some(Rule::Distinct(Vec::new()));
        }
        let kind = field.kind();
        let Some(message) = kind.as_message() else {
            self.problem(key, format!("`{path}`: `{}` is not a message; use an empty path", field.name()));
            return None;
        };
        let found = self.path(key, message, path)?;
        if found.is_repeated() {
            self.problem(key, format!("`{path}` is repeated: an element must have one key"));
            return None;
        }
        Some(Rule::Distinct(found.steps))
    }
}

const fn number(kind: &Kind) -> Option<Number> {
    Some(match kind {
        Kind::Int32 => Number::Int32,
        Kind::Int64 => Number::Int64,
        Kind::Uint32 => Number::Uint32,
        Kind::Uint64 => Number::Uint64,
        Kind::Sint32 => Number::Sint32,
        Kind::Sint64 => Number::Sint64,
        Kind::Fixed32 => Number::Fixed32,
        Kind::Fixed64 => Number::Fixed64,
        Kind::Sfixed32 => Number::Sfixed32,
        Kind::Sfixed64 => Number::Sfixed64,
        Kind::Float => Number::Float,
        Kind::Double => Number::Double,
        Kind::Bool | Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Enum(_) => return None,
    })
}
