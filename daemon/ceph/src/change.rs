//! Changing an image that this very client may have left locked.
//!
//! A call of librbd that an outage ends may leave the lock of exclusive-lock behind. librbd breaks such a lock once its holder's watch is
//! gone, but shuts the holder out first, and refuses to shut out itself: the image could not be changed again as long as the connection lasts.

use crate::cluster::Place;
use crate::error::{CephError, Errno};
use crate::ffi::Image;
use crate::header::header_of;
use crate::lock;
use windlass_plan::rbd::RbdName;

impl Place<'_> {
    /// Opens an image and changes it.
    pub(crate) fn change(&self, name: &RbdName, id: &str, work: impl Fn(&Image<'_>) -> Result<(), Errno>) -> Result<(), Errno> {
        self.unhindered(name, id, || work(&self.io.open_by_id(id)?))
    }

    /// Does what needs the lock of exclusive-lock, and does it again where only a lock of a dead call of ours was in the way.
    pub(crate) fn unhindered(&self, name: &RbdName, id: &str, work: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        match work() {
            Err(Errno(libc::EBUSY | libc::EROFS | libc::EINVAL | libc::EAGAIN)) if self.break_own_leftover(name, id).unwrap_or(false) => work(),
            done => done,
        }
    }

    /// Breaks a lock that this client holds by a watch that is no more: was there one?
    fn break_own_leftover(&self, name: &RbdName, id: &str) -> Result<bool, CephError> {
        let own = self.cluster.rados.instance().cast_signed();
        let header = header_of(id);
        let Some((_, theirs)) = self.locks(name, &header)? else { return Ok(false) };
        let mut mine = theirs.lockers.iter().filter(|locker| locker.client == own).peekable();
        if mine.peek().is_none() {
            return Ok(false);
        }
        let failed = self.failed("see who uses", name);
        let watchers = self.io.open_to_look(id).map_err(&failed)?.watchers().map_err(&failed)?;
        let is_alive = |cookie: &str| watchers.iter().any(|watcher| watcher.client == own && cookie == format!("auto {}", watcher.cookie));
        let mut has_broken = false;
        for locker in mine.filter(|locker| !is_alive(&locker.cookie)) {
            tracing::info!(image = %self.image(name), cookie = locker.cookie, "a lock that an earlier call of ours left is broken");
            lock::break_off(&self.io, &header, lock::THEIRS, locker).map_err(&failed)?;
            has_broken = true;
        }
        Ok(has_broken)
    }
}
