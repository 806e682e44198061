//! What a guest boots from: Debian's kernel out of the cache, and a first file system with its modules and the agent.

use super::cpio::Cpio;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Loaded at boot, in this order, each after what it depends on. `crc32c_generic` is asked for by name by ext4, xfs and libceph.
const MODULES: [&str; 12] =
    ["virtio_pci", "virtio_blk", "virtio_net", "9pnet_virtio", "9p", "overlay", "crc32c_generic", "ext4", "loop", "libceph", "rbd", "xfs"];

/// The script that is the guest's first process.
const INIT: &str = include_str!("init.sh");

/// The folder that `tools/setup vm` filled.
pub(super) fn kernel() -> Result<PathBuf> {
    let cache =
        std::env::var_os("WINDLASS_CACHE").map_or_else(|| Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/windlass"), PathBuf::from);
    let folder = cache.join("vm/kernel");
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
    let mut order = String::new();
    for path in in_order(&dependencies)? {
        let name = path.rsplit('/').next().unwrap_or(path);
        archive.file(&format!("modules/{name}"), without_signature(&std::fs::read(modules.join(path))?));
        order.push_str(&format!("{name}\n"));
    }
    archive.file("modules/order", order.as_bytes());
    archive.file("agent", &std::fs::read(crate::daemon::beside("windlass-test-agent"))?);
    archive.file("init", INIT.as_bytes());
    Ok(archive.finish())
}

/// The modules and what they depend on, each after what it needs. Lines of modules.dep are `module: needs needs ...`, the deepest last.
fn in_order(dependencies: &str) -> Result<Vec<&str>> {
    let lines: Vec<(&str, &str)> = dependencies.lines().filter_map(|line| line.split_once(':')).collect();
    let by_name: HashMap<String, (&str, &str)> = lines.iter().map(|line| (module_name(line.0), *line)).collect();
    let mut order: Vec<&str> = Vec::new();
    for name in MODULES {
        let (path, needs) = by_name.get(name).with_context(|| format!("this kernel has no module {name}"))?;
        for path in needs.split_whitespace().rev().chain([*path]) {
            if !order.contains(&path) {
                order.push(path);
            }
        }
    }
    Ok(order)
}

fn module_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).trim_end_matches(".ko").replace('-', "_")
}

/// Checking the signatures costs an emulated processor a second or two. The module is followed by the signature, a note of 12 bytes whose last four are the
/// signature's length, and the mark.
fn without_signature(module: &[u8]) -> &[u8] {
    let Some(rest) = module.strip_suffix(b"~Module signature appended~\n") else { return module };
    let Some((rest, length)) = rest.split_last_chunk::<4>() else { return module };
    rest.len().checked_sub(8 + u32::from_be_bytes(*length) as usize).map_or(module, |end| &rest[..end])
}
