//! Who keeps a device or a mount busy, for people: a bounded look through /proc and /sys that asks no file system anything.

use crate::loops;
use crate::mark;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const TIME: Duration = Duration::from_millis(500);
const MOST: usize = 5;

/// `: pid 12 (cat) has it open, ...`; other devices that lie on it come first.
pub(crate) fn of_device(name: &str) -> String {
    let node = format!("/dev/{name}");
    let device = mark::number_of(name).map(|number| format!(" {}:{} ", number.major, number.minor));
    look(devices_on(name, &node), |process| {
        open_files(process).any(|path| path == node).then_some("has it open").or_else(|| is_mounted_in(process, device.as_deref()?).then_some("has it mounted"))
    })
}

/// The same for what is mounted at `point`.
pub(crate) fn of_mount(point: &str) -> String {
    let beneath = format!("{point}/");
    let is_there = |path: &str| path == point || path.starts_with(&beneath);
    look(Vec::new(), |process| {
        let lives_there = ["cwd", "root"].iter().any(|link| fs::read_link(process.join(link)).is_ok_and(|path| is_there(&path.to_string_lossy())));
        (lives_there || open_files(process).any(|path| is_there(&path))).then_some("is in it")
    })
}

/// Other block devices that use it: dm, md and the like as the kernel lists them, and loop devices, which it doesn't.
fn devices_on(name: &str, node: &str) -> Vec<String> {
    let holders = fs::read_dir(format!("/sys/block/{name}/holders")).into_iter().flatten().flatten();
    let holders = holders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let loops = loops::all_names().unwrap_or_default().into_iter().filter(|other| loops::backing_of(other).is_some_and(|path| path == node.as_bytes()));
    holders.chain(loops).take(MOST).map(|other| format!("/dev/{other} lies on it")).collect()
}

fn open_files(process: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    entries.take(10_000).filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned()))
}

/// Mounted in the process's mount namespace; ours was looked at by the caller, who has the words for it.
fn is_mounted_in(process: &Path, device: &str) -> bool {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    namespace(process) != namespace(Path::new("/proc/self")) && fs::read_to_string(process.join("mountinfo")).is_ok_and(|text| text.contains(device))
}

/// Where nobody is found it may be one that we cannot see: whether a process has a file open is told to those alone who may trace it.
fn look(mut words: Vec<String>, question: impl Fn(&Path) -> Option<&'static str>) -> String {
    let deadline = Instant::now() + TIME;
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.path();
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if Instant::now() >= deadline || found.len() == MOST {
            break;
        }
        if pid != std::process::id()
            && let Some(what) = question(&process)
        {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            found.insert((pid, format!("pid {pid} ({}) {what}", name.trim())));
        }
    }
    words.extend(found.into_iter().map(|(_, words)| words));
    if words.is_empty() { "; by whom cannot be seen from here (`fuser -vm` as root tells)".to_owned() } else { format!(": {}", words.join(", ")) }
}
