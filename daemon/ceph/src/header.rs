//! What describes an image in its pool, asked of the objects themselves: an image need not be opened (11 operations) to be looked at (2).

use crate::cluster::Place;
use crate::encoding::{Decoder, Encoder, Malformed};
use crate::error::{CephError, Errno};
use crate::ffi::Exec;
use windlass_plan::rbd::{ImageFacts, ImageIdentity, RbdName, Striping};
use windlass_plan::request::Context;

/// The image itself and not one of its snapshots (`CEPH_NOSNAP`).
pub(crate) const HEAD: u64 = u64::MAX - 1;
/// Metadata of one answer. There is no more of an image's: what is beyond is not read.
pub(crate) const MOST_METADATA: u64 = 256;
/// `RBD_FEATURE_STRIPINGV2`.
const STRIPING: u64 = 1 << 1;

/// The object that describes an image.
pub(crate) fn header_of(id: &str) -> String {
    format!("rbd_header.{id}")
}

/// A method of the class `rbd`.
pub(crate) fn rbd<'a>(method: &'static std::ffi::CStr, input: &'a [u8]) -> Exec<'a> {
    Exec { class: c"rbd", method, input }
}

impl Place<'_> {
    /// The id of the image of that name, if there is one: 1 operation.
    pub(crate) fn id(&self, name: &RbdName) -> Result<Option<String>, CephError> {
        match self.io.read(&format!("rbd_id.{name}")) {
            Ok(bytes) => Decoder::of(&bytes).text().map(Some).map_err(self.malformed(name)),
            Err(Errno(libc::ENOENT)) => Ok(None),
            Err(errno) => Err(self.failed("look for", name)(errno)),
        }
    }

    pub(crate) fn identity(&self, id: String) -> ImageIdentity {
        ImageIdentity { fsid: self.cluster.fsid().to_owned(), pool: self.io.id().unsigned_abs(), image: id }
    }

    /// All that is known of the image of that id: 1 operation. `None` where it is gone.
    pub(crate) fn facts(&self, name: &RbdName, id: &str) -> Result<Option<ImageFacts>, CephError> {
        let snapshot = Encoder::default().u64(HEAD).bytes();
        let features = Encoder::default().u64(HEAD).u8(1).bytes();
        let metadata = Encoder::default().text("").u64(MOST_METADATA).bytes();
        let calls = [
            rbd(c"get_size", &snapshot),
            rbd(c"get_features", &features),
            rbd(c"get_data_pool", &[]),
            rbd(c"metadata_list", &metadata),
            rbd(c"get_stripe_unit_count", &[]),
        ];
        let failed = self.failed("look at", name);
        let answers = match self.io.ask(&header_of(id), &calls) {
            Ok(answers) => answers,
            Err(Errno(libc::ENOENT)) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let answers: [_; 5] = answers.try_into().map_err(|_| self.malformed(name)(Malformed))?;
        let [size, features, data_pool, metadata, striping] = answers;
        if matches!(size, Err(Errno(libc::ENOENT))) {
            return Ok(None);
        }
        let raw = Raw {
            size: size.map_err(&failed)?,
            features: features.map_err(&failed)?,
            data_pool: data_pool.map_err(&failed)?,
            metadata: metadata.map_err(&failed)?,
        };
        let read = raw.read().map_err(self.malformed(name))?;
        let striping = match striping {
            Ok(bytes) if read.features & STRIPING != 0 => Some(read_striping(&bytes).map_err(self.malformed(name))?),
            // An image without striping answers that it has no such feature.
            _ => None,
        };
        let data_pool = match read.data_pool {
            -1 => None,
            pool => {
                let found = self.cluster.rados.pool_name(pool).map_err(&failed)?;
                Some(RbdName::parse(&found).map_err(|_| self.malformed(name)(Malformed))?)
            }
        };
        Ok(Some(ImageFacts {
            name: name.clone(),
            identity: self.identity(id.to_owned()),
            size: read.size,
            features: read.features,
            object_size: 1u64.checked_shl(u32::from(read.order)).unwrap_or(0),
            striping,
            data_pool,
            metadata: read.metadata,
        }))
    }

    /// Sets metadata, all keys in 1 operation.
    pub(crate) fn write_metadata(&self, name: &RbdName, id: &str, metadata: &Context) -> Result<(), CephError> {
        let input = Encoder::default().map(metadata).bytes();
        self.io.exec(&header_of(id), &rbd(c"metadata_set", &input)).map_err(self.failed("note metadata of", name))
    }
}

struct Raw {
    size: Vec<u8>,
    features: Vec<u8>,
    data_pool: Vec<u8>,
    metadata: Vec<u8>,
}

struct Read {
    order: u8,
    size: u64,
    features: u64,
    data_pool: i64,
    metadata: Context,
}

impl Raw {
    fn read(&self) -> Result<Read, Malformed> {
        let mut size = Decoder::of(&self.size);
        Ok(Read {
            order: size.u8()?,
            size: size.u64()?,
            features: Decoder::of(&self.features).u64()?,
            data_pool: Decoder::of(&self.data_pool).i64()?,
            metadata: Decoder::of(&self.metadata).map()?,
        })
    }
}

fn read_striping(bytes: &[u8]) -> Result<Striping, Malformed> {
    let mut decoder = Decoder::of(bytes);
    Ok(Striping { unit: decoder.u64()?, count: decoder.u64()? })
}
