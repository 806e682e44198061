//! The tiers `plugin_`, `loop_`, `ceph_` and `vm_` of the daemon as a whole: one binary, one module a subject.

mod conformance;
mod copies;
mod crash;
mod dev;
mod devices;
mod effects;
mod formats;
mod hang;
mod health;
mod hostile;
mod kubelet;
mod local_copies;
mod model;
mod processes;
mod programs;
mod rehearsal;
mod reload;
mod skew;
mod starter;
mod stuck;
mod tidy;
mod vm;
mod whole_life;
