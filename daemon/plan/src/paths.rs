//! Paths on the host as they are spelled in a request, and as they are entered: beneath a root that the operator named.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An absolute path in its plain form: no `.`, no `..`, no empty component, no NUL, at most 4095 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPath(String);

/// Why a path is refused. The texts complete a sentence that begins with the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not given.
    #[error("is required and empty")]
    Empty,
    /// Relative.
    #[error("is not absolute")]
    Relative,
    /// Climbs.
    #[error("holds `{0}`; spell the path out")]
    Component(&'static str),
    /// A NUL byte or another control character.
    #[error("holds the control character {0:?}")]
    Control(char),
    /// Longer than the kernel takes.
    #[error("is {0} bytes long; the kernel takes 4095")]
    TooLong(usize),
    /// Not beneath any of the roots.
    #[error("is not beneath {roots}; add its folder to `node.roots` (`windlass dev --root`) if it should be served")]
    Outside {
        /// The roots, for people.
        roots: String,
    },
}

impl HostPath {
    /// Takes a path; a trailing slash is dropped, anything else that is not plain is refused.
    pub fn parse(path: &str) -> Result<Self, PathError> {
        if path.is_empty() {
            return Err(PathError::Empty);
        }
        if path.len() > 4095 {
            return Err(PathError::TooLong(path.len()));
        }
        if let Some(c) = path.chars().find(|c| c.is_control()) {
            return Err(PathError::Control(c));
        }
        let Some(rest) = path.strip_prefix('/') else { return Err(PathError::Relative) };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() {
            return Ok(Self("/".to_owned()));
        }
        for component in rest.split('/') {
            match component {
                "" => return Err(PathError::Component("//")),
                "." => return Err(PathError::Component("/./")),
                ".." => return Err(PathError::Component("..")),
                _ => {}
            }
        }
        Ok(Self(format!("/{rest}")))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What remains of `self` below `root`, without a leading slash; `None` where it is not strictly below.
    pub fn below(&self, root: &HostPath) -> Option<&str> {
        if root.0 == "/" {
            return Some(&self.0[1..]).filter(|rest| !rest.is_empty());
        }
        self.0.strip_prefix(&root.0)?.strip_prefix('/')
    }
}

impl TryFrom<String> for HostPath {
    type Error = PathError;
    fn try_from(path: String) -> Result<Self, PathError> {
        Self::parse(&path)
    }
}

impl From<HostPath> for String {
    fn from(path: HostPath) -> Self {
        path.0
    }
}

impl fmt::Display for HostPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A place that a worker may enter: the number of a root that it opened once, and the way down from there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Which of the worker's roots, counted from 0.
    pub root: usize,
    /// Relative, plain, not empty.
    pub below: String,
}

impl Place {
    /// The folder above and the last name: what `unmount`, `rmdir` and `unlink` go by. The folder is empty for the root itself.
    pub fn split(&self) -> (&str, &str) {
        self.below.rsplit_once('/').unwrap_or(("", &self.below))
    }

    /// The place called `name` beneath this one.
    pub fn join(&self, name: &str) -> Place {
        Place { root: self.root, below: format!("{}/{name}", self.below) }
    }
}

/// The folders beneath which Windlass mounts (kubelet's, or the operator's), each as configured and as the kernel resolves it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Roots(Vec<Root>);

/// One folder beneath which Windlass mounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// As the operator spelled it; may itself be a symlink.
    pub spelled: HostPath,
    /// With symlinks resolved, once, at start.
    pub real: HostPath,
    /// Folders beneath it that are the daemon's own, relative to it, and never a target.
    pub kept: Vec<String>,
}

impl Roots {
    /// The roots in the order in which workers number them.
    pub fn new(roots: Vec<Root>) -> Self {
        Self(roots)
    }

    /// The roots, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }

    /// Finds the root that `path` lies beneath, by either spelling.
    pub fn place(&self, path: &str) -> Result<Place, PathError> {
        let path = HostPath::parse(path)?;
        for (number, root) in self.0.iter().enumerate() {
            let Some(below) = path.below(&root.spelled).or_else(|| path.below(&root.real)) else { continue };
            let is_kept = root.kept.iter().any(|kept| below == kept || below.strip_prefix(kept.as_str()).is_some_and(|b| b.starts_with('/')));
            // What the daemon keeps to itself stays so, also where another root is above it.
            if is_kept {
                break;
            }
            return Ok(Place { root: number, below: below.to_owned() });
        }
        Err(PathError::Outside { roots: self.to_string() })
    }

    /// The absolute path of a place, with the root's symlinks resolved, as mountinfo shows it.
    pub fn path(&self, place: &Place) -> Option<HostPath> {
        let root = self.0.get(place.root)?;
        let base = if root.real.as_str() == "/" { "" } else { root.real.as_str() };
        HostPath::parse(&format!("{base}/{}", place.below)).ok()
    }
}

impl fmt::Display for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|root| root.spelled.as_str()).collect();
        f.write_str(&names.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Roots {
        let root =
            |spelled: &str, real: &str| Root { spelled: HostPath::parse(spelled).unwrap(), real: HostPath::parse(real).unwrap(), kept: vec!["own".into()] };
        Roots::new(vec![root("/var/lib/kubelet", "/data/kubelet"), root("/mnt", "/mnt")])
    }

    #[test]
    fn a_path_is_placed_by_either_spelling_of_its_root() {
        let place = roots().place("/var/lib/kubelet/pods/x/").unwrap();
        assert_eq!(place, Place { root: 0, below: "pods/x".into() });
        assert_eq!(roots().place("/data/kubelet/pods/x").unwrap(), place);
        assert_eq!(roots().path(&place).unwrap().as_str(), "/data/kubelet/pods/x");
        assert_eq!(place.split(), ("pods", "x"));
    }

    #[test]
    fn what_is_not_plain_or_not_beneath_is_refused() {
        for bad in [
            "",
            "relative",
            "/var/lib/kubelet/../../etc",
            "/var/lib/kubelet/./x",
            "/var/lib/kubelet//x",
            "/etc/x",
            "/mnt",
            "/mnt/own/x",
            "/mnt/own",
            "/mnt/a\0b",
            "/mntx/y",
        ] {
            assert!(roots().place(bad).is_err(), "{bad}");
        }
        assert!(roots().place("/mnt/owner").is_ok());
        let above = Root { spelled: HostPath::parse("/").unwrap(), real: HostPath::parse("/").unwrap(), kept: Vec::new() };
        let nested = Roots::new(roots().iter().cloned().chain([above]).collect());
        assert!(nested.place("/mnt/own/x").is_err() && nested.place("/etc/x").is_ok());
        assert!(matches!(HostPath::parse(&format!("/{}", "a".repeat(4096))), Err(PathError::TooLong(4097))));
    }
}
