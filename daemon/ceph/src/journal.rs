//! The journal that ceph-csi keeps in a pool: values by key, in objects whose names begin with `csi.`, and no others.

use crate::cluster::Cluster;
use crate::error::{CephError, Errno};
use windlass_plan::rbd::{PoolAt, RbdName};
use windlass_plan::request::Context;

/// What the names of its objects begin with.
const PREFIX: &str = "csi.";
/// Keys of one call.
const MOST_KEYS: usize = 64;

impl Cluster {
    /// The values of those keys that an object of the journal has: 1 operation. An object that does not exist has none.
    ///
    /// Errors: `Invalid` for any other object.
    pub fn journal(&self, at: &PoolAt, object: &RbdName, keys: &[&str]) -> Result<Context, CephError> {
        self.counted("journal", || {
            check(object, keys)?;
            let values = match self.place(at)?.io.omap(object.as_str(), keys) {
                Err(Errno(libc::ENOENT)) => Vec::new(),
                values => values.map_err(|errno| CephError::of("read", subject(at, object), errno))?,
            };
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
            Ok(values.into_iter().filter_map(|(key, value)| Some((text(key)?, text(value)?))).collect())
        })
    }

    /// Removes keys of an object of the journal; without a key, the object. What is not there is as good.
    ///
    /// Errors: `Invalid` for any other object.
    pub fn remove_from_journal(&self, at: &PoolAt, object: &RbdName, keys: &[&str]) -> Result<(), CephError> {
        self.counted("remove-from-journal", || {
            check(object, keys)?;
            let place = self.place(at)?;
            if keys.is_empty() {
                return match place.io.remove(object.as_str()) {
                    Ok(()) | Err(Errno(libc::ENOENT)) => Ok(()),
                    Err(errno) => Err(CephError::of("remove", subject(at, object), errno)),
                };
            }
            // Removing from an object that does not exist would make it.
            let has = match place.io.omap(object.as_str(), keys) {
                Err(Errno(libc::ENOENT)) => return Ok(()),
                has => has.map_err(|errno| CephError::of("read", subject(at, object), errno))?,
            };
            if has.is_empty() {
                return Ok(());
            }
            place.io.omap_remove(object.as_str(), keys).map_err(|errno| CephError::of("write to", subject(at, object), errno))
        })
    }
}

fn subject(at: &PoolAt, object: &RbdName) -> String {
    format!("the object {object} of the pool {at}")
}

fn check(object: &RbdName, keys: &[&str]) -> Result<(), CephError> {
    if !object.as_str().starts_with(PREFIX) {
        return Err(CephError::Invalid { what: format!("the object {object} is none of a journal: their names begin with `{PREFIX}`") });
    }
    if keys.len() > MOST_KEYS {
        return Err(CephError::Invalid { what: format!("{} keys at once are more than {MOST_KEYS}", keys.len()) });
    }
    Ok(())
}
