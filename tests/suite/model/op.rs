//! What may be done: few names, few paths, few ways of use, so that calls meet each other often.

use proptest::prelude::*;
use windlass_csi::v1::VolumeCapability;
use windlass_csi::v1::volume_capability::access_mode::Mode;

/// Names of volumes.
pub(super) const NAMES: usize = 3;
/// Staging paths, which all volumes share.
pub(super) const STAGES: usize = 2;
/// Target paths, which all volumes share.
pub(super) const TARGETS: usize = 3;

/// Sizes in MiB.
const SIZES: [u64; 3] = [16, 24, 32];

/// A block device or a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Block,
    Mount,
}

/// How a volume is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Use {
    pub(super) access: Access,
    pub(super) mode: Mode,
}

impl Use {
    pub(super) fn is_reader(self) -> bool {
        self.mode == Mode::SingleNodeReaderOnly
    }

    /// A second target is allowed (the table under NodePublishVolume).
    pub(super) fn allows_many(self) -> bool {
        matches!(self.mode, Mode::SingleNodeMultiWriter | Mode::MultiNodeMultiWriter)
    }

    pub(super) fn is_multi_node(self) -> bool {
        self.mode == Mode::MultiNodeMultiWriter
    }

    pub(super) fn capability(self) -> VolumeCapability {
        match self.access {
            Access::Block => harness::block(self.mode),
            Access::Mount => harness::mount(self.mode),
        }
    }
}

/// Where a volume may be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    Stage(usize),
    Target(usize),
}

/// One call, or something that befalls the daemon.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Create {
        name: usize,
        usage: Use,
        mib: u64,
        is_exact: bool,
    },
    Delete {
        name: usize,
    },
    Validate {
        name: usize,
        usage: Use,
    },
    List {
        page: i32,
    },
    Expand {
        name: usize,
        mib: u64,
        is_exact: bool,
    },
    Stage {
        name: usize,
        stage: usize,
        usage: Use,
    },
    Unstage {
        name: usize,
        stage: usize,
    },
    Publish {
        name: usize,
        stage: Option<usize>,
        target: usize,
        usage: Use,
        is_read_only: bool,
        is_other_context: bool,
    },
    Unpublish {
        name: usize,
        target: usize,
    },
    Stats {
        name: usize,
        at: At,
    },
    Grow {
        name: usize,
        at: At,
        mib: Option<u64>,
    },
    /// SIGTERM, and a new daemon.
    Restart,
    /// kill -9, and a new daemon.
    Kill,
    /// kill -9, the journal is deleted, and a new daemon.
    LoseJournal,
}

/// What sequences are made of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Raw devices: no mkfs, so they are quick.
    Raw,
    /// Raw devices and ext4 on the same volumes.
    Mixed,
}

fn usage(kind: Kind) -> impl Strategy<Value = Use> {
    let mode = prop_oneof![4 => Just(Mode::SingleNodeWriter), 3 => Just(Mode::SingleNodeMultiWriter), 2 => Just(Mode::SingleNodeReaderOnly)];
    let mounts = match kind {
        Kind::Raw => 0.03,
        Kind::Mixed => 0.6,
    };
    (proptest::bool::weighted(mounts), mode).prop_map(|(is_mount, mode)| Use { access: if is_mount { Access::Mount } else { Access::Block }, mode })
}

/// Of the controller: a wish for many nodes, which the driver refuses, is among them.
fn wish(kind: Kind) -> impl Strategy<Value = Use> {
    (usage(kind), proptest::bool::weighted(0.05)).prop_map(|(usage, many)| if many { Use { mode: Mode::MultiNodeMultiWriter, ..usage } } else { usage })
}

fn at() -> impl Strategy<Value = At> {
    prop_oneof![(0..STAGES).prop_map(At::Stage), (0..TARGETS).prop_map(At::Target)]
}

fn name() -> impl Strategy<Value = usize> {
    // The first is used most, so that one volume's calls follow on each other.
    prop_oneof![4 => Just(0), 2 => Just(1), 1 => Just(NAMES - 1)]
}

fn stage() -> impl Strategy<Value = usize> {
    prop_oneof![4 => Just(0), 1 => 0..STAGES]
}

fn size() -> impl Strategy<Value = u64> {
    proptest::sample::select(&SIZES[..])
}

/// One call.
pub(super) fn op(kind: Kind) -> impl Strategy<Value = Op> {
    let is_exact = || proptest::bool::weighted(0.3);
    let rarely = || proptest::bool::weighted(0.15);
    prop_oneof![
        12 => (name(), wish(kind), size(), is_exact()).prop_map(|(name, usage, mib, is_exact)| Op::Create { name, usage, mib, is_exact }),
        5 => name().prop_map(|name| Op::Delete { name }),
        3 => (name(), wish(kind)).prop_map(|(name, usage)| Op::Validate { name, usage }),
        2 => (0..3).prop_map(|page| Op::List { page }),
        4 => (name(), size(), is_exact()).prop_map(|(name, mib, is_exact)| Op::Expand { name, mib, is_exact }),
        18 => (name(), stage(), usage(kind)).prop_map(|(name, stage, usage)| Op::Stage { name, stage, usage }),
        9 => (name(), stage()).prop_map(|(name, stage)| Op::Unstage { name, stage }),
        20 => (name(), proptest::option::weighted(0.95, stage()), 0..TARGETS, usage(kind), rarely(), rarely()).prop_map(
            |(name, stage, target, usage, is_read_only, is_other_context)| Op::Publish { name, stage, target, usage, is_read_only, is_other_context }
        ),
        11 => (name(), 0..TARGETS).prop_map(|(name, target)| Op::Unpublish { name, target }),
        4 => (name(), at()).prop_map(|(name, at)| Op::Stats { name, at }),
        4 => (name(), at(), proptest::option::of(size())).prop_map(|(name, at, mib)| Op::Grow { name, at, mib }),
        1 => prop_oneof![Just(Op::Restart), Just(Op::Kill), Just(Op::LoseJournal)],
    ]
}
