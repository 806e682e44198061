//! The harness's clusters answer as the interface `rbd` says, whatever a driver asks of them.

use windlass_plugin_sdk::*;

/// A driver whose `create_volume` does the deed that the volume's name says, and hands on what comes of it.
struct Asks;

fn credentials() -> Credentials {
    Credentials { user: "user".into(), key: "key".into() }
}

fn pool(cluster: &str, pool: &str) -> RbdPool {
    RbdPool { cluster: cluster.into(), pool: pool.into(), namespace: String::new() }
}

fn holder(node: &str) -> Holder {
    Holder { node: node.into(), addresses: vec!["10.0.0.7".into()] }
}

impl NodeDriver for Asks {
    fn describe() -> Description {
        Description::new("storage.example", "1.0.0").secret("user", "who").secret("key", "how")
    }

    fn attach(_: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        Ok(AttachPlan::rbd(pool("ceph", "rbd"), &facts.volume, credentials()).options(MapOptions { queue_depth: 1 << 20, ..MapOptions::default() }))
    }
}

impl RbdDriver for Asks {
    fn create_volume(_: &Host<'_>, clusters: &Clusters<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let images = clusters.images(pool("ceph", "rbd"), credentials());
        let wish = |features: Features| ImageWish { metadata: Context::from([("a", "1")]), ..ImageWish::new(1 << 30, features) };
        let size = match facts.name.as_str() {
            "create" => u64::from(images.create("i", wish(Features::all()))?.1),
            "create-fast-diff" => images.create("j", wish(Features::FAST_DIFF | Features::EXCLUSIVE_LOCK))?.0.size,
            "create-elsewhere" => images.create("j", ImageWish { data_pool: Some("gone".into()), ..wish(Features::empty()) })?.0.size,
            "create-odd" => images.create("j", ImageWish { object_size: Some(5 << 20), ..wish(Features::empty()) })?.0.size,
            "create-badly" => images.create("a/b", wish(Features::empty()))?.0.size,
            "describe" => images.set_metadata("i", Context::from([("b", "2")])).map(|_| 1)?,
            "shrink" => images.resize("i", 1)?.size,
            "resize-missing" => images.resize("missing", 1)?.size,
            "stat-missing" => images.stat("missing")?.map_or(1, |_| 0),
            "delete" => images.delete("i").map(|_| 1)?,
            "release-missing" => images.release("missing", Some(&holder("n1"))).map(|_| 1)?,
            "claim-missing" => images.claim("missing", Hold::Reader, &holder("n1")).map(|_| 1)?,
            "claim-nowhere" => images.claim("i", Hold::Reader, &Holder { addresses: vec!["host".into()], ..holder("n1") }).map(|_| 1)?,
            "snapshot" => u64::from(images.take_snapshot("i", "windlass.own")?.1),
            "snapshot-foreign" => u64::from(images.take_snapshot("i", "mine")?.1),
            "snapshot-missing" => u64::from(images.take_snapshot("missing", "windlass.own")?.1),
            "unsnapshot" => images.delete_snapshot("i", "windlass.own").map(|_| 1)?,
            "copy" => images.copy(("i", "windlass.own"), (&pool("ceph", "ssd"), "the-own"), wish(Features::all()), None)?.0.size,
            "copy-away" => images.copy(("i", "windlass.own"), (&pool("other", "ssd"), "the-own"), wish(Features::all()), None)?.0.size,
            "copies" => clusters.images(pool("ceph", "ssd"), credentials()).list("", 10)?.len() as u64,
            "delete-copy" => clusters.images(pool("ceph", "ssd"), credentials()).delete("the-own").map(|_| 1)?,
            "journal" => images.journal("csi.volumes.default", &["a"])?.bytes() as u64,
            "journal-foreign" => images.journal("rbd_directory", &["a"])?.bytes() as u64,
            "journal-cut" => images.remove_from_journal("csi.volumes.default", &["a"]).map(|_| 1)?,
            "list" => images.list("", 10)?.len() as u64,
            "number" => u64::from(clusters.pool_name("ceph", &credentials(), 2)?.as_deref() == Some("ssd")),
            "other-pool" => clusters.images(pool("ceph", "gone"), credentials()).list("", 10)?.len() as u64,
            "other-cluster" => clusters.images(pool("gone", "rbd"), credentials()).list("", 10)?.len() as u64,
            "other-secret" => clusters.images(pool("ceph", "rbd"), Credentials { key: "gone".into(), ..credentials() }).list("", 10)?.len() as u64,
            other => {
                let (node, hold) = other.split_once(' ').expect("a deed, or a node and its hold");
                let hold = match hold {
                    "writer" => Hold::Writer,
                    "reader" => Hold::Reader,
                    "shared" => Hold::SharedWriter,
                    _ => return images.release("i", Some(&holder(node))).map(|()| Volume::new("v", 1)),
                };
                images.claim("i", hold, &holder(node)).map(|_| 1)?
            }
        };
        Ok(Volume::new("v", size))
    }

    fn delete_volume(_: &Host<'_>, _: &Clusters<'_>, _: &str) -> Result<(), Refusal> {
        Ok(())
    }

    fn validate(_: &Host<'_>, _: &Clusters<'_>, _: &ValidateFacts) -> Result<Option<String>, Refusal> {
        Ok(None)
    }

    fn expand(_: &Host<'_>, _: &Clusters<'_>, _: &str, _: &CapacityRange) -> Result<Expanded, Refusal> {
        Err(Refusal::unsupported("no"))
    }

    fn publish(_: &Host<'_>, _: &Clusters<'_>, _: &PublishFacts) -> Result<Context, Refusal> {
        Ok(Context::from([("windlass.io/image", "mine")]))
    }

    fn unpublish(_: &Host<'_>, _: &Clusters<'_>, _: &str, _: Option<&str>) -> Result<(), Refusal> {
        Ok(())
    }
}

export_rbd_driver!(Asks);

fn harness() -> Harness {
    Harness::new().cluster("ceph", &["rbd", "ssd"]).secret("user", "csi").secret("key", "AQ==")
}

/// What comes of the last of these deeds: a number, or a code and words.
fn after(deeds: &[&str]) -> Result<u64, (&'static str, String)> {
    let harness = harness();
    let ask = |deed: &str| harness.create_rbd_volume::<Asks>(&CreateFacts::new(deed, 0, Capability::block()));
    let (last, before) = deeds.split_last().unwrap();
    before.iter().for_each(|deed| drop(ask(deed)));
    ask(last).map(|volume| volume.capacity).map_err(|refusal| (refusal.code(), refusal.words().to_owned()))
}

#[test]
fn deeds_have_the_outcome_that_the_interface_names() {
    let gib = 1 << 30;
    for (deeds, want) in [
        (&["create"][..], Ok(1)),
        (&["create", "create"], Ok(0)),
        (&["create-fast-diff"], Err(("INVALID_ARGUMENT", "`object-map`"))),
        (&["create-elsewhere"], Err(("INVALID_ARGUMENT", "there are: rbd, ssd"))),
        (&["create-odd"], Err(("INVALID_ARGUMENT", "a power of two"))),
        (&["create-badly"], Err(("INVALID_ARGUMENT", "`name` is \"a/b\""))),
        (&["create", "describe"], Ok(1)),
        (&["describe"], Err(("NOT_FOUND", "\"i\""))),
        (&["create", "shrink"], Ok(gib)),
        (&["resize-missing"], Err(("NOT_FOUND", "missing"))),
        (&["stat-missing"], Ok(1)),
        (&["delete"], Ok(1)),
        (&["create", "delete", "list"], Ok(0)),
        (&["create", "list"], Ok(1)),
        (&["create", "n1 writer", "delete"], Err(("FAILED_PRECONDITION", "n1"))),
        (&["create", "n1 writer", "n1 release", "delete"], Ok(1)),
        (&["create", "n1 writer", "n2 release", "delete"], Err(("FAILED_PRECONDITION", "n1"))),
        (&["create", "n1 writer", "n1 writer"], Ok(1)),
        (&["create", "n1 writer", "n2 writer"], Err(("FAILED_PRECONDITION", "n1"))),
        (&["create", "n1 writer", "n2 reader"], Err(("FAILED_PRECONDITION", "n1"))),
        (&["create", "n1 reader", "n2 reader"], Ok(1)),
        (&["create", "n1 reader", "n2 shared"], Err(("FAILED_PRECONDITION", "n1"))),
        (&["create", "n1 reader", "n1 writer"], Err(("ALREADY_EXISTS", "n1"))),
        (&["create", "n1 reader", "n2 reader", "n1 writer"], Err(("FAILED_PRECONDITION", "n2"))),
        (&["release-missing"], Ok(1)),
        (&["claim-missing"], Err(("NOT_FOUND", "missing"))),
        (&["create", "claim-nowhere"], Err(("INVALID_ARGUMENT", "\"host\""))),
        (&["create", "snapshot"], Ok(1)),
        (&["create", "snapshot", "snapshot"], Ok(0)),
        (&["create", "snapshot", "unsnapshot", "unsnapshot", "snapshot"], Ok(1)),
        (&["create", "snapshot-foreign"], Err(("PERMISSION_DENIED", "`windlass.`"))),
        (&["snapshot-missing"], Err(("NOT_FOUND", "missing"))),
        (&["create", "copy"], Err(("NOT_FOUND", "i@windlass.own"))),
        (&["create", "snapshot", "copy"], Ok(gib)),
        (&["create", "snapshot", "copy", "unsnapshot", "delete", "copies"], Ok(1)),
        (&["create", "snapshot", "copy", "delete-copy", "snapshot"], Ok(1)),
        (&["create", "snapshot", "copy-away"], Err(("INVALID_ARGUMENT", "another cluster"))),
        (&["journal"], Ok(0)),
        (&["journal-foreign"], Err(("INVALID_ARGUMENT", "`csi.`"))),
        (&["journal-cut"], Ok(1)),
        (&["number"], Ok(1)),
        (&["other-pool"], Err(("INVALID_ARGUMENT", "there are: rbd, ssd"))),
        (&["other-cluster"], Err(("INVALID_ARGUMENT", "granted: ceph"))),
        (&["other-secret"], Err(("INVALID_ARGUMENT", "`gone`"))),
    ] {
        match (after(deeds), want) {
            (Ok(number), Ok(want)) => assert_eq!(number, want, "{deeds:?}"),
            (Err((code, words)), Err((want, word))) => assert!(code == want && words.contains(word), "{deeds:?}: {code} {words}"),
            (got, want) => panic!("{deeds:?}: {got:?}, not {want:?}"),
        }
    }
}

#[test]
fn metadata_are_added_to_and_shown() {
    let harness = harness();
    for deed in ["create", "describe"] {
        harness.create_rbd_volume::<Asks>(&CreateFacts::new(deed, 0, Capability::block())).unwrap();
    }
    assert_eq!(harness.images(&pool("ceph", "rbd"))[0].metadata, Context::from([("a", "1"), ("b", "2")]));
}

#[test]
fn what_the_daemon_would_refuse_fails_the_authors_test() {
    let complaint = |deed: &dyn Fn(&Harness)| {
        let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| deed(&harness()))).unwrap_err();
        payload.downcast_ref::<String>().cloned().unwrap()
    };
    let own_key = complaint(&|harness| drop(harness.publish::<Asks>(&PublishFacts::new("v", "n", Capability::block()))));
    assert!(own_key.contains("windlass.io/image"), "{own_key}");
    let depth = complaint(&|harness| drop(harness.attach::<Asks>(&VolumeFacts::new("i", Capability::block()))));
    assert!(depth.contains("out of their ranges"), "{depth}");
    let name = complaint(&|harness| drop(harness.attach::<Asks>(&VolumeFacts::new("a b", Capability::block()))));
    assert!(name.contains("\"a b\""), "{name}");
}
