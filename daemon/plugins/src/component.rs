//! A component's bytes: opened once, looked at, read into memory and digested. What is compiled later is exactly these bytes.

use crate::file;
pub use crate::file::ReadError;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;

/// The largest component that is read, in bytes. Interpreters for JavaScript or Python are 12 to 18 MB.
pub const LARGEST: u64 = 64 << 20;

/// Where a driver's component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that the operator named.
    File(PathBuf),
    /// The one that is part of the binary.
    Embedded(&'static [u8]),
}

/// A component in memory.
#[derive(Clone)]
pub struct Component {
    /// Its bytes.
    pub bytes: Arc<[u8]>,
    /// Their SHA-256, in hexadecimal.
    pub digest: String,
}

impl Source {
    /// Reads the component.
    pub fn read(&self) -> Result<Component, ReadError> {
        match self {
            Source::Embedded(bytes) => Ok(digest((*bytes).into())),
            Source::File(path) => Ok(digest(file::read(path, LARGEST)?.into())),
        }
    }
}

fn digest(bytes: Arc<[u8]>) -> Component {
    let digest = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    Component { bytes, digest }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn loop_a_device_is_looked_at_and_never_opened() {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().join("node");
        // No driver has this number: opening it would say so.
        mknod(&node, SFlag::S_IFCHR, Mode::S_IRUSR, makedev(254, 1 << 19)).unwrap();
        assert!(matches!(Source::File(node).read(), Err(ReadError::Kind { .. })));
    }

    #[test]
    fn only_a_plain_file_that_nobody_else_can_write_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("good"), b"x").unwrap();
        std::fs::set_permissions(at("good"), PermissionsExt::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(at("good"), at("link")).unwrap();
        std::fs::write(at("loose"), b"x").unwrap();
        std::fs::set_permissions(at("loose"), PermissionsExt::from_mode(0o666)).unwrap();
        std::fs::hard_link(at("good"), at("other-name")).unwrap();
        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
        File::create(at("huge")).unwrap().set_len(LARGEST + 1).unwrap();
        let read = |name: &str| Source::File(at(name)).read();
        assert_eq!(read("good").unwrap().digest, "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881");
        assert!(read("link").is_ok() && read("other-name").is_ok());
        assert!(matches!(read("loose"), Err(ReadError::Owner { .. })));
        assert!(matches!(read("fifo"), Err(ReadError::Kind { .. })));
        assert!(matches!(read("huge"), Err(ReadError::Size { .. })));
        assert!(matches!(read("missing"), Err(ReadError::Open { .. })));
        assert!(matches!(Source::File(folder.path().to_owned()).read(), Err(ReadError::Kind { .. })));
    }
}
