//! How an operation on a cluster fails: what was to be done, to what, and the way out; and what that is to a plugin.

use crate::encoding::Malformed;
use std::ffi::CStr;
use std::fmt;
use windlass_plan::effect::EffectError;
use windlass_plan::plugin::RefusalKind;

/// An errno as Ceph's libraries return them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ESHUTDOWN has a meaning of its own in Ceph, which its text does not tell.
        if self.0 == libc::ESHUTDOWN {
            return f.write_str("this client is on the cluster's blocklist");
        }
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

/// Why Ceph's libraries cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It is not there, or not for this machine.
    #[error("{} cannot be loaded ({cause}): install Ceph's client libraries where the controller runs (packages librados2 and librbd1)", .file.to_string_lossy())]
    Library {
        /// The file's name.
        file: &'static CStr,
        /// The loader's words.
        cause: String,
    },
    /// It is too old.
    #[error("{} has no function {name}: it is older than Ceph 16, the oldest that works here", .file.to_string_lossy())]
    Function {
        /// The file's name.
        file: &'static CStr,
        /// What is missing.
        name: &'static str,
    },
}

/// How an operation fails. Texts name what it was about and the way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CephError {
    /// Ceph's libraries are missing.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A monitor's address, a user or an option that librados does not take.
    #[error("librados does not take {what}: check the cluster's entry in the configuration")]
    Setup {
        /// What it does not take; never a key.
        what: &'static str,
        /// Its answer.
        #[source]
        errno: Errno,
    },
    /// The user or the key is wrong. Both came as secrets, and whoever reads this may have chosen which: neither is repeated.
    #[error("the cluster at {monitors} refused the user: either there is no such user or its key is another; see `ceph auth get client.USER`")]
    Unauthenticated {
        /// The cluster's monitors.
        monitors: String,
        /// Its answer.
        #[source]
        errno: Errno,
    },
    /// No monitor answers.
    #[error("no monitor of the cluster answered at {monitors}: check the addresses, and whether they can be reached from the controller")]
    Unreachable {
        /// The cluster's monitors.
        monitors: String,
        /// What librados says.
        #[source]
        errno: Errno,
    },
    /// It is being made independent, and gets no snapshot meanwhile.
    #[error("{image} is being made independent of what it was copied from, which may take as long as copying it; ask again")]
    Flattened {
        /// Which.
        image: String,
    },
    /// The chain of copies of copies is too long for another.
    #[error("{image} has {most} images behind it, and no kernel maps many more; it is being made independent of them: ask again later")]
    TooDeep {
        /// What was to be copied.
        image: String,
        /// How many there may be.
        most: u32,
    },
    /// An image has as many snapshots as it may have.
    #[error("{image} has {most} snapshots, and no kernel maps many more: delete some, and volumes that were made from it")]
    TooManySnapshots {
        /// The image.
        image: String,
        /// How many there may be.
        most: usize,
    },
    /// More connections than there may be.
    #[error("{most} connections to clusters are in use already: ask again when some have ended")]
    TooMany {
        /// How many there may be.
        most: usize,
    },
    /// The user may not do it.
    #[error("the cluster does not let this user {deed} {subject}: it needs `mon 'profile rbd' osd 'profile rbd pool=POOL'` (`ceph auth caps`)")]
    Forbidden {
        /// What was to be done.
        deed: &'static str,
        /// To what.
        subject: String,
        /// The cluster's answer.
        #[source]
        errno: Errno,
    },
    /// The cluster did not answer in time, or stopped answering.
    #[error("the cluster did not answer in time when asked to {deed} {subject}: its OSDs or monitors may be down or full; ask again (`ceph status`)")]
    TimedOut {
        /// What was to be done.
        deed: &'static str,
        /// To what.
        subject: String,
        /// The cluster's answer.
        #[source]
        errno: Errno,
    },
    /// The connection is of no more use; the next call makes a new one.
    #[error("the connection was lost when it was to {deed} {subject}: ask again")]
    Lost {
        /// What was to be done.
        deed: &'static str,
        /// To what.
        subject: String,
        /// The cluster's answer.
        #[source]
        errno: Errno,
    },
    /// There is no such pool.
    #[error("the cluster has no pool {pool}; it has {}", list(.known))]
    NoPool {
        /// The one asked for.
        pool: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// Nobody has counted how much room there is.
    #[error("how much room the pool {pool} has is not known: the cluster's manager (ceph-mgr) counts it, and has not yet, or is away; ask again")]
    Uncounted {
        /// The pool.
        pool: String,
    },
    /// There is no such namespace.
    #[error("the pool {pool} has no namespace {namespace}: make it with `rbd namespace create {pool}/{namespace}`")]
    NoNamespace {
        /// The pool.
        pool: String,
        /// The one asked for.
        namespace: String,
    },
    /// There is no such image, snapshot or parent.
    #[error("there is no {subject}")]
    NotFound {
        /// What is not there.
        subject: String,
    },
    /// No room.
    #[error("there is no room for {subject}: the pool or the cluster is full, or the pool's quota is reached (`ceph df detail`)")]
    Full {
        /// What there is no room for.
        subject: String,
        /// The cluster's answer.
        #[source]
        errno: Errno,
    },
    /// Another node holds the image.
    #[error("{image} is held by {}: unpublish it there first", list(.nodes))]
    Held {
        /// The image.
        image: String,
        /// Who holds it.
        nodes: Vec<String>,
    },
    /// The node that asks holds the image in another way.
    #[error("{image} was given to {node} for another use: take it back from there first")]
    HeldOtherwise {
        /// The image.
        image: String,
        /// The node.
        node: String,
    },
    /// Somebody who holds no lock of ours has the image open.
    #[error("{image} is in use by {}, which is not the node that asks: a mapping, a virtual machine or a command of somebody else's; end it first", list(.addresses))]
    Watched {
        /// The image.
        image: String,
        /// Whose watches there are.
        addresses: Vec<String>,
    },
    /// It is in a state in which this cannot be done.
    #[error("cannot {deed} {subject}: {why}")]
    Precondition {
        /// What was to be done.
        deed: &'static str,
        /// To what.
        subject: String,
        /// What is in the way, and the way out.
        why: &'static str,
    },
    /// What is wished for cannot be.
    #[error("{what}")]
    Invalid {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// An object class answered something else than it should.
    #[error("{subject} is described in a way that is not understood here")]
    Malformed {
        /// Whose description.
        subject: String,
        /// How.
        #[source]
        cause: Malformed,
    },
    /// Anything else.
    #[error("cannot {deed} {subject}")]
    Failed {
        /// What was to be done.
        deed: &'static str,
        /// To what.
        subject: String,
        /// The cluster's answer.
        #[source]
        errno: Errno,
    },
}

impl CephError {
    /// The kind of refusal that it is to a plugin.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Load(_)
            | Self::Uncounted { .. }
            | Self::TooMany { .. }
            | Self::Unreachable { .. }
            | Self::TooDeep { .. }
            | Self::Flattened { .. }
            | Self::TimedOut { .. }
            | Self::Lost { .. }
            | Self::Malformed { .. }
            | Self::Failed { .. } => RefusalKind::Unavailable,
            Self::Setup { .. } | Self::NoPool { .. } | Self::NoNamespace { .. } | Self::Invalid { .. } => RefusalKind::Invalid,
            Self::Unauthenticated { .. } => RefusalKind::Unauthenticated,
            Self::Forbidden { .. } => RefusalKind::PermissionDenied,
            Self::NotFound { .. } => RefusalKind::NotFound,
            Self::Full { .. } | Self::TooManySnapshots { .. } => RefusalKind::Exhausted,
            Self::HeldOtherwise { .. } => RefusalKind::AlreadyExists,
            Self::Held { .. } | Self::Watched { .. } | Self::Precondition { .. } => RefusalKind::Precondition,
        }
    }

    /// What to make of an errno that an operation returned.
    pub(crate) fn of(deed: &'static str, subject: String, errno: Errno) -> Self {
        match errno.0 {
            libc::ENOENT => Self::NotFound { subject },
            libc::EPERM | libc::EACCES => Self::Forbidden { deed, subject, errno },
            libc::ETIMEDOUT => Self::TimedOut { deed, subject, errno },
            libc::ESHUTDOWN | libc::ENOTCONN => Self::Lost { deed, subject, errno },
            libc::ENOSPC | libc::EDQUOT => Self::Full { subject, errno },
            libc::EINVAL | libc::ERANGE | libc::EDOM => Self::Invalid { what: format!("Ceph does not take what is wished for {subject}: {errno}") },
            _ => Self::Failed { deed, subject, errno },
        }
    }

    /// The errno beneath it, if there is one.
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Self::Setup { errno, .. }
            | Self::Unauthenticated { errno, .. }
            | Self::Unreachable { errno, .. }
            | Self::Forbidden { errno, .. }
            | Self::TimedOut { errno, .. }
            | Self::Lost { errno, .. }
            | Self::Full { errno, .. }
            | Self::Failed { errno, .. } => *errno,
            _ => Errno(libc::EIO),
        }
    }

    /// Is the connection of no use to anybody any more?
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost { .. })
    }
}

impl From<CephError> for EffectError {
    fn from(error: CephError) -> Self {
        let mut message = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self { kind: error.kind(), message }
    }
}

/// Names in a sentence, the first few of many.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names {
        [] => "none that this user may see".to_owned(),
        names if names.len() <= SHOWN => names.join(", "),
        names => format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_its_cause_to_a_plugin() {
        let error = CephError::of("grow", "the image rbd/a".to_owned(), Errno(libc::EIO));
        assert_eq!(
            EffectError::from(error),
            EffectError { kind: RefusalKind::Unavailable, message: "cannot grow the image rbd/a: Input/output error (os error 5)".to_owned() }
        );
    }

    #[test]
    fn each_errno_has_its_kind() {
        for (errno, kind) in [
            (libc::ENOENT, RefusalKind::NotFound),
            (libc::EPERM, RefusalKind::PermissionDenied),
            (libc::ETIMEDOUT, RefusalKind::Unavailable),
            (libc::ESHUTDOWN, RefusalKind::Unavailable),
            (libc::EDQUOT, RefusalKind::Exhausted),
            (libc::EINVAL, RefusalKind::Invalid),
            (libc::EIO, RefusalKind::Unavailable),
        ] {
            assert_eq!(CephError::of("look at", "an image".to_owned(), Errno(errno)).kind(), kind, "{errno}");
        }
    }
}
