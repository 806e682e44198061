//! Lowers a checked plan to the steps of a stage, and a publish to its one step. Pure: what happens is all here to be read and tested.

use crate::capability::{Access, Capability, MountFlag, MountFlags};
use crate::check::{CheckedPlan, CheckedSource};
use crate::ids::VolumeKey;
use crate::paths::Place;
use crate::step::{AttachFile, Bind, MapImage, Mount, PlaceNode, Step, TargetKind, Writable};

/// The name under which a raw volume's node is placed in its staging folder.
pub const NODE_NAME: &str = "device";

/// Read-only in a capability: by the access mode, or by the flag `ro`.
pub fn writable(capability: &Capability) -> Writable {
    let is_flagged = matches!(&capability.access, Access::Mount(wish) if wish.flags.has(MountFlag::ReadOnly));
    if capability.mode.is_reader_only() || is_flagged { Writable::ReadOnly } else { Writable::ReadWrite }
}

/// The steps that stage a volume, in order. `Format` is among them for a mounted, writable volume: the engine does it on proof
/// only and leaves it out otherwise.
pub fn stage(volume: VolumeKey, plan: &CheckedPlan, capability: &Capability, staging: &Place) -> Vec<Step> {
    let writable = writable(capability);
    let attach = attach(volume, &plan.source, writable);
    let limit = match &plan.source {
        CheckedSource::Image(image) => Some(image.options.limits).filter(|limits| !limits.is_none()).map(Step::Limit),
        CheckedSource::File { .. } => None,
    };
    let (Access::Mount(wish), Some(filesystem)) = (&capability.access, &plan.filesystem) else {
        return [attach, Step::PlaceNode(PlaceNode { place: staging.join(NODE_NAME) })].into_iter().chain(limit).collect();
    };
    let kind = filesystem.kind;
    let is_never_written = matches!(&plan.source, CheckedSource::Image(image) if image.is_never_written());
    let mut steps = vec![attach, Step::Probe { is_never_written }];
    if writable == Writable::ReadWrite {
        steps.push(Step::Format(filesystem.clone()));
    }
    steps.push(Step::Check { kind, writable });
    steps.push(Step::Mount(Mount { place: staging.clone(), kind, flags: wish.flags.clone(), writable }));
    if writable == Writable::ReadWrite {
        steps.push(Step::Grow { place: staging.clone(), kind });
    }
    steps.extend(limit);
    steps
}

fn attach(volume: VolumeKey, source: &CheckedSource, writable: Writable) -> Step {
    match source {
        CheckedSource::File { folder, name } => Step::AttachFile(AttachFile { volume, folder: folder.clone(), name: name.clone(), writable }),
        CheckedSource::Image(image) => Step::MapImage(MapImage {
            volume,
            monitors: image.monitors.clone(),
            user: image.user.clone(),
            at: image.at.clone(),
            image: image.image.clone(),
            identity: image.identity.clone(),
            options: image.options.clone(),
            writable,
        }),
    }
}

/// Where a volume is to be seen at its staging path: the folder itself, or the node in it.
pub fn staged_at(access: &Access, staging: &Place) -> Place {
    match access {
        Access::Mount(_) => staging.clone(),
        Access::Block => staging.join(NODE_NAME),
    }
}

/// The one step that publishes a staged volume.
pub fn publish(capability: &Capability, staging: &Place, target: &Place, readonly: Writable) -> Step {
    let (kind, flags) = match &capability.access {
        Access::Mount(wish) => (TargetKind::Folder, wish.flags.clone()),
        Access::Block => (TargetKind::File, MountFlags::default()),
    };
    let writable = if writable(capability) == Writable::ReadOnly { Writable::ReadOnly } else { readonly };
    Step::Bind(Bind { from: staged_at(&capability.access, staging), to: target.clone(), kind, flags, writable })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::{Content, Filesystem};
    use crate::capability::{AccessMode, FilesystemKind, MountWish};
    use crate::ids::{DriverName, VolumeId};
    use crate::paths::HostPath;

    fn names(access: Access, mode: AccessMode) -> Vec<&'static str> {
        let key = VolumeKey::derive("", &DriverName::parse("d").unwrap(), &VolumeId::parse("v").unwrap());
        let plan = CheckedPlan {
            source: CheckedSource::File { folder: HostPath::parse("/srv").unwrap(), name: "v".into() },
            content: Content::Blank,
            filesystem: matches!(access, Access::Mount(_)).then_some(Filesystem { kind: FilesystemKind::Xfs, label: None }),
            is_ours: true,
        };
        let place = Place { root: 0, below: "s".into() };
        stage(key, &plan, &Capability { access, mode }, &place).iter().map(Step::name).collect()
    }

    #[test]
    fn the_steps_of_a_stage() {
        let mount = || Access::Mount(MountWish::default());
        assert_eq!(names(mount(), AccessMode::SingleNodeWriter), ["attach", "probe", "format", "check", "mount", "grow"]);
        assert_eq!(names(mount(), AccessMode::SingleNodeReaderOnly), ["attach", "probe", "check", "mount"]);
        assert_eq!(names(Access::Block, AccessMode::SingleNodeWriter), ["attach", "place-node"]);
    }
}
