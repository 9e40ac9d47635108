//! The address of a server in a cluster or behind Sentinels.

use std::fmt;

/// Host and port. An empty host, as a cluster may return it, means the host of the server that was asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    /// None for a host that is not known (`?`) or a port that is none.
    pub(super) fn new(host: &str, port: u16) -> Option<Self> {
        (host != "?" && port != 0).then(|| Self { host: host.to_owned(), port })
    }

    /// Reads `host:port`, in which an IPv6 address has no brackets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Self::new(host, port.parse().ok()?)
    }

    pub(super) fn or_host(self, asked: &str) -> Self {
        if self.host.is_empty() { Self { host: asked.to_owned(), ..self } } else { self }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| Address::parse(text).map(|a| (a.host, a.port));
        assert_eq!(read("redis-1.internal:6379"), Some(("redis-1.internal".into(), 6379)));
        assert_eq!(read("::1:6379"), Some(("::1".into(), 6379)));
        assert_eq!(Address::parse(":7001").unwrap().or_host("10.0.0.1").to_string(), "10.0.0.1:7001");
        for bad in ["", "host", "host:", "host:0", "host:70000", "?:6379"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
