//! Puts the `local` driver into the binary: the component that `make` built, or one built here.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=WINDLASS_LOCAL_WASM");
    let wasm = match std::env::var_os("WINDLASS_LOCAL_WASM") {
        Some(path) => PathBuf::from(path),
        None => build(),
    };
    println!("cargo::rerun-if-changed={}", wasm.display());
    println!("cargo::rustc-env=WINDLASS_LOCAL_WASM={}", wasm.display());
}

/// Builds the driver with the script that `make` uses as well.
fn build() -> PathBuf {
    let variable = |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_default());
    let top = variable("CARGO_MANIFEST_DIR").join("..");
    for part in ["wit", "plugin-sdk/src", "plugins/local/src", "tools/guest"] {
        println!("cargo::rerun-if-changed={}", top.join(part).display());
    }
    let out = variable("OUT_DIR").join("local.wasm");
    let mut command = Command::new(top.join("tools/guest"));
    command.arg("build").arg(top.join("plugins/local")).arg(&out);
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
        "the local driver could not be built; `tools/guest which` says what is missing, or set WINDLASS_LOCAL_WASM to a component"
    );
    out
}
