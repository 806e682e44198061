//! Has a component compiled by a child that is as shut in as the plugin will be: a compile bomb costs that child its life.

use crate::cache::Code;
use crate::child::Mortal;
use crate::component::Component;
use crate::generation::Workshop;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::{self, Seek, Write};
use std::time::Duration;
use windlass_wire::frame::{self, FrameError};
use windlass_wire::plugin::Compiled;

/// How long a compilation may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How long a child that has closed its connection may take to end, and so to say why.
const END: Duration = Duration::from_secs(1);

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not a component of ours; the words are for its author.
    #[error("{0}")]
    Refused(String),
    /// The child was ended by its limits, or crashed; the words are for people.
    #[error("{0}")]
    Died(String),
    /// It did not end by itself.
    #[error("compiling the component took more than {} s", DEADLINE.as_secs())]
    TimedOut(#[source] FrameError),
    /// The child could not be started, or its result not be kept.
    #[error("the component could not be compiled")]
    Io(#[from] io::Error),
    /// The machine has no memory file.
    #[error("no memory file for the compiler")]
    Memory(#[from] nix::Error),
}

/// The code of a component: from the cache, or compiled now.
pub fn code(workshop: &Workshop, component: &Component, uid: Option<u32>) -> Result<Code, CompileError> {
    let Workshop { binary, cache, death_words } = workshop;
    if let Some(code) = cache.find(component) {
        return Ok(code);
    }
    let mut input: File = memfd_create(c"component", MFdFlags::MFD_CLOEXEC)?.into();
    input.write_all(&component.bytes)?;
    input.rewind()?;
    let mut output: File = memfd_create(c"code", MFdFlags::MFD_CLOEXEC)?.into();
    let mut arguments = vec!["plugin-host".to_owned(), "--compile".to_owned()];
    arguments.extend(uid.map(|uid| format!("--uid={uid}")));
    let (child, mut socket) = binary.start(&arguments, vec![input.into(), output.try_clone()?.into()])?;
    let child = Mortal::new(child);
    let answer = socket.set_read_timeout(Some(DEADLINE)).map_err(FrameError::Io).and_then(|()| frame::read::<Compiled>(&mut socket, 64 << 10));
    let answer = match answer {
        // One that is closed and lives on is killed like any other, below.
        Err(FrameError::Closed) => Err(CompileError::Died(match child.ends_within(END)? {
            Some(status) => death_words(status),
            None => "the compiler closed its connection, gave no answer and did not end; it was killed".to_owned(),
        })),
        other => other.map_err(CompileError::TimedOut),
    };
    drop(child);
    match answer? {
        Compiled::Refused { reason } => Err(CompileError::Refused(reason.chars().filter(|c| !c.is_control()).take(1000).collect())),
        Compiled::Ok(mut inspection) => {
            // The child is not believed: the size is what is there.
            inspection.code_size = output.metadata()?.len();
            output.rewind()?;
            Ok(cache.keep(component, output, inspection)?)
        }
    }
}
