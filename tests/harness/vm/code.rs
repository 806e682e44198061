//! Compiled components, kept from one guest for the next: an emulated processor needs twenty seconds for one.

use super::Vm;
use super::image::cache;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::time::SystemTime;

/// No more files than these stay; a new build of a component has a new name.
const KEPT: usize = 40;

fn folder() -> PathBuf {
    cache().join("code")
}

/// Puts what was compiled of this component in any guest before into a daemon's folder of compiled code. The daemon takes what its own engine and
/// processor made, by the name, and removes the rest.
#[track_caller]
pub(super) fn lend(vm: &Vm, code: &str, component: &[u8]) {
    let digest: String = Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect();
    vm.run(&["/bin/busybox", "mkdir", "-p", "-m", "700", code]);
    for entry in std::fs::read_dir(folder()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let (true, Ok(content)) = (name.starts_with(&digest), std::fs::read(entry.path())) {
            vm.put(&format!("{code}/{name}"), 0o644, &content);
        }
    }
}

/// Keeps what a daemon has compiled. That this fails costs time, and nothing else.
#[track_caller]
pub(super) fn fetch(vm: &Vm, code: &str) {
    let _ = std::fs::create_dir(folder());
    for name in vm.run(&["/bin/busybox", "ls", code]).lines() {
        let kept = folder().join(name);
        let is_whole = name.ends_with(".code") || name.ends_with(".json");
        if let (true, false, Ok(content)) = (is_whole, kept.exists(), vm.get(&format!("{code}/{name}"))) {
            // By rename: another run may be reading here.
            let new = folder().join(format!("new.{}.{name}", std::process::id()));
            let _ = std::fs::write(&new, content).and_then(|()| std::fs::rename(&new, &kept));
        }
    }
    let mut files: Vec<(SystemTime, PathBuf)> = (std::fs::read_dir(folder()).into_iter().flatten().flatten())
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    files.sort();
    for (_, file) in files.iter().rev().skip(KEPT) {
        let _ = std::fs::remove_file(file);
    }
}
