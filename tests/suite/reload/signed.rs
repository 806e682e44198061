//! Components that have to be signed: what is not, or not as the operator wants it, never runs, and what serves goes on.

mod artefacts;
mod crafted;
mod minisign;
mod vendor;

use super::load::Tally;
use super::{assert_serves, status, version};
use harness::{DRIVER, Daemon, Setup, eventually};
use std::os::unix::fs::symlink;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vendor::{Vendor, local};

/// The component that is replaced, and its signature.
const COMPONENT: &str = "plugins/local.wasm";
const SIGNATURE: &str = "plugins/local.wasm.minisig";

/// A daemon that takes signed components alone, and the vendor whose key its driver allows.
struct Scene {
    daemon: Daemon,
    vendor: Vendor,
}

impl Scene {
    /// Serves version 0.5.0.
    fn serving() -> Self {
        let vendor = Vendor::new();
        let daemon = Daemon::unready(required());
        let scene = Self { daemon, vendor };
        scene.allow(&[&scene.vendor.key]);
        scene.put(&local("0.5.0"));
        scene.daemon.wait_ready();
        scene.serves("0.5.0");
        scene
    }

    /// Writes the driver's file, with these keys.
    fn allow(&self, keys: &[&str]) {
        self.allow_for(DRIVER, COMPONENT, keys);
    }

    fn allow_for(&self, driver: &str, component: &str, keys: &[&str]) {
        let (component, volumes) = (self.daemon.text(component), self.daemon.text("volumes"));
        let text = format!("component = {component:?}\nkeys = {keys:?}\n[grants.files]\nvolumes = {volumes:?}\n");
        self.daemon.rename_in(text.as_bytes(), &format!("drivers.d/{driver}.toml"));
    }

    /// Puts a component in its place, signed by the vendor.
    fn put(&self, component: &[u8]) {
        self.put_with(component, self.vendor.sign(component).as_bytes());
    }

    fn put_with(&self, component: &[u8], signature: &[u8]) {
        self.daemon.rename_in(component, COMPONENT);
        self.daemon.rename_in(signature, SIGNATURE);
    }

    fn now(&self) -> serde_json::Value {
        status(&self.daemon, DRIVER)
    }

    /// Waits until that version serves and nothing is refused.
    #[track_caller]
    fn serves(&self, expected: &str) {
        eventually(&format!("version {expected}\n{}", self.now()), || {
            let now = self.now();
            (now["state"] == "serving" && now["version"] == expected).then_some(())
        });
    }

    /// Waits for a refusal that says so.
    #[track_caller]
    fn refuses(&self, because: &str) -> serde_json::Value {
        let until = Instant::now() + Duration::from_secs(40);
        loop {
            let now = self.now();
            if now["refused"].as_str().is_some_and(|reason| reason.contains(because)) {
                return now;
            }
            assert!(Instant::now() < until, "no refusal that says {because:?}: {now}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Was code made of a component with this SHA-256? Before that nothing of it can have run.
    fn was_compiled(&self, digest: &str) -> bool {
        let code = std::fs::read_dir(self.daemon.path("state/code")).unwrap();
        code.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with(digest))
    }
}

fn required() -> Setup {
    Setup { config: "signatures = \"required\"\n".to_owned(), ..Setup::default() }
}

#[test]
fn loop_bad_artefacts_under_load_change_nothing() {
    let scene = Scene::serving();
    let artefacts = artefacts::all(&scene.vendor);
    let (good, signature) = (local("0.5.0"), scene.vendor.sign(&local("0.5.0")));
    let before = scene.now();
    let tally = Tally::default();
    let tried = std::thread::scope(|scope| {
        for caller in 0..3 {
            let (tally, driver) = (&tally, &*scene.daemon);
            scope.spawn(move || tally.call(driver, caller));
        }
        // Callers end also when something is taken that must not be.
        let tried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for artefact in &artefacts {
                let serving = scene.now();
                (artefact.place)(&scene.daemon);
                let refused = scene.refuses(artefact.because);
                println!("{}: {}", artefact.what, refused["refused"].as_str().unwrap());
                assert_eq!(refused["state"], "serving-old", "{}", artefact.what);
                for same in ["generation", "digest", "pid", "starts", "version", "origin"] {
                    assert_eq!(refused[same], serving[same], "{}: {same}", artefact.what);
                }
                if let Some(digest) = &artefact.never_compiled {
                    assert!(!scene.was_compiled(digest), "{} was compiled", artefact.what);
                }
                scene.put_with(&good, signature.as_bytes());
                scene.serves("0.5.0");
            }
        }));
        tally.end();
        tried
    });
    if let Err(panic) = tried {
        std::panic::resume_unwind(panic);
    }
    let (calls, failures) = (tally.calls.load(Ordering::Relaxed), tally.failures.lock().unwrap());
    println!("{} bad artefacts under {calls} calls: {} failed", artefacts.len(), failures.len());
    assert!(failures.is_empty(), "{} of {calls} calls failed:\n{}", failures.len(), failures.join("\n"));
    assert!(artefacts.len() >= 30, "{}", artefacts.len());
    assert_eq!(scene.now()["digest"], before["digest"]);
    let shown = String::from_utf8(scene.daemon.windlass(&["drivers"]).stdout).unwrap();
    assert!(shown.contains(&format!("key {}", scene.vendor.id)), "{shown}");
    scene.daemon.assert_nothing_left();
}

#[test]
fn plugin_what_is_rewritten_while_it_is_read_is_taken_whole_or_not_at_all() {
    let scene = Scene::serving();
    let before = scene.now()["digest"].clone();
    let (new, end) = (local("0.6.0"), Instant::now() + Duration::from_secs(2));
    let digests: Vec<String> = [local("0.5.0"), new.clone()].iter().map(|bytes| vendor::digest(bytes)).collect();
    scene.daemon.rename_in(&scene.vendor.sign(&new).into_bytes(), SIGNATURE);
    // In place, as somebody does who knows no better: at times there is nothing, a half, or two halves that do not belong together.
    while Instant::now() < end {
        for piece in [&new[..new.len() / 2], &[0; 100_000], &new[..new.len() - 1]] {
            std::fs::write(scene.daemon.path(COMPONENT), piece).unwrap();
        }
        assert_eq!(scene.now()["digest"], before);
    }
    scene.refuses("does not fit");
    assert_serves(&scene.daemon);
    std::fs::write(scene.daemon.path(COMPONENT), &new).unwrap();
    scene.serves("0.6.0");
    let code: Vec<String> = (std::fs::read_dir(scene.daemon.path("state/code")).unwrap().flatten())
        .filter_map(|entry| Some(entry.file_name().to_str()?.split_once('-')?.0.to_owned()))
        .collect();
    assert!(code.iter().all(|digest| digests.contains(digest)), "{code:?} of {digests:?}");
}

#[test]
fn plugin_a_signature_may_come_before_its_component_or_after_it() {
    let scene = Scene::serving();
    let (six, seven) = (local("0.6.0"), local("0.7.0"));
    scene.daemon.rename_in(&six, COMPONENT);
    scene.refuses("does not fit");
    scene.daemon.rename_in(scene.vendor.sign(&six).as_bytes(), SIGNATURE);
    scene.serves("0.6.0");
    scene.daemon.rename_in(scene.vendor.sign(&seven).as_bytes(), SIGNATURE);
    scene.refuses("does not fit");
    scene.daemon.rename_in(&seven, COMPONENT);
    scene.serves("0.7.0");
    // Both are compiled: what is left is reading, checking, starting and asking.
    for (bytes, version) in [(&local("0.7.1"), "0.7.1"), (&seven, "0.7.0")] {
        scene.daemon.windlass(&["plugin", "allow-downgrade", DRIVER]);
        scene.put(bytes);
        scene.serves(version);
    }
    println!("a signed component with cached code serves after {} ms", scene.now()["load_ms"]);
    std::fs::remove_file(scene.daemon.path(SIGNATURE)).unwrap();
    scene.refuses("is not signed");
    assert_serves(&scene.daemon);
    let now = scene.now();
    assert_eq!((now["version"].as_str(), now["origin"].as_str()), (Some("0.7.0"), Some(format!("key {}", scene.vendor.id).as_str())));
}

#[test]
fn plugin_a_signed_component_may_have_a_second_name() {
    let scene = Scene::serving();
    let bytes = local("0.6.0");
    let elsewhere = scene.daemon.path("state/elsewhere");
    std::fs::write(&elsewhere, &bytes).unwrap();
    std::fs::remove_file(scene.daemon.path(COMPONENT)).unwrap();
    std::fs::hard_link(&elsewhere, scene.daemon.path(COMPONENT)).unwrap();
    scene.daemon.rename_in(scene.vendor.sign(&bytes).as_bytes(), SIGNATURE);
    scene.serves("0.6.0");
}

#[test]
fn plugin_a_signed_component_behind_a_swapped_link_is_replaced() {
    const OTHER: &str = "linked.windlass.io";
    let scene = Scene::serving();
    // As Kubernetes lays out a volume: both names lead through `..data`, so that they change together.
    for (folder, version) in [("..1", "0.5.0"), ("..2", "0.6.0")] {
        let at = scene.daemon.path("plugins/linked").join(folder);
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("driver.wasm"), local(version)).unwrap();
        std::fs::write(at.join("driver.wasm.minisig"), scene.vendor.sign(&local(version))).unwrap();
    }
    symlink("..1", scene.daemon.path("plugins/linked/..data")).unwrap();
    for name in ["driver.wasm", "driver.wasm.minisig"] {
        symlink(format!("..data/{name}"), scene.daemon.path("plugins/linked").join(name)).unwrap();
    }
    scene.allow_for(OTHER, "plugins/linked/driver.wasm", &[&scene.vendor.key]);
    let other = scene.daemon.driver(OTHER);
    eventually("the new driver's first answer", || matches!(other.probe(), Ok(true)).then_some(()));
    assert_eq!(version(&other), "0.5.0");
    symlink("..2", scene.daemon.path("plugins/linked/..data_tmp")).unwrap();
    std::fs::rename(scene.daemon.path("plugins/linked/..data_tmp"), scene.daemon.path("plugins/linked/..data")).unwrap();
    eventually("the swapped component", || (version(&other) == "0.6.0").then_some(()));
    // Each driver has versions of its own.
    scene.serves("0.5.0");
}

#[test]
fn plugin_a_lower_version_serves_only_when_the_operator_says_so_also_after_a_restart() {
    let mut scene = Scene::serving();
    scene.put(&local("0.6.0"));
    scene.serves("0.6.0");
    scene.put(&local("0.5.0"));
    let refused = scene.refuses("version 0.6.0 of the driver has served");
    assert!(refused["refused"].as_str().unwrap().contains(&format!("windlass plugin allow-downgrade {DRIVER}")), "{refused}");
    assert_eq!((refused["state"].as_str(), version(&scene.daemon).as_str()), (Some("serving-old"), "0.6.0"));
    // A death, and a start with the old file in its place: it is still the lower version.
    scene.daemon.kill();
    scene.daemon.start_again();
    assert_eq!(scene.refuses("version 0.6.0 of the driver has served")["state"], "teardown-only");
    assert!(!scene.daemon.probe().unwrap());
    let allow = |driver: &str| scene.daemon.windlass(&["plugin", "allow-downgrade", driver]);
    let said = allow(DRIVER);
    let words = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && words.contains("version 0.6.0") && words.contains("Version 0.5.0 serves"), "{said:?}");
    scene.serves("0.5.0");
    assert_serves(&scene.daemon);
    // Once: from here on it counts from the version that serves.
    scene.put(&local("0.4.0"));
    scene.refuses("version 0.5.0 of the driver has served");
    scene.put(&local("0.6.0"));
    scene.serves("0.6.0");
    assert!(!allow("nobody.example").status.success());
    // A damaged note lets nothing pass.
    scene.daemon.rename_in(b"{", &format!("state/versions/{DRIVER}.json"));
    scene.put(&local("0.7.0"));
    scene.refuses("which says what version of the driver has served, cannot be read");
    assert_eq!(version(&scene.daemon), "0.6.0");
    assert!(allow(DRIVER).status.success());
    scene.serves("0.7.0");
}

#[test]
fn plugin_keys_are_asked_for_and_a_change_of_them_is_taken_up() {
    let mut daemon = Daemon::unready(required());
    let vendor = Vendor::new();
    let refused = eventually("a refusal", || Some(status(&daemon, DRIVER)).filter(|now| now["refused"].is_string()));
    let reason = refused["refused"].as_str().unwrap();
    assert!(reason.contains(&format!("{DRIVER}.toml: `keys` is missing")) && reason.contains("signatures = \"off\""), "{reason}");
    assert!(!daemon.log().contains("SIGNATURES ARE OFF"));
    // The driver in the binary needs none.
    let text = format!("component = \"embedded:local\"\n[grants.files]\nvolumes = {:?}\n", daemon.text("volumes"));
    daemon.rename_in(text.as_bytes(), &format!("drivers.d/{DRIVER}.toml"));
    daemon.wait_ready();
    assert_serves(&daemon);
    assert_eq!((daemon.status()["signatures"].as_str(), status(&daemon, DRIVER)["origin"].as_str()), (Some("required"), Some("embedded")));
    daemon.stop();
    let scene = Scene { daemon, vendor };
    let other = Vendor::new();
    // Another vendor's key: what is there is refused, and taken once the right one stands beside it.
    let mut scene = scene;
    scene.allow(&[&other.key]);
    scene.put(&local("0.5.0"));
    scene.daemon.start_again();
    let reason = scene.refuses("was made with the key")["refused"].as_str().unwrap().to_owned();
    assert!(reason.contains(&scene.vendor.id) && reason.contains(&other.id), "{reason}");
    scene.allow(&["RWno"]);
    scene.refuses("`keys` has \"RWno\"");
    scene.allow(&[&other.key, &scene.vendor.key]);
    scene.serves("0.5.0");
    assert_serves(&scene.daemon);
}

#[test]
fn plugin_signatures_that_are_off_are_seen_to_be_off() {
    let daemon = Daemon::start();
    assert!(daemon.log().contains("SIGNATURES ARE OFF"));
    assert_eq!((daemon.status()["signatures"].as_str(), status(&daemon, DRIVER)["origin"].as_str()), (Some("off"), Some("unchecked")));
    let shown = String::from_utf8(daemon.windlass(&["status"]).stdout).unwrap();
    assert!(shown.contains("SIGNATURES ARE OFF"), "{shown}");
    // And nothing is remembered of versions for which nobody vouches.
    assert_eq!(std::fs::read_dir(daemon.path("state/versions")).unwrap().count(), 0);
}
