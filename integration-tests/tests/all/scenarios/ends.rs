//! Runs that end, and those that are cancelled.

use stepfleet_integration_tests::double::{claim, fan, join_fleet, joins, refill, route, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_integration_tests::until;
use stepfleet_shared::history::Kind;
use stepfleet_shared::run::Status;
use stepfleet_shared::step::{Cancelled, Collect, CommitStatus, Part};

use super::*;

#[tokio::test]
async fn a_run_is_forgotten_when_its_retention_is_over_and_not_before() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", HOUR).await;
        // The keys that a partition has anyway, however many runs there were.
        double::catch_up(store, &[]).await;
        let before = keys(scene).await;
        for (id, retention) in [("short", Duration::ZERO), ("long", LEASE)] {
            store.start(&start(id)).await.unwrap();
            let step = claim(store, "a", 1, 1).await.remove(0);
            let mut commit = Commit { retention, ..stop() };
            commit.set.push(("field".into(), vec![1, 1]));
            complete(store, 2, &step, &commit, 0).await;
        }
        let fired = store.fire(&fire()).await.unwrap();
        assert_eq!(fired.fired, 1);
        scene.assert_time(fired.next_due, LEASE);
        assert!(store.run("short").await.unwrap().is_none());
        assert!(store.history("short", 0, 10).await.unwrap().is_empty());
        assert_eq!(store.run("long").await.unwrap().unwrap().status, Status::Completed);
        assert_eq!(store.runs(0, 10).await.unwrap().len(), 1);
        // The run that is kept: its hash, its input, its context, its history; the index of runs and the timers; the mark that the
        // queue has had entries, and the slots of the worker.
        assert_eq!(keys(scene).await, before.map(|before| before + 8));
        scene.pass(LEASE).await;
        assert_eq!(store.fire(&fire()).await.unwrap().fired, 1);
        assert!(store.runs(0, 10).await.unwrap().is_empty());
    })
    .await;
}

/// How many keys a Redis has.
async fn keys(scene: &Scene) -> Option<u64> {
    let mut redis = scene.redis()?.connection().await;
    Some(redis::cmd("DBSIZE").query_async(&mut redis).await.unwrap())
}

/// Waits until somebody listens for the end of a run: a later listener would not hear it once the run is forgotten.
async fn listens(scene: &Scene, run: &str) {
    tokio::task::yield_now().await;
    let Some(redis) = scene.redis() else { return };
    let mut redis = redis.connection().await;
    let mut count = redis::cmd("PUBSUB");
    count.arg("NUMSUB").arg(format!("sf:{{0}}:ended:{run}"));
    until(async || count.query_async::<(String, u64)>(&mut redis).await.unwrap().1 > 0).await;
}

#[tokio::test]
async fn whoever_waits_for_the_end_of_a_run_is_told() {
    on_both(async |scene| {
        let store = scene.store();
        let step = held(scene).await;
        let other = scene.shared();
        let waiting = tokio::spawn(async move { other.wait_ended("r", LEASE).await.unwrap() });
        listens(scene, "r").await;
        assert!(!waiting.is_finished());
        // Forgotten at once: it is gone when the waiter looks.
        complete(store, 2, &step, &Commit { retention: Duration::ZERO, ..stop() }, 0).await;
        store.fire(&fire()).await.unwrap();
        let soon = Duration::from_millis(1500);
        tokio::time::timeout(soon, waiting).await.expect("it was not told").unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_run_stops_at_once() {
    on_both(async |scene| {
        let store = scene.store();
        assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Unknown);
        let step = held(scene).await;
        assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Stopped);
        assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Over);
        scene.assert_sound().await;
        let (outcome, _) = store.complete(&call("a", 2, false), &step, &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Fenced);
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Cancelled);
        scene.pass(HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert!(store.run("r").await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn a_request_that_waits_to_be_served_can_be_cancelled() {
    on_both(async |scene| {
        let store = scene.store();
        store.defer(&start("r")).await.unwrap();
        assert_eq!(store.cancel("r", None, HOUR).await.unwrap(), Cancelled::Stopped);
        assert!(store.deferred().await.unwrap().is_empty());
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Cancelled);
    })
    .await;
}

#[tokio::test]
async fn events_that_no_step_was_given_are_told_when_the_run_has_completed() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        let branches = complete(store, 2, &first, &fan(&["branch"; 2], &["join"], 0), 2).await;
        let (step, buffer) = ("branch".to_owned(), "votes".to_owned());
        let collect = Collect { number: 1, step, group: 1, buffer, count: 3, payload: vec![1, 7], upon: None };
        store.collect("a", &branches[0].fence, &collect).await.unwrap().unwrap();
        let part = Part { route: route("both"), slot: 2, slots: 2, payload: vec![1, 8] };
        let commit = Commit { parts: vec![part.clone(), part], journalled: true, ..joins("join", 9) };
        complete(store, 3, &branches[0], &commit, 0).await;
        complete(store, 4, &branches[1], &stop(), 0).await;
        let history = store.history("r", 0, 20).await.unwrap();
        let left = history.iter().skip_while(|record| record.kind != Kind::Completed).skip(1);
        let left: Vec<_> = left.map(|record| (record.kind, &*record.step, &*record.detail)).collect();
        assert_eq!(
            left,
            [
                (Kind::Left, "both", "2 set 1 2"),
                (Kind::Left, "branch", "1 buffer 1 votes"),
                (Kind::Left, "join", "1 join 1")
            ]
        );
    })
    .await;
}
