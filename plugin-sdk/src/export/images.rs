//! An [`RbdDriver`] as the bindings want it, and granted clusters behind the import `rbd`.

use super::{Daemon, HOST};
use crate::bindings::controller::exports::windlass::plugin::controller as wit;
use crate::bindings::publishing::exports::windlass::plugin::publishing as wit_publishing;
use crate::bindings::rbd::windlass::plugin::rbd as wit_rbd;
use crate::images::ImageImports;
use crate::{CapacityRange, Clusters, Context, Credentials, Expanded, Hold, Holder, Image, ImageWish, PublishFacts, RbdDriver, RbdPool, Refusal};
use std::marker::PhantomData;

/// Compiles where `D` is a driver that makes its volumes as images.
pub const fn is_rbd_driver<D: RbdDriver>() {}

/// A driver that makes its volumes as images, as the bindings want it.
pub struct OfImages<D>(PhantomData<D>);

const CLUSTERS: Clusters<'static> = Clusters { imports: &Daemon };

impl ImageImports for Daemon {
    fn create(&self, pool: &RbdPool, credentials: &Credentials, name: &str, wish: ImageWish) -> Result<(Image, bool), Refusal> {
        let ImageWish { size, features, object_size, striping, data_pool, metadata } = wish;
        let wish = wit_rbd::ImageWish { size, features, object_size, striping, data_pool, metadata: metadata.into() };
        wit_rbd::create(pool, credentials, name, &wish).map(|created| (created.image.into(), created.is_new))
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
    fn claim(&self, pool: &RbdPool, credentials: &Credentials, name: &str, hold: Hold, holder: &Holder) -> Result<(), Refusal> {
        wit_rbd::claim(pool, credentials, name, hold, holder)
    }
    fn release(&self, pool: &RbdPool, credentials: &Credentials, name: &str, holder: Option<&Holder>) -> Result<(), Refusal> {
        wit_rbd::release(pool, credentials, name, holder)
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
