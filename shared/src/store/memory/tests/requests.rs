//! Starting, holding and rejecting requests; keys; delays; retention.

use super::*;
use crate::run::Status;
use crate::store::prelude::*;
use crate::store::{Deferral, Rejection, Started};

#[tokio::test]
async fn a_run_is_forgotten_when_its_retention_is_over_and_not_before() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    for (id, retention) in [("short", Duration::ZERO), ("long", LEASE)] {
        store.start(&start(id)).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        let mut commit = Commit { retention, ..stop() };
        commit.set.push(("field".into(), vec![1, 1]));
        complete(store, 2, &step, &commit, 0).await;
    }
    let ticked = store.tick(&tick()).await.unwrap();
    assert_eq!((ticked.fired, ticked.next_due), (1, Some(LEASE)));
    assert!(store.run("short").await.unwrap().is_none());
    assert!(store.history("short", 0, 10).await.unwrap().is_empty());
    assert_eq!(store.run("long").await.unwrap().unwrap().status, Status::Completed);
    assert_eq!(store.runs(0, 10).await.unwrap().len(), 1);
    store.advance(LEASE);
    assert_eq!(store.tick(&tick()).await.unwrap().fired, 1);
    assert!(store.runs(0, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_key_that_outlives_its_run_starts_another() {
    let store = &store();
    join_fleet(store, "a", LEASE).await;
    let mut first = start("first");
    first.request.key = Some("k".into());
    let mut second = first.clone();
    second.run = "second".into();
    assert_eq!(store.start(&first).await.unwrap(), Started::New("first".into()));
    assert_eq!(store.start(&second).await.unwrap(), Started::Known("first".into()));
    assert_eq!(store.run("second").await.unwrap().unwrap().id, "first");
    assert_eq!(store.defer(&second).await.unwrap(), Deferral::Known, "a repeat is held as if it were new");
    let step = claim(store, "a", 1, 1).await.remove(0);
    complete(store, 2, &step, &Commit { retention: Duration::ZERO, ..stop() }, 0).await;
    store.tick(&tick()).await.unwrap();
    assert!(store.run("second").await.unwrap().is_none());
    // A rejected request that took the id meanwhile is not the run of the key.
    store.reject(&Rejection { run: Some("first".into()), ..Rejection::default() }).await.unwrap();
    assert_eq!(store.start(&second).await.unwrap(), Started::New("second".into()));
}

#[tokio::test]
async fn a_key_is_known_for_its_time_and_in_its_workflow() {
    let store = &store();
    let keyed = |id: &str, workflow: &str| {
        let mut start = start(id);
        start.request.key = Some("k".into());
        start.request.workflow = workflow.into();
        start
    };
    assert_eq!(store.start(&keyed("first", "w")).await.unwrap(), Started::New("first".into()));
    assert_eq!(store.start(&keyed("elsewhere", "v")).await.unwrap(), Started::New("elsewhere".into()));
    store.advance(LEASE);
    assert_eq!(store.start(&keyed("second", "w")).await.unwrap(), Started::Known("first".into()));
    store.advance(MS);
    assert_eq!(store.start(&keyed("third", "w")).await.unwrap(), Started::New("third".into()));
    assert_eq!(store.run("second").await.unwrap().unwrap().id, "first");
    store.advance(LEASE);
    assert!(store.run("second").await.unwrap().is_none());
}

#[tokio::test]
async fn a_rejection_does_not_take_the_id_of_a_request_that_waits() {
    let store = &store();
    assert_eq!(store.defer(&start("r")).await.unwrap(), Deferral::Kept);
    let bad = Rejection { run: Some("r".into()), reason: "bad".into(), ..Rejection::default() };
    store.reject(&bad).await.unwrap();
    assert!(store.run("r").await.unwrap().is_none());
    let late = Rejection { deferred: Some("r".into()), ..bad };
    for _ in 0..2 {
        store.reject(&late).await.unwrap();
    }
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Rejected);
    assert_eq!(store.rejected().len(), 2, "one for each request");
    assert_eq!(store.rejected()[0][0], (b"reason".to_vec(), b"bad".to_vec()));
    assert_sound(store);
    assert_eq!(store.start(&start("r")).await.unwrap(), Started::New("r".into()), "its id is free");
    store.advance(Duration::from_secs(24 * 3600));
    store.tick(&tick()).await.unwrap();
    assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Queued, "expired with the rejected one");
}

#[tokio::test]
async fn too_many_requests_that_wait_are_not_kept() {
    let store = &store();
    for n in 0..10_000 {
        assert_eq!(store.defer(&start(&n.to_string())).await.unwrap(), Deferral::Kept);
    }
    assert_eq!(store.defer(&start("more")).await.unwrap(), Deferral::Full);
    assert_eq!(store.defer(&start("7")).await.unwrap(), Deferral::Kept, "it waits already");
    store.start(&start("7")).await.unwrap();
    assert_eq!(store.defer(&start("more")).await.unwrap(), Deferral::Kept);
    assert_eq!(store.deferred().await.unwrap().len(), 10_000);
}

#[tokio::test]
async fn a_delayed_start_waits_for_its_timers() {
    let store = &store();
    join_fleet(store, "a", Duration::MAX).await;
    let mut delayed = start("r");
    delayed.routes = vec![route("first"), route("other")];
    delayed.request.delay_ms = 5000;
    store.start(&delayed).await.unwrap();
    assert_sound(store);
    assert!(claim(store, "a", 1, 9).await.is_empty());
    store.advance(Duration::from_millis(4999));
    let ticked = store.tick(&tick()).await.unwrap();
    assert_eq!((ticked.fired, ticked.next_due), (0, Some(MS)));
    store.advance(MS);
    assert_eq!(store.tick(&tick()).await.unwrap().fired, 2);
    let run = store.run("r").await.unwrap().unwrap();
    assert_eq!((run.status, run.started_ms), (Status::Queued, None));
    let steps = claim(store, "a", 2, 9).await;
    assert_eq!(steps.iter().map(|step| step.step.as_str()).collect::<Vec<_>>(), ["first", "other"]);
    assert_eq!(steps[0].payload, b"\x02{}");
    let run = store.run("r").await.unwrap().unwrap();
    assert_eq!((run.status, run.started_ms), (Status::Running, Some(1_005_000)));
}
