//! `windlass devices`: every device is shown with whose it is, and what is nobody's stays as it is whatever happens to the others.

use harness::{DRIVER, Daemon, Volume, block, mount_as};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// The rows of what is beneath the daemon's folder: others may have devices on this machine.
fn devices(daemon: &Daemon) -> Vec<Value> {
    let output = daemon.windlass(&["devices", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    all.into_iter().filter(|row| Path::new(row["backing"].as_str().unwrap()).starts_with(daemon.folder())).collect()
}

fn states(daemon: &Daemon) -> Vec<String> {
    let mut states: Vec<String> = devices(daemon).iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect();
    states.sort();
    states
}

/// A loop device over a file, as somebody makes one by hand. It goes with the daemon's folder.
fn by_hand(file: &Path) -> String {
    std::fs::File::create(file).and_then(|file| file.set_len(8 << 20)).unwrap();
    let output = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().trim_start_matches("/dev/").to_owned()
}

#[test]
fn loop_devices_are_shown_with_whose_they_are() {
    let mut daemon = Daemon::start();
    assert_eq!(devices(&daemon), Vec::<Value>::new());
    let mounted = Volume::create(&daemon, "mounted", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16).unwrap();
    let raw = Volume::create(&daemon, "raw", block(Mode::SingleNodeWriter), 16).unwrap();
    for volume in [&mounted, &raw] {
        volume.stage(&daemon).unwrap();
        volume.publish(&daemon, 0).unwrap();
    }
    let foreign = daemon.path("by-hand");
    let foreign_device = by_hand(&foreign);

    let rows = devices(&daemon);
    let row = |backing: &Path| rows.iter().find(|row| row["backing"] == backing.display().to_string()).unwrap_or_else(|| panic!("{rows:?}")).clone();
    for (volume, at) in [(&mounted, vec![mounted.staging.clone(), mounted.target(0)]), (&raw, vec![format!("{}/device", raw.staging), raw.target(0)])] {
        let row = row(&daemon.path("volumes").join(volume.id()));
        assert_eq!((&row["state"], &row["driver"], &row["volume"]), (&json!("ours"), &json!(DRIVER), &json!(volume.id())));
        assert_eq!((&row["mounted_at"], &row["size"], &row["is_read_only"]), (&json!(at), &json!(16 << 20), &json!(false)));
        assert_eq!((&row["cluster"], &row["below"]), (&Value::Null, &json!([])));
    }
    let by_hand = row(&foreign);
    assert_eq!(
        (&by_hand["state"], &by_hand["device"], &by_hand["driver"], &by_hand["volume"]),
        (&json!("nobodys"), &json!(foreign_device), &Value::Null, &Value::Null)
    );
    assert_eq!((&by_hand["mounted_at"], &by_hand["size"], &by_hand["is_read_only"]), (&json!([]), &json!(8 << 20), &json!(true)));

    let table = String::from_utf8(daemon.windlass(&["devices"]).stdout).unwrap();
    let line = |backing: &Path| table.lines().find(|line| line.contains(&backing.display().to_string())).unwrap_or_else(|| panic!("{table}")).to_owned();
    assert!(table.starts_with("DEVICE") || table.starts_with(" DEVICE"), "{table}");
    let ours = line(&daemon.path("volumes").join(mounted.id()));
    assert!([" ours ", DRIVER, &mounted.id(), "16 MiB", &mounted.staging].iter().all(|word| ours.contains(word)), "{ours}");
    let nobodys = line(&foreign);
    assert!([format!("/dev/{foreign_device} "), "nobody's".into(), "8 MiB, read-only".into()].iter().all(|word| nobodys.contains(word)), "{nobodys}");

    // A restart finds the same; without the journal the marks are still there, and nothing else changes.
    daemon.kill();
    daemon.start_again();
    daemon.wait_ready();
    assert_eq!(devices(&daemon), rows);
    daemon.kill();
    for entry in std::fs::read_dir(daemon.path("run/journal")).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    daemon.start_again();
    daemon.wait_ready();
    assert_eq!(states(&daemon), ["nobodys", "ours-without-record", "ours-without-record"]);
    let table = String::from_utf8(daemon.windlass(&["devices"]).stdout).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains("ours, no record") && line.contains(&daemon.folder().display().to_string())).count(), 2, "{table}");

    // Somebody else's stays when ours go.
    for volume in [&mounted, &raw] {
        volume.unpublish(&daemon, 0).unwrap();
        volume.unstage(&daemon).unwrap();
    }
    assert_eq!(devices(&daemon), [by_hand]);
}

#[test]
fn loop_devices_are_not_looked_at_without_the_role_of_a_node() {
    let daemon = Daemon::with(harness::Setup { config: "roles = [\"controller\"]".to_owned(), ..Default::default() });
    let output = daemon.windlass(&["devices"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("node role"), "{output:?}");
}
