//! Callers who hang up, and many at once: the work is done once, nobody is told to come again, and what is asked last is what is so.

use super::row;
use harness::{Daemon, Volume, block, devices_beneath, mounts_beneath};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tonic::{Code, Status};
use windlass_csi::client::connect;
use windlass_csi::v1::controller_client::ControllerClient;
use windlass_csi::v1::node_client::NodeClient;
use windlass_csi::v1::volume_capability::access_mode::Mode;
use windlass_csi::v1::{DeleteVolumeRequest, NodePublishVolumeRequest};

const CALLERS: u64 = 64;

/// Numbers that look random (splitmix64), from a seed that the test prints.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

/// Sixty-four equal calls at once, of which most hang up after a moment of their own; who stays is answered well.
fn hang_up<F, T>(numbers: &mut Numbers, call: impl Fn() -> F) -> (u64, u64)
where
    F: Future<Output = Result<T, Status>> + Send + 'static,
    T: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let callers: Vec<_> = (0..CALLERS)
            .map(|number| {
                // One in eight stays to the end.
                let patience = if number % 8 == 0 { Duration::from_secs(60) } else { Duration::from_micros(numbers.below(40_000)) };
                tokio::spawn(tokio::time::timeout(patience, call()))
            })
            .collect();
        let (mut stayed, mut left) = (0, 0);
        for caller in callers {
            match caller.await.unwrap() {
                Ok(answer) => {
                    answer.map_err(|status| format!("{status:?}")).expect("whoever stays is answered well");
                    stayed += 1;
                }
                Err(_) => left += 1,
            }
        }
        (stayed, left)
    })
}

#[test]
fn loop_sixty_four_callers_of_whom_most_hang_up_get_it_done_once() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    println!("seed {seed}");
    let mut numbers = Numbers(seed);
    let daemon = Daemon::start();
    let (socket, capability) = (daemon.socket(), block(Mode::SingleNodeWriter));
    let mut left = 0;
    for round in 0..3 {
        let name = format!("fickle-{round}");
        let create = Volume::create_request(&name, &capability, 16);
        macro_rules! crowd {
            ($client:ident . $call:ident, $request:expr) => {{
                let (socket, request) = (socket.clone(), $request);
                let (stayed, hung_up) = hang_up(&mut numbers, move || {
                    let (socket, request) = (socket.clone(), request.clone());
                    async move {
                        let channel = connect(&socket).await.map_err(|error| Status::unavailable(error.to_string()))?;
                        $client::new(channel).$call(request).await
                    }
                });
                assert!(stayed >= CALLERS / 8);
                left += hung_up;
            }};
        }
        crowd!(ControllerClient.create_volume, create.clone());
        assert_eq!(std::fs::read_dir(daemon.path("volumes")).unwrap().count(), 1);
        let volume = Volume::create(&daemon, &name, capability.clone(), 16).unwrap();
        crowd!(NodeClient.node_stage_volume, volume.stage_request());
        row("NodeStageVolume/concurrent").holds(devices_beneath(&daemon.path("volumes")).len() == 1, "one device");
        crowd!(NodeClient.node_publish_volume, volume.publish_request(0));
        row("NodePublishVolume/concurrent").holds(mounts_beneath(&daemon.path("kubelet")).len() == 2, "one mount at the target");
        crowd!(NodeClient.node_unpublish_volume, volume.unpublish_request(0));
        row("NodeUnpublishVolume/concurrent").holds(mounts_beneath(&daemon.path("kubelet")).len() == 1, "the stage alone is left");
        crowd!(NodeClient.node_unstage_volume, volume.unstage_request());
        row("NodeUnstageVolume/concurrent").holds(devices_beneath(&daemon.path("volumes")).is_empty(), "no device is left");
        crowd!(ControllerClient.delete_volume, DeleteVolumeRequest { volume_id: volume.id(), ..Default::default() });
        row("DeleteVolume/concurrent").holds(std::fs::read_dir(daemon.path("volumes")).unwrap().count() == 0, "no file is left");
    }
    assert!(left > CALLERS, "callers hung up: {left}");
    daemon.assert_nothing_left();
}

/// Four hundred pods of one volume end at the same moment: all are answered well within a minute, and none is told to come again.
#[test]
fn loop_four_hundred_unpublishes_at_once_are_all_done() {
    const PODS: usize = 400;
    let daemon = Daemon::start();
    let volume = Volume::create(&daemon, "crowded", block(Mode::SingleNodeMultiWriter), 16).unwrap();
    volume.stage(&daemon).unwrap();
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // Each on a connection of its own, as kubelet makes them.
    let at_once = |takes_down: bool| -> Vec<Result<(), Status>> {
        let socket = daemon.socket();
        runtime.block_on(async {
            let calls: Vec<_> = (0..PODS)
                .map(|pod| {
                    let (socket, up, down): (_, NodePublishVolumeRequest, _) = (socket.clone(), volume.publish_request(pod), volume.unpublish_request(pod));
                    tokio::spawn(async move {
                        let channel = connect(&socket).await.map_err(|error| Status::unavailable(error.to_string()))?;
                        let mut client = NodeClient::new(channel);
                        if takes_down { client.node_unpublish_volume(down).await.map(drop) } else { client.node_publish_volume(up).await.map(drop) }
                    })
                })
                .collect();
            let mut answers = Vec::new();
            for call in calls {
                answers.push(call.await.unwrap());
            }
            answers
        })
    };
    for takes_down in [false, true] {
        for answer in at_once(takes_down) {
            assert_ne!(answer.as_ref().err().map(Status::code), Some(Code::Aborted), "{answer:?}");
            row(if takes_down { "NodeUnpublishVolume/concurrent" } else { "NodePublishVolume/concurrent" }).answers(answer);
        }
        assert_eq!(mounts_beneath(&daemon.path("kubelet")).len(), if takes_down { 1 } else { PODS + 1 });
    }
    println!("{PODS} publishes and as many unpublishes at once: {:.1?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
    volume.unstage(&daemon).unwrap();
    daemon.assert_nothing_left();
}
