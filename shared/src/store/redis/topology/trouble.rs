//! What an error of a server means: where the next call goes, and when.

use redis::{ErrorKind, RedisError, ServerError};

use super::address::Address;

/// The trouble of a server, by the error that it answered. Everything here but [`Trouble::None`] is the
/// server's own trouble: the call was right, and waiting fixes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The call itself is at fault, or nothing is.
    None,
    /// Another node owns the slot. The call was answered before it began.
    Moved {
        slot: u16,
        /// None if the answer names no address that can be used.
        to: Option<Address>,
    },
    /// The slot is being moved, and some of its keys are elsewhere. It is waited out: `ASKING` is never sent, since a
    /// transition that follows its key sees half of a run and makes a second one.
    Moving,
    /// The cluster does not serve the slot now.
    ClusterDown,
    /// A replica was told to write: it is not, or no longer, the master.
    ReadOnly,
    /// A replica has lost its master.
    MasterDown,
    /// Too few replicas are reachable for a write to be accepted. A master that was cut off answers this for ever.
    NoReplicas,
    /// A blocked read was ended, as when a master becomes a replica.
    Unblocked,
    /// The server is loading its files.
    Loading,
    /// The server cannot write its files.
    Misconf,
    /// A long script or function is running.
    Busy,
    /// The server has no memory left.
    OutOfMemory,
    /// The password is wrong: it is being changed, or was never right.
    Unauthorized,
    /// The user may not do this: its rules are being changed, or were never right.
    Denied,
    /// TLS was refused, by the server or by us: a certificate is of an unknown authority, of another host, or has expired; or the server
    /// speaks no TLS.
    Untrusted,
    /// Something else that only the server, or a proxy before it, can have caused.
    Other,
    /// The connection broke, could not be made, or was silent for too long.
    ConnectionLost,
}

/// The codes that say that a call itself, or the data that it found, is wrong. Whatever else a server answers, now or in a version
/// to come, says something about the server.
const AT_FAULT: [&str; 9] =
    ["ERR", "WRONGTYPE", "CROSSSLOT", "NOGROUP", "BUSYGROUP", "BUSYKEY", "NOSCRIPT", "NOPROTO", ""];

impl Trouble {
    pub(crate) fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let Some(errors) = error.clone().into_server_errors() else {
                    return Self::read(&format!(
                        "{} {}",
                        error.code().unwrap_or_default(),
                        error.detail().unwrap_or("")
                    ));
                };
                let mut troubles = errors.iter().map(|(_, error)| Self::read(&text(error)));
                troubles.find(|trouble| *trouble != Self::None).unwrap_or(Self::None)
            }
            ErrorKind::AuthenticationFailed => Self::Unauthorized,
            ErrorKind::InvalidClientConfig | ErrorKind::Parse | ErrorKind::UnexpectedReturnType => Self::None,
            _ if is_untrusted(&error.to_string()) => Self::Untrusted,
            _ => Self::ConnectionLost,
        }
    }

    /// Reads the text of an error as the server sends it, without the leading `-`.
    pub(crate) fn read(text: &str) -> Self {
        let (code, detail) = text.split_once(' ').unwrap_or((text, ""));
        match code {
            "MOVED" => Self::moved(detail),
            "ASK" | "TRYAGAIN" => Self::Moving,
            "CLUSTERDOWN" => Self::ClusterDown,
            "READONLY" => Self::ReadOnly,
            "MASTERDOWN" => Self::MasterDown,
            "NOREPLICAS" => Self::NoReplicas,
            "UNBLOCKED" => Self::Unblocked,
            "LOADING" => Self::Loading,
            "MISCONF" => Self::Misconf,
            "BUSY" => Self::Busy,
            "OOM" => Self::OutOfMemory,
            "NOAUTH" | "WRONGPASS" => Self::Unauthorized,
            "NOPERM" => Self::Denied,
            // A function that runs into a key which has moved away.
            _ if detail.contains("attempted to access a non local key") => Self::Moving,
            "ERR" if detail.starts_with("max number of clients") => Self::Other,
            _ if AT_FAULT.contains(&code) => Self::None,
            _ => Self::Other,
        }
    }

    fn moved(detail: &str) -> Self {
        let (slot, address) = detail.split_once(' ').unwrap_or((detail, ""));
        match slot.parse() {
            Ok(slot) => Self::Moved { slot, to: Address::parse(address) },
            // Damaged text is not the call's fault either.
            Err(_) => Self::ClusterDown,
        }
    }

    pub(crate) fn is_moved(&self) -> bool {
        matches!(self, Self::Moved { .. })
    }

    /// The address may have changed: the connection is given up, and a new look says where the next call goes.
    pub(crate) fn means_look_again(&self) -> bool {
        matches!(
            self,
            Self::Moved { .. }
                | Self::ClusterDown
                | Self::ReadOnly
                | Self::MasterDown
                | Self::NoReplicas
                | Self::Unblocked
                | Self::ConnectionLost
        )
    }

    /// The call was right and may be made again, after a while.
    pub(crate) fn means_wait(&self) -> bool {
        *self != Self::None
    }

    /// Whether the connection is useless now. After other errors it stays open.
    pub(crate) fn ends_connection(&self) -> bool {
        matches!(self, Self::ReadOnly | Self::MasterDown | Self::Unblocked | Self::ConnectionLost | Self::Unauthorized)
    }
}

/// What TLS says of a certificate, or of a server that does not speak it.
fn is_untrusted(text: &str) -> bool {
    ["invalid peer certificate", "received fatal alert", "InvalidContentType", "corrupt message"]
        .iter()
        .any(|said| text.contains(said))
}

fn text(error: &ServerError) -> String {
    format!("{} {}", error.code(), error.details().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers of 7.0 answer, word for word.
    #[test]
    fn the_texts_of_servers_are_known() {
        let to = |text| Address::parse(text);
        let cases = [
            ("MOVED 13907 127.0.0.1:7001", Trouble::Moved { slot: 13907, to: to("127.0.0.1:7001") }),
            ("MOVED 3999 fe80::1:6381", Trouble::Moved { slot: 3999, to: to("fe80::1:6381") }),
            ("MOVED 3999 :6381", Trouble::Moved { slot: 3999, to: to(":6381") }),
            ("MOVED 3999 ?:6381", Trouble::Moved { slot: 3999, to: None }),
            ("MOVED", Trouble::ClusterDown),
            ("ASK 13907 127.0.0.1:7002", Trouble::Moving),
            ("TRYAGAIN Multiple keys request during rehashing of slot", Trouble::Moving),
            (
                "ERR Script attempted to access a non local key in a cluster node script: f, on @user_function:3.",
                Trouble::Moving,
            ),
            ("CLUSTERDOWN The cluster is down", Trouble::ClusterDown),
            ("CLUSTERDOWN Hash slot not served", Trouble::ClusterDown),
            ("READONLY You can't write against a read only replica.", Trouble::ReadOnly),
            (
                "READONLY You can't write against a read only replica. script: f, on @user_function:9.",
                Trouble::ReadOnly,
            ),
            ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Trouble::MasterDown),
            ("NOREPLICAS Not enough good replicas to write.", Trouble::NoReplicas),
            (
                "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
                Trouble::Unblocked,
            ),
            ("UNBLOCKED the stream key no longer exists", Trouble::Unblocked),
            ("LOADING Redis is loading the dataset in memory", Trouble::Loading),
            (
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
                Trouble::Misconf,
            ),
            ("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.", Trouble::Busy),
            ("OOM command not allowed when used memory > 'maxmemory'.", Trouble::OutOfMemory),
            ("NOAUTH Authentication required.", Trouble::Unauthorized),
            ("NOPERM this user has no permissions to run the 'fcall' command", Trouble::Denied),
            ("UNKILLABLE Sorry the script already executed write commands against the dataset.", Trouble::Other),
            ("EXECABORT Transaction discarded because of previous errors.", Trouble::Other),
            ("DENIED Redis is running in protected mode because protected mode is enabled", Trouble::Other),
            ("ERR max number of clients reached", Trouble::Other),
            ("upstream failure", Trouble::Other),
            ("WRONGPASS invalid username-password pair or user is disabled.", Trouble::Unauthorized),
        ];
        for (text, trouble) in cases {
            assert_eq!(Trouble::read(text), trouble, "{text}");
            assert!(trouble.means_wait(), "{text}");
        }
    }

    #[test]
    fn a_call_that_is_wrong_is_no_trouble_of_the_server() {
        let wrong = [
            "ERR Function not found",
            "ERR wrong number of arguments for 'fcall' command",
            "WRONGTYPE Operation against a key holding the wrong kind of value",
            "CROSSSLOT Keys in request don't hash to the same slot",
            "NOGROUP No such key 'x' or consumer group 'workers' in XREADGROUP with GROUP option",
            "BUSYGROUP Consumer Group name already exists",
            "BUSYKEY Target key name already exists.",
            "ERR MOVED is not at its beginning",
            "",
        ];
        for text in wrong {
            let trouble = Trouble::read(text);
            assert_eq!(trouble, Trouble::None, "{text}");
            assert!(!trouble.means_wait() && !trouble.means_look_again(), "{text}");
        }
    }

    #[test]
    fn a_slot_that_moves_is_waited_out_where_it_is() {
        for text in ["ASK 1 h:1", "TRYAGAIN Multiple keys request during rehashing of slot", "LOADING x", "BUSY x"] {
            assert!(!Trouble::read(text).means_look_again(), "{text}");
        }
        for text in ["MOVED 1 h:1", "READONLY x", "UNBLOCKED x", "CLUSTERDOWN x", "MASTERDOWN x", "NOREPLICAS x"] {
            assert!(Trouble::read(text).means_look_again(), "{text}");
        }
    }

    #[test]
    fn errors_of_the_client_library_are_read_too() {
        let moved = redis::make_extension_error("UNBLOCKED".into(), Some("force unblock".into()));
        assert_eq!(Trouble::of(&moved), Trouble::Unblocked);
        let broken = RedisError::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert_eq!(Trouble::of(&broken), Trouble::ConnectionLost);
        let password = RedisError::from((ErrorKind::AuthenticationFailed, "Password authentication failed"));
        assert_eq!(Trouble::of(&password), Trouble::Unauthorized);
        let answer = redis::parse_redis_value(b"-MOVED 5 10.0.0.1:6379\r\n").unwrap().extract_error().unwrap_err();
        assert_eq!(Trouble::of(&answer), Trouble::Moved { slot: 5, to: Address::parse("10.0.0.1:6379") });
    }
}
