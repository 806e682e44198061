//! What is timed runs in the machine itself, beside the daemon: one process that does each thing in turn, by call, bare, and by programs.

use super::bare::{Bare, Programs};
use anyhow::Result;
use harness::rbd::{RBD_DRIVER, RbdVolume, node_id, secrets};
use harness::{Endpoint, mount_as};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use tokio::runtime::Runtime;
use tonic::transport::Channel;
use windlass_csi::v1::node_client::NodeClient;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// The size of each volume.
const MIB: i64 = 1024;
/// Binds are quick, so each round has several.
const BINDS: usize = 6;
const KEYRING: &str = "/run/bench.keyring";

/// What a process in the machine is to do: its standard input, as JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) folder: PathBuf,
    pub(super) monitor: String,
    pub(super) key: String,
    pub(super) job: Job,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Job {
    /// Stages a volume that has a file system, again and again.
    Formatted { rounds: usize },
    /// Stages new volumes.
    Fresh { rounds: usize },
    /// Stages so many new volumes at once.
    Together { volumes: usize, rounds: usize },
    /// Makes volumes until there are so many.
    Fill { from: usize, to: usize },
}

/// Durations in nanoseconds, by the name of what was done.
pub(super) type Times = BTreeMap<String, Vec<u64>>;

/// The hidden mode of this binary.
pub(crate) fn run() -> Result<()> {
    let order: Order = serde_json::from_reader(std::io::stdin())?;
    let mut node = Node::new(&order)?;
    match order.job {
        Job::Formatted { rounds } => node.formatted(rounds)?,
        Job::Fresh { rounds } => node.fresh(rounds)?,
        Job::Together { volumes, rounds } => node.together(volumes, rounds)?,
        Job::Fill { from, to } => node.fill(from, to)?,
    }
    Ok(serde_json::to_writer(std::io::stdout(), &node.times)?)
}

struct Node<'a> {
    driver: Endpoint,
    id: String,
    secrets: BTreeMap<String, String>,
    bare: Bare<'a>,
    programs: Programs<'a>,
    runtime: Runtime,
    /// Stays open, as opposed to that of each call of the endpoint.
    channel: Channel,
    times: Times,
}

impl<'a> Node<'a> {
    fn new(order: &'a Order) -> Result<Self> {
        let driver = Endpoint::new(&order.folder, RBD_DRIVER);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let channel = runtime.block_on(windlass_csi::client::connect(&driver.socket()))?;
        std::fs::write(KEYRING, format!("[client.admin]\n\tkey = {}\n", order.key))?;
        Ok(Self {
            id: node_id(&driver)?,
            driver,
            secrets: secrets("admin", &order.key),
            bare: Bare { monitor: &order.monitor, key: &order.key },
            programs: Programs { monitor: &order.monitor, keyring: KEYRING },
            runtime,
            channel,
            times: Times::default(),
        })
    }

    fn volume(&self, name: &str) -> Result<RbdVolume> {
        Ok(RbdVolume::create_with(&self.driver, self.secrets.clone(), name, mount_as("ext4", Mode::SingleNodeWriter, &[]), MIB)?)
    }

    fn claimed(&self, name: &str) -> Result<RbdVolume> {
        let mut volume = self.volume(name)?;
        volume.attach(&self.driver, &self.id)?;
        Ok(volume)
    }

    fn remove(&self, volume: &RbdVolume) -> Result<()> {
        volume.detach(&self.driver, &self.id)?;
        Ok(volume.delete(&self.driver)?)
    }

    /// Two images that stay mapped, one for each kind of options: otherwise each map would make a session with the cluster, which nodes in use have.
    fn hold_sessions(&self) -> Result<()> {
        let held = ["held-bare", "held-programs"].map(|name| self.volume(name));
        let [bare, programs] = held;
        self.bare.map(&bare?.image())?;
        self.programs.map(&programs?.image())
    }

    fn timed<T>(&mut self, what: &str, counts: Counts, deed: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let done = deed(self)?;
        let took = u64::try_from(began.elapsed().as_nanos())?;
        if counts == Counts::Yes {
            self.times.entry(what.to_owned()).or_default().push(took);
        }
        Ok(done)
    }

    fn formatted(&mut self, rounds: usize) -> Result<()> {
        self.hold_sessions()?;
        let volume = self.claimed("formatted")?;
        volume.stage(&self.driver)?;
        volume.volume.unstage(&self.driver)?;
        let (image, at) = (volume.image(), volume.volume.staging.clone());
        for round in 0..=rounds {
            let counts = Counts::after_the_first(round);
            for turn in 0..4 {
                match (round + turn) % 4 {
                    0 => {
                        self.timed("stage, bare", counts, |node| node.bare.stage(&image, &at))?;
                        self.timed("unstage, bare", counts, |node| node.bare.unstage(&image, &at))?;
                    }
                    1 => {
                        self.timed("stage", counts, |node| node.stage(&volume))?;
                        self.binds(&volume, counts)?;
                        self.timed("unstage", counts, |node| node.unstage(&volume))?;
                    }
                    2 => {
                        self.timed("stage, new connection", counts, |node| Ok(volume.stage(&node.driver)?))?;
                        self.timed("unstage, new connection", counts, |node| Ok(volume.volume.unstage(&node.driver)?))?;
                    }
                    _ => {
                        self.timed("stage, programs", counts, |node| node.programs.stage(&image, &at))?;
                        self.timed("unstage, programs", counts, |node| node.programs.unstage(&image, &at))?;
                    }
                }
            }
        }
        self.remove(&volume)
    }

    fn binds(&mut self, volume: &RbdVolume, counts: Counts) -> Result<()> {
        let (staging, target) = (volume.volume.staging.clone(), volume.volume.target(1));
        for _ in 0..BINDS {
            self.timed("publish, bare", counts, |_| {
                std::fs::create_dir(&target)?;
                Ok(mount(Some(staging.as_str()), target.as_str(), None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
            })?;
            self.timed("unpublish, bare", counts, |_| {
                umount2(target.as_str(), MntFlags::UMOUNT_NOFOLLOW)?;
                Ok(std::fs::remove_dir(&target)?)
            })?;
            self.timed("publish", counts, |node| node.publish(volume))?;
            self.timed("unpublish", counts, |node| node.unpublish(volume))?;
        }
        Ok(())
    }

    fn fresh(&mut self, rounds: usize) -> Result<()> {
        for round in 0..=rounds {
            let counts = Counts::after_the_first(round);
            for turn in 0..3 {
                let volume = self.claimed(&format!("fresh-{round}-{turn}"))?;
                let (image, at) = (volume.image(), volume.volume.staging.clone());
                match (round + turn) % 3 {
                    0 => {
                        self.timed("fresh stage, bare", counts, |node| node.bare.stage_fresh(&image, &at))?;
                        self.bare.unstage(&image, &at)?;
                    }
                    1 => {
                        self.timed("fresh stage", counts, |node| node.stage(&volume))?;
                        self.unstage(&volume)?;
                    }
                    _ => {
                        self.timed("fresh stage, programs", counts, |node| node.programs.stage_fresh(&image, &at))?;
                        self.programs.unstage(&image, &at)?;
                    }
                }
                self.remove(&volume)?;
            }
        }
        Ok(())
    }

    fn together(&mut self, volumes: usize, rounds: usize) -> Result<()> {
        for round in 0..rounds {
            for turn in 0..2 {
                let new: Vec<RbdVolume> = (0..volumes).map(|n| self.claimed(&format!("together-{round}-{turn}-{n}"))).collect::<Result<_>>()?;
                if (round + turn) % 2 == 0 {
                    self.timed("together, bare", Counts::Yes, |node| {
                        node.each(&new, |node, volume| node.bare.stage_fresh(&volume.image(), &volume.volume.staging))
                    })?;
                    self.each(&new, |node, volume| node.bare.unstage(&volume.image(), &volume.volume.staging))?;
                } else {
                    self.timed("together", Counts::Yes, |node| node.each(&new, |node, volume| Ok(volume.stage(&node.driver)?)))?;
                    self.each(&new, |node, volume| Ok(volume.volume.unstage(&node.driver)?))?;
                }
                // Not what is measured: fewer at once, so that an emulated machine is through within a call's limit.
                new.chunks(8).try_for_each(|few| self.each(few, Self::remove))?;
            }
        }
        Ok(())
    }

    fn each(&self, volumes: &[RbdVolume], deed: impl Fn(&Self, &RbdVolume) -> Result<()> + Sync) -> Result<()> {
        std::thread::scope(|scope| {
            let all: Vec<_> = volumes.iter().map(|volume| scope.spawn(|| deed(self, volume))).collect();
            all.into_iter().try_for_each(|one| one.join().expect("no panic"))
        })
    }

    fn fill(&self, from: usize, to: usize) -> Result<()> {
        let next = std::sync::atomic::AtomicUsize::new(from);
        let one = || loop {
            let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number >= to {
                return Ok(());
            }
            let request = RbdVolume::create_request(&format!("fill-{number}"), &mount_as("ext4", Mode::SingleNodeWriter, &[]), 64, "rbd", &self.secrets);
            self.driver.create_volume(request)?;
        };
        std::thread::scope(|scope| {
            let all = [(); 4].map(|()| scope.spawn(one));
            all.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
        })
    }

    fn stage(&self, volume: &RbdVolume) -> Result<()> {
        self.runtime.block_on(NodeClient::new(self.channel.clone()).node_stage_volume(volume.stage_request()))?;
        Ok(())
    }

    fn unstage(&self, volume: &RbdVolume) -> Result<()> {
        self.runtime.block_on(NodeClient::new(self.channel.clone()).node_unstage_volume(volume.volume.unstage_request()))?;
        Ok(())
    }

    fn publish(&self, volume: &RbdVolume) -> Result<()> {
        self.runtime.block_on(NodeClient::new(self.channel.clone()).node_publish_volume(volume.publish_request(0)))?;
        Ok(())
    }

    fn unpublish(&self, volume: &RbdVolume) -> Result<()> {
        self.runtime.block_on(NodeClient::new(self.channel.clone()).node_unpublish_volume(volume.volume.unpublish_request(0)))?;
        Ok(())
    }
}

/// The first round of everything brings programs and code into memory, and is not counted.
#[derive(Clone, Copy, PartialEq)]
enum Counts {
    Yes,
    No,
}

impl Counts {
    fn after_the_first(round: usize) -> Self {
        if round == 0 { Self::No } else { Self::Yes }
    }
}
