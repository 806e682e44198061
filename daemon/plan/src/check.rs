//! Checks a plugin's attach plan against the operator's grants and the controller's word. Nothing has been touched yet.

use crate::attach::{AttachPlan, Content, Filesystem, Source};
use crate::capability::{Access, Capability, FilesystemKind};
use crate::effect::is_file_name;
use crate::failure::{Failure, Reason};
use crate::grants::Grants;
use crate::paths::HostPath;
use crate::request::Context;

/// The key of volume_context by which a node knows that a plan shows what the controller made. Written by the daemon's controller
/// side alone; a plugin that sets a key with this prefix is refused.
pub const SOURCE_KEY: &str = "windlass.io/source";

/// The prefix of the keys that are the daemon's own.
pub const OWN_PREFIX: &str = "windlass.io/";

/// A plan that passed: paths of the operator's in place of names, and everything a step needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedPlan {
    /// Where the bytes are.
    pub source: CheckedSource,
    /// How the volume came into being.
    pub content: Content,
    /// For a mounted volume; `None` for a raw one.
    pub filesystem: Option<Filesystem>,
    /// `windlass.io/source` names this very source: Windlass's controller made it for this volume.
    pub is_ours: bool,
}

/// A source with the operator's values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckedSource {
    /// A file in a granted folder.
    File {
        /// The folder's path, from the grant.
        folder: HostPath,
        /// The file's name.
        name: String,
    },
}

/// Checks `plan` for a volume that is to be used as `capability` says.
pub fn check(plan: &AttachPlan, grants: &Grants, volume_context: &Context, capability: &Capability) -> Result<CheckedPlan, Failure> {
    let source = check_source(&plan.source, grants)?;
    let is_ours = check_ownership(&plan.source, grants, volume_context)?;
    Ok(CheckedPlan { source, content: plan.content, filesystem: check_filesystem(plan, capability)?, is_ours })
}

/// Puts the operator's values in the place of a source's names. Says nothing of whose the source is.
pub fn check_source(source: &Source, grants: &Grants) -> Result<CheckedSource, Failure> {
    match source {
        Source::File { folder, name } => {
            let Some(path) = grants.files.get(folder) else {
                let shown: String = folder.chars().filter(|c| !c.is_control()).take(64).collect();
                return Err(Failure::new(
                    Reason::NotGranted,
                    format!(
                        "the plugin's plan names the folder {shown:?}, which the driver was not granted; grants are in `[grants.files]` of its drivers.d file"
                    ),
                ));
            };
            if !is_file_name(name) {
                return Err(Failure::new(Reason::NotGranted, "the plugin's plan names a file that is not one plain component"));
            }
            Ok(CheckedSource::File { folder: path.clone(), name: name.clone() })
        }
    }
}

fn check_ownership(source: &Source, grants: &Grants, volume_context: &Context) -> Result<bool, Failure> {
    match volume_context.get(SOURCE_KEY) {
        Some(made) if *made == source.to_string() => Ok(true),
        Some(_) => Err(Failure::new(
            Reason::NotOurs,
            format!("the plugin's plan shows another source than the one that was made for this volume (`{SOURCE_KEY}` in volume_context)"),
        )),
        None if grants.is_static_allowed => Ok(false),
        None => Err(Failure::new(
            Reason::NotOurs,
            format!(
                "volume_context has no `{SOURCE_KEY}`, so this volume was not made by Windlass; `static = true` in the driver's grants allows such volumes"
            ),
        )),
    }
}

fn check_filesystem(plan: &AttachPlan, capability: &Capability) -> Result<Option<Filesystem>, Failure> {
    let Access::Mount(wish) = &capability.access else { return Ok(None) };
    let planned = plan.filesystem.clone().unwrap_or(Filesystem { kind: wish.filesystem.unwrap_or(FilesystemKind::Ext4), label: None });
    if let Some(asked) = wish.filesystem
        && asked != planned.kind
    {
        return Err(Failure::new(Reason::Incompatible, format!("{asked} was asked for, and the driver's plan says {}", planned.kind)));
    }
    let is_label =
        |label: &String| (1..=12).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)) && !label.starts_with('-');
    if planned.label.as_ref().is_some_and(|label| !is_label(label)) {
        return Err(Failure::new(Reason::NotGranted, "the plugin's plan has a label that is not 1 to 12 letters, digits, `-` or `_`"));
    }
    Ok(Some(planned))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{AccessMode, MountWish};

    fn mount(filesystem: Option<FilesystemKind>) -> Capability {
        Capability { access: Access::Mount(MountWish { filesystem, ..MountWish::default() }), mode: AccessMode::SingleNodeWriter }
    }
    fn plan(folder: &str, name: &str, label: Option<&str>) -> AttachPlan {
        AttachPlan {
            source: Source::File { folder: folder.into(), name: name.into() },
            content: Content::Blank,
            filesystem: Some(Filesystem { kind: FilesystemKind::Ext4, label: label.map(str::to_owned) }),
        }
    }
    fn grants(is_static_allowed: bool) -> Grants {
        Grants { files: [("volumes".to_owned(), HostPath::parse("/srv/v").unwrap())].into(), is_static_allowed }
    }
    fn made(source: &str) -> Context {
        [(SOURCE_KEY.to_owned(), source.to_owned())].into()
    }

    #[test]
    fn a_plan_shows_what_was_made_and_nothing_else() {
        let check =
            |plan: &AttachPlan, context: &Context, is_static| check(plan, &grants(is_static), context, &mount(None)).map(|c| c.is_ours).map_err(|f| f.reason);
        assert_eq!(check(&plan("volumes", "a", None), &made("file:volumes/a"), false), Ok(true));
        assert_eq!(check(&plan("volumes", "b", None), &made("file:volumes/a"), true), Err(Reason::NotOurs));
        assert_eq!(check(&plan("volumes", "a", None), &Context::new(), false), Err(Reason::NotOurs));
        assert_eq!(check(&plan("volumes", "a", None), &Context::new(), true), Ok(false));
        assert_eq!(check(&plan("elsewhere", "a", None), &made("file:elsewhere/a"), false), Err(Reason::NotGranted));
        for name in ["..", ".", "", "a/b", "../a", ".hidden", "a\0"] {
            assert_eq!(check(&plan("volumes", name, None), &made(&format!("file:volumes/{name}")), true), Err(Reason::NotGranted), "{name:?}");
        }
        for label in ["", "-L", "a b", "thirteen-long", "a,b"] {
            assert_eq!(check(&plan("volumes", "a", Some(label)), &made("file:volumes/a"), false), Err(Reason::NotGranted), "{label:?}");
        }
    }

    #[test]
    fn the_request_chooses_the_file_system() {
        let p = plan("volumes", "a", None);
        let of = |wish| check(&p, &grants(false), &made("file:volumes/a"), &mount(wish)).map(|c| c.filesystem.unwrap().kind).map_err(|f| f.reason);
        assert_eq!(of(None), Ok(FilesystemKind::Ext4));
        assert_eq!(of(Some(FilesystemKind::Xfs)), Err(Reason::Incompatible));
    }
}
