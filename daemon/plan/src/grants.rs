//! What the operator allows one driver: deny by default, each thing by a name that the plugin can speak and a value that it never sees.

use crate::paths::HostPath;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The grants of one driver, resolved from `drivers.d/NAME.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grants {
    /// Folders for the interface `files` and for `file` sources, by grant name.
    pub files: BTreeMap<String, HostPath>,
    /// Volumes that this driver's controller did not make may be attached.
    pub is_static_allowed: bool,
}
