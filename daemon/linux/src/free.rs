//! Finds a loop device that nobody uses, and keeps our other workers away from it until it is bound.
//!
//! Binding asks the file below (the kernel flushes it) under the device's own lock, while the kernel still calls the device free; who
//! opens it meanwhile waits where no signal reaches him. So a file that hangs would hold up the next volume too. The turn is a `flock`
//! on the device's folder in sysfs: it leaves nothing behind, touches no device, and ends with the worker that holds it.

use crate::loops;
use crate::mark;
use crate::sys;
use std::fs::{File, TryLockError};
use std::io;

/// A free device, ours to bind for as long as this is held.
pub(crate) struct Free {
    /// The kernel's name for it.
    pub(crate) name: String,
    _turn: File,
}

/// The first free device that no other worker is binding; a new one where there is none. `None`: somebody was quicker.
pub(crate) fn find(control: &File) -> io::Result<Option<Free>> {
    if let Some(free) = take(format!("loop{}", sys::loop_free(control)?))? {
        return Ok(Some(free));
    }
    for name in loops::all_names()? {
        if let Some(free) = take(name)? {
            return Ok(Some(free));
        }
    }
    take(format!("loop{}", sys::loop_add(control)?))
}

fn take(name: String) -> io::Result<Option<Free>> {
    let is_free = || mark::number_of(&name).is_some_and(mark::is_dead);
    if !is_free() {
        return Ok(None);
    }
    let turn = match File::open(format!("/sys/block/{name}")) {
        Ok(folder) => folder,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match turn.try_lock() {
        Ok(()) if is_free() => Ok(Some(Free { name, _turn: turn })),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loop_two_who_look_for_a_free_device_find_two() {
        let control = File::options().read(true).write(true).open("/dev/loop-control").unwrap();
        let found: Vec<Free> = (0..4).map(|_| one(&control)).collect();
        let mut names: Vec<&str> = found.iter().map(|free| free.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    /// Other tests take devices at the same time.
    fn one(control: &File) -> Free {
        (0..100).find_map(|_| find(control).unwrap()).expect("a free device")
    }
}
