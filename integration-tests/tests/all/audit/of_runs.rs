//! The keys of a run are deleted: its state, its steps, input, context, history and fan-outs.

use stepfleet_integration_tests::double::route;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Commit, CommitStatus, Fan, Join};

use super::{HOUR, Stage, emits};

#[tokio::test]
async fn a_run_with_nothing_amiss_has_no_breach() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "queued");
    let step = stage.claim(1).await.remove(0);
    assert_eq!(stage.audit().await, [] as [&str; 0], "held");
    stage.retry(&step, HOUR).await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "waiting");
}

#[tokio::test]
async fn the_steps_are_deleted() {
    let stage = Stage::new().await;
    stage.delete("steps:r").await;
    assert_eq!(stage.audit().await, ["r: its step executions are gone"]);
    let run = stage.run().await;
    assert_eq!(run.status, Status::Failed);
    assert_eq!(run.error.unwrap(), "the run cannot go on: its step executions are gone; start it again");
}

#[tokio::test]
async fn the_input_is_deleted_before_it_was_given_to_a_step() {
    let stage = Stage::new().await;
    stage.delete("input:r").await;
    assert_eq!(stage.audit().await, ["r: its input is gone"]);
    let run = stage.run().await;
    assert_eq!(run.status, Status::Failed);
    assert_eq!(run.error.unwrap(), "the run cannot go on: its input is gone; start it again");
}

#[tokio::test]
async fn the_input_is_deleted_after_that() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await;
    stage.delete("input:r").await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "nobody needs it any more");
    stage.end().await;
}

#[tokio::test]
async fn the_run_and_its_input_are_deleted() {
    let stage = Stage::new().await;
    stage.delete("run:r").await;
    stage.delete("input:r").await;
    let told = stage.slices(true).await;
    assert!(told.iter().any(|breach| breach.what == "its hash with its status is gone"), "{told:?}");
    assert_eq!(stage.run().await.error.unwrap(), "the run cannot go on: its input is gone; start it again");
    assert_eq!(stage.audit().await, [] as [&str; 0]);
}

#[tokio::test]
async fn the_run_is_deleted_before_it_has_begun() {
    let mut stage = Stage::new().await;
    stage.delete("run:r").await;
    assert_eq!(stage.audit().await, ["r: its hash with its status is gone"]);
    let run = stage.run().await;
    assert_eq!((run.workflow.as_str(), run.version, &*run.input), ("w", 1, &b"{}"[..]));
    stage.end().await;
}

#[tokio::test]
async fn the_run_is_deleted_after_that() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await;
    stage.delete("run:r").await;
    assert_eq!(stage.audit().await, ["r: its hash with its status is gone"]);
    let run = stage.run().await;
    assert_eq!((run.status, run.workflow.as_str(), run.version), (Status::Running, "w", 1));
    stage.end().await;
}

#[tokio::test]
async fn the_context_is_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let commit = Commit { set: vec![("x".into(), vec![1, 7])], emits: emits(1), ..Commit::default() };
    stage.complete(&step, commit).await;
    stage.delete("context:r").await;
    assert_eq!(stage.audit().await, ["r: its context is gone"]);
    assert_eq!(stage.run().await.status, Status::Failed);
    assert!(stage.claim(1).await.is_empty());
}

#[tokio::test]
async fn a_context_that_its_steps_emptied_is_no_breach() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { set: vec![("x".into(), vec![1, 7])], emits: emits(1), ..Commit::default() }).await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { unset: vec!["x".into()], emits: emits(1), ..Commit::default() }).await;
    assert_eq!(stage.audit().await, [] as [&str; 0]);
    stage.end().await;
}

#[tokio::test]
async fn the_history_and_the_list_of_runs_are_deleted() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.audit().await, [] as [&str; 0], "the first record comes with the second");
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await;
    stage.delete("history:r").await;
    stage.delete("runs").await;
    assert_eq!(stage.audit().await, ["r: it is not in the list of runs", "r: its history is gone"]);
    assert_eq!(stage.store().runs(0, 10).await.unwrap().len(), 1);
    stage.end().await;
}

#[tokio::test]
async fn joined_events_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 0 });
    stage.complete(&step, Commit { emits: emits(2), fan, ..Commit::default() }).await;
    let branch = stage.claim(1).await.remove(0);
    stage.complete(&branch, Commit { joins: vec![("join".into(), vec![1, 7])], ..Commit::default() }).await;
    assert_eq!(stage.audit().await, [] as [&str; 0]);
    stage.delete("joined:r:1:join").await;
    assert_eq!(stage.audit().await, ["r: events that waited to be joined are gone"]);
    assert_eq!(stage.run().await.status, Status::Failed);
}

#[tokio::test]
async fn the_set_of_extra_keys_of_a_run_is_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 0 });
    stage.complete(&step, Commit { emits: emits(2), fan, ..Commit::default() }).await;
    let branch = stage.claim(1).await.remove(0);
    stage.complete(&branch, Commit { joins: vec![("join".into(), vec![1, 7])], ..Commit::default() }).await;
    stage.delete("extra:r").await;
    assert_eq!(stage.audit().await, ["r: its joined would be left behind"]);
    stage.end().await;
    let mut redis = stage.fleet.redis.connection().await;
    let left: bool = redis::cmd("EXISTS").arg("sf:{0}:joined:r:1:join").query_async(&mut redis).await.unwrap();
    assert!(!left);
}

#[tokio::test]
async fn branches_of_a_large_fan_out_and_their_place_in_the_queue_are_deleted() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    for offset in [0, 100] {
        stage.store().stage("a", &step.fence, offset, &emits(100)).await.unwrap();
    }
    assert_eq!(stage.audit().await, [] as [&str; 0], "staged, not committed");
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 200 });
    stage.complete(&step, Commit { fan, ..Commit::default() }).await;
    stage.delete("queue:w:1").await;
    assert_eq!(stage.audit().await, ["r: the next branches of fan-out 1 are not in their queue"]);
    stage.delete("ready").await;
    assert_eq!(stage.audit().await, ["r: queue:w:1 has entries and is not listed as having any"]);
    assert!(!stage.claim(3).await.is_empty());
    stage.delete("fan:r:1").await;
    assert_eq!(stage.audit().await, ["r: branches of a fan-out that were not begun are gone"]);
    assert_eq!(stage.run().await.status, Status::Failed);
}

#[tokio::test]
async fn staged_branches_that_vanish_before_their_commit_are_asked_for_again() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.store().stage("a", &step.fence, 0, &emits(100)).await.unwrap();
    stage.delete("fan:r:1").await;
    let fan = Some(Fan { joins: vec![Join::all(route("join"))], staged: 100 });
    let commit = Commit { fan, ..Commit::default() };
    assert_eq!(stage.complete(&step, commit.clone()).await, CommitStatus::Unstaged);
    stage.store().stage("a", &step.fence, 0, &emits(100)).await.unwrap();
    assert_eq!(stage.complete(&step, commit).await, CommitStatus::Committed);
}

#[tokio::test]
async fn keys_of_a_run_that_no_longer_exists_are_removed() {
    let mut stage = Stage::new().await;
    let step = stage.claim(1).await.remove(0);
    stage.complete(&step, Commit { emits: emits(1), ..Commit::default() }).await;
    stage.delete("run:r").await;
    stage.delete("steps:r").await;
    assert_eq!(stage.audit().await, ["r: its history was left behind", "r: its input was left behind"]);
    let mut redis = stage.fleet.redis.connection().await;
    let mut add = redis::cmd("XADD");
    let _: String = add.arg("sf:{0}:events:r").arg(&["*", "kind", "event"]).query_async(&mut redis).await.unwrap();
    assert_eq!(stage.audit().await, ["r: its events was left behind"]);
    let left: u64 = redis::cmd("EXISTS").arg("sf:{0}:events:r").query_async(&mut redis).await.unwrap();
    assert_eq!(left, 0);
}
