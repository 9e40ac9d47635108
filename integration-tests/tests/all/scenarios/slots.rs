//! What a free slot gets, and when an idle worker is woken.

use stepfleet_integration_tests::double::{call, claim, emit, introduction, join_fleet, refill, start, stop};
use stepfleet_integration_tests::scene::on_both;
use stepfleet_shared::step::{CommitStatus, Next, Refill};
use stepfleet_shared::store::{Introduction, Registration, Start};

use super::*;

#[tokio::test]
async fn a_successor_goes_to_the_slot_that_was_freed_ahead_of_what_waits() {
    on_both(async |scene| {
        let store = scene.store();
        let mut step = held(scene).await;
        store.start(&start("waiting")).await.unwrap();
        let following = Refill { next: Next::Following, after: None };
        // The short way of a commit, and the long one, which two events need.
        for (number, emitted) in [(2, &["second"][..]), (3, &["third", "beside"][..])] {
            let commit = emit(emitted);
            let (_, handed) = store.complete(&call("a", number, false), &step, &commit, &following).await.unwrap();
            let (handed_on, slot) = (handed[0].clone(), step.fence.slot);
            assert_eq!((&*handed_on.fence.run, &*handed_on.step, handed_on.fence.slot), ("r", emitted[0], slot));
            // Repeated, it is the same.
            let again = store.complete(&call("a", number, true), &step, &commit, &following).await.unwrap();
            assert_eq!(again.0, CommitStatus::Committed);
            assert_eq!(again.1.iter().map(|step| &step.fence).collect::<Vec<_>>(), [&handed_on.fence]);
            step = handed_on;
        }
        // A slot that lets others go first takes the one that has waited longest.
        let (_, other) = store.complete(&call("a", 4, false), &step, &emit(&["fourth"]), &refill(1)).await.unwrap();
        assert_eq!((&*other[0].fence.run, &*other[0].step), ("waiting", "first"));
        let rest: Vec<String> = claim(store, "a", 5, 9).await.into_iter().map(|step| step.step).collect();
        assert_eq!(rest, ["beside", "fourth"]);
    })
    .await;
}

#[tokio::test]
async fn a_slot_that_has_something_else_by_now_takes_nothing_more() {
    on_both(async |scene| {
        let store = scene.store();
        let first = held(scene).await;
        for run in ["s", "t"] {
            store.start(&start(run)).await.unwrap();
        }
        let (_, next) = store.complete(&call("a", 2, false), &first, &emit(&["second"]), &refill(1)).await.unwrap();
        assert_eq!(next[0].fence.run, "s");
        // A commit of the first step with another call is fenced, and its slot keeps what it has now.
        let (outcome, more) = store.complete(&call("a", 3, false), &first, &stop(), &refill(1)).await.unwrap();
        assert_eq!((outcome, more.len()), (CommitStatus::Fenced, 0));
        assert_eq!(store.holds("a").await.unwrap(), [next[0].fence.clone()]);
        let (outcome, _) = store.complete(&call("a", 4, false), &next[0], &stop(), &refill(0)).await.unwrap();
        assert_eq!(outcome, CommitStatus::Committed);
    })
    .await;
}

#[tokio::test]
async fn an_idle_worker_is_woken_by_what_arrives() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        assert!(claim(store, "a", 1, 1).await.is_empty());
        let mut reader = store.wake_reader("a").await.unwrap();
        let waiting = tokio::spawn(async move { reader.next().await.unwrap() });
        tokio::task::yield_now().await;
        store.start(&start("r")).await.unwrap();
        // Far shorter than a blocking read.
        let soon = Duration::from_millis(1500);
        assert!(tokio::time::timeout(soon, waiting).await.expect("it was not woken").unwrap());
        assert_eq!(claim(store, "a", 2, 1).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn the_highest_version_there_can_be() {
    on_both(async |scene| {
        let store = scene.store();
        let serves = vec![Registration { workflow: "w".into(), version: u32::MAX, ..Registration::default() }];
        let newest = Introduction { serves, ..introduction("a") };
        store.register(&newest, LEASE).await.unwrap();
        store.start(&Start { version: u32::MAX, ..start("r") }).await.unwrap();
        let step = claim(store, "a", 1, 1).await.remove(0);
        assert_eq!(step.version, u32::MAX);
    })
    .await;
}
