//! The crate's unsafe code: what no safe interface offers, one call a function.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use wasmtime::component::Component;
use wasmtime::{CustomCodeMemory, Engine};

/// Compiled code that is mapped for the rest of the process's life.
pub(crate) struct MappedCode(NonNull<[u8]>);

/// Takes a descriptor over that the process was started with.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl reads no memory; it says whether the descriptor is open.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, was inherited, and each number is taken over by one caller, once.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: called before the process owns any descriptor with such a number.
    match unsafe { libc::close_range(first, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One malloc arena for all threads: a plugin process allocates little, and every arena costs memory of its own.
pub(crate) fn use_one_arena() {
    // SAFETY: mallopt sets a number.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Ends the process at once: no destructors, no exit handlers, whatever the other threads do.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and touches no memory.
    unsafe { libc::_exit(code) }
}

/// Random bytes from the kernel.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: writes at most as many bytes as the slice has.
        match unsafe { libc::getrandom(rest.as_mut_ptr().cast::<c_void>(), rest.len(), 0) } {
            count if count > 0 => filled += count as usize,
            _ => return Err(io::Error::last_os_error()),
        }
    }
    Ok(())
}

impl MappedCode {
    /// Maps a regular file read-only. It is never opened by a name, so the process needs no right to open anything.
    pub(crate) fn map(code: OwnedFd) -> io::Result<Self> {
        let code = File::from(code);
        let facts = code.metadata()?;
        if !facts.is_file() || facts.size() == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the compiled code is not a regular file with something in it"));
        }
        let length = usize::try_from(facts.size()).map_err(io::Error::other)?;
        // SAFETY: a fresh private mapping at an address of the kernel's choice; nothing else refers to it.
        let address = unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, code.as_fd().as_raw_fd(), 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let address = NonNull::new(address.cast::<u8>()).ok_or_else(|| io::Error::other("mapped at null"))?;
        Ok(Self(NonNull::slice_from_raw_parts(address, length)))
    }

    /// The component in the mapping. Code of another engine is refused by wasmtime's own header check, which holds our engine key.
    pub(crate) fn component(self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the mapping is never unmapped and the file behind it never changed in place; it is the output of our own compile
        // child out of a cache that the daemon alone can write.
        unsafe { Component::deserialize_raw(engine, self.0) }
    }
}

/// Makes mapped code executable, by the page.
pub(crate) struct Executable;

impl CustomCodeMemory for Executable {
    fn required_alignment(&self) -> usize {
        page_size()
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        // SAFETY: the range is text inside a `MappedCode`, page-aligned by wasmtime's layout, and never writable.
        match unsafe { libc::mprotect(start.cast_mut().cast::<c_void>(), length, libc::PROT_READ | libc::PROT_EXEC) } {
            0 => Ok(()),
            _ => {
                Err(wasmtime::Error::from(io::Error::last_os_error()).context("the compiled code cannot be made executable (is the cache on a noexec mount?)"))
            }
        }
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Leaves compiled code as data: the compile child looks at types and never runs anything.
pub(crate) struct NeverExecutable;

impl CustomCodeMemory for NeverExecutable {
    fn required_alignment(&self) -> usize {
        page_size()
    }

    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// For the engine's configuration.
pub(crate) fn code_memory(is_executable: Execution) -> Arc<dyn CustomCodeMemory> {
    match is_executable {
        Execution::Allowed => Arc::new(Executable),
        Execution::Never => Arc::new(NeverExecutable),
    }
}

/// May compiled code run in this process?
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    /// In the plugin process.
    Allowed,
    /// In the compile child.
    Never,
}

fn page_size() -> usize {
    // SAFETY: sysconf reads a constant.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
