//! The tier `vm_`: a kernel with RBD in a virtual machine, against a real Ceph cluster. `short` is part of `make test`, all of it is `make test-vm`.

mod copies;
mod faults;
mod nodes;
mod outage;
mod power;
mod publishing;
mod rbd;
mod short;
