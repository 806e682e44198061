//! The program `minisign` and the daemon's command line, each with what the other made.

use super::vendor::local;
use std::path::Path;
use std::process::Command;

fn minisign(arguments: &[&str], folder: &Path) -> bool {
    let run = Command::new("minisign").args(arguments).current_dir(folder).output();
    run.expect("the program minisign, which `tools/setup test` installs").status.success()
}

#[test]
fn plugin_minisign_and_windlass_take_each_others_keys_and_signatures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("c.wasm"), local("0.5.0")).unwrap();
    let windlass = |arguments: &[&str], password: &str| {
        let mut command = Command::new(harness::binary());
        command.args(arguments).current_dir(folder.path()).env("WINDLASS_KEY_PASSWORD", password).output().unwrap()
    };
    // Theirs: a key, and a signature of the kind that is taken; then one of the kind that is not.
    assert!(minisign(&["-G", "-W", "-p", "their.pub", "-s", "their.key"], folder.path()));
    assert!(minisign(&["-S", "-H", "-s", "their.key", "-m", "c.wasm", "-t", "by minisign"], folder.path()));
    let verified = windlass(&["plugin", "verify", "c.wasm", "--key", "their.pub", "-o", "json"], "");
    let said: serde_json::Value = serde_json::from_slice(&verified.stdout).unwrap_or_else(|error| panic!("{error}: {verified:?}"));
    assert_eq!((said["signature"]["state"].as_str(), said["signature"]["comment"].as_str()), (Some("valid"), Some("by minisign")));
    assert!(minisign(&["-S", "-l", "-s", "their.key", "-m", "c.wasm"], folder.path()));
    let refused = windlass(&["plugin", "verify", "c.wasm", "--key", "their.pub"], "");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("old form"), "{refused:?}");
    // Their key, our signature.
    let signed = windlass(&["plugin", "sign", "c.wasm", "--key", "their.key"], "");
    assert!(signed.status.success(), "{signed:?}");
    assert!(minisign(&["-V", "-p", "their.pub", "-m", "c.wasm"], folder.path()));
    let no_key = windlass(&["plugin", "sign", "c.wasm", "--key", "their.pub"], "");
    assert!(!no_key.status.success() && String::from_utf8_lossy(&no_key.stderr).contains("is no secret key"), "{no_key:?}");
    // Ours, with a password: made, used, and refused with another one.
    assert!(windlass(&["plugin", "keygen", "our.key"], "correct horse").status.success());
    let again = windlass(&["plugin", "keygen", "our.key"], "correct horse");
    assert!(!again.status.success() && String::from_utf8_lossy(&again.stderr).contains("is there already"), "{again:?}");
    let wrong = windlass(&["plugin", "sign", "c.wasm", "--key", "our.key"], "wrong");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("Wrong password"), "{wrong:?}");
    assert!(minisign(&["-V", "-p", "their.pub", "-m", "c.wasm"], folder.path()), "what failed has changed the signature");
    assert!(windlass(&["plugin", "sign", "c.wasm", "--key", "our.key", "--comment", "0.5.0"], "correct horse").status.success());
    assert!(minisign(&["-V", "-p", "our.key.pub", "-m", "c.wasm"], folder.path()));
    // Our signature counts for our key, and not for theirs.
    assert!(windlass(&["plugin", "verify", "c.wasm", "--key", "their.pub", "--key", "our.key.pub"], "").status.success());
    let refused = windlass(&["plugin", "verify", "c.wasm", "--key", "their.pub"], "");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("was made with the key"), "{refused:?}");
    let inspected = windlass(&["plugin", "inspect", "c.wasm"], "");
    assert!(inspected.status.success() && String::from_utf8_lossy(&inspected.stdout).contains("not checked"), "{inspected:?}");
    // `check` takes keys as well.
    let checked = windlass(&["plugin", "check", "c.wasm", "--key", "our.key.pub"], "");
    assert!(checked.status.success() && String::from_utf8_lossy(&checked.stdout).contains("valid, by key"), "{checked:?}");
    assert!(!windlass(&["plugin", "check", "c.wasm", "--key", "their.pub"], "").status.success());
}
