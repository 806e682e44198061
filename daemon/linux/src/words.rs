//! Turns the crate's own errors into the failures that leave it: a reason for programs, and the whole chain of causes for people.

use std::error::Error;
use std::io;
use windlass_plan::failure::{Failure, Reason};

/// A failure that says everything that `error` and its sources say.
pub(crate) fn failure(reason: Reason, error: &dyn Error) -> Failure {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    Failure::new(reason, text)
}

/// The reason that an error of the kernel stands for where the deed has no better one.
pub(crate) fn reason(error: &io::Error) -> Reason {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Reason::MissingPrivilege,
        Some(libc::ENOSPC | libc::EDQUOT | libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Reason::Exhausted,
        _ => Reason::Io,
    }
}
