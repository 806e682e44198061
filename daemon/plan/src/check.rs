//! Checks a plugin's attach plan against the operator's grants and the controller's word. Nothing has been touched yet.

use crate::attach::{AttachPlan, Content, Filesystem, RbdSource, Source};
use crate::capability::{Access, Capability, FilesystemKind};
use crate::effect::is_file_name;
use crate::failure::{Failure, Reason};
use crate::grants::Grants;
use crate::lower::writable;
use crate::paths::HostPath;
use crate::rbd::{Hold, ImageIdentity, IoLimits, MapOptions, PoolAt, RbdName};
use crate::request::{Context, Secret, Secrets};
use crate::step::Writable;
use std::net::SocketAddr;

/// The key of volume_context by which a node knows that a plan shows what the controller made. Written by the daemon's controller
/// side alone; a plugin that sets a key with this prefix is refused.
pub const SOURCE_KEY: &str = "windlass.io/source";

/// The key of publish_context that holds which image ControllerPublishVolume found and locked ([`ImageIdentity`]).
pub const IMAGE_KEY: &str = "windlass.io/image";

/// The key of publish_context that says, if it is there, that no object of the image had ever been written. Its value is another with
/// each claim: a proof is good for one format that was begun, and says nothing of what came after.
pub const NEVER_WRITTEN_KEY: &str = "windlass.io/never-written";

/// The key of publish_context that says for which use the image was locked ([`Hold::name`]).
pub const HOLD_KEY: &str = "windlass.io/hold";

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
    /// An image that the controller found and locked for this node.
    Image(Box<CheckedImage>),
}

/// See [`CheckedSource::Image`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedImage {
    /// The cluster's monitors, from the grant.
    pub monitors: Vec<SocketAddr>,
    /// The pool.
    pub at: PoolAt,
    /// The image's name.
    pub image: RbdName,
    /// Who it must turn out to be.
    pub identity: ImageIdentity,
    /// The controller's proof that it was never written, by the number of the claim that proved it.
    pub never_written: Option<String>,
    /// Who maps it.
    pub user: RbdName,
    /// How.
    pub options: MapOptions,
}

impl CheckedImage {
    /// The controller proved that no object of it had ever been written.
    pub fn is_never_written(&self) -> bool {
        self.never_written.is_some()
    }
}

impl CheckedSource {
    /// The proof of blankness that came with the request, if one did.
    pub fn proof(&self) -> Option<&str> {
        match self {
            Self::Image(image) => image.never_written.as_deref(),
            Self::File { .. } => None,
        }
    }
}

/// What of a request a plan is checked against.
#[derive(Clone, Copy)]
pub struct Told<'a> {
    /// From CreateVolume.
    pub volume_context: &'a Context,
    /// From ControllerPublishVolume.
    pub publish_context: &'a Context,
    /// Of the call.
    pub secrets: &'a Secrets,
}

/// Checks `plan` for a volume that is to be used as `capability` says.
pub fn check(plan: &AttachPlan, grants: &Grants, told: Told<'_>, capability: &Capability) -> Result<CheckedPlan, Failure> {
    let source = check_source(&plan.source, grants, told)?;
    let is_ours = check_ownership(&plan.source, grants, told.volume_context)?;
    check_hold(&source, told, capability)?;
    Ok(CheckedPlan { source, content: plan.content, filesystem: check_filesystem(plan, capability)?, is_ours })
}

/// Puts the operator's and the caller's values in the place of a source's names. Says nothing of whose the source is.
pub fn check_source(source: &Source, grants: &Grants, told: Told<'_>) -> Result<CheckedSource, Failure> {
    match source {
        Source::File { folder, name } => check_file(folder, name, grants),
        Source::Rbd(rbd) => check_image(rbd, grants, told).map(|image| CheckedSource::Image(Box::new(image))),
    }
}

fn check_file(folder: &str, name: &str, grants: &Grants) -> Result<CheckedSource, Failure> {
    let Some(path) = grants.files.get(folder) else {
        let shown: String = folder.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(Failure::new(
            Reason::NotGranted,
            format!("the plugin's plan names the folder {shown:?}, which the driver was not granted; grants are in `[grants.files]` of its drivers.d file"),
        ));
    };
    if !is_file_name(name) {
        return Err(Failure::new(Reason::NotGranted, "the plugin's plan names a file that is not one plain component"));
    }
    Ok(CheckedSource::File { folder: path.clone(), name: name.to_owned() })
}

fn check_image(rbd: &RbdSource, grants: &Grants, told: Told<'_>) -> Result<CheckedImage, Failure> {
    let grant = grants.pool(&rbd.at.cluster, &rbd.at.at).map_err(|ungranted| Failure::new(Reason::NotGranted, format!("the plugin's plan: {ungranted}")))?;
    check_options(&rbd.options)?;
    let Some(proven) = told.publish_context.get(IMAGE_KEY) else {
        return Err(Failure::new(
            Reason::NoProof,
            format!("publish_context has no `{IMAGE_KEY}`: ControllerPublishVolume comes first, finds the image and locks it for this node"),
        ));
    };
    let identity = ImageIdentity::parse(proven)
        .ok_or_else(|| Failure::new(Reason::BadArgument, format!("`{IMAGE_KEY}` in publish_context is not what ControllerPublishVolume returned")))?;
    let user = secret(told.secrets, &rbd.credentials.user)?;
    let user = RbdName::parse(user.reveal())
        .map_err(|problem| Failure::new(Reason::BadArgument, format!("the secret `{}` is not a Ceph user: {problem}", rbd.credentials.user)))?;
    let key = secret(told.secrets, &rbd.credentials.key)?;
    if !is_key(key.reveal()) {
        return Err(Failure::new(
            Reason::BadArgument,
            format!("the secret `{}` is not a Ceph key, which is base64 as `ceph auth get-key` prints it", rbd.credentials.key),
        ));
    }
    Ok(CheckedImage {
        monitors: grant.monitors.clone(),
        at: rbd.at.at.clone(),
        image: rbd.at.image.clone(),
        identity,
        never_written: told.publish_context.get(NEVER_WRITTEN_KEY).filter(|proof| !proof.is_empty()).cloned(),
        user,
        options: rbd.options.clone(),
    })
}

/// A secret of the call by the name that a plugin gave. What is missing is named; what there is, is not shown.
pub fn secret(secrets: &Secrets, name: &str) -> Result<Secret, Failure> {
    secrets.get(name).filter(|secret| !secret.reveal().is_empty()).ok_or_else(|| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        Failure::new(Reason::BadArgument, format!("the secret `{shown}` is missing; the driver needs it for this call (`secrets`)"))
    })
}

/// base64, as Ceph prints keys; nothing that could end an option of the kernel's.
fn is_key(key: &str) -> bool {
    (16..=256).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))
}

/// What was locked for readers is not written to (law 12).
fn check_hold(source: &CheckedSource, told: Told<'_>, capability: &Capability) -> Result<(), Failure> {
    let is_for_readers = told.publish_context.get(HOLD_KEY).is_none_or(|hold| hold == Hold::Reader.name());
    if matches!(source, CheckedSource::Image(_)) && is_for_readers && writable(capability) == Writable::ReadWrite {
        return Err(Failure::new(
            Reason::SecondWriter,
            format!("ControllerPublishVolume gave the volume to this node for reading (`{HOLD_KEY}` in publish_context), and it is to be staged for writing"),
        ));
    }
    Ok(())
}

fn check_options(options: &MapOptions) -> Result<(), Failure> {
    let refuse = |what: &str| Err(Failure::new(Reason::NotGranted, format!("the plugin's plan: {what}")));
    if options.crush_location.len() > 8 {
        return refuse("`crush-location` has more than 8 levels");
    }
    if options.osd_request_timeout > 86_400 {
        return refuse("`osd-request-timeout` is more than a day");
    }
    if options.queue_depth != 0 && !(2..=4096).contains(&options.queue_depth) {
        return refuse("`queue-depth` is not between 2 and 4096");
    }
    if options.alloc_size != 0 && !(options.alloc_size.is_power_of_two() && (512..=32 << 20).contains(&options.alloc_size)) {
        return refuse("`alloc-size` is not a power of two between 512 and 33554432");
    }
    let IoLimits { read_iops, write_iops, read_rate, write_rate } = options.limits;
    if [read_iops, write_iops].iter().any(|limit| (1..IoLimits::LEAST_IOPS).contains(limit)) {
        return refuse("`limits` has less than 10 reads or writes a second; 0 is no limit");
    }
    if [read_rate, write_rate].iter().any(|limit| (1..IoLimits::LEAST_RATE).contains(limit)) {
        return refuse("`limits` has less than 65536 bytes a second; 0 is no limit");
    }
    Ok(())
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
        Grants { files: [("volumes".to_owned(), HostPath::parse("/srv/v").unwrap())].into(), is_static_allowed, ..Grants::default() }
    }
    fn made(source: &str) -> Context {
        [(SOURCE_KEY.to_owned(), source.to_owned())].into()
    }

    fn told(volume_context: &Context) -> Told<'_> {
        Told { volume_context, publish_context: volume_context, secrets: Box::leak(Box::default()) }
    }

    #[test]
    fn a_plan_shows_what_was_made_and_nothing_else() {
        let check = |plan: &AttachPlan, context: &Context, is_static| {
            check(plan, &grants(is_static), told(context), &mount(None)).map(|c| c.is_ours).map_err(|f| f.reason)
        };
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
        let of = |wish| check(&p, &grants(false), told(&made("file:volumes/a")), &mount(wish)).map(|c| c.filesystem.unwrap().kind).map_err(|f| f.reason);
        assert_eq!(of(None), Ok(FilesystemKind::Ext4));
        assert_eq!(of(Some(FilesystemKind::Xfs)), Err(Reason::Incompatible));
    }
}
