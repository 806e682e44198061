//! The driver for Ceph RBD: each volume is an image of a cluster that the operator granted, mapped by the kernel client.

mod class;
mod copy;
mod id;
mod journal;
mod mutable;
mod names;
mod node;
mod options;
mod settings;
mod snapshot;
mod topology;
mod usage;
mod volume;

use class::Class;
use id::{Id, Place};
use settings::Settings;
use usage::Usage;
use volume::Existing;
use windlass_plugin_sdk::*;

/// The driver.
pub struct Rbd;

impl NodeDriver for Rbd {
    fn describe() -> Description {
        let said = Description::new("windlass.io", env!("CARGO_PKG_VERSION"))
            .secret(volume::USER, "the user of the cluster, such as `csi-rbd`, without `client.`")
            .secret(volume::KEY, "the user's key, as `ceph auth get-key` prints it")
            .online_expansion()
            .clones();
        settings::KEYS.into_iter().fold(said, |said, (key, help)| said.config(key, help))
    }

    fn probe(host: &Host<'_>) -> Result<bool, Refusal> {
        Settings::read(host).map(|_| true)
    }

    fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
        volume::refuse_encrypted(&facts.volume_context)?;
        let Place { pool, image } = volume::on_node(&facts.volume, &facts.volume_context, &Settings::read(host)?)?;
        let mut options = options::parse(facts.volume_context.get(options::KEY).unwrap_or_default())?;
        mutable::apply(&mut options, &facts.publish_context)?;
        let kind = volume::made_for(&facts.volume_context).unwrap_or(FilesystemKind::Ext4);
        let plan = AttachPlan::rbd(pool, image, volume::credentials()).options(options).formatted_for(&facts.capability, kind);
        Ok(if facts.volume_context.get(volume::CONTENT) == Some(volume::COPY) { plan.copy() } else { plan })
    }

    fn node_info(_: &Host<'_>, facts: &NodeFacts) -> Result<NodeInfo, Refusal> {
        Ok(NodeInfo { topology: facts.topology.clone(), ..NodeInfo::new(node::id(facts)?) })
    }
}

impl RbdDriver for Rbd {
    fn create_volume(host: &Host<'_>, clusters: &Clusters<'_>, facts: &CreateFacts) -> Result<Volume, Refusal> {
        let settings = Settings::read(host)?;
        let class = Class::read(&facts.parameters, &settings)?;
        if let Some(source) = &facts.source {
            return copy::create(clusters, facts, &class, &settings, source);
        }
        let usage = Usage::read(&facts.capabilities, class.filesystem)?;
        let size = usage.sizes().choose(&facts.capacity)?;
        let image = id::image_name(&class.prefix, &facts.name);
        let site = volume::site(clusters, &class, facts, &image)?;
        let place = Place { pool: site.pool.clone(), image };
        let id = place.id()?;
        let wanted = volume::metadata(facts, &class, &usage)?;
        let wish = ImageWish {
            object_size: class.object_size,
            striping: class.striping,
            data_pool: site.data_pool.clone(),
            metadata: volume::with_owner(&wanted, &facts.parameters),
            ..ImageWish::new(size, class.features)
        };
        let images = volume::images(clusters, &place);
        let metadata = wish.metadata.clone();
        let (image, is_new) = images.create(&place.image, wish)?;
        if !is_new {
            match volume::compare(&image, image.size, facts, &class, &site, &wanted)? {
                Existing::Same => volume::modify(&images, &image, facts)?,
                Existing::Undescribed => {
                    host.info(format!("{}: the image was there without a word of what it is; now it has it", place.image));
                    images.set_metadata(&place.image, metadata)?;
                }
            }
        }
        host.debug(format!("{} is {} bytes, {}", place.image, image.size, if is_new { "new" } else { "made before" }));
        Ok(Volume { context: volume::context(&class, &usage), topology: site.topology.into_iter().collect(), ..Volume::new(id, image.size) })
    }

    fn delete_volume(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str) -> Result<(), Refusal> {
        let Some(id) = Id::parse(volume) else { return Ok(()) };
        let settings = Settings::read(host)?;
        let places = match volume::in_cluster(clusters, volume, &settings) {
            // Its pool is gone, and the image with it.
            Err(Refusal::NotFound(_)) => return Ok(()),
            places => places?,
        };
        places.iter().try_for_each(|place| volume::images(clusters, place).delete(&place.image))?;
        match (id, places.first()) {
            (Id::CephCsi { uuid, .. }, Some(place)) => journal::forget(&volume::images(clusters, place), journal::VOLUMES, &settings, &uuid),
            _ => Ok(()),
        }
    }

    fn validate(host: &Host<'_>, clusters: &Clusters<'_>, facts: &ValidateFacts) -> Result<Option<String>, Refusal> {
        let settings = Settings::read(host)?;
        let (place, image) = volume::find(clusters, &facts.volume, &settings)?;
        let class = if facts.parameters.is_empty() { None } else { Some(Class::read(&facts.parameters, &settings)) };
        if let Err(refusal) = mutable::metadata(&facts.mutable_parameters) {
            return Ok(Some(refusal.words().to_owned()));
        }
        let class = match class.transpose() {
            Ok(class) => class,
            Err(refusal) => return Ok(Some(refusal.words().to_owned())),
        };
        if class.as_ref().is_some_and(|class| !class.pools().contains(&place.pool)) {
            return Ok(Some(format!(
                "the volume is in the pool {} of the cluster {}, and the parameters name another place",
                place.pool.pool, place.pool.cluster
            )));
        }
        let made_for = volume::made_for(&facts.volume_context);
        Ok(match Usage::read(&facts.capabilities, class.and_then(|class| class.filesystem).or(made_for)) {
            Ok(usage) => usage.differs_from(&image.metadata),
            Err(refusal) => Some(refusal.words().to_owned()),
        })
    }

    fn expand(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str, capacity: &CapacityRange) -> Result<Expanded, Refusal> {
        let (place, image) = volume::find(clusters, volume, &Settings::read(host)?)?;
        if capacity.limit != 0 && image.size.max(capacity.required) > capacity.limit {
            let words = format!("the volume has {} bytes and is to have {} to {}; volumes do not shrink", image.size, capacity.required, capacity.limit);
            return Err(Refusal::out_of_range(words));
        }
        if image.size >= capacity.required {
            return Ok(Expanded { capacity: image.size, node_expansion: true });
        }
        let size = usage::sizes(image.size).choose(capacity)?;
        let grown = volume::images(clusters, &place).resize(&place.image, size)?;
        Ok(Expanded { capacity: grown.size, node_expansion: true })
    }

    fn publish(host: &Host<'_>, clusters: &Clusters<'_>, facts: &PublishFacts) -> Result<Context, Refusal> {
        volume::refuse_encrypted(&facts.volume_context)?;
        let settings = Settings::read(host)?;
        let holder = node::holder(&facts.node)?;
        let hold = usage::hold(&facts.capability)?;
        let places = volume::in_cluster(clusters, &facts.volume, &settings)?;
        if matches!(Id::parse(&facts.volume), Some(Id::CephCsi { .. })) {
            volume::refuse_hidden(&places, &facts.volume_context)?;
        }
        for place in places {
            match volume::images(clusters, &place).claim(&place.image, hold, &holder) {
                Err(Refusal::NotFound(_)) => {}
                claimed => return claimed.map(|metadata| mutable::told(&metadata)),
            }
        }
        Err(id::unknown(&facts.volume))
    }

    fn unpublish(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str, node: Option<&str>) -> Result<(), Refusal> {
        if Id::parse(volume).is_none() {
            return Ok(());
        }
        let holder = node.map(node::holder).transpose()?;
        let places = match volume::in_cluster(clusters, volume, &Settings::read(host)?) {
            Err(Refusal::NotFound(_)) => return Ok(()),
            places => places?,
        };
        for place in places {
            match volume::images(clusters, &place).release(&place.image, holder.as_ref()) {
                Err(Refusal::NotFound(_)) => {}
                released => released?,
            }
        }
        Ok(())
    }
}

impl RbdModification for Rbd {
    fn modify_volume(host: &Host<'_>, clusters: &Clusters<'_>, volume: &str, parameters: &Context) -> Result<(), Refusal> {
        // All of them are right before one is set.
        let metadata = mutable::metadata(parameters)?;
        let (place, _) = volume::find(clusters, volume, &Settings::read(host)?)?;
        volume::images(clusters, &place).set_metadata(&place.image, metadata)
    }
}

impl RbdSnapshots for Rbd {
    fn create_snapshot(host: &Host<'_>, clusters: &Clusters<'_>, facts: &SnapshotFacts) -> Result<Snapshot, Refusal> {
        snapshot::create(clusters, facts, &Settings::read(host)?)
    }

    fn delete_snapshot(host: &Host<'_>, clusters: &Clusters<'_>, snapshot: &str) -> Result<(), Refusal> {
        snapshot::delete(clusters, snapshot, &Settings::read(host)?)
    }
}

#[cfg(feature = "component")]
export_rbd_driver!(Rbd, modification, snapshots);
