//! Everything is bounded: runs, consumers, rejected requests; and nothing blocks Redis for long.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::streams::StreamInfoConsumersReply;
use serde_json::{Value, json};
use stepfleet_integration_tests::fleet::Fleet;
use stepfleet_integration_tests::{seen, until};

const WORKER: &str = env!("CARGO_BIN_EXE_test-worker");
const STEPFLEET: &str = env!("CARGO_BIN_EXE_test-stepfleet");
const LIMIT: Duration = Duration::from_secs(120);

async fn keys(redis: &mut MultiplexedConnection) -> BTreeSet<String> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(redis).await.unwrap();
    // A worker's holds come and go with its steps.
    keys.into_iter().filter(|key| !key.contains(":held:")).collect()
}

async fn consumers(redis: &mut MultiplexedConnection, stream: &str, group: &str) -> BTreeSet<String> {
    let key = format!("sf:{{0}}:{stream}");
    let list: StreamInfoConsumersReply =
        redis::cmd("XINFO").arg("CONSUMERS").arg(key).arg(group).query_async(redis).await.unwrap();
    list.consumers.into_iter().map(|consumer| consumer.name).collect()
}

#[tokio::test]
async fn after_ten_thousand_runs_and_their_retention_redis_is_as_it_was() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _workers: Vec<_> = (0..2).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(2).await;
    let mut redis = fleet.redis.connection().await;
    let first = fleet.client.start("brief", &json!({ "n": 0 })).id("first").enqueue().await.unwrap();
    first.wait(LIMIT).await.unwrap();
    until(async || fleet.store.run("first").await.unwrap().is_none()).await;
    let before = keys(&mut redis).await;
    for batch in 0..100u64 {
        let mut adds = redis::pipe();
        for n in 0..100u64 {
            let input = json!({ "n": batch * 100 + n }).to_string();
            adds.cmd("XADD").arg("sf:{0}:inbox").arg("*").arg("op").arg("start").arg("workflow").arg("brief");
            adds.arg("input").arg(input).ignore();
        }
        let () = adds.query_async(&mut redis).await.unwrap();
    }
    let last = fleet.client.start("brief", &json!({ "n": 7 })).id("last").enqueue().await.unwrap();
    assert_eq!(last.result::<Value>(LIMIT).await.unwrap()["answer"], "7");
    let changed = async || {
        let now = keys(&mut redis).await;
        now.symmetric_difference(&before).take(10).cloned().collect::<Vec<_>>()
    };
    seen(changed, Vec::is_empty).await;
    assert_eq!(consumers(&mut redis, "queue:brief:1", "workers").await.len(), 1, "all workers are one");
    assert_eq!(consumers(&mut redis, "inbox", "coordinators").await.len(), 1);
}

#[tokio::test]
async fn consumers_of_the_departed_are_dropped() {
    let fleet = Fleet::new().await;
    let mut redis = fleet.redis.connection().await;
    for _ in 0..3 {
        let mut coordinator = fleet.coordinator_process(STEPFLEET);
        let mut worker = fleet.worker(WORKER, &[]);
        let before = fleet.store.runs(0, 1000).await.unwrap().len();
        fleet.client.start("chain", &json!({ "n": 1 })).enqueue().await.unwrap().wait(LIMIT).await.unwrap();
        assert!(fleet.store.runs(0, 1000).await.unwrap().len() > before);
        coordinator.kill();
        worker.kill();
    }
    let departed = consumers(&mut redis, "inbox", "coordinators").await;
    assert_eq!(departed.len(), 3);
    // Short idle times: with the defaults, this would take minutes.
    let _live = fleet.coordinator_with(stepfleet_coordinator::Config {
        reclaim_idle: Duration::from_millis(30),
        reclaim: Duration::from_millis(50),
        ..stepfleet_coordinator::Config::default()
    });
    until(async || {
        let left = consumers(&mut redis, "inbox", "coordinators").await;
        // All workers are one consumer of a queue.
        let workers = consumers(&mut redis, "queue:chain:1", "workers").await;
        let kept: Vec<String> = redis::cmd("KEYS").arg("sf:{0}:w[ao][kr]*:*").query_async(&mut redis).await.unwrap();
        // Versions of Redis differ in whether they list the live one before it got an entry.
        left.is_disjoint(&departed) && workers.len() <= 1 && kept.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_fan_out_of_ten_thousand_joins_and_never_holds_redis_up_for_long() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _workers: Vec<_> = (0..2).map(|_| fleet.worker(WORKER, &[])).collect();
    fleet.workers_ready(2).await;
    let mut redis = fleet.redis.connection().await;
    let () =
        redis::cmd("CONFIG").arg("SET").arg("slowlog-log-slower-than").arg(1000).query_async(&mut redis).await.unwrap();
    let () = redis::cmd("SLOWLOG").arg("RESET").query_async(&mut redis).await.unwrap();
    let run = fleet.client.start("squares", &json!({ "count": 10_000 })).enqueue().await.unwrap();
    let sum: u64 = (1..=10_000u64).map(|n| n * n).sum();
    assert_eq!(run.result::<Value>(LIMIT).await.unwrap(), json!({ "count": 10_000, "sum": sum }));
    let slow: Vec<Vec<redis::Value>> = redis::cmd("SLOWLOG").arg("GET").arg(128).query_async(&mut redis).await.unwrap();
    // The log is printed, not checked: how long a call takes depends on the machine. How much one call may write does not,
    // and the tests of staging check it.
    let mut times: Vec<u64> =
        slow.into_iter().map(|mut e| redis::from_redis_value(e.swap_remove(2)).unwrap()).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.truncate(5);
    writeln!(std::io::stdout(), "SLOWLOG above 1 ms, the longest in us: {times:?}").unwrap();
}

#[tokio::test]
async fn ten_thousand_malformed_requests_are_rejected_with_reasons_and_hold_nothing_up() {
    let fleet = Fleet::new().await;
    let _coordinator = fleet.coordinator();
    let _worker = fleet.worker(WORKER, &[]);
    fleet.workers_ready(1).await;
    let mut redis = fleet.redis.connection().await;
    let garbage: [&[(&str, &[u8])]; 8] = [
        (&[("x", b"y")]),
        (&[("op", b"start")]),
        (&[("op", b"\xff\xfe")]),
        (&[("op", b"start"), ("workflow", b"chain"), ("input", b"{\"n\":")]),
        (&[("op", b"start"), ("workflow", b"a b{c}"), ("input", b"{}")]),
        (&[("op", b"start"), ("workflow", b"chain"), ("content", b"msgpack"), ("input", b"\xc1")]),
        (&[("op", b"start"), ("workflow", b"chain"), ("id", b"\r\nHSET x"), ("input", b"{}")]),
        (&[("op", b"start"), ("workflow", b"chain"), ("op", b"start"), ("", b"")]),
    ];
    for _ in 0..25 {
        let mut adds = redis::pipe();
        for n in 0..400 {
            let add = adds.cmd("XADD").arg("sf:{0}:inbox").arg("*");
            for (name, value) in garbage[n % garbage.len()] {
                add.arg(*name).arg(*value);
            }
            add.ignore();
        }
        let () = adds.query_async(&mut redis).await.unwrap();
    }
    let good = fleet.client.start("chain", &json!({ "n": 1 })).id("good").enqueue().await.unwrap();
    assert_eq!(good.result::<Value>(LIMIT).await.unwrap()["answer"], "hello 1 good");
    let rejected: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg("sf:{0}:rejected").arg("-").arg("+").query_async(&mut redis).await.unwrap();
    assert!(rejected.ids.len() >= 9_900 && rejected.ids.len() <= 10_200, "{}", rejected.ids.len());
    for entry in &rejected.ids {
        assert!(entry.get::<String>("reason").is_some_and(|reason| reason.len() > 10), "{entry:?}");
    }
    let inbox: u64 = redis::cmd("XLEN").arg("sf:{0}:inbox").query_async(&mut redis).await.unwrap();
    assert_eq!(inbox, 0);
    assert_eq!(fleet.store.runs(0, 10).await.unwrap().len(), 1, "none of it became a run");
}
