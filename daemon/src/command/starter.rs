//! `windlass plugin new`: a driver that works, with its tests, and the SDK that this daemon was built with.

use super::print;
use anyhow::Context;
use std::path::Path;

/// The SDK's sources and the contract, by their paths in the new folder.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The rest of it.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../starter/Cargo.toml.txt")),
    ("README.md", include_str!("../../starter/README.md.txt")),
    (".gitignore", "/target\n/demo\n"),
    ("src/lib.rs", include_str!("../../starter/lib.rs")),
    ("src/tests.rs", include_str!("../../starter/tests.rs")),
    ("sdk/plugin-sdk/Cargo.toml", include_str!("../../starter/sdk.toml.txt")),
];

/// Makes the folder of a new driver, which is called as the folder is. What exists is not touched.
pub(crate) fn new(folder: &Path, vendor: &str) -> anyhow::Result<()> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_name = (1..=40).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    anyhow::ensure!(is_name, "a driver is called as its folder is, and {name:?} is no name: give 1 to 40 lower-case letters, digits and `-`, a letter first");
    let is_vendor = (1..=128).contains(&vendor.len()) && vendor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-. ".contains(&byte));
    anyhow::ensure!(is_vendor, "`--vendor` is {vendor:?}; give letters, digits, `-`, `.` and blanks, such as storage.example");
    std::fs::create_dir(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let filled = |text: &str| {
        let text = text.replace("WIT_BINDGEN", env!("WINDLASS_WIT_BINDGEN")).replace("SDK_VERSION", env!("CARGO_PKG_VERSION"));
        text.replace("VENDOR", vendor).replace("CRATE", &name.replace('-', "_")).replace("NAME", name)
    };
    // What is the SDK's own stays as it is.
    let files = FILES.iter().map(|(path, text)| (*path, filled(text))).chain(SDK.iter().map(|(path, text)| (*path, (*text).to_owned())));
    for (path, text) in files {
        let path = folder.join(path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, text));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    let shown = folder.display();
    print(&format!("{shown} is a driver that works. Next:\n  cd {shown} && cargo test\n  cat README.md"))
}
