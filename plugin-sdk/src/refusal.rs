//! How a driver says no: constructors for each case of [`Refusal`], which stands for one gRPC code.

use crate::Refusal;

/// Each constructor takes the words for people: the cause, and what would be right. They are shown to users, so no secret
/// belongs in them; the daemon cuts them at 1 KiB.
impl Refusal {
    /// INVALID_ARGUMENT: a parameter or argument is wrong; say which, and what would be right.
    pub fn invalid(words: impl Into<String>) -> Self {
        Refusal::Invalid(words.into())
    }

    /// NOT_FOUND: the volume does not exist.
    pub fn not_found(words: impl Into<String>) -> Self {
        Refusal::NotFound(words.into())
    }

    /// ALREADY_EXISTS: the name is taken by something that differs.
    pub fn already_exists(words: impl Into<String>) -> Self {
        Refusal::AlreadyExists(words.into())
    }

    /// RESOURCE_EXHAUSTED: no room, or not where it is wanted.
    pub fn exhausted(words: impl Into<String>) -> Self {
        Refusal::Exhausted(words.into())
    }

    /// FAILED_PRECONDITION: in use, or not in the state that the call needs.
    pub fn precondition(words: impl Into<String>) -> Self {
        Refusal::Precondition(words.into())
    }

    /// OUT_OF_RANGE: no size in the range will do.
    pub fn out_of_range(words: impl Into<String>) -> Self {
        Refusal::OutOfRange(words.into())
    }

    /// ABORTED: the token of a listing is not one of ours.
    pub fn bad_token(words: impl Into<String>) -> Self {
        Refusal::BadToken(words.into())
    }

    /// PERMISSION_DENIED: the secrets' identity may not do this.
    pub fn permission_denied(words: impl Into<String>) -> Self {
        Refusal::PermissionDenied(words.into())
    }

    /// UNAUTHENTICATED: the secrets are not valid.
    pub fn unauthenticated(words: impl Into<String>) -> Self {
        Refusal::Unauthenticated(words.into())
    }

    /// UNAVAILABLE: the back end cannot be reached; the caller asks again.
    pub fn unavailable(words: impl Into<String>) -> Self {
        Refusal::Unavailable(words.into())
    }

    /// UNIMPLEMENTED: this driver cannot do that at all.
    pub fn unsupported(words: impl Into<String>) -> Self {
        Refusal::Unsupported(words.into())
    }

    /// The words.
    pub fn words(&self) -> &str {
        match self {
            Refusal::Invalid(words)
            | Refusal::NotFound(words)
            | Refusal::AlreadyExists(words)
            | Refusal::Exhausted(words)
            | Refusal::Precondition(words)
            | Refusal::OutOfRange(words)
            | Refusal::BadToken(words)
            | Refusal::PermissionDenied(words)
            | Refusal::Unauthenticated(words)
            | Refusal::Unavailable(words)
            | Refusal::Unsupported(words) => words,
        }
    }

    /// The name of the gRPC code that the caller will see.
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::Invalid(_) => "INVALID_ARGUMENT",
            Refusal::NotFound(_) => "NOT_FOUND",
            Refusal::AlreadyExists(_) => "ALREADY_EXISTS",
            Refusal::Exhausted(_) => "RESOURCE_EXHAUSTED",
            Refusal::Precondition(_) => "FAILED_PRECONDITION",
            Refusal::OutOfRange(_) => "OUT_OF_RANGE",
            Refusal::BadToken(_) => "ABORTED",
            Refusal::PermissionDenied(_) => "PERMISSION_DENIED",
            Refusal::Unauthenticated(_) => "UNAUTHENTICATED",
            Refusal::Unavailable(_) => "UNAVAILABLE",
            Refusal::Unsupported(_) => "UNIMPLEMENTED",
        }
    }
}
