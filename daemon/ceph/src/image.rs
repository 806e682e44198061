//! Images: made, looked at, grown, listed.

use crate::cluster::{Cluster, Place};
use crate::encoding::{Decoder, Encoder};
use crate::error::{CephError, Errno};
use crate::ffi::ImageOptions;
use crate::header::rbd;
use std::collections::BTreeMap;
use windlass_plan::rbd::{Feature, ImageFacts, ImageWish, PoolAt, RbdName, Striping};
use windlass_plan::request::Context;

/// The most metadata that is kept with an image at its making, in bytes of keys and values.
const LARGEST_METADATA: usize = 64 << 10;
/// Names of one page of the directory.
const PAGE: u64 = 512;
/// Objects of an image, by librbd's own bounds.
const OBJECT_SIZES: std::ops::RangeInclusive<u64> = (4 << 10)..=(32 << 20);
const DEFAULT_OBJECT_SIZE: u64 = 4 << 20;

impl Cluster {
    /// Makes an image, and says whether this call did. One that exists is returned as it is, whatever it is: metadata that lacks what was
    /// wished for may be that of a maker who died before writing it, which [`Cluster::set_metadata`] mends.
    ///
    /// 9 operations with the five features, whatever the number of keys and images; 2 more for the first of a pool and connection.
    ///
    /// Errors: `Invalid` (a wish that cannot be, an unknown pool), `Full`, `Forbidden`, and those of every call.
    pub fn create(&self, at: &PoolAt, name: &RbdName, wish: &ImageWish) -> Result<(ImageFacts, bool), CephError> {
        self.counted("create", || {
            check(wish)?;
            let place = self.place(at)?;
            place.check_namespace()?;
            place.prepare_trash();
            let failed = |errno| match (errno, &wish.data_pool) {
                (Errno(libc::ENOENT), Some(pool)) => self.no_pool(pool),
                _ => place.failed("make", name)(errno),
            };
            place.make(name, &wish.metadata, failed, || place.io.create(name.as_str(), wish.size, &options(wish)))
        })
    }

    /// Looks at an image: 2 operations.
    pub fn stat(&self, at: &PoolAt, name: &RbdName) -> Result<Option<ImageFacts>, CephError> {
        self.counted("stat", || self.place(at)?.stat(name))
    }

    /// Sets keys of an image's metadata, leaving others alone: 2 operations.
    ///
    /// Errors: `NotFound`.
    pub fn set_metadata(&self, at: &PoolAt, name: &RbdName, metadata: &Context) -> Result<(), CephError> {
        self.counted("set-metadata", || {
            check_metadata(metadata)?;
            let place = self.place(at)?;
            let id = place.id(name)?.ok_or_else(|| place.not_found(name))?;
            place.write_metadata(name, &id, metadata)
        })
    }

    /// Grows an image to at least `size` bytes; never shrinks one. Returns it as it is then.
    ///
    /// Errors: `NotFound`, `Full`.
    pub fn resize(&self, at: &PoolAt, name: &RbdName, size: u64) -> Result<ImageFacts, CephError> {
        self.counted("resize", || {
            let place = self.place(at)?;
            let now = place.stat(name)?.ok_or_else(|| place.not_found(name))?;
            if now.size >= size {
                return Ok(now);
            }
            place.change(name, &now.identity.image, |image| image.grow(size)).map_err(place.failed("grow", name))?;
            place.stat(name)?.ok_or_else(|| place.not_found(name))
        })
    }

    /// Names of a pool's images, in their order, after one, at most `limit` of them: 1 operation a page of 512. Those that cannot be ours
    /// are left out.
    pub fn names(&self, at: &PoolAt, after: &str, limit: usize) -> Result<Vec<RbdName>, CephError> {
        self.counted("names", || self.place(at)?.walk(after, limit, |_, name, _| Ok(Some(name.clone()))))
    }

    /// As [`Cluster::names`], with what each image is: 1 operation more for each.
    pub fn list(&self, at: &PoolAt, after: &str, limit: usize) -> Result<Vec<ImageFacts>, CephError> {
        // One that was deleted meanwhile is not there.
        self.counted("list", || self.place(at)?.walk(after, limit, |place, name, id| place.facts(name, id)))
    }
}

impl Place<'_> {
    pub(crate) fn stat(&self, name: &RbdName) -> Result<Option<ImageFacts>, CephError> {
        match self.id(name)? {
            Some(id) => self.facts(name, &id),
            None => Ok(None),
        }
    }

    /// Goes through the pool's directory page by page until there are enough.
    fn walk<T>(&self, after: &str, limit: usize, mut see: impl FnMut(&Self, &RbdName, &str) -> Result<Option<T>, CephError>) -> Result<Vec<T>, CephError> {
        let (mut after, mut found) = (after.to_owned(), Vec::new());
        while found.len() < limit {
            let wanted = PAGE.min((limit - found.len()) as u64);
            let page = self.directory(&after, wanted)?;
            let Some((last, _)) = page.last_key_value() else { break };
            after.clone_from(last);
            for (name, id) in &page {
                if let Ok(name) = RbdName::parse(name) {
                    found.extend(see(self, &name, id)?);
                }
            }
            if (page.len() as u64) < wanted {
                break;
            }
        }
        Ok(found)
    }

    /// A page of the pool's directory: names and ids.
    fn directory(&self, after: &str, limit: u64) -> Result<BTreeMap<String, String>, CephError> {
        let subject = || format!("the images of the pool {}", self.at);
        let input = Encoder::default().text(after).u64(limit).bytes();
        let answer = self.io.ask("rbd_directory", &[rbd(c"dir_list", &input)]).map(|answers| answers.into_iter().next());
        let bytes = match answer {
            Ok(Some(Ok(bytes))) => bytes,
            // A pool in which there has never been an image has no directory.
            Ok(None | Some(Err(Errno(libc::ENOENT)))) | Err(Errno(libc::ENOENT)) => return Ok(BTreeMap::new()),
            Ok(Some(Err(errno))) | Err(errno) => return Err(CephError::of("list", subject(), errno)),
        };
        Decoder::of(&bytes).map().map_err(|cause| CephError::Malformed { subject: subject(), cause })
    }

    /// librbd makes images in a namespace that nobody made, where no tool finds them: 1 operation where there is one.
    pub(crate) fn check_namespace(&self) -> Result<(), CephError> {
        let Some(namespace) = &self.at.namespace else { return Ok(()) };
        let failed = |errno| CephError::of("look for", format!("the namespace {}", self.at), errno);
        let pool = self.cluster.rados.pool(self.at.pool.as_str(), None).map_err(failed)?;
        match pool.omap("rbd_namespace", &[&format!("name_{namespace}")]) {
            Ok(found) if !found.is_empty() => Ok(()),
            Ok(_) | Err(Errno(libc::ENOENT)) => Err(CephError::NoNamespace { pool: self.at.pool.to_string(), namespace: namespace.to_string() }),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// A wish in librbd's words.
pub(crate) fn options(wish: &ImageWish) -> ImageOptions<'_> {
    ImageOptions {
        features: wish.features.iter().fold(0, |bits, feature| bits | feature.bit()),
        order: wish.object_size.map(|size| u64::from(size.trailing_zeros())),
        striping: wish.striping.map(|striping| (striping.unit, striping.count)),
        data_pool: wish.data_pool.as_ref().map(RbdName::as_str),
        clone_format: None,
    }
}

/// What librbd would refuse with nothing but EINVAL, or worse, take otherwise than it was meant.
pub(crate) fn check(wish: &ImageWish) -> Result<(), CephError> {
    let invalid = |what: String| Err(CephError::Invalid { what });
    for (feature, base) in [(Feature::ObjectMap, Feature::ExclusiveLock), (Feature::FastDiff, Feature::ObjectMap)] {
        if wish.features.contains(&feature) && !wish.features.contains(&base) {
            return invalid(format!("the image feature {} needs {} as well", feature.name(), base.name()));
        }
    }
    if let Some(size) = wish.object_size
        && !(size.is_power_of_two() && OBJECT_SIZES.contains(&size))
    {
        return invalid(format!("an object size of {size} bytes is none: a power of two from 4 KiB to 32 MiB"));
    }
    let object_size = wish.object_size.unwrap_or(DEFAULT_OBJECT_SIZE);
    if let Some(Striping { unit, count }) = wish.striping
        && (unit < 512 || !object_size.is_multiple_of(unit) || count == 0)
    {
        return invalid(format!("stripes of {unit} bytes over {count} objects of {object_size} bytes cannot be: the unit must divide the object size"));
    }
    check_metadata(&wish.metadata)
}

pub(crate) fn check_metadata(metadata: &Context) -> Result<(), CephError> {
    if metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > LARGEST_METADATA {
        return Err(CephError::Invalid { what: format!("an image's metadata is larger than {LARGEST_METADATA} bytes") });
    }
    Ok(())
}
