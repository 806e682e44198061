//! The words of Ceph RBD: names that the kernel's and librbd's interfaces can hold, what an image is, and who may have it.

use crate::request::Context;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest name: what `RBD_MAX_IMAGE_NAME_SIZE` of librbd (96) leaves of an image's, and ample for a pool's.
const MAX_NAME: usize = 96;

/// The name of a cluster's grant, a pool, a namespace, an image, a snapshot or a user: 1 to 96 letters, digits, `-`, `_`, `.`, `:` or `+`.
/// Narrower than Ceph's own rule, since the kernel separates such names by spaces, commas, `=`, `/` and `@`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RbdName(String);

/// Not an [`RbdName`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name of Ceph's is 1 to {MAX_NAME} letters, digits, `-`, `_`, `.`, `:` or `+` here, and does not begin with `-` or `.`")]
pub struct BadName;

impl RbdName {
    /// Takes a name that can be passed on without quoting.
    pub fn parse(name: &str) -> Result<Self, BadName> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.:+".contains(&b);
        let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['-', '.']);
        if is_name { Ok(Self(name.to_owned())) } else { Err(BadName) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RbdName {
    type Error = BadName;
    fn try_from(name: String) -> Result<Self, BadName> {
        Self::parse(&name)
    }
}

impl From<RbdName> for String {
    fn from(name: RbdName) -> Self {
        name.0
    }
}

impl fmt::Display for RbdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pool of a cluster, and a namespace in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PoolAt {
    /// The pool's name.
    pub pool: RbdName,
    /// `None` is the default namespace, which has no name.
    pub namespace: Option<RbdName>,
}

impl fmt::Display for PoolAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}", self.pool),
            None => write!(f, "{}", self.pool),
        }
    }
}

/// An image by its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ImageAt {
    /// The cluster, by its grant's name (`[grants.rbd.NAME]`).
    pub cluster: RbdName,
    /// The pool.
    pub at: PoolAt,
    /// The image.
    pub image: RbdName,
}

impl fmt::Display for ImageAt {
    /// The canonical form, as in `windlass.io/source`: `rbd:CLUSTER/POOL/NAMESPACE/IMAGE`, the default namespace being empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let namespace = self.at.namespace.as_ref().map_or("", RbdName::as_str);
        write!(f, "rbd:{}/{}/{namespace}/{}", self.cluster, self.at.pool, self.image)
    }
}

/// Whose key opens a cluster: the names of two of the call's secrets, never their values (law 10).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Credentials {
    /// The secret that holds the user's name, without `client.`.
    pub user: String,
    /// The secret that holds the user's key.
    pub key: String,
}

/// How the kernel client talks to the cluster (`ms_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MsMode {
    /// msgr1: port 6789.
    Legacy,
    /// msgr2 with checksums.
    Crc,
    /// msgr2, encrypted.
    Secure,
    /// msgr2 with checksums, or encrypted where the cluster insists.
    PreferCrc,
    /// msgr2, encrypted where the cluster allows it.
    PreferSecure,
}

impl MsMode {
    /// The kernel's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Crc => "crc",
            Self::Secure => "secure",
            Self::PreferCrc => "prefer-crc",
            Self::PreferSecure => "prefer-secure",
        }
    }
}

/// Which copy of an object is read (`read_from_replica`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReadFrom {
    /// The primary one.
    Primary,
    /// Any.
    Balance,
    /// The nearest by the CRUSH map.
    Localize,
}

/// What may be read from a device and written to it a second, by all who use it on the node together; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct IoLimits {
    /// Reads.
    pub read_iops: u64,
    /// Writes.
    pub write_iops: u64,
    /// Bytes that are read.
    pub read_rate: u64,
    /// Bytes that are written.
    pub write_rate: u64,
}

impl IoLimits {
    /// The smallest limit of reads and of writes a second. With less a file system is not taken down in anybody's time.
    pub const LEAST_IOPS: u64 = 10;
    /// The smallest limit of bytes a second.
    pub const LEAST_RATE: u64 = 64 << 10;

    /// Is there none?
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How an image is mapped: every option of the kernel client that may be asked for, typed (law 8). The default leaves all to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct MapOptions {
    /// `ms_mode`.
    pub ms_mode: Option<MsMode>,
    /// `read_from_replica`.
    pub read_from: Option<ReadFrom>,
    /// `crush_location`: types and names.
    pub crush_location: Vec<(RbdName, RbdName)>,
    /// `osd_request_timeout` in seconds; 0 waits.
    pub osd_request_timeout: u32,
    /// `queue_depth`; 0 is the kernel's choice.
    pub queue_depth: u32,
    /// `alloc_size` in bytes; 0 is the kernel's choice.
    pub alloc_size: u32,
    /// What the pods may do with it a second. Not the client's: the groups of pods are limited.
    pub limits: IoLimits,
}

/// An image for good, whatever it is called: these three never change, and no other image will ever have them (law 6).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ImageIdentity {
    /// The cluster's fsid, in lower case with dashes.
    pub fsid: String,
    /// The pool's number.
    pub pool: u64,
    /// The image's internal id (`rbd_id.NAME` holds it): hexadecimal digits.
    pub image: String,
}

impl ImageIdentity {
    /// The form in which it travels in publish_context: `FSID/POOL/IMAGE`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (fsid, pool, image) = (parts.next()?, parts.next()?, parts.next()?);
        let is_fsid = fsid.len() == 36 && fsid.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'));
        let is_image = (1..=64).contains(&image.len()) && image.bytes().all(|b| b.is_ascii_alphanumeric());
        let is_number = !pool.is_empty() && pool.bytes().all(|b| b.is_ascii_digit());
        if parts.next().is_some() || !is_fsid || !is_image || !is_number {
            return None;
        }
        Some(Self { fsid: fsid.to_owned(), pool: pool.parse().ok()?, image: image.to_owned() })
    }
}

impl fmt::Display for ImageIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.fsid, self.pool, self.image)
    }
}

/// Features of an image that both librbd and the kernel client know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Feature {
    /// Clones.
    Layering,
    /// One writer at a time, handed over between clients.
    ExclusiveLock,
    /// Which objects exist. Needs `ExclusiveLock`.
    ObjectMap,
    /// Quick differences. Needs `ObjectMap`.
    FastDiff,
    /// Flattening reaches snapshots too.
    DeepFlatten,
}

impl Feature {
    /// All, in the order in which they build on each other.
    pub const ALL: [Self; 5] = [Self::Layering, Self::ExclusiveLock, Self::ObjectMap, Self::FastDiff, Self::DeepFlatten];

    /// Ceph's name for it, as in `imageFeatures`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Layering => "layering",
            Self::ExclusiveLock => "exclusive-lock",
            Self::ObjectMap => "object-map",
            Self::FastDiff => "fast-diff",
            Self::DeepFlatten => "deep-flatten",
        }
    }

    /// Its bit in `rbd_features` (`include/rbd/features.h` of Ceph).
    pub fn bit(self) -> u64 {
        match self {
            Self::Layering => 1,
            Self::ExclusiveLock => 1 << 2,
            Self::ObjectMap => 1 << 3,
            Self::FastDiff => 1 << 4,
            Self::DeepFlatten => 1 << 5,
        }
    }
}

/// What an image is to be made as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageWish {
    /// In bytes.
    pub size: u64,
    /// In any order; what they build on must be among them.
    pub features: Vec<Feature>,
    /// Objects of this many bytes, a power of two between 4 KiB and 32 MiB; `None` is the cluster's own (4 MiB).
    pub object_size: Option<u64>,
    /// Stripes of `unit` bytes over `count` objects; `None` is one object after another.
    pub striping: Option<Striping>,
    /// A pool for the data, the image's own pool keeping what describes it.
    pub data_pool: Option<RbdName>,
    /// Kept with the image.
    pub metadata: Context,
}

/// How an image's bytes are laid over its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Striping {
    /// In bytes; divides the object size.
    pub unit: u64,
    /// Objects side by side.
    pub count: u64,
}

/// An image as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// Its name.
    pub name: RbdName,
    /// Who it is for good.
    pub identity: ImageIdentity,
    /// In bytes.
    pub size: u64,
    /// All feature bits that it has, also those that we do not know.
    pub features: u64,
    /// In bytes.
    pub object_size: u64,
    /// Where it differs from one object after another.
    pub striping: Option<Striping>,
    /// Where its data is, if elsewhere.
    pub data_pool: Option<RbdName>,
    /// As given at its making, and what others wrote since.
    pub metadata: Context,
}

/// A snapshot of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// Its name.
    pub name: RbdName,
    /// Its number, which no other snapshot of the pool will ever have.
    pub id: u64,
    /// The image's size when it was taken, in bytes.
    pub size: u64,
    /// When it was taken, in seconds since 1970 by the cluster's clock.
    pub created: u64,
}

/// Free room of a pool, in bytes, for data that is stored once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRoom {
    /// What can still be stored.
    pub available: u64,
    /// What is stored.
    pub used: u64,
}

/// How a node is going to use an image: which lock that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hold {
    /// The one writer: nobody else may have it.
    Writer,
    /// A reader among readers.
    Reader,
    /// A writer among writers, each of which knows what it does (raw block only).
    SharedWriter,
}

impl Hold {
    /// The word for it, as it travels in publish_context.
    pub fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Reader => "reader",
            Self::SharedWriter => "shared-writer",
        }
    }
}

/// The node that a claim is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The node's name; the lock's cookie.
    pub node: RbdName,
    /// Addresses (no port) by which the node's kernel talks to clusters: whose watchers are this node's, and what fencing shuts out.
    pub addresses: Vec<std::net::IpAddr>,
}

/// What a claim proved, and carries to the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    /// Who the image is.
    pub identity: ImageIdentity,
    /// No object of it, and none of a parent's, has ever been written: it may be formatted.
    pub is_never_written: bool,
    /// What is kept with it. For the plugin; it does not travel by itself.
    pub metadata: Context,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_nothing_that_the_kernel_splits_at() {
        for good in ["rbd", "csi-vol-0b3f", "k8s:pool", "a_b.c+d", &"n".repeat(96)] {
            assert_eq!(RbdName::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a,b", "a/b", "a@b", "a=b", "-", "-o", ".", "..", ".rgw", "ä", "a\n", "a\0", &"n".repeat(97)] {
            assert_eq!(RbdName::parse(bad), Err(BadName), "{bad:?}");
        }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written() {
        let identity = ImageIdentity { fsid: "3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11".into(), pool: 2, image: "10226b8b4567".into() };
        assert_eq!(ImageIdentity::parse(&identity.to_string()), Some(identity));
        let fsid = "3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11";
        for bad in [
            "",
            "a/2/b",
            &format!("{fsid}/2"),
            &format!("{fsid}/-2/b"),
            &format!("{fsid}/+2/b"),
            &format!("{fsid}/2/"),
            &format!("{fsid}/2/b/c"),
            &format!("{fsid}/2/b c"),
        ] {
            assert_eq!(ImageIdentity::parse(bad), None, "{bad:?}");
        }
    }
}
