//! The walls around a role: what a process takes away from itself before it looks at anything that a stranger wrote.
//!
//! There is no mount namespace among them. A copy of the mount table would hold every volume mounted on the node for as long as the
//! plugin process lives; instead nothing can be opened at all: landlock without a rule, and a seccomp filter without `open`.

mod landlock;
mod seccomp;

use crate::sys;
use caps::CapSet;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, geteuid, setgroups, setresgid, setresuid};
use windlass_plan::failure::{Failure, Reason};
use windlass_plan::paths::HostPath;

pub(crate) use seccomp::Filter;

/// Why a wall could not be put up.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// Inherited descriptors stay open.
    #[error("inherited descriptors cannot be closed")]
    Descriptors(#[source] std::io::Error),
    /// A resource limit.
    #[error("the limit {limit} cannot be set")]
    Limit {
        /// Which.
        limit: &'static str,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// Namespaces, although the process was to become another user.
    #[error("no namespaces of its own; the daemon needs CAP_SYS_ADMIN for this")]
    Namespaces(#[source] nix::Error),
    /// User, group or supplementary groups.
    #[error("cannot become user {uid}; the daemon needs CAP_SETUID and CAP_SETGID for this")]
    Identity {
        /// Who it was to be.
        uid: u32,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// A set of capabilities.
    #[error("capabilities cannot be dropped from the {set} set (the bounding set needs CAP_SETPCAP)")]
    Capabilities {
        /// Which set.
        set: &'static str,
        /// Why.
        #[source]
        source: caps::errors::CapsError,
    },
    /// A process attribute set by `prctl`.
    #[error("the process attribute {attribute} cannot be set")]
    Attribute {
        /// Which.
        attribute: &'static str,
        /// Why.
        #[source]
        source: nix::Error,
    },
    /// Landlock refused the rules (a kernel without it is not an error).
    #[error("landlock rules cannot be set")]
    Landlock(#[source] ::landlock::RulesetError),
    /// A filter for this processor could not be made.
    #[error("the seccomp filter cannot be made")]
    Filter(#[source] seccompiler::BackendError),
    /// The kernel took no filter.
    #[error("the seccomp filter cannot be installed")]
    Seccomp(#[source] seccompiler::Error),
}

impl From<WallError> for Failure {
    fn from(error: WallError) -> Self {
        let causes: Vec<String> = std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source()).map(ToString::to_string).collect();
        Failure::new(Reason::MissingPrivilege, causes.join(": "))
    }
}

/// Resource limits of a role.
pub(crate) struct Room {
    /// Descriptors.
    pub(crate) files: u64,
    /// Bytes that may be written to one file (a memfd is one).
    pub(crate) file_size: u64,
    /// Bytes of writable memory.
    pub(crate) data: u64,
    /// Seconds of CPU; `None` for a process that serves.
    pub(crate) cpu: Option<u64>,
}

/// Puts up every wall that needs no knowledge of the component, in an order in which none hinders the next. Single-threaded.
///
/// Descriptors from `keep` on are closed. Returns what could not be had. With a `uid` the caller is root, and there only landlock
/// may be missing: the oldest kernels have none, or do not switch it on.
pub(crate) fn shut_in(uid: Option<u32>, keep: u32, room: &Room, filter: Filter) -> Result<Vec<String>, WallError> {
    let mut missing = Vec::new();
    sys::close_from(keep).map_err(WallError::Descriptors)?;
    limit(Resource::RLIMIT_CORE, "core", 0)?;
    limit(Resource::RLIMIT_NOFILE, "nofile", room.files)?;
    limit(Resource::RLIMIT_FSIZE, "fsize", room.file_size)?;
    limit(Resource::RLIMIT_DATA, "data", room.data)?;
    limit(Resource::RLIMIT_MEMLOCK, "memlock", 0)?;
    limit(Resource::RLIMIT_MSGQUEUE, "msgqueue", 0)?;
    if let Some(seconds) = room.cpu {
        // The soft limit below the hard one: SIGXCPU says why, SIGKILL would not.
        setrlimit(Resource::RLIMIT_CPU, seconds, seconds + 2).map_err(|source| WallError::Limit { limit: "cpu", source })?;
    }
    missing.extend(own_namespaces(uid)?);
    let bounding = caps::clear(None, CapSet::Bounding);
    if let Some(uid) = uid {
        bounding.map_err(|source| WallError::Capabilities { set: "bounding", source })?;
        become_user(uid).map_err(|source| WallError::Identity { uid, source })?;
    } else if bounding.is_err() {
        // Without CAP_SETPCAP. Nothing can be gained from the set once no_new_privs stands.
        missing.push("an empty capability bounding set".to_owned());
    }
    drop_capabilities()?;
    set_attributes()?;
    missing.extend(landlock::nothing().map_err(WallError::Landlock)?);
    filter.install()?;
    Ok(missing)
}

/// The last walls of the plugin process, once every thread has been made and all code mapped: nothing is started, written or made
/// executable from here on.
pub(crate) fn close() -> Result<(), WallError> {
    limit(Resource::RLIMIT_FSIZE, "fsize", 0)?;
    limit(Resource::RLIMIT_NPROC, "nproc", 0)?;
    Filter::Serve.install()
}

/// All walls of a serving plugin process around the caller, for a test's probe that tries to get out.
#[doc(hidden)]
pub fn confine_probe(uid: Option<u32>) -> Result<Vec<String>, WallError> {
    let missing = shut_in(uid, 5, &crate::plugin_host::ROOM, Filter::Load)?;
    close()?;
    Ok(missing)
}

/// Shuts in an effects process that works in a folder: it keeps its user, loses every capability, and of the file system it has exactly
/// this folder, to read and to write. Returns what could not be had on this kernel. Single-threaded.
///
/// A folder that cannot be opened is passed over, and so cannot be used either; the process reports it when it opens it itself.
pub fn confine_to_folder(folder: &HostPath) -> Result<Vec<String>, WallError> {
    confine_effects(None, || landlock::folder(folder))
}

/// Shuts in an effects process that talks to a cluster: it becomes a user of its own, loses every capability, and of the file system it
/// can read what the C library and the client's library look at, and write nothing. To be called once the libraries are loaded and
/// before they have made a thread.
pub fn confine_to_network(uid: Option<u32>) -> Result<Vec<String>, WallError> {
    confine_effects(uid, landlock::libraries)
}

fn confine_effects(uid: Option<u32>, landlock: impl FnOnce() -> Result<Option<String>, ::landlock::RulesetError>) -> Result<Vec<String>, WallError> {
    limit(Resource::RLIMIT_CORE, "core", 0)?;
    let bounding = caps::clear(None, CapSet::Bounding);
    if let Some(uid) = uid {
        become_user(uid).map_err(|source| WallError::Identity { uid, source })?;
    }
    drop_capabilities()?;
    set_attributes()?;
    let mut missing: Vec<String> = landlock().map_err(WallError::Landlock)?.into_iter().collect();
    if bounding.is_err() {
        missing.push("an empty capability bounding set".to_owned());
    }
    Filter::Effects.install()?;
    Ok(missing)
}

/// Lowers a limit, soft and hard.
pub(crate) fn limit(resource: Resource, name: &'static str, value: u64) -> Result<(), WallError> {
    // Never above what was inherited: a hard limit can only go down.
    let value = nix::sys::resource::getrlimit(resource).map_or(value, |(_, hard)| value.min(hard));
    setrlimit(resource, value, value).map_err(|source| WallError::Limit { limit: name, source })
}

fn own_namespaces(uid: Option<u32>) -> Result<Option<String>, WallError> {
    let rooms = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    match unshare(rooms) {
        Ok(()) => Ok(None),
        Err(source) if uid.is_some() => Err(WallError::Namespaces(source)),
        Err(_) => match unshare(rooms | CloneFlags::CLONE_NEWUSER) {
            Ok(()) => Ok(None),
            Err(error) => Ok(Some(format!("network, IPC and UTS namespaces of its own (no root, and no user namespaces here: {})", error.desc()))),
        },
    }
}

fn become_user(uid: u32) -> nix::Result<()> {
    setgroups(&[])?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Not a wall but a proof: a kernel or container that fakes the call must not go unnoticed.
    if geteuid() == user { Ok(()) } else { Err(nix::Error::EPERM) }
}

fn drop_capabilities() -> Result<(), WallError> {
    for (set, name) in [(CapSet::Ambient, "ambient"), (CapSet::Inheritable, "inheritable"), (CapSet::Effective, "effective"), (CapSet::Permitted, "permitted")]
    {
        caps::clear(None, set).map_err(|source| WallError::Capabilities { set: name, source })?;
    }
    Ok(())
}

/// After the change of user, which clears two of these.
fn set_attributes() -> Result<(), WallError> {
    use nix::sys::{prctl, signal::Signal};
    let failed = |attribute| move |source| WallError::Attribute { attribute, source };
    prctl::set_no_new_privs().map_err(failed("no_new_privs"))?;
    prctl::set_dumpable(false).map_err(failed("dumpable"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("pdeathsig"))
}
