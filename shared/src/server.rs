//! Reads what a server says about itself, and judges whether it is fit for a fleet. Pure: no I/O.
//!
//! [`ReaderStore::server`](crate::store::ReaderStore::server) reads it.

use std::collections::HashMap;
use std::fmt;

use serde::Serialize;

use crate::durability::Durability;

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, but someone should look.
    Warn,
    /// It does not work, or work would be lost.
    Fail,
}

/// One check: what was found, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Its outcome.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do; None if all is well.
    pub advice: Option<String>,
}

impl Check {
    /// All is well.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, found: found.into(), advice: None }
    }

    /// Something to look at.
    pub fn warn(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    /// A fault.
    pub fn fail(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, level: Level::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Whether the user accepts a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Override {
    /// How to accept it, for the refusal: `pass --allow-eviction`.
    pub how: &'static str,
    /// Whether the user has accepted it.
    pub given: bool,
}

/// Why a server is refused: one sentence, with the fault, what to do about it, and how to override the refusal where
/// that is possible.
#[derive(Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The check that failed.
    pub check: Check,
    /// How to start anyway; None if nothing helps.
    pub how: Option<&'static str>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = self.check.advice.as_deref().unwrap_or_default();
        write!(f, "refusing to start: {}. Do this: {advice}", self.check.found)?;
        match self.how {
            Some(how) => write!(f, "; or {how} to start anyway."),
            None => f.write_str("."),
        }
    }
}

/// The sentence: it is what `main` prints when it returns the error.
impl fmt::Debug for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Refusal({self})")
    }
}

impl std::error::Error for Refusal {}

/// The fields of `INFO`. Managed servers allow it, unlike `CONFIG`; what they leave out is not a fault.
#[derive(Clone, Debug, Default)]
pub struct Info(HashMap<String, String>);

impl Info {
    /// Reads the reply of `INFO`. Lines that are not fields are skipped.
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(|line| line.trim().split_once(':')).map(|(k, v)| (k.into(), v.into())).collect())
    }

    /// A field, if it is there.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether a fleet may start on this server. Returns the checks to warn about; an old version cannot be overridden.
    pub fn admit(&self, eviction: Override, unpersisted: Override) -> Result<Vec<Check>, Refusal> {
        let checks =
            [(self.version(), None), (self.eviction(), Some(eviction)), (self.persistence(), Some(unpersisted))];
        let mut warnings = Vec::new();
        for (check, allowed) in checks {
            match check.level {
                Level::Ok => {}
                Level::Fail if !allowed.is_some_and(|it| it.given) => {
                    return Err(Refusal { check, how: allowed.map(|it| it.how) });
                }
                Level::Warn | Level::Fail => warnings.push(check),
            }
        }
        Ok(warnings)
    }

    /// Why the server cannot be judged yet, which passes; None if it can. Before it has loaded its files, what it says
    /// about them is wrong.
    pub fn is_not_ready(&self) -> Option<String> {
        let is = |name, value| self.get(name) == Some(value);
        if is("loading", "1") || is("async_loading", "1") {
            let part = self.get("loading_loaded_perc").map_or_else(String::new, |part| format!(" ({part} %)"));
            return Some(format!("it is loading its files{part}"));
        }
        if is("aof_enabled", "1") && is("aof_last_write_status", "err") {
            return Some("it cannot write its append-only file; see its log: is its disk full?".to_owned());
        }
        None
    }

    /// Checks that the version is new enough for Redis Functions.
    pub fn version(&self) -> Check {
        const NAME: &str = "version";
        let server = match self.get("valkey_version") {
            Some(valkey) => format!("Valkey {valkey}"),
            None => format!("Redis {}", self.get("redis_version").unwrap_or("of unknown version")),
        };
        let major = self.get("redis_version").and_then(|v| v.split('.').next()?.parse::<u32>().ok());
        match major {
            Some(7..) => Check::ok(NAME, server),
            Some(_) => Check::fail(
                NAME,
                format!("the server is {server}, which has no Redis Functions"),
                "use Redis 7.0 or later, or Valkey 8",
            ),
            None => {
                Check::warn(NAME, server, "Redis 7.0 or later, or Valkey 8, is needed; INFO does not say what this is")
            }
        }
    }

    /// What the server lacks to keep runs this safe, and what to do about it; None if it lacks nothing, or does not say.
    pub fn lacks(&self, durability: Durability) -> Option<String> {
        let number = |name| self.get(name).and_then(|text| text.parse::<u32>().ok());
        match durability {
            Durability::None => None,
            Durability::Fsync if self.get("aof_enabled") == Some("0") => {
                Some("the server has no append-only file: CONFIG SET appendonly yes".to_owned())
            }
            Durability::Fsync => {
                let mut version = self.get("redis_version")?.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
                let (major, minor) = (version.next()?, version.next().unwrap_or(0));
                let server = self.version().found;
                ((major, minor) < (7, 2))
                    .then(|| format!("the server is {server}, which has no WAITAOF: use Redis 7.2 or later, or Valkey"))
            }
            Durability::Replicas(wanted) => {
                let connected = number("connected_slaves").filter(|connected| *connected < wanted.into())?;
                Some(format!("the server has {connected} connected replicas: see INFO replication"))
            }
        }
    }

    /// Checks whether runs may be evicted.
    pub fn eviction(&self) -> Check {
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

    /// Checks whether runs survive a restart of the server.
    pub fn persistence(&self) -> Check {
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

    /// The kind of deployment that the server is a part of.
    pub fn mode(&self) -> Check {
        // As Valkey calls it, and as Redis does.
        match self.get("server_mode").or_else(|| self.get("redis_mode")) {
            Some("cluster") => Check::ok("mode", "cluster; this node has the partition"),
            mode => Check::ok(
                "mode",
                format!("{}, {}", mode.unwrap_or("unknown"), self.get("role").unwrap_or("role unknown")),
            ),
        }
    }
}

/// A Redis URL without user, password and anything else before the host or after a `?`.
pub fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return "the address given".into() };
    let rest = rest.split('?').next().unwrap_or_default();
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(lines: &str) -> Info {
        Info::parse(&lines.replace('\n', "\r\n"))
    }

    #[test]
    fn no_secret_is_printed() {
        for (url, shown) in [
            ("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2"),
            ("redis://me:p@ss/w0rd@host:1/0", "redis://***@host:1/0"),
            ("redis://:secret@host", "redis://***@host"),
            ("unix:///run/redis.sock?pass=secret", "unix:///run/redis.sock"),
            ("redis+sentinel://:secret@a:1,b:2/main?sentinel_password=secret", "redis+sentinel://***@a:1,b:2/main"),
            ("secret", "the address given"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
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
    fn a_state_that_passes_is_no_fault() {
        assert_eq!(info("aof_enabled:1\naof_last_write_status:ok\nloading:0\n").is_not_ready(), None);
        let loading = info("aof_enabled:0\nloading:1\nloading_loaded_perc:12.50\n");
        assert_eq!(loading.is_not_ready().unwrap(), "it is loading its files (12.50 %)");
        assert!(info("aof_enabled:1\naof_last_write_status:err\n").is_not_ready().unwrap().contains("disk full"));
        assert_eq!(Info::default().is_not_ready(), None);
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
    fn the_mode_is_that_of_redis_and_of_valkey() {
        for line in ["redis_mode:cluster", "server_mode:cluster"] {
            assert!(info(&format!("{line}\nrole:master\n")).mode().found.starts_with("cluster"), "{line}");
        }
    }

    #[test]
    fn what_is_not_said_is_no_failure() {
        let info = info("redis_version:7.2.4\nvalkey_version:8.0.1\n");
        assert_eq!(info.version().found, "Valkey 8.0.1");
        assert_eq!((info.eviction().level, info.persistence().level), (Level::Warn, Level::Warn));
        assert_eq!(Info::default().admit(EVICTION, UNPERSISTED).unwrap().len(), 3);
    }

    const EVICTION: Override = Override { how: "pass --allow-eviction", given: false };
    const UNPERSISTED: Override = Override { how: "pass --allow-unpersisted", given: false };

    #[test]
    fn a_refusal_says_why_and_how_to_override_it() {
        let evicting = info("redis_version:7.0.15\nmaxmemory_policy:allkeys-lru\naof_enabled:0\n");
        let refusal = evicting.admit(EVICTION, UNPERSISTED).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "refusing to start: maxmemory-policy is allkeys-lru: when memory runs short, Redis would silently delete \
             runs. Do this: CONFIG SET maxmemory-policy noeviction, and the same in redis.conf; or pass \
             --allow-eviction to start anyway."
        );
        let allowed = Override { given: true, ..EVICTION };
        assert_eq!(evicting.admit(allowed, UNPERSISTED).unwrap_err().how, Some("pass --allow-unpersisted"));
        let both = evicting.admit(allowed, Override { given: true, ..UNPERSISTED }).unwrap();
        assert_eq!(both.iter().map(|check| check.name).collect::<Vec<_>>(), ["eviction", "persistence"]);
    }

    #[test]
    fn nothing_overrides_an_old_server() {
        for old in ["redis_version:6.2.7", "redis_version:6.0.16\r\nmaxmemory_policy:noeviction\r\naof_enabled:1"] {
            let given = Override { given: true, how: "say so" };
            let refusal = Info::parse(old).admit(given, given).unwrap_err();
            assert_eq!((refusal.check.name, refusal.how), ("version", None));
            let sentence = refusal.to_string();
            assert!(
                sentence.contains("Redis 6.") && sentence.ends_with("use Redis 7.0 or later, or Valkey 8."),
                "{sentence}"
            );
        }
    }
}
