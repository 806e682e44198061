//! The shape of the tree: what ARCHITECTURE.md says is absent is absent, and each file says what it is for.

use std::path::{Path, PathBuf};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder")
}

/// Every Rust file of the project by its path from the top.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for folder in ["daemon", "plugin-sdk", "plugins", "tests"] {
        collect(&top().join(folder), &mut found);
    }
    assert!(found.len() > 100, "only {} files: are we in the right place?", found.len());
    found
}

fn collect(folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            if entry.file_name() != "target" {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(top()).expect("beneath the top").display().to_string();
            found.push((name, std::fs::read_to_string(&path).expect("text")));
        }
    }
}

/// The part of a file before its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

/// No line of code outside `allowed` may hold any of `words`.
#[track_caller]
fn absent(words: &[&str], allowed: &[&str], why: &str) {
    let mut wrong = Vec::new();
    for (name, text) in sources() {
        if allowed.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        for (number, line) in code(&text).lines().enumerate() {
            let line = line.split("//").next().unwrap_or(line).replace("ExitCode::", "");
            // HTTP's code of an answer to /readyz, and the state of gRPC's health checking, are no codes of calls.
            let line = line.replace("StatusCode::", "").replace("ServingStatus::", "");
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "{why}\n{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_one_sentence_on_what_it_is_for() {
    let wrong: Vec<String> = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(name, _)| name).collect();
    assert!(wrong.is_empty(), "these do not begin with `//! `:\n{}", wrong.join("\n"));
}

#[test]
fn files_stay_small() {
    // The one file of raw calls of its crate, by the law that there is only one.
    let exceptions = ["daemon/linux/src/sys.rs", "daemon/ceph/src/ffi.rs"];
    let wrong: Vec<String> = (sources().into_iter())
        .filter(|(name, _)| !exceptions.contains(&name.as_str()) && !name.contains("/tests"))
        .map(|(name, text)| (code(&text).lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count(), name))
        .filter(|(lines, _)| *lines > 300)
        .map(|(lines, name)| format!("{name}: {lines} lines of code"))
        .collect();
    assert!(wrong.is_empty(), "a file that passes 300 lines of code is usually two ideas:\n{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_fenced() {
    let fences = [
        "daemon/linux/src/sys.rs",
        "daemon/sandbox/src/sys.rs",
        "daemon/ceph/src/ffi.rs",
        "daemon/sandbox/tests/",
        "daemon/linux/tests/",
        "tests/guests/hostile/",
        "tests/suite/tidy.rs",
    ];
    absent(&["unsafe {", "unsafe fn", "unsafe impl"], &fences, "raw system calls live in one file a crate");
    absent(&["allow(unsafe_code)"], &fences, "only the fenced files allow it");
}

#[test]
fn a_grpc_code_is_chosen_in_one_place() {
    let allowed = ["daemon/src/status.rs", "daemon/csi/", "daemon/sandbox/", "daemon/linux/", "plugin-sdk/", "plugins/", "tests/"];
    absent(&["Code::", "Status::"], &allowed, "a reason has its code in daemon/src/status.rs");
}

#[test]
fn nothing_is_forced_lazy_or_recursive() {
    // The sandbox's intruder tries what must be denied to it.
    let allowed = ["daemon/sandbox/tests/roles/probe.rs", "tests/suite/tidy.rs"];
    absent(&["remove_dir_all", "MNT_DETACH", "MNT_FORCE"], &allowed, "law 7");
}

#[test]
fn programs_are_started_in_two_places() {
    let allowed = [
        "daemon/plugins/src/child.rs",
        "daemon/linux/src/program.rs",
        "daemon/build.rs",
        "tests/",
        "daemon/linux/tests",
        "daemon/ceph/tests",
        "daemon/sandbox/tests",
        "daemon/sandbox/benches",
        "daemon/sandbox/examples",
        "plugin-sdk/build.rs",
    ];
    absent(&["Command::new"], &allowed, "law 14: our own roles in child.rs, mkfs and e2fsck in program.rs");
}

#[test]
fn there_is_one_hop_to_a_thread() {
    absent(&["spawn_blocking("], &["daemon/src/claims.rs", "tests/suite/tidy.rs"], "claims::on_a_thread is the one place");
}

#[test]
fn nothing_is_left_for_later_in_the_code() {
    absent(&["todo!", "unimplemented!", "FIXME", "#[ignore", "dbg!("], &["tests/suite/tidy.rs"], "what is not built is not there");
}

#[test]
fn the_arrows_point_down() {
    let allowed: &[(&str, &[&str])] = &[
        ("daemon/plan", &[]),
        ("daemon/wire", &["plan"]),
        ("daemon/linux", &["plan"]),
        ("daemon/engine", &["plan", "wire"]),
        ("daemon/plugins", &["plan", "wire"]),
        ("daemon/sandbox", &["plan", "wire"]),
        ("daemon/csi", &["plan"]),
        ("daemon/ceph", &["plan"]),
    ];
    for (folder, may) in allowed {
        let manifest = std::fs::read_to_string(top().join(folder).join("Cargo.toml")).expect("a manifest");
        let dependencies = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap_or("");
        for line in dependencies.lines() {
            if let Some(name) = line.strip_prefix("windlass-").and_then(|rest| rest.split(['.', ' ', '=']).next()) {
                assert!(may.contains(&name), "{folder} may not know windlass-{name}");
            }
        }
        let foreign: &[&str] = match *folder {
            "daemon/plan" => &["tokio", "tonic", "nix", "libc", "wasmtime"],
            "daemon/engine" => &["tokio", "tonic", "nix", "libc", "wasmtime"],
            "daemon/plugins" => &["tonic", "wasmtime"],
            "daemon/linux" | "daemon/wire" | "daemon/ceph" => &["tokio", "tonic", "wasmtime"],
            _ => &[],
        };
        for name in foreign {
            assert!(!dependencies.lines().any(|line| line.starts_with(name)), "{folder} may not know {name}");
        }
    }
}

#[test]
fn what_readme_tells_people_to_type_exists() {
    let readme = std::fs::read_to_string(top().join("README.md")).expect("README.md");
    let makefile = std::fs::read_to_string(top().join("Makefile")).expect("Makefile");
    let targets: Vec<&str> = readme.split("make ").skip(1).filter_map(|rest| rest.split(|c: char| !c.is_ascii_lowercase() && c != '-').next()).collect();
    for target in ["demo", "test"] {
        assert!(targets.contains(&target), "README names `make {target}`");
    }
    for target in readme.lines().filter_map(|line| line.trim().strip_prefix("make ")) {
        let name = target.split_whitespace().next().unwrap_or("");
        assert!(makefile.lines().any(|line| line.starts_with(&format!("{name}:"))), "README says `make {name}`, which the Makefile does not have");
    }
}
