//! The highest version of a driver that has served, in /var/lib: signed components below it are refused, until the operator says otherwise.

use semver::Version;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What is noted of one driver. Its lock is held while the disk is asked: by loads and by the operator's command, and by no call.
pub struct Floor {
    driver: String,
    file: PathBuf,
    one_at_a_time: Mutex<()>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    /// The highest version that has served since the operator last let one be lowered.
    highest: Version,
    /// The next other version may be a lower one.
    may_be_lowered: bool,
}

/// Why a version does not serve, or why nobody knows whether it may.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// Versions that cannot be compared.
    #[error(
        "the component's version is {given:?}, which is not like 1.2.3 (semver.org): a signed component needs one that can be compared with what has served"
    )]
    Form {
        /// The version.
        given: String,
    },
    /// An older one.
    #[error(
        "the component is version {found}, and version {highest} of the driver has served on this node; `windlass plugin allow-downgrade {driver}` lets an older one serve"
    )]
    Older {
        /// The driver.
        driver: String,
        /// Of the component.
        found: Version,
        /// What has served.
        highest: Version,
    },
    /// The note cannot be read.
    #[error(
        "{path}, which says what version of the driver has served, cannot be read ({problem}); `windlass plugin allow-downgrade {driver}` lets any version serve and writes it anew"
    )]
    Unreadable {
        /// The driver.
        driver: String,
        /// The note.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// The note cannot be written.
    #[error("{path}, which says what version of the driver has served, cannot be written ({source})")]
    Unwritten {
        /// The note.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Nothing to allow.
    #[error("no signed version of {driver} has served on this node: any may")]
    Nothing {
        /// The driver.
        driver: String,
    },
}

/// Can a signed component be of this version? It has to be one of semver.org.
pub fn is_version(text: &str) -> bool {
    Version::parse(text).is_ok()
}

impl Floor {
    /// What an earlier daemon noted in the file is read when it is needed.
    pub fn new(driver: String, file: PathBuf) -> Self {
        Self { driver, file, one_at_a_time: Mutex::new(()) }
    }

    /// Lets a version serve that has proven itself, unless a higher one has; on return it is noted, and the note survives a loss of power.
    pub fn admit(&self, version: &str) -> Result<(), FloorError> {
        let found = Version::parse(version).map_err(|_| FloorError::Form { given: version.to_owned() })?;
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read()? {
            // What follows a `+` does not count: two builds of one version are neither older nor newer.
            Some(note) => match found.cmp_precedence(&note.highest) {
                std::cmp::Ordering::Equal => Ok(()),
                std::cmp::Ordering::Less if !note.may_be_lowered => Err(FloorError::Older { driver: self.driver.clone(), found, highest: note.highest }),
                _ => self.write(&Note { highest: found, may_be_lowered: false }),
            },
            None => self.write(&Note { highest: found, may_be_lowered: false }),
        }
    }

    /// The operator's word: the next version that is another one may be lower. Says which has served; `None` if the note was damaged and is gone.
    pub fn allow_lower(&self) -> Result<Option<String>, FloorError> {
        let _one = self.one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read() {
            Ok(None) => Err(FloorError::Nothing { driver: self.driver.clone() }),
            Ok(Some(note)) => {
                let highest = note.highest.to_string();
                self.write(&Note { may_be_lowered: true, ..note })?;
                Ok(Some(highest))
            }
            Err(_) => {
                std::fs::remove_file(&self.file).map_err(|source| FloorError::Unwritten { path: self.file.clone(), source })?;
                Ok(None)
            }
        }
    }

    fn read(&self) -> Result<Option<Note>, FloorError> {
        let unreadable = |problem| FloorError::Unreadable { driver: self.driver.clone(), path: self.file.clone(), problem };
        match std::fs::read(&self.file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| unreadable(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    fn write(&self, note: &Note) -> Result<(), FloorError> {
        self.replace(note).map_err(|source| FloorError::Unwritten { path: self.file.clone(), source })
    }

    fn replace(&self, note: &Note) -> io::Result<()> {
        let temporary = self.file.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(note)?)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &self.file)?;
        self.file.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|folder| folder.sync_all()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(folder: &tempfile::TempDir, version: &str, is_taken: bool) {
        // Each time as after a restart: what counts is on the disk.
        let answer = floor(folder).admit(version);
        assert_eq!(answer.is_ok(), is_taken, "{version}: {answer:?}");
    }

    fn floor(folder: &tempfile::TempDir) -> Floor {
        Floor::new("d".into(), folder.path().join("d.json"))
    }

    #[test]
    fn a_version_never_goes_down_unless_the_operator_says_so_and_then_once() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(floor(&folder).allow_lower(), Err(FloorError::Nothing { .. })));
        for (version, is_taken) in [
            ("1.2.0", true),
            ("1.10.0-rc.1", true),
            ("1.2.0", false),
            ("1.10.0", true),
            ("1.10.0-rc.1", false),
            ("1.10.0+build.7", true),
            ("1.9.99", false),
            ("", false),
            ("v2", false),
            ("2.0", false),
            ("10.0.0", true),
        ] {
            check(&folder, version, is_taken);
        }
        assert_eq!(floor(&folder).allow_lower().unwrap().as_deref(), Some("10.0.0"));
        // What serves already does not use up the word, and neither does a version that is none.
        for (version, is_taken) in [("10.0.0", true), ("two", false), ("2.0.0", true), ("1.0.0", false), ("2.0.1", true), ("2.0.0", false)] {
            check(&folder, version, is_taken);
        }
        floor(&folder).allow_lower().unwrap();
        check(&folder, "3.0.0", true);
        check(&folder, "2.0.1", false);
    }

    #[test]
    fn a_damaged_note_lets_nothing_serve_until_the_operator_says_so() {
        let folder = tempfile::tempdir().unwrap();
        check(&folder, "2.0.0", true);
        for damage in ["", "{", "{\"highest\":\"2.0.0\"}", "{\"highest\":\"2\",\"may_be_lowered\":true}"] {
            std::fs::write(folder.path().join("d.json"), damage).unwrap();
            assert!(matches!(floor(&folder).admit("3.0.0"), Err(FloorError::Unreadable { .. })), "{damage}");
        }
        assert_eq!(floor(&folder).allow_lower().unwrap(), None);
        check(&folder, "1.0.0", true);
    }

    #[test]
    fn what_cannot_be_noted_does_not_serve() {
        let floor = Floor::new("d".into(), "/nonexistent/d.json".into());
        assert!(matches!(floor.admit("1.0.0"), Err(FloorError::Unwritten { .. })));
    }
}
