//! The interface `rbd`: each function becomes one effect on a granted cluster. What a claim proved stays with the daemon.

use crate::bindings::windlass::plugin::rbd as wit;
use crate::bindings::windlass::plugin::types::{Credentials, RbdPool, Refusal};
use crate::call::Call;
use crate::from_wit::{self, Malformed};
use crate::to_wit;
use windlass_plan::effect::{Effect, EffectAnswer, ImageVerb, PoolVerb, RbdAnswer, RbdEffect, RbdVerb};

/// wasmtime's error outside, the refusal inside.
type Answered<T> = wasmtime::Result<Result<T, Refusal>>;

impl wit::Host for Call {
    fn create(&mut self, pool: RbdPool, credentials: Credentials, name: String, wish: wit::ImageWish) -> Answered<wit::Created> {
        let verb = || Ok(ImageVerb::Create(from_wit::rbd::wish(wish)?));
        self.image(&pool, credentials, &name, verb, created)
    }

    fn stat(&mut self, pool: RbdPool, credentials: Credentials, name: String) -> Answered<Option<wit::Image>> {
        self.image(
            &pool,
            credentials,
            &name,
            || Ok(ImageVerb::Stat),
            |answer| match answer {
                RbdAnswer::Image(image) => Some(image.map(to_wit::rbd::image)),
                _ => None,
            },
        )
    }

    fn set_metadata(&mut self, pool: RbdPool, credentials: Credentials, name: String, metadata: Vec<(String, String)>) -> Answered<()> {
        let verb = || Ok(ImageVerb::SetMetadata(from_wit::context(metadata, "the metadata of `rbd.set-metadata`")?));
        self.image(&pool, credentials, &name, verb, done)
    }

    fn resize(&mut self, pool: RbdPool, credentials: Credentials, name: String, size: u64) -> Answered<wit::Image> {
        self.image(
            &pool,
            credentials,
            &name,
            || Ok(ImageVerb::Resize { size }),
            |answer| match answer {
                RbdAnswer::Resized(image) => Some(to_wit::rbd::image(image)),
                _ => None,
            },
        )
    }

    fn delete(&mut self, pool: RbdPool, credentials: Credentials, name: String) -> Answered<()> {
        self.image(&pool, credentials, &name, || Ok(ImageVerb::Delete), done)
    }

    fn list(&mut self, pool: RbdPool, credentials: Credentials, after: String, limit: u32) -> Answered<Vec<String>> {
        self.pool(
            &pool,
            credentials,
            || Ok(PoolVerb::List { after, limit }),
            |answer| match answer {
                RbdAnswer::Names(names) => Some(names.into_iter().map(String::from).collect()),
                _ => None,
            },
        )
    }

    fn free(&mut self, pool: RbdPool, credentials: Credentials) -> Answered<wit::Room> {
        self.pool(
            &pool,
            credentials,
            || Ok(PoolVerb::Room),
            |answer| match answer {
                RbdAnswer::Room(room) => Some(to_wit::rbd::room(room)),
                _ => None,
            },
        )
    }

    fn pool_name(&mut self, cluster: String, credentials: Credentials, number: u64) -> Answered<Option<String>> {
        let effect = || {
            let cluster = from_wit::rbd::name("cluster", &cluster)?;
            Ok(RbdEffect { cluster, credentials: from_wit::rbd::credentials(credentials), verb: RbdVerb::PoolName { number } })
        };
        self.in_cluster(effect, |answer| match answer {
            RbdAnswer::PoolName(name) => Some(name.map(String::from)),
            _ => None,
        })
    }

    fn claim(&mut self, pool: RbdPool, credentials: Credentials, name: String, hold: wit::Hold, holder: wit::Holder) -> Answered<Vec<(String, String)>> {
        let verb = || Ok(ImageVerb::Claim { hold: from_wit::rbd::hold(hold), holder: from_wit::rbd::holder(&holder)? });
        self.image(&pool, credentials, &name, verb, |answer| match answer {
            RbdAnswer::Claimed(claimed) => Some(to_wit::context(claimed.metadata)),
            _ => None,
        })
    }

    fn release(&mut self, pool: RbdPool, credentials: Credentials, name: String, holder: Option<wit::Holder>) -> Answered<()> {
        let verb = || Ok(ImageVerb::Release { holder: holder.as_ref().map(from_wit::rbd::holder).transpose()? });
        self.image(&pool, credentials, &name, verb, done)
    }

    fn take_snapshot(&mut self, pool: RbdPool, credentials: Credentials, name: String, snapshot: String) -> Answered<wit::Taken> {
        let verb = || Ok(ImageVerb::TakeSnapshot { snapshot: from_wit::rbd::name("snapshot", &snapshot)? });
        self.image(&pool, credentials, &name, verb, |answer| match answer {
            RbdAnswer::Snapshot { snapshot, is_new } => Some(wit::Taken { snapshot: to_wit::rbd::snapshot(snapshot), is_new }),
            _ => None,
        })
    }

    fn delete_snapshot(&mut self, pool: RbdPool, credentials: Credentials, name: String, snapshot: String) -> Answered<()> {
        let verb = || Ok(ImageVerb::DeleteSnapshot { snapshot: from_wit::rbd::name("snapshot", &snapshot)? });
        self.image(&pool, credentials, &name, verb, done)
    }

    fn copy(
        &mut self,
        pool: RbdPool,
        credentials: Credentials,
        name: String,
        snapshot: String,
        to: RbdPool,
        copy: String,
        wish: wit::ImageWish,
        ancestors: Option<u32>,
    ) -> Answered<wit::Created> {
        let verb = || {
            let (cluster, at) = from_wit::rbd::pool(&to)?;
            if cluster.as_str() != pool.cluster {
                return Err(Malformed::OtherCluster);
            }
            let (snapshot, copy) = (from_wit::rbd::name("snapshot", &snapshot)?, from_wit::rbd::name("copy", &copy)?);
            Ok(ImageVerb::Copy { snapshot, to: at, copy, wish: Box::new(from_wit::rbd::wish(wish)?), ancestors })
        };
        self.image(&pool, credentials, &name, verb, created)
    }

    fn journal(&mut self, pool: RbdPool, credentials: Credentials, object: String, keys: Vec<String>) -> Answered<Vec<(String, String)>> {
        let verb = || Ok(PoolVerb::Journal { object: from_wit::rbd::name("object", &object)?, keys });
        self.pool(&pool, credentials, verb, |answer| match answer {
            RbdAnswer::Journal(values) => Some(to_wit::rbd::journal(values)),
            _ => None,
        })
    }

    fn remove_from_journal(&mut self, pool: RbdPool, credentials: Credentials, object: String, keys: Vec<String>) -> Answered<()> {
        let verb = || Ok(PoolVerb::RemoveFromJournal { object: from_wit::rbd::name("object", &object)?, keys });
        self.pool(&pool, credentials, verb, done)
    }
}

/// The answer of those that make an image.
fn created(answer: RbdAnswer) -> Option<wit::Created> {
    match answer {
        RbdAnswer::Created { image, is_new } => Some(wit::Created { image: to_wit::rbd::image(image), is_new }),
        _ => None,
    }
}

/// The answer of those that have nothing to say.
fn done(answer: RbdAnswer) -> Option<()> {
    matches!(answer, RbdAnswer::Done).then_some(())
}

impl Call {
    fn image<T>(
        &mut self,
        pool: &RbdPool,
        credentials: Credentials,
        name: &str,
        verb: impl FnOnce() -> Result<ImageVerb, Malformed>,
        read: impl FnOnce(RbdAnswer) -> Option<T>,
    ) -> Answered<T> {
        let effect = || {
            let (cluster, at) = from_wit::rbd::pool(pool)?;
            let verb = RbdVerb::Image { at, image: from_wit::rbd::name("name", name)?, verb: verb()? };
            Ok(RbdEffect { cluster, credentials: from_wit::rbd::credentials(credentials), verb })
        };
        self.in_cluster(effect, read)
    }

    fn pool<T>(
        &mut self,
        pool: &RbdPool,
        credentials: Credentials,
        verb: impl FnOnce() -> Result<PoolVerb, Malformed>,
        read: impl FnOnce(RbdAnswer) -> Option<T>,
    ) -> Answered<T> {
        let effect = || {
            let (cluster, at) = from_wit::rbd::pool(pool)?;
            Ok(RbdEffect { cluster, credentials: from_wit::rbd::credentials(credentials), verb: RbdVerb::Pool { at, verb: verb()? } })
        };
        self.in_cluster(effect, read)
    }

    fn in_cluster<T>(&mut self, effect: impl FnOnce() -> Result<RbdEffect, Malformed>, read: impl FnOnce(RbdAnswer) -> Option<T>) -> Answered<T> {
        self.have_done(
            || effect().map(Effect::Rbd),
            |answer| match answer {
                EffectAnswer::Rbd(answer) => read(answer),
                _ => None,
            },
        )
    }
}
