//! A vendor: a key of its own, signatures by it, and versions of one component.

use harness::component;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Who signs, with the daemon's own command line.
pub(super) struct Vendor {
    folder: TempDir,
    /// The public key, as it stands in a driver's file.
    pub(super) key: String,
    /// Its id.
    pub(super) id: String,
}

impl Vendor {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = windlass(folder.path(), &["plugin", "keygen", "key", "--no-password", "-o", "json"]);
        let made: serde_json::Value = serde_json::from_slice(&made).unwrap();
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        Self { key: text("key"), id: text("id"), folder }
    }

    /// The signature's file for these bytes.
    pub(super) fn sign(&self, bytes: &[u8]) -> String {
        let file = self.folder.path().join("component.wasm");
        std::fs::write(&file, bytes).unwrap();
        windlass(self.folder.path(), &["plugin", "sign", "component.wasm", "--key", "key"]);
        std::fs::read_to_string(self.folder.path().join("component.wasm.minisig")).unwrap()
    }
}

fn windlass(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(harness::binary()).args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// `local`, as if it were of this version.
pub(super) fn local(version: &str) -> Vec<u8> {
    of("windlass.io", version)
}

/// `local`, as if it were of this vendor and version, which have as many letters as the real ones.
pub(super) fn of(vendor: &str, version: &str) -> Vec<u8> {
    const REAL: &[u8] = b"windlass.io0.1.0";
    let said = format!("{vendor}{version}");
    assert_eq!(said.len(), REAL.len());
    let mut bytes = std::fs::read(component("local")).unwrap();
    let at: Vec<usize> = (0..bytes.len() - REAL.len()).filter(|at| bytes[*at..].starts_with(REAL)).collect();
    assert_eq!(at.len(), 1, "what `describe` says is there once, in one piece");
    bytes[at[0]..at[0] + REAL.len()].copy_from_slice(said.as_bytes());
    bytes
}

/// The SHA-256 of some bytes, as the daemon writes it.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
