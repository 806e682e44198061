//! The one place where a gRPC code is chosen. Every match is exhaustive: a new reason does not compile until it has its code.

use crate::refused::Refused;
use tonic::{Code, Status};
use windlass_csi::from_proto::Kind;
use windlass_plan::failure::Reason;
use windlass_plan::plugin::{CallFailure, RefusalKind};
use windlass_plugins::process::PluginError;

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        Status::new(code(&refused), refused.to_string())
    }
}

/// The code of a refusal (the tables of the specification; CSI.md section 4 of the design for what they leave open).
fn code(refused: &Refused) -> Code {
    match refused {
        Refused::Request(bad) => match bad.kind() {
            Kind::Missing | Kind::Invalid => Code::InvalidArgument,
            Kind::NoSuchVolume => Code::NotFound,
            Kind::BadToken => Code::Aborted,
        },
        Refused::Path { .. } => Code::InvalidArgument,
        Refused::Step(failure) => of_reason(failure.reason),
        Refused::Plugin(error) => of_plugin(error),
        // Something may have been done: the caller must ask again, not forget.
        Refused::Answer(_) | Refused::Contract(_) | Refused::Lost | Refused::NotReady(_) => Code::Unavailable,
        Refused::NoVolume(_) | Refused::NotAtPath { .. } | Refused::NoSuchService => Code::NotFound,
        Refused::Size(_) => Code::OutOfRange,
        Refused::Busy { .. } => Code::Aborted,
        Refused::Deadline { .. } => Code::DeadlineExceeded,
        Refused::InUse(_) => Code::FailedPrecondition,
        Refused::NotOffered(_) => Code::Unimplemented,
    }
}

fn of_reason(reason: Reason) -> Code {
    match reason {
        Reason::SourceMissing | Reason::NotThere => Code::NotFound,
        Reason::BadPath | Reason::BadArgument => Code::InvalidArgument,
        Reason::Denied => Code::PermissionDenied,
        Reason::Incompatible => Code::AlreadyExists,
        Reason::NotOurs
        | Reason::NotGranted
        | Reason::HoldsOtherContent
        | Reason::CannotTell
        | Reason::NoProof
        | Reason::NeedsRepair
        | Reason::InUse
        | Reason::SecondWriter
        | Reason::NotStaged
        | Reason::ForeignMount
        | Reason::MissingPrivilege
        | Reason::CannotGrow => Code::FailedPrecondition,
        Reason::OutOfRange => Code::OutOfRange,
        Reason::Unsupported => Code::Unimplemented,
        Reason::Exhausted => Code::ResourceExhausted,
        // Each of these may pass, and none of them says that nothing was done.
        Reason::IdentityChanged | Reason::Io | Reason::ProgramTimedOut | Reason::WorkerLost | Reason::LeftBehind | Reason::Journal => Code::Unavailable,
    }
}

fn of_plugin(error: &PluginError) -> Code {
    match error {
        PluginError::Failed(failure) => match failure {
            CallFailure::Refused(refusal) => of_refusal(refusal.kind),
            CallFailure::TimedOut { .. } => Code::DeadlineExceeded,
            // Never INTERNAL or UNKNOWN: sidecars take those for final, and the volume would leak.
            CallFailure::Trapped(_) | CallFailure::Limit(_) => Code::Unavailable,
            CallFailure::NotExported => Code::Unimplemented,
        },
        PluginError::Lost | PluginError::Full(_) | PluginError::Start(_) | PluginError::NoGeneration(_) | PluginError::BackingOff(_) => Code::Unavailable,
    }
}

fn of_refusal(kind: RefusalKind) -> Code {
    match kind {
        RefusalKind::Invalid => Code::InvalidArgument,
        RefusalKind::NotFound => Code::NotFound,
        RefusalKind::AlreadyExists => Code::AlreadyExists,
        RefusalKind::Exhausted => Code::ResourceExhausted,
        RefusalKind::Precondition => Code::FailedPrecondition,
        RefusalKind::OutOfRange => Code::OutOfRange,
        RefusalKind::BadToken => Code::Aborted,
        RefusalKind::PermissionDenied => Code::PermissionDenied,
        RefusalKind::Unauthenticated => Code::Unauthenticated,
        RefusalKind::Unavailable => Code::Unavailable,
        RefusalKind::Unsupported => Code::Unimplemented,
    }
}
