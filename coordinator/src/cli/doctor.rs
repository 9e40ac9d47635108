//! `stepfleet doctor`.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use redis::Value;
use serde_json::json;
use stepfleet_shared::Partitions;
use stepfleet_shared::fleet::Serving;
use stepfleet_shared::server::{Check, Info, Level};
use stepfleet_shared::store::{ReaderStore as _, RedisStore};

use super::error::{CliError, CliResult};
use super::output;
use super::text::span;
use super::{Fleet, audit, default_user, workflows};

const PINGS: usize = 200;
/// A server that closes idle connections within this many seconds may close those on which workers renew their leases.
const SHORT_TIMEOUT: u64 = 10;

#[derive(Args)]
pub(super) struct Options {
    /// Look for runs that miss something they need to go on, instead of checking Redis itself
    #[arg(long)]
    runs: bool,
    /// Repair what is found; a run fails if that is impossible
    #[arg(long, requires = "runs")]
    repair: bool,
}

pub(super) async fn run(fleet: &Fleet, options: &Options) -> CliResult {
    if options.runs {
        return audit::run(fleet, options.repair).await;
    }
    let home = fleet.home()?;
    let is_made = home.find().await?.is_some();
    let partitions = home.known().await?;
    let servers = servers(&partitions).await?;
    let mut checks = Vec::new();
    for (store, info) in &servers {
        let of_one = [
            info.version(),
            info.persistence(),
            info.eviction(),
            info.mode(),
            writes(store).await?,
            clock(store).await?,
            latency(store).await?,
            client_list(store).await?,
            library(store).await?,
            idle_connections(store).await?,
        ];
        let default_user = default_user::check(store, info).await?;
        let address = store.address().filter(|_| servers.len() > 1);
        let named = |check: Check| match &address {
            Some(address) => Check { found: format!("{address}: {}", check.found), ..check },
            None => check,
        };
        checks.extend(of_one.into_iter().chain(default_user).map(named));
    }
    checks.push(judge_partitions(is_made, partitions.count(), servers.len()));
    checks.push(coordinators(&servers).await?);
    checks.push(judge_queues(&workflows::read(&partitions).await?, partitions.first().now_ms().await?));
    let failed = checks.iter().any(|check| check.level == Level::Fail);
    if fleet.json {
        output::json(&json!({ "ok": !failed, "checks": checks }))?;
    } else {
        checks.iter().for_each(print);
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A partition of each server, and what that says about itself. Every partition is asked.
pub(super) async fn servers(partitions: &Partitions) -> Result<Vec<(RedisStore, Info)>, CliError> {
    let mut servers: Vec<(RedisStore, Info)> = Vec::new();
    for store in partitions.on_redis() {
        let info = store.server().await?.unwrap_or_default();
        let is_known = servers.iter().any(|(_, known)| known.get("run_id") == info.get("run_id"));
        if !is_known {
            servers.push((store.clone(), info));
        }
    }
    Ok(servers)
}

fn judge_partitions(is_made: bool, count: u16, servers: usize) -> Check {
    const NAME: &str = "partitions";
    match (is_made, servers) {
        (false, _) => Check::ok(NAME, "the namespace does not exist yet; the first coordinator creates it"),
        (true, 1) => Check::ok(NAME, format!("{count}")),
        (true, _) => Check::ok(NAME, format!("{count}, on {servers} servers")),
    }
}

fn print(check: &Check) {
    let (word, good) = match check.level {
        Level::Ok => ("ok  ", Some(true)),
        Level::Warn => ("warn", None),
        Level::Fail => ("FAIL", Some(false)),
    };
    output::line(&format!("{}  {:<18}{}", output::graded(word, good), check.name, check.found));
    if let Some(advice) = &check.advice {
        output::line(&format!("      {:<18}-> {advice}", ""));
    }
}

async fn clock(store: &RedisStore) -> Result<Check, CliError> {
    let (began, mut best) = (Instant::now(), (Duration::MAX, 0));
    for _ in 0..5 {
        let (sent, local) = (Instant::now(), SystemTime::now());
        let redis = store.now_ms().await?;
        let trip = sent.elapsed();
        let middle = local.duration_since(UNIX_EPOCH).unwrap_or_default() + trip / 2;
        best = best.min((trip, i128::from(redis) - i128::try_from(middle.as_millis()).unwrap_or_default()));
        if began.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    Ok(judge_clock(best.1))
}

fn judge_clock(ahead_ms: i128) -> Check {
    const NAME: &str = "clock";
    let found =
        format!("Redis' is {} ms {} this machine's", ahead_ms.abs(), if ahead_ms < 0 { "behind" } else { "ahead of" });
    if ahead_ms.abs() <= 1000 {
        return Check::ok(NAME, found);
    }
    Check::warn(NAME, found, "timers and leases use Redis' clock alone, but times in logs will not match: set up NTP")
}

/// Whether the server takes writes now: one is tried that changes nothing.
async fn writes(store: &RedisStore) -> Result<Check, CliError> {
    const NAME: &str = "writes";
    let mut nothing = redis::cmd("SETRANGE");
    // The name of a channel, which is no key.
    nothing.arg(store.namespace().key("alarm")).arg(0).arg("");
    match store.command(&nothing).await {
        Ok(_) => Ok(Check::ok(NAME, "taken")),
        Err(error) if error.is_denied() => Ok(Check::warn(
            NAME,
            "not tested: this user may not write",
            "connect as a user who may write: --redis redis://user:password@host",
        )),
        Err(error) if error.is_unreachable() => Err(error.into()),
        Err(error) => {
            let advice = error.advice().unwrap_or("see INFO and the server's log");
            Ok(Check::fail(NAME, format!("{error}; workers and coordinators wait until it accepts writes"), advice))
        }
    }
}

async fn latency(store: &RedisStore) -> Result<Check, CliError> {
    let (began, mut trips) = (Instant::now(), Vec::with_capacity(PINGS));
    while trips.len() < PINGS && began.elapsed() < Duration::from_secs(10) {
        let sent = Instant::now();
        store.command(&redis::cmd("PING")).await?;
        trips.push(sent.elapsed());
    }
    trips.sort_unstable();
    Ok(judge_latency(&trips))
}

fn judge_latency(sorted: &[Duration]) -> Check {
    const NAME: &str = "latency";
    let at = |percent: usize| sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default();
    let (p50, p99) = (at(50), at(99));
    let found = format!("p50 {p50:.1?}, p99 {p99:.1?} of {} PINGs", sorted.len());
    if p50 > Duration::from_millis(5) {
        return Check::warn(NAME, found, "each step waits for Redis about once: run workers closer to Redis");
    }
    if p99 > Duration::from_millis(50) {
        return Check::warn(NAME, found, "something stalls Redis now and then: see SLOWLOG GET and LATENCY DOCTOR");
    }
    Check::ok(NAME, found)
}

async fn client_list(store: &RedisStore) -> Result<Check, CliError> {
    const NAME: &str = "dead workers";
    let mut list = redis::cmd("CLIENT");
    list.arg("LIST").arg("ID").arg(1);
    match store.command(&list).await {
        Ok(_) => Ok(Check::ok(NAME, "noticed by their closed connections")),
        Err(error) if error.is_denied() => Ok(Check::warn(
            NAME,
            "noticed only when their lease runs out: CLIENT LIST is denied",
            "ACL SETUSER <user> +client|list",
        )),
        Err(error) => Err(error.into()),
    }
}

/// Whether the server closes connections that are idle, and after how long.
async fn idle_connections(store: &RedisStore) -> Result<Check, CliError> {
    let mut get = redis::cmd("CONFIG");
    get.arg("GET").arg("timeout");
    match store.command(&get).await {
        Ok(reply) => {
            let pair: Vec<String> = redis::from_redis_value(reply).unwrap_or_default();
            Ok(judge_timeout(pair.get(1).and_then(|seconds| seconds.parse().ok())))
        }
        Err(error) if error.is_unreachable() => Err(error.into()),
        // Managed servers deny CONFIG, and nobody can change that.
        Err(_) => Ok(judge_timeout(None)),
    }
}

fn judge_timeout(seconds: Option<u64>) -> Check {
    const NAME: &str = "idle connections";
    match seconds {
        None => Check::ok(NAME, "CONFIG GET timeout does not say when they are closed; clients reconnect"),
        Some(0) => Check::ok(NAME, "are kept open (timeout 0)"),
        Some(few @ 1..SHORT_TIMEOUT) => Check::warn(
            NAME,
            format!(
                "are closed after {few} s (timeout {few}): workers must renew their leases more often, and callers \
                 keep reconnecting"
            ),
            "CONFIG SET timeout 0 (or 60 or more), and the same in redis.conf",
        ),
        Some(many) => Check::ok(NAME, format!("are closed after {many} s; clients reconnect")),
    }
}

async fn library(store: &RedisStore) -> Result<Check, CliError> {
    const NAME: &str = "function library";
    let mut list = redis::cmd("FUNCTION");
    list.arg("LIST").arg("LIBRARYNAME").arg("stepfleet_*");
    match store.command(&list).await {
        Ok(reply) => Ok(judge_library(&names(&reply))),
        Err(error) if error.is_denied() => Ok(Check::warn(
            NAME,
            "cannot be checked: FUNCTION LIST is denied",
            "ACL SETUSER <user> +function|list +function|load +fcall",
        )),
        Err(error) if error.is_unavailable() => Err(error.into()),
        Err(error) => Ok(Check::fail(NAME, error.to_string(), "use Redis 7.0 or later, or Valkey 8")),
    }
}

fn judge_library(loaded: &[String]) -> Check {
    const NAME: &str = "function library";
    match loaded {
        [] => Check::ok(NAME, "not loaded yet; the first coordinator or worker loads it"),
        [one] => Check::ok(NAME, format!("{one} is loaded")),
        many => Check::ok(NAME, format!("{} builds are loaded ({})", many.len(), many.join(", "))),
    }
}

/// The libraries' names, as `FUNCTION LIST` returns them.
fn names(reply: &Value) -> Vec<String> {
    let Value::Array(libraries) = reply else { return Vec::new() };
    let name = |library: &Value| {
        let flat: Vec<Value> = match library {
            Value::Array(values) => values.clone(),
            Value::Map(pairs) => pairs.iter().flat_map(|(k, v)| [k.clone(), v.clone()]).collect(),
            _ => return None,
        };
        let (named, _) = flat.as_chunks::<2>();
        named.iter().find(|[key, _]| text(key.clone()) == "library_name").map(|[_, value]| text(value.clone()))
    };
    libraries.iter().filter_map(name).collect()
}

/// Whether anyone takes in requests: the connections that wait for them have names.
async fn coordinators(servers: &[(RedisStore, Info)]) -> Result<Check, CliError> {
    let mut list = redis::cmd("CLIENT");
    list.arg("LIST").arg("TYPE").arg("normal");
    let mut all = String::new();
    for (store, _) in servers {
        match store.command(&list).await {
            Ok(clients) => all.push_str(&text(clients)),
            Err(error) if error.is_denied() => {
                return Ok(Check::warn(
                    "coordinators",
                    "cannot be counted: CLIENT LIST is denied",
                    "ACL SETUSER <user> +client|list",
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(judge_coordinators(&all))
}

fn judge_coordinators(clients: &str) -> Check {
    const NAME: &str = "coordinators";
    // One has a connection for each partition in a cluster.
    let name = |client: &str| Some(client.split_once(" name=stepfleet-inbox-")?.1.split(' ').next()?.to_owned());
    match clients.lines().filter_map(name).collect::<BTreeSet<_>>().len() {
        0 => Check::warn(NAME, "none is connected, in any namespace", "start one: stepfleet coordinator"),
        count => Check::ok(NAME, format!("{count} connected")),
    }
}

/// Whether step events wait that nobody takes.
fn judge_queues(all: &[Serving], now_ms: u64) -> Check {
    const NAME: &str = "queues";
    const NAMED: usize = 10;
    let stuck: Vec<&Serving> = all.iter().filter(|serving| serving.is_unserved() && serving.waiting > 0).collect();
    if stuck.is_empty() {
        return Check::ok(NAME, "all that waits is served by a worker");
    }
    let named = stuck.iter().take(NAMED).map(|serving| {
        let Serving { workflow, version, waiting, .. } = serving;
        let since = serving
            .unserved_since_ms
            .map_or_else(String::new, |since| format!(" for {}", span(now_ms.saturating_sub(since))));
        format!("{workflow} version {version} ({waiting} waiting, no worker{since})")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    let more = stuck.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Check::warn(
        NAME,
        format!("no worker serves {named}{more}"),
        "start workers with these versions, or cancel their runs (`stepfleet runs --workflow NAME`)",
    )
}

/// A reply as text, whatever kind of string it is.
pub(super) fn text(value: Value) -> String {
    redis::from_redis_value::<String>(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_latencies_are_judged() {
        assert_eq!(judge_clock(-40).level, Level::Ok);
        assert!(judge_clock(-2500).found.contains("2500 ms behind"));
        assert_eq!(judge_clock(2500).level, Level::Warn);
        let millis = |ms| Duration::from_millis(ms);
        assert_eq!(judge_latency(&[millis(1); 200]).level, Level::Ok);
        assert_eq!(judge_latency(&[millis(8); 200]).level, Level::Warn);
        assert_eq!(judge_latency(&[]).level, Level::Ok);
    }

    #[test]
    fn a_server_that_closes_idle_connections_soon_is_told_of() {
        let level = |seconds| judge_timeout(seconds).level;
        assert_eq!([level(None), level(Some(0)), level(Some(10)), level(Some(300))], [Level::Ok; 4]);
        assert_eq!((level(Some(1)), level(Some(9))), (Level::Warn, Level::Warn));
        assert!(judge_timeout(Some(1)).found.contains("timeout 1"));
    }

    #[test]
    fn coordinators_are_known_by_their_connections() {
        let clients = "id=3 addr=1 name=stepfleet-inbox-a age=1\nid=4 addr=2 name=stepfleet-lease-b age=1\n";
        assert_eq!(judge_coordinators(clients).found, "1 connected");
        assert_eq!(judge_coordinators("").level, Level::Warn);
    }

    #[test]
    fn queues_that_nobody_serves_are_named() {
        let serving = |version, workers, waiting| Serving {
            workflow: "rag".into(),
            version,
            workers,
            waiting,
            unserved_since_ms: (workers == 0).then_some(1000),
        };
        assert_eq!(judge_queues(&[serving(1, 0, 0), serving(2, 1, 5)], 61_000).level, Level::Ok);
        let warned = judge_queues(&[serving(1, 0, 4), serving(2, 1, 5)], 61_000);
        assert_eq!(warned.level, Level::Warn);
        assert_eq!(warned.found, "no worker serves rag version 1 (4 waiting, no worker for 1m00s)");
        let many: Vec<_> = (0..12).map(|version| serving(version, 0, 1)).collect();
        assert!(judge_queues(&many, 0).found.ends_with("and 2 more"));
    }

    #[test]
    fn libraries_are_read_in_either_protocol() {
        let text = |t: &str| Value::BulkString(t.as_bytes().to_vec());
        let pair = [text("library_name"), text("stepfleet_1")];
        let flat = Value::Array(vec![Value::Array(pair.to_vec())]);
        let [key, value] = pair;
        let map = Value::Array(vec![Value::Map(vec![(key, value)])]);
        assert_eq!((names(&flat), names(&map)), (vec!["stepfleet_1".into()], vec!["stepfleet_1".into()]));
        assert!(names(&Value::Nil).is_empty());
    }
}
