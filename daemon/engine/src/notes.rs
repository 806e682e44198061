//! Format notes in /var/lib: that a format was begun, and that it was finished, durably and before anything relies on it (law 5).

use crate::journal::death_point;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::format::FormatNote;
use windlass_plan::ids::VolumeKey;

/// The folder of format notes.
pub struct Notes {
    folder: PathBuf,
}

impl Notes {
    /// Opens the folder, or makes it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// What is noted of a volume. A note that cannot be read is an error: it might have said "finished".
    pub fn read(&self, key: &VolumeKey) -> Result<Option<FormatNote>, Failure> {
        let path = self.path(key);
        match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(&path, &error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    }

    /// Notes a state; on return it survives a loss of power.
    pub fn write(&self, key: &VolumeKey, note: &FormatNote) -> Result<(), Failure> {
        death_point();
        let written = self.replace(&self.path(key), note);
        death_point();
        written.map_err(|error| Failure::new(Reason::Journal, format!("the format note could not be written, so nothing was formatted: {error}")))
    }

    /// The volume is deleted: so is its note.
    pub fn forget(&self, key: &VolumeKey) -> io::Result<()> {
        match std::fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn replace(&self, path: &Path, note: &FormatNote) -> io::Result<()> {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn path(&self, key: &VolumeKey) -> PathBuf {
        self.folder.join(key.to_string())
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::Journal, format!("the format note {} cannot be read, and without it nothing is formatted: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::format::FormatState;
    use windlass_plan::ids::{DriverName, VolumeId};
    use windlass_plan::step::{Backing, BackingFile};

    #[test]
    fn a_damaged_note_is_an_error_and_not_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let notes = Notes::open(folder.path()).unwrap();
        let key = VolumeKey::derive("", &DriverName::parse("d").unwrap(), &VolumeId::parse("v").unwrap());
        let backing = Backing::File(BackingFile { device: 1, inode: 2, born_ns: 3 });
        let note = FormatNote { backing: Some(backing), state: FormatState::Begun, proof: None };
        assert_eq!(notes.read(&key), Ok(None));
        notes.write(&key, &note).unwrap();
        assert_eq!(notes.read(&key), Ok(Some(note)));
        std::fs::write(folder.path().join(key.to_string()), b"{").unwrap();
        assert_eq!(notes.read(&key).unwrap_err().reason, Reason::Journal);
        notes.forget(&key).unwrap();
        notes.forget(&key).unwrap();
        assert_eq!(notes.read(&key), Ok(None));
    }
}
