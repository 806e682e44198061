//! What a guest boots from: Debian's kernel out of the cache, and a first file system with its modules and the agent.

use super::cpio::Cpio;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Loaded at boot, in this order, each after what it depends on. `crc32c_generic` is asked for by name by ext4, xfs and libceph.
const FIRST: [&str; 7] = ["virtio_pci", "virtio_blk", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4"];

/// Loaded meanwhile. Nothing here may be needed for the root or the disk.
const SECOND: [&str; 5] = ["virtio_net", "loop", "libceph", "rbd", "xfs"];

/// The script that is the guest's first process.
const INIT: &str = include_str!("init.sh");

/// The folder in which `tools/setup vm` and the machines keep what takes time to make.
pub(super) fn cache() -> PathBuf {
    let cache = std::env::var_os("WINDLASS_CACHE").map(PathBuf::from);
    cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/windlass")).join("vm")
}

/// The kernel's folder there; an error says how it gets there.
pub(crate) fn kernel() -> Result<PathBuf> {
    let folder = cache().join("kernel");
    ensure!(folder.join("vmlinux").exists(), "{} is missing: run `make setup-vm`", folder.join("vmlinux").display());
    Ok(folder)
}

/// The first file system, made once a run.
pub(super) fn first_file_system(kernel: &Path) -> Result<&'static [u8]> {
    static MADE: OnceLock<std::result::Result<Vec<u8>, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| make(kernel).map_err(|error| format!("{error:#}")));
    made.as_deref().map_err(|text| anyhow::anyhow!("{text}"))
}

fn make(kernel: &Path) -> Result<Vec<u8>> {
    let modules = kernel.join("modules");
    let dependencies = std::fs::read_to_string(modules.join("modules.dep")).context("modules.dep: remove the cache's vm/kernel and run `make setup-vm`")?;
    let mut archive = Cpio::default();
    for folder in ["bin", "proc", "sys", "dev", "lower", "upper", "new", "modules"] {
        archive.folder(folder);
    }
    archive.file("bin/busybox", &std::fs::read("/bin/busybox").context("busybox-static is missing: run `make setup-vm`")?);
    let all = in_order(&dependencies, &[&FIRST[..], &SECOND].concat())?;
    let begun = in_order(&dependencies, &FIRST)?.len();
    for path in &all {
        archive.file(&format!("modules/{}", file_name(path)), without_signature(&std::fs::read(modules.join(path))?));
    }
    for (name, part) in [("first", &all[..begun]), ("second", &all[begun..])] {
        let lines: Vec<&str> = part.iter().map(|path| file_name(path)).collect();
        archive.file(&format!("modules/{name}"), lines.join("\n").as_bytes());
    }
    archive.file("agent", &std::fs::read(crate::daemon::beside("windlass-test-agent"))?);
    archive.file("init", INIT.as_bytes());
    Ok(archive.finish())
}

/// The modules and what they depend on, each after what it needs. Lines of modules.dep are `module: needs needs ...`, the deepest last.
fn in_order<'a>(dependencies: &'a str, names: &[&str]) -> Result<Vec<&'a str>> {
    let lines: Vec<(&str, &str)> = dependencies.lines().filter_map(|line| line.split_once(':')).collect();
    let by_name: HashMap<String, (&str, &str)> = lines.iter().map(|line| (module_name(line.0), *line)).collect();
    let mut order: Vec<&str> = Vec::new();
    for name in names {
        let (path, needs) = by_name.get(*name).with_context(|| format!("this kernel has no module {name}"))?;
        for path in needs.split_whitespace().rev().chain([*path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn module_name(path: &str) -> String {
    file_name(path).trim_end_matches(".ko").replace('-', "_")
}

/// Checking the signatures costs an emulated processor a second or two. The module is followed by the signature, a note of 12 bytes whose last four are the
/// signature's length, and the mark.
fn without_signature(module: &[u8]) -> &[u8] {
    let Some(rest) = module.strip_suffix(b"~Module signature appended~\n") else { return module };
    let Some((rest, length)) = rest.split_last_chunk::<4>() else { return module };
    rest.len().checked_sub(8 + u32::from_be_bytes(*length) as usize).map_or(module, |end| &rest[..end])
}
