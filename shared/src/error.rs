//! The error of this crate.

use std::fmt;
use std::sync::Arc;

use crate::store::redis::Trouble;

/// The result of this crate's functions.
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

    /// A value is larger or deeper than allowed.
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

    /// Redis could not be reached, broke off, or answered that it cannot take the call now: it is read only, moving,
    /// loading, busy, or unable to write. Trying again may help.
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

    /// Waiting may fix it: it is about the server, its configuration, its users or its topology, and not about the
    /// call. It is never the caller's fault.
    pub fn is_passing(&self) -> bool {
        self.trouble().means_wait()
    }

    /// There was no answer: Redis could not be reached, or the connection broke.
    pub fn is_unreachable(&self) -> bool {
        self.trouble() == Trouble::ConnectionLost
    }

    /// Another connection may succeed, as it may lead to another server.
    pub fn concerns_connection(&self) -> bool {
        self.trouble().ends_connection()
    }

    /// Like [`Error::is_passing`], for a process that starts: a login that is refused at the beginning was most likely
    /// never right, and is better reported than waited for.
    pub fn is_worth_waiting_at_start(&self) -> bool {
        self.is_passing() && !matches!(self.trouble(), Trouble::Unauthorized | Trouble::Denied | Trouble::Untrusted)
    }

    /// What to do about a server that refuses calls; None if waiting is all.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self.trouble() {
            Trouble::NoReplicas => {
                "see INFO replication: fewer replicas are reachable than min-replicas-to-write requires"
            }
            Trouble::Misconf => "see the server's log: it cannot write its files; is its disk full?",
            Trouble::Busy => "a script runs too long: SCRIPT KILL or FUNCTION KILL ends one that has written nothing",
            Trouble::OutOfMemory => "raise maxmemory, or keep finished runs for a shorter time",
            Trouble::Loading => "wait: it is loading its files",
            Trouble::ClusterDown => "see CLUSTER INFO: some of the cluster's masters are down",
            Trouble::MasterDown => "its link to its master is down: see INFO replication",
            Trouble::Unauthorized => "give the right user and password: redis://user:password@host",
            Trouble::Untrusted => {
                "name with ?ca=FILE in the URL the certificate of the authority that signed the server's, and with \
                 &cert=FILE&key=FILE your own if the server asks for one; check that neither has expired, and that the \
                 server speaks TLS on this port"
            }
            Trouble::Denied => "give the user the permissions that it lacks: see ACL LOG",
            _ => return None,
        })
    }

    /// The error, with its [`Error::advice`] where it has some.
    pub fn sentence(&self) -> String {
        self.advice().map_or_else(|| self.to_string(), |advice| format!("{self}. Do this: {advice}."))
    }

    /// The kinds of errors that Redis gives: see [`Error::kind`].
    pub const KINDS: [&str; 15] = [
        "unreachable",
        "loading",
        "read_only",
        "no_replicas",
        "misconf",
        "busy",
        "out_of_memory",
        "unauthorized",
        "denied",
        "untrusted",
        "moved",
        "cluster_down",
        "master_down",
        "other",
        "refused",
    ];

    /// What is wrong with the server, in one word, for metrics: one of [`Error::KINDS`]. `refused` if the call is wrong.
    pub fn kind(&self) -> &'static str {
        match self.trouble() {
            Trouble::ConnectionLost => "unreachable",
            Trouble::Loading => "loading",
            Trouble::ReadOnly | Trouble::Unblocked => "read_only",
            Trouble::NoReplicas => "no_replicas",
            Trouble::Misconf => "misconf",
            Trouble::Busy => "busy",
            Trouble::OutOfMemory => "out_of_memory",
            Trouble::Unauthorized => "unauthorized",
            Trouble::Denied => "denied",
            Trouble::Untrusted => "untrusted",
            Trouble::Moved { .. } | Trouble::Moving => "moved",
            Trouble::ClusterDown => "cluster_down",
            Trouble::MasterDown => "master_down",
            Trouble::Other => "other",
            Trouble::None => "refused",
        }
    }

    /// The same error, with this advice.
    #[must_use]
    pub(crate) fn advising(self, advice: &str) -> Self {
        Self { message: format!("{}; {advice}", self.message).into(), ..self }
    }

    /// The same error, as the reason of something else.
    #[must_use]
    pub(crate) fn told_as(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message).into(), ..self }
    }

    /// A connection that had been made was closed before the answer came. The call may have taken effect.
    pub(crate) fn is_closed_connection(&self) -> bool {
        self.source.as_ref().is_some_and(redis::RedisError::is_connection_dropped)
    }

    /// The server's trouble, if the error is about one.
    pub(crate) fn trouble(&self) -> Trouble {
        match &self.source {
            Some(source) => Trouble::of(source),
            None if self.is_unavailable() => Trouble::ConnectionLost,
            None => Trouble::None,
        }
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

// Only for this crate: users of the crate `stepfleet` do not depend on redis, and its version may change.
#[doc(hidden)]
impl From<redis::RedisError> for Error {
    fn from(source: redis::RedisError) -> Self {
        use redis::ErrorKind;
        let kind = match source.kind() {
            // Callers get these as they are.
            _ if matches!(Trouble::of(&source), Trouble::OutOfMemory | Trouble::Unauthorized | Trouble::Denied) => {
                Kind::Server
            }
            _ if Trouble::of(&source).means_wait() => Kind::Unavailable,
            ErrorKind::Server(_) | ErrorKind::Extension | ErrorKind::AuthenticationFailed => Kind::Server,
            ErrorKind::InvalidClientConfig => Kind::Invalid,
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Kind::Reply,
            _ => Kind::Unavailable,
        };
        Self { kind, message: spelt(&source).into(), source: Some(source) }
    }
}

/// A server's answer, word for word; for other errors, the library's text. Never a debug format.
fn spelt(error: &redis::RedisError) -> String {
    let answered = error.clone().into_server_errors().and_then(|errors| {
        let (_, first) = errors.iter().next()?;
        Some(match first.details() {
            Some(details) => format!("{} {details}", first.code()),
            None => first.code().to_owned(),
        })
    });
    answered.unwrap_or_else(|| error.to_string())
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Unavailable => write!(f, "Redis is not available: {}", self.message),
            Kind::Server => write!(f, "Redis refused: {}", self.message),
            Kind::Reply => write!(f, "Redis gave an unexpected reply: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

/// The sentence: it is what `main` prints when it returns the error.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> Error {
        let reply = redis::parse_redis_value(format!("-{text}\r\n").as_bytes()).expect("an error is a reply");
        reply.extract_error().expect_err("it is an error").into()
    }

    #[test]
    fn the_servers_own_troubles_are_never_the_callers_fault() {
        for text in [
            "MOVED 5 10.0.0.1:6379",
            "ASK 5 10.0.0.1:6379",
            "TRYAGAIN Multiple keys request during rehashing of slot",
            "CLUSTERDOWN The cluster is down",
            "READONLY You can't write against a read only replica.",
            "NOREPLICAS Not enough good replicas to write.",
            "MISCONF Errors writing to the AOF file: No space left on device",
            "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
            "LOADING Redis is loading the dataset in memory",
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ] {
            let error = answered(text);
            assert!(error.is_unavailable() && error.is_passing() && !error.is_invalid(), "{text}: {error:?}");
            assert!(Error::KINDS.contains(&error.kind()) && error.kind() != "refused", "{text}: {}", error.kind());
        }
        for text in [
            "OOM command not allowed when used memory > 'maxmemory'.",
            "NOAUTH Authentication required.",
            "WRONGPASS invalid username-password pair or user is disabled.",
            "NOPERM this user has no permissions to run the 'fcall' command",
        ] {
            let error = answered(text);
            assert!(!error.is_unavailable() && error.is_passing(), "{text}: {error:?}");
        }
        for text in ["ERR Function not found", "WRONGTYPE wrong kind of value"] {
            let error = answered(text);
            assert!(!error.is_unavailable() && !error.is_passing(), "{text}: {error:?}");
        }
    }

    #[test]
    fn messages_are_what_the_server_said() {
        let text = "MISCONF Errors writing to the AOF file: No space left on device";
        assert_eq!(answered(text).to_string(), format!("Redis is not available: {text}"));
        let one = redis::parse_redis_value(b"*2\r\n+OK\r\n-MOVED 5 10.0.0.1:6379\r\n").expect("two replies");
        let several: Error = one.extract_error().expect_err("one of them is an error").into();
        assert_eq!(several.to_string(), "Redis is not available: MOVED 5 10.0.0.1:6379");
        assert_eq!(
            answered("READONLY no").advising("ask the master").to_string(),
            "Redis is not available: READONLY no; ask the master"
        );
    }
}
