//! What a server says about itself, and whether that is fit for a fleet. The judging is pure.

use std::collections::HashMap;

use redis::Value;
use serde::Serialize;
use stepfleet::store::RedisStore;

use super::failure::Failure;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One check: what was found, and what to do about it.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) found: String,
    pub(super) advice: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), advice: None }
    }

    pub(super) fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    pub(super) fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// The fields of `INFO`. Unlike `CONFIG`, managed servers allow it.
pub(super) struct Info(HashMap<String, String>);

impl Info {
    pub(super) async fn read(store: &RedisStore) -> Result<Self, Failure> {
        Ok(Self::parse(&text(store.command(&redis::cmd("INFO")).await?)))
    }

    fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.trim().split_once(':')).map(|(k, v)| (k.into(), v.into())).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The version, where it is new enough for Redis Functions.
    pub(super) fn version(&self) -> Check {
        const NAME: &str = "version";
        let server = match self.get("valkey_version") {
            Some(valkey) => format!("Valkey {valkey}"),
            None => format!("Redis {}", self.get("redis_version").unwrap_or("of unknown version")),
        };
        let major = self.get("redis_version").and_then(|v| v.split('.').next()?.parse::<u32>().ok());
        match major {
            Some(7..) => Check::ok(NAME, server),
            Some(_) => {
                Check::fail(NAME, server, "Stepfleet needs Redis Functions: use Redis 7.0 or later, or Valkey 8")
            }
            None => {
                Check::warn(NAME, server, "Redis 7.0 or later, or Valkey 8, is needed; INFO does not say what this is")
            }
        }
    }

    /// Whether runs may be evicted.
    pub(super) fn eviction(&self) -> Check {
        const NAME: &str = "eviction";
        match self.get("maxmemory_policy") {
            Some("noeviction") => Check::ok(NAME, "maxmemory-policy is noeviction"),
            Some(policy) => Check::fail(
                NAME,
                format!("maxmemory-policy is {policy}: when memory runs short, Redis would silently delete runs"),
                "CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
            ),
            None => Check::warn(NAME, "INFO does not say the maxmemory-policy", "make sure that it is noeviction"),
        }
    }

    /// Whether runs survive a restart of the server.
    pub(super) fn persistence(&self) -> Check {
        const NAME: &str = "persistence";
        match (self.get("aof_enabled"), self.get("aof_last_write_status")) {
            (Some("1"), Some("err")) => {
                Check::fail(NAME, "the append-only file cannot be written", "see the server's log; is its disk full?")
            }
            (Some("1"), _) => Check::ok(NAME, "the append-only file is on"),
            (Some(_), _) => Check::fail(
                NAME,
                "the append-only file is off: when Redis restarts, runs since its last snapshot are gone",
                "CONFIG SET appendonly yes, and the same in redis.conf",
            ),
            (None, _) => {
                Check::warn(NAME, "INFO does not say whether the append-only file is on", "make sure that it is")
            }
        }
    }

    /// Whether this is a server that one connection reaches all of.
    pub(super) fn mode(&self) -> Check {
        match self.get("redis_mode") {
            Some("cluster") => Check::warn(
                "mode",
                "cluster: the fleet is on the one node that holds its partition",
                "point --redis at the node that owns the keys of this namespace",
            ),
            mode => Check::ok(
                "mode",
                format!("{}, {}", mode.unwrap_or("unknown"), self.get("role").unwrap_or("role unknown")),
            ),
        }
    }
}

/// A reply as text, whatever kind of string it is.
pub(super) fn text(value: Value) -> String {
    redis::from_redis_value::<String>(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &str) -> Info {
        Info::parse(&lines.replace('\n', "\r\n"))
    }

    #[test]
    fn a_fit_server_passes() {
        let info = info(
            "# Server\nredis_version:7.0.15\nmaxmemory_policy:noeviction\naof_enabled:1\naof_last_write_status:ok\n",
        );
        for check in [info.version(), info.eviction(), info.persistence()] {
            assert_eq!(check.level, Level::Ok, "{check:?}");
        }
    }

    #[test]
    fn each_fault_is_found_and_says_what_to_do() {
        let info = info("redis_version:6.2.7\nmaxmemory_policy:allkeys-lru\naof_enabled:0\n");
        for (check, advice) in
            [(info.version(), "7.0"), (info.eviction(), "noeviction"), (info.persistence(), "appendonly yes")]
        {
            assert_eq!(check.level, Level::Fail, "{check:?}");
            assert!(check.advice.unwrap().contains(advice));
        }
    }

    #[test]
    fn what_is_not_said_is_no_failure() {
        let info = info("redis_version:7.2.4\nvalkey_version:8.0.1\n");
        assert_eq!(info.version().found, "Valkey 8.0.1");
        assert_eq!((info.eviction().level, info.persistence().level), (Level::Warn, Level::Warn));
    }
}
