//! Descriptors: what messages and methods there are. Made once from the text of .proto files, in memory, or from a
//! descriptor set that another compiler wrote; `protoc` is not needed.

use std::fmt;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
pub use protox::prost_reflect;

use crate::scan::Step;
use crate::wire::Elements;

/// A .proto file by the name that others import it with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtoFile<'a> {
    /// `bsky.proto`, `google/rpc/status.proto`.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// Why there are no descriptors: what the compiler says, with the file and the line where it knows them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaError(String);

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SchemaError {}

/// The files that the configuration names; nothing is read from a disk.
struct InMemory(Vec<(String, String)>);

impl FileResolver for InMemory {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        let found = self.0.iter().find(|(known, _)| known == name);
        let (name, text) = found.ok_or_else(|| protox::Error::file_not_found(name))?;
        File::from_source(name, text)
    }
}

/// Messages and methods.
#[derive(Clone, Debug)]
pub struct Schema {
    pool: DescriptorPool,
}

impl Schema {
    /// Compiles `files`, which may import each other and the well-known files of protobuf (`google/protobuf/*.proto`).
    /// The first error ends it, as with every compiler.
    pub fn compile(files: &[ProtoFile<'_>]) -> Result<Self, SchemaError> {
        let owned = files.iter().map(|file| (file.name.to_owned(), file.text.to_owned())).collect();
        let mut resolver = ChainFileResolver::new();
        resolver.add(InMemory(owned));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        for file in files {
            // The debug form is the one with the place in the file.
            compiler.open_file(file.name).map_err(|error| SchemaError(format!("{error:?}")))?;
        }
        Ok(Self { pool: compiler.descriptor_pool() })
    }

    /// Reads a `google.protobuf.FileDescriptorSet` with its imports (`protoc --include_imports --descriptor_set_out`,
    /// `buf build -o`).
    pub fn from_descriptor_set(bytes: &[u8]) -> Result<Self, SchemaError> {
        DescriptorPool::decode(bytes)
            .map(|pool| Self { pool })
            .map_err(|error| SchemaError(error.to_string()))
    }

    /// Every method.
    pub fn methods(&self) -> Vec<MethodDescriptor> {
        self.pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    /// The descriptors themselves.
    pub const fn pool(&self) -> &DescriptorPool {
        &self.pool
    }
}

/// `package.Service/Method`: what a path has behind its slash, and a method's name everywhere in weir.
pub fn method_name(method: &MethodDescriptor) -> String {
    format!("{}/{}", method.parent_service().full_name(), method.name())
}

/// How elements of a field stand on the wire; `None` for a group, which has no length.
pub(crate) fn elements(field: &FieldDescriptor) -> Option<Elements> {
    if field.is_group() {
        return None;
    }
    Some(match field.kind() {
        Kind::String | Kind::Bytes | Kind::Message(_) => Elements::Delimited,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Elements::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Elements::Fixed32,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => Elements::Varint,
    })
}

/// A path of names, found.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    pub(crate) fields: Vec<FieldDescriptor>,
    pub(crate) steps: Vec<Step>,
}

impl Path {
    /// Whether some field of the path can have more than one element.
    pub(crate) fn is_repeated(&self) -> bool {
        self.fields.iter().any(|field| field.is_list() || field.is_map())
    }
}

/// Where a path ends early.
#[derive(Clone, Debug)]
pub(crate) enum NoPath {
    /// The message has no field of this name.
    NoField { message: MessageDescriptor, name: String },
    /// The field is no message, and the path goes on.
    NoMessage { field: String },
    /// The field is a group.
    Group { field: String },
}

/// Finds `a.b.c` in `message`.
pub(crate) fn find_path(message: &MessageDescriptor, path: &str) -> Result<Path, NoPath> {
    let mut found = Path { fields: Vec::new(), steps: Vec::new() };
    let mut inside = Some(message.clone());
    let mut last = String::new();
    for name in path.split('.') {
        let Some(message) = inside else { return Err(NoPath::NoMessage { field: last }) };
        let field = message.get_field_by_name(name);
        let field = field.ok_or_else(|| NoPath::NoField { message, name: name.to_owned() })?;
        let elements = elements(&field).ok_or_else(|| NoPath::Group { field: name.to_owned() })?;
        found.steps.push(Step { number: field.number(), elements });
        inside = field.kind().as_message().cloned();
        last = field.name().to_owned();
        found.fields.push(field);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIBRARY: ProtoFile<'_> = ProtoFile {
        name: "shop/books.proto",
        text: r#"syntax = "proto3"; package shop; import "google/protobuf/timestamp.proto"; import "shop/shelf.proto";
            message Books { repeated Shelf shelves = 3; google.protobuf.Timestamp at = 4; repeated sint32 sizes = 5; }
            service Library { rpc Get(Books) returns (Shelf); rpc Watch(Books) returns (stream Shelf); }"#,
    };
    const SHELF: ProtoFile<'_> = ProtoFile {
        name: "shop/shelf.proto",
        text: r#"syntax = "proto3"; package shop; message Shelf { repeated string titles = 2; map<string, int32> n = 7; }"#,
    };

    #[test]
    fn files_import_each_other_and_the_well_known_ones() {
        let schema = Schema::compile(&[LIBRARY, SHELF]).map_err(|error| error.to_string());
        let schema = schema.as_ref().ok();
        let names: Vec<_> = schema.map(Schema::methods).unwrap_or_default().iter().map(method_name).collect();
        assert_eq!(names, ["shop.Library/Get", "shop.Library/Watch"]);

        let books = schema.and_then(|schema| schema.pool().get_message_by_name("shop.Books"));
        let find = |path: &str| books.as_ref().map(|books| find_path(books, path));
        let titles = find("shelves.titles").and_then(Result::ok);
        let delimited = |number| Step { number, elements: Elements::Delimited };
        assert!(titles.is_some_and(|path| path.is_repeated() && path.steps == [delimited(3), delimited(2)]));
        let seconds = find("at.seconds").and_then(Result::ok);
        assert!(seconds.is_some_and(|path| !path.is_repeated()));
        let entries = find("shelves.n.value").and_then(Result::ok);
        assert!(entries.is_some_and(|path| path.steps[2] == Step { number: 2, elements: Elements::Varint }));
        assert!(matches!(find("sizes.x"), Some(Err(NoPath::NoMessage { field })) if field == "sizes"));
        assert!(matches!(find("shelves.title"), Some(Err(NoPath::NoField { name, .. })) if name == "title"));

        // The same from a descriptor set.
        let bytes = schema.map(|schema| schema.pool().encode_to_vec()).unwrap_or_default();
        let again = Schema::from_descriptor_set(&bytes);
        assert_eq!(again.map(|schema| schema.methods().len()), Ok(2));
        assert!(Schema::from_descriptor_set(&bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn a_missing_import_and_a_wrong_line_are_named() {
        let message = |files: &[ProtoFile<'_>]| Schema::compile(files).err().map(|error| error.to_string());
        let missing = message(&[LIBRARY]).unwrap_or_default();
        assert!(missing.contains("shop/shelf.proto") && missing.contains("not found"), "{missing}");
        let broken = ProtoFile { name: "x.proto", text: "syntax = \"proto3\";\nmessage X { Y y = 1; }" };
        let broken = message(&[broken]).unwrap_or_default();
        assert!(broken.contains("x.proto:2:13") && broken.contains("'Y'"), "{broken}");
    }
}
