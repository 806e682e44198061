//! `windlass plugin new`: what it makes compiles, passes its own tests and its rehearsal, and serves a volume on a real device.

use harness::{Daemon, Volume, eventually, mount, rows::from_top};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use windlass_csi::v1::volume_capability::access_mode::Mode;

fn new(folder: &Path, more: &[&str]) -> Output {
    Command::new(harness::binary()).args(["plugin", "new"]).arg(folder).args(more).output().unwrap()
}

fn must(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn loop_a_new_driver_passes_its_tests_and_its_rehearsal_and_serves_a_volume() {
    // Where guests are built, at the same place each time: what it depends on is compiled once.
    let targets =
        std::env::var_os("WINDLASS_GUEST_TARGET").map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/windlass/guest"), PathBuf::from);
    std::fs::create_dir_all(&targets).unwrap();
    let place = |digits| tempfile::Builder::new().prefix("starter").rand_bytes(digits).tempdir_in(&targets);
    // It is there after a run that was killed.
    let work = place(0).or_else(|_| place(6)).unwrap();
    let (work, folder) = (work.path(), work.path().join("my-disks"));
    let made = new(&folder, &["--vendor", "acme.example"]);
    assert!(made.status.success(), "{made:?}");
    let again = new(&folder, &[]);
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("my-disks"), "what exists is not touched: {again:?}");
    must(Command::new("cargo").args(["test", "--quiet"]).current_dir(&folder).env("CARGO_TARGET_DIR", &targets).env_remove("CARGO_ENCODED_RUSTFLAGS"));
    let component = work.join("my-disks.wasm");
    must(Command::new(from_top("tools/guest")).arg("build").arg(&folder).arg(&component));
    let told = must(Command::new(harness::binary()).args(["plugin", "test", "-o", "json"]).arg(&component));
    assert!(told.contains("\"vendor\": \"acme.example\"") && !told.contains("\"wrong\": \""), "{told}");

    let daemon = Daemon::start();
    daemon.rename_in(&std::fs::read(&component).unwrap(), "plugins/my-disks.wasm");
    std::fs::create_dir(daemon.path("my-disks")).unwrap();
    let file = format!("component = \"{}\"\n[grants.files]\nvolumes = \"{}\"\n", daemon.text("plugins/my-disks.wasm"), daemon.text("my-disks"));
    daemon.rename_in(file.as_bytes(), "drivers.d/my-disks.example.toml");
    let driver = daemon.driver("my-disks.example");
    eventually("the new driver serves", || matches!(driver.probe(), Ok(true)).then_some(()));
    let volume = Volume::create(&driver, "first", mount(Mode::SingleNodeWriter), 16).unwrap();
    volume.stage(&driver).unwrap();
    volume.publish(&driver, 0).unwrap();
    std::fs::write(format!("{}/data", volume.target(0)), b"data").unwrap();
    volume.unpublish(&driver, 0).unwrap();
    volume.unstage(&driver).unwrap();
    volume.delete(&driver).unwrap();
    assert_eq!(std::fs::read_dir(daemon.path("my-disks")).unwrap().count(), 0);
    daemon.assert_nothing_left();
}

#[test]
fn plugin_what_cannot_be_a_new_driver_is_refused_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for (name, more, says) in [
        ("My", &[][..], "lower-case"),
        ("1st", &[][..], "a letter first"),
        ("a_b", &[][..], "lower-case"),
        ("..", &[][..], "is no name"),
        ("a", &["--vendor", "a\"b"][..], "--vendor"),
        ("none/a", &[][..], "cannot make"),
    ] {
        let output = new(&folder.path().join(name), more);
        assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(says), "{name}: {output:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
