//! Puts the drivers `local` and `rbd` into the binary: the components that `make` built, or ones built here.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    for driver in ["local", "rbd"] {
        let variable = format!("WINDLASS_{}_WASM", driver.to_uppercase());
        println!("cargo::rerun-if-env-changed={variable}");
        let wasm = std::env::var_os(&variable).map(PathBuf::from).or_else(|| beside_local(driver)).unwrap_or_else(|| build(driver));
        println!("cargo::rerun-if-changed={}", wasm.display());
        println!("cargo::rustc-env={variable}={}", wasm.display());
    }
}

/// `make guests` puts all components into one folder: who names `local` there means the others too.
fn beside_local(driver: &str) -> Option<PathBuf> {
    let local = std::env::var_os("WINDLASS_LOCAL_WASM")?;
    Some(Path::new(&local).with_file_name(format!("{driver}.wasm")))
}

/// Builds a driver with the script that `make` uses as well.
fn build(driver: &str) -> PathBuf {
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let top = variable("CARGO_MANIFEST_DIR").join("..");
    let source = format!("plugins/{driver}");
    for part in ["wit", "plugin-sdk/src", &format!("{source}/src"), "tools/guest"] {
        println!("cargo::rerun-if-changed={}", top.join(part).display());
    }
    let out = variable("OUT_DIR").join(format!("{driver}.wasm"));
    let mut command = Command::new(top.join("tools/guest"));
    command.arg("build").arg(top.join(&source)).arg(&out);
    // What cargo sets for this build is not meant for the one inside it.
    for (name, _) in std::env::vars_os() {
        let is_ours = name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_") && name != "CARGO_HOME" || name == "RUSTC" || name.starts_with("RUSTC_") || name == "RUSTFLAGS");
        if is_ours {
            command.env_remove(name);
        }
    }
    let status = command.status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "the driver {driver} could not be built; `tools/guest which` says what is missing, or set WINDLASS_{}_WASM to a component",
        driver.to_uppercase()
    );
    out
}
