//! The journal in /run: one file a volume, one line a fact, appended before the deed and gone when nothing is left to undo.
//!
//! /run lives as long as the kernel state that the journal describes, so nothing is flushed to a disk: what must outlive the daemon
//! is in the kernel's page cache with the `write` that returned. A last line without its line break was cut off by a death before
//! the deed that it announces, and is dropped.

use crate::record::{Header, Line, Misfit, Record, VERSION};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;

/// Every record of this node.
pub struct Journal {
    folder: PathBuf,
    records: Mutex<HashMap<VolumeKey, Arc<Mutex<Record>>>>,
}

/// A journal file that could not be read: put aside, and its volume treated as one whose journal was lost.
#[derive(Debug)]
pub struct Unreadable {
    /// Where it is now.
    pub path: PathBuf,
    /// Why.
    pub error: ReadError,
}

/// Why a journal file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("could not be read")]
    Io(#[from] io::Error),
    /// A line is not what this version writes.
    #[error("line {number} is not one that this version understands")]
    Line {
        /// Counted from 1.
        number: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The first line is missing, or not of this version.
    #[error("begins with no header of version {VERSION}")]
    Header,
    /// A line does not fit.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

impl Journal {
    /// Reads every file in `folder` (made if it is missing). Files of another boot are deleted: what they describe is gone.
    pub fn open(folder: &Path, boot: &str) -> io::Result<(Self, Vec<Unreadable>)> {
        std::fs::create_dir_all(folder)?;
        let (mut records, mut unreadable) = (HashMap::new(), Vec::new());
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(key) = path.file_name().and_then(|name| VolumeKey::parse(name.to_str()?)) else { continue };
            match read(&path) {
                Ok(Some(record)) if record.header.boot == boot && record.header.key == key && !record.strands.is_empty() => {
                    records.insert(key, Arc::new(Mutex::new(record)));
                }
                Ok(_) => std::fs::remove_file(&path)?,
                Err(error) => {
                    let aside = path.with_extension("unreadable");
                    std::fs::rename(&path, &aside)?;
                    unreadable.push(Unreadable { path: aside, error });
                }
            }
        }
        Ok((Self { folder: folder.to_owned(), records: Mutex::new(records) }, unreadable))
    }

    /// The record of a volume, if there is anything to undo.
    pub fn find(&self, key: &VolumeKey) -> Option<Arc<Mutex<Record>>> {
        self.table().get(key).cloned()
    }

    /// Is there such a record?
    pub fn any(&self, is_such: impl Fn(&Record) -> bool) -> bool {
        self.table().values().any(|record| is_such(&lock(record)))
    }

    /// A copy of every record, for status and recovery.
    pub fn all(&self) -> Vec<Record> {
        let mut all: Vec<Record> = self.table().values().map(|record| lock(record).clone()).collect();
        all.sort_by(|a, b| (&a.header.driver, &a.header.volume).cmp(&(&b.header.driver, &b.header.volume)));
        all
    }

    /// Opens a volume's file for writing; the caller holds the volume's claim, so nobody else does.
    pub fn writer(&self, header: Header) -> Writer<'_> {
        let key = header.key;
        let record = self.find(&key).unwrap_or_else(|| Arc::new(Mutex::new(Record::new(header))));
        Writer { journal: self, path: self.folder.join(key.to_string()), key, record, file: None }
    }

    fn table(&self) -> MutexGuard<'_, HashMap<VolumeKey, Arc<Mutex<Record>>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lock(record: &Mutex<Record>) -> MutexGuard<'_, Record> {
    record.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(path: &Path) -> Result<Option<Record>, ReadError> {
    let text = String::from_utf8(std::fs::read(path)?).map_err(|_| ReadError::Header)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if whole.len() < text.len() {
        OpenOptions::new().write(true).open(path)?.set_len(whole.len() as u64)?;
    }
    let mut lines = whole.lines().enumerate().map(|(at, line)| serde_json::from_str(line).map_err(|source| ReadError::Line { number: at + 1, source }));
    let mut record = match lines.next() {
        None => return Ok(None),
        Some(first) => match first? {
            Line::Open(header) if header.version == VERSION => Record::new(header),
            _ => return Err(ReadError::Header),
        },
    };
    for line in lines {
        record.add(&line?)?;
    }
    Ok(Some(record))
}

/// Writes one volume's lines, and keeps the record in step.
pub struct Writer<'a> {
    journal: &'a Journal,
    path: PathBuf,
    key: VolumeKey,
    record: Arc<Mutex<Record>>,
    file: Option<File>,
}

impl Writer<'_> {
    /// The record as it stands.
    pub fn record(&self) -> MutexGuard<'_, Record> {
        lock(&self.record)
    }

    /// Writes a line, in one `write`, and adds it to the record. Nothing that it announces may be done if this fails.
    pub fn write(&mut self, line: &Line) -> Result<(), Failure> {
        self.write_all(std::slice::from_ref(line))
    }

    /// Writes lines that only mean something together, in one `write`: a death leaves all of them or none.
    pub fn write_all(&mut self, lines: &[Line]) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure::new(Reason::Journal, format!("the journal could not be written, so nothing was done: {error}"));
        // The file first: where it cannot be written, the record stays as it was.
        let mut next = self.record().clone();
        lines.iter().try_for_each(|line| next.add(line)).map_err(|misfit| failed(&misfit))?;
        self.append(lines).map_err(|error| failed(&error))?;
        death_point();
        let is_empty = next.strands.is_empty();
        *self.record() = next;
        if is_empty {
            self.file = None;
            self.journal.table().remove(&self.key);
            std::fs::remove_file(&self.path).map_err(|error| failed(&error))?;
            death_point();
        }
        Ok(())
    }

    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(512);
        if self.file.is_none() {
            let is_new = self.journal.find(&self.key).is_none();
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(0o600);
            if is_new {
                // What a death left behind before its first deed is not continued.
                match std::fs::remove_file(&self.path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let header = self.record().header.clone();
                serde_json::to_writer(&mut bytes, &Line::Open(header))?;
                bytes.push(b'\n');
            }
            self.file = Some(options.open(&self.path)?);
        }
        for line in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        let Some(file) = self.file.as_mut() else { return Err(io::Error::other("no journal file")) };
        let before = file.metadata()?.len();
        if let Err(error) = file.write_all(&bytes) {
            // Half a line must not stay: the next one would be glued to it. (No room in /run: the file can still be cut.)
            let cut = file.set_len(before);
            self.file = None;
            cut?;
            return Err(error);
        }
        self.journal.table().entry(self.key).or_insert_with(|| self.record.clone());
        Ok(())
    }
}

/// Tests let the daemon die at its N-th journal line, a format note's being two, before and after it is written: `WINDLASS_DIE_AT_LINE=N`.
/// Not in a release build.
pub(crate) fn death_point() {
    #[cfg(debug_assertions)]
    {
        use std::sync::LazyLock;
        use std::sync::atomic::{AtomicU64, Ordering};
        static AT: LazyLock<Option<u64>> = LazyLock::new(|| std::env::var("WINDLASS_DIE_AT_LINE").ok()?.parse().ok());
        static COUNT: AtomicU64 = AtomicU64::new(0);
        if let Some(at) = *AT
            && COUNT.fetch_add(1, Ordering::SeqCst) + 1 == at
        {
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{PublishFacts, What};
    use windlass_plan::capability::{Access, AccessMode, Capability};
    use windlass_plan::ids::{DriverName, VolumeId};
    use windlass_plan::paths::Place;
    use windlass_plan::step::{TargetKind, Undo, Writable};

    fn header(boot: &str) -> Header {
        let (driver, volume) = (DriverName::parse("d").unwrap(), VolumeId::parse("v").unwrap());
        Header { version: VERSION, boot: boot.into(), key: VolumeKey::derive("", &driver, &volume), driver, volume, roots: Vec::new() }
    }

    fn lines() -> Vec<Line> {
        let place = Place { root: 0, below: "t".into() };
        let capability = Capability { access: Access::Block, mode: AccessMode::SingleNodeWriter };
        let what = What::Publish(PublishFacts { target: place.clone(), path: "/t".into(), capability, writable: Writable::ReadWrite, arguments: None });
        let undo = Undo::Unmount { volume: header("b").key, place, made: Some(TargetKind::File) };
        vec![Line::Begin { strand: 0, what }, Line::Undo { strand: 0, step: "bind".into(), undo }, Line::Complete { strand: 0 }]
    }

    #[test]
    fn what_was_written_is_read_again_and_an_empty_record_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path(), "b").unwrap();
        let mut writer = journal.writer(header("b"));
        lines().iter().for_each(|line| writer.write(line).unwrap());
        let written = writer.record().clone();
        let (again, unreadable) = Journal::open(folder.path(), "b").unwrap();
        assert!(unreadable.is_empty());
        assert_eq!(again.all(), [written]);
        let mut writer = again.writer(header("b"));
        writer.write(&Line::Unwind { strand: 0 }).unwrap();
        writer.write(&Line::Undone { strand: 0 }).unwrap();
        assert!(again.all().is_empty());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_line_cut_off_anywhere_loses_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path(), "b").unwrap();
        let mut writer = journal.writer(header("b"));
        lines().iter().for_each(|line| writer.write(line).unwrap());
        let path = folder.path().join(header("b").key.to_string());
        let whole = std::fs::read(&path).unwrap();
        let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let (again, unreadable) = Journal::open(folder.path(), "b").unwrap();
            assert!(unreadable.is_empty(), "cut at {cut}: {unreadable:?}");
            // A header alone, or less, is nothing to undo; any more is one strand.
            assert_eq!(again.all().len(), usize::from(ends[1] <= cut), "cut at {cut}");
        }
    }

    #[test]
    fn another_boot_and_a_damaged_file_are_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(folder.path(), "b").unwrap();
        let mut writer = journal.writer(header("b"));
        lines().iter().for_each(|line| writer.write(line).unwrap());
        let path = folder.path().join(header("b").key.to_string());
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replace("\"bind\"", "\"bi")).unwrap();
        let (again, unreadable) = Journal::open(folder.path(), "b").unwrap();
        assert!(again.all().is_empty() && unreadable.len() == 1 && unreadable[0].path.exists());
        std::fs::write(&path, whole).unwrap();
        let (other, unreadable) = Journal::open(folder.path(), "later boot").unwrap();
        assert!(other.all().is_empty() && unreadable.is_empty() && !path.exists());
    }
}
