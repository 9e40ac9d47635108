//! Starting, holding and rejecting requests; idempotency keys.

use stepfleet_integration_tests::double::{claim, join_fleet, requested, start, stop};
use stepfleet_integration_tests::scene::{BEGINNING_MS, on_both};
use stepfleet_shared::request::{self, Request, StartRequest};
use stepfleet_shared::run::Status;
use stepfleet_shared::store::{Deferral, Rejection, Reservation, Start, Started};

use super::*;

#[tokio::test]
async fn a_key_that_outlives_its_run_starts_another() {
    on_both(async |scene| {
        let store = scene.store();
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
        store.fire(&fire()).await.unwrap();
        assert!(store.run("second").await.unwrap().is_none());
        // A rejected request that used the id meanwhile is not the run of the key.
        store.reject(&Rejection { run: Some("first".into()), ..Rejection::default() }).await.unwrap();
        assert_eq!(store.start(&second).await.unwrap(), Started::New("second".into()));
    })
    .await;
}

#[tokio::test]
async fn a_key_is_known_for_its_time_and_in_its_workflow() {
    on_both(async |scene| {
        let store = scene.store();
        let keyed = |id: &str, workflow: &str| {
            let mut start = Start { key_ttl: LEASE, ..start(id) };
            start.request.key = Some("k".into());
            start.request.workflow = workflow.into();
            start
        };
        assert_eq!(store.start(&keyed("first", "w")).await.unwrap(), Started::New("first".into()));
        assert_eq!(store.start(&keyed("elsewhere", "v")).await.unwrap(), Started::New("elsewhere".into()));
        scene.pass_almost(LEASE + MS).await;
        assert_eq!(store.start(&keyed("second", "w")).await.unwrap(), Started::Known("first".into()));
        scene.pass(scene.moment()).await;
        assert_eq!(store.start(&keyed("third", "w")).await.unwrap(), Started::New("third".into()));
        assert_eq!(store.run("second").await.unwrap().unwrap().id, "first");
        scene.pass(LEASE).await;
        assert!(store.run("second").await.unwrap().is_none());
    })
    .await;
}

/// Starts at the same time travel to Redis in one call.
#[tokio::test]
async fn starts_at_the_same_time_of_which_one_is_known() {
    on_both(async |scene| {
        let store = scene.store();
        join_fleet(store, "a", LEASE).await;
        let [first, second, third] =
            &[requested(store, "first").await, requested(store, "second").await, requested(store, "third").await];
        let mut again = requested(store, "second").await;
        again.request.input = b"7".to_vec();
        let answers = tokio::join!(store.start(first), store.start(second), store.start(&again), store.start(third));
        let new = |run: &str| Started::New(run.into());
        assert_eq!(answers.0.unwrap(), new("first"));
        assert_eq!(answers.1.unwrap(), new("second"));
        assert_eq!(answers.2.unwrap(), Started::Known("second".into()));
        assert_eq!(answers.3.unwrap(), new("third"));
        assert_eq!(store.waiting_requests().await.unwrap(), 0);
        let mut begun: Vec<_> = claim(store, "a", 1, 8).await.into_iter().map(|step| step.fence.run).collect();
        begun.sort();
        assert_eq!(begun, ["first", "second", "third"]);
        assert_eq!(store.run("second").await.unwrap().unwrap().input, b"{}");
    })
    .await;
}

#[tokio::test]
async fn a_rejection_does_not_take_the_id_of_a_request_that_waits() {
    on_both(async |scene| {
        let store = scene.store();
        assert_eq!(store.defer(&start("r")).await.unwrap(), Deferral::Kept);
        let bad = Rejection { run: Some("r".into()), reason: "bad".into(), ..Rejection::default() };
        store.reject(&bad).await.unwrap();
        assert!(store.run("r").await.unwrap().is_none());
        let late = Rejection { deferred: Some("r".into()), ..bad };
        for _ in 0..2 {
            store.reject(&late).await.unwrap();
        }
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Rejected);
        let rejected = scene.rejected().await;
        assert_eq!(rejected.len(), 2, "one for each request");
        assert_eq!(rejected[0][0], (b"reason".to_vec(), b"bad".to_vec()));
        scene.assert_sound().await;
        assert_eq!(store.start(&start("r")).await.unwrap(), Started::New("r".into()), "its id is free");
        scene.pass(24 * HOUR).await;
        store.fire(&fire()).await.unwrap();
        assert_eq!(store.run("r").await.unwrap().unwrap().status, Status::Queued, "expired with the rejected one");
    })
    .await;
}

#[tokio::test]
async fn too_many_requests_that_wait_are_not_kept() {
    on_both(async |scene| {
        let store = scene.store();
        for n in 0..10_000 {
            assert_eq!(store.defer(&start(&n.to_string())).await.unwrap(), Deferral::Kept);
        }
        assert_eq!(store.defer(&start("more")).await.unwrap(), Deferral::Full);
        assert_eq!(store.defer(&start("7")).await.unwrap(), Deferral::Kept, "it waits already");
        store.start(&start("7")).await.unwrap();
        assert_eq!(store.defer(&start("more")).await.unwrap(), Deferral::Kept);
        assert_eq!(store.deferred().await.unwrap().len(), 10_000);
    })
    .await;
}

#[tokio::test]
async fn requests_are_given_to_one_coordinator_and_taken_over_by_another() {
    on_both(async |scene| {
        let store = scene.store();
        let request = StartRequest::new("w", "{}");
        let entry = store.submit(&request).await.unwrap();
        assert!(scene.redis().is_some() || entry == format!("{BEGINNING_MS}-0"), "{entry}");
        let named = StartRequest { id: Some("r".into()), ..request };
        assert_eq!(store.submit(&named).await.unwrap(), "r");
        let mut reader = store.inbox_reader("c1").await.unwrap();
        let entries = reader.next().await.unwrap();
        assert_eq!((entries.len(), &entries[0].id), (2, &entry));
        assert!(scene.redis().is_some() || entries[1].id == format!("{BEGINNING_MS}-1"), "{entries:?}");
        let parsed = request::parse(&entries[1].fields).unwrap();
        assert_eq!(parsed, Request::Start(named));
        assert!(store.reclaim_inbox("c2", LEASE).await.unwrap().is_empty());
        scene.pass_almost(LEASE).await;
        assert!(store.reclaim_inbox("c2", LEASE).await.unwrap().is_empty());
        scene.pass(scene.moment()).await;
        assert_eq!(store.reclaim_inbox("c2", LEASE).await.unwrap().len(), 2);
        assert!(store.reclaim_inbox("c1", LEASE).await.unwrap().is_empty(), "they are c2's now");
        let run = entry.clone();
        store.start(&Start { entry: Some(entry), ..start(&run) }).await.unwrap();
        assert_eq!(store.reclaim_inbox("c1", Duration::ZERO).await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_key_is_let_go_under_its_own_ticket_only() {
    on_both(async |scene| {
        let store = scene.store();
        let held = |ticket: &str| Reservation {
            workflow: "w".into(),
            key: "k".into(),
            run: "r".into(),
            ticket: ticket.into(),
            place: None,
        };
        store.reserve(&held("first"), HOUR).await.unwrap();
        store.let_go(&held("second")).await.unwrap();
        assert_eq!(store.reserved("w", "k").await.unwrap(), Some(held("first")));
        store.let_go(&held("first")).await.unwrap();
        assert_eq!(store.reserved("w", "k").await.unwrap(), None);
    })
    .await;
}
