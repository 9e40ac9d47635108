//! Reads a Redis URL: where the servers are, or which servers to ask.

use redis::{ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo};

use super::security::{OPTIONS, Security, unusable};
use super::tls::Tls;
use crate::error::{Error, Result};

const SENTINEL_PORT: u16 = 26_379;

/// Where the servers are.
#[derive(Clone, Debug)]
pub(super) enum Places {
    /// One server, always the same.
    Standalone(Box<ConnectionInfo>, Option<Tls>),
    /// The master that Sentinels name.
    Sentinel { sentinels: Vec<ConnectionInfo>, master: String, login: Login },
    /// Masters of a cluster, each with a part of the slots. `seeds` are those to begin with.
    Cluster { seeds: Vec<ConnectionInfo>, login: Login },
}

/// How to log in at whatever server of a deployment, and how the connection is protected.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub(super) settings: RedisConnectionInfo,
    pub(super) security: Security,
}

impl Places {
    pub(super) fn parse(url: &str) -> Result<Self> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(unusable("it has no ://; write redis://host:port"));
        };
        let is_tls = scheme.starts_with("rediss");
        match scheme {
            "redis+sentinel" | "rediss+sentinel" => Parts::read(rest, is_tls)?.sentinel(),
            "redis+cluster" | "rediss+cluster" => Parts::read(rest, is_tls)?.cluster(),
            "redis" | "rediss" => {
                let parts = rest.split_once('?').map_or("", |(_, options)| options);
                // What follows a # is not an option.
                let (ours, _) = options(parts.split_once('#').map_or(parts, |(options, _)| options))?;
                let security = Security::read(is_tls, &ours)?;
                Ok(Self::Standalone(Box::new(security.apply(one(url)?)?), security.tls()))
            }
            _ => Ok(Self::Standalone(Box::new(one(url)?), None)),
        }
    }
}

/// Reads a URL of one server.
fn one(url: &str) -> Result<ConnectionInfo> {
    if redis::parse_redis_url(url).is_none() {
        return Err(unusable(
            "it must begin with redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (rediss+sentinel://, \
             rediss+cluster://) and name a host",
        ));
    }
    let info = url.into_connection_info().map_err(|e| unusable(&e.to_string()))?;
    if info.redis_settings().protocol() != ProtocolVersion::RESP2 {
        return Err(unusable("it asks for RESP3, and Stepfleet speaks RESP2; leave out `protocol`"));
    }
    Ok(info)
}

/// The parts of a URL that names several hosts: `user:password@host:port,host:port/path?options`.
struct Parts<'a> {
    login: Option<&'a str>,
    hosts: Vec<&'a str>,
    path: &'a str,
    /// Options other than those of the security.
    options: Vec<(String, String)>,
    security: Security,
}

impl<'a> Parts<'a> {
    fn read(rest: &'a str, is_tls: bool) -> Result<Self> {
        let (rest, asked) = rest.split_once('?').unwrap_or((rest, ""));
        let (ours, options) = options(asked)?;
        let (login, places) = match rest.rsplit_once('@') {
            Some((login, places)) => (Some(login), places),
            None => (None, rest),
        };
        let (hosts, path) = places.split_once('/').unwrap_or((places, ""));
        let hosts: Vec<_> = hosts.split(',').map(str::trim).collect();
        if hosts.iter().any(|host| host.is_empty()) {
            return Err(unusable("one of its hosts is empty; write host:port,host:port"));
        }
        let security = Security::read(is_tls, &ours)?;
        Ok(Self { login, hosts, path, options, security })
    }

    fn sentinel(self) -> Result<Places> {
        let (master, db) = self.path.split_once('/').unwrap_or((self.path, ""));
        if master.is_empty() {
            return Err(unusable(
                "it does not name the master to ask the Sentinels for; write \
                 redis+sentinel://host:port,host:port/name-of-the-master",
            ));
        }
        let mut sentinel_login = RedisConnectionInfo::default();
        for (name, value) in &self.options {
            sentinel_login = match name.as_str() {
                "sentinel_username" => sentinel_login.set_username(value),
                "sentinel_password" => sentinel_login.set_password(value),
                _ => return Err(unknown_option(name, "sentinel_username, sentinel_password, ")),
            };
        }
        let settings = self.info(self.hosts[0], db)?.redis_settings().clone();
        let sentinels = self.hosts.iter().map(|host| {
            let host = if has_port(host) { (*host).to_owned() } else { format!("{host}:{SENTINEL_PORT}") };
            Ok(self.info(&host, "")?.set_redis_settings(sentinel_login.clone()))
        });
        let sentinels = sentinels.collect::<Result<_>>()?;
        let login = Login { settings, security: self.security.clone() };
        Ok(Places::Sentinel { sentinels, master: master.to_owned(), login })
    }

    fn cluster(self) -> Result<Places> {
        if !matches!(self.path, "" | "0" | "0/") {
            return Err(unusable("a cluster has no databases; leave out what follows the hosts"));
        }
        if let Some((name, _)) = self.options.first() {
            return Err(unknown_option(name, ""));
        }
        let seeds = self.hosts.iter().map(|host| self.info(host, "")).collect::<Result<Vec<_>>>()?;
        let login = Login { settings: seeds[0].redis_settings().clone(), security: self.security.clone() };
        Ok(Places::Cluster { login, seeds })
    }

    fn info(&self, host: &str, db: &str) -> Result<ConnectionInfo> {
        let login = self.login.map(|login| format!("{login}@")).unwrap_or_default();
        self.security.apply(one(&format!("{}://{login}{host}/{db}", self.security.scheme()))?)
    }
}

type Options = Vec<(String, String)>;

/// The options of the security, and the others.
fn options(text: &str) -> Result<(Options, Options)> {
    // The reader of the URL that these make is the one that decodes them.
    let url = redis::parse_redis_url(&format!("redis://host/?{text}"));
    let url = url.ok_or_else(|| unusable("the part after its ? cannot be read"))?;
    let all = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned()));
    Ok(all.partition(|(name, _)| OPTIONS.contains(&name.as_str())))
}

fn unknown_option(name: &str, known: &str) -> Error {
    match name {
        "protocol" => unusable("it asks for a protocol, and Stepfleet speaks RESP2 always; leave out `protocol`"),
        // Not its name: it may be the rest of a password.
        _ => unusable(&format!("it has an unknown option; known options: {known}{}", OPTIONS.join(", "))),
    }
}

/// A port follows the brackets of an IPv6 address.
fn has_port(host: &str) -> bool {
    host.rsplit_once(']').map_or(host, |(_, rest)| rest).contains(':')
}

#[cfg(test)]
mod tests {
    use super::super::address::Address;
    use super::*;

    fn addresses(infos: &[ConnectionInfo]) -> Vec<String> {
        infos.iter().map(|info| info.addr().to_string()).collect()
    }

    fn login(settings: &RedisConnectionInfo) -> (Option<&str>, Option<&str>, i64) {
        (settings.username(), settings.password(), settings.db())
    }

    #[test]
    fn one_server() {
        for (url, address, expected) in [
            ("redis://127.0.0.1", "127.0.0.1:6379", (None, None, 0)),
            ("redis://me:s%40fe@db.internal:7000/3", "db.internal:7000", (Some("me"), Some("s@fe"), 3)),
            ("unix:///run/redis.sock", "/run/redis.sock", (None, None, 0)),
        ] {
            let Places::Standalone(info, _) = Places::parse(url).unwrap() else { panic!("{url}") };
            assert_eq!(info.addr().to_string(), address, "{url}");
            assert_eq!(login(info.redis_settings()), expected, "{url}");
        }
    }

    #[test]
    fn sentinels() {
        let url = "redis+sentinel://me:s%40fe@a.internal:5000,10.0.0.2,[::1]/main/2";
        let Places::Sentinel { sentinels, master, login: servers } = Places::parse(url).unwrap() else { panic!() };
        assert_eq!(addresses(&sentinels), ["a.internal:5000", "10.0.0.2:26379", "::1:26379"]);
        assert_eq!(master, "main");
        assert_eq!(login(&servers.settings), (Some("me"), Some("s@fe"), 2));
        assert_eq!(login(sentinels[0].redis_settings()), (None, None, 0), "the login is that of the servers");

        let url = "redis+sentinel://a/main?sentinel_username=s&sentinel_password=p%26q";
        let Places::Sentinel { sentinels, login: servers, .. } = Places::parse(url).unwrap() else { panic!() };
        assert_eq!(login(sentinels[0].redis_settings()), (Some("s"), Some("p&q"), 0));
        assert_eq!(login(&servers.settings), (None, None, 0));
    }

    #[test]
    fn clusters() {
        let url = "redis+cluster://:safe@10.0.0.1:7000,10.0.0.2";
        let Places::Cluster { seeds, login: servers } = Places::parse(url).unwrap() else { panic!() };
        assert_eq!(addresses(&seeds), ["10.0.0.1:7000", "10.0.0.2:6379"]);
        assert_eq!(login(&servers.settings), (None, Some("safe"), 0));
        let address = Address::parse("10.0.0.3:7002").unwrap();
        let node = servers.security.at(&address, &servers.settings).unwrap();
        assert_eq!(
            (node.addr().to_string().as_str(), node.redis_settings().password()),
            ("10.0.0.3:7002", Some("safe"))
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_a_sentence_without_the_password() {
        for (url, why) in [
            ("127.0.0.1:6379", "no ://"),
            ("http://me:hunter2@h", "must begin with redis://"),
            ("redis://", "Missing hostname"),
            ("redis://me:hunter2@h:port", "must begin with"),
            ("redis://me:hunter2@h/x", "database"),
            ("redis://me:hunter2@h?protocol=resp3", "RESP3"),
            ("redis+sentinel://me:hunter2@h:1,h:2", "the master to ask"),
            ("redis+sentinel://me:hunter2@h:1,h:2/main/x", "database"),
            ("redis+sentinel://me:hunter2@h:1,,h:2/main", "hosts is empty"),
            ("redis+sentinel:///main", "hosts is empty"),
            ("redis+sentinel://me:hunter2@h/main?protocol=resp3", "RESP2"),
            ("redis+sentinel://me:hunter2@h/main?timeout=3", "unknown option; known options: sentinel_username"),
            ("redis+cluster://me:what?hunter2@h", "unknown option; known options: ca"),
            ("redis+cluster://me:hunter2@h:1,h:2/3", "no databases"),
            ("redis+cluster://me:hunter2@h?protocol=resp3", "RESP2"),
            ("redis+cluster://me:hunter2@h,h:99999", "must begin with"),
        ] {
            let error = Places::parse(url).expect_err(url);
            assert!(error.is_invalid() && error.to_string().contains(why), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
