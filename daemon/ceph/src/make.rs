//! Making an image that may be half there: librbd writes several objects one after another, and whoever did so may have died in between.

use crate::cluster::Place;
use crate::encoding::{Decoder, Encoder};
use crate::error::{CephError, Errno};
use crate::header::{header_of, rbd};
use crate::lock::Lock;
use std::thread::sleep;
use std::time::{Duration, Instant};
use windlass_plan::rbd::{ImageFacts, RbdName};
use windlass_plan::request::Context;

/// How often an image is tried to be made whose like comes and goes, or is half there.
const ATTEMPTS: usize = 3;
/// How long somebody else may take from an image's name to its header, which is a matter of milliseconds.
const HALF_WAY: Duration = Duration::from_secs(2);

/// What there is of an image that has no `rbd_id`.
pub(crate) enum Half {
    /// Not even a name in the directory.
    Nothing,
    /// It has one by now.
    Whole(String),
    /// A name in the directory and no header: whoever made it died.
    Begun(String),
    /// A name and a header: whoever moved it to the trash died.
    Leaving(String),
}

impl Place<'_> {
    /// Makes an image by `attempt`, sets its metadata, and looks at it. One that exists is returned as it is; one of which there is a name
    /// and nothing else is cleared away first.
    pub(crate) fn make(
        &self,
        name: &RbdName,
        metadata: &Context,
        failed: impl Fn(Errno) -> CephError,
        attempt: impl Fn() -> Result<(), Errno>,
    ) -> Result<(ImageFacts, bool), CephError> {
        for _ in 0..ATTEMPTS {
            let is_new = match attempt() {
                Ok(()) => true,
                Err(Errno(libc::EEXIST)) => false,
                Err(errno) => return Err(failed(errno)),
            };
            let Some(id) = self.id(name)? else {
                match self.half(name)? {
                    // Deleted meanwhile, or made by somebody who is through by now.
                    Half::Nothing | Half::Whole(_) => {}
                    Half::Begun(id) => self.clear(name, &id)?,
                    Half::Leaving(id) => self.go_on_leaving(name, &id)?,
                }
                continue;
            };
            if is_new && !metadata.is_empty() {
                self.write_metadata(name, &id, metadata)?;
            }
            match self.facts_soon(name, &id)? {
                Some(facts) => return Ok((facts, is_new)),
                None => self.clear(name, &id)?,
            }
        }
        Err(CephError::Failed { deed: "make", subject: self.image(name), errno: Errno(libc::EAGAIN) })
    }

    /// What there is of an image without an `rbd_id`: 1 operation where there is nothing. librbd enters an image into the pool's directory
    /// first when it makes one, and takes it out of it last but one when it moves one to the trash; whoever did either may have died.
    pub(crate) fn half(&self, name: &RbdName) -> Result<Half, CephError> {
        let input = Encoder::default().text(name.as_str()).bytes();
        let answer = self.io.ask("rbd_directory", &[rbd(c"dir_get_id", &input)]).map(|answers| answers.into_iter().next());
        let id = match answer {
            Ok(Some(Ok(bytes))) => Decoder::of(&bytes).text().map_err(self.malformed(name))?,
            Ok(None | Some(Err(Errno(libc::ENOENT)))) | Err(Errno(libc::ENOENT)) => return Ok(Half::Nothing),
            Ok(Some(Err(errno))) | Err(errno) => return Err(self.failed("look for", name)(errno)),
        };
        // Whoever makes it may be about to go on.
        if let Some(id) = soon(|| self.id(name))? {
            return Ok(Half::Whole(id));
        }
        Ok(if self.locks(name, &header_of(&id))?.is_some() { Half::Leaving(id) } else { Half::Begun(id) })
    }

    /// Has an image that is half in the trash go there, so that another can have its name; but only one that was noted as ours to remove.
    fn go_on_leaving(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        if self.is_noted(name, id)? {
            return self.move_to_trash(name, id);
        }
        let why = "an image of that name has lost its `rbd_id`, and nobody noted that it was to be removed; see `rados listomapvals rbd_directory`";
        Err(CephError::Precondition { deed: "make", subject: self.image(name), why })
    }

    /// What an image is, as soon as whoever is making it is through.
    fn facts_soon(&self, name: &RbdName, id: &str) -> Result<Option<ImageFacts>, CephError> {
        soon(|| self.facts(name, id))
    }

    /// Who has an image locked, as soon as whoever is making it is through: what is taken away under somebody's hands would leave a header
    /// without a name.
    pub(crate) fn locks_soon(&self, name: &RbdName, id: &str) -> Result<Option<(Lock, Lock)>, CephError> {
        soon(|| self.locks(name, &header_of(id)))
    }

    /// Takes away the name of an image that has no header: left by somebody who died making or removing it. The name of another image that
    /// has taken its place meanwhile stays.
    pub(crate) fn clear(&self, name: &RbdName, id: &str) -> Result<(), CephError> {
        tracing::info!(image = %self.image(name), id, "a name without an image is cleared away");
        let failed = self.failed("clear away the name of", name);
        let input = Encoder::default().text(name.as_str()).text(id).bytes();
        match self.io.exec("rbd_directory", &rbd(c"dir_remove_image", &input)) {
            // ESTALE: the directory has another image under that name.
            Ok(()) | Err(Errno(libc::ENOENT | libc::ESTALE)) => {}
            Err(errno) => return Err(failed(errno)),
        }
        match self.io.remove_if(&format!("rbd_id.{name}"), &Encoder::default().text(id).bytes()) {
            Ok(()) | Err(Errno(libc::ENOENT | DIFFERS..)) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }
}

/// Looks again and again for what somebody else may be making this moment.
fn soon<T>(look: impl Fn() -> Result<Option<T>, CephError>) -> Result<Option<T>, CephError> {
    let deadline = Instant::now() + HALF_WAY;
    loop {
        let seen = look()?;
        if seen.is_some() || Instant::now() > deadline {
            return Ok(seen);
        }
        sleep(HALF_WAY / 20);
    }
}

/// What `cmpext` answers where the bytes differ: `MAX_ERRNO`, and how far they are the same.
const DIFFERS: i32 = 4095;
