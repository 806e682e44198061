//! Volumes that ceph-csi made: found by their ids and contexts, used, grown and deleted.

use windlass_plugin_sdk::*;
use windlass_rbd::Rbd;

const UUID: &str = "0f0a3c1e-64b5-4e5f-9d3a-5a8a7e2d1c0b";
const NODE: &str = "node-1/10.0.0.7";

fn harness() -> Harness {
    Harness::new().cluster("ceph", &["rbd", "fast"]).secret("userID", "csi").secret("userKey", "AQ==")
}

fn pool(namespace: &str) -> RbdPool {
    RbdPool { cluster: "ceph".into(), pool: "fast".into(), namespace: namespace.into() }
}

/// The pool `fast` has the number 2.
fn id() -> String {
    format!("0001-0004-ceph-0000000000000002-{UUID}")
}

fn made(harness: &Harness, namespace: &str, prefix: &str) {
    let metadata = Context::from([("csi.storage.k8s.io/pvc/name", "claim")]);
    let image = Image { name: format!("{prefix}{UUID}"), id: "10226b8b4567".into(), size: 1 << 30, features: Features::LAYERING, data_pool: None, metadata };
    harness.put_image(&pool(namespace), image);
}

fn context() -> Context {
    let image = format!("csi-vol-{UUID}");
    Context::from([("clusterID", "ceph"), ("pool", "fast"), ("journalPool", "fast"), ("imageFeatures", "layering"), ("imageName", image.as_str())])
}

fn staged(context: Context) -> VolumeFacts {
    VolumeFacts { volume_context: context, ..VolumeFacts::new(id(), Capability::mount(None)) }
}

fn code<T>(result: &Result<T, Refusal>) -> &'static str {
    result.as_ref().err().map_or("OK", Refusal::code)
}

#[test]
fn a_node_finds_the_image_without_asking() {
    for (facts, namespace, image, config) in [
        (staged(context()), "", format!("csi-vol-{UUID}"), ("", "")),
        (staged(context().with("imageName", format!("k8s-{UUID}"))), "", format!("k8s-{UUID}"), ("", "")),
        (staged(Context::from([("pool", "fast")])), "", format!("csi-vol-{UUID}"), ("", "")),
        (staged(Context::from([("pool", "fast")])), "", format!("k8s-{UUID}"), ("ceph_csi_prefixes", "k8s-,csi-vol-")),
        (staged(context().with("radosNamespace", "tenant")), "tenant", format!("csi-vol-{UUID}"), ("", "")),
        (staged(context()), "tenant", format!("csi-vol-{UUID}"), ("rados_namespaces", "ceph=tenant")),
    ] {
        let plan = harness().config(config.0, config.1).attach::<Rbd>(&facts).unwrap();
        let Source::Rbd { pool: at, image: named, .. } = plan.source else { panic!("{facts:?}") };
        assert_eq!((at, named), (pool(namespace), image), "{facts:?}");
    }
    let xfs = harness().attach::<Rbd>(&staged(context().with("csi.storage.k8s.io/fstype", "xfs").with("mapOptions", "krbd:ms_mode=secure"))).unwrap();
    assert_eq!(xfs.filesystem.unwrap().kind, FilesystemKind::Xfs);
    for (context, want) in [
        (context().with("encrypted", "true"), "INVALID_ARGUMENT"),
        (context().with("encrypted", "1"), "INVALID_ARGUMENT"),
        (context().with("encrypted", "False"), "OK"),
        (context().with("mapOptions", "lock_on_read"), "INVALID_ARGUMENT"),
        (context().with("imageName", "../x"), "INVALID_ARGUMENT"),
        (Context::new(), "INVALID_ARGUMENT"),
    ] {
        assert_eq!(code(&harness().attach::<Rbd>(&staged(context.clone()))), want, "{context:?}");
    }
}

#[test]
fn the_controller_finds_the_image_by_the_id_alone() {
    for (namespace, prefix, config) in
        [("", "csi-vol-", ("", "")), ("", "k8s-", ("ceph_csi_prefixes", "csi-vol-, k8s-")), ("tenant", "csi-vol-", ("rados_namespaces", "ceph=tenant"))]
    {
        let harness = harness().config(config.0, config.1);
        made(&harness, namespace, prefix);
        let context = context().with("imageName", format!("{prefix}{UUID}"));
        let publish = PublishFacts { volume_context: context, ..PublishFacts::new(id(), NODE, Capability::mount(None)) };
        assert_eq!(harness.publish::<Rbd>(&publish), Ok(Context::new()), "{prefix}");
        assert_eq!(harness.holders(&pool(namespace), &format!("{prefix}{UUID}")).len(), 1);
        let facts = ValidateFacts {
            volume: id(),
            volume_context: Context::new(),
            capabilities: vec![Capability::mount(None)],
            parameters: Context::new(),
            mutable_parameters: Context::new(),
        };
        assert_eq!(harness.validate_rbd::<Rbd>(&facts), Ok(None));
        assert_eq!(harness.expand_rbd::<Rbd>(&id(), 2 << 30, 0).unwrap().capacity, 2 << 30);
        assert_eq!(code(&harness.delete_rbd_volume::<Rbd>(&id())), "FAILED_PRECONDITION");
        for _ in 0..2 {
            assert_eq!(harness.unpublish::<Rbd>(&id(), Some(NODE)), Ok(()));
        }
        for _ in 0..2 {
            assert_eq!(harness.delete_rbd_volume::<Rbd>(&id()), Ok(()));
        }
        assert_eq!(harness.images(&pool(namespace)), []);
    }
}

#[test]
fn what_could_not_be_taken_back_is_not_given() {
    for (key, value, setting) in [("imageName", format!("k8s-{UUID}"), "ceph_csi_prefixes"), ("radosNamespace", "tenant".to_owned(), "rados_namespaces")] {
        let harness = harness();
        made(&harness, "", "k8s-");
        let context = context().with(key, value);
        let refusal = harness.publish::<Rbd>(&PublishFacts { volume_context: context, ..PublishFacts::new(id(), NODE, Capability::mount(None)) }).unwrap_err();
        assert_eq!(refusal.code(), "FAILED_PRECONDITION");
        assert!(refusal.words().contains(setting), "{}", refusal.words());
    }
}

#[test]
fn a_pool_that_is_gone_took_its_volumes_with_it() {
    let gone = format!("0001-0004-ceph-0000000000000009-{UUID}");
    assert_eq!(harness().delete_rbd_volume::<Rbd>(&gone), Ok(()));
    assert_eq!(harness().unpublish::<Rbd>(&gone, Some(NODE)), Ok(()));
    let refusal = harness().expand_rbd::<Rbd>(&gone, 1, 0).unwrap_err();
    assert_eq!((refusal.code(), refusal.words().contains("number 9")), ("NOT_FOUND", true));
    let elsewhere = format!("0001-0005-other-0000000000000002-{UUID}");
    assert_eq!(code(&harness().delete_rbd_volume::<Rbd>(&elsewhere)), "INVALID_ARGUMENT", "a cluster that was not granted is no proof of anything");
}
