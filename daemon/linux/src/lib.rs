//! The kernel, as a worker uses it: attach, probe, format, check, mount, bind, grow, and the way back. The only crate that maps,
//! formats, mounts or runs programs.
//!
//! Everything here is synchronous and may hang for as long as a device does, which is why it runs in worker processes: one step of one
//! volume at a time, under a [`Lease`]. Every step may be repeated, and every undo is right whether or not the step was done.
//!
//! What is absent: no lazy or forced unmount, no recursive delete, no udev, no shell, no program but mkfs and e2fsck (and modprobe, once); and no call that
//! asks a foreign device anything.

mod lease;

mod attach;
mod bind;
mod cgroup;
mod check;
mod copy;
mod detach;
mod format;
mod grow;
mod map;
mod mount;
mod probe;
mod unmount;

mod device;
mod free;
mod holders;
mod krbd;
mod limit;
mod lock;
mod loops;
mod mark;
mod mountinfo;
mod privileges;
mod program;
mod roots;
mod sole;
mod survey;
mod sys;
mod target;
mod words;
mod xfs_log;

pub use attach::source_exists;
pub use copy::{CopyError, copy_data, share_content};
pub use lease::Lease;
pub use lock::Fate;
pub use privileges::{Privileges, privileges};
pub use program::Tools;
pub use roots::OpenRoots;
pub use survey::{Surveyed, survey};
pub use sys::{end_process, inherited_socket, is_open_elsewhere, is_still_alone};
