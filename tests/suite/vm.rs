//! The tier `vm_`: a kernel with RBD in a virtual machine, against a real Ceph cluster. `short` is part of `make test`, all of it but
//! `torture` is `make test-vm`.

mod cluster;
mod clusters;
mod controller;
mod copies;
mod counts;
mod deaths;
mod devices;
mod faults;
mod limits;
mod node_rows;
mod nodes;
mod outage;
mod power;
mod publishing;
mod rbd;
mod selinux;
mod short;
mod shut_out;
mod torture;
