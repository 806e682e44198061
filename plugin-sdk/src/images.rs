//! Images of Ceph clusters that the operator granted, for calls of the controller.

use crate::{Context, Credentials, Features, Hold, Holder, RbdPool, Refusal, Striping};

/// The import `rbd`. Two implementors: the daemon behind a component, and the [`Harness`](crate::Harness).
pub(crate) trait ImageImports {
    fn create(&self, pool: &RbdPool, credentials: &Credentials, name: &str, wish: ImageWish) -> Result<(Image, bool), Refusal>;
    fn stat(&self, pool: &RbdPool, credentials: &Credentials, name: &str) -> Result<Option<Image>, Refusal>;
    fn set_metadata(&self, pool: &RbdPool, credentials: &Credentials, name: &str, metadata: Context) -> Result<(), Refusal>;
    fn resize(&self, pool: &RbdPool, credentials: &Credentials, name: &str, size: u64) -> Result<Image, Refusal>;
    fn delete(&self, pool: &RbdPool, credentials: &Credentials, name: &str) -> Result<(), Refusal>;
    fn list(&self, pool: &RbdPool, credentials: &Credentials, after: &str, limit: u32) -> Result<Vec<String>, Refusal>;
    fn free(&self, pool: &RbdPool, credentials: &Credentials) -> Result<(u64, u64), Refusal>;
    fn pool_name(&self, cluster: &str, credentials: &Credentials, number: u64) -> Result<Option<String>, Refusal>;
    fn claim(&self, pool: &RbdPool, credentials: &Credentials, name: &str, hold: Hold, holder: &Holder) -> Result<Context, Refusal>;
    fn release(&self, pool: &RbdPool, credentials: &Credentials, name: &str, holder: Option<&Holder>) -> Result<(), Refusal>;
    fn take_snapshot(&self, pool: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(ImageSnapshot, bool), Refusal>;
    fn delete_snapshot(&self, pool: &RbdPool, credentials: &Credentials, name: &str, snapshot: &str) -> Result<(), Refusal>;
    /// Pool, image and snapshot of the source; pool and name of the copy.
    fn copy(
        &self,
        source: (&RbdPool, &str, &str),
        credentials: &Credentials,
        copy: (&RbdPool, &str),
        wish: ImageWish,
        ancestors: Option<u32>,
    ) -> Result<(Image, bool), Refusal>;
    fn journal(&self, pool: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<Context, Refusal>;
    fn remove_from_journal(&self, pool: &RbdPool, credentials: &Credentials, object: &str, keys: &[String]) -> Result<(), Refusal>;
}

/// The clusters that the operator granted, for calls of the controller.
#[derive(Clone, Copy)]
pub struct Clusters<'a> {
    pub(crate) imports: &'a dyn ImageImports,
}

impl<'a> Clusters<'a> {
    /// The images of a pool, opened with the secrets that `credentials` name. Whether all that exists shows at the first use of it.
    pub fn images(&self, pool: RbdPool, credentials: Credentials) -> Images<'a> {
        Images { imports: self.imports, pool, credentials }
    }

    /// The name of the cluster's pool that has this number.
    pub fn pool_name(&self, cluster: &str, credentials: &Credentials, number: u64) -> Result<Option<String>, Refusal> {
        self.imports.pool_name(cluster, credentials, number)
    }
}

/// The images of one pool. Its errors are the daemon's refusals, which a driver may hand on as they are.
pub struct Images<'a> {
    imports: &'a dyn ImageImports,
    pool: RbdPool,
    credentials: Credentials,
}

/// What an image is to be made as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageWish {
    /// In bytes.
    pub size: u64,
    /// What they build on must be among them.
    pub features: Features,
    /// Bytes, a power of two; `None` is the cluster's own.
    pub object_size: Option<u64>,
    /// `None` is one object after another.
    pub striping: Option<Striping>,
    /// A pool for the data alone.
    pub data_pool: Option<String>,
    /// Kept with the image.
    pub metadata: Context,
}

impl ImageWish {
    /// An image with features and nothing else out of the ordinary.
    pub fn new(size: u64, features: Features) -> Self {
        Self { size, features, object_size: None, striping: None, data_pool: None, metadata: Context::new() }
    }
}

/// An image as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Ceph's own id of it, which no other image ever has.
    pub id: String,
    /// In bytes.
    pub size: u64,
    /// Those that we know.
    pub features: Features,
    /// Where its data is, if elsewhere.
    pub data_pool: Option<String>,
    /// What it was made with, and what others wrote since.
    pub metadata: Context,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSnapshot {
    /// Its name.
    pub name: String,
    /// The image's when it was taken, in bytes.
    pub size: u64,
    /// When it was taken, in seconds since 1970 by the cluster's clock.
    pub created: u64,
}

impl Images<'_> {
    /// The image of this name: made with its metadata, or the one that exists, untouched. The second value says whether this call made it.
    pub fn create(&self, name: &str, wish: ImageWish) -> Result<(Image, bool), Refusal> {
        self.imports.create(&self.pool, &self.credentials, name, wish)
    }

    /// The image, if it exists.
    pub fn stat(&self, name: &str) -> Result<Option<Image>, Refusal> {
        self.imports.stat(&self.pool, &self.credentials, name)
    }

    /// Adds to an image's metadata: mends what a crash between making an image and describing it left out.
    pub fn set_metadata(&self, name: &str, metadata: Context) -> Result<(), Refusal> {
        self.imports.set_metadata(&self.pool, &self.credentials, name, metadata)
    }

    /// Grows the image to `size` bytes; never shrinks it.
    pub fn resize(&self, name: &str, size: u64) -> Result<Image, Refusal> {
        self.imports.resize(&self.pool, &self.credentials, name, size)
    }

    /// Deletes the image; not there is as good. [`Refusal::Precondition`] while anybody has it.
    pub fn delete(&self, name: &str) -> Result<(), Refusal> {
        self.imports.delete(&self.pool, &self.credentials, name)
    }

    /// At most `limit` names after `after`, in order; none is the end.
    pub fn list(&self, after: &str, limit: u32) -> Result<Vec<String>, Refusal> {
        self.imports.list(&self.pool, &self.credentials, after, limit)
    }

    /// Bytes that can still be stored in the pool.
    pub fn available(&self) -> Result<u64, Refusal> {
        self.imports.free(&self.pool, &self.credentials).map(|(available, _)| available)
    }

    /// Bytes that are stored in the pool.
    pub fn used(&self) -> Result<u64, Refusal> {
        self.imports.free(&self.pool, &self.credentials).map(|(_, used)| used)
    }

    /// Gives the image to a node. [`Refusal::Precondition`] where another has it, by name; [`Refusal::AlreadyExists`] where this one has it
    /// for another use. The answer is what is kept with the image: its metadata.
    pub fn claim(&self, name: &str, hold: Hold, holder: &Holder) -> Result<Context, Refusal> {
        self.imports.claim(&self.pool, &self.credentials, name, hold, holder)
    }

    /// Takes it back from the node, or from all; who has not let go is shut out of the cluster first.
    pub fn release(&self, name: &str, holder: Option<&Holder>) -> Result<(), Refusal> {
        self.imports.release(&self.pool, &self.credentials, name, holder)
    }

    /// A snapshot of an image: taken, or the one of that name. Its name begins with `windlass.`, and it goes with its image. The second value
    /// says whether this call took it.
    pub fn take_snapshot(&self, name: &str, snapshot: &str) -> Result<(ImageSnapshot, bool), Refusal> {
        self.imports.take_snapshot(&self.pool, &self.credentials, name, snapshot)
    }

    /// Deletes a snapshot; not there is as good. What was made from it lives on.
    pub fn delete_snapshot(&self, name: &str, snapshot: &str) -> Result<(), Refusal> {
        self.imports.delete_snapshot(&self.pool, &self.credentials, name, snapshot)
    }

    /// An image made from a snapshot of another, in this pool or another of the cluster: made with the snapshot's size, and with the source's
    /// metadata, over which the wish's are written; or the one that exists, untouched. A snapshot whose name is `windlass.` and an ending of
    /// the copy's name is the copy's own, and is deleted with it. A copy with more than `ancestors` images behind it is made independent of
    /// them in the background.
    pub fn copy(
        &self,
        (name, snapshot): (&str, &str),
        (to, copy): (&RbdPool, &str),
        wish: ImageWish,
        ancestors: Option<u32>,
    ) -> Result<(Image, bool), Refusal> {
        self.imports.copy((&self.pool, name, snapshot), &self.credentials, (to, copy), wish, ancestors)
    }

    /// Values by key of an object of the journal that ceph-csi keeps in a pool. What is not there has no value.
    pub fn journal(&self, object: &str, keys: &[&str]) -> Result<Context, Refusal> {
        self.imports.journal(&self.pool, &self.credentials, object, &owned(keys))
    }

    /// Removes keys of such an object; without a key, the object. What is not there is removed already.
    pub fn remove_from_journal(&self, object: &str, keys: &[&str]) -> Result<(), Refusal> {
        self.imports.remove_from_journal(&self.pool, &self.credentials, object, &owned(keys))
    }
}

fn owned(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}
