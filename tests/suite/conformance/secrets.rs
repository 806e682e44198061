//! Secrets and service account tokens: never in a message, a log, a file of the daemon's, or a command line.

use super::{but, row};
use harness::{Daemon, Setup, Volume, mount, mount_as};
use std::collections::BTreeMap;
use std::path::Path;
use tonic::Status;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, DeleteVolumeRequest, NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    ValidateVolumeCapabilitiesRequest,
};

const MARKER: &str = "hUnTeR2-mArKeR-7f3a91";

fn secrets() -> BTreeMap<String, String> {
    [("userKey".to_owned(), MARKER.to_owned())].into()
}

fn with_tokens(context: &mut BTreeMap<String, String>) {
    context.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), format!("{{\"aud\":{{\"token\":\"{MARKER}\"}}}}"));
}

/// The daemon's process and all below it.
fn family(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let mut next = 0;
    while next < all.len() {
        for task in std::fs::read_dir(format!("/proc/{}/task", all[next])).into_iter().flatten().flatten() {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        next += 1;
    }
    all
}

#[track_caller]
fn assert_clean(bytes: &[u8], what: &str) {
    let found = bytes.windows(MARKER.len()).position(|window| window == MARKER.as_bytes());
    assert!(found.is_none(), "the secret is in {what}");
}

fn assert_folder_clean(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        assert_clean(path.as_os_str().as_encoded_bytes(), "a file's name");
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            assert_folder_clean(&path);
        } else if kind.is_file() {
            assert_clean(&std::fs::read(&path).unwrap(), &path.display().to_string());
        }
    }
}

fn look(daemon: &Daemon) {
    for pid in family(daemon.pid()) {
        for file in ["cmdline", "environ"] {
            assert_clean(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default(), file);
        }
    }
    for folder in ["run", "state", "csi"] {
        assert_folder_clean(&daemon.path(folder));
    }
}

/// Every request with secrets, as it succeeds and as it fails.
struct Calls<'a> {
    daemon: &'a Daemon,
    refusals: Vec<Status>,
}

impl Calls<'_> {
    fn done<T>(&mut self, id: &'static str, answer: Result<T, Status>) {
        row(id).answers(answer);
        look(self.daemon);
    }
    fn refused<T>(&mut self, id: &'static str, answer: Result<T, Status>) {
        let status = answer.err().unwrap_or_else(|| panic!("{id} was not refused"));
        self.refusals.push(status);
    }

    fn stage(volume: &Volume) -> NodeStageVolumeRequest {
        but(volume.stage_request(), |m| {
            m.secrets = secrets();
            with_tokens(&mut m.volume_context);
        })
    }
    fn publish(volume: &Volume, n: usize) -> NodePublishVolumeRequest {
        but(volume.publish_request(n), |m| {
            m.secrets = secrets();
            with_tokens(&mut m.volume_context);
        })
    }

    fn all(&mut self) {
        let daemon = self.daemon;
        let range = |mib: i64| Some(CapacityRange { required_bytes: mib << 20, limit_bytes: 0 });
        let create = || but(Volume::create_request("secret", &mount(Mode::SingleNodeWriter), 16), |m| m.secrets = secrets());
        self.done("CreateVolume/secrets", daemon.create_volume(create()));
        self.refused("CreateVolume/secrets", daemon.create_volume(but(create(), |m| m.capacity_range = range(1 << 40))));
        self.refused("CreateVolume/secrets", daemon.create_volume(but(create(), |m| m.name.clear())));
        let big: BTreeMap<_, _> = [("userKey".to_owned(), MARKER.repeat(300))].into();
        self.refused("CreateVolume/secrets", daemon.create_volume(but(create(), |m| m.secrets = big.clone())));
        let odd: BTreeMap<_, _> = [("user key".to_owned(), MARKER.to_owned())].into();
        self.refused("CreateVolume/secrets", daemon.create_volume(but(create(), |m| m.secrets = odd.clone())));
        let volume = Volume::create(daemon, "secret", mount(Mode::SingleNodeWriter), 16).unwrap();
        let nothing = but(volume.clone(), |v| v.volume.volume_id = "nothing".to_owned());

        let validate = |v: &Volume, capability| ValidateVolumeCapabilitiesRequest {
            volume_id: v.id(),
            volume_capabilities: vec![capability],
            secrets: secrets(),
            ..Default::default()
        };
        self.done("ValidateVolumeCapabilities/secrets", daemon.validate_volume_capabilities(validate(&volume, volume.capability.clone())));
        self.refused("ValidateVolumeCapabilities/secrets", daemon.validate_volume_capabilities(validate(&nothing, volume.capability.clone())));
        let expand =
            |v: &Volume, mib| ControllerExpandVolumeRequest { volume_id: v.id(), capacity_range: range(mib), secrets: secrets(), ..Default::default() };
        self.done("ControllerExpandVolume/secrets", daemon.controller_expand_volume(expand(&volume, 16)));
        self.refused("ControllerExpandVolume/secrets", daemon.controller_expand_volume(expand(&volume, 1 << 40)));

        self.refused("NodeStageVolume/secrets", daemon.node_stage_volume(Self::stage(&nothing)));
        self.refused("NodeStageVolume/secrets", daemon.node_stage_volume(but(Self::stage(&volume), |m| m.secrets = big.clone())));
        self.refused("NodeStageVolume/secrets", daemon.node_stage_volume(but(Self::stage(&volume), |m| m.staging_target_path = "/outside".to_owned())));
        self.done("NodeStageVolume/secrets", daemon.node_stage_volume(Self::stage(&volume)));
        let other = but(Self::stage(&volume), |m| m.volume_capability = Some(mount_as("", Mode::SingleNodeWriter, &["noexec"])));
        self.refused("NodeStageVolume/secrets", daemon.node_stage_volume(other));
        self.refused("NodePublishVolume/secrets", daemon.node_publish_volume(but(Self::publish(&volume, 0), |m| m.target_path = "/outside".to_owned())));
        self.done("NodePublishVolume/secrets", daemon.node_publish_volume(Self::publish(&volume, 0)));
        // Tokens change from call to call: another one is not another publish.
        let renewed = but(Self::publish(&volume, 0), |m| {
            m.volume_context.insert("csi.storage.k8s.io/serviceAccount.tokens".to_owned(), format!("{MARKER}-renewed"));
            m.secrets.insert("userKey".to_owned(), format!("{MARKER}-rotated"));
        });
        self.done("NodePublishVolume/secrets", daemon.node_publish_volume(renewed));
        self.refused("NodePublishVolume/secrets", daemon.node_publish_volume(but(Self::publish(&volume, 0), |m| m.readonly = true)));
        self.refused("NodePublishVolume/secrets", daemon.node_publish_volume(Self::publish(&volume, 1)));
        let grow = |mib| NodeExpandVolumeRequest {
            volume_id: volume.id(),
            volume_path: volume.target(0),
            capacity_range: range(mib),
            secrets: secrets(),
            ..Default::default()
        };
        self.done("NodeExpandVolume/secrets", daemon.node_expand_volume(grow(16)));
        self.refused("NodeExpandVolume/secrets", daemon.node_expand_volume(grow(17)));
        let delete = || DeleteVolumeRequest { volume_id: volume.id(), secrets: secrets() };
        self.refused("DeleteVolume/secrets", daemon.delete_volume(delete()));
        volume.unpublish(daemon, 0).unwrap();
        volume.unstage(daemon).unwrap();
        self.done("DeleteVolume/secrets", daemon.delete_volume(delete()));
    }
}

#[test]
fn loop_a_secret_is_seen_nowhere_whatever_becomes_of_the_call() {
    let daemon = Daemon::with(Setup { env: vec![("WINDLASS_LOG".to_owned(), "trace".to_owned())], ..Setup::default() });
    let mut calls = Calls { daemon: &daemon, refusals: Vec::new() };
    calls.all();
    assert!(calls.refusals.len() > 10);
    for status in calls.refusals {
        super::check_form(&status);
        assert_clean(status.message().as_bytes(), "a status message");
    }
    let log = daemon.log();
    assert!(log.contains("TRACE"), "the log tells all");
    assert_clean(log.as_bytes(), "the log");
    for command in [["status", "-o", "json"], ["volumes", "-o", "json"], ["drivers", "-o", "json"]] {
        let output = daemon.windlass(&command);
        assert!(output.status.success(), "{command:?}");
        assert_clean(&output.stdout, command[0]);
    }
    daemon.assert_nothing_left();
}
