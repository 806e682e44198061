//! CSI as it is seen at the socket: one row a promise of the specification, each with its id from `docs/conformance-rows.tsv`.
//!
//! A row's id is `RPC/CODE` (`/2` where one code has two conditions) or `RPC/behaviour`; `*` stands for every RPC. Tests quote it.

mod arguments;
mod authority;
mod capacity;
mod contents;
mod controller;
mod controls;
mod crowds;
mod everywhere;
mod expand;
mod garbled;
mod identity;
mod limits;
mod many;
mod matrix;
mod order;
mod orders;
mod paging;
mod paths;
mod publish;
mod roles;
mod secrets;
mod snapshots;
mod stage;
mod stats;
mod tidy;

use harness::{Endpoint, rows};
use std::collections::BTreeMap;
use std::path::Path;
use tonic::{Code, Status};
use windlass_csi::client::{self, CallError};
use windlass_csi::json::{self, Message};

/// A row of the table, by its id.
struct Row(&'static str);

fn row(id: &'static str) -> Row {
    Row(id)
}

impl Row {
    /// The code that the id names.
    #[track_caller]
    fn code(&self) -> Code {
        let name = self.0.split('/').nth(1).expect("an id has two parts");
        let codes = [
            ("INVALID_ARGUMENT", Code::InvalidArgument),
            ("NOT_FOUND", Code::NotFound),
            ("ALREADY_EXISTS", Code::AlreadyExists),
            ("RESOURCE_EXHAUSTED", Code::ResourceExhausted),
            ("FAILED_PRECONDITION", Code::FailedPrecondition),
            ("ABORTED", Code::Aborted),
            ("OUT_OF_RANGE", Code::OutOfRange),
            ("UNIMPLEMENTED", Code::Unimplemented),
        ];
        codes.into_iter().find(|(other, _)| *other == name).unwrap_or_else(|| panic!("{} names no code", self.0)).1
    }

    /// The call was refused with the row's code, in words, `says` among them, and with empty details.
    #[track_caller]
    fn refuses<T>(&self, answer: Result<T, Status>, says: &str) {
        let status = answer.err().unwrap_or_else(|| panic!("{}: was not refused ({says})", self.0));
        assert_eq!(status.code(), self.code(), "{} ({says}): {}", self.0, status.message());
        check_form(&status);
        assert!(status.message().contains(says), "{}: {:?} does not say {says:?}", self.0, status.message());
        rows::note(self.0);
    }

    /// The call was answered.
    #[track_caller]
    fn answers<T>(&self, answer: Result<T, Status>) -> T {
        let answer = answer.unwrap_or_else(|status| panic!("{}: {:?}: {}", self.0, status.code(), status.message()));
        rows::note(self.0);
        answer
    }

    /// What the row promises is so.
    #[track_caller]
    fn holds(&self, is_so: bool, what: &str) {
        assert!(is_so, "{}: {what}", self.0);
        rows::note(self.0);
    }
}

/// What every error has: words for people, within what a header may hold, and no details.
#[track_caller]
fn check_form(status: &Status) {
    assert!(!status.message().is_empty(), "{:?} without a message", status.code());
    assert!(status.message().len() < 2048, "a message of {} bytes", status.message().len());
    assert!(status.details().is_empty(), "details are not empty: {status:?}");
    assert!(!matches!(status.code(), Code::Internal | Code::Unknown), "{status:?}");
}

/// Changes a request.
fn but<T>(mut message: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut message);
    message
}

/// Makes a call that is known by name only.
fn call(daemon: &Endpoint, rpc: &str, request: &str) -> Result<Message, Status> {
    let request = json::request(rpc, request).expect("a request");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = client::connect(&daemon.socket()).await.map_err(|error| Status::unavailable(error.to_string()))?;
        client::call(channel, request).await.map_err(|error| match error {
            CallError::Status(status) => *status,
            CallError::Streaming { method } => panic!("{method} streams"),
        })
    })
}

/// Everything beneath a folder, by path: what it is, and how large. Symlinks are not followed.
fn tree(folder: &Path) -> BTreeMap<String, (String, u64)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let meta = entry.path().symlink_metadata().expect("what was listed is there");
            let size = if meta.is_dir() { 0 } else { meta.len() };
            found.insert(entry.path().display().to_string(), (format!("{:?}", meta.file_type()), size));
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    found
}

/// The per-mount options and the superblock's options of what is mounted last at a path.
fn mount_options(path: &str) -> Option<(String, String)> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let line = table.lines().rev().find(|line| line.split(' ').nth(4) == Some(path))?;
    Some((line.split(' ').nth(5)?.to_owned(), line.split(' ').next_back()?.to_owned()))
}

fn is_mounted(path: &str) -> bool {
    mount_options(path).is_some()
}

/// The size of the file system at a path, in bytes.
fn filesystem_size(path: &str) -> u64 {
    let stat = nix::sys::statvfs::statvfs(path).expect("statvfs");
    stat.blocks() * stat.fragment_size()
}
