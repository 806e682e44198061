//! The calls of Kubernetes' components, replayed in their order, with their connections, deadlines and keys (docs/orchestrators.md).

mod kubelet;
mod provisioner;
mod resizer;
mod snapshotter;
mod start;

use super::{but, filesystem_size, row};
