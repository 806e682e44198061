//! A daemon's admin socket: a command in, JSON out, in a millisecond and without a program.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Asks a daemon. The request is JSON and a zero byte; the answer a length of four bytes, the highest first, and JSON.
pub(super) fn ask(socket: &Path, command: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("{}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(format!("{}\0", json!({ "prefix": command, "format": "json" })).as_bytes())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = Vec::new();
    stream.take(u32::from_be_bytes(length).into()).read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
