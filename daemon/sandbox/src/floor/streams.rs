//! `wasi:io/streams` and `error`: input is at its end, output goes to the log line by line.

use super::clocks::{Pollable, READY};
use crate::call::Call;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, LinkerInstance, Lower, Resource};

/// Standard output or error.
pub(super) struct Output;
/// Standard input, closed.
pub(super) struct Input;
/// `wasi:io/error.error`, of which we make none.
pub(super) struct Failed;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code, reason = "a case of the WIT that never happens here")]
    LastOperationFailed(Resource<Failed>),
    #[component(name = "closed")]
    Closed,
}

/// Bytes that the guest may write at once.
const ROOM: u64 = 64 << 10;

type Done = (Result<(), StreamError>,);
type Moved = (Result<u64, StreamError>,);
type Read = (Result<Vec<u8>, StreamError>,);

pub(super) fn lay(instance: &mut LinkerInstance<'_, Call>, interface: &str, name: &str) -> wasmtime::Result<bool> {
    let Some(method) = name.strip_prefix("[method]") else { return Ok(false) };
    match (interface, method) {
        ("io/streams", "output-stream.check-write") => instance.func_wrap(name, |_, (_,): (Resource<Output>,)| -> wasmtime::Result<Moved> { Ok((Ok(ROOM),)) }),
        ("io/streams", "output-stream.write" | "output-stream.blocking-write-and-flush") => {
            instance.func_wrap(name, |mut store: StoreContextMut<'_, Call>, (_, bytes): (Resource<Output>, Vec<u8>)| -> wasmtime::Result<Done> {
                store.data().alive()?;
                store.data_mut().write_output(&bytes);
                Ok((Ok(()),))
            })
        }
        ("io/streams", "output-stream.flush" | "output-stream.blocking-flush") => {
            instance.func_wrap(name, |store: StoreContextMut<'_, Call>, (_,): (Resource<Output>,)| -> wasmtime::Result<Done> {
                store.data().alive()?;
                Ok((Ok(()),))
            })
        }
        ("io/streams", "output-stream.write-zeroes" | "output-stream.blocking-write-zeroes-and-flush") => {
            instance.func_wrap(name, |_, (_, _): (Resource<Output>, u64)| -> wasmtime::Result<Done> { Ok((Err(StreamError::Closed),)) })
        }
        ("io/streams", "output-stream.splice" | "output-stream.blocking-splice") => {
            instance.func_wrap(name, |_, (_, _, _): (Resource<Output>, Resource<Input>, u64)| -> wasmtime::Result<Moved> { Ok((Err(StreamError::Closed),)) })
        }
        ("io/streams", "output-stream.subscribe") => instance.func_wrap(name, |_, (_,): (Resource<Output>,)| Ok((Resource::<Pollable>::new_own(READY),))),
        ("io/streams", "input-stream.read" | "input-stream.blocking-read") => {
            instance.func_wrap(name, |_, (_, _): (Resource<Input>, u64)| -> wasmtime::Result<Read> { Ok((Err(StreamError::Closed),)) })
        }
        ("io/streams", "input-stream.skip" | "input-stream.blocking-skip") => {
            instance.func_wrap(name, |_, (_, _): (Resource<Input>, u64)| -> wasmtime::Result<Moved> { Ok((Err(StreamError::Closed),)) })
        }
        ("io/streams", "input-stream.subscribe") => instance.func_wrap(name, |_, (_,): (Resource<Input>,)| Ok((Resource::<Pollable>::new_own(READY),))),
        ("io/error", "error.to-debug-string") => instance.func_wrap(name, |_, (_,): (Resource<Failed>,)| Ok((String::from("closed"),))),
        _ => return Ok(false),
    }?;
    Ok(true)
}
