//! The same at a real daemon, and what the kernel shows afterwards.

use super::op::{Access, At, NAMES, Op, STAGES, TARGETS, Use};
use super::state::{Answer, State};
use harness::{Daemon, devices_beneath};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use tonic::Status;
use windlass_csi::v1::volume_usage::Unit;
use windlass_csi::v1::{
    CapacityRange, ControllerExpandVolumeRequest, DeleteVolumeRequest, ListVolumesRequest, NodeExpandVolumeRequest, NodeGetVolumeStatsRequest,
    NodePublishVolumeRequest, NodeStageVolumeRequest, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest, ValidateVolumeCapabilitiesRequest,
};

/// A daemon, and what CreateVolume answered last for each name.
pub(super) struct Real {
    daemon: Daemon,
    contexts: [BTreeMap<String, String>; NAMES],
}

/// The id that `local` gives to a name.
fn id(name: usize) -> String {
    let digest = Sha256::digest(word(name));
    std::iter::once("vol-".to_owned()).chain(digest.iter().take(16).map(|byte| format!("{byte:02x}"))).collect()
}

fn word(name: usize) -> String {
    format!("volume-{name}")
}

/// A mount of a volume: whose it is, whether it shows the device's node, and whether it is read-only.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Shown {
    volume: String,
    is_node: bool,
    is_read_only: bool,
}

/// A device of a volume: bytes, and whether it refuses writes.
type Devices = BTreeMap<String, (u64, bool)>;

/// What there is beneath the daemon's folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    mounts: BTreeMap<String, Shown>,
    devices: Devices,
    targets: BTreeSet<usize>,
}

impl Real {
    pub(super) fn start() -> Self {
        let daemon = Daemon::start();
        for stage in 0..STAGES {
            std::fs::create_dir(daemon.path(&format!("kubelet/stage-{stage}"))).unwrap();
        }
        Self { daemon, contexts: Default::default() }
    }

    fn stage(&self, stage: usize) -> String {
        self.daemon.text(&format!("kubelet/stage-{stage}"))
    }

    fn target(&self, target: usize) -> String {
        self.daemon.text(&format!("kubelet/target-{target}"))
    }

    fn at(&self, at: At) -> String {
        match at {
            At::Stage(stage) => self.stage(stage),
            At::Target(target) => self.target(target),
        }
    }

    /// Does it.
    pub(super) fn perform(&mut self, op: &Op) -> Result<Answer, Status> {
        let daemon = &self.daemon;
        match *op {
            Op::Create { name, usage, mib, is_exact } => {
                let mut request = harness::Volume::create_request(&word(name), &usage.capability(), mib as i64);
                request.capacity_range = range(mib, is_exact);
                let volume = daemon.create_volume(request)?.volume.expect("a volume");
                assert_eq!(volume.volume_id, id(name), "the id follows from the name");
                self.contexts[name] = volume.volume_context;
                Ok(Answer::Size(volume.capacity_bytes as u64))
            }
            Op::Delete { name } => daemon.delete_volume(DeleteVolumeRequest { volume_id: id(name), ..Default::default() }).map(|_| Answer::Done),
            Op::Validate { name, usage } => {
                let request = ValidateVolumeCapabilitiesRequest { volume_id: id(name), volume_capabilities: vec![usage.capability()], ..Default::default() };
                let answer = daemon.validate_volume_capabilities(request)?;
                assert_eq!(answer.confirmed.is_none(), !answer.message.is_empty(), "confirmed as a whole, or a reason: {answer:?}");
                Ok(Answer::Confirmed(answer.confirmed.is_some()))
            }
            Op::List { page } => self.list(page),
            Op::Expand { name, mib, is_exact } => {
                let request = ControllerExpandVolumeRequest { volume_id: id(name), capacity_range: range(mib, is_exact), ..Default::default() };
                daemon.controller_expand_volume(request).map(|answer| Answer::Size(answer.capacity_bytes as u64))
            }
            Op::Stage { name, stage, usage } => {
                let request = NodeStageVolumeRequest {
                    volume_id: id(name),
                    staging_target_path: self.stage(stage),
                    volume_capability: Some(usage.capability()),
                    volume_context: self.contexts[name].clone(),
                    ..Default::default()
                };
                daemon.node_stage_volume(request).map(|_| Answer::Done)
            }
            Op::Unstage { name, stage } => {
                let request = NodeUnstageVolumeRequest { volume_id: id(name), staging_target_path: self.stage(stage) };
                daemon.node_unstage_volume(request).map(|_| Answer::Done)
            }
            Op::Publish { name, stage, target, usage, is_read_only, is_other_context } => {
                let mut volume_context = self.contexts[name].clone();
                if is_other_context {
                    volume_context.insert("another".to_owned(), "1".to_owned());
                }
                let request = NodePublishVolumeRequest {
                    volume_id: id(name),
                    staging_target_path: stage.map(|stage| self.stage(stage)).unwrap_or_default(),
                    target_path: self.target(target),
                    volume_capability: Some(usage.capability()),
                    readonly: is_read_only,
                    volume_context,
                    ..Default::default()
                };
                daemon.node_publish_volume(request).map(|_| Answer::Done)
            }
            Op::Unpublish { name, target } => {
                let request = NodeUnpublishVolumeRequest { volume_id: id(name), target_path: self.target(target) };
                daemon.node_unpublish_volume(request).map(|_| Answer::Done)
            }
            Op::Stats { name, at } => {
                let request = NodeGetVolumeStatsRequest { volume_id: id(name), volume_path: self.at(at), ..Default::default() };
                let answer = daemon.node_get_volume_stats(request)?;
                let total = |unit: Unit| answer.usage.iter().find(|usage| usage.unit() == unit).map(|usage| usage.total as u64);
                Ok(if total(Unit::Inodes).is_some() { Answer::Done } else { Answer::Size(total(Unit::Bytes).expect("bytes")) })
            }
            Op::Grow { name, at, mib } => {
                let capacity_range = mib.and_then(|mib| range(mib, false));
                let request = NodeExpandVolumeRequest { volume_id: id(name), volume_path: self.at(at), capacity_range, ..Default::default() };
                daemon.node_expand_volume(request).map(|answer| Answer::Size(answer.capacity_bytes as u64))
            }
            Op::Restart => self.again(Daemon::stop, false),
            Op::Kill => self.again(Daemon::kill, false),
            Op::LoseJournal => self.again(Daemon::kill, true),
        }
    }

    fn again(&mut self, end: fn(&mut Daemon), loses_journal: bool) -> Result<Answer, Status> {
        end(&mut self.daemon);
        if loses_journal {
            for entry in std::fs::read_dir(self.daemon.path("run/journal")).unwrap().flatten() {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        self.daemon.start_again();
        self.daemon.wait_ready();
        Ok(Answer::Done)
    }

    fn list(&self, page: i32) -> Result<Answer, Status> {
        let (mut found, mut starting_token) = (BTreeMap::new(), String::new());
        loop {
            let answer = self.daemon.list_volumes(ListVolumesRequest { max_entries: page, starting_token })?;
            assert!(page == 0 || answer.entries.len() <= page as usize, "a page holds no more than was asked for");
            for volume in answer.entries.into_iter().filter_map(|entry| entry.volume) {
                let name = (0..NAMES).find(|name| id(*name) == volume.volume_id).expect("one of ours");
                assert!(found.insert(name, volume.capacity_bytes as u64).is_none(), "each volume is listed once");
            }
            starting_token = answer.next_token;
            if starting_token.is_empty() {
                return Ok(Answer::Volumes(found));
            }
        }
    }

    /// What the kernel must show, by the model.
    pub(super) fn wanted(&self, state: &State) -> Kernel {
        let mut wanted = Kernel { mounts: BTreeMap::new(), devices: BTreeMap::new(), targets: BTreeSet::new() };
        for (name, volume) in state.volumes.iter().enumerate() {
            let Some((volume, staged)) = volume.as_ref().and_then(|volume| Some((volume, volume.staged.as_ref()?))) else { continue };
            let Use { access, .. } = staged.usage;
            let is_node = access == Access::Block;
            let path = self.stage(staged.stage) + if is_node { "/device" } else { "" };
            // A node's own mount is never read-only at the stage: the device is.
            let is_read_only = !is_node && staged.usage.is_reader();
            wanted.mounts.insert(path, Shown { volume: id(name), is_node, is_read_only });
            wanted.devices.insert(id(name), (staged.device, staged.usage.is_reader()));
            for (target, published) in &volume.published {
                wanted.mounts.insert(self.target(*target), Shown { volume: id(name), is_node, is_read_only: published.is_mount_read_only });
                wanted.targets.insert(*target);
            }
        }
        wanted
    }

    /// What the kernel shows.
    pub(super) fn kernel(&self) -> Kernel {
        let (folder, kubelet) = (self.daemon.path("volumes"), self.daemon.text("kubelet/"));
        let mut mounts = BTreeMap::new();
        for line in std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let (number, root, point, options) = (fields[2], fields[3], fields[4], fields[5]);
            if !point.starts_with(&kubelet) {
                continue;
            }
            // A node is a file of devtmpfs; a file system has its device's number.
            let by_number = backing(&format!("/sys/dev/block/{number}"), &folder);
            let is_node = by_number.is_none();
            let volume = by_number.or_else(|| backing(&format!("/sys/block{root}"), &folder)).unwrap_or_else(|| format!("nobody's: {line}"));
            let shown = Shown { volume, is_node, is_read_only: options.split(',').any(|option| option == "ro") };
            assert!(mounts.insert(point.to_owned(), shown).is_none(), "two mounts lie on each other at {point}");
        }
        let mut devices = Devices::new();
        for name in devices_beneath(&folder) {
            let read = |what: &str| std::fs::read_to_string(format!("/sys/block/{name}/{what}")).unwrap_or_default().trim().parse::<u64>().unwrap_or_default();
            let volume = backing(&format!("/sys/block/{name}"), &folder).unwrap_or_default();
            assert!(devices.insert(volume.clone(), (read("size") * 512, read("ro") == 1)).is_none(), "two devices show {volume}");
        }
        let targets = (0..TARGETS).filter(|target| Path::new(&self.target(*target)).symlink_metadata().is_ok()).collect();
        Kernel { mounts, devices, targets }
    }

    /// Nothing is left, of the kernel's, of the daemon's, or in the folder of volumes.
    pub(super) fn what_is_left(&self) -> Vec<String> {
        let folders = ["run/journal", "run/locks", "volumes", "state/formats", "kubelet/stage-0", "kubelet/stage-1"];
        let entries = folders.into_iter().flat_map(|folder| std::fs::read_dir(self.daemon.path(folder)).into_iter().flatten().flatten());
        entries.map(|entry| entry.path().display().to_string()).collect()
    }
}

/// The volume whose file a loop device shows.
fn backing(device: &str, folder: &Path) -> Option<String> {
    let file = std::fs::read_to_string(format!("{device}/loop/backing_file")).ok()?;
    Some(file.trim().strip_prefix(folder.to_str()?)?.trim_start_matches('/').to_owned())
}

fn range(mib: u64, is_exact: bool) -> Option<CapacityRange> {
    let bytes = (mib << 20) as i64;
    Some(CapacityRange { required_bytes: bytes, limit_bytes: if is_exact { bytes } else { 0 } })
}
