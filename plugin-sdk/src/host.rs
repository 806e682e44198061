//! What a driver may use while it is called: the operator's configuration, the log, and files in granted folders.

use crate::context::parse;
use crate::{Context, Level, Refusal};
use std::fmt::Display;
use std::str::FromStr;

/// The imports `config` and `log`. Two implementors: the daemon behind a component, and the [`Harness`](crate::Harness).
pub(crate) trait Imports {
    fn config(&self, key: &str) -> Option<String>;
    fn log(&self, level: Level, line: &str);
}

/// The import `files`. Two implementors: the daemon behind a component, and the [`Harness`](crate::Harness).
pub(crate) trait FileImports {
    fn create(&self, folder: &str, name: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal>;
    fn copy(&self, folder: &str, name: &str, to: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal>;
    fn stat(&self, folder: &str, name: &str) -> Result<Option<File>, Refusal>;
    fn grow(&self, folder: &str, name: &str, size: u64) -> Result<File, Refusal>;
    fn delete(&self, folder: &str, name: &str) -> Result<(), Refusal>;
    fn list(&self, folder: &str, after: &str, limit: u32) -> Result<Vec<File>, Refusal>;
    fn free(&self, folder: &str) -> Result<(u64, u64), Refusal>;
}

/// What every call may use: the operator's configuration and the log.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    pub(crate) imports: &'a dyn Imports,
}

impl Host<'_> {
    /// The value of `key` in the operator's `[config]` table.
    pub fn config(&self, key: &str) -> Option<String> {
        self.imports.config(key)
    }

    /// The value of `key`, or a refusal ([`Refusal::Precondition`]) that names it.
    pub fn require(&self, key: &str) -> Result<String, Refusal> {
        self.config(key).ok_or_else(|| Refusal::precondition(format!("`{key}` is missing in the driver's [config]")))
    }

    /// The value of `key` as a number or whatever else can be read from text; a bad one is a refusal
    /// ([`Refusal::Precondition`]) that names the key.
    pub fn parse<T: FromStr<Err: Display>>(&self, key: &str) -> Result<Option<T>, Refusal> {
        let wrong = |error| Refusal::precondition(format!("in the driver's [config] {error}"));
        self.config(key).map(|value| parse(key, &value).map_err(wrong)).transpose()
    }

    /// A line for the plugin's author.
    pub fn debug(&self, line: impl AsRef<str>) {
        self.imports.log(Level::Debug, line.as_ref());
    }

    /// A line for the curious.
    pub fn info(&self, line: impl AsRef<str>) {
        self.imports.log(Level::Info, line.as_ref());
    }

    /// Something is odd.
    pub fn warn(&self, line: impl AsRef<str>) {
        self.imports.log(Level::Warn, line.as_ref());
    }

    /// Something is wrong.
    pub fn error(&self, line: impl AsRef<str>) {
        self.imports.log(Level::Error, line.as_ref());
    }
}

/// The folders that the operator granted, for calls of the controller.
#[derive(Clone, Copy)]
pub struct Files<'a> {
    pub(crate) imports: &'a dyn FileImports,
}

impl<'a> Files<'a> {
    /// The folder that was granted as `name`. Whether it was shows at the first use of it.
    pub fn folder(&self, name: impl Into<String>) -> Folder<'a> {
        Folder { imports: self.imports, name: name.into() }
    }
}

/// A granted folder. Its errors are the daemon's refusals, which a driver may hand on as they are.
pub struct Folder<'a> {
    imports: &'a dyn FileImports,
    name: String,
}

/// A sparse file in a granted folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// As given when it was made.
    pub properties: Context,
}

impl Folder<'_> {
    /// One atomic step: a sparse file of `size` bytes with its properties (at most 3 KiB), or the one that exists, untouched.
    /// The second value says whether this call made it.
    pub fn create(&self, name: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        self.imports.create(&self.name, name, size, properties)
    }

    /// One atomic step: a file `to` with what `name` holds at one moment, of `size` bytes but never less than that has, with properties of
    /// its own (at most 3 KiB); or the one that exists, untouched. The second value says whether this call made it.
    ///
    /// On xfs and btrfs the file may be in use; elsewhere [`Refusal::Precondition`] says that it is.
    pub fn copy(&self, name: &str, to: &str, size: u64, properties: Context) -> Result<(File, bool), Refusal> {
        self.imports.copy(&self.name, name, to, size, properties)
    }

    /// The file, if it exists.
    pub fn stat(&self, name: &str) -> Result<Option<File>, Refusal> {
        self.imports.stat(&self.name, name)
    }

    /// Grows the file to `size` bytes; never shrinks it.
    pub fn grow(&self, name: &str, size: u64) -> Result<File, Refusal> {
        self.imports.grow(&self.name, name, size)
    }

    /// Deletes the file; not there is as good.
    pub fn delete(&self, name: &str) -> Result<(), Refusal> {
        self.imports.delete(&self.name, name)
    }

    /// At most `limit` files with names after `after`, in the order of their names. Fewer than `limit` need not be the end;
    /// none is.
    pub fn list(&self, after: &str, limit: u32) -> Result<Vec<File>, Refusal> {
        self.imports.list(&self.name, after, limit)
    }

    /// Bytes that are free for us.
    pub fn available(&self) -> Result<u64, Refusal> {
        self.imports.free(&self.name).map(|(available, _)| available)
    }

    /// Bytes of the file system in all.
    pub fn total(&self) -> Result<u64, Refusal> {
        self.imports.free(&self.name).map(|(_, total)| total)
    }
}
