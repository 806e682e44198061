//! `files.copy`: a file with what another holds at one moment.
//!
//! Where the file system shares blocks between files, the kernel makes it one moment, whoever writes meanwhile. Elsewhere the bytes are
//! copied while nobody has the file open; who opens it meanwhile is given it within one stretch, and the copy is thrown away.

use super::alone::not_there;
use super::{Folder, Stale, came_and_went, failed, refuse_large};
use crate::effects::refuse;
use nix::fcntl::OFlag;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use windlass_linux::CopyError;
use windlass_plan::effect::{EffectAnswer, EffectError};
use windlass_plan::plugin::RefusalKind;
use windlass_plan::request::Context;

impl Folder {
    /// Makes the copy, or finds it. A death at any moment leaves nothing: until it is whole it has no name.
    pub(super) fn copy(&self, name: &str, to: &str, size: u64, properties: &Context) -> Result<EffectAnswer, EffectError> {
        refuse_large(properties)?;
        if let Some(found) = self.found(to)? {
            return Ok(found);
        }
        let (_, seen) = self.look(name)?.ok_or_else(not_there)?;
        let more = size.saturating_sub(seen.st_size as u64);
        let copy = self.unnamed()?;
        if !(self.can_share(&copy)? && self.share(name, &copy, more)?) {
            self.copy_bytes(name, &copy, more)?;
        }
        let has = copy.metadata().map_err(|error| failed("look at a copy", error))?.len();
        if has < size {
            copy.set_len(size).map_err(|error| failed("size a copy", error))?;
        }
        // It may have taken long.
        self.is_current().map_err(|stale: Stale| refuse(RefusalKind::Unavailable, stale.to_string()))?;
        self.name(&copy, to, properties)
    }

    /// Does the file system share blocks between files? Found out with two that are empty: the source is not opened for it, which would
    /// disturb whoever copies it.
    fn can_share(&self, copy: &File) -> Result<bool, EffectError> {
        let other = self.unnamed()?;
        windlass_linux::share_content(&other, copy).map_err(|error| failed("see whether files can share blocks", error))
    }

    fn share(&self, name: &str, copy: &File, more: u64) -> Result<bool, EffectError> {
        self.refuse_more_than_there_is(more)?;
        let source = self.open_file(name, OFlag::O_RDONLY)?.ok_or_else(came_and_went)?;
        windlass_linux::share_content(&source, copy).map_err(|error| failed("copy a file by sharing its blocks", error))
    }

    fn copy_bytes(&self, name: &str, copy: &File, more: u64) -> Result<(), EffectError> {
        let source = self.alone(name)?;
        let allocated = source.file().metadata().map_err(|error| failed("look at a file", error))?.blocks().saturating_mul(512);
        self.refuse_more_than_there_is(allocated.saturating_add(more))?;
        match windlass_linux::copy_data(source.file(), copy, || source.is_still()) {
            Ok(()) => {}
            Err(CopyError::Failed(error)) => return Err(failed("copy a file", error)),
            Err(CopyError::Stopped) => {
                let words = "somebody began to use the volume while it was copied, and the copy was thrown away; ask again, when it is unstaged".to_owned();
                return Err(refuse(RefusalKind::Unavailable, words));
            }
            Err(CopyError::Shrunk) => return Err(refuse(RefusalKind::Unavailable, "the file became shorter while it was copied; ask again".to_owned())),
        }
        let has = source.file().metadata().map_err(|error| failed("look at a file", error))?.len();
        copy.set_len(has).map_err(|error| failed("size a copy", error))
        // With the last copy the lease goes, before anything is flushed: the copy is what it is.
    }
}
