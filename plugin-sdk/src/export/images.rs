//! An [`RbdDriver`] as the bindings want it, and granted clusters behind the import `rbd`.

use super::{Daemon, HOST};
use crate::bindings::controller::exports::windlass::plugin::controller as wit;
use crate::bindings::modification::exports::windlass::plugin::modification as wit_modification;
use crate::bindings::publishing::exports::windlass::plugin::publishing as wit_publishing;
use crate::bindings::rbd::windlass::plugin::rbd as wit_rbd;
use crate::bindings::snapshots::exports::windlass::plugin::snapshots as wit_snapshots;
use crate::images::ImageImports;
use crate::{
    CapacityRange, Clusters, Context, Credentials, Expanded, Hold, Holder, Image, ImageSnapshot, ImageWish, PublishFacts, RbdDriver, RbdModification, RbdPool,
    RbdSnapshots, Refusal, Snapshot, SnapshotFacts,
};
use std::marker::PhantomData;

/// Compiles where `D` is a driver that makes its volumes as images.
pub const fn is_rbd_driver<D: RbdDriver>() {}

/// Compiles where `D` has parameters that may change.
pub const fn modifies<D: RbdModification>() {}

/// Compiles where `D` has snapshots.
pub const fn has_snapshots<D: RbdSnapshots>() {}

/// A driver that makes its volumes as images, as the bindings want it.
pub struct OfImages<D>(PhantomData<D>);

const CLUSTERS: Clusters<'static> = Clusters { imports: &Daemon };

impl ImageImports for Daemon {
    fn create(&self, pool: &RbdPool, credentials: &Credentials, name: &str, wish: ImageWish) -> Result<(Image, bool), Refusal> {
        wit_rbd::create(pool, credentials, name, &wish.into()).map(|created| (created.image.into(), created.is_new))
    }
    fn stat(&self, pool: &RbdPool, credentials: &Credentials, name: &str) -> Result<Option<Image>, Refusal> {
        wit_rbd::stat(pool, credentials, name).map(|image| image.map(Image::from))
    }
    fn set_metadata(&self, pool: &RbdPool, credentials: &Credentials, name: &str, metadata: Context) -> Result<(), Refusal> {
        let metadata: Vec<_> = metadata.into();
        wit_rbd::set_metadata(pool, credentials, name, &metadata)
    }
    fn resize(&self, pool: &RbdPool, credentials: &Credentials, name: &str, size: u64) -> Result<Image, Refusal> {
        wit_rbd::resize(pool, credentials, name, size).map(Image::from)
    }
    fn delete(&self, pool: &RbdPool, credentials: &Credentials, name: &str) -> Result<(), Refusal> {
        wit_rbd::delete(pool, credentials, name)
    }
    fn list(&self, pool: &RbdPool, credentials: &Credentials, after: &str, limit: u32) -> Result<Vec<String>, Refusal> {
        wit_rbd::list(pool, credentials, after, limit)
    }
    fn free(&self, pool: &RbdPool, credentials: &Credentials) -> Result<(u64, u64), Refusal> {
        wit_rbd::free(pool, credentials).map(|room| (room.available, room.used))
    }
    fn pool_name(&self, cluster: &str, credentials: &Credentials, number: u64) -> Result<Option<String>, Refusal> {
        wit_rbd::pool_name(cluster, credentials, number)
    }
    fn claim(&self, pool: &RbdPool, credentials: &Credentials, name: &str, hold: Hold, holder: &Holder) -> Result<Context, Refusal> {
        wit_rbd::claim(pool, credentials, name, hold, holder).map(Context::from)
    }
    fn release(&self, pool: &RbdPool, credentials: &Credentials, name: &str, holder: Option<&Holder>) -> Result<(), Refusal> {
        wit_rbd::release(pool, credentials, name, holder)
    }
    fn take_snapshot(&self, pool: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(ImageSnapshot, bool), Refusal> {
        let taken = wit_rbd::take_snapshot(pool, credentials, name, snapshot)?;
        let wit_rbd::Snapshot { name, size, created } = taken.snapshot;
        Ok((ImageSnapshot { name, size, created }, taken.is_new))
    }
    fn delete_snapshot(&self, pool: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(), Refusal> {
        wit_rbd::delete_snapshot(pool, credentials, name, snapshot)
    }
    fn copy(
        &self,
        (pool, name, snapshot): (&RbdPool, &str, &str),
        credentials: &Credentials,
        (to, copy): (&RbdPool, &str),
        wish: ImageWish,
        ancestors: Option<u32>,
    ) -> Result<(Image, bool), Refusal> {
        wit_rbd::copy(pool, credentials, name, snapshot, to, copy, &wish.into(), ancestors).map(|created| (created.image.into(), created.is_new))
    }
    fn journal(&self, pool: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<Context, Refusal> {
        wit_rbd::journal(pool, credentials, object, keys).map(Context::from)
    }
    fn remove_from_journal(&self, pool: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<(), Refusal> {
        wit_rbd::remove_from_journal(pool, credentials, object, keys)
    }
}

impl From<ImageWish> for wit_rbd::ImageWish {
    fn from(wish: ImageWish) -> Self {
        let ImageWish { size, features, object_size, striping, data_pool, metadata } = wish;
        Self { size, features, object_size, striping, data_pool, metadata: metadata.into() }
    }
}

impl From<wit_rbd::Image> for Image {
    fn from(image: wit_rbd::Image) -> Self {
        let wit_rbd::Image { name, id, size, features, data_pool, metadata } = image;
        Self { name, id, size, features, data_pool, metadata: metadata.into() }
    }
}

impl<D: RbdDriver> wit::Guest for OfImages<D> {
    fn create_volume(facts: wit::CreateFacts) -> Result<wit::Volume, Refusal> {
        D::create_volume(&HOST, &CLUSTERS, &facts.into()).map(wit::Volume::from)
    }
    fn delete_volume(volume: String) -> Result<(), Refusal> {
        D::delete_volume(&HOST, &CLUSTERS, &volume)
    }
    fn validate(facts: wit::ValidateFacts) -> Result<Option<String>, Refusal> {
        D::validate(&HOST, &CLUSTERS, &facts.into())
    }
    fn expand(volume: String, capacity: CapacityRange) -> Result<wit::Expanded, Refusal> {
        let Expanded { capacity, node_expansion } = D::expand(&HOST, &CLUSTERS, &volume, &capacity)?;
        Ok(wit::Expanded { capacity, node_expansion })
    }
}

impl<D: RbdDriver> wit_publishing::Guest for OfImages<D> {
    fn publish(facts: wit_publishing::PublishFacts) -> Result<Vec<(String, String)>, Refusal> {
        let wit_publishing::PublishFacts { volume, node, capability, readonly, volume_context } = facts;
        let facts = PublishFacts { volume, node, capability, readonly, volume_context: volume_context.into() };
        D::publish(&HOST, &CLUSTERS, &facts).map(Vec::from)
    }
    fn unpublish(volume: String, node: Option<String>) -> Result<(), Refusal> {
        D::unpublish(&HOST, &CLUSTERS, &volume, node.as_deref())
    }
}

impl<D: RbdModification> wit_modification::Guest for OfImages<D> {
    fn modify_volume(volume: String, parameters: Vec<(String, String)>) -> Result<(), Refusal> {
        D::modify_volume(&HOST, &CLUSTERS, &volume, &parameters.into())
    }
}

impl<D: RbdSnapshots> wit_snapshots::Guest for OfImages<D> {
    fn create_snapshot(facts: wit_snapshots::SnapshotFacts) -> Result<wit_snapshots::Snapshot, Refusal> {
        let facts = SnapshotFacts { name: facts.name, volume: facts.volume, parameters: facts.parameters.into() };
        let Snapshot { id, volume, size, created, ready } = D::create_snapshot(&HOST, &CLUSTERS, &facts)?;
        Ok(wit_snapshots::Snapshot { id, volume, size, created: wit_snapshots::Timestamp { seconds: created, nanoseconds: 0 }, ready })
    }
    fn delete_snapshot(snapshot: String) -> Result<(), Refusal> {
        D::delete_snapshot(&HOST, &CLUSTERS, &snapshot)
    }
}
