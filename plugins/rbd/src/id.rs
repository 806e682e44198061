//! The id of a volume: where its image is, in at most 128 bytes. Ours, and those that ceph-csi gave.
//!
//! Ours is `1/CLUSTER/POOL/NAMESPACE/IMAGE`: a version, then the names themselves, since no name has a `/`. The default namespace is empty.
//! A snapshot's is the same with `s1`, so that neither is taken for the other. ceph-csi's is `0001-LLLL-CLUSTER-PPPPPPPPPPPPPPPP-UUID`: the length of the cluster's id and the number of the pool in hexadecimal digits.

use crate::names::{is_name, shown};
use sha2::{Digest, Sha256};
use windlass_plugin_sdk::{RbdPool, Refusal};

/// Bytes that CSI allows an id.
const LIMIT: usize = 128;

/// The version of our ids, a volume's and a snapshot's.
const VERSION: &str = "1";
const SNAPSHOT: &str = "s1";

/// Bytes of a UUID as text.
pub(crate) const UUID: usize = 36;

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Cluster, pool and namespace.
    pub(crate) pool: RbdPool,
    /// Its name.
    pub(crate) image: String,
}

/// An id, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Id {
    /// One that this driver gave.
    Ours(Place),
    /// One that ceph-csi gave.
    CephCsi {
        /// Its `clusterID`.
        cluster: String,
        /// The pool's number.
        pool: u64,
        /// What its names end with.
        uuid: String,
    },
}

impl Id {
    /// Reads an id; `None` where neither driver could have given it.
    pub(crate) fn parse(id: &str) -> Option<Self> {
        parse_ours(VERSION, id).map(Self::Ours).or_else(|| parse_ceph_csi(id))
    }

    /// The same of a snapshot. ceph-csi's look like those of volumes.
    pub(crate) fn parse_snapshot(id: &str) -> Option<Self> {
        parse_ours(SNAPSHOT, id).map(Self::Ours).or_else(|| parse_ceph_csi(id))
    }
}

fn parse_ours(version: &str, id: &str) -> Option<Place> {
    let parts: Vec<&str> = id.split('/').collect();
    let [first, cluster, pool, namespace, image] = parts[..] else { return None };
    let uuid = image.get(image.len().checked_sub(UUID)?..)?;
    let is_ours = first == version
        && id.len() <= LIMIT
        && [cluster, pool, image].into_iter().all(is_name)
        && (namespace.is_empty() || is_name(namespace))
        && is_uuid(uuid);
    is_ours.then(|| Place { pool: RbdPool { cluster: cluster.into(), pool: pool.into(), namespace: namespace.into() }, image: image.into() })
}

fn parse_ceph_csi(id: &str) -> Option<Id> {
    let rest = id.strip_prefix("0001-")?;
    let length = rest.get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let rest = rest.get(4..)?.strip_prefix('-')?;
    let length = usize::from_str_radix(length, 16).ok()?;
    let (cluster, rest) = (rest.get(..length)?, rest.get(length..)?.strip_prefix('-')?);
    let pool = rest.get(..16).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    let uuid = rest.get(16..)?.strip_prefix('-')?;
    (is_name(cluster) && is_uuid(uuid)).then_some(())?;
    Some(Id::CephCsi { cluster: cluster.into(), pool: u64::from_str_radix(pool, 16).ok()?, uuid: uuid.into() })
}

/// Hexadecimal digits in lower case, in five groups.
fn is_uuid(text: &str) -> bool {
    text.len() == UUID
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// The image of the volume that the caller calls `name`: found again by name without a look at any other image. A UUID of version 8.
pub(crate) fn image_name(prefix: &str, name: &str) -> String {
    let hash = Sha256::digest(name.as_bytes());
    let mut bytes: [u8; 16] = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes[6] = 0x80 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    let mut image = prefix.to_owned();
    for (at, byte) in bytes.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            image.push('-');
        }
        image.push_str(&format!("{byte:02x}"));
    }
    image
}

impl Place {
    /// The id of the volume that is this image, or which of its names are too long for one.
    pub(crate) fn id(&self) -> Result<String, Refusal> {
        self.id_of(VERSION, "volumeNamePrefix")
    }

    /// The id of the snapshot that is this image.
    pub(crate) fn snapshot_id(&self) -> Result<String, Refusal> {
        self.id_of(SNAPSHOT, "snapshotNamePrefix")
    }

    fn id_of(&self, version: &str, prefix: &str) -> Result<String, Refusal> {
        let Place { pool: RbdPool { cluster, pool, namespace }, image } = self;
        let id = format!("{version}/{cluster}/{pool}/{namespace}/{image}");
        if id.len() <= LIMIT {
            return Ok(id);
        }
        let names = [("clusterID", cluster.len()), ("pool", pool.len()), ("radosNamespace", namespace.len()), (prefix, image.len() - UUID)];
        let lengths = names.map(|(key, length)| format!("`{key}` {length}")).join(", ");
        let room = LIMIT - UUID - version.len() - names.len();
        Err(Refusal::invalid(format!("the names are too long for an id ({lengths} bytes): together they may have {room}")))
    }

    /// The UUID that its name ends with.
    pub(crate) fn uuid(&self) -> &str {
        &self.image[self.image.len().saturating_sub(UUID)..]
    }
}

/// There is no such snapshot.
pub(crate) fn unknown_snapshot(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no snapshot {:?}", shown(id)))
}

/// There is no such volume.
pub(crate) fn unknown(id: &str) -> Refusal {
    Refusal::not_found(format!("there is no volume {:?}", shown(id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID_1: &str = "0f0a3c1e-64b5-4e5f-9d3a-5a8a7e2d1c0b";

    fn place(cluster: &str, pool: &str, namespace: &str, image: &str) -> Place {
        Place { pool: RbdPool { cluster: cluster.into(), pool: pool.into(), namespace: namespace.into() }, image: image.into() }
    }

    #[test]
    fn an_id_of_ours_is_read_as_it_was_written() {
        for place in [
            place("ceph", "rbd", "", &image_name("csi-vol-", "pvc-1")),
            place("3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11", "kubernetes", "tenant-7", &image_name("csi-vol-", "pvc-1")),
            place("c", "p", "n", &image_name("k8s:", "")),
        ] {
            let id = place.id().unwrap();
            assert!(id.len() <= 128, "{id}");
            assert_eq!(Id::parse(&id), Some(Id::Ours(place)));
        }
        assert_eq!(image_name("csi-vol-", "pvc-1"), image_name("csi-vol-", "pvc-1"));
        assert_ne!(image_name("csi-vol-", "pvc-1"), image_name("csi-vol-", "pvc-2"));
        assert_eq!(image_name("csi-vol-", "").len(), 44);
    }

    #[test]
    fn names_that_are_too_long_are_counted() {
        let longest = place("ceph", &"p".repeat(128 - 1 - 4 - 4 - 44), "", &image_name("csi-vol-", "a"));
        assert_eq!(longest.id().unwrap().len(), 128);
        let words = place("ceph", &"p".repeat(76), "", &image_name("csi-vol-", "a")).id().unwrap_err();
        assert_eq!(words.code(), "INVALID_ARGUMENT");
        assert!(
            words.words().contains("`clusterID` 4, `pool` 76, `radosNamespace` 0, `volumeNamePrefix` 8 bytes): together they may have 87"),
            "{}",
            words.words()
        );
    }

    #[test]
    fn ids_of_ceph_csi_are_read() {
        let read = |id: &str| match Id::parse(id) {
            Some(Id::CephCsi { cluster, pool, uuid }) => Some((cluster, pool, uuid)),
            _ => None,
        };
        let fsid = "3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11";
        assert_eq!(read(&format!("0001-0024-{fsid}-0000000000000002-{UUID_1}")), Some((fsid.into(), 2, UUID_1.into())));
        assert_eq!(read(&format!("0001-0009-rook-ceph-00000000000000ff-{UUID_1}")), Some(("rook-ceph".into(), 255, UUID_1.into())));
        assert_eq!(read(&format!("0001-0004-ceph-FFFFFFFFFFFFFFFF-{UUID_1}")), Some(("ceph".into(), u64::MAX, UUID_1.into())));
    }

    #[test]
    fn what_neither_driver_gave_is_no_id() {
        let image = format!("csi-vol-{UUID_1}");
        for bad in [
            "",
            "vol-0123456789abcdef0123456789abcdef",
            "1/c/p//image",
            &format!("1/c/p/{image}"),
            &format!("2/c/p//{image}"),
            &format!("1/c/p//{image}/"),
            &format!("1//p//{image}"),
            &format!("1/c/p x//{image}"),
            &format!("1/c/p//csi-vol-{}", UUID_1.to_uppercase()),
            &format!("1/c/{}//{image}", "p".repeat(96)),
            &format!("1/c/p//é{}", &UUID_1[1..]),
            &format!("0002-0004-ceph-0000000000000002-{UUID_1}"),
            &format!("0001-0005-ceph-0000000000000002-{UUID_1}"),
            &format!("0001-+004-ceph-0000000000000002-{UUID_1}"),
            &format!("0001-0004-ceph-+000000000000002-{UUID_1}"),
            &format!("0001-0004-ceph-000000000000002-{UUID_1}"),
            &format!("0001-0000--0000000000000002-{UUID_1}"),
            &format!("0001-0004-c ph-0000000000000002-{UUID_1}"),
            "0001-ffff-ceph",
            "0001-0002-é",
            &UUID_1[..20],
        ] {
            assert_eq!(Id::parse(bad), None, "{bad:?}");
        }
    }
}
