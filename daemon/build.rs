//! Puts the drivers `local` and `rbd` into the binary: the components that `make` built, or ones built here; and the sources of the SDK, for new drivers.

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
    sdk();
}

/// Writes the list of the SDK's sources and of the contract, each with where it goes in a new driver's folder.
fn sdk() {
    let top = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let (mut folders, mut list) = (vec![top.join("plugin-sdk/src"), top.join("wit")], String::from("&["));
    while let Some(folder) = folders.pop() {
        println!("cargo::rerun-if-changed={}", folder.display());
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder).expect("the SDK's sources").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                folders.push(path);
            } else {
                let to = Path::new("sdk").join(path.strip_prefix(&top).expect("beneath the top"));
                list.push_str(&format!("({:?}, include_str!({:?})),", to.display().to_string(), path.display().to_string()));
            }
        }
    }
    list.push(']');
    std::fs::write(PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("sdk.rs"), list).expect("a file in OUT_DIR");
    let manifest = std::fs::read_to_string(top.join("plugins/Cargo.toml")).expect("the plugins' workspace");
    println!("cargo::rerun-if-changed={}", top.join("plugins/Cargo.toml").display());
    let version = manifest.lines().find_map(|line| line.strip_prefix("wit-bindgen = { version = \"")?.split('"').next()).expect("the version of wit-bindgen");
    println!("cargo::rustc-env=WINDLASS_WIT_BINDGEN={version}");
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
