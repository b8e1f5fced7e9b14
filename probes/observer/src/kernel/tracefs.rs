//! Where the kernel describes its tracepoints, and what it says there. Where tracefs is mounted nowhere it is mounted for
//! the calling thread alone, in a mount namespace of its own: the machine stays as it was.

use super::refusal::Refusal;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::io;
use std::path::{Path, PathBuf};

/// The usual places, in the order that the loader's library looks.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where tracefs is, and whether it was mounted for this thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracefs {
    root: PathBuf,
    /// Whether it was mounted just now, seen by this thread and nobody else.
    pub private: bool,
}

impl Tracefs {
    /// Finds it, or mounts it for the calling thread. The thread should be one that ends after loading.
    ///
    /// # Errors
    ///
    /// When it is mounted nowhere and may not be mounted, or may not be read.
    pub fn find() -> Result<Tracefs, Refusal> {
        for place in PLACES.map(Path::new) {
            match std::fs::read_dir(place.join("events")) {
                Ok(_) => return Ok(Tracefs { root: place.to_owned(), private: false }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Refusal::of_io(&format!("reading {}", place.display()), &error)),
            }
        }
        let [place, _] = PLACES;
        mount_privately(Path::new(place)).map_err(|error| {
            let tried =
                format!("tracefs is not mounted (mount -t tracefs tracefs {place}), mounting it privately");
            Refusal::of_io(&tried, &error)
        })?;
        Ok(Tracefs { root: PathBuf::from(place), private: true })
    }

    /// The fields of one tracepoint.
    ///
    /// # Errors
    ///
    /// When there is no such tracepoint, or it may not be read.
    pub fn format(&self, category: &str, name: &str) -> Result<Format, Refusal> {
        let path = self.root.join("events").join(category).join(name).join("format");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Format { tracepoint: format!("{category}/{name}"), fields: fields(&text) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Refusal::Unsupported(format!("this kernel has no tracepoint {category}/{name}")))
            }
            Err(error) => Err(Refusal::of_io(&format!("reading {}", path.display()), &error)),
        }
    }
}

fn mount_privately(place: &Path) -> io::Result<()> {
    // SAFETY: the mount namespace alone is left; no table of descriptors is unshared.
    #[expect(unsafe_code, reason = "unsafe for another flag's sake")]
    unsafe {
        unshare_unsafe(UnshareFlags::NEWNS)?;
    }
    // Without this the mount would travel back to where this namespace came from.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tracefs", place, "tracefs", flags, None)?;
    Ok(())
}

/// What the kernel says of one tracepoint's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    tracepoint: String,
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    name: String,
    offset: u16,
    size: u16,
}

impl Format {
    /// Where a field of this size begins, within the first `within` bytes of the record.
    ///
    /// # Errors
    ///
    /// When this kernel's tracepoint has no such field, or it has another size or lies further back: the program would
    /// read something else.
    pub fn offset(&self, name: &str, size: u16, within: usize) -> Result<u16, Refusal> {
        let of = &self.tracepoint;
        let Some(field) = self.fields.iter().find(|field| field.name == name) else {
            return Err(Refusal::Unsupported(format!("this kernel's tracepoint {of} has no field {name}")));
        };
        if field.size != size {
            let Field { size: found, .. } = field;
            return Err(Refusal::Unsupported(format!(
                "field {name} of this kernel's tracepoint {of} has {found} bytes and not {size}"
            )));
        }
        if usize::from(field.offset) + usize::from(size) > within {
            return Err(Refusal::Unsupported(format!(
                "field {name} of this kernel's tracepoint {of} lies behind the first {within} bytes"
            )));
        }
        Ok(field.offset)
    }
}

/// Lines like `field:__u8 saddr_v6[16];\toffset:40;\tsize:16;\tsigned:0;`.
fn fields(text: &str) -> Vec<Field> {
    text.lines().filter_map(field).collect()
}

fn field(line: &str) -> Option<Field> {
    let mut parts = line.trim().split(';').map(str::trim);
    let declared = parts.next()?.strip_prefix("field:")?;
    let name = declared.rsplit([' ', '\t', '*']).next()?.split('[').next()?;
    let mut value = |key: &str| parts.next()?.strip_prefix(key)?.parse().ok();
    let (offset, size) = (value("offset:")?, value("size:")?);
    Some(Field { name: name.to_owned(), offset, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "name: inet_sock_set_state\nID: 1500\nformat:\n\
        \tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;\n\n\
        \tfield:const void * skaddr;\toffset:8;\tsize:8;\tsigned:0;\n\
        \tfield:int oldstate;\toffset:16;\tsize:4;\tsigned:1;\n\
        \tfield:__u8 daddr_v6[16];\toffset:60;\tsize:16;\tsigned:0;\n\n\
        print fmt: \"family=%s field:int no; offset:1; size:1;\", REC->x\n";

    fn format() -> Format {
        Format { tracepoint: "sock/inet_sock_set_state".to_owned(), fields: fields(TEXT) }
    }

    #[test]
    fn a_field_is_found_by_its_name() {
        assert_eq!(format().offset("skaddr", 8, 96), Ok(8));
        assert_eq!(format().offset("oldstate", 4, 96), Ok(16));
        assert_eq!(format().offset("daddr_v6", 16, 76), Ok(60));
        assert_eq!(fields(TEXT).len(), 4);
    }

    #[test]
    fn what_is_not_as_expected_is_unsupported_and_never_guessed() {
        for (name, size, within, said) in [
            ("dport", 2, 96, "has no field dport"),
            ("oldstate", 8, 96, "has 4 bytes and not 8"),
            ("daddr_v6", 16, 75, "behind the first 75 bytes"),
        ] {
            let Err(Refusal::Unsupported(reason)) = format().offset(name, size, within) else {
                panic!("{name}")
            };
            assert!(reason.contains(said), "{reason}");
        }
    }

    #[test]
    fn lines_that_are_no_field_are_none() {
        for line in
            ["", "field:", "field:int x", "field:int x;offset:a;size:1;", "field:int x;offset:70000;size:1;"]
        {
            assert_eq!(field(line), None, "{line}");
        }
    }
}
