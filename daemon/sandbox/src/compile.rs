//! The compile child: as shut in as the plugin process, it turns one component into code and says what the component is.

use crate::engine;
use crate::linker::{self, Unfit};
use crate::sys;
use crate::text;
use crate::walls::{self, Filter, Room, WallError};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use wasmtime::component::Component;
use windlass_wire::frame;
use windlass_wire::plugin::{Compiled, Inspection};

/// What compiling one component may cost. Wall-clock time is the daemon's to bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// Seconds of CPU, of all threads together.
    pub cpu_seconds: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of compiled code.
    pub code: u64,
    /// Bytes of the component.
    pub component: u64,
    /// Threads that compile.
    pub threads: usize,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { cpu_seconds: 60, memory: 1 << 30, code: 256 << 20, component: 64 << 20, threads: 4 }
    }
}

/// Why there is no code: the component's fault, or ours.
#[derive(Debug, thiserror::Error)]
enum CompileError {
    #[error("an inherited descriptor is missing")]
    Inherited(#[source] io::Error),
    #[error("the compile child cannot shut itself in")]
    Walls(#[from] WallError),
    #[error("the component cannot be read")]
    Read(#[source] io::Error),
    #[error("the file is empty; a WebAssembly component is wanted")]
    Empty,
    #[error("the file is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("the file is no WebAssembly (it begins with {begins}); a component is wanted, as `cargo build --target wasm32-wasip2` makes it")]
    Foreign { begins: String },
    #[error("the file is WebAssembly text; compile it to a binary component first")]
    Text,
    #[error(
        "the file is a core WebAssembly module, not a component; build it with `--target wasm32-wasip2`, or make a component of it with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("the file is WebAssembly of an encoding that this daemon does not know (version {version}, layer {layer})")]
    Encoding { version: u16, layer: u16 },
    #[error("the component ends in the middle (after {length} bytes); was the copy cut short?")]
    CutShort { length: usize },
    #[error("the component is not valid, or uses a WebAssembly feature that plugins do not have (threads, 64-bit memory, exceptions, gc)")]
    Invalid(#[source] wasmtime::Error),
    #[error("the component is not a plugin of ours")]
    Unfit(#[source] Unfit),
    #[error("wasmtime does not start")]
    Engine(#[source] wasmtime::Error),
    #[error("no threads to compile with")]
    Threads(#[source] rayon::ThreadPoolBuildError),
    #[error("the compiled code cannot be written; {limit} bytes are allowed")]
    Write {
        limit: u64,
        #[source]
        source: io::Error,
    },
}

/// Compiles. To be called first thing in a process of its own, while it has one thread. Descriptor 3 is a socket for the one
/// [`Compiled`] frame, 4 a file with the component's bytes, 5 a file for the code. `uid` as for [`plugin_host`](crate::plugin_host).
///
/// A child that is killed by its limits says nothing: [`death_words`] tells why from its exit status.
pub fn compile(uid: Option<u32>, limits: CompileLimits) -> ExitCode {
    let Ok(socket) = sys::inherited(3).map(UnixStream::from) else { return ExitCode::from(2) };
    let answer = match work(uid, limits) {
        Ok(inspection) => Compiled::Ok(inspection),
        Err(error) => Compiled::Refused { reason: text::error_line(&wasmtime::Error::new(error)) },
    };
    let told = frame::write(&mut &socket, &answer);
    // At once: what a stranger's bytes left in memory needs no tidying up.
    sys::exit_now(if told.is_ok() { 0 } else { 2 })
}

/// Why a compile child ended without a word, for people.
pub fn death_words(status: ExitStatus) -> String {
    match status.signal() {
        Some(libc::SIGXCPU) => "compiling it took more CPU time than is allowed".to_owned(),
        Some(libc::SIGXFSZ) => "its compiled code is larger than is allowed".to_owned(),
        Some(libc::SIGABRT) => "compiling it took more memory than is allowed".to_owned(),
        Some(libc::SIGSYS) => "compiling it led to a forbidden system call; treat the file as hostile".to_owned(),
        Some(libc::SIGKILL) => "compiling it took too long, or the machine ran out of memory".to_owned(),
        Some(signal) => format!("compiling it crashed the compiler (signal {signal})"),
        None => format!("the compiler ended without an answer ({status})"),
    }
}

fn work(uid: Option<u32>, limits: CompileLimits) -> Result<Inspection, CompileError> {
    let component = File::from(sys::inherited(4).map_err(CompileError::Inherited)?);
    let mut code = File::from(sys::inherited(5).map_err(CompileError::Inherited)?);
    let room = Room { files: 16, file_size: limits.code, data: limits.memory, cpu: Some(limits.cpu_seconds) };
    walls::shut_in(uid, 6, &room, Filter::Compile)?;

    let bytes = read(component, limits.component)?;
    recognise(&bytes)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(limits.threads).max(1);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().map_err(CompileError::Threads)?;
    let engine = engine::for_compiling().map_err(CompileError::Engine)?;
    let component = Component::from_binary(&engine, &bytes).map_err(CompileError::Invalid)?;
    let linked = linker::link(&engine, &component).map_err(CompileError::Unfit)?;
    let compiled = component.serialize().map_err(CompileError::Invalid)?;
    code.write_all(&compiled).map_err(|source| CompileError::Write { limit: limits.code, source })?;
    Ok(Inspection { exports: linked.exported, imports: linked.imported, code_size: compiled.len() as u64 })
}

fn read(file: File, limit: u64) -> Result<Vec<u8>, CompileError> {
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(CompileError::Read)?;
    if bytes.len() as u64 > limit { Err(CompileError::TooLarge { limit }) } else { Ok(bytes) }
}

/// The first eight bytes tell what kind of file it is.
fn recognise(bytes: &[u8]) -> Result<(), CompileError> {
    if bytes.is_empty() {
        return Err(CompileError::Empty);
    }
    if !bytes.starts_with(&b"\0asm"[..bytes.len().min(4)]) {
        let text = bytes.trim_ascii_start();
        if text.starts_with(b"(component") || text.starts_with(b"(module") {
            return Err(CompileError::Text);
        }
        let begins: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        return Err(CompileError::Foreign { begins: begins.join(" ") });
    }
    match bytes.get(4..8) {
        Some([0x0d, 0, 1, 0]) if is_whole(&bytes[8..]) => Ok(()),
        Some([0x0d, 0, 1, 0]) => Err(CompileError::CutShort { length: bytes.len() }),
        Some([1, 0, 0, 0]) => Err(CompileError::CoreModule),
        Some([a, b, c, d]) => Err(CompileError::Encoding { version: u16::from_le_bytes([*a, *b]), layer: u16::from_le_bytes([*c, *d]) }),
        _ => Err(CompileError::CutShort { length: bytes.len() }),
    }
}

/// Do the sections end where the file does? What is no section at all is the parser's to name.
fn is_whole(mut sections: &[u8]) -> bool {
    while let [id, rest @ ..] = sections {
        let mut length = 0_u64;
        let mut used = 0;
        for byte in rest.iter().take(5) {
            length |= u64::from(byte & 0x7f) << (7 * used);
            used += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        match rest.get(used..) {
            _ if *id > 12 => return true,
            Some(body) if used > 0 && body.len() as u64 >= length => sections = &body[length as usize..],
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::recognise;

    #[test]
    fn each_wrong_file_has_words_of_its_own() {
        let told = |bytes: &[u8]| recognise(bytes).unwrap_err().to_string();
        assert!(told(b"").contains("empty"));
        assert!(told(b"\x7fELF\x02\x01\x01\0").contains("7f 45 4c 46"));
        assert!(told(b"  (component)").contains("text"));
        assert!(told(b"\0asm\x01\0\0\0").contains("core WebAssembly module"));
        assert!(told(b"\0asm\x0e\0\x01\0").contains("version 14"));
        assert!(told(b"\0as").contains("cut short"));
        assert!(recognise(b"\0asm\x0d\0\x01\0").is_ok());
    }
}
