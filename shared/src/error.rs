//! The one error of this crate.

use std::fmt;
use std::sync::Arc;

/// What this crate's functions return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with a sentence for people and predicates for code. Cheap to clone.
#[derive(Clone)]
pub struct Error {
    kind: Kind,
    message: Arc<str>,
    source: Option<redis::RedisError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Server,
    Reply,
    Invalid,
    TooLarge,
    NotFound,
    RunFailed,
    Timeout,
}

impl Error {
    fn new(kind: Kind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Redis could not be reached, or broke off in the middle. Whether the call took effect is unknown.
    pub fn unavailable(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// Redis answered with something that cannot be understood.
    pub fn reply(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::Reply, message)
    }

    /// A name, id or value breaks a rule; the message says which.
    pub fn invalid(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A value is larger or deeper than is taken.
    pub fn too_large(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::TooLarge, message)
    }

    /// There is no such run.
    pub fn not_found(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// The run ended without a result.
    pub fn run_failed(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::RunFailed, message)
    }

    /// The caller's own time limit ran out; what was waited for may still happen.
    pub fn timeout(message: impl Into<Arc<str>>) -> Self {
        Self::new(Kind::Timeout, message)
    }

    /// Redis could not be reached or broke off: trying again may help.
    pub fn is_unavailable(&self) -> bool {
        self.kind == Kind::Unavailable
    }

    /// The value or name given is at fault; trying again does not help.
    pub fn is_invalid(&self) -> bool {
        matches!(self.kind, Kind::Invalid | Kind::TooLarge)
    }

    /// The value is over a limit.
    pub fn is_too_large(&self) -> bool {
        self.kind == Kind::TooLarge
    }

    /// There is no such run.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// The run that was waited for failed, was cancelled or was rejected.
    pub fn is_run_failed(&self) -> bool {
        self.kind == Kind::RunFailed
    }

    /// The caller's own time limit ran out.
    pub fn is_timeout(&self) -> bool {
        self.kind == Kind::Timeout
    }

    /// Redis refused for lack of memory (`OOM`, under `maxmemory-policy noeviction`).
    pub fn is_out_of_memory(&self) -> bool {
        self.source.as_ref().is_some_and(|e| e.code() == Some("OOM"))
    }

    /// Redis refused the command to this user (`NOPERM`).
    pub fn is_denied(&self) -> bool {
        self.source.as_ref().is_some_and(|e| e.code() == Some("NOPERM"))
    }
}

impl From<redis::RedisError> for Error {
    fn from(source: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        let kind = match source.kind() {
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown,
            ) => Kind::Unavailable,
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => Kind::Server,
            ErrorKind::InvalidClientConfig => Kind::Invalid,
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Kind::Reply,
            _ => Kind::Unavailable,
        };
        Self { kind, message: source.to_string().into(), source: Some(source) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Unavailable => write!(f, "Redis is not available: {}", self.message),
            Kind::Server => write!(f, "Redis refused: {}", self.message),
            Kind::Reply => write!(f, "Redis answered something unexpected: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.kind, self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
