//! How safe a run's progress must be before the run goes on. Pure: no I/O.
//!
//! Redis answers a write before it is on disk or on a replica. A server that dies in that moment loses the write, although it was
//! acknowledged. A run may ask for more: its steps then begin only after Redis has confirmed that everything that led to them is
//! safe, with `WAITAOF` or `WAIT`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The most replicas that a run can ask for.
const MAX_REPLICAS: u8 = 16;

/// How safe a run's progress must be before the run goes on.
///
/// As text: `none`, `fsync`, `replicas:2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Durability {
    /// As soon as Redis has answered. Writes not yet on disk or replicated when it died may be lost; the run continues from what
    /// is left.
    #[default]
    None,
    /// Once Redis has written it to its append-only file and synced the file to disk. Needs Redis 7.2 or Valkey, with
    /// `appendonly yes`. With `appendfsync everysec` each wait takes up to a second; with `always` it takes as long as a sync.
    Fsync,
    /// Once this many replicas have received it (1 to 16). A failover to a replica that has not may still lose it.
    Replicas(u8),
}

impl Durability {
    /// Whether anything is waited for.
    pub fn waits(self) -> bool {
        self != Self::None
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Fsync => f.write_str("fsync"),
            Self::Replicas(count) => write!(f, "replicas:{count}"),
        }
    }
}

impl FromStr for Durability {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let count = |text: &str| text.parse().ok().filter(|count| (1..=MAX_REPLICAS).contains(count));
        match text {
            "none" => Ok(Self::None),
            "fsync" => Ok(Self::Fsync),
            _ => text.strip_prefix("replicas:").and_then(count).map(Self::Replicas).ok_or_else(|| {
                let shown: String = text.chars().take(40).collect();
                Error::invalid(format!(
                    "durability {shown:?} is not known; use none, fsync, or replicas:1 to replicas:{MAX_REPLICAS}"
                ))
            }),
        }
    }
}

impl TryFrom<String> for Durability {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Durability> for String {
    fn from(durability: Durability) -> Self {
        durability.to_string()
    }
}

/// Which life of which server confirmed that something is safe. Another one means that the server was restarted or replaced in
/// between, and may have lost what it had acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Epoch(pub(crate) String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_each_is_read_back() {
        for durability in [Durability::None, Durability::Fsync, Durability::Replicas(1), Durability::Replicas(16)] {
            assert_eq!(durability.to_string().parse::<Durability>().unwrap(), durability);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_is_known() {
        for text in ["", "FSYNC", "replicas", "replicas:", "replicas:0", "replicas:17", "replicas:1x", "replicas(2)"] {
            let told = text.parse::<Durability>().unwrap_err().to_string();
            assert!(told.contains("use none, fsync, or replicas:1 to replicas:16"), "{told}");
        }
    }
}
