//! What a storage vendor needs to write a Windlass driver: traits to implement, a macro to export it, builders, and a harness to test it.
//!
//! A driver is a type that implements [`NodeDriver`] (it says what a volume is on the node that is to have it), and
//! [`FileDriver`] or [`RbdDriver`] where it makes its volumes too, as files in folders or as images of Ceph clusters that the
//! operator grants. One macro turns it into a component: [`export_node_driver!`], [`export_file_driver!`] or
//! [`export_rbd_driver!`]. What the component exports decides what the daemon advertises, so there is no list of
//! capabilities to keep in step.
//!
//! A driver for volumes which exist already, in full:
//!
//! ```
//! use windlass_plugin_sdk::*;
//!
//! struct Disks;
//!
//! impl NodeDriver for Disks {
//!     fn describe() -> Description {
//!         Description::new("storage.example", "1.0.0").required_config("folder", "the granted folder that holds the images")
//!     }
//!
//!     fn attach(host: &Host<'_>, facts: &VolumeFacts) -> Result<AttachPlan, Refusal> {
//!         let folder = host.require("folder")?;
//!         let name = facts.volume_context.require("image")?;
//!         Ok(AttachPlan::file(folder, name).copy().formatted_for(&facts.capability, FilesystemKind::Ext4))
//!     }
//! }
//!
//! export_node_driver!(Disks);
//!
//! // In a test, without daemon, root or cluster:
//! let harness = Harness::new().config("folder", "images").folder("images", 1 << 30);
//! let facts = VolumeFacts::new("v1", Capability::mount(None)).context("image", "disk.img");
//! assert_eq!(harness.attach::<Disks>(&facts).unwrap().source, Source::file("images", "disk.img"));
//! ```
//!
//! The crate of a driver is a `cdylib` for the target `wasm32-wasip2`; `tools/guest build` of the Windlass repository makes a
//! component of it. Rust 1.85 is enough.
//!
//! **Units** are bytes everywhere. **Errors** are [`Refusal`]s: one case, one gRPC code; a panic is a trap, which the caller
//! sees as UNAVAILABLE and tries again. **State** there is none: every call gets a fresh instance, and `describe`, `probe`,
//! `attach` and `node_info` are pure, with fixed clocks and randomness.

mod answer;
#[doc(hidden)]
pub mod bindings;
mod capability;
mod context;
mod driver;
#[doc(hidden)]
pub mod export;
mod facts;
mod harness;
mod host;
mod images;
mod refusal;
mod sizes;

pub use answer::{AttachPlan, Content, Description, Expanded, Filesystem, Key, MapOptions, NodeInfo, Page, Room, Snapshot, SnapshotPage, Source, Volume};
pub use bindings::driver::windlass::plugin::log::Level;
pub use bindings::driver::windlass::plugin::types::{
    Access, AccessMode, Capability, CapacityRange, ContentSource, Credentials, FilesystemKind, RbdPool, Refusal,
};
pub use bindings::node::exports::windlass::plugin::node::{IoLimits, MsMode, ReadFrom};
pub use bindings::rbd::windlass::plugin::rbd::{Features, Hold, Holder, Striping};
pub use context::{Context, ORCHESTRATOR_PREFIX, Topology};
pub use driver::{FileCapacity, FileDriver, FileListing, FileSnapshotListing, FileSnapshots, NodeDriver, RbdDriver, RbdModification, RbdSnapshots};
pub use facts::{CapacityFacts, CreateFacts, NodeFacts, PublishFacts, SnapshotFacts, SnapshotFilter, TopologyRequirement, ValidateFacts, VolumeFacts};
pub use harness::Harness;
pub use host::{File, Files, Folder, Host};
pub use images::{Clusters, Image, ImageSnapshot, ImageWish, Images};
pub use sizes::Sizes;

/// Exports a [`NodeDriver`] as a component: `driver` and `node`. Once in a crate.
#[macro_export]
#[rustfmt::skip]
macro_rules! export_node_driver {
    ($driver:ty) => {
        const _: () = $crate::export::is_node_driver::<$driver>();
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::export::Exported<$driver>;
            $crate::bindings::driver::export_driver_part!(Exported with_types_in $crate::bindings::driver);
            $crate::bindings::node::export_node_part!(Exported with_types_in $crate::bindings::node);
        };
    };
}

/// Exports a [`FileDriver`] as a component: `driver`, `node` and `controller`, and of `listing` ([`FileListing`]), `capacity`
/// ([`FileCapacity`]), `snapshots` ([`FileSnapshots`]) and `snapshot_listing` ([`FileSnapshotListing`]) those that are named:
/// `export_file_driver!(Mine, listing, capacity)`. Once in a crate.
#[macro_export]
#[rustfmt::skip]
macro_rules! export_file_driver {
    (@check listing $driver:ty) => { const _: () = $crate::export::can_list::<$driver>(); };
    (@check capacity $driver:ty) => { const _: () = $crate::export::knows_its_room::<$driver>(); };
    (@check snapshots $driver:ty) => { const _: () = $crate::export::cuts_files::<$driver>(); };
    (@check snapshot_listing $driver:ty) => { const _: () = $crate::export::can_list_snapshots::<$driver>(); };
    (@export listing $of:ident) => { $crate::bindings::listing::export_listing_part!($of with_types_in $crate::bindings::listing); };
    (@export capacity $of:ident) => { $crate::bindings::capacity::export_capacity_part!($of with_types_in $crate::bindings::capacity); };
    (@export snapshots $of:ident) => { $crate::bindings::snapshots::export_snapshots_part!($of with_types_in $crate::bindings::snapshots); };
    (@export snapshot_listing $of:ident) => {
        $crate::bindings::snapshot_listing::export_snapshot_listing_part!($of with_types_in $crate::bindings::snapshot_listing);
    };
    ($driver:ty $(, $group:ident)*) => {
        const _: () = $crate::export::is_file_driver::<$driver>();
        $( $crate::export_file_driver!(@check $group $driver); )*
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::export::Exported<$driver>;
            type OfFiles = $crate::export::OfFiles<$driver>;
            $crate::bindings::driver::export_driver_part!(Exported with_types_in $crate::bindings::driver);
            $crate::bindings::node::export_node_part!(Exported with_types_in $crate::bindings::node);
            $crate::bindings::controller::export_controller_part!(OfFiles with_types_in $crate::bindings::controller);
            $( $crate::export_file_driver!(@export $group OfFiles); )*
        };
    };
}

/// Exports an [`RbdDriver`] as a component: `driver`, `node`, `controller` and `publishing`, and of `modification` ([`RbdModification`]) and
/// `snapshots` ([`RbdSnapshots`]) those that are named: `export_rbd_driver!(Mine, snapshots)`. Once in a crate.
#[macro_export]
#[rustfmt::skip]
macro_rules! export_rbd_driver {
    (@check modification $driver:ty) => { const _: () = $crate::export::modifies::<$driver>(); };
    (@export modification $of:ident) => { $crate::bindings::modification::export_modification_part!($of with_types_in $crate::bindings::modification); };
    (@check snapshots $driver:ty) => { const _: () = $crate::export::has_snapshots::<$driver>(); };
    (@export snapshots $of:ident) => { $crate::bindings::snapshots::export_snapshots_part!($of with_types_in $crate::bindings::snapshots); };
    ($driver:ty $(, $group:ident)*) => {
        const _: () = $crate::export::is_rbd_driver::<$driver>();
        $( $crate::export_rbd_driver!(@check $group $driver); )*
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::export::Exported<$driver>;
            type OfImages = $crate::export::OfImages<$driver>;
            $crate::bindings::driver::export_driver_part!(Exported with_types_in $crate::bindings::driver);
            $crate::bindings::node::export_node_part!(Exported with_types_in $crate::bindings::node);
            $crate::bindings::controller::export_controller_part!(OfImages with_types_in $crate::bindings::controller);
            $crate::bindings::publishing::export_publishing_part!(OfImages with_types_in $crate::bindings::publishing);
            $( $crate::export_rbd_driver!(@export $group OfImages); )*
        };
    };
}
