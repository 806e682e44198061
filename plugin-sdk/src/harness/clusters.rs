//! Ceph clusters in memory, which answer as the interface `rbd` says: for drivers' tests without a cluster.

use super::Harness;
use crate::images::ImageImports;
use crate::{Context, Credentials, Features, Hold, Holder, Image, ImageSnapshot, ImageWish, RbdPool, Refusal};
use std::collections::BTreeMap;

/// A cluster: its pools by name.
#[derive(Default)]
pub(super) struct Cluster {
    pools: BTreeMap<String, Pool>,
}

/// A pool: its images and the objects of its journal, by namespace and name.
#[derive(Default)]
pub(super) struct Pool {
    number: u64,
    pub(super) images: BTreeMap<(String, String), Kept>,
    pub(super) journal: BTreeMap<(String, String), Context>,
}

/// An image, which nodes have it, and its snapshots.
pub(super) struct Kept {
    pub(super) image: Image,
    holders: Vec<(Hold, Holder)>,
    pub(super) snapshots: Vec<ImageSnapshot>,
    /// Of what it is a copy: pool, image and snapshot.
    pub(super) source: Option<(RbdPool, String, String)>,
}

impl Kept {
    pub(super) fn new(image: Image) -> Self {
        Self { image, holders: Vec::new(), snapshots: Vec::new(), source: None }
    }
}

/// Bytes that a simulated pool has.
const TOTAL: u64 = 1 << 50;

/// Bytes that the metadata of an image may have.
const METADATA_LIMIT: usize = 64 << 10;

/// Features, and what each builds on.
const BUILDS_ON: [(Features, Features, &str); 2] = [
    (Features::OBJECT_MAP, Features::EXCLUSIVE_LOCK, "`object-map` needs `exclusive-lock`"),
    (Features::FAST_DIFF, Features::OBJECT_MAP, "`fast-diff` needs `object-map`"),
];

impl Cluster {
    /// Empty pools, numbered from 1 on.
    pub(super) fn with_pools(pools: &[&str]) -> Self {
        let pools = pools.iter().zip(1..).map(|(name, number)| ((*name).to_owned(), Pool { number, ..Pool::default() }));
        Self { pools: pools.collect() }
    }

    fn pools(&self) -> String {
        self.pools.keys().cloned().collect::<Vec<_>>().join(", ")
    }
}

impl Harness {
    /// One more granted cluster, with these pools, numbered from 1 on, and every namespace in each.
    #[must_use]
    pub fn cluster(self, name: &str, pools: &[&str]) -> Self {
        self.clusters.borrow_mut().insert(name.to_owned(), Cluster::with_pools(pools));
        self
    }

    /// One more secret of every call. The simulated clusters let everybody in who has some.
    #[must_use]
    pub fn secret(mut self, name: &str, value: &str) -> Self {
        self.secrets = self.secrets.with(name, value);
        self
    }

    /// The images of a pool and namespace, in the order of their names.
    pub fn images(&self, pool: &RbdPool) -> Vec<Image> {
        let clusters = self.clusters.borrow();
        let kept = clusters.get(&pool.cluster).and_then(|cluster| cluster.pools.get(&pool.pool));
        kept.into_iter().flat_map(|kept| &kept.images).filter(|((namespace, _), _)| *namespace == pool.namespace).map(|(_, kept)| kept.image.clone()).collect()
    }

    /// Who has an image, and how.
    pub fn holders(&self, pool: &RbdPool, name: &str) -> Vec<(Hold, Holder)> {
        let clusters = self.clusters.borrow();
        let kept = clusters.get(&pool.cluster).and_then(|cluster| cluster.pools.get(&pool.pool));
        kept.and_then(|kept| kept.images.get(&(pool.namespace.clone(), name.to_owned()))).map(|kept| kept.holders.clone()).unwrap_or_default()
    }

    /// Puts an image into a granted pool behind the driver's back, in the place of one of the same name.
    pub fn put_image(&self, pool: &RbdPool, image: Image) {
        let mut clusters = self.clusters.borrow_mut();
        let kept = clusters.get_mut(&pool.cluster).and_then(|cluster| cluster.pools.get_mut(&pool.pool));
        let kept = kept.expect("the test puts an image into a pool that it granted");
        kept.images.insert((pool.namespace.clone(), image.name.clone()), Kept::new(image));
    }

    /// The pool, for whoever looks behind the driver's back.
    pub(super) fn looked_at<T>(&self, at: &RbdPool, look: impl FnOnce(&mut Pool) -> T) -> Option<T> {
        self.clusters.borrow_mut().get_mut(&at.cluster).and_then(|cluster| cluster.pools.get_mut(&at.pool)).map(look)
    }

    /// Is there such a cluster, are the secrets there, and the names fit to be names?
    fn with_cluster<T>(&self, name: &str, credentials: &Credentials, deed: impl FnOnce(&mut Cluster) -> Result<T, Refusal>) -> Result<T, Refusal> {
        check_name("cluster", name)?;
        self.check_credentials(credentials)?;
        let mut clusters = self.clusters.borrow_mut();
        let known = clusters.keys().cloned().collect::<Vec<_>>().join(", ");
        match clusters.get_mut(name) {
            Some(cluster) => deed(cluster),
            None => Err(Refusal::invalid(format!("the cluster {name:?} was not granted to this driver; granted: {known}"))),
        }
    }

    fn check_credentials(&self, credentials: &Credentials) -> Result<(), Refusal> {
        match [&credentials.user, &credentials.key].into_iter().find(|name| self.secrets.get(name).is_none_or(str::is_empty)) {
            Some(missing) => Err(Refusal::invalid(format!("the secret `{missing}` is missing; the driver needs it for this call"))),
            None if !self.secrets.get(&credentials.user).is_some_and(is_name) => {
                Err(Refusal::invalid(format!("the secret `{}` is not a Ceph user", credentials.user)))
            }
            None => Ok(()),
        }
    }

    pub(super) fn with_pool<T>(&self, at: &RbdPool, credentials: &Credentials, deed: impl FnOnce(&mut Pool) -> Result<T, Refusal>) -> Result<T, Refusal> {
        check_name("pool.pool", &at.pool)?;
        if !at.namespace.is_empty() {
            check_name("pool.namespace", &at.namespace)?;
        }
        self.with_cluster(&at.cluster, credentials, |cluster| {
            let known = cluster.pools();
            match cluster.pools.get_mut(&at.pool) {
                Some(pool) => deed(pool),
                None => Err(Refusal::invalid(format!("there is no pool {:?} in the cluster {}; there are: {known}", at.pool, at.cluster))),
            }
        })
    }

    pub(super) fn with_image<T>(
        &self,
        at: &RbdPool,
        credentials: &Credentials,
        name: &str,
        deed: impl FnOnce(&mut Kept) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        check_name("name", name)?;
        self.with_pool(at, credentials, |pool| match pool.images.get_mut(&(at.namespace.clone(), name.to_owned())) {
            Some(kept) => deed(kept),
            None => Err(Refusal::not_found(format!("there is no image {name:?} in the pool {}", at.pool))),
        })
    }
}

impl Harness {
    /// What the cluster would refuse of a wish.
    pub(super) fn check_wish(&self, at: &RbdPool, credentials: &Credentials, wish: &ImageWish) -> Result<(), Refusal> {
        if let Some((_, _, words)) = BUILDS_ON.into_iter().find(|(feature, base, _)| wish.features.contains(*feature) && !wish.features.contains(*base)) {
            return Err(Refusal::invalid(words));
        }
        let object = wish.object_size.unwrap_or(4 << 20);
        if !object.is_power_of_two() || !(4096..=32 << 20).contains(&object) {
            return Err(Refusal::invalid(format!("objects of {object} bytes are not possible: a power of two from 4 KiB to 32 MiB")));
        }
        if wish.striping.is_some_and(|striping| striping.count == 0 || striping.unit < 512 || object % striping.unit != 0) {
            return Err(Refusal::invalid("the stripe unit does not divide the object size, or the stripe count is 0"));
        }
        check_metadata(&wish.metadata)?;
        if let Some(data) = &wish.data_pool {
            self.with_pool(&RbdPool { pool: data.clone(), ..at.clone() }, credentials, |_| Ok(()))?;
        }
        Ok(())
    }
}

impl ImageImports for Harness {
    fn create(&self, at: &RbdPool, credentials: &Credentials, name: &str, wish: ImageWish) -> Result<(Image, bool), Refusal> {
        check_name("name", name)?;
        self.check_wish(at, credentials, &wish)?;
        self.with_pool(at, credentials, |pool| {
            let id = format!("{:x}", 0x1000 * pool.number + pool.images.len() as u64);
            let mut is_new = false;
            let kept = pool.images.entry((at.namespace.clone(), name.to_owned())).or_insert_with(|| {
                is_new = true;
                let ImageWish { size, features, data_pool, metadata, .. } = wish;
                Kept::new(Image { name: name.to_owned(), id, size, features, data_pool, metadata })
            });
            Ok((kept.image.clone(), is_new))
        })
    }

    fn stat(&self, at: &RbdPool, credentials: &Credentials, name: &str) -> Result<Option<Image>, Refusal> {
        check_name("name", name)?;
        self.with_pool(at, credentials, |pool| Ok(pool.images.get(&(at.namespace.clone(), name.to_owned())).map(|kept| kept.image.clone())))
    }

    fn set_metadata(&self, at: &RbdPool, credentials: &Credentials, name: &str, metadata: Context) -> Result<(), Refusal> {
        check_metadata(&metadata)?;
        self.with_image(at, credentials, name, |kept| {
            kept.image.metadata = kept.image.metadata.iter().chain(metadata.iter()).collect();
            Ok(())
        })
    }

    fn resize(&self, at: &RbdPool, credentials: &Credentials, name: &str, size: u64) -> Result<Image, Refusal> {
        self.with_image(at, credentials, name, |kept| {
            kept.image.size = kept.image.size.max(size);
            Ok(kept.image.clone())
        })
    }

    fn delete(&self, at: &RbdPool, credentials: &Credentials, name: &str) -> Result<(), Refusal> {
        check_name("name", name)?;
        self.with_pool(at, credentials, |pool| {
            let key = (at.namespace.clone(), name.to_owned());
            if let Some((_, holder)) = pool.images.get(&key).and_then(|kept| kept.holders.first()) {
                return Err(Refusal::precondition(format!("the image {name} is claimed for the node {}", holder.node)));
            }
            Ok(pool.images.remove(&key))
        })
        .map(|gone| self.delete_own_snapshot(gone))
    }

    fn list(&self, at: &RbdPool, credentials: &Credentials, after: &str, limit: u32) -> Result<Vec<String>, Refusal> {
        self.with_pool(at, credentials, |pool| {
            let names = pool.images.keys().filter(|(namespace, name)| *namespace == at.namespace && name.as_str() > after);
            Ok(names.take(limit as usize).map(|(_, name)| name.clone()).collect())
        })
    }

    fn free(&self, at: &RbdPool, credentials: &Credentials) -> Result<(u64, u64), Refusal> {
        self.with_pool(at, credentials, |_| Ok((TOTAL, 0)))
    }

    fn pool_name(&self, cluster: &str, credentials: &Credentials, number: u64) -> Result<Option<String>, Refusal> {
        self.with_cluster(cluster, credentials, |cluster| Ok(cluster.pools.iter().find(|(_, pool)| pool.number == number).map(|(name, _)| name.clone())))
    }

    fn claim(&self, at: &RbdPool, credentials: &Credentials, name: &str, hold: Hold, holder: &Holder) -> Result<Context, Refusal> {
        check_holder(holder)?;
        self.with_image(at, credentials, name, |kept| {
            let is_another = |(held, by): &&(Hold, Holder)| by.node != holder.node && (*held != hold || hold == Hold::Writer);
            if let Some((_, by)) = kept.holders.iter().find(is_another) {
                return Err(Refusal::precondition(format!("the image {name} is claimed for the node {} already", by.node)));
            }
            if kept.holders.iter().any(|(held, by)| by.node == holder.node && *held != hold) {
                return Err(Refusal::already_exists(format!("the image {name} was given to {} for another use", holder.node)));
            }
            // The node that has it may ask again.
            kept.holders.retain(|(_, by)| by.node != holder.node);
            kept.holders.push((hold, holder.clone()));
            Ok(kept.image.metadata.clone())
        })
    }

    fn release(&self, at: &RbdPool, credentials: &Credentials, name: &str, holder: Option<&Holder>) -> Result<(), Refusal> {
        holder.map(check_holder).transpose()?;
        check_name("name", name)?;
        self.with_pool(at, credentials, |pool| {
            if let Some(kept) = pool.images.get_mut(&(at.namespace.clone(), name.to_owned())) {
                kept.holders.retain(|(_, by)| holder.is_some_and(|holder| by.node != holder.node));
            }
            Ok(())
        })
    }

    fn take_snapshot(&self, at: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(ImageSnapshot, bool), Refusal> {
        self.snapshot_taken(at, credentials, name, snapshot)
    }

    fn delete_snapshot(&self, at: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(), Refusal> {
        self.snapshot_deleted(at, credentials, name, snapshot)
    }

    fn copy(
        &self,
        source: (&RbdPool, &str, &str),
        credentials: &Credentials,
        copy: (&RbdPool, &str),
        wish: ImageWish,
        _: Option<u32>,
    ) -> Result<(Image, bool), Refusal> {
        self.copied(source, credentials, copy, wish)
    }

    fn journal(&self, at: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<Context, Refusal> {
        self.journal_read(at, credentials, object, keys)
    }

    fn remove_from_journal(&self, at: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<(), Refusal> {
        self.journal_cut(at, credentials, object, keys)
    }
}

pub(super) fn check_metadata(metadata: &Context) -> Result<(), Refusal> {
    if metadata.bytes() > METADATA_LIMIT {
        return Err(Refusal::invalid(format!("the metadata are larger than {METADATA_LIMIT} bytes")));
    }
    Ok(())
}

fn check_holder(holder: &Holder) -> Result<(), Refusal> {
    check_name("holder.node", &holder.node)?;
    match holder.addresses.iter().find(|address| address.parse::<std::net::IpAddr>().is_err()) {
        Some(wrong) => Err(Refusal::invalid(format!("`holder.addresses` has {wrong:?}, which is not an IP address without a port"))),
        None => Ok(()),
    }
}

/// A name as the daemon hands it on to Ceph.
pub(super) fn is_name(name: &str) -> bool {
    (1..=96).contains(&name.len()) && !name.starts_with(['-', '.']) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:+".contains(&byte))
}

pub(super) fn check_name(field: &str, name: &str) -> Result<(), Refusal> {
    if is_name(name) {
        Ok(())
    } else {
        Err(Refusal::invalid(format!("`{field}` is {name:?}: a name of Ceph's is 1 to 96 letters, digits, `-`, `_`, `.`, `:` or `+` here")))
    }
}
