//! Granted folders in memory, which answer as the interface `files` says.

use super::Harness;
use crate::host::FileImports;
use crate::{Context, File, Refusal};
use std::collections::BTreeMap;

/// Bytes that the properties of a file may have.
const PROPERTIES_LIMIT: usize = 3 << 10;

#[derive(Default)]
pub(super) struct Simulated {
    total: u64,
    files: BTreeMap<String, File>,
}

impl Harness {
    /// One more granted folder, on a file system of `total` bytes of which none is used.
    #[must_use]
    pub fn folder(self, name: &str, total: u64) -> Self {
        self.folders.borrow_mut().insert(name.to_owned(), Simulated { total, files: BTreeMap::new() });
        self
    }

    /// Puts a file into a granted folder behind the driver's back.
    pub fn put(&self, folder: &str, file: File) {
        let mut folders = self.folders.borrow_mut();
        let folder = folders.get_mut(folder).expect("the test puts a file into a folder that it granted");
        folder.files.insert(file.name.clone(), file);
    }

    /// The files of a granted folder, in the order of their names.
    pub fn files(&self, folder: &str) -> Vec<File> {
        self.folders.borrow().get(folder).map(|folder| folder.files.values().cloned().collect()).unwrap_or_default()
    }

    /// Does something in a granted folder, by a name that may be a file's.
    fn within<T>(&self, folder: &str, name: &str, deed: impl FnOnce(&mut Simulated) -> Result<T, Refusal>) -> Result<T, Refusal> {
        let mut folders = self.folders.borrow_mut();
        let Some(folder) = folders.get_mut(folder) else {
            return Err(Refusal::precondition(format!("the folder {folder:?} was not granted")));
        };
        if !is_file_name(name) {
            return Err(Refusal::invalid(format!("{name:?} cannot be a file's name")));
        }
        deed(folder)
    }
}

impl FileImports for Harness {
    fn create(&self, folder: &str, name: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        self.within(folder, name, |folder| {
            if properties.bytes() > PROPERTIES_LIMIT {
                return Err(Refusal::invalid(format!("the properties are larger than {PROPERTIES_LIMIT} bytes")));
            }
            let is_new = !folder.files.contains_key(name);
            let file = folder.files.entry(name.to_owned()).or_insert_with(|| File { name: name.to_owned(), size, properties });
            Ok((file.clone(), is_new))
        })
    }
    fn copy(&self, folder: &str, name: &str, to: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        if !is_file_name(to) {
            return Err(Refusal::invalid(format!("{to:?} cannot be a file's name")));
        }
        let source = self.within(folder, name, |folder| Ok(folder.files.get(name).cloned()))?;
        match (self.stat(folder, to)?, source) {
            (Some(file), _) => Ok((file, false)),
            (None, None) => Err(Refusal::not_found(format!("there is no file {name:?}"))),
            (None, Some(source)) => self.create(folder, to, size.max(source.size), properties),
        }
    }
    fn stat(&self, folder: &str, name: &str) -> Result<Option<File>, Refusal> {
        self.within(folder, name, |folder| Ok(folder.files.get(name).cloned()))
    }
    fn grow(&self, folder: &str, name: &str, size: u64) -> Result<File, Refusal> {
        self.within(folder, name, |folder| {
            let file = folder.files.get_mut(name).ok_or_else(|| Refusal::not_found(format!("there is no file {name:?}")))?;
            file.size = file.size.max(size);
            Ok(file.clone())
        })
    }
    fn delete(&self, folder: &str, name: &str) -> Result<(), Refusal> {
        self.within(folder, name, |folder| {
            folder.files.remove(name);
            Ok(())
        })
    }
    fn list(&self, folder: &str, after: &str, limit: u32) -> Result<Vec<File>, Refusal> {
        let name = if after.is_empty() { "any" } else { after };
        self.within(folder, name, |folder| Ok(folder.files.values().filter(|file| file.name.as_str() > after).take(limit as usize).cloned().collect()))
    }
    fn free(&self, folder: &str) -> Result<(u64, u64), Refusal> {
        self.within(folder, "any", |folder| Ok((folder.total, folder.total)))
    }
}

pub(super) fn is_file_name(name: &str) -> bool {
    (1..=200).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
