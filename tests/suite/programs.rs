//! Which programs the daemon starts, counted by strace: mkfs for a fresh volume, and nothing else ever.

use harness::{Daemon, Setup, Volume, block, mount_as};
use std::path::Path;
use tonic::Status;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{NodeGetVolumeStatsRequest, VolumeCapability};

/// A daemon under strace.
struct Traced {
    daemon: Daemon,
    log: tempfile::NamedTempFile,
}

/// What was started: external programs by name, and the daemon's own roles.
#[derive(Debug, PartialEq, Default)]
struct Started {
    external: Vec<String>,
    own: Vec<String>,
}

impl Traced {
    fn start() -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let strace = ["strace", "-f", "-qq", "-s", "200", "-e", "trace=execve,execveat", "-o", &log.path().display().to_string()].map(str::to_owned);
        let daemon = Daemon::with(Setup { wrapper: strace.to_vec(), ..Setup::default() });
        Self { daemon, log }
    }

    fn started_so_far(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log.path()).unwrap();
        text.lines().filter(|line| line.contains(" execve(") || line.contains(" execveat(")).map(str::to_owned).collect()
    }

    /// What a call started.
    fn during(&self, call: impl FnOnce() -> Result<(), Status>) -> Started {
        let before = self.started_so_far().len();
        call().unwrap_or_else(|status| panic!("{status:?}\n{}", self.daemon.log()));
        let mut started = Started::default();
        for line in &self.started_so_far()[before..] {
            let path = line.split('"').nth(1).unwrap_or_else(|| panic!("not an execve: {line}"));
            if path == "/proc/self/exe" {
                started.own.push(line.clone());
            } else {
                started.external.push(Path::new(path).file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        started
    }

    fn check(&self, name: &str, capability: VolumeCapability, mib: i64, mkfs: &[&str]) {
        let volume = Volume::create(&self.daemon, name, capability, mib).unwrap();
        let fresh = self.during(|| volume.stage(&self.daemon));
        assert_eq!(fresh.external, mkfs, "{name}: a fresh stage");
        let request = NodeGetVolumeStatsRequest { volume_id: volume.id(), volume_path: volume.target(0), ..Default::default() };
        let nothing = Started::default();
        for again in 0..3 {
            assert_eq!(self.during(|| volume.stage(&self.daemon)), nothing, "{name}: stage {again}");
            assert_eq!(self.during(|| volume.stage(&self.daemon)), nothing, "{name}: stage {again}, staged already");
            assert_eq!(self.during(|| volume.publish(&self.daemon, 0)), nothing, "{name}: publish {again}");
            assert_eq!(self.during(|| self.daemon.node_get_volume_stats(request.clone()).map(drop)), nothing, "{name}: stats {again}");
            assert_eq!(self.during(|| volume.unpublish(&self.daemon, 0)), nothing, "{name}: unpublish {again}");
            assert_eq!(self.during(|| volume.unstage(&self.daemon)), nothing, "{name}: unstage {again}");
        }
        volume.delete(&self.daemon).unwrap();
    }
}

#[test]
fn loop_a_stage_starts_mkfs_once_and_nothing_else_starts_anything() {
    let traced = Traced::start();
    traced.check("ext4", mount_as("ext4", Mode::SingleNodeWriter, &[]), 16, &["mkfs.ext4"]);
    traced.check("xfs", mount_as("xfs", Mode::SingleNodeWriter, &[]), 320, &["mkfs.xfs"]);
    traced.check("raw", block(Mode::SingleNodeWriter), 16, &[]);
    traced.daemon.assert_nothing_left();
}
