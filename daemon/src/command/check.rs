//! `windlass check`: is this node fit to run the daemon? Looks, and changes nothing.

use super::{Output, print_json, print_table};
use crate::config::{self, Config, Role, Signatures};
use serde::Serialize;
use std::path::{Path, PathBuf};
use windlass_linux::{Tools, privileges};
use windlass_plan::capability::FilesystemKind;

/// The oldest kernel that the daemon is written for.
const OLDEST: (u32, u32) = (5, 15);

/// The arguments of `windlass check`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The daemon's configuration
    #[arg(long, default_value = "/etc/windlass/windlass.toml")]
    config: PathBuf,
    /// A table for people, or JSON for programs
    #[arg(short, long, value_enum, default_value = "table")]
    output: Output,
}

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Found {
    /// As it should be.
    Ok,
    /// The daemon runs without it, and something else does not.
    Lacking,
    /// The daemon does not run.
    Missing,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    found: Found,
    /// What was found, and what it is needed for.
    words: String,
}

/// Prints what was found; fails where something is missing without which the daemon does not run.
pub(crate) fn check(arguments: &Arguments) -> anyhow::Result<()> {
    let findings = look(&arguments.config);
    if arguments.output == Output::Json {
        print_json(&findings)?;
    } else {
        let rows = findings.iter().map(|finding| vec![finding.what.to_owned(), word(finding.found).to_owned(), finding.words.clone()]);
        print_table(&["WHAT", "FOUND", ""], rows.collect())?;
    }
    let missing: Vec<&str> = findings.iter().filter(|finding| finding.found == Found::Missing).map(|finding| finding.what).collect();
    anyhow::ensure!(missing.is_empty(), "this node is not fit to run the daemon: {}", missing.join(", "));
    Ok(())
}

fn word(found: Found) -> &'static str {
    match found {
        Found::Ok => "ok",
        Found::Lacking => "lacking",
        Found::Missing => "MISSING",
    }
}

fn look(file: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |what, found, words: String| findings.push(Finding { what, found, words });
    let or = |is_so: bool, otherwise| if is_so { Found::Ok } else { otherwise };

    let release = nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned()).unwrap_or_default();
    let is_new_enough = version(&release).is_none_or(|version| version >= OLDEST);
    add("kernel", or(is_new_enough, Found::Missing), format!("{release}; the oldest is {}.{}", OLDEST.0, OLDEST.1));

    let config = Config::read(file);
    match &config {
        Ok(_) => add("configuration", Found::Ok, file.display().to_string()),
        Err(error) => add("configuration", Found::Missing, error.to_string()),
    }
    let has_node = config.as_ref().map_or(true, |config| config.has(Role::Node));
    if has_node {
        let held = privileges();
        add("CAP_SYS_ADMIN", or(held.sys_admin, Found::Missing), "devices, mounts, and the namespaces of plugin processes".to_owned());
        add("CAP_DAC_OVERRIDE", or(held.dac_override, Found::Missing), "files and folders of any owner".to_owned());
        add("CAP_KILL", or(held.kill, Found::Missing), "plugin processes, which are other users', are ended with it".to_owned());
        add("CAP_SYS_RESOURCE", or(held.sys_resource, Found::Lacking), "a mounted ext4 is grown with it alone".to_owned());
        let kinds = FilesystemKind::ALL.map(FilesystemKind::name);
        let unknown: Vec<&str> = kinds.into_iter().filter(|kind| !held.filesystems.contains(kind) && !has_module(&release, kind)).collect();
        let words = if unknown.is_empty() { kinds.join(", ") } else { format!("the kernel does not know {}", unknown.join(", ")) };
        add("file systems", or(unknown.is_empty(), Found::Lacking), words);
        let landlock = held.landlock.map_or("the kernel has none, or does not switch it on".to_owned(), |version| format!("version {version}"));
        add("landlock", or(held.landlock.is_some(), Found::Lacking), format!("{landlock}; one of several walls of the plugin processes"));

        let tools = Tools::find();
        for (program, package) in tools.missing() {
            add("program", Found::Lacking, format!("{program} is not installed; the package {package} has it"));
        }
        if tools.missing().is_empty() {
            add("programs", Found::Ok, "mkfs.ext4, mkfs.xfs, e2fsck".to_owned());
        }
        let cgroups = tools.have_cgroups();
        add("cgroups", or(cgroups, Found::Lacking), "of the second version: with one of its own, all that an mkfs starts can be ended".to_owned());
        add("loop devices", or(held.has_loop, Found::Lacking), "/dev/loop-control; drivers whose volumes are files need it".to_owned());
        let (is_loaded, is_there) = (Path::new("/sys/bus/rbd").exists(), has_module(&release, "rbd"));
        let words = if is_loaded {
            "loaded"
        } else if is_there {
            "a module, loaded when it is needed"
        } else {
            "no module of this kernel was found"
        };
        add("RBD client", or(is_loaded || is_there, Found::Lacking), format!("{words}; drivers whose volumes are images of Ceph need it"));
    }
    if let Ok(config) = &config {
        of_configuration(config, &mut add);
    }
    findings
}

/// What the configuration names.
fn of_configuration(config: &Config, add: &mut impl FnMut(&'static str, Found, String)) {
    let state = nearest(&config.state);
    match nix::sys::statvfs::statvfs(&state) {
        Ok(seen) if seen.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC) => {
            add("state", Found::Missing, format!("{} is mounted noexec, and compiled components are mapped from it", config.state.display()));
        }
        Ok(_) => add("state", Found::Ok, config.state.display().to_string()),
        Err(error) => add("state", Found::Missing, format!("{}: {error}", config.state.display())),
    }
    match config.signatures {
        Signatures::Required => add("signatures", Found::Ok, "components have to be signed".to_owned()),
        Signatures::Off => add("signatures", Found::Lacking, "off: whoever can write a component's file decides what runs in the sandbox".to_owned()),
    }
    if let Some(registry) = &config.registry {
        let words = format!("{}; kubelet makes it when it starts", registry.display());
        add("kubelet.registry", if registry.is_dir() { Found::Ok } else { Found::Lacking }, words);
    }
    let files = std::fs::read_dir(&config.drivers).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut count = 0;
    for file in files {
        let spec = match config::driver_of(&file) {
            None => continue,
            Some(Ok(name)) => config::driver(&file, &name, config).map(drop),
            Some(Err(error)) => Err(error),
        };
        count += 1;
        if let Err(error) = spec {
            add("driver", Found::Lacking, error.to_string());
        }
    }
    let found = if count > 0 { Found::Ok } else { Found::Lacking };
    add("drivers", found, format!("{count} files in {}", config.drivers.display()));
}

/// The path, or what there is of it.
fn nearest(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

/// Major and minor number of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Does the kernel have a module of that name, or is it built in?
fn has_module(release: &str, name: &str) -> bool {
    let folder = Path::new("/lib/modules").join(release);
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        let text = std::fs::read_to_string(folder.join(list)).unwrap_or_default();
        let files = text.lines().filter_map(|line| line.split(':').next()?.rsplit('/').next());
        files.into_iter().any(|file| file.split('.').next() == Some(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_their_first_two_numbers() {
        assert_eq!(version("6.1.0-44-amd64"), Some((6, 1)));
        assert_eq!(version("5.15.0"), Some((5, 15)));
        assert!(version("5.4.0-generic").unwrap() < OLDEST && version("6.1").unwrap() > OLDEST);
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn what_a_broken_configuration_lacks_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("windlass.toml");
        let found = |what: &str| look(&file).into_iter().find(|finding| finding.what == what);
        assert_eq!(found("configuration").unwrap().found, Found::Missing, "there is no file");

        std::fs::create_dir(folder.path().join("drivers.d")).unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let text = format!("roles = [\"controller\"]\ndrivers = {:?}\nstate = {:?}\nkubelet.registry = {:?}\n", path("drivers.d"), path("a/b"), path("none"));
        std::fs::write(&file, text).unwrap();
        assert_eq!(found("configuration").unwrap().found, Found::Ok);
        assert_eq!(found("state").unwrap().found, Found::Ok);
        assert_eq!(found("kubelet.registry").unwrap().found, Found::Lacking);
        assert_eq!(found("drivers").unwrap().found, Found::Lacking);
        assert!(found("CAP_SYS_ADMIN").is_none(), "a controller needs no privilege");
        std::fs::write(folder.path().join("drivers.d/a.example.toml"), "komponent = 1\n").unwrap();
        assert!(found("driver").unwrap().words.contains("komponent"));
    }
}
