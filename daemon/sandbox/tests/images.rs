//! The driver for Ceph RBD in its process: what it exports, what it asks of a cluster, and what a wrong answer does to it.

use crate::calls::mount;
use crate::stage::{Plugin, code, context};
use windlass_plan::attach::Source;
use windlass_plan::effect::{Effect, EffectAnswer, EffectError, ImageVerb, RbdAnswer, RbdEffect, RbdVerb};
use windlass_plan::plugin::{CallFailure, CapacityFacts, CreateFacts, NodeFacts, PluginAnswer, PluginCall, PublishFacts, RefusalKind, VolumeFacts};
use windlass_plan::rbd::{Claimed, Feature, Hold, ImageFacts, ImageIdentity, RbdName};
use windlass_plan::request::{CapacityRange, TopologyRequirement};
use windlass_wire::plugin::FromPlugin;

const RBD: &str = "plugins/rbd";

fn create(parameters: &[(&str, &str)]) -> PluginCall {
    PluginCall::CreateVolume(CreateFacts {
        name: "pvc-1".to_owned(),
        capacity: CapacityRange { required: 1 << 30, limit: 0 },
        capabilities: vec![mount()],
        parameters: context(parameters),
        mutable_parameters: context(&[]),
        source: None,
        topology: TopologyRequirement::default(),
    })
}

fn identity() -> ImageIdentity {
    ImageIdentity { fsid: "3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11".to_owned(), pool: 2, image: "10226b8b4567".to_owned() }
}

/// A call with one effect, which is answered so; the effect, and what came of the call.
fn with_answer(
    plugin: &mut Plugin,
    call: PluginCall,
    answer: impl FnOnce(&RbdEffect) -> Result<EffectAnswer, EffectError>,
) -> (RbdEffect, Result<PluginAnswer, CallFailure>) {
    let id = plugin.send(call);
    let effect = match plugin.receive(id) {
        FromPlugin::Effect { effect: Effect::Rbd(effect), .. } => effect,
        other => panic!("{other:?}"),
    };
    plugin.answer(id, answer(&effect));
    let result = plugin.finish(id);
    (effect, result)
}

fn image_of(effect: &RbdEffect) -> (&RbdName, &ImageVerb) {
    match &effect.verb {
        RbdVerb::Image { image, verb, .. } => (image, verb),
        other => panic!("{other:?}"),
    }
}

/// The image as it was wished for.
fn made(effect: &RbdEffect) -> Result<EffectAnswer, EffectError> {
    let (image, ImageVerb::Create(wish)) = image_of(effect) else { panic!("{effect:?}") };
    let image = ImageFacts {
        name: image.clone(),
        identity: identity(),
        size: wish.size,
        features: wish.features.iter().map(|feature| feature.bit()).sum::<u64>() | 1 << 40,
        object_size: 4 << 20,
        striping: wish.striping,
        data_pool: wish.data_pool.clone(),
        metadata: wish.metadata.clone(),
    };
    Ok(EffectAnswer::Rbd(RbdAnswer::Created { image, is_new: false }))
}

#[test]
fn plugin_inspection_of_the_rbd_driver_names_what_it_has() {
    let (_, mut inspection) = code(RBD);
    inspection.exports.sort();
    assert_eq!(inspection.exports, ["controller", "driver", "modification", "node", "publishing", "snapshots"]);
    assert!(inspection.imports.contains(&"rbd".to_owned()) && !inspection.imports.contains(&"files".to_owned()), "{inspection:?}");
}

#[test]
fn plugin_makes_claims_and_shows_an_image() {
    let mut plugin = Plugin::of(RBD);
    let class = [("clusterID", "ceph"), ("pool", "rbd"), ("radosNamespace", "tenant"), ("stripeUnit", "65536"), ("stripeCount", "8"), ("dataPool", "data")];
    let (effect, answer) = with_answer(&mut plugin, create(&class), made);
    assert_eq!((effect.cluster.as_str(), effect.credentials.user.as_str(), effect.credentials.key.as_str()), ("ceph", "userID", "userKey"));
    let (image, ImageVerb::Create(wish)) = image_of(&effect) else { panic!("{effect:?}") };
    assert_eq!((wish.size, wish.features.len(), wish.striping.unwrap().count), (1 << 30, Feature::ALL.len(), 8));
    assert_eq!((wish.data_pool.as_ref().unwrap().as_str(), wish.metadata["windlass.name"].as_str()), ("data", "pvc-1"));
    let volume = match answer {
        Ok(PluginAnswer::Volume(volume)) => volume,
        other => panic!("{other:?}"),
    };
    assert_eq!(volume.volume, format!("1/ceph/rbd/tenant/{image}"));

    let facts = NodeFacts { node: "node-a".to_owned(), topology: context(&[]), addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()] };
    let node = match plugin.call(PluginCall::NodeInfo(facts)) {
        Ok(PluginAnswer::NodeInfo(info)) => info.node_id,
        other => panic!("{other:?}"),
    };
    let publish =
        PublishFacts { volume: volume.volume.clone(), node: node.clone(), capability: mount(), readonly: false, volume_context: volume.context.clone() };
    let claimed = |_: &RbdEffect| Ok(EffectAnswer::Rbd(RbdAnswer::Claimed(Claimed { identity: identity(), is_never_written: true, metadata: context(&[]) })));
    let (effect, answer) = with_answer(&mut plugin, PluginCall::Publish(publish), claimed);
    let (of, ImageVerb::Claim { hold: Hold::Writer, holder }) = image_of(&effect) else { panic!("{effect:?}") };
    assert_eq!((of, holder.node.as_str(), holder.addresses.len()), (image, "node-a", 2));
    assert_eq!(answer, Ok(PluginAnswer::Published(context(&[]))));

    let attach = VolumeFacts { volume: volume.volume.clone(), volume_context: volume.context, publish_context: context(&[]), capability: mount() };
    match plugin.call(PluginCall::Attach(attach)) {
        Ok(PluginAnswer::Plan(plan)) => {
            assert_eq!(plan.source.to_string(), format!("rbd:ceph/rbd/tenant/{image}"));
            assert!(matches!(plan.source, Source::Rbd(_)));
        }
        other => panic!("{other:?}"),
    }
    let unpublish = PluginCall::Unpublish { volume: volume.volume, node: Some(node) };
    let (effect, answer) = with_answer(&mut plugin, unpublish, |_| Ok(EffectAnswer::Rbd(RbdAnswer::Done)));
    assert!(matches!(image_of(&effect), (_, ImageVerb::Release { .. })), "{effect:?}");
    assert_eq!(answer, Ok(PluginAnswer::Unpublished));
}

#[test]
fn plugin_hands_a_clusters_refusal_on() {
    let mut plugin = Plugin::of(RBD);
    let class = [("clusterID", "ceph"), ("pool", "rbd")];
    for kind in [RefusalKind::Invalid, RefusalKind::Unauthenticated, RefusalKind::PermissionDenied, RefusalKind::Unavailable, RefusalKind::Exhausted] {
        let refuse = |_: &RbdEffect| Err(EffectError { kind, message: "no\nway".to_owned() });
        let (_, answer) = with_answer(&mut plugin, create(&class), refuse);
        assert!(matches!(&answer, Err(CallFailure::Refused(no)) if no.kind == kind && no.message == "no | way"), "{answer:?}");
    }
    // An answer to another question is no answer.
    let (_, answer) = with_answer(&mut plugin, create(&class), |_| Ok(EffectAnswer::Deleted));
    assert!(matches!(&answer, Err(CallFailure::Refused(no)) if no.kind == RefusalKind::Unavailable), "{answer:?}");
    assert!(matches!(plugin.call(PluginCall::Capacity(facts())), Err(CallFailure::NotExported)));
}

fn facts() -> CapacityFacts {
    CapacityFacts { capabilities: vec![mount()], parameters: context(&[]), topology: None }
}
