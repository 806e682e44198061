//! The steps on this machine's kernel: real loop devices, real file systems, real mounts. Needs root; each name begins with `loop_`.

mod bench;
mod contents;
mod grow;
mod life;
mod places;
mod read_only;
mod sole;
mod teardown;
