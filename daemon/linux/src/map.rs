//! Maps an image by the kernel's RBD client: marked with the volume's key, and compared with the image that the controller proved.

use crate::device::{DeviceError, Held};
use crate::krbd;
use crate::mark;
use crate::program::{self, ProgramError, Tools};
use crate::sys::KernelKey;
use crate::words;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::ids::VolumeKey;
use windlass_plan::rbd::{ImageIdentity, MapOptions, MsMode, ReadFrom};
use windlass_plan::request::Secret;
use windlass_plan::step::{Backing, MapImage, Writable};

/// Seconds that the kernel tries to reach the monitors. Less than what callers wait, so that they hear the reason.
const MOUNT_TIMEOUT: u32 = 30;

const LOADING: Duration = Duration::from_secs(30);

/// The monitors' ports for the two versions of the protocol.
const MSGR1: u16 = 6789;
const MSGR2: u16 = 3300;

/// An image that cannot be mapped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    #[error("the kernel has no RBD client, and the module `rbd` cannot be loaded")]
    NoClient(#[source] ProgramError),
    #[error("the kernel has no RBD client: `modprobe rbd` changed nothing")]
    StillNoClient,
    #[error("the key of the Ceph user was not given with the call")]
    NoKey,
    #[error("the kernel does not take the key of the Ceph user {user}; a key is base64, as `ceph auth get-key` prints it")]
    Key {
        user: String,
        #[source]
        source: io::Error,
    },
    #[error("the image {image} is mapped as /dev/{device} already, by somebody else")]
    Elsewhere { image: String, device: String },
    #[error("/dev/{device} is mapped {is}, and {wanted} is asked for; unstage the volume first")]
    OtherMode { device: String, is: &'static str, wanted: &'static str },
    #[error("/dev/{device} shows the image {found}, and ControllerPublishVolume found {wanted}: the image was replaced")]
    OtherImage { device: String, found: String, wanted: ImageIdentity },
    #[error("the image {image} does not exist in the cluster")]
    Missing { image: String },
    #[error("the cluster does not let the Ceph user {user} map {image}: its key is wrong, or it may not")]
    Denied { user: String, image: String },
    #[error("the image {image} is held by another client, which must let go of it first")]
    Held { image: String },
    #[error("this kernel does not know a feature of the image {image}, or a map option ({options}); `dmesg` says which")]
    Unknown { image: String, options: String },
    #[error("this node is on the cluster's blocklist; its other volumes of this cluster do not work either, until they are all unstaged")]
    Blocklisted,
    #[error("the kernel cannot map the image {image}")]
    Kernel {
        image: String,
        #[source]
        source: io::Error,
    },
    #[error("the kernel mapped the image {image}, and no device of it shows")]
    Unseen { image: String },
    #[error("cannot read what the kernel has mapped")]
    Mappings {
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        let reason = match error {
            MapError::Device(error) => return error.into(),
            MapError::NoClient(_) | MapError::StillNoClient | MapError::Unknown { .. } => Reason::MissingPrivilege,
            MapError::NoKey => Reason::BadArgument,
            MapError::Key { ref source, .. } => match source.raw_os_error() {
                Some(libc::EINVAL) => Reason::BadArgument,
                _ => words::reason(source),
            },
            MapError::Elsewhere { .. } | MapError::Held { .. } => Reason::InUse,
            MapError::OtherMode { .. } => Reason::Incompatible,
            MapError::OtherImage { .. } => Reason::IdentityChanged,
            MapError::Missing { .. } => Reason::SourceMissing,
            MapError::Denied { .. } => Reason::Denied,
            MapError::Blocklisted | MapError::Kernel { .. } | MapError::Unseen { .. } | MapError::Mappings { .. } => Reason::Io,
        };
        words::failure(reason, &error)
    }
}

/// Maps the image, or finds that it is mapped.
pub(crate) fn map(volume: VolumeKey, wish: &MapImage, key: Option<Secret>, tools: &Tools, lock: &File) -> Result<Held, MapError> {
    load(tools, lock)?;
    if let Some(held) = find(volume, wish)? {
        return take_up(held, wish);
    }
    let key = key.ok_or(MapError::NoKey)?;
    let description = krbd::description(volume);
    let given = give(&description, &key).map_err(|source| MapError::Key { user: wish.user.to_string(), source })?;
    let added = match krbd::add(&line(wish, &description, false)) {
        // Images share one client. Once the cluster has shut that out, the kernel maps nothing more with it until all are unmapped; a
        // client of its own may be let in.
        Err(error) if error.raw_os_error() == Some(libc::ESHUTDOWN) => {
            tracing::warn!(image = %spelled(wish), "the cluster has shut this node's client out: other volumes of this cluster have stopped working here");
            krbd::add(&line(wish, &description, true))
        }
        added => added,
    };
    drop(given);
    added.map_err(|source| refused(wish, source))?;
    let mut held = Held::only(volume).map_err(|error| match error {
        DeviceError::None => MapError::Unseen { image: spelled(wish) },
        other => other.into(),
    })?;
    held.is_fresh = true;
    let held = take_up(held, wish)?;
    // Looked at again now that ours shows: somebody may have mapped it at the same time, and of two who look after that one at least sees
    // the other. Undoing the step takes ours away, which nobody has used yet.
    find(volume, wish)?;
    Ok(held)
}

/// Gives the key to the kernel in the form that `ceph_crypto_key_decode` reads: what the base64 of Ceph's tools stands for.
fn give(description: &str, key: &Secret) -> io::Result<KernelKey> {
    let bytes = STANDARD.decode(key.reveal()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    KernelKey::add(c"ceph", &CString::new(description)?, &bytes)
}

/// Loads the client, once a boot, where it is a module. One major number for all images leaves room for thousands of them.
fn load(tools: &Tools, lock: &File) -> Result<(), MapError> {
    if krbd::is_there() {
        return Ok(());
    }
    program::run(&tools.modprobe, &["rbd", "single_major=Y"], &tools.cgroups, lock, LOADING)
        .and_then(|ended| ended.expect(|code| code == 0))
        .map_err(MapError::NoClient)?;
    if krbd::is_there() { Ok(()) } else { Err(MapError::StillNoClient) }
}

/// The volume's device. The image mapped by anybody else on this node, for writing there or here: two caches of one disk.
fn find(volume: VolumeKey, wish: &MapImage) -> Result<Option<Held>, MapError> {
    let mut found = None;
    for id in krbd::ids().map_err(|source| MapError::Mappings { source })? {
        let name = krbd::name_of(id);
        if krbd::mark_of(id) == Some(volume) {
            let Some(held) = Held::open(&name, volume)? else { continue };
            if let Some(Held { device: first, .. }) = found.replace(held) {
                return Err(DeviceError::Several { count: 2, names: format!("{}, {name}", first.name) }.into());
            }
        } else if krbd::identity_of(id).is_ok_and(|identity| identity == wish.identity) && !(wish.writable == Writable::ReadOnly && is_read_only(&name)) {
            return Err(MapError::Elsewhere { image: spelled(wish), device: name });
        }
    }
    Ok(found)
}

fn is_read_only(name: &str) -> bool {
    std::fs::read_to_string(format!("/sys/block/{name}/ro")).is_ok_and(|text| text.trim() == "1")
}

/// Compares the device with what was proven (law 6), and with how it is wanted.
fn take_up(held: Held, wish: &MapImage) -> Result<Held, MapError> {
    if held.device.backing != Backing::Image(wish.identity.clone()) {
        return Err(MapError::OtherImage { device: held.device.name, found: held.device.backing.to_string(), wanted: wish.identity.clone() });
    }
    let word = |is_read_only| if is_read_only { "read-only" } else { "writable" };
    let wanted = wish.writable == Writable::ReadOnly;
    if held.device.is_read_only != wanted {
        return Err(MapError::OtherMode { device: held.device.name, is: word(!wanted), wanted: word(wanted) });
    }
    if mark::number_of(&held.device.name) != Some(held.number()) {
        return Err(DeviceError::Changed { name: held.device.name }.into());
    }
    Ok(held)
}

/// What is written to map the image: `MONITORS OPTIONS POOL IMAGE SNAPSHOT`. No part of it can hold a blank or a comma of its own.
fn line(wish: &MapImage, description: &str, is_alone: bool) -> String {
    let mode = wish.options.ms_mode.unwrap_or(MsMode::Legacy);
    let monitors: Vec<String> = wish.monitors.iter().map(|monitor| spoken_to(*monitor, mode).to_string()).collect();
    let mut options = format!("name={},key={description},mount_timeout={MOUNT_TIMEOUT}", wish.user);
    if let Some(namespace) = &wish.at.namespace {
        let _ = write!(options, ",_pool_ns={namespace}");
    }
    if wish.writable == Writable::ReadOnly {
        options.push_str(",ro");
    }
    if is_alone {
        options.push_str(",noshare");
    }
    add_options(&mut options, &wish.options);
    format!("{} {options} {} {} -", monitors.join(","), wish.at.pool, wish.image)
}

fn add_options(to: &mut String, options: &MapOptions) {
    if let Some(mode) = options.ms_mode {
        let _ = write!(to, ",ms_mode={}", mode.name());
    }
    match options.read_from {
        None => {}
        Some(ReadFrom::Primary) => to.push_str(",read_from_replica=no"),
        Some(ReadFrom::Balance) => to.push_str(",read_from_replica=balance"),
        Some(ReadFrom::Localize) => to.push_str(",read_from_replica=localize"),
    }
    if !options.crush_location.is_empty() {
        let places: Vec<String> = options.crush_location.iter().map(|(kind, name)| format!("{kind}:{name}")).collect();
        let _ = write!(to, ",crush_location={}", places.join("|"));
    }
    for (name, value) in [("osd_request_timeout", options.osd_request_timeout), ("queue_depth", options.queue_depth), ("alloc_size", options.alloc_size)] {
        if value != 0 {
            let _ = write!(to, ",{name}={value}");
        }
    }
}

/// A monitor's address in the version of the protocol that is spoken, where it listens at the well-known port of the other.
fn spoken_to(mut monitor: SocketAddr, mode: MsMode) -> SocketAddr {
    match (mode, monitor.port()) {
        (MsMode::Legacy, MSGR2) => monitor.set_port(MSGR1),
        (MsMode::Legacy, _) => {}
        (_, MSGR1) => monitor.set_port(MSGR2),
        (_, _) => {}
    }
    monitor
}

/// The kernel's numbers for what a cluster says.
fn refused(wish: &MapImage, source: io::Error) -> MapError {
    let image = spelled(wish);
    match source.raw_os_error() {
        Some(libc::ENOENT) => MapError::Missing { image },
        Some(libc::EPERM | libc::EACCES | libc::EKEYREJECTED) => MapError::Denied { user: wish.user.to_string(), image },
        Some(libc::EROFS | libc::EBUSY) => MapError::Held { image },
        Some(libc::ENXIO | libc::EINVAL | libc::EOPNOTSUPP) => {
            let mut options = String::new();
            add_options(&mut options, &wish.options);
            MapError::Unknown { image, options: if options.is_empty() { "none".to_owned() } else { options[1..].to_owned() } }
        }
        Some(libc::ESHUTDOWN) => MapError::Blocklisted,
        _ => MapError::Kernel { image, source },
    }
}

fn spelled(wish: &MapImage) -> String {
    format!("{}/{}", wish.at, wish.image)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_plan::rbd::{IoLimits, PoolAt, RbdName};

    fn name(text: &str) -> RbdName {
        RbdName::parse(text).unwrap()
    }

    fn wish(options: MapOptions) -> MapImage {
        MapImage {
            volume: VolumeKey::parse(&"ab".repeat(24)).unwrap(),
            monitors: vec!["10.0.0.1:6789".parse().unwrap(), "[fd00::1]:3300".parse().unwrap()],
            user: name("k8s"),
            at: PoolAt { pool: name("fast"), namespace: Some(name("team-a")) },
            image: name("csi-vol-1"),
            identity: ImageIdentity { fsid: "3b52f9ba-5b0c-4f3f-8b63-0a5c0e6d4d11".into(), pool: 2, image: "10226b8b4567".into() },
            options,
            writable: Writable::ReadWrite,
        }
    }

    #[test]
    fn the_order_to_the_kernel_is_spelled_as_it_reads_it() {
        assert_eq!(
            line(&wish(MapOptions::default()), "windlass:k", false),
            "10.0.0.1:6789,[fd00::1]:6789 name=k8s,key=windlass:k,mount_timeout=30,_pool_ns=team-a fast csi-vol-1 -"
        );
        let options = MapOptions {
            ms_mode: Some(MsMode::PreferCrc),
            read_from: Some(ReadFrom::Localize),
            crush_location: vec![(name("zone"), name("z1")), (name("rack"), name("r2"))],
            osd_request_timeout: 60,
            queue_depth: 256,
            alloc_size: 65536,
            limits: IoLimits { read_iops: 7, ..IoLimits::default() },
        };
        let mut wish = wish(options);
        wish.at.namespace = None;
        wish.writable = Writable::ReadOnly;
        assert_eq!(
            line(&wish, "windlass:k", true),
            "10.0.0.1:3300,[fd00::1]:3300 name=k8s,key=windlass:k,mount_timeout=30,ro,noshare,ms_mode=prefer-crc,read_from_replica=localize,\
             crush_location=zone:z1|rack:r2,osd_request_timeout=60,queue_depth=256,alloc_size=65536 fast csi-vol-1 -"
        );
    }

    #[test]
    fn each_refusal_of_the_kernel_has_its_reason() {
        for (number, reason) in [
            (libc::ENOENT, Reason::SourceMissing),
            (libc::EPERM, Reason::Denied),
            (libc::EROFS, Reason::InUse),
            (libc::ENXIO, Reason::MissingPrivilege),
            (libc::ESHUTDOWN, Reason::Io),
            (libc::ETIMEDOUT, Reason::Io),
        ] {
            let failure = Failure::from(refused(&wish(MapOptions::default()), io::Error::from_raw_os_error(number)));
            assert_eq!(failure.reason, reason, "{failure}");
            assert!(failure.text.contains("fast/team-a/csi-vol-1") || number == libc::ESHUTDOWN, "{failure}");
        }
    }
}
