//! The keys of a fleet are deleted: queues, timers, workers, their holds and leases.

use std::time::Duration;

use stepfleet_integration_tests::double::{self, join_fleet, slots, start};
use stepfleet_shared::history::Kind;
use stepfleet_shared::step::{Commit, CommitStatus};
use stepfleet_shared::store::{Reap, Start};

use super::{HOUR, Stage, emits};

#[tokio::test]
async fn the_queue_is_deleted() {
    let mut stage = Stage::new().await;
    stage.delete("queue:w:1").await;
    assert_eq!(stage.audit().await, ["r: step execution 1 is queued but missing from its queue"]);
    let kinds: Vec<Kind> = stage.store().history("r", 0, 10).await.unwrap().into_iter().map(|r| r.kind).collect();
    assert_eq!(kinds, [Kind::Start, Kind::Repaired]);
    stage.end().await;
}

#[tokio::test]
async fn the_names_of_the_queues_that_have_entries_are_deleted() {
    for again in [false, true] {
        let mut stage = Stage::new().await;
        if again {
            let step = stage.claim(1).await.remove(0);
            assert_eq!(stage.store().release("a", std::slice::from_ref(&step.fence)).await.unwrap(), 1);
        }
        let (set, queue) = if again { ("urgent", "requeued:w:1") } else { ("ready", "queue:w:1") };
        stage.delete(set).await;
        assert!(stage.claim(1).await.is_empty(), "nobody looks there");
        assert_eq!(stage.audit().await, [format!("r: {queue} has entries and is not listed as having any")]);
        stage.end().await;
    }
}

#[tokio::test]
async fn what_the_classes_of_workers_serve_is_deleted() {
    for kind in ["serves:", "classes:"] {
        let mut stage = Stage::new().await;
        let mut redis = stage.fleet.redis.connection().await;
        let pattern = format!("sf:{{0}}:{kind}*");
        let keys: Vec<String> = redis::cmd("KEYS").arg(pattern).query_async(&mut redis).await.unwrap();
        assert_eq!(keys.len(), 1);
        stage.delete(keys[0].strip_prefix("sf:{0}:").unwrap()).await;
        assert_eq!(stage.audit().await, ["a: the worker would receive nothing from the queue w:1"]);
        stage.end().await;
    }
}

#[tokio::test]
async fn the_connections_of_the_workers_are_deleted() {
    let mut stage = Stage::new().await;
    let mut lease = stage.store().lease("a", HOUR).await.unwrap();
    lease.heartbeat().await.unwrap();
    let step = stage.claim(1).await.remove(0);
    stage.delete("clients").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "one of the next heartbeats names it again");
    for _ in 0..16 {
        lease.heartbeat().await.unwrap();
    }
    assert!(stage.store().disconnected().await.unwrap().is_empty());
    drop(lease);
    // Closing takes a moment.
    let closed = async {
        loop {
            let suspects = stage.store().disconnected().await.unwrap();
            if !suspects.is_empty() {
                return suspects;
            }
        }
    };
    let suspects = tokio::time::timeout(Duration::from_secs(30), closed).await.expect("it is seen closed");
    let reaped = stage.store().reap(&Reap { suspects, ..double::reap(&[]) }).await.unwrap();
    assert_eq!((reaped.requeued, reaped.reaped), (1, vec!["a".to_owned()]));
    assert_eq!(stage.complete(&step, Commit::default()).await, CommitStatus::Fenced);
}

#[tokio::test]
async fn a_worker_is_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.delete("worker:a").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "its lease says that it is there");
    let call = stage.call();
    let lost = stage.store().claim(&call, &slots(&call, 1)).await.unwrap();
    assert!(lost.is_none(), "it is told that it must begin anew");
    stage.store().reap(&double::reap(&["a"])).await.unwrap();
    assert_eq!(stage.complete(&step, Commit::default()).await, CommitStatus::Fenced);
    join_fleet(stage.store(), "a", HOUR).await;
    stage.end().await;
}

#[tokio::test]
async fn somebody_else_has_read_the_queue() {
    let mut stage = Stage::new().await;
    let mut redis = stage.fleet.redis.connection().await;
    let mut read = redis::cmd("XREADGROUP");
    read.arg("GROUP").arg("workers").arg("stranger").arg("STREAMS").arg("sf:{0}:queue:w:1").arg(">");
    let read: redis::streams::StreamReadReply = read.query_async(&mut redis).await.unwrap();
    assert_eq!(read.keys[0].ids.len(), 1);
    assert_eq!(stage.audit().await, ["r: step execution 1 is queued but missing from its queue"]);
    stage.end().await;
}

#[tokio::test]
async fn the_timers_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.retry(&step, Duration::from_millis(1)).await;
    stage.delete("timers").await;
    stage.fire().await;
    assert_eq!(stage.audit().await, ["r: step execution 1 waits for a timer that is not set"]);
    // It keeps its due time, which has passed by now.
    stage.fire().await;
    stage.end().await;
    stage.delete("timers").await;
    assert_eq!(stage.audit().await, ["r: it has ended and would never expire"]);
}

#[tokio::test]
async fn the_timer_of_a_timeout_is_deleted() {
    let stage = Stage::new().await;
    let timeout = Some(Duration::from_millis(1));
    stage.store().start(&Start { timeout, ..start("t") }).await.unwrap();
    stage.delete("timers").await;
    assert_eq!(stage.audit().await, ["t: its timeout is not set"]);
    stage.fire().await;
    let run = stage.store().run("t").await.unwrap().unwrap();
    let error = "the run did not end within its timeout of 1ms; active steps: first (1 queued)";
    assert_eq!(run.error.as_deref(), Some(error));
}

#[tokio::test]
async fn the_holds_of_a_live_worker_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.delete("held:a").await;
    assert_eq!(stage.audit().await, ["r: step execution 1 is not among the holds of its worker a"]);
    assert_eq!(stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await, CommitStatus::Committed);
    stage.end().await;
}

#[tokio::test]
async fn the_leases_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.delete("leases").await;
    let told = stage.audit().await;
    assert!(told.contains(&"r: step execution 1 is held by worker a, which is gone".into()), "{told:?}");
    assert!(told.contains(&"a: the worker has no lease, and its holds were left behind".into()), "{told:?}");
    assert_eq!(stage.complete(&step, Commit::default()).await, CommitStatus::Fenced);
    join_fleet(stage.store(), "a", HOUR).await;
    stage.end().await;
}
