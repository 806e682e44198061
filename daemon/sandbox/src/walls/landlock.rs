//! Landlock: nothing at all for those who run or compile plugins, and granted folders for the effects process.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use windlass_plan::paths::HostPath;

/// The newest set of rights that we name (Linux 6.12); older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// No file, no TCP port, no abstract socket and no signal to anybody outside. Returns what the kernel lacks.
pub(super) fn nothing() -> Result<Option<String>, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(lacking(&status))
}

/// This folder to read and write, no execution and no device nodes; no signal to anybody outside. The network stays open.
pub(super) fn folder(folder: &HostPath) -> Result<Option<String>, RulesetError> {
    let rights: BitFlags<AccessFs> = AccessFs::from_all(NEWEST) & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    beneath(&[folder.as_str()], rights)
}

/// What the C library and a storage client's library may look at after they were loaded: more of themselves, the time zone, how many
/// processors there are, and random numbers.
const LIBRARIES: [&str; 9] =
    ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/proc/self", "/sys/devices/system"];

/// Nothing to write, and nothing to read but [`LIBRARIES`]; no signal to anybody outside. The network stays open.
pub(super) fn libraries() -> Result<Option<String>, RulesetError> {
    beneath(&LIBRARIES, AccessFs::from_read(NEWEST))
}

fn beneath(paths: &[&str], rights: BitFlags<AccessFs>) -> Result<Option<String>, RulesetError> {
    let opened = paths.iter().filter_map(|path| PathFd::new(path).ok());
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::Signal)?
        .create()?
        .add_rules(opened.map(|path| Ok::<_, RulesetError>(PathBeneath::new(path, rights))))?
        .restrict_self()?;
    Ok(lacking(&status))
}

fn lacking(status: &RestrictionStatus) -> Option<String> {
    match (&status.ruleset, &status.landlock) {
        (RulesetStatus::FullyEnforced, _) => None,
        (_, LandlockStatus::NotImplemented) => Some("landlock (this kernel was built without it)".to_owned()),
        (_, LandlockStatus::NotEnabled) => Some("landlock (not among the kernel's `lsm=`)".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Some(format!("the newer parts of landlock (this kernel has version {}, {} is wanted)", *effective_abi as i32, NEWEST as i32))
        }
    }
}
