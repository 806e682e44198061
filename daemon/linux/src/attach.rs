//! Binds a loop device to a volume's file: by descriptor, with direct I/O, marked with the volume's key.

mod error;

pub(crate) use error::AttachError;

use crate::detach;
use crate::device::{self, DeviceError, Held};
use crate::free;
use crate::loops;
use crate::mark;
use crate::roots;
use crate::sole::{Sought, Turn};
use crate::sys::{self, LoopInfo};
use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use windlass_plan::failure::Failure;
use windlass_plan::ids::VolumeKey;
use windlass_plan::paths::HostPath;
use windlass_plan::step::{AttachFile, Backing, BackingFile, Writable};

/// 512 everywhere, also where the disk below has larger sectors: a file system made on a device with 4096-byte sectors could not be
/// mounted on one with 512, nor the other way round, and a volume's file may move.
const SECTOR: u32 = 512;

/// How often somebody may take the free device before us.
const TRIES: u32 = 100;

/// How long somebody else may be at binding the same file.
const PATIENCE: Duration = Duration::from_secs(2);

/// Does the volume's file exist? Opens nothing of its content.
pub fn source_exists(folder: &HostPath, name: &str) -> Result<bool, Failure> {
    match find(folder, name) {
        Ok(_) => Ok(true),
        Err(AttachError::Missing { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Attaches the file, or finds that it is attached.
pub(crate) fn attach(volume: VolumeKey, wish: &AttachFile) -> Result<Held, AttachError> {
    if wish.volume != volume {
        return Err(AttachError::OtherVolume);
    }
    let source = Source::open(wish)?;
    let _turn = source.turn()?;
    if let Some(held) = source.find_device(volume)? {
        return Ok(held);
    }
    source.bind(volume)
}

/// The volume's file, opened.
struct Source<'a> {
    wish: &'a AttachFile,
    file: File,
    identity: BackingFile,
    size: u64,
    sought: Sought,
}

/// Finds the file without opening its content: a fifo or a device of that name is never touched.
fn find(folder: &HostPath, name: &str) -> Result<(OwnedFd, sys::Stat), AttachError> {
    let names = || (folder.clone(), name.to_owned());
    let open = |(folder, file), source| AttachError::Open { folder, file, source };
    let above = roots::open_folder(folder).map_err(|source| AttachError::Folder { folder: folder.clone(), source })?;
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_XDEV;
    let component = CString::new(name).ok().filter(|_| !name.is_empty() && !name.contains('/'));
    let Some(component) = component else {
        let (folder, file) = names();
        return Err(AttachError::NotPlain { folder, file });
    };
    let file = sys::openat2(above.as_fd(), &component, libc::O_PATH, 0, resolve).map_err(|source| {
        let (folder, file) = names();
        match source.raw_os_error() {
            Some(libc::ENOENT) => AttachError::Missing { folder, file },
            Some(libc::ELOOP | libc::EXDEV) => AttachError::NotPlain { folder, file },
            _ => AttachError::Open { folder, file, source },
        }
    })?;
    let seen = sys::stat(file.as_fd()).map_err(|source| open(names(), source))?;
    if !seen.is(libc::S_IFREG) || seen.links != 1 {
        let (folder, file) = names();
        return Err(AttachError::NotPlain { folder, file });
    }
    Ok((file, seen))
}

fn all_names() -> Result<Vec<String>, DeviceError> {
    loops::all_names().map_err(|source| DeviceError::Survey(mark::SurveyError { source }))
}

impl<'a> Source<'a> {
    fn open(wish: &'a AttachFile) -> Result<Self, AttachError> {
        let (found, seen) = find(&wish.folder, &wish.name)?;
        let open = |source| AttachError::Open { folder: wish.folder.clone(), file: wish.name.clone(), source };
        let path = roots::path_of(found.as_fd()).map_err(open)?;
        let file = device::reopen(found.as_fd(), wish.writable == Writable::ReadWrite).map_err(open)?;
        let sought = Sought::new(&file, path).map_err(open)?;
        let source = Self { wish, file, identity: device::backing_of(&seen), size: seen.size, sought };
        if source.size == 0 || !source.size.is_multiple_of(u64::from(SECTOR)) {
            let (folder, file) = source.names();
            return Err(AttachError::Size { folder, file, size: source.size });
        }
        Ok(source)
    }

    fn names(&self) -> (HostPath, String) {
        (self.wish.folder.clone(), self.wish.name.clone())
    }

    /// The turn to bind the file. Until it is dropped nobody else looks for its devices, or binds one.
    fn turn(&self) -> Result<Turn, AttachError> {
        let own = device::reopen(self.file.as_fd(), self.wish.writable == Writable::ReadWrite);
        let turn = own.and_then(|own| Turn::take(own, PATIENCE)).map_err(|source| {
            let (folder, file) = self.names();
            AttachError::Lock { folder, file, source }
        })?;
        turn.ok_or_else(|| {
            let (folder, file) = self.names();
            AttachError::Locked { folder, file }
        })
    }

    /// The device that shows this file for this volume already. The file shown by somebody else's: a failure.
    fn find_device(&self, volume: VolumeKey) -> Result<Option<Held>, AttachError> {
        let mut found = None;
        for name in all_names()? {
            if mark::of_name(&name) == Some(volume.short())
                && let Some(held) = Held::open(&name, volume)?
            {
                if !self.is_shown_by(&held) {
                    return Err(AttachError::OtherFile { device: name });
                }
                if let Some(Held { device: first, .. }) = found.replace(held) {
                    return Err(DeviceError::Several { count: 2, names: format!("{}, {name}", first.name) }.into());
                }
            } else if self.sought.is_below(&name) {
                return Err(self.attached(name));
            }
        }
        found.map(|held| self.take_up(held)).transpose()
    }

    /// By device and inode; when the file was made the device itself does not say.
    fn is_shown_by(&self, held: &Held) -> bool {
        matches!(&held.device.backing, Backing::File(shown) if (shown.device, shown.inode) == (self.identity.device, self.identity.inode))
    }

    fn attached(&self, device: String) -> AttachError {
        let (folder, file) = self.names();
        AttachError::Attached { folder, file, device }
    }

    /// Looks again, now that the device shows: somebody who takes no turn (`losetup`) may have bound the file at the same time. Two
    /// devices with two caches spoil what is in the file, so then ours goes, which nobody has used yet.
    fn alone(&self, volume: VolumeKey, held: Held) -> Result<Held, AttachError> {
        let is_other = |name: &String| *name != held.device.name && self.sought.is_below(name);
        let Some(other) = all_names()?.into_iter().find(is_other) else { return Ok(held) };
        let device = held.path();
        drop(held);
        if let Err(error) = detach::detach(volume) {
            tracing::warn!(device, %error, "a second device of one file does not go yet; undoing the step tries again");
        }
        Err(self.attached(other))
    }

    /// A device that was bound earlier: the right way round, and as large as its file is by now.
    fn take_up(&self, mut held: Held) -> Result<Held, AttachError> {
        let word = |is_read_only| if is_read_only { "read-only" } else { "writable" };
        let wanted = self.wish.writable == Writable::ReadOnly;
        if held.device.is_read_only != wanted {
            return Err(AttachError::OtherMode { device: held.device.name, is: word(!wanted), wanted: word(wanted) });
        }
        if held.device.size < self.size {
            sys::loop_refresh(&held.node).map_err(|source| AttachError::Prepare { deed: "resize", device: held.path(), source })?;
        }
        self.finish(&mut held)?;
        Ok(held)
    }

    fn bind(&self, volume: VolumeKey) -> Result<Held, AttachError> {
        // The kernel does so too, but holds the device's lock meanwhile, and whoever looks at all loop devices would hang with us.
        self.file.sync_data().map_err(|source| {
            let (folder, file) = self.names();
            AttachError::Flush { folder, file, source }
        })?;
        let control = std::fs::OpenOptions::new().read(true).write(true).open("/dev/loop-control");
        let control = control.map_err(|source| AttachError::Control { source })?;
        let is_writing = self.wish.writable == Writable::ReadWrite;
        let mut info = LoopInfo { size_limit: loops::size_limit(volume), file_name: loops::name(volume), ..LoopInfo::EMPTY };
        info.flags = sys::LO_FLAGS_DIRECT_IO | if is_writing { 0 } else { sys::LO_FLAGS_READ_ONLY };
        for _ in 0..TRIES {
            let Some(free) = free::find(&control).map_err(|source| AttachError::NoneFree { source })? else { continue };
            let Some(node) = device::open_node(&free.name, is_writing, 0)? else { continue };
            let mut bound = sys::loop_configure(&node, &self.file, SECTOR, info);
            if bound.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL)) {
                info.flags &= !sys::LO_FLAGS_DIRECT_IO;
                bound = sys::loop_configure(&node, &self.file, SECTOR, info);
            }
            match bound {
                Ok(()) => return self.alone(volume, self.prepare(volume, &free.name, node)?),
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENXIO)) => continue,
                Err(source) => {
                    let (folder, file) = self.names();
                    return Err(AttachError::Bind { device: format!("/dev/{}", free.name), folder, file, source });
                }
            }
        }
        Err(AttachError::Outrun)
    }

    fn prepare(&self, volume: VolumeKey, name: &str, node: File) -> Result<Held, AttachError> {
        let prepare = |deed| move |source| AttachError::Prepare { deed, device: format!("/dev/{name}"), source };
        // Read-only comes from the loop driver, with the binding. The block layer's own flag (BLKROSET) would outlive it and make the
        // next user of the number read-only; one that somebody left there is taken away.
        if self.wish.writable == Writable::ReadWrite {
            sys::set_device_writable(&node).map_err(prepare("set writable"))?;
        }
        let mut held = Held::open(name, volume)?.ok_or(DeviceError::Changed { name: name.to_owned() })?;
        // The writing descriptor goes only now, so that the name could not come to mean another device between the two.
        drop(node);
        held.is_fresh = true;
        if held.device.is_read_only != (self.wish.writable == Writable::ReadOnly) {
            return Err(DeviceError::Changed { name: name.to_owned() }.into());
        }
        let dio = std::fs::read_to_string(format!("/sys/block/{name}/loop/dio")).unwrap_or_default();
        if dio.trim() != "1" {
            tracing::warn!(device = name, "the file system below refuses direct I/O: data is cached twice, and its read errors may be hidden");
        }
        self.finish(&mut held)?;
        Ok(held)
    }

    /// Compares the device with its file, and keeps the file with it.
    fn finish(&self, held: &mut Held) -> Result<(), AttachError> {
        if !self.is_shown_by(held) {
            return Err(DeviceError::Changed { name: held.device.name.clone() }.into());
        }
        held.device.backing = Backing::File(self.identity.clone());
        let device = held.path();
        let prepare = |deed| {
            let device = device.clone();
            move |source| AttachError::Prepare { deed, device, source }
        };
        // Looked at again: between the look at its name and the binding another daemon may have deleted it.
        if sys::stat(self.file.as_fd()).map_err(prepare("look at the file of"))?.links != 1 {
            let (folder, file) = self.names();
            return Err(AttachError::Missing { folder, file });
        }
        // Measured again: the controller may grow the file at any moment.
        let mut expected = sys::stat(self.file.as_fd()).map_err(prepare("measure the file of"))?.size;
        let mut found = held.measure()?;
        if found < expected {
            sys::loop_refresh(&held.node).map_err(prepare("resize"))?;
            expected = sys::stat(self.file.as_fd()).map_err(prepare("measure the file of"))?.size;
            found = held.measure()?;
        }
        if found / u64::from(SECTOR) != expected / u64::from(SECTOR) {
            return Err(AttachError::OtherSize { device: held.path(), found, expected });
        }
        held.file = Some(self.file.try_clone().map_err(prepare("keep the file of"))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::failure::Reason;
    use windlass_plan::ids::{DriverName, VolumeId};

    #[test]
    fn loop_a_file_that_is_deleted_while_it_is_attached_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let above = folder.path().canonicalize().unwrap();
        let path = above.join("volume");
        File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
        let volume = VolumeKey::derive(path.to_str().unwrap(), &DriverName::parse("d").unwrap(), &VolumeId::parse("v").unwrap());
        let wish = AttachFile { volume, folder: HostPath::parse(above.to_str().unwrap()).unwrap(), name: "volume".into(), writable: Writable::ReadWrite };
        let source = Source::open(&wish).unwrap();
        std::fs::remove_file(&path).unwrap();
        let refused = source.bind(volume).map(|held| held.device).unwrap_err();
        crate::detach::detach(volume).unwrap();
        assert_eq!(Failure::from(refused).reason, Reason::SourceMissing);
    }

    #[test]
    fn loop_a_device_that_turns_out_to_be_the_second_of_its_file_goes_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("volume");
        File::create_new(&path).unwrap().set_len(1 << 20).unwrap();
        let volume = VolumeKey::derive(path.to_str().unwrap(), &DriverName::parse("d").unwrap(), &VolumeId::parse("v").unwrap());
        let above = HostPath::parse(path.parent().unwrap().to_str().unwrap()).unwrap();
        let wish = AttachFile { volume, folder: above, name: "volume".into(), writable: Writable::ReadWrite };
        let source = Source::open(&wish).unwrap();
        let held = source.bind(volume).unwrap();
        let held = source.alone(volume, held).unwrap();
        let theirs = std::process::Command::new("losetup").args(["-f", "--show"]).arg(&path).output().unwrap();
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        let refused = source.alone(volume, held).unwrap_err();
        assert!(std::process::Command::new("losetup").args(["-d", theirs.trim()]).status().unwrap().success());
        assert!(refused.to_string().contains(theirs.trim().trim_start_matches("/dev/")), "{refused}");
        assert_eq!(Failure::from(refused).reason, Reason::InUse);
        assert_eq!(mark::candidates(volume).unwrap(), Vec::<String>::new());
    }
}
