//! The program `stepfleet`, as people and scripts use it.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::{Fleet, Process, Signal};
use stepfleet_integration_tests::redis::free_port;
use stepfleet_integration_tests::{found, until};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(60);

fn stepfleet(url: &str, args: &[&str]) -> Output {
    Command::new(STEPFLEET).args(args).env("STEPFLEET_REDIS", url).stdin(Stdio::null()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The JSON that a command prints.
fn json_of(url: &str, args: &[&str]) -> Value {
    let output = stepfleet(url, args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {output:?}"))
}

#[tokio::test]
async fn a_run_is_started_waited_for_and_looked_at() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_process(STEPFLEET);
    let _worker = fleet.worker(WORKER, &[]);
    let url = &fleet.redis.url;
    let started = stepfleet(url, &["start", "squares", "--input", r#"{"count": 3}"#, "--id", "mine", "--wait"]);
    assert!(started.status.success(), "{started:?}");
    assert!(text(&started.stdout).contains("14"), "{started:?}");

    let failed = stepfleet(url, &["start", "broken", "--input", r#"{"n": 0}"#, "--id", "bad", "--wait"]);
    assert!(!failed.status.success());
    assert!(text(&failed.stderr).contains("no such customer"), "{failed:?}");

    let runs = json_of(url, &["runs", "--json"]);
    let ids: Vec<_> = runs.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["bad", "mine"], "newest first");
    let shown = json_of(url, &["show", "mine", "--json"]).to_string();
    assert!(shown.contains(r#""completed""#) && shown.contains("14"), "{shown}");
    let followed = stepfleet(url, &["follow", "mine"]);
    assert!(followed.status.success() && text(&followed.stdout).contains("square"), "{followed:?}");
    let workers = json_of(url, &["workers", "--json"]);
    assert_eq!(workers.as_array().map(Vec::len), Some(1), "{workers}");

    let nothing = stepfleet(url, &["show", "nothing"]);
    assert!(!nothing.status.success() && text(&nothing.stderr).contains("nothing"), "{nothing:?}");
    let wrong = stepfleet(url, &["start", "squares", "--input", "{wrong"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).to_lowercase().contains("json"), "{wrong:?}");
}

#[tokio::test]
async fn what_a_run_publishes_is_followed_from_the_beginning_or_a_position() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator_process(STEPFLEET);
    let _worker = fleet.worker(WORKER, &[]);
    let url = &fleet.redis.url;
    let start = ["start", "squares", "--input", r#"{"count": 3}"#, "--id", "told", "--follow-steps"];
    assert!(stepfleet(url, &start).status.success());
    let followed = stepfleet(url, &["follow", "told", "--events", "--json"]);
    assert!(followed.status.success(), "{followed:?}");
    let entries: Vec<Value> =
        text(&followed.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON on each line")).collect();
    let (last, others) = entries.split_last().expect("there are entries");
    assert_eq!((&last["kind"], &last["status"]), (&json!("end"), &json!("completed")));
    assert!(others.iter().all(|entry| entry["kind"] == "state"), "{others:?}");
    let squared = |entry: &&Value| entry["step"] == "square" && entry["state"] == "done";
    assert_eq!(others.iter().filter(squared).count(), 3, "{others:?}");

    let from = others.last().unwrap()["position"].as_str().unwrap();
    let rest = text(&stepfleet(url, &["follow", "told", "--from", from]).stdout);
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert!(rest.contains("end") && rest.contains("completed"), "{rest}");
    let wrong = stepfleet(url, &["follow", "told", "--from", "later"]);
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("1795312270622-0"), "{wrong:?}");
}

#[tokio::test]
async fn what_would_lose_work_or_cannot_be_understood_is_refused() {
    let fleet = Fleet::new().await;
    let url = &fleet.redis.url;
    assert!(stepfleet(url, &["doctor"]).status.success());
    let mut redis = fleet.redis.connection().await;
    let changes = [
        ("maxmemory-policy", "allkeys-lru", "noeviction", "--allow-eviction"),
        ("appendonly", "no", "yes", "--allow-unpersisted"),
    ];
    for (setting, bad, good, flag) in changes {
        let mut set = redis::cmd("CONFIG");
        let () = set.arg("SET").arg(setting).arg(bad).query_async(&mut redis).await.unwrap();
        let report = stepfleet(url, &["doctor"]);
        assert!(!report.status.success(), "{setting}: {report:?}");
        let refused = stepfleet(url, &["coordinator"]);
        assert!(!refused.status.success());
        assert!(text(&refused.stderr).contains(flag), "{setting}: {refused:?}");
        let () = redis::cmd("CONFIG").arg("SET").arg(setting).arg(good).query_async(&mut redis).await.unwrap();
    }
    for (field, value, sentence) in
        [("format", "2", "use a version that knows 2"), ("partitions", "0", "this version of Stepfleet knows 1 to")]
    {
        let () = redis::cmd("HSET").arg("sf:meta").arg(field).arg(value).query_async(&mut redis).await.unwrap();
        let refused = stepfleet(url, &["coordinator"]);
        assert!(!refused.status.success() && text(&refused.stderr).contains(sentence), "{refused:?}");
        let mut worker = fleet.worker(WORKER, &[]);
        assert!(!worker.ended().await.success(), "a worker started");
        assert!(worker.log().contains(sentence), "{}", worker.log());
        let () = redis::cmd("HDEL").arg("sf:meta").arg(field).query_async(&mut redis).await.unwrap();
    }
    let nobody = format!("redis://127.0.0.1:{}", free_port());
    let report = stepfleet(&nobody, &["runs"]);
    assert!(!report.status.success() && text(&report.stderr).contains("not available"), "{report:?}");
}

#[tokio::test]
async fn dev_brings_a_redis_that_outlives_neither_its_end_nor_its_death() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    for end in [Signal::TERM, Signal::KILL] {
        let mut dev = Process::start(STEPFLEET.as_ref(), &["dev", "--json", "--port", "0", "--dir", dir], &[]);
        let ready = async || dev.log().lines().find_map(|line| serde_json::from_str::<Value>(line).ok());
        let url = found(ready).await["redis"].as_str().unwrap().to_owned();
        let worker = [("STEPFLEET_REDIS", url.as_str()), ("RUST_LOG", "info")];
        let _worker = Process::start(WORKER.as_ref(), &[], &worker);
        let client = stepfleet_shared::Client::connect(&url).unwrap();
        // The same id both times: the second server returns what the first kept on disk.
        let run = client.start("squares", &json!({ "count": 2 })).id("kept").enqueue().await.unwrap();
        assert_eq!(run.result::<Value>(LIMIT).await.unwrap()["sum"], 5);
        assert_eq!(client.runs().list(10).await.unwrap().len(), 1, "{end:?}");
        let taken = stepfleet(&url, &["dev", "--port", url.rsplit(':').next().unwrap(), "--dir", "/nonexistent/x"]);
        assert!(!taken.status.success(), "{taken:?}");
        dev.signal(end);
        dev.ended().await;
        // Redis outlives neither.
        until(async || now(&client).await.is_err()).await;
    }
}

/// A `dev` that waits for a write of its own, on a Redis that holds writes back. None if `dev` was ready first.
async fn dev_in_the_making(dir: &str) -> Option<(Process, redis::aio::MultiplexedConnection)> {
    let port = free_port();
    let dev = Process::start(STEPFLEET.as_ref(), &["dev", "--port", &port.to_string(), "--dir", dir], &[]);
    let redis = redis::Client::open(("127.0.0.1", port)).unwrap();
    let mut connection = found(async || redis.get_multiplexed_async_connection().await.ok()).await;
    let () = redis::cmd("CLIENT").arg("PAUSE").arg(60_000).arg("WRITE").query_async(&mut connection).await.unwrap();
    let waits = found(async || {
        let list: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
        let waits = list.contains("flags=b");
        (waits || dev.log().contains("are ready")).then_some(waits)
    });
    waits.await.then_some((dev, connection))
}

#[tokio::test]
async fn dev_ends_if_it_is_told_to_while_it_prepares_its_namespace() {
    for _ in 0..50 {
        let folder = tempfile::tempdir().unwrap();
        let Some((mut dev, mut redis)) = dev_in_the_making(folder.path().to_str().unwrap()).await else { continue };
        dev.signal(Signal::TERM);
        let () = redis::cmd("CLIENT").arg("UNPAUSE").query_async(&mut redis).await.unwrap();
        assert!(dev.ended().await.success(), "{}", dev.log());
        return;
    }
    panic!("dev was always ready first");
}

async fn now(client: &stepfleet_shared::Client) -> stepfleet_shared::Result<u64> {
    client.partitions().await?.first().now_ms().await
}
